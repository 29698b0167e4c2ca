//! One entry, whole.

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
    output::{self, Of, harmless, styled},
};

#[derive(Args)]
pub(crate) struct Get {
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
        found.iter().try_for_each(|(db, found)| whole(*db, found))
    }
}

/// All there is about an entry: a field a line, or JSON.
fn whole(db: Option<&str>, found: &SequencedEntry) -> Result<(), Failure> {
    let found = Of { db, found };
    if !output::on_terminal() {
        return output::json(&found);
    }
    let Value::Object(fields) = serde_json::to_value(found).map_err(io::Error::from)? else { return Ok(()) };
    let wide = fields.keys().map(|name| name.width()).max().unwrap_or(0);
    let bold = Style::new().bold();
    for (name, value) in &fields {
        let value = match value {
            Value::String(text) => text.clone(),
            value => serde_json::to_string_pretty(value).map_err(io::Error::from)?,
        };
        let value: Vec<_> = value.lines().map(harmless).collect();
        let indented = value.join(&["\n", &" ".repeat(wide + 2)].concat());
        styled(&format!("{bold}{name:wide$}{bold:#}  {indented}"))?;
    }
    Ok(())
}
