//! Reading: a query's conditions as SQL, and rows back from it.

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sqlx::{
    Arguments as _, AssertSqlSafe, Row as _, SqlSafeStr,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{Sqlite, index, open::opening, waited::all_of};
use crate::{
    AuditError, AuditQuery,
    error::Kind,
    reader::{Column, Condition, CountBy, Served, Step, after_prefix, spelled, steps},
    record::Row,
    store::{
        Group, Head, LedgerRow, Span,
        index::{hint, name_of},
        walk::{self, Batch, Candidates, Walk, Window},
    },
};

const ROW: &str = "SELECT e.seq, e.id, e.ts, e.workspace_id, e.session_id, e.agent_id, e.action, e.resource, \
                   e.resource_id, e.decision, e.reason, e.risk_score, e.metadata, e.problems";

const LEDGER: &str = ", (SELECT ledger FROM tracing_audit_head), (SELECT b.committed_at FROM tracing_audit_batches b \
                      WHERE b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1)";

const ENTRIES: &str = " FROM tracing_audit_entries e WHERE TRUE";

/// A statement and its parameters, grown side by side.
struct Statement {
    sql: String,
    arguments: SqliteArguments,
    error: Option<sqlx::Error>,
}

impl Statement {
    fn new(start: &str) -> Self {
        Self { sql: start.to_owned(), arguments: SqliteArguments::default(), error: None }
    }

    fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    fn bind<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        value: T,
    ) -> &mut Self {
        if let Err(cause) = self.arguments.add(value) {
            self.error = Some(sqlx::Error::Encode(cause));
        }
        self
    }

    fn and<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        condition: &str,
        value: Option<T>,
    ) {
        if let Some(value) = value {
            self.push(" AND ").push(condition).bind(value);
        }
    }

    /// Adds the query's conditions, of which the one at this place has the index that is to be used. A plus before the others
    /// keeps the planner, which knows nothing of how many entries have a value, from theirs.
    fn filter(&mut self, query: &AuditQuery, by: Option<usize>) {
        self.and("(SELECT ledger FROM tracing_audit_head) = ?", query.ledger.clone());
        let conditions = || query.all_conditions().enumerate();
        let refused =
            conditions().any(|(at, condition)| by == Some(at) && condition.served() == Some(Served::Refused));
        for (at, condition) in conditions() {
            let served = condition.served();
            if by != Some(at) {
                // The index on refusals by workspace has both.
                let beside = refused && served == Some(Served::Workspace);
                self.condition(&condition, if beside { "" } else { "+" });
                continue;
            }
            match &*condition {
                // The hint says it.
                risk if *risk == Condition::RISKY => {}
                // Several, which would be sorted: rather than all of the workspace.
                Condition::Texts { column, texts, .. } if refused && texts.len() > 1 => {
                    let list = vec!["?"; texts.len()].join(", ");
                    self.push(&format!(" AND likelihood(e.{column} IN ({list}), 0.001)"));
                    for text in texts {
                        self.bind(text.clone());
                    }
                }
                condition => self.condition(condition, ""),
            }
            self.push(served.map_or("", hint));
        }
        let (least, greatest) = query.bounds();
        self.and("e.ts >= ?", least);
        self.and("e.ts <= ?", greatest);
        self.and("e.seq >= ?", query.from_seq.map(bounded));
        self.and("e.seq < ?", query.before_seq.map(bounded));
    }

    fn condition(&mut self, condition: &Condition, plus: &str) {
        match condition {
            Condition::Ids { column, ids, within } => self.set(&format!("{plus}e.{column}"), ids, *within),
            Condition::Texts { column, texts, within } => {
                self.set(&format!("{plus}e.{column}"), texts, *within);
            }
            Condition::ActionPrefix(prefix) => {
                // Beside a range of seq, which the planner would take for the narrower one.
                self.and(&format!("likelihood({plus}e.action >= ?, 0.001)"), Some(prefix.clone()));
                self.and(&format!("likelihood({plus}e.action < ?, 0.001)"), after_prefix(prefix));
            }
            Condition::RiskAtLeast(least) => self.and(&format!("{plus}e.risk_score >= ?"), Some(*least)),
            Condition::RiskAtMost(greatest) => self.and(&format!("{plus}e.risk_score <= ?"), Some(*greatest)),
            Condition::Problems(some) => {
                let is = if *some { "IS NOT NULL" } else { "IS NULL" };
                self.push(&format!(" AND {plus}e.problems {is}"));
            }
            Condition::Metadata { path, values, within } => {
                self.set(&(plus.to_owned() + &metadata("e.metadata", path)), values, *within);
            }
            Condition::Contains(text) => {
                self.push(" AND (");
                for (index, column) in ["action", "resource", "reason"].into_iter().enumerate() {
                    let or = if index == 0 { "" } else { " OR " };
                    self.push(&format!("{or}instr(lower(e.{column}), ?) > 0")).bind(text.clone());
                }
                self.push(")");
            }
        }
    }

    /// One of these values, or none of them.
    fn set<'q, T>(&mut self, what: &str, values: &[T], within: bool)
    where
        T: Clone + sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        match values {
            [] => {
                self.push(if within { " AND FALSE" } else { "" });
            }
            [value] if within => {
                self.push(&format!(" AND {what} = ?")).bind(value.clone());
            }
            values => {
                let list = vec!["?"; values.len()].join(", ");
                self.push(&if within {
                    format!(" AND {what} IN ({list})")
                } else {
                    format!(" AND ({what} IS NULL OR {what} NOT IN ({list}))")
                });
                for value in values {
                    self.bind(value.clone());
                }
            }
        }
    }

    /// Adds what the batches tell of a query's bounds in time: there is no index on ts.
    fn prune(&mut self, query: &AuditQuery) {
        let (least, greatest) = query.bounds();
        if least.is_some() || greatest.is_some() {
            for bound in
                [" AND e.seq >= (SELECT min(first_seq)", " AND e.seq < (SELECT max(first_seq + entries)"]
            {
                self.push(bound).push(" FROM tracing_audit_batches WHERE TRUE");
                self.and("greatest_ts >= ?", least);
                self.and("least_ts <= ?", greatest);
                self.push(")");
            }
        }
    }

    /// Adds the entries of a window. Its ranges come first, so that each is looked for by itself, in an index from its one
    /// end to its other. Not as `VALUES`, of which the planner expects so many that it would make an index of all entries for
    /// what has none.
    fn within(&mut self, window: &Window) {
        self.push(" FROM (");
        for (index, range) in window.ranges.iter().enumerate() {
            self.push(if index == 0 {
                "SELECT ? AS first_seq, ? AS last_seq"
            } else {
                " UNION ALL SELECT ?, ?"
            });
            self.bind(range.first_seq).bind(range.last_seq);
        }
        self.push(") r CROSS JOIN tracing_audit_entries e WHERE e.seq BETWEEN r.first_seq AND r.last_seq");
        for (than, (ts, seq)) in [(">", window.after), ("<=", window.through)] {
            self.push(&format!(" AND (e.ts, e.seq) {than} (?, ?)")).bind(ts).bind(seq);
        }
    }

    fn into_query(self) -> sqlx::Result<sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(sqlx::query_with(AssertSqlSafe(self.sql).into_sql_str(), self.arguments)),
        }
    }
}

/// A `seq` beyond all that there can be is the greatest.
fn bounded(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// What is at this place, as JSON.
pub(super) fn metadata(column: &str, path: &[Step]) -> String {
    format!("({column} -> {})", quoted(&json_path(path)))
}

/// What is at this place, as JSON but for texts, which are themselves.
fn plain(path: &[Step]) -> String {
    let (json, path) = (metadata("e.metadata", path), quoted(&json_path(path)));
    format!("CASE json_type(e.metadata, {path}) WHEN 'text' THEN e.metadata ->> {path} ELSE {json} END")
}

/// `$."key"[0]`, as SQLite writes it.
fn json_path(steps: &[Step]) -> String {
    let mut path = "$".to_owned();
    for step in steps {
        match step {
            Step::Key(key) => path.extend([".", &serde_json::Value::from(key.as_str()).to_string()]),
            Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
        }
    }
    path
}

/// As a literal of SQL: the planner meets the same expression as in an index.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn rows<'a>(sqlite: &'a Sqlite, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
    let rows = stream::once(ByTime::start(sqlite, query)).map_ok(|by_time| {
        stream::try_unfold(by_time, async |by_time| {
            let Some(mut by_time) = by_time else { return Ok::<_, AuditError>(None) };
            Ok(by_time.next().await?.map(|row| (row, Some(by_time))))
        })
    });
    rows.try_flatten().boxed()
}

/// A query's walk over the batches.
struct ByTime<'a> {
    sqlite: &'a Sqlite,
    query: &'a AuditQuery,
    /// By which condition's index.
    by: Option<usize>,
    walk: Walk,
    /// Entries committed later are not part of the answer.
    head: i64,
    /// The rest of a window, and how much of it was read.
    window: BoxStream<'a, Result<Row, AuditError>>,
    found: u64,
}

impl<'a> ByTime<'a> {
    /// None where there are no tables, or another ledger is meant.
    async fn start(sqlite: &'a Sqlite, query: &'a AuditQuery) -> Result<Option<Self>, AuditError> {
        if !has_tables(sqlite).await? {
            return Ok(None);
        }
        let head = sqlx::query_scalar::<_, i64>(
            "SELECT next_seq FROM tracing_audit_head WHERE ?1 IS NULL OR ledger = ?1",
        );
        let head = head.bind(&query.ledger).fetch_optional(sqlite.readers()).await;
        let Some(mut head) = head.map_err(|cause| failed(sqlite, cause))? else { return Ok(None) };
        let mut walk = Walk::new(query.filter.limit, true);
        let by = rarest(sqlite, query).await?;
        if let Some(by) = by {
            let candidates = candidates(sqlite, query, by, Candidates::MOST).await?;
            head = candidates.end(head);
            if let Some(batches) = candidates.known([head].into_iter()) {
                walk.know(batches, None);
            }
        }
        Ok(Some(Self { sqlite, query, by, walk, head, window: stream::empty().boxed(), found: 0 }))
    }

    /// The next row, of the window that is being read or of the next one that has any.
    async fn next(&mut self) -> Result<Option<Row>, AuditError> {
        loop {
            if let Some(row) = self.window.try_next().await? {
                self.found += 1;
                return Ok(Some(row));
            }
            self.walk.found(std::mem::take(&mut self.found));
            self.window = loop {
                match self.walk.next() {
                    walk::Step::Batches { after, limit } => {
                        let batches = self.batches(after, limit).await?;
                        let last =
                            batches.last().copied().filter(|_| batches.len() as u64 == u64::from(limit));
                        self.walk.know(batches, last);
                    }
                    walk::Step::Window(window) => break self.read(&window)?,
                    walk::Step::End => return Ok(None),
                }
            };
        }
    }

    async fn batches(&mut self, after: Option<Batch>, limit: u32) -> Result<Vec<Batch>, AuditError> {
        let (least, greatest) = self.query.bounds();
        let mut statement = Statement::new(
            "SELECT first_seq, entries, least_ts, greatest_ts FROM tracing_audit_batches WHERE first_seq < ?",
        );
        statement.bind(self.head);
        if let Some(after) = after {
            statement.push(" AND (greatest_ts, first_seq) < (?, ?)");
            statement.bind(after.greatest_ts).bind(after.first_seq);
        }
        statement.and("greatest_ts >= ?", least);
        statement.and("least_ts <= ?", greatest);
        statement.and("first_seq + entries > ?", self.query.from_seq.map(bounded));
        statement.and("first_seq < ?", self.query.before_seq.map(bounded));
        statement.push(" ORDER BY greatest_ts DESC, first_seq DESC LIMIT ?").bind(i64::from(limit));
        let failed = |cause| failed(self.sqlite, cause);
        let rows =
            statement.into_query().map_err(failed)?.fetch_all(self.sqlite.readers()).await.map_err(failed)?;
        let batch = |row: &SqliteRow| {
            Ok(Batch {
                ledger: 0,
                first_seq: row.try_get(0)?,
                entries: row.try_get(1)?,
                least_ts: row.try_get(2)?,
                greatest_ts: row.try_get(3)?,
            })
        };
        rows.iter().map(batch).collect::<sqlx::Result<_>>().map_err(failed)
    }

    fn read(&self, window: &Window) -> Result<BoxStream<'a, Result<Row, AuditError>>, AuditError> {
        let sqlite = self.sqlite;
        let statement =
            of_window(self.query, self.by, window).into_query().map_err(|cause| failed(sqlite, cause))?;
        let rows = statement.fetch(sqlite.readers()).map_err(move |cause| failed(sqlite, cause));
        Ok(rows.and_then(|row| std::future::ready(decode(&row))).boxed())
    }
}

fn of_window(query: &AuditQuery, by: Option<usize>, window: &Window) -> Statement {
    const NEWEST_FIRST: &str = " ORDER BY e.ts DESC, e.seq DESC";
    let mut statement = Statement::new(ROW);
    if let Some(limit) = window.limit {
        // Sorts keys, and then reads the entries that it takes: an eighth of the time.
        statement.push(" FROM (SELECT e.seq AS taken");
        statement.within(window);
        statement.filter(query, by);
        statement.push(NEWEST_FIRST).push(" LIMIT ?").bind(limit.cast_signed());
        statement.push(") CROSS JOIN tracing_audit_entries e ON e.seq = taken");
    } else {
        statement.within(window);
        statement.filter(query, by);
    }
    statement.push(NEWEST_FIRST);
    statement
}

/// Entries of each index that are looked at, first and then, to see how many there are.
const LOOKS: [i64; 2] = [512, Candidates::MOST];

/// The condition by whose index the fewest entries are found, by its place in the query; none if no index serves it. Of
/// several it is found out by looking: which has few, or else whose newest reach back the furthest.
async fn rarest(sqlite: &Sqlite, query: &AuditQuery) -> Result<Option<usize>, AuditError> {
    let on_request: Vec<String> = query.served_on_request().map(|on| name_of(&on)).collect();
    let names = if on_request.is_empty() { Vec::new() } else { index::names(sqlite).await? };
    let has_index = |condition: &Condition| {
        condition.served().is_some() || condition.on_request().is_some_and(|on| names.contains(&name_of(&on)))
    };
    let indexed: Vec<(usize, Condition)> = query
        .all_conditions()
        .enumerate()
        .filter(|(_, condition)| has_index(condition))
        .map(|(at, condition)| (at, condition.into_owned()))
        .collect();
    let are_refused = indexed.iter().any(|(_, condition)| condition.served() == Some(Served::Refused));
    // Those of one workspace have an index, and are not more than all of it.
    let choices = indexed
        .iter()
        .filter(|(_, condition)| !(are_refused && condition.served() == Some(Served::Workspace)));
    let choices: Vec<&(usize, Condition)> = choices.collect();
    let is_prefix = |condition: &Condition| matches!(condition, Condition::ActionPrefix(_));
    match choices.as_slice() {
        [(at, condition)] if !is_prefix(condition) => return Ok(Some(*at)),
        _ => {}
    }
    let mut rarest = None;
    for most in LOOKS {
        let mut looked = Vec::new();
        for (at, condition) in &choices {
            let Candidates { count, least_seq, newest, .. } = candidates(sqlite, query, *at, most).await?;
            let found = match (count < most, newest) {
                (true, _) => (0, count),
                // What has many is better looked for in the order of seq.
                (false, _) if is_prefix(condition) => continue,
                (false, true) => (1, least_seq.unwrap_or(0)),
                // Of several values: nothing says which of them were counted.
                (false, false) => (2, 0),
            };
            // An index on request is of a kind with that on the workspace.
            looked.push((found, condition.served().unwrap_or(Served::Workspace), *at));
        }
        rarest = looked.into_iter().min();
        if matches!(rarest, Some(((0, _), ..))) {
            break;
        }
    }
    Ok(rarest.map(|(.., at)| at))
}

pub(super) async fn is_served(sqlite: &Sqlite, query: &AuditQuery) -> Result<bool, AuditError> {
    rarest(sqlite, query).await.map(|by| by.is_some())
}

/// Those by the index of the condition at this place, in the batches of the query's times; at most so many.
async fn candidates(
    sqlite: &Sqlite,
    query: &AuditQuery,
    at: usize,
    most: i64,
) -> Result<Candidates, AuditError> {
    let candidates = query.candidates(at);
    let mut count = Statement::new("SELECT count(*), min(seq), max(seq) FROM (SELECT e.seq");
    count.push(ENTRIES);
    count.filter(&candidates, Some(0));
    count.prune(query);
    let newest = candidates.has_single_values();
    count.push(if newest { " ORDER BY e.seq DESC LIMIT ?)" } else { " LIMIT ?)" }).bind(most);
    let count = async || {
        let row = count.into_query()?.fetch_one(sqlite.readers()).await?;
        let (count, least_seq, greatest_seq) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Candidates { count, least_seq, greatest_seq, newest })
    };
    count().await.map_err(|cause| failed(sqlite, cause))
}

pub(super) async fn page(
    sqlite: &Sqlite,
    query: &AuditQuery,
    span: Span,
    size: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    if !has_tables(sqlite).await? {
        return Ok(Vec::new());
    }
    let by = rarest(sqlite, query).await?;
    let failed = |cause| failed(sqlite, cause);
    let statement = of_page(query, by, span, size).into_query().map_err(failed)?;
    let rows = all_of(sqlite, statement).await.map_err(failed)?;
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

pub(super) async fn count(sqlite: &Sqlite, query: &AuditQuery) -> Result<u64, AuditError> {
    if !has_tables(sqlite).await? {
        return Ok(0);
    }
    let mut statement = Statement::new("SELECT count(*)");
    statement.push(ENTRIES);
    statement.filter(query, rarest(sqlite, query).await?);
    statement.prune(query);
    let failed = |cause| failed(sqlite, cause);
    let rows = all_of(sqlite, statement.into_query().map_err(failed)?).await.map_err(failed)?;
    let count = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0)).map_err(failed)?;
    Ok(count.cast_unsigned())
}

pub(super) async fn count_by(
    sqlite: &Sqlite,
    query: &AuditQuery,
    by: &CountBy,
) -> Result<Vec<Group>, AuditError> {
    if !has_tables(sqlite).await? {
        return Ok(Vec::new());
    }
    let mut statement = Statement::new("SELECT ");
    match by {
        CountBy::Hour => statement.push(&rounded_down(HOUR)),
        CountBy::Day => statement.push(&rounded_down(24 * HOUR)),
        CountBy::Ledger => statement.push("(SELECT ledger FROM tracing_audit_head)"),
        CountBy::Column(column) => statement.push(&format!("e.{column}")),
        CountBy::Metadata(path) => statement.push(&plain(&steps(path))),
    };
    match by {
        // Where an id was made from a name, the name is in the metadata.
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
    let failed = |cause| failed(sqlite, cause);
    let rows = all_of(sqlite, statement.into_query().map_err(failed)?).await.map_err(failed)?;
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
    rows.iter().map(group).collect::<sqlx::Result<_>>().map_err(failed)
}

/// In microseconds.
const HOUR: i64 = 3_600_000_000;

/// Also before 1970.
fn rounded_down(unit: i64) -> String {
    format!("e.ts - ((e.ts % {unit}) + {unit}) % {unit}")
}

pub(super) async fn heads(sqlite: &Sqlite, ledger: Option<&str>) -> Result<Vec<Head>, AuditError> {
    if !has_tables(sqlite).await? {
        return Ok(Vec::new());
    }
    let failed = |cause| failed(sqlite, cause);
    let heads = "SELECT ledger, next_seq, (SELECT committed_at FROM tracing_audit_batches \
                                           ORDER BY first_seq DESC LIMIT 1) FROM tracing_audit_head \
                 WHERE ?1 IS NULL OR ledger = ?1";
    let rows = sqlx::query(heads).bind(ledger).fetch_all(sqlite.readers()).await.map_err(failed)?;
    let head = |row: &SqliteRow| {
        Ok(Head {
            ledger: row.try_get(0)?,
            next_seq: row.try_get::<i64, _>(1)?.cast_unsigned(),
            last_committed_at: row.try_get(2)?,
        })
    };
    rows.iter().map(head).collect::<sqlx::Result<_>>().map_err(failed)
}

pub(super) async fn has_tables(sqlite: &Sqlite) -> Result<bool, AuditError> {
    has_table(sqlite, "tracing_audit_entries").await
}

pub(super) async fn has_table(sqlite: &Sqlite, name: &str) -> Result<bool, AuditError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)")
        .bind(name)
        .fetch_one(sqlite.readers())
        .await
        .map_err(|cause| failed(sqlite, cause))
}

pub(super) fn failed(sqlite: &Sqlite, cause: sqlx::Error) -> AuditError {
    opening(&sqlite.path(), cause)
}

fn decode(row: &SqliteRow) -> Result<Row, AuditError> {
    let read = || {
        Ok(Row {
            id: row.try_get(1)?,
            ts: row.try_get(2)?,
            workspace_id: row.try_get(3)?,
            session_id: row.try_get(4)?,
            agent_id: row.try_get(5)?,
            action: row.try_get::<&str, _>(6)?.into(),
            resource: row.try_get::<&str, _>(7)?.into(),
            resource_id: row.try_get::<Option<&str>, _>(8)?.map(Into::into),
            decision: row.try_get::<&str, _>(9)?.into(),
            reason: row.try_get::<Option<&str>, _>(10)?.map(Into::into),
            risk_score: row.try_get(11)?,
            metadata: row.try_get::<&str, _>(12)?.into(),
            problems: row.try_get::<Option<&str>, _>(13)?.map(Into::into),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let seq = row.try_get::<i64, _>(0).unwrap_or(-1);
        AuditError::new(Kind::Store, format!("the entry with seq {seq} is not as this crate wrote it"))
            .because(cause)
    })
}

fn decode_ledger(found: &SqliteRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found)?;
    let read = || {
        Ok(LedgerRow {
            ledger: found.try_get(14)?,
            seq: found.try_get::<i64, _>(0)?.cast_unsigned(),
            row,
            committed_at: found.try_get(15)?,
        })
    };
    read().map_err(|cause: sqlx::Error| {
        AuditError::new(Kind::Store, "the ledger's head or batches are not as this crate wrote them")
            .because(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::open::MIGRATIONS, *};
    use crate::{AuditEntry, AuditLog, Decision, IndexOn, Store};
    use sqlx::{Connection, SqliteConnection};

    #[tokio::test]
    async fn each_query_is_answered_by_its_index_in_the_order_of_seq() {
        let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
        for migration in MIGRATIONS {
            sqlx::raw_sql(migration).execute(&mut connection).await.unwrap();
        }
        let of = AuditQuery::new;
        // Which of its conditions, and whether what it finds is sorted.
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
            (of().problems(true), 0, "entries_problems", false),
            (of().action("audit.gap"), 0, "entries_gaps", false),
            (of().any_of(Column::Id, ["a"]), 0, "sqlite_autoindex_tracing_audit_entries_1", false),
            (of().session_id(Uuid::nil()).workspace_id(Uuid::nil()), 0, "entries_workspace", false),
            (of().session_id(Uuid::nil()).workspace_id(Uuid::nil()), 1, "entries_session", false),
            (of().session_id(Uuid::nil()).decision(Decision::Deny), 0, "entries_session", false),
            (of().session_id(Uuid::nil()).decision(Decision::Deny), 1, "entries_refused ", false),
            (of().workspace_id(Uuid::nil()).risk_at_least(0.9), 1, "entries_risky", false),
            (of().workspace_id(Uuid::nil()).problems(true), 1, "entries_problems", false),
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
        planned(&mut connection, &always).await;
        for on in ["agent_id", "action", "resource_id", "metadata.client.ip"] {
            let sql = index::sql(&on.parse::<IndexOn>().unwrap());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        planned(&mut connection, &on_request).await;
    }

    const BY_SEQ: &str = "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";

    #[tokio::test]
    async fn a_window_is_read_from_the_one_end_of_each_range_to_the_other_by_every_index() {
        let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
        for migration in MIGRATIONS {
            sqlx::raw_sql(migration).execute(&mut connection).await.unwrap();
        }
        let of = AuditQuery::new;
        let range = |n: i64| walk::Range { ledger: 0, first_seq: n * 50, last_seq: n * 50 + 9 };
        let ends = (i64::MIN, i64::MIN);
        let windows: Vec<Window> = [1, 2, 8]
            .into_iter()
            .flat_map(|ranges| [None, Some(5)].map(|limit| (ranges, limit)))
            .map(|(ranges, limit)| Window {
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
            (of().problems(true), Some(0), "entries_problems (seq>? AND seq<?)"),
            (of().action("audit.gap"), Some(0), "entries_gaps (seq>? AND seq<?)"),
            (refused, Some(1), "entries_refused_in (workspace_id=? AND decision=? AND rowid>? AND rowid<?)"),
            (
                of().workspace_id(Uuid::nil()).any_of(Column::Decision, ["Deny", "Mask"]),
                Some(1),
                "entries_refused_in (workspace_id=? AND decision=? AND rowid>? AND rowid<?)",
            ),
        ] {
            for window in &windows {
                let plan = plan(&mut connection, of_window(&query, by, window)).await;
                assert!(plan.iter().any(|step| step.contains(expected)), "{query:?} {window:?}: {plan:?}");
            }
        }
    }

    #[tokio::test]
    async fn of_several_indexes_the_one_that_finds_the_least_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = AuditLog::open(&file).await.unwrap();
        let store = Store::sqlite(&file).unwrap();
        for on in ["agent_id", "action"] {
            store.create_index(&on.parse().unwrap()).await.unwrap();
        }
        let id = |n: u128| Uuid::from_u128(n);
        for n in 0..20_000 {
            let action = match n {
                0..500 => "old",
                500..9000 => "mid",
                _ => "new",
            };
            let entry = AuditEntry {
                agent_id: Some(id(n % 2)),
                session_id: Some(id(n / 10_000)),
                decision: if n % 4 == 0 { "Deny" } else { "Allow" }.to_owned(),
                risk_score: if n % 1000 == 0 { 0.9 } else { 0.1 },
                ..AuditEntry::new(id(u128::from(n < 3)), action, "r")
            };
            log.writer().write(entry).await.unwrap();
        }
        log.flush().await.unwrap();
        let sqlite = Sqlite::of_file(file);
        let of = AuditQuery::new;
        // A workspace comes first, then a session and a decision, and what else is asked for.
        for (query, expected) in [
            (of().containing("x"), None),
            (of().resource("r").workspace_id(id(0)), Some(0)),
            (of().workspace_id(id(0)).session_id(id(1)), Some(1)),
            (of().workspace_id(id(1)).session_id(id(0)), Some(0)),
            (of().workspace_id(id(0)).risk_at_least(0.9), Some(1)),
            (of().workspace_id(id(1)).risk_at_least(0.9), Some(0)),
            (of().workspace_id(id(0)).decision(Decision::Deny), Some(1)),
            (of().workspace_id(id(0)).any_of(Column::Id, ["a", "b"]), Some(1)),
            (of().decision(Decision::Deny).agent_id(id(1)), Some(0)),
            (of().decision(Decision::Deny).action("old"), Some(1)),
            (of().agent_id(id(1)).action("new"), Some(0)),
            (of().agent_id(id(1)).action("old"), Some(1)),
            (of().agent_id(id(1)).action("none"), Some(1)),
            (of().agent_id(id(1)).action_prefix("n"), Some(0)),
            (of().agent_id(id(1)).action_prefix("o"), Some(1)),
            (of().action_prefix("o"), Some(0)),
            // So many are better looked for in the order of seq.
            (of().action_prefix("n"), None),
            (of().resource_id("D").action("old"), Some(1)),
        ] {
            assert_eq!(rarest(&sqlite, &query).await.unwrap(), expected, "{query:?}");
        }
    }

    async fn plan(connection: &mut SqliteConnection, mut statement: Statement) -> Vec<String> {
        statement.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
        let plan = statement.into_query().unwrap().fetch_all(connection).await.unwrap();
        plan.iter().map(|row| row.get(3)).collect()
    }

    async fn planned(connection: &mut SqliteConnection, queries: &[(AuditQuery, usize, &str, bool)]) {
        // From anywhere in the ledger.
        let spans = [Span::Before(None), Span::Before(Some(5000)), Span::After(Some(5000))];
        for ((query, by, index, sorts), span) in
            queries.iter().flat_map(|query| spans.map(|span| (query, span)))
        {
            let plan = plan(&mut *connection, of_page(query, Some(*by), span, 10)).await;
            let uses = |step: &String| {
                step.starts_with("SEARCH e USING") && step.contains(index)
                    || step.starts_with("SCAN e USING") && step.contains(index)
            };
            assert!(plan.iter().any(uses), "{query:?}: {plan:?}");
            assert_eq!(plan.iter().any(|step| step.contains("TEMP B-TREE")), *sorts, "{query:?}: {plan:?}");
        }
    }
}
