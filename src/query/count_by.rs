//! The properties that entries can be counted by.

use std::fmt;

use super::column::Column;
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
use crate::entry::from_micros;

/// A property that entries are counted by: entries with the same value are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CountBy {
    /// The hour of `ts`, in UTC.
    Hour,
    /// The day of `ts`, in UTC.
    Day,
    /// The ledger.
    Ledger,
    /// The value in this column.
    Column(Column),
    /// The value at this path in the metadata, spelled as in
    /// [`AuditQuery::metadata_any_of`](super::AuditQuery::metadata_any_of).
    Metadata(String),
}

impl CountBy {
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    /// Whether the counts are periods of time, which have an order of their own.
    pub(crate) fn is_time(&self) -> bool {
        matches!(self, Self::Hour | Self::Day)
    }
}

impl fmt::Display for CountBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => f.pad("hour"),
            Self::Day => f.pad("day"),
            Self::Ledger => f.pad("ledger"),
            Self::Column(column) => column.fmt(f),
            Self::Metadata(path) => write!(f, "metadata.{path}"),
        }
    }
}

/// The beginning of an hour or a day, in RFC 3339, as the key of a count.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) fn spelled(micros: i64) -> String {
    from_micros(micros).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
