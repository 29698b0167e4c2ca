//! The modes of what we make, and of what we find: who may read and write it.

use std::{fs::File, io, path::Path};

/// The users who may read and write the files and directories that are made, whatever the umask of the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// The user of the process: 0600 and 0700.
    #[default]
    Owner,
    /// The user and the group: 0660 and 0770.
    Group,
    /// The user, and others to read: 0644 and 0755.
    Readers,
}

impl Access {
    /// The mode of a file.
    pub(crate) fn of_file(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
            Self::Readers => 0o644,
        }
    }

    /// The mode of a directory.
    pub(crate) fn of_directory(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o770,
            Self::Readers => 0o755,
        }
    }

    /// Creates a file with this mode. An error if the path names anything, also a link.
    #[cfg_attr(
        all(unix, not(feature = "_sqlite")),
        allow(dead_code, reason = "a directory that is held open creates its files itself")
    )]
    pub(crate) fn create(self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, self.of_file());
        let file = options.open(path)?;
        give(&file, self.of_file())?;
        Ok(file)
    }

    /// Creates an empty file with this mode, and does not open it: another connection of this process may open it at once,
    /// and would lose its locks when it is closed here. An error if the path names anything, also a link.
    #[cfg(all(target_os = "linux", feature = "_sqlite"))]
    pub(crate) fn create_unopened(self, path: &Path) -> io::Result<()> {
        use rustix::{
            fs::{CWD, FileType, Mode, mknodat},
            io::Errno,
        };
        match mknodat(CWD, path, FileType::RegularFile, Mode::from_raw_mode(self.of_file()), 0) {
            Ok(()) => give_unopened(path, self.of_file()),
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            // A file system or a sandbox that does not have this call.
            Err(_) => self.create(path).map(drop),
        }
    }

    /// Creates an empty file with this mode. An error if the path names anything, also a link.
    #[cfg(all(not(target_os = "linux"), feature = "_sqlite"))]
    pub(crate) fn create_unopened(self, path: &Path) -> io::Result<()> {
        self.create(path).map(drop)
    }

    /// Creates a directory with this mode. An error if the path names anything.
    pub(crate) fn create_directory(self, path: &Path) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, self.of_directory());
        builder.create(path)?;
        #[cfg(unix)]
        give(&File::open(path)?, self.of_directory())?;
        Ok(())
    }
}

/// Gives a file or directory that was just made the bits that the umask has taken away. The setgid bit that a directory
/// has from its parent stays.
#[cfg(unix)]
pub(super) fn give(file: &File, bits: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let has = file.metadata()?.permissions().mode();
    if has & 0o777 == bits {
        return Ok(());
    }
    file.set_permissions(PermissionsExt::from_mode(has & 0o2000 | bits))
}

/// The same for a file that is not opened.
#[cfg(all(target_os = "linux", feature = "_sqlite"))]
fn give_unopened(path: &Path, bits: u32) -> io::Result<()> {
    use std::os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    };
    let mut options = File::options();
    // A descriptor that only stands for the file has no part in locks.
    let place = options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = place.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let has = found.permissions().mode();
    if has & 0o777 == bits {
        return Ok(());
    }
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    std::fs::set_permissions(same, PermissionsExt::from_mode(has & 0o2000 | bits))
}

/// Does nothing: this system has no modes.
#[cfg(not(unix))]
pub(super) fn give(_file: &File, _bits: u32) -> io::Result<()> {
    Ok(())
}

/// Says who else may write to what has this metadata, if anybody may: `None` if only this process's user, root, and those
/// to whom `access` gives it.
#[cfg(unix)]
pub(super) fn others_may_write(found: &std::fs::Metadata, access: Access) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let others = found.mode() & 0o022 & !access.of_directory();
    if ![user(), 0].contains(&found.uid()) {
        Some(format!("belongs to user {}", found.uid()))
    } else if others != 0 {
        let whose = if others & 0o002 == 0 { "its group" } else { "every user" };
        Some(format!("may be written by {whose} (mode {:o})", found.mode() & 0o7777))
    } else {
        None
    }
}

/// Says who else may read this open file, or change what is in it, if anybody but root may.
#[cfg(feature = "signing")]
pub(crate) fn file_open_to_others(file: &File) -> io::Result<Option<String>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = file.metadata()?;
        // If there is an access control list, the bits of the group are the most that anybody else may.
        let others = found.mode() & 0o077;
        Ok(if ![user(), 0].contains(&found.uid()) {
            Some(format!("belongs to user {}", found.uid()))
        } else if others != 0 {
            let whose = if others.trailing_zeros() >= 3 { "its group" } else { "every user" };
            Some(format!("is open to {whose} (mode {:o})", found.mode() & 0o7777))
        } else {
            None
        })
    }
    #[cfg(not(unix))]
    return Ok((file, None).1);
}

/// The user as whom this process accesses files.
#[cfg(unix)]
pub(super) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Says who else may write to the file at this path, if anybody may.
#[cfg(feature = "_sqlite")]
pub(crate) fn file_writable_by_others(path: &Path, access: Access) -> Option<String> {
    #[cfg(unix)]
    return others_may_write(&std::fs::metadata(path).ok()?, access);
    #[cfg(not(unix))]
    return (path, access, None).2;
}

/// Says who else may replace the files in this directory: every user, if there is no sticky bit. A group is reported
/// only for the files themselves, since directories for a group are usual.
#[cfg(feature = "_sqlite")]
pub(crate) fn directory_open_to_all(path: &Path) -> bool {
    #[cfg(unix)]
    return std::fs::metadata(path)
        .is_ok_and(|found| std::os::unix::fs::MetadataExt::mode(&found) & 0o1002 == 0o002);
    #[cfg(not(unix))]
    return (path, false).1;
}

/// The user who has made the link at this path, if it is one and that user is neither this process's nor root.
#[cfg(feature = "_sqlite")]
pub(crate) fn link_of_another(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        let found = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_symlink)?;
        let owner = std::os::unix::fs::MetadataExt::uid(&found);
        (![user(), 0].contains(&owner)).then_some(owner)
    }
    #[cfg(not(unix))]
    return (path, None).1;
}

/// Whether this process may read what the path names.
#[cfg(all(unix, feature = "_sqlite"))]
pub(crate) fn may_read(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

/// Unknown on this system until it is tried.
#[cfg(all(not(unix), feature = "_sqlite"))]
pub(crate) fn may_read(_path: &Path) -> bool {
    true
}

/// Whether this process may write to what the path names. False also if the file system is mounted read-only.
#[cfg(all(unix, feature = "_sqlite"))]
pub(crate) fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Unknown on this system until it is tried.
#[cfg(all(not(unix), feature = "_sqlite"))]
pub(crate) fn may_write(_path: &Path) -> bool {
    true
}
