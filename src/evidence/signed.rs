//! Signed checkpoints, held against the keys that are trusted.

use super::{
    anchor::Anchor,
    finding::{Finding, FindingKind},
    verification::Verification,
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, LedgerError, Note, Trust};

impl Verification {
    /// Verifies against a signed checkpoint too, if its signatures are those that `trust` asks for. If they are not,
    /// that is a finding, and the ledger is not held against it.
    ///
    /// ```
    /// use tracing_audit::{evidence::Verification, ledger::{Note, Origin, PrivateKey, Trust}};
    ///
    /// let key = PrivateKey::from_seed(Origin::new("audit.example.com/payments")?, [7; 32]);
    /// let text = "audit.example.com/payments\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    /// let note = Note::new(text, &format!("{}\n", key.sign_text(text)?))?;
    ///
    /// let trust = Trust::in_key(key.verifier());
    /// let verification = Verification::of_itself().and_signed(&note, &trust)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) if the text of the note is no checkpoint.
    pub fn and_signed(mut self, note: &Note, trust: &Trust) -> Result<Self, AuditError> {
        match trust.open(note) {
            Ok(opened) => return Ok(self.and(opened.checkpoint().clone())),
            Err(cause) => self.refused.push(finding(note, &cause)?),
        }
        Ok(self)
    }

    /// With the finding [`FindingKind::UnknownKey`] that this checkpoint has no signature, and is not believed. The ledger is not held
    /// against it. It is for whoever believes signed checkpoints only, and is given another one.
    pub fn and_unsigned(mut self, anchor: &Anchor) -> Self {
        let size = anchor.size();
        let text = format!(
            "the checkpoint of {size} entries is not believed: no key that is trusted has signed it, because it is not signed"
        );
        self.refused.push(Finding::new(FindingKind::UnknownKey, size..size, text));
        self
    }
}

/// The finding that a checkpoint is not signed as it must be.
fn finding(note: &Note, cause: &LedgerError) -> Result<Finding, AuditError> {
    let kind = match cause {
        LedgerError::BadSignature { .. } => FindingKind::BadSignature,
        LedgerError::UnknownKey { .. } => FindingKind::UnknownKey,
        LedgerError::KeyOutOfInterval { .. } => FindingKind::KeyOutOfInterval,
        LedgerError::Unwitnessed { .. } => FindingKind::Unsigned,
        malformed => {
            let message = format!("not a checkpoint that can be verified against: {malformed}");
            return Err(AuditError::new(ErrorKind::Config, message));
        }
    };
    let size = note.text().parse::<Checkpoint>().map_or(0, |checkpoint| checkpoint.size());
    Ok(Finding::new(kind, size..size, format!("the checkpoint of {size} entries is not believed: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Origin, PrivateKey};

    #[test]
    fn a_checkpoint_that_is_not_signed_as_it_must_be_is_a_finding_and_no_anchor() {
        let origin = Origin::new("audit.example.com/payments").unwrap();
        let [key, other] = [1, 2].map(|seed| PrivateKey::from_seed(origin.clone(), [seed; 32]));
        let text = format!("{origin}\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
        let line = format!("{}\n", key.sign_text(&text).unwrap());
        let note = Note::new(&text, &line).unwrap();
        let changed = Note::new(&text.replace("\n7\n", "\n8\n"), &line).unwrap();
        let bounded = Trust::lines_of(&key.verifier(), 8, None) + "quorum none";
        let witnessed = format!("log {}\nwitness w {}\nquorum w", key.verifier(), other.cosigner());
        let said = |note: &Note, trust: &Trust| {
            let verification = Verification::of_itself().and_signed(note, trust).unwrap();
            let kinds: Vec<_> =
                verification.refused.iter().map(|found| (found.kind, found.from, found.until)).collect();
            (verification.anchors.len(), kinds)
        };
        let trust = Trust::in_key(key.verifier());
        let unsigned = Verification::of_itself().and_unsigned(&text.parse().unwrap());
        let kinds: Vec<_> = unsigned.refused.iter().map(|found| (found.kind, found.from)).collect();
        assert_eq!((unsigned.anchors.len(), kinds), (0, vec![(FindingKind::UnknownKey, 7)]));
        assert_eq!(said(&note, &trust), (1, vec![]));
        assert_eq!(said(&changed, &trust), (0, vec![(FindingKind::BadSignature, 8, 8)]));
        assert_eq!(said(&note, &Trust::in_key(other.verifier())), (0, vec![(FindingKind::UnknownKey, 7, 7)]));
        assert_eq!(said(&note, &bounded.parse().unwrap()), (0, vec![(FindingKind::KeyOutOfInterval, 7, 7)]));
        assert_eq!(said(&note, &witnessed.parse().unwrap()), (0, vec![(FindingKind::Unsigned, 7, 7)]));
        let no_checkpoint = Note::new("a note\n", &line).unwrap();
        let error = Verification::of_itself().and_signed(&no_checkpoint, &trust).unwrap_err();
        assert!(error.is_config() && error.to_string().contains("malformed checkpoint"), "{error}");
    }
}
