//! What an answer covers, beside it: holes, the next page, exit codes, manifests; and the command `check`.

use std::process::Output;

use serde_json::{Value, json};
use tracing_audit::AuditEntry;
use uuid::Uuid;

use super::{answer, run, seqs};
use crate::support::{Fixture, log, settle};

fn filled(entries: u32) -> Fixture {
    let fixture = log();
    for number in 0..entries {
        // Several have one time.
        let ts = chrono::DateTime::from_timestamp(1_764_000_000 + i64::from(number / 4), 0).unwrap();
        let entry = AuditEntry { ts, ..AuditEntry::new(Uuid::nil(), format!("a{}", number % 3), "r") };
        fixture.log.writer().blocking().write(entry).unwrap();
        if number % 5 == 4 {
            settle(&fixture.log.writer());
        }
    }
    settle(&fixture.log.writer());
    fixture
}

/// What is said beside an answer, and its exit code.
fn beside(db: &str, arguments: &str) -> (Value, Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(db, arguments);
    let stderr = String::from_utf8(stderr).unwrap();
    let told = stderr.lines().find(|line| line.starts_with("{\"coverage\":")).unwrap_or("null");
    let told: Value = serde_json::from_str(told).unwrap();
    (told["coverage"].clone(), status.code(), String::from_utf8(stdout).unwrap(), stderr)
}

#[test]
fn an_empty_answer_says_which_part_of_the_question_finds_nothing() {
    let fixture = filled(40);
    let ts = chrono::DateTime::from_timestamp(1_764_000_100, 0).unwrap();
    let late = AuditEntry { ts, ..AuditEntry::new(Uuid::nil(), "late", "r") };
    fixture.log.writer().blocking().write(late).unwrap();
    settle(&fixture.log.writer());
    let db = &*fixture.db;
    let exported = fixture.directory.path().join("all.jsonl");
    answer(db, &format!("export -o {}", exported.display()));
    let fresh = log();
    for (arguments, says) in [
        ("--decision deny", "no entry of any time meets --decision deny"),
        ("--action a1 --agent nobody --agent none", "no entry of any time meets --agent nobody --agent none"),
        ("--where 'metadata.n>5 OR reason=x'", "no entry of any time meets --where metadata.n>5 OR reason=x"),
        ("--text invoice", "no entry of any time meets --text invoice"),
        ("--risk-min 0.5", "no entry of any time meets --risk-min 0.5"),
        ("--problems", "no entry of any time meets --problems"),
        (
            "--since 2026-01-01 --tz +02:00",
            "no entry is of the time that is asked for; they are of 2025-11-24 18:00:00+02:00 to 2025-11-24 18:01:40+02:00",
        ),
        ("--before 2020-01-01 --decision deny", "they are of 2025-11-24 16:00:00Z to 2025-11-24 16:01:40Z"),
        (
            "--committed-before 2020-01-01",
            "nothing was committed in the time that is asked for; the last commit was at ",
        ),
        ("--from-seq 41", "the entries of main have the seq 0 to 40"),
        ("--from-seq 3 --before-seq 4 --action a1", "no entry of any time meets --action a1"),
        (
            "--action a1 --where action=a2",
            "each condition is met by some entry, and no entry of any time meets them all",
        ),
        (
            "--action late --before 2025-11-24T16:00:05Z",
            "no entry of the time that is asked for meets the conditions; the latest that does is of 2025-11-24 16:01:40Z",
        ),
    ] {
        for (db, format) in [(db, ""), (db, " --format csv"), (exported.to_str().unwrap(), "")] {
            // The time of a commit is in the exported file too.
            let (told, code, stdout, stderr) = beside(db, &format!("query {arguments}{format}"));
            assert_eq!(code, Some(0), "{arguments}: {stderr}");
            assert!(told["nothing"].as_str().is_some_and(|told| told.contains(says)), "{arguments}: {told}");
            assert_eq!(stdout.lines().count(), usize::from(!format.is_empty()), "{stdout}");
        }
    }
    assert_eq!(beside(&fresh.db, "query --action a").0["nothing"], "the ledger main has no entry");
    // On request that is a failure.
    for (arguments, code) in [
        ("--action nothing", 1),
        ("--action nothing --format csv", 1),
        ("--from-seq 41 -o table", 1),
        ("--action a1", 0),
        ("--action a1 --format csv --limit 1", 0),
    ] {
        let (_, found, _, stderr) = beside(db, &format!("query --fail-if-none {arguments}"));
        assert_eq!(
            (found, stderr.contains("there is no such entry")),
            (Some(code), code == 1),
            "{arguments}: {stderr}"
        );
    }
    for arguments in ["query", "query --limit 1", "query --action a1"] {
        assert!(beside(db, arguments).0["nothing"].is_null(), "{arguments}");
    }
}

#[test]
fn every_answer_says_what_it_covers_and_one_that_may_lack_entries_fails() {
    let fixture = filled(40);
    let db = &*fixture.db;
    for arguments in
        ["query", "query --format csv", "tail -n all", "stats", "stats --by day", "query --action a1"]
    {
        let (told, code, ..) = beside(db, arguments);
        assert_eq!(code, Some(0), "{arguments}: {told}");
        let ledger = &told["ledgers"][0];
        assert_eq!(ledger["asked"], json!({ "from_seq": 0, "before_seq": 40 }), "{arguments}: {told}");
        assert_eq!(
            (&ledger["ledger"], &ledger["missing"], &told["more"]),
            (&json!("main"), &json!(0), &json!(false))
        );
    }
    assert_eq!(beside(db, "query").0["shown"], 40);
    assert_eq!(beside(db, "query --format table").3, "");
    assert_eq!(
        answer(db, "check"),
        "{\"checked\":{\"ledgers\":1,\"entries\":40,\"batches\":8,\"findings\":0}}\n".replace(
            '8',
            &super::super::support::texts(db, "SELECT CAST(count(*) AS TEXT) FROM tracing_audit_batches")[0]
        )
    );

    fixture.run("DELETE FROM tracing_audit_entries WHERE seq BETWEEN 11 AND 21");
    let file = fixture.directory.path().join("export.jsonl");
    let export = format!("export --manifest -o {}", file.display());
    for arguments in [
        "query",
        "query --format csv",
        "query --format table",
        "tail -n all",
        "stats",
        "query --limit 30",
        &export,
    ] {
        let (_, code, stdout, stderr) = beside(db, arguments);
        assert_eq!(code, Some(5), "{arguments}: {stderr}");
        assert!(
            stderr.contains("the answer may lack entries: main: ")
                && stderr.contains("11 missing (seq 11 to 21)")
        );
        // The answer is there all the same.
        assert!(!stdout.is_empty() || arguments == export);
    }
    let manifest = std::fs::read(file.with_extension("jsonl.manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!((&manifest["rows"], &manifest["coverage"]["ledgers"][0]["missing"]), (&json!(29), &json!(11)));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 29);
    for other in ["query --limit 10", "query --from-seq 22", "tail --before-seq 11", "stats --before-seq 11"]
    {
        assert_eq!(beside(db, other).1, Some(0), "{other}");
    }
    let output = run(db, "check");
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stdout).unwrap();
    let found: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&found["kind"], &found["from_seq"], &found["before_seq"]),
        (&json!("missing"), &json!(11), &json!(22))
    );
    let shown = String::from_utf8(run(db, "check --format table").stdout).unwrap();
    assert!(shown.starts_with("main: no entries have seq 11 to 21 (11)\n"), "{shown}");
}

#[test]
fn the_next_entries_follow_the_cursor_of_an_answer_without_a_gap_or_a_repetition() {
    let fixture = filled(30);
    let db = &*fixture.db;
    for order in ["", " --oldest-first"] {
        for question in ["query", "query --action a1", "query --since 2020-01-01"] {
            let whole = seqs(&answer(db, &[question, order, " --limit 0"].concat()));
            for limit in [1, 2, 3, 7, 30] {
                let (mut found, mut cursor) = (Vec::new(), String::new());
                loop {
                    let page = format!("{question}{order} --limit {limit} {cursor}");
                    let (told, code, stdout, stderr) = beside(db, &page);
                    assert_eq!(code, Some(0), "{page}: {stderr}");
                    let of_page = seqs(&stdout);
                    assert_eq!(told["shown"], of_page.len());
                    found.extend(of_page);
                    assert_eq!(told["more"], found.len() < whole.len(), "{page}: {told}");
                    if told["more"] == false {
                        break;
                    }
                    assert_eq!(told["matching"], whole.len());
                    told["next"].as_str().unwrap().clone_into(&mut cursor);
                }
                assert_eq!(found, whole, "{question}{order} {limit}");
                if limit == 1 && !(question.contains("a1") && order.is_empty()) {
                    break;
                }
            }
        }
    }
    // A log or an order that is not that of the cursor, or more entries of one time than there are.
    let next =
        |order: &str| beside(db, &["query --limit 3", order].concat()).0["next"].as_str().unwrap().to_owned();
    let (latest, oldest) = (next(""), next(" --oldest-first"));
    let many = latest.split('.').enumerate().map(|(n, part)| if n == 1 { "999999999" } else { part });
    let many = many.collect::<Vec<_>>().join(".");
    let other = log();
    for (db, arguments, next, says) in [
        (&*other.db, "query", &latest, "the cursor is of another question or database"),
        (db, "query", &many, "the cursor is of another question or database"),
        (db, "query --oldest-first", &latest, "leave out --oldest-first"),
        (db, "query", &oldest, "add --oldest-first"),
    ] {
        let (_, code, stdout, stderr) = beside(db, &[arguments, " ", next].concat());
        assert_eq!((code, &*stdout), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    assert_eq!(beside(db, "query --cursor 12").1, Some(2));
}

#[test]
fn a_table_in_a_pipe_says_that_there_is_more() {
    let fixture = filled(30);
    for format in ["table", "wide"] {
        let (_, code, _, stderr) = beside(&fixture.db, &format!("query --limit 3 -o {format}"));
        assert!(code == Some(0) && stderr.starts_with("3 of 30; next: --cursor "), "{format}: {stderr}");
        let (_, code, _, stderr) = beside(&fixture.db, &format!("query --limit 30 -o {format}"));
        assert_eq!((code, &*stderr), (Some(0), ""), "{format}");
    }
}

#[test]
fn an_entry_before_a_time_with_parts_of_a_microsecond_is_before_it() {
    let fixture = filled(30);
    for (time, found) in [
        ("16:00:00Z", 0),
        ("16:00:00.000000001Z", 4),
        ("16:00:00.0000005Z", 4),
        ("16:00:00.000000999Z", 4),
        ("16:00:01Z", 4),
        ("16:00:01.0000005Z", 8),
    ] {
        let lines = answer(&fixture.db, &format!("query --before 2025-11-24T{time}"));
        assert_eq!(lines.lines().count(), found, "{time}");
    }
}
