//! A copy that is killed amid its work has every entry once; one that waits notices that its database was replaced.

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

#[test]
fn a_tail_that_waits_notices_that_the_file_was_replaced_and_goes_on_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (db, aside) = (path("audit.db"), path("aside"));
    std::fs::create_dir(&aside).unwrap();
    let rotate = |from: &std::path::Path, to: &std::path::Path| {
        for name in ["audit.db", "audit.db-wal", "audit.db-shm"].map(|name| (from.join(name), to.join(name)))
        {
            if name.0.exists() {
                std::fs::rename(name.0, name.1).unwrap();
            }
        }
    };
    let commit = |log: &tracing_audit::AuditLog, actions: &[&str]| {
        for action in actions {
            crate::support::commit(log, AuditEntry::new(Uuid::nil(), *action, "r"));
        }
    };
    let (out, err) = (path("out"), path("err"));
    let file = |path: &std::path::Path| std::fs::File::create(path).unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let first = crate::support::open(&db);
    commit(&first, &["a", "b", "c"]);
    let mut tail = command(db.to_str().unwrap())
        .args(["tail", "-f", "--from-seq", "0"])
        .stdout(file(&out))
        .stderr(file(&err))
        .spawn()
        .unwrap();
    wait_until("the entries are there", || read(&out).lines().count() == 3);
    // Rotated while the command waits, with all that belongs to it.
    drop(first.blocking().shutdown(crate::support::PATIENCE).unwrap());
    rotate(directory.path(), &aside);
    let second = crate::support::open(&db);
    commit(&second, &["other"]);
    wait_until("it says why it waits", || read(&err).contains("ends at seq 1, before 3"));
    commit(&second, &["other", "other", "other"]);
    wait_until("it does not take another log for the same", || read(&err).contains("another entry at seq 2"));
    drop(second.blocking().shutdown(crate::support::PATIENCE).unwrap());
    for name in ["audit.db", "audit.db-wal", "audit.db-shm"] {
        drop(std::fs::remove_file(path(name)));
    }
    rotate(&aside, directory.path());
    let first = crate::support::open(&db);
    commit(&first, &["d"]);
    wait_until("it goes on", || read(&out).lines().count() == 4);
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert_eq!(seqs(&read(&out)), [0, 1, 2, 3]);
    // Each cause is told once.
    let told = read(&err);
    assert!(told.lines().count() <= 6, "{told}");
}

#[test]
fn tail_begins_with_the_last_entries_and_gives_them_in_every_format() {
    let fixture = super::filled(log());
    let db = &fixture.db;
    let shown = |arguments: &str| seqs(&answer(db, arguments));
    assert_eq!(shown("tail"), (3..13).collect::<Vec<_>>());
    assert_eq!(shown("tail -n 2"), [11, 12]);
    assert_eq!(shown("tail -n 0"), [0; 0]);
    for all in ["tail -n all", "tail --lines 100", "tail --from-seq 0", "tail --since 5200w", "tail -o -"] {
        assert_eq!(shown(all).len(), 13, "{all}");
    }
    // Of those that match, before a seq.
    let denied = shown("tail -n all --decision Deny");
    assert_eq!(shown("tail -n 2 --decision Deny"), denied[denied.len() - 2..]);
    assert_eq!(shown("tail -n 2 --before-seq 5"), [3, 4]);
    // A first run may begin there too, and later ones go on.
    let state = format!("tail -n 3 --state {}", fixture.directory.path().join("state").display());
    assert_eq!((shown(&state), shown(&state)), (vec![10, 11, 12], vec![]));

    let csv = answer(db, "tail -n 2 --format csv");
    let of_export = answer(db, "export --format csv --from-seq 11");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!((csv.lines().next(), sorted(&csv)), (of_export.lines().next(), sorted(&of_export)));
    assert_eq!(answer(db, "tail -n 0 --format csv").lines().count(), 1);
    // A file that has a header gets no second one.
    let file = fixture.directory.path().join("appended.csv");
    for _ in 0..2 {
        let appended = std::fs::OpenOptions::new().create(true).append(true).open(&file).unwrap();
        let mut tail = command(db);
        assert!(
            tail.args(["tail", "-n", "1", "--format", "csv"]).stdout(appended).status().unwrap().success()
        );
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);

    // The last ones, and then what comes.
    let mut tail = command(db);
    let mut tail = tail.args(["tail", "-n", "1", "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    let mut next = || seqs(&lines.next().unwrap().unwrap());
    assert_eq!(next(), [12]);
    emit(&fixture.log, &EVENTS[0]);
    fixture.settle();
    assert_eq!(next(), [13]);
    tail.kill().unwrap();
    tail.wait().unwrap();

    // Elsewhere 0 is all, too.
    for _ in 0..101 {
        let reader = fixture.log.reader().recorded_as("ada");
        crate::support::block_on(reader.count(tracing_audit::AuditQuery::new())).unwrap();
    }
    assert_eq!(
        (answer(db, "reads").lines().count(), answer(db, "reads --limit 0").lines().count()),
        (100, 101)
    );
}
