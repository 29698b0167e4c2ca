// The notary in public: witnesses that see the ledger grow, and a directory that is whole at each instant.

use std::{
    error::Error,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tracing_audit::{
    AuditLog, AuditReader,
    evidence::{CheckpointFile, Notary, Published, TileDirectory, Witness, WitnessAnswer},
    ledger::{Checkpoint, Origin, PrivateKey, Trust, VerifierKey},
};

use super::log;
use crate::support::{
    Fixture, Root, TestWitness, block_on, child, entry, root_of, settle, store, this_test, wait, wait_until,
};

type Failed = Box<dyn Error + Send + Sync>;

const ORIGIN: &str = "audit.example.com/payments";

fn key() -> PrivateKey {
    PrivateKey::from_seed(Origin::new(ORIGIN).unwrap(), [7; 32])
}

fn notary(db: &str, kept: &Path) -> Notary {
    let notary = Notary::of(AuditReader::new(store(db))).origin(key().origin().clone());
    notary.sign_with(key()).to(CheckpointFile::new(kept))
}

/// The witness of the tests, asked without HTTP.
fn asked(witness: &TestWitness) -> Witness {
    let mut answer = witness.handle();
    let post = move |body: &str| -> Result<WitnessAnswer, Failed> {
        let (status, body) = answer(body);
        Ok(WitnessAnswer::new(status, body))
    };
    let key: VerifierKey = witness.verifier_key().parse().unwrap();
    Witness::new("the witness", key, post).unwrap()
}

fn write(log: &AuditLog, count: usize) {
    (0..count).for_each(|n| log.writer().try_write(entry(n.to_string())).unwrap());
    settle(&log.writer());
}

fn publish(notary: &mut Notary) -> Published {
    block_on(notary.publish()).unwrap().expect("something is new")
}

fn wait_for_tables(fixture: &Fixture) {
    let reader = AuditReader::new(store(&fixture.db));
    wait_until("the tables are there", || block_on(reader.checkpoint()).is_ok());
}

#[test]
fn a_witness_cosigns_a_ledger_that_grows_also_after_a_restart_of_the_notary() {
    let fixture = log();
    let kept = fixture.directory.path().join("checkpoints");
    wait_for_tables(&fixture);
    let witness = TestWitness::new("witness.example/w1", 1);
    witness.knows(&key().verifier().to_string());
    let policy = format!("log {}\nwitness w {}\nquorum w", key().verifier(), witness.verifier_key());
    let trust: Trust = policy.parse().unwrap();
    let mut running = notary(&fixture.db, &kept).witness(asked(&witness));
    let mut size = 0;
    for count in [0, 1, 300, 2, 254, 500] {
        write(&fixture.log, count);
        size += count as u64;
        let published = publish(&mut running);
        assert_eq!((published.failed().len(), published.unwitnessed().len()), (0, 0));
        let opened = trust.open(&published.text().parse().unwrap()).unwrap();
        assert_eq!((opened.checkpoint(), opened.keys().len()), (published.checkpoint(), 2));
        let root: Root = *published.checkpoint().root();
        assert_eq!((published.checkpoint().size(), witness.latest(ORIGIN)), (size, (size, root)));
        assert!(block_on(running.publish()).unwrap().is_none(), "nothing is new");
    }
    assert_eq!(witness.answered(), [200; 6]);
    // It has forgotten what was cosigned, and is told.
    write(&fixture.log, 77);
    let mut again = notary(&fixture.db, &kept).witness(asked(&witness));
    assert!(trust.open(&publish(&mut again).text().parse().unwrap()).is_ok());
    assert_eq!(witness.answered(), [409, 200]);
    // The other one did not see that.
    write(&fixture.log, 1);
    assert!(trust.open(&publish(&mut running).text().parse().unwrap()).is_ok());
    assert_eq!(witness.answered(), [409, 200]);
    // Each checkpoint is kept before it is shown, and once more with the cosignature.
    let lines = fs::read_to_string(&kept).unwrap();
    let cosigned = lines.lines().map(|line| line.contains("witness.example/w1")).collect::<Vec<_>>();
    assert_eq!(cosigned, [false, true].repeat(8));
}

#[test]
fn a_witness_without_a_key_is_refused_and_one_that_panics_is_told() {
    let fixture = log();
    write(&fixture.log, 3);
    let kept = fixture.directory.path().join("checkpoints");
    let witness = TestWitness::new("witness.example/w1", 1);
    witness.knows(&key().verifier().to_string());
    let error = block_on(Notary::of(fixture.log.reader()).witness(asked(&witness)).publish()).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("give the notary a key"), "{error}");
    let panics = |_: &str| -> Result<WitnessAnswer, Failed> { panic!("of a test: a transport that panics") };
    let broken = Witness::new("broken", witness.verifier_key().parse().unwrap(), panics).unwrap();
    let mut both = notary(&fixture.db, &kept).witness(broken).witness(asked(&witness));
    let published = publish(&mut both);
    let [told] = published.unwitnessed() else { panic!("{published:?}") };
    assert!(told.is_output() && told.to_string().contains("broken"), "{told}");
    assert_eq!(witness.latest(ORIGIN).0, 3);
    let text = fs::read_to_string(&kept).unwrap();
    assert_eq!((text.lines().count(), text.matches("witness.example/w1").count()), (2, 1));
}

#[test]
fn what_cannot_be_kept_is_shown_to_no_witness_and_published_nowhere() {
    let fixture = log();
    write(&fixture.log, 3);
    let witness = TestWitness::new("witness.example/w1", 1);
    witness.knows(&key().verifier().to_string());
    let directory = fixture.directory.path().join("published");
    let fails = |_: &Checkpoint, _: &str| -> Result<(), Failed> { Err("the disk is full".into()) };
    let notary = Notary::of(fixture.log.reader()).origin(key().origin().clone()).sign_with(key()).to(fails);
    let mut notary = notary.witness(asked(&witness)).tiles_in(TileDirectory::new(&directory));
    let error = block_on(notary.publish()).unwrap_err();
    assert!(error.is_output() && error.to_string().contains("was not taken by a sink"), "{error}");
    assert!(witness.answered().is_empty() && !directory.exists());
}

/// What the child of the next test is given: the database, and the file of checkpoints.
const DB: &str = "TRACING_AUDIT_TEST_PUBLISHING_DB";
const KEPT: &str = "TRACING_AUDIT_TEST_PUBLISHING_KEPT";

#[test]
fn a_notary_that_ends_while_a_witness_is_asked_remembers_what_the_witness_has_seen() {
    if let (Ok(db), Ok(kept)) = (std::env::var(DB), std::env::var(KEPT)) {
        let ends = |_: &str| -> Result<WitnessAnswer, Failed> { std::process::abort() };
        let key: VerifierKey = TestWitness::new("witness.example/w1", 1).verifier_key().parse().unwrap();
        let witness = Witness::new("the witness", key, ends).unwrap();
        publish(&mut notary(&db, Path::new(&kept)).witness(witness));
        return;
    }
    let fixture = log();
    write(&fixture.log, 3);
    let kept = fixture.directory.path().join("checkpoints");
    let variables = [(DB, &*fixture.db), (KEPT, kept.to_str().unwrap())];
    assert!(!wait(child(this_test!(), &variables)).success());
    let lines = fs::read_to_string(&kept).unwrap();
    assert!(lines.lines().count() == 1 && lines.contains("payments\\n3\\n"), "{lines}");
}

/// Reads a file of a tree, of which this many bytes are wanted. A full tile stands in for one that is not full.
fn file(directory: &Path, name: &str, width: u64) -> Vec<u8> {
    let full = directory.join(name);
    let partial = directory.join(format!("{name}.p/{width}"));
    let found = if width < 256 { fs::read(partial).or_else(|_| fs::read(&full)) } else { fs::read(&full) };
    let mut bytes = found.unwrap_or_else(|error| panic!("{name}, {width} hashes: {error}"));
    assert!(bytes.len() as u64 == width * 32 || bytes.len() == 8192, "{name}: {} bytes", bytes.len());
    bytes.truncate(usize::try_from(width).unwrap() * 32);
    bytes
}

/// Reads all of a published tree as somebody does who knows the specification alone, and returns its size. Small trees
/// only.
fn read(directory: &Path) -> u64 {
    let text = fs::read_to_string(directory.join("checkpoint")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 4 && lines[0] == ORIGIN && lines[4].starts_with("\u{2014} "), "{text}");
    let size: u64 = lines[1].parse().unwrap();
    let level = |level: u32| -> Vec<Root> {
        let count = size >> (8 * level);
        let tile =
            |index: u64| file(directory, &format!("tile/{level}/{index:03}"), (count - index * 256).min(256));
        let bytes: Vec<u8> = (0..count.div_ceil(256)).flat_map(tile).collect();
        bytes.as_chunks::<32>().0.to_vec()
    };
    let (leaves, nodes) = (level(0), level(1));
    assert_eq!(STANDARD.encode(root_of(&leaves)), lines[2], "{size}");
    assert_eq!(leaves.as_chunks::<256>().0.iter().map(|below| root_of(below)).collect::<Vec<_>>(), nodes);
    size
}

/// Ends the reader, also if an assertion fails meanwhile.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_published_directory_is_whole_at_each_instant_while_the_ledger_grows() {
    let fixture = log();
    let (kept, directory) =
        (fixture.directory.path().join("checkpoints"), fixture.directory.path().join("published"));
    wait_for_tables(&fixture);
    let tiles = || TileDirectory::new(&directory).with_leaf_data();
    let mut running = notary(&fixture.db, &kept).tiles_in(tiles());
    publish(&mut running);
    let is_over = AtomicBool::new(false);
    let (sizes, last) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut sizes = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                sizes.push(read(&directory));
            }
            sizes
        });
        let over = Over(&is_over);
        let mut size = 0;
        for round in 0..30 {
            let count = [1, 90, 7, 300, 1][round % 5];
            write(&fixture.log, count);
            size += count as u64;
            if round % 10 == 9 {
                // Another process goes on where this one has ended.
                running = notary(&fixture.db, &kept).tiles_in(tiles());
            }
            assert!(publish(&mut running).failed().is_empty());
            assert_eq!(read(&directory), size);
        }
        drop(over);
        (reader.join().unwrap(), size)
    });
    assert!(sizes.is_sorted() && sizes.last().is_some_and(|size| *size <= last), "{sizes:?}");
    // The same again, to be told of nothing new.
    let mut often = notary(&fixture.db, &kept).tiles_in(tiles()).republish_every(Duration::ZERO);
    for _ in 0..2 {
        assert!(publish(&mut often).failed().is_empty());
        assert_eq!(read(&directory), last);
    }
}
