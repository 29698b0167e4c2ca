//! Where entries are kept: a few whole operations, implemented once per database.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use uuid::Uuid;

use crate::{AuditError, AuditQuery, error::Kind, record::Row};

/// A database that holds a ledger. Cheap to clone; connects when it is first used.
///
/// Made by [`Store::sqlite`], `Store::postgres` or from an sqlx pool. Of a pool, a writer takes the options and opens a
/// connection of its own, so that neither can starve the other; only where the pool is on a database in
/// memory does it borrow the pool's connections, one per batch.
#[derive(Clone)]
pub struct Store(Arc<dyn Backend>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Store {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of(backend: impl Backend + 'static) -> Self {
        Self(Arc::new(backend))
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.0
    }
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

    /// Opens a writer's connection and brings the tables up to date.
    fn connect<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>>;

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

    /// What is in quarantine, in the order in which it came there.
    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>>;
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
