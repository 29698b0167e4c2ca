//! Inserts rows at the head of the ledger, in a few wide statements.

use std::sync::{Arc, LazyLock};

use sqlx::{Arguments as _, AssertSqlSafe, SqliteConnection, sqlite::SqliteArguments};
use uuid::Uuid;

use super::{
    error::{append_error, insert_error},
    guard::Guard,
    tree::{SqliteTree, failed},
};
use crate::entry::{Moment, Row};
use crate::store::growth::{BatchLeaves, Failed, Growing};
use crate::store::keeper::TreeTables;

const COLUMNS: &str = "seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, \
                       decision, reason, risk_score, metadata, problems";
const COLUMN_COUNT: usize = 14;

/// Rows per statement, widest first. A statement costs two hops between threads, so statements are few and wide; shapes
/// are few, so that all stay prepared.
///
/// Beyond 256 rows wider statements are no faster, and 256 rows are far below SQLite's limit of 32766 parameters.
/// Parameters are bare `?`, because SQLite keeps numbered ones in a list that it searches for each of them. `OR FAIL`,
/// because the transaction is rolled back anyway: the default keeps a journal for undoing the one statement, which costs
/// a tenth.
const SHAPES: [usize; 4] = [256, 32, 8, 1];

/// The batch and the head. Statements that are run at once cost two hops between threads together, not each.
const BATCH: &str = "INSERT INTO tracing_audit_batches VALUES (?, ?, ?, ?, ?, ?, ?);
                     UPDATE tracing_audit_head SET next_seq = ?, given = ?";
const PROVEN_BATCH: &str = "INSERT INTO tracing_audit_batches VALUES (?, ?, ?, ?, ?, ?, ?);
                            INSERT INTO tracing_audit_leaves (first_seq, seeds, leaves) VALUES (?, ?, ?);
                            UPDATE tracing_audit_head SET next_seq = ?, given = ?, tree_size = ?, frontier = ?";

static STATEMENTS: LazyLock<[Arc<str>; SHAPES.len()]> = LazyLock::new(|| {
    SHAPES.map(|rows| {
        let row = format!("({})", vec!["?"; COLUMN_COUNT].join(","));
        format!("INSERT OR FAIL INTO tracing_audit_entries ({COLUMNS}) VALUES {}", vec![row; rows].join(","))
            .into()
    })
});

/// Adds rows at the head of the ledger, which the transaction of this connection holds, as one commit batch; and their
/// leaves to the tree, if there is one.
pub(super) async fn add_rows(
    connection: &mut SqliteConnection,
    first_seq: i64,
    rows: &[&Row],
    (writer, until): (Uuid, u64),
    tree: Option<&mut Growing>,
    guard: &Guard,
) -> Result<(), Failed> {
    let committed_at = Moment::now().micros;
    let mut leaves = match &tree {
        Some(_) => Some(BatchLeaves::new((writer, until), rows.len(), committed_at)?),
        None => None,
    };
    let stored = insert_rows(connection, first_seq.., rows, leaves.as_mut()).await.map_err(insert_error)?;
    if stored != rows.len() as u64 {
        return Err(guard.not_as_sent().into());
    }
    let (Some(least), Some(greatest)) =
        (rows.iter().map(|row| row.ts).min(), rows.iter().map(|row| row.ts).max())
    else {
        return Ok(());
    };
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let next_seq = first_seq.saturating_add(count);
    let batch = |statements: &'static str| {
        let batch =
            sqlx::query(statements).bind(first_seq).bind(count).bind(writer).bind(until.cast_signed());
        batch.bind(committed_at).bind(least).bind(greatest)
    };
    let (Some(leaves), Some(tree)) = (leaves, tree) else {
        let batch = batch(BATCH).bind(next_seq).bind(next_seq).execute(connection).await;
        let stored = batch.map_err(append_error)?.rows_affected();
        return if stored == 2 { Ok(()) } else { Err(guard.not_as_sent().into()) };
    };
    let leaves = leaves.finish(first_seq, tree);
    let batch = batch(PROVEN_BATCH).bind(first_seq).bind(&leaves.seeds).bind(leaves.bytes());
    let batch = batch.bind(next_seq).bind(next_seq).bind(tree.size()).bind(tree.frontier().to_bytes());
    if batch.execute(&mut *connection).await.map_err(failed)?.rows_affected() != 3 {
        return Err(Failed::Tree("something keeps rows out of the tables".to_owned()));
    }
    SqliteTree(connection).add_nodes(&tree.take_full()).await
}

/// Inserts rows, each with one of these `seq`s, and returns how many SQLite has stored. While SQLite's thread works on one
/// statement, the leaves of its rows are made, and the parameters of the next are bound.
pub(super) async fn insert_rows(
    connection: &mut SqliteConnection,
    mut seqs: impl Iterator<Item = i64>,
    rows: &[&Row],
    mut leaves: Option<&mut BatchLeaves>,
) -> sqlx::Result<u64> {
    let mut stored = 0;
    let mut chunks = chunks(rows);
    let mut prepare = || {
        let (sql, rows) = chunks.next()?;
        let arguments = bind(&mut seqs, rows);
        Some((sql, rows, arguments))
    };
    let mut next = prepare();
    while let Some((sql, rows, arguments)) = next {
        let execute = sqlx::query_with(AssertSqlSafe(sql), arguments?).execute(&mut *connection);
        let meanwhile = async {
            if let Some(leaves) = &mut leaves {
                for row in rows {
                    leaves.add(row);
                }
            }
            prepare()
        };
        let (done, prepared) = tokio::join!(biased; execute, meanwhile);
        stored += done?.rows_affected();
        next = prepared;
    }
    Ok(stored)
}

/// Cuts rows into the widest shapes that fit.
fn chunks<'a>(mut rows: &'a [&'a Row]) -> impl Iterator<Item = (Arc<str>, &'a [&'a Row])> {
    std::iter::from_fn(move || {
        let (shape, sql) = SHAPES.iter().zip(&*STATEMENTS).find(|(shape, _)| **shape <= rows.len())?;
        let (chunk, rest) = rows.split_at_checked(*shape)?;
        rows = rest;
        Some((Arc::clone(sql), chunk))
    })
}

fn bind(seqs: &mut impl Iterator<Item = i64>, rows: &[&Row]) -> sqlx::Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * COLUMN_COUNT, 0);
    // The rows first: none may be missing when a `seq` is taken.
    rows.iter()
        .zip(seqs)
        .try_for_each(|(row, seq)| bind_row(&mut arguments, seq, row))
        .map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

fn bind_row(arguments: &mut SqliteArguments, seq: i64, row: &Row) -> Result<(), sqlx::error::BoxDynError> {
    arguments.add(seq)?;
    arguments.add(row.id)?;
    arguments.add(row.ts)?;
    arguments.add(row.workspace_id)?;
    arguments.add::<Option<Uuid>>(row.session_id)?;
    arguments.add::<Option<Uuid>>(row.agent_id)?;
    arguments.add(Arc::clone(&row.action))?;
    arguments.add(Arc::clone(&row.resource))?;
    arguments.add(row.resource_id.clone())?;
    arguments.add(Arc::clone(&row.decision))?;
    arguments.add(row.reason.clone())?;
    arguments.add(row.risk_score)?;
    arguments.add(Arc::clone(&row.metadata))?;
    arguments.add(row.problems.clone())
}
