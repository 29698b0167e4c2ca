//! The command `tail`: shows or copies entries in the order of their commit, continuing where the last run ended.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tracing_audit::{AuditQuery, AuditReader, SequencedEntry};

use crate::{
    failure::Failure,
    input::{Conditions, Database, Log, one_of},
    output::{self, Entries, FilePlace, Format, Lines, NewFile, Unfinished, is_stream, with_path},
};

#[derive(Args)]
pub(crate) struct Tail {
    /// Wait for new entries, until interrupted.
    ///
    /// A server or a file that is away is reported once and waited for. A file that was replaced is read anew: the entries
    /// go on if it is the same log, and an error says so if it is another one.
    ///
    /// Entries that exist already are shown first only with --state, --output or --from-seq.
    #[arg(short, long)]
    follow: bool,
    /// Begin where the last run with this file ended, and keep the position in it.
    ///
    /// No entry is left out, whenever the command is killed and started again. On Linux, if standard output is appended
    /// as JSON Lines to a file that this command may also read, each entry is in that file exactly once. Elsewhere, an
    /// entry that was written just before the command was killed may be written again.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Append to this file, as JSON Lines, the entries that follow its last one.
    ///
    /// Each entry is in the file exactly once, whenever the command is killed and started again. A file that does not
    /// exist is made for this user alone. A device or a pipe is written to as it is, and keeps no position; - means
    /// standard output.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["state", "format"])]
    output: Option<PathBuf>,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    conditions: Conditions,
}

/// The content of the state file.
#[derive(Serialize, Deserialize)]
struct State {
    ledger: String,
    next_seq: u64,
    /// Standard output and its length, if it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<FilePlace>,
}

impl State {
    fn new(ledger: String, next_seq: u64) -> Self {
        Self { ledger, next_seq, output: None }
    }
}

impl Tail {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        for path in self.output.iter().chain(&self.state) {
            database.refuse_output(path)?;
        }
        let Log { reader, ledgers, .. } = database.open_one().await?;
        let ledger = one_of(self.conditions.ledger.as_ref(), &ledgers)?;
        let head = ledgers.iter().find(|one| one.name == ledger).map_or(0, |one| one.next_seq);
        let query = self.conditions.query()?.ledger(&ledger);
        let (mut to, known) = self.destination(&ledger)?;
        if self.follow && self.conditions.before_seq.is_some() {
            return Err(Failure::Usage("--before-seq cannot be combined with --follow".to_owned()));
        }
        let from = self.first_seq(known, &ledger, head)?;
        to.save_position(ledger.clone(), from)?;
        if self.follow {
            return follow(&reader, query, from, &ledger, &mut to).await;
        }
        let head = self.conditions.before_seq.map_or(head, |before| before.min(head));
        let entries = reader.stream(query.from_seq(from).before_seq(head)).try_ready_chunks(ENTRIES_AT_ONCE);
        let mut entries = std::pin::pin!(entries);
        while let Some(found) = entries.try_next().await.map_err(|failed| failed.1)? {
            to.add(&found)?;
            if let Some(last) = found.last() {
                to.save_position(ledger.clone(), last.seq + 1)?;
            }
        }
        to.save_position(ledger, head.max(from))
    }

    /// The destination of the entries, and the position where the last run ended, if there was one.
    fn destination(&self, ledger: &str) -> Result<(Destination, Option<State>), Failure> {
        let begin = || State::new(ledger.to_owned(), 0);
        if let Some(path) = self.output.as_ref().filter(|path| path.as_os_str() != "-") {
            if is_stream(path) {
                let file = OpenOptions::new().append(true).open(path);
                let file = file.map_err(|error| with_path(path, &error))?;
                return Ok((Destination::Stream(file), None));
            }
            let mut lines = Lines::open(path)?;
            let last = lines.last()?.map(|last| State::new(last.ledger, last.seq + 1));
            return Ok((Destination::File(lines), Some(last.unwrap_or_else(begin))));
        }
        let shown = Entries::new(self.format, self.conditions.period.tz);
        let Some(path) = &self.state else {
            return Ok((Destination::Shown { shown, state: None, unfinished: None }, None));
        };
        let state = load(path)?;
        let output = state.as_ref().and_then(|state| state.output);
        let unfinished = output.and_then(|place| Unfinished::since(place, ledger));
        let to = Destination::Shown { shown, state: Some(path.clone()), unfinished };
        Ok((to, Some(state.unwrap_or_else(begin))))
    }

    /// The `seq` at which to begin.
    fn first_seq(&self, known: Option<State>, ledger: &str, head: u64) -> Result<u64, Failure> {
        match known {
            Some(state) if state.ledger != ledger => {
                let message = format!(
                    "the last run read the ledger {:?}, not {ledger:?}: name another file for this ledger",
                    state.ledger
                );
                Err(Failure::Usage(message))
            }
            Some(state) if state.next_seq > head => Err(Failure::Lost(format!(
                "the ledger {ledger:?} ends at seq {head}, before {}, where the last run ended: the database was \
                 restored from a backup, or is another one. To read it from the beginning, name another file",
                state.next_seq
            ))),
            Some(state) => Ok(state.next_seq.max(self.conditions.from_seq.unwrap_or(0))),
            // Without an earlier run, follow only new entries, or show all that exist.
            None if self.follow => Ok(self.conditions.from_seq.unwrap_or(head)),
            None => Ok(self.conditions.from_seq.unwrap_or(0)),
        }
    }
}

/// Waits for new entries and adds them to the destination. Errors of the database are reported, and the wait goes on.
async fn follow(
    reader: &AuditReader,
    query: AuditQuery,
    from: u64,
    ledger: &str,
    to: &mut Destination,
) -> Result<(), Failure> {
    let mut entries = std::pin::pin!(reader.follow_matching(query, from).ready_chunks(ENTRIES_AT_ONCE));
    // The error that was reported since the last entry. It repeats for as long as its cause lasts.
    let mut reported = None;
    while let Some(found) = entries.next().await {
        let mut whole = Vec::with_capacity(found.len());
        for entry in found {
            match entry {
                Ok(entry) => whole.push(entry),
                Err(error) if error.is_query() => return Err(error.into()),
                // The database may be reachable again later.
                Err(error) => {
                    let failure = Failure::from(error);
                    let message = failure.message();
                    if reported.as_ref() != Some(&message) {
                        output::report(&failure);
                        reported = Some(message);
                    }
                }
            }
        }
        if let Some(last) = whole.last() {
            reported = None;
            to.add(&whole)?;
            to.save_position(ledger.to_owned(), last.seq + 1)?;
        }
    }
    Ok(())
}

/// The number of entries that are written at a time, before the state is saved.
const ENTRIES_AT_ONCE: usize = 500;

/// The destination of the entries, which also keeps the position.
enum Destination {
    /// Standard output, with the position in a state file, if there is one.
    Shown { shown: Entries, state: Option<PathBuf>, unfinished: Option<Unfinished> },
    /// A file, whose last line is the position.
    File(Lines),
    /// A device or a pipe, without a position.
    Stream(File),
}

fn as_lines(found: &[SequencedEntry]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for entry in found {
        serde_json::to_writer(&mut bytes, entry).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

impl Destination {
    fn add(&mut self, found: &[SequencedEntry]) -> Result<(), Failure> {
        match self {
            Self::Shown { shown, unfinished, .. } => {
                for entry in found {
                    if unfinished.as_ref().is_some_and(|unfinished| unfinished.holds(entry)) {
                        continue;
                    }
                    // This is the first entry that was not completely written: a part of its line may have been.
                    let part = unfinished.take().map(|unfinished| unfinished.part).unwrap_or_default();
                    if part.is_empty() || !shown.add_rest(entry, &part)? {
                        shown.add(entry, None, "")?;
                    }
                }
                Ok(())
            }
            Self::File(lines) => Ok(lines.write_all(&as_lines(found)?)?),
            Self::Stream(file) => Ok(file.write_all(&as_lines(found)?)?),
        }
    }

    fn save_position(&mut self, ledger: String, next_seq: u64) -> Result<(), Failure> {
        if let Self::Shown { shown, state, unfinished } = self {
            shown.flush()?;
            if let Some(path) = state {
                // Some of the entries already written are still to come: keep the earlier length, to recognise them
                // again.
                let output = unfinished
                    .as_ref()
                    .map_or_else(output::stdout_place, |unfinished| Some(unfinished.place));
                save(path, &State { ledger, next_seq, output })?;
            }
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<Option<State>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| {
            Failure::Usage(format!(
                "{} is not a state file of this command: name another file",
                path.display()
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path, &error).into()),
    }
}

fn save(path: &Path, state: &State) -> Result<(), Failure> {
    let mut file = NewFile::create(path)?;
    file.write_all(&serde_json::to_vec(state).map_err(std::io::Error::from)?)?;
    Ok(file.finish()?)
}
