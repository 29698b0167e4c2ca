//! Evidence files: what they show, what they refuse, and that their script, a second program and the command agree. The script runs in
//! Node.js here; `.ci/sweep evidence` opens the files in a browser.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing_audit::{AuditEntry, audit_id};
use uuid::Uuid;

use super::{EVENTS, answer, command, filled, prove::is_unsigned};
use crate::support::{Fixture, log, log_with};

/// What hostile entries hold: markup, scripts, styles, what reads in the other direction, what cannot be seen.
const HOSTILE: [&str; 6] = [
    "</script><script>document.title = 'Evidence: Verified'</script>",
    "</noscript><style>.verdict { display: none }</style><!--",
    "<img src=x onerror=alert(1)><base href=//example.com><meta http-equiv=refresh content=0>",
    "\u{202e}deifireV\u{2066} \u{200f}\u{2028}",
    "{policy}{style}{script}",
    "\u{0}\u{7}\u{1b}[2J\r\n]]>",
];

fn with(db: &str, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(db).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs a program of the directory `tests`, and reads its JSON.
fn program(of: &str, file: &str, arguments: &[&str], files: &[PathBuf]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let output = Command::new(of).arg(path).args(arguments).args(files).output();
    let output = output.unwrap_or_else(|error| {
        panic!("'{of}' is needed (on Debian, in the packages nodejs and python3): {error}")
    });
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{file}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What the script of these files finds, and what comparing with each of these gives.
fn script(given: &[&str], files: &[PathBuf]) -> Vec<Value> {
    program("node", "verify_page.js", &[&json!(given).to_string()], files)
}

/// The page with a last line that is of its bytes.
fn resealed(page: &str) -> String {
    let (before, _) = page.rsplit_once("<!--sha256 ").unwrap();
    let digest: Vec<String> = Sha256::digest(before).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{before}<!--sha256 {}-->\n", digest.concat())
}

/// A ledger with hostile entries, whose checkpoint is kept in a file.
struct Handed {
    fixture: Fixture,
    kept: String,
    short: String,
    entries: usize,
}

impl Handed {
    fn new() -> Self {
        let fixture = filled(log());
        for text in HOSTILE {
            let entry = AuditEntry {
                resource_id: Some(text.to_owned()),
                reason: Some(text.to_owned()),
                agent_id: Some(audit_id(text)),
                metadata: json!({ "agent_id": text, text: text }),
                ..AuditEntry::new(Uuid::nil(), text, text)
            };
            fixture.log.writer().blocking().commit(entry).unwrap();
        }
        let long = AuditEntry {
            reason: Some(["Z", &"\u{301}\u{489}".repeat(1 << 13)].concat()),
            ..AuditEntry::new(Uuid::nil(), "long", "r")
        };
        fixture.log.writer().blocking().commit(long).unwrap();
        let checkpoint = answer(&fixture.db, "checkpoint");
        let lines: Vec<&str> = checkpoint.lines().collect();
        let (kept, short) = (fixture.directory.path().join("kept"), [lines[1], lines[2]].join(" "));
        fs::write(&kept, &checkpoint).unwrap();
        let entries = lines[1].parse().unwrap();
        Self { kept: kept.to_str().unwrap().to_owned(), short, entries, fixture }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.fixture.directory.path().join(name)
    }

    /// Makes a file with these options.
    #[track_caller]
    fn made(&self, name: &str, more: &[&str]) -> PathBuf {
        let file = self.file(name);
        let arguments = ["evidence", "--checkpoint", &self.kept, "-o", file.to_str().unwrap()];
        let (code, out, err) = with(&self.fixture.db, &[&arguments, more].concat());
        assert!(code == 0 && out.is_empty(), "{code} {err}");
        file
    }

    /// What the command says of a file by the checkpoint that was kept.
    fn verified(&self, file: &Path) -> (i32, String, String) {
        with("", &["verify-bundle", file.to_str().unwrap(), "--checkpoint", &self.kept])
    }
}

/// Checks that each entry of the file is shown as the command shows it.
#[track_caller]
fn shows_what_the_command_shows(handed: &Handed, file: &Path, said: &Value) {
    let (code, out, err) =
        with("", &["verify-bundle", file.to_str().unwrap(), "--checkpoint", &handed.kept, "--entries"]);
    assert!(code == 0 && is_unsigned(&err), "{code} {err}");
    for (line, shown) in out.lines().zip(said["entries"].as_array().unwrap()) {
        let (line, parts): (Value, &Value) = (serde_json::from_str(line).unwrap(), &shown["parts"]);
        assert_eq!(shown["isProven"], true);
        for name in [
            "id",
            "workspace_id",
            "session_id",
            "agent_id",
            "action",
            "resource",
            "resource_id",
            "decision",
            "reason",
            "writer",
        ] {
            assert_eq!(line[name], parts[name], "{name}: {line} {parts}");
        }
        let metadata: Value = serde_json::from_str(parts["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(line["metadata"], metadata);
        assert_eq!(parts["seq"], line["seq"].to_string());
        assert_eq!(parts["ts"].as_str().unwrap().get(..10), line["ts"].as_str().unwrap().get(..10));
    }
}

#[test]
fn an_evidence_file_verifies_itself_and_by_two_other_programs_whatever_its_entries_hold() {
    let handed = Handed::new();
    let all = handed.made("all.html", &["--by", HOSTILE[0]]);
    let some =
        handed.made("some.html", &["--agent", "alice", "--withhold", "reason,agent_id,core,resource_id"]);
    let none = handed.made("none.html", &["--action", "nothing", "--as", "Ada"]);
    let said = script(&[&handed.short], &[all.clone(), some.clone(), none.clone()]);
    for said in &said {
        assert_eq!(said["problems"], json!([]), "{said}");
        assert_eq!(said["compared"][0][0], "same", "{said}");
    }
    let count = |of: &Value| of["entries"].as_array().unwrap().len();
    let of_alice = answer(&handed.fixture.db, "query --agent alice --limit 0").lines().count();
    assert_eq!([count(&said[0]), count(&said[1]), count(&said[2])], [handed.entries, of_alice, 0]);
    shows_what_the_command_shows(&handed, &all, &said[0]);
    let parts = &said[1]["entries"][0]["parts"];
    assert_eq!([&parts["action"], &parts["agent_id"], &parts["reason"]], [&Value::Null; 3], "{parts}");
    assert!(parts.as_object().unwrap().contains_key("action"), "{parts}");
    assert_eq!(said[1]["entries"][0]["cells"][4], json!([null, null]), "{}", said[1]["entries"][0]);

    // The texts of entries are no markup, also where no script runs, and what is withheld is nowhere.
    let page = fs::read_to_string(&all).unwrap();
    let plain: Vec<&str> =
        page.split("<noscript>").skip(1).map(|part| part.split_once("</noscript>").unwrap().0).collect();
    let plain = plain.concat();
    for word in ["<script", "<style", "<img", "<base", "<meta", "<!--", "\u{202e}", "\u{0}", "\r"] {
        assert!(!plain.contains(word), "{word}");
    }
    assert!(plain.contains("&lt;/script&gt;") && plain.contains("Entries in this file: 20"), "{plain}");
    assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
    assert_eq!(page.matches("<script>").count(), 1);
    let page = fs::read_to_string(&some).unwrap();
    let withheld = "<span class=\"withheld\">withheld</span>";
    assert!(
        page.contains(&[withheld, withheld].join(" ")) && page.contains("2 members withheld</span>"),
        "{page}"
    );
    assert!(
        page.contains("--agent alice")
            && page.contains("\"withheld\":[\"reason\",\"agent_id\",\"core\",\"resource_id\"]"),
        "{page}"
    );
    assert!(fs::read_to_string(&none).unwrap().contains("\"made_by\":\"Ada\""));

    // The command, and a program in Python.
    assert_eq!(handed.verified(&all).0, 0);
    assert_eq!(with("", &["verify-bundle", all.to_str().unwrap()]).0, 5);
    let second = program("python3", "verify_proof.py", &[&handed.short], &[all, some]);
    assert!(second.iter().all(|file| file["holds"] == true), "{second:?}");
    assert_eq!(second[0]["entries"].as_array().unwrap().len(), handed.entries);
}

/// A change of an evidence file: what it is, the changed file, what the script says of it, and what the command says.
type Change = (&'static str, String, &'static str, &'static str);

fn changes(whole: &str) -> Vec<Change> {
    let line = |beginning: &str| whole.lines().find(|line| line.starts_with(beginning)).unwrap();
    let (first, entry, last) =
        (line("{\"tracing-audit\":\"bundle@v1\""), line("{\"seq\":5,"), line("{\"entries\":"));
    let (other, about) = (line("{\"seq\":6,"), line("{\"tracing-audit\":\"evidence@v1\""));
    let once = |from: &str, to: &str| whole.replacen(from, to, 1);
    let exchanged = once(entry, "(here)").replacen(other, entry, 1).replacen("(here)", other, 1);
    let (before_end, end) = whole.rsplit_once("<!--sha256 ").unwrap();
    let digit = if end.starts_with('0') { "1" } else { "0" };
    let cut = whole.split_at(whole.find(entry).unwrap() + 20).0.to_owned();
    let page = "a part of the page";
    vec![
        ("a value", once(entry, &with_another_value(entry)), "Entry 5 does not hold", "entry 5"),
        ("a number", once("{\"seq\":5,", "{\"seq\":4,"), "does not hold", "entry 4"),
        (
            "an entry removed",
            once(&format!("{entry}\n"), ""),
            "There are 5 entries, and 6",
            "it has 5 entries",
        ),
        ("an entry twice", once(entry, &format!("{entry}\n{entry}")), "not in the order", "not in the order"),
        ("two exchanged", exchanged, "not in the order", "not in the order"),
        (
            "the ledger",
            once(first, &first.replacen("invalid/", "invalid/0", 1)),
            "another ledger",
            "it says that it is of",
        ),
        ("the size", once("\\n20\\n", "\\n21\\n"), "The bytes of the entries", "is of 21 entries"),
        (
            "the last line",
            once(last, &last.replacen(":6,", ":7,", 1)),
            "and 7 by the last line",
            "7 by its last line",
        ),
        ("the plain table", once("<th>Reason</th>", "<th>Person</th>"), "The plain table", page),
        ("the style", once(".verdict {", ".verdikt {"), "The style", page),
        ("the script", once("// ---- Bytes", "// ---- Bites"), "The script", page),
        ("the policy", once("default-src 'none'", "default-src 'self'"), "The policy", page),
        (
            "the statement",
            once(about, &about.replacen("-seq 3", "-seq 2", 1)),
            "The part that says what was asked",
            page,
        ),
        ("cut off", cut, "cut off", "cut off"),
        ("the title", once("<title>Evidence", "<title>Ewidence"), "The bytes of the page", page),
        ("what stands first", once("<h1>Nothing", "<h1>Everything"), "The bytes of the page", page),
        (
            "the hash at the end",
            [before_end, "<!--sha256 ", digit, end.get(1..).unwrap()].concat(),
            "The bytes of the page",
            page,
        ),
        ("no end", before_end.to_owned(), "its last line is missing", page),
        (
            "more at the end",
            [whole, "<p>Verified\n"].concat(),
            "its last line is missing",
            "something follows its last line",
        ),
    ]
}

/// The line of an entry with another first character of the value of its first field.
fn with_another_value(entry: &str) -> String {
    let (before, value) = entry.split_once("\",\"").unwrap();
    let other = if value.starts_with('A') { "B" } else { "A" };
    [before, "\",\"", other, value.get(1..).unwrap()].concat()
}

#[test]
fn a_byte_changed_in_any_part_of_an_evidence_file_is_found_and_the_part_is_named() {
    let handed = Handed::new();
    let file = handed.made("all.html", &["--from-seq", "3", "--before-seq", "9"]);
    let whole = fs::read_to_string(&file).unwrap();
    let (changes, mut files) = (changes(&whole), Vec::new());
    for (number, (what, changed, _, says)) in changes.iter().enumerate() {
        assert_ne!(*changed, whole, "{what}");
        let file = handed.file(&format!("{number}.html"));
        fs::write(&file, changed).unwrap();
        let (code, out, err) = handed.verified(&file);
        assert!(code == 1 && out.is_empty() && err.contains(says), "{what}: {code} {err}");
        files.push(file);
    }
    for ((what, _, says, _), said) in changes.iter().zip(script(&[], &files)) {
        let problems = said["problems"].to_string();
        assert!(problems.contains(says), "{what}: {problems}");
    }
}

#[test]
fn an_evidence_file_that_was_sealed_anew_after_a_change_shows_nothing_else_than_the_command_has_verified() {
    let handed = Handed::new();
    let whole =
        fs::read_to_string(handed.made("all.html", &["--from-seq", "3", "--before-seq", "6"])).unwrap();
    let file = handed.file("sealed.html");
    let block = "<script type=\"application/jsonl\" class=\"bundle\">\n";
    let own = format!("\"made_with\":\"tracing-audit {}\"", env!("CARGO_PKG_VERSION"));
    for (what, from, to, code, says) in [
        ("nothing", "", "", 0, ""),
        // The command knows the script of its version.
        ("another script", "\"Verified\"", "\"Very fine\"", 1, "is not the one of this version"),
        ("one script more", block, &*format!("<script>0</script>\n{block}"), 1, "is not the one of this"),
        ("another policy", "default-src 'none'", "default-src *", 1, "is not the one of this version"),
        // Entries that a browser shows and the command has not read.
        (
            "a block",
            "<noscript><div class=\"without\"><table>",
            "<Script class=bundle>\n",
            1,
            "a script that no",
        ),
        ("a block at the end", "</body>", "<SCRIPT class=bundle>\n</script></body>", 1, "a script that no"),
        ("no version", "\"made_with\":", "\"made-with\":", 1, "cannot be read"),
        ("another version", &*own, "\"made_with\":\"another 9.9\"", 0, "made with another 9.9, whose script"),
    ] {
        let changed = whole.replacen(from, to, 1);
        assert!(changed != whole || from == to, "{what}");
        fs::write(&file, resealed(&changed)).unwrap();
        let (ended, out, err) = handed.verified(&file);
        assert!(
            ended == code && out.is_empty() == (code != 0) && err.contains(says),
            "{what}: {ended} {err}"
        );
    }
}

#[test]
fn a_line_that_is_none_of_an_entry_keeps_no_other_entry_of_an_evidence_file_from_being_verified() {
    let handed = Handed::new();
    let whole =
        fs::read_to_string(handed.made("all.html", &["--from-seq", "3", "--before-seq", "9"])).unwrap();
    let entry = whole.lines().find(|line| line.starts_with("{\"seq\":5,")).unwrap();
    let once = |from: &str, to: &str| {
        assert!(entry.contains(from), "{from}");
        entry.replacen(from, to, 1)
    };
    let number = |number: &str| once("\"seq\":5,", &format!("\"seq\":{number},"));
    let deep =
        ["{\"seq\":5,\"fields\":", &"[".repeat(100_000), &"]".repeat(100_000), ",\"path\":[]}"].concat();
    let lines = [
        (String::new(), "it is no JSON"),
        (entry.split_at(entry.len() - 9).0.to_owned(), "it is no JSON"),
        ("null".to_owned(), "it has no number"),
        ("[5]".to_owned(), "it has no number"),
        ("{\"__proto__\":{\"seq\":5},\"fields\":[],\"path\":[]}".to_owned(), "it has no number"),
        (number("-5"), "it has no number"),
        (number("\"5\""), "it has no number"),
        (number(" 5"), "spelled in another way"),
        (number("5,\"seq\":5"), "spelled in another way"),
        (number("5.0"), "spelled in another way"),
        (number("1e400"), "spelled in another way"),
        (number("9007199254740993"), "spelled in another way"),
        (number("99"), "does not lead to the checkpoint"),
        (once(",\"path\":[", ",\"x\":1,\"path\":["), "it is not the line of an entry"),
        (once("\"path\":[", "\"path\":[\"AAAA\","), "a wrong length"),
        (once("\"path\":[", "\"path\":[7,"), "not in base64"),
        (once("\"fields\":[", "\"fields\":[[],"), "two or three parts"),
        (once("[[1,", "[[9,"), "of an unknown kind"),
        (once("[[1,", "[[1.5,"), "of an unknown kind"),
        (once("[[1,", "[[2,"), "those of an entry in their order"),
        (deep, ""),
    ];
    let wrong: Vec<&str> = lines.iter().map(|(line, _)| &**line).collect();
    let file = handed.file("lines.html");
    fs::write(&file, whole.replacen(entry, &wrong.join("\n"), 1)).unwrap();
    let said = script(&[], std::slice::from_ref(&file)).remove(0);
    let entries = said["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 5 + lines.len(), "{said}");
    for (entry, (line, says)) in entries[2..].iter().zip(&lines) {
        let why = entry["why"].as_str().unwrap_or_default();
        assert!(
            entry["isProven"] == false && !why.is_empty() && why.contains(says),
            "{}: {entry}",
            line.get(..200).unwrap_or(line)
        );
    }
    let proven = entries.iter().filter(|entry| entry["isProven"] == true);
    assert_eq!(proven.filter_map(|entry| entry["seq"].as_u64()).collect::<Vec<_>>(), [3, 4, 6, 7, 8]);
    assert_eq!(handed.verified(&file).0, 1);
}

#[test]
fn no_text_of_an_entry_hides_something_grows_without_end_or_passes_for_another_in_an_evidence_file() {
    const UNSEEN: &str = "\u{200b}\u{ad}\u{34f}\u{3164}\u{fe0f}\u{e0041}\u{a0}\u{2028}\u{feff}\u{fffc}\u{202e}\u{2066}\u{e000}";
    let fixture = log_with(|builder| builder.value_max_bytes(1 << 22).entry_max_bytes(1 << 23));
    let alice = json!({ "agent_id": "alice" });
    for (agent_id, metadata, reason) in [
        (Some(audit_id("alice")), &alice, "a reason".to_owned()),
        // A name alone makes nobody of this name.
        (Some(Uuid::from_u128(9)), &alice, ["Z", &"\u{301}".repeat(1 << 19)].concat()),
        (Some(audit_id("bob")), &alice, "\u{202e}".repeat(1 << 18)),
        (None, &alice, "<script>".repeat(1 << 17)),
        (None, &Value::Null, [UNSEEN, "\u{27e8}U+200B\u{27e9}"].concat()),
    ] {
        let (metadata, reason) = (metadata.clone(), Some(reason));
        let entry = AuditEntry { agent_id, metadata, reason, ..AuditEntry::new(Uuid::nil(), "act", "r") };
        fixture.log.writer().blocking().commit(entry).unwrap();
    }
    let file = fixture.directory.path().join("all.html");
    assert_eq!(with(&fixture.db, &["evidence", "-o", file.to_str().unwrap()]).0, 0);
    let said = script(&[], std::slice::from_ref(&file)).remove(0);
    assert_eq!(said["problems"], json!([]));
    let cell = |entry: usize, column: usize| said["entries"][entry]["cells"][column][0].as_str().unwrap();
    let (nine, bob) = (Uuid::from_u128(9).to_string(), audit_id("bob").to_string());
    assert_eq!([0, 1, 2, 3, 4].map(|entry| cell(entry, 3)), ["alice", &nine, &bob, "", ""]);
    for entry in 0..5 {
        let reason = cell(entry, 6);
        assert!(reason.chars().count() < 2000, "{reason}");
        assert!(!reason.contains(|c: char| UNSEEN.contains(c)), "{reason:?}");
        assert!(!reason.contains(&"\u{301}".repeat(5)), "{reason:?}");
    }
    // What is spelled out is told from a text that looks like it.
    assert!(cell(4, 6).starts_with("\u{27e8}U+200B\u{27e9}\u{27e8}U+00AD\u{27e9}"), "{}", cell(4, 6));
    assert!(cell(4, 6).ends_with("\u{27e8}U+27E8\u{27e9}U+200B\u{27e9}"), "{}", cell(4, 6));
    let page = fs::read_to_string(&file).unwrap();
    let plain: Vec<&str> =
        page.split("<noscript>").skip(1).map(|part| part.split_once("</noscript>").unwrap().0).collect();
    let plain = plain.concat();
    assert!(plain.len() < 1 << 16, "{}", plain.len());
    assert!(!plain.contains(|c: char| UNSEEN.contains(c)), "{plain:?}");
    assert_eq!(plain.matches("<bdi class=\"foreign\">alice</bdi>").count(), 1, "{plain}");
    assert!(plain.contains(&nine) && plain.contains(&bob), "{plain}");
}

/// The states of the signatures of a checkpoint.
fn signatures(said: &Value) -> Vec<&str> {
    said["signatures"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect()
}

#[test]
fn an_evidence_file_says_by_which_of_its_keys_the_checkpoint_is_signed_and_compares_it_with_those_of_the_reader()
 {
    let handed = Handed::new();
    let path = |name: &str| handed.file(name).to_str().unwrap().to_owned();
    let (key, other, to, signed, trust) =
        (path("key"), path("other"), path("to"), path("signed"), path("trust"));
    let keys = answer("", &format!("key new audit.example.com/payments -o {key}"));
    let others = answer("", &format!("key new audit.example.com/payments -o {other}"));
    fs::write(&trust, &keys).unwrap();
    let note = answer(&handed.fixture.db, &format!("checkpoint --key {key} --to {to}"));
    fs::write(&signed, &note).unwrap();
    let make = |name: &str, more: &[&str]| {
        let file = handed.file(name);
        let arguments =
            ["evidence", "--agent", "alice", "--checkpoint", &signed, "-o", file.to_str().unwrap()];
        let (code, _, err) = with(&handed.fixture.db, &[&arguments, more].concat());
        assert_eq!((code, &*err), (0, ""));
        file
    };
    let (with_keys, without) = (make("keys.html", &["--trust", &trust]), make("none.html", &[]));
    let forged = handed.file("forged.html");
    let page = fs::read_to_string(&with_keys).unwrap();
    let signature = note.lines().nth(4).unwrap().rsplit_once(' ').unwrap().1;
    let (before, last) = signature.split_at(60);
    let flipped = [before, if last.starts_with('A') { "B" } else { "A" }, last.get(1..).unwrap()].concat();
    fs::write(&forged, page.replacen(signature, &flipped, 2)).unwrap();
    let said = script(&[], &[with_keys.clone(), without, forged]);
    assert_eq!((signatures(&said[0]), &said[0]["problems"]), (vec!["holds", "no key"], &json!([])));
    assert_eq!((signatures(&said[1]), &said[1]["problems"]), (vec!["no key", "no key"], &json!([])));
    assert_eq!(signatures(&said[2]), ["wrong", "no key"]);
    assert!(
        said[2]["problems"].to_string().contains("The signature of audit.example.com/payments+"),
        "{}",
        said[2]
    );
    let verifier_key = keys.lines().find_map(|line| line.strip_prefix("log ")).unwrap();
    let bounded = |sizes: &str| format!("# tracing-audit: sizes {sizes}\nlog {verifier_key}\nquorum none\n");
    let three: String = note.split_inclusive('\n').take(3).collect();
    let given: [(String, &str, &str); 18] = [
        (handed.short.clone(), "same", "are those that you gave"),
        (note.clone(), "same", "the checkpoint that you gave"),
        (three.clone(), "same", "the checkpoint that you gave"),
        (verifier_key.to_owned(), "same", "which you gave, has signed it"),
        (keys.clone(), "same", "which you gave, has signed it"),
        (bounded("0..21"), "same", "which you gave, has signed it"),
        (["# of others: sizes 0..9\n", &keys].concat(), "same", "which you gave, has signed it"),
        (bounded("0..20"), "other", "may not sign a ledger of this size"),
        (bounded("21.."), "other", "may not sign a ledger of this size"),
        (others, "other", "No key that you gave"),
        (three.replace("\n20\n", "\n19\n"), "other", "the one that you gave is of 19"),
        (three.replace("payments", "other"), "other", "of another ledger"),
        ("something else".to_owned(), "unknown", "three lines"),
        // Sizes that bound no key are never passed over, as by the command.
        (bounded("0-20"), "unknown", "is not of the form"),
        (bounded("9..9"), "unknown", "is not of the form"),
        (
            bounded("0..20").replace("# tracing-audit:", "#Tracing-Audit:").replace("sizes", "size"),
            "unknown",
            "form",
        ),
        (bounded("0..20").replacen('\n', "\n\n", 1), "unknown", "the line after a comment with sizes"),
        ([&*keys, "# tracing-audit: sizes 0..20\n"].concat(), "unknown", "are of no log"),
    ];
    let texts: Vec<&str> = given.iter().map(|(given, ..)| &**given).collect();
    let said = script(&texts, std::slice::from_ref(&with_keys)).remove(0);
    for ((given, expected, why), compared) in given.iter().zip(said["compared"].as_array().unwrap()) {
        let [kind, sentence] = [0, 1].map(|part| compared[part].as_str().unwrap());
        assert!(kind == *expected && sentence.contains(why), "{given}: {kind} {sentence}");
    }
}

#[test]
fn an_evidence_file_that_cannot_be_made_leaves_no_file_and_says_why() {
    let handed = Handed::new();
    let (none, keys) = (handed.file("none.html"), handed.file("keys"));
    let key = handed.file("key");
    let trust = answer("", &format!("key new audit.example.com -o {}", key.display()));
    fs::write(&keys, &trust).unwrap();
    let (_, root) = handed.short.split_once(' ').unwrap();
    for (more, code, why) in [
        (
            &["--trust", keys.to_str().unwrap(), "--checkpoint", &handed.kept][..],
            2,
            "no signature that the keys of --trust",
        ),
        (&["--trust", "nothing", "--checkpoint", &handed.kept], 2, "cannot read the trust file"),
        (&["--trust", &handed.kept, "--checkpoint", &handed.kept], 2, "line 1: it begins with none of"),
        (&["--trust", keys.to_str().unwrap()], 2, "--checkpoint"),
        (&["--withhold", "metadata.nothing"], 2, "no entry has metadata.nothing"),
        (&["--withhold", "action"], 2, "is a part of core"),
        (&["--checkpoint", &format!("19 {root}")], 1, "does not lead to the checkpoint of 19 entries"),
        (&["--checkpoint", &format!("a<b\n{}", handed.short.replace(' ', "\n"))], 2, "has the character '<'"),
    ] {
        let arguments = ["evidence", "-o", none.to_str().unwrap()];
        let (ended, out, err) = with(&handed.fixture.db, &[&arguments, more].concat());
        assert!(ended == code && out.is_empty() && err.contains(why), "{more:?}: {ended} {err}");
        assert!(!none.exists(), "{more:?}");
    }
    handed.fixture.run("UPDATE tracing_audit_entries SET decision = 'allow' WHERE seq = 7");
    let (code, _, err) = with(&handed.fixture.db, &["evidence", "-o", none.to_str().unwrap()]);
    assert!(
        code == 1 && err.contains("entry 7 is not as it was committed") && !none.exists(),
        "{code} {err}"
    );
}

/// What a person sees in a browser. The directory for pictures is in the variable `PICTURES`.
#[test]
#[ignore = "needs Chromium: .ci/sweep evidence"]
fn a_browser_shows_what_holds_and_what_does_not_and_asks_no_network() {
    let handed = Handed::new();
    let (whole, some) = (
        handed.made("whole.html", &[]),
        handed.made("some.html", &["--agent", "alice", "--withhold", "reason,resource_id"]),
    );
    let page = fs::read_to_string(&whole).unwrap();
    let entry = page.lines().find(|line| line.starts_with("{\"seq\":5,")).unwrap();
    let once = |from: &str, to: &str| page.replacen(from, to, 1);
    let cut = |at: &str| page.split_at(page.find(at).unwrap() + 20).0.to_owned();
    let changes = [
        ("entry", once(entry, &with_another_value(entry)), "Entry 5 does not hold"),
        ("style", once(".verdict {", ".verdikt {"), "The style"),
        ("plain", once("<th>Reason</th>", "<th>Person</th>"), "The plain table"),
        ("about", once("\"made_by\":null", "\"made_by\":\"Me\""), "The part that says what was asked"),
        ("policy", once("default-src 'none'", "default-src *"), "The policy"),
        ("cut", cut(entry), "cut off"),
        ("end", [&*page, "<p>Verified</p>\n"].concat(), "The bytes of the page"),
        ("script", once("// ---- Bytes", "// ---- Bites"), ""),
        ("cut-script", cut("// ---- Bytes"), ""),
    ];
    let mut files = vec![whole, some];
    for (name, changed, _) in &changes {
        assert_ne!(*changed, page, "{name}");
        let file = handed.file(&format!("changed-{name}.html"));
        fs::write(&file, changed).unwrap();
        files.push(file);
    }
    let pictures = std::env::var("PICTURES").unwrap_or_else(|_| "-".to_owned());
    let (_, root) = handed.short.split_once(' ').unwrap();
    let given = json!([handed.short, format!("7 {root}")]).to_string();
    let seen = program("node", "browse_page.js", &[&pictures, &given], &files);
    println!("{}", json!(seen[0]));
    for (file, seen) in files.iter().zip(&seen) {
        assert_eq!((&seen["requests"], &seen["elements"]), (&json!([]), &json!(0)), "{seen}");
        assert!(seen["plain"].as_str().unwrap().contains("Nothing was verified"), "{seen}");
        let is_narrow = seen["narrow"] == true || file.ends_with("changed-style.html");
        assert!(seen["seen"] == true && is_narrow, "{}: {seen}", file.display());
        let opened = seen["opened"].as_array().unwrap();
        assert!(opened.iter().all(|one| one["isWithin"] == true), "{seen}");
    }
    let of_alice = answer(&handed.fixture.db, "query --agent alice --limit 0").lines().count();
    for (seen, entries) in [(&seen[0], handed.entries), (&seen[1], of_alice)] {
        assert_eq!((&seen["kind"], &seen["problems"]), (&json!("amber"), &json!([])), "{seen}");
        assert_eq!(seen["compared"], json!(["green", "red", "amber"]), "{seen}");
        assert_eq!(seen["plainRows"], json!(entries), "{seen}");
        assert!(seen["opened"].as_array().unwrap().len() >= entries, "{seen}");
    }
    assert!(seen[0]["withheld"] == 0 && seen[1]["withheld"] != 0, "{}", seen[1]);
    for ((name, _, says), seen) in changes.iter().zip(&seen[2..]) {
        let is_red = seen["kind"] == "red" && seen["problems"].to_string().contains(says);
        assert!(is_red, "{name}: {seen}");
        // No comparison makes it green.
        let compared = seen["compared"].as_array().unwrap();
        assert!(compared.iter().all(|kind| *kind == "red" || kind.is_null()), "{name}: {seen}");
        if says.is_empty() {
            assert!(seen["verdict"].as_str().unwrap().contains("Nothing was verified"), "{name}: {seen}");
        } else {
            assert_eq!(seen["outline"], "solid rgb(209, 21, 7)", "{name}: {seen}");
        }
    }
}

/// Without an end tag of the head or of the body, a browser reads the same page.
fn is_of_no_account(page: &str, place: usize) -> bool {
    ["</head>", "</body>"].iter().any(|tag| {
        let begin = page.find(tag).unwrap();
        (begin..begin + tag.len()).contains(&place)
    })
}

#[test]
#[ignore = "needs Chromium: .ci/sweep evidence"]
fn a_browser_shows_a_page_of_which_any_byte_was_changed_in_red() {
    let handed = Handed::new();
    let page =
        fs::read_to_string(handed.made("whole.html", &["--from-seq", "3", "--before-seq", "6"])).unwrap();
    let main = page.find("<main").unwrap();
    // Closer together where the markup is, which no other hash is of.
    let markup = (0..900).step_by(17).chain((main - 60..main + 500).step_by(11));
    let places = markup.chain((0..page.len()).step_by(page.len() / 60));
    let places = places.chain((page.len() - 120..page.len()).step_by(3));
    let (mut files, mut changed) = (Vec::new(), Vec::new());
    for place in places.filter(|place| page.as_bytes()[*place].is_ascii() && !is_of_no_account(&page, *place))
    {
        let mut bytes = page.clone().into_bytes();
        bytes[place] ^= 1;
        let file = handed.file(&format!("byte-{place}.html"));
        fs::write(&file, bytes).unwrap();
        files.push(file);
        changed.push(place);
    }
    for (place, seen) in changed.iter().zip(program("node", "browse_page.js", &["-", "[]"], &files)) {
        let around = page.get(place.saturating_sub(30)..*place + 30).unwrap_or_default();
        // Where the end of the title or of the style is lost, there is no page.
        let is_empty = seen["kind"].is_null() && seen["plain"] == "";
        assert!(seen["kind"] == "red" || is_empty, "byte {place}: {around:?}: {seen}");
    }
}

#[test]
#[ignore = "needs Chromium: .ci/sweep evidence"]
fn a_browser_verifies_ten_thousand_entries_and_says_how_long_it_took() {
    const ENTRIES: usize = 10_000;
    let fixture = log();
    let writer = fixture.log.writer();
    for event in EVENTS.iter().cycle().take(ENTRIES) {
        let name = event["userIdentity"]["userName"].as_str().unwrap_or("nobody");
        let entry = AuditEntry {
            agent_id: Some(audit_id(name)),
            reason: Some("a reason in words".to_owned()),
            metadata: json!({ "agent_id": name, "event": event }),
            ..AuditEntry::new(Uuid::nil(), "s3:GetObject", "document")
        };
        writer.blocking().write(entry).unwrap();
    }
    writer.blocking().flush().unwrap();
    let file = fixture.directory.path().join("many.html");
    let (code, _, err) = with(&fixture.db, &["evidence", "-o", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let seen = program("node", "browse_page.js", &["-", "[]"], std::slice::from_ref(&file)).remove(0);
    assert_eq!(
        (&seen["kind"], &seen["plainRows"]),
        (&json!("amber"), &json!(ENTRIES)),
        "{}",
        seen["verdict"]
    );
    println!(
        "{ENTRIES} entries, {} bytes: shown after {} ms, verified after {} ms",
        fs::metadata(&file).unwrap().len(),
        seen["painted"],
        seen["verified"]
    );
}
