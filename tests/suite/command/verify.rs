//! Verification, as an operator runs it; and a second program that must agree.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tracing_audit::{AuditReader, Integrity};

use super::{command, filled, run};
use crate::support::{self, entry, log, log_with, settle, store};

/// What the program in Python says of a SQLite file.
fn second(db: &str, anchors: &[&str]) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify_db.py");
    let output = Command::new("python3").arg(program).arg(db).args(anchors).output();
    let output = output.expect("'python3' is needed: on Debian, 'apt-get install python3'");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

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
    std::fs::write(&file, &kept).unwrap();
    let file = file.to_str().unwrap();

    for arguments in [
        &["--checkpoint", file][..],
        &["--checkpoint", &kept],
        &["--checkpoint", &short, "--require-size", "13"],
    ] {
        let (code, out, err) = verify(db, arguments);
        assert_eq!((code, &*err), (0, ""), "{out}");
        assert!(out.contains("main: 13 of 13 entries read, 13 covered by a checkpoint"), "{out}");
        assert!(out.ends_with(&format!("to be kept elsewhere: {short}\n")), "{out}");
    }
    assert_eq!(verify(db, &["--quiet", "--checkpoint", file]), (0, String::new(), String::new()));
    let (code, _, err) = verify(db, &[]);
    assert!(code == 5 && err.contains("no checkpoint from outside"), "{code} {err}");
    let (code, _, err) = verify(db, &["--checkpoint", file, "--require-size", "14"]);
    assert!(code == 5 && err.contains("covers 13 entries, fewer than 14"), "{code} {err}");
    for (wrong, says) in
        [("nothing", "cut off"), ("13 root", "not 32 bytes in base64"), (db, "cannot read the checkpoint")]
    {
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
    assert!(err.contains("the ledger is not as it was: 1 findings"), "{err}");
    let (code, out, _) = verify(db, &["--checkpoint", file, "--format", "json"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &said["intact"], &said["covered"]), (1, &false.into(), &13.into()));
    assert_eq!(
        (&said["findings"][0]["finding"], &said["findings"][0]["from"]),
        (&"Modified".into(), &7.into())
    );
    assert_eq!(second(db, &[&short])["modified"], serde_json::json!([7]));
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
    let text = std::fs::read_to_string(state).unwrap();
    assert!(text.contains("\"size\":600"), "{text}");
    fixture.run("UPDATE tracing_audit_entries SET action = '' WHERE seq = 299");
    write(1);
    for more in [&[][..], &["--full"]] {
        let (code, out, _) = verify(&fixture.db, &[&["--state", state], more].concat());
        assert!(code == 1 && out.starts_with("Modified 299: "), "{code} {out}");
    }
    std::fs::write(state, "{}").unwrap();
    let (code, _, err) = verify(&fixture.db, &["--state", state]);
    assert!(code == 2 && err.contains("remove it to begin again"), "{code} {err}");
}

#[test]
fn a_second_program_agrees_on_ledgers_that_were_written_caught_up_and_changed() {
    let off = log_with(|builder| builder.integrity(Integrity::Off));
    (0..300).for_each(|n| off.log.writer().try_write(entry(n.to_string())).unwrap());
    settle(&off.log.writer());
    drop(off.log.blocking().shutdown(support::PATIENCE).unwrap());
    // Somebody has removed one before there was a tree.
    off.run("DELETE FROM tracing_audit_entries WHERE seq = 17");
    let inline = support::open(Path::new(&off.db));
    support::wait_until("the tree has caught up", || {
        inline.reader().blocking().ledger_status().unwrap().tree_size == 300
    });
    (0..300).for_each(|n| inline.writer().try_write(entry(n.to_string())).unwrap());
    settle(&inline.writer());
    drop(inline.blocking().shutdown(support::PATIENCE).unwrap());

    let reader = AuditReader::new(store(&off.db));
    let checkpoint = reader.blocking().checkpoint().unwrap().to_string();
    let mut lines = checkpoint.lines().skip(1);
    let (size, root) = (lines.next().unwrap(), lines.next().unwrap());
    let short = format!("{size} {root}");
    let agree = |kind: &str, found: &[i64]| {
        let said = second(&off.db, &[&short]);
        let (code, out, err) = verify(&off.db, &["--checkpoint", &short, "--format", "json"]);
        let own: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
        assert_eq!(own["intact"], said["intact"], "{own} {said}");
        assert_eq!(i32::from(!own["intact"].as_bool().unwrap()), code);
        if kind.is_empty() {
            assert_eq!((&said["root"], &said["anchors"][0]), (&root.into(), &true.into()), "{said}");
            assert!(own["intact"].as_bool().unwrap(), "{own}");
        } else {
            assert_eq!(said[kind], serde_json::json!(found), "{said}");
            let named: Vec<i64> = own["findings"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|found| {
                    !["NotCovered", "Losses", "WriterGap"].contains(&found["finding"].as_str().unwrap())
                })
                .map(|found| found["from"].as_i64().unwrap())
                .collect();
            assert_eq!(named, found, "{own}");
        }
    };
    agree("", &[]);
    off.run("CREATE TABLE kept AS SELECT * FROM tracing_audit_entries");
    for (sql, kind, found) in [
        ("UPDATE tracing_audit_entries SET ts = ts - 1 WHERE seq = 5", "modified", &[5][..]),
        ("UPDATE tracing_audit_entries SET metadata = '{ }' WHERE seq = 299", "modified", &[299]),
        ("DELETE FROM tracing_audit_entries WHERE seq = 599", "missing", &[599]),
        ("UPDATE tracing_audit_entries SET action = 'x' WHERE seq IN (3, 400)", "modified", &[3, 400]),
    ] {
        off.run(sql);
        agree(kind, found);
        off.run("DELETE FROM tracing_audit_entries; INSERT INTO tracing_audit_entries SELECT * FROM kept");
    }
    agree("", &[]);
}
