//! Verifies a file that proves many entries, line by line.

use std::{fmt, ops::Range};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    bundle::{First, Kind, LAST, Last, Line, hashes_of, malformed},
    bundle_writer::hex,
    entry_proof::hash_of,
    frontier::Frontier,
    ledger_error::LedgerError,
    noted::{NotedCheckpoint, Trusts},
    opening::Opening,
    part::{PartEnd, SealedPart},
    proof::{verify_consistency, verify_inclusion},
    proven::{ProvenEntry, Shown},
    seal::part_leaf,
};

/// Verifies a bundle, line by line: [`BundleWriter`](super::BundleWriter) says what that is. Memory is constant.
///
/// ```
/// use tracing_audit::ledger::{AsGiven, BundleVerifier};
///
/// fn verify(mut bundle: impl std::io::BufRead) -> Result<u64, Box<dyn std::error::Error>> {
///     let mut line = Vec::new();
///     bundle.read_until(b'\n', &mut line)?;
///     let mut verifier = BundleVerifier::begin(&line, &AsGiven)?;
///     loop {
///         line.clear();
///         if bundle.read_until(b'\n', &mut line)? == 0 {
///             return Ok(verifier.finish()?.entries());
///         }
///         if let Some(entry) = verifier.take(&line)? {
///             println!("{}", entry.seq);
///         }
///     }
/// }
/// # assert!(verify(&b""[..]).is_err());
/// ```
pub struct BundleVerifier {
    first: First,
    /// The tree until the entry that comes next, of a range or of a part.
    reached: Option<Frontier>,
    /// The number that the next entry has at least.
    next: u64,
    entries: u64,
    /// The number of the line that was taken last.
    line: u64,
    hash: Sha256,
    has_ended: bool,
}

/// A bundle that holds: see [`BundleVerifier`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBundle {
    checkpoint: NotedCheckpoint,
    entries: u64,
    range: Option<Range<u64>>,
    part: Option<VerifiedPart>,
}

/// The facts that a bundle with all entries of a workspace proves: see [`VerifiedBundle::part`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedPart {
    /// The workspace.
    pub workspace: Uuid,
    /// The entries are all that the workspace had before the entry with this number. What came since is not proven.
    pub until: u64,
    /// The number of the entry that declares the seal.
    pub sealed_by: u64,
    /// The entries that are left out, because an earlier bundle had them, as [`continues`](Self::continues) verifies. Their number is 0
    /// if the bundle has all.
    pub start: PartEnd,
    /// All entries of the workspace. Its owner keeps it for the next bundle.
    pub end: PartEnd,
}

impl VerifiedPart {
    /// Checks that the bundle leaves out what an earlier one had, and nothing else.
    ///
    /// # Errors
    ///
    /// [`LedgerError::NotAsSealed`] if the entries that are left out are not those. Another error if it leaves out more or fewer.
    pub fn continues(&self, earlier: &PartEnd) -> Result<(), LedgerError> {
        if self.start.entries != earlier.entries {
            return Err(malformed(format!(
                "it leaves out the first {} entries of the workspace, and the earlier one ends after {}",
                self.start.entries, earlier.entries
            )));
        }
        if self.start == *earlier { Ok(()) } else { Err(LedgerError::NotAsSealed) }
    }
}

impl VerifiedBundle {
    /// The checkpoint by which it holds.
    #[must_use]
    pub fn checkpoint(&self) -> &NotedCheckpoint {
        &self.checkpoint
    }

    /// The number of its entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The numbers of its entries if it has all entries of a range, so that none in between was left out. `None` if it has some
    /// entries.
    #[must_use]
    pub fn range(&self) -> Option<&Range<u64>> {
        self.range.as_ref()
    }

    /// The facts that the bundle proves of a workspace, if it has all entries of one before a seal, so that none was
    /// left out. `None` if it is a bundle of another kind.
    ///
    /// The seal was made by whoever runs the ledger: it shows what is withheld later, and not what was not recorded.
    #[must_use]
    pub fn part(&self) -> Option<&VerifiedPart> {
        self.part.as_ref()
    }
}

impl fmt::Debug for BundleVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleVerifier")
            .field("first", &self.first)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl BundleVerifier {
    /// Begins with the first line, with its line feed.
    ///
    /// # Errors
    ///
    /// If it is none, if the checkpoint is not trusted, or if the seal of a part does not lead to it.
    pub fn begin(line: &[u8], trusts: &(impl Trusts + ?Sized)) -> Result<Self, LedgerError> {
        if line.is_empty() {
            return Err(malformed("it is empty"));
        }
        let first = First::read(text_of(line, 1)?)?;
        trusts.trusts(&first.checkpoint)?;
        let (reached, next) = match &first.kind {
            Kind::Range { start, .. } => (Some(start.clone()), start.size()),
            Kind::Selection => (None, 0),
            Kind::Part { part, start } => {
                part.check(first.checkpoint.checkpoint())?;
                (Some(start.clone()), 0)
            }
        };
        let mut hash = Sha256::new();
        hash.update(line);
        Ok(Self { first, reached, next, entries: 0, line: 1, hash, has_ended: false })
    }

    /// The checkpoint that the bundle brings along.
    #[must_use]
    pub fn checkpoint(&self) -> &NotedCheckpoint {
        &self.first.checkpoint
    }

    /// Takes the next line, with its line feed, and returns the entry that it shows; `None` for the last line.
    ///
    /// The entries of a selection are proven then. Those of a range or a part are proven once [`finish`](Self::finish) has
    /// returned without an error: whoever shows them before must say so.
    ///
    /// # Errors
    ///
    /// If the line is none of a bundle, or if its entry does not hold. Then the bundle does not.
    pub fn take(&mut self, line: &[u8]) -> Result<Option<ProvenEntry>, LedgerError> {
        self.line += 1;
        let text = text_of(line, self.line)?;
        if self.has_ended {
            return Err(malformed(format!("line {} follows its last line", self.line)));
        }
        if text.starts_with(LAST) {
            self.last(text)?;
            return Ok(None);
        }
        self.hash.update(line);
        let read: Line = serde_json::from_str(text)
            .map_err(|error| malformed(format!("line {} is not that of an entry: {error}", self.line)))?;
        self.entry(read).map(Some)
    }

    /// Ends with the bundle, after its last line.
    ///
    /// # Errors
    ///
    /// If it is cut off, or if its entries do not lead to the checkpoint.
    pub fn finish(self) -> Result<VerifiedBundle, LedgerError> {
        if !self.has_ended {
            return Err(malformed(format!(
                "it is cut off after line {}: its last line is missing",
                self.line
            )));
        }
        let (mut range, mut of_part) = (None, None);
        match (self.first.kind, self.reached) {
            (Kind::Range { start, until, .. }, _) => range = Some(start.size()..until),
            (Kind::Part { part, start }, Some(reached)) => {
                of_part = Some(VerifiedPart {
                    workspace: part.workspace,
                    until: part.seal.until,
                    sealed_by: part.seq,
                    start: PartEnd::of(&start),
                    end: PartEnd::of(&reached),
                });
            }
            _ => {}
        }
        let (checkpoint, entries) = (self.first.checkpoint, self.entries);
        Ok(VerifiedBundle { checkpoint, entries, range, part: of_part })
    }

    fn entry(&mut self, line: Line) -> Result<ProvenEntry, LedgerError> {
        let seq = line.seq;
        let of_entry = |error: LedgerError| error.of_entry(seq);
        let wrong = |problem: &str| malformed(problem).of_entry(seq);
        let (leaf, proven) = match (line.fields, line.leaf) {
            (Some(fields), None) => {
                let opening = Opening::of_items(fields).map_err(of_entry)?;
                (opening.leaf().hash(), ProvenEntry::of(seq, &opening).map_err(of_entry)?)
            }
            (None, Some(leaf)) => {
                let leaf = hash_of(&leaf).ok_or_else(|| wrong("its leaf is not 32 bytes in base64"))?;
                (leaf, ProvenEntry::hidden(seq))
            }
            _ => return Err(wrong("it has either fields or the hash of its leaf")),
        };
        let checkpoint = self.first.checkpoint.checkpoint();
        let is_range = matches!(self.first.kind, Kind::Range { .. });
        if !is_range && seq < self.next {
            return Err(wrong("it is not in the order of the numbers"));
        }
        match (&mut self.reached, line.path) {
            (Some(reached), None) if is_range => {
                if seq != self.next {
                    return Err(malformed(format!("entry {} is missing: {seq} follows", self.next)));
                }
                reached.push(leaf);
            }
            (Some(reached), None) => {
                if let Kind::Part { part, .. } = &self.first.kind {
                    belongs(&proven, part).map_err(of_entry)?;
                }
                reached.push(part_leaf(seq, &leaf));
            }
            (None, Some(path)) => {
                let path = hashes_of(&path, "path").map_err(of_entry)?;
                verify_inclusion(&leaf, seq, checkpoint.size(), &path, checkpoint.root())
                    .map_err(of_entry)?;
            }
            (Some(_), Some(_)) => {
                return Err(wrong("it has a path, which an entry of a range or a part has not"));
            }
            (None, None) => return Err(wrong("it has no path to the checkpoint")),
        }
        if let Some(entry) = line.entry
            && serde_json::to_value(&proven).ok() != Some(entry)
        {
            return Err(wrong("what is spelled beside its fields is something else"));
        }
        (self.next, self.entries) = (seq.saturating_add(1), self.entries + 1);
        Ok(proven)
    }

    fn last(&mut self, text: &str) -> Result<(), LedgerError> {
        let last: Last = serde_json::from_str(text)
            .map_err(|error| malformed(format!("its last line, {}, is none: {error}", self.line)))?;
        let checkpoint = self.first.checkpoint.checkpoint();
        if last.entries != self.entries {
            return Err(malformed(format!(
                "it has {} entries, and {} by its last line: some were removed or added",
                self.entries, last.entries
            )));
        }
        match (&self.first.kind, &self.reached) {
            (Kind::Range { until, proof, .. }, Some(reached)) => {
                if reached.size() != *until {
                    return Err(malformed(format!(
                        "it ends at {}, and at {until} by its first line: some entries were removed or added",
                        reached.size()
                    )));
                }
                verify_consistency(*until, checkpoint.size(), proof, &reached.root(), checkpoint.root())?;
            }
            (Kind::Part { part, .. }, Some(reached)) => part.is_all(reached)?,
            _ => {}
        }
        if serde_json::to_string(&last).ok().as_deref() != Some(text) || last.sha256 != hex(&self.hash) {
            return Err(malformed(
                "its bytes are not those that its last line is of: something in it was changed that means the same, or it was \
                 written anew",
            ));
        }
        self.has_ended = true;
        Ok(())
    }
}

/// Whether an entry can be one of the workspace before the seal.
fn belongs(entry: &ProvenEntry, part: &SealedPart) -> Result<(), LedgerError> {
    let until = part.seal.until;
    match &entry.core {
        _ if entry.seq >= until => Err(malformed(format!("the seal is of the entries before {until}"))),
        Shown::Open(core) if core.workspace_id != part.workspace => Err(malformed(format!(
            "it is of the workspace {}, and the bundle is of {}",
            core.workspace_id, part.workspace
        ))),
        Shown::Absent => Err(malformed("its number has no entry, so that it is of no workspace")),
        Shown::Open(_) | Shown::Withheld => Ok(()),
    }
}

/// The line without its line feed.
fn text_of(line: &[u8], number: u64) -> Result<&str, LedgerError> {
    let line = line
        .strip_suffix(b"\n")
        .ok_or_else(|| malformed(format!("it is cut off in line {number}, which has no line feed")))?;
    std::str::from_utf8(line).map_err(|_| malformed(format!("line {number} is not UTF-8")))
}
