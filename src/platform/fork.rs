//! Detects forks, cheaply enough to ask on every event.
//!
//! A forked child has copies of everything but the threads. Nobody would ever commit a record that it appended, and in
//! a journal it would overwrite the records that its parent appends.

use std::sync::{
    Once,
    atomic::{AtomicU32, Ordering},
};

/// Number of forks between the process that first asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, distinguished from the processes that are forked from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(watch);
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether the caller runs in another process.
    pub(crate) fn is_another(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

/// Counts forks from now on. `getpid` would be a system call, which costs a tenth of accepting an entry; a handler that
/// runs at a fork costs nothing in between.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the C library's only way to run code at a fork")]
fn watch() {
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler is a function that lives as long as the program. It only adds to an atomic number, which is
    // allowed in a child forked from a process with threads. If the call fails, for lack of memory, no handler is
    // registered.
    unsafe {
        libc::pthread_atfork(None, None, Some(forked));
    }
}

#[cfg(not(unix))]
fn watch() {}
