//! Reads pages, counts and the ledger.

use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    cancel::fetch_all,
    plan::rarest,
    rows::{LEDGER, ROW, decode_ledger},
    source::Sqlite,
    sql::{ENTRIES, Statement, plain},
};
use crate::entry::LedgerRow;
use crate::error::AuditError;
use crate::query::{AuditQuery, Column, CountBy, spelled, steps};
use crate::store::{Group, Head, Span};

/// At most `size` rows that match.
pub(super) async fn page(
    sqlite: &Sqlite,
    query: &AuditQuery,
    span: Span,
    size: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(Vec::new());
    }
    let by = rarest(sqlite, query).await?;
    let store_error = |cause| sqlite.store_error(cause);
    let statement = of_page(query, by, span, size).into_query().map_err(store_error)?;
    let rows = fetch_all(sqlite, statement).await.map_err(store_error)?;
    rows.iter().map(decode_ledger).collect()
}

fn of_page(query: &AuditQuery, by: Option<usize>, span: Span, size: u32) -> Statement {
    let mut statement = Statement::new(ROW);
    statement.push(LEDGER);
    statement.push(ENTRIES);
    statement.filter(query, by);
    statement.prune(query);
    let order = match span {
        Span::After(seq) => {
            statement.and("e.seq > ?", seq.map(u64::cast_signed));
            " ORDER BY e.seq ASC LIMIT ?"
        }
        Span::Before(seq) => {
            statement.and("e.seq < ?", seq.map(u64::cast_signed));
            " ORDER BY e.seq DESC LIMIT ?"
        }
    };
    statement.push(order).bind(i64::from(size));
    statement
}

/// The number of rows that match.
pub(super) async fn count(sqlite: &Sqlite, query: &AuditQuery) -> Result<u64, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(0);
    }
    let mut statement = Statement::new("SELECT count(*)");
    statement.push(ENTRIES);
    statement.filter(query, rarest(sqlite, query).await?);
    statement.prune(query);
    let store_error = |cause| sqlite.store_error(cause);
    let rows = fetch_all(sqlite, statement.into_query().map_err(store_error)?).await.map_err(store_error)?;
    let count = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0)).map_err(store_error)?;
    Ok(count.cast_unsigned())
}

/// The number of rows that match, by what they have in common.
pub(super) async fn count_by(
    sqlite: &Sqlite,
    query: &AuditQuery,
    by: &CountBy,
) -> Result<Vec<Group>, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(Vec::new());
    }
    sqlite.check_sorting().await?;
    let mut statement = Statement::new("SELECT ");
    match by {
        CountBy::Hour => statement.push(&rounded_down(HOUR)),
        CountBy::Day => statement.push(&rounded_down(24 * HOUR)),
        CountBy::Ledger => statement.push("(SELECT ledger FROM tracing_audit_head)"),
        CountBy::Column(column) => statement.push(&format!("e.{column}")),
        CountBy::Metadata(path) => statement.push(&plain(&steps(path))),
    };
    match by {
        // If an id was made from a name, the name is in the metadata.
        CountBy::Column(column) if column.holds_ids() && *column != Column::Id => {
            statement.push(&format!(", max(CAST(e.metadata ->> '{column}' AS TEXT))"));
        }
        _ => {
            statement.push(", NULL");
        }
    }
    statement.push(", count(*), min(e.ts), max(e.ts)");
    statement.push(ENTRIES);
    statement.filter(query, rarest(sqlite, query).await?);
    statement.prune(query);
    statement.push(" GROUP BY 1 ORDER BY ").push(if by.is_time() { "1" } else { "3 DESC, 1 NULLS LAST" });
    if let Some(limit) = query.filter.limit {
        statement.push(" LIMIT ?").bind(i64::from(limit));
    }
    let store_error = |cause| sqlite.store_error(cause);
    let rows = fetch_all(sqlite, statement.into_query().map_err(store_error)?).await.map_err(store_error)?;
    let group = |row: &SqliteRow| {
        let key = match by {
            CountBy::Hour | CountBy::Day => Some(spelled(row.try_get(0)?)),
            CountBy::Column(column) if column.holds_ids() => {
                row.try_get::<Option<Uuid>, _>(0)?.map(|id| id.to_string())
            }
            _ => row.try_get(0)?,
        };
        Ok(Group {
            key,
            name: row.try_get(1)?,
            entries: row.try_get::<i64, _>(2)?.cast_unsigned(),
            least_ts: row.try_get(3)?,
            greatest_ts: row.try_get(4)?,
        })
    };
    rows.iter().map(group).collect::<sqlx::Result<_>>().map_err(store_error)
}

/// An hour in microseconds.
const HOUR: i64 = 3_600_000_000;

/// The expression for `ts` rounded down to this unit, also before 1970.
fn rounded_down(unit: i64) -> String {
    format!("e.ts - ((e.ts % {unit}) + {unit}) % {unit}")
}

/// The ledger of the file, unless another one is meant.
pub(super) async fn heads(sqlite: &Sqlite, ledger: Option<&str>) -> Result<Vec<Head>, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(Vec::new());
    }
    let store_error = |cause| sqlite.store_error(cause);
    let heads = "SELECT ledger, next_seq, (SELECT committed_at FROM tracing_audit_batches \
                                           ORDER BY first_seq DESC LIMIT 1) FROM tracing_audit_head \
                 WHERE ?1 IS NULL OR ledger = ?1";
    let rows = sqlx::query(heads).bind(ledger).fetch_all(sqlite.readers()).await.map_err(store_error)?;
    let head = |row: &SqliteRow| {
        Ok(Head {
            ledger: row.try_get(0)?,
            next_seq: row.try_get::<i64, _>(1)?.cast_unsigned(),
            last_committed_at: row.try_get(2)?,
        })
    };
    rows.iter().map(head).collect::<sqlx::Result<_>>().map_err(store_error)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, SqliteConnection};

    use super::{
        super::{indexes, migrate::migrated_in_memory},
        *,
    };
    use crate::entry::Decision;
    use crate::query::IndexOn;

    #[tokio::test]
    async fn each_query_is_answered_by_its_index_in_the_order_of_seq() {
        let mut connection = migrated_in_memory().await.unwrap();
        let of = AuditQuery::new;
        // The query, the condition whose index it uses, that index, and whether the rows found are sorted.
        let always = [
            (of().workspace_id(Uuid::nil()), 0, "entries_workspace", false),
            (of().session_id(Uuid::nil()), 0, "entries_session", false),
            (of().decision(Decision::Deny), 0, "entries_refused ", false),
            (of().decision(Decision::Mask).workspace_id(Uuid::nil()), 1, "entries_refused_in ", false),
            (of().decision(Decision::Mask).workspace_id(Uuid::nil()), 0, "entries_workspace ", false),
            (of().any_of(Column::Decision, ["Deny", "Mask"]), 0, "entries_refused ", true),
            (
                of().workspace_id(Uuid::nil()).any_of(Column::Decision, ["Deny", "Mask"]),
                1,
                "entries_refused_in ",
                true,
            ),
            (of().risk_at_least(0.8), 0, "entries_risky", false),
            (of().risk_at_least(0.9), 0, "entries_risky", false),
            (of().with_problems(), 0, "entries_problems", false),
            (of().action("audit.gap"), 0, "entries_gaps", false),
            (of().any_of(Column::Id, ["a"]), 0, "sqlite_autoindex_tracing_audit_entries_1", false),
            (of().session_id(Uuid::nil()).workspace_id(Uuid::nil()), 0, "entries_workspace", false),
            (of().session_id(Uuid::nil()).workspace_id(Uuid::nil()), 1, "entries_session", false),
            (of().session_id(Uuid::nil()).decision(Decision::Deny), 0, "entries_session", false),
            (of().session_id(Uuid::nil()).decision(Decision::Deny), 1, "entries_refused ", false),
            (of().workspace_id(Uuid::nil()).risk_at_least(0.9), 1, "entries_risky", false),
            (of().workspace_id(Uuid::nil()).with_problems(), 1, "entries_problems", false),
            (of().workspace_id(Uuid::nil()).action("audit.gap"), 1, "entries_gaps", false),
        ];
        let on_request = [
            (of().agent_id(Uuid::nil()), 0, "by_agent_id", false),
            (of().any_of(Column::AgentId, ["a", "b"]), 0, "by_agent_id", true),
            (of().action("document.read"), 0, "by_action", false),
            (of().action_prefix("document."), 0, "by_action", true),
            (of().resource_id("D"), 0, "by_resource_id", false),
            (of().metadata_any_of("client.ip", ["10.0.0.1"]), 0, "by_metadata.client.ip", false),
            (of().action("a").metadata_any_of("client.ip", ["10.0.0.1"]), 1, "by_metadata.client.ip", false),
            (of().action("a").metadata_any_of("client.ip", ["10.0.0.1"]), 0, "by_action", false),
            (of().session_id(Uuid::nil()).action_prefix("document."), 0, "entries_session", false),
            (of().session_id(Uuid::nil()).action_prefix("document."), 1, "by_action", true),
            (of().agent_id(Uuid::nil()).decision(Decision::Deny), 1, "by_agent_id", false),
        ];
        assert_planned(&mut connection, &always).await;
        for on in ["agent_id", "action", "resource_id", "metadata.client.ip"] {
            let sql = indexes::sql(&on.parse::<IndexOn>().unwrap());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        assert_planned(&mut connection, &on_request).await;
    }

    async fn assert_planned(connection: &mut SqliteConnection, queries: &[(AuditQuery, usize, &str, bool)]) {
        // A page may start anywhere in the ledger.
        let spans = [Span::Before(None), Span::Before(Some(5000)), Span::After(Some(5000))];
        for ((query, by, index, sorts), span) in
            queries.iter().flat_map(|query| spans.map(|span| (query, span)))
        {
            let plan = of_page(query, Some(*by), span, 10).planned(&mut *connection).await;
            let uses = |step: &String| {
                step.starts_with("SEARCH e USING") && step.contains(index)
                    || step.starts_with("SCAN e USING") && step.contains(index)
            };
            assert!(plan.iter().any(uses), "{query:?}: {plan:?}");
            assert_eq!(plan.iter().any(|step| step.contains("TEMP B-TREE")), *sorts, "{query:?}: {plan:?}");
        }
    }
}
