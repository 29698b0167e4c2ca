//! The documentation shows what the code does.

mod compatibility;
mod examples;
mod names;
mod public_dependencies;
#[cfg(feature = "cli")]
mod questions;
mod readme;
