//! The types of other crates that the public API names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

/// Crates whose types the API may name anywhere.
const PUBLIC: [&str; 10] = [
    "alloc",
    "chrono",
    "core",
    "serde",
    "serde_core",
    "serde_json",
    "std",
    "tracing",
    "tracing_core",
    "uuid",
];

/// Crates whose types stand in some items only.
const IN_SOME: [(&str, &[&str]); 3] = [
    // The conversions from pools.
    ("sqlx", &["impl From for Store", "impl From for PostgresStore"]),
    // The layer and its filters are generic over the subscriber below.
    (
        "tracing_subscriber",
        &["AuditLayer", "layer", "protect", "not_audit", "impl Filter", "impl Layer", "with"],
    ),
    ("futures_core", &["stream", "follow", "follow_matching", "export_stream", "bundle"]),
];

/// The description of the library that rustdoc writes for programs.
fn described() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["rustdoc", "--locked", "--lib", "--features", "testing,cli,postgres", "--"]);
    cargo.args(["-Z", "unstable-options", "--output-format", "json"]);
    // The output for programs is rustdoc's own and unstable, which is all that the variable allows here.
    cargo.env("RUSTC_BOOTSTRAP", "1").current_dir(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("public");
    let made = cargo.env("CARGO_TARGET_DIR", &target).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    serde_json::from_slice(&fs::read(target.join("doc/tracing_audit.json")).unwrap()).unwrap()
}

/// Collects the ids of the types and traits that are named below `value`.
fn named(value: &Value, ids: &mut BTreeSet<u64>) {
    match value {
        Value::Object(map) => {
            if let (Some(id), Some(_)) = (map.get("id").and_then(Value::as_u64), map.get("path")) {
                ids.insert(id);
            }
            map.values().for_each(|inner| named(inner, ids));
        }
        Value::Array(items) => items.iter().for_each(|inner| named(inner, ids)),
        _ => {}
    }
}

/// `impl From for Store`, or the item's own name.
fn title(item: &Value) -> String {
    let Some(of) = item["inner"].get("impl") else {
        return item["name"].as_str().unwrap_or_default().to_owned();
    };
    let last = |path: &Value| path.as_str().unwrap_or_default().rsplit("::").next().unwrap().to_owned();
    format!("impl {} for {}", last(&of["trait"]["path"]), last(&of["for"]["resolved_path"]["path"]))
}

#[test]
#[ignore = "documents the library once more: part of .ci/run"]
fn public_dependencies_are_the_ones_that_are_meant() {
    let described = described();
    let items = described["index"].as_object().unwrap();
    let crate_of = |id: &u64| -> Option<String> {
        let at = &described["paths"][id.to_string()];
        let number = at["crate_id"].as_u64().filter(|number| *number > 0)?;
        described["external_crates"][number.to_string()]["name"].as_str().map(str::to_owned)
    };
    let mut parents = BTreeMap::new();
    for item in items.values() {
        for member in item["inner"]["impl"]["items"].as_array().into_iter().flatten() {
            parents.insert(member.as_u64().unwrap(), item);
        }
    }
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for item in items.values().filter(|item| item["crate_id"] == 0) {
        let of = &item["inner"]["impl"];
        if of["is_synthetic"] == true || !of["blanket_impl"].is_null() {
            continue;
        }
        let mut titles = vec![title(item)];
        titles.extend(item["id"].as_u64().and_then(|id| parents.get(&id)).map(|parent| title(parent)));
        let mut ids = BTreeSet::new();
        named(&item["inner"], &mut ids);
        for name in ids.iter().filter_map(crate_of).filter(|name| !PUBLIC.contains(&&**name)) {
            let family = if name.starts_with("sqlx") { "sqlx" } else { &name };
            let places =
                IN_SOME.iter().find(|(known, _)| *known == family).map_or(&[][..], |(_, places)| places);
            if titles.iter().any(|title| places.iter().any(|place| title.starts_with(place))) {
                found.insert(family.to_owned());
            } else {
                wrong.push(format!("{titles:?} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found.contains("sqlx"), "the conversions from pools were not seen: {found:?}");
}
