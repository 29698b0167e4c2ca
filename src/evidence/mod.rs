//! Evidence: verifies a ledger against what was kept outside of it, and makes what is to be kept.
//!
//! [`AuditReader::verify`](crate::AuditReader::verify) reads a whole ledger and says what in it is not as it was.
//! [`AuditReader::checkpoint`](crate::AuditReader::checkpoint) gives the size and the root that are kept outside. The module
//! [`integrity`](crate::guide::integrity) of the guide says what that proves.
//!
//! | file | what it does |
//! |---|---|
//! | `finding` | `Finding`: one thing that is not as it was, or that is worth knowing |
//! | `anchor` | `Anchor`: a size and a root from outside |
//! | `state` | `VerifyState`: how far earlier runs have come |
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
//! | `plan` | reads the ranges one by one, and single hashes of the tree |
//! | `run` | goes through a ledger, range by range |
//! | `kept` | keeps the state of earlier runs, until the ledger is proven to continue it |
//! | `conclude` | leads the ranges to the anchors and to the head, and says what was found |
//! | `tables` | looks at the tables before anything is read of them |
//! | `verify` | `AuditReader::verify` |
//! | `status` | checkpoints, and the state of a ledger's tree |
//! | `blocking` | the same calls without an async runtime |

mod anchor;
mod blocking;
mod chunk;
mod conclude;
mod course;
mod ends;
mod finding;
mod hasher;
mod judge;
mod kept;
mod layout;
mod moved;
mod plan;
mod run;
mod search;
mod state;
mod status;
mod tables;
mod verification;
mod verified;
mod verify;
mod writers;

pub use anchor::Anchor;
pub use finding::{Finding, FindingKind};
pub use state::VerifyState;
pub use status::LedgerStatus;
pub use verification::{Verification, VerifyProgress};
pub use verified::Verified;
