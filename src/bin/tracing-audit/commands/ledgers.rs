//! The command `ledgers`: lists the ledgers.

use clap::Args;
use tracing_audit::reader::Ledger;

use crate::{
    failure::Failure,
    input::{Database, Log},
    output::{self, Cells, Format, FromDatabase, harmless, print_table_as, shown_time},
    zone::Zone,
};

#[derive(Args)]
pub(crate) struct Ledgers {
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
}

impl Ledgers {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let logs = database.open().await?;
        let all = || logs.iter().flat_map(|log| log.ledgers.iter().map(move |ledger| (log, ledger)));
        if !Format::is_table(self.format) {
            return all()
                .try_for_each(|(log, found)| output::print_json(&FromDatabase { db: log.db(&logs), found }));
        }
        let row = |(log, one): (&Log, &Ledger)| {
            let last = one.last_committed_at.map(|last| shown_time(last, Zone::Utc));
            vec![
                harmless(log.db(&logs).unwrap_or_default()).into_owned(),
                harmless(&one.name).into_owned(),
                one.next_seq.to_string(),
                last.unwrap_or_default(),
            ]
        };
        let columns = [
            ("database", Cells::Cut),
            ("ledger", Cells::Cut),
            ("next seq", Cells::Whole),
            ("last committed", Cells::Whole),
        ];
        print_table_as(self.format, &columns, &all().map(row).collect::<Vec<_>>())
    }
}
