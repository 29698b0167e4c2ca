//! Tests of builds other than that of the suite, in a program that is compiled quickly.
//!
//! `check_wiring` when audit events are compiled out: run with `--features tracing/max_level_warn`, as another
//! crate of a program may ask for; without it, this checks the opposite. TLS by the system's library: run with
//! `--features tls-native-tls`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "suite/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "this test uses a part of it")]
mod support;
#[cfg(feature = "tls-native-tls")]
#[path = "suite/postgres/tls.rs"]
mod tls;

use tracing::level_filters::STATIC_MAX_LEVEL;
use tracing_subscriber::{prelude::*, registry};

#[test]
fn events_that_are_compiled_out_are_reported_and_only_those() {
    support::in_own_process(support::this_test!(), || {
        let directory = tempfile::tempdir().unwrap();
        let log = support::open(&directory.path().join("audit.db"));
        registry().with(log.layer()).init();
        let outcome = log.check_wiring().map_err(|error| error.to_string());
        if STATIC_MAX_LEVEL < tracing::Level::INFO {
            assert!(outcome.unwrap_err().contains("INFO events are compiled out"));
        } else {
            assert_eq!(outcome.unwrap().near_misses, Vec::<String>::new());
        }
    });
}
