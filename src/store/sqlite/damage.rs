//! Looks for damage when a file is opened, at a cost that does not grow with the file.
//!
//! SQLite reads a page only when it needs it, so that a damaged one is found when somebody asks for what is on it: long
//! after the good backup has been thrown away. This reads, of each table and each index of ours, the first page, the way
//! to its first entry, and for tables also to the last; and the pages of [`SAMPLES`] entries, at equal distances. SQLite
//! checks the header of the file, its size, and the structure of each page that it reads.
//!
//! Two kinds of damage can be missed: damage to pages between the samples, and bytes that leave the structure of a page
//! as it was. A `PRAGMA integrity_check` finds the first kind, and takes a minute for some ten million entries.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{error::code_of, migrate::file_of, sql::identifier, wal::beside};
use crate::platform::FileLook;

/// The number of entries whose pages are read. Damage to a fortieth of the entries, all in one place, is always found.
const SAMPLES: u32 = 40;

/// The tables, and what they are in the order of.
const TABLES: [(&str, &str); 10] = [
    ("tracing_audit_entries", "seq"),
    ("tracing_audit_entries", "id"),
    ("tracing_audit_batches", "first_seq"),
    ("tracing_audit_head", "rowid"),
    ("tracing_audit_positions", "rowid"),
    ("tracing_audit_quarantine", "rowid"),
    ("tracing_audit_reads", "rowid"),
    ("tracing_audit_writers", "rowid"),
    ("tracing_audit_leaves", "first_seq"),
    ("tracing_audit_nodes", "level"),
];

/// Reads some pages of the database, whose tables exist. Returns what is wrong with its header.
///
/// # Errors
/// The error is SQLite's own about a page that is damaged or missing.
pub(super) async fn look(connection: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
    for statement in statements(connection).await? {
        read(connection, statement).await?;
    }
    // SQLite would write over pages that are in use.
    let counts = "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count";
    let (free, pages): (i64, i64) = sqlx::query_as(counts).fetch_one(&mut *connection).await?;
    if free >= pages {
        return Ok(Some(format!("its header says that {free} of {pages} pages are free")));
    }
    ends_too_soon(connection).await
}

/// Compares the size of the file with what its header says, if nothing of it is in a write-ahead log. SQLite itself does
/// not miss a part of the last page.
async fn ends_too_soon(connection: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
    let main = file_of(&mut *connection).await?;
    let mut found = None;
    // Twice, since another process may give back pages between two looks.
    for _ in 0..2 {
        let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let size: i64 = sqlx::query_scalar(size).fetch_one(&mut *connection).await?;
        let log = FileLook::at(&beside(&main, "-wal")).map_or(0, |log| log.len);
        let len = FileLook::at(&main).map_or(u64::MAX, |main| main.len);
        if log > 0 || len >= size.cast_unsigned() {
            return Ok(None);
        }
        found = Some(format!("it has {len} bytes and its header says {size}"));
    }
    Ok(found)
}

/// The statements that read those pages.
async fn statements(connection: &mut SqliteConnection) -> sqlx::Result<Vec<String>> {
    let both_ends = |(table, order)| {
        format!(
            "SELECT (SELECT {order} FROM {table} ORDER BY {order} LIMIT 1), \
             (SELECT {order} FROM {table} ORDER BY {order} DESC LIMIT 1)"
        )
    };
    let mut statements: Vec<_> = TABLES.into_iter().map(both_ends).collect();
    statements.push(format!(
        "WITH RECURSIVE at (step) AS (VALUES (1) UNION ALL SELECT step + 1 FROM at WHERE step < {SAMPLES}), \
         ends (least, greatest) AS (SELECT (SELECT min(seq) FROM tracing_audit_entries), \
         (SELECT max(seq) FROM tracing_audit_entries)) \
         SELECT count((SELECT e.action FROM tracing_audit_entries e \
         WHERE e.seq >= least + (greatest - least) * step / ({SAMPLES} + 1) ORDER BY e.seq LIMIT 1)) FROM at, ends"
    ));
    let indexes = "SELECT name, tbl_name, sql FROM sqlite_schema \
                   WHERE type = 'index' AND tbl_name GLOB 'tracing_audit_*' AND sql IS NOT NULL";
    let indexes: Vec<(String, String, String)> = sqlx::query_as(indexes).fetch_all(connection).await?;
    statements.extend(indexes.into_iter().map(|(name, table, sql)| {
        let some = sql.split_once(" WHERE ").map(|(_, some)| format!(" WHERE {some}")).unwrap_or_default();
        format!("SELECT 1 FROM {} INDEXED BY {}{some} LIMIT 1", identifier(&table), identifier(&name))
    }));
    Ok(statements)
}

/// Runs a statement for what it reads. One that SQLite does not accept, because somebody has made the tables or the index
/// otherwise, reads nothing.
async fn read(connection: &mut SqliteConnection, sql: String) -> sqlx::Result<()> {
    const ERROR: i32 = 1;
    match sqlx::query(AssertSqlSafe(sql)).fetch_optional(connection).await {
        Err(cause) if code_of(&cause) != Some(ERROR) => Err(cause),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::indexes, super::migrate::migrated_in_memory, *};
    use crate::query::IndexOn;

    #[tokio::test]
    async fn every_statement_is_accepted_and_none_sorts() {
        let mut connection = migrated_in_memory().await.unwrap();
        for on in ["agent_id", "action", "metadata.client.ip"] {
            let sql = indexes::sql(&on.parse::<IndexOn>().unwrap());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        let statements = statements(&mut connection).await.unwrap();
        assert!(statements.len() > 20, "{statements:?}");
        for statement in statements {
            let plan = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
            let plan: Vec<(i64, i64, i64, String)> = plan.fetch_all(&mut connection).await.unwrap();
            assert!(plan.iter().all(|(.., step)| !step.contains("TEMP B-TREE")), "{statement}: {plan:?}");
        }
    }
}
