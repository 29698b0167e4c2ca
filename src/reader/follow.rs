//! Entries in the order of their commit: all of them, one after the other, or for ever as they come.

use std::time::Duration;

use futures_util::{Stream, TryStreamExt, stream};
use uuid::Uuid;

use super::{AuditQuery, AuditReader, Column, reads::Reading, sequenced};
use crate::{AuditError, SequencedEntry, error::Kind, store::Span};

/// Entries read at once.
const PAGE: u32 = 500;

/// How long a follower waits for more: from the shortest, after it found something, to the longest.
const LEAST_PAUSE: Duration = Duration::from_millis(25);
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
        self.reading("get", asked).gave(found.len() as u64).await?;
        Ok(found)
    }

    /// The entries of one ledger that match, in the order of `seq`, or against it if the query is
    /// [`descending`](AuditQuery::descending), within the query's limit. Memory stays constant, and no read transaction
    /// stays open between two of them, so that a slow consumer holds nobody up. The ledger is that of
    /// [`page`](Self::page).
    ///
    /// What is committed while it runs may be among them. An `Err` is the last item.
    ///
    /// # Cancel safety
    /// Dropping the stream loses nothing: [`from_seq`](AuditQuery::from_seq) goes on behind the last entry seen.
    pub fn stream(
        &self,
        query: impl Into<AuditQuery>,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        let reader = self.clone();
        let query = Self::asked(query);
        let entries = async move {
            let mut query = query?;
            query.ledger.get_or_insert_with(|| reader.ledger.clone());
            let span = if query.descending { Span::Before(None) } else { Span::After(None) };
            let reading = reader.reading("stream", query.described());
            reading.begun().await?;
            Ok(reading.counting(reader.pages(query, span).try_flatten()))
        };
        stream::once(entries).try_flatten()
    }

    pub(super) fn pages(
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
            let broken = entries.iter().position(Result::is_err);
            entries.truncate(broken.map_or(usize::MAX, |at| at + 1));
            let next = next.filter(|_| broken.is_none());
            let entries = stream::iter(entries);
            Ok::<_, AuditError>(Some((entries, (reader, query, next, left))))
        })
    }

    /// The entries of one ledger from this `seq` on, those that are there and then those that come, for ever: each
    /// once, in the order of `seq`, as [`seq` is contiguous](SequencedEntry::seq) whoever writes. To resume, give the
    /// `seq` after the last one seen.
    ///
    /// The database is asked again after 25 ms, and where nothing comes less and less often, at last every second. An
    /// `Err` does not end the stream: it goes on where it was when the database answers again, and says the same again
    /// where an entry cannot be read or the ledger ends before the place where it is, which means that the database was
    /// restored from a backup. (A query that cannot be asked ends it.)
    ///
    /// # Cancel safety
    /// Dropping the stream, or a wait for its next item, loses nothing.
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

    /// [`follow`](Self::follow), of the entries that match. Each is read once, whether or not it matches. The query's limit,
    /// direction and range of `seq` are left aside.
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
            let reading = Some(reader.reading("follow", asked));
            let follower = Follower { reader, reading, query, next: from_seq, head: from_seq, pause: None };
            let found = stream::unfold(follower, async |mut follower| {
                let found = follower.more().await;
                Some((found.map(|found| stream::iter(found.into_iter().map(Ok))), follower))
            });
            Ok(found.try_flatten())
        };
        stream::once(entries).try_flatten()
    }
}

/// How far a follower has come.
struct Follower {
    reader: AuditReader,
    /// Until it is recorded.
    reading: Option<Reading>,
    query: AuditQuery,
    /// The first `seq` that was not looked at.
    next: u64,
    /// The `seq` that comes after all that were there when it was last asked for.
    head: u64,
    /// How long it waits before it asks again.
    pause: Option<Duration>,
}

impl Follower {
    /// Waits until there is something.
    async fn more(&mut self) -> Result<Vec<SequencedEntry>, AuditError> {
        loop {
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
            }
            let longer = self.pause.map_or(LEAST_PAUSE, |pause| (pause * 2).min(GREATEST_PAUSE));
            self.pause = Some(longer);
            if let Some(reading) = &self.reading {
                reading.begun().await?;
                self.reading = None;
            }
            if self.next >= self.head {
                let heads = self.reader.store.backend().reads()?.heads(self.query.ledger.as_deref()).await?;
                self.head = heads.first().map_or(0, |head| head.next_seq);
                if self.head < self.next {
                    let message = format!(
                        "the ledger ends at seq {}, before {} where it is followed: it was restored from a backup, or is another",
                        self.head, self.next
                    );
                    return Err(AuditError::new(Kind::Store, message));
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

    /// The next matches before the head.
    async fn page(&mut self) -> Result<Vec<SequencedEntry>, AuditError> {
        let mut query = self.query.clone().from_seq(self.next).before_seq(self.head);
        query.descending = false;
        let rows = self.reader.rows(&query, Span::After(None), PAGE).await?;
        let full = rows.len() == PAGE as usize;
        let last = rows.last().map(|last| last.seq + 1);
        let next = match last {
            Some(last) if full => last,
            // Whoever answers may know less than whoever told the head, a standby for one.
            last if self.query.takes_all() => last.unwrap_or(self.next),
            _ => self.head,
        };
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let seq = row.seq;
            match sequenced(row) {
                Ok(entry) => found.push(entry),
                Err(error) if found.is_empty() => return Err(error),
                // First those before it, and then the error.
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
