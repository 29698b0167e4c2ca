//! `main` returns right after the last event, with the `AuditLog` in scope: nothing is lost. It is a real `main`
//! that returns, so this test brings its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use tracing::info;
use tracing_audit::{AuditFilter, AuditLog, AuditReader, Store};
use tracing_subscriber::prelude::*;

const EVENTS: u64 = 4000;
const FILE: &str = "TRACING_AUDIT_TEST_FILE";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Some(file) = std::env::var_os(FILE) {
        let audit = AuditLog::open(file).await.unwrap();
        tracing_subscriber::registry().with(audit.layer()).init();
        (0..EVENTS).for_each(|i| info!(target: "audit", action = "a", i));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let status = Command::new(std::env::current_exe().unwrap()).env(FILE, &file).status().unwrap();
    assert!(status.success());
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    assert_eq!(reader.count(AuditFilter::default()).await.unwrap(), EVENTS);
    println!("test main_returns_at_once_and_loses_nothing ... ok\n\ntest result: ok. 1 passed; 0 failed");
}
