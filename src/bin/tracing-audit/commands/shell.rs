//! The commands `completions` and `man`: print completions for a shell, and the manual page.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::{failure::Failure, output::Stdout};

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        clap_complete::generate(self.shell, &mut command, "tracing-audit", &mut bytes);
        Ok(Stdout::default().write_all(&bytes)?)
    }
}

pub(crate) fn print_man_page(command: Command) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command).render(&mut bytes)?;
    Ok(Stdout::default().write_all(&bytes)?)
}
