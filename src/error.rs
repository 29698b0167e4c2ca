//! The only error type of the crate. It is opaque; predicates say what a caller can do about an error.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

/// An error, described in one sentence that names the remedy where there is one.
///
/// [`kind`](Self::kind) is for a `match` over several kinds of errors. The predicates are for a single question; some of them
/// cover several kinds, such as [`is_rejected`](Self::is_rejected). Kinds can be added without breaking a caller of
/// either.
///
/// `Display` never repeats the cause, which is in [`source`](Error::source). Cloning is cheap: several callers may wait for the same
/// batch, and each of them gets the error if it fails.
#[derive(Clone, Debug)]
pub struct AuditError {
    kind: ErrorKind,
    message: Cow<'static, str>,
    /// There was no room for what was to be written.
    lacks_room: bool,
    source: Option<Arc<dyn Error + Send + Sync + 'static>>,
}

/// The kind of an [`AuditError`]: one of them for each error.
///
/// Use it to choose between many kinds with one `match`, or as a label of a metric. Use a predicate of `AuditError` to
/// ask one question, above all [`is_rejected`](AuditError::is_rejected) and
/// [`is_quarantined`](AuditError::is_quarantined), which cover several kinds.
///
/// ```
/// # fn retry_after(error: &tracing_audit::AuditError) -> Option<u64> {
/// use tracing_audit::ErrorKind;
///
/// match error.kind() {
///     ErrorKind::Full | ErrorKind::Store => Some(5),
///     ErrorKind::Pending => Some(1),
///     _ => None,
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The log was shut down, or its thread could not be started: no entry is accepted any more.
    Closed,
    /// The queue stayed full for as long as [`WhenFull`](crate::WhenFull) allows; the entry will never be stored.
    Full,
    /// A value or the whole entry exceeds the size limits; the entry will never be stored.
    TooLarge,
    /// The ledger already holds an entry with this `id`; the new entry was set aside in quarantine.
    Duplicate,
    /// The database refuses this entry for good, though not as a duplicate; the entry was set aside in quarantine.
    Quarantined,
    /// The entry was accepted but not committed in time; it stays in the queue and may still be committed.
    Pending,
    /// A setting, such as one of the builder, cannot work.
    Config,
    /// Audit events, or the spans around them, do not reach the log.
    Wiring,
    /// The tables are missing or too old and this log may not migrate them, were created by a newer version of this crate,
    /// or are for another ledger.
    Schema,
    /// A page cursor was not made by this crate, or belongs to another query.
    Cursor,
    /// The query cannot be run.
    Query,
    /// The database or a journal could not be opened, read from or written to.
    Store,
    /// The destination of an export could not be written to.
    Output,
    /// The ledger, or the tree over its entries, is not as it was left: somebody has changed the database.
    Altered,
}

impl AuditError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), lacks_room: false, source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Notes that there was no room for what was to be written, if `lacks` is true.
    pub(crate) fn for_lack_of_room(mut self, lacks: bool) -> Self {
        self.lacks_room = lacks;
        self
    }

    pub(crate) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// The kind of the error. A predicate such as [`is_rejected`](Self::is_rejected) answers a single question, also about
    /// kinds that are yet to come.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The log was shut down, or its thread could not be started: no entry is accepted any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == ErrorKind::Closed
    }

    /// The queue stayed full for as long as [`WhenFull`](crate::WhenFull) allows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == ErrorKind::Full
    }

    /// A value or the whole entry exceeds the size limits.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.kind == ErrorKind::TooLarge
    }

    /// The ledger already holds an entry with this `id`; the new entry was set aside in quarantine.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.kind == ErrorKind::Duplicate
    }

    /// The database refuses this entry for good; the entry was set aside in quarantine. It is true for duplicates too.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        matches!(self.kind, ErrorKind::Quarantined | ErrorKind::Duplicate)
    }

    /// The entry was not accepted and will never be stored, because the log is closed, the queue is full, or the entry
    /// is too large.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self.kind, ErrorKind::Closed | ErrorKind::Full | ErrorKind::TooLarge)
    }

    /// The entry was accepted but not committed in time. It stays in the queue and may still be committed.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.kind == ErrorKind::Pending
    }

    /// A setting, such as one of the builder, cannot work.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.kind == ErrorKind::Config
    }

    /// Audit events, or the spans around them, do not reach the log: see
    /// [`check_wiring`](crate::AuditLog::check_wiring).
    #[must_use]
    pub fn is_wiring(&self) -> bool {
        self.kind == ErrorKind::Wiring
    }

    /// The tables are missing or too old and this log may not migrate them, were created by a newer version of this crate,
    /// or are for another ledger.
    #[must_use]
    pub fn is_schema(&self) -> bool {
        self.kind == ErrorKind::Schema
    }

    /// The page cursor was not made by this crate, or belongs to another query.
    #[must_use]
    pub fn is_cursor(&self) -> bool {
        self.kind == ErrorKind::Cursor
    }

    /// The query cannot be run: it names an unknown column, or has more values than a database takes.
    #[must_use]
    pub fn is_query(&self) -> bool {
        self.kind == ErrorKind::Query
    }

    /// The database or a journal could not be opened, read from or written to.
    #[must_use]
    pub fn is_store(&self) -> bool {
        self.kind == ErrorKind::Store
    }

    /// The ledger, or the tree over its entries, is not as it was left: somebody has changed the database.
    #[must_use]
    pub fn is_altered(&self) -> bool {
        self.kind == ErrorKind::Altered
    }

    /// The destination of an export could not be written to.
    #[must_use]
    pub fn is_output(&self) -> bool {
        self.kind == ErrorKind::Output
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for AuditError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
