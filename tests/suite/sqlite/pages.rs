//! Pages of the file that were overwritten: no answer with exit code 0 lacks an entry.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use fastrand::Rng;
use tracing_audit::{
    AuditEntry, AuditQuery, AuditReader, Decision, SequencedEntry, Store,
    evidence::{self, Verification},
    reader::FindingKind,
};

use crate::support::{block_on, entry, execute, log, settle};

/// The entries of the file.
const ENTRIES: u64 = 900;

/// The size of a page.
const PAGE: u64 = 8192;

/// Writes over a part of the file, in one of several ways. Returns what it did.
fn overwrite(file: &Path, random: &mut Rng) -> String {
    let mut bytes = fs::read(file).unwrap();
    let pages = bytes.len() as u64 / PAGE;
    let page = random.u64(..pages);
    let at = |page: u64| usize::try_from(page * PAGE).unwrap();
    let size = usize::try_from(PAGE).unwrap();
    let (from, len, what) = match random.u8(..6) {
        0 | 1 => (at(page), size, "random bytes".to_owned()),
        2 => (at(page), size, "zeros".to_owned()),
        3 => {
            let other = random.u64(..pages);
            let copy = bytes[at(other)..at(other) + size].to_vec();
            bytes[at(page)..at(page) + size].copy_from_slice(&copy);
            fs::write(file, bytes).unwrap();
            return format!("page {page}: a copy of page {other}");
        }
        4 => (at(page), random.usize(1..size), "random bytes at its beginning".to_owned()),
        _ => {
            let from = random.usize(..bytes.len());
            (from, (200 << 10).min(bytes.len() - from), format!("200 KiB from byte {from} on"))
        }
    };
    let zeros = what == "zeros";
    for byte in &mut bytes[from..from + len] {
        *byte = if zeros { 0 } else { random.u8(..) };
    }
    fs::write(file, bytes).unwrap();
    format!("page {page}: {what}")
}

fn ask(db: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("TRACING_AUDIT_DB", db).stdin(Stdio::null()).args(arguments);
    command.output().unwrap()
}

/// The numbers that an answer holds, in JSON Lines.
fn seqs(lines: &[u8]) -> BTreeSet<u64> {
    let seq = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64();
    String::from_utf8_lossy(lines).lines().filter_map(seq).collect()
}

/// Overwrites a page of a fresh copy again and again, and asks for all that it held.
fn pages(rounds: u64, seed: u64) {
    let fixture = log();
    let mut random = Rng::with_seed(seed);
    for number in 0..ENTRIES {
        let reason = Some("x".repeat(random.usize(..if number % 50 == 0 { 20_000 } else { 300 })));
        let entry = AuditEntry { reason, ..entry(format!("a{}", number % 5)) };
        fixture.log.writer().blocking().write(entry).unwrap();
        if random.u8(..8) == 0 {
            settle(&fixture.log.writer());
        }
    }
    settle(&fixture.log.writer());
    block_on(execute(&fixture.db, "PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
    let db = fixture.directory.path().join("copy.db");
    let output = fixture.directory.path().join("copy.jsonl");
    let (mut told, mut lacked) = (0, 0);
    for round in 0..rounds {
        for suffix in ["", "-wal", "-shm"] {
            drop(fs::remove_file(format!("{}{suffix}", db.display())));
        }
        fs::copy(&fixture.db, &db).unwrap();
        let done = overwrite(&db, &mut random);
        let export = ["export", "--manifest", "-o", output.to_str().unwrap()];
        let asked: [&[&str]; 5] = [
            &["query", "--limit", "0"],
            &export,
            &["tail", "-n", "all"],
            &["stats", "--by", "action"],
            &["query", "--limit", "0", "--since", "52w", "--oldest-first"],
        ];
        // Each round asks two of them, since each takes a process.
        for arguments in (0..2).map(|n| asked[usize::try_from((round * 2 + n) % 5).unwrap()]) {
            drop(fs::remove_file(&output));
            let Output { status, stdout, stderr } = ask(&db, arguments);
            let found = match arguments[0] {
                "stats" => {
                    let entries = |line: &str| {
                        serde_json::from_str::<serde_json::Value>(line).unwrap()["entries"].as_u64()
                    };
                    String::from_utf8_lossy(&stdout).lines().filter_map(entries).sum()
                }
                "export" => fs::read(&output).map_or(0, |lines| seqs(&lines).len() as u64),
                _ => seqs(&stdout).len() as u64,
            };
            let code = status.code();
            let stderr = String::from_utf8_lossy(&stderr);
            assert!(
                code != Some(0) || found == ENTRIES,
                "round {round}, {done}: {arguments:?} has {found} of {ENTRIES} entries, exit code 0, and says {stderr}"
            );
            assert!(
                matches!(code, Some(0 | 3 | 5)),
                "round {round}, {done}: {arguments:?}: {code:?} {stderr}"
            );
            assert_eq!(
                code != Some(0),
                stderr.lines().any(|line| line.starts_with("tracing-audit: ")),
                "{stderr}"
            );
            told += u64::from(code != Some(0));
            lacked += u64::from(found != ENTRIES);
        }
    }
    assert!(
        told > rounds / 4 && lacked > 0,
        "only {told} of {rounds} rounds were found, and {lacked} lacked an entry"
    );
}

#[test]
fn an_index_that_lacks_rows_is_named_beside_every_answer_that_it_can_have_served() {
    let fixture = log();
    for number in 0..60 {
        let refused =
            AuditEntry { decision: Decision::Deny.into(), session_id: Some(uuid::Uuid::nil()), ..entry("a") };
        fixture.log.writer().blocking().write(refused).unwrap();
        if number % 3 == 2 {
            settle(&fixture.log.writer());
        }
    }
    let entries = fixture.entries();
    let (reader, all, begin) = (fixture.log.reader(), AuditQuery::new, entries[0].entry.ts);
    let reader = reader.blocking();
    // The statement of each index but for its condition, that condition, and what is asked.
    for (name, on, condition, query) in [
        ("refused", "entries (decision)", "decision IN ('Deny', 'Mask')", all().decision(Decision::Deny)),
        (
            "refused_in",
            "entries (workspace_id, decision)",
            "decision IN ('Deny', 'Mask')",
            all().decision(Decision::Deny).workspace_id(entries[0].entry.workspace_id),
        ),
        ("session", "entries (session_id)", "session_id IS NOT NULL", all().session_id(uuid::Uuid::nil())),
        ("workspace", "entries (workspace_id)", "", all().workspace_id(entries[0].entry.workspace_id)),
        ("greatest", "batches (greatest_ts)", "", all().since(begin)),
    ] {
        let table = on.split(' ').next().unwrap();
        let index = format!("tracing_audit_{table}_{name}");
        assert!(!reader.coverage(&query, u64::MAX).unwrap().lacks(), "{index}");
        let place = if table == "entries" { "seq < 20" } else { "first_seq < 20" };
        let own = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
        let some =
            if condition.is_empty() { format!(" WHERE {place}") } else { format!("{own} AND {place}") };
        let statement = format!("CREATE INDEX {index} ON tracing_audit_{on}");
        // It is made without some rows, and says that it has all of them.
        fixture.run(&format!(
            "DROP INDEX {index}; {statement}{some}; PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = '{}' WHERE name = '{index}'; PRAGMA writable_schema = RESET",
            format!("{statement}{own}").replace('\'', "''")
        ));
        for query in [query.clone(), query.clone().newest_first()] {
            let found = reader.coverage(&query, u64::MAX).unwrap();
            assert!(found.lacks(), "{index}: {found:?}");
            assert!(
                found.altered.iter().any(|told| told.contains("the file is damaged")),
                "{index}: {found:?}"
            );
        }
        let mut kinds = Vec::new();
        reader.check(|found| kinds.push(found.kind)).unwrap();
        assert!(kinds.contains(&FindingKind::Damage), "{index}: {kinds:?}");
        fixture.run(&format!("REINDEX {index}"));
        assert!(!reader.coverage(&query, u64::MAX).unwrap().lacks(), "{index}");
    }
}

#[test]
fn an_entry_is_found_by_its_id_also_where_the_index_has_lost_it() {
    let fixture = log();
    (0..40).for_each(|number| _ = fixture.log.writer().blocking().commit(entry(number.to_string())).unwrap());
    let id = fixture.entries()[30].entry.id;
    block_on(execute(&fixture.db, "PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
    let bytes = fs::read(&fixture.db).unwrap();
    let places = (0..bytes.len() - 16).filter(|at| bytes[*at..*at + 16] == *id.as_bytes());
    let (mut there, mut gone) = (0, 0);
    for at in places {
        let mut changed = bytes.clone();
        changed[at + 15] ^= 1;
        let copy = fixture.directory.path().join(format!("{at}.db"));
        fs::write(&copy, changed).unwrap();
        let reader = AuditReader::new(Store::sqlite(&copy).unwrap());
        let reader = reader.blocking();
        let all = reader.page(AuditQuery::new(), None, 100).unwrap().entries;
        let is_there = all.iter().any(|found| found.entry.id == id);
        let found = [reader.get(id).unwrap(), reader.get_by_prefix(&id.to_string(), 10).unwrap()];
        let is_found = |found: &Vec<SequencedEntry>| found.iter().any(|found| found.entry.id == id);
        assert!(!is_there || found.iter().all(is_found), "{found:?}");
        (there, gone) = (there + u32::from(is_there), gone + u32::from(!is_there));
    }
    assert!(there > 0 && gone > 0, "{there} {gone}");
}

#[test]
fn a_table_or_a_head_that_is_gone_or_cannot_be_read_is_named_and_checked_all_the_same() {
    for (sql, says) in [
        ("DROP TABLE tracing_audit_head", "missing: tracing_audit_head"),
        ("DROP TABLE tracing_audit_entries", "missing: tracing_audit_entries"),
        ("DROP TABLE tracing_audit_batches", "tracing_audit_batches"),
        ("DELETE FROM tracing_audit_head", "has no row"),
        ("UPDATE tracing_audit_head SET ledger = CAST(x'ff' AS text)", "no text in UTF-8"),
        ("UPDATE tracing_audit_head SET ledger = printf('%.*c', 100000, 'x')", "100000 bytes"),
    ] {
        let fixture = log();
        fixture.log.writer().blocking().commit(entry("a")).unwrap();
        fixture.run(sql);
        let reader = fixture.log.reader();
        let reader = reader.blocking();
        let error = reader.ledgers().unwrap_err();
        assert!(error.is_altered() && error.to_string().contains(says), "{sql}: {error}");
        if sql == "DROP TABLE tracing_audit_head" {
            let verified = reader.verify(Verification::of_itself()).unwrap();
            let kinds: Vec<_> = verified.findings().iter().map(|found| found.kind).collect();
            assert!(kinds.contains(&evidence::FindingKind::SchemaAltered), "{kinds:?}");
        }
        let mut found = Vec::new();
        reader.check(|finding| found.push(finding.kind)).unwrap();
        assert!(
            found.iter().any(|kind| matches!(kind, FindingKind::Schema | FindingKind::Head)),
            "{sql}: {found:?}"
        );
    }
}

#[test]
fn a_quarantined_entry_whose_row_was_changed_is_handed_out_and_told() {
    let fixture = log();
    fixture.run(
        "INSERT INTO tracing_audit_quarantine VALUES (zeroblob(16), 1, x'01', 'refused', x'00', 0),
                                                     (x'02', 2, zeroblob(16), 'refused', x'00', 0)",
    );
    let found = fixture.log.reader().blocking().quarantined().unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.error.starts_with("refused; the id or the writer")), "{found:?}");
}

#[test]
fn an_answer_from_a_file_with_an_overwritten_page_lacks_nothing_or_says_so() {
    pages(24, 7);
}

#[test]
#[ignore = "minutes: .ci/sweep pages"]
fn a_thousand_overwritten_pages() {
    pages(1000, 11);
}
