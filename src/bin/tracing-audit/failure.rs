//! Failures: their messages and exit codes.

use std::error::Error;

use tracing_audit::AuditError;

/// Why the command ends without success.
pub(crate) enum Failure {
    /// There is no such entry.
    NotFound(String),
    /// What was asked for makes no sense.
    Usage(String),
    Output(std::io::Error),
    /// This database is there and holds no audit log.
    NoLog(String),
    /// The ledger does not hold what it held.
    Lost(String),
    Audit(AuditError),
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::Audit(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 1,
            Self::Usage(_) => 2,
            Self::Audit(error) if error.is_query() || error.is_config() || error.is_cursor() => 2,
            Self::Audit(error) if error.is_output() => 4,
            Self::NoLog(_) | Self::Lost(_) | Self::Audit(_) => 3,
            Self::Output(_) => 4,
        }
    }

    pub(crate) fn message(&self) -> String {
        let with_causes = |error: &dyn Error| {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                let cause_says = cause.to_string();
                // Some repeat what they are caused by.
                if !message.contains(&cause_says) {
                    message.extend([": ", &cause_says]);
                }
                source = cause.source();
            }
            message
        };
        match self {
            Self::NotFound(message) | Self::Usage(message) | Self::Lost(message) => message.clone(),
            Self::NoLog(db) => {
                format!("the database holds no audit log: {db}. Another file, schema or database?")
            }
            Self::Output(error) => ["the output cannot be written: ", &error.to_string()].concat(),
            Self::Audit(error) => with_causes(error),
        }
    }
}
