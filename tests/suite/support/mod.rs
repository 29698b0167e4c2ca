//! Helpers of several tests.
//!
//! | file | what it does |
//! |---|---|
//! | `process` | waits, processes of a test's own, the lock of the tests that keep the machine busy |
//! | `books` | checks of the books |
//! | `fixture` | a log on a fresh database, what it holds, and SQL beside it |
//! | `fuse` | a directory that is mounted a second time, through FUSE |
//! | `postgres` | a PostgreSQL server of the tests' own |
//! | `witness` | a witness of the C2SP, made from its specification alone |
//! | `tree` | what a database holds of the tree, and the same made anew from the rows, also by a second program |

mod books;
mod fixture;
mod fuse;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod process;
mod tree;
#[cfg(feature = "signing")]
mod witness;

pub(crate) use books::{assert_balanced, balanced};
pub(crate) use fixture::{
    Fixture, all, all_in, an_older_version_is_brought_up_to_date, block_on, builder, commit, connect, entry,
    execute, lock, log, log_with, metadata, open, run, settle, store, texts, unlock,
};
pub(crate) use fuse::Fuse;
pub(crate) use process::{
    PATIENCE, again, child, heavy, in_own_mounts, in_own_mounts_with, in_own_process, is_in_own_process,
    is_root, mount, only, test_of, this_test, wait, wait_until,
};
pub(crate) use tree::{Stored, assert_tree, second_program, size_and_root};
#[cfg(feature = "signing")]
pub(crate) use witness::{Manner, Root, TestWitness, root_of};
