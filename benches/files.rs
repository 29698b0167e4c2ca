//! What watching the files of a SQLite database costs: the looks before and after a batch, and a batch that is committed
//! while the write-ahead log is moved into the database.
//!
//! The looks are measured inside the crate: `RUSTFLAGS="--cfg measuring" cargo bench --bench files`. Without the flag only
//! the batches are.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;

use std::time::{Duration, Instant};

use tracing_audit::{AuditEntry, AuditLog, Store};
use uuid::Uuid;

/// A log is idle after 5 s.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// What the write-ahead log holds before it is moved: just below the 32 MiB at which a commit moves it.
const PENDING: u64 = 30 << 20;

fn commit(log: &AuditLog) -> Duration {
    let start = Instant::now();
    log.writer().blocking().commit(AuditEntry::new(Uuid::nil(), "document.read", "document")).unwrap();
    start.elapsed()
}

/// Fills the write-ahead log, lets the log be idle, and commits an entry after the other while it is emptied. Returns the
/// longest commit, and the median.
fn beside_the_move() -> (Duration, Duration) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = AuditLog::builder()
        .store(Store::sqlite(&file).unwrap())
        .flush_interval(Duration::from_millis(1))
        .blocking()
        .open()
        .unwrap();
    let pending = || std::fs::metadata(directory.path().join("audit.db-wal")).map_or(0, |found| found.len());
    let text = "x".repeat(1000);
    while pending() < PENDING {
        for _ in 0..500 {
            let mut entry = AuditEntry::new(Uuid::nil(), "document.read", "document");
            entry.reason = Some(text.clone());
            log.writer().blocking().write(entry).unwrap();
        }
        log.blocking().flush().unwrap();
    }
    // What is moved changes the file.
    let moved = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let (before, start) = (moved(), Instant::now());
    while moved() == before {
        assert!(start.elapsed() < GIVEN_UP, "nothing is moved");
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut took = Vec::new();
    while pending() >= PENDING || took.len() < 100 {
        took.push(commit(&log));
    }
    took.sort();
    (*took.last().unwrap(), took[took.len() / 2])
}

#[cfg(measuring)]
fn looks() {
    use tracing_audit::measure::Writer;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
    let log = AuditLog::builder().store(store.clone()).blocking().open().unwrap();
    commit(&log);
    let mut writer = runtime.block_on(Writer::of(&store)).unwrap();
    let mut look = |name: &str| {
        let start = Instant::now();
        runtime.block_on(writer.look()).unwrap();
        common::note(name, 1, start.elapsed());
    };
    for _ in 0..10_000 {
        look("a look, nothing new");
    }
    for _ in 0..1000 {
        commit(&log);
        look("a look after a batch of one");
    }
    for _ in 0..20 {
        for _ in 0..10_000 {
            log.writer().blocking().write(AuditEntry::new(Uuid::nil(), "document.read", "document")).unwrap();
        }
        log.blocking().flush().unwrap();
        look("a look after 10 000 entries");
    }
    for name in ["a look, nothing new", "a look after a batch of one", "a look after 10 000 entries"] {
        println!(
            "{name}: {} (goal <= 20 us for one without news)",
            common::show(common::median(name).unwrap())
        );
    }
}

#[cfg(not(measuring))]
fn looks() {
    println!("the looks: not measured without --cfg measuring");
}

fn main() {
    looks();
    for round in 1..=3 {
        let (longest, median) = beside_the_move();
        println!(
            "round {round}: longest commit beside the move {longest:?}, median {median:?} (goal <= 50 ms more)"
        );
    }
}
