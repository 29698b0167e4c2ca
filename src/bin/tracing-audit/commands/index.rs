//! The indexes: which there are, and those on request.

use clap::Subcommand;
use tracing_audit::{Index, IndexOn};

use crate::{
    failure::Failure,
    input::Database,
    output::{self, Cells, Of, harmless, without_first_if_empty},
};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// What each serves, its size, and how often PostgreSQL has used it.
    List,
    /// Makes indexes, unless they are there. Whoever writes meanwhile is not stopped in PostgreSQL; in SQLite what is
    /// accepted waits, about a second for a million entries.
    Add {
        /// `agent_id`, `action`, another column, or `metadata.PATH`.
        #[arg(required = true, value_name = "FIELD")]
        on: Vec<IndexOn>,
        /// Print the SQL instead, for whoever runs it by hand.
        #[arg(long)]
        print: bool,
    },
    /// Drops indexes that were made on request.
    Drop {
        /// As in `add`.
        #[arg(required = true, value_name = "FIELD")]
        on: Vec<IndexOn>,
    },
}

impl Action {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        match self {
            Self::List => {
                let (logs, mut indexes) = (database.open().await?, Vec::new());
                for log in &logs {
                    let of = log.reader.indexes().await?;
                    indexes.extend(of.into_iter().map(|index| (log.db(&logs), index)));
                }
                show(&indexes)
            }
            Self::Add { on, print: true } => {
                let store = database.store()?;
                let statements = on.iter().filter_map(|on| store.index_sql(on));
                statements.map(|sql| [&sql, ";"].concat()).try_for_each(|sql| output::line(&sql))
            }
            Self::Add { on, print: false } => {
                database.open_one().await?;
                let store = database.store()?;
                for on in &on {
                    store.create_index(on).await?;
                }
                Ok(())
            }
            Self::Drop { on } => {
                database.open_one().await?;
                let store = database.store()?;
                for on in &on {
                    store.drop_index(on).await?;
                }
                Ok(())
            }
        }
    }
}

fn show(indexes: &[(Option<&str>, Index)]) -> Result<(), Failure> {
    if !output::on_terminal() {
        return indexes.iter().try_for_each(|(db, found)| output::json(&Of { db: *db, found }));
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
        ("", Cells::Cut),
        ("serves", Cells::Cut),
        ("", Cells::Whole),
        ("KiB", Cells::Whole),
        ("used", Cells::Whole),
        ("name", Cells::Cut),
    ];
    without_first_if_empty(&columns, &indexes.iter().map(row).collect::<Vec<_>>())
}
