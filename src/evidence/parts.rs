//! Reads the trees of all workspaces of a ledger, entry by entry.

use uuid::Uuid;

use super::{
    chunk::signed,
    layout::absent,
    opened::{Opened, altered},
    tiles::missing_hash,
};
use crate::error::AuditError;
use crate::ledger::{Frontier, Parts};
use crate::store::Evidence;

/// The entries that are read together, unless it is said.
const BLOCK: u64 = 1 << 14;

/// The entries of a ledger up to some number, of which the workspaces and the leaf hashes were read.
pub(super) struct Reading<'a> {
    evidence: &'a dyn Evidence,
    ledger: &'a str,
    /// The workspace whose entries are wanted.
    of: Option<Uuid>,
    /// The entries that are read together.
    pub(super) block: u64,
    /// The numbers of its entries.
    pub(super) own: Vec<u64>,
    /// How many of them are left out, and the tree over these, once they were read.
    pub(super) without: u64,
    pub(super) start: Frontier,
    pub(super) parts: Parts,
    /// The right edge of the tree over all entries that were read.
    pub(super) tree: Frontier,
}

impl<'a> Reading<'a> {
    pub(super) fn of(evidence: &'a dyn Evidence, ledger: &'a str, of: Option<Uuid>) -> Self {
        Self {
            evidence,
            ledger,
            of,
            block: BLOCK,
            own: Vec::new(),
            without: 0,
            start: Frontier::new(),
            parts: Parts::new(),
            tree: Frontier::new(),
        }
    }

    /// Reads on up to the entry before `until`, which is in the tree.
    pub(super) async fn to(&mut self, until: u64) -> Result<(), AuditError> {
        while self.tree.size() < until {
            let from = self.tree.size();
            self.take(from, (from - from % self.block + self.block).min(until)).await?;
        }
        Ok(())
    }

    async fn take(&mut self, from: u64, until: u64) -> Result<(), AuditError> {
        let opened = Opened::read(self.evidence, self.ledger, from..until).await?;
        let rows = self.evidence.workspaces(self.ledger, signed(from)..signed(until)).await?;
        let (mut rows, no_entry) = (rows.into_iter().peekable(), absent());
        for (seq, hash) in (from..).zip(opened.leaf_hashes()) {
            let hash = hash.ok_or_else(|| missing_hash(seq, seq + 1))?;
            match rows.next_if(|(found, _)| *found == signed(seq)) {
                None if hash == no_entry => {}
                None => return Err(altered(seq, "is gone")),
                Some(_) if hash == no_entry => {
                    return Err(altered(seq, "is one that no writer has committed"));
                }
                Some((_, None)) => return Err(altered(seq, "is not as it was committed")),
                Some((_, Some(workspace))) => {
                    self.parts.push(workspace, seq, &hash);
                    if self.of == Some(workspace) {
                        self.own.push(seq);
                        if self.own.len() as u64 == self.without {
                            self.start = self.parts.get(workspace).cloned().unwrap_or_default();
                        }
                    }
                }
            }
            if rows.peek().is_some_and(|(found, _)| *found == signed(seq)) {
                return Err(altered(seq, "is there twice"));
            }
            self.tree.push(hash);
        }
        match rows.next() {
            None => Ok(()),
            Some(_) => Err(altered(until - 1, "is followed by a row that no writer has committed")),
        }
    }
}
