//! Which databases: one, or several that are asked one after the other.

use clap::Args;
use tracing_audit::{AuditLog, AuditReader, Ledger, Migrate, Store};

use super::conditions::Conditions;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Database {
    /// A SQLite file, or the URL of a PostgreSQL database. Several times: query, get, stats, ledgers, quarantine list,
    /// index list and reads answer of all.
    #[arg(long, env = "TRACING_AUDIT_DB", hide_env_values = true, global = true)]
    db: Vec<String>,
    /// The schema of the audit tables in a PostgreSQL database.
    #[arg(long, global = true)]
    schema: Option<String>,
    /// Who reads: each read is recorded in the database under this name, which `reads` shows. What cannot be recorded is
    /// not answered.
    #[arg(long = "as", env = "TRACING_AUDIT_AS", value_name = "NAME", global = true)]
    recorded_as: Option<String>,
}

/// A database that holds a log.
pub(crate) struct Log {
    /// Tells it from others.
    pub(crate) name: String,
    pub(crate) reader: AuditReader,
    pub(crate) ledgers: Vec<Ledger>,
}

impl Log {
    /// Its name, if there are several.
    pub(crate) fn db(&self, all: &[Self]) -> Option<&str> {
        (all.len() > 1).then_some(&*self.name)
    }
}

/// A ledger of one of them.
pub(crate) struct Source<'a> {
    pub(crate) reader: &'a AuditReader,
    pub(crate) ledger: String,
    /// The database, if there are several.
    pub(crate) db: Option<&'a str>,
    /// What stands before a seq; empty if there is only one ledger.
    pub(crate) label: String,
}

impl Database {
    /// The one that is named.
    pub(crate) fn one(&self) -> Result<&str, Failure> {
        match self.named()?.as_slice() {
            [one] => Ok(one),
            _ => Err(Failure::Usage("this is done with one --db at a time".to_owned())),
        }
    }

    fn named(&self) -> Result<Vec<&str>, Failure> {
        let named: Vec<_> = self.db.iter().map(String::as_str).filter(|db| !db.is_empty()).collect();
        // Those before the command's name are replaced by those after it.
        let given = std::env::args_os()
            .filter(|word| word == "--db" || word.as_encoded_bytes().starts_with(b"--db="));
        if given.count() > self.db.len() {
            let message = "give every --db on the same side of the command's name";
            return Err(Failure::Usage(message.to_owned()));
        }
        if named.is_empty() {
            return Err(Failure::Usage("which database? Give --db or set TRACING_AUDIT_DB".to_owned()));
        }
        Ok(named)
    }

    pub(crate) fn store(&self) -> Result<Store, Failure> {
        self.store_of(self.one()?)
    }

    fn store_of(&self, db: &str) -> Result<Store, Failure> {
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

    /// A log that nothing is written to.
    pub(crate) async fn open_log(&self, ledger: &str, migrate: Migrate) -> Result<AuditLog, Failure> {
        let store = self.store()?.migrate(migrate);
        let builder = AuditLog::builder().store(store).ledger(ledger).in_memory_queue(1, 1 << 20);
        Ok(builder.on_notice(|_| {}).open().await?)
    }

    fn reader(&self, store: Store) -> AuditReader {
        let reader = AuditReader::new(store);
        match &self.recorded_as {
            Some(name) => reader.recorded_as(name),
            None => reader,
        }
    }

    /// All that are named, each of which holds a log.
    pub(crate) async fn open(&self) -> Result<Vec<Log>, Failure> {
        let mut logs = Vec::new();
        for db in self.named()? {
            let reader = self.reader(self.store_of(db)?);
            let ledgers = reader.ledgers().await?;
            if ledgers.is_empty() {
                return Err(Failure::NoLog(shown(db)));
            }
            logs.push(Log { name: shown(db), reader, ledgers });
        }
        Ok(logs)
    }

    /// The only one that is named.
    pub(crate) async fn open_one(&self) -> Result<(AuditReader, Vec<Ledger>), Failure> {
        self.one()?;
        let log = self.open().await?.pop();
        // There is one.
        log.map(|log| (log.reader, log.ledgers)).ok_or_else(|| Failure::NoLog(String::new()))
    }
}

/// The ledgers that are asked, of all these databases.
pub(crate) fn sources<'a>(logs: &'a [Log], conditions: &Conditions) -> Result<Vec<Source<'a>>, Failure> {
    let all: Vec<Ledger> = logs.iter().flat_map(|log| log.ledgers.clone()).collect();
    let asked = conditions.ledgers(&all)?;
    let mut sources = Vec::new();
    for log in logs {
        for ledger in log.ledgers.iter().filter(|ledger| asked.contains(&ledger.ledger)) {
            let name = (log.ledgers.len() > 1).then_some(&*ledger.ledger);
            let label = [log.db(logs), name].into_iter().flatten().map(|part| [part, "/"].concat()).collect();
            sources.push(Source {
                reader: &log.reader,
                ledger: ledger.ledger.clone(),
                db: log.db(logs),
                label,
            });
        }
    }
    if let [only] = sources.as_mut_slice() {
        only.label.clear();
    }
    Ok(sources)
}

/// Its name without what may be secret.
fn shown(db: &str) -> String {
    let Some((_, rest)) = db.split_once("://") else { return db.to_owned() };
    let rest = rest.split_once(['?', '#']).map_or(rest, |(rest, _)| rest);
    rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).to_owned()
}
