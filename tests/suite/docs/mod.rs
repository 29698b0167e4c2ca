//! What the documentation shows.

mod examples;
#[cfg(feature = "cli")]
mod questions;
