//! Which entries: what the options say, as a query.

use clap::Args;
use tracing_audit::{AuditQuery, Column, Decision, Ledger};

use super::period::Period;
use crate::failure::Failure;

/// Values of one option are alternatives; different options must all hold.
#[derive(Args)]
pub(crate) struct Conditions {
    /// Entries of this ledger. Default: of all.
    #[arg(long)]
    pub(crate) ledger: Option<String>,
    /// A UUID, or the name that the service gave.
    #[arg(long, value_name = "ID")]
    workspace: Vec<String>,
    /// A UUID, or the name that the service gave.
    #[arg(long, value_name = "ID")]
    session: Vec<String>,
    /// A UUID, or the name that the service gave.
    #[arg(long, value_name = "ID")]
    agent: Vec<String>,
    /// An action; `document.*` for all that begin so.
    #[arg(long)]
    action: Vec<String>,
    /// A kind of resource.
    #[arg(long)]
    resource: Vec<String>,
    /// One resource.
    #[arg(long, value_name = "ID")]
    resource_id: Vec<String>,
    /// Allow, Deny, Mask or another word.
    #[arg(long)]
    decision: Vec<String>,
    /// Any column or place in the metadata: `reason=...`, `agent_id!=healthcheck`, `metadata.client.ip=10.0.0.1`.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    fields: Vec<String>,
    /// A text within action, resource or reason, whatever the case of its ASCII letters. Scans: give a time too.
    #[arg(long)]
    text: Option<String>,
    /// The least risk score.
    #[arg(long)]
    risk_min: Option<f64>,
    /// The greatest risk score.
    #[arg(long)]
    risk_max: Option<f64>,
    /// Only entries with problems.
    #[arg(long)]
    problems: bool,
    #[command(flatten)]
    pub(crate) period: Period,
    /// From this seq on.
    #[arg(long, value_name = "SEQ")]
    pub(crate) from_seq: Option<u64>,
    /// Before this seq.
    #[arg(long, value_name = "SEQ")]
    pub(crate) before_seq: Option<u64>,
}

impl Conditions {
    /// Names of the ledgers that are asked.
    pub(crate) fn ledgers(&self, all: &[Ledger]) -> Result<Vec<String>, Failure> {
        match &self.ledger {
            Some(_) => Ok(vec![one_of(self.ledger.as_ref(), all)?]),
            None => Ok(all.iter().map(|ledger| ledger.ledger.clone()).collect()),
        }
    }

    pub(crate) fn query(&self) -> Result<AuditQuery, Failure> {
        let range = self.period.range()?;
        Ok(range.add(self.timeless()?))
    }

    /// The query without its time.
    pub(crate) fn timeless(&self) -> Result<AuditQuery, Failure> {
        let mut query = AuditQuery::new();
        if let Some(ledger) = &self.ledger {
            query = query.ledger(ledger);
        }
        for (column, values) in [
            (Column::WorkspaceId, &self.workspace),
            (Column::SessionId, &self.session),
            (Column::AgentId, &self.agent),
            (Column::Resource, &self.resource),
            (Column::ResourceId, &self.resource_id),
        ] {
            if !values.is_empty() {
                query = query.any_of(column, values);
            }
        }
        query = match self.action.as_slice() {
            [] => query,
            [action] if action.ends_with('*') => query.action_prefix(action.trim_end_matches('*')),
            actions if actions.iter().any(|action| action.ends_with('*')) => {
                return Err(Failure::Usage("an action that ends with * stands alone".to_owned()));
            }
            actions => query.any_of(Column::Action, actions),
        };
        if !self.decision.is_empty() {
            query = query.any_of(Column::Decision, self.decision.iter().map(|word| decision(word)));
        }
        for field in &self.fields {
            query = with_field(query, field)?;
        }
        if let Some(text) = &self.text {
            query = query.containing(text);
        }
        if let Some(least) = self.risk_min {
            query = query.risk_at_least(least);
        }
        if let Some(greatest) = self.risk_max {
            query = query.risk_at_most(greatest);
        }
        if self.problems {
            query = query.problems(true);
        }
        if let Some(seq) = self.from_seq {
            query = query.from_seq(seq);
        }
        if let Some(seq) = self.before_seq {
            query = query.before_seq(seq);
        }
        Ok(query)
    }
}

/// The ledger that is named, or the only one.
pub(crate) fn one_of(named: Option<&String>, all: &[Ledger]) -> Result<String, Failure> {
    match (named, all) {
        (Some(named), all) if all.iter().any(|there| there.ledger == *named) => Ok(named.clone()),
        (Some(named), many) => {
            let there: Vec<_> = many.iter().map(|ledger| ledger.ledger.as_str()).collect();
            Err(Failure::Usage(format!("there is no ledger {named:?}: there are {}", there.join(", "))))
        }
        (None, [only]) => Ok(only.ledger.clone()),
        (None, many) => {
            let there: Vec<_> = many.iter().map(|ledger| ledger.ledger.as_str()).collect();
            Err(Failure::Usage(format!("which --ledger? There are {}", there.join(", "))))
        }
    }
}

/// As entries have it, whatever the case of its letters.
fn decision(word: &str) -> String {
    word.parse::<Decision>().map_or_else(|_| word.to_owned(), Into::into)
}

fn with_field(query: AuditQuery, field: &str) -> Result<AuditQuery, Failure> {
    let Some((name, value)) = field.split_once('=') else {
        return Err(Failure::Usage(format!("{field:?} is not FIELD=VALUE or FIELD!=VALUE")));
    };
    let (name, within) = name.strip_suffix('!').map_or((name, true), |name| (name, false));
    if let Some(path) = name.strip_prefix("metadata.") {
        return Ok(if within {
            query.metadata_any_of(path, [value])
        } else {
            query.metadata_none_of(path, [value])
        });
    }
    let column: Column =
        name.parse().map_err(|_| Failure::Usage(format!("there is no field {name:?}: {}", fields())))?;
    let value = if column == Column::Decision { decision(value) } else { value.to_owned() };
    Ok(if within { query.any_of(column, [value]) } else { query.none_of(column, [value]) })
}

/// What can be named.
pub(crate) fn fields() -> String {
    let columns = Column::ALL.map(Column::name).join(", ");
    format!("there are {columns} and metadata.PATH")
}
