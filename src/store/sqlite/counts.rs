//! Counts entries by what they have in common.

use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    cancel::fetch_all,
    plan::rarest,
    rows::Held,
    source::Sqlite,
    sql::{ENTRIES, Statement, if_json, plain},
};
use crate::entry::{MAX_TS, MIN_TS};
use crate::error::AuditError;
use crate::query::{AuditQuery, Column, CountBy, ZoneOffsets, spelled, spelled_date, steps};
use crate::store::{Group, GroupKey, backend::Groups};

/// An hour and a day in microseconds.
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// The number of rows that match, by what they have in common.
pub(super) async fn count_by(
    sqlite: &Sqlite,
    query: &AuditQuery,
    by: &[CountBy],
) -> Result<Groups, AuditError> {
    if !sqlite.has_tables().await? {
        return Ok(Groups::default());
    }
    sqlite.check_sorting().await?;
    let mut statement = Statement::new("SELECT ");
    for by in by {
        statement.push(&key(by)).push(", ").push(&name(by)).push(", ");
    }
    statement.push("count(*), min(e.ts), max(e.ts), count(*) OVER (), sum(count(*)) OVER ()");
    statement.push(ENTRIES);
    statement.filter(query, rarest(sqlite, query).await?);
    statement.prune(query);
    let keys: Vec<_> = (0..by.len()).map(|index| (2 * index + 1).to_string()).collect();
    statement.push(" GROUP BY ").push(&keys.join(", ")).push(" ORDER BY ");
    let by_size = format!("{} DESC, {} NULLS LAST", 2 * by.len() + 1, keys.join(" NULLS LAST, "));
    if by.first().is_some_and(CountBy::is_time) {
        statement.push("1, ");
    }
    statement.push(&by_size);
    if let Some(limit) = query.filter.limit {
        statement.push(" LIMIT ?").bind(i64::from(limit));
    }
    let store_error = |cause| sqlite.store_error(cause);
    let rows = fetch_all(sqlite, statement.into_query().map_err(store_error)?).await.map_err(store_error)?;
    let number = |row: &SqliteRow, index| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(index)?.cast_unsigned());
    let counts = 2 * by.len();
    let group = |row: &SqliteRow| {
        Ok(Group {
            keys: by
                .iter()
                .enumerate()
                .map(|(index, by)| key_of(row, 2 * index, by))
                .collect::<sqlx::Result<_>>()?,
            entries: number(row, counts)?,
            least_ts: row.try_get(counts + 1).unwrap_or_default(),
            greatest_ts: row.try_get(counts + 2).unwrap_or_default(),
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
        CountBy::Hour => rounded_down(HOUR),
        CountBy::Day => rounded_down(DAY),
        CountBy::HourIn(zone) => {
            let offset = offset(zone);
            format!("{} - {offset}", rounded_down_after(&offset, HOUR))
        }
        CountBy::DayIn(zone) => rounded_down_after(&offset(zone), DAY),
        CountBy::Ledger => "(SELECT ledger FROM tracing_audit_head ORDER BY rowid LIMIT 1)".to_owned(),
        CountBy::Column(column) => format!("e.{column}"),
        CountBy::Metadata(path) => if_json(&plain(&steps(path))),
    }
}

/// The expression of a name that the id was made from: if it was made from one, that is in the metadata.
fn name(by: &CountBy) -> String {
    match by {
        CountBy::Column(column) if column.holds_ids() && *column != Column::Id => {
            format!("max({})", if_json(&format!("CAST(e.metadata ->> '{column}' AS TEXT)")))
        }
        _ => "NULL".to_owned(),
    }
}

fn key_of(row: &SqliteRow, index: usize, by: &CountBy) -> sqlx::Result<GroupKey> {
    let value = match by {
        CountBy::Hour | CountBy::Day | CountBy::HourIn(_) => {
            row.try_get::<Option<i64>, _>(index)?.map(spelled)
        }
        CountBy::DayIn(_) => row.try_get::<Option<i64>, _>(index)?.map(spelled_date),
        CountBy::Column(column) if column.holds_ids() => match row.try_get::<Option<Uuid>, _>(index) {
            Ok(id) => id.map(|id| id.to_string()),
            // Somebody has changed it to what is no id.
            Err(_) => Some(Held::at(row, index).to_string()),
        },
        _ => Held::at(row, index).text(),
    };
    Ok(GroupKey { value, name: Held::at(row, index + 1).text() })
}

/// The expression for `ts`. A time that no entry can have becomes the nearest possible one, before it exceeds the range
/// in which SQLite computes.
fn ts() -> String {
    format!("min(max(e.ts, {MIN_TS}), {MAX_TS})")
}

/// The expression for `ts` rounded down to this unit, also before 1970.
fn rounded_down(unit: i64) -> String {
    let ts = ts();
    format!("{ts} - (({ts} % {unit}) + {unit}) % {unit}")
}

/// The expression for `ts` plus this offset, rounded down to this unit. The sum is made positive meanwhile, where a
/// division rounds down, so that the offset is computed once.
fn rounded_down_after(offset: &str, unit: i64) -> String {
    let units = MIN_TS / DAY * (DAY / unit) - 2 * (DAY / unit);
    format!("(({} + {offset} - {units} * {unit}) / {unit} + {units}) * {unit}", ts())
}

/// The expression for the offset of a zone's clock at `ts`, in microseconds.
fn offset(zone: &ZoneOffsets) -> String {
    zone.expression(&|seconds| (i64::from(seconds) * 1_000_000).to_string(), &|moment, before, after| {
        format!("CASE WHEN e.ts < {moment} THEN {before} ELSE {after} END")
    })
}
