//! Brings everything into the database's main file: once the log is idle, and when it is dropped.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{commit::Committer, pause::watched};
use crate::engine::Engine;

/// The time without a commit after which a log counts as idle. A busy log fills its write-ahead log and moves it in
/// large pieces, each page once; people who copy or look at a file come seconds later.
const IDLE: Duration = Duration::from_secs(5);
/// The pause before another try, if a reader or another writer was in the way.
const IN_THE_WAY: Duration = Duration::from_mins(1);

/// When everything is to be brought into the main file, and the work that does it.
pub(super) struct Tidying {
    /// `None`: nothing was committed since it was done last.
    due: Option<Instant>,
    pub(super) work: Option<JoinHandle<bool>>,
    /// The last request that is served when the work is done.
    asked: u64,
}

impl Tidying {
    /// Due a while after the start, because a dead process may have left something.
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now() + IDLE), work: None, asked: 0 }
    }

    /// Something was committed.
    pub(super) fn busy(&mut self) {
        self.due = Some(Instant::now() + IDLE);
    }

    /// Waits until the log is idle or somebody asks, and begins the work; or until the work is done. The work runs
    /// in parallel to the flusher. Dropping this loses nothing.
    pub(super) async fn step(&mut self, committer: &mut Committer<'_>) {
        let engine = committer.engine;
        if let Some(work) = &mut self.work {
            // A panic has been shown by the panic hook.
            let done = work.await.unwrap_or(false);
            self.work = None;
            self.served(engine, done);
            return;
        }
        let asked = engine.tidy_asked.load(Ordering::Acquire) > self.asked;
        let due = self.due;
        let idle = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        if !asked {
            tokio::select! {
                () = idle => {}
                () = engine.tidy.notified() => {}
            }
        }
        self.begin(committer).await;
    }

    async fn begin(&mut self, committer: &mut Committer<'_>) {
        let engine = committer.engine;
        let asked = engine.tidy_asked.load(Ordering::Acquire);
        let begun = watched(engine, committer.tidy()).await;
        self.asked = asked;
        if begun.is_ok() {
            committer.tell_harm().await;
        }
        match begun {
            Ok(Some(work)) => self.work = Some(tokio::spawn(work)),
            Ok(None) => self.served(engine, true),
            Err(error) => {
                engine.status.failed(error);
                engine.status.retries();
                committer.disconnect().await;
                committer.tell_harm().await;
                self.served(engine, false);
            }
        }
    }

    fn served(&mut self, engine: &Engine, done: bool) {
        self.due = (!done).then(|| Instant::now() + IN_THE_WAY);
        engine.progress.send_modify(|progress| progress.tidied = self.asked);
    }
}
