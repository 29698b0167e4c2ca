//! What was accepted survives the process: journals on disk, real processes killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use support::{assert_balanced, block_on, in_own_process, wait_until};
use tempfile::TempDir;
use tracing::info;
use tracing_audit::{
    AuditEntry, AuditLog, AuditLogBuilder, AuditReader, Health, SequencedEntry, Store, WhenFull,
};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

fn entry(action: impl Into<String>) -> AuditEntry {
    AuditEntry::new(Uuid::nil(), action, "document")
}

fn builder(directory: &Path) -> AuditLogBuilder {
    let store = Store::sqlite(directory.join("audit.db")).unwrap();
    AuditLog::builder().store(store).journal(directory.join("audit.db.queue")).on_notice(|_| {})
}

/// Directories of journals.
fn journals(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory.join("audit.db.queue")) else { return Vec::new() };
    let paths = found.map(|found| found.unwrap().path());
    paths.filter(|path| !path.ends_with("damaged")).collect()
}

fn entries(directory: &Path) -> Vec<SequencedEntry> {
    block_on(support::all(&AuditReader::new(Store::sqlite(directory.join("audit.db")).unwrap())))
}

/// Opens a log until nothing of dead processes is left.
fn recover(directory: &Path) -> AuditLog {
    let log = builder(directory).open_blocking().unwrap();
    wait_until("every journal is adopted", || journals(directory).len() == 1);
    log
}

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";

/// Emits numbered events and writes each number to standard output after `info!` has returned.
fn announce(directory: &Path) {
    let log = builder(directory).open_blocking().unwrap();
    tracing_subscriber::registry().with(log.layer()).init();
    let mut out = std::io::stdout().lock();
    for i in 0..u64::MAX {
        info!(target: "audit", action = "a", i);
        out.write_all(&i.to_le_bytes()).unwrap();
        if i % 4096 == 4095 {
            // So that some are killed while nothing waits.
            out.flush().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Kills a child that announces, at a moment within the first 100 ms of its work, and returns what it announced.
fn killed(test: &str, directory: &Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--include-ignored", "--quiet"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        // What the harness says first ends with a newline.
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    wait_until("it works", || !journals(directory).is_empty());
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..100_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    let bytes = reading.join().unwrap();
    let start = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes[start..].len() as u64 / 8
}

fn kill_again_and_again(test: &str, kills: usize) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return announce(Path::new(&directory));
    }
    let (mut announced_in_all, mut recovered) = (0, 0);
    for _ in 0..kills {
        let directory = tempfile::tempdir().unwrap();
        let announced = killed(test, directory.path());
        let log = recover(directory.path());
        recovered += log.stats().recovered;
        let found = entries(directory.path());
        let numbers: Vec<u64> =
            found.iter().map(|found| found.entry.metadata["i"].as_u64().unwrap()).collect();
        // In order, without a hole, each once; one more may have been accepted than announced.
        assert_eq!(numbers, (0..found.len() as u64).collect::<Vec<_>>());
        assert!(found.len() as u64 >= announced, "{announced} announced, {} there", found.len());
        announced_in_all += announced;
    }
    println!(
        "{kills} kills, {announced_in_all} events announced, {recovered} recovered from journals, 0 lost, 0 doubled"
    );
    assert!(announced_in_all > 0 && recovered > 0);
}

#[test]
fn nothing_announced_is_lost_or_doubled_by_kill_9() {
    kill_again_and_again("nothing_announced_is_lost_or_doubled_by_kill_9", 30);
}

#[test]
#[ignore = "takes half an hour: `cargo test --test journal -- --ignored`"]
fn nothing_announced_is_lost_or_doubled_by_a_thousand_kills() {
    kill_again_and_again("nothing_announced_is_lost_or_doubled_by_a_thousand_kills", 1000);
}

#[test]
fn a_log_that_ends_well_leaves_no_journal_behind() {
    let directory = tempfile::tempdir().unwrap();
    let log = builder(directory.path()).open_blocking().unwrap();
    assert_eq!(journals(directory.path()).len(), 1);
    for i in 0..1000 {
        log.writer().try_write(entry(i.to_string())).unwrap();
    }
    assert_eq!(log.shutdown_blocking(support::PATIENCE).unwrap().stats.committed, 1000);
    wait_until("it is removed", || journals(directory.path()).is_empty());
}

/// A child that accepts entries while the database is locked, and dies.
fn accepted_and_died(test: &str, directory: &TempDir, count: u64, ends: &str) {
    let child = support::child(
        test,
        &[(DIRECTORY, directory.path().to_str().unwrap()), ("COUNT", &count.to_string()), ("ENDS", ends)],
    );
    assert!(!support::wait(child).success());
}

fn accept_and_die() -> bool {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return false };
    let never = Duration::from_hours(1);
    let log =
        builder(Path::new(&directory)).batch_size(1 << 20).flush_interval(never).open_blocking().unwrap();
    let count: u64 = std::env::var("COUNT").unwrap().parse().unwrap();
    for i in 0..count {
        let padded = AuditEntry { reason: Some("x".repeat(500)), ..entry(i.to_string()) };
        log.writer().try_write(padded).unwrap();
    }
    match std::env::var("ENDS").unwrap().as_str() {
        "abort" => std::process::abort(),
        _ => std::process::exit(1),
    }
}

#[test]
fn journals_of_several_dead_processes_are_adopted_by_the_next_while_it_accepts() {
    let test = "journals_of_several_dead_processes_are_adopted_by_the_next_while_it_accepts";
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        // More than one segment each.
        accepted_and_died(test, &directory, 40_000, "exit");
        accepted_and_died(test, &directory, 40_000, "abort");
        assert_eq!(journals(directory.path()).len(), 2);
        let log = builder(directory.path()).open_blocking().unwrap();
        // Answered beside the backlog, not behind it.
        log.writer().commit_blocking(entry("new")).unwrap();
        wait_until("every journal is adopted", || journals(directory.path()).len() == 1);
        // The second process has adopted the first one's, and died amid it.
        let stats = log.stats();
        assert!((40_000..=80_000).contains(&stats.recovered), "{stats:?}");
        assert_eq!((stats.offered + stats.recovered, stats.pending, stats.damaged), (stats.committed, 0, 0));
        let found = entries(directory.path());
        let unique: BTreeSet<Uuid> = found.iter().map(|found| found.entry.id).collect();
        assert_eq!((found.len(), unique.len()), (80_001, 80_001));
    });
}

fn in_own_process_unless_child(test: &str, body: impl FnOnce()) {
    if !accept_and_die() {
        in_own_process(test, body);
    }
}

#[test]
fn a_journal_for_another_database_or_ledger_is_left_alone() {
    let test = "a_journal_for_another_database_or_ledger_is_left_alone";
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let other = Store::sqlite(directory.path().join("other.db")).unwrap();
        let log = builder(directory.path()).store(other).open_blocking().unwrap();
        log.writer().commit_blocking(entry("a")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!((journals(directory.path()).len(), log.stats().recovered), (2, 0));
        drop(log);
        assert_eq!(recover(directory.path()).stats().recovered, 10);
    });
}

#[test]
fn damage_costs_what_it_hits_and_its_bytes_are_kept() {
    let test = "damage_costs_what_it_hits_and_its_bytes_are_kept";
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
        assert_eq!((stats.recovered, stats.committed, stats.damaged), (100, 99, 1));
        assert_balanced(&stats);
        assert_eq!(entries(directory.path()).len(), 99);
        let kept: BTreeSet<Vec<u8>> = fs::read_dir(directory.path().join("audit.db.queue/damaged"))
            .unwrap()
            .map(|kept| fs::read(kept.unwrap().path()).unwrap())
            .collect();
        assert_eq!(kept, BTreeSet::from([bytes, b"not a segment".to_vec()]));
    });
}

#[test]
fn a_header_that_no_longer_checks_costs_nothing_and_stops_no_other_journal() {
    let test = "a_header_that_no_longer_checks_costs_nothing_and_stops_no_other_journal";
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 40_000, "exit");
        let journal = journals(directory.path()).remove(0);
        let mut segments: Vec<_> =
            fs::read_dir(&journal).unwrap().map(|found| found.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some());
        segments.sort();
        assert_eq!(segments.len(), 2);
        let flip = |segment: &Path| {
            let mut bytes = fs::read(segment).unwrap();
            bytes[30] ^= 1;
            fs::write(segment, bytes).unwrap();
        };
        // Nothing says any more which database they are for: left alone, and told.
        for segment in &segments {
            flip(segment);
        }
        let log = builder(directory.path()).open_blocking().unwrap();
        wait_until("it is told", || log.health() == Health::Failing);
        assert!(log.stats().last_error.unwrap().to_string().contains("a journal cannot be read"));
        drop(log);
        // Another journal is adopted beside it.
        accepted_and_died(test, &directory, 10, "abort");
        let log = builder(directory.path()).open_blocking().unwrap();
        wait_until("the other is adopted", || log.stats().recovered == 10);
        assert!(segments.iter().all(|segment| segment.exists()));
        drop(log);
        // One header says it for all.
        flip(&segments[0]);
        let log = recover(directory.path());
        let stats = log.stats();
        assert_eq!((stats.recovered, stats.damaged, entries(directory.path()).len()), (40_000, 0, 40_010));
        assert_balanced(&stats);
        let kept = fs::read_dir(directory.path().join("audit.db.queue/damaged")).unwrap().count();
        assert_eq!(kept, 2);
    });
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let test = "a_torn_tail_is_cut_wherever_it_is_torn";
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 5, "exit");
        let journal = journals(directory.path())[0].clone();
        let name = "00000000000000000000.segment";
        let whole = fs::read(journal.join(name)).unwrap();
        let mut counts = BTreeSet::new();
        for end in (0..8000).step_by(97) {
            let torn = tempfile::tempdir().unwrap();
            // The journal names its database, so that is where it is put back.
            let copy = torn.path().join(journal.file_name().unwrap());
            fs::create_dir(&copy).unwrap();
            fs::write(copy.join("lock"), "").unwrap();
            fs::write(copy.join(name), &whole[..end]).unwrap();
            let target = directory.path().join("audit.db.queue");
            fs::remove_dir_all(&target).unwrap();
            fs::remove_file(directory.path().join("audit.db")).unwrap_or_default();
            fs::create_dir(&target).unwrap();
            fs::rename(&copy, target.join(journal.file_name().unwrap())).unwrap();
            let log = recover(directory.path());
            assert_eq!((log.stats().damaged, log.health()), (0, Health::Healthy));
            counts.insert(log.stats().recovered);
            assert_eq!(log.shutdown_blocking(support::PATIENCE).unwrap().stats.pending, 0);
        }
        assert_eq!(counts, (0..=5).collect());
    });
}

#[test]
fn a_full_journal_rejects_and_takes_again_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let builder = builder(directory.path()).journal_max_bytes(40 << 20).when_full(WhenFull::Reject);
    let log = builder.commit_timeout(Duration::from_millis(200)).open_blocking().unwrap();
    let (accepted, rejected) = block_on(async {
        use sqlx::ConnectOptions;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.path().join("audit.db"));
        let mut blocker = options.connect().await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut blocker).await.unwrap();
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
        sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
        (accepted, rejected)
    });
    assert!((3000..4200).contains(&accepted), "{accepted}");
    wait_until("all is committed", || log.flush_blocking().is_ok() && log.stats().pending == 0);
    let stats = log.stats();
    assert_eq!((stats.committed - stats.gaps, stats.rejected, stats.gaps), (accepted, rejected, 1));
    log.writer().commit_blocking(entry("after")).unwrap();
    assert_eq!(log.health(), Health::Healthy);
}
