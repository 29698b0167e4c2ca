//! The command `archive`: keeps the entries of a SQLite file in an exported file, and removes the database.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use chrono::Utc;
use clap::Args;
use serde_json::json;
use tracing_audit::{
    AuditLog, AuditQuery, AuditReader, Store,
    archive::{Archived, UnusedFile},
    evidence::{Verification, Verified},
    export::ExportFormat,
    journal::inspect,
    migrate::Migrate,
    reader::{Coverage, Ledger},
};
use zstd::stream::{read::Decoder, write::Encoder};

use super::{
    covered::{of_export, verdict_of_export},
    export::{Kind, add},
    kept::{Held, counting, trust},
    manifest::{Manifest, Plan},
};
use crate::{
    failure::Failure,
    input::{Database, Log, Range, end_log, queues, without_secrets},
    output::{
        self, Hashing, NewFile, Progress, hex, is_stream, refuse_of_others, save_new_json, with_path,
        with_suffix,
    },
};

/// The level of compression: some 200 MB/s, and a tenth of the size.
const LEVEL: i32 = 3;

/// The ends of the names of the files beside the archive: what describes it, and the record of who read the log.
const MANIFEST: &str = ".manifest.json";
const READS: &str = ".reads.jsonl";

#[derive(Args)]
pub(crate) struct Archive {
    /// The ledger, if the database holds several.
    #[arg(long, value_name = "NAME")]
    ledger: Option<String>,
    /// The file to write, as JSON Lines compressed with zstd [default: LEDGER.jsonl.zst beside a SQLite file].
    ///
    /// FILE.manifest.json stands beside it, with the number of entries, the SHA-256 and the last checkpoint of the ledger; and
    /// FILE.reads.jsonl, if the database holds a record of who read it. An existing file is not replaced.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The database in which an entry says what was archived: one that stays, such as that of the month after.
    #[arg(long, value_name = "FILE_OR_URL")]
    tell: Option<String>,
    /// The ledger of that entry, if that database holds several.
    #[arg(long, value_name = "NAME")]
    tell_ledger: Option<String>,
    /// A checkpoint that was kept outside of the database, to verify the ledger against first: as for `verify`. May be
    /// repeated.
    #[arg(long, value_name = "FILE_OR_TEXT")]
    checkpoint: Vec<String>,
    /// The file that says whose signatures a signed checkpoint must have: as for `verify`.
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    trust: Option<PathBuf>,
    /// Keep the database: write the file and its manifest, and nothing else. Also for a ledger of a PostgreSQL database.
    #[arg(long, conflicts_with = "tell")]
    keep: bool,
}

/// The file that was written: the number of its rows, its size, and the hashes of its bytes and of its lines.
struct Written {
    rows: u64,
    /// Of the file.
    sha256: String,
    bytes: u64,
    /// Of the lines.
    lines_sha256: String,
}

/// A ledger that was kept in a file.
struct Kept {
    ledger: Ledger,
    path: PathBuf,
    written: Written,
    /// The number of reads in the record that was kept beside it, and the SHA-256 of that file, if there are any.
    reads: (u64, Option<String>),
    verified: Verified,
}

impl Kept {
    /// The account of this ledger that an entry records.
    fn archived(&self) -> Archived {
        Archived {
            ledger: self.ledger.name.clone(),
            entries: self.written.rows,
            file: name_of(&self.path),
            sha256: self.written.sha256.clone(),
            lines_sha256: self.written.lines_sha256.clone(),
            reads_sha256: self.reads.1.clone(),
            checkpoint: self.verified.checkpoint().cloned(),
        }
    }
}

impl Archive {
    /// The query of an archive that was made earlier.
    pub(super) fn asked(&self) -> AuditQuery {
        self.ledger.as_ref().map_or_else(AuditQuery::new, |name| AuditQuery::new().ledger(name))
    }

    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let Some(tell) = &self.tell else {
            if !self.keep {
                let message = "name a database that stays by --tell, in which an entry then says what was archived; or keep \
                               this one, by --keep";
                return Err(Failure::Usage(message.to_owned()));
            }
            let kept = self.keep_entries(database, None).await?;
            let name = output::harmless(&kept.ledger.name);
            let message = format!("{}: {} entries of {name}", kept.path.display(), kept.written.rows);
            return output::print_fitting(&message);
        };
        let source = database.sqlite_file()?;
        // Before anything is read, which may take hours.
        let told_in = self.told_in(database, tell, &source).await?;
        let kept = self.keep_entries(database, Some(&source)).await?;
        let shown = kept.path.display();
        let stays = |failure: Failure| {
            output::remark(&format!("{} stays as it is; {shown} holds a copy", source.display()));
            failure
        };
        let seq = give_up(&source, &kept, &told_in).await.map_err(stays)?;
        output::print_fitting(&format!(
            "{shown}: {} entries of {}; entry {seq} of {} in {} tells it, and {} is removed",
            kept.written.rows,
            output::harmless(&kept.ledger.name),
            output::harmless(&told_in.ledger),
            output::harmless(&told_in.name),
            source.display()
        ))
    }

    /// Where an entry is to tell what was archived.
    async fn told_in(&self, database: &Database, given: &str, source: &Path) -> Result<ToldIn, Failure> {
        let name = without_secrets(given);
        if Database::own_files_of(given).is_some_and(|files| files.iter().any(|file| is_same(file, source))) {
            let message = format!("{name} is what is to be archived: name a database that stays");
            return Err(Failure::Usage(message));
        }
        // Tables of an earlier version are not this command's to change.
        let store = database.store_of(given)?.migrate(Migrate::Check);
        let names = AuditReader::new(store.clone()).ledger_names().await?;
        let ledger = match (&self.tell_ledger, names.as_slice()) {
            (Some(name), _) if names.contains(name) => name.clone(),
            (None, [only]) => only.clone(),
            (_, []) => return Err(Failure::NoLog(name)),
            _ => {
                return Err(Failure::Usage(format!(
                    "choose the ledger of the entry by --tell-ledger, from {}",
                    names.join(", ")
                )));
            }
        };
        Ok(ToldIn { store, ledger, name })
    }

    /// Verifies the ledger, writes its entries, and reads the file again. The database is closed afterwards. `removed` is its file,
    /// if it is to be removed.
    async fn keep_entries(&self, database: &Database, removed: Option<&Path>) -> Result<Kept, Failure> {
        database.refuse_exported()?;
        let log = database.open_one().await?;
        let ledger = self.ledger_of(&log)?.clone();
        let path = self.path(database, &ledger.name)?;
        if let Some(source) = removed {
            refuse_journals(source, &ledger.name)?;
        }
        let verified = self.verify(&log, &ledger).await?;
        let plan = Plan::new(&log.unrecorded(), Range::default(), vec![ledger.clone()]).await?;
        let written = self.write(&log, &ledger, &path).await?;
        let ends = [(ledger.name.clone(), ledger.next_seq)];
        let coverage = of_export(&log.reader, &AuditQuery::new(), &ends).await?;
        verdict_of_export(&coverage, Some(written.rows), &log)?;
        // Entries that an entry of the log declares to be gone were not there before either.
        let declared: u64 = coverage.ledgers.iter().map(|one| one.missing_as_declared).sum();
        if written.rows.saturating_add(declared) != ledger.next_seq {
            return Err(Failure::Lost(format!(
                "the ledger {:?} ends at seq {}, and {} entries were written: {} is not whole",
                ledger.name,
                ledger.next_seq,
                written.rows,
                path.display()
            )));
        }
        read_again(&path, &written)?;
        // Last, since the export may be in the record too.
        let reads = if removed.is_some() { keep_reads(&log, &path).await? } else { (0, None) };
        let kept = Kept { ledger, path, written, reads, verified };
        self.describe(database, &kept, plan, &coverage)?;
        Ok(kept)
    }

    /// Writes the manifest.
    fn describe(
        &self,
        database: &Database,
        kept: &Kept,
        plan: Plan,
        coverage: &Coverage,
    ) -> Result<(), Failure> {
        let Kept { path, written, reads, verified, .. } = kept;
        let manifest = Manifest {
            file: name_of(path),
            rows: written.rows,
            sha256: written.sha256.clone(),
            bytes: written.bytes,
            format: Kind::Jsonl.name().to_owned(),
            order: Kind::Jsonl.order().to_owned(),
            header: None,
            database: database.kind()?.to_owned(),
            asked: self.asked().described(),
            plan,
            coverage: serde_json::to_value(coverage).map_err(io::Error::from)?,
            archived: Some(json!({
                "lines_sha256": written.lines_sha256,
                "reads": reads.0,
                "reads_sha256": reads.1,
                "checkpoint": verified.checkpoint().map(ToString::to_string),
            })),
            exported_at: Utc::now(),
            tracing_audit: env!("CARGO_PKG_VERSION").to_owned(),
        };
        save_new_json(&with_suffix(path, MANIFEST), &manifest)
    }

    fn ledger_of<'a>(&self, log: &'a Log) -> Result<&'a Ledger, Failure> {
        let is_meant = |one: &&Ledger| self.ledger.as_deref().is_none_or(|name| name == one.name);
        let mut meant = log.ledgers.iter().filter(is_meant);
        if let (Some(one), None) = (meant.next(), meant.next()) {
            return Ok(one);
        }
        let all: Vec<&str> = log.ledgers.iter().map(|one| &*one.name).collect();
        Err(Failure::Usage(format!("choose the ledger by --ledger, from {}", all.join(", "))))
    }

    /// The file to write.
    fn path(&self, database: &Database, ledger: &str) -> Result<PathBuf, Failure> {
        let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let is_name = ledger.chars().all(is_plain) && !ledger.starts_with('.');
        let path = match (&self.output, database.sqlite_file()) {
            (Some(path), _) => path.clone(),
            (None, Ok(source)) if is_name => source.with_file_name([ledger, ".jsonl.zst"].concat()),
            (None, _) => {
                return Err(Failure::Usage("where is the archive to be? Give a file by -o".to_owned()));
            }
        };
        for suffix in ["", MANIFEST, READS] {
            let path = with_suffix(&path, suffix);
            if is_stream(&path) || path.symlink_metadata().is_ok() {
                return Err(Failure::Usage(format!(
                    "{} exists, and an archive replaces nothing: name another file; if the last run was interrupted, remove \
                     what it has left",
                    path.display()
                )));
            }
            database.refuse_output(&path)?;
            refuse_of_others(&path)?;
        }
        Ok(path)
    }

    async fn verify(&self, log: &Log, ledger: &Ledger) -> Result<Verified, Failure> {
        let (mut verification, mut held) = (Verification::of_itself(), Held::default());
        let trust = self.trust.as_deref().map(trust).transpose()?;
        for given in &self.checkpoint {
            for kept in counting(given, trust.as_ref())? {
                verification = kept.hold(verification, trust.as_ref(), &mut held)?;
            }
        }
        if !held.refused().is_empty() {
            return Err(Failure::Found(format!(
                "{}: a checkpoint is not signed as the trust file asks for, and nothing was archived",
                held.refused()
            )));
        }
        let reader = log.reader.clone().of_ledger(ledger.name.clone());
        let verified = reader.verify(verification).await?;
        if !verified.is_intact() {
            return Err(Failure::Found(format!(
                "the ledger {:?} is not as it was, and nothing was archived: `tracing-audit verify` says what was found",
                ledger.name
            )));
        }
        Ok(verified)
    }

    async fn write(&self, log: &Log, ledger: &Ledger, path: &Path) -> Result<Written, Failure> {
        let file = Hashing::new(NewFile::create(path)?);
        let mut lines = Hashing::new(compressed(file).map_err(|error| with_path(path, &error))?);
        let mut progress = Progress::new(true);
        progress.begin(&ledger.name, 0, ledger.next_seq);
        let query = AuditQuery::new().ledger(&ledger.name).from_seq(0).before_seq(ledger.next_seq);
        let chunks = log.reader.export_stream(query, ExportFormat::JsonLines);
        add(chunks, &mut lines, &mut progress).await?;
        let lines_sha256 = hex(&lines.hash);
        let Hashing { inner, hash, bytes } = lines.inner.finish()?;
        inner.finish_new()?;
        Ok(Written { rows: progress.entries, sha256: hex(&hash), bytes, lines_sha256 })
    }
}

/// The ledger in which an entry tells what was archived.
struct ToldIn {
    store: Store,
    ledger: String,
    /// The database, without its secrets.
    name: String,
}

impl ToldIn {
    /// Commits the entry, and returns its `seq`.
    async fn tell(&self, archived: &Archived) -> Result<u64, Failure> {
        let builder = AuditLog::builder().store(self.store.clone()).ledger(&self.ledger).in_memory_queue();
        let log = builder.on_notice(|_| {}).open().await?;
        let committed = log.writer().declare_archive(archived).await;
        end_log(&log).await?;
        Ok(committed?)
    }
}

/// Whether both are one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

fn compressed(file: Hashing<NewFile>) -> io::Result<Encoder<'static, Hashing<NewFile>>> {
    let mut encoder = Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Removes the database, once it is known that nothing of it is missing in the copy, and an entry tells of it. Returns the `seq` of
/// that entry.
async fn give_up(source: &Path, kept: &Kept, told_in: &ToldIn) -> Result<u64, Failure> {
    refuse_journals(source, &kept.ledger.name)?;
    // From here on nobody can write to the database. What was committed since is found by the number of entries.
    let mut held = UnusedFile::hold(source, &kept.ledger.name, kept.ledger.next_seq).await?;
    let reads = held.reads().await?;
    if reads != kept.reads.0 {
        return Err(Failure::Lost(format!(
            "{} has {reads} recorded reads, and {} were kept: somebody has read it meanwhile; make another copy",
            source.display(),
            kept.reads.0
        )));
    }
    let seq = told_in.tell(&kept.archived()).await?;
    held.remove().await?;
    Ok(seq)
}

/// Writes the record of who read the log to a file of its own, the earliest first. Returns the number of reads and the SHA-256 of
/// that file, if there are any.
async fn keep_reads(log: &Log, path: &Path) -> Result<(u64, Option<String>), Failure> {
    let reads = log.unrecorded().reads(.., u32::MAX).await?;
    if reads.is_empty() {
        return Ok((0, None));
    }
    let mut file = Hashing::new(NewFile::create(&with_suffix(path, READS))?);
    for read in reads.iter().rev() {
        let mut line = serde_json::to_vec(read).map_err(io::Error::from)?;
        line.push(b'\n');
        file.write_all(&line)?;
    }
    let Hashing { inner, hash, .. } = file;
    inner.finish_new()?;
    Ok((reads.len() as u64, Some(hex(&hash))))
}

/// Reads the file again, and compares the number of its lines and both hashes.
fn read_again(path: &Path, written: &Written) -> Result<(), Failure> {
    let named = |error: io::Error| with_path(path, &error);
    let mut file = Hashing::new(io::sink());
    let opened = File::open(path).map_err(named)?;
    let both = Both { inner: opened, read: &mut file };
    let mut lines = Hashing::new(io::sink());
    let mut decoder = BufReader::with_capacity(1 << 16, Decoder::new(both).map_err(named)?);
    let mut count = 0;
    loop {
        let part = decoder.fill_buf().map_err(named)?;
        if part.is_empty() {
            break;
        }
        // One part more than there are ends of lines.
        count += part.split(|byte| *byte == b'\n').count() as u64 - 1;
        lines.write_all(part)?;
        let length = part.len();
        decoder.consume(length);
    }
    drop(decoder);
    let found = (count, file.bytes, hex(&file.hash), hex(&lines.hash));
    let expected = (written.rows, written.bytes, written.sha256.clone(), written.lines_sha256.clone());
    if found == expected {
        return Ok(());
    }
    Err(Failure::Lost(format!(
        "{} is not what was written: its disk, or somebody who writes to it, has changed it. The database stays",
        path.display()
    )))
}

/// Hashes what is read.
struct Both<'a, R> {
    inner: R,
    read: &'a mut Hashing<io::Sink>,
}

impl<R: Read> Read for Both<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.read.write_all(into.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

/// Refuses a database for which journals may hold entries, also those of processes that never reached it.
fn refuse_journals(source: &Path, ledger: &str) -> Result<(), Failure> {
    for queue in queues(source).iter().filter(|queue| queue.is_dir()) {
        let is_of = |of: &Option<String>| of.as_deref().is_none_or(|of| of == ledger);
        if let Some(journal) = inspect(queue)?.iter().find(|journal| is_of(&journal.ledger)) {
            return Err(Failure::Lost(format!(
                "{} may hold entries for it that are not committed: end its process, or open the log once more, which settles \
                 what a dead one has left",
                journal.directory.display()
            )));
        }
    }
    Ok(())
}
