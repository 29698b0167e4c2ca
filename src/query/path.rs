//! Paths into the metadata: parses them from text, and spells them as text.

use crate::entry::storable;

/// One step of a path: leads from a JSON value to a value in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathStep {
    Key(String),
    Index(u32),
}

/// The greatest list index that both databases accept.
const MAX_INDEX: u32 = i32::MAX.cast_unsigned();

/// The steps of a path. Every text is a path: what is neither quoted nor an index is a key.
pub(crate) fn steps(path: &str) -> Vec<PathStep> {
    let mut steps = Vec::new();
    let path = storable(path.to_owned());
    let mut rest = path.as_str();
    loop {
        let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (key, after) = match quoted {
            Some((key, after)) if after.is_empty() || after.starts_with(['.', '[']) => (key, after),
            _ => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        steps.push(PathStep::Key(key.to_owned()));
        rest = after;
        while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let Some(index) = index.parse().ok().filter(|index| *index <= MAX_INDEX) else { break };
            steps.push(PathStep::Index(index));
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return steps,
            // The bracket does not hold an index, so the rest is a key.
            None => {
                steps.push(PathStep::Key(rest.to_owned()));
                return steps;
            }
        }
    }
}

/// The path as text. [`steps`] reads it back as the same path, unless a key contains a quotation mark.
pub(crate) fn spelled_path(path: &[PathStep]) -> String {
    let mut text = String::new();
    for (index, step) in path.iter().enumerate() {
        match step {
            PathStep::Key(key) => {
                let dot = if index == 0 { "" } else { "." };
                let quote = if key.contains(['.', '[']) { "\"" } else { "" };
                text.extend([dot, quote, key, quote]);
            }
            PathStep::Index(index) => text.extend(["[", &index.to_string(), "]"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[PathStep]) -> String {
        steps
            .iter()
            .map(|step| match step {
                PathStep::Key(key) => format!("<{key}>"),
                PathStep::Index(index) => format!("<#{index}>"),
            })
            .collect()
    }

    #[test]
    fn every_text_is_a_path() {
        for (text, expected) in [
            ("ip", "<ip>"),
            ("client.ip", "<client><ip>"),
            ("tags[0][12].name", "<tags><#0><#12><name>"),
            ("\"a.b[0]\".c", "<a.b[0]><c>"),
            ("\"a\"[1]", "<a><#1>"),
            ("\"a", "<\"a>"),
            ("\"a\"b", "<\"a\"b>"),
            ("a[b].c", "<a><[b].c>"),
            ("a..b", "<a><><b>"),
            ("", "<>"),
            ("a.", "<a><>"),
            ("a\0[2147483647]", "<a\u{fffd}><#2147483647>"),
            ("a[2147483648]", "<a><[2147483648]>"),
        ] {
            assert_eq!(path(&steps(text)), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spelled_path_parses_to_the_same_path(
            keys in proptest::collection::vec(("[^\"\0\\]]{0,6}", proptest::option::of(0..9_u32)), 1..4),
        ) {
            let path: Vec<PathStep> = keys
                .into_iter()
                .flat_map(|(key, index)| [Some(PathStep::Key(key)), index.map(PathStep::Index)])
                .flatten()
                .collect();
            proptest::prop_assert_eq!(steps(&spelled_path(&path)), path);
        }
    }
}
