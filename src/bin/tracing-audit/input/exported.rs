//! Opens an exported file, or a copy that `tail -o` made, in place of a database.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tracing_audit::{
    AuditLog, AuditReader, Store,
    export::{ExportedLedger, OpenedExport},
};
use zstd::stream::read::Decoder;

use super::small::{read_small, read_small_or_pipe};
use crate::{
    failure::Failure,
    output::{TemporaryDirectory, at_end_of_links, hex, is_stream, remark, with_suffix},
};

/// The first bytes of a file that is compressed with gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The first bytes of a file that is compressed with zstd.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The ends of the names of such files.
const NAMES: [&str; 6] = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"];

/// The fields of the file's manifest that are checked. Other fields are for people.
#[derive(Deserialize)]
struct Manifest {
    rows: u64,
    sha256: String,
    bytes: u64,
}

/// The question that a file answers: its manifest says it, or the file beside a copy.
#[derive(Deserialize)]
struct Asked {
    /// The options of the command.
    #[serde(default)]
    query: Vec<String>,
    /// The conditions. Manifests of earlier versions do not have them.
    #[serde(rename = "asked")]
    conditions: Option<Map<String, Value>>,
    /// The options of time, which the file beside a copy has apart.
    #[serde(default)]
    times: Vec<String>,
    /// The ledgers that were exported.
    #[serde(default)]
    ledgers: Vec<Named>,
}

/// A ledger, of which the manifest says more.
#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Asked {
    /// Whether entries of a ledger were not asked for, so that numbers without an entry say nothing.
    fn leaves_out(&self) -> bool {
        let has_conditions = |asked: &Map<String, Value>| asked.keys().any(|key| key != "ledger");
        let begins_late = self.query.iter().any(|word| word.starts_with("-n") || word.starts_with("--lines"));
        self.conditions.as_ref().is_none_or(has_conditions) || !self.times.is_empty() || begins_late
    }
}

/// The file beside a copy that `tail -o` made.
pub(crate) fn source_of(path: &Path) -> PathBuf {
    with_suffix(&at_end_of_links(path), ".source.json")
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
        let mut begin = Vec::new();
        File::open(path)?.take(ZSTD.len() as u64).read_to_end(&mut begin)?;
        io::Result::Ok(begin)
    };
    is_file && begin().is_ok_and(|begin| begin.starts_with(&GZIP) || begin == ZSTD || begin.starts_with(b"{"))
}

/// The manifest beside an exported file.
pub(crate) fn manifest_beside(path: &Path) -> PathBuf {
    with_suffix(path, ".manifest.json")
}

/// Opens the file and checks it against its manifest, if it has one. Its entries are in this directory while it is open.
/// Returns a reader of each ledger, and whether entries are not in the file because they were not asked for.
pub(crate) async fn open(
    path: &Path,
    manifest: Option<&Path>,
    place: &TemporaryDirectory,
) -> Result<(Vec<AuditReader>, bool), Failure> {
    let unread = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Lost(format!("cannot read {}: {error}", path.display()))
    };
    let beside = manifest_beside(path);
    let said: Option<(&Path, Manifest, Asked)> = match manifest {
        None if is_stream(path) || !beside.exists() => None,
        given => {
            let path = given.unwrap_or(&beside);
            let bytes = read_small_or_pipe(path).map_err(|error| unread(path, &error))?;
            let unknown = |error| {
                Failure::Lost(format!("{} is no manifest of an exported file: {error}", path.display()))
            };
            let said = serde_json::from_slice(&bytes).map_err(unknown)?;
            Some((path, said, serde_json::from_slice(&bytes).map_err(unknown)?))
        }
    };
    let file = File::open(path).map_err(|error| unread(path, &error))?;
    let sum = Sum::default();
    let mut bytes = BufReader::with_capacity(1 << 16, Summed { inner: file, sum: Rc::clone(&sum) });
    let begin = bytes.fill_buf().map_err(|error| unread(path, &error))?;
    let (is_gzip, is_zstd) = (begin.starts_with(&GZIP), begin.starts_with(&ZSTD));
    let opened = if is_zstd {
        let decoder = Decoder::with_buffer(bytes).map_err(|error| unread(path, &error))?;
        let mut lines = BufReader::with_capacity(1 << 16, decoder);
        let opened = AuditReader::open_export(&mut lines, Some(place.path())).await;
        bytes = lines.into_inner().finish();
        opened
    } else if is_gzip {
        let mut lines = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(bytes));
        let opened = AuditReader::open_export(&mut lines, Some(place.path())).await;
        bytes = lines.into_inner().into_inner();
        opened
    } else {
        AuditReader::open_export(&mut bytes, Some(place.path())).await
    };
    let OpenedExport { ledgers, .. } = opened.map_err(|error| Failure::Exported(path.to_owned(), error))?;
    // Bytes after the end of a compressed stream are part of the file too.
    io::copy(&mut bytes, &mut io::sink()).map_err(|error| unread(path, &error))?;
    let entries = ledgers.iter().map(|ledger| ledger.entries).sum();
    if let Some((manifest, said, _)) = &said {
        said.check(entries, &sum, (path, manifest))?;
    }
    let asked = match said {
        Some((_, _, asked)) if ledgers.is_empty() => {
            return Ok((vec![of_none(path, &asked, place).await?], asked.leaves_out()));
        }
        Some((_, _, asked)) => Some(asked),
        None if ledgers.is_empty() => {
            return Err(Failure::Lost(format!(
                "{} has no entries, and no manifest says that it had none when it was exported: it may have been emptied. \
                 Export it again with --manifest",
                path.display()
            )));
        }
        None => of_copy(path)?,
    };
    tell_missing(path, &ledgers, asked.as_ref());
    let readers = ledgers.into_iter().map(|ledger| ledger.reader).collect();
    Ok((readers, asked.is_some_and(|asked| asked.leaves_out())))
}

/// A reader of an exported file that its manifest says to have no entries: of an empty log, made for that.
async fn of_none(path: &Path, asked: &Asked, place: &TemporaryDirectory) -> Result<AuditReader, Failure> {
    const DEADLINE: Duration = Duration::from_secs(30);
    let why = if asked.leaves_out() {
        format!("it was exported with: {}", asked.query.join(" "))
    } else {
        "the log had none when it was exported".to_owned()
    };
    remark(&format!("{} has no entries, as its manifest says ({why})", path.display()));
    let ledger = asked.ledgers.first().map_or("main", |ledger| &ledger.name);
    let file = place.path().join("empty.db");
    let log = AuditLog::builder().store(Store::sqlite(&file)?).ledger(ledger).in_memory_queue();
    let log = log.queue_max_entries(1).on_notice(|_| {}).open().await?;
    drop(log.shutdown(DEADLINE).await?);
    Ok(AuditReader::new(Store::sqlite(&file)?).of_ledger(ledger))
}

/// The lines of a file, compressed or not.
pub(crate) fn decompressed(file: File) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    let begin = file.fill_buf()?;
    Ok(if begin.starts_with(&GZIP) {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
    } else if begin.starts_with(&ZSTD) {
        Box::new(BufReader::with_capacity(1 << 16, Decoder::with_buffer(file)?))
    } else {
        Box::new(file)
    })
}

/// The question of a copy, if this is one.
fn of_copy(path: &Path) -> Result<Option<Asked>, Failure> {
    let source = source_of(path);
    if is_stream(path) {
        return Ok(None);
    }
    let asked = match read_small(&source) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    asked.map(Some).map_err(|error| {
        Failure::Lost(format!("{} does not say of what the file is a copy: {error}", source.display()))
    })
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

/// Reports which entries of its ledgers the file does not have.
fn tell_missing(path: &Path, ledgers: &[ExportedLedger], asked: Option<&Asked>) {
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
        let why = match asked {
            Some(asked) if asked.leaves_out() => format!("it was exported with: {}", asked.query.join(" ")),
            Some(_) => {
                "everything was asked for: the log did not have them, or lines were removed".to_owned()
            }
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
