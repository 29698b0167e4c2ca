//! Maps an entry to an event of the Open Cybersecurity Schema Framework (OCSF), which security tools of all makers
//! read.

use std::net::{IpAddr, SocketAddrV4};

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

/// The paths into the metadata that may hold the client's address, the preferred one first. The paths with dots are
/// also the names of OpenTelemetry's attributes; others are those of Kubernetes, Vault, GitHub and AWS.
const ADDRESSES: [&str; 16] = [
    "ip",
    "client_ip",
    "client.ip",
    "client.address",
    "remote_addr",
    "remote_address",
    "remote_ip",
    "source_ip",
    "source.ip",
    "source.address",
    "sourceIPAddress",
    "sourceIPs",
    "actor_ip",
    "request.remote_address",
    "x_forwarded_for",
    "network.peer.address",
];

/// The paths that may hold the names of the service and of the machine, and the ids of the request and of the trace.
const SERVICES: [&str; 2] = ["service", "service.name"];
const HOSTS: [&str; 2] = ["host", "host.name"];
const REQUESTS: [&str; 4] = ["request_id", "request.id", "requestId", "requestID"];
const TRACES: [&str; 3] = ["trace_id", "trace.id", "traceId"];

/// The OCSF event of an entry: class API Activity, profile Security Control.
pub(super) fn event(found: &SequencedEntry) -> Value {
    let entry = &found.entry;
    let (activity, activity_name) = activity(&entry.action);
    let (action, status) = outcome(&entry.decision);
    let (severity, severity_name) = severity(found.risk_score());
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
        "metadata": metadata(found),
        "api": api(entry),
        "actor": actor(entry),
        "src_endpoint": source(entry),
        "unmapped": {
            "workspace_id": entry.workspace_id, "problems": found.problems, "metadata": entry.metadata,
        },
    }));
    if let (Some(score), Some(Value::Object(unmapped))) = (found.risk_score(), event.get_mut("unmapped")) {
        unmapped.insert("risk_score".to_owned(), json!(score));
    }
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
    // The members are sorted, so that the order is the same if another crate makes maps keep the order of insertion.
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

/// The first of these paths at which there is an id or a name: a text, or a number of any size.
fn named(entry: &AuditEntry, paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| spelled(value_at(&entry.metadata, path)?))
}

fn spelled(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Array(several) => {
            let several: Vec<String> = several.iter().filter_map(spelled).collect();
            (!several.is_empty()).then(|| several.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

fn metadata(found: &SequencedEntry) -> Value {
    let entry = &found.entry;
    let mut log = object(json!({
        "version": VERSION,
        "profiles": ["security_control"],
        "product": {
            "name": env!("CARGO_PKG_NAME"), "vendor_name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
        },
        "uid": entry.id,
        "sequence": found.seq,
        "log_name": found.ledger,
        "logged_time": found.committed_at.timestamp_millis(),
        "original_time": entry.ts.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Micros, true),
    }));
    if !entry.workspace_id.is_nil() {
        log.insert("tenant_uid".to_owned(), json!(entry.workspace_id));
    }
    if let Some(trace) = named(entry, &TRACES) {
        log.insert("correlation_uid".to_owned(), json!(trace));
    }
    log.into()
}

fn api(entry: &AuditEntry) -> Value {
    let mut api = object(json!({ "operation": said(&entry.action) }));
    if let Some(request) = named(entry, &REQUESTS) {
        api.insert("request".to_owned(), json!({ "uid": request }));
    }
    if let Some(service) = named(entry, &SERVICES) {
        api.insert("service".to_owned(), json!({ "name": service }));
    }
    api.into()
}

fn actor(entry: &AuditEntry) -> Value {
    // The text that an id was made from, if the metadata has it.
    let name_of = |id, field| named(entry, &[field]).filter(|name| audit_id(name) == id);
    let mut actor = Map::new();
    let user = named(entry, &["user_id"]);
    if let Some(agent) = entry.agent_id {
        let mut agent_fields = object(json!({ "uid": agent }));
        let name = name_of(agent, "agent_id");
        // A user in addition to the agent is another name for the one that acted.
        if let Some(user) = user.filter(|user| name.as_ref() != Some(user)) {
            agent_fields.insert("uid_alt".to_owned(), json!(user));
        }
        if let Some(name) = name {
            agent_fields.insert("name".to_owned(), json!(name));
        }
        actor.insert("user".to_owned(), agent_fields.into());
    } else if let Some(user) = user {
        actor.insert("user".to_owned(), json!({ "uid": user }));
    }
    if let Some(session) = entry.session_id {
        let mut fields = object(json!({ "uid": session }));
        if let Some(name) = name_of(session, "session_id") {
            fields.insert("uid_alt".to_owned(), json!(name));
        }
        actor.insert("session".to_owned(), fields.into());
    }
    if actor.is_empty() {
        actor.insert("user".to_owned(), json!({ "name": "unknown", "type_id": 0, "type": "Unknown" }));
    }
    actor.into()
}

/// The source of the request: its addresses, each once, and a name if there is no address.
fn source(entry: &AuditEntry) -> Value {
    let (mut ips, mut first, mut hostname): (Vec<IpAddr>, Map<String, Value>, Option<String>) =
        (Vec::new(), Map::new(), None);
    for value in ADDRESSES.iter().filter_map(|path| value_at(&entry.metadata, path)) {
        let texts = match value {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            value => value.as_str().into_iter().collect::<Vec<_>>(),
        };
        for text in texts.into_iter().flat_map(|text| text.split(',')).map(str::trim) {
            match address(text) {
                Some(Address { ip, port, zone }) if !ips.contains(&ip) => {
                    ips.push(ip);
                    if ips.len() == 1 {
                        let fields =
                            [("port", port.map(Value::from)), ("interface_name", zone.map(Value::from))];
                        first.extend(
                            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))),
                        );
                    }
                }
                None if hostname.is_none() && is_hostname(text) => hostname = Some(text.to_owned()),
                Some(_) | None => {}
            }
        }
    }
    let mut endpoint = first;
    if let Some((ip, others)) = ips.split_first() {
        endpoint.insert("ip".to_owned(), json!(ip));
        if !others.is_empty() {
            endpoint.insert("intermediate_ips".to_owned(), json!(others));
        }
    }
    if let Some(hostname) = hostname {
        endpoint.insert("hostname".to_owned(), json!(hostname));
    }
    if endpoint.is_empty() {
        let host = named(entry, &HOSTS).unwrap_or_else(|| "unknown".to_owned());
        endpoint.insert("name".to_owned(), json!(host));
    }
    endpoint.into()
}

/// An address as it was given.
struct Address<'a> {
    ip: IpAddr,
    port: Option<u16>,
    /// The interface to which an address of IPv6 belongs.
    zone: Option<&'a str>,
}

/// The address in this text: `10.0.0.1`, `10.0.0.1:443`, `2001:db8::1`, `[2001:db8::1]:443`, `fe80::1%eth0`.
fn address(text: &str) -> Option<Address<'_>> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        (host, after.strip_prefix(':').and_then(|port| port.parse().ok()))
    } else if let Ok(socket) = text.parse::<SocketAddrV4>() {
        return Some(Address { ip: (*socket.ip()).into(), port: Some(socket.port()), zone: None });
    } else {
        (text, None)
    };
    let (host, zone) = host.split_once('%').map_or((host, None), |(host, zone)| (host, Some(zone)));
    Some(Address { ip: host.parse().ok()?, port, zone: zone.filter(|zone| !zone.is_empty()) })
}

/// Whether the text can be the name of a machine: words of letters, digits and hyphens between dots.
fn is_hostname(text: &str) -> bool {
    let is_word = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !word.is_empty()
            && !word.starts_with('-')
            && !word.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_word)
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

fn severity(risk: Option<f64>) -> (u32, &'static str) {
    let Some(risk) = risk else { return (0, "Unknown") };
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
        SequencedEntry {
            ledger: "main".into(),
            seq: 7,
            committed_at: entry.ts,
            problems: Vec::new(),
            unscored: false,
            entry,
        }
    }

    proptest! {
        #[test]
        fn any_entry_becomes_an_event_that_the_schema_allows(
            (action, resource) in ("[a-z.:]{0,12}", "[a-z]{0,3}"), resource_id in proptest::option::of("[a-z]{0,3}"),
            decision in prop_oneof![Just("Allow"), Just("Deny"), Just("Mask"), Just(""), Just("Perhaps")],
            risk in any::<f64>(), reason in proptest::option::of(".*"), agent: Option<bool>, session: Option<u128>,
            ip in prop_oneof![
                Just(Value::Null), Just(json!("10.0.0.1")), Just(json!("nowhere")), Just(json!(5)), Just(json!("no where")),
                Just(json!(["10.0.0.1", "fe80::1%eth0", 5])), Just(json!("[2001:db8::1]:443, 10.0.0.2"))
            ],
            context in prop_oneof![
                Just(Value::Null), "[a-z]{0,3}".prop_map(Value::from), any::<u64>().prop_map(Value::from),
                Just(json!(["a", 1])), Just(json!({ "a": 1 }))
            ],
            unscored: bool,
        ) {
            let mut found = entry(&action, decision);
            let named = agent.map(|named| if named { audit_id("alice") } else { Uuid::nil() });
            found.unscored = unscored;
            found.entry = AuditEntry {
                resource, resource_id, reason, risk_score: risk, agent_id: named, session_id: session.map(Uuid::from_u128),
                metadata: json!({ "ip": ip, "agent_id": "alice", "request_id": context, "service": context, "trace_id": context,
                    "user_id": context, "session_id": context }),
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
    fn no_id_and_no_address_is_lost_whatever_its_form() {
        let wide = "340282366920938463463374607431768211455";
        let mut found = entry("document.read", "Allow");
        let of = |found: &mut SequencedEntry, metadata: Value| {
            found.entry.metadata = metadata;
            let event = event(found);
            check(&schema(), "api_activity", &event);
            event
        };
        for (given, expected) in [
            (json!(42), "42"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(-7), "-7"),
            (json!(wide), wide),
        ] {
            for (request, trace) in
                [("request_id", "trace_id"), ("request.id", "trace.id"), ("requestID", "traceId")]
            {
                let event = of(&mut found, json!({ (request): given, (trace): given, "user_id": given }));
                assert_eq!(event["api"]["request"]["uid"], expected, "{request}");
                assert_eq!(event["metadata"]["correlation_uid"], expected, "{trace}");
                assert_eq!(event["actor"]["user"], json!({ "uid": expected }));
            }
        }
        for (metadata, expected) in [
            (json!({ "ip": "2001:db8::1" }), json!({ "ip": "2001:db8::1" })),
            (json!({ "ip": "[2001:DB8::1]:443" }), json!({ "ip": "2001:db8::1", "port": 443 })),
            (json!({ "ip": "fe80::1%eth0" }), json!({ "ip": "fe80::1", "interface_name": "eth0" })),
            (json!({ "client.address": "10.0.0.1:80" }), json!({ "ip": "10.0.0.1", "port": 80 })),
            (
                json!({ "sourceIPs": ["10.0.0.1", "10.0.0.2", "10.0.0.1"] }),
                json!({ "ip": "10.0.0.1", "intermediate_ips": ["10.0.0.2"] }),
            ),
            (
                json!({ "x_forwarded_for": "10.0.0.1, 2001:db8::2", "network.peer.address": "10.0.0.3" }),
                json!({ "ip": "10.0.0.1", "intermediate_ips": ["2001:db8::2", "10.0.0.3"] }),
            ),
            (json!({ "sourceIPAddress": "s3.amazonaws.com" }), json!({ "hostname": "s3.amazonaws.com" })),
            (json!({ "ip": "/run/socket", "host": 7 }), json!({ "name": "7" })),
            (json!({}), json!({ "name": "unknown" })),
        ] {
            assert_eq!(of(&mut found, metadata)["src_endpoint"], expected);
        }
        found.entry.workspace_id = Uuid::from_u128(1);
        found.entry.agent_id = Some(audit_id("7"));
        found.entry.session_id = Some(audit_id("s-1"));
        let event = of(&mut found, json!({ "agent_id": 7, "session_id": "s-1", "user_id": "bob" }));
        let expected = json!({ "uid": audit_id("7"), "name": "7", "uid_alt": "bob" });
        assert_eq!(event["actor"]["user"], expected);
        assert_eq!(event["actor"]["session"], json!({ "uid": audit_id("s-1"), "uid_alt": "s-1" }));
        assert_eq!(event["metadata"]["tenant_uid"], json!(Uuid::from_u128(1)));
    }

    #[test]
    fn a_score_that_nobody_gave_is_absent_and_its_severity_unknown() {
        let mut found = entry("document.read", "Allow");
        let scored = event(&found);
        assert_eq!(
            (&scored["severity"], &scored["unmapped"]["risk_score"]),
            (&json!("Informational"), &json!(0.0))
        );
        found.unscored = true;
        let unscored = event(&found);
        assert_eq!((&unscored["severity_id"], &unscored["severity"]), (&json!(0), &json!("Unknown")));
        assert_eq!(unscored["unmapped"].get("risk_score"), None);
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
