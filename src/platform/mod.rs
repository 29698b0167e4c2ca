//! Everything that belongs to the operating system or to the async runtime.
//!
//! | file | what it does |
//! |---|---|
//! | `file` | positioned reads and writes, preallocation, directory sync, which file a path names |
//! | `fork` | detects forks, cheaply enough to ask on every event |
//! | `runtime` | blocks a thread on a future, wherever the thread is |
//! | `sync` | takes locks, and says why poison is ignored |
//!
//! This room has the only `unsafe` of the library and the only `cfg(unix)` and `cfg(windows)`.

mod file;
mod fork;
mod runtime;
mod sync;

pub(crate) use file::*;
pub(crate) use fork::Process;
pub(crate) use runtime::*;
pub(crate) use sync::lock;
