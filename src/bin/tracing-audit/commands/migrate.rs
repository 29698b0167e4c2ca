//! The command `migrate`: creates and updates the tables.

use std::path::Path;

use clap::Args;
use tracing_audit::{
    AuditReader,
    migrate::{Migrate, Migration},
};

use crate::{
    failure::Failure,
    input::{Database, end_log},
    output,
};

#[derive(Args)]
pub(crate) struct MigrateTables {
    /// Print the SQL instead of running it.
    #[arg(long)]
    print: bool,
    /// The ledger to create [default: main, if the database has none].
    ///
    /// A SQLite file has one ledger, a PostgreSQL database any number.
    #[arg(long, value_name = "NAME")]
    ledger: Option<String>,
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
        let store = database.store()?;
        let db = database.one()?;
        let is_file = !db.contains(':') || db.starts_with("sqlite:");
        let is_new = !db.contains(':') && !Path::new(db).exists();
        let existing = if is_new { Vec::new() } else { AuditReader::new(store).ledgers().await? };
        let ledger = match (self.ledger, existing.as_slice()) {
            (Some(ledger), [only, ..]) if is_file && only.name != ledger => {
                return Err(Failure::Usage(format!(
                    "this file has the ledger {:?}, and a SQLite file has one ledger: name another file for the ledger \
                     {ledger:?}, or leave out --ledger",
                    only.name
                )));
            }
            (Some(ledger), _) => ledger,
            (None, [first, ..]) => first.name.clone(),
            (None, []) => "main".to_owned(),
        };
        end_log(&database.open_log(&ledger, Migrate::Auto).await?).await
    }
}
