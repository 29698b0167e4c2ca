//! Sends the output through a pager, which lets people turn its pages, if standard output is a terminal.

use std::{
    io::{self, BufWriter, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::terminal::{is_dumb, is_terminal};

/// The pager of this run.
static PAGER: Mutex<Pager> = Mutex::new(Pager::None);

enum Pager {
    None,
    /// It starts with the first output.
    Wanted(String),
    Running(Child, BufWriter<ChildStdin>),
}

fn pager() -> MutexGuard<'static, Pager> {
    PAGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a pager show what is written from here on, if it is a person who reads it: that of the variable `PAGER`, or less.
pub(crate) fn page() {
    let variable = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    if is_terminal() && !is_dumb() && !["", "cat"].contains(&variable.trim()) {
        *pager() = Pager::Wanted(variable);
    }
}

/// Writes to the pager. `None` if there is none.
pub(super) fn write(bytes: &[u8]) -> Option<io::Result<usize>> {
    let mut pager = pager();
    if let Pager::Wanted(command) = &*pager {
        *pager = start(command).unwrap_or(Pager::None);
    }
    match &mut *pager {
        Pager::Running(_, input) => Some(input.write(bytes)),
        Pager::None | Pager::Wanted(_) => None,
    }
}

/// Waits until the pager has ended, if there is one. What is written afterwards goes to the terminal.
pub(crate) fn end_pager() {
    let ended = std::mem::replace(&mut *pager(), Pager::None);
    if let Pager::Running(mut child, input) = ended {
        // A pager that was left early has closed its input.
        drop(input.into_inner());
        drop(child.wait());
    }
}

/// Starts a pager. `None` if there is no such program: then there is no pager.
fn start(command: &str) -> Option<Pager> {
    let mut started = if command.trim() == "less" {
        Command::new("less")
    } else {
        let shell = if cfg!(windows) { ["cmd", "/C"] } else { ["sh", "-c"] };
        let mut started = Command::new(shell.first()?);
        started.arg(shell.last()?).arg(command);
        started
    };
    // For less: end at once if all fits on the screen, keep colours, do not wrap lines, end with Ctrl-C.
    for (variable, value) in [("LESS", "FRSXK"), ("LESSCHARSET", "utf-8")] {
        if std::env::var_os(variable).is_none() {
            started.env(variable, value);
        }
    }
    let mut child = started.stdin(Stdio::piped()).spawn().ok()?;
    let input = child.stdin.take()?;
    Some(Pager::Running(child, BufWriter::new(input)))
}
