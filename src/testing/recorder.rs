//! The recorder: a store that keeps committed entries in memory.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::entry::{LedgerRow, Moment, Row, SequencedEntry, sequenced};
use crate::error::{AuditError, ErrorKind};
use crate::platform::lock;
use crate::store::{
    Append, AppendError, Appender, Applied, Backend, Fault, Opening, QuarantineRetried, Reads, Store,
};

/// A store that keeps committed entries in memory, for assertions. Cheap to clone; clones share their entries.
///
/// Give it to a builder as a [`Store`]. A recorder answers no queries: for those, open a log on a temporary file.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    rows: Vec<LedgerRow>,
    ids: BTreeSet<Uuid>,
}

impl Recorder {
    /// An empty recorder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every entry that was committed so far, in the order of commit. Flush the log first.
    #[must_use]
    pub fn entries(&self) -> Vec<SequencedEntry> {
        let rows = lock(&self.0).rows.clone();
        rows.into_iter().map(sequenced).collect()
    }
}

impl From<Recorder> for Store {
    fn from(recorder: Recorder) -> Self {
        Self::of(recorder)
    }
}

impl From<&Recorder> for Store {
    fn from(recorder: &Recorder) -> Self {
        Self::of(recorder.clone())
    }
}

fn no_queries() -> AuditError {
    AuditError::new(
        ErrorKind::Store,
        "a recorder answers no queries: use its entries, or a log on a temporary file",
    )
}

impl Backend for Recorder {
    fn name(&self, _directory: &Path) -> Option<String> {
        None
    }

    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        _: &'a Opening,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        let appender = Recording { recorder: self.clone(), ledger: ledger.to_owned() };
        Box::pin(async { Ok(Box::new(appender) as Box<dyn Appender>) })
    }

    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        Err(no_queries())
    }
}

struct Recording {
    recorder: Recorder,
    ledger: String,
}

impl Recording {
    fn commit(&self, batch: &Append<'_>) -> Result<Applied, AppendError> {
        let mut recorded = lock(&self.recorder.0);
        let mut new = BTreeSet::new();
        if batch.rows.iter().any(|row| recorded.ids.contains(&row.id) || !new.insert(row.id)) {
            let error = AuditError::new(ErrorKind::Duplicate, "the log holds an entry with this id already");
            return Err(AppendError { fault: Fault::Duplicate, error });
        }
        recorded.ids.append(&mut new);
        let first_seq = recorded.rows.len() as u64;
        let committed_at = Moment::now().micros;
        recorded.rows.extend((first_seq..).zip(batch.rows).map(|(seq, row)| LedgerRow {
            ledger: self.ledger.clone(),
            seq,
            row: Row::clone(row),
            committed_at: Some(committed_at),
        }));
        Ok(Applied {
            until: batch.until(),
            rows: batch.rows.len() as u64,
            first_seq: (!batch.rows.is_empty()).then_some(first_seq),
            again: false,
            told: false,
            before: None,
        })
    }
}

impl Appender for Recording {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move { self.commit(&batch) })
    }

    fn position(&mut self, _: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async { Err(no_queries()) })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(async { Err(no_queries()) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
