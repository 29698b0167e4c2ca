//! CSV for auditors and their spreadsheets, JSON Lines for programs.

use std::{borrow::Cow, io::Write, pin::pin};

use chrono::SecondsFormat;
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::{AuditQuery, AuditReader};
use crate::{AuditError, SequencedEntry, entry::from_micros, error::Kind, record::Row};

const HEADER: [&str; 12] = [
    "id",
    "session_id",
    "workspace_id",
    "agent_id",
    "action",
    "resource",
    "resource_id",
    "decision",
    "reason",
    "risk_score",
    "ts",
    "metadata",
];

impl AuditReader {
    /// Writes the entries that match as CSV, in the order of [`query`](Self::query), and returns how many.
    /// Memory stays constant at any size.
    ///
    /// The format is RFC 4180 with LF: the header
    /// `id,session_id,workspace_id,agent_id,action,resource,resource_id,decision,reason,risk_score,ts,metadata`,
    /// `risk_score` with four decimals, `ts` as RFC 3339 in UTC with microseconds, `metadata` as JSON. A text
    /// that a spreadsheet would run as a formula (one that begins with `=`, `+`, `-`, `@`, tab or carriage
    /// return) has a `'` before it; a text that begins with such a `'` gets another, so that taking off one
    /// gives the original in each case.
    ///
    /// # Errors
    /// [`is_output`](AuditError::is_output) if `out` fails, [`is_store`](AuditError::is_store) if the database
    /// cannot be read. What was written before stays written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn export_csv(&self, query: impl Into<AuditQuery>, out: impl Write) -> Result<u64, AuditError> {
        self.export_csv_as(query, out, true).await
    }

    /// [`export_csv`](Self::export_csv) without the `'` before formulas: for programs, not for spreadsheets.
    ///
    /// # Errors
    /// As `export_csv`.
    ///
    /// # Cancel safety
    /// As `export_csv`.
    pub async fn export_csv_raw(
        &self,
        query: impl Into<AuditQuery>,
        out: impl Write,
    ) -> Result<u64, AuditError> {
        self.export_csv_as(query, out, false).await
    }

    /// Writes the entries that match as JSON Lines, one object a line, and returns how many. Memory stays constant at any
    /// size, and no read transaction stays open meanwhile.
    ///
    /// Each line is a [`SequencedEntry`] as serde writes it, and reads back as the same. They come in the order of `seq`, ledger by ledger if the query names none; to go on with a later
    /// export, give [`from_seq`](AuditQuery::from_seq).
    ///
    /// # Errors
    /// [`is_output`](AuditError::is_output) if `out` fails, [`is_store`](AuditError::is_store) if the database
    /// cannot be read. What was written before stays written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn export_json_lines(
        &self,
        query: impl Into<AuditQuery>,
        out: impl Write,
    ) -> Result<u64, AuditError> {
        self.export_lines(query, out, |line, entry| serde_json::to_writer(line, entry)).await
    }

    /// A line of JSON for each entry, by ledger and `seq`.
    pub(super) async fn export_lines(
        &self,
        query: impl Into<AuditQuery>,
        mut out: impl Write,
        write: fn(&mut Vec<u8>, &SequencedEntry) -> serde_json::Result<()>,
    ) -> Result<u64, AuditError> {
        let query = Self::asked(query)?;
        let failed = |cause: std::io::Error| {
            AuditError::new(Kind::Output, "the export cannot be written").because(cause)
        };
        let ledgers = match &query.ledger {
            Some(ledger) => vec![ledger.clone()],
            None => self.store.backend().heads(None).await?.into_iter().map(|head| head.ledger).collect(),
        };
        let mut count = 0_u64;
        let mut line = Vec::new();
        for ledger in ledgers {
            let mut query = query.clone().ledger(ledger);
            let left = query.filter.limit.map(|limit| u64::from(limit).saturating_sub(count));
            query.filter.limit = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
            let mut entries = pin!(self.stream(query));
            while let Some(entry) = entries.try_next().await? {
                line.clear();
                write(&mut line, &entry).map_err(|cause| failed(cause.into()))?;
                line.push(b'\n');
                out.write_all(&line).map_err(failed)?;
                count += 1;
            }
        }
        out.flush().map_err(failed)?;
        Ok(count)
    }

    async fn export_csv_as(
        &self,
        query: impl Into<AuditQuery>,
        out: impl Write,
        guard: bool,
    ) -> Result<u64, AuditError> {
        let query = Self::asked(query)?;
        let failed =
            |cause: csv::Error| AuditError::new(Kind::Output, "the export cannot be written").because(cause);
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(HEADER).map_err(failed)?;
        let mut rows = self.store.backend().rows(&query);
        let mut count = 0;
        while let Some(row) = rows.try_next().await? {
            write(&mut csv, &row, guard).map_err(failed)?;
            count += 1;
        }
        csv.flush().map_err(|cause| failed(cause.into()))?;
        Ok(count)
    }
}

fn write(csv: &mut csv::Writer<impl Write>, row: &Row, guard: bool) -> csv::Result<()> {
    let text = |text| if guard { harmless(text) } else { Cow::Borrowed(text) };
    let mut buffer = Uuid::encode_buffer();
    let mut id = |id: Option<Uuid>, csv: &mut csv::Writer<_>| {
        csv.write_field(id.map_or("", |id| id.hyphenated().encode_lower(&mut buffer)))
    };
    id(Some(row.id), csv)?;
    id(row.session_id, csv)?;
    id(Some(row.workspace_id), csv)?;
    id(row.agent_id, csv)?;
    for field in [
        Some(&row.action),
        Some(&row.resource),
        row.resource_id.as_ref(),
        Some(&row.decision),
        row.reason.as_ref(),
    ] {
        csv.write_field(text(field.map_or("", |field| field)).as_bytes())?;
    }
    csv.write_field(format!("{:.4}", row.risk_score.unwrap_or(0.0)))?;
    csv.write_field(from_micros(row.ts).to_rfc3339_opts(SecondsFormat::Micros, true))?;
    csv.write_field(text(&row.metadata).as_bytes())?;
    csv.write_record(None::<&[u8]>)
}

/// The text with a `'` before it if a spreadsheet would run it, or if it might be mistaken for one so treated.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_guarded_text_starts_a_formula_and_the_original_comes_back(text in "['=+@a-]{0,4}.*") {
            let guarded = harmless(&text);
            prop_assert!(!guarded.starts_with(['=', '+', '-', '@', '\t', '\r']));
            let marked = guarded.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']);
            let back = if marked { guarded.strip_prefix('\'').unwrap() } else { &guarded };
            prop_assert_eq!(back, &text);
        }
    }
}
