//! The `testing` feature: what it sees, and what it says when a test fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::{info, info_span};
use tracing_audit::{
    AuditEntry, AuditLog, Decision,
    testing::{Expected, Recorder, assert_audited, capture},
};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

use crate::support::{self, in_own_process, this_test};

/// What a failing assertion says.
fn message(assertion: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(assertion)).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_capture_sees_events_of_other_threads_and_tasks_and_entries_as_values() {
    in_own_process(this_test!(), || {
        let audit = capture();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..20)
                .map(|i| tokio::spawn(async move { info!(target: "audit", action = "of a task", i) }))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            audit.log().writer().commit(AuditEntry::new(Uuid::nil(), "as a value", "r")).await.unwrap();
            audit.log().committed(|| info!(target: "audit", action = "fails closed")).await.unwrap();
        });
        let tasks = (0..20).map(|i| Expected::action("of a task").metadata("i", i));
        let others = [Expected::action("fails closed"), Expected::action("as a value").resource("r")];
        audit.assert_audited_in_any_order(tasks.chain(others));
    });
}

#[test]
fn captures_of_several_tests_never_see_each_other_s_entries() {
    in_own_process(this_test!(), || {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for i in 0..20 {
                        let audit = capture();
                        audit.assert_nothing_audited();
                        info!(target: "audit", action = "a", thread, i);
                        assert_eq!(audit.entries()[0].entry.metadata["thread"], thread);
                        audit.assert_audited([Expected::action("a").metadata("i", i)]);
                    }
                });
            }
        });
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
        let log = AuditLog::builder().store(&recorder).ledger("mine").target("mine").open_blocking().unwrap();
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::with_default(subscriber, || info!(target: "mine", action = "a", name = "x"));
        let twice = AuditEntry::new(Uuid::nil(), "b", "r");
        assert_eq!(log.writer().commit_blocking(twice.clone()).unwrap(), 1);
        assert!(log.writer().commit_blocking(twice).unwrap_err().is_duplicate());
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
