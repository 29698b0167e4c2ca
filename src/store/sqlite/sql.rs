//! Statements and their parameters; literals and paths as SQL.

use sqlx::{Arguments as _, AssertSqlSafe, SqlSafeStr, sqlite::SqliteArguments};

use crate::query::{PathStep, places};

/// The entries, as `e`, with a condition to add others to.
pub(super) const ENTRIES: &str = " FROM tracing_audit_entries e WHERE TRUE";

/// The name and the kind of what stands in the place of one of our tables. SQLite has a page for each table, and none for a view
/// or a virtual table.
pub(super) const INSTEAD: &str =
    "SELECT 'a ' || iif(type = 'view', 'view', 'virtual table') || ' stands in the place of the table ' || name
     FROM sqlite_schema
     WHERE lower(name) IN ('tracing_audit_entries', 'tracing_audit_batches', 'tracing_audit_head', 'tracing_audit_positions',
                           'tracing_audit_quarantine', 'tracing_audit_migrations', 'tracing_audit_reads',
                           'tracing_audit_writers', 'tracing_audit_leaves', 'tracing_audit_nodes')
       AND (type = 'view' OR type = 'table' AND ifnull(rootpage, 0) = 0) ORDER BY 1";

/// A statement and its parameters, which are added in the same order.
pub(super) struct Statement {
    sql: String,
    arguments: SqliteArguments,
    /// The error of the last parameter that could not be encoded; [`into_query`](Self::into_query) returns it.
    error: Option<sqlx::Error>,
}

impl Statement {
    pub(super) fn new(start: &str) -> Self {
        Self { sql: start.to_owned(), arguments: SqliteArguments::default(), error: None }
    }

    pub(super) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    pub(super) fn bind<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        value: T,
    ) -> &mut Self {
        if let Err(cause) = self.arguments.add(value) {
            self.error = Some(sqlx::Error::Encode(cause));
        }
        self
    }

    /// Adds a condition with one parameter, if there is a value.
    pub(super) fn and<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        condition: &str,
        value: Option<T>,
    ) {
        if let Some(value) = value {
            self.push(" AND ").push(condition).bind(value);
        }
    }

    pub(super) fn into_query(
        self,
    ) -> sqlx::Result<sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(sqlx::query_with(AssertSqlSafe(self.sql).into_sql_str(), self.arguments)),
        }
    }
}

/// A `seq` as a parameter: one beyond the greatest possible `seq` becomes that one.
pub(super) fn bounded(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The expression for the value at this path, as JSON.
pub(super) fn metadata(column: &str, path: &[PathStep]) -> String {
    let places = places(path);
    let places = places.iter().map(|place| format!("({column} -> {})", quoted(&json_path(place))));
    first_of(&places.collect::<Vec<_>>())
}

/// The expression for the first of these that is not NULL.
fn first_of(expressions: &[String]) -> String {
    match expressions {
        [only] => only.clone(),
        several => format!("coalesce({})", several.join(", ")),
    }
}

/// The expression, which looks into an entry's metadata, or NULL if these are not JSON: SQLite ends a statement that meets
/// such a row.
pub(super) fn if_json(expression: &str) -> String {
    format!("CASE WHEN json_valid(e.metadata) THEN {expression} END")
}

/// The expression for the value at this path of an entry's metadata: a text as itself, any other value as JSON.
pub(super) fn plain(path: &[PathStep]) -> String {
    let places = places(path);
    let places = places.iter().map(|place| {
        let (place, path) =
            (format!("e.metadata -> {}", quoted(&json_path(place))), quoted(&json_path(place)));
        format!("CASE json_type(e.metadata, {path}) WHEN 'text' THEN e.metadata ->> {path} ELSE {place} END")
    });
    first_of(&places.collect::<Vec<_>>())
}

/// The path as SQLite spells it: `$."key"[0]`.
fn json_path(steps: &[PathStep]) -> String {
    let mut path = "$".to_owned();
    for step in steps {
        match step {
            PathStep::Key(key) | PathStep::Exact(key) => {
                path.extend([".", &serde_json::Value::from(key.as_str()).to_string()]);
            }
            PathStep::Index(index) => path.extend(["[", &index.to_string(), "]"]),
        }
    }
    path
}

/// The text as an SQL literal. A path must be a literal, so that the planner finds the same expression as in an index.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The name of an index as an SQL identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
impl Statement {
    /// The steps of the plan that SQLite chooses for this statement.
    pub(super) async fn planned(mut self, connection: &mut sqlx::SqliteConnection) -> Vec<String> {
        self.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
        let steps = self.into_query().unwrap().fetch_all(connection).await.unwrap();
        steps.iter().map(|row| sqlx::Row::get(row, 3)).collect()
    }
}
