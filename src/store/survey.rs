//! The contract of a survey: `Surveys`, and the rows by which a ledger, its batches and its head can be compared.

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::entry::LedgerRow;
use crate::error::AuditError;
use crate::query::AuditQuery;

/// The most entries of a piece of a survey.
pub(crate) const PIECE: i64 = 1 << 16;

/// The limit of counts that are made row by row: of entries outside of the ledger, and of entries in quarantine.
pub(crate) const COUNTED: i64 = 10_000;

/// How far clocks may differ, of two writers and of one from one time to another, before a time of commit counts as wrong, in
/// microseconds.
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "only a database has times of commits")
)]
pub(crate) const WRONG_CLOCK: i64 = 60_000_000;

/// Looks at what a ledger says of itself. Tables that do not exist read as empty. Every call is one read of the database;
/// what lies before a head never changes, so that several calls fit together although entries are committed meanwhile.
pub(crate) trait Surveys: Send + Sync {
    /// Reads the part of one ledger that the coverage of an answer needs, in as few messages and on as few connections
    /// as the database allows: a page waits for it. An error if something stands in the place of any table.
    fn cover<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Result<Cover, AuditError>>;

    /// Reads a part of the ledger, from the first `seq` to before the second: at most [`PIECE`] of them.
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

    /// When each of these writers of the ledger began, if that is known.
    fn began<'a>(
        &'a self,
        ledger: &'a str,
        writers: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<(Uuid, i64)>, AuditError>>;

    /// The entries in such a part of the ledger whose `ts` is outside of what the batch says that holds them, at most `most` of
    /// them.
    fn untimely<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>>;

    /// The first `seq` of batches in such a part, of any size, whose time of commit cannot be: more than [`WRONG_CLOCK`] before that
    /// of the batch before or before its writer began, or more than an hour from now. At most `most` of them.
    fn misdated<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>>;

    /// The indexes that lack rows of the table, or have others, of which this query's answer could be made, in words: of entries
    /// from the first to before the second `seq`, and of batches in the other part. A server's indexes are not compared.
    fn unindexed<'a>(
        &'a self,
        query: &'a AuditQuery,
        entries: (i64, i64),
        batches: (i64, i64),
    ) -> BoxFuture<'a, Result<Vec<String>, AuditError>>;

    /// The objects that keep readers from the rows of our tables.
    fn veils(&self) -> BoxFuture<'_, Result<Veils, AuditError>>;

    /// The part of the tree that the ledger holds, as of one moment. `None` if its tables are of a version without one,
    /// or do not exist, or the role may not read them. Of batches that do not fit their leaf hashes, at most `most` are
    /// named.
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

    /// The findings of the database's own check of its files, in words. The check reads all of the files. `None` if it
    /// would evaluate expressions that somebody has added to the tables, which can take for ever.
    fn structure(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, AuditError>>;

    /// Damage to what the database keeps beside its file, in words, by the last look at the files: what was committed last and
    /// cannot be read. [`structure`](Self::structure) and the coverage of an answer have it too.
    fn damage(&self) -> Option<String> {
        None
    }

    /// The names of ledgers that have entries or batches, and no head.
    fn headless(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;
}

/// A writer, its position, and the position that the batches and the quarantine account for.
pub(crate) type Unaccounted = (Uuid, i64, i64);

/// The objects that keep readers from the rows of our tables, in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Veils {
    /// Views and the like in the place of tables. They can be anything, so nothing must be read through them.
    pub(crate) instead: Vec<String>,
    /// Objects that hide rows, or add others.
    pub(crate) over: Vec<String>,
}

/// The part of the tree that a ledger holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeLook {
    /// The head's account of the tree: whether the ledger has an id, the size of the tree, and the bytes of its
    /// frontier.
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
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) type Sides = (Option<i64>, Option<i64>);

/// The question about one ledger.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "only a database is asked")
)]
pub(crate) struct Asked {
    /// The query, which names the ledger.
    pub(crate) query: AuditQuery,
    /// The most numbers that are compared, at the beginning of the query's direction.
    pub(crate) at_most: i64,
    /// The most `audit.gap` entries, latest first.
    pub(crate) gaps: u32,
    /// The most silent writers, those that began first.
    pub(crate) writers: u32,
    /// The most numbers beside what is compared whose times are compared too, because their batches say that they cannot match.
    /// `None`: no times are compared.
    pub(crate) beside: Option<i64>,
}

/// The batches within and beside the query's ranges of time, by their `seq`. Both pairs are empty for a query without
/// one.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// The first `seq` of the batches that can hold matches, and the one after their last.
    pub(crate) within: Sides,
    /// The `seq` after the last batch that is wholly before the query's range of `ts`, and the first of the batch after it.
    /// `None`: there is no such batch, or no such bound.
    pub(crate) beside: Sides,
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl Asked {
    pub(crate) fn ledger(&self) -> &str {
        self.query.ledger.as_deref().unwrap_or_default()
    }

    /// The query of the `audit.gap` entries.
    pub(crate) fn of_gaps(&self) -> AuditQuery {
        AuditQuery::new().ledger(self.ledger()).action("audit.gap").from_seq(0)
    }

    /// The part of the ledger that can hold matches, by the batches, and what lies beside it without a batch.
    pub(crate) fn part(&self, next_seq: i64, times: Times) -> Part {
        let bounded = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        let query = &self.query;
        let head = next_seq.max(0);
        let (mut from, mut before) = (0, head);
        if query.has_times() {
            // Batches that are gone have left nothing by which their time can be known but those around them.
            from = times.beside.0.unwrap_or(0);
            before = times.beside.1.unwrap_or(head);
            if let Some((first, end)) = query.narrowed(times.within) {
                (from, before) = (from.min(bounded(first)), before.max(bounded(end)));
            }
        }
        from = from.max(query.from_seq.map_or(0, bounded)).clamp(0, head);
        before = before.min(query.before_seq.map_or(head, bounded)).clamp(from, head);
        let (least, greatest) = if query.newest_first {
            (from.max(before.saturating_sub(self.at_most)), before)
        } else {
            (from, before.min(from.saturating_add(self.at_most)))
        };
        Part { from, before, least, greatest }
    }

    /// The part of the ledger whose entries' times are compared with what their batches say: what is compared, and the numbers
    /// around it that lie beside it by what their batches say of themselves.
    pub(crate) fn timed(&self, next_seq: i64, part: Part) -> (i64, i64) {
        let bounded = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        let Some(beside) = self.beside else { return (part.least, part.least) };
        let before = self.query.before_seq.map_or(i64::MAX, bounded).min(next_seq.max(0));
        let earlier = part.least.saturating_sub(self.query.from_seq.map_or(0, bounded)).max(0);
        let later = before.saturating_sub(part.greatest).max(0);
        // As many on either side, and what one of them has not, on the other.
        let after = later.min(beside - earlier.min(beside / 2));
        let ahead = earlier.min(beside - after);
        (part.least - ahead, part.greatest + after)
    }
}

/// The first piece of a part of a ledger.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) fn first_piece((from, before): (i64, i64)) -> (i64, i64) {
    (from, before.min(from.saturating_add(PIECE)))
}

/// The part of a ledger that can hold matches, and the part of it that is compared: each from its first `seq` to before the
/// other one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) from: i64,
    pub(crate) before: i64,
    pub(crate) least: i64,
    pub(crate) greatest: i64,
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl Part {
    /// The first piece of what is compared. It is empty if nothing is.
    pub(crate) fn first_piece(&self) -> (i64, i64) {
        first_piece((self.least, self.greatest))
    }
}

/// The part of one ledger that an answer's coverage needs.
#[derive(Debug, Default)]
pub(crate) struct Cover {
    /// The objects that hide rows of our tables, or add others, in words.
    pub(crate) over: Vec<String>,
    /// `None` if there is no such ledger.
    pub(crate) ledger: Option<LedgerCover>,
}

/// The ledger's own part of it.
#[derive(Debug, Default)]
pub(crate) struct LedgerCover {
    pub(crate) ends: Ends,
    pub(crate) part: Part,
    /// The first piece of the part that is compared.
    pub(crate) first: Piece,
    /// The part whose times are compared, and the entries of its first piece whose `ts` is outside of what their batch says, at most
    /// [`COUNTED`].
    pub(crate) timed: (i64, i64),
    pub(crate) untimely: Vec<i64>,
    /// The `audit.gap` entries, latest first.
    pub(crate) gaps: Vec<LedgerRow>,
    /// The ledger's knowledge of its writers. `None` if the tables are of a version before 3, or the role may not read
    /// them.
    pub(crate) writers: Option<WritersKnown>,
}

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
    /// The sum of the distances of their `seq` from the first one of the part: an entry that exists twice in place of
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

/// A ledger's knowledge of its writers.
#[derive(Clone, Debug, Default)]
pub(crate) struct WritersKnown {
    /// Those that have not ended, had accepted entries which are not committed when they said how far they are, and have not said so
    /// for ten seconds.
    pub(crate) silent: Vec<SilentRow>,
    /// The next `seq` after the last commit, if the head names a lesser one now.
    pub(crate) head_was: Option<i64>,
}

/// A writer that has accepted entries which are not committed. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct SilentRow {
    pub(crate) writer: Uuid,
    pub(crate) host: Option<String>,
    pub(crate) started_at: Option<i64>,
    pub(crate) said_at: Option<i64>,
}
