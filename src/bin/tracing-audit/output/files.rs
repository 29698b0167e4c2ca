//! Writes files that appear only when they are complete.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A temporary file in the directory of `path`, to be renamed to `path` when it is complete.
pub(crate) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).map_err(|error| with_path(path, &error))
}

/// Moves the complete file to its name.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map(drop).map_err(|error| with_path(path, &error.error))
}

/// The error, with the name of the file in its message.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The path with `suffix` appended to its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Writes the value as JSON. The file is replaced in one step, once its new content is synced.
pub(crate) fn save_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut file = temporary_beside(path)?;
    serde_json::to_writer_pretty(&mut file, value).map_err(io::Error::from)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    Ok(persist(file, path)?)
}
