//! Opens an exported file: checks its lines, and loads them into a private database, so that it is read as a log.

use std::{collections::BTreeMap, io::BufRead, path::Path};

use crate::entry::{Row, row_of_line};
use crate::error::{AuditError, ErrorKind};
use crate::platform::on_own_runtime;
use crate::reader::AuditReader;
use crate::store::{NotAdded, PrivateDatabase};

/// The longest line. An entry may have a megabyte of text, each byte of which may be escaped with six.
const LINE: u64 = 64 << 20;

/// Rows and bytes of lines that are added at a time: they are in memory together with the longest line.
const ROWS: usize = 1024;
const BYTES: usize = 2 << 20;

/// The most wrong lines that an error names.
const NAMED: usize = 10;

/// The most ledgers in one file. Each has a database and connections of its own while the file is open.
const LEDGERS: usize = 32;

/// A file of [`ExportFormat::JsonLines`](super::ExportFormat::JsonLines) that was opened: see
/// [`AuditReader::open_export`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenedExport {
    /// The ledgers of which the file has entries, in the order of their names.
    pub ledgers: Vec<ExportedLedger>,
}

/// A ledger in an exported file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExportedLedger {
    /// The ledger's name.
    pub name: String,
    /// Reads what the file has of the ledger.
    pub reader: AuditReader,
    /// The number of its entries in the file.
    pub entries: u64,
    /// The `seq` of the first of them.
    pub first_seq: u64,
    /// The `seq` of the last of them.
    pub last_seq: u64,
    /// The number of entries between these two that the file does not have: it was exported with conditions, or the ledger
    /// had lost them, or lines were removed.
    pub missing: u64,
    /// The number of the line after which the first of these is missing, and its `seq`.
    pub first_missing: Option<(u64, u64)>,
}

impl AuditReader {
    /// Opens a file that was exported as JSON Lines, or copied by the command `tail -o`: every call of a reader then
    /// answers from it.
    ///
    /// The lines are read once, and loaded into a private SQLite database, which takes about as much room as the lines.
    /// It is in `directory`, or by default where SQLite keeps its temporary files (the variable `SQLITE_TMPDIR`, then
    /// `TMPDIR`, `/var/tmp`, `/tmp`). Only this user can read it, its file has no name while it holds entries, and it is
    /// gone when the last reader is dropped. An empty directory may be left if the process is killed. Memory stays
    /// constant at any size.
    ///
    /// Each entry comes back as it was exported, with its `seq`, time of commit and problems. A line that is not an entry,
    /// an incomplete last line, a `seq` that does not ascend within its ledger and an `id` that occurs twice are errors: a
    /// file with such lines is not opened, so that what can be read of it passes for nothing whole. Entries that are
    /// missing in between are counted in [`ExportedLedger::missing`], since an export with conditions has such gaps.
    /// A text that was changed within a line is not noticed: compare the file's SHA-256 with that of its manifest, as the
    /// command does.
    ///
    /// For a compressed file, give a decoder, for instance flate2's `MultiGzDecoder` in a `BufReader`. Reading blocks the
    /// thread.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// # log.writer().commit(tracing_audit::AuditEntry::new(uuid::Uuid::nil(), "document.read", "document")).await?;
    /// use tracing_audit::{AuditQuery, AuditReader, export::ExportFormat};
    ///
    /// let mut file = Vec::new();
    /// log.reader().export(AuditQuery::new(), ExportFormat::JsonLines, &mut file).await?;
    ///
    /// let opened = AuditReader::open_export(file.as_slice(), None).await?;
    /// assert_eq!(opened.ledgers[0].missing, 0);
    /// assert_eq!(opened.ledgers[0].reader.count(AuditQuery::new().action("document.read")).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the file is not whole, which names the wrong lines, if it cannot be read,
    /// or if there is no room for the database.
    ///
    /// # Cancel safety
    /// Dropping the future removes the database.
    pub async fn open_export(
        mut lines: impl BufRead,
        directory: Option<&Path>,
    ) -> Result<OpenedExport, AuditError> {
        let mut opening = Opening::new(directory);
        let mut line = Vec::new();
        while next_line(&mut lines, &mut line, opening.lines)? > 0 {
            opening.add(&line).await?;
        }
        opening.finish().await
    }
}

/// Calls [`AuditReader::open_export`] and blocks until it is done. The calls of
/// [`AuditReader::blocking`](AuditReader::blocking) then answer from the file.
///
/// # Errors
/// The errors are those of that call.
pub fn open_export(lines: impl BufRead, directory: Option<&Path>) -> Result<OpenedExport, AuditError> {
    on_own_runtime(AuditReader::open_export(lines, directory))
}

/// Reads the next line, with the line break at its end, and returns its length: 0 at the end of the file.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>, before: u64) -> Result<usize, AuditError> {
    line.clear();
    std::io::Read::take(lines, LINE).read_until(b'\n', line).map_err(|cause| {
        let message =
            format!("the exported file cannot be read beyond line {before}, and nothing was read from it");
        AuditError::new(ErrorKind::Store, message).because(cause)
    })
}

/// The part of a ledger that was read so far.
struct Loading {
    database: PrivateDatabase,
    entries: u64,
    first_seq: u64,
    last_seq: u64,
    first_missing: Option<(u64, u64)>,
}

/// A file that is being opened.
struct Opening<'a> {
    directory: Option<&'a Path>,
    ledgers: BTreeMap<String, Loading>,
    /// The ledger of the rows that wait, the rows, and the numbers of their lines.
    waiting: (String, Vec<(i64, Row, i64)>, Vec<u64>),
    bytes: usize,
    /// The number of lines read.
    lines: u64,
    wrong: Wrong,
}

/// The lines that are wrong: the first of them, and how many.
#[derive(Default)]
struct Wrong {
    told: Vec<String>,
    count: u64,
}

impl Wrong {
    fn add(&mut self, line: u64, what: &str) {
        self.count += 1;
        if self.told.len() < NAMED {
            self.told.push(format!("line {line} {what}"));
        }
    }

    fn into_error(self) -> Option<AuditError> {
        if self.count == 0 {
            return None;
        }
        let more = self.count - self.told.len() as u64;
        let more = if more > 0 { format!("; and {more} more lines") } else { String::new() };
        let message = format!(
            "the exported file is not whole, and nothing was read from it: {}{more}. Export it again, or restore the file",
            self.told.join("; ")
        );
        Some(AuditError::new(ErrorKind::Store, message))
    }
}

impl<'a> Opening<'a> {
    fn new(directory: Option<&'a Path>) -> Self {
        let (waiting, wrong) = Default::default();
        Self { directory, ledgers: BTreeMap::new(), waiting, bytes: 0, lines: 0, wrong }
    }

    /// Checks the next line and adds its entry. Once a line is wrong, the others are only checked.
    async fn add(&mut self, line: &[u8]) -> Result<(), AuditError> {
        self.lines += 1;
        let Some(whole) = line.strip_suffix(b"\n") else {
            let what = if line.len() as u64 == LINE {
                "is longer than 64 MiB"
            } else {
                "is not complete: the file was cut, or is being written"
            };
            self.wrong.add(self.lines, what);
            // The bytes that follow are not the beginning of a line.
            return if line.len() as u64 == LINE { Err(self.failed()) } else { Ok(()) };
        };
        let found = match row_of_line(whole) {
            Ok(found) => found,
            Err(what) => {
                self.wrong.add(self.lines, &what);
                return Ok(());
            }
        };
        // A number must be left for the entry that would come next.
        let Some(seq) = i64::try_from(found.seq).ok().filter(|seq| *seq < i64::MAX) else {
            self.wrong.add(self.lines, "has a seq that no entry can have");
            return Ok(());
        };
        let line_before = self.lines - 1;
        if !self.ledgers.contains_key(&found.ledger) {
            self.begin(&found.ledger, found.seq).await?;
        }
        let Some(loading) = self.ledgers.get_mut(&found.ledger) else { return Ok(()) };
        if loading.entries > 0 && found.seq <= loading.last_seq {
            let what = format!(
                "has seq {} after seq {} of the ledger {:?}: an export is in the order of seq",
                found.seq, loading.last_seq, found.ledger
            );
            self.wrong.add(self.lines, &what);
            return Ok(());
        }
        let next = loading.last_seq.saturating_add(1);
        if loading.entries > 0 && found.seq > next && loading.first_missing.is_none() {
            loading.first_missing = Some((line_before, next));
        }
        loading.last_seq = found.seq;
        loading.entries += 1;
        let (ledger, rows, numbers) = &self.waiting;
        if *ledger != found.ledger && !rows.is_empty() || numbers.len() >= ROWS || self.bytes >= BYTES {
            self.load().await?;
        }
        let (ledger, rows, numbers) = &mut self.waiting;
        *ledger = found.ledger;
        rows.push((seq, found.row, found.committed_at.unwrap_or_default()));
        numbers.push(self.lines);
        self.bytes += whole.len();
        Ok(())
    }

    async fn begin(&mut self, ledger: &str, first_seq: u64) -> Result<(), AuditError> {
        if self.ledgers.len() >= LEDGERS {
            let message = format!(
                "the exported file has entries of more than {LEDGERS} ledgers, too many to read at once: export fewer of \
                 them into one file"
            );
            return Err(AuditError::new(ErrorKind::Store, message));
        }
        let database = PrivateDatabase::create(ledger, self.directory).await?;
        let loading = Loading { database, entries: 0, first_seq, last_seq: 0, first_missing: None };
        self.ledgers.insert(ledger.to_owned(), loading);
        Ok(())
    }

    /// Adds the rows that wait.
    async fn load(&mut self) -> Result<(), AuditError> {
        self.bytes = 0;
        let (ledger, rows, numbers) = &mut self.waiting;
        let (rows, numbers) = (std::mem::take(rows), std::mem::take(numbers));
        let Some(loading) = self.ledgers.get_mut(ledger).filter(|_| self.wrong.count == 0) else {
            return Ok(());
        };
        match loading.database.add(&rows).await {
            Ok(()) => Ok(()),
            Err(NotAdded::Duplicate(place, held)) => {
                let line = numbers.get(place).copied().unwrap_or(self.lines);
                let what = format!("has the id of the entry with seq {held} of the ledger {ledger:?}");
                self.wrong.add(line, &what);
                Ok(())
            }
            Err(NotAdded::Failed(error)) => Err(error),
        }
    }

    fn failed(&mut self) -> AuditError {
        let wrong = std::mem::take(&mut self.wrong).into_error();
        wrong.unwrap_or_else(|| AuditError::new(ErrorKind::Store, "the exported file is not whole"))
    }

    async fn finish(mut self) -> Result<OpenedExport, AuditError> {
        self.load().await?;
        if let Some(error) = self.wrong.into_error() {
            return Err(error);
        }
        let mut ledgers = Vec::new();
        for (name, loading) in self.ledgers {
            let Loading { database, entries, first_seq, last_seq, first_missing } = loading;
            let reader = AuditReader::new(database.finish().await?).of_ledger(name.clone());
            let missing = last_seq.saturating_sub(first_seq).saturating_add(1).saturating_sub(entries);
            ledgers.push(ExportedLedger {
                name,
                reader,
                entries,
                first_seq,
                last_seq,
                missing,
                first_missing,
            });
        }
        Ok(OpenedExport { ledgers })
    }
}
