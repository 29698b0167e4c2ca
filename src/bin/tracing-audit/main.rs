//! The command `tracing-audit`, which reads an audit log: its arguments and the dispatch to its commands.

mod commands;
mod failure;
mod input;
mod output;
mod page;
mod zone;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use commands::{
    Archive, Bundle, Check, Checkpoint, Compare, Completions, Consistency, Evidence, Export, Get, Index,
    KeyAction, LedgerAction, Ledgers, Man, MigrateTables, Prove, Quarantine, Query, Queue, Reads, Seal,
    Stats, Tail, Verify, VerifyBundle, VerifyProof, complete, with_examples,
};
use failure::{EXIT_CODES, Failure};
use input::Database;

/// Query, follow, count and export the audit log that a service wrote with tracing-audit.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    database: Database,
    /// Do not show tables page by page.
    #[arg(long, global = true)]
    no_pager: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show matching entries in the order of their own time (ts), latest first.
    ///
    /// An entry whose time is long before its commit stands among the entries of its time. Entries of the same time are in
    /// the order of their commit (seq). The commands tail and export give the entries in the order of their commit.
    Query(Query),
    /// Show everything about one entry.
    Get(Get),
    /// Show matching entries in the order of their commit, and with -f the new ones too.
    Tail(Tail),
    /// Count matching entries, by action, agent, day or any other field.
    Stats(Stats),
    /// Write matching entries to a file or to standard output.
    ///
    /// The file appears under its name only when it is complete.
    Export(Export),
    /// Compare an earlier export with what the database holds now.
    ///
    /// Says that every entry of the file is there, unchanged and in the same order, or names each that is missing or
    /// changed, and how many came since. The exit code is 0 if nothing differs, and 1 otherwise. Both sides are read once,
    /// and memory is constant.
    Compare(Compare),
    /// Keep the entries of a SQLite file in a compressed file, and remove the database.
    ///
    /// For a ledger that nobody writes to any more, such as that of a month that is over. The ledger is verified, its entries are
    /// written and synced, and the file is read again: the number of entries and the SHA-256 must be right. Then an entry in
    /// another database says what was archived, and only then is this one removed. `--db FILE` answers from the file as before.
    /// A database that is in use, has entries in quarantine, or has a writer of which entries may still come, stays. The exit code is
    /// then 3, or 1 if verification has found something.
    Archive(Archive),
    /// Check that no entry is missing, and that the tables are as tracing-audit makes them.
    /// Entries, batches and heads are compared with each other: each number has one entry, each entry is in one batch, and
    /// the times fit. SQLite checks its file and its indexes too. Each finding is a line. Changes that were made with regard
    /// to all of this are not found.
    Check(Check),
    /// List the ledgers, their sizes, and when each was last written.
    Ledgers(Ledgers),
    /// Show who read the log, latest read first.
    ///
    /// A read is recorded if the reader gave a name with --as.
    Reads(Reads),
    /// List the indexes, or add or drop one.
    Index {
        #[command(subcommand)]
        action: Index,
    },
    /// List, export or retry entries that the database refused.
    Quarantine {
        #[command(subcommand)]
        action: Quarantine,
    },
    /// Create the tables, or update them to this version.
    Migrate(MigrateTables),
    /// List the journals in a queue directory, and how many records each holds.
    ///
    /// Entries that a service has accepted wait there for the database. A record may remain for a while after its entry
    /// has been committed, so the number of records is the most that may be left to commit; `stats()` of a running log
    /// gives the exact number. A journal is `in use` by its process, or `left behind` by one that is dead: the next log
    /// of its database and ledger commits what it holds, and meanwhile it is `adopted`. One that is `refused` is not
    /// believed. Sentences on standard error say why, and how much journals of dead processes hold.
    Queue(Queue),
    /// Verify that no entry was changed, removed or added since a checkpoint was kept elsewhere.
    ///
    /// It reads the whole ledger, repairs nothing, and names what it finds. Services can write meanwhile.
    Verify(Verify),
    /// Print the checkpoint of the ledger, three lines to be kept elsewhere: `verify` holds the ledger against them.
    ///
    /// With a key it is signed, and with --every the command goes on and publishes what is new. A ledger that does not
    /// continue what was signed before, because it was rolled back or exchanged, is not signed: the exit code is 1.
    Checkpoint(Checkpoint),
    /// Make and show keys that sign checkpoints.
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
    /// Show the state of a ledger's tree, or accept a backup that was restored.
    Ledger {
        #[command(subcommand)]
        action: LedgerAction,
    },
    /// Prove an entry to somebody who has a checkpoint and no database: `verify-proof` verifies the file.
    ///
    /// The proof shows the values of the entry, and can withhold some of them. It is a proof of the C2SP (c2sp.org/tlog-proof).
    Prove(Prove),
    /// Prove many entries at once: `verify-bundle` verifies the file.
    ///
    /// Without conditions it has all entries of a range, and proves that none was left out. With conditions it has the entries that
    /// match, each with a proof of its own.
    Bundle(Bundle),
    /// Make one page for people that shows entries, and that verifies itself in a browser without a network.
    ///
    /// It has the entries that match, at most 100 000, each with a proof of its own; what was asked, by whom and when; the checkpoint and
    /// its signatures. Without scripts it shows a plain table, and that nothing was verified. `verify-bundle` verifies the file too.
    Evidence(Evidence),
    /// Seal the ledger: from then on all entries of a workspace can be handed over with the proof that none is withheld.
    ///
    /// The seal is an entry `audit.sealed` with a root over the entries of each workspace. `export --complete` and `bundle --complete`
    /// prove by it. It reads the workspace and the leaf hash of every entry; services can write meanwhile. If nothing was committed
    /// since the last seal, that one is shown. It needs the rights of a log, and to read.
    Seal(Seal),
    /// Verify the proof of an entry by a checkpoint that was kept elsewhere, and show what it proves. It needs no database.
    ///
    /// The exit code is 0 if it holds, 1 if it does not, and 5 if there was no checkpoint to hold it against.
    VerifyProof(VerifyProof),
    /// Verify a bundle of entries by a checkpoint that was kept elsewhere. It needs no database.
    ///
    /// The exit code is 0 if every entry of it holds, 1 if one does not, and 5 if there was no checkpoint to hold it against.
    VerifyBundle(VerifyBundle),
    /// Prove that a ledger was only appended to from one checkpoint to another.
    ///
    /// The exit code is 0 if the later one continues the earlier one, and 1 if it does not. With --proof it needs no database.
    Consistency(Consistency),
    /// Print a completion script for a shell.
    ///
    /// The script asks this program, which completes commands, options, fields, time zones and the names of ledgers.
    Completions(Completions),
    /// Print a manual page, or write those of all commands to a directory.
    Man(Man),
}

impl Command {
    /// Whether people may want to turn the pages of what the command prints.
    fn has_pages(&self) -> bool {
        matches!(
            self,
            Self::Query(_)
                | Self::Get(_)
                | Self::Stats(_)
                | Self::Ledgers(_)
                | Self::Reads(_)
                | Self::Index { action: Index::List { .. } }
                | Self::Quarantine { action: Quarantine::List { .. } }
                | Self::Queue(_)
        )
    }
}

impl Command {
    /// Whether its exit code is a verdict on what it found, or it has more to do than to print.
    fn has_verdict(&self) -> bool {
        matches!(
            self,
            Self::Check(_)
                | Self::Checkpoint(_)
                | Self::Compare(_)
                | Self::Consistency(_)
                | Self::Seal(_)
                | Self::Verify(_)
                | Self::VerifyBundle(_)
                | Self::VerifyProof(_)
                | Self::Query(_)
                | Self::Export(_)
        )
    }
}

impl Command {
    /// Whether what it shows is recorded if the reader gives a name: entries, or counts of them.
    fn is_recorded(&self) -> bool {
        !matches!(
            self,
            Self::Check(_)
                | Self::Checkpoint(_)
                | Self::Completions(_)
                | Self::Index { .. }
                | Self::Key { .. }
                | Self::Ledger { .. }
                | Self::Ledgers(_)
                | Self::Man(_)
                | Self::Migrate(_)
                | Self::Queue(_)
                | Self::Reads(_)
                | Self::VerifyBundle(_)
                | Self::VerifyProof(_)
        )
    }
}

fn command() -> clap::Command {
    with_examples(Arguments::command())
}

fn main() -> ExitCode {
    output::decide_colours();
    complete(command);
    let Arguments { database, no_pager, command } =
        match command().try_get_matches().and_then(|found| Arguments::from_arg_matches(&found)) {
            Ok(arguments) => arguments,
            Err(error) => return refused(&error),
        };
    #[cfg(unix)]
    if let Some(directory) = database.temporary_directory() {
        begin_again(&directory);
    }
    if !no_pager && command.has_pages() {
        output::page();
    }
    if command.has_verdict() {
        output::go_on_if_closed();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&database, command)),
        Err(error) => Err(error.into()),
    };
    output::end_pager();
    let done = match (done, output::pager_failure()) {
        (Ok(()), Some(failure)) => Err(failure),
        (done, failure) => {
            failure.iter().for_each(output::report);
            done
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended_by(&failure),
    }
}

/// Says why the command ends. Returns its exit code.
fn ended_by(failure: &Failure) -> ExitCode {
    output::report(failure);
    failure.code().into()
}

/// Shows the help that was asked for, or what is wrong with the command line. What is quoted of it may hold anything.
fn refused(error: &clap::Error) -> ExitCode {
    let plain = error.render().to_string();
    let is_harmless = |text: &str| output::quoted(text) == text;
    let are_harmless = std::env::args_os().all(|argument| is_harmless(&argument.to_string_lossy()));
    if !error.use_stderr() || are_harmless && is_harmless(&plain) {
        // With its colours. The end of it may still be in the buffer.
        let printed = error.print().and_then(|()| io::stdout().flush());
        if let Err(failed) = printed
            && !error.use_stderr()
            && failed.kind() != io::ErrorKind::BrokenPipe
        {
            return ended_by(&failed.into());
        }
    } else {
        output::write_line(output::quoted(&plain).trim_end_matches('\n'));
    }
    u8::try_from(error.exit_code()).unwrap_or(2).into()
}

/// Begins again with this directory for the temporary files of SQLite, which looks for it in its environment. Returns if
/// that is not possible: then SQLite sorts in memory.
#[cfg(unix)]
fn begin_again(temporary: &std::path::Path) {
    use std::os::unix::process::CommandExt;
    if let Ok(program) = std::env::current_exe() {
        let mut again = std::process::Command::new(program);
        again.args(std::env::args_os().skip(1)).env("SQLITE_TMPDIR", temporary);
        drop(again.exec());
    }
}

async fn run(database: &Database, command: Command) -> Result<(), Failure> {
    if !command.is_recorded() {
        database.refuse_name()?;
    }
    match command {
        Command::Query(query) => query.run(database).await,
        Command::Get(get) => get.run(database).await,
        Command::Tail(tail) => tail.run(database).await,
        Command::Stats(stats) => stats.run(database).await,
        Command::Export(export) => export.run(database).await,
        Command::Archive(archive) => archive.run(database).await,
        Command::Compare(compare) => compare.run(database).await,
        Command::Ledgers(ledgers) => ledgers.run(database).await,
        Command::Check(check) => check.run(database).await,
        Command::Reads(reads) => reads.run(database).await,
        Command::Index { action } => action.run(database).await,
        Command::Quarantine { action } => action.run(database).await,
        Command::Migrate(migrate) => migrate.run(database).await,
        Command::Queue(queue) => queue.run(),
        Command::Verify(verify) => verify.run(database).await,
        Command::Checkpoint(checkpoint) => checkpoint.run(database).await,
        Command::Key { action } => action.run(database).await,
        Command::Ledger { action } => action.run(database).await,
        Command::Prove(prove) => prove.run(database).await,
        Command::Bundle(bundle) => bundle.run(database).await,
        Command::Evidence(evidence) => evidence.run(database).await,
        Command::Seal(seal) => seal.run(database).await,
        Command::VerifyProof(proof) => proof.run(),
        Command::VerifyBundle(bundle) => bundle.run(),
        Command::Consistency(consistency) => consistency.run(database).await,
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(self::command()),
    }
}
