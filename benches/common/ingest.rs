//! From the event to the committed row with the tree and without, in parts that take turns; and a commit of one entry.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{
    AuditEntry, AuditLog, AuditReader, Integrity, Store, WhenFull,
    evidence::{Bundling, Verification},
    ledger::{AsGiven, BundleVerifier},
};
use tracing_subscriber::{prelude::*, registry};
use uuid::Uuid;

use crate::common;

const PART: u64 = 20_000;
const PARTS: u64 = 10;
const SINGLE: u64 = 300;

fn emit(i: u64, members: u64) {
    let at = |n: u64, of: u64| Uuid::from_u128(u128::from(n.wrapping_mul(2_654_435_761) % of) << 64 | 7);
    let (workspace, session, agent) = (at(i, 50), at(i / 20, 5000), at(i, 500));
    let (decision, risk) = (if i % 50 == 0 { "Deny" } else { "Allow" }, (i % 100) as f64 / 100.0);
    if members == 2 {
        info!(target: "audit", workspace_id = %workspace, session_id = %session, agent_id = %agent,
            action = "document.read", resource = "document", resource_id = i, decision, risk_score = risk,
            reason = "default policy matched", ip = "10.1.2.3", latency_ms = i % 500);
    } else {
        info!(target: "audit", workspace_id = %workspace, session_id = %session, agent_id = %agent,
            action = "document.read", resource = "document", resource_id = i, decision, risk_score = risk,
            reason = "default policy matched", ip = "10.1.2.3", latency_ms = i % 500, method = "GET",
            path = "/documents/123", status = 200, agent = "browser");
    }
}

/// The CPU time that this process has had, also in threads that have ended.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the system's one way to ask for it")]
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written, and only during the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Unknown on this system.
#[cfg(not(unix))]
fn cpu() -> Duration {
    Duration::ZERO
}

struct Side {
    name: String,
    log: AuditLog,
    subscriber: Dispatch,
    _directory: TempDir,
}

impl Side {
    fn new(name: String, integrity: Integrity, store: impl FnOnce(&TempDir) -> Store) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = AuditLog::builder()
            .store(store(&directory))
            .integrity(integrity)
            .in_memory_queue()
            .when_full(WhenFull::Block { timeout: Duration::from_secs(60) })
            .commit_timeout(Duration::from_secs(60))
            .blocking()
            .open()
            .unwrap();
        let subscriber = Dispatch::new(registry().with(log.layer()));
        Self { name, log, subscriber, _directory: directory }
    }

    fn part(&self, from: u64, members: u64) {
        let (began, before) = (Instant::now(), cpu());
        dispatcher::with_default(&self.subscriber, || (from..from + PART).for_each(|i| emit(i, members)));
        self.log.blocking().flush().unwrap();
        assert_eq!(self.log.stats().committed, from + PART);
        common::note(&self.name, PART, began.elapsed());
        common::note(&format!("{}, CPU", self.name), PART, cpu() - before);
    }

    /// Rows per second, when everything is read and hashed again.
    fn verify(&self) {
        for _ in 0..5 {
            let began = Instant::now();
            let verified = self.log.reader().blocking().verify(Verification::of_itself()).unwrap();
            assert!(verified.is_intact(), "{verified:?}");
            let (took, rows) = (began.elapsed(), verified.entries());
            println!("{}: verified {rows} rows, {:.0} rows/s", self.name, rows as f64 / took.as_secs_f64());
        }
    }

    fn single(&self) {
        let writer = self.log.writer();
        let began = Instant::now();
        writer.blocking().commit(AuditEntry::new(Uuid::nil(), "document.read", "document")).unwrap();
        common::note(&format!("{}, one entry", self.name), 1, began.elapsed());
    }
}

/// How long a proof takes, anywhere in the ledger, and how fast bundles are made and verified.
fn prove(name: &str, reader: &AuditReader) {
    let reader = reader.blocking();
    let size = reader.checkpoint().unwrap().size();
    let one = |n: u64| {
        let began = Instant::now();
        drop(reader.prove(n.wrapping_mul(2_654_435_761) % size, None).unwrap());
        began.elapsed().as_secs_f64()
    };
    let mut took: Vec<f64> = (0..300).map(one).collect();
    took.sort_by(f64::total_cmp);
    println!("{name}: a proof {} median, {} p99", common::show(took[150]), common::show(took[297]));
    let many = size.min(100_000);
    let bundled = |kind: &str, make: &dyn Fn(&mut Vec<u8>)| {
        let (mut file, began) = (Vec::new(), Instant::now());
        make(&mut file);
        let (made, began) = (began.elapsed(), Instant::now());
        let mut lines = file.split_inclusive(|byte| *byte == b'\n');
        let mut verifier = BundleVerifier::begin(lines.next().unwrap(), &AsGiven).unwrap();
        lines.for_each(|line| drop(verifier.take(line).unwrap()));
        assert_eq!(verifier.finish().unwrap().entries(), many);
        let each = |time: Duration| common::show(time.as_secs_f64() / many as f64);
        println!(
            "{name}: a bundle of {many} entries, {kind}: {} an entry to make, {} to verify, {} bytes",
            each(made),
            each(began.elapsed()),
            file.len() as u64 / many
        );
    };
    bundled("a range", &|file| drop(reader.bundle_range(..many, Bundling::new(), file).unwrap()));
    let step = (size / many) as usize;
    let some = || (0..size).step_by(step).take(many as usize);
    bundled("from everywhere", &|file| drop(reader.bundle(some(), Bundling::new(), file).unwrap()));
    bundled("side by side", &|file| drop(reader.bundle(0..many, Bundling::new(), file).unwrap()));
}

/// Measures both, with this many members of the metadata.
fn compare(database: &str, members: u64, goal: &str, store: impl Fn(&TempDir) -> Store) {
    let sides = [("without", Integrity::Off), ("with", Integrity::Inline)];
    let sides = sides.map(|(which, integrity)| {
        Side::new(format!("{database}, {members} members, {which} the tree"), integrity, &store)
    });
    for part in 0..PARTS {
        // Who goes first takes turns too.
        for side in [part % 2, 1 - part % 2] {
            sides[side as usize].part(part * PART, members);
        }
    }
    sides[1].verify();
    let [without, with] = &sides.each_ref().map(|side| side.name.clone());
    common::ratio(without, with, goal);
    common::ratio(&format!("{without}, CPU"), &format!("{with}, CPU"), goal);
    for turn in 0..SINGLE {
        for side in [turn % 2, 1 - turn % 2] {
            sides[side as usize].single();
        }
    }
    common::ratio(&format!("{without}, one entry"), &format!("{with}, one entry"), ">= 0.95");
}

/// Says which database a process of its own verifies, whose memory is measured.
const VERIFIED: &str = "TRACING_AUDIT_BENCH_VERIFIED";

fn store_at(db: &str) -> Store {
    #[cfg(feature = "postgres")]
    if db.starts_with("postgres:") {
        return Store::postgres(db).unwrap().into();
    }
    Store::sqlite(db).unwrap()
}

/// Verifies the database that the variable names, if there is one.
pub(crate) fn verifies_alone() -> bool {
    let Ok(db) = std::env::var(VERIFIED) else { return false };
    let reader = AuditReader::new(store_at(&db));
    assert!(reader.blocking().verify(Verification::of_itself()).unwrap().is_intact());
    true
}

/// How fast a ledger of this many entries is verified, and in how much memory; and what proofs of its entries cost.
pub(crate) fn large(entries: u64) {
    let measure = |database: &str, db: Option<String>| {
        let mut file = None;
        let side = Side::new(format!("{database}, {entries} entries"), Integrity::Inline, |directory| {
            let db = db.unwrap_or_else(|| directory.path().join("audit.db").to_str().unwrap().to_owned());
            store_at(file.insert(db))
        });
        (0..entries / PART).for_each(|part| side.part(part * PART, 2));
        drop(side.log.blocking().shutdown(Duration::from_secs(60)).unwrap());
        let (before, began) = (cpu(), Instant::now());
        side.verify();
        let (took, rows) = (began.elapsed(), 5.0 * entries as f64);
        let each = |time: Duration| common::show(time.as_secs_f64() / rows);
        println!("{}: {} a row, {} of CPU", side.name, each(took), each(cpu() - before));
        prove(&side.name, &side.log.reader());
        let most = common::most_memory(VERIFIED, file.unwrap().as_ref());
        println!("{}: {:.1} MiB to verify it", side.name, most as f64 / f64::from(1 << 20));
    };
    measure("SQLite", None);
    #[cfg(feature = "postgres")]
    measure("PostgreSQL", Some(crate::support::postgres::server().create_database()));
}

pub(crate) fn run() {
    for (members, goal) in [(2, ">= 0.85"), (6, ">= 0.8")] {
        compare("SQLite", members, goal, |directory| {
            Store::sqlite(directory.path().join("audit.db")).unwrap()
        });
        #[cfg(feature = "postgres")]
        compare("PostgreSQL", members, goal, |_| {
            Store::postgres(&crate::support::postgres::server().create_database()).unwrap().into()
        });
    }
}
