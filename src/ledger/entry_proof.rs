//! A proof of one entry as a file: its fields, the path to a checkpoint, and that checkpoint.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    disclosure::Disclosure,
    hash::Hash,
    ledger_error::LedgerError,
    noted::{NotedCheckpoint, Trusts},
    opening::Opening,
    proof::verify_inclusion,
    proven::ProvenEntry,
};

/// The first line of the file.
const FORMAT: &str = "c2sp.org/tlog-proof@v1";

/// A proof that an entry is in a ledger, and was not changed since: its [`Opening`], its number, the hashes from its leaf up to
/// the root, and the checkpoint with this root.
///
/// `Display` and `FromStr` are the text of a [proof of the C2SP](https://c2sp.org/tlog-proof), whose `extra` line is the opening:
///
/// ```text
/// c2sp.org/tlog-proof@v1
/// extra <the opening, a line of JSON, in base64>
/// index <the number of the entry>
/// <hash in base64>
/// <...>
///
/// <the checkpoint, with its signatures if it has any>
/// ```
///
/// There is one spelling of each proof, and another one is refused. To verify a proof takes neither a database nor a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    opening: Opening,
    seq: u64,
    path: Vec<Hash>,
    checkpoint: NotedCheckpoint,
}

impl Proof {
    /// A proof of these parts, which are not verified yet.
    #[must_use]
    pub fn new(opening: Opening, seq: u64, path: Vec<Hash>, checkpoint: NotedCheckpoint) -> Self {
        Self { opening, seq, path, checkpoint }
    }

    /// The number of the entry in its ledger.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The fields of the entry. They are not verified yet.
    #[must_use]
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The hashes beside the way from the leaf up to the root.
    #[must_use]
    pub fn path(&self) -> &[Hash] {
        &self.path
    }

    /// The checkpoint that the proof leads to.
    #[must_use]
    pub fn checkpoint(&self) -> &NotedCheckpoint {
        &self.checkpoint
    }

    /// The same proof, which shows fewer fields.
    ///
    /// # Errors
    ///
    /// If the entry has no field of a name that is given.
    pub fn disclosing(mut self, mut disclosure: Disclosure) -> Result<Self, LedgerError> {
        disclosure.apply(&mut self.opening);
        disclosure.check()?;
        Ok(self)
    }

    /// Verifies the proof, and returns the values that it shows.
    ///
    /// # Errors
    ///
    /// The error of [`Trusts::trusts`] if its checkpoint is not trusted. [`LedgerError::Root`] if the entry does not
    /// lead to the checkpoint. Another error if the proof is none for these sizes, or if its values are not those of an
    /// entry.
    pub fn verify(&self, trusts: &(impl Trusts + ?Sized)) -> Result<ProvenEntry, LedgerError> {
        trusts.trusts(&self.checkpoint)?;
        let checkpoint = self.checkpoint.checkpoint();
        let leaf = self.opening.leaf().hash();
        verify_inclusion(&leaf, self.seq, checkpoint.size(), &self.path, checkpoint.root())?;
        ProvenEntry::of(self.seq, &self.opening)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra = STANDARD.encode(self.opening.to_string());
        writeln!(f, "{FORMAT}\nextra {extra}\nindex {}", self.seq)?;
        for hash in &self.path {
            writeln!(f, "{}", STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for Proof {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("proof", problem);
        if text.contains('\r') {
            return Err(malformed(
                "its lines end with a carriage return: save it with line feeds alone".into(),
            ));
        }
        let (head, note) = text.split_once("\n\n").ok_or_else(|| {
            malformed("it is cut off: its hashes are followed by an empty line and a checkpoint".into())
        })?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FORMAT) {
            return Err(malformed(format!("its first line is not {FORMAT:?}")));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let extra = extra.ok_or_else(|| {
            malformed("its second line is not \"extra\" and the fields of the entry in base64".into())
        })?;
        let opening = STANDARD.decode(extra).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let opening = opening
            .ok_or_else(|| malformed("the fields in its second line are not a text in base64".into()))?
            .parse::<Opening>()?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let seq = index.and_then(|index| index.parse::<u64>().ok());
        let seq = seq
            .ok_or_else(|| malformed("its third line is not \"index\" and the number of the entry".into()))?;
        let path = (0..).zip(lines).map(|(number, line): (usize, &str)| {
            hash_of(line).ok_or_else(|| malformed(format!("its hash {number} is not 32 bytes in base64")))
        });
        let proof = Self { opening, seq, path: path.collect::<Result<_, _>>()?, checkpoint: note.parse()? };
        if proof.to_string() == text {
            return Ok(proof);
        }
        Err(malformed(
            "it is not spelled as a proof is: something in it was changed that means the same, or its last line feed is \
             missing"
                .into(),
        ))
    }
}

/// A hash as it is written.
pub(super) fn hash_of(text: &str) -> Option<Hash> {
    Hash::try_from(STANDARD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::ledger::{
        AsGiven, Checkpoint, Columns, Committed, Frontier, Origin, ProofShape, Subtree, leaf_hash,
    };

    /// A proof of entry `seq` in a ledger of `size` entries, the others of which have no fields.
    fn proof(seq: u64, size: u64) -> Proof {
        let columns = Columns {
            id: Uuid::from_u128(1),
            ts: 0,
            workspace_id: Uuid::nil(),
            session_id: None,
            agent_id: Some(Uuid::from_u128(3)),
            action: "read",
            resource: "document",
            resource_id: None,
            decision: "Allow",
            reason: Some("policy"),
            risk_score: Some(0.5),
            metadata: r#"{"ip":"10.0.0.1","card":7}"#,
            problems: None,
        };
        let committed = Committed { writer: Uuid::nil(), position: 1, committed_at: 0 };
        let opening = Opening::of(&columns, &committed, &[7; 16]);
        let leaf = |n: u64| if n == seq { opening.leaf().hash() } else { leaf_hash(&n.to_be_bytes()) };
        let root = |range: std::ops::Range<u64>| {
            let mut part = Frontier::new();
            range.for_each(|n| part.push(leaf(n)));
            part
        };
        let of = |subtree: Subtree| {
            let first = subtree.index << subtree.level;
            Ok::<_, ()>(root(first..first + (1 << subtree.level)).root())
        };
        let path = ProofShape::inclusion(seq, size).unwrap().hashes(of).unwrap();
        let checkpoint = Checkpoint::of(Origin::new("audit.example.com").unwrap(), &root(0..size));
        Proof::new(opening, seq, path, checkpoint.into())
    }

    #[test]
    fn a_proof_is_read_as_it_was_written_and_holds_whatever_is_withheld() {
        for (seq, size) in [(0, 1), (0, 2), (3, 5), (4, 5), (11, 12), (299, 300)] {
            let proof = proof(seq, size);
            let trusted = proof.checkpoint().checkpoint().clone();
            let read: Proof = proof.to_string().parse().unwrap();
            assert_eq!(read, proof);
            assert_eq!((read.seq(), read.path()), (seq, proof.path()));
            let whole = read.verify(&trusted).unwrap();
            assert_eq!(whole.withheld(), Vec::<String>::new());
            let partly =
                read.disclosing(Disclosure::all_but(["agent_id", "metadata.card"]).unwrap()).unwrap();
            let partly: Proof = partly.to_string().parse().unwrap();
            assert!(!format!("{:?}", partly.verify(&trusted).unwrap()).contains("card"));
            assert_eq!(partly.verify(&trusted).unwrap().withheld(), ["agent_id", "1 member of metadata"]);
            assert_eq!(partly.verify(&AsGiven).unwrap().reason, whole.reason);
            let error = partly.disclosing(Disclosure::only(["problems"]).unwrap()).unwrap_err();
            assert!(error.to_string().contains("no entry has problems"), "{error}");
        }
    }

    /// Every byte, in each way that is likely to mean something, one at a time.
    #[test]
    fn a_proof_with_any_byte_changed_is_refused() {
        let proof = proof(11, 13);
        let (text, trusted) = (proof.to_string(), proof.checkpoint().checkpoint().clone());
        let mut refused = 0;
        for at in 0..text.len() {
            for other in [b' ', b'\n', b'0', b'A', b'=', 0xff, text.as_bytes()[at] ^ 1] {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] == other {
                    continue;
                }
                bytes[at] = other;
                // Bytes that are not UTF-8 are no text, and are refused by the reader of the file.
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                let result = changed.parse::<Proof>().and_then(|proof| proof.verify(&trusted));
                let Err(error) = result else { panic!("byte {at} of {changed}") };
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
        assert!(refused > text.len() * 4, "{refused}");
        // One byte removed, and one added.
        for at in 0..text.len() {
            let (before, rest) = text.split_at(at);
            let (_, after) = rest.split_at(1);
            for changed in [[before, after].concat(), [before, "A", rest].concat()] {
                let result = changed.parse::<Proof>().and_then(|proof| proof.verify(&trusted));
                assert!(result.is_err(), "byte {at} of {changed}");
            }
            assert!(before.parse::<Proof>().is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn each_part_that_is_changed_has_its_own_sentence() {
        let (proof, other) = (proof(3, 13), proof(4, 14));
        let (text, trusted) = (proof.to_string(), proof.checkpoint().checkpoint().clone());
        let lines: Vec<&str> = text.split('\n').collect();
        let with = |number: usize, line: &str| {
            let mut lines = lines.clone();
            lines[number] = line;
            lines.join("\n")
        };
        let opening = |from: &str, to: &str| {
            let json = proof.opening().to_string();
            assert!(json.contains(from));
            with(1, &format!("extra {}", STANDARD.encode(json.replacen(from, to, 1))))
        };
        let checkpoint = lines.len() - 4;
        for (changed, why) in [
            (String::new(), "it is cut off"),
            (with(0, "c2sp.org/tlog-proof@v2"), "its first line is not \"c2sp.org/tlog-proof@v1\""),
            (with(1, "extra *"), "the fields in its second line"),
            (with(1, "index 3"), "its second line is not \"extra\""),
            (opening("opening@v1", "opening@v2"), "its version is \"opening@v2\""),
            (opening("[1,", "[ 1,"), "it is not spelled as a proof is"),
            (opening("[3,", "[2,"), "leads to another root"),
            (with(2, "index 03"), "it is not spelled as a proof is"),
            (with(2, "index x"), "its third line is not \"index\""),
            (with(2, "index 2"), "leads to another root"),
            (with(2, "index 13"), "there is no leaf 13 in a tree of 13 leaves"),
            (with(3, "AAAA"), "its hash 0 is not 32 bytes in base64"),
            (with(3, &STANDARD.encode([0; 32])), "leads to another root"),
            (with(3, &[lines[3], lines[3]].join("\n")), "has 4 hashes, and this one has 5"),
            (with(checkpoint, "audit.example.org"), "is of the ledger \"audit.example.org\""),
            (with(checkpoint + 1, "14"), "is of 14 entries, and the one that is trusted is of 13"),
            (with(checkpoint + 2, &STANDARD.encode([0; 32])), "another root than the one that is trusted"),
            (text.replace('\n', "\r\n"), "carriage return"),
            (text.trim_end().to_owned(), "its last line feed is missing"),
            (other.to_string(), "is of 14 entries, and the one that is trusted is of 13"),
        ] {
            let result = changed.parse::<Proof>().and_then(|proof| proof.verify(&trusted));
            let Err(error) = result else { panic!("{changed}") };
            assert!(error.to_string().contains(why), "{changed}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_of_proofs_panic(text: String, lines in "c2sp.org/tlog-proof@v1\n(extra [A-Za-z0-9]{0,8}=?\n)?(index [0-9]{0,20}\n)?\n.{0,20}") {
            for text in [text, lines] {
                if let Ok(proof) = text.parse::<Proof>() {
                    prop_assert_eq!(proof.to_string(), text);
                }
            }
        }
    }
}
