//! How a process ends, and what that costs with each kind of queue: what the child announced is compared with
//! what it left. Each is a real `main` that ends, so this test brings its own.

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
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_audit::{AuditLog, AuditLogBuilder, AuditQuery, AuditReader, Store};
use tracing_subscriber::prelude::*;

/// Committed before the end.
const FLUSHED: u64 = 500;
/// Accepted at the end, and due in an hour.
const LAST: u64 = 3500;

const FILE: &str = "TRACING_AUDIT_TEST_FILE";
const END: &str = "TRACING_AUDIT_TEST_END";
const QUEUE: &str = "TRACING_AUDIT_TEST_QUEUE";

/// With what is pending due in an hour.
fn builder() -> AuditLogBuilder {
    let store = Store::sqlite(std::env::var_os(FILE).unwrap()).unwrap();
    let builder = support::builder(store).batch_size(10_000).flush_interval(Duration::from_hours(1));
    if std::env::var(QUEUE).unwrap() == "memory" {
        builder.in_memory_queue(100_000, 64 << 20)
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
    let audit = builder().open_blocking().unwrap();
    tracing_subscriber::registry().with(audit.layer()).init();
    (0..FLUSHED).for_each(|i| info!(target: "audit", action = "flushed", i));
    audit.flush_blocking().unwrap();
    (0..LAST).for_each(|i| info!(target: "audit", action = "last", i));
    println!("{}", audit.stats().offered);
    std::io::stdout().flush().unwrap();
    std::thread::sleep(support::PATIENCE);
}

/// Lets a child end in this way, and returns what it announced, what it left committed, and what the next log has.
fn ended(end: &str, queue: &str) -> (u64, u64, u64, ExitStatus) {
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
    if end.starts_with("SIGTERM") {
        let status = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(status.success());
    }
    let status = support::wait(child);
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    let count = || reader.blocking().count(AuditQuery::new()).unwrap();
    let left = count();
    let next = AuditLog::open_blocking(&file).unwrap();
    let journals = || std::fs::read_dir(directory.path().join("audit.db.queue")).unwrap().count();
    support::wait_until("what was left is adopted", || journals() == 1);
    assert_eq!(next.stats().recovered, count() - left);
    (announced.trim().parse().unwrap(), left, count(), status)
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
        // Nobody is left to flush: what was not committed is left to the next log, or to nobody.
        ("exit", FLUSHED),
        ("panic = abort", FLUSHED),
        ("abort", FLUSHED),
        ("SIGTERM", FLUSHED),
    ];
    for (end, left) in ways {
        for (queue, in_the_end) in [("memory", left), ("journal", all)] {
            let (announced, found, then, status) = ended(end, queue);
            assert_eq!((announced, found, then), (all, left, in_the_end), "{end}, {queue}: {status}");
            println!("test {end}, {queue}: {left} of {all} committed, {then} after the next start ... ok");
        }
    }
    println!("\ntest result: ok. {} passed; 0 failed", 2 * ways.len());
}
