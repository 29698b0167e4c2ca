//! The command `key`: makes keys that sign checkpoints, lets one follow another, and shows whom verifiers have to trust.

use std::path::PathBuf;

use clap::Subcommand;
use tracing_audit::{
    evidence::{create_key, open_key},
    ledger::{Origin, PrivateKey, Trust},
    migrate::Migrate,
};

use crate::{
    failure::Failure,
    input::{Database, end_log, one_of},
    output,
};

#[derive(Subcommand)]
pub(crate) enum KeyAction {
    /// Make a private key for the checkpoints of a ledger, and print the trust file for those who verify them.
    New {
        /// The origin of the ledger, which its checkpoints begin with: a URL that you control, without its scheme, such as
        /// audit.example.com/payments.
        origin: Origin,
        /// The file for the key, which only you may read. It must not exist.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make the key that follows another one, declare it in the ledger, and print the trust file from then on.
    ///
    /// End what signs with the old key first. An entry `audit.key` of the ledger says which key signs from there on. Sign the next
    /// checkpoint with both keys (`checkpoint --key OLD --key NEW`), and then with the new one alone.
    Rotate {
        /// The file of the key that has signed until now.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The file for the new key, which only you may read. It must not exist.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        /// The ledger [default: the only one].
        #[arg(long, value_name = "NAME")]
        ledger: Option<String>,
    },
    /// Print the trust file for those who verify what a key signs. It holds nothing that is secret.
    Show {
        /// The file of the private key.
        file: PathBuf,
    },
}

impl KeyAction {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        match self {
            Self::New { origin, out } => print_trust(&create_key(&out, origin)?),
            Self::Show { file } => print_trust(&open_key(&file)?),
            Self::Rotate { key, out, ledger } => {
                let old = open_key(&key)?;
                database.refuse_output(&out)?;
                database.refuse_exported()?;
                let ledgers = database.open_one().await?.ledgers;
                let ledger = one_of(ledger.as_ref(), &ledgers)?;
                let log = database.open_log(&ledger, Migrate::Check).await?;
                let declared = match create_key(&out, old.origin().clone()) {
                    Ok(new) => {
                        log.writer().declare_key(&old.verifier(), &new.verifier()).await.map(|seq| (seq, new))
                    }
                    Err(error) => Err(error),
                };
                end_log(&log).await?;
                let (seq, new) = declared?;
                // The least tree that has the declaration is the first one of the new key.
                let size = seq.saturating_add(1);
                let before = Trust::lines_of(&old.verifier(), 0, Some(size));
                let from_then = Trust::lines_of(&new.verifier(), size, None);
                output::print_line(&format!("{before}{from_then}quorum none"))
            }
        }
    }
}

/// Prints the trust file in which a key may sign trees of any size.
fn print_trust(key: &PrivateKey) -> Result<(), Failure> {
    output::print_line(&format!("log {}", key.verifier()))?;
    output::print_line(
        "# To ask for the time of each checkpoint too, use these two lines in place of the last one.",
    )?;
    output::print_line(&format!("# witness own {}", key.cosigner()))?;
    output::print_line("# quorum own")?;
    output::print_line("quorum none")
}
