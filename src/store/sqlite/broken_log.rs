//! Finds damage in a write-ahead log that was left beside its database, and keeps a copy of it before it is written over.
//!
//! SQLite takes a log to end at the first frame whose checksum is wrong, and one with a damaged header to be empty. It says
//! nothing of that, and the next writer writes over the rest. So a reader reports it, and a writer first keeps a copy.
//!
//! After a loss of power, pages can have reached the disk in any order: one commit can be found so that was never confirmed.
//! Damage to such a commit is reported like all other damage, and keeps no writer from starting.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use sqlx::sqlite::SqliteConnectOptions;

use super::{
    rollback::{LOOK_PAUSE, LOOKS},
    tidy::move_log,
    wal::{Damage, Wal, beside},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{
    Access, Directory, FileLook, free_room, is_same_file, open_regular, read_up_to, real_path,
};

/// The most copies that are kept of the logs of one database.
const MOST_COPIES: u32 = 16;

/// The bytes that are compared at once.
const PIECE: usize = 1 << 16;

/// Damage to the log beside the database at this path, if there is some and nobody is writing the log at this moment.
pub(super) async fn damage_beside(database: &Path) -> Option<Damage> {
    let main = real_path(database);
    let log = log_of(database);
    let mut before = None;
    for _ in 0..LOOKS {
        let now = FileLook::at(&log).filter(|log| log.len > 0)?;
        // To close the database itself, by whatever name, would give up the locks of this process.
        if is_same_file(&log, &main) == Some(true) {
            return None;
        }
        // A log that cannot be read is refused by SQLite too.
        let damage = Wal::open(&log).and_then(|log| log.damage()).ok().flatten()?;
        if before == Some(now) && FileLook::at(&log) == Some(now) {
            return Some(damage);
        }
        before = Some(now);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    None
}

/// The log beside the database at this path, which may be a link.
fn log_of(database: &Path) -> PathBuf {
    beside(&real_path(database), "-wal")
}

/// The damage as a sentence without its end.
pub(super) fn in_words(damage: Damage, database: &Path) -> String {
    let log = log_of(database);
    let (log, frame) = (log.display(), damage.whole + 1);
    match damage.commits {
        _ if damage.is_header => {
            format!("{log} is damaged at its beginning, and nothing that it holds can be read")
        }
        1 => format!("{log} is damaged at frame {frame}, and 1 commit from there on cannot be read"),
        commits => {
            format!("{log} is damaged at frame {frame}, and {commits} commits from there on cannot be read")
        }
    }
}

/// Keeps a copy of the log beside a database, if it is damaged, and then moves into the database what SQLite reads of it.
/// Returns what a person should know.
///
/// # Errors
/// If no copy can be kept, unless it is of one commit that may never have been confirmed.
pub(super) async fn keep_if_damaged(options: &SqliteConnectOptions) -> Result<Option<String>, AuditError> {
    let database = options.get_filename();
    let Some(damage) = damage_beside(database).await else { return Ok(None) };
    let (log, found) = (log_of(database), in_words(damage, database));
    let may_be_lost = !damage.is_header && damage.commits == 1;
    let told = match copy_of(&log) {
        Ok(copy) => format!(
            "{found}: a copy of it is kept as {}. What the journal of the queue does not have any more is in that copy or in a \
             backup; remove the copy once it is not needed",
            copy.display()
        ),
        // Somebody has moved it into the database meanwhile.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) if may_be_lost => {
            format!(
                "{found}; no copy of it is kept ({cause}), and it is written over: a loss of power can leave this"
            )
        }
        Err(cause) => {
            let message = format!(
                "{found}, and no copy of it can be kept, without which nobody writes over it: make room beside {0} and move \
                 {0}.damaged-1 and the like away, or move {0} itself away, with all that was committed last",
                log.display()
            );
            let lacks_room = cause.kind() == io::ErrorKind::StorageFull;
            return Err(AuditError::new(ErrorKind::Store, message)
                .for_lack_of_room(lacks_room)
                .because(cause));
        }
    };
    // The frames behind the damage would be found again. If somebody is in the way, they stay until the log restarts.
    move_log(options.clone()).await;
    Ok(Some(told))
}

/// Copies the log to the first name beside it that is free. An earlier copy that is the same is enough.
fn copy_of(log: &Path) -> io::Result<PathBuf> {
    let source = open_regular(log)?;
    if free_room(log).is_some_and(|free| source.metadata().is_ok_and(|found| found.len() > free)) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let directory = Directory::open(log.parent().unwrap_or(Path::new(".")), Access::Owner)?;
    for number in 1..=MOST_COPIES {
        let copy = beside(log, &format!(".damaged-{number}"));
        let made = match directory.create_file(&copy) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                if directory.file(&copy, false).is_ok_and(|copy| is_same(&source, &copy).unwrap_or(false)) {
                    return Ok(copy);
                }
                continue;
            }
            made => made?,
        };
        let copied = open_regular(log).and_then(|mut log| io::copy(&mut log, &mut &made));
        let copied = copied.and_then(|_| made.sync_all());
        if let Err(cause) = copied.and_then(|()| directory.sync()) {
            directory.remove_if_there(&copy)?;
            return Err(cause);
        }
        return Ok(copy);
    }
    Err(io::Error::other(format!("there are {MOST_COPIES} already")))
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (mut ours, mut theirs, mut at) = (vec![0; PIECE], vec![0; PIECE], 0);
    loop {
        let read = read_up_to(one, &mut ours, at)?;
        if read_up_to(other, &mut theirs, at)? != read || ours.get(..read) != theirs.get(..read) {
            return Ok(false);
        }
        if read < PIECE {
            return Ok(true);
        }
        at += read;
    }
}
