//! Continues a file whose beginning must be what is written.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::files::open_or_create;
use crate::failure::Failure;

/// A file that may hold the beginning of the output already. The output is compared with the file as far as the file
/// goes. The file is locked, so that no other command writes to it.
pub(crate) struct Resumed {
    pub(crate) file: File,
    path: PathBuf,
    /// The bytes that are still to be compared.
    left: u64,
    /// The lines that were found to be the same.
    lines: u64,
    buffer: Vec<u8>,
}

impl Resumed {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = open_or_create(path)?;
        if file.try_lock().is_err() {
            return Err(Failure::Usage(format!(
                "another command is writing to {}: wait for it to end, or name another file",
                path.display()
            )));
        }
        let left = file.metadata()?.len();
        Ok(Self { file, path: path.to_owned(), left, lines: 0, buffer: Vec::new() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The file, once everything is written.
    pub(crate) fn finish(self) -> io::Result<File> {
        if self.left > 0 { Err(self.differs()) } else { Ok(self.file) }
    }

    /// The error of a file that holds something else. Its kind is one that no operation on a file has.
    fn differs(&self) -> io::Error {
        let message = format!("{} differs in line {}", self.path.display(), self.lines + 1);
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

impl Write for Resumed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return self.file.write(bytes);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        self.buffer.resize(bytes.len(), 0);
        self.file.read_exact(&mut self.buffer)?;
        let same = self.buffer.iter().zip(bytes).take_while(|(held, written)| held == written);
        self.lines += same.clone().filter(|(held, _)| **held == b'\n').count() as u64;
        if self.buffer != bytes {
            // Nothing more is written.
            self.left = u64::MAX;
            return Err(self.differs());
        }
        self.left -= bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
