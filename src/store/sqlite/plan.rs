//! Plans a query: chooses the index that finds the fewest entries.

use sqlx::Row as _;

use super::{
    indexes,
    source::Sqlite,
    sql::{ENTRIES, Statement},
};
use crate::error::AuditError;
use crate::query::{AuditQuery, Condition, Served};
use crate::store::{index::name_of, walk::Candidates};

/// Entries of each index that are counted to find the rarest condition: in a first probe, and in a second one.
const PROBES: [i64; 2] = [512, Candidates::MOST];

/// The place in the query of the condition whose index finds the fewest entries. `None` if no index serves the query.
///
/// Among several conditions it is found by probing their indexes: the one with the fewest entries, or if all have many, the
/// one whose newest entries reach back the furthest.
pub(super) async fn rarest(sqlite: &Sqlite, query: &AuditQuery) -> Result<Option<usize>, AuditError> {
    let on_request: Vec<String> = query.served_on_request().map(|on| name_of(&on)).collect();
    let names = if on_request.is_empty() { Vec::new() } else { indexes::names(sqlite).await? };
    let has_index = |condition: &Condition| {
        condition.served().is_some() || condition.on_request().is_some_and(|on| names.contains(&name_of(&on)))
    };
    let indexed: Vec<(usize, Condition)> = query
        .all_conditions()
        .enumerate()
        .filter(|(_, condition)| has_index(condition))
        .map(|(at, condition)| (at, condition.into_owned()))
        .collect();
    let are_refused = indexed.iter().any(|(_, condition)| condition.served() == Some(Served::Refused));
    // One index is on the refusals of a workspace, which are at most all entries of the workspace.
    let choices = indexed
        .iter()
        .filter(|(_, condition)| !(are_refused && condition.served() == Some(Served::Workspace)));
    let choices: Vec<&(usize, Condition)> = choices.collect();
    let is_prefix = |condition: &Condition| matches!(condition, Condition::ActionPrefix(_));
    match choices.as_slice() {
        [(at, condition)] if !is_prefix(condition) => return Ok(Some(*at)),
        _ => {}
    }
    let mut rarest = None;
    for most in PROBES {
        let mut probed = Vec::new();
        for (at, condition) in &choices {
            let Candidates { count, least_seq, newest, .. } = candidates(sqlite, query, *at, most).await?;
            let found = match (count < most, newest) {
                (true, _) => (0, count),
                // A prefix that finds many entries is better searched for in the order of seq.
                (false, _) if is_prefix(condition) => continue,
                (false, true) => (1, least_seq.unwrap_or(0)),
                // The condition has several values, and nothing says which of them were counted.
                (false, false) => (2, 0),
            };
            // An index on request ranks like the one on the workspace.
            probed.push((found, condition.served().unwrap_or(Served::Workspace), *at));
        }
        rarest = probed.into_iter().min();
        if matches!(rarest, Some(((0, _), ..))) {
            break;
        }
    }
    Ok(rarest.map(|(.., at)| at))
}

/// Whether an index serves the query.
pub(super) async fn is_served(sqlite: &Sqlite, query: &AuditQuery) -> Result<bool, AuditError> {
    sqlite.look_again().await?;
    rarest(sqlite, query).await.map(|by| by.is_some())
}

/// Counts the entries, at most `most`, that the index of condition `at` finds within the query's time range.
pub(super) async fn candidates(
    sqlite: &Sqlite,
    query: &AuditQuery,
    at: usize,
    most: i64,
) -> Result<Candidates, AuditError> {
    let candidates = query.candidates(at);
    let mut count = Statement::new("SELECT count(*), min(seq), max(seq) FROM (SELECT e.seq");
    count.push(ENTRIES);
    count.filter(&candidates, Some(0));
    count.prune(query);
    let newest = candidates.has_single_values();
    count.push(if newest { " ORDER BY e.seq DESC LIMIT ?)" } else { " LIMIT ?)" }).bind(most);
    let count = async || {
        let row = count.into_query()?.fetch_one(sqlite.readers()).await?;
        let (count, least_seq, greatest_seq) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Candidates { count, least_seq, greatest_seq, newest })
    };
    count().await.map_err(|cause| sqlite.store_error(cause))
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use uuid::Uuid;

    use super::*;
    use crate::entry::{AuditEntry, Decision};
    use crate::log::AuditLog;
    use crate::query::{Column, IndexOn};
    use crate::store::Store;

    #[tokio::test]
    async fn a_query_uses_the_one_of_its_indexes_that_finds_the_fewest_entries() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = AuditLog::open(&file).await.unwrap();
        let store = Store::sqlite(&file).unwrap();
        for on in ["agent_id", "action"] {
            store.create_index(on.parse::<IndexOn>().unwrap()).await.unwrap();
        }
        let id = |n: u128| Uuid::from_u128(n);
        for n in 0..20_000 {
            let action = match n {
                0..500 => "old",
                500..9000 => "mid",
                _ => "new",
            };
            let entry = AuditEntry {
                agent_id: Some(id(n % 2)),
                session_id: Some(id(n / 10_000)),
                decision: if n % 4 == 0 { "Deny" } else { "Allow" }.to_owned(),
                risk_score: if n % 1000 == 0 { 0.9 } else { 0.1 },
                ..AuditEntry::new(id(u128::from(n < 3)), action, "r")
            };
            log.writer().write(entry).await.unwrap();
        }
        log.flush().await.unwrap();
        let sqlite = Sqlite::with_options(SqliteConnectOptions::new().filename(file));
        let of = AuditQuery::new;
        // The conditions of a query are numbered: workspace, session, decision, and then the others as they were added.
        for (query, expected) in [
            (of().containing("x"), None),
            (of().resource("r").workspace_id(id(0)), Some(0)),
            (of().workspace_id(id(0)).session_id(id(1)), Some(1)),
            (of().workspace_id(id(1)).session_id(id(0)), Some(0)),
            (of().workspace_id(id(0)).risk_at_least(0.9), Some(1)),
            (of().workspace_id(id(1)).risk_at_least(0.9), Some(0)),
            (of().workspace_id(id(0)).decision(Decision::Deny), Some(1)),
            (of().workspace_id(id(0)).any_of(Column::Id, ["a", "b"]), Some(1)),
            (of().decision(Decision::Deny).agent_id(id(1)), Some(0)),
            (of().decision(Decision::Deny).action("old"), Some(1)),
            (of().agent_id(id(1)).action("new"), Some(0)),
            (of().agent_id(id(1)).action("old"), Some(1)),
            (of().agent_id(id(1)).action("none"), Some(1)),
            (of().agent_id(id(1)).action_prefix("n"), Some(0)),
            (of().agent_id(id(1)).action_prefix("o"), Some(1)),
            (of().action_prefix("o"), Some(0)),
            // This prefix finds so many entries that reading them in the order of seq is better.
            (of().action_prefix("n"), None),
            (of().resource_id("D").action("old"), Some(1)),
        ] {
            assert_eq!(rarest(&sqlite, &query).await.unwrap(), expected, "{query:?}");
        }
    }
}
