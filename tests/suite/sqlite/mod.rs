//! SQLite alone: an application's pool, a database in memory, and files that cannot be a ledger.

mod operation;
