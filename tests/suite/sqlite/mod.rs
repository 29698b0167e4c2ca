//! SQLite alone: an application's pool, a database in memory, files that cannot be a ledger, and files that change while
//! they are open; where a database lies, and whose it is.

#[cfg(target_os = "linux")]
mod files;
mod operation;
#[cfg(target_os = "linux")]
mod places;
