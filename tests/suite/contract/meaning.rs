// Events mean what they say: values in every form in which Rust programs record them, and metadata of every kind, come
// back as what was meant, or the entry lists the problem.

use std::{sync::Arc, time::{Duration, UNIX_EPOCH}};

use serde_json::{Value, json};
use super::{log, log_with};
use crate::support::{Fixture, block_on, entry, metadata, texts, wait_until};
use tracing::{info, info_span, instrument, subscriber::with_default};
use tracing_audit::{AuditEntry, AuditQuery, SequencedEntry, audit_id, export::ExportFormat, index::IndexOn, query::{Column, CountBy}};
use tracing_subscriber::{prelude::*, registry};
use uuid::Uuid;

/// Runs the body with the log's layer as this thread's subscriber.
fn with(fixture: Fixture, body: impl FnOnce()) -> Fixture {
    with_default(registry().with(fixture.log.layer()), body);
    fixture
}

/// The metadata of all entries, byte for byte as they are stored.
fn stored(fixture: &Fixture) -> Vec<String> {
    fixture.settle();
    texts(&fixture.db, "SELECT CAST(metadata AS text) FROM tracing_audit_entries ORDER BY seq")
}

fn exported(fixture: &Fixture, format: ExportFormat) -> Vec<Value> {
    let mut bytes = Vec::new();
    block_on(fixture.log.reader().export(AuditQuery::new(), format, &mut bytes)).unwrap();
    serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>().unwrap()
}

/// Whether any problem is about this field.
fn has_problem(found: &SequencedEntry, field: &str) -> bool {
    found.problems.iter().any(|problem| problem.starts_with(&[field, ":"].concat()))
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "only for its Debug")]
struct AgentId(Arc<str>);

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "only for its Debug")]
struct Named {
    id: Uuid,
}

#[derive(Debug)]
#[expect(dead_code, reason = "only for its Debug")]
enum Who {
    User(&'static str),
    Service(&'static str),
}

#[instrument]
fn instrumented(agent_id: Option<&AgentId>, workspace_id: Option<&Arc<Uuid>>, request_id: Option<&str>, session_id: Option<Uuid>) {
    info!(target: "audit", action = "a");
}

#[test]
fn what_debug_wraps_is_the_person_and_the_thing_meant() {
    let id = Uuid::from_u128(7);
    let alice: Arc<str> = "alice \"the\u{200b}\\ cat\" \n".into();
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", agent_id = ?Some(&alice), workspace_id = ?Some(Box::new(id)), session_id = ?Some(Some(id)),
            request_id = ?Some("r1"), trace_id = ?Some(17), resource_id = ?Some("D"), reason = ?Some("late"));
        info!(target: "audit", action = ?Some("a"), agent_id = ?AgentId(Arc::clone(&alice)), workspace_id = ?Some(Named { id }), session_id = ?Arc::new(Named { id }),
            request_id = ?"r1".to_owned(), trace_id = ?Box::new(Some(17)), resource_id = ?Some(Some("D")), reason = ?"late".to_owned());
        instrumented(Some(&AgentId(Arc::clone(&alice))), Some(&Arc::new(id)), Some("r1"), Some(id));
    });
    for (at, found) in fixture.entries().into_iter().enumerate() {
        let entry = &found.entry;
        assert_eq!(found.problems, Vec::<String>::new());
        assert_eq!((&*entry.action, entry.workspace_id, entry.session_id), ("a", id, Some(id)));
        assert_eq!((entry.agent_id, &metadata(entry)["agent_id"]), (Some(audit_id(&alice)), &json!(*alice)));
        assert_eq!(metadata(entry)["request_id"], "r1");
        if at < 2 {
            assert_eq!(metadata(entry)["trace_id"], "17");
            assert_eq!((entry.resource_id.as_deref(), entry.reason.as_deref()), (Some("D"), Some("late")));
        }
    }
}

#[test]
fn nothing_by_debug_is_nothing_and_not_somebody_of_that_name() {
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", agent_id = ?None::<Uuid>, workspace_id = ?Some(None::<Uuid>), resource_id = ?None::<u8>,
            reason = ?None::<&str>, request_id = ?None::<u8>, decision = ?None::<u8>, risk_score = ?None::<f64>, occurred_at = ?None::<u8>);
        instrumented(None, None, None, None);
        info_span!("outer", agent_id = "alice").in_scope(|| instrumented(None, None, None, None));
        info!(target: "audit", action = "a", agent_id = "None");
    });
    let entries = fixture.entries();
    for found in &entries[..2] {
        assert_eq!((&found.entry.agent_id, found.entry.workspace_id, &found.entry.metadata), (&None, Uuid::nil(), &json!({})));
        assert_eq!((&found.entry.resource_id, &found.entry.reason, &*found.entry.decision), (&None, &None, ""));
        assert_eq!(found.problems, Vec::<String>::new());
    }
    // As with an `Option` that `tracing` itself records, the outer span's counts.
    assert_eq!(entries[2].entry.agent_id, Some(audit_id("alice")));
    assert_eq!(entries[3].entry.agent_id, Some(audit_id("None")));
}

#[test]
fn what_debug_leaves_unclear_is_listed_and_two_variants_stay_two() {
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", agent_id = ?Who::User("7"), user_id = ?["a", "b"], resource_id = ?("a", 1), metadata = ?Some(5));
        info!(target: "audit", action = ?Who::User("7"), agent_id = ?Who::Service("7"), request_id = ?Err::<(), _>("none"), risk_score = ?Who::User("1"));
        info!(target: "audit", action = "a", reason = ?Who::User("7"), agent_id = %"Who(7", note = ?Some("x"));
    });
    let entries = fixture.entries();
    let fields: Vec<Vec<&str>> =
        entries.iter().map(|found| found.problems.iter().map(|problem| problem.split(':').next().unwrap()).collect()).collect();
    assert_eq!(fields, [vec!["agent_id", "user_id", "resource_id", "metadata"], vec!["action", "agent_id", "request_id", "risk_score"], vec![]]);
    let agents: Vec<_> = entries.iter().map(|found| (found.entry.agent_id.unwrap(), &metadata(&found.entry)["agent_id"])).collect();
    let expected = ["User(\"7\")", "Service(\"7\")", "Who(7"].map(|text| (audit_id(text), json!(text)));
    assert_eq!(agents, expected.each_ref().map(|(id, text)| (*id, text)));
    assert_eq!(metadata(&entries[2].entry)["note"], "Some(\"x\")");
}

#[test]
fn check_wiring_names_the_callsites_that_record_ids_by_debug() {
    let fixture = log();
    with_default(registry().with(fixture.log.layer()), || {
        for _ in 0..3 {
            instrumented(Some(&AgentId("alice".into())), None, None, None);
            info!(target: "audit", action = "a", user_id = ?Some(5));
            info!(target: "audit", action = "a", agent_id = ?Uuid::nil(), reason = ?Who::User("7"), note = ?Some(5));
        }
        // The callsites of other tests are seen too.
        let mut misses = fixture.log.check_wiring().unwrap().near_misses;
        misses.retain(|miss| miss.contains("by `Debug`"));
        assert_eq!(misses.len(), 2, "{misses:?}");
        for (miss, field) in misses.iter().zip(["`agent_id`", "`user_id`"]) {
            assert!(miss.contains("meaning.rs:") && miss.contains(field), "{misses:?}");
        }
    });
}

#[test]
fn the_id_of_somebody_s_name_is_not_that_person() {
    let id = audit_id("alice");
    let spellings = [id.to_string(), id.simple().to_string(), id.urn().to_string(), id.to_string().to_uppercase()];
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", agent_id = "alice", workspace_id = "acme");
        for text in &spellings {
            info!(target: "audit", action = "a", agent_id = text, workspace_id = %audit_id("acme"));
            info!(target: "audit", action = "a", agent_id = ?Some(id));
        }
    });
    let entries = fixture.entries();
    let (alice, others) = entries.split_first().unwrap();
    assert_eq!((alice.entry.agent_id, alice.problems.len()), (Some(id), 0));
    for (at, found) in others.iter().enumerate() {
        assert_ne!(found.entry.agent_id, Some(id));
        assert_ne!(found.entry.workspace_id, alice.entry.workspace_id);
        assert!(has_problem(found, "agent_id"), "{:?}", found.problems);
        let text = if at % 2 == 0 { spellings[at / 2].clone() } else { id.to_string() };
        assert_eq!(metadata(&found.entry)["agent_id"], text);
        assert_eq!(found.entry.agent_id, others[0].entry.agent_id, "one person, however the id is spelled");
    }
    let by_alice = AuditQuery::new().agent_id(id);
    assert_eq!(fixture.log.reader().blocking().count(&by_alice).unwrap(), 1);
    // An entry that is written as a value says which agent it means.
    fixture.log.writer().try_write(AuditEntry { agent_id: Some(id), ..entry("a") }).unwrap();
    fixture.settle();
    assert_eq!(fixture.log.reader().blocking().count(&by_alice).unwrap(), 2);
}

#[test]
fn ids_of_version_5_that_are_the_application_s_own_are_taken_as_they_are() {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"tenant.example");
    for own in [true, false] {
        let fixture = with(log_with(|builder| if own { builder.own_version_5_ids() } else { builder }), || {
            info!(target: "audit", action = "a", workspace_id = %id);
        });
        let found = fixture.entry();
        assert_eq!((found.entry.workspace_id == id, found.problems.is_empty()), (own, own));
        // Somebody who looks for the text finds it in either case.
        let query = AuditQuery::new().any_of(Column::WorkspaceId, [id.to_string()]);
        assert_eq!(fixture.log.reader().blocking().count(query).unwrap(), 1);
    }
}

#[test]
fn a_client_s_metadata_does_not_replace_a_static_field() {
    let configured = log_with(|builder| builder.static_field("service", "billing").static_field("host.name", "db1").static_field("shard", 3));
    let fixture = with(configured, || {
        info!(target: "audit", action = "a", metadata = r#"{"service":"payroll","shard":4,"x":1}"#);
        info!(target: "audit", action = "a", metadata = r#"{"service":{"name":"payroll"},"host":{"name":"evil","arch":"arm"}}"#);
        info!(target: "audit", action = "a", metadata = r#"{"service.name":"payroll","host":"evil","given":"mine"}"#);
        info!(target: "audit", action = "a", metadata = r#"{"service":"billing","shard":3}"#);
    });
    let entries = fixture.entries();
    assert_eq!(
        entries.iter().map(|found| found.entry.metadata.clone()).collect::<Vec<_>>(),
        [
            json!({"service": "billing", "host.name": "db1", "shard": 3, "x": 1, "given": {"service": "payroll", "shard": 4}}),
            json!({"service": "billing", "host.name": "db1", "shard": 3, "host": {"arch": "arm"}, "given": {"service": {"name": "payroll"}, "host": {"name": "evil"}}}),
            json!({"service": "billing", "host.name": "db1", "shard": 3, "given": "mine", "given_": {"service.name": "payroll", "host": "evil"}}),
            json!({"service": "billing", "host.name": "db1", "shard": 3}),
        ]
    );
    assert_eq!(entries.iter().map(|found| found.problems.len()).collect::<Vec<_>>(), [2, 2, 2, 0]);
    for event in exported(&fixture, ExportFormat::Ocsf) {
        assert_eq!((&event["api"]["service"]["name"], &event["src_endpoint"]["name"]), (&json!("billing"), &json!("db1")));
    }
    for (path, value) in [("service", "billing"), ("host.name", "db1"), ("shard", "3")] {
        assert_eq!(fixture.log.reader().blocking().count(AuditQuery::new().metadata_any_of(path, [value])).unwrap(), 4, "{path}");
    }
}

#[test]
fn only_the_log_s_own_entries_look_like_its_own() {
    let fixture = with(log(), || {
        for action in ["audit.gap", "Audit.Gap", " audit.gap", "audit\u{200b}.gap", "audit.anything", "auditor.login"] {
            info!(target: "audit", action, resource = "audit", decision = "", rejected = 5);
        }
        info!(name: "audit.gap", target: "audit", "by name");
        info!(target: "audit", action = ?Some("audit.gap"));
    });
    fixture.log.writer().try_write(entry("audit.gap")).unwrap();
    let large = AuditEntry { reason: Some("x".repeat(2 << 20)), ..entry("large") };
    assert!(fixture.log.writer().try_write(large).unwrap_err().is_too_large());
    wait_until("the gap is told", || fixture.entries().len() == 10);
    for found in fixture.entries() {
        let (action, reason) = (&*found.entry.action, found.entry.reason.as_deref().unwrap_or_default());
        let own = reason.starts_with("1 entries were rejected");
        assert_eq!(found.is_own(), own, "{action:?} {:?}", found.problems);
        assert_eq!(has_problem(&found, "action"), !own && action != "auditor.login", "{action:?} {:?}", found.problems);
    }
}

#[test]
fn names_with_dots_are_found_by_the_path_that_is_written_like_them() {
    let configured = log_with(|builder| builder.span_fields(["client.ip"]).index(IndexOn::metadata("client.ip")));
    let fixture = with(configured, || {
        info!(target: "audit", action = "field", client.ip = "10.0.0.1", http.request.method = "GET");
        info_span!("request", client.ip = "10.0.0.1").in_scope(|| info!(target: "audit", action = "span", http.request.method = "GET"));
        for document in [
            r#"{"client":{"ip":"10.0.0.1"},"http":{"request":{"method":"GET"}}}"#,
            r#"{"client.ip":"10.0.0.1","http.request":{"method":"GET"}}"#,
            r#"{"client.ip":"10.0.0.1","http":{"request.method":"GET"}}"#,
        ] {
            info!(target: "audit", action = "document", metadata = document);
        }
        info!(target: "audit", action = "other", client.ip = "10.0.0.2", client = 1, http.request.method = "PUT");
        info!(target: "audit", action = "none", client.port = 1, metadata = r#"{"a":{"b.c":[{"d.e":5}]}}"#);
        info!(target: "audit", action = "both", client.ip = "10.0.0.2", metadata = r#"{"client":{"ip":"10.0.0.1"}}"#);
    });
    let entries = fixture.entries();
    assert_eq!(entries.iter().map(|found| found.problems.len()).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(metadata(&entries[5].entry)["client"], 1, "neither of two names that meet is lost");
    let reader = fixture.log.reader();
    let count = |query: AuditQuery| reader.blocking().count(query).unwrap();
    let store = fixture.store();
    let is_ready = || store.blocking().indexes().unwrap().iter().any(|index| index.serves == "metadata.client.ip" && index.ready);
    wait_until("the index is made", is_ready);
    for indexed in [true, false] {
        let of = AuditQuery::new;
        assert_eq!(count(of().metadata_any_of("client.ip", ["10.0.0.1"])), 5, "{indexed}");
        assert_eq!(count(of().metadata_none_of("client.ip", ["10.0.0.1"])), 3);
        assert_eq!(count(of().metadata_any_of("http.request.method", ["GET", "PUT"])), 6);
        assert_eq!(count(of().metadata_any_of("a.b.c[0].d.e", ["5"])), 1);
        // In quotation marks a key is that key alone.
        assert_eq!(count(of().metadata_any_of("\"client.ip\"", ["10.0.0.1"])), 4);
        assert_eq!(count(of().metadata_any_of("\"client\".\"ip\"", ["10.0.0.1"])), 2);
        let counted = reader.blocking().count_by(of(), CountBy::Metadata("client.ip".to_owned())).unwrap();
        let counted: Vec<_> = counted.into_iter().map(|group| (group.key, group.entries)).collect();
        assert_eq!(counted, [(Some("10.0.0.1".to_owned()), 5), (Some("10.0.0.2".to_owned()), 2), (None, 1)]);
        store.blocking().drop_index(IndexOn::metadata("client.ip")).unwrap();
    }
    assert!(!is_ready());
    let addresses: Vec<Value> = exported(&fixture, ExportFormat::Ocsf).iter().map(|event| event["src_endpoint"]["ip"].clone()).collect();
    let (one, two) = ("10.0.0.1", "10.0.0.2");
    assert_eq!(addresses, [json!(one), json!(one), json!(one), json!(one), json!(one), json!(two), Value::Null, json!(two)]);
}

#[test]
fn numbers_have_the_shortest_decimal_of_their_own_type() {
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", f32 = 0.1_f32, third = 1.0_f32 / 3.0, f64 = 0.1_f64, epsilon = f64::EPSILON, large = 1e300, zero = -0.0_f64,
            whole = 5.0, u8 = u8::MAX, i8 = i8::MIN, u64 = u64::MAX, i64 = i64::MIN, u128 = u128::MAX, i128 = i128::MIN, nan = f32::NAN,
            infinite = f64::INFINITY, usize = std::num::NonZeroUsize::MAX, risk_score = 0.85_f32);
    });
    assert_eq!(
        stored(&fixture),
        ["{\"epsilon\":2.220446049250313e-16,\"f32\":0.1,\"f64\":0.1,\"i128\":\"-170141183460469231731687303715884105728\",\"i64\":-9223372036854775808,\
          \"i8\":-128,\"infinite\":\"inf\",\"large\":1e+300,\"nan\":\"NaN\",\"third\":0.33333334,\"u128\":\"340282366920938463463374607431768211455\",\
          \"u64\":18446744073709551615,\"u8\":255,\"usize\":18446744073709551615,\"whole\":5.0,\"zero\":-0.0}"]
    );
    assert_eq!(fixture.entry().entry.risk_score.to_bits(), 0.85_f64.to_bits());
}

#[test]
fn json_that_a_parser_would_change_is_kept_as_text() {
    let changed = [
        r#"{"user":"alice","user":"mallory"}"#,
        r#"{"a":[{"user":"alice","us\u0065r":"mallory"}]}"#,
        r#"{"amount":12345678901234567.89}"#,
        r#"{"n":[1e400]}"#,
        r#"{"n":1e-400}"#,
        r#"{"n":123456789012345678901}"#,
        r#"{"$serde_json::private::Number":"1e400"}"#,
        "{\"deep\":".repeat(200).leak(),
    ];
    let fixture = with(log(), || {
        for text in changed {
            info!(target: "audit", action = "a", metadata = text);
        }
    });
    for (found, text) in fixture.entries().iter().zip(changed) {
        assert_eq!(found.entry.metadata, json!({ "metadata": text }));
        assert!(has_problem(found, "metadata"), "{:?}", found.problems);
    }
}

#[test]
fn the_same_json_is_the_same_bytes_whatever_features_serde_json_has() {
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", z = 1, metadata = r#" {"b" : 1e2, "a": {"y":-0, "x":0.10, "w":[1E+2, 18446744073709551615]}} "#, c = 2);
    });
    let mut written = entry("a");
    // With `arbitrary_precision` this is a number that no other reader can read.
    written.metadata = serde_json::from_str(r#"{"z":1,"b":1.50}"#).unwrap();
    fixture.log.writer().try_write(written).unwrap();
    let mut key = entry("a");
    key.metadata["$serde_json::private::Number"] = "1e400".into();
    fixture.log.writer().try_write(key).unwrap();
    assert_eq!(
        stored(&fixture),
        [
            r#"{"a":{"w":[100.0,18446744073709551615],"x":0.1,"y":-0.0},"b":100.0,"c":2,"z":1}"#,
            r#"{"b":1.5,"z":1}"#,
            r#"{"_$serde_json::private::Number":"1e400"}"#,
        ]
    );
    let entries = fixture.entries();
    assert_eq!(entries.iter().map(|found| found.problems.len()).collect::<Vec<_>>(), [0, 0, 1]);
    // What is exported as JSON Lines reads back as the same entries.
    let mut lines = Vec::new();
    block_on(fixture.log.reader().export(AuditQuery::new(), ExportFormat::JsonLines, &mut lines)).unwrap();
    let lines = serde_json::Deserializer::from_slice(&lines).into_iter::<SequencedEntry>();
    assert_eq!(lines.collect::<Result<Vec<_>, _>>().unwrap(), entries);
    assert_eq!(fixture.log.reader().blocking().count(AuditQuery::new().metadata_any_of("a.w[0]", ["1e2"])).unwrap(), 1);
}

#[test]
fn times_are_understood_in_the_forms_in_which_types_of_time_are_recorded() {
    let time = chrono::DateTime::from_timestamp_millis(1_767_323_045_123).unwrap();
    let there = time.with_timezone(&chrono::FixedOffset::east_opt(3600).unwrap());
    let system = UNIX_EPOCH + Duration::from_millis(1_767_323_045_123);
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", occurred_at = %time);
        info!(target: "audit", action = "a", occurred_at = ?time);
        info!(target: "audit", action = "a", occurred_at = %there);
        info!(target: "audit", action = "a", occurred_at = ?Some(there));
        info!(target: "audit", action = "a", occurred_at = ?system);
        info!(target: "audit", action = "a", occurred_at = ?Some(system));
        info!(target: "audit", action = "a", occurred_at = 1_767_323_045_123_u64);
        info!(target: "audit", action = "a", occurred_at = 1_767_323_045.123);
        info!(target: "audit", action = "a", occurred_at = "1767323045.123");
        info!(target: "audit", action = "a", occurred_at = "2026-01-02T04:04:05.123+01:00[Europe/Berlin]");
        info!(target: "audit", action = "a", occurred_at = "2026-01-02 3:04:05.123 +00:00:00");
        info!(target: "audit", action = "a", occurred_at = "2016-12-31T23:59:60Z");
        info!(target: "audit", action = "a", occurred_at = "2026-01-02T03:04:05");
        info!(target: "audit", action = "a", occurred_at = "+12026-01-02T03:04:05Z");
    });
    let entries = fixture.entries();
    for found in &entries[..11] {
        assert_eq!((found.entry.ts, &found.problems), (time, &Vec::new()));
    }
    for (found, text) in entries[11..].iter().zip(["2016-12-31T23:59:60Z", "2026-01-02T03:04:05", "+12026-01-02T03:04:05Z"]) {
        assert!(has_problem(found, "occurred_at"), "{:?}", found.problems);
        assert_eq!(metadata(&found.entry)["occurred_at"], text);
    }
    assert_eq!(entries[11].entry.ts.timestamp(), 1_483_228_800);
}

#[test]
fn a_large_document_keeps_its_small_fields() {
    let long = "é\"".repeat(60_000);
    let one = json!({ "a": 1, "long": long, "user": "alice", "nested": { "long": long, "z": "last" } });
    let many = json!({ "a": 1, "list": vec!["x".repeat(10_000); 300], "user": "alice" });
    let fits = json!({ "list": vec![12_345; 30_000], "user": "alice" });
    let fixture = with(log(), || {
        info!(target: "audit", action = "a", metadata = one.to_string(), after = 1);
        info!(target: "audit", action = "a", metadata = %one, after = 1);
        info!(target: "audit", action = "a", metadata = many.to_string(), after = 1);
        info!(target: "audit", action = "a", metadata = fits.to_string(), after = 1);
        info!(target: "audit", action = "a", metadata = "no JSON ".repeat(20_000), after = 1);
    });
    let entries = fixture.entries();
    for found in &entries[..2] {
        let kept = metadata(&found.entry);
        assert_eq!((&kept["user"], &kept["after"], &kept["nested"]["z"]), (&json!("alice"), &json!(1), &json!("last")));
        let beginning = kept["long"].as_str().unwrap();
        assert!(beginning.len() > 30_000 && long.starts_with(beginning));
        assert_eq!(found.problems, ["metadata: too long, cut"]);
    }
    let kept = metadata(&entries[2].entry);
    assert_eq!((&kept["user"], &kept["after"], &entries[2].problems[..]), (&json!("alice"), &json!(1), &["metadata: too long, cut".to_owned()][..]));
    assert_eq!((&metadata(&entries[3].entry)["user"], &entries[3].problems), (&json!("alice"), &Vec::new()));
    assert_eq!(metadata(&entries[4].entry)["metadata"].as_str().unwrap().len(), 64 * 1024);
    assert_eq!(fixture.log.reader().blocking().count(AuditQuery::new().metadata_any_of("user", ["alice"])).unwrap(), 4);
}
