//! Proofs that a tree continues an earlier one, by the hashes that are stored.

use super::tiles::Tiles;
use crate::error::AuditError;
use crate::ledger::{Hash, ProofShape};
use crate::store::Evidence;

/// The proof that the tree of `to` leaves continues the one of `from` leaves. `None` if no such proof can be, or if a hash that it needs
/// is missing. The proof has to be verified: somebody may have changed the hashes.
pub(super) async fn consistency(
    evidence: &dyn Evidence,
    ledger: &str,
    from: u64,
    to: u64,
) -> Result<Option<Vec<Hash>>, AuditError> {
    let Ok(shape) = ProofShape::consistency(from, to) else { return Ok(None) };
    let mut tiles = Tiles::new(evidence, ledger, to);
    tiles.load(shape.subtrees()).await?;
    Ok(shape.hashes(|subtree| tiles.root(subtree)).ok())
}
