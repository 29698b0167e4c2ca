//! Every test that runs beside others. `tests/ends.rs` has a harness of its own, and `tests/builds.rs` builds
//! of its own.
//!
//! A test that takes longer than a minute, or needs more than [`.ci/test`] installs, is `#[ignore]`d and run by name:
//! `cargo test --test suite survive::journal -- --ignored`.
//!
//! | promise of the README | shown by |
//! |---|---|
//! | accepted survives | `survive::journal`, `survive::crash_points`, `survive::power_loss`, `tests/ends.rs` |
//! | committed stays | `survive::power_loss`, `survive::crash_points`, `survive::acts`, `sqlite::files`, `emit::committed` |
//! | exactly once | `survive`, `postgres::operation` (lost answers to a COMMIT), `contract::writing` (duplicates) |
//! | the books balance | `support::balanced`, which `survive::faults` runs beside each fault |
//! | malformed is kept | `contract::fields` |
//! | never the application's problem | `survive::faults`, `survive::service`, `emit::wiring` |
//! | heals by itself | `survive::faults`, `sqlite::operation`, `postgres::faults` |
//! | tells when it is sick | `survive::faults`, `emit::committed`, `postgres::faults` |
//! | not silenced by accident | `emit::stackings`, `tests/builds.rs` |
//! | costs nothing when off | `emit::wiring` (a healthy flush shows nothing); the figure is `benches/emit.rs` |
//! | any question has the answer of a plain scan | `contract::questions`, `contract::reading` |
//! | order is provable | `survive::processes`, `contract::reading`, `postgres::operation` |
//! | answers say what they cover | `contract::covering`, `command::coverage`, `sqlite::pages` |
//! | tampering shows | `contract::evidence`, `contract::large_ledger`, `survive::ledger`, `command::verify` (a second program agrees) |
//! | not taken over by neighbours on a server | `postgres::names`, `postgres::roles`, `postgres::connections` |
//!
//! Tests run in the threads of one process. A test that installs a global subscriber, mounts a file system, forks or
//! measures memory runs its body in a process of its own, `support::in_own_process`; a test that keeps the whole
//! machine busy holds `support::heavy`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and may tell a long story"
)]
#![cfg_attr(
    not(all(feature = "testing", feature = "cli")),
    allow(dead_code, unused_imports, unused_macros, reason = "tests of other features use it")
)]

mod support;

#[cfg(feature = "cli")]
mod command;
mod contract;
mod docs;
mod emit;
mod house;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;
mod survive;
