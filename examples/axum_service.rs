//! A small HTTP service whose every decision is audited.
//!
//! `cargo run --example axum_service -- [--db FILE] [--listen ADDRESS]`, then for instance:
//!
//! ```sh
//! curl -H 'x-user: alice' localhost:8080/documents/42
//! curl -H 'x-user: mallory' localhost:8080/documents/42
//! curl -H 'x-user: alice' -X DELETE localhost:8080/keys/7    # 503 unless its entry is durable
//! curl localhost:8080/admin/denials
//! curl localhost:8080/healthz
//! ```

#![expect(clippy::print_stdout, reason = "it says where it listens, and how it ended")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tower_http::trace::TraceLayer;
use tracing::{Span, info, info_span};
use tracing_audit::{AuditError, AuditLog, AuditQuery, Decision, Store, not_audit};
use tracing_subscriber::{filter::LevelFilter, prelude::*};
use uuid::Uuid;

#[derive(Parser)]
struct Options {
    /// The SQLite file; without it, a temporary one.
    #[arg(long)]
    db: Option<PathBuf>,
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

type App = State<Arc<AuditLog>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let directory = tempfile::tempdir()?;
    let file = options.db.unwrap_or_else(|| directory.path().join("audit.db"));

    // A request waits no longer than a second for an entry that must be durable.
    let builder = AuditLog::builder().store(Store::sqlite(file)?).commit_timeout(Duration::from_secs(1));
    let audit = Arc::new(builder.static_field("service", "documents").open().await?);
    tracing_subscriber::registry()
        .with(audit.protect(LevelFilter::WARN))
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(not_audit()))
        .with(audit.layer())
        .init();
    audit.check_wiring()?;

    let app = Router::new()
        .route("/documents/{id}", get(read_document))
        .route("/keys/{id}", delete(destroy_key))
        .route("/admin/denials", get(denials))
        .layer(TraceLayer::new_for_http().make_span_with(request_span))
        // Asked every few seconds: no span, no audit.
        .route("/healthz", get(health))
        .with_state(Arc::clone(&audit));
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;

    // After the last request, so that nothing is rejected; what is left is said.
    let report = audit.shutdown(Duration::from_secs(5)).await?;
    println!("stopped with {} entries committed, {} left", report.stats.committed, report.stats.pending);
    Ok(())
}

/// Who asks, for every entry of the request.
fn request_span(request: &Request) -> Span {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    info_span!(
        "request",
        agent_id = header("x-user").unwrap_or("anonymous"),
        session_id = header("x-session"),
        request_id = %Uuid::new_v4(),
    )
}

async fn read_document(Path(id): Path<u64>, headers: HeaderMap) -> Response {
    if headers.get("x-user").is_some_and(|user| user == "mallory") {
        info!(target: "audit", action = "document.read", resource = "document", resource_id = id,
              decision = "Deny", risk_score = 0.9, "not on the list of readers");
        return StatusCode::FORBIDDEN.into_response();
    }
    info!(target: "audit", action = "document.read", resource = "document", resource_id = id,
          decision = "Allow", risk_score = 0.1);
    Json(json!({ "id": id, "text": "..." })).into_response()
}

/// Destroys nothing unless it is certain that the ledger will say so.
async fn destroy_key(State(audit): App, Path(id): Path<u64>) -> Response {
    let committed = audit.committed(|| {
        info!(target: "audit", action = "key.destroy", resource = "key", resource_id = id,
              decision = "Allow", risk_score = 0.8);
    });
    match committed.await {
        Ok(seqs) => Json(json!({ "id": id, "seqs": seqs })).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn denials(State(audit): App) -> Response {
    let query = AuditQuery::new().decision(Decision::Deny).limit(20);
    match audit.reader().query(query).await {
        Ok(entries) => Json(entries).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn health(State(audit): App) -> (StatusCode, String) {
    let health = audit.health();
    let status = if health.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, health.to_string())
}

fn unavailable(error: &AuditError) -> Response {
    // An entry that is pending may still be committed: whoever tries again may leave two.
    let body = json!({ "error": error.to_string(), "may_be_committed": error.is_pending() });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
