//! Reads what proves a ledger, whatever its tables hold.

use std::ops::Range;

use futures_util::TryStreamExt;
use sqlx::{
    Decode, Postgres as Database, Row as _, Type,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{
    borrowed::{Borrowed, within},
    error::store_error,
    rows::{ROW, micros_or_none, read},
    source::Postgres,
    sql::has_table,
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::ledger::{Hash, Seeds};
use crate::store::evidence::{StoredBatch, StoredHead, StoredLeaves, StoredRow, StoredRows, StoredTree};

type Statement = Query<'static, Database, PgArguments>;

const LEAVES: &str = "tracing_audit_leaves";
const BATCHES: &str = "tracing_audit_batches";
const NODES: &str = "tracing_audit_nodes";
const ENTRIES: &str = "tracing_audit_entries";
const HEADS: &str = "tracing_audit_heads";

/// Hands over the rows of a statement on this table, until `take` returns `false`. None if the table does not exist.
async fn each(
    postgres: &Postgres,
    table: &str,
    statement: Statement,
    mut take: impl FnMut(PgRow) -> bool,
) -> Result<(), AuditError> {
    let mut connection = Borrowed::of(postgres).await?;
    connection.begin().await?;
    if has_table(postgres, &mut connection, table).await.map_err(store_error)? {
        let mut rows = statement.fetch(&mut *connection);
        while let Some(row) = rows.try_next().await.map_err(store_error)? {
            if !take(row) {
                // The server is sending the others too: give up the connection, which is within a transaction.
                return Ok(());
            }
        }
    }
    connection.commit().await
}

pub(super) async fn ledgers(postgres: &Postgres) -> Result<Vec<String>, AuditError> {
    let mut names = Vec::new();
    let statement = postgres.statement("SELECT ledger FROM @tracing_audit_heads ORDER BY ledger").query();
    each(postgres, HEADS, statement, |row| {
        names.extend(row.try_get::<String, _>(0));
        true
    })
    .await?;
    Ok(names)
}

pub(super) async fn head(postgres: &Postgres, ledger: &str) -> Result<StoredHead, AuditError> {
    let has_column = postgres.statement(
        "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'tree_size'
                        AND NOT attisdropped)",
    );
    let (tables, has_tree) = within(postgres, async |connection| {
        let mut tables = Vec::new();
        for table in [HEADS, ENTRIES, LEAVES, BATCHES] {
            tables.push(has_table(postgres, &mut *connection, table).await.map_err(store_error)?);
        }
        let heads = postgres.table(HEADS);
        let has_tree = has_column.scalar::<bool>().bind(heads).fetch_one(connection).await;
        Ok((tables, has_tree.map_err(store_error)?))
    })
    .await?;
    let has = |index: usize| tables.get(index).is_some_and(|has| *has);
    let mut found = StoredHead { has_tables: has(0) || has(1), ..StoredHead::default() };
    let tree =
        if has_tree { "h.log_id::uuid, h.tree_size::int8, h.frontier::bytea" } else { "NULL, NULL, NULL" };
    let until = |has: bool, table: &str, count: &str| {
        let last = format!(
            "(SELECT least(first_seq::numeric + {count}, {})::int8 FROM @{table} WHERE ledger = $1
              ORDER BY first_seq DESC LIMIT 1)",
            i64::MAX
        );
        if has { last } else { "NULL".to_owned() }
    };
    let (leaves, batches) =
        (until(has(2), LEAVES, "octet_length(leaves) / 32"), until(has(3), BATCHES, "entries"));
    // A row also if there is no head.
    let (head, from) = if has(0) {
        (
            format!("h.ledger IS NOT NULL, h.next_seq::int8, {tree}"),
            "LEFT JOIN @tracing_audit_heads h ON h.ledger = $1",
        )
    } else {
        ("FALSE, NULL, NULL, NULL, NULL".to_owned(), "")
    };
    let statement =
        format!("SELECT {head}, {leaves}, {batches} FROM (SELECT 1 WHERE $1::text IS NOT NULL) one {from}");
    let statement = postgres.statement(&statement).query().bind(ledger.to_owned());
    within(postgres, async |connection| {
        for row in statement.fetch_all(connection).await.map_err(store_error)? {
            found.heads += i64::from(value(&row, 0).unwrap_or(false));
            if found.heads <= 1 {
                found.next_seq = value(&row, 1);
                found.tree = (has_tree && found.heads == 1).then(|| StoredTree {
                    log_id: value(&row, 2),
                    size: value(&row, 3),
                    frontier: value(&row, 4),
                });
                (found.leaves_until, found.batches_until) = (value(&row, 5), value(&row, 6));
            }
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

pub(super) async fn leaves(
    postgres: &Postgres,
    ledger: &str,
    range: Range<i64>,
) -> Result<StoredLeaves, AuditError> {
    // The rows begin with the one that reaches into the range from before it.
    let statement = postgres.statement(
        "SELECT first_seq::int8, octet_length(leaves)::int8,
                substring(leaves FROM (1 + 32 * greatest(0, $2 - first_seq))::int4 FOR (32 * ($3 - $2))::int4), seeds,
                greatest($2, first_seq)
         FROM @tracing_audit_leaves
         WHERE ledger = $1 AND first_seq < $3
           AND first_seq >= coalesce((SELECT first_seq FROM @tracing_audit_leaves
                                      WHERE ledger = $1 AND first_seq <= $2 AND first_seq > $2 - $4
                                        AND first_seq + octet_length(leaves) / 32 > $2
                                      ORDER BY first_seq DESC LIMIT 1), $2)
         ORDER BY first_seq",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(range.start).bind(range.end);
    let mut found = StoredLeaves::default();
    each(postgres, LEAVES, statement.bind(i64::from(Seeds::MOST_ENTRIES)), |row| {
        let (hashes, seeds) = (value::<&[u8]>(&row, 2), value(&row, 3));
        if let (Some(first_seq), Some(from)) = (value(&row, 0), value(&row, 4)) {
            found.add((first_seq, from), value(&row, 1), hashes.unwrap_or_default(), seeds);
        }
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn batches(
    postgres: &Postgres,
    ledger: &str,
    range: Range<i64>,
) -> Result<Vec<StoredBatch>, AuditError> {
    let statement = postgres.statement(
        "SELECT first_seq::int8, entries::int8, writer::uuid, position::int8, committed_at::timestamptz,
                least_ts::timestamptz, greatest_ts::timestamptz
         FROM @tracing_audit_batches
         WHERE ledger = $1 AND first_seq < $3
           AND first_seq >= coalesce((SELECT first_seq FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq <= $2
                                      ORDER BY first_seq DESC LIMIT 1), $2)
         ORDER BY first_seq",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(range.start).bind(range.end);
    let mut found = Vec::new();
    each(postgres, BATCHES, statement, |row| {
        let time = |index| micros_or_none(&row, index).ok().flatten();
        found.extend(value(&row, 0).map(|first_seq| StoredBatch {
            first_seq,
            entries: value(&row, 1),
            writer: value(&row, 2),
            position: value(&row, 3),
            committed_at: time(4),
            least_ts: time(5),
            greatest_ts: time(6),
        }));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn nodes(
    postgres: &Postgres,
    ledger: &str,
    level: u8,
    range: Range<i64>,
) -> Result<Vec<(i64, Option<Hash>)>, AuditError> {
    let statement = postgres.statement(
        "SELECT idx::int8, hash FROM @tracing_audit_nodes
         WHERE ledger = $1 AND level = $2 AND idx >= $3 AND idx < $4 ORDER BY idx",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(i16::from(level));
    let mut found = Vec::new();
    each(postgres, NODES, statement.bind(range.start).bind(range.end), |row| {
        let hash = value::<&[u8]>(&row, 1).and_then(|bytes| Hash::try_from(bytes).ok());
        found.extend(value(&row, 0).map(|index| (index, hash)));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn foreign_nodes(
    postgres: &Postgres,
    ledger: &str,
    size: i64,
    most: u32,
) -> Result<Vec<(i64, i64)>, AuditError> {
    let statement = postgres.statement(
        "SELECT level::int8, idx::int8 FROM @tracing_audit_nodes
         WHERE ledger = $1
           AND (level NOT IN (8, 16, 24, 32, 40, 48, 56) OR idx < 0
                OR idx >= greatest($2, (SELECT max(tree_size) FROM @tracing_audit_heads WHERE ledger = $1)) >> level::int4)
         LIMIT $3",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(size).bind(i64::from(most));
    let mut found = Vec::new();
    each(postgres, NODES, statement, |row| {
        found.push((value(&row, 0).unwrap_or(-1), value(&row, 1).unwrap_or(-1)));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn foreign_batches(
    postgres: &Postgres,
    ledger: &str,
    from: i64,
    most: u32,
) -> Result<Vec<i64>, AuditError> {
    let statement = postgres.statement(
        "SELECT first_seq::int8 FROM @tracing_audit_batches
         WHERE ledger = $1
           AND (first_seq < 0
                OR first_seq >= greatest($2, (SELECT max(next_seq) FROM @tracing_audit_heads WHERE ledger = $1)))
         ORDER BY first_seq LIMIT $3",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(from).bind(i64::from(most));
    let mut found = Vec::new();
    each(postgres, BATCHES, statement, |row| {
        found.extend(value::<i64>(&row, 0));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn rows(
    postgres: &Postgres,
    ledger: &str,
    range: Range<i64>,
    most: u32,
) -> Result<StoredRows, AuditError> {
    let statement = format!(
        "{ROW} FROM @tracing_audit_entries e WHERE e.ledger = $1 AND e.seq >= $2 AND e.seq < $3 ORDER BY e.seq LIMIT $4"
    );
    let statement = postgres.statement(&statement).query().bind(ledger.to_owned());
    some(postgres, statement.bind(range.start).bind(range.end).bind(i64::from(most))).await
}

pub(super) async fn workspaces(
    postgres: &Postgres,
    ledger: &str,
    range: Range<i64>,
) -> Result<Vec<(i64, Option<Uuid>)>, AuditError> {
    let statement = postgres.statement(
        "SELECT seq::int8, workspace_id::uuid FROM @tracing_audit_entries
         WHERE ledger = $1 AND seq >= $2 AND seq < $3 ORDER BY seq",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(range.start).bind(range.end);
    let mut found = Vec::new();
    each(postgres, ENTRIES, statement, |row| {
        found.push((value(&row, 0).unwrap_or(i64::MAX), value(&row, 1)));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn last_of(
    postgres: &Postgres,
    ledger: &str,
    action: &'static str,
    before: i64,
    most: u32,
) -> Result<Vec<i64>, AuditError> {
    let statement = postgres.statement(
        "SELECT seq::int8 FROM @tracing_audit_entries
         WHERE ledger = $1 AND action = $2 AND seq >= 0 AND seq < $3 ORDER BY seq DESC LIMIT $4",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(action).bind(before);
    let mut found = Vec::new();
    each(postgres, ENTRIES, statement.bind(i64::from(most)), |row| {
        found.extend(value::<i64>(&row, 0));
        true
    })
    .await?;
    Ok(found)
}

pub(super) async fn beyond(
    postgres: &Postgres,
    ledger: &str,
    from: i64,
    most: u32,
) -> Result<StoredRows, AuditError> {
    let statement = format!(
        "{ROW} FROM @tracing_audit_entries e
         WHERE e.ledger = $1
           AND e.seq >= greatest($2, (SELECT max(next_seq) FROM @tracing_audit_heads WHERE ledger = $1))
         ORDER BY e.seq LIMIT $3"
    );
    let statement = postgres.statement(&statement).query().bind(ledger.to_owned());
    some(postgres, statement.bind(from).bind(i64::from(most))).await
}

async fn some(postgres: &Postgres, statement: Statement) -> Result<StoredRows, AuditError> {
    let mut found = StoredRows::default();
    each(postgres, ENTRIES, statement, |row| {
        found.add(StoredRow { seq: value(&row, 0).unwrap_or(i64::MAX), row: entry(&row) })
    })
    .await?;
    Ok(found)
}

pub(super) async fn first_from(
    postgres: &Postgres,
    ledger: &str,
    at: i64,
) -> Result<Option<i64>, AuditError> {
    let mut first = None;
    for (table, column) in [(ENTRIES, "seq"), (BATCHES, "first_seq"), (LEAVES, "first_seq")] {
        let statement = format!(
            "SELECT {column}::int8 FROM @{table} WHERE ledger = $1 AND {column} >= $2 ORDER BY {column} LIMIT 1"
        );
        let statement = postgres.statement(&statement).query().bind(ledger.to_owned()).bind(at);
        each(postgres, table, statement, |row| {
            let found = value(&row, 0);
            first = [first, found].into_iter().flatten().min();
            true
        })
        .await?;
    }
    Ok(first)
}

pub(super) async fn quarantined(
    postgres: &Postgres,
    ledger: &str,
    writer: Uuid,
    positions: (i64, i64),
) -> Result<u64, AuditError> {
    let statement = postgres.statement(
        "SELECT count(*) FROM @tracing_audit_quarantine
         WHERE ledger = $1 AND writer = $2 AND position > $3 AND position <= $4",
    );
    let statement = statement.query().bind(ledger.to_owned()).bind(writer);
    let mut found = 0;
    each(postgres, "tracing_audit_quarantine", statement.bind(positions.0).bind(positions.1), |row| {
        found = value::<i64>(&row, 0).unwrap_or(0).unsigned_abs();
        true
    })
    .await?;
    Ok(found)
}

/// The entry of a row that starts with [`ROW`]. `None` if a column is NULL that must not be. Only a table that somebody
/// has altered can have such a column.
fn entry(row: &PgRow) -> Option<Row> {
    read(row).ok()
}

/// The value of a column, if it has one of this type.
fn value<'r, T: Decode<'r, Database> + Type<Database>>(row: &'r PgRow, index: usize) -> Option<T> {
    row.try_get(index).ok().flatten()
}
