//! The tests that the documents name: each is there, and each guarantee of the README has some.

use std::{collections::BTreeSet, fs, path::Path};

const README: &str = include_str!("../../../README.md");
const FAILURES: &str = include_str!("../../../src/guide/failure.rs");
const SUITE: &str = include_str!("../main.rs");

/// A row of a table whose last column names tests: its first cell, and the names.
type Row = (&'static str, Vec<&'static str>);

fn rows(document: &'static str) -> Vec<Row> {
    let (mut found, mut names_tests) = (Vec::new(), false);
    for line in document.lines() {
        let Some(row) = line.strip_prefix("//! | ").and_then(|row| row.strip_suffix(" |")) else {
            names_tests &= line.starts_with("//! |--");
            continue;
        };
        let cells: Vec<&str> = row.split(" | ").collect();
        let (first, last) = (cells[0], cells[cells.len() - 1]);
        if last == "shown by" {
            names_tests = true;
        } else if names_tests {
            found.push((first, last.split('`').skip(1).step_by(2).collect()));
        }
    }
    found
}

/// The names of all functions of the crate and of its tests.
fn functions(root: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![root.join("src"), root.join("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(path).unwrap();
                let name = |rest: &str| rest.split(['(', '<']).next().unwrap_or_default().to_owned();
                found.extend(text.split("fn ").skip(1).map(name));
            }
        }
    }
    found
}

/// Whether this is the name, in which an ellipsis stands for what is left out.
fn fits(function: &str, name: &str) -> bool {
    let mut parts: Vec<&str> = name.split('…').collect();
    let Some(end) = parts.pop().filter(|_| !parts.is_empty()) else { return function == name };
    let mut rest = function;
    for (number, part) in parts.into_iter().enumerate() {
        match rest.split_once(part) {
            Some((before, after)) if number > 0 || before.is_empty() => rest = after,
            _ => return false,
        }
    }
    rest.ends_with(end)
}

/// Whether a file, a module or a function of this name is there.
fn is_there(name: &str, root: &Path, functions: &BTreeSet<String>) -> bool {
    let is_module = |path: &str| {
        ["tests", "tests/suite", "src", "src/engine"].iter().any(|folder| {
            let path = root.join(folder).join(path);
            path.is_dir() || path.with_extension("rs").is_file()
        })
    };
    let path = name.replace("::", "/");
    let (module, function) = path.rsplit_once('/').unwrap_or(("", &path));
    root.join(name).is_file()
        || is_module(&path)
        || is_module(module) && functions.iter().any(|known| fits(known, function))
}

#[test]
fn each_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let functions = functions(root);
    let rows: Vec<Row> = [FAILURES, SUITE].into_iter().flat_map(rows).collect();
    assert!(rows.len() > 120, "only {} rows were found", rows.len());
    let is_missing = |name: &&&str| !is_there(name, root, &functions);
    let missing: Vec<_> = rows
        .iter()
        .flat_map(|(row, names)| names.iter().filter(is_missing).map(move |name| format!("{name}: {row}")))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let without: Vec<_> = rows.iter().filter(|(_, names)| names.is_empty()).collect();
    assert!(without.is_empty(), "{without:#?}");
    // What is not there is noticed.
    for name in ["survive::nothing", "a_test_that_…_is_not_there", "nothing::is_there", "each_test_that_…_is"]
    {
        assert!(!is_there(name, root, &functions), "{name}");
    }
}

#[test]
fn each_guarantee_of_the_readme_is_shown_by_tests() {
    let shown: BTreeSet<&str> = rows(SUITE).into_iter().map(|(promise, _)| promise).collect();
    let (_, table) = README.split_once("| guarantee | meaning |\n|---|---|\n").unwrap();
    let guarantee = |line: &'static str| line.strip_prefix("| ")?.split(" | ").next();
    let guarantees: Vec<&str> = table.lines().map_while(guarantee).collect();
    assert!(guarantees.len() > 9, "{guarantees:?}");
    let missing: Vec<_> = guarantees.iter().filter(|guarantee| !shown.contains(**guarantee)).collect();
    assert!(missing.is_empty(), "{missing:?}, beside {shown:?}");
}
