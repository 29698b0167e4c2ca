//! The command `export`: writes entries to a file, with a manifest; resumes an interrupted export.

use std::{
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use futures_util::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing_audit::{
    AuditError, AuditQuery, AuditReader, SequencedEntry,
    export::{ExportChunk, ExportFormat},
    reader::Ledger,
};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Log, Range},
    output::{
        self, GzipIf, Hashing, Lines, NewFile, Progress, Stdout, at_end_of_links, is_stream, replace,
        save_json, with_path, with_suffix,
    },
};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Export {
    /// The file format.
    #[arg(long, value_enum, default_value_t = Kind::Jsonl)]
    format: Kind,
    /// The file to write [default: standard output].
    ///
    /// The file appears under its name when the export is complete, for this user alone. An existing file is replaced
    /// then, and keeps its owner and mode. A device or a pipe is written to as it is, and - means standard output. A
    /// name that ends with .gz means a compressed file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compress the output with gzip, whatever the file's name.
    #[arg(long)]
    gzip: bool,
    /// Also write FILE.manifest.json, with the number of rows, the query, the ledgers and the file's SHA-256.
    #[arg(long, requires = "output")]
    manifest: bool,
    /// Continue an export to this file that was interrupted, or begin one that can be continued.
    ///
    /// The entries are kept in FILE.partial until the export is complete. The file is then the same, byte for byte, as
    /// without an interruption. Only for JSON Lines that are not compressed.
    #[arg(long, requires = "output", conflicts_with = "gzip")]
    resume: bool,
    /// Write CSV for programs: without the ' that stops a spreadsheet from running a text as a formula.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// JSON Lines, ordered by ledger and seq.
    Jsonl,
    /// CSV, ordered by time, latest first.
    Csv,
    /// OCSF 1.8.0 events of the class API Activity, as JSON Lines ordered by ledger and seq.
    Ocsf,
}

/// The manifest, which describes an exported file.
#[derive(Serialize)]
struct Manifest<'a> {
    file: String,
    rows: u64,
    /// The SHA-256 of the file's bytes, after compression.
    sha256: String,
    bytes: u64,
    /// The command's options, without those that name the database.
    query: Vec<String>,
    /// The ranges of time that the options gave.
    #[serde(flatten)]
    range: Range,
    exported_at: DateTime<Utc>,
    /// The length of each ledger when the export began: later entries are not in the file.
    ledgers: &'a [Ledger],
    tracing_audit: &'static str,
}

impl Export {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let output = self.output(database)?;
        let Log { reader, ledgers, .. } = database.open_one().await?;
        let asked = self.conditions.ledgers(&ledgers)?;
        let mut query = self.conditions.query()?;
        output::warn_if_it_scans(&query, &ledgers);
        if self.format == Kind::Csv {
            query = match asked.as_slice() {
                [one] => query.before_seq(self.end(one, &ledgers)),
                _ if self.manifest => {
                    return Err(Failure::Usage(
                        "a CSV file with a manifest covers one ledger: choose it with --ledger".to_owned(),
                    ));
                }
                _ => query,
            };
        }
        let Some(path) = output else {
            output::refuse_terminal()?;
            let mut out = GzipIf::new(Stdout::default(), self.gzip);
            self.write(&reader, &query, &ledgers, None, &mut out).await?;
            return Ok(out.finish()?.flush()?);
        };
        let gzip = self.gzip || path.extension().is_some_and(|end| end == "gz");
        if self.resume {
            if gzip || self.format != Kind::Jsonl {
                let message = "--resume works only with JSON Lines that are not compressed: \
                    choose --format jsonl and a name without .gz";
                return Err(Failure::Usage(message.to_owned()));
            }
            return self.resume(path, &reader, ledgers).await;
        }
        let mut out = GzipIf::new(Hashing::new(NewFile::create(path)?), gzip);
        let rows = self.write(&reader, &query, &ledgers, None, &mut out).await?;
        let Hashing { inner, hash, bytes } = out.finish()?;
        self.manifest(path, &ledgers, self.conditions.period.range()?, rows, (hash, bytes))?;
        Ok(inner.finish()?)
    }

    /// The file to write; `None` for standard output.
    fn output(&self, database: &Database) -> Result<Option<&Path>, Failure> {
        let Some(path) = self.output.as_deref() else { return Ok(None) };
        let is_stdout = ["-", "/dev/stdout", "/dev/fd/1"].iter().any(|name| path == Path::new(name));
        if (is_stdout || is_stream(path)) && (self.manifest || self.resume) {
            return Err(Failure::Usage(format!(
                "--manifest and --resume need a file, which {} is not: give its name by -o",
                path.display()
            )));
        }
        if is_stdout {
            return Ok(None);
        }
        for suffix in ["", ".manifest.json", ".partial", ".partial.json"] {
            database.refuse_output(&with_suffix(path, suffix))?;
        }
        Ok(Some(path))
    }

    /// Continues after the last entry of the partial file, up to where the ledgers ended when the export began.
    async fn resume(&self, path: &Path, reader: &AuditReader, ledgers: Vec<Ledger>) -> Result<(), Failure> {
        // Links stay: the file takes its place where they lead.
        let to = at_end_of_links(path);
        let (partial, plan) = (with_suffix(&to, ".partial"), with_suffix(&to, ".partial.json"));
        // This locks the partial file until the export ends.
        let mut lines = Lines::open(&partial)?;
        let Plan { range, ledgers, .. } = match std::fs::read(&plan) {
            Ok(bytes) => Plan::parse(&bytes, &plan, &ledgers)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Without a plan nothing says which export the partial file belongs to: begin it again.
                lines.file.set_len(0)?;
                let range = self.conditions.period.range()?;
                let made = Plan { options: options(), range, ledgers };
                save_json(&plan, &made)?;
                made
            }
            Err(error) => return Err(with_path(&plan, &error).into()),
        };
        let query = range.add(self.conditions.timeless()?);
        let last = lines.last()?;
        lines.file.seek(SeekFrom::Start(0))?;
        let mut known = Hashing::new(io::sink());
        let mut rows = 0;
        for line in BufReader::new(&lines.file).split(b'\n') {
            known.write_all(&line?)?;
            known.write_all(b"\n")?;
            rows += 1;
        }
        let out = Hashing { inner: lines, hash: known.hash, bytes: known.bytes };
        let mut out = GzipIf::new(out, false);
        rows += self.write(reader, &query, &ledgers, last.as_ref(), &mut out).await?;
        let Hashing { inner, hash, bytes } = out.finish()?;
        inner.file.sync_all()?;
        self.manifest(path, &ledgers, range, rows, (hash, bytes))?;
        // If the command is killed between these two steps, the partial file has no plan, and the next run begins
        // again.
        std::fs::remove_file(&plan)?;
        replace(&partial, &inner.file, &to).map_err(|error| with_path(&to, &error))?;
        Ok(())
    }

    fn manifest(
        &self,
        path: &Path,
        ledgers: &[Ledger],
        range: Range,
        rows: u64,
        (hash, bytes): (Sha256, u64),
    ) -> Result<(), Failure> {
        if !self.manifest {
            return Ok(());
        }
        let manifest = Manifest {
            file: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            rows,
            sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat(),
            bytes,
            query: options(),
            range,
            exported_at: Utc::now(),
            ledgers,
            tracing_audit: env!("CARGO_PKG_VERSION"),
        };
        save_json(&with_suffix(path, ".manifest.json"), &manifest)
    }

    /// The `seq` at which the ledger's export ends: its length when the export began, or less if the options say so.
    fn end(&self, ledger: &str, ledgers: &[Ledger]) -> u64 {
        let head = ledgers.iter().find(|one| one.name == ledger).map_or(0, |one| one.next_seq);
        self.conditions.before_seq.map_or(head, |before| before.min(head))
    }

    async fn write(
        &self,
        reader: &AuditReader,
        query: &AuditQuery,
        ledgers: &[Ledger],
        after: Option<&SequencedEntry>,
        out: &mut impl Write,
    ) -> Result<u64, Failure> {
        let mut progress = Progress::new(self.output.is_some());
        let format = match self.format {
            Kind::Csv if self.raw => ExportFormat::CsvUnescaped,
            Kind::Csv => ExportFormat::Csv,
            Kind::Jsonl => ExportFormat::JsonLines,
            Kind::Ocsf => ExportFormat::Ocsf,
        };
        if self.format == Kind::Csv {
            add(reader.export_stream(query, format), out, &mut progress).await?;
            return Ok(progress.entries);
        }
        let all = match &self.conditions.ledger {
            Some(one) => vec![one.clone()],
            None => ledgers.iter().map(|ledger| ledger.name.clone()).collect(),
        };
        let done = |ledger: &String| after.is_some_and(|after| after.ledger == *ledger);
        let first = all.iter().position(done).unwrap_or(0);
        for ledger in all.into_iter().skip(first) {
            let end = self.end(&ledger, ledgers);
            let after = after.filter(|after| after.ledger == ledger).map(|after| after.seq + 1);
            let from = after.or(self.conditions.from_seq).unwrap_or(0);
            progress.begin(&ledger, from, end);
            let one = query.clone().from_seq(from).before_seq(end).ledger(ledger);
            add(reader.export_stream(one, format), out, &mut progress).await?;
        }
        Ok(progress.entries)
    }
}

async fn add(
    chunks: impl Stream<Item = Result<ExportChunk, AuditError>>,
    out: &mut impl Write,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = chunks.try_next().await? {
        out.write_all(&chunk.bytes)?;
        progress.reached(&chunk);
    }
    Ok(())
}

/// The command's options, without those that name the database, which may hold a password.
fn options() -> Vec<String> {
    let mut options = Vec::new();
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if argument == "--db" {
            arguments.next();
        } else if !argument.starts_with("--db=") {
            options.push(argument);
        }
    }
    options
}

/// The plan of an export that can be resumed: its options, and where each ledger ended when it began.
#[derive(Serialize, Deserialize)]
struct Plan {
    options: Vec<String>,
    #[serde(flatten)]
    range: Range,
    ledgers: Vec<Ledger>,
}

impl Plan {
    /// Reads the plan of an interrupted export, which must have had the same options. The ledgers must still be as long
    /// as they were.
    fn parse(bytes: &[u8], path: &Path, ledgers: &[Ledger]) -> Result<Self, Failure> {
        let path = path.display();
        let plan: Self = serde_json::from_slice(bytes).map_err(|_| {
            Failure::Usage(format!(
                "{path} is not a plan of this command: remove it, or name another output file"
            ))
        })?;
        if plan.options != options() {
            return Err(Failure::Usage(format!(
                "the interrupted export had other options: repeat those, or remove {path} to begin again"
            )));
        }
        let is_complete = |planned: &Ledger| {
            ledgers.iter().any(|now| now.name == planned.name && now.next_seq >= planned.next_seq)
        };
        if !plan.ledgers.iter().all(is_complete) {
            return Err(Failure::Lost(format!(
                "a ledger is shorter than when the export began: the database was restored from a backup, \
                 or is another one. To export what it holds now, remove {path}"
            )));
        }
        Ok(plan)
    }
}
