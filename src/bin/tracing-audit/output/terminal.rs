//! The terminal: whether there is one, its width, and text that it shows without obeying it.

use std::{
    borrow::Cow,
    io::{self, IsTerminal},
};

use crate::failure::Failure;

pub(crate) fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal, or as many as the environment says.
pub(crate) fn width() -> usize {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal_size::terminal_size().map(|(width, _)| width.0.into()).or_else(told).unwrap_or(80)
}

pub(crate) fn is_narrow() -> bool {
    width() < 100
}

/// What is written as it is goes to files and programs.
pub(crate) fn not_to_a_terminal() -> Result<(), Failure> {
    if !on_terminal() {
        return Ok(());
    }
    Err(Failure::Usage(
        "this is not for a terminal, which would obey what is in it: name a file, or pipe it".to_owned(),
    ))
}

pub(crate) fn obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without what a terminal would obey: control characters, and those that turn the direction of writing.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect::<Vec<_>>().concat())
}
