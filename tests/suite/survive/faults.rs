//! Faults of the database and of its disk: the books are checked throughout each, and everything accepted is in its
//! place afterwards.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing_audit::{
    AuditEntry, AuditLog, AuditQuery, AuditWriter, Health, Notice, QuarantineRetried, Store, WhenFull,
};

use crate::support::{
    self, Fixture, balanced, block_on, commit, connect, entry, heavy, in_own_mounts, in_own_process, lock,
    log_with, mount, open, run, settle, this_test, unlock, wait_until,
};

/// Checks that the ledger holds exactly these actions, each once, at contiguous places.
fn assert_holds(fixture: &Fixture, actions: impl IntoIterator<Item = String>) {
    let found = fixture.entries();
    let seqs: Vec<u64> = found.iter().map(|found| found.seq).collect();
    assert_eq!(seqs, (0..found.len() as u64).collect::<Vec<_>>());
    let wanted: BTreeSet<String> = actions.into_iter().collect();
    let unique: BTreeSet<String> = found.iter().map(|found| found.entry.action.clone()).collect();
    assert_eq!((unique.len(), found.len()), (wanted.len(), wanted.len()));
    assert!(unique == wanted);
}

#[test]
fn a_database_locked_for_12_s_costs_and_doubles_nothing() {
    let notices = Arc::new(Mutex::new(Vec::<Notice>::new()));
    let told = Arc::clone(&notices);
    let fixture = log_with(|builder| builder.on_notice(move |notice| told.lock().unwrap().push(notice)));
    let writer = fixture.log.writer();
    balanced(&writer, || {
        block_on(async {
            let blocker = lock(&fixture.db).await;
            let locked = Instant::now();
            writer.write(entry("0")).await.unwrap();
            let accepted = Instant::now();
            for i in 1..20_000 {
                writer.write(entry(i.to_string())).await.unwrap();
                if i % 20 == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(12).saturating_sub(locked.elapsed())).await;
            // On a slow machine the first attempt, which waits 5 s for the lock, may not have begun in time.
            wait_until("an attempt has failed", || fixture.log.stats().retries >= 1);
            wait_until("health turns bad", || fixture.log.health() == Health::Failing);
            let waited = accepted.elapsed();
            let stats = fixture.log.stats();
            assert_eq!((stats.pending, stats.rejected), (20_000, 0));
            let oldest = stats.oldest_pending.unwrap();
            assert!(oldest + Duration::from_secs(1) >= waited, "{oldest:?} of {waited:?}");
            assert!(stats.last_error.unwrap().to_string().contains("stayed locked by another connection"));
            unlock(blocker).await;
        });
        fixture.settle();
    });
    assert_holds(&fixture, (0..20_000).map(|i| i.to_string()));
    assert_eq!(fixture.log.health(), Health::Healthy);
    let stats = fixture.log.stats();
    assert_eq!(
        (stats.committed, stats.quarantined, stats.pending, stats.oldest_pending),
        (20_000, 0, 0, None)
    );
    assert!(stats.last_commit >= stats.last_error_at && stats.largest_batch > 1000, "{stats:?}");
    wait_until("the end of the fault is reported", || notices.lock().unwrap().len() == 2);
    let notices = notices.lock().unwrap();
    let changes: Vec<_> = notices.iter().map(|notice| (notice.was, notice.health)).collect();
    assert_eq!(changes, [(Health::Healthy, Health::Failing), (Health::Failing, Health::Healthy)]);
}

#[test]
fn one_poison_entry_among_500_is_quarantined_alone_shown_exported_and_readmitted() {
    let fixture = log_with(|builder| builder.flush_interval(Duration::from_hours(1)).batch_entries(1000));
    let writer = fixture.log.writer();
    run(
        &fixture.db,
        "CREATE TRIGGER refuse BEFORE INSERT ON tracing_audit_entries WHEN new.action = 'poison'
         BEGIN SELECT RAISE(ABORT, 'poison is not let in'); END",
    );
    let poison = AuditEntry { reason: Some("why".to_owned()), ..entry("poison") };
    balanced(&writer, || {
        for i in 0..500 {
            let entry = if i == 321 { poison.clone() } else { entry(i.to_string()) };
            writer.blocking().write(entry).unwrap();
        }
        fixture.settle();
    });
    let stats = fixture.log.stats();
    assert_eq!((stats.committed, stats.quarantined, stats.pending), (499, 1, 0));
    assert_eq!(fixture.log.health(), Health::Healthy);
    let reader = fixture.log.reader();
    let quarantined = reader.blocking().quarantined().unwrap();
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0].entry.as_ref(), Some(&poison));
    assert_eq!((quarantined[0].id, quarantined[0].position), (Some(poison.id), 322));
    let mut lines = Vec::new();
    assert_eq!(reader.blocking().export_quarantined(&mut lines).unwrap(), 1);
    let line: serde_json::Value = serde_json::from_slice(&lines).unwrap();
    assert_eq!(line["entry"]["reason"], "why");
    // The entry stays quarantined while the database refuses it.
    let readmitted = writer.blocking().retry_quarantined().unwrap();
    assert_eq!((readmitted.committed, readmitted.refused), (0, 1));
    run(&fixture.db, "DROP TRIGGER refuse");
    let QuarantineRetried { committed, refused, .. } = writer.blocking().retry_quarantined().unwrap();
    assert_eq!((committed, refused), (1, 0));
    assert_eq!(reader.blocking().quarantined().unwrap(), []);
    writer.blocking().write(entry("after")).unwrap();
    let own = (0..500).filter(|i| *i != 321).map(|i| i.to_string());
    assert_holds(&fixture, own.chain(["poison".to_owned(), "after".to_owned()]));
}

/// Refuses everything from amid a pass of bisection until a moment amid another, and one entry for good.
fn refuses_everything_for_a_while(round: u64) {
    let fixture = log_with(|builder| {
        builder.flush_interval(Duration::from_hours(1)).batch_entries(100_000).on_notice(|_| {})
    });
    let writer = fixture.log.writer();
    run(
        &fixture.db,
        "CREATE TRIGGER poison BEFORE INSERT ON tracing_audit_entries WHEN new.action = 'poison'
         BEGIN SELECT RAISE(ABORT, 'poison is not let in'); END",
    );
    let everything = "CREATE TRIGGER everything BEFORE INSERT ON tracing_audit_entries
                      BEGIN SELECT RAISE(ABORT, 'nothing is let in'); END";
    run(&fixture.db, everything);
    balanced(&writer, || {
        for i in 0..5000 {
            writer
                .blocking()
                .write(entry(if i == 321 { "poison".to_owned() } else { i.to_string() }))
                .unwrap();
        }
        std::thread::scope(|scope| {
            let flushing = writer.clone();
            let flushing = scope.spawn(move || wait_until("a flush", || flushing.blocking().flush().is_ok()));
            wait_until("an attempt", || writer.stats().last_error.is_some() || writer.stats().retries > 0);
            // Any moment of the next passes. Then it comes and goes once more.
            std::thread::sleep(Duration::from_millis(round * 37));
            run(&fixture.db, "DROP TRIGGER everything");
            std::thread::sleep(Duration::from_millis(round * 3));
            run(&fixture.db, everything);
            std::thread::sleep(Duration::from_millis(round * 11));
            run(&fixture.db, "DROP TRIGGER everything");
            flushing.join().unwrap();
        });
    });
    let stats = fixture.log.stats();
    assert_eq!((stats.committed, stats.quarantined, stats.pending), (4999, 1, 0), "{round}");
    assert_holds(&fixture, (0..5000).filter(|i| *i != 321).map(|i| i.to_string()));
    assert_eq!(fixture.log.health(), Health::Healthy);
}

#[test]
fn a_trigger_that_refuses_everything_for_a_while_puts_no_good_entry_into_quarantine() {
    for round in [0, 1, 3, 8, 20, 50] {
        refuses_everything_for_a_while(round);
    }
}

#[test]
fn a_column_dropped_under_us_quarantines_nothing_and_heals() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(300)));
    let writer = fixture.log.writer();
    balanced(&writer, || {
        commit(&fixture.log, entry("before"));
        run(
            &fixture.db,
            "DROP VIEW tracing_audit_log; DROP INDEX tracing_audit_entries_problems;
             ALTER TABLE tracing_audit_entries DROP COLUMN problems",
        );
        for i in 0..100 {
            writer.blocking().write(entry(i.to_string())).unwrap();
        }
        assert!(writer.blocking().commit(entry("during")).unwrap_err().is_pending());
        wait_until("health turns bad", || fixture.log.health() == Health::Failing);
        wait_until("the log tries again", || fixture.log.stats().retries >= 3);
        let stats = fixture.log.stats();
        assert_eq!((stats.committed, stats.quarantined, stats.pending), (1, 0, 101));
        run(&fixture.db, "ALTER TABLE tracing_audit_entries ADD COLUMN problems TEXT");
        fixture.settle();
    });
    let others = ["before".to_owned(), "during".to_owned()];
    assert_holds(&fixture, (0..100).map(|i| i.to_string()).chain(others));
    assert_eq!((fixture.log.health(), fixture.log.stats().quarantined), (Health::Healthy, 0));
}

#[test]
fn a_quarantine_that_cannot_be_written_blames_no_entry() {
    let fixture = log_with(|builder| {
        let builder = builder.flush_interval(Duration::from_hours(1)).on_notice(|_| {});
        // Bounds the one flush that waits in vain.
        builder.commit_timeout(Duration::from_millis(300))
    });
    let writer = fixture.log.writer();
    let twice = entry("twice");
    commit(&fixture.log, twice.clone());
    run(
        &fixture.db,
        "CREATE TRIGGER refuse BEFORE INSERT ON tracing_audit_quarantine BEGIN SELECT RAISE(ABORT, 'full'); END",
    );
    balanced(&writer, || {
        writer.blocking().write(entry("0")).unwrap();
        writer.blocking().write(twice).unwrap();
        (1..50).for_each(|i| writer.blocking().write(entry(i.to_string())).unwrap());
        let flushing = writer.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(flushing.blocking().flush()));
            wait_until("the log tries again", || fixture.log.stats().retries >= 3);
        });
        assert_eq!(fixture.log.stats().quarantined, 0);
        run(&fixture.db, "DROP TRIGGER refuse");
        fixture.settle();
    });
    let stats = fixture.log.stats();
    assert_eq!((stats.committed, stats.quarantined), (51, 1));
    assert_holds(&fixture, (0..50).map(|i| i.to_string()).chain(["twice".to_owned()]));
}

#[test]
fn a_file_unlinked_and_restored_gets_what_was_accepted_meanwhile() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(300)));
    let (file, writer) = (std::path::PathBuf::from(&fixture.db), fixture.log.writer());
    let kept = fixture.directory.path().join("kept");
    balanced(&writer, || {
        commit(&fixture.log, entry("before"));
        fs::hard_link(&file, &kept).unwrap();
        fs::remove_file(&file).unwrap();
        (0..100).for_each(|i| writer.blocking().write(entry(i.to_string())).unwrap());
        wait_until("the log names the fault", || {
            let last = fixture.log.stats().last_error;
            last.is_some_and(|last| last.to_string().contains("was deleted or replaced while it was open"))
        });
        assert_eq!(fixture.log.health(), Health::Failing);
        assert!(!file.exists());
        fs::hard_link(&kept, &file).unwrap();
        fixture.settle();
    });
    assert_holds(&fixture, (0..100).map(|i| i.to_string()).chain(["before".to_owned()]));
    assert_eq!(fixture.log.health(), Health::Healthy);
}

#[test]
fn a_file_damaged_in_the_middle_is_named_and_written_when_it_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = open(&file);
    (0..5000).for_each(|i| log.writer().blocking().write(entry(i.to_string())).unwrap());
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.committed, 5000);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[8192..].fill(0xa5);
    fs::write(&file, damaged).unwrap();
    let store = Store::sqlite(&file).unwrap();
    assert!(
        AuditLog::builder()
            .store(Store::sqlite(&file).unwrap())
            .blocking()
            .open()
            .unwrap_err()
            .to_string()
            .contains("restore it from a backup")
    );
    let writer = AuditWriter::new(store.clone(), Duration::from_millis(1), 10);
    balanced(&writer, || {
        (0..100).for_each(|i| writer.blocking().write(entry(format!("later {i}"))).unwrap());
        wait_until("health turns bad", || writer.health() == Health::Failing && writer.stats().retries > 1);
        let error = writer.stats().last_error.unwrap();
        assert!(error.to_string().contains("is damaged: restore it from a backup"), "{error}");
        assert_eq!((writer.stats().pending, writer.stats().quarantined), (100, 0));
        fs::write(&file, whole).unwrap();
        settle(&writer);
    });
    assert_eq!(writer.health(), Health::Healthy);
    let reader = tracing_audit::AuditReader::new(store);
    assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 5100);
}

#[test]
fn a_full_file_system_keeps_everything_queued_until_there_is_room() {
    in_own_mounts(this_test!(), |directory| {
        assert!(mount("size=8m", directory));
        let file = directory.join("audit.db");
        let builder = AuditLog::builder().store(Store::sqlite(&file).unwrap()).on_notice(|_| {});
        let builder = builder.in_memory_queue();
        let log = builder.commit_timeout(Duration::from_millis(300)).blocking().open().unwrap();
        let writer = log.writer();
        let filler = directory.join("filler");
        fs::write(&filler, vec![0; 7 << 20]).unwrap();
        let mut accepted = 0;
        balanced(&writer, || {
            wait_until("the file system is full", || {
                // The last room is used a few entries at a time. All of them fit once the filler is gone.
                for _ in 0..if accepted < 8_000 { 200 } else { 0 } {
                    writer.blocking().write(entry(accepted.to_string())).unwrap();
                    accepted += 1;
                }
                // Health may turn bad before: a slow attempt takes longer than `commit_timeout` too.
                log.stats().last_error.is_some_and(|error| error.to_string().contains("no room for"))
            });
            wait_until("the log tries again", || log.stats().retries >= 3);
            assert_eq!(log.health(), Health::Failing);
            let stats = log.stats();
            assert_eq!((stats.rejected, stats.quarantined), (0, 0));
            assert!(stats.pending > 0);
            fs::remove_file(&filler).unwrap();
            settle(&writer);
        });
        assert_eq!((log.health(), log.stats().committed), (Health::Healthy, accepted));
        assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), accepted);
    });
}

#[test]
fn a_journal_on_a_full_file_system_rejects_until_there_is_room_and_keeps_what_it_accepted() {
    let test = this_test!();
    in_own_mounts(test, |mounted| {
        assert!(mount("size=8m", mounted));
        // The database lies on another file system.
        let aside = tempfile::tempdir().unwrap();
        let file = aside.path().join("audit.db");
        let builder = support::builder(Store::sqlite(&file).unwrap()).on_notice(|_| {});
        let builder = builder.journal(mounted.join("queue")).when_full(WhenFull::Reject);
        // Leaves the journal no more than a quarter of the file system.
        let filler = mounted.join("filler");
        fs::write(&filler, vec![0; 6 << 20]).unwrap();
        let log = builder.blocking().open().unwrap();
        let writer = log.writer();
        let mut accepted = 0;
        let mut until_full = || {
            let mut rejected = 0;
            while rejected < 100 {
                match writer
                    .try_write(AuditEntry { reason: Some("x".repeat(300)), ..entry(accepted.to_string()) })
                {
                    Ok(()) => accepted += 1,
                    Err(error) => {
                        let cause = std::error::Error::source(&error).unwrap().to_string();
                        // On a slow machine the database's lock may have failed an attempt by then, and is blamed.
                        let told = cause.contains("no storage space") || cause.contains("stayed locked");
                        assert!(error.is_full() && told, "{error}: {cause}");
                        rejected += 1;
                    }
                }
            }
            accepted
        };
        balanced(&writer, || {
            block_on(async {
                let blocker = lock(&file).await;
                let first = until_full();
                assert!(first > 2000, "{first}");
                fs::remove_file(&filler).unwrap();
                let second = until_full();
                assert!(second > first + 5000, "{first}, {second}");
                let stats = writer.stats();
                assert_eq!((stats.pending - stats.gaps, stats.rejected), (second, 200));
                unlock(blocker).await;
            });
            settle(&writer);
            let third = fill_after(&writer);
            settle(&writer);
            assert_eq!(third, 1000);
        });
        let stats = log.stats();
        assert_eq!(
            (log.health(), stats.pending, stats.quarantined, stats.damaged),
            (Health::Healthy, 0, 0, 0)
        );
        assert_eq!(stats.committed, accepted + 1000 + stats.gaps);
        assert!(stats.gaps > 0);
        assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), stats.committed);
    });
}

/// Writes a thousand entries and counts those that find room.
fn fill_after(writer: &AuditWriter) -> u64 {
    (0..1000).filter(|i| writer.try_write(entry(format!("after {i}"))).is_ok()).count() as u64
}

#[test]
fn a_file_system_remounted_read_only_and_back_loses_nothing() {
    in_own_mounts(this_test!(), |directory| {
        assert!(mount("size=64m", directory));
        let (file, aside) = (directory.join("audit.db"), directory.join("aside.db"));
        let builder = AuditLog::builder().store(Store::sqlite(&file).unwrap()).on_notice(|_| {});
        let builder = builder.in_memory_queue();
        let log = builder.commit_timeout(Duration::from_millis(300)).blocking().open().unwrap();
        let writer = log.writer();
        balanced(&writer, || {
            commit(&log, entry("before"));
            // The kernel refuses while a file is open for writing. The log closes the file when an attempt fails.
            wait_until("the file system is read-only", || {
                fs::rename(&file, &aside).unwrap();
                writer.blocking().write(entry(format!("at {}", log.stats().offered))).unwrap();
                let tries = log.stats().retries;
                // By then the log pauses a second at least before the next attempt, which is time to remount.
                wait_until("attempts fail", || log.stats().retries >= tries + 8);
                fs::rename(&aside, &file).unwrap();
                mount("remount,ro", directory)
            });
            writer.blocking().write(entry("during")).unwrap();
            wait_until("the log names the fault", || {
                log.stats().last_error.is_some_and(|error| error.to_string().contains("is read-only"))
            });
            assert_eq!(log.health(), Health::Failing);
            assert!(mount("remount,rw", directory));
            settle(&writer);
        });
        let stats = log.stats();
        assert_eq!((stats.committed, stats.rejected, stats.quarantined), (stats.offered, 0, 0));
        assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), stats.committed);
        assert_eq!(log.health(), Health::Healthy);
    });
}

/// A producer that never pauses, against a queue so small that every batch pays a sync for a few entries.
fn overload(when_full: WhenFull) {
    let fixture = log_with(|builder| {
        builder
            .in_memory_queue()
            .queue_max_entries(20)
            .queue_max_bytes(1 << 20)
            .when_full(when_full)
            .on_notice(|_| {})
    });
    let _heavy = heavy();
    let writer = fixture.log.writer();
    let (mut accepted, mut rejected) = (0_u64, 0_u64);
    balanced(&writer, || {
        let start = Instant::now();
        // A slow machine may take longer until both have happened.
        while start.elapsed() < Duration::from_secs(15) || accepted <= 1000 || rejected <= 10 {
            assert!(start.elapsed() < 2 * support::PATIENCE, "{accepted} accepted, {rejected} rejected");
            match writer.blocking().write(entry("a")) {
                Ok(()) => accepted += 1,
                Err(error) => {
                    assert!(error.is_full() && error.is_rejected(), "{error}");
                    rejected += 1;
                }
            }
        }
        wait_until("every gap is recorded", || {
            settle(&writer);
            writer.stats().pending == 0
        });
    });
    let stats = fixture.log.stats();
    assert_eq!((stats.rejected, stats.committed), (rejected, accepted + stats.gaps));
    assert_eq!((fixture.log.health(), stats.quarantined), (Health::Healthy, 0));
    let (gaps, told): (i64, i64) = block_on(async {
        let mut connection = connect(&fixture.db).await;
        let sql = "SELECT count(*), sum(metadata ->> 'rejected') FROM tracing_audit_entries WHERE action = 'audit.gap'";
        sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap()
    });
    assert_eq!((gaps.cast_unsigned(), told.cast_unsigned()), (stats.gaps, rejected));
    assert!(stats.gaps <= stats.batches);
}

#[test]
fn an_overload_that_rejects_is_recorded_exactly_by_gap_entries() {
    overload(WhenFull::Reject);
}

#[test]
fn an_overload_that_waits_is_recorded_exactly_by_gap_entries() {
    overload(WhenFull::Block { timeout: Duration::from_millis(1) });
}

/// The anonymous resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn memory_stays_within_the_queue_s_bounds_and_32_mb_while_the_database_is_locked() {
    let _heavy = heavy();
    in_own_process(this_test!(), || {
        const BYTES: usize = 64 << 20;
        let before = resident();
        let fixture = log_with(|builder| {
            builder
                .in_memory_queue()
                .queue_max_entries(100_000)
                .queue_max_bytes(BYTES)
                .when_full(WhenFull::Reject)
                .on_notice(|_| {})
        });
        let writer = fixture.log.writer();
        let most = block_on(async {
            let blocker = lock(&fixture.db).await;
            let (start, mut most) = (Instant::now(), 0);
            let full_and_failed = || {
                let stats = writer.stats();
                stats.rejected > 0 && stats.retries > 0
            };
            // Past the first attempt's failure, after 5 s, and some more.
            while start.elapsed() < Duration::from_secs(12) || !full_and_failed() {
                assert!(start.elapsed() < support::PATIENCE, "{:?}", writer.stats());
                for _ in 0..1000 {
                    let large = AuditEntry { reason: Some("x".repeat(700)), ..entry("a") };
                    drop(writer.try_write(large));
                }
                most = most.max(resident() - before);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            unlock(blocker).await;
            most
        });
        fixture.settle();
        let most = most.max(resident() - before);
        println!("{} MB at most", most / 1_000_000);
        assert!(most <= (BYTES + (32 << 20)) as u64, "{most} bytes");
    });
}
