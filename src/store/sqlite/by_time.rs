//! Reads queries and exports in the order of time, window by window.

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    plan::{candidates, rarest},
    rows::{LEDGER, ROW, decode, decode_ledger},
    source::Sqlite,
    sql::{Statement, bounded},
};
use crate::entry::{LedgerRow, Row};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::walk::{Candidates, CommittedBatch, Order, Walk, WalkStep, Window};

/// The rows that match, newest first.
pub(super) fn rows<'a>(sqlite: &'a Sqlite, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
    found(sqlite, query, (ROW.to_owned(), Order::LatestFirst)).map_ok(|row| decode(&row)).boxed()
}

/// The rows that match, with their places in the ledger, in the query's direction.
pub(super) fn ledger_rows<'a>(
    sqlite: &'a Sqlite,
    query: &'a AuditQuery,
) -> BoxStream<'a, Result<LedgerRow, AuditError>> {
    let order = if query.newest_first { Order::LatestFirst } else { Order::EarliestFirst };
    let rows = found(sqlite, query, ([ROW, LEDGER].concat(), order));
    rows.and_then(|row| std::future::ready(decode_ledger(&row))).boxed()
}

/// Reads these columns of the rows that match.
fn found<'a>(
    sqlite: &'a Sqlite,
    query: &'a AuditQuery,
    asked: (String, Order),
) -> BoxStream<'a, Result<SqliteRow, AuditError>> {
    let rows = stream::once(ByTime::start(sqlite, query, asked)).map_ok(|by_time| {
        stream::try_unfold(by_time, async |by_time| {
            let Some(mut by_time) = by_time else { return Ok::<_, AuditError>(None) };
            Ok(by_time.next().await?.map(|row| (row, Some(by_time))))
        })
    });
    rows.try_flatten().boxed()
}

/// A query's walk over the commit batches.
struct ByTime<'a> {
    sqlite: &'a Sqlite,
    query: &'a AuditQuery,
    /// The place of the condition whose index is used.
    by: Option<usize>,
    /// The columns of each row.
    columns: String,
    order: Order,
    walk: Walk,
    /// The `seq` before which the answer ends: entries committed later are not part of it.
    head: i64,
    /// The unread rows of the present window.
    window: BoxStream<'a, Result<SqliteRow, AuditError>>,
    /// The number of rows read from the present window.
    found: u64,
}

impl<'a> ByTime<'a> {
    /// `None` if there are no tables, or another ledger is meant.
    async fn start(
        sqlite: &'a Sqlite,
        query: &'a AuditQuery,
        (columns, order): (String, Order),
    ) -> Result<Option<Self>, AuditError> {
        if !sqlite.has_tables().await? {
            return Ok(None);
        }
        let head = sqlx::query_scalar::<_, i64>(
            "SELECT next_seq FROM tracing_audit_head
             WHERE rowid = (SELECT min(rowid) FROM tracing_audit_head) AND (?1 IS NULL OR ledger = ?1)",
        );
        let head = head.bind(&query.ledger).fetch_optional(sqlite.readers()).await;
        let Some(mut head) = head.map_err(|cause| sqlite.store_error(cause))? else { return Ok(None) };
        let mut walk = Walk::new(query.filter.limit, true, order);
        let by = rarest(sqlite, query).await?;
        if let Some(by) = by {
            let candidates = candidates(sqlite, query, by, Candidates::MOST).await?;
            head = candidates.end(head);
            if let Some(batches) = candidates.known([head].into_iter()) {
                walk.know(batches, None);
            }
        }
        let window = stream::empty().boxed();
        Ok(Some(Self { sqlite, query, by, columns, order, walk, head, window, found: 0 }))
    }

    /// The next row, from the present window or from the next one that has rows.
    async fn next(&mut self) -> Result<Option<SqliteRow>, AuditError> {
        loop {
            if let Some(row) = self.window.try_next().await? {
                self.found += 1;
                return Ok(Some(row));
            }
            self.walk.found(std::mem::take(&mut self.found));
            self.window = loop {
                match self.walk.next() {
                    WalkStep::Batches { after, limit } => {
                        let batches = self.batches(after, limit).await?;
                        let last =
                            batches.last().copied().filter(|_| batches.len() as u64 == u64::from(limit));
                        self.walk.know(batches, last);
                    }
                    WalkStep::Window(window) => break self.read(&window)?,
                    WalkStep::End => return Ok(None),
                }
            };
        }
    }

    /// The commit batches that may hold matches, in the order of the walk.
    async fn batches(
        &mut self,
        after: Option<CommittedBatch>,
        limit: u32,
    ) -> Result<Vec<CommittedBatch>, AuditError> {
        let mut statement = Statement::new(
            "SELECT first_seq, entries, least_ts, greatest_ts FROM tracing_audit_batches WHERE first_seq < ?",
        );
        statement.bind(self.head);
        let (place, order) = match self.order {
            Order::LatestFirst => (
                " AND (greatest_ts, first_seq) < (?, ?)",
                " ORDER BY greatest_ts DESC, first_seq DESC LIMIT ?",
            ),
            Order::EarliestFirst => {
                (" AND (least_ts, first_seq) > (?, ?)", " ORDER BY least_ts, first_seq LIMIT ?")
            }
        };
        if let Some(after) = after {
            let latest_first = self.order == Order::LatestFirst;
            let ts = if latest_first { after.greatest_ts } else { after.least_ts };
            statement.push(place).bind(ts).bind(after.first_seq);
        }
        statement.batches_in_time(self.query);
        statement.and("first_seq + entries > ?", self.query.from_seq.map(bounded));
        statement.and("first_seq < ?", self.query.before_seq.map(bounded));
        statement.push(order).bind(i64::from(limit));
        let store_error = |cause| self.sqlite.store_error(cause);
        let rows = statement
            .into_query()
            .map_err(store_error)?
            .fetch_all(self.sqlite.readers())
            .await
            .map_err(store_error)?;
        let batch = |row: &SqliteRow| {
            Ok(CommittedBatch {
                ledger: 0,
                first_seq: row.try_get(0)?,
                entries: row.try_get(1)?,
                least_ts: row.try_get(2)?,
                greatest_ts: row.try_get(3)?,
            })
        };
        rows.iter().map(batch).collect::<sqlx::Result<_>>().map_err(store_error)
    }

    /// The rows of a window that match.
    fn read(&self, window: &Window) -> Result<BoxStream<'a, Result<SqliteRow, AuditError>>, AuditError> {
        let sqlite = self.sqlite;
        let statement = of_window(&self.columns, self.query, self.by, window).into_query();
        let statement = statement.map_err(|cause| sqlite.store_error(cause))?;
        Ok(statement.fetch(sqlite.readers()).map_err(move |cause| sqlite.store_error(cause)).boxed())
    }
}

/// The statement that reads these columns of the matching rows of a window. `by` is the place of the condition whose index
/// is used.
fn of_window(columns: &str, query: &AuditQuery, by: Option<usize>, window: &Window) -> Statement {
    let order = match window.order {
        Order::LatestFirst => " ORDER BY e.ts DESC, e.seq DESC LIMIT ?",
        Order::EarliestFirst => " ORDER BY e.ts, e.seq LIMIT ?",
    };
    let mut statement = Statement::new(columns);
    // Keys are sorted first, and the entries are then read one by one. To sort the entries themselves would hold all of
    // them, and takes eight times as long if only a few are within a limit.
    statement.push(" FROM (SELECT e.seq AS taken");
    statement.within(window);
    statement.filter(query, by);
    statement.seqs(query);
    // SQLite keeps the order of a subquery only if it has a limit. A negative one is none.
    statement.push(order).bind(window.limit.map_or(-1, u64::cast_signed));
    statement.push(") CROSS JOIN tracing_audit_entries e ON e.seq = taken");
    statement
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{super::migrate::migrated_in_memory, *};
    use crate::entry::Decision;
    use crate::query::Column;
    use crate::store::walk::SeqRange;

    const BY_SEQ: &str = "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";

    #[tokio::test]
    async fn every_index_reads_a_window_from_the_first_seq_of_each_range_to_its_last() {
        let mut connection = migrated_in_memory().await.unwrap();
        let of = AuditQuery::new;
        let range = |n: i64| SeqRange { ledger: 0, first_seq: n * 50, last_seq: n * 50 + 9 };
        let ends = (i64::MIN, i64::MIN);
        let windows: Vec<Window> = [1, 2, 8]
            .into_iter()
            .flat_map(|ranges| [None, Some(5)].map(|limit| (ranges, limit)))
            .map(|(ranges, limit)| Window {
                order: Order::LatestFirst,
                after: ends,
                through: ends,
                ranges: (0..ranges).map(range).collect(),
                limit,
            })
            .collect();
        let refused = of().decision(Decision::Deny).workspace_id(Uuid::nil());
        for (query, by, expected) in [
            (of(), None, BY_SEQ),
            (of().action("a"), None, BY_SEQ),
            (of().action_prefix("a"), None, BY_SEQ),
            (of().resource("r").agent_id(Uuid::nil()), None, BY_SEQ),
            (of().metadata_any_of("ip", ["10.0.0.1"]).containing("x"), None, BY_SEQ),
            (
                of().workspace_id(Uuid::nil()),
                Some(0),
                "entries_workspace (workspace_id=? AND rowid>? AND rowid<?)",
            ),
            (of().session_id(Uuid::nil()), Some(0), "entries_session (session_id=? AND rowid>? AND rowid<?)"),
            (
                of().any_of(Column::SessionId, ["a", "b"]),
                Some(0),
                "entries_session (session_id=? AND rowid>? AND rowid<?)",
            ),
            (of().decision(Decision::Deny), Some(0), "entries_refused (decision=? AND rowid>? AND rowid<?)"),
            (of().risk_at_least(0.9), Some(0), "entries_risky (seq>? AND seq<?)"),
            (of().with_problems(), Some(0), "entries_problems (seq>? AND seq<?)"),
            (of().action("audit.gap"), Some(0), "entries_gaps (seq>? AND seq<?)"),
            (refused, Some(1), "entries_refused_in (workspace_id=? AND decision=? AND rowid>? AND rowid<?)"),
            (
                of().workspace_id(Uuid::nil()).any_of(Column::Decision, ["Deny", "Mask"]),
                Some(1),
                "entries_refused_in (workspace_id=? AND decision=? AND rowid>? AND rowid<?)",
            ),
        ] {
            for window in &windows {
                let plan = of_window(ROW, &query, by, window).planned(&mut connection).await;
                assert!(plan.iter().any(|step| step.contains(expected)), "{query:?} {window:?}: {plan:?}");
            }
        }
    }
}
