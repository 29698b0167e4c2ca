//! Ledgers of periods in SQLite: processes killed over the end of a period, and files that cannot be opened.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt};
use tracing_audit::{
    AuditLogBuilder, AuditQuery, Period, SequencedEntry, Store, archive::UnusedFile, reader::PeriodReader,
};

use crate::support::{
    self, PATIENCE, assert_balanced, block_on, commit, entry, lock, this_test, unlock, wait_until,
};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
const DB: &str = "TRACING_AUDIT_TEST_DB";
const FIRST: &str = "2026-11-01T00:00:00Z";

fn day(number: i64) -> DateTime<Utc> {
    FIRST.parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(number)
}

/// The settings of a log whose clock says the day of this number.
fn builder(directory: &Path, clock: &Arc<AtomicI64>) -> AuditLogBuilder {
    of(Store::sqlite(directory.join("audit.db")).unwrap(), clock)
}

fn of(store: Store, clock: &Arc<AtomicI64>) -> AuditLogBuilder {
    let clock = Arc::clone(clock);
    support::builder(store)
        .ledger("payments")
        .period(Period::Day)
        .period_clock(move || day(clock.load(Ordering::SeqCst)))
        .on_notice(|_| {})
}

fn file(directory: &Path, number: i64) -> PathBuf {
    directory.join(format!("audit-{}.db", day(number).format("%Y-%m-%d")))
}

fn ledger(number: i64) -> String {
    Period::Day.ledger("payments", day(number))
}

fn entries(log: &tracing_audit::AuditLog) -> Vec<SequencedEntry> {
    let reader = log.period_reader().unwrap();
    block_on(reader.stream(AuditQuery::new()).try_collect()).unwrap()
}

/// Waits until the other process has come this far.
fn arrived(directory: &Path, at: &str) {
    wait_until(at, || directory.join(at).exists());
}

#[test]
fn what_a_killed_process_had_accepted_before_the_end_of_a_period_is_committed_to_that_period() {
    if let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) {
        let clock = Arc::new(AtomicI64::new(0));
        let log = builder(&directory, &clock).blocking().open().unwrap();
        commit(&log, entry("0"));
        fs::write(directory.join("open"), "").unwrap();
        arrived(&directory, "locked");
        for number in 1..=10 {
            log.writer().try_write(entry(number.to_string())).unwrap();
        }
        clock.store(1, Ordering::SeqCst);
        wait_until("the next day has begun", || {
            let of_now = log.reader().blocking().ledgers().unwrap();
            of_now.iter().any(|found| found.name == ledger(1))
        });
        commit(&log, entry("next"));
        fs::write(directory.join("ready"), "").unwrap();
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut child = support::child(this_test!(), &[(DIRECTORY, directory.to_str().unwrap())]);
    arrived(directory, "open");
    let locked = block_on(lock(file(directory, 0)));
    fs::write(directory.join("locked"), "").unwrap();
    arrived(directory, "ready");
    child.kill().unwrap();
    child.wait().unwrap();
    block_on(unlock(locked));

    // Two days later.
    let log = builder(directory, &Arc::new(AtomicI64::new(2))).blocking().open().unwrap();
    log.blocking().recovered(PATIENCE).unwrap();
    commit(&log, entry("last"));
    let found = entries(&log);
    let first: Vec<_> = found.iter().filter(|found| found.ledger == ledger(0)).collect();
    let actions: Vec<_> = first.iter().map(|found| found.entry.action.clone()).collect();
    assert_eq!(actions, (0..=10).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(first.iter().zip(0..).all(|(found, seq)| found.seq == seq));
    let next: Vec<_> = found.iter().filter(|found| found.ledger == ledger(1)).collect();
    assert!(!next.is_empty() && next.iter().all(|found| found.entry.action == "next"), "{next:?}");
    assert_eq!(found.last().map(|found| (&*found.ledger, found.seq)), Some((&*ledger(2), 0)));
    let stats = log.stats();
    assert_balanced(&stats);
    assert!(stats.recovered >= 10, "{stats:?}");
    // Nothing is left in the one directory of queues but what this log has.
    wait_until("the journals are removed", || {
        tracing_audit::journal::inspect(directory.join("audit.db.queue")).unwrap().len() == 1
    });
}

#[test]
fn a_journal_that_is_found_days_later_is_committed_to_its_own_day_in_every_database() {
    let log = |directory: &Path, db: &str, day: i64| {
        of(support::store(db), &Arc::new(AtomicI64::new(day))).journal(directory.join("queue"))
    };
    if let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) {
        let never = std::time::Duration::from_hours(1);
        let builder = log(&directory, &std::env::var(DB).unwrap(), 0);
        let log = builder.batch_entries(1 << 20).flush_interval(never).blocking().open().unwrap();
        for number in 0..60 {
            log.writer().try_write(entry(number.to_string())).unwrap();
        }
        fs::write(directory.join("ready"), "").unwrap();
        loop {
            std::thread::park();
        }
    }
    let databases: &[fn(&Path) -> String] = &[
        |directory| directory.join("audit.db").to_str().unwrap().to_owned(),
        #[cfg(feature = "postgres")]
        |_| support::postgres::server().create_database(),
    ];
    for database in databases {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let db = database(directory);
        let place = [(DIRECTORY, directory.to_str().unwrap()), (DB, &*db)];
        let mut child = support::child(this_test!(), &place);
        arrived(directory, "ready");
        child.kill().unwrap();
        child.wait().unwrap();
        let log = log(directory, &db, 2).blocking().open().unwrap();
        log.blocking().recovered(PATIENCE).unwrap();
        let found = entries(&log);
        assert!(found.iter().all(|found| found.ledger == ledger(0)), "{db}");
        let actions: Vec<_> = found.iter().map(|found| found.entry.action.clone()).collect();
        assert_eq!(actions, (0..60).map(|number| number.to_string()).collect::<Vec<_>>(), "{db}");
        assert_balanced(&log.stats());
        assert_eq!(log.stats().recovered, 60, "{db}");
    }
}

#[test]
fn processes_killed_while_days_go_by_lose_and_double_nothing() {
    if let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) {
        // From the day to which the process before had come.
        let days = i64::try_from(fs::read_dir(&directory).unwrap().count()).unwrap();
        let clock = Arc::new(AtomicI64::new(days));
        let log = builder(&directory, &clock).blocking().open().unwrap();
        let mut accepted = fs::OpenOptions::new().append(true).open(directory.join("accepted")).unwrap();
        for number in 0_u64.. {
            let entry = entry("kept");
            let id = entry.id;
            log.writer().try_write(entry).unwrap();
            std::io::Write::write_all(&mut accepted, id.as_bytes()).unwrap();
            if number % 20 == 19 {
                clock.fetch_add(1, Ordering::SeqCst);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let accepted = directory.join("accepted");
    fs::write(&accepted, "").unwrap();
    let count = || fs::metadata(&accepted).unwrap().len() / 16;
    let files = || {
        let names = fs::read_dir(directory).unwrap().map(|found| found.unwrap().file_name());
        names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "db")).count()
    };
    for _ in 0..3 {
        let before = (count(), files());
        let mut child = support::child(this_test!(), &[(DIRECTORY, directory.to_str().unwrap())]);
        wait_until("entries are accepted on several days", || {
            count() > before.0 + 100 && files() > before.1 + 2
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let log = builder(directory, &Arc::new(AtomicI64::new(100_000))).blocking().open().unwrap();
    log.blocking().recovered(PATIENCE).unwrap();
    let found = entries(&log);
    let mut ids: Vec<_> = found.iter().map(|found| found.entry.id).collect();
    let (all, ledgers) = (ids.len(), block_on(log.period_reader().unwrap().ledgers()).unwrap().len());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an entry is there twice");
    for id in fs::read(&accepted).unwrap().chunks_exact(16) {
        let id = uuid::Uuid::from_slice(id).unwrap();
        assert!(ids.binary_search(&id).is_ok(), "{id} is lost");
    }
    assert!(ledgers > 6, "{ledgers} ledgers");
}

#[test]
fn a_follower_keeps_only_the_latest_day_open_and_misses_nothing_that_comes_late_to_another() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let add = |number: i64, action: &str| {
        let builder =
            support::builder(Store::sqlite(file(directory, number)).unwrap()).ledger(ledger(number));
        let log = builder.in_memory_queue().blocking().open().unwrap();
        commit(&log, entry(action));
        drop(log.blocking().shutdown(PATIENCE).unwrap());
    };
    let is = |number: i64, seq: u64, action: &str| (ledger(number), seq, action.to_owned());
    (0..4).for_each(|number| add(number, "first"));
    let store = Store::sqlite(directory.join("audit.db")).unwrap();
    let mut entries = Box::pin(PeriodReader::new(store, "payments", Period::Day).follow([]));
    let mut take = |count: usize| {
        block_on(async {
            let mut found = Vec::new();
            while found.len() < count {
                let next = tokio::time::timeout(PATIENCE, entries.next()).await;
                let next = next.expect("a follower waits for ever").unwrap().unwrap();
                found.push((next.ledger, next.seq, next.entry.action));
            }
            found.sort();
            found
        })
    };
    assert_eq!(take(4), [0, 1, 2, 3].map(|number| is(number, 0, "first")));
    // It is in nobody's way.
    wait_until("the file is closed", || {
        block_on(UnusedFile::hold(file(directory, 1), &ledger(1), 1)).is_ok()
    });
    // To the last one that is over, and to another one.
    add(2, "late");
    add(0, "late");
    assert_eq!(take(2), [is(0, 1, "late"), is(2, 1, "late")]);
    let held = block_on(UnusedFile::hold(file(directory, 1), &ledger(1), 1)).unwrap();
    block_on(held.remove()).unwrap();
    add(4, "next");
    add(3, "late");
    assert_eq!(take(2), [is(3, 1, "late"), is(4, 0, "next")]);
}

#[test]
fn entries_go_to_the_last_period_until_the_next_one_can_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (clock, notices) = (Arc::new(AtomicI64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let told = Arc::clone(&notices);
    let log = builder(directory, &clock)
        .on_notice(move |notice| told.lock().unwrap().push(notice.to_string()))
        .blocking()
        .open()
        .unwrap();
    fs::create_dir(file(directory, 1)).unwrap();
    clock.store(1, Ordering::SeqCst);
    let says = format!("the ledger {} cannot be begun, and entries still go to {}", ledger(1), ledger(0));
    wait_until("it is told", || notices.lock().unwrap().iter().any(|notice| notice.contains(&says)));
    assert_eq!(commit(&log, entry("a")), 0);
    fs::remove_dir(file(directory, 1)).unwrap();
    wait_until("the next period has begun", || file(directory, 1).is_file());
    // The file is made before the log that writes to it is the one of now.
    while commit(&log, entry("b")) > 0 {}
    let found = entries(&log);
    let last = found.last().unwrap();
    assert_eq!((&*last.ledger, last.seq, &*last.entry.action), (&*ledger(1), 0, "b"));
    assert_eq!(found[0].ledger, ledger(0));
    drop(log);

    // A clock that is behind leads back to no earlier file.
    clock.store(0, Ordering::SeqCst);
    notices.lock().unwrap().clear();
    let told = Arc::clone(&notices);
    let log = builder(directory, &clock)
        .on_notice(move |notice| told.lock().unwrap().push(notice.to_string()))
        .blocking()
        .open()
        .unwrap();
    assert_eq!(commit(&log, entry("c")), 1);
    let says = "the clock says 2026-11-01, and there is a ledger of 2026-11-02";
    wait_until("it is told", || notices.lock().unwrap().iter().any(|notice| notice.contains(says)));
}
