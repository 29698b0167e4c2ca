//! The name of a ledger in its checkpoints.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::ledger_error::LedgerError;

/// The name of a ledger in its checkpoints: a URL without its scheme which its operator controls, such as
/// `audit.example.com/payments`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// If it is empty, has white space, control characters or a `+`, or begins with `tracing-audit/`, which is kept for what this
    /// crate signs itself.
    pub fn new(name: impl Into<String>) -> Result<Self, LedgerError> {
        let name = name.into();
        let problem = if name.is_empty() {
            "it is empty: use a URL that you control, without its scheme, such as audit.example.com/payments"
                .into()
        } else if let Some(wrong) = name.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '+') {
            format!("{name:?} contains {wrong:?}: white space, control characters and '+' are not allowed")
        } else if name.starts_with("tracing-audit/") {
            format!("{name:?} begins with \"tracing-audit/\": use a URL that you control, without its scheme")
        } else {
            return Ok(Self(name));
        };
        Err(LedgerError::malformed("origin", problem))
    }

    /// The name of a ledger that was given none: one that nobody can control, with the 16 random bytes that the ledger got
    /// when it was created.
    #[must_use]
    pub fn of_log(log_id: Uuid) -> Self {
        Self(format!("tracing-audit.invalid/{log_id}"))
    }

    /// The name after the ledger was restored from a backup for the `epoch`-th time. Epoch 0 changes nothing.
    #[must_use]
    pub fn in_epoch(&self, epoch: u64) -> Self {
        if epoch == 0 { self.clone() } else { Self(format!("{}/{epoch}", self.0)) }
    }

    /// The name as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = LedgerError;

    fn from_str(name: &str) -> Result<Self, LedgerError> {
        Self::new(name)
    }
}
