-- The tree over all entries: its leaf with index i is the hash of the entry with seq i. `tree_size` is the number of its
-- leaves, and `frontier` its right edge, 32 bytes for each one-bit of the size. `log_id` are 16 random bytes that name
-- the ledger in its checkpoints.
ALTER TABLE tracing_audit_head ADD COLUMN log_id    BLOB;
ALTER TABLE tracing_audit_head ADD COLUMN tree_size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tracing_audit_head ADD COLUMN frontier  BLOB NOT NULL DEFAULT x'';

-- What proves the entries of a batch: one row beside each row of tracing_audit_batches, with a seed of 16 bytes and 32
-- bytes for each entry. A range of numbers that no batch has added has a row without a seed.
CREATE TABLE tracing_audit_leaves (
    first_seq INTEGER PRIMARY KEY,
    seeds     BLOB NOT NULL,
    leaves    BLOB NOT NULL
) STRICT;

-- The hashes within the tree that are kept: those over 256 leaves, over 256 of these, and so on. Level 8 are the first.
CREATE TABLE tracing_audit_nodes (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;
