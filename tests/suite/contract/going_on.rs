// Reading goes on: past rows that somebody has changed, in memory that long entries do not fill, at a cost that grows with
// the entries alone; and a bound in time finds the entry whose time it is.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use sqlx::sqlite::SqlitePoolOptions;
#[cfg(feature = "postgres")]
use sqlx::{Connection, PgConnection, postgres::PgPoolOptions};
use tracing_audit::{
    AuditEntry, AuditFilter, AuditQuery, AuditReader, Decision, SequencedEntry,
    export::ExportFormat,
    query::{Column, CountBy, ZoneOffsets},
};
use uuid::Uuid;

use super::log;
use crate::support::{self, Fixture, block_on, entry};

fn is_postgres(fixture: &Fixture) -> bool {
    fixture.db.starts_with("postgres:")
}

/// 2026-01-01, and this many seconds more.
fn second(number: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600 + number, 0).unwrap()
}

/// A log that was shut down, with this many entries, one each second, and as many commit batches.
fn with_batch_for_each(entries: u32) -> Fixture {
    let fixture = log();
    let writer = fixture.log.writer();
    block_on(async {
        for number in 0..entries {
            let decision = ["Allow", "Deny", "Mask"][number as usize % 3].to_owned();
            let action = ["document.read", "document.write"][number as usize % 2];
            writer.write(AuditEntry { decision, ts: second(number.into()), ..entry(action) }).await.unwrap();
        }
    });
    fixture.settle();
    drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
    let (ledger, writer) = if is_postgres(&fixture) {
        ("ledger,", "'00000000-0000-0000-0000-000000000001'::uuid")
    } else {
        ("", "x'00000000000000000000000000000001'")
    };
    fixture.run(&format!(
        "DELETE FROM tracing_audit_batches;
         INSERT INTO tracing_audit_batches
             SELECT {ledger} seq, 1, {writer}, seq + 1, ts, ts, ts FROM tracing_audit_entries"
    ));
    fixture.run("ANALYZE");
    fixture
}

/// What the database does for this: steps of SQLite's machine, or rows and entries of indexes that PostgreSQL looks at.
fn work(fixture: &Fixture, read: impl AsyncFnOnce(AuditReader)) -> u64 {
    #[cfg(feature = "postgres")]
    if is_postgres(fixture) {
        return looked_at(fixture, read);
    }
    steps(fixture, read)
}

fn steps(fixture: &Fixture, read: impl AsyncFnOnce(AuditReader)) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let pool = SqlitePoolOptions::new().max_connections(1).after_connect(move |connection, _| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            let count = move || {
                counted.fetch_add(10, Ordering::Relaxed);
                true
            };
            connection.lock_handle().await?.set_progress_handler(10, count);
            Ok(())
        })
    });
    block_on(async {
        let pool = pool.connect(&fixture.db).await.unwrap();
        read(AuditReader::new(pool.clone())).await;
        pool.close().await;
    });
    steps.load(Ordering::Relaxed)
}

#[cfg(feature = "postgres")]
fn looked_at(fixture: &Fixture, read: impl AsyncFnOnce(AuditReader)) -> u64 {
    let ask = |sql: &'static str| {
        block_on(async {
            let mut connection = PgConnection::connect(&fixture.db).await.unwrap();
            let answer: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            answer.unsigned_abs()
        })
    };
    // A session adds what it has done when it ends.
    let alone = || {
        support::wait_until("no other session is left", || {
            ask("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND backend_type = 'client backend' AND pid <> pg_backend_pid()") == 0
        });
        ask("SELECT (SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables)::bigint
                  + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)::bigint")
    };
    let before = alone();
    block_on(async {
        let pool = PgPoolOptions::new().max_connections(1).connect(&fixture.db).await.unwrap();
        read(AuditReader::new(pool.clone())).await;
        pool.close().await;
    });
    alone() - before
}

#[test]
fn four_times_the_entries_take_four_times_the_work_whatever_bounds_the_read_has() {
    const FEW: u32 = 1500;
    let [few, many] = [FEW, 4 * FEW].map(with_batch_for_each);
    let all = AuditQuery::new;
    let within = |query: AuditQuery| query.from_seq(0).since(second(0)).before(second(1_000_000));
    let questions = [
        ("everything", all()),
        ("from a number on", all().from_seq(0)),
        ("in a time", within(all())),
        ("committed since", all().committed_since(second(0)).from_seq(0)),
        ("newest first, in a time", within(all()).newest_first()),
        ("two decisions", all().any_of(Column::Decision, ["Deny", "Mask"])),
        ("two decisions, newest first, in a time", within(all().any_of(Column::Decision, ["Deny", "Mask"])).newest_first()),
        ("a workspace in a time", within(all().workspace_id(Uuid::nil()))),
        ("a prefix, until a time", all().action_prefix("document.").until(second(1_000_000))),
        ("a text, committed before", all().containing("read").committed_before(second(1_000_000))),
    ];
    let mut grown = BTreeMap::new();
    let mut compare = |name: String, read: &dyn Fn(&Fixture) -> (u64, usize)| {
        let ((few, found_few), (many, found_many)) = (read(&few), read(&many));
        assert_eq!(4 * found_few, found_many, "{name}");
        grown.insert(name, (few, many));
    };
    for (name, query) in questions {
        compare(format!("stream: {name}"), &|fixture| {
            let mut found = 0;
            let work = work(fixture, async |reader| found = reader.stream(&query).map(Result::unwrap).count().await);
            (work, found)
        });
        compare(format!("follower: {name}"), &|fixture| {
            let found = block_on(AuditReader::new(fixture.store()).count(&query)).unwrap();
            let found = usize::try_from(found).unwrap();
            let work = work(fixture, async |reader| {
                let followed = reader.follow_matching(&query, 0).take(found).map(Result::unwrap);
                assert_eq!(followed.count().await, found);
            });
            (work, found)
        });
    }
    for format in [ExportFormat::JsonLines, ExportFormat::Ocsf, ExportFormat::Csv] {
        compare(format!("export: {format:?}"), &|fixture| {
            let mut lines = Vec::new();
            let work = work(fixture, async |reader| {
                reader.export(within(all()), format, &mut lines).await.unwrap();
            });
            let head = usize::from(format == ExportFormat::Csv);
            (work, String::from_utf8(lines).unwrap().lines().count() - head)
        });
    }
    let too_much: Vec<_> = grown.iter().filter(|(_, (few, many))| *many > 6 * few).collect();
    assert!(too_much.is_empty(), "{too_much:#?}");
}

/// Every way to read all entries, in the order of commit.
fn everywhere(reader: &AuditReader) -> Vec<(&'static str, Vec<SequencedEntry>)> {
    let in_order = |mut found: Vec<SequencedEntry>| {
        found.sort_by_key(|found| found.seq);
        found
    };
    block_on(async {
        let count = usize::try_from(reader.count(AuditFilter::default()).await.unwrap()).unwrap();
        let latest = AuditQuery::new().newest_first();
        let mut lines = Vec::new();
        reader.export(AuditQuery::new(), ExportFormat::JsonLines, &mut lines).await.unwrap();
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter::<SequencedEntry>();
        let mut ocsf = Vec::new();
        reader.export(AuditQuery::new(), ExportFormat::Ocsf, &mut ocsf).await.unwrap();
        assert_eq!(String::from_utf8(ocsf).unwrap().lines().count(), count);
        for format in [ExportFormat::Csv, ExportFormat::CsvUnescaped] {
            let mut csv = Vec::new();
            assert_eq!(reader.export(AuditQuery::new(), format, &mut csv).await.unwrap(), count as u64);
            assert_eq!(csv::Reader::from_reader(&*csv).records().map(Result::unwrap).count(), count);
        }
        assert_eq!(reader.query(AuditQuery::new()).await.unwrap().len(), count);
        vec![
            ("page", support::all(reader).await),
            ("stream", reader.stream(AuditQuery::new()).try_collect().await.unwrap()),
            ("newest first", in_order(reader.stream(&latest).try_collect().await.unwrap())),
            ("latest", in_order(reader.stream_by_time(&latest).try_collect().await.unwrap())),
            ("earliest", in_order(reader.stream_by_time(AuditQuery::new()).try_collect().await.unwrap())),
            ("follow", reader.follow(0).take(count).try_collect().await.unwrap()),
            ("JSON Lines", lines.map(Result::unwrap).collect()),
        ]
    })
}

/// Writes entries in several batches, changes one column in each of some, and reads them in every way.
fn changed(changes: &[(&str, &str, &str, &str)], before: &[&str]) {
    let fixture = log();
    for batch in 0..4 {
        for number in 0..10 {
            let metadata = json!({ "number": number, "ip": "10.0.0.1" });
            let entry = AuditEntry { metadata, decision: Decision::Deny.into(), ..entry(format!("{batch}")) };
            fixture.log.writer().blocking().write(entry).unwrap();
        }
        fixture.settle();
    }
    drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
    let reader = AuditReader::new(fixture.store());
    let whole = block_on(support::all(&reader));
    for sql in before {
        fixture.run(sql);
    }
    for (seq, (column, value, ..)) in (1..).step_by(2).zip(changes) {
        fixture.run(&format!("UPDATE tracing_audit_entries SET {column} = {value} WHERE seq = {seq}"));
    }
    // What was read before it was changed is asked anew.
    let reader = AuditReader::new(fixture.store());
    let ways = everywhere(&reader);
    let (_, first) = &ways[0];
    for (way, found) in &ways {
        assert!(found.iter().map(|found| found.seq).eq(0..40), "{way}");
        assert_eq!(found, first, "{way}");
    }
    let is_changed = |seq: u64| seq % 2 == 1 && seq < 2 * changes.len() as u64;
    for (found, was) in first.iter().zip(&whole).filter(|(found, _)| !is_changed(found.seq)) {
        assert_eq!(found, was);
    }
    for (found, (column, value, problem, text)) in first.iter().skip(1).step_by(2).zip(changes) {
        let told = found.problems.join("; ");
        if problem.is_empty() {
            assert!(found.problems.is_empty(), "{column} = {value}: {found:?}");
        } else {
            assert!(told.contains(&format!("{column}: ")) && told.contains(problem), "{column} = {value}: {found:?}");
        }
        let line = serde_json::to_string(found).unwrap();
        assert!(line.contains(text), "{column} = {value}: {line}");
        let found_by_id = block_on(reader.get(found.entry.id)).unwrap();
        assert!(*column == "id" || found_by_id == [found.clone()], "{column} = {value}: {found_by_id:?}");
    }
    // Questions about what is in the metadata pass over those that are none.
    let of_ip = AuditQuery::new().metadata_any_of("ip", ["10.0.0.1"]);
    let counted = block_on(reader.count(of_ip)).unwrap();
    assert!((20..=40).contains(&counted), "{counted}");
    let berlin = ZoneOffsets::new(3600).since("2026-03-29T01:00:00Z".parse().unwrap(), 7200);
    let others = [
        CountBy::Hour,
        CountBy::Day,
        CountBy::HourIn(berlin.clone()),
        CountBy::DayIn(berlin),
        CountBy::Ledger,
        CountBy::Metadata("ip".to_owned()),
    ];
    for by in Column::ALL.into_iter().map(CountBy::Column).chain(others) {
        let counts = block_on(reader.count_by(AuditQuery::new(), by)).unwrap();
        assert_eq!(counts.iter().map(|counted| counted.entries).sum::<u64>(), 40);
    }
    #[cfg(feature = "cli")]
    in_the_command(&fixture);
}

/// The command reads on too, and keeps its position.
#[cfg(feature = "cli")]
fn in_the_command(fixture: &Fixture) {
    use crate::command::{run, seqs};
    // Times beyond those of their batches may be missed by other questions, and that is said.
    let answer = |arguments: &str| {
        let found = run(&fixture.db, arguments);
        let told = String::from_utf8(found.stderr).unwrap();
        let may_lack = told.contains("the answer may lack entries") && told.contains("with a time outside");
        assert!(found.status.success() || found.status.code() == Some(5) && may_lack, "{arguments}: {told}");
        String::from_utf8(found.stdout).unwrap()
    };
    let file = |name: &str| fixture.directory.path().join(name).display().to_string();
    let all: Vec<u64> = (0..40).collect();
    for arguments in ["tail -n all", "tail --state STATE", "export", "query --limit 0"] {
        let mut found = seqs(&answer(&arguments.replace("STATE", &file("state"))));
        found.sort_unstable();
        assert_eq!(found, all, "{arguments}");
    }
    assert_eq!(answer(&format!("tail --state {}", file("state"))), "");
    assert_eq!(answer(&format!("tail -o {}", file("copy"))), "");
    assert_eq!(seqs(&std::fs::read_to_string(file("copy")).unwrap()), all);
    assert_eq!(answer("query --limit 0 --format table").lines().count(), 41);
}

#[test]
fn a_row_that_somebody_has_changed_is_read_with_a_problem_and_so_is_all_behind_it() {
    let deep = format!("'{}{}'", "[".repeat(200), "]".repeat(200));
    let changes = [
        ("problems", "'5'", "not a list of texts: 5", ""),
        ("problems", "'{\"a\": [1]}'", "not a list of texts", "{\\\"a\\\": [1]}"),
        ("problems", "'[1, 2]'", "not a list of texts", "[1, 2]"),
        ("metadata", &*deep, "not JSON that can be read", "\"metadata\":\"[[["),
        ("metadata", "'{\"n\": 1e999}'", "not JSON that can be read", "\"metadata\":\"{\\\"n\\\": 1e999}\""),
        ("metadata", "'{\"ip\": \"\\ud800\"}'", "not JSON that can be read", "ud800"),
        ("metadata", "'{\"n\": 1, \"n\": 2}'", "holds two equal keys in one object", "\"metadata\":\"{\\\"n\\\": 1, \\\"n\\\": 2}\""),
        ("metadata", "'7'", "", "\"metadata\":7"),
        ("decision", "'Perhaps'", "", "\"decision\":\"Perhaps\""),
    ];
    changed(&changes, &[]);
}

#[test]
fn values_that_only_one_of_the_databases_can_hold_are_read_with_a_problem_too() {
    if module_path!().contains("::postgres::") {
        changed(
            &[
                ("ts", "'infinity'", "outside of the years", "\"ts\":\"9999-12-31T23:59:59.999999Z\""),
                ("ts", "'-infinity'", "outside of the years", "\"ts\":\"0001-01-01T00:00:00Z\""),
                ("ts", "'294276-01-01'", "outside of the years", ""),
                ("ts", "'0044-03-15 BC'", "outside of the years", ""),
                ("risk_score", "'NaN'", "not a finite number", "\"risk_score\":0.0"),
                ("risk_score", "'-Infinity'", "not a finite number", "\"risk_score\":0.0"),
                ("action", "NULL", "NULL", "\"action\":\"\""),
                ("metadata", "NULL", "NULL", ""),
                ("ts", "NULL", "NULL", ""),
                ("id", "NULL", "NULL", ""),
            ],
            &["ALTER TABLE tracing_audit_entries ALTER action DROP NOT NULL, ALTER metadata DROP NOT NULL,
               ALTER ts DROP NOT NULL, ALTER id DROP NOT NULL"],
        );
    } else {
        let strict = "PRAGMA writable_schema = ON;
                      UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'tracing_audit_entries';
                      PRAGMA writable_schema = RESET";
        changed(
            &[
                ("metadata", "'{'", "not JSON that can be read", "\"metadata\":\"{\""),
                ("metadata", "''", "not JSON that can be read", "\"metadata\":\"\""),
                ("ts", "9000000000000000000", "9000000000000000000 microseconds", "\"ts\":\"9999-12-31T23:59:59.999999Z\""),
                ("ts", "-9223372036854775808", "outside of the years", "\"ts\":\"0001-01-01T00:00:00Z\""),
                ("id", "x'0102'", "x'0102'", "\"id\":\"00000000-0000-0000-0000-000000000000\""),
                ("workspace_id", "zeroblob(17)", "x'0000000000000000000000000000000000'", ""),
                ("agent_id", "'alice'", "'alice'", "\"agent_id\":null"),
                ("risk_score", "9e999", "not a finite number", "\"risk_score\":0.0"),
                ("action", "CAST(x'41ff42' AS TEXT)", "x'41ff42'", "\"action\":\"A\u{fffd}B\""),
                ("reason", "x'fe00'", "x'fe00'", ""),
                ("resource", "x'4142'", "x'4142'", "\"resource\":\"AB\""),
                ("metadata", "x'7b7d'", "x'7b7d'", ""),
                ("ts", "'yesterday'", "'yesterday'", "\"ts\":\"1970-01-01T00:00:00Z\""),
                ("session_id", "7", "no entry can have there: 7", "\"session_id\":null"),
                ("problems", "12", "12", ""),
            ],
            &[strict],
        );
    }
}

#[test]
fn an_entry_that_no_batch_holds_is_read_with_a_problem() {
    let fixture = log();
    for action in ["a", "b", "c"] {
        fixture.log.writer().blocking().commit(entry(action)).unwrap();
    }
    fixture.run("DELETE FROM tracing_audit_batches WHERE first_seq = 0");
    let reader = fixture.log.reader();
    let found: Vec<SequencedEntry> = block_on(reader.stream(AuditQuery::new()).try_collect()).unwrap();
    assert!(found[0].problems[0].starts_with("committed_at: no batch"), "{found:?}");
    assert!(found.iter().map(|found| &*found.entry.action).eq(["a", "b", "c"]));
    assert!(found[1].problems.is_empty() && found[2].problems.is_empty(), "{found:?}");
}

#[test]
fn a_follower_passes_a_row_that_is_changed_before_it_comes_there() {
    let fixture = log();
    let mut entries = pin!(fixture.log.reader().follow(0));
    for round in 0..3_u64 {
        for action in ["a", "b"] {
            fixture.log.writer().blocking().write(entry(action)).unwrap();
        }
        fixture.settle();
        fixture.run(&format!("UPDATE tracing_audit_entries SET problems = '5' WHERE seq = {}", 2 * round));
        let found = block_on(async { [entries.next().await.unwrap().unwrap(), entries.next().await.unwrap().unwrap()] });
        assert_eq!(found.clone().map(|found| found.seq), [2 * round, 2 * round + 1]);
        assert_eq!(found.map(|found| found.problems.len()), [1, 0]);
    }
}

#[test]
fn an_entry_is_found_by_its_own_time_as_a_bound_to_the_nanosecond() {
    let fixture = log();
    // Every part of a microsecond, before 1970 too, and beyond the years that are stored.
    let times: Vec<DateTime<Utc>> = (0..40)
        .map(|number| {
            let base = if number % 2 == 0 { second(0) } else { DateTime::from_timestamp(-5_000_000, 0).unwrap() };
            base + TimeDelta::milliseconds(number) + TimeDelta::nanoseconds(number * 137 % 1000)
        })
        .chain(["+20000-01-01T00:00:00.0000005Z".parse().unwrap(), "-0500-01-01T00:00:00Z".parse().unwrap()])
        .collect();
    let entries: Vec<AuditEntry> = times.iter().map(|ts| AuditEntry { ts: *ts, ..entry("a") }).collect();
    for entry in &entries {
        fixture.log.writer().blocking().write(entry.clone()).unwrap();
    }
    fixture.settle();
    let reader = fixture.log.reader();
    let ids = |query: AuditQuery| {
        let found = block_on(reader.query(&query)).unwrap();
        assert_eq!(block_on(reader.count(&query)).unwrap(), found.len() as u64);
        let streamed: Vec<_> = block_on(reader.stream(&query).try_collect()).unwrap();
        assert_eq!(streamed.len(), found.len());
        found.into_iter().map(|found| found.id).collect::<Vec<_>>()
    };
    for AuditEntry { id, ts, .. } in &entries {
        let filter = AuditFilter { start_time: Some(*ts), end_time: Some(*ts), ..AuditFilter::default() };
        assert_eq!(ids(filter.into()), [*id], "{ts}");
        let (since, before) = (ids(AuditQuery::new().since(*ts)), ids(AuditQuery::new().before(*ts)));
        assert!(since.contains(id) && !before.contains(id), "{ts}");
        assert_eq!(since.len() + before.len(), entries.len(), "{ts}");
        assert!(ids(AuditQuery::new().until(*ts)).contains(id), "{ts}");
    }
    let found: Vec<SequencedEntry> = block_on(reader.stream(AuditQuery::new()).try_collect()).unwrap();
    for SequencedEntry { committed_at, entry, .. } in found {
        let part = TimeDelta::nanoseconds(999);
        assert!(ids(AuditQuery::new().committed_since(committed_at + part)).contains(&entry.id));
        assert!(!ids(AuditQuery::new().committed_before(committed_at + part)).contains(&entry.id));
    }
    // The record of reads is asked in the same way.
    let reader = reader.recorded_as("Ada");
    block_on(reader.count(AuditQuery::new())).unwrap();
    let at = block_on(reader.reads(.., 1)).unwrap()[0].at + TimeDelta::nanoseconds(999);
    assert_eq!(block_on(reader.reads(at..=at, 9)).unwrap().len(), 1);
    assert_eq!(block_on(reader.reads(..at, 9)).unwrap(), []);
}

#[test]
fn pages_of_long_entries_end_before_their_size_and_meet_every_entry() {
    let fixture = log();
    let long = "x".repeat(900_000);
    for number in 0..24 {
        let metadata = if number % 12 < 9 { json!({ "long": long }) } else { json!({}) };
        fixture.log.writer().blocking().write(AuditEntry { metadata, ..entry(number.to_string()) }).unwrap();
    }
    fixture.settle();
    let reader = fixture.log.reader();
    for query in [AuditQuery::new(), AuditQuery::new().newest_first(), AuditQuery::new().containing("doc")] {
        let (mut found, mut cursor, mut sizes) = (Vec::new(), None, Vec::new());
        loop {
            let page = block_on(reader.page(&query, cursor, 1000)).unwrap();
            let long = page.entries.iter().filter(|found| found.entry.metadata["long"].is_string());
            assert!(long.count() <= 6);
            sizes.push(page.entries.len());
            found.extend(page.entries);
            let Some(next) = page.next else { break };
            cursor = Some(next);
        }
        assert!(sizes.len() > 2 && sizes.iter().all(|size| *size > 0), "{sizes:?}");
        let streamed: Vec<_> = block_on(reader.stream(&query).try_collect()).unwrap();
        assert_eq!((found.len(), &found), (24, &streamed));
        let back = block_on(reader.page(&query, None, 3)).unwrap();
        let back = block_on(reader.page(&query, back.next, 3)).unwrap();
        assert_eq!(block_on(reader.page(&query, back.prev, 3)).unwrap().entries, found[..3]);
    }
    let followed: Vec<Value> = block_on(
        reader.follow_matching(AuditQuery::new().containing("doc"), 0).take(24).map(|found| json!(found.unwrap().seq)).collect(),
    );
    assert_eq!(followed, (0..24).map(Value::from).collect::<Vec<_>>());
}

/// Entries of a megabyte each. All of them, as text and as values, are more than the command may hold.
#[cfg(all(feature = "cli", target_os = "linux"))]
#[test]
fn the_command_needs_no_more_memory_for_long_entries_than_for_as_many_bytes_of_short_ones() {
    use std::process::{Command, Stdio};
    const LIMIT_KIB: u32 = 64 * 1024;
    let _heavy = support::heavy();
    let fixture = log();
    let long = "0123456789abcdef".repeat(60_000);
    for number in 0..40 {
        let metadata = json!({ "long": long, "number": number });
        block_on(fixture.log.writer().write(AuditEntry { metadata, ..entry("a") })).unwrap();
    }
    fixture.settle();
    for (arguments, lines) in [
        ("export --format csv", 41),
        ("tail -n all", 40),
        ("query --limit 0 --oldest-first --format table", 41),
    ] {
        // The limit is one of private memory, and exceeding it ends the command.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -d {LIMIT_KIB}; exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_tracing-audit")).args(arguments.split(' '));
        command.env("TRACING_AUDIT_DB", &fixture.db).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let out = std::io::BufReader::new(running.stdout.take().unwrap());
        let found = std::io::BufRead::split(out, b'\n').count();
        assert!(running.wait().unwrap().success(), "{arguments}");
        assert_eq!(found, lines, "{arguments}");
    }
}
