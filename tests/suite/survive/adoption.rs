//! What the next log makes of a dead one's journal: whose defaults count, what the dead one had rejected, and old bytes
//! that somebody chose.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use tracing::info;
use tracing_audit::{AuditEntry, AuditLog, AuditLogBuilder, Decision, SequencedEntry, Store, WhenFull};
use tracing_subscriber::prelude::*;
use uuid::Uuid;

use crate::support::{
    self, assert_balanced, block_on, commit, entry, heavy, lock, this_test, unlock, wait_until,
};

const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
const CASE: &str = "TRACING_AUDIT_TEST_CASE";

fn builder(directory: &Path) -> AuditLogBuilder {
    support::builder(Store::sqlite(directory.join("audit.db")).unwrap())
        .journal(directory.join("audit.db.queue"))
        .on_notice(|_| {})
}

fn entries(directory: &Path) -> Vec<SequencedEntry> {
    support::all_in(directory.join("audit.db").to_str().unwrap())
}

fn journals(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory.join("audit.db.queue")) else { return Vec::new() };
    let paths = found.map(|found| found.unwrap().path());
    paths.filter(|path| path.join("lock").exists()).collect()
}

/// Waits until this log has settled every other journal.
fn adopted(log: &AuditLog, directory: &Path) {
    wait_until("every journal is adopted", || journals(directory).len() == 1);
    assert_balanced(&log.stats());
}

/// In a child: the directory, and which case it is.
fn of_child() -> Option<(PathBuf, String)> {
    Some((PathBuf::from(std::env::var_os(DIRECTORY)?), std::env::var(CASE).unwrap()))
}

fn start(test: &str, directory: &Path, case: &str) -> Child {
    support::child(test, &[(DIRECTORY, directory.to_str().unwrap()), (CASE, case)])
}

/// The child has come this far: waits to be killed.
fn ready(directory: &Path) -> ! {
    fs::write(directory.join("ready"), "").unwrap();
    loop {
        std::thread::park();
    }
}

fn kill_when_ready(mut child: Child, directory: &Path) {
    wait_until("the child is ready", || directory.join("ready").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(directory.join("ready")).unwrap();
}

/// The settings of a program that shares a database with others, and so their directory of queues.
fn program(directory: &Path, name: &str) -> AuditLogBuilder {
    let builder = builder(directory);
    match name {
        "worker" => builder.default_workspace(Uuid::from_u128(0xa)).static_field("service", "worker"),
        "web" => builder
            .default_workspace(Uuid::from_u128(0xb))
            .default_decision(Decision::Allow)
            .static_field("service", "web")
            .static_field("port", 443),
        "batch" => builder.default_decision(Decision::Deny).static_field("version", "1.2.3"),
        // The same program after an update.
        "batch later" => builder.static_field("version", "1.3.0"),
        _ => builder,
    }
}

/// Workspace, decision and metadata of an event that gives none of them, as this program means them.
fn meant(name: &str) -> (u128, &'static str, serde_json::Value) {
    match name {
        "worker" => (0xa, "", serde_json::json!({"service": "worker"})),
        "web" => (0xb, "Allow", serde_json::json!({"service": "web", "port": 443})),
        "batch" => (0, "Deny", serde_json::json!({"version": "1.2.3"})),
        "batch later" => (0, "", serde_json::json!({"version": "1.3.0"})),
        _ => (0, "", serde_json::json!({})),
    }
}

#[test]
fn an_adopted_event_has_the_defaults_of_the_program_that_accepted_it() {
    if let Some((directory, name)) = of_child() {
        let never = Duration::from_hours(1);
        let builder = program(&directory, &name).batch_entries(1 << 20).flush_interval(never);
        let log = builder.blocking().open().unwrap();
        tracing_subscriber::registry().with(log.layer()).init();
        info!(target: "audit", action = "bare");
        info!(target: "audit", action = "full", workspace_id = %Uuid::from_u128(1), decision = "mask", service = "own");
        ready(&directory);
    }
    let pairs =
        [("worker", "web"), ("web", "worker"), ("batch", "batch later"), ("batch", ""), ("", "batch")];
    for (dead, next) in pairs {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        kill_when_ready(start(this_test!(), directory, dead), directory);
        let log = program(directory, next).blocking().open().unwrap();
        adopted(&log, directory);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log.layer()), || {
            info!(target: "audit", action = "own");
        });
        log.blocking().flush().unwrap();
        let found = entries(directory);
        let of = |action: &str| &found.iter().find(|found| found.entry.action == action).unwrap().entry;
        for (action, name) in [("bare", dead), ("own", next)] {
            let AuditEntry { workspace_id, decision, metadata, .. } = of(action);
            let says = (workspace_id.as_u128(), decision.as_str(), metadata.clone());
            assert_eq!(says, meant(name), "{action} of {dead:?}, adopted by {next:?}");
        }
        let AuditEntry { workspace_id, decision, metadata, .. } = of("full");
        assert_eq!((workspace_id.as_u128(), decision.as_str()), (1, "Mask"));
        assert_eq!(metadata["service"], "own");
    }
}

/// A journal of a version that does not say what its log's defaults were: the next log must not make up any.
#[test]
fn a_journal_without_defaults_gets_none_and_one_with_them_gets_its_own() {
    let golden: [(&[u8], _); 2] = [
        (include_bytes!("../../data/journal-1.segment"), (0, "", None)),
        (include_bytes!("../../data/journal-2.segment"), (0xa, "Mask", Some("worker"))),
    ];
    for (segment, (workspace, decision, service)) in golden {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let journal = directory.join("audit.db.queue/105e60ed-e9e8-4f40-95df-7407b0aa3013");
        fs::create_dir_all(&journal).unwrap();
        fs::write(journal.join("lock"), "4711\n").unwrap();
        fs::write(journal.join("00000000000000000000.segment"), segment).unwrap();
        let log = program(directory, "web").blocking().open().unwrap();
        adopted(&log, directory);
        assert_eq!((log.stats().recovered, log.stats().damaged), (3, 0));
        let found = entries(directory);
        let written = &found.iter().find(|found| found.entry.action == "document.write").unwrap().entry;
        assert_eq!(written.workspace_id.as_u128(), workspace);
        assert_eq!(written.decision.as_str(), decision);
        assert_eq!(written.metadata["service"].as_str(), service);
        assert!(written.metadata["port"].is_null());
    }
}

/// The rejections that the ledger tells of.
fn told(directory: &Path) -> u64 {
    let found = entries(directory);
    let gaps = found.iter().filter(|found| found.entry.action == "audit.gap");
    gaps.map(|gap| gap.entry.metadata["rejected"].as_u64().unwrap()).sum()
}

/// Offers entries to a small journal until enough are rejected, and writes down how many, one by one.
fn flood(directory: &Path, case: &str) {
    let when_full = if case.starts_with("block") {
        WhenFull::Block { timeout: Duration::from_millis(20) }
    } else {
        WhenFull::Reject
    };
    let builder = builder(directory).journal_max_bytes(512 << 10).when_full(when_full);
    let log = builder.commit_timeout(Duration::from_millis(100)).blocking().open().unwrap();
    let mut rejected = 0;
    while rejected < 1200 {
        let padded = AuditEntry { reason: Some("x".repeat(1000)), ..entry("a") };
        if log.writer().blocking().write(padded).is_err() {
            rejected += 1;
            fs::write(directory.join("next"), rejected.to_string()).unwrap();
            fs::rename(directory.join("next"), directory.join("rejected")).unwrap();
        }
        if case.ends_with("killed") && rejected == 400 {
            fs::write(directory.join("ready"), "").unwrap();
        }
    }
    if case.ends_with("killed") {
        ready(directory);
    }
    assert_eq!(log.stats().rejected, rejected);
    if case.ends_with("aborted") {
        std::process::abort();
    }
    // As after a return from `main`.
    drop(log);
    std::process::exit(0);
}

#[test]
fn rejections_of_a_dead_process_are_told_by_the_next_log_exactly_once() {
    if let Some((directory, case)) = of_child() {
        return flood(&directory, &case);
    }
    let _heavy = heavy();
    for case in ["reject, returned", "reject, killed", "block, aborted", "block, killed"] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let log = builder(directory).blocking().open().unwrap();
        commit(&log, entry("before"));
        assert!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending == 0);
        let mut in_all = 0;
        // Two processes, one after the other, while the database is locked.
        let blocker = block_on(lock(directory.join("audit.db")));
        for _ in 0..2 {
            let child = start(this_test!(), directory, case);
            if case.ends_with("killed") {
                kill_when_ready(child, directory);
            } else {
                support::wait(child);
            }
            let rejected: u64 = fs::read_to_string(directory.join("rejected")).unwrap().parse().unwrap();
            assert!(rejected >= 400, "{rejected}");
            in_all += rejected;
            fs::remove_file(directory.join("rejected")).unwrap();
        }
        assert_eq!(journals(directory).len(), 2);
        block_on(unlock(blocker));
        for _ in 0..2 {
            let log = builder(directory).blocking().open().unwrap();
            adopted(&log, directory);
            // A process that was killed may have rejected one more than it could write down.
            let more = if case.ends_with("killed") { 2 } else { 0 };
            let told = told(directory);
            assert!((in_all..=in_all + more).contains(&told), "{case}: {told} of {in_all}");
            assert!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending == 0);
        }
        let found = entries(directory);
        let queues = found.iter().filter(|found| found.entry.metadata["queue"].is_string()).count();
        assert_eq!(queues, 2, "each of them is told by the next log, with its queue");
    }
}

/// Eight bytes that look like the length of a record and a position, in the texts of events that fill the journal's
/// segments several times over.
#[test]
fn old_bytes_that_a_client_chose_do_not_keep_the_next_log_from_starting() {
    if let Some((directory, case)) = of_child() {
        let piece = if case == "hostile" { "\u{7f}\u{7f}\u{f}\0\0\0\0\0" } else { "plain...." };
        let text = piece.repeat(64 * 1024 / piece.len());
        let log = builder(&directory).blocking().open().unwrap();
        tracing_subscriber::registry().with(log.layer()).init();
        for i in 0..770 {
            info!(target: "audit", action = "a", i, text);
            if i % 50 == 49 {
                log.blocking().flush().unwrap();
            }
        }
        log.blocking().flush().unwrap();
        ready(&directory);
    }
    let _heavy = heavy();
    let frozen = |case: &str| {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        kill_when_ready(start(this_test!(), directory, case), directory);
        let started = Instant::now();
        let log = builder(directory).commit_timeout(support::PATIENCE).blocking().open().unwrap();
        commit(&log, entry("after"));
        let committed = started.elapsed();
        adopted(&log, directory);
        let settled = started.elapsed();
        assert_eq!((log.stats().recovered, log.stats().damaged), (0, 0));
        assert_eq!(entries(directory).len(), 771);
        println!("{case}: first commit after {committed:?}, journals settled after {settled:?}");
        committed
    };
    let [plain, hostile] = ["plain", "hostile"].map(frozen);
    println!("hostile bytes take {:.2} times as long as plain ones", hostile.div_duration_f64(plain));
}
