//! Opens an exported file, or a copy that `tail -o` made, in place of a database.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing_audit::{
    AuditReader,
    export::{ExportedLedger, OpenedExport},
};

use super::small::read_small_or_pipe;
use crate::{
    failure::Failure,
    output::{TemporaryDirectory, hex, is_stream, remark, with_suffix},
};

/// The first bytes of a file that is compressed with gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The ends of the names of such files.
const NAMES: [&str; 4] = [".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"];

/// What the file's manifest says of it. Other fields are for people.
#[derive(Deserialize)]
struct Manifest {
    rows: u64,
    sha256: String,
    bytes: u64,
    #[serde(default)]
    query: Value,
}

/// Whether the name of a database is that of an exported file: by its end or its first byte, or because it is a pipe.
pub(crate) fn is_exported(db: &str) -> bool {
    let path = Path::new(db);
    if db.contains("://") || db.starts_with("sqlite:") {
        return false;
    }
    if NAMES.iter().any(|name| db.ends_with(name)) || is_stream(path) {
        return true;
    }
    // Only files are opened: opening anything else might wait.
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let begin = || {
        let mut begin = [0; 2];
        File::open(path)?.read_exact(&mut begin)?;
        io::Result::Ok(begin)
    };
    is_file && begin().is_ok_and(|begin| begin == GZIP || begin.starts_with(b"{"))
}

/// The manifest beside an exported file.
pub(crate) fn manifest_beside(path: &Path) -> PathBuf {
    with_suffix(path, ".manifest.json")
}

/// Opens the file and checks it against its manifest, if it has one. Its entries are in this directory while it is open.
/// Also returns whether there is a manifest, which tells why entries are not in the file.
pub(crate) async fn open(
    path: &Path,
    manifest: Option<&Path>,
    place: &TemporaryDirectory,
) -> Result<(Vec<ExportedLedger>, bool), Failure> {
    let unread = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Lost(format!("cannot read {}: {error}", path.display()))
    };
    let beside = manifest_beside(path);
    let said: Option<(&Path, Manifest)> = match manifest {
        None if is_stream(path) || !beside.exists() => None,
        given => {
            let path = given.unwrap_or(&beside);
            let bytes = read_small_or_pipe(path).map_err(|error| unread(path, &error))?;
            let said = serde_json::from_slice(&bytes).map_err(|error| {
                Failure::Lost(format!("{} is no manifest of an exported file: {error}", path.display()))
            })?;
            Some((path, said))
        }
    };
    let file = File::open(path).map_err(|error| unread(path, &error))?;
    let sum = Sum::default();
    let mut bytes = BufReader::with_capacity(1 << 16, Summed { inner: file, sum: Rc::clone(&sum) });
    let is_gzip = bytes.fill_buf().map_err(|error| unread(path, &error))?.starts_with(&GZIP);
    let opened = if is_gzip {
        let mut lines = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(bytes));
        let opened = AuditReader::open_export(&mut lines, Some(place.path())).await;
        bytes = lines.into_inner().into_inner();
        opened
    } else {
        AuditReader::open_export(&mut bytes, Some(place.path())).await
    };
    let OpenedExport { ledgers, .. } = opened.map_err(|error| Failure::Exported(path.to_owned(), error))?;
    // What is left after the end of a compressed stream is part of the file too.
    io::copy(&mut bytes, &mut io::sink()).map_err(|error| unread(path, &error))?;
    let entries = ledgers.iter().map(|ledger| ledger.entries).sum();
    if let Some((manifest, said)) = &said {
        said.check(entries, &sum, (path, manifest))?;
    }
    tell_missing(path, &ledgers, said.as_ref().map(|(_, said)| &said.query));
    Ok((ledgers, said.is_some()))
}

impl Manifest {
    /// Compares what was read with what the manifest says.
    fn check(&self, entries: u64, sum: &Sum, (path, manifest): (&Path, &Path)) -> Result<(), Failure> {
        let (hash, bytes) = sum.take();
        let hash = hex(&hash);
        let differs = if bytes != self.bytes {
            format!("it has {bytes} bytes, not {}", self.bytes)
        } else if hash != self.sha256 {
            format!("its SHA-256 is {hash}, not {}", self.sha256)
        } else if entries != self.rows {
            format!("it has {entries} entries, not {}", self.rows)
        } else {
            return Ok(());
        };
        Err(Failure::Lost(format!(
            "{} is not the file that {} describes: {differs}. It was changed after it was exported, or the manifest is \
             that of another file",
            path.display(),
            manifest.display()
        )))
    }
}

/// Tells which entries of its ledgers the file does not have.
fn tell_missing(path: &Path, ledgers: &[ExportedLedger], query: Option<&Value>) {
    for ledger in ledgers {
        let missing = ledger.first_seq + ledger.missing;
        if missing == 0 {
            continue;
        }
        let first = match ledger.first_missing {
            Some((line, seq)) if ledger.first_seq == 0 => {
                format!(", the first is seq {seq} after line {line}")
            }
            _ => String::new(),
        };
        let why = match query {
            Some(Value::Array(words)) => {
                let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
                format!("it was exported with: {}", words.join(" "))
            }
            Some(query) => format!("it was exported with: {query}"),
            None => {
                "it was exported with conditions, or lines were removed; no manifest tells which".to_owned()
            }
        };
        remark(&format!(
            "{} has {} entries of the ledger {:?}, up to seq {}; {missing} before that are not in the file{first} ({why})",
            path.display(),
            ledger.entries,
            ledger.name,
            ledger.last_seq
        ));
    }
}

/// The SHA-256 of what was read, and the number of bytes.
type Sum = Rc<RefCell<(Sha256, u64)>>;

/// Sums up what is read.
struct Summed {
    inner: File,
    sum: Sum,
}

impl Read for Summed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        let (hash, bytes) = &mut *self.sum.borrow_mut();
        hash.update(into.get(..read).unwrap_or(into));
        *bytes += read as u64;
        Ok(read)
    }
}
