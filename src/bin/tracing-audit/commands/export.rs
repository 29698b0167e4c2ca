//! Entries to a file that appears when it is complete, and a manifest that says what is in it.

use std::{
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use futures_util::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing_audit::{AuditError, AuditQuery, AuditReader, ExportChunk, ExportFormat, Ledger, SequencedEntry};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Range},
    output::{self, GzipIf, Hashing, Lines, Out, Progress, beside, save, with},
};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "options are on or off")]
pub(crate) struct Export {
    #[command(flatten)]
    conditions: Conditions,
    #[arg(long, value_enum, default_value_t = Kind::Jsonl)]
    format: Kind,
    /// The file. Default: standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compress it, as if its name ended with .gz.
    #[arg(long)]
    gzip: bool,
    /// Write FILE.manifest.json beside it: rows, query, ledgers, SHA-256.
    #[arg(long, requires = "output")]
    manifest: bool,
    /// Go on where an export to this file with this option was interrupted. It keeps FILE.partial until it is complete, and
    /// makes the same bytes as one that was not interrupted. JSON Lines only, not compressed.
    #[arg(long, requires = "output", conflicts_with = "gzip")]
    resume: bool,
    /// For programs: no ' before a text that a spreadsheet would run as a formula.
    #[arg(long)]
    raw: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// JSON Lines, by ledger and seq.
    Jsonl,
    /// CSV, the latest first.
    Csv,
    /// JSON Lines of OCSF 1.8.0 events, class API Activity, by ledger and seq.
    Ocsf,
}

/// What is in a file of exported entries.
#[derive(Serialize)]
struct Manifest<'a> {
    file: String,
    rows: u64,
    /// Of the file as it is, compressed if it is.
    sha256: String,
    bytes: u64,
    /// The command's options.
    query: Vec<String>,
    /// Which time they mean, if they say one.
    since: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
    exported_at: DateTime<Utc>,
    /// How far each ledger had come when the export began: nothing after that is in the file.
    ledgers: &'a [Ledger],
    tracing_audit: &'static str,
}

impl Export {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let (reader, ledgers) = database.open_one().await?;
        let asked = self.conditions.ledgers(&ledgers)?;
        let mut query = self.conditions.query()?;
        output::tell_if_it_scans(&query, &ledgers);
        if self.format == Kind::Csv {
            query = match asked.as_slice() {
                [one] => query.before_seq(self.end(one, &ledgers)),
                _ if self.manifest => {
                    return Err(Failure::Usage("a CSV with a manifest is of one --ledger".to_owned()));
                }
                _ => query,
            };
        }
        let Some(path) = &self.output else {
            output::not_to_a_terminal()?;
            let mut out = GzipIf::new(Out::default(), self.gzip);
            self.write(&reader, &query, &ledgers, None, &mut out).await?;
            return Ok(out.finish()?.flush()?);
        };
        let gzip = self.gzip || path.extension().is_some_and(|end| end == "gz");
        if self.resume {
            if gzip || self.format != Kind::Jsonl {
                return Err(Failure::Usage("--resume is for JSON Lines that are not compressed".to_owned()));
            }
            return self.resume(path, &reader, ledgers).await;
        }
        let mut out = GzipIf::new(Hashing::new(beside(path)?), gzip);
        let rows = self.write(&reader, &query, &ledgers, None, &mut out).await?;
        let Hashing { inner, hash, bytes } = out.finish()?;
        inner.as_file().sync_all()?;
        self.manifest(path, &ledgers, self.conditions.period.range()?, rows, (hash, bytes))?;
        inner.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Goes on with what is there, up to where the ledgers ended at the first try.
    async fn resume(&self, path: &Path, reader: &AuditReader, ledgers: Vec<Ledger>) -> Result<(), Failure> {
        let (partial, plan) = (with(path, ".partial"), with(path, ".partial.json"));
        // Held from here on against another command.
        let mut lines = Lines::open(&partial)?;
        let Plan { since, before, ledgers, .. } = match std::fs::read(&plan) {
            Ok(bytes) => {
                let unclear = |_| Failure::Usage(format!("{} is not a plan of this command", plan.display()));
                let made: Plan = serde_json::from_slice(&bytes).map_err(unclear)?;
                if made.options != options() {
                    let message =
                        format!("the interrupted export had other options: remove {}", plan.display());
                    return Err(Failure::Usage(message));
                }
                let there = |planned: &Ledger| {
                    ledgers.iter().any(|now| now.ledger == planned.ledger && now.entries >= planned.entries)
                };
                if !made.ledgers.iter().all(there) {
                    let message = "a ledger ends before the place where it did when the export began: it was restored from a backup, or is another";
                    return Err(Failure::Lost(message.to_owned()));
                }
                made
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // What is there without a plan belongs to none.
                lines.file.set_len(0)?;
                let Range { since, before } = self.conditions.period.range()?;
                let made = Plan { options: options(), since, before, ledgers };
                save(&plan, &made)?;
                made
            }
            Err(error) => return Err(error.into()),
        };
        let range = Range { since, before };
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
        // Without its plan, what is left of a killed command is begun anew.
        std::fs::remove_file(&plan)?;
        Ok(std::fs::rename(&partial, path)?)
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
            since: range.since,
            before: range.before,
            exported_at: Utc::now(),
            ledgers,
            tracing_audit: env!("CARGO_PKG_VERSION"),
        };
        save(&with(path, ".manifest.json"), &manifest)
    }

    /// Where the ledger ended when the export began, or where the options end it.
    fn end(&self, ledger: &str, ledgers: &[Ledger]) -> u64 {
        let head = ledgers.iter().find(|one| one.ledger == ledger).map_or(0, |one| one.entries);
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
            Kind::Csv if self.raw => ExportFormat::CsvRaw,
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
            None => ledgers.iter().map(|ledger| ledger.ledger.clone()).collect(),
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

/// The options without those that say where the database is, which may hold a password.
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

/// What an export that can be interrupted has set out to do.
#[derive(Serialize, Deserialize)]
struct Plan {
    options: Vec<String>,
    since: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
    ledgers: Vec<Ledger>,
}
