//! Making, dropping and listing indexes.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{
    Source, Sqlite, for_writing,
    open::code_of,
    read::{failed, metadata, quoted},
};
use crate::{
    AuditError, Column, IndexOn,
    reader::steps,
    store::{
        index::{Index, name_of},
        migration::{Migrate, no_tables},
    },
};

pub(super) fn sql(on: &IndexOn) -> String {
    let name = identifier(&name_of(on));
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

pub(super) async fn ensure(sqlite: &Sqlite, on: &IndexOn, migrate: Migrate) -> Result<bool, AuditError> {
    let is_there =
        "SELECT count(*) FILTER (WHERE name = 'tracing_audit_entries'), count(*) FILTER (WHERE name = ?)
                    FROM sqlite_schema";
    let has = async |connection: &mut SqliteConnection| {
        let (tables, indexes): (i64, i64) =
            sqlx::query_as(is_there).bind(name_of(on)).fetch_one(&mut *connection).await?;
        if migrate == Migrate::Auto && tables > 0 && indexes == 0 {
            sqlx::raw_sql(AssertSqlSafe(sql(on))).execute(connection).await?;
            return Ok((true, true));
        }
        Ok((tables > 0, indexes > 0))
    };
    match connected(sqlite, has).await? {
        (false, _) => Err(no_tables()),
        (true, has) => Ok(has),
    }
}

pub(super) async fn drop(sqlite: &Sqlite, on: &IndexOn) -> Result<(), AuditError> {
    let sql = format!("DROP INDEX IF EXISTS {}", identifier(&name_of(on)));
    connected(sqlite, async |connection| {
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(connection).await.map(std::mem::drop)
    })
    .await
}

/// Does this on a connection that may write.
async fn connected<T>(
    sqlite: &Sqlite,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
) -> Result<T, AuditError> {
    if let Some(file) = sqlite.file.get() {
        file.check()?;
    }
    let failed = |cause| failed(sqlite, cause);
    match &sqlite.source {
        Source::File { options, .. } => {
            // It sorts on one thread while it reads on another: a tenth to a quarter less time for which others wait.
            let options =
                for_writing(options.as_ref().clone().create_if_missing(false)).pragma("threads", "1");
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
            let done = work(&mut connection).await.map_err(failed)?;
            connection.close().await.map_err(failed)?;
            Ok(done)
        }
        Source::Pool { pool, .. } => {
            let mut connection = pool.acquire().await.map_err(failed)?;
            let done = work(&mut connection).await;
            // Not left to a task that this runtime may not live to run: a database in memory goes with its last one.
            connection.return_to_pool().await;
            done.map_err(failed)
        }
    }
}

pub(super) async fn names(sqlite: &Sqlite) -> Result<Vec<String>, AuditError> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'tracing_audit_entries' ORDER BY name";
    sqlx::query_scalar(names).fetch_all(sqlite.readers()).await.map_err(|cause| failed(sqlite, cause))
}

pub(super) async fn list(sqlite: &Sqlite) -> Result<Vec<Index>, AuditError> {
    let failed = |cause| failed(sqlite, cause);
    let mut indexes = Vec::new();
    for name in names(sqlite).await? {
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
