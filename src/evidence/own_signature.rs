//! Finds out whether a notary itself has signed a checkpoint that is kept under its name.

use crate::ledger::NotedCheckpoint;
#[cfg(feature = "signing")]
use crate::ledger::VerifierKey;

/// The problem with the signatures of a checkpoint that one of these keys must have signed. `None` if there is none.
/// Keys that are not verifier keys of this crate are passed over. Without other keys nothing is verified.
#[cfg(feature = "signing")]
pub(super) fn problem_of(noted: &NotedCheckpoint, keys: &[String]) -> Option<String> {
    let known: Vec<VerifierKey> = keys.iter().filter_map(|key| key.parse().ok()).collect();
    if known.is_empty() {
        return None;
    }
    let Some(note) = noted.note() else { return Some("it is not signed".to_owned()) };
    let mut is_signed = false;
    for signature in note.signatures() {
        for key in known.iter().filter(|key| key.is_named_by(signature)) {
            if let Err(error) = key.verify(note.text(), signature) {
                return Some(error.to_string());
            }
            is_signed = true;
        }
    }
    if is_signed { None } else { Some("none of the keys that sign now has signed it".to_owned()) }
}

/// Without the feature `signing` nothing is verified.
#[cfg(not(feature = "signing"))]
pub(super) fn problem_of(_noted: &NotedCheckpoint, _keys: &[String]) -> Option<String> {
    None
}
