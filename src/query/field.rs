//! `Field`: a column, the risk score, or a path in the metadata.

use std::{fmt, str::FromStr};

use super::{
    column::Column,
    path::{check_path, spelled_path, steps},
};
use crate::error::{AuditError, ErrorKind};

/// The part of an entry that a [`Criterion`](super::Criterion) looks at. Its text form is that of the command:
/// `agent_id`, `risk_score`, `metadata.client.ip`.
///
/// A column of ids is compared by [`is`](Self::is) with UUIDs and names, as in
/// [`AuditQuery::any_of`](super::AuditQuery::any_of). A text in it ([`like`](Self::like), [`contains`](Self::contains)) is
/// looked for in the name that the entry keeps in its metadata, which nobody has checked against the id, and in the UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The value in this column.
    Column(Column),
    /// The risk score.
    RiskScore,
    /// The value at this path in the metadata, spelled as in
    /// [`AuditQuery::metadata_any_of`](super::AuditQuery::metadata_any_of).
    Metadata(String),
}

impl Field {
    /// The value at this path in the metadata, spelled as in
    /// [`AuditQuery::metadata_any_of`](super::AuditQuery::metadata_any_of).
    #[must_use]
    pub fn metadata(path: impl Into<String>) -> Self {
        Self::Metadata(path.into())
    }

    /// Whether its texts are names that an entry keeps in addition to the id which was made of them.
    pub(super) fn has_names(&self) -> bool {
        matches!(self, Self::Column(column) if column.holds_ids() && *column != Column::Id)
    }
}

impl From<Column> for Field {
    fn from(column: Column) -> Self {
        Self::Column(column)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => column.fmt(f),
            Self::RiskScore => f.pad("risk_score"),
            Self::Metadata(path) => f.pad(&["metadata.", &spelled_path(&steps(path))].concat()),
        }
    }
}

impl FromStr for Field {
    type Err = AuditError;

    /// An error if there is no such field, or if the path cannot be meant: an unfinished quotation, an index that is no
    /// number, an empty key.
    fn from_str(text: &str) -> Result<Self, AuditError> {
        if let Some(path) = text.strip_prefix("metadata.") {
            return match check_path(path) {
                Ok(()) => Ok(Self::Metadata(path.to_owned())),
                Err(fault) => Err(AuditError::new(ErrorKind::Query, format!("{text}: {fault}"))),
            };
        }
        if text == "risk_score" { Ok(Self::RiskScore) } else { text.parse().map(Self::Column) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_as_it_is_spelled_and_a_path_that_cannot_be_meant_is_refused() {
        for text in
            ["agent_id", "risk_score", "metadata.ip", "metadata.\"a.b\"[0].c", "metadata.\"\"", "metadata.é"]
        {
            assert_eq!(text.parse::<Field>().unwrap().to_string(), text);
        }
        for (text, says) in [
            ("colour", "there is no column"),
            ("metadata", "there is no column"),
            ("metadata.", "a key is empty"),
            ("metadata.a..b", "a key is empty"),
            ("metadata.a.", "a key is empty"),
            ("metadata.tags[-1]", "[-1] is no index"),
            ("metadata.tags[]", "[] is no index"),
            ("metadata.tags[2147483648]", "is no index"),
            ("metadata.tags[0]x", "after an index"),
            ("metadata.tags[0", "[0 is no index"),
            ("metadata.[0]", "a key is empty"),
            ("metadata.\"a.b", "quotation mark is missing"),
            ("metadata.\"a\"b", "after a key in quotation marks"),
            ("metadata.a\"b", "quotation mark"),
            ("metadata.a]", "a key with ] needs"),
            ("metadata. a", "blank"),
        ] {
            let error = text.parse::<Field>().unwrap_err();
            assert!(error.is_query() && error.to_string().contains(says), "{text}: {error}");
        }
    }
}
