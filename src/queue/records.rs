//! Records read from a queue, in blocks that the queue in memory shares with its readers.

use std::{ops::Range, sync::Arc, time::Instant};

use crate::entry::EventDefaults;

/// Consecutive records read from a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    pieces: Vec<Piece>,
    len: usize,
    /// Number of positions before the first record whose records are gone or no longer match their checksum.
    pub(crate) skipped: u64,
    /// The values for fields that an event leaves out, of the log that has accepted these records. `None`: it is the log
    /// that reads them.
    pub(crate) defaults: Option<Arc<EventDefaults>>,
    /// Nothing of the journal is left to commit after these.
    pub(crate) ends: bool,
    /// Number of records at the front that nobody accepted: `audit.gap` entries of the log that reads them.
    pub(crate) reports: usize,
}

/// A run of records within one shared block of bytes.
#[derive(Clone, Debug)]
struct Piece {
    block: Arc<Block>,
    records: Range<usize>,
}

/// Consecutive records in one buffer, and the offset at which each of them ends.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
    /// When the first record of the block was appended.
    pub(super) since: Option<Instant>,
}

impl Block {
    pub(super) fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    pub(super) fn record(&self, index: usize) -> &[u8] {
        let end = self.ends.get(index).copied().unwrap_or(0);
        self.bytes.get(self.start(index)..end).unwrap_or(&[])
    }
}

impl Records {
    /// Creates an empty list of records, of a log with these defaults.
    pub(super) fn of(defaults: &Arc<EventDefaults>) -> Self {
        Self { defaults: Some(Arc::clone(defaults)), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a record that nobody has accepted.
    pub(super) fn report(&mut self, record: Vec<u8>) {
        self.reports += 1;
        self.push(Block { ends: vec![record.len()], bytes: record, since: None });
    }

    /// Adds every record of a block.
    pub(super) fn push(&mut self, block: Block) {
        let records = 0..block.ends.len();
        self.push_part(Arc::new(block), records);
    }

    /// Adds these records of a block.
    pub(super) fn push_part(&mut self, block: Arc<Block>, records: Range<usize>) {
        self.len += records.len();
        self.pieces.push(Piece { block, records });
    }

    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.block.bytes.len()).sum()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| piece.records.clone().map(|index| piece.block.record(index)))
    }
}
