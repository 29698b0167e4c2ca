//! An audit entry in each of its forms: fields, bytes, row, value.
//!
//! | file | what it does |
//! |---|---|
//! | `audit_entry` | `AuditEntry`, `SequencedEntry`, `Decision`, `audit_id` |
//! | `moment` | one reading of the clock: `ts`, and the UUIDv7 of it |
//! | `normal` | the normal form in which an entry is stored |
//! | `row` | a row of the ledger, and the way between it and an entry |
//! | `record` | the bytes that a queue holds: encoder, decoder, limits |
//! | `interpret` | turns an event's fields into a row and a list of problems |
//!
//! This room does no I/O, reads no clock but in `moment`, and knows no database.

mod audit_entry;
mod interpret;
mod moment;
mod normal;
mod record;
mod row;

pub use audit_entry::{AuditEntry, Decision, SequencedEntry, UnknownDecision, audit_id};
pub(crate) use interpret::{EventDefaults, interpret};
pub(crate) use moment::{Moment, from_micros};
pub(crate) use normal::{replace_nul, storable};
pub(crate) use record::{FieldEncoder, Limits, Tag, begin_event, encode_entry, without_field};
pub(crate) use row::{LedgerRow, Row, entry_of, row_of, sequenced};
