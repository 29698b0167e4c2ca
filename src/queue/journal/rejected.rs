//! Keeps on disk the rejections of a log that no entry reports yet, so that they outlive the process.
//!
//! The file `rejected` of a journal has 4096 bytes, all of them allocated when the journal is made: writing to it needs
//! no room on the disk. It holds two slots, at the offsets 0 and 2048, which are written in turn: `sequence: u64, by: u64,
//! telling: tally, untold: tally, crc: u32`, where `crc` is the CRC-32C of the bytes before it. The slot whose checksum
//! matches and whose `sequence` is greater counts; the first sequence is 1. A tally is `full: u64, closed: u64,
//! too_large: u64, from: i64, until: i64`, the times in microseconds since 1970. All numbers are little-endian.
//!
//! Each rejection is written at once. An entry reports rejections in two steps, so that a process that dies between
//! them reports them neither twice nor not at all: first `untold` becomes `telling`, and `by` the position that the
//! entry will have; then the entry is appended. Whether that position exists decides. A loss of power may undo the
//! first step of a log that still runs; then they are reported twice.

use std::{fs::File, io, sync::Arc};

use super::directory::{JournalHome, is_no_room, make};
use crate::entry::Moment;
use crate::platform::{Directory, read_up_to, write_all_at};
use crate::queue::gap::{Gap, Rejections};

const NAME: &str = "rejected";
const FILE_BYTES: usize = 4096;
const SLOTS: [usize; 2] = [0, FILE_BYTES / 2];
const SLOT_BYTES: usize = 100;
const TALLY_BYTES: usize = 40;

/// The rejections of a journal, and its file.
#[derive(Debug)]
pub(super) struct Rejected {
    file: Arc<File>,
    sequence: u64,
    /// The rejections that no entry reports.
    untold: Option<Gap>,
    /// The rejections that the entry at this position reports, if it exists.
    telling: Option<(u64, Gap)>,
    /// Written since the last sync.
    unsynced: bool,
}

impl Rejected {
    /// Makes the file of a journal.
    pub(super) fn create(journal: &Directory) -> io::Result<Self> {
        let file = match make(journal, NAME.as_ref(), FILE_BYTES, FILE_BYTES) {
            // Until there is room, rejections are in memory only.
            Err(cause) if is_no_room(&cause) => journal.create_file(NAME)?,
            made => made?.0,
        };
        Ok(Self { file: Arc::new(file), sequence: 0, untold: None, telling: None, unsynced: false })
    }

    /// Opens the file of a dead process's journal. `None`: it has none, or an empty one. A file that cannot be read as
    /// one is kept among the damaged files.
    pub(super) fn open(
        home: &JournalHome,
        journal: &Directory,
        writer: uuid::Uuid,
    ) -> io::Result<Option<Self>> {
        let file = match journal.file(NAME, true) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = [0; FILE_BYTES];
        let read = read_up_to(&file, &mut bytes, 0)?;
        let bytes = bytes.get(..read).unwrap_or_default();
        let slots = SLOTS.iter().filter_map(|at| decode(bytes.get(*at..at + SLOT_BYTES)?));
        let Some((sequence, telling, untold)) = slots.max_by_key(|(sequence, ..)| *sequence) else {
            if bytes.iter().any(|byte| *byte != 0) {
                home.keep(journal, NAME.as_ref(), writer)?;
            }
            return Ok(None);
        };
        Ok(Some(Self { file: Arc::new(file), sequence, untold, telling, unsynced: false }))
    }

    /// Removes the file of a journal that is settled.
    pub(super) fn remove(journal: &Directory) -> io::Result<()> {
        journal.remove_if_there(NAME)
    }

    /// Creates the file again in this directory, if somebody has removed it. Returns whether it had to be.
    pub(super) fn renew(&mut self, journal: &Directory) -> io::Result<bool> {
        if journal.holds(NAME, &self.file)? {
            return Ok(false);
        }
        journal.remove_if_there(NAME)?;
        self.file = Self::create(journal)?.file;
        self.keep().map(|()| true)
    }

    /// Whether there are rejections that no entry reports.
    pub(super) fn is_untold(&self) -> bool {
        self.untold.is_some() || self.telling.is_some()
    }

    /// Adds rejections, which are in memory only until [`keep`](Self::keep) or [`begin_telling`](Self::begin_telling).
    pub(super) fn include(&mut self, later: &mut Option<Gap>) {
        if let Some(earlier) = self.untold.take() {
            earlier.put_back(later);
        }
        self.untold = later.take();
    }

    /// The entry that will have this position is about to report every rejection that none reports. Returns those
    /// rejections, and whether that is written. `None`: there are none.
    pub(super) fn begin_telling(&mut self, by: u64) -> Option<(Gap, io::Result<()>)> {
        let gap = self.untold.take()?;
        self.telling = Some((by, gap.clone()));
        Some((gap, self.keep()))
    }

    /// The entry is appended, or it could not be. In that case another entry reports the rejections later.
    pub(super) fn end_telling(&mut self, is_appended: bool) -> io::Result<()> {
        if let Some((_, gap)) = self.telling.take().filter(|_| !is_appended) {
            gap.put_back(&mut self.untold);
        }
        self.keep()
    }

    /// The process is dead, and every entry up to this position exists, and none after it.
    pub(super) fn settle(&mut self, reached: u64) {
        if let Some((_, gap)) = self.telling.take_if(|(by, _)| *by > reached) {
            gap.put_back(&mut self.untold);
        }
        self.telling = None;
    }

    /// Returns the file if anything was written since the last call: to be synced without the lock of this.
    pub(super) fn take_unsynced(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.unsynced).then(|| Arc::clone(&self.file))
    }

    /// The sync of the file has failed.
    pub(super) fn is_still_unsynced(&mut self) {
        self.unsynced = true;
    }

    /// Writes the rejections that no entry reports.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        self.sequence += 1;
        self.unsynced = true;
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&self.sequence.to_le_bytes());
        let (by, telling) = self.telling.as_ref().map_or((0, None), |(by, gap)| (*by, Some(gap)));
        slot.extend_from_slice(&by.to_le_bytes());
        for gap in [telling, self.untold.as_ref()] {
            let Some(Gap { rejected: Rejections { full, closed, too_large }, from, until }) = gap else {
                slot.extend_from_slice(&[0; TALLY_BYTES]);
                continue;
            };
            for number in [full, closed, too_large] {
                slot.extend_from_slice(&number.to_le_bytes());
            }
            for at in [from, until] {
                slot.extend_from_slice(&at.micros.to_le_bytes());
            }
        }
        slot.extend_from_slice(&crc32c::crc32c(&slot).to_le_bytes());
        let [even, odd] = SLOTS;
        let at = if self.sequence.is_multiple_of(2) { even } else { odd };
        write_all_at(&self.file, &slot, at as u64)
    }
}

type Slot = (u64, Option<(u64, Gap)>, Option<Gap>);

fn decode(slot: &[u8]) -> Option<Slot> {
    let (checked, crc) = slot.split_last_chunk::<4>()?;
    let (numbers, _) = checked.as_chunks::<8>();
    let &[sequence, by, ref tallies @ ..] = numbers else { return None };
    let sequence = u64::from_le_bytes(sequence);
    if sequence == 0 || u32::from_le_bytes(*crc) != crc32c::crc32c(checked) {
        return None;
    }
    let (telling, untold) = tallies.split_at_checked(TALLY_BYTES / 8)?;
    Some((sequence, tally(telling).map(|gap| (u64::from_le_bytes(by), gap)), tally(untold)))
}

fn tally(numbers: &[[u8; 8]]) -> Option<Gap> {
    let &[full, closed, too_large, from, until] = numbers else { return None };
    let [full, closed, too_large] = [full, closed, too_large].map(u64::from_le_bytes);
    let [from, until] = [from, until].map(|micros| Moment { micros: i64::from_le_bytes(micros) });
    let rejected = Rejections { full, closed, too_large };
    (rejected != Rejections::default()).then_some(Gap { rejected, from, until })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::{fs, path::Path};

    use super::*;
    use crate::platform::Access;
    use crate::queue::{Durability, Refused};

    fn home(directory: &Path) -> JournalHome {
        JournalHome {
            directory: directory.to_owned(),
            bytes_max: u64::MAX,
            durability: Durability::ProcessCrash,
            access: Access::Owner,
            beside: None,
            database: "sqlite:test".to_owned(),
            ledger: "main".to_owned(),
            defaults: crate::entry::EventDefaults::default(),
        }
    }

    fn place(path: &Path) -> Directory {
        Directory::open(path, Access::Owner).unwrap()
    }

    fn open(journal: &Path) -> Option<Rejected> {
        Rejected::open(&home(journal.parent().unwrap()), &place(journal), uuid::Uuid::nil()).unwrap()
    }

    fn total(rejected: Option<Rejected>) -> u64 {
        rejected.and_then(|rejected| rejected.untold).map_or(0, |gap| gap.rejected.total())
    }

    #[test]
    fn the_bytes_of_a_slot_are_fixed_because_journals_on_disk_depend_on_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut rejected = Rejected::create(&place(directory.path())).unwrap();
        let gap = |full, from| Gap {
            rejected: Rejections { full, closed: 2, too_large: 3 },
            from: Moment { micros: from },
            until: Moment { micros: -1 },
        };
        (rejected.untold, rejected.telling) = (Some(gap(1, 4)), Some((9, gap(256, 5))));
        rejected.keep().unwrap();
        let bytes = fs::read(directory.path().join(NAME)).unwrap();
        assert_eq!(bytes.len(), FILE_BYTES);
        let numbers: Vec<u8> = [1, 9, 256, 2, 3, 5, -1, 1, 2, 3, 4, -1_i64].map(i64::to_le_bytes).concat();
        let slot = bytes.get(2048..2148).unwrap();
        assert_eq!(slot.get(..96), Some(&numbers[..]));
        assert_eq!(slot.get(96..), Some(&crc32c::crc32c(&numbers).to_le_bytes()[..]));
    }

    #[test]
    fn a_file_that_is_gone_empty_or_torn_holds_nothing_and_a_damaged_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("journal");
        fs::create_dir(&journal).unwrap();
        assert!(open(&journal).is_none());
        drop(Rejected::create(&place(&journal)).unwrap());
        assert!(open(&journal).is_none());
        for length in [0, 50, 3000] {
            fs::write(journal.join(NAME), vec![0; length]).unwrap();
            assert!(open(&journal).is_none());
        }
        assert!(!directory.path().join("damaged").exists());
        fs::write(journal.join(NAME), [7; FILE_BYTES]).unwrap();
        assert!(open(&journal).is_none());
        assert_eq!(fs::read_dir(directory.path().join("damaged")).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn the_newest_whole_slot_counts(rejections in 1..20_u64, at in 0..SLOT_BYTES, bit in 0..8_u8) {
            let directory = tempfile::tempdir().unwrap();
            let journal = directory.path().join("journal");
            fs::create_dir(&journal).unwrap();
            let mut rejected = Rejected::create(&place(&journal)).unwrap();
            for _ in 0..rejections {
                let mut one = None;
                Gap::widen(&mut one, Refused::Full);
                rejected.include(&mut one);
                rejected.keep().unwrap();
            }
            prop_assert_eq!(total(open(&journal)), rejections);
            // The newest slot is torn: the one before it counts.
            let mut bytes = fs::read(journal.join(NAME)).unwrap();
            let newest = if rejections % 2 == 0 { 0 } else { FILE_BYTES / 2 };
            *bytes.get_mut(newest + at).unwrap() ^= 1 << bit;
            fs::write(journal.join(NAME), bytes).unwrap();
            prop_assert_eq!(total(open(&journal)), rejections - 1);
        }
    }
}
