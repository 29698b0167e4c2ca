//! Prints tables that fit the terminal.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{
    stdout::print_styled,
    terminal::{is_narrow, width},
};
use crate::failure::Failure;

/// The heading of a column, and whether its cells may be shortened if the table is too wide for the terminal.
pub(crate) type Column<'a> = (&'a str, Cells);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cells {
    Whole,
    Cut,
}

/// Prints the headings and the rows. The cells must be [`harmless`](super::terminal::harmless).
pub(crate) fn print_table(columns: &[Column<'_>], rows: &[Vec<String>]) -> Result<(), Failure> {
    Table::new(columns, rows).show(rows, true)
}

/// Prints a table whose first column names the database, without that column if only one database was asked.
pub(crate) fn print_table_by_database(columns: &[Column<'_>], rows: &[Vec<String>]) -> Result<(), Failure> {
    if rows.iter().any(|row| row.first().is_some_and(|first| !first.is_empty())) {
        return print_table(columns, rows);
    }
    let rows: Vec<_> = rows.iter().map(|row| row.iter().skip(1).cloned().collect()).collect();
    print_table(columns.get(1..).unwrap_or_default(), &rows)
}

/// The time in this zone; without the year on a narrow terminal.
pub(crate) fn shown_time(time: DateTime<Utc>, tz: Tz) -> String {
    let format = if is_narrow() { "%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.with_timezone(&tz).format(format).to_string()
}

pub(crate) struct Table {
    head: Vec<String>,
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new(columns: &[Column<'_>], rows: &[Vec<String>]) -> Self {
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

    pub(crate) fn show(&self, rows: &[Vec<String>], with_head: bool) -> Result<(), Failure> {
        let head = Style::new().bold();
        if with_head {
            print_styled(&self.row(&self.head, |_| head))?;
        }
        rows.iter().try_for_each(|row| print_styled(&self.row(row, style)))
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

/// The colour of a decision; other cells have none.
fn style(cell: &str) -> Style {
    match cell {
        "Deny" => AnsiColor::Red.on_default(),
        "Mask" => AnsiColor::Yellow.on_default(),
        "Allow" => AnsiColor::Green.on_default(),
        _ => Style::new(),
    }
}

/// The part of the text that fits, with an ellipsis: the beginning of a sentence, but the end of a name, because names
/// differ there.
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
