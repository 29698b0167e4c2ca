//! Growth: a billion entries, in ledgers that end, and files that replace them.
//!
//! Whatever is asked of the newest entries costs the same however many there are, and so does a commit. What grows with a ledger
//! are its room, counts over all of it, and what it takes to verify, to copy and to give up. So a ledger should end.
//!
//! # Ledgers by period
//!
//! ```
//! # #[cfg(feature = "_sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("audit.db");
//! use futures_util::TryStreamExt;
//! use tracing_audit::{AuditEntry, AuditLog, AuditQuery, Period, Store};
//!
//! let audit = AuditLog::builder()
//!     .store(Store::sqlite(&path)?)
//!     .ledger("payments")
//!     .period(Period::Month)
//!     .open()
//!     .await?;
//! audit.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "payment.made", "payment")).await?;
//!
//! let all = audit.period_reader().unwrap();
//! let newest: Vec<_> = all.stream(AuditQuery::new().newest_first().limit(10)).try_collect().await?;
//! assert!(newest[0].ledger.starts_with("payments-20"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "_sqlite"))]
//! # fn main() {}
//! ```
//!
//! | | what there is |
//! |---|---|
//! | SQLite | a file for each period: `audit-2026-11.db`, `audit-2026-12.db`; `audit.db` itself is not made |
//! | PostgreSQL | a ledger for each period in one database: `payments-2026-11`, `payments-2026-12` |
//! | the queue | one directory for all periods: `audit.db.queue`, or the one that the builder names |
//!
//! Each period has a log of its own: a queue, a ledger, a `seq` from 0, a tree with checkpoints, writers. At the end of a period a
//! new log takes the place of the last one. What holds for a log holds for each:
//!
//! - An entry is in the ledger of the period in which it was accepted, once, whatever happens to the process.
//! - The last log commits what it has accepted, and ends; entries go to the next one meanwhile. An emitter that was about to append
//!   when the period ended appends to the last one. All events of one call of `committed` go to one ledger.
//! - What a process that was killed had accepted is committed to the ledger of its own period by the next log with the same period,
//!   store, ledger and directory of queues, whenever that is. [`recovered`](crate::AuditLog::recovered) waits for all of it.
//! - The clock of the process decides, in UTC. It is looked at at the end of the period, and every second in case that it was set.
//!   One that is set back leads to no earlier period. In SQLite this holds over a restart too: if the clock is behind the latest
//!   file, entries go to that, and a notice says so.
//! - If the next ledger cannot be opened, entries go to the last one, a notice says so, and it is tried again every second. On
//!   PostgreSQL a role that may not write the tables needs a row for all periods, whose number is counted:
//!   `('billing', 'payments-*', 1000)` in `tracing_audit_grants`.
//! - [`stats`](crate::AuditLog::stats), [`flush`](crate::AuditLog::flush), [`shutdown`](crate::AuditLog::shutdown) and
//!   [`health`](crate::AuditLog::health) are those of all periods that have something pending.
//!
//! A log that had none before: shut it down, and open and shut it down once more as it was if a process was killed, so that its queue is
//! empty. Its file or ledger stays as it is, and is read by its own name.
//!
//! # Reading all periods
//!
//! [`PeriodReader`](crate::reader::PeriodReader) has streams, pages, counts, coverage and a follower over all periods. The order is that of
//! the periods, and of `seq` in each. A cursor names its period. The follower's place is a `seq` for each ledger, because a ledger
//! that is over may still get entries, from a process that was killed. All else (queries by time, `verify`, exports) is
//! asked of the reader of each ledger, which [`ledgers`](crate::reader::PeriodReader::ledgers) gives. A checkpoint is of one
//! ledger: keep the last one of each. An interrupted export goes on with the ledgers that there were when it began.
//!
//! Readers and followers keep the connections to the latest file alone. Of the earlier ones, a follower looks each second at the last
//! one, and at another one in turn.
//!
//! The command answers for several files at once, and the quotation marks keep the shell from naming them:
//!
//! ```sh
//! tracing-audit --db 'audit-*.db' query --agent alice
//! ```
//!
//! # Archives
//!
//! A file whose period is over can be moved, copied or compressed by whatever does that. To keep the entries and give up the
//! database:
//!
//! ```sh
//! tracing-audit archive --db audit-2026-11.db --tell audit-2026-12.db
//! ```
//!
//! It verifies the ledger, by `--checkpoint` against what was kept elsewhere; writes its entries to `payments-2026-11.jsonl.zst`, as
//! JSON Lines compressed with zstd; reads that file again, and compares the number of entries and the SHA-256; writes the record of
//! who has read the log, if there is one, to a file beside it; locks the database, and compares its end with that of the file; commits
//! an entry with the action `audit.archived` to the database that `--tell` names; and removes the database. The entry has the number
//! of entries, the hashes of the files, and the last checkpoint, so that the tree of the ledger that stays proves the files that are
//! left. The manifest beside the file has the same.
//!
//! The database stays, and the message says why, if it is in use, has entries in quarantine, has a writer that has not ended, if a
//! journal is there that may hold entries for it, or if somebody has read it under a name meanwhile. Killed at any point, the command
//! leaves the database whole, or the file and the entry; what an interrupted run has left is to be removed before the next one. What it
//! cannot see is a journal in a directory of another machine or container, of a writer that has never reached the
//! database: its entries are committed to a new file of the same name, and none is lost or there twice.
//!
//! An archive answers as the database did, for as long as it takes to read it:
//!
//! ```sh
//! tracing-audit --db payments-2026-11.jsonl.zst query --agent alice
//! ```
//!
//! Whoever changes it and its manifest cannot change the entry that tells of it, if the ledger of that entry is verified. So an
//! auditor verifies that one, and compares:
//!
//! ```sh
//! tracing-audit --db audit-2026-12.db verify --checkpoint /mnt/elsewhere/audit.checkpoint
//! tracing-audit --db audit-2026-12.db query --action audit.archived
//! sha256sum payments-2026-11.jsonl.zst
//! ```
//!
//! The proofs of single entries are not in it: checkpoints that are smaller than the last one cannot be compared with it. Whoever needs
//! them makes a bundle first, by `tracing-audit bundle`. With
//! `--keep` the command writes the file and its manifest, and removes nothing; so can be kept what a PostgreSQL database holds of a
//! ledger, which the owner of its tables then deletes: see [retention](crate::guide::postgres#retention).
