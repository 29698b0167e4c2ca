//! Pages and reports of ten million entries over a hundred days, on SQLite and on PostgreSQL: how long the slowest of a
//! hundred takes. And what writers notice of an index that is made beside them, and the pages that it serves.
//! `QUERY_ROWS` in the environment is another number of entries; `QUERY_ONLY=coverage` compares only pages alone and with
//! their coverage.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;
#[path = "common/fill.rs"]
mod fill;
#[path = "../tests/suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each benchmark uses its part")]
mod support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use common::show;
use fill::{DAY, DAYS, START, postgres, sqlite};
use support::{block_on, postgres::server};
use tracing_audit::{
    AuditEntry, AuditLog, AuditQuery, AuditReader, Decision, Store,
    index::IndexOn,
    query::{Column, CountBy},
};
use uuid::Uuid;

/// Runs of each query, each with another value: so many that a moment in which the machine does something else is not
/// the slowest of a hundred.
const RUNS: u64 = 1000;

fn time(micros: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros.cast_signed()).unwrap()
}

/// The median and the slowest but for one in a hundred.
fn measure(name: &str, goal: &str, runs: u64, mut job: impl FnMut(u64)) {
    job(runs);
    let mut took: Vec<f64> = (0..runs)
        .map(|run| {
            let start = Instant::now();
            job(run);
            start.elapsed().as_secs_f64()
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |part: f64| show(took[((took.len() - 1) as f64 * part).ceil() as usize]);
    println!("{name:<72} p50 {:>10}  p99 {:>10}  (goal {goal})", at(0.5), at(0.99));
}

/// Work that is always the same: how far a figure below may be the machine's.
fn machine() {
    measure("the machine: the same multiplications each time", "reported", 1000, |run| {
        std::hint::black_box(
            (0..1_000_000).fold(run, |sum, n| std::hint::black_box(sum.wrapping_mul(31) + n)),
        );
    });
}

const GOAL: &str = "p99 <= 10 ms";

/// With a goal, or reported, which takes fewer runs.
fn pages(store: &str, reader: &AuditReader, goal: &str, asked: &[(&str, &dyn Fn(u64) -> AuditQuery)]) {
    for (name, query) in asked {
        for latest in [true, false] {
            let name =
                format!("{store}: page of 100, {}: {name}", if latest { "latest" } else { "earliest" });
            let runs = if goal == GOAL { RUNS } else { RUNS / 10 };
            measure(&name, goal, runs, |run| {
                let query = if latest { query(run).newest_first() } else { query(run) };
                block_on(reader.page(query, None, 100)).unwrap();
            });
        }
    }
}

fn queries(store: &str, reader: &AuditReader, rows: u64) {
    machine();
    let id = |n: u64| Uuid::from_u128(n.into());
    let day = |run: u64| (time(START + run % DAYS * DAY), time(START + (run % DAYS + 1) * DAY));
    let all = AuditQuery::new;
    let asked: [(&str, &dyn Fn(u64) -> AuditQuery); 17] = [
        ("everything", &|_| all()),
        ("a workspace", &|run| all().workspace_id(id(run % 50))),
        ("a workspace of one in ten thousand", &|_| all().workspace_id(id(50))),
        ("a workspace of three entries", &|_| all().workspace_id(id(51))),
        ("a workspace without any", &|run| all().workspace_id(id(1000 + run))),
        ("a session", &|run| all().session_id(id(rows / 20 * run / (RUNS + 1)))),
        ("refused", &|_| all().decision(Decision::Deny)),
        ("risk of at least 0.8", &|_| all().risk_at_least(0.8)),
        ("a day", &|run| all().since(day(run).0).before(day(run).1)),
        ("a workspace on a day", &|run| {
            all().workspace_id(id(run % 50)).since(day(run).0).before(day(run).1)
        }),
        ("refused on a day", &|run| all().decision(Decision::Deny).since(day(run).0).before(day(run).1)),
        ("a workspace, refused", &|run| all().workspace_id(id(run % 50)).decision(Decision::Deny)),
        ("a workspace, an action", &|run| all().workspace_id(id(run % 50)).action("document.write")),
        ("a workspace, risk of at least 0.8", &|run| all().workspace_id(id(run % 50)).risk_at_least(0.8)),
        ("a session, refused", &|run| {
            all().session_id(id(rows / 20 * run / (RUNS + 1))).decision(Decision::Deny)
        }),
        ("a workspace, a session", &|run| {
            all().session_id(id(rows / 20 * run / (RUNS + 1))).workspace_id(id(run % 50))
        }),
        ("a session, an agent", &|run| {
            all().session_id(id(rows / 20 * run / (RUNS + 1))).any_of(Column::AgentId, ["nobody"])
        }),
    ];
    pages(store, reader, GOAL, &asked);
    for (name, query) in [
        ("everything", &(|_| all()) as &dyn Fn(u64) -> AuditQuery),
        ("a workspace", &|run| all().workspace_id(id(run % 50))),
        ("a session", &|run| all().session_id(id(rows / 20 * run / (RUNS + 1)))),
    ] {
        measure(&format!("{store}: the newest 100 by time: {name}"), "reported", RUNS, |run| {
            block_on(reader.query(query(run).limit(100))).unwrap();
        });
    }
    for (name, by) in [
        ("hour", CountBy::Hour),
        ("action", CountBy::Column(Column::Action)),
        ("agent", CountBy::Column(Column::AgentId)),
    ] {
        measure(&format!("{store}: counts of a day by {name}"), "<= 200 ms", 10, |run| {
            let (since, before) = day(run * 7);
            assert!(
                !block_on(reader.count_by(all().since(since).before(before), by.clone())).unwrap().is_empty()
            );
        });
    }
}

/// Pages alone and with their coverage, of one run, and what the coverage of a whole answer takes.
fn covered(store: &str, reader: &AuditReader) {
    machine();
    let id = |n: u64| Uuid::from_u128(n.into());
    let day = |run: u64| (time(START + run % DAYS * DAY), time(START + (run % DAYS + 1) * DAY));
    let all = AuditQuery::new;
    let asked: [(&str, &dyn Fn(u64) -> AuditQuery); 6] = [
        ("everything", &|_| all()),
        ("a workspace", &|run| all().workspace_id(id(run % 50))),
        ("a workspace of one in ten thousand", &|_| all().workspace_id(id(50))),
        ("a workspace without any", &|run| all().workspace_id(id(1000 + run))),
        ("refused", &|_| all().decision(Decision::Deny)),
        ("a day", &|run| all().since(day(run).0).before(day(run).1)),
    ];
    for (name, query) in asked {
        for latest in [true, false] {
            let (mut alone, mut with, mut added) = (Vec::new(), Vec::new(), Vec::new());
            // The first run only fills the caches.
            for run in 0..=RUNS / 2 {
                let query = if latest { query(run).newest_first() } else { query(run) };
                let start = Instant::now();
                let page = block_on(reader.page(&query, None, 100)).unwrap();
                let of_page = start.elapsed().as_secs_f64();
                let coverage = block_on(reader.page_coverage(&query, &page)).unwrap();
                let of_both = start.elapsed().as_secs_f64();
                assert!(!coverage.lacks(), "{coverage:?}");
                if run > 0 {
                    alone.push(of_page);
                    with.push(of_both);
                    added.push(of_both - of_page);
                }
            }
            for took in [&mut alone, &mut with, &mut added] {
                took.sort_by(f64::total_cmp);
            }
            let at = |took: &[f64], part: f64| took[((took.len() - 1) as f64 * part).ceil() as usize];
            let name =
                format!("{store}: page of 100, {}: {name}", if latest { "latest" } else { "earliest" });
            println!(
                "{name:<72} alone {:>9}  with coverage {:>9}  ratio {:>5.2}  coverage adds p50 {:>9}  p99 {:>9}  (goal p50 <= 2 ms)",
                show(at(&alone, 0.5)),
                show(at(&with, 0.5)),
                at(&with, 0.5) / at(&alone, 0.5),
                show(at(&added, 0.5)),
                show(at(&added, 0.99)),
            );
        }
    }
    for (name, query) in [("everything", all()), ("a day", all().since(day(7).0).before(day(7).1))] {
        measure(&format!("{store}: coverage of an answer, a million numbers: {name}"), "reported", 5, |_| {
            assert!(!block_on(reader.coverage(&query, 1_000_000)).unwrap().lacks());
        });
    }
}

/// Makes the index while another thread writes, and says what that one has noticed.
fn make_index(name: &str, store: &Store, on: &IndexOn) {
    let log = AuditLog::builder()
        .store(store.clone())
        .in_memory_queue()
        .queue_max_entries(1_000_000)
        .queue_max_bytes(1 << 30)
        .commit_timeout(Duration::from_secs(600))
        .on_notice(|_| {})
        .blocking()
        .open()
        .unwrap();
    let (writer, done) = (log.writer(), AtomicBool::new(false));
    let entry = || AuditEntry::new(Uuid::nil(), "document.read", "document");
    let mut slowest = Duration::ZERO;
    let (took, slowest_commit) = std::thread::scope(|scope| {
        // One that is told when its entry is committed, and one that is not.
        let commits = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                writer.blocking().commit(entry()).unwrap();
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(10));
            }
            slowest
        });
        let writes = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                writer.try_write(entry()).unwrap();
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let start = Instant::now();
        let made = block_on(store.create_index(on));
        let took = start.elapsed();
        done.store(true, Ordering::Relaxed);
        made.unwrap();
        writes.join().unwrap();
        (took, commits.join().unwrap())
    });
    log.blocking().flush().unwrap();
    let [took, slowest, slowest_commit] =
        [took, slowest, slowest_commit].map(|time| show(time.as_secs_f64()));
    println!(
        "{name}: an index on {on} is made in {took}; beside it the slowest write takes {slowest}, the slowest commit {slowest_commit}"
    );
}

/// Pages by what gets an index on request.
fn on_request(name: &str, store: &Store) {
    for on in ["agent_id", "resource_id", "action", "metadata.ip"] {
        make_index(name, store, &on.parse().unwrap());
    }
    let all = AuditQuery::new;
    let agent = |n: u64| Uuid::from_u128(n.into()).to_string();
    let day = |run: u64| time(START + run % DAYS * DAY);
    let reader = AuditReader::new(store.clone());
    let alone: [(&str, &dyn Fn(u64) -> AuditQuery); 7] = [
        ("an agent", &|run| all().any_of(Column::AgentId, [agent(run % 500)])),
        ("an agent without any", &|run| all().any_of(Column::AgentId, [agent(1000 + run)])),
        ("a document", &|run| all().any_of(Column::ResourceId, [(run * 97).to_string()])),
        ("an action", &|_| all().action("document.write")),
        ("an action of nobody", &|_| all().action("document.print")),
        ("an address", &|run| all().metadata_any_of("ip", [format!("10.1.{}", run * 7)])),
        ("an agent on a day", &|run| {
            let query = all().any_of(Column::AgentId, [agent(run % 500)]);
            query.since(day(run)).before(day(run) + Duration::from_hours(24))
        }),
    ];
    pages(name, &reader, GOAL, &alone);
    // Every second agent has no such action: all that it did is looked at.
    pages(
        name,
        &reader,
        "reported",
        &[
            ("three agents", &|run| {
                all().any_of(Column::AgentId, [run, run + 1, run + 2].map(|n| agent(n % 500)))
            }),
            ("an agent, an action", &|run| {
                all().any_of(Column::AgentId, [agent(run % 500)]).action("document.write")
            }),
            ("an agent, a document", &|run| {
                let query = all().any_of(Column::AgentId, [agent(run % 500)]);
                query.any_of(Column::ResourceId, [((run % 500 + run * 500) % 100_000).to_string()])
            }),
            ("a workspace, an address", &|run| {
                let query = all().workspace_id(Uuid::from_u128((run % 50).into()));
                query.metadata_any_of("ip", [format!("10.1.{run}")])
            }),
        ],
    );
}

fn main() {
    let rows = std::env::var("QUERY_ROWS").map_or(10_000_000, |rows| rows.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    drop(AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap());
    let start = Instant::now();
    block_on(sqlite(file.to_str().unwrap(), rows));
    println!("{rows} entries in SQLite after {:?}", start.elapsed());
    let store = Store::sqlite(&file).unwrap();
    let only_coverage = std::env::var_os("QUERY_ONLY").is_some_and(|only| only == "coverage");
    covered("SQLite", &AuditReader::new(store.clone()));
    if !only_coverage {
        queries("SQLite", &AuditReader::new(store.clone()), rows);
        on_request("SQLite", &store);
    }

    let url = server().create_database();
    let log =
        AuditLog::builder().store(Store::postgres(&url).unwrap()).in_memory_queue().queue_max_entries(1);
    drop(log.blocking().open().unwrap());
    let start = Instant::now();
    block_on(postgres(&url, rows));
    println!("{rows} entries in PostgreSQL after {:?}", start.elapsed());
    let store = Store::from(Store::postgres(&url).unwrap());
    covered("PostgreSQL", &AuditReader::new(store.clone()));
    if !only_coverage {
        queries("PostgreSQL", &AuditReader::new(store.clone()), rows);
        on_request("PostgreSQL", &store);
    }
}
