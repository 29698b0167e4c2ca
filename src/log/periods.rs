//! A log whose ledger changes with the period: for each period a log of its own, of which the next takes the place of the
//! last.
//!
//! Nothing of a log knows of periods. Its queue, its journal, its database and its ledger are those of one period, so that
//! whatever holds for a log holds for each of these. An entry belongs to the period in whose log it was accepted. The log of
//! a period that is over takes no new entry once nobody holds it any more, commits what it has accepted, and ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    audit_log::AuditLog,
    builder::{AuditLogBuilder, PeriodClock},
    engines::{Engines, Several, pinned},
    latest::latest,
    signal::Signal,
    writer::AuditWriter,
};
use crate::engine::{Choose, Engine, EngineHandle, Health, Stats, Unrecovered};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{block_on, lock};
use crate::reader::{AuditReader, PeriodReader};
use crate::store::{Period, QueueByDefault, Store, named};

/// How often the clock is looked at, which may be set: at the end of a period, it is looked at then.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often journals of earlier periods are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// The logs of the periods: the one of now, and those that are not done yet.
pub(super) struct Periods {
    /// The settings of each, without store and ledger.
    builder: AuditLogBuilder,
    pub(super) store: Store,
    /// The name that the ledgers' names begin with.
    pub(super) ledger: String,
    pub(super) period: Period,
    clock: PeriodClock,
    /// The engine of the first period, for a forked child: what others may have locked at the fork is locked there for ever.
    first: Arc<Engine>,
    pub(super) now: RwLock<Now>,
    /// Locked before `now`.
    pub(super) kept: Mutex<Kept>,
    signal: Arc<Signal>,
    /// The number of requests to look for journals of earlier periods.
    asked: AtomicU64,
    pub(super) swept: watch::Sender<Swept>,
}

/// The period of now.
pub(super) struct Now {
    pub(super) label: String,
    pub(super) engine: Arc<EngineHandle>,
    log: Arc<AuditLog>,
    /// No other follows.
    pub(super) is_shut: bool,
}

/// The state that is kept of other periods.
#[derive(Default)]
pub(super) struct Kept {
    /// Those that may have entries pending.
    pub(super) past: Vec<Arc<Engine>>,
    /// The books of those that have ended.
    settled: Stats,
    /// The periods whose journals of dead processes are being committed.
    pub(super) draining: BTreeSet<String>,
    /// Those of which journals are left alone, since when, and why.
    pub(super) left: BTreeMap<String, (Instant, AuditError)>,
    /// The reason why the queue's directory could not be read when it was last looked at.
    pub(super) unread: Option<AuditError>,
}

/// How far journals of earlier periods were looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Swept {
    /// The number of the last request that was served.
    served: u64,
    /// The number of periods whose journals are being committed.
    pub(super) draining: usize,
}

impl Drop for Periods {
    fn drop(&mut self) {
        self.signal.wake();
    }
}

impl AuditLogBuilder {
    /// Starts the log: its thread connects to the store and creates or migrates the tables.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for settings that cannot work,
    /// [`is_store`](AuditError::is_store) if the database cannot be opened; not if there is no room on its disk and the log
    /// has a journal, which commits once there is,
    /// [`is_schema`](AuditError::is_schema) if it was written by a newer version or holds another ledger. If the queue's
    /// directory or the database has not answered within [`open_timeout`](Self::open_timeout), the error says which; the
    /// thread that waits for it is left behind, and ends once there is an answer.
    ///
    /// # Cancel safety
    /// Dropping the future ends the log's threads.
    pub async fn open(mut self) -> Result<AuditLog, AuditError> {
        match self.period.take() {
            Some(period) => Periods::open(self, period).await,
            None => self.open_one().await,
        }
    }
}

impl Periods {
    /// Opens the log of the period of now, and begins to look at the clock.
    async fn open(mut builder: AuditLogBuilder, period: Period) -> Result<AuditLog, AuditError> {
        let Some(store) = builder.store.take() else {
            let message = "an audit log needs a store: builder().store(Store::sqlite(path)?)";
            return Err(AuditError::new(ErrorKind::Config, message));
        };
        if !builder.in_memory
            && builder.journal.is_none()
            && let QueueByDefault::Journal(directory) = store.backend().queue_by_default()
        {
            // One directory for all periods, so that what one has left is found in the next.
            builder.journal = Some(directory);
        }
        let clock = builder.clock.clone();
        let of_clock = period.label((clock.0)());
        let latest = latest(&store, period, builder.open_timeout).await?;
        let label = latest.filter(|latest| *latest > of_clock).unwrap_or_else(|| of_clock.clone());
        let ledger = builder.ledger.clone();
        let log = of_period(&builder, &store, &ledger, &label)?.open_one().await?;
        let engine = log.writer.engine();
        if label != of_clock {
            engine.notice(AuditError::new(
                ErrorKind::Store,
                format!(
                    "the clock says {of_clock}, and there is a ledger of {label}: the clock was ahead then, or is behind now; \
                     entries go to {} until {label} is over. If the clock was ahead, move that ledger's file elsewhere",
                    named(&ledger, &label)
                ),
            ));
        }
        let interests = Arc::clone(&log.interests);
        let reader = log.reader.clone();
        let every = builder.look_every;
        let signal = Arc::new(Signal::default());
        let periods = Arc::new(Self {
            builder,
            store,
            ledger,
            period,
            clock,
            first: engine.shared(),
            now: RwLock::new(Now { label, engine, log: Arc::new(log), is_shut: false }),
            kept: Mutex::default(),
            signal: Arc::clone(&signal),
            asked: AtomicU64::new(0),
            swept: watch::Sender::new(Swept::default()),
        });
        let weak = Arc::downgrade(&periods);
        let keeper = thread::Builder::new().name("tracing-audit-periods".to_owned());
        keeper.spawn(move || keep(&weak, &signal, every.unwrap_or(LOOK_EVERY))).map_err(|cause| {
            AuditError::new(ErrorKind::Store, "the log's threads cannot be started").because(cause)
        })?;
        Ok(AuditLog { writer: AuditWriter::of_all(Engines::Several(periods)), reader, interests })
    }
}

impl Choose for Periods {
    /// That of the call of `committed` that runs on this thread, or else that of the period of now.
    fn choose(&self) -> Arc<EngineHandle> {
        let fixed = EngineHandle::of_child(&self.first).or_else(|| pinned(std::ptr::from_ref(self).addr()));
        fixed.unwrap_or_else(|| Arc::clone(&self.now.read().engine))
    }
}

impl Several for Periods {
    fn all(&self) -> Vec<Arc<Engine>> {
        if self.first.check_process().is_err() {
            return vec![Arc::clone(&self.first)];
        }
        let kept = lock(&self.kept);
        let now = self.now.read().engine.shared();
        kept.past.iter().cloned().chain([now]).collect()
    }

    fn stats(&self) -> Stats {
        if self.first.check_process().is_err() {
            return self.first.stats();
        }
        let kept = lock(&self.kept);
        let now = self.now.read().engine.stats();
        kept.past.iter().fold(kept.settled.clone(), |all, engine| all.and(engine.stats())).and(now)
    }

    /// The worst of all. One that has ended well is closed, and says nothing of the others.
    fn health(&self) -> Health {
        if self.first.check_process().is_err() {
            return self.first.health();
        }
        let kept = lock(&self.kept);
        let past = kept.past.iter().map(|engine| engine.health()).filter(|health| *health != Health::Closed);
        let now = self.now.read().engine.health();
        past.max().map_or(now, |past| past.max(now))
    }

    fn recovered(&self, timeout: Duration) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(self.recovered_all(timeout))
    }

    fn shut(&self) {
        if self.first.check_process().is_err() {
            return;
        }
        self.now.write().is_shut = true;
        self.signal.wake();
    }

    fn reader(&self) -> AuditReader {
        self.now.read().log.reader.clone()
    }

    fn all_readers(&self) -> PeriodReader {
        PeriodReader::new(self.store.clone(), self.ledger.clone(), self.period)
    }
}

impl Periods {
    /// Waits until whatever dead processes' journals hold now, of any period, is committed.
    async fn recovered_all(&self, timeout: Duration) -> Result<(), AuditError> {
        let (start, engine) = (Instant::now(), self.choose());
        engine.recovered_all(timeout).await?;
        if engine.settings.journal.is_none() {
            return Ok(());
        }
        let asked = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.signal.wake();
        let mut swept = self.swept.subscribe();
        let is_done = |swept: &Swept| swept.served >= asked && swept.draining == 0;
        let done = async { swept.wait_for(is_done).await.is_ok() };
        if engine.within(timeout.saturating_sub(start.elapsed()), done).await != Some(true) {
            let message = "dead processes' journals of earlier periods still hold accepted entries: they stay there and may \
                           still be committed";
            return Err(AuditError::new(ErrorKind::Pending, message));
        }
        let kept = lock(&self.kept);
        let left = kept.unread.as_ref().or_else(|| kept.left.values().next().map(|(_, error)| error));
        left.cloned().map_or(Ok(()), Err)
    }
}

/// The builder of the log of a period.
fn of_period(
    builder: &AuditLogBuilder,
    store: &Store,
    ledger: &str,
    label: &str,
) -> Result<AuditLogBuilder, AuditError> {
    Ok(builder.clone().store(store.of_period(label)?).ledger(named(ledger, label)))
}

/// Looks at the clock, and after what earlier periods have left, until the log is gone.
fn keep(periods: &Weak<Periods>, signal: &Signal, every: Duration) {
    let (mut swept, mut served) = (None::<Instant>, 0);
    while let Some(periods) = periods.upgrade() {
        if periods.now.read().is_shut {
            return;
        }
        periods.turn();
        periods.settle();
        let asked = periods.asked.load(Ordering::Acquire);
        if asked > served || swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY) {
            periods.sweep(asked > served);
            (swept, served) = (Some(Instant::now()), asked);
            periods.swept.send_modify(|swept| swept.served = asked);
        }
        let now = (periods.clock.0)();
        let left = (periods.period.end(now) - now).to_std().unwrap_or(Duration::ZERO);
        drop(periods);
        signal.wait(left.min(every));
    }
}

impl Periods {
    /// Begins the period of now, if the last one is over. A clock that is set back leads to no earlier one.
    fn turn(&self) {
        let label = self.period.label((self.clock.0)());
        let current = self.now.read().label.clone();
        if label <= current {
            return;
        }
        // One that its database does not let it begin, or not now, would keep its entries for as long as that is so.
        match self.open_period(&label, true) {
            Ok(log) => self.follow_by(label, log),
            Err(error) => {
                // The last one goes on, so that nothing is rejected.
                let (next, last) = (named(&self.ledger, &label), named(&self.ledger, &current));
                let message = format!("the ledger {next} cannot be begun, and entries still go to {last}");
                self.now.read().engine.notice(AuditError::new(ErrorKind::Store, message).because(error));
            }
        }
    }

    pub(super) fn open_period(&self, label: &str, must_open: bool) -> Result<AuditLog, AuditError> {
        let builder = of_period(&self.builder, &self.store, &self.ledger, label)?;
        block_on(AuditLogBuilder { must_open, ..builder }.open_one())
    }

    /// Lets this log take the place of the last one, which ends once nobody appends to it.
    fn follow_by(&self, label: String, log: AuditLog) {
        let engine = log.writer.engine();
        let mut next = Now { label, engine, log: Arc::new(log), is_shut: false };
        {
            let mut kept = lock(&self.kept);
            let mut now = self.now.write();
            if !now.is_shut {
                std::mem::swap(&mut *now, &mut next);
                kept.past.push(next.engine.shared());
            }
        }
        // Without a lock: this waits for what is pending, for a moment.
        drop(next);
    }

    /// Keeps the books of those that have ended, and nothing else of them.
    fn settle(&self) {
        let mut kept = lock(&self.kept);
        let ended: Vec<_> = kept.past.extract_if(.., |engine| engine.has_ended()).collect();
        for engine in ended {
            // The journals that others have left are reported by the next log that looks there.
            let books = Stats { unrecovered: Unrecovered::default(), ..engine.stats() };
            kept.settled = std::mem::take(&mut kept.settled).and(books);
        }
    }
}
