//! A checkpoint: the size and the root of a ledger's tree, and the three lines that carry them.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    frontier::Frontier, hash::Hash, ledger_error::LedgerError, origin::Origin, subtree::MOST_LEAVES,
};

/// The size and the root of a ledger's tree. Kept outside of the database, it shows any later change of what was in the ledger then.
///
/// Its text is that of a checkpoint of the [C2SP](https://c2sp.org/tlog-checkpoint) without extension lines and without
/// signatures: the origin, the size and the root, a line each, which `Display` writes and `FromStr` reads. It is worth as
/// much as the place where it is kept.
///
/// ```
/// use tracing_audit::ledger::{Checkpoint, Frontier, Origin, leaf_hash};
///
/// let mut frontier = Frontier::new();
/// frontier.push(leaf_hash(b"an entry"));
/// let checkpoint = Checkpoint::of(Origin::new("audit.example.com/payments")?, &frontier);
///
/// let text = checkpoint.to_string();
/// assert!(text.starts_with("audit.example.com/payments\n1\n"));
/// assert_eq!(text.parse::<Checkpoint>()?, checkpoint);
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    origin: Origin,
    size: u64,
    root: Hash,
}

impl Checkpoint {
    /// A checkpoint of a tree.
    ///
    /// # Errors
    ///
    /// If the size is larger than [`MOST_LEAVES`].
    pub fn new(origin: Origin, size: u64, root: Hash) -> Result<Self, LedgerError> {
        if size > MOST_LEAVES { Err(LedgerError::TooLarge { size }) } else { Ok(Self { origin, size, root }) }
    }

    /// The checkpoint of the tree with this frontier.
    #[must_use]
    pub fn of(origin: Origin, frontier: &Frontier) -> Self {
        Self { origin, size: frontier.size(), root: frontier.root() }
    }

    /// The name of the ledger.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The number of entries of the ledger.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree over these entries.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.root
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))
    }
}

impl FromStr for Checkpoint {
    type Err = LedgerError;

    /// Reads the three lines. The line feed after the last one may be missing, as it is after `$(cat FILE)` in a shell.
    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("checkpoint", problem);
        if text.contains('\r') {
            return Err(malformed(
                "its lines end with a carriage return: save it with line feeds alone".into(),
            ));
        }
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
        let [origin, size, root] = *lines else {
            let problem = match &*lines {
                [_, _, _, "", ..] => {
                    "it is signed; give its first three lines alone, which are all that is read of it".into()
                }
                [_, _, _, ..] => format!("it has {} lines in place of 3: origin, size, root", lines.len()),
                _ => {
                    let left = lines.iter().filter(|line| !line.is_empty()).count();
                    format!(
                        "it is cut off: it has {left} of three lines, which are the origin, the size and the root"
                    )
                }
            };
            return Err(malformed(problem));
        };
        let origin = Origin::new(origin)?;
        let number = size.parse().ok().filter(|number: &u64| number.to_string() == size);
        let number = number.ok_or_else(|| malformed(format!("its size {size:?} is not a decimal number")))?;
        let root =
            STANDARD.decode(root).ok().and_then(|bytes| Hash::try_from(bytes).ok()).ok_or_else(|| {
                malformed(format!("its root {root:?} is not 32 bytes in base64, which are 44 characters"))
            })?;
        Self::new(origin, number, root)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn a_text_that_is_no_checkpoint_says_why() {
        let example = format!("audit.example.com\n7\n{ROOT}");
        assert_eq!(example.parse::<Checkpoint>().unwrap().to_string(), format!("{example}\n"));
        for (text, why) in [
            (String::new(), "cut off: it has 0 of three lines"),
            ("audit.example.com\n".into(), "cut off: it has 1 of three lines"),
            ("audit.example.com\n7\n".into(), "cut off: it has 2 of three lines"),
            (format!("{example}\n\n"), "signed"),
            (format!("{example}\n\n\u{2014} audit.example.com AAAA\n"), "signed"),
            (format!("{example}\nan extension\n"), "4 lines in place of 3"),
            (example.replace('\n', "\r\n"), "carriage return"),
            (format!("\n{example}"), "lines in place of 3"),
            (format!("\n7\n{ROOT}\n"), "it is empty"),
            (format!("an example\n7\n{ROOT}\n"), "contains ' '"),
            (format!("a+b\n7\n{ROOT}\n"), "contains '+'"),
            (format!("a\u{7}b\n7\n{ROOT}\n"), "contains '\\u{7}'"),
            (format!("a\u{2003}b\n7\n{ROOT}\n"), "contains '\\u{2003}'"),
            (format!("tracing-audit/batch@v1\n7\n{ROOT}\n"), "begins with"),
            (format!("a\n07\n{ROOT}\n"), "not a decimal number"),
            (format!("a\n+7\n{ROOT}\n"), "not a decimal number"),
            (format!("a\n-7\n{ROOT}\n"), "not a decimal number"),
            (format!("a\n\n{ROOT}\n"), "not a decimal number"),
            (format!("a\n18446744073709551616\n{ROOT}\n"), "not a decimal number"),
            (format!("a\n9223372036854775808\n{ROOT}\n"), "at most 9223372036854775807 leaves"),
            (format!("a\n7\n{}\n", &ROOT.replace('=', "")), "not 32 bytes in base64"),
            (format!("a\n7\n{}\n", ROOT.replace("FU=", "FV=")), "not 32 bytes in base64"),
            ("a\n7\n4444\n".into(), "not 32 bytes in base64"),
            ("a\n7\n\n".into(), "not 32 bytes in base64"),
        ] {
            let error = text.parse::<Checkpoint>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_origin_of_no_name_is_that_of_the_log_and_of_its_epoch() {
        let origin = Origin::of_log(Uuid::from_u128(7));
        assert_eq!(origin.in_epoch(0), origin);
        let restored = origin.in_epoch(2);
        assert_eq!(restored.as_str(), "tracing-audit.invalid/00000000-0000-0000-0000-000000000007/2");
        assert_eq!(Origin::new(restored.as_str()), Ok(restored));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(text in "[a-z/é +]{0,8}\n[0-9]{0,20}\n[A-Za-z0-9+/=]{43}=\n?", any: String) {
            for text in [text, any] {
                if let Ok(checkpoint) = text.parse::<Checkpoint>() {
                    let written = checkpoint.to_string();
                    prop_assert_eq!(written.trim_end(), text.trim_end());
                }
            }
        }

        #[test]
        fn what_is_written_is_read_again(name in "[a-zé/.-]{1,20}", size in 0..=MOST_LEAVES, root: Hash) {
            let checkpoint = Checkpoint::new(Origin::new(name).unwrap(), size, root).unwrap();
            prop_assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        }
    }
}
