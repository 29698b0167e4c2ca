//! Lists the journals of a directory, for people: their owners, their contents, their damage.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    directory::{LOCK, journal_error},
    format::{Header, NoSegment, RECORD_HEADER_BYTES, Seed},
    scan::{UNLIMITED, read_header, scan_segment},
    whose::{is_marked_adopted, size_of},
};
use crate::error::AuditError;
use crate::platform::{Access, Directory, Kind, read_up_to};

/// A journal, as [`inspect_journals`] found it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Journal {
    /// The writer whose queue the journal is: one per opened log. The database knows the journal by it, and so does
    /// [`QuarantinedEntry::writer`](crate::reader::QuarantinedEntry::writer).
    pub writer: Uuid,
    /// The directory of the journal.
    pub directory: PathBuf,
    /// Process ID of the process that made the journal, as that process saw it. `None` if the lock file is gone: then
    /// nothing says whether the owner is alive, and nobody adopts the journal until there is a lock file again.
    pub owner: Option<u32>,
    /// Whether a process has the journal locked: its owner, or a process that has adopted it.
    pub locked: bool,
    /// Whether its owner is dead and a log has adopted it. While it is `locked`, that log is committing its entries.
    pub adopted: bool,
    /// The database that its entries are for, as seen from the directory's parent.
    pub database: Option<String>,
    /// The ledger that its entries are for.
    pub ledger: Option<String>,
    /// Its segments, in the order of positions.
    pub segments: Vec<JournalSegment>,
    /// The reason why the journal, or a file in it, is not believed: it is a link, a pipe or a device, belongs to
    /// another user, or is larger than any segment. Nothing is read from it, and no log adopts the journal until that
    /// is gone.
    pub refused: Option<String>,
}

/// A segment of a journal: one of its files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JournalSegment {
    /// Path of the file.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub size: u64,
    /// Bytes up to the end of the last record that matches its checksum.
    pub used: u64,
    /// Number of records that match their checksum.
    pub records: u64,
    /// Position before the first record.
    pub first: u64,
    /// Position after the last record that matches its checksum.
    pub last: u64,
    /// Number of positions between `first` and `last` whose records are gone or do not match their checksum.
    pub missing: u64,
    /// Trouble with the file beyond missing records, if there is any.
    pub trouble: Option<SegmentTrouble>,
}

/// Trouble with a file of a journal beyond missing records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentTrouble {
    /// The header does not match its checksum. The file was read with the position in its name.
    Header,
    /// The file has this format version, which this version of the crate does not read.
    Newer(u32),
    /// Bytes after the last record that are no record: a record that was being written when the process died, or a
    /// damaged one.
    Tail,
}

/// Lists the journals in `directory`: what they hold and who owns them. Reads every byte of them and changes nothing.
///
/// ```no_run
/// for journal in tracing_audit::journal::inspect("audit.db.queue")? {
///     println!("{} {:?} {}", journal.writer, journal.owner, journal.segments.len());
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
        // The group may access it: the user who looks may not be the one who writes.
        let queue = Directory::open(directory, Access::Group)?;
        for name in queue.names()? {
            let writer = name.to_str().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(writer) = writer {
                match journal(writer, &queue, directory.join(name)) {
                    Ok(journal) => journals.extend(journal),
                    // The journal was settled and removed in the meantime.
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                    Err(cause) => return Err(cause),
                }
            }
        }
        journals.sort_by_key(|journal| journal.writer);
        Ok(journals)
    };
    inspect().map_err(|cause| journal_error(directory, cause))
}

/// Looks at the journal in this directory. `None`: there is none.
pub(crate) fn inspect_journal(directory: &Path) -> io::Result<Option<Journal>> {
    let writer = directory.file_name().and_then(|name| Uuid::try_parse(name.to_str()?).ok());
    let (Some(writer), Some(queue)) = (writer, directory.parent()) else { return Ok(None) };
    journal(writer, &Directory::open(queue, Access::Group)?, directory.to_owned())
}

/// Keeps why something is not believed, and says so by `None`.
fn believed<T>(found: io::Result<T>, refused: &mut Option<String>) -> io::Result<Option<T>> {
    match found {
        Err(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            refused.get_or_insert(cause.to_string());
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// Returns `None` for a file that has the name of a journal.
fn journal(writer: Uuid, queue: &Directory, directory: PathBuf) -> io::Result<Option<Journal>> {
    if queue.kind(&directory)? == Kind::File {
        return Ok(None);
    }
    let mut found = Journal {
        writer,
        directory,
        owner: None,
        locked: false,
        adopted: false,
        database: None,
        ledger: None,
        segments: Vec::new(),
        refused: None,
    };
    let place = believed(queue.directory(&found.directory), &mut found.refused)?;
    let Some(place) = place else { return Ok(Some(found)) };
    let lock = match place.file(LOCK, false) {
        // Without a lock file nobody can adopt the journal.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
        lock => believed(lock, &mut found.refused)?,
    };
    if let Some(lock) = lock {
        let mut owner = String::new();
        (&lock).take(32).read_to_string(&mut owner).or_else(|cause| match cause.kind() {
            io::ErrorKind::InvalidData => Ok(0),
            _ => Err(cause),
        })?;
        found.owner = owner.lines().next().and_then(|owner| owner.trim().parse().ok());
        found.adopted = is_marked_adopted(&lock).unwrap_or(false);
        found.locked = match lock.try_lock_shared() {
            Ok(()) => lock.unlock().map(|()| false)?,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(cause)) => return Err(cause),
        };
    }
    let (mut segments, mut known) = (Vec::new(), None);
    for name in place.names()? {
        let path = found.directory.join(name);
        if path.extension().is_some_and(|extension| extension == "segment") {
            match place.file(&path, false).and_then(|file| Ok((read_header(&file)?, file))) {
                // The segment was retired in the meantime.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                read => {
                    let Some((header, file)) = believed(read, &mut found.refused)? else { continue };
                    let header = header.and_then(|header| {
                        if header.writer == writer { Ok(header) } else { Err(NoSegment::Foreign) }
                    });
                    known = known.or_else(|| header.clone().ok());
                    segments.push((path, file, header));
                }
            }
        }
    }
    for (path, file, header) in segments {
        let read = segment(writer, path, &file, &header, known.as_ref());
        found.segments.extend(believed(read, &mut found.refused)?);
    }
    (found.database, found.ledger) = known.map(|known| (known.database, known.ledger)).unzip();
    found.segments.sort_by_key(|segment| segment.first);
    Ok(Some(found))
}

/// Reads a segment with this header. `known` is the header of any segment of the journal.
fn segment(
    journal: Uuid,
    path: PathBuf,
    file: &File,
    header: &Result<Header, NoSegment>,
    known: Option<&Header>,
) -> io::Result<JournalSegment> {
    let named = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0);
    let first = header.as_ref().map_or(named, |header| header.first);
    let seed = known.map_or_else(|| Seed::of_version_1(journal, first), |known| known.seed(first));
    let end = size_of(&path, file, seed.start)?;
    let mut segment = JournalSegment {
        path,
        size: end as u64,
        used: seed.start as u64,
        records: 0,
        first,
        last: first,
        missing: 0,
        trouble: match header {
            Ok(_) => None,
            Err(NoSegment::Foreign) => Some(SegmentTrouble::Header),
            Err(NoSegment::Newer(version)) => Some(SegmentTrouble::Newer(*version)),
        },
    };
    if matches!(segment.trouble, Some(SegmentTrouble::Newer(_))) {
        return Ok(segment);
    }
    let (mut offset, mut scratch) = (seed.start, Vec::new());
    loop {
        let scan = scan_segment(file, seed, (offset, end), segment.last, UNLIMITED, &mut scratch)?;
        if scan.block.ends.is_empty() {
            break;
        }
        segment.records += scan.block.ends.len() as u64;
        segment.missing += scan.skipped;
        (segment.last, offset) = (scan.until, scan.next);
    }
    segment.used = offset as u64;
    let mut tail = [0; RECORD_HEADER_BYTES];
    read_up_to(file, &mut tail, offset)?;
    if segment.trouble.is_none() && tail != [0; RECORD_HEADER_BYTES] {
        segment.trouble = Some(SegmentTrouble::Tail);
    }
    Ok(segment)
}
