//! From the queue to the store: reads records, interprets them, commits them in batches, tries again for as
//! long as it takes, and only then acknowledges.

mod work;

#[cfg(all(test, feature = "sqlite"))]
mod tests;

pub(super) use work::run;
