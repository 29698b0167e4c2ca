//! A connection borrowed from a pool, which gets the connection back only outside of a transaction.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres as Database, pool::PoolConnection};

use super::{
    error::store_error,
    place::{BEGIN, check_begun},
    reach::acquire,
    source::Postgres,
};
use crate::error::AuditError;

/// A connection for reading. Statements that read are within a transaction, for poolers: see [`Sql`](super::sql::Sql).
///
/// It is not a transaction of sqlx's. One of those rolls back only when the connection is used next, and if its
/// future is dropped while it begins, it stays open for the connection's next user (sqlx issue 4393). If this is
/// dropped within a transaction, before an answer or after an error, it closes the connection too.
pub(super) struct Borrowed {
    connection: PoolConnection<Database>,
    in_transaction: bool,
    begin: Arc<str>,
}

impl Borrowed {
    /// One for the reader that calls this.
    pub(super) async fn of(postgres: &Postgres) -> Result<Self, AuditError> {
        Self::from(postgres, postgres.readers().await?).await
    }

    pub(super) async fn from(postgres: &Postgres, pool: &PgPool) -> Result<Self, AuditError> {
        let begin = postgres.at.as_ref().map_or_else(|| BEGIN.into(), |place| Arc::clone(&place.begin));
        Self::that_begins(begin, pool).await
    }

    /// One whose transactions change no setting.
    pub(super) async fn as_it_is(pool: &PgPool) -> Result<Self, AuditError> {
        Self::that_begins("BEGIN".into(), pool).await
    }

    async fn that_begins(begin: Arc<str>, pool: &PgPool) -> Result<Self, AuditError> {
        let connection = acquire(pool).await.map_err(store_error)?;
        Ok(Self { connection, in_transaction: false, begin })
    }

    /// Begins a transaction, if the tables are those that were found first.
    pub(super) async fn begin(&mut self) -> Result<(), AuditError> {
        self.begin_with("").await
    }

    /// The same, with this statement as its first one.
    pub(super) async fn begin_with(&mut self, first: &str) -> Result<(), AuditError> {
        self.in_transaction = true;
        let begin = AssertSqlSafe([&self.begin, ";", first].concat());
        let rows = sqlx::raw_sql(begin).fetch_all(&mut **self).await.map_err(store_error)?;
        check_begun(&rows)
    }

    pub(super) async fn commit(&mut self) -> Result<(), AuditError> {
        sqlx::raw_sql("COMMIT").execute(&mut **self).await.map_err(store_error)?;
        self.in_transaction = false;
        Ok(())
    }

    /// Does this work within a transaction.
    pub(super) async fn within<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        self.begin().await?;
        let done = work(self).await?;
        self.commit().await?;
        Ok(done)
    }
}

/// Does this work within a transaction on one of the connections for readers.
pub(super) async fn within<T>(
    postgres: &Postgres,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, AuditError>,
) -> Result<T, AuditError> {
    Borrowed::of(postgres).await?.within(work).await
}

/// The same where it does not matter whether the tables are those that were found first.
pub(super) async fn within_whatever<T>(
    postgres: &Postgres,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, AuditError>,
) -> Result<T, AuditError> {
    Borrowed::that_begins(BEGIN.into(), postgres.readers().await?).await?.within(work).await
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.in_transaction {
            self.connection.close_on_drop();
        }
    }
}
