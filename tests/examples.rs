//! The examples do what they say. `cargo test` has built them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// Runs an example with this standard input.
fn example(name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let tests = std::env::current_exe().unwrap();
    let program: PathBuf = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "the example is not built: 'cargo build --examples'");
    let pipe = Stdio::piped;
    let mut child =
        Command::new(program).args(arguments).stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn quickstart_prints_entries_and_a_csv() {
    let output = String::from_utf8(example("quickstart", &[], b"").stdout).unwrap();
    let (entries, csv) = output.split_once("\n\n").unwrap();
    assert_eq!(entries.lines().count(), 3);
    assert_eq!(
        csv.lines().next().unwrap(),
        "id,session_id,workspace_id,agent_id,action,resource,resource_id,decision,reason,risk_score,ts,metadata"
    );
    assert_eq!(csv.lines().count(), 4);
}

#[test]
fn replay_takes_plain_and_gzip_skips_what_is_no_record_and_balances() {
    let records = concat!(
        r#"{"eventTime":"2023-07-10T11:42:18Z","eventSource":"s3.amazonaws.com","eventName":"GetObject"}"#,
        "\n\nnot JSON\n",
        r#"{"eventTime":"2023-07-10T11:42:19Z","eventSource":"s3.amazonaws.com","errorCode":"AccessDenied"}"#,
        "\n",
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(records.as_bytes()).unwrap();
    for input in [records.as_bytes(), &gzip.finish().unwrap()] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let output = example("replay", &["--db", file.to_str().unwrap()], input);
        let books = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = books.split_whitespace().collect();
        assert_eq!(words[..4], ["offered", "2", "committed", "2"], "{books}");
        assert!(books.contains("skipped            1") && books.contains("the books balance"), "{books}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("line 3: not a JSON object"));
        let store = tracing_audit::Store::sqlite(file).unwrap();
        let entries = support::block_on(support::all(&tracing_audit::AuditReader::new(store)));
        assert_eq!(entries[0].entry.ts.to_rfc3339(), "2023-07-10T11:42:18+00:00");
        assert_eq!(
            (entries[0].entry.decision.as_str(), entries[1].entry.decision.as_str()),
            ("Allow", "Deny")
        );
    }
}
