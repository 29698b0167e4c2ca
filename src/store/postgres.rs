//! PostgreSQL: many services, one database, a ledger each or one for all.
//!
//! Nothing here relies on a session: no prepared settings, temporary tables, sequences or advisory locks, so that
//! poolers and databases that speak PostgreSQL's protocol can stand in for it.

mod append;
mod open;
mod quarantine;
mod read;

use std::{
    path::Path,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Appender, Backend, LedgerRow, QuarantinedRow, QueueByDefault, Span, Store};
use crate::{AuditError, AuditQuery, error::Kind, record::Row};

/// Connections for reading: enough for a few exports and pages at once.
const READERS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Postgres {
    source: Source,
    /// What stands before the name of each table: nothing, or the quoted schema and a dot.
    prefix: String,
    schema: Option<String>,
}

#[derive(Debug)]
enum Source {
    /// The pool for reading is made at the first read, since making one takes a runtime.
    Options { options: Box<PgConnectOptions>, readers: OnceLock<PgPool> },
    /// The application's, whose options are read again for every connection: a password may change.
    Pool(PgPool),
}

impl Store {
    /// The PostgreSQL database at `url`: `postgres://user:password@host:port/database?sslmode=require`. What the URL
    /// leaves out comes from `PGHOST`, `PGUSER`, `PGPASSWORD` and so on, and from `~/.pgpass`. Connects when it is
    /// first used.
    ///
    /// The first log creates the tables, so its role must be allowed to; after that a writer can do with a role that
    /// can neither change nor remove an entry: `migrations/postgres/roles.sql` has the grants.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for a malformed URL.
    pub fn postgres(url: &str) -> Result<Self, AuditError> {
        let options = PgConnectOptions::from_str(url).map_err(|cause| {
            // Not the URL itself, which may hold a password.
            AuditError::new(Kind::Config, "not a valid PostgreSQL URL: postgres://user@host/database")
                .because(cause)
        })?;
        let options = options.disable_statement_logging();
        Ok(Postgres::store(Source::Options { options: Box::new(options), readers: OnceLock::new() }, None))
    }

    /// The same database with our tables in this schema, which is created if need be. Default: wherever the role's
    /// `search_path` leads.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) if this is not a PostgreSQL database, or the name is empty.
    pub fn schema(self, name: &str) -> Result<Self, AuditError> {
        if name.is_empty() || name.contains('\0') {
            return Err(AuditError::new(Kind::Config, "the name of a schema must not be empty"));
        }
        match self.backend().postgres() {
            Some(postgres) => Ok(Postgres::store(postgres.source.again(), Some(name.to_owned()))),
            None => Err(AuditError::new(Kind::Config, "only a PostgreSQL database has schemas")),
        }
    }
}

impl From<PgPool> for Store {
    fn from(pool: PgPool) -> Self {
        Postgres::store(Source::Pool(pool), None)
    }
}

impl Source {
    fn again(&self) -> Self {
        match self {
            Self::Options { options, .. } => {
                Self::Options { options: options.clone(), readers: OnceLock::new() }
            }
            Self::Pool(pool) => Self::Pool(pool.clone()),
        }
    }
}

impl Postgres {
    fn store(source: Source, schema: Option<String>) -> Store {
        let prefix = schema
            .as_ref()
            .map_or_else(String::new, |schema| format!("\"{}\".", schema.replace('"', "\"\"")));
        Store(Arc::new(Self { source, prefix, schema }))
    }

    fn options(&self) -> PgConnectOptions {
        match &self.source {
            Source::Options { options, .. } => options.as_ref().clone(),
            Source::Pool(pool) => pool.connect_options().as_ref().clone().disable_statement_logging(),
        }
    }

    fn readers(&self) -> &PgPool {
        match &self.source {
            Source::Pool(pool) => pool,
            Source::Options { options, readers } => readers.get_or_init(|| {
                PgPoolOptions::new().max_connections(READERS).connect_lazy_with(options.as_ref().clone())
            }),
        }
    }

    /// A statement of ours, in which `@` stands before the name of each table.
    fn sql(&self, statement: &str) -> sqlx::AssertSqlSafe<String> {
        sqlx::AssertSqlSafe(statement.replace('@', &self.prefix))
    }
}

impl Backend for Postgres {
    /// Server, database and schema; not the role or its password, which may change.
    fn name(&self, _directory: &Path) -> Option<String> {
        let options = self.options();
        let host = options.get_socket().map_or(options.get_host().into(), |socket| socket.to_string_lossy());
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let schema = self.schema.as_deref().unwrap_or_default();
        Some(format!("postgres:{host}:{}/{database}/{schema}", options.get_port()))
    }

    fn queue_by_default(&self) -> QueueByDefault {
        QueueByDefault::Ask
    }

    fn postgres(&self) -> Option<&Postgres> {
        Some(self)
    }

    fn connect<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        Box::pin(async move {
            let appender: Box<dyn Appender> = Box::new(open::connect(self, ledger).await?);
            Ok(appender)
        })
    }

    fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
        read::rows(self, query)
    }

    fn page<'a>(
        &'a self,
        query: &'a AuditQuery,
        span: Span,
        size: u32,
    ) -> BoxFuture<'a, Result<Vec<LedgerRow>, AuditError>> {
        Box::pin(read::page(self, query, span, size))
    }

    fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>> {
        Box::pin(read::count(self, query))
    }

    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
        quarantine::rows(self)
    }
}
