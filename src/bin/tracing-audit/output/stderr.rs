//! Standard error.

use std::io::{self, IsTerminal};

use tracing_audit::{AuditQuery, Ledger};

use super::terminal::harmless;
use crate::failure::Failure;

/// Why the command ends.
pub(crate) fn report(failure: &Failure) {
    anstream::eprintln!("tracing-audit: {}", harmless(&failure.message()));
}

/// Tells people at a terminal why this may take a while: there are many entries and no index that every log has.
pub(crate) fn tell_if_it_scans(query: &AuditQuery, ledgers: &[Ledger]) {
    const MANY: u64 = 1_000_000;
    let entries: u64 = ledgers.iter().map(|ledger| ledger.entries).sum();
    if query.scans() && entries >= MANY && io::stderr().is_terminal() {
        anstream::eprintln!(
            "tracing-audit: all {entries} entries are looked at, unless an index on request serves this: --since narrows it"
        );
    }
}
