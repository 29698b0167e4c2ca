//! Judges the head and the end of a ledger: how many entries it has, and how many of them are in its tree.

use super::{
    anchor::Anchor,
    finding::{Finding, FindingKind},
};
use crate::ledger::{Frontier, Origin};
use crate::store::StoredHead;

/// The end of a ledger, as far as its head can be believed.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The entries that the head counts.
    pub(super) next_seq: u64,
    /// The entries that are in the tree.
    pub(super) tree_until: u64,
    /// The end of reading.
    pub(super) until: u64,
    /// The end of the last batch or of the last leaf hash.
    pub(super) known_until: u64,
    /// The right edge of the tree that the head has, if it is one.
    pub(super) frontier: Option<Frontier>,
    /// The name of the ledger in its checkpoints.
    pub(super) origin: Option<Origin>,
    /// Whether the tables are of a version with a tree.
    pub(super) has_tree: bool,
    /// The faults of the head, and of leaf hashes beyond it.
    pub(super) wrong: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

fn count(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok())
}

impl Ends {
    pub(super) fn of(head: &StoredHead, anchors: &[Anchor]) -> Self {
        let mut ends = Self { has_tree: head.tree.is_some(), ..Self::default() };
        match head.heads {
            1 => {}
            0 => ends.wrong.push("the head of the ledger is gone".to_owned()),
            several => ends.wrong.push(format!("the ledger has {several} heads")),
        }
        let (leaves, batches) =
            (count(head.leaves_until).unwrap_or(0), count(head.batches_until).unwrap_or(0));
        ends.known_until = leaves.max(batches);
        if let Some(next_seq) = count(head.next_seq) {
            ends.next_seq = next_seq;
        } else {
            ends.next_seq = ends.known_until;
            if head.heads > 0 {
                ends.wrong.push("its next_seq is no number of entries".to_owned());
            }
        }
        let size = ends.tree(head);
        let most =
            anchors.iter().map(Anchor::size).chain([ends.next_seq, size.unwrap_or(0)]).max().unwrap_or(0);
        // A tree is never longer than its ledger: then the leaf hashes say which of the two numbers was changed.
        let size = size.filter(|size| *size <= ends.next_seq || *size <= leaves);
        if leaves > most {
            let text = "leaf hashes reach beyond the head of the ledger";
            ends.findings.push(Finding::new(FindingKind::BatchAltered, most..leaves, text));
        }
        ends.tree_until = size.unwrap_or(0).max(if leaves > most { 0 } else { leaves });
        if let Some(told) = head.tree.as_ref().and_then(|tree| tree.size)
            && told != ends.tree_until.cast_signed()
        {
            ends.wrong
                .push(format!("its tree_size is {told}, and there are {} leaf hashes", ends.tree_until));
        }
        if ends.next_seq < ends.tree_until {
            ends.wrong.push(format!(
                "its next_seq is {}, and there are {} leaf hashes",
                ends.next_seq, ends.tree_until
            ));
        }
        ends.until = ends.next_seq.max(ends.tree_until);
        ends
    }

    /// Reads what the head has of the tree. Returns the number of its leaves, if the right edge is one for that number.
    fn tree(&mut self, head: &StoredHead) -> Option<u64> {
        let Some(tree) = &head.tree else {
            if head.leaves_until.is_some() && head.heads > 0 {
                self.wrong.push("its columns about the tree are gone".to_owned());
            }
            return None;
        };
        self.origin = tree.log_id.map(Origin::of_log);
        if head.heads > 0 && self.origin.is_none() && tree.size != Some(0) {
            self.wrong.push("its log_id is no id".to_owned());
        }
        let size = count(tree.size);
        let frontier = match (size, &tree.frontier) {
            (Some(size), Some(bytes)) => Frontier::from_bytes(size, bytes).map_err(|cause| cause.to_string()),
            _ => Err("its tree_size or its frontier is not what a writer stores".to_owned()),
        };
        match frontier {
            Ok(frontier) => self.frontier = Some(frontier),
            Err(_) if head.heads == 0 => {}
            Err(cause) => self.wrong.push(cause),
        }
        self.frontier.as_ref().and(size)
    }

    /// The finding about the head, if something is wrong with it. One change may be seen at several of its columns.
    pub(super) fn finding(&self) -> Option<Finding> {
        let first = self.wrong.first()?;
        Some(Finding::new(FindingKind::HeadAltered, self.until..self.until, first.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::leaf_hash;
    use crate::store::StoredTree;

    fn head(next_seq: i64, size: i64, leaves: i64) -> StoredHead {
        let mut frontier = Frontier::new();
        (0..size.clamp(0, 5000)).for_each(|n| frontier.push(leaf_hash(&n.to_be_bytes())));
        let frontier = Some(frontier.to_bytes());
        StoredHead {
            has_tables: true,
            heads: 1,
            next_seq: Some(next_seq),
            tree: Some(StoredTree { log_id: Some(uuid::Uuid::nil()), size: Some(size), frontier }),
            leaves_until: Some(leaves),
            batches_until: Some(leaves),
        }
    }

    #[test]
    fn the_end_is_that_on_which_most_agree() {
        let shown = |head: StoredHead| {
            let ends = Ends::of(&head, &[]);
            (ends.next_seq, ends.tree_until, ends.until, ends.wrong.len())
        };
        assert_eq!(shown(head(600, 600, 600)), (600, 600, 600, 0));
        // The tree is catching up.
        assert_eq!(shown(head(600, 300, 300)), (600, 300, 600, 0));
        assert_eq!(shown(head(600, 0, 0)), (600, 0, 600, 0));
        // The head was lowered, or raised.
        assert_eq!(shown(head(590, 600, 600)), (590, 600, 600, 1));
        assert_eq!(shown(head(700, 600, 600)), (700, 600, 700, 0));
        assert_eq!(shown(head(i64::MAX, 600, 600)), (i64::MAX as u64, 600, i64::MAX as u64, 0));
        // The size of the tree was.
        assert_eq!(shown(head(600, 590, 600)), (600, 600, 600, 1));
        assert_eq!(shown(head(600, 612, 600)), (600, 600, 600, 1));
        assert_eq!(shown(head(600, -1, 600)).1, 600);
        // The last leaf hashes were removed, or others added.
        assert_eq!(shown(head(600, 600, 590)), (600, 600, 600, 0));
        let ends = Ends::of(&head(600, 600, 1000), &[]);
        assert_eq!((ends.tree_until, ends.findings.len()), (600, 1));
        let gone = StoredHead { heads: 0, next_seq: None, ..head(600, 600, 600) };
        assert_eq!(shown(StoredHead { tree: None, ..gone }), (600, 600, 600, 1));
    }
}
