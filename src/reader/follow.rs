//! Entries in the order of commit: a single one, all of them as a stream, or new ones as they are committed.

use std::time::Duration;

use futures_util::{Stream, TryStreamExt, stream};
use uuid::Uuid;

use super::{audit_reader::AuditReader, recording::RecordingRead};
use crate::entry::SequencedEntry;
use crate::entry::sequenced;
use crate::error::{AuditError, ErrorKind};
use crate::query::{AuditQuery, Column};
use crate::store::Span;

/// The entries that one read of the database takes.
const PAGE: u32 = 500;

/// A follower's first pause, after a look at the database that finds nothing new.
const LEAST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause. Each further look that finds nothing doubles the pause, up to this.
const GREATEST_PAUSE: Duration = Duration::from_secs(1);

impl AuditReader {
    /// The entries with this id, at most one in each ledger.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn get(&self, id: Uuid) -> Result<Vec<SequencedEntry>, AuditError> {
        let mut found = Vec::new();
        for head in self.store.backend().reads()?.heads(None).await? {
            let query = AuditQuery::new().ledger(head.ledger).any_of(Column::Id, [id.to_string()]);
            found.extend(self.store.backend().reads()?.page(&query, Span::After(None), 1).await?);
        }
        let found = found.into_iter().map(sequenced).collect::<Result<Vec<_>, _>>()?;
        let asked = AuditQuery::new().any_of(Column::Id, [id.to_string()]).described();
        self.recording("get", asked).record_answer(found.len() as u64).await?;
        Ok(found)
    }

    /// The entries of one ledger that match, within the query's limit. They come in the order of `seq`, or in the
    /// reverse order if the query is [`newest_first`](AuditQuery::newest_first). Memory stays constant, and no read
    /// transaction stays open between two entries, so a slow consumer holds nobody up. The ledger is the same as for
    /// [`page`](Self::page).
    ///
    /// Entries that are committed while the stream runs may be included. An `Err` is the last item.
    ///
    /// # Cancel safety
    /// Dropping the stream loses nothing: [`from_seq`](AuditQuery::from_seq) resumes after the last entry seen.
    pub fn stream(
        &self,
        query: impl Into<AuditQuery>,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        let reader = self.clone();
        let query = Self::asked(query);
        let entries = async move {
            let mut query = query?;
            query.ledger.get_or_insert_with(|| reader.ledger.clone());
            let span = if query.newest_first { Span::Before(None) } else { Span::After(None) };
            let recording = reader.recording("stream", query.described());
            recording.record_start().await?;
            Ok(recording.record_items(reader.pages(query, span).try_flatten()))
        };
        stream::once(entries).try_flatten()
    }

    /// The entries of the query's ledger that match, page by page, within the query's limit. After an entry that
    /// cannot be read, which is the last item, no page follows.
    pub(crate) fn pages(
        self,
        query: AuditQuery,
        span: Span,
    ) -> impl Stream<
        Item = Result<
            impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static + use<>,
            AuditError,
        >,
    >
    + Send
    + 'static
    + use<> {
        let left = query.filter.limit;
        stream::try_unfold((self, query, Some(span), left), async |(reader, query, span, left)| {
            let (Some(span), true) = (span, left != Some(0)) else { return Ok(None) };
            let size = left.map_or(PAGE, |left| left.min(PAGE));
            let rows = reader.rows(&query, span, size).await?;
            let found = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let next = rows.last().filter(|_| found == size).map(|last| match span {
                Span::After(_) => Span::After(Some(last.seq)),
                Span::Before(_) => Span::Before(Some(last.seq)),
            });
            let left = left.map(|left| left.saturating_sub(found));
            let mut entries: Vec<_> = rows.into_iter().map(sequenced).collect();
            let unreadable = entries.iter().position(Result::is_err);
            entries.truncate(unreadable.map_or(usize::MAX, |at| at + 1));
            let next = next.filter(|_| unreadable.is_none());
            let entries = stream::iter(entries);
            Ok::<_, AuditError>(Some((entries, (reader, query, next, left))))
        })
    }

    /// The entries of one ledger from this `seq` on: first the existing ones, then new ones as they are committed,
    /// without end. Each comes once, in the order of `seq`. None is missed, because [`seq` is
    /// contiguous](SequencedEntry::seq) for any number of writers. To resume, give the `seq` after the last one seen.
    ///
    /// When no more entries are there, the follower looks at the database again after 25 ms, and then less and less
    /// often, eventually once a second.
    ///
    /// An `Err` does not end the stream: when the database answers again, the stream continues from the same entry.
    /// The error repeats for as long as an entry cannot be read, or the ledger ends before the follower's `seq`,
    /// which means that the database was restored from a backup. (A query that is refused as too large ends the
    /// stream.)
    ///
    /// # Cancel safety
    /// Dropping the stream, or a future that waits for its next item, loses nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use futures_util::StreamExt;
    /// use tracing_audit::AuditEntry;
    ///
    /// log.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "document.read", "document")).await?;
    /// let mut entries = std::pin::pin!(log.reader().follow(0));
    /// assert_eq!(entries.next().await.unwrap()?.entry.action, "document.read");
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(
        &self,
        from_seq: u64,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        self.follow_matching(AuditQuery::new(), from_seq)
    }

    /// [`follow`](Self::follow), but only the entries that match. Each entry is looked at once, whether or not it
    /// matches. The query's limit, direction and range of `seq` are ignored.
    pub fn follow_matching(
        &self,
        query: impl Into<AuditQuery>,
        from_seq: u64,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        let query = Self::asked(query);
        let reader = self.clone();
        let entries = async move {
            let mut query = query?;
            query.ledger.get_or_insert_with(|| reader.ledger.clone());
            let mut asked = query.described();
            asked.insert("from_seq".to_owned(), from_seq.into());
            let recording = Some(reader.recording("follow", asked));
            let follower = Follower { reader, recording, query, next: from_seq, head: from_seq, pause: None };
            let found = stream::unfold(follower, async |mut follower| {
                let found = follower.more().await;
                Some((found.map(|found| stream::iter(found.into_iter().map(Ok))), follower))
            });
            Ok(found.try_flatten())
        };
        stream::once(entries).try_flatten()
    }
}

/// The state of a follower, and how far it has come.
struct Follower {
    reader: AuditReader,
    /// The read to record. `None` once it is recorded.
    recording: Option<RecordingRead>,
    query: AuditQuery,
    /// The first `seq` that was not yet looked at.
    next: u64,
    /// The next `seq` of the ledger, when its head was last read.
    head: u64,
    /// The pause before the next look at the database.
    pause: Option<Duration>,
}

impl Follower {
    /// The next matching entries, at least one. Waits until they are committed.
    async fn more(&mut self) -> Result<Vec<SequencedEntry>, AuditError> {
        loop {
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
            }
            let longer = self.pause.map_or(LEAST_PAUSE, |pause| (pause * 2).min(GREATEST_PAUSE));
            self.pause = Some(longer);
            if let Some(recording) = &self.recording {
                recording.record_start().await?;
                self.recording = None;
            }
            if self.next >= self.head {
                let heads = self.reader.store.backend().reads()?.heads(self.query.ledger.as_deref()).await?;
                self.head = heads.first().map_or(0, |head| head.next_seq);
                if self.head < self.next {
                    let message = format!(
                        "the ledger ends at seq {}, before {}, from where it is followed: \
                         the database was restored from a backup, or is another one",
                        self.head, self.next
                    );
                    return Err(AuditError::new(ErrorKind::Store, message));
                }
            }
            if self.next < self.head {
                let before = self.next;
                let found = self.page().await?;
                if self.next > before {
                    self.pause = None;
                }
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }

    /// The next matching entries before the head. The answer may be empty although more follow.
    async fn page(&mut self) -> Result<Vec<SequencedEntry>, AuditError> {
        let mut query = self.query.clone().from_seq(self.next).before_seq(self.head);
        query.newest_first = false;
        let rows = self.reader.rows(&query, Span::After(None), PAGE).await?;
        let full = rows.len() == PAGE as usize;
        let last = rows.last().map(|last| last.seq + 1);
        let next = match last {
            Some(last) if full => last,
            // This connection's server may be behind the one that reported the head, a standby for instance: believe
            // the rows that it returned.
            last if self.query.takes_all() => last.unwrap_or(self.next),
            _ => self.head,
        };
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let seq = row.seq;
            match sequenced(row) {
                Ok(entry) => found.push(entry),
                Err(error) if found.is_empty() => return Err(error),
                // Return the entries before the unreadable one now, and the error with the next call.
                Err(_) => {
                    self.next = seq;
                    return Ok(found);
                }
            }
        }
        self.next = next;
        Ok(found)
    }
}
