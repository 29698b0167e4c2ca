//! Accepted entries survive the process: journals on disk, and real processes that are killed.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tracing::info;
use tracing_audit::{
    AuditEntry, AuditLog, AuditLogBuilder, Durability, Health, SequencedEntry, Store, WhenFull,
    journal::inspect,
};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

use crate::support::{
    self, assert_balanced, block_on, commit, entry, heavy, in_own_process, lock, settle, this_test, unlock,
    wait_until,
};

pub(super) fn builder(directory: &Path) -> AuditLogBuilder {
    let store = Store::sqlite(directory.join("audit.db")).unwrap();
    support::builder(store).journal(directory.join("audit.db.queue")).on_notice(|_| {})
}

pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join("audit.db")
}

/// The segments of a journal, oldest first.
pub(super) fn segments(journal: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(journal).unwrap().map(|found| found.unwrap().path());
    let mut segments: Vec<_> =
        found.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect();
    segments.sort();
    segments
}

/// Directories of journals.
pub(super) fn journals(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory.join("audit.db.queue")) else { return Vec::new() };
    let paths = found.map(|found| found.unwrap().path());
    paths.filter(|path| !path.ends_with("damaged")).collect()
}

fn entries(directory: &Path) -> Vec<SequencedEntry> {
    support::all_in(file(directory).to_str().unwrap())
}

/// Opens a log until nothing of dead processes is left.
fn recover(directory: &Path) -> AuditLog {
    let log = builder(directory).blocking().open().unwrap();
    wait_until("every journal is adopted", || journals(directory).len() == 1);
    log
}

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";

/// Emits numbered events and writes each number to standard output after `info!` has returned.
fn announce(directory: &Path) {
    let log = builder(directory).blocking().open().unwrap();
    tracing_subscriber::registry().with(log.layer()).init();
    let mut out = std::io::stdout().lock();
    for i in 0..u64::MAX {
        info!(target: "audit", action = "a", i);
        out.write_all(&i.to_le_bytes()).unwrap();
        if i % 4096 == 4095 {
            // Some children are killed while nothing is pending.
            out.flush().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Kills a child that announces, and returns how many numbers it announced: at a moment within the first 100 ms of its
/// work, or once it has announced a number of bytes, which takes a slow machine longer.
fn killed(test: &str, directory: &Path, by_bytes: bool) -> u64 {
    let mut child = support::again(test)
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&count);
    let reading = std::thread::spawn(move || {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match out.read(&mut buffer).unwrap() {
                0 => return bytes,
                some => bytes.extend_from_slice(&buffer[..some]),
            }
            read.store(bytes.len() as u64, Ordering::Relaxed);
        }
    });
    wait_until("it works", || !journals(directory).is_empty());
    if by_bytes {
        let enough = fastrand::u64(1000..200_000);
        wait_until("it has announced enough", || count.load(Ordering::Relaxed) >= enough);
    } else {
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..100_000)));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let bytes = reading.join().unwrap();
    // The first number, which is 0, follows the output of the harness.
    let start = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes[start..].len() as u64 / 8
}

fn kill_again_and_again(test: &str, kills: usize) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return announce(Path::new(&directory));
    }
    let _heavy = heavy();
    let (mut announced_in_all, mut recovered) = (0, 0);
    for kill in 0..kills {
        let directory = tempfile::tempdir().unwrap();
        let announced = killed(test, directory.path(), kill % 2 == 1);
        let log = recover(directory.path());
        recovered += log.stats().recovered;
        let found = entries(directory.path());
        let numbers: Vec<u64> =
            found.iter().map(|found| found.entry.metadata["i"].as_u64().unwrap()).collect();
        // In order, without a hole, each once; one more may have been accepted than announced.
        assert_eq!(numbers, (0..found.len() as u64).collect::<Vec<_>>());
        assert!(found.len() as u64 >= announced, "{announced} announced, {} there", found.len());
        assert_eq!(support::assert_tree(directory.path().join("audit.db").to_str().unwrap()), 0);
        announced_in_all += announced;
    }
    println!(
        "{kills} kills, {announced_in_all} events announced, {recovered} recovered from journals, 0 lost, 0 doubled"
    );
    assert!(announced_in_all > 0 && recovered > 0);
}

#[test]
fn nothing_announced_is_lost_or_doubled_by_kill_9() {
    kill_again_and_again(this_test!(), 30);
}

#[test]
#[ignore = "takes half an hour: `cargo test --test suite survive::journal -- --ignored`"]
fn nothing_announced_is_lost_or_doubled_by_a_thousand_kills() {
    kill_again_and_again(this_test!(), 1000);
}

#[test]
fn a_log_that_ends_well_leaves_no_journal_behind() {
    let directory = tempfile::tempdir().unwrap();
    let log = builder(directory.path()).blocking().open().unwrap();
    assert_eq!(journals(directory.path()).len(), 1);
    for i in 0..1000 {
        log.writer().try_write(entry(i.to_string())).unwrap();
    }
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.committed, 1000);
    wait_until("it is removed", || journals(directory.path()).is_empty());
}

/// A child that accepts entries, of which it commits full batches at most, and dies.
pub(super) fn accepted_and_died(test: &str, directory: &TempDir, count: u64, ends: &str) {
    let child = support::child(
        test,
        &[(DIRECTORY, directory.path().to_str().unwrap()), ("COUNT", &count.to_string()), ("ENDS", ends)],
    );
    assert!(!support::wait(child).success());
}

fn accept_and_die() -> bool {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return false };
    let never = Duration::from_hours(1);
    let ends = std::env::var("ENDS").unwrap();
    let mut builder = builder(Path::new(&directory)).batch_entries(1 << 20).flush_interval(never);
    if matches!(ends.as_str(), "small segments" | "flush 300") {
        builder = builder.journal_max_bytes(512 << 10);
    }
    let log = builder.blocking().open().unwrap();
    let count: u64 = std::env::var("COUNT").unwrap().parse().unwrap();
    for i in 0..count {
        if i == 300 && ends == "flush 300" {
            log.blocking().flush().unwrap();
        }
        let padded = AuditEntry { reason: Some("x".repeat(500)), ..entry(i.to_string()) };
        log.writer().try_write(padded).unwrap();
    }
    match ends.as_str() {
        "abort" => std::process::abort(),
        _ => std::process::exit(1),
    }
}

#[test]
fn journals_of_several_dead_processes_are_adopted_by_the_next_while_it_accepts() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        // More than one segment each.
        accepted_and_died(test, &directory, 40_000, "exit");
        // While the database is locked, so that the second process does not adopt the journal of the first, and the new
        // entry and the backlog are pending at the same time.
        let blocker = block_on(lock(file(directory.path())));
        accepted_and_died(test, &directory, 40_000, "abort");
        assert_eq!(journals(directory.path()).len(), 2);
        let log = builder(directory.path()).blocking().open().unwrap();
        log.writer().try_write(entry("new")).unwrap();
        block_on(unlock(blocker));
        wait_until("every journal is adopted", || journals(directory.path()).len() == 1);
        // The second process adopted the first one's journal, and died while it committed that or its own.
        let stats = log.stats();
        assert!((1..=80_000).contains(&stats.recovered), "{stats:?}");
        assert_eq!((stats.offered + stats.recovered, stats.pending, stats.damaged), (stats.committed, 0, 0));
        let found = entries(directory.path());
        let unique: BTreeSet<Uuid> = found.iter().map(|found| found.entry.id).collect();
        assert_eq!((found.len(), unique.len()), (80_001, 80_001));
        // Committed beside the backlog, not behind it.
        assert_ne!(found[80_000].entry.action, "new");
    });
}

/// Makes a pipe that nobody writes to: whoever opens it waits for ever.
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_in_the_queue_keeps_no_commit_no_emitter_and_no_other_journal_waiting() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let queue = directory.path().join("audit.db.queue");
        // More than are adopted at the same time, before and after the good one by name.
        for (number, name) in ["lock", "00000000000000000000.segment"].repeat(4).into_iter().enumerate() {
            let journal = queue.join(format!("{:x}0000000-0000-4000-8000-000000000000", 2 * number));
            fs::create_dir(&journal).unwrap();
            if name != "lock" {
                fs::write(journal.join("lock"), "").unwrap();
            }
            pipe(&journal.join(name));
        }
        let builder = builder(directory.path()).commit_timeout(Duration::from_secs(2));
        let log = builder.blocking().open().unwrap();
        commit(&log, entry("a"));
        wait_until("the other journal is adopted", || log.stats().recovered == 10);
        wait_until("health tells of the pipes", || log.health() == Health::Failing);
        commit(&log, entry("b"));
        assert_eq!(log.blocking().shutdown(Duration::from_mins(1)).unwrap().stats.pending, 0);
    });
}

#[test]
fn a_log_that_was_failing_is_healthy_again_though_nothing_is_emitted() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let blocker = block_on(lock(file(directory.path())));
        let builder = builder(directory.path()).commit_timeout(Duration::from_millis(300));
        let log = builder.blocking().open();
        // A log that has tables already is opened though it is locked.
        let log = log.unwrap();
        wait_until("what the dead process left cannot be committed", || log.health() == Health::Failing);
        block_on(unlock(blocker));
        wait_until("health turns good", || log.health() == Health::Healthy);
        assert_eq!(log.stats().offered, 0);
    });
}

pub(super) fn in_own_process_unless_child(test: &str, body: impl FnOnce()) {
    if !accept_and_die() {
        in_own_process(test, body);
    }
}

#[test]
fn a_journal_for_another_database_or_ledger_is_left_alone() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let other = Store::sqlite(directory.path().join("other.db")).unwrap();
        let log = builder(directory.path()).store(other).blocking().open().unwrap();
        log.writer().blocking().commit(entry("a")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!((journals(directory.path()).len(), log.stats().recovered), (2, 0));
        drop(log);
        assert_eq!(recover(directory.path()).stats().recovered, 10);
    });
}

#[test]
fn damage_costs_what_it_hits_and_its_bytes_are_kept() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 100, "exit");
        let journal = &journals(directory.path())[0];
        let segment = journal.join("00000000000000000000.segment");
        let mut bytes = fs::read(&segment).unwrap();
        let hit = 4096 + 5000;
        bytes[hit] ^= 1;
        fs::write(&segment, &bytes).unwrap();
        fs::write(journal.join("foreign.segment"), "not a segment").unwrap();
        let log = recover(directory.path());
        let stats = log.stats();
        assert_eq!((stats.recovered, stats.committed, stats.damaged, stats.gaps), (100, 100, 1, 1));
        assert_balanced(&stats);
        let found = entries(directory.path());
        let lost = |found: &SequencedEntry| found.entry.metadata["lost"].as_u64();
        let gaps: Vec<_> = found.iter().filter(|found| found.entry.action == "audit.gap").map(lost).collect();
        assert_eq!((found.len(), gaps), (100, vec![Some(1)]));
        let kept: BTreeSet<Vec<u8>> = fs::read_dir(directory.path().join("audit.db.queue/damaged"))
            .unwrap()
            .map(|kept| fs::read(kept.unwrap().path()).unwrap())
            .collect();
        assert_eq!(kept, BTreeSet::from([bytes, b"not a segment".to_vec()]));
    });
}

#[test]
fn a_header_that_no_longer_checks_costs_nothing_and_stops_no_other_journal() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 40_000, "exit");
        let journal = journals(directory.path()).remove(0);
        let segments = segments(&journal);
        assert_eq!(segments.len(), 2);
        let flip = |segment: &Path| {
            let mut bytes = fs::read(segment).unwrap();
            bytes[30] ^= 1;
            fs::write(segment, bytes).unwrap();
        };
        // No header says any more which database the journal is for: it is left alone, and reported.
        for segment in &segments {
            flip(segment);
        }
        let log = builder(directory.path()).blocking().open().unwrap();
        wait_until("the journal is reported", || log.health() == Health::Failing);
        assert!(log.stats().last_error.unwrap().to_string().contains("cannot be used"));
        drop(log);
        // Another journal is adopted beside it.
        accepted_and_died(test, &directory, 10, "abort");
        let log = builder(directory.path()).blocking().open().unwrap();
        wait_until("the other is adopted", || log.stats().recovered == 10);
        assert!(segments.iter().all(|segment| segment.exists()));
        // A log that is dropped may still be adopting journals for a moment.
        assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        // One header is enough for all. The first process may have committed a full batch before it died.
        let committed = entries(directory.path()).len() as u64;
        assert!(committed < 40_010);
        flip(&segments[0]);
        let log = recover(directory.path());
        let stats = log.stats();
        assert_eq!((committed + stats.recovered, stats.damaged), (40_010, 0));
        assert_eq!(entries(directory.path()).len(), 40_010);
        assert_balanced(&stats);
        let kept = fs::read_dir(directory.path().join("audit.db.queue/damaged")).unwrap().count();
        assert_eq!(kept, 2);
    });
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 5, "exit");
        let journal = journals(directory.path())[0].clone();
        let name = "00000000000000000000.segment";
        let whole = fs::read(journal.join(name)).unwrap();
        let mut counts = BTreeSet::new();
        for end in (0..8000).step_by(97) {
            let torn = tempfile::tempdir().unwrap();
            // The journal names its database, so the torn copy is put in the same place.
            let copy = torn.path().join(journal.file_name().unwrap());
            fs::create_dir(&copy).unwrap();
            fs::write(copy.join("lock"), "").unwrap();
            fs::write(copy.join(name), &whole[..end]).unwrap();
            let target = directory.path().join("audit.db.queue");
            // The files of the log before.
            fs::remove_dir_all(&target).unwrap_or_default();
            for file in ["audit.db", "audit.db-wal", "audit.db-shm"] {
                fs::remove_file(directory.path().join(file)).unwrap_or_default();
            }
            fs::create_dir(&target).unwrap();
            fs::rename(&copy, target.join(journal.file_name().unwrap())).unwrap();
            let log = recover(directory.path());
            assert_eq!((log.stats().damaged, log.health()), (0, Health::Healthy));
            counts.insert(log.stats().recovered);
            assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        }
        assert_eq!(counts, (0..=5).collect());
    });
}

#[test]
fn a_shutdown_with_the_database_locked_says_what_is_left_and_the_next_log_commits_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = builder(directory.path()).commit_timeout(Duration::from_millis(100)).blocking().open().unwrap();
    commit(&log, entry("before"));
    block_on(async {
        let blocker = lock(file(directory.path())).await;
        for i in 0..100 {
            log.writer().try_write(entry(i.to_string())).unwrap();
        }
        wait_until("health turns bad", || log.health() == Health::Failing);
        let report = log.shutdown(Duration::from_millis(300)).await.unwrap();
        assert_eq!((report.stats.committed, report.stats.pending), (1, 100));
        assert!(log.writer().try_write(entry("late")).unwrap_err().is_closed());
        drop(log);
        let queue = directory.path().join("audit.db.queue");
        // Its thread waits for its last attempt, five seconds.
        wait_until("it lets go", || !inspect(&queue).unwrap()[0].locked);
        unlock(blocker).await;
    });
    let next = recover(directory.path());
    let found = entries(directory.path());
    assert_eq!((next.stats().recovered, next.stats().gaps, found.len()), (100, 1, 102));
    // The log that was shut down could not tell of the entry that it rejected.
    assert_eq!(found[101].entry.metadata["closed"], 1);
}

#[test]
fn the_flush_interval_is_not_prolonged_by_looks_for_other_journals() {
    let took = || {
        let directory = tempfile::tempdir().unwrap();
        let log = builder(directory.path()).flush_interval(Duration::from_secs(3)).blocking().open().unwrap();
        log.writer().try_write(entry("a")).unwrap();
        let start = Instant::now();
        wait_until("it is committed", || log.stats().committed == 1);
        start.elapsed()
    };
    // The log looks after one second, three and seven: an interval that began again with each look would end at ten in
    // every round. A slow machine needs another round.
    assert!((0..10).any(|_| took() < Duration::from_secs(8)), "no round was in time");
}

#[test]
fn dropping_a_log_does_not_wait_for_a_failing_database() {
    let directory = tempfile::tempdir().unwrap();
    let log = builder(directory.path()).commit_timeout(Duration::from_millis(100)).blocking().open().unwrap();
    block_on(async {
        let blocker = lock(file(directory.path())).await;
        log.writer().try_write(entry("a")).unwrap();
        wait_until("health turns bad", || log.health() == Health::Failing);
        // Waiting for the lock would take five seconds, in vain. The log's thread goes on meanwhile.
        drop(log);
        unlock(blocker).await;
    });
    wait_until("it is committed", || journals(directory.path()).is_empty());
    assert_eq!(entries(directory.path()).len(), 1);
}

/// The losses that `audit.gap` entries record, in the order of the ledger.
fn lost(found: &[SequencedEntry]) -> Vec<u64> {
    let gaps = found.iter().filter(|found| found.entry.action == "audit.gap");
    gaps.map(|gap| gap.entry.metadata["lost"].as_u64().unwrap()).collect()
}

/// The numbers of entries made by `accept_and_die`, or another loop, in the order of the ledger.
fn numbers(found: &[SequencedEntry]) -> Vec<u64> {
    found.iter().filter_map(|found| found.entry.action.parse().ok()).collect()
}

#[test]
fn a_segment_that_is_gone_is_recorded_in_its_place_and_the_rest_is_committed() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        for gone in [&[0][..], &[1], &[0, 1]] {
            let directory = tempfile::tempdir().unwrap();
            // Of 128 KiB.
            accepted_and_died(test, &directory, 600, "small segments");
            let segments = segments(&journals(directory.path())[0]);
            assert_eq!(segments.len(), 3, "{segments:?}");
            let position = |index: usize| -> u64 {
                let first =
                    segments.get(index).map(|path| path.file_stem().unwrap().to_str().unwrap().parse());
                first.map_or(600, Result::unwrap)
            };
            let mut wanted: Vec<u64> = (0..600).collect();
            for index in gone.iter().rev() {
                fs::remove_file(&segments[*index]).unwrap();
                wanted.retain(|number| !(position(*index)..position(index + 1)).contains(number));
            }
            let log = recover(directory.path());
            let (found, stats) = (entries(directory.path()), log.stats());
            assert_eq!(numbers(&found), wanted);
            assert_eq!(lost(&found).iter().sum::<u64>(), 600 - wanted.len() as u64);
            assert_eq!(stats.gaps, 1);
            assert_eq!((stats.recovered, stats.damaged), (600, 600 - wanted.len() as u64));
            assert_balanced(&stats);
            assert_eq!(log.health(), Health::Healthy);
        }
    });
}

/// Puts the backup in place of the database, and removes the files that SQLite keeps beside that.
fn restore(backup: &Path, file: &Path) {
    for suffix in ["-wal", "-shm"] {
        let mut beside = file.as_os_str().to_owned();
        beside.push(suffix);
        fs::remove_file(beside).unwrap_or_default();
    }
    fs::copy(backup, file).unwrap();
}

#[test]
fn a_database_restored_from_an_earlier_backup_is_recorded_and_the_journal_committed_again() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = builder(directory.path()).blocking().open().unwrap();
        for _ in 0..10 {
            log.writer().try_write(entry("before the backup")).unwrap();
        }
        assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        drop(log);
        fs::copy(&file, directory.path().join("backup")).unwrap();
        // It commits 300, which the backup lacks, so that the first segments are retired, and dies with 200 pending.
        accepted_and_died(test, &directory, 500, "flush 300");
        restore(&directory.path().join("backup"), &file);
        let first = segments(&journals(directory.path())[0]).remove(0);
        let kept_from: u64 = first.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        assert!((1..=300).contains(&kept_from));
        let log = recover(directory.path());
        let found = entries(directory.path());
        assert_eq!(lost(&found), [kept_from]);
        assert_eq!(numbers(&found), (kept_from..500).collect::<Vec<_>>());
        assert_eq!(found.len() as u64, 10 + 1 + 500 - kept_from);
        assert_balanced(&log.stats());
    });
}

/// With the shell's `.backup` and `.restore`, which go through SQLite and leave the file in its place.
#[test]
fn a_position_that_nothing_accounts_for_discards_no_journal() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        // Of a process that has committed nothing, and of one that has committed 300.
        for (count, ends, position) in [(50, "exit", 50), (50, "abort", 7), (500, "flush 300", 500)] {
            let directory = tempfile::tempdir().unwrap();
            let first = builder(directory.path()).blocking().open().unwrap();
            assert_eq!(first.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
            drop(first);
            accepted_and_died(test, &directory, count, ends);
            assert_eq!(journals(directory.path()).len(), 1);
            let writer =
                journals(directory.path())[0].file_name().unwrap().to_str().unwrap().replace('-', "");
            support::run(
                file(directory.path()).to_str().unwrap(),
                format!("INSERT OR REPLACE INTO tracing_audit_positions VALUES (x'{writer}', {position})"),
            );
            let told = Arc::new(std::sync::Mutex::new(Vec::new()));
            let notices = Arc::clone(&told);
            let log = builder(directory.path())
                .on_notice(move |notice| notices.lock().unwrap().push(notice.to_string()))
                .blocking()
                .open()
                .unwrap();
            wait_until("the journal is adopted", || journals(directory.path()).len() == 1);
            let found = entries(directory.path());
            assert_eq!(numbers(&found), (0..count).collect::<Vec<_>>());
            assert_eq!(found.len() as u64, count);
            wait_until("somebody is told", || {
                told.lock().unwrap().iter().any(|notice| notice.contains("somebody has changed it"))
            });
            assert_balanced(&log.stats());
        }
    });
}

#[test]
fn a_database_restored_under_a_running_log_is_recorded_once_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let shell = |command: &str| {
        let mut shell = Command::new("sqlite3");
        let status = shell
            .current_dir(directory.path())
            .args(["-cmd", ".timeout 60000", "audit.db", command])
            .status();
        assert!(status.expect("the sqlite3 shell is needed: on Debian, 'apt-get install sqlite3'").success());
    };
    for in_memory in [false, true] {
        let mut builder = builder(directory.path());
        if in_memory {
            let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
            builder =
                support::builder(store).in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
        }
        let log = builder.blocking().open().unwrap();
        let before = entries(directory.path()).len();
        let commit_some = |count: usize| {
            for i in 0..count {
                log.writer().try_write(entry(i.to_string())).unwrap();
            }
            log.blocking().flush().unwrap();
        };
        commit_some(10);
        shell(".backup backup");
        commit_some(7);
        // The first attempt that finds it so fails, and so does the next.
        shell(".restore backup");
        shell("ALTER TABLE tracing_audit_batches RENAME TO aside");
        for i in 0..5 {
            log.writer().try_write(entry(i.to_string())).unwrap();
        }
        wait_until("it is tried again", || log.stats().retries >= 2);
        shell("ALTER TABLE aside RENAME TO tracing_audit_batches");
        settle(&log.writer());
        let seq = log.writer().blocking().commit(entry("answered")).unwrap();
        assert_eq!(entries(directory.path())[usize::try_from(seq).unwrap()].entry.action, "answered");
        commit_some(4);
        let found = entries(directory.path());
        let seqs: Vec<u64> = found.iter().map(|found| found.seq).collect();
        assert_eq!(seqs, (0..found.len() as u64).collect::<Vec<_>>());
        let found = &found[before..];
        assert_eq!((found.len(), lost(found)), (10 + 1 + 10, vec![7]));
        assert_eq!(found[10].entry.action, "audit.gap");
        let stats = log.stats();
        assert_balanced(&stats);
        // Seven of the committed entries are gone; the books count what this process has done.
        assert_eq!((stats.offered, stats.committed, stats.gaps), (28, 28, 1));
        assert_eq!(log.health(), Health::Healthy);
    }
}

#[test]
fn a_foreign_file_in_the_queue_is_left_alone() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let newer = journals(directory.path()).remove(0);
        let segment = segments(&newer).remove(0);
        let mut bytes = fs::read(&segment).unwrap();
        bytes[8] = 3;
        fs::write(&segment, &bytes).unwrap();
        let queue = directory.path().join("audit.db.queue");
        fs::write(queue.join("notes.txt"), "a file of somebody's").unwrap();
        fs::write(queue.join(Uuid::new_v4().to_string()), "a file that is named like a journal").unwrap();
        fs::create_dir(queue.join(format!("{}.new", Uuid::new_v4()))).unwrap();
        fs::create_dir(queue.join("backup")).unwrap();
        let before = journals(directory.path()).len();
        let log = builder(directory.path()).blocking().open().unwrap();
        log.writer().blocking().commit(entry("a")).unwrap();
        // It has looked twice by then.
        std::thread::sleep(Duration::from_millis(1500));
        let stats = log.stats();
        assert_eq!((stats.recovered, log.health()), (0, Health::Healthy));
        assert!(stats.last_error.is_none(), "{stats:?}");
        assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        assert_eq!(journals(directory.path()).len(), before);
        assert_eq!(fs::read(&segment).unwrap(), bytes);
        // Put back to what this version writes, it is adopted.
        bytes[8] = 2;
        fs::write(&segment, &bytes).unwrap();
        let log = builder(directory.path()).blocking().open().unwrap();
        wait_until("it is adopted", || log.stats().recovered == 10);
    });
}

#[test]
fn a_journal_without_its_lock_is_reported_and_left_alone() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let lock = journals(directory.path())[0].join("lock");
        fs::remove_file(&lock).unwrap();
        // An empty directory is left by a process that dies while it removes its journal.
        let empty = directory.path().join("audit.db.queue").join(Uuid::new_v4().to_string());
        fs::create_dir(&empty).unwrap();
        let log = builder(directory.path()).blocking().open().unwrap();
        wait_until("the journal is reported", || log.health() == Health::Failing);
        assert_eq!((log.stats().recovered, journals(directory.path()).len(), empty.exists()), (0, 2, false));
        let queue = directory.path().join("audit.db.queue");
        let shown = inspect(queue).unwrap();
        let of_nobody = shown.iter().find(|journal| !journal.locked).unwrap();
        assert_eq!((of_nobody.owner, of_nobody.segments[0].records), (None, 10));
        // The database is well: what is written is committed, and dropping the log waits for that.
        log.writer().blocking().commit(entry("meanwhile")).unwrap();
        assert_eq!(log.health(), Health::Failing);
        log.writer().try_write(entry("last")).unwrap();
        drop(log);
        assert_eq!(entries(directory.path()).len(), 2);
        let log = builder(directory.path()).blocking().open().unwrap();
        fs::write(&lock, "").unwrap();
        wait_until("it is adopted", || log.stats().recovered == 10 && log.health() == Health::Healthy);
    });
}

/// Written by the first version that had a journal. It must be read for ever.
#[test]
fn a_journal_of_the_first_version_is_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let name = "105e60ed-e9e8-4f40-95df-7407b0aa3013";
    let journal = directory.path().join("audit.db.queue").join(name);
    fs::create_dir_all(&journal).unwrap();
    fs::write(journal.join("lock"), "4711\n").unwrap();
    fs::write(journal.join("00000000000000000000.segment"), include_bytes!("../../data/journal-1.segment"))
        .unwrap();
    let log = recover(directory.path());
    assert_eq!((log.stats().recovered, log.stats().damaged), (3, 0));
    let found = entries(directory.path());
    let texts: Vec<_> =
        found.iter().map(|found| (found.entry.action.as_str(), found.entry.reason.as_deref())).collect();
    assert_eq!(
        texts,
        [("document.read", Some("the first")), ("document.write", None), ("0", Some("the third"))]
    );
    assert_eq!(found[0].entry.metadata["latency_ms"], 17);
    assert!((found[0].entry.risk_score - 0.25).abs() < f64::EPSILON);
    assert_eq!(found[2].entry.id, Uuid::from_u128(3));
}

#[test]
fn a_pool_on_a_file_can_have_a_journal_and_one_in_memory_cannot() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.path().join("app.db"));
        let pool = sqlx::SqlitePool::connect_with(options.create_if_missing(true)).await.unwrap();
        let builder = || support::builder(pool.clone());
        let log = builder().open().await.unwrap();
        assert!(!directory.path().join("app.db.queue").exists(), "a pool's default is memory");
        drop(log);
        let log = builder().journal(directory.path().join("queue")).open().await.unwrap();
        log.writer().commit(entry("a")).await.unwrap();
        assert_eq!(fs::read_dir(directory.path().join("queue")).unwrap().count(), 1);

        let memory = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
        let refused = support::builder(memory).journal(directory.path().join("queue")).open().await;
        assert!(refused.unwrap_err().is_config());
        let power_loss = Durability::PowerLoss { within: Duration::from_millis(50) };
        assert!(builder().durability(power_loss).open().await.unwrap_err().is_config());
        let both = builder().journal(directory.path().join("queue")).in_memory_queue().queue_max_entries(10);
        assert!(both.open().await.unwrap_err().is_config());
        let bounded = builder().journal(directory.path().join("queue")).queue_max_bytes(1000);
        let error = bounded.open().await.unwrap_err();
        assert!(error.is_config() && error.to_string().contains("journal_max_bytes"), "{error}");
        let never = Durability::PowerLoss { within: Duration::ZERO };
        let never = builder().journal(directory.path().join("queue")).durability(never);
        assert!(never.open().await.unwrap_err().is_config());
    });
}

#[test]
fn database_and_journals_can_be_moved_together() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("moved");
        fs::rename(directory.path(), &moved).unwrap();
        fs::create_dir(directory.path()).unwrap();
        assert_eq!(recover(&moved).stats().recovered, 10);
    });
}

#[test]
#[allow(unsafe_code, reason = "nothing else forks")]
fn a_forked_child_is_refused_and_leaves_its_parent_s_log_intact() {
    in_own_process(this_test!(), || {
        for in_memory in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
            let mut builder = support::builder(store).flush_interval(Duration::from_hours(1));
            if in_memory {
                builder = builder.in_memory_queue().queue_max_entries(1000);
            }
            let log = builder.blocking().open().unwrap();
            let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.layer()));
            let emit = |count: usize| (0..count).for_each(|i| info!(target: "audit", action = "a", i));
            emit(10);
            // SAFETY: the child calls the library and ends; no other thread of this process allocates meanwhile.
            let child = unsafe { libc::fork() };
            if child == 0 {
                emit(10);
                let refused = log.writer().try_write(entry("a")).unwrap_err();
                let told = refused.is_closed() && refused.to_string().contains("forked");
                let told = told && log.blocking().flush().unwrap_err().is_closed();
                let told = told && log.blocking().shutdown(support::PATIENCE).unwrap_err().is_closed();
                let told = told && log.blocking().committed(|| emit(1)).unwrap_err().is_closed();
                let told = told && log.writer().blocking().commit(entry("a")).unwrap_err().is_closed();
                let told = told && log.writer().blocking().retry_quarantined().unwrap_err().is_closed();
                let told = told && log.stats().offered == 0 && log.health() == Health::Closed;
                let told = told && log.check_wiring().unwrap_err().is_closed();
                drop(log);
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(i32::from(!told)) };
            }
            let mut ended = -1;
            // SAFETY: `ended` is there to be written to.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut ended, 0) }, child);
            assert_eq!(ended, 0);
            emit(10);
            log.blocking().flush().unwrap();
            let stats = log.stats();
            assert_eq!((stats.offered, stats.committed, stats.rejected), (20, 20, 0));
            assert_eq!(entries(directory.path()).len(), 20);
        }
    });
}

#[test]
#[allow(unsafe_code, reason = "nothing else forks")]
fn ids_of_forked_children_differ_from_each_other_and_from_their_parent_s() {
    in_own_process(this_test!(), || {
        let ids = || -> Vec<u8> {
            (0..2000).flat_map(|_| AuditEntry::new(Uuid::nil(), "a", "r").id.into_bytes()).collect()
        };
        // The generator of this thread is seeded before the forks.
        let mut all = ids();
        for _ in 0..50 {
            let mut pipes = Vec::new();
            for _ in 0..2 {
                let (reads, mut writes) = std::io::pipe().unwrap();
                // SAFETY: the child makes ids, writes them and ends; no other thread of this process allocates meanwhile.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    let written = writes.write_all(&ids());
                    // SAFETY: ends this process at once.
                    unsafe { libc::_exit(i32::from(written.is_err())) };
                }
                drop(writes);
                pipes.push((child, reads));
            }
            for (child, mut reads) in pipes {
                reads.read_to_end(&mut all).unwrap();
                let mut ended = -1;
                // SAFETY: `ended` is there to be written to.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut ended, 0) }, child);
                assert_eq!(ended, 0);
            }
        }
        let distinct: std::collections::HashSet<&[u8]> = all.chunks(16).collect();
        assert_eq!((all.len() / 16, distinct.len()), (202_000, 202_000));
    });
}

#[test]
fn a_full_journal_rejects_and_takes_again_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let builder = builder(directory.path()).journal_max_bytes(40 << 20).when_full(WhenFull::Reject);
    let log = builder.commit_timeout(Duration::from_millis(200)).blocking().open().unwrap();
    let (accepted, rejected) = block_on(async {
        let blocker = lock(file(directory.path())).await;
        let (mut accepted, mut rejected) = (0, 0);
        while rejected < 10 {
            let padded = AuditEntry { reason: Some("x".repeat(10_000)), ..entry("a") };
            match log.writer().try_write(padded) {
                Ok(()) => accepted += 1,
                Err(error) => {
                    assert!(error.is_full(), "{error}");
                    rejected += 1;
                }
            }
        }
        unlock(blocker).await;
        (accepted, rejected)
    });
    assert!((3000..4200).contains(&accepted), "{accepted}");
    wait_until("everything is committed", || log.blocking().flush().is_ok() && log.stats().pending == 0);
    let stats = log.stats();
    assert_eq!((stats.committed - stats.gaps, stats.rejected, stats.gaps), (accepted, rejected, 1));
    commit(&log, entry("after"));
    wait_until("health is good again", || log.health() == Health::Healthy);
}
