//! The command `tail`: shows or copies entries in the order of their commit, continuing where the last run ended.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt};
use tracing_audit::{
    AuditQuery, AuditReader, SequencedEntry,
    export::{Csv, csv_lines},
};

use super::{
    covered::Covered,
    position::{Known, Question, State},
};
use crate::{
    failure::Failure,
    input::{Conditions, Database, Place, entry_at, one_of, source_of},
    output::{
        self, Entries, FilePlace, Format, Lines, Stdout, Unfinished, is_stream, refuse_of_others, save_json,
        stdout_place, with_path,
    },
};

#[derive(Args)]
pub(crate) struct Tail {
    /// Wait for new entries, until interrupted.
    ///
    /// A server or a file that is away is reported once and waited for. A file that was replaced is opened again: the
    /// entries continue if it is the same log, and an error says so if it is another one.
    #[arg(short, long)]
    follow: bool,
    /// Do the same as -f, and continue with another log that takes the place of this one, from its beginning.
    ///
    /// A line on standard error says so. For a log that is rotated.
    #[arg(short = 'F', long, conflicts_with_all = ["state", "output"])]
    follow_name: bool,
    /// Begin with the last COUNT entries; 0 shows none of those that exist, `all` shows every one [default: 10].
    ///
    /// Without this option, all entries are shown with --state, --output, --from-seq, and where an option gives a range of
    /// time. If --state or --output continue an earlier run, it has no effect.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = last, conflicts_with = "from_seq")]
    lines: Option<Last>,
    /// Begin where the last run with this file ended, and keep the position in it.
    ///
    /// No entry is left out, whenever the command is killed and started again. On Linux, if standard output is appended
    /// as JSON Lines to a file that this command may also read, each entry is in that file exactly once. Elsewhere, an
    /// entry that was written just before the command was killed may be written again.
    ///
    /// The file also holds the question and the last entry that was read. A run that asks something else, or finds another
    /// log, is refused, and so is a file that belongs to another user or that others may write. Times such as 30d count from
    /// the first run.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Append to this file, as JSON Lines, the entries that follow its last one.
    ///
    /// Each entry is in the file exactly once, whenever the command is killed and started again. A file that does not
    /// exist is made for this user alone; one that belongs to another user, or that others may write, is refused. A device
    /// or a pipe is written to as it is, and keeps no position; - means standard output.
    ///
    /// FILE.source.json says what was asked. A run that asks something else, or whose log does not have the last entry
    /// of FILE as FILE has it, is refused. `compare --against FILE` compares the others. Times such as 30d count from
    /// the first run.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["state", "format"])]
    output: Option<PathBuf>,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(long, value_enum)]
    format: Option<TailFormat>,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
}

/// The entries with which to begin.
#[derive(Clone, Copy)]
enum Last {
    All,
    Count(u32),
}

fn last(text: &str) -> Result<Last, String> {
    if text == "all" {
        return Ok(Last::All);
    }
    text.parse().map(Last::Count).map_err(|_| "give a number of entries, or all".to_owned())
}

/// The number of entries with which to begin if nothing says where, as for `tail` of files.
const LAST: u32 = 10;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TailFormat {
    /// A table for people.
    Table,
    /// JSON Lines: one object in each line.
    Jsonl,
    /// CSV with the columns of an export, in the order of commit. The header comes first, except in a file that is not empty.
    Csv,
}

impl Tail {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        for path in self.output.iter().map(|path| source_of(path)).chain(self.output.clone()) {
            database.refuse_output(&path)?;
        }
        if let Some(path) = &self.state {
            database.refuse_output(path)?;
        }
        if self.follow || self.follow_name {
            database.refuse_exported()?;
        }
        let log = database.open_one_with(self.conditions.ledger.as_deref()).await?;
        let ledger = one_of(self.conditions.ledger.as_ref(), &log.ledgers)?;
        let head = log.ledgers.iter().find(|one| one.name == ledger).map_or(0, |one| one.next_seq);
        let is_followed = self.follow || self.follow_name;
        if is_followed && self.conditions.before_seq.is_some() {
            return Err(Failure::Usage("--before-seq cannot be combined with --follow".to_owned()));
        }
        // This log is for entries that are looked at and not shown.
        let unrecorded = log.unrecorded();
        let mut question = Question::new(&self.conditions, &ledger, self.format_in_pipes())?;
        let (mut to, known) = self.destination(&ledger)?;
        if let Some(known) = &known {
            question = known.check(question, &unrecorded, head).await?;
        }
        let query = question.range.add(self.conditions.timeless()?).ledger(&ledger);
        let (from, last) = if let Some(known) = &known {
            (known.next_seq.max(self.conditions.from_seq.unwrap_or(0)), known.last)
        } else {
            let from = self.first_seq(&unrecorded, &query, head).await?;
            (from, Place::before(&unrecorded, &ledger, from.min(head)).await?)
        };
        to.begin(&question, from.min(head), last)?;
        if is_followed {
            let last = Place::before(&unrecorded, &ledger, head).await?;
            let followed = Followed { query, ledger, from, last, by_name: self.follow_name, unrecorded };
            return followed.run(&log.reader, &question, &mut to).await;
        }
        let end = self.conditions.before_seq.map_or(head, |before| before.min(head));
        let query = query.from_seq(from).before_seq(end);
        let entries = log.reader.stream(&query).try_ready_chunks(ENTRIES_AT_ONCE);
        let (mut entries, mut count) = (std::pin::pin!(entries), 0);
        while let Some(found) = entries.try_next().await.map_err(|failed| failed.1)? {
            to.add(&found)?;
            count += found.len() as u64;
            if let Some(last) = found.last() {
                to.save_position(&question, last.seq.saturating_add(1), Some(Place::of(last)))?;
            }
        }
        // Entries that do not match were looked at too.
        let end = end.max(from.min(head));
        to.save_position(&question, end, Place::before(&unrecorded, &ledger, end).await?)?;
        let table = self.format.map_or_else(output::is_terminal, |format| format == TailFormat::Table);
        let covered = Covered::wholly(&log, &query).await?.shows_all(count);
        // A copy that is made now and then says something only if something is missing.
        if self.output.is_some() { covered.verdict() } else { covered.tell(table) }
    }

    /// The format of standard output, unless that is a terminal.
    fn format_in_pipes(&self) -> Option<&'static str> {
        if self.output.is_some() || output::is_terminal() {
            return None;
        }
        Some(match self.format {
            None | Some(TailFormat::Jsonl) => "JSON Lines",
            Some(TailFormat::Csv) => "CSV",
            Some(TailFormat::Table) => "a table",
        })
    }

    /// The destination of the entries, and the position where the last run ended, if there was one.
    fn destination(&self, ledger: &str) -> Result<(Destination, Option<Known>), Failure> {
        if let Some(path) = self.output.as_ref().filter(|path| path.as_os_str() != "-") {
            if is_stream(path) {
                let file = OpenOptions::new().append(true).open(path);
                let file = file.map_err(|error| with_path(path, &error))?;
                return Ok((Destination::Stream(file), None));
            }
            refuse_of_others(&source_of(path))?;
            let mut lines = Lines::open(path)?;
            let known = lines.last()?.map(|last| Known::of_copy(path, last)).transpose()?;
            let source = known.is_none().then(|| source_of(path));
            return Ok((Destination::File { lines, source }, known));
        }
        let format = match self.format {
            None => None,
            Some(TailFormat::Table) => Some(Format::Table),
            Some(TailFormat::Jsonl) => Some(Format::Jsonl),
            Some(TailFormat::Csv) => {
                output::refuse_terminal()?;
                Some(Format::Jsonl)
            }
        };
        let is_csv = self.format == Some(TailFormat::Csv);
        let shown = (!is_csv).then(|| Entries::new(format, self.conditions.period.tz));
        let state = self.state.as_deref().map(State::load).transpose()?.flatten();
        let output = state.as_ref().and_then(|state| state.output).filter(|_| !is_csv);
        let unfinished = output.and_then(|place| Unfinished::since(place, ledger));
        let to = Destination::Shown { shown, state: self.state.clone(), unfinished };
        let known = self.state.as_ref().zip(state).map(|(path, state)| Known::of_state(path, state));
        Ok((to, known))
    }

    /// The `seq` at which a first run begins.
    async fn first_seq(&self, reader: &AuditReader, query: &AuditQuery, head: u64) -> Result<u64, Failure> {
        if let Some(from) = self.conditions.from_seq {
            return Ok(from);
        }
        let is_kept = self.state.is_some() || self.output.is_some();
        let count = match self.lines {
            Some(Last::Count(count)) => count,
            None if !is_kept && self.conditions.period.given().is_empty() => LAST,
            Some(Last::All) | None => return Ok(0),
        };
        let mut first = self.conditions.before_seq.map_or(head, |before| before.min(head));
        if count > 0 {
            let latest = query.clone().newest_first().before_seq(first).limit(count);
            let mut latest = std::pin::pin!(reader.stream(latest));
            while let Some(found) = latest.try_next().await? {
                first = found.seq;
            }
        }
        Ok(first)
    }
}

/// A log whose new entries are waited for.
struct Followed {
    query: AuditQuery,
    ledger: String,
    from: u64,
    /// An entry of this log: the last one when the wait began, and then the last one that was shown.
    last: Option<Place>,
    /// Whether another log that takes the place of this one is followed from its beginning.
    by_name: bool,
    unrecorded: AuditReader,
}

impl Followed {
    /// Waits for new entries and adds them to the destination.
    async fn run(
        mut self,
        reader: &AuditReader,
        question: &Question,
        to: &mut Destination,
    ) -> Result<(), Failure> {
        while self.until_replaced(reader, question, to).await? {
            output::remark("the database holds another log now, which follows from its beginning");
            (self.from, self.last) = (0, None);
        }
        Ok(())
    }

    /// The same, until another log has taken the place of this one; `false` if that is not to be followed. Errors of the
    /// database are reported, and the wait goes on.
    async fn until_replaced(
        &mut self,
        reader: &AuditReader,
        question: &Question,
        to: &mut Destination,
    ) -> Result<bool, Failure> {
        let entries = reader.follow_matching(self.query.clone(), self.from);
        let mut entries = std::pin::pin!(entries.ready_chunks(ENTRIES_AT_ONCE));
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
                self.last = Some(Place::of(last));
                to.add(&whole)?;
                to.save_position(question, last.seq.saturating_add(1), self.last)?;
            } else if self.by_name && self.is_replaced().await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the database answers, and is another log.
    async fn is_replaced(&self) -> bool {
        let Some(last) = &self.last else { return false };
        match entry_at(&self.unrecorded, &self.ledger, last.seq).await {
            Ok(Some(found)) => found.entry.id != last.id,
            // The log was removed, or does not exist yet.
            Ok(None) => self.unrecorded.ledgers().await.is_ok_and(|ledgers| {
                ledgers.iter().all(|ledger| ledger.name != self.ledger || ledger.next_seq <= last.seq)
            }),
            Err(_) => false,
        }
    }
}

/// The number of entries that are written at a time, before the state is saved.
const ENTRIES_AT_ONCE: usize = 500;

/// The destination of the entries, which also keeps the position.
enum Destination {
    /// Standard output, as CSV without `shown`; with the position in a state file, if there is one.
    Shown { shown: Option<Entries>, state: Option<PathBuf>, unfinished: Option<Unfinished> },
    /// A file, whose last line is the position. `source` is to say what was asked, if the file is empty.
    File { lines: Lines, source: Option<PathBuf> },
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
    /// Keeps what is asked, and where it begins.
    fn begin(&mut self, question: &Question, next_seq: u64, last: Option<Place>) -> Result<(), Failure> {
        if let Self::File { source: Some(path), .. } = self {
            save_json(path, question)?;
        }
        if let Self::Shown { shown: None, .. } = self
            && stdout_place().is_none_or(FilePlace::is_empty)
        {
            Stdout::default().write_all(&csv_lines(&[], &Csv::new(), true)?)?;
        }
        self.save_position(question, next_seq, last)
    }

    fn add(&mut self, found: &[SequencedEntry]) -> Result<(), Failure> {
        match self {
            Self::Shown { shown: None, .. } => {
                Ok(Stdout::default().write_all(&csv_lines(found, &Csv::new(), false)?)?)
            }
            Self::Shown { shown: Some(shown), unfinished, .. } => {
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
            Self::File { lines, .. } => Ok(lines.write_all(&as_lines(found)?)?),
            Self::Stream(file) => Ok(file.write_all(&as_lines(found)?)?),
        }
    }

    fn save_position(
        &mut self,
        question: &Question,
        next_seq: u64,
        last: Option<Place>,
    ) -> Result<(), Failure> {
        if let Self::Shown { shown, state, unfinished } = self {
            match shown {
                Some(shown) => shown.flush()?,
                None => Stdout::default().flush()?,
            }
            if let Some(path) = state {
                // Some of the entries already written are still to come: keep the earlier length, to recognise them
                // again.
                let output =
                    unfinished.as_ref().map_or_else(stdout_place, |unfinished| Some(unfinished.place));
                State::new(question, next_seq, last, output).save(path)?;
            }
        }
        Ok(())
    }
}
