//! `PostgresStore`: a PostgreSQL database and its settings, before it becomes a `Store`.

use std::sync::Arc;

use futures_util::TryFutureExt;
use sqlx::PgPool;

use super::{
    reach::Servers,
    source::{BoxError, Passwords, Postgres, Source},
    url::Url,
};
use crate::error::{AuditError, ErrorKind};
use crate::store::{Migrate, Store};

/// A PostgreSQL database, and the settings that only PostgreSQL has.
///
/// Made by [`Store::postgres`], or from an sqlx pool. A log, a writer or a reader takes it wherever it takes a
/// [`Store`]. For the methods of a `Store`, such as [`migrations`](Store::migrations) or
/// [`create_index`](Store::create_index), convert it:
///
/// ```
/// # #[cfg(feature = "postgres")]
/// # fn main() -> Result<(), tracing_audit::AuditError> {
/// use tracing_audit::{AuditLog, AuditReader, Store};
///
/// let postgres = Store::postgres("postgres://audit@db.example.com/audit")?.schema("audit")?;
/// let builder = AuditLog::builder().store(postgres.clone());
/// let reader = AuditReader::new(postgres.clone());
/// for migration in Store::from(postgres).migrations() {
///     println!("{}", migration.sql);
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "postgres"))]
/// # fn main() {}
/// ```
///
/// `Debug` names the database and shows neither the role nor its password.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    postgres: Postgres,
    migrate: Migrate,
}

impl Store {
    /// The PostgreSQL database at `url`: `postgres://user:password@host:port/database`. Parts that the URL leaves out come
    /// from `PGHOST`, `PGUSER`, `PGPASSWORD` and so on, and from `~/.pgpass`. Connects when it is first used.
    ///
    /// A server on another machine must prove with a certificate that it is the one that the URL names: without an
    /// `sslmode`, `verify-full` counts there, which takes the feature `tls-rustls` or `tls-native-tls`. See
    /// [`connections`](crate::guide::postgres#connections), also for several hosts and `target_session_attrs`.
    ///
    /// With `statement-cache-capacity=0`, no statement has a name on the server. A pooler in transaction mode may need
    /// that: see [`server`](crate::guide::postgres#poolers).
    ///
    /// The first log creates the tables, so its role must be allowed to. After that a writer needs only a role that has no
    /// right on any table: `migrations/postgres/roles.sql` has the grants.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for a malformed URL, or for a parameter that is not known.
    pub fn postgres(url: &str) -> Result<PostgresStore, AuditError> {
        let url = Url::parse(url)?;
        let names_statements = url.names_statements;
        let postgres = Postgres::new(Source::Servers(Arc::new(Servers::of(url))), names_statements);
        Ok(PostgresStore { postgres, migrate: Migrate::default() })
    }
}

impl PostgresStore {
    /// Puts the audit tables into this schema, which is created if it does not exist. Default: the first schema in the
    /// role's `search_path` that has audit tables, and if none has, the first one that the role can use. It is looked for
    /// once. A schema that has the role's name counts only if it belongs to this role, to a superuser or to the owner of the
    /// database.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) if the name is empty or has a NUL character.
    pub fn schema(self, name: &str) -> Result<Self, AuditError> {
        if name.is_empty() || name.contains('\0') {
            let message = "the name of a schema must not be empty, and must not have a NUL character";
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        Ok(Self { postgres: self.postgres.with_schema(name), ..self })
    }

    /// Asks for the password each time that a connection is opened, for instance for a cloud's token, which is valid
    /// for minutes. `ask` is called on a thread of the log's own for writing, and on the caller's thread for reading.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # fn main() -> Result<(), tracing_audit::AuditError> {
    /// # async fn token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let store = tracing_audit::Store::postgres("postgres://audit@db.example.com/audit")?.password(token);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "postgres"))]
    /// # fn main() {}
    /// ```
    ///
    /// A store that was made from a pool then opens all of its connections itself, those for reading too, with the
    /// pool's options and this password: the pool's own connections could not ask for it. Without this call, such a
    /// store connects with the password in the pool's options, which `set_connect_options` changes for both.
    #[must_use]
    pub fn password<F, E>(self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let passwords = Passwords::new(move || Box::pin(ask().map_err(Into::into)));
        Self { postgres: self.postgres.with_passwords(passwords), ..self }
    }

    /// Sets whether a log may create and change the tables, as [`Store::migrate`] does. Default: [`Migrate::Auto`].
    #[must_use]
    pub fn migrate(self, migrate: Migrate) -> Self {
        Self { migrate, ..self }
    }
}

impl From<PgPool> for PostgresStore {
    fn from(pool: PgPool) -> Self {
        Self { postgres: Postgres::new(Source::Pool(pool), true), migrate: Migrate::default() }
    }
}

impl From<PostgresStore> for Store {
    fn from(PostgresStore { postgres, migrate }: PostgresStore) -> Self {
        Self::of(postgres).migrate(migrate)
    }
}

impl From<PgPool> for Store {
    fn from(pool: PgPool) -> Self {
        PostgresStore::from(pool).into()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::log::AuditLog;
    use crate::reader::AuditReader;

    const URL: &str = "postgres://clerk:hunter2@db.example.com:5433/books?sslmode=require";

    fn shown(value: &impl std::fmt::Debug) -> [String; 2] {
        [format!("{value:?}"), format!("{value:#?}")]
    }

    #[test]
    fn a_password_is_in_no_debug_text() {
        let from_url = Store::postgres(URL).unwrap().schema("audit").unwrap();
        let asked = from_url.clone().password(|| std::future::ready(Ok::<_, BoxError>("hunter2".to_owned())));
        for postgres in [from_url, asked] {
            let store = Store::from(postgres.clone());
            let builder = AuditLog::builder().store(postgres.clone());
            let reader = AuditReader::new(postgres.clone());
            for text in [shown(&postgres), shown(&store), shown(&builder), shown(&reader)].iter().flatten() {
                assert!(!text.contains("hunter2"), "{text}");
            }
            assert!(format!("{store:?}").contains("db.example.com:5433/books"), "{store:?}");
        }
    }

    #[tokio::test]
    async fn the_password_of_a_pool_is_in_no_debug_text() {
        let pool = PgPoolOptions::new().connect_lazy(URL).unwrap();
        for text in [shown(&PostgresStore::from(pool.clone())), shown(&Store::from(pool))].iter().flatten() {
            assert!(!text.contains("hunter2") && text.contains("db.example.com"), "{text}");
        }
    }

    #[test]
    fn a_malformed_url_is_refused_without_repeating_its_password() {
        let error = Store::postgres("postgres://clerk:hunter2@host:port/books").unwrap_err();
        assert!(error.is_config());
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn the_name_of_a_schema_is_neither_empty_nor_has_nul() {
        let schema = |name| Store::postgres(URL).unwrap().schema(name);
        assert!(schema("").unwrap_err().is_config() && schema("a\0b").unwrap_err().is_config());
        assert_eq!(schema("the \"audit\"").unwrap().postgres.prefix(), "\"the \"\"audit\"\"\".");
    }

    #[test]
    fn settings_may_be_given_in_any_order() {
        let ask = || std::future::ready(Ok::<_, BoxError>(String::new()));
        let start = || Store::postgres(URL).unwrap();
        let one = start().schema("audit").unwrap().password(ask).migrate(Migrate::Check);
        let other = start().migrate(Migrate::Check).password(ask).schema("audit").unwrap();
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        assert!(format!("{one:?}").contains("Check"), "{one:?}");
    }
}
