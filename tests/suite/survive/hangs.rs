//! Whatever operation on a file never returns, every call keeps its limit, and nothing is lost or doubled once it returns.
//!
//! A preloaded library (`support/hang.c`) stops one kind of call on the database or on the queue, of SQLite's as of the
//! log's own, for as long as a file exists. It does not see what `rustix` asks the kernel for directly, which is
//! `fallocate` alone.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock, mpsc},
    time::Duration,
};

use tempfile::TempDir;
use tracing_audit::{AuditError, AuditLog, AuditWriter, Durability, Health, SequencedEntry, Store, WhenFull};
use uuid::Uuid;

use crate::support::{self, PATIENCE, again, entry, heavy, this_test, wait, wait_until};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
/// When the calls of the child begin to hang: `before` it opens its log, or `after`.
const WHEN: &str = "TRACING_AUDIT_TEST_HANGS";

const CALLS: [&str; 13] = [
    "open", "read", "write", "fsync", "truncate", "rename", "unlink", "mkdir", "rmdir", "stat", "lock",
    "close", "readdir",
];

/// A call that has not returned after this long has no limit: those of the log are a second together.
const NO_LIMIT: Duration = Duration::from_mins(1);

const DEAD: usize = 20;
const MANY: usize = 2000;

/// The preloaded library, compiled for this run.
static LIBRARY: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("hang.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/support/hang.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    let compiled = compiler.status().expect("'cc' is needed: on Debian, 'apt-get install gcc libc6-dev'");
    assert!(compiled.success());
    (directory, library)
});

/// Runs `call` on a thread of its own and returns its answer. A call without a limit fails the test.
fn limited<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(call())));
    answer.recv_timeout(NO_LIMIT).unwrap_or_else(|_| panic!("{what} has outlasted its limit"))
}

fn open(directory: &Path) -> Result<AuditLog, AuditError> {
    AuditLog::builder()
        .store(Store::sqlite(directory.join("audit.db")).unwrap())
        .on_notice(|_| {})
        // Segments of 64 KiB.
        .journal_max_bytes(256 << 10)
        .durability(Durability::PowerLoss { within: Duration::from_millis(40) })
        .when_full(WhenFull::Block { timeout: Duration::from_millis(200) })
        .commit_timeout(Duration::from_millis(500))
        .open_timeout(Duration::from_secs(1))
        .blocking()
        .open()
}

/// Opens a log once that is possible.
fn open_at_last(directory: &Path) -> AuditLog {
    let mut opened = None;
    wait_until("the log opens", || {
        opened = open(directory).ok();
        opened.is_some()
    });
    opened.unwrap()
}

/// What became of the entries that were offered.
#[derive(Default)]
struct Offered {
    accepted: Vec<Uuid>,
    committed: Vec<(Uuid, u64)>,
}

impl Offered {
    fn commit(&mut self, writer: &AuditWriter, what: &str) {
        let (entry, writer) = (entry(what), writer.clone());
        let id = entry.id;
        match limited("commit", move || writer.blocking().commit(entry)) {
            Ok(seq) => self.committed.push((id, seq)),
            Err(error) if error.is_pending() => self.accepted.push(id),
            Err(_) => {}
        }
    }

    /// Fills the queue, whose disk may hang amid the first write: that one cannot be interrupted, but those behind it
    /// have a limit.
    fn fill(&mut self, writer: &AuditWriter) {
        let (accepted, ids) = mpsc::channel();
        for _ in 0..2 {
            let (writer, accepted) = (writer.clone(), accepted.clone());
            std::thread::spawn(move || {
                for _ in 0..400 {
                    let mut entry = entry("fill");
                    entry.reason = Some("x".repeat(1000));
                    let id = entry.id;
                    match writer.blocking().write(entry) {
                        Ok(()) => drop(accepted.send(id)),
                        Err(error) => {
                            assert!(error.is_rejected(), "{error:?}");
                            break;
                        }
                    }
                }
            });
        }
        drop(accepted);
        // Both threads end, or one of them hangs in an operation of its own and the other one is rejected.
        while let Ok(id) = ids.recv_timeout(Duration::from_millis(700)) {
            self.accepted.push(id);
        }
        let (entry, writer) = (entry("behind"), writer.clone());
        let id = entry.id;
        if limited("an emitter", move || writer.blocking().write(entry)).is_ok() {
            self.accepted.push(id);
        }
    }
}

/// The child: opens a log, lets the calls hang, and looks at every limit. Then the calls return.
fn look_at_every_limit(directory: &Path, while_it_exists: &Path, hangs_before: bool) {
    let mut offered = Offered::default();
    let hang = || fs::write(while_it_exists, "").unwrap();
    let first = if hangs_before {
        hang();
        let at = directory.to_owned();
        limited("open", move || open(&at)).ok()
    } else {
        let log = open_at_last(directory);
        offered.commit(&log.writer(), "before");
        hang();
        Some(log)
    };
    let first = first.map(Arc::new);
    if let Some(log) = &first {
        let writer = log.writer();
        // Nothing can interrupt an emitter whose own write hangs. This one is in the way of all others.
        let in_the_way = writer.clone();
        let first = std::thread::spawn(move || drop(in_the_way.blocking().write(entry("first"))));
        let reached = while_it_exists.with_extension("reached");
        wait_until("the first write returns or hangs", || first.is_finished() || reached.exists());
        offered.commit(&writer, "hung");
        let flushing = writer.clone();
        let flushed = limited("flush", move || flushing.blocking().flush());
        let waiting = Arc::clone(log);
        drop(limited("recovered", move || waiting.blocking().recovered(Duration::from_millis(500))));
        let asked = writer.clone();
        let (stats, health) = limited("stats", move || (asked.stats(), asked.health()));
        // With a queue that is well, what is not committed in time is told while it hangs.
        if flushed.is_err() && stats.pending > 0 {
            wait_until("health tells of it", || log.health() != Health::Healthy);
        }
        assert!(health <= Health::Rejecting);
        offered.fill(&writer);
        offered.commit(&writer, "full");
        let asked = writer.clone();
        limited("stats", move || (asked.stats(), asked.health()));
    }
    let at = directory.to_owned();
    let second = limited("another open", move || open(&at)).ok();
    limited("drop", move || drop(second));
    let first = limited("shutdown", move || {
        // What it leaves is looked at below.
        first.inspect(|log| drop(log.blocking().shutdown(Duration::from_millis(500))))
    });
    limited("drop after a shutdown", move || drop(first));

    fs::remove_file(while_it_exists).unwrap();
    let log = open_at_last(directory);
    wait_until("a commit", || {
        offered.commit(&log.writer(), "after");
        offered.committed.len() > usize::from(!hangs_before)
    });
    let found = || {
        let mut found = BTreeMap::<Uuid, Vec<u64>>::new();
        let mut dead = 0;
        for entry in support::block_on(support::all(&log.reader())) {
            dead += usize::from(entry.entry.action == "dead");
            found.entry(entry.entry.id).or_default().push(entry.seq);
        }
        (found, dead)
    };
    wait_until("every accepted entry is committed", || {
        let (found, dead) = found();
        dead >= DEAD && offered.accepted.iter().all(|id| found.contains_key(id))
    });
    wait_until("health is well again", || log.health() == Health::Healthy);
    let (found, dead) = found();
    assert_eq!(dead, DEAD);
    assert!(found.values().all(|seqs| seqs.len() == 1), "an entry is doubled");
    for (id, seq) in &offered.committed {
        assert_eq!(found.get(id), Some(&vec![*seq]));
    }
}

/// A process that dies and leaves a journal.
fn die(directory: &Path) {
    let log = support::builder(Store::sqlite(directory.join("audit.db")).unwrap())
        .flush_interval(Duration::from_hours(1))
        .blocking()
        .open()
        .unwrap();
    (0..DEAD).for_each(|_| log.writer().try_write(entry("dead")).unwrap());
    std::process::exit(0);
}

fn sweep(test: &str, part: &str, not: &str) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        return match std::env::var(WHEN).as_deref() {
            Ok("never") => die(&directory),
            when => look_at_every_limit(&directory, &directory.join("hang"), when == Ok("before")),
        };
    }
    let _heavy = heavy();
    let mut unreached = Vec::new();
    for call in CALLS {
        let mut reached = false;
        let mut children = Vec::new();
        for when in ["before", "after"] {
            let directory = tempfile::tempdir().unwrap();
            let child = |when: &str| {
                let mut child = again(test);
                child.env(DIRECTORY, directory.path()).env(WHEN, when).stdout(std::process::Stdio::null());
                child
            };
            assert!(wait(child("never").spawn().unwrap()).success());
            let mut child = child(when);
            child.env("LD_PRELOAD", &LIBRARY.1).env("AUDIT_HANG_CALL", call);
            child.env("AUDIT_HANG_PART", part).env("AUDIT_HANG_NOT", not);
            child.env("AUDIT_HANG_WHILE", directory.path().join("hang"));
            children.push((when, child.spawn().unwrap(), directory));
        }
        for (when, child, directory) in children {
            assert!(wait(child).success(), "{call} on {part} hangs, {when} the log is open");
            reached |= directory.path().join("hang.reached").exists();
        }
        if !reached {
            unreached.push(call);
        }
    }
    println!("no call of the log on {part}: {unreached:?}");
    assert!(unreached.len() < CALLS.len() / 2, "{unreached:?}");
    assert!(PATIENCE > NO_LIMIT);
}

#[test]
fn a_call_on_the_database_that_hangs_outlasts_no_limit_and_loses_nothing() {
    sweep(this_test!(), "audit.db", ".queue");
}

#[test]
fn a_call_on_the_queue_that_hangs_outlasts_no_limit_and_loses_nothing() {
    sweep(this_test!(), "audit.db.queue", "");
}

/// In a child whose disk cannot read part of each segment: commits what a dead process has left, and what it accepts itself.
fn commit_around_bad_sectors(directory: &Path) {
    let log = support::builder(Store::sqlite(directory.join("audit.db")).unwrap())
        .flush_interval(Duration::from_hours(1))
        .batch_entries(1 << 20)
        .on_notice(|_| {})
        .blocking()
        .open()
        .unwrap();
    let writer = log.writer();
    (0..MANY).for_each(|i| writer.blocking().write(entry(format!("own {i}"))).unwrap());
    wait_until("what can be read is committed", || {
        log.blocking().flush().is_ok() && log.stats().recovered == MANY as u64
    });
    let stats = log.stats();
    support::assert_balanced(&stats);
    let found = support::block_on(support::all(&log.reader()));
    for whose in ["dead ", "own "] {
        let told = |found: &SequencedEntry| found.entry.metadata["lost"].as_u64();
        let there = found.iter().filter(|found| found.entry.action.starts_with(whose)).count();
        let lost = MANY - there;
        assert!((1..200).contains(&lost), "{whose}: {lost}");
        assert!(found.iter().any(|found| told(found) == Some(lost as u64)), "{whose}: {lost}");
        assert!(found.iter().any(|found| found.entry.action == format!("{whose}{}", MANY - 1)));
    }
    assert_eq!(found.iter().filter(|found| found.entry.action == "audit.gap").count(), 2);
    let kept = fs::read_dir(directory.join("audit.db.queue/damaged")).unwrap().count();
    assert_eq!(kept, 2);
    wait_until("health is well", || log.health() == Health::Healthy);
    std::process::exit(0);
}

#[test]
fn sectors_of_a_journal_that_cannot_be_read_cost_what_is_in_them_and_block_nothing() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        if std::env::var_os(WHEN).is_some() {
            return commit_around_bad_sectors(&directory);
        }
        let log = support::builder(Store::sqlite(directory.join("audit.db")).unwrap());
        let log = log.flush_interval(Duration::from_hours(1)).batch_entries(1 << 20);
        let log = log.blocking().open().unwrap();
        (0..MANY).for_each(|i| log.writer().blocking().write(entry(format!("dead {i}"))).unwrap());
        std::process::exit(0);
    }
    // In the middle, with more sectors than one; and at the first record.
    let next = [("65536", "73728"), ("4096", "4608")].map(|(from, until)| {
        let directory = tempfile::tempdir().unwrap();
        let mut dead = again(this_test!());
        dead.env(DIRECTORY, directory.path()).stdout(std::process::Stdio::null());
        assert!(wait(dead.spawn().unwrap()).success());
        let mut next = again(this_test!());
        next.env(DIRECTORY, directory.path()).env(WHEN, "after").stdout(std::process::Stdio::null());
        next.env("LD_PRELOAD", &LIBRARY.1).env("AUDIT_FAIL_READ", ".segment");
        next.env("AUDIT_FAIL_FROM", from).env("AUDIT_FAIL_UNTIL", until);
        (from, next.spawn().unwrap(), directory)
    });
    for (from, next, _directory) in next {
        assert!(wait(next).success(), "{from}");
    }
}
