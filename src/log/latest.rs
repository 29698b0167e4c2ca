//! Finds the latest period that there is, before a log is opened.

use std::time::Duration;

use crate::error::{AuditError, ErrorKind};
use crate::platform::Clock;
use crate::store::{Period, Store};

/// The latest period that has a file, if periods have files. It is looked for on another thread, whose disk may not answer.
pub(super) async fn latest(
    store: &Store,
    period: Period,
    timeout: Duration,
) -> Result<Option<String>, AuditError> {
    let failed = |cause: std::io::Error| {
        AuditError::new(ErrorKind::Store, "the log's threads cannot be started").because(cause)
    };
    let clock = Clock::start().map_err(failed)?;
    let looked = store.clone();
    match clock.within(timeout, clock.aside(move || looked.labels_of_files(period))).await {
        Some(Ok(labels)) => Ok(labels.transpose()?.and_then(|labels| labels.into_iter().next_back())),
        Some(Err(cause)) => Err(failed(cause)),
        None => {
            let message = format!(
                "the directory of the audit database has not answered for {timeout:?}, the open_timeout"
            );
            Err(AuditError::new(ErrorKind::Store, message))
        }
    }
}
