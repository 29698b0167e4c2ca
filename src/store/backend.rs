//! The contract of a database: `Backend`, its `Reads` and `Indexes`, and the rows that they return.

use std::{
    fmt, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use uuid::Uuid;

use super::{
    appender::Appender,
    evidence::Evidence,
    growth::Integrity,
    index::Index,
    migration::{Migrate, Migration},
    survey::Surveys,
};
use crate::entry::LedgerRow;
use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::platform::Access;
use crate::query::{AuditQuery, CountBy, IndexOn};

/// A database. Each has one implementation, with statements of its own. Tables that do not exist read as empty.
pub(crate) trait Backend: Send + Sync + fmt::Debug + 'static {
    /// The name by which a journal in this directory knows its database. `None` for a database that ends with the
    /// process.
    fn name(&self, directory: &Path) -> Option<String>;

    /// The directory in which the database's files grow. `None`: it is on another machine, or in memory.
    fn directory(&self) -> Option<PathBuf> {
        None
    }

    /// Whether this name, by which another process's journal in this directory knows its database, means this database as
    /// well. `None`: only the ledger itself can decide, by whether it knows that process. Looks at files.
    fn is_also(&self, _directory: &Path, _name: &str) -> Option<bool> {
        None
    }

    /// Whether every process that writes to it runs on the same machine, and was started after the machine was. Looks at
    /// files.
    fn has_one_machine(&self) -> bool {
        false
    }

    /// The database of the period of this name. `None`: this one, which holds any number of ledgers.
    fn of_period(&self, _label: &str) -> Option<Result<Arc<dyn Backend>, AuditError>> {
        None
    }

    /// The possible names of periods with a database of their own, in their order. Looks at files. `None`: none has.
    fn labels(&self) -> Option<io::Result<Vec<String>>> {
        None
    }

    /// The queue of a log whose builder chooses none.
    fn queue_by_default(&self) -> QueueByDefault {
        QueueByDefault::Memory
    }

    /// Opens a writer's connection, and brings the tables up to date if it may.
    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        opening: &'a Opening,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>>;

    /// The scripts that create the tables, oldest first.
    fn migrations(&self) -> Vec<Migration> {
        Vec::new()
    }

    /// The reading side of the database. An error if the store is not a database.
    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        Err(not_a_database())
    }

    /// The operations that prove the ledgers of the database. An error if the store is not a database.
    fn evidence(&self) -> Result<&dyn Evidence, AuditError> {
        Err(not_a_database())
    }

    /// The database as one that can be surveyed. An error if the store is not a database.
    fn surveys(&self) -> Result<&dyn Surveys, AuditError> {
        Err(not_a_database())
    }

    /// The indexes of the database. An error if the store is not a database.
    fn indexes(&self) -> Result<&dyn Indexes, AuditError> {
        Err(not_a_database())
    }
}

fn not_a_database() -> AuditError {
    AuditError::new(
        ErrorKind::Store,
        "this store only records entries: it cannot answer queries or hold indexes",
    )
}

/// The way in which a writer's connection is opened.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(feature = "_sqlite"),
    allow(dead_code, reason = "only a file is made, and lies beside a queue; only a database holds a tree")
)]
pub(crate) struct Opening {
    pub(crate) migrate: Migrate,
    /// The users who may read and write the files that are made.
    pub(crate) access: Access,
    /// The directory of the log's journals. `None` if its queue is in memory.
    pub(crate) queue: Option<PathBuf>,
    /// Whether it adds to the tree.
    pub(crate) integrity: Integrity,
}

/// The reading side of a database.
pub(crate) trait Reads: Send + Sync {
    /// The rows that match, by `ts` and then `seq`, both descending, within the query's limit.
    fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>>;

    /// The rows that match, with their places in the ledgers, within the query's limit: by `ts` and then `seq`, both
    /// ascending, or descending if the query is newest first.
    fn rows_in_time<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<LedgerRow, AuditError>>;

    /// At most `size` rows that match, without regard to the query's limit. Fewer if their texts are long: see [`Found`].
    fn page<'a>(
        &'a self,
        query: &'a AuditQuery,
        span: Span,
        size: u32,
    ) -> BoxFuture<'a, Result<Found, AuditError>>;

    /// The range of `seq` that can hold matches of a query of one ledger, by its ranges of time and its range of `seq`:
    /// the first, and the one after the last. `None` if nothing can match.
    fn seqs_in_time<'a>(
        &'a self,
        query: &'a AuditQuery,
    ) -> BoxFuture<'a, Result<Option<(u64, u64)>, AuditError>>;

    /// The number of rows that match, without regard to the query's limit.
    fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>>;

    /// The number of rows that match for each combination of values that they have in common, within the query's limit:
    /// times in their order if they are the first of these values, otherwise the most frequent combinations first.
    fn count_by<'a>(
        &'a self,
        query: &'a AuditQuery,
        by: &'a [CountBy],
    ) -> BoxFuture<'a, Result<Groups, AuditError>>;

    /// The rows whose ids are in this range, which includes both ends, of all ledgers, at most this many.
    fn with_ids(
        &self,
        first: Uuid,
        last: Uuid,
        most: u32,
    ) -> BoxFuture<'_, Result<Vec<LedgerRow>, AuditError>>;

    /// The ledgers by name, or this one alone.
    fn heads<'a>(&'a self, ledger: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Head>, AuditError>>;

    /// The entries in quarantine, in the order in which they were quarantined.
    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>>;

    /// Adds a row to the record of reads. The database sets the time and the role, which it knows better.
    fn record<'a>(&'a self, read: &'a RecordedReadRow) -> BoxFuture<'a, Result<(), AuditError>>;

    /// The recorded reads that began within the query's time range, latest first, at most `limit` of them.
    fn recorded<'a>(
        &'a self,
        query: &'a AuditQuery,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RecordedReadRow>, AuditError>>;

    /// Whether an index on request serves a query that no built-in index serves.
    fn is_served<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<bool, AuditError>>;
}

/// The indexes of a database's entries.
pub(crate) trait Indexes: Send + Sync {
    /// The statements that create an index, separated by `;`.
    fn sql(&self, on: &IndexOn) -> String;

    /// Whether a usable index on this exists afterwards. If none exists it is created, unless `migrate` forbids that; if
    /// another process is creating it, this waits until it has.
    fn ensure<'a>(&'a self, on: &'a IndexOn, migrate: Migrate) -> BoxFuture<'a, Result<bool, AuditError>>;

    /// Drops the index on this, if it exists.
    fn drop<'a>(&'a self, on: &'a IndexOn) -> BoxFuture<'a, Result<(), AuditError>>;

    /// All indexes of the entries.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Index>, AuditError>>;
}

/// The queue in which entries wait for the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueByDefault {
    /// Journals in this directory.
    #[cfg_attr(not(feature = "_sqlite"), allow(dead_code, reason = "only a file has a directory beside it"))]
    Journal(PathBuf),
    Memory,
    /// The builder must choose: a server can be away for long, and the application decides what that may cost.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only a server has no default"))]
    Ask,
}

/// A part of a ledger, and the direction in which a page reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Ascending by `seq`, only entries with a `seq` greater than this one.
    After(Option<u64>),
    /// Descending by `seq`, only entries with a `seq` less than this one.
    Before(Option<u64>),
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl Span {
    /// The query, with its range of `seq` narrowed to this span. Each end of the range is then a single condition.
    pub(super) fn of(self, query: &AuditQuery) -> AuditQuery {
        let mut query = query.clone();
        match self {
            Self::After(Some(seq)) => query.from_seq = query.from_seq.max(Some(seq.saturating_add(1))),
            Self::Before(Some(seq)) => {
                query.before_seq = Some(query.before_seq.map_or(seq, |before| before.min(seq)));
            }
            Self::After(None) | Self::Before(None) => {}
        }
        query
    }
}

/// The rows that a page has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<LedgerRow>,
    /// The bytes of their texts.
    bytes: usize,
    /// Whether the page has ended before a row that it had no room for.
    pub(crate) cut: bool,
}

impl Found {
    /// The bytes of texts after which no row is added. The memory that a page takes is bounded by this and by one row, not
    /// by the number of its rows.
    const BYTES: usize = 4 << 20;

    /// Adds a row, or ends the page before it. A page has room for two rows, however long they are: the one at a cursor,
    /// and the one after it.
    #[cfg_attr(
        not(any(feature = "_sqlite", feature = "postgres")),
        allow(dead_code, reason = "a database adds rows")
    )]
    pub(crate) fn add(&mut self, row: LedgerRow) -> ControlFlow<()> {
        self.cut = self.bytes >= Self::BYTES && self.rows.len() > 1;
        if self.cut {
            return ControlFlow::Break(());
        }
        self.bytes += row.row.text_bytes();
        self.rows.push(row);
        ControlFlow::Continue(())
    }

    /// Adds the rows of the next part of the ledger.
    pub(crate) fn append(&mut self, next: Self) {
        self.rows.extend(next.rows);
        self.bytes += next.bytes;
        self.cut = next.cut || self.bytes >= Self::BYTES && self.rows.len() > 1;
    }

    /// The number of such rows for which a page has room; `most` if there are more.
    pub(crate) fn room(&self, most: u32) -> u32 {
        let room = self.rows.len().saturating_mul(Self::BYTES).checked_div(self.bytes);
        room.map_or(most, |room| u32::try_from(room).unwrap_or(most).clamp(1, most))
    }
}

/// A ledger, and how far it has come.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) ledger: String,
    pub(crate) next_seq: u64,
    /// Microseconds since 1970.
    pub(crate) last_committed_at: Option<i64>,
}

/// The groups of rows that have their keys in common, within a limit, and the sums without it.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) found: Vec<Group>,
    /// The number of all groups.
    pub(crate) distinct: u64,
    /// The number of rows in all groups.
    pub(crate) entries: u64,
}

/// A value that rows have in common, and the name that it was made from, if it is an id and some row says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupKey {
    pub(crate) value: Option<String>,
    pub(crate) name: Option<String>,
}

/// The number of rows that have these keys in common.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) keys: Vec<GroupKey>,
    pub(crate) entries: u64,
    pub(crate) least_ts: i64,
    pub(crate) greatest_ts: i64,
}

/// A row of the record of reads: who read, what they asked for, and how much they got.
#[derive(Clone, Debug)]
pub(crate) struct RecordedReadRow {
    pub(crate) id: Uuid,
    /// The `id` of the row that this one completes, if this is the end of a read.
    pub(crate) ends: Option<Uuid>,
    /// Microseconds since 1970.
    pub(crate) at: Option<i64>,
    pub(crate) reader: String,
    pub(crate) role: Option<String>,
    pub(crate) action: String,
    /// A JSON object.
    pub(crate) query: String,
    pub(crate) entries: Option<u64>,
}

/// A row of the quarantine.
#[derive(Clone, Debug)]
pub(crate) struct QuarantinedRow {
    pub(crate) writer: Uuid,
    pub(crate) position: u64,
    pub(crate) id: Option<Uuid>,
    pub(crate) error: String,
    pub(crate) record: Vec<u8>,
    /// Microseconds since 1970.
    pub(crate) quarantined_at: i64,
}
