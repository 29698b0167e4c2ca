//! The queue on disk: see the [room](super).

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    format::{HEADER_BYTES, Header, RECORD_HEADER_BYTES, Seed, record_bytes},
    scan::read_segment,
};
use crate::{
    error::{AuditError, Kind},
    platform::{allocate, lock, sync_directory, write_all_at},
    queue::{
        contract::{Appended, Counts, Due, Outcome, Queue},
        gap::{Gap, Refused},
        policy::Durability,
        records::Records,
    },
};

/// Large enough that a new one is rare, small enough that space comes back in small steps.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// Where there is little room, segments are smaller, but no smaller than this.
const LEAST_SEGMENT_BYTES: usize = 64 * 1024;

const LOOKS_BEFORE_SLEEP: usize = 300;

pub(super) const LOCK: &str = "lock";
pub(super) const SPARE: &str = "spare";
/// Part of the name of a directory that is not a journal yet.
pub(super) const UNBORN: &str = "new";
/// Where files with damage in them are kept, beside the journals.
pub(super) const DAMAGED: &str = "damaged";

/// Where journals are, and whose.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// Most bytes that the files of one journal may take.
    pub(crate) bytes_max: u64,
    pub(crate) durability: Durability,
    /// What names the database.
    pub(crate) database: String,
    pub(crate) ledger: String,
}

impl Place {
    /// Keeps a damaged file's bytes under another name.
    pub(super) fn keep(&self, file: &Path, journal: Uuid) -> io::Result<()> {
        let damaged = self.directory.join(DAMAGED);
        fs::create_dir_all(&damaged)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let kept = damaged.join(format!("{journal}-{name}"));
        match fs::hard_link(file, &kept).map_err(|cause| cause.kind()) {
            // It is kept already, or somebody has removed it.
            Ok(()) | Err(io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
            // A file system without links.
            Err(_) => fs::copy(file, kept).map(|_| ()),
        }
    }

    /// A bound on space is kept by a few segments, so that space comes back while others are in use.
    fn segment_bytes(&self) -> usize {
        let quarter = usize::try_from(self.bytes_max / 4).unwrap_or(usize::MAX);
        quarter.clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct JournalQueue {
    pub(super) journal: Uuid,
    pub(super) place: Place,
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
    /// What is read of a segment, kept since fresh memory costs more than the reading.
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

pub(super) fn failed(directory: &Path, cause: io::Error) -> AuditError {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let remedy = match cause.kind() {
        NotFound => "the directory that it lies in must exist",
        PermissionDenied | ReadOnlyFilesystem => "it is read-only: this process needs to read and write it",
        _ if is_no_room(&cause) => "there is no room for it on its disk",
        _ => "it needs a directory that this process may read and write",
    };
    let message = format!("the journal in {} cannot be used: {remedy}", directory.display());
    AuditError::new(Kind::Store, message).because(cause)
}

pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.segment")
}

fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl JournalQueue {
    /// A new journal, which nobody else touches.
    pub(crate) fn create(place: Place, journal: Uuid) -> Result<Self, AuditError> {
        let segment_bytes = place.segment_bytes();
        Self::with(place, journal, segment_bytes, 0)
    }

    /// With segments of this size, and positions from this one on.
    pub(super) fn with(
        place: Place,
        journal: Uuid,
        segment_bytes: usize,
        start: u64,
    ) -> Result<Self, AuditError> {
        let directory = place.directory.join(journal.to_string());
        let lock = begin(&place, journal, &directory).map_err(|cause| failed(&place.directory, cause))?;
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
            place,
            directory,
            _lock: lock,
            segment_bytes,
            end: Mutex::default(),
            state: Mutex::new(state),
            scratch: Mutex::default(),
            upkeep: Mutex::new(Upkeep::Open),
        };
        let first = queue.new_segment(&mut queue.lock(), start, 0);
        let first = first.map_err(|cause| failed(&queue.directory, cause))?;
        queue.lock().segments.push_back(first);
        Ok(queue)
    }

    /// No code but our own runs under the lock, and none of it panics halfway: a poisoned state is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn lock_end(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.end)
    }

    /// For emitters, of whom each holds it for the microsecond that a write takes: looking again for a few of those is
    /// cheaper than to sleep and be woken. Eight threads on two cores take a fifth less.
    fn lock_end_soon(&self) -> MutexGuard<'_, Vec<u8>> {
        for _ in 0..LOOKS_BEFORE_SLEEP {
            if let Ok(end) = self.end.try_lock() {
                return end;
            }
            std::hint::spin_loop();
        }
        self.lock_end()
    }

    /// The bytes at the start of a segment: its header, and that no record follows.
    pub(super) fn header(&self, first: u64) -> io::Result<Vec<u8>> {
        let header = Header {
            journal: self.journal,
            first,
            database: self.place.database.clone(),
            ledger: self.place.ledger.clone(),
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

    /// Makes sure that the last segment has room for a record of this many bytes.
    fn make_room(&self, state: &mut State, bytes: usize, bounded: bool) -> io::Result<()> {
        if state.segments.back().is_some_and(|segment| segment.end + bytes <= segment.size) {
            return Ok(());
        }
        let least = HEADER_BYTES + bytes;
        let more = match state.spare {
            Spare::Ready { size, .. } if size >= least => 0,
            _ => self.segment_bytes.max(least),
        };
        if bounded && state.counts.pending() > 0 && state.bytes() + more as u64 > self.place.bytes_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        // One that is too small for its first record gives its name to one that is not.
        if let Some(empty) = state.segments.pop_back_if(|segment| segment.last == segment.first) {
            fs::remove_file(&empty.path)?;
        }
        let next = self.new_segment(state, state.counts.appended, bytes)?;
        state.segments.push_back(next);
        Ok(())
    }

    /// Writes a record, in a new segment if need be. `buffer` is what the lock of the journal's end guards.
    fn write(&self, buffer: &mut Vec<u8>, record: &[u8], bounded: bool) -> io::Result<Appended> {
        let bytes = record_bytes(record.len());
        let (file, seed, at, size, position) = {
            let mut state = self.lock();
            let position = state.counts.appended.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
            self.make_room(&mut state, bytes, bounded)?;
            let segment = state.segments.back().ok_or(io::ErrorKind::NotFound)?;
            (Arc::clone(&segment.file), segment.seed, segment.end, segment.size, position)
        };
        buffer.clear();
        seed.encode(buffer, at, position, record).ok_or(io::ErrorKind::FileTooLarge)?;
        // Where the next one's header will be, nothing is written yet.
        buffer.resize(bytes + RECORD_HEADER_BYTES.min(size - at - bytes), 0);
        write_all_at(&file, buffer, at as u64)?;
        // A retired segment is used again only if nobody else holds its file.
        drop(file);
        let mut state = self.lock();
        let State { segments, spare, counts, wake_at, unsynced, .. } = &mut *state;
        let segment = segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        if segment.last == segment.first || counts.pending() == 0 {
            segment.since = Instant::now();
        }
        segment.end += bytes;
        segment.last = position;
        counts.appended = position;
        counts.bytes += bytes;
        let wake = wake_at.is_some_and(|at| counts.pending() >= at);
        if wake {
            *wake_at = None;
        }
        let mut upkeep = false;
        if matches!(spare, Spare::None) && segment.end > segment.size / 2 {
            *spare = Spare::Wanted;
            upkeep = true;
        }
        if unsynced.is_none() && self.within().is_some() {
            *unsynced = Some(Instant::now());
            upkeep = true;
        }
        Ok(Appended { position, wake, upkeep })
    }

    fn upkeep_lock(&self) -> MutexGuard<'_, Upkeep> {
        lock(&self.upkeep)
    }

    /// The lock of [`upkeep_lock`](Self::upkeep_lock), unless it is held for long.
    fn upkeep_soon(&self) -> Option<MutexGuard<'_, Upkeep>> {
        for _ in 0..50 {
            match self.upkeep.try_lock() {
                Ok(upkeep) => return Some(upkeep),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        None
    }

    pub(super) fn within(&self) -> Option<Duration> {
        match self.place.durability {
            Durability::ProcessCrash => None,
            Durability::PowerLoss { within } => Some(within),
        }
    }
}

/// Makes and locks the directory of a new journal.
fn begin(place: &Place, journal: Uuid, directory: &Path) -> io::Result<File> {
    // Named so that nobody adopts it before it is locked.
    let unborn = place.directory.join(format!("{journal}.{UNBORN}"));
    let mut tries = 0;
    let mut lock = loop {
        match fs::create_dir(&place.directory) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
            _ => {}
        }
        let made = fs::create_dir(&unborn).and_then(|()| File::create(unborn.join(LOCK)));
        match made {
            Ok(lock) => break lock,
            // Another log has just ended, and has found that it was the last.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
            Err(cause) => return Err(cause),
        }
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::Error(cause)) => return Err(cause),
        Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
    }
    writeln!(lock, "{}", std::process::id())?;
    fs::rename(&unborn, directory)?;
    if place.durability != Durability::ProcessCrash {
        sync_directory(&place.directory)?;
        sync_directory(place.directory.parent().unwrap_or(&place.directory))?;
    }
    Ok(lock)
}

/// Removes a journal in which nothing is left to do. The lock goes last: should the process die amid this, another
/// can still adopt the rest.
pub(super) fn discard(directory: &Path) -> io::Result<()> {
    for found in fs::read_dir(directory)? {
        let found = found?;
        if found.file_name() != LOCK {
            fs::remove_file(found.path())?;
        }
    }
    let removed = fs::remove_file(directory.join(LOCK)).and_then(|()| fs::remove_dir(directory));
    match removed {
        // Somebody who looked for journals was faster.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file of this size, all of it allocated; or a smaller one, if there is not that much room.
pub(super) fn make(path: &Path, size: usize, least: usize) -> io::Result<(File, usize)> {
    let mut size = size;
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    loop {
        let Err(cause) = allocate(&file, size) else { return Ok((file, size)) };
        let smaller = size / 2;
        if is_no_room(&cause) && smaller >= least.max(LEAST_SEGMENT_BYTES) {
            size = smaller;
            file.set_len(0)?;
            continue;
        }
        fs::remove_file(path)?;
        return Err(cause);
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

    fn counts(&self) -> Counts {
        let oldest = self.segments.iter().find(|segment| segment.last > self.counts.acknowledged);
        Counts { oldest: oldest.map(|segment| segment.since), ..self.counts }
    }
}

impl Queue for JournalQueue {
    fn append(&self, record: &[u8]) -> Result<Appended, Refused> {
        let mut end = self.lock_end_soon();
        let Counts { closed, trouble, .. } = self.lock().counts;
        if closed {
            return Err(Refused::Closed);
        }
        let written = self.write(&mut end, record, true);
        let failed = written.as_ref().err().map(io::Error::kind);
        if failed != trouble {
            self.lock().counts.trouble = failed;
        }
        // Whatever the reason, there is no room for it on disk.
        written.map_err(|_| Refused::Full)
    }

    fn reject(&self, why: Refused) {
        let mut state = self.lock();
        state.counts.rejected.count(why);
        Gap::widen(&mut state.gap, why);
    }

    fn report_gap(&self) -> Option<Appended> {
        let mut end = self.lock_end();
        let gap = self.lock().gap.take()?;
        let written = self.write(&mut end, &gap.record(), false);
        let mut state = self.lock();
        let Ok(appended) = written else {
            // No room yet: told later, with what is rejected until then.
            gap.put_back(&mut state.gap);
            return None;
        };
        state.counts.gaps += 1;
        Some(appended)
    }

    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Records> {
        let mut scratch = lock(&self.scratch);
        let mut batch = Records::default();
        let mut at = from;
        while batch.len() < count {
            // Read without the lock: emitters go on meanwhile.
            let place = {
                let state = self.lock();
                let segment = state.segments.iter().find(|segment| segment.last > at);
                segment.map(|segment| {
                    let mark = state.marks.range(..=at).next_back().map(|(_, mark)| *mark);
                    let mark = mark.filter(|mark| mark.segment == segment.number);
                    let offset = mark.map_or(HEADER_BYTES, |mark| mark.offset);
                    let file = Arc::clone(&segment.file);
                    let path = segment.path.clone();
                    (file, path, segment.seed, (offset, segment.end), segment.number, segment.last)
                })
            };
            let Some((file, path, seed, extent, number, last)) = place else { break };
            let left = (count - batch.len(), bytes.saturating_sub(batch.bytes()));
            if batch.len() > 0 && left.1 == 0 {
                break;
            }
            let reading = read_segment(&file, seed, extent, at, left, &mut scratch)?;
            if reading.block.ends.is_empty() || reading.skipped > 0 {
                self.place.keep(&path, self.journal)?;
                let mut state = self.lock();
                let kept = state.segments.iter_mut().find(|segment| segment.number == number);
                if let Some(segment) = kept {
                    segment.kept = true;
                }
            }
            if reading.block.ends.is_empty() {
                // Nothing more of this segment checks: what is left of it is damaged.
                if batch.len() == 0 {
                    batch.skipped += last - at;
                    at = last;
                    continue;
                }
                break;
            }
            if reading.skipped > 0 && batch.len() > 0 {
                break;
            }
            batch.skipped += reading.skipped;
            batch.push(reading.block);
            at = reading.until;
            let mut state = self.lock();
            let since = (at == state.counts.appended).then(Instant::now);
            state.marks.insert(at, Mark { segment: number, offset: reading.next, since });
            drop(state);
            if reading.broken {
                break;
            }
        }
        Ok(batch)
    }

    fn ack(&self, upto: u64, outcome: Outcome) {
        let mut done = Vec::new();
        {
            let mut state = self.lock();
            state.counts.acknowledged = upto;
            state.counts.outcome.add(outcome);
            state.marks = state.marks.split_off(&upto);
            while state.segments.len() > 1
                && state.segments.front().is_some_and(|segment| segment.last <= upto)
            {
                done.extend(state.segments.pop_front());
            }
            let kept: usize = state.segments.iter().map(|segment| segment.end - HEADER_BYTES).sum();
            let State { segments, marks, counts, .. } = &mut *state;
            let mark = marks.get(&upto).copied();
            let front =
                segments.front_mut().filter(|front| mark.is_some_and(|mark| mark.segment == front.number));
            let mut acknowledged = 0;
            if let (Some(mark), Some(front)) = (mark, front) {
                acknowledged = mark.offset - HEADER_BYTES;
                front.since = mark.since.unwrap_or(front.since);
            }
            counts.bytes = if counts.pending() == 0 { 0 } else { kept.saturating_sub(acknowledged) };
        }
        // The transaction that reached `upto` is on stable storage. A file that stays is found again, and nothing
        // in it is above the position that the database knows.
        for segment in done {
            self.retire(&segment);
        }
    }

    fn recover(&self, outcome: Outcome) {
        self.lock().counts.recover(outcome);
    }

    fn wake_at(&self, pending: u64) -> Counts {
        let mut state = self.lock();
        state.wake_at = Some(pending);
        state.counts()
    }

    fn close(&self) {
        // What is being written is accepted, and counted before this returns.
        let _end = self.lock_end();
        self.lock().counts.closed = true;
    }

    fn ended(&self) {
        // A disk that hangs keeps nobody from ending: the next log finds what is left.
        let Some(mut upkeep) = self.upkeep_soon() else { return };
        let done = {
            let state = self.lock();
            state.counts.pending() == 0 && state.gap.is_none()
        };
        if done {
            *upkeep = Upkeep::Ended;
            // What cannot be removed is found by the next log, which sees that nothing in it is left to do.
            drop(discard(&self.directory));
            // Only if nothing else is in it.
            drop(fs::remove_dir(&self.place.directory));
        } else {
            // What can be done for what is left, is; there is nobody to tell any more.
            drop(self.sync());
        }
    }

    fn upkeep_due(&self) -> Option<Due> {
        let state = self.lock();
        // Half of the time is for the disk.
        let sync = self.within().zip(state.unsynced).map(|(within, since)| {
            let waited = since.elapsed();
            Due { after: (within / 2).saturating_sub(waited), by: Some(within.saturating_sub(waited)) }
        });
        if matches!(state.spare, Spare::Wanted) {
            return Some(Due { after: Duration::ZERO, by: sync.and_then(|sync| sync.by) });
        }
        sync
    }

    fn upkeep(&self) -> io::Result<()> {
        let upkeep = self.upkeep_lock();
        if *upkeep == Upkeep::Ended {
            return Ok(());
        }
        self.prepare_spare();
        self.sync()
    }

    fn counts(&self) -> Counts {
        self.lock().counts()
    }
}
