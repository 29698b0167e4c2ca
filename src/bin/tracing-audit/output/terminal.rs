//! Looks whether standard output is a terminal, and how wide.

use std::io::{self, IsTerminal};

use crate::failure::Failure;

pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether the terminal says of itself that it shows plain text only.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// The number of columns that a line may have: those of the variable `COLUMNS`, else those of the terminal. `None` if
/// there is no terminal either: a pipe takes lines of any length.
pub(crate) fn width() -> Option<usize> {
    let given: Option<usize> = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    let of_terminal = || {
        let size = terminal_size::terminal_size_of(io::stdout()).or_else(terminal_size::terminal_size);
        is_terminal().then(|| size.map_or(80, |(width, _)| width.0.into()))
    };
    given.or_else(of_terminal).filter(|columns| *columns > 0)
}

/// The number of columns that a line of standard error may have; `None` if it is not a terminal.
pub(crate) fn width_of_stderr() -> Option<usize> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let size = terminal_size::terminal_size_of(io::stderr());
    Some(size.map_or(80, |(width, _)| width.0.into())).filter(|columns| *columns > 0)
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
