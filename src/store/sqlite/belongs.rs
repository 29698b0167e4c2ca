//! Judges whether a write-ahead log belongs to its database, before the one is played over the other.
//!
//! SQLite plays a log that it finds beside a database over it, whatever the two are. If the database was restored from a
//! backup, or cut, that leaves a mixture of two states. The content of a log of this crate distinguishes them:
//!
//! - Each page beyond the end of the database is in the log.
//! - The last batch in the database by itself is also a batch in the two together, with the same writer, position and time,
//!   or two of these.
//! - Each commit of a batch has written the page of the head. So the batch after that one, if there is one, follows it
//!   without a hole, and a version of the head in the log names its end.
//! - The log's last commit is not before the end of that last batch.
//!
//! The head itself is not compared, because somebody may have changed it, in either file. The log may have removed the
//! last batches of the database. A log that continues after either begins with a batch that reports it.
//!
//! Two changes cannot be found: replacing the database by one of exactly such a state (the log then belongs to it), and
//! changing pages without regard to any of this. A table that one of the two has under another name is not compared.
//! The cost is one read of a log that nobody has watched, four reads of 24 bytes for each page in it, and a few pages of the
//! database. A database that cannot be read without its log is read whole, with the log.

use std::{collections::HashSet, path::Path};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    error::{code_of, is_damaged},
    rollback::{LOOK_PAUSE, LOOKS},
    wal::{Wal, beside},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileLook, is_same_file, open_regular, read_up_to};
use crate::store::end::SEQ_LIMIT;

/// The most links that lead to a file: systems follow no more.
const MOST_LINKS: u32 = 40;

/// The page that SQLite never uses, because it locks its bytes.
const LOCKED_BYTE: u64 = 1 << 30;

/// The first bytes of a write-ahead log, and of a rollback journal. A loss of power can leave zeros there.
const WAL_BEGINS: [[u8; 4]; 3] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83], [0; 4]];
const JOURNAL_BEGINS: [[u8; 4]; 2] = [[0xd9, 0xd5, 0x05, 0xf9], [0; 4]];

type Batch = (i64, i64, Vec<u8>, i64, i64);

/// The database without its log.
#[derive(Default)]
struct Alone {
    /// The page of the head's table, if the log can be compared to what the database has.
    root: Option<i64>,
    /// The end that the head names, which somebody may have changed.
    next_seq: Option<i64>,
    /// The end after the last commit, as the head names it besides.
    given: Option<i64>,
    /// The last batch.
    batch: Option<Batch>,
}

impl Alone {
    /// The end of the last batch, or the end that the head names if there is no batch.
    fn end_of_batches(&self) -> Option<i64> {
        greatest(self.batch.as_ref().map(until).or(self.next_seq))
    }

    /// The end of the ledger that only a commit moves.
    fn end(&self) -> Option<i64> {
        let of_head = self.next_seq.filter(|_| self.batch.is_none());
        greatest([self.batch.as_ref().map(until), self.given, of_head].into_iter().flatten())
    }
}

/// A batch that the two together have, and the database by itself does not.
struct Next {
    first_seq: i64,
    until: i64,
    /// Whether it reports that the end of the ledger was changed. Then it does not follow the batch before, and the
    /// commit may have added another one after it.
    tells: bool,
}

/// Whether both are one batch, of which somebody may have changed the writer, the position or the time, but not two of them.
fn is_same_batch(one: &Batch, other: &Batch) -> bool {
    [one.2 == other.2, one.3 == other.3, one.4 == other.4].into_iter().filter(|same| *same).count() >= 2
}

fn until(batch: &Batch) -> i64 {
    batch.0.saturating_add(batch.1)
}

/// The greatest of these that can be the end of a ledger, and was not made up.
fn greatest(ends: impl IntoIterator<Item = i64>) -> Option<i64> {
    ends.into_iter().filter(|end| (0..SEQ_LIMIT).contains(end)).max()
}

/// Checks, before the database is opened, that a log which was left beside it belongs to it. Writes to neither.
///
/// # Errors
/// If it does not: names both files and the remedy. If `first`, this process does not have the database open, also if a
/// file there is not one of SQLite's.
pub(super) async fn check_left_log(options: &SqliteConnectOptions, first: bool) -> Result<(), AuditError> {
    let given = options.get_filename();
    // SQLite keeps its log beside the file at the end of all links.
    let main = std::fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
    let (log, journal) = (beside(&main, "-wal"), beside(&main, "-journal"));
    for path in [&main, &log, &beside(&main, "-shm"), &journal] {
        is_file_if_there(path, path == &main)?;
        if path != &main {
            is_another_file(path, &main)?;
        }
    }
    if given.is_symlink() {
        is_left_beside_link(given, &main)?;
    }
    if first {
        is_of_sqlite(&log, &WAL_BEGINS)?;
        is_of_sqlite(&journal, &JOURNAL_BEGINS)?;
    }
    let found = || Wal::open(&log).and_then(|mut log| log.contents()).unwrap_or_default();
    let contents = found();
    // SQLite deletes the log of an empty database, whatever it holds.
    let is_empty = FileLook::at(&main).is_none_or(|main| main.len == 0);
    if contents.pages == 0 && !(is_empty && contents.page > 0) {
        return Ok(());
    }
    let why = if is_empty {
        format!("the log holds {} pages and the database is empty or gone", contents.held.len())
    } else {
        match together(options).await {
            Ok(mut together) => {
                let judged = judge(&main, &mut together, None).await;
                drop(together.close().await);
                // Its last user may have moved the log meanwhile.
                let Some(why) = judged.err().filter(|_| found().pages > 0) else { return Ok(()) };
                why
            }
            Err(cause) if is_damaged(&cause) => format!("the two together: {cause}"),
            // Whoever opens the file next gets the reason.
            Err(_) => return Ok(()),
        }
    };
    let (main, log) = (main.display(), log.display());
    let message = format!(
        "{log} does not belong to {main} ({why}), and neither was changed: if {main} was restored from a backup, end every \
         program that has it open, and move {log} away; else restore both files as they were at one moment"
    );
    Err(AuditError::new(ErrorKind::Store, message))
}

/// A connection that has read the two together. It is open read-only, so that closing it moves nothing.
async fn together(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let options = options.clone().read_only(true).create_if_missing(false).disable_statement_logging();
    let mut connection = options.connect().await?;
    // SQLite opens the log with the first read.
    match sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").execute(&mut connection).await {
        Ok(_) => Ok(connection),
        Err(cause) => {
            drop(connection.close().await);
            Err(cause)
        }
    }
}

/// Refuses a log that stands beside a link to the database, where SQLite does not look: the database was moved, with the
/// link in its place, before the log was moved into it.
fn is_left_beside_link(given: &Path, main: &Path) -> Result<(), AuditError> {
    let right = beside(main, "-wal");
    let mut link = given.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = std::fs::read_link(&link) else { break };
        let log = beside(&link, "-wal");
        let holds = || Wal::open(&log).and_then(|mut log| log.contents()).is_ok_and(|found| found.pages > 0);
        if [main, &*right].iter().all(|own| is_same_file(&log, own) != Some(true)) && holds() {
            let (link, main, log, right) = (link.display(), main.display(), log.display(), right.display());
            let message = format!(
                "{log} holds what was committed before {link} became a link to {main}: end every program that has the \
                 database open, and rename {log} to {right}, if there is none yet; else move it away"
            );
            return Err(AuditError::new(ErrorKind::Store, message));
        }
        link = link.parent().unwrap_or(Path::new("")).join(target);
    }
    Ok(())
}

/// Refuses an object that is not a file, which SQLite would wait for or read without end. The remedy for a directory in
/// place of the database is given when it is opened.
fn is_file_if_there(path: &Path, may_be_directory: bool) -> Result<(), AuditError> {
    // A link to nothing is no file either, but SQLite says so by itself.
    let what = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() && !may_be_directory => "a directory",
        Ok(found) if !found.is_file() && !found.is_dir() => "a pipe or a device",
        // SQLite opens none of these files by a link.
        Ok(_) if path.is_symlink() => "a link",
        _ => return Ok(()),
    };
    let message = format!("{} is {what}, not a file: move it away", path.display());
    Err(AuditError::new(ErrorKind::Store, message))
}

/// Refuses the database itself under the name of another file. To open and close it would give up the locks that connections
/// of this process have on it.
fn is_another_file(path: &Path, main: &Path) -> Result<(), AuditError> {
    if is_same_file(path, main) != Some(true) {
        return Ok(());
    }
    let (path, main) = (path.display(), main.display());
    let message = format!("{path} is the file {main} by another name: move it away");
    Err(AuditError::new(ErrorKind::Store, message))
}

/// Refuses a file that has the name of one of SQLite's, and is none: SQLite would write over it or delete it.
fn is_of_sqlite(path: &Path, may_begin: &[[u8; 4]]) -> Result<(), AuditError> {
    let mut begin = [0; 4];
    let Ok(file) = open_regular(path) else { return Ok(()) };
    // A file may end within these bytes.
    let begin = read_up_to(&file, &mut begin, 0).ok().and_then(|read| begin.get(..read)).unwrap_or_default();
    if !may_begin.iter().any(|may| may.starts_with(begin)) {
        let message = format!(
            "{} is not a file of SQLite's, which would write over it or delete it: move it away",
            path.display()
        );
        return Err(AuditError::new(ErrorKind::Store, message));
    }
    Ok(())
}

/// Judges whether the log belongs to the database. `together` reads both, and `least` is an end of the ledger that the
/// database had without its log. Returns the one that it has now; or why the log does not belong to it, in words.
pub(super) async fn judge(
    main: &Path,
    together: &mut SqliteConnection,
    least: Option<i64>,
) -> Result<Option<i64>, String> {
    let looks = || (FileLook::at(main), FileLook::at(&beside(main, "-wal")));
    let mut before = None;
    for _ in 0..LOOKS {
        let now = looks();
        // Nothing has changed since the last look: this is not another process at its work.
        let is_still = before == Some(now);
        let why = match judge_once(main, together, least, is_still).await {
            Ok(head) => return Ok(head),
            Err(why) => why,
        };
        if is_still && looks() == now {
            return Err(why);
        }
        before = Some(now);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(least)
}

async fn judge_once(
    main: &Path,
    together: &mut SqliteConnection,
    least: Option<i64>,
    is_still: bool,
) -> Result<Option<i64>, String> {
    let mut log = Wal::open(&beside(main, "-wal")).map_err(|cause| format!("the log: {cause}"))?;
    let contents = if least.is_none() { log.contents_until_damage() } else { log.contents() };
    let contents = contents.map_err(|cause| format!("the log: {cause}"))?;
    let len = FileLook::at(main).map_or(0, |found| found.len);
    if let Some(has) = len.checked_div(contents.page) {
        let missing = |page: &u64| {
            *page != LOCKED_BYTE / contents.page + 1
                && !u32::try_from(*page).is_ok_and(|page| contents.held.contains(&page))
        };
        if let Some(missing) = (has + 1..=u64::from(contents.pages)).find(missing) {
            return Err(format!("the database ends after page {has}, and page {missing} is in neither"));
        }
    }
    let alone = match alone(main).await {
        Ok(alone) => alone,
        // While another process moves the log, that looks like damage too.
        Err(cause) if is_damaged(&cause) && (is_still || least.is_some()) => {
            return half_moved(together, least).await;
        }
        Err(cause) => return Err(format!("the database without the log: {cause}")),
    };
    if alone.end() < least {
        let shown = |seq: Option<i64>| seq.map_or("no ledger".to_owned(), |seq| format!("next seq {seq}"));
        return Err(format!("the database went back from {} to {}", shown(least), shown(alone.end())));
    }
    match continues(&mut log, &contents.held, &alone, together).await {
        Ok(continues) => continues.map(|()| alone.end()),
        // The log took a table or a column away. Whoever opens the file next gets that as an error.
        Err(cause) if is_lacking(&cause) => Ok(alone.end()),
        Err(cause) => Err(format!("the two together: {cause}")),
    }
}

/// Judges a database that cannot be read without its log: the move of the log into it was interrupted, by a kill or a
/// full disk, or the two are not of one state. With the log it is whole in the first case. While a log is running, only
/// that case can arise without a change of the files, and reading all of it would hold up batches.
async fn half_moved(together: &mut SqliteConnection, least: Option<i64>) -> Result<Option<i64>, String> {
    if least.is_some() {
        return Ok(least);
    }
    let check = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(together).await;
    match check.as_ref().map(String::as_str) {
        Ok("ok") => Ok(None),
        Ok(found) => Err(format!("the two together: {found}")),
        Err(cause) => Err(format!("the two together: {cause}")),
    }
}

/// Whether what the log holds continues what the database has by itself.
async fn continues(
    log: &mut Wal,
    held: &HashSet<u32>,
    alone: &Alone,
    together: &mut SqliteConnection,
) -> sqlx::Result<Result<(), String>> {
    let root = root_of_head(together).await?;
    let Some(root) = root.filter(|root| Some(*root) == alone.root) else { return Ok(Ok(())) };
    if held.is_empty()
        && let Some(seq) = alone.next_seq
    {
        let now: Option<i64> = sqlx::query_scalar("SELECT next_seq FROM tracing_audit_head")
            .fetch_optional(&mut *together)
            .await?;
        if now != Some(seq) {
            return Ok(Err(format!("the next seq of the database is {seq}, and was {}", now.unwrap_or(0))));
        }
    }
    // Asked before the log is read again: it has everything that is committed meanwhile.
    let next = next_batches(alone, together).await?;
    let given = given(together).await?;
    let heads = match u32::try_from(root) {
        Ok(root) if held.contains(&root) => log.heads(root).map_err(sqlx::Error::Io)?,
        _ => Some(Vec::new()),
    };
    // Without a version of the head there is no commit of a batch in the log, to which the two could be compared.
    let heads = heads.filter(|heads| !heads.is_empty());
    if let Some(batch) = &alone.batch {
        let same = "SELECT first_seq, entries, writer, position, committed_at FROM tracing_audit_batches WHERE first_seq = ?";
        let same: Option<Batch> = sqlx::query_as(same).bind(batch.0).fetch_optional(&mut *together).await?;
        let is_later = heads.is_none() || given >= Some(until(batch));
        let is_same = match &same {
            Some(same) => is_same_batch(batch, same),
            None => is_later && !overlaps(batch, together).await?,
        };
        if !is_same {
            return Ok(Err(format!("the batch at seq {} is another", batch.0)));
        }
    }
    Ok(heads.map_or(Ok(()), |heads| lead_on(&heads, given, alone, &next)))
}

/// Whether the commits in the log lead on from the end of the database by itself. `heads` are the versions of the head in the
/// log, and `given` the end after the last commit, as the last version names it.
fn lead_on(heads: &[i64], given: Option<i64>, alone: &Alone, next: &[Next]) -> Result<(), String> {
    let end = alone.end_of_batches();
    let last = greatest(heads.iter().copied().chain(given));
    if let (Some(end), Some(last)) = (end, last)
        && end > last
    {
        return Err(format!("the database has entries up to seq {end}, and the log ends at {last}"));
    }
    let Some(first) = next.first() else { return Ok(()) };
    let beside = next.get(1).filter(|_| first.tells);
    let is_in_log = [Some(first), beside].into_iter().flatten().any(|batch| heads.contains(&batch.until));
    let follows = first.tells || end.is_none_or(|end| end == first.first_seq);
    if is_in_log && follows {
        return Ok(());
    }
    let end = end.map_or("nowhere".to_owned(), |end| format!("at seq {end}"));
    Err(format!(
        "the database ends {end}, and the log does not lead on from there: it comes after the batch at seq {}",
        first.first_seq
    ))
}

/// The first batches in the two together that come after the last one of the database by itself.
async fn next_batches(alone: &Alone, together: &mut SqliteConnection) -> sqlx::Result<Vec<Next>> {
    // A batch that reports a change moves no position.
    let next = "SELECT first_seq, first_seq + entries, entries = 1 AND position = 1
                    AND NOT EXISTS (SELECT 1 FROM tracing_audit_positions p WHERE p.writer = b.writer)
                FROM tracing_audit_batches b WHERE first_seq > ? AND first_seq < ? ORDER BY first_seq LIMIT 2";
    let after = alone.batch.as_ref().map_or(i64::MIN, |batch| batch.0);
    let next: Vec<(i64, i64, bool)> =
        sqlx::query_as(next).bind(after).bind(SEQ_LIMIT).fetch_all(together).await?;
    Ok(next.into_iter().map(|(first_seq, until, tells)| Next { first_seq, until, tells }).collect())
}

/// Whether a batch has a part of the numbers that this one has.
async fn overlaps(batch: &Batch, together: &mut SqliteConnection) -> sqlx::Result<bool> {
    let last = "SELECT first_seq + entries FROM tracing_audit_batches WHERE first_seq < ? ORDER BY first_seq DESC LIMIT 1";
    let last: Option<i64> = sqlx::query_scalar(last).bind(until(batch)).fetch_optional(together).await?;
    Ok(last > Some(batch.0))
}

async fn root_of_head(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'tracing_audit_head' AND type = 'table'";
    sqlx::query_scalar(root).fetch_optional(connection).await
}

/// The end after the last commit, which the head also names. The tables of earlier versions do not have it.
async fn given(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
    if_there(sqlx::query_scalar("SELECT given FROM tracing_audit_head").fetch_optional(connection).await)
}

/// The row that was found; `None` if the table or a column does not exist.
fn if_there<T>(found: sqlx::Result<Option<T>>) -> sqlx::Result<Option<T>> {
    match found {
        Err(cause) if is_lacking(&cause) => Ok(None),
        found => found,
    }
}

/// Whether a table or a column that the statement names does not exist: `SQLITE_ERROR`.
fn is_lacking(cause: &sqlx::Error) -> bool {
    code_of(cause) == Some(1)
}

/// The end that the database has without its log.
pub(super) async fn end_without_log(main: &Path) -> Option<i64> {
    alone(main).await.ok().and_then(|alone| alone.end())
}

/// Reads the database without its log, and without a lock. SQLite opens the file, so that no connection of this process
/// loses its locks when it is closed.
async fn alone(main: &Path) -> sqlx::Result<Alone> {
    if FileLook::at(main).is_none_or(|main| main.len == 0) {
        return Ok(Alone::default());
    }
    let options = SqliteConnectOptions::new().filename(main).read_only(true).immutable(true);
    let mut connection = options.disable_statement_logging().connect().await?;
    let found = async {
        let root = root_of_head(&mut connection).await?;
        if root.is_none() {
            return Ok(Alone::default());
        }
        let next_seq = "SELECT next_seq FROM tracing_audit_head";
        let next_seq = if_there(sqlx::query_scalar(next_seq).fetch_optional(&mut connection).await)?;
        let given = given(&mut connection).await?;
        let batch = "SELECT first_seq, entries, writer, position, committed_at FROM tracing_audit_batches \
                     WHERE first_seq < ? ORDER BY first_seq DESC LIMIT 1";
        match sqlx::query_as(batch).bind(SEQ_LIMIT).fetch_optional(&mut connection).await {
            Ok(batch) => Ok(Alone { root, next_seq, given, batch }),
            // Without a root it is compared to nothing.
            Err(cause) if is_lacking(&cause) => Ok(Alone { root: None, next_seq, given, batch: None }),
            Err(cause) => Err(cause),
        }
    }
    .await;
    drop(connection.close().await);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of ten entries by itself, and the batches that follow in it with the log.
    fn led(heads: &[i64], given: Option<i64>, next: &[(i64, i64, bool)]) -> bool {
        let alone = Alone { batch: Some((9, 1, Vec::new(), 10, 0)), next_seq: Some(3), ..Alone::default() };
        let next: Vec<_> =
            next.iter().map(|&(first_seq, until, tells)| Next { first_seq, until, tells }).collect();
        lead_on(heads, given, &alone, &next).is_ok()
    }

    #[test]
    fn a_log_leads_on_from_the_last_batch_whatever_the_head_says() {
        // One batch, several, and the database has some of them already.
        assert!(led(&[11], Some(11), &[(10, 11, false)]));
        assert!(led(&[11, 12, 15], Some(15), &[(10, 11, false), (11, 12, false)]));
        assert!(led(&[8, 9, 10, 11], Some(11), &[(10, 11, false)]));
        // The head is lowered, raised, or both in turn, and nothing was committed since; or a batch reports the change.
        for heads in [[3], [-3], [i64::MAX], [100]] {
            assert!(led(&heads, Some(10), &[]), "{heads:?}");
        }
        assert!(led(&[3, 12], Some(12), &[(10, 11, true), (11, 12, false)]));
        assert!(led(&[100, 3, 101, 103], Some(103), &[(100, 101, true), (101, 103, false)]));
    }

    #[test]
    fn a_log_that_comes_later_or_ends_earlier_does_not_lead_on() {
        // The batches between are in neither, or are in the database without its head.
        assert!(!led(&[13], Some(13), &[(12, 13, false)]));
        assert!(!led(&[13], Some(13), &[(10, 12, false), (12, 13, false)]));
        assert!(!led(&[103], Some(103), &[(100, 101, true), (101, 102, false)]));
        assert!(!led(&[103], Some(103), &[(10, 11, false), (102, 103, false)]));
        // The database is the later one.
        assert!(!led(&[8], Some(8), &[]));
        assert!(!led(&[3, 8], None, &[]));
    }
}
