//! The command `verify`: whether a ledger is as it was.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tracing_audit::{
    AuditReader,
    evidence::{Finding, FindingKind, Verification, Verified, VerifyState},
};

use super::kept::{Held, counting, trust};
use crate::{
    failure::Failure,
    input::{Database, read_small, text_of},
    output::{self, NewFile, Progress, refuse_of_others, with_path},
};

/// The least interval at which the state is written.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// The ledger of a database.
#[derive(Args)]
pub(crate) struct OfLedger {
    /// The ledger, if the database holds several.
    #[arg(long, value_name = "NAME")]
    ledger: Option<String>,
}

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    ledger: OfLedger,
    /// A checkpoint that was kept outside of the database: a file, or its text, or "SIZE ROOT". May be repeated.
    ///
    /// A file may hold several: notes of three lines, one after the other, also signed ones, or a size and a root on each line. It has
    /// at most 16 MiB, or is that of a notary, of which the last hundred are taken; - means standard input.
    #[arg(long, value_name = "FILE_OR_TEXT")]
    checkpoint: Vec<String>,
    /// The file that says whose signatures a signed checkpoint must have. `key show` prints one.
    ///
    /// Its form is that of <https://c2sp.org/tlog-policy>. A checkpoint that is not signed so, or not at all, is a finding, and the ledger
    /// is not held against it. Without this option one without signatures is taken as it is, and the output says `signed: no`.
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    trust: Option<PathBuf>,
    /// A file that says how far earlier runs have come: the next one begins there, also after an interruption.
    ///
    /// A run reads the entries that were committed since the last run, and up to 65535 entries before them. Changes to
    /// the other entries are found by --full only. The file is a checkpoint too, as good as the place where it is kept.
    /// It goes on only with a ledger that leads through it; once the ledger was cut off or replaced, it stays as it is,
    /// and each run says so until you remove it. A file that belongs to another user, or that others may write, is
    /// refused.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Read everything, also what earlier runs have read by the state. From time to time this should be done.
    #[arg(long)]
    full: bool,
    /// Also verify each seal: whether its root is over the entries of all workspaces before it. Everything is read once more.
    #[arg(long)]
    seals: bool,
    /// How many parts of the ledger are read at the same time, 1 to 4.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    jobs: Option<u8>,
    /// Fail with exit code 5 if fewer entries are covered by a checkpoint.
    #[arg(long, value_name = "N")]
    require_size: Option<u64>,
    /// The form of the output: one line for each finding and a summary, or one JSON object.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// Print findings only, without what is only worth knowing, the summary and the progress.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

impl OfLedger {
    pub(super) fn named(name: &str) -> Self {
        Self { ledger: Some(name.to_owned()) }
    }

    /// Whether this ledger is the one that was named, if one was.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.ledger.as_ref().is_none_or(|ledger| ledger == name)
    }

    /// A reader of the ledger that was named, or of the only one.
    pub(super) async fn reader(&self, database: &Database) -> Result<AuditReader, Failure> {
        let reader = database.reader()?;
        let names = match reader.ledger_names().await {
            // An object in the place of a table is for the command to find.
            Err(error) if error.is_altered() => Vec::new(),
            names => names?,
        };
        match (&self.ledger, &*names) {
            (Some(name), _) if names.contains(name) => Ok(reader.of_ledger(name.clone())),
            (Some(name), [_, ..]) => {
                Err(Failure::Usage(format!("there is no ledger {name:?}; choose from {}", names.join(", "))))
            }
            // Its head is gone, which is for the command to find.
            (Some(name), []) => Ok(reader.of_ledger(name.clone())),
            (None, [only]) => Ok(reader.of_ledger(only.clone())),
            (None, []) => Ok(reader),
            (None, _) => Err(Failure::Usage(format!(
                "the database holds several ledgers: choose one by --ledger, from {}",
                names.join(", ")
            ))),
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    ledger: &'a str,
    /// The entries of the ledger, those that were read, and those that a checkpoint covers.
    size: u64,
    read: u64,
    covered: u64,
    anchored: bool,
    /// Whether a checkpoint of as many entries as are covered is signed as the trust file asks for.
    signed: bool,
    intact: bool,
    /// The checkpoint of the entries that were read. `null` if leaf hashes are missing.
    checkpoint: Option<String>,
    findings: &'a [Finding],
    /// Findings beyond those.
    more: u64,
    seconds: f64,
}

impl Verify {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let (mut verification, held) = self.held()?;
        let failed = Arc::new(Mutex::new(None));
        // A state that cannot be read is reported once the ledger was read, and stays as it is.
        let mut unread = None;
        if let Some(path) = &self.state {
            database.refuse_output(path)?;
            refuse_of_others(path)?;
            match read_state(path) {
                Ok(state) => {
                    if let Some(state) = state {
                        verification = verification.state(state);
                    }
                    verification = verification.on_state(writes_state(path.clone(), Arc::clone(&failed)));
                }
                Err(failure) => unread = Some(failure),
            }
        }
        let reader = self.ledger.reader(database).await?;
        let shown = !self.quiet && io::stderr().is_terminal();
        let (mut progress, mut begun) = (Progress::new(shown), false);
        verification = verification.on_progress(move |at| {
            if !begun {
                progress.begin("", 0, at.until);
                begun = true;
            }
            progress.at(at.reached);
        });
        let start = Instant::now();
        let verified = reader.verify(verification).await?;
        // First what was found, then what else has failed.
        let printed = self.print(&verified, &held, start.elapsed());
        let earlier = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let saved = match (unread, &self.state, verified.state()) {
            (None, Some(path), Some(state)) => save_state(path, state),
            (unread, ..) => unread.or(earlier).map_or(Ok(()), Err),
        };
        match (self.judge(&verified, &held), printed.and(saved)) {
            (Err(found @ Failure::Found(_)), Err(failure)) => {
                output::remark(&failure.message());
                Err(found)
            }
            (judged, done) => done.and(judged),
        }
    }

    /// The verification that the options ask for, but for the state, and what the ledger is held against in it.
    fn held(&self) -> Result<(Verification, Held), Failure> {
        let (mut verification, mut held) = (Verification::of_itself(), Held::default());
        let trust = self.trust.as_deref().map(trust).transpose()?;
        for given in &self.checkpoint {
            for kept in counting(given, trust.as_ref())? {
                verification = kept.hold(verification, trust.as_ref(), &mut held)?;
            }
        }
        if let Some(jobs) = self.jobs {
            verification = verification.jobs(jobs.into());
        }
        if self.seals {
            verification = verification.seals();
        }
        Ok((if self.full { verification.whole() } else { verification }, held))
    }

    fn print(&self, verified: &Verified, held: &Held, took: Duration) -> Result<(), Failure> {
        let is_signed = held.is_signed(verified.covered());
        let checkpoint = verified.checkpoint().map(ToString::to_string);
        if self.format == Form::Json {
            return output::print_json(&Shown {
                ledger: verified.ledger(),
                size: verified.size(),
                read: verified.entries(),
                covered: verified.covered(),
                anchored: verified.is_anchored(),
                signed: is_signed,
                intact: verified.is_intact(),
                checkpoint,
                findings: verified.findings(),
                more: verified.more(),
                seconds: took.as_secs_f64(),
            });
        }
        let told = verified.findings().iter().filter(|found| !self.quiet || !found.kind.is_information());
        for found in told {
            output::print_fitting(&output::harmless(&found.to_string()))?;
        }
        if verified.more() > 0 {
            output::print_fitting(&format!("and {} more findings", verified.more()))?;
        }
        if self.quiet {
            return Ok(());
        }
        let is_part = self.state.is_some() && !self.full && verified.entries() < verified.covered();
        let signed = if self.checkpoint.is_empty() || !verified.is_anchored() {
            ""
        } else if is_signed {
            " (signed: yes)"
        } else {
            " (signed: no)"
        };
        output::print_fitting(&format!(
            "{}: {} of {} entries read{}, {} covered by a checkpoint{signed}, {:.1} s",
            output::harmless(verified.ledger()),
            verified.entries(),
            verified.size(),
            if is_part { " (the others by earlier runs; --full reads them again)" } else { "" },
            verified.covered(),
            took.as_secs_f64()
        ))?;
        match verified.checkpoint().filter(|read| verified.is_intact() && read.size() > 0) {
            Some(read) => {
                let root = checkpoint.as_deref().and_then(|text| text.lines().nth(2)).unwrap_or_default();
                output::print_fitting(&format!("to be kept elsewhere: {} {root}", read.size()))
            }
            None => Ok(()),
        }
    }

    /// The failure that the command ends with, if it does not end well.
    fn judge(&self, verified: &Verified, held: &Held) -> Result<(), Failure> {
        let signs = || verified.findings().iter().filter(|found| !found.kind.is_information());
        if verified.more() == 0
            && signs().count() > 0
            && signs().all(|found| found.kind.is_about_a_checkpoint())
        {
            return Err(Failure::Found(format!(
                "{}: a checkpoint is not signed as the trust file asks for, so the ledger was not held against it",
                held.refused()
            )));
        }
        if !verified.is_intact() {
            let count = signs().count() as u64 + verified.more();
            let findings = if count == 1 { "finding" } else { "findings" };
            let kept = match self.state.as_ref().filter(|_| verified.state().is_some_and(is_broken_off)) {
                Some(path) => format!(
                    "; {} stays as it was, and each run with it says so until you remove it",
                    path.display()
                ),
                None => String::new(),
            };
            return Err(Failure::Found(format!("the ledger is not as it was: {count} {findings}{kept}")));
        }
        if !verified.is_anchored() && !self.checkpoint.is_empty() {
            let message = "nothing was found, and the checkpoint covers no entry: keep a newer one elsewhere";
            return Err(Failure::Unanchored(message.to_owned()));
        }
        if !verified.is_anchored() {
            let message = "nothing was found, and there was no checkpoint from outside to hold the ledger against: keep the \
                           output of `tracing-audit checkpoint` elsewhere, and give it by --checkpoint";
            return Err(Failure::Unanchored(message.to_owned()));
        }
        match self.require_size {
            Some(required) if verified.covered() < required => Err(Failure::Unanchored(format!(
                "nothing was found, and the newest checkpoint covers {} entries, fewer than {required}",
                verified.covered()
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether a state says that the ledger was cut off or replaced.
fn is_broken_off(state: &VerifyState) -> bool {
    use FindingKind::{Forked, RolledBack, Truncated};
    state.findings().iter().any(|found| matches!(found.kind, Truncated | RolledBack | Forked))
}

fn read_state(path: &Path) -> Result<Option<VerifyState>, Failure> {
    match read_small(path).and_then(text_of) {
        Ok(text) => {
            let state = text.trim_end().parse::<VerifyState>();
            state.map(Some).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Output(with_path(path, &error))),
    }
}

fn save_state(path: &Path, state: &VerifyState) -> Result<(), Failure> {
    let mut file = NewFile::create(path)?;
    file.write_all(format!("{state}\n").as_bytes())?;
    Ok(file.finish()?)
}

/// Writes states to a file, not each of them. The first failure stays in `failed`.
fn writes_state(
    path: PathBuf,
    failed: Arc<Mutex<Option<Failure>>>,
) -> impl FnMut(&VerifyState) + Send + 'static {
    let mut last = Instant::now();
    move |state| {
        if last.elapsed() < STATE_EVERY {
            return;
        }
        last = Instant::now();
        if let Err(failure) = save_state(&path, state) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}
