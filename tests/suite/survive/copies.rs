//! Copies of a machine or of a directory of journals: several processes have one writer, and each entry of each of them is
//! committed once.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tracing_audit::{AuditLog, Health};

use crate::support::{self, PATIENCE, assert_balanced, commit, entry, settle};

/// A database, and directories of journals.
struct Place {
    directory: TempDir,
    db: String,
    notices: Arc<Mutex<String>>,
}

/// A place with a fresh database, for each kind.
fn places() -> Vec<Place> {
    let place = |db: Option<String>| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db").to_str().unwrap().to_owned();
        Place { directory, db: db.unwrap_or(file), notices: Arc::default() }
    };
    vec![
        place(None),
        #[cfg(feature = "postgres")]
        place(Some(support::postgres::server().create_database())),
    ]
}

impl Place {
    fn at(&self, queue: &str) -> PathBuf {
        self.directory.path().join(queue)
    }

    /// A log with its journals in this directory, which commits nothing of its own before it is asked to.
    fn open(&self, queue: &str) -> AuditLog {
        let notices = Arc::clone(&self.notices);
        let builder = support::builder(support::store(&self.db)).journal(self.at(queue));
        let builder = builder.on_notice(move |notice| writeln!(notices.lock().unwrap(), "{notice}").unwrap());
        let builder = builder.flush_interval(Duration::from_hours(1)).batch_entries(1 << 20);
        builder.blocking().open().unwrap()
    }

    /// Copies a directory of journals with all that is in it.
    fn copy(&self, queue: &str, to: &str) {
        let copied = Command::new("cp").arg("-a").args([self.at(queue), self.at(to)]).status().unwrap();
        assert!(copied.success());
    }

    /// A log on this copy has committed what the copy holds.
    fn recovers(&self, queue: &str) -> u64 {
        let (recovered, quarantined) = self.settles(queue);
        assert_eq!(quarantined, 0);
        recovered
    }

    /// A log on this copy has settled what the copy holds. Returns how much it was, and how much is in quarantine.
    fn settles(&self, queue: &str) -> (u64, u64) {
        let log = self.open(queue);
        log.blocking().recovered(PATIENCE).unwrap();
        assert_balanced(&log.stats());
        let report = log.blocking().shutdown(PATIENCE).unwrap();
        assert_eq!(report.stats.pending, 0);
        (report.stats.recovered, report.stats.quarantined)
    }

    /// The number of entries by action. Each `seq` is there once.
    fn found(&self) -> BTreeMap<String, usize> {
        let found = support::all_in(&self.db);
        assert!(found.iter().map(|found| found.seq).eq(0..found.len() as u64));
        let mut actions = BTreeMap::new();
        for found in found {
            *actions.entry(found.entry.action).or_default() += 1;
        }
        actions
    }

    fn has(&self, expected: &[(&str, usize)]) {
        let expected: BTreeMap<String, usize> =
            expected.iter().map(|(action, count)| ((*action).to_owned(), *count)).collect();
        assert_eq!(self.found(), expected, "{}: {}", self.db, self.notices.lock().unwrap());
    }

    /// A process that goes on from the same moment on another machine has committed 7 entries.
    fn twin_commits_seven(&self) {
        let twin = self.open("twin");
        for _ in 0..7 {
            twin.writer().blocking().write(entry("of the twin")).unwrap();
        }
        twin.blocking().flush().unwrap();
        drop(twin);
        let of = |position: u64| {
            format!("(SELECT writer FROM tracing_audit_positions WHERE position = {position})")
        };
        support::run(
            &self.db,
            format!(
                "UPDATE tracing_audit_batches SET position = position + 10, writer = {} WHERE writer = {};
                 DELETE FROM tracing_audit_positions WHERE position = 7;
                 UPDATE tracing_audit_positions SET position = 17 WHERE position = 10",
                of(10),
                of(7),
            ),
        );
        if !self.db.starts_with("postgres:") {
            // A file has no twin. What was rewritten here must not look like a restored backup.
            support::run(&self.db, "PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

fn write(log: &AuditLog, count: usize, action: &str) {
    for _ in 0..count {
        log.writer().blocking().write(entry(action)).unwrap();
    }
}

fn is_whole(log: &AuditLog) {
    assert_eq!((log.health(), log.stats().quarantined, log.stats().damaged), (Health::Healthy, 0, 0));
    assert_balanced(&log.stats());
}

impl Place {
    /// How often it was told that another process has the same writer.
    fn told(&self) -> usize {
        self.notices.lock().unwrap().matches("another process has used the positions").count()
    }
}

#[test]
fn a_log_that_goes_on_twice_from_one_moment_confirms_only_what_is_there() {
    // One entry does not come as far as the twin. Of twenty, the twin's seven may pass for the first.
    for own in [1, 20] {
        for place in places() {
            let log = place.open("queue");
            write(&log, 10, "before");
            log.blocking().flush().unwrap();
            place.twin_commits_seven();
            write(&log, own - 1, "own");
            let seq = commit(&log, entry("own"));
            let found = support::all_in(&place.db);
            assert_eq!(found[usize::try_from(seq).unwrap()].entry.action, "own");
            settle(&log.writer());
            write(&log, 3, "own");
            settle(&log.writer());
            is_whole(&log);
            place.has(&[("before", 10), ("of the twin", 7), ("own", own + 3)]);
            support::wait_until("it is told", || place.told() > 0);
            assert_eq!(log.blocking().shutdown(PATIENCE).unwrap().stats.pending, 0);
            // The next log has nothing to tell.
            assert_eq!(place.recovers("queue"), 0);
            place.has(&[("before", 10), ("of the twin", 7), ("own", own + 3)]);
        }
    }
}

#[test]
fn a_copy_of_a_journal_beside_its_living_log_loses_and_doubles_nothing() {
    for place in places() {
        let log = place.open("queue");
        write(&log, 10, "committed");
        log.blocking().flush().unwrap();
        write(&log, 20, "pending");
        place.copy("queue", "early");
        write(&log, 10, "pending");
        place.copy("queue", "late");
        // The ledger knows that there are more than the copy has, and that their log is alive.
        support::run(&place.db, "UPDATE tracing_audit_writers SET accepted = 40 WHERE accepted IS NOT NULL");
        assert_eq!(place.recovers("early"), 20);
        place.has(&[("committed", 10), ("pending", 20)]);
        assert_eq!(place.recovers("late"), 10);
        place.has(&[("committed", 10), ("pending", 30)]);
        write(&log, 5, "pending");
        settle(&log.writer());
        is_whole(&log);
        assert_eq!(log.stats().committed, 45);
        place.has(&[("committed", 10), ("pending", 35)]);
        assert_eq!(place.told(), 0);
    }
}

#[test]
fn what_copies_have_committed_in_several_batches_is_counted_by_the_living_log_as_what_it_is() {
    for place in places() {
        let log = place.open("queue");
        let twice = entry("twice");
        let repeat = || {
            log.writer().blocking().write(twice.clone()).unwrap();
        };
        write(&log, 10, "committed");
        repeat();
        log.blocking().flush().unwrap();
        // Entries that are refused lie at the begin, in the middle and at the end of what a copy commits, and alone.
        for (copy, pieces, expected) in [
            ("first", &[0, 3, 2][..], (5, 3)),
            ("second", &[4, 0][..], (4, 1)),
            ("third", &[0][..], (0, 1)),
            ("fourth", &[1][..], (1, 0)),
        ] {
            for (piece, count) in pieces.iter().enumerate() {
                if piece > 0 || *count == 0 {
                    repeat();
                }
                write(&log, *count, "pending");
            }
            place.copy("queue", copy);
            let (recovered, quarantined) = place.settles(copy);
            assert_eq!((recovered - quarantined, quarantined), expected, "{copy}");
        }
        assert_eq!((log.stats().committed, log.stats().quarantined), (11, 0));
        write(&log, 1, "pending");
        settle(&log.writer());
        assert_balanced(&log.stats());
        let stats = log.stats();
        assert_eq!((stats.committed, stats.quarantined, stats.damaged, stats.gaps), (22, 5, 0, 0));
        assert_eq!(log.health(), Health::Healthy);
        place.has(&[("committed", 10), ("pending", 11), ("twice", 1)]);
        assert_eq!(place.told(), 0);
    }
}

#[test]
fn a_copy_of_a_journal_whose_writer_has_a_twin_is_committed_once() {
    for place in places() {
        let log = place.open("queue");
        write(&log, 10, "before");
        log.blocking().flush().unwrap();
        write(&log, 20, "own");
        for copy in ["first", "second"] {
            place.copy("queue", copy);
        }
        place.twin_commits_seven();
        assert_eq!(place.recovers("first"), 20);
        let all = [("before", 10), ("of the twin", 7), ("own", 20)];
        place.has(&all);
        // Neither another copy nor the living log commits it once more.
        place.recovers("second");
        place.has(&all);
        settle(&log.writer());
        assert_balanced(&log.stats());
        place.has(&all);
        write(&log, 2, "own");
        settle(&log.writer());
        place.has(&[("before", 10), ("of the twin", 7), ("own", 22)]);
        is_whole(&log);
    }
}

#[test]
fn a_longer_copy_of_a_journal_is_committed_though_a_shorter_one_has_told_the_rest_as_lost() {
    for place in places() {
        let log = place.open("queue");
        write(&log, 10, "committed");
        log.blocking().flush().unwrap();
        write(&log, 20, "pending");
        place.copy("queue", "early");
        write(&log, 10, "pending");
        place.copy("queue", "late");
        // For all that the ledger knows, the writer is dead.
        support::run(&place.db, "UPDATE tracing_audit_writers SET accepted = 40, home = NULL");
        // Twenty are committed, and ten told.
        assert_eq!(place.recovers("early"), 30);
        place.has(&[("audit.gap", 1), ("committed", 10), ("pending", 20)]);
        assert_eq!(place.recovers("late"), 10);
        let all = [("audit.gap", 1), ("committed", 10), ("pending", 30)];
        place.has(&all);
        settle(&log.writer());
        place.has(&all);
    }
}

/// In a child, which is in a container: accepts entries that wait for hours.
#[cfg(target_os = "linux")]
fn of_container() {
    let (Ok(db), Some(directory)) = (std::env::var(DB), std::env::var_os(DIRECTORY)) else { return };
    let directory = PathBuf::from(directory);
    let builder = support::builder(support::store(&db)).journal(directory.join("queue")).on_notice(|_| {});
    let log =
        builder.flush_interval(Duration::from_hours(1)).batch_entries(1 << 20).blocking().open().unwrap();
    commit(&log, entry("committed"));
    write(&log, 20, "pending");
    std::fs::write(directory.join("ready"), "").unwrap();
    loop {
        std::thread::park();
    }
}

#[cfg(target_os = "linux")]
const DB: &str = "TRACING_AUDIT_TEST_DB";
#[cfg(target_os = "linux")]
const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";

#[test]
#[cfg(target_os = "linux")]
fn containers_that_share_a_directory_of_journals_adopt_from_each_other_only_what_dead_ones_left() {
    of_container();
    for place in places() {
        let ready = place.at("ready");
        let mut command = Command::new("unshare");
        if !support::is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(std::env::current_exe().unwrap()).args(support::only(support::this_test!()));
        command.env(DB, &place.db).env(DIRECTORY, place.directory.path()).stdout(std::process::Stdio::null());
        let mut container = command.spawn().unwrap();
        support::wait_until("the container is ready", || {
            assert!(container.try_wait().unwrap().is_none(), "the container has failed");
            ready.exists()
        });
        // Its process has an ID that means another one here, or none.
        assert_eq!(place.recovers("queue"), 0);
        place.has(&[("committed", 1)]);
        container.kill().unwrap();
        container.wait().unwrap();
        support::wait_until("its journal is adopted", || place.recovers("queue") == 20);
        place.has(&[("committed", 1), ("pending", 20)]);
    }
}
