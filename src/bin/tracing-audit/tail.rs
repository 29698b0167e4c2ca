//! Entries in the order of their commit, from where the last run ended.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::{
    Database, Failure,
    conditions::Conditions,
    show::{Entries, Format},
};

#[derive(Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    conditions: Conditions,
    /// Go on with what comes, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Keep in this file how far this has come, and begin there: what was added since the last run. An entry that was
    /// written when the command was killed may come again; none is left out.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Default: a table on a terminal, JSON Lines elsewhere.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// What the state file holds.
#[derive(Serialize, Deserialize)]
struct State {
    ledger: String,
    next_seq: u64,
}

impl Tail {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let (reader, ledgers) = database.open().await?;
        let ledger = match (&self.conditions.ledger, ledgers.as_slice()) {
            (Some(ledger), _) => ledger.clone(),
            (None, [only]) => only.ledger.clone(),
            (None, many) => {
                let names: Vec<_> = many.iter().map(|ledger| ledger.ledger.as_str()).collect();
                return Err(Failure::Usage(format!("which --ledger? There are {}", names.join(", "))));
            }
        };
        let head = ledgers.iter().find(|one| one.ledger == ledger).map_or(0, |one| one.entries);
        let query = self.conditions.query()?.ledger(&ledger);
        let from = match self.state.as_deref().map(load).transpose()?.flatten() {
            Some(state) if state.ledger != ledger => {
                return Err(Failure::Usage(format!(
                    "the state is of the ledger {:?}, not {ledger:?}",
                    state.ledger
                )));
            }
            Some(state) => state.next_seq,
            // Without a state, what comes; with a new one, or once only, all that is there.
            None if self.follow && self.state.is_none() => head,
            None => 0,
        };
        let mut shown = Entries::new(self.format, self.conditions.period.tz);
        let done = |next_seq| match &self.state {
            Some(path) => save(path, &State { ledger: ledger.clone(), next_seq }),
            None => Ok(()),
        };
        if !self.follow {
            let mut entries = std::pin::pin!(reader.stream(query.from_seq(from).before_seq(head)));
            while let Some(entry) = entries.try_next().await? {
                shown.add(&entry)?;
            }
            shown.end()?;
            return done(head.max(from));
        }
        // Those that came together are shown together, and then the state is kept.
        let mut entries = std::pin::pin!(reader.follow_matching(query, from).ready_chunks(500));
        while let Some(found) = entries.next().await {
            let mut next = None;
            for entry in found {
                let entry = entry?;
                shown.add(&entry)?;
                next = Some(entry.seq + 1);
            }
            shown.flush()?;
            next.map_or(Ok(()), done)?;
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
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(&serde_json::to_vec(state).map_err(std::io::Error::from)?)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
