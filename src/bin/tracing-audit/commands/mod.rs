//! The commands, one file each: its arguments, what it does, and the tables that only it prints.
//!
//! | file | what it does |
//! |---|---|
//! | `query.rs` | shows matching entries |
//! | `get.rs` | shows one entry, field by field |
//! | `tail.rs` | shows or copies entries in the order of their commit, continuing where the last run ended |
//! | `stats.rs` | counts entries, and compares two periods |
//! | `spans.rs` | counts by hours and days of a zone: names, chart, comparison |
//! | `export.rs` | writes entries to a file, with a manifest; resumes an interrupted export |
//! | `archive.rs` | keeps the entries of a SQLite file in an exported file, and removes the database |
//! | `compare.rs` | compares an earlier export with what the database holds now |
//! | `differences.rs` | the differences that `compare` finds |
//! | `manifest.rs` | what an export consists of: its plan and its manifest |
//! | `position.rs` | how far `tail` has come, in which log, with which question |
//! | `check.rs` | checks that nothing is missing, and that the tables are those of this crate |
//! | `covered.rs` | reports what an answer covers, in addition to it |
//! | `nothing.rs` | says which part of a question finds nothing |
//! | `ledgers.rs` | lists the ledgers |
//! | `reads.rs` | shows the record of who read the log |
//! | `index.rs` | lists, adds and drops indexes |
//! | `quarantine.rs` | lists, exports and retries quarantined entries |
//! | `migrate.rs` | creates and updates the tables |
//! | `queue.rs` | lists the journals in a directory |
//! | `verify.rs` | verifies a ledger |
//! | `ledger.rs` | shows the state of a ledger's tree, and accepts a restored backup |
//! | `checkpoint.rs` | prints, signs and publishes checkpoints |
//! | `witness.rs` | asks witnesses over HTTP |
//! | `key.rs` | makes and shows keys that sign checkpoints |
//! | `prove.rs` | proves one entry, or many, to a person who has no database |
//! | `proven.rs` | verifies what was proven, without a database |
//! | `evidence.rs` | makes one page for people, which shows entries and verifies itself |
//! | `seal.rs` | seals a ledger, so that all entries of a workspace can be proven to be all |
//! | `consistency.rs` | proves, and verifies, that a ledger was only appended to |
//! | `kept.rs` | reads checkpoints that were kept elsewhere, signed or not, and trust files |
//! | `shell.rs` | prints completions and the manual pages |
//! | `examples.rs` | examples of each command, for its help and its manual page |
//! | `values.rs` | the values of options that a shell completes |

mod archive;
mod check;
mod checkpoint;
mod compare;
mod consistency;
mod covered;
mod differences;
mod evidence;
mod examples;
mod export;
mod get;
mod index;
mod kept;
mod key;
mod ledger;
mod ledgers;
mod manifest;
mod migrate;
mod nothing;
mod position;
mod prove;
mod proven;
mod quarantine;
mod query;
mod queue;
mod reads;
mod seal;
mod shell;
mod spans;
mod stats;
mod tail;
mod values;
mod verify;
mod witness;

pub(crate) use archive::Archive;
pub(crate) use check::Check;
pub(crate) use checkpoint::Checkpoint;
pub(crate) use compare::Compare;
pub(crate) use consistency::Consistency;
pub(crate) use evidence::Evidence;
pub(crate) use export::Export;
pub(crate) use get::Get;
pub(crate) use index::Action as Index;
pub(crate) use key::KeyAction;
pub(crate) use ledger::LedgerAction;
pub(crate) use ledgers::Ledgers;
pub(crate) use migrate::MigrateTables;
pub(crate) use prove::{Bundle, Prove};
pub(crate) use proven::{VerifyBundle, VerifyProof};
pub(crate) use quarantine::Action as Quarantine;
pub(crate) use query::Query;
pub(crate) use queue::Queue;
pub(crate) use reads::Reads;
pub(crate) use seal::Seal;
pub(crate) use shell::{Completions, Man, complete, with_examples};
pub(crate) use stats::Stats;
pub(crate) use tail::Tail;
pub(crate) use verify::Verify;
