//! The options.

mod conditions;
mod database;
mod period;

pub(crate) use conditions::{Conditions, fields, one_of};
pub(crate) use database::{Database, Log, Source, sources};
pub(crate) use period::{Period, Range};
