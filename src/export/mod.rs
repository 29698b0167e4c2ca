//! Answers for files and other systems.

mod ocsf;
mod stream;

pub use stream::{ExportChunk, ExportFormat};
