//! Makes a page out of the lines of a bundle, as they come.

use std::{
    io::{self, Write},
    mem,
};

use sha2::{Digest, Sha256};
use tracing_audit::ledger::{AsGiven, BundleVerifier, NotedCheckpoint, ProvenEntry};

use super::{
    plain::{self, TABLE, TABLE_END},
    statement::Statement,
    template,
};
use crate::{
    failure::Failure,
    output::{Hashing, hex},
};

/// The most entries of a page. A browser has all of them in memory.
const MOST_ENTRIES: u64 = 100_000;

/// The entries after which there is a table.
const BLOCK: u64 = 200;

/// The line that begins lines of the bundle, and the one that ends them.
pub(super) const BEGIN: &str = "<script type=\"application/jsonl\" class=\"bundle\">\n";
pub(super) const END: &str = "</script>\n";

/// The beginning of the line before the statement.
pub(super) const ABOUT: &str = "<script type=\"application/json\" id=\"about\" data-sha256=\"";

/// The last line, around the hash of all bytes before it.
pub(super) const LAST: (&str, &str) = ("<!--sha256 ", "-->\n");

/// A page that is being written: it takes a bundle, and verifies it once more on the way. Memory is constant.
pub(crate) struct Page<W> {
    out: Hashing<W>,
    statement: Statement,
    verifier: Option<BundleVerifier>,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// Whether lines of the bundle are being written.
    is_open: bool,
    /// The rows of the entries since the last table.
    rows: String,
    /// The hash of the part that is shown without scripts, so far.
    plain: Sha256,
    entries: u64,
    refused: Option<Failure>,
}

impl<W: Write> Page<W> {
    pub(crate) fn new(out: W, statement: Statement) -> Self {
        Self {
            out: Hashing::new(out),
            statement,
            verifier: None,
            line: Vec::new(),
            is_open: false,
            rows: String::new(),
            plain: Sha256::new(),
            entries: 0,
            refused: None,
        }
    }

    /// Why a bundle cannot be put into a page, if that is why a write has failed.
    pub(crate) fn refused(&mut self) -> Option<Failure> {
        self.refused.take()
    }

    /// Ends the page after the whole bundle. `beyond` entries were asked for that its checkpoint does not cover.
    pub(crate) fn end(mut self, beyond: u64) -> io::Result<W> {
        self.close()?;
        self.noscript(&plain::below(self.entries, beyond))?;
        let json = self.statement.to_json(self.entries, beyond, &hex(&self.plain))?;
        let about = format!("\n{json}\n");
        let hash = template::sha256(&about);
        writeln!(self.out, "{ABOUT}{hash}\">{about}{END}</body>\n</html>")?;
        let hash = hex(&self.out.hash);
        self.out.inner.write_all([LAST.0, &hash, LAST.1].concat().as_bytes())?;
        Ok(self.out.inner)
    }

    /// Takes a line of the bundle.
    fn take(&mut self, line: &[u8]) -> io::Result<()> {
        if line.contains(&b'<') {
            return Err(self.refuse(
                "the name of the ledger, or of a key that has signed its checkpoint, has the character '<', which no evidence file can \
                 have: make a bundle",
            ));
        }
        let Some(verifier) = &mut self.verifier else {
            let verifier = BundleVerifier::begin(line, &AsGiven).map_err(io::Error::other)?;
            let checkpoint = verifier.checkpoint().clone();
            self.verifier = Some(verifier);
            self.begin(&checkpoint)?;
            return self.write_line(line);
        };
        match verifier.take(line).map_err(io::Error::other)? {
            Some(entry) => self.entry(&entry, line),
            None => self.write_line(line),
        }
    }

    fn begin(&mut self, checkpoint: &NotedCheckpoint) -> io::Result<()> {
        self.out.write_all(template::head().as_bytes())?;
        let above = plain::above(&self.statement, checkpoint);
        self.noscript(&above)
    }

    fn entry(&mut self, entry: &ProvenEntry, line: &[u8]) -> io::Result<()> {
        if self.entries == MOST_ENTRIES {
            return Err(self.refuse(&format!(
                "more than {MOST_ENTRIES} entries match, which is the most that an evidence file can have: ask for fewer, such as those \
                 of a month, or make a bundle"
            )));
        }
        self.entries += 1;
        plain::row(entry, &mut self.rows);
        self.write_line(line)?;
        if self.entries.is_multiple_of(BLOCK) { self.close() } else { Ok(()) }
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if !mem::replace(&mut self.is_open, true) {
            self.out.write_all(BEGIN.as_bytes())?;
        }
        self.out.write_all(line)
    }

    /// Ends the lines of the bundle, and shows their entries in a plain table.
    fn close(&mut self) -> io::Result<()> {
        if mem::replace(&mut self.is_open, false) {
            self.out.write_all(END.as_bytes())?;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = mem::take(&mut self.rows);
        self.noscript(&[TABLE, &rows, TABLE_END].concat())
    }

    fn noscript(&mut self, markup: &str) -> io::Result<()> {
        self.plain.update(markup);
        writeln!(self.out, "<noscript>{markup}</noscript>")
    }

    fn refuse(&mut self, message: &str) -> io::Error {
        self.refused = Some(Failure::Usage(message.to_owned()));
        io::Error::other(message.to_owned())
    }
}

impl<W: Write> Write for Page<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let mut line = mem::take(&mut self.line);
                self.take(&line)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
