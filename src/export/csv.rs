//! The layout of a CSV file, and a row as a line of it.

use std::{borrow::Cow, fmt, io::Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::formulas::{guarded, guarded_json, original};
use crate::entry::{LedgerRow, Row, from_micros, sequenced};
use crate::error::{AuditError, ErrorKind};
use crate::query::{Field, value_at};

/// A column of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CsvColumn {
    Id,
    SessionId,
    WorkspaceId,
    AgentId,
    Action,
    Resource,
    ResourceId,
    Decision,
    Reason,
    RiskScore,
    Ts,
    Metadata,
    Ledger,
    Seq,
    CommittedAt,
    Problems,
    /// The value at a path into the metadata.
    Path(String),
}

/// The columns by their names. The first twelve are those of `ExportFormat::Csv`; two more are written by default.
const NAMED: [(&str, CsvColumn); 16] = [
    ("id", CsvColumn::Id),
    ("session_id", CsvColumn::SessionId),
    ("workspace_id", CsvColumn::WorkspaceId),
    ("agent_id", CsvColumn::AgentId),
    ("action", CsvColumn::Action),
    ("resource", CsvColumn::Resource),
    ("resource_id", CsvColumn::ResourceId),
    ("decision", CsvColumn::Decision),
    ("reason", CsvColumn::Reason),
    ("risk_score", CsvColumn::RiskScore),
    ("ts", CsvColumn::Ts),
    ("metadata", CsvColumn::Metadata),
    ("ledger", CsvColumn::Ledger),
    ("seq", CsvColumn::Seq),
    ("committed_at", CsvColumn::CommittedAt),
    ("problems", CsvColumn::Problems),
];
const OF_ENTRY: usize = 12;
const BY_DEFAULT: usize = 14;

/// The beginning of the name of a column that holds a value of the metadata.
const PATH: &str = "metadata.";

impl CsvColumn {
    fn named(name: &str) -> Result<Self, AuditError> {
        if let Some((_, column)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(column.clone());
        }
        if let Some(path) = name.strip_prefix(PATH).filter(|path| !path.is_empty()) {
            name.parse::<Field>()?;
            return Ok(Self::Path(path.to_owned()));
        }
        let known: Vec<_> = NAMED.iter().map(|(known, _)| *known).collect();
        let message = format!(
            "{name:?} is no column of a CSV file: the columns are {} and metadata.PATH",
            known.join(", ")
        );
        Err(AuditError::new(ErrorKind::Query, message))
    }

    /// Whether the column is part of the entry's place, not of the entry.
    fn is_of_place(&self) -> bool {
        matches!(self, Self::Ledger | Self::Seq | Self::CommittedAt | Self::Problems)
    }
}

impl fmt::Display for CsvColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMED.iter().find(|(_, column)| column == self)) {
            (Self::Path(path), _) => write!(f, "{PATH}{path}"),
            (_, named) => f.write_str(named.map_or("", |(name, _)| name)),
        }
    }
}

/// The layout of a CSV file: its columns, its separator, and what spreadsheets need.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
/// use tracing_audit::{AuditQuery, export::Csv};
///
/// let layout = Csv::new().separator(';')?.bom().columns(["seq", "ts", "action", "metadata.client.ip"])?;
/// let mut file = Vec::new();
/// log.reader().export(AuditQuery::new(), layout, &mut file).await?;
/// assert_eq!(file, "\u{feff}seq;ts;action;metadata.client.ip\n".as_bytes());
/// # Ok(())
/// # }
/// ```
///
/// # Formulas
///
/// Spreadsheets run a text that begins with `=`, `+`, `-` or `@`, or with one of these in full or small width. They may cut
/// a line at another separator than the file's, and may begin a row at a line break within a cell. So a `'` is written in
/// front of each such character that stands at the beginning of a text, or after a comma, a semicolon, `|`, a tab, the
/// file's separator, a line break or another control character; blanks, quotation marks, `'`s and invisible characters may
/// be between. A tab or a line break at the beginning of a text gets a `'` too. In metadata, which is JSON, such a
/// character within a string becomes an escape (`\u003d`), which leaves the value as it is.
///
/// Nothing is lost: [`original`](Self::original) takes exactly these `'`s away. [`raw`](Self::raw) writes none, for
/// programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    separator: u8,
    bom: bool,
    raw: bool,
    columns: Vec<CsvColumn>,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl Csv {
    /// Commas, no byte order mark, formulas guarded, and the columns of [`ExportFormat::Csv`](super::ExportFormat::Csv)
    /// followed by `ledger` and `seq`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(BY_DEFAULT)
    }

    /// The twelve columns of an entry.
    pub(super) fn of_entry() -> Self {
        Self::of(OF_ENTRY)
    }

    fn of(columns: usize) -> Self {
        let columns = NAMED.iter().take(columns).map(|(_, column)| column.clone()).collect();
        Self { separator: b',', bom: false, raw: false, columns }
    }

    /// Separates cells by this character: a tab, or an ASCII punctuation mark, for instance `;`, which spreadsheets
    /// expect where the decimal point is a comma.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for another character, for quotation marks, and for `=`, `+`, `-`, `@`.
    pub fn separator(self, separator: char) -> Result<Self, AuditError> {
        let is_mark =
            separator.is_ascii_punctuation() && !matches!(separator, '"' | '\'' | '=' | '+' | '-' | '@');
        match u8::try_from(separator) {
            Ok(separator) if is_mark || separator == b'\t' => Ok(Self { separator, ..self }),
            _ => {
                let message = format!(
                    "{separator:?} cannot separate cells: give a tab or a punctuation mark such as ; or |, and no \
                     quotation mark, =, +, - or @"
                );
                Err(AuditError::new(ErrorKind::Config, message))
            }
        }
    }

    /// Begins the file with a byte order mark, by which Excel knows that it is UTF-8.
    #[must_use]
    pub fn bom(self) -> Self {
        Self { bom: true, ..self }
    }

    /// Writes every text as it is, for programs: a spreadsheet may run some of them.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { raw: true, ..self }
    }

    /// Writes these columns, in this order.
    ///
    /// A column is `id`, `session_id`, `workspace_id`, `agent_id`, `action`, `resource`, `resource_id`, `decision`,
    /// `reason`, `risk_score` (empty if nobody gave one), `ts`, `metadata` (JSON), `ledger`, `seq`, `committed_at`,
    /// `problems` (a JSON list, empty if there are none), or `metadata.` and a path: then a text is written as itself, any
    /// other value as JSON, and nothing if there is no value.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for another name, for a path that cannot be meant (as in
    /// [`Field`](crate::query::Field)), or for no column.
    pub fn columns(self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, AuditError> {
        let columns: Vec<_> =
            names.into_iter().map(|name| CsvColumn::named(name.as_ref())).collect::<Result<_, _>>()?;
        if columns.is_empty() {
            return Err(AuditError::new(ErrorKind::Query, "a CSV file without columns: name one at least"));
        }
        Ok(Self { columns, ..self })
    }

    /// The text of a cell of such a file, without the `'`s that guard formulas.
    ///
    /// ```
    /// # use tracing_audit::export::Csv;
    /// assert_eq!(Csv::new().original("a;'=1+1;"), "a;=1+1;");
    /// ```
    #[must_use]
    pub fn original<'a>(&self, cell: &'a str) -> Cow<'a, str> {
        if self.raw { Cow::Borrowed(cell) } else { original(cell, char::from(self.separator)) }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Whether a row of the entry alone is not enough.
    pub(super) fn needs_place(&self) -> bool {
        self.columns.iter().any(CsvColumn::is_of_place)
    }

    /// The bytes before the first row.
    pub(super) fn head(&self) -> csv::Result<Vec<u8>> {
        let mut csv = self.writer(if self.bom { "\u{feff}".as_bytes().to_vec() } else { Vec::new() });
        for column in &self.columns {
            csv.write_field(self.text(&column.to_string()).as_bytes())?;
        }
        csv.write_record(None::<&[u8]>)?;
        csv.into_inner().map_err(|error| error.into_error().into())
    }

    pub(super) fn writer<W: Write>(&self, into: W) -> csv::Writer<W> {
        self.builder().from_writer(into)
    }

    fn builder(&self) -> csv::WriterBuilder {
        let mut builder = csv::WriterBuilder::new();
        builder.delimiter(self.separator);
        builder
    }

    /// Makes room for a row with a long text, between two rows: the writer looks through all that is left of a cell each time
    /// that its buffer is full, which takes quadratic time where the buffer is a small part of the cell.
    fn make_room<W: Write + Default>(&self, csv: &mut csv::Writer<W>, row: &Row) -> csv::Result<()> {
        const LONG: usize = 64 << 10;
        let texts = [
            Some(&*row.metadata),
            row.reason.as_deref(),
            row.resource_id.as_deref(),
            row.problems.as_deref(),
            Some(&*row.action),
            Some(&*row.resource),
        ];
        let longest = texts.into_iter().flatten().map(str::len).max().unwrap_or(0);
        if longest < LONG {
            return Ok(());
        }
        let before = std::mem::replace(csv, self.writer(W::default()));
        let into = before.into_inner().map_err(csv::IntoInnerError::into_error)?;
        // Quotation marks are doubled.
        *csv = self.builder().buffer_capacity(longest.saturating_mul(2)).from_writer(into);
        Ok(())
    }

    /// Writes one row. Its place is needed if there are columns of it.
    pub(super) fn write<W: Write + Default>(
        &self,
        csv: &mut csv::Writer<W>,
        row: &Row,
        place: Option<&LedgerRow>,
    ) -> csv::Result<()> {
        self.make_room(csv, row)?;
        let has_paths = self.columns.iter().any(|column| matches!(column, CsvColumn::Path(_)));
        let metadata = has_paths.then(|| serde_json::from_str::<Value>(&row.metadata).ok()).flatten();
        for column in &self.columns {
            let cell = match column {
                CsvColumn::Id => id(Some(row.id)),
                CsvColumn::SessionId => id(row.session_id),
                CsvColumn::WorkspaceId => id(Some(row.workspace_id)),
                CsvColumn::AgentId => id(row.agent_id),
                CsvColumn::Action => self.text(&row.action),
                CsvColumn::Resource => self.text(&row.resource),
                CsvColumn::ResourceId => self.text(row.resource_id.as_deref().unwrap_or("")),
                CsvColumn::Decision => self.text(&row.decision),
                CsvColumn::Reason => self.text(row.reason.as_deref().unwrap_or("")),
                CsvColumn::RiskScore => {
                    row.risk_score.map_or(Cow::Borrowed(""), |score| decimals(score).into())
                }
                CsvColumn::Ts => time(from_micros(row.ts)),
                CsvColumn::Metadata => self.json(&row.metadata),
                CsvColumn::Path(path) => {
                    match metadata.as_ref().and_then(|metadata| value_at(metadata, path)) {
                        None => Cow::Borrowed(""),
                        Some(Value::String(text)) => self.text(text),
                        Some(value) => self.json(&value.to_string()).into_owned().into(),
                    }
                }
                CsvColumn::Ledger => self.text(place.map_or("", |place| &place.ledger)),
                CsvColumn::Seq => place.map_or(Cow::Borrowed(""), |place| place.seq.to_string().into()),
                CsvColumn::CommittedAt => place.map_or(Cow::Borrowed(""), |place| {
                    time(place.committed_at.map_or_else(|| from_micros(row.ts), from_micros))
                }),
                CsvColumn::Problems => {
                    let problems = place.map(|place| sequenced(place.clone()).problems).unwrap_or_default();
                    let list = |problems: Vec<String>| Value::from(problems).to_string();
                    let list = if problems.is_empty() { String::new() } else { list(problems) };
                    self.json(&list).into_owned().into()
                }
            };
            csv.write_field(cell.as_bytes())?;
        }
        csv.write_record(None::<&[u8]>)
    }

    fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.raw { Cow::Borrowed(text) } else { guarded(text, char::from(self.separator)) }
    }

    fn json<'a>(&self, json: &'a str) -> Cow<'a, str> {
        if self.raw { Cow::Borrowed(json) } else { guarded_json(json, char::from(self.separator)) }
    }
}

fn id(id: Option<Uuid>) -> Cow<'static, str> {
    id.map_or(Cow::Borrowed(""), |id| id.to_string().into())
}

fn time(time: DateTime<Utc>) -> Cow<'static, str> {
    time.to_rfc3339_opts(SecondsFormat::Micros, true).into()
}

/// The score with four decimals. Few scores have more than four. The others are written as a whole number of
/// ten-thousandths, in a fraction of the time that the formatter of all numbers takes.
fn decimals(score: f64) -> String {
    let scaled = (score * 10_000.0).round();
    if score.is_sign_positive() && scaled < 100_000.0 && (scaled / 10_000.0).to_bits() == score.to_bits() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it has five digits")]
        let scaled = scaled as u32;
        let digit = |unit| char::from(b'0' + (scaled / unit % 10) as u8);
        [digit(10_000), '.', digit(1000), digit(100), digit(10), digit(1)].into_iter().collect()
    } else {
        format!("{score:.4}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entry::{AuditEntry, row_of};

    proptest! {
        #[test]
        fn a_score_is_written_as_the_standard_formatter_writes_four_decimals(
            score in prop_oneof![(0..20_000_u32).prop_map(|n| f64::from(n) / 10_000.0), 0.0..1.0, any::<f64>()],
        ) {
            prop_assert_eq!(decimals(score), format!("{score:.4}"));
        }
    }

    /// The file of one entry.
    fn file(layout: &Csv, row: &Row) -> String {
        let place = LedgerRow { ledger: "=main".into(), seq: 7, row: row.clone(), committed_at: Some(0) };
        let mut csv = layout.writer(layout.head().unwrap());
        layout.write(&mut csv, row, Some(&place)).unwrap();
        String::from_utf8(csv.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn a_file_has_the_columns_the_separator_and_the_mark_that_were_asked_for() {
        let mut entry = AuditEntry::new(Uuid::nil(), "a;=1+1", "re\u{2028}=2");
        entry.metadata = json!({ "client": { "ip": "10.0.0.1" }, "n": [1, -2], "note": "a;=1" });
        let mut row = row_of(entry);
        let names =
            ["seq", "ledger", "action", "resource", "metadata.client.ip", "metadata.n", "metadata.none"];
        let layout = Csv::new().columns(names).unwrap().separator(';').unwrap().bom();
        assert_eq!(
            file(&layout, &row),
            "\u{feff}seq;ledger;action;resource;metadata.client.ip;metadata.n;metadata.none\n\
             7;'=main;\"a;'=1+1\";re\u{2028}'=2;10.0.0.1;[1,-2];\n"
        );
        let layout = Csv::new().columns(["metadata", "risk_score", "committed_at", "problems"]).unwrap();
        row.risk_score = None;
        row.problems = Some(r#"["=1: x"]"#.into());
        assert_eq!(
            file(&layout, &row),
            "metadata,risk_score,committed_at,problems\n\
             \"{\"\"client\"\":{\"\"ip\"\":\"\"10.0.0.1\"\"},\"\"n\"\":[1,-2],\"\"note\"\":\"\"a;\\u003d1\"\"}\",,\
             1970-01-01T00:00:00.000000Z,\"[\"\"=1: x\"\"]\"\n"
        );
        let raw = layout.raw().columns(["action"]).unwrap().separator('\t').unwrap();
        assert_eq!(file(&raw, &row), "action\na;=1+1\n");
        assert!(
            file(&Csv::new(), &row).starts_with("id,session_id,")
                && file(&Csv::new(), &row).contains(",ledger,seq\n")
        );
    }

    /// Counts the pieces in which something is written.
    #[derive(Default)]
    struct Counted {
        bytes: Vec<u8>,
        pieces: usize,
    }

    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.pieces += 1;
            self.bytes.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_long_text_is_written_in_few_pieces_and_read_back_whole() {
        let long = "x".repeat(1 << 20);
        let rows: Vec<Row> =
            [json!({ "short": 1 }), json!({ "v": long }), json!({ "f": [";=1", "\"".repeat(1 << 18)] })]
                .into_iter()
                .map(|metadata| row_of(AuditEntry { metadata, ..AuditEntry::new(Uuid::nil(), "a", "r") }))
                .chain([Row {
                    reason: Some(long.clone().into()),
                    ..row_of(AuditEntry::new(Uuid::nil(), "a", "r"))
                }])
                .collect();
        let layout = Csv::new().columns(["action", "metadata", "reason"]).unwrap();
        let mut csv = layout.writer(Counted::default());
        for row in &rows {
            layout.write(&mut csv, row, None).unwrap();
        }
        let Counted { bytes, pieces } = csv.into_inner().map_err(|_| "not written").unwrap();
        assert!(pieces < 16, "{pieces}");
        let mut read = csv::ReaderBuilder::new().has_headers(false).from_reader(&*bytes);
        let read: Vec<csv::StringRecord> = read.records().map(Result::unwrap).collect();
        assert_eq!(read.len(), rows.len());
        for (read, row) in read.iter().zip(&rows) {
            let metadata: Value = serde_json::from_str(&read[1]).unwrap();
            assert_eq!(metadata, serde_json::from_str::<Value>(&row.metadata).unwrap());
            assert_eq!(&read[2], row.reason.as_deref().unwrap_or(""));
        }
    }

    #[test]
    fn columns_and_separators_that_cannot_be_are_refused() {
        for name in ["", "colour", "metadata.", "Metadata", "seq "] {
            let error = Csv::new().columns([name]).unwrap_err();
            assert!(error.is_query() && error.to_string().contains("committed_at"), "{error}");
        }
        for path in ["metadata.tags[-1]", "metadata.a..b", "metadata.\"a.b"] {
            let error = Csv::new().columns([path]).unwrap_err();
            assert!(error.is_query() && error.to_string().starts_with(path), "{error}");
        }
        assert!(Csv::new().columns([""; 0]).unwrap_err().is_query());
        for separator in ['"', '\'', '=', '-', 'a', '5', '\n', ' ', 'é', '\0'] {
            assert!(Csv::new().separator(separator).unwrap_err().is_config(), "{separator:?}");
        }
        for separator in [',', ';', '\t', '|', ':', '^'] {
            Csv::new().separator(separator).unwrap();
        }
    }
}
