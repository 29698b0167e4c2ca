//! Answers for files and other systems.
//!
//! | file | what it does |
//! |---|---|
//! | `stream` | exports, in chunks or written to a file |
//! | `csv` | a row as a line of CSV, safe for spreadsheets |
//! | `ocsf` | an entry as an OCSF event; a pure mapping |

mod csv;
mod ocsf;
mod stream;

pub use stream::{ExportChunk, ExportFormat, csv_lines};
