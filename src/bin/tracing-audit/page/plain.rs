//! Shows what the page shows without scripts: what was asked, the checkpoint, and the entries in a plain table.

use std::fmt;

use chrono::DateTime;
use serde::Deserialize;
use tracing_audit::{
    audit_id,
    ledger::{NotedCheckpoint, ProvenEntry, Shown},
};
use uuid::Uuid;

use super::{
    statement::Statement,
    template::{MADE_WITH, limits},
};
use crate::output::harmless;

/// The most characters of a value, and of something longer, that are shown.
const SHORT: usize = 300;
const LONG: usize = 2000;

const CELL_END: &str = "</div></td>";

/// The head of a table of entries.
pub(super) const TABLE: &str = "<div class=\"without\"><table><thead><tr><th class=\"seq\">Number</th><th class=\"time\">Time (UTC)</th>\
    <th>Action</th><th>Agent</th><th>Resource</th><th class=\"decision\">Decision</th><th>Reason</th><th>Metadata</th></tr></thead><tbody>\n";

/// The end of such a table.
pub(super) const TABLE_END: &str = "</tbody></table></div>";

/// The part of the metadata that is read.
#[derive(Deserialize)]
struct Named {
    agent_id: Option<String>,
}

/// Text as markup: nothing in it is any.
fn escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// Text that somebody else wrote: isolated, at most `most` characters, and invisible characters are spelled out.
fn foreign(text: &str, most: usize, out: &mut String) {
    let end = text.char_indices().nth(most).map_or(text.len(), |(end, _)| end);
    let (shown, left) = text.split_at(end);
    out.push_str("<bdi class=\"foreign\">");
    escaped(&harmless(shown), out);
    out.push_str("</bdi>");
    if !left.is_empty() {
        put(out, format_args!(" (and {} characters more)", left.chars().count()));
    }
}

fn put(out: &mut String, text: fmt::Arguments<'_>) {
    out.push_str(&fmt::format(text));
}

fn time(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).map_or_else(
        || format!("{micros} µs since 1970"),
        |time| time.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
    )
}

fn begin(class: &str, out: &mut String) {
    put(out, format_args!("<td class=\"{class}\"><div class=\"cell\">"));
}

fn part<T>(part: &Shown<T>, text: impl FnOnce(&T) -> String, out: &mut String) {
    match part {
        Shown::Absent => {}
        Shown::Withheld => withheld("withheld", out),
        Shown::Open(value) => foreign(&text(value), SHORT, out),
    }
}

/// A remark in place of a value. No value looks like it.
fn withheld(remark: &str, out: &mut String) {
    put(out, format_args!("<span class=\"withheld\">{remark}</span>"));
}

fn cell<T>(class: &str, value: &Shown<T>, text: impl FnOnce(&T) -> String, out: &mut String) {
    begin(class, out);
    part(value, text, out);
    out.push_str(CELL_END);
}

/// The name that the id of the agent was made from, if the metadata have it; else the id.
fn agent(id: Uuid, metadata: &Shown<String>) -> String {
    let Shown::Open(text) = metadata else { return id.to_string() };
    let is_named = text.contains("\"agent_id\"");
    match is_named.then(|| serde_json::from_str(text).ok()).flatten() {
        Some(Named { agent_id: Some(name) }) if audit_id(&name) == id => name,
        _ => id.to_string(),
    }
}

/// Appends the row of an entry.
pub(super) fn row(entry: &ProvenEntry, out: &mut String) {
    put(out, format_args!("<tr><td class=\"seq\">{}</td>", entry.seq));
    cell("time", &entry.core, |core| time(core.ts), out);
    begin("action", out);
    part(&entry.core, |core| core.action.clone(), out);
    if entry.core == Shown::Absent {
        withheld("no entry has this number", out);
    }
    out.push_str(CELL_END);
    cell("agent", &entry.agent_id, |id| agent(*id, &entry.metadata), out);
    begin("resource", out);
    part(&entry.core, |core| core.resource.clone(), out);
    if entry.resource_id != Shown::Absent {
        out.push(' ');
        part(&entry.resource_id, String::clone, out);
    }
    out.push_str(CELL_END);
    cell("decision", &entry.core, |core| core.decision.clone(), out);
    cell("reason", &entry.reason, String::clone, out);
    begin("metadata", out);
    part(&entry.metadata, String::clone, out);
    match (&entry.metadata, entry.withheld_members) {
        (Shown::Open(_), 1) => withheld("1 member withheld", out),
        (Shown::Open(_), members @ 2..) => withheld(&format!("{members} members withheld"), out),
        _ => {}
    }
    out.push_str(CELL_END);
    out.push_str("</tr>\n");
}

fn pair(name: &str, value: &str, out: &mut String) {
    put(out, format_args!("<dt>{name}</dt><dd>"));
    foreign(value, LONG, out);
    out.push_str("</dd>\n");
}

/// The part of the page above the entries.
pub(super) fn above(statement: &Statement, checkpoint: &NotedCheckpoint) -> String {
    let mut out = "<div class=\"without\">\n<h2>What was asked</h2>\n<dl>\n".to_owned();
    let all = || "every entry of the ledger that the checkpoint covers".to_owned();
    let asked = if statement.asked.is_empty() { all() } else { statement.asked.join(" ") };
    pair("Conditions", &asked, &mut out);
    pair("Ledger", &statement.ledger, &mut out);
    pair("Made at", &statement.made_at, &mut out);
    pair("Made by", statement.made_by.as_deref().unwrap_or("nobody gave a name"), &mut out);
    pair("Made with", MADE_WITH, &mut out);
    if !statement.withheld.is_empty() {
        pair("Withheld", &statement.withheld.join(", "), &mut out);
    }
    if !statement.only.is_empty() {
        pair("Shown alone", &statement.only.join(", "), &mut out);
    }
    out.push_str("</dl>\n<h2>The checkpoint</h2>\n<pre>");
    for (number, line) in checkpoint.to_string().lines().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        escaped(&harmless(line), &mut out);
    }
    out.push_str("</pre>\n<h2>Entries</h2>\n</div>");
    out
}

/// The part of the page below the entries.
pub(super) fn below(entries: u64, beyond: u64) -> String {
    let mut out = format!("<div class=\"without\">\n<p>Entries in this file: {entries}.</p>\n");
    if beyond > 0 {
        put(
            &mut out,
            format_args!(
                "<p>Matching entries that are newer than the checkpoint, and not in the file: {beyond}.</p>\n"
            ),
        );
    }
    out.push_str("<h2>What this page cannot tell</h2>\n<ul>\n");
    for limit in limits() {
        out.push_str("<li>");
        escaped(limit, &mut out);
        out.push_str("</li>\n");
    }
    out.push_str("</ul>\n</div>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup_however_long_or_hidden_it_is() {
        let marks = ["a", &"\u{301}".repeat(1 << 20)].concat();
        for (text, expected) in [
            (
                "</noscript><script>alert(1)</script>",
                "&lt;/noscript&gt;&lt;script&gt;alert(1)&lt;/script&gt;",
            ),
            ("<!--", "&lt;!--"),
            ("a\" onclick='b", "a&quot; onclick=&#39;b"),
            ("&lt;", "&amp;lt;"),
            ("a\u{202e}b\0c\rd", "a\\u{202e}b\\u{0}c\\rd"),
            (&marks, "a\\u{301}"),
        ] {
            let mut out = String::new();
            foreign(text, SHORT, &mut out);
            let inside = out.strip_prefix("<bdi class=\"foreign\">").unwrap();
            assert!(inside.starts_with(expected), "{inside}");
            assert!(out.len() < 12 * SHORT && out.matches('<').count() == 2, "{out}");
        }
    }
}
