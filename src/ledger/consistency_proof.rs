//! A proof that one tree begins with another, as a file.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{entry_proof::hash_of, hash::Hash, ledger_error::LedgerError, proof::verify_consistency};

/// A proof that a ledger was only appended to from one checkpoint to another: RFC 6962, section 2.1.2.
///
/// `Display` and `FromStr` are its hashes in base64, one on a line. A proof between the same sizes, or from an empty ledger, has
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsistencyProof {
    hashes: Vec<Hash>,
}

impl ConsistencyProof {
    /// A proof of these hashes.
    #[must_use]
    pub fn new(hashes: Vec<Hash>) -> Self {
        Self { hashes }
    }

    /// The hashes, in the order of the RFC.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Verifies that the tree with this size and root, `to`, begins with all of the tree `from`.
    ///
    /// # Errors
    ///
    /// Verifies the proof as [`verify_consistency`] does.
    pub fn verify(&self, from: (u64, &Hash), to: (u64, &Hash)) -> Result<(), LedgerError> {
        verify_consistency(from.0, to.0, &self.hashes, from.1, to.1)
    }
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))
    }
}

impl FromStr for ConsistencyProof {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let hash = |(number, line): (usize, &str)| {
            let problem = || format!("its line {number} is not a hash, which is 32 bytes in base64");
            hash_of(line).ok_or_else(|| LedgerError::malformed("proof of consistency", problem()))
        };
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n').filter(|_| !text.is_empty());
        Ok(Self { hashes: (1..).zip(lines).map(hash).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_of_consistency_is_a_hash_on_each_line() {
        for count in [0, 1, 3] {
            let proof = ConsistencyProof::new(vec![[7; 32]; count]);
            assert_eq!(proof.to_string().lines().count(), count);
            assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
            assert_eq!(proof.to_string().trim_end().parse(), Ok(proof));
        }
        let line = STANDARD.encode([7; 32]);
        for (wrong, number) in [
            ("\n".to_owned(), 1),
            ("x".to_owned(), 1),
            (format!("{line}\n\n{line}\n"), 2),
            (format!("{line}\r\n"), 1),
        ] {
            let error = wrong.parse::<ConsistencyProof>().unwrap_err().to_string();
            assert!(error.contains(&format!("its line {number} is not a hash")), "{wrong:?}: {error}");
        }
    }
}
