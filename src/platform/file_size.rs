//! The limit on the size of a file, and the signal that ends a process which exceeds it.

/// The largest size that a file of this process may have, in bytes (`ulimit -f`). `None`: there is no limit.
///
/// If there is one, a write beyond it is an error from now on, not the end of the process: the signal for it is
/// ignored, in the whole process, unless the program handles it. Blocking it would not be enough, since records are
/// written on the threads of the program.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the system's one way to ask for a limit and to ignore a signal")]
pub(crate) fn largest_file() -> Option<u64> {
    // SAFETY: all fields are numbers, for which 0 is a value.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is written, and only during the call.
    let asked = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    if asked != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    // SAFETY: all fields are numbers or an optional function, for which 0 is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `action` is written, and only during the call.
    let asked = unsafe { libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &raw mut action) };
    if asked == 0 && action.sa_sigaction == libc::SIG_DFL {
        action.sa_sigaction = libc::SIG_IGN;
        // SAFETY: `action` is one that the system has returned, with a disposition that runs no code.
        unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut()) };
    }
    Some(limit.rlim_cur)
}

/// `None`: this system has no such limit.
#[cfg(not(unix))]
pub(crate) fn largest_file() -> Option<u64> {
    None
}
