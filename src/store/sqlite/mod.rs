//! SQLite: one file, one ledger, one writing connection per process.
//!
//! | file | what it does |
//! |---|---|
//! | `source.rs` | the database as it was given: options, pools, connections for readers |
//! | `reading.rs` | decides how readers open a database, so that none of them moves a log that does not belong to it |
//! | `opened.rs` | notices that files which readers have open were replaced |
//! | `error.rs` | errors of the database: their cause and their remedy |
//! | `open.rs` | opens the writing connection |
//! | `library.rs` | checks the version of the SQLite library for a defect that can corrupt a database |
//! | `migrate.rs` | creates and migrates the tables |
//! | `append.rs` | commits a batch: position, head, rows, quarantine, one transaction |
//! | `hold.rs` | holds the head of the ledger, and checks it and a writer's position |
//! | `periods.rs` | names and finds the files of periods |
//! | `files.rs` | the files of an open database: what they were when it was opened, and whether they still are |
//! | `places.rs` | judges where a database lies, whose it is, and who else may write to it |
//! | `sealed.rs` | decides how a database is read where this process may not write |
//! | `damage.rs` | looks for damage when a file is opened, at a cost that does not grow with the file |
//! | `belongs.rs` | judges whether a write-ahead log belongs to its database |
//! | `broken_log.rs` | finds damage in a write-ahead log, and keeps a copy of it before it is written over |
//! | `rollback.rs` | judges whether a rollback journal belongs to its database |
//! | `wal.rs` | reads a write-ahead log from outside SQLite |
//! | `look.rs` | looks at the end that the head names, and at the ends according to the writers and the tree |
//! | `kept.rs` | keeps a connection that must not be closed |
//! | `tidy.rs` | moves the write-ahead log into the database: when idle, and at the end |
//! | `room.rs` | commits few rows at a time where there is little room |
//! | `insert.rs` | adds rows at the head of the ledger |
//! | `guard.rs` | compares what is stored with what was sent, where triggers may have changed it |
//! | `quarantine.rs` | reads quarantined entries, and retries them |
//! | `sql.rs` | statements and their parameters; literals and paths as SQL |
//! | `conditions.rs` | a query's conditions as SQL |
//! | `fields.rs` | comparisons of one field, patterns and parts of its text, as SQL |
//! | `plan.rs` | chooses the index before a query is asked |
//! | `read.rs` | pages, ledgers, entries by id |
//! | `counts.rs` | counts entries by what they have in common |
//! | `by_time.rs` | queries and exports in the order of time, window by window |
//! | `evidence.rs` | reads what proves the ledger, whatever its tables hold |
//! | `in_place.rs` | hands over entries where they lie, to the code that computes their leaves |
//! | `rows.rs` | the columns of an entry, and an entry from them |
//! | `remove.rs` | holds a file that nobody has open, and removes it |
//! | `private.rs` | a database of this process alone, for entries that are read from elsewhere |
//! | `recorded_reads.rs` | the record of who read the log |
//! | `indexes.rs` | creates, drops and lists indexes |
//! | `survey.rs` | compares the entries, the batches and the head with each other, piece by piece |
//! | `cover.rs` | reads what the coverage of an answer needs, on one connection |
//! | `unindexed.rs` | compares the indexes that can have served a query with their tables |
//! | `schema.rs` | compares the tables, indexes, triggers and views with those that this crate makes |
//! | `cancel.rs` | ends a statement when the caller drops its future |
//! | `tree.rs` | reads what is stored of the tree over the entries |
//! | `writers.rs` | what the ledger knows of each writer |
//! | `backend.rs` | implements the contracts with the files above; decides nothing |

mod append;
mod backend;
mod belongs;
mod broken_log;
mod by_time;
mod cancel;
mod conditions;
mod counts;
mod cover;
mod damage;
mod error;
mod evidence;
mod fields;
mod files;
mod guard;
mod hold;
mod in_place;
mod indexes;
mod insert;
mod kept;
mod library;
mod look;
mod migrate;
mod open;
mod opened;
mod periods;
mod places;
mod plan;
mod private;
mod quarantine;
mod read;
mod reading;
mod recorded_reads;
mod remove;
mod rollback;
mod room;
mod rows;
mod schema;
mod sealed;
mod source;
mod sql;
mod survey;
mod tidy;
mod tree;
mod unindexed;
mod wal;
mod writers;

pub(crate) use private::{NotAdded, PrivateDatabase};
pub use remove::UnusedFile;
