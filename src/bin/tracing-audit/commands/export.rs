//! The command `export`: writes entries to a file, with a manifest; resumes an interrupted export.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use chrono::{SecondsFormat, Utc};
use clap::{Args, ValueEnum};
use futures_util::{Stream, TryStreamExt};
use tracing_audit::{
    AuditError, AuditQuery, AuditReader,
    export::{ExportChunk, ExportFormat, FileFormat},
    reader::Coverage,
};

use super::{
    covered::{of_export, verdict_of_export},
    manifest::{Manifest, Part, Plan},
    prove::Bundle,
};
use crate::{
    failure::Failure,
    input::{Conditions, CsvOptions, Database, Log, read_small, source_of},
    output::{
        self, GzipIf, Hashing, NewFile, Progress, Resumed, Stdout, at_end_of_links, hex, is_stream,
        refuse_all_but_files, refuse_of_others, replace, save_json, with_path, with_suffix,
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
    /// then, and keeps its mode; one that belongs to another user, or that others may write, is refused, and so is a link
    /// that another user has made. A device or a pipe is written to as it is, and - means standard output. A name that
    /// ends with .gz means a compressed file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compress the output with gzip, whatever the file's name.
    #[arg(long)]
    gzip: bool,
    /// Write FILE.manifest.json too: the question, the database, and the file's SHA-256.
    ///
    /// It holds every condition and option, each range of time as absolute times, the order, the columns, the kind of the
    /// database, the length and the last entry of each ledger when the export began, the number of rows, and the version of
    /// this command. `compare --against FILE` uses it.
    #[arg(long, requires = "output")]
    manifest: bool,
    /// Continue an export to this file that was interrupted, or begin one that can be continued.
    ///
    /// The entries are kept in FILE.partial until the export is complete, and FILE.partial.json says what was asked, of
    /// which log, and when: times such as 30d count from then. The file is the same, byte for byte, as without an
    /// interruption. Its beginning is read again from the database and compared with FILE.partial: what was changed, or
    /// is of another log or question, is refused. Only for JSON Lines that are not compressed.
    #[arg(long, requires = "output", conflicts_with = "gzip")]
    resume: bool,
    /// All entries of the workspace that --workspace names, as a bundle that proves that none is withheld.
    ///
    /// `verify-bundle` verifies it without a database. The entries are those before the last seal, which `seal` makes. Other conditions
    /// are not possible. `bundle --complete` makes the same file, can withhold fields, and takes a checkpoint that the receiver has.
    #[arg(long, requires = "workspace", conflicts_with_all = ["format", "manifest", "resume"])]
    complete: bool,
    #[command(flatten)]
    csv: CsvOptions,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// JSON Lines, ordered by ledger and seq.
    Jsonl,
    /// CSV, ordered by time, latest first.
    Csv,
    /// OCSF 1.8.0 events of the class API Activity, as JSON Lines ordered by ledger and seq.
    Ocsf,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "JSON Lines",
            Self::Csv => "CSV",
            Self::Ocsf => "OCSF 1.8.0 API Activity, as JSON Lines",
        }
    }

    pub(crate) fn order(self) -> &'static str {
        match self {
            Self::Jsonl | Self::Ocsf => "by ledger, then seq, ascending",
            Self::Csv => "by ts, then seq, descending",
        }
    }
}

impl Export {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let output = self.output(database)?;
        if self.complete {
            self.csv.refuse()?;
            return Bundle::complete(self.conditions, self.output, self.gzip).run(database).await;
        }
        if self.format == Kind::Csv {
            self.csv.layout()?;
        } else {
            self.csv.refuse()?;
        }
        let log = database.open_one_with(self.conditions.ledger.as_deref()).await?;
        let asked = self.conditions.ledgers(&log.ledgers)?;
        let ledgers = log.ledgers.iter().filter(|ledger| asked.contains(&ledger.name)).cloned().collect();
        let plan = Plan::new(&log.unrecorded(), self.conditions.period.range()?, ledgers).await?;
        let query = self.query(&plan)?;
        output::warn_if_it_scans(&query, &log.ledgers);
        if self.format == Kind::Csv && self.manifest && plan.ledgers.len() != 1 {
            return Err(Failure::Usage(
                "a CSV file with a manifest covers one ledger: choose it with --ledger".to_owned(),
            ));
        }
        let Some(path) = output else {
            output::refuse_terminal()?;
            let mut out = GzipIf::new(Stdout::default(), self.gzip);
            let written = self.write(&log.reader, &query, &plan, &mut out).await?;
            out.finish()?.flush()?;
            let coverage = self.coverage(&log.reader, &query, &plan).await?;
            // The reader of a pipe may have seen enough and closed it. Entries that the answer may lack count for the
            // exit code all the same.
            let rows = Some(written.rows).filter(|_| !output::is_closed());
            return verdict_of_export(&coverage, rows, &log);
        };
        let gzip = self.gzip || path.extension().is_some_and(|end| end == "gz");
        if self.resume {
            if gzip || self.format != Kind::Jsonl {
                let message = "--resume works only with JSON Lines that are not compressed: \
                    choose --format jsonl and a name without .gz";
                return Err(Failure::Usage(message.to_owned()));
            }
            return self.resume(path, database, &log, plan).await;
        }
        let mut out = GzipIf::new(Hashing::new(NewFile::create(path)?), gzip);
        let written = self.write(&log.reader, &query, &plan, &mut out).await?;
        let out = out.finish()?;
        let (coverage, rows) = (self.coverage(&log.reader, &query, &plan).await?, written.rows);
        self.tell(path, database, (plan, &coverage), written, &out)?;
        out.inner.finish()?;
        verdict_of_export(&coverage, Some(rows), &log)
    }

    /// The coverage of the export.
    async fn coverage(
        &self,
        reader: &AuditReader,
        query: &AuditQuery,
        plan: &Plan,
    ) -> Result<Coverage, Failure> {
        let end = |part: &Part| (part.ledger.name.clone(), self.end(part.ledger.next_seq));
        let ends: Vec<_> = plan.ledgers.iter().map(end).collect();
        of_export(reader, query, &ends).await
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
        // This comes before anything is read, which may take hours.
        refuse_of_others(path)?;
        let manifest = with_suffix(path, ".manifest.json");
        if self.manifest {
            refuse_of_others(&manifest)?;
        } else if manifest.exists() {
            return Err(Failure::Usage(format!(
                "{} describes the file that is there now, and would not describe the new one: add --manifest, remove it, or \
                 name another file",
                manifest.display()
            )));
        }
        let source = source_of(path);
        if source.exists() {
            return Err(Failure::Usage(format!(
                "{} is a copy that `tail -o` continues, which an export would break off: name another file, or remove {} to \
                 end the copy",
                path.display(),
                source.display()
            )));
        }
        Ok(Some(path))
    }

    /// Writes the whole export again. The partial file may hold the beginning already.
    async fn resume(&self, path: &Path, database: &Database, log: &Log, new: Plan) -> Result<(), Failure> {
        // Links stay: the file takes its place where they lead.
        let to = at_end_of_links(path);
        let (partial, plan) = (with_suffix(&to, ".partial"), with_suffix(&to, ".partial.json"));
        for path in [&partial, &plan] {
            refuse_all_but_files(path)?;
            refuse_of_others(path)?;
        }
        let has_begun = partial.exists();
        // This locks the partial file until the export ends.
        let file = Resumed::open(&partial)?;
        let found = match read_small(&plan) {
            // An export removes its plan last: this one was completed.
            Ok(_) if !has_begun => None,
            Ok(bytes) => Some(Plan::parse(&bytes, &plan)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_empty() => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::Usage(format!(
                    "{} says nothing of which export it is a part, because {} is missing: remove it, or name another file",
                    partial.display(),
                    plan.display()
                )));
            }
            Err(error) => return Err(with_path(&plan, &error).into()),
        };
        let settled = if let Some(found) = found {
            found.check(&plan, &log.unrecorded(), &log.ledgers).await?;
            let began_at = found.began_at.to_rfc3339_opts(SecondsFormat::Secs, true);
            output::remark(&format!(
                "continues the export that began at {began_at}: later entries are not in it"
            ));
            found
        } else {
            save_json(&plan, &new)?;
            new
        };
        let query = self.query(&settled)?;
        let mut out = GzipIf::new(Hashing::new(file), false);
        let differs = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => Failure::Lost(format!(
                "{error} from what the database has there: it was changed, is of another log, or the log was changed since. \
                 To export what the database holds now, remove {} and {}",
                partial.display(),
                plan.display()
            )),
            _ => error.into(),
        };
        let written = self.write(&log.reader, &query, &settled, &mut out).await;
        let written = written.map_err(|failure| match failure {
            Failure::Output(error) => differs(error),
            other => other,
        })?;
        let Hashing { inner, hash, bytes } = out.finish().map_err(differs)?;
        let file = inner.finish().map_err(differs)?;
        file.sync_all()?;
        let (coverage, rows) = (self.coverage(&log.reader, &query, &settled).await?, written.rows);
        self.tell(path, database, (settled, &coverage), written, &Hashing { inner: (), hash, bytes })?;
        replace(&partial, &file, &to).map_err(|error| with_path(&to, &error))?;
        std::fs::remove_file(&plan)?;
        verdict_of_export(&coverage, Some(rows), log)
    }

    /// The query of the plan. A CSV file has one ledger, or is not described by a manifest.
    fn query(&self, plan: &Plan) -> Result<AuditQuery, Failure> {
        let query = plan.range.add(self.conditions.timeless()?);
        Ok(match plan.ledgers.as_slice() {
            [one] if self.format == Kind::Csv => query.before_seq(self.end(one.ledger.next_seq)),
            _ => query,
        })
    }

    /// Writes the manifest, if it is asked for.
    fn tell<W>(
        &self,
        path: &Path,
        database: &Database,
        (plan, coverage): (Plan, &Coverage),
        written: Written,
        out: &Hashing<W>,
    ) -> Result<(), Failure> {
        if !self.manifest {
            return Ok(());
        }
        let manifest = Manifest {
            file: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            rows: written.rows,
            sha256: hex(&out.hash),
            bytes: out.bytes,
            format: self.format.name().to_owned(),
            order: self.format.order().to_owned(),
            header: written.header,
            database: database.kind()?.to_owned(),
            asked: plan.range.add(self.conditions.timeless()?).described(),
            plan,
            coverage: serde_json::to_value(coverage).map_err(io::Error::from)?,
            archived: None,
            exported_at: Utc::now(),
            tracing_audit: env!("CARGO_PKG_VERSION").to_owned(),
        };
        save_json(&with_suffix(path, ".manifest.json"), &manifest)
    }

    /// The `seq` at which the export of a ledger of this length ends: there, or before if the options say so.
    fn end(&self, next_seq: u64) -> u64 {
        self.conditions.before_seq.map_or(next_seq, |before| before.min(next_seq))
    }

    async fn write(
        &self,
        reader: &AuditReader,
        query: &AuditQuery,
        plan: &Plan,
        out: &mut impl Write,
    ) -> Result<Written, Failure> {
        let mut progress = Progress::new(self.output.is_some());
        let format: FileFormat = match self.format {
            Kind::Csv => self.csv.layout()?.into(),
            Kind::Jsonl => ExportFormat::JsonLines.into(),
            Kind::Ocsf => ExportFormat::Ocsf.into(),
        };
        if self.format == Kind::Csv {
            let header = add(reader.export_stream(query, format), out, &mut progress).await?;
            return Ok(Written { rows: progress.entries, header });
        }
        for part in &plan.ledgers {
            let (from, end) = (self.conditions.from_seq.unwrap_or(0), self.end(part.ledger.next_seq));
            progress.begin(&part.ledger.name, from, end);
            let one = query.clone().from_seq(from).before_seq(end).ledger(&part.ledger.name);
            add(reader.export_stream(one, format.clone()), out, &mut progress).await?;
        }
        Ok(Written { rows: progress.entries, header: None })
    }
}

/// The outcome of writing an export.
struct Written {
    rows: u64,
    /// The first line of a CSV file, which names its columns.
    header: Option<String>,
}

/// Writes the chunks, and returns the first line.
pub(super) async fn add(
    chunks: impl Stream<Item = Result<ExportChunk, AuditError>>,
    out: &mut impl Write,
    progress: &mut Progress,
) -> Result<Option<String>, Failure> {
    let mut chunks = std::pin::pin!(chunks);
    let mut first = None;
    while !output::is_closed()
        && let Some(chunk) = chunks.try_next().await?
    {
        first = first.or_else(|| Some(String::from_utf8_lossy(&chunk.bytes).lines().next()?.to_owned()));
        out.write_all(&chunk.bytes)?;
        progress.reached(&chunk);
    }
    Ok(first)
}
