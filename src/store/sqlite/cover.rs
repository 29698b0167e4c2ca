//! Reads what the coverage of an answer needs, on one connection: each costs as much as a statement or two.

use sqlx::{AssertSqlSafe, Row as _, sqlite::SqliteRow};

use super::{
    cancel::Cancellable,
    read::{found, of_page, within_times},
    schema::several_heads,
    source::Sqlite,
    sql::INSTEAD,
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{
    BatchRow, COUNTED, Cover, Ends, Found, LedgerCover, Piece, SilentRow, Span, WritersKnown,
    migration::veiled,
    survey::{Asked, Times, first_piece},
};

/// Whether there are entries, whether there are writers, and what stands in the place of a table.
const LOOK: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'tracing_audit_entries'),
        (SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('tracing_audit_writers', 'tracing_audit_positions')), (SELECT told FROM instead LIMIT 1)";

/// The number of heads, and the ends of the ledger. Without such a ledger there is one row too.
const ENDS: &str = "SELECT n.heads, h.ledger IS NOT NULL, h.next_seq,
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_entries WHERE seq >= max(h.next_seq, 0) LIMIT ?2)),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_entries WHERE seq < 0 LIMIT ?2)),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_batches WHERE first_seq >= max(h.next_seq, 0) LIMIT ?2)),
        (SELECT committed_at FROM tracing_audit_batches ORDER BY first_seq DESC LIMIT 1),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_quarantine LIMIT ?2)),
        (SELECT count(*) FROM (SELECT 1 FROM tracing_audit_batches WHERE first_seq < 0 LIMIT ?2))";

/// The head remembers it since the version of the tables that knows writers.
const HEAD_WAS: &str = "CASE WHEN h.given > h.next_seq THEN h.given END";

const HEADS: &str = "FROM (SELECT count(*) AS heads FROM tracing_audit_head) n
     LEFT JOIN tracing_audit_head h ON h.ledger = ?1";

const COUNTS: &str = "SELECT count(*), ifnull(sum(seq - ?1), 0),
        (SELECT min(seq) FROM tracing_audit_entries WHERE seq >= ?2),
        (SELECT min(first_seq) FROM tracing_audit_batches WHERE first_seq >= ?2)
     FROM tracing_audit_entries WHERE seq >= ?1 AND seq < ?2";

const BATCHES: &str = "SELECT first_seq, entries, committed_at, least_ts FROM tracing_audit_batches
     WHERE first_seq >= ifnull((SELECT max(first_seq) FROM tracing_audit_batches WHERE first_seq < ?1), ?1)
     AND first_seq < ?2 ORDER BY first_seq";

const BESIDE: &str = "SELECT
     (SELECT first_seq + min(max(entries, 0), 9223372036854775807 - max(first_seq, 0)) FROM tracing_audit_batches WHERE greatest_ts < ?1
      ORDER BY greatest_ts DESC, first_seq DESC LIMIT 1),
     (SELECT first_seq FROM tracing_audit_batches WHERE greatest_ts > ?2 ORDER BY greatest_ts, first_seq LIMIT 1)";

// From each batch to its entries: the other way round would look for a batch at each entry. No entry is looked at twice, however
// many entries a batch says that it has. Each end is a single condition, since SQLite seeks by one.
pub(super) const UNTIMELY: &str = "SELECT e.seq FROM (
        SELECT first_seq, entries, least_ts, greatest_ts, ifnull(lead(first_seq) OVER (ORDER BY first_seq), ?2) AS ends_by
        FROM tracing_audit_batches
        WHERE first_seq >= ifnull((SELECT max(first_seq) FROM tracing_audit_batches WHERE first_seq < ?1), ?1)
          AND first_seq < ?2
     ) b CROSS JOIN tracing_audit_entries e
     WHERE e.seq >= max(b.first_seq, ?1) AND e.seq < min(b.ends_by, ?2, b.first_seq + b.entries)
       AND (e.ts < b.least_ts OR e.ts > b.greatest_ts) LIMIT ?3";

// Who commits says with each batch how far it has accepted entries, of which some are always underway.
const SILENT: &str = "SELECT w.writer, w.host, w.started_at, w.said_at FROM tracing_audit_writers w
     LEFT JOIN tracing_audit_positions p ON p.writer = w.writer
     WHERE w.ended_at IS NULL AND w.started_at IS NOT NULL AND ifnull(w.accepted, 0) > ifnull(p.position, 0)
       AND w.said_at < 1000000 * (strftime('%s', 'now') - 10)
     ORDER BY w.started_at LIMIT ?";

/// Reads the part of the ledger that the coverage of an answer needs.
pub(super) async fn cover(sqlite: &Sqlite, asked: &Asked) -> Result<Cover, AuditError> {
    sqlite.look_again().await?;
    if sqlite.is_empty_file() {
        return Ok(Cover::default());
    }
    let store_error = |cause| sqlite.store_error(cause);
    let mut connection = Cancellable::of(sqlite).await.map_err(store_error)?;
    let look = format!("WITH instead (told) AS ({INSTEAD}) {LOOK}");
    let look = connection.fetch_one(sqlx::query(AssertSqlSafe(look))).await.map_err(store_error)?;
    let read = || Ok((look.try_get(0)?, look.try_get(1)?, look.try_get(2)?));
    let (has_tables, has_writers, instead): (bool, bool, Option<String>) = read().map_err(store_error)?;
    if let Some(instead) = instead {
        return Err(veiled(&instead));
    }
    if !has_tables {
        return Ok(Cover::default());
    }
    let (heads, ledger) = ledger(&mut connection, asked, has_writers).await.map_err(store_error)?;
    let mut cover = Cover { over: several_heads(heads).into_iter().collect(), ledger };
    if let Some(ledger) = &mut cover.ledger {
        ledger.gaps = gaps(sqlite, &mut connection, asked).await?.rows;
    }
    Ok(cover)
}

/// The number of heads, and the part of the coverage that does not come from `audit.gap` entries.
async fn ledger(
    connection: &mut Cancellable,
    asked: &Asked,
    has_writers: bool,
) -> sqlx::Result<(i64, Option<LedgerCover>)> {
    let head_was = if has_writers { HEAD_WAS } else { "NULL" };
    let ends = sqlx::query(AssertSqlSafe(format!("{ENDS}, {head_was} {HEADS}")));
    let row = connection.fetch_one(ends.bind(asked.ledger().to_owned()).bind(COUNTED)).await?;
    let heads = row.try_get(0)?;
    if !row.try_get::<bool, _>(1)? {
        return Ok((heads, None));
    }
    let ends = Ends {
        next_seq: row.try_get(2)?,
        beyond: row.try_get(3)?,
        below: row.try_get(4)?,
        batches_beyond: row.try_get(5)?,
        last_committed_at: row.try_get(6)?,
        quarantined: Some(row.try_get(7)?),
        batches_below: row.try_get(8)?,
    };
    let head_was = row.try_get(9)?;
    let times = times(connection, &asked.query).await?;
    let part = asked.part(ends.next_seq, times);
    let first = piece(connection, part.first_piece()).await?;
    let to_time = asked.timed(ends.next_seq, part);
    let untimely = untimely(connection, first_piece(to_time)).await?;
    let writers = if has_writers {
        let silent = sqlx::query(SILENT).bind(i64::from(asked.writers));
        let silent = connection.fetch_all(silent).await?;
        Some(WritersKnown {
            silent: silent.iter().map(silent_writer).collect::<sqlx::Result<_>>()?,
            head_was,
        })
    } else {
        None
    };
    Ok((heads, Some(LedgerCover { ends, part, first, timed: to_time, untimely, gaps: Vec::new(), writers })))
}

/// Reads the batches' times that matter for the query's ranges of time.
async fn times(connection: &mut Cancellable, query: &AuditQuery) -> sqlx::Result<Times> {
    if !query.has_times() {
        return Ok(Times::default());
    }
    let within = connection.fetch_one(within_times(query).into_query()?).await?;
    let (least, greatest) = query.bounds();
    let beside = connection.fetch_one(sqlx::query(BESIDE).bind(least).bind(greatest)).await?;
    let sides = |row: &SqliteRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
    Ok(Times { within: sides(&within)?, beside: sides(&beside)? })
}

/// Reads a part of the ledger: its entries, counted, and its batches.
pub(super) async fn piece(connection: &mut Cancellable, (from, before): (i64, i64)) -> sqlx::Result<Piece> {
    let row = connection.fetch_one(sqlx::query(COUNTS).bind(from).bind(before)).await?;
    let batches = connection.fetch_all(sqlx::query(BATCHES).bind(from).bind(before)).await?;
    let batch = |row: &SqliteRow| {
        Ok(BatchRow {
            first_seq: row.try_get(0)?,
            entries: row.try_get(1)?,
            committed_at: row.try_get(2)?,
            least_ts: row.try_get(3)?,
        })
    };
    Ok(Piece {
        count: row.try_get(0)?,
        sum: row.try_get(1)?,
        next_entry: row.try_get(2)?,
        next_batch: row.try_get(3)?,
        batches: batches.iter().map(batch).collect::<sqlx::Result<_>>()?,
    })
}

/// The entries in a part of the ledger whose `ts` is outside of what their batch says.
async fn untimely(connection: &mut Cancellable, (from, before): (i64, i64)) -> sqlx::Result<Vec<i64>> {
    if from >= before {
        return Ok(Vec::new());
    }
    let untimely = sqlx::query(UNTIMELY).bind(from).bind(before).bind(COUNTED);
    connection.fetch_all(untimely).await?.iter().map(|row| row.try_get(0)).collect()
}

fn silent_writer(row: &SqliteRow) -> sqlx::Result<SilentRow> {
    Ok(SilentRow {
        writer: row.try_get(0)?,
        host: row.try_get(1)?,
        started_at: row.try_get(2)?,
        said_at: row.try_get(3)?,
    })
}

/// The `audit.gap` entries, latest first.
async fn gaps(sqlite: &Sqlite, connection: &mut Cancellable, asked: &Asked) -> Result<Found, AuditError> {
    if asked.gaps == 0 {
        return Ok(Found::default());
    }
    // Their condition is the only one, and the index that every log has serves it.
    let gaps = of_page(&asked.of_gaps(), Some(0), Span::Before(None), asked.gaps);
    found(sqlite, connection, gaps).await
}
