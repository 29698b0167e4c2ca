//! What the journals of dead processes still hold: who tells it, who waits for it, and whose a journal is that names the
//! database otherwise.

use std::{
    fmt::Write,
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tracing_audit::{AuditError, AuditLog, AuditLogBuilder, Health, Unrecovered, journal::inspect};

use crate::support::{
    self, PATIENCE, again, assert_balanced, block_on, commit, entry, is_root, lock, store, this_test, unlock,
    wait_until,
};

/// The database, as the child spells it; its directory of journals, if it chooses one; and the file that it makes.
const DB: &str = "TRACING_AUDIT_TEST_DB";
const QUEUE: &str = "TRACING_AUDIT_TEST_QUEUE";
const READY: &str = "TRACING_AUDIT_TEST_READY";

/// Entries that a child accepts and does not commit.
const PENDING: u64 = 5;
const SHORT: Duration = Duration::from_millis(300);

/// The log on this database. Without a queue, that is beside the file.
fn builder(db: &str, queue: Option<&Path>) -> AuditLogBuilder {
    let builder = support::builder(store(db)).on_notice(|_| {});
    match queue {
        Some(queue) => builder.journal(queue),
        None => builder,
    }
}

/// In a child: commits one entry, so that the ledger knows its writer, and accepts some that wait for hours.
fn of_child() {
    let Ok(db) = std::env::var(DB) else { return };
    let queue = std::env::var_os(QUEUE).map(PathBuf::from);
    let builder =
        builder(&db, queue.as_deref()).batch_entries(1 << 20).flush_interval(Duration::from_hours(1));
    let log = builder.blocking().open().unwrap();
    // As a service does that becomes a daemon.
    std::env::set_current_dir("/").unwrap();
    commit(&log, entry("committed"));
    for _ in 0..PENDING {
        log.writer().blocking().write(entry("pending")).unwrap();
    }
    fs::write(std::env::var_os(READY).unwrap(), "").unwrap();
    loop {
        std::thread::park();
    }
}

/// A process that accepts entries in this directory, and is killed.
fn accepted_and_killed(test: &str, directory: &Path, db: &str, queue: Option<&Path>) {
    let ready = tempfile::tempdir().unwrap();
    let ready = ready.path().join("ready");
    let mut child = again(test);
    child.current_dir(directory).env(DB, db).env(READY, &ready).stdout(std::process::Stdio::null());
    child.envs(queue.map(|queue| (QUEUE, queue)));
    let mut child: Child = child.spawn().unwrap();
    wait_until("the child is ready", || {
        assert!(child.try_wait().unwrap().is_none(), "the child has failed");
        ready.exists()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

fn pending(db: &str) -> u64 {
    support::all_in(db).iter().filter(|found| found.entry.action == "pending").count() as u64
}

fn recovered(log: &AuditLog) {
    log.blocking().recovered(PATIENCE).unwrap();
    assert_eq!(log.stats().unrecovered, Unrecovered::default());
    assert_balanced(&log.stats());
}

/// The number of journals and of entries in them, and whether there may be more.
fn unrecovered(log: &AuditLog) -> (u64, u64, bool) {
    let Unrecovered { journals, entries, at_least, .. } = log.stats().unrecovered;
    (journals, entries, at_least)
}

/// An error with all its causes.
fn in_full(error: &AuditError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Everything that a log notices.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<String>>);

impl Notices {
    fn of(&self, builder: AuditLogBuilder) -> AuditLogBuilder {
        let notices = self.clone();
        builder.on_notice(move |notice| writeln!(notices.0.lock().unwrap(), "{notice}").unwrap())
    }

    fn have(&self, text: &str) -> bool {
        self.0.lock().unwrap().contains(text)
    }
}

struct Place {
    directory: TempDir,
    db: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = directory.path().join("audit.db").to_str().unwrap().to_owned();
        Self { directory, db }
    }

    fn queue(&self) -> PathBuf {
        self.directory.path().join("queue")
    }

    fn journals(&self) -> Vec<PathBuf> {
        inspect(self.queue()).unwrap().into_iter().map(|journal| journal.directory).collect()
    }

    fn killed(&self, test: &str) {
        accepted_and_killed(test, self.directory.path(), &self.db, Some(&self.queue()));
    }

    fn builder(&self) -> AuditLogBuilder {
        builder(&self.db, Some(&self.queue()))
    }
}

#[test]
fn a_log_tells_what_dead_journals_hold_and_a_call_waits_until_all_of_it_is_committed() {
    of_child();
    let place = Place::new();
    let log = place.builder().blocking().open().unwrap();
    recovered(&log);
    drop(log);
    for _ in 0..3 {
        place.killed(this_test!());
    }
    let blocker = block_on(lock(&place.db));
    let log = place.builder().blocking().open().unwrap();
    wait_until("all is counted", || unrecovered(&log) == (3, 3 * PENDING, false));
    // `flush` counts only its own.
    log.blocking().flush().unwrap();
    let error = log.blocking().recovered(SHORT).unwrap_err();
    assert!(error.is_pending() && error.to_string().contains("hold 15 accepted"), "{error}");
    // Another log waits for those that the first one has adopted, as well as for the others.
    let other = place.builder().blocking().open().unwrap();
    wait_until("they are seen", || unrecovered(&other).0 == 3 && unrecovered(&other).2);
    assert!(other.blocking().recovered(SHORT).unwrap_err().is_pending());
    block_on(unlock(blocker));
    std::thread::scope(|scope| {
        for log in [&log, &other, &log] {
            scope.spawn(|| {
                log.blocking().recovered(PATIENCE).unwrap();
                assert_eq!(pending(&place.db), 3 * PENDING);
            });
        }
    });
    recovered(&log);
    recovered(&other);
    assert_eq!(log.stats().recovered + other.stats().recovered, 3 * PENDING);
    assert_eq!(pending(&place.db), 3 * PENDING);
    drop(other);
    // More than are held open at the same time.
    for _ in 0..9 {
        place.killed(this_test!());
    }
    recovered(&log);
    assert_eq!(pending(&place.db), 12 * PENDING);
    assert_eq!(log.blocking().shutdown(PATIENCE).unwrap().stats.pending, 0);
    assert!(log.blocking().recovered(PATIENCE).is_err_and(|error| error.is_closed()));
    // Without a directory of journals there is nothing to wait for.
    let memory = builder(&place.db, None).in_memory_queue().blocking().open().unwrap();
    recovered(&memory);
}

#[test]
fn a_journal_that_is_left_alone_is_named_with_the_remedy_and_keeps_no_other_waiting() {
    type Harm = fn(&Path);
    of_child();
    let mut harms: Vec<(&str, Harm)> = vec![
        ("is a link", |journal| {
            let moved = journal.with_file_name("moved");
            fs::rename(journal, &moved).unwrap();
            symlink(moved, journal).unwrap();
        }),
        ("the headers of its segments are damaged", |journal| {
            let segment = journal.join("00000000000000000000.segment");
            let mut bytes = fs::read(&segment).unwrap();
            bytes[30] ^= 1;
            fs::write(segment, bytes).unwrap();
        }),
        ("has lost its lock", |journal| fs::remove_file(journal.join("lock")).unwrap()),
        ("which this version cannot read", |journal| {
            let segment = journal.join("00000000000000000000.segment");
            let mut bytes = fs::read(&segment).unwrap();
            bytes[8] = 9;
            fs::write(segment, bytes).unwrap();
        }),
        ("is a link, a pipe, a device", |journal| {
            let segment = journal.join("00000000000000000000.segment");
            fs::remove_file(&segment).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(segment).status().unwrap().success());
        }),
    ];
    if is_root() {
        harms.push(("by chown", |journal| chown(journal, Some(12345), None).unwrap()));
    }
    for (names, harm) in harms {
        let place = Place::new();
        place.killed(this_test!());
        let journal = place.journals().remove(0);
        place.killed(this_test!());
        harm(&journal);
        let log = place.builder().blocking().open().unwrap();
        let error = log.blocking().recovered(PATIENCE).unwrap_err();
        let told = in_full(&error);
        assert!(error.is_store() && told.contains(names), "{told}");
        assert!(told.contains(journal.to_str().unwrap()), "{told}");
        assert_eq!((pending(&place.db), unrecovered(&log).0), (PENDING, 1));
        assert!(log.stats().unrecovered.at_least);
        // Somebody moves it away: the next call looks again at once.
        fs::rename(&journal, place.directory.path().join("elsewhere")).unwrap();
        recovered(&log);
    }
}

#[test]
fn a_file_has_one_queue_and_one_name_however_its_path_is_spelled() {
    of_child();
    let spellings =
        ["audit.db", "ABSOLUTE", "./data/../audit.db", "link.db", "link/audit.db", "data/again.db"];
    let at = |directory: &Path, spelling: &str| match spelling {
        "ABSOLUTE" => directory.join("audit.db"),
        spelling => directory.join(spelling),
    };
    // Each is the dead one's spelling once, and the next one's once.
    let pairs = spellings.iter().zip(spellings.iter().cycle().skip(1));
    for (number, (dead, next)) in pairs.enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::create_dir(directory.join("data")).unwrap();
        symlink("audit.db", directory.join("link.db")).unwrap();
        symlink(".", directory.join("link")).unwrap();
        symlink("../link.db", directory.join("data/again.db")).unwrap();
        let queue = directory.join("elsewhere");
        // The queue by default, and a chosen one.
        let queue = (number % 2 == 1).then_some(queue.as_path());
        let spelled = if *dead == "ABSOLUTE" { at(directory, dead) } else { PathBuf::from(dead) };
        accepted_and_killed(this_test!(), directory, spelled.to_str().unwrap(), queue);
        let db = at(directory, next);
        let notices = Notices::default();
        let log = notices.of(builder(db.to_str().unwrap(), queue)).blocking().open().unwrap();
        recovered(&log);
        assert_eq!(pending(db.to_str().unwrap()), PENDING, "{dead}, then {next}");
        assert_eq!((log.health(), log.stats().recovered), (Health::Healthy, PENDING));
        drop(log);
        assert!(!notices.have("journal"), "{dead}, then {next}: {:?}", notices.0);
    }
}

#[test]
fn a_database_that_was_moved_knows_its_writers_and_a_copy_takes_nothing_from_the_original() {
    of_child();
    let place = Place::new();
    place.killed(this_test!());
    let dead = place.journals().remove(0);
    let [moved, copy] = ["moved.db", "copy.db"].map(|name| place.directory.path().join(name));
    let [moved, copy] = [&moved, &copy].map(|path| path.to_str().unwrap());
    support::run(&place.db, format!("VACUUM INTO '{copy}'"));
    let notices = Notices::default();
    let log = notices.of(builder(copy, Some(&place.queue()))).blocking().open().unwrap();
    wait_until("it is told", || notices.have("this log does not commit it"));
    assert!(notices.have("up to 6 entries") && notices.have(dead.to_str().unwrap()));
    recovered(&log);
    assert_eq!((log.health(), pending(copy), log.stats().recovered), (Health::Healthy, 0, 0));
    drop(log);
    for end in ["", "-wal", "-shm"] {
        let from = format!("{}{end}", place.db);
        if Path::new(&from).exists() {
            fs::rename(from, format!("{moved}{end}")).unwrap();
        }
    }
    let notices = Notices::default();
    let log = notices.of(builder(moved, Some(&place.queue()))).blocking().open().unwrap();
    recovered(&log);
    assert_eq!((pending(moved), log.stats().recovered), (PENDING, PENDING));
    wait_until("it is told", || notices.have("this ledger knows its writer"));
}

#[test]
fn a_journal_of_another_database_is_told_once_and_harms_nobody() {
    of_child();
    let place = Place::new();
    place.killed(this_test!());
    let dead = place.journals().remove(0);
    let other = place.directory.path().join("other.db");
    let notices = Notices::default();
    let builder = notices.of(builder(other.to_str().unwrap(), Some(&place.queue())));
    let log = builder.blocking().open().unwrap();
    wait_until("it is told", || notices.have("up to 6 entries"));
    for text in ["sqlite:audit.db", "ledger main", dead.to_str().unwrap()] {
        assert!(notices.have(text), "{text}: {:?}", notices.0);
    }
    // It is not this ledger's: nobody waits for it.
    recovered(&log);
    recovered(&log);
    assert_eq!((log.health(), log.stats().recovered), (Health::Healthy, 0));
    assert!(log.stats().last_error.is_none());
    assert_eq!(notices.0.lock().unwrap().matches("up to 6 entries").count(), 1);
    drop(log);
    let log = place.builder().blocking().open().unwrap();
    recovered(&log);
    assert_eq!(pending(&place.db), PENDING);
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::net::TcpListener;

    use tracing_audit::Store;

    use super::*;
    use crate::support::postgres::{Server, server};

    #[test]
    fn a_server_that_is_reached_at_another_address_is_known_by_its_ledger() {
        of_child();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Server::at_port(port);
        server.command("start");
        fs::write(server.data().join("postgresql.auto.conf"), "listen_addresses = '127.0.0.1'\n").unwrap();
        server.command("INT");
        server.command("start");
        let by_socket = server.create_database();
        let name = by_socket.rsplit_once('/').unwrap().1.to_owned();
        let at = |host: &str| format!("postgres://postgres@{host}:{port}/{name}");
        let addresses = [by_socket.clone(), at("127.0.0.1"), at("localhost")];
        let directory = tempfile::tempdir().unwrap();
        let queue = directory.path().join("queue");
        let mut in_all = 0;
        for (dead, next) in addresses.iter().zip(addresses.iter().cycle().skip(1)) {
            accepted_and_killed(this_test!(), directory.path(), dead, Some(&queue));
            in_all += PENDING;
            let notices = Notices::default();
            let log = notices.of(builder(next, Some(&queue))).blocking().open().unwrap();
            recovered(&log);
            assert_eq!((pending(&by_socket), log.health()), (in_all, Health::Healthy), "{dead}, then {next}");
            wait_until("it is told", || notices.have("this ledger knows its writer"));
            assert_eq!(log.blocking().shutdown(PATIENCE).unwrap().stats.pending, 0);
        }
    }

    #[test]
    fn another_database_or_ledger_of_the_same_server_is_told_of_a_journal_and_does_not_take_it() {
        of_child();
        let (db, other) = (server().create_database(), server().create_database());
        let directory = tempfile::tempdir().unwrap();
        let queue = directory.path().join("queue");
        accepted_and_killed(this_test!(), directory.path(), &db, Some(&queue));
        let file = directory.path().join("audit.db");
        let strangers: [(&str, Store, &str); 3] = [
            ("database", store(&other), "main"),
            ("ledger", store(&db), "second"),
            ("kind", store(file.to_str().unwrap()), "main"),
        ];
        for (what, store, ledger) in strangers {
            let notices = Notices::default();
            let builder = notices.of(support::builder(store).journal(&queue).ledger(ledger));
            let log = builder.blocking().open().unwrap();
            wait_until("it is told", || notices.have("up to 6 entries") && notices.have("postgres:"));
            recovered(&log);
            assert_eq!((log.health(), log.stats().recovered), (Health::Healthy, 0), "{what}");
        }
        let log = builder(&db, Some(&queue)).blocking().open().unwrap();
        recovered(&log);
        assert_eq!(pending(&db), PENDING);
    }

    /// A journal is told of, too, while there is no server that could say how much of it is committed.
    #[test]
    fn a_log_without_its_server_tells_of_dead_journals_as_far_as_can_be_known() {
        of_child();
        let mut server = Server::new();
        server.command("start");
        let db = server.database("postgres");
        let directory = tempfile::tempdir().unwrap();
        let queue = directory.path().join("queue");
        accepted_and_killed(this_test!(), directory.path(), &db, Some(&queue));
        server.command("INT");
        let log = builder(&db, Some(&queue)).blocking().open().unwrap();
        wait_until("it is seen", || unrecovered(&log) == (1, 0, true));
        let error = log.blocking().recovered(SHORT).unwrap_err();
        assert!(error.is_pending() && error.to_string().contains("at least 0"), "{error}");
        server.command("start");
        recovered(&log);
        assert_eq!(pending(&db), PENDING);
    }
}
