//! Files that appear whole or not at all.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file without a name of its own, where the one with the name will be.
pub(crate) fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))
}

/// The path with this at its end.
pub(crate) fn with(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

/// As JSON, whole or not at all.
pub(crate) fn save(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut file = beside(path)?;
    serde_json::to_writer_pretty(&mut file, value).map_err(io::Error::from)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
