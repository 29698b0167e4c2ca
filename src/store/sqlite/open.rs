//! Opens the writing connection: finds out which file it is, sets its journal mode, and migrates its tables.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use sqlx::{Connection, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};

use super::{
    append::{Connected, Own, SqliteAppender},
    belongs::check_left_log,
    broken_log::keep_if_damaged,
    damage,
    error::{damaged, is_busy, store_error},
    files::Files,
    guard::Guard,
    library,
    migrate::{MODE, OpenError, file_of, migrate},
    places::{check_ours, check_place, concerns},
    rollback::check_left_journal,
    source::{BUSY_TIMEOUT, Source, Sqlite, for_writing},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileIdentity, FileLook, Turns, real_path};
use crate::store::{Migrate, Opening};

/// Pause between two tries to open the file. Processes that open a fresh file at the same moment collide while they
/// switch it to WAL, and SQLite does not wait for that by itself.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

fn must_exist(path: &Path) -> Result<(), AuditError> {
    if path.exists() {
        return Ok(());
    }
    let path = path.display();
    let message =
        format!("{path} does not exist: run what Store::migrations gives, or open with Migrate::Auto");
    Err(AuditError::new(ErrorKind::Schema, message))
}

/// Opens the writing connection of a log, and brings the tables up to date if it may.
pub(super) async fn connect(
    sqlite: &Sqlite,
    ledger: &str,
    opening: &Opening,
) -> Result<SqliteAppender, AuditError> {
    let may = opening.migrate;
    let (options, ours) = match &sqlite.source {
        Source::File { options, .. } => {
            let creates = may == Migrate::Auto;
            if !creates && sqlite.file.get().is_none() {
                must_exist(options.get_filename())?;
            }
            (options.as_ref().clone().create_if_missing(creates), creates)
        }
        Source::Pool { pool, in_memory } => {
            if is_in_memory(pool, in_memory).await? {
                migrate_in_memory(pool, ledger, may).await?;
                return Ok(SqliteAppender::plain(Connected::Borrowed(pool.clone()), opening.integrity));
            }
            (pool.connect_options().as_ref().clone(), false)
        }
    };
    let path = options.get_filename().to_owned();
    let mut options = for_writing(options);
    if let Some(mut own) = sqlite.kept.take::<Own>() {
        if let Err(error) = own.check().await {
            sqlite.kept.put(own);
            return Err(error);
        }
        return Ok(SqliteAppender::plain(Connected::Own(own), opening.integrity));
    }
    if let Some(file) = sqlite.file.get() {
        // A file that existed and is gone is a fault to report, not a reason to begin a new ledger at 0.
        file.check()?;
        options = options.create_if_missing(false);
    }
    if ours {
        check_place(&path)?;
    }
    check_left_journal(&path).await?;
    check_left_log(&options, sqlite.file.get().is_none()).await?;
    let kept = keep_if_damaged(&options).await?;
    let (mut connection, defect, guard) = opened(sqlite, &options, ours, ledger, opening).await?;
    let file = match (sqlite.file.get(), FileIdentity::of(&path)) {
        (Some(first), _) => Some(first.clone()),
        (None, Some(opened)) => Some(sqlite.file.get_or_init(|| opened).clone()),
        (None, None) => None,
    };
    let files = match file {
        Some(file) => Some(Files::of(file, &mut connection).await?),
        None => None,
    };
    // Without turns, for instance in a directory that is read-only, the writer waits for SQLite's own lock.
    let turns = match sqlite.file_path() {
        Some(file) => Turns::beside(file).await.ok(),
        None => None,
    };
    let mut told = concerns(&path, &mut connection, opening).await;
    told.extend(kept.map(|kept| AuditError::new(ErrorKind::Altered, kept)));
    let (pools, kept) = (sqlite.own_pools(), Arc::clone(&sqlite.kept));
    let own = Own { connection, options, files, turns, pools, kept };
    Ok(SqliteAppender::plain(Connected::Own(Box::new(own)), opening.integrity).concerned(defect, guard, told))
}

/// Brings the tables of a pool's database in memory up to date, on a connection of the pool.
async fn migrate_in_memory(pool: &SqlitePool, ledger: &str, may: Migrate) -> Result<(), AuditError> {
    let mut connection = pool.acquire().await.map_err(|cause| store_error(Path::new(":memory:"), cause))?;
    let mut tries = Tries::new();
    let migrated = loop {
        match migrate(&mut connection, ledger, may).await {
            Ok(()) => break Ok(()),
            Err(failed) => {
                if let Err(error) = tries.again(failed).await {
                    break Err(error);
                }
            }
        }
    };
    // Return the connection here: dropping it would spawn a task, which this runtime may not live to run, and a database
    // in memory ends with its last connection.
    connection.return_to_pool().await;
    migrated
}

/// Repeated tries to open the database, and the moment of the first.
struct Tries(Instant);

impl Tries {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Pauses before another try if the database was busy. Returns the error if it was not, or after too long.
    async fn again(&mut self, failed: OpenError) -> Result<(), AuditError> {
        if !failed.busy || self.0.elapsed() >= BUSY_TIMEOUT {
            return Err(failed.error);
        }
        tokio::time::sleep(OPEN_PAUSE).await;
        Ok(())
    }
}

/// Opens the file that the path names, as often as another process is in the way. If it was removed or replaced meanwhile, as an
/// archived one is, the connection has a file open that nobody will find, and it is opened again.
async fn opened(
    sqlite: &Sqlite,
    options: &SqliteConnectOptions,
    ours: bool,
    ledger: &str,
    opening: &Opening,
) -> Result<(SqliteConnection, Option<AuditError>, Guard), AuditError> {
    let path = options.get_filename();
    let named = || FileLook::at(path).map(|found| found.id);
    let mut tries = Tries::new();
    loop {
        if ours
            && sqlite.file.get().is_none()
            && let Some(file) = sqlite.file_path()
        {
            // SQLite gives its own files the mode of this one, at the end of all links. If it cannot be made, SQLite says why.
            drop(opening.access.create_unopened(&real_path(&file)));
        }
        let before = named();
        let failed = match open(options, ours, ledger, opening.migrate).await {
            Ok(opened) if before.is_none() || named() == before => return Ok(opened),
            Ok((connection, ..)) => {
                // Closing would remove files by their names, and these are not ours.
                std::mem::forget(connection);
                let message = format!("{} was removed or replaced while it was opened", path.display());
                OpenError { busy: true, error: AuditError::new(ErrorKind::Store, message) }
            }
            Err(failed) => failed,
        };
        tries.again(failed).await?;
    }
}

/// Opens the file and migrates it. Also returns the defect of the SQLite library, if it can corrupt the file, and what
/// stands between the writer and its tables.
async fn open(
    options: &SqliteConnectOptions,
    ours: bool,
    ledger: &str,
    may: Migrate,
) -> Result<(SqliteConnection, Option<AuditError>, Guard), OpenError> {
    let path = options.get_filename();
    let open_error =
        |cause: sqlx::Error| OpenError { busy: is_busy(&cause), error: store_error(path, cause) };
    let mut connection = SqliteConnection::connect_with(options).await.map_err(open_error)?;
    match prepare(&mut connection, path, ours, ledger, may).await {
        Ok((defect, guard)) => Ok((connection, defect, guard)),
        Err(failed) => {
            // Close it here, so that none of its files is left for the next try. The first error says what is wrong.
            drop(connection.close().await);
            Err(failed)
        }
    }
}

async fn prepare(
    connection: &mut SqliteConnection,
    path: &Path,
    ours: bool,
    ledger: &str,
    may: Migrate,
) -> Result<(Option<AuditError>, Guard), OpenError> {
    let open_error =
        |cause: sqlx::Error| OpenError { busy: is_busy(&cause), error: store_error(path, cause) };
    if ours && may == Migrate::Auto {
        let checked = check_ours(path, connection).await.map_err(open_error)?;
        checked.map_err(|error| OpenError { busy: false, error })?;
    }
    if ours {
        // Keep the mode of a database that has tables already: somebody chose it.
        let empty: bool = sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)")
            .fetch_one(&mut *connection)
            .await
            .map_err(open_error)?;
        if empty {
            sqlx::query(MODE).execute(&mut *connection).await.map_err(open_error)?;
        }
    }
    migrate(connection, ledger, may).await?;
    if let Some(what) = damage::look(connection).await.map_err(open_error)? {
        return Err(OpenError { busy: false, error: damaged(path, &format!(" ({what})")) });
    }
    let defect = library::defect(connection).await.map_err(open_error)?;
    let guard = Guard::at_open(connection).await.map_err(open_error)?;
    Ok((defect, guard))
}

/// Whether the pool is on a database in memory.
async fn is_in_memory(pool: &SqlitePool, known: &OnceLock<bool>) -> Result<bool, AuditError> {
    if let Some(known) = known.get() {
        return Ok(*known);
    }
    let store_error = |cause| store_error(pool.connect_options().get_filename(), cause);
    let mut connection = pool.acquire().await.map_err(store_error)?;
    let file = file_of(&mut connection).await;
    connection.return_to_pool().await;
    let file = file.map_err(store_error)?;
    Ok(*known.get_or_init(|| file.as_os_str().is_empty()))
}
