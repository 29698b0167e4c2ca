//! Blocks a thread on a future, on any thread.
//!
//! Functions of this kind in libraries keep a waker in a thread-local. They fail when the destructor of another
//! thread-local emits an event or drops a writer, because by then the waker may be gone. So this crate has its own.

use std::{
    cell::Cell,
    pin::pin,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use tokio::runtime::Runtime;

use super::sync::lock;
use crate::error::{AuditError, ErrorKind};

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

/// Waits for the future. It neither needs an async runtime nor disturbs one.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    // Inside a Tokio task the future would use up the task's budget, and then nothing would ever be ready.
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

/// Whether the caller runs inside [`on_own_runtime`].
#[cfg(feature = "postgres")]
pub(crate) fn is_on_own_runtime() -> bool {
    ON_OWN_RUNTIME.get()
}

/// The kind of the calling thread, for a destructor that has to wait for something.
#[cfg(feature = "_sqlite")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// The thread belongs to no runtime: it may wait.
    Own,
    /// A runtime runs in the thread, and its tasks would be held up.
    OfRuntime,
    /// The thread's thread-locals are gone: no runtime can be entered.
    Ending,
}

#[cfg(feature = "_sqlite")]
impl Thread {
    pub(crate) fn current() -> Self {
        match tokio::runtime::Handle::try_current() {
            Ok(_) => Self::OfRuntime,
            Err(error) if error.is_thread_local_destroyed() => Self::Ending,
            Err(_) => Self::Own,
        }
    }
}

/// Restores the previous mark of the thread when dropped, and so also when the future panics.
struct Marked(bool);

impl Drop for Marked {
    fn drop(&mut self) {
        ON_OWN_RUNTIME.set(self.0);
    }
}

/// Waits for a future that needs a Tokio runtime, on any thread, including the threads of another runtime.
///
/// All such futures share one runtime, which is never shut down: a pool takes a connection back in a task, which needs
/// the runtime, and a database in memory would be gone with its last connection.
pub(crate) fn on_own_runtime<T>(
    future: impl Future<Output = Result<T, AuditError>>,
) -> Result<T, AuditError> {
    let runtime = own_runtime().map_err(|cause| {
        AuditError::new(ErrorKind::Store, "cannot start a thread for reading").because(cause)
    })?;
    let _entered = runtime.enter();
    let _marked = Marked(ON_OWN_RUNTIME.replace(true));
    block_on(future)
}

/// The runtime, which is made by the first call that can: another may have found no thread or descriptor left for it.
fn own_runtime() -> std::io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _alone = lock(&MAKING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).thread_name("tracing-audit-reader").enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}
