//! Holds the head of a ledger, and checks it and a writer's position against what the other tables account for.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    error::append_error,
    source::Postgres,
    sql::Sql,
    writers::{Reached, WRITE_DOWN, WriterStatements, bind_writer},
};
use crate::error::{AuditError, ErrorKind};
use crate::store::end::{End, SEQ_LIMIT};
use crate::store::tree::TreeHead;
use crate::store::{Altered, Append, AppendError, Applied, Fault, Left};

/// The statements about the head and the positions.
pub(super) struct HoldStatements {
    /// Holds the head. `None`: the next one does.
    head: Option<Sql>,
    end: Sql,
    position: Sql,
    backed: Sql,
    holds: Sql,
    is_there: Sql,
    batch: Sql,
    reach: Option<Sql>,
    pub(super) writers: WriterStatements,
}

/// The state of the ledger and of the writer at the beginning of a transaction.
pub(super) struct Held {
    /// The `seq` of the next entry, or what is wrong with the end of the ledger.
    pub(super) next_seq: Result<i64, Altered>,
    /// The writer's position, as its row names it.
    pub(super) position: u64,
    /// When the last batch was committed, in microseconds since 1970.
    pub(super) committed_at: Option<i64>,
    /// The time by the server's clock, in microseconds since 1970, if that is to be the time of the commit.
    pub(super) now: Option<i64>,
    /// The state of the tree, as the head names it.
    pub(super) tree: TreeHead,
}

/// The end of a ledger that the transaction holds, where rows are added.
#[derive(Clone, Copy)]
pub(super) struct HeldEnd<'a> {
    pub(super) ledger: &'a str,
    pub(super) first_seq: i64,
    /// See [`Held`].
    pub(super) now: Option<i64>,
}

impl HoldStatements {
    pub(super) fn new(postgres: &Postgres, by_functions: bool) -> Self {
        if by_functions {
            return Self::of_functions(postgres);
        }
        let sql = |statement| postgres.statement(statement);
        Self {
            head: Some(sql("SELECT next_seq FROM @tracing_audit_heads WHERE ledger = $1 FOR UPDATE")),
            end: sql(
                "SELECT next_seq,
                        (SELECT seq + 1 FROM @tracing_audit_entries WHERE ledger = $1 AND seq < $2
                         ORDER BY seq DESC LIMIT 1),
                        (SELECT first_seq + entries FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < $2
                         ORDER BY first_seq DESC LIMIT 1),
                        greatest(given, CASE WHEN $3 THEN (SELECT max(next_seq) FROM @tracing_audit_writers
                                                           WHERE ledger = $1) END),
                        (SELECT id FROM @tracing_audit_entries WHERE ledger = $1 AND seq = $4 AND id = $6),
                        (SELECT position FROM @tracing_audit_positions WHERE ledger = $1 AND writer = $5),
                        (SELECT CASE WHEN isfinite(committed_at)
                                     THEN (extract(epoch FROM committed_at) * 1000000)::bigint END
                         FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < $2
                         ORDER BY first_seq DESC LIMIT 1),
                        tree_size, frontier, NULL::bigint
                 FROM @tracing_audit_heads WHERE ledger = $1",
            ),
            // The batch before the end that the writer's row names is the writer's last one.
            position: sql(
                "SELECT (SELECT position FROM @tracing_audit_positions WHERE ledger = $1 AND writer = $2),
                        (SELECT greatest(w.quarantined, (SELECT CASE WHEN b.writer = w.writer THEN b.position END
                                                         FROM @tracing_audit_batches b
                                                         WHERE b.ledger = $1 AND b.first_seq < w.next_seq
                                                         ORDER BY b.first_seq DESC LIMIT 1))
                         FROM @tracing_audit_writers w WHERE w.ledger = $1 AND w.writer = $2)
                 FROM @tracing_audit_heads WHERE ledger = $1",
            ),
            backed: sql(
                "SELECT coalesce(greatest(
                     (SELECT max(position) FROM @tracing_audit_batches WHERE ledger = $1 AND writer = $2),
                     (SELECT max(position) FROM @tracing_audit_quarantine WHERE ledger = $1 AND writer = $2),
                     (SELECT quarantined FROM @tracing_audit_writers WHERE ledger = $1 AND writer = $2)), 0)
                 FROM @tracing_audit_heads WHERE ledger = $1",
            ),
            holds: sql("SELECT EXISTS (SELECT 1 FROM @tracing_audit_entries WHERE ledger = $1 AND id = $2)
                     OR EXISTS (SELECT 1 FROM @tracing_audit_quarantine WHERE ledger = $1 AND id = $2)"),
            is_there: sql(
                "SELECT EXISTS (SELECT 1 FROM @tracing_audit_entries e JOIN @tracing_audit_batches b
                                    ON b.ledger = $1 AND b.first_seq =
                                    (SELECT first_seq FROM @tracing_audit_batches
                                     WHERE ledger = $1 AND first_seq <= e.seq ORDER BY first_seq DESC LIMIT 1)
                                WHERE e.ledger = $1 AND e.id = $2 AND b.writer = $3)
                     OR NOT EXISTS (SELECT 1 FROM @tracing_audit_batches b JOIN @tracing_audit_entries e
                                        ON e.ledger = $1 AND e.seq = b.first_seq + b.entries - 1 - (b.position - $4)
                                    WHERE b.ledger = $1 AND b.writer = $3 AND b.position >= $4
                                      AND b.position - b.entries < $4)",
            ),
            batch: sql("SELECT first_seq, entries, position FROM @tracing_audit_batches
                 WHERE ledger = $1 AND writer = $2 AND position > $3 AND position <= $4 ORDER BY position LIMIT 1"),
            // One statement, and so one journey to the server.
            reach: Some(sql(&format!(
                "WITH known AS ({WRITE_DOWN})
                 INSERT INTO @tracing_audit_positions VALUES ($1, $2, $12)
                 ON CONFLICT (ledger, writer) DO UPDATE SET position = excluded.position"
            ))),
            writers: WriterStatements::new(postgres),
        }
    }

    /// The same by the functions of the tables' owner. A position is reached by the one that appends.
    fn of_functions(postgres: &Postgres) -> Self {
        let sql = |statement| postgres.statement(statement);
        Self {
            head: None,
            end: sql("SELECT * FROM @tracing_audit_hold($1, $2, $3, $4, $5, $6)"),
            position: sql("SELECT named, accounted FROM @tracing_audit_position($1, $2)"),
            backed: sql("SELECT @tracing_audit_backed($1, $2)"),
            holds: sql("SELECT @tracing_audit_holds($1, $2)"),
            is_there: sql("SELECT @tracing_audit_is_there($1, $2, $3, $4)"),
            batch: sql("SELECT first_seq, entries, position FROM @tracing_audit_batch($1, $2, $3, $4)"),
            reach: None,
            writers: WriterStatements::of_functions(postgres),
        }
    }

    /// Holds the ledger until the end of the transaction, and reads its end and the writer's position.
    pub(super) async fn hold(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        writer: Uuid,
        left: Option<Left>,
    ) -> Result<Held, AppendError> {
        let is_held = match &self.head {
            None => true,
            Some(head) => {
                let head = head.scalar::<i64>().bind(ledger).fetch_optional(&mut *connection).await;
                head.map_err(append_error)?.is_some()
            }
        };
        // The rest has a statement of its own: only a statement that begins once the ledger is held sees the commit of
        // the ledger's last holder, which may be an earlier attempt of this writer.
        let found = if is_held {
            let end = self.end.query().bind(ledger).bind(SEQ_LIMIT).bind(left.is_none());
            let end = end.bind(left.map(|left| left.next_seq.cast_signed() - 1)).bind(writer);
            let end = end.bind(left.map(|left| left.last));
            end.fetch_optional(connection).await.map_err(append_error)?
        } else {
            None
        };
        let Some(found) = found else {
            let message = "the ledger's head does not exist: somebody has removed it";
            return Err(AppendError {
                fault: Fault::Store,
                error: AuditError::new(ErrorKind::Store, message),
            });
        };
        let read = || {
            let end = End {
                head: found.try_get(0)?,
                entries: found.try_get(1)?,
                batches: found.try_get(2)?,
                given: found.try_get(3)?,
                last: found.try_get(4)?,
            };
            let position = found.try_get::<Option<i64>, _>(5)?.map_or(0, i64::cast_unsigned);
            let tree = TreeHead { next_seq: end.head, size: found.try_get(7)?, frontier: found.try_get(8)? };
            let (committed_at, now) = (found.try_get(6)?, found.try_get(9)?);
            Ok(Held { next_seq: end.next_seq(left), position, committed_at, now, tree })
        };
        read().map_err(append_error)
    }

    /// The position that the batches and the quarantine account for. Reads every batch, so it is asked only if the
    /// writer's position is not the expected one.
    pub(super) async fn backed(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        writer: Uuid,
    ) -> sqlx::Result<u64> {
        let backed = self.backed.scalar::<i64>().bind(ledger).bind(writer);
        Ok(backed.fetch_optional(connection).await?.map_or(0, i64::cast_unsigned))
    }

    /// Whether the ledger, or its quarantine, has an entry with this `id`, or no other one at this writer's position. Only
    /// for the latter, and if there is another, every batch is read.
    pub(super) async fn holds(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        id: Uuid,
        at: Option<(Uuid, u64)>,
    ) -> sqlx::Result<bool> {
        match at {
            None => self.holds.scalar::<bool>().bind(ledger).bind(id).fetch_one(connection).await,
            Some((writer, position)) => {
                let is_there = self.is_there.scalar::<bool>().bind(ledger).bind(id).bind(writer);
                is_there.bind(position.cast_signed()).fetch_one(connection).await
            }
        }
    }

    /// The position that a writer's row names, and the one that the batches and the quarantine account for.
    pub(super) async fn position(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        writer: Uuid,
    ) -> sqlx::Result<(u64, u64)> {
        let found = self.position.row::<(Option<i64>, Option<i64>)>().bind(ledger).bind(writer);
        let (named, accounted) = found.fetch_optional(&mut *connection).await?.unwrap_or_default();
        let named = named.unwrap_or(0);
        let backed = if accounted == Some(named) {
            named.cast_unsigned()
        } else {
            self.backed(connection, ledger, writer).await?
        };
        Ok((named.cast_unsigned(), backed))
    }

    /// The effect of the first of the earlier attempts that have gone from one position to another, and whose answers were
    /// lost.
    pub(super) async fn applied_before(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        writer: Uuid,
        (from, position): (u64, u64),
    ) -> sqlx::Result<Applied> {
        let first = self.batch.row::<(i64, i64, i64)>().bind(ledger).bind(writer);
        let first = first.bind(from.cast_signed()).bind(position.cast_signed());
        let first = first.fetch_optional(connection).await?;
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
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        batch: &Append<'_>,
        first_seq: i64,
    ) -> sqlx::Result<()> {
        let Some(reach) = &self.reach else { return Ok(()) };
        let rows = i64::try_from(batch.rows.len()).unwrap_or(i64::MAX);
        let quarantined = batch.from + batch.quarantined.len() as u64;
        let reached = Reached {
            next_seq: (rows > 0).then_some(first_seq.saturating_add(rows)),
            quarantined: (!batch.quarantined.is_empty()).then_some(quarantined.cast_signed()),
            ends: batch.ends,
        };
        let reach = bind_writer(reach.query(), ledger, batch.writer, reached, batch.standing);
        reach.bind(batch.until().cast_signed()).execute(connection).await?;
        Ok(())
    }

    /// Does the same as [`hold`](Self::hold) for a row that does not wait in a queue. If the end of the ledger is not
    /// as it was left, only a batch can report that.
    pub(super) async fn hold_for_one(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        writer: Uuid,
    ) -> Result<(i64, Held), AppendError> {
        let held = self.hold(connection, ledger, writer, None).await?;
        held.next_seq.map(|next_seq| (next_seq, held)).map_err(|_| {
            let message =
                "the end of the ledger is not as it was left: write an entry first, with which that is told";
            AppendError { fault: Fault::Store, error: AuditError::new(ErrorKind::Store, message) }
        })
    }
}
