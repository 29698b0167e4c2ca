//! Finds out whose a journal is: of a process that is alive, of a dead one, of this ledger or of another.

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
    directory::{JournalHome, LOCK, REWRITTEN, SEGMENT_BYTES, SPARE, UNBORN, journal_error},
    format::{HEADER_BYTES, Header, NoSegment, Seed, record_bytes},
    scan::{holds_anything, read_header, scan_segment},
};
use crate::entry::EventDefaults;
use crate::error::AuditError;
use crate::platform::{Directory, Kind, read_up_to, write_all_at};

/// The age at which the unfinished directory of a journal counts as abandoned.
const UNBORN_FOR: Duration = Duration::from_hours(24);

/// The number of tries to take a lock while others only look whether it is taken.
const LOCK_TRIES: usize = 100;

/// The time from locking a journal until its lock is marked, with a wide margin.
const MARKED_WITHIN: Duration = Duration::from_millis(20);

/// The text in the lock of a journal, after the ID of its owner, once another log has adopted it: its owner is dead,
/// though the journal is locked.
const ADOPTED: &[u8] = b"adopted\n";

/// The journal of a dead process that names another database or ledger, or does not say which.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) journal: Uuid,
    /// The database and the ledger that it names.
    pub(crate) names: Option<(String, String)>,
    /// The version of its format, which this version does not read.
    pub(crate) newer: Option<u32>,
    /// It may be for this ledger all the same: the ledger itself knows its writers.
    pub(crate) may_be_ours: bool,
}

/// Says whether the name of a database, which is not spelled as this log's, means the same. `None`: only the ledger can
/// decide.
pub(crate) type IsAlso<'a> = &'a dyn Fn(&str) -> Option<bool>;

/// A segment of an adopted journal. It is opened when it is read.
#[derive(Debug)]
pub(super) struct AdoptedSegment {
    pub(super) path: PathBuf,
    pub(super) seed: Seed,
    pub(super) first: u64,
    pub(super) size: usize,
}

impl AdoptedSegment {
    /// Opens the file of a segment. `open` keeps the last one that was opened.
    pub(super) fn open(
        &self,
        directory: &Directory,
        open: &mut Option<(u64, Arc<File>)>,
    ) -> io::Result<Arc<File>> {
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

/// The journal that a directory of this name is.
pub(super) fn uuid_of(name: &OsStr) -> Option<Uuid> {
    Uuid::try_parse(name.to_str()?).ok()
}

/// Whether a directory of this name is a journal that is being made.
pub(super) fn is_unborn(name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.strip_suffix(UNBORN));
    name.is_some_and(|name| Uuid::try_parse(name.trim_end_matches('.')).is_ok())
}

/// The lock of a journal.
pub(super) enum Lock {
    /// This process has taken it: the owner is dead.
    Taken(File),
    /// The owner is alive, or the journal was being removed.
    OfOwner,
    /// Another log has adopted the journal.
    OfAdopter,
}

pub(super) fn lock_of(queue: &Directory, directory: &Directory) -> io::Result<Lock> {
    match directory.file(LOCK, false) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            remove_lockless(queue, directory).map(|()| Lock::OfOwner)
        }
        Err(cause) => Err(cause),
        Ok(lock) if take(&lock)? => Ok(Lock::Taken(lock)),
        Ok(lock) => {
            // Another log may have taken it at this moment, and be about to mark it.
            std::thread::sleep(MARKED_WITHIN);
            if take(&lock)? {
                return Ok(Lock::Taken(lock));
            }
            // If a file that is locked cannot be read, everybody counts as an owner.
            let is_adopted = is_marked_adopted(&lock).unwrap_or(false);
            Ok(if is_adopted { Lock::OfAdopter } else { Lock::OfOwner })
        }
    }
}

/// Whether the owner of the journal with this lock is dead, though the journal is locked: another log has adopted it.
pub(super) fn is_marked_adopted(lock: &File) -> io::Result<bool> {
    let mut text = [0; 64];
    let read = read_up_to(lock, &mut text, 0)?;
    Ok(text.get(..read).is_some_and(|text| text.ends_with(ADOPTED)))
}

/// Says in the lock of a journal that its owner is dead.
pub(super) fn mark_adopted(directory: &Directory) -> io::Result<()> {
    let lock = directory.file(LOCK, true)?;
    if !is_marked_adopted(&lock)? {
        let end = usize::try_from(lock.metadata()?.len().min(32)).unwrap_or(0);
        write_all_at(&lock, ADOPTED, end as u64)?;
    }
    Ok(())
}

/// Whether nobody holds the lock of a journal. It is not taken: a process that looks for it at this moment would take
/// this process for its owner.
pub(super) fn is_unlocked(directory: &Directory) -> io::Result<bool> {
    let lock = match directory.file(LOCK, false) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(true),
        lock => lock?,
    };
    match lock.try_lock_shared() {
        Ok(()) => lock.unlock().map(|()| true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

/// Says that a journal is not for this log's database and ledger as its first header spells them, or that it is of a newer
/// version. `None`: it is, or it has no header.
pub(super) fn stranger_of(
    home: &JournalHome,
    journal: Uuid,
    directory: &Directory,
    is_also: IsAlso<'_>,
) -> io::Result<Option<Stranger>> {
    for name in directory.names()? {
        let path = directory.path().join(name);
        if path.extension().is_some_and(|extension| extension == "segment") {
            let header = read_header(&directory.file(&path, false)?)?;
            if header.as_ref().is_ok_and(|header| header.writer == journal) {
                return Ok(strange(home, journal, &header, is_also));
            }
        }
    }
    Ok(None)
}

/// The stranger that a journal with this header is, if it is one.
fn strange(
    home: &JournalHome,
    journal: Uuid,
    header: &Result<Header, NoSegment>,
    is_also: IsAlso<'_>,
) -> Option<Stranger> {
    match header {
        Ok(header) => {
            let whose = is_for(home, header, is_also);
            // A process that writes to that database and ledger adopts this journal.
            (whose != Some(true)).then(|| Stranger {
                journal,
                names: Some((header.database.clone(), header.ledger.clone())),
                newer: None,
                may_be_ours: whose.is_none(),
            })
        }
        Err(NoSegment::Newer(version)) => {
            Some(Stranger { journal, names: None, newer: Some(*version), may_be_ours: true })
        }
        Err(NoSegment::Foreign) => None,
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

/// The owner of a journal.
pub(super) enum Whose {
    /// This log's ledger's. The segments are the oldest first; the defaults are those of the log that made it.
    Ours(Vec<AdoptedSegment>, EventDefaults),
    Strange(Stranger),
}

/// The database and the ledger that each journal of a dead process names, in this directory. A journal that cannot be
/// read is reported by the log that it is for.
///
/// # Errors
/// If the directory itself cannot be read.
pub(crate) fn left_behind(home: &JournalHome) -> Result<Vec<(String, String)>, AuditError> {
    let looked = home.open().and_then(|queue| Ok((queue.names()?, queue)));
    let (names, queue) = looked.map_err(|cause| journal_error(&home.directory, cause))?;
    let found = names.iter().filter_map(|name| named_by(&queue, uuid_of(name)?, name).ok()?);
    Ok(found.collect())
}

/// The database and the ledger that a journal names, unless somebody has locked it.
fn named_by(queue: &Directory, journal: Uuid, name: &OsStr) -> io::Result<Option<(String, String)>> {
    if queue.kind(name)? == Kind::File {
        return Ok(None);
    }
    let directory = queue.directory(name)?;
    if !is_unlocked(&directory)? {
        return Ok(None);
    }
    for name in directory.names()? {
        let path = directory.path().join(name);
        if path.extension().is_some_and(|extension| extension == "segment")
            && let Ok(header) = read_header(&directory.file(&path, false)?)?
            && header.writer == journal
        {
            return Ok(Some((header.database, header.ledger)));
        }
    }
    Ok(None)
}

/// Whether a segment is for this log's database and ledger. `None`: only the ledger can tell.
fn is_for(home: &JournalHome, header: &Header, is_also: IsAlso<'_>) -> Option<bool> {
    match (header.ledger == home.ledger, header.database == home.database) {
        (false, _) => Some(false),
        (true, true) => Some(true),
        (true, false) => is_also(&header.database),
    }
}

/// Returns the segments of a journal and the defaults of its log, unless it is for another database or ledger, or in the
/// format of a newer version.
pub(super) fn segments_of(
    home: &JournalHome,
    journal: Uuid,
    directory: &Directory,
    is_also: IsAlso<'_>,
) -> io::Result<Whose> {
    let (mut segments, mut without, mut known) = (Vec::new(), Vec::new(), None::<Header>);
    for name in directory.names()? {
        let path = directory.path().join(name);
        if path.extension().is_none_or(|extension| extension != "segment") {
            continue;
        }
        let file = directory.file(&path, false)?;
        let header = read_header(&file)?;
        let is_telling = header.as_ref().map_or(true, |header| known.is_none() && header.writer == journal);
        if is_telling && let Some(stranger) = strange(home, journal, &header, is_also) {
            return Ok(Whose::Strange(stranger));
        }
        match header {
            Ok(header) if header.writer == journal => {
                let (first, seed) = (header.first, header.seed(header.first));
                let size = size_of(&path, &file, seed.start)?;
                segments.push(AdoptedSegment { path, seed, first, size });
                known = Some(header);
            }
            Ok(_) | Err(_) => without.push(path),
        }
    }
    for path in without {
        segments.extend(without_header(home, journal, directory, path, known.as_ref())?);
    }
    if known.is_none() && !segments.is_empty() {
        let message = format!(
            "{} holds entries, and nothing says for which database: the headers of its segments are damaged; keep it \
             elsewhere, and remove it from the queue",
            directory.path().display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(Whose::Ours(segments, known.map(|header| header.defaults).unwrap_or_default()))
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
pub(super) fn discard_unborn(queue: &Directory, name: &OsStr) -> io::Result<()> {
    let unborn = queue.directory(name)?;
    if unborn.age()? >= UNBORN_FOR {
        for name in unborn.names()? {
            unborn.remove_file(&name)?;
        }
        queue.remove_directory(name)?;
    }
    Ok(())
}
