//! `TileDirectory`: a directory with the checkpoint and the tiles of a ledger, for everybody to read.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::own_signature::problem_of;
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, NotedCheckpoint, Origin, Tile};
use crate::platform::{Access, Directory, open_regular, random};

/// The name of the file with the checkpoint.
const CHECKPOINT: &str = "checkpoint";

/// The most bytes of a checkpoint that is read.
const MOST_BYTES: u64 = 1 << 20;

/// The most directories that are held open. Each is synced before it is closed.
const MOST_OPEN: usize = 64;

/// The number of tiles in one directory.
const IN_DIRECTORY: u64 = 1000;

/// Ends the name of a directory with the partial tiles of one tile.
const PARTIAL: &str = ".p";

/// A directory in which a [`Notary`](super::Notary) publishes the tree of a ledger: the files of the C2SP's
/// [tlog-tiles](https://c2sp.org/tlog-tiles), which any web server can serve.
///
/// | file | what is in it |
/// |---|---|
/// | `checkpoint` | the newest checkpoint, with its signatures and those of witnesses |
/// | `tile/0/…` | the hashes of leaves, 256 in a full file |
/// | `tile/1/…` and on | the roots over the full files of the level below |
/// | `tile/entries/…` | the data of the leaves, if that is [asked for](Self::with_leaf_data) |
///
/// It is complete at each instant: a file appears whole and is on stable storage before the checkpoint that needs it,
/// and nothing in it is changed but the checkpoint. Partial files are removed once two checkpoints have come that have
/// the full one. A file that is there with other contents is an error, and stays as it is. Files are for this user to
/// write and others to read, whatever the umask is. One ledger has one such directory, and one notary writes there.
#[derive(Clone, Debug)]
pub struct TileDirectory {
    path: PathBuf,
    has_leaf_data: bool,
}

impl TileDirectory {
    /// The directory at this path. It is created, if the one above it exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), has_leaf_data: false }
    }

    /// Publishes the data of the leaves too, of which anybody can compute the hashes. They show no value, but the
    /// number of fields of each entry. Default: no.
    #[must_use]
    pub fn with_leaf_data(self) -> Self {
        Self { has_leaf_data: true, ..self }
    }

    pub(super) fn has_leaf_data(&self) -> bool {
        self.has_leaf_data
    }

    /// The checkpoint that is published. `None` if there is none.
    ///
    /// # Errors
    /// If it is of another ledger, or if none of the keys has signed it.
    pub(super) fn latest(&self, origin: &Origin, keys: &[String]) -> Result<Option<Checkpoint>, AuditError> {
        let Some(noted) = self.published()? else { return Ok(None) };
        let (found, path) = (noted.checkpoint(), self.path.display());
        if found.origin() != origin {
            let message = format!(
                "nothing is signed: {path} is the directory of the ledger {}, and this one is {origin}: name another directory",
                found.origin()
            );
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        match problem_of(&noted, keys) {
            None => Ok(Some(found.clone())),
            Some(problem) => {
                let message = format!(
                    "nothing is signed: the checkpoint of {} entries in {path} is not believed, because {problem}. Find out who has \
                     written it, or name another directory. After a rotation sign once with both keys, the earlier one and the new \
                     one",
                    found.size()
                );
                Err(AuditError::new(ErrorKind::Altered, message))
            }
        }
    }

    fn published(&self) -> Result<Option<NotedCheckpoint>, AuditError> {
        let path = self.path.join(CHECKPOINT);
        let mut text = String::new();
        match open_regular(&path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => {
                let message = format!("nothing is signed: cannot read {}", path.display());
                return Err(AuditError::new(ErrorKind::Output, message).because(cause));
            }
        }
        text.parse::<NotedCheckpoint>().map(Some).map_err(|cause| {
            let message = format!("nothing is signed: {} was changed: {cause}", path.display());
            AuditError::new(ErrorKind::Altered, message)
        })
    }

    /// The size up to which the tiles are published, to be followed by those of this checkpoint. `None` if a larger
    /// checkpoint is published: by another notary.
    pub(super) fn before(&self, checkpoint: &Checkpoint) -> Result<Option<u64>, AuditError> {
        let Some(noted) = self.published()? else { return Ok(Some(0)) };
        let size = noted.checkpoint().size();
        Ok(Some(size).filter(|size| *size <= checkpoint.size()))
    }

    /// Whether the data of the leaves of a tree of this size are published, as far as its last tile tells.
    pub(super) fn has_entries(&self, size: u64) -> bool {
        let last = size.checked_sub(1).map(|last| last / u64::from(Tile::FULL));
        let full = last.and_then(|last| Tile::new(0, last, Tile::FULL).ok());
        let partial = Tile::edges(size).find(|tile| tile.level() == 0);
        [full, partial].into_iter().flatten().any(|tile| self.path.join(tile.entries_path()).is_file())
    }

    /// Begins to write.
    pub(super) fn open(&self) -> Result<TileFiles, AuditError> {
        let opened = match Directory::open(&self.path, Access::Readers) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Access::Readers
                .create_directory(&self.path)
                .and_then(|()| Directory::open(&self.path, Access::Readers)),
            opened => opened,
        };
        let root = opened.map_err(|cause| unwritten(&self.path, cause))?;
        Ok(TileFiles { root, open: BTreeMap::new() })
    }
}

/// The files of a directory, while some are written.
pub(super) struct TileFiles {
    root: Directory,
    /// Directories in it, in which something may have been written.
    open: BTreeMap<PathBuf, Directory>,
}

impl TileFiles {
    /// Writes a file that is for ever. One that is there must have these contents.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let place = self.root.path().join(path);
        let put = self.directory_above(Path::new(path)).and_then(|directory| {
            let file = match directory.file(path, false) {
                Ok(file) => file,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    return write(directory, path, bytes).map(|()| true);
                }
                Err(cause) => return Err(cause),
            };
            let mut found = Vec::with_capacity(bytes.len() + 1);
            file.take(bytes.len() as u64 + 1).read_to_end(&mut found)?;
            Ok(found == bytes)
        });
        match put {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = format!(
                    "nothing is published: {} has other contents than the ledger: one of them was changed. Verify the ledger against \
                     a checkpoint that was kept elsewhere; if it is the file, remove it",
                    place.display()
                );
                Err(AuditError::new(ErrorKind::Altered, message))
            }
            Err(cause) => Err(unwritten(&place, cause)),
        }
    }

    /// Publishes a checkpoint, once everything that was written before is on stable storage.
    pub(super) fn put_checkpoint(&mut self, text: &str) -> Result<(), AuditError> {
        let put = self.sync().and_then(|()| write(&self.root, CHECKPOINT, text.as_bytes()));
        let put = put.and_then(|()| self.root.sync());
        put.map_err(|cause| unwritten(&self.root.path().join(CHECKPOINT), cause))
    }

    /// Removes the partial files of the first `full` tiles of a level, which are full. It looks into the two last
    /// directories of them: in those before nothing is left.
    pub(super) fn remove_partial(
        &mut self,
        level: u8,
        full: u64,
        path: fn(Tile) -> String,
    ) -> Result<(), AuditError> {
        let Some(last) = full.checked_sub(1).map(|last| last / IN_DIRECTORY) else { return Ok(()) };
        for part in last.saturating_sub(1)..=last {
            let first = part * IN_DIRECTORY;
            let Ok(tile) = Tile::new(level, first, Tile::FULL) else { continue };
            let place = path(tile);
            self.remove_partial_beside(&place, |number| first + number < full).map_err(|cause| {
                let place = self.root.path().join(place);
                let message =
                    format!("cannot remove partial tiles beside {}, which nobody needs", place.display());
                AuditError::new(ErrorKind::Output, message).because(cause)
            })?;
        }
        Ok(())
    }

    fn remove_partial_beside(&mut self, tile: &str, is_full: impl Fn(u64) -> bool) -> io::Result<()> {
        let directory = self.directory_above(Path::new(tile))?;
        for name in directory.names()? {
            let number = name.to_str().and_then(|name| name.strip_suffix(PARTIAL)?.parse::<u64>().ok());
            if number.is_some_and(&is_full) {
                remove_all(directory, &name)?;
            }
        }
        Ok(())
    }

    /// The directory of a file, which is made if it is not there.
    fn directory_above(&mut self, path: &Path) -> io::Result<&Directory> {
        let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) else {
            return Ok(&self.root);
        };
        if !self.open.contains_key(above) {
            let opened = self.directory_above(above)?.directory_or_new(above)?;
            if self.open.len() >= MOST_OPEN {
                self.sync()?;
            }
            self.open.insert(above.to_owned(), opened);
        }
        self.open.get(above).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open.values().try_for_each(Directory::sync)?;
        self.root.sync()?;
        self.open.clear();
        Ok(())
    }
}

/// Writes a file that appears under its name when it is complete, and is on stable storage then.
fn write(directory: &Directory, path: &str, bytes: &[u8]) -> io::Result<()> {
    let name = Path::new(path).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let beside = format!(".{name}.{:016x}.new", random());
    let mut file = directory.create_file(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let named = written.and_then(|()| directory.rename(&beside, path));
    if named.is_err() {
        // What has failed is reported. Half a file beside the others is of no use.
        drop(directory.remove_if_there(&beside));
    }
    named
}

/// Removes a directory of files.
fn remove_all(directory: &Directory, name: &OsStr) -> io::Result<()> {
    let found = directory.directory(name)?;
    for file in found.names()? {
        found.remove_if_there(&file)?;
    }
    directory.remove_directory(name)
}

fn unwritten(path: &Path, cause: io::Error) -> AuditError {
    let message = format!("nothing is published: cannot write {}", path.display());
    AuditError::new(ErrorKind::Output, message).because(cause)
}
