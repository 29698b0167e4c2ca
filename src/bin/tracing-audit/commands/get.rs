//! The command `get`: shows one entry, field by field.

use std::io;

use anstyle::Style;
use clap::Args;
use serde_json::Value;
use tracing_audit::SequencedEntry;
use unicode_width::UnicodeWidthStr;
use uuid::Uuid;

use crate::{
    failure::Failure,
    input::Database,
    output::{self, FromDatabase, harmless, print_styled},
};

#[derive(Args)]
pub(crate) struct Get {
    /// The entry's id, a UUID; `query --format jsonl` shows it.
    #[arg(value_parser = id)]
    id: Uuid,
}

impl Get {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let (logs, mut found) = (database.open().await?, Vec::new());
        for log in &logs {
            let entry = log.reader.get(self.id).await?;
            found.extend(entry.into_iter().map(|found| (log.db(&logs), found)));
        }
        if found.is_empty() {
            return Err(Failure::NotFound(["no entry has the id ", &self.id.to_string()].concat()));
        }
        found.iter().try_for_each(|(db, found)| print_whole(*db, found))
    }
}

fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "an id is a UUID; `query --format jsonl` shows it".to_owned())
}

/// Prints each field on a line of its own, or the entry as JSON if standard output is not a terminal.
fn print_whole(db: Option<&str>, found: &SequencedEntry) -> Result<(), Failure> {
    let found = FromDatabase { db, found };
    if !output::is_terminal() {
        return output::print_json(&found);
    }
    let Value::Object(fields) = serde_json::to_value(found).map_err(io::Error::from)? else { return Ok(()) };
    let name_width = fields.keys().map(|name| name.width()).max().unwrap_or(0);
    let bold = Style::new().bold();
    for (name, value) in &fields {
        let value = match value {
            Value::String(text) => text.clone(),
            value => serde_json::to_string_pretty(value).map_err(io::Error::from)?,
        };
        let value: Vec<_> = value.lines().map(harmless).collect();
        let indented = value.join(&["\n", &" ".repeat(name_width + 2)].concat());
        print_styled(&format!("{bold}{name:name_width$}{bold:#}  {indented}"))?;
    }
    Ok(())
}
