//! Several processes on one file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

use support::{block_on, child, wait};
use tracing_audit::{AuditEntry, AuditLog, AuditReader, Migrate, Store};
use uuid::Uuid;

const FILE: &str = "TRACING_AUDIT_TEST_FILE";
const NAME: &str = "TRACING_AUDIT_TEST_NAME";

/// Runs `count` children of `test` at once on one fresh file and returns what they left in it.
fn together(test: &str, count: usize) -> Vec<tracing_audit::SequencedEntry> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let children: Vec<_> = (0..count)
        .map(|number| child(test, &[(FILE, file.to_str().unwrap()), (NAME, &number.to_string())]))
        .collect();
    for child in children {
        let status = wait(child);
        assert!(status.success(), "{test}: {status}");
    }
    let reader = AuditReader::new(Store::sqlite(file).unwrap());
    block_on(support::all(&reader))
}

fn write_as_child(entries: usize) -> bool {
    let (Ok(file), Ok(name)) = (std::env::var(FILE), std::env::var(NAME)) else { return false };
    let log = AuditLog::open_blocking(file).unwrap();
    for i in 0..entries {
        log.writer().try_write(AuditEntry::new(Uuid::nil(), format!("{name}-{i}"), "r")).unwrap();
        if i % 100 == 99 {
            log.flush_blocking().unwrap();
        }
    }
    log.flush_blocking().unwrap();
    true
}

fn assert_contiguous_and_complete(found: &[tracing_audit::SequencedEntry], processes: usize, each: usize) {
    let seqs: Vec<u64> = found.iter().map(|found| found.seq).collect();
    assert_eq!(seqs, (0..(processes * each) as u64).collect::<Vec<_>>());
    let actions: BTreeSet<&str> = found.iter().map(|found| found.entry.action.as_str()).collect();
    assert_eq!(actions.len(), processes * each);
}

#[test]
fn eight_processes_open_the_same_fresh_file_at_once_fifty_times() {
    if write_as_child(1) {
        return;
    }
    for _ in 0..50 {
        let found = together("eight_processes_open_the_same_fresh_file_at_once_fifty_times", 8);
        assert_contiguous_and_complete(&found, 8, 1);
    }
}

#[test]
fn two_processes_write_one_file_with_contiguous_seq_and_every_entry_once() {
    if write_as_child(5000) {
        return;
    }
    let found = together("two_processes_write_one_file_with_contiguous_seq_and_every_entry_once", 2);
    assert_contiguous_and_complete(&found, 2, 5000);
    // Each process's entries are in the order in which it wrote them.
    for name in ["0", "1"] {
        let numbers: Vec<usize> = found
            .iter()
            .filter_map(|found| found.entry.action.split_once('-'))
            .filter(|(process, _)| *process == name)
            .map(|(_, number)| number.parse().unwrap())
            .collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    }
}

/// A log that has been dropped may still be closing its connection.
fn shell() -> Command {
    let mut shell = Command::new("sqlite3");
    shell.args(["-cmd", ".timeout 20000"]);
    shell
}

#[test]
fn tables_made_in_the_shell_are_taken_by_a_log_that_may_not_make_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let store = || Store::sqlite(&file).unwrap().migrate(Migrate::Check);
    let open = |ledger: &str| AuditLog::builder().store(store()).ledger(ledger).open_blocking();
    let refused = |told: &str| {
        let error = open("main").unwrap_err();
        assert!(error.is_schema() && error.to_string().contains(told), "{error:?}");
    };
    refused("does not exist: run what Store::migrations gives");
    assert!(!file.exists());
    std::fs::write(&file, "").unwrap();
    refused("the audit tables do not exist: run what Store::migrations gives");
    for migration in store().migrations() {
        let mut running = shell().arg("-bail").arg(&file).stdin(Stdio::piped()).spawn().unwrap();
        running.stdin.take().unwrap().write_all(migration.sql.as_bytes()).unwrap();
        assert!(running.wait().unwrap().success());
    }
    let log = open("billing").unwrap();
    assert_eq!(log.writer().commit_blocking(AuditEntry::new(Uuid::nil(), "a", "document")).unwrap(), 0);
    drop(log);
    assert!(open("main").unwrap_err().to_string().contains("holds the ledger \"billing\""));
    // The same as a log makes.
    let made = directory.path().join("made.db");
    drop(AuditLog::open_blocking(&made).unwrap());
    let schema = |file: &std::path::Path| {
        let ask = "PRAGMA journal_mode; PRAGMA page_size; SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name; \
                   SELECT version, abs(applied_at / 1000000 - unixepoch()) < 3600 FROM tracing_audit_migrations";
        let answer = shell().arg(file).arg(ask).output().unwrap();
        assert!(answer.status.success());
        String::from_utf8(answer.stdout).unwrap()
    };
    assert_eq!(schema(&file), schema(&made));
    assert!(schema(&file).ends_with("1|1\n2|1\n"), "{}", schema(&file));
}
