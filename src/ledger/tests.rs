//! Every vector of the ledger's bytes, which another program made.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    seal::{blind, seal_leaf},
    *,
};

fn vectors() -> Json {
    serde_json::from_str(include_str!("../../tests/data/ledger/vectors.json")).unwrap()
}

fn bytes(hex: &Json) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn array<const N: usize>(hex: &Json) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

fn hash(hex: &Json) -> Hash {
    array(hex)
}

fn hashes(list: &Json) -> Vec<Hash> {
    list.as_array().unwrap().iter().map(hash).collect()
}

fn list(json: &Json) -> impl Iterator<Item = &Json> {
    let list = json.as_array().unwrap();
    assert!(!list.is_empty());
    list.iter()
}

fn map(json: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let map = json.as_object().unwrap();
    assert!(!map.is_empty());
    map.iter().map(|(key, value)| (&**key, value))
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap()
}

fn uuid(json: &Json) -> Uuid {
    Uuid::parse_str(json.as_str().unwrap()).unwrap()
}

fn columns(row: &Json) -> Columns<'_> {
    Columns {
        id: uuid(&row["id"]),
        ts: row["ts"].as_i64().unwrap(),
        workspace_id: uuid(&row["workspace_id"]),
        session_id: row["session_id"].as_str().map(|id| id.parse().unwrap()),
        agent_id: row["agent_id"].as_str().map(|id| id.parse().unwrap()),
        action: row["action"].as_str().unwrap(),
        resource: row["resource"].as_str().unwrap(),
        resource_id: row["resource_id"].as_str(),
        decision: row["decision"].as_str().unwrap(),
        reason: row["reason"].as_str(),
        risk_score: row["risk_score_bits"]
            .as_str()
            .map(|_| f64::from_be_bytes(array(&row["risk_score_bits"]))),
        metadata: row["metadata"].as_str().unwrap(),
        problems: row["problems"].as_str(),
    }
}

fn committed(batch: &Json, place: u64) -> Committed {
    Committed::in_batch(
        uuid(&batch["writer"]),
        number(&batch["position"]),
        number(&batch["entries"]),
        batch["committed_at"].as_i64().unwrap(),
        place,
    )
    .unwrap()
}

/// The row of an entry of the ledger, which `rule` of the vectors says in words.
fn row(vectors: &Json, seq: u64) -> Json {
    if let Some(entry) = vectors["entries"].get(usize::try_from(seq).unwrap()) {
        return entry["row"].clone();
    }
    let mut row = vectors["entries"][0]["row"].clone();
    row["id"] = format!("019{seq:029x}").into();
    row["ts"] = (1_764_000_000_000_000 + seq).into();
    row["resource_id"] = seq.to_string().into();
    row["decision"] = if seq.is_multiple_of(50) { "Deny" } else { "Allow" }.into();
    row["problems"] = Json::Null;
    row["workspace_id"] = if seq.is_multiple_of(3) { "66" } else { "11" }.repeat(16).into();
    row["metadata"] = format!("{{\"latency_ms\":{seq}}}").into();
    row
}

/// The opening of an entry of the ledger.
fn opening(vectors: &Json, seq: u64) -> Opening {
    let batches = vectors["ledger"]["batches"].as_array().unwrap();
    let batch = batches.iter().rfind(|batch| number(&batch["first_seq"]) <= seq).unwrap();
    // The first batch is that of `entries`, with the seeds of `seeds`.
    let root = batch.get("seed").unwrap_or(&vectors["seeds"]["root"]);
    let place = seq - number(&batch["first_seq"]);
    let seed = Seeds::of_root(array(root)).get(u32::try_from(place).unwrap()).unwrap();
    Opening::of(&columns(&row(vectors, seq)), &committed(batch, place), &seed)
}

fn ledger(vectors: &Json) -> Vec<Hash> {
    (0..600).map(|seq| opening(vectors, seq).leaf().hash()).collect()
}

fn tree(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier
}

#[test]
fn seeds_and_salts_are_those_of_the_vectors() {
    let vectors = &vectors()["seeds"];
    let seeds = Seeds::of_root(array(&vectors["root"]));
    let mut in_order = seeds.iter();
    let mut next = 0;
    let mut entries: Vec<_> = map(&vectors["entries"]).map(|(j, seed)| (j.parse().unwrap(), seed)).collect();
    entries.sort_by_key(|(entry, _): &(u32, _)| *entry);
    for (entry, seed) in entries {
        assert_eq!(seeds.get(entry), Some(array(seed)), "entry {entry}");
        assert_eq!(
            in_order.nth((entry - next) as usize),
            Some((entry, array(seed))),
            "entry {entry} in order"
        );
        next = entry + 1;
    }
    let mut salts = seeds::Salts::of(&seeds.get(0).unwrap());
    for salt in list(&vectors["salts_of_entry_0"]) {
        assert_eq!(salts.next(), array(salt));
    }
}

#[test]
fn entries_have_the_leaves_of_the_vectors() {
    let vectors = vectors();
    let mut reused = Leaf::new();
    for (place, entry) in (0..).zip(list(&vectors["entries"])) {
        let why = entry["why"].as_str().unwrap();
        let (columns, committed, seed) =
            (columns(&entry["row"]), committed(&vectors["batch"], place), array(&entry["seed"]));
        let leaf = Leaf::of(&columns, &committed, &seed);
        assert_eq!(leaf.hash(), hash(&entry["leaf"]), "{why}");
        assert_eq!(leaf.hash(), leaf_hash(leaf.data()), "{why}");
        assert_eq!(leaf.data().len() as u64, number(&entry["leaf_data_bytes"]), "{why}");
        if let Some(data) = entry.get("leaf_data") {
            assert_eq!(leaf.data(), bytes(data), "{why}");
        }
        let tags: Vec<u64> = leaf.commitments().map(|(tag, _)| u64::from(tag)).collect();
        assert_eq!(tags, list(&entry["tags"]).map(number).collect::<Vec<_>>(), "{why}");
        let label = b"tracing-audit/entry@v1\n".len();
        assert_eq!(Sha256::digest(&leaf.data()[label..])[..], bytes(&entry["commitments_sha256"]), "{why}");

        reused.prepare(&columns, &seed);
        assert_eq!(
            reused.finish(&columns, &committed),
            leaf.hash(),
            "{why}, with a leaf that was used before"
        );
        let opening = Opening::of(&columns, &committed, &seed);
        assert_eq!(opening.leaf(), leaf, "{why}");
        let Field::Open { value, .. } = &opening.fields()[0] else { panic!("the core of {why} is closed") };
        assert_eq!(*value, bytes(&entry["core"]), "{why}");
    }
}

#[test]
fn any_change_of_a_column_or_of_its_batch_changes_the_leaf() {
    let vectors = vectors();
    for (place, entry) in (0..).zip(list(&vectors["entries"])) {
        let seed = array(&entry["seed"]);
        let mut leaves = Vec::new();
        let mut add = |row: &Json, batch: &Json| {
            let leaf = Leaf::of(&columns(row), &committed(batch, place), &seed).hash();
            assert!(!leaves.contains(&leaf), "{row} {batch}");
            leaves.push(leaf);
        };
        add(&entry["row"], &vectors["batch"]);
        for (column, value) in map(&entry["row"]) {
            let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
            let others: Vec<Json> = match column {
                "ts" => vec![(value.as_i64().unwrap() + 1).into()],
                "id" | "workspace_id" => vec!["77".repeat(16).into()],
                "session_id" | "agent_id" => vec![Json::Null, "77".repeat(16).into()],
                "risk_score_bits" => vec![Json::Null, "3fd0000000000001".into()],
                "resource_id" | "reason" | "problems" => {
                    vec![Json::Null, "".into(), format!("{} ", text(value)).into()]
                }
                _ => vec![format!("{} ", text(value)).into()],
            };
            for other in others.into_iter().filter(|other| other != value) {
                let mut changed = entry["row"].clone();
                changed[column] = other;
                add(&changed, &vectors["batch"]);
            }
        }
        for (name, other) in
            [("writer", "77".repeat(16).into()), ("position", 1013.into()), ("committed_at", 1.into())]
        {
            let mut batch = vectors["batch"].clone();
            batch[name] = other;
            add(&entry["row"], &batch);
        }
    }
}

#[test]
fn a_ledger_has_the_roots_the_frontiers_and_the_nodes_of_the_vectors() {
    let vectors = vectors();
    let leaves = ledger(&vectors);
    let expected = &vectors["ledger"];
    for (seq, leaf) in map(&expected["leaf_at"]) {
        assert_eq!(leaves[seq.parse::<usize>().unwrap()], hash(leaf), "leaf {seq}");
    }
    for (size, root) in map(&expected["root_at"]) {
        assert_eq!(tree(&leaves[..size.parse().unwrap()]).root(), hash(root), "root at {size}");
    }
    for (size, peaks) in map(&expected["frontier_at"]) {
        let size: usize = size.parse().unwrap();
        let frontier = tree(&leaves[..size]);
        assert_eq!(frontier.peaks(), hashes(peaks), "frontier at {size}");
        assert_eq!(Frontier::from_bytes(size as u64, &frontier.to_bytes()), Ok(frontier));
    }
    let (mut frontier, mut full) = (Frontier::new(), Vec::new());
    for batch in leaves.chunks(100) {
        frontier.append(batch, &mut full);
    }
    assert_eq!(frontier, tree(&leaves));
    let node = |(index, hash)| Node { subtree: Subtree { level: 8, index }, hash };
    let nodes: Vec<Node> = (0..).zip(hashes(&expected["nodes_8"])).map(node).collect();
    assert_eq!(full, nodes);
}

fn shape_of(leaves: &[Hash], shape: &ProofShape) -> Vec<Hash> {
    let root = |subtree: Subtree| {
        let range = subtree.index << subtree.level..(subtree.index + 1) << subtree.level;
        let part = leaves.get(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        part.map(|part| tree(part).root()).ok_or("not full")
    };
    shape.hashes(root).unwrap()
}

#[test]
fn proofs_are_those_of_the_vectors() {
    let vectors = vectors();
    let leaves = ledger(&vectors);
    for vector in list(&vectors["inclusion"]) {
        let (index, size) = (number(&vector["index"]), number(&vector["size"]));
        let path = hashes(&vector["path"]);
        assert_eq!(
            shape_of(&leaves, &ProofShape::inclusion(index, size).unwrap()),
            path,
            "{index} in {size}"
        );
        verify_inclusion(&hash(&vector["leaf"]), index, size, &path, &hash(&vector["root"])).unwrap();
    }
    for vector in list(&vectors["consistency"]) {
        let (from, to) = (number(&vector["from"]), number(&vector["to"]));
        let path = hashes(&vector["path"]);
        assert_eq!(shape_of(&leaves, &ProofShape::consistency(from, to).unwrap()), path, "{from} to {to}");
        let (from_root, to_root) = (hash(&vector["root_from"]), hash(&vector["root_to"]));
        verify_consistency(from, to, &path, &from_root, &to_root).unwrap();
        if from < to {
            assert!(verify_consistency(from, to, &path, &to_root, &from_root).is_err());
        }
    }
    let cut = &vectors["retention"];
    let start = Frontier::from_bytes(256, hashes(&cut["frontier"]).as_flattened()).unwrap();
    assert_eq!(start, tree(&leaves[..256]));
    let proof = hashes(&cut["archive_proof_256_to_600"]);
    verify_consistency(256, 600, &proof, &start.root(), &tree(&leaves).root()).unwrap();
}

#[test]
fn a_checkpoint_has_the_text_of_the_vectors() {
    let vectors = vectors();
    let origin: Origin = vectors["origin"].as_str().unwrap().parse().unwrap();
    let checkpoint = Checkpoint::of(origin, &tree(&ledger(&vectors)));
    for note in ["note", "rotation"] {
        let note = vectors["checkpoint"][note].as_str().unwrap();
        let (text, _signatures) = note.split_once("\n\n").unwrap();
        assert_eq!(checkpoint.to_string(), format!("{text}\n"));
        assert_eq!(text.parse(), Ok(checkpoint.clone()));
        let error = note.parse::<Checkpoint>().unwrap_err().to_string();
        assert!(error.contains("signed"), "{error}");
    }
}

#[test]
fn openings_whole_and_partly_withheld_have_the_text_and_the_leaf_of_the_vectors() {
    let vectors = vectors();
    let proof = &vectors["proof"];
    let leaf = hash(&vectors["ledger"]["leaf_at"]["333"]);
    let mut opening = opening(&vectors, 333);
    let check = |opening: &Opening, text: &Json, file: &Json| {
        assert_eq!(opening.to_string(), text.as_str().unwrap());
        assert_eq!(text.as_str().unwrap().parse().as_ref(), Ok(opening));
        assert_eq!(opening.leaf().hash(), leaf);
        // The file of the proof carries the same opening, and the path to the checkpoint in it.
        let mut lines = file.as_str().unwrap().lines();
        assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
        let extra = lines.next().unwrap().strip_prefix("extra ").unwrap();
        assert_eq!(STANDARD.decode(extra).unwrap(), opening.to_string().into_bytes());
        let index = lines.next().unwrap().strip_prefix("index ").unwrap().parse().unwrap();
        let path: Vec<Hash> = lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .map(|line| STANDARD.decode(line).unwrap().try_into().unwrap())
            .collect();
        let text: Vec<&str> = lines.take(3).collect();
        let checkpoint: Checkpoint = text.join("\n").parse().unwrap();
        verify_inclusion(&opening.leaf().hash(), index, checkpoint.size(), &path, checkpoint.root()).unwrap();
    };
    check(&opening, &proof["opening_whole"], &proof["whole"]);
    for field in list(&proof["closed"]) {
        opening.withhold(usize::try_from(number(field)).unwrap());
    }
    check(&opening, &proof["opening_partly"], &proof["partly"]);
}

#[test]
fn proof_files_and_proofs_of_consistency_are_those_of_the_vectors() {
    let vectors = vectors();
    let leaves = ledger(&vectors);
    let (root, note) = (tree(&leaves).root(), vectors["checkpoint"]["note"].as_str().unwrap());
    let origin: Origin = vectors["origin"].as_str().unwrap().parse().unwrap();
    let trusted = Checkpoint::new(origin, 600, root).unwrap();
    let mut opening = opening(&vectors, 333);
    let path = shape_of(&leaves, &ProofShape::inclusion(333, 600).unwrap());
    for (file, closed) in [("whole", vec![]), ("partly", vec!["agent_id".to_owned(), "reason".to_owned()])] {
        if !closed.is_empty() {
            Disclosure::all_but(&closed).unwrap().apply(&mut opening);
        }
        let file = vectors["proof"][file].as_str().unwrap();
        let proof = Proof::new(opening.clone(), 333, path.clone(), note.parse().unwrap());
        assert_eq!(proof.to_string(), file);
        assert_eq!(file.parse().as_ref(), Ok(&proof));
        let proven = proof.verify(&trusted).unwrap();
        assert_eq!((proven.seq, proven.withheld()), (333, closed));
        assert_eq!(proven.metadata, Shown::Open("{\"latency_ms\":333}".to_owned()));
        // The first of the two lines of signatures is what another trust may ask for.
        assert_eq!(proof.checkpoint().signatures().len(), 2);
        let other = file.replace("index 333", "index 332").parse::<Proof>().unwrap();
        assert_eq!(other.verify(&trusted), Err(LedgerError::Root));
    }
    for vector in list(&vectors["consistency"]) {
        let (from, to) = (number(&vector["from"]), number(&vector["to"]));
        let proof = ConsistencyProof::new(hashes(&vector["path"]));
        assert_eq!(proof.to_string().parse().as_ref(), Ok(&proof));
        let (from_root, to_root) = (hash(&vector["root_from"]), hash(&vector["root_to"]));
        proof.verify((from, &from_root), (to, &to_root)).unwrap();
        // Every tree begins with the empty one.
        assert_eq!(proof.verify((from, &from_root), (to, &[0; 32])).is_ok(), from == 0);
    }
}

/// The entries of a bundle, if it holds.
fn verified(bundle: &[u8], trusts: &dyn Trusts) -> Result<(Vec<ProvenEntry>, VerifiedBundle), LedgerError> {
    let mut lines = bundle.split_inclusive(|byte| *byte == b'\n');
    let mut verifier = BundleVerifier::begin(lines.next().unwrap_or_default(), trusts)?;
    let mut entries = Vec::new();
    for line in lines {
        entries.extend(verifier.take(line)?);
    }
    Ok((entries, verifier.finish()?))
}

/// The ledger of the vectors, and its checkpoint.
struct Bundled {
    vectors: Json,
    leaves: Vec<Hash>,
    trusted: Checkpoint,
    noted: NotedCheckpoint,
}

impl Bundled {
    fn new(note: &str) -> Self {
        let vectors = vectors();
        let leaves = ledger(&vectors);
        let noted: NotedCheckpoint = vectors["checkpoint"]["note"].as_str().unwrap().parse().unwrap();
        let trusted = noted.checkpoint().clone();
        let noted = if note == "bare" { trusted.clone().into() } else { noted };
        Self { vectors, leaves, trusted, noted }
    }

    fn range(&self, from: u64, until: u64) -> Vec<u8> {
        let (start, end) = (usize::try_from(from).unwrap(), usize::try_from(until).unwrap());
        let proof = shape_of(&self.leaves, &ProofShape::consistency(until, 600).unwrap());
        let (mut out, start) = (Vec::new(), tree(&self.leaves[..start]));
        let mut writer = BundleWriter::range(self.noted.clone(), start, until, proof, &mut out).unwrap();
        for seq in from..until {
            // Every fifth entry has only its hash left.
            if seq % 5 == 4 {
                let leaf = self.leaves[usize::try_from(seq).unwrap()];
                writer.leaf(seq, &leaf, &[], &mut out).unwrap();
            } else {
                writer.entry(seq, &opening(&self.vectors, seq), &[], &mut out).unwrap();
            }
        }
        assert_eq!(writer.end(&mut out), Ok((end - usize::try_from(from).unwrap()) as u64));
        out
    }

    fn selection(&self, seqs: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = BundleWriter::selection(self.noted.clone(), &mut out).unwrap();
        let mut disclosure = Disclosure::all_but(["agent_id"]).unwrap();
        for seq in seqs {
            let path = shape_of(&self.leaves, &ProofShape::inclusion(*seq, 600).unwrap());
            let mut opening = opening(&self.vectors, *seq);
            disclosure.apply(&mut opening);
            writer.entry(*seq, &opening, &path, &mut out).unwrap();
        }
        assert_eq!(writer.end(&mut out), Ok(seqs.len() as u64));
        out
    }
}

#[test]
fn bundles_of_ranges_and_of_some_entries_hold_by_the_checkpoint_of_the_vectors() {
    let bundled = Bundled::new("signed");
    let archive = bundled.range(0, 256);
    let first: Json = serde_json::from_slice(archive.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let expected: Vec<String> = hashes(&bundled.vectors["retention"]["archive_proof_256_to_600"])
        .iter()
        .map(|hash| STANDARD.encode(hash))
        .collect();
    assert_eq!((&first["proof"], &first["start"]), (&Json::from(expected), &serde_json::json!([])));
    let cut = bundled.range(256, 600);
    let start: Json = serde_json::from_slice(cut.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let frontier = hash(&bundled.vectors["retention"]["frontier"][0]);
    assert_eq!(start["start"], serde_json::json!([STANDARD.encode(frontier)]));
    for (from, until, bundle) in [(0, 256, archive), (256, 600, cut), (3, 9, bundled.range(3, 9))] {
        let (entries, read) = verified(&bundle, &bundled.trusted).unwrap();
        assert_eq!((read.entries(), read.range()), (until - from, Some(&(from..until))));
        assert_eq!(read.checkpoint().to_string(), bundled.vectors["checkpoint"]["note"].as_str().unwrap());
        assert_eq!(
            entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
            (from..until).collect::<Vec<_>>()
        );
        let hidden = entries.iter().filter(|entry| entry.core == Shown::Withheld).count() as u64;
        assert_eq!(hidden, (from..until).filter(|seq| seq % 5 == 4).count() as u64);
    }
    let (entries, read) = verified(&bundled.selection(&[0, 10, 333, 599]), &bundled.trusted).unwrap();
    assert_eq!((read.entries(), read.range()), (4, None));
    assert_eq!(entries[1].withheld(), ["agent_id"]);
    assert_eq!(entries[2].resource_id, Shown::Open("333".to_owned()));
    assert_eq!(verified(&bundled.selection(&[]), &AsGiven).unwrap().1.entries(), 0);
}

#[test]
fn a_bundle_with_any_byte_changed_is_refused() {
    let bundled = Bundled::new("bare");
    for bundle in [bundled.range(13, 15), bundled.selection(&[333])] {
        assert!(verified(&bundle, &bundled.trusted).is_ok());
        for at in 0..bundle.len() {
            for other in [b'\n', b'0', b'"', bundle[at] ^ 1, 0xff] {
                let mut changed = bundle.clone();
                changed[at] = other;
                let result = verified(&changed, &bundled.trusted);
                assert!(result.is_err() || changed == bundle, "{at}: {}", String::from_utf8_lossy(&changed));
            }
            assert!(verified(&bundle[..at], &bundled.trusted).is_err(), "cut off at {at}");
        }
    }
}

/// A bundle with its lines in another order, or some of them.
fn rearranged<'a>(text: &'a str, change: impl FnOnce(&mut Vec<&'a str>)) -> String {
    let mut lines: Vec<&'a str> = text.lines().collect();
    change(&mut lines);
    lines.join("\n") + "\n"
}

/// A bundle with a last line that fits the bundle's present lines, as a person who changes it would write.
fn sealed(text: &str) -> String {
    let (before, _) = text.trim_end().rsplit_once('\n').unwrap();
    let before = [before, "\n"].concat();
    let hex: Vec<String> =
        Sha256::digest(before.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let entries = before.lines().count() - 1;
    format!("{before}{{\"entries\":{entries},\"sha256\":\"{}\"}}\n", hex.concat())
}

/// Checks that each of these bundles is refused, with a sentence that has this in it.
#[track_caller]
fn assert_refused(trusted: &Checkpoint, bundles: &[(String, &str)]) {
    for (changed, why) in bundles {
        let Err(error) = verified(changed.as_bytes(), trusted) else { panic!("{why}: {changed}") };
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
}

#[test]
fn each_part_of_a_bundle_of_a_range_that_is_changed_has_its_own_sentence() {
    let bundled = Bundled::new("bare");
    let range = String::from_utf8(bundled.range(10, 13)).unwrap();
    let other = |from: &str, to: &str| {
        assert!(range.contains(from));
        range.replacen(from, to, 1)
    };
    let without = |number: usize| {
        rearranged(&range, |lines| {
            lines.remove(number);
        })
    };
    let exchanged = rearranged(&range, |lines| lines.swap(1, 2));
    let in_11 = |member: &str| other("{\"seq\":11,", &format!("{{\"seq\":11,{member},"));
    let later = other("\\n600\\n", "\\n601\\n");
    let cases = [
        (String::new(), "it is empty"),
        ("{}\n".to_owned(), "its first line is not that of a bundle: missing field"),
        (other("bundle@v1", "bundle@v2"), "its version is \"bundle@v2\""),
        (other("\"range\"", "\"archive\""), "it is of the kind \"archive\", which this version"),
        (other("\"range\"", "\"part\""), "other members than those of the kind \"part\""),
        (other("\"range\"", "\"selection\""), "other members than those of the kind \"selection\""),
        (other("\"until\":13", "\"until\":9"), "it begins at 10, which is after its end, 9"),
        (other("audit.example.com", "audit.example.org"), "it says that it is of \"audit.example.org"),
        (later, "is of 601 entries, and the one that is trusted is of 600"),
        (other("\"until\":13", "\"until\":14"), "it ends at 13, and at 14 by its first line"),
        (sealed(&without(1)), "entry 10 is missing: 11 follows"),
        (sealed(&without(3)), "it ends at 12, and at 13 by its first line"),
        (without(3), "it has 2 entries, and 3 by its last line"),
        (without(4), "it is cut off after line 4"),
        (range.trim_end().to_owned(), "it is cut off in line 5"),
        (exchanged, "entry 10 is missing: 11 follows"),
        (other("[1,\"", "[1, \""), "its bytes are not those that its last line is of"),
        (format!("{range}{{}}\n"), "line 6 follows its last line"),
        (in_11("\"leaf\":\"\""), "entry 11: malformed bundle: it has either fields or"),
        (in_11("\"path\":[]"), "entry 11: malformed bundle: it has a path"),
        (in_11("\"x\":1"), "line 3 is not that of an entry: unknown field `x`"),
    ];
    assert_refused(&bundled.trusted, &cases);
}

#[test]
fn each_part_of_a_bundle_of_some_entries_that_is_changed_has_its_own_sentence() {
    let bundled = Bundled::new("bare");
    let some = String::from_utf8(bundled.selection(&[333, 400])).unwrap();
    let other = |from: &str, to: &str| {
        assert!(some.contains(from));
        some.replacen(from, to, 1)
    };
    let without = rearranged(&some, |lines| {
        lines.remove(1);
    });
    let exchanged = rearranged(&some, |lines| lines.swap(1, 2));
    // The latency of entry 333, and another one.
    let (value, wrong) = ("ImxhdGVuY3lfbXMiOjMzMw==", "ImxhdGVuY3lfbXMiOjMzNA==");
    let in_400 = |member: &str| other("{\"seq\":400,", &format!("{{\"seq\":400,{member},"));
    let cases = [
        (sealed(&other(value, wrong)), "entry 333: the proof leads to another root"),
        (sealed(&other("\"seq\":400", "\"seq\":401")), "entry 401: the proof leads to another root"),
        (other("\"path\":[\"", "\"path\":[\"A"), "entry 333: malformed bundle: a hash of its path"),
        (exchanged, "entry 333: malformed bundle: it is not in the order of the numbers"),
        (without.clone(), "it has 1 entries, and 2 by its last line"),
        (in_400("\"entry\":{\"seq\":400}"), "what is spelled beside its fields is something else"),
    ];
    assert_refused(&bundled.trusted, &cases);
    // The rest of a selection that was shortened and sealed again holds: it never said that it is all.
    assert_eq!(verified(sealed(&without).as_bytes(), &bundled.trusted).unwrap().1.entries(), 1);
    // The entry spelled for people is compared.
    let (entries, _) = verified(some.as_bytes(), &bundled.trusted).unwrap();
    let spelled = serde_json::to_string(&entries[1]).unwrap();
    let beside = sealed(&in_400(&format!("\"entry\":{spelled}")));
    assert_eq!(verified(beside.as_bytes(), &bundled.trusted).unwrap().0, entries);
}

#[test]
fn a_writer_of_bundles_makes_none_that_does_not_hold() {
    let bundled = Bundled::new("bare");
    let (mut out, whole) = (Vec::new(), opening(&bundled.vectors, 3));
    let path = shape_of(&bundled.leaves, &ProofShape::inclusion(3, 600).unwrap());
    let mut some = BundleWriter::selection(bundled.noted.clone(), &mut out).unwrap();
    for (seq, path) in [(4, &path[..]), (3, &path[1..]), (3, &path[..0])] {
        let error = some.entry(seq, &whole, path, &mut out).unwrap_err();
        assert!(matches!(error, LedgerError::Entry { .. }), "{error}");
    }
    some.entry(3, &whole, &path, &mut out).unwrap();
    let error = some.entry(3, &whole, &path, &mut out).unwrap_err().to_string();
    assert!(error.contains("entry 3 is not in the order of the numbers"), "{error}");
    let start = tree(&bundled.leaves[..3]);
    let range = |proof, out: &mut Vec<u8>| {
        BundleWriter::range(bundled.noted.clone(), start.clone(), 4, proof, out).unwrap()
    };
    let mut wrong = range(Vec::new(), &mut out);
    let error = wrong.entry(4, &whole, &[], &mut out).unwrap_err().to_string();
    assert!(error.contains("entry 3 follows, and not 4"), "{error}");
    wrong.entry(3, &whole, &[], &mut out).unwrap();
    assert!(wrong.end(&mut out).is_err());
    let error = range(Vec::new(), &mut out).end(&mut out).unwrap_err().to_string();
    assert!(error.contains("it ends at 3, and not at 4"), "{error}");
}

#[test]
fn erased_entries_keep_their_leaf_and_forget_their_seeds_as_in_the_vectors() {
    let vectors = vectors();
    let (erasure, batch) = (&vectors["erasure"], &vectors["batch"]);
    let whole = Seeds::of_root(array(&vectors["seeds"]["root"]));
    let mut left = whole.clone();
    for erased in list(&erasure["erased"]) {
        let place = number(&erased["place"]);
        let mut opening = opening(&vectors, place);
        for field in list(&erased["fields"]) {
            opening.withhold(usize::try_from(number(field)).unwrap());
        }
        let kept = bytes(&erased["kept"]);
        assert_eq!(opening.to_kept(), kept);
        let of_kept = |row: &Json| Opening::of_kept(&columns(row), &committed(batch, place), &kept);
        assert_eq!(of_kept(&erased["row_left"]), Ok(opening));
        assert_eq!(of_kept(&erased["row_left"]).unwrap().leaf().hash(), hash(&erased["leaf"]));
        // The values that are left are still proven, and erased ones cannot be put back.
        let changed = |column: &str, value: Json| {
            let mut row = erased["row_left"].clone();
            assert_ne!(row[column], value);
            row[column] = value;
            of_kept(&row)
        };
        assert_ne!(changed("action", "x".into()).unwrap().leaf().hash(), hash(&erased["leaf"]));
        let put_back = changed("metadata", row(&vectors, place)["metadata"].clone());
        assert!(put_back.is_err(), "{put_back:?}");
        left.forget(u32::try_from(place).unwrap(), 12);
    }
    left.forget(9, 12);
    left.forget(9, 12);
    assert_eq!(left.to_bytes(), bytes(&erasure["seeds_kept"]));
    assert_eq!(Seeds::from_bytes(&left.to_bytes()), Ok(left.clone()));
    for entry in 0..12 {
        let forgotten = [6, 7, 9].contains(&entry);
        assert_eq!(left.get(entry), whole.get(entry).filter(|_| !forgotten), "entry {entry}");
    }
    let in_order: Vec<_> = left.iter().take(9).collect();
    assert_eq!(
        in_order,
        whole.iter().take(12).filter(|(entry, _)| left.get(*entry).is_some()).collect::<Vec<_>>()
    );
}

#[test]
fn parts_and_their_seal_are_those_of_the_vectors() {
    let vectors = vectors();
    let (seal, mut parts) = (&vectors["seal"], Parts::new());
    assert!(parts.is_empty());
    for (seq, leaf) in (0_u64..).zip(ledger(&vectors)) {
        parts.push(uuid(&row(&vectors, seq)["workspace_id"]), seq, &leaf);
    }
    let (until, seed) = (number(&seal["until"]), array(&seal["seed"]));
    let (made, leaves) = (parts.seal(until, &seed), parts.leaves(&seed));
    assert_eq!((made.until(), *made.root()), (600, hash(&seal["root"])));
    assert_eq!((made.workspaces(), parts.len()), (2, 2));
    for part in list(&seal["parts"]) {
        let (workspace, index) = (uuid(&part["workspace_id"]), number(&part["index"]));
        let (own, blind) = (parts.get(workspace).unwrap(), blind(&seed, workspace));
        assert_eq!((own.size(), own.root()), (number(&part["entries"]), hash(&part["root"])));
        assert_eq!(blind, array(&part["blind"]));
        let leaf = seal_leaf(workspace, &blind, own.size(), &own.root());
        assert_eq!((leaf, leaves[usize::try_from(index).unwrap()]), (hash(&part["leaf"]), leaf));
        let path = shape_of(&leaves, &ProofShape::inclusion(index, 2).unwrap());
        assert_eq!(path, hashes(&part["path"]));
    }
    assert_eq!(parts.get(Uuid::nil()), None);
}

/// A ledger whose entries are of these workspaces, in their order, and whose last entry declares the seal over them.
struct SealedLedger {
    of: Vec<u128>,
    openings: Vec<Opening>,
    parts: Parts,
    /// Proves the entry of the seal, and shows all of it.
    proof: Proof,
}

const SEAL_SEED: Seed = [9; 16];

fn of_workspace(workspace: u128, action: &str, metadata: &str, problems: Option<&str>, seq: u64) -> Opening {
    let columns = Columns {
        id: Uuid::from_u128(1000 + u128::from(seq)),
        ts: 7,
        workspace_id: Uuid::from_u128(workspace),
        session_id: None,
        agent_id: None,
        action,
        resource: "document",
        resource_id: None,
        decision: "Allow",
        reason: None,
        risk_score: None,
        metadata,
        problems,
    };
    let committed = Committed { writer: Uuid::nil(), position: seq + 1, committed_at: 7 };
    Opening::of(&columns, &committed, &[u8::try_from(seq).unwrap(); 16])
}

impl SealedLedger {
    fn new(of: &[u128]) -> Self {
        let (until, mut parts, mut leaves) = (of.len() as u64, Parts::new(), Vec::new());
        let opening =
            |(seq, workspace): (u64, &u128)| of_workspace(*workspace, "read", r#"{"a":1}"#, None, seq);
        let openings: Vec<Opening> = (0..).zip(of).map(opening).collect();
        for ((seq, workspace), opening) in (0..).zip(of).zip(&openings) {
            leaves.push(opening.leaf().hash());
            parts.push(Uuid::from_u128(*workspace), seq, &opening.leaf().hash());
        }
        let seal = parts.seal(until, &SEAL_SEED);
        let [root, seed] = seal.spelled(&SEAL_SEED);
        let workspaces = seal.workspaces();
        let metadata =
            format!(r#"{{"root":"{root}","seed":"{seed}","until":{until},"workspaces":{workspaces}}}"#);
        let proof = Self::proven(&mut leaves, of_workspace(0, "audit.sealed", &metadata, None, until));
        Self { of: of.to_vec(), openings, parts, proof }
    }

    /// A proof of an entry that is appended to these leaves.
    fn proven(leaves: &mut Vec<Hash>, last: Opening) -> Proof {
        leaves.push(last.leaf().hash());
        let size = leaves.len() as u64;
        let path = shape_of(leaves, &ProofShape::inclusion(size - 1, size).unwrap());
        let origin = "audit.example.com/payments".parse().unwrap();
        Proof::new(last, size - 1, path, Checkpoint::of(origin, &tree(leaves)).into())
    }

    fn trusted(&self) -> &Checkpoint {
        self.proof.checkpoint().checkpoint()
    }

    fn own(&self, workspace: u128) -> Vec<u64> {
        (0..).zip(&self.of).filter(|(_, of)| **of == workspace).map(|(seq, _)| seq).collect()
    }

    fn part(&self, workspace: u128) -> SealedPart {
        let shown =
            Disclosure::only(["core", "metadata.until", "metadata.workspaces", "metadata.root"]).unwrap();
        let proof = self.proof.clone().disclosing(shown).unwrap();
        SealedPart::of(&self.parts, Uuid::from_u128(workspace), &SEAL_SEED, &proof).unwrap()
    }

    /// The line of an entry, as a bundle of its workspace has it.
    fn line(&self, seq: u64) -> String {
        let mut out = Vec::new();
        let index = usize::try_from(seq).unwrap();
        let fields = Some(self.openings[index].to_items());
        bundle::write(&bundle::Line { seq, fields, leaf: None, path: None, entry: None }, &mut out).unwrap();
        String::from_utf8(out).unwrap().trim_end().to_owned()
    }

    /// The bundle of a workspace, but for its first entries.
    fn bundle(&self, workspace: u128, without: usize) -> String {
        let (own, mut start, mut out) = (self.own(workspace), Parts::new(), Vec::new());
        let leaf = |seq: u64| self.openings[usize::try_from(seq).unwrap()].leaf().hash();
        own[..without].iter().for_each(|seq| start.push(Uuid::nil(), *seq, &leaf(*seq)));
        let start = start.get(Uuid::nil()).cloned().unwrap_or_default();
        let checkpoint = self.proof.checkpoint().clone();
        let mut writer = BundleWriter::part(checkpoint, self.part(workspace), start, &mut out).unwrap();
        for seq in &own[without..] {
            writer.entry(*seq, &self.openings[usize::try_from(*seq).unwrap()], &[], &mut out).unwrap();
        }
        assert_eq!(writer.end(&mut out), Ok((own.len() - without) as u64));
        String::from_utf8(out).unwrap()
    }
}

/// A bundle of a workspace as whoever has changed its entries would write it: with the right number of them in both places.
fn passed_off(text: &str) -> Vec<String> {
    let sealed = sealed(text);
    let (before, after) = sealed.split_once("\"entries\":").unwrap();
    let (_, after) = after.split_once(',').unwrap();
    let count = sealed.lines().count() - 2;
    let counted = self::sealed(&format!("{before}\"entries\":{count},{after}"));
    vec![sealed, counted]
}

#[test]
fn a_bundle_of_all_of_a_workspace_shows_which_they_are_and_where_the_next_one_begins() {
    let ledger = SealedLedger::new(&[1, 2, 1, 3, 1, 2]);
    for (workspace, count) in [(1, 3), (2, 2), (3, 1)] {
        let (entries, bundle) = verified(ledger.bundle(workspace, 0).as_bytes(), ledger.trusted()).unwrap();
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!((&seqs, bundle.entries(), bundle.range()), (&ledger.own(workspace), count, None));
        let part = bundle.part().unwrap().clone();
        assert_eq!((part.workspace, part.until, part.sealed_by), (Uuid::from_u128(workspace), 6, 6));
        assert_eq!(part.start, PartEnd { entries: 0, root: EMPTY_ROOT });
        assert_eq!((part.end.entries, part.end.to_string().parse()), (count, Ok(part.end)));
        // Those since an earlier bundle alone: they continue what it had.
        for without in 0..=seqs.len() {
            let later = ledger.bundle(workspace, without);
            let (entries, bundle) = verified(later.as_bytes(), ledger.trusted()).unwrap();
            let later = bundle.part().unwrap();
            assert_eq!((entries.len(), later.start.entries), (seqs.len() - without, without as u64));
            assert_eq!((later.end, later.continues(&part.end).is_ok()), (part.end, without == seqs.len()));
            let other = PartEnd { root: [7; 32], ..later.start };
            assert_eq!(later.continues(&other), Err(LedgerError::NotAsSealed));
        }
    }
    for wrong in ["", "8", "08 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "8 AAAA"] {
        let error = wrong.parse::<PartEnd>().unwrap_err().to_string();
        assert!(error.contains("is not the number of its entries"), "{error}");
    }
    // Nothing is seen of others, nor of the seed by which their leaves could be tested.
    let first = ledger.bundle(1, 0).lines().next().unwrap().to_owned();
    let spelled = STANDARD.encode(r#""seed""#);
    assert!(ledger.proof.opening().to_string().contains(&spelled) && !first.contains(&spelled), "{first}");
    let part = ledger.part(2);
    assert_eq!((part.workspace(), part.entries(), part.seal().until()), (Uuid::from_u128(2), 2, 6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the ledger: one entry left out, added, moved or exchanged is refused, each, however the numbers in it are mended.
    #[test]
    fn a_bundle_of_all_of_a_workspace_lacks_none_and_has_no_other(
        of in prop::collection::vec(0..5_u128, 1..40), one: prop::sample::Index, other: prop::sample::Index, far in 1..40_u64,
    ) {
        let ledger = SealedLedger::new(&of);
        let workspace = of[one.index(of.len())];
        let (whole, own) = (ledger.bundle(workspace, 0), ledger.own(workspace));
        let trusted = ledger.trusted();
        let (entries, bundle) = verified(whole.as_bytes(), trusted).unwrap();
        prop_assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), own.clone());
        prop_assert_eq!(bundle.part().map(|part| part.end.entries), Some(own.len() as u64));
        let (at, seq) = (one.index(own.len()), other.index(of.len()) as u64);
        let mut changed = vec![
            rearranged(&whole, |lines| {
                lines.remove(1 + at);
            }),
            whole.replacen(&format!("{{\"seq\":{},", own[at]), &format!("{{\"seq\":{},", own[at] + far), 1),
        ];
        // One that is there already, or of another workspace, at each place and under each number.
        let (added, as_own) = (ledger.line(seq), of_workspace(workspace, "read", r#"{"a":2}"#, None, seq));
        let mut line = Vec::new();
        let fields = Some(as_own.to_items());
        bundle::write(&bundle::Line { seq, fields, leaf: None, path: None, entry: None }, &mut line).unwrap();
        let new = String::from_utf8(line).unwrap();
        for line in [&*added, new.trim_end()] {
            let place = own.partition_point(|own| *own < seq);
            for at in [1 + place, own.len() + 1, 1] {
                changed.push(rearranged(&whole, |lines| lines.insert(at, line)));
            }
            if own[at] == seq && line != added {
                changed.push(rearranged(&whole, |lines| lines[1 + at] = line));
            }
        }
        if own.len() > 1 {
            changed.push(rearranged(&whole, |lines| lines.swap(1, own.len())));
        }
        for text in changed.iter().flat_map(|text| passed_off(text)) {
            prop_assert!(verified(text.as_bytes(), trusted).is_err(), "{}\n{}", whole, text);
        }
    }
}

#[test]
fn each_part_of_a_bundle_of_a_workspace_that_is_changed_has_its_own_sentence() {
    let ledger = SealedLedger::new(&[1, 2, 1, 3, 1, 2]);
    let whole = ledger.bundle(1, 0);
    let other = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        sealed(&whole.replacen(from, to, 1))
    };
    let without = rearranged(&whole, |lines| {
        lines.remove(2);
    });
    let passed_off = passed_off(&without);
    let added = ledger.line(1);
    let of_another = rearranged(&whole, |lines| lines.insert(2, &added));
    let root = STANDARD.encode(ledger.proof.checkpoint().checkpoint().root());
    let seal = STANDARD.encode(ledger.part(1).seal().root());
    let field = whole.split("\"fields\":[[1,\"").nth(1).unwrap().get(..24).unwrap().to_owned();
    let workspace = |workspace: u128| format!("\"workspace\":\"{}\"", Uuid::from_u128(workspace));
    let own = whole.lines().nth(1).unwrap();
    let cases = [
        (passed_off[0].clone(), "it is of 3 entries of the workspace, and there are 2"),
        (passed_off[1].clone(), "the entries are not all those of the workspace as they were sealed"),
        (
            sealed(&of_another),
            "entry 1: malformed bundle: it is of the workspace 00000000-0000-0000-0000-000000000002",
        ),
        (other("{\"seq\":2,", "{\"seq\":3,"), "the entries are not all those of the workspace"),
        (
            other("{\"seq\":4,", "{\"seq\":6,"),
            "entry 6: malformed bundle: the seal is of the entries before 6",
        ),
        (sealed(&rearranged(&whole, |lines| lines.swap(1, 2))), "it is not in the order of the numbers"),
        (
            sealed(&whole.replacen(own, &format!("{},\"path\":[]}}", own.strip_suffix('}').unwrap()), 1)),
            "it has a path, which",
        ),
        (
            other(&workspace(1), &workspace(2)),
            "it is of the workspace 00000000-0000-0000-0000-000000000001, and the bundle",
        ),
        (
            other("\"until\":6", "\"until\":5"),
            "entry 6: malformed seal: the one that this entry declares has another end",
        ),
        (other("\"size\":3", "\"size\":4"), "entry 6: malformed seal: the one that this entry declares"),
        (other(&seal, &root), "entry 6: malformed seal: the one that this entry declares"),
        (
            other("\"sealed\":{\"seq\":6", "\"sealed\":{\"seq\":5"),
            "entry 5: a proof for these sizes has 3 hashes",
        ),
        (other(&field, &STANDARD.encode([7; 16])), "entry 6: the proof leads to another root"),
        (other("\"blind\":\"", "\"blind\":\"A"), "the blind of its seal is not 16 bytes in base64"),
        (
            other(
                "\"from\":0,\"until\":6,\"start\":[]",
                &format!("\"from\":1,\"until\":6,\"start\":[\"{root}\"]"),
            ),
            "there are 4",
        ),
        (other("\"from\":0", "\"from\":1"), "the frontier of 1 leaves has 32 bytes, and this one has 0"),
        (other("\"kind\":\"part\"", "\"kind\":\"range\""), "other members than those of the kind \"range\""),
    ];
    assert_refused(ledger.trusted(), &cases);
}

#[test]
fn a_seal_is_believed_only_of_an_entry_that_the_log_itself_has_written() {
    let ledger = SealedLedger::new(&[1, 2]);
    let (seal, seed) = (ledger.parts.seal(2, &SEAL_SEED), SEAL_SEED);
    let [root, spelled] = seal.spelled(&seed);
    let of = |action: &str, metadata: &str, problems: Option<&str>| {
        let entry = ProvenEntry::of(2, &of_workspace(0, action, metadata, problems, 2)).unwrap();
        (
            Seal::of(&entry).map_err(|error| error.to_string()),
            Seal::seed_of(&entry).map_err(|error| error.to_string()),
        )
    };
    let metadata = |until: u64, root: &str| {
        format!(r#"{{"root":"{root}","seed":"{spelled}","until":{until},"workspaces":2}}"#)
    };
    assert_eq!(of("audit.sealed", &metadata(2, &root), None), (Ok(seal), Ok(seed)));
    for (action, metadata, problems, why) in [
        ("read", metadata(2, &root), None, "has the action \"read\", and not \"audit.sealed\""),
        (
            "audit.sealed",
            metadata(2, &root),
            Some("[\"action: reserved\"]"),
            "an application has written its entry",
        ),
        (
            "audit.sealed",
            metadata(3, &root),
            None,
            "of the entries before 3, and its own entry, 2, is among them",
        ),
        ("audit.sealed", metadata(2, "AAAA"), None, "its root is not 32 bytes"),
        ("audit.sealed", "{}".to_owned(), None, "declare none: missing field"),
        ("audit.sealed", "[]".to_owned(), None, "declare none"),
    ] {
        let (read, _) = of(action, &metadata, problems);
        let error = read.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let (read, seed) = of("audit.sealed", &metadata(2, &root).replace("\"seed\"", "\"other\""), None);
    assert!(read.is_ok() && seed.unwrap_err().contains("shows no seed of 16 bytes"));
    let mut hidden = of_workspace(0, "audit.sealed", &metadata(2, &root), None, 2);
    Disclosure::all_but(["metadata"]).unwrap().apply(&mut hidden);
    let error = Seal::of(&ProvenEntry::of(2, &hidden).unwrap()).unwrap_err().to_string();
    assert!(error.contains("does not show its metadata"), "{error}");
    hidden.withhold(0);
    let error = Seal::of(&ProvenEntry::of(2, &hidden).unwrap()).unwrap_err().to_string();
    assert!(error.contains("does not show its core"), "{error}");
}

#[test]
fn a_part_that_is_not_the_one_that_was_sealed_makes_no_bundle() {
    let (ledger, other) = (SealedLedger::new(&[1, 2, 1]), SealedLedger::new(&[1, 2, 2]));
    let of = |parts: &Parts, workspace: u128| {
        SealedPart::of(parts, Uuid::from_u128(workspace), &SEAL_SEED, &ledger.proof)
    };
    assert_eq!(of(&other.parts, 1), Err(LedgerError::NotAsSealed));
    assert_eq!(
        SealedPart::of(&ledger.parts, Uuid::from_u128(1), &[8; 16], &ledger.proof),
        Err(LedgerError::NotAsSealed)
    );
    let error = of(&ledger.parts, 7).unwrap_err().to_string();
    assert!(error.contains("no entry before it is of the workspace"), "{error}");
    // Nor does a writer end one that lacks an entry, or has one more.
    for seqs in [&[0][..], &[0, 1], &[0, 2, 3], &[2]] {
        let (mut out, checkpoint) = (Vec::new(), ledger.proof.checkpoint().clone());
        let mut writer = BundleWriter::part(checkpoint, ledger.part(1), Frontier::new(), &mut out).unwrap();
        for seq in seqs {
            let opening =
                ledger.openings.get(usize::try_from(*seq).unwrap()).unwrap_or(ledger.proof.opening());
            writer.entry(*seq, opening, &[], &mut out).unwrap();
        }
        assert!(writer.end(&mut out).is_err(), "{seqs:?}");
        assert!(verified(&out, ledger.trusted()).is_err());
    }
    let (mut out, elsewhere) = (Vec::new(), other.proof.checkpoint().clone());
    let refused = BundleWriter::part(elsewhere, ledger.part(1), Frontier::new(), &mut out);
    assert!(matches!(refused, Err(LedgerError::Entry { seq: 3, .. })));
}

/// Structures built from leaves later: a seal over the trees of all workspaces, tiles, and the statement of a batch.
#[test]
fn seals_tiles_and_statements_of_the_vectors_follow_from_the_leaves() {
    let vectors = vectors();
    let leaves = ledger(&vectors);
    let seal = &vectors["seal"];
    for part in list(&seal["parts"]) {
        let workspace = part["workspace_id"].as_str().unwrap();
        let mut own = Frontier::new();
        for (seq, leaf) in (0_u64..).zip(&leaves) {
            if row(&vectors, seq)["workspace_id"] == workspace {
                own.push(leaf_hash(&[b"tracing-audit/part@v1\n", &seq.to_be_bytes()[..], leaf].concat()));
            }
        }
        assert_eq!((own.size(), own.root()), (number(&part["entries"]), hash(&part["root"])));
        let blind = Sha256::digest([&[5][..], &bytes(&seal["seed"]), &bytes(&part["workspace_id"])].concat());
        assert_eq!(blind[..16], bytes(&part["blind"]));
        let data = [
            b"tracing-audit/seal@v1\n",
            &bytes(&part["workspace_id"])[..],
            &blind[..16],
            &own.size().to_be_bytes(),
            &own.root(),
        ];
        assert_eq!(leaf_hash(&data.concat()), hash(&part["leaf"]));
        let (index, parts) = (number(&part["index"]), seal["parts"].as_array().unwrap().len() as u64);
        verify_inclusion(&hash(&part["leaf"]), index, parts, &hashes(&part["path"]), &hash(&seal["root"]))
            .unwrap();
    }

    let (mut frontier, mut full) = (Frontier::new(), Vec::new());
    frontier.append(&leaves, &mut full);
    let nodes: Vec<Hash> = full.iter().map(|node| node.hash).collect();
    let tiles = &vectors["tiles"]["sha256"];
    for (path, tile) in [
        ("tile/0/000", &leaves[..256]),
        ("tile/0/001", &leaves[256..512]),
        ("tile/0/002.p/88", &leaves[512..]),
        ("tile/1/000.p/2", &nodes[..]),
    ] {
        assert_eq!(Sha256::digest(tile.as_flattened())[..], bytes(&tiles[path]), "{path}");
    }
    let mut data = Vec::new();
    for seq in 512..600 {
        let leaf = opening(&vectors, seq).leaf();
        data.extend_from_slice(&u16::try_from(leaf.data().len()).unwrap().to_be_bytes());
        data.extend_from_slice(leaf.data());
    }
    assert_eq!(Sha256::digest(data)[..], bytes(&vectors["tiles"]["entries"]["tile/entries/002.p/88"]));

    let statement = vectors["batch_statement"]["text"].as_str().unwrap();
    let origin: Origin = vectors["origin"].as_str().unwrap().parse().unwrap();
    assert_eq!(batch_statement(&origin, 500, &leaves[500..]), statement);
}

#[test]
fn published_leaves_have_the_published_roots() {
    let vectors = vectors();
    let published = &vectors["published"];
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root(), EMPTY_ROOT);
    for (leaf, root) in list(&published["rfc6962_leaves"]).zip(list(&published["rfc6962_roots"])) {
        frontier.push(leaf_hash(&bytes(leaf)));
        assert_eq!(frontier.root(), hash(root));
    }
    assert_eq!(frontier.size(), 8);
}

#[test]
fn the_leaf_of_no_entry_has_its_label_alone() {
    let leaf = Leaf::new();
    assert_eq!((leaf.data(), leaf.commitments().count()), (&b"tracing-audit/entry@v1\n"[..], 0));
    let expected = "7bc849bfbd5248827b9bc6733ee702511a7b24b79e7610f2e130ed59cb28a4cc";
    assert_eq!(leaf.hash(), hash(&Json::from(expected)));
}
