//! Opens the writing connection: checks the server, brings the tables up to date, and adds the ledger's head.

use sqlx::{Connection, PgConnection, Row as _};
use uuid::Uuid;

use super::{
    append::PostgresAppender,
    error::{in_time, store_error},
    functions,
    guard::Guard,
    insert::{Adds, BEGIN, Statements, can_copy},
    migrate::migrate,
    source::Postgres,
    sql::ENTRIES,
};
use crate::error::{AuditError, ErrorKind};
use crate::store::{Opening, growth::Integrity, keeper::Keeper};

pub(super) async fn connect(
    postgres: &Postgres,
    ledger: &str,
    opening: &Opening,
) -> Result<PostgresAppender, AuditError> {
    in_time(Box::pin(open(postgres, ledger, opening))).await?
}

async fn open(postgres: &Postgres, ledger: &str, opening: &Opening) -> Result<PostgresAppender, AuditError> {
    let mut connection = postgres.connect().await?;
    let encoding = "SELECT pg_catalog.current_setting('server_encoding')";
    let encoding = sqlx::raw_sql(encoding).fetch_one(&mut connection).await.map_err(store_error)?;
    let encoding: String = encoding.try_get(0).map_err(store_error)?;
    if encoding != "UTF8" {
        let message =
            format!("the database's encoding is {encoding}: an audit log needs one that is made with UTF8");
        return Err(AuditError::new(ErrorKind::Config, message));
    }
    let was_found = postgres.place.lock().is_some();
    let mut found = postgres.located(&mut connection).await?;
    if was_found {
        compare(&found, &mut connection).await?;
    }
    migrate(&found, &mut connection, opening.migrate).await?;
    if !found.has_all_tables() {
        // The tables that this migration has created are known from now on, too.
        found = postgres.located(&mut connection).await?;
    }
    let postgres = &found;
    end_stopped(&mut connection).await.map_err(store_error)?;
    let mut transaction = connection.begin_with(BEGIN).await.map_err(store_error)?;
    let by_functions =
        functions::stands_in(postgres, &mut transaction, (ENTRIES, "INSERT"), "tracing_audit_append").await?;
    let owners = if by_functions { functions::found(postgres, &mut transaction).await? } else { Vec::new() };
    begin_ledger(postgres, &mut transaction, ledger, by_functions).await.map_err(store_error)?;
    let mut guard = Guard::new(postgres, owners);
    guard.look(&mut transaction).await.map_err(|failed| failed.error)?;
    if guard.noticed.is_none() {
        guard.noticed = postgres.unproven();
    }
    if guard.noticed.is_none() && by_functions && opening.integrity == Integrity::Deferred {
        guard.noticed = Some(functions::cannot_read_back());
    }
    transaction.commit().await.map_err(store_error)?;
    let has_triggers = guard.has_suspects();
    let adds = if by_functions {
        Adds::Calling
    } else if can_copy(postgres, &mut connection, has_triggers).await.map_err(store_error)? {
        Adds::Copying
    } else {
        Adds::Inserting
    };
    let statements = Statements::new(postgres, has_triggers, adds);
    Ok(PostgresAppender::new(connection, statements, guard, Keeper::new(opening.integrity), ledger))
}

/// Makes the head of the ledger, if it has none: each append will lock this row.
async fn begin_ledger(
    postgres: &Postgres,
    transaction: &mut PgConnection,
    ledger: &str,
    by_functions: bool,
) -> sqlx::Result<()> {
    if by_functions {
        let begin = postgres.statement("SELECT @tracing_audit_begin($1)").query().bind(ledger);
        return begin.execute(transaction).await.map(drop);
    }
    let head = postgres.statement("SELECT log_id IS NOT NULL FROM @tracing_audit_heads WHERE ledger = $1");
    let head = head.scalar::<bool>().bind(ledger).fetch_optional(&mut *transaction).await;
    let is_named = head?;
    if is_named.is_none() {
        let add = postgres.statement(
            "INSERT INTO @tracing_audit_heads (ledger, next_seq) VALUES ($1, 0) ON CONFLICT DO NOTHING",
        );
        add.query().bind(ledger).execute(&mut *transaction).await?;
    }
    if is_named != Some(true) {
        let name = "UPDATE @tracing_audit_heads SET log_id = $2 WHERE ledger = $1 AND log_id IS NULL";
        let name = postgres.statement(name).query().bind(ledger).bind(Uuid::new_v4());
        name.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Compares the tables with those that were found first.
async fn compare(postgres: &Postgres, connection: &mut PgConnection) -> Result<(), AuditError> {
    let mut transaction = connection.begin_with(BEGIN).await.map_err(store_error)?;
    Guard::new(postgres, Vec::new()).look(&mut transaction).await.map_err(|failed| failed.error)?;
    transaction.commit().await.map_err(store_error)
}

/// Ends what holds a ledger while it waits for rows that do not come: the `COPY` of a process of this role that is stopped
/// or cut off. No setting limits how long the server waits for them.
async fn end_stopped(connection: &mut PgConnection) -> sqlx::Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
                 AND state = 'active' AND wait_event = 'ClientRead' AND query LIKE 'COPY %tracing_audit_entries%'
                 AND query_start < clock_timestamp() - interval '30s'";
    let mut transaction = connection.begin_with(BEGIN).await?;
    sqlx::raw_sql(end).execute(&mut *transaction).await?;
    transaction.commit().await
}
