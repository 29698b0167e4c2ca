//! A query's conditions as SQL.

use super::sql::{Statement, bounded, if_json, metadata};
use crate::query::{AuditQuery, Condition, Served, after_prefix};
use crate::store::{index::hint, walk::Window};

/// The time of an entry's commit: that of the last batch that begins at the entry or before it.
const COMMITTED_AT: &str = "(SELECT b.committed_at FROM tracing_audit_batches b WHERE b.first_seq <= e.seq
                             ORDER BY b.first_seq DESC LIMIT 1)";

impl Statement {
    /// Appends the query's conditions. `by` is the place of the one whose index SQLite must use; the others get a unary `+`,
    /// which keeps the planner (it has no statistics) from choosing their indexes.
    pub(super) fn filter(&mut self, query: &AuditQuery, by: Option<usize>) {
        self.and("(SELECT ledger FROM tracing_audit_head ORDER BY rowid LIMIT 1) = ?", query.ledger.clone());
        let conditions = || query.all_conditions().enumerate();
        let refused =
            conditions().any(|(at, condition)| by == Some(at) && condition.served() == Some(Served::Refused));
        for (at, condition) in conditions() {
            let served = condition.served();
            if by != Some(at) {
                // One index is on both: refusals by workspace.
                let beside = refused && served == Some(Served::Workspace);
                self.condition(&condition, if beside { "" } else { "+" });
                continue;
            }
            match &*condition {
                // The hint below is this condition.
                risk if *risk == Condition::RISKY => {}
                // Several decisions have to be sorted together. Mark the term selective, so that the planner still
                // prefers it to scanning the whole workspace.
                Condition::Texts { column, texts, .. } if refused && texts.len() > 1 => {
                    let list = vec!["?"; texts.len()].join(", ");
                    self.push(&format!(" AND likelihood(e.{column} IN ({list}), 0.001)"));
                    for text in texts {
                        self.bind(text.clone());
                    }
                }
                condition => self.condition(condition, ""),
            }
            self.push(served.map_or("", hint));
        }
        let (least, greatest) = query.bounds();
        self.and("e.ts >= ?", least);
        self.and("e.ts <= ?", greatest);
        let (from, until) = query.committed_bounds();
        self.and(&format!("{COMMITTED_AT} >= ?"), from);
        self.and(&format!("{COMMITTED_AT} <= ?"), until);
    }

    /// Appends the query's range of `seq`.
    pub(super) fn seqs(&mut self, query: &AuditQuery) {
        self.and("e.seq >= ?", query.from_seq.map(bounded));
        self.and("e.seq < ?", query.before_seq.map(bounded));
    }

    fn condition(&mut self, condition: &Condition, plus: &str) {
        match condition {
            Condition::Ids { column, ids, within } => self.set(&format!("{plus}e.{column}"), ids, *within),
            Condition::Texts { column, texts, within } => {
                self.set(&format!("{plus}e.{column}"), texts, *within);
            }
            Condition::ActionPrefix(prefix) => {
                // Mark the range selective: the planner would take a range of seq for the narrower one.
                self.and(&format!("likelihood({plus}e.action >= ?, 0.001)"), Some(prefix.clone()));
                self.and(&format!("likelihood({plus}e.action < ?, 0.001)"), after_prefix(prefix));
            }
            Condition::RiskAtLeast(least) => self.and(&format!("{plus}e.risk_score >= ?"), Some(*least)),
            Condition::RiskAtMost(greatest) => self.and(&format!("{plus}e.risk_score <= ?"), Some(*greatest)),
            Condition::Problems(some) => {
                let is = if *some { "IS NOT NULL" } else { "IS NULL" };
                self.push(&format!(" AND {plus}e.problems {is}"));
            }
            // An index has no entry whose metadata are not JSON.
            Condition::Metadata { path, values, within } if plus.is_empty() => {
                self.set(&metadata("e.metadata", path), values, *within);
            }
            Condition::Metadata { path, values, within } => {
                self.set(&if_json(&metadata("e.metadata", path)), values, *within);
            }
            Condition::Contains(text) => {
                self.push(" AND (");
                for (index, column) in ["action", "resource", "reason"].into_iter().enumerate() {
                    let or = if index == 0 { "" } else { " OR " };
                    self.push(&format!("{or}instr(lower(e.{column}), ?) > 0")).bind(text.clone());
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
            self.condition(condition, "+");
        }
        self.push(")");
    }

    /// Appends the condition that `what` is one of these values, or none of them.
    fn set<'q, T>(&mut self, what: &str, values: &[T], within: bool)
    where
        T: Clone + sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        match values {
            [] => {
                self.push(if within { " AND FALSE" } else { "" });
            }
            [value] if within => {
                self.push(&format!(" AND {what} = ?")).bind(value.clone());
            }
            values => {
                let list = vec!["?"; values.len()].join(", ");
                self.push(&if within {
                    format!(" AND {what} IN ({list})")
                } else {
                    format!(" AND ({what} IS NULL OR {what} NOT IN ({list}))")
                });
                for value in values {
                    self.bind(value.clone());
                }
            }
        }
    }

    /// Appends the range of `seq`: the query's own, and the one that the commit batches give for its ranges of time, since
    /// there is no index on `ts`. Each end is a single condition: of two, SQLite would seek by the one that comes first and
    /// look at every entry between that one and the other.
    pub(super) fn prune(&mut self, query: &AuditQuery) {
        if !query.needs_pruning() {
            return self.seqs(query);
        }
        for (own, bound, narrower, in_time) in [
            (query.from_seq, " AND e.seq >= ", "max(?, ", "(SELECT min(first_seq)"),
            (query.before_seq, " AND e.seq < ", "min(?, ", "(SELECT max(first_seq + entries)"),
        ] {
            self.push(bound);
            if let Some(own) = own {
                self.push(narrower).bind(bounded(own));
            }
            self.push(in_time).push(" FROM tracing_audit_batches WHERE TRUE");
            self.batches_in_time(query);
            self.push(if own.is_some() { "))" } else { ")" });
        }
    }

    /// Appends the conditions of the commit batches that can hold matches by the query's ranges of time.
    pub(super) fn batches_in_time(&mut self, query: &AuditQuery) {
        let (least, greatest) = query.bounds();
        self.and("greatest_ts >= ?", least);
        self.and("least_ts <= ?", greatest);
        let (from, until) = query.committed_bounds();
        self.and("committed_at >= ?", from);
        self.and("committed_at <= ?", until);
    }

    /// Appends the entries of a window. Its ranges are the outer table of the join, so that SQLite searches for each range
    /// by itself, in an index from the range's first `seq` to its last. They are not given as `VALUES`, for which the
    /// planner expects so many rows that it would build an index of all entries for a condition without one.
    pub(super) fn within(&mut self, window: &Window) {
        self.push(" FROM (");
        for (index, range) in window.ranges.iter().enumerate() {
            self.push(if index == 0 {
                "SELECT ? AS first_seq, ? AS last_seq"
            } else {
                " UNION ALL SELECT ?, ?"
            });
            self.bind(range.first_seq).bind(range.last_seq);
        }
        self.push(") r CROSS JOIN tracing_audit_entries e WHERE e.seq BETWEEN r.first_seq AND r.last_seq");
        for (than, (ts, seq)) in window.bounds() {
            self.push(&format!(" AND (e.ts, e.seq) {than} (?, ?)")).bind(ts).bind(seq);
        }
    }
}
