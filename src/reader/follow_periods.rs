//! Follows the ledgers of all periods, over the end of a period, as entries are committed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::pending,
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::{
    audit_reader::AuditReader,
    periods::{Entries, PeriodReader},
};
use crate::entry::SequencedEntry;
use crate::error::{AuditError, ErrorKind};
use crate::query::AuditQuery;
use crate::store::named;

/// How often a follower looks for the ledger of another period, and whether one of an earlier period has new entries.
const LOOK_EVERY: Duration = Duration::from_secs(1);
impl PeriodReader {
    /// The entries of all periods: first the existing ones, in the order of the periods, then new ones as they are committed,
    /// of whatever period, without end. The entries of each ledger come once, in the order of `seq`, and none is missed: also
    /// those that are committed to a period that is over, because a process was killed before it could. The latest period is looked
    /// at as [`AuditReader::follow`] looks at a ledger. Of the others, the last one and another one in turn are looked at each
    /// second, and are closed again: any number of files may be there, and they can be archived meanwhile.
    ///
    /// `from` gives for each ledger the `seq` from which on it is read. One that is not in it is read from the beginning. To
    /// resume, give the `seq` after the last one seen of each ledger.
    ///
    /// An `Err` does not end the stream, as in [`AuditReader::follow`].
    ///
    /// # Cancel safety
    /// Dropping the stream, or a future that waits for its next item, loses nothing.
    pub fn follow(
        &self,
        from: impl IntoIterator<Item = (String, u64)>,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        let follower = PeriodFollower {
            reader: self.clone(),
            from: from.into_iter().collect(),
            behind: VecDeque::new(),
            existing: None,
            followed: None,
            known: BTreeSet::new(),
            looked_at: String::new(),
            look_at: Instant::now(),
        };
        stream::unfold(follower, async |mut follower| {
            let found = follower.next().await;
            Some((found, follower))
        })
    }
}

/// A ledger of which entries are to be returned.
struct Behind {
    label: String,
    reader: AuditReader,
}

/// The state of a follower of all periods.
struct PeriodFollower {
    reader: PeriodReader,
    /// The first `seq` to return of each ledger.
    from: BTreeMap<String, u64>,
    /// Ledgers whose existing entries are still to be returned.
    behind: VecDeque<Behind>,
    /// The existing entries of a ledger.
    existing: Option<(Entries, Behind)>,
    /// The latest period, and its new entries.
    followed: Option<(String, Entries)>,
    /// The names of the periods that were found.
    known: BTreeSet<String>,
    /// The earlier period that was looked at last.
    looked_at: String,
    look_at: Instant,
}

impl PeriodFollower {
    /// The next entry, or an error after which the next call goes on.
    async fn next(&mut self) -> Result<SequencedEntry, AuditError> {
        loop {
            if let Some((entries, _)) = &mut self.existing {
                let found = entries.next().await;
                match found {
                    Some(found) => return self.passed(found),
                    None => self.follow_on(),
                }
                continue;
            }
            if let Some(one) = self.behind.pop_front() {
                let ledger = named(&self.reader.ledger, &one.label);
                let query = AuditQuery::new().from_seq(self.first(&ledger)).ledger(ledger);
                let entries: Entries = Box::pin(one.reader.stream(query));
                self.existing = Some((entries, one));
                continue;
            }
            if Instant::now() >= self.look_at {
                self.look_at = Instant::now() + LOOK_EVERY;
                self.look().await?;
                continue;
            }
            let followed = async {
                match &mut self.followed {
                    Some((_, entries)) => entries.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(found) = followed => return self.passed(found),
                () = tokio::time::sleep_until(self.look_at) => {}
            }
        }
    }

    fn first(&self, ledger: &str) -> u64 {
        self.from.get(ledger).copied().unwrap_or(0)
    }

    /// Notes how far a ledger was returned. After an error, its existing entries are read again from there.
    fn passed(&mut self, found: Result<SequencedEntry, AuditError>) -> Result<SequencedEntry, AuditError> {
        match &found {
            Ok(found) => {
                self.from.insert(found.ledger.clone(), found.seq.saturating_add(1));
            }
            Err(_) => self.behind.extend(self.existing.take().map(|(_, one)| one)),
        }
        found
    }

    /// Follows the ledger whose existing entries were returned, if it is the latest.
    fn follow_on(&mut self) {
        let Some((_, one)) = self.existing.take() else { return };
        if self.known.last() != Some(&one.label) {
            return;
        }
        let first = self.first(&named(&self.reader.ledger, &one.label));
        self.followed = Some((one.label, Box::pin(one.reader.follow(first))));
    }

    /// Looks for the ledgers of other periods, and whether some of the earlier ones have new entries.
    async fn look(&mut self) -> Result<(), AuditError> {
        let mut found: BTreeMap<String, AuditReader> = self.reader.found().await?.into_iter().collect();
        let new: Vec<String> = found.keys().filter(|label| !self.known.contains(*label)).cloned().collect();
        self.known = found.keys().cloned().collect();
        if self.followed.as_ref().is_some_and(|(label, _)| self.known.last() != Some(label)) {
            // Entries that this stream has not returned are found by a look.
            self.followed = None;
        }
        for label in new {
            if let Some(reader) = found.remove(&label) {
                self.behind.push_back(Behind { label, reader });
            }
        }
        let mut outcome = Ok(());
        for label in self.in_turn() {
            let Some(reader) = found.remove(&label) else { continue };
            let ledger = named(&self.reader.ledger, &label);
            match has_more(&reader, &ledger, self.first(&ledger)).await {
                Ok(true) => self.behind.push_back(Behind { label, reader }),
                Ok(false) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// The periods that are looked at now: of those that are not followed, the last one, and another one in turn.
    fn in_turn(&mut self) -> Vec<String> {
        let followed = self.followed.as_ref().map(|(label, _)| label);
        let earlier: Vec<&String> = self.known.iter().filter(|label| Some(*label) != followed).collect();
        let Some((last, others)) = earlier.split_last() else { return Vec::new() };
        let mut looked = vec![(*last).clone()];
        let next = others.iter().find(|label| ***label > self.looked_at).or(others.first());
        if let Some(next) = next {
            self.looked_at.clone_from(next);
            looked.push((*next).clone());
        }
        looked
    }
}

/// Whether a ledger has entries that were not returned.
async fn has_more(reader: &AuditReader, ledger: &str, first: u64) -> Result<bool, AuditError> {
    let heads = reader.ledgers().await?;
    let next_seq = heads.iter().find(|head| head.name == ledger).map_or(0, |head| head.next_seq);
    if next_seq < first {
        let message = format!(
            "the ledger {ledger:?} ends at seq {next_seq}, and was read up to {first}: its database was restored from a backup, \
             or is another one"
        );
        return Err(AuditError::new(ErrorKind::Store, message));
    }
    Ok(next_seq > first)
}
