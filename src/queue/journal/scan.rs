//! Reads consecutive records out of a segment, as many as a batch takes.

use std::{fs::File, io};

use super::format::Seed;
use crate::platform::read_up_to;
use crate::queue::records::Block;

/// The records that were read from one segment.
pub(super) struct Scan {
    pub(super) block: Block,
    /// Number of positions left out before the first record: their records are gone or damaged.
    pub(super) skipped: u64,
    /// Position after the last record.
    pub(super) until: u64,
    /// Offset at which the next record begins.
    pub(super) next: usize,
    /// Whether another record follows that is not the next in order: the records between are damaged.
    pub(super) broken: bool,
}

/// Bounds, in records and in bytes, for reading as many records as there are in a window.
pub(super) const UNLIMITED: (usize, usize) = (usize::MAX, usize::MAX);

/// Bytes of a segment that are read at once, few enough to stay in a cache. A window without a whole record in it is
/// widened.
const WINDOW: usize = 256 * 1024;

/// Reads records between the offsets `offset` and `end`; the first is expected to follow position `from`. Returns at
/// most `count` records, at most `bytes` bytes unless a single record is larger, and no more than lie in one window of
/// the file. `buffer` holds the bytes of that window.
pub(super) fn scan_segment(
    file: &File,
    seed: Seed,
    (offset, end): (usize, usize),
    from: u64,
    (count, bytes): (usize, usize),
    buffer: &mut Vec<u8>,
) -> io::Result<Scan> {
    let mut scan = Scan::at(offset, from);
    let mut window = WINDOW.min(end.saturating_sub(offset));
    loop {
        if buffer.len() < window {
            buffer.resize(window, 0);
        }
        let buffer = buffer.get_mut(..window).unwrap_or_default();
        let read = read_up_to(file, buffer, offset)?;
        scan.parse(seed, buffer.get(..read).unwrap_or_default(), offset, (count, bytes));
        let all = offset + window >= end || read < window;
        if !scan.block.ends.is_empty() || all {
            return Ok(scan);
        }
        window = (window * 4).min(end - offset);
    }
}

impl Scan {
    fn at(offset: usize, from: u64) -> Self {
        Self { block: Block::default(), skipped: 0, until: from, next: offset, broken: false }
    }

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
                    // A batch has no holes: stop here, and let the next batch begin after the hole.
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

/// Makes a segment of these bytes, and compares the records read batch by batch with those read one by one. A record
/// that asks for it, by the last bit of its checksum, gets the checksum that it should have.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    use super::format::{HEADER_BYTES, Header, RECORD_HEADER_BYTES};

    let journal = uuid::Uuid::from_u128(7);
    let first = 5;
    let seed = Seed::of(journal, first);
    assert!(Header::decode(bytes).is_err(), "nobody guesses a checksum");
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + RECORD_HEADER_BYTES < bytes.len() {
        at = seed.forge(&mut bytes, HEADER_BYTES, at);
    }
    let mut alone = Vec::new();
    let mut at = 0;
    while let Some((_, found)) = seed.record_after(&bytes, HEADER_BYTES, at) {
        if alone.last().is_none_or(|(last, _)| found.position > *last) {
            alone.push((found.position, found.payload.to_vec()));
        }
        assert!(found.next > at);
        at = found.next;
    }
    let (mut batches, mut until, mut offset) = (Vec::new(), first, HEADER_BYTES);
    loop {
        let mut scan = Scan::at(offset, until);
        let from = bytes.get(offset - HEADER_BYTES..).unwrap_or(&[]);
        scan.parse(seed, from, offset, (3, 100));
        let count = scan.block.ends.len();
        if count == 0 {
            break;
        }
        let before = scan.until - count as u64;
        assert_eq!(before, until + scan.skipped);
        batches.extend(
            (0..count)
                .zip(before + 1..)
                .map(|(index, position)| (position, scan.block.record(index).to_vec())),
        );
        (until, offset) = (scan.until, scan.next);
    }
    assert_eq!(batches, alone);
}
