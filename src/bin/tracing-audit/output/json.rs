//! Values as JSON Lines.

use std::io;

use serde::Serialize;

use super::{stdout::line, terminal::obeyed};
use crate::failure::Failure;

/// What JSON does not escape of itself and a terminal would obey is escaped.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&as_json(value)?)
}

pub(crate) fn as_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value).map_err(io::Error::from)?;
    if !json.contains(obeyed) {
        return Ok(json);
    }
    let escaped = |c: char| if obeyed(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Ok(json.chars().map(escaped).collect::<Vec<_>>().concat())
}

/// What was found in one of several databases.
#[derive(Serialize)]
pub(crate) struct Of<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) db: Option<&'a str>,
    #[serde(flatten)]
    pub(crate) found: &'a T,
}
