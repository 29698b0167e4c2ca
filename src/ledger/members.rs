//! The members of a JSON object's text, cut where they stand.

use std::ops::Range;

/// More members than this are one field.
const MOST_MEMBERS: usize = 512;

/// Puts into `found` where the members of a JSON object's text are: the parts of its inside between the commas that are in
/// no string and in no inner object or list. Returns false if the text is no object or has too many members.
///
/// Nothing is parsed and no white space is trimmed, so `{`, the members with commas between them, and `}` are the text again,
/// whatever it is.
pub(super) fn members(text: &str, found: &mut Vec<Range<usize>>) -> bool {
    found.clear();
    let text = text.as_bytes();
    let [b'{', inside @ .., b'}'] = text else { return false };
    if inside.is_empty() {
        return true;
    }
    let (mut depth, mut start) = (0_usize, 1);
    let mut bytes = (1..).zip(inside);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                found.push(start..at);
                start = at + 1;
                if found.len() == MOST_MEMBERS {
                    return false;
                }
            }
            _ => {}
        }
    }
    found.push(start..1 + inside.len());
    true
}

/// Goes on behind the quotation mark that ends a string, or to the end of the text.
fn skip_string<'a>(bytes: &mut impl Iterator<Item = (usize, &'a u8)>) {
    while let Some((_, byte)) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Option<Vec<&str>> {
        let mut found = Vec::new();
        members(text, &mut found).then(|| found.into_iter().map(|range| text.get(range).unwrap()).collect())
    }

    #[test]
    fn only_commas_between_members_cut() {
        assert_eq!(cut("{}"), Some(vec![]));
        assert_eq!(cut(r#"{"a":1}"#), Some(vec![r#""a":1"#]));
        assert_eq!(cut(r#"{"a": 1, "b":2 }"#), Some(vec![r#""a": 1"#, r#" "b":2 "#]));
        assert_eq!(
            cut(r#"{"a":[1,2],"b":{"c":1,"d":2}}"#),
            Some(vec![r#""a":[1,2]"#, r#""b":{"c":1,"d":2}"#])
        );
        assert_eq!(
            cut(r#"{"a,":"},{","\",":"\\","c":1}"#),
            Some(vec![r#""a,":"},{""#, r#""\",":"\\""#, r#""c":1"#])
        );
        for no_object in ["", "{", "}", "[]", "null", r#"["a",1]"#, r#" {"a":1}"#] {
            assert_eq!(cut(no_object), None, "{no_object:?}");
        }
        for broken in [r#"{"a}"#, r#"{"a\}"#, "{]}},}", "{,}", "{[[[,}"] {
            assert_eq!(cut(broken).map(|parts| format!("{{{}}}", parts.join(","))).as_deref(), Some(broken));
        }
    }

    #[test]
    fn more_members_than_512_are_one_field() {
        let object = |members: usize| format!("{{{}}}", vec!["\"k\":1"; members].join(","));
        assert_eq!(cut(&object(512)).map(|parts| parts.len()), Some(512));
        assert_eq!(cut(&object(513)), None);
    }

    proptest! {
        #[test]
        fn members_make_the_text_again(text in r#"\{[a,:"\\{}\[\] é]{0,60}\}"#) {
            let parts = cut(&text).unwrap();
            prop_assert_eq!(format!("{{{}}}", parts.join(",")), text);
        }

        #[test]
        fn any_text_is_cut_or_is_no_object(text: String) {
            let is_object = text.len() >= 2 && text.starts_with('{') && text.ends_with('}');
            prop_assert_eq!(cut(&text).is_some(), is_object);
        }
    }
}
