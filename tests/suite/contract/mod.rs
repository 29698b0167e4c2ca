//! Requirements for every database, word for word the same for each. `questions` asks both the same random questions, which
//! `scan` answers in memory.

/// The tests, against the database that `log` and `log_with` give.
macro_rules! suite {
    () => {
        mod covering {
            include!("covering.rs");
        }
        mod evidence {
            include!("evidence.rs");
        }
        mod exported {
            include!("exported.rs");
        }
        mod fields {
            include!("fields.rs");
        }
        mod going_on {
            include!("going_on.rs");
        }
        mod indexes {
            include!("indexes.rs");
        }
        #[cfg(feature = "testing")]
        mod large_ledger {
            include!("large_ledger.rs");
        }
        mod meaning {
            include!("meaning.rs");
        }
        mod meddling {
            include!("meddling.rs");
        }
        #[cfg(feature = "signing")]
        mod notary {
            include!("notary.rs");
        }
        #[cfg(feature = "testing")]
        mod proofs {
            include!("proofs.rs");
        }
        #[cfg(feature = "testing")]
        mod periods {
            include!("periods.rs");
        }
        #[cfg(feature = "signing")]
        mod publishing {
            include!("publishing.rs");
        }
        mod reading {
            include!("reading.rs");
        }
        #[cfg(feature = "testing")]
        mod sealing {
            include!("sealing.rs");
        }
        mod tree {
            include!("tree.rs");
        }
        mod writing {
            include!("writing.rs");
        }
    };
}

#[cfg(feature = "postgres")]
mod questions;
#[cfg(feature = "postgres")]
mod scan;

mod sqlite {
    use crate::support::{log, log_with};

    suite!();
}

/// What is about writing, for a role that has no right to write a table.
#[cfg(feature = "postgres")]
mod by_functions {
    use crate::support::postgres::by_functions::{log, log_with};

    mod meddling {
        include!("meddling.rs");
    }
    mod writing {
        include!("writing.rs");
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use crate::support::postgres::{log, log_with};

    suite!();
}
