//! The contract of a survey: `Surveys`, and the rows by which a ledger, its batches and its head can be compared.

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::error::AuditError;
use crate::query::AuditQuery;

/// The most entries of a piece of a survey.
pub(crate) const PIECE: i64 = 1 << 16;

/// What is counted one by one is counted up to this number: entries outside of the ledger, and entries in quarantine.
pub(crate) const COUNTED: i64 = 10_000;

/// Looks at what a ledger says of itself. Tables that do not exist read as empty. Every call is one read of the database;
/// what lies before a head never changes, so that several calls fit together although entries are committed meanwhile.
pub(crate) trait Surveys: Send + Sync {
    /// The ends of this ledger, all of one moment. `None` if there is no such ledger.
    fn ends<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Option<Ends>, AuditError>>;

    /// What is in a part of the ledger, from the first `seq` to before the second: at most [`PIECE`] of them.
    fn piece<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Piece, AuditError>>;

    /// Each `seq` in such a part, as the database gives them in their order.
    fn seqs<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>>;

    /// The `seq` after the last batch that is wholly before the query's range of `ts`, and the first of the batch after
    /// it. `None`: there is no such batch, or no such bound.
    fn between<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Sides, AuditError>>;

    /// What the ledger knows of its writers; `None` where the tables are of a version before 3, or the role may not read
    /// them. Of the writers that
    /// have not ended and have committed nothing from this `seq` on, at most `most`, those that began first.
    fn writers<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Option<WritersKnown>, AuditError>>;

    /// When each of these writers of the ledger began, if that is known.
    fn began<'a>(
        &'a self,
        ledger: &'a str,
        writers: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<(Uuid, i64)>, AuditError>>;

    /// The entries in such a part of the ledger whose `ts` is outside of what their batch says, at most `most` of them.
    fn untimely<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>>;

    /// What stands in the place of a table that readers read, or hides rows of it, in words.
    fn veils(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;

    /// Everything about our tables that is not as this crate makes them, in words.
    fn schema(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;

    /// What the database's own check of its files finds, in words. It reads all of them.
    fn structure(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;

    /// The names of ledgers that have entries or batches, and no head.
    fn headless(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;
}

/// Two numbers of which either may be missing.
pub(crate) type Sides = (Option<i64>, Option<i64>);

/// The ends of a ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// The next `seq`, as the head names it.
    pub(crate) next_seq: i64,
    /// The number of its entries at the head or after it, of those before 0, and of batches that begin at the head or
    /// after it. Each is at most [`COUNTED`].
    pub(crate) beyond: i64,
    pub(crate) below: i64,
    pub(crate) batches_beyond: i64,
    /// The time of the commit of the batch with the greatest `first_seq`. Microseconds since 1970.
    pub(crate) last_committed_at: Option<i64>,
    /// The number of entries in quarantine, at most [`COUNTED`]. `None` if the role may not read them.
    pub(crate) quarantined: Option<i64>,
}

/// A part of a ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    /// The number of entries in it.
    pub(crate) count: i64,
    /// The sum of the distances of their `seq` from the first one of the part: an entry that is there twice in place of
    /// another changes it.
    pub(crate) sum: i64,
    /// The least `seq` of an entry after the part.
    pub(crate) next_entry: Option<i64>,
    /// The batches that begin in the part, and the one before them, in their order.
    pub(crate) batches: Vec<BatchRow>,
    /// The least `first_seq` of a batch after the part.
    pub(crate) next_batch: Option<i64>,
}

/// A batch. Times are microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRow {
    pub(crate) first_seq: i64,
    pub(crate) entries: i64,
    pub(crate) committed_at: i64,
    pub(crate) least_ts: i64,
}

/// What a ledger knows of its writers.
#[derive(Clone, Debug, Default)]
pub(crate) struct WritersKnown {
    pub(crate) silent: Vec<SilentRow>,
    /// The next `seq` after the last commit, if the head names a lesser one now.
    pub(crate) head_was: Option<i64>,
}

/// A writer of which nothing was committed for a while. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct SilentRow {
    pub(crate) writer: Uuid,
    pub(crate) host: Option<String>,
    pub(crate) started_at: Option<i64>,
    pub(crate) said_at: Option<i64>,
}
