//! Fills the tables of both databases with entries over a hundred days, by statements.
#![allow(dead_code, reason = "each benchmark uses its part")]

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

pub(crate) const BATCH: u64 = 5000;
/// 2026-01-01, in microseconds since 1970.
pub(crate) const START: u64 = 1_767_225_600_000_000;
pub(crate) const DAY: u64 = 86_400_000_000;
pub(crate) const DAYS: u64 = 100;

/// What both databases are filled with, in words that both understand but for the three that are replaced. Of 50
/// workspaces each has a fiftieth; one more has a ten-thousandth, another three entries. One entry in a thousand is
/// refused, one in five thousand is risky. A session has 20 entries, an agent has one in 500, a document 100 of ten million.
fn statements(rows: u64, replace: &[(&str, &str)]) -> String {
    let step = DAYS * DAY / rows;
    let last = (rows - 1) / BATCH;
    let sql = format!(
        "INSERT INTO tracing_audit_entries
             (LEDGER seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
              risk_score, metadata)
         SELECT LEDGER_IS i, UUID(i), TIME({START} + i * {step}),
             UUID(CASE WHEN i IN (7, {rows} / 2, {rows} - 3) THEN 51 WHEN i % 10000 = 0 THEN 50 ELSE i % 50 END),
             UUID(i / 20), UUID(i % 500), 'document.' || CASE WHEN i / 50 % 4 = 0 THEN 'write' ELSE 'read' END, 'document',
             CAST(i % 100000 AS text), CASE WHEN i % 1000 = 0 THEN 'Deny' ELSE 'Allow' END, 'default policy matched',
             CASE WHEN i % 5000 = 1 THEN 0.95 ELSE (i % 80) / 100.0 END, ADDRESS(i % 10007)
         FROM SERIES({rows} - 1);
         INSERT INTO tracing_audit_batches
             (LEDGER first_seq, entries, writer, position, committed_at, least_ts, greatest_ts)
         SELECT LEDGER_IS i * {BATCH}, {BATCH}, UUID(1), (i + 1) * {BATCH}, TIME({START} + (i + 1) * {BATCH} * {step}),
             TIME({START} + i * {BATCH} * {step}), TIME({START} + ((i + 1) * {BATCH} - 1) * {step})
         FROM SERIES({last});"
    );
    replace.iter().fold(sql, |sql, (word, with)| {
        // A function of one argument is written as a text with a gap.
        match with.split_once("...") {
            None => sql.replace(word, with),
            Some((before, after)) => {
                let mut rest = sql.as_str();
                let mut done = String::new();
                while let Some((start, call)) = rest.split_once(&[word, "("].concat()) {
                    let mut depth = 1;
                    let end = call
                        .find(|c| {
                            depth += i32::from(c == '(') - i32::from(c == ')');
                            depth == 0
                        })
                        .unwrap();
                    done.extend([start, before, &call[..end], after]);
                    rest = &call[end + 1..];
                }
                done + rest
            }
        }
    })
}

/// Fills a SQLite file whose tables exist.
pub(crate) async fn sqlite(file: &str, rows: u64) {
    let mut connection = SqliteConnection::connect(file).await.unwrap();
    let entries = statements(
        rows,
        &[
            ("LEDGER_IS", ""),
            ("LEDGER", ""),
            ("UUID", "unhex(printf('%032x', ...))"),
            ("TIME", "(...)"),
            ("ADDRESS", "printf('{\"ip\":\"10.1.%d\"}', ...)"),
            (
                "SERIES",
                "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ...) SELECT i FROM n)",
            ),
        ],
    );
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; BEGIN; {entries}
         UPDATE tracing_audit_head SET next_seq = {rows}; COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Fills a PostgreSQL database whose tables exist.
pub(crate) async fn postgres(url: &str, rows: u64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let entries = statements(
        rows,
        &[
            ("LEDGER_IS", "'main',"),
            ("LEDGER", "ledger,"),
            ("UUID", "lpad(to_hex(...), 32, '0')::uuid"),
            ("TIME", "to_timestamp((...) / 1000000.0)"),
            ("SERIES", "generate_series(0::bigint, ...) AS n(i)"),
            ("ADDRESS", "format('{\"ip\":\"10.1.%s\"}', ...)::json"),
        ],
    );
    let sql = format!(
        "SET synchronous_commit = off; {entries} UPDATE tracing_audit_heads SET next_seq = {rows};
         VACUUM ANALYZE tracing_audit_entries; VACUUM ANALYZE tracing_audit_batches;"
    );
    // One by one: VACUUM is not within a transaction, as several statements in one message are.
    for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}
