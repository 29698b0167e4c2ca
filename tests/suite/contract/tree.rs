// The tree over all entries: it is exactly that of the rows which a reader reads back, whoever wrote them and whatever was done
// to what the database holds of it; and nothing fails because of it.

use std::sync::{Arc, Mutex};

use chrono::DateTime;
use serde_json::{Value, json};
use tracing_audit::{AuditEntry, AuditError, AuditLog, Health, Integrity};
use uuid::Uuid;

use super::{log, log_with};
use crate::support::{self, Fixture, Stored, assert_balanced, assert_tree, commit, entry, settle, wait_until};

fn is_postgres(fixture: &Fixture) -> bool {
    fixture.db.starts_with("postgres:")
}

/// Runs a statement on the ledger's head.
fn change(fixture: &Fixture, change: &str) {
    let (head, bytes) = if is_postgres(fixture) { ("tracing_audit_heads", r"'\x") } else { ("tracing_audit_head", "x'") };
    fixture.run(&change.replace("HEAD", head).replace("BYTES'", bytes));
}

/// Another log on the same database, whose notices are kept.
fn another(fixture: &Fixture, integrity: Integrity) -> (AuditLog, Arc<Mutex<Vec<AuditError>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&told);
    let builder = support::builder(fixture.store()).integrity(integrity);
    let builder = builder.on_notice(move |notice| notices.lock().unwrap().extend(notice.error));
    let builder = builder.in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
    (builder.blocking().open().unwrap(), told)
}

fn close(log: &AuditLog) {
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
}

fn is_caught_up(fixture: &Fixture) -> bool {
    let behind = if is_postgres(fixture) {
        "SELECT (next_seq - tree_size)::text FROM tracing_audit_heads"
    } else {
        "SELECT CAST(next_seq - tree_size AS text) FROM tracing_audit_head"
    };
    support::texts(&fixture.db, behind) == ["0"]
}

fn object(members: usize) -> Value {
    (0..members).map(|number| (format!("k{number}"), json!(number))).collect::<serde_json::Map<_, _>>().into()
}

/// Entries whose texts, numbers and times are at the edges of what an entry can have.
fn edges() -> Vec<AuditEntry> {
    let metadata = [
        json!({}),
        json!({"a,": "},{", "\",": "\\", "é\u{10ffff}": [1, {"b": [2, 3]}]}),
        json!(null),
        json!("a text, in quotes\""),
        json!([1, 2]),
        json!(-0.0),
        json!({"e": 1e300, "n": 0.1, "i": i64::MIN, "u": u64::MAX, "nul\0": "\0"}),
        object(512),
        object(513),
    ];
    let risks = [f64::NAN, -0.0, f64::MIN_POSITIVE, f64::MAX, -0.1, f64::INFINITY, 0.8, 1.0, 5e-324];
    let years = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"];
    let texts = ["", " ", "\0", "\u{feff}\r\n\t\\N", "a\u{301}", "'\"--"];
    metadata
        .into_iter()
        .zip(risks)
        .enumerate()
        .map(|(number, (metadata, risk_score))| AuditEntry {
            metadata,
            risk_score,
            ts: DateTime::parse_from_rfc3339(years[number % 3]).unwrap().to_utc(),
            resource_id: (number % 2 == 0).then(|| texts[number % 6].to_owned()),
            reason: (number % 3 != 0).then(|| texts[(number + 1) % 6].to_owned()),
            session_id: (number % 2 == 1).then(Uuid::new_v4),
            agent_id: (number % 4 == 1).then(Uuid::nil),
            decision: texts[(number + 2) % 6].to_owned(),
            ..entry(texts[number % 6])
        })
        .collect()
}

#[test]
fn the_tree_is_that_of_the_rows_read_back_whatever_they_hold() {
    let fixture = log();
    let writer = fixture.log.writer();
    // One by one, and at once, with duplicates that are quarantined.
    for entry in edges() {
        commit(&fixture.log, entry);
    }
    let twice = entry("twice");
    for number in 0..600 {
        for edge in edges().into_iter().take(usize::from(number % 60 == 0) * 9) {
            writer.try_write(edge).unwrap();
        }
        writer.try_write(if number % 200 == 100 { twice.clone() } else { entry("usual") }).unwrap();
    }
    settle(&writer);
    assert_eq!(fixture.log.stats().quarantined, 2);
    assert_eq!(assert_tree(&fixture.db), 0);
    // What comes out of quarantine is a batch of its own.
    let poison = if is_postgres(&fixture) {
        "ALTER TABLE tracing_audit_entries ADD CONSTRAINT no_poison CHECK (action <> 'poison')"
    } else {
        "CREATE TRIGGER no_poison BEFORE INSERT ON tracing_audit_entries WHEN new.action = 'poison'
         BEGIN SELECT RAISE(ABORT, 'no'); END"
    };
    fixture.run(poison);
    for action in ["a", "poison", "b"] {
        writer.try_write(entry(action)).unwrap();
    }
    settle(&writer);
    fixture.run(if is_postgres(&fixture) {
        "ALTER TABLE tracing_audit_entries DROP CONSTRAINT no_poison"
    } else {
        "DROP TRIGGER no_poison"
    });
    assert_eq!(writer.blocking().retry_quarantined().unwrap().committed, 1);
    commit(&fixture.log, entry("after"));
    assert_eq!(assert_tree(&fixture.db), 0);
    // Whoever asks gets the size and the root.
    let checkpoint = Stored::at(&fixture.db).checkpoint();
    assert_eq!(fixture.log.blocking().checkpoint().unwrap(), checkpoint);
    assert_eq!(fixture.log.reader().blocking().checkpoint().unwrap(), checkpoint);
}

/// Adds rows and batches of 5000 as a version that knew no tree would have left them.
fn fill(fixture: &Fixture, entries: i64) {
    let batches = entries / 5000;
    let nothing = "00000000-0000-0000-0000-000000000000";
    let sql = if is_postgres(fixture) {
        format!(
            "INSERT INTO tracing_audit_entries (ledger, seq, id, ts, workspace_id, action, resource, decision, metadata)
                 SELECT 'main', n, gen_random_uuid(), to_timestamp(n), '{nothing}', 'a' || n, 'r', '', '{{\"n\":1}}'
                 FROM generate_series(0, {entries} - 1) n;
             INSERT INTO tracing_audit_batches SELECT 'main', n * 5000, 5000, '{nothing}', (n + 1) * 5000, now(), now(), now()
                 FROM generate_series(0, {batches} - 1) n"
        )
    } else {
        format!(
            "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {entries} - 1)
             INSERT INTO tracing_audit_entries (seq, id, ts, workspace_id, action, resource, decision, metadata)
                 SELECT n, randomblob(16), n, zeroblob(16), 'a' || n, 'r', '', '{{\"n\":1}}' FROM n;
             WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {batches} - 1)
             INSERT INTO tracing_audit_batches SELECT n * 5000, 5000, zeroblob(16), (n + 1) * 5000, n, n, n FROM n"
        )
    };
    fixture.run(&sql);
    change(fixture, &format!("UPDATE HEAD SET next_seq = {entries}, given = {entries}"));
}

#[test]
fn a_ledger_without_a_tree_catches_up_in_steps_between_batches_also_where_rows_are_missing() {
    let fixture = log_with(|builder| builder.integrity(Integrity::Off));
    close(&fixture.log);
    fill(&fixture, 40_000);
    // Somebody has removed entries, the row of a batch, and entries with their batch.
    fixture.run(
        "DELETE FROM tracing_audit_entries WHERE seq IN (0, 4999, 12345) OR seq BETWEEN 25000 AND 29999;
         DELETE FROM tracing_audit_batches WHERE first_seq IN (5000, 25000)",
    );
    let (first, _) = another(&fixture, Integrity::Inline);
    let (second, told) = another(&fixture, Integrity::Inline);
    let mut written = 0;
    wait_until("the tree has caught up", || {
        for log in [&first, &second] {
            commit(log, entry("meanwhile"));
            written += 1;
        }
        is_caught_up(&fixture)
    });
    assert_eq!(assert_tree(&fixture.db), 10_000);
    for log in [&first, &second] {
        assert_eq!(log.health(), Health::Healthy);
        assert_balanced(&log.stats());
    }
    assert_eq!(Stored::at(&fixture.db).next_seq, 40_000 + written);
    assert!(told.lock().unwrap().is_empty(), "{told:?}");
}

#[test]
fn writers_that_know_no_tree_or_add_to_it_later_are_caught_up_with() {
    let fixture = log();
    let (without, _) = another(&fixture, Integrity::Off);
    for number in 0..10 {
        // A few, which the next append adds with its own, and too many for that.
        let others = if number == 5 { 5000 } else { number };
        for _ in 0..others {
            without.writer().blocking().write(entry("without")).unwrap();
        }
        settle(&without.writer());
        commit(&fixture.log, entry("with"));
        wait_until("the tree has caught up", || is_caught_up(&fixture));
    }
    assert_eq!(assert_tree(&fixture.db), 0);
    let (deferred, told) = another(&fixture, Integrity::Deferred);
    for _ in 0..3 {
        commit(&deferred, entry("deferred"));
        wait_until("the tree has caught up", || is_caught_up(&fixture));
    }
    commit(&fixture.log, entry("with"));
    assert_eq!(assert_tree(&fixture.db), 0);
    assert!(told.lock().unwrap().is_empty(), "{told:?}");
}

/// What is done to the head of a ledger whose tree has 300 leaves.
const CHANGES: [&str; 9] = [
    "UPDATE HEAD SET frontier = BYTES''",
    "UPDATE HEAD SET frontier = BYTES'00'",
    "UPDATE HEAD SET tree_size = 5",
    "UPDATE HEAD SET tree_size = 0, frontier = BYTES''",
    "UPDATE HEAD SET tree_size = -1",
    "UPDATE HEAD SET tree_size = 9223372036854775807",
    "UPDATE HEAD SET tree_size = 256, frontier = (SELECT hash FROM tracing_audit_nodes)",
    "UPDATE HEAD SET tree_size = 512, frontier = (SELECT hash FROM tracing_audit_nodes)",
    "DELETE FROM HEAD",
];

#[test]
fn a_head_that_somebody_has_changed_is_told_and_mended() {
    for how in CHANGES {
        let fixture = log();
        let (running, told) = another(&fixture, Integrity::Inline);
        for _ in 0..299 {
            fixture.log.writer().try_write(entry("a")).unwrap();
        }
        fixture.settle();
        assert_eq!(commit(&running, entry("a")), 299);
        close(&fixture.log);
        for is_running in [true, false] {
            if how.contains("DELETE") && !is_running {
                continue;
            }
            change(&fixture, how);
            let (next, its) = another(&fixture, Integrity::Inline);
            let (log, told) = if is_running { (&running, &told) } else { (&next, &its) };
            commit(log, entry("after"));
            wait_until(how, || told.lock().unwrap().iter().any(AuditError::is_altered));
            assert_eq!(log.health(), Health::Healthy);
            assert_balanced(&log.stats());
            assert_tree(&fixture.db);
            told.lock().unwrap().clear();
            close(&next);
        }
    }
}

#[test]
fn a_tree_that_cannot_be_added_to_is_told_and_keeps_no_entry_from_being_committed() {
    let cases = [
        // A row in the place of the next leaves; and what the tree is made anew from is gone.
        "INSERT INTO tracing_audit_leaves (LEDGER first_seq, seeds, leaves) VALUES (NAME 301, BYTES'00', BYTES'')",
        "DELETE FROM tracing_audit_nodes; UPDATE HEAD SET frontier = BYTES'00'",
        "UPDATE tracing_audit_leaves SET leaves = BYTES'00'; UPDATE HEAD SET frontier = BYTES'00'",
        "DROP TABLE tracing_audit_leaves",
        "DROP TABLE tracing_audit_nodes; UPDATE HEAD SET frontier = BYTES'00'",
    ];
    for how in cases {
        let fixture = log();
        for _ in 0..300 {
            fixture.log.writer().try_write(entry("a")).unwrap();
        }
        fixture.settle();
        assert_eq!(commit(&fixture.log, entry("a")), 300);
        close(&fixture.log);
        let (ledger, name) = if is_postgres(&fixture) { ("ledger,", "'main',") } else { ("", "") };
        change(&fixture, &how.replace("LEDGER", ledger).replace("NAME", name));
        let (log, told) = another(&fixture, Integrity::Inline);
        for seq in 301..304 {
            assert_eq!(commit(&log, entry("after")), seq, "{how}");
        }
        wait_until(how, || told.lock().unwrap().iter().any(AuditError::is_altered));
        let told: Vec<_> = told.lock().unwrap().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|told| told.contains("entries are committed without it")), "{how}: {told:?}");
        assert_eq!((log.health(), log.stats().quarantined), (Health::Healthy, 0), "{how}");
        assert_balanced(&log.stats());
        assert_eq!(support::block_on(support::all(&log.reader())).len(), 304, "{how}");
    }
}
