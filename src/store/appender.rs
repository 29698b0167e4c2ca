//! The contract of a database's writing side: `Appender`, and what it is given and answers.

use std::time::Duration;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::end::{Altered, Left};
use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::platform::Origin;

/// The writing side of a database: one connection, one ledger.
pub(crate) trait Appender: Send {
    /// Commits rows, quarantined entries and the position that they reach in one transaction, or nothing.
    ///
    /// If an earlier attempt, whose answer was lost, has moved the writer's position beyond `batch.from`, this call does
    /// nothing and returns what that attempt did. If several attempts have, it returns what the first of them did, and the
    /// caller asks again. So it does if another process has the same writer, which the caller finds out by
    /// [`holds`](Self::holds). Dropping the future rolls back, or leaves such a lost answer.
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>>;

    /// The position up to which the queue of this writer is committed.
    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>>;

    /// Whether the ledger, or its quarantine, has an entry with this `id`. With a writer and one of its positions: whether it has
    /// no other entry `at` that position. It has none if that was quarantined, or removed.
    fn holds(&mut self, _id: Uuid, _at: Option<(Uuid, u64)>) -> BoxFuture<'_, Result<bool, AuditError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Asks for, or states, what is known of writers. A statement is committed. Dropping the future may leave that
    /// undone.
    fn writers<'a>(&'a mut self, _: OfWriters<'a>) -> BoxFuture<'a, Result<Vec<KnownWriter>, AuditError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Tries to add each quarantined entry to the ledger, in a transaction of its own that takes it out of quarantine.
    /// Entries that were added before an error stay added.
    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>>;

    /// A known defect of the database's library that can harm what it holds, with the remedy. It prevents no commit.
    fn defect(&self) -> Option<AuditError> {
        None
    }

    /// A finding since the last call that prevents no commit, but is for a person to look at: a trigger on our tables,
    /// or a position that somebody has changed.
    fn noticed(&mut self) -> Option<AuditError> {
        None
    }

    /// Whether entries of the ledger are not in its tree, and [`catch_up`](Self::catch_up) can add them.
    fn is_behind(&self) -> bool {
        false
    }

    /// Adds some of these entries, in a transaction of its own. Dropping the future adds none of them, or all.
    fn catch_up(&mut self) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Checks that what was committed is still where others find it. Returns the work, if there is some, that moves
    /// whatever the database keeps beside its main file into that file. It runs in parallel to batches, which do not
    /// wait for it, and returns false if something was in its way.
    ///
    /// # Errors
    /// If what was committed may be lost, as in [`append`](Self::append).
    fn tidy(&mut self) -> BoxFuture<'_, Result<Option<BoxFuture<'static, bool>>, AuditError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Moves what the database keeps beside its main file into that file, closes the connection, and waits until it is
    /// closed. For a connection that has failed too: what was committed on it is saved as far as it can be.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The rows and quarantined entries of one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append<'a> {
    /// The queue that the positions belong to.
    pub(crate) writer: Uuid,
    /// The position of that queue that the database has reached. If the database holds a lesser one, it was restored from
    /// a backup.
    pub(crate) reached: u64,
    /// The position before the first of `quarantined` and `rows`; not less than `reached`.
    pub(crate) from: u64,
    /// Quarantined entries, whose positions come before those of `rows`.
    pub(crate) quarantined: &'a [Quarantined],
    /// The greatest position that an earlier attempt can have reached.
    pub(crate) reachable: u64,
    pub(crate) rows: &'a [&'a Row],
    /// A row that an earlier attempt was refused. If there is one, it is tried after `rows`, and nothing is committed:
    /// the answer is [`Fault::Doubted`].
    pub(crate) doubted: Option<&'a Row>,
    /// The end of the ledger after the last rows that this process has added. `None` if it has added none.
    pub(crate) left: Option<Left>,
    /// The change that an earlier attempt found at the end of the ledger, and the row that reports it. If the end is
    /// still so, the row is added before `rows`, as a batch of its own that moves no position.
    pub(crate) altered: Option<(Altered, &'a Row)>,
    /// The writer's own account of itself. `None`: another one appends for it, because it is dead.
    pub(crate) standing: Option<Standing<'a>>,
    /// Nothing of the writer is left to settle after this.
    pub(crate) ends: bool,
}

/// A writer's own account of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) origin: &'a Origin,
    /// The position up to which its queue has accepted entries.
    pub(crate) accepted: u64,
}

/// A question or a statement about writers. Only the questions have answers.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "only a database knows writers")
)]
pub(crate) enum OfWriters<'a> {
    /// This writer goes on.
    Goes(Uuid, Standing<'a>),
    /// Nothing of this writer is left to settle.
    Ended(Uuid),
    /// Asks which writers have not ended.
    Open,
    /// Asks what is known of this writer.
    Known(Uuid),
}

/// The record of a writer in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct KnownWriter {
    pub(crate) writer: Uuid,
    pub(crate) accepted: u64,
    pub(crate) ended: bool,
    /// When it said last how far it had accepted entries, in microseconds since 1970.
    pub(crate) said_at: Option<i64>,
    /// The time since then, by the clock that has set it.
    pub(crate) silent: Duration,
    pub(crate) origin: Origin,
}

impl Append<'_> {
    /// Whether it adds entries, if all goes well, that have leaves.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(super) fn grows(&self) -> bool {
        self.doubted.is_none() && (!self.rows.is_empty() || self.altered.is_some())
    }

    /// The position after the last of `rows`.
    pub(crate) fn until(&self) -> u64 {
        self.from + self.quarantined.len() as u64 + self.rows.len() as u64
    }

    /// The reason why this cannot be appended to a database that has reached `position`. `None` if it can.
    pub(crate) fn impossible(&self, position: u64) -> Option<AppendError> {
        let error = |message| AuditError::new(ErrorKind::Store, message);
        if position > self.reachable {
            let error = error("the database knows positions of this writer that it never reached");
            return Some(AppendError { fault: Fault::Taken, error });
        }
        if self.ends && position > self.reached && position <= self.from {
            // The last commit of a dead process has arrived only now: what is lost has to be counted again.
            let error = error("the writer's position has changed meanwhile");
            return Some(AppendError { fault: Fault::Store, error });
        }
        let restored = || AppendError {
            fault: Fault::Restored { position },
            error: error("the database was restored from a backup"),
        };
        (position < self.reached).then(restored)
    }

    /// The row that reports the change found at the end of the ledger, or the error that asks for one.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn tells_of(&self, found: Altered) -> Result<&Row, AppendError> {
        match self.altered {
            Some((told, row)) if told == found => Ok(row),
            _ => Err(AppendError {
                fault: Fault::Altered(found),
                error: AuditError::new(ErrorKind::Store, "the end of the ledger is not as it was left"),
            }),
        }
    }
}

/// The effect of an append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// The position that the writer has reached.
    pub(crate) until: u64,
    /// The number of records up to that position that are rows. They are the last ones; the records before them are
    /// quarantined.
    pub(crate) rows: u64,
    /// The `seq` of the first row. `None` if there were no rows.
    pub(crate) first_seq: Option<u64>,
    /// The rows were there: an earlier attempt had added them, or another log, where the writer is a dead process.
    pub(crate) again: bool,
    /// The row that reports a change at the end of the ledger was added too.
    pub(crate) told: bool,
    /// When the batch before the rows was committed, by its writer's clock, in microseconds since 1970. `None` if there
    /// is none, or an earlier attempt has added the rows.
    pub(crate) before: Option<i64>,
}

/// An entry that the database can never accept.
#[derive(Clone, Debug)]
pub(crate) struct Quarantined {
    pub(crate) id: Option<Uuid>,
    pub(crate) error: String,
    /// The whole entry, in the queue's format.
    pub(crate) record: Vec<u8>,
    pub(crate) duplicate: bool,
}

/// The result of retrying the quarantined entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantineRetried {
    /// Entries that are rows of the ledger now.
    pub committed: u64,
    /// Entries that the database refused again, and that are still in quarantine.
    pub refused: u64,
}

/// The cause of a failed append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The database: try again later with the same rows.
    Store,
    /// The database, which has no room for this number of rows: try fewer. If they were `tried`, the connection is not
    /// to be used again.
    #[cfg_attr(
        not(any(feature = "_sqlite", feature = "postgres")),
        allow(dead_code, reason = "only a database has a disk")
    )]
    Room { tried: bool },
    /// One of the rows, which can never be stored.
    Entry,
    /// One of the rows, whose `id` is in the ledger already.
    Duplicate,
    /// Nobody: the rows were only tried, and the database accepts them. It refuses the doubted row or not.
    Doubted { refused: bool },
    /// Nobody: the database was restored from a backup, taken at this position.
    Restored { position: u64 },
    /// Nobody: another process has the same writer, and has used its positions.
    #[cfg_attr(
        not(any(feature = "_sqlite", feature = "postgres")),
        allow(dead_code, reason = "only a database is shared with other processes")
    )]
    Taken,
    /// Nobody: somebody has changed the end of the ledger. The next attempt has to report it.
    #[cfg_attr(
        not(any(feature = "_sqlite", feature = "postgres")),
        allow(dead_code, reason = "only a database is changed")
    )]
    Altered(Altered),
}

#[derive(Debug)]
pub(crate) struct AppendError {
    pub(crate) fault: Fault,
    pub(crate) error: AuditError,
}

/// The error of a database that has stored other rows than it was sent. `why` names what may be the cause.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn not_as_sent(why: &[String]) -> AppendError {
    let message = match why.first() {
        Some(suspect) => format!(
            "{suspect} keeps entries from being stored as they are: remove it, and everything that waits is committed"
        ),
        None => "the database has not stored the rows that it was sent: look for a trigger or a rule that drops or \
                 changes them, on the tables or on their partitions, and remove it"
            .to_owned(),
    };
    AppendError { fault: Fault::Store, error: AuditError::new(ErrorKind::Store, message) }
}

/// The notice about triggers, rules and the like on our tables.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn suspicious(suspects: &[String]) -> Option<AuditError> {
    let first = suspects.first()?;
    let others = match suspects.len() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    Some(AuditError::new(
        ErrorKind::Store,
        format!(
            "there is {first}{others}: every entry is read back before its commit is confirmed; remove it if it is not \
             meant to be there"
        ),
    ))
}

/// The notice about a position that somebody has changed.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn moved(writer: Uuid, named: u64, backed: u64) -> AuditError {
    AuditError::new(
        ErrorKind::Store,
        format!(
            "tracing_audit_positions names position {named} for the writer {writer}, and the batches and the quarantine \
             account for {backed}: somebody has changed it; the log goes on from {backed}"
        ),
    )
}
