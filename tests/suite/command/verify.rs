//! Verification, as an operator runs it; and a second program that must agree.

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tracing_audit::{
    AuditLog, AuditReader, Integrity,
    evidence::{FindingKind, Verification},
    ledger::Checkpoint,
};

use super::{command, filled, run};
use crate::support::{self, entry, log, log_with, settle, store, texts, this_test, wait_until};

fn verify(db: &str, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(db).arg("verify").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_ledger_is_verified_against_what_was_kept_elsewhere() {
    let fixture = filled(log());
    let (db, directory) = (&*fixture.db, fixture.directory.path());
    let kept = run(db, "checkpoint").stdout;
    let kept = String::from_utf8(kept).unwrap();
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!((lines.len(), lines[1]), (3, "13"));
    let short = [lines[1], lines[2]].join(" ");
    let file = directory.join("kept");
    fs::write(&file, &kept).unwrap();
    let file = file.to_str().unwrap();

    for arguments in [
        &["--checkpoint", file][..],
        &["--checkpoint", &kept],
        &["--checkpoint", &short, "--require-size", "13"],
    ] {
        let (code, out, err) = verify(db, arguments);
        assert_eq!((code, &*err), (0, ""), "{out}");
        assert!(
            out.contains("main: 13 of 13 entries read, 13 covered by a checkpoint (signed: no), "),
            "{out}"
        );
        assert!(out.ends_with(&format!("to be kept elsewhere: {short}\n")), "{out}");
    }
    assert_eq!(verify(db, &["--quiet", "--checkpoint", file]), (0, String::new(), String::new()));
    let (code, _, err) = verify(db, &[]);
    assert!(code == 5 && err.contains("no checkpoint from outside"), "{code} {err}");
    let (code, _, err) = verify(db, &["--checkpoint", file, "--require-size", "14"]);
    assert!(code == 5 && err.contains("covers 13 entries, fewer than 14"), "{code} {err}");
    for (wrong, says) in [
        ("nothing", "cut off"),
        ("13 root", "not 32 bytes in base64"),
        (db, "cannot read the checkpoint"),
        (&*lines[..2].join("\n"), "it is cut off: it has 2 of three lines"),
        (&*[lines[0], lines[2], ""].join("\n"), "it is cut off: it has 2 of three lines"),
    ] {
        let (code, _, err) = verify(db, &["--checkpoint", wrong]);
        assert!(code == 2 && err.contains(says), "{code} {err}");
    }
    let (code, out, _) = verify(db, &["--checkpoint", &format!("14 {}", lines[2])]);
    assert!(
        code == 1 && out.starts_with("Truncated 13: the end was cut off: a checkpoint is of 14 entries"),
        "{out}"
    );
    let status: Value = serde_json::from_slice(&run(db, "ledger status").stdout).unwrap();
    assert_eq!(
        (&status["origin"], &status["tree_size"], &status["root"]),
        (&lines[0].into(), &13.into(), &lines[2].into())
    );

    // One byte, by hand.
    fixture.run("UPDATE tracing_audit_entries SET decision = 'allow' WHERE seq = 7");
    let (code, out, err) = verify(db, &["--checkpoint", file, "--quiet"]);
    assert_eq!((code, &*out), (1, "Modified 7: the entry is not as it was committed\n"));
    assert!(err.contains("the ledger is not as it was: 1 finding\n"), "{err}");
    let (code, out, _) = verify(db, &["--checkpoint", file, "--format", "json"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &said["intact"], &said["covered"]), (1, &false.into(), &13.into()));
    assert_eq!(
        (&said["findings"][0]["finding"], &said["findings"][0]["from"]),
        (&"Modified".into(), &7.into())
    );
    assert_eq!(support::second_program(db, &[&short])["modified"], serde_json::json!([7]));
}

#[test]
fn an_incremental_run_begins_where_the_last_one_ended_and_keeps_what_it_found() {
    let fixture = log();
    let state = fixture.directory.path().join("state");
    let state = state.to_str().unwrap();
    let write = |count: u32| {
        (0..count).for_each(|n| fixture.log.writer().try_write(entry(n.to_string())).unwrap());
        settle(&fixture.log.writer());
    };
    write(300);
    // The first run has nothing to hold the ledger against; the next one has the state.
    assert_eq!(verify(&fixture.db, &["--state", state]).0, 5);
    write(300);
    assert_eq!(verify(&fixture.db, &["--state", state]).0, 0);
    let text = fs::read_to_string(state).unwrap();
    assert!(text.contains("\"size\":600"), "{text}");
    fixture.run("UPDATE tracing_audit_entries SET action = '' WHERE seq = 299");
    write(1);
    for more in [&[][..], &["--full"]] {
        let (code, out, _) = verify(&fixture.db, &[&["--state", state], more].concat());
        assert!(code == 1 && out.starts_with("Modified 299: "), "{code} {out}");
    }
    // What is no state stays as it is, and what was found is said first.
    fs::write(state, "{}").unwrap();
    let (code, out, err) = verify(&fixture.db, &["--state", state]);
    assert!(code == 1 && out.starts_with("Modified 299: "), "{code} {out}");
    assert!(err.contains("remove it to begin again") && err.contains("1 finding"), "{err}");
    let fresh = log();
    let (code, out, err) = verify(&fresh.db, &["--state", state]);
    assert!(code == 2 && out.contains("0 of 0 entries read"), "{code} {out}");
    assert!(err.contains("remove it to begin again") && fs::read(state).unwrap() == b"{}", "{err}");
}

/// What a file says of how far earlier runs have come, and what they have found.
fn known(state: &Path) -> (Value, Value) {
    let known: Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    (json!([known["origin"], known["size"], known["frontier"]]), known["findings"].clone())
}

#[test]
fn a_state_goes_on_only_with_a_ledger_that_leads_through_it() {
    let fixture = log();
    let directory = fixture.directory.path();
    write(&fixture.log, 300);
    closed(&fixture.log);
    let [earlier, whole, other] = ["earlier.db", "whole.db", "other.db"].map(|name| directory.join(name));
    fs::copy(&fixture.db, &earlier).unwrap();
    let more = support::open(Path::new(&fixture.db));
    write(&more, 300);
    closed(&more);
    fs::copy(&fixture.db, &whole).unwrap();
    let another = support::open(&other);
    write(&another, 700);
    closed(&another);
    let (state, kept) = (directory.join("state"), directory.join("kept"));
    let with_state =
        |db: &str, more: &[&str]| verify(db, &[&["--state", state.to_str().unwrap()], more].concat());
    assert_eq!(with_state(&fixture.db, &[]).0, 5);
    assert_eq!(with_state(&fixture.db, &[]).0, 0);
    fs::copy(&state, &kept).unwrap();
    let before = known(&kept);
    assert_eq!((&before.0[1], &before.1), (&json!(600), &json!([])));

    let no_tree = "DELETE FROM tracing_audit_leaves; DELETE FROM tracing_audit_nodes;
                   UPDATE tracing_audit_head SET tree_size = 0, frontier = x'';";
    let changed = "UPDATE tracing_audit_entries SET action = '' WHERE seq = 100; DELETE FROM tracing_audit_entries WHERE seq = 200";
    // A file in its place, what is changed there, what is found first, and whether a log opens it afterwards.
    for (number, (file, sql, found, opens)) in [
        (&earlier, "", "Truncated 300 to 599: ", true),
        (&whole, &*[no_tree, changed].concat(), "Truncated 0 to 599: ", true),
        (&whole, "DELETE FROM tracing_audit_leaves", "BatchAltered 0", false),
        (&whole, "UPDATE tracing_audit_head SET log_id = randomblob(16)", "HeadAltered: ", true),
        (&whole, "DELETE FROM tracing_audit_head", "HeadAltered: ", false),
        (&other, "", "Forked 0 to 599: ", true),
    ]
    .into_iter()
    .enumerate()
    {
        let db = directory.join(format!("{number}.db"));
        fs::copy(file, &db).unwrap();
        support::run(db.to_str().unwrap(), format!("PRAGMA synchronous = OFF; {sql}"));
        fs::copy(&kept, &state).unwrap();
        let rings = |when: &str| {
            for more in [&[][..], &["--full"], &[]] {
                let (code, out, err) = with_state(db.to_str().unwrap(), more);
                assert_eq!(code, 1, "{sql:?} {when}: {out}");
                let is_broken_off = found.starts_with("Truncated") || found.starts_with("Forked");
                assert_eq!(err.contains("until you remove it"), is_broken_off, "{err}");
                assert_eq!(known(&state).0, before.0, "{sql:?} {when}: {out}");
            }
            with_state(db.to_str().unwrap(), &["--quiet"]).1
        };
        let out = rings("at once");
        assert!(out.starts_with(found), "{sql:?}: {out}");
        if opens {
            let log = support::open(&db);
            write(&log, 400);
            closed(&log);
            let later = rings("later");
            let first = found.trim_end_matches(": ").split(' ').next().unwrap();
            assert!(later.contains(first), "{sql:?}: {later}");
        }
    }
    // A log that was only written on is another matter, and so is a state that was removed.
    fs::copy(&kept, &state).unwrap();
    let log = support::open(Path::new(&fixture.db));
    write(&log, 1);
    closed(&log);
    assert_eq!(with_state(&fixture.db, &[]).0, 0);
    assert_eq!(known(&state).0[1], 601);
    fs::remove_file(&state).unwrap();
    assert_eq!(with_state(directory.join("0.db").to_str().unwrap(), &[]).0, 5);
}

#[test]
fn a_checkpoint_or_a_state_of_no_entry_covers_nothing() {
    let fixture = log();
    let state = fixture.directory.path().join("state");
    let state = state.to_str().unwrap();
    let empty = String::from_utf8(run(&fixture.db, "checkpoint").stdout).unwrap();
    assert_eq!(empty.lines().nth(1), Some("0"));
    for _ in 0..2 {
        let (code, _, err) = verify(&fixture.db, &["--checkpoint", &empty]);
        assert!(code == 5 && err.contains("covers no entry"), "{code} {err}");
        write(&fixture.log, 3);
    }
    assert_eq!(verify(&fixture.db, &["--checkpoint", &empty, "--state", state]).0, 5);
    // Now there is a state that covers something.
    assert_eq!(verify(&fixture.db, &["--checkpoint", &empty, "--state", state]).0, 0);
    let fresh = log();
    let (code, ..) = verify(&fresh.db, &["--state", &[state, "2"].concat()]);
    assert_eq!(code, 5);
    write(&fresh.log, 3);
    assert_eq!(verify(&fresh.db, &["--state", &[state, "2"].concat()]).0, 5);
    assert_eq!(verify(&fresh.db, &["--state", &[state, "2"].concat()]).0, 0);
}

#[test]
fn what_was_found_is_said_also_if_the_state_cannot_be_written() {
    let fixture = filled(log());
    let kept = String::from_utf8(run(&fixture.db, "checkpoint").stdout).unwrap();
    let nowhere = fixture.directory.path().join("none/state");
    let arguments = ["--checkpoint", &kept, "--state", nowhere.to_str().unwrap()];
    let (code, out, err) = verify(&fixture.db, &arguments);
    assert!(code == 4 && out.contains("13 of 13 entries read"), "{code} {out}");
    assert!(err.contains("cannot write the output: ") && err.contains("none/state"), "{err}");
    fixture.run("UPDATE tracing_audit_entries SET action = 'x' WHERE seq IN (3, 7)");
    let (code, out, err) = verify(&fixture.db, &arguments);
    assert!(code == 1 && out.starts_with("Modified 3: "), "{code} {out}");
    assert!(err.contains("cannot write the output: ") && err.contains("2 findings"), "{err}");
    // Nor read, because a pipe is in its place.
    #[cfg(unix)]
    {
        let pipe = fixture.directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (code, out, err) =
            verify(&fixture.db, &["--checkpoint", &kept, "--state", pipe.to_str().unwrap()]);
        assert!(code == 1 && out.starts_with("Modified 3: "), "{code} {out}");
        assert!(err.contains("is a pipe or a device") && err.contains("2 findings"), "{err}");
        let other = log();
        let (code, out, err) = verify(&other.db, &["--state", pipe.to_str().unwrap()]);
        assert!(code == 4 && out.contains("0 of 0 entries read"), "{code} {out}");
        assert!(err.contains("is a pipe or a device"), "{err}");
    }
    // And if nobody takes the output.
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    if let Ok(full) = full {
        let output =
            command(&fixture.db).args(["verify", "--checkpoint", &kept]).stdout(full).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && err.contains("cannot write the output: "), "{err}");
    }
}

#[test]
fn several_checkpoints_in_a_file_are_all_held_against_the_ledger() {
    let fixture = log();
    let (directory, mut notes) = (fixture.directory.path(), Vec::new());
    for _ in 0..3 {
        write(&fixture.log, 5);
        notes.push(String::from_utf8(run(&fixture.db, "checkpoint").stdout).unwrap());
    }
    let kept = directory.join("kept");
    let short = |note: &String| note.lines().skip(1).collect::<Vec<_>>().join(" ");
    let forged = notes[1].replace("\n10\n", "\n11\n");
    for (text, code) in [
        (notes.concat(), 0),
        (notes.join("\n"), 0),
        (format!("\n\n{}\n", notes.join("\n\n")), 0),
        (notes.iter().map(short).collect::<Vec<_>>().join("\n"), 0),
        ([&*notes[0], &forged, &notes[2]].concat(), 1),
        ([&*notes[0], &notes[1], "9\n"].concat(), 2),
    ] {
        fs::write(&kept, &text).unwrap();
        let (found, out, err) = verify(&fixture.db, &["--checkpoint", kept.to_str().unwrap()]);
        assert_eq!(found, code, "{text}: {out} {err}");
    }
    for (arguments, says) in [
        ("nosuch", "there is no file \"nosuch\", and as a text it is not a checkpoint"),
        ("/no/such/file", "there is no file \"/no/such/file\""),
    ] {
        let (code, _, err) = verify(&fixture.db, &["--checkpoint", arguments]);
        assert!(code == 2 && err.contains(says), "{code} {err}");
    }
}

#[test]
fn nothing_is_read_through_a_view_in_the_place_of_a_table() {
    let fixture = filled(log());
    let (db, directory) = (&*fixture.db, fixture.directory.path());
    let kept = String::from_utf8(run(db, "checkpoint").stdout).unwrap();
    let file = directory.join("all.jsonl").display().to_string();
    assert!(run(db, &format!("export -o {file}")).status.success());
    for (table, columns) in [
        (
            "entries",
            "x AS seq, randomblob(16) AS id, 0 AS ts, zeroblob(16) AS workspace_id, NULL AS session_id, NULL AS agent_id,
             'a' AS action, '' AS resource, NULL AS resource_id, '' AS decision, NULL AS reason, NULL AS risk_score,
             '{}' AS metadata, NULL AS problems",
        ),
        (
            "batches",
            "x AS first_seq, 1 AS entries, zeroblob(16) AS writer, x AS position, 0 AS committed_at, 0 AS least_ts, 0 AS greatest_ts",
        ),
        ("nodes", "8 AS level, x AS idx, zeroblob(32) AS hash"),
        ("head", "'l' || x AS ledger, x AS next_seq, x AS given, zeroblob(16) AS log_id, 0 AS tree_size, x'' AS frontier"),
        ("migrations", "x AS version, 0 AS applied_at"),
    ] {
        let table = format!("tracing_audit_{table}");
        // Its rows never end.
        fixture.run(&format!(
            "ALTER TABLE {table} RENAME TO aside; CREATE VIEW {table} AS
             WITH RECURSIVE r(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM r) SELECT {columns} FROM r"
        ));
        let says = format!("a view stands in the place of the table {table}");
        let (code, out, err) = verify(db, &["--checkpoint", &kept]);
        assert!(code == 1 && out.starts_with(&format!("SchemaAltered: {says}")), "{table}: {code} {out} {err}");
        let commands = [
            ("check".to_owned(), 1),
            ("query --limit 0".to_owned(), 3),
            (format!("compare --against {file}"), 1),
            ("export".to_owned(), 3),
            ("ledgers".to_owned(), 3),
        ];
        let some = if table.ends_with("entries") { 5 } else { 2 };
        for (arguments, code) in commands.into_iter().take(some) {
            let output = run(db, &arguments);
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8(told).unwrap();
            assert_eq!(output.status.code(), Some(code), "{table}, {arguments}: {told}");
            assert!(told.contains(&table), "{table}, {arguments}: {told}");
        }
        fixture.run(&format!("DROP VIEW {table}; ALTER TABLE aside RENAME TO {table}"));
        assert_eq!(verify(db, &["--checkpoint", &kept]).0, 0, "{table}");
    }
    // A table that is not as it should be is said, and read all the same.
    fixture.run("CREATE TRIGGER meddler AFTER INSERT ON tracing_audit_reads BEGIN DELETE FROM tracing_audit_entries; END");
    let (code, out, _) = verify(db, &["--checkpoint", &kept]);
    assert!(code == 1 && out.starts_with("SchemaAltered: there is a trigger meddler"), "{out}");
    assert!(out.contains("13 of 13 entries read, 13 covered"), "{out}");
    let output = run(db, &format!("compare -o table --against {file}"));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.code() == Some(1) && told.starts_with("schema   there is a trigger meddler"),
        "{told}"
    );
    assert!(told.contains("13 entries are there, unchanged"), "{told}");
}

#[test]
fn a_second_head_in_a_file_is_no_second_ledger() {
    let fixture = filled(log());
    let db = &*fixture.db;
    let kept = String::from_utf8(run(db, "checkpoint").stdout).unwrap();
    fixture.run(
        "INSERT INTO tracing_audit_head SELECT 'a second', next_seq, given, log_id, tree_size, frontier FROM tracing_audit_head",
    );
    let (code, out, err) = verify(db, &["--checkpoint", &kept]);
    assert!(code == 1 && out.contains("HeadAltered: the ledger has 2 heads"), "{code} {out} {err}");
    assert!(out.contains("main: 13 of 13 entries read"), "{out}");
    let says = "the table tracing_audit_head has 2 rows";
    for (arguments, code) in [("check", 1), ("query", 5), ("export", 5)] {
        let output = run(db, arguments);
        let told = String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap();
        assert!(output.status.code() == Some(code) && told.contains(says), "{arguments}: {told}");
        assert!(!told.contains("a second"), "{arguments}: {told}");
    }
    assert_eq!(String::from_utf8_lossy(&run(db, "ledgers").stdout).lines().count(), 1);
}

/// A ledger that was written, caught up and killed, as files with nothing beside them.
struct Ledgers {
    /// The ledger with its first 150 entries, with 300, and with all of them.
    files: [PathBuf; 3],
    /// The checkpoints of the last two.
    kept: [Checkpoint; 2],
    directory: tempfile::TempDir,
    copies: Cell<u32>,
}

fn write(log: &AuditLog, count: u32) {
    (0..count).for_each(|n| log.writer().try_write(entry(n.to_string())).unwrap());
    settle(&log.writer());
}

/// Closes the log, and returns the checkpoint of its ledger once all of it is in the tree.
fn closed(log: &AuditLog) -> Checkpoint {
    let reader = log.reader();
    wait_until("the tree has caught up", || {
        let status = reader.blocking().ledger_status().unwrap();
        status.tree_size == status.next_seq
    });
    let kept = reader.blocking().checkpoint().unwrap();
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
    kept
}

impl Ledgers {
    /// The last entries are those of the process that runs this test again, which is killed amid them.
    fn new(test: &str) -> Self {
        let off = log_with(|builder| builder.integrity(Integrity::Off));
        let (db, directory) = (PathBuf::from(&off.db), off.directory);
        let files = ["earlier.db", "later.db", "whole.db"].map(|name| directory.path().join(name));
        write(&off.log, 150);
        // Somebody has removed one before there was a tree.
        support::run(&off.db, "DELETE FROM tracing_audit_entries WHERE seq = 17");
        assert_eq!(off.log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        closed(&support::open(&db));
        fs::copy(&db, &files[0]).unwrap();
        let inline = support::open(&db);
        write(&inline, 150);
        let later = closed(&inline);
        fs::copy(&db, &files[1]).unwrap();

        let mut child =
            support::again(test).env(DB, &db).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap() == WRITTEN);
        assert!(said, "the child has written");
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..30)));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = support::open(&db);
        last.blocking().recovered(support::PATIENCE).unwrap();
        settle(&last.writer());
        let whole = closed(&last);
        assert!(whole.size() >= 350, "{whole:?}");
        fs::copy(&db, &files[2]).unwrap();
        Self { files, kept: [later, whole], directory, copies: Cell::default() }
    }

    /// One of the ledgers, and what was done to it.
    fn copy(&self, number: usize, sql: &str) -> String {
        self.copies.set(self.copies.get() + 1);
        let file = self.directory.path().join(format!("copy-{}.db", self.copies.get()));
        fs::copy(&self.files[number], &file).unwrap();
        let db = file.to_str().unwrap();
        // What is changed here need not survive a loss of power.
        support::run(db, format!("PRAGMA synchronous = OFF; {sql}"));
        db.to_owned()
    }

    /// What both say of a ledger, by the checkpoints that were kept.
    fn said(&self, db: &str) -> (Vec<(FindingKind, i64, i64)>, Value) {
        let short = self.kept.each_ref().map(|kept| {
            let (size, root) = support::size_and_root(kept);
            format!("{size} {root}")
        });
        let verification = Verification::against(self.kept[0].clone()).and(self.kept[1].clone());
        let verified = AuditReader::new(store(db)).blocking().verify(verification.jobs(1)).unwrap();
        let signs = verified.findings().iter().filter(|found| !found.kind.is_information());
        let signs: Vec<_> = signs.map(|found| (found.kind, found.from, found.until)).collect();
        let second = support::second_program(db, &short.each_ref().map(String::as_str));
        assert_eq!(second["intact"], verified.is_intact(), "{signs:?} {second}");
        (signs, second)
    }
}

const DB: &str = "TRACING_AUDIT_TEST_DB";
const WRITTEN: &str = "written";

/// In a child: commits some entries, says so, and accepts others until it is killed.
fn write_until_killed() -> bool {
    let Some(db) = std::env::var_os(DB) else { return false };
    let log = support::open(Path::new(&db));
    write(&log, 50);
    std::io::stdout().write_all(format!("\n{WRITTEN}\n").as_bytes()).unwrap();
    let ended = std::thread::spawn(|| drop(std::io::stdin().read_line(&mut String::new())));
    for n in 0..100 {
        log.writer().try_write(entry(n.to_string())).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    ended.join().unwrap();
    true
}

#[test]
fn a_second_program_agrees_on_ledgers_that_were_written_killed_caught_up_restored_and_changed() {
    use FindingKind::{
        Added, BatchAltered, Forked, HeadAltered, Missing, Modified, Moved, NodeAltered, TileAltered,
        Truncated,
    };
    if write_until_killed() {
        return;
    }
    let ledgers = Ledgers::new(this_test!());
    let size = i64::try_from(ledgers.kept[1].size()).unwrap();
    let (_, root) = support::size_and_root(&ledgers.kept[1]);
    let (signs, second) = ledgers.said(&ledgers.copy(2, ""));
    assert_eq!((signs, &second["anchors"]), (vec![], &json!([true, true])), "{second}");
    assert_eq!(second["root"], root, "{second}");

    // Restored: an earlier state was put back, and then others were committed, first fewer than there were.
    let (restored, more) = (ledgers.copy(1, ""), u32::try_from(size - 300).unwrap());
    for (more, found) in [(0, (Truncated, 300)), (1, (Truncated, 301)), (more, (Forked, 300))] {
        if more > 0 {
            let log = support::open(Path::new(&restored));
            write(&log, more);
            closed(&log);
        }
        let (signs, second) = ledgers.said(&restored);
        assert_eq!(signs, [(found.0, found.1, size)], "{more} {second}");
        assert_eq!(second["anchors"][0], true, "{second}");
    }
    let (code, out, _) = verify(&restored, &["--checkpoint", &format!("{size} {root}"), "--quiet"]);
    assert!(code == 1 && out.starts_with(&format!("Forked 0 to {}: ", size - 1)), "{code} {out}");
    // One from before both checkpoints, and a ledger that is another one and longer.
    let (signs, second) = ledgers.said(&ledgers.copy(0, ""));
    assert_eq!((signs, &second["anchors"]), (vec![(Truncated, 150, 300)], &json!([null, null])), "{second}");
    let other = log();
    write(&other.log, 500);
    closed(&other.log);
    let (signs, second) = ledgers.said(&other.db);
    assert_eq!((signs, &second["anchors"]), (vec![(Forked, 0, 300)], &json!([false, false])), "{second}");
    // The tree was removed, so that the next log makes it anew over what was changed.
    let anew = |change: &str| {
        let db = ledgers.copy(
            2,
            &format!(
                "{change}; DELETE FROM tracing_audit_leaves; DELETE FROM tracing_audit_nodes;
                 UPDATE tracing_audit_head SET tree_size = 0, frontier = x''"
            ),
        );
        assert_eq!(closed(&support::open(Path::new(&db))).size(), ledgers.kept[1].size());
        ledgers.said(&db)
    };
    let (signs, second) = anew("UPDATE tracing_audit_entries SET decision = 'Deny' WHERE seq = 200");
    assert_eq!((signs, &second["anchors"]), (vec![(Forked, 0, 300)], &json!([false, false])), "{second}");

    // Changed. Each with what is found, and with what the second program says beside it.
    let batch = texts(
        ledgers.files[2].to_str().unwrap(),
        "SELECT first_seq || ' ' || entries FROM tracing_audit_batches
         WHERE entries > 2 AND (first_seq > 17 OR first_seq + entries <= 17) ORDER BY first_seq LIMIT 1",
    );
    let (first, entries) = batch[0].split_once(' ').unwrap();
    let (first, entries): (i64, i64) = (first.parse().unwrap(), entries.parse().unwrap());
    let of = format!("WHERE first_seq = {first}");
    // A range that no batch accounts for has leaf hashes without a seed, and its entries are not proven.
    let (signs, second) = anew(&format!("DELETE FROM tracing_audit_batches {of}"));
    assert_eq!(signs, [(Forked, 0, 300), (Added, first, first + entries)], "{second}");
    assert_eq!(second["added"], json!((first..first + entries).collect::<Vec<_>>()), "{second}");
    let one = |kind, seq: i64| vec![(kind, seq, seq + 1)];
    let altered = vec![(BatchAltered, first, first + entries)];
    let nowhere = |sql: &str| (sql.to_owned(), vec![(HeadAltered, size, size)], "head", json!(false));
    let modified = |set: &str, seq: i64| {
        let sql = format!("UPDATE tracing_audit_entries SET {set} WHERE seq = {seq}");
        (sql, one(Modified, seq), "modified", json!([seq]))
    };
    let insert = |seq: &str| {
        let columns = "ts, workspace_id, action, resource, decision, metadata";
        format!(
            "INSERT INTO tracing_audit_entries (seq, id, {columns}) SELECT {seq}, randomblob(16), {columns}
             FROM tracing_audit_entries WHERE seq = 5"
        )
    };
    let cases = [
        modified("ts = ts - 1", 5),
        modified("metadata = '{ }'", 299),
        (
            "DELETE FROM tracing_audit_entries WHERE seq = 298".to_owned(),
            one(Missing, 298),
            "missing",
            json!([298]),
        ),
        (
            "UPDATE tracing_audit_entries SET seq = -seq WHERE seq IN (3, 250);
             UPDATE tracing_audit_entries SET seq = seq + 253 WHERE seq IN (-3, -250)"
                .to_owned(),
            vec![(Moved, 3, 4), (Moved, 250, 251)],
            "modified",
            json!([3, 250]),
        ),
        (insert("-1"), one(Added, -1), "added", json!([-1])),
        (insert(&size.to_string()), one(Added, size), "added", json!([size])),
        // Where there was no entry when the tree was made.
        (insert("17"), one(Added, 17), "added", json!([17])),
        (
            format!("UPDATE tracing_audit_batches SET committed_at = committed_at + 1 {of}"),
            altered.clone(),
            "batches",
            json!([first]),
        ),
        (
            format!("UPDATE tracing_audit_batches SET least_ts = least_ts - 1 {of}"),
            altered.clone(),
            "batches",
            json!([first]),
        ),
        (format!("DELETE FROM tracing_audit_batches {of}"), altered.clone(), "batches", json!([first])),
        (
            format!("UPDATE tracing_audit_leaves SET seeds = zeroblob(16) {of}"),
            altered,
            "batches",
            json!([first]),
        ),
        (
            format!(
                "UPDATE tracing_audit_leaves SET leaves = CAST(zeroblob(32) || substr(leaves, 33) AS BLOB) {of}"
            ),
            vec![(TileAltered, 0, 256)],
            "modified",
            json!([first]),
        ),
        (
            "UPDATE tracing_audit_nodes SET hash = zeroblob(32)".to_owned(),
            vec![(NodeAltered, 0, 256)],
            "nodes",
            json!([[8, 0]]),
        ),
        (
            "INSERT INTO tracing_audit_nodes SELECT 8, 7, hash FROM tracing_audit_nodes".to_owned(),
            vec![(NodeAltered, 0, 0)],
            "nodes",
            json!([[8, 7]]),
        ),
        nowhere("UPDATE tracing_audit_head SET next_seq = next_seq - 5"),
        nowhere("UPDATE tracing_audit_head SET frontier = zeroblob(length(frontier))"),
        (
            "UPDATE tracing_audit_head SET next_seq = next_seq + 2".to_owned(),
            vec![(Missing, size, size + 2)],
            "missing",
            json!([size, size + 1]),
        ),
    ];
    for (sql, expected, says, said) in cases {
        let (mut signs, second) = ledgers.said(&ledgers.copy(2, &sql));
        for sign in &mut signs {
            // The head is at no place of its own.
            if sign.0 == HeadAltered {
                (sign.1, sign.2) = (size, size);
            }
        }
        assert_eq!((signs, &second[says]), (expected, &said), "{sql}: {second}");
    }
}
