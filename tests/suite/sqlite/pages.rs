//! Pages of the file that were overwritten: no answer with exit code 0 lacks an entry.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use fastrand::Rng;
use tracing_audit::AuditEntry;

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
fn an_answer_from_a_file_with_an_overwritten_page_lacks_nothing_or_says_so() {
    pages(24, 7);
}

#[test]
#[ignore = "minutes: .ci/sweep pages"]
fn a_thousand_overwritten_pages() {
    pages(1000, 11);
}
