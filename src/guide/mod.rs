//! The guide: documents, in the order in which they are read. No code.
//!
//! | page | what it answers |
//! |---|---|
//! | [`failure`] | what happens when something fails, case by case, and what a service can do about it |
//! | [`questions`] | what an audit log is asked, and the command that answers it |
//! | [`indexes`] | which index serves which query, and what each costs |
//! | [`postgres`] | PostgreSQL in operation: services, roles, poolers, retention, more than one machine |

pub mod failure;
pub mod indexes;
pub mod postgres;
pub mod questions;
