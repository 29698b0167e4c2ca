//! The columns of an entry, and an entry from them.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::entry::{LedgerRow, Row};
use crate::error::{AuditError, ErrorKind};

/// Selects the columns of an entry `e`.
pub(super) const ROW: &str = "SELECT e.seq, e.id, e.ts, e.workspace_id, e.session_id, e.agent_id, e.action, e.resource, \
                   e.resource_id, e.decision, e.reason, e.risk_score, e.metadata, e.problems";

/// Selects the place of an entry `e` in the ledger, after [`ROW`].
pub(super) const LEDGER: &str = ", (SELECT ledger FROM tracing_audit_head), (SELECT b.committed_at FROM tracing_audit_batches b \
                      WHERE b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1)";

/// The entry of a row that starts with [`ROW`].
pub(super) fn decode(row: &SqliteRow) -> Result<Row, AuditError> {
    let read = || {
        Ok(Row {
            id: row.try_get(1)?,
            ts: row.try_get(2)?,
            workspace_id: row.try_get(3)?,
            session_id: row.try_get(4)?,
            agent_id: row.try_get(5)?,
            action: row.try_get::<&str, _>(6)?.into(),
            resource: row.try_get::<&str, _>(7)?.into(),
            resource_id: row.try_get::<Option<&str>, _>(8)?.map(Into::into),
            decision: row.try_get::<&str, _>(9)?.into(),
            reason: row.try_get::<Option<&str>, _>(10)?.map(Into::into),
            risk_score: row.try_get(11)?,
            metadata: row.try_get::<&str, _>(12)?.into(),
            problems: row.try_get::<Option<&str>, _>(13)?.map(Into::into),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let seq = row.try_get::<i64, _>(0).unwrap_or(-1);
        AuditError::new(
            ErrorKind::Store,
            format!("entry {seq} is damaged: its columns are not what this crate writes"),
        )
        .because(cause)
    })
}

/// The entry of a row that starts with [`ROW`] and [`LEDGER`], with its place in the ledger.
pub(super) fn decode_ledger(found: &SqliteRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found)?;
    let read = || {
        Ok(LedgerRow {
            ledger: found.try_get(14)?,
            seq: found.try_get::<i64, _>(0)?.cast_unsigned(),
            row,
            committed_at: found.try_get(15)?,
        })
    };
    read().map_err(|cause: sqlx::Error| {
        AuditError::new(
            ErrorKind::Store,
            "the ledger's head or batches are damaged: their columns are not what this crate writes",
        )
        .because(cause)
    })
}
