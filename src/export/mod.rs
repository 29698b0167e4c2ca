//! Answers for files and other systems.
//!
//! | file | what it does |
//! |---|---|
//! | `stream` | exports, in chunks or written to a file |
//! | `opened` | opens an exported file, so that it is read as a log |
//! | `csv` | the layout of a CSV file, and a row as a line of it |
//! | `formulas` | guards cells against spreadsheets, in a way that can be taken back |
//! | `one_line` | a value as a line of JSON that is one line for every program |
//! | `ocsf` | an entry as an OCSF event; a pure mapping |

mod csv;
mod formulas;
mod ocsf;
mod one_line;
#[cfg(feature = "_sqlite")]
pub(crate) mod opened;
mod stream;

pub use self::csv::Csv;
pub use one_line::write_json_line;
#[cfg(feature = "_sqlite")]
pub use opened::{ExportedLedger, OpenedExport};
pub use stream::{ExportChunk, ExportFormat, FileFormat, csv_lines};
