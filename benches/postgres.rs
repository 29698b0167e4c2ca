//! On a local PostgreSQL server: a million rows as CSV beside psql's `\copy`; from the event to the committed row beside
//! `COPY` of the same rows into the same tables and beside one `INSERT` a row; by the functions of the tables' owner beside
//! the tables themselves; and four writers on one ledger beside
//! four on four.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;
#[path = "../tests/suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each benchmark uses its part")]
mod support;

use std::{
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use support::{
    block_on,
    postgres::{as_role, guarded_database, server},
};
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{AuditLog, AuditQuery, AuditReader, Store};
use tracing_subscriber::{prelude::*, registry};
use uuid::Uuid;

const ROWS: u64 = 200_000;
const BATCH: u64 = 16_384;
const ROUNDS: usize = 3;

fn ids(i: u64) -> (Uuid, Uuid, Uuid) {
    let at = |n: u64, of: u64| Uuid::from_u128(u128::from(n.wrapping_mul(2_654_435_761) % of) << 64 | 7);
    (at(i, 50), at(i / 20, 5000), at(i, 500))
}

fn emit(i: u64) {
    let (workspace, session, agent) = ids(i);
    info!(target: "audit", workspace_id = %workspace, session_id = %session, agent_id = %agent,
        action = "document.read", resource = "document", resource_id = i,
        decision = if i % 50 == 0 { "Deny" } else { "Allow" }, risk_score = (i % 100) as f64 / 100.0,
        reason = "default policy matched", ip = "10.1.2.3", latency_ms = i % 500);
}

fn open(url: &str, ledger: &str) -> AuditLog {
    AuditLog::builder()
        .store(Store::postgres(url).unwrap())
        .ledger(ledger)
        .in_memory_queue()
        .when_full(tracing_audit::WhenFull::Block { timeout: Duration::from_secs(60) })
        .commit_timeout(Duration::from_secs(120))
        .blocking()
        .open()
        .unwrap()
}

/// Emits rows `from` on through a log of its own, and waits until they are committed.
fn ours(url: &str, ledger: &str, rows: u64) {
    let log = open(url, ledger);
    let dispatch = Dispatch::new(registry().with(log.layer()));
    dispatcher::with_default(&dispatch, || (0..rows).for_each(emit));
    log.blocking().flush().unwrap();
    assert_eq!(log.stats().committed, rows);
}

/// The same rows as text, made beforehand, in transactions of the same size.
async fn copy(url: &str, batches: &[String]) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for batch in batches {
        let mut transaction = connection.begin().await.unwrap();
        let mut copy = transaction.copy_in_raw("COPY tracing_audit_entries FROM STDIN").await.unwrap();
        copy.send(batch.as_bytes()).await.unwrap();
        copy.finish().await.unwrap();
        transaction.commit().await.unwrap();
    }
    connection.close().await.unwrap();
}

fn as_text() -> Vec<String> {
    let mut batches = Vec::new();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let mut batch = String::new();
        for i in first..(first + BATCH).min(ROWS) {
            let (workspace, session, agent) = ids(i);
            let (decision, risk) = (if i % 50 == 0 { "Deny" } else { "Allow" }, (i % 100) as f64 / 100.0);
            writeln!(
                batch,
                "main\t{i}\t{}\t2026-01-01 00:00:00Z\t{workspace}\t{session}\t{agent}\tdocument.read\tdocument\t{i}\t{decision}\tdefault policy matched\t{risk}\t{{\"ip\":\"10.1.2.3\",\"latency_ms\":{}}}\t\\N",
                Uuid::now_v7(),
                i % 500,
            )
            .unwrap();
        }
        batches.push(batch);
    }
    batches
}

/// One statement a row in transactions of 500.
async fn row_by_row(url: &str, rows: u64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for first in (0..rows).step_by(500) {
        let mut transaction = connection.begin().await.unwrap();
        for i in first..first + 500 {
            let (workspace, session, agent) = ids(i);
            sqlx::query(
                "INSERT INTO tracing_audit_entries VALUES
                 ('main', $1, $2, now(), $3, $4, $5, 'document.read', 'document', $6, $7, 'default policy matched', $8, $9::text::json, NULL)",
            )
            .bind(i as i64)
            .bind(Uuid::now_v7())
            .bind(workspace)
            .bind(session)
            .bind(agent)
            .bind(i.to_string())
            .bind(if i % 50 == 0 { "Deny" } else { "Allow" })
            .bind((i % 100) as f64 / 100.0)
            .bind(format!("{{\"ip\":\"10.1.2.3\",\"latency_ms\":{}}}", i % 500))
            .execute(&mut *transaction)
            .await
            .unwrap();
        }
        transaction.commit().await.unwrap();
    }
}

fn timed(name: &str, rows: u64, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    common::note(name, rows, start.elapsed());
}

/// Set in a process that only exports, so that its memory is the export's alone.
const EXPORT_ONLY: &str = "TRACING_AUDIT_BENCH_EXPORT_ONLY";
const EXPORTED: u64 = 1_000_000;

fn export(url: &str) {
    let out = std::fs::File::create("/dev/null").unwrap();
    let reader = AuditReader::new(Store::postgres(url).unwrap());
    assert_eq!(block_on(reader.export_csv(AuditQuery::new(), out)).unwrap(), EXPORTED);
}

/// The same columns in the same order by psql.
fn psql_copy(url: &str) {
    let sql = "\\copy (SELECT id, session_id, workspace_id, agent_id, action, resource, resource_id, decision, reason, \
               risk_score, ts, metadata FROM tracing_audit_log ORDER BY ts DESC, seq DESC) TO '/dev/null' CSV HEADER";
    let status = Command::new("psql").args(["-q", "-c", sql, url]).status().unwrap();
    assert!(status.success());
}

/// Set in a process that only compares the two ways to write.
const ROLES_ONLY: &str = "TRACING_AUDIT_BENCH_ROLES_ONLY";
const COMMITS: u64 = 1000;

/// Commits one entry after the other.
fn one_by_one(url: &str) {
    let log = open(url, "main");
    for _ in 0..COMMITS {
        log.writer().blocking().commit(tracing_audit::AuditEntry::new(Uuid::nil(), "a", "b")).unwrap();
    }
}

/// A role that writes the tables, and one that calls their owner's functions.
fn roles() {
    for _ in 0..5 {
        for (way, role) in [("by the tables", "postgres"), ("by functions", "clerk")] {
            let url = guarded_database(server());
            support::run(&url, "INSERT INTO tracing_audit_grants (role, ledger) VALUES ('clerk', 'main')");
            let url = as_role(&url, role);
            timed(way, ROWS, || ours(&url, "main", ROWS));
            timed(&format!("one by one, {way}"), COMMITS, || one_by_one(&url));
        }
    }
    common::ratio("by the tables", "by functions", ">= 0.9");
    common::ratio("one by one, by the tables", "one by one, by functions", "reported");
}

fn main() {
    if std::env::var_os(ROLES_ONLY).is_some() {
        return roles();
    }
    if let Ok(url) = std::env::var(EXPORT_ONLY) {
        return export(&url);
    }
    let url = server().create_database();
    ours(&url, "main", EXPORTED);
    // As autovacuum does a minute after such a load, amid the rounds or after them.
    block_on(async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("VACUUM ANALYZE tracing_audit_entries").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
    for _ in 0..2 * ROUNDS + 1 {
        timed("CSV of 1 M rows", EXPORTED, || export(&url));
        timed("psql's \\copy of them", EXPORTED, || psql_copy(&url));
    }
    let text = as_text();
    for _ in 0..ROUNDS {
        let url = server().create_database();
        timed("audit", ROWS, || ours(&url, "main", ROWS));
        let url = server().create_database();
        drop(open(&url, "main"));
        timed("COPY", ROWS, || block_on(copy(&url, &text)));
        let url = server().create_database();
        drop(open(&url, "main"));
        timed("row by row", ROWS / 10, || block_on(row_by_row(&url, ROWS / 10)));
        for (name, ledgers) in [("four writers, one ledger", 1), ("four writers, four ledgers", 4)] {
            let url = server().create_database();
            drop(open(&url, "0"));
            timed(name, ROWS, || {
                std::thread::scope(|scope| {
                    for writer in 0..4 {
                        let url = &url;
                        scope.spawn(move || ours(url, &(writer % ledgers).to_string(), ROWS / 4));
                    }
                });
            });
        }
    }
    for name in [
        "CSV of 1 M rows",
        "psql's \\copy of them",
        "audit",
        "COPY",
        "row by row",
        "four writers, one ledger",
        "four writers, four ledgers",
    ] {
        println!("{name}: {:.0} rows/s", 1.0 / common::median(name).unwrap());
    }
    common::ratio("psql's \\copy of them", "CSV of 1 M rows", ">= 1");
    let resident = common::most_memory(EXPORT_ONLY, url.as_ref()) as f64 / 1e6;
    println!("CSV of 1 M rows: {resident:.1} MB resident at most, the whole process (goal <= 64)");
    common::ratio("COPY", "audit", ">= 0.85");
    roles();
    common::ratio("row by row", "audit", "what a statement a row costs");
    common::ratio("four writers, one ledger", "four writers, four ledgers", "reported");
}
