//! `ZoneOffsets`: how far a clock is from UTC, and when that changes.

use chrono::{DateTime, Utc};

/// The greatest distance of a clock from UTC, in seconds: a day.
const MOST: i32 = 86_400;

/// The offsets of a time zone's clock from UTC, and the moments at which they change, such as those of summer time.
///
/// This crate knows no time zones: a crate that knows them, such as `chrono-tz`, says what these offsets are.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tracing_audit::query::{CountBy, ZoneOffsets};
///
/// // Berlin in 2026.
/// let berlin = ZoneOffsets::new(3600)
///     .since("2026-03-29T01:00:00Z".parse()?, 7200)
///     .since("2026-10-25T01:00:00Z".parse()?, 3600);
/// let by = CountBy::DayIn(berlin);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneOffsets {
    first: i32,
    /// Each the first microsecond since 1970 of another offset, in ascending order.
    changes: Vec<(i64, i32)>,
}

impl ZoneOffsets {
    /// A clock that is this many seconds ahead of UTC (or, if negative, behind it), at most a day.
    #[must_use]
    pub fn new(seconds: i32) -> Self {
        Self { first: seconds.clamp(-MOST, MOST), changes: Vec::new() }
    }

    /// The same clock, which from this moment on is this many seconds ahead of UTC. An offset that was given for this
    /// moment or a later one is replaced.
    #[must_use]
    pub fn since(mut self, moment: DateTime<Utc>, seconds: i32) -> Self {
        let moment = moment.timestamp_micros();
        self.changes.truncate(self.changes.partition_point(|(earlier, _)| *earlier < moment));
        self.changes.push((moment, seconds.clamp(-MOST, MOST)));
        self
    }
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl ZoneOffsets {
    /// Makes one expression of all offsets: `constant` makes that of an offset in seconds, and `choice` that of one
    /// expression before a moment, in microseconds since 1970, and another one from there on. The choices are nested as
    /// few levels deep as possible.
    pub(crate) fn expression(
        &self,
        constant: &impl Fn(i32) -> String,
        choice: &impl Fn(i64, &str, &str) -> String,
    ) -> String {
        Self::within(self.first, &self.changes, constant, choice)
    }

    fn within(
        first: i32,
        changes: &[(i64, i32)],
        constant: &impl Fn(i32) -> String,
        choice: &impl Fn(i64, &str, &str) -> String,
    ) -> String {
        let (before, from) = changes.split_at(changes.len() / 2);
        let [(moment, offset), after @ ..] = from else { return constant(first) };
        let before = Self::within(first, before, constant, choice);
        let after = Self::within(*offset, after, constant, choice);
        choice(*moment, &before, &after)
    }
}

#[cfg(all(test, any(feature = "_sqlite", feature = "postgres")))]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    }

    #[test]
    fn offsets_are_chosen_in_the_order_of_time() {
        let text = |offsets: &ZoneOffsets| {
            offsets.expression(&|offset| offset.to_string(), &|moment, before, after| {
                format!("({before} <{} {after})", moment / 1_000_000)
            })
        };
        let mut offsets = ZoneOffsets::new(-90_000);
        assert_eq!(text(&offsets), "-86400");
        for moment in 1..=4 {
            offsets = offsets.since(at(moment), i32::try_from(moment * 10).unwrap());
        }
        assert_eq!(text(&offsets), "(((-86400 <1 10) <2 20) <3 (30 <4 40))");
        assert_eq!(text(&offsets.since(at(2), 7)), "((-86400 <1 10) <2 7)");
    }
}
