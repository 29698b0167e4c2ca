//! Goes through a ledger, range by range.

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};

use super::{
    course::Course,
    finding::{Finding, FindingKind},
    judge::{ENTRY_GONE, Edge, WRONG_TIMES},
    kept::left,
    plan::{Looked, Plan},
    state::VerifyState,
    verification::{Verification, VerifyProgress},
    writers::Writers,
};
use crate::error::AuditError;
use crate::ledger::Frontier;

/// The most findings that are kept.
pub(super) const MOST_FINDINGS: usize = 10_000;

/// The state of a run so far.
pub(super) struct Run {
    pub(super) verification: Verification,
    pub(super) course: Course,
    /// The right edge of the tree by the stored leaf hashes, as long as none is missing.
    pub(super) reached: Option<Frontier>,
    pub(super) writers: Writers,
    pub(super) edge: Option<Edge>,
    /// The findings in addition to those of the ranges.
    pub(super) findings: Vec<Finding>,
    pub(super) entries: u64,
    pub(super) gaps: u64,
}

impl Run {
    pub(super) fn from(base: Frontier, level: u8) -> Self {
        Self {
            verification: Verification::of_itself(),
            writers: Writers::new(base.size() > 0),
            reached: Some(base.clone()),
            course: Course::from(base, level),
            edge: None,
            findings: Vec::new(),
            entries: 0,
            gaps: 0,
        }
    }

    /// Reads all ranges.
    pub(super) async fn go(&mut self, plan: &Plan<'_>) -> Result<(), AuditError> {
        if let Some(state) = self.verification.state.as_ref().filter(|_| self.course.base.size() > 0) {
            self.findings.extend(state.findings.iter().cloned());
        }
        let mut looking: FuturesOrdered<BoxFuture<'_, Result<Looked, AuditError>>> = FuturesOrdered::new();
        let mut at = self.course.base.size();
        loop {
            while looking.len() < self.verification.jobs {
                let Some((nothing, range)) = plan.next(at).await? else { break };
                at = range.end;
                if !nothing.is_empty() {
                    self.findings.push(Finding::new(FindingKind::Missing, nothing, ENTRY_GONE));
                }
                if !range.is_empty() {
                    looking.push_back(Box::pin(plan.look(range)));
                }
            }
            let Some(looked) = looking.next().await else { return Ok(()) };
            let looked = looked?;
            if self.course.parts.is_empty() {
                self.edge = plan.edge_before(self.course.base.size(), &looked.edges).await?;
            }
            self.take(plan, looked);
        }
    }

    fn take(&mut self, plan: &Plan<'_>, looked: Looked) {
        let Looked { mut part, edges, writers, gaps, rows } = looked;
        for edge in edges {
            match self.edge.take() {
                Some(mut open) if open.range == edge.range => {
                    open.join(&edge);
                    self.edge = Some(open);
                }
                _ => self.edge = Some(edge),
            }
            let Some(open) = &self.edge else { continue };
            if open.range.end <= part.range.end {
                if open.is_whole && open.found != open.told {
                    let found = Finding::new(FindingKind::BatchAltered, open.range.clone(), WRONG_TIMES);
                    part.findings.push(found);
                }
                self.edge = None;
            }
        }
        if self.course.parts.is_empty() {
            // An earlier run may have found the same in the range that is read again.
            self.findings.retain(|known| !part.findings.contains(known));
        }
        self.writers.add(writers);
        self.gaps += gaps;
        self.entries += rows;
        let stored = part.stored();
        self.reached = self.reached.take().and_then(|mut reached| {
            reached.extend(&stored?).ok()?;
            Some(reached)
        });
        let progress = VerifyProgress { reached: part.range.end, until: plan.ends.until };
        self.course.add(part);
        (self.verification.on_progress)(progress);
        if let Some(state) =
            self.state(plan).and_then(|state| left(self.verification.before.as_ref(), state, &self.course))
        {
            (self.verification.on_state)(&state);
        }
    }

    /// The state from which another run could begin.
    pub(super) fn state(&self, plan: &Plan<'_>) -> Option<VerifyState> {
        let found = self.findings.iter().chain(self.course.parts.iter().flat_map(|part| &part.findings));
        let findings = found.filter(|found| !found.kind.is_information()).take(MOST_FINDINGS).cloned();
        let frontier = self.reached.clone()?;
        Some(VerifyState { origin: plan.ends.origin.clone(), frontier, findings: findings.collect() })
    }
}
