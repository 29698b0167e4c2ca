//! The end of the journal: finds room for a record, encodes it and writes it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::MutexGuard;

use super::{
    directory::LEAST_SEGMENT_BYTES,
    format::{RECORD_HEADER_BYTES, record_bytes},
    room::leaves_reserve,
    segments::{OpenJournal, Spare, State},
};
use crate::platform::write_all_at;
use crate::queue::Appended;

/// The number of tries of an emitter to take the lock of the end before it sleeps.
const TRIES_BEFORE_SLEEP: usize = 300;

impl OpenJournal {
    /// Locks the end of the journal.
    pub(super) fn lock_end(&self) -> MutexGuard<'_, Vec<u8>> {
        self.end.lock()
    }

    /// Locks the end of the journal, for emitters. `None`: the emitter that has it locked has not finished writing
    /// within `patience`. Each emitter holds this lock only for the microsecond that a write takes, so trying again for
    /// a few microseconds is cheaper than sleeping and being woken: eight threads on two cores take a fifth less time.
    pub(super) fn lock_end_within(&self, patience: Duration) -> Option<MutexGuard<'_, Vec<u8>>> {
        for _ in 0..TRIES_BEFORE_SLEEP {
            if let Some(end) = self.end.try_lock() {
                return Some(end);
            }
            std::hint::spin_loop();
        }
        self.end.try_lock_for(patience)
    }

    /// The largest size of another file of this journal, in bytes. 0: the database needs what is left.
    pub(super) fn room_for_more(&self) -> usize {
        let own = self.lock().bytes();
        self.others.leave(&self.home, self.writer, own)
    }

    /// Makes a segment if there is none: at first, and as long as there is no room for it.
    pub(super) fn first_segment(&self) -> io::Result<()> {
        let _end = self.lock_end();
        if !self.lock().segments.is_empty() {
            return Ok(());
        }
        self.make_room(0, true)
    }

    /// Puts a segment with room for a record of this many bytes after the last one, which has none. The caller has the end
    /// locked. The state is locked only between two operations on files, which may hang.
    ///
    /// # Errors
    /// If there is no room on the disk, in addition to the room that the database needs, or, if `bounded`, within the
    /// bound on this journal.
    fn make_room(&self, bytes: usize, bounded: bool) -> io::Result<()> {
        let least = self.start() + bytes;
        let most = self.room_for_more();
        let (first, settled, scarce) = {
            let mut state = self.lock();
            let (more, scarce) = match state.spare {
                Spare::Ready { size, .. } if size >= least => (0, false),
                _ => (self.segment_bytes.min(most).max(least), most < least.max(LEAST_SEGMENT_BYTES)),
            };
            let is_pending = state.counts.pending() > 0;
            if bounded && is_pending && scarce {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if bounded && is_pending && state.bytes() + more as u64 > self.home.bytes_max {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            // An empty segment that is too small for this record is replaced by a larger one of the same name. If there
            // is little room, so are all segments in which nothing is pending.
            let keep = if scarce && !is_pending { 0 } else { state.segments.len() };
            let mut settled: Vec<_> = state.segments.drain(keep..).collect();
            settled.extend(state.segments.pop_back_if(|segment| segment.last == segment.first));
            (state.counts.appended, settled, scarce)
        };
        for segment in settled {
            self.place().remove_if_there(&segment.path)?;
        }
        if bounded && scarce && !leaves_reserve(&self.home.directory, least) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // One segment of the least size keeps the log going.
        let next = self.new_segment(first, bytes, most.max(LEAST_SEGMENT_BYTES))?;
        self.lock().segments.push_back(next);
        Ok(())
    }

    /// Writes a record, in a new segment if need be. `buffer` is the one that the lock of the journal's end guards.
    /// Calls `accepted` with the record's position before it counts as appended.
    pub(super) fn write(
        &self,
        buffer: &mut Vec<u8>,
        record: &[u8],
        bounded: bool,
        accepted: &mut dyn FnMut(u64),
    ) -> io::Result<Appended> {
        let bytes = record_bytes(record.len());
        let mut state = self.lock();
        let position = state.counts.appended.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        if state.segments.back().is_none_or(|segment| segment.end + bytes > segment.size) {
            drop(state);
            self.make_room(bytes, bounded)?;
            state = self.lock();
        }
        let (file, seed, at, size) = {
            let segment = state.segments.back().ok_or(io::ErrorKind::NotFound)?;
            (Arc::clone(&segment.file), segment.seed, segment.end, segment.size)
        };
        drop(state);
        buffer.clear();
        seed.encode(buffer, at, position, record).ok_or(io::ErrorKind::FileTooLarge)?;
        // Zeros where the header of the next record will be: no record begins there yet.
        buffer.resize(bytes + RECORD_HEADER_BYTES.min(size - at - bytes), 0);
        write_all_at(&file, buffer, at as u64)?;
        // Let go of the file: a retired segment is reused only if nobody else holds its file.
        drop(file);
        let mut state = self.lock();
        let State { segments, spare, counts, wake_at, unsynced, .. } = &mut *state;
        let segment = segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        if segment.last == segment.first || counts.pending() == 0 {
            segment.since = Instant::now();
        }
        accepted(position);
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
}
