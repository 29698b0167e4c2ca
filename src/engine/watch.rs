//! Watches what the flusher waits for, from another thread: an answer that takes too long is reported while the flusher
//! still waits.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::platform::{lock, moment_after};

/// The answers that the flusher waits for at the moment.
#[derive(Debug, Default)]
pub(super) struct Watch {
    waits: Mutex<Waits>,
    /// Wakes the watching task, which sleeps while nothing is waited for.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Waits {
    number: u64,
    /// The waits by their number, and so the oldest first.
    running: BTreeMap<u64, Wait>,
    /// Nobody looks until the next wait begins.
    is_idle: bool,
}

#[derive(Debug)]
struct Wait {
    whom: &'static str,
    since: Instant,
    is_told: bool,
}

/// A wait, which ends when this is dropped.
pub(super) struct Waiting<'a> {
    watch: &'a Watch,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.watch.waits).running.remove(&self.number);
    }
}

impl Watch {
    /// A wait for the answer of `whom` begins.
    pub(super) fn begin(&self, whom: &'static str) -> Waiting<'_> {
        let mut waits = lock(&self.waits);
        waits.number += 1;
        let number = waits.number;
        waits.running.insert(number, Wait { whom, since: Instant::now(), is_told: false });
        if std::mem::take(&mut waits.is_idle) {
            self.begun.notify_one();
        }
        Waiting { watch: self, number }
    }

    /// When the oldest wait takes too long. `None` if nothing is waited for.
    fn due(&self, limit: Duration) -> Option<Instant> {
        let mut waits = lock(&self.waits);
        let next = waits.running.values().find(|wait| !wait.is_told);
        let due = next.map(|wait| moment_after(wait.since, limit));
        waits.is_idle = due.is_none();
        due
    }

    /// Calls `tell` with the name of each party that takes longer to answer than this, once for each wait. Never
    /// resolves.
    pub(super) async fn over(&self, limit: Duration, tell: impl Fn(&str)) {
        loop {
            match self.due(limit) {
                None => self.begun.notified().await,
                Some(due) => tokio::time::sleep_until(due.into()).await,
            }
            // The lock is held, so that a wait that ends at this moment is not reported after its end.
            let mut waits = lock(&self.waits);
            let now = Instant::now();
            for wait in waits.running.values_mut().filter(|wait| !wait.is_told) {
                if moment_after(wait.since, limit) <= now {
                    wait.is_told = true;
                    tell(wait.whom);
                }
            }
        }
    }
}
