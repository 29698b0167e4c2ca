// Indexes on request: creating and dropping them changes no answer.

use serde_json::json;
use tracing_audit::{AuditEntry, AuditQuery, audit_id, index::IndexOn, migrate::Migrate, query::Column};

use super::{log, log_with};
use crate::support::{self, block_on, entry};

#[test]
fn indexes_on_request_are_created_beside_writers_and_change_no_answer() {
    let fixture = log_with(|builder| {
        builder.index(Column::AgentId).index(Column::Reason).index(Column::SessionId).index(IndexOn::metadata("client.ip"))
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
                        ..entry(format!("thread.{thread}"))
                    };
                    writer.blocking().write(entry).unwrap();
                }
            });
        }
    });
    fixture.settle();
    let store = fixture.store();
    let reader = fixture.log.reader();
    let reader = reader.blocking();
    let on_request = || {
        let indexes = store.blocking().indexes().unwrap();
        let ready: Vec<_> = indexes.into_iter().filter(|index| index.on_request && index.ready).collect();
        assert!(ready.iter().all(|index| index.bytes.unwrap() > 0));
        ready.into_iter().map(|index| index.serves).collect::<Vec<_>>()
    };
    support::wait_until("all are made", || on_request() == ["agent_id", "metadata.client.ip", "reason"]);
    let always = store.blocking().indexes().unwrap().into_iter().filter(|index| !index.on_request);
    assert!(always.map(|index| index.serves).any(|serves| serves == "workspace_id"));

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
            store.create_index(on.parse::<IndexOn>().unwrap()).await.unwrap();
        }
    });
    assert_eq!(on_request(), ["action", "agent_id", "metadata.client.ip", "reason"]);
    assert_eq!(answers(), expected);
    for on in ["action", "reason", "metadata.client.ip", "agent_id", "agent_id"] {
        store.blocking().drop_index(on.parse::<IndexOn>().unwrap()).unwrap();
    }
    assert!(store.blocking().drop_index(Column::SessionId).unwrap_err().is_config());
    assert!(on_request().is_empty());
    assert_eq!(answers(), expected);
}

#[test]
fn a_log_that_may_not_create_an_index_reports_the_statement_that_does() {
    let fixture = log();
    fixture.log.writer().try_write(entry("a")).unwrap();
    fixture.settle();
    let store = fixture.store().migrate(Migrate::Check);
    let (told, notices) = std::sync::mpsc::channel();
    let builder = support::builder(store.clone()).in_memory_queue().queue_max_entries(10).queue_max_bytes(100_000).index(Column::AgentId);
    let log = builder.on_notice(move |notice| told.send(notice.to_string()).unwrap()).blocking().open().unwrap();
    let notice = notices.recv_timeout(support::PATIENCE).unwrap();
    let sql = store.index_sql(Column::AgentId).unwrap();
    assert!(notice.contains("the index on agent_id does not exist") && notice.contains(&sql), "{notice}");
    assert!(log.health().is_healthy());
    fixture.run(&sql);
    store.blocking().create_index(Column::AgentId).unwrap();
}
