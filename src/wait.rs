//! Blocks a thread on a future, wherever the thread is.
//!
//! Not a library's: those keep a waker in a thread-local, which is gone when a destructor of another
//! thread-local emits an event or drops a writer.

use std::{
    pin::pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

/// Waits for the future without needing, or disturbing, an async runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    // Within a task of Tokio's, its budget would run out and nothing would ever be ready.
    let mut future = pin!(tokio::task::unconstrained(future));
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        let mut woken = signal.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !std::mem::take(&mut *woken) {
            woken = signal.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
