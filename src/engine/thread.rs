//! Starts the log's thread, and runs the flusher and the other tasks on it.

use std::sync::Arc;

use tokio::{runtime::Runtime, sync::oneshot};

use super::{
    flusher,
    notice::NOTICE_PAUSE,
    settings::Settings,
    shared::{Engine, EngineHandle, IS_FLUSHER},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::lock;
use crate::queue::Queue;

impl Engine {
    /// Starts the log's thread. The receiver delivers the outcome of the first connection, and if `must_open`, a
    /// failed one ends the thread. If no thread can be started, the engine is returned closed.
    pub(crate) fn start(
        queue: Arc<dyn Queue>,
        settings: Settings,
        must_open: bool,
    ) -> (Arc<EngineHandle>, oneshot::Receiver<Result<(), AuditError>>) {
        let (opened, outcome) = oneshot::channel();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().thread_name("tracing-audit-notice").build().map(Arc::new);
        let handle = runtime.as_ref().ok().map(|runtime| runtime.handle().clone());
        let engine = Arc::new(Self::new(queue, settings, handle));
        let started = runtime.and_then(|runtime| {
            let (engine, on_thread) = (Arc::clone(&engine), Arc::clone(&runtime));
            let thread = std::thread::Builder::new().name("tracing-audit".to_owned());
            let started = thread.spawn(move || engine.flush_until_the_end(&on_thread, opened, must_open));
            // True if the thread could not be started, or has ended already. The caller may be within a runtime,
            // where another runtime must not simply be dropped.
            if let Some(runtime) = Arc::into_inner(runtime) {
                runtime.shutdown_background();
            }
            started
        });
        if let Err(cause) = started {
            engine.status.failed(
                AuditError::new(ErrorKind::Closed, "the flusher's thread cannot be started").because(cause),
            );
            engine.end();
        }
        (Arc::new(EngineHandle(engine)), outcome)
    }

    /// Runs the flusher until it ends. Notices, the queue's background work and the creation of indexes are tasks on the
    /// same thread.
    fn flush_until_the_end(
        &self,
        runtime: &Runtime,
        opened: oneshot::Sender<Result<(), AuditError>>,
        must_open: bool,
    ) {
        /// Ends the engine, and with it every wait, however the thread ends.
        struct Ended<'a>(&'a Engine);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _ended = Ended(self);
        IS_FLUSHER.set(true);
        runtime.block_on(async {
            let on_notice = &self.settings.on_notice;
            tokio::select! {
                () = flusher::run(self, opened, must_open) => {}
                () = self.status.notify(on_notice) => {}
                () = self.keep_up() => {}
                () = self.make_indexes() => {}
            }
            // A handler that never returns must not hold up a shutdown.
            drop(tokio::time::timeout(NOTICE_PAUSE, self.status.notify_once(on_notice)).await);
        });
    }

    /// Rejects every append from now on, and wakes everybody who waits for the flusher.
    fn end(&self) {
        self.close();
        self.queue.ended();
        self.progress.send_modify(|progress| progress.ended = true);
        // Dropping the senders wakes the waiters, which may run immediately: drop them outside the lock.
        let left = std::mem::take(&mut *lock(&self.commits));
        drop(left);
    }
}
