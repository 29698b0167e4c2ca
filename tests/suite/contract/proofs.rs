// Proofs: every entry is proven by each checkpoint that covers it, alone and with others, with all fields and with some; and what
// was changed is not.

use serde_json::Value;
use tracing_audit::{
    AuditEntry, AuditLog, AuditReader, Integrity, SequencedEntry,
    evidence::{Anchor, Bundling},
    ledger::{
        AsGiven, BundleVerifier, Checkpoint, Disclosure, LedgerError, NotedCheckpoint, Proof, ProvenEntry,
        Shown, Trusts, VerifiedBundle,
    },
};
use uuid::Uuid;

use super::{log, log_with};
use crate::support::{self, Fixture, entry, settle, store, wait_until};

/// Commits this many entries, whose fields differ.
fn write(log: &AuditLog, from: u32, count: u32) {
    for number in from..from + count {
        let written = AuditEntry {
            session_id: number.is_multiple_of(2).then(|| Uuid::from_u128(2)),
            agent_id: number.is_multiple_of(3).then(|| Uuid::from_u128(3)),
            resource_id: number.is_multiple_of(5).then(|| number.to_string()),
            reason: (!number.is_multiple_of(7)).then(|| format!("because of {number}")),
            risk_score: f64::from(number) / 8.0,
            metadata: serde_json::json!({"card": {"number": number}, "ip": "10.0.0.1"}),
            ..entry(format!("action {number}"))
        };
        log.writer().try_write(written).unwrap();
    }
    settle(&log.writer());
}

/// A ledger of 600 entries, and its checkpoints of 1, 256, 257, 557 and 600 entries.
fn ledger() -> (Fixture, Vec<Checkpoint>) {
    let fixture = log();
    let mut kept = Vec::new();
    let mut from = 0;
    for count in [1, 255, 1, 300, 43] {
        write(&fixture.log, from, count);
        from += count;
        kept.push(fixture.log.reader().blocking().checkpoint().unwrap());
    }
    assert_eq!(kept.iter().map(Checkpoint::size).collect::<Vec<_>>(), [1, 256, 257, 557, 600]);
    (fixture, kept)
}

/// What is proven is what a reader reads.
#[track_caller]
fn assert_shows(proven: &ProvenEntry, read: &SequencedEntry) {
    let (proven, read) = (serde_json::to_value(proven).unwrap(), serde_json::to_value(read).unwrap());
    for (name, value) in read.as_object().unwrap() {
        if name != "ledger" && name != "problems" {
            assert_eq!(proven[name], *value, "{name} of {read}");
        }
    }
    assert!(proven["writer"].is_string() && proven["position"].is_u64(), "{proven}");
}

#[test]
fn every_entry_is_proven_by_each_checkpoint_that_covers_it() {
    let (fixture, kept) = ledger();
    let (entries, reader) = (fixture.entries(), fixture.log.reader());
    for checkpoint in &kept {
        let noted: NotedCheckpoint = checkpoint.clone().into();
        for seq in [0, 1, 7, 254, 255, 256, 257, 511, 512, 556, 599, 600, u64::MAX] {
            let proof = reader.blocking().prove(seq, Some(&noted));
            if seq >= checkpoint.size() {
                let error = proof.unwrap_err();
                assert!(error.is_query() && error.to_string().contains("is not among the"), "{error}");
                continue;
            }
            let proof: Proof = proof.unwrap().to_string().parse().unwrap();
            let proven = proof.verify(checkpoint).unwrap();
            assert_shows(&proven, &entries[usize::try_from(seq).unwrap()]);
            // Neither by another checkpoint nor for another entry.
            for other in kept.iter().filter(|other| *other != checkpoint) {
                assert!(matches!(proof.verify(other), Err(LedgerError::Untrusted { .. })));
            }
        }
    }
    let now = reader.blocking().prove(5, None).unwrap();
    assert_eq!(now.checkpoint().checkpoint(), &kept[4]);
    let (size, root) = support::size_and_root(&kept[4]);
    let anchor: Anchor = format!("{size} {root}").parse().unwrap();
    let partly = now.disclosing(Disclosure::all_but(["metadata.card", "reason"]).unwrap()).unwrap();
    let shown = serde_json::to_value(partly.verify(&anchor).unwrap()).unwrap();
    assert_eq!(shown["withheld"], serde_json::json!(["reason", "1 member of metadata"]));
    assert_eq!(
        (&shown["metadata"], &shown["action"]),
        (&serde_json::json!({"ip": "10.0.0.1"}), &"action 5".into())
    );

    for from in &kept {
        for to in &kept {
            let proof = reader.blocking().consistency(from.size(), to.size());
            if from.size() > to.size() {
                assert!(proof.unwrap_err().is_query());
                continue;
            }
            let proof = proof.unwrap();
            proof.verify((from.size(), from.root()), (to.size(), to.root())).unwrap();
            assert!(proof.verify((from.size(), from.root()), (to.size(), &[0; 32])).is_err());
        }
    }
    reader
        .blocking()
        .consistency(0, 600)
        .unwrap()
        .verify((0, &tracing_audit::ledger::EMPTY_ROOT), (600, kept[4].root()))
        .unwrap();
    let error = reader.blocking().consistency(1, 601).unwrap_err();
    assert!(error.is_altered() && error.to_string().contains("has 600"), "{error}");
}

/// The entries of a bundle, if it holds.
pub(super) fn verified(
    bundle: &[u8],
    trusts: &dyn Trusts,
) -> Result<(Vec<ProvenEntry>, VerifiedBundle), LedgerError> {
    let mut lines = bundle.split_inclusive(|byte| *byte == b'\n');
    let mut verifier = BundleVerifier::begin(lines.next().unwrap_or_default(), trusts)?;
    let mut entries = Vec::new();
    for line in lines {
        entries.extend(verifier.take(line)?);
    }
    Ok((entries, verifier.finish()?))
}

#[test]
fn bundles_prove_all_entries_of_a_range_or_those_that_were_asked_for() {
    let (fixture, kept) = ledger();
    let (entries, reader) = (fixture.entries(), fixture.log.reader());
    let bundling = |checkpoint: &Checkpoint| Bundling::new().checkpoint(checkpoint.clone()).blocks_of(256);
    let check = |file: &[u8], checkpoint: &Checkpoint, seqs: &[u64], is_range: bool| {
        let (proven, read) = verified(file, checkpoint).unwrap();
        assert_eq!(proven.iter().map(|entry| entry.seq).collect::<Vec<_>>(), seqs);
        assert_eq!((read.entries(), read.range().is_some()), (seqs.len() as u64, is_range));
        for found in &proven {
            assert_shows(found, &entries[usize::try_from(found.seq).unwrap()]);
        }
    };
    for (checkpoint, from, until) in
        [(&kept[4], 0, 600), (&kept[4], 3, 599), (&kept[3], 255, 257), (&kept[1], 0, 256), (&kept[0], 0, 1)]
    {
        let mut file = Vec::new();
        let made = reader.blocking().bundle_range(from..until, bundling(checkpoint), &mut file).unwrap();
        assert_eq!((made.entries, made.beyond), (until - from, 0));
        check(&file, checkpoint, &(from..until).collect::<Vec<_>>(), true);
    }
    let mut file = Vec::new();
    reader.blocking().bundle_range(.., Bundling::new(), &mut file).unwrap();
    check(&file, &kept[4], &(0..600).collect::<Vec<_>>(), true);
    for step in [1, 7, 100, 599] {
        let seqs: Vec<u64> = (0..600).step_by(step).collect();
        let mut file = Vec::new();
        let made = reader.blocking().bundle(seqs.clone(), bundling(&kept[4]), &mut file).unwrap();
        assert_eq!((made.entries, made.beyond), (seqs.len() as u64, 0));
        check(&file, &kept[4], &seqs, false);
    }
    // What the checkpoint does not cover is counted.
    let mut file = Vec::new();
    let made = reader.blocking().bundle([5, 255, 256, 599], bundling(&kept[1]), &mut file).unwrap();
    assert_eq!((made.entries, made.beyond), (2, 2));
    check(&file, &kept[1], &[5, 255], false);
    // Withheld.
    let disclosure = Disclosure::only(["core", "metadata.ip"]).unwrap();
    let mut file = Vec::new();
    reader.blocking().bundle_range(..50, Bundling::new().disclosing(disclosure), &mut file).unwrap();
    let (proven, _) = verified(&file, &kept[4]).unwrap();
    for found in &proven {
        let shown = serde_json::to_value(found).unwrap();
        assert_eq!(shown["metadata"], serde_json::json!({"ip": "10.0.0.1"}));
        assert_eq!(shown.get("reason").filter(|reason| **reason != Value::Null), None);
    }

    let mut out = Vec::new();
    let reader = reader.blocking();
    for (error, why) in [
        (
            reader.bundle([5, 5], Bundling::new(), &mut out),
            "entry 5 follows 5: give the entries in the order",
        ),
        (reader.bundle([5, 4], Bundling::new(), &mut out), "entry 4 follows 5"),
        (reader.bundle_range(5..601, Bundling::new(), &mut out), "entry 600 is not among the 600 entries"),
        (reader.bundle_range(5..5, Bundling::new(), &mut out), "there are no entries from 5 up to 5"),
        (
            reader.bundle_range(
                ..9,
                Bundling::new().disclosing(Disclosure::all_but(["metadata.crad"]).unwrap()),
                &mut out,
            ),
            "no entry has metadata.crad, which was to be withheld",
        ),
    ] {
        let error = error.unwrap_err();
        assert!(error.is_query() && error.to_string().contains(why), "{error}");
    }
}

#[test]
fn what_was_changed_is_not_proven_and_all_else_is() {
    let (fixture, kept) = ledger();
    drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
    let reader = AuditReader::new(store(&fixture.db));
    let noted: NotedCheckpoint = kept[4].clone().into();
    let refused = |seq: u64, noted: &NotedCheckpoint| {
        let error = reader.blocking().prove(seq, Some(noted)).unwrap_err();
        assert!(error.is_altered(), "{error}");
        error.to_string()
    };
    let origin = kept[4].origin().clone();
    let other = |size, root| NotedCheckpoint::from(Checkpoint::new(origin.clone(), size, root).unwrap());
    let told = refused(5, &other(600, [0; 32]));
    assert!(told.contains("does not lead to the checkpoint of 600 entries"), "{told}");
    let told = refused(5, &other(601, [0; 32]));
    assert!(told.contains("is of 601 entries, and the tree of the ledger has 600"), "{told}");
    for (sql, seq, why) in [
        (
            "UPDATE tracing_audit_entries SET reason = 'x' WHERE seq = 8",
            8,
            "entry 8 is not as it was committed",
        ),
        (
            "UPDATE tracing_audit_entries SET metadata = '{\"ip\":1}' WHERE seq = 300",
            300,
            "entry 300 is not as it was",
        ),
        ("DELETE FROM tracing_audit_entries WHERE seq = 10", 10, "entry 10 is gone"),
        (
            "UPDATE tracing_audit_batches SET position = position + 1 WHERE first_seq = 0",
            0,
            "entry 0 is not as it was",
        ),
    ] {
        fixture.run(sql);
        let told = refused(seq, &noted);
        assert!(told.contains(why) && told.contains("verify the ledger"), "{told}");
        let mut out = Vec::new();
        for error in [
            reader.blocking().bundle([seq], Bundling::new(), &mut out).unwrap_err(),
            reader.blocking().bundle_range(seq..600, Bundling::new(), &mut out).unwrap_err(),
        ] {
            assert!(error.is_altered() && error.to_string().contains(why), "{error}");
        }
        // A bundle that was not finished is none.
        assert!(verified(&out, &AsGiven).is_err());
        reader.blocking().prove(599, Some(&noted)).unwrap().verify(&kept[4]).unwrap();
    }
    fixture.run("DELETE FROM tracing_audit_nodes WHERE idx = 0");
    let told = refused(599, &noted);
    assert!(told.contains("a hash over the entries from 0 up to 512 is missing"), "{told}");
    // What needs no node is still proven.
    reader.blocking().prove(5, Some(&kept[1].clone().into())).unwrap().verify(&kept[1]).unwrap();
}

#[test]
fn a_number_that_had_no_entry_when_the_tree_was_made_is_proven_to_have_none() {
    let fixture = log_with(|builder| builder.integrity(Integrity::Off));
    write(&fixture.log, 0, 20);
    fixture.run("DELETE FROM tracing_audit_entries WHERE seq = 17");
    drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
    let builder = support::builder(fixture.store()).in_memory_queue();
    let log = builder.queue_max_entries(1000).queue_max_bytes(1 << 20).blocking().open().unwrap();
    let reader = log.reader();
    wait_until("the tree has caught up", || {
        let status = reader.blocking().ledger_status().unwrap();
        status.tree_size == status.next_seq
    });
    let kept = reader.blocking().checkpoint().unwrap();
    let proven = reader.blocking().prove(17, None).unwrap().verify(&kept).unwrap();
    assert_eq!((proven.core, proven.metadata), (Shown::Absent, Shown::Absent));
    let mut file = Vec::new();
    reader.blocking().bundle_range(15..19, Bundling::new(), &mut file).unwrap();
    let (entries, _) = verified(&file, &kept).unwrap();
    let absent: Vec<_> =
        entries.iter().filter(|entry| entry.core == Shown::Absent).map(|entry| entry.seq).collect();
    assert_eq!((entries.len(), absent), (4, vec![17]));
    // One that is put there afterwards is not proven.
    fixture.run("UPDATE tracing_audit_entries SET seq = 17 WHERE seq = 18");
    for (seq, why) in [(17, "entry 17 is one that no writer has committed"), (18, "entry 18 is gone")] {
        let error = reader.blocking().prove(seq, None).unwrap_err();
        assert!(error.is_altered() && error.to_string().contains(why), "{error}");
    }
}
