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

impl Backlog {
    /// Adopts every journal of this place whose owner is gone and that is for the same database and ledger.
    pub(crate) fn adopt_all(place: &Place, own: Uuid) -> io::Result<Vec<Self>> {
        let mut adopted = Vec::new();
        for found in fs::read_dir(&place.directory)? {
            let directory = found?.path();
            let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Anything else is somebody's that we do not know.
            let Ok(journal) = Uuid::try_parse(name) else { continue };
            if journal == own {
                continue;
            }
            match Self::adopt(place, journal, directory) {
                Ok(backlog) => adopted.extend(backlog),
                // Another process has just finished with it.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(adopted)
    }

    fn adopt(place: &Place, journal: Uuid, directory: PathBuf) -> io::Result<Option<Self>> {
        let lock = File::open(directory.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
        let mut segments = Vec::new();
        for found in fs::read_dir(&directory)? {
            let path = found?.path();
            if path.extension().is_none_or(|extension| extension != "segment") {
                continue;
            }
            let file = File::open(&path)?;
            let mut header = vec![0; HEADER_BYTES];
            read_up_to(&file, &mut header, 0)?;
            match Header::decode(&header) {
                Ok(header) if header.journal != journal => {}
                Ok(header) if header.database == place.database && header.ledger == place.ledger => {
                    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
                    let seed = Seed::of(journal, header.first);
                    segments.push(Old { file: Arc::new(file), path, seed, first: header.first, size });
                }
                // Another database's: whoever writes to that adopts it.
                Ok(_) | Err(NoSegment::Newer(_)) => return Ok(None),
                // The process died while it made it, or its header is damaged.
                Err(NoSegment::Foreign) => {}
            }
        }
        segments.sort_by_key(|segment| segment.first);
        let first = segments.first().map_or(0, |segment| segment.first);
        Ok(Some(Self {
            journal,
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
                self.place.keep(&segment.path, self.journal);
            }
            if !reading.block.ends.is_empty() {
                batch.skipped += reading.skipped;
                batch.push(reading.block);
                self.mark = Mark { segment_first: segment.first, offset: reading.next };
                self.position = reading.until;
                break;
            }
            // The torn tail of the last one; or the next one begins later, if what lies between is damaged.
            let Some(next) = self.segments.get(index + 1) else { break };
            if next.first > at {
                self.place.keep(&segment.path, self.journal);
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
