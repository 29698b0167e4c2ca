//! Holds the head of the ledger, and checks it and a writer's position against what the other tables account for.

use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::writers::{Reached, write_down};
use crate::store::end::{End, SEQ_LIMIT};
use crate::store::tree::TreeHead;
use crate::store::{Altered, Append, Applied, Left};

/// The state of the ledger and of the writer at the beginning of a transaction.
pub(super) struct Held {
    /// The `seq` of the next entry, or what is wrong with the end of the ledger.
    pub(super) next_seq: Result<i64, Altered>,
    /// The writer's position, as its row names it.
    pub(super) position: u64,
    /// The version of the schema.
    pub(super) schema: i64,
    /// When the last batch was committed, in microseconds since 1970.
    pub(super) committed_at: Option<i64>,
    /// The state of the tree, as the head names it.
    pub(super) tree: TreeHead,
}

/// Reads the end of the ledger and the writer's position, within a transaction that holds the file.
pub(super) async fn hold(
    connection: &mut SqliteConnection,
    writer: Uuid,
    left: Option<Left>,
) -> sqlx::Result<Held> {
    let found = sqlx::query(
        "SELECT next_seq,
                (SELECT seq + 1 FROM tracing_audit_entries WHERE seq < ? ORDER BY seq DESC LIMIT 1),
                (SELECT first_seq + entries FROM tracing_audit_batches
                 WHERE first_seq < ? ORDER BY first_seq DESC LIMIT 1),
                max(given, CASE WHEN ? THEN (SELECT ifnull(max(next_seq), 0) FROM tracing_audit_writers) ELSE 0 END),
                (SELECT id FROM tracing_audit_entries WHERE seq = ?),
                (SELECT position FROM tracing_audit_positions WHERE writer = ?),
                (SELECT schema_version FROM pragma_schema_version),
                (SELECT committed_at FROM tracing_audit_batches WHERE first_seq < ? ORDER BY first_seq DESC LIMIT 1),
                tree_size, frontier
         FROM tracing_audit_head",
    )
    .bind(SEQ_LIMIT)
    .bind(SEQ_LIMIT)
    .bind(left.is_none())
    .bind(left.map(|left| left.next_seq.cast_signed() - 1))
    .bind(writer)
    .bind(SEQ_LIMIT)
    .fetch_one(connection)
    .await?;
    let end = End {
        head: found.try_get(0)?,
        entries: found.try_get(1)?,
        batches: found.try_get(2)?,
        given: found.try_get(3)?,
        last: found.try_get(4)?,
    };
    let position = found.try_get::<Option<i64>, _>(5)?.map_or(0, i64::cast_unsigned);
    Ok(Held {
        next_seq: end.next_seq(left),
        position,
        schema: found.try_get(6)?,
        committed_at: found.try_get(7)?,
        tree: TreeHead { next_seq: end.head, size: found.try_get(8)?, frontier: found.try_get(9)? },
    })
}

/// The position that the batches and the quarantine account for. Reads every batch, so it is asked only if the writer's
/// position is not the expected one.
pub(super) async fn backed(connection: &mut SqliteConnection, writer: Uuid) -> sqlx::Result<u64> {
    let backed: i64 = sqlx::query_scalar(
        "SELECT max(ifnull((SELECT max(position) FROM tracing_audit_batches WHERE writer = ?1), 0),
                    ifnull((SELECT max(position) FROM tracing_audit_quarantine WHERE writer = ?1), 0),
                    ifnull((SELECT quarantined FROM tracing_audit_writers WHERE writer = ?1), 0))",
    )
    .bind(writer)
    .fetch_one(connection)
    .await?;
    Ok(backed.cast_unsigned())
}

/// The position that a writer's row names, and the one that the batches and the quarantine account for.
pub(super) async fn position(connection: &mut SqliteConnection, writer: Uuid) -> sqlx::Result<(u64, u64)> {
    // The batch before the end that the writer's row names is the writer's last one.
    let found: (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT (SELECT position FROM tracing_audit_positions WHERE writer = ?1),
                (SELECT max(iif(b.writer = w.writer, b.position, 0), ifnull(w.quarantined, 0))
                 FROM tracing_audit_writers w LEFT JOIN tracing_audit_batches b ON b.first_seq =
                     (SELECT first_seq FROM tracing_audit_batches WHERE first_seq < w.next_seq
                      ORDER BY first_seq DESC LIMIT 1)
                 WHERE w.writer = ?1)",
    )
    .bind(writer)
    .fetch_one(&mut *connection)
    .await?;
    let named = found.0.unwrap_or(0);
    let backed =
        if found.1 == Some(named) { named.cast_unsigned() } else { backed(connection, writer).await? };
    Ok((named.cast_unsigned(), backed))
}

/// Whether the ledger, or its quarantine, has an entry with this `id`, or no other one at this writer's position. Only for
/// the latter, and if there is another, every batch is read.
pub(super) async fn holds(
    connection: &mut SqliteConnection,
    id: Uuid,
    at: Option<(Uuid, u64)>,
) -> sqlx::Result<bool> {
    let Some((writer, position)) = at else {
        let held = "SELECT EXISTS (SELECT 1 FROM tracing_audit_entries WHERE id = ?1)
                        OR EXISTS (SELECT 1 FROM tracing_audit_quarantine WHERE id = ?1)";
        return sqlx::query_scalar(held).bind(id).fetch_one(connection).await;
    };
    let is_there = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tracing_audit_entries e JOIN tracing_audit_batches b ON b.first_seq =
                            (SELECT first_seq FROM tracing_audit_batches WHERE first_seq <= e.seq
                             ORDER BY first_seq DESC LIMIT 1)
                        WHERE e.id = ?1 AND b.writer = ?2)
             OR NOT EXISTS (SELECT 1 FROM tracing_audit_batches b JOIN tracing_audit_entries e
                                ON e.seq = b.first_seq + b.entries - 1 - (b.position - ?3)
                            WHERE b.writer = ?2 AND b.position >= ?3 AND b.position - b.entries < ?3)",
    );
    is_there.bind(id).bind(writer).bind(position.cast_signed()).fetch_one(connection).await
}

/// The effect of the first of the earlier attempts that have gone from one position to another, and whose answers were lost.
pub(super) async fn applied_before(
    connection: &mut SqliteConnection,
    writer: Uuid,
    from: u64,
    position: u64,
) -> sqlx::Result<Applied> {
    let first: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT first_seq, entries, position FROM tracing_audit_batches
         WHERE writer = ? AND position > ? AND position <= ? ORDER BY position LIMIT 1",
    )
    .bind(writer)
    .bind(from.cast_signed())
    .bind(position.cast_signed())
    .fetch_optional(connection)
    .await?;
    // Entries that are in no batch are in quarantine.
    Ok(Applied {
        until: first.map_or(position, |(.., until)| until.cast_unsigned()),
        rows: first.map_or(0, |(_, entries, _)| entries.cast_unsigned()),
        first_seq: first.map(|(first_seq, ..)| first_seq.cast_unsigned()),
        again: true,
        told: false,
        before: None,
    })
}

/// Writes down the position that the writer reaches with this batch, and what accounts for it.
pub(super) async fn reach(
    connection: &mut SqliteConnection,
    batch: &Append<'_>,
    first_seq: i64,
) -> sqlx::Result<()> {
    let rows = i64::try_from(batch.rows.len()).unwrap_or(i64::MAX);
    let quarantined = batch.from + batch.quarantined.len() as u64;
    sqlx::query(
        "INSERT INTO tracing_audit_positions VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position",
    )
    .bind(batch.writer)
    .bind(batch.until().cast_signed())
    .execute(&mut *connection)
    .await?;
    let reached = Reached {
        next_seq: (rows > 0).then_some(first_seq.saturating_add(rows)),
        quarantined: (!batch.quarantined.is_empty()).then_some(quarantined.cast_signed()),
        ends: batch.ends,
    };
    write_down(connection, batch.writer, reached, batch.standing).await
}
