//! Makes a file that proves many entries, line by line.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{
    bundle::{First, Kind, Last, Line, malformed, spelled, write},
    frontier::Frontier,
    hash::Hash,
    ledger_error::LedgerError,
    noted::NotedCheckpoint,
    opening::Opening,
    part::SealedPart,
    proof::{verify_consistency, verify_inclusion},
    seal::part_leaf,
};

/// Makes a bundle: JSON Lines that prove many entries by one checkpoint.
///
/// ```text
/// {"tracing-audit":"bundle@v1","kind":"range","origin":"..","checkpoint":"..","from":5,"until":9,"start":["<hash>",..],"proof":["<hash>",..]}
/// {"seq":5,"fields":[[1,"<salt>","<value>"],[3,"<commitment>"],..]}
/// ..
/// {"entries":4,"sha256":"<of all bytes before this line, in hexadecimal digits>"}
/// ```
///
/// A `range` has every entry from `from` up to but not including `until`. `start` is the [`Frontier`] before them, and `proof` the proof of
/// consistency from `until` to the checkpoint. A `selection` has neither of these, and its entries, which are in the order of their
/// numbers, each have a `path`. `fields` are those of an [`Opening`]. An entry of which only the hash of its leaf is left has
/// `"leaf":"<hash>"` in their place.
///
/// A `part` has all entries of one workspace before a seal. `start` is the frontier over its first `from` entries, which are left out,
/// `entries` the number of all of them, and their tree leads to the root of the seal, which the entry `sealed` declares: see
/// [`SealedPart`].
///
/// ```text
/// {"tracing-audit":"bundle@v1","kind":"part","origin":"..","checkpoint":"..","from":0,"until":9,"start":[],
///  "workspace":"<uuid>","entries":4,"seal":{"root":"<hash>","size":2,"index":0,"path":["<hash>",..],"blind":"<16 bytes>"},
///  "sealed":{"seq":9,"fields":[..],"path":["<hash>",..]}}
/// ```
///
/// The writer verifies what it is given, so that it makes no bundle that does not hold.
pub struct BundleWriter {
    first: First,
    /// The tree until the entry that comes next, of a range.
    reached: Option<Frontier>,
    /// The number that the next entry has at least.
    next: u64,
    entries: u64,
    hash: Sha256,
}

impl fmt::Debug for BundleWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleWriter")
            .field("first", &self.first)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl BundleWriter {
    /// Begins a bundle of the entries after those of `start` and before `until`, and appends its first line to `out`. `proof` is
    /// the proof of consistency from `until` to the checkpoint.
    ///
    /// # Errors
    ///
    /// If the line cannot be made.
    pub fn range(
        checkpoint: NotedCheckpoint,
        start: Frontier,
        until: u64,
        proof: Vec<Hash>,
        out: &mut Vec<u8>,
    ) -> Result<Self, LedgerError> {
        let (next, reached) = (start.size(), Some(start.clone()));
        Self::begin(First { checkpoint, kind: Kind::Range { start, until, proof } }, reached, next, out)
    }

    /// Begins a bundle of some entries, and appends its first line to `out`.
    ///
    /// # Errors
    ///
    /// If the line cannot be made.
    pub fn selection(checkpoint: NotedCheckpoint, out: &mut Vec<u8>) -> Result<Self, LedgerError> {
        Self::begin(First { checkpoint, kind: Kind::Selection }, None, 0, out)
    }

    /// Begins a bundle of all entries of a workspace before a seal, but those that `start` is over, and appends its first line to
    /// `out`. Whoever has an earlier bundle of the workspace knows the root of that tree; otherwise it is the one of no entries.
    ///
    /// # Errors
    ///
    /// If the seal is not the one that its entry declares, or if that entry does not lead to the checkpoint.
    pub fn part(
        checkpoint: NotedCheckpoint,
        part: SealedPart,
        start: Frontier,
        out: &mut Vec<u8>,
    ) -> Result<Self, LedgerError> {
        part.check(checkpoint.checkpoint())?;
        let (part, reached) = (Box::new(part), Some(start.clone()));
        Self::begin(First { checkpoint, kind: Kind::Part { part, start } }, reached, 0, out)
    }

    fn begin(
        first: First,
        reached: Option<Frontier>,
        next: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self, LedgerError> {
        let mut writer = Self { first, reached, next, entries: 0, hash: Sha256::new() };
        let begin = out.len();
        writer.first.write(out)?;
        writer.add_bytes(out, begin);
        Ok(writer)
    }

    /// Appends the line of an entry to `out`. `path` is that of the entry, and none for a range or a part.
    ///
    /// # Errors
    ///
    /// If the entry is not the next one of a range, or not after the others of a selection or a part; if it does not lead to the
    /// checkpoint.
    pub fn entry(
        &mut self,
        seq: u64,
        opening: &Opening,
        path: &[Hash],
        out: &mut Vec<u8>,
    ) -> Result<(), LedgerError> {
        self.add(seq, &opening.leaf().hash(), path)?;
        let fields = Some(opening.to_items());
        self.line(&Line { seq, fields, leaf: None, path: self.path(path), entry: None }, out)
    }

    /// Appends the line of an entry of which only the hash of its leaf is left.
    ///
    /// # Errors
    ///
    /// The same as those of [`entry`](Self::entry).
    pub fn leaf(
        &mut self,
        seq: u64,
        leaf: &Hash,
        path: &[Hash],
        out: &mut Vec<u8>,
    ) -> Result<(), LedgerError> {
        self.add(seq, leaf, path)?;
        let leaf = Some(STANDARD.encode(leaf));
        self.line(&Line { seq, fields: None, leaf, path: self.path(path), entry: None }, out)
    }

    /// Appends the last line, and returns the number of entries.
    ///
    /// # Errors
    ///
    /// If entries of a range or a part are missing, or if they do not lead to the checkpoint.
    pub fn end(self, out: &mut Vec<u8>) -> Result<u64, LedgerError> {
        let checkpoint = self.first.checkpoint.checkpoint();
        match (&self.first.kind, &self.reached) {
            (Kind::Range { until, proof, .. }, Some(reached)) => {
                if reached.size() != *until {
                    return Err(malformed(format!("it ends at {}, and not at {until}", reached.size())));
                }
                verify_consistency(*until, checkpoint.size(), proof, &reached.root(), checkpoint.root())?;
            }
            (Kind::Part { part, .. }, Some(reached)) => part.is_all(reached)?,
            _ => {}
        }
        write(&Last { entries: self.entries, sha256: hex(&self.hash) }, out)?;
        Ok(self.entries)
    }

    fn add(&mut self, seq: u64, leaf: &Hash, path: &[Hash]) -> Result<(), LedgerError> {
        let checkpoint = self.first.checkpoint.checkpoint();
        let is_range = matches!(self.first.kind, Kind::Range { .. });
        if is_range && seq != self.next {
            return Err(malformed(format!("entry {} follows, and not {seq}", self.next)));
        }
        if seq < self.next {
            return Err(malformed(format!("entry {seq} is not in the order of the numbers")));
        }
        match &mut self.reached {
            Some(reached) if is_range => reached.push(*leaf),
            Some(part) => part.push(part_leaf(seq, leaf)),
            None => verify_inclusion(leaf, seq, checkpoint.size(), path, checkpoint.root())
                .map_err(|error| error.of_entry(seq))?,
        }
        (self.next, self.entries) = (seq.saturating_add(1), self.entries + 1);
        Ok(())
    }

    fn path(&self, path: &[Hash]) -> Option<Vec<String>> {
        (self.first.kind == Kind::Selection).then(|| spelled(path))
    }

    fn line(&mut self, line: &Line, out: &mut Vec<u8>) -> Result<(), LedgerError> {
        let begin = out.len();
        write(line, out)?;
        self.add_bytes(out, begin);
        Ok(())
    }

    fn add_bytes(&mut self, out: &[u8], begin: usize) {
        self.hash.update(out.get(begin..).unwrap_or_default());
    }
}

/// The hash of what was hashed so far, in hexadecimal digits.
pub(super) fn hex(hash: &Sha256) -> String {
    let digest = hash.clone().finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
