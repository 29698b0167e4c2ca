//! Turns: those who write one file take turns at it, in the order in which they ask.
//!
//! A small file keeps the number of the next ticket. To ask for a turn is to draw a ticket, which is a number and a lock on
//! the byte of that number, and to wait for the lock on the byte before. The previous asker holds that one until its own
//! turn is over. So each waits for one other, and nobody overtakes. The kernel releases the locks of a process that ends.
//!
//! Turns are cooperative. They make a database's own lock fair and do not replace it: whatever is wrong with the file or
//! with those who use it, the caller continues without a turn.

#[cfg(target_os = "linux")]
use std::fs::OpenOptions;
use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

use super::file::{read_up_to, write_all_at};

/// Numbers of tickets, which start again from 0: every byte that is locked has an offset that fits into 31 bits.
const TICKETS: u64 = 1 << 30;

/// The bytes of the number in the file. A lock on the first of them is held while a ticket is drawn.
const NUMBER: usize = 8;
const GATE: u64 = 0;

/// The most threads of this process that wait for turns. Reconnecting again and again while a turn never ends must not
/// add threads without a bound.
const WAITERS_MAX: usize = 64;
static WAITERS: AtomicUsize = AtomicUsize::new(0);

/// The turns at one file, for one who writes it.
#[derive(Debug)]
pub(crate) struct Turns {
    file: Arc<File>,
    /// The work on another thread that waits for a turn.
    waiter: Option<JoinHandle<()>>,
}

/// A ticket, and once it has come a turn. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    file: Arc<File>,
    ticket: u64,
}

impl Turns {
    /// Opens the turns at writing this file. They are kept in a file beside it, with `.turn` after its name, which is created
    /// with the owner and the mode of this one, and stays. Links to this file are followed, so that all its names have the
    /// same turns.
    ///
    /// An error if no turns can be taken. A link, a pipe or a file of another kind in that place is never written.
    pub(crate) async fn beside(file: PathBuf) -> io::Result<Self> {
        let open = move || {
            let file = std::fs::canonicalize(file)?;
            let mut path = file.clone().into_os_string();
            path.push(".turn");
            Self::open(path.as_ref(), &file)
        };
        match on_thread_that_may_block(open) {
            Some(opened) => opened.await.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    fn open(path: &Path, like: &Path) -> io::Result<Self> {
        let file = match existing(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => match create(path, like) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => existing(path)?,
                created => created?,
            },
            opened => opened?,
        };
        // A file system without locks says so here.
        if lock(&file, GATE, false)? {
            unlock(&file, GATE)?;
        }
        Ok(Self { file: Arc::new(file), waiter: None })
    }

    /// Waits for a turn, at most this long. `None` if it has not come, if an earlier one that was given up has not come
    /// yet, or if the file fails: then the caller continues without a turn.
    ///
    /// # Cancel safety
    /// Dropping the future gives the turn up.
    pub(crate) async fn wait(&mut self, at_most: Duration) -> Option<Turn> {
        if self.waiter.as_ref().is_some_and(|waiter| !waiter.is_finished()) {
            return None;
        }
        self.waiter = None;
        let waiting = Waiting::begin()?;
        let (sender, turn) = oneshot::channel();
        let file = Arc::clone(&self.file);
        // Neither the kernel's wait for a lock nor a disk that hangs has a bound, and this thread keeps the time for
        // every limit: another one waits.
        let wait = move || {
            let _waiting = waiting;
            if let Ok(turn) = Turn::draw(&file)
                && turn.come().is_ok()
            {
                // If the turn was given up, it ends here.
                drop(sender.send(turn));
            }
        };
        self.waiter = Some(on_thread_that_may_block(wait)?);
        let turn = tokio::time::timeout(at_most, turn).await.ok()?.ok()?;
        self.waiter = None;
        Some(turn)
    }
}

/// Runs `work` on another thread. `None` if there can be none: then the panic hook has reported it.
fn on_thread_that_may_block<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<JoinHandle<T>> {
    catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(work))).ok()
}

impl Turn {
    /// Draws the next ticket, and waits while another is drawn.
    fn draw(file: &Arc<File>) -> io::Result<Self> {
        lock(file, GATE, true)?;
        let drawn = Self::next(file);
        unlock(file, GATE)?;
        drawn
    }

    fn next(file: &Arc<File>) -> io::Result<Self> {
        let mut number = [0; NUMBER];
        // A new file is empty, which reads as 0.
        read_up_to(file, &mut number, 0)?;
        let ticket = u64::from_le_bytes(number) % TICKETS;
        write_all_at(file, &((ticket + 1) % TICKETS).to_le_bytes(), 0)?;
        if lock(file, byte_of(ticket), false)? {
            return Ok(Self { file: Arc::clone(file), ticket });
        }
        // Somebody has changed the number in the file.
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Waits until the turn of the ticket before has ended.
    fn come(&self) -> io::Result<()> {
        let before = byte_of((self.ticket + TICKETS - 1) % TICKETS);
        lock(&self.file, before, true)?;
        unlock(&self.file, before)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // An error leaves the lock to the kernel, which releases it when the file is closed.
        unlock(&self.file, byte_of(self.ticket)).unwrap_or_default();
    }
}

fn byte_of(ticket: u64) -> u64 {
    NUMBER as u64 + ticket
}

/// A thread that waits, counted as long as it does.
struct Waiting;

impl Waiting {
    fn begin() -> Option<Self> {
        let waiting = Self;
        (WAITERS.fetch_add(1, Ordering::Relaxed) < WAITERS_MAX).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the file of turns, if that is what the path names. Any other file is not even opened: to close any descriptor
/// of a database would release the locks of every connection that this process has to it, and a link may lead to one.
#[cfg(target_os = "linux")]
fn existing(path: &Path) -> io::Result<File> {
    use std::os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    };
    let mut options = OpenOptions::new();
    // A descriptor that only stands for the file: it opens neither a device nor a pipe, and has no part in locks.
    let place = options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = place.metadata()?;
    if !found.is_file() || found.len() > NUMBER as u64 || found.nlink() != 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The same file, whatever the path names by now.
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(same)
}

/// Creates the file with the owner and the mode of the file `like`, so that every user who may write that one may take
/// turns.
#[cfg(target_os = "linux")]
fn create(path: &Path, like: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
    let like = std::fs::metadata(like)?;
    let mode = like.mode() & 0o666;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
    // If one of these is not permitted, the users who cannot open the file continue without turns. A group of one's own
    // can be given even if the owner cannot.
    file.set_permissions(PermissionsExt::from_mode(mode)).unwrap_or_default();
    fchown(&file, None, Some(like.gid())).unwrap_or_default();
    fchown(&file, Some(like.uid()), None).unwrap_or_default();
    Ok(file)
}

/// Locks that belong to an open file, not to the process, are Linux's alone.
#[cfg(not(target_os = "linux"))]
fn existing(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn create(_path: &Path, _like: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Locks a byte for this open file. False if another one has it locked, and this call may not wait.
#[cfg(target_os = "linux")]
fn lock(file: &File, byte: u64, may_wait: bool) -> io::Result<bool> {
    let command = if may_wait { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
    match set_lock(file, byte, libc::F_WRLCK, command) {
        Ok(()) => Ok(true),
        Err(cause) if matches!(cause.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(cause) => Err(cause),
    }
}

#[cfg(target_os = "linux")]
fn unlock(file: &File, byte: u64) -> io::Result<()> {
    set_lock(file, byte, libc::F_UNLCK, libc::F_OFD_SETLK)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the kernel's one way to lock a byte of an open file")]
fn set_lock(file: &File, byte: u64, kind: libc::c_int, command: libc::c_int) -> io::Result<()> {
    // SAFETY: all fields are numbers, for which 0 is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::c_short::try_from(kind).map_err(io::Error::other)?;
    range.l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
    range.l_start = libc::off_t::try_from(byte).map_err(io::Error::other)?;
    range.l_len = 1;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(file);
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed, and these commands only read `range`.
        if unsafe { libc::fcntl(descriptor, command, &raw const range) } == 0 {
            return Ok(());
        }
        let cause = io::Error::last_os_error();
        if cause.kind() != io::ErrorKind::Interrupted {
            return Err(cause);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn lock(_file: &File, _byte: u64, _may_wait: bool) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn unlock(_file: &File, _byte: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn turns(directory: &Path) -> Turns {
        Turns::open(&directory.join("turn"), directory).unwrap()
    }

    #[tokio::test]
    async fn turns_come_in_the_order_in_which_they_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let drawn = || fs::read(directory.path().join("turn")).unwrap().first().copied().unwrap_or(0);
        let first = turns(directory.path()).wait(LONG).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut askers = Vec::new();
        for number in 0..20 {
            let (mut turns, order) = (turns(directory.path()), Arc::clone(&order));
            askers.push(tokio::spawn(async move {
                let turn = turns.wait(LONG).await.unwrap();
                order.lock().unwrap().push(number);
                drop(turn);
            }));
            // Until it has drawn its ticket, after that of the first.
            while drawn() < number + 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(order.lock().unwrap().is_empty());
        drop(first);
        for asker in askers {
            asker.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_costs_one_wait_and_comes_again_when_it_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let held = turns(directory.path()).wait(LONG).await.unwrap();
        let mut others = turns(directory.path());
        assert!(others.wait(Duration::from_millis(50)).await.is_none());
        let start = Instant::now();
        assert!(others.wait(LONG).await.is_none() && start.elapsed() < LONG / 2);
        drop(held);
        while others.wait(LONG).await.is_none() {
            assert!(start.elapsed() < LONG);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The turn that was given up is over.
        assert!(turns(directory.path()).wait(LONG).await.is_some());
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_gives_the_turn_up() {
        let directory = tempfile::tempdir().unwrap();
        let held = turns(directory.path()).wait(LONG).await.unwrap();
        let mut given_up = turns(directory.path());
        tokio::time::timeout(Duration::from_millis(20), given_up.wait(LONG)).await.unwrap_err();
        drop(held);
        assert!(turns(directory.path()).wait(LONG).await.is_some());
    }

    #[tokio::test]
    async fn a_process_that_dies_gives_its_turn_up() {
        const TEST: &str = "platform::turn::tests::a_process_that_dies_gives_its_turn_up";
        const DIRECTORY: &str = "TRACING_AUDIT_TEST_DIRECTORY";
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            let _held = turns(Path::new(&directory)).wait(LONG).await.unwrap();
            std::process::abort();
        }
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([TEST, "--exact"]).env(DIRECTORY, directory.path());
        assert!(!child.output().unwrap().status.success());
        assert_eq!(fs::read(directory.path().join("turn")).unwrap(), 1_u64.to_le_bytes());
        assert!(turns(directory.path()).wait(LONG).await.is_some());
    }

    #[tokio::test]
    async fn whoever_may_write_the_file_by_whatever_name_may_take_its_turns() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("audit.db"), "").unwrap();
        fs::set_permissions(path("audit.db"), PermissionsExt::from_mode(0o662)).unwrap();
        let of =
            |name| fs::metadata(path(name)).map(|found| (found.mode(), found.uid(), found.gid())).unwrap();
        if of("audit.db").1 == 0 {
            chown(path("audit.db"), Some(12345), Some(54321)).unwrap();
        }
        std::os::unix::fs::symlink(path("audit.db"), path("link.db")).unwrap();
        for name in ["link.db", "audit.db"] {
            Turns::beside(path(name)).await.unwrap();
        }
        assert_eq!(of("audit.db.turn"), of("audit.db"));
        assert!(!path("link.db.turn").exists());
    }

    #[test]
    fn a_file_that_is_not_one_of_turns_is_neither_waited_for_nor_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("other"), "1234").unwrap();
        fs::write(path("long"), "123456789").unwrap();
        fs::hard_link(path("other"), path("hard")).unwrap();
        std::os::unix::fs::symlink(path("other"), path("link")).unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status();
        assert!(fifo.expect("'mkfifo' is needed: on Debian, 'apt-get install coreutils'").success());
        for name in ["hard", "long", "link", "dangling", "directory", "fifo", "none/turn"] {
            assert!(Turns::open(&path(name), directory.path()).is_err(), "{name}");
        }
        assert_eq!(fs::read(path("other")).unwrap(), b"1234");
        assert!(!path("nowhere").exists());
    }

    #[test]
    #[allow(unsafe_code, reason = "the kernel's one way to lock a file for a process, as SQLite does")]
    fn a_link_to_a_database_costs_no_connection_of_this_process_its_locks() {
        use std::os::fd::AsRawFd;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("audit.db"), "").unwrap();
        fs::hard_link(path("audit.db"), path("turn")).unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(path("audit.db")).unwrap();
        let (connection, other) = (open(), open());
        // SAFETY: all fields are numbers, for which 0 is a value, and means the whole file.
        let mut all: libc::flock = unsafe { std::mem::zeroed() };
        all.l_type = libc::c_short::try_from(libc::F_WRLCK).unwrap();
        // SAFETY: the descriptor is open, and the command only reads the range.
        assert_eq!(unsafe { libc::fcntl(connection.as_raw_fd(), libc::F_SETLK, &raw const all) }, 0);
        assert!(!lock(&other, GATE, false).unwrap(), "the connection has its lock");
        assert!(Turns::open(&path("turn"), &path("audit.db")).is_err());
        assert!(!lock(&other, GATE, false).unwrap(), "the connection still has its lock");
    }
}
