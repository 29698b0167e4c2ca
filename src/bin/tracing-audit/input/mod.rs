//! The options that several commands share, turned into databases, queries and ranges of time.
//!
//! | file | what it does |
//! |---|---|
//! | `database.rs` | opens the databases of `--db`, and selects their ledgers |
//! | `copies.rs` | refuses copies of one log that are given as several databases |
//! | `recorded.rs` | the name of `--as`, under which reads are recorded |
//! | `exported.rs` | opens an exported file in place of a database |
//! | `files.rs` | finds the files that a name of a database stands for, and refuses a database that is given under two names |
//! | `conditions.rs` | makes a query of the options that select entries |
//! | `criteria.rs` | reads the language of `--where`, and the values of options, in which `*` stands for any text |
//! | `fields.rs` | reads the names of fields, and says which one may be meant by a name that is none |
//! | `place.rs` | an entry by which a log is recognised again |
//! | `cursor.rs` | the place in a query's answer at which the next one begins |
//! | `csv_options.rs` | makes the layout of a CSV file of its options |
//! | `small.rs` | reads checkpoints, states, plans and manifests: small files, and nothing that is none |
//! | `period.rs` | makes a range of time of `--on`, `--month`, `--since` and `--before`, in the zone of `--tz` |
//! | `words.rs` | times in words: `7d ago`, `yesterday 17:30`, `last week` |

mod conditions;
mod copies;
mod criteria;
mod csv_options;
mod cursor;
mod database;
mod exported;
mod fields;
mod files;
mod period;
mod place;
mod recorded;
mod small;
mod words;

pub(crate) use conditions::{Conditions, one_of};
pub(crate) use csv_options::CsvOptions;
pub(crate) use cursor::Cursor;
pub(crate) use database::{Database, Log, Source, end_log, sources};
pub(crate) use exported::{decompressed, source_of};
pub(crate) use fields::{columns, counted_by, indexed, listed, was_indexed};
pub(crate) use files::{queues, without_secrets};
pub(crate) use period::{Period, Range};
pub(crate) use place::{Place, entry_at};
pub(crate) use small::{open_or_pipe, read_end, read_small, read_small_or_pipe, refuse_no_file, text_of};
