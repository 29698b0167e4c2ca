//! The questions of the documentation, each with its answer, on both databases.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tracing_audit::{
    AuditLog, SequencedEntry, Store, WhenFull,
    reader::{Counted, RecordedRead},
};

use crate::{
    command::{EVENTS, answer, command, emit, filled, shows},
    support::{self, Fixture, log, postgres::server, store, wait_until},
};

const ACME: &str = "111122223333";

/// The questions of the documentation, each with the table that answers it there.
fn answers() -> Vec<(String, String)> {
    let text = |line: &'static str| line.strip_prefix("//! ").unwrap_or_default();
    let pages =
        [include_str!("../../../src/guide/questions.rs"), include_str!("../../../src/guide/operator.rs")];
    let text: Vec<_> = pages.into_iter().flat_map(str::lines).map(text).collect();
    let answer = |block: &str| {
        let (asked, answer) = block.split("\n```").next().unwrap().split_once('\n').unwrap();
        (asked.to_owned(), answer.to_owned())
    };
    text.join("\n").split("```text\n$ tracing-audit ").skip(1).map(answer).collect()
}

fn questions(db: &str, log: &AuditLog, directory: &Path) {
    let answers = answers();
    assert_eq!(answers.len(), 14);
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
    let quarantined = answer(db, "quarantine list --format table");
    assert!(
        quarantined.contains("00000000-0000-0000-0000-000000000007  twice   the ledger holds an entry"),
        "{quarantined}"
    );
    let quarantined: Value = serde_json::from_str(&answer(db, "quarantine export")).unwrap();
    assert_eq!(quarantined["entry"]["action"], "twice");
    assert_eq!(answer(db, "quarantine retry"), "{\"committed\":0,\"refused\":1}\n");
    shows(db, "quarantine retry", "0 committed, 1 refused again");
    let ledger: Value = serde_json::from_str(&answer(db, "ledgers")).unwrap();
    assert_eq!((&ledger["name"], &ledger["next_seq"]), (&json!("main"), &json!(13)));
    // 14. What was added since my last export.
    let new = format!("tail --state {}", directory.join("state").display());
    assert_eq!(answer(db, &new).lines().count(), 13);
    assert_eq!(answer(db, &new), "");
    emit(log, &EVENTS[0]);
    log.blocking().flush().unwrap();
    let added: SequencedEntry = serde_json::from_str(&answer(db, &new)).unwrap();
    assert_eq!((added.seq, &*added.entry.action), (13, "s3:GetObject"));
    // One entry, whole.
    let whole: SequencedEntry =
        serde_json::from_str(&answer(db, &format!("get {}", added.entry.id))).unwrap();
    assert_eq!(whole, added);
    // 4. Denials as they happen, after the four that there are.
    let mut tail =
        command(db).args(["tail", "-f", "--decision", "Deny"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let told = std::thread::spawn(move || lines.nth(4).unwrap().unwrap());
    wait_until("the denial is told", || {
        emit(log, &EVENTS[0]);
        emit(log, &EVENTS[2]);
        log.blocking().flush().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        told.is_finished()
    });
    let told: SequencedEntry = serde_json::from_str(&told.join().unwrap()).unwrap();
    assert_eq!(told.entry.action, "s3:DeleteObject");
    tail.kill().unwrap();
    tail.wait().unwrap();
    // 12. Declared losses, per day: what comes at once finds a queue of one entry full.
    let builder = support::builder(store(db)).in_memory_queue().queue_max_entries(1).queue_max_bytes(1 << 20);
    let small = builder.when_full(WhenFull::Reject).on_notice(|_| {}).blocking().open().unwrap();
    (0..50).for_each(|_| emit(&small, &EVENTS[0]));
    // The entry that reports them is appended when there is room, which may be after a flush has returned.
    let rejected = small.blocking().shutdown(support::PATIENCE).unwrap().stats.rejected;
    let gaps = answer(db, "query --action audit.gap --limit 0");
    let gaps: Vec<SequencedEntry> = gaps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lost: u64 = gaps.iter().map(|gap| gap.entry.metadata["rejected"].as_u64().unwrap()).sum();
    assert_eq!((lost > 0, lost), (true, rejected));
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

#[test]
fn every_question_has_its_answer_in_sqlite() {
    let fixture = filled(log());
    questions(&fixture.db, &fixture.log, fixture.directory.path());
}

#[test]
fn every_question_has_its_answer_in_postgres() {
    let url = server().create_database();
    let builder = support::builder(Store::postgres(&url).unwrap())
        .in_memory_queue()
        .queue_max_entries(100)
        .queue_max_bytes(1 << 20);
    let log = builder.blocking().open().unwrap();
    let fixture = filled(Fixture { log, db: url.clone(), directory: tempfile::tempdir().unwrap() });
    questions(&url, &fixture.log, fixture.directory.path());
}
