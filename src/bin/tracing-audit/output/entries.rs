//! Prints entries, as a table or as JSON Lines.

use std::io::Write;

use clap::ValueEnum;
use tracing_audit::SequencedEntry;

use super::{
    columns::{Field, USUAL, WIDE},
    json::{FromDatabase, print_json, to_json},
    stdout::{Stdout, print_line},
    table::{Column, Table},
    terminal::{is_terminal, width},
    text::harmless,
};
use crate::{failure::Failure, zone::Zone};

/// The output format of entries and counts.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// A table with more columns, in which nothing is cut: its lines may be longer than the terminal's.
    Wide,
    /// JSON Lines: one object in each line.
    Jsonl,
}

impl Format {
    /// Whether this is a table. Without a format, it is one on a terminal.
    pub(crate) fn is_table(format: Option<Self>) -> bool {
        format.map_or_else(is_terminal, |format| format != Self::Jsonl)
    }

    /// The width of a table's lines; `None` if there is no limit.
    fn room(format: Option<Self>) -> Option<usize> {
        if format == Some(Self::Wide) { None } else { width() }
    }
}

/// Prints the headings and the rows of a table, or nothing if there are no rows. In a wide one nothing is cut. The cells must
/// be [`harmless`].
pub(crate) fn print_table_as(
    format: Option<Format>,
    columns: &[Column<'_>],
    rows: &[Vec<String>],
) -> Result<(), Failure> {
    Table::new(columns, Format::room(format)).show(rows)
}

/// Prints entries as they are added.
pub(crate) struct Entries {
    /// `None` if entries are printed as JSON.
    table: Option<Box<Table>>,
    columns: Vec<Field>,
    /// Whether only these columns are printed as JSON.
    is_chosen: bool,
    zone: Zone,
    /// Rows of the table that are not printed yet.
    waiting: Vec<Vec<String>>,
}

/// The number of rows that are printed at a time. They decide the widths of the columns, which only grow later.
const ROWS_AT_ONCE: usize = 200;

impl Entries {
    pub(crate) fn new(format: Option<Format>, zone: Zone) -> Self {
        let columns = if format == Some(Format::Wide) { WIDE.to_vec() } else { USUAL.to_vec() };
        Self::of(format, zone, columns, false)
    }

    /// Does the same as [`new`](Self::new) with these columns, which then also are the only fields of the JSON.
    pub(crate) fn with_columns(format: Option<Format>, zone: Zone, columns: Vec<Field>) -> Self {
        Self::of(format, zone, columns, true)
    }

    fn of(format: Option<Format>, zone: Zone, columns: Vec<Field>, is_chosen: bool) -> Self {
        let heads: Vec<_> = columns.iter().map(Field::head).collect();
        let of_table: Vec<Column<'_>> =
            heads.iter().zip(&columns).map(|(head, field)| (&**head, field.cells())).collect();
        let table = Format::is_table(format).then(|| Box::new(Table::new(&of_table, Format::room(format))));
        Self { table, columns, is_chosen, zone, waiting: Vec::new() }
    }

    /// Adds an entry. If several databases or ledgers are asked, `label` is written before its `seq` in a table, and
    /// `db` is a field of its JSON.
    pub(crate) fn add(
        &mut self,
        found: &SequencedEntry,
        db: Option<&str>,
        label: &str,
    ) -> Result<(), Failure> {
        if self.table.is_none() {
            return if self.is_chosen {
                self.print_chosen(found, db)
            } else {
                print_json(&FromDatabase { db, found })
            };
        }
        let cell = |field: &Field| match (field, field.cell(found, self.zone)) {
            (Field::Seq, seq) => [&harmless(label), &*seq].concat(),
            (_, cell) => cell,
        };
        self.waiting.push(self.columns.iter().map(cell).collect());
        if self.waiting.len() < ROWS_AT_ONCE { Ok(()) } else { self.show() }
    }

    fn print_chosen(&self, found: &SequencedEntry, db: Option<&str>) -> Result<(), Failure> {
        let whole = serde_json::to_value(found).map_err(std::io::Error::from)?;
        let db = db.map(|db| ("db".into(), db.into()));
        let members = db.into_iter().chain(self.columns.iter().map(|field| field.json(found, &whole)));
        let member =
            |(name, value): (_, serde_json::Value)| Ok([&to_json(&name)?, ":", &to_json(&value)?].concat());
        let members = members.map(member).collect::<Result<Vec<String>, Failure>>()?;
        print_line(&["{", &members.join(","), "}"].concat())
    }

    /// Completes the line of this entry, of which `begun` is already written. Writes nothing and returns `false` if its
    /// line does not begin with `begun`.
    pub(crate) fn add_rest(&mut self, found: &SequencedEntry, begun: &[u8]) -> Result<bool, Failure> {
        if self.table.is_some() {
            return Ok(false);
        }
        let line = to_json(&FromDatabase { db: None, found })? + "\n";
        let Some(rest) = line.as_bytes().strip_prefix(begun) else { return Ok(false) };
        Stdout::default().write_all(rest)?;
        Ok(true)
    }

    fn show(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.waiting);
        self.table.as_mut().map_or(Ok(()), |table| table.show(&rows))
    }

    /// Prints the rows that are still waiting. Others are expected later.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if let Some(table) = self.table.as_mut().filter(|_| !self.waiting.is_empty()) {
            table.grows = true;
            self.show()?;
        }
        Ok(Stdout::default().flush()?)
    }

    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.show()?;
        Ok(Stdout::default().flush()?)
    }
}
