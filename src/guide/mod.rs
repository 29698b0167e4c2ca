//! The guide: documents, in the order in which they are read. No code.
//!
//! | page | what it answers |
//! |---|---|
//! | [`events`] | what becomes of an event, field by field |
//! | [`defaults`] | every default and its reason |
//! | [`cookbook`] | how to do common things, each as a short program |
//! | [`failure`] | what happens when something fails, case by case, and what a service can do about it |
//! | [`postgres`] | PostgreSQL in operation: services, roles, poolers, retention, more than one machine |
//! | [`growth`] | a billion entries: ledgers by period, reading them as one, archives |
//! | [`integrity`] | how a change of what was committed is found, and what that does not promise |
//! | [`indexes`] | which index serves which query, and what each costs |
//! | [`questions`] | what an audit log is asked, and the command that answers it |
//! | [`operator`] | the command in the hand: output, tables, times, counts, and what others have |
//! | [`performance`] | measured figures, each with the command that prints it |
//! | [`compatibility`] | which crates it resolves beside, and which SQLite library a program then has |
//! | [`comparison`] | what other crates do with the same events, and what they lose |
//! | [`architecture`] | how the crate is built: its rooms, its floors, its invariants |

pub mod architecture;
pub mod comparison;
pub mod compatibility;
pub mod cookbook;
pub mod defaults;
pub mod events;
pub mod failure;
pub mod growth;
pub mod indexes;
pub mod integrity;
pub mod operator;
pub mod performance;
pub mod postgres;
pub mod questions;
