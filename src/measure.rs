//! The inside of the crate for benchmarks: the look at the files of a database, before and after a batch.

use std::fmt;

use crate::error::AuditError;
use crate::store::{Appender, Store};

/// A writer's connection that commits nothing.
pub struct Writer(Box<dyn Appender>);

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").finish_non_exhaustive()
    }
}

#[allow(clippy::missing_errors_doc, reason = "for benchmarks alone")]
impl Writer {
    /// Opens the database, and creates its tables.
    pub async fn of(store: &Store) -> Result<Self, AuditError> {
        Ok(Self(store.connect("default").await?))
    }

    /// Looks at the files, as a writer does before it begins a batch and before it confirms one. To ask whether there is
    /// something to move into the database does that, and looks at one file more.
    pub async fn look(&mut self) -> Result<(), AuditError> {
        self.0.tidy().await.map(drop)
    }
}
