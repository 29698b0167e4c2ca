//! The lines of a file that proves many entries: a first line, a line for each entry, a last line.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    entry_proof::hash_of,
    frontier::Frontier,
    hash::Hash,
    ledger_error::LedgerError,
    noted::NotedCheckpoint,
    opening::{Item, Opening},
    part::SealedPart,
    seal::{Blind, Seal},
};

const VERSION: &str = "bundle@v1";

/// The beginning of the last line, which distinguishes it from the lines of entries.
pub(super) const LAST: &str = "{\"entries\":";

pub(super) fn malformed(problem: impl Into<String>) -> LedgerError {
    let problem: String = problem.into();
    LedgerError::malformed("bundle", problem)
}

/// The entries that a bundle proves, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All entries of a range: they lead from the right edge of the tree before them to that of the tree after them.
    Range {
        start: Frontier,
        until: u64,
        /// The proof that the tree of the checkpoint begins with the tree of `until` entries.
        proof: Vec<Hash>,
    },
    /// Some entries, each with a path of its own.
    Selection,
    /// All entries of a workspace before a seal, but those that `start` is over: they lead from that tree to the one that was sealed.
    Part { part: Box<SealedPart>, start: Frontier },
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) checkpoint: NotedCheckpoint,
    pub(super) kind: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstText {
    #[serde(rename = "tracing-audit")]
    version: String,
    kind: String,
    origin: String,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workspace: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<SealText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<SealedText>,
}

/// The place of a workspace in a seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealText {
    root: String,
    size: u64,
    index: u64,
    path: Vec<String>,
    blind: String,
}

/// The entry that declares a seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedText {
    seq: u64,
    fields: Vec<Item>,
    path: Vec<String>,
}

/// The line of an entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fields: Option<Vec<Item>>,
    /// The hash of the leaf, where nothing else is left or shown of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) leaf: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<Vec<String>>,
    /// The entry spelled for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) entry: Option<Value>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    pub(super) entries: u64,
    /// The SHA-256 of all bytes before this line, in hexadecimal digits.
    pub(super) sha256: String,
}

/// Appends a value as one line of JSON.
pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), LedgerError> {
    serde_json::to_writer(&mut *out, value).map_err(|error| malformed(error.to_string()))?;
    out.push(b'\n');
    Ok(())
}

pub(super) fn spelled(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| STANDARD.encode(hash)).collect()
}

/// Reads hashes, which the error calls by this name.
pub(super) fn hashes_of(texts: &[String], what: &str) -> Result<Vec<Hash>, LedgerError> {
    let hash = |text: &String| {
        hash_of(text).ok_or_else(|| malformed(format!("a hash of its {what} is not 32 bytes in base64")))
    };
    texts.iter().map(hash).collect()
}

impl First {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), LedgerError> {
        let text = FirstText {
            version: VERSION.to_owned(),
            kind: "selection".to_owned(),
            origin: self.checkpoint.checkpoint().origin().to_string(),
            checkpoint: self.checkpoint.to_string(),
            from: None,
            until: None,
            start: None,
            proof: None,
            workspace: None,
            entries: None,
            seal: None,
            sealed: None,
        };
        let text = match &self.kind {
            Kind::Selection => text,
            Kind::Part { part, start } => FirstText {
                kind: "part".to_owned(),
                from: Some(start.size()),
                until: Some(part.seal.until),
                start: Some(spelled(start.peaks())),
                workspace: Some(part.workspace),
                entries: Some(part.entries),
                seal: Some(SealText {
                    root: STANDARD.encode(part.seal.root),
                    size: part.seal.workspaces,
                    index: part.index,
                    path: spelled(&part.path),
                    blind: STANDARD.encode(part.blind),
                }),
                sealed: Some(SealedText {
                    seq: part.seq,
                    fields: part.opening.to_items(),
                    path: spelled(&part.path_of_seal),
                }),
                ..text
            },
            Kind::Range { start, until, proof } => FirstText {
                kind: "range".to_owned(),
                from: Some(start.size()),
                until: Some(*until),
                start: Some(spelled(start.peaks())),
                proof: Some(spelled(proof)),
                ..text
            },
        };
        write(&text, out)
    }

    pub(super) fn read(line: &str) -> Result<Self, LedgerError> {
        let text: FirstText = serde_json::from_str(line)
            .map_err(|error| malformed(format!("its first line is not that of a bundle: {error}")))?;
        if text.version != VERSION {
            return Err(malformed(format!("its version is {:?}; this is {VERSION:?}", text.version)));
        }
        let checkpoint: NotedCheckpoint = text.checkpoint.parse()?;
        let origin = checkpoint.checkpoint().origin().as_str();
        if origin != text.origin {
            return Err(malformed(format!(
                "it says that it is of {:?}, and its checkpoint is of {origin:?}",
                text.origin
            )));
        }
        let kind = text.read_kind()?;
        Ok(Self { checkpoint, kind })
    }
}

impl FirstText {
    fn read_kind(self) -> Result<Kind, LedgerError> {
        let of_part = (self.workspace, self.entries, self.seal, self.sealed);
        match (&*self.kind, self.from, self.until, self.start, self.proof, of_part) {
            ("selection", None, None, None, None, (None, None, None, None)) => Ok(Kind::Selection),
            ("range", Some(from), Some(until), Some(start), Some(proof), (None, None, None, None)) => {
                let start = frontier(from, &start)?;
                if until < from {
                    return Err(malformed(format!("it begins at {from}, which is after its end, {until}")));
                }
                Ok(Kind::Range { start, until, proof: hashes_of(&proof, "proof")? })
            }
            (
                "part",
                Some(from),
                Some(until),
                Some(start),
                None,
                (Some(workspace), Some(entries), Some(seal), Some(sealed)),
            ) => {
                let part = part(workspace, entries, until, &seal, sealed)?;
                Ok(Kind::Part { part: Box::new(part), start: frontier(from, &start)? })
            }
            ("selection" | "range" | "part", ..) => Err(malformed(format!(
                "its first line has other members than those of the kind {:?}",
                self.kind
            ))),
            (kind, ..) => Err(malformed(format!(
                "it is of the kind {kind:?}, which this version does not know: there are \"range\", \"selection\" and \"part\""
            ))),
        }
    }
}

fn frontier(size: u64, peaks: &[String]) -> Result<Frontier, LedgerError> {
    Frontier::from_bytes(size, hashes_of(peaks, "start")?.as_flattened())
}

fn part(
    workspace: Uuid,
    entries: u64,
    until: u64,
    seal: &SealText,
    sealed: SealedText,
) -> Result<SealedPart, LedgerError> {
    let root =
        hash_of(&seal.root).ok_or_else(|| malformed("the root of its seal is not 32 bytes in base64"))?;
    let blind = STANDARD.decode(&seal.blind).ok().and_then(|bytes| Blind::try_from(bytes).ok());
    Ok(SealedPart {
        workspace,
        entries,
        seal: Seal { until, workspaces: seal.size, root },
        index: seal.index,
        path: hashes_of(&seal.path, "seal")?,
        blind: blind.ok_or_else(|| malformed("the blind of its seal is not 16 bytes in base64"))?,
        seq: sealed.seq,
        opening: Opening::of_items(sealed.fields)?,
        path_of_seal: hashes_of(&sealed.path, "sealed entry")?,
    })
}
