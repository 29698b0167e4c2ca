//! Settings: everything that the builder decides about a log, and the defaults.

use std::time::Duration;

use uuid::Uuid;

use super::notice::OnNotice;
use crate::defaults;
use crate::entry::EventDefaults;
use crate::entry::Limits;
use crate::platform::Origin;
use crate::query::IndexOn;
use crate::queue::{JournalHome, WhenFull};
use crate::store::Store;

/// The settings of one log.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) store: Store,
    pub(crate) ledger: String,
    /// Identifies this log's queue in the database, which keeps one position per writer.
    pub(crate) writer: Uuid,
    /// This process, and the place of its queue.
    pub(crate) origin: Origin,
    /// The home of this log's journal, in which journals of dead processes are looked for too. `None` if the queue is
    /// in memory.
    pub(crate) journal: Option<JournalHome>,
    /// A batch starts when this many entries are pending.
    pub(crate) batch_entries: usize,
    /// A batch starts when the oldest pending entry is this old.
    pub(crate) flush_interval: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) when_full: WhenFull,
    pub(crate) limits: Limits,
    /// Values for the fields that an event leaves out.
    pub(crate) defaults: EventDefaults,
    pub(crate) on_notice: OnNotice,
    /// Indexes to create in the background, if they do not exist.
    pub(crate) indexes: Vec<IndexOn>,
}

impl Settings {
    /// Every setting at its default: a new writer without a journal.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            ledger: defaults::LEDGER.to_owned(),
            writer: Uuid::new_v4(),
            origin: Origin::current(None),
            journal: None,
            batch_entries: defaults::BATCH_ENTRIES,
            flush_interval: defaults::FLUSH_INTERVAL,
            commit_timeout: defaults::COMMIT_TIMEOUT,
            when_full: WhenFull::Block { timeout: defaults::FULL_TIMEOUT },
            limits: defaults::LIMITS,
            defaults: EventDefaults::default(),
            on_notice: OnNotice::default(),
            indexes: Vec::new(),
        }
    }
}
