//! Audits three acts, reads them back, and prints them as an auditor would get them.
//!
//! `cargo run --example quickstart [FILE]`: without a file, a temporary one.

#![expect(clippy::print_stdout, reason = "this is its output")]

use tracing::{info, info_span};
use tracing_audit::{AuditFilter, AuditLog, not_audit};
use tracing_subscriber::{filter::LevelFilter, prelude::*};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| directory.path().join("audit.db"), Into::into);

    let audit = AuditLog::open(path).await?;
    tracing_subscriber::registry()
        .with(audit.protect(LevelFilter::WARN))
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(not_audit()))
        .with(audit.layer())
        .init();
    audit.check_wiring()?;

    let request = info_span!("request", agent_id = "alice@example.com", session_id = "session-17");
    request.in_scope(|| {
        info!(target: "audit", action = "document.read", resource = "document", resource_id = 42,
              decision = "Allow", risk_score = 0.12, "default policy matched");
        info!(target: "audit", action = "document.delete", resource = "document", resource_id = 42,
              decision = "Deny", risk_score = 0.87, policy = "retention", "seven years are not over");
    });
    info!(target: "audit", action = "report.export", resource = "report", decision = "Mask", rows = 1204);

    audit.flush().await?;
    let reader = audit.reader();
    for entry in reader.query(AuditFilter::default()).await? {
        println!(
            "{} {:<5} {} {}",
            entry.ts.format("%H:%M:%S%.6f"),
            entry.decision,
            entry.action,
            entry.metadata
        );
    }
    println!();
    reader.export_csv(AuditFilter::default(), std::io::stdout()).await?;
    Ok(())
}
