//! A directory that is mounted a second time, through FUSE.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A second place at which a directory is mounted, through FUSE.
pub(crate) struct Fuse(pub(crate) PathBuf);

/// Says that this machine can have no FUSE.
const WITHOUT: &str = "TRACING_AUDIT_TEST_WITHOUT_FUSE";

impl Fuse {
    /// `None` only where somebody says, by the variable [`WITHOUT`], that this machine can have no FUSE.
    pub(crate) fn mount(of: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut bindfs = Command::new("bindfs");
        let mounted = bindfs.arg("--no-allow-other").args([of, at]).stderr(Stdio::null()).status();
        let mounted = mounted.expect("'bindfs' is needed: on Debian, 'apt-get install bindfs'").success();
        if mounted {
            return Some(Self(at.to_owned()));
        }
        let device = fs::File::options().read(true).write(true).open("/dev/fuse");
        assert!(
            device.is_err() && std::env::var_os(WITHOUT).is_some(),
            "bindfs mounts nothing, and /dev/fuse says {device:?}: 'modprobe fuse'; in a container, start it with '--device \
             /dev/fuse --cap-add SYS_ADMIN', or 'mknod /dev/fuse c 10 229' as root; where there can be none, set {WITHOUT}=1, \
             and this test is not run"
        );
        println!("not run: there is no FUSE, as {WITHOUT} says");
        None
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}
