//! Standard output.

use std::io::{self, Write};

use crate::failure::Failure;

/// Standard output, whose reader may have seen enough.
#[derive(Debug)]
pub(crate) struct Out(io::Stdout);

impl Default for Out {
    fn default() -> Self {
        Self(io::stdout())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        end_if_closed(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        end_if_closed(self.0.flush())
    }
}

/// A closed pipe is not an error, and nothing is left to do.
fn end_if_closed<T>(done: io::Result<T>) -> io::Result<T> {
    if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    done
}

pub(crate) fn line(text: &str) -> Result<(), Failure> {
    Ok(writeln!(Out::default(), "{text}")?)
}

/// With colours where standard output shows them.
pub(crate) fn styled(text: &str) -> Result<(), Failure> {
    let mut out = anstream::AutoStream::auto(io::stdout());
    Ok(end_if_closed(writeln!(out, "{text}"))?)
}
