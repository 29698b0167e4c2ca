//! What is done beside appending, on a thread that may wait for the disk: the next segment's file, and syncing.
//!
//! With [`Durability::PowerLoss`](crate::Durability::PowerLoss) a sync begins when the oldest record that needs it
//! has waited for half of `within`, and takes everything along that was appended meanwhile.
//!
//! A sync that fails is never repeated on the same file: the kernel may have dropped what it could not write,
//! and would then report success. Nothing is appended to it any more, and what is not acknowledged is written to
//! another file, as it was read back from the first and checked, which takes the first one's place once it is synced.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{Arc, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use super::{
    directory::{REWRITTEN, SPARE, make, segment_name},
    format::{HEADER_BYTES, Seed},
    scan::{UNLIMITED, scan_segment},
    segments::{Journal, Segment, Spare, State, Upkeep},
};
use crate::platform::{lock, sync_directory, write_all_at};

impl Journal {
    pub(super) fn upkeep_lock(&self) -> MutexGuard<'_, Upkeep> {
        lock(&self.upkeep)
    }

    /// The lock of [`upkeep_lock`](Self::upkeep_lock), unless it is held for long.
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
        {
            let mut state = self.lock();
            if !matches!(state.spare, Spare::Wanted) {
                return;
            }
            if state.bytes() + self.segment_bytes as u64 > self.home.bytes_max {
                state.spare = Spare::Failed;
                return;
            }
            state.spare = Spare::Making;
        }
        let path = self.directory.join(SPARE);
        // One that could not be used.
        drop(fs::remove_file(&path));
        let made = make(&path, self.segment_bytes, self.segment_bytes);
        // That there is no room, the next append finds too, and whoever appends is told.
        self.lock().spare = made.map_or(Spare::Failed, |(file, size)| Spare::Ready { file, size });
    }

    /// Keeps the file for the next segment, or removes it.
    pub(super) fn retire(&self, segment: &Segment) {
        let keeps = {
            let mut state = self.lock();
            let keeps = segment.size == self.segment_bytes
                && !segment.suspect
                && !segment.kept
                // A sync of it that is under way may yet fail, and its next life would know nothing of that.
                && Arc::strong_count(&segment.file) == 1
                && matches!(state.spare, Spare::None | Spare::Wanted | Spare::Failed);
            if keeps {
                state.spare = Spare::Making;
            }
            keeps
        };
        if keeps {
            let spare = self.directory.join(SPARE);
            let file = fs::rename(&segment.path, &spare).and_then(|()| segment.file.try_clone());
            self.lock().spare = file.map_or(Spare::None, |file| Spare::Ready { file, size: segment.size });
        } else {
            drop(fs::remove_file(&segment.path));
        }
    }

    /// Brings everything that was appended before this call to stable storage, if that is wanted at all.
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
        let outcome =
            files.into_iter().try_for_each(|(number, file, last)| self.sync_segment(number, &file, last));
        if outcome.is_err() {
            // Also if what failed is well again elsewhere: the others may not be.
            self.lock().unsynced = Some(since);
        }
        outcome
    }

    fn sync_segment(&self, number: u64, file: &File, last: u64) -> io::Result<()> {
        let find = |state: &mut State| state.segments.iter().position(|segment| segment.number == number);
        let (suspect, is_new) = {
            let mut state = self.lock();
            let index = find(&mut state);
            // Retired meanwhile: it is in the database.
            let Some(segment) = index.and_then(|index| state.segments.get(index)) else { return Ok(()) };
            (segment.suspect, segment.synced.is_none())
        };
        if suspect {
            return self.rewrite(number);
        }
        let done = if is_new {
            file.sync_all().and_then(|()| sync_directory(&self.directory))
        } else {
            file.sync_data()
        };
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

    /// Puts another file, synced, in the place of a segment whose own can no longer be trusted.
    fn rewrite(&self, number: u64) -> io::Result<()> {
        let Some(old) = self.seal(number)? else { return Ok(()) };
        let unfinished = self.directory.join(REWRITTEN);
        // Of an earlier attempt.
        match fs::remove_file(&unfinished) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let (path, seed) = (self.directory.join(segment_name(old.from)), Seed::of(self.journal, old.from));
        let (new, size) = make(&unfinished, old.size, old.end)?;
        write_all_at(&new, &self.header(old.from)?, 0)?;
        let (mut from, mut offset, mut end) = (old.from, HEADER_BYTES, HEADER_BYTES);
        let mut scratch = Vec::new();
        loop {
            let extent = (offset, old.end);
            let scan = scan_segment(&old.file, old.seed, extent, from, UNLIMITED, &mut scratch)?;
            if scan.skipped > 0 {
                self.home.keep(&old.path, self.journal)?;
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
            // The rest of it no longer checks.
            self.home.keep(&old.path, self.journal)?;
        }
        new.sync_all()?;
        let number = {
            let mut state = self.lock();
            let index = state.segments.iter().position(|segment| segment.number == number);
            let Some(index) = index else { return fs::remove_file(&unfinished) };
            fs::rename(&unfinished, &path)?;
            let mut segment = state.segment(new, path, seed, old.from, size);
            (segment.last, segment.end, segment.since) = (old.last, end, old.since);
            if segment.path != old.path {
                // What stays is no harm: it is read only up to where the other begins.
                drop(fs::remove_file(&old.path));
            }
            let number = segment.number;
            if let Some(place) = state.segments.get_mut(index) {
                *place = segment;
            }
            number
        };
        sync_directory(&self.directory)?;
        let mut state = self.lock();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.number == number) {
            segment.synced = Some(old.last);
        }
        Ok(())
    }

    /// Sees to it that nothing is appended any more to a segment that cannot be trusted, and says what is in it that
    /// is needed; none if nothing is.
    fn seal(&self, number: u64) -> io::Result<Option<SuspectSegment>> {
        let _end = self.lock_end();
        let mut state = self.lock();
        let acknowledged = state.counts.acknowledged;
        let Some(index) = state.segments.iter().position(|segment| segment.number == number) else {
            return Ok(None);
        };
        let is_last = index + 1 == state.segments.len();
        let Some(old) = state.segments.get_mut(index) else { return Ok(None) };
        old.suspect = true;
        let (first, last) = (old.first, old.last);
        let is_needed = last > acknowledged;
        if !is_needed || first == last {
            // What stays of it is read no further than to where the next one begins, which may have its name.
            fs::remove_file(&old.path)?;
            drop(state.segments.remove(index));
            if is_last {
                let next = self.new_segment(&mut state, last, 0)?;
                state.segments.push_back(next);
            }
            return Ok(None);
        }
        if is_last {
            let next = self.new_segment(&mut state, last, 0)?;
            state.segments.push_back(next);
            // The new one is to be synced too.
            state.unsynced.get_or_insert_with(Instant::now);
        }
        let Some(old) = state.segments.get(index) else { return Ok(None) };
        Ok(Some(SuspectSegment {
            file: Arc::clone(&old.file),
            path: old.path.clone(),
            seed: old.seed,
            from: first.max(acknowledged),
            last,
            end: old.end,
            size: old.size,
            since: old.since,
        }))
    }
}

/// What is to be read of a segment that is not trusted any more.
struct SuspectSegment {
    file: Arc<File>,
    path: PathBuf,
    seed: Seed,
    /// The position after which its records are needed.
    from: u64,
    last: u64,
    end: usize,
    size: usize,
    since: Instant,
}
