//! The commands `completions` and `man`: print completions for a shell, and the manual pages.

use std::{io::Write, path::PathBuf};

use clap::{Args, Command};
use clap_complete::{CompleteEnv, env::Shells};
use clap_mangen::Man as Page;

use super::{
    examples::{NONE, examples_of},
    values::with_values,
};
use crate::{
    failure::{EXIT_CODES, Failure},
    output::{Stdout, at_end_of_links, refuse_all_but_files, refuse_of_others, with_path},
};

/// The variable by which a shell asks for completions.
const VARIABLE: &str = "TRACING_AUDIT_COMPLETE";

const NAME: &str = "tracing-audit";

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let shells = Shells::builtins();
        let Some(shell) = shells.completer(&self.shell) else {
            return Err(Failure::Usage(format!("there are no completions for {:?}", self.shell)));
        };
        let mut bytes = Vec::new();
        shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut bytes)?;
        Ok(Stdout::default().write_all(&bytes)?)
    }
}

/// Answers a shell that asks for completions, and ends the process; otherwise does nothing.
pub(crate) fn complete(command: fn() -> Command) {
    CompleteEnv::with_factory(move || with_values(command()))
        .var(VARIABLE)
        .bin(NAME)
        .completer(NAME)
        .complete();
}

/// The command, with examples after the help of each of its commands.
pub(crate) fn with_examples(command: Command) -> Command {
    fn with(command: Command, path: &str) -> Command {
        let names: Vec<_> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        let command = names.iter().fold(command, |command, name| {
            let path = [path, " ", name].concat().trim().to_owned();
            command.mut_subcommand(name, |one| with(one, &path))
        });
        let examples = examples_of(path);
        if path.is_empty() || examples == NONE { command } else { command.after_long_help(listed(examples)) }
    }
    with(command, "")
}

fn listed(examples: &[(&str, &str)]) -> String {
    let example = |(what, line): &(&str, &str)| format!("  {what}\n      {line}\n");
    ["Examples:\n", &examples.iter().map(example).collect::<String>()].concat()
}

#[derive(Args)]
pub(crate) struct Man {
    /// The command whose page is printed, such as `query` or `quarantine list` [default: the page of the whole].
    command: Vec<String>,
    /// Write the pages of all commands to this directory, such as ~/.local/share/man/man1.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    out: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, command: Command) -> Result<(), Failure> {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let Some(directory) = &self.out else {
            let mut found = &command;
            for name in &self.command {
                found = found.find_subcommand(name).ok_or_else(|| {
                    let there: Vec<_> = found.get_subcommands().map(Command::get_name).collect();
                    Failure::Usage(format!("there is no command {name:?}: there are {}", there.join(", ")))
                })?;
            }
            return Ok(Stdout::default().write_all(&page(found, &self.command.join(" "))?)?);
        };
        std::fs::create_dir_all(directory).map_err(|error| with_path(directory, &error))?;
        let mut rest = vec![(&command, String::new())];
        while let Some((command, path)) = rest.pop() {
            let below = |one| (one, [&*path, " ", Command::get_name(one)].concat().trim().to_owned());
            rest.extend(command.get_subcommands().map(below));
            let name = [NAME, " ", &path].concat().trim().replace(' ', "-");
            let file = directory.join([&name, ".1"].concat());
            refuse_of_others(&file)?;
            refuse_all_but_files(&at_end_of_links(&file))?;
            std::fs::write(&file, page(command, &path)?).map_err(|error| with_path(&file, &error))?;
        }
        Ok(())
    }
}

/// The manual page of a command, whose path is empty for the whole.
fn page(command: &Command, path: &str) -> Result<Vec<u8>, Failure> {
    let name = [NAME, " ", path].concat().trim().replace(' ', "-");
    let source = [NAME, " ", env!("CARGO_PKG_VERSION")].concat();
    let has_commands = command.has_subcommands();
    let command = command.clone().after_help("").after_long_help("").display_name(&name);
    let page = Page::new(command).title(&name).source(source).manual("tracing-audit");
    let mut bytes = Vec::new();
    page.render_title(&mut bytes)?;
    page.render_name_section(&mut bytes)?;
    page.render_synopsis_section(&mut bytes)?;
    page.render_description_section(&mut bytes)?;
    page.render_options_section(&mut bytes)?;
    if has_commands {
        page.render_subcommands_section(&mut bytes)?;
    }
    let mut rest = String::new();
    let examples = examples_of(path);
    if examples != NONE {
        rest.push_str(".SH EXAMPLES\n");
        for (what, line) in examples {
            rest.extend([".PP\n", &escaped(what), "\n.PP\n.RS 4\n.nf\n", &escaped(line), "\n.fi\n.RE\n"]);
        }
    }
    rest.push_str(".SH ENVIRONMENT\n");
    for (name, what) in ENVIRONMENT {
        rest.extend([".TP\n\\fB", &escaped(name), "\\fR\n", &escaped(what), "\n"]);
    }
    let codes = EXIT_CODES.trim_start_matches("Exit codes:\n");
    rest.extend([".SH EXIT STATUS\n.nf\n", &escaped(codes), "\n.fi\n"]);
    if !path.is_empty() {
        rest.extend([".SH SEE ALSO\n", &escaped(NAME), "(1)\n"]);
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The text as roff.
fn escaped(text: &str) -> String {
    let line = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { ["\\&", &line].concat() } else { line }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

const ENVIRONMENT: [(&str, &str); 9] = [
    ("TRACING_AUDIT_DB", "The database, if there is no --db."),
    ("TRACING_AUDIT_AS", "The reader's name, if there is no --as."),
    ("PAGER", "The program that shows tables page by page on a terminal. Default: less. Empty or cat: none."),
    ("COLUMNS", "The width of tables. Default: that of the terminal; in a pipe, nothing is cut."),
    ("NO_COLOR", "If it is not empty, there are no colours."),
    ("TERM", "If it is dumb, there are no colours, whatever other variables say, and there is no pager."),
    ("TZ", "The zone of --tz local."),
    ("SQLITE_TMPDIR", "The directory for temporary files of SQLite, which it needs to sort."),
    (
        "PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE",
        "What the URL of a PostgreSQL database leaves out.",
    ),
];
