//! Adopts the journals of dead processes, one by one, and reads them to their end.

use std::{
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    directory::{JournalHome, LOCK, REWRITTEN, SEGMENT_BYTES, SPARE, UNBORN, discard},
    format::{HEADER_BYTES, Header, NoSegment, RECORD_HEADER_BYTES, Seed, record_bytes},
    rejected::Rejected,
    scan::{Attempts, UNLIMITED, holds_anything, read_header, scan_segment, unless_unreadable},
};
use crate::entry::EventDefaults;
use crate::platform::{Directory, Kind, read_up_to};
use crate::queue::{Durability, Records, gone};

/// The age at which the unfinished directory of a journal counts as abandoned.
const UNBORN_FOR: Duration = Duration::from_hours(24);

/// How often to try to take a lock while others only look whether it is taken.
const LOCK_TRIES: usize = 100;

/// The least room that is worth giving back.
const ROOM_LEAST: usize = 64 * 1024;

/// A journal whose owner is dead, locked by this process.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) journal: Uuid,
    /// The number of appends that the database had accepted when it refused every entry of a batch of this journal.
    pub(crate) refused_at: Option<u64>,
    home: JournalHome,
    directory: Directory,
    _lock: File,
    /// Oldest first.
    segments: Vec<AdoptedSegment>,
    /// The segment that is being read, by the position before its first record.
    open: Option<(u64, Arc<File>)>,
    /// The dead log's values for fields that an event leaves out.
    defaults: Arc<EventDefaults>,
    scratch: Vec<u8>,
    attempts: Attempts,
    /// The point at which reading left off: the position before the first record of its segment, its offset in the
    /// segment, and its position.
    mark: (u64, usize, u64),
}

/// What the ledger knows of a journal's writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The position up to which the writer had accepted entries, or more.
    pub(crate) accepted: u64,
    /// Nothing of the writer is left to settle.
    pub(crate) ended: bool,
}

/// A segment of an adopted journal. It is opened when it is read.
#[derive(Debug)]
struct AdoptedSegment {
    path: PathBuf,
    seed: Seed,
    first: u64,
    size: usize,
}

impl AdoptedSegment {
    /// Opens the file of a segment. `open` keeps the last one that was opened.
    fn open(&self, directory: &Directory, open: &mut Option<(u64, Arc<File>)>) -> io::Result<Arc<File>> {
        if let Some((first, file)) = open
            && *first == self.first
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(directory.file(&self.path, false)?);
        *open = Some((self.first, Arc::clone(&file)));
        Ok(file)
    }
}

impl Backlog {
    /// The names in the directory of journals, as paths. Each may be a journal.
    pub(crate) fn candidates(home: &JournalHome) -> io::Result<Vec<PathBuf>> {
        let names = home.open()?.names()?;
        Ok(names.into_iter().map(|name| home.directory.join(name)).collect())
    }

    /// Adopts the journal of this name. Returns `None` if the name is not that of a journal, if the journal is for
    /// another database or ledger, or if its owner is alive.
    ///
    /// # Errors
    /// Also if what has the name of a journal, or lies in one, is not to be believed: see [`Directory`].
    ///
    /// Gives back the room that the owner had allocated and not used.
    pub(crate) fn adopt(home: &JournalHome, own: Uuid, path: &Path) -> io::Result<Option<Self>> {
        let Some(name) = path.file_name() else { return Ok(None) };
        let queue = home.open()?;
        if is_unborn(name) {
            return discard_unborn(&queue, name).map(|()| None);
        }
        // Leave alone whatever is not named like a journal, and a file: it is not ours.
        let journal = uuid_of(name).filter(|journal| *journal != own);
        let Some(journal) = journal else { return Ok(None) };
        if queue.kind(name)? == Kind::File {
            return Ok(None);
        }
        let directory = queue.directory(name)?;
        let Some(lock) = lock_of(&queue, &directory)? else { return Ok(None) };
        let Some((segments, defaults)) = segments_of(home, journal, &directory)? else { return Ok(None) };
        let mut backlog = Self {
            journal,
            refused_at: None,
            home: home.clone(),
            directory,
            _lock: lock,
            segments,
            open: None,
            defaults: Arc::new(defaults),
            scratch: Vec::new(),
            attempts: Attempts::new(3),
            mark: (u64::MAX, 0, 0),
        };
        backlog.trim()?;
        if home.durability != Durability::ProcessCrash {
            // Sync the records that the owner had not synced: nobody else will.
            for segment in &backlog.segments {
                segment.open(&backlog.directory, &mut backlog.open)?.sync_data()?;
            }
        }
        Ok(Some(backlog))
    }

    /// Gives back the room that the owner had allocated and not used.
    fn trim(&mut self) -> io::Result<()> {
        for unused in [SPARE, REWRITTEN] {
            self.directory.remove_if_there(unused)?;
        }
        // The others are full.
        let Some(last) = self.segments.last_mut() else { return Ok(()) };
        let file = self.directory.file(&last.path, true)?;
        let (mut offset, mut until) = (last.seed.start, last.first);
        loop {
            let extent = (offset, last.size);
            // What the disk cannot read is found again when it is to be committed.
            let scan = scan_segment(&file, last.seed, extent, until, UNLIMITED, &mut self.scratch);
            let Some(scan) = unless_unreadable(scan)? else { return Ok(()) };
            if scan.skipped > 0 || scan.gave_up {
                // The rest may be evidence.
                return Ok(());
            }
            (offset, until) = (scan.next, scan.until);
            if scan.block.ends.is_empty() {
                break;
            }
        }
        let mut tail = [0; RECORD_HEADER_BYTES];
        read_up_to(&file, &mut tail, offset)?;
        let end = offset + RECORD_HEADER_BYTES;
        if tail == [0; RECORD_HEADER_BYTES] && last.size > end + ROOM_LEAST {
            file.set_len(end as u64)?;
            last.size = end;
        }
        Ok(())
    }

    /// Returns the records from position `from` on, which is the position that the database has reached. After the last
    /// one follows a record that tells what the dead log had rejected, if no other does. If no record is returned and
    /// none is skipped, the end is reached. `known` is what the ledger knows of the journal's writer. Skipped records are damaged, or missing: either no segment
    /// holds them, or the database lacks them because it was restored from a backup.
    pub(crate) fn read(
        &mut self,
        from: u64,
        known: Option<Known>,
        (count, bytes): (usize, usize),
    ) -> io::Result<Records> {
        // The database may need the room of what is settled for what follows.
        while self.segments.get(1).is_some_and(|next| next.first <= from) {
            self.directory.remove_if_there(&self.segments.remove(0).path)?;
        }
        let mut records = Records::of(&self.defaults);
        let mut at = from;
        let mut index = self.segments.iter().rposition(|segment| segment.first <= at).unwrap_or(0);
        while let Some(segment) = self.segments.get(index) {
            let file = segment.open(&self.directory, &mut self.open)?;
            let left = (count - records.len(), bytes.saturating_sub(records.bytes()));
            if records.len() > 0 && (left.0 == 0 || left.1 == 0) {
                break;
            }
            // Number of records before this segment that are in no segment.
            let gone = segment.first.saturating_sub(at);
            let (marked, offset, position) = self.mark;
            let offset = if marked == segment.first && position <= at { offset } else { segment.seed.start };
            let (extent, from) = ((offset, segment.size), at.max(segment.first));
            let source = self.attempts.source(&file);
            let scan = scan_segment(source, segment.seed, extent, from, left, &mut self.scratch);
            let scan = self.attempts.count(scan)?;
            if scan.skipped > 0 || scan.gave_up {
                self.home.keep(&self.directory, &segment.path, self.journal)?;
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
            source.read(&mut tail, scan.next)?;
            if next.map_or(tail != [0; RECORD_HEADER_BYTES], |next| next.first > at) {
                self.home.keep(&self.directory, &segment.path, self.journal)?;
            }
            // Search the rest of this segment only once.
            self.mark = (segment.first, segment.size, at);
            index += 1;
        }
        if records.len() == 0 && records.skipped == 0 && !self.report_gone(from, known, &mut records)? {
            self.report_rejected(from, known.is_some(), &mut records)?;
        }
        Ok(records)
    }

    /// Tells of entries that follow this position, the last, and that the dead log had accepted. False: there are none.
    fn report_gone(&self, reached: u64, known: Option<Known>, records: &mut Records) -> io::Result<bool> {
        let Some(Known { accepted, ended: false }) = known else { return Ok(false) };
        // Every journal has a segment until its writer has ended.
        records.ends = self.segments.is_empty();
        if accepted > reached {
            records.skipped = accepted - reached;
            if let Some(last) = self.segments.last() {
                self.home.keep(&self.directory, &last.path, self.journal)?;
            }
        } else if records.ends {
            records.report(gone(0, self.journal, reached, self.home.directory.to_str()));
        }
        Ok(accepted > reached || records.ends)
    }

    /// Adds a record about what the dead log had rejected, if no entry up to this position, the last, tells of it.
    fn report_rejected(&self, reached: u64, is_known: bool, records: &mut Records) -> io::Result<()> {
        let Some(mut rejected) = Rejected::open(&self.home, &self.directory, self.journal)? else {
            return Ok(());
        };
        rejected.settle(reached);
        let by = reached.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let Some((gap, begun)) = rejected.begin_telling(by) else { return Ok(()) };
        if self.segments.is_empty() && !is_known {
            // No header says for which database the entries were.
            let lost = "holds rejections, and its segments are gone: nothing says for which database it is; remove it";
            let lost = format!("the journal in {} {lost}", self.directory.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, lost));
        }
        // On stable storage before the entry is: it must not be told twice.
        begun.and_then(|()| rejected.take_unsynced().map_or(Ok(()), |file| file.sync_data()))?;
        records.report(gap.record(Some(self.journal)));
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Removes the journal: everything in it is settled.
    pub(crate) fn finish(self) -> io::Result<()> {
        // Its segments say for which database it is, so they are removed after it.
        Rejected::remove(&self.directory)?;
        discard(&self.home, &self.directory)
    }
}

/// The journal that a directory of this name is.
fn uuid_of(name: &OsStr) -> Option<Uuid> {
    Uuid::try_parse(name.to_str()?).ok()
}

/// Whether a directory of this name is a journal that is being made.
fn is_unborn(name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.strip_suffix(UNBORN));
    name.is_some_and(|name| Uuid::try_parse(name.trim_end_matches('.')).is_ok())
}

/// Takes the lock of a journal and returns it. Returns `None` if the owner is alive, if another process was faster, or
/// if the journal was being removed.
fn lock_of(queue: &Directory, directory: &Directory) -> io::Result<Option<File>> {
    match directory.file(LOCK, false) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            remove_lockless(queue, directory).map(|()| None)
        }
        Err(cause) => Err(cause),
        Ok(lock) => Ok(take(&lock)?.then_some(lock)),
    }
}

/// Removes the directory of a journal that has no lock file. A process that died while it removed its journal leaves
/// such a directory, empty but for a spare file.
///
/// # Errors
/// If the directory holds anything else: somebody has deleted the lock, and nothing says whether the owner is alive.
fn remove_lockless(queue: &Directory, directory: &Directory) -> io::Result<()> {
    for name in directory.names()? {
        if name != SPARE && name != REWRITTEN {
            let gone = format!(
                "{} has lost its lock: if its process is dead, make an empty file",
                directory.path().join(LOCK).display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, gone));
        }
        directory.remove_file(&name)?;
    }
    queue.remove_directory(directory.path())
}

/// Returns the segments of a journal, oldest first, and the defaults of its log, or `None` if they are for another database or ledger, or in the
/// format of a newer version.
fn segments_of(
    home: &JournalHome,
    journal: Uuid,
    directory: &Directory,
) -> io::Result<Option<(Vec<AdoptedSegment>, EventDefaults)>> {
    let (mut segments, mut without, mut known) = (Vec::new(), Vec::new(), None);
    for name in directory.names()? {
        let path = directory.path().join(name);
        if path.extension().is_none_or(|extension| extension != "segment") {
            continue;
        }
        let file = directory.file(&path, false)?;
        match read_header(&file)? {
            Ok(header) if header.writer == journal => {
                if header.database != home.database || header.ledger != home.ledger {
                    // A process that writes to that database and ledger adopts this journal.
                    return Ok(None);
                }
                let (first, seed) = (header.first, header.seed(header.first));
                let size = size_of(&path, &file, seed.start)?;
                segments.push(AdoptedSegment { path, seed, first, size });
                known = Some(header);
            }
            Err(NoSegment::Newer(_)) => return Ok(None),
            Ok(_) | Err(NoSegment::Foreign) => without.push(path),
        }
    }
    for path in without {
        segments.extend(without_header(home, journal, directory, path, known.as_ref())?);
    }
    if known.is_none() && !segments.is_empty() {
        // No header says which database they are for.
        return Err(io::ErrorKind::InvalidData.into());
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(Some((segments, known.map(|header| header.defaults).unwrap_or_default())))
}

/// Returns the size of a segment whose records begin at `start`.
///
/// # Errors
/// If no segment is that large: only one that was made for a single large record exceeds [`SEGMENT_BYTES`].
pub(super) fn size_of(path: &Path, file: &File, start: usize) -> io::Result<usize> {
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if size > SEGMENT_BYTES {
        let mut length = [0; 4];
        read_up_to(file, &mut length, start)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if size > start.saturating_add(record_bytes(length)) {
            let message = format!(
                "{} has {size} bytes, more than any segment: it is not this log's, remove it or move it elsewhere",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    Ok(size)
}

/// Returns a segment whose header does not match its checksum, or `None` if it holds no record. `known` is the header of
/// another segment of the journal; without one, nothing is a record for sure.
fn without_header(
    home: &JournalHome,
    journal: Uuid,
    directory: &Directory,
    path: PathBuf,
    known: Option<&Header>,
) -> io::Result<Option<AdoptedSegment>> {
    let file = directory.file(&path, false)?;
    let size = size_of(&path, &file, known.map_or(HEADER_BYTES, |known| known.seed(0).start))?;
    // A file of zeros is no evidence: the process died while it made the segment.
    if holds_anything(&file, (0, size))? {
        home.keep(directory, &path, journal)?;
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
    Ok(holds_record.then_some(AdoptedSegment { path, seed, first, size }))
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
fn discard_unborn(queue: &Directory, name: &OsStr) -> io::Result<()> {
    let unborn = queue.directory(name)?;
    if unborn.age()? >= UNBORN_FOR {
        for name in unborn.names()? {
            unborn.remove_file(&name)?;
        }
        queue.remove_directory(name)?;
    }
    Ok(())
}
