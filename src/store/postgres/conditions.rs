//! A query's conditions as SQL, within the parts of the ledgers that can hold matches and for the indexes that exist.

use chrono::{DateTime, Utc};
use sqlx::{Encode, Postgres as Database, Type};

use super::sql::{Statement, beginning, beginning_of, bounded, if_readable, metadata};
use crate::entry::from_micros;
use crate::query::{AuditQuery, Condition, after_prefix};
use crate::store::{index::hint, index::name_of};

/// The parts of the ledgers that can hold matches. Nothing outside of them matches.
#[derive(Debug)]
pub(super) enum Scope {
    /// All of these ledgers. Their names are needed: every index begins with the ledger.
    Ledgers(Vec<String>),
    /// The parts whose batches reach into the query's time range. There is no index on `ts`.
    Parts(Vec<LedgerPart>),
}

impl Scope {
    /// Whether the scope is one range of one ledger, whose entries every index has in the order of `seq`.
    pub(super) fn is_one_range(&self) -> bool {
        match self {
            Self::Ledgers(ledgers) => ledgers.len() == 1,
            Self::Parts(parts) => parts.len() == 1,
        }
    }
}

/// The entries of a ledger from `first_seq` up to, but not including, `end_seq`.
#[derive(Debug)]
pub(super) struct LedgerPart {
    pub(super) ledger: String,
    pub(super) first_seq: i64,
    pub(super) end_seq: i64,
}

/// The names of the indexes of the entries, without those that are still being built.
#[derive(Debug)]
pub(super) struct IndexNames(pub(super) Vec<String>);

impl IndexNames {
    /// Whether there is an index on request that serves this condition.
    pub(super) fn serve(&self, condition: &Condition) -> bool {
        condition.on_request().is_some_and(|on| self.0.contains(&name_of(&on)))
    }
}

/// The time of a bound. The one before the earliest that an entry can have is a bound too.
fn exactly(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_else(|| from_micros(micros))
}

/// A query's bounds in time.
pub(super) fn time_bounds(query: &AuditQuery) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let (least, greatest) = query.bounds();
    (least.map(exactly), greatest.map(exactly))
}

/// A query's bounds of the time of commit, as [`time_bounds`].
fn committed_bounds(query: &AuditQuery) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let (from, until) = query.committed_bounds();
    (from.map(exactly), until.map(exactly))
}

/// The time of an entry's commit: that of the last batch that begins at the entry or before it.
const COMMITTED_AT: &str = "(SELECT b.committed_at FROM @tracing_audit_batches b
                             WHERE b.ledger = e.ledger AND b.first_seq <= e.seq
                             ORDER BY b.first_seq DESC LIMIT 1)";

impl Statement<'_> {
    /// Appends `FROM`, `WHERE` and the query's conditions; without any, a condition that always holds.
    pub(super) fn filter(&mut self, query: &AuditQuery, scope: &Scope, indexes: &IndexNames) {
        self.push(" FROM @tracing_audit_entries e WHERE ");
        match scope {
            Scope::Ledgers(ledgers) => self.ledgers(ledgers),
            Scope::Parts(parts) => {
                self.push("(FALSE");
                for LedgerPart { ledger, first_seq, end_seq } in parts {
                    self.push(" OR e.ledger = ").bind(ledger.clone());
                    self.push(" AND e.seq >= ").bind(*first_seq).push(" AND e.seq < ").bind(*end_seq);
                }
                self.push(")");
            }
        }
        for condition in query.all_conditions() {
            self.condition(&condition, indexes);
            self.push(condition.served().map_or("", hint));
        }
        self.and("e.seq >= ", query.from_seq.map(bounded));
        self.and("e.seq < ", query.before_seq.map(bounded));
        let (least, greatest) = time_bounds(query);
        self.and("e.ts >= ", least);
        self.and("e.ts <= ", greatest);
        let (from, until) = committed_bounds(query);
        self.and(&format!("{COMMITTED_AT} >= "), from);
        self.and(&format!("{COMMITTED_AT} <= "), until);
    }

    /// Appends the condition of the batches that can hold matches by the query's range of `seq`: those from the batch on
    /// that holds the first one.
    pub(super) fn batches_in_range(&mut self, query: &AuditQuery) {
        if let (Some(first), Some(ledger)) = (query.from_seq, &query.ledger) {
            let begin = "SELECT max(b.first_seq) FROM @tracing_audit_batches b WHERE b.ledger = ";
            self.push(" AND first_seq >= coalesce((").push(begin).bind(ledger.clone());
            self.push(" AND b.first_seq <= ").bind(bounded(first)).push("), 0)");
        }
        self.and("first_seq < ", query.before_seq.map(bounded));
    }

    /// Appends the conditions of the commit batches that can hold matches by the query's ranges of time.
    pub(super) fn batches_in_time(&mut self, query: &AuditQuery) {
        let (least, greatest) = time_bounds(query);
        self.and("greatest_ts >= ", least);
        self.and("least_ts <= ", greatest);
        let (from, until) = committed_bounds(query);
        self.and("committed_at >= ", from);
        self.and("committed_at <= ", until);
    }

    fn ledgers(&mut self, ledgers: &[String]) {
        match ledgers {
            // Every index has the entries of a single ledger in the order of `seq`, which the planner sees only here.
            [ledger] => self.push("e.ledger = ").bind(ledger.clone()),
            ledgers => self.push("e.ledger = ANY (").bind(ledgers.to_vec()).push(")"),
        };
    }

    fn condition(&mut self, condition: &Condition, indexes: &IndexNames) {
        let has_index = indexes.serve(condition);
        match condition {
            Condition::Ids { column, ids, within } => self.set(&format!("e.{column}"), ids.clone(), *within),
            Condition::Texts { column, texts, within } => {
                self.texts(&format!("e.{column}"), texts, *within, has_index);
            }
            Condition::ActionPrefix(prefix) => {
                if has_index {
                    let (action, begins) = (beginning("e.action"), beginning_of(prefix));
                    self.and(&format!("{action} >= "), Some(begins.clone()));
                    self.and(&format!("{action} < "), after_prefix(&begins));
                }
                self.and("e.action >= ", Some(prefix.clone()));
                self.and("e.action < ", after_prefix(prefix));
            }
            Condition::RiskAtLeast(least) => self.and("e.risk_score >= ", Some(*least)),
            Condition::RiskAtMost(greatest) => self.and("e.risk_score <= ", Some(*greatest)),
            Condition::Problems(some) => {
                self.push(if *some { " AND e.problems IS NOT NULL" } else { " AND e.problems IS NULL" });
            }
            // An index has no entry whose metadata cannot be looked into.
            Condition::Metadata { path, values, within } if has_index => {
                self.texts(&metadata("e.metadata", path), values, *within, has_index);
            }
            Condition::Metadata { path, values, within } => {
                self.texts(&if_readable(&metadata("e.metadata", path)), values, *within, has_index);
            }
            Condition::Contains(text) => {
                self.push(" AND (");
                for (index, column) in ["action", "resource", "reason"].into_iter().enumerate() {
                    let or = if index == 0 { "" } else { " OR " };
                    self.push(&format!("{or}strpos(lower(e.{column}), ")).bind(text.clone()).push(") > 0");
                }
                self.push(")");
            }
            Condition::Compared { field, order, bound } => self.compared(field, *order, bound),
            Condition::Like { field, pattern } => self.like(field, pattern),
            Condition::Holds { field, text } => self.holds(field, text),
            Condition::Exists(field) => self.exists(field),
            Condition::Not(inner) => {
                self.push(" AND (");
                self.all(std::slice::from_ref(inner));
                self.push(" IS NOT TRUE)");
            }
            Condition::All(inner) => {
                self.push(" AND ");
                self.all(inner);
            }
            Condition::Any(inner) => {
                self.push(" AND (FALSE");
                for one in inner {
                    self.push(" OR ");
                    self.all(std::slice::from_ref(one));
                }
                self.push(")");
            }
            Condition::Refused(_) => {
                self.push(" AND FALSE");
            }
        }
    }

    /// Appends the expression that all of these conditions hold. No index serves them.
    fn all(&mut self, conditions: &[Condition]) {
        self.push("(TRUE");
        for condition in conditions {
            self.condition(condition, &IndexNames(Vec::new()));
        }
        self.push(")");
    }

    /// Appends the condition that this text is one of these, or none of them. If an index on request serves it, also
    /// the condition that the beginning of the text, which the index is on, is the beginning of one of these. Without
    /// the index that condition would only mislead the planner, which takes two conditions for rarer than one.
    fn texts(&mut self, expression: &str, texts: &[String], within: bool, has_index: bool) {
        if has_index {
            let beginnings = texts.iter().map(|text| beginning_of(text)).collect();
            self.set::<String>(&beginning(expression), beginnings, true);
        }
        self.set(expression, texts.to_vec(), within);
    }

    /// Appends the condition that this expression is one of these values, or none of them.
    fn set<'q, T>(&mut self, expression: &str, mut values: Vec<T>, within: bool)
    where
        T: Encode<'q, Database> + Type<Database> + 'q,
        Vec<T>: Encode<'q, Database> + Type<Database> + 'q,
    {
        if within
            && values.len() == 1
            && let Some(value) = values.pop()
        {
            self.push(&format!(" AND {expression} = ")).bind(value);
        } else if within {
            self.push(&format!(" AND {expression} = ANY (")).bind(values).push(")");
        } else {
            self.push(&format!(" AND ({expression} IS NULL OR {expression} <> ALL ("))
                .bind(values)
                .push("))");
        }
    }
}
