//! Keeps a connection that must not be closed, because that would move a write-ahead log into a database to which it does
//! not belong.

use std::{
    any::Any,
    sync::{Mutex, PoisonError},
};

use crate::platform::lock;

/// The place for such a connection of one writer. It is used again once the database is as it was. Nothing ever closes
/// it: the end of the process leaves both files as they are, and the next log says what is wrong.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<Box<dyn Any + Send>>>);

impl Kept {
    pub(super) fn take<T: Any>(&self) -> Option<Box<T>> {
        lock(&self.0).take()?.downcast().ok()
    }

    pub(super) fn put(&self, connection: Box<dyn Any + Send>) {
        *lock(&self.0) = Some(connection);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let kept = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::forget(kept.take());
    }
}
