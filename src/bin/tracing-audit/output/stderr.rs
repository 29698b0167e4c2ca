//! Reports failures and warnings on standard error.

use std::io::{self, IsTerminal};

use tracing_audit::{AuditQuery, reader::Ledger};

use super::{pager::end_pager, text::harmless};
use crate::failure::Failure;

pub(crate) fn report(failure: &Failure) {
    end_pager();
    anstream::eprintln!("tracing-audit: {}", harmless(&failure.message()));
}

/// Says something beside the output.
pub(crate) fn remark(text: &str) {
    end_pager();
    anstream::eprintln!("tracing-audit: {}", harmless(text));
}

/// Warns a person at a terminal that the query may be slow: it looks at every entry, and there are many.
pub(crate) fn warn_if_it_scans(query: &AuditQuery, ledgers: &[Ledger]) {
    const MANY: u64 = 1_000_000;
    let entries: u64 = ledgers.iter().map(|ledger| ledger.next_seq).sum();
    if query.needs_full_scan() && entries >= MANY && io::stderr().is_terminal() {
        anstream::eprintln!(
            "tracing-audit: this looks at all {entries} entries, unless an index on request serves it; \
             --since narrows it"
        );
    }
}

/// Tells a person at a terminal in which order the entries above are.
pub(crate) fn tell_order(oldest_first: bool) {
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        end_pager();
        let first = if oldest_first { "earliest" } else { "latest" };
        anstream::eprintln!("{first} first by time (ts); tail and export give the order of commit (seq)");
    }
}
