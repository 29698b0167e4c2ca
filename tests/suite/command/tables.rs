//! Tables over hostile data, at several widths and in a pipe, held to rules: no id is cut, every line fits, a terminal
//! obeys nothing, and two names never look the same.

use std::collections::HashSet;

use serde_json::{Value, json};
use tracing_audit::{AuditEntry, audit_id};
use unicode_width::UnicodeWidthChar;
use uuid::Uuid;

use super::{answer, command, run};
use crate::support::{Fixture, log};

/// Names of which some look like others, or are not what they look like.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "alice",
        "ali\u{200b}ce",
        "ali\u{ad}ce",
        "alice\u{feff}",
        "alice\u{e0041}",
        "\u{430}lice",
        "alic\u{435}",
        "\u{ff41}lice",
        "alicé",
        "alice\u{301}",
        "alice ",
        " alice",
        "ali ce",
        "ali\u{a0}ce",
        "ali\u{2028}ce",
        "\u{202e}ecila",
        "\u{2067}alice",
        "ali\\u{200b}ce",
        "ali\\nce",
        "ali\nce",
        "ali\tce",
        "(none)",
        "",
        "\u{1b}[2Jalice",
        "\u{9b}31malice",
        "alice\u{7f}",
        "\u{5d0}\u{5dc}\u{5d9}\u{5e1}",
        "\u{645}\u{631}\u{62d}\u{628}\u{627} 7",
        "東京都庁舎",
        "👩\u{200d}👧",
        "👩👧",
        "\u{3164}",
        "क्षि",
        "가",
        "\u{1100}\u{1161}",
        "a\u{334}\u{335}\u{336}\u{337}\u{338}",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("organizations:".repeat(40));
    names.push(["organizations:".repeat(40), "x".to_owned()].concat());
    names.push("東京".repeat(2000));
    names
}

fn hostile() -> Fixture {
    let fixture = log();
    for (number, name) in names().iter().enumerate() {
        let entry = AuditEntry {
            agent_id: Some(audit_id(name)),
            resource_id: Some(name.clone()),
            decision: ["Allow", "Deny", "Mask", name][number % 4].to_owned(),
            reason: (number % 3 != 0).then(|| [name, " because\r\n", name].concat()),
            risk_score: if number % 5 == 0 { 0.5 } else { 0.0 },
            metadata: json!({ "agent_id": name, "client": { "ip": name } }),
            ts: "2026-11-24T10:00:00Z".parse().unwrap(),
            ..AuditEntry::new(Uuid::nil(), name.clone(), "r")
        };
        fixture.log.writer().blocking().commit(entry).unwrap();
    }
    let unnamed = AuditEntry { agent_id: Some(Uuid::from_u128(7)), ..AuditEntry::new(Uuid::nil(), "a", "r") };
    fixture.log.writer().blocking().commit(unnamed.clone()).unwrap();
    assert!(fixture.log.writer().blocking().commit(unnamed).is_err());
    fixture
}

fn width(line: &str) -> usize {
    line.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The output as a terminal of this width would get it, or a pipe.
#[track_caller]
fn shown(db: &str, arguments: &str, columns: Option<usize>) -> String {
    let mut command = command(db);
    command.env_remove("COLUMNS").args(arguments.split(' ')).args(["--format", "table"]);
    if let Some(columns) = columns {
        command.env("COLUMNS", columns.to_string());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let obeyed =
            |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        assert!(!line.contains(obeyed), "{arguments}: {line:?}");
        // What is written from right to left does not reach beyond its cell.
        assert_eq!(line.matches('\u{2068}').count(), line.matches('\u{2069}').count(), "{line:?}");
        let isolated = line.split('\u{2068}').skip(1).all(|part| part.contains('\u{2069}'));
        assert!(isolated, "{line:?}");
        assert!(columns.is_none_or(|columns| width(line) <= columns), "{arguments} at {columns:?}: {line}");
    }
    text
}

/// The first words of the lines that begin a row.
fn first_words(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn tables_of_hostile_text_fit_and_cut_no_id() {
    let fixture = hostile();
    let db = &*fixture.db;
    let count = names().len() + 1;
    let ids: Vec<Value> = answer(db, "query --columns seq,id,agent_id --limit 0")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ids.len(), count);
    for columns in [Some(60), Some(80), Some(120), Some(200), None] {
        let table = shown(db, "query --limit 0", columns);
        let mut seqs: Vec<_> =
            first_words(&table).into_iter().filter_map(|word| word.parse::<u64>().ok()).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (0..count as u64).collect::<Vec<_>>(), "{columns:?}\n{table}");
        assert!(table.contains("2026-11-24 10:00:00Z") && table.contains("Allow"), "{columns:?}\n{table}");
        assert!(table.contains("00000000-0000-0000-0000-000000000007"), "{columns:?}\n{table}");
        let chosen = shown(
            db,
            "query --limit 0 --columns seq,id,agent_id,metadata.client.ip --tz Asia/Kolkata",
            columns,
        );
        for id in &ids {
            for field in ["id", "agent_id"] {
                assert!(chosen.contains(id[field].as_str().unwrap()), "{columns:?}: {id}\n{chosen}");
            }
        }
        let quarantined = shown(db, "quarantine list", columns);
        assert!(quarantined.contains("the ledger holds an entry with this id"), "{quarantined}");
        assert!(shown(db, "ledgers", columns).contains("main"));
        let counts = shown(db, "stats --by agent_id --limit 0", columns);
        assert!(counts.contains(&format!("{count} counts, {count} entries")), "{counts}");
        shown(db, "stats --by action,decision", columns);
        shown(db, "stats --by hour --tz -03:30", columns);
    }
    // Nothing is cut in a pipe, and two names never look the same.
    let counts = shown(db, "stats --by agent_id --limit 0", None);
    let (rows, _) = counts.split_once("\n\n").unwrap();
    let agents: HashSet<&str> =
        rows.lines().skip(1).map(|row| row.split_once("  ").map_or(row, |(agent, _)| agent)).collect();
    assert_eq!(agents.len(), count, "{agents:?}");
    assert!(counts.contains(&"東京".repeat(2000)));
}

#[test]
fn rows_that_come_later_and_are_wider_are_whole_too() {
    let fixture = log();
    for number in 0..1100 {
        let action = if number == 1050 { "document.read.of.another.kind" } else { "a" };
        fixture.log.writer().blocking().write(AuditEntry::new(Uuid::nil(), action, "r")).unwrap();
    }
    fixture.log.blocking().flush().unwrap();
    for arguments in ["query --oldest-first --limit 0", "tail -n all"] {
        let table = shown(&fixture.db, arguments, Some(80));
        let (heads, rows): (Vec<_>, Vec<_>) =
            first_words(&table).into_iter().partition(|word| *word == "seq");
        assert_eq!(rows, (0..1100).map(|seq| seq.to_string()).collect::<Vec<_>>());
        assert!(
            (2..5).contains(&heads.len()) && table.contains("document.read.of.another.kind"),
            "{heads:?}"
        );
    }
}

#[test]
fn columns_without_content_take_no_room_and_others_can_be_chosen() {
    let fixture = log();
    let entry = AuditEntry {
        metadata: json!({ "client": { "ip": "10.0.0.1" }, "n": 7 }),
        ts: "2026-11-24T10:00:00Z".parse().unwrap(),
        ..AuditEntry::new(Uuid::nil(), "document.read", "document")
    };
    fixture.log.writer().blocking().commit(entry.clone()).unwrap();
    let db = &*fixture.db;
    let table = shown(db, "query", Some(80));
    assert_eq!(
        table,
        "seq  time                  action         resource\n0    2026-11-24 10:00:00Z  document.read  document\n"
    );
    let table = shown(db, "query --columns action,metadata.client.ip,metadata.n,seq --tz +05:30", Some(80));
    assert_eq!(table, "action         client.ip  n  seq\ndocument.read  10.0.0.1   7  0\n");
    assert_eq!(
        answer(db, "query --columns seq,metadata.client.ip,time,agent --tz +05:30"),
        "{\"seq\":0,\"metadata.client.ip\":\"10.0.0.1\",\"ts\":\"2026-11-24T10:00:00Z\",\"agent\":null}\n"
    );
    assert!(shown(db, "query --tz +05:30", None).contains("2026-11-24 15:30:00+05:30"));
    let wide = answer(db, "query -o wide");
    assert!(wide.contains(&entry.id.to_string()) && wide.contains("document"), "{wide}");
    let refused = run(db, "query --columns colour");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("there is no field \"colour\": there are ledger, seq, id"), "{message}");
    assert_eq!(run(db, "query --columns seq --format csv").status.code(), Some(2));
}

#[test]
fn an_entry_is_found_by_what_a_table_shows_of_it() {
    let fixture = log();
    let id = |text: &str| text.parse::<Uuid>().unwrap();
    for (id, action) in [
        (id("019a2b3c-0000-7000-8000-000000000001"), "one"),
        (id("019a2b3c-0000-7000-8000-000000000002"), "two"),
        (id("12345678-0000-7000-8000-000000000003"), "three"),
    ] {
        let metadata = json!({ "agent_id": "al\u{200b}ice" });
        let agent_id = Some(audit_id("al\u{200b}ice"));
        let entry = AuditEntry { id, agent_id, metadata, ..AuditEntry::new(Uuid::nil(), action, "r") };
        fixture.log.writer().blocking().commit(entry).unwrap();
    }
    let db = &*fixture.db;
    let action = |what: &str| {
        let found: Value = serde_json::from_str(&answer(db, &format!("get {what}"))).unwrap();
        found["action"].as_str().unwrap().to_owned()
    };
    assert_eq!(action("1"), "two");
    assert_eq!(action("main:0"), "one");
    assert_eq!(action("main/2"), "three");
    assert_eq!(action("019A2B3C-0000-7000-8000-000000000001"), "one");
    assert_eq!(action("019a2b3c0000700080000000000000 02".replace(' ', "").as_str()), "two");
    assert_eq!(action("12345678"), "three");
    let fails = |what: &str, code: i32, says: &str| {
        let output = run(db, &format!("get {what}"));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {message}");
        assert!(message.contains(says), "{what}: {message}");
    };
    fails(
        "019a2b3c",
        2,
        "several ids begin with 019a2b3c: choose main:0 (019a2b3c-0000-7000-8000-000000000001), main:1",
    );
    fails("3", 1, "no entry has the seq 3");
    fails("99999999", 1, "no entry has the seq 99999999, or an id that begins with it");
    fails("mian:1", 2, "there is no ledger \"mian\"; choose from main");
    fails("019a2b3", 2, "is no entry: give its seq");
    fails("alice", 2, "is no entry: give its seq");
    fails("18446744073709551615", 1, "no entry has the seq");
    let list = answer(db, "get 0 --format table --tz Europe/Berlin");
    let fields: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        fields[..7],
        ["ledger", "seq", "id", "session_id", "workspace_id", "agent_id", "action"],
        "{list}"
    );
    let agent = format!("{}  al\\u{{200b}}ice", audit_id("al\u{200b}ice"));
    assert!(list.contains(&agent), "{list}");
}

#[test]
fn every_pipe_gets_json_lines_unless_a_format_is_given() {
    let fixture = hostile();
    let db = &*fixture.db;
    let queue = format!("queue {db}.queue");
    answer(db, "get 0 --as Ada");
    for arguments in [
        "query",
        "get 0",
        "tail",
        "stats --limit 0",
        "stats --by day",
        "ledgers",
        "reads",
        "index list",
        "quarantine list",
        "check",
        &queue,
    ] {
        for line in answer(db, arguments).lines() {
            assert!(serde_json::from_str::<Value>(line).unwrap().is_object(), "{arguments}: {line}");
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{arguments}: {line:?}");
        }
        // Whatever lists something takes the same option.
        let formats: &[&str] = if arguments == "tail" {
            &["--format table"]
        } else {
            &["--format table", "-o table", "-o wide"]
        };
        for format in formats {
            let table = answer(db, &[arguments, " ", format].concat());
            assert!(!table.is_empty() && !table.starts_with('{'), "{arguments} {format}: {table}");
        }
        let lines = answer(db, &[arguments, " --format jsonl"].concat());
        assert!(lines.starts_with('{'), "{arguments}: {lines}");
    }
}
