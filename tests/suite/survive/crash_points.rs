//! Nothing accepted is lost or doubled, whatever system call a process is killed in or is refused by the kernel.
//!
//! `strace` kills the child, or lets a call fail, at the K-th call of a kind, for one K after the other until no
//! thread makes that many: all of them in `-- --ignored`, a few of each in the tests. It counts per thread, and
//! the thread that emits makes most of the writes, so the database's are swept by themselves too.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tracing_audit::{AuditEntry, AuditLogBuilder, Durability, Store, WhenFull};
use uuid::Uuid;

use crate::support::{self, assert_balanced, heavy, only, this_test, wait_until};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";

fn builder(directory: &Path) -> AuditLogBuilder {
    support::builder(Store::sqlite(directory.join("audit.db")).unwrap())
        // Segments of 64 KiB.
        .journal_max_bytes(256 << 10)
        .durability(Durability::PowerLoss { within: Duration::from_millis(4) })
        .when_full(WhenFull::Block { timeout: Duration::from_millis(500) })
        .flush_interval(Duration::from_millis(2))
        // Bounds the last flush of a child whose calls fail for good.
        .commit_timeout(Duration::from_secs(2))
        .on_notice(|_| {})
}

/// Accepts numbered entries and writes each number to standard output once it is accepted: several segments of
/// them, in bursts, so that syncs and commits happen between.
fn work(directory: &Path) {
    let mut out = std::io::stdout();
    // A journal that cannot be made is an error, and nothing is accepted.
    let Ok(log) = builder(directory).blocking().open() else { std::process::exit(3) };
    let writer = log.writer();
    for number in 0_u64..150 {
        let entry = AuditEntry {
            reason: Some("x".repeat(1500)),
            resource_id: Some(number.to_string()),
            ..AuditEntry::new(Uuid::nil(), "a", "b")
        };
        // A rejection is returned to its caller, which does not announce the entry.
        if writer.blocking().write(entry).is_ok() {
            out.write_all(&number.to_le_bytes()).and_then(|()| out.flush()).unwrap();
        }
        if number % 15 == 14 {
            std::thread::sleep(Duration::from_millis(6));
        }
    }
    // Entries that are still pending are left to the next log.
    drop(log.blocking().flush());
    std::process::exit(0);
}

/// The fault injected at a call, in the syntax of `strace -e inject`.
const KILL: &str = "signal=SIGKILL";
const FAILURES: [&str; 2] = ["error=ENOSPC", "error=EIO"];

/// The calls, and whether only those to the database's files count.
const CALLS: [(&str, bool); 8] = [
    ("pwrite64", false),
    ("pwrite64", true),
    ("fdatasync", false),
    ("fsync", false),
    // Also `renameat` and `unlinkat`.
    ("/^rename", false),
    ("/^unlink", false),
    ("fallocate", false),
    ("ftruncate", true),
];

#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    announced: u64,
    recovered: u64,
    survived: u64,
}

/// Runs the child with this fault at its K-th call, and compares the entries that the next log finds with those that
/// were announced. Returns false if no thread has made that many calls.
fn run(test: &str, (call, of_database): (&str, bool), what: &str, when: &str, tally: &mut Tally) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(directory.path().join("trace"));
    strace.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{what}:when={when}")]);
    if of_database {
        for suffix in ["", "-wal", "-journal"] {
            let mut path = file.clone().into_os_string();
            path.push(suffix);
            strace.arg("-P").arg(path);
        }
    }
    let mut child = strace
        .arg(std::env::current_exe().unwrap())
        .args(only(test))
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("'strace' is needed: on Debian, 'apt-get install strace'");
    let mut announced = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut announced).unwrap();
    let status = support::wait(child);
    let injected = fs::read_to_string(directory.path().join("trace")).unwrap();
    let injected =
        injected.contains("(INJECTED)") || status.signal() == Some(9) || status.code() == Some(137);
    // The first number, which is 0, follows the output of the harness.
    let start = announced.iter().position(|byte| *byte == 0).unwrap_or(announced.len());
    let announced: Vec<u64> = announced[start..]
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();

    let next = builder(directory.path()).blocking().open().unwrap();
    let queue = directory.path().join("audit.db.queue");
    // A directory that was not a journal yet when the child was killed holds nothing.
    let is_journal = |name: &str| Uuid::try_parse(name).is_ok();
    let names = || fs::read_dir(&queue).unwrap().map(|found| found.unwrap().file_name());
    let journals = || names().filter(|name| is_journal(name.to_str().unwrap())).count();
    wait_until(&format!("what was left is adopted after {call} {what} {when}"), || journals() == 1);
    let mut found = BTreeMap::new();
    for entry in support::all_in(file.to_str().unwrap()) {
        if let Some(number) = &entry.entry.resource_id {
            *found.entry(number.parse::<u64>().unwrap()).or_insert(0) += 1;
        }
    }
    for number in &announced {
        let times = found.remove(number).unwrap_or(0);
        assert_eq!(times, 1, "{call} {what} {when}: {number} of {} is there {times} times", announced.len());
    }
    // One entry may have been accepted and not announced.
    assert!(found.len() <= 1 && found.values().all(|times| *times == 1), "{call} {what} {when}: {found:?}");
    let books = next.stats();
    assert_balanced(&books);
    assert_eq!((books.damaged, books.quarantined), (0, 0), "{call} {what} {when}: {books:?}");
    drop(next);
    assert_eq!(support::assert_tree(file.to_str().unwrap()), 0);
    tally.runs += 1;
    tally.announced += announced.len() as u64;
    tally.recovered += books.recovered;
    tally.survived += u64::from(status.success());
    injected
}

/// Goes through the K of every call, `step` apart, for as long as the child makes that many.
fn sweep(test: &str, step: usize) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return work(Path::new(&directory));
    }
    let _heavy = heavy();
    let mut all = Tally::default();
    for call in CALLS {
        for what in [&[KILL][..], &FAILURES].concat() {
            let mut tally = Tally::default();
            let mut k = 1;
            while run(test, call, what, &k.to_string(), &mut tally) {
                k += if k < 4 { 1 } else { step };
                assert!(k < 2000, "there is an end to what a child does");
            }
            // And all from one on, for as long as it lives.
            if what != KILL {
                for from in [1, 2, 5, 20] {
                    run(test, call, what, &format!("{from}+"), &mut tally);
                }
            }
            println!("{}{} {what}: {tally:?}", call.0, if call.1 { " of the database" } else { "" });
            assert!(tally.runs > 1 || call.0 == "ftruncate", "{call:?} is made at all");
            all.runs += tally.runs;
            all.announced += tally.announced;
            all.recovered += tally.recovered;
            all.survived += tally.survived;
        }
    }
    println!("{all:?}, 0 lost, 0 doubled");
    assert!(all.recovered > 0 && all.survived > 0);
}

#[test]
fn nothing_accepted_is_lost_or_doubled_when_a_call_is_the_last_or_fails() {
    sweep(this_test!(), 40);
}

#[test]
#[ignore = "takes minutes: `cargo test --test suite survive::crash_points -- --ignored`"]
fn nothing_accepted_is_lost_or_doubled_at_any_call() {
    sweep(this_test!(), 1);
}
