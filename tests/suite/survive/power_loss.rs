//! The machine loses its power: a file system of its own, on a loop device, is shut down amid the work without
//! writing its journal, mounted again, and what is found there is held against what was announced.
//!
//! It takes root, loop devices and ext4, so it is a command of its own: `cargo test --test suite survive::power_loss -- --ignored`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tracing_audit::{AuditEntry, AuditLogBuilder, Durability, Health, Store, WhenFull};
use uuid::Uuid;

use crate::support::{self, assert_balanced, heavy, this_test, wait_until};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
const COMMITS: &str = "TRACING_AUDIT_TEST_COMMITS";

const WITHIN: Duration = Duration::from_millis(200);

fn builder(directory: &Path) -> AuditLogBuilder {
    support::builder(Store::sqlite(directory.join("audit.db")).unwrap())
        .durability(Durability::PowerLoss { within: WITHIN })
        // Segments of 256 KiB.
        .journal_max_bytes(1 << 20)
        .when_full(WhenFull::Reject)
        .on_notice(|_| {})
}

/// Accepts numbered entries and says when each was accepted, until there is no disk any more. Those of every
/// other child reach the database only when it commits one in a while.
fn work(directory: &Path) {
    let commits = std::env::var_os(COMMITS).is_some();
    let builder = if commits {
        builder(directory)
    } else {
        // The entries found are those that the journal has kept.
        builder(directory).batch_entries(1 << 20).flush_interval(Duration::from_hours(1))
    };
    let log = builder.blocking().open().unwrap();
    let writer = log.writer();
    let mut out = std::io::stdout().lock();
    for number in 0_u64.. {
        let entry = AuditEntry {
            reason: Some("x".repeat(100)),
            resource_id: Some(number.to_string()),
            ..AuditEntry::new(Uuid::nil(), "a", "b")
        };
        let (word, done) = if commits && number % 50 == 49 {
            ("committed", writer.blocking().commit(entry).map(drop))
        } else {
            ("accepted", writer.try_write(entry))
        };
        if done.is_ok() {
            // After the fact, so that the time is no earlier than the promise.
            writeln!(out, "{word} {number}").unwrap();
        }
        if log.health() == Health::Failing {
            writeln!(out, "failing {number}").unwrap();
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Shuts a file system down as a cut of the power would: `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
fn cut_power(mounted: &Path) {
    let shut_down =
        "open(D, '<', $ARGV[0]) or die $!; my $how = pack('L', 2); ioctl(D, 0x8004587d, $how) or die $!";
    let status = Command::new("perl").args(["-e", shut_down]).arg(mounted).status();
    assert!(status.expect("'perl' is needed").success());
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
    assert!(
        status.unwrap_or_else(|cause| panic!("'{program}' is needed: {cause}")).success(),
        "{program} {arguments:?}"
    );
}

/// An image that is mounted for as long as this lives.
struct Mounted<'a>(&'a str);

impl<'a> Mounted<'a> {
    fn new(image: &str, directory: &'a str) -> Self {
        run("mount", &["-o", "loop", image, directory]);
        Self(directory)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let start = Instant::now();
        // Busy for as long as the killed process is not wholly gone.
        while !Command::new("umount").arg(self.0).stderr(Stdio::null()).status().unwrap().success() {
            assert!(start.elapsed() < support::PATIENCE);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    announced: usize,
    /// Lost, and so young that they may be.
    young: usize,
    /// Lost, and older; the log's health had said that it could not keep its promise.
    told: usize,
}

fn round(test: &str, commits: bool, tally: &mut Tally) {
    let directory = tempfile::tempdir().unwrap();
    let (image, mounted) = (directory.path().join("image"), directory.path().join("mounted"));
    let (image, mounted) = (image.to_str().unwrap(), mounted.to_str().unwrap());
    fs::create_dir(mounted).unwrap();
    fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
    run("mkfs.ext4", &["-q", image]);
    let mut accepted: BTreeMap<u64, Instant> = BTreeMap::new();
    let (mut committed, mut failing) = (BTreeSet::new(), false);
    let cut = {
        let _mounted = Mounted::new(image, mounted);
        let mut command = support::again(test);
        command.env(DIRECTORY, mounted);
        if commits {
            command.env(COMMITS, "");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                tell.send((Instant::now(), line)).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(600 + fastrand::u64(0..700)));
        // An announcement after this may be of a promise that the cut has broken already.
        let cut = Instant::now();
        cut_power(Path::new(mounted));
        // With the disk gone, nothing more is promised.
        std::thread::sleep(Duration::from_millis(50));
        child.kill().unwrap();
        child.wait().unwrap();
        reading.join().unwrap();
        for (at, line) in told {
            if let Some((word, number)) = line.split_once(' ')
                && let Ok(number) = number.parse()
                && at < cut
            {
                match word {
                    "accepted" => drop(accepted.insert(number, at)),
                    "committed" => drop(committed.insert(number)),
                    "failing" => failing = true,
                    other => panic!("{other}: {line}"),
                }
            }
        }
        cut
    };
    let _mounted = Mounted::new(image, mounted);
    let mounted = Path::new(mounted);
    let log = builder(mounted).blocking().open().unwrap();
    let journals = || fs::read_dir(mounted.join("audit.db.queue")).unwrap();
    let journals = || journals().filter(|found| found.as_ref().unwrap().file_name() != "damaged").count();
    wait_until("what was left is adopted", || journals() == 1);
    assert_balanced(&log.stats());
    let found = support::all_in(mounted.join("audit.db").to_str().unwrap());
    let numbers: Vec<u64> =
        found.iter().filter_map(|found| found.entry.resource_id.as_ref()?.parse().ok()).collect();
    let unique: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(numbers.len(), unique.len(), "doubled");
    for number in &committed {
        assert!(unique.contains(number), "{number} was committed and is lost");
    }
    for (number, at) in &accepted {
        if !unique.contains(number) {
            let age = cut - *at;
            if age <= WITHIN {
                tally.young += 1;
            } else {
                assert!(failing, "{number} was accepted {age:?} before the power was cut, and is lost");
                tally.told += 1;
            }
        }
    }
    assert!(accepted.len() > 100, "{}", accepted.len());
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
    tally.announced += accepted.len() + committed.len();
    tally.rounds += 1;
}

#[test]
#[ignore = "needs root, loop devices and ext4: `cargo test --test suite survive::power_loss -- --ignored`"]
fn nothing_committed_and_nothing_older_than_promised_is_lost_to_a_loss_of_power() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return work(Path::new(&directory));
    }
    let _heavy = heavy();
    let test = this_test!();
    let mut tally = Tally::default();
    for number in 0..50 {
        round(test, number % 2 == 1, &mut tally);
    }
    println!("{tally:?}, 0 lost that were older than {WITHIN:?} or committed, 0 doubled");
    // Otherwise the power was not cut at all.
    assert!(tally.young > 0 && tally.told < tally.young);
}
