//! The command, run as an operator runs it: an answer to each question that is asked of an audit log, on both databases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use serde_json::{Value, json};
use support::{Fixture, wait_until};
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{AuditEntry, AuditLog, Counted, RecordedRead, SequencedEntry, WhenFull};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

/// A small trail of ours in the format of AWS CloudTrail. A Tuesday in Berlin is 2026-11-16 23:00 to 2026-11-17 23:00 in
/// UTC.
static EVENTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let lines = include_str!("data/cloudtrail.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
});

const ACME: &str = "111122223333";

fn emit(log: &AuditLog, event: &Value) {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let masked = text("/additionalEventData/masked");
    let decision = match text("/errorCode") {
        Some("AccessDenied") => "Deny",
        _ if masked.is_some() => "Mask",
        _ => "Allow",
    };
    let (source, risk) = (text("/eventSource").unwrap(), &event["additionalEventData"]["riskScore"]);
    let service = source.strip_suffix(".amazonaws.com").unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(log.layer()));
    dispatcher::with_default(&dispatch, || {
        info!(target: "audit", occurred_at = text("/eventTime"), workspace_id = text("/recipientAccountId"),
            session_id = text("/userIdentity/accessKeyId"), agent_id = text("/userIdentity/userName"),
            action = format!("{service}:{}", text("/eventName").unwrap()), resource = service,
            resource_id = text("/requestParameters/key"), decision, risk_score = risk.as_f64(),
            // What is no number is a problem.
            risk_score = risk.as_str(), reason = text("/errorMessage").or(masked), metadata = event.to_string());
    });
}

fn filled(fixture: Fixture) -> Fixture {
    for event in &*EVENTS {
        emit(&fixture.log, event);
    }
    // The same entry twice: the second goes to quarantine.
    let twice = AuditEntry {
        id: Uuid::from_u128(7),
        ts: "2026-11-19T00:00:00Z".parse().unwrap(),
        ..AuditEntry::new(Uuid::nil(), "twice", "r")
    };
    fixture.log.writer().commit_blocking(twice.clone()).unwrap();
    assert!(fixture.log.writer().commit_blocking(twice).unwrap_err().is_duplicate());
    fixture
}

fn command(db: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("TRACING_AUDIT_DB", db).env("COLUMNS", "120").stdin(Stdio::null());
    command
}

/// Words are separated by single blanks, and what has blanks is quoted by `'`.
fn run(db: &str, arguments: &str) -> Output {
    let mut words = Vec::new();
    for (index, part) in arguments.split('\'').enumerate() {
        if index % 2 == 0 {
            words.extend(part.split_whitespace());
        } else {
            words.push(part);
        }
    }
    command(db).args(words).output().unwrap()
}

#[track_caller]
fn answer(db: &str, arguments: &str) -> String {
    let Output { status, stdout, stderr } = run(db, arguments);
    assert!(status.success(), "{arguments}: {}", String::from_utf8_lossy(&stderr));
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The table, without what is different in each run.
#[track_caller]
fn shows(db: &str, arguments: &str, expected: &str) {
    let table = answer(db, &[arguments, " --format table"].concat());
    assert_eq!(table.trim_end(), expected.trim(), "{arguments}:\n{table}");
}

/// What is asked in the documentation, and the table that answers it there.
fn answers() -> Vec<(String, String)> {
    let text = |line: &'static str| line.strip_prefix("//! ").unwrap_or_default();
    let text: Vec<_> = include_str!("../src/guide/questions.rs").lines().map(text).collect();
    let answer = |block: &str| {
        let (asked, answer) = block.split("\n```").next().unwrap().split_once('\n').unwrap();
        (asked.to_owned(), answer.to_owned())
    };
    text.join("\n").split("```text\n$ tracing-audit ").skip(1).map(answer).collect()
}

fn questions(db: &str, log: &AuditLog, directory: &Path) {
    let answers = answers();
    assert_eq!(answers.len(), 11);
    for (arguments, expected) in answers {
        shows(db, &arguments, &expected);
    }
    // 8. All rows of one customer, nothing of the others, with a manifest.
    let file = directory.join("acme.jsonl.gz");
    assert_eq!(answer(db, &format!("export --workspace {ACME} --manifest -o {}", file.display())), "");
    let mut lines = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()).read_to_string(&mut lines).unwrap();
    let found: Vec<SequencedEntry> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.iter().map(|found| found.seq).collect::<Vec<_>>(), [0, 1, 3, 4, 5, 7, 8, 11]);
    let manifest = std::fs::read(directory.join("acme.jsonl.gz.manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!((&manifest["rows"], &manifest["ledgers"][0]["next_seq"]), (&json!(8), &json!(13)));
    let sum = Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    assert!(String::from_utf8(sum).unwrap().starts_with(manifest["sha256"].as_str().unwrap()));
    // For security tools.
    let denied = answer(db, "export --format ocsf --decision Deny");
    let kind = |line| serde_json::from_str::<Value>(line).unwrap()["type_uid"].take();
    assert_eq!(denied.lines().map(kind).collect::<Vec<_>>(), [600_303, 600_304, 600_304, 600_304]);
    let quarantined = answer(db, "quarantine list");
    assert!(
        quarantined.contains("00000000-0000-0000-0000-000000000007  twice   the ledger holds an entry"),
        "{quarantined}"
    );
    let quarantined: Value = serde_json::from_str(&answer(db, "quarantine export")).unwrap();
    assert_eq!(quarantined["entry"]["action"], "twice");
    assert_eq!(answer(db, "quarantine retry"), "0 committed, 1 refused again\n");
    let ledger: Value = serde_json::from_str(&answer(db, "ledgers")).unwrap();
    assert_eq!((&ledger["name"], &ledger["next_seq"]), (&json!("main"), &json!(13)));
    // 14. What was added since my last export.
    let new = format!("tail --state {}", directory.join("state").display());
    assert_eq!(answer(db, &new).lines().count(), 13);
    assert_eq!(answer(db, &new), "");
    emit(log, &EVENTS[0]);
    log.flush_blocking().unwrap();
    let added: SequencedEntry = serde_json::from_str(&answer(db, &new)).unwrap();
    assert_eq!((added.seq, &*added.entry.action), (13, "s3:GetObject"));
    // One entry, whole.
    let whole: SequencedEntry =
        serde_json::from_str(&answer(db, &format!("get {}", added.entry.id))).unwrap();
    assert_eq!(whole, added);
    // 4. Denials as they happen.
    let mut tail =
        command(db).args(["tail", "-f", "--decision", "Deny"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let told = std::thread::spawn(move || lines.next().unwrap().unwrap());
    wait_until("the denial is told", || {
        emit(log, &EVENTS[0]);
        emit(log, &EVENTS[2]);
        log.flush_blocking().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        told.is_finished()
    });
    let told: SequencedEntry = serde_json::from_str(&told.join().unwrap()).unwrap();
    assert_eq!(told.entry.action, "s3:DeleteObject");
    tail.kill().unwrap();
    tail.wait().unwrap();
    // 12. Declared losses, per day: what comes at once finds a queue of one entry full.
    let builder = AuditLog::builder().store(support::store(db)).in_memory_queue().queue_max_entries(1);
    let small = builder.when_full(WhenFull::Reject).on_notice(|_| {}).open_blocking().unwrap();
    (0..50).for_each(|_| emit(&small, &EVENTS[0]));
    small.flush_blocking().unwrap();
    let gaps = answer(db, "query --action audit.gap --limit 0");
    let gaps: Vec<SequencedEntry> = gaps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lost: u64 = gaps.iter().map(|gap| gap.entry.metadata["rejected"].as_u64().unwrap()).sum();
    assert_eq!((lost > 0, lost), (true, small.stats().rejected));
    let days = answer(db, "stats --action audit.gap --by day");
    let days: Vec<Counted> = days.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(days.iter().map(|day| day.entries).sum::<u64>(), gaps.len() as u64);
    let today = gaps.last().unwrap().entry.ts.format("%Y-%m-%dT00:00:00Z").to_string();
    assert_eq!(days[0].key.as_ref().unwrap(), &today);
    // 15. Who looked at this log.
    assert_eq!(answer(db, "reads"), "");
    assert_eq!(answer(db, "--as Ada query --agent alice --action kms:Decrypt").lines().count(), 1);
    assert_eq!(answer(db, "stats --decision Deny --as Bob").lines().count(), 2);
    let reads = answer(db, "reads --since 1h");
    let reads: Vec<RecordedRead> = reads.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = reads.iter().map(|read| (&*read.reader, &*read.action, read.entries)).collect();
    assert_eq!(told, [("Bob", "count_by", Some(2)), ("Ada", "stream", Some(1))]);
    let role = db.starts_with("postgres:").then(|| "postgres".to_owned());
    assert_eq!(reads[1].role, role);
    assert_eq!(reads[1].query["conditions"][1], json!({ "field": "action", "any_of": ["kms:Decrypt"] }));
    assert_eq!(answer(db, "reads --before 2026-01-01"), "");
}

mod sqlite {
    #[test]
    fn every_question_has_its_answer() {
        let fixture = super::filled(crate::support::log());
        let db = fixture.directory.path().join("audit.db");
        super::questions(db.to_str().unwrap(), &fixture.log, fixture.directory.path());
    }
}

mod postgres {
    #[test]
    fn entries_of_several_ledgers_are_shown_in_the_order_of_time_within_one_limit() {
        let url = server().create_database();
        for (ledger, events) in [("a", [2, 0]), ("b", [1, 3])] {
            let builder = AuditLog::builder()
                .store(Store::postgres(&url).unwrap())
                .in_memory_queue()
                .queue_max_entries(100);
            let log = builder.ledger(ledger).open_blocking().unwrap();
            for event in events {
                super::emit(&log, &super::EVENTS[event]);
            }
            log.flush_blocking().unwrap();
        }
        super::shows(
            &url,
            "query --limit 3",
            "
seq  time                 agent        action                 resource  decision  risk  reason
b/1  2026-10-06 09:30:00  healthcheck  sts:GetCallerIdentity  sts       Allow
a/0  2026-10-06 09:00:00  bob          s3:DeleteObject        s3/D      Deny      0.90  not the owner
b/0  2026-10-05 08:01:00  alice        s3:PutObjectAcl        s3/D      Deny      0.70  outside of the company",
        );
        let lines = super::answer(&url, "export");
        assert_eq!(super::seqs(&lines), [0, 1, 0, 1]);
        assert!(lines.starts_with("{\"ledger\":\"a\""));
    }

    use crate::support::{Fixture, postgres::server};
    use tracing_audit::{AuditLog, Store};

    #[test]
    fn every_question_has_its_answer() {
        let url = server().create_database();
        let builder = AuditLog::builder()
            .store(Store::postgres(&url).unwrap())
            .in_memory_queue()
            .queue_max_entries(100);
        let log = builder.open_blocking().unwrap();
        let fixture =
            super::filled(Fixture { log, db: url.clone(), directory: tempfile::tempdir().unwrap() });
        super::questions(&url, &fixture.log, fixture.directory.path());
    }
}

#[test]
fn what_cannot_be_done_is_one_clear_sentence_and_its_exit_code() {
    let fixture = filled(support::log());
    let directory = fixture.directory.path();
    let db = directory.join("audit.db");
    let db = db.to_str().unwrap();
    let fails = |db: &str, arguments: &str, code: i32, says: &str| {
        let Output { status, stdout, stderr } = run(db, arguments);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{arguments}: {stderr}");
        assert!(stderr.contains(says), "{arguments}: {stderr}");
        assert!(stdout.is_empty());
    };
    assert_eq!(answer(db, "query --agent nobody"), "");
    fails(db, "get 00000000-0000-0000-0000-000000000001", 1, "no entry has the id");
    fails(db, "query --where colour=red", 2, "there is no field \"colour\": there are id, ");
    fails(db, "query --where colour", 2, "is not FIELD=VALUE");
    fails(db, "stats --by colour", 2, "cannot count by \"colour\"");
    fails(db, "query --since 2026-11-02 --before 2026-11-01", 2, "--since must be earlier than --before");
    fails(db, "query --since yesterday", 2, "is not a time; give one as 2h, 7d, ");
    fails(db, "query --on 2026-11-31", 2, "is not a date");
    assert_eq!(answer(db, "query --since '+262142-12-31 23:30' --tz Pacific/Apia"), "");
    assert_eq!(answer(db, "query --on 2011-12-30 --tz Pacific/Apia"), "");
    for command in ["query", "query --format csv", "tail -f", "stats", "export", "quarantine retry"] {
        fails(db, &[command, " --ledger mian"].concat(), 2, "there is no ledger \"mian\": there are main");
    }
    fails(db, "tail -f --before-seq 5", 2, "--before-seq cannot be combined with --follow");
    fails(db, "tail --format csv", 2, "invalid value 'csv'");
    fails(db, "stats --format csv", 2, "invalid value 'csv'");
    fails(db, "query --format csv --oldest-first", 2, "CSV is the latest first");
    assert_eq!(seqs(&answer(db, "tail --from-seq 11")), [11, 12]);
    assert_eq!(seqs(&answer(db, "tail --before-seq 2")), [0, 1]);
    std::fs::write(directory.join("ahead"), r#"{"ledger":"main","next_seq":99}"#).unwrap();
    let ahead = format!("tail --state {}", directory.join("ahead").display());
    fails(db, &ahead, 3, "ends at seq 13, before 99");
    let full = Command::new("sh")
        .args(["-c", "exec \"$0\" export --gzip > /dev/full", env!("CARGO_BIN_EXE_tracing-audit")])
        .env("TRACING_AUDIT_DB", db)
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(4), "{}", String::from_utf8_lossy(&full.stderr));
    for url in [
        "postgres://user:secret@host:port/db",
        "POSTGRES://u:secret@h:p/d",
        "postgre://u:secret@h/d",
        "host=h password=secret",
    ] {
        let refused = run(url, "migrate");
        assert_eq!(refused.status.code(), Some(2), "{url}");
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("secret"), "{url}");
    }
    fails(db, "query --schema audit", 2, "only a PostgreSQL database has schemas");
    fails(db, "query --tz Mars/Olympus", 2, "invalid value 'Mars/Olympus'");
    fails("", "query", 2, "which database?");
    fails("postgres://user:secret@host:port/db", "query", 2, "not a valid PostgreSQL URL");
    fails(directory.join("none.db").to_str().unwrap(), "query", 3, "cannot be opened");
    assert!(!directory.join("none.db").exists());
    let (empty, other) = (directory.join("empty.db"), directory.join("other.db"));
    std::fs::write(&empty, "").unwrap();
    fails(empty.to_str().unwrap(), "query", 3, "the database holds no audit log");
    std::fs::write(&other, "not a database at all").unwrap();
    fails(other.to_str().unwrap(), "query", 3, "is not a SQLite database");
    std::fs::write(directory.join("state"), "{}").unwrap();
    fails(
        db,
        &format!("tail --state {}", directory.join("state").display()),
        2,
        "is not a state file of this command",
    );

    // A full disk halfway: no file under the final name, and none left beside it.
    let target = directory.join("there");
    std::fs::create_dir(&target).unwrap();
    let export = format!("export -o {}/all.jsonl", target.display());
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$0\" $1",
        env!("CARGO_BIN_EXE_tracing-audit"),
        &export,
    ]);
    let output = limited.env("TRACING_AUDIT_DB", db).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(answer(db, &export), "");
    assert_eq!(std::fs::read_to_string(target.join("all.jsonl")).unwrap().lines().count(), 13);
}

#[test]
fn a_reader_of_the_output_that_has_seen_enough_is_no_error() {
    let fixture = filled(support::log());
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
fn what_a_terminal_would_obey_is_not_shown_to_it() {
    let fixture = support::log();
    let hostile = AuditEntry {
        reason: Some("\u{1b}[2Jgone\u{202e}\n".to_owned()),
        ..AuditEntry::new(Uuid::nil(), "a\r\u{9b}", "r")
    };
    fixture.log.writer().commit_blocking(hostile).unwrap();
    let db = fixture.directory.path().join("audit.db");
    let table = answer(db.to_str().unwrap(), "query --format table");
    assert!(table.contains("a\\r\\u{9b}") && table.contains("\\u{1b}[2Jgone\\u{202e}\\n"), "{table}");
    assert_eq!(table.lines().count(), 2);
}

/// The `seq` of each line.
fn seqs(lines: &str) -> Vec<u64> {
    let seq = |line| serde_json::from_str::<SequencedEntry>(line).unwrap().seq;
    lines.lines().map(seq).collect()
}

/// What is in the file after fifty rounds of entries, each of which ends the command amid its work.
fn killed_fifty_times(fixture: &Fixture, file: &str, tail: impl Fn() -> Command) {
    let length = || std::fs::metadata(file).map_or(0, |file| file.len());
    for round in 0..50_u64 {
        let before = length();
        let mut tail = tail().arg("-f").spawn().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..40 {
                    let reason = Some("x".repeat(3000));
                    let entry = AuditEntry { reason, ..AuditEntry::new(Uuid::nil(), "a", "r") };
                    fixture.log.writer().write_blocking(entry).unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(500));
                }
                fixture.log.flush_blocking().unwrap();
            });
            // Amid its work: each round adds more than this.
            wait_until("the file has grown", || length() > before + round * 7919 % 100_000);
            tail.kill().unwrap();
            tail.wait().unwrap();
        });
    }
    assert!(tail().status().unwrap().success());
    assert_eq!(seqs(&std::fs::read_to_string(file).unwrap()), (0..2000).collect::<Vec<_>>());
}

#[test]
fn a_tail_with_a_state_that_is_killed_fifty_times_has_appended_every_entry_once() {
    let fixture = support::log();
    let in_directory = |name: &str| fixture.directory.path().join(name).display().to_string();
    let (file, state) = (in_directory("tail.jsonl"), in_directory("state"));
    let append = || std::fs::OpenOptions::new().create(true).append(true).open(&file).unwrap();
    killed_fifty_times(&fixture, &file, || {
        let mut tail = command(&fixture.db);
        tail.args(["tail", "--state", &state]).stdout(append());
        tail
    });
    // What others have appended meanwhile stays, also if it looks the same.
    let another = AuditEntry::new(Uuid::nil(), "of another database", "r");
    let another = json!({ "ledger": "main", "seq": 2000, "committed_at": "2026-11-24T00:00:00Z", "problems": [], "id": another.id,
        "session_id": null, "workspace_id": Uuid::nil(), "agent_id": null, "action": another.action, "resource": "r",
        "resource_id": null, "decision": "", "reason": null, "risk_score": 0.0, "ts": another.ts, "metadata": null });
    let another = format!("{another}\n");
    assert!(serde_json::from_str::<SequencedEntry>(&another).is_ok());
    std::io::Write::write_all(&mut append(), another.as_bytes()).unwrap();
    std::io::Write::write_all(&mut append(), b"a note").unwrap();
    emit(&fixture.log, &EVENTS[0]);
    fixture.log.flush_blocking().unwrap();
    let mut again = command(&fixture.db);
    assert!(again.args(["tail", "--state", &state]).stdout(append()).status().unwrap().success());
    let whole = std::fs::read_to_string(&file).unwrap();
    let (before, after) = whole.split_once("a note").unwrap();
    assert!(before.ends_with(&another));
    assert_eq!((before.lines().count(), seqs(after)), (2001, vec![2000]));
}

#[test]
fn a_tail_into_a_file_that_is_killed_fifty_times_has_every_entry_once() {
    let fixture = support::log();
    let db = fixture.directory.path().join("audit.db");
    let file = fixture.directory.path().join("tail.jsonl");
    let (db, file) = (db.to_str().unwrap(), file.to_str().unwrap());
    killed_fifty_times(&fixture, file, || {
        let mut tail = command(db);
        tail.args(["tail", "-o", file]);
        tail
    });
    assert_eq!(answer(db, &format!("tail -o {file}")), "");

    let held = std::fs::File::open(file).unwrap();
    held.lock().unwrap();
    let second = run(db, &format!("tail -o {file}"));
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another command is writing"));
    drop(held);
    // Nothing is cut from what is not such a file.
    for foreign in
        [&b"something else\n"[..], b"no newline", b"a line\nand a half", b"SQLite format 3\0\n\xff\0"]
    {
        std::fs::write(file, foreign).unwrap();
        assert_eq!(run(db, &format!("tail -o {file}")).status.code(), Some(2));
        assert_eq!(std::fs::read(file).unwrap(), foreign);
    }
}

#[test]
fn an_export_that_is_interrupted_at_any_byte_and_resumed_is_the_same_as_one_that_was_not() {
    let fixture = filled(support::log());
    let more = |count: usize| {
        for _ in 0..count {
            emit(&fixture.log, &EVENTS[1]);
        }
        fixture.settle();
    };
    more(600);
    let directory = fixture.directory.path();
    let db = directory.join("audit.db");
    let db = db.to_str().unwrap();
    let export = |name: &str| {
        let file = directory.join(name).display().to_string();
        format!("export --where agent_id!=healthcheck --since 52w --manifest -o {file}")
    };
    assert_eq!(answer(db, &export("whole.jsonl")), "");
    let whole = std::fs::read(directory.join("whole.jsonl")).unwrap();
    let manifest = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap()
    };
    let expected = manifest("whole.jsonl.manifest.json");

    for (round, cut) in [0, 1, 500, 9_999, 50_000, 111_111, whole.len() as u64].into_iter().enumerate() {
        let name = format!("{round}.jsonl");
        let resume = [&export(&name), " --resume"].concat();
        // Its first try comes as far as a limit in blocks of 512 bytes, and loses what it wrote after some byte.
        let mut limited = Command::new("sh");
        limited.args([
            "-c",
            "trap '' XFSZ; ulimit -f 150; exec \"$0\" $1",
            env!("CARGO_BIN_EXE_tracing-audit"),
            &resume,
        ]);
        let first = limited.env("TRACING_AUDIT_DB", db).output().unwrap();
        assert_eq!(first.status.code(), Some(4), "{}", String::from_utf8_lossy(&first.stderr));
        assert!(!directory.join(&name).exists());
        let partial = std::fs::OpenOptions::new()
            .write(true)
            .open(directory.join([&name, ".partial"].concat()))
            .unwrap();
        let length = partial.metadata().unwrap().len();
        assert!(length > 50_000, "{length}");
        partial.set_len(cut.min(length)).unwrap();
        // What comes meanwhile belongs to the next export.
        more(1);
        let other = run(db, &[&resume, " --action s3:GetObject"].concat());
        assert_eq!(other.status.code(), Some(2));
        assert_eq!(answer(db, &resume), "");
        let resumed = std::fs::read(directory.join(&name)).unwrap();
        let rows = seqs(std::str::from_utf8(&resumed).unwrap()).len();
        assert!(resumed.starts_with(&whole) && rows == 612 + round, "{round}: {rows}");
        let told = manifest(&[&name, ".manifest.json"].concat());
        assert_eq!(told["rows"], json!(rows));
        if round == 0 {
            assert_eq!((&resumed, &told["sha256"]), (&whole, &expected["sha256"]));
        }
        let left = |end: &str| directory.join([&name, end].concat()).exists();
        assert!(!left(".partial") && !left(".partial.json"));
    }
}

#[test]
fn an_operator_makes_the_tables_and_looks_into_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new.db");
    let db = file.to_str().unwrap();
    assert!(answer(db, "migrate --print").contains("CREATE TABLE tracing_audit_entries"));
    assert!(!file.exists());
    assert_eq!(answer(db, "migrate --ledger payments"), "");
    // What is there stays.
    assert_eq!(answer(db, "migrate"), "");
    assert!(answer(db, "ledgers").contains("\"name\":\"payments\",\"next_seq\":0"));
    assert_eq!(answer(db, "quarantine retry"), "0 committed, 0 refused again\n");

    assert_eq!(answer(db, "index add action metadata.client.ip"), "");
    assert_eq!(answer(db, "index drop action"), "");
    let indexes = answer(db, "index list");
    assert!(indexes.contains(r#""serves":"metadata.client.ip","on_request":true,"ready":true"#), "{indexes}");
    assert!(indexes.contains(r#""serves":"workspace_id""#) && !indexes.contains(r#""serves":"action""#));
    assert_eq!(
        answer(db, "index add reason session_id --print"),
        "CREATE INDEX IF NOT EXISTS \"tracing_audit_by_reason\" ON tracing_audit_entries (reason) WHERE reason IS NOT NULL;\n"
    );
    assert_eq!(run(db, "index drop workspace_id").status.code(), Some(2));
    assert_eq!(run(db, "index add colour").status.code(), Some(2));

    let fixture = support::log();
    let queue = answer(db, &format!("queue {}", fixture.directory.path().join("audit.db.queue").display()));
    assert!(queue.contains("in use") && queue.contains("main"), "{queue}");
    assert!(answer(db, "completions bash").contains("complete -F"));
    assert!(answer(db, "man").starts_with(".ie"));
}

#[test]
fn several_databases_are_asked_as_one() {
    let (first, second) = (support::log(), support::log());
    for (log, events) in [(&first.log, [0, 2, 7]), (&second.log, [1, 3, 5])] {
        for event in events {
            emit(log, &EVENTS[event]);
        }
        log.flush_blocking().unwrap();
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
seq  time                 agent        action                 resource  decision  risk  reason
a/2  2026-11-17 12:05:00  alice        s3:DeleteObject        s3/D      Deny      0.95  legal hold
b/2  2026-11-16 23:30:00  alice        s3:GetObject           s3/D      Allow     0.10
b/1  2026-10-06 09:30:00  healthcheck  sts:GetCallerIdentity  sts       Allow
a/1  2026-10-06 09:00:00  bob          s3:DeleteObject        s3/D      Deny      0.90  not the owner
";
    assert_eq!(table.trim(), expected.trim(), "{table}");
    let lines = answer("query --db a --db b --limit 1 --oldest-first");
    assert!(lines.starts_with("{\"db\":\"a\",\"ledger\":\"main\",\"seq\":0"), "{lines}");
    let counts = answer("--db a --db b stats --by agent_id --format table");
    let expected = "
agent_id     entries                        first                last
alice        4        ████████████████████  2026-10-05 08:00:00  2026-11-17 12:05:00
healthcheck  1        █████                 2026-10-06 09:30:00  2026-10-06 09:30:00
bob          1        █████                 2026-10-06 09:00:00  2026-10-06 09:00:00
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
    for alone in ["tail", "export", "quarantine retry", "migrate", "index add action", "query --format csv"] {
        let refused = run_in(&["--db a --db b ", alone].concat());
        assert_eq!(refused.status.code(), Some(2), "{alone}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("one --db at a time"), "{alone}");
    }
}

#[test]
fn counts_over_time_are_drawn_as_columns_and_what_lies_between_as_nothing() {
    let fixture = support::log();
    for (event, times) in [(0, 3), (2, 1), (4, 2)] {
        (0..times).for_each(|_| emit(&fixture.log, &EVENTS[event]));
    }
    fixture.log.flush_blocking().unwrap();
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

day                   entries                        first                last
2026-10-05T00:00:00Z  3        ████████████████████  2026-10-05 08:00:00  2026-10-05 08:00:00
2026-10-06T00:00:00Z  1        ███████               2026-10-06 09:00:00  2026-10-06 09:00:00
2026-11-16T00:00:00Z  2        ██████████████        2026-11-16 22:59:00  2026-11-16 22:59:00",
    );
}
