//! Behaviour that only a global subscriber shows, each test in a process of its own.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing::{Subscriber, info, info_span};
use tracing_audit::Store;
use tracing_subscriber::{Layer, prelude::*, registry};

use crate::support::{self, this_test};

/// A value whose `Debug` does something.
struct Does<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Debug for Does<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

fn actions(fixture: &support::Fixture) -> Vec<String> {
    fixture.entries().into_iter().map(|found| found.entry.action).collect()
}

#[test]
fn a_debug_that_takes_a_lock_and_emits_does_not_deadlock() {
    support::in_own_process(this_test!(), || {
        static LOCK: Mutex<()> = Mutex::new(());
        let fixture = support::log();
        registry().with(fixture.log.layer()).init();
        let locks = Does(|f: &mut fmt::Formatter<'_>| {
            let _held = LOCK.lock().unwrap();
            tracing::warn!(target: "elsewhere", agent_id = 1, "emitted while the lock is held");
            let span = info_span!("inner", agent_id = "nobody");
            span.record("agent_id", "somebody");
            f.write_str("formatted")
        });
        let span = info_span!("outer", agent_id = ?locks, request_id = tracing::field::Empty);
        span.record("request_id", tracing::field::debug(&locks));
        span.in_scope(|| info!(target: "audit", action = "a", value = ?locks));
        let held = LOCK.lock().unwrap();
        info!(target: "audit", action = "while the lock is held");
        drop(held);
        let entries = fixture.entries();
        assert_eq!(entries.len(), 2);
        let metadata = support::metadata(&entries[0].entry);
        assert!(
            ["agent_id", "request_id", "value"].iter().all(|name| metadata[*name] == "formatted"),
            "{metadata:?}"
        );
    });
}

#[test]
fn a_panicking_debug_loses_neither_its_event_nor_the_next_in_its_span() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log();
        registry().with(fixture.log.layer()).init();
        let panics = Does(|_: &mut fmt::Formatter<'_>| panic!("in a Debug"));
        let span = info_span!("request", agent_id = ?panics, request_id = tracing::field::Empty);
        span.record("request_id", tracing::field::debug(&panics));
        let _entered = span.enter();
        info!(target: "audit", action = "first", value = ?panics, after = 1);
        info!(target: "audit", action = "second");
        let entries = fixture.entries();
        assert_eq!(actions(&fixture), ["first", "second"]);
        let metadata = support::metadata(&entries[0].entry);
        assert_eq!(metadata["value"], "<panicked while formatting>");
        assert_eq!(metadata["after"], 1);
        assert_eq!(entries[0].problems.len(), 3, "{:?}", entries[0].problems);
        assert_eq!(entries[1].problems.len(), 2, "{:?}", entries[1].problems);
    });
}

#[test]
fn a_span_that_another_layer_has_poisoned_costs_its_context_but_no_event() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log();
        let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        registry().with(fmt.with_filter(tracing_audit::not_audit())).with(fixture.log.layer()).init();
        let span = info_span!("request", request_id = 1, other = tracing::field::Empty);
        let panics = Does(|_: &mut fmt::Formatter<'_>| panic!("in a Debug"));
        let record = std::panic::AssertUnwindSafe(|| {
            span.record("other", tracing::field::debug(&panics));
        });
        std::panic::catch_unwind(record).unwrap_err();
        span.in_scope(|| info!(target: "audit", action = "a"));
        let found = fixture.entry();
        assert_eq!(found.entry.action, "a");
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    });
}

#[test]
fn emitting_into_a_full_queue_from_a_task_never_hangs() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log_with(|builder| {
            builder
                .in_memory_queue()
                .queue_max_entries(2)
                .when_full(tracing_audit::WhenFull::Block { timeout: support::PATIENCE })
        });
        registry().with(fixture.log.layer()).init();
        // More waits than the budget of one turn of a Tokio task.
        support::block_on(async {
            (0..500).for_each(|i| info!(target: "audit", action = "a", i));
        });
        assert_eq!(fixture.entries().len(), 500);
    });
}

#[test]
fn an_audit_event_within_a_value_of_another_is_stored_before_it() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log();
        registry().with(fixture.log.layer()).init();
        let emits = Does(|f: &mut fmt::Formatter<'_>| {
            info!(target: "audit", action = "inner");
            f.write_str("x")
        });
        info!(target: "audit", action = "outer", value = ?emits, argument = { info!(target: "audit", action = "argument"); 1 });
        assert_eq!(actions(&fixture), ["argument", "inner", "outer"]);
    });
}

#[test]
fn an_audit_event_within_a_value_is_lost_only_while_a_subscriber_is_set_for_a_thread() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log();
        let emits = Does(|f: &mut fmt::Formatter<'_>| {
            info!(target: "audit", action = "inner");
            f.write_str("x")
        });
        // What the guide says of tracing itself.
        let set = tracing::subscriber::set_default(registry().with(fixture.log.layer()));
        info!(target: "audit", action = "first", value = ?emits);
        drop(set);
        registry().with(fixture.log.layer()).init();
        info!(target: "audit", action = "second", value = ?emits);
        assert_eq!(actions(&fixture), ["first", "inner", "second"]);
    });
}

#[test]
fn an_event_from_the_destructor_of_a_thread_local_is_stored() {
    support::in_own_process(this_test!(), || {
        struct Last(&'static str);
        impl Drop for Last {
            fn drop(&mut self) {
                info!(target: "audit", action = self.0);
            }
        }
        thread_local! {
            static BEFORE: RefCell<Option<Last>> = const { RefCell::new(None) };
            static AFTER: RefCell<Option<Last>> = const { RefCell::new(None) };
        }
        let fixture = support::log();
        registry().with(fixture.log.layer()).init();
        std::thread::spawn(|| {
            // One registered before, one after the thread's own locals of the layer.
            BEFORE.set(Some(Last("before")));
            info!(target: "audit", action = "alive");
            AFTER.set(Some(Last("after")));
        })
        .join()
        .unwrap();
        let mut actions = actions(&fixture);
        actions.sort();
        assert_eq!(actions, ["after", "alive", "before"]);
        // Nor does it abort the process when the log is closed, or when a writer goes with the thread.
        thread_local! {
            static WRITER: RefCell<Option<tracing_audit::AuditWriter>> = const { RefCell::new(None) };
        }
        let report = fixture.log.blocking().shutdown(support::PATIENCE).unwrap();
        assert_eq!(report.stats.committed, 3);
        let writer = fixture.log.writer();
        std::thread::spawn(move || {
            BEFORE.set(Some(Last("refused")));
            WRITER.set(Some(writer));
            info!(target: "audit", action = "refused");
            AFTER.set(Some(Last("refused")));
        })
        .join()
        .unwrap();
        assert_eq!(fixture.log.stats().rejected, 3);
    });
}

#[test]
fn no_runtime_is_needed_to_open_emit_flush_and_shut_down() {
    support::in_own_process(this_test!(), || {
        let directory = tempfile::tempdir().unwrap();
        let log = support::open(&directory.path().join("audit.db"));
        registry().with(log.layer()).init();
        info!(target: "audit", action = "a");
        log.blocking().flush().unwrap();
        assert_eq!(log.stats().committed, 1);
        info!(target: "audit", action = "b");
        let report = log.blocking().shutdown(support::PATIENCE).unwrap();
        assert_eq!((report.stats.committed, report.stats.pending), (2, 0));
        info!(target: "audit", action = "too late");
        let stats = log.stats();
        assert_eq!((stats.offered, stats.committed, stats.rejected, stats.pending), (3, 2, 1, 0));
    });
}

#[test]
fn a_current_thread_runtime_can_flush_and_read_while_it_emits() {
    support::in_own_process(this_test!(), || {
        support::block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let log = support::builder(Store::sqlite(directory.path().join("audit.db")).unwrap())
                .open()
                .await
                .unwrap();
            registry().with(log.layer()).init();
            for round in 1..=3 {
                info!(target: "audit", action = "a");
                log.flush().await.unwrap();
                assert_eq!(log.reader().count(tracing_audit::AuditFilter::default()).await.unwrap(), round);
            }
            assert_eq!(log.shutdown(support::PATIENCE).await.unwrap().stats.pending, 0);
        });
    });
}

#[test]
fn two_audit_layers_keep_their_events_and_their_context_apart() {
    support::in_own_process(this_test!(), || {
        let first = support::log();
        let second = support::log_with(|builder| builder.target("second").span_fields(["tenant"]));
        let both = support::log_with(|builder| builder.span_fields(["tenant"]));
        registry().with(first.log.layer()).with(second.log.layer()).with(both.log.layer()).init();
        for fixture in [&first, &second, &both] {
            fixture.log.check_wiring().unwrap();
        }
        let span = info_span!("request", request_id = 1, tenant = "t");
        span.record("request_id", 2);
        span.in_scope(|| {
            info!(target: "audit", action = "a");
            info!(target: "second", action = "b");
        });
        let seen = |fixture: &support::Fixture| {
            let found = fixture.entry();
            (found.entry.action.clone(), found.entry.metadata.to_string())
        };
        assert_eq!(seen(&first), ("a".to_owned(), r#"{"request_id":2}"#.to_owned()));
        assert_eq!(seen(&second), ("b".to_owned(), r#"{"request_id":2,"tenant":"t"}"#.to_owned()));
        assert_eq!(seen(&both), ("a".to_owned(), r#"{"request_id":2,"tenant":"t"}"#.to_owned()));
    });
}

#[test]
fn a_healthy_flush_shows_nothing_to_a_layer_that_catches_everything() {
    support::in_own_process(this_test!(), || {
        static OTHERS: AtomicUsize = AtomicUsize::new(0);
        struct CatchAll;
        impl<S: Subscriber> Layer<S> for CatchAll {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                if event.metadata().target() != "audit" {
                    OTHERS.fetch_add(1, Ordering::SeqCst);
                }
            }

            fn on_new_span(
                &self,
                _: &tracing::span::Attributes<'_>,
                _: &tracing::span::Id,
                _: tracing_subscriber::layer::Context<'_, S>,
            ) {
                OTHERS.fetch_add(1, Ordering::SeqCst);
            }
        }
        let fixture = support::log();
        registry().with(CatchAll).with(fixture.log.layer()).init();
        for _ in 0..5 {
            (0..2000).for_each(|i| info!(target: "audit", action = "a", i));
            fixture.log.blocking().flush().unwrap();
        }
        assert_eq!(fixture.log.stats().committed, 10_000);
        assert_eq!(OTHERS.load(Ordering::SeqCst), 0);
    });
}
