//! Recognises file systems whose locks not everybody sees, those of a network, of FUSE, and of a virtual machine's host;
//! and those that do not outlast a container or the machine. Says how much room there is in one.

use std::{io, path::Path};

/// The name of the file system that this path lies in, if it is one in which a lock may be invisible to another machine,
/// to the host of a virtual machine, or to a process that has it mounted a second time. `None`: it is local.
///
/// A block device that is mounted by a FUSE program (`fuseblk`) is local.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn shared_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    let kind = rustix::fs::statfs(path)?.f_type;
    let device = rustix::fs::stat(path)?.st_dev;
    // A file system that is mounted without a block device has a number of major 0.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the types differ between architectures"
    )]
    let (kind, has_device) = (kind as u64 & 0xffff_ffff, rustix::fs::major(device as u64) != 0);
    Ok(name_of(kind, has_device))
}

/// `None`: unknown on this system.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn shared_file_system(_path: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// The bytes that this process can still allocate in the file system that this path lies in. Limits of a user or of a
/// directory (quotas) are not counted. `None`: unknown.
#[cfg(unix)]
pub(crate) fn free_room(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    // The rest is for root alone.
    let blocks = if super::access::user() == 0 { found.f_bfree } else { found.f_bavail };
    // A file system without a size, such as a tmpfs without a bound, says 0.
    (found.f_blocks > 0).then(|| blocks.saturating_mul(found.f_frsize))
}

/// Unknown on this system.
#[cfg(not(unix))]
pub(crate) fn free_room(_path: &Path) -> Option<u64> {
    None
}

/// Whether these two paths lie in one file system, whose room they share. False also if either does not exist.
#[cfg(unix)]
pub(crate) fn share_room(one: &Path, other: &Path) -> bool {
    let device = |path| rustix::fs::stat(path).ok().map(|found| found.st_dev);
    device(one).is_some_and(|one| device(other) == Some(one))
}

/// Unknown on this system.
#[cfg(not(unix))]
pub(crate) fn share_room(_one: &Path, _other: &Path) -> bool {
    false
}

/// The file system of this path, if it does not outlast the container or a restart of the machine. `None`: it does, or
/// this is unknown.
#[cfg(all(feature = "_sqlite", any(target_os = "linux", target_os = "android")))]
pub(crate) fn passing_file_system(path: &Path) -> Option<&'static str> {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the type differs between architectures"
    )]
    match rustix::fs::statfs(path).ok()?.f_type as u64 & 0xffff_ffff {
        0x794c_7630 => Some("a container's own layer (overlay), which goes with the container"),
        0x0102_1994 | 0x8584_58f6 => Some("memory (tmpfs), which goes with the machine or the container"),
        _ => None,
    }
}

/// Whether a file is mounted by itself, so that what is beside it is elsewhere.
#[cfg(all(feature = "_sqlite", any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_mounted_alone(file: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let mount = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        // Kernels before 5.8 do not say it.
        (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
    };
    match (mount(file), file.parent().and_then(mount)) {
        (Some(file), Some(directory)) => file != directory,
        _ => false,
    }
}

#[cfg(all(feature = "_sqlite", not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn passing_file_system(_path: &Path) -> Option<&'static str> {
    None
}

#[cfg(all(feature = "_sqlite", not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn is_mounted_alone(_file: &Path) -> bool {
    false
}

/// The name of the file system with this magic number, as `statfs` gives it, if it is not local.
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn name_of(magic: u64, has_device: bool) -> Option<&'static str> {
    Some(match magic {
        // fuse, fuseblk and virtiofs have the same number.
        0x6573_5546 if !has_device => "FUSE or virtiofs",
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x7375_7245 => "Coda",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x564c => "NCP",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0xaad7_aaea => "PanFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x786f_4256 => "a shared folder of VirtualBox",
        0xbacb_acbc => "a shared folder of VMware",
        0x7c7c_6673 => "a shared folder of Parallels",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_others_may_mount_are_known_by_their_numbers() {
        for (magic, name) in [
            (0x6573_5546, "FUSE or virtiofs"),
            (0x6969, "NFS"),
            (0xff53_4d42, "SMB"),
            (0x0102_1997, "9p"),
            (0x00c3_6400, "Ceph"),
        ] {
            assert_eq!(name_of(magic, false), Some(name));
        }
        // ext4, xfs, btrfs, tmpfs, overlay, zfs.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!((name_of(magic, false), name_of(magic, true)), (None, None));
        }
        assert_eq!(name_of(0x6573_5546, true), None, "a block device under FUSE is local");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn room_is_known_where_there_is_a_size() {
        let directory = std::env::temp_dir();
        assert!(free_room(&directory).is_some_and(|free| free > 0));
        assert_eq!((free_room(Path::new("/proc")), free_room(Path::new("/proc/nothing"))), (None, None));
        assert!(share_room(&directory, &directory) && !share_room(&directory, Path::new("/proc")));
        assert!(!share_room(Path::new("/proc/nothing"), Path::new("/proc/nothing")));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_file_system_of_a_path_is_looked_up() {
        assert_eq!(shared_file_system(Path::new("/proc")).unwrap(), None);
        assert_eq!(shared_file_system(&std::env::temp_dir()).unwrap(), None);
        assert!(shared_file_system(Path::new("/proc/nothing")).is_err());
    }
}
