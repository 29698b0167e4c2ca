// Meddling: what others do to the tables is found, told, and costs no entry that was confirmed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_audit::{
    AuditEntry, AuditLog, Decision, Health, SequencedEntry,
    evidence::{FindingKind, Verification},
};

use super::{log, log_with};
use crate::support::{self, Fixture, assert_balanced, commit, entry, settle, wait_until};

fn is_postgres(fixture: &Fixture) -> bool {
    fixture.db.starts_with("postgres:")
}

/// Makes a trigger for rows, which runs these statements and, in PostgreSQL, returns this.
fn meddle(fixture: &Fixture, at: &str, statements: &str, returns: &str) {
    if is_postgres(fixture) {
        let returns = if returns == "nothing" { "NULL" } else { "new" };
        // Within the functions of the tables' owner, a trigger finds by its own search_path what it names.
        let path = if module_path!().contains("by_functions") { "SET search_path = public" } else { "" };
        fixture.run(&format!(
            "CREATE OR REPLACE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql {path}
             AS $$ BEGIN {statements}; RETURN {returns}; END $$;
             CREATE TRIGGER meddler {at} FOR EACH ROW EXECUTE FUNCTION meddle()"
        ));
    } else {
        let statements = if returns == "nothing" { "SELECT RAISE(IGNORE)" } else { statements };
        fixture.run(&format!("CREATE TRIGGER meddler {at} BEGIN {statements}; END"));
    }
}

fn stop_meddling(fixture: &Fixture, table: &str) {
    let on = if is_postgres(fixture) { format!(" ON {table}") } else { String::new() };
    fixture.run(&format!("DROP TRIGGER meddler{on}"));
}

fn denied(action: &str) -> AuditEntry {
    AuditEntry { decision: Decision::Deny.into(), reason: Some("because".to_owned()), ..entry(action) }
}

/// A log whose commits do not wait long.
fn hasty() -> Fixture {
    log_with(|builder| builder.commit_timeout(Duration::from_millis(300)).on_notice(|_| {}))
}

/// Commits while something keeps entries from being stored as they are, and after it has ended.
fn waits_for_the_end(fixture: &Fixture, named: &str, end: impl FnOnce()) {
    let log = &fixture.log;
    let before = support::block_on(support::all(&log.reader()));
    let sent: Vec<AuditEntry> = (0..20).map(|number| denied(&number.to_string())).collect();
    for entry in &sent {
        log.writer().try_write(entry.clone()).unwrap();
    }
    wait_until("the log says what is in the way", || {
        let last = log.stats().last_error.map(|last| last.to_string()).unwrap_or_default();
        last.contains(named) && last.contains("remove it")
    });
    wait_until("it is tried again", || log.stats().retries >= 2);
    let error = log.writer().blocking().commit(denied("waited for")).unwrap_err();
    assert!(error.is_pending(), "{error}");
    assert_eq!((log.health(), log.stats().quarantined), (Health::Failing, 0));
    assert_eq!(support::block_on(support::all(&log.reader())), before);
    end();
    settle(&log.writer());
    assert_eq!((log.health(), log.stats().quarantined), (Health::Healthy, 0));
    assert_balanced(&log.stats());
    let found = fixture.entries();
    assert!(found.iter().map(|found| found.seq).eq(0..found.len() as u64));
    let found = &found[before.len()..];
    assert_eq!(found.len(), 21);
    assert!(found.iter().map(|found| &found.entry).zip(&sent).all(|(found, sent)| found == sent));
    assert_eq!(found[20].entry.action, "waited for");
}

#[test]
fn a_trigger_that_drops_or_changes_what_is_written_holds_up_the_entries_until_it_is_gone() {
    let nothing = "nothing";
    let remove = "DELETE FROM tracing_audit_entries WHERE seq = new.seq";
    for (at, table, statements, returns) in [
        ("BEFORE INSERT", "tracing_audit_entries", "NULL", nothing),
        ("AFTER INSERT", "tracing_audit_entries", remove, "new"),
        (
            "AFTER INSERT",
            "tracing_audit_entries",
            "UPDATE tracing_audit_entries SET decision = 'Allow' WHERE seq = new.seq",
            "new",
        ),
        (
            "AFTER INSERT",
            "tracing_audit_batches",
            "UPDATE tracing_audit_entries SET reason = NULL WHERE seq = new.first_seq + new.entries - 1",
            "new",
        ),
        ("BEFORE INSERT", "tracing_audit_batches", "NULL", nothing),
        ("AFTER INSERT", "tracing_audit_batches", "DELETE FROM tracing_audit_batches", "new"),
        (
            "AFTER UPDATE",
            "tracing_audit_positions",
            "DELETE FROM tracing_audit_entries WHERE action = '7'",
            "new",
        ),
    ] {
        let fixture = hasty();
        commit(&fixture.log, denied("before"));
        meddle(&fixture, &format!("{at} ON {table}"), statements, returns);
        waits_for_the_end(&fixture, "meddler", || stop_meddling(&fixture, table));
    }
}

#[test]
fn a_trigger_that_changes_nothing_of_ours_is_told_once_and_holds_up_nothing() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&told);
    let fixture = log_with(|builder| {
        builder.on_notice(move |notice| notices.lock().unwrap().push(notice.to_string()))
    });
    assert_eq!(commit(&fixture.log, denied("a")), 0);
    fixture.run("CREATE TABLE copied (action text)");
    let copy = "INSERT INTO copied VALUES (new.action)";
    meddle(&fixture, "AFTER INSERT ON tracing_audit_entries", copy, "new");
    for number in 1..4 {
        assert_eq!(commit(&fixture.log, denied("a")), number);
    }
    assert_eq!(fixture.log.health(), Health::Healthy);
    let about = |told: &[String]| told.iter().filter(|notice| notice.contains("meddler")).count();
    wait_until("it is told", || about(&told.lock().unwrap()) > 0);
    assert_eq!(about(&told.lock().unwrap()), 1);
    // The next log finds it when it opens, and nothing is pending.
    let told = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&told);
    let next = another(&fixture, move |notice| notices.lock().unwrap().push(notice));
    wait_until("it is told", || about(&told.lock().unwrap()) == 1);
    drop(next);
}

/// Another log on the same database.
fn another(fixture: &Fixture, on_notice: impl Fn(String) + Send + Sync + 'static) -> AuditLog {
    let builder = support::builder(fixture.store()).on_notice(move |notice| on_notice(notice.to_string()));
    let builder = builder.in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
    builder.blocking().open().unwrap()
}

fn gaps(found: &[SequencedEntry]) -> Vec<(u64, u64)> {
    let gaps = found.iter().filter(|found| found.entry.action == "audit.gap");
    gaps.map(|gap| {
        assert!(gap.entry.reason.as_ref().unwrap().contains("the end of the ledger is not as it was left"));
        (gap.seq, gap.entry.metadata["lost"].as_u64().unwrap())
    })
    .collect()
}

/// The ways in which the end of a ledger of ten entries is changed, and how many of its entries are lost by it.
const CHANGES: [(&str, u64); 9] = [
    ("DELETE FROM tracing_audit_entries WHERE seq >= 5; UPDATE HEAD SET next_seq = 5", 5),
    ("DELETE FROM tracing_audit_entries WHERE seq >= 5", 5),
    (
        "DELETE FROM tracing_audit_entries WHERE seq >= 5; DELETE FROM tracing_audit_batches WHERE first_seq >= 5;
         UPDATE HEAD SET next_seq = 5",
        5,
    ),
    ("DELETE FROM tracing_audit_entries; DELETE FROM tracing_audit_batches; UPDATE HEAD SET next_seq = 0", 10),
    ("DELETE FROM tracing_audit_entries WHERE seq = 9", 1),
    ("UPDATE HEAD SET next_seq = 3", 0),
    ("UPDATE HEAD SET next_seq = -3", 0),
    ("UPDATE HEAD SET next_seq = 9223372036854775807", 0),
    ("DELETE FROM tracing_audit_batches WHERE first_seq >= 5", 0),
];

fn change(fixture: &Fixture, change: &str) {
    let head = if is_postgres(fixture) { "tracing_audit_heads" } else { "tracing_audit_head" };
    fixture.run(&change.replace("HEAD", head));
}

/// Checks the ledger after its end was changed, and three entries were committed at these numbers.
fn is_told(fixture: &Fixture, lost: u64, seqs: [u64; 3]) {
    assert_eq!(seqs, [11, 12, 13]);
    let found = support::block_on(support::all(&fixture.log.reader()));
    assert_eq!(gaps(&found), [(10, lost)]);
    assert_eq!(found.len() as u64, 10 - lost + 4);
    assert!(found.iter().rev().zip([13, 12, 11, 10]).all(|(found, seq)| found.seq == seq));
}

#[test]
fn an_end_of_the_ledger_changed_under_a_running_log_is_told_and_no_number_is_given_out_twice() {
    for (how, lost) in CHANGES {
        let fixture = log();
        (0..10).for_each(|number| assert_eq!(commit(&fixture.log, denied("a")), number));
        change(&fixture, how);
        let seqs = [(); 3].map(|()| commit(&fixture.log, denied("after")));
        is_told(&fixture, lost, seqs);
        assert_eq!((fixture.log.health(), fixture.log.stats().gaps), (Health::Healthy, 1));
        assert_balanced(&fixture.log.stats());
    }
}

#[test]
fn a_row_that_somebody_has_put_behind_the_end_holds_up_nothing_and_is_named() {
    let fixture = log();
    (0..3).for_each(|number| assert_eq!(commit(&fixture.log, denied("a")), number));
    let columns = "ts, workspace_id, action, resource, decision, metadata";
    let (ledger, id) = if is_postgres(&fixture) { ("ledger, ", "gen_random_uuid()") } else { ("", "randomblob(16)") };
    fixture.run(&format!(
        "INSERT INTO tracing_audit_entries ({ledger}seq, id, {columns})
             SELECT {ledger}3, {id}, {columns} FROM tracing_audit_entries WHERE seq = 2"
    ));
    assert_eq!(commit(&fixture.log, denied("after")), 5);
    assert_eq!((fixture.log.health(), fixture.log.stats().quarantined), (Health::Healthy, 0));
    let found = fixture.entries();
    assert_eq!((gaps(&found), found.len()), (vec![(4, 0)], 6));
    let reader = fixture.log.reader();
    let mut named = Vec::new();
    reader.blocking().check(|found| named.extend(found.range)).unwrap();
    assert!(named.iter().any(|range| (range.from_seq..range.before_seq).contains(&3)), "{named:?}");
    // A role that writes by functions may not read what the tree lacks. The owner's next log adds it.
    if module_path!().contains("by_functions") {
        return;
    }
    wait_until("the tree has caught up", || {
        let status = reader.blocking().ledger_status().unwrap();
        status.tree_size == status.next_seq
    });
    let verified = reader.blocking().verify(Verification::of_itself()).unwrap();
    let named = verified.findings().iter().any(|found| (found.kind, found.from) == (FindingKind::Added, 3));
    assert!(named, "{:?}", verified.findings());
}

#[test]
fn an_end_of_the_ledger_changed_between_two_logs_is_told_by_the_next() {
    for (how, lost) in CHANGES {
        let fixture = log();
        (0..10).for_each(|number| assert_eq!(commit(&fixture.log, denied("a")), number));
        assert_eq!(fixture.log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        change(&fixture, how);
        let next = another(&fixture, |_| {});
        let seqs = [(); 3].map(|()| commit(&next, denied("after")));
        // The reader is the first log's, which has ended.
        is_told(&fixture, lost, seqs);
        assert_balanced(&next.blocking().shutdown(support::PATIENCE).unwrap().stats);
        is_told(&fixture, lost, seqs);
    }
}

#[test]
fn a_head_that_is_gone_is_made_anew_and_told() {
    let fixture = hasty();
    (0..10).for_each(|number| assert_eq!(commit(&fixture.log, denied("a")), number));
    let head = if is_postgres(&fixture) { "tracing_audit_heads" } else { "tracing_audit_head" };
    fixture.run(&format!("DELETE FROM {head}"));
    is_told(&fixture, 0, [(); 3].map(|()| commit(&fixture.log, denied("after"))));
}

#[test]
fn several_writers_never_give_out_a_number_again_that_one_of_them_has_confirmed() {
    let fixture = log();
    let other = another(&fixture, |_| {});
    commit(&other, denied("other"));
    (1..10).for_each(|number| assert_eq!(commit(&fixture.log, denied("a")), number));
    change(&fixture, "DELETE FROM tracing_audit_entries WHERE seq >= 5; UPDATE HEAD SET next_seq = 5");
    assert_eq!(commit(&other, denied("other")), 11);
    commit(&fixture.log, denied("a"));
    commit(&other, denied("other"));
    let found = support::block_on(support::all(&fixture.log.reader()));
    // The one whose own entries are gone says so too.
    assert_eq!(gaps(&found), [(10, 5), (12, 1)]);
    assert!(found.iter().map(|found| found.seq).eq((0..5).chain(10..15)));
}

#[test]
fn a_position_changed_under_a_running_log_loses_and_doubles_nothing() {
    for position in ["12", "4000000000", "3", "-1"] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notices = Arc::clone(&told);
        let fixture = log_with(|builder| {
            builder.on_notice(move |notice| notices.lock().unwrap().push(notice.to_string()))
        });
        (0..10).for_each(|number| assert_eq!(commit(&fixture.log, denied("a")), number));
        fixture.run(&format!("UPDATE tracing_audit_positions SET position = {position}"));
        for number in 10..20 {
            assert_eq!(commit(&fixture.log, denied("a")), number);
        }
        assert_eq!((fixture.entries().len(), fixture.log.stats().quarantined), (20, 0));
        wait_until("it is told", || {
            told.lock().unwrap().iter().any(|notice| notice.contains("somebody has changed it"))
        });
        assert_balanced(&fixture.log.stats());
    }
}

#[test]
fn a_clock_that_goes_backwards_is_told_once_with_both_times() {
    let told = Arc::new(Mutex::new(Vec::<String>::new()));
    let notices = Arc::clone(&told);
    let fixture =
        log_with(|builder| builder.on_notice(move |notice| notices.lock().unwrap().push(notice.to_string())));
    let of_clock =
        || told.lock().unwrap().iter().filter(|told| told.contains("clock has gone backwards")).count();
    commit(&fixture.log, entry("first"));
    // The batch of a writer whose clock is ahead; or, seen from the other end, the own clock steps back.
    let ahead = |year: &str| {
        let at = if is_postgres(&fixture) {
            format!("'{year}-01-01T00:00:00Z'")
        } else {
            format!("1000000 * unixepoch('{year}-01-01')")
        };
        fixture.run(&format!("UPDATE tracing_audit_batches SET committed_at = {at}"));
    };
    ahead("2971");
    for action in ["second", "third", "fourth"] {
        commit(&fixture.log, entry(action));
    }
    wait_until("a notice", || of_clock() == 1);
    assert!(told.lock().unwrap().iter().any(|told| told.contains("2971-01-01T00:00:00Z") && told.contains("from_seq")));
    ahead("2972");
    commit(&fixture.log, entry("fifth"));
    commit(&fixture.log, entry("sixth"));
    wait_until("another notice", || of_clock() == 2);
    assert_eq!(fixture.log.health(), Health::Healthy);
    assert_eq!(fixture.entries().len(), 6);
}
