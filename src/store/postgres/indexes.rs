//! Creates, drops and lists indexes.

use std::{collections::VecDeque, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _, postgres::PgRow};

use super::{
    borrowed::within,
    error::{is_race, store_error},
    place::BEGIN,
    quote::identifier,
    source::Postgres,
    sql::{ENTRIES, beginning, has_table, metadata},
};
use crate::error::AuditError;
use crate::query::{Column, IndexOn, steps};
use crate::store::{
    Index, Migrate,
    index::{name_of, names_of},
    migration::no_tables,
};

/// Poll interval while another process builds an index.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Retries after losing a race to build the same index.
const RACE_RETRIES: u32 = 20;

/// Probes in a row, all finding an index invalid and unowned, after which it counts as abandoned.
const ABANDONED_PROBES: u32 = 3;

/// The statements that create an index.
struct IndexStatements {
    /// The statements that collect statistics of the expression that the index is on; none if it is on a plain column.
    /// PostgreSQL does not use the statistics of a partial index, and without any it expects one entry in 200 to match,
    /// whatever the value is. Statistics do not need the index and are collected first, so that a ready index has them.
    statistics: VecDeque<String>,
    index: String,
}

impl IndexStatements {
    fn new(postgres: &Postgres, on: &IndexOn) -> Self {
        let (name, prefix) = (identifier(&name_of(on)), postgres.prefix());
        let expression = match on {
            IndexOn::Column(column) if column.holds_ids() => column.name().to_owned(),
            IndexOn::Column(column) => beginning(column.name()),
            IndexOn::Metadata(path) => beginning(&metadata("metadata", &steps(path))),
        };
        // Nobody searches for NULL, so leave NULLs out of the index.
        let not_null = match on {
            IndexOn::Column(Column::Action | Column::Resource | Column::Decision) => String::new(),
            _ => format!(" WHERE {expression} IS NOT NULL"),
        };
        let table = postgres.table(ENTRIES);
        let statistics = match on {
            IndexOn::Column(column) if column.holds_ids() => VecDeque::new(),
            _ => VecDeque::from([
                format!("CREATE STATISTICS IF NOT EXISTS {prefix}{name} ON ({expression}) FROM {table}"),
                format!("ANALYZE {table}"),
            ]),
        };
        let index = format!(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} (ledger, ({expression}), seq){not_null}"
        );
        Self { statistics, index }
    }
}

/// The statements that create this index, for running them by hand.
pub(super) fn sql(postgres: &Postgres, on: &IndexOn) -> String {
    let IndexStatements { mut statistics, index } = IndexStatements::new(postgres, on);
    statistics.push_back(index);
    statistics.make_contiguous().join(";\n")
}

/// Whether this index exists and can be used. If it does not exist it is created, if `migrate` allows it; if another
/// process is creating it, this waits.
pub(super) async fn ensure(postgres: &Postgres, on: &IndexOn, migrate: Migrate) -> Result<bool, AuditError> {
    let mut connection = postgres.connect().await?;
    let postgres = &postgres.located(&mut connection).await?;
    let IndexStatements { mut statistics, index } = IndexStatements::new(postgres, on);
    let name = postgres.table(&identifier(&name_of(on)));
    let may_create = migrate == Migrate::Auto;
    let (mut retries, mut probes) = (RACE_RETRIES, ABANDONED_PROBES);
    let exists = loop {
        let state = state(postgres, &mut connection, &name).await?;
        let is_absent = matches!(state, State::Absent);
        let statement = match (state, may_create) {
            (State::Ready, _) => break true,
            (_, false) => break false,
            (State::Absent, true) => statistics.front().unwrap_or(&index).clone(),
            // A process that has just created the index releases the table a moment before the index is seen as valid.
            (State::Abandoned, true) if probes > 0 => {
                probes -= 1;
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            (State::Abandoned, true) => format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
            (State::Busy, true) => {
                probes = ABANDONED_PROBES;
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
        };
        match run(&mut connection, statement).await {
            Ok(()) if is_absent => std::mem::drop(statistics.pop_front()),
            Ok(()) => {}
            // Two processes that create an index at the same moment may wait for each other.
            Err(cause) if is_race(&cause) && retries > 0 => retries -= 1,
            Err(cause) => return Err(store_error(cause)),
        }
    };
    connection.close().await.map_err(store_error)?;
    Ok(exists)
}

/// The state of an index.
enum State {
    Ready,
    /// Another process is creating this index or another one on the table. It must not be awaited by a statement: the
    /// other process would wait for the transaction of that statement in turn.
    Busy,
    Absent,
    /// The process that was creating the index was interrupted.
    Abandoned,
}

async fn state(postgres: &Postgres, connection: &mut PgConnection, name: &str) -> Result<State, AuditError> {
    let mut transaction = connection.begin_with(BEGIN).await.map_err(store_error)?;
    if !has_table(postgres, &mut transaction, ENTRIES).await.map_err(store_error)? {
        return Err(no_tables());
    }
    let state = postgres.statement(
        "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)),
                EXISTS (SELECT 1 FROM pg_locks l WHERE relation = to_regclass($2) AND mode = 'ShareUpdateExclusiveLock'
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_vacuum v WHERE v.pid = l.pid)
                        AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_analyze a WHERE a.pid = l.pid))",
    );
    let state =
        state.row().bind(name.to_owned()).bind(postgres.table(ENTRIES)).fetch_one(&mut *transaction).await;
    let state = state.map_err(store_error)?;
    transaction.commit().await.map_err(store_error)?;
    Ok(match state {
        (Some(true), _) => State::Ready,
        (_, true) => State::Busy,
        (None, false) => State::Absent,
        (Some(false), false) => State::Abandoned,
    })
}

/// Drops this index and its statistics, if they exist.
pub(super) async fn drop(postgres: &Postgres, on: &IndexOn) -> Result<(), AuditError> {
    let mut connection = postgres.connect().await?;
    let postgres = &postgres.located(&mut connection).await?;
    for name in names_of(on) {
        let name = postgres.table(&identifier(&name));
        for what in ["INDEX CONCURRENTLY", "STATISTICS"] {
            run(&mut connection, format!("DROP {what} IF EXISTS {name}")).await.map_err(store_error)?;
        }
    }
    connection.close().await.map_err(store_error)
}

/// Runs a statement outside of a transaction, in which nothing can be created or dropped concurrently.
async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(std::mem::drop)
}

/// The indexes of the entries.
pub(super) async fn list(postgres: &Postgres) -> Result<Vec<Index>, AuditError> {
    let list = postgres.statement(
        "SELECT c.relname::text, i.indisvalid, pg_relation_size(c.oid), pg_stat_get_numscans(c.oid)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1) ORDER BY 1",
    );
    let list = list.query().bind(postgres.table(ENTRIES));
    let list = async |connection: &mut PgConnection| list.fetch_all(connection).await.map_err(store_error);
    let rows = within(postgres, list).await?;
    let index = |row: &PgRow| {
        let size: i64 = row.try_get(2)?;
        let scans: i64 = row.try_get(3)?;
        let (size, scans) = (size.cast_unsigned(), scans.cast_unsigned());
        Ok(Index::new(row.try_get(0)?, row.try_get(1)?, Some(size), Some(scans)))
    };
    rows.iter().map(index).collect::<sqlx::Result<_>>().map_err(store_error)
}
