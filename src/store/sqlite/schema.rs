//! Compares the tables, indexes, triggers and views with those that this crate makes.

use std::collections::BTreeMap;

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    cancel::fetch_all,
    indexes,
    migrate::{known, tables_of_version},
    source::Sqlite,
    sql::{INSTEAD, identifier},
};
use crate::error::AuditError;
use crate::query::IndexOn;
use crate::store::{Veils, migration::versions};

const MIGRATIONS: &str = "tracing_audit_migrations";

/// The names of indexes that were created on request begin with this.
const ON_REQUEST: &str = "tracing_audit_by_";

/// Kind, name, table, and statement of an object.
type Object = (String, String, String, String);

const OBJECTS: &str = "SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_schema
     WHERE name NOT GLOB 'sqlite_*' AND (name GLOB 'tracing_audit_*' OR tbl_name GLOB 'tracing_audit_*')
     ORDER BY name";

/// The objects in the place of a table, and the heads beyond the one ledger, in words.
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

/// The finding about a table of heads with several rows.
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

/// The finding about a table with this many heads, if they are several.
pub(super) fn several_heads(heads: i64) -> Option<String> {
    (heads > 1).then(|| {
        format!("the table tracing_audit_head has {heads} rows, and a SQLite file has one ledger: that of the first")
    })
}

/// Everything that is not as this crate makes it, in words.
pub(super) async fn differences(sqlite: &Sqlite) -> Result<Vec<String>, AuditError> {
    Ok(told(sqlite).await?.into_iter().map(|told| told.message).collect())
}

/// Whether SQLite's own check of the file would evaluate what somebody has added to the tables: it can take for ever.
pub(super) async fn evaluates(sqlite: &Sqlite) -> Result<bool, AuditError> {
    Ok(told(sqlite).await?.iter().any(|told| told.evaluates))
}

/// A finding about something that is not as this crate makes it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    message: String,
    /// Whether it may hold expressions that SQLite evaluates when it checks the file.
    evaluates: bool,
}

impl Told {
    fn plain(message: String) -> Self {
        Self { message, evaluates: false }
    }
}

async fn told(sqlite: &Sqlite) -> Result<Vec<Told>, AuditError> {
    sqlite.look_again().await?;
    let store_error = |cause| sqlite.store_error(cause);
    let rows = fetch_all(sqlite, sqlx::query(OBJECTS)).await.map_err(store_error)?;
    let found = rows.iter().map(object).collect::<sqlx::Result<Vec<_>>>().map_err(store_error)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let Veils { instead, over } = veils(sqlite).await?;
    // Without that table, or with something in its place, as if the tables were those of this version.
    let has_version = instead.is_empty() && found.iter().any(|(_, name, ..)| name == MIGRATIONS);
    let (version, least, count) = if has_version {
        let version =
            "SELECT ifnull(max(version), 0), ifnull(min(version), 1), count(*) FROM tracing_audit_migrations";
        let rows = fetch_all(sqlite, sqlx::query(version)).await.map_err(store_error)?;
        let read = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        rows.first().map_or(Ok((0, 1, 0)), read).map_err(store_error)?
    } else {
        (known(), 1, known())
    };
    let mut made = tables_of_version(usize::try_from(version).unwrap_or(0)).await.map_err(store_error)?;
    let expected = objects(&mut made).await.map_err(store_error)?;
    let of_versions = versions(version, (least, count), known());
    let mut told: Vec<Told> = of_versions.into_iter().chain(over).map(Told::plain).collect();
    told.extend(compared(found, expected));
    Ok(told)
}

async fn objects(connection: &mut SqliteConnection) -> sqlx::Result<Vec<Object>> {
    sqlx::query(OBJECTS).fetch_all(connection).await?.iter().map(object).collect()
}

fn object(row: &SqliteRow) -> sqlx::Result<Object> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
}

fn compared(found: Vec<Object>, expected: Vec<Object>) -> Vec<Told> {
    let mut expected: BTreeMap<String, Object> =
        expected.into_iter().map(|object| (object.1.clone(), object)).collect();
    let mut told = Vec::new();
    for (kind, name, table, sql) in found {
        let is_evaluated = || kind == "table" || kind == "index" && !is_on_columns(&sql);
        let message = match expected.remove(&name) {
            Some((of_kind, ..)) if of_kind != kind => {
                format!("{name} is a {kind}, and should be a {of_kind}")
            }
            Some((.., of_sql)) if plain(&of_sql) != plain(&sql) => {
                format!("the {kind} {name} is not as this crate makes it: {}", plain(&sql))
            }
            Some(_) => continue,
            None if kind == "index" && is_on_request(&name, &sql) => continue,
            None => format!("there is a {kind} {name} on {table} that this crate does not make"),
        };
        told.push(Told { message, evaluates: is_evaluated() });
    }
    let missing = |(kind, name, ..): Object| Told::plain(format!("the {kind} {name} is missing"));
    told.extend(expected.into_values().map(missing));
    told
}

/// Whether this is the statement of an index that this crate makes on request under this name.
fn is_on_request(name: &str, sql: &str) -> bool {
    let Some(on) = name.strip_prefix(ON_REQUEST) else { return false };
    // SQLite puts quotation marks around the name of a table that was changed.
    let sql = sql.replacen(r#" ON "tracing_audit_entries" "#, " ON tracing_audit_entries ", 1);
    if let Ok(on @ IndexOn::Column(_)) = on.parse::<IndexOn>() {
        return sql == indexes::sql(&on).replacen("IF NOT EXISTS ", "", 1);
    }
    let begins = format!("CREATE INDEX {} ON tracing_audit_entries (", identifier(name));
    let what = || {
        let twice = sql.strip_prefix(&begins)?.strip_suffix(" IS NOT NULL")?;
        let what = twice.get(..twice.len().checked_sub(") WHERE ".len())? / 2)?;
        (twice == format!("{what}) WHERE {what}")).then_some(what)
    };
    on.starts_with("metadata.") && what().is_some_and(is_of_metadata)
}

/// Whether this is the expression of a value at one place of the metadata, or at the first of several.
fn is_of_metadata(what: &str) -> bool {
    let places = what.strip_prefix("coalesce(").and_then(|places| places.strip_suffix(')'));
    let mut rest = places.unwrap_or(what);
    loop {
        let found = rest.strip_prefix("(metadata -> '").and_then(literal);
        let Some((path, after)) = found else { return false };
        match after.strip_prefix(')') {
            Some("") => return is_path(&path),
            Some(more) if is_path(&path) => match more.strip_prefix(", ") {
                Some(next) => rest = next,
                None => return false,
            },
            _ => return false,
        }
    }
}

/// The text of an SQL literal after its first quotation mark, and what follows the last one.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut from = 0;
    loop {
        let end = from + text.get(from..)?.find('\'')?;
        let after = text.get(end + 1..)?;
        if !after.starts_with('\'') {
            return Some((text.get(..end)?.replace("''", "'"), after));
        }
        from = end + 2;
    }
}

/// Whether this is a path as this crate spells it. To store an entry, SQLite evaluates it, and refuses others.
fn is_path(path: &str) -> bool {
    let Some(mut rest) = path.strip_prefix('$') else { return false };
    while !rest.is_empty() {
        let after = if let Some(key) = rest.strip_prefix('.') {
            let mut keys = serde_json::Deserializer::from_str(key).into_iter::<String>();
            match keys.next() {
                Some(Ok(_)) => key.get(keys.byte_offset()..),
                _ => None,
            }
        } else {
            let index = rest.strip_prefix('[').and_then(|index| index.split_once(']'));
            index.filter(|(index, _)| index.parse::<u64>().is_ok()).map(|(_, after)| after)
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    true
}

/// Whether an index is on whole columns of all rows, so that SQLite evaluates nothing.
fn is_on_columns(sql: &str) -> bool {
    let columns = sql.split_once('(').and_then(|(_, columns)| columns.trim_end().strip_suffix(')'));
    let is_column = |part: &str| {
        let mut words = part.split_whitespace();
        let is_name = words.next().is_some_and(|word| {
            let name = word.trim_matches('"');
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        let is_order =
            words.next().is_none_or(|word| ["ASC", "DESC"].contains(&word.to_ascii_uppercase().as_str()));
        is_name && is_order && words.next().is_none()
    };
    columns.is_some_and(|columns| columns.split(',').all(is_column))
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
            let told = compared(objects(&mut connection).await.unwrap(), ours.clone());
            told.into_iter().map(|told| told.message).collect::<Vec<_>>()
        };
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

    #[tokio::test]
    async fn an_index_of_somebody_else_is_named_and_one_on_request_is_known_by_its_name_and_its_statement() {
        let mut connection = migrated_in_memory().await.unwrap();
        let ours = objects(&mut connection).await.unwrap();
        for on in
            ["agent_id", "action", "decision", "metadata.client.ip", "metadata.a'b[0]", "metadata.userId"]
        {
            let sql = indexes::sql(&on.parse::<IndexOn>().unwrap());
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        let long = format!("metadata.{}.ip", "k".repeat(80));
        let sql = indexes::sql(&long.parse::<IndexOn>().unwrap());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        assert_eq!(compared(objects(&mut connection).await.unwrap(), ours.clone()), []);
        let renamed = "ALTER TABLE tracing_audit_entries RENAME TO away; ALTER TABLE away RENAME TO tracing_audit_entries";
        sqlx::raw_sql(renamed).execute(&mut connection).await.unwrap();
        assert_eq!(compared(objects(&mut connection).await.unwrap(), ours.clone()), []);
        for (index, evaluates) in [
            ("zz ON tracing_audit_batches (writer)", false),
            ("zz ON tracing_audit_entries (\"reason\" DESC, ts)", false),
            ("recent ON tracing_audit_entries (abs(-9223372036854775807 - (action LIKE 'audit.%')))", true),
            ("recent ON tracing_audit_entries (ts) WHERE abs(ts) > 0", true),
            ("recent ON tracing_audit_entries (action COLLATE NOCASE)", true),
            ("tracing_audit_by_session_id ON tracing_audit_entries (printf('%.*c', 100, 'x'))", true),
            ("tracing_audit_by_resource ON tracing_audit_entries (reason)", false),
            ("tracing_audit_by_x ON tracing_audit_entries (reason)", false),
            ("\"tracing_audit_by_metadata.x\" ON tracing_audit_entries ((metadata -> '$['))", true),
            (
                "\"tracing_audit_by_metadata.x\" ON tracing_audit_entries ((metadata -> '$.\"x')) WHERE (metadata -> '$.\"x') IS NOT NULL",
                true,
            ),
        ] {
            let sql = format!("CREATE INDEX {index}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            let told = compared(objects(&mut connection).await.unwrap(), ours.clone());
            let name = index.split(" ON ").next().unwrap();
            assert_eq!((told.len(), told[0].evaluates), (1, evaluates), "{index}: {told:?}");
            assert!(told[0].message.contains("that this crate does not make"), "{index}: {told:?}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP INDEX {name}")))
                .execute(&mut connection)
                .await
                .unwrap();
        }
        let generated =
            "ALTER TABLE tracing_audit_entries ADD COLUMN g text AS (printf('%.*c', 100, 'x')) VIRTUAL";
        sqlx::raw_sql(generated).execute(&mut connection).await.unwrap();
        let told = compared(objects(&mut connection).await.unwrap(), ours);
        assert!(told.len() == 1 && told[0].evaluates, "{told:?}");
    }
}
