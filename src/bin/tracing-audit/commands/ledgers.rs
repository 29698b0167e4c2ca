//! The command `ledgers`: lists the ledgers.

use chrono_tz::Tz;
use tracing_audit::reader::Ledger;

use crate::{
    failure::Failure,
    input::{Database, Log},
    output::{self, Cells, FromDatabase, harmless, print_table, shown_time},
};

pub(crate) async fn list_ledgers(database: &Database) -> Result<(), Failure> {
    let logs = database.open().await?;
    let several = logs.len() > 1;
    let all = || logs.iter().flat_map(|log| log.ledgers.iter().map(move |ledger| (log, ledger)));
    if !output::is_terminal() {
        return all().try_for_each(|(log, found)| {
            output::print_json(&FromDatabase { db: several.then_some(&*log.name), found })
        });
    }
    let row = |(log, one): (&Log, &Ledger)| {
        let last = one.last_committed_at.map(|last| shown_time(last, Tz::UTC));
        let rest = [harmless(&one.name).into_owned(), one.next_seq.to_string(), last.unwrap_or_default()];
        several.then(|| harmless(&log.name).into_owned()).into_iter().chain(rest).collect()
    };
    let columns = [("ledger", Cells::Cut), ("entries", Cells::Whole), ("last committed", Cells::Whole)];
    let columns: Vec<_> = several.then_some(("database", Cells::Cut)).into_iter().chain(columns).collect();
    print_table(&columns, &all().map(row).collect::<Vec<_>>())
}
