//! The database as it was given: how to connect to it, the schema of its tables, and its pools for readers.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::{
    ConnectOptions, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    error::{is_refused, is_unreachable, store_error},
    place::Place,
    quote::identifier,
    reach::{self, Servers, acquire},
    url::unproven,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::is_on_own_runtime;

/// The most connections in each pool for readers: enough for a few exports and pages at once.
const READERS: u32 = 4;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Answer = BoxFuture<'static, Result<String, BoxError>>;

/// The application's password callback, called for each new connection.
#[derive(Clone)]
pub(super) struct Passwords(Arc<dyn Fn() -> Answer + Send + Sync>);

impl Passwords {
    pub(super) fn new(ask: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

#[derive(Clone)]
pub(super) enum Source {
    /// The servers of a URL.
    Servers(Arc<Servers>),
    /// The application's pool. Its options are read again for each new connection: the application may have changed the
    /// password in them.
    Pool(PgPool),
}

/// A PostgreSQL database. Clones share their pools.
#[derive(Clone)]
pub(crate) struct Postgres {
    pub(super) source: Source,
    /// If `None`, the password is the one in the options, if they have one.
    passwords: Option<Passwords>,
    /// The schema that was given.
    pub(super) schema: Option<String>,
    /// The place of the tables, once they have been found.
    pub(super) place: Arc<Mutex<Option<Arc<Place>>>>,
    /// The place that one operation goes to.
    pub(super) at: Option<Arc<Place>>,
    /// Whether the server knows prepared statements by name. They are then prepared once for each connection.
    pub(super) names_statements: bool,
    /// Whether it has been said that the server need not prove which one it is.
    is_told: Arc<AtomicBool>,
    /// The connections of readers that do not block, and of readers that do. They are apart because a connection
    /// lives on the runtime that opened it, which may be on the very thread that a blocking reader blocks. Each pool
    /// is made by the first read, since making one takes a runtime.
    readers: Arc<OnceLock<PgPool>>,
    blocking_readers: Arc<OnceLock<PgPool>>,
}

impl fmt::Debug for Postgres {
    /// Names the database. The options are not shown: sqlx would show the password in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("database", &self.address())
            .field("schema", &self.schema)
            .field("asks_for_password", &self.passwords.is_some())
            .finish_non_exhaustive()
    }
}

impl Postgres {
    pub(super) fn new(source: Source, names_statements: bool) -> Self {
        Self {
            source,
            passwords: None,
            schema: None,
            place: Arc::default(),
            at: None,
            names_statements,
            is_told: Arc::default(),
            readers: Arc::default(),
            blocking_readers: Arc::default(),
        }
    }

    pub(super) fn with_schema(self, name: &str) -> Self {
        Self { schema: Some(name.to_owned()), place: Arc::default(), ..self }
    }

    /// The text before the name of each table: the quoted schema and a dot. Nothing, as long as nobody has looked where the
    /// tables are.
    pub(super) fn prefix(&self) -> String {
        match (&self.at, &self.schema) {
            (Some(place), _) => place.prefix.clone(),
            (None, Some(schema)) => format!("{}.", identifier(schema)),
            (None, None) => String::new(),
        }
    }

    /// The pools are not shared with earlier clones, whose connections have other passwords.
    pub(super) fn with_passwords(self, passwords: Passwords) -> Self {
        let passwords = Some(passwords);
        Self { passwords, readers: Arc::default(), blocking_readers: Arc::default(), ..self }
    }

    /// Server, port and database; not the role or its password, which may change.
    pub(super) fn address(&self) -> String {
        match &self.source {
            Source::Servers(servers) => servers.address(),
            Source::Pool(_) => reach::address(&self.options()),
        }
    }

    /// Opens a connection that belongs to no pool.
    pub(super) async fn connect(&self) -> Result<PgConnection, AuditError> {
        match &self.source {
            Source::Servers(servers) if !servers.is_one() => {
                let password = self.password_now().await?;
                servers.connect(password.as_deref(), true).await.map(|(connection, _)| connection)
            }
            _ => reach::connect(&self.options_now().await?).await.map_err(store_error),
        }
    }

    /// The options, without the answer of the password callback.
    fn options(&self) -> PgConnectOptions {
        match &self.source {
            Source::Servers(servers) => servers.last(),
            Source::Pool(pool) => pool.connect_options().as_ref().clone().disable_statement_logging(),
        }
    }

    /// The options for a connection for reading that is opened now.
    async fn options_now(&self) -> Result<PgConnectOptions, AuditError> {
        let password = self.password_now().await?;
        if let Source::Servers(servers) = &self.source
            && !servers.is_one()
        {
            let (connection, options) = servers.connect(password.as_deref(), servers.takes_writes).await?;
            // It was to find out which server can be used.
            drop(connection.close().await);
            return Ok(options);
        }
        let options = self.options();
        Ok(match password {
            Some(password) => options.password(&password),
            None => options,
        })
    }

    /// The answer of the password callback, if there is one.
    async fn password_now(&self) -> Result<Option<String>, AuditError> {
        let Some(Passwords(ask)) = &self.passwords else { return Ok(None) };
        ask().await.map(Some).map_err(|cause| {
            AuditError::new(ErrorKind::Store, "cannot obtain the password for the database server")
                .because(cause)
        })
    }

    /// The warning, given once, about a server that need not prove which one it is.
    pub(super) fn unproven(&self) -> Option<AuditError> {
        unproven(&self.options()).filter(|_| !self.is_told.swap(true, Ordering::Relaxed))
    }

    /// The pool for the reader that calls this.
    pub(super) async fn readers(&self) -> Result<&PgPool, AuditError> {
        self.readers_for(is_on_own_runtime()).await
    }

    /// The pool for readers that block, or for those that do not.
    pub(super) async fn readers_for(&self, blocking: bool) -> Result<&PgPool, AuditError> {
        let readers = match &self.source {
            // The connections of the application's pool do not call our password callback.
            Source::Pool(pool) if !blocking && self.passwords.is_none() => return Ok(pool),
            _ if blocking => &self.blocking_readers,
            _ => &self.readers,
        };
        // A pool of the application's has settings and callbacks for its connections: they apply to ours too.
        let options = match &self.source {
            Source::Pool(pool) => pool.options().clone().min_connections(0),
            Source::Servers(_) => PgPoolOptions::new(),
        };
        let make = || options.max_connections(READERS).connect_lazy_with(self.options());
        let readers = readers.get_or_init(make);
        let has_several = matches!(&self.source, Source::Servers(servers) if !servers.is_one());
        // The pool may be about to open a connection, and the password or the server that can be used may have changed.
        if readers.num_idle() == 0 {
            readers.set_connect_options(self.options_now().await?);
        } else if (self.passwords.is_some() || has_several)
            && let Err(cause) = acquire(readers).await
            && (is_refused(&cause) || has_several && is_unreachable(&cause))
        {
            // The idle connection was dead, and the pool opened another with an old password or to the same server.
            readers.set_connect_options(self.options_now().await?);
        }
        Ok(readers)
    }
}
