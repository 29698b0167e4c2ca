//! Finds the entries that a killed command had already written to standard output, if that is a file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tracing_audit::SequencedEntry;
use uuid::Uuid;

/// A file, and its length at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilePlace {
    device: u64,
    inode: u64,
    length: u64,
}

impl FilePlace {
    /// `None` if the path names no file.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Self::from(&std::fs::metadata(path).ok()?)
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_path: &Path) -> Option<Self> {
        None
    }

    #[cfg(unix)]
    fn from(found: &std::fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let place = Self { device: found.dev(), inode: found.ino(), length: found.len() };
        found.is_file().then_some(place)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Whether the path names this file, whatever its length is now.
    pub(crate) fn is_of(self, path: &Path) -> bool {
        Self::of(path).is_some_and(|found| (found.device, found.inode) == (self.device, self.inode))
    }
}

/// The place of the file that standard output is, and its length; `None` if it is not a file.
#[cfg(unix)]
pub(crate) fn stdout_place() -> Option<FilePlace> {
    use std::os::fd::AsFd;
    let file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    FilePlace::from(&file.metadata().ok()?)
}

#[cfg(not(unix))]
pub(crate) fn stdout_place() -> Option<FilePlace> {
    None
}

/// The entries that were written after the state was last saved.
pub(crate) struct Unfinished {
    /// The file, with its length when the state was saved.
    pub(crate) place: FilePlace,
    /// The ids of those entries, by `seq`.
    written: HashMap<u64, Uuid>,
    /// The beginning of the next entry's line, if the command was killed while writing it.
    pub(crate) part: Vec<u8>,
}

impl Unfinished {
    /// Reads what was written since. `None` if standard output is another file now, or cannot be read: then some
    /// entries may be written again.
    pub(crate) fn since(place: FilePlace, ledger: &str) -> Option<Self> {
        let now = stdout_place()?;
        if (now.device, now.inode) != (place.device, place.inode) || now.length < place.length {
            return None;
        }
        Self::read(place, ledger).ok()
    }

    fn read(place: FilePlace, ledger: &str) -> io::Result<Self> {
        // Open the file again: a descriptor that is open for appending only cannot be read.
        let mut file = File::open("/proc/self/fd/1")?;
        file.seek(SeekFrom::Start(place.length))?;
        let (mut file, mut written, mut line) = (BufReader::new(file), HashMap::new(), Vec::new());
        loop {
            line.clear();
            file.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Ok(Self { place, written, part: line });
            }
            // Skip lines that are not entries of this ledger: others may write to the file too.
            if let Ok(found) = serde_json::from_slice::<SequencedEntry>(&line)
                && found.ledger == ledger
            {
                written.insert(found.seq, found.entry.id);
            }
        }
    }

    /// Whether this entry was already written.
    pub(crate) fn holds(&self, found: &SequencedEntry) -> bool {
        self.written.get(&found.seq) == Some(&found.entry.id)
    }
}
