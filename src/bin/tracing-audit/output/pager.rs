//! Sends the output through a pager, which lets people turn its pages, if standard output is a terminal.

use std::{
    io::{self, BufWriter, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::terminal::{is_dumb, is_terminal};
use crate::failure::Failure;

/// The pager of this run.
static PAGER: Mutex<Pager> = Mutex::new(Pager::None);

enum Pager {
    None,
    /// It starts with the first output.
    Wanted(String),
    Running(Child, BufWriter<ChildStdin>),
}

/// How the first pager has failed that has failed.
static FAILED: OnceLock<String> = OnceLock::new();

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

/// Waits until the pager has ended, if there is one. Later output goes to the terminal.
pub(crate) fn end_pager() {
    let ended = std::mem::replace(&mut *pager(), Pager::None);
    if let Pager::Running(child, input) = ended
        && let Some(how) = ended_badly(child, input)
    {
        FAILED.get_or_init(|| how);
    }
}

/// Waits until the pager has ended. `None` if it has ended well, also if people have left it before the end.
fn ended_badly(mut child: Child, input: BufWriter<ChildStdin>) -> Option<String> {
    // A pager that was left early has closed its input.
    drop(input.into_inner());
    match child.wait() {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("has ended with {status}")),
        Err(error) => Some(format!("cannot be waited for: {error}")),
    }
}

/// The failure of a pager that could not be started, or has failed: what it was to show may not have been shown.
pub(crate) fn pager_failure() -> Option<Failure> {
    let how = FAILED.get()?;
    let variable = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    Some(Failure::Output(io::Error::other(format!(
        "the pager {variable:?} {how}, so that part of the output may not have been shown: set PAGER to another program, or \
         give --no-pager"
    ))))
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

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// How this pager ends that is to show a line.
    fn ended(command: &str) -> Option<String> {
        let started = start(command).map(|pager| match pager {
            Pager::Running(child, input) => Some((child, input)),
            _ => None,
        });
        let (child, mut input) = started.flatten().unwrap();
        // It may have ended before.
        drop(input.write_all(b"a line\n").and_then(|()| input.flush()));
        ended_badly(child, input)
    }

    #[test]
    fn a_pager_that_cannot_be_started_or_fails_is_told_of_and_one_that_is_left_early_is_not() {
        for (command, says) in [
            ("/no/such/pager", "127"),
            ("false", "1"),
            ("cat >/dev/full", "1"),
            ("cat >/no/such/file", "has ended with"),
            ("kill -9 $$", "signal"),
        ] {
            let how = ended(command).unwrap();
            assert!(how.contains(says), "{command}: {how}");
        }
        for command in ["cat >/dev/null", "true", "head -c 1 >/dev/null"] {
            assert_eq!(ended(command), None, "{command}");
        }
    }
}
