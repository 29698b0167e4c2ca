//! SQLite alone: an application's pool, a database in memory, files that cannot be a ledger, and files that change while
//! they are open.

#[cfg(target_os = "linux")]
mod files;
mod operation;
