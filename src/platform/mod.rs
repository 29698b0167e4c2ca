//! Everything that belongs to the operating system or to the async runtime.
//!
//! | file | what it does |
//! |---|---|
//! | `clock` | keeps the time for the limits of a log, on a thread on which nothing may block |
//! | `access` | the modes of what we make, and of what we find |
//! | `directory` | directories held open, in which no link is followed and nothing is waited for |
//! | `file` | positioned reads and writes, preallocation |
//! | `file_size` | the limit on the size of a file, and the signal that comes with it |
//! | `file_system` | recognises file systems whose locks not everybody sees, and those that do not last; says how much room there is |
//! | `fork` | detects forks, cheaply enough to ask on every event |
//! | `identity` | decides whether a path still names an open file, whether two name one, and whether it was changed |
//! | `in_place` | reads rows of SQLite where they lie |
//! | `origin` | identifies this process, and decides whether another one is dead |
//! | `random` | random bits, which a forked child does not share with its parent |
//! | `runtime` | blocks a thread on a future, wherever the thread is |
//! | `sync` | takes locks, and says why poison is ignored |
//! | `turn` | lets the writers of one file take turns, in the order in which they ask |
//!
//! This room has the only `unsafe` of the library and the only `cfg(unix)` and `cfg(windows)`.

mod access;
mod clock;
mod directory;
mod file;
mod file_size;
mod file_system;
mod fork;
#[cfg(feature = "_sqlite")]
mod identity;
#[cfg(feature = "_sqlite")]
mod in_place;
mod origin;
mod random;
mod runtime;
mod sync;
#[cfg(feature = "_sqlite")]
mod turn;

pub(crate) use access::Access;
#[cfg(feature = "signing")]
pub(crate) use access::file_open_to_others;
#[cfg(feature = "_sqlite")]
pub(crate) use access::{
    directory_open_to_all, file_writable_by_others, link_of_another, may_read, may_write,
};
pub(crate) use clock::{Clock, Detached, moment_after};
pub(crate) use directory::{Directory, Kind};
pub(crate) use file::*;
pub(crate) use file_size::largest_file;
pub(crate) use file_system::{free_room, share_room, shared_file_system};
#[cfg(feature = "_sqlite")]
pub(crate) use file_system::{is_mounted_alone, passing_file_system};
pub(crate) use fork::Process;
#[cfg(feature = "_sqlite")]
pub(crate) use identity::{FileIdentity, FileLook, is_same_file, real_path};
#[cfg(feature = "_sqlite")]
pub(crate) use in_place::{InPlace, rows_in_place};
pub(crate) use origin::Origin;
pub(crate) use random::{random, secret};
pub(crate) use runtime::*;
pub(crate) use sync::lock;
#[cfg(feature = "_sqlite")]
pub(crate) use turn::{Turn, Turns};
