//! The columns of an entry, and an entry from them.

use chrono::{DateTime, Utc};
use sqlx::{Row as _, postgres::PgRow};

use crate::entry::{LedgerRow, Row};
use crate::error::{AuditError, ErrorKind};

/// The columns of a row. Each names its type, so that decoding need not look at the type of every value.
pub(super) const ROW: &str = "SELECT e.seq::int8, e.id::uuid, e.ts::timestamptz, e.workspace_id::uuid, e.session_id::uuid, \
                   e.agent_id::uuid, e.action::text, e.resource::text, e.resource_id::text, e.decision::text, \
                   e.reason::text, e.risk_score::float8, e.metadata::text, e.problems::text";

/// The columns of a row's place in the ledger, after those of [`ROW`].
pub(super) const LEDGER: &str = ", e.ledger, (SELECT b.committed_at FROM @tracing_audit_batches b \
                      WHERE b.ledger = e.ledger AND b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1)";

/// The indexes of the columns in [`ROW`] that hold texts, which may be long.
const TEXTS: [usize; 7] = [6, 7, 8, 9, 10, 12, 13];

/// The bytes of a row's texts.
pub(super) fn text_bytes(row: &PgRow) -> usize {
    let bytes = |index: usize| row.try_get_raw(index).ok()?.as_bytes().ok().map(<[u8]>::len);
    TEXTS.into_iter().filter_map(bytes).sum()
}

pub(super) fn decode(row: &PgRow) -> Result<Row, AuditError> {
    let read = || {
        Ok(Row {
            id: row.try_get_unchecked(1)?,
            ts: row.try_get_unchecked::<DateTime<Utc>, _>(2)?.timestamp_micros(),
            workspace_id: row.try_get_unchecked(3)?,
            session_id: row.try_get_unchecked(4)?,
            agent_id: row.try_get_unchecked(5)?,
            action: row.try_get_unchecked::<&str, _>(6)?.into(),
            resource: row.try_get_unchecked::<&str, _>(7)?.into(),
            resource_id: row.try_get_unchecked::<Option<&str>, _>(8)?.map(Into::into),
            decision: row.try_get_unchecked::<&str, _>(9)?.into(),
            reason: row.try_get_unchecked::<Option<&str>, _>(10)?.map(Into::into),
            risk_score: row.try_get_unchecked(11)?,
            metadata: row.try_get_unchecked::<&str, _>(12)?.into(),
            problems: row.try_get_unchecked::<Option<&str>, _>(13)?.map(Into::into),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let seq = row.try_get::<i64, _>(0).unwrap_or(-1);
        let message = format!("entry {seq} is damaged: its columns are not what this crate writes");
        AuditError::new(ErrorKind::Store, message).because(cause)
    })
}

pub(super) fn decode_ledger(found: &PgRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found)?;
    let read = || {
        Ok(LedgerRow {
            ledger: found.try_get(14)?,
            seq: found.try_get::<i64, _>(0)?.cast_unsigned(),
            row,
            committed_at: found.try_get::<DateTime<Utc>, _>(15)?.timestamp_micros(),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let message = "the ledger's batches are damaged: their columns are not what this crate writes";
        AuditError::new(ErrorKind::Store, message).because(cause)
    })
}
