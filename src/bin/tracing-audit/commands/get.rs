//! The command `get`: shows one entry, field by field.

use std::io;

use anstyle::Style;
use clap::Args;
use futures_util::TryStreamExt;
use serde_json::Value;
use tracing_audit::{AuditQuery, SequencedEntry};
use uuid::Uuid;

use crate::{
    failure::Failure,
    input::{Database, Log},
    output::{self, Format, FromDatabase, harmless, isolated, name_of, print_styled, sentence, visible},
    zone::Zone,
};

#[derive(Args)]
pub(crate) struct Get {
    /// The entry: its seq, LEDGER:SEQ, its id, or the first digits of its id, 8 or more.
    #[arg(value_name = "SEQ|LEDGER:SEQ|ID")]
    entry: String,
    /// The time zone in which its times are shown: Europe/Berlin, +02:00, local or UTC.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = Zone::parse, allow_hyphen_values = true)]
    tz: Zone,
    /// The output format [default: a list of the fields on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
}

/// An entry, and the database that it is in.
type Found<'a> = (&'a Log, SequencedEntry);

impl Get {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let logs = database.open().await?;
        let found = self.found(&logs).await?;
        found.iter().try_for_each(|(log, found)| self.print_whole(log.db(&logs), found))
    }

    /// The entries that are meant: one, or one of each database and ledger that has this id.
    async fn found<'a>(&self, logs: &'a [Log]) -> Result<Vec<Found<'a>>, Failure> {
        let text = self.entry.trim();
        if let Ok(id) = text.parse::<Uuid>() {
            let mut found = Vec::new();
            for log in logs {
                found.extend(log.reader.get(id).await?.into_iter().map(|entry| (log, entry)));
            }
            let none = || Failure::NotFound(format!("no entry has the id {id}"));
            return if found.is_empty() { Err(none()) } else { Ok(found) };
        }
        // A table shows `ledger/seq`.
        let (ledger, number) = text.rsplit_once([':', '/']).unwrap_or(("", text));
        if let Ok(seq) = number.parse::<u64>() {
            let found = of_seq(logs, ledger, seq).await?;
            if !found.is_empty() || !ledger.is_empty() || number.len() < 8 {
                let many = || format!("several entries have the seq {seq}");
                return only(logs, found, || format!("no entry has the seq {text}"), many);
            }
        }
        let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
        if digits < 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(Failure::Usage(format!(
                "{text:?} is no entry: give its seq, LEDGER:SEQ, its id, or the first 8 digits of its id or more"
            )));
        }
        let mut found = Vec::new();
        for log in logs {
            found.extend(log.reader.get_by_prefix(text, MOST).await?.into_iter().map(|entry| (log, entry)));
        }
        let none = || format!("no entry has the seq {text}, or an id that begins with it");
        only(logs, found, none, || format!("several ids begin with {text}"))
    }

    /// Prints each field on a line of its own, or the entry as JSON if standard output is not a terminal.
    fn print_whole(&self, db: Option<&str>, found: &SequencedEntry) -> Result<(), Failure> {
        let whole = FromDatabase { db, found };
        if !Format::is_table(self.format) {
            return output::print_json(&whole);
        }
        let Value::Object(fields) = serde_json::to_value(whole).map_err(io::Error::from)? else {
            return Ok(());
        };
        let name_width = fields.keys().map(|name| output::columns(name)).max().unwrap_or(0);
        let bold = Style::new().bold();
        let listed = FIELDS.iter().filter_map(|name| fields.get_key_value(*name));
        let others = fields.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str()));
        for (name, value) in listed.chain(others) {
            let indented =
                self.lines(name, value, found)?.join(&["\n", &" ".repeat(name_width + 2)].concat());
            print_styled(&format!("{bold}{name:name_width$}{bold:#}  {indented}"))?;
        }
        Ok(())
    }

    fn lines(&self, name: &str, value: &Value, found: &SequencedEntry) -> Result<Vec<String>, Failure> {
        let entry = &found.entry;
        let with_name = |id: Option<Uuid>| {
            let (id, given) = (id.map(|id| id.to_string()).unwrap_or_default(), name_of(entry, name, id));
            if given == id { id } else { [&id, "  ", &harmless(&given)].concat() }
        };
        let shown = match (name, value) {
            (_, Value::Null) => String::new(),
            ("workspace_id", _) => with_name(Some(entry.workspace_id)),
            ("session_id", _) => with_name(entry.session_id),
            ("agent_id", _) => with_name(entry.agent_id),
            ("ts", _) => self.time(entry.ts),
            ("committed_at", _) => self.time(found.committed_at),
            ("metadata", value) if !value.is_string() => {
                visible(serde_json::to_string_pretty(value).map_err(io::Error::from)?)
            }
            ("reason" | "metadata", Value::String(text)) => {
                return Ok(text.split('\n').map(|line| isolated(&sentence(line)).into_owned()).collect());
            }
            (_, Value::String(text)) => harmless(text).into_owned(),
            (_, value) => visible(serde_json::to_string_pretty(value).map_err(io::Error::from)?),
        };
        Ok(shown.split('\n').map(|line| isolated(line).into_owned()).collect())
    }

    fn time(&self, time: chrono::DateTime<chrono::Utc>) -> String {
        self.tz.at(time).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    }
}

/// The greatest number of entries that are listed for a text that could mean each of them.
const MOST: u32 = 10;

/// The fields in the order of an entry.
const FIELDS: [&str; 17] = [
    "db",
    "ledger",
    "seq",
    "id",
    "session_id",
    "workspace_id",
    "agent_id",
    "action",
    "resource",
    "resource_id",
    "decision",
    "reason",
    "risk_score",
    "metadata",
    "ts",
    "committed_at",
    "problems",
];

/// The entries with this `seq`, of all ledgers or of those that are meant: by their name, or as a table shows it.
async fn of_seq<'a>(logs: &'a [Log], named: &str, seq: u64) -> Result<Vec<Found<'a>>, Failure> {
    let mut found = Vec::new();
    let mut is_known = named.is_empty();
    for log in logs {
        for ledger in &log.ledgers {
            let (name, db) = (&*ledger.name, &*log.name);
            let is_meant =
                named.is_empty() || named == name || named == db || named == [db, "/", name].concat();
            if !is_meant {
                continue;
            }
            is_known = true;
            let query = AuditQuery::new().ledger(name).from_seq(seq).before_seq(seq.saturating_add(1));
            let entries: Vec<_> = log.reader.stream(query).try_collect().await?;
            found.extend(entries.into_iter().map(|entry| (log, entry)));
        }
    }
    if !is_known {
        let there: Vec<_> = logs.iter().flat_map(|log| &log.ledgers).map(|ledger| &*ledger.name).collect();
        return Err(Failure::Usage(format!(
            "there is no ledger {named:?}; choose from {}",
            there.join(", ")
        )));
    }
    Ok(found)
}

/// The entry, if there is only one.
fn only<'a>(
    logs: &[Log],
    found: Vec<Found<'a>>,
    none: impl Fn() -> String,
    many: impl Fn() -> String,
) -> Result<Vec<Found<'a>>, Failure> {
    match found.as_slice() {
        [] => Err(Failure::NotFound(none())),
        [_] => Ok(found),
        several => {
            let name = |(log, found): &Found<'_>| {
                let db = log.db(logs).map_or_else(String::new, |db| [db, "/"].concat());
                format!("{db}{}:{} ({})", found.ledger, found.seq, found.entry.id)
            };
            let named: Vec<_> = several.iter().take(MOST as usize).map(name).collect();
            let more = if several.len() >= MOST as usize { " and perhaps others" } else { "" };
            Err(Failure::Usage(format!("{}: choose {}{more}", many(), named.join(", "))))
        }
    }
}
