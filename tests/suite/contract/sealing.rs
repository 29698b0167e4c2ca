// Seals: a customer is handed all of their entries, and can tell if one is left out, added or moved.

use sha2::{Digest, Sha256};
use tracing_audit::{
    AuditEntry, AuditLog,
    evidence::{Bundling, FindingKind, Verification},
    ledger::{Checkpoint, Disclosure, LedgerError},
};
use uuid::Uuid;

use super::{log, proofs::verified};
use crate::support::{commit, entry, settle, wait_until};

fn customer(number: u32) -> Uuid {
    Uuid::from_u128(1000 + u128::from(number))
}

/// Commits an entry of each of these customers, in this order.
fn write(log: &AuditLog, customers: impl IntoIterator<Item = u32>) {
    for (index, number) in customers.into_iter().enumerate() {
        let written = AuditEntry { workspace_id: customer(number), ..entry(format!("action {index}")) };
        log.writer().try_write(written).unwrap();
        if index % 200 == 199 {
            settle(&log.writer());
        }
    }
    settle(&log.writer());
}

/// A bundle of these lines, with the last line that fits them.
fn closed(first: &str, entries: &[&str]) -> String {
    let before = [&[first][..], entries].concat().join("\n") + "\n";
    let hash: Vec<String> =
        Sha256::digest(before.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{before}{{\"entries\":{},\"sha256\":\"{}\"}}\n", entries.len(), hash.concat())
}

/// Checks that nobody believes that these are all entries, also with their number mended in the first line.
#[track_caller]
fn assert_refused(first: &str, entries: &[&str], trusted: &Checkpoint) {
    let (before, after) = first.split_once("\"entries\":").unwrap();
    let (_, after) = after.split_once(',').unwrap();
    let mended = format!("{before}\"entries\":{},{after}", entries.len());
    for first in [first, &mended] {
        let bundle = closed(first, entries);
        assert!(verified(bundle.as_bytes(), trusted).is_err(), "{bundle}");
    }
}

#[test]
fn a_customer_of_a_thousand_can_tell_if_one_of_their_entries_is_left_out_added_or_moved() {
    let fixture = log();
    let (log, reader) = (fixture.log.blocking(), fixture.log.reader());
    let reader = reader.blocking();
    wait_until("the tables are made", || reader.checkpoint().is_ok());
    let error = log.seal().unwrap_err();
    assert!(error.is_query() && error.to_string().contains("no entry that could be sealed"), "{error}");
    // Two entries of each, in turn, and ten more of number 7 among others.
    let more = (0..50).map(|n| if n % 5 == 0 { 7 } else { 500 + n });
    write(&fixture.log, (0..2000).map(|n| n % 1000).chain(more));
    let before = reader.checkpoint().unwrap();
    let error = reader.bundle_part(customer(7), Bundling::new(), &mut Vec::new()).unwrap_err();
    assert!(error.is_query() && error.to_string().contains("no seal is among the 2050 entries"), "{error}");
    let sealed = log.seal().unwrap();
    assert_eq!((sealed.seq, sealed.seal.until(), sealed.seal.workspaces()), (2050, 2050, 1000));
    // Nothing is new.
    assert_eq!(log.seal().unwrap(), sealed);
    let kept = reader.checkpoint().unwrap();
    write(&fixture.log, [7, 8, 7]);
    assert_eq!(reader.sealed().unwrap(), Some(sealed));

    let bundling = || Bundling::new().checkpoint(kept.clone()).blocks_of(256);
    let handed = |number: u32| {
        let mut file = Vec::new();
        let made = reader.bundle_part(customer(number), bundling(), &mut file).unwrap();
        (String::from_utf8(file).unwrap(), made.entries, made.beyond)
    };
    let (text, count, beyond) = handed(7);
    assert_eq!((count, beyond), (12, 2));
    let (entries, bundle) = verified(text.as_bytes(), &kept).unwrap();
    let all = fixture.entries();
    let own: Vec<u64> =
        all.iter().filter(|found| found.entry.workspace_id == customer(7)).map(|found| found.seq).collect();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), own[..12]);
    let part = bundle.part().unwrap();
    assert_eq!((part.workspace, part.until, part.sealed_by, part.end.entries), (customer(7), 2050, 2050, 12));
    assert!(!text.contains(&customer(8).to_string()));

    let lines: Vec<&str> = text.lines().collect();
    let (first, entries) = (lines[0], &lines[1..13]);
    assert_eq!(closed(first, entries), text);
    let (others, _, _) = handed(8);
    let mut file = Vec::new();
    reader.bundle_range(2051..2052, Bundling::new(), &mut file).unwrap();
    let later = String::from_utf8(file).unwrap();
    let added = [others.lines().nth(1).unwrap(), later.lines().nth(1).unwrap(), entries[0], entries[11]];
    for at in 0..entries.len() {
        let mut left_out = entries.to_vec();
        left_out.remove(at);
        assert_refused(first, &left_out, &kept);
        let mut moved = entries.to_vec();
        moved.swap(at, (at + 1) % 12);
        assert_refused(first, &moved, &kept);
        let (seq, other) = (format!("{{\"seq\":{},", own[at]), format!("{{\"seq\":{},", own[at] + 1));
        let numbered = entries[at].replacen(&seq, &other, 1);
        let mut renumbered = entries.to_vec();
        renumbered[at] = &numbered;
        assert_refused(first, &renumbered, &kept);
        for line in added {
            let mut one_more = entries.to_vec();
            one_more.insert(at, line);
            assert_refused(first, &one_more, &kept);
            if line != entries[at] {
                let mut exchanged = entries.to_vec();
                exchanged[at] = line;
                assert_refused(first, &exchanged, &kept);
            }
        }
    }
    let fewer = closed(&first.replacen("\"entries\":12,", "\"entries\":11,", 1), &entries[1..]);
    assert_eq!(verified(fewer.as_bytes(), &kept).unwrap_err(), LedgerError::NotAsSealed);

    // Withheld, and nothing to be handed over.
    let mut file = Vec::new();
    let only = Disclosure::only(["metadata"]).unwrap();
    let error = reader.bundle_part(customer(7), bundling().disclosing(only), &mut file).unwrap_err();
    assert!(error.is_query() && error.to_string().contains("no entry has metadata"), "{error}");
    let core = Disclosure::all_but(["core"]).unwrap();
    file.clear();
    reader.bundle_part(customer(7), bundling().disclosing(core), &mut file).unwrap();
    assert_eq!(verified(&file, &kept).unwrap().1.part(), Some(part));
    // Those alone that came since an earlier bundle.
    for without in [1, 3, 12] {
        file.clear();
        let made = reader.bundle_part(customer(7), bundling().after(without), &mut file).unwrap();
        let (entries, bundle) = verified(&file, &kept).unwrap();
        assert_eq!((made.entries, entries.len() as u64), (12 - without, 12 - without));
        let later = bundle.part().unwrap();
        assert_eq!((later.start.entries, later.end), (without, part.end));
        assert_eq!(later.continues(&part.end).is_ok(), without == 12);
    }
    let error = reader.bundle_part(customer(7), bundling().after(13), &mut file).unwrap_err();
    assert!(error.is_query() && error.to_string().contains("and it has 12 before 2050"), "{error}");
    for (number, checkpoint, why) in
        [(5000, &kept, "has no entry before 2050"), (7, &before, "no seal is among the 2050")]
    {
        let bundling = Bundling::new().checkpoint(checkpoint.clone());
        let error = reader.bundle_part(customer(number), bundling, &mut Vec::new()).unwrap_err();
        assert!(error.is_query() && error.to_string().contains(why), "{error}");
    }
}

#[test]
fn what_was_changed_is_not_sealed_and_a_seal_over_something_else_is_found() {
    let fixture = log();
    let (log, reader) = (fixture.log.blocking(), fixture.log.reader());
    let reader = reader.blocking();
    write(&fixture.log, (0..60).map(|n| n % 3));
    // An application that writes such an entry seals nothing.
    let written = AuditEntry {
        metadata: serde_json::json!({"until": 1, "workspaces": 1, "root": "A".repeat(43) + "=", "seed": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        ..entry("audit.sealed")
    };
    assert_eq!(commit(&fixture.log, written), 60);
    assert_eq!(reader.sealed().unwrap(), None);

    // An entry is counted for another customer while the ledger is sealed.
    let moved = |from: u32, to: u32| {
        fixture.run(&format!(
            "UPDATE tracing_audit_entries SET workspace_id = (SELECT workspace_id FROM tracing_audit_entries WHERE seq = {from})
             WHERE seq = {to}"
        ));
    };
    moved(3, 4);
    let wrong = log.seal().unwrap();
    assert_eq!((wrong.seq, wrong.seal.workspaces()), (61, 4));
    moved(1, 4);
    let signs = |with_seals: bool| {
        let verification = Verification::against(reader.checkpoint().unwrap());
        let verification = if with_seals { verification.seals() } else { verification };
        let verified = reader.verify(verification).unwrap();
        let signs = verified.findings().iter().filter(|found| !found.kind.is_information());
        signs.map(|found| (found.kind, found.from)).collect::<Vec<_>>()
    };
    assert_eq!((signs(false), signs(true)), (vec![], vec![(FindingKind::SealWrong, 61)]));
    for number in [0, 1, 2] {
        let error = reader.bundle_part(customer(number), Bundling::new(), &mut Vec::new()).unwrap_err();
        assert!(
            error.is_altered() && error.to_string().contains("not those that the entry 61 has sealed"),
            "{error}"
        );
    }
    // The next one is right, and hides nothing of the wrong one.
    write(&fixture.log, [0]);
    let right = log.seal().unwrap();
    assert_eq!((right.seq, right.seal.until()), (63, 63));
    let mut file = Vec::new();
    assert_eq!(reader.bundle_part(customer(1), Bundling::new(), &mut file).unwrap().entries, 20);
    assert_eq!(verified(&file, &reader.checkpoint().unwrap()).unwrap().0.len(), 20);
    assert_eq!(signs(true), [(FindingKind::SealWrong, 61)]);

    fixture.run("UPDATE tracing_audit_entries SET reason = 'x' WHERE seq = 7");
    let error = reader.bundle_part(customer(1), Bundling::new(), &mut Vec::new()).unwrap_err();
    assert!(
        error.is_altered() && error.to_string().contains("entry 7 is not as it was committed"),
        "{error}"
    );
    reader.bundle_part(customer(0), Bundling::new(), &mut Vec::new()).unwrap();
    fixture.run("DELETE FROM tracing_audit_entries WHERE seq = 10");
    write(&fixture.log, [0]);
    let error = log.seal().unwrap_err();
    assert!(error.is_altered() && error.to_string().contains("entry 10 is gone"), "{error}");
    let found = signs(true);
    assert!(
        found.contains(&(FindingKind::Modified, 7))
            && found.contains(&(FindingKind::Missing, 10))
            && found.contains(&(FindingKind::SealWrong, 61)),
        "{found:?}"
    );
}
