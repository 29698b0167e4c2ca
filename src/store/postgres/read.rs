//! Reading: a query's conditions as SQL, and rows back from it.

use chrono::{DateTime, Utc};
use sqlx::{
    Arguments as _, PgConnection, Row as _,
    postgres::{PgArguments, PgRow},
};

use super::{
    Postgres,
    borrowed::within,
    open::{exists, failed},
    scope::{Indexes, Part, Windows, times, windows},
};
use uuid::Uuid;

use crate::{
    AuditError, AuditQuery,
    error::Kind,
    reader::{Column, Condition, CountBy, Step, after_prefix, spelled, steps},
    record::Row,
    store::{Group, Head, LedgerRow, Span, index::hint},
};

/// Each with its type, so that decoding need not look at that of every value.
pub(super) const ROW: &str = "SELECT e.seq::int8, e.id::uuid, e.ts::timestamptz, e.workspace_id::uuid, e.session_id::uuid, \
                   e.agent_id::uuid, e.action::text, e.resource::text, e.resource_id::text, e.decision::text, \
                   e.reason::text, e.risk_score::float8, e.metadata::text, e.problems::text";

const LEDGER: &str = ", e.ledger, (SELECT b.committed_at FROM @tracing_audit_batches b \
                      WHERE b.ledger = e.ledger AND b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1)";

/// A statement and its parameters, grown side by side.
pub(super) struct Statement<'p> {
    postgres: &'p Postgres,
    sql: String,
    arguments: PgArguments,
    error: Option<sqlx::Error>,
}

impl<'p> Statement<'p> {
    pub(super) fn new(postgres: &'p Postgres, start: &str) -> Self {
        Self { postgres, sql: start.to_owned(), arguments: PgArguments::default(), error: None }
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a parameter, and its name to the statement.
    pub(super) fn bind<'q, T: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'q>(
        &mut self,
        value: T,
    ) -> &mut Self {
        if let Err(cause) = self.arguments.add(value) {
            self.error = Some(sqlx::Error::Encode(cause));
        }
        let name = format!("${}", self.arguments.len());
        self.push(&name)
    }

    pub(super) fn and<'q, T: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'q>(
        &mut self,
        condition: &str,
        value: Option<T>,
    ) {
        if let Some(value) = value {
            self.push(" AND ").push(condition).bind(value);
        }
    }

    /// Adds the query's conditions; without any, adds one that always holds.
    pub(super) fn filter(&mut self, query: &AuditQuery, windows: &Windows, indexes: &Indexes) {
        self.push(" FROM @tracing_audit_entries e WHERE ");
        match windows {
            Windows::Ledgers(ledgers) => self.ledgers(ledgers),
            Windows::Timed(windows) => {
                self.push("(FALSE");
                for Part { ledger, first_seq, after } in windows {
                    self.push(" OR e.ledger = ").bind(ledger.clone());
                    self.push(" AND e.seq >= ").bind(*first_seq).push(" AND e.seq < ").bind(*after);
                }
                self.push(")");
            }
        }
        for condition in query.all_conditions() {
            self.condition(&condition, indexes);
            self.push(condition.served().map_or("", hint));
        }
        self.and("e.seq >= ", query.from_seq.map(bounded));
        self.and("e.seq < ", query.before_seq.map(bounded));
        let (least, greatest) = times(query);
        self.and("e.ts >= ", least);
        self.and("e.ts <= ", greatest);
    }

    fn ledgers(&mut self, ledgers: &[String]) {
        match ledgers {
            // One by itself has its entries in the order of seq in every index.
            [ledger] => self.push("e.ledger = ").bind(ledger.clone()),
            ledgers => self.push("e.ledger = ANY (").bind(ledgers.to_vec()).push(")"),
        };
    }

    fn condition(&mut self, condition: &Condition, indexes: &Indexes) {
        let has_index = indexes.serve(condition);
        match condition {
            Condition::Ids { column, ids, within } => self.set(&format!("e.{column}"), ids.clone(), *within),
            Condition::Texts { column, texts, within } => {
                self.texts(&format!("e.{column}"), texts, *within, has_index);
            }
            Condition::ActionPrefix(prefix) => {
                if has_index {
                    let (action, begins) = (beginning("e.action"), beginning_of(prefix));
                    self.and(&format!("{action} >= "), Some(begins.clone()));
                    self.and(&format!("{action} < "), after_prefix(&begins));
                }
                self.and("e.action >= ", Some(prefix.clone()));
                self.and("e.action < ", after_prefix(prefix));
            }
            Condition::RiskAtLeast(least) => self.and("e.risk_score >= ", Some(*least)),
            Condition::RiskAtMost(greatest) => self.and("e.risk_score <= ", Some(*greatest)),
            Condition::Problems(some) => {
                self.push(if *some { " AND e.problems IS NOT NULL" } else { " AND e.problems IS NULL" });
            }
            Condition::Metadata { path, values, within } => {
                self.texts(&metadata("e.metadata", path), values, *within, has_index);
            }
            Condition::Contains(text) => {
                self.push(" AND (");
                for (index, column) in ["action", "resource", "reason"].into_iter().enumerate() {
                    let or = if index == 0 { "" } else { " OR " };
                    self.push(&format!("{or}strpos(lower(e.{column}), ")).bind(text.clone()).push(") > 0");
                }
                self.push(")");
            }
        }
    }

    /// One of these texts, or none of them. For an index on request: whose beginning is one of theirs. Where there is none,
    /// that would only mislead the planner, which takes two conditions for rarer than one.
    fn texts(&mut self, what: &str, texts: &[String], within: bool, has_index: bool) {
        if has_index {
            let beginnings = texts.iter().map(|text| beginning_of(text)).collect();
            self.set::<String>(&beginning(what), beginnings, true);
        }
        self.set(what, texts.to_vec(), within);
    }

    /// One of these values, or none of them.
    fn set<'q, T>(&mut self, what: &str, mut values: Vec<T>, within: bool)
    where
        T: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'q,
        Vec<T>: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'q,
    {
        if within
            && values.len() == 1
            && let Some(value) = values.pop()
        {
            self.push(&format!(" AND {what} = ")).bind(value);
        } else if within {
            self.push(&format!(" AND {what} = ANY (")).bind(values).push(")");
        } else {
            self.push(&format!(" AND ({what} IS NULL OR {what} <> ALL (")).bind(values).push("))");
        }
    }

    pub(super) fn into_query(
        self,
    ) -> Result<sqlx::query::Query<'static, sqlx::Postgres, PgArguments>, AuditError> {
        match self.error {
            Some(error) => Err(failed(error)),
            None => Ok(sqlx::query_with(self.postgres.sql(&self.sql), self.arguments)
                .persistent(self.postgres.names_statements)),
        }
    }
}

/// A `seq` beyond all that there can be is the greatest.
pub(super) fn bounded(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// What is at this place.
fn place(column: &str, path: &[Step]) -> String {
    let mut what = ["(", column].concat();
    for step in path {
        what.push_str(" -> ");
        what.push_str(&match step {
            Step::Key(key) => quoted(key),
            Step::Index(index) => index.to_string(),
        });
    }
    what + ")"
}

/// The same as JSON.
pub(super) fn metadata(column: &str, path: &[Step]) -> String {
    place(column, path) + "::text COLLATE \"C\""
}

/// As many characters of a text as fit into any index, of which PostgreSQL takes some 2700 bytes.
const BEGINNING: usize = 250;

/// What an index on a text holds of it.
pub(super) fn beginning(what: &str) -> String {
    format!("left({what}, {BEGINNING})")
}

/// The same of a value.
fn beginning_of(text: &str) -> String {
    text.chars().take(BEGINNING).collect()
}

/// The same, as JSON but for texts, which are themselves.
fn plain(path: &[Step]) -> String {
    let place = place("e.metadata", path);
    // Of JSON's null, #>> makes nothing.
    format!("coalesce({place} #>> '{{}}', {place}::text) COLLATE \"C\"")
}

/// As a literal of SQL, whatever the session's settings, and without the sign that stands for the schema: the planner
/// meets the same expression as in an index.
fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains(['\\', '@']) {
        format!("E'{}'", doubled.replace('\\', "\\\\").replace('@', "\\x40"))
    } else {
        format!("'{doubled}'")
    }
}

/// Whether there is a table of this name where ours are.
pub(super) async fn has_table(postgres: &Postgres, table: &str) -> Result<bool, AuditError> {
    within(postgres.readers().await?, async |connection| {
        exists(postgres, connection, table).await.map_err(failed)
    })
    .await
}

pub(super) const ENTRIES: &str = "tracing_audit_entries";

/// What is asked with the conditions of a query, on a connection. None if there are no tables.
async fn asked<T>(
    postgres: &Postgres,
    query: &AuditQuery,
    ask: impl AsyncFnOnce(&Windows, &Indexes, &mut PgConnection) -> Result<T, AuditError>,
) -> Result<Option<T>, AuditError> {
    within(postgres.readers().await?, async |connection| {
        let Some(indexes) = Indexes::find(postgres, connection).await? else { return Ok(None) };
        let windows = windows(postgres, connection, query).await?;
        ask(&windows, &indexes, connection).await.map(Some)
    })
    .await
}

pub(super) async fn page(
    postgres: &Postgres,
    query: &AuditQuery,
    span: Span,
    size: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    let rows = asked(postgres, query, async |windows, indexes, connection| {
        let mut statement = Statement::new(postgres, ROW);
        statement.push(LEDGER);
        statement.filter(query, windows, indexes);
        let order = match span {
            Span::After(seq) => {
                statement.and("e.seq > ", seq.map(u64::cast_signed));
                " ORDER BY e.seq ASC LIMIT "
            }
            Span::Before(seq) => {
                statement.and("e.seq < ", seq.map(u64::cast_signed));
                " ORDER BY e.seq DESC LIMIT "
            }
        };
        statement.push(order).bind(i64::from(size));
        statement.into_query()?.fetch_all(connection).await.map_err(failed)
    })
    .await?;
    rows.iter().flatten().map(decode_ledger).collect()
}

pub(super) async fn count(postgres: &Postgres, query: &AuditQuery) -> Result<u64, AuditError> {
    let row = asked(postgres, query, async |windows, indexes, connection| {
        let mut statement = Statement::new(postgres, "SELECT count(*)");
        statement.filter(query, windows, indexes);
        statement.into_query()?.fetch_one(connection).await.map_err(failed)
    })
    .await?;
    row.map_or(Ok(0), |row| row.try_get::<i64, _>(0).map(i64::cast_unsigned)).map_err(failed)
}

pub(super) async fn count_by(
    postgres: &Postgres,
    query: &AuditQuery,
    by: &CountBy,
) -> Result<Vec<Group>, AuditError> {
    let rows = asked(postgres, query, async |windows, indexes, connection| {
        let mut statement = Statement::new(postgres, "SELECT ");
        match by {
            CountBy::Hour => statement.push(&rounded_down("hour")),
            CountBy::Day => statement.push(&rounded_down("day")),
            CountBy::Ledger => statement.push("e.ledger"),
            CountBy::Column(column) => statement.push(&format!("e.{column}")),
            CountBy::Metadata(path) => statement.push(&plain(&steps(path))),
        };
        match by {
            // Where an id was made from a name, the name is in the metadata.
            CountBy::Column(column) if column.holds_ids() && *column != Column::Id => {
                statement.push(&format!(", max(e.metadata ->> '{column}' COLLATE \"C\")"));
            }
            _ => {
                statement.push(", NULL::text");
            }
        }
        statement.push(", count(*), min(e.ts), max(e.ts)");
        statement.filter(query, windows, indexes);
        statement.push(" GROUP BY 1 ORDER BY ").push(if by.is_time() { "1" } else { "3 DESC, 1 NULLS LAST" });
        if let Some(limit) = query.filter.limit {
            statement.push(" LIMIT ").bind(i64::from(limit));
        }
        statement.into_query()?.fetch_all(connection).await.map_err(failed)
    })
    .await?;
    let group = |row: &PgRow| {
        let key = match by {
            CountBy::Hour | CountBy::Day => {
                Some(spelled(row.try_get::<DateTime<Utc>, _>(0)?.timestamp_micros()))
            }
            CountBy::Column(column) if column.holds_ids() => {
                row.try_get::<Option<Uuid>, _>(0)?.map(|id| id.to_string())
            }
            _ => row.try_get(0)?,
        };
        Ok(Group {
            key,
            name: row.try_get(1)?,
            entries: row.try_get::<i64, _>(2)?.cast_unsigned(),
            least_ts: row.try_get::<DateTime<Utc>, _>(3)?.timestamp_micros(),
            greatest_ts: row.try_get::<DateTime<Utc>, _>(4)?.timestamp_micros(),
        })
    };
    rows.iter().flatten().map(group).collect::<sqlx::Result<_>>().map_err(failed)
}

/// Whatever the session's time zone.
fn rounded_down(unit: &str) -> String {
    format!("date_trunc('{unit}', e.ts, 'UTC')")
}

pub(super) async fn heads(postgres: &Postgres, ledger: Option<&str>) -> Result<Vec<Head>, AuditError> {
    let heads = postgres.statement(
        "SELECT h.ledger, h.next_seq, (SELECT b.committed_at FROM @tracing_audit_batches b WHERE b.ledger = h.ledger
                                       ORDER BY b.first_seq DESC LIMIT 1)
         FROM @tracing_audit_heads h WHERE $1::text IS NULL OR h.ledger = $1 ORDER BY h.ledger",
    );
    let rows = within(postgres.readers().await?, async |connection| {
        if !exists(postgres, &mut *connection, ENTRIES).await.map_err(failed)? {
            return Ok(Vec::new());
        }
        heads.query().bind(ledger).fetch_all(connection).await.map_err(failed)
    })
    .await?;
    let head = |row: &PgRow| {
        Ok(Head {
            ledger: row.try_get(0)?,
            next_seq: row.try_get::<i64, _>(1)?.cast_unsigned(),
            last_committed_at: row
                .try_get::<Option<DateTime<Utc>>, _>(2)?
                .map(|time| time.timestamp_micros()),
        })
    };
    rows.iter().map(head).collect::<sqlx::Result<_>>().map_err(failed)
}

pub(super) fn decode(row: &PgRow) -> Result<Row, AuditError> {
    let read = || {
        Ok(Row {
            id: row.try_get_unchecked(1)?,
            ts: row.try_get_unchecked::<DateTime<Utc>, _>(2)?.timestamp_micros(),
            workspace_id: row.try_get_unchecked(3)?,
            session_id: row.try_get_unchecked(4)?,
            agent_id: row.try_get_unchecked(5)?,
            action: row.try_get_unchecked::<&str, _>(6)?.into(),
            resource: row.try_get_unchecked::<&str, _>(7)?.into(),
            resource_id: row.try_get_unchecked::<Option<&str>, _>(8)?.map(Into::into),
            decision: row.try_get_unchecked::<&str, _>(9)?.into(),
            reason: row.try_get_unchecked::<Option<&str>, _>(10)?.map(Into::into),
            risk_score: row.try_get_unchecked(11)?,
            metadata: row.try_get_unchecked::<&str, _>(12)?.into(),
            problems: row.try_get_unchecked::<Option<&str>, _>(13)?.map(Into::into),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let seq = row.try_get::<i64, _>(0).unwrap_or(-1);
        AuditError::new(Kind::Store, format!("the entry with seq {seq} is not as this crate wrote it"))
            .because(cause)
    })
}

fn decode_ledger(found: &PgRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found)?;
    let read = || {
        Ok(LedgerRow {
            ledger: found.try_get(14)?,
            seq: found.try_get::<i64, _>(0)?.cast_unsigned(),
            row,
            committed_at: found.try_get::<DateTime<Utc>, _>(15)?.timestamp_micros(),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        AuditError::new(Kind::Store, "the ledger's batches are not as this crate wrote them").because(cause)
    })
}
