//! A checkpoint with its signatures, if it has any.

use std::{fmt, str::FromStr};

use super::{
    checkpoint::Checkpoint,
    ledger_error::LedgerError,
    note::{Note, NoteSignature},
};

/// A checkpoint as it stands in a file: its three lines and, after an empty one, the lines of its signatures, if it has any.
///
/// The signatures are read, and not verified.
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
}
