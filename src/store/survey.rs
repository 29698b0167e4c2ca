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

    /// What keeps readers from the rows of our tables.
    fn veils(&self) -> BoxFuture<'_, Result<Veils, AuditError>>;

    /// What the ledger has of its tree, as of one moment. `None` if its tables are of a version without one, or not there, or
    /// the role may not read them. Of batches that do not fit their leaf hashes, at most `most`.
    fn tree<'a>(&'a self, ledger: &'a str, most: u32) -> BoxFuture<'a, Result<Option<TreeLook>, AuditError>>;

    /// The `seq` after the last commit of any writer, or the size of the tree, if it is greater than what the head says.
    fn reached<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Option<i64>, AuditError>>;

    /// The writers whose position is beyond what the batches and the quarantine account for, at most `most`: each with its position
    /// and that one. None where the tables are of a version before 3, or the role may not read them.
    fn unaccounted<'a>(
        &'a self,
        ledger: &'a str,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<Unaccounted>, AuditError>>;

    /// Everything about our tables that is not as this crate makes them, in words, also [`veils`](Self::veils). Nothing is read
    /// through these.
    fn schema(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;

    /// What the database's own check of its files finds, in words. It reads all of them.
    fn structure(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;

    /// The names of ledgers that have entries or batches, and no head.
    fn headless(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;
}

/// A writer, its position, and the position that the batches and the quarantine account for.
pub(crate) type Unaccounted = (Uuid, i64, i64);

/// What keeps readers from the rows of our tables, in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Veils {
    /// Views and the like in the place of tables. They can be anything, so nothing must be read through them.
    pub(crate) instead: Vec<String>,
    /// What hides rows, or adds others.
    pub(crate) over: Vec<String>,
}

/// What a ledger has of its tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeLook {
    /// What the head says: whether the ledger has an id, the size of the tree, and the bytes of its frontier.
    pub(crate) has_id: bool,
    pub(crate) size: i64,
    pub(crate) frontier: i64,
    pub(crate) next_seq: i64,
    /// The number of leaf hashes in rows that begin in the tree.
    pub(crate) leaves: i64,
    /// The number of rows of leaf hashes that begin outside of the tree, or are no whole number of hashes.
    pub(crate) foreign_leaves: i64,
    /// The number of nodes that such a tree has, and of all others.
    pub(crate) nodes: i64,
    pub(crate) foreign_nodes: i64,
    /// The first `seq` of batches in the tree that have another number of leaf hashes than of entries, or none.
    pub(crate) unlike: Vec<i64>,
}

/// The levels of the nodes that are stored.
pub(crate) const STORED_LEVELS: [u32; 7] = [8, 16, 24, 32, 40, 48, 56];

/// Two numbers of which either may be missing.
pub(crate) type Sides = (Option<i64>, Option<i64>);

/// The ends of a ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// The next `seq`, as the head names it.
    pub(crate) next_seq: i64,
    /// The number of its entries at the head or after it, of those before 0, and of batches that begin at the head or
    /// after it, or before 0. Each is at most [`COUNTED`].
    pub(crate) beyond: i64,
    pub(crate) below: i64,
    pub(crate) batches_beyond: i64,
    pub(crate) batches_below: i64,
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
