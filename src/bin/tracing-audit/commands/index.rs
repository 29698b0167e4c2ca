//! The command `index`: lists, adds and drops indexes.

use clap::Subcommand;
use tracing_audit::{
    AuditQuery, AuditReader, Store,
    index::{Index, IndexOn},
};

use crate::{
    failure::Failure,
    input::{Database, indexed, was_indexed},
    output::{self, Cells, Format, FromDatabase, harmless, print_table_as, remark},
};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// List the indexes: what each serves, its size, and how often PostgreSQL has used it.
    List {
        /// The output format [default: a table on a terminal, JSON Lines elsewhere].
        #[arg(short = 'o', long, value_enum)]
        format: Option<Format>,
    },
    /// Add indexes, unless they exist.
    ///
    /// Services can write meanwhile. In PostgreSQL nothing waits; in SQLite, accepted entries stay in the queue until
    /// the index is complete, about a second for a million entries.
    Add {
        /// The field that the index serves: a column, such as `agent_id` or `action`, or `metadata.PATH`.
        #[arg(required = true, value_name = "FIELD")]
        on: Vec<String>,
        /// Print the SQL instead of running it.
        #[arg(long)]
        print: bool,
    },
    /// Drop indexes that were added on request.
    Drop {
        /// The field that the index serves, as in `index add`.
        #[arg(required = true, value_name = "FIELD")]
        on: Vec<String>,
    },
}

impl Action {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        match self {
            Self::List { format } => {
                database.refuse_exported()?;
                let (logs, mut indexes) = (database.open().await?, Vec::new());
                for log in &logs {
                    let Some(store) = &log.store else { continue };
                    let found = store.indexes().await?;
                    indexes.extend(found.into_iter().map(|index| (log.db(&logs), index)));
                }
                print_indexes(&indexes, format)
            }
            Self::Add { on, print: true } => {
                let (on, store) = (all(&on, indexed)?, database.store()?);
                let statements = on.iter().filter_map(|on| store.index_sql(on));
                statements.map(|sql| [&sql, ";"].concat()).try_for_each(|sql| output::print_line(&sql))
            }
            Self::Add { on, print: false } => {
                let (on, store) = (all(&on, indexed)?, database.store()?);
                database.open_one().await?;
                for on in &on {
                    store.create_index(on).await?;
                }
                tell_altered(database, store).await
            }
            Self::Drop { on } => {
                let (on, store) = (all(&on, was_indexed)?, database.store()?);
                database.open_one().await?;
                for on in &on {
                    store.drop_index(on).await?;
                }
                tell_altered(database, store).await
            }
        }
    }
}

/// Says what is altered in a SQLite file that was just written, above all if its write-ahead log was damaged.
async fn tell_altered(database: &Database, store: Store) -> Result<(), Failure> {
    let db = database.one()?;
    if !db.contains(':') || db.starts_with("sqlite:") {
        let nothing = AuditQuery::new().before_seq(0);
        let coverage = AuditReader::new(store).coverage(nothing, 0).await?;
        coverage.altered.iter().for_each(|told| remark(told));
    }
    Ok(())
}

/// The column or the path in the metadata that each of these names stands for.
fn all(names: &[String], read: fn(&str) -> Result<IndexOn, Failure>) -> Result<Vec<IndexOn>, Failure> {
    names.iter().map(|name| read(name)).collect()
}

fn print_indexes(indexes: &[(Option<&str>, Index)], format: Option<Format>) -> Result<(), Failure> {
    if !Format::is_table(format) {
        return indexes
            .iter()
            .try_for_each(|(db, found)| output::print_json(&FromDatabase { db: *db, found }));
    }
    let row = |(db, index): &(Option<&str>, Index)| {
        let state = match (index.on_request, index.ready) {
            (_, false) => "not ready",
            (true, true) => "on request",
            (false, true) => "",
        };
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        vec![
            harmless(db.unwrap_or_default()).into_owned(),
            harmless(&index.serves).into_owned(),
            state.to_owned(),
            number(index.bytes.map(|bytes| bytes.div_ceil(1024))),
            number(index.scans),
            harmless(&index.name).into_owned(),
        ]
    };
    let columns = [
        ("database", Cells::Cut),
        ("serves", Cells::Cut),
        ("state", Cells::Whole),
        ("KiB", Cells::Whole),
        ("used", Cells::Whole),
        ("name", Cells::Cut),
    ];
    print_table_as(format, &columns, &indexes.iter().map(row).collect::<Vec<_>>())
}
