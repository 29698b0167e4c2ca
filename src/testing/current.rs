//! Decides which capture an event belongs to: the one of its thread, otherwise the one of the process.

use std::{
    cell::RefCell,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
};

use tracing::Level;

use super::recorder::Recorder;
use crate::engine::EngineHandle;
use crate::layer::Interests;
use crate::log::AuditLog;
use crate::platform::lock;

thread_local! {
    /// The capture that the events of this thread belong to. It may have been dropped.
    static OF_THREAD: RefCell<Weak<Captured>> = const { RefCell::new(Weak::new()) };
}

/// The capture of the process, and the thread that began it.
static OF_PROCESS: Mutex<Option<(Weak<Captured>, ThreadId)>> = Mutex::new(None);
/// Notified when the capture of the process is dropped.
static PROCESS_IS_FREE: Condvar = Condvar::new();

/// The events that belonged to no capture.
static DISCARDED: AtomicU64 = AtomicU64::new(0);

/// The log of one capture. Its owner is the capture; everything else holds it weakly, so that an event which comes
/// after the capture finds nothing.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) log: AuditLog,
    pub(super) recorder: Recorder,
    discarded_before: u64,
}

impl Captured {
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub(super) fn new() -> Self {
        let recorder = Recorder::new();
        let log = AuditLog::builder().store(&recorder).blocking().open();
        let log = log.expect("a log in memory can be opened").wired_as(Arc::clone(interests()));
        Self { log, recorder, discarded_before: DISCARDED.load(Ordering::Relaxed) }
    }

    /// The events of the process that belonged to no capture since this one began.
    pub(super) fn discarded_meanwhile(&self) -> u64 {
        DISCARDED.load(Ordering::Relaxed) - self.discarded_before
    }
}

/// The interests of the one layer that all captures read from.
pub(super) fn interests() -> &'static Arc<Interests> {
    static INTERESTS: OnceLock<Arc<Interests>> = OnceLock::new();
    INTERESTS.get_or_init(|| Arc::new(Interests::new("audit".to_owned(), Level::INFO, Vec::new())))
}

/// The engine of the capture that an event of this thread belongs to, if there is one.
pub(super) fn engine() -> Option<Arc<EngineHandle>> {
    // While the thread's locals are being destroyed, the thread has no capture.
    let captured = OF_THREAD.try_with(|current| current.borrow().upgrade()).ok().flatten();
    let captured = captured.or_else(|| lock(&OF_PROCESS).as_ref()?.0.upgrade());
    if captured.is_none() {
        DISCARDED.fetch_add(1, Ordering::Relaxed);
    }
    Some(captured?.log.engine())
}

/// Whether the events of this thread belong to a capture that was begun on it, or in whose scope it is.
pub(super) fn thread_has_one() -> bool {
    let of_process = lock(&OF_PROCESS).as_ref().is_some_and(|(_, holder)| *holder == thread::current().id());
    of_process || OF_THREAD.with_borrow(|current| current.strong_count() > 0)
}

/// Makes this the capture of the thread, and returns the one before it. While the thread's locals are being destroyed, the
/// thread has no capture.
pub(super) fn set_of_thread(captured: Weak<Captured>) -> Weak<Captured> {
    OF_THREAD.try_with(|current| current.replace(captured)).unwrap_or_default()
}

/// Makes this the capture of the process, as soon as there is no other.
pub(super) fn set_of_process(captured: &Arc<Captured>) {
    let mut current = lock(&OF_PROCESS);
    while current.is_some() {
        current = PROCESS_IS_FREE.wait(current).unwrap_or_else(PoisonError::into_inner);
    }
    *current = Some((Arc::downgrade(captured), thread::current().id()));
}

/// Ends this capture, be it that of the process or of the thread.
pub(super) fn unset(captured: &Arc<Captured>) {
    let is_this = |current: &Weak<Captured>| std::ptr::eq(current.as_ptr(), Arc::as_ptr(captured));
    if OF_THREAD.try_with(|current| is_this(&current.borrow())).unwrap_or(false) {
        set_of_thread(Weak::new());
    }
    let mut current = lock(&OF_PROCESS);
    if current.as_ref().is_some_and(|(current, _)| is_this(current)) {
        *current = None;
        PROCESS_IS_FREE.notify_one();
    }
}

/// Runs `work` on this thread as a part of the capture.
pub(super) fn in_scope<R>(captured: Weak<Captured>, work: impl FnOnce() -> R) -> R {
    /// Restores the capture of the thread, also if `work` panics.
    struct Restore(Weak<Captured>);
    impl Drop for Restore {
        fn drop(&mut self) {
            set_of_thread(std::mem::take(&mut self.0));
        }
    }
    let _restore = Restore(set_of_thread(captured));
    work()
}
