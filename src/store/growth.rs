//! Grows the tree over a ledger's entries within a transaction: a leaf for each row, and the nodes that become full.

use uuid::Uuid;

use super::{
    appender::{AppendError, Fault},
    tree::columns,
};
use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Committed, Frontier, Hash, Leaf, Node, Seed, Seeds, SeedsInOrder};
use crate::platform::secret;

/// Whether a log adds the entries that it commits to the tree over all entries of its ledger.
///
/// The tree proves that no entry was changed, removed or added since somebody took down its size and its root
/// ([`checkpoint`](crate::AuditLog::checkpoint)): see [`ledger`](crate::ledger). A ledger whose entries are older than its tree
/// catches up, whatever is set here but `Off`: 16 384 entries at a time, between batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Integrity {
    /// Adds them in the transaction that commits them. No committed entry is without a proof.
    #[default]
    Inline,
    /// Adds them in a transaction of its own that follows. A commit costs nothing more. A change that somebody makes in
    /// the moment between the two is taken for the committed entry. All of it together costs more: the entries are read
    /// back.
    Deferred,
    /// Does not add them. An entry that this log commits has no proof until another log, which is set otherwise, has
    /// caught up with it.
    Off,
}

/// The reason why a transaction that adds to the tree has failed.
pub(super) enum Failed {
    /// The append itself.
    Append(AppendError),
    /// The tree, for the reason given in words: the same can be appended without it.
    Tree(String),
}

impl From<AppendError> for Failed {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

/// The leaves of a batch, or of a range without entries, as they are to be stored.
#[derive(Debug)]
pub(super) struct NewLeaves {
    pub(super) first_seq: i64,
    /// The bytes of the seeds. None are kept of a range without entries.
    pub(super) seeds: Vec<u8>,
    pub(super) leaves: Vec<Hash>,
}

impl NewLeaves {
    pub(super) fn bytes(&self) -> &[u8] {
        self.leaves.as_flattened()
    }
}

/// The tree while a transaction adds to it. If that is rolled back, this is thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Growing {
    frontier: Frontier,
    full: Vec<Node>,
}

impl Growing {
    pub(super) fn of(frontier: Frontier) -> Self {
        Self { frontier, full: Vec::new() }
    }

    pub(super) fn add(&mut self, leaves: &[Hash]) {
        self.frontier.append(leaves, &mut self.full);
    }

    pub(super) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    pub(super) fn size(&self) -> i64 {
        self.frontier.size().cast_signed()
    }

    /// The nodes that became full since the last call.
    pub(super) fn take_full(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.full)
    }

    pub(super) fn into_frontier(self) -> Frontier {
        self.frontier
    }
}

/// Rows hashed before the database gets its turn on the thread.
#[cfg(feature = "postgres")]
const HASH_STEP: usize = 64;

/// The leaves of a batch while they are made.
pub(super) struct BatchLeaves {
    root: Seed,
    seeds: SeedsInOrder,
    leaf: Leaf,
    /// The committed columns of the next entry.
    committed: Committed,
    hashes: Vec<Hash>,
}

impl BatchLeaves {
    /// Creates the leaves for a batch of this writer that reaches the position `until`.
    pub(super) fn new(
        (writer, until): (Uuid, u64),
        entries: usize,
        committed_at: i64,
    ) -> Result<Self, Failed> {
        let root = new_seed()?;
        let position = until.saturating_sub(entries as u64).saturating_add(1);
        Ok(Self {
            root,
            seeds: Seeds::of_root(root).iter(),
            leaf: Leaf::new(),
            committed: Committed { writer, position, committed_at },
            hashes: Vec::with_capacity(entries),
        })
    }

    /// Makes the leaf of the next row.
    pub(super) fn add(&mut self, row: &Row) {
        // A batch has far fewer rows than there are seeds.
        let Some((_, seed)) = self.seeds.next() else { return };
        let columns = columns(row);
        self.leaf.prepare(&columns, &seed);
        self.hashes.push(self.leaf.finish(&columns, &self.committed));
        self.committed.position = self.committed.position.saturating_add(1);
    }

    /// Makes the leaves of these rows, and lets others have the thread in between.
    #[cfg(feature = "postgres")]
    pub(super) async fn add_all(&mut self, rows: &[&Row]) {
        for (index, row) in rows.iter().enumerate() {
            if index % HASH_STEP == HASH_STEP - 1 {
                tokio::task::yield_now().await;
            }
            self.add(row);
        }
    }

    /// Adds the leaves to the tree. The batch begins at `first_seq`, which is the size of the tree.
    pub(super) fn finish(self, first_seq: i64, tree: &mut Growing) -> NewLeaves {
        tree.add(&self.hashes);
        NewLeaves { first_seq, seeds: self.root.to_vec(), leaves: self.hashes }
    }
}

/// A seed from the operating system's random source.
pub(super) fn new_seed() -> Result<Seed, Failed> {
    secret().map_err(|cause| Failed::Tree(format!("the operating system gives no random bytes ({cause})")))
}

/// The answer about a doubted row, which was tried after rows that the database accepts.
pub(super) fn doubted(tried: Result<(), Failed>) -> Failed {
    let doubted = |refused, error| AppendError { fault: Fault::Doubted { refused }, error }.into();
    match tried {
        Ok(()) => doubted(false, AuditError::new(ErrorKind::Store, "the database accepts this entry now")),
        Err(Failed::Append(AppendError { fault: Fault::Entry | Fault::Duplicate, error })) => {
            doubted(true, error)
        }
        Err(failed) => failed,
    }
}

/// The error of a tree that is not as it was left, or that cannot be added to.
pub(super) fn altered(message: String) -> AuditError {
    AuditError::new(ErrorKind::Altered, message)
}
