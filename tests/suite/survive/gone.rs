//! What the ledger tells of a dead process whose queue is gone, in whole or in part.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::Connection;
use tempfile::TempDir;
use tracing_audit::{AuditLog, AuditLogBuilder, Health, journal::inspect};

use crate::support::{
    self, assert_balanced, block_on, commit, connect, entry, heavy, settle, this_test, wait_until,
};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
const DB: &str = "TRACING_AUDIT_TEST_DB";
const CASE: &str = "TRACING_AUDIT_TEST_CASE";

/// A database, and the directory with the queue beside it.
struct Place {
    directory: TempDir,
    db: String,
}

impl Place {
    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = directory.path().join("audit.db").to_str().unwrap().to_owned();
        Self { directory, db }
    }

    #[cfg(feature = "postgres")]
    fn postgres() -> Self {
        let db = support::postgres::server().create_database();
        Self { directory: tempfile::tempdir().unwrap(), db }
    }

    fn queue(&self) -> PathBuf {
        queue(self.directory.path())
    }

    fn builder(&self) -> AuditLogBuilder {
        builder(&self.db, self.directory.path())
    }

    /// How far writers that have not ended had accepted entries, as the ledger knows it. Empty if there is no ledger yet.
    fn known(&self) -> Vec<i64> {
        const KNOWN: &str =
            "SELECT accepted FROM tracing_audit_writers WHERE ended_at IS NULL ORDER BY accepted";
        block_on(async {
            #[cfg(feature = "postgres")]
            if self.db.starts_with("postgres:") {
                let mut connection = sqlx::PgConnection::connect(&self.db).await.unwrap();
                let known = sqlx::query_scalar(KNOWN).fetch_all(&mut connection).await;
                connection.close().await.unwrap();
                return known.unwrap_or_default();
            }
            if !Path::new(&self.db).exists() {
                return Vec::new();
            }
            let mut connection = connect(&self.db).await;
            let known = sqlx::query_scalar(KNOWN).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            known
        })
    }

    /// A child that has accepted its entries, as the ledger knows.
    fn start(&self, test: &str, case: &str) -> Child {
        let directory = self.directory.path();
        let before = self.known().len();
        let place = [(DIRECTORY, directory.to_str().unwrap()), (DB, &*self.db), (CASE, case)];
        let child = support::child(test, &place);
        wait_until("the child is ready", || directory.join("ready").exists());
        wait_until("the ledger knows what is accepted", || {
            self.known().iter().filter(|accepted| **accepted == 60).count() > before
        });
        fs::remove_file(directory.join("ready")).unwrap();
        child
    }

    fn journals(&self) -> Vec<PathBuf> {
        let Ok(found) = inspect(self.queue()) else { return Vec::new() };
        found.into_iter().map(|journal| journal.directory).collect()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let found = inspect(self.queue()).unwrap();
        found.into_iter().flat_map(|journal| journal.segments).map(|segment| segment.path).collect()
    }

    /// The numbers of entries that the gap entries tell of as lost.
    fn told(&self) -> Vec<u64> {
        let found = support::all_in(&self.db);
        let gaps = found.iter().filter(|found| found.entry.action == "audit.gap");
        gaps.map(|gap| gap.entry.metadata["lost"].as_u64().unwrap()).collect()
    }

    /// Opens logs until each has settled whatever dead processes left, and returns what is told in the end.
    fn told_after_restarts(&self) -> Vec<u64> {
        for _ in 0..3 {
            let log = self.builder().blocking().open().unwrap();
            wait_until("the dead are settled", || self.known().len() == 1);
            wait_until("every journal is settled", || self.journals().len() == 1);
            commit(&log, entry("after"));
            assert_balanced(&log.stats());
            assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
            assert_eq!(self.known(), [0; 0], "a log that has ended in order is known to have");
        }
        self.told()
    }

    fn zero_the_half(&self) {
        let found = inspect(self.queue()).unwrap();
        let segment = found[0].segments.last().unwrap();
        let mut bytes = fs::read(&segment.path).unwrap();
        let (from, until) = (usize::try_from(segment.used).unwrap() * 9 / 10, bytes.len());
        bytes[from..until].fill(0);
        fs::write(&segment.path, bytes).unwrap();
    }

    /// Somebody does this to the journal of a process that was killed: its entries are there or told as lost, once.
    fn told_exactly_once(&self, test: &str, case: &str) {
        kill(self.start(test, case));
        match case {
            "journal" => fs::remove_dir_all(&self.journals()[0]).unwrap(),
            "all journals" => fs::remove_dir_all(self.queue()).unwrap(),
            "cut" => self.segments().iter().for_each(|path| fs::write(path, "").unwrap()),
            "segment removed" => self.segments().iter().for_each(|path| fs::remove_file(path).unwrap()),
            "zeroed" => self.zero_the_half(),
            _ => {}
        }
        let told = self.told_after_restarts();
        let found = support::all_in(&self.db);
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

/// A place for each database.
fn places() -> Vec<Place> {
    vec![
        Place::sqlite(),
        #[cfg(feature = "postgres")]
        Place::postgres(),
    ]
}

fn queue(directory: &Path) -> PathBuf {
    directory.join("audit.db.queue")
}

fn builder(db: &str, directory: &Path) -> AuditLogBuilder {
    support::builder(support::store(db)).journal(queue(directory)).on_notice(|_| {})
}

/// In a child: commits 10 entries, and accepts 50 that wait for hours.
fn of_child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let (db, case) = (std::env::var(DB).unwrap(), std::env::var(CASE).unwrap());
    let never = Duration::from_hours(1);
    let builder = match &*case {
        "memory" => support::builder(support::store(&db)).in_memory_queue(),
        _ => builder(&db, &directory),
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

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn accepted_entries_whose_journal_is_gone_are_told_exactly_once() {
    of_child();
    let _heavy = heavy();
    for case in ["journal", "all journals", "cut", "segment removed", "zeroed", "memory", "left alone"] {
        Place::sqlite().told_exactly_once(this_test!(), case);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn accepted_entries_for_a_server_whose_journal_is_gone_are_told_exactly_once() {
    of_child();
    for case in ["journal", "all journals", "cut", "segment removed", "zeroed", "memory", "left alone"] {
        Place::postgres().told_exactly_once(this_test!(), case);
    }
}

#[test]
fn entries_that_a_restart_of_the_machine_took_are_told_and_a_journal_that_outlived_it_is_committed() {
    of_child();
    let _heavy = heavy();
    // The ledger knows a writer of an earlier boot, and nobody can write to a file on two machines at once.
    let earlier = "UPDATE tracing_audit_writers SET host = 'earlier' || host WHERE ended_at IS NULL";
    for case in ["journal", "all journals", "memory", "left alone", "nothing pending"] {
        let place = Place::sqlite();
        kill(place.start(this_test!(), case));
        support::run(&place.db, earlier);
        match case {
            "journal" => fs::remove_dir_all(&place.journals()[0]).unwrap(),
            "all journals" => fs::remove_dir_all(place.queue()).unwrap(),
            "nothing pending" => {
                fs::remove_dir_all(place.queue()).unwrap();
                support::run(&place.db, "UPDATE tracing_audit_writers SET accepted = 10");
            }
            _ => {}
        }
        let told = place.told_after_restarts();
        let found = support::all_in(&place.db);
        let there = found.iter().filter(|found| found.entry.action == "pending").count();
        match case {
            "left alone" => assert_eq!((there, told.len()), (50, 0)),
            // As in a copy of the database, which lacks nothing.
            "nothing pending" => assert_eq!((there, told.len()), (0, 0)),
            _ => assert_eq!((there, &*told), (0, &[50][..]), "{case}"),
        }
    }
}

#[test]
fn a_writer_that_nobody_can_prove_dead_is_noticed_if_it_has_been_silent_with_entries_pending() {
    of_child();
    for place in places() {
        let children: Vec<Child> =
            ["journal", "memory", "journal"].map(|case| place.start(this_test!(), case)).into();
        children.into_iter().for_each(kill);
        fs::remove_dir_all(place.queue()).unwrap();
        // They were in other containers, and one of them had nothing pending.
        let hours = if place.db.starts_with("postgres:") { "interval '2 hours'" } else { "7200000000" };
        support::run(
            &place.db,
            format!(
                "UPDATE tracing_audit_writers
                 SET host = replace(host, 'pid:[', 'pid:[9'), said_at = said_at - {hours};
                 UPDATE tracing_audit_writers SET accepted = 10
                 WHERE writer IN (SELECT writer FROM tracing_audit_writers ORDER BY writer LIMIT 1)"
            ),
        );
        let notices = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&notices);
        let builder =
            place.builder().on_notice(move |notice| kept.lock().unwrap().push_str(&notice.to_string()));
        let log = builder.blocking().open().unwrap();
        let told =
            || notices.lock().unwrap().matches("had accepted 50 entries that are not committed").count();
        wait_until("both are told", || told() == 2);
        commit(&log, entry("after"));
        assert_eq!((told(), log.health(), place.told().len()), (2, Health::Healthy, 0));
        assert_eq!(notices.lock().unwrap().matches("the writer ").count(), 2);
    }
}

#[test]
fn two_logs_that_find_the_same_journal_missing_tell_it_once() {
    of_child();
    let _heavy = heavy();
    for place in places() {
        // All at the same time: none adopts another's journal.
        let children: Vec<Child> = (0..3).map(|_| place.start(this_test!(), "journal")).collect();
        children.into_iter().for_each(kill);
        fs::remove_dir_all(place.queue()).unwrap();
        let logs: Vec<AuditLog> = std::thread::scope(|scope| {
            let open = || scope.spawn(|| place.builder().blocking().open().unwrap());
            let opening: Vec<_> = (0..4).map(|_| open()).collect();
            opening.into_iter().map(|opening| opening.join().unwrap()).collect()
        });
        wait_until("the dead are settled", || place.known() == [0; 4]);
        assert_eq!(place.told(), [50; 3]);
        // A log whose gap entry another had written before it does not take that for its own.
        for log in &logs {
            commit(log, entry("beside"));
        }
        assert_eq!(place.told(), [50; 3]);
        for log in &logs {
            assert_balanced(&log.stats());
        }
        drop(logs);
        assert_eq!(place.told_after_restarts(), [50; 3]);
    }
}

#[test]
fn a_log_that_is_alive_or_has_ended_in_order_is_not_told_of() {
    of_child();
    let _heavy = heavy();
    let place = Place::sqlite();
    let directory = place.directory.path();
    let mut child = place.start(this_test!(), "alive");
    // Somebody removes the journal of a process that is alive. It still has its entries.
    fs::remove_dir_all(&place.journals()[0]).unwrap();
    let log = place.builder().blocking().open().unwrap();
    // The log has looked several times.
    for _ in 0..3 {
        commit(&log, entry("beside"));
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!((place.told().len(), place.known()), (0, vec![3, 60]));
    fs::write(directory.join("end"), "").unwrap();
    assert!(child.wait().unwrap().success());
    wait_until("the child has ended", || place.known() == [3]);
    drop(log);
    assert_eq!(place.told_after_restarts().len(), 0);
}

#[test]
fn entries_committed_after_a_backup_are_told_when_it_is_restored_and_their_log_has_ended() {
    of_child();
    let _heavy = heavy();
    let place = Place::sqlite();
    let directory = place.directory.path();
    let (db, backup) = (directory.join("audit.db"), directory.join("backup.db"));
    let mut child = place.start(this_test!(), "ends");
    support::run(db.to_str().unwrap(), format!("VACUUM INTO '{}'", backup.display()));
    fs::write(directory.join("end"), "").unwrap();
    assert!(child.wait().unwrap().success());
    fs::rename(backup, &db).unwrap();
    assert_eq!(place.told_after_restarts(), [50]);
}
