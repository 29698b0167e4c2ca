// Writing: when batches start, who gets which answer, and what is refused.

use std::time::{Duration, Instant};

use serde_json::json;
use tracing_audit::{AuditEntry, AuditLog, AuditQuery, Column, IndexOn, Migrate, audit_id};
use uuid::Uuid;

use super::{log, log_with};
use crate::support::{self, assert_balanced, block_on};

fn entry(action: &str) -> AuditEntry {
    AuditEntry::new(Uuid::nil(), action, "document")
}

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
        let start = Instant::now();
        while fixture.log.stats().committed < count {
            assert!(start.elapsed() < support::PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
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
    by_call.log.flush_blocking().unwrap();
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
                            (block_on(writer.commit(entry(&action))).unwrap(), action)
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
fn what_is_too_large_is_refused_and_counted() {
    let fixture = log();
    let writer = fixture.log.writer();
    let large = AuditEntry { reason: Some("x".repeat(64 * 1024 + 1)), ..entry("a") };
    assert!(writer.try_write(large).unwrap_err().is_too_large());
    let large = AuditEntry { metadata: "x".repeat(1024 * 1024).into(), ..entry("a") };
    let error = block_on(writer.commit(large)).unwrap_err();
    assert!(error.is_too_large() && error.is_rejected(), "{error}");
    // Told without anything else to write, or anybody who flushes.
    let start = Instant::now();
    while fixture.log.stats().committed == 0 {
        assert!(start.elapsed() < support::PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let told: u64 = fixture.entries().iter().filter_map(|gap| gap.entry.metadata["too_large"].as_u64()).sum();
    let stats = fixture.log.stats();
    assert_eq!((stats.offered - stats.gaps, stats.rejected, stats.pending), (2, 2, 0));
    assert_eq!((stats.rejected_because.too_large, told), (2, 2));
}

#[test]
fn indexes_that_are_asked_for_are_made_beside_writers_and_change_no_answer() {
    let fixture = log_with(|builder| {
        let builder = builder.index(Column::AgentId).index(Column::Reason).index(Column::SessionId);
        builder.index(IndexOn::metadata("client.ip"))
    });
    let agents = ["alice", "bob", "carol"];
    // Longer than what any index takes, and the same at their beginning.
    let reason = |n: usize| format!("{}{n}", "long ".repeat(5000 + n % 2));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = fixture.log.writer();
            scope.spawn(move || {
                for n in 0..500 {
                    let entry = AuditEntry {
                        agent_id: (n % 4 < 3).then(|| audit_id(agents[n % 4])),
                        reason: (n % 50 == 0).then(|| reason(n)),
                        metadata: json!({ "client": { "ip": format!("10.0.0.{thread}") } }),
                        ..entry(&format!("thread.{thread}"))
                    };
                    writer.write_blocking(entry).unwrap();
                }
            });
        }
    });
    fixture.settle();
    let reader = fixture.log.reader();
    let reader = reader.blocking();
    let on_request = || {
        let indexes = reader.indexes().unwrap();
        let ready: Vec<_> = indexes.into_iter().filter(|index| index.on_request && index.ready).collect();
        assert!(ready.iter().all(|index| index.bytes.unwrap() > 0));
        ready.into_iter().map(|index| index.serves).collect::<Vec<_>>()
    };
    support::wait_until("all are made", || on_request() == ["agent_id", "metadata.client.ip", "reason"]);
    let always = reader.indexes().unwrap().into_iter().filter(|index| !index.on_request);
    assert!(always.map(|index| index.serves).any(|serves| serves == "workspace_id"));

    let store = fixture.store();
    let answers = || {
        let count = |query: AuditQuery| reader.count(query).unwrap();
        let of = AuditQuery::new;
        [
            count(of().any_of(Column::AgentId, ["bob"])),
            count(of().any_of(Column::AgentId, ["bob", "carol", "dave"])),
            count(of().none_of(Column::AgentId, ["bob"])),
            count(of().any_of(Column::Reason, [reason(100)])),
            count(of().any_of(Column::Reason, [reason(100), reason(150)])),
            count(of().any_of(Column::Reason, ["long "])),
            count(of().metadata_any_of("client.ip", ["10.0.0.3"])),
            count(of().metadata_none_of("client.ip", ["10.0.0.3", "10.0.0.1"])),
            count(of().action_prefix("thread.")),
            count(of().action_prefix("thread.2").any_of(Column::AgentId, ["alice"])),
        ]
    };
    let expected = [500, 1000, 1500, 4, 8, 0, 500, 1000, 2000, 125];
    assert_eq!(answers(), expected);
    block_on(async {
        for on in ["action", "agent_id", "metadata.client.ip", "workspace_id"] {
            store.create_index(&on.parse().unwrap()).await.unwrap();
        }
    });
    assert_eq!(on_request(), ["action", "agent_id", "metadata.client.ip", "reason"]);
    assert_eq!(answers(), expected);
    for on in ["action", "reason", "metadata.client.ip", "agent_id", "agent_id"] {
        store.drop_index_blocking(&on.parse().unwrap()).unwrap();
    }
    assert!(store.drop_index_blocking(&IndexOn::Column(Column::SessionId)).unwrap_err().is_config());
    assert!(on_request().is_empty());
    assert_eq!(answers(), expected);
}

#[test]
fn a_log_that_may_not_make_an_index_tells_whoever_may_how() {
    let fixture = log();
    fixture.log.writer().try_write(entry("a")).unwrap();
    fixture.settle();
    let store = fixture.store().migrate(Migrate::Check);
    let (told, notices) = std::sync::mpsc::channel();
    let builder = AuditLog::builder().store(store.clone()).in_memory_queue().queue_max_entries(10);
    let builder = builder.index(Column::AgentId);
    let log = builder.on_notice(move |notice| told.send(notice.to_string()).unwrap()).open_blocking().unwrap();
    let notice = notices.recv_timeout(support::PATIENCE).unwrap();
    let sql = store.index_sql(&IndexOn::Column(Column::AgentId)).unwrap();
    assert!(notice.contains("the index on agent_id does not exist") && notice.contains(&sql), "{notice}");
    assert!(log.health().is_healthy());
    fixture.run(&sql);
    store.create_index_blocking(&IndexOn::Column(Column::AgentId)).unwrap();
}
