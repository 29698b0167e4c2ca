//! Failures: what happens when something fails, and what a service can do about it.
//!
//! Whatever fails, the books balance at any instant: [`Stats`](crate::Stats) counts each entry as committed,
//! rejected, quarantined, damaged or pending. Accepted entries stay queued, in order, and are retried for ever: first
//! after 20 ms, eventually every 2 s, each pause shortened at random by up to half.
//!
//! # The database fails
//!
//! In each of these cases, [`health`](crate::AuditLog::health) is [`Failing`](crate::Health::Failing) until a commit
//! succeeds, and [`on_notice`](crate::AuditLogBuilder::on_notice) is called. [`commit`](crate::AuditWriter::commit)
//! and [`committed`](crate::AuditLog::committed) return [`is_pending`](crate::AuditError::is_pending), with the
//! database's own error as the source. Nothing is lost or doubled once the cause is gone. The last column names the
//! test that shows the case: a module of `tests/suite` or of `src`, `tests/ends.rs`, or `src/engine/flusher/tests.rs`.
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | another process holds the database's lock | each attempt waits 5 s for it, then says so | `survive::faults`: `a_database_locked_for_12_s_…` |
//! | several processes write one SQLite file as fast as they can | they take turns, a batch each, in the order in which they ask (on Linux) | `survive::processes`: `eight_processes_share_one_file_…` |
//! | a stopped process holds the turn at a SQLite file, or no turns can be taken there | one commit waits 2 s for the turn; then, and without turns, SQLite's own lock decides | `store::sqlite::append`: `a_turn_that_never_ends_…`, `a_file_where_no_turns_…` |
//! | the file system is full | entries wait until there is room; fewer are tried at once, down to one, and the journal gives its spare segment back; where less than 64 MiB are free, only so many are committed at once that the `-wal` can still be moved into the file | `survive::faults`: `a_full_file_system_…`; `survive::room`: `a_neighbour_that_fills_the_disk_…`; `flusher`: `a_database_with_room_for_few_rows_…` |
//! | it is full when a log is opened | with a journal, `open` succeeds, health is `Failing`, and entries are committed once there is room; without one, `open` is an error | `survive::room`: `a_log_opens_on_a_full_disk_…` |
//! | it becomes read-only | entries wait until it is writable again | `survive::faults`: `a_file_system_remounted_read_only_…` |
//! | the file is deleted or replaced | entries wait until that file is back; no other is ever written, and no new one begun | `survive::faults`: `a_file_unlinked_and_restored_…`; `sqlite::operation`: `a_file_replaced_under_us_…` |
//! | the SQLite file or its `-wal` is moved and a link put in its place, or the link to the file leads there by another name | SQLite names its files after the one at the end of all links, so what is committed would not be found: nothing is confirmed, and health is `Failing` until the file is back. A `-wal` left beside a link is refused at the next start with the name that it must have | `sqlite::files`: `nothing_is_confirmed_while_a_link_…`, `nothing_is_confirmed_once_the_link_…`, `a_write_ahead_log_that_is_moved_behind_…`, `a_write_ahead_log_left_beside_a_link_…` |
//! | the `-wal` or `-shm` of a SQLite file is removed or replaced | nothing is confirmed meanwhile; what it held is moved into the file, which is opened again, and then the batch is committed once | `sqlite::files`: `a_write_ahead_log_that_is_removed_…`, `an_index_of_the_write_ahead_log_…`, `a_file_that_is_mounted_over_…` |
//! | the `-wal` is cut or overwritten, also by an earlier copy of itself | nothing is confirmed until SQLite has read anew what is left (SQLite 3.51 or later); an `audit.gap` entry tells how many confirmed entries are lost with the rest | `sqlite::files`: `a_write_ahead_log_that_is_cut_…`, `…_lacks_its_last_byte_…`, `…_an_earlier_copy_…`, `…_overwritten_with_something_else_…` |
//! | the `-wal` is cut or overwritten after the last commit, before the log ends or while it is idle | the same, without a batch: within 5 s, or at the end of the log, which also tells it by a notice and in the report's `last_error` | `sqlite::files`: `a_write_ahead_log_that_is_cut_right_before_…` |
//! | a pipe or a device is in place of the file, its `-wal`, `-shm` or `-journal` | nothing waits for it; `open` and reading are an error, and a running log commits again once it was moved away | `sqlite::files`: `a_pipe_or_device_…`, `no_command_plays_…` |
//! | the file itself is cut or overwritten in place (`truncate`, `cp`, logrotate's `copytruncate`) | nothing is confirmed or written; entries wait until its contents are back in the same file | `sqlite::files`: `a_database_that_is_cut_is_written_again_…`, `a_database_that_is_copied_over_…` |
//! | a `-wal` was left beside a file to which it does not belong (a restored backup, a file that is empty or gone) | `open` is an error, also every read and each command, and neither file is changed: move the `-wal` away, or restore both of one moment | `sqlite::files`: `a_write_ahead_log_left_beside_…`, `a_write_ahead_log_whose_database_…`, `no_command_plays_…` |
//! | a rollback `-journal` lies beside a file to which it does not belong: another program's, or one of the file's own past | `open` and every read are an error that says why, and neither file is changed: move the `-journal` away. SQLite would write what is in it over the file. A log that is running commits on. One that belongs to the file (a kill while the file was created or its mode was changed, or amid a transaction in another mode than WAL) is played. Of a file that is encrypted, or of a transaction in another mode that has not come to the first page, less can be compared | `sqlite::files`: `a_rollback_journal_that_does_not_belong_…`, `…_that_belongs_…`, `…_beside_a_running_log_…` |
//! | somebody changes the head of a SQLite file or removes its last batches, and the `-wal` holds this or what a log has committed over it | readers of other processes and the next log open the two: the `-wal` belongs to the file. The next commit tells of the change, and coverage and `check` say what it has done | `sqlite::files`: `an_end_of_the_ledger_that_somebody_…` |
//! | the file itself has the name of its `-wal`, `-shm` or `-journal` (a hard link) | `open` and reading are an error: move that name away | `sqlite::files`: `the_database_itself_under_the_name_…` |
//! | the process has no free descriptor | what needs one is an error or waits, and works again as soon as there are some; the log goes on committing over the connection that it has | `sqlite::files`: `a_process_without_a_free_descriptor_…` |
//! | a reader is the last one that closes a file whose `-wal` holds something (its writer was killed) | the `-wal` stays as it is, and the next log moves it into the file. Where a backup was copied over the file meanwhile, the two stay apart too | `sqlite::files`: `no_command_plays_…`, `a_reader_that_outlives_…` |
//! | the file is on a read-only medium, or this process may only read it | it is read if nobody has it open, or if its `-wal` and `-shm` may be read too; otherwise an error says to copy both files, or to open it once where it can be written. A reader follows it when somebody begins to write it | `sqlite::files`: `a_closed_database_on_a_read_only_medium_…`; `sqlite::places`: `a_user_who_may_only_read_…`, `a_log_is_read_and_followed_…` |
//! | a limit on the size of files (`ulimit -f`) is reached | a write is an error, and entries wait; the process does not end: `SIGXFSZ` is ignored from the first log on, unless the program handles it | `sqlite::files`: `a_limit_on_the_size_of_files_…` |
//! | another program checkpoints, vacuums, opens or closes the file | nothing: that is allowed | `sqlite::files`: `what_other_programs_may_do_…` |
//! | the file is damaged | opening says so; a writer waits until it is restored in place | `survive::faults`: `a_file_damaged_in_the_middle_…` |
//! | the file was damaged or cut while nobody had it open, also without a `-wal` | `open` is an error if the damage is in the header, the size, the first pages of a table or an index, the end of a table, or more than a fortieth of the entries; it reads some 130 pages, whatever the size (2 ms at 1.2 GB, if they are in memory). What is less is found by whoever reads it, and by SQLite's `PRAGMA integrity_check` | `sqlite::places`: `a_file_that_was_damaged_…` |
//! | the path, or the link that it is, leads to the database of another program | `open` is an error that names what was found, and the file stays as it is: give another path, or a pool on it, or make the tables by hand | `sqlite::places`: `a_database_of_another_program_…` |
//! | a file that is none of SQLite's has the name of its `-wal` or `-journal` | `open` and reading are an error: move it away | `sqlite::places`: `a_file_that_has_the_name_…` |
//! | the file is on NFS, SMB, 9p, FUSE or virtiofs | `open` is an error: choose a local disk, or PostgreSQL. A log that was closed there is read; one that is in use, or has a `-wal`, is read on the machine that writes it, or from a copy of both files. A pool of the application is not refused, and told once | `sqlite::places`: `a_database_on_a_file_system_…` |
//! | others may write to the file, or replace it; the path is a link that another user has made | one notice at `open` names who and the remedy | `sqlite::places`: `a_database_to_which_others_may_write_…` |
//! | the file is mounted by itself, without its directory; or one of the file and the queue is in a container's own layer or in memory, and the other one is not | one notice at `open`: mount the directory; keep both in one volume | `sqlite::places`: `a_database_or_a_queue_in_a_volume_…` |
//! | no directory for temporary files can be written (a read-only file system without `/tmp`) | the command makes them beside the database. A log and a reader sort in memory, with 50 bytes for each row and what it is sorted by; counts and new indexes of more than 500 000 entries are an error that names the variable `SQLITE_TMPDIR` | `sqlite::places`: `where_no_temporary_files_…` |
//! | PostgreSQL: somebody makes a schema with the name of the role, temporary tables, functions, operators or types with names of ours or of the server's | nothing: they are not looked at, behind a pooler neither; a schema with the name of the role that has audit tables where no other has some is an error, with the remedy | `postgres::names`: `a_schema_with_the_name_of_the_role_…`, `functions_operators_and_types_…`, `temporary_tables_…` |
//! | PostgreSQL: a table is put in the place of ours, or gets another owner, while a log runs; the tables vanish | nothing is confirmed or read, health is `Failing`, and the error names the table, as `check`, `verify` and [`coverage`](crate::AuditReader::coverage) of that process do; once it is put back, everything that waits is committed. A process that starts afterwards takes what it finds | `postgres::names`: `a_table_that_is_put_in_the_place_…`, `tables_that_vanish_…` |
//! | a trigger, a rule or a view drops or changes what is written | nothing is confirmed, health is `Failing`, and the error names it; once it is removed, everything that waits is committed | `contract::meddling`: `a_trigger_that_drops_…`; `postgres::faults`: `a_trigger_that_waits_…`, `a_rule_that_drops_…`; `sqlite::operation`: `a_view_in_the_place_…` |
//! | there is a trigger that changes nothing of ours | one notice names it, and every entry is read back before its commit is confirmed | `contract::meddling`: `a_trigger_that_changes_nothing_…` |
//! | entries are removed from the end of the ledger, or its head or batches are changed | the next commit adds an `audit.gap` entry that tells it, and continues after every `seq` that any writer is known to have confirmed; what is changed before the end is not found, and a ledger that is removed whole while its head stays (see [retention](crate::guide::postgres#retention)) is not told | `contract::meddling`: `an_end_of_the_ledger_…`, `a_head_that_is_gone_…`, `several_writers_…` |
//! | PostgreSQL: a process is stopped or cut off while it commits | others wait for 30 s at most, or for a minute if it was sending rows; then the server, or one of the others under the same role, ends its transaction, which it repeats if it continues. A limit that the role or the server sets counts instead | `postgres::faults`: `a_process_that_is_stopped_…`, `rows_that_do_not_come_…` |
//! | a writer's position is changed | a notice says so, and the log continues from what the batches and the quarantine account for; no journal is discarded for it | `contract::meddling`: `a_position_changed_…`; `survive::journal`: `a_position_that_nothing_…` |
//! | something refuses every entry for a while (a trigger, a constraint) | nothing is quarantined, health is `Failing`, and entries wait; an entry is at fault only if one transaction refuses it and accepts another entry | `survive::faults`: `a_trigger_that_refuses_everything_…` |
//! | the clock goes backwards by more than a second, or is behind another writer's | one notice names both times: queries by `ts` or by the time of commit may leave out entries in between, and those by `from_seq` do not | `contract::meddling`: `a_clock_that_goes_backwards_…` |
//! | somebody changes what the head of a ledger says of its tree | one notice ([`is_altered`](crate::AuditError::is_altered)); the log goes on from the tree that it left, or makes it anew from the leaves that are stored; what else was changed, `tracing-audit verify` says | `contract::tree`: `a_head_that_somebody_has_changed_…` |
//! | somebody changes, removes, adds or exchanges what was committed, or what proves it | nothing stops; `tracing-audit verify` finds and names it by a checkpoint that was kept elsewhere: see [`integrity`](super::integrity) | `contract::evidence`, `command::verify` |
//! | a checkpoint is changed, or is signed by another key, by an old one after its rotation, or by too few witnesses | `verify --trust` names it ([`FindingKind`](crate::evidence::FindingKind)) and does not hold the ledger against it, and a proof or a bundle that brings it along is refused; exit code 1 | `command::signed`: `a_signed_checkpoint_is_verified_…`, `a_proof_and_a_bundle_…`; unit tests of `ledger::trust` and `ledger::key` |
//! | a checkpoint beside a trust file has no signature, in whatever form it is given | it is a finding of `verify` (`UnknownKey`), and `verify-proof`, `verify-bundle` and `consistency` refuse it; exit code 1, and a sentence that names the file and the line. Give the signed one. Without `--trust` the output says `signed: no` | `command::signed`: `a_checkpoint_without_signatures_…` |
//! | a ledger is rolled back or exchanged under a notary | it signs nothing and says so ([`is_altered`](crate::AuditError::is_altered); the command, which also reads the entries that are new, ends with exit code 1, or goes on with `--every`); entries are committed as before. Verify the ledger against the last checkpoint; if it was you who restored a backup, `tracing-audit ledger accept-restore` declares it, and the ledger goes on under another origin | `contract::notary`: `a_notary_signs_what_goes_on_…`; `command::signed`: `a_notary_publishes_…`, `a_backup_that_was_restored_…` |
//! | somebody writes a line to a notary's file that none of its keys has signed | nothing is signed ([`is_altered`](crate::AuditError::is_altered); exit code 1 of the command), and a sentence names the line: find out who has written it, and remove it, or name another file. A line before one that is signed, of a smaller tree, counts for nothing | `evidence::checkpoint_file`: `a_line_that_none_of_the_keys_…`; `command::signed`: `a_notary_believes_no_line_…` |
//! | the file of a notary is emptied, cut or removed | a notary that runs signs nothing and says so: put back what was there, or begin another file. After a restart nothing remembers what was lost: a file that is empty is begun anew, and the command says so; one that is missing is made | `contract::notary`: `a_running_notary_signs_nothing_…`; `command::signed`: `a_notary_believes_no_line_…` |
//! | `checkpoint --to FILE` without a key, and another ledger has the place of the one in FILE | nothing is appended, also if both have the same name in the database: exit code 1. Name another file for another ledger | `command::signed`: `without_a_key_no_other_ledger_…` |
//! | `key rotate` or `ledger accept-restore` cannot commit its entry | the file of the new key is removed, and that is said; if the entry may have been committed, or may be yet, the file stays, and a sentence says to look for the entry | `key`, in the command: `the_file_of_a_key_that_was_not_declared_…` |
//! | a sink of a notary fails, or its key cannot sign now | the other sinks have the checkpoint, and the failure is told; the next one is tried again. Nothing keeps anybody from committing | `contract::notary`: `a_sink_or_a_key_that_fails_…`, `a_notary_on_a_thread_…` |
//! | others may read the file of a key | it is refused: make a new one, or `chmod 600` it if nobody has read it | `evidence::key_file`: `a_key_that_others_may_read_is_refused` |
//! | a write to a file of checkpoints is cut off | the next one begins on a new line, the notary remembers the last whole one, and `verify` says that it passes over the line | `evidence::checkpoint_file`; `command::signed` |
//! | an entry is to be proven that was changed, or whose batch or hashes were, or by a checkpoint of another ledger | no proof is made: [`is_altered`](crate::AuditError::is_altered), and exit code 1 of `prove` and `bundle`, with what is wrong. Verify the ledger. A bundle that was begun has no last line, so nobody takes it for a whole one | `contract::proofs`: `what_was_changed_is_not_proven_…`; `command::prove` |
//! | a proof or a bundle has a byte changed, is cut off, is of another checkpoint, lacks an entry or has one more | it is refused with a sentence of its own, and exit code 1 of `verify-proof` and `verify-bundle`; nothing of it is shown. Ask for it again | `ledger`: `a_proof_with_any_byte_changed_…`, `a_bundle_with_any_byte_changed_…`, `each_part_…`; `command::prove` |
//! | a field that is to be withheld is misspelled | no file is made if no entry has such a field: name it as the entry does | `ledger::disclosure`; `command::prove` |
//! | `tracing-audit verify --state` is killed amid its work | the next run goes on from the last state, and finds what one run finds; where the state contradicts a checkpoint it reads everything and the state does not count | `contract::large_ledger` |
//! | the tree cannot be added to: a row is in the place of the next leaves, a leaf is missing that the tree is made anew from, its tables are gone, the role may not write them | entries are committed without it, and one notice says why; it is tried again every minute, and what is missing is added then | `contract::tree`: `a_tree_that_cannot_be_added_to_…` |
//! | entries have no leaf: an earlier version or a log that leaves the tree alone has written them | the next log adds them in steps between its batches; killed in between, the next one goes on | `contract::tree`: `a_ledger_without_a_tree_…`, `writers_that_know_no_tree_…`; `survive::ledger`: `a_ledger_of_the_version_before_…` |
//! | somebody changes our tables | nothing is quarantined; entries wait until the tables are as they were | `survive::faults`: `a_column_dropped_under_us_…` |
//! | a commit succeeds and its answer is lost | the next attempt finds the position that the commit stored, and does not repeat it | `flusher`: `lost_answers_double_nothing_…` |
//! | the database does not answer at all | health is `Failing` after `commit_timeout`; the attempt continues, with a PostgreSQL server for at most a minute | `flusher`: `a_database_that_does_not_answer_…` |
//! | an operation on one of its files never returns | every call keeps its limit, health is `Failing` after `commit_timeout`, and `open` is an error after [`open_timeout`](crate::AuditLogBuilder::open_timeout); entries are committed once it returns | `survive::hangs`: `a_call_on_the_database_…` |
//! | it fails while nothing is pending | it is asked again until it answers, and health is `Healthy` again without an entry | `survive::journal`: `a_log_that_was_failing_…` |
//! | it cannot be opened at first | `open` is an error; [`AuditWriter::new`](crate::AuditWriter::new) keeps trying | `flusher`: `a_database_that_cannot_be_opened_at_first_…` |
//! | the file is no database, is for another ledger, or was made by a newer version | `open` is an error that names the remedy | `sqlite::operation`: `files_that_cannot_be_a_ledger_…` |
//! | a PostgreSQL server cannot be reached at first | with a journal, `open` succeeds and accepted entries are committed once the server can be reached; without a journal, `open` is an error | `postgres::operation`: `a_server_that_starts_late_…` |
//! | it is killed, stopped, or ends our connection | retried on a new connection, also if the COMMIT had been sent | `postgres::operation`: `nothing_accepted_is_lost_or_doubled_however_the_server_ends`, `lost_answers_to_a_commit_…` |
//! | it is read-only, its disk is full, it has no connection left, it cancels a statement or a transaction, its role loses a grant | reported with the remedy, and retried; no entry is blamed | `postgres::faults` |
//! | PostgreSQL: a log's role may not write its ledger, or the grant is taken away | `open` is an error, or health is `Failing`; the owner of the tables adds a row to `tracing_audit_grants`, and everything that waits is committed | `postgres::roles`: `a_ledger_that_a_role_may_not_write_…` |
//! | PostgreSQL: somebody who has a role of `roles.sql` forges entries, batches, heads, positions, leaves or records of reads, or writes another's ledger | the server refuses it: see [roles](crate::guide::postgres#roles) | `postgres::roles`: `none_of_the_roles_…`, `a_forged_call_…` |
//! | PostgreSQL: a function of the tables' owner is dropped, or somebody else has made one in its place | an error of the store; nothing is confirmed by it. The owner of the tables makes it anew as the script of the migration does, with the grants of `roles.sql` | `postgres::roles`: `a_function_that_somebody_else_has_put_…` |
//! | PostgreSQL: a role without rights on the tables finds entries that have no leaf | entries are committed without leaves, and a notice says that a log with the owner's role has to catch up | `postgres::roles`: `a_ledger_without_a_tree_…` |
//! | the password changes | requested again for each connection: `PostgresStore::password`, or the options of the pool | `postgres::faults`: `a_password_that_changes_…` |
//! | the tables do not exist or are older, and [`Migrate::Check`](crate::migrate::Migrate::Check) forbids creating them | an error; with a journal and a server, reported until somebody has created them | `postgres::faults`: `a_log_that_may_not_create_the_tables_…`; `survive::processes`: `tables_made_in_the_shell_…` |
//! | it has no such database, refuses the role, lacks a grant or TLS | an error that names the remedy | `postgres::operation`: `an_impossible_store_is_refused_…` |
//! | the URL of a PostgreSQL database has a parameter that nothing knows, such as a misspelled `sslmode`, or `PGSSLMODE` has a value that is none | an error that names the parameter; nothing connects, encrypted or not | `store::postgres`: `a_misspelled_parameter_…` |
//! | a machine between a log and its server says that there is no TLS | it gets neither role nor password, unless the URL says `sslmode=prefer`, `allow` or `disable`; the first two and `require` are told by a notice | `postgres::connections`: `a_machine_in_the_middle_…`, `a_server_has_an_ipv6_address_…` |
//! | the primary of several PostgreSQL servers is killed, and a standby is promoted | with all of them in the URL, the log goes on at the new primary; what the old one had confirmed is there if it waited for its standby (`synchronous_standby_names`) | `postgres::connections`: `a_log_goes_on_at_the_promoted_standby_…` |
//! | none of several servers can be used | an error that tells what is wrong with each | `postgres::connections`: `of_several_servers_…` |
//! | a password stands in the `--db` of a command line, which other users of the machine can list | refused with exit code 2, and the places where it may stand | `postgres::connections`: `a_password_in_the_process_list_…` |
//! | its certificate is not trusted, or names another server | no connection, and an error that says so | `postgres::tls`: `a_server_that_is_not_the_one_meant_is_refused` |
//! | the SQLite library has the [WAL-reset bug](https://www.sqlite.org/wal.html#walresetbug) | one notice names the remedy; health stays `Healthy` | `flusher`: `a_defect_of_the_database_s_library_…`; `store::sqlite::library`: `an_old_version_is_reported_…` |
//! | a requested index cannot be created | reported, and retried after 1 s, eventually every minute; meanwhile entries are committed, and found by a scan | `contract::indexes`: `a_log_that_may_not_create_an_index_…` |
//! | creating an index is interrupted | the next log creates it again | `postgres::operation`: `an_interrupted_index_is_created_again_…` |
//! | rows are changed to what no entry can have (not JSON, nested deeper than 127 levels, a number beyond `f64`, a time beyond the years, bytes of another type) | every reader, export and follower returns them in their place, with [`problems`](crate::SequencedEntry::problems) and what the columns hold as text, and continues; a condition on metadata that cannot be read finds nothing there. By time, a row whose `ts` was changed may be left out if its batch does not cover it: read by `seq` | `contract::going_on`: `a_row_that_somebody_has_changed_…`, `values_that_only_one_of_the_databases_…`, `an_entry_that_no_batch_holds_…`, `a_follower_passes_…` |
//! | entries are long | readers hold 4 MiB of text and a few entries, whatever the number of entries | `contract::going_on`: `pages_of_long_entries_…`, `the_command_needs_no_more_memory_…` |
//! | a reader's server cannot be reached | an error with the connection's own cause within two seconds; a follower repeats it and goes on when the server is back | `postgres::away` |
//! | a query holds what cannot be asked (the order of two ids, a number that is not finite, 17 `*` in a pattern, more than 200 conditions) | the read is an error that says which, [`is_query`](crate::AuditError::is_query); the command refuses it with exit code 2 before it answers | `contract::questions`: `values_are_compared_…`; `command::conditions`: `a_condition_that_cannot_be_meant_…` |
//! | the SQLite file of a reader or a follower is replaced (rotated) | the new file is read; a follower goes on if it is the same log, and an error says so if that is shorter or has another entry in place of the last one that was looked at: begin anew with `follow(0)`; `tail -F` does | `command::tail`: `a_tail_that_waits_notices_…`; `command::spliced`: `a_log_that_is_exchanged_…` |
//! | `export --resume`, `tail -o` or `tail --state` finds another log than the one with which it began (restored from a backup, another database), another question, or a file that was changed or that others may change | nothing is written, and one sentence says what differs and what to do: repeat the options, give the database of then, or name another file | `command::spliced`: `an_export_is_continued_only_…`, `a_copy_and_a_state_…`, `a_copy_or_a_state_that_says_nothing_…` |
//! | where the command is to write or to go on (`export -o`, its manifest and its parts, `tail -o`, `--state`, `man --out`) others have put a file or a link, or may write the file | nothing is written, and the command exits with 2: remove it, or name another file. Links of one's own and of root's are followed; devices, pipes and what the caller has opened are written to | `command::outputs`: `an_output_that_others_…` |
//! | a pipe, a device, a directory or a file of more than 16 MiB is in place of a checkpoint, a state, a plan or a manifest | it is named at once, and nothing waits for it or reads it whole; a checkpoint or a manifest that an option names may be a pipe that the caller has opened (`-`, `<(..)`). So are a pipe and a device in place of a bundle, of the export that is compared, and of a file of `checkpoint --to` | `command::outputs`: `a_pipe_a_device_or_a_huge_file_…`, `a_checkpoint_may_come_…`; `command::prove`: `a_pipe_in_place_of_a_file_…` |
//! | what was exported earlier is changed or removed in the database | `tracing-audit compare --against FILE` names each entry, and its exit code is 1 | `command::compare`: `an_earlier_export_…` |
//! | whoever reads the output of the command closes the pipe early | the command ends with exit code 0; `check`, `checkpoint`, `compare`, `consistency` and what verifies go on to their end, so that their exit code tells what they found, and `query` and `export` end with 5 if their whole answer may lack entries | `command::book`: `a_reader_that_has_seen_enough_…` |
//! | a view or a virtual table stands in the place of one of our tables | nothing is read through it: it can show anything, and never end. `verify`, `check` and `compare` name it with exit code 1, what answers questions is an error that names it ([`is_altered`](crate::AuditError::is_altered)), and [`coverage`](crate::AuditReader::coverage) says that and nothing else. Put the table back in its place | `command::verify`: `nothing_is_read_through_a_view_…`; `contract::covering`: `a_view_in_the_place_…` |
//! | a table, an index or a trigger is not as this crate makes it; the table of heads of a SQLite file has two rows | `verify` and `compare` say so as `check` does, with exit code 1, and read on; a file has the ledger of the first row | `command::verify`: `a_second_head_…`; `contract::evidence` |
//! | the end of a ledger is cut off with its batches and its head; leaf hashes, nodes or batches are removed, split or added | `check` compares the head with what is known of writers and with the numbers of the tree, and names what differs; an answer that may lack what was cut off ends with 5. Whoever changes all of these alike is found by `verify` and a checkpoint from outside | `contract::covering`: `an_end_that_was_cut_off_…` |
//! | an index is made to leave entries out while its definition stays the same (`PRAGMA writable_schema`) | queries that use it lack these entries, and only `check` finds it: it has SQLite read every index against its table. A definition that was changed is a finding of `check`, `verify` and `compare` | the file's own check: `sqlite::pages` |
//! | `tracing-audit verify --state` finds the ledger cut off or replaced | the state stays as it was, with what was found, and every later run says so until you remove the file; without what proves the ledger it stays too, until that is back | `command::verify`: `a_state_goes_on_only_…`; `contract::evidence`: `an_attacker_who_makes_all_…` |
//! | the state of `verify` cannot be read or written, or its output cannot be written | what was found is said first, then that; exit code 1 if something was found, else 4, or 2 if the file holds no state; such a file stays as it is | `command::verify`: `what_was_found_is_said_also_…` |
//! | the database counts other entries than the heads of its ledgers name | `stats` says both numbers, and its exit code is 5: run `tracing-audit check` | the command's unit test `a_sum_that_differs_from_the_heads_…` |
//! | rows, batches or the head of a ledger are removed or changed by others, or a view stands in the place of a table | [`coverage`](crate::AuditReader::coverage) of every question that they concern names the holes, the entries that no batch holds, and the head; the command's answers end with exit code 5, and `check` names each finding. Holes that an `audit.gap` entry of the log declares are told, and are no failure. Restore the rows from an export or a backup; nothing else brings them back | `contract::covering`; `command::coverage` |
//! | parts of a SQLite file are overwritten | an answer is an error, exit code 3, or it says what it lacks, exit code 5. Bytes within an index that leave its structure as it was are found by `check` only. Restore the file from a backup | `sqlite::pages` |
//! | a read that must be recorded cannot be | the read is not answered | `postgres::roles`: `a_writer_without_rights_…`; `sqlite::operation`: `tables_of_the_first_version_…` |
//! | an exported file has a line that is no entry, an incomplete last line, a `seq` or an `id` that is out of place, or is cut in its compressed form | `AuditReader::open_export` is an error that names the lines, and the command exits with 3: nothing is answered from the rest. Export it again, or restore the file | `contract::exported`: `a_file_that_is_not_whole_…`; `command::exported`: `a_file_that_is_not_as_it_was_made_…` |
//! | an exported file is not as its manifest says, for instance because a word in it was changed | the command exits with 3 and names the difference; the library does not read manifests. Restore the file | `command::exported`: `a_file_that_is_not_as_it_was_made_…` |
//! | an exported file lacks entries within its range | the number and the first line are in `ExportedLedger`, and the command tells them beside each answer, with the options of the manifest, or of the file beside a copy, if there is one. Where those asked for everything, or there is neither, the answer fails with 5 | `contract::exported`: `a_file_that_is_not_whole_…`; `command::exported`: `a_file_that_is_not_as_it_was_made_…` |
//! | there is no room for the temporary database of an exported file | an error that names its directory: free space there, or name another by `SQLITE_TMPDIR`. However the process ends, nothing is left but an empty directory | `command::exported`: `where_there_is_no_room_…`, `nothing_is_left_…` |
//! | the log's thread panics (a bug) | counted in [`panics`](crate::Stats::panics), survived | `flusher`: `a_panic_of_the_log_s_thread_…` |
//! | all of this, in any order | the books balance, every accepted entry is in one place | `flusher`: `whatever_happens_…` |
//!
//! # One entry is at fault
//!
//! Such an entry does not block the others, and the database is not blamed for it:
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | the database refuses one entry for good (a constraint, its size) | bisection of its batch finds it, and it is kept whole in quarantine; the rest is committed; `commit` returns [`is_quarantined`](crate::AuditError::is_quarantined) | `survive::faults`: `one_poison_entry_among_500_…` |
//! | it refuses every entry of a batch | the database is blamed: nothing is quarantined until it accepts another entry | `sqlite::operation`: `an_entry_that_the_database_refuses_waits_…` |
//! | the ledger already has an entry with its `id` | quarantined; `commit` returns [`is_duplicate`](crate::AuditError::is_duplicate) | `contract::writing`: `a_duplicate_is_quarantined_alone_…` |
//! | it exceeds the size limits | an event is cut, and its problems say so; a written entry is rejected, [`is_too_large`](crate::AuditError::is_too_large) | `contract::writing`: `a_too_large_entry_…` |
//! | it is malformed | stored, the raw value in the metadata, the problem listed | `contract::fields` |
//! | it says something else than was meant (`Debug` of an id, JSON that a parser changes, a client's metadata in place of a static field, an action of the log's own) | taken for what is meant where that is clear; otherwise kept as it stands, the problem listed | `contract::meaning` |
//! | a document is larger than a value may be | the texts in it are cut, its small fields stay, a problem | `contract::meaning`: `a_large_document_…` |
//! | a value's `Debug` panics | stored, with a problem | `emit::wiring`: `a_panicking_debug_…` |
//!
//! Quarantined entries are listed by [`quarantined`](crate::AuditReader::quarantined), written as JSON Lines by
//! [`export_quarantined`](crate::AuditReader::export_quarantined), and retried by
//! [`retry_quarantined`](crate::AuditWriter::retry_quarantined).
//!
//! # An entry is not accepted
//!
//! A rejection is reported to the caller by an error with
//! [`is_rejected`](crate::AuditError::is_rejected), and to the auditor by an entry with the action `audit.gap`, whose
//! metadata says how many were `rejected`, `from` when, `until` when, and why (`full`, `closed`, `too_large`). It is
//! appended once a commit has made room, so there is at most one per commit. A log with a journal also keeps the numbers
//! on disk, in room that it has reserved: if its process dies first, the next log tells of them, with its `queue`.
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | the queue is full, [`Block`](crate::WhenFull::Block) | the emitter waits once; after a wait that timed out, entries are rejected at once until there is room | `survive::faults`: `a_minute_of_overload_that_waits_…` |
//! | the queue is full, [`Reject`](crate::WhenFull::Reject) | rejected at once | `survive::faults`: `a_minute_of_overload_that_rejects_…` |
//! | entries are rejected, and the process is killed or ends before it can tell | the next log appends the `audit.gap` entry, once, with the exact numbers; after a loss of power, the last may be missing or told twice | `survive::adoption`: `rejections_of_a_dead_process_…` |
//! | the segments of a dead log that has rejected entries are gone | nothing says for which database they were: the journal is left alone, and health is `Failing`; remove its directory | `queue::journal`: `rejections_without_a_segment_…` |
//! | the database is locked and a producer goes on | memory stays within the queue's bounds and 32 MB | `survive::faults`: `memory_stays_within_…` |
//! | the log is shut down | rejected, [`is_closed`](crate::AuditError::is_closed); once the thread has ended no gap entry can be written, but the books count it, and with a journal the next log tells of what was rejected until then | `emit::wiring`: `no_runtime_is_needed_…` |
//! | no audit event arrives during `committed` | an error, [`is_wiring`](crate::AuditError::is_wiring) | `emit::committed`: `committed_without_an_event_…` |
//!
//! # The process ends
//!
//! While the database is well, an accepted entry waits at most `flush_interval` (100 ms) for its batch to start. A
//! queue in memory is lost with the process. A [`journal`](crate::AuditLogBuilder::journal) is left for the next log
//! with the same journal directory, database and ledger, which commits it:
//!
//! | how the process ends | what is lost from memory | from a journal | shown by |
//! |---|---|---|---|
//! | `main` returns, or panics and unwinds, with the [`AuditLog`](crate::AuditLog) in scope | nothing that can be committed within 5 s | nothing | `ends` |
//! | SIGTERM with a handler that calls [`shutdown`](crate::AuditLog::shutdown) | nothing that can be committed by its deadline; the report says what is left | nothing | `ends`; `survive::journal`: `a_shutdown_with_the_database_locked_…` |
//! | `process::exit`, `abort`, a panic under `panic = "abort"`, SIGTERM without a handler, `kill -9` | pending entries | nothing | `ends`; `survive::journal`: `nothing_announced_is_lost_or_doubled_by_kill_9` |
//! | killed within any system call, or one of them fails | | nothing | `survive::crash_points` |
//! | the machine loses power | pending entries | entries that the kernel had not written yet; with [`PowerLoss`](crate::Durability::PowerLoss), at most those of the last `within` | `survive::power_loss` |
//! | the async runtime that opened the log is dropped | nothing: the log has a thread of its own | nothing | `emit::committed`: `a_log_outlives_the_runtime_…` |
//! | a notice handler panics or never returns | nothing: it runs on another thread | nothing | `emit::committed`: `a_notice_handler_…` |
//! | `committed` is called in the destructor of a thread-local | the call is an error, as far as the thread's events cannot be followed any more; nothing is emitted | the same | `emit::committed`: `committed_while_a_thread_ends_…` |
//! | it forks | the child's own events: its calls are errors that say so | the same | `survive::journal`: `a_forked_child_…` |
//!
//! After a normal end a SQLite file alone is the log: its write-ahead log is moved into it by
//! [`shutdown`](crate::AuditLog::shutdown), when the [`AuditLog`](crate::AuditLog) is dropped (also if a global layer keeps
//! the log running), and when nothing was committed for 5 s. `flush` does not do it: that would cost two syncs a call. To
//! copy the file of a busy log, use SQLite's `VACUUM INTO`, or copy `-wal` along while no program has it open. A reader
//! that stays amid a transaction keeps what is newer in the `-wal`. Shown by `sqlite::files`: `after_a_shutdown_…`,
//! `a_log_dropped_while_…`, `an_idle_log_…`.
//!
//! A log looks for the journals of dead processes when it is opened, soon after, and every minute, and commits their
//! entries in addition to its own; [`recovered`](crate::Stats::recovered) counts them. Entries that a journal
//! accepted and no longer has are reported by an `audit.gap` entry in their place, whose metadata says how many were
//! `lost`, and from which `queue`. Fields that an adopted event leaves out get the defaults of the log that accepted it.
//!
//! | what fails | what happens | shown by |
//! |---|---|---|
//! | several processes die | the next log adopts all of their journals, while it accepts entries | `survive::journal`: `journals_of_several_dead_processes_…` |
//! | the last record was torn | it is cut, since it was never accepted; the segment is kept | `survive::journal`: `a_torn_tail_is_cut_…` |
//! | bytes of a journal change | the records that they hit are [`damaged`](crate::Stats::damaged) and reported; the rest is committed, and the segment kept in the directory `damaged` beside the journals | `survive::journal`: `damage_costs_what_it_hits_…` |
//! | the journal of a dead process is removed, emptied or cut, or its last records are overwritten with zeros | the next log on this machine with the same queue directory tells how many entries are `lost`, once: those that the ledger knows to have been accepted; it is told with each batch, and every second while entries wait | `survive::gone`: `accepted_entries_whose_journal_is_gone_…`, `accepted_entries_for_a_server_…`, `two_logs_…`, `a_log_that_is_alive_…` |
//! | the same, and the machine was restarted since | for a SQLite file on a local file system the same: only processes of this boot can write to it. For a server, see the next row | `survive::gone`: `entries_that_a_restart_…` |
//! | a writer has entries pending, and nothing says whether it is alive: it was in another container, on another machine, before a restart, or not on Linux | after an hour in which it said nothing, one notice names it, its queue, and how many entries it had accepted that are not committed. A writer that is alive says it every ten minutes. One that had nothing pending is not told of: a log that is idle says nothing, so its silence is no sign | `survive::gone`: `a_writer_that_nobody_can_prove_dead_…` |
//! | somebody must know that all of it is committed | [`recovered`](crate::AuditLog::recovered) waits for it, and [`unrecovered`](crate::Stats::unrecovered) tells how much is left, also in journals that another log has adopted | `survive::waiting`: `a_log_tells_what_dead_journals_hold_…` |
//! | a journal of a dead process is left alone: it is a link or another user's, has no lock, or cannot be read | `recovered` commits the others, and is an error that names it and the remedy | `survive::waiting`: `a_journal_that_is_left_alone_…` |
//! | a SQLite file is opened by another path (relative, by a link) | it has the same queue by default, and the same journals in a chosen one: the file decides, not its path | `survive::waiting`: `a_file_has_one_queue_…` |
//! | a server is reached at another address, or a SQLite file was moved | the ledger knows its writers: their journals are committed, and one notice says so | `survive::waiting`: `a_server_that_is_reached_…`, `a_database_that_was_moved_…` |
//! | containers of one machine share a directory of journals | a journal is adopted once its owner is dead, whichever container it was in: the lock of a journal counts in all of them. On a file system of a network, `open` is an error | `survive::copies`: `containers_…`; `survive::directory`: `a_journal_on_a_file_system_…` |
//! | a database is copied, and the copy opened with the original's directory of journals | while the original's file is where it was, the copy takes none of its journals. A copy on a server cannot be told from the original: give it a directory of its own | `survive::waiting`: `a_database_that_was_moved_…` |
//! | a machine is copied while a log runs (a snapshot of a virtual machine resumed twice), or a directory of journals is copied, and both write to one server | each entry of each copy is committed once. Who finds that another process has used its positions says so by one notice, and goes on under another writer. A copy of a journal whose log may be alive elsewhere tells nothing as lost; if its log is dead, what no copy has is told an hour later by the notice about silent writers. Give each copy a directory of journals of its own | `survive::copies` |
//! | a process dies with entries in memory | the same, by the next log on this machine | `survive::gone`: `accepted_entries_whose_journal_is_gone_…` |
//! | a segment is removed | its uncommitted entries are damaged and reported; the rest is committed | `survive::journal`: `a_segment_that_is_gone_…` |
//! | the database is restored from an earlier backup | entries that the journals of dead processes still have are committed again; the others are reported as lost, and so are those that a running log had committed since the backup | `survive::journal`: `a_database_restored_…` |
//! | a segment's header changes | the segment is read by its name, if another segment's header says for which database it is; otherwise it is left alone, and health is `Failing` while it exists | `survive::journal`: `a_header_that_no_longer_checks_…` |
//! | programs with different defaults share a directory of queues, or one is started again with others | an adopted event has the defaults of the log that accepted it; a journal of an earlier format does not say them, and what its events leave out stays empty | `survive::adoption`: `an_adopted_event_has_the_defaults_…`, `a_journal_without_defaults_…` |
//! | a client chose the bytes of old events, so that they look like records | reading a journal takes time linear in its bytes; in one of an earlier format the search is given up after 64 times that, and the file is kept | `survive::adoption`: `old_bytes_that_a_client_chose_…`; `queue::journal::scan` |
//! | the names and the values of `static_field` are longer than 1 MiB together | `open` is an error that says so | `queue::journal`: `defaults_longer_than_a_page_…` |
//! | somebody removes the `lock` of a journal | the journal is left alone, and health is `Failing` until the lock exists again | `survive::journal`: `a_journal_without_its_lock_…` |
//! | the disk cannot read some sectors of a journal | after three attempts (eight for the log's own journal) the entries in them are damaged and reported; the rest is committed, and the segment kept; 64 KiB in a row that cannot be read, or the first 4 KiB of a segment, count as a disk that is missing, which is waited for | `survive::hangs`: `sectors_of_a_journal_…` |
//! | a journal cannot be read | health is `Failing`, and reading is retried; a dead process's journal does not block the others | `flusher`: `a_queue_that_cannot_be_read_…` |
//! | an operation on the log's own journal never returns | the emitter whose own write it is cannot be interrupted; those behind it wait as [`WhenFull`](crate::WhenFull) says and are rejected, and every other call keeps its limit | `survive::hangs`: `a_call_on_the_queue_…` |
//! | a file of a dead process's journal hangs, or is a pipe | health is `Failing` after `commit_timeout` and names the directory; the log's own batches and other journals go on | `survive::journal`: `a_pipe_in_the_queue_…` |
//! | a journal is for another database or ledger, or of a newer version | left alone; if it is still there after a moment, one notice names it, what it is for, and how many entries it holds at most | `survive::waiting`: `a_journal_of_another_database_…`, `another_database_or_ledger_…`; `survive::journal`: `a_journal_for_another_database_…`, `a_foreign_file_in_the_queue_…` |
//! | its directory cannot be created or written | `open` is an error | `sqlite::operation`: `a_read_only_file_…` |
//! | the disk, or the journal's bound, is full | the queue is full, as [`WhenFull`](crate::WhenFull) says, until there is room | `survive::journal`: `a_full_journal_…`; `survive::faults`: `a_journal_on_a_full_file_system_…` |
//! | the database is locked or away for long, and grows in the same file system as the journals | the journals together take at most a quarter of what is free there and of what they hold, and never the last MiB: all that they accept can be committed without anybody making room. Not recognised are quotas, and subvolumes of btrfs or datasets of ZFS, which share room under several device numbers: there, bound the journal by [`journal_max_bytes`](crate::AuditLogBuilder::journal_max_bytes) | `survive::room`: `what_a_journal_accepts_in_an_outage_…`, `a_journal_on_a_disk_of_its_own_…` |
//! | there is no room for a journal when a log is opened | `open` succeeds; health is `Failing`, and `Rejecting` from the first entry on, until there is room; if not even its directory and its lock can be made, `open` is an error | `survive::room`: `a_log_opens_though_its_journal_has_no_room_…`; `survive::directory`: `an_open_that_fails_…` |
//! | the queue's directory, a journal, a segment or a lock is removed, moved or replaced under a running log | noticed within some seconds of the next append; made anew with all that is pending, and health is `Failing` until the next look | `survive::directory`: `files_that_are_taken_…`, `a_queue_that_is_taken_…` |
//! | what has the name of a journal, a lock or a segment is a link, a pipe, a device, or larger than any segment | neither followed nor read nor removed; health is `Failing` until it is removed; other journals are adopted | `survive::directory`: `what_is_not_the_log_s_own_…`, `links_among_…` |
//! | a journal or a file in it belongs to another user, who is not root nor the owner of the directory | left alone, health is `Failing`: give it to the log's user by `chown` if it is genuine, otherwise remove it | `survive::directory`: `a_journal_of_another_user_…` |
//! | others may write to the queue's directory, or it is another user's | one notice at `open` says who: make it the log's user's, with mode 0700 | `survive::directory`: `a_journal_of_another_user_…` |
//! | the queue's directory is on NFS, SMB, 9p, FUSE or virtiofs | `open` is an error: choose a local disk by [`journal`](crate::AuditLogBuilder::journal), or [`in_memory_queue`](crate::AuditLogBuilder::in_memory_queue) | `survive::directory`: `a_journal_on_a_file_system_…` |
//! | the size of files is limited (`ulimit -f`) | segments are as much smaller; below 64 KiB `open` is an error; a limit that is lowered later counts as a full disk | `survive::directory`: `a_limit_on_the_size_of_files_…` |
//! | a signal interrupts an allocation | it is tried again | `survive::directory`: `an_allocation_…` |
//! | `open` fails | what it had made in the queue is removed | `survive::directory`: `an_open_that_fails_…` |
//! | hundreds of processes die while the database is locked | each journal gives back the room that it had not used; eight at a time are held open | `queue::journal`: `many_dead_journals_…` |
//! | a sync of the journal fails or takes too long | health is `Failing` until one succeeds; its contents are written to another file, since no later sync of the first can be believed | `survive::crash_points` |
//!
//! What only grows: files in the directory `damaged` are evidence, at most one for each damaged segment; nothing removes them
//! but you, once they were looked at. `tracing_audit_positions` and `tracing_audit_writers` get one row each for every start
//! of a log, some 200 bytes together: ten thousand starts a year add 2 MB. They keep a journal that is found years later from
//! being committed twice, so leave them.
//!
//! What a journal can prove about its bytes: its checksums (CRC-32C) find accidents, such as a torn write, a bad sector or a
//! file in the wrong place. They are no proof of who wrote it. Whoever may write to the queue's directory can remove entries
//! that are not committed yet, and make up others that pass every check; so can root, and the log's own user. Therefore the
//! directory is the log's user's alone, and what belongs to others is not believed. A key in the database, with which each
//! record is signed, would stop only those who may write to the queue and may not read the database. The modes and the owner
//! stop them already, the log's user and root could read the key, and entries that are accepted before the first connection
//! would have none. Its cost would be small: for a record of 200 bytes HMAC-SHA-256 takes 0.25 µs and keyed BLAKE3 0.33 µs,
//! where CRC-32C takes 0.02 µs. Records are not signed: tampering is the ledger's business, from the commit on.
//!
//! # What a service does
//!
//! [`health`](crate::AuditLog::health) costs one atomic load, so a middleware can ask for it on every request:
//!
//! | health | a readiness probe says | ordinary requests | dangerous requests |
//! |---|---|---|---|
//! | `Healthy` | ready | continue | wait for `committed` |
//! | `Failing` | not ready, if other instances write elsewhere | continue: their entries wait in the queue | refused, or tried: `committed` decides |
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
