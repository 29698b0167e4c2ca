//! Reports failures and warnings on standard error.

use std::io::{self, IsTerminal, Write};

use tracing_audit::{AuditError, AuditQuery, Notice, reader::Ledger};

use super::{
    pager::end_pager,
    terminal::width_of_stderr,
    text::{harmless, wrapped},
};
use crate::failure::Failure;

pub(crate) fn report(failure: &Failure) {
    remark(&failure.message());
}

/// Prints a remark in addition to the output.
pub(crate) fn remark(text: &str) {
    end_pager();
    say(&["tracing-audit: ", &harmless(text)].concat());
}

/// Says what a log has found altered when it was opened.
pub(crate) fn remark_altered(notice: Notice) {
    if let Some(error) = notice.error.filter(AuditError::is_altered) {
        remark(&error.to_string());
    }
}

/// Writes a sentence to standard error, on a terminal in lines that fit. It must be [`harmless`].
pub(crate) fn say(text: &str) {
    for line in wrapped(text, width_of_stderr().unwrap_or(usize::MAX)) {
        write_line(&line);
    }
}

/// Writes a line to standard error. Everything that this command says there goes through here. If it cannot be written, as
/// on a full disk, it is lost: what the command does, and its exit code, stay as they are.
pub(crate) fn write_line(line: &str) {
    drop(writeln!(anstream::stderr(), "{line}"));
}

/// Warns a person at a terminal that the query may be slow: it looks at every entry, and there are many.
pub(crate) fn warn_if_it_scans(query: &AuditQuery, ledgers: &[Ledger]) {
    const MANY: u64 = 1_000_000;
    let entries = ledgers.iter().map(|ledger| ledger.next_seq).fold(0, u64::saturating_add);
    if query.needs_full_scan() && entries >= MANY && io::stderr().is_terminal() {
        say(&format!(
            "tracing-audit: this looks at all {entries} entries, unless an index on request serves it; --since narrows it"
        ));
    }
}

/// Says to a person at a terminal in which order the entries above are.
pub(crate) fn tell_order(oldest_first: bool) {
    let first = if oldest_first { "earliest" } else { "latest" };
    tell_person(&format!("{first} first by time (ts); tail and export give the order of commit (seq)"));
}

/// Prints a remark in addition to the output, if a person reads both on a terminal.
pub(crate) fn tell_person(text: &str) {
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        end_pager();
        say(text);
    }
}
