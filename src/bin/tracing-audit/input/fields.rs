//! Reads the names of fields, and says which field may be meant by a name that is none.

use tracing_audit::{
    index::IndexOn,
    query::{Column, CountBy, Field},
};

use crate::{failure::Failure, output};

/// The beginning of the name of a field of an event's own.
const METADATA: &str = "metadata.";

/// The field of this name, for a condition.
pub(super) fn of_condition(name: &str) -> Result<Field, Failure> {
    let instead = match name {
        "ts" | "time" | "occurred_at" => {
            "the time of an entry is chosen by --since, --before, --on and --month"
        }
        "committed_at" => "the time of the commit is chosen by --committed-since and --committed-before",
        "seq" => "the place in the ledger is chosen by --from-seq and --before-seq",
        "ledger" => "the ledger is chosen by --ledger",
        "metadata" => "a value in it is named by its path, such as metadata.client.ip",
        "problems" => "entries with problems are chosen by --problems",
        _ => "",
    };
    let known = fields().chain(["risk_score"]);
    named(name).map_err(|fault| refused(name, fault, instead, known))
}

/// The key of a count by the field of this name.
pub(crate) fn counted_by(name: &str) -> Result<CountBy, Failure> {
    let instead = match name {
        "ts" | "time" | "occurred_at" | "committed_at" | "week" | "month" => {
            "times are counted by hour or day"
        }
        "seq" => "each entry has its own",
        "risk_score" => "scores are chosen by --risk-min and --risk-max, and not counted",
        "metadata" => "a value in it is named by its path, such as metadata.client.ip",
        "problems" => "entries with problems are chosen by --problems",
        _ => "",
    };
    let field = if name == "risk_score" { Err(Fault::Unknown) } else { named(name) };
    match field {
        Ok(Field::Column(column)) => Ok(CountBy::Column(column)),
        Ok(Field::Metadata(path)) => Ok(CountBy::Metadata(path)),
        _ if name == "ledger" => Ok(CountBy::Ledger),
        Ok(_) => Err(refused(name, Fault::Unknown, instead, fields())),
        Err(fault) => {
            Err(refused(name, fault, instead, ["hour", "day", "ledger"].into_iter().chain(fields())))
        }
    }
}

/// The key of an index on the field of this name.
pub(crate) fn indexed(name: &str) -> Result<IndexOn, Failure> {
    let instead = match name {
        "ts" | "time" | "occurred_at" | "committed_at" | "seq" | "ledger" | "problems" => {
            "every log finds entries by it without another index"
        }
        "risk_score" => "every log has an index of the entries with a score of 0.8 or more",
        "metadata" => "a value in it is named by its path, such as metadata.client.ip",
        _ => "",
    };
    match named(name) {
        Ok(Field::Column(column)) => Ok(IndexOn::Column(column)),
        Ok(Field::Metadata(path)) => Ok(IndexOn::Metadata(path)),
        Ok(_) => Err(refused(name, Fault::Unknown, instead, fields())),
        Err(fault) => Err(refused(name, fault, instead, fields())),
    }
}

/// The key of an index that may exist. It may be on a path that nobody can mean, which an earlier version accepted.
pub(crate) fn was_indexed(name: &str) -> Result<IndexOn, Failure> {
    match name.strip_prefix(METADATA) {
        Some(path) => Ok(IndexOn::metadata(path)),
        None => indexed(name),
    }
}

/// The columns of a table that these lists name, each once: they are the keys of a JSON object too.
pub(crate) fn columns(lists: &[String]) -> Result<Vec<output::Field>, Failure> {
    let column = |name| {
        if let Some(column) = output::Field::named(name) {
            return Ok(column);
        }
        match named(name) {
            Ok(Field::Metadata(path)) => Ok(output::Field::MetadataAt(path)),
            Ok(_) => Err(refused(name, Fault::Unknown, "", output::Field::names())),
            Err(fault) => Err(refused(name, fault, "", output::Field::names())),
        }
    };
    let mut found = Vec::new();
    for name in lists.iter().flat_map(|list| listed(list)) {
        let column = column(name)?;
        if found.contains(&column) {
            return Err(Failure::Usage(format!(
                "{name:?} is a column that is there already: name each once"
            )));
        }
        found.push(column);
    }
    Ok(found)
}

/// The parts of a list between its commas. A comma in quotation marks is part of a key: `metadata."a,b"`.
pub(crate) fn listed(list: &str) -> Vec<&str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .collect()
}

/// The reason why a name is not the name of a field.
enum Fault {
    Unknown,
    /// A path that cannot be meant, in words.
    Path(String),
}

fn named(name: &str) -> Result<Field, Fault> {
    name.parse().map_err(|error: tracing_audit::AuditError| {
        if name.starts_with(METADATA) { Fault::Path(error.to_string()) } else { Fault::Unknown }
    })
}

fn refused(name: &str, fault: Fault, instead: &str, known: impl Iterator<Item = &'static str>) -> Failure {
    Failure::Usage(match fault {
        Fault::Path(fault) => fault,
        Fault::Unknown if !instead.is_empty() => format!("there is no field {name:?} here: {instead}"),
        Fault::Unknown => {
            let known: Vec<_> = known.collect();
            let meant = meant(name, &known);
            let own = if name.is_empty() { "NAME" } else { name };
            format!(
                "there is no field {name:?}: {meant}there are {} and metadata.PATH; a field of an event's own is metadata.{own}",
                known.join(", ")
            )
        }
    })
}

/// The columns that every entry has, by name.
fn fields() -> impl Iterator<Item = &'static str> {
    Column::ALL.into_iter().map(Column::name)
}

/// Asks whether the known field was meant whose name is nearest to this one, if one is near.
pub(super) fn meant(name: &str, known: &[&str]) -> String {
    nearest(name, known).map(|known| format!("did you mean {known}? ")).unwrap_or_default()
}

fn nearest(name: &str, known: &[&str]) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let (first, rest) = lower.split_once('.').unwrap_or((&lower, ""));
    if !rest.is_empty() && strsim::damerau_levenshtein(first, "metadata") <= 2 {
        return Some([METADATA, name.split_once('.')?.1].concat());
    }
    let near = known.iter().map(|known| (strsim::jaro_winkler(&lower, known), known));
    let (likeness, known) = near.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness >= 0.8).then(|| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of a refusal; empty if there is none.
    fn told<T>(read: Result<T, Failure>) -> String {
        match read {
            Ok(_) => String::new(),
            Err(failure) => {
                assert_eq!(failure.code(), 2);
                failure.message()
            }
        }
    }

    #[test]
    fn a_name_that_no_entry_can_have_is_refused_with_the_nearest_one_wherever_fields_are_named() {
        let everywhere = |name: &str| {
            [
                told(of_condition(name)),
                told(counted_by(name)),
                told(indexed(name)),
                told(columns(&[name.to_owned()])),
            ]
        };
        for (name, says) in [
            ("colour", "there is no field \"colour\": there are "),
            ("agent_ip", "did you mean agent_id? there are "),
            ("Action", "did you mean action? "),
            ("resouce_id", "did you mean resource_id? "),
            ("metdata.ip", "did you mean metadata.ip? "),
            ("Metadata.userId", "did you mean metadata.userId? "),
            ("", "a field of an event's own is metadata.NAME"),
            ("metadata.", "a key is empty"),
            ("metadata.a..b", "a key is empty"),
            ("metadata.tags[-1]", "[-1] is no index: the first of a list is [0]"),
            ("metadata.tags[0", "[0 is no index"),
            ("metadata.\"a.b", "a quotation mark is missing"),
            ("metadata. ip", "needs quotation marks"),
        ] {
            for told in everywhere(name) {
                assert!(told.contains(says) && !told.contains('\n'), "{name}: {told}");
            }
        }
        for name in ["agent_id", "metadata.client.ip", "metadata.\"a.b\"[0].c", "metadata.é"] {
            assert_eq!(everywhere(name), [""; 4], "{name}");
        }
    }

    #[test]
    fn what_can_be_named_in_one_place_only_is_refused_elsewhere_with_what_there_is_instead() {
        for (told, says) in [
            (told(of_condition("ts")), "--since"),
            (told(of_condition("risk_score")), ""),
            (told(counted_by("ts")), "by hour or day"),
            (told(counted_by("risk_score")), "--risk-min"),
            (told(counted_by("ledger")), ""),
            (told(counted_by("ledgr")), "did you mean ledger?"),
            (told(indexed("ts")), "without another index"),
            (told(indexed("risk_score")), "0.8 or more"),
            (told(indexed("metadata")), "metadata.client.ip"),
            (told(columns(&["seq,agent".to_owned(), "metadata.\"a,b\"".to_owned()])), ""),
            (told(columns(&["seq,,agent".to_owned()])), "there is no field \"\""),
            (told(columns(&["agnet".to_owned()])), "did you mean agent?"),
            (told(was_indexed("metadata.tags[-1]")), ""),
            (told(was_indexed("actoin")), "did you mean action?"),
        ] {
            assert!(told.contains(says) && told.is_empty() == says.is_empty(), "{says}: {told}");
        }
    }
}
