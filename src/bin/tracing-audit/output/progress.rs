//! Shows how far an export or a verification has come.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use tracing_audit::export::ExportChunk;

use super::{table::without_middle, terminal::is_dumb, text::harmless};

/// The greatest width of the name of a ledger before the bar.
const NAME: usize = 20;

/// The progress of an export or a verification, shown on standard error if that is a terminal.
pub(crate) struct Progress {
    pub(crate) entries: u64,
    from: u64,
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new(is_shown: bool) -> Self {
        // It is drawn with what a terminal obeys.
        let is_plain = is_dumb() || std::env::var_os("NO_COLOR").is_some_and(|given| !given.is_empty());
        let is_shown = is_shown && !is_plain;
        let bar = if is_shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { entries: 0, from: 0, bar: bar.with_finish(ProgressFinish::AndClear) }
    }

    /// Begins a ledger, whose first and last `seq` are known: from here on the bar shows a percentage.
    pub(crate) fn begin(&mut self, ledger: &str, from: u64, end: u64) {
        self.from = from;
        self.bar.set_length(end.saturating_sub(from));
        self.bar.set_position(0);
        self.bar.set_prefix(without_middle(&harmless(ledger), NAME).into_owned());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {percent}% {msg} {eta}") {
            self.bar.set_style(style);
        }
    }

    /// Shows that the ledger was read up to this `seq`.
    pub(crate) fn at(&mut self, seq: u64) {
        self.bar.set_position(seq.saturating_sub(self.from));
    }

    pub(crate) fn reached(&mut self, chunk: &ExportChunk) {
        self.entries += chunk.entries;
        self.bar.set_message(format!("{} entries", self.entries));
        match chunk.last_seq {
            Some(last) => self.bar.set_position((last + 1).saturating_sub(self.from)),
            None => self.bar.tick(),
        }
    }
}
