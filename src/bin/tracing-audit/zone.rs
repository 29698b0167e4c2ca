//! Time zones, and the moment that the command takes for now.

use std::{fmt, fs::File, io::Read, path::Path, sync::OnceLock};

use chrono::{
    DateTime, FixedOffset, Local, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta,
    TimeZone, Utc,
};
use chrono_tz::Tz;
use tracing_audit::query::ZoneOffsets;

/// The zone in which times are given and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    Named(Tz),
    Fixed(FixedOffset),
    /// The zone of this computer, or of the variable `TZ`.
    Local,
}

/// The moment that this run of the command takes for now, wherever it is asked for.
pub(crate) fn now() -> DateTime<Utc> {
    static NOW: OnceLock<DateTime<Utc>> = OnceLock::new();
    *NOW.get_or_init(Utc::now)
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utc => f.write_str("UTC"),
            Self::Named(zone) => f.write_str(zone.name()),
            Self::Fixed(offset) => offset.fmt(f),
            Self::Local => f.write_str("local time"),
        }
    }
}

impl Zone {
    /// The zone of this name; of `local`, `UTC`, or an offset such as +02:00.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if name.eq_ignore_ascii_case("local") {
            let variable = std::env::var_os("TZ").unwrap_or_default();
            return local(&variable.to_string_lossy());
        }
        if ["utc", "z", "+00:00", "-00:00"].iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
            return Ok(Self::Utc);
        }
        if let Some(offset) = fixed(name) {
            return Ok(Self::Fixed(offset));
        }
        let same = |zone: &&Tz| zone.name().eq_ignore_ascii_case(name);
        let named = chrono_tz::TZ_VARIANTS.iter().find(same);
        named.copied().map(Self::Named).ok_or_else(|| {
            "no time zone has this name; give one as Europe/Berlin, +02:00, UTC or local".to_owned()
        })
    }

    fn offset(self, at: DateTime<Utc>) -> FixedOffset {
        let at = at.naive_utc();
        match self {
            Self::Utc => Utc.fix(),
            Self::Named(zone) => zone.offset_from_utc_datetime(&at).fix(),
            Self::Fixed(offset) => offset,
            Self::Local => Local.offset_from_utc_datetime(&at),
        }
    }

    /// The date and time on the zone's clock at this moment.
    pub(crate) fn at(self, time: DateTime<Utc>) -> DateTime<FixedOffset> {
        time.with_timezone(&self.offset(time))
    }

    /// The moment as a date and a time, to the second, and with the clock's distance from UTC.
    pub(crate) fn shown(self, time: DateTime<Utc>) -> String {
        let format = if self == Self::Utc { "%Y-%m-%d %H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%S%:z" };
        self.at(time).format(format).to_string()
    }

    /// The first moment at which the zone's clock shows this time. `None` if it never does.
    fn earliest(self, time: &NaiveDateTime) -> Option<DateTime<Utc>> {
        fn first<O: TimeZone>(found: MappedLocalTime<DateTime<O>>) -> Option<DateTime<Utc>> {
            found.earliest().map(|time| time.with_timezone(&Utc))
        }
        match self {
            Self::Utc => Some(time.and_utc()),
            Self::Named(zone) => first(zone.from_local_datetime(time)),
            Self::Fixed(offset) => first(offset.from_local_datetime(time)),
            Self::Local => first(Local.from_local_datetime(time)),
        }
    }

    /// The moment of a local time. A time that the clock skips when it is set forward means the moment of that change;
    /// one that occurs twice, when the clock is set back, means its first occurrence.
    pub(crate) fn moment(self, time: NaiveDateTime) -> Option<DateTime<Utc>> {
        // The longest time that a zone has ever skipped is a day. Changes are at whole minutes of the clock.
        let after = |minutes| time.checked_add_signed(TimeDelta::minutes(minutes));
        let found = self.earliest(&time);
        found.or_else(|| (1..=24 * 60).filter_map(after).find_map(|time| self.earliest(&time)))
    }

    /// The first moment of a day.
    pub(crate) fn midnight(self, day: NaiveDate) -> Option<DateTime<Utc>> {
        self.moment(day.and_time(NaiveTime::MIN))
    }

    /// The zone's offsets for counting: those of the years 1850 to 2150.
    pub(crate) fn offsets(self) -> ZoneOffsets {
        const FIRST: i64 = -3_786_825_600;
        const LAST: i64 = 5_680_281_600;
        const STEP: i64 = 86_400;
        let seconds = |at: i64| {
            let at = DateTime::from_timestamp(at, 0).unwrap_or_default();
            self.offset(at).local_minus_utc()
        };
        let mut known = seconds(FIRST);
        let mut offsets = ZoneOffsets::new(known);
        if matches!(self, Self::Utc | Self::Fixed(_)) {
            return offsets;
        }
        let mut at = FIRST;
        while at < LAST {
            let (mut before, mut after) = (at, at + STEP);
            at = after;
            let new = seconds(after);
            if new == known {
                continue;
            }
            while after - before > 1 {
                let middle = before.midpoint(after);
                if seconds(middle) == known { before = middle } else { after = middle }
            }
            known = new;
            offsets = offsets.since(DateTime::from_timestamp(after, 0).unwrap_or_default(), new);
        }
        offsets
    }
}

/// The zone of this computer, if the variable `TZ` has this value. A value that is not a zone would count as UTC.
fn local(variable: &str) -> Result<Zone, String> {
    let name = variable.strip_prefix(':').unwrap_or(variable);
    let is_known = name.is_empty() || name.parse::<Tz>().is_ok();
    // The files of time zones begin so. Only files are opened: opening anything else might wait.
    let is_file = |directory: &str| {
        let (path, mut begin) = (Path::new(directory).join(name), [0; 4]);
        path.is_file()
            && File::open(&path).and_then(|mut file| file.read_exact(&mut begin)).is_ok()
            && begin == *b"TZif"
    };
    // As `CET-1CEST`: letters, or anything in angle brackets, and an offset.
    let rule = name.strip_prefix('<').and_then(|rest| Some(rest.split_once('>')?.1));
    let rule = rule.unwrap_or_else(|| name.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
    let is_rule = rule.len() < name.len()
        && rule.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit());
    if is_known || is_rule || ["/usr/share/zoneinfo", "/etc/zoneinfo"].into_iter().any(is_file) {
        return Ok(Zone::Local);
    }
    Err(format!(
        "the variable TZ is {variable:?}, which is no time zone: set it as Europe/Berlin, or unset it"
    ))
}

/// An offset: a sign, hours, and perhaps minutes.
fn fixed(text: &str) -> Option<FixedOffset> {
    let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or_else(|| {
        if rest.len() == 4 { rest.split_at_checked(2).unwrap_or((rest, "0")) } else { (rest, "0") }
    });
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok())?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_names_and_offsets() {
        for (name, shown) in [
            ("UTC", "2026-07-01 12:00:00Z"),
            ("z", "2026-07-01 12:00:00Z"),
            ("europe/berlin", "2026-07-01 14:00:00+02:00"),
            ("+05:30", "2026-07-01 17:30:00+05:30"),
            ("-0330", "2026-07-01 08:30:00-03:30"),
            ("+2", "2026-07-01 14:00:00+02:00"),
        ] {
            let zone = Zone::parse(name).unwrap();
            assert_eq!(zone.shown("2026-07-01T12:00:00Z".parse().unwrap()), shown, "{name}");
        }
        for wrong in ["Mars/Olympus", "+", "+24:00", "+1:60", "++1", "", "+é:1", "2"] {
            assert!(Zone::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Zone::parse("LOCAL").unwrap(), Zone::Local);
    }

    #[test]
    fn what_is_no_zone_is_no_local_time() {
        for known in
            ["", "UTC", "Europe/Berlin", ":Europe/Berlin", "CET-1CEST", "<+03>-3", "EST5EDT,M3.2.0,M11.1.0"]
        {
            assert_eq!(local(known), Ok(Zone::Local), "{known}");
        }
        for wrong in [
            "Mars/Olympus",
            "XYZ",
            "5",
            "Europe",
            "<+03",
            "/no/such/file",
            "\u{1b}[2J",
            "/etc/passwd",
            ":/etc/passwd",
        ] {
            assert!(local(wrong).unwrap_err().starts_with("the variable TZ is "), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_the_clock_skips_is_the_moment_of_the_change() {
        let moment =
            |zone: &str, time: &str| Zone::parse(zone).unwrap().moment(time.parse().unwrap()).unwrap();
        assert_eq!(moment("Europe/Berlin", "2026-03-29T02:30:00").to_rfc3339(), "2026-03-29T01:00:00+00:00");
        assert_eq!(moment("Europe/Berlin", "2026-10-25T02:30:00").to_rfc3339(), "2026-10-25T00:30:00+00:00");
        // Half an hour is skipped.
        assert_eq!(
            moment("Australia/Lord_Howe", "2026-10-04T02:15:00").to_rfc3339(),
            "2026-10-03T15:30:00+00:00"
        );
        // A whole day is skipped.
        assert_eq!(moment("Pacific/Apia", "2011-12-30T12:00:00").to_rfc3339(), "2011-12-30T10:00:00+00:00");
    }

    #[test]
    fn the_offsets_for_counting_change_when_the_clock_does() {
        let expected = ZoneOffsets::new(3600);
        assert_eq!(Zone::Fixed(FixedOffset::east_opt(3600).unwrap()).offsets(), expected);
        let offsets = format!("{:?}", Zone::parse("Europe/Berlin").unwrap().offsets());
        for change in ["(1774746000000000, 7200)", "(1792890000000000, 3600)"] {
            assert!(offsets.contains(change), "{change}: {offsets}");
        }
    }
}
