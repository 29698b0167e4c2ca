//! Reading a ledger of a million rows: queries and pages beside a table with the columns as text that is
//! scanned, the CSV export beside the sqlite3 shell, and how much memory the export takes. Then whole ledgers of several
//! sizes, on both databases: how long 100 000 entries take in each. `READ_ROWS` in the environment is another size of the
//! largest; `READ_ONLY=linear` leaves out the rest.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;
#[path = "common/fill.rs"]
mod fill;
#[path = "../tests/suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each benchmark uses its part")]
mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode};
use tokio::runtime::Runtime;
use tracing_audit::{
    AuditEntry, AuditFilter, AuditLog, AuditQuery, AuditReader, Decision, Store, WhenFull,
    export::ExportFormat,
};
use uuid::Uuid;

const ROWS: u64 = 1_000_000;

/// 50 workspaces, one of which has 100 entries; one refusal in 1000.
fn write(file: &Path) {
    let log = AuditLog::builder()
        .store(Store::sqlite(file).unwrap())
        .when_full(WhenFull::Block { timeout: Duration::from_secs(60) })
        .commit_timeout(Duration::from_secs(60))
        .blocking()
        .open()
        .unwrap();
    let writer = log.writer();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for i in 0..ROWS {
            let workspace = if i % 10_000 == 0 { 50 } else { i % 50 };
            let mut entry = AuditEntry::new(Uuid::from_u128(workspace.into()), "document.read", "document");
            entry.session_id = Some(Uuid::from_u128((i / 20).into()));
            entry.agent_id = Some(Uuid::from_u128((i % 500).into()));
            entry.resource_id = Some(i.to_string());
            entry.decision = if i % 1000 == 0 { Decision::Deny } else { Decision::Allow }.into();
            entry.reason = Some("default policy matched".to_owned());
            entry.risk_score = (i % 80) as f64 / 100.0;
            entry.metadata = serde_json::json!({"ip": "10.1.2.3", "latency_ms": i % 500});
            writer.write(entry).await.unwrap();
        }
    });
    log.blocking().flush().unwrap();
    assert_eq!(log.stats().committed, ROWS);
    // The same with UUIDs as text and without the indexes that a rare value needs.
    let copy = "CREATE TABLE plain AS SELECT * FROM tracing_audit_log;
                CREATE INDEX plain_workspace ON plain (workspace_id, ts);";
    assert!(Command::new("sqlite3").arg(file).arg(copy).status().unwrap().success());
}

/// Set in a process that only exports, so that its memory is the export's alone.
const EXPORT_ONLY: &str = "TRACING_AUDIT_BENCH_EXPORT_ONLY";

fn export(runtime: &Runtime, reader: &AuditReader) {
    let out = std::fs::File::create("/dev/null").unwrap();
    let count = runtime.block_on(reader.export_csv(AuditFilter::default(), out)).unwrap();
    assert_eq!(count, ROWS);
}

fn shell(file: &Path) {
    let sql = "SELECT id, session_id, workspace_id, agent_id, action, resource, resource_id, decision, reason, \
               printf('%.4f', risk_score), ts, metadata FROM tracing_audit_log ORDER BY ts DESC, seq DESC";
    let status =
        Command::new("sqlite3").args(["-csv", "-header"]).arg(file).arg(sql).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn bench(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    mut job: impl FnMut(),
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let start = Instant::now();
            (0..iterations).for_each(|_| job());
            let took = start.elapsed();
            common::note(name, iterations, took);
            took
        });
    });
}

/// Prints how long 100 000 entries take in whole ledgers of several sizes.
fn linear() {
    let most = std::env::var("READ_ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    for rows in [most / 10, most / 3, most] {
        let rows = rows / fill::BATCH * fill::BATCH;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        drop(AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap());
        support::block_on(fill::sqlite(file.to_str().unwrap(), rows));
        whole("SQLite", &AuditReader::new(Store::sqlite(&file).unwrap()), rows);
        let url = support::postgres::server().create_database();
        let log =
            AuditLog::builder().store(Store::postgres(&url).unwrap()).in_memory_queue().queue_max_entries(1);
        drop(log.blocking().open().unwrap());
        support::block_on(fill::postgres(&url, rows));
        whole("PostgreSQL", &AuditReader::new(Store::postgres(&url).unwrap()), rows);
    }
}

fn whole(store: &str, reader: &AuditReader, rows: u64) {
    use futures_util::StreamExt;
    let start = chrono::DateTime::from_timestamp_micros(fill::START.cast_signed()).unwrap();
    let timed = || AuditQuery::new().from_seq(0).since(start).committed_since(start);
    let show = |name: &str, took: Duration| {
        let each = took.as_secs_f64() * 100_000.0 / rows as f64;
        println!("{store}, {rows} entries, {name:<48} {each:.3} s for 100 000 (goal: the same at each size)");
    };
    for (name, format) in
        [("CSV", ExportFormat::Csv), ("JSON Lines", ExportFormat::JsonLines), ("OCSF", ExportFormat::Ocsf)]
    {
        for (kind, query) in [("", AuditQuery::new()), (", in a time", timed())] {
            let begun = Instant::now();
            assert_eq!(support::block_on(reader.export(query, format, std::io::sink())).unwrap(), rows);
            show(&[name, kind].concat(), begun.elapsed());
        }
    }
    for (name, query) in
        [("stream, newest first, in a time", timed().newest_first()), ("stream", AuditQuery::new())]
    {
        let begun = Instant::now();
        let found = support::block_on(reader.stream(query).map(Result::unwrap).count());
        assert_eq!(found as u64, rows);
        show(name, begun.elapsed());
    }
    for (name, query) in [
        ("by time, latest first", AuditQuery::new().newest_first()),
        ("by time, earliest first", AuditQuery::new()),
    ] {
        let begun = Instant::now();
        let found = support::block_on(reader.stream_by_time(query).map(Result::unwrap).count());
        assert_eq!(found as u64, rows);
        show(name, begun.elapsed());
    }
    let begun = Instant::now();
    let followed = reader.follow_matching(timed(), 0).take(rows as usize).map(Result::unwrap);
    assert_eq!(support::block_on(followed.count()) as u64, rows);
    show("follower, in a time", begun.elapsed());
}

fn main() {
    if std::env::var_os("READ_ONLY").is_some_and(|only| only == "linear") {
        return linear();
    }
    if let Some(file) = std::env::var_os(EXPORT_ONLY) {
        return export(&Runtime::new().unwrap(), &AuditReader::new(Store::sqlite(file).unwrap()));
    }
    let mut criterion = Criterion::default().configure_from_args();
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("audit.db");
    write(&file);
    let runtime = Runtime::new().unwrap();
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    let plain = runtime.block_on(sqlx::SqlitePool::connect(file.to_str().unwrap())).unwrap();

    let mut group = criterion.benchmark_group("read 1 000 000 rows");
    group.measurement_time(Duration::from_secs(3)).sample_size(10).sampling_mode(SamplingMode::Flat);
    let scan = |sql: &'static str| {
        let (runtime, plain) = (&runtime, &plain);
        move || {
            let rows = runtime.block_on(sqlx::query(sql).fetch_all(plain)).unwrap();
            assert_eq!(rows.len(), 100);
        }
    };
    let query = |query: AuditQuery| {
        let (runtime, reader) = (&runtime, &reader);
        move || assert_eq!(runtime.block_on(reader.query(&query)).unwrap().len(), 100)
    };
    let newest = AuditQuery::new().limit(100);
    bench(&mut group, "newest 100", query(newest));
    bench(&mut group, "newest 100, scanned", scan("SELECT * FROM plain ORDER BY ts DESC LIMIT 100"));
    let dense = AuditQuery::new().workspace_id(Uuid::from_u128(7)).limit(100);
    bench(&mut group, "newest 100 of a large workspace", query(dense));
    bench(
        &mut group,
        "newest 100 of a large workspace, by an index on time",
        scan(
            "SELECT * FROM plain WHERE workspace_id = '00000000-0000-0000-0000-000000000007' ORDER BY ts DESC LIMIT 100",
        ),
    );
    let rare = AuditQuery::new().workspace_id(Uuid::from_u128(50));
    bench(&mut group, "all 100 of a small workspace", query(rare));
    let denied = AuditQuery::new().decision(Decision::Deny).limit(100);
    bench(&mut group, "newest 100 refusals", query(denied));
    bench(
        &mut group,
        "newest 100 refusals, scanned",
        scan("SELECT * FROM plain WHERE decision = 'Deny' ORDER BY ts DESC LIMIT 100"),
    );
    bench(&mut group, "a page of 100", || {
        let page = runtime.block_on(reader.page(AuditQuery::new().newest_first(), None, 100)).unwrap();
        assert_eq!(page.entries.len(), 100);
    });
    bench(&mut group, "CSV of all", || export(&runtime, &reader));
    bench(&mut group, "CSV of all, sqlite3 shell", || shell(&file));
    group.finish();

    common::ratio("newest 100", "newest 100, scanned", "< 1");
    common::ratio(
        "newest 100 of a large workspace",
        "newest 100 of a large workspace, by an index on time",
        "-",
    );
    common::ratio("newest 100 refusals", "newest 100 refusals, scanned", "< 1");
    common::ratio("CSV of all", "CSV of all, sqlite3 shell", "<= 1");
    for name in ["CSV of all", "CSV of all, sqlite3 shell"] {
        if let Some(each) = common::median(name) {
            println!("{name}: {:.0} rows/s", ROWS as f64 / each);
        }
    }
    let resident = common::most_memory(EXPORT_ONLY, file.as_os_str()) as f64 / 1e6;
    println!("CSV of all: {resident:.1} MB resident at most, the whole process (goal <= 64)");
    linear();
}
