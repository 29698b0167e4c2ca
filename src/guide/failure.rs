//! Failures: what happens when something fails, and what a service can do about it.
//!
//! Whatever fails, the books balance at any instant: [`Stats`](crate::Stats) counts each entry as committed, rejected,
//! quarantined, damaged or pending. What is accepted stays queued, in order, and is tried again for ever: first after
//! 20 ms, at last every 2 s, each pause shortened at random by up to half.
//!
//! # What happens when
//!
//! In each case of the database's fault, [`health`](crate::AuditLog::health) is
//! [`Failing`](crate::Health::Failing) until a commit succeeds, [`on_notice`](crate::AuditLogBuilder::on_notice)
//! is told, [`commit`](crate::AuditWriter::commit) and [`committed`](crate::AuditLog::committed) return
//! [`is_pending`](crate::AuditError::is_pending) with what the database said as their source, and nothing is
//! lost or doubled once the cause goes away. The last column names the test that shows it: a module of
//! `tests/suite`, `tests/ends.rs`, or `src/engine/flusher/tests.rs`.
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | another process holds the database's lock | each attempt waits 5 s for it, then says so | `survive::faults`: `a_database_locked_for_12_s_…` |
//! | several processes write one SQLite file as fast as they can | they take turns, a batch each, in the order in which they ask (on Linux) | `survive::processes`: `eight_processes_share_one_file_…` |
//! | a stopped process holds the turn at a SQLite file, or no turns can be taken there | one commit waits 2 s for the turn; then, and without turns, SQLite's own lock decides | `sqlite::append`: `a_turn_that_never_ends_…`, `a_file_where_no_turns_…` |
//! | the file system is full | entries wait until there is room | `survive::faults`: `a_full_file_system_…` |
//! | it becomes read-only | entries wait until it is writable again | `survive::faults`: `a_file_system_remounted_read_only_…` |
//! | the file is deleted or replaced | entries wait until that file is back; no other is ever written, and no new one begun | `survive::faults`: `a_file_unlinked_and_restored_…`; `sqlite::operation`: `a_file_replaced_under_us_…` |
//! | the file is damaged | opening says so; a writer waits until it is restored in place | `survive::faults`: `a_file_damaged_in_the_middle_…` |
//! | somebody changes our tables | nothing is quarantined; entries wait until the tables are as they were | `survive::faults`: `a_column_dropped_under_us_…` |
//! | a commit succeeds and its answer is lost | the position stored with it tells, at the next attempt | `flusher`: `lost_answers_double_nothing_…` |
//! | the database does not answer at all | health turns bad after `commit_timeout`; the attempt goes on, with a PostgreSQL server for at most a minute | `flusher`: `a_database_that_does_not_answer_…` |
//! | it cannot be opened at first | `open` is an error; [`AuditWriter::new`](crate::AuditWriter::new) goes on trying | `flusher`: `a_database_that_cannot_be_opened_at_first_…` |
//! | the file is no database, is for another ledger, or was made by a newer version | `open` is an error that names the remedy | `sqlite::operation`: `files_that_cannot_be_a_ledger_…` |
//! | a PostgreSQL server is not there at first | with a journal, `open` succeeds all the same and what is accepted is committed once it is there; without, `open` is an error | `postgres::operation`: `a_server_that_starts_late_…` |
//! | it is killed, stopped, or ends our connection | tried again on a new one, also if the COMMIT had been sent | `postgres::operation`: `nothing_accepted_is_lost_or_doubled_however_the_server_ends`, `lost_answers_to_a_commit_…` |
//! | it is read-only, its disk is full, it has no connection left, it cancels a statement or a transaction, its role loses a grant | told with its remedy, and tried again; no entry is blamed | `postgres::faults` |
//! | the password changes | asked for again for each connection: [`PostgresStore::password`](crate::PostgresStore::password), or the options of the pool | `postgres::faults`: `a_password_that_changes_…` |
//! | the tables are not there, or older, and [`Migrate::Check`](crate::migrate::Migrate::Check) forbids to make them | an error; with a journal and a server, told until somebody has made them | `postgres::faults`: `a_log_that_may_not_create_the_tables_…`; `survive::processes`: `tables_made_in_the_shell_…` |
//! | it has no such database, refuses the role, lacks a grant or TLS | an error that names the remedy | `postgres::operation`: `an_impossible_store_is_refused_…` |
//! | its certificate is not trusted, or names another server | no connection, and an error that says so | `postgres::tls`: `a_server_that_is_not_the_one_meant_is_refused` |
//! | an index that was asked for cannot be made | told, and tried again after 1 s, at last every minute; entries are committed meanwhile, and found by a scan | `contract::indexes`: `a_log_that_may_not_create_an_index_…` |
//! | making one is interrupted | the next log makes it anew | `postgres::operation`: `an_interrupted_index_is_created_again_…` |
//! | a read cannot be recorded, by a reader that is told to | it is not answered | `postgres::operation`: `a_writer_with_the_documented_grants_…`; `sqlite::operation`: `tables_of_the_first_version_…` |
//! | the log's thread panics (a bug) | counted in [`panics`](crate::Stats::panics), survived | `flusher`: `a_panic_of_the_log_s_thread_…` |
//! | all of this, in any order | the books balance, every accepted entry is in one place | `flusher`: `whatever_happens_…` |
//!
//! What is one entry's fault stands in nobody's way, and is not the database's:
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | the database refuses one entry for good (a constraint, its size) | it is found by halving its batch and set aside whole in quarantine, the rest is committed; `commit` returns [`is_quarantined`](crate::AuditError::is_quarantined) | `survive::faults`: `one_poison_entry_among_500_…` |
//! | it refuses every entry of a batch | that is the database's fault: nothing is quarantined until it accepts another | `sqlite::operation`: `an_entry_that_the_database_refuses_waits_…` |
//! | its `id` is in the ledger already | quarantined; `commit` returns [`is_duplicate`](crate::AuditError::is_duplicate) | `contract::writing`: `a_duplicate_is_quarantined_alone_…` |
//! | it exceeds the size limits | an event is cut, which its problems say; a written entry is rejected, [`is_too_large`](crate::AuditError::is_too_large) | `contract::writing`: `a_too_large_entry_…` |
//! | it is malformed | stored, the raw value in the metadata, the problem listed | `contract::fields` |
//! | a value's `Debug` panics | stored, with a problem | `emit::wiring`: `a_panicking_debug_…` |
//!
//! Quarantined entries are shown by [`quarantined`](crate::AuditReader::quarantined), written as JSON Lines by
//! [`export_quarantined`](crate::AuditReader::export_quarantined), and tried again by
//! [`retry_quarantined`](crate::AuditWriter::retry_quarantined).
//!
//! What is never accepted is told: to the caller by an error with
//! [`is_rejected`](crate::AuditError::is_rejected), and to the auditor by an entry with the action `audit.gap`, whose
//! metadata says how many were `rejected`, `from` when `until` when, and why (`full`, `closed`, `too_large`). It is
//! appended when a commit has made room, so there is at most one per commit.
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | the queue is full, [`Block`](crate::WhenFull::Block) | the emitter waits once; after a wait in vain entries are rejected at once until there is room | `survive::faults`: `a_minute_of_overload_that_waits_…` |
//! | the queue is full, [`Reject`](crate::WhenFull::Reject) | rejected at once | `survive::faults`: `a_minute_of_overload_that_rejects_…` |
//! | the database is locked and a producer goes on | memory stays within the queue's bounds and 32 MB | `survive::faults`: `memory_stays_within_…` |
//! | the log is shut down | rejected, [`is_closed`](crate::AuditError::is_closed); with the thread gone no entry can tell, the books do | `emit::wiring`: `no_runtime_is_needed_…` |
//! | no audit event arrives within `committed` | an error, [`is_wiring`](crate::AuditError::is_wiring) | `emit::committed`: `committed_without_an_event_…` |
//!
//! What is accepted and not committed waits at most `flush_interval` (100 ms) for its batch to start, on a good
//! day. With a queue in memory it goes with the process; a [`journal`](crate::AuditLogBuilder::journal) is left for the
//! next log with the same journal directory, database and ledger, which commits it:
//!
//! | how the process ends | what is lost from memory | from a journal | shown by |
//! |---|---|---|---|
//! | `main` returns, or panics and unwinds, with the [`AuditLog`](crate::AuditLog) in scope | nothing that can be committed within 5 s | nothing | `ends` |
//! | SIGTERM with a handler that calls [`shutdown`](crate::AuditLog::shutdown) | nothing that can be committed by its deadline; the report says what is left | nothing | `ends`; `survive::journal`: `a_shutdown_with_the_database_locked_…` |
//! | `process::exit`, `abort`, a panic under `panic = "abort"`, SIGTERM without a handler, `kill -9` | what is pending | nothing | `ends`; `survive::journal`: `nothing_announced_is_lost_or_doubled_by_kill_9` |
//! | killed within any system call, or one of them fails | | nothing | `survive::crash_points` |
//! | the machine loses power | what is pending | what the kernel had not written yet; with [`PowerLoss`](crate::Durability::PowerLoss) the last `within` | `survive::power_loss` |
//! | the async runtime that opened the log is dropped | nothing: the log has a thread of its own | nothing | `emit::committed`: `a_log_outlives_the_runtime_…` |
//! | a notice handler panics or never returns | nothing: it runs on another thread | nothing | `emit::committed`: `a_notice_handler_…` |
//! | it forks | the child's own events: its calls are errors that say so | the same | `survive::journal`: `a_forked_child_…` |
//!
//! With a journal, a process that finds what dead ones left (when it opens a log, soon after, and every minute) commits it
//! beside its own; [`recovered`](crate::Stats::recovered) counts it. What the journal accepted and no longer has is
//! told by an `audit.gap` entry in its place, whose metadata says how many were `lost`, and from which `queue`.
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | several processes die | the next adopts all of their journals, while it accepts | `survive::journal`: `journals_of_several_dead_processes_…` |
//! | the last record was torn | cut: it was never accepted; the segment is kept | `survive::journal`: `a_torn_tail_is_cut_…` |
//! | bytes of a journal change | what they hit is [`damaged`](crate::Stats::damaged) and told, the rest committed, and the segment kept in `damaged` beside the journals | `survive::journal`: `damage_costs_what_it_hits_…` |
//! | a segment is removed | what was in it and not committed is damaged and told, the rest committed | `survive::journal`: `a_segment_that_is_gone_…` |
//! | the database is restored from an earlier backup | what journals of dead processes still have is committed again; the rest is told, and so is what a running log had committed since | `survive::journal`: `a_database_restored_…` |
//! | a segment's header changes | read by its name, if another segment's header says for which database; otherwise left alone, and health is `Failing` while it is there | `survive::journal`: `a_header_that_no_longer_checks_…` |
//! | somebody takes the `lock` of a journal away | left alone, and health is `Failing` until there is one | `survive::journal`: `a_journal_without_its_lock_…` |
//! | a journal cannot be read | health is `Failing`, and it is read again; a dead process's stands in no other's way | `flusher`: `a_queue_that_cannot_be_read_…` |
//! | a journal is for another database or ledger, or of a newer version | left alone | `survive::journal`: `a_journal_for_another_database_…`, `a_foreign_file_in_the_queue_…` |
//! | its directory cannot be made or written | `open` is an error | `sqlite::operation`: `a_read_only_file_…` |
//! | the disk, or the journal's bound, is full | the queue is full, as [`WhenFull`](crate::WhenFull) says, until there is room | `survive::journal`: `a_full_journal_…`; `survive::faults`: `a_journal_on_a_full_file_system_…` |
//! | a sync of the journal fails or takes too long | health is `Failing` until one succeeds; what was in that file is written to another, since no later sync of it can be believed | `survive::crash_points` |
//!
//! # What a service does
//!
//! [`health`](crate::AuditLog::health) costs an atomic load, so a middleware can ask it for every request:
//!
//! | health | a readiness probe says | ordinary requests | dangerous ones |
//! |---|---|---|---|
//! | `Healthy` | ready | go on | wait for `committed` |
//! | `Failing` | not ready, if other instances write elsewhere | go on: their entries wait in the queue | refused, or tried: `committed` decides |
//! | `Rejecting` | not ready | refused, where no request may go unaudited | refused |
//! | `Closed` | not ready | the service is going down | refused |
//!
//! ```
//! use tracing_audit::{AuditLog, Health};
//!
//! /// Whether a request may run now, for a service in which none may go unaudited.
//! fn admits(audit: &AuditLog, dangerous: bool) -> bool {
//!     match audit.health() {
//!         Health::Healthy => true,
//!         Health::Failing => !dangerous,
//!         _ => false,
//!     }
//! }
//! ```
//!
//! The example `axum_service` is such a service: its readiness follows `health`, and one route fails closed.
//! An error of `committed` that [`is_pending`](crate::AuditError::is_pending) means that the entry may still be
//! committed: the act has not happened, and the ledger may come to say that it was allowed. A service that
//! cannot live with that emits another entry when the act is done.
//!
//! What to watch, of [`stats`](crate::AuditLog::stats): `oldest_pending` (an alarm above a few seconds),
//! `rejected` and `quarantined` (an alarm at any growth), `retries` and `last_error`.
