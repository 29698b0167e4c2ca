//! `Anchor`: a size and a root from outside of the database.

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, Frontier, Hash, LedgerError, NotedCheckpoint, Origin, Trusts};

/// The size and the root of a ledger's tree, kept outside of the database: a [`Checkpoint`], or the two alone.
///
/// `FromStr` reads the three lines of a checkpoint, or the size and the root on one line.
///
/// ```
/// use tracing_audit::evidence::Anchor;
///
/// let anchor: Anchor = "7 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".parse()?;
/// assert_eq!((anchor.size(), anchor.origin()), (7, None));
/// # Ok::<(), tracing_audit::AuditError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    origin: Option<Origin>,
    size: u64,
    root: Hash,
}

impl Anchor {
    pub(super) fn of(origin: Option<Origin>, frontier: &Frontier) -> Self {
        Self { origin, size: frontier.size(), root: frontier.root() }
    }

    /// The number of entries that it covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree over these entries.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The name of the ledger that it is of, if it says one.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }
}

impl From<Checkpoint> for Anchor {
    fn from(checkpoint: Checkpoint) -> Self {
        let (size, root) = (checkpoint.size(), *checkpoint.root());
        Self { origin: Some(checkpoint.origin().clone()), size, root }
    }
}

impl FromStr for Anchor {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        let malformed = |cause: LedgerError| {
            AuditError::new(
                ErrorKind::Config,
                format!("not a checkpoint that can be verified against: {cause}"),
            )
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        // Two lines of which the first is no number are those of a checkpoint that is cut off.
        let begins_with = |size: &str| size.bytes().all(|byte| byte.is_ascii_digit());
        match *words {
            [size, root] if begins_with(size) || !text.trim().contains('\n') => {
                // Read as a checkpoint of some ledger, so that both forms have the same rules.
                let checkpoint: Checkpoint = format!("any\n{size}\n{root}\n").parse().map_err(malformed)?;
                Ok(Self { origin: None, ..checkpoint.into() })
            }
            [_, _] => text.trim().parse::<Checkpoint>().map(Self::from).map_err(malformed),
            _ => text.parse::<Checkpoint>().map(Self::from).map_err(malformed),
        }
    }
}

impl Trusts for Anchor {
    /// Trusts the checkpoint with its size and root, and with its origin if it has one.
    fn trusts(&self, noted: &NotedCheckpoint) -> Result<(), LedgerError> {
        match &self.origin {
            Some(origin) => Checkpoint::new(origin.clone(), self.size, self.root)?.trusts(noted),
            None => noted.is_of(self.size, &self.root),
        }
    }
}

/// A root as it is written.
pub(super) fn spelled(root: &Hash) -> String {
    STANDARD.encode(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn an_anchor_trusts_the_checkpoint_that_it_is_of() {
        let noted: NotedCheckpoint = format!("a\n7\n{ROOT}\n\n\u{2014} a DN6NqwAAAAA=\n").parse().unwrap();
        for (anchor, is_trusted) in [
            (format!("7 {ROOT}"), true),
            (format!("a\n7\n{ROOT}"), true),
            (format!("b\n7\n{ROOT}"), false),
            (format!("8 {ROOT}"), false),
            (format!("7 {}", ROOT.replace("47", "57")), false),
        ] {
            assert_eq!(anchor.parse::<Anchor>().unwrap().trusts(&noted).is_ok(), is_trusted, "{anchor}");
        }
    }

    #[test]
    fn a_checkpoint_is_read_with_and_without_its_origin() {
        let whole: Anchor = format!("audit.example.com\n7\n{ROOT}\n").parse().unwrap();
        assert_eq!(whole.origin().map(Origin::as_str), Some("audit.example.com"));
        for short in [format!("7 {ROOT}"), format!(" 7\t{ROOT}\n"), format!("7\n{ROOT}\n")] {
            let short: Anchor = short.parse().unwrap();
            assert_eq!((short.origin(), short.size(), short.root()), (None, 7, whole.root()));
        }
        for (wrong, why) in [
            (String::new(), "cut off"),
            (format!("07 {ROOT}"), "not a decimal number"),
            (format!("-1 {ROOT}"), "not a decimal number"),
            ("7 root".to_owned(), "not 32 bytes in base64"),
            (format!("7 {ROOT} more"), "cut off"),
            ("audit.example.com\n7\n".to_owned(), "cut off: it has 2 of three lines"),
            (format!("\naudit.example.com\n{ROOT}\n\n"), "cut off: it has 2 of three lines"),
            (format!("x {ROOT}"), "its size \"x\" is not a decimal number"),
            (format!("a\n7\n{ROOT}\n\n\u{2014} a AAAA\n"), "signed"),
        ] {
            let error = wrong.parse::<Anchor>().unwrap_err();
            assert!(error.is_config() && error.to_string().contains(why), "{wrong:?}: {error}");
        }
    }
}
