//! Periods: parts of time that have ledgers of their own, and the names of these.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

/// A part of time whose entries have a ledger of their own: see [`AuditLogBuilder::period`](crate::AuditLogBuilder::period).
///
/// Periods begin at midnight in UTC.
///
/// ```
/// use tracing_audit::Period;
///
/// let at = "2026-12-31T23:59:59Z".parse().unwrap();
/// assert_eq!(Period::Month.ledger("payments", at), "payments-2026-12");
/// assert_eq!(Period::Day.ledger("payments", at), "payments-2026-12-31");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Period {
    /// A day: `2026-12-31`.
    Day,
    /// A month: `2026-12`.
    Month,
    /// A year: `2026`.
    Year,
}

impl Period {
    /// The name of the ledger for the period in which this moment lies. Such names are in the order of the periods.
    #[must_use]
    pub fn ledger(self, ledger: &str, at: DateTime<Utc>) -> String {
        named(ledger, &self.label(at))
    }

    /// The name of the period in which this moment lies.
    pub(crate) fn label(self, at: DateTime<Utc>) -> String {
        // Four digits, so that the order of the names is that of time.
        let (year, month, day) = (at.year().clamp(0, 9999), at.month(), at.day());
        match self {
            Self::Day => format!("{year:04}-{month:02}-{day:02}"),
            Self::Month => format!("{year:04}-{month:02}"),
            Self::Year => format!("{year:04}"),
        }
    }

    /// The first moment after the period in which this one lies.
    pub(crate) fn end(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let date = at.date_naive();
        let next = match self {
            Self::Day => date.succ_opt(),
            Self::Month if date.month() == 12 => NaiveDate::from_ymd_opt(date.year() + 1, 1, 1),
            Self::Month => NaiveDate::from_ymd_opt(date.year(), date.month() + 1, 1),
            Self::Year => NaiveDate::from_ymd_opt(date.year() + 1, 1, 1),
        };
        next.map_or(DateTime::<Utc>::MAX_UTC, |next| next.and_time(NaiveTime::MIN).and_utc())
    }

    /// Whether this is the name of such a period.
    pub(crate) fn is_label(self, text: &str) -> bool {
        let parts: Vec<&str> = text.split('-').collect();
        let number = |part: &str, digits: usize| {
            let is_plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { part.parse::<u32>().ok() } else { None }
        };
        let date = match (self, parts.as_slice()) {
            (Self::Day, [year, month, day]) => (number(year, 4), number(month, 2), number(day, 2)),
            (Self::Month, [year, month]) => (number(year, 4), number(month, 2), Some(1)),
            (Self::Year, [year]) => (number(year, 4), Some(1), Some(1)),
            _ => return false,
        };
        let (Some(year), Some(month), Some(day)) = date else { return false };
        NaiveDate::from_ymd_opt(year.cast_signed(), month, day).is_some()
    }

    /// The name of the period whose ledger this is, if it is one of a ledger of this name.
    pub(crate) fn label_of<'a>(self, ledger: &str, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(ledger)?.strip_prefix('-').filter(|label| self.is_label(label))
    }
}

/// The name of the ledger for the period of this name.
pub(crate) fn named(ledger: &str, label: &str) -> String {
    [ledger, "-", label].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn each_moment_is_in_the_period_that_ends_next() {
        for (moment, day, month, year) in [
            ("2026-12-31T23:59:59.999999Z", "2027-01-01", "2027-01-01", "2027-01-01"),
            ("2027-01-01T00:00:00Z", "2027-01-02", "2027-02-01", "2028-01-01"),
            ("2028-02-28T12:00:00Z", "2028-02-29", "2028-03-01", "2029-01-01"),
            ("1969-12-31T00:00:00Z", "1970-01-01", "1970-01-01", "1970-01-01"),
        ] {
            for (period, end) in [(Period::Day, day), (Period::Month, month), (Period::Year, year)] {
                let end = at(&format!("{end}T00:00:00Z"));
                assert_eq!(period.end(at(moment)), end, "{period:?} {moment}");
                let (this, next) = (period.label(at(moment)), period.label(end));
                assert!(this < next && period.is_label(&this), "{this} {next}");
                assert_eq!(period.label(end - chrono::TimeDelta::microseconds(1)), this);
                let ledger = period.ledger("a-2026", at(moment));
                assert_eq!(period.label_of("a-2026", &ledger), Some(&*this));
            }
        }
    }

    #[test]
    fn other_names_are_of_no_period() {
        for text in ["", "2026-13", "2026-1", "26-01", "2026-01-01", "2026-+1", "2026-012", "x2026-01"] {
            assert!(!Period::Month.is_label(text), "{text}");
        }
        assert!(!Period::Day.is_label("2027-02-29") && Period::Day.is_label("2028-02-29"));
        for name in ["payments", "payments-", "payments-2026", "payments2026-01", "other-2026-01"] {
            assert_eq!(Period::Month.label_of("payments", name), None, "{name}");
        }
    }
}
