//! Finds gaps among the numbers of each writer.

use std::{collections::HashMap, ops::Range};

use uuid::Uuid;

use super::{
    chunk::signed,
    finding::{Finding, FindingKind},
};
use crate::error::AuditError;
use crate::store::Evidence;

/// The most gaps that are kept.
const MOST: usize = 1000;

/// The numbers of writers, as far as the batches account for them.
#[derive(Debug, Default)]
pub(super) struct Writers {
    reached: HashMap<Uuid, u64>,
    gaps: Vec<(Uuid, Range<u64>)>,
    begins_later: bool,
}

impl Writers {
    /// `begins_later`: earlier batches are not looked at.
    pub(super) fn new(begins_later: bool) -> Self {
        Self { begins_later, ..Self::default() }
    }

    /// Adds the numbers of the next batches, in their order.
    pub(super) fn add(&mut self, numbers: Vec<(Uuid, Range<u64>)>) {
        for (writer, numbers) in numbers {
            let begins = if self.begins_later { numbers.start } else { 0 };
            let reached = self.reached.entry(writer).or_insert(begins);
            if numbers.start > *reached && self.gaps.len() < MOST {
                self.gaps.push((writer, *reached..numbers.start));
            }
            *reached = numbers.end.max(*reached);
        }
    }

    /// Makes a finding about each gap.
    pub(super) async fn findings(
        &self,
        evidence: &dyn Evidence,
        ledger: &str,
    ) -> Result<Vec<Finding>, AuditError> {
        let mut findings = Vec::new();
        for (writer, gap) in &self.gaps {
            let positions = (signed(gap.start), signed(gap.end));
            let quarantined = evidence.quarantined(ledger, *writer, positions).await?;
            let numbers = format!("{} to {} of writer {writer}", gap.start + 1, gap.end);
            findings.push(if quarantined >= gap.end - gap.start {
                Finding::new(FindingKind::Quarantined, 0..0, format!("the entries {numbers} are in quarantine"))
            } else {
                let text = format!(
                    "the entries {numbers} are in no batch, and {quarantined} of them in quarantine: they were lost with their \
                     machine, committed later from quarantine, or removed from it"
                );
                Finding::new(FindingKind::WriterGap, 0..0, text)
            });
        }
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_batch_has_are_a_gap_and_those_before_the_first_look_are_not() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let numbers = vec![
            (one, 0..5),
            (two, 2..3),
            (one, 5..9),
            (two, 3..4),
            (one, 10..11),
            (one, 4..6),
            (one, 11..12),
        ];
        let mut writers = Writers::default();
        writers.add(numbers.clone());
        assert_eq!(writers.gaps, [(two, 0..2), (one, 9..10)]);
        let mut later = Writers::new(true);
        later.add(numbers);
        assert_eq!(later.gaps, [(one, 9..10)]);
    }
}
