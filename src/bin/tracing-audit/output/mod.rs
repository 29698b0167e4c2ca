//! Output for people, programs and files: a table on a terminal, JSON Lines elsewhere.
//!
//! | file | what it does |
//! |---|---|
//! | `terminal.rs` | looks whether standard output is a terminal, and how wide |
//! | `text.rs` | makes text harmless to a terminal and distinct to people |
//! | `pager.rs` | sends the output through a pager |
//! | `stdout.rs` | writes to standard output; a closed pipe ends the command |
//! | `stderr.rs` | reports failures and warnings |
//! | `json.rs` | prints values as JSON Lines |
//! | `table.rs` | prints tables that fit the terminal |
//! | `chart.rs` | draws counts over time |
//! | `columns.rs` | the columns that a table of entries can have |
//! | `entries.rs` | prints entries, as a table or as JSON Lines |
//! | `files.rs` | writes files that appear only when they are complete; what exists keeps its mode, and must be this user's own |
//! | `temporary.rs` | temporary files, which also a signal that ends the command removes |
//! | `lines.rs` | appends to a JSON Lines file whose last line says where to continue |
//! | `resumed.rs` | continues a file whose beginning must be what is written |
//! | `unfinished.rs` | finds the entries that a killed command had already written to standard output |
//! | `progress.rs` | shows how far an export or a verification has come |
//! | `sinks.rs` | hashes and compresses an export on its way to the file |

mod chart;
mod columns;
mod entries;
mod files;
mod json;
mod lines;
mod pager;
mod progress;
mod resumed;
mod sinks;
mod stderr;
mod stdout;
mod table;
mod temporary;
mod terminal;
mod text;
mod unfinished;

pub(crate) use chart::{print_chart, steps};
pub(crate) use columns::{Field, name_of};
pub(crate) use entries::{Entries, Format, print_table_as};
pub(crate) use files::{
    NewFile, at_end_of_links, is_stream, refuse_all_but_files, refuse_of_others, replace, save_json,
    save_new_json, with_path, with_suffix,
};
pub(crate) use json::{FromDatabase, print_json, to_json, visible};
pub(crate) use lines::Lines;
pub(crate) use pager::{end_pager, page, pager_failure};
pub(crate) use progress::Progress;
pub(crate) use resumed::Resumed;
pub(crate) use sinks::{GzipIf, Hashing, hex};
pub(crate) use stderr::{
    remark, remark_altered, report, say, tell_order, tell_person, warn_if_it_scans, write_line,
};
pub(crate) use stdout::{Stdout, decide_colours, go_on_if_closed, is_closed, print_line, print_styled};
pub(crate) use table::{Cells, print_fitting, print_wrapped, shown_time};
pub(crate) use temporary::TemporaryDirectory;
pub(crate) use terminal::{is_terminal, refuse_terminal};
pub(crate) use text::{columns, harmless, isolated, quoted, sentence};
pub(crate) use unfinished::{FilePlace, Unfinished, stdout_place};
