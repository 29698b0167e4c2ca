//! What dead processes left: their journals, adopted one by one and read to their end.

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
    scan::scan_segment,
};
use crate::{
    platform::read_up_to,
    queue::{policy::Durability, records::Records},
};

/// After this long, nobody is making it any more.
const UNBORN_FOR: Duration = Duration::from_hours(24);

/// How often to try again while somebody only looks.
const LOOKS: usize = 100;

/// A journal whose owner is gone, locked by us.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) journal: Uuid,
    /// How many appends the database had accepted when it refused every entry of a batch of this one.
    pub(crate) refused_at: Option<u64>,
    home: JournalHome,
    directory: PathBuf,
    _lock: File,
    /// Oldest first.
    segments: Vec<AdoptedSegment>,
    scratch: Vec<u8>,
    /// Where reading left off: the position before the first record of which segment, where in it, and after which
    /// position.
    mark: (u64, usize, u64),
}

#[derive(Debug)]
struct AdoptedSegment {
    file: Arc<File>,
    path: PathBuf,
    seed: Seed,
    first: u64,
    size: usize,
}

impl AdoptedSegment {
    fn open(path: PathBuf, journal: Uuid, first: u64) -> io::Result<Self> {
        let file = File::open(&path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self { file: Arc::new(file), path, seed: Seed::of(journal, first), first, size })
    }
}

impl Backlog {
    /// Adopts every journal of this place whose owner is gone and that is for the same database and ledger. One
    /// that cannot be read stands in no other's way.
    pub(crate) fn adopt_all(home: &JournalHome, own: Uuid) -> (Vec<Self>, Option<io::Error>) {
        let (mut adopted, mut failed) = (Vec::new(), None);
        let mut note = |cause: io::Error| {
            // Another process has just finished with it.
            if cause.kind() != io::ErrorKind::NotFound {
                failed = Some(cause);
            }
        };
        match fs::read_dir(&home.directory) {
            Err(cause) => note(cause),
            Ok(found) => {
                for found in found {
                    match found.and_then(|found| Self::adopt(home, own, found.path())) {
                        Ok(backlog) => adopted.extend(backlog),
                        Err(cause) => note(cause),
                    }
                }
            }
        }
        (adopted, failed)
    }

    fn adopt(home: &JournalHome, own: Uuid, directory: PathBuf) -> io::Result<Option<Self>> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_suffix(UNBORN).is_some_and(|name| Uuid::try_parse(name.trim_end_matches('.')).is_ok()) {
            return discard_unborn(&directory).map(|()| None);
        }
        // Anything else is somebody's that we do not know.
        let journal = Uuid::try_parse(name).ok().filter(|journal| *journal != own);
        let Some(journal) = journal.filter(|_| directory.is_dir()) else { return Ok(None) };
        let Some(lock) = lock_of(&directory)? else { return Ok(None) };
        let Some(segments) = segments_of(home, journal, &directory)? else { return Ok(None) };
        if home.durability != Durability::ProcessCrash {
            // What its owner had not synced yet, nobody else does.
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
            scratch: Vec::new(),
            mark: (u64::MAX, HEADER_BYTES, 0),
        }))
    }

    /// Records from position `from` on, which the database says is committed. Empty with nothing skipped: there
    /// are no more. What is skipped is damaged or, if a segment or a restored database lacks it, gone.
    pub(crate) fn read(&mut self, from: u64, count: usize, bytes: usize) -> io::Result<Records> {
        let mut batch = Records::default();
        let mut at = from;
        let mut index = self.segments.iter().rposition(|segment| segment.first <= at).unwrap_or(0);
        while let Some(segment) = self.segments.get(index) {
            let left = (count - batch.len(), bytes.saturating_sub(batch.bytes()));
            if batch.len() > 0 && (left.0 == 0 || left.1 == 0) {
                break;
            }
            // What lies before it is in no segment.
            let gone = segment.first.saturating_sub(at);
            let (marked, offset, position) = self.mark;
            let offset = if marked == segment.first && position <= at { offset } else { HEADER_BYTES };
            let (extent, from) = ((offset, segment.size), at.max(segment.first));
            let scan = scan_segment(&segment.file, segment.seed, extent, from, left, &mut self.scratch)?;
            if scan.skipped > 0 {
                self.home.keep(&segment.path, self.journal)?;
            }
            let lost = gone + scan.skipped;
            if lost > 0 && batch.len() > 0 {
                // A batch is without holes: the next one begins with it.
                break;
            }
            batch.skipped += lost;
            at = from + scan.skipped;
            if !scan.block.ends.is_empty() {
                at = scan.until;
                self.mark = (segment.first, scan.next, scan.until);
                let broken = scan.broken;
                batch.push(scan.block);
                if broken {
                    break;
                }
                continue;
            }
            let next = self.segments.get(index + 1);
            // Where its last record ends, another should begin, or the next segment.
            let mut tail = [0; RECORD_HEADER_BYTES];
            read_up_to(&segment.file, &mut tail, scan.next)?;
            if next.map_or(tail != [0; RECORD_HEADER_BYTES], |next| next.first > at) {
                self.home.keep(&segment.path, self.journal)?;
            }
            index += 1;
        }
        Ok(batch)
    }

    /// Everything in it has reached its end.
    pub(crate) fn finish(self) -> io::Result<()> {
        discard(&self.directory)
    }
}

/// The lock of a journal, taken; none if its owner lives, another process was faster, or nothing was left of it.
fn lock_of(directory: &Path) -> io::Result<Option<File>> {
    match File::open(directory.join(LOCK)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => remove_lockless(directory).map(|()| None),
        Err(cause) => Err(cause),
        Ok(lock) => Ok(take(&lock)?.then_some(lock)),
    }
}

/// Removes the last of a journal that was being removed.
///
/// # Errors
/// If it is not empty: somebody has taken the lock away, and with it what says whether the owner lives.
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

/// The segments of a journal, oldest first; none if they are for another database or ledger, or of a newer version.
fn segments_of(
    home: &JournalHome,
    journal: Uuid,
    directory: &Path,
) -> io::Result<Option<Vec<AdoptedSegment>>> {
    let (mut segments, mut headless) = (Vec::new(), Vec::new());
    for found in fs::read_dir(directory)? {
        let path = found?.path();
        if path.extension().is_none_or(|extension| extension != "segment") {
            continue;
        }
        let mut header = vec![0; HEADER_BYTES];
        read_up_to(&File::open(&path)?, &mut header, 0)?;
        match Header::decode(&header) {
            Ok(header) if header.journal == journal => {
                if header.database != home.database || header.ledger != home.ledger {
                    // Whoever writes to that one adopts it.
                    return Ok(None);
                }
                segments.push(AdoptedSegment::open(path, journal, header.first)?);
            }
            Err(NoSegment::Newer(_)) => return Ok(None),
            Ok(_) | Err(NoSegment::Foreign) => headless.extend(without_header(home, journal, path)?),
        }
    }
    if segments.is_empty() && !headless.is_empty() {
        // Nothing says which database they are for.
        return Err(io::ErrorKind::InvalidData.into());
    }
    segments.append(&mut headless);
    segments.sort_by_key(|segment| segment.first);
    Ok(Some(segments))
}

/// A segment whose header does not check; none if it holds no record.
fn without_header(home: &JournalHome, journal: Uuid, path: PathBuf) -> io::Result<Option<AdoptedSegment>> {
    let bytes = fs::read(&path)?;
    // All zeros: the process died while it made it.
    if bytes.iter().any(|byte| *byte != 0) {
        home.keep(&path, journal)?;
    }
    // Its name says what its header should, and a record that checks with that is one of ours.
    let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    let ours = |first: &u64| Seed::of(journal, *first).record_after(&bytes, 0, HEADER_BYTES).is_some();
    first.filter(ours).map(|first| AdoptedSegment::open(path, journal, first)).transpose()
}

/// Takes the lock of a journal whose owner is gone. False: it is not, or another process was faster.
fn take(lock: &File) -> io::Result<bool> {
    for _ in 0..LOOKS {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        // Somebody may only look whether it is locked, which takes the lock too, shared, for a moment.
        match lock.try_lock_shared() {
            Ok(()) => lock.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        std::thread::yield_now();
    }
    Ok(false)
}

/// Removes what a process left that died while it made a journal; nothing was appended to it. One that is being
/// made is not a day old.
fn discard_unborn(directory: &Path) -> io::Result<()> {
    let age = fs::metadata(directory)?.modified()?.elapsed();
    if age.is_ok_and(|age| age >= UNBORN_FOR) { fs::remove_dir_all(directory) } else { Ok(()) }
}
