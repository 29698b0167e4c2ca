//! The files of a database: after a normal end the one file is the log, and whatever is done to the files of a running
//! log, an entry that was confirmed is there afterwards, or the log says what is wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use tempfile::TempDir;
use tracing_audit::{AuditLog, AuditQuery, AuditReader, Health, SequencedEntry, Store, archive::UnusedFile};

use crate::support::{
    all_in, assert_balanced, block_on, builder, child, commit, connect, entry, in_own_mounts, mount, only,
    open, run, settle, this_test, wait, wait_until,
};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";

fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", file.display()))
}

fn len(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|found| found.len())
}

/// The actions in a copy of this file alone.
fn alone(file: &Path) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.db");
    fs::copy(file, &copy).unwrap();
    actions(&copy)
}

fn actions(file: &Path) -> Vec<String> {
    all_in(file.to_str().unwrap()).into_iter().map(|found| found.entry.action).collect()
}

fn named(names: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

/// Commits an entry for each number.
fn commits(log: &AuditLog, numbers: std::ops::Range<u32>) {
    for number in numbers {
        commit(log, entry(number.to_string()));
    }
}

/// A log with its queue in memory, which is lost with the process.
fn in_memory(file: &Path) -> AuditLog {
    let builder = AuditLog::builder().store(Store::sqlite(file).unwrap()).in_memory_queue().on_notice(|_| {});
    builder.commit_timeout(Duration::from_millis(500)).blocking().open().unwrap()
}

/// Runs the body in a process that ends at once after it, without any destructor. Returns the directory in which the
/// body has worked.
fn killed(test: &str, body: impl FnOnce(&Path)) -> TempDir {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = Path::new(&directory);
        body(&directory.join("audit.db"));
        fs::write(directory.join("reached"), "").unwrap();
        let own = std::process::id().to_string();
        Command::new("kill").args(["-9", &own]).status().unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert!(!wait(child(test, &[(DIRECTORY, path)])).success());
    assert!(directory.path().join("reached").exists(), "the body failed");
    directory
}

/// What a log says about its last error.
fn last_error(log: &AuditLog) -> String {
    log.stats().last_error.map(|error| error.to_string()).unwrap_or_default()
}

/// Commits entries until one is not confirmed, and waits until the log says why.
fn not_confirmed(log: &AuditLog, why: &str) {
    let error = log.writer().blocking().commit(entry("unconfirmed")).unwrap_err();
    assert!(error.is_pending(), "{error}");
    wait_until(why, || log.health() == Health::Failing && last_error(log).contains(why));
}

#[test]
fn after_a_shutdown_the_one_file_is_the_log_though_readers_were_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = open(&file);
    (0..100).for_each(|i| log.writer().blocking().write(entry(i.to_string())).unwrap());
    log.blocking().flush().unwrap();
    let recorded = log.reader().recorded_as("Ada");
    assert_eq!(recorded.blocking().count(AuditQuery::new()).unwrap(), 100);
    assert_eq!(log.blocking().shutdown(crate::support::PATIENCE).unwrap().stats.committed, 100);
    assert_eq!((len(&beside(&file, "-wal")), len(&beside(&file, "-shm"))), (None, None));
    assert_eq!(alone(&file), named(0..100));
}

#[test]
fn after_a_shutdown_beside_another_program_the_one_file_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = open(&file);
    let other = block_on(async {
        let mut other = connect(&file).await;
        sqlx::query("SELECT count(*) FROM tracing_audit_entries").execute(&mut other).await.unwrap();
        other
    });
    commits(&log, 0..10);
    drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
    assert_eq!(len(&beside(&file, "-wal")), Some(0));
    assert_eq!(alone(&file), named(0..10));
    drop(other);
}

#[test]
fn a_log_dropped_while_a_global_layer_keeps_it_running_leaves_everything_in_the_one_file() {
    use tracing_subscriber::prelude::*;
    let directory = killed(this_test!(), |file| {
        let log = open(file);
        tracing_subscriber::registry().with(log.layer()).init();
        for i in 0..1000 {
            tracing::info!(target: "audit", action = i, resource = "document");
        }
        settle(&log.writer());
        drop(log);
    });
    let file = directory.path().join("audit.db");
    assert_eq!(alone(&file), named(0..1000));
}

#[test]
fn an_idle_log_moves_everything_into_the_one_file_and_waits_for_no_reader() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = open(&file);
    commits(&log, 0..10);
    wait_until("the idle log is moved", || len(&beside(&file, "-wal")) == Some(0));
    assert_eq!(alone(&file), named(0..10));
    // A reader amid a transaction keeps the log from being emptied, and nobody from committing.
    let reader = block_on(async {
        let mut reader = connect(&file).await;
        sqlx::raw_sql("BEGIN; SELECT count(*) FROM tracing_audit_entries")
            .execute(&mut reader)
            .await
            .unwrap();
        reader
    });
    let mut stream = Box::pin(log.reader().stream(AuditQuery::new()));
    assert!(block_on(stream.next()).unwrap().is_ok());
    commits(&log, 10..20);
    drop((reader, stream));
    assert_eq!((log.stats().retries, log.health()), (0, Health::Healthy));
    drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
    wait_until("all is in the one file", || alone(&file) == named(0..20));
}

/// Does something to the write-ahead log or its index between two commits, and then kills the process.
fn loses_nothing(test: &str, read: bool, act: impl Fn(&Path)) {
    let directory = killed(test, |file| {
        let log = in_memory(file);
        commits(&log, 0..3);
        if read {
            assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), 3);
        }
        act(file);
        commits(&log, 3..6);
        assert!(log.stats().retries > 0, "nothing was noticed");
        let told = last_error(&log);
        assert!(told.contains("was removed or replaced") && told.contains("audit.db-"), "{told}");
        assert_eq!(log.health(), Health::Healthy);
        // Kept from being dropped, which would move the log.
        std::mem::forget(log);
    });
    assert_eq!(actions(&directory.path().join("audit.db")), named(0..6));
}

#[test]
fn a_write_ahead_log_that_is_removed_costs_nothing() {
    loses_nothing(this_test!(), false, |file| fs::remove_file(beside(file, "-wal")).unwrap());
}

#[test]
fn a_write_ahead_log_that_is_removed_while_readers_have_it_open_costs_nothing() {
    loses_nothing(this_test!(), true, |file| fs::remove_file(beside(file, "-wal")).unwrap());
}

#[test]
fn a_write_ahead_log_and_its_index_that_are_removed_cost_nothing() {
    loses_nothing(this_test!(), true, |file| {
        fs::remove_file(beside(file, "-shm")).unwrap();
        fs::remove_file(beside(file, "-wal")).unwrap();
    });
}

#[test]
fn an_index_of_the_write_ahead_log_that_is_removed_costs_nothing() {
    loses_nothing(this_test!(), false, |file| fs::remove_file(beside(file, "-shm")).unwrap());
}

#[test]
fn a_write_ahead_log_that_is_moved_away_costs_nothing() {
    loses_nothing(this_test!(), false, |file| {
        fs::rename(beside(file, "-wal"), beside(file, "-aside")).unwrap();
    });
}

/// Does something to the write-ahead log of a running log, which then commits again. What was confirmed and is gone is
/// told by an entry, and the rest is there, also for the next log.
fn is_told(act: impl Fn(&Path)) {
    for shuts_down in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = in_memory(&file);
        commits(&log, 0..20);
        assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), 20);
        act(&beside(&file, "-wal"));
        drop(log.writer().blocking().commit(entry("20")));
        settle(&log.writer());
        let told = last_error(&log);
        assert!(
            told.contains("audit.db-wal was cut or overwritten while") && told.contains("audit.gap"),
            "{told}"
        );
        assert_eq!(log.health(), Health::Healthy);
        commits(&log, 21..23);
        if shuts_down {
            drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
        } else {
            drop(log);
        }
        let found = actions(&file);
        let gap = found.iter().position(|action| action == "audit.gap").expect("a gap is told");
        assert!(gap < 20);
        assert_eq!(found[..gap], named(0..gap), "what is left is what was committed first");
        assert_eq!(found[gap + 1..], named(20..23));
        let entries = all_in(file.to_str().unwrap());
        let lost = entries[gap].entry.metadata["lost"].as_u64();
        assert_eq!(lost, Some(20 - gap as u64), "{:?}", entries[gap].entry.metadata);
        open(&file);
    }
}

fn cut(log: &Path, left: u64) {
    fs::OpenOptions::new().write(true).open(log).unwrap().set_len(left).unwrap();
}

#[test]
fn a_write_ahead_log_that_is_cut_is_told_with_the_number_of_entries_that_it_costs() {
    for left in [0, 32, 1000, 150_000, 400_000] {
        is_told(|log| cut(log, left));
    }
}

#[test]
fn a_write_ahead_log_that_lacks_its_last_byte_is_told() {
    is_told(|log| cut(log, len(log).unwrap() - 1));
}

#[test]
fn a_write_ahead_log_that_an_earlier_copy_is_copied_over_is_told() {
    is_told(|log| {
        let bytes = fs::read(log).unwrap();
        fs::write(log, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn a_write_ahead_log_that_is_overwritten_with_something_else_is_told() {
    is_told(|log| fs::write(log, vec![7; 300_000]).unwrap());
}

/// What a log does after its last commit.
#[derive(Debug)]
enum End {
    Idle,
    ShutDown,
    Dropped,
}

/// Does something to the write-ahead log of a running log, which then commits nothing more. What is gone is told by an
/// entry and in words: by a log that is idle, shut down, or dropped.
fn is_told_without_a_batch(ends: &[End], act: impl Fn(&Path)) -> Vec<u64> {
    let mut losses = Vec::new();
    for end in ends {
        for in_memory in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("audit.db");
            let notices = Arc::new(Mutex::new(String::new()));
            let told = Arc::clone(&notices);
            let builder = builder(Store::sqlite(&file).unwrap());
            let builder = builder.on_notice(move |notice| *told.lock().unwrap() += &notice.to_string());
            let builder = if in_memory { builder.in_memory_queue() } else { builder };
            let log = builder.blocking().open().unwrap();
            commits(&log, 0..20);
            act(&beside(&file, "-wal"));
            let says = |text: &str| text.contains("audit.db-wal was ") && text.contains("while");
            match end {
                End::Idle => {
                    wait_until("the log has noticed", || says(&last_error(&log)));
                    wait_until("health is well again", || log.health() == Health::Healthy);
                    drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
                }
                End::ShutDown => {
                    let report = log.blocking().shutdown(crate::support::PATIENCE).unwrap();
                    assert_balanced(&report.stats);
                    assert!(says(&report.stats.last_error.unwrap().to_string()));
                    wait_until("a notice", || says(&notices.lock().unwrap()));
                }
                End::Dropped => {
                    let writer = log.writer();
                    drop(log);
                    let error = writer.stats().last_error.unwrap();
                    assert!(says(&error.to_string()), "{error}");
                }
            }
            let entries = || all_in(file.to_str().unwrap());
            let told = |found: &SequencedEntry| found.entry.metadata["lost"].as_u64().unwrap_or(0);
            // A log that is dropped may still be at it.
            wait_until(&format!("all is there or told: {end:?} {in_memory}"), || {
                entries().iter().map(|found| told(found).max(1)).sum::<u64>() == 20
            });
            let entries = entries();
            assert!(entries.iter().zip(0..).all(|(found, seq)| found.seq == seq), "{entries:?}");
            let gaps: Vec<_> = entries.iter().filter(|found| found.entry.action == "audit.gap").collect();
            losses.push(gaps.into_iter().map(told).sum());
        }
    }
    losses
}

#[test]
fn a_write_ahead_log_that_is_cut_right_before_the_end_is_told() {
    let ends = [End::Idle, End::ShutDown, End::Dropped];
    assert_eq!(is_told_without_a_batch(&ends, |log| cut(log, 0)), [20; 6]);
    let partly = is_told_without_a_batch(&ends[1..], |log| cut(log, len(log).unwrap() - 1));
    assert!(partly.iter().all(|lost| *lost == 1), "{partly:?}");
}

#[test]
fn a_write_ahead_log_that_is_overwritten_right_before_the_end_is_told() {
    assert_eq!(
        is_told_without_a_batch(&[End::ShutDown], |log| fs::write(log, vec![7; 300_000]).unwrap()),
        [20; 2]
    );
}

#[test]
fn a_write_ahead_log_that_is_removed_right_before_the_end_costs_nothing() {
    assert_eq!(is_told_without_a_batch(&[End::ShutDown], |log| fs::remove_file(log).unwrap()), [0; 2]);
}

#[test]
fn a_pipe_or_device_in_place_of_the_write_ahead_log_is_named_and_not_waited_for() {
    let pipe = |path: &Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let device = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    for act in [&pipe as &dyn Fn(&Path), &device] {
        for suffix in ["-wal", "-shm"] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("audit.db");
            let log = in_memory(&file);
            commits(&log, 0..3);
            fs::remove_file(beside(&file, suffix)).unwrap();
            act(&beside(&file, suffix));
            not_confirmed(&log, "is a pipe or a device, not a file: move it away");
            let refused =
                AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap_err();
            assert!(refused.to_string().contains(&format!("audit.db{suffix} is a pipe")), "{refused}");
            fs::remove_file(beside(&file, suffix)).unwrap();
            settle(&log.writer());
            assert_eq!(actions(&file), named(["0", "1", "2", "unconfirmed"]));
        }
    }
}

/// A log whose database has 2 000 entries without the write-ahead log, and two more in it.
fn grown(file: &Path) -> AuditLog {
    let log = open(file);
    (0..2000).for_each(|i| log.writer().blocking().write(entry(i.to_string())).unwrap());
    settle(&log.writer());
    drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
    let log = in_memory(file);
    commits(&log, 2000..2002);
    log
}

#[test]
fn a_database_that_is_cut_is_written_again_once_its_contents_are_back() {
    for left in [0, 8192, 100_000] {
        let directory = tempfile::tempdir().unwrap();
        let (file, copy) = (directory.path().join("audit.db"), directory.path().join("audit.db.1"));
        let log = grown(&file);
        fs::copy(&file, &copy).unwrap();
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(left).unwrap();
        not_confirmed(&log, "was overwritten or cut while it was open");
        assert_eq!(len(&file), Some(left));
        if left == 0 {
            // SQLite deletes the log of an empty file, whoever opens it.
            let wal = fs::read(beside(&file, "-wal")).unwrap();
            drop(log.reader().blocking().count(AuditQuery::new()));
            drop(AuditReader::new(Store::sqlite(&file).unwrap()).blocking().count(AuditQuery::new()));
            assert!(fs::read(beside(&file, "-wal")).unwrap() == wal);
        }
        fs::write(&file, fs::read(&copy).unwrap()).unwrap();
        settle(&log.writer());
        assert_eq!(log.health(), Health::Healthy);
        let found = actions(&file);
        assert_eq!(found.len(), 2003);
        assert_eq!(found[..2002], named(0..2002));
    }
}

#[test]
fn a_database_that_is_cut_and_left_is_refused_by_the_next_log_until_it_is_back() {
    for shuts_down in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (file, copy) = (directory.path().join("audit.db"), directory.path().join("audit.db.1"));
        let log = grown(&file);
        fs::copy(&file, &copy).unwrap();
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
        not_confirmed(&log, "was overwritten or cut while it was open");
        if shuts_down {
            drop(log.blocking().shutdown(Duration::from_secs(1)).unwrap());
        }
        let aside = tempfile::tempdir().unwrap();
        let left = aside.path().join("audit.db");
        fs::copy(&file, &left).unwrap();
        fs::copy(beside(&file, "-wal"), beside(&left, "-wal")).unwrap();
        let refused = AuditLog::builder().store(Store::sqlite(&left).unwrap()).blocking().open().unwrap_err();
        assert!(refused.to_string().contains("does not belong to"), "{refused}");
        fs::copy(&copy, &left).unwrap();
        assert_eq!(actions(&left), named(0..2002));
        open(&left);
    }
}

#[test]
fn a_database_that_is_copied_over_is_noticed_before_anything_is_confirmed() {
    let other = tempfile::tempdir().unwrap();
    let foreign = other.path().join("audit.db");
    drop(grown(&foreign));
    let small = other.path().join("small.db");
    drop(open(&small).blocking().shutdown(crate::support::PATIENCE).unwrap());
    for replacement in [&foreign, &small] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = grown(&file);
        fs::write(&file, fs::read(replacement).unwrap()).unwrap();
        not_confirmed(&log, "was overwritten or cut while it was open");
        drop(log);
        assert!(fs::read(&file).unwrap() == fs::read(replacement).unwrap(), "something was written to it");
        let refused = AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open();
        assert!(refused.unwrap_err().to_string().contains("audit.db-wal"));
    }
}

#[test]
fn a_database_that_another_file_is_renamed_over_keeps_what_was_confirmed_in_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let file = path("audit.db");
    let log = grown(&file);
    fs::hard_link(&file, path("kept.db")).unwrap();
    drop(open(&path("other.db")).blocking().shutdown(crate::support::PATIENCE).unwrap());
    let other = fs::read(path("other.db")).unwrap();
    fs::rename(path("other.db"), &file).unwrap();
    not_confirmed(&log, "was deleted or replaced while it was open");
    wait_until("the first file has everything", || alone(&path("kept.db")) == named(0..2002));
    assert!(fs::read(&file).unwrap() == other);
}

/// Moves a file to another name, and puts a link in its place.
fn moved_behind_link(file: &Path) -> PathBuf {
    let away = beside(file, "-away");
    fs::rename(file, &away).unwrap();
    std::os::unix::fs::symlink(&away, file).unwrap();
    away
}

#[test]
fn nothing_is_confirmed_while_a_link_has_taken_the_place_of_the_database() {
    let directory = killed(this_test!(), |file| {
        let log = in_memory(file);
        commits(&log, 0..3);
        moved_behind_link(file);
        not_confirmed(&log, "was deleted or replaced while it was open");
        std::mem::forget(log);
    });
    let file = directory.path().join("audit.db");
    wait_until("what was confirmed is there", || actions(&file) == named(0..3));
}

#[test]
fn nothing_is_confirmed_once_the_link_to_the_database_leads_there_by_another_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    drop(open(&path("first.db")).blocking().shutdown(crate::support::PATIENCE).unwrap());
    let file = path("audit.db");
    std::os::unix::fs::symlink(path("first.db"), &file).unwrap();
    let log = in_memory(&file);
    commits(&log, 0..3);
    fs::hard_link(path("first.db"), path("second.db")).unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(path("second.db"), &file).unwrap();
    not_confirmed(&log, "was deleted or replaced while it was open");
}

#[test]
fn a_write_ahead_log_that_is_moved_behind_a_link_costs_nothing_once_the_link_is_gone() {
    let directory = killed(this_test!(), |file| {
        let log = in_memory(file);
        commits(&log, 0..3);
        moved_behind_link(&beside(file, "-wal"));
        not_confirmed(&log, "is a link");
        fs::remove_file(beside(file, "-wal")).unwrap();
        settle(&log.writer());
        commits(&log, 3..6);
        std::mem::forget(log);
    });
    let found = actions(&directory.path().join("audit.db"));
    assert_eq!(found, ["0", "1", "2", "unconfirmed", "3", "4", "5"]);
}

#[test]
fn a_write_ahead_log_left_beside_a_link_to_its_database_is_found_before_anything_is_written() {
    let directory = killed(this_test!(), |file| {
        let log = in_memory(file);
        commits(&log, 0..3);
        moved_behind_link(file);
        std::mem::forget(log);
    });
    let file = directory.path().join("audit.db");
    let (log, right) = (beside(&file, "-wal"), beside(&file, "-away-wal"));
    let refused = AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap_err();
    let remedy = format!("rename {} to {}", log.display(), right.display());
    assert!(refused.to_string().contains(&remedy), "{refused}");
    fs::rename(log, right).unwrap();
    drop(open(&file));
    assert_eq!(actions(&file), named(0..3));
}

#[test]
fn a_file_that_is_mounted_over_the_database_or_its_log_is_noticed() {
    in_own_mounts(this_test!(), |directory| {
        let path = |name: &str| directory.join(name);
        let mounted = |from: &Path, to: &Path| {
            assert!(Command::new("mount").arg("--bind").args([from, to]).status().unwrap().success());
        };
        let log = grown(&path("audit.db"));
        fs::write(path("other"), "").unwrap();
        mounted(&path("other"), &path("audit.db"));
        not_confirmed(&log, "was deleted or replaced while it was open");
        assert!(Command::new("umount").arg(path("audit.db")).status().unwrap().success());
        settle(&log.writer());
        mounted(&path("other"), &beside(&path("audit.db"), "-wal"));
        let tries = log.stats().retries;
        commit(&log, entry("after"));
        assert!(log.stats().retries > tries);
        let found = actions(&path("audit.db"));
        assert_eq!(found[..2002], named(0..2002));
        assert_eq!(found[found.len() - 1..], named(["after"]));
    });
}

/// Leaves a database whose write-ahead log holds the last of `until` entries, copied before each commit in `copies`.
fn left(test: &str, before: u32, until: u32) -> TempDir {
    killed(test, |file| {
        let log = in_memory(file);
        let write = |range: std::ops::Range<u32>| {
            range.for_each(|i| log.writer().blocking().write(entry(i.to_string())).unwrap());
            settle(&log.writer());
        };
        let moved = || run(file.to_str().unwrap(), "PRAGMA wal_checkpoint(TRUNCATE)");
        write(0..1000);
        moved();
        fs::copy(file, beside(file, ".early")).unwrap();
        write(1000..before);
        moved();
        write(before..before + 1);
        moved();
        fs::copy(file, beside(file, ".base")).unwrap();
        write(before + 1..until);
        fs::copy(file, beside(file, ".same")).unwrap();
        run(file.to_str().unwrap(), "PRAGMA wal_checkpoint(PASSIVE)");
        fs::copy(file, beside(file, ".moved")).unwrap();
        // Kept from being dropped, which would move the log.
        std::mem::forget(log);
    })
}

/// A database and its write-ahead log, byte for byte.
fn both(file: &Path) -> [Option<Vec<u8>>; 2] {
    [fs::read(file).ok(), fs::read(beside(file, "-wal")).ok()]
}

/// Why readers of several kinds do not answer.
fn readers_refuse(file: &Path) -> Vec<String> {
    let store = || Store::sqlite(file).unwrap();
    let (reader, recorded) = (AuditReader::new(store()), AuditReader::new(store()).recorded_as("Ada"));
    let index = block_on(store().create_index(tracing_audit::query::Column::Action));
    let refused = [
        reader.blocking().count(AuditQuery::new()).map(drop),
        reader.blocking().ledgers().map(drop),
        reader.blocking().checkpoint().map(drop),
        recorded.blocking().count(AuditQuery::new()).map(drop),
        index,
    ];
    refused.into_iter().map(|refused| refused.unwrap_err().to_string()).collect()
}

/// Restores several databases beside the write-ahead log that a process left: those to which it belongs are opened.
fn found_before_it_is_played(test: &str, before: u32, until: u32) {
    let directory = left(test, before, until);
    let file = directory.path().join("audit.db");
    let wal = fs::read(beside(&file, "-wal")).unwrap();
    let foreign = tempfile::tempdir().unwrap();
    drop(grown(&foreign.path().join("audit.db")));
    for (backup, belongs) in [
        (beside(&file, ".early"), false),
        (foreign.path().join("audit.db"), false),
        (beside(&file, ".base"), true),
        (beside(&file, ".moved"), true),
    ] {
        let place = tempfile::tempdir().unwrap();
        let restored = place.path().join("audit.db");
        fs::copy(&backup, &restored).unwrap();
        fs::write(beside(&restored, "-wal"), &wal).unwrap();
        let bytes = fs::read(&restored).unwrap();
        if belongs {
            // A reader leaves both as they are.
            assert_eq!(actions(&restored), named(0..until), "{}", backup.display());
        } else {
            for refused in readers_refuse(&restored) {
                assert!(refused.contains("does not belong to") && refused.contains("move"), "{refused}");
            }
        }
        assert!(both(&restored) == [Some(bytes.clone()), Some(wal.clone())], "{}", backup.display());
        let opened = AuditLog::builder().store(Store::sqlite(&restored).unwrap()).blocking().open();
        if belongs {
            drop(opened.unwrap());
            assert_eq!(actions(&restored), named(0..until), "{}", backup.display());
            continue;
        }
        let refused = opened.expect_err(backup.to_str().unwrap()).to_string();
        assert!(refused.contains("does not belong to") && refused.contains("move"), "{refused}");
        assert!(fs::read(&restored).unwrap() == bytes && fs::read(beside(&restored, "-wal")).unwrap() == wal);
        // The remedy.
        fs::remove_file(beside(&restored, "-wal")).unwrap();
        drop(fs::remove_file(beside(&restored, "-shm")));
        open(&restored);
    }
}

#[test]
fn a_write_ahead_log_left_beside_an_old_backup_is_found_before_it_is_played_over_it() {
    found_before_it_is_played(this_test!(), 5000, 6000);
}

#[test]
fn a_write_ahead_log_left_beside_a_backup_of_a_moment_before_is_found_too() {
    found_before_it_is_played(this_test!(), 1002, 1005);
}

#[test]
fn a_write_ahead_log_whose_database_is_gone_or_empty_is_kept() {
    let directory = left(this_test!(), 1500, 1600);
    let file = directory.path().join("audit.db");
    let wal = fs::read(beside(&file, "-wal")).unwrap();
    for empty in [false, true] {
        fs::remove_file(&file).unwrap();
        if empty {
            fs::write(&file, "").unwrap();
        }
        for refused in readers_refuse(&file) {
            assert!(refused.contains("does not belong to"), "{refused}");
        }
        let refused = AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap_err();
        assert!(refused.to_string().contains("does not belong to"), "{refused}");
        assert!(both(&file) == [empty.then(Vec::new), Some(wal.clone())]);
        fs::write(&file, "").unwrap();
    }
}

#[test]
fn a_write_ahead_log_in_which_tables_have_other_names_than_in_the_database_belongs_to_it() {
    for (aside, back) in [
        ("TABLE tracing_audit_batches RENAME TO aside", "TABLE aside RENAME TO tracing_audit_batches"),
        ("TABLE tracing_audit_positions RENAME TO aside", "TABLE aside RENAME TO tracing_audit_positions"),
        (
            "TABLE tracing_audit_batches RENAME COLUMN position TO aside",
            "TABLE tracing_audit_batches RENAME COLUMN aside TO position",
        ),
        (
            "TABLE tracing_audit_head RENAME COLUMN next_seq TO aside",
            "TABLE tracing_audit_head RENAME COLUMN aside TO next_seq",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = open(&file);
        commits(&log, 0..3);
        let change = |sql: String| run(file.to_str().unwrap(), sql);
        change(format!("ALTER {aside}"));
        change("PRAGMA wal_checkpoint(TRUNCATE)".to_owned());
        // Only the log has the right names now.
        change(format!("ALTER {back}"));
        assert!(len(&beside(&file, "-wal")) > Some(0));
        assert_eq!(actions(&file), named(0..3), "{aside}");
        let another = open(&file);
        commits(&another, 3..4);
        commits(&log, 4..5);
        assert_eq!(actions(&file), named(0..5), "{aside}");
        // Only the database has them: whatever a reader lacks, the log is not said to be another's.
        change("PRAGMA wal_checkpoint(TRUNCATE)".to_owned());
        change(format!("ALTER {aside}"));
        for answer in [
            AuditReader::new(Store::sqlite(&file).unwrap())
                .blocking()
                .page(AuditQuery::default(), None, 9)
                .err(),
            AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().err(),
        ] {
            let answer = answer.map(|error| error.to_string()).unwrap_or_default();
            assert!(!answer.contains("does not belong"), "{aside}: {answer}");
        }
        change(format!("ALTER {back}"));
        settle(&log.writer());
        assert_eq!(actions(&file), named(0..5), "{aside}");
    }
}

/// Runs the command, which must end soon. Returns its exit code and what it says.
#[cfg(feature = "cli")]
fn told_by(file: &Path, arguments: &str) -> (Option<i32>, String) {
    use std::io::{Read, Seek};
    let mut told = tempfile::tempfile().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.arg("--db").arg(file).args(arguments.split(' '));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let status = wait(command.stderr(told.try_clone().unwrap()).spawn().unwrap());
    let mut text = String::new();
    told.rewind().unwrap();
    told.read_to_string(&mut text).unwrap();
    (status.code(), text)
}

#[test]
#[cfg(feature = "cli")]
fn no_command_plays_a_write_ahead_log_over_a_database_to_which_it_does_not_belong() {
    let directory = left(this_test!(), 1500, 1600);
    let left = directory.path().join("audit.db");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("audit.db");
    let (whole, early) =
        (fs::read(beside(&left, ".base")).unwrap(), fs::read(beside(&left, ".early")).unwrap());
    let wal = fs::read(beside(&left, "-wal")).unwrap();
    let (empty, export) = (Vec::new(), format!("export -o {}", place.path().join("out.jsonl").display()));
    let all = [
        "query",
        "get 5",
        "tail -n 1",
        "stats",
        "ledgers",
        "check",
        "checkpoint",
        "ledger status",
        "reads",
        "verify",
        "index list",
        "index add action",
        "quarantine list",
        "migrate",
        "--as me query",
        export.as_str(),
    ];
    let some = ["query", "verify", "migrate", "--as me query"];
    for (main, log, says, commands) in [
        (&early, wal.as_slice(), "does not belong to", all.as_slice()),
        (&empty, wal.as_slice(), "does not belong to", all.as_slice()),
        (&empty, &wal[..32], "does not belong to", some.as_slice()),
        (&whole, b"notes of somebody\n".as_slice(), "move it away", some.as_slice()),
        (&whole, b"no".as_slice(), "move it away", some.as_slice()),
    ] {
        for arguments in commands {
            fs::write(&file, main).unwrap();
            fs::write(beside(&file, "-wal"), log).unwrap();
            drop(fs::remove_file(beside(&file, "-shm")));
            let (code, told) = told_by(&file, arguments);
            assert!(code == Some(3) && told.contains(says), "{arguments}: {code:?} {told}");
            assert!(both(&file) == [Some(main.clone()), Some(log.to_owned())], "{arguments}");
        }
    }
    assert!(!place.path().join("out.jsonl").exists());
    fs::write(&file, &whole).unwrap();
    fs::remove_file(beside(&file, "-wal")).unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        drop(fs::remove_file(beside(&file, suffix)));
        assert!(Command::new("mkfifo").arg(beside(&file, suffix)).status().unwrap().success());
        for arguments in some {
            let (code, told) = told_by(&file, arguments);
            let says = format!("audit.db{suffix} is a pipe or a device");
            assert!(code == Some(3) && told.contains(&says), "{arguments}: {code:?} {told}");
        }
        fs::remove_file(beside(&file, suffix)).unwrap();
    }
    // A log that belongs to its database is read, and stays where it is.
    for (arguments, expected) in [("ledgers", 0), ("tail -o /dev/null", 0), ("verify", 5)] {
        fs::write(&file, &whole).unwrap();
        fs::write(beside(&file, "-wal"), &wal).unwrap();
        let (code, told) = told_by(&file, arguments);
        assert!(code == Some(expected), "{arguments}: {code:?} {told}");
        assert!(both(&file) == [Some(whole.clone()), Some(wal.clone())], "{arguments}");
    }
}

#[test]
fn a_reader_that_outlives_the_writer_moves_no_log_into_a_backup_that_was_copied_over_the_database() {
    let test = this_test!();
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let log = in_memory(&Path::new(&directory).join("audit.db"));
        commits(&log, 6..9);
        let own = std::process::id().to_string();
        Command::new("kill").args(["-9", &own]).status().unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, backup) = (directory.path().join("audit.db"), directory.path().join("backup.db"));
    for (path, numbers) in [(&backup, 0..3), (&file, 3..6)] {
        let log = open(&file);
        commits(&log, numbers);
        drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
        drop(log);
        if path != &file {
            fs::copy(&file, path).unwrap();
        }
    }
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 6);
    assert!(!wait(child(test, &[(DIRECTORY, directory.path().to_str().unwrap())])).success());
    assert!(len(&beside(&file, "-wal")).is_some_and(|len| len > 0));
    assert!(Command::new("cp").args([&backup, &file]).status().unwrap().success());
    let kept = both(&file);
    // The last connection of all.
    drop(reader);
    for refused in readers_refuse(&file) {
        assert!(refused.contains("does not belong to"), "{refused}");
    }
    assert!(both(&file) == kept);
}

/// Moves this share of the pages in the write-ahead log into the database, as a move does that is interrupted.
fn half_moved(file: &Path, of: impl Fn(u32) -> bool) {
    let log = fs::read(beside(file, "-wal")).unwrap();
    let number = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let page = number(&log, 8) as usize;
    let main = fs::File::options().write(true).open(file).unwrap();
    let frames = log[32..].chunks_exact(24 + page).take_while(|frame| frame[8..16] == log[16..24]);
    for frame in frames.filter(|frame| of(number(frame, 0))) {
        let at = u64::from(number(frame, 0) - 1) * page as u64;
        std::os::unix::fs::FileExt::write_all_at(&main, &frame[24..], at).unwrap();
    }
}

#[test]
fn a_move_of_the_write_ahead_log_that_was_interrupted_is_completed_by_the_next_log() {
    let test = this_test!();
    // Every page is moved or not, by chance: whatever the database is without its log, with it it is whole.
    for round in 0..if std::env::var_os(DIRECTORY).is_some() { 1 } else { 12 } {
        let directory = left(test, 3000, 4000);
        let file = directory.path().join("audit.db");
        fs::copy(beside(&file, ".base"), &file).unwrap();
        half_moved(&file, |page| fastrand::bool() && (round > 0 || page > 1));
        let log = open(&file);
        commit(&log, entry("after"));
        drop(log);
        let found = actions(&file);
        assert_eq!(found.len(), 4001, "round {round}");
        assert_eq!(alone(&file).len(), 4001, "round {round}");
    }
}

#[test]
fn what_other_programs_may_do_to_the_files_raises_no_alarm() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = open(&file);
    for round in 0..3 {
        for sql in [
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA wal_checkpoint(RESTART)",
            "PRAGMA wal_checkpoint(PASSIVE)",
            "CREATE TABLE IF NOT EXISTS of_another (a); INSERT INTO of_another VALUES (zeroblob(1000000))",
            "DELETE FROM of_another; VACUUM",
            "PRAGMA wal_checkpoint(TRUNCATE)",
        ] {
            commit(&log, entry("before"));
            run(file.to_str().unwrap(), sql);
            assert!(Command::new("touch").arg(&file).status().unwrap().success());
            commit(&log, entry("after"));
        }
        if round == 1 {
            wait_until("the idle log is moved", || len(&beside(&file, "-wal")) == Some(0));
        }
    }
    let stats = log.stats();
    assert_eq!((stats.retries, log.health()), (0, Health::Healthy), "{:?}", stats.last_error);
    assert_eq!(actions(&file).len(), 36);
}

#[test]
fn a_closed_database_on_a_read_only_medium_is_read_and_an_open_one_names_the_remedy() {
    in_own_mounts(this_test!(), |directory| {
        let place = directory.join("medium");
        fs::create_dir(&place).unwrap();
        assert!(mount("size=32m", &place));
        let file = place.join("audit.db");
        let log = open(&file);
        commits(&log, 0..10);
        drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
        drop(log);
        let remounted = |mode: &str| {
            let options = format!("remount,{mode}");
            let remounts = || Command::new("mount").args(["-o", &options]).arg(&place).status().unwrap();
            wait_until("nothing is open for writing", || remounts().success());
        };
        remounted("ro");
        assert_eq!(actions(&file), named(0..10));
        remounted("rw");
        // A database whose log was left, as after a kill.
        let left = place.join("left.db");
        let log = in_memory(&file);
        commits(&log, 10..12);
        fs::copy(&file, &left).unwrap();
        fs::copy(beside(&file, "-wal"), beside(&left, "-wal")).unwrap();
        drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
        drop(log);
        remounted("ro");
        let reader = AuditReader::new(Store::sqlite(&left).unwrap());
        let refused = reader.blocking().count(AuditQuery::new()).unwrap_err().to_string();
        assert!(refused.contains("left.db-wal: copy both files"), "{refused}");
        // The remedy.
        for suffix in ["", "-wal"] {
            fs::copy(beside(&left, suffix), beside(&directory.join("copy.db"), suffix)).unwrap();
        }
        assert_eq!(actions(&directory.join("copy.db")), named(0..12));
    });
}

#[test]
#[cfg(unix)]
fn what_a_log_makes_is_for_its_user_alone_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let file = Path::new(&directory).join("audit.db");
        let mode = |suffix: &str| fs::metadata(beside(&file, suffix)).unwrap().permissions().mode() & 0o777;
        let log = open(&file);
        commits(&log, 0..3);
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(mode(suffix), 0o600, "{suffix}");
        }
        drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
        // What exists keeps its mode.
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let log = open(&file);
        commits(&log, 3..6);
        assert_eq!((mode(""), mode("-wal")), (0o640, 0o640));
        return;
    }
    for umask in ["0", "022", "077"] {
        let directory = tempfile::tempdir().unwrap();
        assert!(in_a_shell(&format!("umask {umask}"), this_test!(), directory.path()), "umask {umask}");
        assert!(directory.path().join("audit.db").exists());
    }
}

/// Runs a test as a child of a shell that has run this line. True: it succeeded.
fn in_a_shell(line: &str, test: &str, directory: &Path) -> bool {
    let script = format!("{line}; exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(std::env::current_exe().unwrap()).args(only(test));
    shell.env(DIRECTORY, directory).status().unwrap().success()
}

#[test]
#[cfg(unix)]
fn a_limit_on_the_size_of_files_ends_no_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = Path::new(&directory);
        let log = in_memory(&directory.join("audit.db"));
        let large = || tracing_audit::AuditEntry { reason: Some("x".repeat(20_000)), ..entry("large") };
        let mut committed = 0;
        while log.writer().blocking().commit(large()).is_ok() {
            committed += 1;
        }
        assert!(committed > 3);
        wait_until("it is told", || log.health() == Health::Failing);
        assert!(last_error(&log).contains("audit"), "{}", last_error(&log));
        fs::write(directory.join("reached"), committed.to_string()).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(in_a_shell("ulimit -f 2000", this_test!(), directory.path()));
    let committed = fs::read_to_string(directory.path().join("reached")).unwrap();
    let found = actions(&directory.path().join("audit.db")).len();
    assert!(found >= committed.parse::<usize>().unwrap(), "{found} of {committed}");
}

#[test]
#[cfg(unix)]
fn a_process_without_a_free_descriptor_commits_and_reads_again_once_there_are_some() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = Path::new(&directory);
        let file = directory.join("audit.db");
        let log = open(&file);
        commits(&log, 0..3);
        let mut taken = Vec::new();
        while let Ok(one) = fs::File::open("/dev/null") {
            taken.push(one);
        }
        assert!(!taken.is_empty());
        // The first read of the process is one that fails.
        let reader = AuditReader::new(Store::sqlite(&file).unwrap());
        reader.blocking().count(AuditQuery::new()).unwrap_err();
        drop(
            AuditLog::builder()
                .store(Store::sqlite(directory.join("other.db")).unwrap())
                .blocking()
                .open()
                .unwrap_err(),
        );
        // The log has its files open.
        log.writer().blocking().write(entry("3")).unwrap();
        drop(log.blocking().flush());
        taken.clear();
        settle(&log.writer());
        assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 4);
        commits(&log, 4..6);
        // A look for other journals may have failed.
        wait_until("health is well again", || log.health() == Health::Healthy);
        drop(open(&directory.join("other.db")));
        fs::write(directory.join("reached"), "").unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(in_a_shell("ulimit -n 48", this_test!(), directory.path()));
    assert!(directory.path().join("reached").exists());
    assert_eq!(actions(&directory.path().join("audit.db")), named(0..6));
}

/// A copy of a database and its write-ahead log, to which nobody writes meanwhile.
fn copied(file: &Path) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    // The log first: a move of it into the database does not change what the two are together.
    for suffix in ["-wal", ""] {
        fs::copy(beside(file, suffix), beside(&place.path().join("audit.db"), suffix)).unwrap();
    }
    place
}

#[test]
fn an_end_of_the_ledger_that_somebody_has_changed_keeps_no_reader_and_no_log_from_the_file() {
    let moved = "PRAGMA wal_checkpoint(TRUNCATE)";
    for change in [
        "UPDATE tracing_audit_head SET next_seq = 3",
        "UPDATE tracing_audit_head SET next_seq = -3",
        "UPDATE tracing_audit_head SET next_seq = 9223372036854775807",
        "UPDATE tracing_audit_head SET next_seq = 100",
        "UPDATE tracing_audit_batches SET committed_at = committed_at + 3600000000",
        "DELETE FROM tracing_audit_batches WHERE first_seq >= 5",
        "DELETE FROM tracing_audit_entries WHERE seq >= 5; DELETE FROM tracing_audit_batches WHERE first_seq >= 5;
         UPDATE tracing_audit_head SET next_seq = 5",
        "DELETE FROM tracing_audit_entries; DELETE FROM tracing_audit_batches; UPDATE tracing_audit_head SET next_seq = 0",
    ] {
        // The ten entries and the change are each in the database, or only in its write-ahead log.
        for (are_in, is_in) in [(false, false), (true, false), (true, true)] {
            let case = format!("{change}, {are_in}, {is_in}");
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("audit.db");
            let log = in_memory(&file);
            commits(&log, 0..10);
            for sql in [are_in.then_some(moved), Some(change), is_in.then_some(moved)].into_iter().flatten() {
                run(file.to_str().unwrap(), sql);
            }
            for after in ["", "after", "again"] {
                if !after.is_empty() {
                    commit(&log, entry(after));
                }
                let all = block_on(crate::support::all(&log.reader()));
                let copy = copied(&file);
                let copy = copy.path().join("audit.db");
                assert_eq!(all_in(copy.to_str().unwrap()), all, "{case}, {after}");
                let reader = AuditReader::new(Store::sqlite(&copy).unwrap());
                let coverage = reader.blocking().coverage(AuditQuery::new(), u64::MAX).unwrap();
                let is_end = !change.contains("committed_at");
                assert!(coverage.lacks() || !is_end || !after.is_empty(), "{case}: {coverage:?}");
                drop(reader);
                let next = in_memory(&copy);
                commit(&next, entry("next"));
                assert_eq!(actions(&copy).last().map(String::as_str), Some("next"), "{case}, {after}");
            }
            assert_eq!(log.health(), Health::Healthy, "{case}: {}", last_error(&log));
            let gaps = u64::from(!change.contains("committed_at"));
            assert_eq!((log.stats().retries, log.stats().gaps), (0, gaps), "{case}: {}", last_error(&log));
        }
    }
}

/// The numbers of the header of a rollback journal that begins at 8: pages in it, nonce, pages of the database, sector, page.
fn journal_of(pages: u32, page: u32, held: &[(u32, &[u8])]) -> Vec<u8> {
    let nonce = 7;
    let mut journal = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    for number in [u32::try_from(held.len()).unwrap(), nonce, pages, 512, page] {
        journal.extend(number.to_be_bytes());
    }
    journal.resize(512, 0);
    for (number, bytes) in held {
        journal.extend(number.to_be_bytes());
        journal.extend(*bytes);
        let summed = bytes.iter().rev().skip(199).step_by(200);
        journal.extend(summed.fold(nonce, |sum, byte| sum + u32::from(*byte)).to_be_bytes());
    }
    journal
}

/// A database and its journal amid a transaction that has written some pages, as a kill leaves them.
fn amid(file: &Path, sql: &str) -> (Vec<u8>, Vec<u8>) {
    block_on(async {
        let mut connection = connect(file).await;
        let amid = format!("PRAGMA cache_size = 5; BEGIN; {sql}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(amid)).execute(&mut connection).await.unwrap();
        let both = (fs::read(file).unwrap(), fs::read(beside(file, "-journal")).unwrap());
        sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
        both
    })
}

/// The journal of another program's database with pages of this size.
fn foreign_journal(page: u32) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("other.db");
    let rows = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                INSERT INTO t SELECT randomblob(2000) FROM n";
    run(file.to_str().unwrap(), format!("PRAGMA page_size = {page}; CREATE TABLE t (b); {rows}"));
    amid(&file, "CREATE TABLE u (a); UPDATE t SET b = randomblob(2000)").1
}

/// A database of forty entries without a write-ahead log beside it, in a mode of SQLite's journal.
fn closed(file: &Path, mode: &str) -> Vec<u8> {
    let log = open(file);
    commits(&log, 0..2);
    (2..40).for_each(|i| {
        let reason = Some("x".repeat(2000));
        log.writer().blocking().write(tracing_audit::AuditEntry { reason, ..entry(i.to_string()) }).unwrap();
    });
    settle(&log.writer());
    drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
    drop(log);
    run(file.to_str().unwrap(), format!("PRAGMA journal_mode = {mode}"));
    fs::read(file).unwrap()
}

/// What a transaction of another program does to most pages.
const REWRITTEN: &str = "UPDATE tracing_audit_entries SET reason = hex(randomblob(1000))";

#[test]
fn a_rollback_journal_that_does_not_belong_to_the_database_is_found_before_it_is_played() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (in_wal, in_delete) = (closed(&path("wal.db"), "WAL"), closed(&path("delete.db"), "DELETE"));
    // The database's own journals: of before it had a write-ahead log, and of some transactions ago.
    let (_, earlier) = amid(&path("delete.db"), &format!("CREATE TABLE of_another (a); {REWRITTEN}"));
    run(path("delete.db").to_str().unwrap(), "PRAGMA journal_mode = WAL");
    let in_wal_later = fs::read(path("delete.db")).unwrap();
    run(
        path("delete.db").to_str().unwrap(),
        "PRAGMA journal_mode = DELETE; CREATE TABLE a (b); DROP TABLE a",
    );
    let in_delete_later = fs::read(path("delete.db")).unwrap();
    let (small, same) = (foreign_journal(4096), foreign_journal(8192));
    let empties = journal_of(0, 8192, &[]);
    let pages = u32::try_from(in_wal.len() / 8192).unwrap();
    let other_page = journal_of(pages, 8192, &[(1, &in_wal[..8192]), (2, &[7; 8192][..])]);
    let cuts = journal_of(2, 8192, &[]);
    for (number, (main, journal, why)) in [
        (Some(&in_wal), &small, "its pages have 4096 bytes"),
        (Some(&in_wal), &same, "it is of a database with"),
        (Some(&in_wal), &empties, "it would empty the database"),
        (Some(&in_wal), &cuts, "it is of a database with 2 pages"),
        (Some(&in_wal), &other_page, "it would put back 1 pages"),
        (Some(&in_wal_later), &earlier, "it would put back"),
        (Some(&in_delete), &same, "it would put back the first page of change"),
        (Some(&in_delete), &empties, "it would empty the database"),
        (Some(&in_delete_later), &earlier, "it would put back the first page of change"),
        (Some(&Vec::new()), &same, "the database is empty or gone"),
        (None, &same, "the database is empty or gone"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("audit.db");
        if let Some(main) = main {
            fs::write(&file, main).unwrap();
        }
        fs::write(beside(&file, "-journal"), journal).unwrap();
        let reader = AuditReader::new(Store::sqlite(&file).unwrap());
        let mut refused = vec![
            AuditLog::builder()
                .store(Store::sqlite(&file).unwrap())
                .blocking()
                .open()
                .unwrap_err()
                .to_string(),
            reader.blocking().count(AuditQuery::new()).unwrap_err().to_string(),
        ];
        if number == 0 {
            refused.extend(readers_refuse(&file));
        }
        if main.is_some() {
            refused.push(block_on(UnusedFile::hold(&file, "main", 40)).unwrap_err().to_string());
        }
        for refused in refused {
            let says = "audit.db-journal does not belong to";
            assert!(
                refused.contains(says) && refused.contains(why) && refused.contains("Move"),
                "{number}: {refused}"
            );
        }
        assert!(fs::read(&file).ok().as_ref() == main, "{number}");
        assert!(&fs::read(beside(&file, "-journal")).unwrap() == journal, "{number}");
        // The remedy.
        fs::remove_file(beside(&file, "-journal")).unwrap();
        assert_eq!(open(&file).stats().retries, 0, "{number}");
        let left = if main.is_some_and(|main| !main.is_empty()) { 40 } else { 0 };
        assert_eq!(actions(&file).len(), left, "{number}");
    }
}

#[test]
fn a_rollback_journal_that_belongs_to_the_database_is_played_and_a_broken_one_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let in_wal = closed(&path("wal.db"), "WAL");
    let in_delete = closed(&path("delete.db"), "DELETE");
    let pages = u32::try_from(in_wal.len() / 8192).unwrap();
    let killed = amid(&path("delete.db"), REWRITTEN);
    assert!(killed.0 != in_delete, "the transaction has written nothing");
    let changed = amid(&path("delete.db"), &format!("CREATE TABLE of_another (a); {REWRITTEN}"));
    // A change of the mode that was interrupted before the journal was removed.
    let mut before = in_wal[..8192].to_owned();
    before[18..20].copy_from_slice(&[1, 1]);
    let switched = journal_of(pages, 8192, &[(1, &before[..])]);
    let unsynced = journal_of(pages, 8192, &[]);
    let broken = [&switched[..20], &[0; 2000][..]].concat();
    // A log that was killed while it created its file.
    run(path("new.db").to_str().unwrap(), "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL");
    let new = fs::read(path("new.db")).unwrap();
    assert_eq!(new.len(), 8192);
    for (number, (main, journal, left)) in [
        (killed.0, killed.1, 40),
        (changed.0, changed.1, 40),
        (in_wal.clone(), switched, 40),
        (in_wal.clone(), unsynced, 40),
        (in_wal, broken, 40),
        (new, journal_of(0, 8192, &[]), 0),
        (Vec::new(), journal_of(0, 8192, &[]), 0),
    ]
    .into_iter()
    .enumerate()
    {
        for reads_first in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let file = place.path().join("audit.db");
            fs::write(&file, &main).unwrap();
            fs::write(beside(&file, "-journal"), &journal).unwrap();
            if reads_first {
                assert_eq!(actions(&file).len(), left, "{number}");
            }
            let log = open(&file);
            commit(&log, entry("after"));
            assert_eq!((log.stats().retries, log.health()), (0, Health::Healthy), "{number}");
            drop(log);
            let found = all_in(file.to_str().unwrap());
            assert_eq!(found.len(), left + 1, "{number}");
            assert!(
                found.iter().all(|found| found.entry.reason.as_ref().is_none_or(|why| why.starts_with('x')))
            );
        }
    }
}

#[test]
fn a_rollback_journal_beside_a_running_log_is_named_to_its_readers_and_costs_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = in_memory(&file);
    commits(&log, 0..3);
    let journal = foreign_journal(8192);
    fs::write(beside(&file, "-journal"), &journal).unwrap();
    let refused = log.reader().blocking().count(AuditQuery::new()).unwrap_err().to_string();
    assert!(refused.contains("audit.db-journal does not belong to"), "{refused}");
    commits(&log, 3..6);
    assert_eq!((log.stats().retries, log.health()), (0, Health::Healthy));
    fs::remove_file(beside(&file, "-journal")).unwrap();
    assert_eq!(actions(&file), named(0..6));
}

#[test]
#[cfg(unix)]
fn the_database_itself_under_the_name_of_its_log_or_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    drop(open(&file).blocking().shutdown(crate::support::PATIENCE).unwrap());
    for suffix in ["-wal", "-shm", "-journal"] {
        fs::hard_link(&file, beside(&file, suffix)).unwrap();
        let before = fs::read(&file).unwrap();
        for refused in readers_refuse(&file) {
            assert!(refused.contains("by another name: move it away"), "{suffix}: {refused}");
        }
        let refused = AuditLog::builder().store(Store::sqlite(&file).unwrap()).blocking().open().unwrap_err();
        assert!(refused.to_string().contains("by another name: move it away"), "{suffix}: {refused}");
        assert!(fs::read(&file).unwrap() == before);
        fs::remove_file(beside(&file, suffix)).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_is_dropped_in_async_code_beside_a_long_log_leaves_judging_it_to_another_thread() {
    let test = this_test!();
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let log = in_memory(&Path::new(&directory).join("audit.db"));
        commits(&log, 3..63);
        let own = std::process::id().to_string();
        Command::new("kill").args(["-9", &own]).status().unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = open(&file);
    commits(&log, 0..3);
    drop(log.blocking().shutdown(crate::support::PATIENCE).unwrap());
    drop(log);
    // It has the file open before there is a log, so that closing it would move the log.
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 3);
    assert!(!wait(child(test, &[(DIRECTORY, directory.path().to_str().unwrap())])).success());
    let frames = len(&beside(&file, "-wal")).unwrap() / 8216;
    assert!(frames > 400, "{frames}");
    let reads = || {
        let told = fs::read_to_string("/proc/thread-self/io").unwrap();
        let reads = told.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap();
        reads.parse::<u64>().unwrap()
    };
    let (before, after) = block_on(async move {
        let before = reads();
        drop(reader);
        (before, reads())
    });
    assert!(after - before < frames / 4, "{} reads, {frames} frames", after - before);
    // The log belongs to the file, so it is moved there.
    wait_until("the log is moved", || len(&beside(&file, "-wal")).is_none_or(|len| len == 0));
    assert_eq!(alone(&file), named(0..63));
}
