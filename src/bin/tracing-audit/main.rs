//! Reads an audit log from the command line.

mod conditions;
mod export;
mod lines;
mod period;
mod show;
mod stats;
mod tail;

use std::{error::Error, path::Path, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};
use futures_util::TryStreamExt;
use tracing_audit::{AuditError, AuditReader, AuditWriter, Ledger, Migrate, Store, inspect_journals};
use uuid::Uuid;

use conditions::Conditions;
use show::{Format, Out};

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

#[derive(Args)]
struct Database {
    /// A SQLite file, or the URL of a PostgreSQL database.
    #[arg(long, env = "TRACING_AUDIT_DB", hide_env_values = true, global = true)]
    db: Option<String>,
    /// The schema of the audit tables in a PostgreSQL database.
    #[arg(long, global = true)]
    schema: Option<String>,
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
    /// The database is there and holds no audit log.
    NoLog,
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
            Self::NoLog | Self::Lost(_) | Self::Audit(_) => 3,
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
            Self::NoLog => "the database holds no audit log: another file, schema or database?".to_owned(),
            Self::Output(error) => ["the output cannot be written: ", &error.to_string()].concat(),
            Self::Audit(error) => with_causes(error),
        }
    }
}

impl Database {
    fn store(&self) -> Result<Store, Failure> {
        let Some(db) = self.db.as_deref().filter(|db| !db.is_empty()) else {
            return Err(Failure::Usage("which database? Give --db or set TRACING_AUDIT_DB".to_owned()));
        };
        let kind = db.split_once("://").map(|(kind, _)| kind.to_ascii_lowercase());
        let store = match kind.as_deref() {
            Some("postgres" | "postgresql") => Store::postgres(db)?,
            None if !db.contains("password=") => Store::sqlite(db)?,
            Some("sqlite") => Store::sqlite(db)?,
            // Not repeated: it may hold a password.
            _ => {
                let message = "the database is neither a file nor a URL that begins with postgres://";
                return Err(Failure::Usage(message.to_owned()));
            }
        };
        Ok(match &self.schema {
            Some(schema) => store.schema(schema)?,
            None => store,
        })
    }

    /// A reader of a database that holds a log, and its ledgers.
    async fn open(&self) -> Result<(AuditReader, Vec<Ledger>), Failure> {
        let reader = AuditReader::new(self.store()?);
        let ledgers = reader.ledgers().await?;
        if ledgers.is_empty() {
            return Err(Failure::NoLog);
        }
        Ok((reader, ledgers))
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
            let (reader, ledgers) = database.open().await?;
            let ledgers = conditions.ledgers(&ledgers)?;
            let mut query = conditions.query()?;
            if limit > 0 {
                query = query.limit(limit);
            }
            if format == Some(Format::Csv) {
                if oldest_first {
                    return Err(Failure::Usage("CSV is the latest first".to_owned()));
                }
                show::not_to_a_terminal()?;
                reader.export_csv(query, Out::default()).await?;
                return Ok(());
            }
            if !oldest_first {
                query = query.descending();
            }
            let mut shown = show::Entries::new(format, conditions.period.tz, ledgers.len() > 1);
            let mut together = Vec::new();
            for ledger in &ledgers {
                let mut entries = std::pin::pin!(reader.stream(query.clone().ledger(ledger)));
                while let Some(entry) = entries.try_next().await? {
                    if ledgers.len() > 1 && limit > 0 {
                        together.push(entry);
                    } else {
                        shown.add(&entry)?;
                    }
                }
            }
            // Of several ledgers, in the order of time.
            together.sort_by_key(|found| found.entry.ts);
            if !oldest_first {
                together.reverse();
            }
            together.iter().take(limit as usize).try_for_each(|entry| shown.add(entry))?;
            shown.end()
        }
        Command::Get { id } => {
            let (reader, _) = database.open().await?;
            let found = reader.get(id).await?;
            if found.is_empty() {
                return Err(Failure::NotFound(["no entry has the id ", &id.to_string()].concat()));
            }
            found.iter().try_for_each(show::whole)
        }
        Command::Tail(tail) => tail.run(database).await,
        Command::Stats(stats) => stats.run(database).await,
        Command::Export(export) => export.run(database).await,
        Command::Ledgers => {
            let (_, ledgers) = database.open().await?;
            show::ledgers(&ledgers)
        }
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
            let (reader, _) = database.open().await?;
            show::quarantined(&reader.quarantined().await?)
        }
        Quarantine::Export => {
            let (reader, _) = database.open().await?;
            show::not_to_a_terminal()?;
            reader.export_quarantined(Out::default()).await?;
            Ok(())
        }
        Quarantine::Retry { ledger } => {
            let (_, ledgers) = database.open().await?;
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
    let is_new = database.db.as_deref().is_some_and(|db| !db.contains(':') && !Path::new(db).exists());
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
