//! Making, dropping and listing indexes.

use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

use super::{
    Source, Sqlite, for_writing,
    open::code_of,
    read::{failed, has_table, has_tables, metadata, quoted},
};
use crate::{
    AuditError, Column, IndexOn,
    reader::steps,
    store::{Index, no_tables},
};

pub(super) fn sql(on: &IndexOn) -> String {
    let name = identifier(&on.name());
    let what = match on {
        IndexOn::Column(column) => column.name().to_owned(),
        IndexOn::Metadata(path) => metadata("metadata", &steps(path)),
    };
    // Where there is nothing, nothing is looked for.
    let some = match on {
        IndexOn::Column(Column::Action | Column::Resource | Column::Decision) => String::new(),
        _ => format!(" WHERE {what} IS NOT NULL"),
    };
    format!("CREATE INDEX IF NOT EXISTS {name} ON tracing_audit_entries ({what}){some}")
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) async fn create(sqlite: &Sqlite, name: &str, sql: &str) -> Result<(), AuditError> {
    if !has_tables(sqlite).await? {
        return Err(no_tables());
    }
    if has_table(sqlite, name).await? {
        return Ok(());
    }
    run(sqlite, sql.to_owned()).await
}

pub(super) async fn drop(sqlite: &Sqlite, name: &str) -> Result<(), AuditError> {
    run(sqlite, format!("DROP INDEX IF EXISTS {}", identifier(name))).await
}

async fn run(sqlite: &Sqlite, sql: String) -> Result<(), AuditError> {
    if let Some(file) = sqlite.file.get() {
        file.check()?;
    }
    let failed = |cause| failed(sqlite, cause);
    let sql = sqlx::raw_sql(AssertSqlSafe(sql));
    match &sqlite.source {
        Source::File { options, .. } => {
            let options = for_writing(options.as_ref().clone().create_if_missing(false));
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
            sql.execute(&mut connection).await.map_err(failed)?;
            connection.close().await.map_err(failed)
        }
        Source::Pool { pool, .. } => sql.execute(pool).await.map(std::mem::drop).map_err(failed),
    }
}

pub(super) async fn list(sqlite: &Sqlite) -> Result<Vec<Index>, AuditError> {
    let failed = |cause| failed(sqlite, cause);
    let names = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'tracing_audit_entries' ORDER BY name";
    let names = sqlx::query(names).fetch_all(sqlite.readers()).await.map_err(failed)?;
    let mut indexes = Vec::new();
    for row in names {
        let name: String = row.try_get(0).map_err(failed)?;
        // A literal: only so does it look at this index alone.
        let bytes =
            format!("SELECT sum(pgsize) FROM dbstat WHERE name = {} AND aggregate = TRUE", quoted(&name));
        let bytes = sqlx::query_scalar::<_, i64>(AssertSqlSafe(bytes)).fetch_one(sqlite.readers()).await;
        let bytes = match bytes {
            Ok(bytes) => Some(bytes.cast_unsigned()),
            // A SQLite that was compiled without that table.
            Err(cause) if code_of(&cause) == Some(1) => None,
            Err(cause) => return Err(failed(cause)),
        };
        indexes.push(Index::new(name, true, bytes, None));
    }
    Ok(indexes)
}
