//! The state of a journal: its open segments and their bounds. It also makes the next segment.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    directory::{JournalHome, SPARE, begin, discard, journal_error, make, segment_name},
    format::{HEADER_BYTES, Header, RECORD_HEADER_BYTES, Seed},
    rejected::Rejected,
    room::Others,
    scan::Attempts,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{Directory, lock, write_all_at};
use crate::queue::{Counts, Durability, gap::Gap};

/// A journal that this process writes: its files and their state.
#[derive(Debug)]
pub(super) struct OpenJournal {
    pub(super) writer: Uuid,
    pub(super) home: JournalHome,
    /// Its path.
    pub(super) directory: PathBuf,
    /// The directory itself, and another one after somebody has removed it.
    pub(super) place: Mutex<Arc<Directory>>,
    /// Keep the journal locked for as long as this process lives. The last one is that of `place`.
    pub(super) locks: Mutex<Vec<File>>,
    pub(super) segment_bytes: usize,
    /// The header of every segment, but for the position before its first record.
    header: Header,
    /// The rejections that no entry reports yet. Taken after `end` and before `state`.
    pub(super) rejected: parking_lot::Mutex<Rejected>,
    /// The end of the journal. Held while a record is written to the last segment, and while another segment is put
    /// after it. Guards the buffer in which a record is encoded. Taken before `state`.
    pub(super) end: parking_lot::Mutex<Vec<u8>>,
    /// Never held while a record is written: otherwise the flusher would find it taken most of the time, and emitters
    /// would have to wake the flusher after each record. Nor is it held during any other operation on a file, so that
    /// a caller that asks for counts never waits for a disk.
    pub(super) state: Mutex<State>,
    /// Buffer for the bytes read from a segment, kept because fresh memory costs more than reading.
    pub(super) scratch: Mutex<Vec<u8>>,
    /// Held during background work, which may wait for the disk. Taken before `end` and `state`.
    pub(super) upkeep: Mutex<Upkeep>,
    /// The number of times that the disk could not read it. The pauses between eight attempts are some seconds
    /// together.
    pub(super) attempts: Attempts,
    /// The bytes that other journals of the same directory hold.
    pub(super) others: Others,
}

/// The part of a journal that emitters, the flusher and the background work share.
#[derive(Debug)]
pub(super) struct State {
    /// Oldest first; records are appended to the last one.
    pub(super) segments: VecDeque<Segment>,
    pub(super) spare: Spare,
    /// Number of segments made so far.
    pub(super) made: u64,
    /// The places at which reads left off, by position. Marks below the acknowledged position are removed.
    pub(super) marks: BTreeMap<u64, Mark>,
    pub(super) counts: Counts,
    pub(super) wake_at: Option<u64>,
    /// Rejections that [`Rejected`] does not have yet: its file is being written, or does not answer.
    pub(super) gap: Option<Gap>,
    /// When the oldest record that needs a sync was appended. `None` if no record needs one.
    pub(super) unsynced: Option<Instant>,
    /// When somebody last looked whether the files are still in place, and the records that had been appended then.
    /// `None` in place of their number if the files were not in place.
    pub(super) looked: (Instant, Option<u64>),
}

/// The place at which the first record after a position begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Number of the segment that holds the record.
    pub(super) segment: u64,
    pub(super) offset: usize,
    /// When everything before this position had been read and nothing had been appended after it, if that was ever
    /// the case.
    pub(super) since: Option<Instant>,
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// Distinguishes a segment from another that replaces it.
    pub(super) number: u64,
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) seed: Seed,
    /// Position before its first record.
    pub(super) first: u64,
    /// Position after its last record.
    pub(super) last: u64,
    /// Offset at which the next record will be written.
    pub(super) end: usize,
    /// Size of the file in bytes.
    pub(super) size: usize,
    /// When the oldest record in it that may be pending was appended.
    pub(super) since: Instant,
    /// Position up to which its records are on stable storage. `None` until the file itself is.
    pub(super) synced: Option<u64>,
    /// Whether a sync of it has failed. The kernel may have dropped the bytes that it could not write, so a later sync
    /// that succeeds proves nothing.
    pub(super) suspect: bool,
    /// Whether its bytes are kept as evidence under another name of the same file, so that the file must not be
    /// reused.
    pub(super) kept: bool,
}

impl Segment {
    pub(super) fn is_synced(&self) -> bool {
        self.synced.is_some_and(|synced| synced >= self.last)
    }
}

/// Whether background work may still be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    Open,
    /// The directory has been removed.
    Ended,
}

/// The file that becomes the next segment.
#[derive(Debug)]
pub(super) enum Spare {
    None,
    /// It is to be made before the current segment is full.
    Wanted,
    /// It is being made.
    Making,
    /// It could not be made, for instance because there was no room for it.
    Failed,
    Ready {
        file: File,
        size: usize,
    },
}

impl Spare {
    /// Takes the file, if it is ready and has this size at least. Until the caller has renamed it, its name is taken.
    fn take(&mut self, least: usize) -> Option<(File, usize)> {
        match std::mem::replace(self, Self::Making) {
            Self::Ready { file, size } if size >= least => return Some((file, size)),
            left @ (Self::Ready { .. } | Self::Making) => *self = left,
            Self::None | Self::Wanted | Self::Failed => *self = Self::None,
        }
        None
    }
}

impl OpenJournal {
    /// Makes a journal whose segments will have this size, and whose positions begin at `start`. It has no segment yet.
    pub(super) fn create(
        home: JournalHome,
        writer: Uuid,
        segment_bytes: usize,
        start: u64,
    ) -> Result<Self, AuditError> {
        let directory = home.directory.join(writer.to_string());
        let mut header = Header {
            writer,
            first: start,
            secret: Some(Uuid::new_v4().into_bytes()),
            database: home.database.clone(),
            ledger: home.ledger.clone(),
            defaults: home.defaults.clone(),
            bytes: HEADER_BYTES,
        };
        if header.encode().is_none() {
            let message = "the names of database and ledger and the values of static_field are too long for a journal, \
                           which keeps them in 1 MiB: shorten them";
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        home.check()?;
        let (place, lock) = begin(&home, writer).map_err(|cause| journal_error(&home.directory, cause))?;
        let rejected = Rejected::create(&place).map_err(|cause| {
            // Ignore an error: the first one says what is wrong.
            drop(discard(&home, &place));
            journal_error(&directory, cause)
        })?;
        let state = State {
            segments: VecDeque::new(),
            spare: Spare::None,
            made: 0,
            marks: BTreeMap::new(),
            counts: Counts { appended: start, acknowledged: start, ..Counts::default() },
            wake_at: None,
            gap: None,
            unsynced: None,
            looked: (Instant::now(), Some(start)),
        };
        Ok(Self {
            writer,
            home,
            directory,
            place: Mutex::new(Arc::new(place)),
            locks: Mutex::new(vec![lock]),
            segment_bytes,
            header,
            rejected: parking_lot::Mutex::new(rejected),
            end: parking_lot::Mutex::default(),
            state: Mutex::new(state),
            scratch: Mutex::default(),
            upkeep: Mutex::new(Upkeep::Open),
            attempts: Attempts::new(8),
            others: Others::default(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The directory that the journal is in now.
    pub(super) fn place(&self) -> Arc<Directory> {
        Arc::clone(&lock(&self.place))
    }

    /// Returns the bytes at the start of an empty segment: its header, and zeros where the first record would be.
    pub(super) fn header(&self, first: u64) -> io::Result<Vec<u8>> {
        let header = Header { first, ..self.header.clone() }.encode();
        let mut bytes = header.ok_or(io::ErrorKind::InvalidFilename)?;
        bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        Ok(bytes)
    }

    /// The start of every checksum in the segment whose first record follows this position.
    pub(super) fn seed(&self, first: u64) -> Seed {
        self.header.seed(first)
    }

    /// The offset of the first record in every segment.
    pub(super) fn start(&self) -> usize {
        self.header.bytes
    }

    /// Makes a segment with room for at least one record of this size, and of at most this size unless that is too little,
    /// and allocates all of it. The caller has the end locked, and not the state.
    pub(super) fn new_segment(&self, first: u64, record: usize, most: usize) -> io::Result<Segment> {
        let header = self.header(first)?;
        let least = self.start() + record.max(RECORD_HEADER_BYTES);
        let path = self.directory.join(segment_name(first));
        let taken = self.lock().spare.take(least);
        let (file, size) = match taken {
            Some((file, size)) => {
                // Write the header before the rename: a file with the name of a segment must have its header.
                let renamed =
                    write_all_at(&file, &header, 0).and_then(|()| self.place().rename(SPARE, &path));
                self.lock().spare = Spare::None;
                match renamed {
                    Ok(()) => (file, size),
                    // Somebody has removed it.
                    Err(_) => self.fresh(&path, &header, (most, least))?,
                }
            }
            None => self.fresh(&path, &header, (most, least))?,
        };
        Ok(self.lock().segment(file, path, self.seed(first), first, size))
    }

    /// Makes the file of a segment, with this header.
    fn fresh(&self, path: &Path, header: &[u8], (most, least): (usize, usize)) -> io::Result<(File, usize)> {
        let place = self.place();
        let (file, size) = make(&place, path, self.segment_bytes.min(most).max(least), least)?;
        if let Err(cause) = write_all_at(&file, header, 0) {
            place.remove_file(path)?;
            return Err(cause);
        }
        Ok((file, size))
    }

    /// The time within which appended records must be on stable storage, if they must be.
    pub(super) fn within(&self) -> Option<Duration> {
        match self.home.durability {
            Durability::ProcessCrash => None,
            Durability::PowerLoss { within } => Some(within),
        }
    }
}

impl State {
    pub(super) fn segment(
        &mut self,
        file: File,
        path: PathBuf,
        seed: Seed,
        first: u64,
        size: usize,
    ) -> Segment {
        self.made += 1;
        Segment {
            number: self.made,
            file: Arc::new(file),
            path,
            seed,
            first,
            last: first,
            end: seed.start,
            size,
            since: Instant::now(),
            synced: None,
            suspect: false,
            kept: false,
        }
    }

    /// Size of the files on disk, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let spare = if let Spare::Ready { size, .. } = self.spare { size as u64 } else { 0 };
        spare + self.segments.iter().map(|segment| segment.size as u64).sum::<u64>()
    }

    pub(super) fn counts(&self) -> Counts {
        let oldest = self.segments.iter().find(|segment| segment.last > self.counts.acknowledged);
        Counts { oldest: oldest.map(|segment| segment.since), ..self.counts }
    }
}
