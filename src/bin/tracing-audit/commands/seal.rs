//! The command `seal`: seals a ledger, once or again and again.

use std::time::Duration;

use clap::Args;
use tracing_audit::{AuditLog, evidence::Sealed, migrate::Migrate};

use super::{
    checkpoint::{ended, interval},
    prove::not_proven,
    verify::OfLedger,
};
use crate::{
    failure::Failure,
    input::{Database, end_log},
    output,
};

#[derive(Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    ledger: OfLedger,
    /// Go on until a signal comes, and seal what is new each time this time has passed, such as 10m, 1h or 24h.
    #[arg(long, value_name = "TIME", value_parser = interval)]
    every: Option<Duration>,
}

impl Seal {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        database.refuse_exported()?;
        let name = self.ledger.reader(database).await?.ledger_status().await?.ledger;
        let log = database.open_log(&name, Migrate::Check).await?;
        let done = self.seal(&log).await;
        let ended = end_log(&log).await;
        done.and(ended)
    }

    async fn seal(&self, log: &AuditLog) -> Result<(), Failure> {
        let Some(every) = self.every else {
            return print(&log.seal().await.map_err(not_proven)?);
        };
        let mut end = std::pin::pin!(ended());
        let (mut last, mut told) = (None, None);
        loop {
            match log.seal().await {
                Ok(sealed) => {
                    if last != Some(sealed.seq) {
                        print(&sealed)?;
                    }
                    (last, told) = (Some(sealed.seq), None);
                }
                // Told once, not each time.
                Err(error) => {
                    let message = Failure::Audit(error).message();
                    if told.as_ref() != Some(&message) {
                        output::remark(&message);
                    }
                    told = Some(message);
                }
            }
            tokio::select! {
                () = &mut end => return Ok(()),
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

fn print(sealed: &Sealed) -> Result<(), Failure> {
    if !output::is_terminal() {
        return output::print_json(sealed);
    }
    output::print_fitting(&format!(
        "entry {} seals all entries before {}, workspaces: {}",
        sealed.seq,
        sealed.seal.until(),
        sealed.seal.workspaces()
    ))
}
