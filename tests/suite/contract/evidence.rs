// Evidence: every change of what the database holds is found by a checkpoint from outside, is named, and nothing else is.

use std::{cell::RefCell, collections::BTreeMap, fmt::Write};

use tracing_audit::{
    AuditEntry, AuditReader, Decision, SequencedEntry,
    evidence::{Anchor, FindingKind, Verification, Verified},
    ledger::{Checkpoint, Columns, Committed, Frontier, Hash, Leaf, Seeds},
};
use uuid::Uuid;

use super::log;
use crate::support::{self, Fixture, block_on, commit, entry, settle, store, texts};

const TABLES: [&str; 5] = ["entries", "batches", "leaves", "nodes", "head"];

/// A closed ledger, which can be changed and made as it was again.
struct Subject {
    fixture: Fixture,
    postgres: bool,
    kept: Checkpoint,
    earlier: Checkpoint,
    /// What was run since all was as it was.
    changes: RefCell<String>,
    /// All that was ever run.
    ever: RefCell<String>,
}

fn full(number: u32) -> AuditEntry {
    AuditEntry {
        session_id: Some(Uuid::from_u128(2)),
        agent_id: Some(Uuid::from_u128(3)),
        resource_id: Some(number.to_string()),
        decision: Decision::Allow.into(),
        reason: Some("policy".to_owned()),
        risk_score: 0.5,
        metadata: serde_json::json!({"ip": "10.0.0.1", "number": number}),
        ..entry("document.read")
    }
}

/// Commits entries, some of them together.
fn write(log: &tracing_audit::AuditLog, from: u32, sizes: &[u32]) {
    let mut number = from;
    for size in sizes {
        for _ in 0..*size {
            log.writer().try_write(full(number)).unwrap();
            number += 1;
        }
        settle(&log.writer());
    }
}

impl Subject {
    fn new() -> Self {
        let fixture = log();
        write(&fixture.log, 0, &[1, 9, 90]);
        let earlier = fixture.log.reader().blocking().checkpoint().unwrap();
        write(&fixture.log, 100, &[200, 1, 250, 49]);
        drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
        let kept = AuditReader::new(store(&fixture.db)).blocking().checkpoint().unwrap();
        assert_eq!((earlier.size(), kept.size()), (100, 600));
        let postgres = fixture.db.starts_with("postgres:");
        let subject = Self { fixture, postgres, kept, earlier, changes: RefCell::default(), ever: RefCell::default() };
        let save = TABLES.map(|table| {
            let table = subject.table(table);
            format!("CREATE TABLE saved_{table} AS SELECT * FROM {table};")
        });
        subject.run(&save.concat());
        subject
    }

    fn table(&self, name: &str) -> String {
        let name = if self.postgres && name == "head" { "heads" } else { name };
        format!("tracing_audit_{name}")
    }

    /// Bytes as the database spells them, and ids.
    fn bytes(&self, bytes: &[u8]) -> String {
        let mut hex = String::new();
        for byte in bytes {
            write!(hex, "{byte:02x}").unwrap();
        }
        if self.postgres { format!(r"'\x{hex}'::bytea") } else { format!("x'{hex}'") }
    }

    /// The expression of bytes after other bytes.
    fn joined(&self, one: &str, two: &str) -> String {
        if self.postgres { format!("{one} || {two}") } else { format!("CAST({one} || {two} AS BLOB)") }
    }

    fn id(&self, id: u128) -> String {
        if self.postgres { format!("'{}'::uuid", Uuid::from_u128(id)) } else { self.bytes(&id.to_be_bytes()) }
    }

    /// `HEAD`, `BYTES(column)` and the other words of these tests in the database's own.
    fn run(&self, sql: &str) {
        self.changes.borrow_mut().push_str(sql);
        self.ever.borrow_mut().extend([sql, ";"]);
        // What is changed here need not survive a loss of power.
        let sql = if self.postgres { sql.to_owned() } else { format!("PRAGMA synchronous = OFF; {sql}") };
        let mut sql = sql.replace("HEAD", &self.table("head"));
        for table in ["ENTRIES", "BATCHES", "LEAVES", "NODES"] {
            sql = sql.replace(table, &self.table(&table.to_lowercase()));
        }
        let later = if self.postgres { "+ interval '1 microsecond'" } else { "+ 1" };
        self.fixture.run(&sql.replace("LATER", later));
    }

    /// The statements that make all as it was.
    fn restored(&self) -> String {
        let changes = self.changes.take();
        let tables = TABLES.iter().filter(|table| changes.contains(&table.to_uppercase()));
        let statements: Vec<_> = tables.map(|table| {
            let table = self.table(table);
            format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM saved_{table};")
        }).collect();
        statements.concat()
    }

    fn restore(&self) {
        self.run(&format!("BEGIN; {} COMMIT", self.restored()));
    }

    fn reader(&self) -> AuditReader {
        AuditReader::new(store(&self.fixture.db))
    }

    fn verify(&self, anchors: &[&Checkpoint]) -> Verified {
        let verification = anchors
            .iter()
            .fold(Verification::of_itself().jobs(1), |verification, anchor| verification.and((*anchor).clone()));
        self.reader().blocking().verify(verification).unwrap()
    }

    /// The signs of a change, each with its entries.
    fn signs(&self, anchors: &[&Checkpoint]) -> Vec<(FindingKind, i64, i64)> {
        let verified = self.verify(anchors);
        let signs: Vec<_> = verified
            .findings()
            .iter()
            .filter(|found| !found.kind.is_information())
            .map(|found| (found.kind, found.from, found.until))
            .collect();
        assert_eq!(verified.is_intact(), signs.is_empty());
        signs
    }

    /// Makes a change to the ledger as it was, and checks what is found by it.
    #[track_caller]
    fn changed(&self, sql: &str, expected: &[(FindingKind, i64, i64)]) {
        self.run(&format!("BEGIN; {} {sql}; COMMIT", self.restored()));
        let found = self.signs(&[&self.kept]);
        let head = |found: &[(FindingKind, i64, i64)]| {
            found.iter().map(|(kind, from, until)| match kind {
                FindingKind::HeadAltered => (*kind, 0, 0),
                _ => (*kind, *from, *until),
            }).collect::<Vec<_>>()
        };
        assert_eq!(head(&found), expected, "{sql}: {:?}", self.verify(&[&self.kept]).findings());
    }

    /// The columns of our tables that nothing has changed yet, each behind the name of its table.
    fn never_changed(&self) -> Vec<String> {
        let sql = if self.postgres {
            "SELECT table_name::text || ' ' || column_name::text FROM information_schema.columns WHERE table_schema = current_schema()"
        } else {
            "SELECT t.name || ' ' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
        };
        let mut columns = texts(&self.fixture.db, sql);
        let ever = self.ever.borrow();
        columns.retain(|of_table| {
            let (name, column) = of_table.split_once(' ').unwrap();
            let Some(table) = TABLES.iter().find(|table| self.table(table) == name) else { return false };
            let update = format!("UPDATE {} SET ", table.to_uppercase());
            let sets = format!(" {column} = ");
            !ever.split(';').any(|statement| statement.contains(&update) && statement.contains(&sets))
        });
        columns.sort();
        columns
    }

    fn number(&self, sql: &'static str) -> i64 {
        let cast = texts(&self.fixture.db, sql);
        cast[0].parse().unwrap()
    }

    /// The first entry and the number of entries of each batch.
    fn all_batches(&self) -> Vec<(i64, i64)> {
        let found = texts(
            &self.fixture.db,
            "SELECT CAST(first_seq AS text) || ' ' || CAST(entries AS text) FROM tracing_audit_batches ORDER BY first_seq",
        );
        let batch = |text: &String| {
            let (first, entries) = text.split_once(' ').unwrap();
            (first.parse().unwrap(), entries.parse().unwrap())
        };
        found.iter().map(batch).collect()
    }

    /// Two batches that have several entries, and are in the first 512 entries.
    fn batches(&self) -> [(i64, i64); 2] {
        let mut found = self.all_batches();
        found.retain(|(first, entries)| *entries > 2 && first + entries < 500);
        [found[0], found[1]]
    }
}

/// What the database holds of the tree, so that an attacker can make it fit.
struct Forger<'a> {
    subject: &'a Subject,
    leaves: Vec<Hash>,
    batches: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl<'a> Forger<'a> {
    fn new(subject: &'a Subject) -> Self {
        let hex = if subject.postgres { "encode(seeds, 'hex') || ' ' || encode(leaves, 'hex')" } else { "hex(seeds) || ' ' || hex(leaves)" };
        let rows: Vec<String> = block_on(async {
            let sql = format!("SELECT CAST(first_seq AS text) || ' ' || {hex} FROM tracing_audit_leaves ORDER BY first_seq");
            all_texts(&subject.fixture.db, sql).await
        });
        let mut forger = Self { subject, leaves: Vec::new(), batches: BTreeMap::new() };
        for row in rows {
            let mut parts = row.split(' ');
            let first = parts.next().unwrap().parse().unwrap();
            let seeds = bytes(parts.next().unwrap());
            let hashes = bytes(parts.next().unwrap());
            forger.batches.insert(first, (hashes.len() as u64 / 32, seeds));
            forger.leaves.extend(hashes.as_chunks::<32>().0);
        }
        forger
    }

    /// The leaf of an entry as it stands in the database now.
    fn leaf(&self, seq: u64) -> Hash {
        let found = block_on(support::all(&self.subject.reader()));
        let SequencedEntry { entry, committed_at, .. } = &found[usize::try_from(seq).unwrap()];
        let (first, (count, seeds)) = self.batches.range(..=seq).next_back().unwrap();
        let batch = block_on(all_texts(
            &self.subject.fixture.db,
            format!(
                "SELECT {} || ' ' || CAST(position AS text) FROM tracing_audit_batches WHERE first_seq = {first}",
                if self.subject.postgres { "CAST(writer AS text)" } else { "hex(writer)" }
            ),
        ));
        let (writer, position) = batch[0].split_once(' ').unwrap();
        let metadata = block_on(all_texts(
            &self.subject.fixture.db,
            format!("SELECT CAST(metadata AS text) FROM tracing_audit_entries WHERE seq = {seq}"),
        ));
        let columns = Columns {
            id: entry.id,
            ts: entry.ts.timestamp_micros(),
            workspace_id: entry.workspace_id,
            session_id: entry.session_id,
            agent_id: entry.agent_id,
            action: &entry.action,
            resource: &entry.resource,
            resource_id: entry.resource_id.as_deref(),
            decision: &entry.decision,
            reason: entry.reason.as_deref(),
            risk_score: Some(entry.risk_score),
            metadata: &metadata[0],
            problems: None,
        };
        let committed = Committed::in_batch(
            writer.parse().unwrap(),
            position.parse().unwrap(),
            *count,
            committed_at.timestamp_micros(),
            seq - first,
        );
        let seed = Seeds::from_bytes(seeds).unwrap().get(u32::try_from(seq - first).unwrap()).unwrap();
        Leaf::of(&columns, &committed.unwrap(), &seed).hash()
    }

    /// Stores another leaf hash for this entry.
    fn store_leaf(&mut self, seq: u64, hash: Hash) {
        self.leaves[usize::try_from(seq).unwrap()] = hash;
        let (first, (count, _)) = self.batches.range(..=seq).next_back().unwrap();
        let of_batch = &self.leaves[usize::try_from(*first).unwrap()..usize::try_from(first + count).unwrap()];
        let bytes = self.subject.bytes(of_batch.as_flattened());
        self.subject.run(&format!("UPDATE LEAVES SET leaves = {bytes} WHERE first_seq = {first}"));
    }

    fn frontier(&self, range: std::ops::Range<usize>) -> Frontier {
        let mut frontier = Frontier::new();
        for leaf in &self.leaves[range] {
            frontier.push(*leaf);
        }
        frontier
    }

    fn store_node(&self, tile: usize) {
        let root = self.subject.bytes(&self.frontier(tile * 256..(tile + 1) * 256).root());
        self.subject.run(&format!("UPDATE NODES SET hash = {root} WHERE level = 8 AND idx = {tile}"));
    }

    fn store_head(&self, size: usize) {
        let bytes = self.subject.bytes(&self.frontier(0..size).to_bytes());
        self.subject.run(&format!("UPDATE HEAD SET tree_size = {size}, frontier = {bytes}"));
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

async fn all_texts(db: &str, sql: String) -> Vec<String> {
    let sql = sqlx::AssertSqlSafe(sql);
    #[cfg(feature = "postgres")]
    if db.starts_with("postgres:") {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(db).await.unwrap();
        return sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
    }
    let mut connection = support::connect(db).await;
    let texts = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    texts
}

#[test]
fn every_change_of_every_column_is_found_and_named_and_nothing_else_is() {
    use FindingKind::{Added, BatchAltered, HeadAltered, Missing, Modified, Moved, NodeAltered, TileAltered};
    let subject = Subject::new();
    assert_eq!(subject.signs(&[&subject.kept]), []);
    assert_eq!(subject.signs(&[&subject.kept, &subject.earlier]), []);
    assert_eq!(subject.signs(&[]), []);
    let verified = subject.verify(&[&subject.kept]);
    assert_eq!((verified.covered(), verified.size(), verified.entries()), (600, 600, 600));
    assert_eq!(verified.checkpoint(), Some(&subject.kept));

    let all_batches = subject.all_batches();
    let [(first, count), (second, second_count)] = subject.batches();
    let (seq, after) = (first + 1, first + count);
    let at = format!("WHERE seq = {seq}");
    let here = [(Modified, seq, seq + 1)];

    // Entries: each column changed, and removed where it may be.
    let (id, other) = (subject.id(77), subject.id(78));
    for (column, value) in [("id", &*id), ("workspace_id", &other), ("session_id", &other), ("agent_id", &other),
        ("action", "action || 'x'"), ("resource", "resource || ' '"), ("resource_id", "''"), ("decision", "'allow'"),
        ("reason", "reason || '.'"), ("risk_score", "0.25"), ("metadata", r#"'{"ip":"10.0.0.1", "number":1}'"#),
        ("problems", r#"'["x"]'"#), ("ts", "ts LATER")]
    {
        subject.changed(&format!("UPDATE ENTRIES SET {column} = {value} {at}"), &here);
    }
    for column in ["session_id", "agent_id", "resource_id", "reason", "risk_score"] {
        subject.changed(&format!("UPDATE ENTRIES SET {column} = NULL {at}"), &here);
    }
    let long_ago = if subject.postgres { "- interval '400 days'" } else { "- 34560000000000" };
    subject.changed(&format!("UPDATE ENTRIES SET ts = ts {long_ago} {at}"), &here);
    subject.changed(&format!("DELETE FROM ENTRIES {at}"), &[(Missing, seq, seq + 1)]);
    subject.changed(&format!("DELETE FROM ENTRIES WHERE seq > {seq} AND seq < {seq} + 4"), &[(Missing, seq + 1, seq + 4)]);
    subject.changed("DELETE FROM ENTRIES WHERE seq >= 595", &[(Missing, 595, 600)]);
    let swap = |one: i64, two: i64| {
        format!("UPDATE ENTRIES SET seq = -7 WHERE seq = {one}; UPDATE ENTRIES SET seq = {one} WHERE seq = {two};
                 UPDATE ENTRIES SET seq = {two} WHERE seq = -7")
    };
    subject.changed(&swap(seq, 598), &[(Moved, seq, seq + 1), (Moved, 598, 599)]);
    subject.changed(&swap(0, after), &[(Moved, 0, 1), (Moved, after, after + 1)]);
    subject.changed(&format!("UPDATE ENTRIES SET seq = 900 {at}"), &[(Moved, 900, 901)]);
    let columns = "id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason, risk_score, metadata, problems";
    let ledger = if subject.postgres { ("ledger, ", "ledger, ") } else { ("", "") };
    for (to, found) in [(-1, (Added, -1, 0)), (600, (Added, 600, 601)), (700, (Added, 700, 701))] {
        let forged = columns.replacen("id", &subject.id(79), 1);
        subject.changed(
            &format!("INSERT INTO ENTRIES ({}seq, {columns}) SELECT {}{to}, {forged} FROM ENTRIES {at}", ledger.0, ledger.1),
            &[found],
        );
    }
    // One is removed, and all after it are renumbered; then the head and the batch are made to fit.
    let renumber = "DELETE FROM ENTRIES WHERE seq = 590; UPDATE ENTRIES SET seq = -seq WHERE seq > 590;
                    UPDATE ENTRIES SET seq = -seq - 1 WHERE seq < -590";
    let moved: Vec<_> = (590..599).map(|seq| (Moved, seq, seq + 1)).collect();
    let mut expected = vec![(Missing, 590, 591)];
    expected.extend(&moved);
    expected.sort_by_key(|found| (found.1, found.0));
    subject.changed(renumber, &expected);
    let (last, last_count) = *all_batches.last().unwrap();
    expected.push((BatchAltered, last, last + last_count));
    expected.sort_by_key(|found| (found.1, found.0));
    expected.push((HeadAltered, 0, 0));
    subject.changed(
        &format!("{renumber}; UPDATE BATCHES SET entries = entries - 1 WHERE first_seq = {last}; UPDATE HEAD SET next_seq = 599"),
        &expected,
    );

    // Batches.
    let of = format!("WHERE first_seq = {first}");
    let batch = [(BatchAltered, first, first + count)];
    for set in [
        format!("writer = {id}"), "position = position + 1".to_owned(), "entries = entries - 1".to_owned(), "entries = entries + 1".to_owned(),
        "entries = 0".to_owned(), "position = -1".to_owned(), "committed_at = committed_at LATER".to_owned(),
        "least_ts = least_ts LATER".to_owned(), "greatest_ts = greatest_ts LATER".to_owned(), "first_seq = first_seq + 1".to_owned(),
    ] {
        subject.changed(&format!("UPDATE BATCHES SET {set} {of}"), &batch);
    }
    subject.changed(&format!("DELETE FROM BATCHES {of}"), &batch);
    let every: Vec<_> = all_batches.iter().map(|(first, count)| (BatchAltered, *first, first + count)).collect();
    subject.changed("DELETE FROM BATCHES", &every);
    let extra = "entries, writer, position, committed_at, least_ts, greatest_ts";
    subject.changed(
        &format!("INSERT INTO BATCHES ({}first_seq, {extra}) SELECT {}{first} + 1, {extra} FROM BATCHES {of}", ledger.0, ledger.1),
        &[(BatchAltered, first + 1, first + 2)],
    );
    for nowhere in [-100, 600, 700] {
        subject.changed(
            &format!("INSERT INTO BATCHES ({}first_seq, {extra}) SELECT {}{nowhere}, {extra} FROM BATCHES {of}", ledger.0, ledger.1),
            &[(BatchAltered, nowhere, nowhere + 1)],
        );
    }
    let both = [(BatchAltered, first, first + count), (BatchAltered, second, second + second_count)];
    subject.changed(
        &format!("UPDATE BATCHES SET writer = CASE first_seq WHEN {first} THEN {id} ELSE {other} END WHERE first_seq IN ({first}, {second})"),
        &both,
    );

    // Two of them exchange their places, or their seeds. Of the shorter one, no entry fits either.
    subject.changed(
        &format!(
            "UPDATE BATCHES SET first_seq = -7 WHERE first_seq = {first}; UPDATE BATCHES SET first_seq = {first} WHERE first_seq = {second};
             UPDATE BATCHES SET first_seq = {second} WHERE first_seq = -7"
        ),
        &[both[0], both[0], both[1]],
    );
    subject.restore();
    let forger = Forger::new(&subject);
    let seeds = |first: i64| subject.bytes(&forger.batches[&first.cast_unsigned()].1);
    let (one, two) = (seeds(first), seeds(second));
    subject.changed(
        &format!("UPDATE LEAVES SET seeds = {two} WHERE first_seq = {first}; UPDATE LEAVES SET seeds = {one} WHERE first_seq = {second}"),
        &both,
    );

    // Leaf hashes and seeds.
    let tile = |seq: i64| (seq / 256 * 256, (seq / 256 * 256 + 256).min(600));
    let (tile_from, tile_until) = tile(seq);
    let zero = subject.bytes(&[0; 16]);
    subject.changed(&format!("UPDATE LEAVES SET seeds = {zero} {of}"), &batch);
    subject.changed(&format!("UPDATE LEAVES SET seeds = {} {of}", subject.bytes(&[])), &batch);
    subject.changed(&format!("UPDATE LEAVES SET seeds = {} {of}", subject.bytes(&[1; 37])), &batch);
    subject.changed(&format!("DELETE FROM LEAVES {of}"), &batch);
    subject.changed(&format!("UPDATE LEAVES SET first_seq = first_seq + 1 {of}"), &batch);
    let (hash, end) = (subject.bytes(&[7; 32]), if subject.postgres { "FROM 33" } else { ", 33" });
    subject.changed(
        &format!("UPDATE LEAVES SET leaves = {} {of}", subject.joined(&hash, &format!("substring(leaves {end})"))),
        &[(TileAltered, tile_from, tile_until)],
    );
    subject.changed(&format!("UPDATE LEAVES SET leaves = substring(leaves {end}) {of}"), &[(TileAltered, first, after)]);
    subject.changed(&format!("UPDATE LEAVES SET leaves = {} {of}", subject.joined("leaves", &zero)), &[(TileAltered, first, after)]);

    // Nodes.
    for set in [format!("hash = {hash}"), format!("hash = {zero}")] {
        subject.changed(&format!("UPDATE NODES SET {set} WHERE idx = 1"), &[(NodeAltered, 256, 512)]);
    }
    subject.changed("DELETE FROM NODES WHERE idx = 1", &[(NodeAltered, 256, 512)]);
    subject.changed("UPDATE NODES SET idx = 9 WHERE idx = 1", &[(NodeAltered, 0, 0), (NodeAltered, 256, 512)]);
    subject.changed("UPDATE NODES SET level = 7 WHERE idx = 1", &[(NodeAltered, 0, 0), (NodeAltered, 256, 512)]);
    subject.changed("DELETE FROM NODES", &[(NodeAltered, 0, 256), (NodeAltered, 256, 512)]);

    // The head.
    let head = [(HeadAltered, 0, 0)];
    for set in [
        "next_seq = next_seq - 5".to_owned(), "next_seq = -3".to_owned(), "tree_size = tree_size - 1".to_owned(), "tree_size = tree_size + 1".to_owned(),
        "tree_size = tree_size + 12".to_owned(), "tree_size = -1".to_owned(), "tree_size = 0".to_owned(),
        format!("frontier = {zero}"), format!("log_id = {id}"), format!("frontier = {}", subject.joined(&hash, &format!("substring(frontier {end})"))),
    ] {
        subject.changed(&format!("UPDATE HEAD SET {set}"), &head);
    }
    subject.changed("DELETE FROM HEAD", &head);
    subject.changed("UPDATE HEAD SET next_seq = next_seq + 5", &[(Missing, 600, 605)]);
    subject.changed("UPDATE HEAD SET next_seq = next_seq + 100", &[(Missing, 600, 700)]);
    subject.changed("UPDATE HEAD SET next_seq = 9223372036854775807", &[(Missing, 600, i64::MAX)]);

    // Each column was changed but two: the number that writers have given out, and the name of the ledger.
    let mut never = subject.never_changed();
    never.retain(|column| !column.ends_with(" ledger"));
    assert_eq!(never, [format!("{} given", subject.table("head"))]);

    // All of a table.
    subject.changed("DELETE FROM ENTRIES", &[(Missing, 0, 600)]);
    subject.changed("DELETE FROM ENTRIES; DELETE FROM BATCHES; DELETE FROM LEAVES; DELETE FROM NODES; UPDATE HEAD SET next_seq = 0, tree_size = 0",
        &[(HeadAltered, 0, 0), (FindingKind::Truncated, 0, 600)]);
    subject.restore();
    assert_eq!(subject.signs(&[&subject.kept]), []);
}

#[test]
fn an_attacker_who_makes_all_that_proves_an_entry_fit_is_found_by_the_root() {
    use FindingKind::{Forked, HeadAltered, Modified, NodeAltered, TileAltered};
    let subject = Subject::new();
    let (kept, earlier) = (&subject.kept, &subject.earlier);
    let state = subject.verify(&[kept]).state().unwrap().clone();
    // In a full tile, and in the one that the ledger ends with.
    for (seq, tile) in [(300_u64, (256, 512)), (590, (576, 592))] {
        let mut forger = Forger::new(&subject);
        assert_eq!(forger.leaf(seq), forger.leaves[usize::try_from(seq).unwrap()]);
        subject.run(&format!("UPDATE ENTRIES SET decision = 'Deny' WHERE seq = {seq}"));
        assert_eq!(subject.signs(&[kept]), [(Modified, seq.cast_signed(), seq.cast_signed() + 1)]);
        forger.store_leaf(seq, forger.leaf(seq));
        assert_eq!(subject.signs(&[kept]), [(TileAltered, tile.0, tile.1)]);
        assert_eq!(subject.signs(&[kept, earlier]), [(TileAltered, tile.0, tile.1)]);
        if seq == 300 {
            forger.store_node(1);
            assert_eq!(subject.signs(&[kept]), [(Forked, 0, 512)]);
        }
        forger.store_head(600);
        assert_eq!(subject.signs(&[kept]), [(Forked, 0, 600)]);
        assert_eq!(subject.signs(&[kept, earlier]), [(Forked, 100, 600)]);
        assert_eq!(subject.signs(&[earlier]), []);
        assert_eq!(subject.signs(&[]), []);
        // A checkpoint that is older than a state says nothing against it, and the state stays.
        let mut known = state.clone();
        for against in [Verification::of_itself(), Verification::against(earlier.clone()), Verification::of_itself().whole()] {
            let verified = subject.reader().blocking().verify(against.state(known).jobs(1)).unwrap();
            assert!(verified.findings().iter().any(|found| found.kind == Forked), "{verified:?}");
            known = verified.state().unwrap().clone();
            assert_eq!(known.size(), 600);
        }
        subject.restore();
        // What was found stays in the state, whatever the ledger is now.
        let verified = subject.reader().blocking().verify(Verification::of_itself().state(known)).unwrap();
        assert!(!verified.is_intact() && verified.is_anchored(), "{verified:?}");
    }
    // Leaf hashes in one tile, and the node over the other one.
    let mut forger = Forger::new(&subject);
    forger.store_leaf(3, [9; 32]);
    subject.run(&format!("UPDATE NODES SET hash = {} WHERE idx = 1", subject.bytes(&[9; 32])));
    assert_eq!(subject.signs(&[kept]), [(TileAltered, 0, 256), (NodeAltered, 256, 512)]);
    subject.restore();
    // The leaf hashes of two batches of one entry changed places.
    let mut forger = Forger::new(&subject);
    let (one, two) = (forger.leaves[0], forger.leaves[300]);
    forger.store_leaf(0, two);
    forger.store_leaf(300, one);
    assert_eq!(subject.signs(&[kept]), [(TileAltered, 0, 256), (TileAltered, 256, 512)]);
    subject.restore();
    // The end was cut off, with a head that fits.
    let forger = Forger::new(&subject);
    let cut = subject.number("SELECT CAST(max(first_seq) AS text) FROM tracing_audit_batches WHERE first_seq <= 560");
    subject.run(&format!(
        "DELETE FROM ENTRIES WHERE seq >= {cut}; DELETE FROM BATCHES WHERE first_seq >= {cut}; UPDATE HEAD SET next_seq = {cut}"
    ));
    assert_eq!(subject.signs(&[kept]), [(FindingKind::Truncated, cut, 600)]);
    subject.run(&format!("DELETE FROM LEAVES WHERE first_seq >= {cut}"));
    assert_eq!(subject.signs(&[kept]), [(HeadAltered, cut, cut), (FindingKind::Truncated, cut, 600)]);
    forger.store_head(usize::try_from(cut).unwrap());
    assert_eq!(subject.signs(&[kept]), [(FindingKind::Truncated, cut, 600)]);
    assert_eq!(subject.signs(&[kept, earlier]), [(FindingKind::Truncated, cut, 600)]);
    // Without anything from outside it cannot be seen.
    assert_eq!(subject.signs(&[]), []);
    subject.run(&format!("UPDATE HEAD SET given = {cut}; UPDATE tracing_audit_writers SET next_seq = {cut}"));
    // Then others are committed: first fewer than there were, then more.
    let log = support::builder(store(&subject.fixture.db)).in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
    let log = log.on_notice(|_| {}).blocking().open().unwrap();
    write(&log, 5000, &[2]);
    let later = subject.reader().blocking().checkpoint().unwrap();
    assert!(later.size() < 600, "{later:?}");
    let replaced: Anchor = format!("{} {}", later.size(), kept.to_string().lines().nth(2).unwrap()).parse().unwrap();
    let verification = Verification::against(kept.clone()).and(earlier.clone()).and(replaced);
    let verified = subject.reader().blocking().verify(verification).unwrap();
    let signs = verified.findings().iter().filter(|found| !found.kind.is_information());
    let signs: Vec<_> = signs.map(|found| (found.kind, found.from, found.until)).collect();
    assert_eq!(signs, [(FindingKind::RolledBack, 100, 600)]);
    write(&log, 6000, &[100]);
    assert_eq!(subject.signs(&[kept, earlier]), [(Forked, 100, 600)]);
    assert_eq!(subject.signs(&[&later]), []);
    drop(log.blocking().shutdown(support::PATIENCE).unwrap());
}

#[test]
fn a_checkpoint_of_another_ledger_and_tables_that_are_gone_have_their_own_sentence() {
    use FindingKind::{Added, Modified, SchemaAltered};
    let subject = Subject::new();
    let text = subject.kept.to_string();
    let mut lines = text.lines();
    let (_, size) = (lines.next(), lines.next().unwrap());
    let other = format!("tracing-audit.invalid/{}\n{size}\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", Uuid::nil());
    let verification = Verification::against(other.parse::<Anchor>().unwrap());
    let verified = subject.reader().blocking().verify(verification).unwrap();
    assert!(verified.findings()[0].text.contains("the wrong checkpoint, or the ledger was replaced"), "{verified:?}");
    let error = subject.reader().of_ledger("another").blocking().verify(Verification::of_itself());
    if subject.postgres {
        assert!(error.unwrap_err().is_config());
    }
    // Nothing that is gone or of another form is more than a finding.
    for table in ["LEAVES", "NODES", "BATCHES", "ENTRIES"] {
        subject.run(&format!("ALTER TABLE {table} RENAME TO moved_{}", table.to_lowercase()));
        assert!(!subject.verify(&[&subject.kept]).is_intact(), "{table}");
        subject.run(&format!("ALTER TABLE moved_{} RENAME TO {table}", table.to_lowercase()));
    }
    if !subject.postgres {
        // A table whose columns hold anything.
        subject.run("ALTER TABLE ENTRIES RENAME TO strict; CREATE TABLE ENTRIES AS SELECT * FROM strict;
                     UPDATE ENTRIES SET id = 7, metadata = x'ff' WHERE seq = 3; UPDATE ENTRIES SET ts = 'now' WHERE seq = 5;
                     UPDATE ENTRIES SET action = CAST(x'ff' AS text) WHERE seq = 7; INSERT INTO ENTRIES SELECT * FROM strict WHERE seq = 9");
        let mut signs = subject.signs(&[&subject.kept]);
        signs.retain(|(kind, ..)| *kind != SchemaAltered);
        assert_eq!(signs, [(Modified, 3, 4), (Modified, 5, 6), (Modified, 7, 8), (Added, 9, 10)]);
        let told = subject.verify(&[&subject.kept]).findings()[0].to_string();
        assert!(told.starts_with("SchemaAltered: ") && told.contains("tracing_audit_entries"), "{told}");
    }
}

#[test]
fn what_no_leaf_commits_to_is_said_and_hides_no_change_of_an_entry() {
    let fixture = log();
    let twice = full(0);
    for entry in [twice.clone(), full(1), full(2)] {
        commit(&fixture.log, entry);
    }
    assert!(fixture.log.writer().blocking().commit(twice).unwrap_err().is_duplicate());
    for number in 3..6 {
        commit(&fixture.log, full(number));
    }
    let kept = fixture.log.reader().blocking().checkpoint().unwrap();
    drop(fixture.log.blocking().shutdown(support::PATIENCE).unwrap());
    let postgres = fixture.db.starts_with("postgres:");
    let found = |ledger: &str| {
        let reader = AuditReader::new(store(&fixture.db)).of_ledger(ledger);
        let verified = reader.blocking().verify(Verification::against(kept.clone())).unwrap();
        verified.findings().iter().map(|found| (found.kind, found.from, found.until)).collect::<Vec<_>>()
    };
    let kinds = |ledger: &str| found(ledger).iter().map(|found| found.0).collect::<Vec<_>>();
    assert_eq!(kinds("main"), [FindingKind::Quarantined]);

    // Records of the quarantine are removed.
    fixture.run("DELETE FROM tracing_audit_quarantine");
    assert_eq!(kinds("main"), [FindingKind::WriterGap]);
    let gap = found("main")[0];

    // The ledger gets another name. In a file, whose only ledger it is, the entries are as proven as before; and no log takes it
    // for the one that it was.
    let rename = |from: &str, to: &str| {
        let head = if postgres { "heads" } else { "head" };
        fixture.run(&format!("UPDATE tracing_audit_{head} SET ledger = '{to}' WHERE ledger = '{from}'"));
    };
    rename("main", "other");
    if postgres {
        assert!(kinds("main").contains(&FindingKind::HeadAltered));
        assert!(kinds("other").iter().any(|kind| !kind.is_information()), "{:?}", found("other"));
    } else {
        assert_eq!(found("main"), [gap]);
        assert!(support::builder(store(&fixture.db)).blocking().open().unwrap_err().is_schema());
    }
    rename("other", "main");

    // An entry is forged behind the end, with a batch and a head that fit. It is behind every checkpoint.
    let ledger = if postgres { "ledger, " } else { "" };
    let columns = "workspace_id, action, resource, decision, metadata";
    let times = "committed_at, least_ts, greatest_ts";
    let (id, of_head) = if postgres { ("gen_random_uuid()", "heads") } else { ("randomblob(16)", "head") };
    fixture.run(&format!(
        "INSERT INTO tracing_audit_entries ({ledger}seq, id, ts, {columns}) SELECT {ledger}6, {id}, ts, {columns} FROM tracing_audit_entries WHERE seq = 5;
         INSERT INTO tracing_audit_batches ({ledger}first_seq, entries, writer, position, {times})
             SELECT {ledger}6, 1, {id}, 1, {times} FROM tracing_audit_batches WHERE first_seq = 5;
         UPDATE tracing_audit_{of_head} SET next_seq = 7"
    ));
    assert_eq!(found("main").iter().filter(|found| **found != gap).collect::<Vec<_>>(), [&(FindingKind::NotCovered, 6, 7)]);

    // A view stands in the place of the entries, which leaves one of them out.
    fixture.run("ALTER TABLE tracing_audit_entries RENAME TO entries_themselves;
                 CREATE VIEW tracing_audit_entries AS SELECT * FROM entries_themselves WHERE seq <> 4");
    assert_eq!(kinds("main"), [FindingKind::SchemaAltered]);
    // Nothing is read through it: it may have rows without end.
    fixture.run("DROP VIEW tracing_audit_entries; ALTER TABLE entries_themselves RENAME TO tracing_audit_entries");
    assert_eq!(found("main").iter().filter(|found| **found != gap).collect::<Vec<_>>(), [&(FindingKind::NotCovered, 6, 7)]);
}
