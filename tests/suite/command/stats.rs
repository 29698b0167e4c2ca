//! Counts over time.

use serde_json::Value;
use tracing_audit::{AuditEntry, Store};
use uuid::Uuid;

use super::{EVENTS, answer, emit, run, shows};
use crate::support::{self, log, postgres::server};

#[test]
fn counts_over_time_are_drawn_as_columns_with_gaps_for_empty_days() {
    let fixture = log();
    for (event, times) in [(0, 3), (2, 1), (4, 2)] {
        (0..times).for_each(|_| emit(&fixture.log, &EVENTS[event]));
    }
    fixture.log.blocking().flush().unwrap();
    shows(
        &fixture.db,
        "stats --by day",
        "
3 │█
  │█
  │█                                         █
  │█                                         █
  │██                                        █
  │██                                        █
  └2026-10-05                       2026-11-16

day (UTC)   entries  %                           first                 last
2026-10-05  3        50.0  ████████████████████  2026-10-05 08:00:00Z  2026-10-05 08:00:00Z
2026-10-06  1        16.7  ███████               2026-10-06 09:00:00Z  2026-10-06 09:00:00Z
2026-11-16  2        33.3  ██████████████        2026-11-16 22:59:00Z  2026-11-16 22:59:00Z

3 counts, 6 entries",
    );
}

/// The counts by day of these moments, as the command gives them.
fn days_of(db: &str, times: &[&str], log: &tracing_audit::AuditLog, arguments: &str) -> Vec<(String, u64)> {
    for time in times {
        let entry = AuditEntry { ts: time.parse().unwrap(), ..AuditEntry::new(Uuid::nil(), "a", "r") };
        log.writer().blocking().write(entry).unwrap();
    }
    log.blocking().flush().unwrap();
    let lines = answer(db, arguments);
    let count = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["key"].as_str().unwrap().to_owned(), line["entries"].as_u64().unwrap())
    };
    lines.lines().map(count).collect()
}

/// Days of 23, 24 and 25 hours, and one of 24 and a half.
fn days_of_a_zone_are_counted(log: &tracing_audit::AuditLog, db: &str) {
    let times = [
        // Berlin: the last and the first moments of the days around both changes of the clock.
        "2026-03-28T22:59:59.999999Z",
        "2026-03-28T23:00:00Z",
        "2026-03-29T21:59:59Z",
        "2026-03-29T22:00:00Z",
        "2026-10-24T21:59:59Z",
        "2026-10-24T22:00:00Z",
        "2026-10-25T22:59:59Z",
        "2026-10-25T23:00:00Z",
        "2026-10-31T22:59:59Z",
        "2026-10-31T23:00:00Z",
        "2026-11-30T22:59:59Z",
        "2026-11-30T23:00:00Z",
    ];
    let key = |(key, entries): (String, u64)| format!("{key} {entries}");
    let days: Vec<_> =
        days_of(db, &times, log, "stats --by day --tz Europe/Berlin").into_iter().map(key).collect();
    assert_eq!(
        days,
        [
            "2026-03-28T00:00:00+01:00 1",
            "2026-03-29T00:00:00+01:00 2",
            "2026-03-30T00:00:00+02:00 1",
            "2026-10-24T00:00:00+02:00 1",
            "2026-10-25T00:00:00+02:00 2",
            "2026-10-26T00:00:00+01:00 1",
            "2026-10-31T00:00:00+01:00 1",
            "2026-11-01T00:00:00+01:00 1",
            "2026-11-30T00:00:00+01:00 1",
            "2026-12-01T00:00:00+01:00 1",
        ]
    );
    // A month of the zone has the days of that month, and no others.
    let november = days_of(db, &[], log, "stats --by day --tz Europe/Berlin --month 2026-11");
    assert_eq!(
        november.iter().map(|(day, _)| day.split_once('T').unwrap().0).collect::<Vec<_>>(),
        ["2026-11-01", "2026-11-30"]
    );
    // An hour that occurs twice is two hours, and half-hour zones have hours of their own.
    let hours = days_of(
        db,
        &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
        log,
        "stats --by hour --tz Europe/Berlin --on 2026-10-25",
    );
    assert_eq!(
        hours.into_iter().map(|(hour, _)| hour).collect::<Vec<_>>(),
        [
            "2026-10-25T00:00:00+02:00",
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T23:00:00+01:00"
        ]
    );
    let half = days_of(db, &[], log, "stats --by hour --tz Asia/Kolkata --on 2026-03-29");
    assert_eq!(half, [("2026-03-29T04:00:00+05:30".to_owned(), 2)]);
    // 24 and a half hours, where the clock is set back by half an hour.
    let times =
        ["2026-04-04T13:00:00Z", "2026-04-04T12:59:59Z", "2026-04-05T13:29:59Z", "2026-04-05T13:30:00Z"];
    let lord_howe = days_of(
        db,
        &times,
        log,
        "stats --by day --tz Australia/Lord_Howe --since 2026-04-04 --before 2026-04-08",
    );
    let lord_howe: Vec<_> = lord_howe.into_iter().map(key).collect();
    assert_eq!(
        lord_howe,
        ["2026-04-04T00:00:00+11:00 1", "2026-04-05T00:00:00+11:00 2", "2026-04-06T00:00:00+10:30 1"]
    );
    // The keys of a table, of its chart and of an hour agree.
    let table = answer(db, "stats --by hour --tz Asia/Kolkata --on 2026-03-29 --format table");
    assert_eq!(table.matches("2026-03-29 04:00:00+05:30").count(), 2, "{table}");
    assert!(answer(db, "stats --by day --tz Asia/Kolkata --format table").contains("day (Asia/Kolkata)"));
}

#[test]
fn days_of_a_zone_are_those_of_its_clock_in_sqlite() {
    let fixture = log();
    days_of_a_zone_are_counted(&fixture.log, &fixture.db);
}

#[test]
fn days_of_a_zone_are_those_of_its_clock_in_postgres() {
    let url = server().create_database();
    let builder = support::builder(Store::postgres(&url).unwrap()).in_memory_queue();
    let log = builder.queue_max_entries(100).queue_max_bytes(1 << 20).blocking().open().unwrap();
    days_of_a_zone_are_counted(&log, &url);
}

#[test]
fn periods_are_compared_day_by_day_and_the_answer_says_which() {
    let fixture = log();
    let times = [
        "2026-10-01T12:00:00Z",
        "2026-10-31T12:00:00Z",
        "2026-11-01T12:00:00Z",
        "2026-11-01T13:00:00Z",
        "2026-11-05T00:00:00Z",
    ];
    days_of(&fixture.db, &times, &fixture.log, "stats");
    let output = run(&fixture.db, "stats --by day --compare --month 2026-11");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("now: 2026-11-01 00:00:00Z to 2026-12-01 00:00:00Z (30 days"), "{said}");
    assert!(said.contains("before: from 2026-10-01 00:00:00Z (31 days)"), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let day = |name: &str| line[name].as_str().unwrap().split_once('T').unwrap().0.to_owned();
            (
                day("key"),
                day("key_before"),
                line["entries"].as_u64().unwrap(),
                line["entries_before"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = |now: &str, before: &str, entries, entries_before| {
        (now.to_owned(), before.to_owned(), entries, entries_before)
    };
    assert_eq!(
        told,
        [
            expected("2026-11-01", "2026-10-01", 2, 1),
            expected("2026-11-05", "2026-10-05", 1, 0),
            expected("2026-12-01", "2026-10-31", 0, 1),
        ]
    );
    shows(
        &fixture.db,
        "stats --by day --compare --month 2026-11",
        "
now: 2026-11-01 00:00:00Z to 2026-12-01 00:00:00Z (30 days); before: from 2026-10-01 00:00:00Z (31 days)
day (UTC)   compared with  before  now  change
2026-11-01  2026-10-01     1       2    +1
2026-11-05  2026-10-05     0       1    +1
2026-12-01  2026-10-31     1       0    -1",
    );
}

#[test]
fn counts_by_two_fields_come_with_totals_and_say_what_is_left_out() {
    let fixture = log();
    let times =
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-01T13:00:00Z", "2026-11-02T13:00:00Z"];
    days_of(&fixture.db, &times, &fixture.log, "stats");
    for (action, decision, number) in [("a", "Deny", 3), ("b", "Allow", 2), ("b", "Deny", 1)] {
        for _ in 0..number {
            let entry = AuditEntry {
                decision: decision.to_owned(),
                ts: "2026-11-03T00:00:00Z".parse().unwrap(),
                ..AuditEntry::new(Uuid::nil(), action, "r")
            };
            fixture.log.writer().blocking().write(entry).unwrap();
        }
    }
    fixture.log.blocking().flush().unwrap();
    shows(
        &fixture.db,
        "stats --by action,decision --since 2026-11-03 --before 2026-11-04",
        "
action  decision  entries  %                           first                 last
a       Deny      3        50.0  ████████████████████  2026-11-03 00:00:00Z  2026-11-03 00:00:00Z
b       Allow     2        33.3  ██████████████        2026-11-03 00:00:00Z  2026-11-03 00:00:00Z
b       Deny      1        16.7  ███████               2026-11-03 00:00:00Z  2026-11-03 00:00:00Z

3 counts, 6 entries",
    );
    let output = run(&fixture.db, "stats --by action,decision --limit 1");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap().lines().next().unwrap(),
        "tracing-audit: 1 of 4 counts, 4 of 10 entries (40.0 %); --limit 0 shows all"
    );
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["keys"], serde_json::json!([{ "key": "a", "name": null }, { "key": "", "name": null }]));
    // An entry of the year 1 and one of the year 9999 leave the others their columns.
    let chart = answer(&fixture.db, "stats --by day --format table");
    let (chart, _) = chart.split_once("\n\n").unwrap();
    assert!(chart.starts_with("6 │"), "{chart}");
    assert!(
        chart.contains("└2026-11-01") && chart.contains("not in the chart: 1 entry before this"),
        "{chart}"
    );
    assert!(chart.contains("not in the chart: 1 entry after this"), "{chart}");
}
