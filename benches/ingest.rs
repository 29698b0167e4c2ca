//! From the event to the committed row, beside the row-by-row way and SQLite's own C interface.
//!
//! Each case fills tables of 200 000 rows, 20 000 at a time; a sample is one such part, so the figure is the
//! mean over a growing table.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]
#![allow(unsafe_code, reason = "SQLite's C interface is called as C calls it")]

mod common;

use std::{
    ffi::{CStr, CString},
    path::PathBuf,
    ptr,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode};
use libsqlite3_sys as ffi;
use tempfile::TempDir;
use tracing::info;
use tracing_audit::{AuditEntry, AuditLog, AuditLogBuilder, Store};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

const PART: u64 = 20_000;
const TABLE: u64 = 200_000;
/// What the flusher puts into one transaction at most.
const BATCH: usize = 16384;

fn emit(i: u64, ids: &Ids) {
    let (workspace, session, agent) = ids.of(i);
    info!(target: "audit", workspace_id = %workspace, session_id = %session, agent_id = %agent,
        action = "document.read", resource = "document", resource_id = i,
        decision = if i % 50 == 0 { "Deny" } else { "Allow" }, risk_score = (i % 100) as f64 / 100.0,
        reason = "default policy matched", ip = "10.1.2.3", latency_ms = i % 500);
}

/// 50 workspaces, 5 000 sessions, 500 agents.
struct Ids(Vec<Uuid>);

impl Ids {
    fn new() -> Self {
        Self((0..5000).map(|_| Uuid::now_v7()).collect())
    }

    fn of(&self, i: u64) -> (Uuid, Uuid, Uuid) {
        let at = |n: u64, of: u64| self.0[(n.wrapping_mul(2_654_435_761) % of) as usize];
        (at(i, 50), at(i / 20, 5000), at(i, 500))
    }
}

/// A case: a table that takes parts until it is full.
trait Case {
    fn part(&mut self, from: u64);
}

struct Ours {
    log: AuditLog,
    subscriber: tracing::Dispatch,
    ids: Ids,
    _directory: TempDir,
}

impl Ours {
    fn in_memory() -> Self {
        Self::new(|builder| builder.in_memory_queue())
    }

    fn journaled() -> Self {
        Self::new(|builder| builder)
    }

    fn new(configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
        let log = configure(AuditLog::builder())
            .store(store)
            .when_full(tracing_audit::WhenFull::Block { timeout: Duration::from_secs(60) })
            .commit_timeout(Duration::from_secs(60))
            .blocking()
            .open()
            .unwrap();
        let subscriber = tracing::Dispatch::new(tracing_subscriber::registry().with(log.layer()));
        Self { log, subscriber, ids: Ids::new(), _directory: directory }
    }
}

impl Case for Ours {
    fn part(&mut self, from: u64) {
        tracing::dispatcher::with_default(&self.subscriber, || {
            (from..from + PART).for_each(|i| emit(i, &self.ids))
        });
        self.log.blocking().flush().unwrap();
        assert_eq!(self.log.stats().committed, from + PART);
    }
}

/// The usual way: entries as values through a channel of twice the batch to a task, which writes a transaction
/// of 500 with one statement per row, UUIDs and metadata as text, on a pool with the options it has by default.
struct RowByRow {
    runtime: tokio::runtime::Runtime,
    entries: tokio::sync::mpsc::Sender<AuditEntry>,
    written: tokio::sync::watch::Receiver<u64>,
    ids: Ids,
    _directory: TempDir,
}

impl RowByRow {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (entries, mut queue) = tokio::sync::mpsc::channel::<AuditEntry>(1000);
        let (count, written) = tokio::sync::watch::channel(0);
        let file = directory.path().join("audit.db");
        runtime.spawn(async move {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            sqlx::raw_sql(
                "CREATE TABLE audit_log (id TEXT PRIMARY KEY, session_id TEXT, workspace_id TEXT NOT NULL, agent_id TEXT,
                   action TEXT NOT NULL, resource TEXT NOT NULL, resource_id TEXT, decision TEXT NOT NULL, reason TEXT,
                   risk_score REAL NOT NULL, metadata TEXT NOT NULL, ts INTEGER NOT NULL);
                 CREATE INDEX audit_log_workspace_ts ON audit_log (workspace_id, ts);
                 CREATE INDEX audit_log_session ON audit_log (session_id);",
            )
            .execute(&pool)
            .await
            .unwrap();
            let mut batch = Vec::new();
            while let Some(entry) = queue.recv().await {
                batch.push(entry);
                if batch.len() == 500 {
                    write_rows(&pool, &batch).await;
                    count.send_modify(|count| *count += batch.len() as u64);
                    batch.clear();
                }
            }
        });
        Self { runtime, entries, written, ids: Ids::new(), _directory: directory }
    }
}

async fn write_rows(pool: &sqlx::SqlitePool, batch: &[AuditEntry]) {
    let mut transaction = pool.begin().await.unwrap();
    for entry in batch {
        sqlx::query("INSERT INTO audit_log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")
            .bind(entry.id.to_string())
            .bind(entry.session_id.map(|id| id.to_string()))
            .bind(entry.workspace_id.to_string())
            .bind(entry.agent_id.map(|id| id.to_string()))
            .bind(&entry.action)
            .bind(&entry.resource)
            .bind(&entry.resource_id)
            .bind(&entry.decision)
            .bind(&entry.reason)
            .bind(entry.risk_score)
            .bind(entry.metadata.to_string())
            .bind(entry.ts.timestamp_millis())
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
}

impl Case for RowByRow {
    fn part(&mut self, from: u64) {
        let Self { runtime, entries, written, ids, .. } = self;
        runtime.block_on(async {
            for i in from..from + PART {
                let (workspace, session, agent) = ids.of(i);
                let mut entry = AuditEntry::new(workspace, "document.read", "document");
                entry.id = Uuid::new_v4();
                entry.session_id = Some(session);
                entry.agent_id = Some(agent);
                entry.resource_id = Some(i.to_string());
                entry.decision = if i % 50 == 0 { "Deny" } else { "Allow" }.to_owned();
                entry.risk_score = (i % 100) as f64 / 100.0;
                entry.reason = Some("default policy matched".to_owned());
                entry.metadata = serde_json::json!({"ip": "10.1.2.3", "latency_ms": i % 500});
                entries.send(entry).await.unwrap();
            }
            written.wait_for(|written| *written == from + PART).await.unwrap();
        });
    }
}

/// The C interface on our own schema: same tables and indexes, same batch, same cache, same durability, rows
/// that need no preparation.
struct Raw {
    db: *mut ffi::sqlite3,
    insert: *mut ffi::sqlite3_stmt,
    ids: Ids,
    _directory: TempDir,
}

impl Raw {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("audit.db");
        let path = CString::new(path.to_str().unwrap()).unwrap();
        let (mut db, mut insert) = (ptr::null_mut(), ptr::null_mut());
        unsafe {
            assert_eq!(ffi::sqlite3_open(path.as_ptr(), &mut db), ffi::SQLITE_OK);
        }
        let mut this = Self { db, insert, ids: Ids::new(), _directory: directory };
        this.run(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000;",
        );
        this.run(include_str!("../migrations/sqlite/0001_ledger.sql"));
        this.run("INSERT INTO tracing_audit_head VALUES ('main', 0)");
        let sql = c"INSERT INTO tracing_audit_entries VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
        unsafe {
            let flags = ffi::SQLITE_PREPARE_PERSISTENT;
            assert_eq!(
                ffi::sqlite3_prepare_v3(db, sql.as_ptr(), -1, flags, &mut insert, ptr::null_mut()),
                ffi::SQLITE_OK
            );
        }
        this.insert = insert;
        this
    }

    fn run(&self, sql: &str) {
        let sql = CString::new(sql).unwrap();
        unsafe {
            let code = ffi::sqlite3_exec(self.db, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut());
            assert_eq!(code, ffi::SQLITE_OK, "{:?}", CStr::from_ptr(ffi::sqlite3_errmsg(self.db)));
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        unsafe {
            ffi::sqlite3_finalize(self.insert);
            ffi::sqlite3_close(self.db);
        }
    }
}

impl Case for Raw {
    fn part(&mut self, from: u64) {
        let rows: Vec<_> = (from..from + PART)
            .map(|i| {
                let metadata = format!(r#"{{"ip":"10.1.2.3","latency_ms":{}}}"#, i % 500);
                (i, Uuid::now_v7(), self.ids.of(i), i.to_string(), metadata)
            })
            .collect();
        for batch in rows.chunks(BATCH) {
            self.run("BEGIN IMMEDIATE");
            for (i, id, (workspace, session, agent), resource_id, metadata) in batch {
                unsafe {
                    let text = |at, text: &str| {
                        ffi::sqlite3_bind_text(self.insert, at, text.as_ptr().cast(), text.len() as i32, None)
                    };
                    let blob = |at, id: &Uuid| {
                        ffi::sqlite3_bind_blob(self.insert, at, id.as_bytes().as_ptr().cast(), 16, None)
                    };
                    ffi::sqlite3_bind_int64(self.insert, 1, *i as i64);
                    blob(2, id);
                    ffi::sqlite3_bind_int64(self.insert, 3, 1_700_000_000_000_000 + *i as i64);
                    blob(4, workspace);
                    blob(5, session);
                    blob(6, agent);
                    text(7, "document.read");
                    text(8, "document");
                    text(9, resource_id);
                    text(10, if i % 50 == 0 { "Deny" } else { "Allow" });
                    text(11, "default policy matched");
                    ffi::sqlite3_bind_double(self.insert, 12, (i % 100) as f64 / 100.0);
                    text(13, metadata);
                    ffi::sqlite3_bind_null(self.insert, 14);
                    assert_eq!(ffi::sqlite3_step(self.insert), ffi::SQLITE_DONE);
                    ffi::sqlite3_reset(self.insert);
                }
            }
            let (first, count) = (batch[0].0, batch.len());
            self.run(&format!(
                "INSERT INTO tracing_audit_batches VALUES ({first}, {count}, x'00', {first}, 0, 0, 0)"
            ));
            self.run(&format!("UPDATE tracing_audit_head SET next_seq = {}", first as usize + count));
            self.run("COMMIT");
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("ingest 20 000 of 200 000 rows");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(8));
    let cases: [(&str, fn() -> Box<dyn Case>); 4] = [
        ("audit", || Box::new(Ours::in_memory())),
        ("audit journaled", || Box::new(Ours::journaled())),
        ("raw C interface", || Box::new(Raw::new())),
        ("row by row", || Box::new(RowByRow::new())),
    ];
    for (name, new) in cases {
        let (mut case, mut rows) = (new(), 0);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    if rows == TABLE {
                        (case, rows) = (new(), 0);
                    }
                    let start = Instant::now();
                    case.part(rows);
                    let took = start.elapsed();
                    total += took;
                    rows += PART;
                    if rows == TABLE {
                        common::note(&format!("{name}, last part"), PART, took);
                    }
                }
                common::note(name, iterations * PART, total);
                total
            });
        });
    }
    group.finish();
    for name in ["audit", "audit journaled", "raw C interface", "row by row"] {
        if let Some(each) = common::median(name) {
            println!("{name}: {:.0} rows/s", 1.0 / each);
        }
    }
    common::ratio("audit", "audit journaled", ">= 0.9");
    common::ratio("audit, last part", "audit journaled, last part", ">= 0.9");
    common::ratio("raw C interface", "audit", ">= 0.8");
    common::ratio("row by row", "audit", ">= 12 at 200 000 rows");
    common::ratio("raw C interface, last part", "audit, last part", ">= 0.8");
    common::ratio("row by row, last part", "audit, last part", ">= 12");
}
