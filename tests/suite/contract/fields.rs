// Each kind of field, through the real macros, into the database and back.

use std::{error::Error, fmt};

use serde_json::json;
use super::{log, log_with};
use crate::support::{Fixture, metadata};
use tracing::{Level, Span, debug, debug_span, field, info, info_span, subscriber::with_default};
use tracing_audit::{Decision, audit_id};
use tracing_subscriber::{prelude::*, registry};
use uuid::Uuid;

/// Runs the body with the log's layer as this thread's subscriber.
fn with(fixture: Fixture, body: impl FnOnce()) -> Fixture {
    with_default(registry().with(fixture.log.layer()), body);
    fixture
}

#[derive(Debug)]
struct Outer(Inner);

#[derive(Debug)]
struct Inner;

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read")
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("disk on fire")
    }
}

impl Error for Inner {}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn every_type_is_kept_as_far_as_json_can() {
    let fixture = with(log(), || {
        let error = Outer(Inner);
        info!(target: "audit", action = "a",
            unsigned = u64::MAX, signed = i64::MIN, float = 0.1, small = f32::MIN_POSITIVE, yes = true, text = "t\"\n",
            wide = u128::MAX, wide_signed = i128::MIN, nan = f64::NAN, infinite = f64::NEG_INFINITY,
            error = &error as &(dyn Error + 'static), bytes = &b"text"[..], binary = &[0xff_u8, 0x00][..],
            debug = ?Some("x"), display = %"y", nothing = Option::<u64>::None, empty = field::Empty,
            r#type = "raw", dotted.name = 1);
    });
    let found = fixture.entry();
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(
        found.entry.metadata,
        json!({
            "unsigned": u64::MAX, "signed": i64::MIN, "float": 0.1, "small": f64::from(f32::MIN_POSITIVE), "yes": true,
            "text": "t\"\n", "wide": u128::MAX.to_string(), "wide_signed": i128::MIN.to_string(), "nan": "NaN",
            "infinite": "-inf", "error": "cannot read: disk on fire", "bytes": "text", "binary": "ff00",
            "debug": "Some(\"x\")", "display": "y", "type": "raw", "dotted.name": 1,
        })
    );
}

#[test]
fn an_event_with_many_fields_and_ten_megabytes_is_cut_and_noted_and_stored() {
    let fixture = with(log(), || {
        let huge = "é".repeat(5_000_000);
        info!(target: "audit", action = "a", huge, debug = ?huge, after = 1);
    });
    let found = fixture.entry();
    assert_eq!(found.problems, ["huge: too long, cut", "debug: too long, cut"]);
    assert_eq!(metadata(&found.entry)["huge"], "é".repeat(32 * 1024));
    assert_eq!(metadata(&found.entry)["after"], 1);
}

#[test]
fn deep_and_large_spans_leave_an_event_its_own_fields_and_the_outermost_context() {
    for (depth, length) in [(20, 60_000), (1000, 2000)] {
        let fixture = with(log(), || {
            let resource = "x".repeat(length);
            let mut span = info_span!("request", workspace_id = "acme", agent_id = "alice");
            for _ in 0..depth {
                span = info_span!(parent: &span, "deeper", resource);
            }
            info!(target: "audit", parent: &span, action = "a", decision = "Deny", note = "kept");
        });
        let found = fixture.entry();
        assert_eq!((found.entry.action.as_str(), found.entry.decision.as_str()), ("a", "Deny"));
        assert_eq!(metadata(&found.entry)["note"], "kept");
        assert_eq!(found.entry.workspace_id, audit_id("acme"));
        assert_eq!(found.entry.agent_id, Some(audit_id("alice")));
        assert_eq!(found.problems, ["inner spans: did not fit or could not be read, left out"]);
    }
}

#[test]
fn hostile_texts_come_back_as_they_went_in() {
    let texts =
        ["a\nb\r\nc", "quote \" and 'quote'", "=cmd|' /C calc'!A0", "\u{202e}right to left", "日本語", ""];
    let fixture = with(log(), || {
        for text in texts {
            info!(target: "audit", action = text, resource = text, resource_id = text, reason = text, value = text,
                session_id = text);
        }
    });
    for (found, text) in fixture.entries().into_iter().zip(texts) {
        let entry = found.entry;
        assert_eq!((entry.action.as_str(), entry.resource.as_str()), (text, text));
        assert_eq!((entry.resource_id.as_deref(), entry.reason.as_deref()), (Some(text), Some(text)));
        assert_eq!(metadata(&entry)["value"], text);
        assert_eq!(entry.session_id, Some(audit_id(text)));
        assert_eq!(found.problems, Vec::<String>::new());
    }
}

#[test]
fn malformed_fields_are_stored_with_their_problems_and_counted() {
    let fixture = with(log(), || {
        info!(target: "audit", decision = "maybe", risk_score = f64::INFINITY, occurred_at = "noon", metadata = "{",
            note = "nul\0");
        info!(target: "audit", action = "fine");
    });
    let found = fixture.entries().remove(0);
    let fields: Vec<&str> = found.problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["decision", "risk_score", "occurred_at", "metadata", "action", "metadata"]);
    assert_eq!(
        found.entry.metadata,
        json!({"risk_score": "inf", "occurred_at": "noon", "metadata": "{", "note": "nul\u{fffd}"})
    );
    assert!(found.entry.risk_score.abs() < f64::EPSILON);
    assert_eq!(fixture.log.stats().malformed, 1);
}

#[test]
fn ids_are_taken_in_any_way_they_can_be_recorded() {
    let id = Uuid::now_v7();
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", workspace_id = %id, session_id = ?id, agent_id = id.simple().to_string());
        info!(target: "audit", action = "b", workspace_id = "acme", session_id = 17, agent_id = "not-a-uuid");
    });
    let entries = fixture.entries();
    let entry = &entries[0].entry;
    assert_eq!((entry.workspace_id, entry.session_id, entry.agent_id), (id, Some(id), Some(id)));
    assert_eq!(entry.metadata, json!({}));
    let entry = &entries[1].entry;
    assert_eq!(entry.workspace_id, audit_id("acme"));
    assert_eq!((entry.session_id, entry.agent_id), (Some(audit_id("17")), Some(audit_id("not-a-uuid"))));
    assert_eq!(entry.metadata, json!({"workspace_id": "acme", "session_id": "17", "agent_id": "not-a-uuid"}));
}

#[test]
fn the_message_is_the_reason_unless_there_is_one() {
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", "because {}", 1);
        info!(target: "audit", action = "b", reason = "given", "message");
        info!(name: "user.login", target: "audit", "named");
        info!(name: "event deleted", target: "audit", "named");
    });
    let entries: Vec<_> = fixture.entries().into_iter().map(|found| found.entry).collect();
    assert_eq!(entries[0].reason.as_deref(), Some("because 1"));
    assert_eq!(
        (entries[1].reason.as_deref(), &metadata(&entries[1])["message"]),
        (Some("given"), &json!("message"))
    );
    assert_eq!((entries[2].action.as_str(), entries[2].reason.as_deref()), ("user.login", Some("named")));
    assert_eq!(entries[3].action, "event deleted");
}

#[test]
fn the_event_beats_its_spans_and_an_inner_span_an_outer_one() {
    let fixture = with(log(), || {
        let outer = info_span!(
            "outer",
            workspace_id = "outer",
            agent_id = "outer",
            session_id = "outer",
            resource = "outer",
            action = "outer"
        );
        let _outer = outer.enter();
        let unrelated = info_span!("between", unrelated = 1);
        let _unrelated = unrelated.enter();
        let inner = info_span!("inner", agent_id = "inner", session_id = "inner");
        let _inner = inner.enter();
        info!(target: "audit", agent_id = "event", agent_id = "last", workspace_id = %Uuid::from_u128(1));
    });
    let found = fixture.entry();
    let entry = found.entry;
    assert_eq!(entry.agent_id, Some(audit_id("last")));
    assert_eq!(entry.session_id, Some(audit_id("inner")));
    assert_eq!((entry.resource.as_str(), entry.action.as_str()), ("outer", "outer"));
    assert_eq!(entry.workspace_id, Uuid::from_u128(1));
    assert_eq!(entry.metadata, json!({"agent_id": "last", "session_id": "inner"}));
}

#[test]
fn a_span_gives_its_context_fields_and_nothing_else() {
    let fixture = with(log_with(|builder| builder.span_fields(["tenant"])), || {
        let span = info_span!(
            "s",
            password = "secret",
            decision = "Allow",
            risk_score = 1.0,
            reason = "r",
            metadata = "{}",
            occurred_at = "x",
            user_id = 7,
            trace_id = "t",
            request_id = "q",
            tenant = "acme"
        );
        span.in_scope(|| info!(target: "audit", action = "a"));
    });
    let entry = fixture.entry().entry;
    assert_eq!(entry.metadata, json!({"user_id": 7, "trace_id": "t", "request_id": "q", "tenant": "acme"}));
    assert_eq!((entry.decision.as_str(), entry.reason, entry.risk_score), ("", None, 0.0));
}

#[test]
fn a_value_recorded_later_counts_from_then_on_and_changes_nothing_before() {
    let fixture = with(log(), || {
        let span = info_span!("s", request_id = field::Empty, user_id = "first");
        let _entered = span.enter();
        info!(target: "audit", action = "before");
        span.record("request_id", "r1").record("user_id", "second").record("undeclared", "ignored");
        info!(target: "audit", action = "between");
        span.record("request_id", 2);
        info!(target: "audit", action = "after");
    });
    let metadata: Vec<_> = fixture.entries().into_iter().map(|found| found.entry.metadata).collect();
    assert_eq!(metadata[0], json!({"user_id": "first"}));
    assert_eq!(metadata[1], json!({"user_id": "second", "request_id": "r1"}));
    assert_eq!(metadata[2], json!({"user_id": "second", "request_id": 2}));
}

#[test]
fn an_explicit_parent_gives_the_context_instead_of_the_current_span() {
    let fixture = with(log(), || {
        let other = info_span!("other", request_id = "other");
        let current = info_span!("current", request_id = "current");
        let _entered = current.enter();
        info!(target: "audit", parent: &other, action = "other");
        info!(target: "audit", parent: None, action = "none");
        info!(target: "audit", parent: Span::current(), action = "current");
    });
    let metadata: Vec<_> = fixture.entries().into_iter().map(|found| found.entry.metadata).collect();
    assert_eq!(metadata, [json!({"request_id": "other"}), json!({}), json!({"request_id": "current"})]);
}

#[test]
fn target_and_level_decide_what_is_an_audit_event_and_which_spans_count() {
    let fixture = with(log_with(|builder| builder.target("acts").level(Level::DEBUG)), || {
        let span = debug_span!("s", request_id = 1);
        let _entered = span.enter();
        debug!(target: "acts", action = "debug");
        tracing::trace!(target: "acts", action = "too verbose");
        info!(target: "audit", action = "another target");
        info!(target: "acts::sub", action = "another target");
    });
    assert_eq!(fixture.entry().entry.metadata, json!({"request_id": 1}));

    let fixture = with(log(), || {
        let span = debug_span!("s", request_id = 1);
        let _entered = span.enter();
        info!(target: "audit", action = "info");
        debug!(target: "audit", action = "too verbose");
    });
    assert_eq!(fixture.entry().entry.metadata, json!({}));
}

#[test]
fn defaults_and_static_fields_fill_what_an_event_leaves_out() {
    let workspace = Uuid::now_v7();
    let configured = log_with(|builder| {
        builder
            .default_workspace(workspace)
            .default_decision(Decision::Allow)
            .static_field("service", "billing")
            .static_field("shard", 3)
    });
    let fixture = with(configured, || {
        info!(target: "audit", action = "a", metadata = r#"{"shard": 4, "region": "eu"}"#);
        info!(target: "audit", action = "b", workspace_id = "other", decision = "deny", service = "event");
    });
    let entries: Vec<_> = fixture.entries().into_iter().map(|found| found.entry).collect();
    assert_eq!((entries[0].workspace_id, entries[0].decision.as_str()), (workspace, "Allow"));
    assert_eq!(entries[0].metadata, json!({"service": "billing", "shard": 3, "region": "eu", "given": {"shard": 4}}));
    assert_eq!((entries[1].workspace_id, entries[1].decision.as_str()), (audit_id("other"), "Deny"));
    assert_eq!(metadata(&entries[1])["service"], "event");
}

#[test]
fn occurred_at_sets_the_time_and_the_order_of_commit_stays() {
    let fixture = with(log(), || {
        info!(target: "audit", action = "old", occurred_at = "1969-12-31T23:59:59.999999Z");
        info!(target: "audit", action = "new");
    });
    let entries = fixture.entries();
    assert_eq!(entries[0].entry.ts.timestamp_micros(), -1);
    assert_eq!((entries[0].seq, entries[1].seq), (0, 1));
    assert!(entries[0].entry.id < entries[1].entry.id, "the id keeps the moment of emission");
}

#[cfg(all(tracing_unstable, feature = "valuable"))]
#[test]
fn a_structured_value_becomes_json() {
    #[derive(valuable::Valuable)]
    struct Address {
        city: &'static str,
        lines: Vec<u32>,
    }
    let fixture = with(log(), || {
        let address = Address { city: "Zürich", lines: vec![1, 2] };
        let map = std::collections::HashMap::from([("region", "eu")]);
        use valuable::Valuable;
        info!(target: "audit", action = "a", address = address.as_value(), metadata = map.as_value());
    });
    let found = fixture.entry();
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.entry.metadata, json!({"address": {"city": "Zürich", "lines": [1, 2]}, "region": "eu"}));
}
