//! What the options say.

pub(crate) mod conditions;
pub(crate) mod database;
pub(crate) mod period;
