//! The format of a segment file, byte for byte: its header, its records, and how bytes that are neither are recognised.
//!
//! All numbers are little-endian. A segment is a file of fixed length, all of it allocated before the first record is
//! written, so that writing a record can neither run out of space nor change the file's size. Bytes that have not been
//! written are zero, or left from the segment that the file was before.
//!
//! The **header** is the first 4096 bytes: `magic: [u8; 8], version: u32, crc: u32, writer: [u8; 16],
//! first: u64, database: text, ledger: text`, and the rest is zero. A text is `length: u16, bytes`. `crc` is the
//! CRC-32C of everything after it in the header. `first` is the position before the segment's first record; the file
//! is named after it, in twenty digits.
//!
//! A **record** begins at a multiple of 8: `length: u32, crc: u32, position: u64, payload`. `position` is the position
//! after the record: 1 for the first record of a journal. `crc` is the CRC-32C of `writer, first, offset: u64,
//! length, position, payload`, so that bytes that were a record elsewhere, or in an earlier use of the disk's blocks,
//! are not taken for a record here. A payload is never empty: a length of 0 marks the place where nothing has been
//! written yet. Therefore each record is written together with sixteen zero bytes after it, or as many as the file has
//! room for, which the next record overwrites. Positions increase through a segment, by one unless records between are
//! lost, and are at most 2^24 above `first`.

use uuid::Uuid;

pub(super) const HEADER_BYTES: usize = 4096;
pub(super) const RECORD_HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;
/// More than the number of records that fit in a segment. Bytes that claim a position further on are no record, and are
/// not worth a checksum.
const POSITIONS_MAX: u64 = 1 << 24;

const MAGIC: [u8; 8] = *b"traudjnl";
const VERSION: u32 = 1;
/// Offset at which the part of the header begins that its checksum covers.
const CHECKED_FROM: usize = 16;

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The UUID of the journal that the segment is part of. Each opened log has one journal, and the database knows it
    /// by this UUID.
    pub(super) writer: Uuid,
    /// Position before the first record.
    pub(super) first: u64,
    /// The database that the entries are for.
    pub(super) database: String,
    pub(super) ledger: String,
}

/// The reason why a file cannot be read as a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSegment {
    /// The file is not a segment, or its header no longer matches its checksum.
    Foreign,
    /// The file has this format version, which this version of the crate does not know.
    Newer(u32),
}

impl Header {
    /// Returns the bytes of the header, or `None` if a name is too long to fit.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut checked = Vec::with_capacity(HEADER_BYTES);
        checked.extend_from_slice(self.writer.as_bytes());
        checked.extend_from_slice(&self.first.to_le_bytes());
        for text in [&self.database, &self.ledger] {
            checked.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
            checked.extend_from_slice(text.as_bytes());
        }
        if checked.len() > HEADER_BYTES - CHECKED_FROM {
            return None;
        }
        checked.resize(HEADER_BYTES - CHECKED_FROM, 0);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&checked).to_le_bytes());
        header.append(&mut checked);
        Some(header)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoSegment> {
        let mut rest = bytes.get(..HEADER_BYTES).ok_or(NoSegment::Foreign)?;
        if take(&mut rest).ok_or(NoSegment::Foreign)? != MAGIC {
            return Err(NoSegment::Foreign);
        }
        let version = u32::from_le_bytes(take(&mut rest).ok_or(NoSegment::Foreign)?);
        if version != VERSION {
            return Err(NoSegment::Newer(version));
        }
        Self::checked(rest).ok_or(NoSegment::Foreign)
    }

    fn checked(mut rest: &[u8]) -> Option<Self> {
        let crc = u32::from_le_bytes(take(&mut rest)?);
        if crc32c::crc32c(rest) != crc {
            return None;
        }
        let writer = Uuid::from_bytes(take(&mut rest)?);
        let first = u64::from_le_bytes(take(&mut rest)?);
        let mut text = || {
            let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let (text, after) = rest.split_at_checked(length)?;
            rest = after;
            String::from_utf8(text.to_vec()).ok()
        };
        Some(Self { writer, first, database: text()?, ledger: text()? })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// The start of every checksum in a segment, which makes it valid in this segment alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    crc: u32,
    first: u64,
}

/// A record within the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Position after the record.
    pub(super) position: u64,
    pub(super) payload: &'a [u8],
    /// Offset in these bytes at which the next record begins.
    pub(super) next: usize,
}

impl Seed {
    pub(super) fn of(writer: Uuid, first: u64) -> Self {
        let crc = crc32c::crc32c_append(crc32c::crc32c(writer.as_bytes()), &first.to_le_bytes());
        Self { crc, first }
    }

    fn checksum(self, offset: usize, length: u32, position: u64, payload: &[u8]) -> u32 {
        let mut fixed = [0; 20];
        let (at_offset, rest) = fixed.split_at_mut(8);
        let (at_length, at_position) = rest.split_at_mut(4);
        at_offset.copy_from_slice(&(offset as u64).to_le_bytes());
        at_length.copy_from_slice(&length.to_le_bytes());
        at_position.copy_from_slice(&position.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &fixed), payload)
    }

    /// Appends the bytes of a record that begins at `offset`, padded to where the next record begins. Returns `None` if
    /// the payload is larger than a record can hold.
    pub(super) fn encode(
        self,
        out: &mut Vec<u8>,
        offset: usize,
        position: u64,
        payload: &[u8],
    ) -> Option<()> {
        let length = u32::try_from(payload.len()).ok()?;
        let crc = self.checksum(offset, length, position, payload);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        Some(())
    }

    /// Returns the record that begins at `at` in `bytes`, which begin at `start` in the file, if its checksum matches.
    pub(super) fn record(self, bytes: &[u8], start: usize, at: usize) -> Option<Found<'_>> {
        let mut rest = bytes.get(at..)?;
        let length = u32::from_le_bytes(take(&mut rest)?);
        let crc = u32::from_le_bytes(take(&mut rest)?);
        let position = u64::from_le_bytes(take(&mut rest)?);
        let payload = rest.get(..usize::try_from(length).ok()?)?;
        let whole = length > 0
            && (1..=POSITIONS_MAX).contains(&position.checked_sub(self.first)?)
            && crc == self.checksum(start.checked_add(at)?, length, position, payload);
        let next = at + (RECORD_HEADER_BYTES + payload.len()).next_multiple_of(ALIGNMENT);
        whole.then_some(Found { position, payload, next })
    }

    /// Gives the bytes that begin at `at` the checksum that makes them a record, if the last bit of their checksum asks
    /// for it. Returns where the next record may begin.
    #[cfg(any(test, fuzzing))]
    pub(super) fn forge(self, bytes: &mut [u8], start: usize, at: usize) -> usize {
        let forged = || {
            let mut rest = bytes.get(at..)?;
            let length = u32::from_le_bytes(take(&mut rest)?);
            let crc = u32::from_le_bytes(take(&mut rest)?);
            let position = u64::from_le_bytes(take(&mut rest)?);
            let payload = rest.get(..usize::try_from(length).ok()?)?;
            let next = at + (RECORD_HEADER_BYTES + payload.len()).next_multiple_of(ALIGNMENT);
            (crc & 1 == 1).then(|| (self.checksum(start + at, length, position, payload), next))
        };
        let Some((crc, next)) = forged() else { return at + ALIGNMENT };
        if let Some(place) = bytes.get_mut(at + 4..at + 8) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        next
    }

    /// Returns the first record that begins at `at` or after it, whatever bytes lie between, and where it begins.
    pub(super) fn record_after(self, bytes: &[u8], start: usize, at: usize) -> Option<(usize, Found<'_>)> {
        let from = at.next_multiple_of(ALIGNMENT);
        (from..bytes.len())
            .step_by(ALIGNMENT)
            .find_map(|at| self.record(bytes, start, at).map(|found| (at, found)))
    }
}

/// Returns the number of bytes that a record with a payload of this size takes in a segment.
pub(super) fn record_bytes(payload: usize) -> usize {
    (RECORD_HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            writer: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            first: 7,
            database: "/var/lib/app/audit.db".to_owned(),
            ledger: "main".to_owned(),
        }
    }

    #[test]
    fn the_bytes_of_version_1_are_fixed_because_journals_on_disk_depend_on_them() {
        let header = header();
        let bytes = header.encode().unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES);
        let start = [
            b"traudjnl".as_slice(),
            &[1, 0, 0, 0],
            &[0xb3, 0x12, 0x31, 0xcf],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &[21, 0],
            b"/var/lib/app/audit.db",
            &[4, 0],
            b"main",
        ]
        .concat();
        assert_eq!(bytes.get(..start.len()).unwrap(), start);
        let mut record = Vec::new();
        Seed::of(header.writer, 7).encode(&mut record, HEADER_BYTES, 8, b"payload").unwrap();
        let fixed =
            [&[7, 0, 0, 0][..], &[0x57, 0xfa, 0x73, 0x7d], &[8, 0, 0, 0, 0, 0, 0, 0], b"payload", &[0]]
                .concat();
        assert_eq!(record, fixed);
    }

    #[test]
    fn a_header_is_read_back_and_a_changed_one_is_not() {
        let bytes = header().encode().unwrap();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for end in 0..HEADER_BYTES {
            assert_eq!(Header::decode(bytes.get(..end).unwrap()), Err(NoSegment::Foreign));
        }
        for index in 0..HEADER_BYTES {
            let mut bytes = bytes.clone();
            *bytes.get_mut(index).unwrap() ^= 0x10;
            let read = Header::decode(&bytes);
            assert!(matches!(read, Err(NoSegment::Foreign | NoSegment::Newer(_))), "{index}");
            assert_eq!(matches!(read, Err(NoSegment::Newer(_))), (8..12).contains(&index));
        }
        assert_eq!(Header { database: "x".repeat(5000), ..header() }.encode(), None);
    }

    /// Returns a segment with these payloads: its seed, its bytes, and the offset of each record.
    fn segment(payloads: &[Vec<u8>]) -> (Seed, Vec<u8>, Vec<usize>) {
        let seed = Seed::of(Uuid::from_u128(1), 100);
        let mut bytes = vec![0; HEADER_BYTES];
        let mut starts = Vec::new();
        for (position, payload) in (101..).zip(payloads) {
            let at = bytes.len();
            starts.push(at);
            seed.encode(&mut bytes, at, position, payload).unwrap();
            assert_eq!(bytes.len() - at, record_bytes(payload.len()));
        }
        bytes.resize(bytes.len() + 64, 0);
        (seed, bytes, starts)
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 1..8)
    }

    /// Returns every record that can be read, whatever bytes lie between.
    fn read(seed: Seed, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let (mut found, mut at) = (Vec::new(), HEADER_BYTES);
        while let Some((_, record)) = seed.record_after(bytes, 0, at) {
            found.push((record.position, record.payload.to_vec()));
            at = record.next;
        }
        found
    }

    proptest! {
        #[test]
        fn records_are_read_back_and_a_torn_one_is_left_out(
            payloads in payloads(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (seed, bytes, starts) = segment(&payloads);
            let all: Vec<(u64, Vec<u8>)> = (101..).zip(payloads).collect();
            prop_assert_eq!(&read(seed, &bytes), &all);
            let end = HEADER_BYTES + cut.index(bytes.len() - HEADER_BYTES);
            let whole = starts.iter().zip(&all).filter(|(start, (_, payload))| **start + 16 + payload.len() <= end);
            let whole: Vec<(u64, Vec<u8>)> = whole.map(|(_, record)| record.clone()).collect();
            prop_assert_eq!(read(seed, bytes.get(..end).unwrap()), whole);
        }

        #[test]
        fn a_flipped_bit_costs_at_most_the_record_that_it_is_in(
            payloads in payloads(),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let (seed, mut bytes, starts) = segment(&payloads);
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            *bytes.get_mut(at).unwrap() ^= 1 << bit;
            let hit = starts.iter().rposition(|start| *start <= at).unwrap();
            let mut left: Vec<(u64, Vec<u8>)> = (101..).zip(payloads).collect();
            let found = read(seed, &bytes);
            if found.len() < left.len() {
                left.remove(hit);
            }
            prop_assert_eq!(found, left);
        }

        #[test]
        fn a_record_is_not_read_in_another_segment_journal_or_place(
            payload in proptest::collection::vec(any::<u8>(), 1..80),
        ) {
            let mut bytes = Vec::new();
            Seed::of(Uuid::from_u128(1), 100).encode(&mut bytes, 4096, 101, &payload).unwrap();
            let is_read = |seed: Seed, start| seed.record(&bytes, start, 0).is_some();
            prop_assert!(is_read(Seed::of(Uuid::from_u128(1), 100), 4096));
            prop_assert!(!is_read(Seed::of(Uuid::from_u128(2), 100), 4096));
            prop_assert!(!is_read(Seed::of(Uuid::from_u128(1), 99), 4096));
            prop_assert!(!is_read(Seed::of(Uuid::from_u128(1), 100), 4104));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..400_usize) {
            let seed = Seed::of(Uuid::nil(), 0);
            prop_assert_eq!(seed.record(&bytes, 4096, at), None);
            prop_assert_eq!(seed.record_after(&bytes, 4096, at), None);
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }
}
