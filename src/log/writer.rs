//! The writer: writes entries as values, for code that has entries at hand and does not emit events.

use std::{fmt, sync::Arc, time::Duration};

use super::engines::Engines;
use crate::defaults;
use crate::engine::{Engine, EngineHandle, Health, Settings, Stats};
use crate::entry::{
    AuditEntry, FieldEncoder, Limits, Moment, Row, begin_event, encode_entry, least_length, row_of,
};
use crate::error::AuditError;
#[cfg(feature = "signing")]
use crate::ledger::VerifierKey;
use crate::ledger::{Checkpoint, Seal, Seed};
use crate::platform::Clock;
use crate::queue::{MemoryQueue, Refused, WhenFull};
use crate::store::{QuarantineRetried, Store};

/// Writes entries to a log. Cheap to clone; every clone shares one queue and one order.
///
/// Dropping the last clone is a blocking flush of at most five seconds. Entries that are then still pending are
/// committed in the background for as long as the process lives.
#[derive(Clone)]
pub struct AuditWriter {
    last: Arc<FlushWhenDropped>,
}

struct FlushWhenDropped {
    engines: Engines,
}

impl Drop for FlushWhenDropped {
    fn drop(&mut self) {
        self.engines.flush_when_dropped();
    }
}

impl fmt::Debug for AuditWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditWriter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl AuditWriter {
    /// A writer with a queue in memory. A batch starts at `batch_size` entries, or `flush_interval` after the first
    /// of them. The call needs no async runtime and cannot fail: a thread of the writer's own connects to the database
    /// and creates the tables. Trouble shows in [`health`](Self::health) and in the errors of [`write`](Self::write)
    /// and [`commit`](Self::commit).
    ///
    /// The queue has the default bounds of
    /// [`AuditLogBuilder::in_memory_queue`](crate::AuditLogBuilder::in_memory_queue). When it is full, `write` waits.
    pub fn new(store: impl Into<Store>, flush_interval: Duration, batch_size: usize) -> Self {
        let settings = Settings {
            batch_entries: batch_size.max(1),
            flush_interval,
            when_full: WhenFull::Block { timeout: Duration::MAX },
            ..Settings::new(store.into())
        };
        let queue = MemoryQueue::new(defaults::QUEUE_ENTRIES, defaults::QUEUE_BYTES);
        let (engine, _opened) = Engine::start(Arc::new(queue), settings, false, Clock::start());
        Self::of(engine)
    }

    pub(crate) fn of(engine: Arc<EngineHandle>) -> Self {
        Self::of_all(Engines::One(engine))
    }

    pub(super) fn of_all(engines: Engines) -> Self {
        Self { last: Arc::new(FlushWhenDropped { engines }) }
    }

    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.last) == 1
    }

    pub(super) fn engines(&self) -> &Engines {
        &self.last.engines
    }

    /// The engine that takes an entry now.
    pub(crate) fn engine(&self) -> Arc<EngineHandle> {
        self.last.engines.now()
    }

    /// Hands an entry to the queue. When this returns the entry is accepted, not yet committed.
    ///
    /// # Errors
    /// [`is_too_large`](AuditError::is_too_large), [`is_full`](AuditError::is_full) after waiting as
    /// [`WhenFull`] says, [`is_closed`](AuditError::is_closed). In each case the entry will never be stored.
    ///
    /// # Cancel safety
    /// Dropping the future before it returns means that the entry was not accepted.
    pub async fn write(&self, entry: AuditEntry) -> Result<(), AuditError> {
        let record = self.encode(entry)?;
        self.engine().accept(&record, None, Duration::MAX).await.map(drop)
    }

    /// Like [`write`](Self::write), but never waits.
    ///
    /// # Errors
    /// The same as those of `write`; a full queue rejects at once.
    pub fn try_write(&self, entry: AuditEntry) -> Result<(), AuditError> {
        let record = self.encode(entry)?;
        let engine = self.engine();
        engine.try_append(&record, &mut None).map(drop).map_err(|refused: Refused| engine.reject(refused))
    }

    /// Writes an entry and waits until it is durable in the database. The batch starts at once. Returns the entry's
    /// `seq`. Concurrent calls share a transaction and are committed in the order in which they were accepted.
    ///
    /// Do not call it inside a write transaction of the application on the same SQLite file: the log's commit would
    /// wait for that transaction until `commit_timeout`, as [`AuditLog::committed`](crate::AuditLog::committed) says.
    ///
    /// # Errors
    /// The errors of [`write`](Self::write), after which the entry will never be stored;
    /// [`is_duplicate`](AuditError::is_duplicate) and [`is_quarantined`](AuditError::is_quarantined) if the database
    /// refuses it; [`is_pending`](AuditError::is_pending) if it was accepted but not committed within `commit_timeout`:
    /// it may be committed later.
    ///
    /// # Cancel safety
    /// Dropping the future never withdraws an entry that was accepted.
    pub async fn commit(&self, entry: AuditEntry) -> Result<u64, AuditError> {
        let record = self.encode(entry)?;
        self.engine().commit(&record).await
    }

    /// Declares in the ledger that from here on another key signs its checkpoints: commits an entry with the action `audit.key`,
    /// whose metadata have the verifier keys. Returns its `seq`. From the size after it on, checkpoints are signed by both keys
    /// once, and then by the new one alone; a trust file bounds the old key by that size.
    ///
    /// # Errors
    /// The same as those of [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw the entry.
    #[cfg(feature = "signing")]
    pub async fn declare_key(&self, before: &VerifierKey, now: &VerifierKey) -> Result<u64, AuditError> {
        let reason = "another key signs the checkpoints of the ledger";
        let record = own_event("audit.key", reason, |fields| {
            fields.str("verifier_key", &now.to_string());
            fields.str("verifier_key_before", &before.to_string());
        });
        self.engine().commit(&record).await
    }

    /// Declares in the ledger that a backup of it was restored, which lacks entries that a published checkpoint covers: commits an
    /// entry with the action `audit.restored`, whose metadata have that checkpoint, the size of the largest one that the ledger
    /// still continues, and who has accepted it. Returns its `seq`.
    ///
    /// From then on the checkpoints of the ledger need another origin: trees of sizes that were signed before come again.
    ///
    /// # Errors
    /// The same as those of [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw the entry.
    pub async fn declare_restore(
        &self,
        lost: &Checkpoint,
        kept: u64,
        by: &str,
        reason: &str,
    ) -> Result<u64, AuditError> {
        let record = own_event("audit.restored", reason, |fields| {
            fields.str("lost_checkpoint", &lost.to_string());
            fields.u64("kept", kept);
            fields.str("by", by);
        });
        self.engine().commit(&record).await
    }

    /// Declares a seal over the ledger: commits an entry with the action `audit.sealed`. Returns its `seq`.
    pub(super) async fn declare_seal(&self, seal: &Seal, seed: &Seed) -> Result<u64, AuditError> {
        let [root, seed] = seal.spelled(seed);
        let reason = format!("a seal over the entries of each workspace before entry {}", seal.until());
        let record = own_event("audit.sealed", &reason, |fields| {
            fields.u64("until", seal.until());
            fields.u64("workspaces", seal.workspaces());
            fields.str("root", &root);
            fields.str("seed", &seed);
        });
        self.engine().commit(&record).await
    }

    /// Waits until every entry that was accepted before this call is committed, for at most `commit_timeout`.
    ///
    /// # Errors
    /// [`is_pending`](AuditError::is_pending), with how many entries are left; they stay queued.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn flush(&self) -> Result<(), AuditError> {
        let timeout = self.engine().settings.commit_timeout;
        self.last.engines.flush(timeout).await
    }

    /// Retries every quarantined entry, whichever process quarantined it: call it once the database's objection has
    /// been fixed. An entry that is now accepted becomes a row at the head of the ledger, in the transaction that takes
    /// it out of quarantine. It is stored with the defaults of the log that had accepted it; only a record that no version
    /// could read until now has lost them, and what its event leaves out stays empty.
    /// [`AuditReader::quarantined`](crate::AuditReader::quarantined) lists quarantined entries.
    ///
    /// [`Stats`] continues to count these entries as quarantined, because that is what became of them when they were
    /// offered.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read or written; entries that were accepted
    /// before the error stay accepted. [`is_closed`](AuditError::is_closed) after a shutdown.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the retry.
    pub async fn retry_quarantined(&self) -> Result<QuarantineRetried, AuditError> {
        let engine = self.engine();
        let (store, ledger) = (engine.settings.store.clone(), engine.settings.ledger.clone());
        engine
            .run(async move {
                let mut appender = store.connect(&ledger).await?;
                let outcome = appender.readmit().await;
                appender.close().await;
                outcome
            })
            .await
    }

    /// The books of the whole log, not of this clone alone.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.last.engines.stats()
    }

    /// The health of the log: one atomic load.
    #[must_use]
    pub fn health(&self) -> Health {
        self.last.engines.health()
    }

    pub(super) fn encode(&self, entry: AuditEntry) -> Result<Vec<u8>, AuditError> {
        let engine = self.engine();
        let limits = engine.settings.limits;
        // Looked at before anything is copied.
        if is_surely_too_large(&entry, limits) {
            return Err(engine.reject(Refused::TooLarge));
        }
        let row = row_of(entry);
        let mut record = Vec::with_capacity(256 + row.metadata.len());
        encode_entry(&mut record, &row);
        if record.len() > limits.entry || largest_text(&row) > limits.value {
            return Err(engine.reject(Refused::TooLarge));
        }
        Ok(record)
    }
}

/// Whether a text of the entry, or its metadata, is too large in whatever way it is stored.
fn is_surely_too_large(entry: &AuditEntry, limits: Limits) -> bool {
    let AuditEntry { action, resource, resource_id, decision, reason, metadata, .. } = entry;
    let texts = [Some(action), Some(resource), resource_id.as_ref(), Some(decision), reason.as_ref()];
    texts.into_iter().flatten().any(|text| text.len() > limits.value)
        || least_length(metadata, limits.entry) > limits.entry
}

/// The length of the entry's longest text, metadata left out: the bound of the whole entry covers metadata.
fn largest_text(row: &Row) -> usize {
    let texts = [
        Some(&row.action),
        Some(&row.resource),
        row.resource_id.as_ref(),
        Some(&row.decision),
        row.reason.as_ref(),
    ];
    texts.into_iter().flatten().map(|text| text.len()).max().unwrap_or(0)
}

#[cfg(all(test, feature = "_sqlite"))]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::log::AuditLog;

    #[test]
    fn an_entry_of_exactly_the_largest_size_is_accepted_and_one_byte_more_is_not() {
        let entry = |reason: usize, metadata: usize| AuditEntry {
            reason: Some("x".repeat(reason)),
            metadata: "x".repeat(metadata).into(),
            ..AuditEntry::new(Uuid::nil(), "a", "r")
        };
        let mut record = Vec::new();
        encode_entry(&mut record, &row_of(entry(100, 500)));
        let directory = tempfile::tempdir().unwrap();
        let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
        let log = AuditLog::builder()
            .store(store)
            .value_max_bytes(100)
            .entry_max_bytes(record.len())
            .blocking()
            .open()
            .unwrap();
        log.writer().try_write(entry(100, 500)).unwrap();
        assert!(log.writer().try_write(entry(100, 501)).unwrap_err().is_too_large());
        assert!(log.writer().try_write(entry(101, 0)).unwrap_err().is_too_large());
    }
}

/// The record of an entry that the log itself makes.
pub(super) fn own_event(action: &str, reason: &str, metadata: impl FnOnce(&mut FieldEncoder<'_>)) -> Vec<u8> {
    let mut record = Vec::with_capacity(512);
    begin_event(&mut record, Moment::now());
    let mut fields = FieldEncoder::new(&mut record, Limits::NONE);
    fields.own_action(action);
    fields.str("resource", "audit");
    // Empty, so that the log's default decision is not stored.
    fields.str("decision", "");
    fields.str("reason", reason);
    metadata(&mut fields);
    record
}
