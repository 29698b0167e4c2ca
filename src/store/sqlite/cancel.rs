//! Cancellable statements: when the caller drops the future, SQLite stops working on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{TryStreamExt, stream::BoxStream};
use sqlx::{
    pool::PoolConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::source::{Source, Sqlite};

/// Steps of SQLite's virtual machine between two checks whether to continue: a few milliseconds.
const STEPS: i32 = 100_000;

/// All rows of the statement, which may look at every entry.
pub(super) async fn fetch_all(
    sqlite: &Sqlite,
    statement: Query<'static, sqlx::Sqlite, SqliteArguments>,
) -> sqlx::Result<Vec<SqliteRow>> {
    Cancellable::of(sqlite).await?.fetch_all(statement).await
}

/// Hands over the rows of the statement, which may look at every entry, until `take` returns `false`.
pub(super) async fn fetch_while(
    sqlite: &Sqlite,
    statement: Query<'static, sqlx::Sqlite, SqliteArguments>,
    take: impl FnMut(SqliteRow) -> bool,
) -> sqlx::Result<()> {
    Cancellable::of(sqlite).await?.fetch_while(statement, take).await
}

async fn hand_over(
    mut rows: BoxStream<'_, sqlx::Result<SqliteRow>>,
    mut take: impl FnMut(SqliteRow) -> bool,
) -> sqlx::Result<()> {
    while let Some(row) = rows.try_next().await? {
        if !take(row) {
            break;
        }
    }
    Ok(())
}

/// A connection for reading, whose statement stops when this is dropped before it has returned.
///
/// On an application's pool the statement continues after the caller has dropped the future. To stop it would close the
/// connection, and a database in memory ends with its last connection.
pub(super) struct Cancellable {
    connection: PoolConnection<sqlx::Sqlite>,
    /// `None` on an application's pool.
    continues: Option<Arc<AtomicBool>>,
    /// Whether no statement is being worked on.
    ended: bool,
}

impl Cancellable {
    pub(super) async fn of(sqlite: &Sqlite) -> sqlx::Result<Self> {
        let connection = sqlite.readers().acquire().await?;
        if matches!(sqlite.source, Source::Pool { .. }) {
            return Ok(Self { connection, continues: None, ended: true });
        }
        let continues = Arc::new(AtomicBool::new(true));
        let mut cancellable = Self { connection, continues: Some(Arc::clone(&continues)), ended: false };
        let mut handle = cancellable.connection.lock_handle().await?;
        handle.set_progress_handler(STEPS, move || continues.load(Ordering::Relaxed));
        drop(handle);
        cancellable.ended = true;
        Ok(cancellable)
    }

    /// All rows of the statement.
    pub(super) async fn fetch_all(
        &mut self,
        statement: Query<'static, sqlx::Sqlite, SqliteArguments>,
    ) -> sqlx::Result<Vec<SqliteRow>> {
        let mut rows = Vec::new();
        let take = |row| {
            rows.push(row);
            true
        };
        self.fetch_while(statement, take).await?;
        Ok(rows)
    }

    /// The row of a statement that has one.
    pub(super) async fn fetch_one(
        &mut self,
        statement: Query<'static, sqlx::Sqlite, SqliteArguments>,
    ) -> sqlx::Result<SqliteRow> {
        self.fetch_all(statement).await?.pop().ok_or(sqlx::Error::RowNotFound)
    }

    /// Hands over the rows of the statement until `take` returns `false`.
    pub(super) async fn fetch_while(
        &mut self,
        statement: Query<'static, sqlx::Sqlite, SqliteArguments>,
        take: impl FnMut(SqliteRow) -> bool,
    ) -> sqlx::Result<()> {
        self.ended = false;
        let done = hand_over(statement.fetch(&mut *self.connection), take).await;
        self.ended = true;
        done
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        if let Some(continues) = self.continues.as_ref().filter(|_| !self.ended) {
            continues.store(false, Ordering::Relaxed);
            // Close the connection: the handler would interrupt its next statement too.
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::{Row as _, sqlite::SqliteConnectOptions};

    use super::{super::source::READERS, *};

    #[tokio::test]
    async fn a_statement_whose_future_is_dropped_ends_and_later_ones_are_answered() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        std::fs::File::create(&file).unwrap();
        let sqlite = Sqlite::with_options(SqliteConnectOptions::new().filename(file));
        let answers = async || {
            let row = fetch_all(&sqlite, sqlx::query("SELECT 7")).await.unwrap().remove(0);
            row.get::<i64, _>(0) == 7
        };
        for _ in 0..2 * READERS {
            let endless =
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
            let endless = fetch_all(&sqlite, sqlx::query(endless));
            tokio::time::timeout(Duration::from_millis(20), endless).await.unwrap_err();
        }
        for _ in 0..2 * READERS {
            assert!(tokio::time::timeout(Duration::from_mins(1), answers()).await.unwrap());
        }
    }
}
