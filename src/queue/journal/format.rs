//! The format of a segment file, byte for byte: its header, its records, and how bytes that are neither are recognised.
//!
//! All numbers are little-endian. A segment is a file of fixed length, all of it allocated before the first record is
//! written, so that writing a record can neither run out of space nor change the file's size. Bytes that have not been
//! written are zero, or left from the segment that the file was before. Left bytes can be bytes that somebody else
//! chose: the texts of old events.
//!
//! The **header** comes first: `magic: [u8; 8], version: u32 = 2, crc: u32, bytes: u32, writer: [u8; 16], first: u64,
//! secret: [u8; 16], database: text, ledger: text, defaults: document`, and the rest is zero. `bytes` is the length of the
//! header, a multiple of 4096 and at most 1 MiB. A text is `length: u16, bytes`, a document `length: u32, JSON`. `crc` is
//! the CRC-32C of everything after it in the header. `first` is the position before the segment's first record; the file
//! is named after it, in twenty digits. `secret` is random, the same in every segment of a journal, and nowhere else.
//! `defaults` holds the values of the log that accepts the records for fields that an event leaves out:
//! `{"workspace": UUID, "decision": "Allow" or another or null, "metadata": object}`.
//!
//! A **record** begins at a multiple of 8: `length: u32, relative: u32, payload crc: u32, header crc: u32, payload`.
//! `relative` is the number of positions from `first` to the position after the record: 1 for the first record, and at
//! most 2^24. It increases through a segment, by one unless records between are lost. `payload crc` is the CRC-32C of
//! the secret's last eight bytes and the payload. `header crc` is the CRC-32C of `writer, first`, the secret's first
//! eight bytes, `offset: u64, length, relative, payload crc`. So the sixteen bytes before a payload check by themselves:
//! no payload is summed for bytes that are no record, and a client that does not know the secret cannot write bytes
//! that look like one. Bytes that were a record elsewhere, or in an earlier use of the file, are not taken for a record
//! here.
//!
//! A payload is never empty: a length of 0 marks the place where nothing has been written yet. Therefore each record is
//! written together with sixteen zero bytes after it, or as many as the file has room for, which the next record
//! overwrites.
//!
//! **Version 1** is read, and no longer written. Its header has always 4096 bytes and neither `bytes` nor `secret` nor
//! `defaults`: nobody knows the defaults of its log, so fields that an event leaves out stay empty. Its records are
//! `length: u32, crc: u32, position: u64, payload`, where `crc` is the CRC-32C of `writer, first, offset: u64, length,
//! position, payload`. Only summing the payload shows whether bytes are a record, so a search for the next record gives
//! up once it has summed 64 times as many bytes as it searches, and no record of more than 64 MiB is searched for. The
//! bytes that follow count as damaged, and the file is kept.

use uuid::Uuid;

use crate::entry::EventDefaults;

/// The header's length is a multiple of this.
pub(super) const HEADER_BYTES: usize = 4096;
pub(super) const HEADER_BYTES_MAX: usize = 1 << 20;
pub(super) const RECORD_HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// More than the number of records that fit in a segment. Bytes that claim a position further on are no record.
const POSITIONS_MAX: u64 = 1 << 24;
/// The longest record of version 1 that is searched for: far longer than any that was written.
const UNSURE_BYTES_MAX: u32 = 64 << 20;

const MAGIC: [u8; 8] = *b"traudjnl";
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
    /// The secret of the journal. `None`: the segment has version 1.
    pub(super) secret: Option<[u8; 16]>,
    /// The database that the entries are for.
    pub(super) database: String,
    pub(super) ledger: String,
    /// The values of the log that accepted the records for fields that an event leaves out.
    pub(super) defaults: EventDefaults,
    /// Length of the header. [`encode`](Self::encode) sets it.
    pub(super) bytes: usize,
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
    /// Sets the length of the header and returns its bytes, of version 2. `None`: they are more than a header may have.
    pub(super) fn encode(&mut self) -> Option<Vec<u8>> {
        let mut checked = vec![0; 4];
        checked.extend_from_slice(self.writer.as_bytes());
        checked.extend_from_slice(&self.first.to_le_bytes());
        checked.extend_from_slice(&self.secret?);
        for text in [&self.database, &self.ledger] {
            checked.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
            checked.extend_from_slice(text.as_bytes());
        }
        let defaults = serde_json::to_vec(&self.defaults).ok()?;
        checked.extend_from_slice(&u32::try_from(defaults.len()).ok()?.to_le_bytes());
        checked.extend_from_slice(&defaults);
        self.bytes = (CHECKED_FROM + checked.len()).next_multiple_of(HEADER_BYTES);
        if self.bytes > HEADER_BYTES_MAX {
            return None;
        }
        checked.resize(self.bytes - CHECKED_FROM, 0);
        checked.get_mut(..4)?.copy_from_slice(&u32::try_from(self.bytes).ok()?.to_le_bytes());
        let mut header = Vec::with_capacity(self.bytes);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&2_u32.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&checked).to_le_bytes());
        header.append(&mut checked);
        Some(header)
    }

    /// The length that a header claims which begins with these bytes.
    pub(super) fn length(start: &[u8]) -> usize {
        let claimed = || {
            let mut rest = start;
            let (magic, version) = (take(&mut rest)?, u32::from_le_bytes(take(&mut rest)?));
            let _crc: [u8; 4] = take(&mut rest)?;
            let bytes = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
            let valid = HEADER_BYTES..=HEADER_BYTES_MAX;
            let valid = valid.contains(&bytes) && bytes.is_multiple_of(HEADER_BYTES);
            (magic == MAGIC && version == 2 && valid).then_some(bytes)
        };
        claimed().unwrap_or(HEADER_BYTES)
    }

    /// Reads a header from the start of a file: as many bytes as [`length`](Self::length) says.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoSegment> {
        let mut rest = bytes.get(..Self::length(bytes)).ok_or(NoSegment::Foreign)?;
        if take(&mut rest).ok_or(NoSegment::Foreign)? != MAGIC {
            return Err(NoSegment::Foreign);
        }
        let version = u32::from_le_bytes(take(&mut rest).ok_or(NoSegment::Foreign)?);
        if !matches!(version, 1 | 2) {
            return Err(NoSegment::Newer(version));
        }
        Self::checked(rest, version).ok_or(NoSegment::Foreign)
    }

    fn checked(mut rest: &[u8], version: u32) -> Option<Self> {
        let crc = u32::from_le_bytes(take(&mut rest)?);
        if crc32c::crc32c(rest) != crc {
            return None;
        }
        let mut bytes = HEADER_BYTES;
        if version == 2 {
            bytes = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        }
        let writer = Uuid::from_bytes(take(&mut rest)?);
        let first = u64::from_le_bytes(take(&mut rest)?);
        let secret = if version == 2 { Some(take(&mut rest)?) } else { None };
        let mut text = || {
            let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let (text, after) = rest.split_at_checked(length)?;
            rest = after;
            String::from_utf8(text.to_vec()).ok()
        };
        let (database, ledger) = (text()?, text()?);
        let mut defaults = EventDefaults::default();
        if version == 2 {
            let length = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
            defaults = serde_json::from_slice(rest.get(..length)?).ok()?;
        }
        Some(Self { writer, first, secret, database, ledger, defaults, bytes })
    }

    /// The start of every checksum in the segment of this journal whose first record follows this position.
    pub(super) fn seed(&self, first: u64) -> Seed {
        let Some(secret) = self.secret else { return Seed::of_version_1(self.writer, first) };
        let (head, payload) = secret.split_at(8);
        let seed = Seed::of_version_1(self.writer, first);
        Seed {
            head: crc32c::crc32c_append(seed.head, head),
            payload: Some(crc32c::crc32c(payload)),
            start: self.bytes,
            ..seed
        }
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
    /// The start of the checksum over a record's header; in version 1 over the payload as well.
    head: u32,
    /// The start of the checksum over a payload. `None`: the segment has version 1.
    payload: Option<u32>,
    first: u64,
    /// Offset of the first record.
    pub(super) start: usize,
}

/// The claim of the sixteen bytes before a payload about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Position after the record.
    pub(super) position: u64,
    /// Length of the payload.
    pub(super) length: usize,
    crc: u32,
    /// The sixteen bytes match a checksum of their own: a record was written here.
    pub(super) is_sure: bool,
}

impl Claim {
    /// The number of bytes from the start of this record to where the next one begins.
    pub(super) fn bytes(&self) -> usize {
        record_bytes(self.length)
    }
}

impl Seed {
    pub(super) fn of_version_1(writer: Uuid, first: u64) -> Self {
        let head = crc32c::crc32c_append(crc32c::crc32c(writer.as_bytes()), &first.to_le_bytes());
        Self { head, payload: None, first, start: HEADER_BYTES }
    }

    /// The checksum of a record's header at this offset, which goes on with these bytes.
    fn sum_head(self, offset: usize, rest: [[u8; 4]; 3]) -> u32 {
        let mut fixed = [0; 20];
        let (at_offset, at_rest) = fixed.split_at_mut(8);
        at_offset.copy_from_slice(&(offset as u64).to_le_bytes());
        at_rest.copy_from_slice(rest.as_flattened());
        crc32c::crc32c_append(self.head, &fixed)
    }

    /// Appends the bytes of a record that begins at `offset`, padded to where the next record begins. Returns `None` if
    /// the payload is larger than a record can hold, or the position too far on for this segment.
    pub(super) fn encode(
        self,
        out: &mut Vec<u8>,
        offset: usize,
        position: u64,
        payload: &[u8],
    ) -> Option<()> {
        let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
        let relative = position.checked_sub(self.first).filter(|relative| *relative <= POSITIONS_MAX)?;
        let relative = u32::try_from(relative).ok()?.to_le_bytes();
        let crc = crc32c::crc32c_append(self.payload?, payload).to_le_bytes();
        let head = self.sum_head(offset, [length, relative, crc]).to_le_bytes();
        out.extend_from_slice([length, relative, crc, head].as_flattened());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        Some(())
    }

    /// Returns what these bytes at `offset` claim, if they can be the header of a record.
    pub(super) fn claim(self, header: &[u8], offset: usize) -> Option<Claim> {
        let (fields, _) = header.as_chunks::<4>();
        let &[length, second, third, fourth] = fields else { return None };
        let size = u32::from_le_bytes(length);
        if size == 0 {
            return None;
        }
        let is_sure = self.payload.is_some();
        let (relative, crc) = if is_sure {
            (u64::from(u32::from_le_bytes(second)), third)
        } else {
            let [low, high] = [third, fourth].map(|half| u64::from(u32::from_le_bytes(half)));
            ((high << 32 | low).checked_sub(self.first)?, second)
        };
        let is_possible = (1..=POSITIONS_MAX).contains(&relative)
            && if is_sure {
                u32::from_le_bytes(fourth) == self.sum_head(offset, [length, second, third])
            } else {
                size <= UNSURE_BYTES_MAX
            };
        let (position, length) = (self.first.checked_add(relative)?, usize::try_from(size).ok()?);
        is_possible.then_some(Claim { position, length, crc: u32::from_le_bytes(crc), is_sure })
    }

    /// Whether this is the payload of the record that this claims to be, at `offset`.
    pub(super) fn is_whole(self, claim: &Claim, offset: usize, payload: &[u8]) -> bool {
        let crc = self.payload.unwrap_or_else(|| {
            let length = u32::try_from(claim.length).unwrap_or(u32::MAX);
            let halves = [claim.position, claim.position >> 32];
            let [low, high] = halves.map(|half| u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0));
            self.sum_head(offset, [length, low, high].map(u32::to_le_bytes))
        });
        crc32c::crc32c_append(crc, payload) == claim.crc
    }

    /// Gives the bytes that begin at `at` the checksums that make them a record, if the last bit of their checksum asks
    /// for it. Returns where the next record may begin.
    #[cfg(any(test, fuzzing))]
    pub(super) fn forge(self, bytes: &mut [u8], start: usize, at: usize) -> usize {
        let forged = || {
            let header = bytes.get(at..at + RECORD_HEADER_BYTES)?;
            let (fields, _) = header.as_chunks::<4>();
            let &[length, second, third, fourth] = fields else { return None };
            let size = usize::try_from(u32::from_le_bytes(length)).ok()?;
            let payload = bytes.get(at + RECORD_HEADER_BYTES..)?.get(..size)?;
            let header = if let Some(seed) = self.payload {
                let crc = crc32c::crc32c_append(seed, payload).to_le_bytes();
                [length, second, crc, self.sum_head(start + at, [length, second, crc]).to_le_bytes()]
            } else {
                let crc = self.sum_head(start + at, [length, third, fourth]);
                [length, crc32c::crc32c_append(crc, payload).to_le_bytes(), third, fourth]
            };
            let asked = if self.payload.is_some() { fourth } else { second };
            (u32::from_le_bytes(asked) & 1 == 1).then_some((header, at + record_bytes(size)))
        };
        let Some((header, next)) = forged() else { return at + ALIGNMENT };
        if let Some(place) = bytes.get_mut(at..at + RECORD_HEADER_BYTES) {
            place.copy_from_slice(header.as_flattened());
        }
        next
    }
}

/// Returns the number of bytes that a record with a payload of this size takes in a segment.
pub(super) fn record_bytes(payload: usize) -> usize {
    (RECORD_HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scan::every_record;
    use super::*;

    fn header() -> Header {
        Header {
            writer: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            first: 7,
            secret: Some(*b"0123456789abcdef"),
            database: "/var/lib/app/audit.db".to_owned(),
            ledger: "main".to_owned(),
            defaults: EventDefaults {
                workspace: Uuid::from_u128(9),
                decision: Some(crate::entry::Decision::Deny),
                metadata: serde_json::json!({"service": "worker"}).as_object().cloned().unwrap(),
                own_version_5: false,
            },
            bytes: HEADER_BYTES,
        }
    }

    #[test]
    fn the_bytes_of_version_1_are_fixed_because_journals_on_disk_depend_on_them() {
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
        let mut bytes = start;
        bytes.resize(HEADER_BYTES, 0);
        let read = Header::decode(&bytes).unwrap();
        let expected = Header { secret: None, defaults: EventDefaults::default(), ..header() };
        assert_eq!(read, expected);
        let fixed =
            [&[7, 0, 0, 0][..], &[0x57, 0xfa, 0x73, 0x7d], &[8, 0, 0, 0, 0, 0, 0, 0], b"payload", &[0]]
                .concat();
        let seed = read.seed(7);
        let claim = seed.claim(fixed.get(..16).unwrap(), HEADER_BYTES).unwrap();
        assert_eq!((claim.position, claim.length, claim.bytes(), claim.is_sure), (8, 7, 24, false));
        assert!(seed.is_whole(&claim, HEADER_BYTES, b"payload"));
        assert!(!seed.is_whole(&claim, HEADER_BYTES, b"payloaD"));
        assert!(!seed.is_whole(&claim, HEADER_BYTES + 8, b"payload"));
    }

    #[test]
    fn the_bytes_of_version_2_are_fixed_because_journals_on_disk_depend_on_them() {
        let mut header = header();
        let bytes = header.encode().unwrap();
        let defaults = br#"{"workspace":"00000000-0000-0000-0000-000000000009","decision":"Deny","metadata":{"service":"worker"}}"#;
        let start = [
            b"traudjnl".as_slice(),
            &[2, 0, 0, 0],
            &[0x6f, 0x2f, 0xce, 0x78],
            &[0, 0x10, 0, 0],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            b"0123456789abcdef",
            &[21, 0],
            b"/var/lib/app/audit.db",
            &[4, 0],
            b"main",
            &[102, 0, 0, 0],
            defaults,
        ]
        .concat();
        assert_eq!((bytes.len(), header.bytes), (HEADER_BYTES, HEADER_BYTES));
        assert_eq!(bytes.get(..start.len()).unwrap(), start);
        assert!(bytes.iter().skip(start.len()).all(|byte| *byte == 0));
        let mut record = Vec::new();
        header.seed(7).encode(&mut record, HEADER_BYTES, 8, b"payload").unwrap();
        let fixed = [
            &[7, 0, 0, 0][..],
            &[1, 0, 0, 0],
            &[0xeb, 0xc9, 0x65, 0x45],
            &[0x0b, 0x2d, 0x2b, 0xe6],
            b"payload",
            &[0],
        ]
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
        assert_eq!(Header { database: "x".repeat(70_000), ..header() }.encode(), None);
        let mut long = Header { ledger: "x".repeat(5000), ..header() };
        let bytes = long.encode().unwrap();
        assert_eq!((bytes.len(), Header::decode(&bytes)), (2 * HEADER_BYTES, Ok(long.clone())));
        let metadata =
            serde_json::json!({"static": "x".repeat(HEADER_BYTES_MAX)}).as_object().cloned().unwrap();
        assert_eq!(
            Header { defaults: EventDefaults { metadata, ..long.defaults.clone() }, ..long }.encode(),
            None
        );
    }

    fn seed(writer: u128, first: u64) -> Seed {
        Header { writer: Uuid::from_u128(writer), ..header() }.seed(first)
    }

    /// Returns a segment with these payloads: its seed, its bytes, and the offset of each record.
    fn segment(payloads: &[Vec<u8>]) -> (Seed, Vec<u8>, Vec<usize>) {
        let seed = seed(1, 100);
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
        let every = every_record(seed, bytes, 0, HEADER_BYTES).into_iter();
        every.map(|(position, payload, _)| (position, payload)).collect()
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
            seed(1, 100).encode(&mut bytes, 4096, 101, &payload).unwrap();
            let is_read = |seed: Seed, start| !every_record(seed, &bytes, start, start).is_empty();
            let other = Header { writer: Uuid::from_u128(1), secret: Some(*b"0123456789abcdeF"), ..header() };
            let other = other.seed(100);
            prop_assert!(is_read(seed(1, 100), 4096));
            prop_assert!(!is_read(seed(2, 100), 4096));
            prop_assert!(!is_read(seed(1, 99), 4096));
            prop_assert!(!is_read(seed(1, 100), 4104));
            prop_assert!(!is_read(other, 4096));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..400_usize) {
            for header in [header(), Header { secret: None, ..header() }] {
                let found = every_record(header.seed(0), &bytes, 4096, 4096 + at);
                prop_assert_eq!(found, Vec::new());
            }
            prop_assert!(Header::decode(&bytes).is_err());
        }
    }
}
