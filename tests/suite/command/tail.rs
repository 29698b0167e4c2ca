//! A copy that is killed amid its work has every entry once.

use std::process::Command;

use serde_json::json;
use tracing_audit::{AuditEntry, SequencedEntry};
use uuid::Uuid;

use super::{EVENTS, answer, command, emit, run, seqs};
use crate::support::{Fixture, heavy, log, wait_until};

/// Checks the file after fifty rounds of entries, each of which kills the command amid its work.
fn killed_fifty_times(fixture: &Fixture, file: &str, tail: impl Fn() -> Command) {
    let _heavy = heavy();
    let length = || std::fs::metadata(file).map_or(0, |file| file.len());
    for round in 0..50_u64 {
        let before = length();
        let mut tail = tail().arg("-f").spawn().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..40 {
                    let reason = Some("x".repeat(3000));
                    let entry = AuditEntry { reason, ..AuditEntry::new(Uuid::nil(), "a", "r") };
                    fixture.log.writer().blocking().write(entry).unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(500));
                }
                fixture.log.blocking().flush().unwrap();
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
fn a_tail_with_a_state_killed_fifty_times_has_appended_every_entry_once() {
    let fixture = log();
    let in_directory = |name: &str| fixture.directory.path().join(name).display().to_string();
    let (file, state) = (in_directory("tail.jsonl"), in_directory("state"));
    let append = || std::fs::OpenOptions::new().create(true).append(true).open(&file).unwrap();
    killed_fifty_times(&fixture, &file, || {
        let mut tail = command(&fixture.db);
        tail.args(["tail", "--state", &state]).stdout(append());
        tail
    });
    // Lines that others have appended meanwhile stay, also if they look the same.
    let another = AuditEntry::new(Uuid::nil(), "of another database", "r");
    let another = json!({ "ledger": "main", "seq": 2000, "committed_at": "2026-11-24T00:00:00Z", "problems": [], "id": another.id,
        "session_id": null, "workspace_id": Uuid::nil(), "agent_id": null, "action": another.action, "resource": "r",
        "resource_id": null, "decision": "", "reason": null, "risk_score": 0.0, "ts": another.ts, "metadata": null });
    let another = format!("{another}\n");
    assert!(serde_json::from_str::<SequencedEntry>(&another).is_ok());
    std::io::Write::write_all(&mut append(), another.as_bytes()).unwrap();
    std::io::Write::write_all(&mut append(), b"a note").unwrap();
    emit(&fixture.log, &EVENTS[0]);
    fixture.log.blocking().flush().unwrap();
    let mut again = command(&fixture.db);
    assert!(again.args(["tail", "--state", &state]).stdout(append()).status().unwrap().success());
    let whole = std::fs::read_to_string(&file).unwrap();
    let (before, after) = whole.split_once("a note").unwrap();
    assert!(before.ends_with(&another));
    assert_eq!((before.lines().count(), seqs(after)), (2001, vec![2000]));
}

#[test]
fn a_tail_into_a_file_killed_fifty_times_has_every_entry_once() {
    let fixture = log();
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
    // Nothing is cut from a file that is not a copy.
    for foreign in
        [&b"something else\n"[..], b"no newline", b"a line\nand a half", b"SQLite format 3\0\n\xff\0"]
    {
        std::fs::write(file, foreign).unwrap();
        assert_eq!(run(db, &format!("tail -o {file}")).status.code(), Some(2));
        assert_eq!(std::fs::read(file).unwrap(), foreign);
    }
}
