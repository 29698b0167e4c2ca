//! Reads an audit log from the command line.

mod commands;
mod input;
mod output;

use std::{cmp::Reverse, error::Error, path::Path, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use futures_util::TryStreamExt;
use tracing_audit::{AuditError, AuditReader, AuditWriter, Migrate, inspect_journals};
use uuid::Uuid;

use commands::{export, index, stats, tail};
use input::{
    conditions::{self, Conditions},
    database::{Database, Source, sources},
    period::Period,
};
use output::show::{self, Format, Out};

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
    Query {
        #[command(flatten)]
        conditions: Conditions,
        /// The earliest first.
        #[arg(long)]
        oldest_first: bool,
        /// At most this many; 0 for all, which come ledger by ledger.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Default: a table on a terminal, JSON Lines elsewhere.
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Shows all there is about the entry with this id.
    Get { id: Uuid },
    /// Shows the entries that match in the order of their commit.
    Tail(tail::Tail),
    /// Counts the entries that match.
    Stats(stats::Stats),
    /// Writes the entries that match to a file, which appears when it is complete.
    Export(export::Export),
    /// Lists the ledgers, and when each was written last.
    Ledgers,
    /// Shows who read the log, where that was recorded (see --as), the latest first.
    Reads {
        #[command(flatten)]
        period: Period,
        /// At most this many of each database.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Lists the indexes, or makes or drops one on request.
    Index {
        #[command(subcommand)]
        action: index::Action,
    },
    /// What the database refused for good.
    Quarantine {
        #[command(subcommand)]
        action: Quarantine,
    },
    /// Creates the tables or brings them up to date.
    Migrate {
        /// Print the SQL instead, for whoever runs it by hand.
        #[arg(long)]
        print: bool,
        /// The ledger that is begun if there is none.
        #[arg(long, default_value = "main")]
        ledger: String,
    },
    /// Shows the journals in a directory: what was accepted and is not in the database yet.
    Queue {
        /// For `audit.db` it is `audit.db.queue`.
        directory: std::path::PathBuf,
    },
    /// Prints completions for a shell.
    Completions { shell: clap_complete::Shell },
    /// Prints the manual page.
    Man,
}

#[derive(Subcommand)]
enum Quarantine {
    /// A line for each entry.
    List,
    /// All of it as JSON Lines.
    Export,
    /// Tries to add each entry to its ledger again.
    Retry {
        /// The ledger. Default: the only one.
        #[arg(long)]
        ledger: Option<String>,
    },
}

/// Why the command ends without success.
enum Failure {
    /// There is no such entry.
    NotFound(String),
    /// What was asked for makes no sense.
    Usage(String),
    Output(std::io::Error),
    /// This database is there and holds no audit log.
    NoLog(String),
    /// The ledger does not hold what it held.
    Lost(String),
    Audit(AuditError),
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::Audit(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 1,
            Self::Usage(_) => 2,
            Self::Audit(error) if error.is_query() || error.is_config() || error.is_cursor() => 2,
            Self::Audit(error) if error.is_output() => 4,
            Self::NoLog(_) | Self::Lost(_) | Self::Audit(_) => 3,
            Self::Output(_) => 4,
        }
    }

    fn tell(&self) {
        anstream::eprintln!("tracing-audit: {}", show::harmless(&self.message()));
    }

    fn message(&self) -> String {
        let with_causes = |error: &dyn Error| {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                let cause_says = cause.to_string();
                // Some repeat what they are caused by.
                if !message.contains(&cause_says) {
                    message.extend([": ", &cause_says]);
                }
                source = cause.source();
            }
            message
        };
        match self {
            Self::NotFound(message) | Self::Usage(message) | Self::Lost(message) => message.clone(),
            Self::NoLog(db) => {
                format!("the database holds no audit log: {db}. Another file, schema or database?")
            }
            Self::Output(error) => ["the output cannot be written: ", &error.to_string()].concat(),
            Self::Audit(error) => with_causes(error),
        }
    }
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
            failure.tell();
            failure.code().into()
        }
    }
}

async fn run(database: &Database, command: Command) -> Result<(), Failure> {
    match command {
        Command::Query { conditions, oldest_first, limit, format } => {
            let logs = database.open().await?;
            let sources = sources(&logs, &conditions)?;
            let mut query = conditions.query()?;
            for log in &logs {
                show::tell_if_it_scans(&query, &log.ledgers);
            }
            if limit > 0 {
                query = query.limit(limit);
            }
            if format == Some(Format::Csv) {
                if oldest_first {
                    return Err(Failure::Usage("CSV is the latest first".to_owned()));
                }
                database.one()?;
                show::not_to_a_terminal()?;
                for Source { reader, .. } in sources.iter().take(1) {
                    reader.export_csv(query.clone(), Out::default()).await?;
                }
                return Ok(());
            }
            if !oldest_first {
                query = query.descending();
            }
            let mut shown = show::Entries::new(format, conditions.period.tz);
            let mut together = Vec::new();
            for source in &sources {
                let mut entries = std::pin::pin!(source.reader.stream(query.clone().ledger(&source.ledger)));
                while let Some(entry) = entries.try_next().await? {
                    if sources.len() > 1 && limit > 0 {
                        together.push((entry, source));
                    } else {
                        shown.add(&entry, source.db, &source.label)?;
                    }
                }
            }
            // Of several ledgers, in the order of time.
            if oldest_first {
                together.sort_by_key(|(found, _)| found.entry.ts);
            } else {
                together.sort_by_key(|(found, _)| Reverse(found.entry.ts));
            }
            let mut together = together.iter().take(limit as usize);
            together.try_for_each(|(entry, source)| shown.add(entry, source.db, &source.label))?;
            shown.end()
        }
        Command::Get { id } => {
            let (logs, mut found) = (database.open().await?, Vec::new());
            for log in &logs {
                found.extend(log.reader.get(id).await?.into_iter().map(|found| (log.db(&logs), found)));
            }
            if found.is_empty() {
                return Err(Failure::NotFound(["no entry has the id ", &id.to_string()].concat()));
            }
            found.iter().try_for_each(|(db, found)| show::whole(*db, found))
        }
        Command::Tail(tail) => tail.run(database).await,
        Command::Stats(stats) => stats.run(database).await,
        Command::Export(export) => export.run(database).await,
        Command::Ledgers => show::ledgers(&database.open().await?),
        Command::Reads { period, limit } => {
            let (range, logs, mut reads) = (period.range()?, database.open().await?, Vec::new());
            for log in &logs {
                let of = log.reader.reads(range, limit).await?;
                reads.extend(of.into_iter().map(|read| (log.db(&logs), read)));
            }
            reads.sort_by_key(|(_, read)| Reverse(read.at));
            show::reads(&reads, period.tz)
        }
        Command::Index { action } => action.run(database).await,
        Command::Quarantine { action } => quarantine(database, action).await,
        Command::Migrate { print, ledger } => migrate(database, print, ledger).await,
        Command::Queue { directory } => show::journals(&inspect_journals(&directory)?),
        Command::Completions { shell } => {
            let mut bytes = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tracing-audit", &mut bytes);
            Ok(std::io::Write::write_all(&mut Out::default(), &bytes)?)
        }
        Command::Man => {
            let mut bytes = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut bytes)?;
            Ok(std::io::Write::write_all(&mut Out::default(), &bytes)?)
        }
    }
}

async fn quarantine(database: &Database, action: Quarantine) -> Result<(), Failure> {
    match action {
        Quarantine::List => {
            let mut found = Vec::new();
            for log in database.open().await? {
                found.extend(log.reader.quarantined().await?);
            }
            show::quarantined(&found)
        }
        Quarantine::Export => {
            let (reader, _) = database.open_one().await?;
            show::not_to_a_terminal()?;
            reader.export_quarantined(Out::default()).await?;
            Ok(())
        }
        Quarantine::Retry { ledger } => {
            let (_, ledgers) = database.open_one().await?;
            let ledger = conditions::one_of(ledger.as_ref(), &ledgers)?;
            let log = log(database, &ledger, Migrate::Check).await?;
            let writer: AuditWriter = log.writer();
            let readmitted = writer.retry_quarantined().await?;
            show::line(&format!("{} committed, {} refused again", readmitted.committed, readmitted.refused))
        }
    }
}

async fn migrate(database: &Database, print: bool, ledger: String) -> Result<(), Failure> {
    if print {
        let script = |migration: tracing_audit::Migration| {
            ["-- Version ", &migration.version.to_string(), "\n", &migration.sql].concat()
        };
        return database.store()?.migrations().into_iter().map(script).try_for_each(|sql| show::line(&sql));
    }
    // Where there is one, none is begun.
    let store = database.store()?;
    let db = database.one()?;
    let is_new = !db.contains(':') && !Path::new(db).exists();
    let there = if is_new { Vec::new() } else { AuditReader::new(store).ledgers().await? };
    let ledger = there.into_iter().next().map_or(ledger, |there| there.ledger);
    log(database, &ledger, Migrate::Auto).await.map(drop)
}

/// A log that nothing is written to.
async fn log(
    database: &Database,
    ledger: &str,
    migrate: Migrate,
) -> Result<tracing_audit::AuditLog, Failure> {
    let store = database.store()?.migrate(migrate);
    let builder = tracing_audit::AuditLog::builder().store(store).ledger(ledger).in_memory_queue(1, 1 << 20);
    Ok(builder.on_notice(|_| {}).open().await?)
}
