//! The engines behind a log: one, or that of each period in turn.

use std::{cell::RefCell, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};

use crate::engine::{Choose, Engine, EngineHandle, Health, Stats};
use crate::error::AuditError;
use crate::reader::{AuditReader, PeriodReader};

thread_local! {
    /// The calls of `committed` that run on this thread: whose, and the engine for all of their events.
    static PINNED: RefCell<Vec<(usize, Arc<EngineHandle>)>> = const { RefCell::new(Vec::new()) };
}

/// The engine for the events of a call of `committed`, if one runs on this thread for the log at this address.
pub(super) fn pinned(log: usize) -> Option<Arc<EngineHandle>> {
    let own = |(of, engine): &(usize, Arc<EngineHandle>)| (*of == log).then(|| Arc::clone(engine));
    PINNED.try_with(|pinned| pinned.borrow().iter().rev().find_map(own)).ok().flatten()
}

/// Keeps the engine of a call of `committed` for all of its events, until this is dropped.
struct Pinned;

impl Pinned {
    fn to(log: usize, engine: Arc<EngineHandle>) -> Self {
        PINNED.try_with(|pinned| pinned.borrow_mut().push((log, engine))).unwrap_or_default();
        Self
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Outside of the borrow: to drop the last handle of an engine takes its queue's lock.
        drop(PINNED.try_with(|pinned| pinned.borrow_mut().pop()));
    }
}

/// Several engines of one log, of which one takes entries.
pub(super) trait Several: Choose {
    /// All that may have entries pending, those of earlier periods first.
    fn all(&self) -> Vec<Arc<Engine>>;

    /// The books of all.
    fn stats(&self) -> Stats;

    /// The health of all.
    fn health(&self) -> Health;

    /// Waits until whatever dead processes' journals hold now is committed, within this time.
    fn recovered(&self, timeout: Duration) -> BoxFuture<'_, Result<(), AuditError>>;

    /// No other engine takes the place of the one that takes entries.
    fn shut(&self);

    /// A reader of the period of now.
    fn reader(&self) -> AuditReader;

    /// A reader of all periods.
    fn all_readers(&self) -> PeriodReader;
}

/// The engines of a log.
#[derive(Clone)]
pub(super) enum Engines {
    One(Arc<EngineHandle>),
    Several(Arc<dyn Several>),
}

impl Engines {
    /// The engine that takes an entry now.
    pub(super) fn now(&self) -> Arc<EngineHandle> {
        match self {
            Self::One(engine) => Arc::clone(engine),
            Self::Several(several) => several.choose(),
        }
    }

    /// All that may have entries pending, those of earlier periods first.
    fn all(&self) -> Vec<Arc<Engine>> {
        match self {
            Self::One(engine) => vec![engine.shared()],
            Self::Several(several) => several.all(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::One(engine) => engine.stats(),
            Self::Several(several) => several.stats(),
        }
    }

    pub(super) fn health(&self) -> Health {
        match self {
            Self::One(engine) => engine.health(),
            Self::Several(several) => several.health(),
        }
    }

    /// Commits everything that was accepted before this call, within `timeout`.
    pub(super) async fn flush(&self, timeout: Duration) -> Result<(), AuditError> {
        let engines = self.all();
        let flushed = join_all(engines.iter().map(|engine| engine.flush(timeout))).await;
        flushed.into_iter().collect()
    }

    pub(super) fn flush_when_dropped(&self) {
        self.all().iter().for_each(|engine| engine.flush_when_dropped());
    }

    /// Waits until whatever dead processes' journals hold now is committed, within `timeout`.
    pub(super) async fn recovered(&self, timeout: Duration) -> Result<(), AuditError> {
        match self {
            Self::One(engine) => engine.recovered_all(timeout).await,
            Self::Several(several) => several.recovered(timeout).await,
        }
    }

    /// Runs `emit` and waits until every event of this log that it has emitted on this thread is durable.
    pub(super) async fn committed(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        match self {
            Self::One(engine) => engine.committed(emit).await,
            Self::Several(several) => {
                // All events of the call go to one engine, whatever takes its place meanwhile.
                let (log, engine) = (Arc::as_ptr(several).cast::<()>().addr(), several.choose());
                let of_events = Arc::clone(&engine);
                let emit = move || {
                    let _pinned = Pinned::to(log, of_events);
                    emit();
                };
                engine.committed(emit).await
            }
        }
    }

    /// Accepts nothing more, flushes, and ends the flushers.
    pub(super) async fn shutdown(&self, timeout: Duration) -> Result<(), AuditError> {
        if let Self::Several(several) = self {
            several.shut();
        }
        let engines = self.all();
        let ended = join_all(engines.iter().map(|engine| engine.shutdown(timeout))).await;
        ended.into_iter().collect()
    }
}
