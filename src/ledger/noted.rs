//! A checkpoint with its signatures, if it has any, and who decides whether it is trusted.

use std::{fmt, str::FromStr};

use super::{
    checkpoint::Checkpoint,
    hash::Hash,
    ledger_error::LedgerError,
    note::{Note, NoteSignature},
};

/// A checkpoint as it stands in a file: its three lines and, after an empty one, the lines of its signatures, if it has any.
///
/// The signatures are read, and not verified. Whether they are of the right keys, [`Trusts`] decides.
///
/// ```
/// use tracing_audit::ledger::NotedCheckpoint;
///
/// let text = "audit.example.com\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\u{2014} audit.example.com DN6NqwAAAAA=\n";
/// let noted: NotedCheckpoint = text.parse()?;
/// assert_eq!(noted.checkpoint().size(), 7);
/// assert_eq!(noted.signatures()[0].name(), "audit.example.com");
/// assert_eq!(noted.to_string(), text);
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedCheckpoint {
    checkpoint: Checkpoint,
    note: Option<Note>,
}

impl NotedCheckpoint {
    /// The checkpoint without its signatures.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note whose text the checkpoint is. `None` if it has no signatures.
    #[must_use]
    pub fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// The signatures, in the order of their lines. Empty if there are none.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        self.note.as_ref().map(Note::signatures).unwrap_or_default()
    }

    /// Checks that it is the checkpoint with this size and this root.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Untrusted`], which says what differs.
    pub fn is_of(&self, size: u64, root: &Hash) -> Result<(), LedgerError> {
        let found = self.checkpoint.size();
        if found != size {
            return Err(LedgerError::untrusted(format!(
                "the checkpoint in the file is of {found} entries, and the one that is trusted is of {size}: \
                 ask for a proof by that one"
            )));
        }
        if self.checkpoint.root() != root {
            return Err(LedgerError::untrusted(format!(
                "the checkpoint in the file has another root than the one that is trusted, which is of {size} entries \
                 too: the file was changed, or is of another ledger"
            )));
        }
        Ok(())
    }
}

impl From<Checkpoint> for NotedCheckpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, note: None }
    }
}

impl TryFrom<Note> for NotedCheckpoint {
    type Error = LedgerError;

    /// Reads the text of the note. An error if it is no checkpoint.
    fn try_from(note: Note) -> Result<Self, LedgerError> {
        Ok(Self { checkpoint: note.text().parse()?, note: Some(note) })
    }
}

impl fmt::Display for NotedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.note {
            Some(note) => fmt::Display::fmt(note, f),
            None => fmt::Display::fmt(&self.checkpoint, f),
        }
    }
}

impl FromStr for NotedCheckpoint {
    type Err = LedgerError;

    /// Reads the lines. The line feed after the last one may be missing.
    fn from_str(text: &str) -> Result<Self, LedgerError> {
        if text.contains("\n\n") {
            text.parse::<Note>()?.try_into()
        } else {
            text.parse::<Checkpoint>().map(Self::from)
        }
    }
}

/// Decides whether the checkpoint in a file is one to believe.
///
/// A [`Checkpoint`] that was kept elsewhere trusts itself alone. `Trust`, of the feature `signing`, trusts those that are signed by
/// certain keys.
pub trait Trusts {
    /// Returns without an error if the checkpoint is to be believed.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Untrusted`] with the reason, if it is not, or what is wrong with its signatures.
    fn trusts(&self, noted: &NotedCheckpoint) -> Result<(), LedgerError>;
}

impl Trusts for Checkpoint {
    fn trusts(&self, noted: &NotedCheckpoint) -> Result<(), LedgerError> {
        noted.is_of(self.size(), self.root())?;
        let (found, known) = (noted.checkpoint.origin(), self.origin());
        if found == known {
            return Ok(());
        }
        Err(LedgerError::untrusted(format!(
            "the checkpoint in the file is of the ledger {:?}, and the one that is trusted is of {:?}",
            found.as_str(),
            known.as_str()
        )))
    }
}

/// Believes any checkpoint. All else is verified, so the result is as good as the checkpoint that the file brings along, which
/// anybody can make.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsGiven;

impl Trusts for AsGiven {
    fn trusts(&self, _noted: &NotedCheckpoint) -> Result<(), LedgerError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "audit.example.com\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";

    #[test]
    fn signatures_are_kept_as_they_are_and_what_is_no_checkpoint_says_why() {
        let bare: NotedCheckpoint = LINES.parse().unwrap();
        assert!(bare.signatures().is_empty() && bare.note().is_none());
        assert_eq!(bare.to_string(), LINES);
        let line = "\u{2014} audit.example.com DN6NqwAAAAA=\n";
        for count in [1, 3] {
            let text = format!("{LINES}\n{}", line.repeat(count));
            let noted: NotedCheckpoint = text.parse().unwrap();
            assert_eq!((noted.signatures().len(), noted.to_string()), (count, text.clone()));
            assert_eq!(noted.checkpoint(), bare.checkpoint());
            assert_eq!(text.trim_end().parse(), Ok(noted.clone()));
            assert_eq!(NotedCheckpoint::try_from(noted.note().unwrap().clone()), Ok(noted));
        }
        for (wrong, why) in [
            (format!("{LINES}\n"), "is no signature"),
            (format!("{LINES}\n{line}\n"), "is no signature"),
            (format!("{LINES}\n{}", line.replace('\u{2014}', "-")), "is no signature"),
            (format!("{LINES}\n{}", line.replace("DN6NqwAAAAA=", "DN6Nqw==")), "is cut off"),
            (format!("x\n{LINES}\n{line}"), "it has 4 lines in place of 3"),
            (format!("{LINES}x\n"), "it has 4 lines in place of 3"),
            (format!("a note\n\n{line}"), "malformed checkpoint: it is cut off"),
        ] {
            let error = wrong.parse::<NotedCheckpoint>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn another_checkpoint_is_not_trusted_and_what_differs_is_said() {
        let noted: NotedCheckpoint = LINES.parse().unwrap();
        assert_eq!(noted.checkpoint().trusts(&noted), Ok(()));
        assert_eq!(AsGiven.trusts(&noted), Ok(()));
        for (from, to, why) in [
            (
                "audit",
                "other",
                "of the ledger \"audit.example.com\", and the one that is trusted is of \"other",
            ),
            ("\n7\n", "\n8\n", "is of 7 entries, and the one that is trusted is of 8"),
            ("47DEQ", "57DEQ", "another root than the one that is trusted, which is of 7 entries too"),
        ] {
            let trusted: Checkpoint = LINES.replace(from, to).parse().unwrap();
            let error = trusted.trusts(&noted).unwrap_err();
            assert!(matches!(error, LedgerError::Untrusted { .. }));
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
