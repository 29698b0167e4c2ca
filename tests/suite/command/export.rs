//! An export that is interrupted and resumed.

use std::process::Command;

use serde_json::{Value, json};

use super::{EVENTS, answer, emit, filled, run, seqs};
use crate::support::log;

#[test]
fn an_export_interrupted_at_any_byte_and_resumed_equals_an_uninterrupted_one() {
    let fixture = filled(log());
    let more = |count: usize| {
        for _ in 0..count {
            emit(&fixture.log, &EVENTS[1]);
        }
        fixture.settle();
    };
    more(600);
    let directory = fixture.directory.path();
    let db = directory.join("audit.db");
    let db = db.to_str().unwrap();
    let export = |name: &str| {
        let file = directory.join(name).display().to_string();
        format!("export --where agent_id!=healthcheck --since 5200w --manifest -o {file}")
    };
    assert_eq!(answer(db, &export("whole.jsonl")), "");
    let whole = std::fs::read(directory.join("whole.jsonl")).unwrap();
    let manifest = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap()
    };
    let expected = manifest("whole.jsonl.manifest.json");

    for (round, cut) in [0, 1, 500, 9_999, 50_000, 111_111, whole.len() as u64].into_iter().enumerate() {
        let name = format!("{round}.jsonl");
        let resume = [&export(&name), " --resume"].concat();
        // The first try stops at a limit in blocks of 512 bytes, and loses everything after some byte.
        let mut limited = Command::new("sh");
        limited.args([
            "-c",
            "trap '' XFSZ; ulimit -f 150; exec \"$0\" $1",
            env!("CARGO_BIN_EXE_tracing-audit"),
            &resume,
        ]);
        let first = limited.env("TRACING_AUDIT_DB", db).output().unwrap();
        assert_eq!(first.status.code(), Some(4), "{}", String::from_utf8_lossy(&first.stderr));
        assert!(!directory.join(&name).exists());
        let partial = std::fs::OpenOptions::new()
            .write(true)
            .open(directory.join([&name, ".partial"].concat()))
            .unwrap();
        let length = partial.metadata().unwrap().len();
        assert!(length > 50_000, "{length}");
        partial.set_len(cut.min(length)).unwrap();
        // Entries that arrive meanwhile belong to the next export.
        more(1);
        let other = run(db, &[&resume, " --action s3:GetObject"].concat());
        assert_eq!(other.status.code(), Some(2));
        let second = run(db, &resume);
        let remark = String::from_utf8(second.stderr).unwrap();
        assert!(second.status.success() && remark.contains("continues the export that began at"), "{remark}");
        let resumed = std::fs::read(directory.join(&name)).unwrap();
        let rows = seqs(std::str::from_utf8(&resumed).unwrap()).len();
        assert!(resumed.starts_with(&whole) && rows == 612 + round, "{round}: {rows}");
        let told = manifest(&[&name, ".manifest.json"].concat());
        assert_eq!(told["rows"], json!(rows));
        if round == 0 {
            assert_eq!((&resumed, &told["sha256"]), (&whole, &expected["sha256"]));
        }
        let left = |end: &str| directory.join([&name, end].concat()).exists();
        assert!(!left(".partial") && !left(".partial.json"));
    }
}

#[test]
fn a_plan_that_contradicts_itself_is_refused_with_the_files_to_remove() {
    let fixture = filled(log());
    let path = |name: &str| fixture.directory.path().join(name);
    answer(&fixture.db, &format!("export --manifest -o {}", path("all.jsonl").display()));
    let plan: Value =
        serde_json::from_slice(&std::fs::read(path("all.jsonl.manifest.json")).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut plan = plan.clone();
        change(&mut plan["ledgers"]);
        plan
    };
    for plan in [
        with(&|ledgers| ledgers[0]["next_seq"] = json!(10)),
        with(&|ledgers| ledgers[0]["last"]["seq"] = json!(7)),
        with(&|ledgers| {
            let twice = ledgers[0].clone();
            ledgers.as_array_mut().unwrap().push(twice);
        }),
    ] {
        std::fs::write(path("x.jsonl.partial"), "").unwrap();
        std::fs::write(path("x.jsonl.partial.json"), plan.to_string()).unwrap();
        let refused = run(&fixture.db, &format!("export --resume -o {}", path("x.jsonl").display()));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && said.contains("contradicts itself"), "{said}");
        let both = format!("Remove {0} and {0}.json", path("x.jsonl.partial").display());
        assert!(said.contains(&both) && !path("x.jsonl").exists(), "{said}");
    }
}

#[cfg(feature = "postgres")]
#[test]
fn an_export_over_the_end_of_a_period_goes_on_with_the_ledgers_that_there_were_when_it_began() {
    use crate::support::{self, entry};

    let url = support::postgres::server().create_database();
    let write = |ledger: &str, entries: usize| {
        let builder = support::builder(support::store(&url)).ledger(ledger).in_memory_queue();
        let log = builder.blocking().open().unwrap();
        for _ in 0..entries {
            let reason = Some("x".repeat(500));
            log.writer().blocking().write(tracing_audit::AuditEntry { reason, ..entry("paid") }).unwrap();
        }
        support::settle(&log.writer());
        drop(log.blocking().shutdown(support::PATIENCE).unwrap());
    };
    write("payments-2026-11", 100);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("payments.jsonl");
    let resume = format!("export --resume --manifest -o {}", out.display());
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 100; exec \"$0\" $1",
        env!("CARGO_BIN_EXE_tracing-audit"),
        &resume,
    ]);
    let first = limited.env("TRACING_AUDIT_DB", &url).output().unwrap();
    assert_eq!(first.status.code(), Some(4), "{}", String::from_utf8_lossy(&first.stderr));
    write("payments-2026-12", 1);
    let second = run(&url, &resume);
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    let resumed = std::fs::read_to_string(&out).unwrap();
    assert!(resumed == answer(&url, "export --ledger payments-2026-11") && seqs(&resumed).len() == 100);
    let manifest = std::fs::read(directory.path().join("payments.jsonl.manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let ledgers: Vec<_> = manifest["ledgers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(ledgers, ["payments-2026-11"]);
}
