//! Tests the flusher against databases that fail on request, in ways in which a real one fails only by chance.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking, and so does a script")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture, stream::TryStreamExt};
use proptest::prelude::*;
use uuid::Uuid;

use super::{batch::Batch, commit::Committer};
use crate::engine::{Engine, Health, Notice, OnNotice, Settings, Stats};
use crate::entry::{AuditEntry, Row};
use crate::error::{AuditError, ErrorKind};
use crate::log::{AuditLog, AuditWriter};
use crate::platform::{Clock, block_on, lock};
use crate::query::AuditQuery;
use crate::queue::{Appended, Counts, MemoryQueue, Outcome, Queue, Records, Refused, WhenFull, gone};
use crate::reader::AuditReader;
use crate::store::{
    Append, AppendError, Appender, Applied, Backend, Fault, Opening, QuarantineRetried, Quarantined, Reads,
    Store,
};

/// The database's reaction to one append.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// Commits, and reports success.
    Commit,
    /// Does nothing, and reports an error.
    Fail,
    /// Commits, and reports an error, since the answer is lost.
    Lost,
    /// Panics before it does anything.
    Panic,
    /// Commits, and panics before it reports success.
    LostInPanic,
    /// Commits once nothing is held any more.
    Late,
    /// Has no room for this number of rows, and has tried them or not.
    Full { tried: bool },
}

/// The contents of a scripted database.
#[derive(Debug, Default)]
struct Tables {
    rows: Vec<Row>,
    quarantine: Vec<Quarantined>,
    /// For each writer: the position that it has reached, then the first `seq` and the number of rows of its last
    /// batch.
    writers: BTreeMap<Uuid, (u64, Option<u64>, u64)>,
}

/// A database in memory that follows a script.
#[derive(Clone, Debug, Default)]
struct Scripted {
    tables: Arc<Mutex<Tables>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    refused_connects: Arc<Mutex<u32>>,
    panicking_connects: Arc<Mutex<u32>>,
    /// While this is set, connections and late answers wait.
    held: Arc<AtomicBool>,
    defect: Option<AuditError>,
    /// The most rows for which there is room, if that is known.
    room_for: Arc<Mutex<Option<usize>>>,
    /// Numbers of rows that were committed together.
    together: Arc<Mutex<Vec<usize>>>,
    /// The log that the next connection asks for everything that waits, as the application's password may.
    asks_back: Arc<Mutex<Option<Arc<AuditLog>>>>,
}

fn broken() -> AuditError {
    AuditError::new(ErrorKind::Store, "as the script says")
}

impl Scripted {
    fn open(&self) -> AuditLog {
        let store = Store::of(self.clone());
        let builder = AuditLog::builder().store(store).on_notice(|_| {});
        builder
            .commit_timeout(Duration::from_millis(50))
            .in_memory_queue()
            .queue_max_entries(40)
            .when_full(WhenFull::Reject)
            .blocking()
            .open()
            .unwrap()
    }

    /// Waits until nothing is held any more.
    async fn released(&self) {
        while self.held.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn script(&self, answers: &[Answer]) {
        lock(&self.answers).extend(answers);
    }

    fn commit(&self, batch: Append<'_>) -> Result<Applied, AppendError> {
        let mut tables = lock(&self.tables);
        let first_seq = tables.rows.len() as u64;
        let (until, last_first, last_rows) = tables.writers.get(&batch.writer).copied().unwrap_or_default();
        assert!(until <= batch.reachable);
        if until > batch.from {
            return Ok(Applied {
                until,
                rows: last_rows,
                first_seq: last_first,
                again: true,
                told: false,
                before: None,
            });
        }
        assert_eq!(until, batch.from, "records were left out");
        let known: BTreeSet<Uuid> = tables.rows.iter().map(|row| row.id).collect();
        let mut new = BTreeSet::new();
        for row in batch.rows {
            let fault = match () {
                () if known.contains(&row.id) || !new.insert(row.id) => Fault::Duplicate,
                () if &*row.action == "poison" => Fault::Entry,
                () => continue,
            };
            return Err(AppendError { fault, error: broken() });
        }
        if let Some(doubted) = batch.doubted {
            let refused = known.contains(&doubted.id) || &*doubted.action == "poison";
            return Err(AppendError { fault: Fault::Doubted { refused }, error: broken() });
        }
        tables.rows.extend(batch.rows.iter().copied().cloned());
        tables.quarantine.extend_from_slice(batch.quarantined);
        let first_seq = (!batch.rows.is_empty()).then_some(first_seq);
        let rows = batch.rows.len() as u64;
        tables.writers.insert(batch.writer, (batch.until(), first_seq, rows));
        Ok(Applied { until: batch.until(), rows, first_seq, again: false, told: false, before: None })
    }
}

impl Backend for Scripted {
    fn name(&self, _directory: &Path) -> Option<String> {
        None
    }

    fn connect<'a>(
        &'a self,
        _: &'a str,
        _: &'a Opening,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        Box::pin(async {
            self.released().await;
            if let Some(log) = lock(&self.asks_back).take() {
                assert!(log.blocking().flush().unwrap_err().is_pending());
                assert!(log.writer().blocking().commit(entry("b")).unwrap_err().is_pending());
                assert!(log.writer().blocking().retry_quarantined().is_err());
                assert!(block_on(log.writer().commit(entry("c"))).unwrap_err().is_pending());
            }
            let once = |left: &Mutex<u32>| {
                let mut left = lock(left);
                *left = left.checked_sub(1)?;
                Some(())
            };
            assert!(once(&self.panicking_connects).is_none(), "as the script says");
            if once(&self.refused_connects).is_some() {
                return Err(broken());
            }
            Ok(Box::new(self.clone()) as Box<dyn Appender>)
        })
    }
}

impl Appender for Scripted {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            // Another task gets its turn before the answer, as with a real database.
            tokio::task::yield_now().await;
            let failed = || AppendError { fault: Fault::Store, error: broken() };
            let no_room = |tried| AppendError { fault: Fault::Room { tried }, error: broken() };
            let room_for = *lock(&self.room_for);
            if room_for.is_some_and(|most| batch.rows.len() > most) {
                return Err(no_room(true));
            }
            lock(&self.together).push(batch.rows.len());
            let answer = lock(&self.answers).pop_front();
            match answer.unwrap_or(Answer::Commit) {
                Answer::Commit => self.commit(batch),
                Answer::Fail => Err(failed()),
                Answer::Full { tried } => Err(no_room(tried)),
                Answer::Lost => {
                    self.commit(batch)?;
                    Err(failed())
                }
                Answer::Panic => panic!("as the script says"),
                Answer::LostInPanic => {
                    self.commit(batch)?;
                    panic!("as the script says")
                }
                Answer::Late => {
                    self.released().await;
                    self.commit(batch)
                }
            }
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        let position = lock(&self.tables).writers.get(&writer).map_or(0, |(until, _, _)| *until);
        Box::pin(async move { Ok(position) })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        Box::pin(async { Err(broken()) })
    }

    fn defect(&self) -> Option<AuditError> {
        self.defect.clone()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

fn entry(action: impl Into<String>) -> AuditEntry {
    AuditEntry::new(Uuid::nil(), action, "r")
}

fn assert_balanced(stats: &Stats) {
    let Stats { offered, committed, rejected, quarantined, pending, .. } = stats;
    assert_eq!(*offered, committed + rejected + quarantined + pending, "{stats:?}");
}

/// Runs the body while another thread checks every few milliseconds that the books balance.
fn balanced(writer: &AuditWriter, body: impl FnOnce()) {
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            while done.load(Ordering::Relaxed) == 0 {
                assert_balanced(&writer.stats());
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(body));
        done.store(1, Ordering::Relaxed);
        checking.join().unwrap();
        outcome.unwrap();
    });
}

/// The longest time that a condition may take on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(3);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Accept(u8),
    /// An entry that the database refuses: for good, if it accepts another one.
    Poison,
    /// An entry with the id of an earlier one.
    Twice,
    /// A record that no version can read.
    Garbage,
    TooLarge,
    Script(Vec<Answer>),
    RefuseConnects(u32),
    Flush,
    /// A shutdown, after which the log is opened again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        3 => Just(Answer::Commit),
        3 => Just(Answer::Fail),
        3 => Just(Answer::Lost),
        2 => any::<bool>().prop_map(|tried| Answer::Full { tried }),
        1 => Just(Answer::Panic),
        1 => Just(Answer::LostInPanic),
    ];
    prop_oneof![
        6 => (1..20_u8).prop_map(Step::Accept),
        2 => Just(Step::Poison),
        2 => Just(Step::Twice),
        1 => Just(Step::Garbage),
        1 => Just(Step::TooLarge),
        3 => proptest::collection::vec(answer, 1..4).prop_map(Step::Script),
        1 => (1..3_u32).prop_map(Step::RefuseConnects),
        3 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
}

/// The accepted and rejected entries, as the callers know them.
#[derive(Default)]
struct Outcomes {
    accepted: Vec<Uuid>,
    garbage: u64,
    rejected: u64,
    offered: u64,
}

impl Outcomes {
    fn write(&mut self, writer: &AuditWriter, entry: AuditEntry) {
        let id = entry.id;
        self.offered += 1;
        match writer.try_write(entry) {
            Ok(()) => self.accepted.push(id),
            Err(error) => {
                assert!(error.is_rejected(), "{error}");
                self.rejected += 1;
            }
        }
    }
}

/// Waits until every accepted entry is settled. Writes one more entry, which the database accepts, so that a refused
/// one can be quarantined.
fn settle(log: &AuditLog, outcomes: &mut Outcomes) {
    wait_until("room for a last entry", || log.stats().pending < 40);
    outcomes.write(&log.writer(), entry("last"));
    wait_until("a flush", || log.blocking().flush().is_ok());
    wait_until("every gap is reported", || log.stats().pending == 0);
}

fn run_steps(steps: Vec<Step>) {
    let database = Scripted::default();
    let mut log = database.open();
    let (mut outcomes, mut finished) = (Outcomes::default(), Stats::default());
    for step in steps {
        let writer = log.writer();
        match step {
            Step::Accept(count) => (0..count).for_each(|_| outcomes.write(&writer, entry("a"))),
            Step::Poison => outcomes.write(&writer, entry("poison")),
            Step::Twice => {
                let id = outcomes.accepted.first().copied().unwrap_or_else(Uuid::now_v7);
                outcomes.write(&writer, AuditEntry { id, ..entry("twice") });
            }
            Step::Garbage => {
                // This may fail as a caller's write may: the queue may be full.
                if writer.engine().try_append(b"not a record", &mut None).is_ok() {
                    outcomes.garbage += 1;
                    outcomes.offered += 1;
                }
            }
            Step::TooLarge => outcomes.write(&writer, entry("x".repeat(100_000))),
            Step::Script(answers) => database.script(&answers),
            Step::RefuseConnects(count) => *lock(&database.refused_connects) = count,
            Step::Flush => drop(log.blocking().flush()),
            Step::Restart => {
                settle(&log, &mut outcomes);
                let report = log.blocking().shutdown(PATIENCE).unwrap();
                assert_eq!(report.stats.pending, 0);
                finished.offered += report.stats.offered;
                finished.gaps += report.stats.gaps;
                finished.committed += report.stats.committed;
                finished.quarantined += report.stats.quarantined;
                drop(writer);
                *lock(&database.refused_connects) = 0;
                log = database.open();
            }
        }
        let stats = log.stats();
        assert_balanced(&stats);
        assert_eq!(stats.offered + finished.offered, outcomes.offered + stats.gaps + finished.gaps);
    }
    settle(&log, &mut outcomes);
    let stats = log.stats();
    assert_balanced(&stats);
    assert_eq!(stats.pending, 0);
    let tables = lock(&database.tables);
    assert_eq!(stats.committed + finished.committed, tables.rows.len() as u64);
    assert_eq!(stats.quarantined + finished.quarantined, tables.quarantine.len() as u64);
    let mut found = BTreeMap::<Uuid, u64>::new();
    let gaps: Vec<&Row> = tables.rows.iter().filter(|row| &*row.action == "audit.gap").collect();
    let ids = tables.rows.iter().filter(|row| &*row.action != "audit.gap").map(|row| row.id);
    for id in ids.chain(tables.quarantine.iter().filter_map(|entry| entry.id)) {
        *found.entry(id).or_default() += 1;
    }
    let mut accepted = BTreeMap::<Uuid, u64>::new();
    outcomes.accepted.iter().for_each(|id| *accepted.entry(*id).or_default() += 1);
    assert_eq!(found, accepted, "every accepted entry is in exactly one place");
    let unreadable = tables.quarantine.iter().filter(|entry| entry.id.is_none()).count() as u64;
    assert_eq!(unreadable, outcomes.garbage);
    let reported: u64 = gaps
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(&row.metadata).unwrap())
        .map(|metadata| metadata.get("rejected").and_then(serde_json::Value::as_u64).unwrap())
        .sum();
    assert_eq!(reported, outcomes.rejected, "the gap entries report every rejection, once");
    assert_eq!(gaps.len() as u64, stats.gaps + finished.gaps);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_books_balance_and_every_accepted_entry_is_in_one_place(
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        run_steps(steps);
    }
}

#[test]
fn a_panic_of_the_log_s_thread_is_counted_survived_and_doubles_nothing() {
    let database = Scripted::default();
    let log = database.open();
    database.script(&[Answer::Panic, Answer::LostInPanic]);
    (0..10).for_each(|i| log.writer().try_write(entry(i.to_string())).unwrap());
    wait_until("a flush", || log.blocking().flush().is_ok());
    let stats = log.stats();
    assert_eq!((stats.committed, stats.pending, stats.panics), (10, 0, 2));
    assert!(stats.last_error.is_some_and(|error| error.to_string().contains("panicked: as the script says")));
    assert_eq!(lock(&database.tables).rows.len(), 10);
    assert_eq!(log.health(), Health::Healthy);
}

#[test]
fn a_database_that_does_not_answer_is_failing_until_it_does() {
    let database = Scripted::default();
    let builder = AuditLog::builder().store(Store::of(database.clone())).on_notice(|_| {});
    let log = builder.commit_timeout(Duration::from_millis(100)).blocking().open().unwrap();
    database.script(&[Answer::Late]);
    database.held.store(true, Ordering::Release);
    assert!(log.writer().blocking().commit(entry("late")).unwrap_err().is_pending());
    wait_until("health turns bad", || log.health() == Health::Failing);
    assert_eq!(log.stats().retries, 0);
    database.held.store(false, Ordering::Release);
    wait_until("health turns good", || log.health() == Health::Healthy);
    assert_eq!(lock(&database.tables).rows.len(), 1);
}

#[test]
fn an_open_that_took_long_leaves_the_log_healthy_though_nothing_is_emitted() {
    let database = Scripted::default();
    database.held.store(true, Ordering::Release);
    let held = Arc::clone(&database.held);
    let opening = std::thread::spawn(move || database.open());
    // Longer than its commit_timeout of 50 ms: at least one look of the watch.
    std::thread::sleep(Duration::from_millis(300));
    held.store(false, Ordering::Release);
    let log = opening.join().unwrap();
    assert!(
        log.stats().last_error.is_some_and(|error| error.to_string().contains("has not answered for 50ms"))
    );
    wait_until("health turns good", || log.health() == Health::Healthy);
}

#[test]
fn a_log_is_opened_within_its_limit_or_says_what_has_not_answered() {
    let database = Scripted::default();
    database.held.store(true, Ordering::Release);
    let builder = AuditLog::builder().store(Store::of(database.clone())).on_notice(|_| {});
    let error = builder.open_timeout(Duration::from_millis(50)).blocking().open().unwrap_err();
    assert!(error.to_string().contains("the audit database has not answered for 50ms"), "{error}");
    database.held.store(false, Ordering::Release);
    database.open();
}

#[test]
fn commits_that_nobody_waits_for_any_more_are_forgotten() {
    let database = Scripted::default();
    let store = Store::of(database.clone());
    let builder = AuditLog::builder().store(store).on_notice(|_| {}).commit_timeout(Duration::from_millis(1));
    let log = builder.blocking().open().unwrap();
    let (writer, engine) = (log.writer(), log.writer().engine());
    database.script(&[Answer::Late]);
    database.held.store(true, Ordering::Release);
    for _ in 0..100 {
        assert!(writer.blocking().commit(entry("a")).unwrap_err().is_pending());
    }
    // A future that is dropped in the middle of its wait, or whose time is over at its first look already.
    for _ in 0..100 {
        let waited = writer.commit(entry("a")).now_or_never();
        assert!(waited.is_none_or(|done| done.unwrap_err().is_pending()));
    }
    assert_eq!(lock(&engine.commits).len(), 0);
    database.held.store(false, Ordering::Release);
    wait_until("a flush", || writer.blocking().flush().is_ok());
    assert_eq!(log.stats().committed, 200);
}

/// An engine without threads, whose queue nobody reads.
fn engine_alone(flush_interval: Duration) -> Engine {
    let settings = Settings { flush_interval, ..Settings::new(Store::of(Scripted::default())) };
    Engine::new(Arc::new(MemoryQueue::new(10, 1000)), settings, None, None)
}

#[test]
fn a_batch_is_due_at_the_age_of_its_oldest_entry_whatever_the_flusher_did_since() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let aged = engine_alone(Duration::from_millis(20));
    aged.queue.offer(b"a").unwrap();
    std::thread::sleep(Duration::from_millis(25));
    assert_eq!(aged.wait_for_batch().now_or_never(), Some(true));
    let young = engine_alone(Duration::from_hours(1));
    young.queue.offer(b"a").unwrap();
    assert_eq!(young.wait_for_batch().now_or_never(), None);
    let forever = engine_alone(Duration::MAX);
    forever.queue.offer(b"a").unwrap();
    let waits = async { tokio::time::timeout(Duration::from_millis(20), forever.wait_for_batch()).await };
    assert!(runtime.block_on(waits).is_err());
}

#[test]
fn a_wait_in_vain_counts_only_until_something_is_acknowledged_even_at_the_same_moment() {
    let engine = engine_alone(Duration::from_hours(1));
    engine.queue.offer(b"a").unwrap();
    engine.queue.offer(b"b").unwrap();
    engine.give_up(Refused::Full, 0, Duration::MAX);
    assert!(engine.is_overdue());
    engine.acknowledge(1, Outcome { committed: 1, ..Outcome::default() }, |_| Ok(0));
    assert!(!engine.is_overdue());
    // Its wait began before the acknowledgement, and ends after it.
    engine.give_up(Refused::Full, 0, Duration::MAX);
    assert!(!engine.is_overdue());
    engine.give_up(Refused::Stuck, 1, Duration::MAX);
    assert!(engine.is_overdue());
    // A caller's own limit was shorter than the log's.
    let other = engine_alone(Duration::from_hours(1));
    other.give_up(Refused::Full, 0, Duration::ZERO);
    assert!(!other.is_overdue());
}

#[test]
fn what_is_asked_on_the_log_s_own_thread_is_answered_at_once() {
    let database = Scripted::default();
    let log = Arc::new(database.open());
    *lock(&database.asks_back) = Some(Arc::clone(&log));
    database.script(&[Answer::Fail]);
    log.writer().try_write(entry("a")).unwrap();
    wait_until("a flush", || log.blocking().flush().is_ok());
    assert!(lock(&database.asks_back).take().is_none());
    assert_eq!(log.stats().panics, 0);
}

#[test]
fn a_database_that_cannot_be_opened_at_first_is_opened_even_if_nothing_is_pending() {
    let database = Scripted::default();
    *lock(&database.refused_connects) = 3;
    let writer = AuditWriter::new(Store::of(database), Duration::from_millis(1), 10);
    wait_until("health turns bad", || writer.health() == Health::Failing || writer.stats().retries >= 2);
    wait_until("health turns good", || writer.health() == Health::Healthy);
    assert!(writer.stats().retries >= 2);
    assert!(writer.stats().last_error.is_some());
}

#[test]
fn a_shutdown_sends_a_notice_only_if_it_leaves_entries_pending_and_may_be_repeated() {
    for answers in [&[][..], &[Answer::Fail; 100][..]] {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let notices = Arc::clone(&sent);
        let database = Scripted::default();
        database.script(answers);
        let builder = AuditLog::builder().store(Store::of(database));
        let log = builder
            .on_notice(move |notice| lock(&notices).push(notice.to_string()))
            .blocking()
            .open()
            .unwrap();
        log.writer().try_write(entry("a")).unwrap();
        let left = u64::from(!answers.is_empty());
        wait_until("a notice, if there is something to report", || left == 0 || !lock(&sent).is_empty());
        for _ in 0..2 {
            let patience = if left == 0 { PATIENCE } else { Duration::from_millis(300) };
            let shut_down = log.blocking().shutdown(patience);
            assert!(shut_down.is_ok() || left == 1, "{shut_down:?}");
            assert_eq!(log.stats().pending, left);
            assert!(log.writer().try_write(entry("late")).unwrap_err().is_closed());
        }
        assert_balanced(&log.stats());
        let sent = lock(&sent);
        if left == 0 {
            assert_eq!(*sent, Vec::<String>::new());
        } else {
            assert_eq!(sent.len(), 2, "{sent:?}");
            assert!(sent.last().unwrap().contains("is closed (it was failing), 1 entry waits"), "{sent:?}");
        }
    }
}

#[test]
fn a_defect_of_the_database_s_library_is_in_one_notice_of_a_healthy_log() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&sent);
    let defect = Some(AuditError::new(ErrorKind::Store, "its library has a bug"));
    let database = Scripted { defect, ..Scripted::default() };
    let builder = AuditLog::builder().store(Store::of(database.clone()));
    let log = builder.on_notice(move |notice| lock(&notices).push(notice)).blocking().open().unwrap();
    wait_until("the notice", || !lock(&sent).is_empty());
    // Each failed attempt connects again, and finds the defect again.
    database.script(&[Answer::Fail; 3]);
    log.writer().try_write(entry("a")).unwrap();
    wait_until("a commit", || log.blocking().flush().is_ok());
    assert_eq!((log.health(), log.stats().retries), (Health::Healthy, 3));
    let report = log.blocking().shutdown(PATIENCE).unwrap();
    assert_eq!(
        (report.stats.committed, report.stats.last_error.unwrap().to_string()),
        (1, broken().to_string())
    );
    let sent = lock(&sent);
    let of_defect = |notice: &&Notice| notice.to_string().contains("its library has a bug");
    assert_eq!(sent.iter().filter(of_defect).count(), 1, "{sent:?}");
    let first = sent.first().unwrap();
    assert_eq!(first.to_string(), "the audit log is healthy, 0 entries wait: its library has a bug");
}

#[test]
fn unreadable_records_are_all_quarantined_even_if_the_log_panics_between_them() {
    let database = Scripted::default();
    let log = database.open();
    database.script(&[Answer::LostInPanic]);
    log.writer().engine().try_append(b"not a record", &mut None).unwrap();
    wait_until("the panic", || log.stats().panics == 1);
    log.writer().engine().try_append(b"neither", &mut None).unwrap();
    wait_until("a flush", || log.blocking().flush().is_ok());
    let stats = log.stats();
    assert_eq!((stats.quarantined, stats.pending, lock(&database.tables).quarantine.len()), (2, 0, 2));
}

#[test]
fn more_refused_entries_than_a_batch_holds_do_not_hide_an_acceptable_one() {
    let database = Scripted::default();
    let log = AuditLog::builder().store(Store::of(database)).on_notice(|_| {}).blocking().open().unwrap();
    let metadata = serde_json::Value::from("x".repeat(1_000_000));
    for _ in 0..10 {
        log.writer().try_write(AuditEntry { metadata: metadata.clone(), ..entry("poison") }).unwrap();
    }
    log.writer().try_write(entry("fine")).unwrap();
    wait_until("a flush", || log.blocking().flush().is_ok());
    let stats = log.stats();
    assert_eq!((stats.quarantined, stats.committed, stats.pending), (10, 1, 0));
}

#[test]
fn a_shutdown_while_emitters_run_leaves_nothing_pending() {
    for _ in 0..10 {
        let database = Scripted::default();
        let log = AuditLog::builder().store(Store::of(database)).on_notice(|_| {}).blocking().open().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let writer = log.writer();
                scope.spawn(
                    move || while !writer.try_write(entry("a")).is_err_and(|error| error.is_closed()) {},
                );
                let writer = log.writer();
                scope.spawn(move || {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(100) {
                        drop(writer.try_write(entry("a")));
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(30));
            let report = log.blocking().shutdown(PATIENCE).unwrap();
            assert_eq!(report.stats.pending, 0);
        });
        assert_balanced(&log.stats());
    }
}

#[test]
fn a_wait_for_room_ends_at_once_when_the_log_is_shut_down() {
    let database = Scripted::default();
    database.script(&[Answer::Fail; 1000]);
    let builder = AuditLog::builder()
        .store(Store::of(database))
        .on_notice(|_| {})
        .in_memory_queue()
        .queue_max_entries(1)
        .queue_max_bytes(1000);
    let log = builder.when_full(WhenFull::Block { timeout: Duration::MAX }).blocking().open().unwrap();
    log.writer().try_write(entry("a")).unwrap();
    std::thread::scope(|scope| {
        let writer = log.writer();
        let waiting = scope.spawn(move || writer.blocking().write(entry("b")));
        std::thread::sleep(Duration::from_millis(50));
        let shut_down = log.blocking().shutdown(Duration::from_millis(50));
        assert!(shut_down.is_ok_and(|report| report.stats.pending == 1));
        assert!(waiting.join().unwrap().unwrap_err().is_closed());
    });
}

#[test]
fn a_pending_commit_fails_when_the_log_ends() {
    let database = Scripted::default();
    database.script(&[Answer::Fail; 1000]);
    let log = AuditLog::builder().store(Store::of(database)).on_notice(|_| {}).blocking().open().unwrap();
    std::thread::scope(|scope| {
        let writer = log.writer();
        let waiting = scope.spawn(move || writer.blocking().commit(entry("a")));
        wait_until("it is accepted", || log.stats().pending == 1);
        drop(log.blocking().shutdown(Duration::from_millis(50)));
        let error = waiting.join().unwrap().unwrap_err();
        assert!(error.is_pending() && error.to_string().contains("the audit log ended"), "{error}");
    });
}

#[test]
fn a_panic_while_opening_is_an_error_or_retried_and_a_hang_is_failing() {
    let database = Scripted::default();
    *lock(&database.panicking_connects) = 1;
    let error = AuditLog::builder().store(Store::of(database.clone())).blocking().open().unwrap_err();
    assert!(error.to_string().contains("panicked: as the script says"), "{error}");
    *lock(&database.panicking_connects) = 2;
    let writer = AuditWriter::new(Store::of(database.clone()), Duration::from_millis(1), 10);
    writer.blocking().commit(entry("a")).unwrap();
    assert_eq!(writer.stats().panics, 2);

    // The default commit_timeout is 5 s.
    database.held.store(true, Ordering::Release);
    let writer = AuditWriter::new(Store::of(database.clone()), Duration::from_millis(1), 10);
    assert_eq!(writer.health(), Health::Healthy);
    wait_until("health turns bad", || writer.health() == Health::Failing);
    assert!(
        writer.stats().last_error.is_some_and(|error| error.to_string().contains("has not answered for 5s"))
    );
    database.held.store(false, Ordering::Release);
    wait_until("health turns good", || writer.health() == Health::Healthy);
}

#[test]
fn a_database_with_room_for_few_rows_gets_few_at_a_time_and_waits_where_there_is_none() {
    let database = Scripted::default();
    let log = database.open();
    let writer = log.writer();
    *lock(&database.room_for) = Some(0);
    balanced(&writer, || {
        (0..30).for_each(|i| writer.try_write(entry(i.to_string())).unwrap());
        wait_until("health turns bad", || log.health() == Health::Failing && log.stats().retries > 1);
        assert_eq!((log.stats().pending, log.stats().quarantined), (30, 0));
        *lock(&database.room_for) = Some(3);
        wait_until("a flush", || log.blocking().flush().is_ok());
    });
    assert!(lock(&database.together).iter().all(|rows| (1..=3).contains(rows)));
    let found: Vec<_> = lock(&database.tables).rows.iter().map(|row| row.action.to_string()).collect();
    assert_eq!(found, (0..30).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!((log.health(), log.stats().committed), (Health::Healthy, 30));
}

/// A queue whose first reads fail, as on a bad disk. The number says how many.
#[derive(Debug)]
struct Unreadable(MemoryQueue, AtomicU32);

impl Queue for Unreadable {
    fn append(
        &self,
        record: &[u8],
        patience: Duration,
        accepted: &mut dyn FnMut(u64),
    ) -> Result<Appended, Refused> {
        self.0.append(record, patience, accepted)
    }

    fn reject(&self, why: Refused) {
        self.0.reject(why);
    }

    fn report_gap(&self) -> Option<Appended> {
        self.0.report_gap()
    }

    fn read(&self, from: u64, count: usize, bytes: usize) -> std::io::Result<Records> {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(std::io::ErrorKind::Other.into());
        }
        self.0.read(from, count, bytes)
    }

    fn ack(&self, upto: u64, outcome: Outcome) {
        self.0.ack(upto, outcome);
    }

    fn recover(&self, outcome: Outcome) {
        self.0.recover(outcome);
    }

    fn wake_at(&self, pending: u64) -> Counts {
        self.0.wake_at(pending)
    }

    fn close(&self) {
        self.0.close();
    }

    fn counts(&self) -> Counts {
        self.0.counts()
    }
}

#[test]
fn a_queue_that_cannot_be_read_is_failing_and_read_again_with_pauses() {
    let database = Scripted::default();
    let settings = Settings {
        batch_entries: 1,
        flush_interval: Duration::ZERO,
        when_full: WhenFull::Reject,
        on_notice: OnNotice(Arc::new(|_| {})),
        ..Settings::new(Store::of(database.clone()))
    };
    let queue = Unreadable(MemoryQueue::new(10, 1000), AtomicU32::new(5));
    let (engine, _opened) = Engine::start(Arc::new(queue), settings, false, Clock::start());
    let writer = AuditWriter::of(engine);
    writer.try_write(entry("a")).unwrap();
    wait_until("health turns bad", || writer.health() == Health::Failing || writer.stats().committed == 1);
    wait_until("a flush", || writer.blocking().flush().is_ok());
    let stats = writer.stats();
    // Each retry comes after a pause: a spinning thread would have starved the timer, and this test.
    assert_eq!((stats.committed, stats.pending, stats.retries), (1, 0, 5));
    assert!(stats.last_error.is_some_and(|error| error.to_string().contains("a journal cannot be read")));
    assert_eq!(writer.health(), Health::Healthy);
}

#[test]
fn what_another_log_has_told_of_a_dead_process_is_not_taken_for_one_s_own() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
    let engine = || {
        let queue = MemoryQueue::new(10, 1000);
        Engine::new(Arc::new(queue), Settings::new(store.clone()), None, None)
    };
    let (first, second) = (engine(), engine());
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    runtime.block_on(async {
        let mut committers = [Committer::new(&first), Committer::new(&second)];
        for (which, dead) in [(0, one), (1, one), (1, other)] {
            let committer = &mut committers[which];
            let told = gone(5, dead, 0, None);
            committer.attempt(&mut Batch::about(committer.engine, dead, 0, 5, &told).unwrap()).await.unwrap();
        }
        for committer in &mut committers {
            committer.disconnect().await;
        }
        let query = AuditQuery::new();
        let found: Vec<_> = AuditReader::new(store.clone()).stream(query).try_collect().await.unwrap();
        let told = |dead: Uuid| serde_json::json!({"lost": 5, "queue": dead, "after_position": 0});
        let found: Vec<_> = found.into_iter().map(|found| found.entry.metadata).collect();
        assert_eq!(found, [told(one), told(other)]);
    });
}

/// SQLite, but the answer to every second append is lost: it commits, and is reported as failed.
#[derive(Debug)]
struct LosesAnswers(Store);

/// The number of commits so far.
static APPENDS: AtomicU32 = AtomicU32::new(0);

/// The writing side of [`LosesAnswers`].
struct LosesEverySecond(Box<dyn Appender>);

impl Backend for LosesAnswers {
    fn name(&self, directory: &Path) -> Option<String> {
        self.0.backend().name(directory)
    }

    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        opening: &'a Opening,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        Box::pin(async move {
            let inner = self.0.backend().connect(ledger, opening).await?;
            Ok(Box::new(LosesEverySecond(inner)) as Box<dyn Appender>)
        })
    }

    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        self.0.backend().reads()
    }
}

impl Appender for LosesEverySecond {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            let applied = self.0.append(batch).await?;
            if APPENDS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                let error = AuditError::new(ErrorKind::Store, "the answer was lost");
                return Err(AppendError { fault: Fault::Store, error });
            }
            Ok(applied)
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        self.0.position(writer)
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<QuarantineRetried, AuditError>> {
        self.0.readmit()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.close()
    }
}

#[test]
fn lost_answers_double_nothing_lose_nothing_and_give_each_commit_its_own_seq() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = Store::sqlite(directory.path().join("audit.db")).unwrap();
    let log = AuditLog::builder().store(Store::of(LosesAnswers(sqlite.clone()))).blocking().open().unwrap();
    let writer = log.writer();
    let twice = entry("0");
    balanced(&writer, || {
        // Commits between other entries, with duplicates and records that no version can read.
        for i in 0..200 {
            let mine = if i == 0 { twice.clone() } else { entry(i.to_string()) };
            assert_eq!(writer.blocking().commit(mine).unwrap(), i * 4);
            for other in 0..3 {
                writer.try_write(entry((1000 + i * 3 + other).to_string())).unwrap();
            }
            if i % 50 == 10 {
                assert!(writer.blocking().commit(twice.clone()).unwrap_err().is_duplicate());
                writer.engine().queue.offer(b"not a record").unwrap();
            }
        }
    });
    log.blocking().flush().unwrap();
    let stats = log.stats();
    assert_eq!((stats.offered, stats.committed, stats.quarantined, stats.pending), (808, 800, 8, 0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let actions: Vec<String> = runtime.block_on(async {
        let all = AuditQuery::new();
        let rows: Vec<Row> = sqlite.backend().reads().unwrap().rows(&all).try_collect().await.unwrap();
        assert_eq!(AuditReader::new(sqlite.clone()).count(&all).await.unwrap(), 800);
        rows.into_iter().map(|row| row.action.as_ref().to_owned()).collect()
    });
    let mut unique = actions.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 800);
}
