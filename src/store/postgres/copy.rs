//! Rows in `COPY`'s binary format, which the server takes in faster than any statement's parameters.
//!
//! The format is described in PostgreSQL's documentation of `COPY`, "Binary Format". The format of each column is
//! that of its type's `recv` function: integers and floats in network order, times as microseconds since 2000.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::entry::{Row, from_micros};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// No flags, and a header extension of no bytes.
const FLAGS_AND_EXTENSION: [u8; 8] = [0; 8];
const COLUMNS: i16 = 15;
const END: i16 = -1;
const NULL: i32 = -1;
/// 2000-01-01 in microseconds since 1970.
pub(super) const EPOCH: i64 = 946_684_800_000_000;
/// The bytes of a row without its two longest texts, as an estimate.
const FIXED: usize = 200;

/// Adds these rows to the ledger, the first one at `first_seq`, and does other work while the server takes them in. Returns how
/// many the server has stored.
pub(super) async fn copy(
    connection: &mut PgConnection,
    statement: &str,
    (ledger, first_seq): (&str, i64),
    rows: &[&Row],
    meanwhile: impl Future<Output = ()>,
) -> sqlx::Result<u64> {
    // The rows are encoded before the statement, because the server waits for the rows from then on, with the ledger
    // held.
    let rows = encode((ledger, first_seq), rows);
    let mut copy = connection.copy_in_raw(statement).await?;
    let copied = async move {
        copy.send(rows).await?;
        copy.finish().await
    };
    let (stored, ()) = tokio::join!(biased; copied, meanwhile);
    stored
}

fn encode((ledger, first_seq): (&str, i64), rows: &[&Row]) -> Vec<u8> {
    let texts =
        |row: &&Row| FIXED + row.metadata.len() + row.reason.as_ref().map_or(0, |reason| reason.len());
    let mut bytes = Vec::with_capacity(rows.iter().map(texts).sum());
    bytes.extend_from_slice(SIGNATURE);
    bytes.extend_from_slice(&FLAGS_AND_EXTENSION);
    for (seq, row) in (first_seq..).zip(rows) {
        bytes.extend_from_slice(&COLUMNS.to_be_bytes());
        let ts = from_micros(row.ts).timestamp_micros() - EPOCH;
        let mut column = |value: Option<&[u8]>| {
            // An entry's size limit is far below the greatest length.
            let length = value.map_or(NULL, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(value.unwrap_or_default());
        };
        column(Some(ledger.as_bytes()));
        column(Some(&seq.to_be_bytes()));
        column(Some(row.id.as_bytes()));
        column(Some(&ts.to_be_bytes()));
        column(Some(row.workspace_id.as_bytes()));
        column(row.session_id.as_ref().map(Uuid::as_bytes).map(<[u8; 16]>::as_slice));
        column(row.agent_id.as_ref().map(Uuid::as_bytes).map(<[u8; 16]>::as_slice));
        column(Some(row.action.as_bytes()));
        column(Some(row.resource.as_bytes()));
        column(row.resource_id.as_deref().map(str::as_bytes));
        column(Some(row.decision.as_bytes()));
        column(row.reason.as_deref().map(str::as_bytes));
        column(row.risk_score.map(f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        column(Some(row.metadata.as_bytes()));
        column(row.problems.as_deref().map(str::as_bytes));
    }
    bytes.extend_from_slice(&END.to_be_bytes());
    bytes
}
