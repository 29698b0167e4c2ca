//! The failures that end the command, with their messages and exit codes.

use std::{error::Error, path::PathBuf};

use tracing_audit::AuditError;

/// The help text about exit codes; [`Failure::code`] assigns them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success, also if nothing matches
  1  no entry has the given id, or none is shown with --fail-if-none; check, compare or verify has found something;
     an entry cannot be proven, or a proof does not hold; a checkpoint is not signed as --trust asks for; checkpoint
     has found a ledger that does not continue what was signed, or what a witness has cosigned, or a file of --to or
     --publish that was changed, or seal a ledger that is not as it was
  2  the command line or the query is not valid
  3  the database cannot be read, or holds no audit log; an exported file is not whole, or not as its manifest says
  4  the output, or the state of verify, cannot be written; if verify has found something too, 1, also where the
     state cannot be read; a witness has not cosigned, and no quorum of --trust does without it
  5  the answer may lack entries: standard error says which, and why;
     verify has found nothing, and no checkpoint, or too small a one, to hold the ledger against;
     compare has found nothing, and nothing says whether the beginning of the file was cut off;
     a proof holds, and there was no checkpoint from elsewhere to hold it against
128 and the number of the signal, if one ended it while it had a temporary file, which it has removed

If the reader closes the pipe early, check, checkpoint, compare, consistency, seal and what verifies go on to their
end, query and export end with 0, or with 5 if the whole answer may lack entries, and all others end with 0.";

/// A failure that ends the command.
pub(crate) enum Failure {
    /// No entry has the id that was asked for, or is an answer where there must be one.
    NotFound(String),
    /// The command line is not valid.
    Usage(String),
    /// The output, or a file that the command keeps next to it, cannot be read or written.
    Output(std::io::Error),
    /// The database of this name exists but holds no audit log.
    NoLog(String),
    /// The ledger is shorter than at an earlier run, or an exported file is not as it was made.
    Lost(String),
    /// A check or a verification has found something, or the database differs from what was compared with it.
    Found(String),
    /// Verification or a comparison has found nothing, and has nothing from outside that covers enough.
    Unanchored(String),
    /// The answer was given, and may lack entries.
    Lacking(String),
    /// The exported file of this name cannot be opened.
    Exported(PathBuf, AuditError),
    /// The crate reported an error.
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
            Self::NotFound(_) | Self::Found(_) => 1,
            Self::Unanchored(_) | Self::Lacking(_) => 5,
            Self::Usage(_) => 2,
            Self::Audit(error) if error.is_query() || error.is_config() || error.is_cursor() => 2,
            Self::Audit(error) if error.is_output() => 4,
            Self::NoLog(_) | Self::Lost(_) | Self::Exported(..) | Self::Audit(_) => 3,
            Self::Output(_) => 4,
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::NotFound(message)
            | Self::Usage(message)
            | Self::Lost(message)
            | Self::Found(message)
            | Self::Unanchored(message)
            | Self::Lacking(message) => message.clone(),
            Self::NoLog(db) => {
                format!("the database holds no audit log: {db}. Is this the right file, database or schema?")
            }
            Self::Output(error) => format!("cannot write the output: {error}"),
            Self::Audit(error) => for_operators(with_causes(error)),
            Self::Exported(path, error) => format!("{}: {}", path.display(), with_causes(error)),
        }
    }
}

/// The remedies that the library names for programmers, each with the one for an operator.
const REMEDIES: [(&str, &str); 5] = [
    ("run what Store::migrations gives, or open with Migrate::Auto", "run `tracing-audit migrate`"),
    ("open a log with this version, or run what Store::migrations gives", "run `tracing-audit migrate`"),
    ("open a log first", "run `tracing-audit migrate`"),
    (
        "a database in memory cannot be shared by path: give Store::from an SqlitePool",
        "a database in memory ends with the process that has made it, and no other can read it: name a SQLite file",
    ),
    ("the names of ledger and target must not be empty", "the name of a ledger must not be empty"),
];

fn for_operators(message: String) -> String {
    REMEDIES.iter().fold(message, |message, (of_library, here)| message.replace(of_library, here))
}

/// The error's message, followed by those of its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_message = cause.to_string();
        // Some errors repeat the message of their cause: add it once only.
        if !message.contains(&cause_message) {
            message.extend([": ", &cause_message]);
        }
        source = cause.source();
    }
    message
}
