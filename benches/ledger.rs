//! What the tree costs an entry: its seed, its leaf, its place in the tree; and what a proof costs whoever verifies it. Beside
//! each stands plain SHA-256 of as many bytes in one message. And what it costs a log, from the event to the committed row,
//! and at the commit of a single entry: with the tree beside without.
//!
//! All take turns in one process, so that whatever else the machine does meets both sides of a ratio. With the feature
//! `postgres`, a server of PostgreSQL is measured too. `LEDGER_ENTRIES=1000000` measures only how a ledger of that many entries
//! is verified, how much memory that takes, and what proofs of its entries cost.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;
#[path = "common/ingest.rs"]
mod ingest;
#[cfg(feature = "postgres")]
#[path = "../tests/suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "each benchmark uses its part")]
mod support;

use std::{hint::black_box, time::Instant};

use sha2::{Digest, Sha256};
use tracing_audit::ledger::{
    Columns, Committed, Frontier, Hash, Leaf, ProofShape, Seeds, leaf_hash, verify_consistency,
    verify_inclusion,
};
use uuid::Uuid;

const TURNS: usize = 101;
const EACH: u64 = 1000;
const METADATA: [(&str, &str); 3] = [
    ("no member", "{}"),
    ("2 members", r#"{"ip":"10.1.2.3","latency_ms":123}"#),
    (
        "6 members",
        r#"{"ip":"10.1.2.3","latency_ms":123,"method":"GET","path":"/documents/123","status":200,"agent":"browser"}"#,
    ),
];

fn columns(metadata: &'static str) -> Columns<'static> {
    Columns {
        id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
        ts: 1_764_000_000_000_000,
        workspace_id: Uuid::from_u128(1),
        session_id: Some(Uuid::from_u128(2)),
        agent_id: Some(Uuid::from_u128(3)),
        action: "document.read",
        resource: "document",
        resource_id: Some("123456"),
        decision: "Allow",
        reason: Some("policy matched"),
        risk_score: Some(0.12),
        metadata,
        problems: None,
    }
}

const COMMITTED: Committed =
    Committed { writer: Uuid::from_u128(4), position: 123_456, committed_at: 1_764_000_001_000_000 };

/// How many bytes are hashed for a leaf, by the lengths in the design: the core, the other fields, the salts, the leaf.
fn bytes_hashed(columns: &Columns<'_>) -> (usize, usize) {
    let leaf = Leaf::of(columns, &COMMITTED, &[7; 16]);
    let fields = leaf.commitments().count();
    let core = 81 + 12 + columns.action.len() + columns.resource.len() + columns.decision.len();
    let ids = 16 * (usize::from(columns.session_id.is_some()) + usize::from(columns.agent_id.is_some()));
    let texts = [columns.resource_id, columns.reason, columns.problems];
    let values =
        core + ids + texts.iter().flatten().map(|text| text.len()).sum::<usize>() + columns.metadata.len();
    (values, values + 18 * fields + 19 * fields.div_ceil(2) + 1 + leaf.data().len())
}

struct Subject {
    name: String,
    run: Box<dyn FnMut()>,
}

fn subject(name: impl Into<String>, run: impl FnMut() + 'static) -> Subject {
    Subject { name: name.into(), run: Box::new(run) }
}

fn plain(name: impl Into<String>, bytes: usize) -> Subject {
    let message = vec![7; bytes];
    subject(name, move || {
        for _ in 0..EACH {
            black_box(Sha256::digest(black_box(&message)));
        }
    })
}

fn main() {
    if ingest::verifies_alone() {
        return;
    }
    if let Ok(entries) = std::env::var("LEDGER_ENTRIES") {
        return ingest::large(entries.parse().unwrap());
    }
    let mut subjects = Vec::new();
    let mut ratios = Vec::new();
    for (name, metadata) in METADATA {
        let columns = columns(metadata);
        let (values, all) = bytes_hashed(&columns);
        let [leaf, once, same] = [
            format!("leaf, {name}"),
            format!("plain SHA-256 of its {values} bytes"),
            format!("plain SHA-256 of the {all} bytes that it hashes, {name}"),
        ];
        let (mut work, mut seed) = (Leaf::new(), [0; 16]);
        subjects.push(subject(&leaf, move || {
            for n in 0..EACH {
                seed[0] = n as u8;
                work.prepare(black_box(&columns), &seed);
                black_box(work.finish(&columns, &COMMITTED));
            }
        }));
        subjects.push(plain(&once, values));
        subjects.push(plain(&same, all));
        ratios.push((leaf.clone(), once, "-"));
        ratios.push((leaf, same, "-"));
    }

    let mut seeds = Seeds::of_root([9; 16]).iter();
    subjects.push(subject("seed of an entry, in order", move || {
        for seed in seeds.by_ref().take(EACH as usize) {
            black_box(seed);
        }
    }));
    let whole = Seeds::of_root([9; 16]);
    subjects.push(subject("seed of an entry, anywhere", move || {
        for n in 0..EACH as u32 {
            black_box(whole.get(n * 16));
        }
    }));
    subjects.push(plain("plain SHA-256 of 17 bytes", 17));
    ratios.push(("seed of an entry, in order".into(), "plain SHA-256 of 17 bytes".into(), "-"));

    let leaves: [Hash; EACH as usize] = std::array::from_fn(|n| leaf_hash(&n.to_be_bytes()));
    let (mut one_by_one, mut batch, mut full) = (Frontier::new(), Frontier::new(), Vec::new());
    subjects.push(subject("push", move || leaves.iter().for_each(|leaf| one_by_one.push(*leaf))));
    subjects.push(subject("append of a batch", move || {
        full.clear();
        batch.append(&leaves, &mut full);
    }));
    subjects.push(plain("plain SHA-256 of 65 bytes", 65));
    ratios.push(("push".into(), "plain SHA-256 of 65 bytes".into(), "-"));
    ratios.push(("append of a batch".into(), "plain SHA-256 of 65 bytes".into(), "-"));

    let size = 10_000_000;
    let shape = ProofShape::inclusion(size / 3, size).unwrap();
    let path = shape.hashes(|_| Ok::<Hash, ()>([5; 32])).unwrap();
    let extended =
        ProofShape::consistency(size / 3, size).unwrap().hashes(|_| Ok::<Hash, ()>([5; 32])).unwrap();
    subjects.push(subject("shape of a proof in 10 000 000", move || {
        (0..EACH).for_each(|n| drop(black_box(ProofShape::inclusion(n * 9999, size).unwrap())));
    }));
    subjects.push(subject("verification of an inclusion in 10 000 000", move || {
        (0..EACH).for_each(|n| {
            assert!(verify_inclusion(&[n as u8; 32], size / 3, size, black_box(&path), &[0; 32]).is_err());
        });
    }));
    subjects.push(subject("verification of a consistency to 10 000 000", move || {
        (0..EACH).for_each(|n| {
            let root = [n as u8; 32];
            assert!(verify_consistency(size / 3, size, black_box(&extended), &root, &root).is_err());
        });
    }));

    for turn in 0..=TURNS {
        for subject in &mut subjects {
            let began = Instant::now();
            (subject.run)();
            // The first turn warms up.
            if turn > 0 {
                common::note(&subject.name, EACH, began.elapsed());
            }
        }
    }
    for subject in &subjects {
        println!("{}: {}", subject.name, common::median(&subject.name).map(common::show).unwrap_or_default());
    }
    for (a, b, goal) in ratios {
        common::ratio(&a, &b, goal);
    }
    ingest::run();
}
