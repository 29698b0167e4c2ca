//! What people, programs and files get.

pub(crate) mod lines;
pub(crate) mod show;
pub(crate) mod unfinished;
