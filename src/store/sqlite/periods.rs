//! Names the files of periods, of which each has a file beside the one that was given, and finds those that there are.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::source::{Source, Sqlite};
use crate::error::{AuditError, ErrorKind};

/// The database of the period of this name.
pub(super) fn of_period(sqlite: &Sqlite, label: &str) -> Result<Sqlite, AuditError> {
    let (Source::File { options, .. }, Some(path)) = (&sqlite.source, sqlite.file_path()) else {
        let message = "each period has a SQLite file of its own, and a pool is on one file: give a path, by Store::sqlite";
        return Err(AuditError::new(ErrorKind::Config, message));
    };
    let (before, after) = around(&path);
    let path = path.with_file_name([&*before, label, &*after].concat());
    Ok(Sqlite::with_options(options.as_ref().clone().filename(path)))
}

/// The possible names of periods that have a file: whatever stands where a name would, in the order of the names.
pub(super) fn labels(sqlite: &Sqlite) -> io::Result<Vec<String>> {
    let path: PathBuf = sqlite.file_path().unwrap_or_default();
    let (before, after) = around(&path);
    let Some(directory) = path.parent() else { return Ok(Vec::new()) };
    let names = match std::fs::read_dir(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut labels = Vec::new();
    for name in names {
        let name = name?;
        // One that has just been archived has no type any more.
        if name.file_type().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let name = name.file_name();
        let label = name.to_str().and_then(|name| name.strip_prefix(&*before)?.strip_suffix(&*after));
        labels.extend(label.map(str::to_owned));
    }
    labels.sort_unstable();
    Ok(labels)
}

/// The parts before and after the name of the period in the name of its file: for `audit.db`, `audit-` and `.db`.
fn around(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let end = path.extension().map(|end| [".", &*end.to_string_lossy()].concat());
    ([&*text(path.file_stem()), "-"].concat(), end.unwrap_or_default())
}
