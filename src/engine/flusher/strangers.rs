//! Reports once dead processes' journals that name another database: nobody may ever commit what they hold.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use crate::engine::Engine;
use crate::error::{AuditError, ErrorKind};
use crate::queue::{Journal, Stranger};

/// The number of looks that must have found a journal before it is reported. A log that is for it may be about to open.
const TOLD_AFTER: u32 = 2;

/// A journal that this log does not commit.
#[derive(Debug, Default)]
struct Strange {
    /// The database and the ledger that it is for, in words.
    whose: String,
    /// The number of looks that have found it.
    looks: u32,
    /// The most of its entries that can be uncommitted. `None`: they are not counted yet.
    entries: Option<u64>,
    /// It cannot be read, so that the number says nothing.
    is_unreadable: bool,
    is_told: bool,
}

/// Journals that are not for this log's database and ledger, as far as they say.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Only the ledger can say whether these are its.
    to_ask: VecDeque<(PathBuf, Stranger)>,
    strange: BTreeMap<PathBuf, Strange>,
}

impl Strangers {
    /// The ledger is to be asked whether this is its.
    pub(super) fn ask(&mut self, directory: PathBuf, stranger: Stranger) {
        self.to_ask.push_back((directory, stranger));
    }

    pub(super) fn next_to_ask(&mut self) -> Option<(PathBuf, Stranger)> {
        self.to_ask.pop_front()
    }

    pub(super) fn has_to_ask(&self) -> bool {
        !self.to_ask.is_empty()
    }

    /// Journals that are still there.
    pub(super) fn found(&mut self, found: &[PathBuf]) {
        self.strange.retain(|path, _| found.contains(path));
        self.to_ask.clear();
    }

    /// A look has found a journal that is not this log's.
    pub(super) fn add(&mut self, directory: PathBuf, stranger: &Stranger) {
        let strange = self.strange.entry(directory).or_default();
        strange.looks += 1;
        strange.is_unreadable = stranger.newer.is_some();
        strange.whose = match (&stranger.names, stranger.newer) {
            (Some((database, ledger)), _) => format!("for the database {database} and the ledger {ledger}"),
            (None, Some(version)) => format!("in format {version}, which this version cannot read"),
            (None, None) => "of an unknown database".to_owned(),
        };
    }

    /// A journal whose entries are to be counted.
    pub(super) fn next_to_count(&self, is_in_work: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let is_due = |strange: &Strange| strange.looks >= TOLD_AFTER && strange.entries.is_none();
        let mut due = self.strange.iter().filter(|(path, strange)| is_due(strange) && !is_in_work(path));
        due.next().map(|(path, _)| path.clone())
    }

    /// Takes in the count of a journal's entries. `None`: the journal is gone, or cannot be read.
    pub(super) fn counted(&mut self, directory: &Path, journal: Option<&Journal>) {
        let Some(strange) = self.strange.get_mut(directory) else { return };
        if journal.is_some_and(|journal| journal.locked) {
            // Somebody cares for it.
            strange.looks = 0;
            return;
        }
        let segments = journal.into_iter().flat_map(|journal| &journal.segments);
        strange.entries = Some(segments.map(|segment| segment.records).sum());
    }

    /// Reports the journals that hold entries, all together, once they are counted.
    pub(super) fn tell(&mut self, engine: &Engine) {
        let is_due = |strange: &Strange| strange.looks >= TOLD_AFTER && !strange.is_told;
        if self.strange.values().any(|strange| is_due(strange) && strange.entries.is_none()) {
            return;
        }
        let mut told = Vec::new();
        for (path, strange) in self.strange.iter_mut().filter(|(_, strange)| is_due(strange)) {
            strange.is_told = true;
            let entries = strange.entries.unwrap_or(0);
            if entries > 0 || strange.is_unreadable {
                told.push((path, &*strange, entries));
            }
        }
        let Some((path, first, entries)) = told.first() else { return };
        let held = if first.is_unreadable { String::new() } else { format!(" with up to {entries} entries") };
        let others: u64 = told.iter().skip(1).map(|(.., entries)| entries).sum();
        let others = match told.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more journals with up to {others} entries are like it"),
        };
        let message = format!(
            "{} is the journal of a dead process{held}, and this log does not commit it: it is {}, and this ledger does not \
             know its writer{others}; a log of that database and ledger commits it, if it has this directory of journals; \
             remove it if nobody needs it",
            path.display(),
            first.whose
        );
        engine.status.noticed(AuditError::new(ErrorKind::Store, message));
    }
}
