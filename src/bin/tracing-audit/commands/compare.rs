//! The command `compare`: compares an earlier export with what the database holds now.

use std::{
    collections::HashSet,
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand};
use futures_util::TryStreamExt;
use serde_json::Value;
use tracing_audit::{AuditQuery, SequencedEntry, reader::Ledger};

use super::{
    archive::Archive,
    differences::{Finding, Report},
    export::{Export, Kind},
    manifest::{Manifest, Plan},
    position::load_source,
    tail::Tail,
};
use crate::{
    failure::Failure,
    input::{Conditions, Database, Log, decompressed, open_or_pipe, read_small_or_pipe, source_of},
    output::{Format, Hashing, hex, with_path, with_suffix},
};

#[derive(Args)]
pub(crate) struct Compare {
    /// A file that was handed out: JSON Lines of `export`, compressed or not, an archive, or a copy of `tail --output`.
    #[arg(long, value_name = "FILE")]
    against: PathBuf,
    /// The manifest of that export [default: FILE.manifest.json, if there is one].
    ///
    /// It says what was asked and how long the ledgers were. Without one, give the conditions of the export again, as
    /// --from-seq, where it began: if the database has matching entries before the first one of FILE, their number is
    /// said, and the exit code is 5. What the database holds behind the last entry of FILE counts as new.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The output format [default: lines for people on a terminal, JSON Lines elsewhere].
    ///
    /// Lines for people have the first 20 differences of each kind, JSON Lines all of them. The counts come last.
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    conditions: Conditions,
}

/// The most bytes of a line. No entry has as many.
const LONGEST: u64 = 1 << 28;

/// The question that was asked when the file was written.
struct Asked {
    query: AuditQuery,
    /// The length of each ledger then, if it is known.
    plan: Option<Plan>,
    /// The file's SHA-256, if it is known.
    sha256: Option<String>,
}

/// An earlier command line.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    _database: Database,
    #[command(subcommand)]
    command: Earlier,
}

#[derive(Subcommand)]
enum Earlier {
    Export(Export),
    Archive(Archive),
    Tail(Tail),
}

impl Compare {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        database.refuse_input(&self.against)?;
        let asked = self.asked()?;
        let log = match database.open_one().await {
            // Nothing is compared through what stands in the place of a table.
            Err(Failure::Audit(error)) if error.is_altered() => {
                return Err(Failure::Found(error.to_string()));
            }
            opened => opened?,
        };
        let mut report = Report::new(!Format::is_table(self.format));
        // An exported file has tables of its own.
        if log.store.is_some() {
            for message in log.reader.check_tables().await? {
                report.add(&Finding::Schema { message: &message })?;
            }
        }
        if let Some(manifest) = &asked.sha256 {
            let found = sha256_of(&self.against)?;
            if found != *manifest {
                report.add(&Finding::File { sha256: &found, manifest })?;
            }
        }
        let mut file = Entries::open(&self.against)?;
        file.advance(&mut report)?;
        let mut seen = HashSet::new();
        while let Some(next) = &file.next {
            let ledger = next.ledger.clone();
            if seen.insert(ledger.clone()) {
                compare_ledger(&log, &asked, &ledger, &mut file, &mut report).await?;
            } else {
                let fault = "it is of a ledger that came before another one";
                report.add(&Finding::Line { line: file.line, fault })?;
                file.advance(&mut report)?;
            }
        }
        let described = asked.query.described();
        let named = described.get("ledger").and_then(Value::as_str);
        for Ledger { name, .. } in &log.ledgers {
            if !seen.contains(name) && named.is_none_or(|named| named == name) {
                compare_ledger(&log, &asked, name, &mut file, &mut report).await?;
            }
        }
        report.end(&self.against)
    }

    /// The question of the export, by the manifest or by the options.
    fn asked(&self) -> Result<Asked, Failure> {
        let given = self.conditions.timeless()?;
        let beside = with_suffix(&self.against, ".manifest.json");
        let path = self.manifest.clone().or_else(|| beside.exists().then_some(beside));
        let (options, range, plan, sha256) = if let Some(path) = path {
            let manifest = read_manifest(&path)?;
            let (options, range) = (manifest.plan.query.clone(), manifest.plan.range);
            (options, range, Some(manifest.plan), Some(manifest.sha256))
        } else if let Some(source) = load_source(&source_of(&self.against))? {
            (source.query, source.range, None, None)
        } else {
            let query = self.conditions.period.range()?.add(given);
            return Ok(Asked { query, plan: None, sha256: None });
        };
        let asked = timeless(&options)?;
        let is_given = !given.described().is_empty() || !self.conditions.period.given().is_empty();
        if is_given && given.described() != asked.described() {
            return Err(Failure::Usage(format!(
                "the file was written with other conditions ({}), which are known: leave the conditions out",
                options.join(" ")
            )));
        }
        Ok(Asked { query: range.add(asked), plan, sha256 })
    }
}

/// Compares one ledger. The file is at its first entry of it, if it has any.
async fn compare_ledger(
    log: &Log,
    asked: &Asked,
    ledger: &str,
    file: &mut Entries,
    report: &mut Report,
) -> Result<(), Failure> {
    // The `seq` where that export ended, if it is known. Every entry is new in a ledger that the export did not have.
    let end = asked.plan.as_ref().map(|plan| {
        let part = plan.ledgers.iter().find(|part| part.ledger.name == ledger);
        part.map_or(0, |part| part.ledger.next_seq)
    });
    let mut query = asked.query.clone().ledger(ledger);
    if end.is_none() && !asked.query.described().contains_key("from_seq") {
        // Nothing says whether the export began before, or had this ledger at all.
        let first = file.next_of(ledger).map(|first| first.seq);
        let before = first.map_or_else(|| query.clone(), |first| query.clone().before_seq(first));
        report.begins(ledger, first, log.unrecorded().count(before).await?)?;
        let Some(first) = first else { return beside(log, asked, ledger, None, report).await };
        query = query.from_seq(first);
    }
    let earlier = report.since;
    let mut there = std::pin::pin!(log.reader.stream(query));
    let mut now = there.try_next().await?;
    loop {
        let (then, found) = (file.next_of(ledger), now.as_ref());
        let (old, new) = (then.map(|then| then.seq), found.map(|found| found.seq));
        if let (Some(then), Some(found), true) = (then, found, old == new) {
            report.pair(then, found)?;
        } else if let Some(then) = then.filter(|then| new.is_none_or(|new| then.seq < new)) {
            report.add(&Finding::Missing { ledger, seq: then.seq, id: then.entry.id })?;
            file.advance(report)?;
            continue;
        } else if let Some(found) = found {
            // Behind the last entry of the file, and behind where the export ended.
            if then.is_none() && end.is_none_or(|end| found.seq >= end) {
                report.since += 1;
            } else {
                report.add(&Finding::Added { ledger, seq: found.seq, id: found.entry.id })?;
            }
            now = there.try_next().await?;
            continue;
        } else {
            break;
        }
        file.advance(report)?;
        now = there.try_next().await?;
    }
    beside(log, asked, ledger, end.map(|end| (end, report.since - earlier)), report).await
}

/// Reports the entries that the ledger has in addition to those that were asked for. `since`: where the export ended,
/// and how many of these came since.
async fn beside(
    log: &Log,
    asked: &Asked,
    ledger: &str,
    since: Option<(u64, u64)>,
    report: &mut Report,
) -> Result<(), Failure> {
    let has_conditions = asked.query.described().keys().any(|condition| condition != "ledger");
    let now = log.ledgers.iter().find(|one| one.name == ledger).map(|one| one.next_seq);
    if let (true, Some((end, found)), Some(now)) = (has_conditions, since, now) {
        report.others += now.saturating_sub(end).saturating_sub(found);
    }
    if log.store.is_none() {
        return Ok(());
    }
    let coverage = log.reader.coverage(AuditQuery::new().ledger(ledger), 0).await?;
    for one in coverage.ledgers.iter().filter(|one| one.outside > 0) {
        report.add(&Finding::Outside { ledger, rows: one.outside })?;
    }
    Ok(())
}

fn read_manifest(path: &Path) -> Result<Manifest, Failure> {
    let bytes = read_small_or_pipe(path).map_err(|error| unreadable(path, &error))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| {
        Failure::Usage(format!("{} is not a manifest of this command: name another one", path.display()))
    })?;
    if let Err(what) = manifest.plan.agrees() {
        return Err(Failure::Usage(format!("the manifest {} contradicts itself: {what}", path.display())));
    }
    if manifest.format == Kind::Jsonl.name() {
        return Ok(manifest);
    }
    let (path, format) = (path.display(), manifest.format);
    Err(Failure::Usage(format!(
        "{path} describes a file of {format}: only JSON Lines of entries are compared"
    )))
}

/// The conditions of an earlier command line.
fn timeless(options: &[String]) -> Result<AuditQuery, Failure> {
    let line = Line::try_parse_from(options).map_err(|_| {
        let options = options.join(" ");
        Failure::Usage(format!("the options with which the file was written are not known here: {options}"))
    })?;
    match line.command {
        Earlier::Export(export) => export.conditions.timeless(),
        Earlier::Archive(archive) => Ok(archive.asked()),
        Earlier::Tail(tail) => tail.conditions.timeless(),
    }
}

/// The entries of the file, in its order.
struct Entries {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    /// The number of the line that was read last.
    line: u64,
    /// The entry in it; `None` at the end.
    next: Option<SequencedEntry>,
    /// Whether the first line is not an entry, which is not said yet: if the second is none either, nothing is compared.
    begins_otherwise: bool,
}

/// The problem with a line that is not an entry.
const NO_ENTRY: &str = "it is not an entry";

impl Entries {
    fn open(path: &Path) -> Result<Self, Failure> {
        let lines = open_or_pipe(path).and_then(decompressed).map_err(|error| unreadable(path, &error))?;
        Ok(Self { path: path.to_owned(), lines, line: 0, next: None, begins_otherwise: false })
    }

    /// The next entry, if it is of this ledger.
    fn next_of(&self, ledger: &str) -> Option<&SequencedEntry> {
        self.next.as_ref().filter(|next| next.ledger == ledger)
    }

    /// Goes to the next entry. A line that is not an entry, or not in the order of `seq`, is reported and passed over.
    fn advance(&mut self, report: &mut Report) -> Result<(), Failure> {
        let last = self.next.take();
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.lines).take(LONGEST).read_until(b'\n', &mut line);
            self.line += 1;
            match read {
                Ok(0) if self.begins_otherwise => return Err(self.foreign()),
                Ok(0) => return Ok(()),
                Ok(_) if line.len() as u64 == LONGEST => {
                    return Err(Failure::Usage(format!(
                        "line {} of {} is longer than any entry: name an export as JSON Lines",
                        self.line,
                        self.path.display()
                    )));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.tell_first(report)?;
                    let fault = "the compressed file ends in the middle, or something else was added to it";
                    return report.add(&Finding::Line { line: self.line, fault });
                }
                // The last kind is that of zstd.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other
                    ) =>
                {
                    self.tell_first(report)?;
                    let fault = "the compressed file is damaged there, or something else was added to it";
                    return report.add(&Finding::Line { line: self.line, fault });
                }
                Err(error) => return Err(unreadable(&self.path, &error)),
            }
            let fault = match serde_json::from_slice::<SequencedEntry>(&line) {
                Err(_) if self.line == 1 => {
                    self.begins_otherwise = true;
                    continue;
                }
                Err(_) if self.begins_otherwise => return Err(self.foreign()),
                Err(_) => NO_ENTRY,
                Ok(next)
                    if last
                        .as_ref()
                        .is_some_and(|last| last.ledger == next.ledger && last.seq >= next.seq) =>
                {
                    "it is not in the order of seq"
                }
                Ok(next) => {
                    self.next = Some(next);
                    return self.tell_first(report);
                }
            };
            report.add(&Finding::Line { line: self.line, fault })?;
        }
    }

    /// Says that the first line is not an entry, if it is none and others are.
    fn tell_first(&mut self, report: &mut Report) -> Result<(), Failure> {
        if std::mem::take(&mut self.begins_otherwise) {
            report.add(&Finding::Line { line: 1, fault: NO_ENTRY })?;
        }
        Ok(())
    }

    fn foreign(&self) -> Failure {
        Failure::Usage(format!(
            "{} does not begin with an entry as JSON Lines have it: only JSON Lines of `export`, and copies of `tail -o`, are \
             compared, and neither CSV nor OCSF",
            self.path.display()
        ))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}", with_path(path, error)))
}

fn sha256_of(path: &Path) -> Result<String, Failure> {
    let mut hashed = Hashing::new(io::sink());
    let copied = open_or_pipe(path).and_then(|mut file| io::copy(&mut file, &mut hashed));
    copied.map_err(|error| unreadable(path, &error))?;
    Ok(hex(&hashed.hash))
}
