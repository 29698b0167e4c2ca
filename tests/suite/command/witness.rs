//! Witnesses: asked by the command over HTTP, and demanded by those who verify.

use std::{
    fs,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use tracing_audit::ledger::{Note, Origin, PrivateKey, Trust};

use super::{command, filled, good, said};
use crate::support::{Fixture, Manner, Root, TestWitness, commit, entry, log, root_of, wait_until};

const ORIGIN: &str = "audit.example.com/payments";

/// A key of the ledger, its verifier key, and the file in which what it signs is kept.
struct Notary {
    key: String,
    verifier: String,
    kept: String,
}

impl Notary {
    fn of(fixture: &Fixture) -> Self {
        let [key, kept] = ["audit.key", "checkpoints"].map(|name| file(fixture, name));
        let made = good("", &["key", "new", ORIGIN, "-o", &key]);
        let verifier = made.lines().next().unwrap().strip_prefix("log ").unwrap().to_owned();
        Self { key, verifier, kept }
    }

    /// The arguments that sign a checkpoint, and others.
    fn signs<'a>(&'a self, others: &[&'a str]) -> Vec<&'a str> {
        [&["checkpoint", "--key", &self.key, "--to", &self.kept][..], others].concat()
    }

    /// The checkpoints that are kept, in their order.
    fn notes(&self) -> Vec<Note> {
        let lines = fs::read_to_string(&self.kept).unwrap_or_default();
        let note = |line| -> Note {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["note"].as_str().unwrap().parse().unwrap()
        };
        lines.lines().map(note).collect()
    }
}

fn file(fixture: &Fixture, name: &str) -> String {
    fixture.directory.path().join(name).to_str().unwrap().to_owned()
}

/// A witness that knows the ledger of the notary.
fn witness(name: &str, seed: u8, notary: &Notary) -> TestWitness {
    let witness = TestWitness::new(name, seed);
    witness.knows(&notary.verifier);
    witness
}

/// Writes a trust file with these witnesses, of which as many as the group says must have cosigned.
fn trusting(
    fixture: &Fixture,
    name: &str,
    notary: &Notary,
    group: &str,
    witnesses: &[&TestWitness],
) -> String {
    let names: Vec<String> = (1..=witnesses.len()).map(|number| format!("w{number}")).collect();
    let line = |(name, witness): (&String, &&TestWitness)| {
        format!("witness {name} {} {}\n", witness.verifier_key(), witness.url())
    };
    let witnesses: String = names.iter().zip(witnesses).map(line).collect();
    let lines =
        format!("log {}\n{witnesses}group g {group} {}\nquorum g\n", notary.verifier, names.join(" "));
    lines.parse::<Trust>().unwrap();
    let path = file(fixture, name);
    fs::write(&path, lines).unwrap();
    path
}

fn leaf(number: u32, of: &str) -> Root {
    Sha256::new().chain_update(b"\0").chain_update(of).chain_update(number.to_be_bytes()).finalize().into()
}

/// The proof that a tree continues that of its first leaves: RFC 6962, section 2.1.2.
fn proof(first: usize, leaves: &[Root], is_whole: bool) -> Vec<Root> {
    if first == leaves.len() {
        return if is_whole { Vec::new() } else { vec![root_of(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    if first <= left.len() {
        let mut path = proof(first, left, is_whole);
        path.push(root_of(right));
        path
    } else {
        let mut path = proof(first - left.len(), right, false);
        path.push(root_of(left));
        path
    }
}

/// A request to cosign the tree over these leaves, signed by a key.
fn request(key: &PrivateKey, old: usize, leaves: &[Root], proof: &[Root]) -> String {
    let text = format!("{}\n{}\n{}\n", key.origin(), leaves.len(), STANDARD.encode(root_of(leaves)));
    let proof: String = proof.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
    format!("old {old}\n{proof}\n{text}\n{}\n", key.sign_text(&text).unwrap())
}

#[test]
fn the_witness_of_the_tests_accepts_what_goes_on_and_refuses_everything_dishonest() {
    let key = PrivateKey::from_seed(Origin::new(ORIGIN).unwrap(), [7; 32]);
    let witness = TestWitness::new("witness.example/w1", 1);
    witness.knows(&key.verifier().to_string());
    let own: Vec<Root> = (0..40).map(|number| leaf(number, "own")).collect();
    // The same up to the sixth leaf.
    let forked: Vec<Root> =
        (0..40).map(|number| leaf(number, if number < 6 { "own" } else { "other" })).collect();
    let ask = |body: &str| witness.answer(body);
    let honest = |old: usize, size: usize| {
        let leaves = &own[..size];
        request(&key, old, leaves, &if old == 0 { Vec::new() } else { proof(old, leaves, true) })
    };
    let trust: Trust =
        format!("log {}\nwitness w {}\nquorum w", key.verifier(), witness.verifier_key()).parse().unwrap();
    let mut size = 0;
    for next in [0, 1, 1, 2, 5, 8, 8] {
        let body = honest(size, next);
        let (status, _, line) = ask(&body);
        assert_eq!(status, 200, "{size} to {next}");
        let note = body.split_once("\n\n").unwrap().1.to_owned() + &line;
        let opened = trust.open(&note.parse().unwrap()).unwrap();
        assert_eq!((opened.checkpoint().size(), opened.keys().len()), (next as u64, 2));
        size = next;
    }
    let other_key = PrivateKey::from_seed(Origin::new(ORIGIN).unwrap(), [8; 32]);
    let other_log = PrivateKey::from_seed(Origin::new("audit.example.com/other").unwrap(), [7; 32]);
    let larger = proof(8, &own[..12], true);
    for (what, body, status) in [
        ("rolled back", honest(5, 5), 409),
        ("rolled back, and says so", request(&key, 8, &own[..5], &[]), 400),
        ("forked, of the same size", request(&key, 8, &forked[..8], &[]), 409),
        ("forked, and larger", request(&key, 8, &forked[..12], &proof(8, &forked[..12], true)), 422),
        ("forked, with a proof of the right one", request(&key, 8, &forked[..12], &larger), 422),
        ("a smaller old size", honest(5, 12), 409),
        ("a larger old size", honest(9, 12), 409),
        ("another key of the name", request(&other_key, 8, &own[..12], &larger), 403),
        ("another log", request(&other_log, 8, &own[..12], &larger), 404),
        ("no proof", request(&key, 8, &own[..12], &[]), 422),
        (
            "a proof that is too long",
            request(&key, 8, &own[..12], &[&larger[..], &larger[..1]].concat()),
            422,
        ),
        ("a changed checkpoint", honest(8, 12).replace("\n12\n", "\n13\n"), 403),
        ("no signature", honest(8, 12).split("\u{2014}").next().unwrap().to_owned(), 400),
        ("no request", "old\n".to_owned(), 400),
        ("a proof of 64 hashes", request(&key, 8, &own[..12], &[larger[0]; 64]), 400),
    ] {
        let (answered, kind, body) = ask(&body);
        assert_eq!(answered, status, "{what}");
        if status == 409 && what != "forked, of the same size" {
            assert_eq!((kind, &*body), ("text/x.tlog.size", "8\n"), "{what}");
        }
    }
    for at in 0..larger.len() {
        let mut changed = larger.clone();
        changed[at][0] ^= 1;
        assert_eq!(ask(&request(&key, 8, &own[..12], &changed)).0, 422, "hash {at}");
    }
    assert_eq!(witness.latest(ORIGIN), (8, root_of(&own[..8])), "nothing of that was cosigned");
    assert_eq!(ask(&honest(8, 40)).0, 200);
}

#[test]
fn cosignatures_are_kept_with_the_checkpoint_and_demanded_by_who_verifies() {
    let fixture = filled(log());
    let (db, notary) = (&*fixture.db, Notary::of(&fixture));
    let [one, two] = [("witness.example/w1", 1), ("witness.example/w2", 2)]
        .map(|(name, seed)| witness(name, seed, &notary));
    let [both, any] = ["all", "any"].map(|group| trusting(&fixture, group, &notary, group, &[&one, &two]));
    let (urls, keys) = ([one.url(), two.url()], [one.verifier_key(), two.verifier_key()]);
    let asks =
        ["--witness", &urls[0], "--witness-key", &keys[0], "--witness", &urls[1], "--witness-key", &keys[1]];

    // Without a witness, those who ask for one believe nothing.
    let bare = good(db, &notary.signs(&[]));
    let proof = file(&fixture, "bare.tlog-proof");
    good(db, &["prove", "7", "--checkpoint", &bare, "-o", &proof]);
    for trust in [&both, &any] {
        let (code, out, _) = said(db, &["verify", "--checkpoint", &notary.kept, "--trust", trust]);
        assert!(code == 1 && out.starts_with("Unsigned: the checkpoint of 13 entries"), "{code} {out}");
        let (code, out, err) = said("", &["verify-proof", &proof, "--trust", trust]);
        assert!(code == 1 && out.is_empty() && err.contains("lacks signatures of witnesses"), "{code} {err}");
    }

    // It is kept before anybody sees it, and once more with the cosignatures.
    let note = good(db, &notary.signs(&asks));
    assert_eq!(note.parse::<Note>().unwrap().signatures().len(), 4);
    let notes = notary.notes();
    assert_eq!(notes.iter().map(|note| note.signatures().len()).collect::<Vec<_>>(), [2, 2, 4]);
    assert_eq!(notes[2].to_string(), note);
    for witness in [&one, &two] {
        assert_eq!(witness.answered(), [200]);
        assert_eq!(witness.latest(ORIGIN).0, 13);
    }
    for trust in [&both, &any] {
        let out = good(db, &["verify", "--checkpoint", &notary.kept, "--trust", trust]);
        assert!(out.contains("13 covered by a checkpoint (signed: yes)"), "{out}");
        let proof = file(&fixture, "7.tlog-proof");
        good(db, &["prove", "7", "--checkpoint", &notary.kept, "-o", &proof]);
        let (code, _, err) = said("", &["verify-proof", &proof, "--trust", trust]);
        assert!(
            code == 0 && err.contains("witness.example/w1+") && err.contains("witness.example/w2+"),
            "{err}"
        );
    }

    // Another process does not know what the witnesses have cosigned. They say it, and get a proof from there.
    commit(&fixture.log, entry("more"));
    let note = good(db, &notary.signs(&["--trust", &both]));
    assert_eq!(note.parse::<Note>().unwrap().signatures().len(), 4);
    for witness in [&one, &two] {
        assert_eq!(witness.answered(), [409, 200]);
        assert_eq!(witness.latest(ORIGIN).0, 14);
    }
    // The same again: each cosigns it with another time.
    good(db, &notary.signs(&["--trust", &both]));
    assert_eq!(one.answered(), [409, 200]);

    // The newest checkpoint has one of them. Who asks for both is led to the one before, and is told.
    two.behaves(Manner::Says(Vec::new()));
    commit(&fixture.log, entry("more"));
    let (code, out, err) = said(db, &notary.signs(&["--trust", &any]));
    assert!(code == 0 && out.parse::<Note>().unwrap().signatures().len() == 3, "{code} {err}");
    assert!(err.contains(&format!("the witness {} has not cosigned the checkpoint", two.url())), "{err}");
    let (code, _, err) = said(db, &notary.signs(&["--trust", &both]));
    assert!(
        code == 1 && err.contains("does not believe the checkpoint") && err.contains(&two.url()),
        "{code} {err}"
    );
    let out = good(db, &["verify", "--checkpoint", &notary.kept, "--trust", &any]);
    assert!(out.contains("15 covered by a checkpoint (signed: yes)"), "{out}");
    let (code, out, err) = said(db, &["verify", "--checkpoint", &notary.kept, "--trust", &both]);
    assert!(code == 0 && out.contains("14 covered by a checkpoint (signed: yes)"), "{code} {out}");
    assert!(
        err.contains("1 lack witnesses and are passed over") && err.contains("is of 14 entries"),
        "{err}"
    );
    let since = file(&fixture, "since");
    let (code, out, err) = said(db, &["consistency", "--from", &notary.kept, "--trust", &both, "-o", &since]);
    assert!(code == 0 && out.contains("begins with all of the 14"), "{code} {out} {err}");
}

#[test]
fn no_answer_of_a_witness_keeps_the_others_or_the_checkpoint_away() {
    let fixture = filled(log());
    let (db, notary) = (&*fixture.db, Notary::of(&fixture));
    let [good_one, bad_one] = [("witness.example/w1", 1), ("witness.example/w2", 2)]
        .map(|(name, seed)| witness(name, seed, &notary));
    let stranger = TestWitness::new("witness.example/w3", 3);
    let other = TestWitness::new("witness.example/w2", 4);
    let http = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let [bad_url, good_url, strange_url] = [&bad_one, &good_one, &stranger].map(TestWitness::url);
    let [bad_key, cosigned, strange_key] = [&bad_one, &good_one, &stranger].map(TestWitness::verifier_key);
    let (other_key, encrypted) = (other.verifier_key(), bad_url.replace("http:", "https:"));
    for (what, url, key, manner, code, why) in [
        ("nobody listens", &*nobody, &*bad_key, Manner::Honest, 4, "no answer"),
        ("it is silent", &*bad_url, &*bad_key, Manner::Silent, 4, "has not answered within 1 s"),
        ("no TLS", &*encrypted, &*bad_key, Manner::Honest, 4, "no answer"),
        ("it hangs up", &*bad_url, &*bad_key, Manner::Says(Vec::new()), 4, "no answer"),
        ("no HTTP", &*bad_url, &*bad_key, Manner::Says(b"SSH-2.0\r\n\r\n".to_vec()), 4, "no answer"),
        (
            "no signatures",
            &*bad_url,
            &*bad_key,
            Manner::Says(http("200 OK", "<html>\u{1b}[31m</html>\n")),
            4,
            "its answer cannot be read",
        ),
        (
            "a megabyte",
            &*bad_url,
            &*bad_key,
            Manner::Says(http("200 OK", &"\u{2014} a AAAAAAA=\n".repeat(1 << 16))),
            4,
            "more than 64 KiB",
        ),
        (
            "a megabyte of headers",
            &*bad_url,
            &*bad_key,
            Manner::Says(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes()),
            4,
            "no answer",
        ),
        (
            "elsewhere",
            &*bad_url,
            &*bad_key,
            Manner::Says(
                format!(
                    "HTTP/1.1 302 Found\r\nLocation: {}/add-checkpoint\r\nContent-Length: 0\r\n\r\n",
                    good_one.url()
                )
                .into_bytes(),
            ),
            4,
            "status 302, it is elsewhere",
        ),
        (
            "a larger size",
            &*bad_url,
            &*bad_key,
            Manner::Says(http("409 Conflict", "14\n")),
            1,
            "has cosigned a tree of 14 entries, and this one has 13: the ledger was rolled back",
        ),
        (
            "no size",
            &*bad_url,
            &*bad_key,
            Manner::Says(http("409 Conflict", "thirteen\n")),
            4,
            "status 409 and no size",
        ),
        (
            "another size each time",
            &*bad_url,
            &*bad_key,
            Manner::Says(http("409 Conflict", "5\n")),
            4,
            "5, the size from which the proof leads",
        ),
        ("an unknown log", &*strange_url, &*strange_key, Manner::Honest, 4, "status 404, it does not know"),
        (
            "the key of another one",
            &*good_url,
            &*other_key,
            Manner::Honest,
            4,
            "none of the signatures is by",
        ),
    ] {
        bad_one.behaves(manner);
        let bad = ["--witness", url, "--witness-key", key, "--witness-timeout", "1s"];
        let others = [&bad[..], &["--witness", &good_url, "--witness-key", &cosigned]].concat();
        let before = notary.notes().len();
        let (ended, out, err) = said(db, &notary.signs(&others));
        assert_eq!(ended, code, "{what}: {err}");
        assert!(err.contains(why) && err.contains(url) && !err.contains('\u{1b}'), "{what}: {err}");
        assert!(err.lines().count() == 1 && err.len() < 1000, "{what}: {err}");
        let note: Note = out.parse().unwrap();
        assert_eq!(note.signatures().len(), 3, "{what}: {out}");
        assert_eq!(note.signatures()[2].name(), "witness.example/w1", "{what}");
        let notes = notary.notes();
        assert_eq!((notes.len(), notes.last()), (before + 2, Some(&note)), "{what}");
    }
}

#[test]
fn a_witness_that_is_silent_holds_up_no_commit() {
    let fixture = filled(log());
    let notary = Notary::of(&fixture);
    let witness = witness("witness.example/w1", 1, &notary);
    witness.behaves(Manner::Silent);
    let (url, key) = (witness.url(), witness.verifier_key());
    let asks = notary.signs(&["--witness", &url, "--witness-key", &key, "--witness-timeout", "1h"]);
    let mut command =
        command(&fixture.db).args(asks).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the witness is asked", || witness.asked() == 1);
    assert_eq!(commit(&fixture.log, entry("meanwhile")), 13);
    assert_eq!(notary.notes().len(), 1, "the checkpoint is kept already");
    assert!(command.try_wait().unwrap().is_none(), "the command waits");
    witness.behaves(Manner::Honest);
    assert!(command.wait().unwrap().success());
    assert_eq!((witness.latest(ORIGIN).0, notary.notes().len()), (13, 2));
}

#[test]
#[cfg(unix)]
fn a_notary_that_goes_on_tells_a_failing_witness_once_and_has_the_next_checkpoint_cosigned() {
    let fixture = filled(log());
    let notary = Notary::of(&fixture);
    let witness = witness("witness.example/w1", 1, &notary);
    let (url, key) = (witness.url(), witness.verifier_key());
    witness.behaves(Manner::Says(b"nothing\r\n\r\n".to_vec()));
    let asks = notary.signs(&["--witness", &url, "--witness-key", &key, "--every", "1s"]);
    let said = fs::File::create(file(&fixture, "said")).unwrap();
    let mut running = command(&fixture.db).args(asks).stdout(Stdio::null()).stderr(said).spawn().unwrap();
    for more in 1..=3 {
        wait_until("the witness is asked", || witness.asked() == more);
        commit(&fixture.log, entry("more"));
    }
    wait_until("the witness is asked", || witness.asked() == 4);
    witness.behaves(Manner::Honest);
    commit(&fixture.log, entry("more"));
    wait_until("it is cosigned", || witness.latest(ORIGIN).0 == 17);
    // The process has asked it before: it is not told a size that it does not know.
    commit(&fixture.log, entry("more"));
    wait_until("it is cosigned", || witness.latest(ORIGIN).0 == 18);
    assert!(!witness.answered().contains(&409));
    wait_until("it is kept", || notary.notes().last().is_some_and(|note| note.signatures().len() == 3));
    assert!(Command::new("kill").arg(running.id().to_string()).status().unwrap().success());
    assert!(running.wait().unwrap().success());
    let said = fs::read_to_string(file(&fixture, "said")).unwrap();
    assert_eq!(said.matches("has not cosigned the checkpoint").count(), 1, "{said}");
}

#[test]
fn a_witness_tells_a_ledger_that_was_exchanged_or_rolled_back_also_from_a_notary_without_memory() {
    let fixture = filled(log());
    let notary = Notary::of(&fixture);
    let witness = witness("witness.example/w1", 1, &notary);
    let (url, key) = (witness.url(), witness.verifier_key());
    let asks = ["--witness", &*url, "--witness-key", &key];
    good(&fixture.db, &notary.signs(&asks));
    let cosigned = witness.latest(ORIGIN);
    let (same_size, smaller, larger) = (filled(log()), log(), filled(log()));
    commit(&smaller.log, entry("one"));
    commit(&larger.log, entry("more"));
    for (other, why) in [
        (&same_size, "has cosigned another tree of 13 entries"),
        (&smaller, "has cosigned a tree of 13 entries, and this one has 1: the ledger was rolled back"),
        (&larger, "has cosigned another tree of 13 entries"),
    ] {
        let forgetful =
            Notary { kept: file(other, "checkpoints"), key: notary.key.clone(), verifier: String::new() };
        let (code, out, err) = said(&other.db, &forgetful.signs(&asks));
        assert!(code == 1 && err.contains(why), "{code} {err}");
        assert_eq!(out.parse::<Note>().unwrap().signatures().len(), 2);
        assert_eq!(witness.latest(ORIGIN), cosigned);
    }
    assert_eq!(witness.answered(), [200, 409, 409, 409, 409, 422]);
}

#[test]
fn witnesses_and_a_published_tree_need_a_key_and_each_witness_one_of_its_own() {
    let fixture = filled(log());
    let (db, notary) = (&*fixture.db, Notary::of(&fixture));
    let witness = witness("witness.example/w1", 1, &notary);
    let (url, key) = (witness.url(), witness.verifier_key());
    let (trust, published) =
        (trusting(&fixture, "trust", &notary, "any", &[&witness]), file(&fixture, "published"));
    let asks = ["--witness", &*url, "--witness-key", &key];
    for (arguments, why) in [
        ([&["checkpoint"][..], &asks[..]].concat(), "give a key by --key"),
        (vec!["checkpoint", "--trust", &trust], "give a key by --key"),
        (vec!["checkpoint", "--publish", &published], "give a key by --key"),
        (notary.signs(&asks[..2]), "--witness-key"),
        (notary.signs(&asks[2..]), "--witness"),
        (notary.signs(&[&asks[..], &asks[..2]].concat()), "each --witness needs its --witness-key"),
        (notary.signs(&["--witness", &url, "--witness-key", &notary.verifier]), "it signs no time"),
        (notary.signs(&["--witness", &url, "--witness-key", "a+b"]), "malformed verifier key"),
        (notary.signs(&["--witness", "w.example", "--witness-key", &key]), "does not begin with https://"),
        (notary.signs(&["--with-leaf-data"]), "--publish"),
        (notary.signs(&["--publish", &notary.key]), "is no directory"),
    ] {
        let (code, out, err) = said(db, &arguments);
        assert!(code == 2 && out.is_empty() && err.contains(why), "{arguments:?}: {code} {err}");
    }
    assert_eq!((witness.asked(), notary.notes().len()), (0, 0));
}
