//! What people and programs see: tables on a terminal, JSON Lines elsewhere.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use tracing_audit::{
    AuditEntry, AuditQuery, Index, Journal, Ledger, QuarantinedEntry, RecordedRead, SequencedEntry, audit_id,
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{Failure, input::database::Log};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// JSON Lines.
    Jsonl,
    /// CSV, ordered by time.
    Csv,
}

/// Standard output, whose reader may have seen enough.
#[derive(Debug)]
pub(crate) struct Out(io::Stdout);

impl Default for Out {
    fn default() -> Self {
        Self(io::stdout())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        end_if_closed(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        end_if_closed(self.0.flush())
    }
}

/// A closed pipe is not an error, and nothing is left to do.
fn end_if_closed<T>(done: io::Result<T>) -> io::Result<T> {
    if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    done
}

pub(crate) fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal, or as many as the environment says.
fn width() -> usize {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal_size::terminal_size().map(|(width, _)| width.0.into()).or_else(told).unwrap_or(80)
}

pub(crate) fn line(text: &str) -> Result<(), Failure> {
    Ok(writeln!(Out::default(), "{text}")?)
}

/// What JSON does not escape of itself and a terminal would obey is escaped.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&as_json(value)?)
}

fn as_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value).map_err(io::Error::from)?;
    if !json.contains(obeyed) {
        return Ok(json);
    }
    let escaped = |c: char| if obeyed(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Ok(json.chars().map(escaped).collect::<Vec<_>>().concat())
}

/// Tells people at a terminal why this may take a while: there are many entries and no index that every log has.
pub(crate) fn tell_if_it_scans(query: &AuditQuery, ledgers: &[Ledger]) {
    const MANY: u64 = 1_000_000;
    let entries: u64 = ledgers.iter().map(|ledger| ledger.entries).sum();
    if query.scans() && entries >= MANY && io::stderr().is_terminal() {
        anstream::eprintln!(
            "tracing-audit: all {entries} entries are looked at, unless an index on request serves this: --since narrows it"
        );
    }
}

/// What is written as it is goes to files and programs.
pub(crate) fn not_to_a_terminal() -> Result<(), Failure> {
    if !on_terminal() {
        return Ok(());
    }
    Err(Failure::Usage(
        "this is not for a terminal, which would obey what is in it: name a file, or pipe it".to_owned(),
    ))
}

fn obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without what a terminal would obey: control characters, and those that turn the direction of writing.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect::<Vec<_>>().concat())
}

/// As much of the text as fits: of names the end, which is where they differ, of sentences the beginning.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let own = c.width().unwrap_or(0);
        let fits = own <= left;
        left = if fits { left - own } else { 0 };
        fits
    };
    Cow::Owned(if text.contains(' ') {
        let mut kept: String = text.chars().take_while(fits).collect();
        kept.push('…');
        kept
    } else {
        let mut kept: Vec<char> = text.chars().rev().take_while(fits).collect();
        kept.push('…');
        kept.iter().rev().collect()
    })
}

/// The head of a column, and whether its cells may be cut where they are too wide for the terminal.
pub(crate) type Column<'a> = (&'a str, Cells);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cells {
    Whole,
    Cut,
}

/// Rows of harmless cells below their heads.
pub(crate) fn table(columns: &[Column<'_>], rows: &[Vec<String>]) -> Result<(), Failure> {
    Table::new(columns, rows).show(rows, true)
}

/// Columns of a chart, beside what stands left of it.
pub(crate) fn chart_width() -> usize {
    width().saturating_sub(24).max(10)
}

/// Counts as columns, the greatest of them told, and where the first and the last are.
pub(crate) fn chart(columns: &[u64], first: &str, last: &str) -> Result<(), Failure> {
    const HEIGHT: u64 = 6;
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let wide = most.to_string().len();
    for line in (0..HEIGHT).rev() {
        let cell = |count: &u64| {
            // A count that is not the greatest may be thousands of times less, and is still one.
            let eighths = (u128::from(*count) * u128::from(8 * HEIGHT)).div_ceil(most.into());
            let here = eighths.saturating_sub(u128::from(8 * line)).min(8);
            EIGHTHS.into_iter().nth(usize::try_from(here).unwrap_or(8)).unwrap_or(' ')
        };
        let told = if line + 1 == HEIGHT { most.to_string() } else { String::new() };
        let cells: String = columns.iter().map(cell).collect();
        styled(format!("{told:>wide$} │{cells}").trim_end())?;
    }
    let between = columns.len().saturating_sub(first.width() + last.width()).max(2);
    let last = if columns.len() > 1 { [&*" ".repeat(between), last].concat() } else { String::new() };
    styled(&format!("{:wide$} └{first}{last}\n", ""))
}

struct Table {
    head: Vec<String>,
    widths: Vec<usize>,
}

impl Table {
    fn new(columns: &[Column<'_>], rows: &[Vec<String>]) -> Self {
        const LEAST: usize = 6;
        let mut widths: Vec<usize> = columns.iter().map(|(head, _)| head.width()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let room = width().saturating_sub(2 * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let cut = widths
                .iter_mut()
                .zip(columns)
                .filter(|(width, (_, cells))| *cells == Cells::Cut && **width > LEAST);
            let Some((widest, _)) = cut.max_by_key(|(width, _)| **width) else { break };
            *widest -= 1;
        }
        Self { head: columns.iter().map(|(head, _)| (*head).to_owned()).collect(), widths }
    }

    fn show(&self, rows: &[Vec<String>], with_head: bool) -> Result<(), Failure> {
        let head = Style::new().bold();
        if with_head {
            styled(&self.row(&self.head, |_| head))?;
        }
        rows.iter().try_for_each(|row| styled(&self.row(row, style)))
    }

    fn row(&self, cells: &[String], style: impl Fn(&str) -> Style) -> String {
        let mut shown = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            let (text, style) = (cut(cell, *width), style(cell));
            let room = " ".repeat(width.saturating_sub(text.width()) + 2);
            shown.extend([&style.render().to_string(), &*text, &style.render_reset().to_string(), &room]);
        }
        shown.truncate(shown.trim_end_matches(' ').len());
        shown
    }
}

/// Decisions in their colours.
fn style(cell: &str) -> Style {
    match cell {
        "Deny" => AnsiColor::Red.on_default(),
        "Mask" => AnsiColor::Yellow.on_default(),
        "Allow" => AnsiColor::Green.on_default(),
        _ => Style::new(),
    }
}

/// With colours where standard output shows them.
fn styled(text: &str) -> Result<(), Failure> {
    let mut out = anstream::AutoStream::auto(io::stdout());
    Ok(end_if_closed(writeln!(out, "{text}"))?)
}

/// What was found in one of several databases.
#[derive(Serialize)]
struct Of<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<&'a str>,
    #[serde(flatten)]
    found: &'a T,
}

/// Entries as they come.
pub(crate) struct Entries {
    table: bool,
    tz: Tz,
    waiting: Vec<Vec<String>>,
    widths: Option<Table>,
}

/// Rows whose widths decide those of a column.
const TOGETHER: usize = 200;

const COLUMNS: [Column<'_>; 8] = [
    ("seq", Cells::Whole),
    ("time", Cells::Whole),
    ("agent", Cells::Cut),
    ("action", Cells::Cut),
    ("resource", Cells::Cut),
    ("decision", Cells::Whole),
    ("risk", Cells::Whole),
    ("reason", Cells::Cut),
];

/// The year stands where there is room for it.
pub(crate) fn time(time: DateTime<Utc>, tz: Tz) -> String {
    let format = if is_narrow() { "%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.with_timezone(&tz).format(format).to_string()
}

pub(crate) fn is_narrow() -> bool {
    width() < 100
}

impl Entries {
    pub(crate) fn new(format: Option<Format>, tz: Tz) -> Self {
        let table = format.map_or_else(on_terminal, |format| format == Format::Table);
        Self { table, tz, waiting: Vec::new(), widths: None }
    }

    /// With the label before its seq, or the database it is of, if there are several.
    pub(crate) fn add(
        &mut self,
        found: &SequencedEntry,
        db: Option<&str>,
        label: &str,
    ) -> Result<(), Failure> {
        if !self.table {
            return json(&Of { db, found });
        }
        let mut row = row(found, self.tz);
        if let Some(seq) = row.first_mut() {
            seq.insert_str(0, &harmless(label));
        }
        self.waiting.push(row);
        if self.waiting.len() < TOGETHER { Ok(()) } else { self.show() }
    }

    /// The rest of its line, if this is how that begins; otherwise says that it is not.
    pub(crate) fn add_rest(&mut self, found: &SequencedEntry, begun: &[u8]) -> Result<bool, Failure> {
        if self.table {
            return Ok(false);
        }
        let line = as_json(&Of { db: None, found })? + "\n";
        let Some(rest) = line.as_bytes().strip_prefix(begun) else { return Ok(false) };
        Out::default().write_all(rest)?;
        Ok(true)
    }

    fn show(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.waiting);
        let first = self.widths.is_none() && !rows.is_empty();
        let table = self.widths.take().unwrap_or_else(|| Table::new(&COLUMNS, &rows));
        let shown = table.show(&rows, first);
        self.widths = (first || !rows.is_empty()).then_some(table);
        shown
    }

    /// Nothing that was added waits any more.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.table && !self.waiting.is_empty() {
            self.show()?;
        }
        Ok(Out::default().flush()?)
    }

    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

fn row(found: &SequencedEntry, tz: Tz) -> Vec<String> {
    let entry = &found.entry;
    let resource = match &entry.resource_id {
        Some(id) => [&entry.resource, "/", id].concat(),
        None => entry.resource.clone(),
    };
    let risk = if entry.risk_score == 0.0 { String::new() } else { format!("{:.2}", entry.risk_score) };
    [
        found.seq.to_string(),
        time(entry.ts, tz),
        name_of(entry, "agent_id", entry.agent_id),
        entry.action.clone(),
        resource,
        entry.decision.clone(),
        risk,
        entry.reason.clone().unwrap_or_default(),
    ]
    .iter()
    .map(|cell| harmless(cell).into_owned())
    .collect()
}

/// The name that an id was made from, which is in the metadata, or the id.
fn name_of(entry: &AuditEntry, field: &str, id: Option<uuid::Uuid>) -> String {
    match (entry.metadata.get(field), id) {
        (Some(Value::String(name)), Some(id)) if audit_id(name) == id => name.clone(),
        (_, id) => id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// All there is about an entry: a field a line, or JSON.
pub(crate) fn whole(db: Option<&str>, found: &SequencedEntry) -> Result<(), Failure> {
    let found = Of { db, found };
    if !on_terminal() {
        return json(&found);
    }
    let Value::Object(fields) = serde_json::to_value(found).map_err(io::Error::from)? else { return Ok(()) };
    let wide = fields.keys().map(|name| name.width()).max().unwrap_or(0);
    let bold = Style::new().bold();
    for (name, value) in &fields {
        let value = match value {
            Value::String(text) => text.clone(),
            value => serde_json::to_string_pretty(value).map_err(io::Error::from)?,
        };
        let value: Vec<_> = value.lines().map(harmless).collect();
        let indented = value.join(&["\n", &" ".repeat(wide + 2)].concat());
        styled(&format!("{bold}{name:wide$}{bold:#}  {indented}"))?;
    }
    Ok(())
}

pub(crate) fn ledgers(logs: &[Log]) -> Result<(), Failure> {
    let several = logs.len() > 1;
    let all = || logs.iter().flat_map(|log| log.ledgers.iter().map(move |ledger| (log, ledger)));
    if !on_terminal() {
        return all().try_for_each(|(log, found)| json(&Of { db: several.then_some(&*log.name), found }));
    }
    let row = |(log, one): (&Log, &Ledger)| {
        let last = one.last_committed_at.map(|last| time(last, Tz::UTC));
        let rest = [harmless(&one.ledger).into_owned(), one.entries.to_string(), last.unwrap_or_default()];
        several.then(|| harmless(&log.name).into_owned()).into_iter().chain(rest).collect()
    };
    let columns = [("ledger", Cells::Cut), ("entries", Cells::Whole), ("last committed", Cells::Whole)];
    let columns: Vec<_> = several.then_some(("database", Cells::Cut)).into_iter().chain(columns).collect();
    table(&columns, &all().map(row).collect::<Vec<_>>())
}

pub(crate) fn reads(reads: &[(Option<&str>, RecordedRead)], tz: Tz) -> Result<(), Failure> {
    if !on_terminal() {
        return reads.iter().try_for_each(|(db, found)| json(&Of { db: *db, found }));
    }
    let row = |(db, read): &(Option<&str>, RecordedRead)| {
        vec![
            harmless(db.unwrap_or_default()).into_owned(),
            time(read.at, tz),
            harmless(&read.reader).into_owned(),
            harmless(read.role.as_deref().unwrap_or_default()).into_owned(),
            harmless(&read.action).into_owned(),
            read.entries.map(|entries| entries.to_string()).unwrap_or_default(),
            harmless(&asked(&read.query)).into_owned(),
        ]
    };
    let columns = [
        ("", Cells::Cut),
        ("time", Cells::Whole),
        ("reader", Cells::Cut),
        ("role", Cells::Cut),
        ("read", Cells::Whole),
        ("entries", Cells::Whole),
        ("what", Cells::Cut),
    ];
    without_first_if_empty(&columns, &reads.iter().map(row).collect::<Vec<_>>())
}

/// What was asked for, as far as it fits from its beginning on.
fn asked(query: &Value) -> String {
    let Value::Object(parts) = query else { return query.to_string() };
    let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parts.join(", ")
}

pub(crate) fn indexes(indexes: &[(Option<&str>, Index)]) -> Result<(), Failure> {
    if !on_terminal() {
        return indexes.iter().try_for_each(|(db, found)| json(&Of { db: *db, found }));
    }
    let row = |(db, index): &(Option<&str>, Index)| {
        let state = match (index.on_request, index.ready) {
            (_, false) => "not ready",
            (true, true) => "on request",
            (false, true) => "",
        };
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        vec![
            harmless(db.unwrap_or_default()).into_owned(),
            harmless(&index.serves).into_owned(),
            state.to_owned(),
            number(index.bytes.map(|bytes| bytes.div_ceil(1024))),
            number(index.scans),
            harmless(&index.name).into_owned(),
        ]
    };
    let columns = [
        ("", Cells::Cut),
        ("serves", Cells::Cut),
        ("", Cells::Whole),
        ("KiB", Cells::Whole),
        ("used", Cells::Whole),
        ("name", Cells::Cut),
    ];
    without_first_if_empty(&columns, &indexes.iter().map(row).collect::<Vec<_>>())
}

/// The first column is the database, if there are several.
fn without_first_if_empty(columns: &[Column<'_>], rows: &[Vec<String>]) -> Result<(), Failure> {
    if rows.iter().any(|row| row.first().is_some_and(|first| !first.is_empty())) {
        return table(columns, rows);
    }
    let rows: Vec<_> = rows.iter().map(|row| row.iter().skip(1).cloned().collect()).collect();
    table(columns.get(1..).unwrap_or_default(), &rows)
}

pub(crate) fn quarantined(entries: &[QuarantinedEntry]) -> Result<(), Failure> {
    let row = |one: &QuarantinedEntry| {
        let action = one.entry.as_ref().map_or("(unreadable)", |entry| &entry.action);
        let id = one.id.map(|id| id.to_string()).unwrap_or_default();
        vec![
            time(one.quarantined_at, Tz::UTC),
            id,
            harmless(action).into_owned(),
            harmless(&one.error).into_owned(),
        ]
    };
    if entries.is_empty() {
        return Ok(());
    }
    let columns =
        [("quarantined", Cells::Whole), ("id", Cells::Whole), ("action", Cells::Cut), ("error", Cells::Cut)];
    table(&columns, &entries.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn journals(journals: &[Journal]) -> Result<(), Failure> {
    let row = |journal: &Journal| {
        let records: u64 = journal.segments.iter().map(|segment| segment.records).sum();
        let unknown = |text: &Option<String>| harmless(text.as_deref().unwrap_or("unknown")).into_owned();
        vec![
            journal.id.to_string(),
            journal.owner.map_or_else(|| "unknown".to_owned(), |owner| owner.to_string()),
            if journal.locked { "in use" } else { "left behind" }.to_owned(),
            records.to_string(),
            unknown(&journal.ledger),
            unknown(&journal.database),
        ]
    };
    let columns = [
        ("journal", Cells::Whole),
        ("process", Cells::Whole),
        ("", Cells::Whole),
        ("records", Cells::Whole),
        ("ledger", Cells::Cut),
        ("database", Cells::Cut),
    ];
    table(&columns, &journals.iter().map(row).collect::<Vec<_>>())
}
