//! Queries: several ledgers, several databases, hostile text, and a reader of the output that ends early.

use std::{
    io::{BufRead, BufReader},
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use tracing_audit::{AuditEntry, Store};
use uuid::Uuid;

use super::{EVENTS, answer, command, emit, filled, seqs, shows};
use crate::support::{self, log, postgres::server};

#[test]
fn a_reader_that_closes_the_output_early_is_no_error() {
    let fixture = filled(log());
    for _ in 0..500 {
        emit(&fixture.log, &EVENTS[0]);
    }
    fixture.settle();
    let db = fixture.directory.path().join("audit.db");
    for arguments in [
        ["query", "--limit=0"],
        ["export", "--format=csv"],
        ["export", "--format=jsonl"],
        ["tail", "--format=table"],
    ] {
        let mut process = command(db.to_str().unwrap())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Output { status, stderr, .. } = process.wait_with_output().unwrap();
        assert!(status.success() && stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    }
}

#[test]
fn control_characters_are_escaped_in_a_table() {
    let fixture = log();
    let hostile = AuditEntry {
        reason: Some("\u{1b}[2Jgone\u{202e}\n".to_owned()),
        ..AuditEntry::new(Uuid::nil(), "a\r\u{9b}", "r")
    };
    fixture.log.writer().blocking().commit(hostile).unwrap();
    let db = fixture.directory.path().join("audit.db");
    let table = answer(db.to_str().unwrap(), "query --format table");
    assert!(table.contains("a\\r\\u{9b}") && table.contains("\\u{1b}[2Jgone\\u{202e}\\n"), "{table}");
    assert_eq!(table.lines().count(), 2);
}

#[test]
fn an_entry_whose_own_time_is_years_ago_is_found_by_the_time_of_its_commit() {
    let fixture = log();
    let long_ago = AuditEntry {
        ts: "2020-01-01T00:00:00Z".parse().unwrap(),
        ..AuditEntry::new(Uuid::nil(), "long.ago", "r")
    };
    fixture.log.writer().blocking().commit(long_ago).unwrap();
    fixture.log.writer().blocking().commit(AuditEntry::new(Uuid::nil(), "today", "r")).unwrap();
    let db = fixture.directory.path().join("audit.db");
    let actions = |options: &str| {
        let lines = answer(db.to_str().unwrap(), &format!("query --oldest-first --format jsonl {options}"));
        let action = |line: &str| serde_json::from_str::<Value>(line).unwrap()["action"].clone();
        lines.lines().map(action).collect::<Vec<_>>()
    };
    assert_eq!(actions("--since 1d"), ["today"]);
    assert_eq!(actions("--committed-since 1d"), ["long.ago", "today"]);
    assert_eq!(actions("--committed-since 1d --before 2021-01-01"), ["long.ago"]);
    assert!(actions("--committed-before 1d").is_empty());

    let out = fixture.directory.path().join("out.csv");
    let export = format!("export --format csv --committed-since 1d --manifest -o {}", out.display());
    answer(db.to_str().unwrap(), &export);
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 3);
    let manifest = std::fs::read(fixture.directory.path().join("out.csv.manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["committed_since"].is_string() && manifest["since"].is_null(), "{manifest}");
}

#[test]
fn the_latest_and_the_earliest_of_several_databases_are_so_by_their_own_time() {
    let (first, second) = (log(), log());
    let at = |seconds: i64| chrono::DateTime::from_timestamp(1_760_000_000 + seconds, 0).unwrap();
    let commit = |log: &tracing_audit::AuditLog, times: &mut dyn Iterator<Item = i64>| {
        for time in times {
            let entry = AuditEntry { ts: at(time), ..AuditEntry::new(Uuid::nil(), "a", "r") };
            log.writer().blocking().write(entry).unwrap();
        }
        log.blocking().flush().unwrap();
    };
    // The second log commits 150 old entries late, and one of a time to come early.
    commit(&first.log, &mut (0..120).map(|n| 2 * n));
    commit(&second.log, &mut [9000].into_iter());
    commit(&second.log, &mut (0..60).map(|n| 2 * n + 1));
    commit(&second.log, &mut (0..150).map(|n| -1_000_000 + n));
    let mut expected: Vec<i64> = (0..120).map(|n| 2 * n).chain((0..60).map(|n| 2 * n + 1)).collect();
    expected.extend((0..150).map(|n| -1_000_000 + n).chain([9000]));
    expected.sort_unstable_by_key(|time| std::cmp::Reverse(*time));
    let times = |dbs: &[&str], options: &str| {
        let mut command = command("");
        command.env_remove("TRACING_AUDIT_DB").args(dbs.iter().flat_map(|db| ["--db", db])).arg("query");
        let Output { status, stdout, stderr } = command.args(options.split_whitespace()).output().unwrap();
        assert!(status.success(), "{options}: {}", String::from_utf8_lossy(&stderr));
        let ts = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["ts"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap()
        };
        let lines = String::from_utf8(stdout).unwrap();
        lines.lines().map(|line| (ts(line) - at(0)).num_seconds()).collect::<Vec<_>>()
    };
    let both = [&*first.db, &*second.db];
    assert_eq!(times(&both, ""), expected[..100]);
    assert_eq!(times(&both, "--limit 3"), expected[..3]);
    assert_eq!(times(&both, "--limit 0"), expected);
    let earliest: Vec<i64> = expected.iter().rev().copied().collect();
    assert_eq!(times(&both, "--limit 3 --oldest-first"), earliest[..3]);
    assert_eq!(times(&both, "--limit 0 --oldest-first"), earliest);
    // One alone too, and CSV has the same order.
    let of_second: Vec<i64> =
        expected.iter().copied().filter(|time| *time == 9000 || time % 2 != 0 || *time < 0).collect();
    assert_eq!(times(&[&second.db], "--limit 0"), of_second);
    assert_eq!(times(&[&second.db], "--limit 2"), of_second[..2]);
    let csv = answer(&second.db, "query --limit 0 --format csv");
    let csv = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(10).unwrap().parse::<chrono::DateTime<chrono::Utc>>());
    assert!(csv.map(|ts| (ts.unwrap() - at(0)).num_seconds()).eq(of_second));
    // The order of commit is that of the commands that say so.
    assert_eq!(seqs(&answer(&second.db, "tail -n all")), (0..211).collect::<Vec<_>>());
    assert_eq!(seqs(&answer(&second.db, "export")), (0..211).collect::<Vec<_>>());
    let help = answer(&second.db, "query --help");
    assert!(
        help.contains("their own time (ts), latest first") && help.contains("order of their commit"),
        "{help}"
    );
}

#[test]
fn several_databases_are_queried_as_one() {
    let (first, second) = (log(), log());
    for (log, events) in [(&first.log, [0, 2, 7]), (&second.log, [1, 3, 5])] {
        for event in events {
            emit(log, &EVENTS[event]);
        }
        log.blocking().flush().unwrap();
    }
    let link = |name: &str, to: &str| {
        let file = first.directory.path().join(name).display().to_string();
        std::os::unix::fs::symlink(to, &file).unwrap();
    };
    link("a", &first.db);
    link("b", &second.db);
    let run_in = |arguments: &str| {
        let mut command = command("");
        command.env_remove("TRACING_AUDIT_DB").current_dir(first.directory.path());
        command.args(arguments.split_whitespace()).output().unwrap()
    };
    let answer = |arguments: &str| {
        let Output { status, stdout, stderr } = run_in(arguments);
        assert!(status.success(), "{arguments}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    };
    let table = answer("--db a --db b query --limit 4 --format table");
    let expected = "
seq  time                  agent        action                 resource  decision  risk  reason
a/2  2026-11-17 12:05:00Z  alice        s3:DeleteObject        s3/D      Deny      0.95  legal hold
b/2  2026-11-16 23:30:00Z  alice        s3:GetObject           s3/D      Allow     0.10
b/1  2026-10-06 09:30:00Z  healthcheck  sts:GetCallerIdentity  sts       Allow
a/1  2026-10-06 09:00:00Z  bob          s3:DeleteObject        s3/D      Deny      0.90  not the owner
";
    assert_eq!(table.trim(), expected.trim(), "{table}");
    let lines = answer("query --db a --db b --limit 1 --oldest-first");
    assert!(lines.starts_with("{\"db\":\"a\",\"ledger\":\"main\",\"seq\":0"), "{lines}");
    let counts = answer("--db a --db b stats --by agent_id --format table");
    let expected = "
agent_id     entries  %                           first                 last
alice        4        66.7  ████████████████████  2026-10-05 08:00:00Z  2026-11-17 12:05:00Z
healthcheck  1        16.7  █████                 2026-10-06 09:30:00Z  2026-10-06 09:30:00Z
bob          1        16.7  █████                 2026-10-06 09:00:00Z  2026-10-06 09:00:00Z

3 counts, 6 entries
";
    assert_eq!(counts.trim(), expected.trim(), "{counts}");
    let changes = answer("--db a --db b stats --month 2026-11 --compare --by decision");
    let changes: Vec<Value> = changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change["key"].as_str().unwrap(), &change["entries_before"], &change["entries"]))
        .collect();
    assert_eq!(told, [("Allow", &json!(2), &json!(1)), ("Deny", &json!(2), &json!(1))]);
    let ledgers = answer("--db a --db b ledgers");
    assert_eq!(ledgers.matches("\"name\":\"main\",\"next_seq\":3").count(), 2);
    let lost = run_in("--db a stats --db b");
    assert_eq!(lost.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&lost.stderr).contains("on the same side"));
    // Neither a path nor a link makes two of one.
    for twice in ["--db a --db a query", "--db a --db ./a stats", "--db b --db a --db audit.db ledgers"] {
        let refused = run_in(twice);
        assert_eq!(refused.status.code(), Some(2), "{twice}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("are the same database"), "{twice}");
    }
    for alone in ["tail", "export", "quarantine retry", "migrate", "index add action", "query --format csv"] {
        let refused = run_in(&["--db a --db b ", alone].concat());
        assert_eq!(refused.status.code(), Some(2), "{alone}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("one --db at a time"), "{alone}");
    }
}

#[test]
fn entries_of_several_ledgers_are_shown_in_the_order_of_time_within_one_limit() {
    let url = server().create_database();
    for (ledger, events) in [("a", [2, 0]), ("b", [1, 3])] {
        let builder = support::builder(Store::postgres(&url).unwrap())
            .in_memory_queue()
            .queue_max_entries(100)
            .queue_max_bytes(1 << 20);
        let log = builder.ledger(ledger).blocking().open().unwrap();
        for event in events {
            emit(&log, &EVENTS[event]);
        }
        log.blocking().flush().unwrap();
    }
    shows(
        &url,
        "query --limit 3",
        "
seq  time                  agent        action                 resource  decision  risk  reason
b/1  2026-10-06 09:30:00Z  healthcheck  sts:GetCallerIdentity  sts       Allow
a/0  2026-10-06 09:00:00Z  bob          s3:DeleteObject        s3/D      Deny      0.90  not the owner
b/0  2026-10-05 08:01:00Z  alice        s3:PutObjectAcl        s3/D      Deny      0.70  outside of the company",
    );
    let lines = answer(&url, "export");
    assert_eq!(seqs(&lines), [0, 1, 0, 1]);
    assert!(lines.starts_with("{\"ledger\":\"a\""));
    // A server has any number of ledgers.
    assert_eq!(answer(&url, "migrate --ledger c"), "");
    let ledgers = answer(&url, "ledgers");
    assert_eq!(ledgers.lines().count(), 3, "{ledgers}");
}
