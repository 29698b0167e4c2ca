//! Appends to a JSON Lines file whose last line says where to continue.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tracing_audit::SequencedEntry;

use super::files::open_or_create;
use crate::failure::Failure;

/// The beginning of every line.
const LINE_START: &[u8] = b"{\"ledger\":";

/// The longest line of an entry.
const LONGEST: u64 = 1 << 28;

/// The number of bytes that are read at a time when searching backwards.
const CHUNK: u64 = 1 << 16;

/// The file, locked so that no other command writes to it.
pub(crate) struct Lines {
    pub(crate) file: File,
    path: PathBuf,
}

impl Lines {
    /// Opens or creates the file, and removes an incomplete last line, which a killed command left.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = open_or_create(path)?;
        if file.try_lock().is_err() {
            return Err(Failure::Usage(format!(
                "another command is writing to {}: wait for it to end, or name another file",
                path.display()
            )));
        }
        let mut lines = Self { file, path: path.to_owned() };
        let length = lines.file.metadata()?.len();
        let end = lines.after_last_newline(length)?;
        // Do not truncate a file that holds anything but entries.
        if end > 0 {
            lines.last_before(end)?;
        } else if length > 0 {
            let mut begin = Vec::new();
            lines.file.seek(SeekFrom::Start(0))?;
            (&mut lines.file).take(LINE_START.len() as u64).read_to_end(&mut begin)?;
            if !LINE_START.starts_with(&begin) {
                return Err(lines.foreign());
            }
        }
        lines.file.set_len(end)?;
        lines.file.seek(SeekFrom::End(0))?;
        Ok(lines)
    }

    /// The last entry of the file; `None` if the file is empty.
    pub(crate) fn last(&mut self) -> Result<Option<SequencedEntry>, Failure> {
        let end = self.file.metadata()?.len();
        if end == 0 { Ok(None) } else { self.last_before(end).map(Some) }
    }

    /// The entry whose line ends at the offset `end`.
    fn last_before(&mut self, end: u64) -> Result<SequencedEntry, Failure> {
        let start = self.after_last_newline(end.saturating_sub(1))?;
        if end - start > LONGEST {
            return Err(self.foreign());
        }
        let mut line = Vec::new();
        self.file.seek(SeekFrom::Start(start))?;
        (&mut self.file).take(end - start).read_to_end(&mut line)?;
        serde_json::from_slice(&line).map_err(|_| self.foreign())
    }

    fn foreign(&self) -> Failure {
        Failure::Usage(format!(
            "{} does not end with an entry, so nothing was written to it: name another file",
            self.path.display()
        ))
    }

    /// The offset of the beginning of the line that contains the byte before `end`.
    fn after_last_newline(&mut self, mut end: u64) -> io::Result<u64> {
        while end > 0 {
            let start = end.saturating_sub(CHUNK);
            let mut bytes = Vec::new();
            self.file.seek(SeekFrom::Start(start))?;
            (&mut self.file).take(end - start).read_to_end(&mut bytes)?;
            if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
