//! Keeps a client's metadata from replacing the values of the deployment: the static fields.

use serde_json::{Map, Value as Json};

/// Moves the values that this object has under the names of static fields, whole or nested, into a value of its own. A
/// name with dots is a path: `service.name` is the `name` in `service`. `taken` says which names the event uses
/// otherwise.
pub(super) fn set_aside(
    object: &mut Map<String, Json>,
    statics: &Map<String, Json>,
    taken: impl Fn(&str) -> bool,
    problems: &mut Vec<String>,
) {
    if object.is_empty() {
        return;
    }
    let mut aside = Map::new();
    for (name, value) in statics {
        if object.get(name) == Some(value) {
            object.remove(name);
        }
        let keys: Vec<&str> = name.split('.').collect();
        let moved = take(object, &keys);
        if !moved.is_empty() {
            problems.push(format!(
                "metadata: `{name}` is a static field, what the event says of it is set aside"
            ));
            aside.extend(moved);
        }
    }
    if !aside.is_empty() {
        let mut name = "given".to_owned();
        while object.contains_key(&name) || statics.contains_key(&name) || taken(&name) {
            name.push('_');
        }
        object.insert(name, aside.into());
    }
}

/// Takes out of the object what a path with these keys begins with, leads to or passes.
fn take(object: &mut Map<String, Json>, keys: &[&str]) -> Map<String, Json> {
    let mut moved = Map::new();
    let meets = |name: &&String| name.split('.').zip(keys).all(|(one, other)| one == *other);
    let names: Vec<String> = object.keys().filter(meets).cloned().collect();
    for name in names {
        let deeper = keys.get(name.split('.').count()..).filter(|deeper| !deeper.is_empty());
        match (object.get_mut(&name), deeper) {
            (Some(Json::Object(inner)), Some(deeper)) => {
                let taken = take(inner, deeper);
                let is_empty = inner.is_empty();
                if !taken.is_empty() {
                    moved.insert(name.clone(), taken.into());
                    if is_empty {
                        object.remove(&name);
                    }
                }
            }
            _ => moved.extend(object.remove(&name).map(|value| (name, value))),
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_spelling_of_a_name_replaces_a_static_field() {
        for (statics, object, kept) in [
            (
                json!({"service": "b"}),
                json!({"service": "p", "x": 1}),
                json!({"x": 1, "given": {"service": "p"}}),
            ),
            (json!({"service": "b"}), json!({"service.name": "p"}), json!({"given": {"service.name": "p"}})),
            (
                json!({"service": "b"}),
                json!({"service": {"name": "p"}}),
                json!({"given": {"service": {"name": "p"}}}),
            ),
            (
                json!({"service.name": "b"}),
                json!({"service": {"name": "p", "version": 2}}),
                json!({"service": {"version": 2}, "given": {"service": {"name": "p"}}}),
            ),
            (json!({"service.name": "b"}), json!({"service": "p"}), json!({"given": {"service": "p"}})),
            (
                json!({"a.b.c": "b"}),
                json!({"a": {"b.c": 1}, "a.b": {"c": 2, "d": 3}}),
                json!({"a.b": {"d": 3}, "given": {"a": {"b.c": 1}, "a.b": {"c": 2}}}),
            ),
            (
                json!({"service": "b"}),
                json!({"service": "p", "given": 1}),
                json!({"given": 1, "given_": {"service": "p"}}),
            ),
        ] {
            let (mut left, mut problems) = (object.as_object().cloned().unwrap(), Vec::new());
            set_aside(&mut left, statics.as_object().unwrap(), |_| false, &mut problems);
            assert_eq!(Json::Object(left), kept, "{object}");
            assert_eq!(problems.len(), 1);
        }
    }

    #[test]
    fn what_is_the_same_or_elsewhere_stays() {
        let statics = json!({"service": "b"});
        for (object, kept) in [
            (json!({"service": "b"}), json!({})),
            (
                json!({"services": 1, "other": {"service": 1}}),
                json!({"services": 1, "other": {"service": 1}}),
            ),
        ] {
            let (mut left, mut problems) = (object.as_object().cloned().unwrap(), Vec::new());
            set_aside(&mut left, statics.as_object().unwrap(), |_| false, &mut problems);
            assert_eq!((Json::Object(left), problems.len()), (kept, 0), "{object}");
        }
    }
}
