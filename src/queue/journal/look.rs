//! Finds out that somebody has removed or replaced files of a running log's journal, and creates them again, so that
//! the pending entries survive the process again.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    directory::{LOCK, begin, journal_error, lock_again},
    segments::{OpenJournal, Spare, State},
};
use crate::platform::lock;

/// Least time between two looks, which cost a few microseconds and two more for each segment.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl State {
    /// Whether it is time to look: records have been appended since the last look, or could not be, or the files were not
    /// in place.
    pub(super) fn is_look_due(&self) -> bool {
        let (at, appended) = self.looked;
        let news = appended != Some(self.counts.appended) || self.counts.trouble.is_some();
        news && at.elapsed() >= LOOK_EVERY
    }
}

impl OpenJournal {
    /// Looks whether the directory, the lock and the segments are still in place, and creates those again that are not.
    /// Called with the background work locked.
    ///
    /// # Errors
    /// If something was not in place, whether it could be created again or not.
    pub(super) fn look(&self) -> io::Result<()> {
        let appended = {
            let mut state = self.lock();
            state.looked = (Instant::now(), None);
            state.counts.appended
        };
        let gone = self.renew().map_err(|cause| {
            let error = journal_error(&self.directory, cause);
            io::Error::new(io::ErrorKind::NotFound, error)
        })?;
        let Some(gone) = gone else {
            self.lock().looked.1 = Some(appended);
            return Ok(());
        };
        let message = format!(
            "{gone} was removed or replaced under the running log; it is made anew, with every entry that is pending: no \
             entry is lost, unless the process died in between"
        );
        Err(io::Error::new(io::ErrorKind::NotFound, message))
    }

    /// Creates again what is not in place. Returns the path of the first such file.
    fn renew(&self) -> io::Result<Option<String>> {
        let mut gone = None;
        if !self.place().is_in_place()? {
            gone = Some(self.directory.display().to_string());
            let (place, taken) = begin(&self.home, self.writer)?;
            *lock(&self.place) = Arc::new(place);
            // The earlier lock stays: the directory may only have been moved.
            lock(&self.locks).push(taken);
            let mut state = self.lock();
            if matches!(state.spare, Spare::Ready { .. } | Spare::Failed) {
                state.spare = Spare::None;
            }
        }
        let place = self.place();
        let is_locked = lock(&self.locks).last().map_or(Ok(false), |lock| place.holds(LOCK, lock))?;
        if !is_locked {
            gone.get_or_insert_with(|| self.directory.join(LOCK).display().to_string());
            let taken = lock_again(&place)?;
            lock(&self.locks).push(taken);
        }
        if self.rejected.lock().renew(&place)? {
            gone.get_or_insert_with(|| self.directory.join("rejected").display().to_string());
        }
        let segments: Vec<_> = {
            let state = self.lock();
            let segments = state.segments.iter();
            segments
                .map(|segment| (segment.number, Arc::clone(&segment.file), segment.path.clone()))
                .collect()
        };
        for (number, file, path) in segments {
            // The last segment holds the records to come, in addition to those that are not acknowledged.
            let is_open = |state: &State| state.segments.iter().any(|segment| segment.number == number);
            if !place.holds(&path, &file)? && is_open(&self.lock()) {
                drop(file);
                self.rewrite(number)?;
                gone.get_or_insert_with(|| path.display().to_string());
            }
        }
        Ok(gone)
    }
}
