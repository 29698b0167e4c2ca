//! The queue that emitters and the flusher see: a journal behind the contract of a queue.

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    backlog::Backlog,
    directory::{JournalHome, discard, is_no_room, journal_error},
    scan::scan_segment,
    segments::{Mark, OpenJournal, Spare, State, Upkeep},
};
use crate::error::AuditError;
use crate::platform::lock;
use crate::queue::{Appended, Counts, Due, Outcome, Queue, Records, Refused, gap::Gap};

/// The time that the end of the log waits for a record that is being written.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The time that an emitter whose entry is rejected waits for another one that is writing rejections.
const REJECT_PATIENCE: Duration = Duration::from_millis(10);

/// The queue on disk.
#[derive(Debug)]
pub(crate) struct JournalQueue(pub(super) OpenJournal);

impl JournalQueue {
    /// Makes a journal.
    pub(crate) fn create(home: JournalHome, writer: Uuid) -> Result<Self, AuditError> {
        let segment_bytes = home.segment_bytes();
        match Self::with_segments(home.clone(), writer, segment_bytes, 0) {
            Err(error) if error.lacks_room() => {
                // Adopting a journal gives back the room that its owner had not used. Journals that spell the database
                // otherwise are left to the flusher.
                for journal in Backlog::candidates(&home).unwrap_or_default() {
                    drop(Backlog::adopt(&home, writer, &journal, &|_| Some(false)));
                }
                Self::with_segments(home, writer, segment_bytes, 0)
            }
            made => made,
        }
    }

    /// Makes a journal whose segments have this size and whose positions begin at `start`.
    pub(super) fn with_segments(
        home: JournalHome,
        writer: Uuid,
        segment_bytes: usize,
        start: u64,
    ) -> Result<Self, AuditError> {
        let journal = OpenJournal::create(home, writer, segment_bytes, start)?;
        match journal.first_segment() {
            Ok(()) => {}
            // Without room the journal begins as a full one.
            Err(cause) if is_no_room(&cause) => journal.lock().counts.trouble = Some(cause.kind()),
            Err(cause) => {
                // Ignore an error: the first one says what is wrong.
                drop(discard(&journal.home, &journal.place()));
                return Err(journal_error(&journal.directory, cause));
            }
        }
        Ok(Self(journal))
    }
}

impl Queue for JournalQueue {
    fn append(
        &self,
        record: &[u8],
        patience: Duration,
        accepted: &mut dyn FnMut(u64),
    ) -> Result<Appended, Refused> {
        let mut end = self.0.lock_end_within(patience).ok_or(Refused::Stuck)?;
        let Counts { closed, trouble, .. } = self.0.lock().counts;
        if closed {
            return Err(Refused::Closed);
        }
        let written = self.0.write(&mut end, record, true, accepted);
        let failed = written.as_ref().err().map(io::Error::kind);
        if failed != trouble {
            self.0.lock().counts.trouble = failed;
        }
        // Whatever the error was, the record could not be stored: the queue counts as full.
        written.map_err(|_| Refused::Full)
    }

    fn reject(&self, why: Refused) {
        {
            let mut state = self.0.lock();
            state.counts.rejected.count(why);
            Gap::widen(&mut state.gap, why);
        }
        // Another emitter may be writing. If the disk hangs, the rejections stay in memory until it answers.
        let free = if why == Refused::Stuck { None } else { self.0.rejected.try_lock_for(REJECT_PATIENCE) };
        let Some(mut rejected) = free else { return };
        rejected.include(&mut self.0.lock().gap);
        if let Err(cause) = rejected.keep() {
            self.0.lock().counts.trouble.get_or_insert(cause.kind());
        }
    }

    fn report_gap(&self) -> Option<Appended> {
        let mut end = self.0.lock_end();
        let mut rejected = self.0.rejected.lock();
        rejected.include(&mut self.0.lock().gap);
        let position = self.0.lock().counts.appended.checked_add(1)?;
        let (gap, begun) = rejected.begin_telling(position)?;
        let appended = self.0.write(&mut end, &gap.record(None), false, &mut |_| {}).ok();
        // If there is no room yet, this gap is reported later, together with the rejections until then.
        let written = begun.and(rejected.end_telling(appended.is_some()));
        let mut state = self.0.lock();
        state.counts.gaps += u64::from(appended.is_some());
        if let Err(cause) = written {
            state.counts.trouble.get_or_insert(cause.kind());
        }
        appended
    }

    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Records> {
        let mut scratch = lock(&self.0.scratch);
        let mut records = Records::default();
        let mut at = from;
        while records.len() < count {
            // Read without the lock, so that emitters can append in the meantime.
            let found = {
                let state = self.0.lock();
                let segment = state.segments.iter().find(|segment| segment.last > at);
                segment.map(|segment| {
                    let mark = state.marks.range(..=at).next_back().map(|(_, mark)| *mark);
                    let mark = mark.filter(|mark| mark.segment == segment.number);
                    let offset = mark.map_or(segment.seed.start, |mark| mark.offset);
                    let file = Arc::clone(&segment.file);
                    let path = segment.path.clone();
                    let is_end = segment.last == state.counts.appended;
                    let at_end = is_end.then(Instant::now);
                    (file, path, segment.seed, (offset, segment.end), segment.number, (segment.last, at_end))
                })
            };
            let Some((file, path, seed, extent, number, (last, at_end))) = found else { break };
            let left = (count - records.len(), bytes.saturating_sub(records.bytes()));
            if records.len() > 0 && left.1 == 0 {
                break;
            }
            let source = self.0.attempts.source(&file);
            let scan = scan_segment(source, seed, extent, at, left, &mut scratch);
            let scan = self.0.attempts.count(scan)?;
            if scan.block.ends.is_empty() || scan.skipped > 0 {
                self.0.home.keep(&self.0.place(), &path, self.0.writer)?;
                let mut state = self.0.lock();
                let kept = state.segments.iter_mut().find(|segment| segment.number == number);
                if let Some(segment) = kept {
                    segment.kept = true;
                }
            }
            if scan.block.ends.is_empty() {
                // No further record of this segment matches its checksum: the rest of the segment is damaged.
                if records.len() == 0 {
                    records.skipped += last - at;
                    at = last;
                    continue;
                }
                break;
            }
            if scan.skipped > 0 && records.len() > 0 {
                break;
            }
            records.skipped += scan.skipped;
            records.push(scan.block);
            at = scan.until;
            let mut state = self.0.lock();
            // All that follows was appended after the end of the journal was seen.
            let since = at_end.filter(|_| at == last);
            state.marks.insert(at, Mark { segment: number, offset: scan.next, since });
            drop(state);
            if scan.broken {
                break;
            }
        }
        Ok(records)
    }

    fn ack(&self, upto: u64, outcome: Outcome) {
        let mut done = Vec::new();
        {
            let mut state = self.0.lock();
            state.counts.acknowledged = upto;
            state.counts.outcome.add(outcome);
            state.marks = state.marks.split_off(&upto);
            while state.segments.len() > 1
                && state.segments.front().is_some_and(|segment| segment.last <= upto)
            {
                done.extend(state.segments.pop_front());
            }
            let kept: usize = state.segments.iter().map(|segment| segment.end - segment.seed.start).sum();
            let State { segments, marks, counts, .. } = &mut *state;
            let mark = marks.get(&upto).copied();
            let front =
                segments.front_mut().filter(|front| mark.is_some_and(|mark| mark.segment == front.number));
            let mut acknowledged = 0;
            if let (Some(mark), Some(front)) = (mark, front) {
                acknowledged = mark.offset - front.seed.start;
                front.since = mark.since.unwrap_or(front.since);
            }
            counts.bytes = if counts.pending() == 0 { 0 } else { kept.saturating_sub(acknowledged) };
        }
        // The transaction that reached `upto` is on stable storage. If a file cannot be removed, it is found again
        // later, and no record in it is above the position that the database knows.
        for segment in done {
            self.0.retire(&segment);
        }
    }

    fn recover(&self, outcome: Outcome) {
        self.0.lock().counts.recover(outcome);
    }

    fn wake_at(&self, pending: u64) -> Counts {
        let mut state = self.0.lock();
        state.wake_at = Some(pending);
        state.counts()
    }

    fn close(&self) {
        self.0.lock().counts.closed = true;
        // A record that is being written is accepted, and is counted before this call returns, unless its disk hangs.
        // An emitter that takes the end after this finds the journal closed, so this waits for one record at most.
        let _end = self.0.lock_end_within(CLOSE_PATIENCE);
    }

    fn ended(&self, may_remove: bool) {
        // If the disk hangs, end without waiting for it: the next log adopts the rest.
        let Some(mut upkeep) = self.0.upkeep_soon() else { return };
        let Some(_end) = self.0.lock_end_within(CLOSE_PATIENCE) else { return };
        let is_told = self.0.rejected.try_lock().is_some_and(|rejected| !rejected.is_untold());
        let done = is_told && may_remove && {
            let state = self.0.lock();
            state.counts.pending() == 0 && state.gap.is_none()
        };
        if done {
            *upkeep = Upkeep::Ended;
            // Ignore an error: the next log finds a directory that could not be removed, and that it holds nothing
            // to settle.
            drop(discard(&self.0.home, &self.0.place()));
            // This fails, as it should, if the directory holds anything else.
            drop(fs::remove_dir(&self.0.home.directory));
        } else {
            // Sync the pending records as well as possible: there is nobody left to report an error to.
            drop(self.0.sync());
        }
    }

    fn give_room(&self) {
        if self.0.home.beside.is_some() {
            self.0.remove_spare();
        }
    }

    fn upkeep_due(&self) -> Option<Due> {
        let state = self.0.lock();
        // A sync starts after half of the time; the other half is for the disk.
        let sync = self.0.within().zip(state.unsynced).map(|(within, since)| {
            let waited = since.elapsed();
            Due { after: (within / 2).saturating_sub(waited), by: Some(within.saturating_sub(waited)) }
        });
        let has_none = state.segments.is_empty() && !state.counts.closed;
        if has_none || matches!(state.spare, Spare::Wanted) || state.is_look_due() {
            return Some(Due { after: Duration::ZERO, by: sync.and_then(|sync| sync.by) });
        }
        sync
    }

    fn upkeep(&self) -> io::Result<()> {
        let upkeep = self.0.upkeep_lock();
        if *upkeep == Upkeep::Ended {
            return Ok(());
        }
        self.0.look()?;
        self.0.first_segment().map_err(|cause| {
            let kind = cause.kind();
            io::Error::new(kind, journal_error(&self.0.directory, cause))
        })?;
        self.0.prepare_spare();
        self.0.sync()
    }

    fn concern(&self) -> Option<AuditError> {
        self.0.home.concern()
    }

    fn counts(&self) -> Counts {
        self.0.lock().counts()
    }
}
