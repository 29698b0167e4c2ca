//! Everything that belongs to the operating system or to the async runtime.
//!
//! | file | what it does |
//! |---|---|
//! | `clock` | keeps the time for the limits of a log, on a thread on which nothing may block |
//! | `file` | positioned reads and writes, preallocation, directory sync |
//! | `fork` | detects forks, cheaply enough to ask on every event |
//! | `identity` | tells whether a path still names an open file, and whether that was changed |
//! | `random` | random bits, which a forked child does not share with its parent |
//! | `runtime` | blocks a thread on a future, wherever the thread is |
//! | `sync` | takes locks, and says why poison is ignored |
//! | `turn` | lets those who write one file take turns, in the order in which they ask |
//!
//! This room has the only `unsafe` of the library and the only `cfg(unix)` and `cfg(windows)`.

mod clock;
mod file;
mod fork;
#[cfg(feature = "_sqlite")]
mod identity;
mod random;
mod runtime;
mod sync;
#[cfg(feature = "_sqlite")]
mod turn;

pub(crate) use clock::{Clock, Detached, moment_after};
pub(crate) use file::*;
pub(crate) use fork::Process;
#[cfg(feature = "_sqlite")]
pub(crate) use identity::{FileIdentity, FileLook};
pub(crate) use random::random;
pub(crate) use runtime::*;
pub(crate) use sync::lock;
#[cfg(feature = "_sqlite")]
pub(crate) use turn::{Turn, Turns};
