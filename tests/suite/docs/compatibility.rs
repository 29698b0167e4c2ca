//! The guide's table of compatibility, row by row: small services beside other crates that link SQLite.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// What a service beside this crate asks for, and whether the table says that it resolves.
struct Beside {
    crate_and_version: (&'static str, &'static str),
    features: &'static str,
    resolves: bool,
}

fn table() -> Vec<Beside> {
    let text = include_str!("../../../src/guide/compatibility.rs");
    let rows: Vec<Beside> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
        .filter_map(|row| {
            let [beside, features, resolves] = *row.split(" | ").collect::<Vec<_>>() else { return None };
            let crate_and_version = beside.split_once(' ')?;
            let resolves = match resolves {
                "yes" => true,
                "no" => false,
                _ => return None,
            };
            Some(Beside { crate_and_version, features, resolves })
        })
        .collect();
    assert!(rows.len() >= 15, "only {} rows were read", rows.len());
    rows
}

impl Beside {
    /// Makes a service that depends on this crate and on the other.
    fn service(&self, directory: &Path) {
        let ours = match self.features {
            "default" => String::new(),
            features => format!(", default-features = false, features = [{features:?}]"),
        };
        let (name, version) = self.crate_and_version;
        let theirs = match name {
            "sqlx" => r#""runtime-tokio", "sqlite""#,
            "sea-orm" => r#""runtime-tokio", "sqlx-sqlite""#,
            "diesel" => r#""sqlite""#,
            "rusqlite" => r#""bundled""#,
            other => panic!("the test does not know how to use {other}"),
        };
        let dependencies = format!(
            "[dependencies]\ntracing-audit = {{ path = {:?}{ours} }}\n\
             {name} = {{ version = \"{version}\", features = [{theirs}] }}",
            env!("CARGO_MANIFEST_DIR"),
        );
        let main = "fn main() {\n    println!(\"{:?}\", tracing_audit::AuditLog::builder());\n}\n";
        service(directory, &dependencies, main);
    }

    fn described(&self) -> String {
        let (name, version) = self.crate_and_version;
        format!("{name} {version} beside the features {}", self.features)
    }
}

/// Makes a program of its own with these dependencies.
fn service(directory: &Path, dependencies: &str, main: &str) {
    let head = "[package]\nname = \"service\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n";
    fs::create_dir(directory.join("src")).unwrap();
    fs::write(directory.join("Cargo.toml"), [head, dependencies, "\n"].concat()).unwrap();
    fs::write(directory.join("src/main.rs"), main).unwrap();
}

fn cargo(directory: &Path, command: &str) -> Output {
    let target: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compatibility");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg(command).current_dir(directory).env("CARGO_TARGET_DIR", target).output().unwrap()
}

/// Resolves each row, and gives those that resolved to `then`.
fn each_row(mut then: impl FnMut(&Beside, &Path)) {
    for row in table() {
        let directory = tempfile::tempdir().unwrap();
        row.service(directory.path());
        let resolved = cargo(directory.path(), "generate-lockfile");
        let said = String::from_utf8_lossy(&resolved.stderr);
        assert_eq!(resolved.status.success(), row.resolves, "{}: {said}", row.described());
        if row.resolves {
            then(&row, directory.path());
        } else {
            assert!(said.contains("links to the native library `sqlite3`"), "{}: {said}", row.described());
        }
    }
}

#[test]
#[ignore = "asks the registry: part of .ci/run"]
fn each_row_of_the_table_resolves_or_does_not_as_it_says() {
    each_row(|_, _| {});
}

#[test]
#[ignore = "a sweep: .ci/sweep compatibility"]
fn each_service_that_resolves_compiles() {
    each_row(|row, directory| {
        let checked = cargo(directory, "check");
        assert!(
            checked.status.success(),
            "{}: {}",
            row.described(),
            String::from_utf8_lossy(&checked.stderr)
        );
    });
}

#[test]
#[ignore = "a sweep: .ci/sweep compatibility"]
fn the_program_of_the_readme_compiles_with_the_dependencies_that_it_shows() {
    let readme = include_str!("../../../README.md");
    let block = |kind: &str| {
        let (_, rest) = readme.split_once(&format!("```{kind}\n")).unwrap();
        rest.split_once("```").unwrap().0
    };
    // Not released: the dependency is this directory.
    let here = format!("tracing-audit = {{ path = {:?} }}", env!("CARGO_MANIFEST_DIR"));
    let dependencies = block("toml").replace("tracing-audit = \"0.1\"", &here);
    assert!(dependencies.contains(&here), "{dependencies}");
    let directory = tempfile::tempdir().unwrap();
    service(directory.path(), &dependencies, block("rust,no_run"));
    let checked = cargo(directory.path(), "check");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
