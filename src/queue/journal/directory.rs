//! Makes and discards the directories of journals, and names the files in them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::entry::EventDefaults;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{allocate, sync_directory};
use crate::queue::Durability;

/// Size of a segment in bytes: large enough that a new one is rare, small enough that space is returned in small steps.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// The least size of a segment, for disks and bounds with little room.
const LEAST_SEGMENT_BYTES: usize = 64 * 1024;
pub(super) const LOCK: &str = "lock";
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
    /// Name of the database.
    pub(crate) database: String,
    pub(crate) ledger: String,
    /// The log's values for fields that an event leaves out.
    pub(crate) defaults: EventDefaults,
}

impl JournalHome {
    /// Keeps the bytes of a damaged file of this journal in the directory for damaged files.
    pub(super) fn keep(&self, file: &Path, writer: Uuid) -> io::Result<()> {
        let damaged = self.directory.join(DAMAGED);
        fs::create_dir_all(&damaged)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let kept = damaged.join(format!("{writer}-{name}"));
        match fs::hard_link(file, &kept).map_err(|cause| cause.kind()) {
            // The file is kept already, or somebody has removed it.
            Ok(()) | Err(io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
            // This file system has no hard links: copy the file instead.
            Err(_) => fs::copy(file, kept).map(|_| ()),
        }
    }

    /// Returns the size of a segment: a quarter of the bound on space, so that some segments can be returned while
    /// others are in use.
    pub(super) fn segment_bytes(&self) -> usize {
        let quarter = usize::try_from(self.bytes_max / 4).unwrap_or(usize::MAX);
        quarter.clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES)
    }
}

/// Turns an error of the file system into one that names the directory and the remedy.
pub(super) fn journal_error(directory: &Path, cause: io::Error) -> AuditError {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let remedy = match cause.kind() {
        NotFound => "the directory that it lies in must exist",
        PermissionDenied | ReadOnlyFilesystem => "it is read-only: this process needs to read and write it",
        _ if is_no_room(&cause) => "there is no room for it on its disk",
        _ => "it needs a directory that this process may read and write",
    };
    let message = format!("the journal in {} cannot be used: {remedy}", directory.display());
    AuditError::new(ErrorKind::Store, message).because(cause)
}

/// Returns the name of the segment whose first record follows this position.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}.segment")
}

fn is_no_room(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the directory of a new journal, and returns its lock, taken.
pub(super) fn begin(home: &JournalHome, writer: Uuid, directory: &Path) -> io::Result<File> {
    // Under this name no other process adopts the directory before it is locked.
    let unborn = home.directory.join(format!("{writer}.{UNBORN}"));
    let mut tries = 0;
    let mut lock = loop {
        match fs::create_dir(&home.directory) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
            _ => {}
        }
        let made = fs::create_dir(&unborn).and_then(|()| File::create(unborn.join(LOCK)));
        match made {
            Ok(lock) => break lock,
            // Another log has just ended and removed the directory of journals, which was empty: make it again.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
            Err(cause) => return Err(cause),
        }
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::Error(cause)) => return Err(cause),
        Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
    }
    writeln!(lock, "{}", std::process::id())?;
    fs::rename(&unborn, directory)?;
    if home.durability != Durability::ProcessCrash {
        sync_directory(&home.directory)?;
        sync_directory(home.directory.parent().unwrap_or(&home.directory))?;
    }
    Ok(lock)
}

/// Removes a journal whose records are all settled. The lock is removed last: if the process dies halfway, another
/// process can still adopt the rest.
pub(super) fn discard(directory: &Path) -> io::Result<()> {
    for found in fs::read_dir(directory)? {
        let found = found?;
        if found.file_name() != LOCK {
            fs::remove_file(found.path())?;
        }
    }
    let removed = fs::remove_file(directory.join(LOCK)).and_then(|()| fs::remove_dir(directory));
    match removed {
        // Another process, looking for journals to adopt, has removed the rest.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a file and allocates all of it: `size` bytes, or fewer, but at least `least`, if the disk has less room.
/// Returns the file and its size.
pub(super) fn make(path: &Path, size: usize, least: usize) -> io::Result<(File, usize)> {
    let mut size = size;
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    loop {
        let Err(cause) = allocate(&file, size) else { return Ok((file, size)) };
        let smaller = size / 2;
        if is_no_room(&cause) && smaller >= least.max(LEAST_SEGMENT_BYTES) {
            size = smaller;
            file.set_len(0)?;
            continue;
        }
        fs::remove_file(path)?;
        return Err(cause);
    }
}
