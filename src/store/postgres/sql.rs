//! Statements and their parameters; literals and paths as SQL.

use std::sync::Arc;

use sqlx::{
    Arguments as _, AssertSqlSafe, Encode, FromRow, PgConnection, Postgres as Database, Type,
    postgres::{PgArguments, PgRow},
    query::{Query, QueryAs, QueryScalar},
};

use super::{
    error::{Veiled, store_error},
    quote::quoted,
    source::Postgres,
};
use crate::error::AuditError;
use crate::query::{PathStep, places};

/// The table of entries.
pub(super) const ENTRIES: &str = "tracing_audit_entries";

/// A statement that is run with parameters or returns rows, with the names of its tables.
///
/// A statement without a name is prepared again by each run, in one message, and then executed by another one. It
/// needs a transaction, since a pooler may send a message outside of a transaction to another connection.
pub(super) struct Sql {
    text: Arc<str>,
    named: bool,
}

impl Sql {
    fn text(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.text))
    }

    pub(super) fn query(&self) -> Query<'static, Database, PgArguments> {
        sqlx::query(self.text()).persistent(self.named)
    }

    pub(super) fn scalar<T>(&self) -> QueryScalar<'static, Database, T, PgArguments>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(self.text()).persistent(self.named)
    }

    pub(super) fn row<T: for<'r> FromRow<'r, PgRow>>(&self) -> QueryAs<'static, Database, T, PgArguments> {
        sqlx::query_as(self.text()).persistent(self.named)
    }
}

impl Postgres {
    /// A statement of this crate, in which `@` stands before the name of each table.
    pub(super) fn sql(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace('@', &self.prefix()))
    }

    /// Does the same as [`sql`](Self::sql) for a statement that is run with parameters or returns rows.
    pub(super) fn statement(&self, statement: &str) -> Sql {
        Sql { text: self.sql(statement).0.into(), named: self.names_statements }
    }

    /// The name of a table with its schema.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }
}

/// All tables that this crate makes.
pub(super) const TABLES: [&str; 11] = [
    ENTRIES,
    "tracing_audit_batches",
    "tracing_audit_heads",
    "tracing_audit_positions",
    "tracing_audit_quarantine",
    "tracing_audit_migrations",
    "tracing_audit_reads",
    "tracing_audit_writers",
    "tracing_audit_leaves",
    "tracing_audit_nodes",
    "tracing_audit_grants",
];

/// Whether a table has this name, and nothing else.
pub(super) async fn is_table(
    postgres: &Postgres,
    connection: &mut PgConnection,
    name: &str,
) -> sqlx::Result<bool> {
    let is_table =
        "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1) AND relkind IN ('r', 'p'))";
    postgres.statement(is_table).scalar().bind(postgres.table(name)).fetch_one(connection).await
}

/// Whether the audit tables include one of this name. An error if a view or the like stands in the place of any of them: it can be
/// anything, also one whose rows never end, so that nothing is read through it.
pub(super) async fn has_table(
    postgres: &Postgres,
    connection: &mut PgConnection,
    name: &str,
) -> sqlx::Result<bool> {
    let found = postgres.statement(
        "SELECT to_regclass($1) IS NOT NULL,
                (SELECT format('a %s stands in the place of the table %s',
                               CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                                            WHEN 'f' THEN 'foreign table' ELSE 'relation' END, oid::regclass)
                 FROM pg_class
                 WHERE oid = ANY (ARRAY(SELECT to_regclass(name)::oid FROM unnest($2::text[]) name))
                   AND relkind NOT IN ('r', 'p') ORDER BY relname LIMIT 1)",
    );
    let tables: Vec<String> = TABLES.iter().map(|table| postgres.table(table)).collect();
    let found = found.row::<(bool, Option<String>)>().bind(postgres.table(name)).bind(tables);
    match found.fetch_one(connection).await? {
        (_, Some(instead)) => Err(sqlx::Error::Configuration(Box::new(Veiled(instead)))),
        (exists, None) => Ok(exists),
    }
}

/// A statement that is built piece by piece, together with its parameters.
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

    /// Adds a parameter, and its placeholder to the statement.
    pub(super) fn bind<'q, T: Encode<'q, Database> + Type<Database> + 'q>(&mut self, value: T) -> &mut Self {
        if let Err(cause) = self.arguments.add(value) {
            self.error = Some(sqlx::Error::Encode(cause));
        }
        let placeholder = format!("${}", self.arguments.len());
        self.push(&placeholder)
    }

    /// Adds `AND`, this condition and its value, if there is a value.
    pub(super) fn and<'q, T: Encode<'q, Database> + Type<Database> + 'q>(
        &mut self,
        condition: &str,
        value: Option<T>,
    ) {
        if let Some(value) = value {
            self.push(" AND ").push(condition).bind(value);
        }
    }

    pub(super) fn into_query(self) -> Result<Query<'static, Database, PgArguments>, AuditError> {
        match self.error {
            Some(error) => Err(store_error(error)),
            None => Ok(sqlx::query_with(self.postgres.sql(&self.sql), self.arguments)
                .persistent(self.postgres.names_statements)),
        }
    }
}

/// A `seq` as the database holds it. One beyond the greatest that it can hold becomes the greatest.
pub(super) fn bounded(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The expression of the value at this path in a JSON column.
fn place(column: &str, path: &[PathStep]) -> String {
    let places = places(path);
    let places = places.iter().map(|place| {
        let mut expression = ["(", column].concat();
        for step in place {
            // Statements that create an index run outside of a transaction, with the session's search_path.
            expression.push_str(" OPERATOR(pg_catalog.->) ");
            expression.push_str(&match step {
                PathStep::Key(key) | PathStep::Exact(key) => quoted(key),
                PathStep::Index(index) => index.to_string(),
            });
        }
        expression + ")"
    });
    match &*places.collect::<Vec<_>>() {
        [only] => only.clone(),
        several => format!("coalesce({})", several.join(", ")),
    }
}

/// The expression of the value at this path, as JSON text.
pub(super) fn metadata(column: &str, path: &[PathStep]) -> String {
    place(column, path) + "::pg_catalog.text COLLATE pg_catalog.\"C\""
}

/// The expression, which looks into an entry's metadata, or NULL if the server cannot: it stores escapes of U+0000 and of
/// surrogates, and ends a statement that looks for a value beside them. This crate writes none.
pub(super) fn if_readable(expression: &str) -> String {
    let escapes = r"E'(^|[^\\\\])(\\\\\\\\)*\\\\u(0000|[dD][89a-fA-F])'";
    format!(
        r"CASE WHEN strpos(e.metadata::text, E'\\u') = 0 OR e.metadata::text !~ {escapes} THEN {expression} END"
    )
}

/// The expression of the value at this path in the metadata. A string is itself, every other value is JSON text.
pub(super) fn plain(path: &[PathStep]) -> String {
    let place = place("e.metadata", path);
    // The operator #>> turns JSON's null into SQL's.
    format!("coalesce({place} #>> '{{}}', {place}::text) COLLATE \"C\"")
}

/// The most characters of a text that fit into an index, of which an entry may have some 2700 bytes.
const BEGINNING: usize = 250;

/// The expression that an index on a text is on: the beginning of the text.
pub(super) fn beginning(text: &str) -> String {
    format!("pg_catalog.left({text}, {BEGINNING})")
}

/// The beginning of a value, as an index has it.
pub(super) fn beginning_of(value: &str) -> String {
    value.chars().take(BEGINNING).collect()
}
