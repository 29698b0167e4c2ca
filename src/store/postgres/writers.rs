//! Writes down and reads what the ledger knows of each writer: who it is, how far it had accepted entries, its end.

use std::time::Duration;

use sqlx::{PgConnection, Row as _, postgres::PgArguments, postgres::PgRow, query::Query};
use uuid::Uuid;

use super::{source::Postgres, sql::Sql};
use crate::platform::Origin;
use crate::store::{KnownWriter, OfWriters, Standing};

/// Writes down what is known of a writer. A column without a new value stays as it is.
pub(super) const WRITE_DOWN: &str = "INSERT INTO @tracing_audit_writers AS w
         (ledger, writer, next_seq, quarantined, accepted, started_at, said_at, ended_at, host, process, home, mounts,
          parent)
     VALUES ($1, $2, $3, $4, $5, CASE WHEN $5::bigint IS NULL THEN NULL ELSE clock_timestamp() END,
             CASE WHEN $5::bigint IS NULL THEN NULL ELSE clock_timestamp() END,
             CASE WHEN $6 THEN clock_timestamp() END, $7, $8, $9, $10, $11)
     ON CONFLICT (ledger, writer) DO UPDATE SET next_seq = coalesce(excluded.next_seq, w.next_seq),
                                                quarantined = coalesce(excluded.quarantined, w.quarantined),
                                                accepted = coalesce(excluded.accepted, w.accepted),
                                                said_at = coalesce(excluded.said_at, w.said_at),
                                                ended_at = coalesce(excluded.ended_at, w.ended_at)";

/// The columns of a writer that a batch sets.
#[derive(Clone, Copy, Default)]
pub(super) struct Reached {
    pub(super) next_seq: Option<i64>,
    pub(super) quarantined: Option<i64>,
    pub(super) ends: bool,
}

/// Binds the parameters of [`WRITE_DOWN`], the first eleven.
pub(super) fn bind_writer<'q>(
    query: Query<'q, sqlx::Postgres, PgArguments>,
    ledger: &'q str,
    writer: Uuid,
    reached: Reached,
    standing: Option<Standing<'q>>,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    let origin = standing.map(|standing| standing.origin);
    let of = |part: fn(&Origin) -> &Option<String>| origin.and_then(|origin| part(origin).as_deref());
    query
        .bind(ledger)
        .bind(writer)
        .bind(reached.next_seq)
        .bind(reached.quarantined)
        .bind(standing.map(|standing| standing.accepted.cast_signed()))
        .bind(reached.ends)
        .bind(of(|origin| &origin.host))
        .bind(of(|origin| &origin.process))
        .bind(of(|origin| &origin.home))
        .bind(of(|origin| &origin.mounts))
        .bind(of(|origin| &origin.parent))
}

/// The statements about writers.
pub(super) struct WriterStatements {
    goes: Sql,
    ended: Sql,
    open: Sql,
    known: Sql,
}

impl WriterStatements {
    pub(super) fn new(postgres: &Postgres) -> Self {
        let select = "SELECT writer, accepted, ended_at IS NOT NULL, host, process, home, mounts, parent,
                             CASE WHEN isfinite(said_at) THEN (extract(epoch FROM said_at) * 1000000)::bigint END,
                             CASE WHEN isfinite(said_at)
                                  THEN (extract(epoch FROM clock_timestamp() - said_at) * 1000000)::bigint END
                      FROM @tracing_audit_writers WHERE ledger = $1 AND";
        Self {
            goes: postgres.statement(WRITE_DOWN),
            ended: postgres.statement(
                "UPDATE @tracing_audit_writers SET ended_at = clock_timestamp()
                 WHERE ledger = $1 AND writer = $2 AND ended_at IS NULL",
            ),
            open: postgres.statement(&format!("{select} ended_at IS NULL")),
            known: postgres.statement(&format!("{select} writer = $2")),
        }
    }

    /// The same by the functions of the tables' owner. They take those of the parameters of [`bind_writer`] that
    /// are about the writer alone.
    pub(super) fn of_functions(postgres: &Postgres) -> Self {
        Self {
            goes: postgres.statement("SELECT @tracing_audit_goes($1, $2, $5, $7, $8, $9, $10, $11)"),
            ended: postgres.statement("SELECT @tracing_audit_ended($1, $2)"),
            // Every argument has its type: a function of somebody else's, with other types, can never fit better.
            open: postgres.statement("SELECT * FROM @tracing_audit_known_writers($1, NULL::pg_catalog.uuid)"),
            known: postgres.statement("SELECT * FROM @tracing_audit_known_writers($1, $2)"),
        }
    }

    /// Answers a question about writers, or writes down a statement.
    pub(super) async fn writers(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        call: OfWriters<'_>,
    ) -> sqlx::Result<Vec<KnownWriter>> {
        let select = match call {
            OfWriters::Goes(writer, standing) => {
                let goes = self.goes.query();
                let goes = bind_writer(goes, ledger, writer, Reached::default(), Some(standing));
                goes.execute(connection).await?;
                return Ok(Vec::new());
            }
            OfWriters::Ended(writer) => {
                self.ended.query().bind(ledger).bind(writer).execute(connection).await?;
                return Ok(Vec::new());
            }
            OfWriters::Open => self.open.query().bind(ledger),
            OfWriters::Known(writer) => self.known.query().bind(ledger).bind(writer),
        };
        select.fetch_all(connection).await?.iter().map(known).collect()
    }
}

fn known(row: &PgRow) -> sqlx::Result<KnownWriter> {
    let silent = row.try_get::<Option<i64>, _>(9)?.unwrap_or(0).max(0);
    Ok(KnownWriter {
        said_at: row.try_get(8)?,
        silent: Duration::from_micros(silent.cast_unsigned()),
        writer: row.try_get(0)?,
        accepted: row.try_get::<Option<i64>, _>(1)?.map_or(0, i64::cast_unsigned),
        ended: row.try_get(2)?,
        origin: Origin {
            host: row.try_get(3)?,
            process: row.try_get(4)?,
            home: row.try_get(5)?,
            mounts: row.try_get(6)?,
            parent: row.try_get(7)?,
        },
    })
}
