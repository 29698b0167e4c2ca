//! Adopts the journals of dead processes, one by one, and reads them to their end.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{
    directory::{JournalHome, REWRITTEN, SPARE, discard},
    format::RECORD_HEADER_BYTES,
    rejected::Rejected,
    scan::{Attempts, UNLIMITED, scan_segment, unless_unreadable},
    whose::{
        AdoptedSegment, IsAlso, Lock, Stranger, Whose, discard_unborn, is_unborn, is_unlocked, lock_of,
        mark_adopted, segments_of, stranger_of, uuid_of,
    },
};
use crate::entry::{EventDefaults, interpret};
use crate::platform::{Directory, Kind, is_unreadable, read_up_to};
use crate::queue::{Durability, Records, gone};

/// The least room that is worth giving back.
const ROOM_LEAST: usize = 64 * 1024;
/// The number of times that the disk may fail to read something until it is given up, and the pause after each.
const UNREADABLE_TRIES: u32 = 3;
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);

/// The meaning of a name in the directory of journals.
#[derive(Debug)]
pub(crate) enum Found {
    /// No journal, or one whose owner is alive.
    Nothing,
    /// The journal of a dead process, for this log's database and ledger.
    Dead(Box<Backlog>),
    /// The same, and another log has adopted it.
    Adopted,
    /// The journal of a dead process that names another database or ledger, or does not say which.
    Stranger(Stranger),
}

/// The end of a dead process's journal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JournalEnd {
    /// The position after the last record that matches its checksum.
    pub(crate) position: u64,
    /// Nothing follows it.
    pub(crate) is_sure: bool,
}

/// A journal whose owner is dead, locked by this process.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) journal: Uuid,
    /// The writer under which its entries are committed: the journal's own, unless another process has used the positions of
    /// that one.
    pub(crate) writer: Uuid,
    /// Nothing up to this position is read again.
    pub(crate) begin: u64,
    /// The positions of `writer` are known to be those of this journal.
    pub(crate) is_placed: bool,
    /// Its writer may be alive elsewhere, and this a copy: it is not for this log to say that the writer has ended.
    pub(crate) leaves_open: bool,
    pub(crate) end: JournalEnd,
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

/// The ledger's knowledge of a journal's writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The position up to which the writer had accepted entries, or more.
    pub(crate) accepted: u64,
    /// Nothing of the writer is left to settle.
    pub(crate) ended: bool,
}

impl Backlog {
    /// The names in the directory of journals, as paths. Each may be a journal.
    pub(crate) fn candidates(home: &JournalHome) -> io::Result<Vec<PathBuf>> {
        let names = home.open()?.names()?;
        Ok(names.into_iter().map(|name| home.directory.join(name)).collect())
    }

    /// Adopts the journal of this name, if its owner is dead and it is for this log's database and ledger.
    ///
    /// # Errors
    /// An error also if a file that has the name of a journal, or lies in one, is not to be believed: see
    /// [`Directory`].
    ///
    /// Gives back the room that the owner had allocated and not used.
    pub(crate) fn adopt(
        home: &JournalHome,
        own: Uuid,
        path: &Path,
        is_also: IsAlso<'_>,
    ) -> io::Result<Found> {
        let Some(name) = path.file_name() else { return Ok(Found::Nothing) };
        let queue = home.open()?;
        if is_unborn(name) {
            return discard_unborn(&queue, name).map(|()| Found::Nothing);
        }
        // Leave alone whatever is not named like a journal, and a file: it is not ours.
        let journal = uuid_of(name).filter(|journal| *journal != own);
        let Some(journal) = journal else { return Ok(Found::Nothing) };
        if queue.kind(name)? == Kind::File {
            return Ok(Found::Nothing);
        }
        let directory = queue.directory(name)?;
        // An error is found again once the journal is locked, if its owner is dead.
        if let Ok(Some(stranger)) = stranger_of(home, journal, &directory, is_also) {
            let is_dead = is_unlocked(&directory)?;
            return Ok(if is_dead { Found::Stranger(stranger) } else { Found::Nothing });
        }
        let lock = match lock_of(&queue, &directory)? {
            Lock::Taken(lock) => lock,
            Lock::OfAdopter => return Ok(Found::Adopted),
            Lock::OfOwner => return Ok(Found::Nothing),
        };
        // If it cannot be marked, others take the owner for alive, and do not wait for what this log settles.
        drop(mark_adopted(&directory));
        let (segments, defaults) = match segments_of(home, journal, &directory, is_also)? {
            Whose::Ours(segments, defaults) => (segments, defaults),
            Whose::Strange(stranger) => return Ok(Found::Stranger(stranger)),
        };
        let mut backlog = Self {
            journal,
            writer: journal,
            begin: 0,
            is_placed: false,
            leaves_open: false,
            end: JournalEnd::default(),
            refused_at: None,
            home: home.clone(),
            directory,
            _lock: lock,
            segments,
            open: None,
            defaults: Arc::new(defaults),
            scratch: Vec::new(),
            attempts: Attempts::new(UNREADABLE_TRIES),
            mark: (u64::MAX, 0, 0),
        };
        backlog.trim()?;
        if home.durability != Durability::ProcessCrash {
            // Sync the records that the owner had not synced: nobody else will.
            for segment in &backlog.segments {
                segment.open(&backlog.directory, &mut backlog.open)?.sync_data()?;
            }
        }
        Ok(Found::Dead(Box::new(backlog)))
    }

    /// Finds the end, and gives back the room that the owner had allocated and not used.
    fn trim(&mut self) -> io::Result<()> {
        for unused in [SPARE, REWRITTEN] {
            self.directory.remove_if_there(unused)?;
        }
        // The others are full.
        let Some(last) = self.segments.last_mut() else { return Ok(()) };
        let file = self.directory.file(&last.path, true)?;
        let (mut offset, mut until, mut is_whole) = (last.seed.start, last.first, true);
        loop {
            let extent = (offset, last.size);
            let scan = scan_segment(&file, last.seed, extent, until, UNLIMITED, &mut self.scratch);
            // A record that the disk cannot read is found again when it is to be committed.
            let Some(scan) = unless_unreadable(scan)? else {
                self.end = JournalEnd { position: until, is_sure: false };
                return Ok(());
            };
            is_whole &= scan.skipped == 0 && !scan.gave_up;
            (offset, until) = (scan.next, scan.until);
            if scan.block.ends.is_empty() || scan.gave_up {
                break;
            }
        }
        let mut tail = [0; RECORD_HEADER_BYTES];
        read_up_to(&file, &mut tail, offset)?;
        let is_sure = tail == [0; RECORD_HEADER_BYTES];
        self.end = JournalEnd { position: until, is_sure };
        let end = offset + RECORD_HEADER_BYTES;
        // Damaged bytes may be evidence.
        if is_sure && is_whole && last.size > end + ROOM_LEAST {
            file.set_len(end as u64)?;
            last.size = end;
        }
        Ok(())
    }

    /// The `id` of the entry at this position, or of the last one if there are fewer. If the ledger has not got it, though it
    /// has reached this position, another process has used the writer's positions: the journal, or the machine, was copied.
    /// `None`: nothing to be found there, or no entry.
    pub(crate) fn entry_at(&mut self, position: u64) -> io::Result<Option<Uuid>> {
        let Some(before) = position.min(self.end.position).checked_sub(1) else { return Ok(None) };
        let Some(segment) = self.segments.iter().rfind(|segment| segment.first <= before) else {
            return Ok(None);
        };
        let file = segment.open(&self.directory, &mut self.open)?;
        let extent = (segment.seed.start, segment.size);
        let scan = scan_segment(&*file, segment.seed, extent, before, (1, usize::MAX), &mut self.scratch);
        let scan = unless_unreadable(scan)?.filter(|scan| scan.skipped == 0 && !scan.block.ends.is_empty());
        let row = scan.and_then(|scan| interpret(scan.block.record(0), &self.defaults).ok());
        Ok(row.map(|row| row.id))
    }

    /// Another process has used the positions of the writer: all that is here is read again, for this one.
    pub(crate) fn displaced(&mut self, writer: Uuid) {
        (self.writer, self.is_placed, self.mark) = (writer, false, (u64::MAX, 0, 0));
        self.begin = self.segments.first().map_or(0, |segment| segment.first);
    }

    /// Does the same as [`read`](Self::read). If a disk cannot read something, it may be able to a moment later.
    pub(crate) fn read_patiently(
        &mut self,
        from: u64,
        known: Option<Known>,
        bounds: (usize, usize),
    ) -> io::Result<Records> {
        for _ in 0..UNREADABLE_TRIES {
            match self.read(from, known, bounds) {
                Err(cause) if is_unreadable(&cause) => std::thread::sleep(UNREADABLE_PAUSE),
                read => return read,
            }
        }
        self.read(from, known, bounds)
    }

    /// Returns the records from position `from` on, which is the position that the database has reached. After the last
    /// one follows a record that reports what the dead log had rejected, if no other does. If no record is returned and
    /// none is skipped, the end is reached. `known` is the ledger's knowledge of the journal's writer. Skipped records
    /// are damaged, or missing: either no segment holds them, or the database lacks them because it was restored from a
    /// backup.
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

    /// Reports entries that follow this position, the last, and that the dead log had accepted. False: there are none.
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

    /// Adds a record about what the dead log had rejected, if no entry up to this position, the last, reports it.
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
        // The file must be on stable storage before the entry is: the rejections must not be reported twice.
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
