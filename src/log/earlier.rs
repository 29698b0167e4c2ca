//! Finds what dead processes have left of earlier periods, and commits it to its own period.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use super::{
    audit_log::AuditLog,
    periods::{Kept, Periods},
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{block_on, lock};
use crate::queue::{JournalHome, left_behind};
use crate::store::named;

/// How long a journal that was left alone is left alone again.
const LEFT_FOR: Duration = Duration::from_mins(10);
/// How long to wait at a time for what dead processes have left, and for the end of a log.
const PATIENCE: Duration = Duration::from_secs(5);

impl Periods {
    /// Looks for journals of dead processes that are for other periods, and commits what they hold.
    pub(super) fn sweep(self: &Arc<Self>, is_asked: bool) {
        let (current, home) = {
            let now = self.now.read();
            (now.label.clone(), now.engine.settings.journal.clone())
        };
        let Some(home) = home else { return };
        let found = left_behind(&home);
        // The log itself looks at the same directory, and reports the fault. Whoever waits for journals is told of it here.
        lock(&self.kept).unread = found.as_ref().err().cloned();
        let Ok(found) = found else { return };
        let mut left = Vec::new();
        for (database, ledger) in &BTreeSet::from_iter(found) {
            let label = self.period.label_of(&self.ledger, ledger).filter(|label| *label != current);
            if let Some(label) = label.filter(|label| self.is_for(&home, database, label)) {
                left.push(label.to_owned());
            }
        }
        lock(&self.kept).left.retain(|label, _| left.contains(label));
        for label in &left {
            self.drain(label, is_asked);
        }
    }

    /// Whether this name of a database is that of a period.
    fn is_for(&self, home: &JournalHome, database: &str, label: &str) -> bool {
        self.store.of_period(label).is_ok_and(|store| {
            let backend = store.backend();
            backend.name(&home.directory).as_deref() == Some(database)
                || backend.is_also(&home.directory, database) == Some(true)
        })
    }

    /// Commits what dead processes have left of a period, by a log of that period on a thread of its own.
    fn drain(self: &Arc<Self>, label: &str, is_asked: bool) {
        {
            let mut kept = lock(&self.kept);
            let is_left = |(since, _): &(Instant, AuditError)| !is_asked && since.elapsed() < LEFT_FOR;
            if kept.left.get(label).is_some_and(is_left) || !kept.draining.insert(label.to_owned()) {
                return;
            }
            self.tell_draining(&kept);
        }
        let (weak, of_thread) = (Arc::downgrade(self), label.to_owned());
        let draining = thread::Builder::new().name("tracing-audit-earlier".to_owned());
        let started = draining.spawn(move || {
            let Some(opened) = weak.upgrade().map(|periods| periods.open_to_drain(&of_thread)) else {
                return;
            };
            let left = opened.and_then(|log| recover(&weak, &log)).err();
            if let Some(periods) = weak.upgrade() {
                periods.drained(&of_thread, left);
            }
        });
        if let Err(cause) = started {
            let error =
                AuditError::new(ErrorKind::Store, "the log's threads cannot be started").because(cause);
            self.drained(label, Some(error));
        }
    }

    fn open_to_drain(&self, label: &str) -> Result<AuditLog, AuditError> {
        let log = self.open_period(label, false)?;
        lock(&self.kept).past.push(log.writer.engine().shared());
        Ok(log)
    }

    /// The journals of this period are settled, or left alone.
    fn drained(&self, label: &str, left: Option<AuditError>) {
        let mut kept = lock(&self.kept);
        kept.draining.remove(label);
        match left {
            None => drop(kept.left.remove(label)),
            Some(error) => {
                let message =
                    format!("journals of dead processes for {} are left alone", named(&self.ledger, label));
                self.now
                    .read()
                    .engine
                    .notice(AuditError::new(ErrorKind::Store, message).because(error.clone()));
                kept.left.insert(label.to_owned(), (Instant::now(), error));
            }
        }
        self.tell_draining(&kept);
    }

    fn tell_draining(&self, kept: &Kept) {
        let draining = kept.draining.len();
        self.swept.send_modify(|swept| swept.draining = draining);
    }
}

/// Waits until what dead processes have left for this log is committed, and ends the log.
fn recover(periods: &Weak<Periods>, log: &AuditLog) -> Result<(), AuditError> {
    let goes_on = || periods.upgrade().is_some_and(|periods| !periods.now.read().is_shut);
    let recovered = loop {
        match block_on(log.recovered(PATIENCE)) {
            Err(error) if error.is_pending() && goes_on() => {}
            recovered => break recovered,
        }
    };
    // Entries that the log cannot commit in time stay in its own journal.
    let ended = block_on(log.shutdown(PATIENCE));
    recovered.and(ended.map(drop))
}
