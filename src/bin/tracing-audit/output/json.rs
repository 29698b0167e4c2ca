//! Prints values as JSON Lines.

use std::io;

use serde::Serialize;
use tracing_audit::export::write_json_line;

use super::{stdout::print_line, text::is_hidden};
use crate::failure::Failure;

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print_line(&to_json(value)?)
}

/// The value as one line of JSON. JSON allows some characters unescaped that a terminal would act on, or that cannot be
/// seen. These are escaped too.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let mut json = Vec::new();
    write_json_line(&mut json, value)?;
    Ok(visible(String::from_utf8(json).map_err(io::Error::other)?))
}

/// The JSON with such characters escaped. They are within strings: what stands between these is ASCII.
pub(crate) fn visible(json: String) -> String {
    if json.is_ascii() && !json.contains('\u{7f}') || !json.contains(is_hidden_in_line) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_hidden_in_line(c) {
            escaped.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Line breaks that stand unescaped are those of the JSON itself.
fn is_hidden_in_line(c: char) -> bool {
    c != '\n' && is_hidden(c)
}

/// A result together with the database that it comes from, if several were asked.
#[derive(Serialize)]
pub(crate) struct FromDatabase<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) db: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) found: &'a T,
}
