//! Replays AWS CloudTrail records through the layer: one audit event a record, at the time the record says.
//!
//! `cargo run --release --example replay -- [--db DATABASE] [INPUT]`: DATABASE is a SQLite file or, with the feature
//! `postgres`, a `postgres://` URL. INPUT is JSON Lines, plain or gzip; without it, standard input. Prints the books. A line that is not a JSON object is reported and skipped.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is its output")]

use std::{
    error::Error,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use tracing::info;
use tracing_audit::{AuditError, AuditLog};
use tracing_subscriber::prelude::*;

#[derive(Parser)]
struct Arguments {
    /// A SQLite file, created if it does not exist, or a postgres:// URL.
    #[arg(long, default_value = "audit.db")]
    db: String,
    /// CloudTrail records, one JSON object a line, plain or gzip. Default: standard input.
    input: Option<PathBuf>,
}

async fn open(database: &str) -> Result<AuditLog, AuditError> {
    #[cfg(feature = "postgres")]
    if database.starts_with("postgres:") {
        let store = tracing_audit::Store::postgres(database)?;
        return AuditLog::builder().store(store).in_memory_queue().open().await;
    }
    AuditLog::open(database).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let audit = open(&arguments.db).await?;
    tracing_subscriber::registry().with(audit.layer()).init();
    audit.check_wiring()?;

    let mut skipped = 0_u64;
    for (number, line) in lines(arguments.input)?.enumerate() {
        let line = line?;
        match serde_json::from_str::<Value>(&line) {
            Ok(record) if record.is_object() => emit(&record, &line),
            _ if line.trim().is_empty() => {}
            _ => {
                eprintln!("line {}: not a JSON object, skipped", number + 1);
                skipped += 1;
            }
        }
    }
    audit.flush().await?;
    // Without it the ledger takes this writer for one that is silent, until the next log adopts its queue.
    let stats = audit.shutdown(Duration::from_mins(10)).await?.stats;
    println!("offered     {:>8}", stats.offered);
    println!("committed   {:>8}", stats.committed);
    println!("rejected    {:>8}", stats.rejected);
    println!("quarantined {:>8}", stats.quarantined);
    println!("pending     {:>8}", stats.pending);
    println!("malformed   {:>8}", stats.malformed);
    println!("skipped     {skipped:>8}");
    let accounted = stats.committed + stats.rejected + stats.quarantined + stats.pending;
    println!("the books {}", if stats.offered == accounted { "balance" } else { "do not balance" });
    Ok(())
}

fn emit(record: &Value, line: &str) {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let source = text("/eventSource").unwrap_or_default();
    let error = text("/errorCode");
    let refused =
        error.is_some_and(|code| code.contains("AccessDenied") || code.contains("UnauthorizedOperation"));
    let agent = text("/userIdentity/arn").or(text("/userIdentity/invokedBy")).or(text("/userIdentity/type"));
    let resource_id = text("/resources/0/ARN").or(text("/requestParameters/bucketName"));
    info!(
        target: "audit",
        occurred_at = text("/eventTime"),
        workspace_id = text("/recipientAccountId"),
        session_id = text("/userIdentity/accessKeyId"),
        agent_id = agent,
        action = format!("{source}:{}", text("/eventName").unwrap_or_default()),
        resource = source,
        resource_id,
        decision = if refused { "Deny" } else { "Allow" },
        reason = text("/errorMessage").or(error),
        metadata = line,
    );
}

/// The lines of a file or of standard input, unpacked if they begin as gzip does.
fn lines(input: Option<PathBuf>) -> io::Result<impl Iterator<Item = io::Result<String>>> {
    let source: Box<dyn Read> = match input {
        Some(path) => Box::new(File::open(&path).map_err(|cause| {
            io::Error::new(cause.kind(), format!("{} cannot be read: {cause}", path.display()))
        })?),
        None => Box::new(io::stdin().lock()),
    };
    let mut source = BufReader::new(source);
    let gzip = source.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let unpacked: Box<dyn BufRead> =
        if gzip { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) };
    Ok(unpacked.lines())
}
