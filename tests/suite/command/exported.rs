//! Exported files and copies in place of a database, and the layout of CSV.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use tracing_audit::Store;

use super::{EVENTS, answer, command, emit, filled, run};
use crate::support::{self, log, postgres::server, wait, wait_until};

/// What the command says of this question, its exit code, and how much it printed.
fn told(db: &str, arguments: &str) -> (i32, String, usize) {
    let Output { status, stdout, stderr } = run(db, arguments);
    (status.code().unwrap(), String::from_utf8(stderr).unwrap(), stdout.len())
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut file = GzEncoder::new(Vec::new(), Compression::default());
    file.write_all(bytes).unwrap();
    file.finish().unwrap()
}

fn entries_in(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn every_question_has_the_answer_of_the_log_on_an_exported_file_and_on_a_copy() {
    let fixture = filled(log());
    let directory = fixture.directory.path();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let db = path("audit.db");
    answer(&db, &format!("export --manifest -o {}", path("all.jsonl")));
    answer(&db, &format!("export --manifest -o {}", path("all.jsonl.gz")));
    answer(&db, &format!("tail -o {}", path("copy")));
    // Compressed by another program, in two members, under a name that says nothing.
    let lines = fs::read(path("all.jsonl")).unwrap();
    let middle = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(path("zipped"), [gzipped(&lines[..middle]), gzipped(&lines[middle..])].concat()).unwrap();
    fs::copy(path("all.jsonl.manifest.json"), path("elsewhere")).unwrap();

    let first: Value = serde_json::from_slice(&lines[..middle]).unwrap();
    let get = format!("get {}", first["id"].as_str().unwrap());
    let questions = [
        "query",
        "query --format table --agent alice",
        "query --format csv --decision deny",
        "query --oldest-first --limit 3",
        "stats --by action",
        "stats --by day --tz Europe/Berlin",
        "stats --by metadata.eventSource --compare --month 2026-11",
        "tail",
        "tail --from-seq 5 --where metadata.requestID=r7",
        "export",
        "export --format ocsf",
        "export --format csv --columns seq,ledger,metadata.sourceIPAddress",
        "ledgers",
        &get,
    ];
    for question in questions {
        let expected = answer(&db, question);
        assert!(!expected.is_empty(), "{question}");
        assert_eq!(answer(&path("all.jsonl.gz"), question), expected, "{question}");
    }
    for file in ["all.jsonl", "copy", "zipped"] {
        assert_eq!(answer(&path(file), "query"), answer(&db, "query"), "{file}");
    }
    assert_eq!(
        answer(&path("copy"), &format!("query --db-manifest {}", path("elsewhere"))),
        answer(&db, "query")
    );
    let piped =
        command("/dev/stdin").arg("tail").stdin(fs::File::open(path("zipped")).unwrap()).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), answer(&db, "tail"));
    // Beside a database: another log is counted too, a copy of the same is not, whatever it begins with.
    let both = |one: &str, other: &str, question: &str| {
        let mut both = command("");
        both.env_remove("TRACING_AUDIT_DB").args(["--db", one, "--db", other]);
        let Output { status, stdout, stderr } = both.args(question.split(' ')).output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    let other = filled(log());
    answer(&other.db, &format!("export -o {}", path("other.jsonl")));
    let (code, counts) = both(&db, &path("other.jsonl"), "stats --by ledger");
    assert!(code == Some(0) && counts.contains("\"entries\":26"), "{counts}");
    answer(&db, &format!("export --decision deny -o {}", path("denied.jsonl")));
    for (one, with) in
        [(&*db, "copy"), (&*path("denied.jsonl"), "all.jsonl.gz"), (&*path("all.jsonl"), "denied.jsonl")]
    {
        for question in ["stats", "query"] {
            let (code, told) = both(one, &path(with), question);
            assert!(code == Some(2) && told.contains("hold the same log"), "{one} {with}: {told}");
        }
        // Where nothing is counted twice, both are looked at.
        assert_eq!(both(one, &path(with), "ledgers").0, Some(0), "{one} {with}");
    }
}

#[test]
fn an_exported_file_without_entries_answers_nothing_if_its_manifest_says_so() {
    let fixture = filled(log());
    let path = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    answer(&fixture.db, &format!("export --decision never --manifest -o {}", path("none.jsonl")));
    fs::copy(path("none.jsonl"), path("bare.jsonl")).unwrap();
    let questions =
        ["query", "query -o csv", "stats", "stats --by day", "tail", "export", "export --format csv"];
    for question in questions {
        let (code, stderr, _) = told(&path("none.jsonl"), question);
        assert!(code == 0, "{question}: {code} {stderr}");
        assert!(stderr.contains("has no entries, as its manifest says"), "{question}: {stderr}");
        assert!(stderr.contains("--decision never"), "{question}: {stderr}");
        let (code, stderr, printed) = told(&path("bare.jsonl"), question);
        assert!(code == 3 && printed == 0, "{question}: {code} {stderr}");
        assert!(stderr.contains("no manifest says that it had none"), "{question}: {stderr}");
    }
    let Output { status, stdout, .. } = run(&path("none.jsonl"), "stats");
    assert!(status.success() && stdout.is_empty());
}

#[test]
fn a_file_that_is_not_as_it_was_made_is_told_of_and_not_answered_from() {
    let fixture = filled(log());
    let directory = fixture.directory.path();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let db = path("audit.db");
    answer(&db, &format!("export --manifest -o {}", path("all.jsonl")));
    let whole = fs::read_to_string(path("all.jsonl")).unwrap();
    let refused = |db: &str, says: &str| {
        for question in ["query", "stats --by action", "export", "tail"] {
            let (code, stderr, printed) = told(db, question);
            assert!(
                code == 3 && printed == 0 && stderr.contains(says),
                "{question}: {code} {printed} {stderr}"
            );
        }
    };
    // A word that was changed is known by the manifest alone.
    fs::write(path("all.jsonl"), whole.replacen("Deny", "Mask", 1)).unwrap();
    refused(&path("all.jsonl"), "its SHA-256 is");
    let removed: Vec<&str> =
        whole.lines().enumerate().filter(|(n, _)| *n != 4).map(|(_, line)| line).collect();
    fs::write(path("all.jsonl"), removed.join("\n") + "\n").unwrap();
    refused(&path("all.jsonl"), "bytes, not");
    fs::write(path("all.jsonl"), whole.get(..whole.len() - 9).unwrap()).unwrap();
    refused(&path("all.jsonl"), "line 13 is not complete");
    fs::write(path("all.jsonl"), whole.replacen("\"seq\":4,", "\"seq\":,", 1)).unwrap();
    refused(&path("all.jsonl"), "line 5 is not an entry");
    // After it no other could come.
    let last = format!("\"seq\":{},", i64::MAX);
    fs::write(path("all.jsonl"), whole.replacen("\"seq\":12,", &last, 1)).unwrap();
    refused(&path("all.jsonl"), "line 13 has a seq that no entry can have");
    fs::write(path("all.jsonl"), &whole).unwrap();
    fs::write(path("all.jsonl.manifest.json"), "{}").unwrap();
    refused(&path("all.jsonl"), "is no manifest of an exported file");
    let zipped = gzipped(whole.as_bytes());
    fs::write(path("cut.jsonl.gz"), &zipped[..zipped.len() / 2]).unwrap();
    refused(&path("cut.jsonl.gz"), "cannot be read beyond line");
    refused(&path("missing.jsonl"), "missing.jsonl: No such file");
    // Without a manifest the gap is told: nothing says whether it should be there.
    fs::write(path("some.jsonl"), removed.join("\n") + "\n").unwrap();
    let (code, stderr, _) = told(&path("some.jsonl"), "query");
    assert!(
        code == 5
            && stderr.contains("the first is seq 4 after line 4")
            && stderr.contains("no manifest tells"),
        "{stderr}"
    );
    answer(&db, &format!("export --decision deny --manifest -o {}", path("denied.jsonl")));
    let (code, stderr, _) = told(&path("denied.jsonl"), "query");
    assert!(
        code == 0 && stderr.contains("not in the file") && stderr.contains("--decision deny"),
        "{stderr}"
    );
    // What was not asked for is not missing.
    for (file, code, findings) in [("denied.jsonl", 0, 0), ("some.jsonl", 1, 1)] {
        let Output { status, stdout, stderr } = run(&path(file), "check");
        let told = String::from_utf8([stdout, stderr].concat()).unwrap();
        let says = format!("\"findings\":{findings}");
        assert!(status.code() == Some(code) && told.contains(&says), "{file}: {told}");
    }

    // Nor what a copy was not asked for.
    answer(&db, &format!("tail --decision deny -o {}", path("denied.copy")));
    answer(&db, &format!("tail -n 3 -o {}", path("last.copy")));
    for (file, why) in [("denied.copy", "--decision deny"), ("last.copy", "tail -n 3")] {
        let (code, stderr, _) = told(&path(file), "query");
        assert!(code == 0 && stderr.contains("not in the file") && stderr.contains(why), "{file}: {stderr}");
    }
    answer(&db, &format!("tail -o {}", path("whole.copy")));
    fs::write(path("whole.copy"), removed.join("\n") + "\n").unwrap();
    // A file of everything lacks what the log lacked.
    let gap = path("gap.jsonl");
    fixture.run("DELETE FROM tracing_audit_entries WHERE seq = 4");
    assert_eq!(run(&db, &format!("export --manifest -o {gap}")).status.code(), Some(5));
    for file in [&gap, &path("whole.copy")] {
        for question in ["query", "stats --by action"] {
            let (code, stderr, _) = told(file, question);
            assert!(
                code == 5
                    && stderr.contains("1 missing (seq 4)")
                    && stderr.contains("everything was asked for"),
                "{file}, {question}: {code} {stderr}"
            );
        }
    }

    // What an exported file cannot do.
    let copy = path("copy.jsonl");
    fs::write(&copy, &whole).unwrap();
    for (arguments, says) in [
        ("tail -f", "exported file"),
        ("reads", "exported file"),
        ("index list", "exported file"),
        ("index add action", "exported file"),
        ("quarantine list", "exported file"),
        ("quarantine retry", "exported file"),
        ("migrate", "exported file"),
        ("--as ada query", "no read can be recorded"),
        (&*format!("export -o {copy}"), "would destroy"),
        (&*format!("tail -o {copy}.manifest.json"), "would destroy"),
    ] {
        let (code, stderr, printed) = told(&copy, arguments);
        assert!(code == 2 && printed == 0 && stderr.contains(says), "{arguments}: {code} {stderr}");
    }
    let (code, stderr, _) = told(&db, "query --db-manifest x");
    assert!(code == 2 && stderr.contains("is no exported file"), "{stderr}");
    assert_eq!(fs::read_to_string(&copy).unwrap(), whole);
}

#[test]
fn nothing_is_left_of_an_exported_file_however_the_command_ends() {
    let fixture = filled(log());
    let directory = fixture.directory.path();
    let (file, temporary) = (directory.join("many.jsonl"), directory.join("tmp"));
    fs::create_dir(&temporary).unwrap();
    let line = answer(directory.join("audit.db").to_str().unwrap(), "tail --before-seq 1");
    let first: Value = serde_json::from_str(&line).unwrap();
    let numbered = |n: u64| {
        let mut line = first.clone();
        line["seq"] = n.into();
        line["id"] = uuid::Uuid::from_u128(n.into()).to_string().into();
        line.to_string() + "\n"
    };
    fs::write(&file, (0..500).map(numbered).collect::<String>()).unwrap();
    let start = |stdin: Stdio, db: &str| {
        let plain = command(db);
        // Whoever runs the tests may ignore signals, which the command takes over.
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["query", "--limit", "0"]).env("SQLITE_TMPDIR", &temporary);
        command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap()
    };
    // It ends, or its reader does.
    let mut done = start(Stdio::null(), file.to_str().unwrap());
    let mut printed = String::new();
    done.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(wait(done).success() && printed.lines().count() == 500 && entries_in(&temporary) == 0);
    let mut left = start(Stdio::null(), file.to_str().unwrap());
    BufReader::with_capacity(64, left.stdout.take().unwrap()).read_line(&mut printed).unwrap();
    assert!(wait(left).success() && entries_in(&temporary) == 0);
    // A signal comes while it reads: it waits for more lines.
    for signal in ["TERM", "INT", "KILL"] {
        let mut reading = start(Stdio::piped(), "/dev/stdin");
        let mut input = reading.stdin.take().unwrap();
        input.write_all(numbered(0).as_bytes()).unwrap();
        input.flush().unwrap();
        let descriptors = format!("/proc/{}/fd", reading.id());
        wait_until("the database is there, and its files have no name", || {
            let links =
                fs::read_dir(&descriptors).unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            let ours: Vec<_> = links.filter(|to| to.starts_with(&temporary)).collect();
            ours.len() > 4 && ours.iter().all(|to| to.to_string_lossy().ends_with("(deleted)"))
        });
        Command::new("kill").args([&format!("-{signal}"), &reading.id().to_string()]).status().unwrap();
        assert!(!wait(reading).success());
        drop(input);
        if signal == "KILL" {
            // Nothing but empty directories.
            let files = Command::new("find").arg(&temporary).args(["-type", "f"]).output().unwrap().stdout;
            assert!(files.is_empty());
        } else {
            assert_eq!(entries_in(&temporary), 0, "{signal}");
        }
    }
}

#[test]
fn an_exported_file_of_several_ledgers_answers_for_each_and_for_all() {
    let url = server().create_database();
    for (ledger, events) in [("a", [2, 0]), ("b", [1, 3])] {
        let builder = support::builder(Store::postgres(&url).unwrap())
            .in_memory_queue()
            .queue_max_entries(100)
            .queue_max_bytes(1 << 20);
        let log = builder.ledger(ledger).blocking().open().unwrap();
        for event in events {
            emit(&log, &EVENTS[event]);
        }
        log.blocking().flush().unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("both.jsonl").display().to_string();
    answer(&url, &format!("export --manifest -o {file}"));
    for question in [
        "query",
        "query --limit 3 --format table",
        "query --ledger b --format csv",
        "stats --by agent_id",
        "ledgers",
        "tail --ledger a",
        "export --ledger b",
        "export --ledger b --format csv",
        "stats --by ledger",
    ] {
        assert_eq!(answer(&file, question), answer(&url, question), "{question}");
    }
    for question in ["export", "tail", "query --format csv"] {
        let (code, stderr, printed) = told(&file, question);
        assert!(code == 2 && printed == 0 && stderr.contains("--ledger"), "{question}: {stderr}");
    }
}

#[test]
fn where_there_is_no_room_for_an_exported_file_the_command_says_so() {
    // A limit on the size of files fails as a full disk does, with another code.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large.jsonl");
    let fixture = filled(log());
    let line = answer(&fixture.db, "tail --before-seq 1");
    let first: Value = serde_json::from_str(&line).unwrap();
    let numbered = |n: u64| {
        let mut line = first.clone();
        line["seq"] = n.into();
        line["id"] = uuid::Uuid::from_u128(n.into()).to_string().into();
        line["reason"] = "x".repeat(500_000).into();
        line.to_string() + "\n"
    };
    fs::write(&file, (0..60).map(numbered).collect::<String>()).unwrap();
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 4096; exec \"$0\" stats --by action",
        env!("CARGO_BIN_EXE_tracing-audit"),
    ]);
    let Output { status, stdout, stderr } =
        limited.env("TRACING_AUDIT_DB", &file).env("SQLITE_TMPDIR", directory.path()).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(3) && stdout.is_empty(), "{stderr}");
    assert!(
        stderr.contains("no room for a temporary database in") && stderr.contains("SQLITE_TMPDIR"),
        "{stderr}"
    );
    assert_eq!(entries_in(directory.path()), 1);
}

#[test]
fn csv_has_the_columns_the_separator_and_the_mark_that_are_asked_for() {
    let fixture = filled(log());
    let db = fixture.db.as_str();
    let csv = |options: &str| answer(db, &format!("export --format csv --before-seq 2 {options}"));
    assert!(csv("").starts_with("id,session_id,workspace_id,agent_id,action,resource,resource_id,decision,reason,risk_score,ts,metadata,ledger,seq\n"));
    // There is one layout of CSV, wherever it is asked for.
    assert_eq!(answer(db, "query --format csv --before-seq 2"), csv(""));
    assert_eq!(
        csv(
            "--bom --separator ';' --columns seq,ledger,action --columns metadata.sourceIPAddress,risk_score"
        ),
        "\u{feff}seq;ledger;action;metadata.sourceIPAddress;risk_score\n1;main;s3:PutObjectAcl;10.0.0.1;0.7000\n0;main;s3:GetObject;10.0.0.1;0.1000\n"
    );
    assert_eq!(csv("--separator tab --columns seq,resource_id --raw"), "seq\tresource_id\n1\tD\n0\tD\n");
    for (options, says) in [
        ("--columns seq,colour", "\"colour\" is no column of a CSV file: the columns are id, "),
        ("--columns seq,,id", "\"\" is no column"),
        ("--separator ==", "a separator is one character"),
        ("--separator =", "cannot separate cells"),
        ("--format jsonl --bom", "--bom describes a CSV file"),
        ("--format ocsf --columns seq", "--columns describes a CSV file"),
    ] {
        let format = if options.contains("--format") { "" } else { "--format csv" };
        let (code, stderr, printed) = told(db, &format!("export {format} {options}"));
        assert!(code == 2 && printed == 0 && stderr.contains(says), "{options}: {code} {stderr}");
    }
    // A score that nobody gave is absent.
    let scores = answer(db, "export --format csv --columns seq,risk_score");
    let without: Vec<_> = scores.lines().filter_map(|line| line.strip_suffix(',')).collect();
    let given = seqs_with_score(db);
    assert!(
        !without.is_empty() && without.iter().all(|seq| !given.contains(&seq.parse().unwrap())),
        "{scores}"
    );
    assert_eq!(without.len() + given.len(), 13);
}

/// The entries whose line of JSON has a score.
fn seqs_with_score(db: &str) -> Vec<u64> {
    let lines: Vec<Value> =
        answer(db, "tail -n all").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines
        .iter()
        .filter(|line| line.get("risk_score").is_some())
        .filter_map(|line| line["seq"].as_u64())
        .collect()
}
