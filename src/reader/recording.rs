//! A read in progress, which is recorded if the reader's reads are.

use futures_util::{Stream, TryStreamExt, stream};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::AuditError;
use crate::store::{RecordedReadRow, Store};

/// A read in progress. It holds the store and the row to record, or nothing if the reader's reads are not recorded.
pub(crate) struct RecordingRead(Option<(Store, RecordedReadRow)>);

impl RecordingRead {
    /// A read that is about to happen. It is recorded if the reader has a name.
    pub(crate) fn new(
        store: &Store,
        reader: Option<&str>,
        action: &'static str,
        query: Map<String, Value>,
    ) -> Self {
        Self(reader.map(|reader| {
            let row = RecordedReadRow {
                id: Uuid::new_v4(),
                ends: None,
                at: None,
                reader: reader.to_owned(),
                role: None,
                action: action.to_owned(),
                query: Value::Object(query).to_string(),
                entries: None,
            };
            (store.clone(), row)
        }))
    }

    /// Records that the read has started.
    pub(crate) async fn record_start(&self) -> Result<(), AuditError> {
        self.record(|row| row).await
    }

    /// Records that a started read has ended, with the number of entries that it returned.
    pub(crate) async fn record_end(&self, entries: u64) -> Result<(), AuditError> {
        self.record(|row| RecordedReadRow {
            id: Uuid::new_v4(),
            ends: Some(row.id),
            entries: Some(entries),
            ..row
        })
        .await
    }

    /// Records a whole read in one row: what was asked for, and how many entries were returned.
    pub(crate) async fn record_answer(&self, entries: u64) -> Result<(), AuditError> {
        self.record(|row| RecordedReadRow { entries: Some(entries), ..row }).await
    }

    async fn record(
        &self,
        completed: impl FnOnce(RecordedReadRow) -> RecordedReadRow,
    ) -> Result<(), AuditError> {
        let Some((store, row)) = &self.0 else { return Ok(()) };
        let row = completed(row.clone());
        store.backend().reads()?.record(&row).await
    }

    /// The same stream. Once it has ended, the end of the read is recorded, with the number of items.
    pub(crate) fn record_items<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T, AuditError>> + Send + 'static,
    ) -> impl Stream<Item = Result<T, AuditError>> + Send + 'static {
        let state = (Box::pin(items), self, 0);
        stream::try_unfold(state, async |(mut items, recording, count)| match items.try_next().await? {
            Some(item) => Ok(Some((item, (items, recording, count + 1)))),
            None => recording.record_end(count).await.map(|()| None),
        })
    }
}
