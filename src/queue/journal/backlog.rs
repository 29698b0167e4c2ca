//! Adopts the journals of dead processes, one by one, and reads them to their end.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    directory::{JournalHome, LOCK, REWRITTEN, SPARE, UNBORN, discard},
    format::{HEADER_BYTES, Header, NoSegment, RECORD_HEADER_BYTES, Seed},
    rejected::Rejected,
    scan::{holds_anything, read_header, scan_segment},
};
use crate::entry::EventDefaults;
use crate::platform::read_up_to;
use crate::queue::{Durability, Records};

/// The age at which the unfinished directory of a journal counts as abandoned.
const UNBORN_FOR: Duration = Duration::from_hours(24);

/// How often to try to take a lock while others only look whether it is taken.
const LOCK_TRIES: usize = 100;

/// A journal whose owner is dead, locked by this process.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) journal: Uuid,
    /// The number of appends that the database had accepted when it refused every entry of a batch of this journal.
    pub(crate) refused_at: Option<u64>,
    home: JournalHome,
    directory: PathBuf,
    _lock: File,
    /// Oldest first.
    segments: Vec<AdoptedSegment>,
    /// The dead log's values for fields that an event leaves out.
    defaults: Arc<EventDefaults>,
    scratch: Vec<u8>,
    /// The point at which reading left off: the position before the first record of its segment, its offset in the
    /// segment, and its position.
    mark: (u64, usize, u64),
}

/// A segment of an adopted journal.
#[derive(Debug)]
struct AdoptedSegment {
    file: Arc<File>,
    path: PathBuf,
    seed: Seed,
    first: u64,
    size: usize,
}

impl AdoptedSegment {
    fn open(path: PathBuf, seed: Seed, first: u64) -> io::Result<Self> {
        let file = File::open(&path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self { file: Arc::new(file), path, seed, first, size })
    }
}

impl Backlog {
    /// The names in the directory of journals. Each may be a journal.
    pub(crate) fn candidates(home: &JournalHome) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&home.directory)?.map(|found| Ok(found?.path())).collect()
    }

    /// Adopts the journal in this directory. Returns `None` if the directory is not a journal, if the journal is for
    /// another database or ledger, or if its owner is alive.
    pub(crate) fn adopt(home: &JournalHome, own: Uuid, directory: PathBuf) -> io::Result<Option<Self>> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_suffix(UNBORN).is_some_and(|name| Uuid::try_parse(name.trim_end_matches('.')).is_ok()) {
            return discard_unborn(&directory).map(|()| None);
        }
        // Leave alone whatever is not named like a journal: it is not ours.
        let journal = Uuid::try_parse(name).ok().filter(|journal| *journal != own);
        let Some(journal) = journal.filter(|_| directory.is_dir()) else { return Ok(None) };
        let Some(lock) = lock_of(&directory)? else { return Ok(None) };
        let Some((segments, defaults)) = segments_of(home, journal, &directory)? else { return Ok(None) };
        if home.durability != Durability::ProcessCrash {
            // Sync the records that the owner had not synced: nobody else will.
            for segment in &segments {
                segment.file.sync_data()?;
            }
        }
        Ok(Some(Self {
            journal,
            refused_at: None,
            home: home.clone(),
            directory,
            _lock: lock,
            segments,
            defaults: Arc::new(defaults),
            scratch: Vec::new(),
            mark: (u64::MAX, 0, 0),
        }))
    }

    /// Returns the records from position `from` on, which is the position that the database has reached. After the last
    /// one follows a record that tells what the dead log had rejected, if no other does. If no record is returned and
    /// none is skipped, the end is reached. Skipped records are damaged, or missing: either no segment
    /// holds them, or the database lacks them because it was restored from a backup.
    pub(crate) fn read(&mut self, from: u64, count: usize, bytes: usize) -> io::Result<Records> {
        let mut records = Records::of(&self.defaults);
        let mut at = from;
        let mut index = self.segments.iter().rposition(|segment| segment.first <= at).unwrap_or(0);
        while let Some(segment) = self.segments.get(index) {
            let left = (count - records.len(), bytes.saturating_sub(records.bytes()));
            if records.len() > 0 && (left.0 == 0 || left.1 == 0) {
                break;
            }
            // Number of records before this segment that are in no segment.
            let gone = segment.first.saturating_sub(at);
            let (marked, offset, position) = self.mark;
            let offset = if marked == segment.first && position <= at { offset } else { segment.seed.start };
            let (extent, from) = ((offset, segment.size), at.max(segment.first));
            let scan = scan_segment(&segment.file, segment.seed, extent, from, left, &mut self.scratch)?;
            if scan.skipped > 0 || scan.gave_up {
                self.home.keep(&segment.path, self.journal)?;
            }
            let lost = gone + scan.skipped;
            if lost > 0 && records.len() > 0 {
                // A records has no holes: let the next records begin with this one.
                break;
            }
            records.skipped += lost;
            at = from + scan.skipped;
            if !scan.block.ends.is_empty() {
                at = scan.until;
                self.mark = (segment.first, scan.next, scan.until);
                let broken = scan.broken;
                records.push(scan.block);
                if broken {
                    break;
                }
                continue;
            }
            let next = self.segments.get(index + 1);
            // After its last record there should be zeros, or the next segment should follow it.
            let mut tail = [0; RECORD_HEADER_BYTES];
            read_up_to(&segment.file, &mut tail, scan.next)?;
            if next.map_or(tail != [0; RECORD_HEADER_BYTES], |next| next.first > at) {
                self.home.keep(&segment.path, self.journal)?;
            }
            // Search the rest of this segment only once.
            self.mark = (segment.first, segment.size, at);
            index += 1;
        }
        if records.len() == 0 && records.skipped == 0 {
            self.report_rejected(from, &mut records)?;
        }
        Ok(records)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Adds a record about what the dead log had rejected, if no entry up to this position, the last, tells of it.
    fn report_rejected(&self, reached: u64, records: &mut Records) -> io::Result<()> {
        let Some(mut rejected) = Rejected::open(&self.home, &self.directory, self.journal)? else {
            return Ok(());
        };
        rejected.settle(reached);
        let by = reached.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let Some((gap, begun)) = rejected.begin_telling(by) else { return Ok(()) };
        if self.segments.is_empty() {
            // No header says for which database the entries were.
            let lost = "holds rejections, and its segments are gone: nothing says for which database it is; remove it";
            let lost = format!("the journal in {} {lost}", self.directory.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, lost));
        }
        // On stable storage before the entry is: it must not be told twice.
        begun.and_then(|()| rejected.take_unsynced().map_or(Ok(()), |file| file.sync_data()))?;
        records.report(gap.record(Some(self.journal)));
        Ok(())
    }

    /// Removes the journal: everything in it is settled.
    pub(crate) fn finish(self) -> io::Result<()> {
        // Its segments say for which database it is, so they are removed after it.
        Rejected::remove(&self.directory)?;
        discard(&self.directory)
    }
}

/// Takes the lock of a journal and returns it. Returns `None` if the owner is alive, if another process was faster, or
/// if the journal was being removed.
fn lock_of(directory: &Path) -> io::Result<Option<File>> {
    match File::open(directory.join(LOCK)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => remove_lockless(directory).map(|()| None),
        Err(cause) => Err(cause),
        Ok(lock) => Ok(take(&lock)?.then_some(lock)),
    }
}

/// Removes the directory of a journal that has no lock file. A process that died while it removed its journal leaves
/// such a directory, empty but for a spare file.
///
/// # Errors
/// If the directory holds anything else: somebody has deleted the lock, and nothing says whether the owner is alive.
fn remove_lockless(directory: &Path) -> io::Result<()> {
    for found in fs::read_dir(directory)? {
        let found = found?;
        if found.file_name() != SPARE && found.file_name() != REWRITTEN {
            let gone = "the lock of a journal is gone";
            return Err(io::Error::new(io::ErrorKind::InvalidData, gone));
        }
        fs::remove_file(found.path())?;
    }
    fs::remove_dir(directory)
}

/// Returns the segments of a journal, oldest first, and the defaults of its log, or `None` if they are for another database or ledger, or in the
/// format of a newer version.
fn segments_of(
    home: &JournalHome,
    journal: Uuid,
    directory: &Path,
) -> io::Result<Option<(Vec<AdoptedSegment>, EventDefaults)>> {
    let (mut segments, mut without, mut known) = (Vec::new(), Vec::new(), None);
    for found in fs::read_dir(directory)? {
        let path = found?.path();
        if path.extension().is_none_or(|extension| extension != "segment") {
            continue;
        }
        match read_header(&File::open(&path)?)? {
            Ok(header) if header.writer == journal => {
                if header.database != home.database || header.ledger != home.ledger {
                    // A process that writes to that database and ledger adopts this journal.
                    return Ok(None);
                }
                segments.push(AdoptedSegment::open(path, header.seed(header.first), header.first)?);
                known = Some(header);
            }
            Err(NoSegment::Newer(_)) => return Ok(None),
            Ok(_) | Err(NoSegment::Foreign) => without.push(path),
        }
    }
    for path in without {
        segments.extend(without_header(home, journal, path, known.as_ref())?);
    }
    if known.is_none() && !segments.is_empty() {
        // No header says which database they are for.
        return Err(io::ErrorKind::InvalidData.into());
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(Some((segments, known.map(|header| header.defaults).unwrap_or_default())))
}

/// Returns a segment whose header does not match its checksum, or `None` if it holds no record. `known` is the header of
/// another segment of the journal; without one, nothing is a record for sure.
fn without_header(
    home: &JournalHome,
    journal: Uuid,
    path: PathBuf,
    known: Option<&Header>,
) -> io::Result<Option<AdoptedSegment>> {
    let file = File::open(&path)?;
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // A file of zeros is no evidence: the process died while it made the segment.
    if holds_anything(&file, (0, size))? {
        home.keep(&path, journal)?;
    }
    // The name gives the position that the header should give. A record whose checksum matches with that position
    // belongs to this journal.
    let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    let Some(first) = first else { return Ok(None) };
    let (seed, holds_record) = if let Some(known) = known {
        let seed = known.seed(first);
        let scan = scan_segment(&file, seed, (seed.start, size), first, (1, 1), &mut Vec::new())?;
        (seed, !scan.block.ends.is_empty())
    } else {
        (Seed::of_version_1(journal, first), holds_anything(&file, (HEADER_BYTES, size))?)
    };
    holds_record.then(|| AdoptedSegment::open(path, seed, first)).transpose()
}

/// Takes the lock of a journal. Returns false if its owner is alive or another process was faster.
fn take(lock: &File) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        // Another process may only be looking whether it is locked, for which it takes the lock, shared, for a moment.
        match lock.try_lock_shared() {
            Ok(()) => lock.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        std::thread::yield_now();
    }
    Ok(false)
}

/// Removes the unfinished directory of a journal, if it is a day old: the process that made it is dead, and nothing was
/// appended. A younger directory may still be in the making.
fn discard_unborn(directory: &Path) -> io::Result<()> {
    let age = fs::metadata(directory)?.modified()?.elapsed();
    if age.is_ok_and(|age| age >= UNBORN_FOR) { fs::remove_dir_all(directory) } else { Ok(()) }
}
