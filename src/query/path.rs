//! Paths into the metadata: parses them from text, spells them as text, and finds the places that they lead to.
//!
//! A name with dots, such as `client.ip`, is one key if an event gave it as a field, and a path through two if a JSON
//! document holds it. The path `client.ip` leads to both. A key in quotation marks is that key alone.

use serde_json::Value;

use crate::entry::storable;

/// One step of a path: leads from a JSON value to a value in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathStep {
    /// A key; it and its neighbours of this kind may also be one key with dots.
    Key(String),
    /// A key that stood in quotation marks.
    Exact(String),
    Index(u32),
}

/// The greatest list index that both databases accept.
const MAX_INDEX: u32 = i32::MAX.cast_unsigned();

/// The longest run of keys of which each division is tried. Each key more would double the number.
const MAX_RUN: usize = 6;

/// The steps of a path. Every text is a path: what is neither quoted nor an index is a key.
pub(crate) fn steps(path: &str) -> Vec<PathStep> {
    let mut steps = Vec::new();
    let path = storable(path.to_owned());
    let mut rest = path.as_str();
    loop {
        let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        rest = match quoted {
            Some((key, after)) if after.is_empty() || after.starts_with(['.', '[']) => {
                steps.push(PathStep::Exact(key.to_owned()));
                after
            }
            _ => {
                let (key, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
                steps.push(PathStep::Key(key.to_owned()));
                after
            }
        };
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
                steps.push(PathStep::Exact(rest.to_owned()));
                return steps;
            }
        }
    }
}

/// The reason why this path cannot be meant as it is written: [`steps`] takes a part that does not end, or is no index,
/// for a key.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let mut rest = path;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let Some((_, after)) = quoted.split_once('"') else {
                return Err("a quotation mark is missing at the end of a key".to_owned());
            };
            if !after.is_empty() && !after.starts_with(['.', '[']) {
                return Err("after a key in quotation marks comes a dot, an index or the end".to_owned());
            }
            rest = after;
        } else {
            let (key, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
            if key.is_empty() {
                return Err("a key is empty; one that is meant so is written \"\"".to_owned());
            }
            if key.contains('"') {
                return Err("a quotation mark stands before and after a whole key".to_owned());
            }
            if key.contains(']') {
                return Err(format!("{key:?} is no index, and a key with ] needs quotation marks"));
            }
            if key.trim() != key {
                return Err("a key with a blank at its end needs quotation marks".to_owned());
            }
            rest = after;
        }
        while let Some(bracket) = rest.strip_prefix('[') {
            let (index, after) = bracket.split_once(']').unwrap_or((bracket, ""));
            if !bracket.contains(']') || !is_index(index) {
                let shown = rest.get(..rest.len() - after.len()).unwrap_or(rest);
                return Err(format!(
                    "{shown} is no index: the first of a list is [0]; a key with brackets needs quotation marks"
                ));
            }
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(()),
            None => return Err("after an index comes a dot, another index or the end".to_owned()),
        }
    }
}

fn is_index(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && text.parse().is_ok_and(|index: u32| index <= MAX_INDEX)
}

/// The path as text. [`steps`] reads it back as the same path, unless a key contains a quotation mark.
pub(crate) fn spelled_path(path: &[PathStep]) -> String {
    let mut text = String::new();
    for (index, step) in path.iter().enumerate() {
        let dot = if index == 0 { "" } else { "." };
        match step {
            PathStep::Key(key) => text.extend([dot, key]),
            PathStep::Exact(key) => text.extend([dot, "\"", key, "\""]),
            PathStep::Index(index) => text.extend(["[", &index.to_string(), "]"]),
        }
    }
    text
}

/// The places in the metadata that a path leads to, each as exact steps. The first at which there is a value is meant:
/// first come those with the longest keys.
pub(crate) fn places(path: &[PathStep]) -> Vec<Vec<PathStep>> {
    let mut places = vec![Vec::new()];
    let mut rest = path;
    while let Some(first) = rest.first() {
        let run: Vec<&str> = rest
            .iter()
            .map_while(|step| if let PathStep::Key(key) = step { Some(key.as_str()) } else { None })
            .collect();
        let (ways, taken) =
            if run.is_empty() { (vec![vec![first.clone()]], 1) } else { (divisions(&run), run.len()) };
        places = places
            .iter()
            .flat_map(|place: &Vec<PathStep>| {
                ways.iter().map(|way| [place.as_slice(), way.as_slice()].concat())
            })
            .collect();
        rest = rest.get(taken..).unwrap_or_default();
    }
    places
}

/// The ways to take neighbouring keys as one: all of them in a short run, otherwise only the longest key and the keys
/// one by one.
fn divisions(run: &[&str]) -> Vec<Vec<PathStep>> {
    let exact = |keys: &[&str]| PathStep::Exact(keys.join("."));
    if run.len() > MAX_RUN {
        return vec![vec![exact(run)], run.iter().map(|key| exact(&[key])).collect()];
    }
    let mut divisions = vec![vec![exact(run)]];
    for length in (1..run.len()).rev() {
        let (first, rest) = run.split_at(length);
        divisions.extend(self::divisions(rest).into_iter().map(|mut division| {
            division.insert(0, exact(first));
            division
        }));
    }
    divisions
}

/// The value that this path leads to, spelled as in
/// [`AuditQuery::metadata_any_of`](crate::AuditQuery::metadata_any_of). `None` if there is none.
///
/// ```
/// use tracing_audit::query::value_at;
///
/// let metadata = serde_json::json!({ "client": { "ip": "10.0.0.1" } });
/// assert_eq!(value_at(&metadata, "client.ip").and_then(|ip| ip.as_str()), Some("10.0.0.1"));
/// ```
#[must_use]
pub fn value_at<'a>(metadata: &'a Value, path: &str) -> Option<&'a Value> {
    let step = |value: &'a Value, step: &PathStep| match step {
        PathStep::Key(key) | PathStep::Exact(key) => value.get(key),
        PathStep::Index(index) => value.get(usize::try_from(*index).ok()?),
    };
    places(&steps(path)).iter().find_map(|place| place.iter().try_fold(metadata, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[PathStep]) -> String {
        steps
            .iter()
            .map(|step| match step {
                PathStep::Key(key) => format!("<{key}>"),
                PathStep::Exact(key) => format!("<={key}>"),
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
            ("\"a.b[0]\".c", "<=a.b[0]><c>"),
            ("\"a\"[1]", "<=a><#1>"),
            ("\"a", "<\"a>"),
            ("\"a\"b", "<\"a\"b>"),
            ("a[b].c", "<a><=[b].c>"),
            ("a..b", "<a><><b>"),
            ("", "<>"),
            ("a.", "<a><>"),
            ("a\0[2147483647]", "<a\u{fffd}><#2147483647>"),
            ("a[2147483648]", "<a><=[2147483648]>"),
        ] {
            assert_eq!(path(&steps(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_path_leads_to_a_key_with_dots_and_through_several_keys() {
        let all = |text: &str| places(&steps(text)).iter().map(|place| path(place)).collect::<Vec<_>>();
        assert_eq!(all("a"), ["<=a>"]);
        assert_eq!(all("a.b"), ["<=a.b>", "<=a><=b>"]);
        assert_eq!(all("a.b.c"), ["<=a.b.c>", "<=a.b><=c>", "<=a><=b.c>", "<=a><=b><=c>"]);
        assert_eq!(all("a.b[0].c"), ["<=a.b><#0><=c>", "<=a><=b><#0><=c>"]);
        assert_eq!(all("\"a\".b.c"), ["<=a><=b.c>", "<=a><=b><=c>"]);
        assert_eq!(all("\"a\".\"b\""), ["<=a><=b>"]);
        assert_eq!(all("a.b.c.d.e.f").len(), 32);
        assert_eq!(all("a.b.c.d.e.f.g").len(), 2);
    }

    #[test]
    fn the_value_at_a_path_is_that_of_the_longest_key() {
        let metadata = serde_json::json!({ "a.b": 1, "a": { "b": 2, "c.d": [3] } });
        for (path, value) in
            [("a.b", Some(1)), ("\"a\".\"b\"", Some(2)), ("a.c.d[0]", Some(3)), ("a.x", None)]
        {
            assert_eq!(value_at(&metadata, path).and_then(Value::as_u64), value, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spelled_path_parses_to_the_same_path(
            keys in proptest::collection::vec(("[^\"\0\\]]{0,6}", proptest::option::of(0..9_u32)), 1..4),
        ) {
            let path: Vec<PathStep> = keys
                .into_iter()
                .flat_map(|(key, index)| {
                    let exact = key.contains(['.', '[']);
                    let key = if exact { PathStep::Exact(key) } else { PathStep::Key(key) };
                    [Some(key), index.map(PathStep::Index)]
                })
                .flatten()
                .collect();
            proptest::prop_assert_eq!(steps(&spelled_path(&path)), path);
        }
    }
}
