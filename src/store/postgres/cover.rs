//! Reads what the coverage of an answer needs, in three statements of one transaction: a server is often far away.

use sqlx::{
    PgConnection, Postgres as Database, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    borrowed::Borrowed,
    conditions::{IndexNames, Scope, time_bounds},
    error::{Veiled, store_error},
    read,
    rows::{LEDGER, ROW, micros, micros_or_none},
    schema::{VEILS, names},
    source::Postgres,
    sql::{ENTRIES, Statement},
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{
    BatchRow, COUNTED, Cover, Ends, Found, LedgerCover, Piece, SilentRow, WritersKnown,
    survey::{Asked, Times, first_piece as first_piece_of},
};

const QUARANTINE: &str = "tracing_audit_quarantine";
const WRITERS: &str = "tracing_audit_writers";

/// Has the server plan each statement of a transaction once for the connection. Otherwise it would plan most of them
/// again for each range of `seq`, which takes as long as their work, and leads to the same indexes.
const PLANNED_ONCE: &str = "SELECT set_config('plan_cache_mode', 'force_generic_plan', true)
                            WHERE current_setting('plan_cache_mode', true) = 'auto'";

/// Asks for the rights of the role, before any other statement: none of the others can be planned without them.
const LOOK: &str = "SELECT to_regclass($2) IS NOT NULL,
        coalesce(has_table_privilege(to_regclass($3), 'SELECT'), false),
        coalesce(has_table_privilege(to_regclass($4), 'SELECT'), false),
        (SELECT min(told) FROM veils WHERE is_instead), ARRAY(SELECT told FROM veils WHERE NOT is_instead ORDER BY told)";

// The counts are asked for in the order of the rows, which an index has. Otherwise the planner takes a third of all
// rows for those at the head or after it, and would look through the whole table for them.
const ENDS: &str = "SELECT h.next_seq,
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_entries
                               WHERE ledger = $1 AND seq >= greatest(h.next_seq, 0) ORDER BY seq LIMIT $2) beyond),
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_entries
                               WHERE ledger = $1 AND seq < 0 ORDER BY seq LIMIT $2) below),
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_batches
                               WHERE ledger = $1 AND first_seq >= greatest(h.next_seq, 0) ORDER BY first_seq LIMIT $2) batches),
        (SELECT committed_at FROM @tracing_audit_batches WHERE ledger = $1 ORDER BY first_seq DESC LIMIT 1),
        (SELECT count(*) FROM (SELECT FROM @tracing_audit_batches
                               WHERE ledger = $1 AND first_seq < 0 ORDER BY first_seq LIMIT $2) before),
        (SELECT seq FROM @tracing_audit_entries WHERE ledger = $1 AND action = 'audit.gap' ORDER BY seq DESC LIMIT 1)";

const QUARANTINED: &str =
    "(SELECT count(*) FROM (SELECT FROM @tracing_audit_quarantine WHERE ledger = $1 LIMIT $2) quarantined)";

/// The head remembers it since the version of the tables that knows writers.
const HEAD_WAS: &str = "CASE WHEN h.given > h.next_seq THEN h.given END";

/// Reads a part of the ledger: a row of kind 0 counts it, and each of kind 1 is a batch. The distances fit into int4,
/// whose sum is not a numeric.
pub(super) const PIECE: &str = "SELECT 0, count(*), coalesce(sum((seq - $2)::int4), 0)::int8,
        (SELECT min(seq) FROM @tracing_audit_entries WHERE ledger = $1 AND seq >= $3),
        (SELECT min(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq >= $3),
        NULL::timestamptz, NULL::timestamptz, NULL::uuid, NULL::text
     FROM @tracing_audit_entries WHERE ledger = $1 AND seq >= $2 AND seq < $3
     UNION ALL
     SELECT 1, first_seq, entries, NULL, NULL, committed_at, least_ts, NULL, NULL
     FROM (SELECT first_seq, entries, committed_at, least_ts FROM @tracing_audit_batches
           WHERE ledger = $1 AND first_seq < $3 AND first_seq >= coalesce(
               (SELECT max(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < $2), $2)
           ORDER BY first_seq) batches";

/// The entries whose `ts` is outside of what their batch says. No entry is looked at twice, however many entries a batch says that
/// it has, and no sum goes beyond a bigint.
pub(super) const UNTIMELY: &str = "SELECT e.seq FROM (
        SELECT first_seq, entries, least_ts, greatest_ts, coalesce(lead(first_seq) OVER (ORDER BY first_seq), $3) AS ends_by
        FROM @tracing_audit_batches
        WHERE ledger = $1 AND first_seq >= 0 AND first_seq < $3 AND first_seq >= coalesce(
            (SELECT max(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq < $2), $2)
     ) b CROSS JOIN LATERAL (
        SELECT seq FROM @tracing_audit_entries
        WHERE ledger = $1 AND seq >= greatest(b.first_seq, $2) AND seq < least(b.ends_by, $3)
          AND seq - b.first_seq < b.entries AND (ts < b.least_ts OR ts > b.greatest_ts)
     ) e LIMIT $4";

/// The silent writers, as rows of kind 2 after those of a piece. Who commits says with each batch how far it has accepted entries,
/// of which some are always underway. A reader may not read positions: the last batch of a writer has its position too.
const SILENT: &str = "
     UNION ALL
     SELECT 2, NULL, NULL, NULL, NULL, started_at, said_at, writer, host
     FROM (SELECT writer, host, started_at, said_at FROM @tracing_audit_writers w
           WHERE ledger = $1 AND ended_at IS NULL AND started_at IS NOT NULL AND said_at < now() - interval '10 seconds'
             AND coalesce(accepted, 0) > greatest(coalesce(quarantined, 0), coalesce(
                 (SELECT CASE WHEN latest.writer = w.writer THEN latest.position END
                  FROM (SELECT b.writer, b.position FROM @tracing_audit_batches b
                        WHERE b.ledger = $1 AND b.first_seq < w.next_seq ORDER BY b.first_seq DESC LIMIT 1) latest), 0))
           ORDER BY started_at LIMIT $4) silent";

/// The tables, besides the entries, that the role may read.
struct May {
    quarantine: bool,
    writers: bool,
}

/// Reads the part of one ledger that the coverage of an answer needs.
pub(super) async fn cover(postgres: &Postgres, asked: &Asked) -> Result<Cover, AuditError> {
    let mut connection = Borrowed::of(postgres).await?;
    if asked.query.has_times() {
        // The range of time decides which index finds its entries.
        connection.begin().await?;
    } else {
        connection.begin_with(PLANNED_ONCE).await?;
    }
    let (over, may) = look(postgres, &mut connection).await.map_err(store_error)?;
    let mut found = match may {
        Some(may) => ledger(postgres, &mut connection, asked, &may).await?,
        None => None,
    };
    let mut cut = false;
    if asked.gaps > 0
        && let Some((ledger, Some(0..))) = &mut found
    {
        let gaps = gaps(postgres, &mut connection, asked).await?;
        cut = gaps.cut;
        ledger.gaps = gaps.rows;
    }
    // The same as for a page: giving up the connection is better than taking in the rest.
    if !cut {
        connection.commit().await?;
    }
    Ok(Cover { over, ledger: found.map(|(ledger, _)| ledger) })
}

/// Looks for objects that hide rows, and for the rights of the role. `None` if the tables do not exist.
async fn look(
    postgres: &Postgres,
    connection: &mut PgConnection,
) -> sqlx::Result<(Vec<String>, Option<May>)> {
    let look =
        postgres.statement(&["WITH veils (is_instead, told) AS (", VEILS, ") ", LOOK].concat()).query();
    let look = look.bind(names(postgres)).bind(postgres.table(ENTRIES));
    let look = look.bind(postgres.table(QUARANTINE)).bind(postgres.table(WRITERS));
    let row = look.fetch_one(connection).await?;
    if let Some(instead) = row.try_get(3)? {
        return Err(sqlx::Error::Configuration(Box::new(Veiled(instead))));
    }
    let may = May { quarantine: row.try_get(1)?, writers: row.try_get(2)? };
    Ok((row.try_get(4)?, row.try_get::<bool, _>(0)?.then_some(may)))
}

/// Reads the part of the coverage that does not come from `audit.gap` entries, and the `seq` of the latest of these
/// entries.
async fn ledger(
    postgres: &Postgres,
    connection: &mut PgConnection,
    asked: &Asked,
    may: &May,
) -> Result<Option<(LedgerCover, Option<i64>)>, AuditError> {
    let Some(row) = ends(postgres, asked, may).fetch_optional(&mut *connection).await.map_err(store_error)?
    else {
        return Ok(None);
    };
    let (ends, latest_gap, head_was) = ends_of(&row).map_err(store_error)?;
    let mut times = Times::default();
    if asked.query.has_times() {
        let row = times_of(postgres, &asked.query)?.fetch_one(&mut *connection).await.map_err(store_error)?;
        let side = |index: usize| row.try_get(index).map_err(store_error);
        times = Times { within: (side(0)?, side(1)?), beside: (side(2)?, side(3)?) };
    }
    let part = asked.part(ends.next_seq, times);
    let piece = first_piece(postgres, asked, part.first_piece(), may);
    let rows = piece.fetch_all(&mut *connection).await.map_err(store_error)?;
    let (first, silent) = piece_of(&rows).map_err(store_error)?;
    let to_time = asked.timed(ends.next_seq, part);
    let untimely = untimely(postgres, connection, asked.ledger(), first_piece_of(to_time)).await;
    let untimely = untimely.map_err(store_error)?;
    let writers = may.writers.then_some(WritersKnown { silent, head_was });
    Ok(Some((
        LedgerCover { ends, part, first, timed: to_time, untimely, gaps: Vec::new(), writers },
        latest_gap,
    )))
}

fn ends(postgres: &Postgres, asked: &Asked, may: &May) -> Query<'static, Database, PgArguments> {
    let quarantined = if may.quarantine { QUARANTINED } else { "NULL::int8" };
    let head_was = if may.writers { HEAD_WAS } else { "NULL::int8" };
    let heads = "FROM @tracing_audit_heads h WHERE h.ledger = $1";
    let ends = format!("{ENDS}, {quarantined}, {head_was} {heads}");
    postgres.statement(&ends).query().bind(asked.ledger().to_owned()).bind(COUNTED)
}

/// The ends, the `seq` of the latest `audit.gap` entry, and the end before the head was lowered.
fn ends_of(row: &PgRow) -> sqlx::Result<(Ends, Option<i64>, Option<i64>)> {
    let ends = Ends {
        next_seq: row.try_get(0)?,
        beyond: row.try_get(1)?,
        below: row.try_get(2)?,
        batches_beyond: row.try_get(3)?,
        last_committed_at: micros_or_none(row, 4)?,
        batches_below: row.try_get(5)?,
        quarantined: row.try_get(7)?,
    };
    Ok((ends, row.try_get(6)?, row.try_get(8)?))
}

/// Asks for the batches' times that matter for the query's ranges of time.
fn times_of(
    postgres: &Postgres,
    query: &AuditQuery,
) -> Result<Query<'static, Database, PgArguments>, AuditError> {
    let (least, greatest) = time_bounds(query);
    let mut times = Statement::new(
        postgres,
        "SELECT min(first_seq), max(first_seq + least(greatest(entries, 0), 9223372036854775807 - greatest(first_seq, 0))),
             (SELECT first_seq + least(greatest(entries, 0), 9223372036854775807 - greatest(first_seq, 0)) FROM @tracing_audit_batches WHERE ledger = ",
    );
    times.bind(query.ledger.clone()).push(" AND greatest_ts < ").bind(least);
    times.push(" ORDER BY greatest_ts DESC, first_seq DESC LIMIT 1), ");
    times.push("(SELECT first_seq FROM @tracing_audit_batches WHERE ledger = ").bind(query.ledger.clone());
    times.push(" AND greatest_ts > ").bind(greatest);
    times.push(" ORDER BY greatest_ts, first_seq LIMIT 1) FROM @tracing_audit_batches WHERE TRUE");
    times.and("ledger = ", query.ledger.clone());
    times.batches_in_range(query);
    times.batches_in_time(query);
    times.into_query()
}

/// The first piece of what is compared, and the silent writers.
fn first_piece(
    postgres: &Postgres,
    asked: &Asked,
    (least, greatest): (i64, i64),
    may: &May,
) -> Query<'static, Database, PgArguments> {
    let ledger = asked.ledger().to_owned();
    if !may.writers {
        return postgres.statement(PIECE).query().bind(ledger).bind(least).bind(greatest);
    }
    let piece = postgres.statement(&[PIECE, SILENT].concat()).query();
    piece.bind(ledger).bind(least).bind(greatest).bind(i64::from(asked.writers))
}

/// The entries in a part of the ledger whose `ts` is outside of what their batch says.
async fn untimely(
    postgres: &Postgres,
    connection: &mut PgConnection,
    ledger: &str,
    (from, before): (i64, i64),
) -> sqlx::Result<Vec<i64>> {
    if from >= before {
        return Ok(Vec::new());
    }
    let untimely = postgres.statement(UNTIMELY).scalar().bind(ledger.to_owned()).bind(from).bind(before);
    untimely.bind(COUNTED).fetch_all(connection).await
}

/// A piece, and the silent writers after it. The rows of each kind are in the order of their `SELECT`.
pub(super) fn piece_of(rows: &[PgRow]) -> sqlx::Result<(Piece, Vec<SilentRow>)> {
    let (mut piece, mut silent) = (Piece::default(), Vec::new());
    for row in rows {
        match row.try_get::<i32, _>(0)? {
            0 => {
                piece.count = row.try_get(1)?;
                piece.sum = row.try_get(2)?;
                piece.next_entry = row.try_get(3)?;
                piece.next_batch = row.try_get(4)?;
            }
            1 => piece.batches.push(BatchRow {
                first_seq: row.try_get(1)?,
                entries: row.try_get(2)?,
                committed_at: micros(row, 5)?,
                least_ts: micros(row, 6)?,
            }),
            _ => silent.push(SilentRow {
                writer: row.try_get(7)?,
                host: row.try_get(8)?,
                started_at: micros_or_none(row, 5)?,
                said_at: micros_or_none(row, 6)?,
            }),
        }
    }
    Ok((piece, silent))
}

/// The `audit.gap` entries, latest first.
async fn gaps(
    postgres: &Postgres,
    connection: &mut PgConnection,
    asked: &Asked,
) -> Result<Found, AuditError> {
    let mut gaps = Statement::new(postgres, ROW);
    gaps.push(LEDGER);
    let scope = Scope::Ledgers(vec![asked.ledger().to_owned()]);
    // The index that every log has serves it.
    gaps.filter(&asked.of_gaps(), &scope, &IndexNames(Vec::new()));
    gaps.push(" ORDER BY e.seq DESC LIMIT ").bind(i64::from(asked.gaps));
    read::found(connection, gaps.into_query()?).await
}
