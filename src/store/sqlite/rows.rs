//! The columns of an entry, and an entry from them.

use std::fmt;

use sqlx::{Row as _, TypeInfo as _, ValueRef as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::sql::quoted;
use crate::entry::{LedgerRow, Row};
use crate::error::{AuditError, ErrorKind};

/// Selects the columns of an entry `e`.
pub(super) const ROW: &str = "SELECT e.seq, e.id, e.ts, e.workspace_id, e.session_id, e.agent_id, e.action, e.resource, \
                   e.resource_id, e.decision, e.reason, e.risk_score, e.metadata, e.problems";

/// Selects the place of an entry `e` in the ledger, after [`ROW`].
pub(super) const LEDGER: &str = ", (SELECT substr(ledger, 1, 65536) FROM tracing_audit_head ORDER BY rowid LIMIT 1), (SELECT b.committed_at FROM tracing_audit_batches b \
                      WHERE b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1)";

/// The entry of a row that starts with [`ROW`].
pub(super) fn decode(row: &SqliteRow) -> Row {
    read(row).unwrap_or_else(|_| Changed::new(row).read())
}

/// The same. An error if a column holds what it cannot hold unless somebody has altered the table.
pub(super) fn read(row: &SqliteRow) -> sqlx::Result<Row> {
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
}

/// The entry of a row that starts with [`ROW`] and [`LEDGER`], with its place in the ledger.
pub(super) fn decode_ledger(found: &SqliteRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found);
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

/// A value, whatever its column should hold.
pub(super) enum Held {
    Null,
    Integer(i64),
    Real(f64),
    /// Bytes that should be UTF-8.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Held {
    pub(super) fn at(row: &SqliteRow, index: usize) -> Self {
        let held = || {
            let value = row.try_get_raw(index)?;
            let kind = value.type_info().into_owned();
            if value.is_null() {
                return Ok::<_, sqlx::Error>(Self::Null);
            }
            Ok(match kind.name() {
                "INTEGER" => Self::Integer(row.try_get_unchecked(index)?),
                "REAL" => Self::Real(row.try_get_unchecked(index)?),
                "TEXT" => Self::Text(row.try_get_unchecked(index)?),
                _ => Self::Blob(row.try_get_unchecked(index)?),
            })
        };
        held().unwrap_or(Self::Null)
    }

    /// The value as text. Bytes that are not UTF-8 are replaced.
    pub(super) fn text(self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Integer(value) => value.to_string(),
            Self::Real(value) => value.to_string(),
            Self::Text(bytes) | Self::Blob(bytes) => String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        })
    }
}

impl fmt::Display for Held {
    /// The value as SQL spells it, and bytes always as a blob.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Integer(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Text(bytes) if std::str::from_utf8(bytes).is_ok() => {
                f.write_str(&quoted(&String::from_utf8_lossy(bytes)))
            }
            Self::Text(bytes) | Self::Blob(bytes) => {
                f.write_str("x'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
        }
    }
}

/// A row whose columns are not what this crate writes: somebody has changed it, or has created the table again with
/// other types.
struct Changed<'a> {
    row: &'a SqliteRow,
    unreadable: Vec<(&'static str, String)>,
}

impl<'a> Changed<'a> {
    fn new(row: &'a SqliteRow) -> Self {
        Self { row, unreadable: Vec::new() }
    }

    /// The entry that is nearest to this row.
    fn read(mut self) -> Row {
        let row = Row {
            id: self.id(1, "id").unwrap_or_else(|| self.missing("id")),
            ts: self.number(2, "ts"),
            workspace_id: self.id(3, "workspace_id").unwrap_or_else(|| self.missing("workspace_id")),
            session_id: self.id(4, "session_id"),
            agent_id: self.id(5, "agent_id"),
            action: self.text(6, "action").unwrap_or_else(|| self.missing("action")),
            resource: self.text(7, "resource").unwrap_or_else(|| self.missing("resource")),
            resource_id: self.text(8, "resource_id"),
            decision: self.text(9, "decision").unwrap_or_else(|| self.missing("decision")),
            reason: self.text(10, "reason"),
            risk_score: self.score(11, "risk_score"),
            metadata: self.text(12, "metadata").unwrap_or_else(|| self.missing("metadata")),
            problems: self.text(13, "problems"),
        };
        row.with_unreadable(self.unreadable)
    }

    fn tell(&mut self, column: &'static str, held: &Held) {
        self.unreadable.push((column, held.to_string()));
    }

    /// The value of a column that must have one: nothing.
    fn missing<T: Default>(&mut self, column: &'static str) -> T {
        if self.unreadable.iter().all(|(told, _)| *told != column) {
            self.tell(column, &Held::Null);
        }
        T::default()
    }

    fn id(&mut self, index: usize, column: &'static str) -> Option<Uuid> {
        let held = Held::at(self.row, index);
        let id = match &held {
            Held::Null => return None,
            Held::Blob(bytes) => match Uuid::from_slice(bytes) {
                Ok(id) => return Some(id),
                Err(_) => None,
            },
            Held::Text(bytes) => Uuid::try_parse_ascii(bytes).ok(),
            Held::Integer(_) | Held::Real(_) => None,
        };
        self.tell(column, &held);
        id
    }

    fn text<T: for<'t> From<&'t str>>(&mut self, index: usize, column: &'static str) -> Option<T> {
        let held = Held::at(self.row, index);
        match &held {
            Held::Null => return None,
            Held::Text(bytes) if std::str::from_utf8(bytes).is_ok() => {}
            _ => self.tell(column, &held),
        }
        held.text().map(|text| T::from(&text))
    }

    fn number(&mut self, index: usize, column: &'static str) -> i64 {
        let held = Held::at(self.row, index);
        if let Held::Integer(value) = held {
            return value;
        }
        self.tell(column, &held);
        held.text().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn score(&mut self, index: usize, column: &'static str) -> Option<f64> {
        let held = Held::at(self.row, index);
        match held {
            Held::Null => return None,
            Held::Real(value) => return Some(value),
            _ => self.tell(column, &held),
        }
        held.text().and_then(|text| text.parse().ok())
    }
}
