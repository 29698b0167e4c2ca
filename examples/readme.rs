//! The program of the README, word for word below this head.

#![expect(clippy::print_stdout, reason = "this is its output")]

use tracing::{info, info_span};
use tracing_audit::{AuditFilter, AuditLog, AuditQuery, audit_id, not_audit};
use tracing_subscriber::{EnvFilter, prelude::*};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let audit = AuditLog::open("audit.db").await?;
    tracing_subscriber::registry()
        .with(audit.protect(EnvFilter::from_default_env())) // a global filter that cannot silence audit
        .with(tracing_subscriber::fmt::layer().with_filter(not_audit())) // prints no audit events, but spans' fields
        .with(audit.layer())
        .init();
    audit.check_wiring()?; // a test event really arrives

    // Context comes from the spans around an event.
    let request = info_span!("request", agent_id = "alice@example.com");
    request.in_scope(|| {
        info!(target: "audit", action = "document.read", resource = "document", resource_id = 42,
              decision = "Allow", risk_score = 0.12, "default policy matched");
    });

    // Where an act must not happen unless its entry is durable, the same macro fails closed.
    audit.committed(|| info!(target: "audit", action = "key.destroy", resource = "key")).await?;

    audit.flush().await?; // everything above is in the database now
    let by_alice = AuditQuery::new().agent_id(audit_id("alice@example.com"));
    println!("entries by Alice: {}", audit.reader().count(by_alice).await?);
    audit.reader().export_csv(AuditFilter::default(), std::io::stdout()).await?;
    Ok(())
}
