//! Adds rows at the head of a ledger, within a transaction that holds the head.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres as Database, Transaction};
use uuid::Uuid;

use super::{
    copy::copy,
    error::{append_error, code_of, insert_error},
    functions::{Adding, Functions},
    guard::Guard,
    hold::{HeldEnd, HoldStatements},
    place::own_names,
    source::Postgres,
    sql::Sql,
    tree::{PostgresTree, TreeStatements, failed},
};
use crate::entry::{Moment, Row, from_micros};
use crate::store::growth::{BatchLeaves, Failed, Growing};
use crate::store::keeper::TreeTables;

/// The limits of a transaction: see [`BEGIN`].
macro_rules! limits {
    () => {
        "SELECT set_config(name, value, true)
         FROM (VALUES ('lock_timeout', '20s'), ('idle_in_transaction_session_timeout', '30s'),
                      ('client_connection_check_interval', '1s')) AS wanted (name, value)
         WHERE current_setting(name, true) = '0' AND (name NOT LIKE 'client%' OR version() LIKE '%linux%')"
    };
}

/// The statements of one connection.
pub(super) struct Statements {
    begin: Arc<str>,
    pub(super) hold: HoldStatements,
    rows: RowStatement,
    /// `None`: this role writes the tables itself.
    pub(super) functions: Option<Functions>,
    add_batch: Sql,
    add_proven: Sql,
    pub(super) tree: TreeStatements,
    pub(super) quarantine: Sql,
    pub(super) next_quarantined: Sql,
    pub(super) readmitted: Sql,
}

/// The way in which a role adds rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adds {
    Copying,
    Inserting,
    /// The functions of the tables' owner.
    Calling,
}

/// The statement that adds rows.
enum RowStatement {
    Copy(String),
    /// For servers that refuse `COPY`, for instance under row-level security.
    Insert(Sql),
}

/// The beginning of a transaction. It does not rely on the session's settings.
///
/// If the role or the server sets no limits, these apply: a transaction waits 20 s for a lock, the server ends it if
/// its client has sent nothing for 30 s, and looks every second whether the client of a statement is still there. So a
/// process that is stopped or cut off while it holds the ledger does not hold it for ever, and the transactions that
/// wait for it leave nothing behind. The settings end with the transaction, so that the next client of a pooler does
/// not inherit them.
pub(super) const BEGIN: &str = concat!("BEGIN ISOLATION LEVEL READ COMMITTED; ", own_names!(), limits!());

/// Makes the commit durable when it returns, whatever the role, the server or another client of a pooler has set.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true)
     WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply'); ";

/// The same for a connection's batches, whose commits are durable: whether functions of triggers run in them, which may name
/// what is in the session's `search_path`.
fn begin(has_triggers: bool) -> String {
    let names = if has_triggers {
        "SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' OPERATOR(pg_catalog.||)
             pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.||) ', pg_temp', true); "
    } else {
        own_names!()
    };
    ["BEGIN ISOLATION LEVEL READ COMMITTED; ", names, DURABLE, limits!()].concat()
}

const COPY: &str = "COPY @tracing_audit_entries
         (ledger, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
          risk_score, metadata, problems)
     FROM STDIN (FORMAT binary)";

/// It has one parameter per column, whatever the number of rows is.
const INSERT: &str = "INSERT INTO @tracing_audit_entries
         (ledger, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
          risk_score, metadata, problems)
     SELECT $1, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
            risk_score, metadata::json, problems::json
     FROM unnest($2::bigint[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[],
                 $9::text[], $10::text[], $11::text[], $12::text[], $13::float8[], $14::text[], $15::text[])
         AS new (seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
                 risk_score, metadata, problems)";

/// Whether the server lets this role copy into the table of entries.
pub(super) async fn can_copy(
    postgres: &Postgres,
    connection: &mut PgConnection,
    has_triggers: bool,
) -> sqlx::Result<bool> {
    let mut transaction = connection.begin_with(AssertSqlSafe(begin(has_triggers))).await?;
    let tried = copy(&mut transaction, &postgres.sql(COPY).0, ("", 0), &[], async {}).await;
    transaction.rollback().await?;
    match tried {
        // feature_not_supported, syntax_error
        Err(cause) if matches!(&*code_of(&cause), "0A000" | "42601") => Ok(false),
        tried => tried.map(|_| true),
    }
}

impl Statements {
    pub(super) fn new(postgres: &Postgres, has_triggers: bool, adds: Adds) -> Self {
        let sql = |statement| postgres.statement(statement);
        let by_functions = adds == Adds::Calling;
        let rows = if adds == Adds::Copying {
            RowStatement::Copy(postgres.sql(COPY).0)
        } else {
            RowStatement::Insert(sql(INSERT))
        };
        Self {
            // Triggers run within the functions, which have a search_path of their own.
            begin: begin(has_triggers && !by_functions).into(),
            hold: HoldStatements::new(postgres, by_functions),
            rows,
            functions: by_functions.then(|| Functions::new(postgres)),
            // One statement, and so one journey to the server.
            add_batch: sql(
                "WITH moved AS (UPDATE @tracing_audit_heads SET next_seq = $2 + $3, given = $2 + $3 WHERE ledger = $1)
                 INSERT INTO @tracing_audit_batches VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            ),
            add_proven: sql(
                "WITH moved AS (UPDATE @tracing_audit_heads SET next_seq = $2 + $3, given = $2 + $3, tree_size = $9,
                                    frontier = $10 WHERE ledger = $1),
                      proven AS (INSERT INTO @tracing_audit_leaves (ledger, first_seq, seeds, leaves)
                                     VALUES ($1, $2, $11, $12))
                 INSERT INTO @tracing_audit_batches VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            ),
            tree: TreeStatements::new(postgres),
            quarantine: sql("INSERT INTO @tracing_audit_quarantine VALUES ($1, $2, $3, $4, $5, $6, $7)"),
            next_quarantined: sql(if by_functions {
                "SELECT quarantined_at, writer, position, record FROM @tracing_audit_next_quarantined($1, $2, $3, $4)"
            } else {
                "SELECT quarantined_at, writer, position, record FROM @tracing_audit_quarantine
                 WHERE ledger = $1 AND (quarantined_at, writer, position) > ($2, $3, $4)
                 ORDER BY quarantined_at, writer, position LIMIT 1"
            }),
            readmitted: sql(if by_functions {
                "SELECT @tracing_audit_readmitted($1, $2, $3, $4)"
            } else {
                "DELETE FROM @tracing_audit_quarantine WHERE ledger = $1 AND writer = $2 AND position = $3"
            }),
        }
    }

    pub(super) async fn begin<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> sqlx::Result<Transaction<'c, Database>> {
        connection.begin_with(AssertSqlSafe(Arc::clone(&self.begin))).await
    }

    /// Adds rows at the head of the ledger, which the transaction holds; and their leaves to the tree, if there is one.
    pub(super) async fn add_rows(
        &self,
        connection: &mut PgConnection,
        end: HeldEnd<'_>,
        rows: &[&Row],
        (writer, until): (Uuid, u64),
        tree: Option<&mut Growing>,
        guard: &mut Guard,
    ) -> Result<(), Failed> {
        let HeldEnd { ledger, first_seq, .. } = end;
        if let Some(functions) = &self.functions {
            let adding = Adding { end, rows, writer: (writer, until), batch: None };
            return functions.append(connection, adding, tree, guard).await;
        }
        let (Some(least), Some(greatest)) =
            (rows.iter().map(|row| row.ts).min(), rows.iter().map(|row| row.ts).max())
        else {
            return Ok(());
        };
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let committed_at = Moment::now().micros;
        let mut leaves = match &tree {
            Some(_) => Some(BatchLeaves::new((writer, until), rows.len(), committed_at)?),
            None => None,
        };
        let stored = self.insert(connection, (ledger, first_seq), rows, leaves.as_mut()).await;
        let stored = stored.map_err(insert_error)?;
        if stored != rows.len() as u64 {
            guard.look(&mut *connection).await?;
            return Err(guard.not_as_sent().into());
        }
        let statement = if leaves.is_some() { &self.add_proven } else { &self.add_batch };
        let add = statement
            .query()
            .bind(ledger)
            .bind(first_seq)
            .bind(count)
            .bind(writer)
            .bind(until.cast_signed())
            .bind(from_micros(committed_at))
            .bind(from_micros(least))
            .bind(from_micros(greatest));
        let (Some(leaves), Some(tree)) = (leaves, tree) else {
            add.execute(connection).await.map_err(append_error)?;
            return Ok(());
        };
        let leaves = leaves.finish(first_seq, tree);
        let add = add.bind(tree.size()).bind(tree.frontier().to_bytes());
        add.bind(&leaves.seeds).bind(leaves.bytes()).execute(&mut *connection).await.map_err(failed)?;
        let mut tables = PostgresTree { connection, statements: &self.tree, ledger };
        tables.add_nodes(&tree.take_full()).await
    }

    async fn insert(
        &self,
        connection: &mut PgConnection,
        (ledger, first_seq): (&str, i64),
        rows: &[&Row],
        leaves: Option<&mut BatchLeaves>,
    ) -> sqlx::Result<u64> {
        fn column<'a, T>(rows: &'a [&'a Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
            rows.iter().map(|row| value(row)).collect()
        }
        // The leaves are made while the server works on the rows.
        let meanwhile = async {
            if let Some(leaves) = leaves {
                leaves.add_all(rows).await;
            }
        };
        let insert = match &self.rows {
            RowStatement::Copy(statement) => {
                return copy(connection, statement, (ledger, first_seq), rows, meanwhile).await;
            }
            RowStatement::Insert(insert) => insert,
        };
        let seqs: Vec<i64> = (first_seq..).take(rows.len()).collect();
        let insert = insert
            .query()
            .bind(ledger)
            .bind(seqs)
            .bind(column(rows, |row| row.id))
            .bind(column(rows, |row| from_micros(row.ts)))
            .bind(column(rows, |row| row.workspace_id))
            .bind(column(rows, |row| row.session_id))
            .bind(column(rows, |row| row.agent_id))
            .bind(column(rows, |row| &*row.action))
            .bind(column(rows, |row| &*row.resource))
            .bind(column(rows, |row| row.resource_id.as_deref()))
            .bind(column(rows, |row| &*row.decision))
            .bind(column(rows, |row| row.reason.as_deref()))
            .bind(column(rows, |row| row.risk_score))
            .bind(column(rows, |row| &*row.metadata))
            .bind(column(rows, |row| row.problems.as_deref()))
            .execute(connection);
        let (inserted, ()) = tokio::join!(biased; insert, meanwhile);
        Ok(inserted?.rows_affected())
    }
}
