//! Background work of a journal, on a thread that may wait for the disk: makes the file of the next segment, syncs, and
//! replaces a file whose sync has failed.
//!
//! With [`Durability::PowerLoss`](crate::Durability::PowerLoss) a sync begins when the oldest record that needs it
//! has waited for half of `within`, and covers every record appended until then.
//!
//! A sync that fails is never repeated on the same file: the kernel may have dropped the bytes that it could not write,
//! and would then report success. Nothing more is appended to such a file. Its records that are not acknowledged are
//! read back, checked, and written to another file, which replaces the first one once it is synced.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use super::{
    directory::{LEAST_SEGMENT_BYTES, REWRITTEN, SPARE, make, segment_name},
    format::Seed,
    scan::{UNLIMITED, scan_segment},
    segments::{OpenJournal, Segment, Spare, State, Upkeep},
};
use crate::platform::{lock, write_all_at};

impl OpenJournal {
    /// Locks the background work.
    pub(super) fn upkeep_lock(&self) -> MutexGuard<'_, Upkeep> {
        lock(&self.upkeep)
    }

    /// Locks the background work, like [`upkeep_lock`](Self::upkeep_lock), but gives up after a tenth of a second.
    pub(super) fn upkeep_soon(&self) -> Option<MutexGuard<'_, Upkeep>> {
        for _ in 0..50 {
            match self.upkeep.try_lock() {
                Ok(upkeep) => return Some(upkeep),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        None
    }

    /// Makes the file of the next segment, if it is wanted and there is room.
    pub(super) fn prepare_spare(&self) {
        if !matches!(self.lock().spare, Spare::Wanted) {
            return;
        }
        let size = self.segment_bytes.min(self.room_for_more());
        {
            let mut state = self.lock();
            if !matches!(state.spare, Spare::Wanted) {
                return;
            }
            if state.bytes() + size as u64 > self.home.bytes_max
                || size < LEAST_SEGMENT_BYTES.min(self.segment_bytes)
            {
                state.spare = Spare::Failed;
                return;
            }
            state.spare = Spare::Making;
        }
        let path = self.directory.join(SPARE);
        // Remove an earlier spare that could not be used, if there is one; if it stays, `make` fails.
        let place = self.place();
        drop(place.remove_file(&path));
        let made = make(&place, &path, size, size);
        // Ignore a failure: the next append hits the same lack of room and reports it.
        self.lock().spare = made.map_or(Spare::Failed, |(file, size)| Spare::Ready { file, size });
    }

    /// Removes the spare. Another one is made for the segment after the next.
    pub(super) fn remove_spare(&self) {
        let taken = {
            let mut state = self.lock();
            matches!(state.spare, Spare::Ready { .. })
                .then(|| std::mem::replace(&mut state.spare, Spare::Making))
        };
        if taken.is_some() {
            // If the file stays, the next spare replaces it.
            drop(self.place().remove_file(self.directory.join(SPARE)));
            self.lock().spare = Spare::Failed;
        }
    }

    /// Keeps the file of a retired segment as the spare for the next one, or removes it.
    pub(super) fn retire(&self, segment: &Segment) {
        let keeps = {
            let mut state = self.lock();
            let keeps = segment.size == self.segment_bytes
                && !segment.suspect
                && !segment.kept
                // A sync of this file that is under way may still fail, which a new segment would not notice.
                && Arc::strong_count(&segment.file) == 1
                && matches!(state.spare, Spare::None | Spare::Wanted | Spare::Failed);
            if keeps {
                state.spare = Spare::Making;
            }
            keeps
        };
        if keeps {
            let spare = self.directory.join(SPARE);
            let file = self.place().rename(&segment.path, &spare).and_then(|()| segment.file.try_clone());
            self.lock().spare = file.map_or(Spare::None, |file| Spare::Ready { file, size: segment.size });
        } else {
            drop(self.place().remove_file(&segment.path));
        }
    }

    /// Brings every record that was appended before this call to stable storage, if the durability asks for it.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.within().is_none() {
            return Ok(());
        }
        let (since, files) = {
            let mut state = self.lock();
            let Some(since) = state.unsynced.take() else { return Ok(()) };
            let files = state.segments.iter().filter(|segment| !segment.is_synced());
            let files: Vec<_> =
                files.map(|segment| (segment.number, Arc::clone(&segment.file), segment.last)).collect();
            (since, files)
        };
        self.sync_rejected().inspect_err(|_| self.lock().unsynced = Some(since))?;
        let outcome =
            files.into_iter().try_for_each(|(number, file, last)| self.sync_segment(number, &file, last));
        if outcome.is_err() {
            // Even if this segment has been rewritten elsewhere, others may still be unsynced.
            self.lock().unsynced = Some(since);
        }
        outcome
    }

    /// Brings what was rejected to stable storage.
    fn sync_rejected(&self) -> io::Result<()> {
        let file = self.rejected.lock().take_unsynced();
        let synced = file.map_or(Ok(()), |file| file.sync_data());
        synced.inspect_err(|_| self.rejected.lock().is_still_unsynced())
    }

    fn sync_segment(&self, number: u64, file: &File, last: u64) -> io::Result<()> {
        let find = |state: &mut State| state.segments.iter().position(|segment| segment.number == number);
        let (suspect, is_new) = {
            let mut state = self.lock();
            let index = find(&mut state);
            // The segment has been retired in the meantime: its records are in the database.
            let Some(segment) = index.and_then(|index| state.segments.get(index)) else { return Ok(()) };
            (segment.suspect, segment.synced.is_none())
        };
        if suspect {
            return self.rewrite(number);
        }
        let done = if is_new { file.sync_all().and_then(|()| self.place().sync()) } else { file.sync_data() };
        let Err(cause) = done else {
            let mut state = self.lock();
            if let Some(segment) = find(&mut state).and_then(|index| state.segments.get_mut(index)) {
                segment.synced = Some(last);
            }
            return Ok(());
        };
        self.rewrite(number)?;
        Err(cause)
    }

    /// Replaces the file of a suspect segment by another one, which is synced.
    pub(super) fn rewrite(&self, number: u64) -> io::Result<()> {
        let Some(old) = self.seal(number)? else { return Ok(()) };
        let unfinished = self.directory.join(REWRITTEN);
        // Remove the file of an earlier attempt.
        let place = self.place();
        place.remove_if_there(&unfinished)?;
        let (path, seed) = (self.directory.join(segment_name(old.from)), self.seed(old.from));
        let (new, size) = make(&place, &unfinished, old.size, old.end)?;
        write_all_at(&new, &self.header(old.from)?, 0)?;
        let (mut from, mut offset, mut end) = (old.from, self.start(), self.start());
        let mut scratch = Vec::new();
        loop {
            let extent = (offset, old.end);
            let scan = scan_segment(&*old.file, old.seed, extent, from, UNLIMITED, &mut scratch)?;
            if scan.skipped > 0 {
                self.home.keep(&place, &old.path, self.writer)?;
            }
            let (mut bytes, count) = (Vec::new(), scan.block.ends.len());
            let positions = scan.until.saturating_sub(count as u64)..;
            for (index, before) in (0..count).zip(positions) {
                let (at, record) = (end + bytes.len(), scan.block.record(index));
                seed.encode(&mut bytes, at, before + 1, record).ok_or(io::ErrorKind::FileTooLarge)?;
            }
            write_all_at(&new, &bytes, end as u64)?;
            end += bytes.len();
            (from, offset) = (scan.until, scan.next);
            if count == 0 {
                break;
            }
        }
        if from < old.last {
            // The rest of the records no longer match their checksums.
            self.home.keep(&place, &old.path, self.writer)?;
        }
        new.sync_all()?;
        place.rename(&unfinished, &path)?;
        let replaced = {
            let mut state = self.lock();
            let mut segment = state.segment(new, path.clone(), seed, old.from, size);
            (segment.last, segment.end, segment.since) = (old.last, end, old.since);
            let replaced = segment.number;
            let old = state.segments.iter_mut().find(|segment| segment.number == number);
            old.map(|old| *old = segment).map(|()| replaced)
        };
        if path != old.path {
            // A file that stays does no harm: it is read only up to where the next segment begins.
            drop(place.remove_file(&old.path));
        }
        let Some(number) = replaced else {
            // The segment has been retired in the meantime: its records are in the database.
            return place.remove_if_there(&path);
        };
        place.sync()?;
        let mut state = self.lock();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.number == number) {
            segment.synced = Some(old.last);
        }
        Ok(())
    }

    /// Marks a segment as suspect, so that nothing more is appended to it. Returns the part of it that is still needed,
    /// or `None` if nothing is.
    fn seal(&self, number: u64) -> io::Result<Option<SuspectSegment>> {
        let _end = self.lock_end();
        let (old, is_last) = {
            let mut state = self.lock();
            let acknowledged = state.counts.acknowledged;
            let count = state.segments.len();
            let found = state.segments.iter_mut().enumerate().find(|(_, segment)| segment.number == number);
            let Some((index, old)) = found else { return Ok(None) };
            old.suspect = true;
            let suspect = SuspectSegment {
                file: Arc::clone(&old.file),
                path: old.path.clone(),
                seed: old.seed,
                from: old.first.max(acknowledged),
                last: old.last,
                end: old.end,
                size: old.size,
                since: old.since,
            };
            (suspect, index + 1 == count)
        };
        let is_needed = old.last > old.from;
        if !is_needed {
            // If the file stays, it is read only up to where the next segment begins, which may replace it by name.
            self.place().remove_if_there(&old.path)?;
            self.lock().segments.retain(|segment| segment.number != number);
        }
        let next = if is_last { Some(self.new_segment(old.last, 0, usize::MAX)?) } else { None };
        let mut state = self.lock();
        if is_needed && is_last {
            // The new segment has to be synced too.
            state.unsynced.get_or_insert_with(Instant::now);
        }
        state.segments.extend(next);
        Ok(is_needed.then_some(old))
    }
}

/// The part of a suspect segment that has to be rewritten.
struct SuspectSegment {
    file: Arc<File>,
    path: PathBuf,
    seed: Seed,
    /// Position after which its records are needed.
    from: u64,
    last: u64,
    end: usize,
    size: usize,
    since: Instant,
}
