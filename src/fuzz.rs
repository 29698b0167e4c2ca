//! The bodies of the fuzz targets, which the tests replay on the seeds. They check that reading does not panic,
//! whatever bytes are on a disk, and that the records read are those that were written.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;

use crate::entry::encode_entry;
use crate::entry::{EventDefaults, interpret};
use crate::evidence::{Anchor, VerifyState};
use crate::ledger::{
    AsGiven, BundleVerifier, Checkpoint, Columns, Committed, ConsistencyProof, Disclosure, EMPTY_ROOT, Field,
    Frontier, Hash, Leaf, LedgerError, MOST_LEAVES, Note, Opening, Proof, Seeds, Tag, node_hash,
    verify_consistency, verify_inclusion,
};
#[cfg(feature = "signing")]
use crate::ledger::{Trust, VerifierKey};
use crate::queue;

/// Reads a segment with these bytes after its header.
pub fn segment(bytes: &[u8]) {
    queue::fuzz(bytes);
}

/// Reads a record with these bytes, encodes the row that it becomes, and reads that again.
#[allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a finding is a panic")]
pub fn record(bytes: &[u8]) {
    let Ok(row) = interpret(bytes, &EventDefaults::default()) else { return };
    // The row must survive encoding to the last bit.
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    encode_entry(&mut once, &row);
    let again = interpret(&once, &EventDefaults::default()).expect("what was encoded can be read");
    encode_entry(&mut twice, &again);
    assert_eq!(once, twice);
}

/// Reads what a ledger is proven by, from outside of the crate or out of a database. The first byte says what the others
/// are: `c` a checkpoint, `a` an anchor, `s` the state of a verification, `o` an opening, `k` what an erasure has kept of an
/// entry, `e` seeds, `f` a frontier, `i` a proof of inclusion, `n` one of consistency, `m` metadata, `g` a signed note, `v` a
/// verifier key, `t` a trust file and after an empty line a note, `p` the file of a proof, `x` that of a proof of consistency,
/// `b` a bundle. Returns whether they are well-formed.
///
/// A well-formed input must be written again as it was read. A proof must hold exactly if the algorithm of RFC 9162
/// says so.
#[must_use]
pub fn ledger(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    let text = |read: fn(&str) -> Option<()>| std::str::from_utf8(rest).ok().and_then(read);
    let read = match kind {
        b'c' => text(checkpoint),
        b'a' => text(anchor),
        b's' => text(state),
        b'o' => text(opening),
        b'k' => kept(rest),
        b'e' => seeds(rest),
        b'f' => frontier(rest),
        b'i' => inclusion(rest),
        b'n' => consistency(rest),
        b'm' => text(metadata),
        b'g' => text(note),
        #[cfg(feature = "signing")]
        b'v' => text(verifier_key),
        #[cfg(feature = "signing")]
        b't' => text(trust),
        b'p' => text(proof),
        b'x' => text(consistency_text),
        b'b' => bundle(rest),
        _ => None,
    };
    read.is_some()
}

fn checkpoint(text: &str) -> Option<()> {
    let read = text.parse::<Checkpoint>().ok()?;
    assert_eq!(read.to_string().trim_end(), text.strip_suffix('\n').unwrap_or(text));
    assert_eq!(text.parse::<Anchor>().ok(), Some(Anchor::from(read)));
    Some(())
}

fn note(text: &str) -> Option<()> {
    let read = text.parse::<Note>().ok()?;
    let written = read.to_string();
    assert_eq!(written.trim_end_matches('\n'), text.trim_end_matches('\n'));
    assert_eq!(written.parse::<Note>().ok(), Some(read));
    Some(())
}

#[cfg(feature = "signing")]
fn verifier_key(text: &str) -> Option<()> {
    let read = text.parse::<VerifierKey>().ok()?;
    assert_eq!(read.to_string(), text);
    Some(())
}

#[cfg(feature = "signing")]
fn trust(text: &str) -> Option<()> {
    let (trust, note) = text.split_once("\n\n")?;
    let trust = trust.parse::<Trust>().ok()?;
    let opened = trust.open(&note.parse::<Note>().ok()?).ok()?;
    assert!(opened.keys().iter().any(|key| key.name() == opened.checkpoint().origin().as_str()));
    Some(())
}

#[allow(clippy::expect_used, reason = "a finding is a panic")]
fn anchor(text: &str) -> Option<()> {
    let read = text.parse::<Anchor>().ok()?;
    let root = STANDARD.encode(read.root());
    let short: Anchor = format!("{} {root}", read.size()).parse().expect("a size and a root are an anchor");
    assert_eq!((short.size(), short.root(), short.origin()), (read.size(), read.root(), None));
    if let Some(origin) = read.origin() {
        let whole = format!("{origin}\n{}\n{root}\n", read.size());
        assert_eq!(whole.parse::<Anchor>().ok(), Some(read));
    }
    Some(())
}

fn state(text: &str) -> Option<()> {
    let read = text.parse::<VerifyState>().ok()?;
    let written = read.to_string();
    assert!(!written.contains('\n'));
    assert_eq!(written.parse::<VerifyState>().ok(), Some(read));
    Some(())
}

fn opening(text: &str) -> Option<()> {
    let mut read = text.parse::<Opening>().ok()?;
    assert_eq!(read.to_string().parse::<Opening>().ok().as_ref(), Some(&read));
    // Whatever is withheld, the leaf stays.
    let leaf = read.leaf();
    for number in 0..=read.fields().len() {
        read.withhold(number);
        assert_eq!(read.leaf(), leaf);
    }
    assert_eq!(read.to_string().parse::<Opening>().ok(), Some(read));
    Some(())
}

const COMMITTED: Committed = Committed { writer: Uuid::nil(), position: 1, committed_at: 0 };

fn row(metadata: &str) -> Columns<'_> {
    Columns {
        id: Uuid::from_u128(1),
        ts: -1,
        workspace_id: Uuid::from_u128(2),
        session_id: None,
        agent_id: None,
        action: "read",
        resource: "",
        resource_id: None,
        decision: "Allow",
        reason: None,
        risk_score: None,
        metadata,
        problems: None,
    }
}

/// The bits of the first byte say which fields the row has.
fn kept(bytes: &[u8]) -> Option<()> {
    let (has, kept) = bytes.split_first()?;
    let has = |bit: u8| has >> bit & 1 == 1;
    let columns = Columns {
        session_id: has(0).then(|| Uuid::from_u128(3)),
        agent_id: has(1).then(|| Uuid::from_u128(4)),
        resource_id: has(2).then_some("D"),
        reason: has(3).then_some(""),
        problems: has(4).then_some("[]"),
        ..row(if has(5) {
            r#"{"a":1,"b":2}"#
        } else if has(6) {
            "7"
        } else {
            "{}"
        })
    };
    let read = Opening::of_kept(&columns, &COMMITTED, kept).ok()?;
    assert_eq!(read.to_kept(), kept);
    assert_eq!(read.to_string().parse::<Opening>().ok(), Some(read));
    Some(())
}

#[allow(clippy::expect_used, reason = "a finding is a panic")]
fn seeds(bytes: &[u8]) -> Option<()> {
    let mut read = Seeds::from_bytes(bytes).ok()?;
    let written = read.to_bytes();
    assert_eq!(Seeds::from_bytes(&written).as_ref(), Ok(&read));
    // A root that is written with its place is written again without.
    assert!(written == bytes || bytes.starts_with(&[0; 5]));
    let some: Vec<_> = read.iter().take(40).collect();
    assert!(some.windows(2).all(|pair| matches!(pair, [(one, _), (other, _)] if one < other)));
    assert!(some.iter().all(|(entry, seed)| read.get(*entry) == Some(*seed)));
    some.iter().step_by(3).for_each(|(entry, _)| read.forget(*entry, Seeds::MOST_ENTRIES));
    for (number, (entry, seed)) in some.iter().enumerate() {
        assert_eq!(read.get(*entry), (number % 3 > 0).then_some(*seed));
    }
    assert_eq!(Seeds::from_bytes(&read.to_bytes()).expect("what is left is well-formed"), read);
    Some(())
}

/// A number, and the bytes after it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn frontier(bytes: &[u8]) -> Option<()> {
    let (size, peaks) = number(bytes)?;
    let read = Frontier::from_bytes(size, peaks).ok()?;
    assert_eq!((read.size(), &*read.to_bytes()), (size, peaks));
    assert!(size > 0 || read.root() == EMPTY_ROOT);
    // Leaf by leaf, at once, and as the frontier of a part: the same tree.
    let leaves: Vec<Hash> = (0..4).map(|n| [n; 32]).collect();
    for count in [1, 2, 4] {
        let leaves = leaves.get(..count).unwrap_or_default();
        let (mut one, mut all, mut part, mut whole) =
            (read.clone(), read.clone(), Frontier::new(), read.clone());
        for leaf in leaves {
            one.push(*leaf);
            part.push(*leaf);
        }
        all.append(leaves, &mut Vec::new());
        assert_eq!(one, all);
        let is_aligned = size.is_multiple_of(count as u64);
        assert_eq!(whole.extend(&part).is_ok(), is_aligned);
        assert_eq!(whole == one, is_aligned);
    }
    Some(())
}

/// The root that a proof of inclusion leads to: RFC 9162, section 2.1.3.2, word for word.
fn included(leaf: &Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut root) = (index, size - 1, *leaf);
    for hash in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node_hash(hash, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node_hash(&root, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

fn inclusion(bytes: &[u8]) -> Option<()> {
    let (index, rest) = number(bytes)?;
    let (size, hashes) = number(rest)?;
    let (leaf, proof) = hashes.as_chunks::<32>().0.split_first()?;
    let verify = |root: &Hash| verify_inclusion(leaf, index, size, proof, root);
    let Some(root) = included(leaf, index, size, proof).filter(|_| size <= MOST_LEAVES) else {
        assert!(!matches!(verify(leaf), Ok(()) | Err(LedgerError::Root)), "its sizes are impossible");
        return None;
    };
    assert_eq!(verify(&root), Ok(()));
    assert!(verify(&node_hash(&root, &root)).is_err());
    Some(())
}

/// The roots of both trees that a proof of consistency leads to: RFC 9162, section 2.1.4.2, word for word. `from_root` is
/// that of the earlier tree, of which nothing is computed if it is full.
fn consistent(from: u64, to: u64, proof: &[Hash], from_root: &Hash) -> Option<(Hash, Hash)> {
    if from == 0 || from >= to || proof.is_empty() {
        return None;
    }
    let mut path: Vec<Hash> = Vec::new();
    if from.is_power_of_two() {
        path.push(*from_root);
    }
    path.extend_from_slice(proof);
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (first, rest) = path.split_first()?;
    let (mut earlier, mut later) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            (earlier, later) = (node_hash(hash, &earlier), node_hash(hash, &later));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            later = node_hash(&later, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some((earlier, later))
}

fn consistency(bytes: &[u8]) -> Option<()> {
    let (from, rest) = number(bytes)?;
    let (to, hashes) = number(rest)?;
    let (from_root, proof) = hashes.as_chunks::<32>().0.split_first()?;
    let verify = |earlier: &Hash, later: &Hash| verify_consistency(from, to, proof, earlier, later);
    if from == 0 || from >= to {
        // Trees that are the same, or of which one is empty, have proofs without hashes.
        let is_possible = proof.is_empty() && from <= to && to <= MOST_LEAVES;
        let holds = is_possible && (to > 0 || *from_root == EMPTY_ROOT);
        assert_eq!(verify(if from == 0 { &EMPTY_ROOT } else { from_root }, from_root).is_ok(), holds);
        return holds.then_some(());
    }
    let Some((earlier, later)) = consistent(from, to, proof, from_root).filter(|_| to <= MOST_LEAVES) else {
        let verified = verify(from_root, from_root);
        assert!(!matches!(verified, Ok(()) | Err(LedgerError::Root)), "its sizes are impossible");
        return None;
    };
    assert_eq!(verify(&earlier, &later), Ok(()));
    assert!(verify(&earlier, &node_hash(&later, &later)).is_err());
    assert!(verify(&node_hash(&earlier, &earlier), &later).is_err());
    Some(())
}

/// A proof is written again as it was read, and holds for everyone who trusts its checkpoint, whatever is withheld.
#[allow(clippy::expect_used, reason = "a finding is a panic")]
fn proof(text: &str) -> Option<()> {
    let read = text.parse::<Proof>().ok()?;
    assert_eq!(read.to_string(), text);
    let holds = read.verify(&AsGiven).is_ok();
    assert_eq!(read.verify(read.checkpoint().checkpoint()).is_ok(), holds);
    let names: [&str; 0] = [];
    let nothing = Disclosure::only(names).expect("nothing is shown");
    let hidden = read.disclosing(nothing).expect("no field is named");
    assert!(!holds || hidden.verify(&AsGiven).is_ok());
    Some(())
}

fn consistency_text(text: &str) -> Option<()> {
    let read = text.parse::<ConsistencyProof>().ok()?;
    assert_eq!(read.to_string().trim_end(), text.trim_end());
    Some(())
}

fn bundle(bytes: &[u8]) -> Option<()> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut verifier = BundleVerifier::begin(lines.next()?, &AsGiven).ok()?;
    for line in lines {
        verifier.take(line).ok()?;
    }
    verifier.finish().ok().map(drop)
}

/// The members of metadata make the text again.
fn metadata(text: &str) -> Option<()> {
    let (columns, seed) = (row(text), [7; 16]);
    let opening = Opening::of(&columns, &COMMITTED, &seed);
    assert_eq!(opening.leaf(), Leaf::of(&columns, &COMMITTED, &seed));
    let (mut again, mut members) = (Vec::new(), 0);
    for field in opening.fields().iter().skip(1) {
        let Field::Open { tag, value, .. } = field else { continue };
        if *tag == Tag::Metadata {
            assert_eq!((opening.fields().len(), &**value), (2, text.as_bytes()));
            return None;
        }
        again.push(if members == 0 { b'{' } else { b',' });
        again.extend_from_slice(value);
        members += 1;
    }
    if members == 0 {
        again.push(b'{');
    }
    again.push(b'}');
    assert_eq!(again, text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, mut run: impl FnMut(&[u8])) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut replayed = 0;
        for found in std::fs::read_dir(seeds).unwrap() {
            run(&std::fs::read(found.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed > 2, "{replayed}");
    }

    #[test]
    fn the_seeds_of_segments_are_read() {
        replay("segment", super::segment);
    }

    #[test]
    fn the_seeds_of_records_are_read() {
        replay("record", super::record);
    }

    #[test]
    fn the_seeds_of_what_proves_a_ledger_are_read_and_each_kind_has_a_well_formed_one() {
        let mut well_formed = std::collections::BTreeSet::new();
        replay("ledger", |bytes| {
            if super::ledger(bytes) {
                well_formed.insert(char::from(bytes[0]));
            }
        });
        let kinds = if cfg!(feature = "signing") { "abcefgikmnopstvx" } else { "abcefgikmnopsx" };
        assert_eq!(well_formed.into_iter().collect::<String>(), kinds);
    }

    #[test]
    fn what_proves_a_ledger_can_be_spoilt_in_any_way() {
        let mut seeds = Vec::new();
        replay("ledger", |bytes| seeds.push(bytes.to_vec()));
        let mut random = fastrand::Rng::new();
        println!("the seed of the random numbers is {}", random.get_seed());
        let mut well_formed = 0;
        for _ in 0..2000 {
            let mut bytes = random.choice(&seeds).unwrap().clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(1..=bytes.len());
                match random.u8(0..5) {
                    0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
                    1 if at < bytes.len() => {
                        drop(bytes.drain(at..(at + random.usize(1..40)).min(bytes.len())));
                    }
                    2 => bytes.insert(at, *random.choice(b"\n\",:{}[]\\ 0=+/\0\xff").unwrap()),
                    3 => {
                        let other = random.choice(&seeds).unwrap();
                        let from = random.usize(0..other.len());
                        let part = &other[from..(from + random.usize(1..64)).min(other.len())];
                        bytes.splice(at..at, part.iter().copied());
                    }
                    _ => bytes.truncate(at),
                }
            }
            well_formed += u64::from(super::ledger(&bytes));
        }
        assert!(well_formed > 0);
    }
}
