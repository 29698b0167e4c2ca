//! Every vector of the ledger's bytes, which another program made.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::*;

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
            // Of every fifth entry only the hash is left.
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
fn rearranged(text: &str, change: impl FnOnce(&mut Vec<&str>)) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    change(&mut lines);
    lines.join("\n") + "\n"
}

/// A bundle with a last line that fits what it is now, as whoever changes it would write.
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
        (other("\"range\"", "\"part\""), "it is of the kind \"part\", which this version"),
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
    // What is left of a selection that was shortened and sealed anew holds: it never said that it is all.
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
        // What is left is still proven, and what was erased cannot be put back.
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

/// What is built from leaves later: a seal over the trees of all workspaces, tiles, and the statement of a batch.
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
