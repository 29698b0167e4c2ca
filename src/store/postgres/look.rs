//! Looks at the end that the head of a ledger names, and at the ends according to its writers and its tree.

use sqlx::{PgConnection, Row as _};

use super::{source::Postgres, sql::has_table};
use crate::error::AuditError;
use crate::store::{TreeLook, survey::Unaccounted};

const TREE: &str = "SELECT h.log_id IS NOT NULL, h.tree_size, octet_length(h.frontier)::int8, h.next_seq,
        (SELECT coalesce(sum(octet_length(leaves) / 32), 0)::int8 FROM @tracing_audit_leaves
         WHERE ledger = $1 AND first_seq >= 0 AND first_seq < h.tree_size),
        (SELECT count(*) FROM @tracing_audit_leaves
         WHERE ledger = $1 AND (first_seq < 0 OR first_seq >= h.tree_size OR octet_length(leaves) % 32 <> 0)),
        (SELECT count(*) FROM @tracing_audit_nodes
         WHERE ledger = $1 AND level IN (8, 16, 24, 32, 40, 48, 56) AND idx >= 0 AND idx < h.tree_size >> level::int4),
        (SELECT count(*) FROM @tracing_audit_nodes WHERE ledger = $1)
     FROM @tracing_audit_heads h WHERE h.ledger = $1";

const UNLIKE: &str = "SELECT b.first_seq FROM @tracing_audit_batches b LEFT JOIN @tracing_audit_leaves l
        ON l.ledger = b.ledger AND l.first_seq = b.first_seq
     WHERE b.ledger = $1 AND b.first_seq >= 0 AND b.first_seq < $2
       AND (l.first_seq IS NULL OR octet_length(l.leaves)::numeric <> 32 * b.entries::numeric)
     ORDER BY b.first_seq LIMIT $3";

const REACHED: &str = "SELECT w.reached FROM @tracing_audit_heads h,
        (SELECT max(next_seq) AS reached FROM @tracing_audit_writers WHERE ledger = $1) w
     WHERE h.ledger = $1 AND w.reached > h.next_seq";

const REACHED_WITH_TREE: &str = "SELECT greatest(h.tree_size, w.reached) FROM @tracing_audit_heads h,
        (SELECT max(next_seq) AS reached FROM @tracing_audit_writers WHERE ledger = $1) w
     WHERE h.ledger = $1 AND greatest(h.tree_size, w.reached) > h.next_seq";

// A writer makes the same comparison before a batch whose position is not the expected one.
const UNACCOUNTED: &str = "SELECT writer, position, backed FROM (
        SELECT p.writer, p.position,
               greatest(coalesce(b.reached, 0), coalesce(q.reached, 0), coalesce(w.quarantined, 0)) AS backed
        FROM @tracing_audit_positions p
        JOIN @tracing_audit_writers w ON w.ledger = p.ledger AND w.writer = p.writer
        LEFT JOIN (SELECT writer, max(position) AS reached FROM @tracing_audit_batches WHERE ledger = $1 GROUP BY writer) b
            ON b.writer = p.writer
        LEFT JOIN (SELECT writer, max(position) AS reached FROM @tracing_audit_quarantine WHERE ledger = $1 GROUP BY writer) q
            ON q.writer = p.writer
        WHERE p.ledger = $1 AND w.started_at IS NOT NULL
     ) positions WHERE position > backed ORDER BY writer LIMIT $2";

/// Whether this role may read all of these tables.
async fn may_read(postgres: &Postgres, connection: &mut PgConnection, tables: &[&str]) -> sqlx::Result<bool> {
    for table in tables {
        if !has_table(postgres, &mut *connection, table).await?
            || !postgres.may_read(&mut *connection, table).await?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The part of the tree that the ledger holds. The rows before the tree's end never change, so that the second
/// statement fits the first.
pub(super) async fn tree(
    postgres: &Postgres,
    ledger: &str,
    most: u32,
) -> Result<Option<TreeLook>, AuditError> {
    let tables =
        ["tracing_audit_heads", "tracing_audit_batches", "tracing_audit_leaves", "tracing_audit_nodes"];
    postgres
        .surveyed(async move |found, connection| {
            let of = |sql: &str| found.statement(sql).query().bind(ledger.to_owned());
            let (look, unlike) = (of(TREE), of(UNLIKE));
            if !may_read(found, &mut *connection, &tables).await? {
                return Ok(None);
            }
            let Some(row) = look.fetch_optional(&mut *connection).await? else { return Ok(None) };
            let (size, nodes): (i64, i64) = (row.try_get(1)?, row.try_get(6)?);
            let unlike = unlike.bind(size).bind(i64::from(most)).fetch_all(connection).await?;
            Ok(Some(TreeLook {
                has_id: row.try_get(0)?,
                size,
                frontier: row.try_get(2)?,
                next_seq: row.try_get(3)?,
                leaves: row.try_get(4)?,
                foreign_leaves: row.try_get(5)?,
                nodes,
                foreign_nodes: row.try_get::<i64, _>(7)? - nodes,
                unlike: unlike.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?,
            }))
        })
        .await
}

/// The `seq` after the last commit of any writer, or the size of the tree, if it is greater than what the head says.
pub(super) async fn reached(postgres: &Postgres, ledger: &str) -> Result<Option<i64>, AuditError> {
    let tables = ["tracing_audit_heads", "tracing_audit_writers"];
    postgres
        .surveyed(async move |found, connection| {
            if !may_read(found, &mut *connection, &tables).await? {
                return Ok(None);
            }
            let has_tree = has_table(found, &mut *connection, "tracing_audit_leaves").await?;
            let reached = found.statement(if has_tree { REACHED_WITH_TREE } else { REACHED });
            reached.scalar().bind(ledger.to_owned()).fetch_optional(connection).await
        })
        .await
}

/// The writers whose position is beyond what the batches and the quarantine account for.
pub(super) async fn unaccounted(
    postgres: &Postgres,
    ledger: &str,
    most: u32,
) -> Result<Vec<Unaccounted>, AuditError> {
    let tables = [
        "tracing_audit_positions",
        "tracing_audit_writers",
        "tracing_audit_batches",
        "tracing_audit_quarantine",
    ];
    postgres
        .surveyed(async move |found, connection| {
            if !may_read(found, &mut *connection, &tables).await? {
                return Ok(Vec::new());
            }
            let unaccounted =
                found.statement(UNACCOUNTED).row().bind(ledger.to_owned()).bind(i64::from(most));
            unaccounted.fetch_all(connection).await
        })
        .await
}
