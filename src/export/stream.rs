//! Exports: CSV for auditors and their spreadsheets, JSON Lines and OCSF for programs; in chunks, or written to a file.

use std::{io::Write, pin::pin};

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::{csv::Csv, ocsf, one_line::write_json_line};
use crate::entry::{LedgerRow, Row, SequencedEntry, row_of};
use crate::error::AuditError;
use crate::platform::on_own_runtime;
use crate::query::AuditQuery;
use crate::reader::{AuditReader, blocking::BlockingReader, output_error};
use crate::store::Span;

/// The size at which a chunk is handed over, in bytes: handing it over costs far less than filling it.
const CHUNK: usize = 64 * 1024;

/// The file format of an export: see [`AuditReader::export`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// CSV, in the order of [`query`](AuditReader::query): newest first, by time.
    ///
    /// The format is RFC 4180 with LF: the header
    /// `id,session_id,workspace_id,agent_id,action,resource,resource_id,decision,reason,risk_score,ts,metadata`,
    /// `risk_score` with four decimals, or empty if nobody gave one, `ts` as RFC 3339 in UTC with microseconds, `metadata`
    /// as JSON. A text that a spreadsheet would run as a formula gets a `'` in front, which can be taken away again:
    /// [`Csv`](super::Csv#formulas) says how. That type also writes other columns, among them the ledger and the `seq`,
    /// with other separators.
    Csv,
    /// [`Csv`](Self::Csv) without the `'` in front of formulas: for programs, not for spreadsheets.
    CsvUnescaped,
    /// JSON Lines, one object per line, in the order of `seq`, ledger by ledger if the query names no ledger. No read
    /// transaction stays open between two pages.
    ///
    /// Each line is a [`SequencedEntry`] as [`write_json_line`](super::write_json_line) writes it, and reads back as the
    /// same entry. It is one line for every program: U+2028 and its like are escaped. A later export continues this one
    /// with [`from_seq`](AuditQuery::from_seq), and `AuditReader::open_export` reads such a file as a log.
    JsonLines,
    /// JSON Lines of OCSF 1.8.0 events, class API Activity (6003) with the profile Security Control, in the order of
    /// [`JsonLines`](Self::JsonLines).
    ///
    /// | OCSF | from |
    /// |---|---|
    /// | `api.operation`, `activity_id` | the action; its verb, the part after the last `.`, `:` or `/`, decides: 1 create, 2 read, 3 update, 4 delete, 99 another verb, 0 no action |
    /// | `actor.user`, `actor.session` | the agent and the session; `name` and `uid_alt` are the texts that their ids were made from. Without an agent the user is `user_id` of the metadata |
    /// | `resources` | the resource and its id |
    /// | `action_id`, `status_id` | `Allow`: 1 allowed, 1 success. `Deny`: 2 denied, 2 failure. `Mask`: 4 modified, 1 success. No decision: 0, 0. Another word: 99, 99 |
    /// | `severity_id` | the risk score: from 1 informational below 0.2, in steps of 0.2, to 5 critical from 0.8 on; 0 unknown if nobody gave one |
    /// | `status_detail` | the reason |
    /// | `src_endpoint` | `ip` is the first address of the metadata's `ip`, `client_ip`, `client.ip`, `client.address`, `remote_addr`, `remote_address`, `remote_ip`, `source_ip`, `source.ip`, `source.address`, `sourceIPAddress`, `sourceIPs`, `actor_ip`, `request.remote_address`, `x_forwarded_for` or `network.peer.address`; `intermediate_ips` are the others. Lists, ports, brackets and zones are read; a name is the `hostname` |
    /// | `metadata` | `uid` the entry's id, `sequence` its `seq`, `log_name` its ledger, `logged_time` its commit, `tenant_uid` its workspace, `correlation_uid` the metadata's `trace_id`, `trace.id` or `traceId` |
    /// | `api.request.uid` | the metadata's `request_id`, `request.id`, `requestId` or `requestID` |
    /// | `api.service.name` | the metadata's `service` or `service.name` |
    /// | `unmapped` | the workspace, the risk score if there is one, the problems, and all of the metadata |
    ///
    /// Ids may be texts or numbers of any size. An attribute that the class requires and the entry does not have is `unknown`.
    Ocsf,
}

/// The format of an export: an [`ExportFormat`], or a [`Csv`] with a layout of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFormat(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Csv(Csv),
    JsonLines,
    Ocsf,
}

impl FileFormat {
    /// The name under which an export in this format is recorded.
    fn action(&self) -> &'static str {
        match &self.0 {
            Kind::Csv(layout) if layout.is_raw() => "export_csv_unescaped",
            Kind::Csv(_) => "export_csv",
            Kind::JsonLines => "export_json_lines",
            Kind::Ocsf => "export_ocsf",
        }
    }
}

impl From<ExportFormat> for FileFormat {
    fn from(format: ExportFormat) -> Self {
        Self(match format {
            ExportFormat::Csv => Kind::Csv(Csv::of_entry()),
            ExportFormat::CsvUnescaped => Kind::Csv(Csv::of_entry().raw()),
            ExportFormat::JsonLines => Kind::JsonLines,
            ExportFormat::Ocsf => Kind::Ocsf,
        })
    }
}

impl From<Csv> for FileFormat {
    fn from(layout: Csv) -> Self {
        Self(Kind::Csv(layout))
    }
}

/// Writes these entries as lines of a CSV file of this layout, in the order in which they are given; after the header,
/// if `header`.
///
/// # Errors
/// [`is_output`](AuditError::is_output) if there is not enough memory for the lines.
pub fn csv_lines(entries: &[SequencedEntry], layout: &Csv, header: bool) -> Result<Vec<u8>, AuditError> {
    let head = if header { layout.head() } else { Ok(Vec::new()) };
    let mut csv = layout.writer(head.map_err(|cause| output_error(cause.into()))?);
    for found in entries {
        let problems =
            (!found.problems.is_empty()).then(|| serde_json::Value::from(found.problems.as_slice()));
        let row = Row {
            risk_score: found.risk_score(),
            problems: problems.map(|problems| problems.to_string().into()),
            ..row_of(found.entry.clone())
        };
        let committed_at = Some(found.committed_at.timestamp_micros());
        let place = LedgerRow { ledger: found.ledger.clone(), seq: found.seq, row, committed_at };
        layout.write(&mut csv, &place.row, Some(&place)).map_err(|cause| output_error(cause.into()))?;
    }
    csv.into_inner().map_err(|cause| output_error(cause.into_error()))
}

/// One piece of an export. Concatenated, the chunks' bytes are the whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportChunk {
    /// Some 64 KiB, less in the last chunk of a ledger. The last line is complete.
    pub bytes: Vec<u8>,
    /// The number of entries in the chunk.
    pub entries: u64,
    /// The ledger of these entries. `None` in CSV, which is ordered by time across ledgers.
    pub ledger: Option<String>,
    /// The `seq` of the last entry in the chunk; `None` in CSV. To resume this ledger, export with
    /// [`from_seq`](AuditQuery::from_seq) of `last_seq + 1`, or with [`before_seq`](AuditQuery::before_seq) of
    /// `last_seq` if the query is newest first.
    pub last_seq: Option<u64>,
}

impl AuditReader {
    /// The entries that match, in this format and in chunks: for the body of an HTTP response, and wherever writing
    /// must not block the runtime. Each chunk says how far the export has come, to show progress and to resume it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use futures_util::TryStreamExt;
    /// use tracing_audit::{AuditQuery, export::ExportFormat};
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
    /// CSV is ordered by time. It is read as its chunks are taken, one time window at a time (a few thousand entries,
    /// or as many as overlap in time), with one read transaction per window, and occupies one of the reader's four
    /// connections until it ends. (PostgreSQL may end a transaction that is idle for long: that does no harm.)
    /// Entries committed after the export started are not included. The other formats are read page by page, so a
    /// slow consumer holds nothing up.
    ///
    /// An `Err` is the last item: [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000
    /// values, [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the stream ends the export. The chunks that were taken are complete.
    pub fn export_stream(
        &self,
        query: impl Into<AuditQuery>,
        format: impl Into<FileFormat>,
    ) -> impl Stream<Item = Result<ExportChunk, AuditError>> + Send + 'static {
        let (reader, query, format) = (self.clone(), Self::asked(query), format.into());
        let (to, mut chunks) = mpsc::channel(1);
        let export = async move {
            if let Err(error) = reader.send_export(query, format, &to).await {
                // The consumer of the chunks polls this future: while it runs, the receiver exists.
                drop(to.send(Err(error)).await);
            }
        };
        let export = export.into_stream().filter_map(async |()| None);
        stream::select(export, stream::poll_fn(move |context| chunks.poll_recv(context)))
    }

    /// Sends the chunks of the export, and records its start and its end.
    async fn send_export(
        &self,
        query: Result<AuditQuery, AuditError>,
        format: FileFormat,
        to: &mpsc::Sender<Result<ExportChunk, AuditError>>,
    ) -> Result<(), AuditError> {
        let query = query?;
        let recording = self.recording(format.action(), query.described());
        recording.record_start().await?;
        let lines = match &format.0 {
            Kind::Csv(layout) => return recording.record_end(self.csv(query, layout, to).await?).await,
            Kind::JsonLines => |line: &mut Vec<u8>, entry: &SequencedEntry| write_json_line(line, entry),
            Kind::Ocsf => {
                |line: &mut Vec<u8>, entry: &SequencedEntry| write_json_line(line, &ocsf::event(entry))
            }
        };
        recording.record_end(self.lines(&query, lines, to).await?).await
    }

    /// Writes the entries that match in this format, and returns their number. Memory stays constant at any size.
    ///
    /// For a compressed file, give an encoder as `out`, for instance flate2's `GzEncoder`. Writing blocks the thread: in
    /// an async service, take the chunks of [`export_stream`](Self::export_stream) instead.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditQuery, export::ExportFormat};
    ///
    /// let mut lines = Vec::new();
    /// let entries = log.reader().export(AuditQuery::new(), ExportFormat::JsonLines, &mut lines).await?;
    /// # assert_eq!((entries, lines.len()), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values,
    /// [`is_output`](AuditError::is_output) if `out` fails, [`is_store`](AuditError::is_store) if the database cannot
    /// be read. The lines before the error stay written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn export(
        &self,
        query: impl Into<AuditQuery>,
        format: impl Into<FileFormat>,
        mut out: impl Write,
    ) -> Result<u64, AuditError> {
        let mut chunks = pin!(self.export_stream(query, format));
        let mut entries = 0;
        while let Some(chunk) = chunks.try_next().await? {
            out.write_all(&chunk.bytes).map_err(output_error)?;
            entries += chunk.entries;
        }
        out.flush().map_err(output_error)?;
        Ok(entries)
    }

    /// [`export`](Self::export) as [`ExportFormat::Csv`]: newest first, and safe to open in a spreadsheet.
    ///
    /// # Errors
    /// The errors are those of `export`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn export_csv(&self, query: impl Into<AuditQuery>, out: impl Write) -> Result<u64, AuditError> {
        self.export(query, ExportFormat::Csv, out).await
    }

    /// Sends one line for each entry, in the order of ledger and `seq`, and returns the number of entries.
    async fn lines(
        &self,
        query: &AuditQuery,
        write: fn(&mut Vec<u8>, &SequencedEntry) -> std::io::Result<()>,
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
            let span = if query.newest_first { Span::Before(None) } else { Span::After(None) };
            let mut entries = pin!(self.clone().pages(query, span).try_flatten());
            let new = || ExportChunk { ledger: Some(ledger.clone()), ..ExportChunk::default() };
            let mut chunk = new();
            while let Some(entry) = entries.try_next().await? {
                write(&mut chunk.bytes, &entry).map_err(output_error)?;
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

    /// Sends the entries as CSV, newest first, and returns their number.
    async fn csv(
        &self,
        query: AuditQuery,
        layout: &Csv,
        to: &mpsc::Sender<Result<ExportChunk, AuditError>>,
    ) -> Result<u64, AuditError> {
        let csv_error = |cause: csv::Error| output_error(cause.into());
        let new = || layout.writer(Vec::with_capacity(CHUNK));
        let bytes =
            |csv: csv::Writer<Vec<u8>>| csv.into_inner().map_err(|cause| output_error(cause.into_error()));
        let hand_over = async |bytes, entries| {
            drop(to.send(Ok(ExportChunk { bytes, entries, ..ExportChunk::default() })).await);
        };
        let query = query.newest_first();
        let reads = self.store.backend().reads()?;
        // The place of an entry is read only for columns that need it.
        let mut rows = if layout.needs_place() {
            reads.rows_in_time(&query).map_ok(|found| (None, Some(found))).boxed()
        } else {
            reads.rows(&query).map_ok(|row| (Some(row), None)).boxed()
        };
        let mut csv = layout.writer(layout.head().map_err(csv_error)?);
        let (mut count, mut sent) = (0, 0);
        while let Some((row, place)) = rows.try_next().await? {
            let Some(row) = row.as_ref().or_else(|| place.as_ref().map(|found| &found.row)) else { continue };
            layout.write(&mut csv, row, place.as_ref()).map_err(csv_error)?;
            count += 1;
            if csv.get_ref().len() >= CHUNK {
                hand_over(bytes(std::mem::replace(&mut csv, new()))?, count - sent).await;
                sent = count;
            }
        }
        hand_over(bytes(csv)?, count - sent).await;
        Ok(count)
    }
}

impl BlockingReader<'_> {
    /// Calls [`AuditReader::export`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn export(
        &self,
        query: impl Into<AuditQuery>,
        format: impl Into<FileFormat>,
        out: impl Write,
    ) -> Result<u64, AuditError> {
        let (query, format) = (query.into(), format.into());
        on_own_runtime(self.0.export(query, format, out))
    }

    /// Calls [`AuditReader::export_csv`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn export_csv(&self, query: impl Into<AuditQuery>, out: impl Write) -> Result<u64, AuditError> {
        let query = query.into();
        on_own_runtime(self.0.export_csv(query, out))
    }
}
