//! A ledger that has ended is kept in a file, and its database is removed: only if the file has all of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing_audit::{AuditLog, SequencedEntry};

use super::{answer, command, filled, run, seqs};
use crate::support::{self, PATIENCE, all_in, commit, entry, log, wait_until};

fn closed(log: &AuditLog) {
    drop(log.blocking().shutdown(PATIENCE).unwrap());
}

/// The exit code, and what is said on both outputs.
fn archive(db: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } =
        command(db.to_str().unwrap()).arg("archive").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// A database that stays, in which an entry tells of those that do not.
fn that_stays(directory: &Path) -> String {
    let path = directory.join("stays.db");
    let next = support::open(&path);
    commit(&next, entry("next"));
    closed(&next);
    path.to_str().unwrap().to_owned()
}

/// Checks what an entry tells of this archive, and of the record of reads beside it.
#[track_caller]
fn assert_told(stays: &str, archived: &str) {
    let told = answer(stays, "query --action audit.archived");
    // It is the log that says so.
    assert!(serde_json::from_str::<SequencedEntry>(&told).unwrap().is_own(), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let reads = fs::read([archived, ".reads.jsonl"].concat()).unwrap();
    assert_eq!(told["metadata"]["reads_sha256"], hex(&reads));
    let reads = String::from_utf8(reads).unwrap();
    let mut readers =
        reads.lines().map(|read| serde_json::from_str::<Value>(read).unwrap()["reader"].clone());
    assert!(!reads.is_empty() && readers.all(|reader| reader == "auditor"), "{reads}");
    let bytes = fs::read(archived).unwrap();
    assert_eq!(told["metadata"]["sha256"], hex(&bytes));
    assert_eq!(told["metadata"]["lines_sha256"], hex(&zstd::decode_all(&*bytes).unwrap()));
    assert_eq!((&told["resource_id"], &told["metadata"]["entries"]), (&"main".into(), &13.into()));
    let checkpoint = told["metadata"]["checkpoint"].as_str().unwrap();
    assert_eq!(checkpoint.lines().nth(1), Some("13"), "{checkpoint}");
}

#[test]
fn a_database_is_removed_once_its_archive_answers_as_it_did() {
    let fixture = filled(log());
    let directory = fixture.directory.path();
    let (db, stays) = (PathBuf::from(&fixture.db), that_stays(directory));
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let questions =
        ["query", "query --format csv --decision deny", "stats --by action", "tail", "export --format ocsf"];
    let before = questions.map(|question| answer(&fixture.db, question));

    // Somebody reads it, which is a part of what there is.
    let read = command(&fixture.db).args(["query", "--as", "auditor"]).output().unwrap();
    assert!(read.status.success());

    // A log is open.
    let (code, told) = archive(&db, &["--tell", &stays, "-o", &file("1.jsonl.zst")]);
    assert!(code == 3 && told.contains("may hold entries for it"), "{code} {told}");
    closed(&fixture.log);
    let (code, told) = archive(&db, &["--tell", &stays, "-o", &file("2.jsonl.zst")]);
    assert!(code == 3 && told.contains("its quarantine holds 1"), "{code} {told}");
    fixture.run("DELETE FROM tracing_audit_quarantine");
    // A writer of which nobody knows whether it goes on.
    fixture.run("UPDATE tracing_audit_writers SET ended_at = NULL");
    let (code, told) = archive(&db, &["--tell", &stays, "-o", &file("3.jsonl.zst")]);
    assert!(code == 3 && told.contains("has not ended"), "{code} {told}");
    fixture.run("UPDATE tracing_audit_writers SET ended_at = 1");
    let (stays_too, third) = (stays.as_str(), file("3.jsonl.zst"));
    for (arguments, says) in [
        (&["--tell", fixture.db.as_str()][..], "is what is to be archived"),
        (&["--tell", stays_too, "-o", third.as_str()][..], "replaces nothing"),
        (&[][..], "--tell"),
        (&["--tell", stays_too, "--tell-ledger", "other"][..], "choose the ledger of the entry"),
    ] {
        let (code, told) = archive(&db, arguments);
        assert!(code == 2 && told.contains(says), "{arguments:?}: {code} {told}");
    }
    for more in [&[][..], &["--ledger", "other"]] {
        let (code, told) = archive(&db, &[&["--keep", "-o", &*file("4.jsonl.zst")], more].concat());
        let expected = if more.is_empty() { (0, "13 entries of main") } else { (2, "choose the ledger") };
        assert!(code == expected.0 && told.contains(expected.1), "{code} {told}");
    }
    let same = run(&fixture.db, &format!("compare --against {}", file("4.jsonl.zst")));
    assert_eq!(same.status.code(), Some(0), "{}", String::from_utf8_lossy(&same.stderr));
    assert_eq!(questions.map(|question| answer(&fixture.db, question)), before);

    let (code, told) = archive(&db, &["--tell", &stays]);
    assert!(code == 0 && told.contains("13 entries of main; entry 1 of main in"), "{code} {told}");
    for suffix in ["", "-wal", "-shm", "-journal", ".turn"] {
        assert!(!Path::new(&[&*fixture.db, suffix].concat()).exists(), "{suffix}");
    }
    let archived = file("main.jsonl.zst");
    assert_eq!(questions.map(|question| answer(&archived, question)), before);
    // The name stands for one file, as a shell would have it.
    assert_eq!(answer(&file("main*.zst"), "query"), before[0]);
    assert_told(&stays, &archived);
    assert_eq!(run(&stays, "check").status.code(), Some(0));

    // One bit, which the manifest finds, and without it the file itself.
    let kept = file("4.jsonl.zst");
    let mut changed = fs::read(&kept).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for path in [&archived, &kept] {
        fs::write(path, &changed).unwrap();
    }
    fs::remove_file(file("4.jsonl.zst.manifest.json")).unwrap();
    for path in [&archived, &kept] {
        let refused = run(path, "query");
        assert!(refused.status.code() == Some(3) && refused.stdout.is_empty(), "{path}");
        let differs = run(&stays, &format!("compare --against {path}"));
        assert_eq!(differs.status.code(), Some(1), "{path}: {}", String::from_utf8_lossy(&differs.stderr));
    }
}

#[test]
fn a_database_stays_whose_ledger_is_not_whole_or_goes_on() {
    let fixture = log();
    for number in 0..4 {
        commit(&fixture.log, entry(number.to_string()));
    }
    closed(&fixture.log);
    let directory = fixture.directory.path();
    let stays = that_stays(directory);
    for (number, (sql, expected, says)) in [
        ("UPDATE tracing_audit_entries SET action = 'other' WHERE seq = 2", 1, "is not as it was"),
        ("DELETE FROM tracing_audit_entries WHERE seq = 0", 1, "is not as it was"),
        ("UPDATE tracing_audit_head SET next_seq = 3", 1, "is not as it was"),
    ]
    .into_iter()
    .enumerate()
    {
        let (db, out) = (directory.join(format!("{number}.db")), directory.join(format!("{number}.zst")));
        fs::copy(&fixture.db, &db).unwrap();
        support::run(db.to_str().unwrap(), sql);
        let (code, told) = archive(&db, &["--tell", &stays, "-o", out.to_str().unwrap()]);
        assert!(code == expected && told.contains(says), "{sql}: {code} {told}");
        assert!(db.exists() && !out.exists(), "{sql}");
    }
    // Something has it open.
    let out = directory.join("open.zst");
    let reader = support::block_on(async {
        let mut reader = support::connect(&fixture.db).await;
        sqlx::query("SELECT count(*) FROM tracing_audit_entries").execute(&mut reader).await.unwrap();
        reader
    });
    let (code, told) = archive(Path::new(&fixture.db), &["--tell", &stays, "-o", out.to_str().unwrap()]);
    assert!(code == 3 && told.contains("is in use"), "{code} {told}");
    drop(reader);
    assert_eq!(answer(&stays, "query --action audit.archived"), "");
    // It goes on as before.
    let again = support::open(Path::new(&fixture.db));
    assert_eq!(commit(&again, entry("4")), 4);
}

/// A file of this many entries that nobody has open, which compression makes hardly smaller.
fn ended(path: &Path, entries: usize) {
    let log = support::open(path);
    for number in 0..entries {
        let reason = Some([hex(&number.to_be_bytes()), hex(&(!number).to_be_bytes())].concat());
        log.writer().blocking().write(tracing_audit::AuditEntry { reason, ..entry("kept") }).unwrap();
    }
    support::settle(&log.writer());
    closed(&log);
}

#[test]
fn a_full_disk_leaves_the_database_and_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (db, stays) = (directory.join("audit.db"), that_stays(directory));
    ended(&db, 1000);
    let names = || {
        let found = fs::read_dir(directory).unwrap().map(|found| found.unwrap().path());
        // A reader that fails may leave what SQLite makes for it.
        let is_kept =
            |path: &PathBuf| !["db-wal", "db-shm"].iter().any(|end| path.to_string_lossy().ends_with(end));
        found.filter(is_kept).collect::<BTreeSet<_>>()
    };
    let before = names();
    // More than SQLite's index of a write-ahead log has, and less than the archive.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" archive --tell \"$1\"";
    let limited = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tracing-audit"), &stays])
        .env("TRACING_AUDIT_DB", &db)
        .output()
        .unwrap();
    let told = String::from_utf8(limited.stderr).unwrap();
    assert!(limited.status.code() == Some(4) && told.contains("main.jsonl.zst"), "{told}");
    assert_eq!(names(), before);
    assert_eq!(all_in(db.to_str().unwrap()).len(), 1000);
    assert_eq!(answer(&stays, "query --action audit.archived"), "");
}

#[test]
fn an_archive_that_is_killed_at_any_step_leaves_the_database_or_the_file_and_its_entry() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (db, stays) = (directory.join("audit.db"), that_stays(directory));
    let out = directory.join("main.jsonl.zst");
    let manifest = directory.join("main.jsonl.zst.manifest.json");
    ended(&db, 300);
    let saved = fs::read(&db).unwrap();
    let is_begun = || {
        let mut names = fs::read_dir(directory).unwrap().map(|found| found.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with(".tracing-audit-"))
    };
    let log_of_stays = PathBuf::from([&*stays, "-wal"].concat());
    let is_telling = || fs::metadata(&log_of_stays).is_ok_and(|log| log.len() > 0);
    let steps: [(&str, &dyn Fn() -> bool); 5] = [
        ("the archive is begun", &is_begun),
        ("it has its name", &|| out.exists()),
        ("its manifest is there", &|| manifest.exists()),
        ("it is being told", &is_telling),
        ("the database is gone", &|| !db.exists()),
    ];
    for (step, is_reached) in steps {
        let mut running = command(db.to_str().unwrap());
        running.args(["archive", "--tell", &stays]).stdout(Stdio::null()).stderr(Stdio::null());
        let (mut running, mut status) = (running.spawn().unwrap(), None);
        wait_until(step, || {
            let is_reached = is_reached();
            status = running.try_wait().unwrap();
            is_reached || status.is_some()
        });
        if status.is_none() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
        if db.exists() {
            // It goes on as if nothing had been, once what was left is gone.
            assert_eq!(all_in(db.to_str().unwrap()).len(), 300, "{step}");
            assert_eq!(run(db.to_str().unwrap(), "check").status.code(), Some(0), "{step}");
            if out.exists() {
                let (code, told) = archive(&db, &["--tell", &stays]);
                assert!(code == 2 && told.contains("remove what it has left"), "{step}: {code} {told}");
            }
        } else {
            let (out, told) =
                (out.to_str().unwrap(), answer(&stays, "query --action audit.archived --limit 1"));
            assert_eq!(seqs(&answer(out, "export")).len(), 300, "{step}");
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["metadata"]["sha256"], hex(&fs::read(out).unwrap()), "{step}");
        }
        for name in fs::read_dir(directory).unwrap().map(|found| found.unwrap().file_name()) {
            let name = name.to_string_lossy();
            if name.starts_with(".tracing-audit-") || name.starts_with("main.jsonl") {
                fs::remove_file(directory.join(&*name)).unwrap();
            }
        }
        // The next one is told in a database that is at rest.
        closed(&support::open(Path::new(&stays)));
        assert_eq!(run(&stays, "check").status.code(), Some(0), "{step}");
        if !db.exists() {
            fs::write(&db, &saved).unwrap();
        }
    }
    let (code, told) = archive(&db, &["--tell", &stays]);
    assert!(code == 0 && !db.exists(), "{code} {told}");
}

#[test]
fn a_ledger_of_a_server_is_kept_and_not_dropped_and_one_without_entries_is_archived_too() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let stays = that_stays(directory);
    // Nobody has written to it.
    let empty = directory.join("empty.db");
    closed(&support::open(&empty));
    let (code, told) =
        archive(&empty, &["--tell", &stays, "-o", directory.join("e.jsonl.zst").to_str().unwrap()]);
    assert!(code == 0 && told.contains("0 entries of main") && !empty.exists(), "{code} {told}");
    #[cfg(feature = "postgres")]
    {
        let url = support::postgres::server().create_database();
        for ledger in ["payments-2026-11", "payments-2026-12"] {
            let builder = support::builder(support::store(&url)).ledger(ledger).in_memory_queue();
            let log = builder.blocking().open().unwrap();
            commit(&log, entry(ledger));
            closed(&log);
        }
        let out = directory.join("kept.jsonl.zst");
        let out = out.to_str().unwrap();
        let of_one = ["--ledger", "payments-2026-11", "-o", out];
        let (code, told) = archive(Path::new(&url), &[&of_one[..], &["--tell", &stays]].concat());
        assert!(code == 2 && told.contains("takes a SQLite file"), "{code} {told}");
        let (code, told) = archive(Path::new(&url), &["--keep", "-o", out]);
        assert!(code == 2 && told.contains("choose the ledger by --ledger"), "{code} {told}");
        let (code, told) = archive(Path::new(&url), &[&of_one[..], &["--keep"]].concat());
        assert!(code == 0 && told.contains("1 entries of payments-2026-11"), "{code} {told}");
        let answered = |db: &str| answer(db, "export --ledger payments-2026-11");
        assert_eq!(answered(out), answered(&url));
        let same = run(&url, &format!("compare --against {out}"));
        assert_eq!(same.status.code(), Some(0), "{}", String::from_utf8_lossy(&same.stderr));
    }
}
