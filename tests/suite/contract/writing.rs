// Writing: when batches start, who gets which answer, and what is refused.

use std::time::Duration;

use tracing_audit::AuditEntry;

use super::{log, log_with};
use crate::support::{self, assert_balanced, block_on, entry, wait_until};

#[test]
fn dropping_one_writer_of_several_loses_and_ends_nothing() {
    let fixture = log_with(|builder| builder.flush_interval(Duration::from_hours(1)));
    let (first, second) = (fixture.log.writer(), fixture.log.writer());
    first.try_write(entry("a")).unwrap();
    drop(first);
    second.try_write(entry("b")).unwrap();
    assert_eq!(fixture.entries().len(), 2);
}

#[test]
fn a_batch_starts_at_its_size_after_its_interval_and_at_flush_and_commit() {
    let committed = |fixture: &support::Fixture, count: u64| {
        wait_until("the batch is committed", || fixture.log.stats().committed >= count);
    };
    let never = Duration::from_hours(1);
    let by_size = log_with(|builder| builder.batch_entries(10).flush_interval(never));
    (0..9).for_each(|_| by_size.log.writer().try_write(entry("a")).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(by_size.log.stats().committed, 0);
    by_size.log.writer().try_write(entry("tenth")).unwrap();
    committed(&by_size, 10);

    let by_interval = log_with(|builder| builder.flush_interval(Duration::from_millis(1)));
    by_interval.log.writer().try_write(entry("a")).unwrap();
    committed(&by_interval, 1);

    let by_call = log_with(|builder| builder.flush_interval(never));
    by_call.log.writer().try_write(entry("a")).unwrap();
    by_call.log.blocking().flush().unwrap();
    assert_eq!(by_call.log.stats().committed, 1);
    assert_eq!(block_on(by_call.log.writer().commit(entry("b"))).unwrap(), 1);
}

#[test]
fn concurrent_commits_each_get_the_seq_of_their_own_entry() {
    let fixture = log();
    let mut answers = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let writer = fixture.log.writer();
                scope.spawn(move || {
                    (0..50)
                        .map(|i| {
                            let action = format!("{thread}-{i}");
                            (block_on(writer.commit(entry(&*action))).unwrap(), action)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            answers.extend(thread.join().unwrap());
        }
    });
    answers.sort_by_key(|(seq, _)| *seq);
    let found: Vec<(u64, String)> =
        fixture.entries().into_iter().map(|found| (found.seq, found.entry.action)).collect();
    assert_eq!(answers, found);
}

#[test]
fn a_duplicate_is_quarantined_alone_and_the_rest_of_its_batch_committed() {
    let fixture = log_with(|builder| builder.flush_interval(Duration::from_hours(1)));
    let twice = entry("twice");
    let writer = fixture.log.writer();
    block_on(writer.commit(twice.clone())).unwrap();
    for i in 0..500 {
        writer.try_write(if i == 250 || i == 251 { twice.clone() } else { entry("fine") }).unwrap();
    }
    let error = block_on(writer.commit(twice)).unwrap_err();
    assert!(error.is_duplicate() && error.is_quarantined() && !error.is_rejected(), "{error}");
    assert_eq!(block_on(writer.commit(entry("last"))).unwrap(), 499);
    let stats = fixture.log.stats();
    assert_eq!((stats.committed, stats.quarantined, stats.pending), (500, 3, 0));
    assert_balanced(&stats);
    let seqs: Vec<u64> = fixture.entries().iter().map(|found| found.seq).collect();
    assert_eq!(seqs, (0..500).collect::<Vec<u64>>());
    let quarantined = fixture.log.reader().blocking().quarantined().unwrap();
    assert!(quarantined.iter().all(|found| found.id.is_some() && found.error.contains("id already")));
    assert_eq!(quarantined.len(), 3);
}

#[test]
fn a_too_large_entry_is_refused_and_counted() {
    let fixture = log();
    let writer = fixture.log.writer();
    let large = AuditEntry { reason: Some("x".repeat(64 * 1024 + 1)), ..entry("a") };
    assert!(writer.try_write(large).unwrap_err().is_too_large());
    let large = AuditEntry { metadata: "x".repeat(1024 * 1024).into(), ..entry("a") };
    let error = block_on(writer.commit(large)).unwrap_err();
    assert!(error.is_too_large() && error.is_rejected(), "{error}");
    // The gap entry is committed although nothing else is written and nobody flushes.
    wait_until("the gap entry is committed", || fixture.log.stats().committed > 0);
    // A commit may be followed by one more gap entry, for a rejection after the first.
    let recorded = || -> u64 {
        fixture.entries().iter().filter_map(|gap| gap.entry.metadata["too_large"].as_u64()).sum()
    };
    wait_until("both rejections are recorded", || recorded() == 2);
    let stats = fixture.log.stats();
    assert_eq!((stats.offered - stats.gaps, stats.rejected, stats.pending), (2, 2, 0));
    assert_eq!(stats.rejections.too_large, 2);
}
