//! The examples print what they say. `cargo test` has built them.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::support::{self, entry};

/// The program of an example.
pub(super) fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "the example is not built: 'cargo build --examples'");
    program
}

/// Runs an example with this standard input.
fn example(name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let pipe = Stdio::piped;
    let mut child = Command::new(built(name))
        .args(arguments)
        .stdin(pipe())
        .stdout(pipe())
        .stderr(pipe())
        .spawn()
        .unwrap();
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
fn replay_reads_plain_and_gzip_input_skips_lines_that_are_no_record_and_balances() {
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
        // A writer that has not ended would count as silent.
        let open = "SELECT hex(writer) FROM tracing_audit_writers WHERE ended_at IS NULL";
        assert_eq!(support::texts(file.to_str().unwrap(), open), Vec::<String>::new());
        let entries = support::all_in(file.to_str().unwrap());
        assert_eq!(entries[0].entry.ts.to_rfc3339(), "2023-07-10T11:42:18+00:00");
        assert_eq!(
            (entries[0].entry.decision.as_str(), entries[1].entry.decision.as_str()),
            ("Allow", "Deny")
        );
    }
}

#[test]
fn journal_inspect_shows_the_owner_the_content_and_the_damage_of_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let queue = directory.path().join("audit.db.queue");
    let shown =
        || String::from_utf8(example("journal_inspect", &[queue.to_str().unwrap()], b"").stdout).unwrap();
    let store = tracing_audit::Store::sqlite(&file).unwrap();
    let never = std::time::Duration::from_hours(1);
    let log = support::builder(store).flush_interval(never).blocking().open().unwrap();
    for _ in 0..3 {
        log.writer().try_write(entry("a")).unwrap();
    }
    let table = shown();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].ends_with(&format!("of process {}, in use", std::process::id())), "{table}");
    assert_eq!(lines[1], "  for sqlite:audit.db, ledger main");
    let cells: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(cells[..4], ["0", "3", "3", "0"]);
    assert_eq!(cells[5..], ["16777216", "none"]);

    // A copy, whose second record is no record any more, and after whose last one something begins.
    let journal = &tracing_audit::journal::inspect(&queue).unwrap()[0];
    let used = usize::try_from(journal.segments[0].used).unwrap();
    let mut bytes = std::fs::read(&journal.segments[0].path).unwrap();
    bytes[4096 + (used - 4096) / 2] ^= 1;
    bytes[used] = 1;
    let copy = directory.path().join("copy");
    std::fs::create_dir_all(copy.join(journal.writer.to_string())).unwrap();
    std::fs::write(copy.join(journal.writer.to_string()).join("lock"), "").unwrap();
    std::fs::write(copy.join(journal.writer.to_string()).join("00000000000000000000.segment"), bytes)
        .unwrap();
    let output = example("journal_inspect", &[copy.to_str().unwrap()], b"");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("of process unknown, left behind"), "{table}");
    let cells: Vec<&str> = table.lines().nth(3).unwrap().split_whitespace().collect();
    assert_eq!((&cells[..4], cells[6]), (&["0", "3", "2", "1"][..], "Tail"), "{table}");

    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.committed, 3);
    std::fs::create_dir_all(&queue).unwrap();
    assert_eq!(shown(), "no journals: whatever was accepted is in the database\n");
}
