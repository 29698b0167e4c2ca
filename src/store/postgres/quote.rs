//! Quotes texts and names as SQL.

/// A text as an SQL literal, which means the same under any settings of the session and does not contain `@`, the sign
/// for the schema. It is not a parameter, so that the planner meets the same expression as in an index.
pub(super) fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains(['\\', '@']) {
        format!("E'{}'", doubled.replace('\\', "\\\\").replace('@', "\\x40"))
    } else {
        format!("'{doubled}'")
    }
}

/// A name as an SQL identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
