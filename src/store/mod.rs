//! Where entries are kept: a few whole operations, implemented once per database.

mod index;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod walk;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use uuid::Uuid;

pub use index::{Index, IndexOn};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::reader::Served;
use crate::{AuditError, AuditQuery, CountBy, error::Kind, record::Row};

/// A database that holds a ledger. Cheap to clone; connects when it is first used.
///
/// Made by [`Store::sqlite`], `Store::postgres` or from an sqlx pool. Of a pool, a writer takes the options and opens a
/// connection of its own, so that neither can starve the other; only where the pool is on a database in
/// memory does it borrow the pool's connections, one per batch.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    migrate: Migrate,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

impl Store {
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "testing")),
        allow(dead_code, reason = "without a database there is none to make")
    )]
    pub(crate) fn of(backend: impl Backend + 'static) -> Self {
        Self { backend: Arc::new(backend), migrate: Migrate::default() }
    }

    /// Whether a log may create and change the tables. Default: [`Migrate::Auto`].
    #[must_use]
    pub fn migrate(self, migrate: Migrate) -> Self {
        Self { migrate, ..self }
    }

    /// What makes the tables, oldest first, for whoever does it by hand: see [`Migrate::Check`].
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # fn main() -> Result<(), tracing_audit::AuditError> {
    /// for migration in tracing_audit::Store::sqlite("audit.db")?.migrations() {
    ///     println!("-- Version {}\n{}", migration.version, migration.sql);
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn migrations(&self) -> Vec<Migration> {
        self.backend.migrations()
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Opens a writer's connection, once the tables are as this version needs them.
    pub(crate) async fn connect(&self, ledger: &str) -> Result<Box<dyn Appender>, AuditError> {
        self.backend.connect(ledger, self.migrate).await
    }
}

/// Whether a log may create and change the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Migrate {
    /// Whoever opens the log first creates the tables, or brings them up to date.
    #[default]
    Auto,
    /// Tables that are absent or older than this version needs are an error
    /// ([`is_schema`](AuditError::is_schema)): somebody else runs [`Store::migrations`], for instance because the
    /// log's own role may not. A SQLite file must be there.
    Check,
}

/// A step from one version of the tables to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The version that it leads to. The tables say `SELECT max(version) FROM tracing_audit_migrations`.
    pub version: u32,
    /// A whole script, one transaction, for the database's own shell: `psql -f` or `sqlite3`.
    pub sql: String,
}

/// What is wrong where an index is to be made.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn no_tables() -> AuditError {
    AuditError::new(Kind::Schema, "the audit tables are not there: open a log first")
}

/// What is wrong with tables that have no room for the record of a read.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn no_reads() -> AuditError {
    AuditError::new(
        Kind::Schema,
        "the read cannot be recorded, and is not answered: the audit tables are not there or older; open a log with this version, or run what Store::migrations gives",
    )
}

/// What is wrong with tables of this version, if this crate knows others and may not make them.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn not_migrated(version: usize, known: usize) -> AuditError {
    let are = match version {
        0 => "the audit tables are not there".to_owned(),
        version => format!("the audit tables have version {version} and {known} is needed"),
    };
    AuditError::new(
        Kind::Schema,
        format!("{are}: run what Store::migrations gives, or open with Migrate::Auto"),
    )
}

/// Where entries wait for the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueByDefault {
    /// In journals in this directory.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only a file has a directory beside it"))]
    Journal(PathBuf),
    Memory,
    /// A server can be away for long: whoever uses it decides what that may cost.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only a server is asked for"))]
    Ask,
}

/// A row with what the ledger knows about it.
#[derive(Clone, Debug)]
pub(crate) struct LedgerRow {
    pub(crate) ledger: String,
    pub(crate) seq: u64,
    pub(crate) row: Row,
    /// Microseconds since 1970.
    pub(crate) committed_at: i64,
}

/// A ledger, and how far it has come.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) ledger: String,
    pub(crate) next_seq: u64,
    /// Microseconds since 1970.
    pub(crate) last_committed_at: Option<i64>,
}

/// Rows that have a key in common.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) entries: u64,
    pub(crate) least_ts: i64,
    pub(crate) greatest_ts: i64,
}

/// What is told of a read of the log.
#[derive(Clone, Debug)]
pub(crate) struct ReadRow {
    pub(crate) id: Uuid,
    /// The read whose end this is, if it is one.
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

/// Which part of a ledger a page is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Ascending by `seq`, those greater than this one.
    After(Option<u64>),
    /// Descending by `seq`, those less than this one.
    Before(Option<u64>),
}

/// A database. One implementation each, with statements of its own. Absent tables read as empty.
pub(crate) trait Backend: Send + Sync + fmt::Debug {
    /// What names this database to whoever finds a journal for it in this directory; none for one that ends with
    /// the process.
    fn name(&self, directory: &Path) -> Option<String>;

    /// Where entries wait unless the builder is told.
    fn queue_by_default(&self) -> QueueByDefault {
        QueueByDefault::Memory
    }

    /// The database itself, if that is what it is.
    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&postgres::Postgres> {
        None
    }

    /// Opens a writer's connection and brings the tables up to date, if it may.
    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        migrate: Migrate,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>>;

    /// What makes the tables.
    fn migrations(&self) -> Vec<Migration> {
        Vec::new()
    }

    /// Rows that match, by `ts` and then `seq`, the greatest first, within the query's limit.
    fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>>;

    /// At most `size` rows that match, whatever the query's limit.
    fn page<'a>(
        &'a self,
        query: &'a AuditQuery,
        span: Span,
        size: u32,
    ) -> BoxFuture<'a, Result<Vec<LedgerRow>, AuditError>>;

    /// How many rows match, whatever the query's limit.
    fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>>;

    /// How many rows match, by what they have in common: times in their order, others the most frequent first, within
    /// the query's limit.
    fn count_by<'a>(
        &'a self,
        query: &'a AuditQuery,
        by: &'a CountBy,
    ) -> BoxFuture<'a, Result<Vec<Group>, AuditError>>;

    /// The ledgers, by name, or this one alone.
    fn heads<'a>(&'a self, ledger: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Head>, AuditError>>;

    /// Adds what is told of a read, whose time and role the database knows better.
    fn record_read<'a>(&'a self, _read: &'a ReadRow) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(async { Err(no_database()) })
    }

    /// The reads that began within the query's bounds in time, the latest first, at most so many.
    fn reads<'a>(
        &'a self,
        _query: &'a AuditQuery,
        _limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ReadRow>, AuditError>> {
        Box::pin(async { Err(no_database()) })
    }

    /// What makes an index.
    fn index_sql(&self, _on: &IndexOn) -> Option<String> {
        None
    }

    /// Whether there is an index on this that can be used. If there is none it is made, if it may be; if another process
    /// makes it, that is waited for.
    fn has_index<'a>(&'a self, _on: &'a IndexOn, _make: bool) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(async { Err(no_database()) })
    }

    /// Drops the index on this, if it is there.
    fn drop_index<'a>(&'a self, _on: &'a IndexOn) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(async { Err(no_database()) })
    }

    /// Whether an index on request tells where the entries of a query are which no other index does.
    fn serves_on_request<'a>(&'a self, _query: &'a AuditQuery) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(async { Ok(false) })
    }

    /// The indexes of the entries.
    fn indexes(&self) -> BoxFuture<'_, Result<Vec<Index>, AuditError>> {
        Box::pin(async { Err(no_database()) })
    }

    /// What is in quarantine, in the order in which it came there.
    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>>;
}

fn no_database() -> AuditError {
    AuditError::new(Kind::Store, "this store is not a database: it keeps entries and nothing else")
}

/// What a planner cannot see in a parameter: that a partial index will do.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn hint(served: Served) -> &'static str {
    match served {
        Served::Risky => " AND e.risk_score >= 0.8",
        Served::Refused => " AND e.decision IN ('Deny', 'Mask')",
        Served::Gaps => " AND e.action = 'audit.gap'",
        Served::Id | Served::Session | Served::Problems | Served::Workspace => "",
    }
}

/// The writing side of a database: one connection, one ledger.
pub(crate) trait Appender: Send {
    /// Commits rows, quarantined entries and the position they reach in one transaction, or nothing.
    ///
    /// If an earlier attempt whose answer was lost has moved the writer's position beyond `batch.from`, this
    /// does nothing and reports what that one did. Dropping the future rolls back or leaves such a lost answer.
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>>;

    /// How far the queue of this writer is committed.
    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>>;

    /// Tries to add each entry in quarantine to the ledger, in a transaction of its own that takes it out of
    /// quarantine. What was done before an error stays done.
    fn readmit(&mut self) -> BoxFuture<'_, Result<Readmitted, AuditError>>;

    /// Closes the connection and waits until it is closed.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// One transaction's worth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append<'a> {
    /// Which queue the positions belong to.
    pub(crate) writer: Uuid,
    /// Position of that queue that the database has reached. If it says less, it was restored from a backup.
    pub(crate) reached: u64,
    /// Position before the first of `quarantined` and `rows`; not less than `reached`.
    pub(crate) from: u64,
    /// These come before `rows`.
    pub(crate) quarantined: &'a [Quarantined],
    /// No earlier attempt can have got beyond this position.
    pub(crate) reachable: u64,
    pub(crate) rows: &'a [&'a Row],
}

impl Append<'_> {
    pub(crate) fn until(&self) -> u64 {
        self.from + self.quarantined.len() as u64 + self.rows.len() as u64
    }

    /// Why this cannot be appended to a database that has reached `position`, if so.
    pub(crate) fn impossible(&self, position: u64) -> Option<AppendError> {
        let error = |message| AuditError::new(Kind::Store, message);
        if position > self.reachable {
            let error = error("the database knows positions of this writer that it never reached");
            return Some(AppendError { fault: Fault::Store, error });
        }
        let restored = || AppendError {
            fault: Fault::Restored { position },
            error: error("the database was restored from a backup"),
        };
        (position < self.reached).then(restored)
    }
}

/// What an append has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// Position that the writer has reached.
    pub(crate) until: u64,
    /// How many of the records up to there are rows. They are the last ones; those before are quarantined.
    pub(crate) rows: u64,
    /// `seq` of the first row, if there was one.
    pub(crate) first_seq: Option<u64>,
}

/// An entry that the database refuses for good.
#[derive(Clone, Debug)]
pub(crate) struct Quarantined {
    pub(crate) id: Option<Uuid>,
    pub(crate) error: String,
    /// The whole of it, in the queue's format.
    pub(crate) record: Vec<u8>,
    pub(crate) duplicate: bool,
}

/// An entry in quarantine, as it is kept there.
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

/// What became of the entries in quarantine that were tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readmitted {
    /// Rows of the ledger now.
    pub committed: u64,
    /// Refused again, and still in quarantine.
    pub refused: u64,
}

/// Whose fault a failed append is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The database's: try again later, change nothing.
    Store,
    /// One of the rows can never be stored.
    Entry,
    /// One of the rows has an `id` that is in the ledger already.
    Duplicate,
    /// Nobody's: the database has lost what was committed after this position.
    Restored { position: u64 },
}

#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) fault: Fault,
    pub(crate) error: AuditError,
}
