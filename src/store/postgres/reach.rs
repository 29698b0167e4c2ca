//! Reaches a server: says soon if none answers, and finds among several one that may be used.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres as Database, Row as _, pool::PoolConnection,
    postgres::PgConnectOptions,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    error::{is_unreachable, store_error},
    url::Url,
};
use crate::error::{AuditError, ErrorKind};

/// The time that a connection may take before somebody looks whether the server can be reached.
const LOOK_AFTER: Duration = Duration::from_millis(800);

/// The time that a server may take for its first byte, which needs neither a password nor a free connection.
const FIRST_BYTE: Duration = Duration::from_secs(1);

/// The question whether the server has TLS. A server that can be reached answers it at once, with one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The servers of a URL.
pub(super) struct Servers {
    options: Vec<PgConnectOptions>,
    /// Whether readers too go only to a server that takes writes.
    pub(super) takes_writes: bool,
    /// The index of the one that was used last.
    last: AtomicUsize,
}

impl Servers {
    pub(super) fn of(url: Url) -> Self {
        Self { options: url.servers, takes_writes: url.takes_writes, last: AtomicUsize::new(0) }
    }

    /// Whether there is nothing to choose, and nothing to ask of the server.
    pub(super) fn is_one(&self) -> bool {
        self.options.len() == 1 && !self.takes_writes
    }

    /// The one that was used last.
    pub(super) fn last(&self) -> PgConnectOptions {
        let last = self.options.get(self.last.load(Ordering::Relaxed)).or_else(|| self.options.first());
        last.cloned().unwrap_or_else(PgConnectOptions::new)
    }

    /// Hosts, ports and database.
    pub(super) fn address(&self) -> String {
        let hosts = self.options.iter().map(host).collect::<Vec<_>>().join(",");
        format!("{hosts}/{}", database(&self.last()))
    }

    /// Connects to all of them at once, and takes the first that may be used: for writing, one that takes writes.
    pub(super) async fn connect(
        &self,
        password: Option<&str>,
        for_writing: bool,
    ) -> Result<(PgConnection, PgConnectOptions), AuditError> {
        let reach = async |(index, options): (usize, &PgConnectOptions)| {
            let options = match password {
                Some(password) => options.clone().password(password),
                None => options.clone(),
            };
            (index, reach(&options, for_writing).await.map(|connection| (connection, options)))
        };
        let mut tries: FuturesUnordered<_> = self.options.iter().enumerate().map(reach).collect();
        let mut refused: Vec<(usize, AuditError)> = Vec::new();
        while let Some((index, tried)) = tries.next().await {
            match tried {
                Ok(reached) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(reached);
                }
                Err(error) => refused.push((index, error)),
            }
        }
        refused.sort_by_key(|(index, _)| *index);
        let each = self.options.iter().zip(&refused);
        let each: Vec<_> = each.map(|(options, (_, error))| format!("{}: {error}", host(options))).collect();
        let message = format!("no server of the URL can be used. {}", each.join("; "));
        let (_, first) = refused.swap_remove(0);
        Err(if each.len() == 1 { first } else { AuditError::new(ErrorKind::Store, message).because(first) })
    }
}

fn host(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or(options.get_host().into(), |socket| socket.to_string_lossy());
    format!("{host}:{}", options.get_port())
}

fn database(options: &PgConnectOptions) -> &str {
    options.get_database().unwrap_or_else(|| options.get_username())
}

/// Server, port and database; not the role or its password, which may change.
pub(super) fn address(options: &PgConnectOptions) -> String {
    format!("{}/{}", host(options), database(options))
}

/// Connects to this server, if it may be used.
async fn reach(options: &PgConnectOptions, for_writing: bool) -> Result<PgConnection, AuditError> {
    let mut connection = connect(options).await.map_err(store_error)?;
    if for_writing {
        let state = "SELECT pg_catalog.pg_is_in_recovery()::pg_catalog.text, \
                     pg_catalog.current_setting('transaction_read_only')";
        let state = sqlx::raw_sql(state).fetch_one(&mut connection).await.map_err(store_error)?;
        let is =
            |index: usize, word: &str| state.try_get::<String, _>(index).is_ok_and(|found| found == word);
        if !is(0, "false") || !is(1, "off") {
            drop(connection.close().await);
            let message = "the database server is read-only: a standby, or default_transaction_read_only";
            return Err(AuditError::new(ErrorKind::Store, message));
        }
    }
    Ok(connection)
}

/// Connects to a server, however long it takes for that, once it has shown that it can be reached.
pub(super) async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let mut connecting = pin!(PgConnection::connect_with(options));
    if let Ok(connected) = tokio::time::timeout(LOOK_AFTER, &mut connecting).await {
        return connected;
    }
    tokio::select! {
        connected = &mut connecting => return connected,
        looked = is_there(options) => looked?,
    }
    connecting.await
}

/// Whether a server answers at this address. The answer takes a second at most, also where nobody answers at all.
async fn is_there(options: &PgConnectOptions) -> sqlx::Result<()> {
    let asked = async {
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            let connected = PgConnection::connect_with(options).await?;
            drop(connected.close().await);
        } else {
            let mut stream = TcpStream::connect((options.get_host(), options.get_port())).await?;
            stream.write_all(&SSL_REQUEST).await?;
            stream.read_u8().await?;
        }
        Ok(())
    };
    let late = |late| Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late)));
    tokio::time::timeout(FIRST_BYTE, asked).await.unwrap_or_else(late)
}

/// The time that a server that can be reached may take to accept the connection of a look at it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection of the pool. A pool tries for half a minute to connect to a server that is down, and does not say then why
/// it could not. So if it has none soon, this connects by itself, and the error of that is the answer.
pub(super) async fn acquire(pool: &PgPool) -> sqlx::Result<PoolConnection<Database>> {
    let mut acquired = std::pin::pin!(pool.acquire());
    let timed_out = match tokio::time::timeout(LOOK_AFTER, &mut acquired).await {
        Ok(Err(sqlx::Error::PoolTimedOut)) => Some(sqlx::Error::PoolTimedOut),
        Ok(acquired) => return acquired,
        Err(_) => None,
    };
    let look = async {
        let options = pool.connect_options();
        let looked = async {
            is_there(&options).await?;
            PgConnection::connect_with(&options).await
        };
        let looked = match tokio::time::timeout(CONNECT_TIMEOUT, looked).await {
            Ok(looked) => looked,
            Err(late) => return Some(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late))),
        };
        match looked {
            Ok(connection) => {
                // The server can be reached: the pool is in use, or about to have a connection.
                drop(connection.close().await);
                None
            }
            Err(cause) => Some(cause).filter(is_unreachable),
        }
    };
    if let Some(timed_out) = timed_out {
        return Err(look.await.unwrap_or(timed_out));
    }
    let unreachable = tokio::select! {
        acquired = &mut acquired => return acquired,
        unreachable = look => unreachable,
    };
    match unreachable {
        Some(cause) => Err(cause),
        None => acquired.await,
    }
}
