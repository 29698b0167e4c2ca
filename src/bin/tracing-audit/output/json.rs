//! Prints values as JSON Lines.

use std::io;

use serde::Serialize;

use super::{stdout::print_line, terminal::controls_terminal};
use crate::failure::Failure;

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print_line(&to_json(value)?)
}

/// The value as one line of JSON. Characters that a terminal would act on, and that JSON allows unescaped, are escaped.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value).map_err(io::Error::from)?;
    if !json.contains(controls_terminal) {
        return Ok(json);
    }
    let escaped = |c: char| {
        if controls_terminal(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
    };
    Ok(json.chars().map(escaped).collect::<Vec<_>>().concat())
}

/// A result together with the database that it comes from, if several were asked.
#[derive(Serialize)]
pub(crate) struct FromDatabase<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) db: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) found: &'a T,
}
