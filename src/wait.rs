//! Blocks a thread on a future, wherever the thread is.
//!
//! Not a library's: those keep a waker in a thread-local, which is gone when a destructor of another
//! thread-local emits an event or drops a writer.

use std::{
    pin::pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use crate::{AuditError, error::Kind};

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

/// Runs a future that needs a Tokio runtime, on a thread of its own: within another runtime none can be started.
pub(crate) fn on_own_runtime<T: Send>(
    future: impl Future<Output = Result<T, AuditError>> + Send,
) -> Result<T, AuditError> {
    let failed = |cause| AuditError::new(Kind::Store, "no thread can be started to read on").because(cause);
    std::thread::scope(|scope| {
        let reading =
            std::thread::Builder::new().name("tracing-audit-reader".to_owned()).spawn_scoped(scope, || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
                runtime.block_on(future)
            });
        reading.map_err(failed)?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
