//! A statement that may look at every entry, and ends with the wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{
    pool::PoolConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{Source, Sqlite};

/// Steps of SQLite's machine after which it asks whether to go on: a few milliseconds.
const STEPS: i32 = 100_000;

/// All rows of the statement. On an application's pool it goes on although nobody waits: to end it would take the
/// connection away, and with the last one goes a database in memory.
pub(super) async fn all_of(
    sqlite: &Sqlite,
    statement: Query<'static, sqlx::Sqlite, SqliteArguments>,
) -> sqlx::Result<Vec<SqliteRow>> {
    if matches!(sqlite.source, Source::Pool { .. }) {
        return statement.fetch_all(sqlite.readers()).await;
    }
    let connection = sqlite.readers().acquire().await?;
    let mut waited = Waited { connection, goes_on: Arc::new(AtomicBool::new(true)), ended: false };
    let goes_on = Arc::clone(&waited.goes_on);
    let mut handle = waited.connection.lock_handle().await?;
    handle.set_progress_handler(STEPS, move || goes_on.load(Ordering::Relaxed));
    drop(handle);
    let rows = statement.fetch_all(&mut *waited.connection).await;
    waited.ended = true;
    rows
}

struct Waited {
    connection: PoolConnection<sqlx::Sqlite>,
    goes_on: Arc<AtomicBool>,
    ended: bool,
}

impl Drop for Waited {
    fn drop(&mut self) {
        if !self.ended {
            self.goes_on.store(false, Ordering::Relaxed);
            // It would be interrupted in what it does next.
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::Row as _;

    use super::{super::READERS, *};

    #[tokio::test]
    async fn a_statement_that_nobody_waits_for_any_more_ends_and_others_are_answered() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        std::fs::File::create(&file).unwrap();
        let sqlite = Sqlite::of_file(file);
        let answers = async || {
            let row = all_of(&sqlite, sqlx::query("SELECT 7")).await.unwrap().remove(0);
            row.get::<i64, _>(0) == 7
        };
        for _ in 0..2 * READERS {
            let endless =
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
            let endless = all_of(&sqlite, sqlx::query(endless));
            tokio::time::timeout(Duration::from_millis(20), endless).await.unwrap_err();
        }
        for _ in 0..2 * READERS {
            assert!(tokio::time::timeout(Duration::from_mins(1), answers()).await.unwrap());
        }
    }
}
