//! Makes a query of the options that select entries.

use clap::Args;
use tracing_audit::{AuditQuery, query::Column, reader::Ledger};
use uuid::Uuid;

use super::{
    criteria::{LANGUAGE, criterion, id_of, of_option, part_of_text},
    period::Period,
};
use crate::failure::Failure;

/// The options that select entries. Values of one option are alternatives; different options must all hold. In the values for
/// columns, `*` stands for any text.
#[derive(Args)]
#[command(next_help_heading = "Conditions (all must hold; a repeated option: any of them)")]
pub(crate) struct Conditions {
    /// Entries of this ledger [default: all ledgers; tail reads one, and needs this if there are several].
    #[arg(long, value_name = "NAME")]
    pub(crate) ledger: Option<String>,
    /// Entries of this workspace: a UUID, or the name that the service gave; `acme-*` selects by a part of the name.
    #[arg(long, value_name = "ID")]
    workspace: Vec<String>,
    /// Entries of this session: a UUID, or the name that the service gave, with `*` for any text.
    #[arg(long, value_name = "ID")]
    session: Vec<String>,
    /// Entries of this agent: a UUID, or the name that the service gave; `arn:*` selects by a part of the name.
    #[arg(long, value_name = "ID")]
    agent: Vec<String>,
    /// Entries with this action; `document.*` selects every action that begins with `document.`, `*:CreateUser` every one that
    /// ends so.
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
    /// Entries that meet a condition on a field, such as `metadata.ms>=500`, `reason~expired`, `action!=login`; more in --help.
    #[arg(long = "where", value_name = "CONDITION", long_help = LANGUAGE, verbatim_doc_comment)]
    fields: Vec<String>,
    /// Entries whose action, resource or reason contains this text.
    ///
    /// The case of ASCII letters does not matter. No index serves this search, so give a range of time too.
    #[arg(long)]
    text: Option<String>,
    /// Entries with at least this risk score.
    #[arg(long, value_name = "SCORE", value_parser = score)]
    risk_min: Option<f64>,
    /// Entries with at most this risk score.
    #[arg(long, value_name = "SCORE", value_parser = score)]
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

/// Adds a condition to a query.
pub(crate) type Part = Box<dyn FnOnce(AuditQuery) -> AuditQuery>;

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
        self.check_ranges()?;
        Ok(self.parts()?.into_iter().fold(self.place(), |query, (_, add)| add(query)))
    }

    /// The part of the query that says in which ledger and where in it.
    pub(crate) fn place(&self) -> AuditQuery {
        let mut query = AuditQuery::new();
        if let Some(ledger) = &self.ledger {
            query = query.ledger(ledger);
        }
        if let Some(seq) = self.from_seq {
            query = query.from_seq(seq);
        }
        if let Some(seq) = self.before_seq {
            query = query.before_seq(seq);
        }
        query
    }

    /// Each condition on what stands in an entry, but its time: the options that give it, and what adds it to a query.
    pub(crate) fn parts(&self) -> Result<Vec<(String, Part)>, Failure> {
        let mut parts: Vec<(String, Part)> = Vec::new();
        let mut add = |given: String, part: Part| parts.push((given, part));
        for (option, column, values) in [
            ("--workspace", Column::WorkspaceId, &self.workspace),
            ("--session", Column::SessionId, &self.session),
            ("--agent", Column::AgentId, &self.agent),
            ("--resource", Column::Resource, &self.resource),
            ("--resource-id", Column::ResourceId, &self.resource_id),
            ("--action", Column::Action, &self.action),
            ("--decision", Column::Decision, &self.decision),
        ] {
            if !values.is_empty() {
                let criterion = of_option(option, column, values)?;
                let given: Vec<_> = values.iter().map(|value| format!("{option} {value}")).collect();
                add(given.join(" "), Box::new(|query| query.matching(criterion)));
            }
        }
        for field in &self.fields {
            let criterion = criterion(field)?;
            add(format!("--where {field}"), Box::new(|query| query.matching(criterion)));
        }
        if let Some(text) = &self.text {
            let part = part_of_text("--text", text)?;
            add(format!("--text {text}"), Box::new(move |query| query.containing(&part)));
        }
        if let Some(least) = self.risk_min {
            add(format!("--risk-min {least}"), Box::new(move |query| query.risk_at_least(least)));
        }
        if let Some(greatest) = self.risk_max {
            add(format!("--risk-max {greatest}"), Box::new(move |query| query.risk_at_most(greatest)));
        }
        if self.problems {
            add("--problems".to_owned(), Box::new(AuditQuery::with_problems));
        }
        Ok(parts)
    }

    /// The workspace of which all entries are asked for. A failure if it is not one, or if there are other conditions.
    pub(crate) fn only_workspace(&self) -> Result<Uuid, Failure> {
        let [workspace] = &*self.workspace else {
            let message = "--complete is about all entries of one workspace: name it by one --workspace";
            return Err(Failure::Usage(message.to_owned()));
        };
        let is_part =
            self.from_seq.is_some() || self.before_seq.is_some() || self.period.range()?.is_bounded();
        if is_part || self.parts()?.len() > 1 {
            let message = "--complete is about all entries of the workspace: leave out the other conditions";
            return Err(Failure::Usage(message.to_owned()));
        }
        id_of("--workspace", workspace)
    }

    fn check_ranges(&self) -> Result<(), Failure> {
        let message = match (self.risk_min, self.risk_max, self.from_seq, self.before_seq) {
            (Some(least), Some(greatest), ..) if least > greatest => {
                "--risk-min must not be greater than --risk-max"
            }
            (_, _, Some(from), Some(before)) if from >= before => "--from-seq must be less than --before-seq",
            _ => return Ok(()),
        };
        Err(Failure::Usage(message.to_owned()))
    }
}

/// A risk score. No entry has one that is not finite.
fn score(text: &str) -> Result<f64, String> {
    let score = text.parse().ok().filter(|score: &f64| score.is_finite());
    score.ok_or_else(|| "a risk score is a finite number, such as 0.8".to_owned())
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
