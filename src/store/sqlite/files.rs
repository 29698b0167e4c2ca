//! The files of an open database: what they were when it was opened, and whether they still are.
//!
//! With a write-ahead log, SQLite looks at its files by their descriptors and at the log by an index in shared memory.
//! It does not notice when somebody removes, cuts, replaces or overwrites them, and commits into files that nobody will
//! find. So the state of the files is compared before each batch, and again before its commit is confirmed.

use std::path::{Path, PathBuf};

use sqlx::{Connection, SqliteConnection};

use super::{
    belongs::{self, judge},
    error::store_error,
    migrate::file_of,
    wal::{Wal, beside},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileIdentity, FileLook, blank};

/// The first version of SQLite that reports how much its log holds without moving any of it.
const TELLS_FROM: (u32, u32) = (3, 51);

/// Size of the two copies of the header at the start of the index. SQLite builds the index again from the log if they
/// are not valid.
const INDEX_HEADERS: usize = 2 * 48;

/// The number of times that the log may start again while it is looked at. Then another look is due.
const RESTARTS: usize = 5;

/// The files of one connection.
pub(super) struct Files {
    /// The file as it was given, which may be a link.
    given: FileIdentity,
    /// The file as SQLite knows it, which is no link: it has followed all of them.
    main: PathBuf,
    /// `None` if the database has no write-ahead log. SQLite itself notices then that its file has changed.
    state: Option<State>,
    /// The harm that the last look found.
    harm: Option<Harm>,
}

/// The harm that somebody did to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// The path does not name the database any more. The file that the connection has open is whole.
    Moved,
    /// The path of the log or of its index does not name it any more. The file that the connection has open is whole.
    Unlinked,
    /// The database has other contents, to which the log does not belong.
    Overwritten,
}

struct State {
    main: FileLook,
    log: Wal,
    log_id: (u64, u64),
    index_id: (u64, u64),
    /// The end of the ledger that the database without its log had at least.
    end: Option<i64>,
    /// Whether this version of SQLite reports how much its log holds.
    tells: bool,
}

impl Files {
    /// Begins to watch the files of a connection that has read from them.
    pub(super) async fn of(
        given: FileIdentity,
        connection: &mut SqliteConnection,
    ) -> Result<Self, AuditError> {
        let main = file_of(connection).await;
        let main = main.map_err(|cause| store_error(Path::new("the audit database"), cause))?;
        let state = State::of(&main, connection).await?;
        Ok(Self { given, main, state, harm: None })
    }

    /// Checks that the files are those that were opened, and that nothing was taken from them. Costs some
    /// microseconds; milliseconds after a checkpoint.
    ///
    /// # Errors
    /// If what is committed now may be lost: names the file and the remedy.
    pub(super) async fn check(&mut self, connection: &mut SqliteConnection) -> Result<(), AuditError> {
        let found = self.look(connection).await;
        self.harm = found.as_ref().err().and_then(|(harm, _)| *harm);
        found.map_err(|(_, error)| error)
    }

    async fn look(&mut self, connection: &mut SqliteConnection) -> Result<(), (Option<Harm>, AuditError)> {
        self.given.check().map_err(|error| (Some(Harm::Moved), error))?;
        let Some(state) = &mut self.state else { return Ok(()) };
        let (main, log) = (&self.main, beside(&self.main, "-wal"));
        let index = beside(main, "-shm");
        let now = FileLook::of_name(main).filter(|now| now.id == state.main.id);
        let Some(now) = now else { return Err((Some(Harm::Moved), gone(main))) };
        for (path, id) in [(&log, state.log_id), (&index, state.index_id)] {
            if FileLook::of_name(path).is_none_or(|found| found.id != id) {
                return Err((Some(Harm::Unlinked), unlinked(main, path)));
            }
        }
        let unreadable = |cause: std::io::Error| {
            let message = format!("{} cannot be read", log.display());
            (None, AuditError::new(ErrorKind::Store, message).because(cause))
        };
        if !state.log.continues().map_err(unreadable)?
            && !state.is_whole(main, connection).await.map_err(|error| (None, error))?
        {
            return Err(match recovered(main, connection).await {
                Ok(()) => (Some(Harm::Unlinked), cut(main, &log)),
                Err(why) => (Some(Harm::Overwritten), overwritten(main, &log, &why)),
            });
        }
        if now != state.main {
            state.end = judge(main, connection, state.end)
                .await
                .map_err(|why| (Some(Harm::Overwritten), overwritten(main, &log, &why)))?;
            state.main = now;
        }
        Ok(())
    }

    /// Whether the connection must stay open: to close it would move a log into a database to which it does not
    /// belong.
    pub(super) fn must_stay(&self) -> bool {
        self.harm == Some(Harm::Overwritten)
    }

    /// Moves the log into the database as far as nobody is in the way, and waits for nobody. Then closes the connection.
    /// The last connection of all removes the log.
    pub(super) async fn close(self, mut connection: SqliteConnection) {
        let mode = match self.harm {
            None => "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)",
            Some(_) => "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(PASSIVE)",
        };
        // Everything is committed. An error leaves it in the log, from which the next process moves it.
        drop(sqlx::raw_sql(mode).execute(&mut connection).await);
        let theirs = |suffix: &str, own: (u64, u64)| {
            FileLook::of_name(&beside(&self.main, suffix)).is_some_and(|found| found.id != own)
        };
        let state = self.state.as_ref();
        if state.is_some_and(|state| theirs("-wal", state.log_id) || theirs("-shm", state.index_id)) {
            // Closing would remove files by their names, and these are not ours.
            std::mem::forget(connection);
        } else {
            drop(connection.close().await);
        }
    }

    /// The path of the write-ahead log, if there is one.
    pub(super) fn log(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|_| beside(&self.main, "-wal"))
    }
}

impl State {
    /// Whether the log, which is not as it was, started again because all of it was moved into the database. False:
    /// somebody has cut or overwritten it.
    async fn is_whole(&mut self, main: &Path, connection: &mut SqliteConnection) -> Result<bool, AuditError> {
        let unreadable = |cause: std::io::Error| {
            let message = format!("{} cannot be read", beside(main, "-wal").display());
            AuditError::new(ErrorKind::Store, message).because(cause)
        };
        for _ in 0..RESTARTS {
            self.log.rewind().map_err(unreadable)?;
            let frames = if self.tells { frames(connection).await } else { Ok(0) };
            let frames = frames.map_err(|cause| store_error(main, cause))?;
            if let Some(whole) = self.log.holds(frames).map_err(unreadable)? {
                return Ok(whole);
            }
        }
        Ok(true)
    }

    async fn of(main: &Path, connection: &mut SqliteConnection) -> Result<Option<Self>, AuditError> {
        let failed = |cause| store_error(main, cause);
        let mode: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(failed)?;
        let looks = (FileLook::of_name(main), FileLook::of_name(&beside(main, "-shm")));
        let (true, (Some(look), Some(index))) = (mode == "wal", looks) else { return Ok(None) };
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        let mut parts = version.split('.').map_while(|part| part.parse().ok());
        let tells = (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= TELLS_FROM;
        let path = beside(main, "-wal");
        let log = Wal::open(&path).map_err(|cause| {
            AuditError::new(ErrorKind::Store, format!("{} cannot be read", path.display())).because(cause)
        })?;
        let Some(log_look) = FileLook::of_name(&path) else { return Err(unlinked(main, &path)) };
        let end = belongs::end_without_log(main).await;
        Ok(Some(Self { main: look, log, log_id: log_look.id, index_id: index.id, end, tells }))
    }
}

/// Lets SQLite read again a log that was cut or overwritten: SQLite takes what is whole, up to the last commit. Until
/// then every connection, in each process, looks for frames that are gone, and a checkpoint may move part of the log.
///
/// An error if what is left does not belong to the database, in words.
async fn recovered(main: &Path, connection: &mut SqliteConnection) -> Result<(), String> {
    let index = beside(main, "-shm");
    blank(&index, INDEX_HEADERS)
        .map_err(|cause| format!("{} cannot be written: {cause}", index.display()))?;
    judge(main, connection, None).await.map(drop)
}

/// Number of frames in the log, as its index says.
async fn frames(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let (_, frames, _): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(NOOP)").fetch_one(connection).await?;
    Ok(u64::try_from(frames).unwrap_or(0))
}

fn gone(main: &Path) -> AuditError {
    let message = format!(
        "{} was deleted or replaced while it was open: put it back, or restart to begin a new ledger",
        main.display()
    );
    AuditError::new(ErrorKind::Store, message)
}

fn unlinked(main: &Path, path: &Path) -> AuditError {
    let message = format!(
        "{} was removed or replaced while {} was open: the log moves what was in it into the database and opens the \
         database again. Leave the file alone while any program has the database open",
        path.display(),
        main.display()
    );
    AuditError::new(ErrorKind::Store, message)
}

fn cut(main: &Path, log: &Path) -> AuditError {
    let message = format!(
        "{} was cut or overwritten while {} was open, and what was committed last may be lost: the log continues with \
         what is left, and an audit.gap entry tells how much is missing. Leave the file alone while any program has the \
         database open",
        log.display(),
        main.display()
    );
    AuditError::new(ErrorKind::Store, message)
}

fn overwritten(main: &Path, log: &Path, why: &str) -> AuditError {
    let (main, log) = (main.display(), log.display());
    let message = format!(
        "{main} was overwritten or cut while it was open ({why}): nothing more is written to it. Copy its contents of \
         that moment back into the same file; or end every program that has it open, restore it from a backup, and move \
         {log} away"
    );
    AuditError::new(ErrorKind::Store, message)
}
