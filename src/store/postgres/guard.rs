//! Compares what is stored with what was sent, where triggers and the like may have changed it.

use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row as _};

use super::{
    error::append_error,
    place::{NOTHING_REPLACED, not_of_the_owner, replaced},
    rows::{ROW, decode},
    source::Postgres,
    sql::Sql,
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::store::appender::{not_as_sent, suspicious};
use crate::store::{Append, AppendError, Fault};

/// The tables that an append writes.
const WRITTEN: [&str; 8] = [
    "tracing_audit_entries",
    "tracing_audit_batches",
    "tracing_audit_heads",
    "tracing_audit_positions",
    "tracing_audit_writers",
    "tracing_audit_quarantine",
    "tracing_audit_leaves",
    "tracing_audit_nodes",
];

/// The triggers, rules and policies between a statement of ours and our tables.
pub(super) struct Guard {
    /// The names of our tables. The first one is that of the entries.
    tables: Vec<String>,
    /// The identifiers of the functions that write, if this role writes by them.
    functions: Vec<i64>,
    look: Sql,
    rows: Sql,
    books: Sql,
    records: Sql,
    /// The objects that may change rows, each with the remedy.
    suspects: Vec<String>,
    /// The finding that the next notice reports.
    pub(super) noticed: Option<AuditError>,
}

impl Guard {
    pub(super) fn new(postgres: &Postgres, functions: Vec<i64>) -> Self {
        let sql = |statement: &str| postgres.statement(statement);
        let replaced = postgres.at.as_ref().map_or(NOTHING_REPLACED, |place| &place.replaced);
        Self {
            tables: WRITTEN.map(|table| postgres.table(table)).to_vec(),
            functions,
            // The look finds only the triggers for rows that are inserted, deleted or updated, and not the server's
            // own. A rule that only makes a view is reported as the view.
            look: sql(&format!(
                "WITH ours AS MATERIALIZED (SELECT array_agg(to_regclass(name)::oid) AS oids FROM unnest($1::text[]) name),
                      changer (what) AS (
                 SELECT format('the trigger %s on %s (DROP TRIGGER %I ON %s)', t.tgname, t.tgrelid::regclass, t.tgname,
                               t.tgrelid::regclass)
                 FROM pg_trigger t, ours
                 WHERE t.tgrelid = ANY (oids) AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 28 <> 0
                 UNION ALL
                 SELECT format('the rule %s on %s (DROP RULE %I ON %s)', r.rulename, r.ev_class::regclass, r.rulename,
                               r.ev_class::regclass)
                 FROM pg_rewrite r, ours WHERE r.ev_class = ANY (oids) AND r.ev_type <> '1' AND r.ev_enabled <> 'D'
                 UNION ALL
                 SELECT format('the %s %s in the place of the audit table',
                               CASE c.relkind WHEN 'v' THEN 'view' WHEN 'f' THEN 'foreign table' ELSE 'relation' END,
                               c.oid::regclass)
                 FROM pg_class c, ours WHERE c.oid = ANY (oids) AND c.relkind NOT IN ('r', 'p'))
                 SELECT 0, what FROM changer UNION ALL SELECT 1, r.replaced FROM ({replaced}) r UNION ALL
                 SELECT 2, f::oid::regprocedure::text FROM unnest($2::bigint[]) f
                 WHERE (SELECT p.proowner FROM pg_proc p WHERE p.oid = f::oid) IS DISTINCT FROM
                       (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass(($1::text[])[1]))
                 ORDER BY 1, 2",
            )),
            rows: sql(&format!(
                "{ROW} FROM @tracing_audit_entries e WHERE e.ledger = $1 AND e.seq >= $2 ORDER BY e.seq LIMIT $3"
            )),
            books: sql(
                "SELECT (SELECT next_seq FROM @tracing_audit_heads WHERE ledger = $1),
                        (SELECT entries FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq = $2),
                        (SELECT position FROM @tracing_audit_positions WHERE ledger = $1 AND writer = $3)",
            ),
            records: sql("SELECT record FROM @tracing_audit_quarantine
                          WHERE ledger = $1 AND writer = $2 AND position > $3 ORDER BY position"),
            suspects: Vec::new(),
            noticed: None,
        }
    }

    /// Looks for triggers and rules, for views in the place of tables, for tables other than those found first, and for
    /// functions that do not belong to the tables' owner. The transaction holds each table that it has read or written:
    /// nobody can change that table any more before the transaction ends.
    pub(super) async fn look(&mut self, connection: &mut PgConnection) -> Result<(), AppendError> {
        let look = self.look.row::<(i32, String)>().bind(&self.tables).bind(&self.functions);
        let (mut found, mut others, mut functions) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, what) in look.fetch_all(connection).await.map_err(append_error)? {
            match kind {
                0 => found.push(what),
                1 => others.push(what),
                _ => functions.push(what),
            }
        }
        if !others.is_empty() {
            return Err(AppendError { fault: Fault::Store, error: replaced(&others, &found) });
        }
        if !functions.is_empty() {
            return Err(AppendError { fault: Fault::Store, error: not_of_the_owner(&functions) });
        }
        if found != self.suspects {
            self.noticed = suspicious(&found).or(self.noticed.take());
            self.suspects = found;
        }
        Ok(())
    }

    /// Whether triggers, rules or views were found.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The error of a statement that has stored another number of rows than it was given.
    pub(super) fn not_as_sent(&self) -> AppendError {
        not_as_sent(&self.suspects)
    }

    /// Compares the rows, and what was written with them, with what is stored. Only where something may have changed
    /// them; without that, the numbers of rows that the server reports are proof enough. The rows were written last by
    /// the statement before this one.
    pub(super) async fn compare(
        &mut self,
        connection: &mut PgConnection,
        (ledger, first_seq): (&str, i64),
        rows: &[&Row],
        batch: Option<&Append<'_>>,
    ) -> Result<(), AppendError> {
        self.look(&mut *connection).await?;
        // The functions compare it themselves: a role that calls them may not read it.
        if self.suspects.is_empty() || !self.functions.is_empty() {
            return Ok(());
        }
        // Triggers that wait for the commit run now.
        sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE")
            .execute(&mut *connection)
            .await
            .map_err(append_error)?;
        let as_sent = self.rows_are(connection, (ledger, first_seq), rows).await?
            && self
                .books_are(connection, (ledger, first_seq), rows.len(), batch)
                .await
                .map_err(append_error)?;
        if as_sent { Ok(()) } else { Err(self.not_as_sent()) }
    }

    async fn rows_are(
        &self,
        connection: &mut PgConnection,
        (ledger, first_seq): (&str, i64),
        rows: &[&Row],
    ) -> Result<bool, AppendError> {
        let most = i64::try_from(rows.len() + 1).unwrap_or(i64::MAX);
        let mut stored =
            self.rows.query().bind(ledger.to_owned()).bind(first_seq).bind(most).fetch(connection);
        let mut rows = (first_seq..).zip(rows);
        while let Some(found) = stored.try_next().await.map_err(append_error)? {
            let seq: i64 = found.try_get(0).map_err(append_error)?;
            let found = decode(&found);
            if !rows.next().is_some_and(|(sent, row)| sent == seq && **row == found) {
                return Ok(false);
            }
        }
        Ok(rows.next().is_none())
    }

    /// Whether the head, the batch, the position and the quarantine are as they were written.
    async fn books_are(
        &self,
        connection: &mut PgConnection,
        (ledger, first_seq): (&str, i64),
        count: usize,
        batch: Option<&Append<'_>>,
    ) -> sqlx::Result<bool> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let writer = batch.map(|batch| batch.writer);
        let books = self.books.row::<(Option<i64>, Option<i64>, Option<i64>)>();
        let (head, entries, position) =
            books.bind(ledger.to_owned()).bind(first_seq).bind(writer).fetch_one(&mut *connection).await?;
        let as_sent = head == Some(first_seq.saturating_add(count)) && (count == 0 || entries == Some(count));
        let Some(batch) = batch else { return Ok(as_sent) };
        let records = self.records.scalar::<Vec<u8>>().bind(ledger.to_owned()).bind(batch.writer);
        let records = records.bind(batch.from.cast_signed()).fetch_all(connection).await?;
        let records = records.iter().eq(batch.quarantined.iter().map(|entry| &entry.record));
        Ok(as_sent && position == Some(batch.until().cast_signed()) && records)
    }
}
