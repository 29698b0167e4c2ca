//! The command `key`: makes keys that sign checkpoints, lets one follow another, and shows whom verifiers have to trust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use tracing_audit::{
    AuditError,
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
    /// checkpoint with both keys (`checkpoint --key OLD --key NEW`), and then with the new one alone. If the entry is not committed, the
    /// file of the new key is removed again; if that is not known, it stays, and that is said.
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
                        let declared = log.writer().declare_key(&old.verifier(), &new.verifier()).await;
                        declared.map(|seq| (seq, new)).inspect_err(|error| undeclared(&out, error))
                    }
                    Err(error) => Err(error),
                };
                let ended = end_log(&log).await;
                let (seq, new) = declared?;
                // The least tree that has the declaration is the first one of the new key.
                let size = seq.saturating_add(1);
                let before = Trust::lines_of(&old.verifier(), 0, Some(size));
                let from_then = Trust::lines_of(&new.verifier(), size, None);
                output::print_line(&format!("{before}{from_then}quorum none"))?;
                ended
            }
        }
    }
}

/// Removes the file of a new key that was not declared, and says so. If the entry that declares it may be committed yet, the key stays.
pub(super) fn undeclared(out: &Path, error: &AuditError) {
    let key = out.display();
    let what = if error.is_pending() || error.is_quarantined() {
        format!(
            "the new key {key} stays, because the entry that declares it may have been committed, or may be yet: look for it with \
             `tracing-audit query`, and remove the file if it is not there"
        )
    } else {
        match fs::remove_file(out) {
            Ok(()) => format!("the new key {key} was not declared, and is removed again"),
            Err(error) => format!("the new key {key} was not declared, and cannot be removed: {error}"),
        }
    };
    output::remark(&what);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_key_that_was_not_declared_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("next.key");
        create_key(&path, Origin::new("audit.example.com/payments").unwrap()).unwrap();
        // An error after which nothing is committed.
        let error = open_key(directory.path()).unwrap_err();
        undeclared(&path, &error);
        assert!(!path.exists());
    }
}
