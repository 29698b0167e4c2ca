//! Moves the write-ahead log into the database, so that the one file is all: when the log is idle, and at its end.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};

use super::source::{for_writing, turn};
use crate::platform::Turns;

/// The time that a pool may take to get a connection back that nobody uses any more. A reader in the middle of a
/// transaction is not waited for any longer.
pub(super) const TAKEN_BACK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(2);

/// Closes the connections of these pools that nobody uses, and waits until they are closed. A pool takes a connection
/// back a moment after its last use: that is waited for at most this long.
pub(super) async fn close_idle(pools: &[Arc<OnceLock<SqlitePool>>], at_most: Duration) {
    let until = Instant::now() + at_most;
    for pool in pools.iter().filter_map(|pool| pool.get()) {
        while pool.size() > 0 {
            match pool.try_acquire() {
                Some(connection) => drop(connection.close().await),
                None if Instant::now() >= until => break,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// Moves the write-ahead log into the database, on a connection of its own, while a writer may go on. False: a reader,
/// another writer or an error was in the way of some of it.
///
/// The first part is moved without a lock that a writer or a reader would wait for. The log is then emptied under the
/// writer's lock, in a turn, and after the commits of the meantime have been moved: only a writer without turns can
/// leave it something to move.
pub(super) async fn move_log(options: SqliteConnectOptions) -> bool {
    let options = for_writing(options).create_if_missing(false).busy_timeout(Duration::ZERO);
    let Ok(mut connection) = options.connect().await else { return false };
    let mut turns = Turns::beside(options.get_filename().to_owned()).await.ok();
    let moved = moved(&mut connection, &mut turns).await.unwrap_or(false);
    drop(connection.close().await);
    moved
}

async fn moved(connection: &mut SqliteConnection, turns: &mut Option<Turns>) -> sqlx::Result<bool> {
    let passive = "PRAGMA wal_checkpoint(PASSIVE)";
    let (_, all, done): (i64, i64, i64) = sqlx::query_as(passive).fetch_one(&mut *connection).await?;
    if all != done {
        return Ok(false);
    }
    // -1: there is no write-ahead log.
    if all < 0 {
        return Ok(true);
    }
    let _turn = turn(turns).await;
    let (_, all, done): (i64, i64, i64) = sqlx::query_as(passive).fetch_one(&mut *connection).await?;
    if all != done {
        return Ok(false);
    }
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    let (busy, ..): (i64, i64, i64) = sqlx::query_as(truncate).fetch_one(connection).await?;
    Ok(busy == 0)
}
