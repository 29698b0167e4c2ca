//! Reads the clock once per entry: its `ts`, and the UUIDv7 of the same moment.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::platform::random;

/// The earliest time that can be stored, 0001-01-01 in microseconds since 1970: RFC 3339, and so CSV, has four digits
/// for the year.
pub(crate) const MIN_TS: i64 = -62_135_596_800_000_000;
/// The latest time that can be stored: the last microsecond of the year 9999.
pub(crate) const MAX_TS: i64 = 253_402_300_799_999_999;

/// One reading of the clock. An entry gets both its `ts` and its `id` from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Microseconds since 1970 in UTC; negative for earlier times.
    pub(crate) micros: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let micros = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(MAX_TS),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(MIN_TS, |micros| -micros),
        };
        Self { micros: micros.clamp(MIN_TS, MAX_TS) }
    }

    /// Returns a UUIDv7 with the fraction of the millisecond in its 12 `rand_a` bits (RFC 9562, section 6.2, method
    /// 3), so that the ids of one process ascend, and with 62 random bits. For times before 1970 the time part is zero.
    pub(crate) fn id(self) -> Uuid {
        let micros = u64::try_from(self.micros).unwrap_or(0);
        let fraction = (micros % 1000) * 4096 / 1000;
        let mut tail = [0_u8; 10];
        let (rand_a, rand_b) = tail.split_at_mut(2);
        // The fraction is below 4096, so the conversion cannot fail.
        rand_a.copy_from_slice(&u16::try_from(fraction).unwrap_or(0).to_be_bytes());
        rand_b.copy_from_slice(&random().to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(micros / 1000, &tail).into_uuid()
    }
}

/// Returns the time for microseconds since 1970, or the nearest one that can be stored.
pub(crate) fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros.clamp(MIN_TS, MAX_TS)).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_thread_ascend_with_the_microsecond() {
        let at = |micros| Moment { micros }.id();
        for micros in 1_700_000_000_000_000..1_700_000_000_002_000 {
            assert!(at(micros) < at(micros + 1), "{micros}");
        }
        assert_eq!(at(1_700_000_000_123_456).get_version_num(), 7);
        assert_eq!(at(-5).get_version_num(), 7);
    }
}
