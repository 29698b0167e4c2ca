//! PostgreSQL: many services, one database, a ledger each or one for all.
//!
//! Nothing here relies on a session: no prepared settings, temporary tables, sequences or advisory locks, so that
//! poolers and databases that speak PostgreSQL's protocol can stand in for it.

mod append;
mod borrowed;
mod copy;
mod index;
mod open;
mod quarantine;
mod read;
mod reads;
mod rows;
mod scope;

use std::{
    any::Any,
    fmt,
    path::Path,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use futures_util::{TryFutureExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    AssertSqlSafe, ConnectOptions, FromRow, PgPool, Postgres as Database,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::{Query, QueryAs, QueryScalar},
};

use super::{
    Appender, Backend, Group, Head, Index, IndexOn, Indexes, LedgerRow, Migrate, Migration, QuarantinedRow,
    QueueByDefault, Reads, RecordedReadRow, Span, Store,
};
use crate::{AuditError, AuditQuery, CountBy, error::Kind, platform::is_on_own_runtime, record::Row};

/// Connections for reading: enough for a few exports and pages at once.
const READERS: u32 = 4;

/// In a URL: no statement gets a name.
const NO_NAMES: &str = "statement-cache-capacity=0";

/// Clones share their pools.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    source: Source,
    /// What stands before the name of each table: nothing, or the quoted schema and a dot.
    prefix: String,
    schema: Option<String>,
    /// Statements are prepared once for each connection, which then knows them by name.
    names_statements: bool,
    /// For readers on a runtime of the caller's, and for those that block. A connection lives on the runtime that opened
    /// it, which may be the very thread that a blocking reader blocks. Made at the first read, since that takes a runtime.
    readers: Arc<OnceLock<PgPool>>,
    blocking_readers: Arc<OnceLock<PgPool>>,
}

/// A statement with the names of its tables.
///
/// Unless it has a name, each run prepares it again and then runs it: within a transaction, since a pooler may send what
/// comes after one to another connection.
struct Sql {
    text: Arc<str>,
    named: bool,
}

impl Sql {
    fn text(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.text))
    }

    fn query(&self) -> Query<'static, Database, PgArguments> {
        sqlx::query(self.text()).persistent(self.named)
    }

    fn scalar<T>(&self) -> QueryScalar<'static, Database, T, PgArguments>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(self.text()).persistent(self.named)
    }

    fn row<T: for<'r> FromRow<'r, PgRow>>(&self) -> QueryAs<'static, Database, T, PgArguments> {
        sqlx::query_as(self.text()).persistent(self.named)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Asked for every connection.
#[derive(Clone)]
struct Passwords(Arc<dyn Fn() -> BoxFuture<'static, Result<String, BoxError>> + Send + Sync>);

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

#[derive(Debug, Clone)]
enum Source {
    Options {
        options: Box<PgConnectOptions>,
        passwords: Option<Passwords>,
    },
    /// The application's, whose options are read again for every connection: a password may change.
    Pool(PgPool),
}

impl Store {
    /// The PostgreSQL database at `url`: `postgres://user:password@host:port/database?sslmode=require`. What the URL
    /// leaves out comes from `PGHOST`, `PGUSER`, `PGPASSWORD` and so on, and from `~/.pgpass`. Connects when it is
    /// first used.
    ///
    /// With `statement-cache-capacity=0` no statement has a name on the server, which a pooler in transaction mode
    /// may ask for: see [`server`](crate::server#poolers).
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
        // A pooler that does not know this setting refuses the connection, and nothing here is read as text.
        let options = Box::new(options.disable_statement_logging().extra_float_digits(None));
        let source = Source::Options { options, passwords: None };
        let settings = url.split_once('?').map_or("", |(_, settings)| settings);
        let names_statements = !settings.split('&').any(|setting| setting == NO_NAMES);
        Ok(Self::of(Postgres::new(source, None, names_statements)))
    }

    /// Asks for the password each time that a connection is made, for instance for a cloud's token, which lives for
    /// minutes. It is asked on a thread of the log's own for writing, and on that of the caller for reading.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # fn main() -> Result<(), tracing_audit::AuditError> {
    /// # async fn token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let store = tracing_audit::Store::postgres("postgres://audit@db.example.com/audit")?.password(token)?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "postgres"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) if this is not a PostgreSQL database, or made from a pool: its
    /// `set_connect_options` changes what this store connects with too.
    pub fn password<F, E>(self, ask: impl Fn() -> F + Send + Sync + 'static) -> Result<Self, AuditError>
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let ask = move || -> BoxFuture<'static, _> { Box::pin(ask().map_err(Into::into)) };
        match (self.backend() as &dyn Any).downcast_ref::<Postgres>() {
            Some(Postgres { source: Source::Options { options, .. }, schema, names_statements, .. }) => {
                let passwords = Some(Passwords(Arc::new(ask)));
                let source = Source::Options { options: options.clone(), passwords };
                let postgres = Postgres::new(source, schema.clone(), *names_statements);
                Ok(self.with_backend(postgres))
            }
            Some(_) => {
                Err(AuditError::new(Kind::Config, "a pool has options of its own: set_connect_options"))
            }
            None => Err(AuditError::new(Kind::Config, "only a PostgreSQL database asks for a password")),
        }
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
        match (self.backend() as &dyn Any).downcast_ref::<Postgres>() {
            Some(postgres) => {
                let (source, names) = (postgres.source.clone(), postgres.names_statements);
                let postgres = Postgres::new(source, Some(name.to_owned()), names);
                Ok(self.with_backend(postgres))
            }
            None => Err(AuditError::new(Kind::Config, "only a PostgreSQL database has schemas")),
        }
    }
}

impl From<PgPool> for Store {
    fn from(pool: PgPool) -> Self {
        Self::of(Postgres::new(Source::Pool(pool), None, true))
    }
}

impl Postgres {
    fn new(source: Source, schema: Option<String>, names_statements: bool) -> Self {
        let prefix = schema
            .as_ref()
            .map_or_else(String::new, |schema| format!("\"{}\".", schema.replace('"', "\"\"")));
        let (readers, blocking_readers) = Default::default();
        Self { source, prefix, schema, names_statements, readers, blocking_readers }
    }

    fn options(&self) -> PgConnectOptions {
        match &self.source {
            Source::Options { options, .. } => options.as_ref().clone(),
            Source::Pool(pool) => pool.connect_options().as_ref().clone().disable_statement_logging(),
        }
    }

    /// What a connection that is made now is made with.
    async fn options_now(&self) -> Result<PgConnectOptions, AuditError> {
        let options = self.options();
        let Source::Options { passwords: Some(Passwords(ask)), .. } = &self.source else {
            return Ok(options);
        };
        let password = ask().await.map_err(|cause| {
            AuditError::new(Kind::Store, "the password for the database server cannot be had").because(cause)
        })?;
        Ok(options.password(&password))
    }

    async fn readers(&self) -> Result<&PgPool, AuditError> {
        self.readers_for(is_on_own_runtime()).await
    }

    /// Those for a reader that blocks, or for one that does not.
    async fn readers_for(&self, blocking: bool) -> Result<&PgPool, AuditError> {
        let readers = match &self.source {
            Source::Pool(pool) if !blocking => return Ok(pool),
            _ if blocking => &self.blocking_readers,
            _ => &self.readers,
        };
        // With what the application does to each connection of its own, if there is a pool of its own.
        let options = match &self.source {
            Source::Pool(pool) => pool.options().clone().min_connections(0),
            Source::Options { .. } => PgPoolOptions::new(),
        };
        let make = || options.max_connections(READERS).connect_lazy_with(self.options());
        let readers = readers.get_or_init(make);
        // It may be about to connect, and the password may have changed.
        if readers.num_idle() == 0 {
            readers.set_connect_options(self.options_now().await?);
        } else if self.asks_for_passwords()
            && let Err(cause) = readers.acquire().await
            && open::is_refused(&cause)
        {
            // The idle one was dead, and the pool made another with an old password.
            readers.set_connect_options(self.options_now().await?);
        }
        Ok(readers)
    }

    fn asks_for_passwords(&self) -> bool {
        matches!(&self.source, Source::Options { passwords: Some(_), .. })
    }

    /// One of those that are run with parameters or give rows back.
    fn statement(&self, statement: &str) -> Sql {
        Sql { text: self.sql(statement).0.into(), named: self.names_statements }
    }

    /// A statement of ours, in which `@` stands before the name of each table.
    fn sql(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace('@', &self.prefix))
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

    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        migrate: Migrate,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        Box::pin(async move {
            let appender: Box<dyn Appender> = Box::new(open::connect(self, ledger, migrate).await?);
            Ok(appender)
        })
    }

    fn migrations(&self) -> Vec<Migration> {
        open::migrations(self)
    }

    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        Ok(self)
    }

    fn indexes(&self) -> Result<&dyn Indexes, AuditError> {
        Ok(self)
    }
}

impl Reads for Postgres {
    fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
        rows::rows(self, query)
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

    fn count_by<'a>(
        &'a self,
        query: &'a AuditQuery,
        by: &'a CountBy,
    ) -> BoxFuture<'a, Result<Vec<Group>, AuditError>> {
        Box::pin(read::count_by(self, query, by))
    }

    fn heads<'a>(&'a self, ledger: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Head>, AuditError>> {
        Box::pin(read::heads(self, ledger))
    }

    fn record<'a>(&'a self, read: &'a RecordedReadRow) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(reads::record(self, read))
    }

    fn recorded<'a>(
        &'a self,
        query: &'a AuditQuery,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RecordedReadRow>, AuditError>> {
        Box::pin(reads::rows(self, query, limit))
    }

    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
        quarantine::rows(self)
    }

    fn is_served<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(index::is_served(self, query))
    }
}

impl Indexes for Postgres {
    fn sql(&self, on: &IndexOn) -> String {
        index::sql(self, on)
    }

    fn ensure<'a>(&'a self, on: &'a IndexOn, migrate: Migrate) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(index::ensure(self, on, migrate))
    }

    fn drop<'a>(&'a self, on: &'a IndexOn) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(index::drop(self, on))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Index>, AuditError>> {
        Box::pin(index::list(self))
    }
}
