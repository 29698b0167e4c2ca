//! What a database holds of the tree over its entries, and the same made anew from the rows.

use std::{collections::BTreeMap, path::Path, process::Command};

use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::Row as _;
use tracing_audit::ledger::{Checkpoint, Columns, Committed, Frontier, Hash, Leaf, Origin, Seeds};
use uuid::Uuid;

use super::{block_on, connect};

/// An entry as it is stored.
struct StoredEntry {
    id: Uuid,
    ts: i64,
    ids: (Uuid, Option<Uuid>, Option<Uuid>),
    /// action, resource, decision, metadata
    texts: [String; 4],
    /// `resource_id`, reason, problems
    optional: [Option<String>; 3],
    risk_score: Option<f64>,
}

/// The rows of a ledger that the tree is about.
pub(crate) struct Stored {
    log_id: Uuid,
    pub(crate) next_seq: i64,
    pub(crate) size: i64,
    pub(crate) frontier: Vec<u8>,
    batches: Vec<Batch>,
    /// `first_seq`, seeds, leaves
    leaves: Vec<(i64, Vec<u8>, Vec<u8>)>,
    /// level, index, hash
    nodes: Vec<(i64, i64, Vec<u8>)>,
    entries: BTreeMap<i64, StoredEntry>,
}

/// `first_seq`, entries, writer, position, `committed_at`
type Batch = (i64, i64, Uuid, i64, i64);

/// Reads the rows. Their times are spelled as the database does it.
macro_rules! read {
    ($connection:expr, $head:literal, $ts:literal, $committed_at:literal) => {{
        let connection = $connection;
        let mut all = async |sql: &str| {
            sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut *connection).await.unwrap()
        };
        let head = all(concat!("SELECT log_id, next_seq, tree_size, frontier FROM ", $head)).await;
        let batches = all(concat!(
            "SELECT first_seq, entries, writer, position, ",
            $committed_at,
            " FROM tracing_audit_batches ORDER BY first_seq"
        ))
        .await;
        let leaves = all("SELECT first_seq, seeds, leaves FROM tracing_audit_leaves ORDER BY first_seq").await;
        let nodes = "SELECT CAST(level AS bigint), idx, hash FROM tracing_audit_nodes ORDER BY level, idx";
        let nodes = all(nodes).await;
        // Row by row: there may be a million.
        let sql = concat!(
            "SELECT seq, id, ",
            $ts,
            ", workspace_id, session_id, agent_id, action, resource, decision, CAST(metadata AS text), resource_id, reason,
               CAST(problems AS text), risk_score FROM tracing_audit_entries ORDER BY seq"
        );
        let (mut entries, mut rows) = (BTreeMap::new(), sqlx::query(sql).fetch(&mut *connection));
        while let Some(row) = rows.try_next().await.unwrap() {
            let stored = StoredEntry {
                id: row.get(1),
                ts: row.get(2),
                ids: (row.get(3), row.get(4), row.get(5)),
                texts: [row.get(6), row.get(7), row.get(8), row.get(9)],
                optional: [row.get(10), row.get(11), row.get(12)],
                risk_score: row.get(13),
            };
            entries.insert(row.get(0), stored);
        }
        drop(rows);
        Stored {
            log_id: head[0].get(0),
            next_seq: head[0].get(1),
            size: head[0].get(2),
            frontier: head[0].get(3),
            batches: batches
                .iter()
                .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
                .collect(),
            leaves: leaves.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
            nodes: nodes.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect(),
            entries,
        }
    }};
}

impl Stored {
    /// The rows of the ledger at this path or URL, which holds one.
    pub(crate) fn at(db: &str) -> Self {
        block_on(async {
            #[cfg(feature = "postgres")]
            if db.starts_with("postgres:") {
                use sqlx::Connection as _;
                let connection = &mut sqlx::PgConnection::connect(db).await.unwrap();
                return read!(
                    connection,
                    "tracing_audit_heads",
                    "(extract(epoch FROM ts) * 1000000)::bigint",
                    "(extract(epoch FROM committed_at) * 1000000)::bigint"
                );
            }
            let connection = &mut connect(db).await;
            read!(connection, "tracing_audit_head", "ts", "committed_at")
        })
    }

    /// The checkpoint that the head gives.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let frontier = Frontier::from_bytes(self.size.cast_unsigned(), &self.frontier).unwrap();
        Checkpoint::of(Origin::of_log(self.log_id), &frontier)
    }

    /// The leaf that an entry must have, by its own row and that of its batch.
    fn leaf(
        &self,
        seq: i64,
        (first_seq, entries, writer, position, committed_at): Batch,
        seeds: &Seeds,
    ) -> Hash {
        let Some(stored) = self.entries.get(&seq) else { return Leaf::new().hash() };
        let StoredEntry { id, ts, ids, texts: [action, resource, decision, metadata], optional, risk_score } =
            stored;
        let columns = Columns {
            id: *id,
            ts: *ts,
            workspace_id: ids.0,
            session_id: ids.1,
            agent_id: ids.2,
            action,
            resource,
            resource_id: optional[0].as_deref(),
            decision,
            reason: optional[1].as_deref(),
            risk_score: *risk_score,
            metadata,
            problems: optional[2].as_deref(),
        };
        let (position, entries) = (position.cast_unsigned(), entries.cast_unsigned());
        let place = (seq - first_seq).cast_unsigned();
        let committed = Committed::in_batch(writer, position, entries, committed_at, place).unwrap();
        Leaf::of(&columns, &committed, &seeds.get(u32::try_from(place).unwrap()).unwrap()).hash()
    }
}

/// The size and the root of a checkpoint, as they are written.
pub(crate) fn size_and_root(checkpoint: &Checkpoint) -> (u64, String) {
    (checkpoint.size(), checkpoint.to_string().lines().nth(2).unwrap().to_owned())
}

/// What the program in Python says of a SQLite file. It shares no code with the crate.
pub(crate) fn second_program(db: &str, checkpoints: &[&str]) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify_db.py");
    // Without what the machine has installed for Python, of which it needs nothing.
    let output = Command::new("python3").args(["-S", "-E"]).arg(program).arg(db).args(checkpoints).output();
    let output = output.expect("'python3' is needed: on Debian, 'apt-get install python3'");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Checks that every entry has its leaf, and that the tree of these leaves is what the head, the leaves and the nodes say.
/// Returns the number of leaves that no batch accounts for.
pub(crate) fn assert_tree(db: &str) -> usize {
    let stored = Stored::at(db);
    assert_eq!(stored.size, stored.next_seq, "{db}: every entry is in the tree");
    let (mut tree, mut full, mut absent) = (Frontier::new(), Vec::new(), 0);
    let mut batches = stored.batches.iter().map(|batch| (batch.0, *batch)).collect::<BTreeMap<_, _>>();
    for (first_seq, seeds, leaves) in &stored.leaves {
        assert_eq!(*first_seq, tree.size().cast_signed(), "{db}: the leaves follow each other");
        let (leaves, rest) = leaves.as_chunks::<32>();
        assert!(rest.is_empty() && !leaves.is_empty());
        if let Some(batch) = batches.remove(first_seq) {
            assert_eq!(
                (leaves.len(), seeds.len()),
                (usize::try_from(batch.1).unwrap(), 16),
                "{db}: {first_seq}"
            );
            let seeds = Seeds::from_bytes(seeds).unwrap();
            for (seq, leaf) in (*first_seq..).zip(leaves) {
                assert_eq!(*leaf, stored.leaf(seq, batch, &seeds), "{db}: the leaf of {seq}");
            }
        } else {
            assert!(
                seeds.is_empty() && leaves.iter().all(|leaf| *leaf == Leaf::new().hash()),
                "{db}: {first_seq}"
            );
            absent += leaves.len();
        }
        tree.append(leaves, &mut full);
    }
    assert!(batches.is_empty(), "{db}: batches without leaves: {batches:?}");
    assert_eq!((tree.size().cast_signed(), tree.to_bytes()), (stored.size, stored.frontier.clone()), "{db}");
    let mut nodes: Vec<_> = full
        .iter()
        .map(|node| (i64::from(node.subtree.level), node.subtree.index.cast_signed(), node.hash.to_vec()))
        .collect();
    nodes.sort();
    assert_eq!(nodes, stored.nodes, "{db}: the nodes");
    absent
}
