//! What the ledger tells of a dead process whose queue is gone, in whole or in part.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use sqlx::Connection;
use tracing_audit::{AuditLog, AuditLogBuilder, Store, journal::inspect};

use crate::support::{
    self, assert_balanced, block_on, commit, connect, entry, heavy, settle, this_test, wait_until,
};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
const CASE: &str = "TRACING_AUDIT_TEST_CASE";

fn builder(directory: &Path) -> AuditLogBuilder {
    support::builder(Store::sqlite(directory.join("audit.db")).unwrap())
        .journal(directory.join("audit.db.queue"))
        .on_notice(|_| {})
}

/// In a child: commits 10 entries, and accepts 50 that wait for hours.
fn of_child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let case = std::env::var(CASE).unwrap();
    let never = Duration::from_hours(1);
    let builder = match &*case {
        "memory" => support::builder(Store::sqlite(directory.join("audit.db")).unwrap()).in_memory_queue(),
        _ => builder(&directory),
    };
    let log = builder.batch_entries(1 << 20).flush_interval(never).blocking().open().unwrap();
    for _ in 0..10 {
        commit(&log, entry("committed"));
    }
    for _ in 0..50 {
        log.writer().blocking().write(entry("pending")).unwrap();
    }
    fs::write(directory.join("ready"), "").unwrap();
    wait_until("the end is asked for", || directory.join("end").exists());
    settle(&log.writer());
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
    std::process::exit(0);
}

/// How far writers that have not ended had accepted entries, as the ledger knows it.
fn known(directory: &Path) -> Vec<i64> {
    block_on(async {
        let mut connection = connect(directory.join("audit.db")).await;
        let known = "SELECT accepted FROM tracing_audit_writers WHERE ended_at IS NULL ORDER BY accepted";
        let known = sqlx::query_scalar(known).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        known
    })
}

/// A child that has accepted its entries, as the ledger knows.
fn start(test: &str, directory: &Path, case: &str) -> Child {
    let before = known_or_none(directory).len();
    let child = support::child(test, &[(DIRECTORY, directory.to_str().unwrap()), (CASE, case)]);
    wait_until("the child is ready", || directory.join("ready").exists());
    wait_until("the ledger knows what is accepted", || {
        known(directory).iter().filter(|accepted| **accepted == 60).count() > before
    });
    fs::remove_file(directory.join("ready")).unwrap();
    child
}

fn known_or_none(directory: &Path) -> Vec<i64> {
    if directory.join("audit.db").exists() { known(directory) } else { Vec::new() }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn journals(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = inspect(directory.join("audit.db.queue")) else { return Vec::new() };
    found.into_iter().map(|journal| journal.directory).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let found = inspect(directory.join("audit.db.queue")).unwrap();
    found.into_iter().flat_map(|journal| journal.segments).map(|segment| segment.path).collect()
}

/// The numbers of entries that the gap entries tell of as lost.
fn told(directory: &Path) -> Vec<u64> {
    let found = support::all_in(directory.join("audit.db").to_str().unwrap());
    let gaps = found.iter().filter(|found| found.entry.action == "audit.gap");
    gaps.map(|gap| gap.entry.metadata["lost"].as_u64().unwrap()).collect()
}

/// Opens logs until each has settled whatever dead processes left, and returns what is told in the end.
fn told_after_restarts(directory: &Path) -> Vec<u64> {
    for _ in 0..3 {
        let log = builder(directory).blocking().open().unwrap();
        wait_until("the dead are settled", || known(directory).len() == 1);
        wait_until("every journal is settled", || journals(directory).len() == 1);
        commit(&log, entry("after"));
        assert_balanced(&log.stats());
        assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        assert_eq!(known(directory), [0; 0], "a log that has ended in order is known to have");
    }
    told(directory)
}

fn zero_the_half(directory: &Path) {
    let found = inspect(directory.join("audit.db.queue")).unwrap();
    let segment = found[0].segments.last().unwrap();
    let mut bytes = fs::read(&segment.path).unwrap();
    let (from, until) = (usize::try_from(segment.used).unwrap() * 9 / 10, bytes.len());
    bytes[from..until].fill(0);
    fs::write(&segment.path, bytes).unwrap();
}

#[test]
fn accepted_entries_whose_journal_is_gone_are_told_exactly_once() {
    of_child();
    let _heavy = heavy();
    for case in ["journal", "all journals", "cut", "segment removed", "zeroed", "memory", "left alone"] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        kill(start(this_test!(), directory, case));
        match case {
            "journal" => fs::remove_dir_all(&journals(directory)[0]).unwrap(),
            "all journals" => fs::remove_dir_all(directory.join("audit.db.queue")).unwrap(),
            "cut" => segments(directory).iter().for_each(|path| fs::write(path, "").unwrap()),
            "segment removed" => segments(directory).iter().for_each(|path| fs::remove_file(path).unwrap()),
            "zeroed" => zero_the_half(directory),
            _ => {}
        }
        let told = told_after_restarts(directory);
        let found = support::all_in(directory.join("audit.db").to_str().unwrap());
        let there = found.iter().filter(|found| found.entry.action == "pending").count() as u64;
        println!("{case}: {there} are there, told as lost: {told:?}");
        match case {
            "left alone" => assert_eq!((there, &*told), (50, &[][..])),
            "zeroed" => {
                assert!((1..50).contains(&there), "{there}");
                assert_eq!(there + told.iter().sum::<u64>(), 50);
            }
            _ => assert_eq!((there, &*told), (0, &[50][..]), "{case}"),
        }
    }
}

#[test]
fn two_logs_that_find_the_same_journal_missing_tell_it_once() {
    of_child();
    let _heavy = heavy();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    // All at the same time: none adopts another's journal.
    let children: Vec<Child> = (0..3).map(|_| start(this_test!(), directory, "journal")).collect();
    children.into_iter().for_each(kill);
    fs::remove_dir_all(directory.join("audit.db.queue")).unwrap();
    let logs: Vec<AuditLog> = std::thread::scope(|scope| {
        let open = || scope.spawn(|| builder(directory).blocking().open().unwrap());
        let opening: Vec<_> = (0..4).map(|_| open()).collect();
        opening.into_iter().map(|opening| opening.join().unwrap()).collect()
    });
    wait_until("the dead are settled", || known(directory) == [0; 4]);
    assert_eq!(told(directory), [50; 3]);
    // A log whose gap entry another had written before it does not take that for its own.
    for log in &logs {
        commit(log, entry("beside"));
    }
    assert_eq!(told(directory), [50; 3]);
    for log in &logs {
        assert_balanced(&log.stats());
    }
    drop(logs);
    assert_eq!(told_after_restarts(directory), [50; 3]);
}

#[test]
fn a_log_that_is_alive_or_has_ended_in_order_is_not_told_of() {
    of_child();
    let _heavy = heavy();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut child = start(this_test!(), directory, "alive");
    // Somebody removes the journal of a process that is alive. It still has its entries.
    fs::remove_dir_all(&journals(directory)[0]).unwrap();
    let log = builder(directory).blocking().open().unwrap();
    // The log has looked several times.
    for _ in 0..3 {
        commit(&log, entry("beside"));
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!((told(directory).len(), known(directory)), (0, vec![3, 60]));
    fs::write(directory.join("end"), "").unwrap();
    assert!(child.wait().unwrap().success());
    wait_until("the child has ended", || known(directory) == [3]);
    drop(log);
    assert_eq!(told_after_restarts(directory).len(), 0);
}

#[test]
fn entries_committed_after_a_backup_are_told_when_it_is_restored_and_their_log_has_ended() {
    of_child();
    let _heavy = heavy();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (db, backup) = (directory.join("audit.db"), directory.join("backup.db"));
    let mut child = start(this_test!(), directory, "ends");
    support::run(db.to_str().unwrap(), format!("VACUUM INTO '{}'", backup.display()));
    fs::write(directory.join("end"), "").unwrap();
    assert!(child.wait().unwrap().success());
    fs::rename(backup, &db).unwrap();
    assert_eq!(told_after_restarts(directory), [50]);
}
