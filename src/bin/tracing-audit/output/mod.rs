//! Output to people, programs and files.

mod chart;
mod entries;
mod files;
mod json;
mod lines;
mod progress;
mod sinks;
mod stderr;
mod stdout;
mod table;
mod terminal;
mod unfinished;

pub(crate) use chart::{chart, chart_width};
pub(crate) use entries::{Entries, Format};
pub(crate) use files::{beside, save, with};
pub(crate) use json::{Of, json};
pub(crate) use lines::Lines;
pub(crate) use progress::Progress;
pub(crate) use sinks::{GzipIf, Hashing};
pub(crate) use stderr::{report, tell_if_it_scans};
pub(crate) use stdout::{Out, line, styled};
pub(crate) use table::{Cells, table, time, without_first_if_empty};
pub(crate) use terminal::{harmless, is_narrow, not_to_a_terminal, on_terminal};
pub(crate) use unfinished::{FilePlace, Unfinished, place};
