// Entries come out as they went in: exactly through the database, to four decimals through CSV. Any query finds what a
// plain scan in memory finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{self, Excluded, Included},
    pin::pin,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use serde_json::{Value, json};
use super::log;
use crate::support::{Fixture, block_on, heavy};
use tracing_audit::{AuditEntry, AuditFilter, AuditQuery, AuditReader, Decision, SequencedEntry, export::{Csv, ExportFormat}, query::{Column, CountBy, ZoneOffsets}, reader::{Counted, Cursor, Page}};
use uuid::Uuid;

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

/// Years 1 to 9999, the ends included.
fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    let (least, greatest) = (-62_135_596_800_000_000_i64, 253_402_300_799_999_999_i64);
    prop_oneof![least..=greatest, Just(least), Just(greatest), Just(-1), Just(0)].prop_map(time)
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = "[^\0]*";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(text, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    /// An entry in normal form, of any content.
    fn any_entry()(
        (id, workspace, session, agent) in any::<(u128, u128, Option<u128>, Option<u128>)>(),
        action in "[^\0]*", resource in "['=+@\t\r\n\",-]{0,3}[^\0]{0,9}", resource_id in proptest::option::of("[^\0]*"),
        decision in prop_oneof![Just("Allow".to_owned()), Just("Deny".to_owned()), Just(String::new()), "[^\0]{0,9}"],
        reason in proptest::option::of("[^\0]*"),
        risk_score in prop_oneof![proptest::num::f64::NORMAL, Just(0.0), 0.0..1.0],
        metadata in any_json(), ts in any_time(),
    ) -> AuditEntry {
        AuditEntry {
            id: Uuid::from_u128(id), session_id: session.map(Uuid::from_u128), workspace_id: Uuid::from_u128(workspace),
            agent_id: agent.map(Uuid::from_u128), action, resource, resource_id, decision, reason, risk_score, metadata, ts,
        }
    }
}

/// Writes entries and waits for them.
fn write(fixture: &Fixture, entries: &[AuditEntry]) {
    let writer = fixture.log.writer();
    block_on(async {
        for entry in entries {
            writer.write(entry.clone()).await.unwrap();
        }
    });
    writer.blocking().flush().unwrap();
}

/// The cell without the `'`s that guard formulas.
fn unguarded(text: &str) -> String {
    Csv::new().original(text).into_owned()
}

fn from_csv(row: &csv::StringRecord) -> AuditEntry {
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let id = |at: usize| optional(&row[at]).map(|id| id.parse().unwrap());
    AuditEntry {
        id: id(0).unwrap(),
        session_id: id(1),
        workspace_id: id(2).unwrap(),
        agent_id: id(3),
        action: unguarded(&row[4]),
        resource: unguarded(&row[5]),
        resource_id: optional(&unguarded(&row[6])),
        decision: unguarded(&row[7]),
        reason: optional(&unguarded(&row[8])),
        risk_score: row[9].parse().unwrap(),
        ts: row[10].parse().unwrap(),
        metadata: serde_json::from_str(&unguarded(&row[11])).unwrap(),
    }
}

/// The entry as a CSV holds it: four decimals, and no difference between an absent and an empty text.
fn as_csv_tells(entry: &AuditEntry) -> AuditEntry {
    AuditEntry {
        risk_score: format!("{:.4}", entry.risk_score).parse().unwrap(),
        reason: entry.reason.clone().filter(|text| !text.is_empty()),
        resource_id: entry.resource_id.clone().filter(|text| !text.is_empty()),
        ..entry.clone()
    }
}

fn newest_first(entries: &mut [SequencedEntry]) {
    entries.sort_by_key(|found| std::cmp::Reverse((found.entry.ts, found.seq)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_normalized_entry_comes_back_exactly_and_as_csv(entries in proptest::collection::vec(any_entry(), 1..20)) {
        let fixture = log();
        write(&fixture, &entries);
        let mut found = fixture.entries();
        let seqs: Vec<u64> = found.iter().map(|found| found.seq).collect();
        prop_assert_eq!(seqs, (0..entries.len() as u64).collect::<Vec<_>>());
        let stored: Vec<AuditEntry> = found.iter().map(|found| found.entry.clone()).collect();
        prop_assert_eq!(&stored, &entries);

        newest_first(&mut found);
        let mut bytes = Vec::new();
        let count = block_on(fixture.log.reader().export_csv(AuditFilter::default(), &mut bytes)).unwrap();
        prop_assert_eq!(count, entries.len() as u64);
        let mut csv = csv::Reader::from_reader(bytes.as_slice());
        prop_assert_eq!(
            csv.headers().unwrap().iter().collect::<Vec<_>>().join(","),
            "id,session_id,workspace_id,agent_id,action,resource,resource_id,decision,reason,risk_score,ts,metadata"
        );
        let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let number = column == 9;
                prop_assert!(number || !cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{}", cell);
            }
        }
        let read: Vec<AuditEntry> = rows.iter().map(from_csv).collect();
        let expected: Vec<AuditEntry> = found.iter().map(|found| as_csv_tells(&found.entry)).collect();
        prop_assert_eq!(read, expected);
    }
}

thread_local! {
    /// What metadata may look like, the shapes that databases read in ways of their own among them.
    static METADATA: Vec<Value> = vec![
        json!({}),
        json!({ "ip": "10.0.0.1", "client": { "ip": "10.0.0.1" } }),
        json!({ "ip": 5, "client": { "ip": ["10.0.0.1", 5, { "a.b": null }] } }),
        json!({ "ip": "5", "client": "10.0.0.1" }),
        json!({ "ip": null, "client": [1.5, true, "a\"\\\n\u{1}'é"] }),
        json!({ "0": "zero", "a.b": "dotted", "@x": "at", "it's": "5", "b\\s": "5", "é": "5" }),
        json!([{ "ip": "10.0.0.1" }]),
        json!("10.0.0.1"),
    ];
}

const PATHS: [(&str, &str); 12] = [
    ("ip", "/ip"),
    ("client.ip", "/client/ip"),
    ("client.ip[0]", "/client/ip/0"),
    ("client.ip[2].\"a.b\"", "/client/ip/2/a.b"),
    ("client[0]", "/client/0"),
    ("client[2]", "/client/2"),
    ("\"a.b\"", "/a.b"),
    ("@x", "/@x"),
    ("it's", "/it's"),
    ("b\\s", "/b\\s"),
    ("é", "/é"),
    ("none", "/none"),
];

const VALUES: [&str; 10] =
    ["10.0.0.1", "5", "null", "true", "1.50", "a\"\\\n\u{1}'é", "dotted", "at", "zero", "[1]"];

/// One more condition, and whether an entry meets it.
#[derive(Debug, Clone)]
enum Further {
    AnyOf(Column, Vec<&'static str>, bool),
    Prefix(&'static str),
    AtMost(f64),
    Metadata(usize, Vec<&'static str>, bool),
    Containing(&'static str),
    Problems(bool),
    Before(i64),
    Seqs(u64, u64),
}

fn any_further() -> impl Strategy<Value = Further> {
    let names = ["read", "write", "document", "=cmd", "0", "2", "Deny", "Mask", "of it", "00000000-0000-0000-0000-000000000001"];
    let some = || proptest::sample::subsequence(names.to_vec(), 0..4);
    prop_oneof![
        (proptest::sample::select(Column::ALL.to_vec()), some(), any::<bool>())
            .prop_map(|(column, values, within)| Further::AnyOf(column, values, within)),
        proptest::sample::select(vec!["", "r", "read", "wr", "x"]).prop_map(Further::Prefix),
        (0..12_u32).prop_map(|risk| Further::AtMost(f64::from(risk) / 10.0)),
        (0..PATHS.len(), proptest::sample::subsequence(VALUES.to_vec(), 0..4), any::<bool>())
            .prop_map(|(path, values, within)| Further::Metadata(path, values, within)),
        proptest::sample::select(vec!["", "CAUSE", "äb", "ÄB", "of", "=CMD", "%", "_"]).prop_map(Further::Containing),
        any::<bool>().prop_map(Further::Problems),
        (-1500..7000_i64).prop_map(Further::Before),
        (0..40_u64, prop_oneof![0..70_u64, Just(u64::MAX)]).prop_map(|(from, before)| Further::Seqs(from, before)),
    ]
}

impl Further {
    fn add(&self, query: AuditQuery) -> AuditQuery {
        match self {
            Self::AnyOf(column, values, true) => query.any_of(*column, values.iter().copied()),
            Self::AnyOf(column, values, false) => query.none_of(*column, values.iter().copied()),
            Self::Prefix(prefix) => query.action_prefix(*prefix),
            Self::AtMost(risk) => query.risk_at_most(*risk),
            Self::Metadata(path, values, true) => query.metadata_any_of(PATHS[*path].0, values.iter().copied()),
            Self::Metadata(path, values, false) => query.metadata_none_of(PATHS[*path].0, values.iter().copied()),
            Self::Containing(text) => query.containing(text),
            Self::Problems(true) => query.with_problems(),
            Self::Problems(false) => query.without_problems(),
            Self::Before(nanos) => query.before(DateTime::from_timestamp_nanos(*nanos)),
            Self::Seqs(from, before) => query.from_seq(*from).before_seq(*before),
        }
    }

    fn matches(&self, found: &SequencedEntry) -> bool {
        let entry = &found.entry;
        match self {
            Self::AnyOf(column, values, within) => {
                let id = |id: Uuid| Some(id.to_string());
                let value = match column {
                    Column::Id => id(entry.id),
                    Column::WorkspaceId => id(entry.workspace_id),
                    Column::SessionId => entry.session_id.and_then(id),
                    Column::AgentId => entry.agent_id.and_then(id),
                    Column::Action => Some(entry.action.clone()),
                    Column::Resource => Some(entry.resource.clone()),
                    Column::ResourceId => entry.resource_id.clone(),
                    Column::Decision => Some(entry.decision.clone()),
                    _ => entry.reason.clone(),
                };
                value.is_some_and(|value| values.contains(&&*value)) == *within
            }
            Self::Prefix(prefix) => entry.action.starts_with(prefix),
            Self::AtMost(risk) => entry.risk_score <= *risk,
            Self::Metadata(path, values, within) => {
                // An index where an object is, or a key where a list is, leads nowhere.
                let steps = PATHS[*path].1.split('/').skip(1);
                let indexed = PATHS[*path].0.contains('[');
                let mut at = Some(&entry.metadata);
                for step in steps {
                    at = at.and_then(|value| match value {
                        Value::Object(map) => map.get(step),
                        Value::Array(list) if indexed => list.get(step.parse::<usize>().ok()?),
                        _ => None,
                    });
                }
                let is = |text: &&str| match at {
                    Some(Value::String(value)) => value == text,
                    Some(Value::Number(value)) => {
                        value.to_string() == *text || (*text == "1.50" && *value == serde_json::Number::from_f64(1.5).unwrap())
                    }
                    Some(Value::Null) => *text == "null",
                    Some(Value::Bool(value)) => *text == if *value { "true" } else { "false" },
                    _ => false,
                };
                values.iter().any(is) == *within
            }
            Self::Containing(text) => {
                let text = text.to_ascii_lowercase();
                [Some(&entry.action), Some(&entry.resource), entry.reason.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|field| field.to_ascii_lowercase().contains(&text))
            }
            Self::Problems(some) => found.problems.is_empty() != *some,
            Self::Before(nanos) => entry.ts < cut(DateTime::from_timestamp_nanos(*nanos)),
            Self::Seqs(from, before) => (*from..*before).contains(&found.seq),
        }
    }
}

/// Few values, so that filters meet something.
fn small_world() -> impl Strategy<Value = Vec<AuditEntry>> {
    let entry = (
        0..3_u128,
        proptest::option::of(0..3_u128),
        proptest::option::of(0..2_u128),
        0..4_usize,
        0..3_usize,
        0..6_i64,
        -2..12_i32,
    );
    proptest::collection::vec(entry, 0..60).prop_map(|entries| {
        entries
            .into_iter()
            .enumerate()
            .map(|(number, (workspace, session, agent, decision, resource, ts, risk))| {
                let mut entry = AuditEntry::new(
                    Uuid::from_u128(workspace),
                    ["read", "write", "delete"][number % 3],
                    ["document", "report", "=cmd"][resource],
                );
                entry.session_id = session.map(Uuid::from_u128);
                entry.agent_id = agent.map(Uuid::from_u128);
                entry.decision = ["Allow", "Deny", "Mask", ""][decision].into();
                entry.resource_id = (number % 2 == 0).then(|| (number % 5).to_string());
                entry.risk_score = f64::from(risk) / 10.0;
                entry.reason = (number % 4 > 0).then(|| ["Because", "ÄB", "of it"][number % 3].to_owned());
                entry.metadata = METADATA.with(|all| all[number % all.len()].clone());
                entry.ts = time(ts);
                entry
            })
            .collect()
    })
}

prop_compose! {
    fn any_query()(
        workspace in proptest::option::weighted(0.4, 0..4_u128), session in proptest::option::weighted(0.3, 0..4_u128),
        agent in proptest::option::weighted(0.2, 0..3_u128), decision in proptest::option::weighted(0.4, 0..4_usize),
        resource in proptest::option::weighted(0.3, 0..4_usize), action in proptest::option::weighted(0.2, 0..2_usize),
        resource_id in proptest::option::weighted(0.1, 0..5_u32), risk in proptest::option::weighted(0.3, 0..12_u32),
        // In nanoseconds, so that bounds fall between microseconds too.
        start in proptest::option::weighted(0.3, -1500..7000_i64), end in proptest::option::weighted(0.3, -1500..7000_i64),
        limit in proptest::option::weighted(0.3, 0..20_u32), further in proptest::collection::vec(any_further(), 0..3),
    ) -> Plain {
        Plain {
            filter: AuditFilter {
                workspace_id: workspace.map(Uuid::from_u128),
                session_id: session.map(Uuid::from_u128),
                decision: decision.map(|at| ["Allow", "Deny", "Mask", ""][at].to_owned()),
                start_time: start.map(DateTime::from_timestamp_nanos),
                end_time: end.map(DateTime::from_timestamp_nanos),
                resource: resource.map(|at| ["document", "report", "=cmd", "none"][at].to_owned()),
                limit,
            },
            agent: agent.map(Uuid::from_u128),
            action: action.map(|at| ["read", "write"][at]),
            resource_id: resource_id.map(|id| id.to_string()),
            risk: risk.map(|risk| f64::from(risk) / 10.0),
            further,
        }
    }
}

/// A bound as it counts: cut to microseconds, as the times of entries are.
fn cut(bound: DateTime<Utc>) -> DateTime<Utc> {
    time(bound.timestamp_micros())
}

/// The plain scan: whether one entry meets the query.
fn matches(query: &Plain, found: &SequencedEntry) -> bool {
    let Plain { filter, agent, action, resource_id, risk, further } = query;
    let entry = &found.entry;
    // A call to `before` or `before_seq` takes the place of an earlier one.
    let last = |kind: fn(&Further) -> bool| further.iter().rposition(kind);
    let kept = [last(|one| matches!(one, Further::Before(_))), last(|one| matches!(one, Further::Seqs(..)))];
    let counts = |at: usize, one: &Further| {
        !matches!(one, Further::Before(_) | Further::Seqs(..)) || kept.contains(&Some(at))
    };
    further.iter().enumerate().all(|(at, one)| !counts(at, one) || one.matches(found))
        && filter.workspace_id.is_none_or(|id| id == entry.workspace_id)
        && filter.session_id.is_none_or(|id| entry.session_id == Some(id))
        && filter.decision.as_ref().is_none_or(|decision| *decision == entry.decision)
        && filter.start_time.is_none_or(|start| entry.ts >= cut(start))
        && filter.end_time.is_none_or(|end| entry.ts <= end)
        && filter.resource.as_ref().is_none_or(|resource| *resource == entry.resource)
        && agent.is_none_or(|id| entry.agent_id == Some(id))
        && action.is_none_or(|action| action == entry.action)
        && resource_id.as_ref().is_none_or(|id| entry.resource_id.as_ref() == Some(id))
        && risk.is_none_or(|risk| entry.risk_score >= risk)
}

#[derive(Debug, Clone)]
struct Plain {
    filter: AuditFilter,
    agent: Option<Uuid>,
    action: Option<&'static str>,
    resource_id: Option<String>,
    risk: Option<f64>,
    further: Vec<Further>,
}

impl Plain {
    fn query(&self, descending: bool) -> AuditQuery {
        let mut query = AuditQuery::from(self.filter.clone());
        if let Some(agent) = self.agent {
            query = query.agent_id(agent);
        }
        if let Some(action) = self.action {
            query = query.action(action);
        }
        if let Some(id) = &self.resource_id {
            query = query.resource_id(id);
        }
        if let Some(risk) = self.risk {
            query = query.risk_at_least(risk);
        }
        let query = self.further.iter().fold(query, |query, one| one.add(query));
        if descending { query.newest_first() } else { query }
    }
}

/// A query, whether it is asked backwards, the size of its pages, and the entry from or before whose commit it asks.
type Question = (Plain, bool, u32, Option<(usize, bool)>);

/// Asks in each way there is, and compares with the entries in memory.
fn agree(entries: &[AuditEntry], queries: Vec<Question>, cuts: Vec<usize>) -> Result<(), TestCaseError> {
    let fixture = log();
    // In several batches, since batches prune time ranges.
    let mut rest = entries;
    for cut in cuts {
        let (part, later) = rest.split_at(cut.min(rest.len()));
        write(&fixture, part);
        rest = later;
    }
    write(&fixture, rest);
    let stored = fixture.entries();
    prop_assert_eq!(stored.len(), entries.len());
    let reader = fixture.log.reader();
    for (plain, descending, size, commits) in queries {
        let commits = commits.and_then(|(at, since)| Some((stored.get(at % stored.len().max(1))?.committed_at, since)));
        let asked = |descending| match commits {
            None => plain.query(descending),
            Some((time, true)) => plain.query(descending).committed_since(time),
            Some((time, false)) => plain.query(descending).committed_before(time),
        };
        let query = asked(descending);
        let in_time = |found: &SequencedEntry| commits.is_none_or(|(time, since)| (found.committed_at >= time) == since);
        let all = stored.iter().filter(|found| matches(&plain, found) && in_time(found));
        let mut expected: Vec<_> = all.cloned().collect();
        prop_assert_eq!(block_on(reader.count(&query)).unwrap(), expected.len() as u64);

        if descending {
            expected.reverse();
        }
        let pages = block_on(pages(&reader, &query, size));
        prop_assert_eq!(&pages, &expected);

        let limit = plain.filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let streamed: Vec<_> = block_on(reader.stream(&query).try_collect()).unwrap();
        prop_assert_eq!(&streamed, &expected[..expected.len().min(limit)]);
        let mut lines = Vec::new();
        block_on(reader.export(&query, ExportFormat::JsonLines, &mut lines)).unwrap();
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter::<SequencedEntry>();
        prop_assert_eq!(lines.collect::<Result<Vec<_>, _>>().unwrap(), streamed);
        for by in counts() {
            let found = block_on(reader.count_by(&query, by.clone())).unwrap();
            prop_assert_eq!(found, counted(&expected, &by, limit));
        }
        let two = [CountBy::Column(Column::Decision), CountBy::DayIn(zone())];
        let found = block_on(reader.counts(&query, &two)).unwrap();
        let mut pairs: BTreeMap<_, u64> = BTreeMap::new();
        for found in &expected {
            let day = time(zone_time(found.entry.ts).0 * 1_000_000).format("%Y-%m-%d").to_string();
            *pairs.entry((found.entry.decision.clone(), day)).or_default() += 1;
        }
        prop_assert_eq!((found.distinct, found.entries), if found.counted.is_empty() { (0, 0) } else {
            (pairs.len() as u64, expected.len() as u64)
        });
        prop_assert_eq!(found.counted.len(), pairs.len().min(limit));
        for one in found.counted {
            let key = |index: usize| one.keys[index].key.clone().unwrap();
            prop_assert_eq!(pairs.get(&(key(0), key(1))), Some(&one.entries));
        }

        newest_first(&mut expected);
        let by_time = |latest| block_on(reader.stream_by_time(asked(latest)).try_collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(&by_time(true), &expected[..expected.len().min(limit)]);
        let earliest: Vec<_> = expected.iter().rev().take(limit).cloned().collect();
        prop_assert_eq!(by_time(false), earliest);
        expected.truncate(plain.filter.limit.map_or(usize::MAX, |limit| limit as usize));
        let expected: Vec<AuditEntry> = expected.into_iter().map(|found| found.entry).collect();
        prop_assert_eq!(block_on(reader.query(&query)).unwrap(), expected);
    }
    Ok(())
}

fn questions() -> impl Strategy<Value = Vec<Question>> {
    proptest::collection::vec((any_query(), any::<bool>(), 1..9_u32, any_commits()), 20)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..20_usize, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn any_query_finds_what_a_plain_scan_finds_in_the_same_order(entries in small_world(), queries in questions(), cuts in cuts()) {
        agree(&entries, queries, cuts)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "a sweep: .ci/sweep questions"]
    fn four_thousand_questions_find_what_a_plain_scan_finds(entries in small_world(), queries in questions(), cuts in cuts()) {
        agree(&entries, queries, cuts)?;
    }
}

/// Perhaps an entry, from or before whose commit a query asks.
fn any_commits() -> impl Strategy<Value = Option<(usize, bool)>> {
    proptest::option::weighted(0.3, (0..60_usize, any::<bool>()))
}

fn counts() -> Vec<CountBy> {
    let columns = Column::ALL.into_iter().map(CountBy::Column);
    let paths = PATHS.iter().take(2).map(|(path, _)| CountBy::Metadata((*path).to_owned()));
    let times = [CountBy::Hour, CountBy::Day, CountBy::Ledger, CountBy::HourIn(zone()), CountBy::DayIn(zone())];
    times.into_iter().chain(columns).chain(paths).collect()
}

/// The offsets of a clock that is set at some moments, in seconds. Until the first of them it is behind UTC.
const OFFSETS: [(i64, i32); 5] =
    [(i64::MIN, -12_600), (-2_208_988_800, 20_712), (946_684_800, 19_800), (1_774_746_000, 23_400), (1_792_890_000, 19_800)];

fn zone() -> ZoneOffsets {
    let [(_, first), changes @ ..] = OFFSETS;
    let since = |zone: ZoneOffsets, (moment, offset): (i64, i32)| zone.since(time(moment * 1_000_000), offset);
    changes.into_iter().fold(ZoneOffsets::new(first), since)
}

/// What that clock shows, in seconds since 1970, and its offset.
fn zone_time(ts: DateTime<Utc>) -> (i64, i64) {
    let offset = OFFSETS.into_iter().rev().find(|(moment, _)| ts.timestamp() >= *moment).unwrap().1;
    (ts.timestamp() + i64::from(offset), i64::from(offset))
}

/// Key, name, entries, first and last of what is counted by a plain scan.
fn counted(entries: &[SequencedEntry], by: &CountBy, limit: usize) -> Vec<Counted> {
    let mut groups: BTreeMap<(bool, Option<String>), Vec<&SequencedEntry>> = BTreeMap::new();
    for found in entries {
        let entry = &found.entry;
        let id = |id: Uuid| Some(id.to_string());
        let rounded = |seconds: i64| {
            let whole = time(entry.ts.timestamp().div_euclid(seconds) * seconds * 1_000_000);
            Some(whole.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        };
        let key = match by {
            CountBy::Hour => rounded(3600),
            CountBy::Day => rounded(86_400),
            CountBy::HourIn(_) => {
                let (shown, offset) = zone_time(entry.ts);
                let begin = (shown.div_euclid(3600) * 3600 - offset).max(-62_135_596_800);
                Some(time(begin * 1_000_000).to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            }
            CountBy::DayIn(_) => {
                Some(time(zone_time(entry.ts).0 * 1_000_000).format("%Y-%m-%d").to_string())
            }
            CountBy::Ledger => Some(found.ledger.clone()),
            CountBy::Column(Column::Id) => id(entry.id),
            CountBy::Column(Column::WorkspaceId) => id(entry.workspace_id),
            CountBy::Column(Column::SessionId) => entry.session_id.and_then(id),
            CountBy::Column(Column::AgentId) => entry.agent_id.and_then(id),
            CountBy::Column(Column::Action) => Some(entry.action.clone()),
            CountBy::Column(Column::Resource) => Some(entry.resource.clone()),
            CountBy::Column(Column::ResourceId) => entry.resource_id.clone(),
            CountBy::Column(Column::Decision) => Some(entry.decision.clone()),
            CountBy::Column(_) => entry.reason.clone(),
            CountBy::Metadata(path) => {
                let (_, pointer) = PATHS.iter().find(|(known, _)| known == path).unwrap();
                // Both paths are of keys only.
                let mut steps = pointer.split('/').skip(1);
                let value = steps.try_fold(&entry.metadata, |at, step| at.as_object()?.get(step));
                value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            }
            _ => unreachable!(),
        };
        groups.entry((key.is_none(), key)).or_default().push(found);
    }
    let mut counted: Vec<Counted> = groups
        .into_iter()
        .map(|((_, key), found)| {
            let times = || found.iter().map(|found| found.entry.ts);
            let parts = json!({
                "key": key, "name": null, "entries": found.len(),
                "first": times().min().unwrap(), "last": times().max().unwrap(),
            });
            serde_json::from_value(parts).unwrap()
        })
        .collect();
    if matches!(by, CountBy::HourIn(_) | CountBy::DayIn(_)) {
        counted.sort_by_key(|one| one.first);
    } else if !matches!(by, CountBy::Hour | CountBy::Day) {
        counted.sort_by_key(|one| std::cmp::Reverse(one.entries));
    }
    counted.truncate(limit);
    counted
}

/// Follows `next` to the end and `prev` back to the beginning, which must meet the same pages.
async fn pages(reader: &AuditReader, query: &AuditQuery, size: u32) -> Vec<SequencedEntry> {
    let (mut there, mut cursor) = (Vec::new(), None::<Cursor>);
    let mut last = None;
    loop {
        let page = reader.page(query, cursor.clone(), size).await.unwrap();
        assert!(page.entries.len() <= size as usize);
        assert_eq!(page.prev.is_none(), cursor.is_none() || page.entries.is_empty());
        there.push(page.entries);
        last = page.prev.or(last);
        match page.next {
            Some(next) => cursor = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }
    let mut back = vec![there.last().unwrap().clone()];
    let mut cursor = if there.len() > 1 { last } else { None };
    while let Some(at) = cursor {
        let page = reader.page(query, Some(at), size).await.unwrap();
        assert!(page.next.is_some());
        back.push(page.entries);
        cursor = page.prev;
    }
    back.reverse();
    assert_eq!(back, there);
    let entries: Vec<SequencedEntry> = there.into_iter().flatten().collect();
    assert_eq!(entries.iter().map(|found| found.seq).collect::<BTreeSet<_>>().len(), entries.len());
    entries
}

#[test]
fn following_pages_meets_every_entry_once_while_more_are_written() {
    let fixture = log();
    let entries = |count: usize| -> Vec<AuditEntry> {
        (0..count).map(|_| AuditEntry::new(Uuid::nil(), "a", "r")).collect()
    };
    write(&fixture, &entries(10));
    let reader = fixture.log.reader();
    let (mut seqs, mut cursor) = (Vec::new(), None);
    loop {
        let page = block_on(reader.page(AuditQuery::new(), cursor, 3)).unwrap();
        seqs.extend(page.entries.iter().map(|found| found.seq));
        if seqs.len() == 6 {
            write(&fixture, &entries(4));
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seqs, (0..14).collect::<Vec<u64>>());
}

#[test]
fn a_cursor_of_another_query_or_database_is_refused() {
    let fixture = log();
    write(&fixture, &[AuditEntry::new(Uuid::nil(), "a", "r"), AuditEntry::new(Uuid::nil(), "b", "r")]);
    let reader = fixture.log.reader();
    let page = block_on(reader.page(AuditQuery::new(), None, 1)).unwrap();
    let error =
        block_on(reader.page(AuditQuery::new().decision(Decision::Deny), page.next.clone(), 1)).unwrap_err();
    assert!(error.is_cursor(), "{error}");
    // The limit is not part of what a page shows.
    assert!(block_on(reader.page(AuditQuery::new().limit(1), page.next, 1)).is_ok());
    // The same query of another database, whose entries have the same numbers.
    let other = log();
    write(&other, &(0..3).map(|_| AuditEntry::new(Uuid::nil(), "a", "r")).collect::<Vec<_>>());
    let first = block_on(other.log.reader().page(AuditQuery::new(), None, 1)).unwrap();
    let there = block_on(other.log.reader().page(AuditQuery::new(), first.next.clone(), 1)).unwrap();
    assert_eq!(there.entries[0].seq, 1);
    let error = block_on(reader.page(AuditQuery::new(), first.next, 1)).unwrap_err();
    assert!(error.is_cursor() && error.to_string().contains("another database"), "{error}");
}

#[test]
fn a_formula_is_guarded_for_spreadsheets_and_left_alone_for_programs() {
    let fixture = log();
    write(&fixture, &[AuditEntry::new(Uuid::nil(), "=cmd|' /C calc'!A0", "r")]);
    let export = |raw: bool| {
        let mut bytes = Vec::new();
        let reader = fixture.log.reader();
        if raw {
            block_on(reader.export(AuditFilter::default(), ExportFormat::CsvUnescaped, &mut bytes)).unwrap();
        } else {
            block_on(reader.export_csv(AuditFilter::default(), &mut bytes)).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    };
    assert!(export(false).contains(",'=cmd|' /C calc'!A0,"));
    assert!(export(true).contains(",=cmd|' /C calc'!A0,"));
}

#[test]
fn an_error_of_the_destination_is_not_an_error_of_the_database() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let fixture = log();
    write(&fixture, &[AuditEntry::new(Uuid::nil(), "a", "r")]);
    let error = block_on(fixture.log.reader().export_csv(AuditFilter::default(), Full)).unwrap_err();
    assert!(error.is_output(), "{error}");
}

#[test]
fn metadata_of_any_json_type_comes_back() {
    let fixture = log();
    let values = [json!(null), json!([1, 2]), json!("text"), json!(1.5), json!({"a": {"b": []}})];
    let entries: Vec<AuditEntry> = values
        .iter()
        .map(|value| AuditEntry { metadata: value.clone(), ..AuditEntry::new(Uuid::nil(), "a", "r") })
        .collect();
    write(&fixture, &entries);
    let found: Vec<Value> = fixture.entries().into_iter().map(|found| found.entry.metadata).collect();
    assert_eq!(found, values);
}

/// Reads this many entries page by page, each page backwards too, and goes on after the last entry as more are written.
async fn paged(reader: &AuditReader, all: usize) -> Vec<u64> {
    let seqs = |page: &Page| page.entries.iter().map(|found| found.seq).collect::<Vec<_>>();
    let (mut paged, mut before) = (Vec::new(), None);
    while paged.len() < all {
        let query = AuditQuery::new().from_seq(paged.len() as u64);
        let mut cursor = None;
        loop {
            let page = reader.page(&query, cursor, 700).await.unwrap();
            if let (Some(prev), Some(before)) = (&page.prev, &before) {
                let back = reader.page(&query, Some(prev.clone()), 700).await.unwrap();
                assert_eq!(&seqs(&back), before);
            }
            paged.extend(seqs(&page));
            before = Some(seqs(&page));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        before = None;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    paged
}

#[test]
fn a_follower_and_a_reader_of_pages_meet_every_entry_once_while_eight_threads_write() {
    const EACH: usize = 12_500;
    let _heavy = heavy();
    let fixture = log();
    let all = 8 * EACH;
    let (matching, seqs): (Vec<u64>, Vec<(u64, String)>) = std::thread::scope(|scope| {
        for thread in 0..8 {
            let writer = fixture.log.writer();
            scope.spawn(move || {
                for _ in 0..EACH {
                    let entry = AuditEntry::new(Uuid::nil(), format!("thread.{thread}"), "r");
                    writer.blocking().write(entry).unwrap();
                }
            });
        }
        block_on(async {
            let reader = fixture.log.reader();
            // In two parts, as a follower that was restarted.
            let first: Vec<_> = reader.follow(0).take(all / 3).try_collect().await.unwrap();
            let next = first.last().unwrap().seq + 1;
            let rest = reader.follow(next).take(all - first.len()).try_collect::<Vec<_>>();
            // Beside it, one that wants an eighth of them.
            let query = AuditQuery::new().action("thread.3");
            let matching = reader.follow_matching(query, 0).take(EACH).map_ok(|found| found.seq).try_collect();
            let (rest, matching, paged) = tokio::join!(rest, matching, paged(&reader, all));
            assert_eq!(paged, (0..all as u64).collect::<Vec<_>>());
            let seqs = first.into_iter().chain(rest.unwrap()).map(|found| (found.seq, found.entry.action));
            (matching.unwrap(), seqs.collect())
        })
    });
    assert_eq!(seqs.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (0..all as u64).collect::<Vec<_>>());
    for thread in 0..8 {
        let action = format!("thread.{thread}");
        assert_eq!(seqs.iter().filter(|(_, of)| *of == action).count(), EACH);
    }
    assert_eq!(matching, seqs.into_iter().filter(|(_, of)| of == "thread.3").map(|(seq, _)| seq).collect::<Vec<_>>());
}

#[test]
fn a_query_for_text_that_cannot_be_stored_finds_it_as_it_is_stored() {
    let fixture = log();
    let hostile = AuditEntry {
        resource_id: Some("a\0b".to_owned()),
        reason: Some("x\0y".to_owned()),
        metadata: json!({ "k\0": "v\0" }),
        ..AuditEntry::new(Uuid::nil(), "a\0b", "r\0")
    };
    write(&fixture, &[hostile]);
    let reader = fixture.log.reader();
    let all = AuditQuery::new();
    for query in [
        all.clone().action("a\0b"),
        all.clone().action_prefix("a\0"),
        all.clone().resource("r\0"),
        all.clone().resource_id("a\0b"),
        all.clone().containing("x\0Y"),
        all.clone().metadata_any_of("k\0", ["v\0"]),
        all.clone().metadata_none_of("k[3000000000]", ["v"]),
    ] {
        assert_eq!(block_on(reader.count(&query)).unwrap(), 1, "{query:?}");
    }
    for nothing in [all.clone().risk_at_most(f64::NAN), all.clone().risk_at_least(f64::NAN)] {
        assert_eq!(block_on(reader.count(nothing)).unwrap(), 0);
    }
}

#[test]
fn a_follower_beyond_the_end_of_a_ledger_says_so_and_goes_on_once_the_ledger_is_longer() {
    let fixture = log();
    let entry = || AuditEntry::new(Uuid::nil(), "a", "r");
    write(&fixture, &[entry()]);
    block_on(async {
        let mut entries = pin!(fixture.log.reader().follow(2));
        let error = entries.next().await.unwrap().unwrap_err();
        assert!(error.is_store() && error.to_string().contains("the ledger ends at seq 1, before 2"), "{error}");
        for _ in 0..2 {
            fixture.log.writer().commit(entry()).await.unwrap();
        }
        let next = loop {
            match entries.next().await.unwrap() {
                Ok(next) => break next,
                Err(error) => assert!(error.is_store(), "{error}"),
            }
        };
        assert_eq!(next.seq, 2);
    });
}

#[test]
fn an_entry_is_found_by_its_id_and_its_ledger_listed() {
    let fixture = log();
    let entry = AuditEntry::new(Uuid::nil(), "a", "r");
    write(&fixture, &[AuditEntry::new(Uuid::nil(), "b", "r"), entry.clone()]);
    let reader = fixture.log.reader();
    let found = block_on(reader.get(entry.id)).unwrap();
    assert_eq!((found.len(), found[0].seq, &found[0].entry), (1, 1, &entry));
    assert_eq!(block_on(reader.get(Uuid::max())).unwrap(), []);
    let digits = entry.id.to_string();
    assert_eq!(block_on(reader.get_by_prefix(&digits, 10)).unwrap(), found);
    assert!(block_on(reader.get_by_prefix(digits.to_uppercase().get(..9).unwrap(), 10)).unwrap().contains(&found[0]));
    assert_eq!(block_on(reader.get_by_prefix("00000000", 10)).unwrap(), []);
    for wrong in ["", digits.get(..7).unwrap(), "0000000g", "00000000-0000-0000-0000-0000000000000"] {
        assert!(block_on(reader.get_by_prefix(wrong, 10)).unwrap_err().is_query(), "{wrong}");
    }
    let ledgers = block_on(reader.ledgers()).unwrap();
    assert_eq!((ledgers.len(), &*ledgers[0].name, ledgers[0].next_seq), (1, "main", 2));
    assert_eq!(ledgers[0].last_committed_at, Some(found[0].committed_at));
}

#[test]
fn counts_of_two_periods_are_compared_and_names_are_shown() {
    let fixture = log();
    let at = |micros: i64, action: &str| AuditEntry { ts: time(micros), ..AuditEntry::new(Uuid::nil(), action, "r") };
    write(&fixture, &[at(0, "a"), at(1, "a"), at(2, "b"), at(10, "a"), at(11, "c"), at(12, "c"), at(13, "c")]);
    let reader = fixture.log.reader();
    let period = |from: i64| AuditQuery::new().since(time(from)).before(time(from + 10));
    let compare = |query: AuditQuery| {
        let by = CountBy::Column(Column::Action);
        let changes = block_on(reader.compare(query, period(0), by)).unwrap();
        let told = |change: tracing_audit::reader::Change| (change.key.unwrap(), change.entries, change.entries_before);
        changes.into_iter().map(told).collect::<Vec<_>>()
    };
    let changes = compare(period(10));
    assert_eq!(changes, [("c".to_owned(), 3, 0), ("a".to_owned(), 1, 2), ("b".to_owned(), 0, 1)]);
    assert_eq!(compare(period(10).limit(1)), changes[..1]);

    let named = AuditEntry {
        agent_id: Some(tracing_audit::audit_id("alice")),
        metadata: json!({ "agent_id": "alice" }),
        ..AuditEntry::new(Uuid::nil(), "named", "r")
    };
    write(&fixture, &[named]);
    // An entry that gives the id of somebody, and another name.
    let lie = AuditEntry {
        agent_id: Some(tracing_audit::audit_id("bob")),
        metadata: json!({ "agent_id": "mallory" }),
        ..AuditEntry::new(Uuid::nil(), "lie", "r")
    };
    write(&fixture, &[lie]);
    let by = CountBy::Column(Column::AgentId);
    let liar = block_on(reader.count_by(AuditQuery::new().action("lie"), by.clone())).unwrap();
    assert_eq!(liar[0].name, None);
    let agents = block_on(reader.count_by(AuditQuery::new().action("named"), by)).unwrap();
    assert_eq!(agents[0].key, Some(tracing_audit::audit_id("alice").to_string()));
    assert_eq!(agents[0].name.as_deref(), Some("alice"));
    let by_name = AuditQuery::new().any_of(Column::AgentId, ["alice"]);
    assert_eq!(block_on(reader.count(by_name)).unwrap(), 1);
}

#[test]
fn a_query_of_too_many_values_is_refused_and_one_of_many_is_answered() {
    let fixture = log();
    write(&fixture, &[AuditEntry::new(Uuid::nil(), "7", "r")]);
    let count = |values: u32| {
        let query = AuditQuery::new().any_of(Column::Action, (0..values).map(|value| value.to_string()));
        block_on(fixture.log.reader().count(query))
    };
    assert_eq!(count(10_000).unwrap(), 1);
    assert!(count(10_001).unwrap_err().is_query());
    let many = (0..201).fold(AuditQuery::new(), |query, _| query.none_of(Column::Action, ["a"]));
    assert!(block_on(fixture.log.reader().count(many)).unwrap_err().is_query());
    let some = (0..200).fold(AuditQuery::new(), |query, _| query.none_of(Column::Action, ["a", "b"]));
    assert_eq!(block_on(fixture.log.reader().count(some)).unwrap(), 1);
    assert!("agent".parse::<Column>().unwrap_err().is_query());
    let mut failing = pin!(fixture.log.reader().stream(
        AuditQuery::new().none_of(Column::Action, (0..10_001).map(|value| value.to_string()))
    ));
    assert!(block_on(failing.next()).unwrap().unwrap_err().is_query());
}

#[test]
fn a_recorded_read_holds_its_reader_its_query_and_the_number_of_its_entries() {
    let fixture = log();
    let entries: Vec<_> = (0..3).map(|n| AuditEntry::new(Uuid::nil(), format!("a.{n}"), "r")).collect();
    write(&fixture, &entries);
    let silent = fixture.log.reader();
    let reader = silent.clone().recorded_as("an\0auditor");
    let start = Utc::now();
    block_on(async {
        reader.query(AuditQuery::new().action_prefix("a.").limit(2)).await.unwrap();
        let place = AuditQuery::new().metadata_none_of("client.ip", ["10.0.0.1", "7"]);
        reader.count(place.any_of(Column::AgentId, ["alice"]).risk_at_least(0.5)).await.unwrap();
        reader.page(AuditQuery::new().before_seq(2), None, 10).await.unwrap();
        reader.get(entries[0].id).await.unwrap();
        reader.count_by(AuditQuery::new().since(time(0)), CountBy::Column(Column::Action)).await.unwrap();
        assert_eq!(reader.stream(AuditQuery::new()).count().await, 3);
        reader.export_csv(AuditQuery::new(), std::io::sink()).await.unwrap();
        let from_1 = AuditQuery::new().from_seq(1);
        reader.export(from_1, ExportFormat::Ocsf, std::io::sink()).await.unwrap();
        reader.quarantined().await.unwrap();
        reader.export_quarantined(std::io::sink()).await.unwrap();
        // Dropped before their end, or without an end.
        assert_eq!(pin!(reader.follow(1)).next().await.unwrap().unwrap().seq, 1);
        pin!(reader.stream(AuditQuery::new().newest_first())).next().await.unwrap().unwrap();
        // These show no entries, and are not recorded.
        reader.ledgers().await.unwrap();
        silent.query(AuditQuery::new()).await.unwrap();
    });
    let reads = reader.blocking().reads(.., 100).unwrap();
    let told: Vec<_> = reads.iter().rev().map(|read| (&*read.action, &read.query, read.entries)).collect();
    let alice = tracing_audit::audit_id("alice");
    assert_eq!(
        told,
        [
            ("query", &json!({ "limit": 2, "conditions": [{ "action_prefix": "a." }] }), Some(2)),
            (
                "count",
                &json!({ "conditions": [
                    { "field": "metadata.client.ip", "none_of": ["10.0.0.1", "7", 7, 7.0] },
                    { "field": "agent_id", "any_of": [alice] },
                    { "risk_at_least": 0.5 },
                ] }),
                Some(1)
            ),
            ("page", &json!({ "ledger": "main", "before_seq": 2, "size": 10 }), Some(2)),
            ("get", &json!({ "conditions": [{ "field": "id", "any_of": [entries[0].id] }] }), Some(1)),
            ("count_by", &json!({ "since": "1970-01-01T00:00:00Z", "by": "action" }), Some(3)),
            ("stream", &json!({ "ledger": "main" }), Some(3)),
            ("export_csv", &json!({}), Some(3)),
            ("export_ocsf", &json!({ "from_seq": 1 }), Some(2)),
            ("quarantined", &json!({}), Some(0)),
            ("export_quarantined", &json!({}), Some(0)),
            ("follow", &json!({ "ledger": "main", "from_seq": 1 }), None),
            ("stream", &json!({ "ledger": "main", "newest_first": true }), None),
        ]
    );
    assert!(reads.iter().all(|read| read.reader == "an\u{fffd}auditor" && read.at >= start - chrono::TimeDelta::seconds(1)));
    assert!(reads.is_sorted_by(|later, earlier| later.at >= earlier.at));
    // A range of time, and a limit.
    let (third, fifth) = (reads[9].at, reads[7].at);
    let during = |range: (Bound<DateTime<Utc>>, Bound<DateTime<Utc>>)| {
        reader.blocking().reads(range, 100).unwrap().iter().map(|read| read.id).collect::<Vec<_>>()
    };
    let ids: Vec<_> = reads.iter().map(|read| read.id).collect();
    assert_eq!(during((Included(third), Included(fifth))), ids[7..=9]);
    assert_eq!(during((Included(third), Excluded(fifth))), ids[8..=9]);
    assert_eq!(during((Excluded(third), Included(fifth))), ids[7..=8]);
    assert_eq!(reader.blocking().reads(.., 2).unwrap(), reads[..2]);
}

#[test]
fn a_recorded_read_has_the_time_of_its_beginning_and_the_number_of_its_end() {
    let fixture = log();
    write(&fixture, &(0..3).map(|_| AuditEntry::new(Uuid::nil(), "a", "r")).collect::<Vec<_>>());
    let reader = fixture.log.reader().recorded_as("Ada");
    let during = |range: (Bound<DateTime<Utc>>, Bound<DateTime<Utc>>)| {
        let reads = reader.blocking().reads(range, 10).unwrap();
        reads.into_iter().map(|read| read.entries).collect::<Vec<_>>()
    };
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    let mut stream = pin!(reader.stream(AuditQuery::new()));
    block_on(stream.next()).unwrap().unwrap();
    pause();
    let between = Utc::now();
    assert_eq!(during((Bound::Unbounded, Included(between))), [None]);
    pause();
    assert_eq!(block_on(stream.try_collect::<Vec<_>>()).unwrap().len(), 2);
    assert_eq!(during((Bound::Unbounded, Included(between))), [Some(3)]);
    assert!(during((Included(between), Bound::Unbounded)).is_empty());
}

#[test]
fn the_chunks_of_an_export_are_whole_lines_and_together_the_whole_export() {
    let fixture = log();
    let reason = |n: usize| Some(format!("=\"{n}\"\n").repeat(n % 300));
    let entry = |n| AuditEntry { reason: reason(n), ..AuditEntry::new(Uuid::nil(), "a", "r") };
    write(&fixture, &(0..400).map(entry).collect::<Vec<_>>());
    let reader = fixture.log.reader();
    for format in [ExportFormat::Csv, ExportFormat::CsvUnescaped, ExportFormat::JsonLines, ExportFormat::Ocsf] {
        let query = AuditQuery::new().from_seq(7);
        let mut whole = Vec::new();
        let blocking = reader.blocking();
        let rows = match format {
            ExportFormat::Csv => blocking.export_csv(&query, &mut whole),
            format => blocking.export(&query, format, &mut whole),
        };
        let chunks: Vec<_> = block_on(reader.export_stream(&query, format).try_collect()).unwrap();
        assert!(chunks.len() > 3, "{format:?}: {}", chunks.len());
        assert_eq!((rows.unwrap(), chunks.iter().map(|chunk| chunk.entries).sum::<u64>()), (393, 393));
        assert!(chunks.iter().all(|chunk| chunk.bytes.ends_with(b"\n")));
        if !matches!(format, ExportFormat::Ocsf) {
            // When an event was written is the one thing that is different at each time.
            assert_eq!(chunks.iter().map(|chunk| &*chunk.bytes).collect::<Vec<_>>().concat(), whole);
        }
        if matches!(format, ExportFormat::JsonLines | ExportFormat::Ocsf) {
            let mut next = 7;
            for chunk in &chunks {
                next += chunk.entries;
                assert_eq!((chunk.ledger.as_deref(), chunk.last_seq), (Some("main"), Some(next - 1)));
            }
        }
    }
}

#[test]
fn an_export_by_time_holds_each_entry_of_its_beginning_once_newest_first() {
    let fixture = log();
    // Times that repeat and go back, within what a batch holds and beyond it; and the last time that there is, in two batches.
    let ts = |n: i64| match n {
        100 | 29_900 => time(253_402_300_799_999_999),
        n => time(1_700_000_000_000_000 + n / 4 - n * 7919 % 997 * i64::from(n % 10 == 0)),
    };
    let entry = |n: i64| {
        let entry = AuditEntry::new(Uuid::nil(), "a", "r");
        let session_id = (n % 1000 < 2).then_some(Uuid::from_u128(7));
        AuditEntry { resource_id: Some(n.to_string()), session_id, ts: ts(n), ..entry }
    };
    write(&fixture, &(0..30_000).map(entry).collect::<Vec<_>>());
    let mut expected: Vec<i64> = (0..30_000).collect();
    expected.sort_by_key(|n| std::cmp::Reverse((ts(*n), *n)));

    let reader = fixture.log.reader();
    let mut chunks = pin!(reader.export_stream(AuditQuery::new(), ExportFormat::CsvUnescaped));
    let mut bytes = block_on(chunks.try_next()).unwrap().unwrap().bytes;
    assert!(bytes.len() < 1_000_000);
    // Newer and older than what comes next.
    write(&fixture, &(30_000..33_000).map(|n| AuditEntry { ts: ts(n % 9000 * 4), ..entry(n) }).collect::<Vec<_>>());
    while let Some(chunk) = block_on(chunks.try_next()).unwrap() {
        bytes.extend(chunk.bytes);
    }
    let rows = csv::Reader::from_reader(&*bytes).into_records().map(|row| row.unwrap()[6].parse::<i64>().unwrap());
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    let newest = |query: AuditQuery| -> Vec<i64> {
        let found = block_on(reader.query(query.before_seq(30_000))).unwrap();
        found.into_iter().map(|entry| entry.resource_id.unwrap().parse().unwrap()).collect()
    };
    assert_eq!(newest(AuditQuery::new().limit(100)), expected[..100]);
    // By an index: more than what is read at once, and less; also of a part of the time, and among others.
    let workspace = || AuditQuery::new().workspace_id(Uuid::nil());
    assert_eq!(newest(workspace()), expected);
    let times = |query: AuditQuery| query.since(ts(20_001)).before(ts(28_001));
    let within = |n: &&i64| (ts(20_001)..ts(28_001)).contains(&ts(**n));
    let some: Vec<i64> = expected.iter().filter(within).copied().collect();
    assert_eq!(newest(times(workspace())), some);
    assert_eq!(newest(times(workspace()).limit(100)), some[..100]);
    assert_eq!(newest(workspace().resource_id("17")), [17]);
    expected.retain(|n| n % 1000 < 2);
    let session = || AuditQuery::new().session_id(Uuid::from_u128(7));
    assert_eq!(newest(session()), expected);
    assert_eq!(newest(session().limit(9)), expected[..9]);
    let some: Vec<i64> = expected.iter().filter(within).copied().collect();
    assert_eq!(newest(times(session())), some);
    assert_eq!(newest(times(session()).workspace_id(Uuid::nil())), some);
    assert_eq!(newest(times(session()).workspace_id(Uuid::from_u128(1))), [0; 0]);
    assert_eq!(newest(AuditQuery::new().any_of(Column::WorkspaceId, [Uuid::nil(), Uuid::max()].map(String::from)).limit(5)), newest(workspace().limit(5)));
}
