//! The command, run as an operator runs it, on both databases.
//!
//! | file | what it tests |
//! |---|---|
//! | `book` | every command of the guide on terminals of four widths, and before a reader that has seen enough |
//! | `archive` | a ledger that has ended is kept in a file, and its database is removed |
//! | `conditions` | what each condition finds, and what cannot be meant |
//! | `compare` | an earlier export, compared with what the database holds now |
//! | `coverage` | what an answer covers, holes in it, exit codes, the next page, `check` |
//! | `evidence` | evidence files, by their script, by the command, by a second program |
//! | `export` | an export that is interrupted and resumed |
//! | `exported` | exported files and copies in place of a database; the layout of CSV |
//! | `operator` | tables, indexes, the queue, completions and the manual |
//! | `outputs` | the files that it writes: who may read them, what exists already, devices, pipes, links, signals |
//! | `prove` | proofs, bundles and consistency, and a second program that must agree |
//! | `published` | the tree in a directory, and a second program that reads it |
//! | `query` | several ledgers, several databases, hostile text, a reader of the output that ends early |
//! | `refusals` | errors: one clear sentence, and the exit code |
//! | `signed` | keys, signed checkpoints, trust files, a notary |
//! | `spliced` | two logs, or the answers of two questions, are never in one file |
//! | `stats` | counts over time |
//! | `tables` | hostile text in tables of several widths |
//! | `verify` | verification, and a second program that must agree |
//! | `tail` | a copy that is killed amid its work |
//! | `witness` | witnesses over HTTP, and trust files that ask for them |

mod archive;
mod book;
mod compare;
mod conditions;
mod coverage;
mod evidence;
mod export;
#[cfg(unix)]
mod exported;
mod operator;
#[cfg(unix)]
mod outputs;
mod prove;
mod published;
mod query;
mod refusals;
mod signed;
mod spliced;
mod stats;
mod tables;
mod tail;
mod verify;
mod witness;

use std::{
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use serde_json::Value;
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{AuditEntry, AuditLog, SequencedEntry};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

use crate::support::Fixture;

/// A small trail, written for these tests, in the format of AWS CloudTrail. A Tuesday in Berlin is
/// 2026-11-16 23:00 to 2026-11-17 23:00 in UTC.
pub(crate) static EVENTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let lines = include_str!("../../data/cloudtrail.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
});

pub(crate) fn emit(log: &AuditLog, event: &Value) {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let masked = text("/additionalEventData/masked");
    let decision = match text("/errorCode") {
        Some("AccessDenied") => "Deny",
        _ if masked.is_some() => "Mask",
        _ => "Allow",
    };
    let (source, risk) = (text("/eventSource").unwrap(), &event["additionalEventData"]["riskScore"]);
    let service = source.strip_suffix(".amazonaws.com").unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(log.layer()));
    dispatcher::with_default(&dispatch, || {
        info!(target: "audit", occurred_at = text("/eventTime"), workspace_id = text("/recipientAccountId"),
            session_id = text("/userIdentity/accessKeyId"), agent_id = text("/userIdentity/userName"),
            action = format!("{service}:{}", text("/eventName").unwrap()), resource = service,
            resource_id = text("/requestParameters/key"), decision, risk_score = risk.as_f64(),
            // A risk that is no number is a problem.
            risk_score = risk.as_str(), reason = text("/errorMessage").or(masked), metadata = event.to_string());
    });
}

pub(crate) fn filled(fixture: Fixture) -> Fixture {
    for event in &*EVENTS {
        emit(&fixture.log, event);
    }
    // The same entry twice: the second goes to quarantine.
    let twice = AuditEntry {
        id: Uuid::from_u128(7),
        ts: "2026-11-19T00:00:00Z".parse().unwrap(),
        ..AuditEntry::new(Uuid::nil(), "twice", "r")
    };
    fixture.log.writer().blocking().commit(twice.clone()).unwrap();
    assert!(fixture.log.writer().blocking().commit(twice).unwrap_err().is_duplicate());
    fixture
}

pub(crate) fn command(db: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
    command.env("TRACING_AUDIT_DB", db).env("COLUMNS", "120").stdin(Stdio::null());
    command
}

/// The exit code of the command with these arguments, and its two outputs.
fn said(db: &str, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(db).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The output of the command with these arguments, which succeeds and has nothing to say beside it.
fn good(db: &str, arguments: &[&str]) -> String {
    let (code, out, err) = said(db, arguments);
    assert_eq!((code, &*err), (0, ""), "{arguments:?}: {out}");
    out
}

/// Runs the command with these words, separated by single blanks. A word that holds blanks is quoted by `'`.
pub(crate) fn run(db: &str, arguments: &str) -> Output {
    let mut words = Vec::new();
    for (index, part) in arguments.split('\'').enumerate() {
        if index % 2 == 0 {
            words.extend(part.split_whitespace());
        } else {
            words.push(part);
        }
    }
    command(db).args(words).output().unwrap()
}

#[track_caller]
pub(crate) fn answer(db: &str, arguments: &str) -> String {
    let Output { status, stdout, stderr } = run(db, arguments);
    assert!(status.success(), "{arguments}: {}", String::from_utf8_lossy(&stderr));
    // What the answer covers, that there is more, and which periods were compared, stands beside it.
    let stderr = String::from_utf8(stderr).unwrap();
    let may_stand = |line: &str| {
        line.starts_with("{\"coverage\":")
            || line.starts_with("tracing-audit: now: ")
            || line.contains("; next: --cursor ")
    };
    assert!(stderr.lines().all(may_stand), "{stderr}");
    String::from_utf8(stdout).unwrap()
}

/// Checks the table that answers this.
#[track_caller]
pub(crate) fn shows(db: &str, arguments: &str, expected: &str) {
    let table = answer(db, &[arguments, " --format table"].concat());
    // How much of a period has passed depends on when the test runs.
    let table = match table.split_once(" so far") {
        Some((before, after)) => [before.rsplit_once(", ").unwrap().0, after].concat(),
        None => table,
    };
    assert_eq!(table.trim_end(), expected.trim(), "{arguments}:\n{table}");
}

/// The `seq` of each line.
pub(crate) fn seqs(lines: &str) -> Vec<u64> {
    let seq = |line| serde_json::from_str::<SequencedEntry>(line).unwrap().seq;
    lines.lines().map(seq).collect()
}
