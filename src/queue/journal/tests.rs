//! Tests of the journal: against a plain list, against power loss and changed bytes, and of its bounds.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    backlog::{Backlog, Found},
    directory::{DAMAGED, JournalHome, LOCK, SPARE, segment_name},
    format::{HEADER_BYTES, Header, record_bytes},
    journal_queue::JournalQueue,
    scan::{SUMMED, every_record},
};
use crate::entry::{EventDefaults, interpret};
use crate::platform::write_all_at;
use crate::queue::{Durability, Outcome, Queue, Refused};

/// Adopts every journal of this home whose owner is dead, and returns the error of one that cannot be read.
fn adopt_all(home: &JournalHome, own: Uuid) -> (Vec<Backlog>, Option<io::Error>) {
    let (mut adopted, mut failed) = (Vec::new(), None);
    for directory in Backlog::candidates(home).unwrap() {
        match adopt(home, own, &directory) {
            Ok(backlog) => adopted.extend(backlog),
            Err(cause) => failed = Some(cause),
        }
    }
    (adopted, failed)
}

fn adopt(home: &JournalHome, own: Uuid, directory: &Path) -> io::Result<Option<Backlog>> {
    Ok(match Backlog::adopt(home, own, directory, &|_| Some(false))? {
        Found::Dead(backlog) => Some(*backlog),
        Found::Nothing | Found::Adopted | Found::Stranger(_) => None,
    })
}

fn create(home: JournalHome, writer: Uuid, segment_bytes: usize, start: u64) -> JournalQueue {
    JournalQueue::with_segments(home, writer, segment_bytes, start).unwrap()
}

fn home(directory: &Path) -> JournalHome {
    JournalHome {
        directory: directory.to_owned(),
        bytes_max: u64::MAX,
        durability: Durability::ProcessCrash,
        access: crate::platform::Access::Owner,
        beside: None,
        database: "sqlite:test".to_owned(),
        ledger: "main".to_owned(),
        defaults: EventDefaults::default(),
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
    /// The background work that is due. Every record appended before is on stable storage after it.
    Upkeep,
    /// The state after a sync that failed: a segment is suspect.
    Distrust(prop::sample::Index),
    /// The end of the journal's process. Another process adopts its records.
    End(End),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    /// Bytes that were not synced are there, gone, or something else, sector by sector and file by file.
    PowerLost(u64),
    /// The process is killed, and a bit of a record changes.
    Flipped(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        Just(End::Killed),
        any::<u64>().prop_map(End::PowerLost),
        any::<u64>().prop_map(End::Flipped)
    ];
    prop_oneof![
        16 => prop_oneof![20 => 1..60_usize, 1 => Just(500_usize)].prop_map(Step::Append),
        6 => (0..5_u64, 1..8_usize, 1..400_usize)
            .prop_map(|(ahead, count, bytes)| Step::Read { ahead, count, bytes }),
        6 => (1..12_u64).prop_map(|count| Step::Ack { count }),
        3 => Just(Step::Upkeep),
        1 => any::<prop::sample::Index>().prop_map(Step::Distrust),
        2 => end.prop_map(Step::End),
    ]
}

/// A journal, and the list of records that it should hold.
struct Model {
    home: JournalHome,
    start: u64,
    queue: JournalQueue,
    list: Vec<Vec<u8>>,
    acked: u64,
    /// Number of records of the list that are on stable storage.
    synced: u64,
    /// The offset up to which each file is on stable storage.
    files: BTreeMap<PathBuf, usize>,
}

impl Model {
    fn new(home: JournalHome, start: u64) -> Self {
        let queue = Self::open(&home, start);
        Self { home, start, queue, list: Vec::new(), acked: 0, synced: 0, files: BTreeMap::new() }
    }

    /// Makes a journal with a few records in each segment.
    fn open(home: &JournalHome, start: u64) -> JournalQueue {
        create(home.clone(), Uuid::new_v4(), HEADER_BYTES + 200, start)
    }

    fn from(&self, from: u64) -> &[Vec<u8>] {
        self.list.get(usize::try_from(from).unwrap()..).unwrap()
    }

    fn step(&mut self, number: usize, step: &Step) {
        match *step {
            Step::Append(size) => {
                let record = vec![u8::try_from(number % 251).unwrap(); size];
                let position = self.queue.offer(&record).unwrap().position;
                assert_eq!(position, self.start + self.list.len() as u64 + 1);
                self.list.push(record);
            }
            Step::Read { ahead, count, bytes } => {
                let from = (self.acked + ahead).min(self.list.len() as u64);
                let batch = self.queue.read(self.start + from, count, bytes).unwrap();
                let records: Vec<Vec<u8>> = batch.records().map(<[u8]>::to_vec).collect();
                let there = self.from(from);
                assert_eq!((batch.skipped, batch.len()), (0, records.len()));
                assert!(records.len() <= count && there.starts_with(&records));
                assert!(!records.is_empty() || there.is_empty());
            }
            Step::Ack { count } => {
                self.acked = (self.acked + count).min(self.list.len() as u64);
                self.queue.ack(self.start + self.acked, Outcome::default());
                assert_eq!(self.queue.counts().pending(), self.list.len() as u64 - self.acked);
            }
            Step::Upkeep => {
                // A second time, because rewriting a segment makes another one, which has to be synced.
                self.queue.upkeep().unwrap();
                self.queue.upkeep().unwrap();
                assert!(self.queue.upkeep_due().is_none());
                self.synced = self.list.len() as u64;
                let state = self.queue.0.lock();
                self.files =
                    state.segments.iter().map(|segment| (segment.path.clone(), segment.end)).collect();
            }
            Step::Distrust(index) => {
                {
                    let mut state = self.queue.0.lock();
                    let index = index.index(state.segments.len());
                    let segment = state.segments.get_mut(index).unwrap();
                    (segment.suspect, segment.synced) = (true, None);
                    state.unsynced = Some(Instant::now());
                }
                self.step(number, &Step::Upkeep);
            }
            Step::End(end) => self.end(end),
        }
    }

    fn end(&mut self, end: End) {
        let own = Uuid::new_v4();
        assert_eq!(adopt_all(&self.home, own).0.len(), 0);
        let next = Self::open(&self.home, self.start);
        let old = std::mem::replace(&mut self.queue, next);
        let (directory, other) = (old.0.directory.clone(), self.queue.0.writer);
        drop(old);
        match end {
            End::Killed => {}
            End::PowerLost(seed) => lose_power(&directory, &self.files, seed),
            End::Flipped(seed) => flip(&directory, seed),
        }
        let (adopted, failed) = adopt_all(&self.home, other);
        assert!(failed.is_none() || matches!(end, End::PowerLost(_)), "{failed:?}");
        let found: Vec<(u64, Vec<u8>)> = adopted
            .into_iter()
            .flat_map(|backlog| drain(backlog, self.start + self.acked))
            .map(|(position, record)| (position - self.start, record))
            .collect();
        // Every record found is the one that was appended at its position; they are in order and each exists once.
        for (position, record) in &found {
            assert_eq!(Some(record), self.list.get(usize::try_from(*position).unwrap() - 1));
        }
        assert!(found.is_sorted_by_key(|(position, _)| *position));
        let positions: Vec<u64> = found.iter().map(|(position, _)| *position).collect();
        let all: Vec<u64> = (self.acked + 1..=self.list.len() as u64).collect();
        match end {
            End::Killed => assert_eq!(positions, all),
            End::PowerLost(_) => {
                let must: Vec<u64> = (self.acked + 1..=self.synced).collect();
                assert!(positions.starts_with(&must), "{must:?} {positions:?}");
            }
            End::Flipped(_) => assert!(positions.len() + 1 >= all.len(), "{positions:?} of {all:?}"),
        }
        fs::remove_dir_all(&directory).unwrap_or_default();
        (self.list, self.acked, self.synced) = (Vec::new(), 0, 0);
        self.files.clear();
    }
}

/// Reads every record that is left after `from` in small batches. Returns each with the position after it.
fn drain(mut backlog: Backlog, from: u64) -> Vec<(u64, Vec<u8>)> {
    let (mut found, mut at) = (Vec::new(), from);
    loop {
        let batch = backlog.read(at, None, (3, 100)).unwrap();
        at += batch.skipped;
        for record in batch.records() {
            at += 1;
            found.push((at, record.to_vec()));
        }
        if batch.len() == 0 && batch.skipped == 0 {
            backlog.finish().unwrap();
            return found;
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).unwrap().map(|found| found.unwrap().path());
    let is_of_segments = |name: &std::ffi::OsStr| name != LOCK && name != "rejected";
    let mut files: Vec<PathBuf> = found.filter(|path| is_of_segments(path.file_name().unwrap())).collect();
    files.sort();
    files
}

/// Changes the files to what a disk may hold after its power was cut. In a file that was synced, everything up to that
/// offset stays. Each sector after it is as it was written, empty, or something else. A name that was not synced may be
/// missing or another one.
fn lose_power(directory: &Path, synced: &BTreeMap<PathBuf, usize>, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    for file in files(directory) {
        let from = synced.get(&file).copied();
        match (from, chance.u8(0..4)) {
            (None, 0) => {
                fs::remove_file(&file).unwrap();
                continue;
            }
            (None, 1) => {
                fs::rename(&file, directory.join(SPARE)).unwrap();
                continue;
            }
            _ => {}
        }
        let mut bytes = fs::read(&file).unwrap();
        let mut at = from.unwrap_or(0);
        while at < bytes.len() {
            let end = (at + 1).next_multiple_of(64).min(bytes.len());
            match chance.u8(0..4) {
                0 => bytes[at..end].fill(0),
                1 => chance.fill(&mut bytes[at..end]),
                _ => {}
            }
            at = end;
        }
        if from.is_none() && chance.bool() {
            bytes.truncate(chance.usize(0..bytes.len()));
        }
        fs::write(&file, bytes).unwrap();
    }
}

/// Changes one bit after the header of one segment.
fn flip(directory: &Path, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let files = files(directory);
    let file = &files[chance.usize(0..files.len())];
    let mut bytes = fs::read(file).unwrap();
    let at = chance.usize(HEADER_BYTES..bytes.len());
    bytes[at] ^= 1 << chance.u8(0..8);
    fs::write(file, bytes).unwrap();
}

/// A segment of each version.
const GOLDEN: [&[u8]; 2] = [
    include_bytes!("../../../tests/data/journal-1.segment"),
    include_bytes!("../../../tests/data/journal-2.segment"),
];

#[test]
fn a_golden_segment_with_any_byte_changed_loses_one_record_at_most_or_is_left_alone() {
    for whole in GOLDEN {
        assert_one_byte_costs_one_record_at_most(whole);
    }
}

fn assert_one_byte_costs_one_record_at_most(whole: &[u8]) {
    let header = Header::decode(whole).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let home = JournalHome { database: header.database, ledger: header.ledger, ..home(directory.path()) };
    let journal = directory.path().join(header.writer.to_string());
    fs::create_dir_all(&journal).unwrap();
    fs::write(journal.join(LOCK), "").unwrap();
    let segment = journal.join(segment_name(header.first));
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&segment, &bytes).unwrap();
        let (adopted, failed) = adopt_all(&home, Uuid::new_v4());
        if at < HEADER_BYTES {
            // The header no longer says which database the segment is for, or it claims a newer version.
            assert!(adopted.is_empty() && (failed.is_some() || (8..12).contains(&at)), "{at}");
            assert_eq!(fs::read(&segment).unwrap(), bytes);
            continue;
        }
        let mut backlog = adopted.into_iter().next().unwrap();
        let (mut found, mut position) = (0, header.first);
        loop {
            let batch = backlog.read(position, None, (10, 10_000)).unwrap();
            position += batch.skipped + batch.len() as u64;
            found += batch.len();
            if batch.len() == 0 {
                break;
            }
        }
        assert!((2..=3).contains(&found), "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_like_a_list_that_survives_its_process_and_once_synced_its_machine(
        steps in proptest::collection::vec(step(), 1..160),
        start in prop_oneof![Just(0), Just(u64::from(u32::MAX) - 50), Just(u64::MAX - 200)],
    ) {
        let directory = tempfile::tempdir().unwrap();
        let within = Duration::from_hours(1);
        let home = JournalHome { durability: Durability::PowerLoss { within }, ..home(directory.path()) };
        let mut model = Model::new(home, start);
        for (number, step) in steps.into_iter().chain([Step::End(End::Killed)]).enumerate() {
            model.step(number, &step);
        }
    }
}

#[test]
fn the_age_and_the_bytes_are_those_of_the_pending_records() {
    let directory = tempfile::tempdir().unwrap();
    let queue = create(home(directory.path()), Uuid::new_v4(), 100_000, 0);
    let append = |count: usize| (0..count).for_each(|_| assert!(queue.offer(&[1; 84]).is_ok()));
    let begun = Instant::now();
    append(10);
    // Read to the end; more records arrive before the commit.
    assert_eq!(queue.read(0, 100, 100_000).unwrap().len(), 10);
    let read = Instant::now();
    append(5);
    queue.ack(10, Outcome::default());
    let counts = queue.counts();
    assert!(counts.oldest.is_some_and(|oldest| oldest >= begun && oldest <= read));
    assert_eq!(counts.bytes, 5 * record_bytes(84));
    queue.read(10, 100, 100_000).unwrap();
    queue.ack(15, Outcome::default());
    assert_eq!((queue.counts().oldest, queue.counts().bytes), (None, 0));
    let before = Instant::now();
    append(1);
    assert!(queue.counts().oldest.is_some_and(|oldest| oldest >= before));
}

#[test]
fn bytes_kept_as_evidence_are_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let queue = create(home(directory.path()), Uuid::new_v4(), 5000, 0);
    (0..20).for_each(|_| assert!(queue.offer(&[1; 100]).is_ok()));
    let first = queue.0.lock().segments[0].path.clone();
    let mut bytes = fs::read(&first).unwrap();
    bytes[HEADER_BYTES + 20] ^= 1;
    // Write in place: the queue has the file open.
    write_all_at(&File::options().write(true).open(&first).unwrap(), &bytes, 0).unwrap();
    assert_eq!(queue.read(0, 5, 5000).unwrap().skipped, 1);
    queue.ack(20, Outcome::default());
    (0..40).for_each(|_| assert!(queue.offer(&[2; 100]).is_ok()));
    let kept: Vec<_> = fs::read_dir(directory.path().join(DAMAGED)).unwrap().collect();
    assert_eq!(fs::read(kept[0].as_ref().unwrap().path()).unwrap(), bytes);
}

#[test]
fn the_last_position_is_reached_without_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let queue = create(home(directory.path()), Uuid::new_v4(), 5000, u64::MAX - 2);
    queue.offer(&[1]).unwrap();
    assert_eq!(queue.offer(&[2]).unwrap().position, u64::MAX);
    assert_eq!(queue.offer(&[3]).unwrap_err(), Refused::Full);
    let batch = queue.read(u64::MAX - 2, 10, 1000).unwrap();
    assert_eq!(batch.records().map(<[u8]>::to_vec).collect::<Vec<_>>(), [[1], [2]]);
    queue.ack(u64::MAX, Outcome::default());
    assert_eq!(queue.counts().pending(), 0);
}

#[test]
fn a_golden_segment_cut_anywhere_gives_its_whole_records() {
    for whole in GOLDEN {
        assert_its_whole_records_are_read_wherever_it_is_cut(whole);
    }
}

fn assert_its_whole_records_are_read_wherever_it_is_cut(whole: &[u8]) {
    let header = Header::decode(whole).unwrap();
    let records = every_record(header.seed(header.first), whole, 0, HEADER_BYTES);
    let ends: Vec<usize> =
        std::iter::once(HEADER_BYTES).chain(records.into_iter().map(|(_, _, end)| end)).collect();
    assert_eq!(ends.len(), 4);
    let directory = tempfile::tempdir().unwrap();
    let home = JournalHome { database: header.database, ledger: header.ledger, ..home(directory.path()) };
    for end in 0..=whole.len() {
        let journal = directory.path().join(header.writer.to_string());
        fs::create_dir_all(&journal).unwrap();
        fs::write(journal.join(LOCK), "").unwrap();
        fs::write(journal.join(segment_name(header.first)), &whole[..end]).unwrap();
        let (adopted, failed) = adopt_all(&home, Uuid::new_v4());
        assert!(failed.is_none(), "{end}: {failed:?}");
        let found: Vec<_> = adopted.into_iter().flat_map(|backlog| drain(backlog, header.first)).collect();
        // The last record can be whole although its padding is cut.
        let last = ends.iter().skip(1).filter(|next| end + 7 >= **next).count();
        let sure = ends.iter().skip(1).filter(|next| end >= **next).count();
        assert!((sure..=last).contains(&found.len()), "{end}");
    }
}

#[test]
fn a_journal_keeps_to_its_bound_and_returns_acknowledged_space() {
    let directory = tempfile::tempdir().unwrap();
    let home = JournalHome { bytes_max: 20_000, ..home(directory.path()) };
    let queue = create(home, Uuid::new_v4(), 5000, 0);
    let mut accepted = 0;
    while queue.offer(&[1; 100]).is_ok() {
        accepted += 1;
    }
    let taken = || -> u64 {
        let files = fs::read_dir(&queue.0.directory).unwrap().map(|file| file.unwrap());
        files
            .filter(|file| file.file_name() != LOCK && file.file_name() != "rejected")
            .map(|file| file.metadata().unwrap().len())
            .sum()
    };
    assert!((15_000..=20_000).contains(&taken()), "{}", taken());
    assert_eq!(queue.counts().trouble, Some(io::ErrorKind::QuotaExceeded));
    queue.ack(accepted, Outcome::default());
    // The segment that is being written, and the spare.
    assert!(taken() <= 10_000, "{}", taken());
    queue.offer(&[1; 100]).unwrap();
    assert_eq!(queue.offer(&[2; 10_000]).unwrap_err(), Refused::Full);
    queue.ack(accepted + 1, Outcome::default());
    // A record larger than a segment, and larger than the whole bound, is accepted when nothing is pending.
    queue.offer(&vec![2; 100_000]).unwrap();
    assert_eq!(
        queue.read(accepted + 1, 10, 10).unwrap().records().map(<[u8]>::len).collect::<Vec<_>>(),
        [100_000]
    );
    queue.close();
    assert_eq!(queue.offer(&[1]).unwrap_err(), Refused::Closed);
}

#[test]
fn records_accepted_during_a_close_are_counted_before_it_returns() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let queue = create(home(directory.path()), Uuid::new_v4(), 5000, 0);
        let emit = || {
            let mut accepted = 0;
            loop {
                match queue.offer(&[1; 100]) {
                    Ok(_) => accepted += 1,
                    Err(refused) => {
                        assert_eq!(refused, Refused::Closed);
                        return accepted;
                    }
                }
            }
        };
        let (closed_at, accepted) = std::thread::scope(|scope| {
            let emitters: Vec<_> = (0..3).map(|_| scope.spawn(emit)).collect();
            while queue.counts().appended < 50 {
                std::thread::yield_now();
            }
            queue.close();
            let closed_at = queue.counts().appended;
            (closed_at, emitters.into_iter().map(|emitter| emitter.join().unwrap()).sum::<u64>())
        });
        assert_eq!(closed_at, accepted);
        assert_eq!(queue.read(0, usize::MAX, usize::MAX).unwrap().len() as u64, accepted);
    }
}

#[test]
fn many_dead_journals_give_their_room_back_when_they_are_first_seen() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let dead: Vec<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
    for (number, writer) in dead.iter().enumerate() {
        let queue = JournalQueue::create(home.clone(), *writer).unwrap();
        for _ in 0..3 {
            queue.offer(&[u8::try_from(number).unwrap(); 100]).unwrap();
        }
        // The file exists as if the next segment had been prepared.
        fs::write(queue.0.directory.join(SPARE), vec![0; 1 << 20]).unwrap();
    }
    for path in Backlog::candidates(&home).unwrap() {
        let backlog = adopt(&home, Uuid::nil(), &path).unwrap().unwrap();
        assert_eq!((backlog.end.position, backlog.end.is_sure), (3, true));
        // A process that looks while it is adopted knows that its owner is dead.
        let beside = Backlog::adopt(&home, Uuid::nil(), &path, &|_| Some(false)).unwrap();
        assert!(matches!(beside, Found::Adopted), "{beside:?}");
    }
    let files =
        dead.iter().flat_map(|writer| fs::read_dir(directory.path().join(writer.to_string())).unwrap());
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 20 * 10_000, "{bytes}");
    for path in Backlog::candidates(&home).unwrap() {
        let mut backlog = adopt(&home, Uuid::nil(), &path).unwrap().unwrap();
        let records = backlog.read(0, None, (100, usize::MAX)).unwrap();
        assert_eq!((records.len(), records.skipped), (3, 0));
        assert_eq!(backlog.read(3, None, (100, usize::MAX)).unwrap().len(), 0);
        backlog.finish().unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_dead_journal_with_damage_keeps_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let queue = create(home.clone(), Uuid::new_v4(), 1 << 20, 0);
    for _ in 0..4 {
        queue.offer(&[7; 100]).unwrap();
    }
    let segment = queue.0.directory.join(segment_name(0));
    let end = queue.0.lock().segments[0].end;
    drop(queue);
    let file = File::options().write(true).open(&segment).unwrap();
    write_all_at(&file, &[9; 40], (end - 150) as u64).unwrap();
    let (adopted, failed) = adopt_all(&home, Uuid::nil());
    assert!(failed.is_none() && adopted.len() == 1, "{failed:?}");
    assert_eq!(fs::metadata(&segment).unwrap().len(), 1 << 20);
}

#[test]
fn a_journal_that_cannot_be_begun_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Uuid::new_v4();
    let place = directory.path().join(writer.to_string());
    fs::create_dir(&place).unwrap();
    fs::write(place.join("taken"), "").unwrap();
    let names = || fs::read_dir(directory.path()).unwrap().count();
    // Its place is taken, by a directory that is not empty; and it cannot hold its first segment.
    for segment_bytes in [5000, usize::MAX / 4] {
        assert!(JournalQueue::with_segments(home(directory.path()), writer, segment_bytes, 0).is_err());
        assert_eq!((names(), fs::read_dir(&place).map_or(0, Iterator::count)), (1, 1));
    }
    assert!(JournalQueue::with_segments(home(directory.path()), Uuid::new_v4(), usize::MAX / 4, 0).is_err());
    assert_eq!(names(), 1);
}

/// Eight bytes that look like the length of a record and a position in its segment, again and again.
fn hostile(bytes: usize) -> Vec<u8> {
    [0x7f, 0x7f, 0x0f, 0, 0, 0, 0, 0].into_iter().cycle().take(bytes).collect()
}

#[test]
fn a_recycled_segment_is_read_in_linear_time_whatever_its_old_records_hold() {
    let directory = tempfile::tempdir().unwrap();
    let queue = create(home(directory.path()), Uuid::new_v4(), 4 << 20, 0);
    for position in 1..=300 {
        queue.offer(&hostile(60_000)).unwrap();
        queue.ack(position, Outcome::default());
    }
    queue.offer(&hostile(60_000)).unwrap();
    let size: usize = queue.0.lock().segments.iter().map(|segment| segment.size).sum();
    let last = queue.0.lock().segments.back().unwrap().path.clone();
    drop(queue);
    let tail = fs::read(last).unwrap();
    let old = tail.windows(8).filter(|window| *window == &hostile(8)[..]).count();
    assert!(old > 100_000, "the last segment has old bytes");
    let before = SUMMED.get();
    let (adopted, failed) = adopt_all(&home(directory.path()), Uuid::new_v4());
    assert!(failed.is_none(), "{failed:?}");
    let found: Vec<_> = adopted.into_iter().flat_map(|backlog| drain(backlog, 300)).collect();
    assert_eq!(found, [(301, hostile(60_000))]);
    let summed = SUMMED.get() - before;
    assert!(summed <= size, "{summed} bytes summed of {size}");
}

#[test]
fn defaults_longer_than_a_page_are_kept_and_those_that_no_header_holds_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let with = |bytes: usize| {
        let metadata = serde_json::json!({"note": "x".repeat(bytes)}).as_object().cloned().unwrap();
        let defaults = EventDefaults { metadata, ..EventDefaults::default() };
        JournalHome { defaults, ..home(directory.path()) }
    };
    let writer = Uuid::new_v4();
    let queue = create(with(10_000), writer, 30_000, 0);
    (0..100).for_each(|_| assert!(queue.offer(&[1; 1000]).is_ok()));
    // The first header is damaged: the others give the secret and the length.
    let first = queue.0.lock().segments[0].path.clone();
    drop(queue);
    let mut bytes = fs::read(&first).unwrap();
    bytes[40] ^= 1;
    fs::write(&first, bytes).unwrap();
    let (mut adopted, failed) = adopt_all(&home(directory.path()), Uuid::new_v4());
    assert!(failed.is_none(), "{failed:?}");
    let records = adopted[0].read(0, None, (10, 100_000)).unwrap();
    assert_eq!(records.defaults.as_deref(), Some(&with(10_000).defaults));
    assert_eq!((records.skipped, drain(adopted.remove(0), 0).len()), (0, 100));
    let refused = JournalQueue::with_segments(with(1 << 20), writer, 30_000, 0).unwrap_err();
    assert!(refused.is_config() && refused.to_string().contains("static_field"), "{refused}");
}

/// Adopts the one journal there is, and reads it to its end, from this position. Returns how many rejections its
/// records report, and the position after the last.
fn told(home: &JournalHome, from: u64) -> (u64, u64) {
    let (adopted, failed) = adopt_all(home, Uuid::new_v4());
    assert!(failed.is_none(), "{failed:?}");
    let mut backlog = adopted.into_iter().next().unwrap();
    let (mut told, mut at) = (0, from);
    loop {
        let records = backlog.read(at, None, (2, 10_000)).unwrap();
        if records.len() == 0 {
            assert_eq!(records.skipped, 0);
            return (told, at);
        }
        at += records.len() as u64;
        for record in records.records() {
            let row = interpret(record, &EventDefaults::default()).unwrap();
            let metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
            told += metadata["rejected"].as_u64().unwrap_or(0);
        }
    }
}

#[test]
fn rejections_are_told_exactly_once_wherever_their_process_dies() {
    fn reject(queue: &JournalQueue) {
        for why in [Refused::Full, Refused::Full, Refused::TooLarge] {
            queue.reject(why);
        }
    }
    fn begin(queue: &JournalQueue) -> Vec<u8> {
        let position = queue.counts().appended + 1;
        queue.0.rejected.lock().begin_telling(position).unwrap().0.record(None)
    }
    /// Appends the entry about them, and no more.
    fn tell(queue: &JournalQueue) {
        let record = begin(queue);
        queue.0.write(&mut queue.0.lock_end(), &record, false, &mut |_| {}).unwrap();
    }
    fn report(queue: &JournalQueue) {
        assert!(queue.report_gap().is_some());
    }
    fn only_begin(queue: &JournalQueue) {
        assert!(!begin(queue).is_empty());
    }
    // The steps that the process takes before it dies, and how many rejections it counts.
    type Step = fn(&JournalQueue);
    let ends: [(&[Step], u64); 7] = [
        (&[], 0),
        (&[reject], 3),
        (&[reject, only_begin], 3),
        (&[reject, tell], 3),
        (&[reject, report], 3),
        (&[reject, report, reject], 6),
        (&[reject, tell, reject], 6),
    ];
    let event = || {
        let mut record = Vec::new();
        crate::entry::begin_event(&mut record, crate::entry::Moment::now());
        record
    };
    for (steps, (end, rejected)) in ends.into_iter().enumerate() {
        for pending in [0, 3] {
            let directory = tempfile::tempdir().unwrap();
            let home = home(directory.path());
            let queue = create(home.clone(), Uuid::new_v4(), 5000, 0);
            (0..pending).for_each(|_| assert!(queue.offer(&event()).is_ok()));
            for step in end {
                step(&queue);
            }
            drop(queue);
            // An adopter reads all, and dies before it commits anything.
            assert_eq!(told(&home, 0).0, rejected, "{steps}");
            // Another commits the records of the dead process, and dies.
            let (all, reached) = told(&home, pending);
            assert_eq!(all, rejected, "{steps}");
            // Another commits all, and dies before it removes the journal.
            assert_eq!(told(&home, reached), (0, reached), "{steps}");
            // The database is restored from a backup that was made before.
            assert_eq!(told(&home, pending).0, rejected, "{steps}");
        }
    }
}

#[test]
fn rejections_without_a_segment_are_left_alone_because_nothing_says_whose_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path());
    let queue = create(home.clone(), Uuid::new_v4(), 5000, 0);
    queue.reject(Refused::Full);
    let journal = queue.0.directory.clone();
    let segment = queue.0.lock().segments[0].path.clone();
    drop(queue);
    fs::remove_file(segment).unwrap();
    let mut adopted = adopt_all(&home, Uuid::new_v4()).0;
    let error = adopted[0].read(0, None, (1, 1)).unwrap_err().to_string();
    assert!(error.contains("rejections") && error.contains(journal.to_str().unwrap()), "{error}");
    assert!(journal.exists());
}
