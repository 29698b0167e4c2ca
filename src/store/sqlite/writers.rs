//! Writes down and reads what the ledger knows of each writer: who it is, how far it had accepted entries, its end.

use std::time::Duration;

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use crate::entry::Moment;
use crate::platform::Origin;
use crate::store::{KnownWriter, OfWriters, Standing};

/// The columns of a writer that a batch sets.
#[derive(Clone, Copy, Default)]
pub(super) struct Reached {
    pub(super) next_seq: Option<i64>,
    pub(super) quarantined: Option<i64>,
    pub(super) ends: bool,
}

/// Writes down what is known of a writer. A column without a new value stays as it is.
pub(super) async fn write_down(
    connection: &mut SqliteConnection,
    writer: Uuid,
    reached: Reached,
    standing: Option<Standing<'_>>,
) -> sqlx::Result<()> {
    let now = Moment::now().micros;
    let origin = standing.map(|standing| standing.origin);
    let of = |part: fn(&Origin) -> &Option<String>| origin.and_then(|origin| part(origin).as_deref());
    sqlx::query(
        "INSERT INTO tracing_audit_writers
             (writer, next_seq, quarantined, accepted, started_at, said_at, ended_at, host, process, home, mounts, parent)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET next_seq = ifnull(excluded.next_seq, next_seq),
                                   quarantined = ifnull(excluded.quarantined, quarantined),
                                   accepted = ifnull(excluded.accepted, accepted),
                                   said_at = ifnull(excluded.said_at, said_at),
                                   ended_at = ifnull(excluded.ended_at, ended_at)",
    )
    .bind(writer)
    .bind(reached.next_seq)
    .bind(reached.quarantined)
    .bind(standing.map(|standing| standing.accepted.cast_signed()))
    .bind(standing.map(|_| now))
    .bind(standing.map(|_| now))
    .bind(reached.ends.then_some(now))
    .bind(of(|origin| &origin.host))
    .bind(of(|origin| &origin.process))
    .bind(of(|origin| &origin.home))
    .bind(of(|origin| &origin.mounts))
    .bind(of(|origin| &origin.parent))
    .execute(connection)
    .await?;
    Ok(())
}

/// Answers a question about writers, or writes down a statement.
pub(super) async fn writers(
    connection: &mut SqliteConnection,
    call: OfWriters<'_>,
) -> sqlx::Result<Vec<KnownWriter>> {
    let select = match call {
        OfWriters::Goes(writer, standing) => {
            write_down(connection, writer, Reached::default(), Some(standing)).await?;
            return Ok(Vec::new());
        }
        OfWriters::Ended(writer) => {
            let end = "UPDATE tracing_audit_writers SET ended_at = ? WHERE writer = ? AND ended_at IS NULL";
            sqlx::query(end).bind(Moment::now().micros).bind(writer).execute(connection).await?;
            return Ok(Vec::new());
        }
        OfWriters::Open => sqlx::query(
            "SELECT writer, accepted, ended_at IS NOT NULL, host, process, home, mounts, parent, said_at
             FROM tracing_audit_writers WHERE ended_at IS NULL",
        ),
        OfWriters::Known(writer) => sqlx::query(
            "SELECT writer, accepted, ended_at IS NOT NULL, host, process, home, mounts, parent, said_at
             FROM tracing_audit_writers WHERE writer = ?",
        )
        .bind(writer),
    };
    select.fetch_all(connection).await?.iter().map(known).collect()
}

fn known(row: &SqliteRow) -> sqlx::Result<KnownWriter> {
    let said_at: Option<i64> = row.try_get(8)?;
    let silent = said_at.map_or(0, |at| Moment::now().micros.saturating_sub(at).max(0));
    Ok(KnownWriter {
        said_at,
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
