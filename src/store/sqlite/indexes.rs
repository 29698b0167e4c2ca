//! Creates, drops and lists indexes.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::{
    error::code_of,
    source::{SORTED_IN_MEMORY, Source, Sqlite, for_writing},
    sql::{identifier, metadata, quoted},
};
use crate::error::AuditError;
use crate::platform::temporary_directory;
use crate::query::{Column, IndexOn, steps};
use crate::store::{
    Index, Migrate,
    index::{name_of, names_of},
    migration::no_tables,
};

/// The statement that creates this index.
pub(super) fn sql(on: &IndexOn) -> String {
    let name = identifier(&name_of(on));
    let what = match on {
        IndexOn::Column(column) => column.name().to_owned(),
        IndexOn::Metadata(path) => metadata("metadata", &steps(path)),
    };
    // Nobody searches for NULL, so leave NULLs out of the index.
    let some = match on {
        IndexOn::Column(Column::Action | Column::Resource | Column::Decision) => String::new(),
        _ => format!(" WHERE {what} IS NOT NULL"),
    };
    format!("CREATE INDEX IF NOT EXISTS {name} ON tracing_audit_entries ({what}){some}")
}

/// Whether this index exists afterwards: it is created if it does not exist, unless `migrate` forbids that.
pub(super) async fn ensure(sqlite: &Sqlite, on: &IndexOn, migrate: Migrate) -> Result<bool, AuditError> {
    let exist =
        "SELECT count(*) FILTER (WHERE name = 'tracing_audit_entries'), count(*) FILTER (WHERE name = ?)
                    FROM sqlite_schema";
    let ensure = async |connection: &mut SqliteConnection| {
        let (tables, indexes): (i64, i64) =
            sqlx::query_as(exist).bind(name_of(on)).fetch_one(&mut *connection).await?;
        if migrate == Migrate::Auto && tables > 0 && indexes == 0 {
            sort_in_memory_if_small(&mut *connection).await?;
            sqlx::raw_sql(AssertSqlSafe(sql(on))).execute(connection).await?;
            return Ok((true, true));
        }
        Ok((tables > 0, indexes > 0))
    };
    match connected(sqlite, ensure).await? {
        (false, _) => Err(no_tables()),
        (true, exists) => Ok(exists),
    }
}

/// Sorts in memory if SQLite can make no temporary file and the entries are few enough. If they are too many, SQLite
/// still tries to make one: creating the index is then an error, which names the remedy.
async fn sort_in_memory_if_small(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    if temporary_directory().is_some() {
        return Ok(());
    }
    let entries = "SELECT ifnull(max(next_seq), 0) FROM tracing_audit_head";
    let entries: i64 = sqlx::query_scalar(entries).fetch_one(&mut *connection).await?;
    let place = if entries > SORTED_IN_MEMORY { "FILE" } else { "MEMORY" };
    sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA temp_store = {place}")))
        .execute(connection)
        .await
        .map(std::mem::drop)
}

/// Drops this index, if it exists.
pub(super) async fn drop(sqlite: &Sqlite, on: &IndexOn) -> Result<(), AuditError> {
    let drop = |name: &String| format!("DROP INDEX IF EXISTS {};", identifier(name));
    let sql: String = names_of(on).iter().map(drop).collect();
    connected(sqlite, async |connection| {
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(connection).await.map(std::mem::drop)
    })
    .await
}

/// Does `work` on a connection that may write.
async fn connected<T>(
    sqlite: &Sqlite,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
) -> Result<T, AuditError> {
    if let Some(file) = sqlite.file.get() {
        file.check()?;
    }
    sqlite.look_again().await?;
    sqlite.keep_damaged_log().await?;
    let store_error = |cause| sqlite.store_error(cause);
    match &sqlite.source {
        Source::File { options, .. } => {
            // Sort on one thread while reading on another: other writers wait for a tenth to a quarter less time.
            let options =
                for_writing(options.as_ref().clone().create_if_missing(false)).pragma("threads", "1");
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(store_error)?;
            let done = work(&mut connection).await.map_err(store_error)?;
            connection.close().await.map_err(store_error)?;
            Ok(done)
        }
        Source::Pool { pool, .. } => {
            let mut connection = pool.acquire().await.map_err(store_error)?;
            let done = work(&mut connection).await;
            // Return the connection here: dropping it would spawn a task, which this runtime may not live to run, and a
            // database in memory ends with its last connection.
            connection.return_to_pool().await;
            done.map_err(store_error)
        }
    }
}

/// The names of all indexes of the entries.
pub(super) async fn names(sqlite: &Sqlite) -> Result<Vec<String>, AuditError> {
    sqlite.look_again().await?;
    let names = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'tracing_audit_entries' ORDER BY name";
    sqlx::query_scalar(names).fetch_all(sqlite.readers()).await.map_err(|cause| sqlite.store_error(cause))
}

/// All indexes of the entries, with their size.
pub(super) async fn list(sqlite: &Sqlite) -> Result<Vec<Index>, AuditError> {
    let store_error = |cause| sqlite.store_error(cause);
    let mut indexes = Vec::new();
    for name in names(sqlite).await? {
        // The name must be a literal: only then does dbstat look at this index alone.
        let bytes =
            format!("SELECT sum(pgsize) FROM dbstat WHERE name = {} AND aggregate = TRUE", quoted(&name));
        let bytes = sqlx::query_scalar::<_, i64>(AssertSqlSafe(bytes)).fetch_one(sqlite.readers()).await;
        let bytes = match bytes {
            Ok(bytes) => Some(bytes.cast_unsigned()),
            // This SQLite was compiled without the table dbstat.
            Err(cause) if code_of(&cause) == Some(1) => None,
            Err(cause) => return Err(store_error(cause)),
        };
        indexes.push(Index::new(name, true, bytes, None));
    }
    Ok(indexes)
}
