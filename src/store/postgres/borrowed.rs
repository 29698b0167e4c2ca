//! A connection borrowed from a pool, which gets it back only outside of a transaction.

use std::ops::{Deref, DerefMut};

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres as Database, pool::PoolConnection};

use super::open::failed;
use crate::AuditError;

/// Where nobody has said how often a server looks whether its client is still there, it does so every second: what nobody
/// waits for any more ends. (Not on every system can it look.) For a transaction, so that a pooler's next client does not
/// inherit it.
const BEGIN: &str = "BEGIN; SELECT set_config('client_connection_check_interval', '1s', true)
                     WHERE current_setting('client_connection_check_interval', true) = '0' AND version() LIKE '%linux%'";

/// Statements that read are within transactions, for poolers: see [`Sql`](super::Sql).
///
/// Not sqlx's, which roll back when the connection is used next, and one of which stays open for whoever that is if its
/// future is dropped while it begins (sqlx issue 4393). Whoever drops this amid a transaction, before an answer or after an
/// error, drops the connection too.
pub(super) struct Borrowed {
    connection: PoolConnection<Database>,
    in_transaction: bool,
}

impl Borrowed {
    pub(super) async fn from(pool: &PgPool) -> Result<Self, AuditError> {
        let connection = pool.acquire().await.map_err(failed)?;
        Ok(Self { connection, in_transaction: false })
    }

    pub(super) async fn begin(&mut self) -> Result<(), AuditError> {
        self.in_transaction = true;
        sqlx::raw_sql(BEGIN).execute(&mut **self).await.map(drop).map_err(failed)
    }

    /// With this statement as its first one.
    pub(super) async fn begin_with(&mut self, first: &str) -> Result<(), AuditError> {
        self.in_transaction = true;
        let begin = AssertSqlSafe([BEGIN, ";", first].concat());
        sqlx::raw_sql(begin).execute(&mut **self).await.map(drop).map_err(failed)
    }

    pub(super) async fn commit(&mut self) -> Result<(), AuditError> {
        sqlx::raw_sql("COMMIT").execute(&mut **self).await.map_err(failed)?;
        self.in_transaction = false;
        Ok(())
    }

    /// Does this within a transaction.
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

/// Does this within a transaction on one of the pool's connections.
pub(super) async fn within<T>(
    pool: &PgPool,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, AuditError>,
) -> Result<T, AuditError> {
    Borrowed::from(pool).await?.within(work).await
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
