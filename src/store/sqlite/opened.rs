//! Notices that files under the readers' open connections were replaced, so that those connections are closed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::sqlite::SqlitePoolOptions;

use super::wal::beside;
use crate::platform::{FileLook, lock};

/// The age at which a connection is closed and opened again. A change of the files in the middle of its opening can
/// leave it with a mixture that no look at them shows.
const BELIEVED: Duration = Duration::from_mins(1);

/// The file of a database and those that SQLite keeps beside it, as they were last seen.
#[derive(Clone, Debug)]
pub(super) struct Opened(Arc<(PathBuf, Mutex<Seen>)>);

/// A file by its device and its number.
type Identity = (u64, u64);

#[derive(Debug)]
struct Seen {
    database: Option<Identity>,
    /// The last write-ahead log and the last index of it that existed. Both are removed and created again whenever no
    /// connection is open.
    beside: [Option<Identity>; 2],
    /// Connections that were opened earlier have other files open, or have met an error that may come from that.
    since: Instant,
    /// Whether the last connection may have other files open than those that were seen after it was opened.
    is_suspect: bool,
    /// Whether the last connection was opened because the one before was suspected for its log.
    is_second: bool,
    /// The file and its log, as they were when the log was last found to belong to the file.
    checked: Option<Pair>,
    /// The same as they were before the last read.
    before: Option<(FileLook, Option<FileLook>)>,
    /// Damage to the log, in words, and the log as it was when the damage was found.
    damage: Option<(String, Option<FileLook>)>,
    /// Damage that the log had before this process wrote over it, in words.
    kept: Option<String>,
}

/// A database and its log.
type Pair = (Option<Identity>, Option<Identity>);

impl Opened {
    pub(super) fn new(path: &Path) -> Self {
        let (database, since) = (None, Instant::now());
        let seen = Seen {
            database,
            beside: [None; 2],
            since,
            is_suspect: false,
            is_second: false,
            checked: None,
            before: None,
            damage: None,
            kept: None,
        };
        Self(Arc::new((path.to_owned(), Mutex::new(seen))))
    }

    /// The options of a pool that closes a connection before it is used again if one of its files was replaced since: it
    /// would read the old one for ever.
    pub(super) fn watched(&self) -> SqlitePoolOptions {
        let (at_connect, at_acquire) = (self.clone(), self.clone());
        // A first connection is compared with the files that existed before it.
        lock(&self.0.1).database = self.now().0;
        SqlitePoolOptions::new()
            // A connection that writes may move the log when it is closed: only this crate decides when that is.
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(move |connection, _| {
                let opened = at_connect.clone();
                Box::pin(async move {
                    // With the first read SQLite opens the write-ahead log too. An error comes back with the next read.
                    drop(sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").execute(connection).await);
                    opened.look_after_opening();
                    Ok(())
                })
            })
            .before_acquire(move |_, connection| {
                let created = Instant::now().checked_sub(connection.age);
                let since = at_acquire.look();
                let is_believed =
                    connection.age < BELIEVED && created.is_some_and(|created| created >= since);
                Box::pin(std::future::ready(Ok(is_believed)))
            })
    }

    /// Connections opened until now are not used again.
    pub(super) fn distrust(&self) {
        lock(&self.0.1).since = Instant::now();
    }

    /// The log was found to belong to the file, and to be damaged as this says.
    pub(super) fn checked(&self, pair: Pair, damage: Option<String>) {
        let (_, [log, _]) = self.looks();
        let mut seen = lock(&self.0.1);
        seen.checked = Some(pair);
        seen.damage = damage.map(|damage| (damage, log));
    }

    /// Whether no damage to the log was found, or the log is as it was then.
    pub(super) fn is_damage_known(&self) -> bool {
        let Some((_, then)) = lock(&self.0.1).damage.clone() else { return true };
        let (_, [log, _]) = self.looks();
        then == log
    }

    /// A copy was made of the damaged log, over which this process writes.
    pub(super) fn kept(&self, told: String) {
        lock(&self.0.1).kept = Some(told);
    }

    /// Damage to the log, or what it was before this process wrote over it, in words.
    pub(super) fn damage(&self) -> Option<String> {
        let seen = lock(&self.0.1);
        seen.kept.clone().or_else(|| seen.damage.as_ref().map(|(damage, _)| damage.clone()))
    }

    /// The files that were checked last.
    pub(super) fn last_checked(&self) -> Option<Pair> {
        lock(&self.0.1).checked
    }

    /// The files that there are now.
    pub(super) fn now(&self) -> Pair {
        let (database, [log, _]) = self.looks();
        (database.map(|found| found.id), log.map(|found| found.id))
    }

    fn looks(&self) -> (Option<FileLook>, [Option<FileLook>; 2]) {
        let path = &self.0.0;
        // SQLite follows a link before it names what is beside the file.
        let file = std::fs::canonicalize(path).ok();
        let look = |suffix| file.as_ref().and_then(|file| FileLook::at(&beside(file, suffix)));
        (FileLook::at(path), ["-wal", "-shm"].map(look))
    }

    /// Whether the database was written since the last call, and not through the log that was there then. Then a writer has
    /// a log open that was removed under it, and no connection to another log notices what the writer commits. It is also so
    /// for a moment while a log is moved into its database.
    pub(super) fn is_written_past(&self) -> bool {
        let (Some(database), [log, _]) = self.looks() else { return false };
        let before = lock(&self.0.1).before.replace((database, log));
        before.is_some_and(|(then, log_then)| {
            let is_through_log = log.zip(log_then).is_some_and(|(log, then)| log.is_written_since(&then));
            database.is_written_since(&then) && !is_through_log
        })
    }

    /// Looks at the files once a connection has opened them.
    ///
    /// If they are others than at the last look, they may have been replaced before the connection opened them or after.
    /// So it is used once, and then closed. The files beside the database are also created again whenever no other
    /// connection is open, so that a second connection with others is believed.
    fn look_after_opening(&self) {
        let (database, now) = self.looks();
        let database = database.map(|found| found.id);
        let mut seen = lock(&self.0.1);
        let is_other = |(seen, now): (&Option<Identity>, &Option<FileLook>)| {
            seen.zip(*now).is_some_and(|(seen, now)| seen != now.id)
        };
        let is_made_anew = seen.beside.iter().zip(&now).any(is_other);
        if seen.database != database || is_made_anew {
            seen.since = Instant::now();
            seen.is_suspect = seen.database != database || !seen.is_second;
        }
        seen.is_second = is_made_anew && !seen.is_second;
        seen.keep(database, now);
    }

    /// Looks at the files before a connection is used again, and returns since when they are the same.
    fn look(&self) -> Instant {
        let (database, now) = self.looks();
        let database = database.map(|found| found.id);
        let mut seen = lock(&self.0.1);
        // A file that comes is not the one that a connection has open, which was removed already.
        let is_other = |(seen, now): (&Option<Identity>, &Option<FileLook>)| {
            now.is_some_and(|now| *seen != Some(now.id))
        };
        if seen.database != database || seen.beside.iter().zip(&now).any(is_other) || seen.is_suspect {
            seen.since = Instant::now();
        }
        seen.is_suspect = false;
        seen.keep(database, now);
        seen.since
    }
}

impl Seen {
    fn keep(&mut self, database: Option<Identity>, beside: [Option<FileLook>; 2]) {
        self.database = database;
        for (seen, now) in self.beside.iter_mut().zip(beside) {
            *seen = now.map(|now| now.id).or(*seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A connection that is opened between two looks at its files.
    fn opened(opened: &Opened, meanwhile: impl FnOnce()) -> Instant {
        meanwhile();
        opened.look_after_opening();
        // The pool notes the time afterwards.
        Instant::now()
    }

    #[test]
    fn a_connection_is_closed_if_a_file_was_replaced_while_it_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        let [log, index, other] =
            ["audit.db-wal", "audit.db-shm", "other"].map(|name| directory.path().join(name));
        let make = |path: &Path| fs::write(path, "1").unwrap();
        let replace = |path: &Path| {
            make(&other);
            fs::rename(&other, path).unwrap();
        };
        make(&path);
        let files = Opened::new(&path);
        drop(files.watched());
        let first = opened(&files, || replace(&path));
        assert!(files.look() > first);
        let whole = opened(&files, || make(&log));
        assert!(files.look() <= whole && files.look() <= whole);
        let late = opened(&files, || replace(&log));
        let found = files.look();
        assert!(found > late && found > whole);
        // The second one has the log that exists, or has created it.
        for is_made_anew in [false, true] {
            let second = opened(&files, || {
                if is_made_anew {
                    replace(&log);
                }
            });
            assert!(files.look() <= second);
            replace(&log);
            assert!(files.look() > second);
            let suspect = opened(&files, || replace(&log));
            assert!(files.look() > suspect);
        }
        // The database changes, and its log does not.
        assert!(!files.is_written_past() && !files.is_written_past());
        for (path, holds) in [(&log, "12"), (&path, "12")] {
            fs::write(path, holds).unwrap();
        }
        assert!(!files.is_written_past());
        fs::write(&path, "123").unwrap();
        assert!(files.is_written_past() && !files.is_written_past());
        // Each of the files next to it counts.
        let first = opened(&files, || make(&index));
        assert!(files.look() <= first);
        replace(&index);
        assert!(files.look() > first);
        // A log comes although the connection that is open has none by that name.
        fs::remove_file(&log).unwrap();
        let files = Opened::new(&path);
        drop(files.watched());
        let without = opened(&files, || {});
        assert!(files.look() <= without);
        make(&log);
        assert!(files.look() > without);
    }
}
