//! Opens the databases of `--db`, and selects their ledgers.

use std::{
    cell::{OnceCell, RefCell},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tracing_audit::{AuditLog, AuditReader, Store, migrate::Migrate, reader::Ledger};

use super::{
    conditions::Conditions,
    copies::refuse_copies,
    exported,
    files::{decoded, directory_of, expanded, own_file_of, own_files, refuse_twins, without_secrets},
    recorded::{is_in_command_line, visible_name},
};
use crate::{
    failure::Failure,
    output::{TemporaryDirectory, at_end_of_links, remark_altered, stdout_place},
};

#[derive(Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct Database {
    /// A SQLite file, the postgres:// URL of a PostgreSQL database, or an exported file of JSON Lines.
    ///
    /// An exported file (also compressed, also a copy that tail -o made, also a pipe) is one whose name ends with .jsonl,
    /// .jsonl.gz or .jsonl.zst, or that begins as one. Its lines are checked, and its bytes against FILE.manifest.json if that exists;
    /// if anything is wrong, nothing is answered. While it is read, its entries are in a temporary database, which needs
    /// as much room as the file without compression.
    ///
    /// In the name of a file, * stands for any text: 'audit-*.db' are the files of all periods of a log, the earliest first.
    ///
    /// May be repeated: query, get, stats, ledgers, reads, check, index list and quarantine list then answer for all the
    /// databases. Two copies of one log are refused where their entries would count twice.
    #[arg(long, env = "TRACING_AUDIT_DB", hide_env_values = true, global = true, value_name = "FILE_OR_URL")]
    db: Vec<String>,
    /// The manifest of the exported file [default: FILE.manifest.json, if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    db_manifest: Option<PathBuf>,
    /// The schema of the audit tables in a PostgreSQL database.
    #[arg(long, global = true)]
    schema: Option<String>,
    /// Your name, under which each read is recorded in the database; the command `reads` shows the record.
    ///
    /// A read that cannot be recorded is not answered. Commands that show no entries, such as ledgers, check, checkpoint and
    /// reads, are not recorded: they refuse this option, and pass over the variable.
    #[arg(
        long = "as",
        env = "TRACING_AUDIT_AS",
        value_name = "NAME",
        global = true,
        value_parser = visible_name
    )]
    recorded_as: Option<String>,
    /// The databases that were named, with the files for which a `*` stands.
    #[arg(skip)]
    named: OnceCell<Vec<String>>,
    /// Where the entries of exported files are, until the command ends.
    #[arg(skip)]
    places: RefCell<Vec<TemporaryDirectory>>,
    /// The databases that are exported files.
    #[arg(skip)]
    exported: OnceCell<Vec<String>>,
}

const IN_PROCESS_LIST: &str = "the URL in --db has a password, which whoever lists the processes of this machine can read: \
                               set TRACING_AUDIT_DB to the URL instead, or set PGPASSWORD, or write it to ~/.pgpass";

/// Whether this URL of a PostgreSQL database has a password.
fn names_password(url: &str) -> bool {
    let (address, settings) = url.split_once('?').unwrap_or((url, ""));
    let user = address.rsplit_once('@').map_or("", |(user, _)| user);
    let has_password = user.rsplit_once("://").is_some_and(|(_, user)| user.contains(':'));
    let names = settings.split('&').map(|setting| setting.split_once('=').map_or(setting, |(name, _)| name));
    has_password || names.map(decoded).any(|name| name == "password")
}

/// A database that holds an audit log, or one ledger of an exported file.
pub(crate) struct Log {
    /// The file, or the URL without its secrets.
    pub(crate) name: String,
    /// `None` for an exported file.
    pub(crate) store: Option<Store>,
    /// Whether it is an exported file that was not asked for all entries, as its manifest or the file beside a copy says.
    pub(crate) is_part: bool,
    pub(crate) reader: AuditReader,
    pub(crate) ledgers: Vec<Ledger>,
}

impl Log {
    /// A reader whose reads are not recorded: for what is looked at and not shown.
    pub(crate) fn unrecorded(&self) -> AuditReader {
        self.store.clone().map_or_else(|| self.reader.clone(), AuditReader::new)
    }

    /// The database's name, if `all` are several.
    pub(crate) fn db(&self, all: &[Self]) -> Option<&str> {
        let is_only = |other: &Self| other.store.is_none() && other.name == self.name;
        (all.len() > 1 && !all.iter().all(is_only)).then_some(&*self.name)
    }
}

/// A ledger of one of the databases.
pub(crate) struct Source<'a> {
    pub(crate) reader: &'a AuditReader,
    pub(crate) ledger: String,
    /// The database's name, if several are asked.
    pub(crate) db: Option<&'a str>,
    /// The prefix of a `seq` in a table; empty if only one ledger is asked.
    pub(crate) label: String,
}

impl Database {
    /// The database, for a command that takes only one.
    pub(crate) fn one(&self) -> Result<&str, Failure> {
        match self.named()?.as_slice() {
            [one] => Ok(one),
            _ => Err(Failure::Usage("this command takes one --db at a time".to_owned())),
        }
    }

    /// The kind of database.
    pub(crate) fn kind(&self) -> Result<&'static str, Failure> {
        let db = self.one()?;
        Ok(match own_files(db) {
            _ if self.is_exported(db) => "an exported file",
            Some(_) => "SQLite",
            None => "PostgreSQL",
        })
    }

    /// Whether this one of the databases is an exported file. The first call looks into all of them, before any is opened: to
    /// look into a file that SQLite has open, and to close it, would give up the locks of this process on it.
    fn is_exported(&self, db: &str) -> bool {
        let is_one = |db: &&String| exported::is_exported(db);
        let all = self.exported.get_or_init(|| self.all().iter().filter(is_one).cloned().collect());
        all.iter().any(|one| one == db)
    }

    /// The databases that were named, with the files for which a `*` stands.
    fn all(&self) -> &[String] {
        self.named.get_or_init(|| self.db.iter().flat_map(|db| expanded(db)).collect())
    }

    fn named(&self) -> Result<Vec<&str>, Failure> {
        let named: Vec<_> = self.all().iter().map(String::as_str).filter(|db| !db.is_empty()).collect();
        // clap replaces the values before the command's name by those after it.
        let given = std::env::args_os()
            .filter(|word| word == "--db" || word.as_encoded_bytes().starts_with(b"--db="));
        if given.count() > self.db.len() {
            let message = "give all --db options on the same side of the command's name";
            return Err(Failure::Usage(message.to_owned()));
        }
        if named.is_empty() {
            return Err(Failure::Usage("which database? Give --db, or set TRACING_AUDIT_DB".to_owned()));
        }
        refuse_twins(&named)?;
        Ok(named)
    }

    /// Refuses a name in the command line, for a command whose use is not recorded. The variable is for all commands.
    pub(crate) fn refuse_name(&self) -> Result<(), Failure> {
        if self.recorded_as.is_none() || !is_in_command_line() {
            return Ok(());
        }
        let message = "this command shows no entries, and its use is not recorded: leave out --as";
        Err(Failure::Usage(message.to_owned()))
    }

    pub(crate) fn store(&self) -> Result<Store, Failure> {
        self.refuse_exported()?;
        self.store_of(self.one()?)
    }

    /// Refuses exported files, for a command that needs more than entries.
    pub(crate) fn refuse_exported(&self) -> Result<(), Failure> {
        match self.named()?.into_iter().find(|db| self.is_exported(db)) {
            None => Ok(()),
            Some(db) => Err(Failure::Usage(format!(
                "{db} is an exported file, which has entries that do not become more, and nothing else: give a database, \
                 or use query, get, stats, tail, export, ledgers, check or compare"
            ))),
        }
    }

    /// Refuses to write to a file of the databases, under whatever name, and to any in the queue beside one of them.
    pub(crate) fn refuse_output(&self, path: &Path) -> Result<(), Failure> {
        own_file_of(&self.named()?, path).map_or(Ok(()), |own| Err(would_destroy(path, &own)))
    }

    /// Refuses to read a file of the databases for something else, under whatever name. An exported file may be read twice.
    pub(crate) fn refuse_input(&self, path: &Path) -> Result<(), Failure> {
        let mut databases = self.named()?;
        databases.retain(|db| !self.is_exported(db));
        let Some(own) = own_file_of(&databases, path) else { return Ok(()) };
        let (path, own) = (path.display(), own.display());
        Err(Failure::Usage(format!(
            "{path} is a file of the audit database ({own}): name the file that was made of it"
        )))
    }

    /// The directory of a database, if SQLite finds no other one for temporary files, which it needs for sorting.
    #[cfg(unix)]
    pub(crate) fn temporary_directory(&self) -> Option<PathBuf> {
        use rustix::fs::{Access, access};
        let may_write =
            |place: &Path| place.is_dir() && access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        let set = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os);
        let known = ["/var/tmp", "/usr/tmp", "/tmp", "."].map(Into::into);
        if set.chain(known).any(|place| may_write(Path::new(&place))) {
            return None;
        }
        let files = self.all().iter().filter_map(|db| own_files(db)?.into_iter().next());
        files.filter_map(|file| directory_of(&at_end_of_links(&file))).find(|place| may_write(place))
    }

    /// The file of a SQLite database, for a command that takes one of these.
    pub(crate) fn sqlite_file(&self) -> Result<PathBuf, Failure> {
        self.refuse_exported()?;
        let file = own_files(self.one()?).and_then(|files| files.into_iter().next());
        file.ok_or_else(|| {
            let message = "this command takes a SQLite file, which has one ledger, and no database in which others are too";
            Failure::Usage(message.to_owned())
        })
    }

    /// The files that a database of this name has or may have; `None` for a server.
    pub(crate) fn own_files_of(db: &str) -> Option<Vec<PathBuf>> {
        own_files(db)
    }

    /// A reader of the database, for a command that takes only one and looks itself at what it holds.
    pub(crate) fn reader(&self) -> Result<AuditReader, Failure> {
        let reader = AuditReader::new(self.store()?);
        Ok(match &self.recorded_as {
            Some(name) => reader.recorded_as(name),
            None => reader,
        })
    }

    /// The name under which reads are recorded.
    pub(crate) fn reads_as(&self) -> Option<&str> {
        self.recorded_as.as_deref()
    }

    pub(crate) fn store_of(&self, db: &str) -> Result<Store, Failure> {
        let kind = db.split_once("://").map(|(kind, _)| kind.to_ascii_lowercase());
        match kind.as_deref() {
            Some("postgres" | "postgresql") => {
                let postgres = Store::postgres(db)?;
                if names_password(db) && std::env::args().any(|argument| argument.contains(db)) {
                    return Err(Failure::Usage(IN_PROCESS_LIST.to_owned()));
                }
                Ok(match &self.schema {
                    Some(schema) => postgres.schema(schema)?.into(),
                    None => postgres.into(),
                })
            }
            Some("sqlite") | None if self.schema.is_some() => {
                Err(Failure::Usage("only a PostgreSQL database has schemas".to_owned()))
            }
            None if !db.contains("password=") => Ok(Store::sqlite(db)?),
            Some("sqlite") => Ok(Store::sqlite(db)?),
            // The message does not repeat the value: it may hold a password.
            _ => {
                let message = "the database must be a SQLite file, or a URL that begins with postgres://";
                Err(Failure::Usage(message.to_owned()))
            }
        }
    }

    /// A log to which this command emits no entries. It must be [ended](end_log): otherwise its writer counts as silent. Says
    /// what it finds altered.
    pub(crate) async fn open_log(&self, ledger: &str, migrate: Migrate) -> Result<AuditLog, Failure> {
        let store = self.store()?.migrate(migrate);
        let builder = AuditLog::builder().store(store).ledger(ledger).in_memory_queue().queue_max_entries(1);
        Ok(builder.on_notice(remark_altered).open().await?)
    }

    /// Opens every database that is named. Each must hold an audit log.
    pub(crate) async fn open(&self) -> Result<Vec<Log>, Failure> {
        let mut logs = Vec::new();
        for db in self.named()? {
            logs.extend(self.open_named(db).await?);
        }
        Ok(logs)
    }

    /// Opens every database that is named, for an answer of all of them together: copies of one log are refused.
    pub(crate) async fn open_distinct(&self) -> Result<Vec<Log>, Failure> {
        let logs = self.open().await?;
        let given: Vec<_> =
            logs.iter().map(|log| (&*log.name, log.unrecorded(), log.ledgers.as_slice())).collect();
        refuse_copies(&given).await?;
        drop(given);
        Ok(logs)
    }

    /// Opens the database, for a command that takes only one.
    pub(crate) async fn open_one(&self) -> Result<Log, Failure> {
        self.open_one_with(None).await
    }

    /// Opens the database that has this ledger, for a command that takes only one.
    pub(crate) async fn open_one_with(&self, ledger: Option<&str>) -> Result<Log, Failure> {
        let db = self.one()?;
        let mut logs = self.open_named(db).await?;
        // Each ledger of an exported file is a log of its own.
        let has = |log: &Log| log.ledgers.iter().any(|one| Some(&*one.name) == ledger);
        let place = if logs.len() > 1 { logs.iter().position(has) } else { Some(0) };
        match place {
            Some(place) if place < logs.len() => Ok(logs.swap_remove(place)),
            _ => {
                let names: Vec<_> = logs.iter().flat_map(|log| &log.ledgers).map(|one| &*one.name).collect();
                Err(Failure::Usage(format!(
                    "{db} has entries of several ledgers: choose one with --ledger: {}",
                    names.join(", ")
                )))
            }
        }
    }

    /// The ledgers of an exported file, each as a log.
    async fn open_exported(&self, db: &str) -> Result<Vec<Log>, Failure> {
        if self.recorded_as.is_some() {
            return Err(Failure::Usage(format!(
                "{db} is an exported file, in which no read can be recorded: leave out --as, and unset TRACING_AUDIT_AS"
            )));
        }
        let place = TemporaryDirectory::new().map_err(|error| {
            Failure::Lost(format!("no temporary directory can be made for {db}: {error}. Name one by TMPDIR"))
        })?;
        let opened = exported::open(Path::new(db), self.db_manifest.as_deref(), &place).await;
        self.places.borrow_mut().push(place);
        let mut logs = Vec::new();
        let (readers, is_part) = opened?;
        for reader in readers {
            let ledgers = reader.ledgers().await?;
            logs.push(Log { name: db.to_owned(), store: None, is_part, reader, ledgers });
        }
        Ok(logs)
    }

    async fn open_named(&self, db: &str) -> Result<Vec<Log>, Failure> {
        let stdout = stdout_place();
        let is_stdout = |own: &PathBuf| stdout.is_some_and(|stdout| stdout.is_of(own));
        if let Some(own) = own_files(db).into_iter().flatten().find(is_stdout) {
            return Err(would_destroy(Path::new("standard output"), &own));
        }
        if self.is_exported(db) {
            return self.open_exported(db).await;
        }
        if self.db_manifest.is_some() {
            let message = format!("{db} is no exported file, and only such a file has a manifest");
            return Err(Failure::Usage(message));
        }
        let store = self.store_of(db)?;
        let reader = AuditReader::new(store.clone());
        let reader = match &self.recorded_as {
            Some(name) => reader.recorded_as(name),
            None => reader,
        };
        let ledgers = reader.ledgers().await?;
        if ledgers.is_empty() {
            return Err(Failure::NoLog(without_secrets(db)));
        }
        Ok(vec![Log { name: without_secrets(db), store: Some(store), is_part: false, reader, ledgers }])
    }
}

/// Ends a log, so that the ledger knows that its writer has ended.
pub(crate) async fn end_log(log: &AuditLog) -> Result<(), Failure> {
    const DEADLINE: Duration = Duration::from_secs(30);
    drop(log.shutdown(DEADLINE).await?);
    Ok(())
}

/// The ledgers that the conditions select, of all the databases.
pub(crate) fn sources<'a>(logs: &'a [Log], conditions: &Conditions) -> Result<Vec<Source<'a>>, Failure> {
    let all: Vec<Ledger> = logs.iter().flat_map(|log| log.ledgers.clone()).collect();
    let asked = conditions.ledgers(&all)?;
    let mut sources = Vec::new();
    for log in logs {
        for ledger in log.ledgers.iter().filter(|ledger| asked.contains(&ledger.name)) {
            let of_log: usize =
                logs.iter().filter(|other| other.name == log.name).map(|other| other.ledgers.len()).sum();
            let name = (of_log > 1).then_some(&*ledger.name);
            let label = [log.db(logs), name].into_iter().flatten().map(|part| [part, "/"].concat()).collect();
            sources.push(Source {
                reader: &log.reader,
                ledger: ledger.name.clone(),
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

fn would_destroy(path: &Path, own: &Path) -> Failure {
    Failure::Usage(format!(
        "{} is a file of the audit database ({}), which the output would destroy: name another file",
        path.display(),
        own.display()
    ))
}
