// An exported file answers as the log did that it was exported from, or says what is wrong with it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{
    AuditEntry, AuditQuery, AuditReader, Decision, SequencedEntry,
    export::{Csv, ExportFormat, OpenedExport},
    query::{Column, CountBy},
};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

use super::log;
use crate::support::{Fixture, all, block_on, texts};

fn exported(reader: &AuditReader, query: AuditQuery, format: impl Into<tracing_audit::export::FileFormat>) -> Vec<u8> {
    let mut file = Vec::new();
    block_on(reader.export(query, format, &mut file)).unwrap();
    file
}

fn opened(file: &[u8]) -> OpenedExport {
    block_on(AuditReader::open_export(file, None)).unwrap()
}

/// The records of other audit logs, each with its action and its metadata.
fn records() -> Vec<(String, Value)> {
    let mut records = Vec::new();
    for (file, action) in [
        (include_str!("../../data/kubernetes.jsonl"), "/verb"),
        (include_str!("../../data/vault.jsonl"), "/type"),
        (include_str!("../../data/github.jsonl"), "/action"),
    ] {
        for line in file.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            records.push((record.pointer(action).unwrap().as_str().unwrap().to_owned(), record));
        }
    }
    for line in include_str!("../../data/auditd.log").lines() {
        let (kind, rest) = line.strip_prefix("type=").unwrap().split_once(' ').unwrap();
        let fields: BTreeMap<_, _> =
            rest.split([' ', '\u{1d}']).filter_map(|field| field.split_once('=')).collect();
        records.push((kind.to_owned(), json!({ "record": line, "fields": fields })));
    }
    records
}

/// A log with entries of every kind: as values, as events, with problems, without a score, and hostile ones.
fn filled() -> Fixture {
    let fixture = log();
    let writer = fixture.log.writer();
    let hostile = ["a;=1+1", "\u{2028}\u{85}\r\n\t\"", "é\u{202e}\u{200b}日本", "'=x", "\u{1b}[2J"];
    for n in 0..40_usize {
        let text = hostile[n % hostile.len()];
        let number = u32::try_from(n).unwrap();
        let id = |n: usize| Uuid::from_u128(n as u128);
        let ts = chrono::DateTime::from_timestamp_micros((i64::from(number) - 7) * 1_500_000_333_001).unwrap();
        let entry = AuditEntry {
            id: id(n * 7919 + 1),
            session_id: (n % 3 == 0).then(|| id(n / 3)),
            agent_id: (n % 2 == 0).then(|| id(n % 4)),
            resource_id: (n % 5 > 0).then(|| text.to_owned()),
            decision: ["Allow", "Deny", "Mask", "", "=no"][n % 5].to_owned(),
            reason: (n % 4 > 0).then(|| text.repeat(n)),
            risk_score: f64::from(number) / 40.0,
            metadata: match n % 4 {
                0 => json!({ "n": [n, -0.0, 1e300, u64::MAX, i64::MIN], (text): { "client.ip": text } }),
                1 => json!(text),
                2 => json!([null, true, { "a": { "b": {} } }]),
                _ => json!({}),
            },
            ts,
            ..AuditEntry::new(id(n % 2), ["read", "write"][n % 2], "document")
        };
        writer.blocking().write(entry).unwrap();
        if n % 9 == 0 {
            writer.blocking().flush().unwrap();
        }
    }
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(fixture.log.layer()));
    dispatcher::with_default(&dispatch, || {
        info!(target: "audit", action = "unscored", agent_id = "alice", request_id = u128::MAX, occurred_at = "noon");
        info!(target: "audit", action = "scored", agent_id = "ali\u{200b}ce", risk_score = 0.0, "a\u{2029}b");
        for (action, record) in records() {
            info!(target: "audit", action, metadata = record.to_string());
        }
    });
    fixture.settle();
    fixture
}

#[test]
fn an_exported_file_answers_as_the_log_did() {
    let fixture = filled();
    let reader = fixture.log.reader();
    let file = exported(&reader, AuditQuery::new(), ExportFormat::JsonLines);
    // A line is a line for every program.
    let text = std::str::from_utf8(&file).unwrap();
    assert!(!text.contains(['\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}', '\r', '\u{1d}']));
    let opened = opened(&file);
    let [ledger] = opened.ledgers.as_slice() else { panic!("{opened:?}") };
    let there = &ledger.reader;
    let expected: Vec<SequencedEntry> = fixture.entries();
    assert_eq!((ledger.entries, ledger.missing, ledger.first_seq), (expected.len() as u64, 0, 0));
    assert_eq!(block_on(all(there)), expected);
    let of = |action: &str| expected.iter().find(|found| found.entry.action == action).unwrap();
    assert_eq!((of("unscored").risk_score(), of("scored").risk_score()), (None, Some(0.0)));
    assert!(!of("unscored").problems.is_empty());
    let unscored = serde_json::to_value(of("unscored")).unwrap();
    assert!(unscored.get("risk_score").is_none(), "{unscored}");

    let layout = Csv::new().columns(["seq", "ledger", "id", "risk_score", "committed_at", "problems", "metadata"]).unwrap();
    let ids = [Uuid::from_u128(1), expected[7].entry.id];
    for query in [
        AuditQuery::new(),
        AuditQuery::new().decision(Decision::Deny),
        AuditQuery::new().risk_at_least(0.0),
        AuditQuery::new().workspace_id(Uuid::from_u128(1)).limit(7),
        AuditQuery::new().since(chrono::DateTime::UNIX_EPOCH).with_problems(),
        AuditQuery::new().committed_since(expected[20].committed_at),
        AuditQuery::new().metadata_any_of("client.ip", ["nothing"]),
        AuditQuery::new().action_prefix("re").from_seq(3).before_seq(30),
    ] {
        let both = |ask: &dyn Fn(&AuditReader) -> Vec<u8>| {
            let (here, there) = (ask(&reader), ask(there));
            assert!(here == there, "{query:?}: {}\n{}", String::from_utf8_lossy(&here), String::from_utf8_lossy(&there));
        };
        both(&|reader| exported(reader, query.clone(), ExportFormat::JsonLines));
        both(&|reader| exported(reader, query.clone(), ExportFormat::Ocsf));
        both(&|reader| exported(reader, query.clone(), ExportFormat::Csv));
        both(&|reader| exported(reader, query.clone(), layout.clone()));
        let answers = async |reader: &AuditReader| {
            let by_time: Vec<_> = reader.stream_by_time(query.clone()).try_collect().await.unwrap();
            let counts = reader.count_by(query.clone(), CountBy::Column(Column::Action)).await.unwrap();
            let days = reader.count_by(query.clone(), CountBy::Day).await.unwrap();
            let count = reader.count(query.clone()).await.unwrap();
            let found = reader.query(query.clone()).await.unwrap();
            (by_time, counts, days, count, found, reader.get(ids[0]).await.unwrap(), reader.get(ids[1]).await.unwrap())
        };
        assert_eq!(block_on(answers(there)), block_on(answers(&reader)), "{query:?}");
    }
    // Several readers at once, one of which has not ended.
    block_on(async {
        let mut streams: Vec<_> = (0..3).map(|_| Box::pin(there.stream_by_time(AuditQuery::new()))).collect();
        for stream in &mut streams {
            stream.try_next().await.unwrap().unwrap();
        }
        assert_eq!(there.count(AuditQuery::new()).await.unwrap(), expected.len() as u64);
    });
    // Nothing can be recorded there.
    let recorded = there.clone().recorded_as("Ada");
    assert!(recorded.blocking().count(AuditQuery::new()).unwrap_err().is_store());
}

#[test]
fn records_of_other_audit_logs_are_kept_found_and_exported_byte_for_byte() {
    let fixture = filled();
    let reader = fixture.log.reader();
    let file = exported(&reader, AuditQuery::new(), ExportFormat::JsonLines);
    let opened = opened(&file);
    let stored = texts(&fixture.db, "SELECT CAST(metadata AS TEXT) FROM tracing_audit_entries ORDER BY seq");
    let records = records();
    assert_eq!(records.len(), 10);
    let lines: Vec<Value> =
        file.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let first = stored.len() - records.len();
    let place = |found: &SequencedEntry| usize::try_from(found.seq).unwrap() - first;
    for (n, (_, record)) in records.iter().enumerate() {
        assert_eq!(stored[first + n], record.to_string());
        assert_eq!(lines[first + n]["metadata"].to_string(), record.to_string());
        assert_eq!(lines[first + n]["problems"], json!([]), "{}", lines[first + n]);
    }
    for (path, value, expected) in [
        ("objectRef.resource", "secrets", &[0][..]),
        ("sourceIPs[1]", "2001:db8::17", &[0]),
        ("annotations.\"authorization.k8s.io/decision\"", "forbid", &[1]),
        ("user.extra.\"authentication.kubernetes.io/pod-name\"[0]", "ledger-6d8f7c9b5-x2x9k", &[0]),
        ("request.id", "f3a0f0b1-5d2e-4bb3-96e8-7f2bd1f20a11", &[2, 3]),
        ("response.data.metadata.version", "18446744073709551615", &[3]),
        ("business_id", "9007199254740993", &[4]),
        ("@timestamp", "1794916860456", &[5]),
        ("reasons[0].code", "review_policy_not_satisfied", &[5]),
        ("token_scopes", "repo,\u{2028}workflow", &[5]),
        ("fields.addr", "198.51.100.7", &[9]),
        ("fields.exe", "\"/usr/bin/cat\"", &[6]),
    ] {
        for reader in [&reader, &opened.ledgers[0].reader] {
            let query = AuditQuery::new().metadata_any_of(path, [value]);
            let found: Vec<SequencedEntry> = block_on(reader.stream(query).try_collect()).unwrap();
            let found: Vec<usize> = found.iter().map(place).collect();
            assert_eq!(found, expected, "{path}");
        }
    }
    // None of their cells runs in a spreadsheet, and their addresses are OCSF's.
    let csv = String::from_utf8(exported(&reader, AuditQuery::new(), Csv::new().separator(';').unwrap())).unwrap();
    assert!(csv.contains("required;\\u003dHYPERLINK") && !csv.contains(";=HYPERLINK"));
    let events = exported(&reader, AuditQuery::new().from_seq(first as u64), ExportFormat::Ocsf);
    let events: Vec<Value> =
        std::str::from_utf8(&events).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let source = |n: usize| &events[n]["src_endpoint"];
    assert_eq!(*source(0), json!({ "ip": "10.244.1.17", "intermediate_ips": ["2001:db8::17"] }));
    assert_eq!((&source(2)["ip"], &source(4)["ip"]), (&json!("10.0.3.4"), &json!("203.0.113.9")));
    assert_eq!(events[2]["api"]["request"]["uid"], "f3a0f0b1-5d2e-4bb3-96e8-7f2bd1f20a11");
}

#[test]
fn a_file_that_is_not_whole_is_refused_with_the_numbers_of_its_lines() {
    let fixture = filled();
    let file = exported(&fixture.log.reader(), AuditQuery::new().before_seq(9), ExportFormat::JsonLines);
    let lines: Vec<&str> = std::str::from_utf8(&file).unwrap().lines().collect();
    let joined = |lines: &[&str]| lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
    let with = |place: usize, line: &str| {
        let mut lines = lines.clone();
        lines[place] = line;
        joined(&lines)
    };
    let field = |place: usize, name: &str, value: Value| {
        let mut line: Value = serde_json::from_str(lines[place]).unwrap();
        line[name] = value;
        line.to_string()
    };
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(3, 4);
        joined(&lines)
    };
    let twice = joined(&[&lines[..], &lines[8..]].concat());
    let id = serde_json::from_str::<Value>(lines[2]).unwrap()["id"].clone();
    for (file, told) in [
        (with(4, ""), "line 5 is not an entry"),
        (with(4, "{\"ledger\":\"main\",\"seq\":4}"), "line 5 is not an entry: missing field"),
        (with(4, lines[4].get(..200).unwrap()), "line 5 is not an entry"),
        (with(0, "id,session_id,workspace_id"), "line 1 is not an entry"),
        (with(4, &field(4, "seq", json!(3))), "line 5 has seq 3 after seq 3"),
        (with(4, &field(4, "id", id)), "line 5 has the id of the entry with seq 2"),
        (with(4, &field(4, "ts", json!("2026-11-17T12:00:00.1234567Z"))), "line 5 has a ts that no entry can have"),
        (with(4, &field(4, "seq", json!(u64::MAX))), "line 5 has a seq that no entry can have"),
        (with(4, &field(4, "id", json!("x"))), "line 5 is not an entry"),
        (with(4, &lines[4].replacen("\"metadata\":", "\"metadata\":[1e400],\"x\":", 1)), "line 5"),
        (with(4, &lines[4].replacen("\"seq\":", "\"note\":12345678901234567890123,\"seq\":", 1)), "line 5 holds a number that would be rounded"),
        (with(4, &lines[4].replacen("\"seq\":", "\"note\":{\"a\":1,\"a\":2},\"seq\":", 1)), "line 5 holds two equal keys"),
        (swapped, "line 5 has seq 3 after seq 4"),
        (twice, "line 10 has seq 8 after seq 8"),
        (joined(&lines).trim_end().to_owned(), "line 9 is not complete: the file was cut"),
        (joined(&lines).get(..file.len() - 40).unwrap().to_owned(), "line 9 is not complete"),
        ("x\n".repeat(500), "line 10 is not an entry: expected value at line 1 column 1; and 490 more lines"),
    ] {
        let error = block_on(AuditReader::open_export(file.as_bytes(), None)).unwrap_err();
        assert!(error.is_store() && error.to_string().contains(told), "{told}: {error}");
        assert!(error.to_string().contains("nothing was read from it"), "{error}");
    }
    let mut bytes = file.clone();
    bytes[30] = 0xff;
    let error = block_on(AuditReader::open_export(bytes.as_slice(), None)).unwrap_err();
    assert!(error.to_string().contains("line 1 is not UTF-8"), "{error}");

    // An export with conditions has gaps, and so has one from which lines were removed: they are counted.
    let gaps = |file: &str| {
        let opened = opened(file.as_bytes());
        let ledgers = opened.ledgers.iter();
        ledgers.map(|one| (one.name.clone(), one.entries, one.first_seq, one.last_seq, one.missing, one.first_missing)).collect::<Vec<_>>()
    };
    let main = "main".to_owned();
    assert_eq!(gaps(&joined(&lines)), [(main.clone(), 9, 0, 8, 0, None)]);
    let some = joined(&[lines[1], lines[2], lines[5], lines[8]]);
    assert_eq!(gaps(&some), [(main.clone(), 4, 1, 8, 4, Some((2, 3)))]);
    assert_eq!(gaps(""), []);
    // Ledgers may be one after the other, or mixed.
    let other = |place: usize| field(place, "ledger", json!("=other"));
    let mixed = joined(&[lines[0], &other(0), lines[1], &other(1), &other(7)]);
    assert_eq!(gaps(&mixed), [("=other".to_owned(), 3, 0, 7, 5, Some((4, 2))), (main, 2, 0, 1, 0, None)]);
    if fixture.db.starts_with("postgres") {
        return;
    }
    let many: String = (0..40).map(|n| field(0, "ledger", json!(n.to_string())) + "\n").collect();
    let error = block_on(AuditReader::open_export(many.as_bytes(), None)).unwrap_err();
    assert!(error.to_string().contains("more than 32 ledgers"), "{error}");
}
