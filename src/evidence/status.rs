//! Checkpoints, and the state of a ledger's tree.

use serde::Serialize;

use super::ends::Ends;
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, EMPTY_ROOT, Frontier, Origin};
use crate::reader::AuditReader;
use crate::store::StoredHead;

/// The state of a ledger's tree, as its head says: see [`AuditReader::ledger_status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LedgerStatus {
    /// The name of the ledger in the database.
    pub ledger: String,
    /// Its name in checkpoints. `None` if no log with a tree has opened it yet.
    pub origin: Option<String>,
    /// The number of entries that were ever committed.
    pub next_seq: u64,
    /// The number of them that are in the tree. Fewer while it is catching up.
    pub tree_size: u64,
    /// The root of the tree, in base64.
    pub root: String,
}

impl AuditReader {
    /// The checkpoint of the ledger: the size and the root of its tree, as its head has them. Keep it outside of the database.
    /// Later, [`verify`](Self::verify) finds by it whatever was changed of the entries before.
    ///
    /// It costs one read of the head, and is not verified: to know that the ledger is sound now, take
    /// [`Verified::checkpoint`](super::Verified::checkpoint).
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// let kept = log.reader().checkpoint().await?.to_string();
    /// assert_eq!(kept.lines().count(), 3);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_schema`](AuditError::is_schema) if the ledger has no tree, because no log of this version has opened it,
    /// [`is_store`](AuditError::is_store) if the database cannot be read, or if the head is not one that a writer leaves.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn checkpoint(&self) -> Result<Checkpoint, AuditError> {
        let (ends, _) = self.stored_head().await?;
        let frontier = ends.frontier.ok_or_else(|| malformed(&ends.wrong))?;
        let origin = ends.origin.ok_or_else(|| malformed(&ends.wrong))?;
        Ok(Checkpoint::of(origin, &frontier))
    }

    /// The state of the ledger's tree, as its head says.
    ///
    /// # Errors
    /// The same as those of [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn ledger_status(&self) -> Result<LedgerStatus, AuditError> {
        let (ends, ledger) = self.stored_head().await?;
        let frontier = ends.frontier.ok_or_else(|| malformed(&ends.wrong))?;
        Ok(LedgerStatus {
            ledger,
            origin: ends.origin.as_ref().map(Origin::to_string),
            next_seq: ends.next_seq,
            tree_size: frontier.size(),
            root: super::anchor::spelled(&root_of(&frontier)),
        })
    }

    /// The names of the ledgers that have a head, whatever else is wrong with it.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn ledger_names(&self) -> Result<Vec<String>, AuditError> {
        self.store.backend().evidence()?.ledgers().await
    }

    async fn stored_head(&self) -> Result<(Ends, String), AuditError> {
        let head = self.store.backend().evidence()?.head(&self.ledger).await?;
        has_ledger(&head, &self.ledger)?;
        let ends = Ends::of(&head, &[]);
        if ends.has_tree {
            return Ok((ends, self.ledger.clone()));
        }
        let message = "the ledger has no tree: open it once with a log of this version, which adds it";
        Err(AuditError::new(ErrorKind::Schema, message))
    }
}

/// An error, if there are no tables, or no such ledger.
pub(super) fn has_ledger(head: &StoredHead, ledger: &str) -> Result<(), AuditError> {
    if !head.has_tables {
        let message = "the database holds no audit log: its tables do not exist";
        return Err(AuditError::new(ErrorKind::Schema, message));
    }
    if head.heads == 0 && head.leaves_until.is_none() && head.batches_until.is_none() {
        let message = format!("there is no ledger {ledger:?} in the database");
        return Err(AuditError::new(ErrorKind::Config, message));
    }
    Ok(())
}

fn root_of(frontier: &Frontier) -> [u8; 32] {
    if frontier.size() == 0 { EMPTY_ROOT } else { frontier.root() }
}

fn malformed(wrong: &[String]) -> AuditError {
    let why = wrong.first().map_or("it has no name in checkpoints", |wrong| wrong);
    AuditError::new(
        ErrorKind::Store,
        format!("the head of the ledger is not as a writer leaves it: {why}; verify the ledger"),
    )
}
