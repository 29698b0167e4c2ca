//! Signed notes: a text, and signatures on it, a line each.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::ledger_error::LedgerError;

/// The most bytes and the most signatures of a note that is read.
const MOST_BYTES: usize = 1_000_000;
const MOST_SIGNATURES: usize = 100;

/// Begins the line of a signature.
const DASH: &str = "\u{2014} ";

/// A text that keys have signed: a signed note of the [C2SP](https://c2sp.org/signed-note).
///
/// The signatures are read, and not verified: the text is worth nothing before they are. For a checkpoint, `Trust` of the feature
/// `signing` verifies them. `Display` and `FromStr` are the text, an empty line, and a line for each signature.
///
/// ```
/// use tracing_audit::ledger::Note;
///
/// let note: Note = "an example\n\n\u{2014} example.com/a AAAAAAA=\n".parse()?;
/// assert_eq!(note.text(), "an example\n");
/// assert_eq!(note.signatures()[0].name(), "example.com/a");
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature of a [`Note`].
///
/// `Display` and `FromStr` are its line without the line feed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

fn malformed(problem: impl Into<String>) -> LedgerError {
    LedgerError::malformed("signed note", problem.into())
}

/// The problem of the name of a key, if it has one.
pub(super) fn problem_of_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name of a key is empty".to_owned());
    }
    let wrong = name.chars().find(|c| c.is_whitespace() || *c == '+')?;
    Some(format!("the name {name:?} of a key contains {wrong:?}"))
}

impl Note {
    /// A note of this text, which ends with a line feed, and of these lines with signatures on it, such as a [`Signer`](super::Signer)
    /// gives them.
    ///
    /// # Errors
    ///
    /// If the text does not end with a line feed, has control characters, or there is no line, or one is malformed.
    pub fn new(text: &str, lines: &str) -> Result<Self, LedgerError> {
        if !text.ends_with('\n') {
            return Err(malformed("its text does not end with a line feed"));
        }
        let note: Self = [text, "\n", lines].concat().parse()?;
        if note.text == text {
            Ok(note)
        } else {
            Err(malformed("there is an empty line between its signatures"))
        }
    }

    /// The text, with the line feed at its end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in the order of their lines. There is at least one.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for Note {
    type Err = LedgerError;

    /// Reads a note. The line feed after the last line may be missing, as it is after `$(cat FILE)` in a shell.
    fn from_str(note: &str) -> Result<Self, LedgerError> {
        if note.len() > MOST_BYTES {
            return Err(malformed(format!("it has more than {MOST_BYTES} bytes")));
        }
        match note.chars().find(|c| *c < ' ' && *c != '\n') {
            None => {}
            Some('\r') => {
                return Err(malformed("its lines end with a carriage return: save it with line feeds alone"));
            }
            Some(wrong) => return Err(malformed(format!("it contains the control character {wrong:?}"))),
        }
        let (text, lines) = note
            .rsplit_once("\n\n")
            .ok_or_else(|| malformed("it has no signatures, which are lines after an empty one"))?;
        let lines: Vec<&str> = lines.strip_suffix('\n').unwrap_or(lines).split('\n').collect();
        if lines.len() > MOST_SIGNATURES {
            return Err(malformed(format!("it has more than {MOST_SIGNATURES} signatures")));
        }
        let signatures = lines.into_iter().map(str::parse::<NoteSignature>).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text: [text, "\n"].concat(), signatures })
    }
}

impl NoteSignature {
    /// A signature by the key of this name: the four bytes of the key's id, and then what the key has made of the text.
    ///
    /// # Errors
    ///
    /// If the name is empty or has white space or a `+`, or if nothing follows the id.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, LedgerError> {
        if let Some(problem) = problem_of_name(name) {
            return Err(malformed(problem));
        }
        match bytes.split_first_chunk() {
            Some((key_id, rest)) if !rest.is_empty() => {
                Ok(Self { name: name.to_owned(), key_id: *key_id, bytes: rest.to_vec() })
            }
            _ => Err(malformed(format!("the signature of {name:?} is cut off"))),
        }
    }

    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key, which distinguishes the keys of one name.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The bytes after the id of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The id of the key and the bytes after it, as the line has them in base64.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key_id[..], &self.bytes].concat()
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(self.to_bytes()))
    }
}

impl FromStr for NoteSignature {
    type Err = LedgerError;

    fn from_str(line: &str) -> Result<Self, LedgerError> {
        let parts = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' '));
        let (name, signature) = parts.ok_or_else(|| {
            malformed(format!(
                "{line:?} is no signature, which is an em dash, the name of a key, and base64, with spaces between them"
            ))
        })?;
        let bytes = STANDARD.decode(signature).map_err(|_| {
            malformed(format!("the signature of {name:?} is not base64, or not all of it is there"))
        })?;
        Self::from_bytes(name, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "\u{2014} example.com/a AAAAAAA=\n";

    #[test]
    fn a_note_is_read_and_one_that_is_none_says_why() {
        for (text, lines) in
            [("a\n", 1), ("\n", 1), ("a\n\nb\n", 2), ("a\n\n", 1), ("\u{2014} a AAAAAAA=\n", 3)]
        {
            let written = [text, "\n", &LINE.repeat(lines)].concat();
            let note: Note = written.parse().unwrap();
            assert_eq!((note.text(), note.signatures().len()), (text, lines));
            assert_eq!(note.to_string(), written);
            assert_eq!(written.trim_end().parse(), Ok(note.clone()));
            assert_eq!(Note::new(text, &LINE.repeat(lines)), Ok(note));
        }
        let sixteen = ["a\n\n", &LINE.repeat(16)].concat();
        assert_eq!(sixteen.parse::<Note>().unwrap().signatures().len(), 16);
        for (wrong, why) in [
            (String::new(), "no signatures"),
            ("a\n".into(), "no signatures"),
            (LINE.into(), "no signatures"),
            (["a\n", LINE].concat(), "no signatures"),
            ("a\n\n".into(), "is no signature"),
            (["a\n\n", LINE, "\n"].concat(), "is no signature"),
            (["a\n\n", LINE, "b\n"].concat(), "\"b\" is no signature"),
            (["a\n\n", &LINE.replace('\u{2014}', "-")].concat(), "is no signature"),
            (["a\n\n", &LINE.replace("example.com/a ", "")].concat(), "is no signature"),
            (["a\n\n", &LINE.replace("example.com/a", "")].concat(), "the name of a key is empty"),
            (["a\n\n", &LINE.replace('/', "+")].concat(), "contains '+'"),
            (["a\n\n", &LINE.replace('/', "\u{2003}")].concat(), "contains '\\u{2003}'"),
            (["a\n\n", &LINE.replace("AAAAAAA=", "AAAA")].concat(), "is cut off"),
            (["a\n\n", &LINE.replace("AAAAAAA=", "AAAAAA==")].concat(), "is cut off"),
            (["a\n\n", &LINE.replace("AAAAAAA=", "AAAAAAA")].concat(), "not base64"),
            (["a\n\n", &LINE.replace("AAAAAAA=", "AAAAAAB=")].concat(), "not base64"),
            (["a\n\n", &LINE.replace(" AAAA", "  AAAA")].concat(), "not base64"),
            (["a\r\n\r\n", LINE].concat(), "carriage return"),
            (["a\tb\n\n", LINE].concat(), "the control character '\\t'"),
            (["a\n\n", &LINE.repeat(101)].concat(), "more than 100 signatures"),
            (["a".repeat(1_000_001), "\n\n".into(), LINE.into()].concat(), "more than 1000000 bytes"),
        ] {
            let error = wrong.parse::<Note>().unwrap_err().to_string();
            assert!(error.contains(why), "{:?}: {error}", wrong.get(..80).unwrap_or(&wrong));
        }
        for (text, lines, why) in [
            ("a", LINE, "does not end with a line feed"),
            ("a\n", "", "is no signature"),
            ("a\n", &*[LINE, "\n", LINE].concat(), "an empty line between its signatures"),
        ] {
            let error = Note::new(text, lines).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?} {lines:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            text in "[a-z\u{2014} \n]{0,20}\n", name in "[a-z\u{2014}/.]{1,8}", bytes in prop::collection::vec(any::<u8>(), 5..80),
        ) {
            let signature = NoteSignature::from_bytes(&name, &bytes).unwrap();
            prop_assert_eq!(signature.to_bytes(), bytes);
            let note = Note::new(&text, &format!("{signature}\n{signature}\n")).unwrap();
            prop_assert_eq!(note.text(), text);
            prop_assert_eq!(note.signatures(), &[signature.clone(), signature]);
            prop_assert_eq!(note.to_string().parse(), Ok(note));
        }

        #[test]
        fn what_is_read_is_written_again(any: String, near in "[a-z\n]{0,4}\n\n(\u{2014} [a+]{1,3} [A-D]{4,8}={0,2}\n?){0,3}") {
            for text in [any, near] {
                if let Ok(note) = text.parse::<Note>() {
                    prop_assert_eq!(note.to_string(), format!("{}\n", text.trim_end_matches('\n')));
                }
            }
        }
    }
}
