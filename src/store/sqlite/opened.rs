//! Notices that the files which the readers' connections have open were replaced, so that those connections are closed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use sqlx::sqlite::SqlitePoolOptions;

use super::wal::beside;
use crate::platform::{FileLook, lock};

/// The file of a database and its write-ahead log, as they were last seen.
#[derive(Clone, Debug)]
pub(super) struct Opened(Arc<(PathBuf, Mutex<Seen>)>);

/// A file by its device and its number.
type Identity = (u64, u64);

#[derive(Debug)]
struct Seen {
    database: Option<Identity>,
    /// The last one that was there. It is removed and made anew whenever no connection is open.
    log: Option<Identity>,
    /// Connections that were opened earlier have other files open, or have met an error that may come from that.
    since: Instant,
    /// The file and its log, as they were when the log was last found to belong to the file.
    checked: Option<Pair>,
}

/// A database and its log.
type Pair = (Option<Identity>, Option<Identity>);

impl Opened {
    pub(super) fn new(path: &Path) -> Self {
        let seen = Seen { database: None, log: None, since: Instant::now(), checked: None };
        Self(Arc::new((path.to_owned(), Mutex::new(seen))))
    }

    /// The options of a pool that closes a connection before it is used again if one of its files was replaced since: it
    /// would read the old one for ever.
    pub(super) fn watched(&self) -> SqlitePoolOptions {
        let (at_connect, at_acquire) = (self.clone(), self.clone());
        SqlitePoolOptions::new()
            // A connection that writes may move the log when it is closed: only this crate decides when that is.
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(move |connection, _| {
                let opened = at_connect.clone();
                Box::pin(async move {
                    // With the first read SQLite opens the write-ahead log too. An error comes back with the next read.
                    drop(sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").execute(connection).await);
                    opened.look();
                    Ok(())
                })
            })
            .before_acquire(move |_, connection| {
                let created = Instant::now().checked_sub(connection.age);
                let since = at_acquire.look();
                Box::pin(std::future::ready(Ok(created.is_some_and(|created| created >= since))))
            })
    }

    /// Connections opened until now are not used again.
    pub(super) fn distrust(&self) {
        lock(&self.0.1).since = Instant::now();
    }

    /// The log was found to belong to the file.
    pub(super) fn checked(&self, pair: Pair) {
        lock(&self.0.1).checked = Some(pair);
    }

    /// The files that were checked last.
    pub(super) fn last_checked(&self) -> Option<Pair> {
        lock(&self.0.1).checked
    }

    /// The files that there are now.
    pub(super) fn now(&self) -> Pair {
        let path = &self.0.0;
        let identity = |path: &Path| FileLook::at(path).map(|found| found.id);
        // SQLite follows a link before it names the write-ahead log.
        let log = std::fs::canonicalize(path).ok().and_then(|path| identity(&beside(&path, "-wal")));
        (identity(path), log)
    }

    /// Looks at the files, and returns since when they are the same.
    fn look(&self) -> Instant {
        let (database, log) = self.now();
        let mut seen = lock(&self.0.1);
        if seen.database != database || seen.log.is_some() && log.is_some() && seen.log != log {
            seen.since = Instant::now();
        }
        seen.database = database;
        seen.log = log.or(seen.log);
        seen.since
    }
}
