//! Entries in the order of time: window after window of a walk, read ahead in a task of its own.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::sync::mpsc;

use super::{
    Postgres,
    borrowed::Borrowed,
    open::failed,
    plan::{Indexes, Part, Windows, times, windows},
    read::{ROW, Statement, bounded, decode},
};
use crate::{
    AuditError, AuditQuery,
    entry::from_micros,
    error::Kind,
    platform::is_on_own_runtime,
    record::Row,
    store::walk::{Batch, Candidates, Step, Walk, Window},
};

/// A window is sorted in memory, which saves a fifth of an export's time. By default a server gives 4 MB for that, which a
/// whole batch does not fit into.
const WORK_MEM: &str = "SELECT set_config('work_mem', '16MB', true)
                        WHERE pg_size_bytes(current_setting('work_mem')) < 16 * 1024 * 1024";

/// Rows that are handed on together: a hand-over between threads costs as much as some of them.
const ROWS_TOGETHER: usize = 1024;
/// Bytes at which they are handed on before they are as many.
const BYTES_TOGETHER: usize = 512 * 1024;
/// How many of those are read before they are asked for: while one window is taken the next one is looked for.
const READ_AHEAD: usize = 8;

/// Where in a row the texts are, which may be long.
const TEXTS: [usize; 7] = [6, 7, 8, 9, 10, 12, 13];

pub(super) fn rows<'a>(
    postgres: &'a Postgres,
    query: &'a AuditQuery,
) -> BoxStream<'a, Result<Row, AuditError>> {
    let rows = async move {
        let (postgres, query, blocking) = (postgres.clone(), query.clone(), is_on_own_runtime());
        let (to, taken) = mpsc::channel(READ_AHEAD);
        // In a task, which reads ahead while rows are taken, and ends with whoever takes them.
        tokio::spawn(async move {
            let read = async {
                match ByTime::start(postgres, query, blocking).await? {
                    Some(by_time) => by_time.read(&to).await,
                    None => Ok(()),
                }
            };
            let ended = tokio::select! {
                ended = read => ended,
                () = to.closed() => return,
            };
            // Tells a whole answer from one whose task was ended. Whoever reads may have gone.
            drop(to.send(ended.map_or_else(Taken::Failed, |()| Taken::End)).await);
        });
        received(taken).try_flatten()
    };
    stream::once(rows).flatten().boxed()
}

/// What a task hands on.
enum Taken {
    Rows(Vec<PgRow>),
    Failed(AuditError),
    End,
}

fn received(
    taken: mpsc::Receiver<Taken>,
) -> impl stream::Stream<Item = Result<impl stream::Stream<Item = Result<Row, AuditError>>, AuditError>> {
    stream::try_unfold(taken, |mut taken| async move {
        match taken.recv().await {
            Some(Taken::Rows(rows)) => {
                Ok(Some((stream::iter(rows.into_iter().map(|row| decode(&row))), taken)))
            }
            Some(Taken::Failed(error)) => Err(error),
            Some(Taken::End) => Ok(None),
            None => Err(AuditError::new(Kind::Store, "reading ended before the answer did")),
        }
    })
}

fn unread() -> AuditError {
    AuditError::new(Kind::Store, "whoever read has gone")
}

/// A query's walk over the batches.
struct ByTime {
    postgres: Postgres,
    query: AuditQuery,
    pool: PgPool,
    /// Kept to the end, unless it is lost.
    connection: Option<Borrowed>,
    indexes: Indexes,
    /// By name, and before which `seq` the answer ends in each: entries committed later are not part of it. What has begun
    /// since is added with nothing in it.
    ledgers: Vec<(String, i64)>,
    /// Where in those each name is.
    numbers: HashMap<String, usize>,
    walk: Walk,
}

impl ByTime {
    /// None where there are no tables.
    async fn start(
        postgres: Postgres,
        query: AuditQuery,
        blocking: bool,
    ) -> Result<Option<Self>, AuditError> {
        let pool = postgres.readers_for(blocking).await?.clone();
        let mut connection = Borrowed::from(&pool).await?;
        let start = async |connection: &mut PgConnection| {
            let Some(indexes) = Indexes::find(&postgres, connection).await? else { return Ok(None) };
            let heads = postgres.statement(
                "SELECT ledger, next_seq FROM @tracing_audit_heads WHERE $1::text IS NULL OR ledger = $1 ORDER BY ledger",
            );
            let ledgers = heads.row().bind(query.ledger.clone()).fetch_all(&mut *connection).await;
            let mut ledgers: Vec<(String, i64)> = ledgers.map_err(failed)?;
            let mut walk = Walk::new(query.filter.limit, ledgers.len() == 1);
            if let Some(by) = query.rarest() {
                let candidates = candidates(&postgres, connection, &query, by, &indexes).await?;
                for (_, end) in &mut ledgers {
                    *end = candidates.end(*end);
                }
                if let Some(batches) = candidates.known(ledgers.iter().map(|(_, end)| *end)) {
                    walk.know(batches, None);
                }
            }
            Ok(Some((indexes, ledgers, walk)))
        };
        let started = connection.within(start).await?;
        let Some((indexes, ledgers, walk)) = started.filter(|(_, ledgers, _)| !ledgers.is_empty()) else {
            return Ok(None);
        };
        let numbers =
            ledgers.iter().enumerate().map(|(number, (ledger, _))| (ledger.clone(), number)).collect();
        let connection = Some(connection);
        Ok(Some(Self { postgres, query, pool, connection, indexes, ledgers, numbers, walk }))
    }

    async fn connection(&mut self) -> Result<&mut Borrowed, AuditError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Borrowed::from(&self.pool).await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn read(mut self, to: &mpsc::Sender<Taken>) -> Result<(), AuditError> {
        loop {
            match self.walk.next() {
                Step::Batches { after, limit } => {
                    let batches = self.batches(after, limit).await?;
                    let last = batches.last().copied().filter(|_| batches.len() as u64 == u64::from(limit));
                    let old = batches.into_iter().filter(|batch| self.is_old(batch)).collect();
                    self.walk.know(old, last);
                }
                Step::Window(window) => {
                    let found = self.window(&window, to).await?;
                    self.walk.found(found);
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// Whether it was there at the start.
    fn is_old(&self, batch: &Batch) -> bool {
        self.ledgers.get(batch.ledger).is_some_and(|(_, next_seq)| batch.first_seq < *next_seq)
    }

    async fn batches(&mut self, after: Option<Batch>, limit: u32) -> Result<Vec<Batch>, AuditError> {
        let mut statement = Statement::new(
            &self.postgres,
            "SELECT ledger, first_seq, entries, least_ts, greatest_ts FROM @tracing_audit_batches WHERE TRUE",
        );
        if let [(ledger, end)] = self.ledgers.as_slice() {
            statement.push(" AND ledger = ").bind(ledger.clone()).push(" AND first_seq < ").bind(*end);
        }
        if let Some(after) = after
            && let Some((ledger, _)) = self.ledgers.get(after.ledger)
        {
            statement.push(" AND (greatest_ts, first_seq, ledger) < (").bind(from_micros(after.greatest_ts));
            statement.push(", ").bind(after.first_seq).push(", ").bind(ledger.clone()).push(")");
        }
        let (least, greatest) = times(&self.query);
        statement.and("greatest_ts >= ", least);
        statement.and("least_ts <= ", greatest);
        statement.and("first_seq + entries > ", self.query.from_seq.map(bounded));
        statement.and("first_seq < ", self.query.before_seq.map(bounded));
        statement
            .push(" ORDER BY greatest_ts DESC, first_seq DESC, ledger DESC LIMIT ")
            .bind(i64::from(limit));
        let statement = statement.into_query()?;
        let batches =
            async |connection: &mut PgConnection| statement.fetch_all(connection).await.map_err(failed);
        let rows = self.connection().await?.within(batches).await?;
        let batch = |row: &PgRow| {
            Ok(Batch {
                ledger: self.number(row.try_get(0)?),
                first_seq: row.try_get(1)?,
                entries: row.try_get(2)?,
                least_ts: row.try_get::<DateTime<Utc>, _>(3)?.timestamp_micros(),
                greatest_ts: row.try_get::<DateTime<Utc>, _>(4)?.timestamp_micros(),
            })
        };
        rows.iter().map(batch).collect::<sqlx::Result<_>>().map_err(failed)
    }

    fn number(&mut self, ledger: &str) -> usize {
        if let Some(number) = self.numbers.get(ledger) {
            return *number;
        }
        let number = self.ledgers.len();
        self.numbers.insert(ledger.to_owned(), number);
        self.ledgers.push((ledger.to_owned(), 0));
        number
    }

    /// Hands on the rows of a window, and says how many there were.
    async fn window(&mut self, window: &Window, to: &mpsc::Sender<Taken>) -> Result<u64, AuditError> {
        let ranges = window.ranges.iter().filter_map(|range| {
            let (ledger, _) = self.ledgers.get(range.ledger)?;
            let after = range.last_seq.saturating_add(1);
            Some(Part { ledger: ledger.clone(), first_seq: range.first_seq, after })
        });
        // Read from the end of the ledger, it is nearly sorted by time already, which makes sorting it cheap.
        let mut statement = Statement::new(&self.postgres, ROW);
        statement.push(" FROM (SELECT *");
        statement.filter(&self.query, &Windows::Timed(ranges.collect()), &self.indexes);
        for (than, (ts, seq)) in [(" > (", window.after), (" <= (", window.through)] {
            statement
                .push(" AND (e.ts, e.seq)")
                .push(than)
                .bind(from_micros(ts))
                .push(", ")
                .bind(seq)
                .push(")");
        }
        statement
            .push(" ORDER BY e.ledger DESC, e.seq DESC OFFSET 0) e ORDER BY e.ts DESC, e.seq DESC, e.ledger");
        if let Some(limit) = window.limit {
            statement.push(" LIMIT ").bind(limit.cast_signed());
        }
        let statement = statement.into_query()?;
        let connection = self.connection().await?;
        connection.begin_with(WORK_MEM).await?;
        let mut rows = statement.fetch(&mut **connection);
        let (mut found, mut bytes, mut together) = (0, 0, Vec::with_capacity(ROWS_TOGETHER));
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            found += 1;
            bytes += TEXTS.into_iter().map(|text| size(&row, text)).sum::<usize>();
            together.push(row);
            if together.len() == ROWS_TOGETHER || bytes >= BYTES_TOGETHER {
                bytes = 0;
                let together = std::mem::replace(&mut together, Vec::with_capacity(ROWS_TOGETHER));
                to.send(Taken::Rows(together)).await.map_err(|_| unread())?;
            }
        }
        drop(rows);
        // Where they were taken slowly, the server may have ended a transaction in which nothing happened for long. They
        // are all there nevertheless.
        if connection.commit().await.is_err() {
            self.connection = None;
        }
        to.send(Taken::Rows(together)).await.map_err(|_| unread())?;
        Ok(found)
    }
}

/// Those by the index of the condition at this place, in the parts that the query's times reach into.
async fn candidates(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &AuditQuery,
    at: usize,
    indexes: &Indexes,
) -> Result<Candidates, AuditError> {
    let candidates = query.candidates(at);
    let windows = windows(postgres, connection, query).await?;
    let newest = windows.are_one() && candidates.has_single_values();
    let mut count = Statement::new(postgres, "SELECT count(*), min(seq), max(seq) FROM (SELECT e.seq");
    count.filter(&candidates, &windows, indexes);
    count.push(if newest { " ORDER BY e.seq DESC LIMIT " } else { " LIMIT " });
    count.bind(Candidates::MOST).push(") candidates");
    let row = count.into_query()?.fetch_one(connection).await.map_err(failed)?;
    let read = || {
        let (count, least_seq, greatest_seq) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Candidates { count, least_seq, greatest_seq, newest })
    };
    read().map_err(failed)
}

fn size(row: &PgRow, index: usize) -> usize {
    row.try_get_raw(index).ok().and_then(|value| value.as_bytes().ok().map(<[u8]>::len)).unwrap_or(0)
}
