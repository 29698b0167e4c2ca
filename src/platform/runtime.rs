//! Blocks a thread on a future, wherever the thread is.
//!
//! Not a library's: those keep a waker in a thread-local, which is gone when a destructor of another
//! thread-local emits an event or drops a writer.

use std::{
    cell::Cell,
    pin::pin,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tokio::runtime::Runtime;

use super::sync::lock;
use crate::error::{AuditError, Kind};

#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
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
        let mut woken = lock(&signal.woken);
        while !std::mem::take(&mut *woken) {
            woken = signal.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

thread_local! {
    static ON_OWN_RUNTIME: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is waited for by [`on_own_runtime`].
#[cfg(feature = "postgres")]
pub(crate) fn is_on_own_runtime() -> bool {
    ON_OWN_RUNTIME.get()
}

/// Puts back what was there, also where the future panics.
struct Marked(bool);

impl Drop for Marked {
    fn drop(&mut self) {
        ON_OWN_RUNTIME.set(self.0);
    }
}

/// Waits for a future that needs a Tokio runtime, on any thread, also one of another runtime.
///
/// All such futures share one runtime, which lives on: a pool gives a connection back in a task, and with the
/// last connection a database in memory would go.
pub(crate) fn on_own_runtime<T>(
    future: impl Future<Output = Result<T, AuditError>>,
) -> Result<T, AuditError> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name("tracing-audit-reader").enable_all().build()
    });
    match runtime {
        Ok(runtime) => {
            let _entered = runtime.enter();
            let _marked = Marked(ON_OWN_RUNTIME.replace(true));
            block_on(future)
        }
        Err(cause) => {
            let error = AuditError::new(Kind::Store, "no thread can be started to read with");
            Err(error.because(std::io::Error::from(cause.kind())))
        }
    }
}
