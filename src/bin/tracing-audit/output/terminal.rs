//! Looks whether standard output is a terminal, and how wide; makes text harmless to it.

use std::{
    borrow::Cow,
    io::{self, IsTerminal},
};

use crate::failure::Failure;

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The number of columns: of the terminal, else of the variable `COLUMNS`, else 80.
pub(crate) fn width() -> usize {
    let from_environment = || std::env::var("COLUMNS").ok()?.parse().ok();
    let from_terminal = terminal_size::terminal_size().map(|(width, _)| width.0.into());
    from_terminal.or_else(from_environment).unwrap_or(80)
}

/// Whether some columns must be shortened: the year of a time, and the bars of counts.
pub(crate) fn is_narrow() -> bool {
    width() < 100
}

/// Refuses to print unescaped data to a terminal.
pub(crate) fn refuse_terminal() -> Result<(), Failure> {
    if !is_terminal() {
        return Ok(());
    }
    Err(Failure::Usage(
        "this output may contain characters that control a terminal: redirect it to a file, or pipe it"
            .to_owned(),
    ))
}

/// Whether a terminal would act on this character: control characters, and those that change the direction of writing.
pub(crate) fn controls_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text, with every character that a terminal would act on escaped.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(controls_terminal) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if controls_terminal(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect::<Vec<_>>().concat())
}
