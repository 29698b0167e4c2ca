//! The position of `tail`, with the log and the question that it is for: kept in a state file, or next to a copy.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing_audit::{AuditReader, SequencedEntry};

use super::manifest::options;
use crate::{
    failure::Failure,
    input::{Conditions, Place, Range, entry_at, read_small, source_of},
    output::{FilePlace, NewFile, refuse_of_others, with_path},
};

/// The question that was asked when a copy or a state began.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Question {
    ledger: String,
    /// The conditions without times, as the record of reads has them.
    asked: Map<String, Value>,
    /// The options of time as they were given.
    times: Vec<String>,
    /// The times that these were when the copy or the state began.
    #[serde(flatten)]
    pub(crate) range: Range,
    /// The format of standard output, where that is no terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    /// The options of the command that asked first.
    pub(crate) query: Vec<String>,
}

impl Question {
    pub(crate) fn new(conditions: &Conditions, ledger: &str, format: Option<&str>) -> Result<Self, Failure> {
        let mut asked = conditions.timeless()?.described();
        asked.remove("ledger");
        Ok(Self {
            ledger: ledger.to_owned(),
            asked,
            times: conditions.period.given(),
            range: conditions.period.range()?,
            format: format.map(str::to_owned),
            query: options(),
        })
    }

    /// Whether it is the same as the one with which the file at this path began.
    fn check(&self, begun: &Self, path: &Path) -> Result<(), Failure> {
        let path = path.display();
        let formats = (&begun.format, &self.format);
        let differs = if (&self.asked, &self.times) != (&begun.asked, &begun.times) {
            format!("asked for {}, and now for {}", begun.shown(), self.shown())
        } else if let (Some(before), Some(now)) = formats
            && before != now
        {
            format!("gave {before}, and is now to give {now}")
        } else {
            return Ok(());
        };
        Err(Failure::Usage(format!(
            "the first run with {path} {differs}: repeat those options, or name another file for these"
        )))
    }

    fn shown(&self) -> String {
        let mut parts = self.times.clone();
        if !self.asked.is_empty() {
            parts.insert(0, Value::from(self.asked.clone()).to_string());
        }
        if parts.is_empty() { "everything".to_owned() } else { parts.join(" ") }
    }
}

/// The content of a state file.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    ledger: String,
    next_seq: u64,
    /// The entry before `next_seq`, or the last one of those that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question: Option<Question>,
    /// Standard output and its length, if it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<FilePlace>,
}

impl State {
    pub(crate) fn new(
        question: &Question,
        next_seq: u64,
        last: Option<Place>,
        output: Option<FilePlace>,
    ) -> Self {
        let ledger = question.ledger.clone();
        Self { ledger, next_seq, last, question: Some(question.clone()), output }
    }

    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let unknown = || format!("{} is not a state file of this command: name another file", path.display());
        refuse_of_others(path)?;
        load(path, unknown)
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let mut file = NewFile::create(path)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::from)?)?;
        Ok(file.finish()?)
    }
}

/// The question of a copy, by the file beside it.
pub(crate) fn load_source(path: &Path) -> Result<Option<Question>, Failure> {
    load(path, || format!("{} was not written by this command: name another output file", path.display()))
}

fn load<T: for<'a> Deserialize<'a>>(path: &Path, unknown: impl Fn() -> String) -> Result<Option<T>, Failure> {
    match read_small(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| Failure::Usage(unknown())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path, &error).into()),
    }
}

/// The position where an earlier run ended.
pub(crate) struct Known {
    /// The file that says so.
    path: PathBuf,
    ledger: String,
    pub(crate) next_seq: u64,
    pub(crate) last: Option<Place>,
    /// The last entry as the file has it.
    written: Option<SequencedEntry>,
    question: Option<Question>,
}

impl Known {
    pub(crate) fn of_state(path: &Path, state: State) -> Self {
        let State { ledger, next_seq, last, question, .. } = state;
        Self { path: path.to_owned(), ledger, next_seq, last, written: None, question }
    }

    /// The position of a copy that ends with this entry.
    pub(crate) fn of_copy(path: &Path, last: SequencedEntry) -> Result<Self, Failure> {
        let source = source_of(path);
        refuse_of_others(&source)?;
        let Some(question) = load_source(&source)? else {
            return Err(Failure::Usage(format!(
                "nothing says of which question {} is a copy, because {} is missing: name another file",
                path.display(),
                source.display()
            )));
        };
        Ok(Self {
            path: path.to_owned(),
            ledger: last.ledger.clone(),
            next_seq: last.seq.saturating_add(1),
            last: Some(Place::of(&last)),
            written: Some(last),
            question: Some(question),
        })
    }

    /// Refuses to continue with another question, or with a log that is not the one that was read. Returns the question
    /// with the times of the first run.
    pub(crate) async fn check(
        &self,
        asked: Question,
        reader: &AuditReader,
        head: u64,
    ) -> Result<Question, Failure> {
        let (path, ledger, next_seq) = (self.path.display(), &asked.ledger, self.next_seq);
        if self.ledger != *ledger {
            return Err(Failure::Usage(format!(
                "the last run read the ledger {:?}, not {ledger:?}: name another file for this ledger",
                self.ledger
            )));
        }
        if next_seq > head {
            return Err(Failure::Lost(format!(
                "the ledger {ledger:?} ends at seq {head}, before {next_seq}, where the last run ended: the database was \
                 restored from a backup, or is another one. To read it from the beginning, name another file"
            )));
        }
        if let Some(last) = self.last.filter(|last| last.seq >= next_seq) {
            return Err(Failure::Usage(format!(
                "{path} contradicts itself: the last run ended before seq {next_seq}, and the last entry that it read has seq \
                 {}. Name another file, and begin there with --from-seq",
                last.seq
            )));
        }
        if let Some(begun) = &self.question {
            asked.check(begun, &self.path)?;
        }
        let unknown = || {
            Failure::Usage(format!(
                "{path} does not say which entry was the last one that was read, so the log cannot be recognised: name \
                 another file, and begin there with --from-seq {next_seq}"
            ))
        };
        if next_seq > 0 {
            let last = self.last.as_ref().filter(|_| self.question.is_some()).ok_or_else(unknown)?;
            let remedy = format!(
                "To read this log, name another file; --from-seq {next_seq} begins where {path} ends"
            );
            last.check(reader, ledger, "the last one that was read", &remedy).await?;
        }
        if let Some(written) = &self.written
            && entry_at(reader, ledger, written.seq).await?.as_ref() != Some(written)
        {
            return Err(Failure::Lost(format!(
                "the entry at seq {} differs between the end of {path} and the ledger {ledger:?}: one of the two was \
                 changed. `compare --against {path}` tells more; to read the log as it is, name another file",
                written.seq
            )));
        }
        let range = self.question.as_ref().map_or(asked.range, |begun| begun.range);
        Ok(Question { range, ..asked })
    }
}
