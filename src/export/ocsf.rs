//! Maps an entry to an event of the Open Cybersecurity Schema Framework (OCSF), which security tools of all makers
//! read.

use std::net::IpAddr;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::entry::{AuditEntry, Decision, SequencedEntry, audit_id};
use crate::query::value_at;

/// The version of the schema: <https://schema.ocsf.io/1.8.0/classes/api_activity>.
const VERSION: &str = "1.8.0";
const CATEGORY: u32 = 6;
const CLASS: u32 = 6003;

/// The activities of the class, each with the beginnings of the verbs that mean it.
const ACTIVITIES: [(u32, &str, &[&str]); 4] = [
    (1, "Create", &["create", "add", "insert", "new", "register", "upload", "import"]),
    (
        2,
        "Read",
        &["read", "get", "list", "view", "describe", "download", "export", "search", "query", "lookup"],
    ),
    (
        3,
        "Update",
        &["update", "write", "edit", "modify", "change", "set", "put", "patch", "rename", "move", "share"],
    ),
    (4, "Delete", &["delete", "remove", "destroy", "drop", "purge", "erase"]),
];

/// The paths into the metadata that may hold the client's address, the preferred one first. Those with dots are also the
/// names of OpenTelemetry's attributes.
const ADDRESSES: [&str; 10] = [
    "ip",
    "client_ip",
    "client.ip",
    "client.address",
    "remote_addr",
    "source_ip",
    "source.ip",
    "source.address",
    "sourceIPAddress",
    "network.peer.address",
];

/// The paths that may hold the names of the service and of the machine.
const SERVICES: [&str; 2] = ["service", "service.name"];
const HOSTS: [&str; 2] = ["host", "host.name"];

/// The OCSF event of an entry: class API Activity, profile Security Control.
pub(super) fn event(found: &SequencedEntry) -> Value {
    let SequencedEntry { ledger, seq, entry, committed_at, problems } = found;
    let text = |path: &str| value_at(&entry.metadata, path).and_then(Value::as_str);
    let host = HOSTS.into_iter().find_map(text).unwrap_or("unknown");
    let (activity, activity_name) = activity(&entry.action);
    let (action, status) = outcome(&entry.decision);
    let (severity, severity_name) = severity(entry.risk_score);

    let mut api = object(json!({ "operation": said(&entry.action) }));
    if let Some(request) = text("request_id") {
        api.insert("request".to_owned(), json!({ "uid": request }));
    }
    if let Some(service) = SERVICES.into_iter().find_map(text) {
        api.insert("service".to_owned(), json!({ "name": service }));
    }
    let mut log = object(json!({
        "version": VERSION,
        "profiles": ["security_control"],
        "product": {
            "name": env!("CARGO_PKG_NAME"), "vendor_name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
        },
        "uid": entry.id,
        "sequence": seq,
        "log_name": ledger,
        "logged_time": committed_at.timestamp_millis(),
        "original_time": entry.ts.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Micros, true),
    }));
    if let Some(trace) = text("trace_id") {
        log.insert("correlation_uid".to_owned(), json!(trace));
    }
    let mut event = object(json!({
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity,
        "type_name": (format!("API Activity: {activity_name}")),
        "time": entry.ts.timestamp_millis(),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status.0,
        "status": status.1,
        "action_id": action.0,
        "action": action.1,
        "metadata": log,
        "api": api,
        "actor": actor(entry),
        "src_endpoint": address(entry).map_or_else(|| json!({ "name": host }), |ip| json!({ "ip": ip })),
        "unmapped": {
            "workspace_id": entry.workspace_id, "risk_score": entry.risk_score, "problems": problems,
            "metadata": entry.metadata,
        },
    }));
    if !entry.resource.is_empty() || entry.resource_id.is_some() {
        let mut resource = object(json!({ "type": entry.resource, "name": said(&entry.resource) }));
        if let Some(id) = &entry.resource_id {
            resource.insert("uid".to_owned(), json!(id));
        }
        event.insert("resources".to_owned(), json!([resource]));
    }
    if let Some(reason) = &entry.reason {
        event.insert("status_detail".to_owned(), json!(reason));
    }
    let mut event = Value::Object(event);
    // Also where another crate makes maps keep the order of insertion.
    event.sort_all_objects();
    event
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The text, or `unknown` if it is empty.
fn said(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn actor(entry: &AuditEntry) -> Value {
    let mut actor = Map::new();
    if let Some(agent) = entry.agent_id {
        let name = entry.metadata.get("agent_id").and_then(Value::as_str);
        let user = match name.filter(|name| audit_id(name) == agent) {
            Some(name) => json!({ "uid": agent, "name": name }),
            None => json!({ "uid": agent }),
        };
        actor.insert("user".to_owned(), user);
    }
    if let Some(session) = entry.session_id {
        actor.insert("session".to_owned(), json!({ "uid": session }));
    }
    if actor.is_empty() {
        actor.insert("user".to_owned(), json!({ "name": "unknown", "type_id": 0, "type": "Unknown" }));
    }
    actor.into()
}

fn address(entry: &AuditEntry) -> Option<IpAddr> {
    ADDRESSES.iter().find_map(|path| value_at(&entry.metadata, path)?.as_str()?.parse().ok())
}

fn activity(action: &str) -> (u32, &'static str) {
    let verb = action.rsplit(['.', ':', '/']).next().unwrap_or(action).to_ascii_lowercase();
    let known = |(_, _, verbs): &&(u32, &str, &[&str])| verbs.iter().any(|known| verb.starts_with(known));
    match ACTIVITIES.iter().find(known) {
        Some((id, name, _)) => (*id, name),
        None if action.is_empty() => (0, "Unknown"),
        None => (99, "Other"),
    }
}

/// The action and the status of a decision, each as number and caption. The caption of a decision that is not listed is
/// the word of the entry.
fn outcome(decision: &str) -> ((u32, &str), (u32, &str)) {
    match decision.parse() {
        Ok(Decision::Allow) => ((1, "Allowed"), (1, "Success")),
        Ok(Decision::Deny) => ((2, "Denied"), (2, "Failure")),
        Ok(Decision::Mask) => ((4, "Modified"), (1, "Success")),
        Err(_) if decision.is_empty() => ((0, "Unknown"), (0, "Unknown")),
        Err(_) => ((99, decision), (99, decision)),
    }
}

fn severity(risk: f64) -> (u32, &'static str) {
    match risk {
        risk if risk >= 0.8 => (5, "Critical"),
        risk if risk >= 0.6 => (4, "High"),
        risk if risk >= 0.4 => (3, "Medium"),
        risk if risk >= 0.2 => (2, "Low"),
        _ => (1, "Informational"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// The schema's rules for the class and the objects in it: which attributes exist, which are required, of which
    /// at least one is required, and the values of each enumeration.
    fn schema() -> Value {
        serde_json::from_str(include_str!("../../tests/data/ocsf-1.8.0.json")).unwrap()
    }

    /// The kind of object that an attribute holds, if the attribute holds an object.
    fn type_of(attribute: &str) -> Option<&str> {
        Some(match attribute {
            "src_endpoint" => "network_endpoint",
            "resources" => "resource_details",
            "metadata" | "product" | "actor" | "user" | "session" | "api" | "service" | "request" => {
                attribute
            }
            _ => return None,
        })
    }

    fn check(schema: &Value, name: &str, value: &Value) {
        if let Value::Array(all) = value {
            return all.iter().for_each(|value| check(schema, name, value));
        }
        let (rules, object) = (&schema[name], value.as_object().unwrap());
        let words = |rule: &str| -> BTreeSet<&str> {
            let list = rules[rule].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().map(|word| word.as_str().unwrap()).collect()
        };
        let found: BTreeSet<&str> = object.keys().map(String::as_str).collect();
        assert!(words("required").is_subset(&found), "{name} lacks some of {:?}: {value}", words("required"));
        assert!(found.is_subset(&words("attributes")), "{name} has no such attribute: {value}");
        let one = words("at_least_one");
        assert!(one.is_empty() || !one.is_disjoint(&found), "{name} needs one of {one:?}: {value}");
        for (attribute, value) in object {
            if let Some(listed) = rules["enums"].get(attribute) {
                let caption = &listed[value.to_string()];
                assert!(caption.is_string(), "{attribute} has no {value}");
                // The attribute beside it is its caption. The caption of 99, "other", is the source's own word.
                let beside = match &**attribute {
                    "activity_id" => "activity_name",
                    other => other.trim_end_matches("_id"),
                };
                let written = &object[beside];
                assert!(*value == json!(99) || written == caption, "{attribute}: {written}");
            }
            if let Some(object) = type_of(attribute) {
                check(schema, object, value);
            }
        }
    }

    fn entry(action: &str, decision: &str) -> SequencedEntry {
        let entry =
            AuditEntry { decision: decision.to_owned(), ..AuditEntry::new(Uuid::nil(), action, "document") };
        SequencedEntry { ledger: "main".into(), seq: 7, committed_at: entry.ts, problems: Vec::new(), entry }
    }

    proptest! {
        #[test]
        fn any_entry_becomes_an_event_that_the_schema_allows(
            (action, resource) in ("[a-z.:]{0,12}", "[a-z]{0,3}"), resource_id in proptest::option::of("[a-z]{0,3}"),
            decision in prop_oneof![Just("Allow"), Just("Deny"), Just("Mask"), Just(""), Just("Perhaps")],
            risk in any::<f64>(), reason in proptest::option::of(".*"), agent: Option<bool>, session: Option<u128>,
            ip in prop_oneof![Just(Value::Null), Just(json!("10.0.0.1")), Just(json!("nowhere")), Just(json!(5))],
            context in proptest::option::of("[a-z]{0,3}"),
        ) {
            let mut found = entry(&action, decision);
            let named = agent.map(|named| if named { audit_id("alice") } else { Uuid::nil() });
            found.entry = AuditEntry {
                resource, resource_id, reason, risk_score: risk, agent_id: named, session_id: session.map(Uuid::from_u128),
                metadata: json!({ "ip": ip, "agent_id": "alice", "request_id": context, "service": context, "trace_id": context }),
                ..found.entry
            };
            check(&schema(), "api_activity", &event(&found));
        }
    }

    #[test]
    fn an_event_has_the_schema_s_numbers_and_captions() {
        let mut found = entry("document.read", "Mask");
        found.entry.agent_id = Some(audit_id("alice"));
        found.entry.risk_score = 0.85;
        found.entry.ts = "2026-11-17T12:00:00.5Z".parse().unwrap();
        found.entry.metadata = json!({ "agent_id": "alice", "client": { "ip": "2001:db8::1" } });
        let event = event(&found);
        assert_eq!(event["type_uid"], 600_302);
        assert_eq!(event["time"], 1_794_916_800_500_i64);
        assert_eq!((&event["action"], &event["severity_id"]), (&json!("Modified"), &json!(5)));
        assert_eq!(event["actor"]["user"]["name"], "alice");
        assert_eq!(event["src_endpoint"], json!({ "ip": "2001:db8::1" }));
        assert_eq!(
            (&event["metadata"]["sequence"], &event["metadata"]["log_name"]),
            (&json!(7), &json!("main"))
        );

        let of = |action| activity(action).0;
        let actions =
            ["user.create", "ec2.amazonaws.com:DescribeVpcs", "key.rename", "document.delete", "login", ""];
        assert_eq!(actions.map(of), [1, 2, 3, 4, 99, 0]);
    }

    #[test]
    fn the_check_against_the_schema_fails_for_events_that_it_forbids() {
        let good = event(&entry("document.read", "Allow"));
        check(&schema(), "api_activity", &good);
        for (place, value) in [
            ("activity_id", json!(5)),
            ("status_id", json!(2)),
            ("colour", json!("red")),
            ("api", json!({})),
            ("actor", json!({ "user": {} })),
        ] {
            let mut bad = good.clone();
            bad[place] = value;
            let checked = std::panic::catch_unwind(|| check(&schema(), "api_activity", &bad));
            assert!(checked.is_err(), "{place}");
        }
    }
}
