//! Reads pages, the ledger, and entries by their ids.

use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    cancel::{Cancellable, fetch_all},
    error::code_of,
    plan::rarest,
    rows::{LEDGER, ROW, decode_ledger},
    source::Sqlite,
    sql::{ENTRIES, Statement, bounded},
};
use crate::entry::LedgerRow;
use crate::error::{AuditError, ErrorKind};
use crate::query::AuditQuery;
use crate::store::{Found, Head, Span};

/// At most `size` rows that match.
pub(super) async fn page(
    sqlite: &Sqlite,
    query: &AuditQuery,
    span: Span,
    size: u32,
) -> Result<Found, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(Found::default());
    }
    let by = rarest(sqlite, query).await?;
    let mut connection = Cancellable::of(sqlite).await.map_err(|cause| sqlite.store_error(cause))?;
    found(sqlite, &mut connection, of_page(query, by, span, size)).await
}

/// The rows of this statement, which are in the ledger, as long as there is room for them.
pub(super) async fn found(
    sqlite: &Sqlite,
    connection: &mut Cancellable,
    statement: Statement,
) -> Result<Found, AuditError> {
    let store_error = |cause| sqlite.store_error(cause);
    let statement = statement.into_query().map_err(store_error)?;
    let mut found = Found::default();
    let mut damaged = None;
    let take = |row: SqliteRow| match decode_ledger(&row) {
        Ok(row) => found.add(row).is_continue(),
        Err(error) => {
            damaged = Some(error);
            false
        }
    };
    connection.fetch_while(statement, take).await.map_err(store_error)?;
    damaged.map_or(Ok(found), Err)
}

pub(super) fn of_page(query: &AuditQuery, by: Option<usize>, span: Span, size: u32) -> Statement {
    let mut statement = Statement::new(ROW);
    statement.push(LEDGER);
    statement.push(ENTRIES);
    statement.filter(query, by);
    statement.prune(&span.of(query));
    statement.push(match span {
        Span::After(_) => " ORDER BY e.seq ASC LIMIT ?",
        Span::Before(_) => " ORDER BY e.seq DESC LIMIT ?",
    });
    statement.bind(i64::from(size));
    statement
}

/// The range of `seq` that can hold matches, by the commit batches of the query's ranges of time.
pub(super) async fn seqs_in_time(
    sqlite: &Sqlite,
    query: &AuditQuery,
) -> Result<Option<(u64, u64)>, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(None);
    }
    let store_error = |cause| sqlite.store_error(cause);
    let rows = fetch_all(sqlite, within_times(query).into_query().map_err(store_error)?)
        .await
        .map_err(store_error)?;
    let range = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
    let range = rows.first().map_or(Ok((None, None)), range).map_err(store_error)?;
    Ok(query.narrowed(range))
}

/// Selects the batches that can hold matches by the query's ranges of time. It gives their first `seq`, and the one
/// after their last.
pub(super) fn within_times(query: &AuditQuery) -> Statement {
    let mut statement = Statement::new(
        "SELECT min(first_seq), max(first_seq + min(max(entries, 0), 9223372036854775807 - max(first_seq, 0))) FROM tracing_audit_batches WHERE TRUE",
    );
    // The batches begin with the one that holds the first entry.
    let from = query.from_seq.map(bounded);
    statement.and(
        "first_seq >= ifnull((SELECT max(first_seq) FROM tracing_audit_batches WHERE first_seq <= ?), 0)",
        from,
    );
    statement.and("first_seq < ?", query.before_seq.map(bounded));
    statement.batches_in_time(query);
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

/// The most entries, of the newest, that are looked through for an id that the index does not have: a tenth of a second.
const LOOKED_THROUGH: i64 = 1_000_000;

/// The rows whose ids are in this range. If their index has none, it may be damaged, so that the table itself is looked through.
pub(super) async fn with_ids(
    sqlite: &Sqlite,
    first: Uuid,
    last: Uuid,
    most: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    // The sign keeps SQLite from the index, also for the order.
    for (range, id) in
        [("", "e.id"), ("e.seq > (SELECT max(seq) FROM tracing_audit_entries) - ? AND ", "+e.id")]
    {
        let mut statement = Statement::new(ROW);
        statement.push(LEDGER).push(ENTRIES);
        statement.push(&format!(" AND {range}{id} BETWEEN ? AND ? ORDER BY {id} LIMIT ?"));
        if !range.is_empty() {
            statement.bind(LOOKED_THROUGH);
        }
        statement.bind(first).bind(last).bind(i64::from(most));
        let statement = statement.into_query().map_err(|cause| sqlite.store_error(cause))?;
        rows = fetch_all(sqlite, statement).await.map_err(|cause| sqlite.store_error(cause))?;
        if !rows.is_empty() {
            break;
        }
    }
    rows.iter().map(decode_ledger).collect()
}

/// The most bytes of a ledger's name that are read: each entry that is read has a copy of it.
const NAME_BYTES: usize = 65_536;

/// The tables without which nothing can be read that are not there.
const MISSING: &str =
    "SELECT t.name FROM (SELECT 'tracing_audit_entries' AS name UNION ALL SELECT 'tracing_audit_batches'
                                     UNION ALL SELECT 'tracing_audit_head') t
                       WHERE t.name NOT IN (SELECT s.name FROM sqlite_schema s) ORDER BY 1";

/// The ledger of the file, unless another one is meant.
///
/// # Errors
/// [`is_altered`](AuditError::is_altered) if some of the tables are missing, or if entries have no head that can be read.
pub(super) async fn heads(sqlite: &Sqlite, ledger: Option<&str>) -> Result<Vec<Head>, AuditError> {
    if !sqlite.has_tables().await? {
        return if sqlite.is_empty_file() { Ok(Vec::new()) } else { missing(sqlite).await };
    }
    let heads = "SELECT ledger, next_seq, (SELECT committed_at FROM tracing_audit_batches \
                                           ORDER BY first_seq DESC LIMIT 1) FROM tracing_audit_head \
                 WHERE rowid = (SELECT min(rowid) FROM tracing_audit_head) AND (?1 IS NULL OR ledger = ?1)";
    let rows = match sqlx::query(heads).bind(ledger).fetch_all(sqlite.readers()).await {
        Ok(rows) => rows,
        // There is no such table.
        Err(cause) if code_of(&cause) == Some(1) => {
            missing(sqlite).await?;
            return Err(sqlite.store_error(cause));
        }
        Err(cause) => return Err(sqlite.store_error(cause)),
    };
    if rows.is_empty() && ledger.is_none() {
        let has_entries =
            sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT 1 FROM tracing_audit_entries)");
        let has_entries =
            has_entries.fetch_one(sqlite.readers()).await.map_err(|cause| sqlite.store_error(cause))?;
        if has_entries {
            return Err(altered("there are entries, and the table tracing_audit_head has no row"));
        }
    }
    let head = |row: &SqliteRow| {
        let ledger: String =
            row.try_get(0).map_err(|_| altered("the name of the ledger is no text in UTF-8"))?;
        if ledger.len() > NAME_BYTES {
            let message =
                format!("the name of the ledger has {} bytes, of which {NAME_BYTES} are read", ledger.len());
            return Err(altered(&message));
        }
        let read = || Ok((row.try_get::<i64, _>(1)?.cast_unsigned(), row.try_get(2)?));
        let (next_seq, last_committed_at) = read().map_err(|cause| sqlite.store_error(cause))?;
        Ok(Head { ledger, next_seq, last_committed_at })
    };
    rows.iter().map(head).collect()
}

/// No heads, if there are none of our tables. An error that names those that are missing, if there are others.
async fn missing(sqlite: &Sqlite) -> Result<Vec<Head>, AuditError> {
    let missing = sqlx::query_scalar::<_, String>(MISSING).fetch_all(sqlite.readers()).await;
    let missing = missing.map_err(|cause| sqlite.store_error(cause))?;
    if missing.is_empty() || missing.len() == 3 {
        return Ok(Vec::new());
    }
    Err(altered(&format!("of the tables of a log these are missing: {}", missing.join(", "))))
}

fn altered(what: &str) -> AuditError {
    let message = format!("{what}: somebody has changed the tables. tracing-audit check looks at all of it");
    AuditError::new(ErrorKind::Altered, message)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, SqliteConnection};

    use super::{
        super::{indexes, migrate::migrated_in_memory},
        *,
    };
    use crate::entry::Decision;
    use crate::query::{Column, IndexOn};

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
