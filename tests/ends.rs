//! The ends of a process, and their cost with each kind of queue: the entries that the child announced are compared with
//! those that it left. Each is a real `main` that ends, so this test has a harness of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::exit,
    reason = "a test fails by panicking, and this one ends in every other way too"
)]

#[path = "suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "this test uses a part of it")]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_audit::{AuditLog, AuditLogBuilder, AuditQuery, AuditReader, Store, query::Column};
use tracing_subscriber::prelude::*;

/// The number of entries committed before the end.
const FLUSHED: u64 = 500;
/// The number of entries accepted at the end, and due in an hour.
const LAST: u64 = 3500;

/// The longest that dropping a log waits.
const DROP_FLUSH: Duration = Duration::from_secs(5);

const FILE: &str = "TRACING_AUDIT_TEST_FILE";
const END: &str = "TRACING_AUDIT_TEST_END";
const QUEUE: &str = "TRACING_AUDIT_TEST_QUEUE";

/// Pending entries are due in an hour.
fn builder() -> AuditLogBuilder {
    let store = Store::sqlite(std::env::var_os(FILE).unwrap()).unwrap();
    let builder = support::builder(store).batch_entries(10_000).flush_interval(Duration::from_hours(1));
    if std::env::var(QUEUE).unwrap() == "memory" {
        builder.in_memory_queue().queue_max_entries(100_000).queue_max_bytes(64 << 20)
    } else {
        builder
    }
}

/// Emits, announces how much was accepted, and ends.
#[tokio::main(flavor = "current_thread")]
async fn child(end: &str) {
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let audit = builder().open().await.unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    (0..FLUSHED).for_each(|i| info!(target: "audit", action = "flushed", i));
    audit.flush().await.unwrap();
    (0..LAST).for_each(|i| info!(target: "audit", action = "last", i));
    println!("{}", audit.stats().offered);
    std::io::stdout().flush().unwrap();
    match end {
        "return" => {}
        "exit" => std::process::exit(0),
        "panic" => panic!("as asked"),
        "panic = abort" => {
            std::panic::set_hook(Box::new(|_| std::process::abort()));
            panic!("as asked");
        }
        "abort" => std::process::abort(),
        "SIGTERM handled" => {
            terminated.recv().await;
            let report = audit.shutdown(support::PATIENCE).await.unwrap();
            assert_eq!(report.stats.pending, 0);
        }
        other => panic!("no such end: {other}"),
    }
}

/// Without a handler, so without Tokio's `signal`, which installs one for good.
fn child_that_waits_for_sigterm() {
    let audit = builder().blocking().open().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    (0..FLUSHED).for_each(|i| info!(target: "audit", action = "flushed", i));
    audit.blocking().flush().unwrap();
    (0..LAST).for_each(|i| info!(target: "audit", action = "last", i));
    println!("{}", audit.stats().offered);
    std::io::stdout().flush().unwrap();
    std::thread::sleep(support::PATIENCE);
}

/// The end of a child.
struct Ended {
    status: ExitStatus,
    /// Accepted when the child announced it.
    announced: u64,
    /// Committed when the child had ended.
    left: u64,
    /// Committed once the next log has adopted the journal.
    then: u64,
    /// From the announcement to the end.
    took: Duration,
}

/// Lets a child end in this way.
fn ended(end: &str, queue: &str) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(FILE, &file)
        .env(END, end)
        .env(QUEUE, queue)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut announced = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut announced).unwrap();
    let start = Instant::now();
    if end.starts_with("SIGTERM") {
        let status = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(status.success());
    }
    let status = support::wait(child);
    let took = start.elapsed();
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    // Of the child's own: a gap entry may tell that some of them are lost.
    let own = || AuditQuery::new().any_of(Column::Action, ["flushed", "last"]);
    let count = || reader.blocking().count(own()).unwrap();
    let left = count();
    let next = AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap();
    let journals = || std::fs::read_dir(directory.path().join("audit.db.queue")).unwrap().count();
    support::wait_until("what was left is adopted", || journals() == 1);
    // A gap entry is recovered too.
    assert!(next.stats().recovered >= count() - left);
    Ended { status, announced: announced.trim().parse().unwrap(), left, then: count(), took }
}

fn main() {
    match std::env::var(END).as_deref() {
        Ok("SIGTERM") => return child_that_waits_for_sigterm(),
        Ok(end) => return child(end),
        Err(_) => {}
    }
    let all = FLUSHED + LAST;
    let ways = [
        // Unwinding drops the `AuditLog`, which flushes.
        ("return", all),
        ("panic", all),
        ("SIGTERM handled", all),
        // Nothing is left to flush: entries that are not committed are left to the next log, or lost.
        ("exit", FLUSHED),
        ("panic = abort", FLUSHED),
        ("abort", FLUSHED),
        ("SIGTERM", FLUSHED),
    ];
    for (end, left) in ways {
        for (queue, in_the_end) in [("memory", left), ("journal", all)] {
            let Ended { status, announced, left: found, then, took } = ended(end, queue);
            if matches!(end, "return" | "panic") && took >= DROP_FLUSH {
                // The machine is so slow that the log was not given the time for all of it.
                assert_eq!(announced, all, "{end}, {queue}: {status}");
                assert!((FLUSHED..=all).contains(&found), "{end}, {queue}: {found}, {status}");
                assert_eq!(then, if queue == "memory" { found } else { all }, "{end}, {queue}: {status}");
            } else {
                assert_eq!((announced, found, then), (all, left, in_the_end), "{end}, {queue}: {status}");
            }
            println!("test {end}, {queue}: {found} of {all} committed, {then} after the next start ... ok");
        }
    }
    println!("\ntest result: ok. {} passed; 0 failed", 2 * ways.len());
}
