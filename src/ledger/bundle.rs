//! The lines of a file that proves many entries: a first line, a line for each entry, a last line.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    entry_proof::hash_of, frontier::Frontier, hash::Hash, ledger_error::LedgerError, noted::NotedCheckpoint,
    opening::Item,
};

const VERSION: &str = "bundle@v1";

/// The beginning of the last line, by which it is told from the lines of entries.
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
        };
        let text = match &self.kind {
            Kind::Selection => text,
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
        let kind = match (&*text.kind, text.from, text.until, text.start, text.proof) {
            ("selection", None, None, None, None) => Kind::Selection,
            ("range", Some(from), Some(until), Some(start), Some(proof)) => {
                let peaks = hashes_of(&start, "start")?;
                let start = Frontier::from_bytes(from, peaks.as_flattened())?;
                if until < from {
                    return Err(malformed(format!("it begins at {from}, which is after its end, {until}")));
                }
                Kind::Range { start, until, proof: hashes_of(&proof, "proof")? }
            }
            ("selection" | "range", ..) => {
                return Err(malformed(format!(
                    "its first line has other members than those of the kind {:?}",
                    text.kind
                )));
            }
            (kind, ..) => {
                return Err(malformed(format!(
                    "it is of the kind {kind:?}, which this version does not know: there are \"range\" and \"selection\""
                )));
            }
        };
        Ok(Self { checkpoint, kind })
    }
}
