//! Reads a text that `Debug` or `Display` wrote, where an id, a word or a number is wanted.
//!
//! `tracing` hands both to a layer in the same way, so `agent_id = ?Some(id)` and the arguments that `#[instrument]`
//! records arrive as texts such as `Some(..)`, `"alice"` or `AgentId("alice")`. Such a text is never an id as it stands.

use std::borrow::Cow;

use serde_json::Value as Json;
use uuid::Uuid;

/// The deepest nesting that is read: `Some(Some(..))`.
const MAX_DEPTH: usize = 8;

/// The wrappers that change nothing about what is in them, in addition to newtypes whose name says that they are an id.
const TRANSPARENT: [&str; 4] = ["Some", "Ok", "Cell", "RefCell"];

/// The meaning of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// This: the text as it stands, or what stands in `Some(..)`, in quotation marks or in a newtype.
    Text(Cow<'a, str>),
    /// Nothing: `None`.
    Nothing,
    /// A structure: several values, or one whose type may be one of several.
    Structure,
}

/// Whether a field of this name holds an id, a word, a number or a time, and never the `Debug` of one.
pub(crate) fn is_typed(name: &str) -> bool {
    matches!(name, "action" | "resource" | "reason" | "decision" | "risk_score" | "occurred_at" | "metadata")
        || is_id(name)
}

/// Whether a field of this name holds an id: `agent_id`, `request_id`, `user.id`.
pub(super) fn is_id(name: &str) -> bool {
    name.strip_suffix("id").is_some_and(|before| before.is_empty() || before.ends_with(['_', '.']))
}

/// Whether the text of this field is no more than the `Debug` of what it should be.
pub(crate) fn is_debug(name: &str, text: &str) -> bool {
    match said(text) {
        Said::Text(said) => said != text,
        Said::Nothing => true,
        // A reason may be any text, and metadata are JSON.
        Said::Structure => is_id(name) || matches!(name, "action" | "resource"),
    }
}

/// The meaning of this text, which `Debug` or `Display` wrote.
pub(crate) fn said(text: &str) -> Said<'_> {
    read(text, 0)
}

/// The meaning of the JSON text of a structured value.
pub(super) fn said_in_json(text: &str) -> Said<'_> {
    match serde_json::from_str(text) {
        Ok(Json::Null) => Said::Nothing,
        Ok(Json::String(text)) => Said::Text(text.into()),
        Ok(Json::Number(_) | Json::Bool(_)) => Said::Text(text.into()),
        _ => Said::Structure,
    }
}

fn read(text: &str, depth: usize) -> Said<'_> {
    let trimmed = text.trim();
    if trimmed == "None" {
        return Said::Nothing;
    }
    if let Some(unquoted) = unquoted(trimmed) {
        return Said::Text(unquoted);
    }
    if depth > MAX_DEPTH {
        return Said::Structure;
    }
    let Some((name, inner)) = wrapped(trimmed) else {
        let is_text = Uuid::try_parse(trimmed).is_ok() || !is_structure(trimmed);
        return if is_text { Said::Text(text.into()) } else { Said::Structure };
    };
    match read(inner, depth + 1) {
        // An id that is unique whatever its type is.
        Said::Text(id) if Uuid::try_parse(&id).is_ok() => Said::Text(id),
        said if is_transparent(name) => said,
        // `User("7")` and `Service("7")` may be two variants of one type.
        _ => Said::Structure,
    }
}

fn is_transparent(name: &str) -> bool {
    TRANSPARENT.contains(&name) || ["Id", "ID", "Uuid"].iter().any(|end| name.ends_with(end))
}

/// The name of the type and the only value in `Name(value)` and in `Name { field: value }`.
pub(super) fn wrapped(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = type_name(text)?;
    if let Some(inner) = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return Some((name, only(inner)?));
    }
    let inner = rest.strip_prefix(" {")?.strip_suffix('}')?;
    let (field, value) = only(inner)?.split_once(':')?;
    let is_field =
        !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_field.then(|| (name, value.trim()))
}

/// The name of a type or a variant at the beginning of a text, and the rest.
fn type_name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    name.starts_with(|c: char| c.is_ascii_uppercase()).then_some((name, rest))
}

/// The only value of a list, without a comma after it.
fn only(list: &str) -> Option<&str> {
    first(list).filter(|(value, more)| !value.is_empty() && !more).map(|(value, _)| value)
}

/// The first value of a list, and whether others follow; `None` if brackets or quotation marks are not balanced, so that
/// the text is no list. A `PhantomData` at the end does not count as a value.
fn first(list: &str) -> Option<(&str, bool)> {
    let (mut depth, mut quoted, mut escaped, mut end) = (0_usize, false, false, None);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 && end.is_none() => end = Some(at),
            _ => {}
        }
    }
    if depth > 0 || quoted {
        return None;
    }
    let Some((value, rest)) = end.and_then(|end| list.split_at_checked(end)) else {
        return Some((list.trim(), false));
    };
    let rest = rest.trim_start_matches(',').trim();
    let marker = rest.split_once(": ").map_or(rest, |(_, value)| value);
    let is_marker = |text: &str| text.starts_with("PhantomData<");
    Some((value.trim(), !rest.is_empty() && !is_marker(rest) && !is_marker(marker)))
}

/// Whether the text is a list, a tuple, a map, or a structure with a name.
fn is_structure(text: &str) -> bool {
    let within = |text: &str, open: &str, close: char| -> Option<bool> {
        let (_, more) = first(text.strip_prefix(open)?.strip_suffix(close)?)?;
        Some(more || text.contains('"'))
    };
    let named = type_name(text)
        .is_some_and(|(_, rest)| within(rest, "(", ')').is_some() || within(rest, " {", '}').is_some());
    named
        || [("(", ')'), ("[", ']'), ("{", '}')]
            .iter()
            .any(|(open, close)| within(text, open, *close) == Some(true))
}

/// The text or the character that this literal of Rust stands for, if the whole text is one.
fn unquoted(literal: &str) -> Option<Cow<'_, str>> {
    let quote = literal.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let inner = literal.get(1..)?.strip_suffix(quote)?;
    let text =
        if inner.contains([quote, '\\']) { Cow::Owned(unescaped(inner, quote)?) } else { inner.into() };
    (quote == '"' || text.chars().count() == 1).then_some(text)
}

fn unescaped(inner: &str, quote: char) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find([quote, '\\']) {
        let (before, escape) = rest.split_at_checked(at)?;
        text.push_str(before);
        let mut chars = escape.strip_prefix('\\')?.chars();
        text.push(match chars.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            same @ ('"' | '\'' | '\\') => same,
            'u' => {
                let (code, after) = chars.as_str().strip_prefix('{')?.split_once('}')?;
                chars = after.chars();
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
        rest = chars.as_str();
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, marker::PhantomData, rc::Rc, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct AgentId<T>(T);

    #[derive(Debug)]
    #[expect(dead_code, reason = "only for their Debug")]
    struct NamedId<T> {
        inner: T,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "only for their Debug")]
    struct TypedId<T>(String, PhantomData<T>);

    #[derive(Debug)]
    #[expect(dead_code, reason = "only for their Debug")]
    enum Who {
        User(String),
        Service(Uuid),
        Both(u8, u8),
    }

    fn assert_says(value: impl std::fmt::Debug, expected: &str) {
        for text in [format!("{value:?}"), format!("{value:#?}")] {
            assert_eq!(said(&text), Said::Text(expected.into()), "{text}");
        }
    }

    #[test]
    fn what_debug_wraps_is_unwrapped() {
        let id = Uuid::from_u128(7);
        assert_says(Some(id), &id.to_string());
        assert_says(Some(Some(Box::new(Arc::new("al\"ice\u{200b}\\\n")))), "al\"ice\u{200b}\\\n");
        assert_says(Rc::new(RefCell::new(Some('x'))), "x");
        assert_says(AgentId("alice, (and) others"), "alice, (and) others");
        assert_says(Some(NamedId { inner: AgentId(17) }), "17");
        assert_says(TypedId::<BTreeMap<u8, (u8, u8)>>("t".to_owned(), PhantomData), "t");
        assert_says(Who::Service(id), &id.to_string());
        assert_says(Ok::<_, ()>("alice"), "alice");
        assert_eq!(said("Some(None)"), Said::Nothing);
        assert_eq!(said("None"), Said::Nothing);
    }

    #[test]
    fn what_may_be_one_of_several_is_a_structure_and_what_people_write_is_a_text() {
        for value in [Who::User("7".to_owned()), Who::Both(1, 2)] {
            assert_eq!(said(&format!("{value:?}")), Said::Structure);
        }
        for structure in ["[1, 2]", "(\"a\", 1)", "{\"a\": 1}", "Some(a, b)", "Some([\"a\"])", "Err(\"x\")"] {
            assert_eq!(said(structure), Said::Structure, "{structure}");
        }
        for text in [
            "alice",
            "",
            " alice ",
            "alice (admin)",
            "f(x)",
            "Some",
            "Some(a) and (b)",
            "[::1]",
            "\"a\" or \"b\"",
            "arn:aws:iam::1:user/a",
            "\"",
            "'ab'",
            "none",
            "O'Neill",
            "a, b",
            "urn:uuid:00000000-0000-0000-0000-000000000007",
            "{00000000-0000-0000-0000-000000000007}",
        ] {
            assert!(matches!(said(text), Said::Text(same) if same == text), "{text}: {:?}", said(text));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_from_its_debug(text in any::<String>()) {
            for debug in [format!("{:?}", Some(&text)), format!("{:?}", AgentId(Some(&text)))] {
                prop_assert_eq!(said(&debug), Said::Text(text.as_str().into()));
            }
            said(&text);
        }

        #[test]
        fn hostile_nesting_ends_soon(count in 0..2000_usize) {
            said(&("Some(".repeat(count) + &")".repeat(count)));
        }
    }
}
