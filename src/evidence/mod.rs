//! Evidence: verifies a ledger against what was kept outside of it, and makes what is to be kept.
//!
//! [`AuditReader::verify`](crate::AuditReader::verify) reads a whole ledger and says what in it is not as it was.
//! [`AuditReader::checkpoint`](crate::AuditReader::checkpoint) gives the size and the root that are kept outside.
//! [`AuditReader::prove`](crate::AuditReader::prove) and [`AuditReader::bundle`](crate::AuditReader::bundle) prove
//! entries to a person who has such a checkpoint and no database. The module [`integrity`](crate::guide::integrity) of
//! the guide says what that proves.
//!
//! | file | what it does |
//! |---|---|
//! | `finding` | `Finding`: one thing that is not as it was, or that is worth knowing |
//! | `anchor` | `Anchor`: a size and a root from outside |
//! | `state` | `VerifyState`: how far earlier runs have come |
//! | `signed` | `Verification::and_signed`, `and_unsigned`: holds a signed checkpoint against the keys that are trusted; with the feature `signing` |
//! | `key_file` | makes and reads the files of private keys; with the feature `signing` |
//! | `verification` | `Verification`: against what a ledger is verified, and how |
//! | `verified` | `Verified`: what was verified, and what was found |
//! | `layout` | which entries belong to which batch, and where their leaf hashes are |
//! | `hasher` | computes the leaves of rows again, and compares them with the stored ones |
//! | `chunk` | reads a range of entries with all that proves it |
//! | `judge` | says what is wrong in a range, from the hash above it down |
//! | `search` | finds the combination of hashes that leads to a given one |
//! | `course` | the ranges in their order: leads them to the roots of anchors |
//! | `moved` | finds entries that stand at the place of others |
//! | `writers` | finds gaps among the numbers of each writer |
//! | `ends` | judges the head and the end of the ledger |
//! | `consistency` | proofs that a tree continues an earlier one |
//! | `plan` | reads the ranges one by one, and single hashes of the tree |
//! | `run` | goes through a ledger, range by range |
//! | `kept` | keeps the state of earlier runs, until the ledger is proven to continue it |
//! | `conclude` | leads the ranges to the anchors and to the head, and says what was found |
//! | `tables` | looks at the tables before anything is read of them |
//! | `verify` | `AuditReader::verify` |
//! | `sink` | `CheckpointSink`: where checkpoints go; closures, the application's own log |
//! | `checkpoint_file` | checkpoints in a file, to which only is appended |
//! | `own_signature` | whether a notary itself has signed a checkpoint that is kept under its name |
//! | `witness` | `Witness`: a program elsewhere that cosigns what continues all that it has seen; with the feature `signing` |
//! | `witnesses` | asks all witnesses of a notary, each with the proof that it needs; with the feature `signing` |
//! | `tile_directory` | `TileDirectory`: the checkpoint and the tiles of a ledger, for everybody to read |
//! | `publication` | publishes the tree as tiles, which were led to the checkpoint before |
//! | `notary` | `Notary`: makes checkpoints, signs them, gives them to sinks, has them cosigned, and publishes the tree |
//! | `notary_thread` | `RunningNotary`: a notary on a thread of its own |
//! | `status` | checkpoints, and the state of a ledger's tree |
//! | `tiles` | reads hashes of the tree, tile by tile, and makes proofs of them |
//! | `opened` | reads entries together with what opens them |
//! | `prove` | `AuditReader::prove`, `consistency` |
//! | `bundle` | `AuditReader::bundle`: many entries with what proves them, as one file |
//! | `parts` | reads the trees of all workspaces, entry by entry |
//! | `seal` | seals over these trees: makes them, finds them, and holds them against the entries |
//! | `part` | `AuditReader::bundle_part`: all entries of one workspace |
//! | `blocking` | the same calls without an async runtime |

mod anchor;
mod blocking;
mod bundle;
mod checkpoint_file;
mod chunk;
mod conclude;
mod consistency;
mod course;
mod ends;
mod finding;
mod hasher;
mod judge;
mod kept;
#[cfg(feature = "signing")]
mod key_file;
mod layout;
mod moved;
mod notary;
mod notary_thread;
mod opened;
mod own_signature;
mod part;
mod parts;
mod plan;
mod prove;
mod publication;
mod run;
mod seal;
mod search;
#[cfg(feature = "signing")]
mod signed;
mod sink;
mod state;
mod status;
mod tables;
mod tile_directory;
mod tiles;
mod verification;
mod verified;
mod verify;
#[cfg(feature = "signing")]
mod witness;
#[cfg(feature = "signing")]
mod witnesses;
mod writers;

pub use anchor::Anchor;
pub use bundle::{Bundled, Bundling};
pub use checkpoint_file::CheckpointFile;
pub use finding::{Finding, FindingKind};
#[cfg(feature = "signing")]
pub use key_file::{create_key, open_key};
pub use notary::{Notary, Published};
pub use notary_thread::RunningNotary;
pub use seal::Sealed;
pub(crate) use seal::Sealing;
pub use sink::{CheckpointLog, CheckpointSink};
pub use state::VerifyState;
pub use status::LedgerStatus;
pub use tile_directory::TileDirectory;
pub use verification::{Verification, VerifyProgress};
pub use verified::Verified;
#[cfg(feature = "signing")]
pub use witness::{Witness, WitnessAnswer, WitnessTransport};
