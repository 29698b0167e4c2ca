//! What a queue on disk costs where an average hides it: the slowest of the appends, several threads at once,
//! memory while the database is down, and the start with a backlog.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::show;
use tempfile::TempDir;
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{AuditLog, AuditLogBuilder, AuditQuery, Durability, Store, WhenFull};
use tracing_subscriber::{prelude::*, registry};
use uuid::Uuid;

const BACKLOG: u64 = 1_000_000;

fn emit(i: u64) {
    let (workspace, session, agent) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    info!(target: "audit", workspace_id = %workspace, session_id = %session, agent_id = %agent,
        action = "document.read", resource = "document", resource_id = i, decision = "Allow", risk_score = 0.12,
        reason = "policy matched", ip = "10.1.2.3", latency_ms = i % 500);
}

fn builder(directory: &Path) -> AuditLogBuilder {
    AuditLog::builder()
        .store(Store::sqlite(directory.join("audit.db")).unwrap())
        .when_full(WhenFull::Reject)
        .commit_timeout(Duration::from_secs(120))
        .on_notice(|_| {})
}

/// Runs the body with the log as the subscriber, and with what it is given still pending at the end.
fn with_log<T>(
    configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder,
    body: impl FnOnce(&AuditLog, &Dispatch) -> T,
) -> T {
    let directory = tempfile::tempdir().unwrap();
    let log = configure(builder(directory.path())).blocking().open().unwrap();
    let dispatch = Dispatch::new(registry().with(log.layer()));
    let value = dispatcher::with_default(&dispatch, || body(&log, &dispatch));
    assert_eq!(log.stats().rejected, 0);
    value
}

/// Each call by itself, in bursts that are committed between.
fn latencies(name: &str, settle: impl Fn(), mut emit: impl FnMut(u64)) {
    const EVENTS: u64 = 400_000;
    const BURST: u64 = 10_000;
    let mut took = Vec::with_capacity(EVENTS as usize);
    let mut before = Instant::now();
    for i in 0..EVENTS {
        if i % BURST == 0 {
            settle();
            before = Instant::now();
        }
        emit(i);
        let now = Instant::now();
        took.push(now - before);
        before = now;
    }
    settle();
    took.sort_unstable();
    let at = |share: f64| show(took[((EVENTS - 1) as f64 * share) as usize].as_secs_f64());
    println!(
        "{name:<44} p50 {:>9}  p99 {:>9}  p99.9 {:>9}  worst {:>9}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn slowest() {
    println!("one call of 400 000 (10 000 at a time, committed between):");
    let in_memory = |builder: AuditLogBuilder| builder.in_memory_queue();
    with_log(in_memory, |log, _| latencies("in memory", || log.blocking().flush().unwrap(), emit));
    with_log(
        |builder| builder,
        |log, _| {
            latencies("journal", || log.blocking().flush().unwrap(), emit);
        },
    );
    // Of 2 MiB.
    let rotating = |builder: AuditLogBuilder| builder.journal_max_bytes(8 << 20);
    with_log(rotating, |log, _| {
        latencies("journal, a new segment every 5 000 entries", || log.blocking().flush().unwrap(), emit);
    });
    let syncing = |builder: AuditLogBuilder| {
        builder.durability(Durability::PowerLoss { within: Duration::from_millis(20) })
    };
    with_log(syncing, |log, _| {
        latencies("journal, PowerLoss within 20 ms", || log.blocking().flush().unwrap(), emit);
    });
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("audit.jsonl")).unwrap();
    let (writer, guard) =
        tracing_appender::non_blocking::NonBlockingBuilder::default().lossy(false).finish(file);
    let json = registry().with(tracing_subscriber::fmt::layer().json().with_writer(writer));
    dispatcher::with_default(&Dispatch::new(json), || {
        let settle = || std::thread::sleep(Duration::from_millis(50));
        latencies("a JSON line through tracing-appender", settle, emit);
    });
    drop(guard);
}

/// The time that `threads` threads take together for all events, nothing being committed meanwhile.
fn together(threads: u64, configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder) -> Duration {
    const EVENTS: u64 = 80_000;
    let later = |builder: AuditLogBuilder| {
        configure(builder).batch_entries(1 << 20).flush_interval(Duration::from_secs(3600))
    };
    with_log(later, |_, dispatch| {
        let barrier = std::sync::Barrier::new(threads as usize + 1);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    dispatcher::with_default(dispatch, || {
                        barrier.wait();
                        (0..EVENTS / threads).for_each(emit);
                        barrier.wait();
                    });
                });
            }
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            start.elapsed()
        })
    })
}

fn threads() {
    for (name, journaled) in [("in memory", false), ("journal", true)] {
        let configure = |builder: AuditLogBuilder| {
            if journaled { builder } else { builder.in_memory_queue() }
        };
        for _ in 0..9 {
            for threads in [1, 8] {
                common::note(&format!("{name}, {threads} threads"), 80_000, together(threads, configure));
            }
        }
        common::ratio(&format!("{name}, 8 threads"), &format!("{name}, 1 threads"), "<= 1");
    }
}

const CHILD: &str = "TRACING_AUDIT_BENCH_CHILD";
const DIRECTORY: &str = "TRACING_AUDIT_BENCH_DIRECTORY";

/// This program again, in a process of its own; what it prints.
fn child(what: &str, directory: &TempDir) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, what)
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Child(child)
}

struct Child(std::process::Child);

impl Child {
    fn line(&mut self) -> f64 {
        use std::io::Read;
        let mut line = Vec::new();
        let mut byte = [0];
        let out = self.0.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().parse().unwrap()
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn anonymous_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    resident.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

fn run_child(what: &str) {
    let directory = std::path::PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let start = Instant::now();
    let log = builder(&directory).blocking().open().unwrap();
    let writer = log.writer();
    let _default = dispatcher::set_default(&Dispatch::new(registry().with(log.layer())));
    if what == "start" {
        emit(0);
        println!("{}", start.elapsed().as_secs_f64());
        assert_eq!(log.stats().offered, 1);
        std::process::abort();
    }
    let before = anonymous_bytes();
    (0..BACKLOG).for_each(emit);
    assert_eq!((writer.stats().offered, writer.stats().rejected, writer.stats().committed), (BACKLOG, 0, 0));
    println!("{}", anonymous_bytes() - before);
    // Until the database is there again.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    if what == "die" {
        std::process::abort();
    }
    let start = Instant::now();
    log.blocking().flush().unwrap();
    assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), BACKLOG);
    println!("{}", start.elapsed().as_secs_f64());
}

/// Keeps everybody from writing, until the connection is dropped.
async fn blocked(directory: &TempDir) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions;
    drop(builder(directory.path()).open().await.unwrap());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.path().join("audit.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
    connection
}

fn database_down() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let blocker = runtime.block_on(blocked(&directory));
    let mut accepting = child("commit", &directory);
    let grown = accepting.line();
    drop(blocker);
    drop(accepting.0.stdin.take());
    let took = accepting.line();
    accepting.end();
    println!(
        "database down: {BACKLOG} entries accepted took {:.1} MB more (goal <= 64); all committed in {took:.1} s after",
        grown / 1e6
    );

    let (backlog, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let blocker = runtime.block_on(blocked(&backlog));
    drop(runtime.block_on(blocked(&empty)));
    let mut dying = child("die", &backlog);
    dying.line();
    dying.end();
    drop(blocker);
    // Each of them commits some of the backlog.
    for _ in 0..5 {
        for (name, directory) in [("with a backlog of a million", &backlog), ("empty", &empty)] {
            let mut starting = child("start", directory);
            common::note(name, 1, Duration::from_secs_f64(starting.line()));
            starting.end();
        }
    }
    let first = |name: &str| common::median(name).unwrap();
    let more = first("with a backlog of a million") - first("empty");
    println!(
        "from start to the first event accepted: {} with a backlog of a million, {} empty: {:.1} ms more (goal <= 100)",
        show(first("with a backlog of a million")),
        show(first("empty")),
        more * 1e3
    );
}

fn main() {
    if let Ok(what) = std::env::var(CHILD) {
        return run_child(&what);
    }
    slowest();
    threads();
    database_down();
}
