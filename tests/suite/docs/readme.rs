//! The README: its program, its size, and the files that it and the package name.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
};

use super::examples::built;

const README: &str = include_str!("../../../README.md");

/// The program without the head that only the example has, up to the fence that ends it in the README.
fn program(text: &str) -> &str {
    text.split("use tracing::").nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_program_of_the_readme_runs_when_it_is_copied_twice_in_one_directory() {
    assert_eq!(
        program(README),
        program(include_str!("../../../examples/readme.rs")),
        "the example is the README's program"
    );
    let directory = tempfile::tempdir().unwrap();
    for entries in ["entries by Alice: 1\n", "entries by Alice: 2\n"] {
        let mut command = Command::new(built("readme"));
        let Output { status, stdout, stderr } = command.current_dir(directory.path()).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let stdout = String::from_utf8(stdout).unwrap();
        assert!(stdout.starts_with(entries) && stdout.contains(",key.destroy,key,"), "{stdout}");
    }
}

#[test]
fn the_readme_is_short_and_its_links_lead_to_files() {
    assert!(README.lines().count() <= 130, "{} lines", README.lines().count());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links: BTreeSet<&str> =
        README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 8, "{links:?}");
    for link in links.into_iter().filter(|link| !link.starts_with("https://")) {
        assert!(root.join(link).exists(), "{link} does not exist");
    }
}

#[test]
fn the_package_holds_what_its_readme_names_and_no_tests() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let listed = cargo.output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files: BTreeSet<&str> = listed.lines().collect();
    assert!(files.contains("src/lib.rs") && files.contains("migrations/sqlite/0001_ledger.sql"), "{listed}");
    for unwanted in ["tests/", "benches/", "fuzz/", ".ci/"] {
        assert!(!files.iter().any(|file| file.starts_with(unwanted)), "{unwanted} is in the package");
    }
    let links = README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    for link in links.filter(|link| !link.starts_with("https://")) {
        assert!(files.contains(link), "the README names {link}, which is not in the package");
    }
}
