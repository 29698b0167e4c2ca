//! The fields of an entry, and their bytes: its columns as they are stored, and what its batch says of it.

use std::ops::Range;

use uuid::Uuid;

use super::{ledger_error::LedgerError, members::members};

/// The columns of an entry, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Columns<'a> {
    /// The column `id`.
    pub id: Uuid,
    /// The column `ts`, in microseconds since 1970.
    pub ts: i64,
    /// The column `workspace_id`.
    pub workspace_id: Uuid,
    /// The column `session_id`, or `None` if it is NULL.
    pub session_id: Option<Uuid>,
    /// The column `agent_id`, or `None` if it is NULL.
    pub agent_id: Option<Uuid>,
    /// The column `action`.
    pub action: &'a str,
    /// The column `resource`.
    pub resource: &'a str,
    /// The column `resource_id`, or `None` if it is NULL. An empty text is not NULL.
    pub resource_id: Option<&'a str>,
    /// The column `decision`, as it is stored, whether it is a known one or not.
    pub decision: &'a str,
    /// The column `reason`, or `None` if it is NULL. An empty text is not NULL.
    pub reason: Option<&'a str>,
    /// The column `risk_score`, or `None` if it is NULL. Its bits are what counts.
    pub risk_score: Option<f64>,
    /// The column `metadata`, byte for byte.
    pub metadata: &'a str,
    /// The column `problems`, byte for byte, or `None` if it is NULL.
    pub problems: Option<&'a str>,
}

/// The batch's part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The writer that committed the batch.
    pub writer: Uuid,
    /// The entry's number among those of its writer, from 1.
    pub position: u64,
    /// The time of the commit, in microseconds since 1970.
    pub committed_at: i64,
}

impl Committed {
    /// The batch's part of the entry number `place`, from 0, of a batch of `entries` entries, by which `writer` has
    /// reached `position`.
    ///
    /// # Errors
    ///
    /// If the batch has no such entry, or if its position is less than its number of entries.
    pub fn in_batch(
        writer: Uuid,
        position: u64,
        entries: u64,
        committed_at: i64,
        place: u64,
    ) -> Result<Self, LedgerError> {
        if place >= entries {
            return Err(LedgerError::Index { index: place, size: entries });
        }
        let before = position.checked_sub(entries).ok_or_else(|| {
            let problem = format!("it has {entries} entries and ends at position {position} of its writer");
            LedgerError::malformed("batch", problem)
        })?;
        Ok(Self { writer, position: before + place + 1, committed_at })
    }
}

/// The kind of a field of an entry. The number is in the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tag {
    /// The columns that every entry has, and its batch's part. Always there, and the first.
    Core = 1,
    /// `session_id`.
    SessionId = 2,
    /// `agent_id`.
    AgentId = 3,
    /// `resource_id`.
    ResourceId = 4,
    /// `reason`.
    Reason = 5,
    /// `problems`.
    Problems = 6,
    /// All of `metadata`, if it cannot be cut into members.
    Metadata = 7,
    /// A member of `metadata`.
    Member = 8,
}

impl TryFrom<u8> for Tag {
    type Error = LedgerError;

    fn try_from(number: u8) -> Result<Self, LedgerError> {
        Ok(match number {
            1 => Self::Core,
            2 => Self::SessionId,
            3 => Self::AgentId,
            4 => Self::ResourceId,
            5 => Self::Reason,
            6 => Self::Problems,
            7 => Self::Metadata,
            8 => Self::Member,
            _ => {
                return Err(LedgerError::malformed("field", format!("{number} is no tag: there are 1 to 8")));
            }
        })
    }
}

impl Columns<'_> {
    /// Calls `field` with the tag and the bytes of each field but the core, in the order of the leaf. `found` is
    /// space for the members of the metadata.
    pub(super) fn fields(&self, found: &mut Vec<Range<usize>>, mut field: impl FnMut(Tag, &[u8])) {
        for (tag, id) in [(Tag::SessionId, &self.session_id), (Tag::AgentId, &self.agent_id)] {
            if let Some(id) = id {
                field(tag, id.as_bytes());
            }
        }
        let texts =
            [(Tag::ResourceId, self.resource_id), (Tag::Reason, self.reason), (Tag::Problems, self.problems)];
        for (tag, text) in texts {
            if let Some(text) = text {
                field(tag, text.as_bytes());
            }
        }
        let metadata = self.metadata.as_bytes();
        if members(self.metadata, found) {
            found
                .iter()
                .filter_map(|member| metadata.get(member.clone()))
                .for_each(|member| field(Tag::Member, member));
        } else {
            field(Tag::Metadata, metadata);
        }
    }

    /// Appends the bytes of the core.
    pub(super) fn core(&self, committed: &Committed, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.ts.to_be_bytes());
        out.extend_from_slice(&committed.committed_at.to_be_bytes());
        out.extend_from_slice(committed.writer.as_bytes());
        out.extend_from_slice(&committed.position.to_be_bytes());
        out.extend_from_slice(self.workspace_id.as_bytes());
        match self.risk_score {
            None => out.push(0),
            Some(score) => {
                out.push(1);
                out.extend_from_slice(&score.to_bits().to_be_bytes());
            }
        }
        for text in [self.action, self.resource, self.decision] {
            // No column holds a text of 4 GiB: both databases refuse far shorter ones.
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}
