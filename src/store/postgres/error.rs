//! The errors of the database: how long to wait for an answer, whose fault an error is, and which remedy it has.

use std::{fmt, time::Duration};

use sqlx::error::DatabaseError;

use crate::error::{AuditError, ErrorKind};
use crate::store::{AppendError, Fault, migration::veiled};

/// The most time that an answer may take. Without it, a server that vanishes without a word would be awaited forever.
/// The caller drops the connection afterwards.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

const DISK_FULL: &str = "53100";

const NO_TLS: &str =
    "the database server has no TLS, or a certificate that is not trusted: look at sslmode and sslrootcert";

pub(super) async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, AuditError> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|late| {
        let message = format!("the database server has not answered for {ANSWER_TIMEOUT:?}");
        AuditError::new(ErrorKind::Store, message).because(late)
    })
}

/// The error's SQLSTATE, five characters that name the kind of the error. Empty if the server did not send the error.
pub(super) fn code_of(cause: &sqlx::Error) -> String {
    cause.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned()
}

/// Whether the server refuses the role or its password.
pub(super) fn is_refused(cause: &sqlx::Error) -> bool {
    matches!(&*code_of(cause), "28P01" | "28000")
}

/// Whether the error says that nobody can connect to the server now. A server that has no connection left for one more may
/// still serve those that a pool has.
pub(super) fn is_unreachable(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::Database(_) => {
            let code = code_of(cause);
            ["57P", "28", "3D"].iter().any(|class| code.starts_with(class))
        }
        _ => true,
    }
}

/// Whether another process made the same change to the tables at the same moment.
pub(super) fn is_race(cause: &sqlx::Error) -> bool {
    // unique_violation, duplicate_table, duplicate_schema, duplicate_object (a table is a type too),
    // serialization_failure, deadlock_detected, and the error of concurrent changes to the catalogue.
    matches!(code_of(cause).as_str(), "23505" | "42P07" | "42P06" | "42710" | "40001" | "40P01" | "XX000")
}

/// Something stands in the place of a table.
#[derive(Debug)]
pub(super) struct Veiled(pub(super) String);

impl fmt::Display for Veiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Veiled {}

/// Turns a PostgreSQL error into one that names the remedy, where there is one.
pub(super) fn store_error(cause: sqlx::Error) -> AuditError {
    if let sqlx::Error::Configuration(held) = &cause
        && let Some(Veiled(what)) = held.downcast_ref()
    {
        return veiled(what);
    }
    let code = code_of(&cause);
    let message = match code.as_str() {
        "28P01" | "28000" => "the database server refuses the role or its password",
        "3D000" => "there is no such database on the server: create it, or name another",
        "42501" => "the role lacks a grant on the audit tables, or the right to create them",
        "42P01" => "the audit tables do not exist, or are not in the role's search_path",
        "42723" => {
            "a function with the name of one of the log's is there, which somebody else may have made: look at it, and drop it"
        }
        "42P05" | "26000" => {
            "a pooler in transaction mode stands between: end the URL with ?statement-cache-capacity=0"
        }
        "55P03" => {
            "another transaction has held the ledger for too long: pg_stat_activity names the process that holds it"
        }
        "25P03" => "the server ended a transaction of this process, which had sent nothing for too long",
        "53300" => "the database server has no connection left: raise max_connections, or use a pooler",
        DISK_FULL => "the database server's disk is full",
        "TA001" => {
            "the role may not write to this ledger: the owner of the audit tables allows it by a row in tracing_audit_grants"
        }
        "TA002" => "the writer belongs to another role: its queue is not one of this role's",
        code if code.starts_with("TA") => "the functions of the audit tables refuse what they were given",
        "25006" => "the database server is read-only: a standby, or default_transaction_read_only",
        "57014" => "the database server cancelled the statement: raise statement_timeout for this role",
        code if code.starts_with("57P") => "the database server is shutting down or starting",
        code if code.starts_with("40") => "the transaction collided with another",
        _ => match &cause {
            sqlx::Error::Tls(_) if cfg!(not(any(feature = "tls-rustls", feature = "tls-native-tls"))) => {
                "the connection must be encrypted, unless the URL says sslmode=disable: enable the feature tls-rustls or \
                 tls-native-tls"
            }
            sqlx::Error::Tls(_) => NO_TLS,
            // The error of rustls for a certificate that it does not trust.
            sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => NO_TLS,
            sqlx::Error::Io(_) => "the database server cannot be reached, or the connection to it was lost",
            sqlx::Error::PoolTimedOut => "no connection of the pool became free in time",
            _ => "the audit tables cannot be read or written",
        },
    };
    AuditError::new(ErrorKind::Store, message).for_lack_of_room(code == DISK_FULL).because(cause)
}

/// The error of any statement of an append but the one that inserts rows. The database is at fault.
pub(super) fn append_error(cause: sqlx::Error) -> AppendError {
    let error = store_error(cause);
    let fault = if error.lacks_room() { Fault::Room { tried: true } } else { Fault::Store };
    AppendError { fault, error }
}

/// The error of the statement that inserts rows. A row is at fault only if the error says that it can never be stored.
pub(super) fn insert_error(cause: sqlx::Error) -> AppendError {
    let constraint = cause.as_database_error().and_then(|error| error.constraint());
    let (fault, error) = match code_of(&cause).as_str() {
        "23505" if constraint == Some("tracing_audit_entries_id") => (
            Fault::Duplicate,
            AuditError::new(ErrorKind::Duplicate, "the ledger holds an entry with this id already"),
        ),
        // 23505: somebody else has written at the head, which this transaction holds, so the ledger is damaged. 22P03
        // and 22P04 object to the format in which the rows were sent: a column has another type than this crate's.
        "23505" | "22P03" | "22P04" => return append_error(cause),
        // Data exceptions, constraint violations, and values that are too large for an index.
        code if code.starts_with("22") || code.starts_with("23") || code == "54000" => {
            (Fault::Entry, AuditError::new(ErrorKind::Quarantined, "the database refuses this entry"))
        }
        _ => return append_error(cause),
    };
    AppendError { fault, error: error.because(cause) }
}
