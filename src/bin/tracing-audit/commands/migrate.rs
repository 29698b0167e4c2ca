//! The command `migrate`: creates and updates the tables.

use std::path::Path;

use clap::Args;
use tracing_audit::{
    AuditReader,
    migrate::{Migrate, Migration},
};

use crate::{failure::Failure, input::Database, output};

#[derive(Args)]
pub(crate) struct MigrateTables {
    /// Print the SQL instead of running it.
    #[arg(long)]
    print: bool,
    /// The ledger to create, if the database has none.
    #[arg(long, default_value = "main", value_name = "NAME")]
    ledger: String,
}

impl MigrateTables {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        if self.print {
            let script = |migration: Migration| {
                ["-- Version ", &migration.version.to_string(), "\n", &migration.sql].concat()
            };
            return database
                .store()?
                .migrations()
                .into_iter()
                .map(script)
                .try_for_each(|sql| output::print_line(&sql));
        }
        // A database that has a ledger keeps it: no second one is created.
        let store = database.store()?;
        let db = database.one()?;
        let is_new = !db.contains(':') && !Path::new(db).exists();
        let existing = if is_new { Vec::new() } else { AuditReader::new(store).ledgers().await? };
        let ledger = existing.into_iter().next().map_or(self.ledger, |existing| existing.name);
        database.open_log(&ledger, Migrate::Auto).await.map(drop)
    }
}
