//! Counts by hour, by value or by two values, and comparisons of two counts, computed in the database; ledgers.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::audit_reader::AuditReader;
use crate::entry::{audit_id, from_micros};
use crate::error::{AuditError, ErrorKind};
use crate::query::{AuditQuery, CountBy};
use crate::store::{Group, GroupKey};

/// The number of entries that have one value in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counted {
    /// The value that the entries have in common: for an hour or a day its beginning in RFC 3339, for a day of a zone its
    /// date, for an id the UUID, for a text the text, for any other value in the metadata its JSON. `None` for the entries
    /// that have no value there.
    pub key: Option<String>,
    /// The name that the id was made from, if it was made from one and the entries hold the name.
    pub name: Option<String>,
    /// The number of these entries.
    pub entries: u64,
    /// The least `ts` of these entries.
    pub first: DateTime<Utc>,
    /// The greatest `ts` of these entries.
    pub last: DateTime<Utc>,
}

/// The counts of entries by one property or several, and their sums.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// The counts, at most as many as the query's limit says.
    pub counted: Vec<CountedBy>,
    /// The number of counts that there are without that limit.
    pub distinct: u64,
    /// The number of entries that match, in all counts together.
    pub entries: u64,
}

/// The number of entries that have several values in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CountedBy {
    /// The values, one for each property that was counted by, in the same order.
    pub keys: Vec<CountKey>,
    /// The number of these entries.
    pub entries: u64,
    /// The least `ts` of these entries.
    pub first: DateTime<Utc>,
    /// The greatest `ts` of these entries.
    pub last: DateTime<Utc>,
}

/// A value that entries have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CountKey {
    /// The key, as in [`Counted`].
    pub key: Option<String>,
    /// The name, as in [`Counted`].
    pub name: Option<String>,
}

/// The change of a count from an earlier period to a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The key, as in [`Counted`].
    pub key: Option<String>,
    /// The name, as in [`Counted`].
    pub name: Option<String>,
    /// The number of entries in the later period.
    pub entries: u64,
    /// The number of entries in the earlier period.
    pub entries_before: u64,
}

/// A ledger, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ledger {
    /// The ledger's name.
    pub name: String,
    /// The `seq` of the next entry. This is also the number of entries that were ever committed to the ledger,
    /// including those removed since.
    pub next_seq: u64,
    /// The time of the last commit, by its writer's clock.
    pub last_committed_at: Option<DateTime<Utc>>,
}

impl AuditReader {
    /// The number of entries that match, for each value that they have in common. Hours and days come in their order;
    /// other values come the most frequent first. The query's limit bounds the number of counts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditQuery, Decision, query::{Column, CountBy}};
    ///
    /// let denied = AuditQuery::new().decision(Decision::Deny).limit(10);
    /// let top = log.reader().count_by(denied, CountBy::Column(Column::Action)).await?;
    /// # assert!(top.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values,
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn count_by(
        &self,
        query: impl Into<AuditQuery>,
        by: CountBy,
    ) -> Result<Vec<Counted>, AuditError> {
        let counts = self.counts(query, &[by]).await?.counted.into_iter();
        let one = |counted: CountedBy| {
            let CountKey { key, name } = counted.keys.into_iter().next()?;
            Some(Counted { key, name, entries: counted.entries, first: counted.first, last: counted.last })
        };
        Ok(counts.filter_map(one).collect())
    }

    /// The number of entries that match, for each combination of values that they have in common, and the sums. If the
    /// first property is a time, the counts come in its order, otherwise the most frequent combinations come first. The
    /// query's limit bounds the number of counts, and not the sums.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditQuery, query::{Column, CountBy}};
    ///
    /// let by = [CountBy::Column(Column::Action), CountBy::Column(Column::Decision)];
    /// let counts = log.reader().counts(AuditQuery::new().limit(20), &by).await?;
    /// println!("{} of {} combinations, {} entries", counts.counted.len(), counts.distinct, counts.entries);
    /// # assert_eq!(counts.entries, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values, and if there are no
    /// properties to count by or more than 8, [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn counts(&self, query: impl Into<AuditQuery>, by: &[CountBy]) -> Result<Counts, AuditError> {
        let query = Self::asked(query)?;
        if by.is_empty() || by.len() > 8 {
            let message = format!("entries are counted by 1 to 8 properties, not by {}", by.len());
            return Err(AuditError::new(ErrorKind::Query, message));
        }
        let groups = self.store.backend().reads()?.count_by(&query, by).await?;
        // A text in the metadata is the id's name only if the id was made from it.
        let is_of = |name: &String, key: &Option<String>| Some(audit_id(name).to_string()) == *key;
        let key =
            |GroupKey { value, name }| CountKey { name: name.filter(|name| is_of(name, &value)), key: value };
        let counted = |group: Group| CountedBy {
            keys: group.keys.into_iter().map(key).collect(),
            entries: group.entries,
            first: from_micros(group.least_ts),
            last: from_micros(group.greatest_ts),
        };
        let counted: Vec<_> = groups.found.into_iter().map(counted).collect();
        let mut asked = query.described();
        let by: Vec<_> = by.iter().map(ToString::to_string).collect();
        asked.insert("by".to_owned(), by.join(", ").into());
        self.recording("count_by", asked).record_answer(counted.len() as u64).await?;
        Ok(Counts { counted, distinct: groups.distinct, entries: groups.entries })
    }

    /// The changes of the counts, from the entries that match `before` to the entries that match `query`. The
    /// greatest growth comes first. The limit of `query` bounds the number of changes.
    ///
    /// # Errors
    /// The same as those of [`count_by`](Self::count_by).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn compare(
        &self,
        query: impl Into<AuditQuery>,
        before: impl Into<AuditQuery>,
        by: CountBy,
    ) -> Result<Vec<Change>, AuditError> {
        let (mut query, mut before) = (query.into(), before.into());
        // Count without a limit: the value that has grown most need not be among the most frequent.
        let limit = query.filter.limit.take();
        before.filter.limit = None;
        let then = self.count_by(before, by.clone()).await?;
        let mut then: HashMap<Option<String>, Counted> =
            then.into_iter().map(|counted| (counted.key.clone(), counted)).collect();
        let mut changes: Vec<Change> = Vec::new();
        for Counted { key, name, entries, .. } in self.count_by(query, by).await? {
            let entries_before = then.remove(&key).map_or(0, |counted| counted.entries);
            changes.push(Change { key, name, entries, entries_before });
        }
        changes.extend(then.into_values().map(|Counted { key, name, entries, .. }| Change {
            key,
            name,
            entries: 0,
            entries_before: entries,
        }));
        changes.sort_by(|a, b| {
            let grown = |change: &Change| i128::from(change.entries) - i128::from(change.entries_before);
            grown(b).cmp(&grown(a)).then_with(|| a.key.cmp(&b.key))
        });
        changes.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        Ok(changes)
    }

    /// The ledgers of the database, in the order of their names.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn ledgers(&self) -> Result<Vec<Ledger>, AuditError> {
        let heads = self.store.backend().reads()?.heads(None).await?;
        let ledger = |head: crate::store::Head| Ledger {
            name: head.ledger,
            next_seq: head.next_seq,
            last_committed_at: head.last_committed_at.map(from_micros),
        };
        Ok(heads.into_iter().map(ledger).collect())
    }
}
