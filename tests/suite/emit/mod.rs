//! From the event to the accepted entry: wiring, failing closed, and the tests of code that audits.

mod committed;
mod large;
mod stackings;
#[cfg(feature = "testing")]
mod testing;
mod wiring;
