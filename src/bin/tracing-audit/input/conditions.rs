//! Makes a query of the options that select entries.

use clap::Args;
use tracing_audit::{AuditQuery, Decision, query::Column, reader::Ledger};

use super::period::Period;
use crate::failure::Failure;

/// The options that select entries. Values of one option are alternatives; different options must all hold.
#[derive(Args)]
#[command(next_help_heading = "Conditions (all must hold; repeat an option to give alternatives)")]
pub(crate) struct Conditions {
    /// Entries of this ledger [default: all ledgers; tail reads one, and needs this if there are several].
    #[arg(long, value_name = "NAME")]
    pub(crate) ledger: Option<String>,
    /// Entries of this workspace: a UUID, or the name that the service gave.
    #[arg(long, value_name = "ID")]
    workspace: Vec<String>,
    /// Entries of this session: a UUID, or the name that the service gave.
    #[arg(long, value_name = "ID")]
    session: Vec<String>,
    /// Entries of this agent: a UUID, or the name that the service gave.
    #[arg(long, value_name = "ID")]
    agent: Vec<String>,
    /// Entries with this action; `document.*` selects every action that begins with `document.`.
    #[arg(long)]
    action: Vec<String>,
    /// Entries about this kind of resource.
    #[arg(long)]
    resource: Vec<String>,
    /// Entries about the resource with this id.
    #[arg(long, value_name = "ID")]
    resource_id: Vec<String>,
    /// Entries with this decision: Allow, Deny, Mask, or another word that the service gave.
    #[arg(long)]
    decision: Vec<String>,
    /// Entries in which a column or `metadata.PATH` has this value, or with != does not have it.
    ///
    /// Examples: `reason=expired`, `agent_id!=healthcheck`, `metadata.client.ip=10.0.0.1`. Values are compared exactly:
    /// there are no wildcards and no ranges. If this option is repeated, all its conditions must hold.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    fields: Vec<String>,
    /// Entries whose action, resource or reason contains this text.
    ///
    /// The case of ASCII letters does not matter. No index serves this search, so give a range of time too.
    #[arg(long)]
    text: Option<String>,
    /// Entries with at least this risk score.
    #[arg(long, value_name = "SCORE")]
    risk_min: Option<f64>,
    /// Entries with at most this risk score.
    #[arg(long, value_name = "SCORE")]
    risk_max: Option<f64>,
    /// Entries with problems, such as a field that was not valid.
    #[arg(long)]
    problems: bool,
    /// Entries with this seq or a later one.
    #[arg(long, value_name = "SEQ")]
    pub(crate) from_seq: Option<u64>,
    /// Entries with an earlier seq than this.
    #[arg(long, value_name = "SEQ")]
    pub(crate) before_seq: Option<u64>,
    #[command(flatten)]
    pub(crate) period: Period,
}

impl Conditions {
    /// The names of the ledgers that are asked.
    pub(crate) fn ledgers(&self, all: &[Ledger]) -> Result<Vec<String>, Failure> {
        match &self.ledger {
            Some(_) => Ok(vec![one_of(self.ledger.as_ref(), all)?]),
            None => Ok(all.iter().map(|ledger| ledger.name.clone()).collect()),
        }
    }

    pub(crate) fn query(&self) -> Result<AuditQuery, Failure> {
        let range = self.period.range()?;
        Ok(range.add(self.timeless()?))
    }

    /// The query without its range of time.
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
                return Err(Failure::Usage(
                    "an --action that ends with * cannot be combined with another --action".to_owned(),
                ));
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
            query = query.with_problems();
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

/// The ledger that is named, or the only one if none is named.
pub(crate) fn one_of(named: Option<&String>, all: &[Ledger]) -> Result<String, Failure> {
    match (named, all) {
        (Some(named), all) if all.iter().any(|there| there.name == *named) => Ok(named.clone()),
        (Some(named), many) => {
            let there: Vec<_> = many.iter().map(|ledger| ledger.name.as_str()).collect();
            Err(Failure::Usage(format!("there is no ledger {named:?}; choose from {}", there.join(", "))))
        }
        (None, [only]) => Ok(only.name.clone()),
        (None, many) => {
            let there: Vec<_> = many.iter().map(|ledger| ledger.name.as_str()).collect();
            Err(Failure::Usage(format!("choose a ledger with --ledger: {}", there.join(", "))))
        }
    }
}

/// The decision as entries spell it: the case of the given word does not matter.
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
    let column: Column = name
        .parse()
        .map_err(|_| Failure::Usage(format!("there is no field {name:?}: there are {}", fields())))?;
    let value = if column == Column::Decision { decision(value) } else { value.to_owned() };
    Ok(if within { query.any_of(column, [value]) } else { query.none_of(column, [value]) })
}

/// The fields that can be named, for messages.
pub(crate) fn fields() -> String {
    let columns = Column::ALL.map(Column::name).join(", ");
    format!("{columns} and metadata.PATH")
}
