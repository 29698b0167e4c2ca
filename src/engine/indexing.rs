//! Creates the indexes that the builder was asked for.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

use super::shared::Engine;
use crate::error::{AuditError, ErrorKind};

/// Pause after the first failed attempt at an index. It doubles with each further one.
const FIRST_INDEX_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST_INDEX_PAUSE: Duration = Duration::from_mins(1);

impl Engine {
    /// Creates the requested indexes once the log has connected, retrying each until it exists. Never resolves.
    pub(super) async fn make_indexes(&self) {
        self.tables_exist.notified().await;
        for on in &self.settings.indexes {
            let (mut pause, mut reported) = (FIRST_INDEX_PAUSE, None);
            loop {
                // This may run the application's password callback, which may panic.
                let made = AssertUnwindSafe(self.settings.store.create_index(on)).catch_unwind().await;
                let error = match made {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => error,
                    Err(_) => {
                        self.status.count_panic();
                        AuditError::new(ErrorKind::Store, "creating an index panicked")
                    }
                };
                // The same error again is no news.
                let message = error.to_string();
                if reported.as_ref() != Some(&message) {
                    reported = Some(message);
                    self.status.unindexed(error);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_INDEX_PAUSE);
            }
        }
        std::future::pending::<()>().await;
    }
}
