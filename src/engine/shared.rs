//! What emitters, writers and the flusher share: the queue, who waits for what, and when to wake whom.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    runtime::{Handle, Runtime},
    sync::{Notify, oneshot, watch},
};
use uuid::Uuid;

use super::{
    flusher,
    health::{Condition, Trouble},
    notice::{NOTICE_PAUSE, OnNotice, Told},
    stats::History,
};
use crate::{
    AuditError, Health, IndexOn, Stats, Store, WhenFull,
    error::Kind,
    interpret::Defaults,
    platform::{Process, block_on, lock},
    queue::{Due, Outcome, Queue, Refused, journal::Place},
    record::Limits,
};

/// Between two attempts to sync.
const FIRST_UPKEEP_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_UPKEEP_PAUSE: Duration = Duration::from_secs(10);

/// Between two attempts to make an index.
const FIRST_INDEX_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_INDEX_PAUSE: Duration = Duration::from_mins(1);

/// As long as Tokio's own clock reaches.
const FAR_FUTURE: Duration = Duration::from_hours(24 * 365 * 30);

/// How long dropping the log, or its last writer, waits for what is pending.
const DROP_FLUSH: Duration = Duration::from_secs(5);

thread_local! {
    /// On the flusher's thread nobody may wait for the flusher.
    static IS_FLUSHER: Cell<bool> = const { Cell::new(false) };
    /// The calls of `committed` that are running on this thread, innermost last.
    static COMMITTING: RefCell<Vec<Committing>> = const { RefCell::new(Vec::new()) };
}

/// The events of one call of `committed`.
struct Committing {
    /// Tells engines apart; never followed.
    engine: *const Engine,
    events: Vec<Result<Accepted, AuditError>>,
}

/// An accepted entry, and where its `seq` will be told.
struct Accepted {
    position: u64,
    seq: oneshot::Receiver<Result<u64, AuditError>>,
}

/// What the builder decided.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) store: Store,
    pub(crate) ledger: String,
    /// Names the queue in the database.
    pub(crate) writer: Uuid,
    /// Where journals of dead processes are.
    pub(crate) journal: Option<Place>,
    /// Pending entries at which a batch starts.
    pub(crate) batch_size: usize,
    /// Age of the oldest pending entry at which a batch starts.
    pub(crate) flush_interval: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) when_full: WhenFull,
    pub(crate) limits: Limits,
    pub(crate) defaults: Defaults,
    pub(crate) on_notice: OnNotice,
    /// Made beside, if they are not there.
    pub(crate) indexes: Vec<IndexOn>,
}

/// Where somebody waits for the `seq` of one entry.
pub(crate) type CommitWaiter = oneshot::Sender<Result<u64, AuditError>>;

fn forked() -> AuditError {
    AuditError::new(
        Kind::Closed,
        "the audit log was opened before this process was forked: open one in each process, after the fork",
    )
}

/// How far the flusher is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    acknowledged: u64,
    /// The flusher's thread is gone.
    ended: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) settings: Settings,
    /// Up to this position somebody waits, so batches start at once.
    urgent: AtomicU64,
    /// Nobody can append any more; the flusher drains what is there and ends.
    released: AtomicBool,
    stop: AtomicBool,
    /// A wait for room has been in vain and nothing was acknowledged since.
    overdue: AtomicBool,
    wake: Notify,
    stopped: Notify,
    progress: watch::Sender<Progress>,
    commits: Mutex<BTreeMap<u64, CommitWaiter>>,
    condition: Condition,
    history: Mutex<History>,
    told: Mutex<Told>,
    /// Why an index cannot be made, until that is told.
    unindexed: Mutex<Option<AuditError>>,
    /// There may be something to tell people.
    noteworthy: Notify,
    /// There may be something to do for the queue.
    upkeep: Notify,
    /// The log has connected.
    tables_are_there: Notify,
    /// The process in which the flusher's thread runs.
    process: Process,
    /// The flusher's runtime, which keeps time for callers that may have none.
    runtime: Option<Handle>,
}

/// Keeps the engine alive: held by the log, its writers and its layers, not by the flusher.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Engine>);

impl std::ops::Deref for Alive {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.process.is_another() {
            return;
        }
        self.queue.close();
        self.released.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Engine {
    /// Starts the flusher. The receiver tells how its first connection went; if `must_open`, a failed one ends
    /// it. If no thread can be started the engine comes back closed.
    pub(crate) fn start(
        queue: Arc<dyn Queue>,
        settings: Settings,
        must_open: bool,
    ) -> (Arc<Alive>, oneshot::Receiver<Result<(), AuditError>>) {
        let (opened, outcome) = oneshot::channel();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().thread_name("tracing-audit-notice").build().map(Arc::new);
        let engine = Arc::new(Self {
            queue,
            settings,
            urgent: AtomicU64::new(0),
            released: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            wake: Notify::new(),
            stopped: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            commits: Mutex::default(),
            condition: Condition::default(),
            history: Mutex::default(),
            told: Mutex::default(),
            unindexed: Mutex::default(),
            noteworthy: Notify::new(),
            upkeep: Notify::new(),
            tables_are_there: Notify::new(),
            process: Process::current(),
            runtime: runtime.as_ref().ok().map(|runtime| runtime.handle().clone()),
        });
        let started = runtime.and_then(|runtime| {
            let (engine, on_thread) = (Arc::clone(&engine), Arc::clone(&runtime));
            let thread = std::thread::Builder::new().name("tracing-audit".to_owned());
            let started = thread.spawn(move || engine.flush_until_the_end(&on_thread, opened, must_open));
            // If the thread could not be started, or has ended already. The caller may be within a runtime, where
            // another may not simply be dropped.
            if let Some(runtime) = Arc::into_inner(runtime) {
                runtime.shutdown_background();
            }
            started
        });
        if let Err(cause) = started {
            engine.failed(
                AuditError::new(Kind::Closed, "the flusher's thread cannot be started").because(cause),
            );
            engine.end();
        }
        (Arc::new(Alive(engine)), outcome)
    }

    fn flush_until_the_end(
        &self,
        runtime: &Runtime,
        opened: oneshot::Sender<Result<(), AuditError>>,
        must_open: bool,
    ) {
        /// Whatever ends the thread, whoever waits for it is told.
        struct Ended<'a>(&'a Engine);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _ended = Ended(self);
        IS_FLUSHER.set(true);
        runtime.block_on(async {
            tokio::select! {
                () = flusher::run(self, opened, must_open) => {}
                () = self.notify() => {}
                () = self.keep_up() => {}
                () = self.make_indexes() => {}
            }
            // A handler that never returns must not keep a shutdown waiting.
            drop(tokio::time::timeout(NOTICE_PAUSE, self.notify_once()).await);
        });
    }

    fn end(&self) {
        self.close();
        self.queue.ended();
        self.progress.send_modify(|progress| progress.ended = true);
        // Whom this wakes may run at once: not under the lock.
        let left = std::mem::take(&mut *lock(&self.commits));
        drop(left);
    }

    /// Appends or refuses, without waiting.
    pub(crate) fn try_append(
        &self,
        record: &[u8],
        waiter: &mut Option<CommitWaiter>,
    ) -> Result<u64, Refused> {
        if self.process.is_another() {
            // Before any lock: who held it at the fork does not run here.
            return Err(Refused::Closed);
        }
        let appended = if waiter.is_some() {
            // Under one lock, so that the flusher cannot commit the entry before somebody waits for it.
            let mut commits = lock(&self.commits);
            let appended = self.queue.append(record);
            if let Ok(appended) = appended
                && let Some(waiter) = waiter.take()
            {
                commits.insert(appended.position, waiter);
            }
            appended
        } else {
            self.queue.append(record)
        };
        match appended {
            Ok(appended) => {
                if appended.wake {
                    self.wake.notify_one();
                }
                if appended.upkeep {
                    self.upkeep.notify_one();
                }
            }
            // Full of bytes, perhaps, and far from a batch in number.
            Err(Refused::Full) => self.urge(u64::MAX),
            Err(_) => {}
        }
        appended.map(|appended| appended.position)
    }

    /// Appends, waiting for room as [`WhenFull`] says but no longer than `patience`. What is refused in the
    /// end is counted as rejected; what is abandoned by dropping the future was never offered.
    pub(crate) async fn accept(
        &self,
        record: &[u8],
        mut waiter: Option<CommitWaiter>,
        patience: Duration,
    ) -> Result<u64, AuditError> {
        let mut progress = self.progress.subscribe();
        let mut timer = None;
        loop {
            progress.mark_unchanged();
            match self.try_append(record, &mut waiter) {
                Ok(position) => return Ok(position),
                Err(Refused::Full) => {}
                Err(refused) => return Err(self.reject(refused)),
            }
            let timer = match (&mut timer, self.settings.when_full) {
                (Some(timer), _) => timer,
                (none, WhenFull::Block { timeout }) if !self.overdue.load(Ordering::Relaxed) => {
                    none.insert(Box::pin(self.timer(timeout.min(patience))))
                }
                _ => return Err(self.reject(Refused::Full)),
            };
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = timer => {
                    // The wait was as long as configured, not cut short by this caller.
                    if self.settings.when_full.waits_at_most(patience) {
                        self.overdue.store(true, Ordering::Relaxed);
                    }
                    return Err(self.reject(Refused::Full));
                }
            }
        }
    }

    /// Like [`accept`](Self::accept), on a thread that may not be able to wait asynchronously.
    pub(crate) fn accept_blocking(&self, record: &[u8]) -> Result<u64, AuditError> {
        match self.try_append(record, &mut None) {
            Err(refused) if IS_FLUSHER.get() => Err(self.reject(refused)),
            Err(_) => block_on(self.accept(record, None, Duration::MAX)),
            Ok(position) => Ok(position),
        }
    }

    /// Counts an entry that will never be stored, and says why.
    pub(crate) fn reject(&self, why: Refused) -> AuditError {
        if self.process.is_another() {
            return forked();
        }
        if why == Refused::Full {
            // First, so that the commit which tells of it comes later and ends it.
            self.condition.set(Trouble::Rejecting);
        }
        self.queue.reject(why);
        // The flusher may be asleep, and the loss is to be told.
        self.wake.notify_one();
        let error = match why {
            Refused::Full => AuditError::new(
                Kind::Full,
                "the audit queue is full: the database does not keep up, or cannot be written",
            ),
            Refused::Closed => {
                AuditError::new(Kind::Closed, "the audit log is shut down and accepts nothing more")
            }
            Refused::TooLarge => {
                let limits = self.settings.limits;
                AuditError::new(
                    Kind::TooLarge,
                    format!(
                        "the entry is too large: at most {} bytes a text and {} bytes in all",
                        limits.value, limits.entry
                    ),
                )
            }
        };
        self.noteworthy.notify_one();
        if why == Refused::TooLarge { error } else { self.blame(error) }
    }

    /// Adds what the store last said, if that is still so.
    fn blame(&self, error: AuditError) -> AuditError {
        match lock(&self.history).last_error() {
            Some(cause) if self.failing() => error.because(cause),
            _ => match self.queue.counts().trouble {
                Some(trouble) => error.because(std::io::Error::from(trouble)),
                None => error,
            },
        }
    }

    /// Refuses every append from now on.
    fn close(&self) {
        self.queue.close();
        self.condition.set(Trouble::Closed);
        // Who waits for room waits in vain.
        self.progress.send_modify(|_| ());
    }

    /// What becomes of an event: accepted or counted as rejected. A call of `committed` is told which; to
    /// anybody else there is nobody to tell.
    pub(crate) fn emit(&self, record: &[u8]) {
        let mine = |call: &Committing| std::ptr::eq(call.engine, self);
        // While the thread's locals are being destroyed, no call runs on it any more.
        let is_mine = COMMITTING.try_with(|calls| calls.borrow().iter().any(mine)).unwrap_or(false);
        if !is_mine {
            drop(self.accept_blocking(record));
            return;
        }
        let outcome = block_on(self.accept_to_commit(record, self.settings.commit_timeout));
        COMMITTING.with_borrow_mut(|calls| {
            if let Some(call) = calls.iter_mut().rev().find(|call| mine(call)) {
                call.events.push(outcome);
            }
        });
    }

    async fn accept_to_commit(&self, record: &[u8], patience: Duration) -> Result<Accepted, AuditError> {
        let (waiter, seq) = oneshot::channel();
        let position = self.accept(record, Some(waiter), patience).await?;
        Ok(Accepted { position, seq })
    }

    /// Appends one entry and waits until it is durable.
    pub(crate) async fn commit(&self, record: &[u8]) -> Result<u64, AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        let patience = self.settings.commit_timeout;
        let mut deadline = pin!(self.timer(patience));
        let accepted = self.accept_to_commit(record, patience).await?;
        self.urge(accepted.position);
        self.seq_of(accepted, &mut deadline).await
    }

    /// Runs `emit` and waits until every event of this log that it has emitted on this thread is durable.
    pub(crate) async fn committed(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        /// Whether `emit` returns or panics, its call is over.
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                COMMITTING.with_borrow_mut(Vec::pop);
            }
        }
        if self.process.is_another() {
            return Err(forked());
        }
        let mut deadline = pin!(self.timer(self.settings.commit_timeout));
        let events = {
            COMMITTING.with_borrow_mut(|calls| calls.push(Committing { engine: self, events: Vec::new() }));
            let _over = Over;
            emit();
            COMMITTING.with_borrow_mut(|calls| calls.last_mut().map(|call| std::mem::take(&mut call.events)))
        };
        let events = events.unwrap_or_default();
        if events.is_empty() {
            return Err(AuditError::new(
                Kind::Wiring,
                "no audit event arrived from within committed(): see check_wiring()",
            ));
        }
        let last = events.iter().flatten().map(|accepted| accepted.position).max();
        self.urge(last.unwrap_or(0));
        let mut seqs = Vec::with_capacity(events.len());
        for accepted in events {
            seqs.push(self.seq_of(accepted?, &mut deadline).await?);
        }
        Ok(seqs)
    }

    /// Waits for an accepted entry to be durable.
    async fn seq_of(
        &self,
        accepted: Accepted,
        deadline: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Result<u64, AuditError> {
        tokio::select! {
            biased;
            answer = accepted.seq => answer.unwrap_or_else(|_| {
                Err(self.blame(AuditError::new(Kind::Pending, "the audit log ended before the commit")))
            }),
            () = deadline => {
                let timeout = self.settings.commit_timeout;
                let message = format!("accepted, but not committed within {timeout:?}; it may still be");
                Err(self.blame(AuditError::new(Kind::Pending, message)))
            }
        }
    }

    /// Commits everything that was accepted before this call, within `patience`.
    pub(crate) async fn flush(&self, patience: Duration) -> Result<(), AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        let until = self.queue.counts().appended;
        let reached = self.progress.borrow().acknowledged;
        if reached >= until {
            return Ok(());
        }
        self.urge(until);
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.acknowledged >= until || progress.ended) => {}
            () = self.timer(patience) => {}
        }
        let Progress { acknowledged: reached, ended } = *self.progress.borrow();
        if reached >= until {
            return Ok(());
        }
        let left = until - reached;
        Err(self.blame(if ended {
            AuditError::new(
                Kind::Closed,
                format!("the audit log has ended with {left} accepted entries not committed"),
            )
        } else {
            AuditError::new(
                Kind::Pending,
                format!("{left} accepted entries are not committed yet; they stay queued"),
            )
        }))
    }

    /// The flush of a handle that is dropped. There is nobody to tell how it went; what is pending stays queued
    /// and is counted. In a journal it stays also when the process ends, so a failing database is not waited for.
    pub(crate) fn flush_when_dropped(&self) {
        let stays = self.settings.journal.is_some() && self.failing();
        if !IS_FLUSHER.get() && !stays {
            drop(block_on(self.flush(DROP_FLUSH)));
        }
    }

    /// Accepts nothing more, flushes, and ends the flusher.
    pub(crate) async fn shutdown(&self, patience: Duration) -> Result<(), AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        if !self.queue.counts().closed {
            self.tell_gap();
        }
        self.close();
        let start = Instant::now();
        let left = || patience.saturating_sub(start.elapsed());
        let mut flushed = self.flush(left()).await;
        if flushed.is_ok() {
            // What was rejected meanwhile is told by one more entry.
            flushed = self.flush(left()).await;
        }
        self.stop.store(true, Ordering::Release);
        self.stopped.notify_one();
        self.wake.notify_one();
        // The connection is closed too, if there is time.
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.ended) => {}
            () = self.timer(left()) => {}
        }
        flushed
    }

    fn urge(&self, until: u64) {
        self.urgent.fetch_max(until.min(self.queue.counts().appended), Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Resolves after this long, or when the flusher's thread is gone.
    fn timer(&self, after: Duration) -> impl Future<Output = ()> + use<> {
        let (mut expired, waiting) = oneshot::channel::<()>();
        if let Some(runtime) = &self.runtime {
            // Ends with whoever waits, so that short waits do not leave long timers behind.
            runtime.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    () = expired.closed() => {}
                }
            });
        }
        async move {
            // The sender is only ever dropped: an error is the signal.
            drop(waiting.await);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.process.is_another() {
            return Stats::default();
        }
        Stats::of(self.queue.counts(), &lock(&self.history))
    }

    pub(crate) fn health(&self) -> Health {
        self.condition.health()
    }

    /// Runs `work` on the flusher's runtime, whatever runtime the caller has.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, AuditError>> + Send + 'static,
    ) -> Result<T, AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        let (done, outcome) = oneshot::channel();
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // Whoever asked may have gone.
                drop(done.send(work.await));
            });
        }
        outcome.await.unwrap_or_else(|_| {
            Err(AuditError::new(Kind::Closed, "the audit log ended before this was done"))
        })
    }
}

/// Telling people.
impl Engine {
    /// Tells whenever there is something to tell, with a pause after each time.
    async fn notify(&self) {
        loop {
            self.noteworthy.notified().await;
            if self.notify_once().await {
                tokio::time::sleep(NOTICE_PAUSE).await;
            }
        }
    }

    /// False: there was nothing to tell.
    async fn notify_once(&self) -> bool {
        let unindexed = lock(&self.unindexed).take();
        let notice = lock(&self.told).next(self.health(), self.stats(), unindexed);
        let Some(notice) = notice else { return false };
        let OnNotice(tell) = self.settings.on_notice.clone();
        // On a thread that may block for as long as it likes. Should it panic, the panic hook has told of it, and
        // so it has if there can be no such thread.
        let telling = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(move || tell(notice))));
        if let Ok(telling) = telling {
            drop(telling.await);
        }
        true
    }
}

/// The flusher's side.
impl Engine {
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Does for the queue what is due, whenever something is.
    async fn keep_up(&self) {
        loop {
            self.upkeep.notified().await;
            let mut pause = FIRST_UPKEEP_PAUSE;
            while let Some(due) = self.queue.upkeep_due() {
                tokio::time::sleep(due.after).await;
                match self.keep_up_once(due).await {
                    Ok(()) => self.clear(Trouble::Unsynced),
                    Err(cause) => {
                        if due.by.is_some() {
                            self.unsynced(cause);
                        }
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_UPKEEP_PAUSE);
                    }
                }
            }
        }
    }

    /// Makes what is asked for and is not there, once the log has connected, and then rests.
    async fn make_indexes(&self) {
        self.tables_are_there.notified().await;
        for on in &self.settings.indexes {
            let (mut pause, mut told) = (FIRST_INDEX_PAUSE, None);
            loop {
                // It may call what is not ours: for a password.
                let made = AssertUnwindSafe(self.settings.store.create_index(on)).catch_unwind().await;
                let error = match made {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => error,
                    Err(_) => {
                        lock(&self.history).panicked();
                        AuditError::new(Kind::Store, "making an index has panicked")
                    }
                };
                let message = error.to_string();
                if told.as_ref() != Some(&message) {
                    told = Some(message);
                    *lock(&self.unindexed) = Some(error);
                    self.noteworthy.notify_one();
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_INDEX_PAUSE);
            }
        }
        std::future::pending::<()>().await;
    }

    async fn keep_up_once(&self, due: Due) -> std::io::Result<()> {
        let queue = Arc::clone(&self.queue);
        // Starting the thread panics if there can be none. The panic hook has told of it.
        let work = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(move || queue.upkeep())));
        let Ok(work) = work else { return Err(std::io::ErrorKind::OutOfMemory.into()) };
        let mut work = pin!(work);
        let done = match due.by {
            None => work.await,
            Some(by) => match tokio::time::timeout(by.saturating_sub(due.after), &mut work).await {
                Ok(done) => done,
                Err(late) => {
                    self.unsynced(std::io::Error::new(std::io::ErrorKind::TimedOut, late));
                    work.await
                }
            },
        };
        done.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }

    fn clear(&self, trouble: Trouble) {
        if self.condition.clear(trouble) {
            self.noteworthy.notify_one();
        }
    }

    /// What was accepted may not survive a loss of power.
    fn unsynced(&self, cause: std::io::Error) {
        let message = "the journal cannot be brought to stable storage in time";
        lock(&self.history).failed(AuditError::new(Kind::Store, message).because(cause));
        if self.condition.set(Trouble::Unsynced) {
            self.noteworthy.notify_one();
        }
    }

    /// What dead processes left was looked for: whether all of it could be adopted and read.
    pub(crate) fn left_behind(&self, error: Option<AuditError>) {
        let Some(error) = error else { return self.clear(Trouble::LeftBehind) };
        lock(&self.history).failed(error);
        if self.condition.set(Trouble::LeftBehind) {
            self.noteworthy.notify_one();
        }
    }

    /// False: there is nothing to tell.
    fn tell_gap(&self) -> bool {
        let told = self.queue.tell_gap();
        if told.is_some_and(|appended| appended.upkeep) {
            self.upkeep.notify_one();
        }
        told.is_some()
    }

    /// Waits until a batch should start. False: there is nothing left to do, ever.
    ///
    /// `due` is when one should start at the latest, kept where a wait is given up and begun again.
    pub(crate) async fn wait_for_batch(&self, due: &mut Option<Instant>) -> bool {
        let batch_size = self.settings.batch_size as u64;
        loop {
            // Read before the counts: what was appended before it was set is counted.
            let released = self.released.load(Ordering::Acquire);
            let counts = self.queue.wake_at(if due.is_some() { batch_size } else { 1 });
            let pending = counts.pending();
            // A database that takes what is left gets it.
            if self.stopping() && (pending == 0 || self.failing()) {
                return false;
            }
            if pending == 0 {
                if self.tell_gap() {
                    continue;
                }
                if released {
                    return false;
                }
                if due.take().is_some() {
                    // To be woken by the next one, not by a whole batch.
                    continue;
                }
                self.wake.notified().await;
                continue;
            }
            let urgent = self.urgent.load(Ordering::Acquire) > counts.acknowledged;
            if pending >= batch_size || urgent || counts.closed {
                *due = None;
                return true;
            }
            let Some(at) = *due else {
                // An interval beyond what a clock can tell is none.
                let now = Instant::now();
                *due = Some(now.checked_add(self.settings.flush_interval).unwrap_or(now + FAR_FUTURE));
                continue;
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(at.into()) => {
                    *due = None;
                    return true;
                }
            }
        }
    }

    /// Whether another batch may be prepared that begins at this position.
    pub(crate) fn more_after(&self, position: u64) -> bool {
        let appended = self.queue.counts().appended;
        appended - position >= self.settings.batch_size as u64
            || self.urgent.load(Ordering::Acquire) > position
    }

    /// An attempt failed, or takes too long; entries stay queued.
    pub(crate) fn failed(&self, error: AuditError) {
        lock(&self.history).failed(error);
        if self.condition.set(Trouble::Failing) {
            self.noteworthy.notify_one();
        }
    }

    pub(crate) fn failing(&self) -> bool {
        self.condition.is(Trouble::Failing)
    }

    /// The tables are there: what else is to be made can be.
    pub(crate) fn migrated(&self) {
        self.tables_are_there.notify_one();
    }

    /// The database can be opened. Whether it can be written, the next batch shows.
    pub(crate) fn connected(&self) {
        if self.queue.counts().pending() == 0 && self.condition.clear(Trouble::Failing) {
            self.noteworthy.notify_one();
        }
    }

    /// Nothing waits, and nothing can come.
    pub(crate) fn abandoned(&self) -> bool {
        self.released.load(Ordering::Acquire) && self.queue.counts().pending() == 0
    }

    /// An attempt will be made again.
    pub(crate) fn retries(&self) {
        lock(&self.history).retried();
    }

    /// The database refuses one entry.
    pub(crate) fn refused(&self, error: AuditError) {
        lock(&self.history).failed(error);
    }

    pub(crate) fn panicked(&self, message: &str) {
        lock(&self.history).panicked();
        self.failed(AuditError::new(Kind::Store, format!("the audit log's thread panicked: {message}")));
    }

    /// Records that a dead process had accepted have reached their end.
    pub(crate) fn recovered(&self, outcome: Outcome) {
        self.queue.recover(outcome);
        lock(&self.history).committed(outcome.committed);
        if self.condition.clear(Trouble::Failing) || outcome.quarantined > 0 {
            self.noteworthy.notify_one();
        }
    }

    /// The records up to `until` have reached their end: books first, then whoever waits for them.
    pub(crate) fn acknowledge(
        &self,
        until: u64,
        outcome: Outcome,
        answer: impl Fn(u64) -> Result<u64, AuditError>,
    ) {
        self.queue.ack(until, outcome);
        // Now there is room for it. While the log is stopped there is no end to what is rejected.
        if !self.stopping() {
            self.tell_gap();
        }
        self.overdue.store(false, Ordering::Relaxed);
        lock(&self.history).committed(outcome.committed);
        let recovered = self.condition.clear(Trouble::Failing) | self.condition.clear(Trouble::Rejecting);
        if recovered || outcome.quarantined > 0 {
            self.noteworthy.notify_one();
        }
        let answered = {
            let mut commits = lock(&self.commits);
            let later = commits.split_off(&(until + 1));
            std::mem::replace(&mut *commits, later)
        };
        for (position, waiter) in answered {
            // Whoever waited may have given up; the entry is committed all the same.
            drop(waiter.send(answer(position)));
        }
        self.progress.send_modify(|progress| progress.acknowledged = until);
    }
}
