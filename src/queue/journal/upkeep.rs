//! What is done beside appending, on a thread that may wait for the disk: the next segment's file, and syncing.
//!
//! With [`Durability::PowerLoss`](crate::Durability::PowerLoss) a sync begins when the oldest record that needs it
//! has waited for half of `within`, and takes everything along that was appended meanwhile.
//!
//! A sync that fails is never repeated on the same file: the kernel may have dropped what it could not write,
//! and would then report success. What is not acknowledged is written to another file, as it was read back from
//! the first and checked, which takes the first one's place once it is synced.

use std::{fs, io, sync::Arc};

use super::{
    HEADER_BYTES, JournalQueue, SPARE, Seed, Segment, Spare, State,
    file::{sync_directory, write_all_at},
    make,
    reading::read_segment,
    segment_name,
};

/// The file that takes a suspect segment's place, until it does.
const REWRITTEN: &str = "rewritten";

impl JournalQueue {
    /// Makes the file of the next segment, if it is wanted and there is room.
    pub(super) fn prepare_spare(&self) {
        {
            let mut state = self.lock();
            if !matches!(state.spare, Spare::Wanted) {
                return;
            }
            if state.bytes() + self.segment_bytes as u64 > self.place.bytes_max {
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
            let files: Vec<_> = files
                .map(|segment| {
                    (segment.number, Arc::clone(&segment.file), segment.last, segment.synced, segment.suspect)
                })
                .collect();
            (since, files)
        };
        let outcome = files.into_iter().try_for_each(|(number, file, last, synced, suspect)| {
            let done = if suspect {
                Err(io::ErrorKind::InvalidData.into())
            } else if synced.is_none() {
                file.sync_all().and_then(|()| sync_directory(&self.directory))
            } else {
                file.sync_data()
            };
            let mut state = self.lock();
            let found = state.segments.iter().position(|segment| segment.number == number);
            // Retired meanwhile: it is in the database.
            let Some(index) = found else { return Ok(()) };
            match done {
                Ok(()) => {
                    if let Some(segment) = state.segments.get_mut(index) {
                        segment.synced = Some(last);
                    }
                    Ok(())
                }
                Err(cause) => self.rewrite(&mut state, index).and(if suspect { Ok(()) } else { Err(cause) }),
            }
        });
        if outcome.is_err() {
            // Also if what failed is well again elsewhere: the others may not be.
            self.lock().unsynced = Some(since);
        }
        outcome
    }

    /// Puts another file, synced, in the place of a segment whose own can no longer be trusted. Nothing may be
    /// appended meanwhile.
    fn rewrite(&self, state: &mut State, index: usize) -> io::Result<()> {
        let acknowledged = state.counts.acknowledged;
        let is_last = index + 1 == state.segments.len();
        let Some(old) = state.segments.get_mut(index) else { return Ok(()) };
        old.suspect = true;
        if old.last <= acknowledged && !is_last {
            // Nobody needs it; what stays of it is read no further than to where the next one begins.
            drop(fs::remove_file(&old.path));
            drop(state.segments.remove(index));
            return Ok(());
        }
        let (first, seed, size) = (old.first.max(acknowledged), old.seed, old.size);
        let (last, since, end) = (old.last, old.since, old.end);
        let (file, old_path) = (Arc::clone(&old.file), old.path.clone());
        let unfinished = self.directory.join(REWRITTEN);
        let (path, new_seed) = (self.directory.join(segment_name(first)), Seed::of(self.journal, first));
        // Of an earlier attempt.
        match fs::remove_file(&unfinished) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let (new, size) = make(&unfinished, size, end)?;
        write_all_at(&new, &self.header(first)?, 0)?;
        let (mut from, mut offset, mut new_end) = (first, HEADER_BYTES, HEADER_BYTES);
        loop {
            let reading = read_segment(&file, seed, (offset, end), from, (usize::MAX >> 8, size))?;
            if reading.skipped > 0 {
                self.place.keep(&old_path, self.journal)?;
            }
            let mut bytes = Vec::new();
            let count = reading.block.ends.len();
            let positions = (reading.until - count as u64 + 1)..;
            for (index, position) in (0..count).zip(positions) {
                let (at, record) = (new_end + bytes.len(), reading.block.record(index));
                new_seed.encode(&mut bytes, at, position, record).ok_or(io::ErrorKind::FileTooLarge)?;
            }
            write_all_at(&new, &bytes, new_end as u64)?;
            new_end += bytes.len();
            (from, offset) = (reading.until, reading.next);
            if count == 0 {
                break;
            }
        }
        new.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_directory(&self.directory)?;
        let mut segment = state.segment(new, path, new_seed, first, size);
        (segment.last, segment.end, segment.since) = (last, new_end, since);
        segment.synced = Some(last);
        if segment.path != old_path {
            // What stays is no harm: it is read only up to where the other begins.
            drop(fs::remove_file(old_path));
        }
        if let Some(old) = state.segments.get_mut(index) {
            *old = segment;
        }
        Ok(())
    }
}
