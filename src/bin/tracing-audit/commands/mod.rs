//! The commands, one file each.

mod export;
mod get;
mod index;
mod ledgers;
mod migrate;
mod quarantine;
mod query;
mod queue;
mod reads;
mod shell;
mod stats;
mod tail;

pub(crate) use export::Export;
pub(crate) use get::Get;
pub(crate) use index::Action as Index;
pub(crate) use ledgers::ledgers;
pub(crate) use migrate::MigrateTables;
pub(crate) use quarantine::Action as Quarantine;
pub(crate) use query::Query;
pub(crate) use queue::Queue;
pub(crate) use reads::Reads;
pub(crate) use shell::{Completions, man};
pub(crate) use stats::Stats;
pub(crate) use tail::Tail;
