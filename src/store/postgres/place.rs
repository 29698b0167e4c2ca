//! The place of the audit tables, and what names mean in a transaction: found once, and compared ever after.
//!
//! On a server that others share, a name can be given a second meaning: by a schema that has the name of the role, by a
//! temporary table, by an operator or a function in a schema that comes first. So each of our statements has the schema
//! before the name of a table, and runs in a transaction in which every other name is one of the server's own.

use std::sync::Arc;

use sqlx::{Row as _, postgres::PgRow};

use super::quote::{identifier, quoted};
use crate::error::{AuditError, ErrorKind};
use crate::store::migration::veiled;

pub(super) const MIGRATIONS: &str = "tracing_audit_migrations";

/// The part of a transaction's beginning by which names are those of the server alone. It is repeated in each
/// transaction, since the next one may be on another connection of a pooler. `pg_temp` is searched first if it is not named.
macro_rules! own_names {
    () => {
        "SET LOCAL search_path = pg_catalog, pg_temp; "
    };
}
pub(super) use own_names;

/// Begins a transaction, within which the server looks every second whether its client is still connected, unless its
/// configuration sets another interval: statements that nobody awaits any more then end. (Not every system lets the
/// server look.) The setting ends with the transaction, so that the next client of a pooler does not inherit it.
pub(super) const BEGIN: &str = concat!(
    "BEGIN; ",
    own_names!(),
    "SELECT set_config('client_connection_check_interval', '1s', true)
     WHERE current_setting('client_connection_check_interval', true) = '0' AND version() LIKE '%linux%'"
);

/// A table as it was found first: its name, its object's identifier, and that of its owner.
pub(super) type Table = (String, i64, i64);

/// The statement of [`Place::replaced`] where no tables are known.
pub(super) const NOTHING_REPLACED: &str = "SELECT NULL::text AS replaced, NULL::text AS instead WHERE FALSE";

/// The schema of the audit tables, and the tables that were found in it.
pub(super) struct Place {
    pub(super) schema: String,
    /// Whether something else stands in the place of a table. It is never taken for the table.
    pub(super) is_veiled: bool,
    /// The text before the name of each table: the quoted schema and a dot.
    pub(super) prefix: String,
    pub(super) tables: Vec<Table>,
    /// The beginning of a reader's transaction. Its last statement has a row for each table that is not the one found first.
    pub(super) begin: Arc<str>,
    /// A statement that has a row for each of these tables: its name, and the object in its place if it is no table.
    pub(super) replaced: String,
}

impl Place {
    pub(super) fn new(schema: String, tables: Vec<Table>) -> Self {
        let replaced = if tables.is_empty() {
            NOTHING_REPLACED.to_owned()
        } else {
            let known = tables
                .iter()
                .map(|(name, table, owner)| format!("({}::name, {table}::oid, {owner}::oid)", quoted(name)));
            format!(
                "SELECT known.name::text AS replaced,
                        CASE WHEN c.relkind IN ('r', 'p') THEN NULL WHEN c.relkind = 'v' THEN 'view'
                             WHEN c.relkind = 'm' THEN 'materialized view' WHEN c.relkind = 'f' THEN 'foreign table'
                             ELSE 'relation' END AS instead
                 FROM (VALUES {}) known (name, oid, owner) JOIN pg_class c ON c.relname = known.name
                      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = {}
                 WHERE c.oid <> known.oid OR c.relowner <> known.owner",
                known.collect::<Vec<_>>().join(", "),
                quoted(&schema)
            )
        };
        let prefix = format!("{}.", identifier(&schema));
        let begin = if tables.is_empty() { BEGIN.into() } else { format!("{BEGIN}; {replaced}").into() };
        Self { schema, is_veiled: false, prefix, tables, begin, replaced }
    }

    /// The place of tables that are nowhere: no table of ours is ever in the server's own schema.
    pub(super) fn nowhere() -> Self {
        Self::new("pg_catalog".to_owned(), Vec::new())
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|(name, ..)| name == table)
    }
}

/// The error of tables that are not those that were found first.
pub(super) fn replaced(tables: &[String], suspects: &[String]) -> AuditError {
    let mut message = format!(
        "the table {} is not the one that this process found first, or has another owner: nothing is read from it or \
         confirmed in it. If that is meant, for instance after a restore, start this process anew; else find out who did \
         it, and put the table back",
        tables.join(", ")
    );
    if !suspects.is_empty() {
        message = format!("{message}. There is also {}", suspects.join("; "));
    }
    AuditError::new(ErrorKind::Store, message)
}

/// The error of functions that are not those of the tables' owner, or not about these tables.
pub(super) fn not_of_the_owner(functions: &[String]) -> AuditError {
    let message = format!(
        "the function {} does not exist, does not belong to the owner of the audit tables, or names tables of another schema: \
         nothing is written by it. Find out who has changed it; the owner of the tables makes it as the script of the \
         migration does",
        functions.join(", ")
    );
    AuditError::new(ErrorKind::Store, message)
}

/// The error of a transaction's beginning, if one of the tables is not the one that was found first.
pub(super) fn check_begun(rows: &[PgRow]) -> Result<(), AuditError> {
    let mut names = Vec::new();
    for row in rows {
        // The rows of the other statements have no such column.
        let Ok(name) = row.try_get::<String, _>("replaced") else { continue };
        if let Ok(Some(what)) = row.try_get::<Option<String>, _>("instead") {
            return Err(veiled(&format!("a {what} stands in the place of the table {name}")));
        }
        names.push(name);
    }
    if names.is_empty() { Ok(()) } else { Err(replaced(&names, &[])) }
}
