//! The properties that entries can be counted by.

use std::fmt;

use super::{column::Column, zone_offsets::ZoneOffsets};
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
    /// The hour of `ts` by the clock of a time zone. Its key is its beginning, in UTC.
    HourIn(ZoneOffsets),
    /// The day of `ts` by the clock of a time zone, which has 23 or 25 hours where that clock is set. Its key is its date,
    /// such as `2026-11-24`.
    DayIn(ZoneOffsets),
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
        matches!(self, Self::Hour | Self::Day | Self::HourIn(_) | Self::DayIn(_))
    }
}

impl fmt::Display for CountBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => f.pad("hour"),
            Self::Day => f.pad("day"),
            Self::HourIn(_) => f.pad("hour in a zone"),
            Self::DayIn(_) => f.pad("day in a zone"),
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

/// The date of the day that begins at this moment in UTC, as the key of a count by the days of a zone: the moment is what
/// the zone's clock shows, which may be a day beyond the first or last one that an entry can have.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) fn spelled_date(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default().format("%Y-%m-%d").to_string()
}
