//! Keeps the books of what dead processes' journals hold: how much, why one is left alone, and which requests for all of
//! it are served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::engine::{Engine, Unrecovered};
use crate::error::{AuditError, ErrorKind};
use crate::queue::JournalEnd;

/// The most directories that one error names.
const NAMED_MAX: usize = 8;

/// The knowledge about a name in the directory of journals, until it is settled or turns out to concern nobody.
#[derive(Debug, Default)]
struct Holding {
    /// The last request that there was when this was found first.
    since: u64,
    /// It is the journal of this writer, who is dead, and for this ledger.
    dead: Option<(Uuid, JournalEnd)>,
    /// The same, but another log has adopted it.
    is_elsewhere: bool,
    /// The position up to which it is committed.
    position: Option<u64>,
    /// The reason why nothing in it is committed, until the next look tries again.
    left: Option<AuditError>,
}

impl Holding {
    fn is_known(&self) -> bool {
        self.dead.is_some() || self.is_elsewhere || self.left.is_some()
    }
}

/// The contents of dead processes' journals.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: BTreeMap<PathBuf, Holding>,
    /// The last request that there was when the last look began which is over.
    asked: u64,
    /// The reason why the directory of journals cannot be looked at.
    unlooked: Option<AuditError>,
    is_looked: bool,
    /// The names that the first look has found and nobody has tried yet.
    untried: BTreeSet<PathBuf>,
    is_changed: bool,
}

impl Holdings {
    fn of(&mut self, directory: &Path) -> &mut Holding {
        self.is_changed = true;
        self.untried.remove(directory);
        self.held.entry(directory.to_owned()).or_default()
    }

    /// A look is over that was begun after this request. A journal that is being worked at stays as it is, and all
    /// others are tried again.
    pub(super) fn found(&mut self, asked: u64, found: &[PathBuf], is_in_work: impl Fn(&Path) -> bool) {
        if !self.is_looked {
            self.untried = found.iter().cloned().collect();
        }
        let mut before = std::mem::take(&mut self.held);
        for path in found {
            let known = before.remove(path);
            let mut holding = known.unwrap_or_else(|| Holding { since: asked, ..Holding::default() });
            if !is_in_work(path) {
                holding.left = None;
            }
            self.held.insert(path.clone(), holding);
        }
        self.held.extend(before.into_iter().filter(|(path, _)| is_in_work(path)));
        (self.asked, self.unlooked, self.is_looked, self.is_changed) = (asked, None, true, true);
    }

    /// The directory of journals cannot be looked at, or has not answered in time.
    pub(super) fn unlooked(&mut self, asked: u64, error: AuditError) {
        (self.asked, self.unlooked, self.is_changed) = (asked, Some(error), true);
    }

    /// The directory of journals has not answered yet, and somebody asks again.
    pub(super) fn still_unlooked(&mut self, asked: u64) {
        self.is_changed |= asked > self.asked;
        self.asked = asked;
    }

    /// It is the journal of a dead process, for this ledger.
    pub(super) fn dead(&mut self, directory: &Path, journal: Uuid, end: JournalEnd) {
        let holding = self.of(directory);
        (holding.dead, holding.is_elsewhere, holding.left) = (Some((journal, end)), false, None);
    }

    /// The same, and another log has adopted it.
    pub(super) fn elsewhere(&mut self, directory: &Path) {
        let holding = self.of(directory);
        (holding.dead, holding.is_elsewhere, holding.left) = (None, true, None);
    }

    /// The journal is committed up to this position.
    pub(super) fn reached(&mut self, directory: &Path, position: u64) {
        self.of(directory).position = Some(position);
    }

    /// Nothing in it is committed before the next look.
    pub(super) fn left(&mut self, directory: &Path, error: AuditError) {
        self.of(directory).left = Some(error);
    }

    /// Nothing of it is left to settle, or it is none of this log's business.
    pub(super) fn settled(&mut self, directory: &Path) {
        let is_held = self.held.remove(directory).is_some();
        self.is_changed |= self.untried.remove(directory) || is_held;
    }

    /// A journal of which nobody has asked how far it is committed.
    pub(super) fn uncounted(&self) -> Option<(&Path, Uuid)> {
        let mut held = self.held.iter();
        held.find_map(|(path, holding)| {
            let (journal, _) = holding.dead.filter(|_| holding.position.is_none())?;
            Some((path.as_path(), journal))
        })
    }

    /// Whether somebody waits for a journal that another log has adopted.
    pub(super) fn waits_for_others(&self, engine: &Engine) -> bool {
        self.held.values().any(|holding| holding.is_elsewhere && holding.left.is_none())
            && engine.progress.receiver_count() > 0
            && engine.progress.borrow().recovered < self.asked
    }

    /// The last request of which everything is settled that was found for it, or is left alone.
    fn served(&self) -> u64 {
        let open = self.held.values().filter(|holding| holding.left.is_none());
        let before = open.map(|holding| holding.since.saturating_sub(1)).min();
        before.map_or(self.asked, |before| before.min(self.asked))
    }

    fn unrecovered(&self) -> Unrecovered {
        let is_known = self.is_looked && self.untried.is_empty() && self.unlooked.is_none();
        let mut all = Unrecovered { at_least: !is_known, ..<_>::default() };
        for holding in self.held.values().filter(|holding| holding.is_known()) {
            all.journals += 1;
            match (holding.dead, holding.position) {
                (Some((_, end)), Some(position)) => {
                    all.entries += end.position.saturating_sub(position);
                    all.at_least |= !end.is_sure;
                }
                _ => all.at_least = true,
            }
        }
        all
    }

    /// The error that names whatever is left alone.
    fn left_alone(&self) -> Option<AuditError> {
        let left = self.held.iter().filter_map(|(path, holding)| Some((path, holding.left.as_ref()?)));
        let left: Vec<_> = left.collect();
        let first = self.unlooked.as_ref().or(left.first().map(|(_, error)| *error))?.clone();
        if left.len() + usize::from(self.unlooked.is_some()) == 1 {
            return Some(first);
        }
        let mut names: Vec<String> =
            left.iter().take(NAMED_MAX).map(|(path, _)| path.display().to_string()).collect();
        if left.len() > NAMED_MAX {
            names.push(format!("and {} more", left.len() - NAMED_MAX));
        }
        let message = format!("nothing in these journals is committed: {}", names.join(", "));
        Some(AuditError::new(ErrorKind::Store, message).because(first))
    }

    /// Publishes the books first, and then wakes the callers that wait for them.
    pub(super) fn publish(&mut self, engine: &Engine) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        engine.status.left_to_recover(self.unrecovered(), self.left_alone());
        let served = self.served();
        engine.progress.send_if_modified(|progress| {
            let is_more = served > progress.recovered;
            progress.recovered = progress.recovered.max(served);
            is_more
        });
    }
}
