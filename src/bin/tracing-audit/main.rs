//! Reads an audit log from the command line.

mod commands;
mod failure;
mod input;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use commands::{
    Completions, Export, Get, Index, MigrateTables, Quarantine, Query, Queue, Reads, Stats, Tail, ledgers,
    man,
};
use failure::Failure;
use input::Database;

/// Reads an audit log: queries, follows, counts and exports what a service wrote with tracing-audit.
///
/// Exit codes: 0 done, also where nothing matches; 1 no entry has that id; 2 the command or the query is not valid; 3 the
/// database cannot be read, or holds no audit log; 4 the output cannot be written.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    database: Database,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the entries that match, the latest first.
    Query(Query),
    /// Shows all there is about the entry with this id.
    Get(Get),
    /// Shows the entries that match in the order of their commit.
    Tail(Tail),
    /// Counts the entries that match.
    Stats(Stats),
    /// Writes the entries that match to a file, which appears when it is complete.
    Export(Export),
    /// Lists the ledgers, and when each was written last.
    Ledgers,
    /// Shows who read the log, where that was recorded (see --as), the latest first.
    Reads(Reads),
    /// Lists the indexes, or makes or drops one on request.
    Index {
        #[command(subcommand)]
        action: Index,
    },
    /// What the database refused for good.
    Quarantine {
        #[command(subcommand)]
        action: Quarantine,
    },
    /// Creates the tables or brings them up to date.
    Migrate(MigrateTables),
    /// Shows the journals in a directory: what was accepted and is not in the database yet.
    Queue(Queue),
    /// Prints completions for a shell.
    Completions(Completions),
    /// Prints the manual page.
    Man,
}

fn main() -> ExitCode {
    let Arguments { database, command } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&database, command)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::report(&failure);
            failure.code().into()
        }
    }
}

async fn run(database: &Database, command: Command) -> Result<(), Failure> {
    match command {
        Command::Query(query) => query.run(database).await,
        Command::Get(get) => get.run(database).await,
        Command::Tail(tail) => tail.run(database).await,
        Command::Stats(stats) => stats.run(database).await,
        Command::Export(export) => export.run(database).await,
        Command::Ledgers => ledgers(database).await,
        Command::Reads(reads) => reads.run(database).await,
        Command::Index { action } => action.run(database).await,
        Command::Quarantine { action } => action.run(database).await,
        Command::Migrate(migrate) => migrate.run(database).await,
        Command::Queue(queue) => queue.run(),
        Command::Completions(completions) => completions.run(Arguments::command()),
        Command::Man => man(Arguments::command()),
    }
}
