//! Makes and discards the directories of journals, and names the files in them.

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::entry::EventDefaults;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{Access, Directory, allocate, largest_file, shared_file_system};
use crate::queue::Durability;

/// Size of a segment in bytes: large enough that a new one is rare, small enough that space is returned in small steps.
pub(super) const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// The least size of a segment, for disks and bounds with little room.
pub(super) const LEAST_SEGMENT_BYTES: usize = 64 * 1024;
pub(super) const LOCK: &str = "lock";
/// Name of a lock that replaces one which somebody has removed, until it is renamed.
const NEW_LOCK: &str = "lock.new";
pub(super) const SPARE: &str = "spare";
/// End of the name of a directory that is not a journal yet, because it is being made.
pub(super) const UNBORN: &str = "new";
/// Directory, next to the journals, in which damaged files are kept.
pub(super) const DAMAGED: &str = "damaged";
/// Name of the file that replaces a suspect segment, until it is renamed.
pub(super) const REWRITTEN: &str = "rewritten";

/// A directory of journals, and the log that they are for.
#[derive(Clone, Debug)]
pub(crate) struct JournalHome {
    pub(crate) directory: PathBuf,
    /// The most bytes that the files of one journal may take on disk.
    pub(crate) bytes_max: u64,
    pub(crate) durability: Durability,
    /// The users who may read and write the files that the journal makes.
    pub(crate) access: Access,
    /// The directory in which the database grows, if it is on this machine.
    pub(crate) beside: Option<PathBuf>,
    /// Name of the database.
    pub(crate) database: String,
    pub(crate) ledger: String,
    /// The log's values for fields that an event leaves out.
    pub(crate) defaults: EventDefaults,
}

impl JournalHome {
    /// Opens the directory of journals.
    pub(super) fn open(&self) -> io::Result<Directory> {
        Directory::open(&self.directory, self.access)
    }

    /// Makes the directory of journals, unless it exists, and opens it.
    fn make(&self) -> io::Result<Directory> {
        match self.access.create_directory(&self.directory) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(cause),
            _ => self.open(),
        }
    }

    /// Says who except this log may write to the directory of journals, if anybody may: an entry that is found there
    /// may be theirs.
    pub(super) fn concern(&self) -> Option<AuditError> {
        let who = self.open().and_then(|queue| queue.writable_by_others()).ok()??;
        let message = format!(
            "the queue's directory {} {who}: whoever may write to it may remove entries that are not committed yet, and \
             make up others; make it this process's user's own, with mode {:o}",
            self.directory.display(),
            self.access.of_directory()
        );
        Some(AuditError::new(ErrorKind::Store, message))
    }

    /// Keeps the bytes of a damaged file of this journal in the directory for damaged files.
    pub(super) fn keep(&self, journal: &Directory, file: &Path, writer: Uuid) -> io::Result<()> {
        let damaged = self.open()?.directory_or_new(DAMAGED)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let kept = format!("{writer}-{name}");
        match journal.link(file, &damaged, &kept).map_err(|cause| cause.kind()) {
            // The file is kept already, or somebody has removed it.
            Ok(()) | Err(io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
            // This file system has no hard links: copy the file instead.
            Err(_) => {
                let mut bytes = journal.file(file, false)?;
                io::copy(&mut bytes, &mut damaged.create_file(&kept)?).map(|_| ())
            }
        }
    }

    /// Returns the size of a segment: a quarter of the bound on space, so that some segments can be returned while
    /// others are in use.
    pub(super) fn segment_bytes(&self) -> usize {
        let quarter = usize::try_from(self.bytes_max / 4).unwrap_or(usize::MAX);
        let size = quarter.clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES);
        largest_file().map_or(size, |largest| size.min(usize::try_from(largest).unwrap_or(size)))
    }

    /// Checks that a journal can be made and locked here.
    pub(super) fn check(&self) -> Result<(), AuditError> {
        if let Some(largest) = largest_file().filter(|largest| *largest < LEAST_SEGMENT_BYTES as u64) {
            let message = format!(
                "a journal needs files of {LEAST_SEGMENT_BYTES} bytes, and this process may write none larger than \
                 {largest}: raise the limit on the size of files (ulimit -f), or choose in_memory_queue()"
            );
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        // The file system of the directory, or of the one in which it will be made.
        let shared = shared_file_system(&self.directory).or_else(|cause| match self.directory.parent() {
            Some(parent) => shared_file_system(parent),
            None => Err(cause),
        });
        if let Ok(Some(kind)) = shared {
            let message = format!(
                "the journal in {} cannot be locked safely: it is on {kind}, where a process elsewhere may not see \
                 that it is in use, and commit its entries too; choose builder().journal(directory) on a local disk, or \
                 in_memory_queue()",
                self.directory.display()
            );
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        Ok(())
    }
}

/// Turns an error of the file system into one that names the directory and the remedy.
pub(crate) fn journal_error(directory: &Path, cause: io::Error) -> AuditError {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let remedy = match cause.kind() {
        NotFound => "the directory that it lies in must exist",
        PermissionDenied | ReadOnlyFilesystem => "it is read-only: this process needs to read and write it",
        _ if is_no_room(&cause) => "there is no room for it on its disk",
        io::ErrorKind::FileTooLarge => {
            "its files exceed the limit on the size of files (ulimit -f): raise it"
        }
        NotADirectory => "what the path names is not a directory",
        InvalidData => "something in it is not this log's",
        _ => "its disk has failed, or does not do what a journal needs",
    };
    let message = format!("the journal in {} cannot be used: {remedy}", directory.display());
    AuditError::new(ErrorKind::Store, message).for_lack_of_room(is_no_room(&cause)).because(cause)
}

/// Returns the name of the segment whose first record follows this position.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.segment")
}

pub(super) fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the directory of a new journal. Returns it, and its lock, taken.
pub(super) fn begin(home: &JournalHome, writer: Uuid) -> io::Result<(Directory, File)> {
    // Under this name no other process adopts the directory before it is locked.
    let unborn = format!("{writer}.{UNBORN}");
    let mut tries = 0;
    let (queue, lock) = loop {
        let queue = home.make()?;
        let made = queue.create_directory(&unborn).and_then(|journal| {
            let locked = new_lock(&journal, LOCK);
            if locked.is_err() {
                journal.remove_if_there(LOCK)?;
            }
            locked
        });
        match made {
            Ok(lock) => break (queue, lock),
            // Another log has just ended and removed the directory of journals, which was empty: make it again.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
            Err(cause) => {
                // Ignore an error: the first one says what is wrong.
                drop(queue.remove_directory(&unborn));
                return Err(cause);
            }
        }
    };
    let journal = writer.to_string();
    if let Err(cause) = queue.rename(&unborn, &journal) {
        let unfinished = queue.directory(&unborn).and_then(|unfinished| unfinished.remove_file(LOCK));
        drop(unfinished.and_then(|()| queue.remove_directory(&unborn)));
        return Err(cause);
    }
    if home.durability != Durability::ProcessCrash {
        queue.sync()?;
        Directory::open(home.directory.parent().unwrap_or(&home.directory), home.access)?.sync()?;
    }
    Ok((queue.directory(&journal)?, lock))
}

/// Makes a file with the ID of this process, and locks it.
fn new_lock(journal: &Directory, name: &str) -> io::Result<File> {
    let mut lock = journal.create_file(name)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(cause)) => return Err(cause),
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
    }
    match writeln!(lock, "{}", std::process::id()) {
        // The number is for people.
        Err(cause) if !is_no_room(&cause) => Err(cause),
        _ => Ok(lock),
    }
}

/// Makes another lock of a journal of this process, whose lock somebody has removed.
pub(super) fn lock_again(journal: &Directory) -> io::Result<File> {
    journal.remove_if_there(NEW_LOCK)?;
    let lock = new_lock(journal, NEW_LOCK)?;
    // It is locked before it has the name by which others look for it.
    journal.rename(NEW_LOCK, LOCK)?;
    Ok(lock)
}

/// Removes a journal whose records are all settled. The lock is removed last: if the process dies halfway, another
/// process can still adopt the rest.
pub(super) fn discard(home: &JournalHome, journal: &Directory) -> io::Result<()> {
    for name in journal.names()? {
        if name != LOCK {
            journal.remove_file(&name)?;
        }
    }
    let removed = journal.remove_file(LOCK).and_then(|()| home.open()?.remove_directory(journal.path()));
    match removed {
        // Another process, looking for journals to adopt, has removed the rest.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a file in a journal and allocates all of it: `size` bytes, or fewer, but at least `least`, if the disk or the
/// limit on the size of files has less room. Returns the file and its size.
pub(super) fn make(journal: &Directory, path: &Path, size: usize, least: usize) -> io::Result<(File, usize)> {
    // The limit may have been lowered.
    let largest = largest_file().map_or(usize::MAX, |largest| usize::try_from(largest).unwrap_or(usize::MAX));
    if largest < least {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut size = size.min(largest);
    let file = journal.create_file(path)?;
    loop {
        let Err(cause) = allocate(&file, size) else { return Ok((file, size)) };
        let smaller = size / 2;
        if is_no_room(&cause) && smaller >= least.max(LEAST_SEGMENT_BYTES) {
            size = smaller;
            file.set_len(0)?;
            continue;
        }
        journal.remove_file(path)?;
        return Err(cause);
    }
}
