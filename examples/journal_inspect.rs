//! Shows what the journals in a directory hold: `cargo run --example journal_inspect -- audit.db.queue`.
#![allow(clippy::print_stdout, reason = "what an example shows")]

use std::path::PathBuf;

use clap::Parser;
use tracing_audit::journal::{Journal, inspect};

#[derive(Parser)]
struct Arguments {
    /// The directory that the log was given for its journals: for `audit.db` it is `audit.db.queue`.
    directory: PathBuf,
}

fn main() -> Result<(), tracing_audit::AuditError> {
    let Arguments { directory } = Arguments::parse();
    let journals = inspect(&directory)?;
    if journals.is_empty() {
        println!("no journals: whatever was accepted is in the database");
    }
    for journal in &journals {
        show(journal);
    }
    Ok(())
}

fn show(journal: &Journal) {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    println!(
        "journal {} of process {}, {}\n  for {}, ledger {}",
        journal.writer,
        journal.owner.map_or_else(|| "unknown".to_owned(), |owner| owner.to_string()),
        if journal.locked { "in use" } else { "left behind: the next log adopts it" },
        or_unknown(&journal.database),
        or_unknown(&journal.ledger),
    );
    println!(
        "  {:>12} {:>12} {:>10} {:>8} {:>11} {:>11}  trouble",
        "after", "until", "records", "missing", "bytes used", "of"
    );
    for segment in &journal.segments {
        println!(
            "  {:>12} {:>12} {:>10} {:>8} {:>11} {:>11}  {}",
            segment.first,
            segment.last,
            segment.records,
            segment.missing,
            segment.used,
            segment.size,
            segment.trouble.map_or_else(|| "none".to_owned(), |trouble| format!("{trouble:?}")),
        );
    }
}
