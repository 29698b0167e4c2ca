//! Finds the files that a name of a database stands for, and refuses a database that is given under two names.

use std::path::{Path, PathBuf};

use crate::{
    failure::Failure,
    output::{FilePlace, at_end_of_links, with_suffix},
};

/// The files for which a `*` in the last part of a path stands, in the order of their names. The path itself, if there is
/// such a file, or there are none.
pub(super) fn expanded(db: &str) -> Vec<String> {
    let path = Path::new(db);
    let is_path = !db.contains("://") && !db.starts_with("sqlite:") && path.symlink_metadata().is_err();
    let name = path.file_name().and_then(|name| name.to_str()).filter(|_| is_path);
    let Some((before, after)) = name.and_then(|name| name.split_once('*')) else {
        return vec![db.to_owned()];
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_meant = |name: &str| {
        name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
    };
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|found| found.file_name().into_string().ok());
    let beside = |name: String| path.with_file_name(name).into_os_string().into_string().ok();
    let mut found: Vec<String> = names.filter(|name| is_meant(name)).filter_map(beside).collect();
    found.sort_unstable();
    if found.is_empty() { vec![db.to_owned()] } else { found }
}

/// The database's name without parts that may be secret: the file, or the URL's host, port and path.
pub(crate) fn without_secrets(db: &str) -> String {
    let Some((_, rest)) = db.split_once("://") else { return db.to_owned() };
    let rest = rest.split_once(['?', '#']).map_or(rest, |(rest, _)| rest);
    rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).to_owned()
}

/// Refuses one database under two names, since each of its entries would count twice.
pub(super) fn refuse_twins(named: &[&str]) -> Result<(), Failure> {
    let file = |db: &str| own_files(db)?.into_iter().next();
    let is_same = |one: &str, other: &str| {
        let places = file(one).and_then(|file| FilePlace::of(&file)).zip(file(other));
        one == other || places.is_some_and(|(place, other)| place.is_of(&other))
    };
    for (number, one) in (1..).zip(named) {
        if let Some(other) = named.iter().skip(number).find(|other| is_same(one, other)) {
            return Err(Failure::Usage(format!(
                "{} and {} are the same database, each entry of which would count twice: give it once",
                without_secrets(one),
                without_secrets(other)
            )));
        }
    }
    Ok(())
}

/// The files of a SQLite database, which may not all exist; `None` for a server.
pub(super) fn own_files(db: &str) -> Option<Vec<PathBuf>> {
    let file = match db.split_once(':') {
        Some(("sqlite", rest)) => {
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            PathBuf::from(decoded(rest.split_once('?').map_or(rest, |(path, _)| path)))
        }
        _ if db.contains("://") => return None,
        _ => PathBuf::from(db),
    };
    // The others are beside the file itself, or beside the name that it was given by.
    let names = [at_end_of_links(&file), file];
    let files = names.iter().flat_map(|file| {
        let beside = ["", "-wal", "-shm", "-journal", ".turn", ".manifest.json", ".reads.jsonl"];
        beside.map(|suffix| with_suffix(file, suffix)).into_iter().chain(queues(file))
    });
    Some(files.collect())
}

/// The directories in which the journals for this file are by default: beside it, and beside the name of which it is a period.
pub(crate) fn queues(file: &Path) -> Vec<PathBuf> {
    let mut queues = vec![with_suffix(file, ".queue")];
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let end = file.extension().and_then(|end| end.to_str()).map(|end| [".", end].concat());
    for label in ["-2026", "-2026-12", "-2026-12-31"] {
        let parts = stem.len().checked_sub(label.len()).and_then(|at| stem.split_at_checked(at));
        let is_like = |found: &str| {
            found.bytes().zip(label.bytes()).all(|(found, like)| match like {
                b'-' => found == b'-',
                _ => found.is_ascii_digit(),
            })
        };
        if let Some((log, _)) = parts.filter(|(log, found)| !log.is_empty() && is_like(found)) {
            queues.push(file.with_file_name([log, end.as_deref().unwrap_or_default(), ".queue"].concat()));
        }
    }
    queues
}

/// The file of these databases that this path names, or in which it lies, if there is one.
pub(super) fn own_file_of(databases: &[&str], path: &Path) -> Option<PathBuf> {
    let end = at_end_of_links(path);
    let (place, directory) = (FilePlace::of(&end), directory_of(&end));
    let is_same = |own: &Path| {
        let is_named = || end.file_name() == own.file_name() && directory == directory_of(own);
        let is_within =
            |directory: &PathBuf| std::fs::canonicalize(own).is_ok_and(|own| directory.starts_with(own));
        place.is_some_and(|place| place.is_of(own))
            || directory.is_some() && is_named()
            || directory.as_ref().is_some_and(is_within)
    };
    databases.iter().filter_map(|db| own_files(db)).flatten().find(|own| is_same(own))
}

/// The text with each `%xx` replaced by its byte.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = match rest {
            [b'%', digits @ ..] => digits.get(..2).and_then(|two| std::str::from_utf8(two).ok()),
            _ => None,
        };
        let byte = byte.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = after.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or(&[]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn directory_of(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()
}
