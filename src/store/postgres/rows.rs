//! The columns of an entry, and an entry from them.

use sqlx::{Decode, Row as _, ValueRef as _, postgres::PgRow};
use uuid::Uuid;

use super::copy::EPOCH;
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

/// The entry of a row that starts with [`ROW`].
pub(super) fn decode(row: &PgRow) -> Row {
    read(row).unwrap_or_else(|_| decode_changed(row))
}

/// The same. An error if a column holds what it cannot hold unless somebody has altered the table.
pub(super) fn read(row: &PgRow) -> sqlx::Result<Row> {
    Ok(Row {
        id: row.try_get_unchecked(1)?,
        ts: micros(row, 2)?,
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
}

/// The entry of a row with nothing where an entry has something. Only a table that somebody has altered can have it.
fn decode_changed(row: &PgRow) -> Row {
    let mut unreadable = Vec::new();
    let is_null = |index: usize| row.try_get_raw(index).map_or(true, |value| value.is_null());
    for (index, column) in [
        (1, "id"),
        (2, "ts"),
        (3, "workspace_id"),
        (6, "action"),
        (7, "resource"),
        (9, "decision"),
        (12, "metadata"),
    ] {
        if is_null(index) {
            unreadable.push((column, "NULL".to_owned()));
        }
    }
    let text = |index: usize| row.try_get_unchecked::<&str, _>(index).ok();
    let id = |index: usize| row.try_get_unchecked::<Uuid, _>(index).ok();
    let row = Row {
        id: id(1).unwrap_or_default(),
        ts: micros(row, 2).unwrap_or_default(),
        workspace_id: id(3).unwrap_or_default(),
        session_id: id(4),
        agent_id: id(5),
        action: text(6).unwrap_or_default().into(),
        resource: text(7).unwrap_or_default().into(),
        resource_id: text(8).map(Into::into),
        decision: text(9).unwrap_or_default().into(),
        reason: text(10).map(Into::into),
        risk_score: row.try_get_unchecked(11).ok(),
        metadata: text(12).unwrap_or_default().into(),
        problems: text(13).map(Into::into),
    };
    row.with_unreadable(unreadable)
}

/// The time in this column, in microseconds since 1970. The types of chrono hold less than the server's: they would panic
/// at `infinity`.
pub(super) fn micros(row: &PgRow, index: usize) -> sqlx::Result<i64> {
    let value = row.try_get_raw(index)?;
    let since_epoch = <i64 as Decode<'_, sqlx::Postgres>>::decode(value);
    let since_epoch =
        since_epoch.map_err(|source| sqlx::Error::ColumnDecode { index: index.to_string(), source })?;
    Ok(since_epoch.saturating_add(EPOCH))
}

/// Does the same as [`micros`] for a column that may have no value.
pub(super) fn micros_or_none(row: &PgRow, index: usize) -> sqlx::Result<Option<i64>> {
    if row.try_get_raw(index)?.is_null() { Ok(None) } else { micros(row, index).map(Some) }
}

pub(super) fn decode_ledger(found: &PgRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found);
    let read = || {
        Ok(LedgerRow {
            ledger: found.try_get(14)?,
            seq: found.try_get::<i64, _>(0)?.cast_unsigned(),
            row,
            committed_at: micros_or_none(found, 15)?,
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let message = "the ledger's batches are damaged: their columns are not what this crate writes";
        AuditError::new(ErrorKind::Store, message).because(cause)
    })
}
