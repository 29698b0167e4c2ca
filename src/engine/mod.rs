//! Turns accepted records into commits: one thread, its tasks, and the signals between it and the emitters.

mod flusher;
pub(crate) mod health;
pub(crate) mod notice;
mod shared;
pub(crate) mod stats;

pub(crate) use shared::{Alive, Engine, Settings};
