//! What every database must do, word for word the same for each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

/// The suite, against whatever `log` and `log_with` give.
macro_rules! suite {
    () => {
        mod fields {
            include!("contract/fields.rs");
        }
        mod reading {
            include!("contract/reading.rs");
        }
        mod writing {
            include!("contract/writing.rs");
        }
    };
}

mod sqlite {
    use crate::support::{log, log_with};

    suite!();
}

#[cfg(feature = "postgres")]
mod postgres {
    use crate::support::postgres::{log, log_with};

    suite!();
}
