//! An audit entry in each of its forms: fields, bytes, row, value.
//!
//! | file | what it does |
//! |---|---|
//! | `audit_entry` | `AuditEntry`, `SequencedEntry`, `Decision`, `audit_id` |
//! | `moment` | one reading of the clock: `ts`, and the UUIDv7 of it |
//! | `normal` | the normal form in which an entry is stored |
//! | `flat` | an entry and its place in the ledger as one flat object |
//! | `line` | an entry from the line as which it was exported |
//! | `row` | a row of the ledger, and the way between it and an entry |
//! | `record` | the bytes that a queue holds, and how they are read |
//! | `encoder` | encodes the fields of an event, within limits |
//! | `interpret` | turns an event's fields into a row and a list of problems |
//! | `debug_text` | what a text says that `Debug` or `Display` wrote |
//! | `time_text` | times in the forms in which the types of time write themselves |
//! | `json_text` | JSON texts, and what a parser would change in them |
//! | `float` | the decimal that a float was |
//! | `shorten` | JSON texts that are too long |
//! | `statics` | what a client's metadata must not replace |
//!
//! This room does no I/O, reads no clock but in `moment`, and knows no database.

mod audit_entry;
mod debug_text;
mod encoder;
mod flat;
mod float;
mod interpret;
mod json_text;
#[cfg(feature = "_sqlite")]
mod line;
mod moment;
mod normal;
mod record;
mod row;
mod shorten;
mod statics;
mod time_text;

pub(crate) use audit_entry::is_namelike;
pub use audit_entry::{AuditEntry, Decision, SequencedEntry, UnknownDecision, audit_id};
pub(crate) use debug_text::{is_debug, is_typed};
pub(crate) use encoder::{FieldEncoder, Limits};
pub(crate) use interpret::{EventDefaults, interpret};
#[cfg(feature = "_sqlite")]
pub(crate) use line::row_of_line;
#[cfg(feature = "_sqlite")]
pub(crate) use moment::{MAX_TS, MIN_TS};
pub(crate) use moment::{Moment, from_micros};
pub(crate) use normal::{least_length, replace_nul, storable};
pub(crate) use record::{Tag, begin_event, encode_entry, without_field};
pub(crate) use row::{LedgerRow, Row, entry_of, row_of, sequenced};
