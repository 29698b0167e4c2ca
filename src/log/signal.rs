//! Wakes a thread that waits, once, also if it begins to wait only later.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::platform::lock;

#[derive(Default)]
pub(super) struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn wake(&self) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }

    /// Waits until it is woken, or for this long.
    pub(super) fn wait(&self, at_most: Duration) {
        let woken = lock(&self.woken);
        let waited = self.changed.wait_timeout_while(woken, at_most, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }
}
