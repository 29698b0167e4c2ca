//! Leads the ranges of a ledger to the anchors and to its head, and says what was found.

use std::ops::Range;

use super::{
    anchor::{Anchor, spelled},
    chunk::signed,
    course::Led,
    finding::{Finding, FindingKind},
    judge::judge,
    kept::{breaks_off, earlier, kept, with},
    layout::FOREIGN_BATCH,
    moved::find_moved,
    plan::Plan,
    run::{MOST_FINDINGS, Run},
    verified::Verified,
};
use crate::error::AuditError;
use crate::ledger::{Checkpoint, MOST_LEAVES};

/// The most findings of rows and nodes that are at no place of the ledger.
const MOST_FOREIGN: u32 = 1000;

impl Run {
    /// Leads the ranges to the anchors, and says what was found.
    pub(super) async fn conclude(&mut self, plan: &Plan<'_>) -> Result<Verified, AuditError> {
        let mut wrong = plan.ends.finding();
        let outcome = self.lead(plan, &mut wrong).await?;
        for index in 0..self.course.parts.len() {
            let Some(part) = self.course.parts.get_mut(index) else { break };
            if let Some(authority) = part.authority.take() {
                let chunk = plan.read(part.range.clone()).await?;
                part.findings = judge(&chunk, Some(&authority));
            }
        }
        let mut state = self.state(plan);
        if let Some(state) = &mut state {
            // If leaf hashes were changed, the frontier is the one to which the checkpoints lead.
            let right = self.course.frontier(state.size());
            state.frontier = right.unwrap_or_else(|| state.frontier.clone());
            // The next run may have the state alone, without the checkpoint by which these were found.
            let new = outcome.findings.iter().filter(|found| !state.findings.contains(found)).cloned();
            let new: Vec<Finding> = new.collect();
            state.findings.extend(new);
        }
        self.findings
            .extend(self.course.parts.iter_mut().flat_map(|part| std::mem::take(&mut part.findings)));
        self.findings.extend(plan.ends.findings.iter().cloned());
        self.findings.extend(outcome.findings);
        self.find_foreign(plan).await?;
        self.find_upper_nodes(plan).await?;
        let findings = std::mem::take(&mut self.findings);
        let mut findings = find_moved(plan.evidence, &plan.ledger, plan.ends.tree_until, findings).await?;
        findings.extend(wrong);
        cut_off(&mut findings, plan);
        findings.extend(self.information(plan, outcome.held).await?);
        findings.sort_by_key(|found| (found.kind.is_information(), found.from, found.kind, found.until));
        findings.dedup();
        let mut findings = joined(findings);
        let before = self.verification.before.as_ref();
        let earlier = earlier(before, &findings, outcome.held);
        findings = with(findings, &earlier);
        let more = findings.len().saturating_sub(MOST_FINDINGS);
        if more > 0 {
            findings.sort_by_key(|found| (!breaks_off(found), found.kind.is_information(), found.from));
            findings.truncate(MOST_FINDINGS);
        }
        findings.sort_by_key(|found| (found.kind.is_information(), found.from, found.kind, found.until));
        let kept = kept(before, state.clone(), &self.course, (&findings, outcome.held));
        let checkpoint = plan.ends.origin.clone().zip(state.as_ref());
        Ok(Verified {
            ledger: plan.ledger.clone(),
            size: plan.ends.next_seq,
            covered: outcome.held,
            anchored: outcome.anchored,
            entries: self.entries,
            checkpoint: checkpoint.map(|(origin, state)| Checkpoint::of(origin, &state.frontier)),
            findings,
            more: more as u64,
            state: kept,
        })
    }
}

/// The size up to which the anchors have led.
#[derive(Default)]
struct Outcome {
    /// The size of the largest anchor that holds.
    held: u64,
    anchored: bool,
    findings: Vec<Finding>,
}

impl Run {
    /// Leads the ranges to the anchors from the smallest to the largest, then to the head. A fault of the head is added
    /// to `wrong`, unless it has one already.
    async fn lead(&mut self, plan: &Plan<'_>, wrong: &mut Option<Finding>) -> Result<Outcome, AuditError> {
        let mut outcome = Outcome::default();
        let mut failed = None;
        for anchor in &plan.anchors {
            if anchor.size() > plan.ends.tree_until || failed.is_some() {
                break;
            }
            let state = self.verification.state.as_ref();
            let led = match state.filter(|_| anchor.size() < self.course.base.size()) {
                Some(state) if plan.is_beginning(anchor, state).await? => Led::Yes,
                Some(_) => Led::No,
                None => self.course.lead_to(anchor, outcome.held),
            };
            match led {
                Led::Yes => {
                    (outcome.held, outcome.anchored) = (anchor.size(), anchor.size() > 0);
                    if is_of_another(anchor, plan) && wrong.is_none() {
                        let text = "its log_id is not that of the checkpoint, whose root the ledger leads to";
                        *wrong = Some(Finding::new(FindingKind::HeadAltered, 0..0, text));
                    }
                }
                Led::No => failed = Some(anchor),
                Led::Unknown => {}
            }
        }
        let short = plan.anchors.iter().find(|anchor| anchor.size() > plan.ends.tree_until);
        if let Some(anchor) = short {
            outcome.findings.push(short_of(anchor, failed.is_some(), outcome.held, plan));
        } else if let Some(anchor) = failed {
            outcome.findings.push(forked(anchor, outcome.held, plan));
        }
        self.lead_to_head(plan, &outcome, wrong);
        Ok(outcome)
    }

    fn lead_to_head(&mut self, plan: &Plan<'_>, outcome: &Outcome, wrong: &mut Option<Finding>) {
        let Some(head) = plan.ends.frontier.as_ref().filter(|head| head.size() <= plan.ends.tree_until)
        else {
            return;
        };
        if wrong.is_some() || head.size() < self.course.base.size() {
            return;
        }
        let found = self.course.frontier(head.size());
        if found.as_ref().is_some_and(|found| found == head) {
            return;
        }
        let led = if found.is_some() && outcome.held >= head.size() {
            Led::No
        } else {
            self.course.lead(head.size(), &head.root(), outcome.held)
        };
        if led == Led::No {
            let text = "its frontier is not what the leaf hashes lead to";
            *wrong = Some(Finding::new(FindingKind::HeadAltered, 0..0, text));
        }
    }

    /// Finds rows and nodes that are at no place of the ledger.
    async fn find_foreign(&mut self, plan: &Plan<'_>) -> Result<(), AuditError> {
        let Plan { evidence, ledger, ends, .. } = plan;
        let rows = evidence.beyond(ledger, signed(ends.until), MOST_FOREIGN).await?.rows;
        let beyond = "a row beyond the head of the ledger, which no writer has committed";
        self.findings.extend(rows.iter().map(|row| Finding::at(FindingKind::Added, row.seq, beyond)));
        let rows = evidence.rows(ledger, i64::MIN..0, MOST_FOREIGN).await?.rows;
        let before = "a row before the first entry, which no writer has committed";
        self.findings.extend(rows.iter().map(|row| Finding::at(FindingKind::Added, row.seq, before)));
        for first in evidence.foreign_batches(ledger, signed(ends.until), MOST_FOREIGN).await? {
            let text = if first < 0 {
                FOREIGN_BATCH
            } else {
                "the row of a batch begins here, beyond the head of the ledger"
            };
            self.findings.push(Finding::at(FindingKind::BatchAltered, first, text));
        }
        for (level, index) in evidence.foreign_nodes(ledger, signed(ends.tree_until), MOST_FOREIGN).await? {
            let text = format!("there is no node {index} of level {level} in this tree");
            self.findings.push(Finding::new(FindingKind::NodeAltered, 0..0, text));
        }
        Ok(())
    }

    /// Compares the nodes over several ranges.
    async fn find_upper_nodes(&mut self, plan: &Plan<'_>) -> Result<(), AuditError> {
        for (level, right) in self.course.upper_nodes() {
            let (Some(first), Some(last)) = (right.keys().next(), right.keys().last()) else { continue };
            let stored = plan.evidence.nodes(&plan.ledger, level, signed(*first)..signed(last + 1)).await?;
            for (index, hash) in &right {
                let found = stored.iter().find(|(at, _)| *at == signed(*index)).and_then(|(_, found)| *found);
                if found != Some(*hash) {
                    let text =
                        format!("the node {index} of level {level} is not what the entries below it fold to");
                    let range = index << level..(index + 1) << level;
                    self.findings.push(Finding::new(FindingKind::NodeAltered, range, text));
                }
            }
        }
        Ok(())
    }

    /// The findings that are no sign of a change, and worth knowing.
    async fn information(&self, plan: &Plan<'_>, held: u64) -> Result<Vec<Finding>, AuditError> {
        let mut findings = self.writers.findings(plan.evidence, &plan.ledger).await?;
        let not_covered = |range: Range<u64>, text: &str| Finding::new(FindingKind::NotCovered, range, text);
        let (tree_until, next_seq) = (plan.ends.tree_until, plan.ends.next_seq.min(MOST_LEAVES));
        if held < tree_until {
            let text = if held == 0 {
                "no checkpoint covers these entries: what was said of them holds if the head of the ledger is as it was"
            } else {
                "committed after the newest checkpoint that holds"
            };
            findings.push(not_covered(held..tree_until, text));
        }
        if tree_until < next_seq && plan.ends.known_until > tree_until {
            let text = if plan.ends.has_tree {
                "not in the tree yet: a log that is open adds them in steps"
            } else {
                "the ledger has no tree: a log of this version adds it when it opens the ledger"
            };
            findings.push(not_covered(tree_until..next_seq.min(plan.ends.known_until), text));
        }
        if self.gaps > 0 {
            let text = format!("{} entries audit.gap say which others were lost or changed", self.gaps);
            findings.push(Finding::new(FindingKind::Losses, 0..0, text));
        }
        Ok(findings)
    }
}

/// Whether an anchor names another ledger than the one whose log has this id.
fn is_of_another(anchor: &Anchor, plan: &Plan<'_>) -> bool {
    let is_by_log_id = |origin: &str| origin.starts_with("tracing-audit.invalid/");
    match (anchor.origin(), &plan.ends.origin) {
        (Some(named), Some(own)) => is_by_log_id(named.as_str()) && named != own,
        (Some(named), None) => is_by_log_id(named.as_str()),
        (None, _) => false,
    }
}

fn own_name(plan: &Plan<'_>) -> String {
    plan.ends.origin.as_ref().map_or_else(|| "one without a name".to_owned(), ToString::to_string)
}

/// The finding of a root that the ledger does not lead to.
fn forked(anchor: &Anchor, held: u64, plan: &Plan<'_>) -> Finding {
    let text = match anchor.origin().filter(|_| is_of_another(anchor, plan)) {
        Some(named) => format!(
            "the checkpoint is of the ledger {named}, and this is {}: it is the wrong checkpoint, or the ledger was replaced",
            own_name(plan)
        ),
        None => format!(
            "the checkpoint of {} entries has the root {}, to which the ledger does not lead: entries in this range were \
             changed with all that proves them",
            anchor.size(),
            spelled(anchor.root())
        ),
    };
    Finding::new(FindingKind::Forked, held..anchor.size(), text)
}

/// The finding of an anchor that is larger than the ledger.
fn short_of(anchor: &Anchor, failed: bool, held: u64, plan: &Plan<'_>) -> Finding {
    let (size, has) = (anchor.size(), plan.ends.tree_until);
    let other = match anchor.origin().filter(|_| is_of_another(anchor, plan)) {
        Some(named) => format!("; it is of the ledger {named}, and this is {}", own_name(plan)),
        None => String::new(),
    };
    if failed {
        let text = format!(
            "the ledger was longer: a checkpoint is of {size} entries, and {has} are left, of which others were committed since{other}"
        );
        return Finding::new(FindingKind::RolledBack, held..size, text);
    }
    let text = format!(
        "the end was cut off: a checkpoint is of {size} entries, and {has} are left in the tree{other}"
    );
    Finding::new(FindingKind::Truncated, has..size, text)
}

/// The findings in their order, each once; those about entries that follow each other as one.
fn joined(findings: Vec<Finding>) -> Vec<Finding> {
    let mut joined: Vec<Finding> = Vec::new();
    for found in findings {
        let is_of_entries = matches!(found.kind, FindingKind::Missing | FindingKind::Modified);
        let same =
            joined.iter_mut().rev().take(4).find(|last| last.kind == found.kind && last.text == found.text);
        match same {
            Some(last) if *last == found => {}
            Some(last) if is_of_entries && last.until == found.from => last.until = found.until,
            _ => joined.push(found),
        }
    }
    joined
}

/// Says that the end was cut off, if nothing is left of the entries that the head does not count any more.
fn cut_off(findings: &mut Vec<Finding>, plan: &Plan<'_>) {
    let (from, until) = (signed(plan.ends.next_seq), signed(plan.ends.tree_until));
    let is_gone = |found: &&Finding| found.kind == FindingKind::Missing && found.until > from;
    let gone: i64 = findings.iter().filter(is_gone).map(|found| found.until - found.from.max(from)).sum();
    if from >= until || gone != until - from {
        return;
    }
    findings.retain_mut(|found| {
        if found.kind == FindingKind::Missing && found.from < from {
            found.until = found.until.min(from);
        }
        let is_of_end = matches!(found.kind, FindingKind::Missing | FindingKind::BatchAltered);
        found.kind != FindingKind::HeadAltered && !(is_of_end && found.from >= from)
    });
    let text = "the end was cut off: nothing but leaf hashes is left of these entries";
    findings.push(Finding::new(FindingKind::Truncated, plan.ends.next_seq..plan.ends.tree_until, text));
}
