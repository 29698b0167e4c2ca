//! Keeps the state of earlier runs, until the ledger is proven to continue it, and what these runs have found.

use std::collections::HashSet;

use super::{
    course::Course,
    finding::{Finding, FindingKind},
    state::VerifyState,
    verified::Verified,
};

/// The most pairs of findings that are compared.
const MOST_PAIRS: usize = 4_000_000;

/// The state that an interruption leaves, if this is what was read so far. `None` if it does not continue the state of earlier
/// runs, or does not reach as far: then that one stays.
pub(super) fn left(before: Option<&VerifyState>, new: VerifyState, course: &Course) -> Option<VerifyState> {
    let Some(before) = before else { return Some(new) };
    let goes_on = !before.findings.iter().any(breaks_off) && continues(before, &new, course);
    goes_on.then(|| VerifyState { origin: before.origin.clone().or(new.origin), ..new })
}

/// The findings of earlier runs that this one may not have found again. Once the ledger was cut off or replaced, every
/// later run says so. All other findings are found again if the ledger has led to the state; if it has not, the earlier
/// ones stay.
pub(super) fn earlier(before: Option<&VerifyState>, findings: &[Finding], held: u64) -> Vec<Finding> {
    let Some(before) = before else { return Vec::new() };
    let is_led = held >= before.size() && !findings.iter().any(breaks_off);
    before.findings.iter().filter(|found| !is_led || breaks_off(found)).cloned().collect()
}

/// The state after a run that has read everything, found this, and was led to an anchor of the size `held`: that of earlier
/// runs, unless the ledger leads to it and goes on from there.
pub(super) fn kept(
    before: Option<&VerifyState>,
    new: Option<VerifyState>,
    course: &Course,
    (findings, held): (&[Finding], u64),
) -> Option<VerifyState> {
    let signs: Vec<Finding> = findings.iter().filter(|found| !found.kind.is_information()).cloned().collect();
    let Some(before) = before else {
        return new.map(|new| VerifyState { findings: signs, ..new });
    };
    let is_whole = held >= before.size() && !findings.iter().any(breaks_off);
    let new = new.filter(|new| is_whole && continues(before, new, course));
    let frontier = new.as_ref().and_then(|new| course.frontier(new.size()));
    let origin = before.origin.clone().or(new.and_then(|new| new.origin));
    let frontier = frontier.unwrap_or_else(|| before.frontier.clone());
    Some(VerifyState { origin, frontier, findings: signs })
}

/// Whether what was read is the ledger of the earlier state, and leads through it.
fn continues(before: &VerifyState, new: &VerifyState, course: &Course) -> bool {
    let is_same = before.origin.is_none() || before.origin == new.origin;
    let leads = || course.frontier(before.size()).as_ref() == Some(&before.frontier);
    is_same && new.size() >= before.size() && leads()
}

impl Verified {
    /// Adds these findings, also to the state.
    pub(super) fn add(&mut self, findings: &[Finding]) {
        self.findings = with(std::mem::take(&mut self.findings), findings);
        self.findings.sort_by_key(|found| (found.kind.is_information(), found.from, found.kind, found.until));
        if let Some(state) = &mut self.state {
            state.findings = with(std::mem::take(&mut state.findings), findings);
        }
    }
}

/// Whether the finding says that the ledger is not the one that an anchor is of.
pub(super) fn breaks_off(found: &Finding) -> bool {
    matches!(found.kind, FindingKind::Truncated | FindingKind::RolledBack | FindingKind::Forked)
}

/// The findings, and those of earlier runs that they do not say.
pub(super) fn with(mut findings: Vec<Finding>, earlier: &[Finding]) -> Vec<Finding> {
    let key = |found: &Finding| (found.kind, found.from, found.until, found.belongs_at);
    let known: HashSet<_> = findings.iter().map(key).collect();
    let mut others: Vec<Finding> =
        earlier.iter().filter(|found| !known.contains(&key(found))).cloned().collect();
    if findings.len().saturating_mul(others.len()) <= MOST_PAIRS {
        others.retain(|other| !findings.iter().any(|found| covers(found, other)));
    }
    findings.extend(others);
    findings
}

/// Whether a finding says of more entries what the other one says.
fn covers(found: &Finding, other: &Finding) -> bool {
    let is_of_entries = other.from < other.until;
    is_of_entries
        && (found.kind, found.belongs_at) == (other.kind, other.belongs_at)
        && found.from <= other.from
        && other.until <= found.until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_runs_have_found_is_told_again_and_once() {
        use FindingKind::{HeadAltered, Missing, Modified};
        let now = vec![Finding::new(Missing, 3..9, "gone"), Finding::new(HeadAltered, 9..9, "one")];
        let earlier = [
            Finding::new(Missing, 4..5, "gone"),
            Finding::new(Missing, 8..10, "gone"),
            Finding::new(Modified, 4..5, "changed"),
            Finding::new(HeadAltered, 9..9, "another"),
            Finding::new(HeadAltered, 7..7, "other"),
        ];
        let told = with(now.clone(), &earlier);
        let shown = |found: &Finding| (found.kind, found.from, found.until);
        assert_eq!(
            told.iter().map(shown).collect::<Vec<_>>(),
            [(Missing, 3, 9), (HeadAltered, 9, 9), (Missing, 8, 10), (Modified, 4, 5), (HeadAltered, 7, 7)]
        );
        assert_eq!(with(told.clone(), &earlier), told);
        assert_eq!(with(now.clone(), &[]), now);
    }
}
