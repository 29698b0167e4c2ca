//! Which process this is, as cheaply as an emitter can ask for each event.
//!
//! A forked child has copies of everything but threads, so nobody would ever commit what it appended, and in a
//! journal it would overwrite what its parent appends.

use std::sync::{
    Once,
    atomic::{AtomicU32, Ordering},
};

/// Forks between the process that first asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, told apart from those that are forked from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(watch);
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether the caller runs in another.
    pub(crate) fn is_another(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

/// `getpid` is a system call, a tenth of what accepting an entry costs. Being told costs nothing.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the C library's one way to be told of a fork")]
fn watch() {
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler is a function that lives as long as the program and only adds to an atomic number,
    // which is all that may be done in a child forked from a process with threads. Failing, for want of memory,
    // leaves nothing registered.
    unsafe {
        libc::pthread_atfork(None, None, Some(forked));
    }
}

#[cfg(not(unix))]
fn watch() {}
