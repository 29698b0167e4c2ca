//! Errors: one clear sentence, and the exit code.

use std::process::{Command, Output};

use super::{answer, filled, run, seqs};
use crate::support::log;

#[test]
fn a_refusal_is_one_clear_sentence_and_its_exit_code() {
    let fixture = filled(log());
    let directory = fixture.directory.path();
    let db = directory.join("audit.db");
    let db = db.to_str().unwrap();
    let fails = |db: &str, arguments: &str, code: i32, says: &str| {
        let Output { status, stdout, stderr } = run(db, arguments);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{arguments}: {stderr}");
        assert!(stderr.contains(says), "{arguments}: {stderr}");
        assert!(stdout.is_empty());
    };
    assert_eq!(answer(db, "query --agent nobody"), "");
    fails(db, "get 00000000-0000-0000-0000-000000000001", 1, "no entry has the id");
    fails(db, "query --where colour=red", 2, "there is no field \"colour\": there are id, ");
    fails(db, "query --where colour", 2, "is not FIELD=VALUE");
    for (arguments, says) in [
        ("stats --by colour", "there is no field \"colour\": there are hour, day, ledger, id, "),
        ("stats --by action,metadata.tags[-1]", "[-1] is no index"),
        ("stats --by ts", "times are counted by hour or day"),
        ("stats --by metdata.ip", "did you mean metadata.ip?"),
        ("index add agnet_id", "did you mean agent_id?"),
        ("index add action metadata.a..b --print", "a key is empty"),
        ("index add risk_score", "0.8 or more"),
        ("index drop colour", "there is no field \"colour\""),
        ("query --columns seq,agnet", "did you mean agent?"),
        ("query --columns seq,time,ts", "\"ts\" is a column that is there already"),
        ("query --columns metadata.a --columns seq,metadata.a", "\"metadata.a\" is a column that"),
        ("query --columns seq,metadata.\"a.b", "a quotation mark is missing"),
        ("export --format csv --columns seq,comitted_at", "did you mean committed_at?"),
        ("tail --format csv --columns seq", "unexpected argument"),
        ("export --format csv --columns metadata.tags[x]", "[x] is no index"),
    ] {
        fails(db, arguments, 2, says);
    }
    assert!(!answer(db, "index list").contains("on_request\":true"));
    fails(db, "query --since 2026-11-02 --before 2026-11-01", 2, "--since must be earlier than --before");
    fails(db, "query --since gestern", 2, "is not a time; give one as 2h, 7d, yesterday, ");
    fails(db, "query --on 2026-11-31", 2, "is not a date");
    assert_eq!(answer(db, "query --since '+262142-12-31 23:30' --tz Pacific/Apia"), "");
    assert_eq!(answer(db, "query --on 2011-12-30 --tz Pacific/Apia"), "");
    fails(db, "get x", 2, "\"x\" is no entry: give its seq, LEDGER:SEQ, its id");
    fails(db, "stats --by action,decision,reason", 2, "give one field, or two");
    fails(db, "stats --by action,", 2, "give one field, or two");
    fails(db, "stats --by day --compare", 2, "--compare needs a period");
    fails(
        db,
        "migrate --ledger other",
        2,
        "this file has the ledger \"main\", and a SQLite file has one ledger",
    );
    assert_eq!(answer(db, "migrate --ledger main"), "");
    let new = directory.join("none.db").display().to_string();
    fails(
        &new,
        "migrate --ledger ''",
        2,
        "tracing-audit: the name of a ledger must not be empty, nor contain NUL",
    );
    for command in ["query", "query --format csv", "tail -f", "stats", "export", "quarantine retry"] {
        fails(db, &[command, " --ledger mian"].concat(), 2, "there is no ledger \"mian\"; choose from main");
    }
    fails(db, "tail -f --before-seq 5", 2, "--before-seq cannot be combined with --follow");
    fails(db, "query --as ''", 2, "recorded by a name");
    fails(db, "query --as '\u{200b} \u{2060}'", 2, "recorded by a name");
    for unrecorded in ["ledgers", "check", "checkpoint", "ledger status", "index list", "reads"] {
        fails(db, &format!("--as ada {unrecorded}"), 2, "its use is not recorded: leave out --as");
        fails(db, &format!("{unrecorded} --as=ada"), 2, "its use is not recorded: leave out --as");
    }
    let by_variable = super::command(db).arg("ledgers").env("TRACING_AUDIT_AS", "ada").output().unwrap();
    assert!(by_variable.status.success());
    fails(":memory:", "query", 2, "a database in memory ends with the process that has made it");
    fails(db, "query --where 'reason=a OR'", 2, "a condition is missing after OR");
    fails(db, "tail -n few", 2, "give a number of entries, or all");
    fails(db, "tail -n 3 --from-seq 1", 2, "cannot be used with");
    fails(db, "tail -F --state s", 2, "cannot be used with");
    fails(db, "stats --format csv", 2, "invalid value 'csv'");
    fails(db, "query --format csv --oldest-first", 2, "CSV is the latest first");
    assert_eq!(seqs(&answer(db, "tail --from-seq 11")), [11, 12]);
    assert_eq!(seqs(&answer(db, "tail --before-seq 2")), [0, 1]);
    std::fs::write(directory.join("ahead"), r#"{"ledger":"main","next_seq":99}"#).unwrap();
    let ahead = format!("tail --state {}", directory.join("ahead").display());
    fails(db, &ahead, 3, "ends at seq 13, before 99");
    let full = Command::new("sh")
        .args(["-c", "exec \"$0\" export --gzip > /dev/full", env!("CARGO_BIN_EXE_tracing-audit")])
        .env("TRACING_AUDIT_DB", db)
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(4), "{}", String::from_utf8_lossy(&full.stderr));
    for url in [
        "postgres://user:secret@host:port/db",
        "POSTGRES://u:secret@h:p/d",
        "postgre://u:secret@h/d",
        "host=h password=secret",
    ] {
        let refused = run(url, "migrate");
        assert_eq!(refused.status.code(), Some(2), "{url}");
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("secret"), "{url}");
    }
    fails(db, "query --schema audit", 2, "only a PostgreSQL database has schemas");
    for zone in ["Mars/Olympus", "+25:00", "''"] {
        fails(db, &format!("query --tz {zone}"), 2, "no time zone has this name");
    }
    for (variable, says) in [
        ("Mars/Olympus", "which is no time zone"),
        ("\u{1b}[2J", "which is no time zone"),
        ("/etc/passwd", "which is no time zone"),
    ] {
        let output =
            super::command(db).args(["query", "--tz", "local"]).env("TZ", variable).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && told.contains(says) && !told.contains('\u{1b}'),
            "{told:?}"
        );
    }
    // What is quoted of a command line obeys no terminal.
    for arguments in [
        ["query", "--limit", "\u{1b}[2J\u{7}x"],
        ["query", "--\u{1b}]0;x\u{7}", "1"],
        ["qu\u{1b}[31mery", "", ""],
    ] {
        let output = super::command(db).args(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("error: ") && !told.contains(['\u{1b}', '\u{7}']), "{told:?}");
    }
    fails("", "query", 2, "which database?");
    fails("postgres://user:secret@host:port/db", "query", 2, "a port in the PostgreSQL URL is not a number");
    fails(
        "postgres://user:secret@host/db?sslmod=require",
        "query",
        2,
        "a parameter \"sslmod\", which this crate does not",
    );
    fails(directory.join("none.db").to_str().unwrap(), "query", 3, "cannot be opened: there is no such file");
    let nowhere = directory.join("no/where/none.db");
    let message = ["there is no directory ", directory.join("no").to_str().unwrap(), ": "].concat();
    fails(nowhere.to_str().unwrap(), "query", 3, &message);
    assert!(!directory.join("none.db").exists());
    let (empty, other) = (directory.join("empty.db"), directory.join("other.db"));
    std::fs::write(&empty, "").unwrap();
    fails(empty.to_str().unwrap(), "query", 3, "the database holds no audit log");
    std::fs::write(&other, "not a database at all").unwrap();
    fails(other.to_str().unwrap(), "query", 3, "is not a SQLite database");
    std::fs::write(directory.join("state"), "{}").unwrap();
    fails(
        db,
        &format!("tail --state {}", directory.join("state").display()),
        2,
        "is not a state file of this command",
    );

    // A full disk halfway: no file under the final name, and none left beside it.
    let nowhere = directory.join("none/file").display().to_string();
    for command in ["tail -o ", "tail --state ", "export -o ", "export --resume -o "] {
        fails(db, &[command, &nowhere].concat(), 4, &["cannot write the output: ", &nowhere].concat());
    }
    let target = directory.join("there");
    std::fs::create_dir(&target).unwrap();
    let export = format!("export -o {}/all.jsonl", target.display());
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$0\" $1",
        env!("CARGO_BIN_EXE_tracing-audit"),
        &export,
    ]);
    let output = limited.env("TRACING_AUDIT_DB", db).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(answer(db, &export), "");
    assert_eq!(std::fs::read_to_string(target.join("all.jsonl")).unwrap().lines().count(), 13);
}
