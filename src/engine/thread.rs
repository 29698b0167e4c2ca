//! Starts the log's threads: the flusher's, which may block, and the clock's, which never does.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::oneshot;

use super::{
    flusher,
    notice::NOTICE_PAUSE,
    settings::Settings,
    shared::{Engine, EngineHandle, IS_FLUSHER},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{Clock, Detached, lock};
use crate::queue::Queue;

impl Engine {
    /// Starts the log's threads, of which the clock's may run already. The receiver delivers the outcome of the first
    /// connection, and if `must_open`, a failed one ends the log. If a thread cannot be started, the engine is returned
    /// closed.
    pub(crate) fn start(
        queue: Arc<dyn Queue>,
        settings: Settings,
        must_open: bool,
        clock: io::Result<Clock>,
    ) -> (Arc<EngineHandle>, oneshot::Receiver<Result<(), AuditError>>) {
        let (opened, outcome) = oneshot::channel();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().thread_name("tracing-audit-files").build();
        let handle = runtime.as_ref().ok().map(|runtime| runtime.handle().clone());
        let (clock, no_clock) = match clock {
            Ok(clock) => (Some(clock), None),
            Err(cause) => (None, Some(cause)),
        };
        let engine = Arc::new(Self::new(queue, settings, clock, handle));
        let started = no_clock.map_or(runtime, Err).map(Detached::new).and_then(|runtime| {
            let (over, is_over) = oneshot::channel();
            let on_thread = Arc::clone(&engine);
            let thread = std::thread::Builder::new().name("tracing-audit".to_owned());
            thread.spawn(move || on_thread.flush_until_the_end(&runtime, opened, must_open, over))?;
            if let Some(clock) = &engine.clock {
                clock.spawn(Arc::clone(&engine).attend(is_over));
            }
            Ok(())
        });
        if let Err(cause) = started {
            engine.status.failed(
                AuditError::new(ErrorKind::Closed, "the log's threads cannot be started").because(cause),
            );
            engine.close();
            engine.queue.ended(true);
            engine.end();
        }
        (Arc::new(EngineHandle(engine)), outcome)
    }

    /// Runs the flusher until it ends, on its own thread. Indexes are created there too.
    fn flush_until_the_end(
        &self,
        runtime: &Detached,
        opened: oneshot::Sender<Result<(), AuditError>>,
        must_open: bool,
        _over: oneshot::Sender<()>,
    ) {
        /// Ends the queue however the flusher ends.
        struct Ended<'a>(&'a Engine);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.close();
                self.0.queue.ended(!self.0.known.load(Ordering::Acquire));
            }
        }
        let _ended = Ended(self);
        IS_FLUSHER.set(true);
        runtime.block_on(async {
            tokio::select! {
                () = flusher::run(self, opened, must_open) => {}
                () = self.make_indexes() => {}
            }
        });
    }

    /// Runs everything that must go on while the flusher is blocked, until the flusher has ended: notices, the watch over
    /// the flusher, the queue's background work. Then ends the engine.
    async fn attend(self: Arc<Self>, is_over: oneshot::Receiver<()>) {
        let on_notice = &self.settings.on_notice;
        tokio::select! {
            _ = is_over => {}
            () = self.status.notify(on_notice) => {}
            () = self.keep_up() => {}
            () = self.status.watch_over(self.settings.commit_timeout) => {}
        }
        // A handler that never returns must not hold up a shutdown.
        drop(tokio::time::timeout(NOTICE_PAUSE, self.status.notify_once(on_notice)).await);
        self.end();
    }

    /// Wakes everybody who waits for the flusher, and ends the clock.
    fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
        // Dropping the senders wakes the waiters, which may run immediately: drop them outside the lock.
        let left = std::mem::take(&mut *lock(&self.commits));
        drop(left);
        if let Some(clock) = &self.clock {
            clock.stop();
        }
    }
}
