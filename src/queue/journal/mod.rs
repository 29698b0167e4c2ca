//! The queue on disk: what was accepted survives the process.
//!
//! A log's journal is a directory of its own, named after the UUID by which the database knows it, below the one
//! that the builder is given. It holds `lock`, which its process locks for as long as it lives, and segments,
//! each named after the position before its first record: see [`segment`] for their bytes. Records are appended
//! to the last segment by positioned writes; once the write has returned, the record is in the kernel's hands
//! and survives whatever happens to the process. It does not survive the machine's loss of power.
//!
//! The database is the authority on what is committed: the transaction that adds rows stores the position
//! that it has reached. A segment is removed when every record in it is below that. What a dead process left is
//! adopted by another that has the same database and ledger: see [`backlog`].

pub(crate) mod backlog;
mod file;
mod segment;

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use uuid::Uuid;

use self::{
    file::{allocate, read_up_to, write_all_at},
    segment::{HEADER_BYTES, Header, Seed, record_bytes},
};
use super::{Appended, Batch, Block, Counts, Outcome, Queue, Refused, gap::Gap};
use crate::{AuditError, error::Kind};

/// Large enough that a new one is rare, small enough that space comes back in small steps.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;

const LOCK: &str = "lock";

/// Where journals are, and whose.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// Most bytes that the segments of one journal may take.
    pub(crate) bytes_max: u64,
    /// What names the database.
    pub(crate) database: String,
    pub(crate) ledger: String,
}

impl Place {
    /// Keeps a damaged file's bytes under another name.
    fn keep(&self, file: &Path, journal: Uuid) -> io::Result<()> {
        let damaged = self.directory.join("damaged");
        fs::create_dir_all(&damaged)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match fs::hard_link(file, damaged.join(format!("{journal}-{name}"))) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(cause),
            _ => Ok(()),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct JournalQueue {
    journal: Uuid,
    place: Place,
    directory: PathBuf,
    /// Locked for as long as this process lives.
    _lock: File,
    segment_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the last is being written.
    segments: VecDeque<Segment>,
    /// Where the records after some positions begin: where reading left off.
    marks: BTreeMap<u64, Mark>,
    counts: Counts,
    wake_at: Option<u64>,
    gap: Option<Gap>,
    buffer: Vec<u8>,
}

/// The first record after a position.
#[derive(Clone, Copy, Debug)]
struct Mark {
    segment_first: u64,
    offset: usize,
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    path: PathBuf,
    seed: Seed,
    first: u64,
    /// Position after its last record.
    last: u64,
    /// Where the next record goes.
    end: usize,
    /// Where the file ends.
    size: usize,
    since: Instant,
}

fn failed(directory: &Path, cause: io::Error) -> AuditError {
    let message = format!(
        "the journal in {} cannot be used: it needs a directory that this process may read and write, with room",
        directory.display()
    );
    AuditError::new(Kind::Store, message).because(cause)
}

fn segment_name(first: u64) -> String {
    format!("{first:020}.segment")
}

impl JournalQueue {
    /// A new journal, which nobody else touches.
    pub(crate) fn create(place: Place, journal: Uuid) -> Result<Self, AuditError> {
        Self::with_segments_of(place, journal, SEGMENT_BYTES)
    }

    fn with_segments_of(place: Place, journal: Uuid, segment_bytes: usize) -> Result<Self, AuditError> {
        let directory = place.directory.join(journal.to_string());
        let open = || {
            // Named so that nobody adopts it before it is locked.
            let unborn = place.directory.join(format!("{journal}.new"));
            fs::create_dir_all(&unborn)?;
            let lock = File::create(unborn.join(LOCK))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::Error(cause)) => return Err(cause),
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
            }
            fs::rename(&unborn, &directory)?;
            Ok(lock)
        };
        let lock = open().map_err(|cause| failed(&place.directory, cause))?;
        let state = State {
            segments: VecDeque::new(),
            marks: BTreeMap::new(),
            counts: Counts::default(),
            wake_at: None,
            gap: None,
            buffer: Vec::new(),
        };
        let state = Mutex::new(state);
        let queue = Self { journal, place, directory, _lock: lock, segment_bytes, state };
        let first = queue.new_segment(0, 0).map_err(|cause| failed(&queue.directory, cause))?;
        queue.lock().segments.push_back(first);
        Ok(queue)
    }

    /// No code but our own runs under the lock, and none of it panics halfway: a poisoned state is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file with room for at least one record of this size, all of it allocated.
    fn new_segment(&self, first: u64, record: usize) -> io::Result<Segment> {
        let header = Header {
            journal: self.journal,
            first,
            database: self.place.database.clone(),
            ledger: self.place.ledger.clone(),
        };
        let header = header.encode().ok_or(io::ErrorKind::InvalidFilename)?;
        let size = self.segment_bytes.max(HEADER_BYTES + record);
        let path = self.directory.join(segment_name(first));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let written = allocate(&file, size).and_then(|()| write_all_at(&file, &header, 0));
        if let Err(cause) = written {
            fs::remove_file(&path)?;
            return Err(cause);
        }
        Ok(Segment {
            file: Arc::new(file),
            path,
            seed: Seed::of(self.journal, first),
            first,
            last: first,
            end: HEADER_BYTES,
            size,
            since: Instant::now(),
        })
    }

    /// Writes a record, in a new segment if need be.
    fn write(&self, state: &mut State, record: &[u8], bounded: bool) -> io::Result<Appended> {
        let bytes = record_bytes(record.len());
        let position = state.counts.appended + 1;
        let full = state.segments.back().is_none_or(|segment| segment.end + bytes > segment.size);
        if full {
            let taken: u64 = state.segments.iter().map(|segment| segment.size as u64).sum();
            let more = self.segment_bytes.max(HEADER_BYTES + bytes) as u64;
            if bounded && state.counts.pending() > 0 && taken + more > self.place.bytes_max {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            // One that is too small for its first record gives its name to one that is not.
            if let Some(empty) = state.segments.pop_back_if(|segment| segment.last == segment.first) {
                fs::remove_file(&empty.path)?;
            }
            state.segments.push_back(self.new_segment(position - 1, bytes)?);
        }
        let State { segments, buffer, counts, wake_at, .. } = state;
        let segment = segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        buffer.clear();
        segment.seed.encode(buffer, segment.end, position, record).ok_or(io::ErrorKind::FileTooLarge)?;
        write_all_at(&segment.file, buffer, segment.end as u64)?;
        if segment.last == segment.first {
            segment.since = Instant::now();
        }
        segment.end += bytes;
        segment.last = position;
        counts.appended = position;
        counts.bytes += bytes;
        let wake = wake_at.is_some_and(|at| counts.pending() >= at);
        if wake {
            *wake_at = None;
        }
        Ok(Appended { position, wake })
    }
}

/// Reads records of one segment from `offset` up to `end` on, of which the first is expected after `from`.
struct Reading {
    block: Block,
    /// Positions left out before the first record.
    skipped: u64,
    /// Position after the last record.
    until: u64,
    /// Where the next record begins.
    next: usize,
    /// There is one more, which is not the next in order: records between are damaged.
    broken: bool,
}

fn read_segment(
    file: &File,
    seed: Seed,
    (offset, end): (usize, usize),
    from: u64,
    (count, bytes): (usize, usize),
) -> io::Result<Reading> {
    let mut reading =
        Reading { block: Block::default(), skipped: 0, until: from, next: offset, broken: false };
    // As many bytes as the records may have, and their headers; more if that is not one record.
    let mut window = (bytes + count * 32).max(1 << 16).min(end.saturating_sub(offset));
    loop {
        let mut buffer = vec![0; window];
        let read = read_up_to(file, &mut buffer, offset)?;
        buffer.truncate(read);
        reading.parse(seed, &buffer, offset, from, (count, bytes));
        let all = offset + window >= end || read < window;
        if !reading.block.ends.is_empty() || all {
            return Ok(reading);
        }
        window = (window * 4).min(end - offset);
    }
}

impl Reading {
    fn parse(&mut self, seed: Seed, buffer: &[u8], offset: usize, from: u64, (count, bytes): (usize, usize)) {
        let mut at = 0;
        while self.block.ends.len() < count {
            let Some((_, found)) = seed.record_after(buffer, offset, at) else { return };
            let after = at + (found.next - at);
            if found.position <= from {
                at = after;
                self.next = offset + after;
                continue;
            }
            if found.position != self.until + 1 {
                if !self.block.ends.is_empty() {
                    // A batch is without holes: the next one begins after this one.
                    self.broken = true;
                    return;
                }
                self.skipped = found.position - 1 - self.until;
            }
            if !self.block.ends.is_empty() && self.block.bytes.len() + found.payload.len() > bytes {
                return;
            }
            self.block.bytes.extend_from_slice(found.payload);
            self.block.ends.push(self.block.bytes.len());
            self.until = found.position;
            at = after;
            self.next = offset + after;
        }
    }
}

impl Queue for JournalQueue {
    fn append(&self, record: &[u8]) -> Result<Appended, Refused> {
        let mut state = self.lock();
        if state.counts.closed {
            return Err(Refused::Closed);
        }
        let written = self.write(&mut state, record, true);
        // Whatever the reason, there is no room for it on disk.
        state.counts.trouble = written.as_ref().err().map(io::Error::kind);
        written.map_err(|_| Refused::Full)
    }

    fn reject(&self, why: Refused) {
        let mut state = self.lock();
        state.counts.rejected.count(why);
        Gap::widen(&mut state.gap, why);
    }

    fn tell_gap(&self) -> bool {
        let mut state = self.lock();
        let Some(gap) = state.gap.take() else { return false };
        if self.write(&mut state, &gap.record(), false).is_err() {
            // No room yet: told later, with what is rejected until then.
            state.gap = Some(gap);
            return false;
        }
        state.counts.gaps += 1;
        true
    }

    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut at = from;
        while batch.len < count {
            // Read without the lock: emitters go on meanwhile.
            let place = {
                let state = self.lock();
                let segment = state.segments.iter().find(|segment| segment.last > at);
                segment.map(|segment| {
                    let mark = state.marks.range(..=at).next_back().map(|(_, mark)| *mark);
                    let mark = mark.filter(|mark| mark.segment_first == segment.first);
                    let offset = mark.map_or(HEADER_BYTES, |mark| mark.offset);
                    let file = Arc::clone(&segment.file);
                    let path = segment.path.clone();
                    (file, path, segment.seed, (offset, segment.end), segment.first, segment.last)
                })
            };
            let Some((file, path, seed, extent, first, last)) = place else { break };
            let left = (count - batch.len, bytes.saturating_sub(batch.bytes()));
            if batch.len > 0 && left.1 == 0 {
                break;
            }
            let reading = read_segment(&file, seed, extent, at, left)?;
            if reading.block.ends.is_empty() || reading.skipped > 0 {
                self.place.keep(&path, self.journal)?;
            }
            if reading.block.ends.is_empty() {
                // Nothing more of this segment checks: what is left of it is damaged.
                if batch.len == 0 {
                    batch.skipped += last - at;
                    at = last;
                    continue;
                }
                break;
            }
            if reading.skipped > 0 && batch.len > 0 {
                break;
            }
            batch.skipped += reading.skipped;
            batch.push(reading.block);
            at = reading.until;
            let mark = Mark { segment_first: first, offset: reading.next };
            self.lock().marks.insert(at, mark);
            if reading.broken {
                break;
            }
        }
        Ok(batch)
    }

    fn ack(&self, upto: u64, outcome: Outcome) {
        let mut done = Vec::new();
        {
            let mut state = self.lock();
            state.counts.acknowledged = upto;
            state.counts.outcome.add(outcome);
            state.marks = state.marks.split_off(&upto);
            while state.segments.len() > 1
                && state.segments.front().is_some_and(|segment| segment.last <= upto)
            {
                done.extend(state.segments.pop_front());
            }
            let kept = state.segments.iter().map(|segment| segment.end - HEADER_BYTES).sum();
            state.counts.bytes = if state.counts.pending() == 0 { 0 } else { kept };
        }
        for segment in done {
            // The transaction that reached `upto` is durable. A file that stays is found again, and nothing in
            // it is above the position that the database knows.
            drop(fs::remove_file(&segment.path));
        }
    }

    fn recover(&self, outcome: Outcome) {
        self.lock().counts.recover(outcome);
    }

    fn wake_at(&self, pending: u64) -> Counts {
        let mut state = self.lock();
        state.wake_at = Some(pending);
        state.counts()
    }

    fn close(&self) {
        self.lock().counts.closed = true;
    }

    fn ended(&self) {
        let state = self.lock();
        if state.counts.pending() == 0 && state.gap.is_none() {
            // What cannot be removed is found by the next log, which sees that nothing in it is left to do.
            drop(fs::remove_dir_all(&self.directory));
        }
    }

    fn counts(&self) -> Counts {
        self.lock().counts()
    }
}

impl State {
    fn counts(&self) -> Counts {
        let oldest = self.segments.iter().find(|segment| segment.last > self.counts.acknowledged);
        Counts { oldest: oldest.map(|segment| segment.since), ..self.counts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{backlog::Backlog, *};

    fn place(directory: &Path) -> Place {
        Place {
            directory: directory.to_owned(),
            bytes_max: u64::MAX,
            database: "sqlite:test".to_owned(),
            ledger: "main".to_owned(),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Read {
            ahead: u64,
            count: usize,
            bytes: usize,
        },
        Ack {
            count: u64,
        },
        /// The process dies; another adopts what it left.
        Die,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => prop_oneof![20 => 1..60_usize, 1 => Just(500_usize)].prop_map(Step::Append),
            3 => (0..5_u64, 1..8_usize, 1..400_usize)
                .prop_map(|(ahead, count, bytes)| Step::Read { ahead, count, bytes }),
            3 => (1..12_u64).prop_map(|count| Step::Ack { count }),
            1 => Just(Step::Die),
        ]
    }

    /// Everything that is left after `from`, in bites.
    fn drain(mut backlog: Backlog, from: u64) -> Vec<Vec<u8>> {
        let (mut found, mut at) = (Vec::new(), from);
        loop {
            let batch = backlog.read(at, 3, 100).unwrap();
            assert_eq!(batch.skipped, 0);
            if batch.len() == 0 {
                backlog.finish().unwrap();
                return found;
            }
            at += batch.len() as u64;
            found.extend(batch.records().map(<[u8]>::to_vec));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn it_behaves_like_a_list_that_survives_its_process(steps in proptest::collection::vec(step(), 1..120)) {
            let directory = tempfile::tempdir().unwrap();
            let place = place(directory.path());
            // A few records a segment.
            let open = || JournalQueue::with_segments_of(place.clone(), Uuid::new_v4(), HEADER_BYTES + 200).unwrap();
            let mut queue = open();
            let (mut list, mut acked) = (Vec::<Vec<u8>>::new(), 0_u64);
            let left = |list: &[Vec<u8>], from: u64| list.get(usize::try_from(from).unwrap()..).unwrap().to_vec();
            for (number, step) in steps.into_iter().chain([Step::Die]).enumerate() {
                match step {
                    Step::Append(size) => {
                        let record = vec![u8::try_from(number % 251).unwrap(); size];
                        prop_assert_eq!(queue.append(&record).unwrap().position, list.len() as u64 + 1);
                        list.push(record);
                    }
                    Step::Read { ahead, count, bytes } => {
                        let from = (acked + ahead).min(list.len() as u64);
                        let batch = queue.read(from, count, bytes).unwrap();
                        let records: Vec<Vec<u8>> = batch.records().map(<[u8]>::to_vec).collect();
                        let there = left(&list, from);
                        prop_assert_eq!((batch.skipped, batch.len()), (0, records.len()));
                        prop_assert!(records.len() <= count && there.starts_with(&records));
                        prop_assert!(!records.is_empty() || there.is_empty());
                    }
                    Step::Ack { count } => {
                        acked = (acked + count).min(list.len() as u64);
                        queue.ack(acked, Outcome::default());
                        prop_assert_eq!(queue.counts().pending(), list.len() as u64 - acked);
                    }
                    Step::Die => {
                        let own = Uuid::new_v4();
                        prop_assert_eq!(Backlog::adopt_all(&place, own).0.len(), 0);
                        drop(queue);
                        let (adopted, failed) = Backlog::adopt_all(&place, own);
                        prop_assert!(failed.is_none());
                        prop_assert_eq!(adopted.len(), 1);
                        for backlog in adopted {
                            prop_assert_eq!(drain(backlog, acked), left(&list, acked));
                        }
                        (queue, list, acked) = (open(), Vec::new(), 0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_journal_takes_no_more_than_its_bound_and_gives_back_what_is_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { bytes_max: 20_000, ..place(directory.path()) };
        let queue = JournalQueue::with_segments_of(place, Uuid::new_v4(), 5000).unwrap();
        let mut accepted = 0;
        while queue.append(&[1; 100]).is_ok() {
            accepted += 1;
        }
        let taken = || -> u64 {
            let files = fs::read_dir(&queue.directory).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
        };
        assert!((15_000..=20_000).contains(&taken()), "{}", taken());
        assert_eq!(queue.counts().trouble, Some(io::ErrorKind::QuotaExceeded));
        queue.ack(accepted, Outcome::default());
        assert!(taken() <= 5000, "{}", taken());
        queue.append(&[1; 100]).unwrap();
        assert_eq!(queue.append(&[2; 10_000]).unwrap_err(), Refused::Full);
        queue.ack(accepted + 1, Outcome::default());
        // A record larger than a segment, and than the whole bound, passes when nothing waits.
        queue.append(&vec![2; 100_000]).unwrap();
        assert_eq!(
            queue.read(accepted + 1, 10, 10).unwrap().records().map(<[u8]>::len).collect::<Vec<_>>(),
            [100_000]
        );
        queue.close();
        assert_eq!(queue.append(&[1]).unwrap_err(), Refused::Closed);
    }
}
