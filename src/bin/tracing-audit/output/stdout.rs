//! Writes to standard output, or to the pager before it; a closed pipe ends the command.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};

use super::{pager, stderr::report, temporary::remove_temporary, terminal::is_dumb};
use crate::failure::Failure;

/// Standard output, or the pager. When its reader has closed the pipe, a write ends the command with success.
#[derive(Debug)]
pub(crate) struct Stdout(io::Stdout);

impl Default for Stdout {
    fn default() -> Self {
        Self(io::stdout())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if is_closed() {
            return Ok(bytes.len());
        }
        end_if_closed(pager::write(bytes).unwrap_or_else(|| self.0.write(bytes)), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        end_if_closed(self.0.flush(), ())
    }
}

/// Leaves out all colours, also those of help and of errors, if the terminal shows plain text only. Without this, the variables
/// `CI`, `CLICOLOR` and `CLICOLOR_FORCE` would bring them back.
pub(crate) fn decide_colours() {
    if is_dumb() {
        ColorChoice::Never.write_global();
    }
}

/// Whether the command goes on without its reader.
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// Whether the reader of a command that goes on has closed the pipe.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Lets the command go on when the reader of its output has closed the pipe, for the sake of its exit code: what is written from
/// then on goes nowhere.
pub(crate) fn go_on_if_closed() {
    GOES_ON.store(true, Ordering::Relaxed);
}

/// Whether nobody reads any more what is written.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Ends the command if the pipe is closed: its reader has seen enough, which is not an error. A command that goes on has
/// written `all`.
fn end_if_closed<T>(done: io::Result<T>, all: T) -> io::Result<T> {
    if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        if GOES_ON.load(Ordering::Relaxed) {
            CLOSED.store(true, Ordering::Relaxed);
            return Ok(all);
        }
        pager::end_pager();
        remove_temporary();
        let failure = pager::pager_failure();
        failure.iter().for_each(report);
        std::process::exit(failure.map_or(0, |failure| failure.code().into()));
    }
    done
}

pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    Ok(writeln!(Stdout::default(), "{text}")?)
}

/// Prints a line with its colours, or without them if standard output does not show colours.
pub(crate) fn print_styled(text: &str) -> Result<(), Failure> {
    if AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        return print_line(&strip_str(text).to_string());
    }
    print_line(text)
}
