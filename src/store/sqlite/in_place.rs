//! Hands over entries where they lie, to the code that computes their leaves.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::{pool::PoolConnection, sqlite::LockedSqliteHandle};
use uuid::Uuid;

use super::{rows::ROW, source::Sqlite};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::Columns;
use crate::platform::{InPlace, block_on, rows_in_place};
use crate::store::evidence::TakeRow;

/// The rows of one statement, during which a writer of a file without a write-ahead log waits: some 10 ms.
const PIECE: i64 = 8192;

/// The columns of [`ROW`].
const COLUMNS: usize = 14;

/// Hands over the rows of the range in the order of `seq`, on a thread of its own. Returns from where on the others are to be
/// read through sqlx: the end of the range, unless SQLite has met an error, which sqlx then says.
pub(super) async fn rows(sqlite: &Sqlite, range: Range<i64>, take: TakeRow) -> Result<i64, AuditError> {
    if !sqlite.has_table("tracing_audit_entries").await? {
        return Ok(range.end);
    }
    let connection = sqlite.readers().acquire().await.map_err(|cause| sqlite.store_error(cause))?;
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let reading = Reading { wanted: Arc::clone(&wanted.0), take };
    let read = tokio::task::spawn_blocking(move || reading.run(connection, range)).await;
    let (connection, next) = read.map_err(|cause| {
        AuditError::new(ErrorKind::Store, "the thread that verifies entries has ended").because(cause)
    })?;
    drop(connection);
    Ok(next)
}

/// Whether somebody waits for the rows: until this is dropped.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

struct Reading {
    wanted: Arc<AtomicBool>,
    take: TakeRow,
}

impl Reading {
    /// Returns the connection too: a pool takes it back in a task, for which the runtime must be there.
    fn run(
        mut self,
        mut connection: PoolConnection<sqlx::Sqlite>,
        range: Range<i64>,
    ) -> (PoolConnection<sqlx::Sqlite>, i64) {
        let next = match block_on(connection.lock_handle()) {
            Ok(mut handle) => self.read(&mut handle, range),
            Err(_) => range.start,
        };
        (connection, next)
    }

    fn read(&mut self, handle: &mut LockedSqliteHandle<'_>, range: Range<i64>) -> i64 {
        let sql = format!(
            "{ROW} FROM tracing_audit_entries e WHERE e.seq >= ?1 AND e.seq < ?2 ORDER BY e.seq LIMIT ?3"
        );
        let mut next = range.start;
        while next < range.end && self.wanted.load(Ordering::Relaxed) {
            let (begin, mut found) = (next, 0);
            let read = rows_in_place::<COLUMNS>(handle, &sql, &[begin, range.end, PIECE], |row| {
                // If somebody has created the table again, it may be no integer, and then it is the number of no entry.
                let seq = match row[0] {
                    InPlace::Integer(seq) => seq,
                    _ => i64::MAX,
                };
                (self.take)(seq, columns(row).as_ref());
                if seq < range.end {
                    next = seq.saturating_add(1);
                }
                found += 1;
                self.wanted.load(Ordering::Relaxed)
            });
            if read.is_err() {
                return next;
            }
            if found < PIECE {
                return range.end;
            }
            next = next.max(begin.saturating_add(1));
        }
        next
    }
}

/// The columns of an entry, if each has the type that this crate writes, as in [`read`](super::rows::read).
fn columns<'r>(row: &[InPlace<'r>; COLUMNS]) -> Option<Columns<'r>> {
    let [
        _,
        id,
        ts,
        workspace_id,
        session_id,
        agent_id,
        action,
        resource,
        resource_id,
        decision,
        reason,
        risk_score,
        metadata,
        problems,
    ] = *row;
    let InPlace::Integer(ts) = ts else { return None };
    Some(Columns {
        id: uuid(id)?,
        ts,
        workspace_id: uuid(workspace_id)?,
        session_id: optional(session_id, uuid)?,
        agent_id: optional(agent_id, uuid)?,
        action: text(action)?,
        resource: text(resource)?,
        resource_id: optional(resource_id, text)?,
        decision: text(decision)?,
        reason: optional(reason, text)?,
        risk_score: optional(risk_score, real)?,
        metadata: text(metadata)?,
        problems: optional(problems, text)?,
    })
}

/// The value that `read` makes of one that may be NULL. `None` if it can make nothing of it.
#[allow(clippy::option_option, reason = "a value may be absent, and it may be of another type")]
fn optional<'r, T>(value: InPlace<'r>, read: impl FnOnce(InPlace<'r>) -> Option<T>) -> Option<Option<T>> {
    if value == InPlace::Null { Some(None) } else { read(value).map(Some) }
}

fn uuid(value: InPlace<'_>) -> Option<Uuid> {
    let InPlace::Blob(bytes) = value else { return None };
    Uuid::from_slice(bytes).ok()
}

fn text(value: InPlace<'_>) -> Option<&str> {
    let InPlace::Text(bytes) = value else { return None };
    std::str::from_utf8(bytes).ok()
}

fn real(value: InPlace<'_>) -> Option<f64> {
    let InPlace::Real(value) = value else { return None };
    Some(value)
}
