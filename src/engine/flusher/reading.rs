//! Reads the next records of a dead process's journal.

use std::io;

use uuid::Uuid;

use super::batch::Bounds;
use crate::queue::{Backlog, Known, Records};

/// A journal that was read, and what to commit.
pub(super) struct ReadBacklog {
    pub(super) backlog: Backlog,
    /// The position of its writer that the database has reached.
    pub(super) reached: u64,
    /// The position after which the records were read.
    pub(super) from: u64,
    pub(super) records: Records,
    /// Nothing was read: whether the ledger has this entry says first whether the position is this journal's.
    pub(super) doubted: Option<Uuid>,
}

/// Reads on from the position that the database has reached.
pub(super) fn read(mut backlog: Backlog, reached: u64, known: Option<Known>) -> io::Result<Box<ReadBacklog>> {
    let doubted = if backlog.is_placed { None } else { backlog.entry_at(reached)? };
    let from = reached.max(backlog.begin);
    let records = if doubted.is_some() {
        Records::default()
    } else {
        let bounds = Bounds::default();
        backlog.is_placed = true;
        backlog.read_patiently(from, known, (bounds.entries, bounds.bytes))?
    };
    Ok(Box::new(ReadBacklog { backlog, reached, from, records, doubted }))
}
