//! The modes of what we make: who may read and write it.

use std::{fs::File, io, path::Path};

/// Who may read and write the files and directories that a log makes, whatever the umask of the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// The user of the process: 0600 and 0700.
    #[default]
    Owner,
    /// The user and the group: 0660 and 0770.
    Group,
}

impl Access {
    /// The mode of a file.
    pub(crate) fn of_file(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }

    /// The mode of a directory.
    pub(crate) fn of_directory(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o770,
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

/// Does nothing: this system has no modes.
#[cfg(not(unix))]
pub(super) fn give(_file: &File, _bits: u32) -> io::Result<()> {
    Ok(())
}
