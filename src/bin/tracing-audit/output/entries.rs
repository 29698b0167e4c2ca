//! Prints entries, as a table or as JSON Lines.

use std::io::Write;

use chrono_tz::Tz;
use clap::ValueEnum;
use serde_json::Value;
use tracing_audit::{AuditEntry, SequencedEntry, audit_id};

use super::{
    json::{FromDatabase, print_json, to_json},
    stdout::Stdout,
    table::{Cells, Column, Table, shown_time},
    terminal::{harmless, is_terminal},
};
use crate::failure::Failure;

/// The output format of entries and counts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// JSON Lines: one object in each line.
    Jsonl,
}

/// Prints entries as they are added.
pub(crate) struct Entries {
    table: bool,
    tz: Tz,
    /// Rows of the table that are not printed yet.
    waiting: Vec<Vec<String>>,
    /// The layout, once the first rows have decided it.
    layout: Option<Table>,
}

/// The number of rows that are printed at a time. The first of them decide the widths of the columns.
const ROWS_AT_ONCE: usize = 200;

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

impl Entries {
    pub(crate) fn new(format: Option<Format>, tz: Tz) -> Self {
        let table = format.map_or_else(is_terminal, |format| format == Format::Table);
        Self { table, tz, waiting: Vec::new(), layout: None }
    }

    /// Adds an entry. If several databases or ledgers are asked, `label` is written before its `seq` in a table, and
    /// `db` is a field of its JSON.
    pub(crate) fn add(
        &mut self,
        found: &SequencedEntry,
        db: Option<&str>,
        label: &str,
    ) -> Result<(), Failure> {
        if !self.table {
            return print_json(&FromDatabase { db, found });
        }
        let mut row = row(found, self.tz);
        if let Some(seq) = row.first_mut() {
            seq.insert_str(0, &harmless(label));
        }
        self.waiting.push(row);
        if self.waiting.len() < ROWS_AT_ONCE { Ok(()) } else { self.show() }
    }

    /// Completes the line of this entry, of which `begun` is already written. Writes nothing and returns `false` if its
    /// line does not begin with `begun`.
    pub(crate) fn add_rest(&mut self, found: &SequencedEntry, begun: &[u8]) -> Result<bool, Failure> {
        if self.table {
            return Ok(false);
        }
        let line = to_json(&FromDatabase { db: None, found })? + "\n";
        let Some(rest) = line.as_bytes().strip_prefix(begun) else { return Ok(false) };
        Stdout::default().write_all(rest)?;
        Ok(true)
    }

    fn show(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.waiting);
        let is_first = self.layout.is_none() && !rows.is_empty();
        let table = self.layout.take().unwrap_or_else(|| Table::new(&COLUMNS, &rows));
        let shown = table.show(&rows, is_first);
        self.layout = (is_first || !rows.is_empty()).then_some(table);
        shown
    }

    /// Prints the rows that are still waiting.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.table && !self.waiting.is_empty() {
            self.show()?;
        }
        Ok(Stdout::default().flush()?)
    }

    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// The cells of an entry in the table.
fn row(found: &SequencedEntry, tz: Tz) -> Vec<String> {
    let entry = &found.entry;
    let resource = match &entry.resource_id {
        Some(id) => [&entry.resource, "/", id].concat(),
        None => entry.resource.clone(),
    };
    let risk = if entry.risk_score == 0.0 { String::new() } else { format!("{:.2}", entry.risk_score) };
    [
        found.seq.to_string(),
        shown_time(entry.ts, tz),
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

/// The name that the id was derived from, if the metadata has it; else the id.
fn name_of(entry: &AuditEntry, field: &str, id: Option<uuid::Uuid>) -> String {
    match (entry.metadata.get(field), id) {
        (Some(Value::String(name)), Some(id)) if audit_id(name) == id => name.clone(),
        (_, id) => id.map(|id| id.to_string()).unwrap_or_default(),
    }
}
