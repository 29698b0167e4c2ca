//! `AuditReader::verify`.

use serde_json::Map;

use super::{
    anchor::Anchor,
    ends::Ends,
    finding::{Finding, FindingKind},
    kept::breaks_off,
    plan::{Plan, local},
    run::Run,
    state::VerifyState,
    status::has_ledger,
    verification::Verification,
    verified::Verified,
};
use crate::error::AuditError;
use crate::ledger::{Checkpoint, Frontier};
use crate::reader::AuditReader;

impl AuditReader {
    /// Verifies the ledger: reads every entry, computes its leaf again, and leads all of them to the roots of what was kept outside
    /// of the database. It reads only, repairs nothing, and goes on whatever it finds.
    ///
    /// Ranges of 65 536 entries are read side by side. Memory does not grow with the ledger. Writers may go on
    /// meanwhile: entries that they commit are not looked at. An entry that is not as it should be is read once more
    /// before it is reported. The tables come first: if a view stands in the place of one, that is the finding, and
    /// nothing is read through it.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditEntry, evidence::Verification};
    ///
    /// log.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "document.read", "document")).await?;
    /// let kept = log.reader().checkpoint().await?;
    /// let verified = log.reader().verify(Verification::against(kept)).await?;
    /// assert!(verified.is_intact() && verified.is_anchored());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_schema`](AuditError::is_schema) if there are no tables, [`is_config`](AuditError::is_config) if there is no such
    /// ledger, [`is_store`](AuditError::is_store) if the database cannot be read. A change is a
    /// [finding](Verified::findings), not an error.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing. The progress until then is in the last state that
    /// [`on_state`](Verification::on_state) was given.
    pub async fn verify(&self, mut verification: Verification) -> Result<Verified, AuditError> {
        let (refused, seals) = (std::mem::take(&mut verification.refused), verification.seals);
        let tables = self.tables().await?;
        if tables.are_veiled {
            return Ok(tables.alone(&self.ledger, verification).and_refused(refused));
        }
        let (mut verified, verification) = self.verified_by(verification).await?;
        let contradicts =
            |found: &&Finding| matches!(found.kind, FindingKind::Forked | FindingKind::RolledBack);
        let against: Vec<Finding> = verified.findings.iter().filter(contradicts).cloned().collect();
        let size = verification.state.as_ref().map(VerifyState::size);
        if let Some(size) = size.filter(|_| !verification.anchors.is_empty() && !against.is_empty()) {
            // An interrupted run leaves a state before it holds it against the checkpoints.
            let verification = Verification { state: None, ..verification };
            (verified, _) = self.verified_by(verification).await?;
            if verified.covered < size && !verified.findings.iter().any(breaks_off) {
                // A checkpoint that is older than the state says nothing against it.
                verified.add(&against);
            }
        }
        let read = verified.checkpoint().filter(|_| seals).map(Checkpoint::size);
        let wrong = match read {
            Some(size) => self.wrong_seals(size).await?,
            None => Vec::new(),
        };
        let verified = tables.and(verified.and_seals(wrong)).and_refused(refused);
        self.recording("verify", Map::new()).record_answer(verified.entries()).await?;
        Ok(verified)
    }

    /// Verifies the ledger once, and returns what it was to be verified by.
    async fn verified_by(&self, verification: Verification) -> Result<(Verified, Verification), AuditError> {
        let evidence = self.store.backend().evidence()?;
        let ledger = self.ledger.clone();
        let head = evidence.head(&ledger).await?;
        let mut anchors = verification.anchors.clone();
        if let Some(state) = &verification.state {
            anchors.push(anchor_of(state));
        }
        anchors.sort_by_key(Anchor::size);
        if anchors.is_empty() {
            has_ledger(&head, &ledger)?;
        }
        let ends = Ends::of(&head, &anchors);
        let base = base(&verification, &ends);
        let level = verification.level;
        let mut sizes: Vec<u64> = anchors.iter().map(Anchor::size).collect();
        sizes.extend(ends.frontier.as_ref().map(Frontier::size));
        sizes.sort_unstable();
        let head = ends.frontier.as_ref().and_then(|frontier| local(frontier, level));
        let plan = Plan { evidence, ledger, level, ends, anchors, sizes, head };
        let mut run = Run { verification, findings: Vec::new(), ..Run::from(base, level) };
        run.go(&plan).await?;
        let verified = run.conclude(&plan).await?;
        Ok((verified, run.verification))
    }
}

/// The state of an earlier run as an anchor.
fn anchor_of(state: &VerifyState) -> Anchor {
    Anchor::of(state.origin.clone(), &state.frontier)
}

/// The right edge of the tree before the range in which reading begins.
fn base(verification: &Verification, ends: &Ends) -> Frontier {
    let Some(state) = verification.state.as_ref().filter(|_| !verification.whole) else {
        return Frontier::new();
    };
    let size = state.size() - state.size() % (1 << verification.level);
    let peaks = state.frontier.peaks().get(..size.count_ones() as usize).unwrap_or_default();
    let base = Frontier::from_bytes(size, peaks.as_flattened()).ok();
    base.filter(|base| base.size() <= ends.tree_until).unwrap_or_default()
}
