//! The `testing` feature: which events a capture sees, and the messages of failing assertions.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use tracing::{info, info_span};
use tracing_audit::{
    AuditEntry, AuditLog, Decision,
    testing::{Capture, Expected, Recorder, assert_audited, capture, capture_process},
};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

use crate::support::{self, in_own_process, this_test};

fn emit(action: &str, i: u64) {
    info!(target: "audit", action, i);
}

/// The message of a failing assertion.
fn message(assertion: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(assertion)).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_capture_sees_tasks_of_its_thread_its_scope_and_entries_as_values() {
    in_own_process(this_test!(), || {
        let audit = capture();
        let current_thread = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        current_thread.block_on(async {
            let tasks: Vec<_> = (0..20).map(|i| tokio::spawn(async move { emit("of a task", i) })).collect();
            for task in tasks {
                task.await.unwrap();
            }
            audit.log().writer().commit(AuditEntry::new(Uuid::nil(), "as a value", "r")).await.unwrap();
            audit.log().committed(|| emit("fails closed", 0)).await.unwrap();
        });
        let scope = audit.scope();
        std::thread::scope(|threads| {
            threads.spawn(|| scope.in_scope(|| emit("in the scope", 0)));
            threads.spawn(|| emit("outside of it", 0));
        });
        let tasks = (0..20).map(|i| Expected::action("of a task").metadata("i", i));
        let others = [
            Expected::action("fails closed"),
            Expected::action("as a value").resource("r"),
            Expected::action("in the scope"),
        ];
        audit.assert_audited_in_any_order(tasks.chain(others));
        let text = message(|| audit.assert_nothing_audited());
        assert!(text.contains("audit events of threads without a capture belonged to no capture"), "{text}");
    });
}

#[test]
fn a_scope_includes_tasks_on_a_runtime_with_several_threads() {
    in_own_process(this_test!(), || {
        /// Emits when it is dropped.
        struct Emits;
        impl Drop for Emits {
            fn drop(&mut self) {
                emit("of a destructor", 0);
            }
        }
        let audit = capture();
        let scope = audit.scope();
        let shared =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        shared.block_on(async {
            let task = scope.instrument(async {
                let _emits = Emits;
                for i in 0..5 {
                    emit("of an instrumented task", i);
                    tokio::task::yield_now().await;
                }
            });
            tokio::spawn(async { emit("of another task", 0) }).await.unwrap();
            tokio::spawn(task).await.unwrap();
            let emits = Emits;
            let never = tokio::spawn(scope.instrument(async move {
                let _emits = emits;
                std::future::pending::<()>().await;
            }));
            tokio::task::yield_now().await;
            never.abort();
            assert!(never.await.unwrap_err().is_cancelled());
        });
        let own = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(move || scope.attach_thread())
            .build()
            .unwrap();
        own.block_on(async {
            tokio::spawn(async { tokio::spawn(async { emit("of a nested task", 0) }).await })
                .await
                .unwrap()
                .unwrap();
            tokio::task::spawn_blocking(|| emit("of a blocking task", 0)).await.unwrap();
        });
        let instrumented = (0..5).map(|i| Expected::action("of an instrumented task").metadata("i", i));
        audit.assert_audited(instrumented.chain([
            Expected::action("of a destructor"),
            Expected::action("of a destructor"),
            Expected::action("of a nested task"),
            Expected::action("of a blocking task"),
        ]));
    });
}

#[test]
fn parallel_captures_see_neither_each_other_nor_threads_without_a_capture() {
    in_own_process(this_test!(), || {
        let go_on = AtomicBool::new(true);
        std::thread::scope(|threads| {
            let capturing: Vec<_> = (0..8)
                .map(|thread| {
                    threads.spawn(move || {
                        for i in 0..100 {
                            let audit = capture();
                            audit.assert_nothing_audited();
                            emit("captured", thread);
                            emit("captured", i);
                            audit.assert_audited([
                                Expected::action("captured").metadata("i", thread),
                                Expected::action("captured").metadata("i", i),
                            ]);
                        }
                    })
                })
                .collect();
            for i in 0..8 {
                let go_on = &go_on;
                threads.spawn(move || {
                    while go_on.load(Ordering::Relaxed) {
                        emit("captured by nobody", i);
                        std::thread::yield_now();
                    }
                });
            }
            let outcomes: Vec<_> = capturing.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            go_on.store(false, Ordering::Relaxed);
            for outcome in outcomes {
                outcome.unwrap();
            }
        });
    });
}

#[test]
fn a_late_event_of_a_dropped_capture_belongs_to_no_later_one() {
    in_own_process(this_test!(), || {
        let first = capture();
        let scope = first.scope();
        drop(first);
        let second = capture();
        scope.in_scope(|| emit("late", 0));
        emit("in time", 0);
        second.assert_audited([Expected::action("in time")]);
    });
}

#[test]
fn a_process_capture_sees_every_thread_but_those_with_a_capture_of_their_own() {
    in_own_process(this_test!(), || {
        std::thread::scope(|threads| {
            for thread in 0..4 {
                threads.spawn(move || {
                    for _ in 0..20 {
                        let audit = capture_process();
                        audit.assert_nothing_audited();
                        let other = std::thread::spawn(move || {
                            emit("of a thread", thread);
                            let own = capture();
                            emit("of another capture", thread);
                            own.assert_audited([Expected::action("of another capture")]);
                        });
                        other.join().unwrap();
                        emit("of this thread", thread);
                        audit.assert_audited([
                            Expected::action("of a thread").metadata("i", thread),
                            Expected::action("of this thread").metadata("i", thread),
                        ]);
                    }
                });
            }
        });
    });
}

#[test]
fn a_second_capture_on_a_thread_panics_and_says_why() {
    in_own_process(this_test!(), || {
        let refused = |begin: fn() -> Capture| {
            let text = message(|| drop(begin()));
            assert!(text.contains("this thread has a capture already"), "{text}");
        };
        let audit = capture();
        refused(capture);
        refused(capture_process);
        let scope = audit.scope();
        let attached = std::thread::spawn(move || {
            scope.attach_thread();
            message(|| drop(capture()))
        });
        let text = attached.join().unwrap();
        assert!(text.contains("this thread has a capture already"), "{text}");
        emit("still captured", 0);
        audit.assert_audited([Expected::action("still captured")]);
        drop(audit);
        let audit = capture_process();
        refused(capture);
        refused(capture_process);
        drop(audit);
        capture().assert_nothing_audited();
    });
}

#[test]
fn an_empty_capture_under_a_subscriber_without_the_layer_panics_and_says_why() {
    in_own_process(this_test!(), || {
        let audit = capture();
        let scoped = tracing::subscriber::set_default(tracing_subscriber::registry());
        emit("lost", 0);
        for text in [message(|| audit.assert_nothing_audited()), message(|| drop(audit.entries()))] {
            for part in [
                "nothing was captured, and no event of this thread can be",
                "the layer belongs to another subscriber",
                "set_default",
                "tracing_audit::testing::layer()",
            ] {
                assert!(text.contains(part), "{part} is not in:\n{text}");
            }
        }
        drop(scoped);
        audit.assert_nothing_audited();
        let with_layer = tracing_subscriber::registry().with(tracing_audit::testing::layer());
        tracing::subscriber::with_default(with_layer, || emit("captured", 0));
        audit.assert_audited([Expected::action("captured")]);
    });
}

#[test]
fn a_failing_assertion_prints_names_where_ids_were_made_from_them() {
    in_own_process(this_test!(), || {
        let audit = capture();
        let session = Uuid::from_u128(7);
        info!(target: "audit", action = "read", agent_id = "bob", session_id = %session, workspace_id = 42);
        let read = || Expected::action("read");
        audit.assert_audited([read().agent_id("bob").workspace_id(42).session_id(session)]);
        let text =
            message(|| audit.assert_audited([read().agent_id("alice").workspace_id(43).session_id("s")]));
        for part in [
            r#"0: agent_id is "bob", expected "alice""#,
            r#"workspace_id is "42", expected "43""#,
            &format!(r#"session_id is "{session}", expected "s""#),
            r#"action="read" agent_id="alice" workspace_id="43" session_id="s""#,
            &format!(r#"agent_id="bob" session_id="{session}" workspace_id="42""#),
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    });
}

#[test]
fn a_failing_assertion_says_what_differs_and_shows_both_sides() {
    in_own_process(this_test!(), || {
        let audit = capture();
        info_span!("request", agent_id = "alice").in_scope(|| {
        info!(target: "audit", action = "read", resource = "document", decision = "Deny", risk_score = 0.5);
        info!(target: "audit", action = "read", decision = "perhaps");
    });
        let read = || Expected::action("read");
        audit.assert_audited([
            read().agent_id("alice").decision(Decision::Deny).risk_score(0.5).resource("document"),
            read().with_problems(),
        ]);
        let text = message(|| audit.assert_audited([read().decision(Decision::Allow), read(), read()]));
        for part in [
            r#"0: decision is "Deny", expected "Allow""#,
            r#"1: problems are ["decision: not a decision"#,
            "2: not audited",
            r#"0: action="read" decision="Allow""#,
            r#"0: action="read" resource="document" resource_id="" decision="Deny""#,
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let text = message(|| audit.assert_nothing_audited());
        assert!(
            text.contains("0: audited, not expected") && text.contains("1: audited, not expected"),
            "{text}"
        );
        let text =
            message(|| audit.assert_audited_in_any_order([read().with_problems(), read().reason("why")]));
        assert!(text.contains(r#"1: reason is null, expected "why""#), "{text}");
    });
}

#[test]
fn a_recorder_is_a_store_for_a_log_with_settings_of_its_own() {
    in_own_process(this_test!(), || {
        let recorder = Recorder::new();
        let log =
            AuditLog::builder().store(&recorder).ledger("mine").target("mine").blocking().open().unwrap();
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::with_default(subscriber, || info!(target: "mine", action = "a", name = "x"));
        let twice = AuditEntry::new(Uuid::nil(), "b", "r");
        assert_eq!(log.writer().blocking().commit(twice.clone()).unwrap(), 1);
        assert!(log.writer().blocking().commit(twice).unwrap_err().is_duplicate());
        assert_audited(
            &recorder.entries(),
            [Expected::action("a").metadata("name", "x"), Expected::action("b")],
        );
        assert_eq!(recorder.entries()[1].ledger, "mine");
        let error = log.reader().blocking().count(tracing_audit::AuditQuery::new()).unwrap_err();
        assert!(error.to_string().contains("a recorder answers no queries"), "{error}");
    });
}

#[test]
fn a_global_subscriber_of_the_tests_own_needs_the_layer() {
    in_own_process(this_test!(), || {
        if std::env::var_os("WITHOUT_LAYER").is_some() {
            tracing_subscriber::registry().init();
            let text = message(|| drop(capture()));
            assert!(text.contains("give that subscriber tracing_audit::testing::layer()"), "{text}");
            return;
        }
        tracing_subscriber::registry().with(tracing_audit::testing::layer()).init();
        let audit = capture();
        info!(target: "audit", action = "a");
        audit.assert_audited([Expected::action("a")]);
        let test = this_test!();
        assert!(support::wait(support::child(test, &[("WITHOUT_LAYER", "1")])).success());
    });
}
