//! Reads a segment: its header, and consecutive records, as many as a batch takes. The cost is linear in the bytes that
//! are read, whatever they hold.

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use super::format::{ALIGNMENT, Claim, HEADER_BYTES, Header, NoSegment, RECORD_HEADER_BYTES, Seed};
use crate::platform::{is_unreadable, read_past_errors, read_up_to};
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
    /// Whether the search for the next record has summed so many bytes that it was given up: the rest counts as damaged.
    pub(super) gave_up: bool,
    /// Bytes of payloads that were summed, and were none. More than `wasted_max` are not.
    wasted: usize,
    wasted_max: usize,
}

/// Bounds, in records and in bytes, for reading as many records as there are in a window.
pub(super) const UNLIMITED: (usize, usize) = (usize::MAX, usize::MAX);

/// Bytes of a segment that are read at once, few enough to stay in a cache. A scan that has found a record ends where the
/// first window of the file ends.
const WINDOW: usize = 256 * 1024;

/// A search of these many bytes for a record of version 1 sums at most this many times as many.
const WASTE_MAX: usize = 64;

/// More bytes in a row that the disk cannot read are no bad sectors: it is the disk that is missing.
const UNREADABLE_MAX: usize = 64 * 1024;

/// The file of a segment, and whether to go on behind pages that the disk cannot read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    file: &'a File,
    goes_on: bool,
}

impl<'a> From<&'a File> for Source<'a> {
    fn from(file: &'a File) -> Self {
        Self { file, goes_on: false }
    }
}

impl Source<'_> {
    /// Fills the buffer from this offset on, as far as the file goes.
    pub(super) fn read(self, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
        if !self.goes_on {
            return read_up_to(self.file, buffer, offset);
        }
        let (read, unread) = read_past_errors(self.file, buffer, offset)?;
        if unread == read && unread > UNREADABLE_MAX {
            return read_up_to(self.file, buffer, offset);
        }
        Ok(read)
    }
}

/// `None`: the disk cannot read it.
pub(super) fn unless_unreadable<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(cause) if is_unreadable(&cause) => Ok(None),
        read => read.map(Some),
    }
}

/// Counts how often the disk could not read a journal. A read that fails once may succeed later, so the records behind
/// it are read only after several attempts.
#[derive(Debug)]
pub(super) struct Attempts {
    failed: AtomicU32,
    most: u32,
}

impl Attempts {
    pub(super) fn new(most: u32) -> Self {
        Self { failed: AtomicU32::new(0), most }
    }

    pub(super) fn source<'a>(&self, file: &'a File) -> Source<'a> {
        Source { file, goes_on: self.failed.load(Ordering::Relaxed) >= self.most }
    }

    /// Counts this read, if the disk has failed it.
    pub(super) fn count<T>(&self, read: io::Result<T>) -> io::Result<T> {
        read.inspect_err(|cause| {
            if is_unreadable(cause) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}

#[cfg(test)]
thread_local! {
    /// Bytes of payloads that this thread has summed.
    pub(super) static SUMMED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Reads the header of a segment.
pub(super) fn read_header(file: &File) -> io::Result<Result<Header, NoSegment>> {
    let mut bytes = vec![0; HEADER_BYTES];
    let read = read_up_to(file, &mut bytes, 0)?;
    bytes.truncate(read);
    let length = Header::length(&bytes);
    if length > bytes.len() && read == HEADER_BYTES {
        bytes.resize(length, 0);
        let more = read_up_to(file, bytes.get_mut(read..).unwrap_or_default(), read)?;
        bytes.truncate(read + more);
    }
    Ok(Header::decode(&bytes))
}

/// Whether there is a byte other than zero in the file, between these offsets.
pub(super) fn holds_anything(file: &File, (from, end): (usize, usize)) -> io::Result<bool> {
    let mut buffer = Vec::new();
    let mut window = Window::of(file.into(), &mut buffer, (from, end));
    let mut at = from;
    while at < window.end {
        let piece = WINDOW.min(window.end - at);
        match window.get(at, piece)? {
            Some(bytes) if bytes.iter().any(|byte| *byte != 0) => return Ok(true),
            Some(_) => at += piece,
            // The file is shorter than it was.
            None => {}
        }
    }
    Ok(false)
}

/// Reads records between the offsets `offset` and `end`; the first is expected to follow position `from`. Returns at
/// most `count` records, at most `bytes` bytes unless a single record is larger, and no more than begin in one window of
/// the file. `buffer` holds the bytes of that window.
pub(super) fn scan_segment<'a>(
    file: impl Into<Source<'a>>,
    seed: Seed,
    (offset, end): (usize, usize),
    from: u64,
    (count, bytes): (usize, usize),
    buffer: &mut Vec<u8>,
) -> io::Result<Scan> {
    let mut scan = Scan::at((offset, end), from);
    scan.read(seed, &mut Window::of(file.into(), buffer, (offset, end)), (count, bytes))?;
    Ok(scan)
}

/// The bytes of a segment between two offsets, read from the file piece by piece. Callers ask for them in ascending order.
struct Window<'a> {
    /// `None`: the buffer already holds all of them.
    file: Option<Source<'a>>,
    buffer: &'a mut Vec<u8>,
    /// Offset in the file of the first byte in the buffer.
    base: usize,
    /// Number of bytes in the buffer that were read.
    filled: usize,
    end: usize,
}

impl<'a> Window<'a> {
    fn of(file: Source<'a>, buffer: &'a mut Vec<u8>, (from, end): (usize, usize)) -> Self {
        Self { file: Some(file), buffer, base: from, filled: 0, end }
    }

    /// Returns the bytes from this offset on. `None`: there are not that many.
    fn get(&mut self, from: usize, count: usize) -> io::Result<Option<&[u8]>> {
        let Some(until) = from.checked_add(count).filter(|until| *until <= self.end) else { return Ok(None) };
        if until > self.base + self.filled {
            self.advance(from, count)?;
        }
        let (start, end) = (from - self.base, until - self.base);
        Ok(if end <= self.filled { self.buffer.get(start..end) } else { None })
    }

    /// Drops the bytes before this offset, and reads at least as many as are asked for: twice as many as are kept, so that
    /// each byte is moved only a few times.
    fn advance(&mut self, from: usize, count: usize) -> io::Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let dropped = (from - self.base).min(self.filled);
        self.buffer.copy_within(dropped..self.filled, 0);
        (self.base, self.filled) = (from, self.filled - dropped);
        let size = count.max(self.filled * 2).max(WINDOW).min(self.end.saturating_sub(from));
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        let fresh = self.buffer.get_mut(self.filled..size).unwrap_or_default();
        let read = file.read(fresh, from + self.filled)?;
        self.filled += read;
        if self.filled < size {
            self.end = from + self.filled;
        }
        Ok(())
    }
}

impl Scan {
    fn at((offset, end): (usize, usize), from: u64) -> Self {
        Self {
            block: Block::default(),
            skipped: 0,
            until: from,
            next: offset,
            broken: false,
            gave_up: false,
            wasted: 0,
            wasted_max: end.saturating_sub(offset).saturating_mul(WASTE_MAX),
        }
    }

    fn read(
        &mut self,
        seed: Seed,
        window: &mut Window<'_>,
        (count, bytes): (usize, usize),
    ) -> io::Result<()> {
        let (mut at, window_end) = (self.next, self.next.saturating_add(WINDOW));
        while self.block.ends.len() < count {
            let stop = if self.block.ends.is_empty() { usize::MAX } else { window_end };
            let Some((begin, claim)) = self.find(seed, window, at, stop)? else { break };
            let after = begin + claim.bytes();
            if claim.position <= self.until {
                at = after;
                self.next = after;
                continue;
            }
            if claim.position != self.until + 1 {
                if !self.block.ends.is_empty() {
                    // A batch has no holes: stop here, and let the next batch begin after the hole.
                    self.broken = true;
                    break;
                }
                self.skipped = claim.position - 1 - self.until;
            }
            if !self.block.ends.is_empty() && self.block.bytes.len() + claim.length > bytes {
                break;
            }
            let record = window.get(begin, RECORD_HEADER_BYTES + claim.length)?.unwrap_or_default();
            self.block.bytes.extend_from_slice(record.get(RECORD_HEADER_BYTES..).unwrap_or_default());
            self.block.ends.push(self.block.bytes.len());
            self.until = claim.position;
            at = after;
            self.next = after;
        }
        Ok(())
    }

    /// Returns the first record that begins at `at` or after it and before `stop`, whatever bytes lie between, and where
    /// it begins.
    fn find(
        &mut self,
        seed: Seed,
        window: &mut Window<'_>,
        at: usize,
        stop: usize,
    ) -> io::Result<Option<(usize, Claim)>> {
        let mut at = at.next_multiple_of(ALIGNMENT);
        while at < stop {
            let Some(header) = window.get(at, RECORD_HEADER_BYTES)? else { break };
            let Some(claim) = seed.claim(header, at) else {
                at += ALIGNMENT;
                continue;
            };
            let Some(record) = window.get(at, RECORD_HEADER_BYTES + claim.length)? else {
                at += ALIGNMENT;
                continue;
            };
            if !claim.is_sure && claim.length > self.wasted_max.saturating_sub(self.wasted) {
                self.gave_up = true;
                break;
            }
            let payload = record.get(RECORD_HEADER_BYTES..).unwrap_or_default();
            #[cfg(test)]
            SUMMED.set(SUMMED.get() + claim.length);
            if seed.is_whole(&claim, at, payload) {
                return Ok(Some((at, claim)));
            }
            if claim.is_sure {
                // This record is damaged, and the next one begins after it.
                at += claim.bytes();
            } else {
                self.wasted += claim.length;
                at += ALIGNMENT;
            }
        }
        Ok(None)
    }
}

/// Returns the position, the payload and the end of every record in these bytes, which begin at `start` in their file,
/// whatever bytes lie between.
#[cfg(any(test, fuzzing))]
pub(super) fn every_record(
    seed: Seed,
    bytes: &[u8],
    start: usize,
    from: usize,
) -> Vec<(u64, Vec<u8>, usize)> {
    let mut buffer = bytes.to_vec();
    let end = start + bytes.len();
    let mut window = Window { file: None, buffer: &mut buffer, base: start, filled: bytes.len(), end };
    let mut scan = Scan::at((from, end), 0);
    let (mut found, mut at) = (Vec::new(), from);
    while let Ok(Some((begin, claim))) = scan.find(seed, &mut window, at, usize::MAX) {
        at = begin + claim.bytes();
        let payload = window.get(begin + RECORD_HEADER_BYTES, claim.length).ok().flatten();
        found.push((claim.position, payload.unwrap_or_default().to_vec(), at));
    }
    found
}

/// Makes a segment of these bytes, and compares the records read batch by batch with those read one by one. A record
/// that asks for it, by the last bit of its checksum, gets the checksums that it should have. Once in each version.
#[cfg(any(test, fuzzing))]
#[allow(clippy::missing_panics_doc, reason = "a finding is a panic")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let header = Header {
        writer: uuid::Uuid::from_u128(7),
        first: 5,
        secret: Some([3; 16]),
        database: String::new(),
        ledger: String::new(),
        defaults: crate::entry::EventDefaults::default(),
        bytes: HEADER_BYTES,
    };
    assert!(Header::decode(bytes).is_err(), "nobody guesses a checksum");
    let old = Header { secret: None, ..header.clone() };
    for header in [old, header] {
        fuzz_version(&header, bytes);
    }
}

#[cfg(any(test, fuzzing))]
fn fuzz_version(header: &Header, bytes: &[u8]) {
    let (first, seed) = (header.first, header.seed(header.first));
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + RECORD_HEADER_BYTES < bytes.len() {
        at = seed.forge(&mut bytes, HEADER_BYTES, at);
    }
    let mut alone: Vec<(u64, Vec<u8>)> = Vec::new();
    for (position, payload, _) in every_record(seed, &bytes, HEADER_BYTES, HEADER_BYTES) {
        if alone.last().is_none_or(|(last, _)| position > *last) {
            alone.push((position, payload));
        }
    }
    let (mut batches, mut until, mut offset) = (Vec::new(), first, HEADER_BYTES);
    loop {
        let end = HEADER_BYTES + bytes.len();
        let mut scan = Scan::at((offset, end), until);
        let mut buffer = bytes.clone();
        let filled = bytes.len();
        let mut window = Window { file: None, buffer: &mut buffer, base: HEADER_BYTES, filled, end };
        assert!(scan.read(seed, &mut window, (3, 100)).is_ok());
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::EventDefaults;
    use crate::platform::write_all_at;

    const FIRST: u64 = 1000;

    fn header(writer: u128, secret: Option<u8>) -> Header {
        Header {
            writer: uuid::Uuid::from_u128(writer),
            first: FIRST,
            secret: secret.map(|secret| [secret; 16]),
            database: String::new(),
            ledger: String::new(),
            defaults: EventDefaults::default(),
            bytes: HEADER_BYTES,
        }
    }

    /// Appends a whole record of either version.
    fn put(seed: Seed, out: &mut Vec<u8>, position: u64, payload: &[u8]) {
        let (at, length) = (out.len(), u32::try_from(payload.len()).unwrap());
        if seed.encode(out, at, position, payload).is_none() {
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&1_u32.to_le_bytes());
            out.extend_from_slice(&position.to_le_bytes());
            out.extend_from_slice(payload);
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            assert_eq!(seed.forge(out, 0, at), out.len());
        }
    }

    const KINDS: usize = 9;

    /// Appends bytes that somebody chose, or that an earlier use of the file left, until the file has this size.
    fn fill(kind: usize, (ours, end): (&Header, usize), out: &mut Vec<u8>, until: usize) {
        let payload = vec![0x41; 700];
        while out.len() < until {
            let (at, left) = (out.len(), u32::try_from(end - out.len()).unwrap());
            let mut claims = |length: u32, second: [u8; 4], position: u64| {
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&second);
                out.extend_from_slice(&position.to_le_bytes());
            };
            match kind {
                // A length of a megabyte in every eight bytes.
                0 => out.extend_from_slice(&[0x7f, 0x7f, 0x0f, 0, 0, 0, 0, 0]),
                // A record that reaches to the end, or just beyond it.
                1 => claims(left.saturating_sub(16), [1, 0, 0, 0], FIRST + 1),
                2 => claims(left.saturating_sub(15), [2, 0, 0, 0], FIRST + 2),
                // The last position that a segment can have.
                3 => claims(600_000, [0, 0, 0, 1], FIRST + (1 << 24)),
                // Whole records of another segment of this journal, at their place.
                4 => put(ours.seed(FIRST - 7), out, FIRST + 3, &payload),
                // Whole records of another journal.
                5 => put(header(3, Some(3)).seed(FIRST), out, FIRST + 3, &payload),
                // Whole records of the other version.
                6 => {
                    let other = if ours.secret.is_some() { None } else { Some(5) };
                    put(header(1, other).seed(FIRST), out, FIRST + 3, &payload);
                }
                // The header of a record of this journal, copied from another place.
                7 => {
                    let mut copied = vec![0; at + 64];
                    put(ours.seed(FIRST), &mut copied, FIRST + 3, &payload);
                    out.extend_from_slice(copied.get(at + 64..at + 80).unwrap());
                }
                _ => out.extend_from_slice(&fastrand::u64(..).to_le_bytes()),
            }
        }
        out.truncate(until);
    }

    fn scan_all(header: &Header, bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, usize, usize) {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, bytes, 0).unwrap();
        let (mut found, mut offset, mut until, mut buffer) = (Vec::new(), HEADER_BYTES, FIRST, Vec::new());
        let before = SUMMED.get();
        loop {
            let extent = (offset, bytes.len());
            let scan =
                scan_segment(&file, header.seed(FIRST), extent, until, UNLIMITED, &mut buffer).unwrap();
            let count = scan.block.ends.len();
            if count == 0 {
                return (found, SUMMED.get() - before, buffer.len());
            }
            for (index, position) in (0..count).zip(scan.until + 1 - count as u64..) {
                found.push((position, scan.block.record(index).to_vec()));
            }
            (offset, until) = (scan.next, scan.until);
        }
    }

    #[test]
    fn the_bytes_after_the_last_record_are_searched_in_linear_time_whatever_they_hold() {
        const SIZE: usize = 700 << 10;
        for kind in 0..KINDS {
            for ours in [header(1, Some(1)), header(1, None)] {
                let mut bytes = vec![0; HEADER_BYTES];
                let records: Vec<_> = (FIRST + 1..FIRST + 4).map(|at| (at, vec![7; 5000])).collect();
                for (position, payload) in &records {
                    put(ours.seed(FIRST), &mut bytes, *position, payload);
                }
                bytes.resize(bytes.len() + RECORD_HEADER_BYTES, 0);
                fill(kind, (&ours, SIZE), &mut bytes, SIZE);
                let (found, summed, buffered) = scan_all(&ours, &bytes);
                assert!(found == records, "{kind}: {} records", found.len());
                if ours.secret.is_some() {
                    assert_eq!((summed, buffered), (3 * 5000, WINDOW), "{kind}");
                } else {
                    // Once after the records in the first window, and once from the last record on.
                    assert!(summed <= 2 * WASTE_MAX * SIZE + 4 * 5000, "{kind}: {summed}");
                    assert!(buffered <= 2 * SIZE, "{kind}: {buffered}");
                }
            }
        }
    }

    #[test]
    fn a_record_longer_than_a_window_is_read_and_a_sparse_file_in_its_windows() {
        let ours = header(1, Some(1));
        let mut bytes = vec![0; HEADER_BYTES];
        let long = vec![9; 3 * WINDOW + 1];
        put(ours.seed(FIRST), &mut bytes, FIRST + 1, &long);
        bytes.resize(bytes.len() + 20 * WINDOW, 0);
        let (found, summed, buffered) = scan_all(&ours, &bytes);
        assert!(found == [(FIRST + 1, long.clone())]);
        assert_eq!(summed, long.len());
        assert!(buffered <= long.len() + RECORD_HEADER_BYTES, "{buffered}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn every_record_between_hostile_bytes_is_found_and_summed_once(
            pieces in proptest::collection::vec((0..KINDS + 4, 0..900_usize), 1..12),
        ) {
            let ours = header(1, Some(1));
            let (mut bytes, mut records) = (vec![0; HEADER_BYTES], Vec::new());
            let mut position = FIRST;
            for (kind, size) in pieces {
                position += 1;
                if kind < KINDS {
                    let until = bytes.len() + size.next_multiple_of(ALIGNMENT);
                    fill(kind, (&ours, 1 << 20), &mut bytes, until);
                } else {
                    let payload = vec![u8::try_from(position % 251).unwrap(); size + 1];
                    put(ours.seed(FIRST), &mut bytes, position, &payload);
                    records.push((position, payload));
                }
            }
            let whole: usize = records.iter().map(|(_, payload)| payload.len()).sum();
            let (found, summed, _) = scan_all(&ours, &bytes);
            prop_assert_eq!(found, records);
            // A record after a hole is found by one scan, and read by the next.
            prop_assert!(summed <= 2 * whole, "{} of {}", summed, whole);
        }
    }
}
