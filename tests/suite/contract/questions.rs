//! Random questions over hostile data: every store, also an exported file, answers as a scan in memory does, and as plain
//! SQL on the raw tables where SQL can say it, in the same order.
//!
//! The variable `QUESTIONS_SEED` asks the questions of an earlier run again; each run prints its seed.

use std::{fs::File, io::BufReader};

use chrono::{DateTime, Utc};
use fastrand::Rng;
use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use futures_util::TryStreamExt;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tracing_audit::{
    AuditEntry, AuditQuery, AuditReader, Decision, SequencedEntry, audit_id,
    export::ExportFormat,
    query::{Column, Criterion, Field, Operand},
};
use uuid::Uuid;

use super::scan::{Asked, Of, Step, With};
use crate::support::{self, Fixture, block_on};

/// A store that is asked. An exported file that is opened as a database is one too, without tables.
struct Store {
    name: &'static str,
    /// They take turns: what they read is the same.
    readers: Vec<AuditReader>,
    tables: Option<Tables>,
    _fixture: Option<Fixture>,
}

enum Tables {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Each kind of store with the same entries, in the same order and the same batches.
fn stores(entries: &[AuditEntry], batches: usize) -> Vec<Store> {
    let filled = |fixture: &Fixture| {
        for batch in entries.chunks(entries.len().div_ceil(batches)) {
            let writer = fixture.log.writer();
            block_on(async {
                for entry in batch {
                    writer.write(entry.clone()).await.unwrap();
                }
            });
            fixture.settle();
        }
    };
    let (sqlite, postgres) = (support::log(), support::postgres::log());
    filled(&sqlite);
    filled(&postgres);
    let tables = |fixture: &Fixture| {
        block_on(async {
            if fixture.db.starts_with("postgres:") {
                Tables::Postgres(PgConnection::connect(&fixture.db).await.unwrap())
            } else {
                Tables::Sqlite(support::connect(&fixture.db).await)
            }
        })
    };
    let files = exported(&sqlite);
    let stores = [("SQLite", sqlite), ("PostgreSQL", postgres)].map(|(name, fixture)| Store {
        name,
        readers: vec![fixture.log.reader()],
        tables: Some(tables(&fixture)),
        _fixture: Some(fixture),
    });
    let files = Store { name: "an exported file", readers: files, tables: None, _fixture: None };
    stores.into_iter().chain([files]).collect()
}

/// Readers of the log's entries as an exported file, and as a compressed one.
fn exported(fixture: &Fixture) -> Vec<AuditReader> {
    let (plain, compressed) =
        (fixture.directory.path().join("all.jsonl"), fixture.directory.path().join("all.gz"));
    let mut file = GzEncoder::new(File::create(&compressed).unwrap(), Compression::fast());
    let reader = fixture.log.reader();
    block_on(async {
        let written =
            reader.export(AuditQuery::new(), ExportFormat::JsonLines, File::create(&plain).unwrap());
        written.await.unwrap();
        reader.export(AuditQuery::new(), ExportFormat::JsonLines, &mut file).await.unwrap();
    });
    file.finish().unwrap();
    let open = |path| BufReader::new(File::open(path).unwrap());
    let opened = block_on(async {
        [
            AuditReader::open_export(open(&plain), None).await.unwrap(),
            AuditReader::open_export(BufReader::new(MultiGzDecoder::new(open(&compressed))), None)
                .await
                .unwrap(),
        ]
    });
    let readers = opened.map(|mut opened| opened.ledgers.remove(0).reader);
    let all = block_on(support::all(&reader));
    for reader in &readers {
        // All of each entry, also the time of its commit and its problems.
        assert!(block_on(support::all(reader)) == all);
    }
    readers.into()
}

const TEXTS: [&str; 50] = [
    "",
    " ",
    "a",
    "A",
    "ab",
    "b",
    "z",
    "alice",
    "Alice",
    "ali\u{200b}ce",
    "\u{feff}alice",
    "bob",
    "é",
    "É",
    "e\u{301}",
    "ß",
    "中文",
    "\u{1f600}",
    "\u{10ffff}",
    "\u{fffd}",
    "\u{ffff}",
    "\u{e000}",
    "\u{d7ff}",
    "\u{202e}evil",
    "%",
    "_",
    "a%b",
    "a_b",
    "a\\b",
    "a?b",
    "[a]",
    "a]b",
    "'",
    "\"",
    "a\"b",
    "\n",
    "\t",
    "true",
    "false",
    "null",
    "5",
    "5.0",
    "05",
    "-5",
    "1e3",
    "9223372036854775808",
    "[1]",
    "{}",
    "10.0.0.1",
    "10x0x0x1",
];

/// Numbers as JSON writes them, at the edges of every type.
const NUMBERS: [&str; 36] = [
    "0",
    "-0.0",
    "0.0",
    "5",
    "5.0",
    "-5",
    "5.5",
    "0.1",
    "0.30000000000000004",
    "0.3",
    "1e16",
    "10000000000000000",
    "9007199254740992",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775808",
    "9.223372036854775807e18",
    "1.8446744073709552e19",
    "1e19",
    "5e-324",
    "-5e-324",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "1e-7",
    "123456789.125",
    "404",
    "500",
    "1e3",
    "2.2250738585072014e-308",
    "1e22",
    "1e23",
    "36028797018963969",
    "3.602879701896397e16",
];

/// Numbers that no stored number is, to compare with.
const OTHERS: [&str; 10] = [
    "18446744073709551616",
    "-9223372036854775809",
    "0.1000000000000000055511151231257827",
    "1e400",
    "-1e400",
    "1e-400",
    "12345678901234567890123",
    "5.000000000000000000001",
    "4.999999999999999999999",
    "3.6028797018963969e16",
];

use Step::{Exact, Index, Key};

const PATHS: [(&str, &[Step]); 16] = [
    ("n", &[Key("n")]),
    ("ip", &[Key("ip")]),
    ("client.ip", &[Key("client"), Key("ip")]),
    ("\"client.ip\"", &[Exact("client.ip")]),
    ("\"client\".\"ip\"", &[Exact("client"), Exact("ip")]),
    ("client", &[Key("client")]),
    ("tags[0]", &[Key("tags"), Index(0)]),
    ("tags[1]", &[Key("tags"), Index(1)]),
    ("tags", &[Key("tags")]),
    ("list[0].n", &[Key("list"), Index(0), Key("n")]),
    ("a.b.c", &[Key("a"), Key("b"), Key("c")]),
    ("user name", &[Key("user name")]),
    ("it's", &[Key("it's")]),
    ("@é\\%", &[Key("@é\\%")]),
    ("agent_id", &[Key("agent_id")]),
    ("none", &[Key("none")]),
];

fn one<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())].clone()
}

fn text(rng: &mut Rng) -> String {
    match rng.u8(..12) {
        0 => format!("{}{}", one(rng, &TEXTS), one(rng, &TEXTS)),
        1 => "é".repeat(rng.usize(..400)),
        _ => one(rng, &TEXTS).to_owned(),
    }
}

fn number(rng: &mut Rng) -> Value {
    match rng.u8(..5) {
        0 => Value::from(rng.i64(..)),
        1 => Value::from(f64::from_bits(rng.u64(..))),
        2 => Value::from(rng.i32(-6..6)),
        _ => one(rng, &NUMBERS).parse().unwrap(),
    }
}

fn value(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(..if depth == 0 { 8 } else { 11 }) {
        0 => Value::Null,
        1 => Value::from(rng.bool()),
        2..5 => number(rng),
        5..8 => Value::from(text(rng)),
        8 => (0..rng.usize(..3)).map(|_| value(rng, depth - 1)).collect(),
        _ => document(rng, depth - 1),
    }
}

fn document(rng: &mut Rng, depth: u8) -> Value {
    let keys = [
        "n",
        "n",
        "n",
        "ip",
        "ip",
        "client",
        "client.ip",
        "tags",
        "list",
        "a",
        "b",
        "c",
        "a.b",
        "b.c",
        "a.b.c",
        "user name",
        "it's",
        "@é\\%",
        "0",
        "",
    ];
    let members = (0..rng.usize(..7)).map(|_| (one(rng, &keys).to_owned(), value(rng, depth)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

fn entry(rng: &mut Rng, number: u128) -> AuditEntry {
    let names = ["alice", "ali\u{200b}ce", "bob", "arn:x:y", "8463"];
    let mut metadata = if rng.u8(..12) == 0 { value(rng, 2) } else { document(rng, 3) };
    let id = |rng: &mut Rng| Uuid::from_u128(rng.u128(..3));
    let name = one(rng, &names);
    // Beside an agent that it is the name of, beside another one, or beside none.
    if let Some(members) = metadata.as_object_mut()
        && rng.bool()
    {
        members.insert("agent_id".to_owned(), name.into());
    }
    let agent_id = (rng.u8(..4) > 0).then(|| if rng.bool() { audit_id(name) } else { id(rng) });
    let mut entry = AuditEntry::new(id(rng), text(rng), text(rng));
    entry.id = Uuid::from_u128(number << 64 | 7);
    entry.session_id = rng.bool().then(|| id(rng));
    entry.agent_id = agent_id;
    entry.resource_id = rng.bool().then(|| text(rng));
    entry.decision = one(rng, &["Allow", "Deny", "Mask", "", "deny"].map(str::to_owned));
    entry.reason = rng.bool().then(|| text(rng));
    entry.risk_score = one(rng, &[0.0, 0.1, 0.5, 0.79, 0.8, 0.9, 1.0, -1.0, 1e300]);
    entry.metadata = metadata;
    // Few times, so that many are equal, before 1970 among them.
    entry.ts = time(rng.i64(-3..5));
    entry
}

fn of(rng: &mut Rng) -> Of {
    match rng.u8(..10) {
        0 => Of::Risk,
        1..4 => Of::Column(one(rng, &Column::ALL)),
        _ => {
            let (path, steps) = one(rng, &PATHS);
            Of::Path(path, steps)
        }
    }
}

fn given_number(rng: &mut Rng) -> String {
    match rng.u8(..4) {
        0 => one(rng, &OTHERS).to_owned(),
        1 => number(rng).to_string().replace("null", "7"),
        _ => one(rng, &NUMBERS).to_owned(),
    }
}

fn with(rng: &mut Rng, of: &Of) -> With {
    if *of == Of::Risk {
        return With::Number(
            one(rng, &["0", "0.1", "0.5", "0.80", "0.9", "1", "-1", "1e300", "-5e-324"]).to_owned(),
        );
    }
    match rng.u8(..8) {
        0 => With::Bool(rng.bool()),
        1 => With::Null,
        2 | 3 => With::Number(given_number(rng)),
        4 => With::Word(given_number(rng)),
        5 => With::Word(
            one(
                rng,
                &["5", "true", "null", "alice", "0.1", "-0", "05", "00000000-0000-0000-0000-000000000001"],
            )
            .to_owned(),
        ),
        6 if of.is_id() => With::Text(audit_id("alice").to_string()),
        _ => With::Text(text(rng)),
    }
}

fn pattern(rng: &mut Rng) -> String {
    let mut pattern = String::new();
    for _ in 0..rng.u8(1..4) {
        let part: String = text(rng).replace('*', "").chars().take(rng.usize(..4)).collect();
        pattern += &part;
        if rng.u8(..4) > 0 {
            pattern.push('*');
        }
    }
    pattern
}

fn asked(rng: &mut Rng, depth: u8, negated: bool) -> Asked {
    if depth > 0 && rng.u8(..3) == 0 {
        let several = |rng: &mut Rng| (0..rng.u8(..4)).map(|_| asked(rng, depth - 1, negated)).collect();
        return match rng.u8(..3) {
            0 => Asked::Not(Box::new(asked(rng, depth - 1, true))),
            1 => Asked::All(several(rng)),
            _ => Asked::Any(several(rng)),
        };
    }
    let of = of(rng);
    let texts_of =
        |of: Of| if of == Of::Risk || negated && of.is_id() { Of::Column(Column::Action) } else { of };
    match rng.u8(..8) {
        0 => Asked::Exists(of),
        1 => Asked::Like(texts_of(of), pattern(rng)),
        2 => Asked::Contains(texts_of(of), text(rng)),
        3 | 4 => Asked::Is(of.clone(), (0..rng.u8(..3)).map(|_| with(rng, &of)).collect()),
        _ => {
            let of = if of.is_id() { Of::Column(Column::Reason) } else { of };
            let with = match with(rng, &of) {
                // These have no order.
                With::Bool(_) | With::Null if !matches!(of, Of::Column(_)) => With::Number("5".to_owned()),
                with => with,
            };
            Asked::Compared(of, one(rng, &["<", "<=", ">=", ">"]), with)
        }
    }
}

#[derive(Debug)]
struct Question {
    asked: Vec<Asked>,
    decision: Option<Decision>,
    workspace: Option<Uuid>,
    since: Option<i64>,
    before: Option<i64>,
    seqs: Option<(u64, u64)>,
    limit: Option<u32>,
    newest_first: bool,
}

fn question(rng: &mut Rng, entries: u64) -> Question {
    let rarely = |rng: &mut Rng| rng.u8(..6) == 0;
    let conditions = one(rng, &[1, 1, 2, 3]);
    Question {
        asked: (0..conditions).map(|_| asked(rng, 2, false)).collect(),
        decision: rarely(rng).then(|| one(rng, &[Decision::Allow, Decision::Deny, Decision::Mask])),
        workspace: rarely(rng).then(|| Uuid::from_u128(rng.u128(..3))),
        since: rarely(rng).then(|| rng.i64(-4..4)),
        before: rarely(rng).then(|| rng.i64(-1..6)),
        seqs: rarely(rng).then(|| (rng.u64(..entries * 2 / 3), rng.u64(entries / 3..entries + 5))),
        limit: rarely(rng).then(|| rng.u32(..20)),
        newest_first: rng.bool(),
    }
}

impl Question {
    fn query(&self) -> AuditQuery {
        let mut query =
            self.asked.iter().fold(AuditQuery::new(), |query, one| query.matching(one.criterion()));
        if let Some(decision) = self.decision {
            query = query.decision(decision);
        }
        if let Some(id) = self.workspace {
            query = query.workspace_id(id);
        }
        if let Some(since) = self.since {
            query = query.since(time(since));
        }
        if let Some(before) = self.before {
            query = query.before(time(before));
        }
        if let Some((from, before)) = self.seqs {
            query = query.from_seq(from).before_seq(before);
        }
        if let Some(limit) = self.limit {
            query = query.limit(limit);
        }
        if self.newest_first { query.newest_first() } else { query }
    }

    fn holds(&self, found: &SequencedEntry) -> bool {
        let (entry, micros) = (&found.entry, found.entry.ts.timestamp_micros());
        self.asked.iter().all(|one| one.holds(found))
            && self.decision.is_none_or(|decision| entry.decision == String::from(decision))
            && self.workspace.is_none_or(|id| entry.workspace_id == id)
            && self.since.is_none_or(|since| micros >= since)
            && self.before.is_none_or(|before| micros < before)
            && self.seqs.is_none_or(|(from, before)| (from..before).contains(&found.seq))
    }

    /// The question as plain SQL, if SQL can say it the same way everywhere.
    fn sql(&self, postgres: bool) -> Option<String> {
        let conditions = self.asked.iter().map(|one| plain_sql(one, postgres));
        let mut all: Vec<String> = conditions.collect::<Option<_>>()?;
        all.extend(self.decision.map(|decision| format!("decision = '{}'", String::from(decision))));
        all.extend(self.workspace.map(|id| format!("workspace_id = {}", sql_id(id, postgres))));
        let micros = |micros: i64| {
            if postgres {
                format!("'1970-01-01T00:00:00Z'::timestamptz + {micros} * interval '1 microsecond'")
            } else {
                micros.to_string()
            }
        };
        all.extend(self.since.map(|since| format!("ts >= {}", micros(since))));
        all.extend(self.before.map(|before| format!("ts < {}", micros(before))));
        all.extend(self.seqs.map(|(from, before)| format!("seq >= {from} AND seq < {before}")));
        let limit = self.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        Some(format!(
            "SELECT CAST(e.seq AS text) FROM tracing_audit_entries e WHERE {} ORDER BY e.ts DESC, e.seq DESC{limit}",
            all.join(" AND ")
        ))
    }
}

fn sql_id(id: Uuid, postgres: bool) -> String {
    if postgres { format!("'{id}'::uuid") } else { format!("x'{}'", id.simple()) }
}

/// The condition as an expression of SQL, which is never NULL.
fn plain_sql(asked: &Asked, postgres: bool) -> Option<String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let joined = |inner: &[Asked], by: &str, empty: &str| {
        let inner = inner.iter().map(|one| plain_sql(one, postgres)).collect::<Option<Vec<_>>>()?;
        Some(if inner.is_empty() { empty.to_owned() } else { format!("({})", inner.join(by)) })
    };
    Some(match asked {
        Asked::Exists(Of::Column(column)) => format!("({column} IS NOT NULL)"),
        Asked::Exists(Of::Risk) => "(risk_score IS NOT NULL)".to_owned(),
        Asked::Is(Of::Risk, values) => {
            let equal =
                values.iter().map(|with| format!(" OR coalesce(risk_score = {}, FALSE)", with.text()));
            format!("(FALSE{})", equal.collect::<String>())
        }
        Asked::Compared(Of::Risk, order, with) => {
            format!("coalesce(risk_score {order} {}, FALSE)", with.text())
        }
        Asked::Is(of @ Of::Column(column), values) => {
            let equal = values.iter().map(|with| {
                let given = with.text();
                if !of.is_id() {
                    return format!(" OR coalesce({column} = {}, FALSE)", quoted(&given));
                }
                let ids = match given.parse::<Uuid>() {
                    Ok(id) if id.get_version_num() == 5 && *column != Column::Id => {
                        vec![id, audit_id(&given)]
                    }
                    Ok(id) => vec![id],
                    Err(_) => vec![audit_id(&given)],
                };
                let equal = ids
                    .into_iter()
                    .map(|id| format!(" OR coalesce({column} = {}, FALSE)", sql_id(id, postgres)));
                equal.collect()
            });
            format!("(FALSE{})", equal.collect::<String>())
        }
        Asked::Compared(of @ Of::Column(column), order, with) if !of.is_id() => {
            format!("coalesce({column} {order} {}, FALSE)", quoted(&with.text()))
        }
        Asked::Contains(of @ Of::Column(column), part) if !of.is_id() => {
            let position = if postgres { "strpos" } else { "instr" };
            format!(
                "coalesce({position}(lower({column}), {}) > 0, FALSE)",
                quoted(&part.to_ascii_lowercase())
            )
        }
        // A plain key, and a text: both databases read it with their own functions.
        Asked::Is(Of::Path(key @ ("n" | "ip" | "none"), _), values) => {
            let (kind, held) = if postgres {
                (format!("json_typeof(metadata -> '{key}') = 'string'"), format!("metadata ->> '{key}'"))
            } else {
                (
                    format!("json_type(metadata, '$.{key}') = 'text'"),
                    format!("json_extract(metadata, '$.{key}')"),
                )
            };
            let equal = values.iter().map(|value| {
                let With::Text(text) = value else { return None };
                Some(format!(" OR coalesce({kind} AND {held} = {}, FALSE)", quoted(text)))
            });
            let equal = equal.collect::<Option<String>>()?;
            format!("(FALSE{equal})")
        }
        Asked::Compared(Of::Path(key @ ("n" | "ip" | "none"), _), order, With::Number(number))
            if postgres =>
        {
            let value = format!("(metadata ->> '{key}')::numeric {order} {number}::numeric");
            format!("(CASE WHEN json_typeof(metadata -> '{key}') = 'number' THEN {value} ELSE FALSE END)")
        }
        Asked::Not(inner) => format!("(NOT {})", plain_sql(inner, postgres)?),
        Asked::All(inner) => joined(inner, " AND ", "TRUE")?,
        Asked::Any(inner) => joined(inner, " OR ", "FALSE")?,
        _ => return None,
    })
}

impl Store {
    /// The `seq` of each row that the question as SQL finds on the tables. `None` if there are none, or SQL cannot say it.
    fn by_sql(&mut self, question: &Question) -> Option<Vec<u64>> {
        let seqs: Vec<String> = match self.tables.as_mut()? {
            Tables::Sqlite(connection) => {
                let sql = AssertSqlSafe(question.sql(false)?);
                block_on(sqlx::query_scalar(sql).fetch_all(connection)).unwrap()
            }
            Tables::Postgres(connection) => {
                let sql = AssertSqlSafe(question.sql(true)?);
                block_on(sqlx::query_scalar(sql).persistent(false).fetch_all(connection)).unwrap()
            }
        };
        Some(seqs.iter().map(|seq| seq.parse().unwrap()).collect())
    }

    /// Asks the reader whose turn it is. Returns whether SQL was asked, too.
    fn check(&mut self, turn: usize, question: &Question, all: &[SequencedEntry]) -> bool {
        let reader = &self.readers[turn % self.readers.len()];
        let query = question.query();
        let mut expected: Vec<&SequencedEntry> = all.iter().filter(|found| question.holds(found)).collect();
        let name = self.name;
        let count = block_on(reader.count(&query)).unwrap();
        assert_eq!(count, expected.len() as u64, "count, {name}: {question:?}");
        let limit = question.limit.map_or(usize::MAX, |limit| limit as usize);
        let seqs =
            |found: &[&SequencedEntry]| found.iter().take(limit).map(|found| found.seq).collect::<Vec<_>>();
        if question.newest_first {
            expected.reverse();
        }
        let streamed: Vec<SequencedEntry> = block_on(reader.stream(&query).try_collect()).unwrap();
        let found: Vec<u64> = streamed.iter().map(|found| found.seq).collect();
        assert_eq!(found, seqs(&expected), "stream, {name}: {question:?}");
        for found in &streamed {
            assert_eq!(found.entry, all[usize::try_from(found.seq).unwrap()].entry, "{name}");
        }
        expected.sort_by_key(|found| std::cmp::Reverse((found.entry.ts, found.seq)));
        let expected = seqs(&expected);
        let latest: Vec<SequencedEntry> =
            block_on(reader.stream_by_time(query.clone().newest_first()).try_collect()).unwrap();
        assert!(
            latest.iter().map(|found| found.seq).eq(expected.iter().copied()),
            "by time, {name}: {question:?}"
        );
        let by_sql = self.by_sql(question);
        let is_said = by_sql.is_some();
        assert!(by_sql.is_none_or(|found| found == expected), "SQL, {name}: {question:?}");
        is_said
    }
}

/// Asks so many questions of a log of so many entries, each of every store.
fn ask(seed: u64, entries: usize, questions: usize) {
    println!("the seed is {seed}: QUESTIONS_SEED={seed} asks these questions again");
    let rng = &mut Rng::with_seed(seed);
    let written: Vec<AuditEntry> = (0..entries).map(|number| entry(rng, number as u128)).collect();
    let mut stores = stores(&written, 5);
    let all: Vec<SequencedEntry> = block_on(support::all(&stores[0].readers[0]));
    // The scan looks at what was written, and not at what a store returns.
    assert!(all.iter().map(|found| &found.entry).eq(&written));
    let (mut found, mut said) = (0, 0);
    for turn in 0..questions {
        let question = question(rng, entries as u64);
        found += usize::from(all.iter().any(|found| question.holds(found)));
        for store in &mut stores {
            said += usize::from(store.check(turn, &question, &all));
        }
    }
    // The questions find something, and SQL can say some of them.
    assert!(found > questions / 10 && said > questions / 10, "{found} {said}");
}

fn seed() -> u64 {
    std::env::var("QUESTIONS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap())
}

#[test]
fn random_questions_over_hostile_data_have_the_answers_of_a_scan_in_every_store() {
    ask(seed(), 100, 200);
}

#[test]
#[ignore = "a sweep: .ci/sweep questions"]
fn two_thousand_random_questions_have_the_answers_of_a_scan_in_every_store() {
    let first = seed();
    for seed in first..first + 10 {
        ask(seed, 600, 200);
    }
}

#[test]
fn values_are_compared_by_their_type_in_every_store() {
    let values = [
        json!({ "n": 5 }),
        json!({ "n": 5.0 }),
        json!({ "n": "5" }),
        json!({ "n": -0.0 }),
        json!({ "n": u64::MAX }),
        json!({ "n": 9_007_199_254_740_993_i64 }),
        json!({ "n": 9_007_199_254_740_992.0 }),
        json!({ "n": null }),
        json!({}),
        json!({ "n": true }),
        json!({ "n": [5, "a"] }),
        json!({ "n": "" }),
        json!({ "n": "a%b_c\\d" }),
        json!({ "n": 0.1 }),
    ];
    let written: Vec<AuditEntry> = (0_u128..)
        .zip(values)
        .map(|(number, metadata)| AuditEntry {
            id: Uuid::from_u128(number + 1),
            metadata,
            ..AuditEntry::new(Uuid::nil(), "a", "r")
        })
        .collect();
    let n = || Field::metadata("n");
    for store in stores(&written, 1) {
        let found = |criterion: Criterion| {
            let found: Vec<SequencedEntry> =
                block_on(store.readers[0].stream(AuditQuery::new().matching(criterion)).try_collect())
                    .unwrap();
            found.into_iter().map(|found| found.seq).collect::<Vec<_>>()
        };
        for (criterion, expected) in [
            (n().is([5]), &[0, 1][..]),
            (n().is([Operand::word("5.0")]), &[0, 1]),
            (n().is(["5"]), &[2]),
            (n().is([Operand::word("5")]), &[0, 1, 2]),
            (n().is([0]), &[3]),
            (n().at_least(5), &[0, 1, 4, 5, 6]),
            (n().greater_than(5), &[4, 5, 6]),
            (n().less_than(0.1), &[3]),
            (n().at_most(0.1), &[3, 13]),
            (n().greater_than(Operand::word("0.1000000000000000055")), &[0, 1, 4, 5, 6]),
            (n().greater_than(9_007_199_254_740_992_i64), &[4, 5]),
            (n().at_least(u64::MAX), &[4]),
            (n().greater_than(Operand::word("-1e300")), &[0, 1, 3, 4, 5, 6, 13]),
            (n().less_than(Operand::word("1e300")), &[0, 1, 3, 4, 5, 6, 13]),
            (n().greater_than(u64::MAX), &[]),
            (n().at_least("5"), &[2, 12]),
            (n().less_than("5"), &[11]),
            (n().exists(), &[0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13]),
            (!n().exists(), &[8]),
            (!n().at_least(0), &[2, 7, 8, 9, 10, 11, 12]),
            (n().like("a%*\\d"), &[12]),
            (n().like("a_*"), &[]),
            (n().contains("B_C"), &[12]),
            (n().contains("rue"), &[9]),
            (n().like("[5,*]"), &[10]),
            (Field::metadata("n[1]").is(["a"]), &[10]),
            (Criterion::any([n().is([json!(null)]), n().is([true])]), &[7, 9]),
        ] {
            assert_eq!(found(criterion.clone()), expected, "{}: {criterion:?}", store.name);
        }
        for (criterion, says) in [
            (n().at_least(f64::NAN), "not finite"),
            (n().at_least(json!([1])), "lists and objects"),
            (n().less_than(true), "have no order"),
            (Field::from(Column::AgentId).at_least("a"), "an id has no order"),
            (Field::RiskScore.like("0*"), "has no pattern"),
            (Field::RiskScore.at_least("high"), "a finite number"),
            (!Field::from(Column::AgentId).like("health*"), "nobody has checked the names"),
            (n().like("*".repeat(17)), "16 *"),
            (n().like("a".repeat(9000)), "8 KiB"),
            ((0..10).fold(n().exists(), |inner, _| Criterion::any([inner, n().is([1])])), "to a depth of 8"),
        ] {
            let error = block_on(store.readers[0].count(AuditQuery::new().matching(criterion))).unwrap_err();
            assert!(error.is_query() && error.to_string().contains(says), "{}: {error}", store.name);
        }
        let deep = (0..4).fold(n().is([5]), |inner, _| Criterion::any([!inner, n().is([77])]));
        assert_eq!(found(deep), [0, 1]);
    }
}
