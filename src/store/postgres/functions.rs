//! Appends through the functions of the tables' owner, for a role without rights on the tables.

use sqlx::{PgConnection, error::DatabaseError, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{
    error::{append_error, code_of, insert_error, store_error},
    guard::Guard,
    hold::HeldEnd,
    place::not_of_the_owner,
    schema::{names_others, signature, signatures},
    source::Postgres,
    sql::{ENTRIES, Sql},
    tree::failed,
};
use crate::entry::{Moment, Row, from_micros};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::Node;
use crate::platform::Origin;
use crate::store::growth::{BatchLeaves, Failed, Growing};
use crate::store::{Append, AppendError, Quarantined};

/// The code of the error of tables that do not hold what was sent.
const NOT_AS_SENT: &str = "TA007";

/// Whether this role lacks this right on the table, and may call this function of the tables' owner instead. If it has neither,
/// the statement on the table will be the one that fails.
pub(super) async fn stands_in(
    postgres: &Postgres,
    connection: &mut PgConnection,
    (table, right): (&str, &str),
    function: &str,
) -> Result<bool, AuditError> {
    let find = postgres.statement(concat!(
        "SELECT has_any_column_privilege(c.oid, $2), p.proowner = c.relowner AND NOT ",
        names_others!(),
        "FROM pg_class c LEFT JOIN pg_proc p ON p.oid = to_regprocedure($3) AND has_function_privilege(p.oid, 'EXECUTE')
         WHERE c.oid = to_regclass($1)",
    ));
    let function = signature(postgres, function);
    let find = find.row::<(bool, Option<bool>)>().bind(postgres.table(table)).bind(right).bind(&function);
    match find.fetch_optional(connection).await.map_err(store_error)? {
        Some((false, Some(true))) => Ok(true),
        Some((false, Some(false))) => Err(not_of_the_owner(&[function])),
        _ => Ok(false),
    }
}

/// The identifiers of all functions, each of which has to belong to the owner of the tables and to name these.
pub(super) async fn found(
    postgres: &Postgres,
    connection: &mut PgConnection,
) -> Result<Vec<i64>, AuditError> {
    let find = postgres.statement(concat!(
        "SELECT f, CASE WHEN p.proowner = c.relowner AND NOT ",
        names_others!(),
        "THEN p.oid::bigint END
         FROM unnest($2::text[]) f JOIN pg_class c ON c.oid = to_regclass($1)
              LEFT JOIN pg_proc p ON p.oid = to_regprocedure(f)",
    ));
    let find = find.row::<(String, Option<i64>)>().bind(postgres.table(ENTRIES)).bind(signatures(postgres));
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for (function, identifier) in find.fetch_all(connection).await.map_err(store_error)? {
        match identifier {
            Some(identifier) => found.push(identifier),
            None => others.push(function),
        }
    }
    if others.is_empty() { Ok(found) } else { Err(not_of_the_owner(&others)) }
}

/// The notice of a log that is to read back what it has written, and may not.
pub(super) fn cannot_read_back() -> AuditError {
    let message = "this log's role may not read entries, and with Integrity::Deferred they get their leaves by being read: they \
                   stay without leaves until a log that may read them catches up; set Integrity::Inline";
    AuditError::new(ErrorKind::Store, message)
}

/// The functions that write.
pub(super) struct Functions {
    append: Sql,
    prove: Sql,
}

/// The additions of one call.
#[derive(Clone, Copy)]
pub(super) struct Adding<'a> {
    pub(super) end: HeldEnd<'a>,
    pub(super) rows: &'a [&'a Row],
    /// The writer, and the position that it reaches.
    pub(super) writer: (Uuid, u64),
    /// `None`: a row of nobody's queue.
    pub(super) batch: Option<&'a Append<'a>>,
}

impl Functions {
    pub(super) fn new(postgres: &Postgres) -> Self {
        let call = |function: &str, parameters: usize| {
            let parameters: Vec<_> = (1..=parameters).map(|number| format!("${number}")).collect();
            postgres.statement(&format!("SELECT @{function}({})", parameters.join(", ")))
        };
        Self { append: call("tracing_audit_append", 28), prove: call("tracing_audit_prove", 8) }
    }

    /// Adds rows at the head of the ledger, which the transaction holds, with what else their batch writes; and their leaves
    /// to the tree, if there is one.
    pub(super) async fn append(
        &self,
        connection: &mut PgConnection,
        adding: Adding<'_>,
        tree: Option<&mut Growing>,
        guard: &Guard,
    ) -> Result<(), Failed> {
        let Adding { end, rows, writer, .. } = adding;
        let committed_at = end.now.unwrap_or_else(|| Moment::now().micros);
        let tree = tree.filter(|_| !rows.is_empty());
        let mut leaves = match &tree {
            Some(_) => Some(BatchLeaves::new(writer, rows.len(), committed_at)?),
            None => None,
        };
        let call = bind(self.append.query(), adding, committed_at).execute(&mut *connection);
        // The leaves are made while the server works on the rows.
        let meanwhile = async {
            if let Some(leaves) = &mut leaves {
                leaves.add_all(rows).await;
            }
        };
        let (called, ()) = tokio::join!(biased; call, meanwhile);
        called.map_err(|cause| call_error(cause, guard))?;
        let (Some(leaves), Some(tree)) = (leaves, tree) else { return Ok(()) };
        let leaves = leaves.finish(end.first_seq, tree);
        let nodes = tree.take_full();
        let prove = self.prove.query().bind(end.ledger).bind(end.first_seq);
        let prove = prove.bind(tree.frontier().to_bytes()).bind(&leaves.seeds).bind(leaves.bytes());
        let prove = prove.bind(column(&nodes, |node: &Node| i16::from(node.subtree.level)));
        let prove = prove.bind(column(&nodes, |node: &Node| node.subtree.index.cast_signed()));
        let prove = prove.bind(column(&nodes, |node: &Node| node.hash.to_vec()));
        prove.execute(connection).await.map(drop).map_err(failed)
    }
}

fn column<'a, T, V>(values: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    values.iter().map(value).collect()
}

/// Binds the parameters of `tracing_audit_append`.
fn bind<'q>(
    call: Query<'q, sqlx::Postgres, PgArguments>,
    Adding { end, rows, writer: (writer, _), batch }: Adding<'q>,
    committed_at: i64,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    let quarantined = batch.map_or(&[][..], |batch| batch.quarantined);
    let standing = batch.and_then(|batch| batch.standing);
    let of = |part: fn(&Origin) -> &Option<String>| standing.and_then(|told| part(told.origin).as_deref());
    call.bind(end.ledger)
        .bind(end.first_seq)
        .bind(writer)
        .bind(batch.map(|batch| batch.from.cast_signed()))
        .bind(from_micros(committed_at))
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
        .bind(column(quarantined, |entry: &Quarantined| entry.id))
        // The error may quote the value that the database refuses.
        .bind(column(quarantined, |entry: &Quarantined| entry.error.replace('\0', "\u{2400}")))
        .bind(column(quarantined, |entry: &Quarantined| &*entry.record))
        .bind(standing.map(|standing| standing.accepted.cast_signed()))
        .bind(batch.is_some_and(|batch| batch.ends))
        .bind(of(|origin| &origin.host))
        .bind(of(|origin| &origin.process))
        .bind(of(|origin| &origin.home))
        .bind(of(|origin| &origin.mounts))
        .bind(of(|origin| &origin.parent))
}

/// The error of `tracing_audit_append`. A row is at fault only if the table of entries refuses it.
fn call_error(cause: sqlx::Error, guard: &Guard) -> AppendError {
    let code = code_of(&cause);
    // A trigger stands in the way, too, if its function names something that the owner's functions do not find. Such a
    // trigger was found when the connection was opened, or at the end of the last batch; after an error, another
    // connection is opened.
    let finds_nothing = code.starts_with("42") && code != "42501";
    if code == NOT_AS_SENT || finds_nothing && guard.has_suspects() {
        let AppendError { fault, error } = guard.not_as_sent();
        return AppendError { fault, error: error.because(cause) };
    }
    let table = cause.as_database_error().and_then(DatabaseError::table);
    match table {
        Some(table) if table != ENTRIES && table.starts_with("tracing_audit_") => append_error(cause),
        _ => insert_error(cause),
    }
}
