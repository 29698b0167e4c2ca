//! Records a read while it happens.

use futures_util::{Stream, TryStreamExt, stream};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{AuditError, Store, store::ReadRow};

/// A read in progress, which is recorded if the reader's reads are.
pub(crate) struct RecordingRead(Option<(Store, ReadRow)>);

impl RecordingRead {
    /// A read that is about to happen, recorded under this name if there is one.
    pub(crate) fn new(
        store: &Store,
        reader: Option<&str>,
        action: &'static str,
        query: Map<String, Value>,
    ) -> Self {
        Self(reader.map(|reader| {
            let row = ReadRow {
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

    /// Records that it has begun.
    pub(crate) async fn record_start(&self) -> Result<(), AuditError> {
        self.record(|row| row).await
    }

    /// Records that it has ended, and how many entries it has given out.
    pub(crate) async fn record_end(&self, entries: u64) -> Result<(), AuditError> {
        self.record(|row| ReadRow { id: Uuid::new_v4(), ends: Some(row.id), entries: Some(entries), ..row })
            .await
    }

    /// Records at once what was asked for and how many entries were given out.
    pub(crate) async fn record_answer(&self, entries: u64) -> Result<(), AuditError> {
        self.record(|row| ReadRow { entries: Some(entries), ..row }).await
    }

    async fn record(&self, told: impl FnOnce(ReadRow) -> ReadRow) -> Result<(), AuditError> {
        let Some((store, row)) = &self.0 else { return Ok(()) };
        let row = told(row.clone());
        store.backend().reads()?.record(&row).await
    }

    /// The stream, at whose end it is recorded how many items there were.
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
