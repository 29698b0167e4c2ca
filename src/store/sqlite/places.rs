//! Judges where a database lies, whose it is, and who else may write to it: refuses what cannot be safe, and reports
//! what a person should look at.

use std::path::Path;

use sqlx::SqliteConnection;

use super::{migrate::file_of, sealed::is_shared, sql::quoted, wal::beside};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{
    Access, FileLook, directory_open_to_all, file_writable_by_others, is_mounted_alone, link_of_another,
    passing_file_system,
};
use crate::store::Opening;

/// The most tables of another program that an error names.
const NAMED: usize = 3;

/// Checks that a database can be written here, at the end of a link.
pub(super) fn check_place(path: &Path) -> Result<(), AuditError> {
    // A link may lead to where there is nothing yet.
    let linked = || Some(path.parent()?.join(std::fs::read_link(path).ok()?));
    let main = std::fs::canonicalize(path).ok().or_else(linked).unwrap_or_else(|| path.to_owned());
    let Some(kind) = is_shared(&main) else { return Ok(()) };
    let message = format!(
        "{} cannot be written safely: it is on {kind}, where a process elsewhere may not see the locks and the \
         write-ahead log of this one, and damage the file; give a path on a local disk, or use PostgreSQL. To read a \
         log there is possible",
        main.display()
    );
    Err(AuditError::new(ErrorKind::Config, message))
}

/// Checks that a file which has no tables of ours is not another program's.
pub(super) async fn check_ours(
    main: &Path,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Result<(), AuditError>> {
    let tables =
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT GLOB 'sqlite_*'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *connection).await?;
    let mark: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(connection).await?;
    if tables.iter().any(|table| table.starts_with("tracing_audit_")) || tables.is_empty() && mark == 0 {
        return Ok(Ok(()));
    }
    let mut found: Vec<_> = tables.iter().take(NAMED).map(|table| quoted(table)).collect();
    found.extend((tables.len() > NAMED).then(|| format!("{} more", tables.len() - NAMED)));
    found.extend((mark != 0).then(|| format!("the application_id {mark}")));
    let message = format!(
        "{} is the database of another program (it has {}) and holds no audit log: give the log a path of its own. If the \
         two shall share the file, give Store::from a pool on it, or first create the tables in it by hand, by what \
         Store::migrations gives",
        main.display(),
        found.join(", ")
    );
    Ok(Err(AuditError::new(ErrorKind::Schema, message)))
}

/// The findings that a person should look at. `given` is the path that was given, which may be a link.
pub(super) async fn concerns(
    given: &Path,
    connection: &mut SqliteConnection,
    opening: &Opening,
) -> Vec<AuditError> {
    let main = &file_of(&mut *connection).await.unwrap_or_else(|_| given.to_owned());
    let page =
        sqlx::query_scalar("PRAGMA page_size").fetch_one(connection).await.map_or(0, i64::cast_unsigned);
    let told = [
        link(given, main),
        others(main, opening.access),
        mounted_alone(main),
        opening.queue.as_deref().and_then(|queue| apart(main, queue)),
        torn(main, page),
    ];
    let told = told.into_iter().flatten().map(|message| AuditError::new(ErrorKind::Store, message));
    // A log of our own is refused there: this is a program's own pool.
    told.chain(check_place(main).err()).collect()
}

fn link(given: &Path, main: &Path) -> Option<String> {
    let owner = link_of_another(given)?;
    Some(format!(
        "{} is a link to {}, made by user {owner}, who may let it lead elsewhere: give the path of the file itself",
        given.display(),
        main.display()
    ))
}

fn others(main: &Path, access: Access) -> Option<String> {
    let files = ["", "-wal", "-shm"].map(|suffix| beside(main, suffix));
    let of_file =
        files.iter().find_map(|file| Some((file.as_path(), file_writable_by_others(file, access)?)));
    let directory = main.parent()?;
    let open = || directory_open_to_all(directory).then(|| "may be written by every user".to_owned());
    let (place, who) = of_file.or_else(|| Some((directory, open()?)))?;
    let bits = if place == directory { access.of_directory() } else { access.of_file() };
    Some(format!(
        "{} {who}: whoever may write to it may change what the log holds; make it this process's user's own, with mode \
         {bits:o}",
        place.display()
    ))
}

fn mounted_alone(main: &Path) -> Option<String> {
    let main_shown = main.display();
    is_mounted_alone(main).then(|| {
        format!(
            "{main_shown} is mounted by itself, without its directory: {main_shown}-wal, which holds what was committed last, \
             is elsewhere, goes with this container, and is not seen by others who have mounted the file; mount the directory \
             instead"
        )
    })
}

/// One of the two does not last, and the other one does.
fn apart(main: &Path, queue: &Path) -> Option<String> {
    let database = main.parent()?;
    let queue = std::fs::canonicalize(queue).ok()?;
    let (passing, kind, other) = match (passing_file_system(database), passing_file_system(&queue)) {
        (Some(kind), None) => (main, kind, format!("its queue {}", queue.display())),
        (None, Some(kind)) => (&*queue, kind, format!("its database {}", main.display())),
        _ => return None,
    };
    Some(format!(
        "{} is on {kind}, and {other} is not: keep both in one directory or volume that lasts, or entries are lost that were \
         accepted or committed",
        passing.display()
    ))
}

/// The file does not end with a page. One that ends too soon was refused as damaged.
fn torn(main: &Path, page: u64) -> Option<String> {
    let rest = FileLook::at(main)?.len.checked_rem(page)?;
    (rest > 0).then(|| {
        format!(
            "{} ends within a page: something that is no part of it was appended to it. Its entries are whole; look who \
             writes to it",
            main.display()
        )
    })
}
