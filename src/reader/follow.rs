//! Entries in the order of commit: a single one, all of them as a stream, or new ones as they are committed.

use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    audit_reader::AuditReader,
    pieces::{PAGE, Pieces},
    recording::RecordingRead,
};
use crate::entry::SequencedEntry;
use crate::entry::sequenced;
use crate::error::{AuditError, ErrorKind};
use crate::query::{AuditQuery, Column};
use crate::store::Span;

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
            found.extend(self.store.backend().reads()?.page(&query, Span::After(None), 1).await?.rows);
        }
        if found.is_empty() {
            found = self.store.backend().reads()?.with_ids(id, id, 1).await?;
        }
        let found: Vec<_> = found.into_iter().map(sequenced).collect();
        let asked = AuditQuery::new().any_of(Column::Id, [id.to_string()]).described();
        self.recording("get", asked).record_answer(found.len() as u64).await?;
        Ok(found)
    }

    /// The entries whose id begins with these hexadecimal digits, in the order of their ids, at most this many. There must
    /// be 8 digits at least; the hyphens of a UUID between them do not matter.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if the text is not the beginning of a UUID with 8 digits or more,
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn get_by_prefix(&self, prefix: &str, most: u32) -> Result<Vec<SequencedEntry>, AuditError> {
        let digits = prefix.replace('-', "");
        let end =
            |rest: &str| [&*digits, rest.get(digits.len()..).unwrap_or_default()].concat().parse::<Uuid>();
        let ends = (digits.len() >= 8).then(|| (end(&"0".repeat(32)), end(&"f".repeat(32))));
        let Some((Ok(first), Ok(last))) = ends else {
            let message = format!("{prefix:?} is not the beginning of a UUID with 8 digits or more");
            return Err(AuditError::new(ErrorKind::Query, message));
        };
        let found = self.store.backend().reads()?.with_ids(first, last, most).await?;
        let found: Vec<_> = found.into_iter().map(sequenced).collect();
        let asked = [("id_prefix".to_owned(), prefix.into())].into_iter().collect();
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

    /// The entries that match, of one ledger or of all in the database, within the query's limit, in the order of their own
    /// time: by `ts` and then `seq`, the earliest first, or the latest first if the query is
    /// [`newest_first`](AuditQuery::newest_first).
    ///
    /// This is the order of [`query`](Self::query), with the place of each entry in its ledger. Memory stays constant.
    /// Entries committed after the stream started are not included. The entries are read one time window at a time, a few
    /// thousand or as many as overlap in time, and the stream occupies one of the reader's four connections until it ends.
    /// If the earliest entries come first, the stream begins with a look at all commit batches.
    ///
    /// An `Err` is the last item: [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000
    /// values, [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use futures_util::TryStreamExt;
    /// use tracing_audit::{AuditEntry, AuditQuery};
    ///
    /// let late = AuditEntry { ts: "2020-01-01T00:00:00Z".parse()?, ..AuditEntry::new(uuid::Uuid::nil(), "old", "r") };
    /// log.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "new", "r")).await?;
    /// log.writer().commit(late).await?;
    /// let latest = AuditQuery::new().newest_first().limit(1);
    /// let found: Vec<_> = log.reader().stream_by_time(latest).try_collect().await?;
    /// assert_eq!((found[0].seq, &*found[0].entry.action), (0, "new"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the stream loses nothing.
    pub fn stream_by_time(
        &self,
        query: impl Into<AuditQuery>,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        let (reader, query) = (self.clone(), Self::asked(query));
        let (to, mut taken) = mpsc::channel(1);
        let read = async move {
            if let Err(error) = reader.send_by_time(query, &to).await {
                // The consumer polls this future: while it runs, the receiver exists.
                drop(to.send(Err(error)).await);
            }
        };
        let read = read.into_stream().filter_map(async |()| None);
        stream::select(read, stream::poll_fn(move |context| taken.poll_recv(context)))
    }

    async fn send_by_time(
        &self,
        query: Result<AuditQuery, AuditError>,
        to: &mpsc::Sender<Result<SequencedEntry, AuditError>>,
    ) -> Result<(), AuditError> {
        let query = query?;
        let mut asked = query.described();
        asked.insert("order".to_owned(), "ts".into());
        let recording = self.recording("stream", asked);
        recording.record_start().await?;
        let (mut rows, mut count) = (self.store.backend().reads()?.rows_in_time(&query), 0);
        while let Some(row) = rows.try_next().await? {
            count += 1;
            drop(to.send(Ok(sequenced(row))).await);
        }
        drop(rows);
        recording.record_end(count).await
    }

    /// The entries of the query's ledger that match, piece by piece, within the query's limit.
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
        let pieces = Pieces::new(self, query, span);
        stream::try_unfold((pieces, left), async |(mut pieces, left)| {
            if pieces.is_done() || left == Some(0) {
                return Ok(None);
            }
            let rows = pieces.next(left.unwrap_or(PAGE)).await?;
            let left = left.map(|left| left.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)));
            // An entry takes many times its text in memory: make one after the other.
            let entries = stream::iter(rows.into_iter().map(|row| Ok(sequenced(row))));
            Ok::<_, AuditError>(Some((entries, (pieces, left))))
        })
    }

    /// The entries of one ledger from this `seq` on: first the existing ones, then new ones as they are committed,
    /// without end. Each comes once, in the order of `seq`. None is missed, because [`seq` is
    /// contiguous](SequencedEntry::seq) for any number of writers. To resume, give the `seq` after the last one seen.
    ///
    /// When there are no more entries, the follower looks at the database again after 25 ms, and then less and less
    /// often, eventually once a second.
    ///
    /// An `Err` does not end the stream: when the database answers again, the stream continues from the same entry. The
    /// error repeats for as long as the ledger ends before the follower's `seq`, or has another entry in place of the
    /// last one that was looked at. Both mean that the database was restored from a backup or is another one. A
    /// follower that begins at a later `seq` than 0 remembers the entry before that when it first looks. A SQLite file
    /// that was replaced is noticed, and the new one is read. (A query that is refused as too large ends the stream.)
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
            let follower = Follower {
                reader,
                recording,
                query,
                pieces: None,
                last: None,
                has_looked: false,
                next: from_seq,
                head: from_seq,
                pause: None,
            };
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
    /// The pieces that are being read before the head.
    pieces: Option<Pieces>,
    /// The last entry that was looked at, by which the log is recognised.
    last: Option<(u64, Uuid)>,
    /// Whether the head was read, and with it the entry before the first one to return.
    has_looked: bool,
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
                if !self.has_looked {
                    self.last = self.entry_before(self.next).await?;
                    self.has_looked = true;
                }
            }
            if self.next < self.head {
                let (next, last) = (self.next, self.last);
                let found = self.page().await?;
                // Afterwards: what was read comes from this log also if the file was replaced meanwhile.
                if let Err(error) = self.check(last).await {
                    // Look at everything again before anything is returned.
                    (self.next, self.head, self.last, self.pieces) = (next, next, last, None);
                    return Err(error);
                }
                if self.next > next {
                    self.pause = None;
                }
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }

    /// Checks that the ledger still has this entry, the last one that was looked at. It may have been removed, but not
    /// replaced.
    async fn check(&self, last: Option<(u64, Uuid)>) -> Result<(), AuditError> {
        let Some((seq, id)) = last else { return Ok(()) };
        if self.entry_before(seq.saturating_add(1)).await?.is_none_or(|found| found.1 == id) {
            return Ok(());
        }
        let message = format!(
            "the ledger has another entry at seq {seq} than the one that was followed: the database is another one. To \
             follow it, begin anew"
        );
        Err(AuditError::new(ErrorKind::Store, message))
    }

    /// The entry before this `seq`, whether or not it matches.
    async fn entry_before(&self, seq: u64) -> Result<Option<(u64, Uuid)>, AuditError> {
        let Some(before) = seq.checked_sub(1) else { return Ok(None) };
        let query = AuditQuery { ledger: self.query.ledger.clone(), ..AuditQuery::new() };
        let query = query.from_seq(before).before_seq(seq);
        let found = self.reader.store.backend().reads()?.page(&query, Span::After(None), 1).await?.rows;
        Ok(found.first().map(|found| (found.seq, found.row.id)))
    }

    /// The next matching entries before the head. The answer may be empty although more follow.
    async fn page(&mut self) -> Result<Vec<SequencedEntry>, AuditError> {
        let mut pieces = self.pieces.take().unwrap_or_else(|| {
            let mut query = self.query.clone().from_seq(self.next).before_seq(self.head);
            query.newest_first = false;
            Pieces::new(self.reader.clone(), query, Span::After(None))
        });
        let rows = pieces.next(PAGE).await?;
        let last = rows.last().map(|last| last.seq.saturating_add(1));
        let next = match last {
            Some(last) if !pieces.is_done() => last,
            // This connection's server may be behind the one that reported the head, a standby for instance: believe
            // the rows that it returned.
            last if self.query.takes_all() => last.unwrap_or(self.next),
            _ => self.head,
        };
        let found: Vec<_> = rows.into_iter().map(sequenced).collect();
        let returned = found.last().map(|last| (last.seq, last.entry.id));
        // If the last ones do not match, the log is recognised by the entry before the next one.
        let seen = if last == Some(next) { None } else { self.entry_before(next).await? };
        self.last = seen.or(returned).or(self.last);
        self.pieces = (!pieces.is_done()).then_some(pieces);
        self.next = next;
        Ok(found)
    }
}
