//! Makes the layout of a CSV file of the options that describe it.

use clap::Args;
use tracing_audit::{AuditError, export::Csv};

use super::fields::{listed, meant};
use crate::{failure::Failure, output::Field};

#[derive(Args)]
#[command(next_help_heading = "CSV")]
#[expect(clippy::doc_markdown, reason = "this is the help text of a terminal")]
pub(crate) struct CsvOptions {
    /// Write CSV for programs: without the ' that stops a spreadsheet from running a text as a formula.
    ///
    /// A ' stands in front of each =, +, - and @ at the beginning of a text, and behind a separator or a line break within
    /// it. To get the text back, remove that one '. In metadata an escape such as \u003d stands for the character.
    #[arg(long)]
    raw: bool,
    /// Begin the file with a byte order mark, by which Excel knows that it is UTF-8.
    #[arg(long)]
    bom: bool,
    /// Separate the cells by this character instead of a comma: tab, or a punctuation mark such as ; or |.
    #[arg(long, value_name = "CHARACTER", value_parser = separator)]
    separator: Option<char>,
    /// The columns, separated by commas [default: all but committed_at, problems and metadata.PATH].
    ///
    /// Columns are id, session_id, workspace_id, agent_id, action, resource, resource_id, decision, reason, risk_score, ts,
    /// metadata, ledger, seq, committed_at, problems, and metadata.PATH for a value of the metadata, for instance
    /// metadata.client.ip. May be repeated.
    #[arg(long, value_name = "COLUMNS")]
    columns: Vec<String>,
}

/// The character that a word names.
fn separator(word: &str) -> Result<char, String> {
    let mut characters = word.chars();
    match (word, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        ("comma", ..) => Ok(','),
        ("semicolon", ..) => Ok(';'),
        (_, Some(one), None) => Ok(one),
        _ => Err("a separator is one character, or the word tab, comma or semicolon".to_owned()),
    }
}

impl CsvOptions {
    /// The layout that they describe.
    pub(crate) fn layout(&self) -> Result<Csv, Failure> {
        let mut layout = Csv::new();
        if let Some(separator) = self.separator {
            layout = layout.separator(separator)?;
        }
        if !self.columns.is_empty() {
            let columns: Vec<_> = self.columns.iter().flat_map(|list| listed(list)).collect();
            layout = layout.columns(&columns).map_err(|error| refused(&columns, &error))?;
        }
        if self.bom {
            layout = layout.bom();
        }
        Ok(if self.raw { layout.raw() } else { layout })
    }

    /// Refuses them where another format was chosen.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        let given = [
            ("--raw", self.raw),
            ("--bom", self.bom),
            ("--separator", self.separator.is_some()),
            ("--columns", !self.columns.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Failure::Usage(format!(
                "{option} describes a CSV file: add --format csv, or leave it out"
            ))),
        }
    }
}

/// The library's reason to refuse columns, and the column that may have been meant.
fn refused(columns: &[&str], error: &AuditError) -> Failure {
    let is_column = |name: &&str| Csv::new().columns([name]).is_ok();
    let known: Vec<_> = Field::names().filter(|name| is_column(name)).collect();
    let wrong = columns.iter().find(|name| !is_column(name) && !name.starts_with("metadata."));
    let meant = wrong.map(|name| meant(name, &known)).unwrap_or_default();
    Failure::Usage(format!("{meant}{error}"))
}
