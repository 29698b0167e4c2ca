//! Adopts and reads the journals of dead processes on threads of their own, so that a file that hangs keeps neither the
//! flusher nor another journal waiting.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use uuid::Uuid;

use super::{
    holdings::Holdings,
    reading::{self, ReadBacklog},
    strangers::Strangers,
};
use crate::engine::Engine;
use crate::error::{AuditError, ErrorKind};
use crate::platform::moment_after;
use crate::queue::{
    Backlog, Found, Journal, JournalEnd, JournalHome, Known, Stranger, inspect_journal, journal_error,
};

/// Pause after the first look for journals of dead processes. It doubles with each look, since a process that this one
/// replaces may take a moment to end.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Longest pause between two looks.
pub(super) const ADOPT_EVERY: Duration = Duration::from_mins(1);
/// Pause between two looks while somebody waits for a journal that another log has adopted.
const OTHERS_EVERY: Duration = Duration::from_millis(200);
/// The most journals that are being adopted at the same time. One that hangs is not counted.
const ADOPTING_MAX: usize = 4;
/// The most journals that are held at the same time, each with two or three open files. The others wait.
const ADOPTED_MAX: usize = 8;

/// Work on files, done on another thread.
enum Done {
    /// The directories that may be journals.
    Looked(io::Result<Vec<PathBuf>>),
    Adopted(io::Result<Found>),
    /// It is the journal of a dead process, which is adopted when there is room for it.
    Waits(Uuid, JournalEnd),
    Read(io::Result<Box<ReadBacklog>>),
    /// The journal is removed: everything in it is settled.
    Removed(io::Result<()>),
    /// A journal that is not this log's.
    Inspected(io::Result<Option<Journal>>),
}

/// When work began.
struct Begun {
    since: Instant,
    is_late: bool,
    reads: bool,
}

/// The journals of dead processes, and what is being done with each.
pub(super) struct Adoption {
    place: JournalHome,
    own: Uuid,
    working: FuturesUnordered<BoxFuture<'static, (PathBuf, Done)>>,
    /// Work by the directory that it is done in.
    begun: BTreeMap<PathBuf, Begun>,
    finished: Vec<(PathBuf, Done)>,
    /// Directories to adopt.
    found: VecDeque<PathBuf>,
    /// Directories to adopt when others are done.
    waiting: VecDeque<PathBuf>,
    /// Directories that have given their unused room back.
    trimmed: BTreeSet<PathBuf>,
    adopted: VecDeque<Backlog>,
    read: VecDeque<ReadBacklog>,
    /// Directories that cannot be read, or whose files have not answered in time.
    troubled: BTreeSet<PathBuf>,
    /// Journals that name another address, and whose writer the ledger knows.
    known: BTreeSet<PathBuf>,
    pub(super) strangers: Strangers,
    pub(super) holdings: Holdings,
    /// The last request that there was when the last look began.
    asked: u64,
    look_at: Instant,
    /// The pause after the next look.
    look_after: Duration,
}

impl Adoption {
    /// Nothing is adopted yet; the first look is due at once.
    pub(super) fn new(place: JournalHome, own: Uuid) -> Self {
        Self {
            place,
            own,
            working: FuturesUnordered::new(),
            begun: BTreeMap::new(),
            finished: Vec::new(),
            found: VecDeque::new(),
            waiting: VecDeque::new(),
            trimmed: BTreeSet::new(),
            adopted: VecDeque::new(),
            read: VecDeque::new(),
            troubled: BTreeSet::new(),
            known: BTreeSet::new(),
            strangers: Strangers::default(),
            holdings: Holdings::default(),
            asked: 0,
            look_at: Instant::now(),
            look_after: FIRST_LOOK,
        }
    }

    /// Whether records have been read that are not committed yet.
    pub(super) fn has_read(&self) -> bool {
        !self.read.is_empty()
    }

    /// Waits until [`go_on`](Self::go_on) has to be called. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self, engine: &Engine) {
        // A journal that is ready is read at once, unless another is being read.
        if self.strangers.has_to_ask()
            || self.holdings.uncounted().is_some()
            || !self.adopted.is_empty() && !self.is_reading()
        {
            return;
        }
        let limit = engine.settings.commit_timeout;
        let late =
            self.begun.values().filter(|begun| !begun.is_late).map(|begun| moment_after(begun.since, limit));
        let look = (!self.is_looking()).then_some(self.look_at);
        let due = late.chain(look).min().unwrap_or_else(|| Instant::now() + ADOPT_EVERY);
        let done = async {
            match self.working.next().await {
                Some(done) => done,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = done => self.finished.push(done),
            () = engine.recovery.notified() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }

    /// Takes in what other threads have done, and gives them more to do.
    pub(super) fn go_on(&mut self, engine: &Engine) {
        while let Some(Some(done)) = self.working.next().now_or_never() {
            self.finished.push(done);
        }
        for (directory, done) in std::mem::take(&mut self.finished) {
            self.take_in(engine, directory, done);
        }
        self.tell_late(engine);
        self.look(engine);
        if self.has_room() {
            self.found.append(&mut self.waiting);
        }
        while self.begun.values().filter(|begun| !begun.is_late && !begun.reads).count() < ADOPTING_MAX {
            let Some(directory) = self.found.pop_front() else { break };
            if self.begun.contains_key(&directory) {
                self.waiting.push_back(directory);
                continue;
            }
            let has_room = self.has_room();
            let is_new = self.trimmed.insert(directory.clone());
            if !has_room {
                self.waiting.push_back(directory.clone());
                if !is_new {
                    continue;
                }
            }
            self.begin_to_adopt(engine, directory, has_room);
        }
        if self.begun.values().all(|begun| begun.is_late)
            && let Some(directory) = self.strangers.next_to_count(|path| self.begun.contains_key(path))
        {
            let journal = directory.clone();
            self.begin(directory, false, move || Done::Inspected(inspect_journal(&journal)));
        }
        self.strangers.tell(engine);
    }

    fn is_looking(&self) -> bool {
        self.begun.contains_key(&self.place.directory)
    }

    /// Begins to look for journals, if that is due or somebody asks for everything.
    fn look(&mut self, engine: &Engine) {
        let asked = engine.recovery_asked.load(Ordering::Acquire);
        if self.is_looking() {
            return;
        }
        if self.holdings.waits_for_others(engine) {
            self.look_at = self.look_at.min(Instant::now() + OTHERS_EVERY);
        }
        let is_due = Instant::now() >= self.look_at;
        if !is_due && asked <= self.asked {
            return;
        }
        self.asked = asked;
        if is_due {
            self.look_at = Instant::now() + self.look_after;
            self.look_after = (self.look_after * 2).min(ADOPT_EVERY);
        }
        let place = self.place.clone();
        self.begin(place.directory.clone(), false, move || Done::Looked(Backlog::candidates(&place)));
    }

    fn begin_to_adopt(&mut self, engine: &Engine, directory: PathBuf, has_room: bool) {
        let (place, own, journal) = (self.place.clone(), self.own, directory.clone());
        let (store, is_known) = (engine.settings.store.clone(), self.known.contains(&directory));
        self.begin(directory, false, move || {
            let is_also = |name: &str| {
                if is_known { Some(true) } else { store.backend().is_also(&place.directory, name) }
            };
            match Backlog::adopt(&place, own, &journal, &is_also) {
                // Adopting it has given its unused room on the disk back, and no more.
                Ok(Found::Dead(backlog)) if !has_room => Done::Waits(backlog.journal, backlog.end),
                found => Done::Adopted(found),
            }
        });
    }

    /// Whether another journal may be held.
    fn has_room(&self) -> bool {
        let busy = self.begun.values().filter(|begun| !begun.is_late).count();
        self.adopted.len() + self.read.len() + busy < ADOPTED_MAX
    }

    /// An adopted journal to read next, unless one is being read.
    pub(super) fn next_to_read(&mut self) -> Option<Backlog> {
        if self.is_reading() { None } else { self.adopted.pop_front() }
    }

    /// Reads the next records of a journal, on another thread.
    pub(super) fn begin_to_read(&mut self, backlog: Backlog, from: u64, known: Option<Known>) {
        let directory = backlog.directory().to_owned();
        // A journal that cannot be read is let go: the next look adopts it again.
        self.begin(directory, true, move || Done::Read(reading::read(backlog, from, known)));
    }

    pub(super) fn next_read(&mut self) -> Option<ReadBacklog> {
        self.read.pop_front()
    }

    /// Another batch of this journal is to be read.
    pub(super) fn put_back(&mut self, backlog: Backlog) {
        self.adopted.push_back(backlog);
    }

    /// Removes a journal that is settled.
    pub(super) fn remove(&mut self, backlog: Backlog) {
        let directory = backlog.directory().to_owned();
        self.begin(directory, false, move || Done::Removed(backlog.finish()));
    }

    /// Whether a journal is being read, and has not hung, or has been read and is not committed.
    fn is_reading(&self) -> bool {
        self.has_read() || self.begun.values().any(|begun| begun.reads && !begun.is_late)
    }

    fn begin(&mut self, directory: PathBuf, reads: bool, work: impl FnOnce() -> Done + Send + 'static) {
        // `spawn_blocking` panics if no thread can be started. The panic hook has shown the reason; the next look tries
        // again.
        let working = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(work)));
        let Ok(working) = working else { return };
        self.begun.insert(directory.clone(), Begun { since: Instant::now(), is_late: false, reads });
        self.working.push(
            async move {
                let done = working.await.unwrap_or_else(|panic| Done::Removed(Err(io::Error::other(panic))));
                (directory, done)
            }
            .boxed(),
        );
    }

    /// Whether something is done with the journal in this directory, or will be before the next look.
    fn is_in_work(&self, directory: &Path) -> bool {
        self.begun.contains_key(directory)
            || self.adopted.iter().any(|backlog| backlog.directory() == directory)
            || self.read.iter().any(|read| read.backlog.directory() == directory)
    }

    /// The ledger has said whether this journal, which names another address, is of a writer that it knows.
    pub(super) fn answered(
        &mut self,
        engine: &Engine,
        directory: PathBuf,
        stranger: &Stranger,
        is_known: bool,
    ) {
        let error = |message| AuditError::new(ErrorKind::Store, message);
        let place = directory.display();
        match (is_known, &stranger.names, stranger.newer) {
            (true, Some((database, _)), None) => {
                engine.status.noticed(error(format!(
                    "the journal in {place} names the database {database}, and this ledger knows its writer: its entries are \
                     committed here; a copy of a database needs a directory of journals of its own"
                )));
                self.known.insert(directory.clone());
                // It may have to wait until there is room.
                self.found.push_back(directory);
            }
            (true, _, Some(version)) => {
                let error = error(format!(
                    "the journal in {place} is in format {version}, which this version cannot read, and this ledger knows \
                     its writer: open the log with the version that wrote it, or a later one"
                ));
                engine.status.noticed(error.clone());
                self.holdings.left(&directory, error);
            }
            _ => {
                self.holdings.settled(&directory);
                self.strangers.add(directory, stranger);
            }
        }
    }

    /// Takes in the names that a look has found.
    fn looked(&mut self, found: Vec<PathBuf>) {
        self.troubled.retain(|troubled| found.contains(troubled) || self.begun.contains_key(troubled));
        let mut holdings = std::mem::take(&mut self.holdings);
        holdings.found(self.asked, &found, |path| self.is_in_work(path));
        self.holdings = holdings;
        self.strangers.found(&found);
        self.known.retain(|known| found.contains(known));
        self.found = found.into_iter().filter(|found| !self.is_in_work(found)).collect();
        self.waiting.clear();
        self.trimmed.retain(|trimmed| self.found.contains(trimmed) || self.begun.contains_key(trimmed));
    }

    fn take_in(&mut self, engine: &Engine, directory: PathBuf, done: Done) {
        self.begun.remove(&directory);
        let failed = match done {
            Done::Looked(Ok(found)) => {
                self.looked(found);
                None
            }
            // It is out of trouble when it has been read.
            Done::Adopted(Ok(Found::Dead(backlog))) => {
                self.holdings.dead(&directory, backlog.journal, backlog.end);
                return self.put_back(*backlog);
            }
            Done::Waits(journal, end) => return self.holdings.dead(&directory, journal, end),
            Done::Adopted(Ok(Found::Adopted)) => {
                self.holdings.elsewhere(&directory);
                None
            }
            Done::Adopted(Ok(Found::Stranger(stranger))) => {
                if stranger.may_be_ours {
                    self.strangers.ask(directory.clone(), stranger);
                } else {
                    self.holdings.settled(&directory);
                    self.strangers.add(directory.clone(), &stranger);
                }
                None
            }
            Done::Adopted(Ok(Found::Nothing)) | Done::Removed(Ok(())) => {
                self.holdings.settled(&directory);
                None
            }
            Done::Inspected(inspected) => {
                let journal = inspected.ok().flatten();
                return self.strangers.counted(&directory, journal.as_ref());
            }
            Done::Read(Ok(read)) => {
                self.read.push_back(*read);
                None
            }
            // Another process has just finished with this journal; or there is no directory of journals any more.
            Done::Looked(Err(cause)) if cause.kind() == io::ErrorKind::NotFound => {
                self.looked(Vec::new());
                None
            }
            Done::Adopted(Err(cause)) | Done::Removed(Err(cause))
                if cause.kind() == io::ErrorKind::NotFound =>
            {
                self.holdings.settled(&directory);
                None
            }
            Done::Looked(Err(cause))
            | Done::Adopted(Err(cause))
            | Done::Removed(Err(cause))
            | Done::Read(Err(cause)) => Some(cause),
        };
        if let Some(cause) = failed {
            let error = journal_error(&directory, cause);
            return self.in_trouble(engine, directory, error);
        }
        self.troubled.remove(&directory);
        if self.troubled.is_empty() {
            engine.status.left_behind(None);
        }
    }

    /// Nothing in this directory is committed until somebody mends it.
    fn in_trouble(&mut self, engine: &Engine, directory: PathBuf, error: AuditError) {
        engine.status.left_behind(Some(error.clone()));
        if directory == self.place.directory {
            self.holdings.unlooked(engine.recovery_asked.load(Ordering::Acquire), error);
        } else {
            self.holdings.left(&directory, error);
        }
        self.troubled.insert(directory);
    }

    /// Reports work that has not ended for longer than callers wait. Its thread is left to it.
    fn tell_late(&mut self, engine: &Engine) {
        let limit = engine.settings.commit_timeout;
        let now = Instant::now();
        let mut late = Vec::new();
        for (directory, begun) in &mut self.begun {
            if !begun.is_late && moment_after(begun.since, limit) <= now {
                begun.is_late = true;
                late.push(directory.clone());
            }
        }
        for directory in late {
            let message = format!(
                "the journal in {} has not answered for {limit:?}: see whether its disk, or what is in the place of a file, \
                 hangs",
                directory.display()
            );
            self.in_trouble(engine, directory, AuditError::new(ErrorKind::Store, message));
        }
        if let Some(look) = self.begun.get(&self.place.directory)
            && look.is_late
        {
            // Nobody waits for a directory that hangs.
            self.holdings.still_unlooked(engine.recovery_asked.load(Ordering::Acquire));
        }
    }
}
