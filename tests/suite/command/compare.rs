//! An earlier export, compared with what the database holds now.

use std::{fs, io::Write};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{EVENTS, answer, emit, filled, run};
use crate::support::log;

#[test]
fn an_earlier_export_is_compared_with_the_log_and_each_difference_is_named() {
    let fixture = filled(log());
    let at = |name: &str| fixture.directory.path().join(name).display().to_string();
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    for options in [
        "export --manifest -o PLAIN",
        "export --manifest -o SMALL.gz",
        "export --decision Deny --since 5200w --manifest -o DENIED",
        "export --from-seq 3 -o BARE",
        "tail --decision Allow -o COPY",
    ] {
        let names = ["PLAIN", "SMALL.gz", "DENIED", "BARE", "COPY"];
        let options = names.iter().fold(options.to_owned(), |all, name| all.replace(name, &at(name)));
        assert_eq!(answer(&fixture.db, &options), "");
    }
    for _ in 0..2 {
        emit(&fixture.log, &EVENTS[0]);
    }
    fixture.settle();
    let compare = |name: &str| format!("compare --format table --against '{}'", at(name));
    // Two came since, which are allowed.
    for (name, same, since) in
        [("PLAIN", 13, 2), ("SMALL.gz", 13, 2), ("DENIED", 4, 0), ("BARE", 10, 2), ("COPY", 7, 2)]
    {
        // Without a manifest the conditions are given again.
        let again = if name == "BARE" { " --from-seq 3" } else { "" };
        let told = answer(&fixture.db, &[&*compare(name), again].concat());
        // Of those that were denied none came since, and two others did.
        let (told, others) = told.split_once("2 others came since").unwrap_or((&*told, ""));
        assert_eq!(others.is_empty(), name != "DENIED", "{name}: {told}");
        let is_said = told
            .starts_with(&format!("{same} entries are there, unchanged and in the same order; 0 changed"));
        assert!(is_said && told.trim_end().ends_with(&format!("{since} came since")), "{name}: {told}");
        assert_eq!(told.lines().count(), 1);
    }
    let same = answer(&fixture.db, &compare("PLAIN").replace("table", "jsonl"));
    let counts = json!({ "same": 13, "since": 2, "others": 0, "changed": 0, "missing": 0, "added": 0, "line": 0, "file": 0,
                "outside": 0, "schema": 0, "before": 0 });
    assert_eq!(serde_json::from_str::<Value>(&same).unwrap(), json!({ "compared": counts }));

    // The file is not what it was.
    let plain = read("PLAIN");
    let lines: Vec<&str> = plain.split_inclusive('\n').collect();
    let differs = |name: &str, says: &[&str]| {
        let told = run(&fixture.db, &compare(name));
        assert_eq!(told.status.code(), Some(1), "{name}");
        let out = String::from_utf8(told.stdout).unwrap();
        assert!(says.iter().all(|says| out.contains(says)), "{name}: {out}");
        assert!(String::from_utf8(told.stderr).unwrap().contains("does not hold what"));
        out
    };
    let write = |name: &str, contents: &[&str]| fs::write(at(name), contents.concat()).unwrap();
    write("forged", &[&plain.replace("s3:GetObject", "s3:PutObject")]);
    assert!(differs("forged", &["changed  main "]).contains(": action"));
    write("swapped", &[lines[1], lines[0], &lines[2..].concat()]);
    differs("swapped", &["line     2: it is not in the order of seq"]);
    write("twice", &[&plain, lines[12]]);
    differs("twice", &["line     14: it is not in the order of seq"]);
    write("torn", &[plain.strip_suffix("}\n").unwrap()]);
    differs("torn", &["line     13: it is not an entry"]);
    write("foreign", &[&plain, "something else\n"]);
    differs("foreign", &["line     14: it is not an entry"]);
    write("left out", &[lines[0], &lines[2..].concat()]);
    differs("left out", &["added    main 1 "]);
    let elsewhere = log();
    emit(&elsewhere.log, &EVENTS[0]);
    elsewhere.settle();
    differs_in(&elsewhere.db, &at("PLAIN"), "missing  main 1 ");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    fs::write(at("packed"), &packed[..packed.len() / 2]).unwrap();
    differs("packed", &["the compressed file ends in the middle"]);
    fs::write(at("added to"), [&packed[..], b"something else"].concat()).unwrap();
    differs(
        "added to",
        &["line     14: the compressed file is damaged there, or something else was added to it"],
    );
    fs::write(at("SMALL.gz"), [packed, vec![0]].concat()).unwrap();
    let told = run(&fixture.db, &compare("SMALL.gz"));
    let told = String::from_utf8(told.stdout).unwrap().replace('\n', " ");
    assert!(told.contains("by its manifest: it was changed"), "{told}");
    fs::write(at("SMALL.gz"), "").unwrap();
    differs("SMALL.gz", &["its SHA-256 is", "added    main 0 ", "added    main 12 ", "2 came since"]);

    // The log is not what it was.
    fixture.run("update tracing_audit_entries set action = 'x', decision = 'Allow' where seq = 4");
    fixture.run("delete from tracing_audit_entries where seq = 6");
    let id: Value = serde_json::from_str(lines[6]).unwrap();
    differs(
        "PLAIN",
        &[
            "changed  main 4 ",
            "action",
            &format!("missing  main 6 {}: the database has no entry there", id["id"].as_str().unwrap()),
            "11 entries are there, unchanged and in the same order; 1 changed, 1 missing, 0 added among them; 2 came since",
        ],
    );
    let told = run(&fixture.db, &compare("PLAIN").replace(" --format table", ""));
    let told: Vec<Value> = String::from_utf8(told.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&told[1]["finding"], &told[1]["seq"], &told[1]["id"]),
        (&json!("missing"), &json!(6), &id["id"])
    );
    assert_eq!(told[2]["compared"]["same"], 11);

    // What a reader of JSON passes over, and rows beside the ledger.
    fixture.run("update tracing_audit_entries set metadata = '{\"requestID\": \"forged\", ' || substr(metadata, 2) where seq = 8");
    fixture.run(
        "update tracing_audit_entries set metadata = replace(metadata, '\"userIdentity\":{', '\"userIdentity\":{\"userName\":\"x\",') where seq = 9",
    );
    let columns = "ts, workspace_id, action, resource, decision, metadata";
    fixture.run(&format!(
        "insert into tracing_audit_entries (seq, id, {columns}) select -3, randomblob(16), {columns} from tracing_audit_entries where seq = 1"
    ));
    differs(
        "PLAIN",
        &[
            "changed  main 8 ",
            "changed  main 9 ",
            ": metadata",
            "outside  main: 1 entries or batches have numbers",
        ],
    );

    for (arguments, says) in [
        (compare("nothing"), "cannot read"),
        (format!("compare --against '{}'", fixture.db), "is a file of the audit database"),
        (format!("{} --decision Allow", compare("DENIED")), "with other conditions"),
        (format!("{} --manifest {}", compare("BARE"), at("PLAIN")), "is not a manifest"),
    ] {
        let refused = run(&fixture.db, &arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(says), "{arguments}");
    }
}

/// Checks that this is said of a file without a manifest.
#[track_caller]
fn differs_in(db: &str, file: &str, says: &str) {
    let told = run(db, &format!("compare -o table --against '{file}'"));
    let out = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.code() == Some(1) && out.contains(says), "{file}: {out}");
}

#[test]
fn a_file_whose_beginning_was_cut_off_does_not_look_whole() {
    let fixture = filled(log());
    let at = |name: &str| fixture.directory.path().join(name).display().to_string();
    let plain = answer(&fixture.db, "export");
    let lines: Vec<&str> = plain.split_inclusive('\n').collect();
    let compare = |name: &str, options: &str| {
        let told = run(&fixture.db, &format!("compare --against '{}' {options}", at(name)));
        let [out, err] = [told.stdout, told.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (told.status.code(), out, err)
    };
    for (name, left) in [("without the first", 1), ("with the last", 12), ("empty", 13)] {
        fs::write(at(name), lines[left..].concat()).unwrap();
        let (code, out, err) = compare(name, "-o table");
        assert!(
            code == Some(5) && err.contains(&format!("has {left} matching entries before")),
            "{name}: {err}"
        );
        assert!(out.starts_with("begins   main"), "{name}: {out}");
        let (code, out, _) = compare(name, "");
        let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        let seq = if left == 13 { Value::Null } else { json!(left) };
        assert_eq!(first["begins"], json!({ "ledger": "main", "seq": seq, "before": left }), "{name}");
        assert!(code == Some(5) && out.contains(&format!("\"before\":{left}")), "{name}: {out}");
        // Where the question began there, it is whole.
        assert_eq!(compare(name, &format!("--from-seq {left}")).0, Some(0), "{name}");
    }
    // What differs is found all the same.
    fs::write(at("changed"), lines[1..].concat().replacen("s3:GetObject", "s3:PutObject", 1)).unwrap();
    assert_eq!(compare("changed", "").0, Some(1));
    // Matching entries alone count.
    let denied = answer(&fixture.db, "export --decision deny");
    fs::write(at("denied"), &denied).unwrap();
    assert_eq!(compare("denied", "--decision deny").0, Some(0));
    fs::write(at("denied"), denied.split_inclusive('\n').skip(2).collect::<String>()).unwrap();
    let (code, _, err) = compare("denied", "--decision deny");
    assert!(code == Some(5) && err.contains("has 2 matching entries before"), "{err}");
}

#[test]
fn what_is_no_export_as_json_lines_is_not_compared() {
    let fixture = filled(log());
    let at = |name: &str| fixture.directory.path().join(name).display().to_string();
    let plain = answer(&fixture.db, "export");
    fs::write(at("a note"), "one\ntwo\nthree\n").unwrap();
    fs::write(at("a line"), "one\n").unwrap();
    fs::write(at("csv"), answer(&fixture.db, "export --format csv")).unwrap();
    fs::write(at("ocsf"), answer(&fixture.db, "export --format ocsf")).unwrap();
    for name in ["a note", "a line", "csv", "ocsf"] {
        let told = run(&fixture.db, &format!("compare --against '{}'", at(name)));
        let err = String::from_utf8(told.stderr).unwrap();
        assert!(told.status.code() == Some(2) && told.stdout.is_empty(), "{name}: {err}");
        assert!(err.contains("does not begin with an entry as JSON Lines have it"), "{name}: {err}");
    }
    // An export of which only the first line was damaged is one.
    fs::write(at("damaged"), plain.replacen("{\"ledger\"", "{\"ledger", 1)).unwrap();
    differs_in(&fixture.db, &at("damaged"), "line     1: it is not an entry");
}
