//! PostgreSQL alone: many ledgers, roles, a server in trouble, and TLS.

mod away;
mod connections;
mod faults;
mod names;
mod operation;
mod roles;
#[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
mod tls;
mod waits;
