//! What dead processes left: their journals, adopted one by one and read to their end.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::PathBuf,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    LOCK, Mark, Place,
    file::read_up_to,
    read_segment,
    segment::{HEADER_BYTES, Header, NoSegment, Seed},
};
use crate::queue::Batch;

/// A journal whose owner is gone, locked by us.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) journal: Uuid,
    /// How many appends the database had accepted when it refused every entry of a batch of this one.
    pub(crate) refused_at: Option<u64>,
    place: Place,
    directory: PathBuf,
    _lock: File,
    /// Oldest first.
    segments: Vec<Old>,
    /// Where reading left off, and at which position.
    mark: Mark,
    position: u64,
}

#[derive(Debug)]
struct Old {
    file: Arc<File>,
    path: PathBuf,
    seed: Seed,
    first: u64,
    size: usize,
}

impl Old {
    fn open(path: PathBuf, journal: Uuid, first: u64) -> io::Result<Self> {
        let file = File::open(&path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        Ok(Self { file: Arc::new(file), path, seed: Seed::of(journal, first), first, size })
    }
}

impl Backlog {
    /// Adopts every journal of this place whose owner is gone and that is for the same database and ledger. One
    /// that cannot be read stands in no other's way.
    pub(crate) fn adopt_all(place: &Place, own: Uuid) -> (Vec<Self>, Option<io::Error>) {
        let (mut adopted, mut failed) = (Vec::new(), None);
        let mut note = |cause: io::Error| {
            // Another process has just finished with it.
            if cause.kind() != io::ErrorKind::NotFound {
                failed = Some(cause);
            }
        };
        match fs::read_dir(&place.directory) {
            Err(cause) => note(cause),
            Ok(found) => {
                for found in found {
                    match found.and_then(|found| Self::adopt(place, own, found.path())) {
                        Ok(backlog) => adopted.extend(backlog),
                        Err(cause) => note(cause),
                    }
                }
            }
        }
        (adopted, failed)
    }

    fn adopt(place: &Place, own: Uuid, directory: PathBuf) -> io::Result<Option<Self>> {
        let name = directory.file_name().and_then(|name| name.to_str());
        // Anything else is somebody's that we do not know.
        let journal = name.and_then(|name| Uuid::try_parse(name).ok()).filter(|journal| *journal != own);
        let Some(journal) = journal else { return Ok(None) };
        let lock = File::open(directory.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        let (mut segments, mut headless) = (Vec::new(), Vec::new());
        for found in fs::read_dir(&directory)? {
            let path = found?.path();
            if path.extension().is_none_or(|extension| extension != "segment") {
                continue;
            }
            let mut header = vec![0; HEADER_BYTES];
            read_up_to(&File::open(&path)?, &mut header, 0)?;
            match Header::decode(&header) {
                Ok(header) if header.journal == journal => {
                    if header.database != place.database || header.ledger != place.ledger {
                        // Whoever writes to that one adopts it.
                        return Ok(None);
                    }
                    segments.push(Old::open(path, journal, header.first)?);
                }
                Err(NoSegment::Newer(_)) => return Ok(None),
                Ok(_) | Err(NoSegment::Foreign) => {
                    let bytes = fs::read(&path)?;
                    // All zeros: the process died while it made it.
                    if bytes.iter().any(|byte| *byte != 0) {
                        place.keep(&path, journal)?;
                    }
                    // Its name says what its header should, and a record that checks with that is one of ours.
                    let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
                    let ours = |first: &u64| {
                        Seed::of(journal, *first).record_after(&bytes, 0, HEADER_BYTES).is_some()
                    };
                    if let Some(first) = first.filter(ours) {
                        headless.push(Old::open(path, journal, first)?);
                    }
                }
            }
        }
        if segments.is_empty() && !headless.is_empty() {
            // Nothing says which database they are for.
            return Err(io::ErrorKind::InvalidData.into());
        }
        segments.append(&mut headless);
        segments.sort_by_key(|segment| segment.first);
        let first = segments.first().map_or(0, |segment| segment.first);
        Ok(Some(Self {
            journal,
            refused_at: None,
            place: place.clone(),
            directory,
            _lock: lock,
            segments,
            mark: Mark { segment_first: first, offset: HEADER_BYTES },
            position: first,
        }))
    }

    /// Records from position `from` on, which the database says is committed. Empty with nothing skipped: there
    /// are no more.
    pub(crate) fn read(&mut self, from: u64, count: usize, bytes: usize) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut at = from;
        while let Some(index) = self.segments.iter().rposition(|segment| segment.first <= at).or(
            // The database was restored from before what this journal still has.
            if self.segments.is_empty() { None } else { Some(0) },
        ) {
            let Some(segment) = self.segments.get(index) else { break };
            let marked = self.mark.segment_first == segment.first && self.position <= at;
            let offset = if marked { self.mark.offset } else { HEADER_BYTES };
            let reading =
                read_segment(&segment.file, segment.seed, (offset, segment.size), at, (count, bytes))?;
            if reading.skipped > 0 {
                self.place.keep(&segment.path, self.journal)?;
            }
            if !reading.block.ends.is_empty() {
                batch.skipped += reading.skipped;
                batch.push(reading.block);
                self.mark = Mark { segment_first: segment.first, offset: reading.next };
                self.position = reading.until;
                break;
            }
            // The torn tail of the last one; or the next one begins later, if what lies between is damaged.
            let Some(next) = self.segments.get(index + 1) else {
                let mut after = [0; 16];
                read_up_to(&segment.file, &mut after, reading.next)?;
                if after != [0; 16] {
                    self.place.keep(&segment.path, self.journal)?;
                }
                break;
            };
            if next.first > at {
                self.place.keep(&segment.path, self.journal)?;
            }
            batch.skipped += next.first.saturating_sub(at);
            at = next.first;
        }
        Ok(batch)
    }

    /// Everything in it has reached its end.
    pub(crate) fn finish(self) -> io::Result<()> {
        fs::remove_dir_all(&self.directory)
    }
}
