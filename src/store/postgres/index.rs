//! Making, dropping and listing indexes.

use std::{collections::VecDeque, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _, postgres::PgRow};

use super::{
    Postgres,
    borrowed::within,
    open::{exists, failed, is_race},
    read::{ENTRIES, beginning, metadata},
    scope::Indexes,
};
use crate::{
    AuditError, AuditQuery, Column, IndexOn,
    reader::steps,
    store::{
        index::{Index, name_of},
        migration::{Migrate, no_tables},
    },
};

/// How often to look whether what another process does is done.
const PAUSE: Duration = Duration::from_millis(500);

/// How often to try again where several make one at the same moment.
const RACES: u32 = 20;

/// How often one must look abandoned before it is.
const LOOKS: u32 = 3;

struct Statements {
    /// Of the expression that it is on, if it is on one: PostgreSQL uses none of those of a partial index, and without any it
    /// expects one entry in 200, whatever is looked for. They do not need the index, and are taken first: where that is
    /// ready, they are there.
    statistics: VecDeque<String>,
    index: String,
}

impl Statements {
    fn new(postgres: &Postgres, on: &IndexOn) -> Self {
        let (name, prefix) = (identifier(&name_of(on)), &postgres.prefix);
        let what = match on {
            IndexOn::Column(column) if column.holds_ids() => column.name().to_owned(),
            IndexOn::Column(column) => beginning(column.name()),
            IndexOn::Metadata(path) => beginning(&metadata("metadata", &steps(path))),
        };
        // Where there is nothing, nothing is looked for.
        let some = match on {
            IndexOn::Column(Column::Action | Column::Resource | Column::Decision) => String::new(),
            _ => format!(" WHERE {what} IS NOT NULL"),
        };
        let table = format!("{prefix}{ENTRIES}");
        let statistics = match on {
            IndexOn::Column(column) if column.holds_ids() => VecDeque::new(),
            _ => VecDeque::from([
                format!("CREATE STATISTICS IF NOT EXISTS {prefix}{name} ON ({what}) FROM {table}"),
                format!("ANALYZE {table}"),
            ]),
        };
        let index = format!(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} (ledger, ({what}), seq){some}"
        );
        Self { statistics, index }
    }
}

pub(super) fn sql(postgres: &Postgres, on: &IndexOn) -> String {
    let Statements { mut statistics, index } = Statements::new(postgres, on);
    statistics.push_back(index);
    statistics.make_contiguous().join(";\n")
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) async fn ensure(postgres: &Postgres, on: &IndexOn, migrate: Migrate) -> Result<bool, AuditError> {
    let Statements { mut statistics, index } = Statements::new(postgres, on);
    let mut connection = PgConnection::connect_with(&postgres.options_now().await?).await.map_err(failed)?;
    let name = format!("{}{}", postgres.prefix, identifier(&name_of(on)));
    let make = migrate == Migrate::Auto;
    let (mut races, mut looks) = (RACES, LOOKS);
    let has = loop {
        let state = state(postgres, &mut connection, &name).await?;
        let is_absent = matches!(state, State::Absent);
        let statement = match (state, make) {
            (State::Ready, _) => break true,
            (_, false) => break false,
            (State::Absent, true) => statistics.front().unwrap_or(&index).clone(),
            // Whoever has made it lets go of the table a moment before that is seen.
            (State::Abandoned, true) if looks > 0 => {
                looks -= 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            (State::Abandoned, true) => format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
            (State::Busy, true) => {
                looks = LOOKS;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match run(&mut connection, statement).await {
            Ok(()) if is_absent => std::mem::drop(statistics.pop_front()),
            Ok(()) => {}
            // Two that make one at once may wait for each other.
            Err(cause) if is_race(&cause) && races > 0 => races -= 1,
            Err(cause) => return Err(failed(cause)),
        }
    };
    connection.close().await.map_err(failed)?;
    Ok(has)
}

enum State {
    Ready,
    /// Somebody makes this index or another one, and whoever would wait for that in the database would be waited for by it.
    Busy,
    Absent,
    /// Whoever made it was interrupted.
    Abandoned,
}

async fn state(postgres: &Postgres, connection: &mut PgConnection, name: &str) -> Result<State, AuditError> {
    let mut transaction = connection.begin().await.map_err(failed)?;
    if !exists(postgres, &mut transaction, ENTRIES).await.map_err(failed)? {
        return Err(no_tables());
    }
    let state = postgres.statement(
        "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)),
                EXISTS (SELECT 1 FROM pg_locks l WHERE relation = to_regclass($2) AND mode = 'ShareUpdateExclusiveLock'
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_vacuum v WHERE v.pid = l.pid)
                        AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_analyze a WHERE a.pid = l.pid))",
    );
    let table = format!("{}{ENTRIES}", postgres.prefix);
    let state = state.row().bind(name.to_owned()).bind(table).fetch_one(&mut *transaction).await;
    let state = state.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(match state {
        (Some(true), _) => State::Ready,
        (_, true) => State::Busy,
        (None, false) => State::Absent,
        (Some(false), false) => State::Abandoned,
    })
}

pub(super) async fn drop(postgres: &Postgres, on: &IndexOn) -> Result<(), AuditError> {
    let mut connection = PgConnection::connect_with(&postgres.options_now().await?).await.map_err(failed)?;
    let name = format!("{}{}", postgres.prefix, identifier(&name_of(on)));
    for what in ["INDEX CONCURRENTLY", "STATISTICS"] {
        run(&mut connection, format!("DROP {what} IF EXISTS {name}")).await.map_err(failed)?;
    }
    connection.close().await.map_err(failed)
}

/// By itself: what is made concurrently is not within a transaction.
async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(std::mem::drop)
}

pub(super) async fn is_served(postgres: &Postgres, query: &AuditQuery) -> Result<bool, AuditError> {
    if query.served_on_request().next().is_none() {
        return Ok(false);
    }
    let find = async |connection: &mut PgConnection| Indexes::find(postgres, connection).await;
    let indexes = within(postgres.readers().await?, find).await?;
    let served = |indexes: Indexes| query.all_conditions().any(|condition| indexes.serve(&condition));
    Ok(indexes.is_some_and(served))
}

pub(super) async fn list(postgres: &Postgres) -> Result<Vec<Index>, AuditError> {
    let list = postgres.statement(
        "SELECT c.relname::text, i.indisvalid, pg_relation_size(c.oid), pg_stat_get_numscans(c.oid)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1) ORDER BY 1",
    );
    let table = format!("{}{ENTRIES}", postgres.prefix);
    let list = list.query().bind(table);
    let list = async |connection: &mut PgConnection| list.fetch_all(connection).await.map_err(failed);
    let rows = within(postgres.readers().await?, list).await?;
    let index = |row: &PgRow| {
        let size: i64 = row.try_get(2)?;
        let scans: i64 = row.try_get(3)?;
        let (size, scans) = (size.cast_unsigned(), scans.cast_unsigned());
        Ok(Index::new(row.try_get(0)?, row.try_get(1)?, Some(size), Some(scans)))
    };
    rows.iter().map(index).collect::<sqlx::Result<_>>().map_err(failed)
}
