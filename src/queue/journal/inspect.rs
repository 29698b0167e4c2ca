//! What is in the journals of a directory, for people: who owns them, what they hold, what is damaged.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    directory::{LOCK, journal_error},
    format::{HEADER_BYTES, Header, NoSegment, RECORD_HEADER_BYTES, Seed},
    scan::{UNLIMITED, scan_segment},
};
use crate::{error::AuditError, platform::read_up_to};

/// A journal, as [`inspect_journals`] found it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Journal {
    /// What the database knows it by: its `writer`.
    pub id: Uuid,
    /// Its directory.
    pub directory: PathBuf,
    /// Process ID of whoever made it, as that process saw it. None if its lock is gone, and with it what says whether
    /// the owner lives: nobody adopts it until there is one.
    pub owner: Option<u32>,
    /// Whether a process has it locked: its owner, or one that has adopted it.
    pub locked: bool,
    /// Which database its entries are for, as seen from the directory's parent.
    pub database: Option<String>,
    /// Which ledger.
    pub ledger: Option<String>,
    /// In the order of positions.
    pub segments: Vec<JournalSegment>,
}

/// A file of a journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalSegment {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes up to the end of the last record that checks.
    pub used: u64,
    /// Records that check.
    pub records: u64,
    /// The position before its first record.
    pub first: u64,
    /// The position after its last record that checks.
    pub last: u64,
    /// Positions between these whose records are gone or no longer check.
    pub missing: u64,
    /// What else is wrong with it.
    pub trouble: Option<SegmentTrouble>,
}

/// What is wrong with a file of a journal beyond missing records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentTrouble {
    /// Its header does not check: it was read by its name.
    Header,
    /// It is of a version that this one does not read.
    Newer(u32),
    /// Something begins after its last record that is no record: one that was being written when the process died,
    /// or a damaged one.
    Tail,
}

/// What the journals in `directory` hold, and who owns them. It reads every byte of them and changes nothing.
///
/// ```no_run
/// for journal in tracing_audit::inspect_journals("audit.db.queue")? {
///     println!("{} {:?} {}", journal.id, journal.owner, journal.segments.len());
/// }
/// # Ok::<_, tracing_audit::AuditError>(())
/// ```
///
/// The example `journal_inspect` prints it as a table.
///
/// # Errors
/// [`is_store`](AuditError::is_store) if the directory or a file in it cannot be read.
pub fn inspect_journals(directory: impl AsRef<Path>) -> Result<Vec<Journal>, AuditError> {
    let directory = directory.as_ref();
    let inspect = || {
        let mut journals = Vec::new();
        for found in fs::read_dir(directory)? {
            let path = found?.path();
            let id = path.file_name().and_then(|name| Uuid::try_parse(name.to_str()?).ok());
            if let Some(id) = id {
                match journal(id, path) {
                    Ok(journal) => journals.push(journal),
                    // It was brought to its end meanwhile.
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                    Err(cause) => return Err(cause),
                }
            }
        }
        journals.sort_by_key(|journal| journal.id);
        Ok(journals)
    };
    inspect().map_err(|cause| journal_error(directory, cause))
}

fn journal(id: Uuid, directory: PathBuf) -> io::Result<Journal> {
    let (owner, locked) = match File::open(directory.join(LOCK)) {
        // Nobody can adopt it.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => (None, false),
        Err(cause) => return Err(cause),
        Ok(mut lock) => {
            let mut owner = String::new();
            lock.read_to_string(&mut owner)?;
            let locked = match lock.try_lock_shared() {
                Ok(()) => lock.unlock().map(|()| false)?,
                Err(TryLockError::WouldBlock) => true,
                Err(TryLockError::Error(cause)) => return Err(cause),
            };
            (owner.trim().parse().ok(), locked)
        }
    };
    let (mut segments, mut database, mut ledger) = (Vec::new(), None, None);
    for found in fs::read_dir(&directory)? {
        let path = found?.path();
        if path.extension().is_some_and(|extension| extension == "segment") {
            match segment(id, path) {
                Ok((header, segment)) => {
                    if let Some(header) = header {
                        (database, ledger) = (Some(header.database), Some(header.ledger));
                    }
                    segments.push(segment);
                }
                // Retired meanwhile.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(cause),
            }
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(Journal { id, directory, owner, locked, database, ledger, segments })
}

fn segment(journal: Uuid, path: PathBuf) -> io::Result<(Option<Header>, JournalSegment)> {
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    let mut bytes = vec![0; HEADER_BYTES];
    let read = read_up_to(&file, &mut bytes, 0)?;
    bytes.truncate(read);
    let header = Header::decode(&bytes)
        .and_then(|header| if header.journal == journal { Ok(header) } else { Err(NoSegment::Foreign) });
    let named = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0);
    let first = header.as_ref().map_or(named, |header| header.first);
    let mut segment = JournalSegment {
        path,
        size,
        used: HEADER_BYTES as u64,
        records: 0,
        first,
        last: first,
        missing: 0,
        trouble: match header {
            Ok(_) => None,
            Err(NoSegment::Foreign) => Some(SegmentTrouble::Header),
            Err(NoSegment::Newer(version)) => Some(SegmentTrouble::Newer(version)),
        },
    };
    if matches!(segment.trouble, Some(SegmentTrouble::Newer(_))) {
        return Ok((None, segment));
    }
    let end = usize::try_from(size).unwrap_or(usize::MAX);
    let (mut offset, mut scratch) = (HEADER_BYTES, Vec::new());
    loop {
        let seed = Seed::of(journal, first);
        let scan = scan_segment(&file, seed, (offset, end), segment.last, UNLIMITED, &mut scratch)?;
        if scan.block.ends.is_empty() {
            break;
        }
        segment.records += scan.block.ends.len() as u64;
        segment.missing += scan.skipped;
        (segment.last, offset) = (scan.until, scan.next);
    }
    segment.used = offset as u64;
    let mut tail = [0; RECORD_HEADER_BYTES];
    read_up_to(&file, &mut tail, offset)?;
    if segment.trouble.is_none() && tail != [0; RECORD_HEADER_BYTES] {
        segment.trouble = Some(SegmentTrouble::Tail);
    }
    Ok((header.ok(), segment))
}
