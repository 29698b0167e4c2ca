//! Finds entries that stand at the place of others.

use std::collections::BTreeSet;

use super::{
    finding::{Finding, FindingKind},
    hasher::is_leaf,
    judge::{ALL_DIFFER, moved_to},
    layout::{Layout, lay_out},
};
use crate::error::AuditError;
use crate::store::{Evidence, StoredRow, columns};

/// The most entries of which each is tried at the place of each other.
const MOST: usize = 128;

/// Finds the entries that stand at the place of another one, among those that differ, are missing or were added, and
/// the entries that are nowhere.
pub(super) async fn find_moved(
    evidence: &dyn Evidence,
    ledger: &str,
    tree_until: u64,
    findings: Vec<Finding>,
) -> Result<Vec<Finding>, AuditError> {
    let mut moved: Vec<(i64, u64)> = findings
        .iter()
        .filter_map(|found| found.belongs_at.map(|belongs_at| (found.from, belongs_at)))
        .collect();
    if let Some(suspects) = suspects(&findings) {
        let mut places = Vec::new();
        for seq in suspects {
            places.push(load(evidence, ledger, seq).await?);
        }
        moved.extend(pairs(&places));
    }
    moved.sort_unstable();
    moved.dedup_by_key(|(seq, _)| *seq);
    Ok(if moved.is_empty() { findings } else { explain(findings, &moved, tree_until) })
}

/// The entries that may stand somewhere else, if they are few.
fn suspects(findings: &[Finding]) -> Option<BTreeSet<i64>> {
    use FindingKind::{Added, BatchAltered, Missing, Modified};
    let mut suspects = BTreeSet::new();
    let is_suspect = |found: &&Finding| match found.kind {
        Added | Missing | Modified => true,
        BatchAltered => found.text == ALL_DIFFER,
        _ => false,
    };
    for found in findings.iter().filter(is_suspect) {
        let count = usize::try_from(found.until.saturating_sub(found.from)).ok()?;
        if count > MOST {
            return None;
        }
        suspects.extend(found.range());
        if suspects.len() > MOST {
            return None;
        }
    }
    Some(suspects)
}

struct Place {
    seq: i64,
    layout: Layout,
    row: Option<StoredRow>,
}

async fn load(evidence: &dyn Evidence, ledger: &str, seq: i64) -> Result<Place, AuditError> {
    let row = evidence.rows(ledger, seq..seq.saturating_add(1), 1).await?.rows.pop();
    let mut place = Place { seq, layout: Layout::default(), row };
    if let Ok(at) = u64::try_from(seq) {
        let leaves = evidence.leaves(ledger, seq..seq.saturating_add(1)).await?;
        let first = leaves.rows.first().map_or(seq, |row| row.first_seq.min(seq));
        let batches = evidence.batches(ledger, first..seq.saturating_add(1)).await?;
        place.layout = lay_out(&(at..at.saturating_add(1)), u64::MAX, &leaves, &batches);
    }
    Ok(place)
}

/// Pairs each row with the place where it belongs.
fn pairs(places: &[Place]) -> Vec<(i64, u64)> {
    let mut found = Vec::new();
    for from in places {
        let Some(row) = from.row.as_ref().and_then(|found| found.row.as_ref()) else { continue };
        let row = columns(row);
        let belongs = |to: &&Place| {
            let (span, stored) = (to.layout.spans.first(), to.layout.stored.first().copied().flatten());
            match (span, stored) {
                (Some(span), Some(stored)) if to.seq != from.seq => {
                    is_leaf(span, to.seq.cast_unsigned(), &row, &stored)
                }
                _ => false,
            }
        };
        found.extend(places.iter().find(belongs).map(|to| (from.seq, to.seq.cast_unsigned())));
    }
    found
}

/// Replaces what is said of entries that were found somewhere else.
fn explain(findings: Vec<Finding>, moved: &[(i64, u64)], tree_until: u64) -> Vec<Finding> {
    let stand: BTreeSet<i64> = moved.iter().map(|(seq, _)| *seq).collect();
    let belong: BTreeSet<i64> = moved.iter().map(|(_, belongs_at)| belongs_at.cast_signed()).collect();
    let mut missing: BTreeSet<i64> = stand.difference(&belong).copied().collect();
    missing.retain(|seq| u64::try_from(*seq).is_ok_and(|seq| seq < tree_until));
    let mut explained = Vec::new();
    for found in findings {
        match found.kind {
            FindingKind::Moved => {}
            FindingKind::Missing => explained.extend(without(found, &belong)),
            FindingKind::Modified | FindingKind::Added => explained.extend(without(found, &stand)),
            FindingKind::BatchAltered
                if !found.range().is_empty() && found.range().all(|seq| stand.contains(&seq)) => {}
            _ => explained.push(found),
        }
    }
    explained.extend(moved.iter().map(|(seq, belongs_at)| Finding {
        from: *seq,
        until: seq.saturating_add(1),
        ..moved_to(0, *belongs_at)
    }));
    let gone = "the entry is gone, and another one stands in its place";
    explained.extend(missing.into_iter().map(|seq| Finding::at(FindingKind::Missing, seq, gone)));
    explained
}

/// The finding about all of its entries but these.
fn without(found: Finding, these: &BTreeSet<i64>) -> Vec<Finding> {
    let (mut left, mut from) = (Vec::new(), found.from);
    for seq in these.range(found.range()) {
        if *seq > from {
            left.push(Finding { from, until: *seq, ..found.clone() });
        }
        from = seq.saturating_add(1);
    }
    if from < found.until {
        left.push(Finding { from, ..found });
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: Vec<Finding>) -> Vec<(FindingKind, i64, i64)> {
        findings.into_iter().map(|found| (found.kind, found.from, found.until)).collect()
    }

    #[test]
    fn what_was_found_elsewhere_is_not_missing_and_what_was_found_nowhere_is() {
        use FindingKind::{Missing, Modified, Moved};
        let findings = vec![
            Finding::new(Modified, 10..14, ""),
            Finding::new(Missing, 14..15, ""),
            Finding::new(Modified, 20..21, ""),
        ];
        // Entry 10 was removed, and those after it renumbered.
        let moved: Vec<_> = (10..14_i64).map(|seq| (seq, seq.cast_unsigned() + 1)).collect();
        assert_eq!(
            shown(explain(findings.clone(), &moved, 15)),
            [
                (Modified, 20, 21),
                (Moved, 10, 11),
                (Moved, 11, 12),
                (Moved, 12, 13),
                (Moved, 13, 14),
                (Missing, 10, 11)
            ]
        );
        // Two entries changed places.
        assert_eq!(
            shown(explain(findings, &[(10, 12), (12, 10)], 15)),
            [
                (Modified, 11, 12),
                (Modified, 13, 14),
                (Missing, 14, 15),
                (Modified, 20, 21),
                (Moved, 10, 11),
                (Moved, 12, 13)
            ]
        );
    }
}
