//! The flusher's loop.

use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    AuditError,
    engine::Engine,
    error::Kind,
    interpret::interpret,
    queue::{Batch as Records, Outcome, journal::backlog::Backlog, lost},
    record::{Row, encode_entry},
    store::{Append, AppendError, Appender, Applied, Fault, Quarantined},
};

/// Most entries in one transaction, whatever waits: keeps a transaction around 150 ms and the memory of its
/// rows to some ten megabytes. Half as many are a tenth slower: each commit writes every hot page of the
/// indexes once, however many rows have changed it.
const BATCH_ENTRIES: usize = 16_384;
/// Most bytes of records in one transaction.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How many times as much where the database refuses all of it; beyond that it is the database that is bad.
const MOST: usize = 8;
/// Records interpreted before the store gets its turn on the thread.
const INTERPRET_STEP: usize = 64;

/// How long to wait before looking again for journals whose process has died: longer each time, since one that is
/// replaced by this process may take a moment to end.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const ADOPT_EVERY: Duration = Duration::from_mins(1);

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs until the engine is stopped or nothing can come any more.
pub(in crate::engine) async fn run(
    engine: &Engine,
    opened: oneshot::Sender<Result<(), AuditError>>,
    must_open: bool,
) {
    let mut flusher = Flusher {
        engine,
        appender: None,
        reachable: 0,
        accepted: 0,
        backlogs: Vec::new(),
        unreadable: Vec::new(),
        due: None,
        look_at: Instant::now(),
        look_after: FIRST_LOOK,
        pause: Pause::default(),
    };
    let mut failed = false;
    if must_open {
        let connected = AssertUnwindSafe(flusher.connect_watched()).catch_unwind().await;
        let connected = connected.unwrap_or_else(|panic| {
            let message = format!("opening the audit database panicked: {}", message_of(&*panic));
            Err(AuditError::new(Kind::Store, message))
        });
        failed = connected.is_err();
        // Whoever asked may have gone.
        drop(opened.send(connected));
    }
    if !failed {
        while let Err(panic) = AssertUnwindSafe(flusher.work()).catch_unwind().await {
            engine.panicked(message_of(&*panic));
            flusher.appender = None;
            if !flusher.pause.rest(engine).await {
                break;
            }
        }
    }
    if let Some(appender) = flusher.appender.take() {
        appender.close().await;
    }
}

/// What a panic says.
fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// The time between two attempts, longer each time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// False: stopped meanwhile.
    async fn rest(&mut self, engine: &Engine) -> bool {
        if engine.stopping() {
            return false;
        }
        // Between half and all of it, so that several processes on one database do not try in step.
        let jittered = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(jittered) => true,
            () = engine.stopped() => false,
        }
    }
}

/// Consecutive records, interpreted, and how far they have got.
struct Batch {
    /// Whose queue they are of: ours, or that of a dead process.
    writer: Uuid,
    /// Position of the queue after which they were read.
    after: u64,
    /// Position that the database has reached before them, as far as we know.
    reached: u64,
    /// Position before the first item.
    from: u64,
    /// Of the items, how many are ours: the first ones tell of records that are lost, each in the place of one.
    gaps: usize,
    /// Records that are lost, not told yet.
    damaged: u64,
    items: Vec<Item>,
    /// How many of them are committed or quarantined.
    done: usize,
    /// Those right after that are refused, to be committed to quarantine with whatever comes next.
    held: Vec<Quarantined>,
    bounds: Bounds,
    /// The last attempt was refused every row.
    all_refused: bool,
    /// The database has accepted others since it refused these.
    proven: bool,
}

enum Item {
    Row(Row),
    /// A record that this version cannot read.
    Unreadable(Quarantined),
}

impl Batch {
    /// Position that the database has reached, as far as we know.
    fn reached(&self) -> u64 {
        if self.done == 0 { self.reached } else { self.from + self.done as u64 }
    }

    /// The database has reached less: what is between was in it, and no longer is. What is not in it yet begins
    /// with an entry that tells of it, in the place of the last of those.
    fn tell_lost(&mut self, engine: &Engine, position: u64) {
        let reached = self.reached();
        if self.done > 0 {
            self.items.drain(..self.done);
            self.gaps = self.gaps.saturating_sub(self.done);
            self.from += self.done as u64;
            self.after = self.from;
            self.done = 0;
        }
        self.held.clear();
        let record = lost(reached.saturating_sub(position), self.writer, position);
        if let Ok(row) = interpret(&record, &engine.settings.defaults) {
            self.items.insert(0, Item::Row(row));
            self.gaps += 1;
            self.from -= 1;
        }
        self.reached = position;
    }

    /// Position after the last record.
    fn end(&self) -> u64 {
        self.from + self.items.len() as u64
    }

    fn rows(&self, range: Range<usize>) -> Vec<&Row> {
        let items = self.items.get(range).unwrap_or(&[]);
        items.iter().filter_map(|item| if let Item::Row(row) = item { Some(row) } else { None }).collect()
    }
}

/// How much a batch may hold.
#[derive(Clone, Copy)]
struct Bounds {
    entries: usize,
    bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: BATCH_ENTRIES, bytes: BATCH_BYTES }
    }
}

impl Bounds {
    /// Where every entry was refused, the one that would be accepted lies further on.
    fn doubled(self) -> Self {
        let Self { entries, bytes } = self;
        Self { entries: (entries * 2).min(MOST * BATCH_ENTRIES), bytes: (bytes * 2).min(MOST * BATCH_BYTES) }
    }
}

/// An answer that takes longer than anybody waits is a failing database too, though it may yet come.
async fn watched<T>(engine: &Engine, answer: impl Future<Output = T>) -> T {
    let patience = engine.settings.commit_timeout;
    let mut answer = pin!(answer);
    if let Ok(answer) = tokio::time::timeout(patience, &mut answer).await {
        return answer;
    }
    // What it said before says more.
    if !engine.failing() {
        let message = format!("the audit database has not answered for {patience:?}");
        engine.failed(AuditError::new(Kind::Store, message));
    }
    answer.await
}

async fn prepare(engine: &Engine, after: u64, bounds: Bounds) -> Result<Batch, AuditError> {
    let records = engine.queue.read(after, bounds.entries, bounds.bytes).map_err(unreadable)?;
    Ok(interpreted(engine, engine.settings.writer, after, &records, bounds).await)
}

async fn interpreted(engine: &Engine, writer: Uuid, after: u64, records: &Records, bounds: Bounds) -> Batch {
    let mut items = Vec::with_capacity(records.len() + 1);
    // In the place of the last of them, so that it is told exactly once.
    let gap = (records.skipped > 0).then(|| lost(records.skipped, writer, after));
    let gaps = gap.iter().len();
    for (index, record) in gap.as_deref().into_iter().chain(records.records()).enumerate() {
        if index % INTERPRET_STEP == INTERPRET_STEP - 1 {
            tokio::task::yield_now().await;
        }
        // A panic would be a bug here, and must not stand in the way of every later entry.
        let interpret = AssertUnwindSafe(|| interpret(record, &engine.settings.defaults));
        let error = match catch_unwind(interpret) {
            Ok(Ok(row)) => {
                items.push(Item::Row(row));
                continue;
            }
            Ok(Err(_)) => "the record is not in a format that this version reads".to_owned(),
            Err(panic) => format!("reading the record panicked: {}", message_of(&*panic)),
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
        gaps,
        damaged: records.skipped,
        items,
        done: 0,
        held: Vec::new(),
        bounds,
        all_refused: false,
        proven: false,
    }
}

/// Why a batch of a dead process's journal did not get on.
enum Stuck {
    Journal(std::io::Error),
    Database(AuditError),
}

struct Flusher<'e> {
    engine: &'e Engine,
    appender: Option<Box<dyn Appender>>,
    /// No append has tried to get beyond this position.
    reachable: u64,
    /// Appends in which the database has accepted rows.
    accepted: u64,
    /// What dead processes left, to be committed beside our own.
    backlogs: Vec<Backlog>,
    /// Those that could not be read, until the next look.
    unreadable: Vec<Backlog>,
    /// When the next batch is due.
    due: Option<Instant>,
    /// When to look for more, and how long to wait after that.
    look_at: Instant,
    look_after: Duration,
    /// Before a queue that cannot be read, or a backlog that cannot be committed, is tried again.
    pause: Pause,
}

impl Flusher<'_> {
    async fn connect(&mut self) -> Result<(), AuditError> {
        let settings = &self.engine.settings;
        self.appender = Some(settings.store.connect(&settings.ledger).await?);
        self.engine.migrated();
        Ok(())
    }

    async fn connect_watched(&mut self) -> Result<(), AuditError> {
        let engine = self.engine;
        watched(engine, self.connect()).await
    }

    /// Tries until there is a connection, also while nothing waits: health is what a service looks at before it
    /// lets anything in. False: there will be nothing to write, ever.
    async fn connect_patiently(&mut self) -> bool {
        let mut pause = Pause::default();
        while self.appender.is_none() {
            match self.connect_watched().await {
                Ok(()) => self.engine.connected(),
                Err(error) => {
                    self.engine.failed(error);
                    self.engine.retries();
                    if self.engine.abandoned() || !pause.rest(self.engine).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Takes batch after batch, until there can be no more.
    async fn work(&mut self) {
        let engine = self.engine;
        if !self.connect_patiently().await {
            return;
        }
        let mut prepared: Option<Batch> = None;
        let mut position = engine.queue.counts().acknowledged;
        loop {
            self.recover().await;
            let mut batch = match prepared.take() {
                Some(batch) => batch,
                None => match self.wait().await {
                    Some(true) => match prepare(engine, position, Bounds::default()).await {
                        Ok(batch) => batch,
                        Err(error) => {
                            engine.failed(error);
                            engine.retries();
                            if !self.pause.rest(engine).await {
                                return;
                            }
                            continue;
                        }
                    },
                    Some(false) => continue,
                    None => return,
                },
            };
            position = batch.end();
            let next = async {
                // What cannot be read is told when it is its turn.
                if engine.more_after(position) {
                    prepare(engine, position, Bounds::default()).await.ok()
                } else {
                    None
                }
            };
            let (settled, next) = tokio::join!(biased; self.settle(&mut batch), next);
            if !settled {
                return;
            }
            // The batch has grown if its first attempts failed.
            position = batch.from + batch.done as u64;
            self.pause = Pause::default();
            prepared = next.filter(|next| next.after == position);
        }
    }

    /// Waits for a batch of our own: true if there is one, none if there will never be.
    async fn wait(&mut self) -> Option<bool> {
        let engine = self.engine;
        if !self.backlogs.is_empty() && !engine.stopping() && !engine.abandoned() {
            return Some(engine.queue.counts().pending() > 0);
        }
        tokio::select! {
            biased;
            due = engine.wait_for_batch(&mut self.due) => due.then_some(true),
            () = tokio::time::sleep_until(self.look_at.into()), if engine.settings.journal.is_some() => Some(false),
        }
    }

    /// Adopts what dead processes left, and brings one batch of it to its end.
    async fn recover(&mut self) {
        let engine = self.engine;
        // What is left then, the next log adopts.
        let goes_on = !engine.stopping() && !engine.abandoned();
        let Some(place) = engine.settings.journal.as_ref().filter(|_| goes_on) else { return };
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + self.look_after;
            self.look_after = (self.look_after * 2).min(ADOPT_EVERY);
            let (adopted, failed) = Backlog::adopt_all(place, engine.settings.writer);
            // What could not be read is a trouble until it has been.
            if failed.is_some() || self.unreadable.is_empty() {
                engine.left_behind(failed.map(unreadable));
            }
            self.backlogs.extend(adopted);
            self.backlogs.append(&mut self.unreadable);
        }
        let Some(mut backlog) = self.backlogs.pop() else { return };
        match watched(engine, self.recover_batch(&mut backlog)).await {
            Ok(true) => {
                self.backlogs.push(backlog);
                self.pause = Pause::default();
            }
            Ok(false) => {
                if let Err(cause) = backlog.finish() {
                    engine.left_behind(Some(unreadable(cause)));
                }
            }
            Err(Stuck::Journal(cause)) => {
                engine.left_behind(Some(unreadable(cause)));
                self.unreadable.push(backlog);
            }
            Err(Stuck::Database(error)) => {
                engine.failed(error);
                engine.retries();
                self.appender = None;
                self.backlogs.insert(0, backlog);
                self.pause.rest(engine).await;
            }
        }
    }

    /// False: there is nothing more.
    async fn recover_batch(&mut self, backlog: &mut Backlog) -> Result<bool, Stuck> {
        if self.appender.is_none() {
            self.connect().await.map_err(Stuck::Database)?;
        }
        let Some(appender) = &mut self.appender else { return Ok(true) };
        let from = appender.position(backlog.journal).await.map_err(Stuck::Database)?;
        let bounds = Bounds::default();
        let records = backlog.read(from, bounds.entries, bounds.bytes).map_err(Stuck::Journal)?;
        let mut batch = interpreted(self.engine, backlog.journal, from, &records, bounds).await;
        if batch.items.is_empty() {
            return Ok(false);
        }
        batch.proven = backlog.refused_at.is_some_and(|refused_at| self.accepted > refused_at);
        let outcome = self.attempt(&mut batch).await;
        backlog.refused_at = batch.all_refused.then_some(backlog.refused_at.unwrap_or(self.accepted));
        outcome.map(|()| true).map_err(Stuck::Database)
    }

    /// Brings every record of the batch to its end, however often it takes. False: stopped before that.
    async fn settle(&mut self, batch: &mut Batch) -> bool {
        let mut pause = Pause::default();
        loop {
            let engine = self.engine;
            let Err(error) = watched(engine, self.attempt(batch)).await else { return true };
            self.engine.failed(error);
            // A connection that failed once is not trusted again.
            self.appender = None;
            self.engine.retries();
            if !pause.rest(self.engine).await {
                return false;
            }
            if batch.done == 0 && batch.held.is_empty() {
                // With what has arrived since: entries that the database accepts tell bad ones from a bad database.
                let bounds = if batch.all_refused { batch.bounds.doubled() } else { batch.bounds };
                match prepare(self.engine, batch.after, bounds).await {
                    Ok(grown) => *batch = grown,
                    Err(error) => self.engine.failed(error),
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        if self.appender.is_none() {
            self.connect().await?;
        }
        // Again if what has been committed is an earlier attempt, of other extent.
        while batch.done < batch.items.len() {
            self.pass(batch).await?;
        }
        Ok(())
    }

    /// Commits or quarantines what is not tried yet.
    async fn pass(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        // What a row is refused for is found by halving: the halves go in order, each committed by itself.
        let mut ranges = vec![Range { start: 0, end: batch.items.len() }];
        while let Some(Range { start, end }) = ranges.pop() {
            // What is done or held already is passed over; an earlier attempt may have committed more of it.
            let start = start.max(batch.done + batch.held.len());
            if start >= end {
                continue;
            }
            let unreadable = |item: &Item| matches!(item, Item::Unreadable(_));
            let first_unreadable = batch.items.get(start..end).unwrap_or(&[]).iter().position(unreadable);
            let rows_end = first_unreadable.map_or(end, |index| start + index);
            ranges.push(rows_end..end);
            if let Some(Item::Unreadable(record)) = batch.items.get(start) {
                batch.held.push(record.clone());
                continue;
            }
            match self.append(batch, start..rows_end).await {
                Ok(applied) => {
                    self.applied(batch, applied);
                    // Or less.
                    ranges.push(start..rows_end);
                }
                Err(AppendError { fault: Fault::Store, error }) => return Err(error),
                Err(AppendError { fault: Fault::Restored { position }, .. }) => {
                    batch.tell_lost(self.engine, position);
                    return Ok(());
                }
                Err(AppendError { fault, error }) if rows_end - start == 1 => {
                    hold(batch, start, fault, &error);
                    self.engine.refused(error);
                }
                Err(_) => {
                    let middle = start + (rows_end - start) / 2;
                    ranges.push(middle..rows_end);
                    ranges.push(start..middle);
                }
            }
        }
        // Where the database refuses everything for a reason other than a duplicate, the reason is its own.
        let of_rows = |held: &Quarantined| held.id.is_some() && !held.duplicate;
        if batch.done == 0 && !batch.proven && batch.held.iter().any(of_rows) {
            let why = batch.held.first().map(|held| held.error.clone()).unwrap_or_default();
            batch.held.clear();
            batch.all_refused = true;
            return Err(AuditError::new(
                Kind::Store,
                format!("the database refuses every entry of a batch: {why}"),
            ));
        }
        if !batch.held.is_empty() {
            let end = batch.items.len();
            match self.append(batch, end..end).await {
                Ok(applied) => self.applied(batch, applied),
                Err(AppendError { fault: Fault::Restored { position }, .. }) => {
                    batch.tell_lost(self.engine, position);
                }
                Err(failed) => return Err(failed.error),
            }
        }
        Ok(())
    }

    async fn append(&mut self, batch: &Batch, range: Range<usize>) -> Result<Applied, AppendError> {
        // How far a dead process got, only the database knows.
        let own = batch.writer == self.engine.settings.writer;
        self.reachable = if own { self.reachable.max(batch.end()) } else { self.reachable };
        let Some(appender) = &mut self.appender else {
            let error = AuditError::new(Kind::Store, "there is no connection to the audit database");
            return Err(AppendError { fault: Fault::Store, error });
        };
        appender
            .append(Append {
                writer: batch.writer,
                reached: batch.reached(),
                from: batch.from + batch.done as u64,
                quarantined: &batch.held,
                reachable: if own { self.reachable } else { u64::MAX },
                rows: &batch.rows(range),
            })
            .await
    }

    /// Keeps the books of what an append has done, now or in an earlier attempt whose answer was lost.
    fn applied(&mut self, batch: &mut Batch, applied: Applied) {
        let reached = usize::try_from(applied.until - batch.from).unwrap_or(usize::MAX);
        let held = std::mem::take(&mut batch.held);
        // Of an earlier attempt that ended in a panic, what was held is forgotten; the database knows how much.
        let first_row = reached.saturating_sub(usize::try_from(applied.rows).unwrap_or(usize::MAX));
        let malformed = batch.rows(first_row..reached).iter().filter(|row| row.problems.is_some()).count();
        // Of an earlier attempt that told of a restored database before the first of these.
        let before = applied.rows.saturating_sub(reached as u64);
        let outcome = Outcome {
            committed: applied.rows,
            quarantined: first_row.saturating_sub(batch.done) as u64,
            damaged: std::mem::take(&mut batch.damaged),
            malformed: malformed as u64,
            gaps: before + batch.gaps.saturating_sub(batch.done).min(reached - batch.done) as u64,
        };
        self.accepted += u64::from(applied.rows > 0);
        if batch.writer != self.engine.settings.writer {
            self.engine.recovered(outcome);
            batch.done = reached;
            return;
        }
        let (first_held, first_row) = (batch.from + batch.done as u64 + 1, batch.from + first_row as u64 + 1);
        let first_record = batch.from + batch.gaps as u64 + 1;
        self.engine.acknowledge(applied.until, outcome, |position| {
            if position < first_record {
                return Err(AuditError::new(
                    Kind::Store,
                    "the bytes of this entry in the journal no longer check",
                ));
            }
            if let (Some(row), Some(first_seq)) = (position.checked_sub(first_row), applied.first_seq) {
                return Ok(first_seq + before + row);
            }
            let refused = usize::try_from(position.saturating_sub(first_held)).ok();
            let refused = refused.and_then(|index| held.get(index));
            let duplicate = refused.is_some_and(|refused| refused.duplicate);
            let why = refused.map_or("the database refuses this entry", |refused| &refused.error);
            Err(AuditError::new(
                if duplicate { Kind::Duplicate } else { Kind::Quarantined },
                format!("set aside in quarantine: {why}"),
            ))
        });
        batch.done = reached;
    }
}

fn unreadable(cause: std::io::Error) -> AuditError {
    AuditError::new(Kind::Store, "a journal cannot be read").because(cause)
}

fn hold(batch: &mut Batch, index: usize, fault: Fault, error: &AuditError) {
    let Some(Item::Row(row)) = batch.items.get(index) else { return };
    let mut record = Vec::new();
    encode_entry(&mut record, row);
    batch.held.push(Quarantined {
        id: Some(row.id),
        error: error.to_string(),
        record,
        duplicate: fault == Fault::Duplicate,
    });
}
