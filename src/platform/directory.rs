//! Directories held open: names are looked up in them without following a link and without waiting for a pipe or device.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::access::Access;
#[cfg(unix)]
use super::access::{give, others_may_write, user};

/// A directory, held open: whatever its path comes to name, this is the same directory. On systems other than Unix it is
/// only a path.
///
/// Each method that takes a path uses its last part alone, a name in this directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    access: Access,
    #[cfg(unix)]
    handle: File,
    /// The owner of the directory from which the lookup began. A file that belongs to this user is believed.
    #[cfg(unix)]
    owner: u32,
}

/// The kind of object that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A link, a pipe, a socket or a device.
    Other,
}

fn name(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn refused(path: &Path, what: &str) -> io::Error {
    let message = format!("{} {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of this name.
    fn at(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a directory in this one, or makes it.
    pub(crate) fn directory_or_new(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        match self.create_directory(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => self.directory(path),
            made => made,
        }
    }

    /// Removes a file, unless there is none.
    pub(crate) fn remove_if_there(&self, path: impl AsRef<Path>) -> io::Result<()> {
        match self.remove_file(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};

    use rustix::fs::{AtFlags, Dir, Mode, OFlags, linkat, mkdirat, openat, renameat, statat, unlinkat};

    use super::{
        Access, Directory, Duration, File, Kind, OsStr, OsString, Path, give, io, name, others_may_write,
        refused, user,
    };

    /// A link is not followed, a pipe not waited for, a terminal not taken over, and nothing passed on to other programs.
    const CAREFUL: OFlags =
        OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
    const DIRECTORY: OFlags = CAREFUL.union(OFlags::DIRECTORY);

    fn mode(bits: u32) -> Mode {
        Mode::from_bits_truncate(bits as _)
    }

    impl Directory {
        /// Opens the directory that this path names. Links are followed: the path is the operator's. Files and
        /// directories that are made in it get this access.
        pub(crate) fn open(path: &Path, access: Access) -> io::Result<Self> {
            let handle =
                File::from(rustix::fs::open(path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?);
            let owner = handle.metadata()?.uid();
            Ok(Self { path: path.to_owned(), access, handle, owner })
        }

        /// Opens a directory in this one.
        ///
        /// # Errors
        /// If it is a link or no directory, or if it belongs to a user who is neither this process's, root, nor the owner
        /// of the directory above.
        pub(crate) fn directory(&self, path: impl AsRef<Path>) -> io::Result<Self> {
            let name = name(path.as_ref())?;
            if self.kind(name)? != Kind::Directory {
                return Err(refused(&self.at(name), "is a link or a file, not a directory: remove it"));
            }
            self.directory_of(name).and_then(|found| {
                self.believe(name, &found.handle)?;
                Ok(found)
            })
        }

        fn directory_of(&self, name: &OsStr) -> io::Result<Self> {
            let handle = File::from(openat(&self.handle, name, DIRECTORY, Mode::empty())?);
            Ok(Self { path: self.at(name), access: self.access, handle, owner: self.owner })
        }

        /// Makes a directory in this one.
        pub(crate) fn create_directory(&self, path: impl AsRef<Path>) -> io::Result<Self> {
            let name = name(path.as_ref())?;
            let bits = self.access.of_directory();
            mkdirat(&self.handle, name, mode(bits))?;
            let made = self.directory_of(name)?;
            give(&made.handle, bits)?;
            Ok(made)
        }

        /// Opens a file in this directory.
        ///
        /// # Errors
        /// If it is no regular file, if it has more names than the second that a damaged file is kept by, or if it belongs
        /// to a user who is neither this process's, root, nor the owner of the directory.
        pub(crate) fn file(&self, path: impl AsRef<Path>, writes: bool) -> io::Result<File> {
            let name = name(path.as_ref())?;
            // Looked at before it is opened: to open a device may have effects.
            let is_file = self.kind(name)? == Kind::File;
            let flags = CAREFUL | if writes { OFlags::RDWR } else { OFlags::RDONLY };
            let file = is_file
                .then(|| openat(&self.handle, name, flags, Mode::empty()).map(File::from))
                .transpose()?;
            let Some(file) = file.filter(|file| file.metadata().is_ok_and(|found| found.is_file())) else {
                return Err(refused(
                    &self.at(name),
                    "is a link, a pipe, a device or a directory, not a file: remove it",
                ));
            };
            self.believe(name, &file)?;
            if file.metadata()?.nlink() > 2 {
                return Err(refused(&self.at(name), "is another file by a hard link: remove it"));
            }
            Ok(file)
        }

        fn believe(&self, name: &OsStr, found: &File) -> io::Result<()> {
            let owner = found.metadata()?.uid();
            if [user(), 0, self.owner].contains(&owner) || self.is_for_group_of(found)? {
                return Ok(());
            }
            let what = format!(
                "belongs to user {owner}, who is not the owner of the queue: if its entries are genuine, make them \
                 user {}'s by chown, otherwise remove it",
                user()
            );
            Err(refused(&self.at(name), &what))
        }

        /// Whether what was found is for the group of this directory, nobody else may write to it, and the group is to be
        /// believed.
        fn is_for_group_of(&self, found: &File) -> io::Result<bool> {
            let (own, found) = (self.handle.metadata()?, found.metadata()?);
            Ok(self.access == Access::Group && own.mode() & 0o022 == 0o020 && own.gid() == found.gid())
        }

        /// Makes a file in this directory. An error if the name is taken, also by a link.
        pub(crate) fn create_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
            let flags = CAREFUL | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let bits = self.access.of_file();
            let file = File::from(openat(&self.handle, name(path.as_ref())?, flags, mode(bits))?);
            give(&file, bits)?;
            Ok(file)
        }

        /// The kind of object that a name stands for; a link stands for itself.
        pub(crate) fn kind(&self, path: impl AsRef<Path>) -> io::Result<Kind> {
            let found = statat(&self.handle, name(path.as_ref())?, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(match rustix::fs::FileType::from_raw_mode(found.st_mode) {
                rustix::fs::FileType::RegularFile => Kind::File,
                rustix::fs::FileType::Directory => Kind::Directory,
                _ => Kind::Other,
            })
        }

        /// The names in this directory.
        pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for found in Dir::read_from(&self.handle)? {
                let found = found?;
                let name = found.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsStr::from_bytes(name).to_owned());
                }
            }
            Ok(names)
        }

        pub(crate) fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
            Ok(unlinkat(&self.handle, name(path.as_ref())?, AtFlags::empty())?)
        }

        /// Removes an empty directory.
        pub(crate) fn remove_directory(&self, path: impl AsRef<Path>) -> io::Result<()> {
            Ok(unlinkat(&self.handle, name(path.as_ref())?, AtFlags::REMOVEDIR)?)
        }

        pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
            let (from, to) = (name(from.as_ref())?, name(to.as_ref())?);
            Ok(renameat(&self.handle, from, &self.handle, to)?)
        }

        /// Gives a file a second name, in another directory.
        pub(crate) fn link(
            &self,
            path: impl AsRef<Path>,
            to: &Self,
            kept: impl AsRef<Path>,
        ) -> io::Result<()> {
            let (from, kept) = (name(path.as_ref())?, name(kept.as_ref())?);
            Ok(linkat(&self.handle, from, &to.handle, kept, AtFlags::empty())?)
        }

        /// The time since the directory was changed.
        pub(crate) fn age(&self) -> io::Result<Duration> {
            Ok(self.handle.metadata()?.modified()?.elapsed().unwrap_or_default())
        }

        /// Brings the names in this directory to stable storage.
        pub(crate) fn sync(&self) -> io::Result<()> {
            self.handle.sync_all()
        }

        /// Whether its path still names this directory.
        pub(crate) fn is_in_place(&self) -> io::Result<bool> {
            is_at(&self.handle, std::fs::symlink_metadata(&self.path))
        }

        /// Whether this name in the directory still stands for this file.
        pub(crate) fn holds(&self, path: impl AsRef<Path>, file: &File) -> io::Result<bool> {
            let own = file.metadata()?;
            match statat(&self.handle, name(path.as_ref())?, AtFlags::SYMLINK_NOFOLLOW) {
                #[allow(
                    clippy::useless_conversion,
                    clippy::unnecessary_cast,
                    reason = "the types differ between systems"
                )]
                Ok(found) => Ok((found.st_dev as u64, found.st_ino as u64) == (own.dev(), own.ino())),
                Err(rustix::io::Errno::NOENT) => Ok(false),
                Err(cause) => Err(cause.into()),
            }
        }

        /// Says who else may write to this directory, if anybody may: `None` if only this process's user, root, and with
        /// [`Access::Group`] the group.
        pub(crate) fn writable_by_others(&self) -> io::Result<Option<String>> {
            Ok(others_may_write(&self.handle.metadata()?, self.access))
        }
    }

    fn is_at(own: &File, found: io::Result<std::fs::Metadata>) -> io::Result<bool> {
        let own = own.metadata()?;
        match found {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(cause),
        }
    }
}

#[cfg(not(unix))]
mod other {
    use std::fs;

    use super::{Access, Directory, Duration, File, Kind, OsString, Path, io, name, refused};

    impl Directory {
        pub(crate) fn open(path: &Path, access: Access) -> io::Result<Self> {
            if fs::metadata(path)?.is_dir() {
                Ok(Self { path: path.to_owned(), access })
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }

        pub(crate) fn directory(&self, path: impl AsRef<Path>) -> io::Result<Self> {
            let path = self.at(name(path.as_ref())?);
            match self.kind(&path)? {
                Kind::Directory => Ok(Self { path, access: self.access }),
                _ => Err(refused(&path, "is a link or a file, not a directory: remove it")),
            }
        }

        pub(crate) fn create_directory(&self, path: impl AsRef<Path>) -> io::Result<Self> {
            let path = self.at(name(path.as_ref())?);
            self.access.create_directory(&path)?;
            Ok(Self { path, access: self.access })
        }

        pub(crate) fn file(&self, path: impl AsRef<Path>, writes: bool) -> io::Result<File> {
            let path = self.at(name(path.as_ref())?);
            match self.kind(&path)? {
                Kind::File => File::options().read(true).write(writes).open(path),
                _ => Err(refused(&path, "is a link or a directory, not a file: remove it")),
            }
        }

        pub(crate) fn create_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
            self.access.create(&self.at(name(path.as_ref())?))
        }

        pub(crate) fn kind(&self, path: impl AsRef<Path>) -> io::Result<Kind> {
            let found = fs::symlink_metadata(self.at(name(path.as_ref())?))?;
            Ok(match (found.is_file(), found.is_dir()) {
                (true, _) => Kind::File,
                (_, true) => Kind::Directory,
                _ => Kind::Other,
            })
        }

        pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
            fs::read_dir(&self.path)?.map(|found| Ok(found?.file_name())).collect()
        }

        pub(crate) fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
            fs::remove_file(self.at(name(path.as_ref())?))
        }

        pub(crate) fn remove_directory(&self, path: impl AsRef<Path>) -> io::Result<()> {
            fs::remove_dir(self.at(name(path.as_ref())?))
        }

        pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
            fs::rename(self.at(name(from.as_ref())?), self.at(name(to.as_ref())?))
        }

        pub(crate) fn link(
            &self,
            path: impl AsRef<Path>,
            to: &Self,
            kept: impl AsRef<Path>,
        ) -> io::Result<()> {
            fs::hard_link(self.at(name(path.as_ref())?), to.at(name(kept.as_ref())?))
        }

        pub(crate) fn age(&self) -> io::Result<Duration> {
            Ok(fs::metadata(&self.path)?.modified()?.elapsed().unwrap_or_default())
        }

        /// Does nothing: NTFS journals names by itself, and has no call for it.
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        /// True: an open file keeps its directory.
        pub(crate) fn is_in_place(&self) -> io::Result<bool> {
            Ok(true)
        }

        /// True: an open file keeps its name.
        pub(crate) fn holds(&self, _path: impl AsRef<Path>, _file: &File) -> io::Result<bool> {
            Ok(true)
        }

        pub(crate) fn writable_by_others(&self) -> io::Result<Option<String>> {
            Ok(None)
        }
    }
}
