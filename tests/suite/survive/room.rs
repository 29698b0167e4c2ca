//! A database and its journals that share a small disk: what a journal accepts can be committed without anybody making room,
//! and a log opens and goes on by itself where there is none.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tracing_audit::{AuditEntry, AuditLog, AuditLogBuilder, AuditWriter, Health, Store, WhenFull};
use uuid::Uuid;

use crate::support::{
    self, again, balanced, block_on, commit, entry, in_own_mounts, lock, mount, only, settle, this_test,
    unlock, wait, wait_until,
};

const DISK: &str = "TRACING_AUDIT_TEST_DISK";

fn builder(file: &Path) -> AuditLogBuilder {
    support::builder(Store::sqlite(file).unwrap()).on_notice(|_| {}).when_full(WhenFull::Reject)
}

/// An entry that goes to places of its own in each index, with a text of this size.
fn scattered(action: u64, text: usize) -> AuditEntry {
    AuditEntry {
        workspace_id: Uuid::new_v4(),
        session_id: Some(Uuid::new_v4()),
        agent_id: Some(Uuid::new_v4()),
        resource_id: Some(Uuid::new_v4().to_string()),
        decision: "Deny".to_owned(),
        reason: (text > 0).then(|| "x".repeat(text)),
        ..entry(action.to_string())
    }
}

/// Offers entries until the journal has rejected many. Returns how many it has accepted.
fn fill(writer: &AuditWriter, text: usize) -> u64 {
    let (mut accepted, mut rejected) = (0, 0);
    while rejected < 100 {
        match writer.try_write(scattered(accepted, text)) {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                rejected += 1;
            }
        }
    }
    accepted
}

/// The size of the files in this directory and in those below it.
fn size(directory: &Path) -> u64 {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    found
        .map(|found| match found.metadata() {
            Ok(file) if file.is_dir() => size(&found.path()),
            file => file.map_or(0, |file| file.len()),
        })
        .sum()
}

/// Takes all that is left of a disk, but for these bytes.
fn take_the_rest(disk: &Path, but: usize) {
    let mut filler = File::create(disk.join("neighbour")).unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}
    let taken = filler.metadata().unwrap().len();
    filler.set_len(taken - but as u64).unwrap();
}

/// Actions of entries that are no gaps, each once.
fn committed(log: &AuditLog) -> usize {
    let entries = block_on(support::all(&log.reader()));
    let seqs: Vec<u64> = entries.iter().map(|found| found.seq).collect();
    assert_eq!(seqs, (0..entries.len() as u64).collect::<Vec<_>>());
    let own = entries.iter().map(|found| &found.entry.action).filter(|action| *action != "audit.gap");
    let own: Vec<_> = own.collect();
    assert_eq!(own.iter().collect::<std::collections::BTreeSet<_>>().len(), own.len());
    own.len()
}

#[test]
fn what_a_journal_accepts_in_an_outage_is_committed_on_a_small_disk_without_anybody_making_room() {
    in_own_mounts(this_test!(), |mounted| {
        for (name, text) in [("16m", 0), ("16m", 30_000), ("64m", 800)] {
            let disk = mounted.join(format!("{name}-{text}"));
            fs::create_dir(&disk).unwrap();
            assert!(mount(&format!("size={name}"), &disk));
            let file = disk.join("audit.db");
            let log = builder(&file).blocking().open().unwrap();
            let writer = log.writer();
            commit(&log, entry("before"));
            let mut accepted = 0;
            balanced(&writer, || {
                let blocker = block_on(lock(&file));
                accepted = fill(&writer, text);
                let held = size(&disk.join("audit.db.queue"));
                println!("{name}, {text}: {accepted} accepted, {held} bytes of journal");
                block_on(unlock(blocker));
                settle(&writer);
                wait_until("every gap is told", || {
                    writer.blocking().flush().is_ok() && writer.stats().pending == 0
                });
            });
            println!("{} bytes of database", size(&disk) - size(&disk.join("audit.db.queue")));
            assert_eq!(log.health(), Health::Healthy);
            assert_eq!(committed(&log) as u64, accepted + 1);
            assert!(accepted > 100);
            drop(log.blocking().shutdown(support::PATIENCE).unwrap());
            assert!(!disk.join("audit.db-wal").exists());
        }
    });
}

/// In a child: fills the journal while the database is locked, and dies.
fn die_full(disk: &Path) {
    let file = disk.join("audit.db");
    let log = builder(&file).blocking().open().unwrap();
    commit(&log, entry("before"));
    let _blocker = block_on(lock(&file));
    let accepted = fill(&log.writer(), 500);
    fs::write(disk.with_extension("accepted"), accepted.to_string()).unwrap();
    std::process::abort();
}

#[test]
fn a_log_opens_on_a_full_disk_and_commits_what_a_dead_process_has_left_there() {
    if let Some(disk) = std::env::var_os(DISK) {
        return die_full(Path::new(&disk));
    }
    let test = this_test!();
    in_own_mounts(test, |mounted| {
        // What the neighbour leaves.
        for left in [None, Some(1 << 20), Some(64 << 10), Some(0)] {
            let disk = mounted.join(format!("{left:?}"));
            fs::create_dir(&disk).unwrap();
            assert!(mount("size=24m", &disk));
            let child = again(test).env(DISK, &disk).stdout(Stdio::null()).spawn();
            assert!(!wait(child.unwrap()).success());
            let accepted: usize =
                fs::read_to_string(disk.with_extension("accepted")).unwrap().parse().unwrap();
            if let Some(left) = left {
                take_the_rest(&disk, left);
            }
            let log = builder(&disk.join("audit.db")).blocking().open().unwrap();
            if left == Some(0) {
                wait_until("health tells of it", || log.health() != Health::Healthy);
                let error = log.writer().try_write(entry("rejected")).unwrap_err();
                assert!(error.is_full(), "{error}");
                wait_until("health is rejecting", || log.health() == Health::Rejecting);
            }
            if left.is_some() {
                fs::remove_file(disk.join("neighbour")).unwrap();
            }
            wait_until("all is committed", || log.stats().recovered >= accepted as u64);
            wait_until("an entry is accepted", || log.writer().try_write(entry("after")).is_ok());
            settle(&log.writer());
            assert_eq!(committed(&log), accepted + 2, "{left:?}");
            wait_until("health is well", || log.health() == Health::Healthy);
            support::assert_balanced(&log.stats());
        }
    });
}

#[test]
fn a_neighbour_that_fills_the_disk_delays_commits_until_it_gives_a_little_back() {
    in_own_mounts(this_test!(), |disk| {
        assert!(mount("size=32m", disk));
        let log = builder(&disk.join("audit.db")).commit_timeout(Duration::from_millis(300));
        let log = log.blocking().open().unwrap();
        let writer = log.writer();
        let mut accepted = 0;
        balanced(&writer, || {
            for i in 0..1000 {
                writer.blocking().write(scattered(i, 500)).unwrap();
                accepted += 1;
            }
            settle(&writer);
            take_the_rest(disk, 0);
            wait_until("there is no room", || {
                if writer.try_write(scattered(accepted, 500)).is_ok() {
                    accepted += 1;
                }
                let told = log.stats().last_error;
                told.is_some_and(|error| error.to_string().contains("no room for"))
            });
            wait_until("health tells of it", || log.health() >= Health::Failing);
            let neighbour = File::options().write(true).open(disk.join("neighbour")).unwrap();
            let size = neighbour.metadata().unwrap().len();
            neighbour.set_len(size - (3 << 20)).unwrap();
            settle(&writer);
        });
        assert_eq!(committed(&log) as u64, accepted);
        wait_until("health is well", || {
            drop(writer.try_write(entry("after")));
            log.health() == Health::Healthy
        });
    });
}

#[test]
fn a_journal_on_a_disk_of_its_own_takes_all_of_it_and_each_disk_may_be_full_in_turn() {
    in_own_mounts(this_test!(), |mounted| {
        let (database, queue) = (mounted.join("database"), mounted.join("queue"));
        for disk in [&database, &queue] {
            fs::create_dir(disk).unwrap();
            assert!(mount("size=8m", disk));
        }
        let file = database.join("audit.db");
        let log = builder(&file).journal(queue.join("journals")).commit_timeout(Duration::from_millis(300));
        let log = log.blocking().open().unwrap();
        let writer = log.writer();
        let mut accepted = 0;
        balanced(&writer, || {
            // The database's disk is full.
            take_the_rest(&database, 0);
            accepted += fill(&writer, 3000);
            assert!(size(&queue) > 7 << 20, "{} of 8 MiB", size(&queue));
            wait_until("health is rejecting", || log.health() == Health::Rejecting);
            fs::remove_file(database.join("neighbour")).unwrap();
            // It holds what fits, and then is full by itself.
            wait_until("part of it is committed", || log.stats().committed > 100);
            assert!(mount("remount,size=64m", &database));
            settle(&writer);
            // The journal's disk is full, as far as the neighbour can fill it.
            take_the_rest(&queue, 0);
            accepted += fill(&writer, 3000);
            fs::remove_file(queue.join("neighbour")).unwrap();
            wait_until("there is room again", || writer.try_write(scattered(0, 0)).is_ok());
            accepted += 1;
            settle(&writer);
        });
        let entries = block_on(support::all(&log.reader()));
        let own = entries.iter().filter(|found| found.entry.action != "audit.gap").count();
        assert_eq!(own as u64, accepted);
        wait_until("health is well", || log.health() == Health::Healthy);
    });
}

#[test]
fn a_log_opens_though_its_journal_has_no_room_and_rejects_until_there_is() {
    in_own_mounts(this_test!(), |mounted| {
        let aside = tempfile::tempdir().unwrap();
        // Room for no segment, for no more than the lock, and for nothing.
        for left in [48 << 10, 4096, 0] {
            let disk = mounted.join(left.to_string());
            fs::create_dir(&disk).unwrap();
            assert!(mount("size=64k", &disk));
            take_the_rest(&disk, left);
            let log = builder(&aside.path().join(format!("{left}.db"))).journal(disk.join("queue"));
            let log = log.blocking().open().unwrap();
            let writer = log.writer();
            wait_until("health tells of it", || log.health() == Health::Failing);
            balanced(&writer, || {
                for _ in 0..10 {
                    let error = writer.try_write(entry("rejected")).unwrap_err();
                    assert!(error.is_full(), "{error}");
                }
                assert_eq!(log.health(), Health::Rejecting);
                assert!(mount("remount,size=8m", &disk));
                fs::remove_file(disk.join("neighbour")).unwrap();
                commit(&log, entry("after"));
                settle(&writer);
            });
            wait_until("health is well", || log.health() == Health::Healthy);
            let stats = log.blocking().shutdown(support::PATIENCE).unwrap().stats;
            assert_eq!((stats.committed, stats.rejected, stats.gaps), (2, 10, 1));
            assert!(!disk.join("queue").exists());
        }
    });
}

#[test]
fn a_quota_that_is_reached_delays_commits_and_blames_no_entry() {
    if let Some(directory) = std::env::var_os(DISK) {
        let log = builder(&Path::new(&directory).join("audit.db")).blocking().open().unwrap();
        let writer = log.writer();
        balanced(&writer, || {
            for i in 0..300 {
                writer.blocking().write(scattered(i, 100)).unwrap();
                if i % 20 == 0 {
                    settle(&writer);
                }
            }
            settle(&writer);
        });
        let stats = log.stats();
        assert_eq!((stats.committed, stats.quarantined), (300, 0));
        wait_until("health is well", || log.health() == Health::Healthy);
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(temporary.path()).unwrap();
    let trace = directory.join("trace");
    let mut strace = Command::new("strace");
    // Each connection can write only so much to the write-ahead log.
    strace
        .args(["-f", "-qq", "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=EDQUOT:when=100+", "-o"])
        .arg(&trace)
        .arg("-P")
        .arg(directory.join("audit.db-wal"));
    strace.arg(std::env::current_exe().unwrap()).args(only(this_test!())).env(DISK, &directory);
    let child = strace.stdout(Stdio::null()).spawn();
    assert!(wait(child.expect("'strace' is needed: on Debian, 'apt-get install strace'")).success());
    assert!(fs::read_to_string(trace).unwrap().contains("EDQUOT"));
}
