//! The indexes that serve each condition: the built-in ones, and those on request.

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
use std::borrow::Cow;
use std::{fmt, str::FromStr};

use super::{
    audit_query::AuditQuery,
    column::Column,
    condition::Condition,
    path::{spelled_path, steps},
};
use crate::error::AuditError;

/// The column or the path in the metadata that an index on request is on.
///
/// Its text form is that of the command's options: `agent_id`, `metadata.client.ip`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IndexOn {
    /// The value in this column. `id`, `workspace_id` and `session_id` have an index in every log.
    Column(Column),
    /// The value at this path in the metadata, spelled as in
    /// [`AuditQuery::metadata_any_of`](crate::AuditQuery::metadata_any_of).
    Metadata(String),
}

impl IndexOn {
    /// The value at this path in the metadata, spelled as in
    /// [`AuditQuery::metadata_any_of`](crate::AuditQuery::metadata_any_of).
    #[must_use]
    pub fn metadata(path: impl Into<String>) -> Self {
        Self::Metadata(path.into())
    }
}

impl From<Column> for IndexOn {
    fn from(column: Column) -> Self {
        Self::Column(column)
    }
}

impl From<&Self> for IndexOn {
    fn from(on: &Self) -> Self {
        on.clone()
    }
}

impl fmt::Display for IndexOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => column.fmt(f),
            Self::Metadata(path) => f.pad(&["metadata.", &spelled_path(&steps(path))].concat()),
        }
    }
}

impl FromStr for IndexOn {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        match text.strip_prefix("metadata.") {
            Some(path) => Ok(Self::Metadata(path.to_owned())),
            None => text.parse().map(Self::Column),
        }
    }
}

/// The conditions that a built-in index serves. The order is that of rarity: the first finds the fewest entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Served {
    Id,
    Session,
    Gaps,
    Problems,
    Risky,
    Refused,
    Workspace,
}

impl Condition {
    /// The built-in index that finds the entries of this condition, if there is one.
    pub(crate) fn served(&self) -> Option<Served> {
        match self {
            Self::Ids { column: Column::Id, within: true, .. } => Some(Served::Id),
            Self::Ids { column: Column::SessionId, within: true, .. } => Some(Served::Session),
            Self::Ids { column: Column::WorkspaceId, within: true, .. } => Some(Served::Workspace),
            Self::Problems(true) => Some(Served::Problems),
            Self::RiskAtLeast(least) if *least >= 0.8 => Some(Served::Risky),
            Self::Texts { column: Column::Decision, texts, within: true }
                if texts.iter().all(|text| matches!(&**text, "Deny" | "Mask")) =>
            {
                Some(Served::Refused)
            }
            Self::Texts { column: Column::Action, texts, within: true } if *texts == ["audit.gap"] => {
                Some(Served::Gaps)
            }
            _ => None,
        }
    }

    /// The index on request that would serve this condition, if one could.
    pub(crate) fn on_request(&self) -> Option<IndexOn> {
        match self {
            Self::Ids { column, within: true, .. } | Self::Texts { column, within: true, .. } => {
                Some(IndexOn::Column(*column))
            }
            Self::ActionPrefix(_) => Some(IndexOn::Column(Column::Action)),
            Self::Metadata { path, within: true, .. } => Some(IndexOn::Metadata(spelled_path(path))),
            _ => None,
        }
    }
}

impl AuditQuery {
    /// Whether the query must look at every entry: it has no time range, and no built-in index serves any of its
    /// conditions. (An [index on request](crate::guide::indexes) may still serve it.) A query without any condition, or with
    /// none but a ledger and a range of `seq`, looks at matching entries only: for it, this is `false`.
    ///
    /// ```
    /// use tracing_audit::{AuditQuery, Decision};
    ///
    /// assert!(AuditQuery::new().containing("invoice").needs_full_scan());
    /// assert!(!AuditQuery::new().containing("invoice").decision(Decision::Deny).needs_full_scan());
    /// ```
    #[must_use]
    pub fn needs_full_scan(&self) -> bool {
        !self.has_times() && !self.has_index() && !self.takes_all()
    }

    fn has_index(&self) -> bool {
        self.all_conditions().any(|condition| condition.served().is_some())
    }

    /// The condition whose built-in index is likely to find the fewest entries, judged without a look at the
    /// database: its position in [`all_conditions`](Self::all_conditions).
    #[cfg(feature = "postgres")]
    pub(crate) fn rarest(&self) -> Option<usize> {
        let served = self.all_conditions().map(|condition| condition.served()).enumerate();
        served.filter(|(_, served)| served.is_some()).min_by_key(|(_, served)| *served).map(|(at, _)| at)
    }

    /// A query for all entries that the index of the condition at position `at` finds, without regard to the other
    /// conditions and to the times. Counting these entries reads the index alone.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn candidates(&self, at: usize) -> Self {
        let mut conditions: Vec<Condition> =
            self.all_conditions().skip(at).take(1).map(Cow::into_owned).collect();
        match conditions.first_mut() {
            Some(risk @ Condition::RiskAtLeast(_)) if risk.served().is_some() => *risk = Condition::RISKY,
            // An index on refusals also holds the workspace.
            Some(decision) if decision.served() == Some(Served::Refused) => {
                let workspace =
                    |condition: &Cow<'_, Condition>| condition.served() == Some(Served::Workspace);
                conditions.extend(self.all_conditions().find(workspace).map(Cow::into_owned));
            }
            _ => {}
        }
        let Self { ledger, from_seq, before_seq, .. } = self;
        Self {
            ledger: ledger.clone(),
            from_seq: *from_seq,
            before_seq: *before_seq,
            conditions,
            ..Self::default()
        }
    }

    /// Whether an index may return the entries in another order than that of `seq`. A statement that uses it sorts all
    /// entries that it finds, so it must not be given the whole ledger for each page.
    pub(crate) fn may_be_sorted(&self) -> bool {
        let sorted =
            |condition: &Condition| condition.values() > 1 || matches!(condition, Condition::ActionPrefix(_));
        let has_index =
            |condition: &Condition| condition.served().is_some() || condition.on_request().is_some();
        self.all_conditions().any(|condition| sorted(&condition) && has_index(&condition))
    }

    /// Whether no condition is a prefix or a set of several values. If so, each index returns its entries in the
    /// order of `seq`.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn has_single_values(&self) -> bool {
        let single = |condition: &Condition| {
            condition.values() == 1 && !matches!(condition, Condition::ActionPrefix(_))
        };
        self.all_conditions().all(|condition| single(&condition))
    }

    /// The indexes on request that would serve this query, whether or not they exist.
    pub(crate) fn served_on_request(&self) -> impl Iterator<Item = IndexOn> {
        self.all_conditions().filter_map(|condition| condition.on_request())
    }
}
