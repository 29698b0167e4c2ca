//! Runs the flusher: takes batch after batch from the queue, and repeats each until it is committed.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{
    batch::{Batch, prepare},
    commit::Committer,
    pause::{Pause, panic_message, queue_watched, watched},
    recover::Recovery,
    tidy::Tidying,
    writers::{Writers, to_be_said},
};
use crate::engine::Engine;
use crate::error::{AuditError, ErrorKind};

/// The steps of catching up between two batches. One has as many entries as the largest batch.
const STEPS_BETWEEN: u32 = 2;

/// Runs until the log is stopped or nothing can be appended any more.
///
/// If `must_open`, `opened` delivers the outcome of the first connection, and a failure ends the flusher.
pub(in crate::engine) async fn run(
    engine: &Engine,
    opened: oneshot::Sender<Result<(), AuditError>>,
    must_open: bool,
) {
    let mut flusher = Flusher {
        committer: Committer::new(engine),
        recovery: Recovery::new(engine),
        pause: Pause::default(),
        probing: Pause::default(),
        tidying: Tidying::new(),
        writers: Writers::new(),
    };
    let mut failed = false;
    if must_open {
        let connected = AssertUnwindSafe(flusher.committer.connect_watched()).catch_unwind().await;
        let connected = connected.unwrap_or_else(|panic| {
            let message = format!("opening the audit database panicked: {}", panic_message(&*panic));
            Err(AuditError::new(ErrorKind::Store, message))
        });
        // Entries that a journal has accepted wait for room as well as for anything else, and so does a process that
        // starts.
        let waits = |error: &AuditError| error.lacks_room() && engine.settings.journal.is_some();
        let connected = connected.or_else(|error| {
            if !waits(&error) {
                return Err(error);
            }
            engine.status.failed(error);
            Ok(())
        });
        failed = connected.is_err();
        if flusher.committer.is_connected() {
            // It may have taken so long that the database counted as failing.
            engine.status.answered();
        }
        // Sending fails if the caller has stopped waiting.
        drop(opened.send(connected));
    }
    if !failed {
        while let Err(panic) = AssertUnwindSafe(flusher.work()).catch_unwind().await {
            engine.status.panicked(panic_message(&*panic));
            flusher.committer.disconnect().await;
            if !flusher.pause.rest(engine).await {
                break;
            }
        }
    }
    if let Some(tidying) = flusher.tidying.work.take() {
        // It has the file open: the last connection must be the writer's.
        drop(tidying.await);
    }
    if !engine.status.failing() {
        // The next log adds the leaves that are left.
        flusher.catch_up().await;
    }
    flusher.committer.look_back().await;
    flusher.committer.take_leave().await;
    flusher.committer.disconnect().await;
}

/// The flusher's state, which outlasts a panic.
struct Flusher<'e> {
    committer: Committer<'e>,
    recovery: Recovery,
    /// The pause before a queue that cannot be read, or a backlog that cannot be committed, is tried again.
    pause: Pause,
    /// The pause before a failing database is asked whether it has recovered, while there is nothing to commit.
    probing: Pause,
    tidying: Tidying,
    writers: Writers,
}

/// The next step of the flusher.
enum Next {
    /// Commits a batch of the log's own queue.
    Batch,
    /// Looks after the journals of dead processes.
    Recovery,
    /// Asks the failing database for an answer.
    Probe,
    /// Says in the ledger how far this log's writer has come.
    Say,
    /// Adds entries to the ledger's tree that are not in it.
    CatchUp,
    /// Goes on: everything is in the database's main file, or is being moved there.
    Tidied,
    /// Ends: there will never be a batch again.
    End,
}

impl Flusher<'_> {
    /// Takes batch after batch, until there can be no more.
    async fn work(&mut self) {
        let engine = self.committer.engine;
        if !self.connect_patiently().await {
            return;
        }
        let mut prepared: Option<Batch> = None;
        let mut position = engine.queue.counts().acknowledged;
        loop {
            self.recovery.recover(&mut self.committer, &mut self.pause).await;
            if Recovery::goes_on(engine) {
                self.writers.look(&mut self.committer, &mut self.pause).await;
            }
            if self.recovery.is_behind() {
                self.tidying.busy();
            }
            let mut batch = match prepared.take() {
                Some(batch) => batch,
                None => match self.wait().await {
                    Next::Batch => match queue_watched(engine, prepare(engine, position)).await {
                        Ok(batch) => batch,
                        Err(error) => {
                            engine.status.failed(error);
                            engine.status.retries();
                            if !self.pause.rest(engine).await {
                                return;
                            }
                            continue;
                        }
                    },
                    Next::Recovery | Next::Tidied => continue,
                    Next::Say => {
                        self.writers.say(&mut self.committer).await;
                        self.tidying.busy();
                        continue;
                    }
                    Next::CatchUp => {
                        self.catch_up().await;
                        continue;
                    }
                    Next::Probe => {
                        self.probe().await;
                        continue;
                    }
                    Next::End => return,
                },
            };
            position = batch.end();
            let next = async {
                // An error here is not reported: the same read fails again when it is the batch's turn.
                if engine.more_after(position) {
                    queue_watched(engine, prepare(engine, position)).await.ok()
                } else {
                    None
                }
            };
            let (settled, next) = tokio::join!(biased; self.settle(&mut batch), next);
            if !settled {
                return;
            }
            self.tidying.busy();
            self.catch_up().await;
            // The batch has grown if its first attempts failed, so the prepared one may not follow it.
            position = batch.from + batch.done as u64;
            self.pause = Pause::default();
            prepared = next.filter(|next| next.after == position);
        }
    }

    /// Retries until there is a connection, even if nothing is pending: a service looks at the health before it
    /// accepts requests. False: the log is stopping, or nothing will ever be pending.
    async fn connect_patiently(&mut self) -> bool {
        let engine = self.committer.engine;
        let mut pause = Pause::default();
        while !self.committer.is_connected() {
            match self.committer.connect_watched().await {
                Ok(()) => engine.status.answered(),
                Err(error) => {
                    engine.status.failed(error);
                    engine.status.retries();
                    self.recovery.look_on(engine);
                    if engine.abandoned() || !pause.rest(engine).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Next {
        let engine = self.committer.engine;
        let recovers = Recovery::goes_on(engine);
        if recovers && self.recovery.is_behind() {
            return if engine.queue.counts().pending() > 0 { Next::Batch } else { Next::Recovery };
        }
        let failing = engine.status.failing();
        if !failing {
            self.probing = Pause::default();
        }
        tokio::select! {
            biased;
            is_due = engine.wait_for_batch() => if is_due { Next::Batch } else { Next::End },
            () = self.recovery.changed(engine), if recovers => Next::Recovery,
            () = std::future::ready(()), if self.committer.is_behind() && !failing => Next::CatchUp,
            () = to_be_said(engine, self.writers.say_at, self.committer.said), if !failing => Next::Say,
            () = self.writers.changed(), if recovers && !failing => Next::Recovery,
            () = tokio::time::sleep(self.probing.next()), if failing => Next::Probe,
            () = self.tidying.step(&mut self.committer) => Next::Tidied,
        }
    }

    /// Adds entries to the ledger's tree that are not in it, more of them than a batch adds to the ledger.
    async fn catch_up(&mut self) {
        let engine = self.committer.engine;
        for _ in 0..STEPS_BETWEEN {
            if !self.committer.is_behind() {
                return;
            }
            if let Err(error) = watched(engine, self.committer.catch_up()).await {
                engine.status.failed(error);
                engine.status.retries();
                self.committer.disconnect().await;
                return;
            }
            self.tidying.busy();
        }
    }

    /// Asks the database for an answer, so that a log with nothing to commit learns that it has recovered.
    async fn probe(&mut self) {
        let engine = self.committer.engine;
        let answer = watched(engine, self.committer.position(engine.settings.writer)).await;
        match answer {
            Ok(_) => engine.status.answered(),
            Err(error) => {
                engine.status.failed(error);
                engine.status.retries();
                self.committer.disconnect().await;
            }
        }
    }

    /// Settles every record of the batch: commits or quarantines it, with as many attempts as that takes. False: the
    /// log was stopped before that.
    async fn settle(&mut self, batch: &mut Batch) -> bool {
        let engine = self.committer.engine;
        let mut pause = Pause::default();
        loop {
            let Err(error) = watched(engine, self.committer.attempt(batch)).await else { return true };
            engine.status.failed(error);
            // A connection that failed once is not trusted again.
            self.committer.disconnect().await;
            engine.status.retries();
            if !pause.rest(engine).await {
                return false;
            }
            if batch.done == 0 && batch.refused.is_empty() {
                // Read the batch again, with the records that have arrived since: if the database accepts some of them
                // together with a refused entry, that entry is at fault, not the database.
                match queue_watched(engine, prepare(engine, batch.after)).await {
                    Ok(grown) => *batch = grown,
                    Err(error) => engine.status.failed(error),
                }
            }
        }
    }
}
