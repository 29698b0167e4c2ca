//! A directory that is mounted a second time, through FUSE.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A second place at which a directory is mounted, through FUSE. `None` if this machine, or its container, has no FUSE.
pub(crate) struct Fuse(pub(crate) PathBuf);

impl Fuse {
    pub(crate) fn mount(of: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut bindfs = Command::new("bindfs");
        let mounted = bindfs.arg("--no-allow-other").args([of, at]).stderr(Stdio::null()).status();
        let mounted = mounted.expect("'bindfs' is needed: on Debian, 'apt-get install bindfs'").success();
        let has_fuse = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
        assert!(mounted || !has_fuse, "bindfs mounts nothing");
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}
