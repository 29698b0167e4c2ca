// A ledger that is verified range by range: several at once, interrupted and resumed. Whatever the way, the findings are those of
// one run from the first entry to the last.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use tracing_audit::{
    AuditReader, Integrity,
    evidence::{FindingKind, Verification, Verified, VerifyState},
    ledger::Checkpoint,
};

use super::log_with;
use crate::support::{self, Fixture, store, texts, wait_until};

/// Three ranges, of which the last one is not full.
const ENTRIES: i64 = 9000;
const RANGE: u64 = 4096;

/// Some batches reach over the ends of ranges.
const BATCH: i64 = 1500;

type Signs = Vec<(FindingKind, i64, i64)>;

/// A closed ledger, which is not changed by writers any more.
struct Large {
    fixture: Fixture,
    postgres: bool,
    /// A checkpoint in each range.
    kept: Vec<Checkpoint>,
}

impl Large {
    /// A ledger whose entries were committed up to each of these numbers, each time without a tree that then caught up.
    fn new(until: &[i64], batch: i64) -> Self {
        let fixture = log_with(|builder| builder.integrity(Integrity::Off));
        drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
        let postgres = fixture.db.starts_with("postgres:");
        let mut large = Self { fixture, postgres, kept: Vec::new() };
        let mut from = 0;
        for until in until {
            large.fill(from..*until, batch);
            large.catch_up();
            from = *until;
        }
        large
    }

    /// Words in capitals in the database's own.
    fn run(&self, sql: &str) {
        let mut sql = sql.to_owned();
        let words = if self.postgres {
            [
                ("HEAD", "tracing_audit_heads"), ("LEDGER,", "ledger,"), ("NAME,", "'main',"), ("NEW_ID", "gen_random_uuid()"),
                ("NO_ID", "'00000000-0000-0000-0000-000000000000'"), ("LATER", "+ interval '1 microsecond'"), ("AT(", "to_timestamp("),
                ("BYTES(", "decode("), (", HEX)", ", 'hex')"), ("JOINED(", "("), ("least(", "least("),
            ]
        } else {
            [
                ("HEAD", "tracing_audit_head"), ("LEDGER,", ""), ("NAME,", ""), ("NEW_ID", "randomblob(16)"),
                ("NO_ID", "zeroblob(16)"), ("LATER", "+ 1"), ("AT(", "("),
                ("BYTES(", "unhex("), (", HEX)", ")"), ("JOINED(", "CAST("), ("least(", "min("),
            ]
        };
        for (word, own) in words {
            sql = sql.replace(word, own);
        }
        for table in ["ENTRIES", "BATCHES", "LEAVES", "NODES"] {
            sql = sql.replace(table, &format!("tracing_audit_{}", table.to_lowercase()));
        }
        // What is changed here need not survive a loss of power.
        let unsafely = if self.postgres { "SET synchronous_commit = off" } else { "PRAGMA synchronous = OFF" };
        self.fixture.run(&format!("{unsafely}; {sql}"));
    }

    /// Adds rows and batches as a version that knows no tree leaves them.
    fn fill(&self, range: Range<i64>, batch: i64) {
        let Range { start, end } = range;
        let series = |step: i64| format!(
            "WITH RECURSIVE series(n) AS (SELECT CAST({start} AS bigint) UNION ALL SELECT n + {step} FROM series WHERE n + {step} < {end})"
        );
        self.run(&format!(
            "{} INSERT INTO ENTRIES (LEDGER, seq, id, ts, workspace_id, action, resource, resource_id, decision, risk_score, metadata)
                 SELECT NAME, n, NEW_ID, AT(n), NO_ID, 'document.read', 'document', CAST(n AS text), 'Allow', 0.5, '{{\"ip\":\"10.1.2.3\",\"n\":1}}'
                 FROM series;
             {} INSERT INTO BATCHES (LEDGER, first_seq, entries, writer, position, committed_at, least_ts, greatest_ts)
                 SELECT NAME, n, least({batch}, {end} - n), NO_ID, least(n + {batch}, {end}), AT(n), AT(n), AT(least(n + {batch}, {end}) - 1)
                 FROM series;
             UPDATE HEAD SET next_seq = {end}, given = {end}",
            series(1), series(batch)
        ));
    }

    fn catch_up(&mut self) {
        let behind = if self.postgres {
            "SELECT (next_seq - tree_size)::text FROM tracing_audit_heads"
        } else {
            "SELECT CAST(next_seq - tree_size AS text) FROM tracing_audit_head"
        };
        let log = support::builder(self.fixture.store()).in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
        let log = log.blocking().open().unwrap();
        wait_until("the tree has caught up", || texts(&self.fixture.db, behind) == ["0"]);
        self.kept.push(log.blocking().checkpoint().unwrap());
        drop(log.blocking().shutdown(support::PATIENCE).unwrap());
    }

    fn by_checkpoints(&self) -> Verification {
        self.kept.iter().cloned().fold(Verification::of_itself(), Verification::and)
    }

    /// The signs of a change, and the states that an interruption after each range would leave.
    fn verify(&self, verification: Verification) -> (Verified, Signs, Vec<VerifyState>) {
        let states = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&states);
        // As the command keeps it, in words.
        let on_state = move |state: &VerifyState| kept.lock().unwrap().push(state.to_string());
        let reader = AuditReader::new(store(&self.fixture.db));
        let verified = reader.blocking().verify(verification.ranges_of(RANGE).on_state(on_state)).unwrap();
        let signs = verified.findings().iter().filter(|found| !found.kind.is_information());
        let signs = signs.map(|found| (found.kind, found.from, found.until)).collect();
        let states = states.lock().unwrap().iter().map(|state| state.parse().unwrap()).collect();
        (verified, signs, states)
    }

    /// Checks what is found at once, by one range or several at a time, and after an interruption at each range's end.
    #[track_caller]
    fn assert_found(&self, expected: &[(FindingKind, i64, i64)]) {
        let (verified, found, states) = self.verify(self.by_checkpoints().jobs(1));
        assert_eq!(found, expected, "{:#?}", verified.findings());
        assert!(verified.size() == 9000 && verified.entries() > 8990, "{verified:?}");
        assert_eq!(self.verify(self.by_checkpoints().jobs(4)).1, expected);
        let sizes: Vec<u64> = states.iter().map(VerifyState::size).collect();
        assert_eq!(sizes, [4096, 8192, 9000]);
        for state in &states {
            let size = state.size();
            let (resumed, found, _) = self.verify(self.by_checkpoints().state(state.clone()));
            assert_eq!(found, expected, "after an interruption at {size}: {:#?}", resumed.findings());
        }
        // Interrupted again and again, and what is known at the end is worth as much as what was known along the way.
        let mut state = states.first().unwrap().clone();
        for size in [8192, 9000] {
            let (_, _, states) = self.verify(self.by_checkpoints().state(state));
            state = states.into_iter().find(|state| state.size() == size).unwrap();
        }
        assert_eq!(self.verify(self.by_checkpoints().state(state)).1, expected);
    }

    /// Replaces the leaf hash of an entry of the batch that begins at `first`.
    fn forge_leaf(&self, first: i64, seq: i64) {
        let before = 32 * (seq - first);
        let (hash, after) = ("07".repeat(32), before + 33);
        let (end, cast) = if self.postgres { ("FROM", "") } else { (",", " AS BLOB") };
        let (upto, length) = if self.postgres { (" FROM 1 FOR", "") } else { (", 1,", "") };
        self.run(&format!(
            "UPDATE LEAVES SET leaves = JOINED(substring(leaves{upto} {before}{length}) || BYTES('{hash}', HEX)
                 || substring(leaves {end} {after}){cast}) WHERE first_seq = {first}"
        ));
    }
}

#[test]
fn a_ledger_of_several_ranges_is_verified_by_interrupted_runs_as_by_one() {
    use FindingKind::{Added, BatchAltered, Forked, HeadAltered, Missing, Modified, Moved, NodeAltered, TileAltered};
    let large = Large::new(&[3000, 6000, ENTRIES], BATCH);
    let (verified, found, _) = large.verify(large.by_checkpoints());
    assert_eq!(found, []);
    assert_eq!((verified.covered(), verified.checkpoint()), (9000, large.kept.last()));
    // A run that begins anew leaves no state that says less than that of earlier runs.
    let whole = large.by_checkpoints().state(verified.state().unwrap().clone()).whole();
    let sizes: Vec<u64> = large.verify(whole).2.iter().map(VerifyState::size).collect();
    assert_eq!(sizes, [9000]);
    for table in ["ENTRIES", "BATCHES", "LEAVES", "NODES", "HEAD"] {
        large.run(&format!("CREATE TABLE saved_{} AS SELECT * FROM {table}", table.to_lowercase()));
    }

    // In the first range, amid the next and in the last one, and over the ends of ranges.
    large.run(
        "UPDATE ENTRIES SET decision = 'allow' WHERE seq IN (7, 5000, 8990); DELETE FROM ENTRIES WHERE seq IN (8191, 8192);
         UPDATE BATCHES SET greatest_ts = greatest_ts LATER WHERE first_seq = 3000;
         UPDATE ENTRIES SET seq = -7 WHERE seq = 10; UPDATE ENTRIES SET seq = 10 WHERE seq = 8000;
         UPDATE ENTRIES SET seq = 8000 WHERE seq = -7; DELETE FROM NODES WHERE idx = 20;
         INSERT INTO ENTRIES (LEDGER, seq, id, ts, workspace_id, action, resource, decision, metadata)
             SELECT NAME, -1, NEW_ID, ts, workspace_id, action, resource, decision, metadata FROM ENTRIES WHERE seq = 7",
    );
    large.assert_found(&[
        (Added, -1, 0), (Modified, 7, 8), (Moved, 10, 11), (BatchAltered, 3000, 4500), (Modified, 5000, 5001),
        (NodeAltered, 5120, 5376), (Moved, 8000, 8001), (Missing, 8191, 8193), (Modified, 8990, 8991),
    ]);
    let restore = ["ENTRIES", "BATCHES", "LEAVES", "NODES", "HEAD"].map(|table| {
        format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM saved_{};", table.to_lowercase())
    });
    large.run(&restore.concat());

    // An attacker makes the leaf hash fit, of which no state along the way knows yet that it is wrong.
    large.run("UPDATE ENTRIES SET decision = 'allow' WHERE seq = 5000");
    large.forge_leaf(4500, 5000);
    let altered = [(TileAltered, 4864, 5120)];
    large.assert_found(&altered);
    let (verified, _, _) = large.verify(large.by_checkpoints());
    // What a checkpoint has shown is not forgotten without it.
    assert_eq!(large.verify(Verification::of_itself().state(verified.state().unwrap().clone())).1, altered);
    // And the node over it.
    large.run(&format!("UPDATE NODES SET hash = BYTES('{}', HEX) WHERE idx = 19", "09".repeat(32)));
    // The head was left as it was, so that the leaf hashes do not lead to it.
    let forked = [(HeadAltered, 0, 0), (Forked, 3000, 6000), (NodeAltered, 4864, 5120), (Modified, 5000, 5001)];
    let (verified, found, _) = large.verify(large.by_checkpoints());
    assert_eq!(found, forked, "{:#?}", verified.findings());
    let (resumed, found, _) = large.verify(Verification::of_itself().state(verified.state().unwrap().clone()));
    assert_eq!(found, forked, "{:#?}", resumed.findings());

    if !large.postgres {
        large.run(&restore.concat());
        // A table whose numbers need not be integers: one is the last row of those that are read at a time.
        large.run("DROP TABLE saved_entries; ALTER TABLE ENTRIES RENAME TO saved_entries; CREATE TABLE ENTRIES AS SELECT * FROM saved_entries;
                   INSERT INTO ENTRIES SELECT * FROM saved_entries WHERE seq = 20; UPDATE ENTRIES SET seq = 8190.5 WHERE rowid = 9001");
        let reader = AuditReader::new(store(&large.fixture.db));
        let verified = reader.blocking().verify(large.by_checkpoints()).unwrap();
        let found = verified.findings().iter().filter(|found| found.kind != FindingKind::SchemaAltered);
        let found = found.map(|found| (found.kind, found.from, found.until));
        assert_eq!(found.collect::<Signs>(), [(Added, 8190, 8191)], "{:#?}", verified.findings());
    }
}

/// The most memory that a verification of a million entries and more may take.
#[cfg(all(feature = "cli", target_os = "linux"))]
const MOST_MEMORY: u64 = 64 << 20;

#[cfg(all(feature = "cli", target_os = "linux"))]
mod killed {
    use std::{
        path::Path,
        process::{Child, Stdio},
        time::{Duration, Instant},
    };

    use serde_json::Value;

    use super::{Large, MOST_MEMORY};
    use crate::{command::command, support};

    /// The most memory that a process has had so far, in bytes, while it is there.
    fn memory(child: &Child) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(most.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    }

    /// Runs the command to its end, and returns its signs of a change and the most memory that it had.
    fn verified(db: &str, arguments: &[&str]) -> (Vec<Value>, u64) {
        let mut verify = command(db);
        verify.args(["verify", "--format", "json"]).args(arguments).stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = verify.spawn().unwrap();
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            most = most.max(memory(&child).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = began.elapsed();
        let output = child.wait_with_output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{}, {arguments:?}: {} entries in {took:.2?}, {} MiB at most", db, said["read"], most >> 20);
        let signs = said["findings"].as_array().unwrap().iter();
        let is_sign = |found: &&Value| !matches!(found["finding"].as_str().unwrap(), "NotCovered" | "WriterGap" | "Losses");
        (signs.filter(is_sign).cloned().collect(), most)
    }

    /// Ends the process once it has left a state that is not `before`.
    fn kill_after_a_state(mut child: Child, state: &Path, before: &str) {
        let is_new = || std::fs::read_to_string(state).is_ok_and(|now| now != before);
        support::wait_until("a state was left", || is_new() || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    #[ignore = "a ledger of 1.5 million entries: .ci/sweep ledger"]
    fn a_large_ledger_is_verified_by_killed_runs_as_by_one_in_little_memory() {
        let _alone = support::heavy();
        let entries = std::env::var("LARGE_LEDGER_ENTRIES").map_or(1_500_000, |count| count.parse().unwrap());
        let large = Large::new(&[entries / 3, entries], 10_000);
        let db = &*large.fixture.db;
        let directory = tempfile::tempdir().unwrap();
        let kept = large.kept.iter().map(|kept| kept.to_string().lines().skip(1).collect::<Vec<_>>().join(" "));
        let kept: Vec<String> = kept.collect();
        let checkpoints: Vec<&str> = kept.iter().flat_map(|kept| ["--checkpoint", kept]).collect();
        let (signs, most) = verified(db, &checkpoints);
        assert_eq!(signs, [] as [Value; 0]);
        assert!(most > 0 && most <= MOST_MEMORY, "{most} bytes");

        let middle = entries / 2 / 65_536 * 65_536;
        // A batch that reaches over the end of a range.
        let crossing = (middle + 131_072) / 10_000 * 10_000;
        large.run(&format!(
            "UPDATE ENTRIES SET decision = 'allow' WHERE seq IN (7, {middle} + 9, {entries} - 5);
             DELETE FROM ENTRIES WHERE seq BETWEEN {middle} + 65530 AND {middle} + 65540;
             UPDATE BATCHES SET least_ts = least_ts LATER WHERE first_seq = {crossing};
             UPDATE NODES SET hash = BYTES('{}', HEX) WHERE level = 16 AND idx = 1",
            "09".repeat(32)
        ));
        let (expected, most) = verified(db, &checkpoints);
        assert_eq!(expected.len(), 6, "{expected:#?}");
        assert!(most > 0 && most <= MOST_MEMORY, "{most} bytes");
        for round in 0..3 {
            let state = directory.path().join(format!("state{round}"));
            let arguments = [&checkpoints[..], &["--state", state.to_str().unwrap(), "--jobs", "1"]].concat();
            let mut kills = 0;
            let mut reached = 0;
            while reached < u64::try_from(entries).unwrap() && kills < 8 {
                // At once, which leaves nothing, or after the next state.
                let before = std::fs::read_to_string(&state).unwrap_or_default();
                let spawn = || command(db).arg("verify").args(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                let mut early = spawn().unwrap();
                std::thread::sleep(Duration::from_millis(fastrand::u64(0..400)));
                early.kill().unwrap();
                early.wait().unwrap();
                kill_after_a_state(spawn().unwrap(), &state, &before);
                let left: Value = serde_json::from_str(&std::fs::read_to_string(&state).unwrap()).unwrap();
                reached = left["size"].as_u64().unwrap();
                kills += 2;
            }
            let (found, _) = verified(db, &arguments);
            println!("round {round}: killed {kills} times, at last after {reached} entries");
            assert_eq!(found, expected);
        }
    }
}
