//! The crates with which it resolves, and the SQLite library that a program then has.
//!
//! Cargo allows one crate per program to link the native library `sqlite3`. sqlx 0.9 takes `libsqlite3-sys` up to
//! 0.37, so with the feature `sqlite` every other crate of the program that links SQLite must accept one of these
//! versions. A program that needs a newer one has two ways: the feature `postgres` alone, which links no SQLite and
//! resolves with everything, or a process of its own for the log.
//!
//! | beside | features | resolves |
//! |---|---|---|
//! | sqlx 0.9 | default | yes |
//! | sqlx 0.8 | default | yes |
//! | sqlx 0.7 | default | no |
//! | sea-orm 2 | default | yes |
//! | sea-orm 1 | default | yes |
//! | diesel 2.3 | default | yes |
//! | rusqlite 0.43 | default | no |
//! | rusqlite 0.40 | default | no |
//! | rusqlite 0.39 | default | yes |
//! | rusqlite 0.37 | default | yes |
//! | rusqlite 0.32 | default | yes |
//! | rusqlite 0.31 | default | no |
//! | rusqlite 0.43 | postgres | yes |
//! | rusqlite 0.31 | postgres | yes |
//! | sqlx 0.7 | postgres | yes |
//!
//! `.ci/sweep compatibility` resolves each row and compiles those that resolve.
//!
//! Beside a crate that asks for an older `libsqlite3-sys`, the whole program gets that older SQLite. SQLite below
//! 3.51.3 has the [WAL-reset bug](https://www.sqlite.org/wal.html#walresetbug), which can corrupt a database, though
//! rarely: two connections, one of which starts a checkpoint while the other commits and resets the write-ahead log.
//! A log that is opened with such a version says so to [`on_notice`](crate::AuditLogBuilder::on_notice), once.
//!
//! The feature `sqlite-unbundled` links the SQLite library of the system instead of compiling one in.
//!
//! sqlx is a public dependency through its pools alone (`From<SqlitePool>` and `From<PgPool>`). A pool of sqlx 0.8 is
//! another type: open the log by path or URL then.
