//! Compares the tables, indexes, triggers and views with those that this crate makes.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    cancel::fetch_all,
    migrate::{known, tables_of_version},
    source::Sqlite,
    sql::INSTEAD,
};
use crate::error::AuditError;
use crate::store::{Veils, migration::unknown_version};

const MIGRATIONS: &str = "tracing_audit_migrations";

/// The names of indexes that were created on request begin with this.
const ON_REQUEST: &str = "tracing_audit_by_";

/// Kind, name, table, and statement of an object.
type Object = (String, String, String, String);

const OBJECTS: &str = "SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_schema
     WHERE name NOT GLOB 'sqlite_*' AND (name GLOB 'tracing_audit_*' OR tbl_name GLOB 'tracing_audit_*')
     ORDER BY name";

/// What stands in the place of a table, and heads of more than the one ledger, in words.
pub(super) async fn veils(sqlite: &Sqlite) -> Result<Veils, AuditError> {
    sqlite.look_again().await?;
    let instead = texts(sqlite, sqlx::query(INSTEAD)).await?;
    let over = if instead.is_empty() { heads(sqlite).await?.into_iter().collect() } else { Vec::new() };
    Ok(Veils { instead, over })
}

async fn texts(sqlite: &Sqlite, statement: Statement) -> Result<Vec<String>, AuditError> {
    let rows = fetch_all(sqlite, statement).await.map_err(|cause| sqlite.store_error(cause))?;
    let texts = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>();
    texts.map_err(|cause| sqlite.store_error(cause))
}

type Statement = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// What is said of a table of heads with several rows.
async fn heads(sqlite: &Sqlite) -> Result<Option<String>, AuditError> {
    if !sqlite.has_table("tracing_audit_head").await? {
        return Ok(None);
    }
    let count = sqlx::query("SELECT count(*) FROM tracing_audit_head");
    let rows = fetch_all(sqlite, count).await.map_err(|cause| sqlite.store_error(cause))?;
    let heads =
        rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(|cause| sqlite.store_error(cause))?;
    Ok(several_heads(heads))
}

/// What is said of a table with so many heads, if they are several.
pub(super) fn several_heads(heads: i64) -> Option<String> {
    (heads > 1).then(|| {
        format!("the table tracing_audit_head has {heads} rows, and a SQLite file has one ledger: that of the first")
    })
}

/// Everything that is not as this crate makes it, in words.
pub(super) async fn differences(sqlite: &Sqlite) -> Result<Vec<String>, AuditError> {
    sqlite.look_again().await?;
    let store_error = |cause| sqlite.store_error(cause);
    let Veils { instead, over } = veils(sqlite).await?;
    let rows = fetch_all(sqlite, sqlx::query(OBJECTS)).await.map_err(store_error)?;
    let found = rows.iter().map(object).collect::<sqlx::Result<Vec<_>>>().map_err(store_error)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Without that table, or with something in its place, as if the tables were those of this version.
    let has_version = instead.is_empty() && found.iter().any(|(_, name, ..)| name == MIGRATIONS);
    let version = if has_version {
        let version = "SELECT ifnull(max(version), 0) FROM tracing_audit_migrations";
        let rows = fetch_all(sqlite, sqlx::query(version)).await.map_err(store_error)?;
        rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0)).map_err(store_error)?
    } else {
        known()
    };
    let mut made = tables_of_version(usize::try_from(version).unwrap_or(0)).await.map_err(store_error)?;
    let expected = objects(&mut made).await.map_err(store_error)?;
    let mut told = if version > known() { vec![unknown_version(version, known())] } else { Vec::new() };
    told.extend(over);
    told.extend(compared(found, expected));
    Ok(told)
}

async fn objects(connection: &mut SqliteConnection) -> sqlx::Result<Vec<Object>> {
    sqlx::query(OBJECTS).fetch_all(connection).await?.iter().map(object).collect()
}

fn object(row: &SqliteRow) -> sqlx::Result<Object> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
}

fn compared(found: Vec<Object>, expected: Vec<Object>) -> Vec<String> {
    let mut expected: BTreeMap<String, Object> =
        expected.into_iter().map(|object| (object.1.clone(), object)).collect();
    let mut told = Vec::new();
    for (kind, name, table, sql) in found {
        match expected.remove(&name) {
            Some((of_kind, ..)) if of_kind != kind => {
                told.push(format!("{name} is a {kind}, and should be a {of_kind}"));
            }
            Some((.., of_sql)) if plain(&of_sql) != plain(&sql) => {
                told.push(format!("the {kind} {name} is not as this crate makes it: {}", plain(&sql)));
            }
            Some(_) => {}
            None if kind == "index" && name.starts_with(ON_REQUEST) => {}
            None if kind == "index" && !sql.to_ascii_uppercase().starts_with("CREATE UNIQUE") => {}
            None => told.push(format!("there is a {kind} {name} on {table} that this crate does not make")),
        }
    }
    told.extend(expected.into_values().map(|(kind, name, ..)| format!("the {kind} {name} is missing")));
    told
}

/// The statement with one blank in place of each run of white space, without comments, and without the quotation marks that
/// SQLite puts around a name that was changed.
fn plain(sql: &str) -> String {
    let sql = sql.replace('"', "");
    let without_comments = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let words = without_comments.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{super::migrate::migrated_in_memory, *};

    #[tokio::test]
    async fn what_is_added_changed_or_missing_is_named_and_an_index_on_request_is_not() {
        let mut connection = migrated_in_memory().await.unwrap();
        let ours = objects(&mut connection).await.unwrap();
        assert!(ours.len() > 15, "{ours:?}");
        let mut told = async |sql: &'static str| {
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            compared(objects(&mut connection).await.unwrap(), ours.clone())
        };
        let on_request = "CREATE INDEX tracing_audit_by_x ON tracing_audit_entries (reason);
                          CREATE INDEX dba ON tracing_audit_entries (ts)";
        assert_eq!(told(on_request).await, Vec::<String>::new());
        let trigger = "CREATE TRIGGER t AFTER INSERT ON tracing_audit_batches BEGIN SELECT 1; END";
        assert_eq!(
            told(trigger).await,
            ["there is a trigger t on tracing_audit_batches that this crate does not make"]
        );
        let unique = "DROP TRIGGER t; CREATE UNIQUE INDEX u ON tracing_audit_entries (action)";
        assert_eq!(
            told(unique).await,
            ["there is a index u on tracing_audit_entries that this crate does not make"]
        );
        let view = "DROP INDEX u; DROP VIEW tracing_audit_log; CREATE VIEW tracing_audit_log AS SELECT 1";
        assert_eq!(
            told(view).await,
            [
                "the view tracing_audit_log is not as this crate makes it: CREATE VIEW tracing_audit_log AS SELECT 1"
            ]
        );
        let missing = "DROP INDEX tracing_audit_entries_gaps; DROP TABLE tracing_audit_quarantine;
                       CREATE VIEW tracing_audit_quarantine AS SELECT 1";
        assert_eq!(
            told(missing).await[1..],
            [
                "tracing_audit_quarantine is a view, and should be a table",
                "the index tracing_audit_entries_gaps is missing"
            ]
        );
    }
}
