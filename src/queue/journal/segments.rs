//! The journal's state: its open segments and their bounds, and making the next one.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    directory::{JournalHome, SPARE, begin, journal_error, make, segment_name},
    format::{HEADER_BYTES, Header, RECORD_HEADER_BYTES, Seed},
};
use crate::error::AuditError;
use crate::platform::{lock, write_all_at};
use crate::queue::{contract::Counts, gap::Gap, policy::Durability};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Journal {
    pub(super) journal: Uuid,
    pub(super) home: JournalHome,
    pub(super) directory: PathBuf,
    /// Locked for as long as this process lives.
    _lock: File,
    pub(super) segment_bytes: usize,
    /// Held by whoever adds to the last segment or puts another after it, so also while a record is written; with the
    /// bytes that are. Taken before `state`.
    pub(super) end: Mutex<Vec<u8>>,
    /// Never held while a record is written: whoever reads would find it taken most of the time, and an emitter would
    /// have to wake it after each.
    pub(super) state: Mutex<State>,
    /// What is read of a segment, kept since fresh memory costs more than the scan.
    pub(super) scratch: Mutex<Vec<u8>>,
    /// Held by whoever does what may wait for the disk; taken before `end` and `state`.
    pub(super) upkeep: Mutex<Upkeep>,
}

#[derive(Debug)]
pub(super) struct State {
    /// Oldest first; the last is being written.
    pub(super) segments: VecDeque<Segment>,
    pub(super) spare: Spare,
    /// Segments made so far.
    pub(super) made: u64,
    /// Where the records after some positions begin: where reading left off.
    pub(super) marks: BTreeMap<u64, Mark>,
    pub(super) counts: Counts,
    pub(super) wake_at: Option<u64>,
    pub(super) gap: Option<Gap>,
    /// Since when there is something that is to be synced and is not.
    pub(super) unsynced: Option<Instant>,
}

/// The first record after a position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) segment: u64,
    pub(super) offset: usize,
    /// When everything before it had been read and there was nothing after it, if that was ever so.
    pub(super) since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Segment {
    /// Tells it from one that takes its place.
    pub(super) number: u64,
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) seed: Seed,
    pub(super) first: u64,
    /// Position after its last record.
    pub(super) last: u64,
    /// Where the next record goes.
    pub(super) end: usize,
    /// Where the file ends.
    pub(super) size: usize,
    pub(super) since: Instant,
    /// Position up to which its records are on stable storage, if the file is.
    pub(super) synced: Option<u64>,
    /// A sync has failed: the kernel may have forgotten what it did not write, so no later sync says anything.
    pub(super) suspect: bool,
    /// Its bytes are kept as evidence under another name, so nothing else may be written there.
    pub(super) kept: bool,
}

impl Segment {
    pub(super) fn is_synced(&self) -> bool {
        self.synced.is_some_and(|synced| synced >= self.last)
    }
}

/// Whether there is still something to do beside appending.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    Open,
    /// The directory is gone.
    Ended,
}

/// The file that becomes the next segment.
#[derive(Debug)]
pub(super) enum Spare {
    None,
    /// To be made before the current segment is full.
    Wanted,
    /// Somebody makes it.
    Making,
    /// There was no room for it.
    Failed,
    Ready {
        file: File,
        size: usize,
    },
}

impl Journal {
    /// A new journal, which nobody else touches, with segments of this size and positions from this one on.
    pub(super) fn create(
        home: JournalHome,
        journal: Uuid,
        segment_bytes: usize,
        start: u64,
    ) -> Result<Self, AuditError> {
        let directory = home.directory.join(journal.to_string());
        let lock =
            begin(&home, journal, &directory).map_err(|cause| journal_error(&home.directory, cause))?;
        let state = State {
            segments: VecDeque::new(),
            spare: Spare::None,
            made: 0,
            marks: BTreeMap::new(),
            counts: Counts { appended: start, acknowledged: start, ..Counts::default() },
            wake_at: None,
            gap: None,
            unsynced: None,
        };
        let queue = Self {
            journal,
            home,
            directory,
            _lock: lock,
            segment_bytes,
            end: Mutex::default(),
            state: Mutex::new(state),
            scratch: Mutex::default(),
            upkeep: Mutex::new(Upkeep::Open),
        };
        let first = queue.new_segment(&mut queue.lock(), start, 0);
        let first = first.map_err(|cause| journal_error(&queue.directory, cause))?;
        queue.lock().segments.push_back(first);
        Ok(queue)
    }

    /// No code but our own runs under the lock, and none of it panics halfway: a poisoned state is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The bytes at the start of a segment: its header, and that no record follows.
    pub(super) fn header(&self, first: u64) -> io::Result<Vec<u8>> {
        let header = Header {
            journal: self.journal,
            first,
            database: self.home.database.clone(),
            ledger: self.home.ledger.clone(),
        };
        let mut bytes = header.encode().ok_or(io::ErrorKind::InvalidFilename)?;
        bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        Ok(bytes)
    }

    /// A segment with room for at least one record of this size, all of it allocated.
    pub(super) fn new_segment(&self, state: &mut State, first: u64, record: usize) -> io::Result<Segment> {
        let header = self.header(first)?;
        let least = HEADER_BYTES + record.max(RECORD_HEADER_BYTES);
        let path = self.directory.join(segment_name(first));
        let spare = std::mem::replace(&mut state.spare, Spare::None);
        let (file, size) = match spare {
            Spare::Ready { file, size } if size >= least => {
                // The header first: what has a segment's name is read as what its header says.
                write_all_at(&file, &header, 0)?;
                fs::rename(self.directory.join(SPARE), &path)?;
                (file, size)
            }
            Spare::Ready { .. } | Spare::Making => {
                state.spare = spare;
                self.fresh(&path, &header, least)?
            }
            Spare::None | Spare::Wanted | Spare::Failed => self.fresh(&path, &header, least)?,
        };
        Ok(state.segment(file, path, Seed::of(self.journal, first), first, size))
    }

    fn fresh(&self, path: &Path, header: &[u8], least: usize) -> io::Result<(File, usize)> {
        let (file, size) = make(path, self.segment_bytes.max(least), least)?;
        if let Err(cause) = write_all_at(&file, header, 0) {
            fs::remove_file(path)?;
            return Err(cause);
        }
        Ok((file, size))
    }

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
            end: HEADER_BYTES,
            size,
            since: Instant::now(),
            synced: None,
            suspect: false,
            kept: false,
        }
    }

    /// Bytes that the files take.
    pub(super) fn bytes(&self) -> u64 {
        let spare = if let Spare::Ready { size, .. } = self.spare { size as u64 } else { 0 };
        spare + self.segments.iter().map(|segment| segment.size as u64).sum::<u64>()
    }

    pub(super) fn counts(&self) -> Counts {
        let oldest = self.segments.iter().find(|segment| segment.last > self.counts.acknowledged);
        Counts { oldest: oldest.map(|segment| segment.since), ..self.counts }
    }
}
