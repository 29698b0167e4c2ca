//! Counts, computed in the database: per hour, per value, and one period against another.

use std::{collections::HashMap, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AuditQuery, AuditReader, Column};
use crate::{AuditError, Index, audit_id, entry::from_micros, store::Group};

/// What entries are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CountBy {
    /// The hour of `ts`, in UTC.
    Hour,
    /// The day of `ts`, in UTC.
    Day,
    /// The ledger.
    Ledger,
    /// The value in this column.
    Column(Column),
    /// The value at this place in the metadata; a path as in [`AuditQuery::metadata_any_of`].
    Metadata(String),
}

impl CountBy {
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn is_time(&self) -> bool {
        matches!(self, Self::Hour | Self::Day)
    }
}

impl fmt::Display for CountBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour => f.pad("hour"),
            Self::Day => f.pad("day"),
            Self::Ledger => f.pad("ledger"),
            Self::Column(column) => column.fmt(f),
            Self::Metadata(path) => write!(f, "metadata.{path}"),
        }
    }
}

/// Entries that have one thing in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counted {
    /// What they have in common: an hour or a day as its beginning in RFC 3339, an id as a UUID, a text; a value of the
    /// metadata that is not a text as JSON. `None` where there is nothing.
    pub key: Option<String>,
    /// For an id that was made from a name: the name, if the entries say it.
    pub name: Option<String>,
    /// How many there are.
    pub entries: u64,
    /// The least `ts` of them.
    pub first: DateTime<Utc>,
    /// The greatest `ts` of them.
    pub last: DateTime<Utc>,
}

/// How a count has changed from one period to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// As in [`Counted`].
    pub key: Option<String>,
    /// As in [`Counted`].
    pub name: Option<String>,
    /// How many there are in the later period.
    pub entries: u64,
    /// How many there were in the earlier one.
    pub entries_before: u64,
}

/// A ledger, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ledger {
    /// Its name.
    pub ledger: String,
    /// How many entries were committed to it, those removed since among them; the next one gets this `seq`.
    pub entries: u64,
    /// When the last of them was committed, by its writer's clock.
    pub last_committed_at: Option<DateTime<Utc>>,
}

impl AuditReader {
    /// How many entries match, by what they have in common: hours and days in their order, whatever else the most
    /// frequent first. The query's limit is one on how many counts there are.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditQuery, Column, CountBy, Decision};
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
        let query = Self::asked(query)?;
        let groups = self.store.backend().reads()?.count_by(&query, &by).await?;
        // What stands in the metadata is a name only if the id was made from it.
        let is_of = |name: &String, key: &Option<String>| Some(audit_id(name).to_string()) == *key;
        let counted = |group: Group| Counted {
            name: group.name.filter(|name| is_of(name, &group.key)),
            key: group.key,
            entries: group.entries,
            first: from_micros(group.least_ts),
            last: from_micros(group.greatest_ts),
        };
        let counts: Vec<_> = groups.into_iter().map(counted).collect();
        let mut asked = query.described();
        asked.insert("by".to_owned(), by.to_string().into());
        self.reading("count_by", asked).gave(counts.len() as u64).await?;
        Ok(counts)
    }

    /// How counts have changed from the entries that match `before` to those that match `query`: what has grown most
    /// comes first. The limit of `query` is one on how many changes there are.
    ///
    /// # Errors
    /// As [`count_by`](Self::count_by).
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
        // Of all, since what has grown most need not be among the most frequent.
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

    /// The ledgers of the database, by name.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn ledgers(&self) -> Result<Vec<Ledger>, AuditError> {
        let heads = self.store.backend().reads()?.heads(None).await?;
        let ledger = |head: crate::store::Head| Ledger {
            ledger: head.ledger,
            entries: head.next_seq,
            last_committed_at: head.last_committed_at.map(from_micros),
        };
        Ok(heads.into_iter().map(ledger).collect())
    }
}

impl AuditReader {
    /// The indexes of the log: what each serves, what it takes on disk, and how often it was used. What each costs at an
    /// insert, the module [`indexes`](crate::indexes) says. Looks through all of an index on SQLite: a second for
    /// some ten million entries.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn indexes(&self) -> Result<Vec<Index>, AuditError> {
        self.store.backend().indexes()?.list().await
    }
}

/// The beginning of an hour or a day.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn spelled(micros: i64) -> String {
    from_micros(micros).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
