//! The databases that hold entries: a few whole operations, implemented once per database.
//!
//! | file | what it does |
//! |---|---|
//! | `handle.rs` | `Store`: a database, and whether a log may create its tables |
//! | `blocking.rs` | the store's calls for code without an async runtime |
//! | `backend.rs` | the contract of a database: `Backend`, `Reads`, `Indexes`, and the rows they return |
//! | `appender.rs` | the contract of its writing side: `Appender`, `Append`, `Applied`, `Fault` |
//! | `evidence.rs` | the contract of reading what proves a ledger, as it is stored |
//! | `end.rs` | the end of a ledger as the database has it, and as a writer left it |
//! | `migration.rs` | `Migrate`, `Migration`, and the errors of tables that do not exist or are too old |
//! | `period.rs` | `Period`: parts of time that have ledgers of their own, and their names |
//! | `index.rs` | the names of indexes, built in or on request; hints for query planners |
//! | `tree.rs` | what a database holds of the tree over a ledger's entries |
//! | `growth.rs` | `Integrity`; adds leaves to the tree within a transaction |
//! | `keeper.rs` | which tree a writer adds to, and how it catches up |
//! | `survey.rs` | the contract of a survey: `Surveys`, and the rows by which a ledger and its batches are compared |
//! | `walk.rs` | reads newest first without an index on `ts`: windows over commit batches |
//! | `sqlite`, `postgres` | one database each; neither knows the other |

mod appender;
mod backend;
mod blocking;
mod end;
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "only a database has what proves a ledger")
)]
mod evidence;
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "only a database holds a tree")
)]
mod growth;
mod handle;
mod index;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
mod keeper;
mod migration;
mod period;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "_sqlite")]
mod sqlite;
mod survey;
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "only a database holds a tree")
)]
mod tree;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
mod walk;

pub use appender::QuarantineRetried;
pub(crate) use appender::{
    Append, AppendError, Appender, Applied, Fault, KnownWriter, OfWriters, Quarantined, Standing,
};
#[cfg(any(test, feature = "_sqlite", feature = "postgres", feature = "testing"))]
pub(crate) use backend::{Backend, Opening, Reads};
pub(crate) use backend::{
    Found, Group, GroupKey, Head, QuarantinedRow, QueueByDefault, RecordedReadRow, Span,
};
pub use blocking::BlockingStore;
pub(crate) use end::{Altered, Left};
#[cfg(test)]
pub(crate) use evidence::StoredTree;
pub(crate) use evidence::{Evidence, LeafRow, StoredBatch, StoredHead, StoredLeaves, StoredRow};
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(unused_imports, reason = "only a database holds a tree")
)]
pub use growth::Integrity;
pub use handle::Store;
pub use index::Index;
pub use migration::{Migrate, Migration};
pub use period::Period;
pub(crate) use period::named;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "_sqlite")]
pub use sqlite::UnusedFile;
#[cfg(feature = "_sqlite")]
pub(crate) use sqlite::{NotAdded, PrivateDatabase};
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) use survey::WritersKnown;
pub(crate) use survey::{
    Asked, BatchRow, COUNTED, Cover, Ends, LedgerCover, PIECE, Part, Piece, STORED_LEVELS, SilentRow,
    Surveys, TreeLook, Veils,
};
pub(crate) use tree::columns;
