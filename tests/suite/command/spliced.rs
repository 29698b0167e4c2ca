//! Two logs, or the answers of two questions, are never in one file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tracing_audit::{AuditEntry, AuditLog, SequencedEntry};
use uuid::Uuid;

use super::{answer, command, run, seqs};
use crate::support;

/// A log, and what became of copies of it.
struct Logs {
    directory: tempfile::TempDir,
}

impl Logs {
    /// Sixteen entries in `a`; `fork` was the same until twelve; `other` has twenty of its own; `short` has twelve of `a`.
    fn new() -> Self {
        let logs = Self { directory: tempfile::tempdir().unwrap() };
        logs.commit("a", 12);
        fs::copy(logs.db("a"), logs.db("fork")).unwrap();
        fs::copy(logs.db("a"), logs.db("short")).unwrap();
        logs.commit("a", 4);
        logs.commit("fork", 6);
        logs.commit("other", 20);
        logs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn db(&self, name: &str) -> String {
        self.at(&[name, ".db"].concat())
    }

    fn commit(&self, name: &str, count: usize) {
        let log: AuditLog = support::open(&self.path(&[name, ".db"].concat()));
        for number in 0..count {
            let reason = Some("x".repeat(4000));
            let decision = if number % 2 == 0 { "Deny" } else { "Allow" }.to_owned();
            let action = if (name, count, number) == ("a", 12, 0) { "first" } else { "act" };
            let action = format!("{name}.{action}");
            let entry = AuditEntry { reason, decision, ..AuditEntry::new(Uuid::nil(), action, "r") };
            support::commit(&log, entry);
        }
        drop(log.blocking().shutdown(support::PATIENCE).unwrap());
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Checks that the command is refused with one sentence, and changes none of these files.
    #[track_caller]
    fn refused(&self, db: &str, arguments: &str, code: i32, says: &str, files: &[&str]) {
        let contents = || files.iter().map(|name| fs::read(self.path(name)).unwrap()).collect::<Vec<_>>();
        let before = contents();
        let refused = run(&self.db(db), arguments);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{db} {arguments}: {told}");
        assert!(told.contains(says), "{db} {arguments}: {told}");
        assert!(refused.stdout.is_empty());
        assert_eq!(contents(), before, "{db} {arguments}");
    }

    /// An export of `a` that a full disk has interrupted, after 51 200 bytes of some seventy thousand.
    fn interrupted(&self, options: &str) {
        let script = format!("trap '' XFSZ; ulimit -f 100; exec \"$0\" export --resume {options}");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_tracing-audit")]);
        let done = limited.env("TRACING_AUDIT_DB", self.db("a")).output().unwrap();
        assert_eq!(done.status.code(), Some(4), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Writes a file for this user alone.
fn plant(path: &Path, contents: &[u8]) {
    fs::write(path, contents).unwrap();
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn an_export_is_continued_only_with_the_log_and_the_question_with_which_it_began() {
    let logs = Logs::new();
    let out = logs.at("out.jsonl");
    let files = ["out.jsonl.partial", "out.jsonl.partial.json"];
    let options = format!("--since 30d --manifest -o {out}");
    let resume = format!("export --resume {options}");
    let (partial, plan) = (logs.path(files[0]), logs.path(files[1]));
    logs.interrupted(&options);
    let (written, settled) = (fs::read(&partial).unwrap(), logs.read(files[1]));
    assert_eq!(written.len(), 51_200);
    let settled_plan: Value = serde_json::from_str(&settled).unwrap();

    logs.refused("other", &resume, 3, "another one", &files);
    logs.refused("fork", &resume, 3, "has the entry", &files);
    logs.refused("short", &resume, 3, "ends at seq 12, and ended at 16", &files);
    let narrower = format!("export --resume --since 29d --manifest -o {out}");
    logs.refused("a", &narrower, 2, "had other options", &files);
    logs.refused("a", &format!("{resume} --decision Deny"), 2, "had other options", &files);

    // What is there already must be what the ledger has: a changed byte, entries left out, entries of another log, more
    // than there is.
    let other = answer(&logs.db("other"), "export");
    let position = written.windows(5).position(|five| five == b"a.act").unwrap();
    let mut forged = written.clone();
    forged[position] = b'b';
    let without_first = written.splitn(2, |byte| *byte == b'\n').last().unwrap().to_vec();
    let longer = [answer(&logs.db("a"), "export").as_bytes(), b"{}\n"].concat();
    for (planted, line) in [(&forged, 2), (&without_first, 1), (&other.into_bytes(), 1), (&longer, 17)] {
        plant(&partial, planted);
        logs.refused("a", &resume, 3, &format!("differs in line {line}"), &files);
    }
    // Nothing says what it is, or whose it is.
    plant(&partial, &written);
    fs::remove_file(&plan).unwrap();
    logs.refused("a", &resume, 2, "says nothing of which export", &files[..1]);
    for broken in ["", "{}", "null", &settled.replace("ledgers", "ledger")] {
        plant(&plan, broken.as_bytes());
        logs.refused("a", &resume, 2, "is not a plan", &files);
    }
    plant(&plan, settled.as_bytes());
    #[cfg(unix)]
    for (path, mode) in [(&partial, 0o622), (&plan, 0o660)] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        logs.refused("a", &resume, 2, "may be changed by others", &files);
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    // The last entry of that time is gone.
    let gone = logs.db("gone");
    fs::copy(logs.db("a"), &gone).unwrap();
    support::run(&gone, "delete from tracing_audit_entries where seq = 15");
    logs.refused("gone", &resume, 3, "has no entry at seq 15", &files);

    // What came since is not in it, times are those of the beginning, and all of this is told.
    let whole = answer(&logs.db("a"), "export");
    logs.commit("a", 2);
    let done = run(&logs.db("a"), &resume);
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && told.contains("continues the export that began at"), "{told}");
    assert_eq!(logs.read("out.jsonl"), whole);
    assert!(!partial.exists() && !plan.exists());
    let manifest: Value = serde_json::from_str(&logs.read("out.jsonl.manifest.json")).unwrap();
    for name in ["since", "before", "began_at", "query", "ledgers"] {
        assert_eq!(manifest[name], settled_plan[name], "{name}");
    }
    assert_eq!(manifest["asked"], json!({ "since": manifest["since"] }));
    assert_eq!(manifest["ledgers"][0]["last"]["seq"], 15);
    assert_eq!(
        (&manifest["database"], &manifest["order"], &manifest["rows"]),
        (&json!("SQLite"), &json!("by ledger, then seq, ascending"), &json!(16))
    );
}

#[test]
fn the_manifest_has_the_moments_that_were_asked_and_no_row_from_before() {
    let logs = Logs::new();
    let out = logs.at("out.csv");
    answer(
        &logs.db("a"),
        &format!("export --format csv --since 1h --where action!=x --risk-max 0.5 --manifest -o {out}"),
    );
    let manifest: Value = serde_json::from_str(&logs.read("out.csv.manifest.json")).unwrap();
    let header = logs.read("out.csv").lines().next().unwrap().to_owned();
    assert_eq!(manifest["header"], json!(header));
    assert_eq!(manifest["order"], "by ts, then seq, descending");
    let asked = manifest["asked"].as_object().unwrap();
    assert_eq!(asked["since"], manifest["since"]);
    assert_eq!(asked["conditions"].as_array().unwrap().len(), 2);
    let since: chrono::DateTime<chrono::Utc> = serde_json::from_value(manifest["since"].clone()).unwrap();
    let began: chrono::DateTime<chrono::Utc> = serde_json::from_value(manifest["began_at"].clone()).unwrap();
    assert!(since + chrono::TimeDelta::hours(1) <= began);
}

#[test]
fn a_copy_and_a_state_go_on_only_with_the_log_and_the_question_with_which_they_began() {
    let logs = Logs::new();
    let ways = [
        ("copy.jsonl", format!("tail --decision Deny --since 30d -o {}", logs.at("copy.jsonl"))),
        ("state", format!("tail --decision Deny --since 30d --state {}", logs.at("state"))),
    ];
    for (file, tail) in &ways {
        let shown = answer(&logs.db("a"), tail);
        let source = if *file == "state" { "state" } else { "copy.jsonl.source.json" };
        let files = [*file, source];
        let since = || {
            let kept: Value = serde_json::from_str(&logs.read(source)).unwrap();
            kept.get("question").unwrap_or(&kept)["since"].clone()
        };
        let first = since();
        assert!(first.is_string());

        logs.refused("other", tail, 3, "another one", &files);
        logs.refused("fork", tail, 3, "has the entry", &files);
        logs.refused("short", tail, 3, "ends at seq 12", &files);
        let other = tail.replace("--decision Deny", "--decision Allow");
        logs.refused("a", &other, 2, "repeat those options", &files);
        logs.refused("a", &tail.replace("30d", "31d"), 2, "--since 30d", &files);
        logs.refused("a", &tail.replace(" --since 30d", ""), 2, "repeat those options", &files);
        logs.refused("a", &format!("{tail} --from-seq 3"), 2, "repeat those options", &files);

        // The entry on which it stands is gone, or is another one.
        let last = if *file == "state" { 15 } else { 14 };
        for (change, says) in [
            (format!("delete from tracing_audit_entries where seq = {last}"), "has no entry at seq"),
            (
                format!("update tracing_audit_entries set id = randomblob(16) where seq = {last}"),
                "has the entry",
            ),
        ] {
            let changed = format!("{file} {last} {says}");
            fs::copy(logs.db("a"), logs.db(&changed)).unwrap();
            support::run(&logs.db(&changed), change);
            logs.refused(&changed, tail, 3, says, &files);
        }
        // It goes on with the same log, also in a copy of it, and with the times of the first run.
        let moved = format!("moved {file}");
        fs::copy(logs.db("a"), logs.db(&moved)).unwrap();
        logs.commit(&moved, 4);
        let more = answer(&logs.db(&moved), tail);
        assert_eq!(since(), first);
        let (shown, more) = if *file == "state" {
            (shown, more)
        } else {
            let whole = logs.read(file);
            let whole: Vec<&str> = whole.split_inclusive('\n').collect();
            (whole[..8].concat(), whole[8..].concat())
        };
        assert_eq!((seqs(&shown), seqs(&more)), (vec![0, 2, 4, 6, 8, 10, 12, 14], vec![16, 18]));
    }
}

#[test]
fn a_copy_or_a_state_that_says_nothing_of_its_log_is_refused() {
    let logs = Logs::new();
    let copy = format!("tail -o {}", logs.at("copy"));
    fs::write(logs.path("copy"), answer(&logs.db("other"), "export")).unwrap();
    logs.refused("other", &copy, 2, "copy.source.json is missing", &["copy"]);
    fs::remove_file(logs.path("copy")).unwrap();
    assert_eq!(answer(&logs.db("a"), &copy), "");
    let files = ["copy", "copy.source.json"];
    logs.refused(
        "a",
        &format!("export -o {}", logs.at("copy")),
        2,
        "a copy that `tail -o` continues",
        &files,
    );
    // The last line was changed since, or is of another log.
    let whole = logs.read("copy");
    let forged = whole.replace("a.act", "b.act");
    let foreign = answer(&logs.db("other"), "tail -n all --before-seq 16");
    for (planted, says) in
        [(forged, "one of the two was changed"), ([whole.clone(), foreign].concat(), "another one")]
    {
        fs::write(logs.path("copy"), planted).unwrap();
        logs.refused("a", &copy, 3, says, &files);
    }
    fs::write(logs.path("copy"), &whole).unwrap();
    fs::write(logs.path("copy.source.json"), "{}").unwrap();
    logs.refused("a", &copy, 2, "was not written by this command", &["copy"]);

    let state = format!("tail --state {}", logs.at("state"));
    let last: SequencedEntry =
        serde_json::from_str(answer(&logs.db("a"), "tail --from-seq 4 --before-seq 5").trim()).unwrap();
    for planted in [
        json!({ "ledger": "main", "next_seq": 5 }),
        json!({ "ledger": "main", "next_seq": 5, "last": { "seq": 4, "id": last.entry.id } }),
    ] {
        fs::write(logs.path("state"), planted.to_string()).unwrap();
        logs.refused("a", &state, 2, "--from-seq 5", &["state"]);
    }
    // Standard output is a file of another format.
    fs::remove_file(logs.path("state")).unwrap();
    assert_eq!(seqs(&answer(&logs.db("a"), &state)).len(), 16);
    logs.refused(
        "a",
        &format!("{state} --format csv"),
        2,
        "gave JSON Lines, and is now to give CSV",
        &["state"],
    );
    assert_eq!(answer(&logs.db("a"), &state), "");
}

#[test]
fn a_log_that_is_exchanged_while_tail_waits_is_told_or_followed_by_name() {
    let logs = Logs::new();
    fs::copy(logs.db("a"), logs.db("now")).unwrap();
    let file = |name: &str| fs::File::create(logs.path(name)).unwrap();
    let waiting = |out: &str, arguments: &str| {
        let mut tail = command(&logs.db("now"));
        tail.args(arguments.split(' '))
            .stdout(file(out))
            .stderr(file(&[out, ".told"].concat()))
            .spawn()
            .unwrap()
    };
    // The one that looks for the first action has read everything behind it too.
    let mut tails = [
        waiting("state.out", &format!("tail -f --state {}", logs.at("state"))),
        waiting("first", "tail -f -n all --action a.first"),
        waiting("by name", "tail -F -n 1"),
    ];
    let lines = |name: &str| logs.read(name).lines().count();
    support::wait_until("they wait", || (lines("state.out"), lines("first"), lines("by name")) == (16, 1, 1));
    // The same log until seq 12, and then another one.
    fs::rename(logs.db("fork"), logs.db("now")).unwrap();
    for out in ["state.out.told", "first.told"] {
        support::wait_until("it is told", || logs.read(out).contains("another entry at seq 15"));
    }
    support::wait_until("the other log is shown", || lines("by name") == 19);
    assert!(logs.read("by name.told").contains("holds another log now"));
    logs.commit("now", 1);
    support::wait_until("and what comes", || lines("by name") == 20);
    for tail in &mut tails {
        tail.kill().unwrap();
        tail.wait().unwrap();
    }
    assert_eq!(seqs(&logs.read("by name")), [15].into_iter().chain(0..19).collect::<Vec<_>>());
    assert_eq!((lines("state.out"), lines("first")), (16, 1));
    let state: Value = serde_json::from_str(&logs.read("state")).unwrap();
    assert_eq!(state["next_seq"], 16);
}
