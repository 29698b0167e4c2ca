//! The tables.

use std::path::Path;

use clap::Args;
use tracing_audit::{AuditReader, Migrate, Migration};

use crate::{failure::Failure, input::Database, output};

#[derive(Args)]
pub(crate) struct MigrateTables {
    /// Print the SQL instead, for whoever runs it by hand.
    #[arg(long)]
    print: bool,
    /// The ledger that is begun if there is none.
    #[arg(long, default_value = "main")]
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
                .try_for_each(|sql| output::line(&sql));
        }
        // Where there is one, none is begun.
        let store = database.store()?;
        let db = database.one()?;
        let is_new = !db.contains(':') && !Path::new(db).exists();
        let there = if is_new { Vec::new() } else { AuditReader::new(store).ledgers().await? };
        let ledger = there.into_iter().next().map_or(self.ledger, |there| there.ledger);
        database.open_log(&ledger, Migrate::Auto).await.map(drop)
    }
}
