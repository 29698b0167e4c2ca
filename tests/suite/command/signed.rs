//! Keys, signed checkpoints, and whom a verifier trusts.

use std::{
    fs,
    process::{Command, Stdio},
};

use tracing_audit::{
    evidence::{CheckpointFile, CheckpointSink, open_key},
    ledger::{Checkpoint, Note, Trust},
};

use super::{command, filled, good, said};
use crate::support::{entry, log, settle, wait_until};

#[test]
fn a_signed_checkpoint_is_verified_by_whom_it_is_signed() {
    let fixture = filled(log());
    let db = &*fixture.db;
    let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let (key, next, kept, trust) = (file("audit.key"), file("next.key"), file("checkpoints"), file("trust"));
    let made = good("", &["key", "new", "audit.example.com/payments", "-o", &key]);
    made.parse::<Trust>().unwrap();
    fs::write(&trust, &made).unwrap();
    assert_eq!(good("", &["key", "show", &key]), made);
    let (code, _, err) = said("", &["key", "new", "audit.example.com/payments", "-o", &key]);
    assert!(code == 2 && err.contains("no key is overwritten"), "{code} {err}");
    let (code, _, err) = said("", &["key", "new", "a key", "-o", &file("none.key")]);
    assert!(code == 2 && err.contains("contains ' '"), "{code} {err}");
    let (code, _, err) = said(db, &["checkpoint", "--key", &key]);
    assert!(code == 2 && err.contains("give a file by --to"), "{code} {err}");

    let note = good(db, &["checkpoint", "--key", &key, "--to", &kept]);
    assert!(note.starts_with("audit.example.com/payments\n13\n"), "{note}");
    assert_eq!(note.parse::<Note>().unwrap().signatures().len(), 2);
    let as_file = file("note");
    fs::write(&as_file, &note).unwrap();
    let timed = file("timed");
    let lines =
        made.replace("quorum none\n", "").replace("# witness", "witness").replace("# quorum", "quorum");
    fs::write(&timed, lines).unwrap();
    for trust in [&trust, &timed] {
        for checkpoint in [&as_file, &note, &kept] {
            let out = good(db, &["verify", "--checkpoint", checkpoint, "--trust", trust]);
            assert!(out.contains("13 covered by a checkpoint"), "{out}");
        }
    }
    for checkpoint in [&as_file, &note, &kept] {
        let (code, _, err) = said(db, &["verify", "--checkpoint", checkpoint]);
        assert!(code == 2 && err.contains("a checkpoint is signed: give the file"), "{code} {err}");
    }

    // The end of a file that has grown, a write that was cut off, and signed notes one after the other.
    let (line, grown) = (fs::read_to_string(&kept).unwrap(), file("grown"));
    let (part, _) = line.split_at(40);
    fs::write(&grown, [&*line.repeat(3000), part].concat()).unwrap();
    let (code, out, err) = said(db, &["verify", "--checkpoint", &grown, "--trust", &trust]);
    assert!(
        code == 0 && out.contains("13 covered") && err.contains("are passed over: 1"),
        "{code} {out} {err}"
    );
    fs::write(&grown, note.repeat(2)).unwrap();
    assert!(good(db, &["verify", "--checkpoint", &grown, "--trust", &trust]).contains("13 covered"));
    fs::write(&grown, part).unwrap();
    let (code, _, err) = said(db, &["verify", "--checkpoint", &grown, "--trust", &trust]);
    assert!(code == 2 && err.contains("no line of it holds a checkpoint"), "{code} {err}");

    let refused = |checkpoint: &str, trust: &str, finding: &str| {
        let (code, out, err) = said(db, &["verify", "--checkpoint", checkpoint, "--trust", trust]);
        assert!(code == 1 && out.starts_with(finding), "{code} {out}");
        assert!(err.contains("not signed as the trust file asks for"), "{err}");
    };
    refused(
        &note.replace("\n13\n", "\n12\n"),
        &trust,
        "BadSignature: the checkpoint of 12 entries is not believed",
    );
    let others = file("others");
    fs::write(&others, good("", &["key", "new", "audit.example.com/payments", "-o", &file("others.key")]))
        .unwrap();
    refused(&note, &others, "UnknownKey: ");
    let unsigned: String = note.split_inclusive('\n').take(5).collect();
    refused(&unsigned, &timed, "Unsigned: ");
    for (text, says) in [("", "no line `log`"), ("log a+b\nquorum none\n", "line 1: malformed verifier key")]
    {
        fs::write(&others, text).unwrap();
        let (code, _, err) = said(db, &["verify", "--checkpoint", &note, "--trust", &others]);
        assert!(code == 2 && err.contains(says), "{code} {err}");
    }

    let after = good(db, &["key", "rotate", "--key", &key, "-o", &next]);
    assert!(
        after.starts_with("# tracing-audit: sizes 0..14\nlog ") && after.contains("sizes 14..\nlog "),
        "{after}"
    );
    fs::write(&trust, &after).unwrap();
    let declared = good(db, &["get", "13", "-o", "jsonl"]);
    assert!(declared.contains("\"audit.key\"") && declared.contains("verifier_key_before"), "{declared}");
    let old = good(db, &["checkpoint", "--key", &key, "--to", &kept]);
    refused(&old, &trust, "KeyOutOfInterval: the checkpoint of 14 entries is not believed");
    let both = good(db, &["checkpoint", "--key", &key, "--key", &next, "--to", &kept]);
    assert_eq!(both.parse::<Note>().unwrap().signatures().len(), 4);
    for checkpoint in [&note, &both] {
        good(db, &["verify", "--checkpoint", checkpoint, "--trust", &trust]);
    }

    // What was changed is not signed, unless nobody looks.
    fixture.run("UPDATE tracing_audit_entries SET decision = 'allow' WHERE seq = 7");
    let arguments = ["checkpoint", "--key", &next, "--to", &kept];
    let (code, out, err) = said(db, &arguments);
    assert!(code == 1 && out.is_empty(), "{code} {out}");
    assert!(err.contains("nothing is signed: the ledger is not as it was: Modified 7: "), "{err}");
    good(db, &[&arguments[..], &["--tree-only"]].concat());

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
        fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
        let (code, _, err) = said(db, &["checkpoint", "--key", &key, "--to", &kept]);
        assert!(code == 2 && err.contains("is open to every user (mode 644)"), "{code} {err}");
    }
}

#[test]
fn a_checkpoint_without_signatures_is_never_believed_beside_a_trust_file() {
    let fixture = filled(log());
    let db = &*fixture.db;
    let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let (key, kept, trust) = (file("audit.key"), file("checkpoints"), file("trust"));
    fs::write(&trust, good("", &["key", "new", "audit.example.com/payments", "-o", &key])).unwrap();
    good(db, &["checkpoint", "--key", &key, "--to", &kept]);
    let (proof, bundle) = (file("7.tlog-proof"), file("all.jsonl.gz"));
    good(db, &["prove", "7", "--checkpoint", &kept, "-o", &proof]);
    good(db, &["bundle", "--checkpoint", &kept, "-o", &bundle]);
    let bare = good(db, &["checkpoint"]);
    let lines: Vec<&str> = bare.lines().collect();
    let short = [lines[1], lines[2]].join(" ");
    let named = bare.replace(lines[0], "audit.example.com/payments");
    let line =
        |text: &str| format!("{}\n", serde_json::json!({ "at": "2026-11-28T14:00:00Z", "note": text }));
    let signed = fs::read_to_string(&kept).unwrap();
    let unsigned = file("unsigned");
    // The text in the file, and the line that is named.
    for (text, place) in [
        (bare.clone(), ""),
        (named.clone(), ""),
        (short.clone(), ""),
        (format!("{named}\n{bare}"), ", line 5"),
        (line(&named), ", line 1"),
        ([signed, line(&bare)].concat(), ", line 2"),
    ] {
        fs::write(&unsigned, &text).unwrap();
        let says = format!("{unsigned}{place}");
        let (code, out, err) = said(db, &["verify", "--checkpoint", &unsigned, "--trust", &trust]);
        assert!(
            code == 1 && out.starts_with("UnknownKey: the checkpoint of 13 entries is not believed"),
            "{out}"
        );
        assert!(err.contains(&says) && err.contains("not signed as the trust file asks for"), "{err}");
        for arguments in [
            &["verify-proof", &*proof, "--checkpoint", &unsigned][..],
            &["verify-bundle", &bundle, "--checkpoint", &unsigned],
            &["consistency", "--from", &unsigned],
            &["consistency", "--from", &kept, "--to", &unsigned],
        ] {
            let of = if arguments[0] == "consistency" { db } else { "" };
            if !of.is_empty() && place == ", line 2" {
                // Of a file it takes the newest one, which here is signed.
                continue;
            }
            let (code, out, err) = said(of, &[arguments, &["--trust", &trust]].concat());
            assert!(code == 1 && out.is_empty(), "{text}, {arguments:?}: {code} {out}");
            assert!(err.contains("is not believed: it is not signed") && err.contains(&unsigned), "{err}");
        }
    }
    for text in [&bare, &named, &short] {
        assert_eq!(said(db, &["verify", "--checkpoint", text, "--trust", &trust]).0, 1, "{text}");
    }
    // Whether a signature was verified is said.
    for (arguments, is_signed) in
        [(&["--checkpoint", &*kept, "--trust", &trust][..], true), (&["--checkpoint", &bare], false)]
    {
        let says = if is_signed { "13 covered by a checkpoint (signed: yes), " } else { "(signed: no), " };
        assert!(good(db, &[&["verify"], arguments].concat()).contains(says), "{arguments:?}");
        let json = good(db, &[&["verify", "--format", "json"], arguments].concat());
        assert!(json.contains(&format!("\"signed\":{is_signed}")), "{json}");
    }
}

#[test]
fn a_notary_believes_no_line_that_it_has_not_signed_and_says_what_its_file_lacks() {
    let fixture = filled(log());
    let db = &*fixture.db;
    let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let (key, kept) = (file("audit.key"), file("checkpoints"));
    good("", &["key", "new", "audit.example.com/payments", "-o", &key]);
    let sign = ["checkpoint", "--key", &key, "--to", &kept];
    let note = good(db, &sign);
    let whole = fs::read_to_string(&kept).unwrap();
    let bare = note.split_inclusive('\n').take(3).collect::<String>();
    let huge = |text: &str| text.replace("\n13\n", "\n9223372036854775807\n");
    for (text, why) in [
        (bare.clone(), "it is not signed"),
        (huge(&bare), "it is not signed"),
        (huge(&note), "the signature of the key"),
    ] {
        let line = format!("{}\n", serde_json::json!({ "at": "2026-11-28T14:00:00Z", "note": text }));
        // Also where the line is the only one.
        for (lines, number) in [([&*whole, &line].concat(), 2), (line.clone(), 1)] {
            fs::write(&kept, &lines).unwrap();
            let (code, out, err) = said(db, &sign);
            let says = format!("nothing is signed: {kept}, line {number}: the checkpoint of ");
            assert!(
                code == 1 && out.is_empty() && err.contains(&says) && err.contains(why),
                "{code} {out} {err}"
            );
            assert_eq!(fs::read_to_string(&kept).unwrap(), lines);
        }
    }
    fs::write(&kept, "").unwrap();
    let (code, out, err) = said(db, &sign);
    assert!(code == 0 && out.starts_with("audit.example.com/payments\n13\n"), "{code} {out}");
    assert!(err.contains("checkpoints was there and held no checkpoint of the ledger"), "{err}");
    good(db, &sign);
}

#[test]
fn without_a_key_no_other_ledger_is_appended_to_a_file_either() {
    let (fixture, other, small) = (filled(log()), filled(log()), log());
    let kept = fixture.directory.path().join("checkpoints").to_str().unwrap().to_owned();
    let append = ["checkpoint", "--to", &kept];
    good(&fixture.db, &append);
    fixture.log.writer().blocking().commit(entry("more")).unwrap();
    good(&fixture.db, &append);
    let lines = fs::read_to_string(&kept).unwrap();
    assert_eq!(lines.lines().count(), 2);
    (0..5).for_each(|n| other.log.writer().try_write(entry(n.to_string())).unwrap());
    settle(&other.log.writer());
    for (db, why) in [
        (&other.db, "does not continue the one whose checkpoint of 14 entries"),
        (&small.db, "was rolled back. Its checkpoint of 14 entries"),
    ] {
        let (code, out, err) = said(db, &append);
        assert!(code == 1 && out.is_empty() && err.contains(why), "{code} {out} {err}");
    }
    assert_eq!(fs::read_to_string(&kept).unwrap(), lines, "nothing of another ledger is appended");
    good(&fixture.db, &append);
}

#[test]
fn a_proof_and_a_bundle_are_believed_by_whom_their_checkpoint_is_signed() {
    let fixture = filled(log());
    let db = &*fixture.db;
    let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let (key, kept, trust, other) = (file("audit.key"), file("checkpoints"), file("trust"), file("other"));
    let lines = good("", &["key", "new", "audit.example.com/payments", "-o", &key]);
    fs::write(&trust, &lines).unwrap();
    fs::write(&other, format!("# tracing-audit: sizes 0..13\n{lines}")).unwrap();
    let note = good(db, &["checkpoint", "--key", &key, "--to", &kept]);
    let short = note.lines().skip(1).take(2).collect::<Vec<_>>().join(" ");
    let (proof, bare, bundle) = (file("7.tlog-proof"), file("bare.tlog-proof"), file("all.jsonl.gz"));
    good(db, &["prove", "7", "--checkpoint", &kept, "-o", &proof]);
    good(db, &["prove", "7", "--checkpoint", &short, "-o", &bare]);
    good(db, &["bundle", "--checkpoint", &kept, "-o", &bundle]);
    let whole = fs::read_to_string(&proof).unwrap();
    assert!(whole.ends_with(&note), "{whole}");
    let changed = file("changed");
    fs::write(&changed, whole.replace("\n13\n", "\n12\n")).unwrap();

    let (by, keys) = ("the checkpoint of 13 entries is signed by audit.example.com/payments+", "--trust");
    for (arguments, code, says) in [
        (&["verify-proof", &*proof, keys, &trust][..], 0, by),
        (&["verify-proof", &proof, keys, &trust, "--checkpoint", &kept], 0, by),
        (&["verify-proof", &proof, "--checkpoint", &short], 0, ""),
        (&["verify-proof", &proof], 5, "the keys that you trust by --trust"),
        (&["verify-proof", &proof, "--checkpoint", &kept], 2, "a checkpoint is signed: give the file"),
        (&["verify-proof", &proof, keys, &other], 1, "may sign sizes from 0 on, below 13"),
        (&["verify-proof", &proof, keys, &other, "--checkpoint", &kept], 1, "is not believed: the key"),
        (&["verify-proof", &changed, keys, &trust], 1, "the signature of the key"),
        (&["verify-proof", &bare, keys, &trust], 1, "it is not signed"),
        (&["verify-bundle", &bundle, keys, &trust], 0, by),
        (&["verify-bundle", &bundle, keys, &other], 1, "may sign sizes from 0 on, below 13"),
        (&["consistency", "--from", &kept, keys, &trust], 0, "up to a checkpoint of now"),
        (&["consistency", "--from", &kept, keys, &other], 1, "is not believed: the key"),
    ] {
        let (ended, out, err) = said(if arguments[0] == "consistency" { db } else { "" }, arguments);
        assert!(ended == code && err.contains(says), "{arguments:?}: {ended} {err}");
        assert!(ended != 1 || out.is_empty(), "{arguments:?}: {out}");
    }
}

#[test]
#[cfg(unix)]
fn a_notary_publishes_until_a_signal_comes_and_refuses_another_ledger() {
    let fixture = log();
    let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let (key, kept) = (file("audit.key"), file("checkpoints"));
    good("", &["key", "new", "audit.example.com/payments", "-o", &key]);
    let secret = fs::read_to_string(&key).unwrap();
    let mut notary = command(&fixture.db)
        .args(["checkpoint", "--to", &kept, "--every", "1s"])
        .env("TRACING_AUDIT_KEY", &secret)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let published = |size: u32| {
        let text = fs::read_to_string(&kept).unwrap_or_default();
        text.contains(&format!("audit.example.com/payments\\n{size}\\n"))
    };
    for size in [0, 2, 4] {
        wait_until("the checkpoint is published", || published(size));
        (0..2).for_each(|n| fixture.log.writer().try_write(entry(n.to_string())).unwrap());
        settle(&fixture.log.writer());
    }
    assert!(Command::new("kill").arg(notary.id().to_string()).status().unwrap().success());
    assert!(notary.wait().unwrap().success());
    assert!(published(6), "what is new at the end is published too");

    let other = filled(log());
    let small = log();
    for (db, size) in [(&small.db, 0), (&other.db, 13)] {
        let (code, out, err) = said(db, &["checkpoint", "--key", &key, "--to", &kept]);
        let why = if size < 6 {
            "was rolled back"
        } else {
            "does not continue the one whose checkpoint of 6 entries"
        };
        assert!(code == 1 && out.is_empty() && err.contains(why), "{code} {out} {err}");
    }
    assert!(!published(13), "nothing of that is signed");
}

#[test]
fn a_backup_that_was_restored_is_declared_and_the_ledger_goes_on_under_another_name() {
    let fixture = filled(log());
    let db = &*fixture.db;
    let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let (key, kept, next, trust) = (file("audit.key"), file("checkpoints"), file("next.key"), file("trust"));
    let name = "audit.example.com/payments/1";
    good("", &["key", "new", "audit.example.com/payments", "-o", &key]);
    good(db, &["checkpoint", "--key", &key, "--to", &kept]);
    let accept = |origin: &str, out: &str| {
        let arguments = ["ledger", "accept-restore", origin, "--key", &key, "--checkpoint", &kept, "-o", out];
        said(db, &[&arguments[..], &["--by", "ops", "--reason", "the disk was lost"]].concat())
    };
    let (code, _, err) = accept(name, &next);
    assert!(code == 2 && err.contains("nothing is to be accepted"), "{code} {err}");
    // What was committed and signed after the backup.
    let signer = open_key(&key).unwrap();
    let lost = Checkpoint::new(signer.origin().clone(), 15, [7; 32]).unwrap();
    let line = format!("{}\n", signer.sign_text(&lost.to_string()).unwrap());
    let note = Note::new(&lost.to_string(), &line).unwrap().to_string();
    CheckpointFile::new(&kept).publish(&lost, &note).unwrap();
    let (code, _, err) = said(db, &["checkpoint", "--key", &key, "--to", &kept]);
    assert!(code == 1 && err.contains("was rolled back"), "{code} {err}");

    let (code, _, err) = accept("audit.example.com/payments", &next);
    assert!(code == 2 && err.contains("is the name until now"), "{code} {err}");
    let (code, after, err) = accept(name, &next);
    assert_eq!((code, &*err), (0, ""), "{after}");
    assert!(after.starts_with("# tracing-audit: sizes 0..14\nlog audit.example.com/payments+"), "{after}");
    fs::write(&trust, &after).unwrap();
    let declared = good(db, &["get", "13", "-o", "jsonl"]);
    assert!(declared.contains("\"audit.restored\"") && declared.contains("\"by\":\"ops\""), "{declared}");
    let again = file("again");
    let note = good(db, &["checkpoint", "--key", &next, "--to", &again]);
    assert!(note.starts_with(&format!("{name}\n14\n")), "{note}");
    let out = good(db, &["verify", "--checkpoint", &again, "--trust", &trust]);
    assert!(out.contains("14 covered by a checkpoint"), "{out}");
    let (code, out, _) = said(db, &["verify", "--checkpoint", &kept, "--trust", &trust]);
    assert!(code == 1 && out.starts_with("KeyOutOfInterval: the checkpoint of 15 entries"), "{code} {out}");
}
