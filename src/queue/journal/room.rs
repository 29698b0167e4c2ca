//! Leaves room for the database, where it grows in the same file system as the journals: what they hold can be committed
//! without anybody making room.
//!
//! The journals together take at most a quarter of what is free there and of what they hold already. In the database an entry
//! takes up to 2.5 times as many bytes as in a journal, measured with the indexes of every log; those on request and the
//! write-ahead log come on top. Each segment takes at most a quarter of that, so that settled ones return their room
//! while others are in use. The last megabyte is never taken.

use std::{
    fs,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::directory::{JournalHome, LEAST_SEGMENT_BYTES};
use crate::platform::{free_room, lock, share_room};

/// The divisor of the room that journals may take: one part in four.
const SHARE: u64 = 4;
/// The divisor of that for a segment.
const SEGMENTS: u64 = 4;
/// The room that is left to the database in any case: the pages of a small batch, once in the write-ahead log and once
/// in the database, and the index of the log.
const RESERVE: u64 = 1024 * 1024;

/// The time for which a look at other journals counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The bytes that other journals of the same directory hold, and when they were counted.
#[derive(Debug, Default)]
pub(super) struct Others(Mutex<Option<(Instant, u64)>>);

impl Others {
    /// The largest size of another file of this journal, which holds `own` bytes. 0: the database needs what is left.
    pub(super) fn leave(&self, home: &JournalHome, journal: Uuid, own: u64) -> usize {
        let Some(beside) = &home.beside else { return usize::MAX };
        if !share_room(&home.directory, beside) {
            return usize::MAX;
        }
        let Some(free) = free_room(&home.directory) else { return usize::MAX };
        let more = share(free, own + self.hold(&home.directory, journal));
        usize::try_from(more).unwrap_or(usize::MAX)
    }

    fn hold(&self, directory: &Path, journal: Uuid) -> u64 {
        let mut known = lock(&self.0);
        match *known {
            Some((seen, held)) if seen.elapsed() < LOOK_EVERY => held,
            _ => {
                let held = held_below(directory, journal);
                *known = Some((Instant::now(), held));
                held
            }
        }
    }
}

/// Whether a segment of the least size, or of this one if it is larger, leaves the database its reserve.
pub(super) fn leaves_reserve(directory: &Path, bytes: usize) -> bool {
    let taken = bytes.max(LEAST_SEGMENT_BYTES) as u64;
    free_room(directory).is_none_or(|free| free >= RESERVE + taken)
}

/// The largest size of another file, if these many bytes are free and the journals hold those.
fn share(free: u64, held: u64) -> u64 {
    let all = (free + held) / SHARE;
    let more = all.saturating_sub(held).min(all / SEGMENTS).min(free.saturating_sub(RESERVE));
    // Whole segments of the least size, so that few sizes occur.
    more - more % LEAST_SEGMENT_BYTES as u64
}

/// The size of all files in journals other than this one, in bytes. A file that cannot be looked at counts as nothing.
fn held_below(directory: &Path, own: Uuid) -> u64 {
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let is_other = |name: &std::ffi::OsStr| {
        name.to_str().and_then(|name| Uuid::try_parse(name).ok()).is_some_and(|journal| journal != own)
    };
    below(directory)
        .filter(|found| is_other(&found.file_name()) && found.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|journal| below(&journal.path()))
        .filter_map(|file| file.metadata().ok().filter(fs::Metadata::is_file))
        .map(|file| file.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn journals_together_take_no_more_than_their_share_and_never_the_last_megabyte() {
        for size in [0, 1, 2, 8, 16, 64, 160, 1024, 1 << 20] {
            let (mut free, mut held, mut files) = (size * MIB, 0, 0);
            loop {
                let more = share(free, held);
                if more == 0 {
                    break;
                }
                (free, held, files) = (free - more, held + more, files + 1);
                assert!(files < 1000);
            }
            assert!(held * SHARE <= size * MIB && (held == 0 || free >= RESERVE), "{size}: {held}");
            assert!(held * SHARE + MIB >= size * MIB || size <= 2, "{size}: {held}");
        }
    }

    #[test]
    fn what_other_journals_hold_counts_and_what_is_no_journal_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let own = Uuid::from_u128(1);
        for (name, file, size) in [
            (own.to_string(), "a.segment", 1),
            (Uuid::from_u128(2).to_string(), "a.segment", 10),
            (Uuid::from_u128(2).to_string(), "spare", 100),
            ("damaged".to_owned(), "a.segment", 1000),
        ] {
            let journal = directory.path().join(name);
            fs::create_dir_all(&journal).unwrap();
            fs::write(journal.join(file), vec![0; size]).unwrap();
        }
        fs::write(directory.path().join(Uuid::from_u128(3).to_string()), "file").unwrap();
        assert_eq!(held_below(directory.path(), own), 110);
        assert_eq!(held_below(&directory.path().join("nothing"), own), 0);
    }
}
