//! The end of a ledger: whether the head, the last entry, the last batch and what writers remember agree.

use uuid::Uuid;

/// No ledger is this long: a greater number was not counted.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) const SEQ_LIMIT: i64 = 1 << 62;

/// The end of a ledger as this process left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) next_seq: u64,
    /// The `id` of the entry before `next_seq`.
    pub(crate) last: Uuid,
}

/// A change at the end of a ledger that no writer has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Altered {
    /// The first `seq` that has no entry; `until` if only the head or the batches were changed.
    pub(crate) from: u64,
    /// The `seq` at which the ledger goes on, so that none is given out twice.
    pub(crate) until: u64,
    /// The entry that this process committed last is gone, or another has its `seq`.
    pub(crate) replaced: bool,
}

/// The end of a ledger as the database has it, read while its head is held.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    /// The next `seq`, as the head names it.
    pub(super) head: i64,
    /// The `seq` after the last entry, and the one after the last batch.
    pub(super) entries: Option<i64>,
    pub(super) batches: Option<i64>,
    /// The end after the last commit, as the head names it in addition to `next_seq`; before the first append of a
    /// process also the greatest one that a writer's row names.
    pub(super) given: i64,
    /// The `id` of the entry that this process should have committed last.
    pub(super) last: Option<Uuid>,
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl End {
    /// The `seq` of the next entry.
    pub(super) fn next_seq(&self, left: Option<Left>) -> Result<i64, Altered> {
        let remembered = left.map(|left| left.next_seq.cast_signed());
        let (entries, batches) = (self.entries.unwrap_or(0), self.batches.unwrap_or(0));
        let ends = [Some(self.head), Some(entries), Some(batches), Some(self.given), remembered];
        let next = ends.into_iter().flatten().filter(|end| (0..SEQ_LIMIT).contains(end)).max().unwrap_or(0);
        // A ledger that was removed whole, with its batches, continues: its head is as it was.
        if self.entries.is_none() && self.batches.is_none() && self.head == next {
            return Ok(next);
        }
        let replaced = left.is_some_and(|left| self.last != Some(left.last));
        if [self.head, entries, batches] == [next; 3] && !replaced {
            return Ok(next);
        }
        Err(Altered { from: entries.clamp(0, next).cast_unsigned(), until: next.cast_unsigned(), replaced })
    }
}

#[cfg(test)]
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn the_next_seq_is_none_that_anybody_knows_to_be_given_out() {
        let id = Uuid::from_u128(1);
        let left = Some(Left { next_seq: 10, last: id });
        let whole = End { head: 10, entries: Some(10), batches: Some(10), given: 10, last: Some(id) };
        assert_eq!(End::default().next_seq(None), Ok(0));
        assert_eq!((whole.next_seq(left), whole.next_seq(None)), (Ok(10), Ok(10)));
        let removed = End { entries: None, batches: None, last: None, ..whole };
        assert_eq!((removed.next_seq(left), removed.next_seq(None)), (Ok(10), Ok(10)));
        let altered = |end: End, left, from, replaced| {
            assert_eq!(end.next_seq(left), Err(Altered { from, until: 10, replaced }), "{end:?}");
        };
        // Rows removed, with and without the head and the batches.
        altered(End { entries: Some(5), ..whole }, None, 5, false);
        altered(End { entries: None, head: 0, batches: None, given: 10, ..whole }, None, 0, false);
        altered(End { head: 5, entries: Some(5), batches: Some(5), ..whole }, None, 5, false);
        let cut = End { head: 5, entries: Some(5), batches: Some(5), given: 5, last: None };
        assert_eq!(cut.next_seq(None), Ok(5));
        altered(cut, left, 5, true);
        // Other writers have written over confirmed entries.
        altered(End { last: Some(Uuid::nil()), ..whole }, left, 10, true);
        // A head or a batch that somebody has changed.
        for head in [3, -1, i64::MAX, i64::MIN] {
            altered(End { head, ..whole }, left, 10, false);
        }
        altered(End { batches: Some(7), ..whole }, left, 10, false);
        altered(End { head: 8, entries: Some(9), ..whole }, None, 9, false);
    }
}
