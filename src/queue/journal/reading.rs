//! Consecutive records out of a segment, as many as a batch takes.

use std::{fs::File, io};

use super::{file::read_up_to, segment::Seed};
use crate::queue::Block;

/// What was read of one segment.
pub(super) struct Reading {
    pub(super) block: Block,
    /// Positions left out before the first record.
    pub(super) skipped: u64,
    /// Position after the last record.
    pub(super) until: u64,
    /// Where the next record begins.
    pub(super) next: usize,
    /// There is one more, which is not the next in order: records between are damaged.
    pub(super) broken: bool,
}

/// Reads records from `offset` on, up to `end`, of which the first is expected after `from`: at most `count`, and
/// at most `bytes` bytes unless a single one is larger.
pub(super) fn read_segment(
    file: &File,
    seed: Seed,
    (offset, end): (usize, usize),
    from: u64,
    (count, bytes): (usize, usize),
) -> io::Result<Reading> {
    let mut reading =
        Reading { block: Block::default(), skipped: 0, until: from, next: offset, broken: false };
    // As many bytes as the records may have, and their headers; more if that is not one record.
    let mut window = (bytes + count * 32).max(1 << 16).min(end.saturating_sub(offset));
    loop {
        let mut buffer = vec![0; window];
        let read = read_up_to(file, &mut buffer, offset)?;
        buffer.truncate(read);
        reading.parse(seed, &buffer, offset, (count, bytes));
        let all = offset + window >= end || read < window;
        if !reading.block.ends.is_empty() || all {
            return Ok(reading);
        }
        window = (window * 4).min(end - offset);
    }
}

impl Reading {
    fn parse(&mut self, seed: Seed, buffer: &[u8], offset: usize, (count, bytes): (usize, usize)) {
        let mut at = 0;
        while self.block.ends.len() < count {
            let Some((_, found)) = seed.record_after(buffer, offset, at) else { return };
            let after = found.next;
            if found.position <= self.until {
                at = after;
                self.next = offset + after;
                continue;
            }
            if found.position != self.until + 1 {
                if !self.block.ends.is_empty() {
                    // A batch is without holes: the next one begins after this one.
                    self.broken = true;
                    return;
                }
                self.skipped = found.position - 1 - self.until;
            }
            if !self.block.ends.is_empty() && self.block.bytes.len() + found.payload.len() > bytes {
                return;
            }
            self.block.bytes.extend_from_slice(found.payload);
            self.block.ends.push(self.block.bytes.len());
            self.until = found.position;
            at = after;
            self.next = offset + after;
        }
    }
}
