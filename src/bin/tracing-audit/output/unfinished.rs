//! Standard output, where it is a file: which entries a killed command had written to it.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
};

use serde::{Deserialize, Serialize};
use tracing_audit::SequencedEntry;
use uuid::Uuid;

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilePlace {
    device: u64,
    inode: u64,
    length: u64,
}

/// None for what is not a file.
#[cfg(unix)]
pub(crate) fn place() -> Option<FilePlace> {
    use std::os::{fd::AsFd, unix::fs::MetadataExt};
    let file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(FilePlace { device: found.dev(), inode: found.ino(), length: found.len() })
}

#[cfg(not(unix))]
pub(crate) fn place() -> Option<FilePlace> {
    None
}

/// What was written after it was last known how far the command had come.
pub(crate) struct Unfinished {
    /// How far that was.
    pub(crate) place: FilePlace,
    written: HashMap<u64, Uuid>,
    /// Of the entry after those.
    pub(crate) part: Vec<u8>,
}

impl Unfinished {
    /// None if the file is another one, or cannot be read: then entries may come again.
    pub(crate) fn since(place: FilePlace, ledger: &str) -> Option<Self> {
        let now = self::place()?;
        if (now.device, now.inode) != (place.device, place.inode) || now.length < place.length {
            return None;
        }
        Self::read(place, ledger).ok()
    }

    fn read(place: FilePlace, ledger: &str) -> io::Result<Self> {
        // What is opened for appending cannot be read itself.
        let mut file = File::open("/proc/self/fd/1")?;
        file.seek(SeekFrom::Start(place.length))?;
        let (mut file, mut written, mut line) = (BufReader::new(file), HashMap::new(), Vec::new());
        loop {
            line.clear();
            file.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Ok(Self { place, written, part: line });
            }
            // Others may write to the file too.
            if let Ok(found) = serde_json::from_slice::<SequencedEntry>(&line)
                && found.ledger == ledger
            {
                written.insert(found.seq, found.entry.id);
            }
        }
    }

    pub(crate) fn holds(&self, found: &SequencedEntry) -> bool {
        self.written.get(&found.seq) == Some(&found.entry.id)
    }
}
