//! The name of `--as`, under which reads are recorded.

use unicode_width::UnicodeWidthChar;

/// A name that the record of reads shows.
pub(super) fn visible_name(name: &str) -> Result<String, String> {
    let is_visible = |c: char| !c.is_whitespace() && !c.is_control() && UnicodeWidthChar::width(c) > Some(0);
    if name.chars().any(is_visible) {
        return Ok(name.to_owned());
    }
    Err("a reader is recorded by a name, and this one is empty: give yours, or leave the option out and the variable \
         TRACING_AUDIT_AS unset"
        .to_owned())
}

/// Whether the name stands in the command line, and not only in the variable.
pub(super) fn is_in_command_line() -> bool {
    std::env::args_os().any(|word| word == "--as" || word.as_encoded_bytes().starts_with(b"--as="))
}
