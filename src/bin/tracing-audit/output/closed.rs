//! Notices that standard output was closed when the command began: the standard library opens /dev/null in its place.

use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// What the system calls before the standard library begins.
#[cfg(target_os = "linux")]
#[used]
#[allow(unsafe_code, reason = "the one way to look before the standard library begins")]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

#[cfg(target_os = "linux")]
extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(std::io::stdout()).is_err();
    WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Whether standard output was closed when the command began, as by `>&-` in a shell. Known on Linux only.
pub(crate) fn was_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}
