//! Counts entries by what they have in common.

use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    error::store_error,
    read::plan_and_ask,
    rows::micros_or_none,
    source::Postgres,
    sql::{Statement, if_readable, plain},
};
use crate::error::AuditError;
use crate::query::{AuditQuery, Column, CountBy, ZoneOffsets, spelled, spelled_date, steps};
use crate::store::{Group, GroupKey, backend::Groups};

/// The number of rows that match, by what they have in common.
pub(super) async fn count_by(
    postgres: &Postgres,
    query: &AuditQuery,
    by: &[CountBy],
) -> Result<Groups, AuditError> {
    let rows = plan_and_ask(postgres, query, async |scope, indexes, connection| {
        let mut statement = Statement::new(postgres, "SELECT ");
        for by in by {
            statement.push(&key(by)).push(", ").push(&name(by)).push(", ");
        }
        statement.push("count(*), min(e.ts), max(e.ts), count(*) OVER (), sum(count(*)) OVER ()::bigint");
        statement.filter(query, scope, indexes);
        let keys: Vec<_> = (0..by.len()).map(|index| (2 * index + 1).to_string()).collect();
        statement.push(" GROUP BY ").push(&keys.join(", ")).push(" ORDER BY ");
        let by_size = format!("{} DESC, {} NULLS LAST", 2 * by.len() + 1, keys.join(" NULLS LAST, "));
        if by.first().is_some_and(CountBy::is_time) {
            statement.push("1, ");
        }
        statement.push(&by_size);
        if let Some(limit) = query.filter.limit {
            statement.push(" LIMIT ").bind(i64::from(limit));
        }
        statement.into_query()?.fetch_all(connection).await.map_err(store_error)
    })
    .await?
    .unwrap_or_default();
    let number = |row: &PgRow, index| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(index)?.cast_unsigned());
    let counts = 2 * by.len();
    let group = |row: &PgRow| {
        Ok(Group {
            keys: by
                .iter()
                .enumerate()
                .map(|(index, by)| key_of(row, 2 * index, by))
                .collect::<sqlx::Result<_>>()?,
            entries: number(row, counts)?,
            least_ts: micros_or_none(row, counts + 1)?.unwrap_or_default(),
            greatest_ts: micros_or_none(row, counts + 2)?.unwrap_or_default(),
        })
    };
    let groups = || {
        let (distinct, entries) = match rows.first() {
            Some(row) => (number(row, counts + 3)?, number(row, counts + 4)?),
            None => (0, 0),
        };
        Ok(Groups { found: rows.iter().map(group).collect::<sqlx::Result<_>>()?, distinct, entries })
    };
    groups().map_err(store_error)
}

/// The expression of what entries have in common.
fn key(by: &CountBy) -> String {
    match by {
        CountBy::Hour => rounded_down("hour", "e.ts"),
        CountBy::Day => rounded_down("day", "e.ts"),
        CountBy::HourIn(zone) => {
            let offset = offset(zone);
            format!("{} - {offset}", rounded_down("hour", &format!("e.ts + {offset}")))
        }
        CountBy::DayIn(zone) => rounded_down("day", &format!("e.ts + {}", offset(zone))),
        CountBy::Ledger => "e.ledger".to_owned(),
        CountBy::Column(column) => format!("e.{column}"),
        CountBy::Metadata(path) => if_readable(&plain(&steps(path))),
    }
}

/// The expression of a name that the id was made from: if it was made from one, that is in the metadata.
fn name(by: &CountBy) -> String {
    match by {
        CountBy::Column(column) if column.holds_ids() && *column != Column::Id => {
            format!("max({})", if_readable(&format!("e.metadata ->> '{column}' COLLATE \"C\"")))
        }
        _ => "NULL::text".to_owned(),
    }
}

fn key_of(row: &PgRow, index: usize, by: &CountBy) -> sqlx::Result<GroupKey> {
    let value = match by {
        CountBy::Hour | CountBy::Day | CountBy::HourIn(_) => micros_or_none(row, index)?.map(spelled),
        CountBy::DayIn(_) => micros_or_none(row, index)?.map(spelled_date),
        CountBy::Column(column) if column.holds_ids() => {
            row.try_get::<Option<Uuid>, _>(index)?.map(|id| id.to_string())
        }
        _ => row.try_get(index)?,
    };
    Ok(GroupKey { value, name: row.try_get(index + 1)? })
}

/// The expression of a time, rounded down in UTC, whatever the session's time zone is.
fn rounded_down(unit: &str, time: &str) -> String {
    format!("date_trunc('{unit}', {time}, 'UTC')")
}

/// The expression for the offset of a zone's clock at `ts`, as an interval. It is none near the ends of what a timestamp
/// can be, where no entry is that this crate wrote, and where the sum would be an error.
fn offset(zone: &ZoneOffsets) -> String {
    let offset = zone.expression(&|seconds| format!("interval '{seconds} s'"), &|moment, before, after| {
        format!(
            "CASE WHEN e.ts < timestamptz 'epoch' + interval '{moment} us' THEN {before} ELSE {after} END"
        )
    });
    format!(
        "CASE WHEN e.ts >= timestamptz '4000-01-01 BC' AND e.ts < timestamptz '200000-01-01' THEN {offset} \
         ELSE interval '0' END"
    )
}
