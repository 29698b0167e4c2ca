//! The store's calls for code without an async runtime.

use super::{handle::Store, index::Index};
use crate::error::AuditError;
use crate::platform::on_own_runtime;
use crate::query::IndexOn;

impl Store {
    /// The same calls, but each blocks the thread until it is done. They work on any thread, also on one of an async
    /// runtime, whose other tasks wait meanwhile.
    #[must_use]
    pub fn blocking(&self) -> BlockingStore<'_> {
        BlockingStore(self)
    }
}

/// The store's calls for code without an async runtime: see [`Store::blocking`].
///
/// The calls are the same, but each blocks the thread until it is done. They work on any thread, also on one of an async
/// runtime, whose other tasks wait meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct BlockingStore<'a>(&'a Store);

impl BlockingStore<'_> {
    /// Calls [`Store::indexes`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn indexes(&self) -> Result<Vec<Index>, AuditError> {
        on_own_runtime(self.0.indexes())
    }

    /// Calls [`Store::create_index`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn create_index(&self, on: impl Into<IndexOn>) -> Result<(), AuditError> {
        on_own_runtime(self.0.create_index(on))
    }

    /// Calls [`Store::drop_index`] and blocks until it is done.
    ///
    /// # Errors
    /// The errors are those of that call.
    pub fn drop_index(&self, on: impl Into<IndexOn>) -> Result<(), AuditError> {
        on_own_runtime(self.0.drop_index(on))
    }
}
