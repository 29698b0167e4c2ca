//! Temporary files, which also a signal that ends the command removes.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::{NamedTempFile, TempDir};

/// The temporary files and directories that exist at the moment.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn made() -> MutexGuard<'static, Vec<PathBuf>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file for this user alone. It is removed when it is dropped.
pub(crate) struct Temporary(NamedTempFile);

impl Temporary {
    /// Makes one in the directory of `path`, to which it may be renamed.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        remove_all_on_signals()?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // A signal that comes now waits until the file is in the list.
        let mut made = made();
        let file = NamedTempFile::with_prefix_in(".tracing-audit-", directory.unwrap_or(Path::new(".")))?;
        made.push(file.path().to_owned());
        Ok(Self(file))
    }

    pub(crate) fn file(&self) -> &File {
        self.0.as_file()
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut made = made();
        // If it has got its name, nothing is left to remove.
        drop(std::fs::remove_file(self.path()));
        made.retain(|made| made != self.0.path());
    }
}

/// Removes the temporary files and directories, before the process ends at once.
pub(crate) fn remove_temporary() {
    remove(&made());
}

fn remove(made: &[PathBuf]) {
    for path in made {
        // One that has just got its name is gone.
        drop(std::fs::remove_file(path));
        drop(std::fs::remove_dir_all(path));
    }
}

/// A temporary directory for this user alone. It is removed when it is dropped.
pub(crate) struct TemporaryDirectory(TempDir);

impl TemporaryDirectory {
    /// Makes one where SQLite makes its temporary files.
    pub(crate) fn new() -> io::Result<Self> {
        remove_all_on_signals()?;
        let set = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os);
        let places = set.chain(["/var/tmp", "/usr/tmp", "/tmp", "."].map(Into::into));
        let mut made = made();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in places {
            match tempfile::Builder::new().prefix(".tracing-audit-").tempdir_in(&place) {
                Ok(directory) => {
                    made.push(directory.path().to_owned());
                    return Ok(Self(directory));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let mut made = made();
        drop(std::fs::remove_dir_all(self.path()));
        made.retain(|made| made != self.0.path());
    }
}

/// From the first call on, SIGINT, SIGTERM and SIGHUP remove the temporary files before they end the command. A signal
/// that the caller has chosen to ignore stays ignored.
#[cfg(unix)]
fn remove_all_on_signals() -> io::Result<()> {
    use futures_util::future::select_all;
    use tokio::signal::unix::{SignalKind, signal};

    static WATCHED: Mutex<bool> = Mutex::new(false);
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    if *watched {
        return Ok(());
    }
    let ignored = ignored();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let kinds: Vec<_> =
        kinds.into_iter().filter(|kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0).collect();
    // A thread of its own, because the command may be waiting for a pipe when the signal comes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut signals = Vec::new();
    for kind in kinds {
        signals.push((kind, signal(kind)?));
    }
    drop(entered);
    if !signals.is_empty() {
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let any = signals.iter_mut().map(|(kind, signal)| {
                Box::pin(async move {
                    signal.recv().await;
                    *kind
                })
            });
            let (kind, ..) = runtime.block_on(select_all(any));
            // Held until the end: no other one is made.
            let made = made();
            remove(&made);
            std::process::exit(128 + kind.as_raw_value());
        })?;
    }
    *watched = true;
    Ok(())
}

/// The signals that are ignored: `nohup` and shells choose that. Unknown, and none, on systems other than Linux.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
fn remove_all_on_signals() -> io::Result<()> {
    Ok(())
}
