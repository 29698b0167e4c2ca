// The notary: it signs what continues what it has signed, and nothing else.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing_audit::{
    AuditEntry, AuditLog, AuditReader,
    evidence::{CheckpointFile, Notary, Published},
    ledger::{Checkpoint, Note, Origin, PrivateKey, Signer, Trust},
};

use super::log;
use crate::support::{Fixture, PATIENCE, block_on, child, entry, settle, store, this_test, wait, wait_until};

type Refusal = Box<dyn Error + Send + Sync>;

/// A key that is elsewhere, and gives these lines, or none.
struct Locked(&'static str);

impl Signer for Locked {
    fn sign(&mut self, _: &str) -> Result<String, Refusal> {
        if self.0.is_empty() { Err("the key is locked".into()) } else { Ok(self.0.to_owned()) }
    }

    fn verifier_keys(&self) -> Vec<String> {
        Vec::new()
    }
}

fn key() -> PrivateKey {
    PrivateKey::from_seed(Origin::new("audit.example.com/payments").unwrap(), [7; 32])
}

fn notary(db: &str, path: &Path) -> Notary {
    let key = key();
    let notary = Notary::of(AuditReader::new(store(db))).origin(key.origin().clone());
    notary.sign_with(key).to(CheckpointFile::new(path))
}

fn write(log: &AuditLog, count: u32) {
    (0..count).for_each(|n| log.writer().try_write(entry(n.to_string())).unwrap());
    settle(&log.writer());
}

fn publish(notary: &mut Notary) -> Option<Published> {
    block_on(notary.publish()).unwrap()
}

/// The tables of a ledger, of which copies are kept.
fn tables(fixture: &Fixture) -> [String; 5] {
    let head = if fixture.db.starts_with("postgres:") { "heads" } else { "head" };
    ["entries", "batches", "leaves", "nodes", head].map(|table| format!("tracing_audit_{table}"))
}

fn copy(fixture: &Fixture, name: &str) {
    let sql = tables(fixture).map(|table| format!("CREATE TABLE {name}_{table} AS SELECT * FROM {table};"));
    fixture.run(&sql.concat());
}

fn restore(fixture: &Fixture, name: &str) {
    let sql = tables(fixture)
        .map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {name}_{table};"));
    change(fixture, &format!("BEGIN; {} COMMIT", sql.concat()));
}

/// Changes what is in the database itself, and leaves no log beside a file that leads from what was there before.
fn change(fixture: &Fixture, sql: &str) {
    fixture.run(sql);
    if !fixture.db.starts_with("postgres:") {
        fixture.run("PRAGMA wal_checkpoint(TRUNCATE)");
    }
}

/// Waits until the log has created its tables.
fn wait_for_tables(fixture: &Fixture) {
    let reader = AuditReader::new(store(&fixture.db));
    wait_until("the tables are there", || block_on(reader.checkpoint()).is_ok());
}

#[test]
fn a_notary_signs_what_goes_on_and_nothing_that_was_rolled_back_or_exchanged_also_after_a_restart() {
    let fixture = log();
    let (db, path) = (&*fixture.db, fixture.directory.path().join("checkpoints"));
    let trust = Trust::in_key(key().verifier());
    wait_for_tables(&fixture);
    let mut running = notary(db, &path);
    let mut size = 0;
    for count in [0, 1, 300, 2] {
        write(&fixture.log, count);
        size += u64::from(count);
        let published = publish(&mut running).unwrap();
        let note: Note = published.text().parse().unwrap();
        assert_eq!(trust.open(&note).unwrap().checkpoint(), published.checkpoint());
        assert_eq!((published.checkpoint().size(), published.failed().len()), (size, 0));
        assert_eq!(note.signatures().len(), 2, "one of them with the time");
        assert!(publish(&mut running).is_none(), "nothing is new");
        if count == 300 {
            copy(&fixture, "earlier");
        }
    }
    let lines = || fs::read_to_string(&path).unwrap().lines().count();
    assert_eq!(lines(), 4);
    // After a restart it is said once that there is nothing new; and by who wants it so, each time.
    let same = publish(&mut notary(db, &path)).unwrap();
    assert_eq!((same.checkpoint().size(), lines()), (303, 5));
    let mut often = notary(db, &path).republish_every(Duration::ZERO);
    assert!(publish(&mut often).is_some() && publish(&mut often).is_some());
    drop(fixture.log.blocking().shutdown(PATIENCE).unwrap());
    copy(&fixture, "later");
    let published = lines();

    let is_postgres = db.starts_with("postgres:");
    let head = if is_postgres { "tracing_audit_heads" } else { "tracing_audit_head" };
    let zeros = |length: u32| {
        if is_postgres {
            format!("decode(repeat('00', {length}), 'hex')")
        } else {
            format!("zeroblob({length})")
        }
    };
    // As many hashes as a tree of this size has: all of another tree.
    let (same_size, one_more) = (zeros(32 * 303_u32.count_ones()), zeros(32 * 304_u32.count_ones()));
    for (change, why) in [
        (None, "was rolled back. Its checkpoint of 303 entries was published, and 301 are left"),
        (Some(format!("UPDATE {head} SET frontier = {same_size}")), "303 entries does not continue the one"),
        (
            Some(format!("UPDATE {head} SET tree_size = 304, next_seq = 304, frontier = {one_more}")),
            "304 entries does not continue the one",
        ),
        (
            Some(format!(
                "UPDATE {head} SET tree_size = 304, next_seq = 304, frontier = {one_more}; DELETE FROM tracing_audit_leaves"
            )),
            "304 entries does not continue the one",
        ),
    ] {
        match &change {
            None => restore(&fixture, "earlier"),
            Some(change) => {
                restore(&fixture, "later");
                self::change(&fixture, change);
            }
        }
        for notary in [&mut running, &mut notary(db, &path)] {
            for _ in 0..2 {
                let error = block_on(notary.publish()).unwrap_err();
                assert!(error.is_altered() && error.to_string().contains(why), "{error}");
            }
        }
    }
    assert_eq!(lines(), published, "nothing of that was signed");
    // Once the ledger is what it was, it is signed again.
    restore(&fixture, "later");
    assert!(publish(&mut notary(db, &path)).is_some());
    assert!(publish(&mut running).is_none());
}

#[test]
fn a_sink_or_a_key_that_fails_is_told_and_the_other_sinks_have_the_checkpoint() {
    let fixture = log();
    write(&fixture.log, 3);
    let reader = || AuditReader::new(store(&fixture.db));
    let fails = |_: &Checkpoint, _: &str| -> Result<(), Refusal> { Err("the disk is full".into()) };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keeps = {
        let seen = Arc::clone(&seen);
        move |checkpoint: &Checkpoint, text: &str| -> Result<(), Refusal> {
            seen.lock().unwrap().push((checkpoint.size(), text.to_owned()));
            Ok(())
        }
    };
    let mut both = Notary::of(reader()).to(fails).to(keeps.clone());
    let published = publish(&mut both).unwrap();
    assert_eq!(published.failed().len(), 1);
    assert!(published.failed()[0].is_output() && published.text().lines().count() == 3);
    assert_eq!(*seen.lock().unwrap(), [(3, published.text().to_owned())]);

    let error = block_on(Notary::of(reader()).to(fails).publish()).unwrap_err();
    assert!(error.is_output() && error.to_string().contains("of 3 entries was not taken"), "{error}");
    let path = fixture.directory.path().join("garbage");
    fs::write(&path, "not a checkpoint\n").unwrap();
    let error = block_on(Notary::of(reader()).to(CheckpointFile::new(&path)).to(keeps.clone()).publish())
        .unwrap_err();
    assert!(error.is_output() && error.to_string().contains("nothing is signed"), "{error}");

    for gives in ["", "a signature\n", "\u{2014} a AAAAAAA=\n\n\u{2014} a AAAAAAA=\n"] {
        let mut locked = Notary::of(reader()).sign_with(Locked(gives)).to(keeps.clone());
        let error = block_on(locked.publish()).unwrap_err();
        assert!(error.is_output() && error.to_string().contains("could not be signed"), "{error}");
    }
    let another = Origin::new("tracing-audit.invalid/00000000-0000-0000-0000-000000000007").unwrap();
    let error = block_on(Notary::of(reader()).origin(another).to(keeps).publish()).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("of another ledger"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn a_notary_on_a_thread_publishes_what_is_new_until_it_is_stopped_also_if_a_sink_panics() {
    let fixture = log();
    let path = fixture.directory.path().join("checkpoints");
    wait_for_tables(&fixture);
    let troubles = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&troubles);
    let panics = |checkpoint: &Checkpoint, _: &str| -> Result<(), Refusal> {
        assert!(checkpoint.size() != 2, "of a test: a sink that panics");
        Ok(())
    };
    let running = notary(&fixture.db, &path)
        .to(panics)
        .start(Duration::from_millis(20), move |error| told.lock().unwrap().push(error.to_string()))
        .unwrap();
    let published = |size: u32| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.contains(&format!("audit.example.com/payments\\n{size}\\n"))
    };
    for size in [0, 2, 4] {
        wait_until("the checkpoint is published", || published(size));
        write(&fixture.log, 2);
    }
    running.stop();
    assert!(published(6), "what is new at the end is published too");
    assert_eq!(*troubles.lock().unwrap(), ["a key or a sink of the notary has panicked"]);
}

#[test]
fn a_running_notary_signs_nothing_while_its_file_lacks_what_it_has_written_there() {
    let fixture = log();
    let path = fixture.directory.path().join("checkpoints");
    let mut running = notary(&fixture.db, &path);
    write(&fixture.log, 1);
    publish(&mut running).unwrap();
    let whole = fs::read(&path).unwrap();
    write(&fixture.log, 1);
    let bare = publish(&mut Notary::of(AuditReader::new(store(&fixture.db)))).unwrap();
    let bare = bare.text().replace(bare.checkpoint().origin().as_str(), key().origin().as_str());
    let forged = serde_json::json!({ "at": "", "note": bare }).to_string() + "\n";
    for (lines, why) in [
        (Vec::new(), "has lost its end: the checkpoint of 1 entries was written there, and none is left"),
        ([&*whole, forged.as_bytes()].concat(), "line 2: the checkpoint of 2 entries is not believed"),
    ] {
        fs::write(&path, &lines).unwrap();
        let error = block_on(running.publish()).unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(
            error.is_altered() && error.to_string() == "nothing is signed" && cause.contains(why),
            "{cause}"
        );
        assert_eq!(fs::read(&path).unwrap(), lines);
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(publish(&mut running).unwrap().checkpoint().size(), 2);
}

/// What the child of the last test is given: the database, the file of checkpoints, and the step at which it ends.
const DB: &str = "TRACING_AUDIT_TEST_NOTARY_DB";
const KEPT: &str = "TRACING_AUDIT_TEST_NOTARY_KEPT";
const STEP: &str = "TRACING_AUDIT_TEST_NOTARY_STEP";

/// A key in whose process nothing else happens at one step.
struct Dying(PrivateKey);

impl Signer for Dying {
    fn sign(&mut self, text: &str) -> Result<String, Refusal> {
        end_at("asked");
        self.0.sign(text)
    }

    fn verifier_keys(&self) -> Vec<String> {
        self.0.verifier_keys()
    }
}

/// Ends this process at once, if it is the child that ends at this step.
fn end_at(step: &str) {
    if std::env::var(STEP).is_ok_and(|at| at == step) {
        std::process::abort();
    }
}

/// In the child: publishes one checkpoint, and does not come to an end.
fn published_until_it_ends() {
    let (db, path) = (std::env::var(DB).unwrap(), std::env::var(KEPT).unwrap());
    let at = |step: &'static str| {
        move |_: &Checkpoint, _: &str| -> Result<(), Refusal> {
            end_at(step);
            Ok(())
        }
    };
    let notary =
        Notary::of(AuditReader::new(store(&db))).origin(key().origin().clone()).sign_with(Dying(key()));
    publish(&mut notary.to(at("signed")).to(CheckpointFile::new(&path)).to(at("published")));
}

#[test]
fn a_notary_that_ends_between_two_steps_never_signs_two_trees_of_one_size() {
    if std::env::var_os(STEP).is_some() {
        return published_until_it_ends();
    }
    let fixture = log();
    let path = fixture.directory.path().join("checkpoints");
    for (size, step) in (1..).zip(["asked", "signed", "published"]) {
        write(&fixture.log, 1);
        let variables = [(DB, &*fixture.db), (KEPT, path.to_str().unwrap()), (STEP, step)];
        assert!(!wait(child(this_test!(), &variables)).success(), "{step}");
        let published = publish(&mut notary(&fixture.db, &path)).unwrap();
        assert_eq!(published.checkpoint().size(), size, "{step}");
    }
    let trust = Trust::in_key(key().verifier());
    let mut roots = BTreeMap::new();
    for line in fs::read_to_string(&path).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let note: Note = line["note"].as_str().unwrap().parse().unwrap();
        let opened = trust.open(&note).unwrap();
        let (size, root) = (opened.checkpoint().size(), *opened.checkpoint().root());
        assert_eq!(*roots.entry(size).or_insert(root), root, "two trees of {size} entries are signed");
    }
    assert_eq!(roots.into_keys().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_key_that_follows_another_is_declared_by_an_entry_of_the_log_itself() {
    let fixture = log();
    let (old, new) = (key().verifier(), key().cosigner());
    write(&fixture.log, 1);
    let seq = fixture.log.writer().blocking().declare_key(&old, &new).unwrap();
    let entries = fixture.entries();
    let last = entries.last().unwrap();
    assert!(last.is_own() && last.problems.is_empty(), "{last:?}");
    let AuditEntry { action, resource, decision, metadata, .. } = &last.entry;
    assert_eq!((last.seq, &**action, &**resource, &**decision), (seq, "audit.key", "audit", ""));
    assert_eq!(metadata["verifier_key_before"], old.to_string());
    assert_eq!(metadata["verifier_key"], new.to_string());
}
