//! Failing closed, with the macros; and who is told when nobody asks. Each as the global subscriber of a process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use support::{Fixture, block_on, in_own_process, log_with, wait_until};
use tracing::{Subscriber, field::Field, info};
use tracing_audit::{AuditEntry, AuditLog, AuditQuery, ExportFormat, Health, WhenFull};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry};
use uuid::Uuid;

fn entry(action: &str) -> AuditEntry {
    AuditEntry::new(Uuid::nil(), action, "r")
}

async fn lock(fixture: &Fixture) -> SqliteConnection {
    let file = fixture.directory.path().join("audit.db");
    let mut blocker = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut blocker).await.unwrap();
    blocker
}

async fn unlock(mut blocker: SqliteConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
}

#[test]
fn committed_gives_the_seq_of_each_event_of_its_own_closure_and_thread() {
    in_own_process("committed_gives_the_seq_of_each_event_of_its_own_closure_and_thread", || {
        let fixture = log_with(|builder| builder.flush_interval(Duration::from_hours(1)));
        let other = log_with(|builder| builder.target("other"));
        registry().with(fixture.log.layer()).with(other.log.layer()).init();
        info!(target: "audit", action = "before");
        let seqs = fixture.log.committed_blocking(|| {
            info!(target: "audit", action = "first");
            info!(target: "other", action = "elsewhere");
            info!("no audit event");
            std::thread::scope(|scope| {
                scope.spawn(|| info!(target: "audit", action = "of another thread"));
            });
            info!(target: "audit", action = "second");
        });
        assert_eq!(seqs.unwrap(), [1, 3]);
        assert_eq!(fixture.entries()[3].entry.action, "second");
        // One in another, and both logs at once.
        block_on(async {
            let seqs = fixture
                .log
                .committed(|| {
                    let inner = other.log.committed_blocking(|| {
                        info!(target: "other", action = "inner");
                        info!(target: "audit", action = "outer");
                    });
                    assert_eq!(inner.unwrap(), [1]);
                })
                .await;
            assert_eq!(seqs.unwrap(), [4]);
        });
    });
}

#[test]
fn committed_without_an_event_is_a_fault_of_the_wiring() {
    in_own_process("committed_without_an_event_is_a_fault_of_the_wiring", || {
        let fixture = support::log();
        let emit = || info!(target: "audit", action = "a");
        assert!(fixture.log.committed_blocking(emit).unwrap_err().is_wiring());
        registry().with(fixture.log.layer()).init();
        assert_eq!(fixture.log.committed_blocking(emit).unwrap(), [0]);
        assert!(fixture.log.committed_blocking(|| ()).unwrap_err().is_wiring());
        // A panic within leaves nothing behind.
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            fixture.log.committed_blocking(|| {
                info!(target: "audit", action = "b");
                panic!("within");
            })
        }));
        assert!(panicked.is_err());
        info!(target: "audit", action = "c");
        assert_eq!(fixture.log.committed_blocking(emit).unwrap(), [3]);
    });
}

#[test]
fn committed_says_which_of_three_things_went_wrong() {
    in_own_process("committed_says_which_of_three_things_went_wrong", || {
        let fixture = log_with(|builder| {
            let builder = builder.in_memory_queue().queue_max_entries(5).when_full(WhenFull::Reject);
            builder.commit_timeout(Duration::from_millis(200)).on_notice(|_| {})
        });
        registry().with(fixture.log.layer()).init();
        let emit = || info!(target: "audit", action = "a");
        block_on(async {
            let blocker = lock(&fixture).await;
            let error = fixture.log.committed(emit).await.unwrap_err();
            assert!(error.is_pending() && !error.is_rejected(), "{error}");
            (0..4).for_each(|_| emit());
            let error = fixture.log.committed(emit).await.unwrap_err();
            assert!(error.is_rejected() && error.is_full() && !error.is_pending(), "{error}");
            assert_eq!(fixture.log.health(), Health::Rejecting);
            // Dropped, it withdraws nothing.
            unlock(blocker).await;
            fixture.settle();
            fixture.settle();
            let blocker = lock(&fixture).await;
            let committing = fixture.log.committed(emit);
            assert!(tokio::time::timeout(Duration::from_millis(20), committing).await.is_err());
            unlock(blocker).await;
        });
        let actions: Vec<String> = fixture.entries().into_iter().map(|found| found.entry.action).collect();
        assert_eq!(actions, ["a", "a", "a", "a", "a", "audit.gap", "a"]);
        // Refused for good.
        block_on(async {
            let file = fixture.directory.path().join("audit.db");
            let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            let sql =
                "CREATE TRIGGER refuse BEFORE INSERT ON tracing_audit_entries WHEN new.action = 'poison'
                       BEGIN SELECT RAISE(ABORT, 'poison'); END";
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            let error = fixture
                .log
                .committed(|| {
                    emit();
                    info!(target: "audit", action = "poison");
                })
                .await
                .unwrap_err();
            assert!(error.is_quarantined() && !error.is_duplicate(), "{error}");
        });
        assert_eq!(fixture.log.shutdown_blocking(support::PATIENCE).unwrap().stats.pending, 0);
        let error = fixture.log.committed_blocking(emit).unwrap_err();
        assert!(error.is_closed() && error.is_rejected(), "{error}");
        assert_eq!(fixture.log.health(), Health::Closed);
    });
}

#[test]
fn by_default_people_are_told_by_a_warning_and_the_log_itself_by_nothing_on_a_good_day() {
    /// Messages with the target `tracing_audit`.
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    struct Told;
    impl tracing::field::Visit for Told {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                TOLD.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }
    impl<S: Subscriber> Layer<S> for Told {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            if event.metadata().target() == "tracing_audit" {
                event.record(&mut Told);
            }
        }
    }
    in_own_process(
        "by_default_people_are_told_by_a_warning_and_the_log_itself_by_nothing_on_a_good_day",
        || {
            let fixture = log_with(|builder| {
                let builder = builder.in_memory_queue().queue_max_entries(5).when_full(WhenFull::Reject);
                builder.commit_timeout(Duration::from_millis(100))
            });
            registry().with(Told).with(fixture.log.layer()).init();
            fixture.log.committed_blocking(|| info!(target: "audit", action = "a")).unwrap();
            assert_eq!(*TOLD.lock().unwrap(), Vec::<String>::new());
            block_on(async {
                let blocker = lock(&fixture).await;
                (0..20).for_each(|_| info!(target: "audit", action = "a"));
                wait_until("a warning", || !TOLD.lock().unwrap().is_empty());
                unlock(blocker).await;
            });
            wait_until("all is well", || TOLD.lock().unwrap().iter().any(|told| told.contains("is healthy")));
            let told = TOLD.lock().unwrap();
            assert!(told[0].starts_with("the audit log is "), "{told:?}");
            assert!(told.iter().any(|told| told.contains("more were rejected")), "{told:?}");
            assert!(told.len() <= 3, "{told:?}");
        },
    );
}

#[test]
fn a_notice_handler_that_panics_or_never_returns_does_not_stop_the_log() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    for stuck in [false, true] {
        let fixture = log_with(|builder| {
            builder.on_notice(move |notice| {
                PANICS.fetch_add(1, Ordering::SeqCst);
                assert!(stuck, "{notice}");
                std::thread::sleep(Duration::from_secs(10));
            })
        });
        let writer = fixture.log.writer();
        for i in 0..3 {
            let large = AuditEntry { reason: Some("x".repeat(100_000)), ..entry("a") };
            assert!(writer.try_write(large).unwrap_err().is_too_large());
            wait_until("the handler is called", || PANICS.load(Ordering::SeqCst) > 0);
            writer.commit_blocking(entry(&i.to_string())).unwrap();
        }
        PANICS.store(0, Ordering::SeqCst);
        fixture.settle();
        assert_eq!(fixture.log.stats().panics, 0);
        std::mem::forget(fixture);
    }
}

#[test]
fn a_log_outlives_the_runtime_that_opened_it_and_readers_block_within_another() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let log = runtime.block_on(AuditLog::open(&file)).unwrap();
    assert_eq!(runtime.block_on(log.reader().count(AuditQuery::new())).unwrap(), 0);
    drop(runtime);
    log.writer().commit_blocking(entry("a")).unwrap();
    let reader = log.reader();
    assert_eq!(reader.blocking().query(AuditQuery::new()).unwrap().len(), 1);
    block_on(async {
        log.writer().commit(entry("b")).await.unwrap();
        let page = reader.blocking().page(AuditQuery::new(), None, 1).unwrap();
        assert_eq!(page.entries.len(), 1);
        let mut csv = Vec::new();
        assert_eq!(reader.blocking().export_csv(AuditQuery::new(), &mut csv).unwrap(), 2);
        let mut raw = Vec::new();
        assert_eq!(
            reader.blocking().export(AuditQuery::new(), ExportFormat::CsvUnescaped, &mut raw).unwrap(),
            2
        );
        assert_eq!(csv, raw);
    });
    assert_eq!(log.shutdown_blocking(support::PATIENCE).unwrap().stats.committed, 2);
    let gone = log.writer().retry_quarantined_blocking().unwrap_err();
    assert!(gone.is_closed(), "{gone}");
}
