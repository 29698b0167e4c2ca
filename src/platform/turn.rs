//! Turns: those who write one file take turns at it, in the order in which they ask.
//!
//! A small file keeps the number of the next ticket. To ask for a turn is to draw a ticket, which is a number and a lock on
//! the byte of that number, and to wait for the lock on the byte before. The previous asker holds that one until its own
//! turn is over. So each waits for one other, and nobody overtakes. The kernel releases the locks of a process that ends.
//!
//! Turns are cooperative. They make a database's own lock fair and do not replace it: whatever is wrong with the file or
//! with those who use it, the caller continues without a turn.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use super::file::{read_up_to, write_all_at};

/// Numbers of tickets, which start again from 0: every byte that is locked has an offset that fits into 31 bits.
const TICKETS: u64 = 1 << 30;

/// The bytes of the number in the file. A lock on the first of them is held while a ticket is drawn.
const NUMBER: usize = 8;
const GATE: u64 = 0;

/// The most threads of this process that wait for turns. Reconnecting again and again beside a turn that never ends must not
/// add threads without a bound.
const WAITERS_MAX: usize = 64;
static WAITERS: AtomicUsize = AtomicUsize::new(0);

/// The turns at one file, for one who writes it.
#[derive(Debug)]
pub(crate) struct Turns {
    file: Arc<File>,
    /// The thread that waits for a turn, since the kernel's wait has no bound.
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
    pub(crate) fn beside(file: &Path) -> io::Result<Self> {
        let file = std::fs::canonicalize(file)?;
        let mut path = file.clone().into_os_string();
        path.push(".turn");
        Self::open(path.as_ref(), &file)
    }

    fn open(path: &Path, like: &Path) -> io::Result<Self> {
        let existing = || open_options().open(path);
        let file = match existing() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => match create(path, like) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => existing()?,
                created => created?,
            },
            opened => opened?,
        };
        if !is_of_this_kind(&file.metadata()?) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
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
        let drawn = Turn::draw(&self.file, false).ok()?;
        if let Some(turn) = &drawn
            && turn.has_come(false).ok()?
        {
            return drawn;
        }
        let waiting = Waiting::begin()?;
        let (sender, turn) = oneshot::channel();
        let file = Arc::clone(&self.file);
        let wait = move || {
            let _waiting = waiting;
            let drawn = drawn.map_or_else(|| Turn::draw(&file, true), |turn| Ok(Some(turn)));
            if let Ok(Some(turn)) = drawn
                && turn.has_come(true).is_ok()
            {
                // If the turn was given up, it ends here.
                drop(sender.send(turn));
            }
        };
        let name = "tracing-audit-turn".to_owned();
        self.waiter = Some(std::thread::Builder::new().name(name).spawn(wait).ok()?);
        let turn = tokio::time::timeout(at_most, turn).await.ok()?.ok()?;
        self.waiter = None;
        Some(turn)
    }
}

impl Turn {
    /// Draws the next ticket. `None` if another is being drawn and this call may not wait.
    fn draw(file: &Arc<File>, may_wait: bool) -> io::Result<Option<Self>> {
        if !lock(file, GATE, may_wait)? {
            return Ok(None);
        }
        let drawn = Self::next(file);
        unlock(file, GATE)?;
        drawn.map(Some)
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

    /// Whether the turn of the ticket before has ended.
    fn has_come(&self, may_wait: bool) -> io::Result<bool> {
        let before = byte_of((self.ticket + TICKETS - 1) % TICKETS);
        let has_come = lock(&self.file, before, may_wait)?;
        if has_come {
            unlock(&self.file, before)?;
        }
        Ok(has_come)
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

/// Options to read and write a file, but no link, and without waiting for the other end of a pipe.
fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Creates the file with the owner and the mode of the file `like`, so that whoever may write that one may take turns.
#[cfg(unix)]
fn create(path: &Path, like: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
    let like = std::fs::metadata(like)?;
    let mode = like.mode() & 0o666;
    let file = open_options().create_new(true).mode(mode).open(path)?;
    // Where this is not permitted, the users who cannot open the file continue without turns.
    file.set_permissions(PermissionsExt::from_mode(mode)).unwrap_or_default();
    fchown(&file, Some(like.uid()), Some(like.gid())).unwrap_or_default();
    Ok(file)
}

#[cfg(not(unix))]
fn create(path: &Path, _like: &Path) -> io::Result<File> {
    open_options().create_new(true).open(path)
}

/// Whether this is a file of turns. Another name for some other file is not, whatever its size.
fn is_of_this_kind(found: &Metadata) -> bool {
    #[cfg(unix)]
    let has_other_names = std::os::unix::fs::MetadataExt::nlink(found) != 1;
    #[cfg(not(unix))]
    let has_other_names = false;
    found.is_file() && found.len() <= NUMBER as u64 && !has_other_names
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

/// Locks that belong to an open file, not to the process, are Linux's alone.
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

    use futures_util::future::join_all;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn turns(directory: &Path) -> Turns {
        Turns::open(&directory.join("turn"), directory).unwrap()
    }

    #[tokio::test]
    async fn turns_come_in_the_order_in_which_they_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let first = turns(directory.path()).wait(LONG).await.unwrap();
        let order = std::cell::RefCell::new(Vec::new());
        let askers = (0..20).map(|number| {
            let (mut turns, order) = (turns(directory.path()), &order);
            async move {
                let turn = turns.wait(LONG).await.unwrap();
                order.borrow_mut().push(number);
                tokio::task::yield_now().await;
                drop(turn);
            }
        });
        let end_first = async {
            // All others have asked by now.
            tokio::task::yield_now().await;
            assert!(order.borrow().is_empty());
            drop(first);
        };
        tokio::join!(biased; join_all(askers), end_first);
        assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
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

    #[test]
    fn whoever_may_write_the_file_by_whatever_name_may_take_its_turns() {
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
            Turns::beside(&path(name)).unwrap();
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
}
