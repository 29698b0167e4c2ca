//! Says who creates the tables and with which scripts, and has the errors of tables that do not exist or are too old.

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
use crate::error::{AuditError, ErrorKind};

/// Whether a log may create and change the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Migrate {
    /// The first log that is opened creates the tables, or brings them up to date.
    #[default]
    Auto,
    /// Tables that do not exist, or are older than this version needs, are an error
    /// ([`is_schema`](crate::AuditError::is_schema)). Somebody else runs [`Store::migrations`](crate::Store::migrations),
    /// for instance because the log's own role may not. A SQLite file must exist.
    Check,
}

/// A step from one version of the tables to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The version of the tables after this step. `SELECT max(version) FROM tracing_audit_migrations` returns the
    /// present version.
    pub version: u32,
    /// A whole script in one transaction, for the database's own shell: `psql -f` or `sqlite3`.
    pub sql: String,
}

/// The error of creating an index before the tables exist.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn no_tables() -> AuditError {
    AuditError::new(ErrorKind::Schema, "the audit tables do not exist: open a log first")
}

/// The error of recording a read if the table of recorded reads does not exist.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn no_recorded_reads() -> AuditError {
    AuditError::new(
        ErrorKind::Schema,
        "the read cannot be recorded, so it is not answered: the audit tables do not exist or are too old; open a log with this version, or run what Store::migrations gives",
    )
}

/// The error of tables that have this version, if this crate needs a newer one and may not migrate them.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn not_migrated(version: usize, needed: usize) -> AuditError {
    let are = match version {
        0 => "the audit tables do not exist".to_owned(),
        version => format!("the audit tables have version {version} and {needed} is needed"),
    };
    AuditError::new(
        ErrorKind::Schema,
        format!("{are}: run what Store::migrations gives, or open with Migrate::Auto"),
    )
}

/// The error of reading where something stands in the place of a table.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn veiled(what: &str) -> AuditError {
    let message = format!(
        "{what}, and nothing is read through it, because it can be anything: put the table back in its place"
    );
    AuditError::new(ErrorKind::Altered, message)
}

/// The findings about a table of migrations with this greatest version, this least one and this many rows, if this
/// crate cannot have written the table or does not know its version.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn versions(version: i64, (least, count): (i64, i64), known: i64) -> Vec<String> {
    let mut told = Vec::new();
    if version > known {
        told.push(unknown_version(version, known));
    }
    if least < 1 || version <= known && count != version {
        told.push(format!(
            "the table tracing_audit_migrations has {count} rows, from version {least} to {version}, and should have one for each \
             version from 1 on: somebody has added or removed some"
        ));
    }
    told
}

/// The finding about tables of a version that this crate does not know.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn unknown_version(version: i64, known: i64) -> String {
    format!(
        "the table tracing_audit_migrations says that the tables are of version {version}, and this version of tracing-audit \
         knows {known}: upgrade it, or somebody has added a row there"
    )
}
