//! Names the files of a database and the database itself, and refuses one that is given under two names.

use std::path::PathBuf;

use crate::{
    failure::Failure,
    output::{FilePlace, at_end_of_links, with_suffix},
};

/// The database's name without parts that may be secret: the file, or the URL's host, port and path.
pub(super) fn without_secrets(db: &str) -> String {
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
        ["", "-wal", "-shm", "-journal", ".turn", ".queue", ".manifest.json"]
            .map(|suffix| with_suffix(file, suffix))
    });
    Some(files.collect())
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
