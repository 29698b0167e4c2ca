//! Proofs and bundles, as an operator hands them over and an auditor verifies them; and a second program that must agree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
#[cfg(unix)]
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing_audit::{
    AuditEntry, audit_id,
    evidence::Anchor,
    ledger::{BundleVerifier, LedgerError, Proof, node_hash},
};

use super::{answer, command, filled, run};
use crate::support::{Fixture, log};

fn with(db: &str, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(db).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Whether it is said, and nothing else, that no signature of a checkpoint was verified.
pub(super) fn is_unsigned(err: &str) -> bool {
    err.lines().count() == 1 && err.starts_with("tracing-audit: signed: no. ")
}

/// What the program in Python says of these files.
fn second_program(trusted: &str, files: &[PathBuf]) -> Vec<Value> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify_proof.py");
    // Without what the machine has installed for Python, of which it needs nothing.
    let output = Command::new("python3").args(["-S", "-E"]).arg(program).arg(trusted).args(files).output();
    let output = output.expect("'python3' is needed: on Debian, 'apt-get install python3'");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// A ledger of 13 entries whose checkpoint is kept in a file.
struct Handed {
    fixture: Fixture,
    /// The file of the checkpoint, and its size and root.
    kept: String,
    short: String,
}

impl Handed {
    fn new() -> Self {
        let fixture = filled(log());
        let checkpoint = answer(&fixture.db, "checkpoint");
        let lines: Vec<&str> = checkpoint.lines().collect();
        let (kept, short) = (fixture.directory.path().join("kept"), [lines[1], lines[2]].join(" "));
        fs::write(&kept, &checkpoint).unwrap();
        Self { kept: kept.to_str().unwrap().to_owned(), short, fixture }
    }

    /// Seals the ledger, and keeps the checkpoint after that.
    fn seal(&mut self) {
        answer(&self.fixture.db, "seal");
        let checkpoint = answer(&self.fixture.db, "checkpoint");
        let lines: Vec<&str> = checkpoint.lines().collect();
        self.short = [lines[1], lines[2]].join(" ");
        fs::write(&self.kept, &checkpoint).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.fixture.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn with(&self, arguments: &[&str]) -> (i32, String, String) {
        with(&self.fixture.db, arguments)
    }

    /// What verification says by the checkpoint that was kept, without a database.
    fn verified(&self, command: &str, file: &str) -> (i32, String, String) {
        with("", &[command, file, "--checkpoint", &self.kept])
    }
}

#[test]
fn an_entry_is_proven_to_whoever_has_a_checkpoint_and_no_database() {
    let handed = Handed::new();
    let file = handed.file("7.tlog-proof");
    let entry: Value =
        serde_json::from_str(answer(&handed.fixture.db, "get 7").lines().next().unwrap()).unwrap();
    let id = entry["id"].as_str().unwrap();
    for named in ["7", "main:7", id] {
        drop(fs::remove_file(&file));
        let proved = handed.with(&["prove", named, "--checkpoint", &handed.kept, "-o", &file]);
        assert_eq!(proved, (0, String::new(), String::new()), "{named}");
        let (code, out, err) = handed.verified("verify-proof", &file);
        assert!(code == 0 && is_unsigned(&err), "{out} {err}");
        let shown: Value = serde_json::from_str(&out).unwrap();
        for (name, value) in entry.as_object().unwrap().iter().filter(|(name, _)| *name != "ledger") {
            assert!(shown[name] == *value || name == "problems", "{name}: {shown}");
        }
    }
    for given in [&*handed.short, &fs::read_to_string(&handed.kept).unwrap()] {
        assert_eq!(with("", &["verify-proof", &file, "--checkpoint", given]).0, 0);
    }
    // One of several is that of the file.
    let (_, root) = handed.short.split_once(' ').unwrap();
    let other = format!("12 {root}");
    assert_eq!(with("", &["verify-proof", &file, "--checkpoint", &other, "--checkpoint", &handed.kept]).0, 0);
    for (given, why) in [
        (other, "is of 13 entries, and the one that is trusted is of 12"),
        (format!("13 {}=", "A".repeat(43)), "another root"),
    ] {
        let (code, out, err) = with("", &["verify-proof", &file, "--checkpoint", &given]);
        assert!(code == 1 && out.is_empty() && err.contains(why), "{code} {err}");
    }
    let (code, out, err) = with("", &["verify-proof", &file]);
    assert!(code == 5 && out.contains("\"seq\":7") && err.contains(&handed.short), "{code} {err}");

    // By a checkpoint of now, to standard output.
    let (code, out, err) = handed.with(&["prove", "7"]);
    assert!(code == 0 && err.contains(&handed.short), "{code} {err}");
    assert_eq!(out, fs::read_to_string(&file).unwrap());

    // Withheld.
    let partly = handed.file("partly");
    let withhold = "agent_id,metadata.sourceIPAddress";
    let proved =
        handed.with(&["prove", "7", "--checkpoint", &handed.kept, "--withhold", withhold, "-o", &partly]);
    assert_eq!(proved.0, 0, "{}", proved.2);
    let (code, out, _) = handed.verified("verify-proof", &partly);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, shown.get("agent_id")), (0, None));
    assert!(
        !out.contains("sourceIPAddress") && out.contains("member") && out.contains("\"agent_id\""),
        "{out}"
    );
    let only = handed.with(&["prove", "7", "--checkpoint", &handed.kept, "--only", "core", "-o", &partly]);
    assert_eq!(only.0, 0, "{}", only.2);
    let (_, out, _) = handed.verified("verify-proof", &partly);
    assert!(out.contains("\"action\"") && out.contains("\"metadata\"]"), "{out}");
    // A file that is there already was replaced; what is refused leaves none.
    let none = handed.file("none");
    for (arguments, code, why) in [
        (&["prove", "99"][..], 1, "entry 99 is not among the 13 entries"),
        (&["prove", "9223372036854775807"], 1, "is not among the 13 entries"),
        (&["prove", "nobody"], 2, "is no entry: give its seq"),
        (&["prove", "other:7"], 2, "there is no ledger \"other\""),
        (&["prove", "00000000-0000-0000-0000-0000000000ff"], 1, "no entry has the id"),
        (
            &["prove", "7", "--withhold", "metadata.nothing"],
            2,
            "no entry has metadata.nothing, which was to be withheld",
        ),
        (&["prove", "7", "--withhold", "action"], 2, "is a part of core"),
        (&["prove", "7", "--withhold", "reason", "--only", "core"], 2, "cannot be used with"),
        (&["prove", "7", "--checkpoint", "nothing"], 2, "not a checkpoint that can be verified against"),
        (&["prove", "7", "--checkpoint", &format!("14 {root}")], 1, "the tree of the ledger has 13"),
        (
            &["prove", "7", "--checkpoint", &format!("12 {root}")],
            1,
            "does not lead to the checkpoint of 12 entries",
        ),
    ] {
        let (ended, _, err) = handed.with(&[arguments, &["-o", &none]].concat());
        assert!(ended == code && err.contains(why), "{arguments:?}: {ended} {err}");
        assert!(!Path::new(&none).exists());
    }
    let (code, _, err) = handed.with(&["prove", "7", "-o", &handed.fixture.db]);
    assert!(code == 2 && err.contains("which the output would destroy"), "{err}");

    // Changed, in the file and in the database.
    let whole = fs::read_to_string(&file).unwrap();
    for (changed, why) in [
        (whole.replace("index 7", "index 6"), "leads to another root"),
        (whole.replace("\n13\n", "\n12\n"), "is of 12 entries, and the one that is trusted is of 13"),
        (whole.replace("extra ", "extra A"), "malformed"),
        (whole.split_at(whole.len() / 2).0.to_owned(), "malformed proof: it is cut off"),
        (String::new(), "malformed proof: it is cut off"),
    ] {
        fs::write(&partly, &changed).unwrap();
        let (code, out, err) = handed.verified("verify-proof", &partly);
        assert!(code == 1 && out.is_empty() && err.contains(why), "{code} {err}");
    }
    fs::write(&partly, [0xff_u8; 9]).unwrap();
    assert_eq!(handed.verified("verify-proof", &partly).0, 1);
    let (code, _, err) = handed.verified("verify-proof", &none);
    assert!(code == 2 && err.contains("cannot read"), "{code} {err}");
    handed.fixture.run("UPDATE tracing_audit_entries SET decision = 'allow' WHERE seq = 7");
    let (code, _, err) = handed.with(&["prove", "7", "-o", &none]);
    assert!(code == 1 && err.contains("entry 7 is not as it was committed"), "{code} {err}");
    assert_eq!(handed.verified("verify-proof", &file).0, 0);
}

#[test]
fn many_entries_are_proven_as_a_range_or_as_what_was_asked_for() {
    let handed = Handed::new();
    let (all, some) = (handed.file("all.jsonl.gz"), handed.file("some.jsonl"));
    let bundle = |more: &[&str]| handed.with(&[&["bundle", "--checkpoint", &handed.kept], more].concat());
    assert_eq!(bundle(&["-o", &all]), (0, String::new(), String::new()));
    assert_eq!(fs::read(&all).unwrap()[..2], [0x1f, 0x8b]);
    let (code, out, err) = handed.verified("verify-bundle", &all);
    assert!(code == 0 && is_unsigned(&err), "{code} {err}");
    assert!(
        out.contains("all entries from 0 up to 13, as they were committed, by the checkpoint of 13 entries"),
        "{out}"
    );
    let (code, out, _) = with("", &["verify-bundle", &all, "--checkpoint", &handed.short, "--entries"]);
    let seqs = |out: &str| {
        let seq = |line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        out.lines().map(seq).collect::<Vec<_>>()
    };
    assert_eq!((code, seqs(&out)), (0, (0..13).collect()));
    assert_eq!(with("", &["verify-bundle", &all]).0, 5);

    let (code, out, err) = bundle(&["--from-seq", "3", "--before-seq", "6"]);
    assert!(
        code == 0 && out.lines().count() == 5 && out.contains("\"kind\":\"range\",") && err.is_empty(),
        "{out}"
    );
    assert_eq!(bundle(&["--agent", "alice", "--withhold", "reason,agent_id", "-o", &some]).0, 0);
    let text = fs::read_to_string(&some).unwrap();
    assert!(text.contains("\"kind\":\"selection\","), "{text}");
    let (code, out, _) = with("", &["verify-bundle", &some, "--checkpoint", &handed.kept, "--entries"]);
    assert_eq!(
        (code, seqs(&out).len()),
        (0, answer(&handed.fixture.db, "query --agent alice --limit 0").lines().count())
    );
    assert!(!out.contains("\"reason\":\"") && out.contains("\"withheld\":[\"agent_id\""), "{out}");
    // Entries that came since.
    handed.fixture.log.writer().blocking().commit(crate::support::entry("later")).unwrap();
    let (code, _, err) = bundle(&["--resource", "document", "-o", &some]);
    assert!(code == 0 && err.contains("1 matching entries are not in the bundle"), "{err}");

    let whole = text;
    let lines: Vec<&str> = whole.lines().collect();
    for (changed, why) in [
        (String::new(), "it is empty"),
        (whole.replacen("\"fields\":[[1,\"", "\"fields\":[[1,\"A", 1), "entry"),
        (lines[..lines.len() - 1].join("\n") + "\n", "it is cut off after line"),
        ([&*whole, "{}\n"].concat(), "follows its last line"),
        (whole.replacen("{\"seq\"", "{ \"seq\"", 1), "its bytes are not those that its last line is of"),
    ] {
        fs::write(&some, changed).unwrap();
        let (code, out, err) = with("", &["verify-bundle", &some, "--checkpoint", &handed.kept, "--entries"]);
        assert!(code == 1 && out.is_empty() && err.contains(why), "{why}: {code} {err}");
    }
    let gzip = fs::read(&all).unwrap();
    fs::write(&some, &gzip[..gzip.len() / 2]).unwrap();
    let (code, _, err) = handed.verified("verify-bundle", &some);
    assert!(code == 1 && err.contains("the compressed file is cut off or damaged"), "{code} {err}");
    fs::remove_file(&some).unwrap();
    for (more, code, why) in [
        (&["--from-seq", "3", "--before-seq", "15"][..], 2, "entry 14 is not among the 13 entries"),
        (&["--from-seq", "13"], 2, "there are no entries from 13 up to 13"),
        (&["--withhold", "metadata.nothing"], 2, "no entry has metadata.nothing"),
        (&["--agent", "nobody", "--only", "agent"], 2, "is none: there are core"),
    ] {
        let (ended, _, err) = bundle(&[more, &["-o", &some]].concat());
        assert!(ended == code && err.contains(why), "{more:?}: {ended} {err}");
        assert!(!Path::new(&some).exists());
    }
    handed.fixture.run("DELETE FROM tracing_audit_entries WHERE seq = 5");
    let (code, _, err) = bundle(&["-o", &some]);
    assert!(code == 1 && err.contains("entry 5 is gone") && !Path::new(&some).exists(), "{code} {err}");
}

#[test]
fn a_later_checkpoint_continues_an_earlier_one_or_it_is_said_that_it_does_not() {
    let handed = Handed::new();
    for name in ["one", "two"] {
        handed.fixture.log.writer().blocking().commit(crate::support::entry(name)).unwrap();
    }
    let later = answer(&handed.fixture.db, "checkpoint");
    let (file, proof) = (handed.file("later"), handed.file("since.proof"));
    fs::write(&file, &later).unwrap();
    let (code, out, err) = handed.with(&["consistency", "--from", &handed.kept, "-o", &proof]);
    assert!(code == 0 && err.contains("up to a checkpoint of now"), "{code} {err}");
    let said = "the ledger of 15 entries begins with all of the 13 of the earlier checkpoint, unchanged\n";
    assert_eq!(out, said);
    // Elsewhere, without a database.
    let verified = with("", &["consistency", "--from", &handed.short, "--to", &file, "--proof", &proof]);
    assert_eq!((verified.0, &*verified.1, is_unsigned(&verified.2)), (0, said, true));
    let (code, out, err) = handed.with(&["consistency", "--from", &handed.kept, "--to", &file]);
    assert_eq!((code, out, is_unsigned(&err)), (0, fs::read_to_string(&proof).unwrap(), true));

    let (_, root) = handed.short.split_once(' ').unwrap();
    let (other, renamed) =
        (format!("13 {}=", "A".repeat(43)), later.replace("tracing-audit.invalid", "other.invalid"));
    for (arguments, code, why) in [
        (&["--from", &*other][..], 1, "does not continue that of 13"),
        (&["--from", &handed.kept, "--to", &renamed], 1, "of different ledgers"),
        (&["--from", &format!("16 {root}")], 1, "the tree of the ledger has 15"),
        (&["--from", &file, "--to", &handed.kept], 2, "the earlier checkpoint is the smaller one"),
        (&["--from", &handed.kept, "--to", &file, "--proof", &handed.kept], 1, "its line 1 is not a hash"),
        (&["--from", &other, "--to", &file, "--proof", &proof], 1, "does not continue that of 13"),
        (&["--from", &handed.kept, "--to", &file, "--proof", "nothing"], 2, "cannot read nothing"),
    ] {
        let (ended, out, err) = handed.with(&[&["consistency"], arguments].concat());
        assert!(ended == code && out.is_empty() && err.contains(why), "{arguments:?}: {ended} {err}");
    }
}

#[test]
#[cfg(unix)]
fn a_pipe_in_place_of_a_file_of_any_length_is_refused_at_once() {
    let handed = Handed::new();
    let pipe = handed.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for given in [&*pipe, "/dev/zero"] {
        for arguments in [
            &["verify-bundle", given, "--checkpoint", &handed.kept][..],
            &["compare", "--against", given],
            &["checkpoint", "--to", given],
            &["consistency", "--from", &handed.kept, "--to", &handed.kept, "--proof", given],
        ] {
            let (code, out, err) = handed.with(arguments);
            assert!(code == 2 && out.is_empty(), "{arguments:?}: {code} {out} {err}");
            assert!(err.contains(given) && err.contains("is a pipe or a device, not a file"), "{err}");
        }
    }
    // One that the caller has opened is read.
    let bundle = handed.file("all.jsonl.gz");
    assert_eq!(handed.with(&["bundle", "--checkpoint", &handed.kept, "-o", &bundle]).0, 0);
    let mut through = command("");
    through.args(["verify-bundle", "/dev/stdin", "--checkpoint", &handed.kept]);
    let mut cat = Command::new("cat").arg(&bundle).stdout(Stdio::piped()).spawn().unwrap();
    let verified = through.stdin(cat.stdout.take().unwrap()).output().unwrap();
    assert!(cat.wait().unwrap().success());
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// A bundle without one of its entries, with all numbers and the hash in it mended.
fn without_entry(bundle: &str, at: usize) -> String {
    let mut lines: Vec<&str> = bundle.lines().collect();
    lines.pop();
    lines.remove(1 + at);
    let count = lines.len() - 1;
    let before = lines.join("\n") + "\n";
    let (begin, rest) = before.split_once("\"entries\":").unwrap();
    let (_, rest) = rest.split_once(',').unwrap();
    let before = format!("{begin}\"entries\":{count},{rest}");
    let hash: Vec<String> =
        Sha256::digest(before.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{before}{{\"entries\":{count},\"sha256\":\"{}\"}}\n", hash.concat())
}

#[test]
fn all_entries_of_a_workspace_are_handed_over_and_one_that_is_left_out_is_missed() {
    let mut handed = Handed::new();
    let (file, db) = (handed.file("acme.jsonl"), handed.fixture.db.clone());
    let export = |more: &[&str]| {
        let all = ["export", "--workspace", "111122223333", "--complete", "-o", &file];
        with(&db, &[&all[..], more].concat())
    };
    let (code, out, err) = export(&[]);
    assert!(code == 2 && out.is_empty() && err.contains("no seal is among the 13 entries"), "{code} {err}");
    assert!(!Path::new(&file).exists());
    handed.seal();
    let sealed: Value = serde_json::from_str(&answer(&db, "seal")).unwrap();
    assert_eq!(
        [&sealed["seq"], &sealed["until"], &sealed["workspaces"]],
        [&json!(13), &json!(13), &json!(3)],
        "{sealed}"
    );
    let (code, out, err) = export(&[]);
    assert!(code == 0 && out.is_empty() && err.contains("by a checkpoint of now"), "{code} {err}");
    let (code, out, err) = handed.verified("verify-bundle", &file);
    let said = format!(
        "all 8 entries of the workspace {} before 13, which entry 13 seals, as they were committed, by the checkpoint of 14 entries",
        audit_id("111122223333")
    );
    assert!(code == 0 && out.contains(&said) && is_unsigned(&err), "{code} {out} {err}");
    let (code, out, _) = with("", &["verify-bundle", &file, "--checkpoint", &handed.kept, "--entries"]);
    assert_eq!((code, out.lines().count()), (0, 8));

    // Later ones alone, to whoever has kept what was said of the earlier ones.
    let since = handed.file("since.jsonl");
    let more = ["bundle", "--complete", "--workspace", "111122223333", "--after", "5", "-o", &since];
    assert_eq!(handed.with(&more).0, 0);
    let text = fs::read_to_string(&since).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let start = first["start"].as_array().unwrap().len();
    assert_eq!((text.lines().count(), &first["from"], start), (5, &json!(5), 2));
    let end = out_of(&handed.verified("verify-bundle", &file).1, "to be kept for the next bundle: ");
    let earlier = root_of_five(&first);
    let (code, out, err) = handed.verified("verify-bundle", &since);
    assert!(code == 5 && err.contains("it leaves out the first 5 entries"), "{code} {err}");
    assert_eq!(out_of(&out, "to be kept for the next bundle: "), end);
    let other = format!("5 {}=", "A".repeat(43));
    let cases = [
        (&*earlier, 0, ""),
        (&*end, 1, "leaves out the first 5 entries of the workspace, and the earlier one ends after 8"),
        (&*other, 1, "not all those of the workspace as they were sealed"),
        ("5", 2, "is not the number of its entries"),
    ];
    for (kept, expected, why) in cases {
        let arguments = ["verify-bundle", &since, "--checkpoint", &handed.kept, "--continues", kept];
        let (code, _, err) = with("", &arguments);
        assert!(code == expected && err.contains(why), "{kept}: {code} {err}");
    }
    let (code, _, err) = handed.with(&[&more[..5], &["9"]].concat());
    assert!(
        code == 2 && err.contains("the first 9 entries of the workspace were to be left out"),
        "{code} {err}"
    );

    let whole = fs::read_to_string(&file).unwrap();
    let changed = handed.file("changed.jsonl");
    for at in 0..8 {
        fs::write(&changed, without_entry(&whole, at)).unwrap();
        let (code, out, err) = handed.verified("verify-bundle", &changed);
        let why = "the entries are not all those of the workspace as they were sealed";
        assert!(code == 1 && out.is_empty() && err.contains(why), "{code} {err}");
    }

    let other = &["bundle", "--workspace", "444455556666", "--complete", "--checkpoint", &handed.kept];
    let (code, out, err) = handed.with(&[&other[..], &["--only", "core"]].concat());
    assert!(
        code == 0 && out.lines().count() == 6 && out.contains("\"kind\":\"part\",") && err.is_empty(),
        "{err}"
    );
    let later = AuditEntry { workspace_id: audit_id("111122223333"), ..crate::support::entry("later") };
    handed.fixture.log.writer().blocking().commit(later).unwrap();
    let (code, _, err) = export(&[]);
    assert!(
        code == 0 && err.contains("1 later entries of the workspace are not in the bundle"),
        "{code} {err}"
    );
    let (code, _, err) = handed.with(&["verify", "--seals", "--checkpoint", &handed.kept]);
    assert_eq!((code, &*err), (0, ""));
    for (arguments, why) in [
        (&["--workspace", "444455556666"][..], "name it by one --workspace"),
        (&["--action", "s3:*"], "leave out the other conditions"),
        (&["--from-seq", "3"], "leave out the other conditions"),
        (&["--since", "2026-01-01"], "leave out the other conditions"),
        (&["--manifest"], "cannot be used with"),
        (&["--format", "csv"], "cannot be used with"),
        (&["--raw"], "--raw describes a CSV file"),
    ] {
        let (code, _, err) = export(arguments);
        assert!(code == 2 && err.contains(why), "{arguments:?}: {code} {err}");
    }
    for (workspace, why) in [("4444*", "write it without the *"), ("nobody", "has no entry before 13")] {
        let (code, out, err) = handed.with(&["bundle", "--complete", "--workspace", workspace]);
        assert!(code == 2 && out.is_empty() && err.contains(why), "{code} {err}");
    }
    let (code, _, err) = handed.with(&["export", "--complete"]);
    assert!(code == 2 && err.contains("--workspace"), "{code} {err}");
}

#[test]
#[cfg(unix)]
fn a_ledger_is_sealed_again_and_again_until_a_signal_comes() {
    let fixture = log();
    crate::support::commit(&fixture.log, crate::support::entry("first"));
    let mut sealing =
        command(&fixture.db).args(["seal", "--every", "1s"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(sealing.stdout.take().unwrap()).lines();
    for until in [1, 3] {
        let sealed: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&sealed["until"], &sealed["seq"]), (&json!(until), &json!(until)));
        crate::support::commit(&fixture.log, crate::support::entry("later"));
    }
    assert!(Command::new("kill").arg(sealing.id().to_string()).status().unwrap().success());
    assert!(sealing.wait().unwrap().success());
}

/// The rest of the line that begins so.
fn out_of(said: &str, begin: &str) -> String {
    said.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// The end of the five entries that a bundle leaves out: the root over the two subtrees of its start, and their number.
fn root_of_five(first: &Value) -> String {
    let peak =
        |index: usize| STANDARD.decode(first["start"][index].as_str().unwrap()).unwrap().try_into().unwrap();
    format!("5 {}", STANDARD.encode(node_hash(&peak(0), &peak(1))))
}

/// Whether a file holds, by the library.
fn holds(bytes: &[u8], trusted: &Anchor) -> bool {
    let proof = || {
        let text = std::str::from_utf8(bytes).ok()?;
        text.parse::<Proof>().and_then(|proof| proof.verify(trusted)).ok().map(drop)
    };
    let bundle = || -> Result<(), LedgerError> {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let mut verifier = BundleVerifier::begin(lines.next().unwrap_or_default(), trusted)?;
        lines.try_for_each(|line| verifier.take(line).map(drop))?;
        verifier.finish().map(drop)
    };
    if bytes.starts_with(b"c2sp") { proof().is_some() } else { bundle().is_ok() }
}

#[test]
fn a_second_program_agrees_on_proofs_and_bundles_whole_and_with_a_byte_changed() {
    let mut handed = Handed::new();
    handed.seal();
    let trusted: Anchor = handed.short.parse().unwrap();
    let made = [
        ("proof", "prove 7"),
        ("partly", "prove 7 --withhold agent_id,metadata.sourceIPAddress,core"),
        ("all.jsonl", "bundle"),
        ("range.jsonl", "bundle --from-seq 3 --before-seq 6 --withhold metadata"),
        ("some.jsonl", "bundle --agent alice --only core,metadata.eventName"),
        ("all.jsonl.gz", "bundle --gzip"),
        ("acme.jsonl", "bundle --workspace 444455556666 --complete --withhold metadata"),
    ];
    let mut files = Vec::new();
    for (name, arguments) in made {
        let file = handed.file(name);
        let output = run(&handed.fixture.db, &format!("{arguments} --checkpoint {} -o {file}", handed.kept));
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        files.push(PathBuf::from(file));
    }
    let said = second_program(&handed.short, &files);
    let kinds: Vec<&Value> = said.iter().map(|file| &file["kind"]).collect();
    assert_eq!(kinds, ["proof", "proof", "range", "range", "selection", "range", "part"], "{}", json!(said));
    let count = |file: usize| said[file]["entries"].as_array().unwrap().len();
    assert_eq!((count(0), count(2), count(3), count(5), count(6)), (1, 14, 3, 14, 4));
    assert_eq!(
        (&said[0]["entries"][0]["withheld"], &said[1]["entries"][0]["action"]),
        (&0.into(), &Value::Null)
    );
    // Each shows what the other shows.
    for (file, name) in [(2, "all.jsonl"), (4, "some.jsonl")] {
        let out =
            with("", &["verify-bundle", &handed.file(name), "--checkpoint", &handed.kept, "--entries"]).1;
        for (line, second) in out.lines().zip(said[file]["entries"].as_array().unwrap()) {
            let line: Value = serde_json::from_str(line).unwrap();
            let metadata: Value = serde_json::from_str(second["metadata"].as_str().unwrap()).unwrap();
            assert_eq!((&line["seq"], &line["action"]), (&second["seq"], &second["action"]));
            assert!(
                line["metadata"] == metadata || line["withheld"].to_string().contains("metadata"),
                "{line} {metadata}"
            );
        }
    }

    // A byte changed, one removed, and a part cut off, in each of the plain files; and each entry left out of all of a workspace.
    let (mut spoilt, mut expected) = (Vec::new(), Vec::new());
    let all_of_a_workspace = fs::read_to_string(&files[6]).unwrap();
    for at in 0..4 {
        let path = handed.fixture.directory.path().join(format!("spoilt-{}", spoilt.len()));
        fs::write(&path, without_entry(&all_of_a_workspace, at)).unwrap();
        spoilt.push(path);
        expected.push(false);
    }
    for file in files[..5].iter().chain(&files[6..]) {
        let whole = fs::read(file).unwrap();
        for _ in 0..12 {
            let at = fastrand::usize(0..whole.len());
            let (mut changed, mut removed) = (whole.clone(), whole.clone());
            changed[at] = fastrand::u8(b' '..b'~');
            removed.remove(at);
            for bytes in [changed, removed, whole[..at].to_vec()] {
                let path = handed.fixture.directory.path().join(format!("spoilt-{}", spoilt.len()));
                fs::write(&path, &bytes).unwrap();
                // By a size and a root the name of the ledger may be any.
                expected.push(holds(&bytes, &trusted));
                spoilt.push(path);
            }
        }
    }
    let said = second_program(&handed.short, &spoilt);
    for ((said, expected), path) in said.iter().zip(&expected).zip(&spoilt) {
        assert_eq!(said["holds"], *expected, "{said}: {}", String::from_utf8_lossy(&fs::read(path).unwrap()));
    }
    assert!(expected.iter().filter(|holds| !**holds).count() > 100);
}
