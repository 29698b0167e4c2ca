//! Entries as a table or JSON Lines.

use std::io::Write;

use chrono_tz::Tz;
use clap::ValueEnum;
use serde_json::Value;
use tracing_audit::{AuditEntry, SequencedEntry, audit_id};

use super::{
    json::{Of, as_json, json},
    stdout::Out,
    table::{Cells, Column, Table, time},
    terminal::{harmless, on_terminal},
};
use crate::failure::Failure;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// JSON Lines.
    Jsonl,
    /// CSV, ordered by time.
    Csv,
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
