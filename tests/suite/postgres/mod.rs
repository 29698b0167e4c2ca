//! PostgreSQL alone: many ledgers, a server in trouble, and TLS.

mod away;
mod connections;
mod faults;
mod names;
mod operation;
#[cfg(any(feature = "tls-rustls", feature = "tls-native-tls"))]
mod tls;
