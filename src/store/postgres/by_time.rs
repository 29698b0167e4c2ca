//! Reads entries in the order of time: one window of a walk after the other, read ahead in a task of its own.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::sync::mpsc;

use super::{
    borrowed::Borrowed,
    conditions::{IndexNames, LedgerPart, Scope},
    error::store_error,
    plan::{candidates, index_names},
    rows::{LEDGER, ROW, decode, decode_ledger, micros, text_bytes},
    source::Postgres,
    sql::{Statement, bounded},
};
use crate::entry::{LedgerRow, Row, from_micros};
use crate::error::{AuditError, ErrorKind};
use crate::platform::is_on_own_runtime;
use crate::query::AuditQuery;
use crate::store::walk::{CommittedBatch, Order, Walk, WalkStep, Window};

/// Gives a window enough memory to be sorted in, which saves a fifth of an export's time. A server's default is 4 MB,
/// less than a whole batch needs.
const WORK_MEM: &str = "SELECT set_config('work_mem', '16MB', true)
                        WHERE pg_size_bytes(current_setting('work_mem')) < 16 * 1024 * 1024";

/// The rows of a delivery: handing one over between threads costs as much as reading several rows.
const DELIVERY_ROWS: usize = 1024;
/// The bytes of texts at which a delivery is handed over before it has all of its rows.
const DELIVERY_BYTES: usize = 512 * 1024;
/// The deliveries that are read before they are asked for: while one window is taken, the next one is looked for.
const READ_AHEAD: usize = 8;

/// The entries that match, newest first.
pub(super) fn rows<'a>(
    postgres: &'a Postgres,
    query: &'a AuditQuery,
) -> BoxStream<'a, Result<Row, AuditError>> {
    found(postgres, query, (ROW.to_owned(), Order::LatestFirst)).map_ok(|row| decode(&row)).boxed()
}

/// The entries that match, with their places in the ledgers, in the query's direction.
pub(super) fn ledger_rows<'a>(
    postgres: &'a Postgres,
    query: &'a AuditQuery,
) -> BoxStream<'a, Result<LedgerRow, AuditError>> {
    let order = if query.newest_first { Order::LatestFirst } else { Order::EarliestFirst };
    let rows = found(postgres, query, ([ROW, LEDGER].concat(), order));
    rows.and_then(|row| std::future::ready(decode_ledger(&row))).boxed()
}

/// Reads these columns of the rows that match.
fn found<'a>(
    postgres: &'a Postgres,
    query: &'a AuditQuery,
    asked: (String, Order),
) -> BoxStream<'a, Result<PgRow, AuditError>> {
    let rows = async move {
        let (postgres, query, blocking) = (postgres.clone(), query.clone(), is_on_own_runtime());
        let (to, taken) = mpsc::channel(READ_AHEAD);
        // The task reads ahead while rows are taken. It ends when the stream that takes them is dropped.
        tokio::spawn(async move {
            let read = async {
                match ByTime::start(postgres, query, asked, blocking).await? {
                    Some(by_time) => by_time.read(&to).await,
                    None => Ok(()),
                }
            };
            let ended = tokio::select! {
                ended = read => ended,
                () = to.closed() => return,
            };
            // Without an end the stream reports that the answer is not complete. The reader may have been dropped
            // meanwhile.
            drop(to.send(ended.map_or_else(Delivery::Failed, |()| Delivery::End)).await);
        });
        received(taken).try_flatten()
    };
    stream::once(rows).flatten().boxed()
}

/// A message from the task that reads to the stream.
enum Delivery {
    Rows(Vec<PgRow>),
    Failed(AuditError),
    End,
}

fn received(
    taken: mpsc::Receiver<Delivery>,
) -> impl stream::Stream<Item = Result<impl stream::Stream<Item = Result<PgRow, AuditError>>, AuditError>> {
    stream::try_unfold(taken, |mut taken| async move {
        match taken.recv().await {
            Some(Delivery::Rows(rows)) => Ok(Some((stream::iter(rows.into_iter().map(Ok)), taken))),
            Some(Delivery::Failed(error)) => Err(error),
            Some(Delivery::End) => Ok(None),
            None => Err(AuditError::new(ErrorKind::Store, "the read ended before the answer was complete")),
        }
    })
}

fn unread() -> AuditError {
    AuditError::new(ErrorKind::Store, "the reader was dropped")
}

/// A query's walk over the batches.
struct ByTime {
    postgres: Postgres,
    query: AuditQuery,
    /// The columns of each row.
    columns: String,
    order: Order,
    pool: PgPool,
    /// The connection of all windows. It is replaced if it is lost.
    connection: Option<Borrowed>,
    indexes: IndexNames,
    /// The name of each ledger, and the `seq` before which the answer ends in it: entries that are committed later
    /// are not part of the answer. A ledger that was created since the start is added with the end 0.
    ledgers: Vec<(String, i64)>,
    /// The index in `ledgers` of each name.
    numbers: HashMap<String, usize>,
    walk: Walk,
}

impl ByTime {
    /// `None` if the tables or the ledger do not exist.
    async fn start(
        postgres: Postgres,
        query: AuditQuery,
        (columns, order): (String, Order),
        blocking: bool,
    ) -> Result<Option<Self>, AuditError> {
        let postgres = postgres.found_for(blocking).await?;
        let pool = postgres.readers_for(blocking).await?.clone();
        let mut connection = Borrowed::from(&postgres, &pool).await?;
        let start = async |connection: &mut PgConnection| {
            let Some(indexes) = index_names(&postgres, connection, &query).await? else { return Ok(None) };
            let heads = postgres.statement(
                "SELECT ledger, next_seq FROM @tracing_audit_heads WHERE $1::text IS NULL OR ledger = $1 ORDER BY ledger",
            );
            let ledgers = heads.row().bind(query.ledger.clone()).fetch_all(&mut *connection).await;
            let mut ledgers: Vec<(String, i64)> = ledgers.map_err(store_error)?;
            let mut walk = Walk::new(query.filter.limit, ledgers.len() == 1, order);
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
        Ok(Some(Self { postgres, query, columns, order, pool, connection, indexes, ledgers, numbers, walk }))
    }

    async fn connection(&mut self) -> Result<&mut Borrowed, AuditError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Borrowed::from(&self.postgres, &self.pool).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Reads window after window, and hands the rows over.
    async fn read(mut self, to: &mpsc::Sender<Delivery>) -> Result<(), AuditError> {
        loop {
            match self.walk.next() {
                WalkStep::Batches { after, limit } => {
                    let batches = self.batches(after, limit).await?;
                    let last = batches.last().copied().filter(|_| batches.len() as u64 == u64::from(limit));
                    let batches = batches.into_iter().filter(|batch| self.is_part_of_answer(batch)).collect();
                    self.walk.know(batches, last);
                }
                WalkStep::Window(window) => {
                    let found = self.window(&window, to).await?;
                    self.walk.found(found);
                }
                WalkStep::End => return Ok(()),
            }
        }
    }

    /// Whether a batch was committed before the answer started.
    fn is_part_of_answer(&self, batch: &CommittedBatch) -> bool {
        self.ledgers.get(batch.ledger).is_some_and(|(_, next_seq)| batch.first_seq < *next_seq)
    }

    /// The batches that can hold matches, at most `limit` of them, in the order of a walk.
    async fn batches(
        &mut self,
        after: Option<CommittedBatch>,
        limit: u32,
    ) -> Result<Vec<CommittedBatch>, AuditError> {
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
            match self.order {
                Order::LatestFirst => statement
                    .push(" AND (greatest_ts, first_seq, ledger) < (")
                    .bind(from_micros(after.greatest_ts)),
                Order::EarliestFirst => {
                    statement.push(" AND (least_ts, first_seq, ledger) > (").bind(from_micros(after.least_ts))
                }
            };
            statement.push(", ").bind(after.first_seq).push(", ").bind(ledger.clone()).push(")");
        }
        statement.batches_in_time(&self.query);
        statement.and(
            "first_seq + least(greatest(entries, 0), 9223372036854775807 - greatest(first_seq, 0)) > ",
            self.query.from_seq.map(bounded),
        );
        statement.and("first_seq < ", self.query.before_seq.map(bounded));
        statement.push(match self.order {
            Order::LatestFirst => " ORDER BY greatest_ts DESC, first_seq DESC, ledger DESC LIMIT ",
            Order::EarliestFirst => " ORDER BY least_ts, first_seq, ledger LIMIT ",
        });
        statement.bind(i64::from(limit));
        let statement = statement.into_query()?;
        let batches =
            async |connection: &mut PgConnection| statement.fetch_all(connection).await.map_err(store_error);
        let rows = self.connection().await?.within(batches).await?;
        let batch = |row: &PgRow| {
            Ok(CommittedBatch {
                ledger: self.number(row.try_get(0)?),
                first_seq: row.try_get(1)?,
                entries: row.try_get(2)?,
                least_ts: micros(row, 3)?,
                greatest_ts: micros(row, 4)?,
            })
        };
        rows.iter().map(batch).collect::<sqlx::Result<_>>().map_err(store_error)
    }

    /// The index of this ledger in `ledgers`.
    fn number(&mut self, ledger: &str) -> usize {
        if let Some(number) = self.numbers.get(ledger) {
            return *number;
        }
        let number = self.ledgers.len();
        self.numbers.insert(ledger.to_owned(), number);
        self.ledgers.push((ledger.to_owned(), 0));
        number
    }

    /// Hands over the rows of a window, and returns their number.
    async fn window(&mut self, window: &Window, to: &mpsc::Sender<Delivery>) -> Result<u64, AuditError> {
        let ranges = window.ranges.iter().filter_map(|range| {
            let (ledger, _) = self.ledgers.get(range.ledger)?;
            let end_seq = range.last_seq.saturating_add(1);
            Some(LedgerPart { ledger: ledger.clone(), first_seq: range.first_seq, end_seq })
        });
        // Entries in the order of `seq` are nearly sorted by time already, which makes sorting them cheap.
        let mut statement = Statement::new(&self.postgres, &self.columns);
        statement.push(" FROM (SELECT *");
        statement.filter(&self.query, &Scope::Parts(ranges.collect()), &self.indexes);
        for (than, (ts, seq)) in window.bounds() {
            statement
                .push(" AND (e.ts, e.seq) ")
                .push(than)
                .push(" (")
                .bind(from_micros(ts))
                .push(", ")
                .bind(seq)
                .push(")");
        }
        statement.push(match self.order {
            Order::LatestFirst => {
                " ORDER BY e.ledger DESC, e.seq DESC OFFSET 0) e ORDER BY e.ts DESC, e.seq DESC, e.ledger"
            }
            Order::EarliestFirst => " ORDER BY e.ledger, e.seq OFFSET 0) e ORDER BY e.ts, e.seq, e.ledger",
        });
        if let Some(limit) = window.limit {
            statement.push(" LIMIT ").bind(limit.cast_signed());
        }
        let statement = statement.into_query()?;
        let connection = self.connection().await?;
        connection.begin_with(WORK_MEM).await?;
        let mut rows = statement.fetch(&mut **connection);
        let (mut found, mut bytes, mut delivery) = (0, 0, Vec::with_capacity(DELIVERY_ROWS));
        while let Some(row) = rows.try_next().await.map_err(store_error)? {
            found += 1;
            bytes += text_bytes(&row);
            delivery.push(row);
            if delivery.len() == DELIVERY_ROWS || bytes >= DELIVERY_BYTES {
                bytes = 0;
                let delivery = std::mem::replace(&mut delivery, Vec::with_capacity(DELIVERY_ROWS));
                to.send(Delivery::Rows(delivery)).await.map_err(|_| unread())?;
            }
        }
        drop(rows);
        // If the reader was slow, the server may have ended the transaction as idle. All rows have arrived
        // nevertheless, so only the connection is given up.
        if connection.commit().await.is_err() {
            self.connection = None;
        }
        to.send(Delivery::Rows(delivery)).await.map_err(|_| unread())?;
        Ok(found)
    }
}
