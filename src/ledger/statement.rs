//! The statement of a batch, which its writer signs.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    hash::{Hash, sha256},
    origin::Origin,
};

/// The text that a writer signs of a batch: the origin of the ledger, the first `seq`, and the leaf hashes of the entries.
///
/// It is no checkpoint: one that was made for a batch which was not committed contradicts nothing.
#[must_use]
pub fn batch_statement(origin: &Origin, first_seq: u64, leaves: &[Hash]) -> String {
    let hash = STANDARD.encode(sha256(leaves.as_flattened()));
    format!("tracing-audit/batch@v1\n{origin}\n{first_seq}\n{}\n{hash}\n", leaves.len())
}
