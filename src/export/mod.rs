//! Answers for files and other systems.
//!
//! | file | what it does |
//! |---|---|
//! | `stream.rs` | exports in chunks, or to whatever can be written to |
//! | `csv.rs` | a row as a line of CSV, safe for spreadsheets |
//! | `ocsf.rs` | an entry as an OCSF event; a pure mapping |

mod csv;
mod ocsf;
mod stream;

pub use stream::{ExportChunk, ExportFormat};
