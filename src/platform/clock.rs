//! Keeps the time for the limits of a log, on a thread on which nothing may block.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Handle, Runtime},
    sync::{Notify, oneshot},
};

use super::sync::lock;

/// Stands for a time that the clock cannot represent. Tokio's own clock reaches no further.
const FAR_FUTURE: Duration = Duration::from_hours(24 * 365 * 30);

/// The moment after this long, or one that is far enough away.
pub(crate) fn moment_after(since: Instant, after: Duration) -> Instant {
    since.checked_add(after.min(FAR_FUTURE)).unwrap_or(since)
}

/// A runtime that is dropped without waiting for the work on its threads, wherever it is dropped.
#[derive(Debug)]
pub(crate) struct Detached(Option<Runtime>);

impl Detached {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.0.as_ref().map(|runtime| runtime.block_on(future))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A thread that keeps the time and runs tasks that never block. It ends with [`stop`](Self::stop) or when this is dropped.
#[derive(Debug)]
pub(crate) struct Clock {
    handle: Handle,
    alarms: Arc<Alarms>,
}

#[derive(Debug, Default)]
struct Alarms {
    set: Mutex<Set>,
    /// Wakes the clock: another alarm is the next one, or the clock is stopped.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Set {
    number: u64,
    /// The senders by the time at which they ring. Dropping a sender rings.
    waiting: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    stopped: bool,
}

impl Clock {
    pub(crate) fn start() -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().thread_name("tracing-audit-aside").build()?;
        let (handle, alarms) = (runtime.handle().clone(), Arc::new(Alarms::default()));
        let (runtime, ringing) = (Detached::new(runtime), Arc::clone(&alarms));
        let thread = std::thread::Builder::new().name("tracing-audit-clock".to_owned());
        thread.spawn(move || runtime.block_on(ringing.ring()))?;
        Ok(Self { handle, alarms })
    }

    /// Runs a task on the clock's thread, which must never block it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(task));
    }

    /// Runs work that may block, on a thread of its own. The work is done even if nobody waits for it.
    pub(crate) fn aside<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = io::Result<T>> + Send + use<T, W> {
        // `spawn_blocking` panics if no thread can be started. The panic hook has shown the reason.
        let working = catch_unwind(AssertUnwindSafe(|| self.handle.spawn_blocking(work)));
        async move {
            let Ok(working) = working else { return Err(io::ErrorKind::OutOfMemory.into()) };
            working.await.map_err(io::Error::other)
        }
    }

    /// Resolves after this long, or when the clock is stopped.
    pub(crate) fn timer(&self, after: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (sender, rings) = oneshot::channel();
        let alarm = self.alarms.set(moment_after(Instant::now(), after), sender);
        async move {
            let _alarm = alarm;
            // The sender is only ever dropped: the error is the signal.
            drop(rings.await);
        }
    }

    /// Waits for an answer, but no longer than this. `None`: there was none in time.
    pub(crate) async fn within<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = self.timer(limit) => None,
        }
    }

    /// Ends the thread and its tasks, and rings every alarm.
    pub(crate) fn stop(&self) {
        let left = {
            let mut set = lock(&self.alarms.set);
            set.stopped = true;
            std::mem::take(&mut set.waiting)
        };
        drop(left);
        self.alarms.changed.notify_one();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An alarm, taken back when it is dropped.
struct Alarm {
    alarms: Arc<Alarms>,
    key: (Instant, u64),
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let sender = lock(&self.alarms.set).waiting.remove(&self.key);
        drop(sender);
    }
}

impl Alarms {
    /// The clock is woken only if this alarm is the first to ring: most are later than those that are set already.
    fn set(self: &Arc<Self>, at: Instant, sender: oneshot::Sender<()>) -> Alarm {
        let mut set = lock(&self.set);
        set.number += 1;
        let key = (at, set.number);
        let is_first = set.waiting.first_key_value().is_none_or(|(first, _)| key < *first);
        if !set.stopped {
            set.waiting.insert(key, sender);
        }
        drop(set);
        if is_first {
            self.changed.notify_one();
        }
        Alarm { alarms: Arc::clone(self), key }
    }

    /// Rings each alarm at its time, until the clock is stopped.
    async fn ring(&self) {
        loop {
            let (over, next) = {
                let mut set = lock(&self.set);
                if set.stopped {
                    return;
                }
                let later = set.waiting.split_off(&(Instant::now(), u64::MAX));
                let over = std::mem::replace(&mut set.waiting, later);
                (over, set.waiting.first_key_value().map(|((at, _), _)| *at))
            };
            // This wakes those who wait, which must not happen under the lock.
            drop(over);
            let changed = self.changed.notified();
            match next {
                Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::block_on, *};

    #[test]
    fn alarms_ring_in_time_whatever_work_hangs_and_none_is_left_behind() {
        let clock = Clock::start().unwrap();
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let hanging = clock.aside(move || hangs.recv().is_err());
        let hung = block_on(clock.within(Duration::from_millis(30), hanging));
        assert!(hung.is_none());
        let start = Instant::now();
        let long = clock.timer(Duration::from_hours(1));
        let longest = clock.timer(Duration::MAX);
        block_on(clock.timer(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(lock(&clock.alarms.set).waiting.len(), 2);
        drop(long);
        assert_eq!(lock(&clock.alarms.set).waiting.len(), 1);
        // The end of the clock is the end of every wait, also of those that begin later.
        clock.stop();
        block_on(longest);
        block_on(clock.timer(Duration::MAX));
        drop(release);
    }

    #[tokio::test]
    async fn a_clock_is_dropped_within_a_runtime_while_work_hangs() {
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let clock = Clock::start().unwrap();
        drop(clock.aside(move || hangs.recv().is_err()));
        drop(clock);
        drop(release);
    }
}
