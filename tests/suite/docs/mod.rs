//! The documentation shows what the code does.

mod examples;
#[cfg(feature = "cli")]
mod questions;
