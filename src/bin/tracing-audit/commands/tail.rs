//! Entries in the order of their commit, from where the last run ended.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tracing_audit::{AuditQuery, AuditReader, SequencedEntry};

use crate::{
    failure::Failure,
    input::{Conditions, Database, one_of},
    output::{self, Entries, FilePlace, Format, Lines, Unfinished, beside},
};

#[derive(Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    conditions: Conditions,
    /// Go on with what comes, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Keep in this file how far this has come, and begin there: what was added since the last run. None is left
    /// out, whenever the command is killed and started again. As JSON Lines in a file to which standard output is appended,
    /// and that may be read, each entry is once (on Linux); elsewhere one that was just written may come again.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Append to this file, as JSON Lines, what comes after its last entry. Whenever the command is killed and started
    /// again, each entry is in it once.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["state", "format"])]
    output: Option<PathBuf>,
    /// Default: a table on a terminal, JSON Lines elsewhere.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// What the state file holds.
#[derive(Serialize, Deserialize)]
struct State {
    ledger: String,
    next_seq: u64,
    /// Standard output, if it is a file.
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
        let (reader, ledgers) = database.open_one().await?;
        let ledger = one_of(self.conditions.ledger.as_ref(), &ledgers)?;
        let head = ledgers.iter().find(|one| one.ledger == ledger).map_or(0, |one| one.entries);
        let query = self.conditions.query()?.ledger(&ledger);
        let (mut to, known) = self.destination(&ledger)?;
        if self.follow && self.conditions.before_seq.is_some() {
            return Err(Failure::Usage("--before-seq has no place with --follow".to_owned()));
        }
        let from = self.begin(known, &ledger, head)?;
        to.reached(ledger.clone(), from)?;
        if self.follow {
            return follow(&reader, query, from, &ledger, &mut to).await;
        }
        let head = self.conditions.before_seq.map_or(head, |before| before.min(head));
        let entries = reader.stream(query.from_seq(from).before_seq(head)).try_ready_chunks(TOGETHER);
        let mut entries = std::pin::pin!(entries);
        while let Some(found) = entries.try_next().await.map_err(|failed| failed.1)? {
            to.add(&found)?;
            if let Some(last) = found.last() {
                to.reached(ledger.clone(), last.seq + 1)?;
            }
        }
        to.reached(ledger, head.max(from))
    }

    /// Where the entries go, and how far it has come.
    fn destination(&self, ledger: &str) -> Result<(Destination, Option<State>), Failure> {
        let begin = || State::new(ledger.to_owned(), 0);
        if let Some(path) = &self.output {
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

    /// The `seq` to begin at.
    fn begin(&self, known: Option<State>, ledger: &str, head: u64) -> Result<u64, Failure> {
        match known {
            Some(state) if state.ledger != ledger => {
                let message = format!("so far it was the ledger {:?}, not {ledger:?}", state.ledger);
                Err(Failure::Usage(message))
            }
            Some(state) if state.next_seq > head => Err(Failure::Lost(format!(
                "the ledger {ledger:?} ends at seq {head}, before {} where the last run ended: it was restored from a backup, or is another",
                state.next_seq
            ))),
            Some(state) => Ok(state.next_seq.max(self.conditions.from_seq.unwrap_or(0))),
            // With nothing to go on from: what comes, or all that is there.
            None if self.follow => Ok(self.conditions.from_seq.unwrap_or(head)),
            None => Ok(self.conditions.from_seq.unwrap_or(0)),
        }
    }
}

async fn follow(
    reader: &AuditReader,
    query: AuditQuery,
    from: u64,
    ledger: &str,
    to: &mut Destination,
) -> Result<(), Failure> {
    let mut entries = std::pin::pin!(reader.follow_matching(query, from).ready_chunks(TOGETHER));
    while let Some(found) = entries.next().await {
        let mut whole = Vec::with_capacity(found.len());
        for entry in found {
            match entry {
                Ok(entry) => whole.push(entry),
                Err(error) if error.is_query() => return Err(error.into()),
                // It may come back.
                Err(error) => output::report(&error.into()),
            }
        }
        if let Some(last) = whole.last() {
            to.add(&whole)?;
            to.reached(ledger.to_owned(), last.seq + 1)?;
        }
    }
    Ok(())
}

/// Entries that are written together, before the state is kept.
const TOGETHER: usize = 500;

/// Where entries go, and what says how far they have come.
enum Destination {
    /// A state of its own, if any.
    Shown { shown: Entries, state: Option<PathBuf>, unfinished: Option<Unfinished> },
    /// Itself.
    File(Lines),
}

impl Destination {
    fn add(&mut self, found: &[SequencedEntry]) -> Result<(), Failure> {
        match self {
            Self::Shown { shown, unfinished, .. } => {
                for entry in found {
                    if unfinished.as_ref().is_some_and(|unfinished| unfinished.holds(entry)) {
                        continue;
                    }
                    // Those that were written come first, and then the one of which a part was.
                    let part = unfinished.take().map(|unfinished| unfinished.part).unwrap_or_default();
                    if part.is_empty() || !shown.add_rest(entry, &part)? {
                        shown.add(entry, None, "")?;
                    }
                }
                Ok(())
            }
            Self::File(lines) => {
                let mut bytes = Vec::new();
                for entry in found {
                    serde_json::to_writer(&mut bytes, entry).map_err(std::io::Error::from)?;
                    bytes.push(b'\n');
                }
                Ok(lines.write_all(&bytes)?)
            }
        }
    }

    fn reached(&mut self, ledger: String, next_seq: u64) -> Result<(), Failure> {
        if let Self::Shown { shown, state, unfinished } = self {
            shown.flush()?;
            if let Some(path) = state {
                // What follows of those that were written is still to be known of.
                let output =
                    unfinished.as_ref().map_or_else(output::place, |unfinished| Some(unfinished.place));
                save(path, &State { ledger, next_seq, output })?;
            }
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<Option<State>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| Failure::Usage(format!("{} is not a state of this command", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn save(path: &Path, state: &State) -> Result<(), Failure> {
    let mut file = beside(path)?;
    file.write_all(&serde_json::to_vec(state).map_err(std::io::Error::from)?)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
