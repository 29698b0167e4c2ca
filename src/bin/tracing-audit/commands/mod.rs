//! The commands, one file each.

pub(crate) mod export;
pub(crate) mod index;
pub(crate) mod stats;
pub(crate) mod tail;
