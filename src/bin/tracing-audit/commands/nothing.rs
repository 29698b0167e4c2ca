//! Says which part of a question finds nothing, as far as that is cheap to know.

use std::cmp::Reverse;

use futures_util::TryStreamExt;
use tracing_audit::{AuditQuery, SequencedEntry, reader::Ledger};

use crate::{
    failure::Failure,
    input::{Conditions, Log},
};

/// The most entries that are looked at one by one for this.
const AT_MOST: u64 = 100_000;

/// The part of the question that finds nothing, in a sentence. `None` if that would take long to know.
pub(crate) async fn why_nothing(logs: &[Log], conditions: &Conditions) -> Result<Option<String>, Failure> {
    let (place, range, zone) = (conditions.place(), conditions.period.range()?, conditions.period.tz);
    let Some(latest) = latest(logs, place.clone()).await? else { return Ok(Some(ends(logs, conditions))) };
    let in_time = range.of_entries();
    if in_time.is_bounded() && self::latest(logs, in_time.add(place.clone())).await?.is_none() {
        let earliest = earliest(logs, place).await?.unwrap_or_else(|| latest.clone());
        let (first, last) = (zone.shown(earliest.entry.ts), zone.shown(latest.entry.ts));
        return Ok(Some(format!("no entry is of the time that is asked for; they are of {first} to {last}")));
    }
    let committed = range.of_commits();
    if committed.is_bounded() && self::latest(logs, committed.add(place.clone())).await?.is_none() {
        let last = asked(logs, conditions).filter_map(|ledger| ledger.last_committed_at).max();
        let last = last.map(|last| format!("; the last commit was at {}", zone.shown(last)));
        let last = last.unwrap_or_default();
        return Ok(Some(format!("nothing was committed in the time that is asked for{last}")));
    }
    let entries = asked(logs, conditions).map(|ledger| ledger.next_seq).fold(0, u64::saturating_add);
    let is_cheap = |query: &AuditQuery| entries <= AT_MOST || !query.needs_full_scan();
    let parts = conditions.parts()?;
    let (count, mut are_all_cheap) = (parts.len(), true);
    for (given, add) in parts {
        let query = add(place.clone());
        if !is_cheap(&query) {
            are_all_cheap = false;
        } else if self::latest(logs, query).await?.is_none() {
            return Ok(Some(format!("no entry of any time meets {given}")));
        }
    }
    // Together they may be met by few of very many entries that an index finds.
    if !are_all_cheap || count > 1 && entries > AT_MOST {
        return Ok(None);
    }
    Ok(match self::latest(logs, conditions.timeless()?).await? {
        None => {
            Some("each condition is met by some entry, and no entry of any time meets them all".to_owned())
        }
        Some(found) if range.is_bounded() => {
            let at = zone.shown(found.entry.ts);
            Some(format!(
                "no entry of the time that is asked for meets the conditions; the latest that does is of {at}"
            ))
        }
        Some(_) => None,
    })
}

/// The ledgers that are asked.
fn asked<'a>(logs: &'a [Log], conditions: &'a Conditions) -> impl Iterator<Item = &'a Ledger> {
    let is_asked = |ledger: &&Ledger| conditions.ledger.as_ref().is_none_or(|name| *name == ledger.name);
    logs.iter().flat_map(|log| &log.ledgers).filter(is_asked)
}

/// Says where the ledgers end that have no entry in the range of `seq` that is asked for.
fn ends(logs: &[Log], conditions: &Conditions) -> String {
    let ledger = |ledger: &Ledger| match ledger.next_seq {
        0 => format!("the ledger {} has no entry", ledger.name),
        1 => format!("the only entry of {} has the seq 0", ledger.name),
        next => format!("the entries of {} have the seq 0 to {}", ledger.name, next - 1),
    };
    let ledgers: Vec<_> = asked(logs, conditions).map(ledger).collect();
    if ledgers.is_empty() { "there are no entries".to_owned() } else { ledgers.join(", ") }
}

/// The latest entry of this query.
async fn latest(logs: &[Log], query: AuditQuery) -> Result<Option<SequencedEntry>, Failure> {
    Ok(first(logs, &query.newest_first()).await?.into_iter().max_by_key(|found| found.entry.ts))
}

async fn earliest(logs: &[Log], query: AuditQuery) -> Result<Option<SequencedEntry>, Failure> {
    Ok(first(logs, &query).await?.into_iter().max_by_key(|found| Reverse(found.entry.ts)))
}

/// The first entry of this query in each log. It is no read of its own: the record of reads has the query.
async fn first(logs: &[Log], query: &AuditQuery) -> Result<Vec<SequencedEntry>, Failure> {
    let mut found = Vec::new();
    for log in logs {
        let reader = log.unrecorded();
        let mut entries = std::pin::pin!(reader.stream_by_time(query.clone().limit(1)));
        found.extend(entries.try_next().await?);
    }
    Ok(found)
}
