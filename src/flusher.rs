//! From the queue to the store: reads records, interprets them, commits them in batches, tries again for as
//! long as it takes, and only then acknowledges.

use std::{ops::Range, time::Duration};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    AuditError,
    engine::Engine,
    error::Kind,
    interpret::interpret,
    queue::Outcome,
    record::{Row, encode_entry},
    store::{Append, AppendError, Appender, Applied, Fault, Quarantined},
};

/// Most entries in one transaction, whatever waits: keeps a transaction around 150 ms and the memory of its
/// rows to some ten megabytes. Half as many are a tenth slower: each commit writes every hot page of the
/// indexes once, however many rows have changed it.
const BATCH_ENTRIES: usize = 16_384;
/// Most bytes of records in one transaction.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Records interpreted before the store gets its turn on the thread.
const INTERPRET_STEP: usize = 64;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs until the engine is stopped or nothing can come any more.
pub(crate) async fn run(engine: &Engine, opened: oneshot::Sender<Result<(), AuditError>>, must_open: bool) {
    let mut flusher = Flusher { engine, writer: Uuid::new_v4(), appender: None };
    let outcome = flusher.connect().await;
    let failed = outcome.is_err();
    if let Err(error) = &outcome {
        engine.failed(error.clone());
    }
    // Nobody listens where the writer was made without waiting for the database.
    drop(opened.send(outcome));
    if !(failed && must_open) {
        flusher.work().await;
    }
    if let Some(appender) = flusher.appender.take() {
        appender.close().await;
    }
}

/// Interpreted records, and how far they have got.
struct Batch {
    /// Position before the first row.
    from: u64,
    /// Position after the last record.
    end: u64,
    rows: Vec<Row>,
    /// A record after the rows that this version cannot read; a batch ends with it.
    unreadable: Option<Quarantined>,
    /// Rows that are committed or quarantined.
    done: usize,
    /// Refused rows right after those, to be committed to quarantine with whatever comes next.
    held: Vec<Quarantined>,
}

impl Batch {
    /// The rows not tried yet.
    fn untried(&self) -> Range<usize> {
        (self.done + self.held.len()).min(self.rows.len())..self.rows.len()
    }
}

async fn prepare(engine: &Engine, from: u64) -> Batch {
    let records = engine.queue.read(from, BATCH_ENTRIES, BATCH_BYTES);
    let mut batch = Batch {
        from,
        end: from,
        rows: Vec::with_capacity(records.len()),
        unreadable: None,
        done: 0,
        held: Vec::new(),
    };
    for (index, record) in records.records().enumerate() {
        if index % INTERPRET_STEP == INTERPRET_STEP - 1 {
            tokio::task::yield_now().await;
        }
        if let Ok(row) = interpret(record, &engine.settings.defaults) {
            batch.rows.push(row);
        } else {
            batch.unreadable = Some(Quarantined {
                id: None,
                error: "the record is not in a format that this version reads".to_owned(),
                record: record.to_vec(),
                duplicate: false,
            });
            break;
        }
    }
    batch.end = from + batch.rows.len() as u64 + u64::from(batch.unreadable.is_some());
    batch
}

struct Flusher<'e> {
    engine: &'e Engine,
    /// Names this queue in the database.
    writer: Uuid,
    appender: Option<Box<dyn Appender>>,
}

impl Flusher<'_> {
    async fn connect(&mut self) -> Result<(), AuditError> {
        let settings = &self.engine.settings;
        self.appender = Some(settings.store.backend().connect(&settings.ledger).await?);
        Ok(())
    }

    /// Takes batch after batch, until there can be no more.
    async fn work(&mut self) {
        let engine = self.engine;
        let mut prepared: Option<Batch> = None;
        let mut position = 0;
        loop {
            let mut batch = match prepared.take() {
                Some(batch) => batch,
                None if engine.wait_for_batch().await => prepare(engine, position).await,
                None => return,
            };
            position = batch.end;
            let next = async {
                if engine.more_after(position) { Some(prepare(engine, position).await) } else { None }
            };
            let (settled, next) = tokio::join!(biased; self.settle(&mut batch), next);
            if !settled {
                return;
            }
            // The batch has grown if its first attempts failed.
            position = batch.end;
            prepared = next.filter(|next| next.from == position);
        }
    }

    /// Brings every record of the batch to its end, however often it takes. False: stopped before that.
    async fn settle(&mut self, batch: &mut Batch) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = self.attempt(batch).await else { return true };
            self.engine.failed(error);
            // A connection that failed once is not trusted again.
            self.appender = None;
            if self.engine.stopping() {
                return false;
            }
            // Between half and all of it, so that several processes on one database do not try in step.
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.engine.stopped() => return false,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            if batch.done == 0 && batch.held.is_empty() {
                // With what has arrived since: entries that the database accepts tell bad ones from a bad database.
                *batch = prepare(self.engine, batch.from).await;
            }
        }
    }

    async fn attempt(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        if self.appender.is_none() {
            self.connect().await?;
        }
        // What a row is refused for is found by halving: the halves go in order, each committed by itself.
        let mut ranges = vec![batch.untried()];
        while let Some(range) = ranges.pop() {
            if range.is_empty() {
                continue;
            }
            match self.append(batch, range.clone()).await {
                Ok(applied) => {
                    self.applied(batch, applied);
                    // Short of its end if it was an earlier attempt, of other extent, that had been committed.
                    ranges.push(batch.done..range.end);
                }
                Err(AppendError { fault: Fault::Store, error }) => return Err(error),
                Err(AppendError { fault, error }) if range.len() == 1 => {
                    hold(batch, range.start, fault, &error);
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
        // Where the database refuses everything for a reason other than a duplicate, the reason is its own.
        let of_rows = |held: &Quarantined| held.id.is_some() && !held.duplicate;
        if batch.done == 0 && batch.held.iter().any(of_rows) {
            let why = batch.held.first().map(|held| held.error.clone()).unwrap_or_default();
            batch.held.clear();
            return Err(AuditError::new(
                Kind::Store,
                format!("the database refuses every entry of a batch: {why}"),
            ));
        }
        batch.held.extend(batch.unreadable.take());
        if !batch.held.is_empty() {
            let end = batch.rows.len();
            let applied = self.append(batch, end..end).await.map_err(|failed| failed.error)?;
            self.applied(batch, applied);
        }
        Ok(())
    }

    async fn append(&mut self, batch: &Batch, range: Range<usize>) -> Result<Applied, AppendError> {
        let Some(appender) = &mut self.appender else {
            let error = AuditError::new(Kind::Store, "there is no connection to the audit database");
            return Err(AppendError { fault: Fault::Store, error });
        };
        appender
            .append(Append {
                writer: self.writer,
                from: batch.from + batch.done as u64,
                quarantined: &batch.held,
                reachable: batch.end,
                rows: batch.rows.get(range).unwrap_or(&[]),
            })
            .await
    }

    /// Keeps the books of what an append has done, now or in an earlier attempt whose answer was lost.
    fn applied(&self, batch: &mut Batch, applied: Applied) {
        let reached = usize::try_from(applied.until - batch.from).unwrap_or(usize::MAX);
        let held = std::mem::take(&mut batch.held);
        let first_row = batch.done + held.len();
        let rows = batch.rows.get(first_row..reached).unwrap_or(&[]);
        let outcome = Outcome {
            committed: rows.len() as u64,
            quarantined: held.len() as u64,
            malformed: rows.iter().filter(|row| row.problems.is_some()).count() as u64,
        };
        let first_held = batch.from + batch.done as u64 + 1;
        let first_row_position = batch.from + first_row as u64 + 1;
        self.engine.acknowledge(applied.until, outcome, |position| {
            let refused =
                usize::try_from(position.saturating_sub(first_held)).ok().and_then(|index| held.get(index));
            match (refused, applied.first_seq) {
                (Some(refused), _) => Err(AuditError::new(
                    if refused.duplicate { Kind::Duplicate } else { Kind::Quarantined },
                    format!("set aside in quarantine: {}", refused.error),
                )),
                (None, Some(first_seq)) => Ok(first_seq + (position - first_row_position)),
                (None, None) => {
                    Err(AuditError::new(Kind::Store, "the ledger has lost the batch of this entry"))
                }
            }
        });
        batch.done = reached;
    }
}

fn hold(batch: &mut Batch, index: usize, fault: Fault, error: &AuditError) {
    let Some(row) = batch.rows.get(index) else { return };
    let mut record = Vec::new();
    encode_entry(&mut record, row);
    batch.held.push(Quarantined {
        id: Some(row.id),
        error: error.to_string(),
        record,
        duplicate: fault == Fault::Duplicate,
    });
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::{
        future::BoxFuture,
        stream::{BoxStream, TryStreamExt},
    };

    use super::*;
    use crate::{
        AuditEntry, AuditLog, AuditQuery, AuditReader, Store,
        store::{Backend, LedgerRow, Span},
        wait::block_on,
    };

    /// SQLite, but the answer to every second append is lost: done, and reported as failed.
    #[derive(Debug)]
    struct LosesAnswers(Store);

    static APPENDS: AtomicU32 = AtomicU32::new(0);

    struct LosesEverySecond(Box<dyn Appender>);

    impl Backend for LosesAnswers {
        fn connect<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
            Box::pin(async move {
                let inner = self.0.backend().connect(ledger).await?;
                Ok(Box::new(LosesEverySecond(inner)) as Box<dyn Appender>)
            })
        }

        fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
            self.0.backend().rows(query)
        }

        fn page<'a>(
            &'a self,
            query: &'a AuditQuery,
            span: Span,
            size: u32,
        ) -> BoxFuture<'a, Result<Vec<LedgerRow>, AuditError>> {
            self.0.backend().page(query, span, size)
        }

        fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>> {
            self.0.backend().count(query)
        }
    }

    impl Appender for LosesEverySecond {
        fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
            Box::pin(async move {
                let applied = self.0.append(batch).await?;
                if APPENDS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    let error = AuditError::new(Kind::Store, "the answer was lost");
                    return Err(AppendError { fault: Fault::Store, error });
                }
                Ok(applied)
            })
        }

        fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
            self.0.close()
        }
    }

    fn entry(i: u64) -> AuditEntry {
        AuditEntry::new(Uuid::nil(), i.to_string(), "r")
    }

    #[test]
    fn lost_answers_double_nothing_lose_nothing_and_give_each_commit_its_own_seq() {
        let directory = tempfile::tempdir().unwrap();
        let sqlite = Store::sqlite(directory.path().join("audit.db")).unwrap();
        let log = AuditLog::builder().store(Store::of(LosesAnswers(sqlite.clone()))).open_blocking().unwrap();
        let writer = log.writer();
        let twice = entry(0);
        // Commits between batches of others, a duplicate, and a record that no version ever wrote.
        for i in 0..200 {
            let mine = if i == 0 { twice.clone() } else { entry(i) };
            assert_eq!(block_on(writer.commit(mine)).unwrap(), i * 4);
            for other in 0..3 {
                writer.try_write(entry(1000 + i * 3 + other)).unwrap();
            }
            if i % 50 == 10 {
                assert!(block_on(writer.commit(twice.clone())).unwrap_err().is_duplicate());
                writer.engine().queue.append(b"not a record").unwrap();
            }
        }
        log.flush_blocking().unwrap();
        let stats = log.stats();
        assert_eq!((stats.offered, stats.committed, stats.quarantined, stats.pending), (808, 800, 8, 0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let actions: Vec<String> = runtime.block_on(async {
            let all = AuditQuery::new();
            let rows: Vec<Row> = sqlite.backend().rows(&all).try_collect().await.unwrap();
            assert_eq!(AuditReader::new(sqlite.clone()).count(&all).await.unwrap(), 800);
            rows.into_iter().map(|row| row.action.as_ref().to_owned()).collect()
        });
        let mut unique = actions.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), 800);
    }
}
