//! Failing closed, with the macros, and notices. Each test has a process of its own, for its global subscriber.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use tracing::{Subscriber, field::Field, info};
use tracing_audit::{AuditEntry, AuditQuery, Health, Store, WhenFull, export::ExportFormat};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry};

use crate::support::{self, block_on, entry, in_own_process, lock, log_with, this_test, unlock, wait_until};

#[test]
fn committed_gives_the_seq_of_each_event_of_its_own_closure_and_thread() {
    in_own_process(this_test!(), || {
        let fixture = log_with(|builder| builder.flush_interval(Duration::from_hours(1)));
        let other = log_with(|builder| builder.target("other"));
        registry().with(fixture.log.layer()).with(other.log.layer()).init();
        info!(target: "audit", action = "before");
        let seqs = fixture.log.blocking().committed(|| {
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
                    let inner = other.log.blocking().committed(|| {
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
    in_own_process(this_test!(), || {
        let fixture = support::log();
        let emit = || info!(target: "audit", action = "a");
        assert!(fixture.log.blocking().committed(emit).unwrap_err().is_wiring());
        registry().with(fixture.log.layer()).init();
        assert_eq!(fixture.log.blocking().committed(emit).unwrap(), [0]);
        assert!(fixture.log.blocking().committed(|| ()).unwrap_err().is_wiring());
        // A panic within leaves nothing behind.
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            fixture.log.blocking().committed(|| {
                info!(target: "audit", action = "b");
                panic!("within");
            })
        }));
        assert!(panicked.is_err());
        info!(target: "audit", action = "c");
        assert_eq!(fixture.log.blocking().committed(emit).unwrap(), [3]);
    });
}

#[test]
fn committed_says_whether_an_event_is_pending_rejected_quarantined_or_closed() {
    in_own_process(this_test!(), || {
        let fixture = log_with(|builder| {
            let builder = builder.in_memory_queue().queue_max_entries(5).when_full(WhenFull::Reject);
            builder.commit_timeout(Duration::from_millis(200)).on_notice(|_| {})
        });
        // A log that waits as long as a commit takes, for the answers that only a commit gives.
        let patient = log_with(|builder| builder.target("patient").on_notice(|_| {}));
        registry().with(fixture.log.layer()).with(patient.log.layer()).init();
        let emit = || info!(target: "audit", action = "a");
        block_on(async {
            let blocker = lock(&fixture.db).await;
            let error = fixture.log.committed(emit).await.unwrap_err();
            assert!(error.is_pending() && !error.is_rejected(), "{error}");
            (0..4).for_each(|_| emit());
            let error = fixture.log.committed(emit).await.unwrap_err();
            assert!(error.is_rejected() && error.is_full() && !error.is_pending(), "{error}");
            assert_eq!(fixture.log.health(), Health::Rejecting);
            unlock(blocker).await;
            fixture.settle();
            fixture.settle();
            // A future that is dropped withdraws nothing.
            let blocker = lock(&fixture.db).await;
            assert!(fixture.log.committed(emit).now_or_never().is_none());
            unlock(blocker).await;
        });
        let actions: Vec<String> = fixture.entries().into_iter().map(|found| found.entry.action).collect();
        assert_eq!(actions, ["a", "a", "a", "a", "a", "audit.gap", "a"]);
        assert_eq!(fixture.log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        let error = fixture.log.blocking().committed(emit).unwrap_err();
        assert!(error.is_closed() && error.is_rejected(), "{error}");
        assert_eq!(fixture.log.health(), Health::Closed);

        patient.run(
            "CREATE TRIGGER refuse BEFORE INSERT ON tracing_audit_entries WHEN new.action = 'poison'
             BEGIN SELECT RAISE(ABORT, 'poison'); END",
        );
        let error = patient.log.blocking().committed(|| {
            info!(target: "patient", action = "a");
            info!(target: "patient", action = "poison");
        });
        let error = error.unwrap_err();
        assert!(error.is_quarantined() && !error.is_duplicate(), "{error}");
    });
}

#[test]
fn a_log_warns_by_default_and_is_silent_while_it_is_healthy() {
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
    in_own_process(this_test!(), || {
        let fixture = log_with(|builder| {
            builder
                .in_memory_queue()
                .queue_max_entries(5)
                .queue_max_bytes(1 << 20)
                .when_full(WhenFull::Reject)
        });
        registry().with(Told).with(fixture.log.layer()).init();
        fixture.log.blocking().committed(|| info!(target: "audit", action = "a")).unwrap();
        assert_eq!(*TOLD.lock().unwrap(), Vec::<String>::new());
        let start = Instant::now();
        block_on(async {
            let blocker = lock(&fixture.db).await;
            (0..20).for_each(|_| info!(target: "audit", action = "a"));
            wait_until("a warning", || !TOLD.lock().unwrap().is_empty());
            unlock(blocker).await;
        });
        wait_until("the log says that it is healthy", || {
            TOLD.lock().unwrap().iter().any(|told| told.contains("is healthy"))
        });
        let told = TOLD.lock().unwrap();
        assert!(told[0].starts_with("the audit log is "), "{told:?}");
        assert!(told.iter().any(|told| told.contains("more were rejected")), "{told:?}");
        // At most once a second.
        assert!(told.len() as u64 <= 2 + start.elapsed().as_secs(), "{told:?}");
    });
}

#[test]
fn a_notice_handler_that_panics_or_never_returns_does_not_stop_the_log() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    for stuck in [false, true] {
        let fixture = log_with(|builder| {
            builder.on_notice(move |notice| {
                PANICS.fetch_add(1, Ordering::SeqCst);
                assert!(stuck, "{notice}");
                loop {
                    std::thread::park();
                }
            })
        });
        let writer = fixture.log.writer();
        for i in 0..3 {
            let large = AuditEntry { reason: Some("x".repeat(100_000)), ..entry("a") };
            assert!(writer.try_write(large).unwrap_err().is_too_large());
            wait_until("the handler is called", || PANICS.load(Ordering::SeqCst) > 0);
            writer.blocking().commit(entry(i.to_string())).unwrap();
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
    let log = runtime.block_on(support::builder(Store::sqlite(&file).unwrap()).open()).unwrap();
    assert_eq!(runtime.block_on(log.reader().count(AuditQuery::new())).unwrap(), 0);
    drop(runtime);
    log.writer().blocking().commit(entry("a")).unwrap();
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
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.committed, 2);
    let gone = log.writer().blocking().retry_quarantined().unwrap_err();
    assert!(gone.is_closed(), "{gone}");
}

#[test]
fn committed_while_a_thread_ends_is_an_error_and_aborts_nothing() {
    static LOG: std::sync::OnceLock<tracing_audit::AuditLog> = std::sync::OnceLock::new();
    static OUTCOME: Mutex<Option<String>> = Mutex::new(None);
    struct AtEnd;
    impl Drop for AtEnd {
        fn drop(&mut self) {
            let seqs = LOG.get().unwrap().blocking().committed(|| info!(target: "audit", action = "late"));
            *OUTCOME.lock().unwrap() =
                Some(seqs.map_or_else(|error| error.to_string(), |seqs| format!("{seqs:?}")));
        }
    }
    thread_local!(static AT_END: AtEnd = const { AtEnd });
    in_own_process(this_test!(), || {
        let directory = tempfile::tempdir().unwrap();
        let log = support::open(&directory.path().join("audit.db"));
        registry().with(log.layer()).init();
        LOG.set(log).unwrap();
        std::thread::spawn(|| {
            // Locals are destroyed in the order in which they were first used, or in the other one: try both.
            AT_END.with(|_| {});
            LOG.get().unwrap().blocking().committed(|| info!(target: "audit", action = "early")).unwrap();
        })
        .join()
        .unwrap();
        let first = OUTCOME.lock().unwrap().take().unwrap();
        std::thread::spawn(|| {
            LOG.get().unwrap().blocking().committed(|| info!(target: "audit", action = "early")).unwrap();
            AT_END.with(|_| {});
        })
        .join()
        .unwrap();
        let second = OUTCOME.lock().unwrap().take().unwrap();
        let failed = [&first, &second].iter().filter(|told| told.contains("thread that is ending")).count();
        assert!(failed >= 1, "{first} {second}");
    });
}
