//! `VerifyState`: how far earlier runs have come.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Frontier, Origin};

/// The progress of verification, and its findings: the next run begins there, and reports the findings again. It is a
/// size and a root from outside itself, so it is worth as much as the place where it is kept.
///
/// A run that is given a state leaves one that continues it: it moves on only with a ledger that leads through it, and otherwise
/// stays where it was. A finding that the ledger was cut off or replaced is never forgotten. To start again, begin
/// without a state.
///
/// `Display` and `FromStr` are JSON on one line: `{"origin":..,"size":..,"frontier":..,"findings":[..]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyState {
    pub(super) origin: Option<Origin>,
    pub(super) frontier: Frontier,
    pub(super) findings: Vec<Finding>,
}

impl VerifyState {
    /// The number of entries that were verified.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The findings among them.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    origin: Option<String>,
    size: u64,
    frontier: String,
    findings: Vec<Finding>,
}

impl fmt::Display for VerifyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Text {
            origin: self.origin.as_ref().map(ToString::to_string),
            size: self.frontier.size(),
            frontier: STANDARD.encode(self.frontier.to_bytes()),
            findings: self.findings.clone(),
        };
        f.write_str(&serde_json::to_string(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for VerifyState {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        let malformed = |why: String| {
            let message = format!("not a state of verification: {why}; remove it to begin again");
            AuditError::new(ErrorKind::Config, message)
        };
        let text: Text = serde_json::from_str(text).map_err(|cause| malformed(cause.to_string()))?;
        let bytes = STANDARD.decode(&text.frontier).map_err(|cause| malformed(cause.to_string()))?;
        let frontier =
            Frontier::from_bytes(text.size, &bytes).map_err(|cause| malformed(cause.to_string()))?;
        let origin = text.origin.map(Origin::new).transpose();
        let origin = origin.map_err(|cause| malformed(cause.to_string()))?;
        Ok(Self { origin, frontier, findings: text.findings })
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::FindingKind;
    use super::*;
    use crate::ledger::leaf_hash;

    #[test]
    fn a_state_is_read_as_it_was_written_and_a_malformed_one_says_why() {
        let mut frontier = Frontier::new();
        (0..5_u8).for_each(|n| frontier.push(leaf_hash(&[n])));
        let findings = vec![
            Finding::at(FindingKind::Added, -1, "a row"),
            Finding { belongs_at: Some(3), ..Finding::at(FindingKind::Moved, 2, "it") },
        ];
        let state = VerifyState { origin: Some(Origin::new("a.b/c").unwrap()), frontier, findings };
        let text = state.to_string();
        assert!(
            !text.contains('\n') && text.starts_with(r#"{"origin":"a.b/c","size":5,"frontier":""#),
            "{text}"
        );
        assert_eq!(text.parse::<VerifyState>().unwrap(), state);
        for (wrong, why) in [
            (String::new(), "EOF"),
            (text.replace("\"size\":5", "\"size\":6"), ""),
            (
                text.replace("\"size\":5", "\"size\":7"),
                "the frontier of 7 leaves has 96 bytes, and this one has 64",
            ),
            (text.replace("a.b/c", "a b"), "contains ' '"),
            (text.replace("\"size\"", "\"sizes\""), "unknown field"),
            (text.replace("\"frontier\":\"", "\"frontier\":\"*"), "Invalid symbol"),
        ] {
            match wrong.parse::<VerifyState>() {
                // A size with as many one-bits has a frontier of the same length: the root is another.
                Ok(read) => assert_eq!((why, read.size()), ("", 6)),
                Err(error) => assert!(
                    error.is_config()
                        && error.to_string().contains(why)
                        && error.to_string().contains("begin again"),
                    "{error}"
                ),
            }
        }
    }
}
