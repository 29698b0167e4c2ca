//! CSV for auditors and their spreadsheets, JSON Lines for programs: in chunks, or to whatever can be written to.

use std::{borrow::Cow, io::Write, pin::pin};

use chrono::SecondsFormat;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{AuditQuery, AuditReader, ocsf};
use crate::{AuditError, SequencedEntry, entry::from_micros, error::Kind, record::Row, store::Span};

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

/// Bytes at which a chunk is handed over: far more than that costs.
const CHUNK: usize = 64 * 1024;

/// As what entries are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// See [`AuditReader::export_csv`].
    Csv,
    /// See [`AuditReader::export_csv_raw`].
    CsvRaw,
    /// See [`AuditReader::export_json_lines`].
    JsonLines,
    /// See [`AuditReader::export_ocsf`].
    Ocsf,
}

impl ExportFormat {
    /// The call that makes it.
    fn action(self) -> &'static str {
        match self {
            Self::Csv => "export_csv",
            Self::CsvRaw => "export_csv_raw",
            Self::JsonLines => "export_json_lines",
            Self::Ocsf => "export_ocsf",
        }
    }
}

/// Some of an export. One after the other, their bytes are the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportChunk {
    /// Some 64 KiB, or what is left; it ends with a line.
    pub bytes: Vec<u8>,
    /// How many entries are in it.
    pub entries: u64,
    /// Of which ledger they are, where they come ledger by ledger and by `seq`, as in all but CSV.
    pub ledger: Option<String>,
    /// Of the last of them, where they come by `seq`: for the rest of this ledger, an export goes on
    /// [`from_seq`](AuditQuery::from_seq) the next one, or [`before_seq`](AuditQuery::before_seq) this one if the query is
    /// descending.
    pub last_seq: Option<u64>,
}

impl AuditReader {
    /// The entries that match in this format, in chunks: for the body of an answer over HTTP, and wherever writing must
    /// not block the runtime. Each chunk says how far it has come, which is what shows progress and resumes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use futures_util::TryStreamExt;
    /// use tracing_audit::{AuditQuery, ExportFormat};
    ///
    /// let mut chunks = std::pin::pin!(log.reader().export_stream(AuditQuery::new(), ExportFormat::Csv));
    /// let mut done = 0;
    /// while let Some(chunk) = chunks.try_next().await? {
    ///     done += chunk.entries;
    ///     println!("{done} entries, {} bytes more", chunk.bytes.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A CSV, which is ordered by time, is read while its chunks are taken, from one part of the time to the one before: some
    /// thousands of entries, or as many as have overlapping times, for which it holds a read transaction. (PostgreSQL may end
    /// one in which nothing happens for long: that does no harm.) It keeps one of the four connections that a reader has
    /// until its end. What was committed after its start is not in it. The others are read page by page, and whoever takes
    /// their chunks slowly holds nothing up.
    ///
    /// An `Err` is the last item: [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000
    /// values, [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the stream ends the export; the chunks that were taken are whole.
    pub fn export_stream(
        &self,
        query: impl Into<AuditQuery>,
        format: ExportFormat,
    ) -> impl Stream<Item = Result<ExportChunk, AuditError>> + Send + 'static {
        let (reader, query) = (self.clone(), Self::asked(query));
        let (to, mut chunks) = mpsc::channel(1);
        let export = async move {
            if let Err(error) = reader.export(query, format, &to).await {
                // Whoever takes the chunks is what runs this.
                drop(to.send(Err(error)).await);
            }
        };
        let export = export.into_stream().filter_map(async |()| None);
        stream::select(export, stream::poll_fn(move |context| chunks.poll_recv(context)))
    }

    async fn export(
        &self,
        query: Result<AuditQuery, AuditError>,
        format: ExportFormat,
        to: &mpsc::Sender<Result<ExportChunk, AuditError>>,
    ) -> Result<(), AuditError> {
        let query = query?;
        let reading = self.reading(format.action(), query.described());
        reading.begun().await?;
        let lines = match format {
            ExportFormat::Csv => return reading.ended(self.csv(&query, true, to).await?).await,
            ExportFormat::CsvRaw => return reading.ended(self.csv(&query, false, to).await?).await,
            ExportFormat::JsonLines => {
                |line: &mut Vec<u8>, entry: &SequencedEntry| serde_json::to_writer(line, entry)
            }
            ExportFormat::Ocsf => {
                |line: &mut Vec<u8>, entry: &SequencedEntry| serde_json::to_writer(line, &ocsf::event(entry))
            }
        };
        reading.ended(self.lines(&query, lines, to).await?).await
    }

    pub(super) async fn export_to(
        &self,
        query: impl Into<AuditQuery>,
        format: ExportFormat,
        mut out: impl Write,
    ) -> Result<u64, AuditError> {
        let mut chunks = pin!(self.export_stream(query, format));
        let mut entries = 0;
        while let Some(chunk) = chunks.try_next().await? {
            out.write_all(&chunk.bytes).map_err(failed)?;
            entries += chunk.entries;
        }
        out.flush().map_err(failed)?;
        Ok(entries)
    }

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
        self.export_to(query, ExportFormat::Csv, out).await
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
        self.export_to(query, ExportFormat::CsvRaw, out).await
    }

    /// Writes the entries that match as JSON Lines, one object a line, and returns how many. Memory stays constant at any
    /// size, and no read transaction stays open meanwhile.
    ///
    /// For a compressed file give an encoder, such as flate2's `GzEncoder`, as `out`.
    ///
    /// Each line is a [`SequencedEntry`] as serde writes it, and reads back as the same. They come in the order of `seq`,
    /// ledger by ledger if the query names none; to go on with a later export, give
    /// [`from_seq`](AuditQuery::from_seq).
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
        self.export_to(query, ExportFormat::JsonLines, out).await
    }

    /// A line for each entry, by ledger and `seq`.
    async fn lines(
        &self,
        query: &AuditQuery,
        write: fn(&mut Vec<u8>, &SequencedEntry) -> serde_json::Result<()>,
        to: &mpsc::Sender<Result<ExportChunk, AuditError>>,
    ) -> Result<u64, AuditError> {
        let ledgers = match &query.ledger {
            Some(ledger) => vec![ledger.clone()],
            None => {
                self.store.backend().reads()?.heads(None).await?.into_iter().map(|head| head.ledger).collect()
            }
        };
        let mut count = 0_u64;
        for ledger in ledgers {
            let mut query = query.clone().ledger(&ledger);
            let left = query.filter.limit.map(|limit| u64::from(limit).saturating_sub(count));
            query.filter.limit = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
            let span = if query.descending { Span::Before(None) } else { Span::After(None) };
            let mut entries = pin!(self.clone().pages(query, span).try_flatten());
            let new = || ExportChunk { ledger: Some(ledger.clone()), ..ExportChunk::default() };
            let mut chunk = new();
            while let Some(entry) = entries.try_next().await? {
                write(&mut chunk.bytes, &entry).map_err(|cause| failed(cause.into()))?;
                chunk.bytes.push(b'\n');
                chunk.entries += 1;
                chunk.last_seq = Some(entry.seq);
                count += 1;
                if chunk.bytes.len() >= CHUNK {
                    drop(to.send(Ok(std::mem::replace(&mut chunk, new()))).await);
                }
            }
            if chunk.entries > 0 {
                drop(to.send(Ok(chunk)).await);
            }
        }
        Ok(count)
    }

    async fn csv(
        &self,
        query: &AuditQuery,
        guard: bool,
        to: &mpsc::Sender<Result<ExportChunk, AuditError>>,
    ) -> Result<u64, AuditError> {
        let new = || csv::Writer::from_writer(Vec::with_capacity(CHUNK));
        let bytes = |csv: csv::Writer<Vec<u8>>| csv.into_inner().map_err(|cause| failed(cause.into_error()));
        let mut csv = new();
        csv.write_record(HEADER).map_err(|cause| failed(cause.into()))?;
        let mut rows = self.store.backend().reads()?.rows(query);
        let (mut count, mut told) = (0, 0);
        while let Some(row) = rows.try_next().await? {
            write(&mut csv, &row, guard).map_err(|cause| failed(cause.into()))?;
            count += 1;
            if csv.get_ref().len() >= CHUNK {
                let bytes = bytes(std::mem::replace(&mut csv, new()))?;
                drop(
                    to.send(Ok(ExportChunk { bytes, entries: count - told, ..ExportChunk::default() })).await,
                );
                told = count;
            }
        }
        drop(
            to.send(Ok(ExportChunk { bytes: bytes(csv)?, entries: count - told, ..ExportChunk::default() }))
                .await,
        );
        Ok(count)
    }
}

fn failed(cause: std::io::Error) -> AuditError {
    AuditError::new(Kind::Output, "the export cannot be written").because(cause)
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
    csv.write_field(decimals(row.risk_score.unwrap_or(0.0)))?;
    csv.write_field(from_micros(row.ts).to_rfc3339_opts(SecondsFormat::Micros, true))?;
    csv.write_field(text(&row.metadata).as_bytes())?;
    csv.write_record(None::<&[u8]>)
}

/// With four decimals. Few scores have more, and those that have not are written from a whole number in a fraction of the
/// time that any number takes.
fn decimals(score: f64) -> Vec<u8> {
    let scaled = (score * 10_000.0).round();
    if score.is_sign_positive() && scaled < 100_000.0 && (scaled / 10_000.0).to_bits() == score.to_bits() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it has five digits")]
        let scaled = scaled as u32;
        let digit = |unit| b'0' + (scaled / unit % 10) as u8;
        vec![digit(10_000), b'.', digit(1000), digit(100), digit(10), digit(1)]
    } else {
        format!("{score:.4}").into_bytes()
    }
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
        fn scores_have_four_decimals_as_the_formatter_of_all_numbers_gives_them(
            score in prop_oneof![(0..20_000_u32).prop_map(|n| f64::from(n) / 10_000.0), 0.0..1.0, any::<f64>()],
        ) {
            prop_assert_eq!(decimals(score), format!("{score:.4}").into_bytes());
        }

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
