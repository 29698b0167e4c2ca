//! The connection to the database: what is sent over it, and the books of what it answers.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{
    batch::{Batch, Item},
    clock::LastCommit,
    pause::watched,
};
use crate::engine::Engine;
use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::platform::Origin;
use crate::queue::Outcome;
use crate::store::{Append, AppendError, Appender, Applied, Fault, KnownWriter, Left, OfWriters, Standing};

/// The time that the end of a log waits until the ledger knows of it.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// The connection to the database, and the commits over it.
pub(super) struct Committer<'e> {
    pub(super) engine: &'e Engine,
    pub(super) appender: Option<Box<dyn Appender>>,
    /// The writer under which this log's entries are committed: its own, unless another process has used the positions of
    /// that one.
    pub(super) own: Uuid,
    /// Nothing was committed under `own` yet, though the queue is further on.
    pub(super) is_anew: bool,
    /// The origin that the ledger records for `own`.
    pub(super) origin: Origin,
    /// Another process has used the positions of the dead writer whose entries were appended last.
    pub(super) is_displaced: bool,
    /// No append of this log's own records has tried to get beyond this position.
    reachable: u64,
    /// The end of the ledger after the last rows that this log has added.
    left: Option<Left>,
    /// The position up to which this log's writer had accepted entries at its last statement to the ledger. `None`: the
    /// ledger does not know it.
    pub(super) said: Option<u64>,
    /// Number of appends in which the database has accepted rows.
    pub(super) accepted: u64,
    /// The last row that the database has accepted.
    pub(super) accepted_last: Option<Row>,
    /// A row that the database has accepted in a transaction in which it refused another one.
    pub(super) accepted_beside: Option<Row>,
    /// The number of entries further on in the queue that were tried while the database refused all of a batch.
    pub(super) looked_at: u64,
    last_commit: LastCommit,
    /// The database has failed after rows were added, and no append has shown since whether they are still there.
    pub(super) is_doubtful: bool,
}

impl<'e> Committer<'e> {
    pub(super) fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            appender: None,
            own: engine.settings.writer,
            is_anew: false,
            origin: engine.settings.origin.clone(),
            is_displaced: false,
            reachable: 0,
            left: None,
            said: None,
            accepted: 0,
            accepted_last: None,
            accepted_beside: None,
            looked_at: 0,
            last_commit: LastCommit::default(),
            is_doubtful: false,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.appender.is_some()
    }

    /// Connects, and creates or migrates the tables. While that takes too long, the database counts as failing.
    pub(super) async fn connect_watched(&mut self) -> Result<(), AuditError> {
        let engine = self.engine;
        watched(engine, self.connect()).await
    }

    pub(super) async fn connect(&mut self) -> Result<(), AuditError> {
        let settings = &self.engine.settings;
        let connected = settings.store.connect(&settings.ledger).await;
        let mut appender = connected.inspect_err(|error| self.make_room(error))?;
        if let Some(defect) = appender.defect() {
            self.engine.status.noticed(defect);
        }
        while let Some(noticed) = appender.noticed() {
            self.engine.status.noticed(noticed);
        }
        self.appender = Some(appender);
        self.engine.migrated();
        Ok(())
    }

    /// Gives back what the queue holds in reserve on the database's file system, if that has no room.
    pub(super) fn make_room(&self, error: &AuditError) {
        if error.lacks_room() {
            self.engine.queue.give_room();
        }
    }

    /// Closes the connection, if there is one, and waits until it is closed. The next attempt opens another.
    pub(super) async fn disconnect(&mut self) {
        if let Some(appender) = self.appender.take() {
            // Something has failed. The party that finds out that files were changed is not always the one that
            // commits.
            self.is_doubtful = self.accepted > 0;
            appender.close().await;
        }
    }

    /// Checks that the committed entries are still there, and returns the work that brings them all into the main file.
    pub(super) async fn tidy(&mut self) -> Result<Option<BoxFuture<'static, bool>>, AuditError> {
        let found = match &mut self.appender {
            Some(appender) => appender.tidy().await,
            None => Ok(None),
        };
        self.is_doubtful |= found.is_err() && self.accepted > 0;
        found
    }

    /// The position up to which the queue of this writer is committed, as the database says.
    pub(super) async fn position(&mut self, writer: Uuid) -> Result<u64, AuditError> {
        if self.appender.is_none() {
            self.connect().await?;
        }
        match &mut self.appender {
            Some(appender) => {
                let position = appender.position(writer).await;
                if let Some(noticed) = appender.noticed() {
                    self.engine.status.noticed(noticed);
                }
                position
            }
            None => Err(not_connected()),
        }
    }

    /// Asks or says what is known of writers. Without a connection, nothing is said and none is known.
    pub(super) async fn writers(&mut self, call: OfWriters<'_>) -> Result<Vec<KnownWriter>, AuditError> {
        match &mut self.appender {
            Some(appender) => appender.writers(call).await,
            None => Ok(Vec::new()),
        }
    }

    /// Whether entries of the ledger are to be added to its tree.
    pub(super) fn is_behind(&self) -> bool {
        self.appender.as_ref().is_some_and(|appender| appender.is_behind())
    }

    /// Adds some entries of the ledger to its tree that are not in it.
    pub(super) async fn catch_up(&mut self) -> Result<(), AuditError> {
        let Some(appender) = &mut self.appender else { return Ok(()) };
        let caught_up = appender.catch_up().await;
        if let Some(noticed) = appender.noticed() {
            self.engine.status.noticed(noticed);
        }
        caught_up
    }

    /// Says in the ledger how far this log's writer has accepted entries.
    pub(super) async fn say(&mut self) -> Result<(), AuditError> {
        let (own, origin) = (self.own, self.origin.clone());
        let accepted = self.engine.queue.counts().appended;
        // A writer under which nothing was committed yet begins where the queue is: with its first batch.
        if !self.is_connected() || self.is_anew {
            return Ok(());
        }
        self.engine.known.store(true, Ordering::Release);
        let standing = Standing { origin: &origin, accepted };
        self.writers(OfWriters::Goes(own, standing)).await?;
        self.said = Some(accepted);
        Ok(())
    }

    /// Says in the ledger that this log's writer has ended, if nothing of it is left to settle.
    pub(super) async fn take_leave(&mut self) {
        let engine = self.engine;
        let counts = engine.queue.counts();
        if !counts.closed
            || counts.pending() > 0
            || !self.is_connected()
            || !engine.known.load(Ordering::Acquire)
        {
            return;
        }
        // An error leaves the journal to the next log, which says it.
        let ended = async {
            if self.own != engine.settings.writer {
                self.writers(OfWriters::Ended(self.own)).await?;
            }
            self.writers(OfWriters::Ended(engine.settings.writer)).await
        };
        if let Ok(Ok(_)) = tokio::time::timeout(LEAVE_WITHIN, ended).await {
            engine.known.store(false, Ordering::Release);
        }
    }

    /// The database was restored from a backup, so its end is not the one that this log has left.
    pub(super) fn restored(&mut self, batch: &mut Batch, position: u64) {
        self.left = None;
        batch.report_lost(self.engine, position);
    }

    /// Does as `send`, which asks besides whether what an earlier attempt has added is of this process.
    pub(super) async fn send_once(
        &mut self,
        batch: &Batch,
        rows: &[&Row],
        doubted: Option<&Row>,
    ) -> Result<Applied, AppendError> {
        // Only the database knows how far a dead process got.
        let own = batch.writer == self.engine.settings.writer;
        self.reachable = if own { self.reachable.max(batch.end()) } else { self.reachable };
        let Some(appender) = &mut self.appender else {
            return Err(AppendError { fault: Fault::Store, error: not_connected() });
        };
        let accepted = self.engine.queue.counts().appended;
        if own {
            self.engine.known.store(true, Ordering::Release);
        }
        let append = Append {
            writer: if own { self.own } else { batch.writer },
            reached: if own && self.is_anew { 0 } else { batch.reached() },
            from: batch.from + batch.done as u64,
            quarantined: &batch.refused,
            reachable: if own { self.reachable } else { u64::MAX },
            rows,
            doubted,
            left: self.left,
            altered: batch.altered.as_ref().map(|(found, row)| (*found, row)),
            standing: own.then_some(Standing { origin: &self.origin, accepted }),
            ends: batch.ends,
        };
        let applied = appender.append(append).await;
        if let Some(noticed) = appender.noticed() {
            self.engine.status.noticed(noticed);
        }
        if own && doubted.is_none() && applied.is_ok() {
            (self.said, self.is_anew) = (Some(accepted), false);
        }
        applied
    }

    /// Writes the books of a commit, made now or in an earlier attempt whose answer was lost.
    pub(super) fn applied(&mut self, batch: &mut Batch, applied: Applied) {
        self.is_doubtful = false;
        let reached = usize::try_from(applied.until - batch.from).unwrap_or(usize::MAX);
        let quarantined = std::mem::take(&mut batch.refused);
        // If an earlier attempt ended in a panic, its refused items are forgotten, but the database knows how many
        // they were.
        let first_row = reached.saturating_sub(usize::try_from(applied.rows).unwrap_or(usize::MAX));
        let malformed = batch.rows(first_row..reached).iter().filter(|row| row.problems.is_some()).count();
        // Gap entries that precede the batch: an earlier attempt wrote them about a restored database.
        let before = applied.rows.saturating_sub(reached as u64);
        let last = batch.items.get(..reached).and_then(<[Item]>::last);
        if let (Some(before), Some(first_seq)) = (applied.before, applied.first_seq) {
            let is_own = self.left.is_some_and(|left| left.next_seq == first_seq);
            if let Some(backwards) = self.last_commit.compare(before, is_own) {
                self.engine.status.noticed(backwards);
            }
        }
        // Entries of a dead process that another log has written are not those that this one has left.
        if let (Some(first_seq), Some(Item::Row(row))) = (applied.first_seq, last)
            && (!applied.again || batch.writer == self.engine.settings.writer)
        {
            self.left = Some(Left { next_seq: first_seq + applied.rows, last: row.id });
        }
        let told = if applied.told { batch.altered.take().iter().len() as u64 } else { 0 };
        let outcome = Outcome {
            committed: applied.rows + told,
            quarantined: first_row.saturating_sub(batch.done) as u64,
            damaged: std::mem::take(&mut batch.damaged),
            malformed: malformed as u64,
            gaps: told + before + batch.gaps.saturating_sub(batch.done).min(reached - batch.done) as u64,
        };
        if applied.rows > 0 {
            self.accepted += 1;
            self.accepted_last = if let Some(Item::Row(row)) = last { Some(row.clone()) } else { None };
        }
        if batch.writer != self.engine.settings.writer {
            self.engine.recovered(outcome);
            batch.done = reached;
            return;
        }
        let first_quarantined = batch.from + batch.done as u64 + 1;
        let first_row = batch.from + first_row as u64 + 1;
        let first_record = batch.from + batch.gaps as u64 + 1;
        self.engine.acknowledge(applied.until, outcome, |position| {
            if position < first_record {
                return Err(AuditError::new(
                    ErrorKind::Store,
                    "the bytes of this entry in the journal are gone or fail their checksum",
                ));
            }
            if let (Some(row), Some(first_seq)) = (position.checked_sub(first_row), applied.first_seq) {
                return Ok(first_seq + before + row);
            }
            let index = usize::try_from(position.saturating_sub(first_quarantined)).ok();
            let entry = index.and_then(|index| quarantined.get(index));
            let duplicate = entry.is_some_and(|entry| entry.duplicate);
            let why = entry.map_or("the database refuses this entry", |entry| &entry.error);
            Err(AuditError::new(
                if duplicate { ErrorKind::Duplicate } else { ErrorKind::Quarantined },
                format!("set aside in quarantine: {why}"),
            ))
        });
        batch.done = reached;
    }
}

fn not_connected() -> AuditError {
    AuditError::new(ErrorKind::Store, "there is no connection to the audit database")
}
