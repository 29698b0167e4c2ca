//! Reads what proves the ledger, whatever its tables hold.

use std::ops::Range;

use sqlx::{
    AssertSqlSafe, Row as _, TypeInfo as _, ValueRef as _,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{
    cancel::fetch_while,
    rows::{ROW, read},
    source::Sqlite,
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::ledger::{Hash, Seeds};
use crate::store::evidence::{StoredBatch, StoredHead, StoredLeaves, StoredRow, StoredRows, StoredTree};

type Statement = Query<'static, sqlx::Sqlite, SqliteArguments>;

/// Hands over the rows of a statement on this table, until `take` returns `false`. None if the table does not exist.
async fn each(
    sqlite: &Sqlite,
    table: &str,
    statement: Statement,
    take: impl FnMut(SqliteRow) -> bool,
) -> Result<(), AuditError> {
    if !sqlite.has_table(table).await? {
        return Ok(());
    }
    fetch_while(sqlite, statement, take).await.map_err(|cause| sqlite.store_error(cause))
}

pub(super) async fn ledgers(sqlite: &Sqlite) -> Result<Vec<String>, AuditError> {
    let mut names = Vec::new();
    let statement = sqlx::query("SELECT ledger FROM tracing_audit_head ORDER BY rowid LIMIT 1");
    each(sqlite, "tracing_audit_head", statement, |row| {
        names.extend(row.try_get::<String, _>(0));
        true
    })
    .await?;
    Ok(names)
}

/// The head: that of the file's ledger, whatever its name.
pub(super) async fn head(sqlite: &Sqlite) -> Result<StoredHead, AuditError> {
    let has_tables = sqlite.has_tables().await? || sqlite.has_table("tracing_audit_head").await?;
    if !has_tables {
        return Ok(StoredHead::default());
    }
    let store_error = |cause| sqlite.store_error(cause);
    let has_tree: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info('tracing_audit_head') WHERE name = 'tree_size')",
    )
    .fetch_one(sqlite.readers())
    .await
    .map_err(store_error)?;
    let tree = if has_tree { "h.log_id, h.tree_size, h.frontier" } else { "NULL, NULL, NULL" };
    let until = async |table: &str, until: &str| {
        let last = format!("(SELECT {until} FROM {table} ORDER BY first_seq DESC LIMIT 1)");
        Ok::<_, AuditError>(if sqlite.has_table(table).await? { last } else { "NULL".to_owned() })
    };
    let leaves = until("tracing_audit_leaves", "first_seq + length(leaves) / 32").await?;
    let batches = until("tracing_audit_batches", "first_seq + entries").await?;
    let mut found = StoredHead { has_tables, ..StoredHead::default() };
    // A row also if there is no head.
    let (head, from, order) = if sqlite.has_table("tracing_audit_head").await? {
        // The first one is that of the file's ledger.
        let head = format!("h.rowid IS NOT NULL, h.next_seq, {tree}");
        (head, "LEFT JOIN tracing_audit_head h ON TRUE", " ORDER BY h.rowid")
    } else {
        ("FALSE, NULL, NULL, NULL, NULL".to_owned(), "", "")
    };
    let statement = format!("SELECT {head}, {leaves}, {batches} FROM (SELECT 1) {from}{order}");
    fetch_while(sqlite, sqlx::query(AssertSqlSafe(statement)), |row| {
        found.heads += integer(&row, 0).unwrap_or(0);
        if found.heads <= 1 {
            found.next_seq = integer(&row, 1);
            found.tree = (has_tree && found.heads == 1).then(|| StoredTree {
                log_id: id(&row, 2),
                size: integer(&row, 3),
                frontier: bytes(&row, 4).map(<[u8]>::to_vec),
            });
            (found.leaves_until, found.batches_until) = (integer(&row, 5), integer(&row, 6));
        }
        true
    })
    .await
    .map_err(store_error)?;
    Ok(found)
}

pub(super) async fn leaves(sqlite: &Sqlite, range: Range<i64>) -> Result<StoredLeaves, AuditError> {
    // The rows begin with the one that reaches into the range from before it.
    let statement = sqlx::query(
        "SELECT first_seq, length(leaves), substr(leaves, 1 + 32 * max(0, ?1 - first_seq), 32 * (?2 - ?1)), seeds, max(?1, first_seq)
         FROM tracing_audit_leaves
         WHERE first_seq < ?2
           AND first_seq >= ifnull((SELECT first_seq FROM tracing_audit_leaves
                                    WHERE first_seq <= ?1 AND first_seq > ?1 - ?3 AND first_seq + length(leaves) / 32 > ?1
                                    ORDER BY first_seq DESC LIMIT 1), ?1)
         ORDER BY first_seq",
    );
    let statement = statement.bind(range.start).bind(range.end).bind(i64::from(Seeds::MOST_ENTRIES));
    let mut found = StoredLeaves::default();
    each(sqlite, "tracing_audit_leaves", statement, |row| {
        let hashes = bytes(&row, 2);
        let length = integer(&row, 1).filter(|_| hashes.is_some());
        if let (Some(first_seq), Some(from)) = (integer(&row, 0), integer(&row, 4)) {
            found.add((first_seq, from), length, hashes.unwrap_or_default(), bytes(&row, 3));
        }
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn batches(sqlite: &Sqlite, range: Range<i64>) -> Result<Vec<StoredBatch>, AuditError> {
    let statement = sqlx::query(
        "SELECT first_seq, entries, writer, position, committed_at, least_ts, greatest_ts FROM tracing_audit_batches
         WHERE first_seq < ?2 AND first_seq >= ifnull((SELECT max(first_seq) FROM tracing_audit_batches WHERE first_seq <= ?1), ?1)
         ORDER BY first_seq",
    );
    let mut found = Vec::new();
    each(sqlite, "tracing_audit_batches", statement.bind(range.start).bind(range.end), |row| {
        found.extend(integer(&row, 0).map(|first_seq| StoredBatch {
            first_seq,
            entries: integer(&row, 1),
            writer: id(&row, 2),
            position: integer(&row, 3),
            committed_at: integer(&row, 4),
            least_ts: integer(&row, 5),
            greatest_ts: integer(&row, 6),
        }));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn nodes(
    sqlite: &Sqlite,
    level: u8,
    range: Range<i64>,
) -> Result<Vec<(i64, Option<Hash>)>, AuditError> {
    let statement = sqlx::query(
        "SELECT idx, hash FROM tracing_audit_nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx",
    );
    let mut found = Vec::new();
    let statement = statement.bind(i64::from(level)).bind(range.start).bind(range.end);
    each(sqlite, "tracing_audit_nodes", statement, |row| {
        let hash = bytes(&row, 1).and_then(|bytes| Hash::try_from(bytes).ok());
        found.extend(integer(&row, 0).map(|index| (index, hash)));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn foreign_nodes(
    sqlite: &Sqlite,
    size: i64,
    most: u32,
) -> Result<Vec<(i64, i64)>, AuditError> {
    let size_of_head = of_head(sqlite, "tree_size").await?;
    let statement = format!(
        "SELECT level, idx FROM tracing_audit_nodes
         WHERE level NOT IN (8, 16, 24, 32, 40, 48, 56) OR idx < 0 OR idx >= max(?1, {size_of_head}) >> level
         LIMIT ?2"
    );
    let statement = sqlx::query(AssertSqlSafe(statement));
    let mut found = Vec::new();
    each(sqlite, "tracing_audit_nodes", statement.bind(size).bind(i64::from(most)), |row| {
        found.push((integer(&row, 0).unwrap_or(-1), integer(&row, 1).unwrap_or(-1)));
        true
    })
    .await?;
    Ok(found)
}

/// The expression of the greatest value that the head has in this column; 0 without a head.
async fn of_head(sqlite: &Sqlite, column: &str) -> Result<String, AuditError> {
    let has_head = sqlite.has_table("tracing_audit_head").await?;
    let greatest = format!("ifnull((SELECT max({column}) FROM tracing_audit_head), 0)");
    Ok(if has_head { greatest } else { "0".to_owned() })
}

pub(super) async fn foreign_batches(sqlite: &Sqlite, from: i64, most: u32) -> Result<Vec<i64>, AuditError> {
    let head = of_head(sqlite, "next_seq").await?;
    let statement = format!(
        "SELECT first_seq FROM tracing_audit_batches WHERE first_seq < 0 OR first_seq >= max(?1, {head}) ORDER BY first_seq LIMIT ?2"
    );
    let mut found = Vec::new();
    let statement = sqlx::query(AssertSqlSafe(statement)).bind(from).bind(i64::from(most));
    each(sqlite, "tracing_audit_batches", statement, |row| {
        found.extend(integer(&row, 0));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn rows(sqlite: &Sqlite, range: Range<i64>, most: u32) -> Result<StoredRows, AuditError> {
    let statement =
        format!("{ROW} FROM tracing_audit_entries e WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq LIMIT ?");
    let statement =
        sqlx::query(AssertSqlSafe(statement)).bind(range.start).bind(range.end).bind(i64::from(most));
    some(sqlite, statement).await
}

pub(super) async fn workspaces(
    sqlite: &Sqlite,
    range: Range<i64>,
) -> Result<Vec<(i64, Option<Uuid>)>, AuditError> {
    let statement = sqlx::query(
        "SELECT seq, workspace_id FROM tracing_audit_entries WHERE seq >= ? AND seq < ? ORDER BY seq",
    );
    let mut found = Vec::new();
    each(sqlite, "tracing_audit_entries", statement.bind(range.start).bind(range.end), |row| {
        found.push((integer(&row, 0).unwrap_or(i64::MAX), id(&row, 1)));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn last_of(
    sqlite: &Sqlite,
    action: &'static str,
    before: i64,
    most: u32,
) -> Result<Vec<i64>, AuditError> {
    let statement = sqlx::query(
        "SELECT seq FROM tracing_audit_entries WHERE action = ? AND seq >= 0 AND seq < ? ORDER BY seq DESC LIMIT ?",
    );
    let mut found = Vec::new();
    let statement = statement.bind(action).bind(before).bind(i64::from(most));
    each(sqlite, "tracing_audit_entries", statement, |row| {
        found.extend(integer(&row, 0));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn beyond(sqlite: &Sqlite, from: i64, most: u32) -> Result<StoredRows, AuditError> {
    let head = of_head(sqlite, "next_seq").await?;
    let statement =
        format!("{ROW} FROM tracing_audit_entries e WHERE e.seq >= max(?1, {head}) ORDER BY e.seq LIMIT ?2");
    some(sqlite, sqlx::query(AssertSqlSafe(statement)).bind(from).bind(i64::from(most))).await
}

async fn some(sqlite: &Sqlite, statement: Statement) -> Result<StoredRows, AuditError> {
    let mut found = StoredRows::default();
    each(sqlite, "tracing_audit_entries", statement, |row| {
        found.add(StoredRow { seq: integer(&row, 0).unwrap_or(i64::MAX), row: entry(&row) })
    })
    .await?;
    Ok(found)
}

pub(super) async fn first_from(sqlite: &Sqlite, at: i64) -> Result<Option<i64>, AuditError> {
    let mut first = None;
    for (table, column) in [
        ("tracing_audit_entries", "seq"),
        ("tracing_audit_batches", "first_seq"),
        ("tracing_audit_leaves", "first_seq"),
    ] {
        let statement = format!("SELECT {column} FROM {table} WHERE {column} >= ? ORDER BY {column} LIMIT 1");
        each(sqlite, table, sqlx::query(AssertSqlSafe(statement)).bind(at), |row| {
            let found = integer(&row, 0);
            first = [first, found].into_iter().flatten().min();
            true
        })
        .await?;
    }
    Ok(first)
}

pub(super) async fn quarantined(
    sqlite: &Sqlite,
    writer: Uuid,
    positions: (i64, i64),
) -> Result<u64, AuditError> {
    let statement = sqlx::query(
        "SELECT count(*) FROM tracing_audit_quarantine WHERE writer = ? AND position > ? AND position <= ?",
    );
    let mut found = 0;
    let statement = statement.bind(writer).bind(positions.0).bind(positions.1);
    each(sqlite, "tracing_audit_quarantine", statement, |row| {
        found = integer(&row, 0).unwrap_or(0).unsigned_abs();
        true
    })
    .await?;
    Ok(found)
}

/// The type of each column of a row, after `seq`.
const KINDS: [&str; 13] = [
    "BLOB", "INTEGER", "BLOB", "BLOB", "BLOB", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "REAL", "TEXT", "TEXT",
];

/// The entry of a row that starts with [`ROW`], if each column has the type that this crate writes.
fn entry(row: &SqliteRow) -> Option<Row> {
    let is_of = |(index, kind): (usize, &&str)| is_of_kind(row, index, kind);
    if (1..).zip(&KINDS).all(is_of) { read(row).ok() } else { None }
}

/// Whether a column is of this type, or NULL.
fn is_of_kind(row: &SqliteRow, index: usize, kind: &str) -> bool {
    row.try_get_raw(index).is_ok_and(|value| value.is_null() || value.type_info().name() == kind)
}

fn integer(row: &SqliteRow, index: usize) -> Option<i64> {
    row.try_get(index).ok().flatten().filter(|_| is_of_kind(row, index, "INTEGER"))
}

fn bytes(row: &SqliteRow, index: usize) -> Option<&[u8]> {
    row.try_get(index).ok().flatten().filter(|_| is_of_kind(row, index, "BLOB"))
}

fn id(row: &SqliteRow, index: usize) -> Option<Uuid> {
    bytes(row, index).and_then(|bytes| Uuid::from_slice(bytes).ok())
}
