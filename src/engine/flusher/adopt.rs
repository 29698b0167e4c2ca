//! Adopts and reads the journals of dead processes on threads of their own, so that a file that hangs keeps neither the
//! flusher nor another journal waiting.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use uuid::Uuid;

use super::batch::{Bounds, journal_error};
use crate::engine::Engine;
use crate::error::{AuditError, ErrorKind};
use crate::platform::moment_after;
use crate::queue::{Backlog, JournalHome, Known, Records};

/// Pause after the first look for journals of dead processes. It doubles with each look, since a process that this one
/// replaces may take a moment to end.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Longest pause between two looks.
pub(super) const ADOPT_EVERY: Duration = Duration::from_mins(1);
/// The most journals that are being adopted at the same time. One that hangs is not counted.
const ADOPTING_MAX: usize = 4;
/// The most journals that are held at the same time, each with two or three open files. The others wait.
const ADOPTED_MAX: usize = 8;

/// Work on files, done on another thread.
enum Done {
    /// The directories that may be journals.
    Found(io::Result<Vec<PathBuf>>),
    /// `None`: the directory is no journal of a dead process of this log's database.
    Adopted(io::Result<Option<Backlog>>),
    /// The records after this position.
    Read(Backlog, u64, io::Result<Records>),
    /// The journal is removed: everything in it is settled.
    Removed(io::Result<()>),
}

/// When work began.
struct Begun {
    since: Instant,
    is_late: bool,
    reads: bool,
}

/// A journal that was read, and what to commit.
pub(super) struct ReadBacklog {
    pub(super) backlog: Backlog,
    /// The position after which the records were read.
    pub(super) from: u64,
    pub(super) records: Records,
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
    /// Adopted journals, and the time before which they are not read again.
    adopted: VecDeque<(Backlog, Instant)>,
    read: VecDeque<ReadBacklog>,
    /// Directories that cannot be read, or whose files have not answered in time.
    troubled: BTreeSet<PathBuf>,
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
            look_at: Instant::now(),
            look_after: FIRST_LOOK,
        }
    }

    /// Whether records have been read that are not committed yet.
    pub(super) fn has_read(&self) -> bool {
        !self.read.is_empty()
    }

    /// Waits until [`go_on`](Self::go_on) has to be called. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self, limit: Duration) {
        let waits = self.adopted.iter().map(|(_, not_before)| *not_before);
        let late =
            self.begun.values().filter(|begun| !begun.is_late).map(|begun| moment_after(begun.since, limit));
        let look = (!self.begun.contains_key(&self.place.directory)).then_some(self.look_at);
        // While a journal is read, another that is ready waits for it.
        let waits = waits.filter(|_| !self.is_reading());
        let due = waits.chain(late).chain(look).min().unwrap_or_else(|| Instant::now() + ADOPT_EVERY);
        let done = async {
            match self.working.next().await {
                Some(done) => done,
                None => std::future::pending().await,
            }
        };
        if let Ok(done) = tokio::time::timeout_at(due.into(), done).await {
            self.finished.push(done);
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
        if Instant::now() >= self.look_at && !self.begun.contains_key(&self.place.directory) {
            self.look_at = Instant::now() + self.look_after;
            self.look_after = (self.look_after * 2).min(ADOPT_EVERY);
            let place = self.place.clone();
            self.begin(place.directory.clone(), false, move || Done::Found(Backlog::candidates(&place)));
        }
        if self.has_room() {
            self.found.append(&mut self.waiting);
        }
        while self.begun.values().filter(|begun| !begun.is_late && !begun.reads).count() < ADOPTING_MAX {
            let Some(directory) = self.found.pop_front() else { break };
            let has_room = self.has_room();
            let is_new = self.trimmed.insert(directory.clone());
            if !has_room {
                self.waiting.push_back(directory.clone());
                if !is_new {
                    continue;
                }
            }
            let (place, own, journal) = (self.place.clone(), self.own, directory.clone());
            self.begin(directory, false, move || {
                let adopted = Backlog::adopt(&place, own, &journal);
                // Without room, adopting it has given its unused room on the disk back, and no more.
                Done::Adopted(adopted.map(|adopted| adopted.filter(|_| has_room)))
            });
        }
    }

    /// Whether another journal may be held.
    fn has_room(&self) -> bool {
        let busy = self.begun.values().filter(|begun| !begun.is_late).count();
        self.adopted.len() + self.read.len() + busy < ADOPTED_MAX
    }

    /// An adopted journal to read next, unless one is being read.
    pub(super) fn next_to_read(&mut self) -> Option<Backlog> {
        let now = Instant::now();
        let next = self.adopted.iter().position(|(_, not_before)| *not_before <= now)?;
        if self.is_reading() {
            return None;
        }
        self.adopted.remove(next).map(|(backlog, _)| backlog)
    }

    /// Reads the next records of a journal, on another thread.
    pub(super) fn begin_to_read(&mut self, mut backlog: Backlog, from: u64, known: Option<Known>) {
        let directory = backlog.directory().to_owned();
        self.begin(directory, true, move || {
            let bounds = Bounds::default();
            let records = backlog.read(from, known, (bounds.entries, bounds.bytes));
            Done::Read(backlog, from, records)
        });
    }

    pub(super) fn next_read(&mut self) -> Option<ReadBacklog> {
        self.read.pop_front()
    }

    /// Another batch of this journal is to be read.
    pub(super) fn put_back(&mut self, backlog: Backlog) {
        self.adopted.push_back((backlog, Instant::now()));
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

    fn take_in(&mut self, engine: &Engine, directory: PathBuf, done: Done) {
        self.begun.remove(&directory);
        let failed = match done {
            Done::Found(Ok(found)) => {
                self.troubled
                    .retain(|troubled| found.contains(troubled) || self.begun.contains_key(troubled));
                let held = self.adopted.iter().map(|(backlog, _)| backlog.directory());
                let held: BTreeSet<&Path> =
                    held.chain(self.read.iter().map(|read| read.backlog.directory())).collect();
                let new = found
                    .into_iter()
                    .filter(|found| !held.contains(&**found) && !self.begun.contains_key(found));
                self.found = new.collect();
                self.waiting.clear();
                self.trimmed
                    .retain(|trimmed| self.found.contains(trimmed) || self.begun.contains_key(trimmed));
                None
            }
            Done::Adopted(Ok(None)) | Done::Removed(Ok(())) => None,
            Done::Adopted(Ok(Some(backlog))) => {
                self.put_back(backlog);
                None
            }
            Done::Read(backlog, from, Ok(records)) => {
                self.read.push_back(ReadBacklog { backlog, from, records });
                None
            }
            Done::Read(backlog, _, Err(cause)) => {
                self.adopted.push_back((backlog, self.look_at.max(Instant::now() + FIRST_LOOK)));
                Some(cause)
            }
            Done::Found(Err(cause)) | Done::Adopted(Err(cause)) | Done::Removed(Err(cause)) => {
                // Not found: another process has just finished with this journal.
                Some(cause).filter(|cause| cause.kind() != io::ErrorKind::NotFound)
            }
        };
        if let Some(cause) = failed {
            self.troubled.insert(directory);
            return engine.status.left_behind(Some(journal_error(cause)));
        }
        self.troubled.remove(&directory);
        if self.troubled.is_empty() {
            engine.status.left_behind(None);
        }
    }

    /// Tells of work that has not ended for longer than callers wait. Its thread is left to it.
    fn tell_late(&mut self, engine: &Engine) {
        let limit = engine.settings.commit_timeout;
        let now = Instant::now();
        for (directory, begun) in &mut self.begun {
            if !begun.is_late && moment_after(begun.since, limit) <= now {
                begun.is_late = true;
                self.troubled.insert(directory.clone());
                let message =
                    format!("the journal in {} has not answered for {limit:?}", directory.display());
                engine.status.left_behind(Some(AuditError::new(ErrorKind::Store, message)));
            }
        }
    }
}
