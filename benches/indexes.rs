//! What each index costs: filling a log with that one alone, and without any but those of the keys.
//! `INDEX_ROWS` in the environment is another number of entries than 200 000.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

#[path = "../tests/suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each benchmark uses its part")]
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Fixture, block_on, log_with, postgres};
use tracing_audit::{AuditEntry, AuditLogBuilder, WhenFull, audit_id, index::IndexOn};
use uuid::Uuid;

/// Of how many the fastest counts.
const ROUNDS: usize = 7;

/// By the names of the indexes that every log has beside its keys, or by what is asked for.
const INDEXES: [(&str, &[&str]); 11] = [
    ("workspace", &["tracing_audit_entries_workspace"]),
    ("session", &["tracing_audit_entries_session"]),
    ("refused", &["tracing_audit_entries_refused", "tracing_audit_entries_refused_in"]),
    ("risky", &["tracing_audit_entries_risky"]),
    ("problems", &["tracing_audit_entries_problems"]),
    ("gaps", &["tracing_audit_entries_gaps"]),
    ("agent_id", &[]),
    ("action", &[]),
    ("resource_id", &[]),
    ("reason", &[]),
    ("metadata.client.ip", &[]),
];
const KEYS: [&str; 2] = ["id", "seq"];

/// 50 workspaces, 500 agents, 20 actions, sessions of 20 entries, a million documents; one entry in a hundred is
/// refused, another risky, and says why.
fn entry(n: usize) -> AuditEntry {
    let rare = n % 100;
    AuditEntry {
        session_id: Some(Uuid::from_u128((n / 20) as u128)),
        agent_id: Some(Uuid::from_u128((n * 7919 % 500) as u128)),
        resource_id: Some((n * 7919 % 1_000_003).to_string()),
        decision: if rare == 0 { "Deny" } else { "Allow" }.to_owned(),
        reason: (rare < 2).then(|| format!("rule {} of the policy matched", n % 30)),
        risk_score: if rare == 1 { 0.9 } else { 0.1 },
        metadata: json!({ "client": { "ip": format!("10.0.{}.{}", n * 31 % 256, n % 7) }, "request_id": n }),
        ..AuditEntry::new(
            audit_id(&(n % 50).to_string()),
            format!("document.action{}", n * 13 % 20),
            "document",
        )
    }
}

/// Seconds, and the bytes of the indexes beside the keys.
fn fill(fixture: Fixture, rows: usize, index: Option<(&str, &[&str])>) -> (f64, u64) {
    fixture.log.writer().blocking().commit(entry(0)).unwrap();
    let store = fixture.store();
    let indexes =
        || store.blocking().indexes().unwrap().into_iter().filter(|index| !KEYS.contains(&&*index.serves));
    let (on, kept) = index.unwrap_or(("", &[]));
    for index in indexes().filter(|index| !kept.contains(&&*index.name)) {
        fixture.run(&format!("DROP INDEX {}", index.name));
    }
    if kept.is_empty() && !on.is_empty() {
        block_on(store.create_index(on.parse::<IndexOn>().unwrap())).unwrap();
    }
    let entries: Vec<_> = (1..=rows).map(entry).collect();
    let writer = fixture.log.writer();
    let start = Instant::now();
    for entry in entries {
        writer.blocking().write(entry).unwrap();
    }
    fixture.settle();
    (start.elapsed().as_secs_f64(), indexes().map(|index| index.bytes.unwrap()).sum())
}

fn main() {
    let rows = std::env::var("INDEX_ROWS").map_or(200_000, |rows| rows.parse().unwrap());
    let patient = |builder: AuditLogBuilder| {
        builder
            .when_full(WhenFull::Block { timeout: Duration::from_secs(60) })
            .commit_timeout(Duration::from_secs(60))
    };
    let stores: [(&str, &dyn Fn() -> Fixture); 2] =
        [("SQLite", &|| log_with(patient)), ("PostgreSQL", &|| postgres::log_with(patient))];
    for (store, log) in stores {
        let mut fastest = vec![(f64::MAX, 0); 1 + INDEXES.len()];
        for _ in 0..ROUNDS {
            let configurations = std::iter::once(None).chain(INDEXES.into_iter().map(Some));
            for (fastest, index) in fastest.iter_mut().zip(configurations) {
                let (took, bytes) = fill(log(), rows, index);
                *fastest = (took.min(fastest.0), bytes);
            }
        }
        let each = |seconds: f64| seconds / rows as f64 * 1e6;
        let alone = fastest[0].0;
        println!("{store}: {rows} entries without an index beside the keys: {:.2} us each", each(alone));
        for ((name, _), (took, bytes)) in INDEXES.iter().zip(&fastest[1..]) {
            println!(
                "{store}: with {name:<20} {:+.2} us each, ratio {:.2}, {:.1} bytes each",
                each(took - alone),
                took / alone,
                *bytes as f64 / rows as f64
            );
        }
    }
}
