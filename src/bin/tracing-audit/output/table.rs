//! Prints tables that fit the terminal: columns without content take no room, and what is too wide goes to a second line.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};

use super::{
    stdout::print_styled,
    terminal::width,
    text::{columns as width_of, isolated, wrapped},
};
use crate::{failure::Failure, zone::Zone};

/// The heading of a column, and what may be left out of its cells if there is no room for them.
pub(crate) type Column<'a> = (&'a str, Cells);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cells {
    /// Nothing: numbers, times and ids.
    Whole,
    /// The middle of a name that is longer than half of the line.
    Cut,
    /// The end of a sentence, which takes the room that the other columns leave.
    Text,
    /// All of them: they only illustrate others.
    Spare,
}

/// Prints a sentence, in lines that fit.
pub(crate) fn print_wrapped(text: &str) -> Result<(), Failure> {
    wrapped(text, width().unwrap_or(usize::MAX)).iter().try_for_each(|line| print_styled(line))
}

/// Prints a sentence, on a terminal in lines that fit. In a pipe it is one line, whatever width is asked for.
pub(crate) fn print_fitting(text: &str) -> Result<(), Failure> {
    if super::is_terminal() { print_wrapped(text) } else { super::print_line(text) }
}

/// The time in this zone, with the year and the distance from UTC.
pub(crate) fn shown_time(time: DateTime<Utc>, zone: Zone) -> String {
    zone.shown(time)
}

/// A table whose rows come bit by bit. Its headings are printed again when its layout changes.
pub(crate) struct Table {
    heads: Vec<String>,
    cells: Vec<Cells>,
    /// The width of the widest cell of each column so far; 0 if it had no content.
    widest: Vec<usize>,
    /// The width that a column of names has at least: that of an id in it, which is never cut.
    least: Vec<usize>,
    /// The width of a line; `None` if there is no limit.
    room: Option<usize>,
    /// The columns of each line, each with its width, as they were printed last.
    layout: Vec<Vec<(usize, usize)>>,
    /// Whether rows come one by one: then columns are wider than need be, so that they grow less often.
    pub(crate) grows: bool,
}

/// The spaces between two columns.
const GAP: usize = 2;
/// The spaces before each further line of a row.
const INDENT: usize = 4;

impl Table {
    pub(crate) fn new(columns: &[Column<'_>], room: Option<usize>) -> Self {
        Self {
            heads: columns.iter().map(|(head, _)| (*head).to_owned()).collect(),
            cells: columns.iter().map(|(_, cells)| *cells).collect(),
            widest: vec![0; columns.len()],
            least: vec![0; columns.len()],
            room,
            layout: Vec::new(),
            grows: false,
        }
    }

    /// Prints rows.
    pub(crate) fn show(&mut self, rows: &[Vec<String>]) -> Result<(), Failure> {
        self.lines(rows).iter().try_for_each(|line| print_styled(line))
    }

    /// The lines of these rows, and of the headings before them if the layout is another one than that of the rows before.
    fn lines(&mut self, rows: &[Vec<String>]) -> Vec<String> {
        if rows.is_empty() {
            return Vec::new();
        }
        for row in rows {
            for ((widest, least), cell) in self.widest.iter_mut().zip(&mut self.least).zip(row) {
                let width = width_of(cell);
                *widest = width.max(*widest);
                if is_id(cell) {
                    *least = width.max(*least);
                }
            }
        }
        let layout = self.arranged();
        let mut lines = Vec::new();
        if layout != self.layout {
            self.layout = layout;
            lines.extend(self.row(&self.heads, |_| Style::new().bold()));
        }
        for row in rows {
            lines.extend(self.row(row, style));
        }
        lines
    }

    /// The columns that have content, with their widths, if names have at most this one.
    fn needed(&self, longest: usize) -> Vec<(usize, usize)> {
        /// The room that a sentence has at least, unless it is shorter.
        const SENTENCE: usize = 24;
        let needed = |(index, cells): (usize, &Cells)| {
            let widest = self.widest.get(index).copied().filter(|widest| *widest > 0)?;
            let widest = if self.grows { widest.next_multiple_of(4) } else { widest };
            let least = self.heads.get(index).map_or(0, |head| width_of(head));
            let width = match cells {
                Cells::Whole | Cells::Spare => widest,
                Cells::Cut => widest.min(longest.max(self.least.get(index).copied().unwrap_or(0))),
                Cells::Text if self.room.is_some() => widest.min(SENTENCE),
                Cells::Text => widest.min(longest),
            };
            Some((index, width.max(least)))
        };
        self.cells.iter().enumerate().filter_map(needed).collect()
    }

    /// The columns of each line, with their widths.
    fn arranged(&self) -> Vec<Vec<(usize, usize)>> {
        /// The width up to which the columns of a table without a limit are aligned.
        const ALIGNED: usize = 60;
        /// The width to which names are cut so that a row has one line.
        const LEAST: usize = 20;
        let Some(room) = self.room else { return vec![self.needed(ALIGNED)] };
        let total = |columns: &[(usize, usize)]| columns.iter().map(|(_, width)| width + GAP).sum::<usize>();
        let is_of = |index: usize, cells| self.cells.get(index) == Some(&cells);
        let longest = (room / 2).clamp(16, 48);
        let without_spare = |mut columns: Vec<(usize, usize)>| {
            columns.retain(|(index, _)| !is_of(*index, Cells::Spare));
            columns
        };
        let whole = Some(self.needed(longest)).filter(|columns| total(columns) <= room + GAP);
        let in_one_line = || {
            let mut narrower = (LEAST..=longest).rev().map(|longest| without_spare(self.needed(longest)));
            narrower.find(|columns| total(columns) <= room + GAP)
        };
        // Two names beside each other in a further line.
        let half = (room.saturating_sub(INDENT + GAP) / 2).clamp(16, longest);
        let columns = whole.or_else(in_one_line).unwrap_or_else(|| without_spare(self.needed(half)));
        let mut lines: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
        for (index, width) in columns {
            let indent = if lines.len() > 1 { INDENT } else { 0 };
            let line = lines.last().map_or(&[][..], |line| line.as_slice());
            if !line.is_empty() && indent + total(line) + width > room {
                lines.push(Vec::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push((index, width));
            }
        }
        // A sentence takes the room that is left in its line.
        for (number, line) in lines.iter_mut().enumerate() {
            let indent = if number > 0 { INDENT } else { 0 };
            let left = (room + GAP).saturating_sub(indent + total(line));
            if let Some((index, width)) = line.iter_mut().find(|(index, _)| is_of(*index, Cells::Text)) {
                *width =
                    self.widest.get(*index).map_or(*width, |widest| (*widest).clamp(*width, *width + left));
            }
        }
        lines
    }

    fn row(&self, cells: &[String], style: impl Fn(&str) -> Style) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, columns) in self.layout.iter().enumerate() {
            let mut shown = if number > 0 { " ".repeat(INDENT) } else { String::new() };
            for (index, width) in columns {
                let cell = cells.get(*index).map_or("", String::as_str);
                let text = match self.cells.get(*index) {
                    Some(Cells::Cut) if self.room.is_some() => without_middle(cell, *width),
                    Some(Cells::Text) if self.room.is_some() => without_end(cell, *width),
                    _ => Cow::Borrowed(cell),
                };
                let style = style(cell);
                let room = " ".repeat(width.saturating_sub(width_of(&text)) + GAP);
                let (on, off) = (style.render().to_string(), style.render_reset().to_string());
                shown.extend([&*on, &isolated(&text), &off, &room]);
            }
            shown.truncate(shown.trim_end_matches(' ').len());
            if number == 0 || !shown.is_empty() {
                lines.push(shown);
            }
        }
        lines
    }
}

/// Whether this is a UUID.
fn is_id(cell: &str) -> bool {
    cell.len() == 36 && cell.parse::<uuid::Uuid>().is_ok()
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

/// The parts of a text that are never cut: its characters, and what stands for one that is escaped.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_short = ["\\\\", "\\n", "\\r", "\\t"].iter().any(|escape| rest.starts_with(escape));
        let escape =
            if rest.starts_with("\\u{") { rest.find('}').map(|end| end + 1) } else { is_short.then_some(2) };
        let length = escape.or_else(|| rest.chars().next().map(char::len_utf8))?;
        let (part, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(part)
    })
}

/// Takes parts as long as they fit.
fn fits(mut left: usize) -> impl FnMut(&&str) -> bool {
    move |part| {
        let own = width_of(part);
        let fits = own <= left;
        left = if fits { left - own } else { 0 };
        fits
    }
}

/// The beginning of the text that fits, with an ellipsis.
fn without_end(text: &str, width: usize) -> Cow<'_, str> {
    if width_of(text) <= width {
        return Cow::Borrowed(text);
    }
    let kept = parts(text).take_while(fits(width.saturating_sub(1)));
    Cow::Owned(kept.chain(["…"]).collect())
}

/// The beginning and the end of the text that fit, with an ellipsis between them. More is kept of the end, where names
/// differ.
pub(super) fn without_middle(text: &str, width: usize) -> Cow<'_, str> {
    if width_of(text) <= width {
        return Cow::Borrowed(text);
    }
    let first = width.saturating_sub(1) / 3;
    let begin = parts(text).take_while(fits(first));
    let all: Vec<&str> = parts(text).collect();
    let end: Vec<&str> = all.into_iter().rev().take_while(fits(width.saturating_sub(1 + first))).collect();
    // A mark stands on the letter before it, which may be left out.
    let end = end.into_iter().rev().skip_while(|part| width_of(part) == 0);
    Cow::Owned(begin.chain(["…"]).chain(end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column<'_>; 6] = [
        ("seq", Cells::Whole),
        ("id", Cells::Whole),
        ("action", Cells::Cut),
        ("", Cells::Spare),
        ("risk", Cells::Whole),
        ("reason", Cells::Text),
    ];

    fn row(cells: [&str; 6]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn rows_fit_any_width_and_no_id_is_cut() {
        let id = "105e60ed-e9e8-4f40-95df-7407b0aa3013";
        let long = "organizations:".repeat(20);
        let rows = [
            row([
                "2026",
                id,
                "s3:GetObject",
                "████████",
                "",
                "東京都は日本の首都であり、長い理由である。".repeat(3).as_str(),
            ]),
            row(["18446744073709551615", "", &long, "█", "", "a\u{301}".repeat(90).as_str()]),
        ];
        for width in [40, 60, 80, 120, 200] {
            let lines = plain(&Table::new(&COLUMNS, Some(width)).lines(&rows));
            let text = lines.join("\n");
            assert!(lines.iter().all(|line| width_of(line) <= width), "{width}:\n{text}");
            assert!(text.contains(id) && text.contains("18446744073709551615"), "{width}:\n{text}");
            assert!(text.contains("s3:GetObject") && text.contains("東京都は日本の"), "{width}:\n{text}");
            assert!(!text.contains("risk"), "a column without content takes no room\n{text}");
        }
        // Without a limit nothing is cut, and a long cell pushes only its own row.
        let lines = plain(&Table::new(&COLUMNS, None).lines(&rows));
        assert_eq!(lines.len(), 3);
        assert!(lines[2].contains(&long), "{}", lines[2]);
        assert!(width_of(&lines[1]) < 400, "{}", lines[1]);
    }

    #[test]
    fn later_rows_that_are_wider_get_new_headings_and_are_whole() {
        let mut table = Table::new(&COLUMNS, Some(80));
        table.grows = true;
        let first = plain(&table.lines(&[row(["1", "", "a", "", "", ""])]));
        assert_eq!(first, ["seq   action", "1     a"]);
        let next = plain(&table.lines(&[row(["9", "", "b", "", "", ""])]));
        assert_eq!(next, ["9     b"]);
        let wider = plain(&table.lines(&[row(["20261", "", "document.read", "", "0.9", "because"])]));
        assert_eq!(
            wider,
            ["seq       action            risk  reason", "20261     document.read     0.9   because"]
        );
        assert_eq!(table.lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn names_lose_their_middle_and_sentences_their_end() {
        assert_eq!(without_middle("organizations:DescribeAccount", 16), "organ…ibeAccount");
        assert_eq!(without_end("not the owner of it", 8), "not the…");
        assert_eq!(without_middle("東京都庁舎", 5), "…舎");
        assert_eq!(without_end("東京都庁舎", 6), "東京…");
        assert_eq!(without_middle("ab", 2), "ab");
        // An escape that stands for one character is left out as a whole.
        assert_eq!(without_end("ali\\u{200b}ce", 9), "ali…");
        assert_eq!(without_end("ali\\u{200b}ce of it", 13), "ali\\u{200b}c…");
        assert_eq!(without_end("a\\nb", 3), "a…");
        assert_eq!(without_middle("a\\u{202e}bcdefgh\\u{1b}", 12), "a…gh\\u{1b}");
        assert_eq!(without_middle("C:\\\\new\\Users", 8), "C:…Users");
    }
}
