//! `Store`: a database that holds a ledger, and whether a log may create and migrate its tables.

use std::{any::Any, fmt, path::PathBuf, sync::Arc};

use super::{
    appender::Appender,
    backend::{Backend, Head, Opening},
    growth::Integrity,
    index::{Index, is_built_in},
    migration::{Migrate, Migration},
    period::Period,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::Access;
use crate::query::IndexOn;

/// A database that holds a ledger. Cheap to clone; connects when it is first used.
///
/// Made by `Store::sqlite`, from a `PostgresStore`, or from an sqlx pool. A writer takes a pool's options and opens a
/// connection of its own, so that neither can starve the other. Only if the pool is on a database in memory does the
/// writer borrow the pool's connections, one per batch.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    opening: Opening,
    /// An object that must exist for as long as the store.
    #[expect(dead_code, reason = "it is kept, and has no other use")]
    kept: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

impl Store {
    #[cfg_attr(
        not(any(feature = "_sqlite", feature = "postgres", feature = "testing")),
        allow(dead_code, reason = "without a database there is none to make a store of")
    )]
    pub(crate) fn of(backend: impl Backend) -> Self {
        Self { backend: Arc::new(backend), opening: Opening::default(), kept: None }
    }

    /// The same store, which drops this when its last clone is dropped.
    #[cfg(feature = "_sqlite")]
    pub(super) fn kept_with(self, kept: impl Any + Send + Sync) -> Self {
        Self { kept: Some(Arc::new(kept)), ..self }
    }

    /// Sets whether a log may create and change the tables. Default: [`Migrate::Auto`].
    #[must_use]
    pub fn migrate(mut self, migrate: Migrate) -> Self {
        self.opening.migrate = migrate;
        self
    }

    /// The scripts that create the tables, oldest first, for running them by hand: see [`Migrate::Check`].
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # fn main() -> Result<(), tracing_audit::AuditError> {
    /// for migration in tracing_audit::Store::sqlite("audit.db")?.migrations() {
    ///     println!("-- Version {}\n{}", migration.version, migration.sql);
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn migrations(&self) -> Vec<Migration> {
        self.backend.migrations()
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Opens a writer's connection, once the tables have the version that this crate needs.
    pub(crate) async fn connect(&self, ledger: &str) -> Result<Box<dyn Appender>, AuditError> {
        self.backend.connect(ledger, &self.opening).await
    }

    /// The database of the period of this name.
    ///
    /// # Errors
    /// If this one holds one ledger, and there can be no other beside it.
    pub(crate) fn of_period(&self, label: &str) -> Result<Self, AuditError> {
        let mut store = self.clone();
        if let Some(backend) = self.backend.of_period(label) {
            store.backend = backend?;
        }
        Ok(store)
    }

    /// The names of the periods of this ledger that there are, the earliest first.
    ///
    /// # Errors
    /// If the database, or its directory, cannot be read.
    pub(crate) async fn labels(&self, ledger: &str, period: Period) -> Result<Vec<String>, AuditError> {
        if let Some(found) = self.labels_of_files(period) {
            return found;
        }
        let heads = self.backend.reads()?.heads(None).await?;
        let label = |head: &Head| period.label_of(ledger, &head.ledger).map(str::to_owned);
        let mut labels: Vec<String> = heads.iter().filter_map(label).collect();
        labels.sort_unstable();
        Ok(labels)
    }

    /// The names of the periods that have a file, the earliest first. `None`: they have none of their own.
    pub(crate) fn labels_of_files(&self, period: Period) -> Option<Result<Vec<String>, AuditError>> {
        let found = self.backend.labels()?.map_err(|cause| {
            AuditError::new(ErrorKind::Store, "the directory of the audit database cannot be read")
                .because(cause)
        });
        Some(found.map(|labels| labels.into_iter().filter(|label| period.is_label(label)).collect()))
    }

    /// For a log that gives this access to the files that it makes, keeps its journals in this directory, and adds to the
    /// tree as this says.
    pub(crate) fn of_log(mut self, access: Access, queue: Option<PathBuf>, integrity: Integrity) -> Self {
        self.opening = Opening { access, queue, integrity, ..self.opening };
        self
    }

    /// The indexes of the entries: what each serves, its size on disk, and how often it was used. The module
    /// [`indexes`](crate::guide::indexes) says what each costs at an insert. On SQLite, this call reads each index from end
    /// to end: a second for some ten million entries.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn indexes(&self) -> Result<Vec<Index>, AuditError> {
        self.backend.indexes()?.list().await
    }

    /// Creates this index, unless it exists. It serves queries for given values of what it is on, takes time at every
    /// insert and space on disk, and changes no answer. The documentation of the module [`indexes`](crate::guide::indexes)
    /// says how much.
    ///
    /// PostgreSQL creates it `CONCURRENTLY`, without stopping writers, once the running transactions have ended. It also
    /// collects statistics of what the index is on; for a text or a path in the metadata that needs version 14. SQLite
    /// cannot: it holds its lock while it creates the index, 0.4 to 0.7 s for a million entries. Entries accepted
    /// meanwhile wait in the queue, and a commit waits for its answer. Beyond 5 s, as at any lock that another
    /// connection holds, [`health`](crate::AuditLog::health) is failing until the index exists, and a shutdown leaves
    /// behind what it could not commit. Create the index of such a file at a quiet time, with the command.
    ///
    /// # Errors
    /// [`is_schema`](AuditError::is_schema) if there are no tables, or the store is on [`Migrate::Check`]; then the error
    /// has the statements for somebody who may run them. [`is_store`](AuditError::is_store) if the database refuses, for
    /// instance because the role does not own the tables.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the index created, or in PostgreSQL half created: the next call starts again.
    pub async fn create_index(&self, on: impl Into<IndexOn>) -> Result<(), AuditError> {
        let on = on.into();
        let Some(sql) = self.index_sql(&on) else { return Ok(()) };
        if self.backend.indexes()?.ensure(&on, self.opening.migrate).await? {
            return Ok(());
        }
        let message = format!("the index on {on} does not exist, and this log may not create it: run {sql}");
        Err(AuditError::new(ErrorKind::Schema, message))
    }

    /// Drops an index that was created on request, if it exists.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for an index that every log has, [`is_store`](AuditError::is_store) if the
    /// database refuses.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the index dropped.
    pub async fn drop_index(&self, on: impl Into<IndexOn>) -> Result<(), AuditError> {
        let on = on.into();
        if is_built_in(&on) {
            return Err(AuditError::new(ErrorKind::Config, format!("every log has an index on {on}")));
        }
        self.backend.indexes()?.drop(&on).await
    }

    /// The statement that creates this index, or several separated by `;`, for running them by hand. `None` if every log
    /// has the index.
    #[must_use]
    pub fn index_sql(&self, on: impl Into<IndexOn>) -> Option<String> {
        // A store that is not a database answers no queries, so it needs no index.
        let indexes = self.backend.indexes().ok()?;
        let on = on.into();
        (!is_built_in(&on)).then(|| indexes.sql(&on))
    }
}
