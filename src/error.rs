//! The only error type of the crate. It is opaque; predicates say what a caller can do about an error.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

/// An error, described in one sentence that names the remedy where there is one.
///
/// Predicates give the kind of the error, so that kinds can be added without breaking a caller. `Display` never
/// repeats the cause, which is in [`source`](Error::source). Cloning is cheap: several callers may wait for the same
/// batch, and each of them gets the error if it fails.
#[derive(Clone, Debug)]
pub struct AuditError {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn Error + Send + Sync + 'static>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Closed,
    Full,
    TooLarge,
    Duplicate,
    Quarantined,
    Pending,
    Config,
    Wiring,
    Schema,
    Cursor,
    Query,
    Store,
    Output,
}

impl AuditError {
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The log was shut down, or its thread could not be started: no entry is accepted any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == Kind::Closed
    }

    /// The queue stayed full for as long as [`WhenFull`](crate::WhenFull) allows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// A value or the whole entry exceeds the size limits.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.kind == Kind::TooLarge
    }

    /// The ledger already holds an entry with this `id`; the new entry was set aside in quarantine.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.kind == Kind::Duplicate
    }

    /// The database refuses this entry for good; the entry was set aside in quarantine. Also true for duplicates.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        matches!(self.kind, Kind::Quarantined | Kind::Duplicate)
    }

    /// The entry was not accepted and will never be stored, because the log is closed, the queue is full, or the entry
    /// is too large.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self.kind, Kind::Closed | Kind::Full | Kind::TooLarge)
    }

    /// The entry was accepted but not committed in time. It stays in the queue and may still be committed.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.kind == Kind::Pending
    }

    /// The builder was given a setting that cannot work.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// Audit events, or the spans around them, do not reach the log: see
    /// [`check_wiring`](crate::AuditLog::check_wiring).
    #[must_use]
    pub fn is_wiring(&self) -> bool {
        self.kind == Kind::Wiring
    }

    /// The tables were created by a newer version of this crate, or are for another ledger.
    #[must_use]
    pub fn is_schema(&self) -> bool {
        self.kind == Kind::Schema
    }

    /// The page cursor was not made by this crate, or belongs to another query.
    #[must_use]
    pub fn is_cursor(&self) -> bool {
        self.kind == Kind::Cursor
    }

    /// The query cannot be run: it names an unknown column, or has more values than a database takes.
    #[must_use]
    pub fn is_query(&self) -> bool {
        self.kind == Kind::Query
    }

    /// The database could not be opened, read from or written to.
    #[must_use]
    pub fn is_store(&self) -> bool {
        self.kind == Kind::Store
    }

    /// The destination of an export could not be written to.
    #[must_use]
    pub fn is_output(&self) -> bool {
        self.kind == Kind::Output
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
