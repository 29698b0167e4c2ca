//! Notices a clock that goes backwards, by the time at which the batch before was committed.

use crate::entry::{Moment, from_micros};
use crate::error::{AuditError, ErrorKind};

/// The most that a clock may go backwards without a notice, in microseconds: time servers correct clocks by less.
const MOMENT: i64 = 1_000_000;

/// The state of the clock at the last commit.
#[derive(Default)]
pub(super) struct LastCommit {
    /// The clock was behind the one of another writer when it was compared last.
    is_behind: bool,
}

impl LastCommit {
    /// Compares the clock with the time of the batch before, which this log has added or another one. Returns the error
    /// to report: a step back of the own clock each time, and a clock that is behind another writer's once, while it
    /// is.
    pub(super) fn compare(&mut self, before: i64, is_own: bool) -> Option<AuditError> {
        let now = Moment::now().micros;
        let is_behind = now < before.saturating_sub(MOMENT);
        let is_told = is_behind && (is_own || !self.is_behind);
        if !is_own {
            self.is_behind = is_behind;
        }
        let (now, before) = (from_micros(now), from_micros(before));
        is_told.then(|| {
            AuditError::new(
                ErrorKind::Store,
                format!(
                    "the clock has gone backwards, or is behind another writer's: a batch is committed at {now:?}, and the \
                     one before it was at {before:?}; queries by ts or by the time of commit may leave out entries in \
                     between, and those by from_seq do not"
                ),
            )
        })
    }
}
