//! SQLite alone: an application's pool, a database in memory, files that cannot be a ledger, and files that change while
//! they are open; where a database lies, and whose it is; pages that were overwritten, also in a write-ahead log; a file that
//! is held until it is removed.

#[cfg(target_os = "linux")]
mod broken_log;
#[cfg(target_os = "linux")]
mod files;
mod operation;
#[cfg(feature = "cli")]
mod pages;
#[cfg(target_os = "linux")]
mod places;
#[cfg(target_os = "linux")]
mod unused;
