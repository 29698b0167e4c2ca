//! Completions and the manual page.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::{failure::Failure, output::Out};

#[derive(Args)]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut of: Command) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        clap_complete::generate(self.shell, &mut of, "tracing-audit", &mut bytes);
        Ok(Out::default().write_all(&bytes)?)
    }
}

pub(crate) fn man(of: Command) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(of).render(&mut bytes)?;
    Ok(Out::default().write_all(&bytes)?)
}
