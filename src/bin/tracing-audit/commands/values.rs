//! The values of options that a shell completes: fields, ledgers, time zones.

use std::{ffi::OsStr, time::Duration};

use clap::{Arg, Command, Parser};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use tracing_audit::query::Column;

use crate::{input::Database, output::Field};

/// The command, whose options know their values.
pub(super) fn with_values(command: Command) -> Command {
    let command = command.mut_args(with_value);
    let names: Vec<_> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| command.mut_subcommand(name, with_values))
}

fn with_value(arg: Arg) -> Arg {
    let completer =
        match (arg.get_long(), arg.get_value_names().and_then(|names| names.first()).map(|name| &**name)) {
            (Some("ledger"), _) => ArgValueCompleter::new(ledgers),
            (Some("by"), _) => ArgValueCompleter::new(by),
            (Some("where"), _) => ArgValueCompleter::new(conditions),
            (Some("columns"), _) => ArgValueCompleter::new(columns),
            (Some("tz"), _) => ArgValueCompleter::new(zones),
            (Some("decision"), _) => ArgValueCompleter::new(decisions),
            (None, Some("FIELD")) => ArgValueCompleter::new(fields),
            _ => return arg,
        };
    arg.add(completer)
}

/// The words that continue the text after the last comma.
fn continued<'a>(current: &OsStr, words: impl Iterator<Item = &'a str>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let (before, begun) = match current.rfind(',') {
        Some(comma) => current.split_at(comma + 1),
        None => ("", &*current),
    };
    let matching = words.filter(|word| word.starts_with(begun));
    matching.map(|word| CompletionCandidate::new([before, word].concat())).collect()
}

fn field_names() -> impl Iterator<Item = &'static str> {
    Column::ALL.into_iter().map(Column::name).chain(["metadata."])
}

fn fields(current: &OsStr) -> Vec<CompletionCandidate> {
    continued(current, field_names())
}

fn by(current: &OsStr) -> Vec<CompletionCandidate> {
    continued(current, ["hour", "day", "ledger"].into_iter().chain(field_names()))
}

fn columns(current: &OsStr) -> Vec<CompletionCandidate> {
    continued(current, Field::names().chain(["metadata."]))
}

fn conditions(current: &OsStr) -> Vec<CompletionCandidate> {
    let named: Vec<_> = Column::ALL.into_iter().map(|column| [column.name(), "="].concat()).collect();
    continued(current, named.iter().map(String::as_str).chain(["metadata."]))
}

fn decisions(current: &OsStr) -> Vec<CompletionCandidate> {
    continued(current, ["Allow", "Deny", "Mask"].into_iter())
}

fn zones(current: &OsStr) -> Vec<CompletionCandidate> {
    let named = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    continued(current, ["local", "UTC"].into_iter().chain(named))
}

/// The options of the command line that name the database.
#[derive(Parser)]
struct OnlyDatabase {
    #[command(flatten)]
    database: Database,
}

/// Whether a shell takes the name as it stands. bash inserts what it completes without quotation marks, and runs a `$(..)` in it.
fn is_plain(name: &str) -> bool {
    let is_harmless = |c: char| c.is_alphanumeric() || "_-.:/@+".contains(c);
    name.starts_with(char::is_alphanumeric) && name.chars().all(is_harmless)
}

/// The ledgers of the database that is named before the cursor, or by the environment. None if it cannot be read at
/// once, and none whose name a shell would not take as it stands: any role that may write to the database can choose
/// the name.
fn ledgers(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut words = std::env::args_os();
    let mut given = vec![std::ffi::OsString::from("tracing-audit")];
    while let Some(word) = words.next() {
        if word == "--db" || word == "--schema" {
            given.push(word);
            given.extend(words.next());
        } else if word.as_encoded_bytes().starts_with(b"--db=") {
            given.push(word);
        }
    }
    let Ok(OnlyDatabase { database }) = OnlyDatabase::try_parse_from(given) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let opened =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), database.open()).await });
    let Ok(Ok(logs)) = opened else { return Vec::new() };
    let names: Vec<_> = logs.iter().flat_map(|log| &log.ledgers).map(|ledger| ledger.name.as_str()).collect();
    continued(current, names.into_iter().filter(|name| is_plain(name)))
}
