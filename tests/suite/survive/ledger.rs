//! The tree over a ledger's entries is exact, however the processes end that add to it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tracing_audit::{AuditEntry, AuditLog, AuditReader, Integrity, evidence::Verification};
use uuid::Uuid;

use crate::support::{self, assert_balanced, entry, heavy, settle, store, this_test, wait_until};

const DB: &str = "TRACING_AUDIT_TEST_DB";
const QUEUE: &str = "TRACING_AUDIT_TEST_QUEUE";
const NAME: &str = "TRACING_AUDIT_TEST_NAME";
const INTEGRITY: &str = "TRACING_AUDIT_TEST_INTEGRITY";

/// A database, and a directory for the journals of all who write to it.
struct Place {
    db: String,
    directory: TempDir,
}

impl Place {
    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { db: directory.path().join("audit.db").to_str().unwrap().to_owned(), directory }
    }

    #[cfg(feature = "postgres")]
    fn postgres() -> Self {
        Self { db: support::postgres::server().create_database(), directory: tempfile::tempdir().unwrap() }
    }

    fn queue(&self) -> PathBuf {
        self.directory.path().join("queue")
    }
}

/// Opens the ledger, also where others keep the file locked for longer than an attempt to open it waits.
fn open(db: &str, queue: &Path, integrity: Integrity) -> AuditLog {
    let start = Instant::now();
    loop {
        let builder = support::builder(store(db)).journal(queue).integrity(integrity).on_notice(|notice| {
            // Nobody but writers has changed anything.
            if let Some(error) = notice.error.filter(tracing_audit::AuditError::is_altered) {
                say(&format!("told {error}"));
            }
        });
        match builder.flush_interval(Duration::from_millis(5)).blocking().open() {
            Ok(log) => return log,
            Err(error) => {
                let locked = error.to_string().contains("stayed locked by another connection");
                assert!(locked && start.elapsed() < support::PATIENCE, "{error:?}");
            }
        }
    }
}

/// Writes a line of its own at once, whatever the harness has begun to print.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// In a child: writes numbered entries until its standard input ends or it is killed, and says how many were accepted.
fn write_as_child() -> bool {
    let Ok(db) = std::env::var(DB) else { return false };
    let [queue, name, integrity] = [QUEUE, NAME, INTEGRITY].map(|variable| std::env::var(variable).unwrap());
    // Without the tree it writes the rows that the version before wrote.
    let integrity = if integrity == "off" { Integrity::Off } else { Integrity::Inline };
    let log = open(&db, Path::new(&queue), integrity);
    let ended = std::thread::spawn(|| drop(std::io::stdin().read_to_end(&mut Vec::new())));
    let mut accepted = 0_u64;
    while !ended.is_finished() {
        for _ in 0..fastrand::u8(1..20) {
            let named = AuditEntry { resource_id: Some(format!("{name}-{accepted}")), ..entry("a") };
            accepted += u64::from(log.writer().try_write(named).is_ok());
        }
        say(&format!("accepted {accepted}"));
        std::thread::sleep(Duration::from_millis(fastrand::u64(1..30)));
    }
    settle(&log.writer());
    let stats = log.stats();
    assert_balanced(&stats);
    assert_eq!((stats.quarantined, stats.damaged), (0, 0), "{stats:?}");
    true
}

/// A process that writes.
struct Writing {
    name: String,
    child: Child,
    accepted: Arc<AtomicU64>,
    /// Reads what it says, and returns what it told of changes by others.
    reading: JoinHandle<Vec<String>>,
}

/// A process that has written, and how many entries it had at least accepted.
struct Written {
    name: String,
    accepted: u64,
}

impl Writing {
    fn start(test: &str, place: &Place, integrity: &str) -> Self {
        let name = Uuid::new_v4().simple().to_string();
        let mut child = support::again(test)
            .envs([(DB, &*place.db), (NAME, &name), (INTEGRITY, integrity)])
            .env(QUEUE, place.queue())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let accepted = Arc::new(AtomicU64::new(0));
        let heard = Arc::clone(&accepted);
        let reading = std::thread::spawn(move || {
            let mut told = Vec::new();
            for line in out.lines() {
                let line = line.unwrap();
                // The last line may be cut off, and then is a smaller number.
                if let Some(Ok(accepted)) = line.strip_prefix("accepted ").map(str::parse) {
                    heard.store(accepted, Ordering::SeqCst);
                } else if line.starts_with("told ") {
                    told.push(line);
                }
            }
            told
        });
        Self { name, child, accepted, reading }
    }

    fn has_written(&self) -> bool {
        self.accepted.load(Ordering::SeqCst) > 0
    }

    fn kill(mut self) -> Written {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Self::ended(self.name, self.reading, &self.accepted)
    }

    fn end(mut self) -> Written {
        drop(self.child.stdin.take());
        assert!(support::wait(self.child).success());
        Self::ended(self.name, self.reading, &self.accepted)
    }

    fn ended(name: String, reading: JoinHandle<Vec<String>>, accepted: &AtomicU64) -> Written {
        let told = reading.join().unwrap();
        assert!(told.is_empty(), "{told:?}");
        Written { name, accepted: accepted.load(Ordering::SeqCst) }
    }
}

/// Commits what dead processes have left, and checks that everything accepted is there once and in its order, and that the
/// tree is exact: made anew from the rows, and if there is time also by `verify` and by the program that shares no code with
/// the crate.
fn assert_exact(place: &Place, written: &[Written], is_sweep: bool) {
    let db = &*place.db;
    let log = open(db, &place.queue(), Integrity::Inline);
    log.blocking().recovered(support::PATIENCE).unwrap();
    settle(&log.writer());
    wait_until("the tree has caught up", || {
        let status = log.reader().blocking().ledger_status().unwrap();
        status.tree_size == status.next_seq
    });
    let kept = log.reader().blocking().checkpoint().unwrap();
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);

    let names = support::texts(
        db,
        "SELECT resource_id FROM tracing_audit_entries WHERE resource_id LIKE '%-%' ORDER BY seq",
    );
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for name in &names {
        let (name, number) = name.rsplit_once('-').unwrap();
        let next = next.entry(name).or_default();
        assert_eq!(number.parse(), Ok(*next), "the entries of {name} are there in their order, each once");
        *next += 1;
    }
    for Written { name, accepted } in written {
        let found = next.get(&**name).copied().unwrap_or(0);
        assert!(found >= *accepted, "{name} has accepted {accepted}, {found} are there");
    }

    assert_eq!(support::assert_tree(db), 0);
    println!("{} entries, {} of them by {} processes", kept.size(), names.len(), written.len());
    if !is_sweep {
        return;
    }
    let verification = Verification::against(kept.clone());
    let verified = AuditReader::new(store(db)).blocking().verify(verification).unwrap();
    assert!(verified.findings().is_empty(), "{:?}", verified.findings());
    assert_eq!((verified.covered(), verified.entries()), (kept.size(), kept.size()));
    if !db.starts_with("postgres:") {
        let (size, root) = support::size_and_root(&kept);
        let said = support::second_program(db, &[&format!("{size} {root}")]);
        assert_eq!((&said["intact"], &said["root"]), (&true.into(), &root.into()), "{said}");
    }
}

/// Makes a SQLite file as the version before has left it, which knew no tree: entries in batches of all sizes.
fn fill_as_the_version_before(db: &str, entries: i64) {
    for migration in store(db).migrations().iter().filter(|migration| migration.version < 4) {
        support::run(db, &*migration.sql);
    }
    let (mut batches, mut first, mut positions) = (Vec::new(), 0, [0, 0]);
    for (number, size) in [1, 7, 100, 5000, 1, 16_384, 1000, 20_000].iter().cycle().enumerate() {
        let count = (entries - first).min(*size);
        if count == 0 {
            break;
        }
        let writer = number % 2;
        positions[writer] += count;
        let (position, after) = (positions[writer], first + count);
        batches
            .push(format!("({first}, {count}, x'{writer:032x}', {position}, {after}, {first}, {after} - 1)"));
        first = after;
    }
    support::run(
        db,
        format!(
            "BEGIN;
             WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {entries} - 1)
             INSERT INTO tracing_audit_entries
                 SELECT n, randomblob(16), n, zeroblob(16), iif(n % 3 = 0, randomblob(16), NULL),
                        iif(n % 2 = 0, zeroblob(16), NULL), 'a' || n, 'document', iif(n % 5 = 0, NULL, 'd' || n),
                        iif(n % 7 = 0, 'Deny', 'Allow'), iif(n % 7 = 0, 'policy', NULL),
                        iif(n % 11 = 0, NULL, n % 100 / 100.0), '{{\"ip\":\"10.0.0.1\",\"number\":' || n || '}}', NULL
                 FROM n;
             INSERT INTO tracing_audit_batches VALUES {};
             INSERT INTO tracing_audit_positions VALUES (x'{:032x}', {}), (x'{:032x}', {});
             INSERT INTO tracing_audit_head (ledger, next_seq, given) VALUES ('main', {entries}, {entries});
             COMMIT",
            batches.join(", "),
            0,
            positions[0],
            1,
            positions[1]
        ),
    );
}

/// A ledger of the version before gets its tree beside writers of both versions. All processes that add to the tree are killed
/// at once, at moments all over the work.
fn catches_up(test: &str, entries: i64, kills: i64) {
    if write_as_child() {
        return;
    }
    let _heavy = heavy();
    let place = Place::sqlite();
    fill_as_the_version_before(&place.db, entries);
    let before = Writing::start(test, &place, "off");
    wait_until("the writer of the version before writes", || before.has_written());
    let start = || [(); 2].map(|()| Writing::start(test, &place, "inline"));
    let (mut written, mut catching_up, mut at_kills) = (Vec::new(), start(), Vec::new());
    let tree_size = || -> i64 {
        let size = support::texts(&place.db, "SELECT CAST(tree_size AS text) FROM tracing_audit_head");
        size[0].parse().unwrap()
    };
    for kill in 0..kills {
        let part = entries / (kills + 1);
        let reached = part * kill + fastrand::i64(0..part);
        wait_until("the tree has come far enough", || tree_size() >= reached);
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..100)));
        written.extend(catching_up.map(Writing::kill));
        at_kills.push(tree_size());
        catching_up = start();
    }
    wait_until("the tree has come beyond what was there before", || tree_size() > entries);
    written.extend(catching_up.map(Writing::end));
    written.push(before.end());
    assert_exact(&place, &written, entries >= 1_000_000);
    println!("killed when the tree had {at_kills:?} leaves");
}

#[test]
fn a_ledger_of_the_version_before_catches_up_beside_writers_of_both_versions_that_are_killed() {
    catches_up(this_test!(), 34_000, 2);
}

#[test]
#[ignore = "a sweep: .ci/sweep ledger"]
fn a_million_entries_of_the_version_before_catch_up_beside_writers_of_both_versions_killed_five_times() {
    catches_up(this_test!(), 1_000_000, 5);
}

/// Processes write to one ledger for a minute. Again and again one of them is killed, and another one takes its place.
fn killed_for_a_minute(test: &str, place: &dyn Fn() -> Place, processes: usize) {
    if write_as_child() {
        return;
    }
    let _heavy = heavy();
    let place = place();
    let start = || Writing::start(test, &place, "inline");
    let mut writing: Vec<Writing> = (0..processes).map(|_| start()).collect();
    let (mut written, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..400)));
        written.push(writing.swap_remove(fastrand::usize(..processes)).kill());
        writing.push(start());
    }
    println!("{} processes killed", written.len());
    written.extend(writing.into_iter().map(Writing::end));
    assert_exact(&place, &written, true);
}

#[test]
#[ignore = "a sweep: .ci/sweep ledger"]
fn the_tree_of_a_file_is_exact_after_eight_processes_were_killed_for_a_minute() {
    killed_for_a_minute(this_test!(), &Place::sqlite, 8);
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "a sweep: .ci/sweep ledger"]
fn the_tree_in_postgresql_is_exact_after_four_processes_were_killed_for_a_minute() {
    killed_for_a_minute(this_test!(), &Place::postgres, 4);
}
