//! Batches: consecutive records, decoded into rows, and how many of them are settled.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use uuid::Uuid;

use super::pause::panic_message;
use crate::engine::Engine;
use crate::entry::{EventDefaults, Row, encode_entry, interpret};
use crate::error::{AuditError, ErrorKind};
use crate::queue::{Records, altered, lost};
use crate::store::{Altered, Fault, Quarantined};

/// Most entries in one transaction, however many are pending: keeps a transaction around 150 ms and the memory of
/// its rows to some ten megabytes. Half as many are a tenth slower: each commit writes every hot page of the
/// indexes once, however many rows have changed it.
const BATCH_ENTRIES: usize = 16_384;
/// Most bytes of records in one transaction.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Records interpreted before the store gets its turn on the thread.
const INTERPRET_STEP: usize = 64;

/// Consecutive records, decoded into rows, and how many of them are committed or quarantined.
pub(super) struct Batch {
    /// The writer whose queue holds the records: this log, or a dead process.
    pub(super) writer: Uuid,
    /// Position of the queue after which the records were read.
    pub(super) after: u64,
    /// Position that the database has reached before the first item, as far as is known.
    reached: u64,
    /// Position before the first item.
    pub(super) from: u64,
    /// Number of items at the front that are gap entries of our own. One about lost records takes the place of the last
    /// record that it reports as lost; one about what a dead log had rejected comes after its last record.
    pub(super) gaps: usize,
    /// Damaged records that the books do not count yet.
    pub(super) damaged: u64,
    pub(super) items: Vec<Item>,
    /// Number of items that are committed or quarantined.
    pub(super) done: usize,
    /// The items right after those, which the database refuses. They are quarantined in the transaction of the next
    /// rows, or at the end of the batch in one of their own.
    pub(super) refused: Vec<Quarantined>,
    /// The change that an attempt found at the end of the ledger, and the gap entry that reports it. The entry has no
    /// position.
    pub(super) altered: Option<(Altered, Row)>,
    /// Nothing of the writer is left to settle after this.
    pub(super) ends: bool,
    /// The defaults of the dead log that accepted the records. `None`: they are our own.
    defaults: Option<Arc<EventDefaults>>,
    /// The database has refused a row in the last attempt, and accepted none of the rows that were tried with it.
    pub(super) all_refused: bool,
    /// The database has accepted other entries since it refused these, so these are at fault, not the database.
    pub(super) others_accepted_since: bool,
}

/// One record of a batch.
pub(super) enum Item {
    Row(Row),
    /// A record that this version cannot read.
    Unreadable(Quarantined),
}

impl Batch {
    /// A batch of one record about a dead writer, which ends with it. The database has reached `position`, and `lost`
    /// entries that follow it are gone: the record takes the place of the last one, or comes after the last position if none
    /// is known. `None`: it cannot be read, which would be a bug of this crate.
    pub(super) fn about(
        engine: &Engine,
        writer: Uuid,
        position: u64,
        lost: u64,
        record: &[u8],
    ) -> Option<Self> {
        let row = interpret(record, &engine.settings.defaults).ok()?;
        Some(Self {
            writer,
            after: position,
            reached: position,
            from: position + lost.saturating_sub(1),
            gaps: 1,
            damaged: lost,
            items: vec![Item::Row(row)],
            done: 0,
            refused: Vec::new(),
            altered: None,
            ends: true,
            defaults: None,
            all_refused: false,
            others_accepted_since: false,
        })
    }

    /// A batch without a record, after everything that this log has settled.
    pub(super) fn of_nothing(engine: &Engine) -> Self {
        let settled = engine.queue.counts().acknowledged;
        Self {
            writer: engine.settings.writer,
            after: settled,
            reached: settled,
            from: settled,
            gaps: 0,
            damaged: 0,
            items: Vec::new(),
            done: 0,
            refused: Vec::new(),
            altered: None,
            ends: false,
            defaults: None,
            all_refused: false,
            others_accepted_since: false,
        }
    }

    /// Position that the database has reached, as far as is known.
    pub(super) fn reached(&self) -> u64 {
        if self.done == 0 { self.reached } else { self.from + self.done as u64 }
    }

    /// The database has reached this position, which is not the one after which the records were read.
    pub(super) fn follows(&mut self, reached: u64) {
        self.reached = reached;
    }

    /// Leaves out this number of items at the front.
    pub(super) fn leave_out(&mut self, items: usize) {
        self.items.drain(..items);
        self.from += items as u64;
        self.gaps = self.gaps.saturating_sub(items);
    }

    /// Position after the last record.
    pub(super) fn end(&self) -> u64 {
        self.from + self.items.len() as u64
    }

    pub(super) fn rows(&self, range: Range<usize>) -> Vec<&Row> {
        let items = self.items.get(range).unwrap_or(&[]);
        items.iter().filter_map(|item| if let Item::Row(row) = item { Some(row) } else { None }).collect()
    }

    /// Adds an item to the refused ones, with the reason.
    pub(super) fn refuse(&mut self, index: usize, fault: Fault, error: &AuditError) {
        let Some(Item::Row(row)) = self.items.get(index) else { return };
        let mut record = Vec::new();
        encode_entry(&mut record, row);
        self.refused.push(Quarantined {
            id: Some(row.id),
            error: error.to_string(),
            record,
            duplicate: fault == Fault::Duplicate,
        });
    }

    /// The error of a database that refuses whatever it is sent. It is blamed, not the entries.
    pub(super) fn blame_database(&mut self, error: &AuditError) -> AuditError {
        if self.done == 0 {
            self.refused.clear();
        }
        self.all_refused = true;
        AuditError::new(ErrorKind::Store, format!("the database refuses every entry of a batch: {error}"))
    }

    /// Makes the gap entry that reports the change found at the end of the ledger.
    pub(super) fn tell(&mut self, engine: &Engine, found: Altered) -> Result<(), AuditError> {
        let record = altered(found.from, found.until, found.replaced, self.writer);
        let row = interpret(&record, &engine.settings.defaults).map_err(|_| {
            AuditError::new(ErrorKind::Store, "the end of the ledger was changed, and cannot be told of")
        })?;
        self.altered = Some((found, row));
        Ok(())
    }

    /// Adapts the batch to a database that was restored from a backup taken at `position`. The records from there to
    /// the position that the database had reached were committed, and are lost. A gap entry about them is put before
    /// the items that are not committed yet: it takes the place of the last lost record.
    pub(super) fn report_lost(&mut self, engine: &Engine, position: u64) {
        let reached = self.reached();
        if self.done > 0 {
            self.items.drain(..self.done);
            self.gaps = self.gaps.saturating_sub(self.done);
            self.from += self.done as u64;
            self.after = self.from;
            self.done = 0;
        }
        self.refused.clear();
        let record = lost(reached.saturating_sub(position), self.writer, position);
        let defaults = self.defaults.as_deref().unwrap_or(&engine.settings.defaults);
        if let Ok(row) = interpret(&record, defaults) {
            self.items.insert(0, Item::Row(row));
            self.gaps += 1;
            self.from -= 1;
        }
        self.reached = position;
    }
}

/// The most that a batch may hold.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: BATCH_ENTRIES, bytes: BATCH_BYTES }
    }
}

/// Reads and interprets the next records of this log's own queue.
pub(super) async fn prepare(engine: &Engine, after: u64) -> Result<Batch, AuditError> {
    let bounds = Bounds::default();
    let records = engine.queue.read(after, bounds.entries, bounds.bytes).map_err(journal_error)?;
    Ok(interpreted(engine, engine.settings.writer, after, &records).await)
}

/// Makes a batch of these records, which were read after position `after` of the writer's queue.
pub(super) async fn interpreted(engine: &Engine, writer: Uuid, after: u64, records: &Records) -> Batch {
    let mut items = Vec::with_capacity(records.len() + 1);
    // The gap entry takes the place of the last lost record, so that it is committed exactly once.
    let gap = (records.skipped > 0).then(|| lost(records.skipped, writer, after));
    let gaps = gap.iter().len();
    // Defaults belong to the log that has accepted the records.
    let defaults = records.defaults.as_deref().unwrap_or(&engine.settings.defaults);
    for (index, record) in gap.as_deref().into_iter().chain(records.records()).enumerate() {
        if index % INTERPRET_STEP == INTERPRET_STEP - 1 {
            tokio::task::yield_now().await;
        }
        // A panic would be a bug of this crate, and must not keep every later entry from being committed.
        let interpret = AssertUnwindSafe(|| interpret(record, defaults));
        let error = match catch_unwind(interpret) {
            Ok(Ok(row)) => {
                items.push(Item::Row(row));
                continue;
            }
            Ok(Err(_)) => "the record is not in a format that this version reads".to_owned(),
            Err(panic) => format!("reading the record panicked: {}", panic_message(&*panic)),
        };
        items.push(Item::Unreadable(Quarantined {
            id: None,
            error,
            record: record.to_vec(),
            duplicate: false,
        }));
    }
    Batch {
        writer,
        after,
        reached: after,
        from: after + records.skipped - gaps as u64,
        gaps: gaps + records.reports,
        damaged: records.skipped,
        items,
        done: 0,
        refused: Vec::new(),
        altered: None,
        ends: records.ends,
        defaults: records.defaults.clone(),
        all_refused: false,
        others_accepted_since: false,
    }
}

/// The error of a queue or a dead process's journal that cannot be read.
pub(super) fn journal_error(cause: std::io::Error) -> AuditError {
    AuditError::new(ErrorKind::Store, "a journal cannot be read").because(cause)
}
