//! Proofs that a tree continues an earlier one, by the hashes that are stored.

use super::chunk::{frontier_over, signed};
use crate::error::AuditError;
use crate::ledger::{Hash, ProofShape, Subtree};
use crate::store::Evidence;

/// The proof that the tree of `to` leaves continues the one of `from` leaves. `None` if no such proof can be, or if a hash that it needs
/// is missing. What it proves has to be verified: somebody may have changed the hashes.
pub(super) async fn consistency(
    evidence: &dyn Evidence,
    ledger: &str,
    from: u64,
    to: u64,
) -> Result<Option<Vec<Hash>>, AuditError> {
    let Ok(shape) = ProofShape::consistency(from, to) else { return Ok(None) };
    let mut hashes = Vec::new();
    let subtrees: Vec<Subtree> = shape.subtrees().collect();
    for subtree in subtrees {
        hashes.push((subtree, root_over(evidence, ledger, subtree).await?));
    }
    let of = |subtree: Subtree| {
        let found = hashes.iter().find(|(of, _)| *of == subtree).and_then(|(_, hash)| *hash);
        found.ok_or(())
    };
    Ok(shape.hashes(of).ok())
}

/// The root over a full subtree, by the stored nodes or leaf hashes.
async fn root_over(
    evidence: &dyn Evidence,
    ledger: &str,
    subtree: Subtree,
) -> Result<Option<Hash>, AuditError> {
    let (level, indexes) = subtree.stored();
    let range = signed(indexes.start)..signed(indexes.end);
    let hashes: Option<Vec<_>> = if level == 0 {
        let leaves = evidence.leaves(ledger, range).await?;
        Some(leaves.hashes)
    } else {
        let nodes = evidence.nodes(ledger, level, range).await?;
        nodes.into_iter().map(|(_, hash)| hash).collect()
    };
    let wanted = indexes.end - indexes.start;
    let hashes = hashes.filter(|hashes| hashes.len() as u64 == wanted);
    Ok(hashes.map(|hashes| frontier_over(&hashes).root()))
}
