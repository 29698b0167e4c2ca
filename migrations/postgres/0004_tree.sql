-- The tree over all entries of a ledger: its leaf with index i is the hash of the entry with seq i. `tree_size` is the number
-- of its leaves, and `frontier` its right edge, 32 bytes for each one-bit of the size. `log_id` are random bytes that name
-- the ledger in its checkpoints.
ALTER TABLE tracing_audit_heads ADD COLUMN log_id    uuid;
ALTER TABLE tracing_audit_heads ADD COLUMN tree_size bigint NOT NULL DEFAULT 0;
ALTER TABLE tracing_audit_heads ADD COLUMN frontier  bytea NOT NULL DEFAULT '';

-- What proves the entries of a batch: one row beside each row of tracing_audit_batches, with a seed of 16 bytes and 32
-- bytes for each entry. A range of numbers that no batch has added has a row without a seed. Hashes are not compressed, because they do not become smaller.
CREATE TABLE tracing_audit_leaves (
    ledger    text COLLATE "C" NOT NULL,
    first_seq bigint NOT NULL,
    seeds     bytea NOT NULL,
    leaves    bytea NOT NULL,
    PRIMARY KEY (ledger, first_seq)
);
ALTER TABLE tracing_audit_leaves ALTER COLUMN leaves SET STORAGE EXTERNAL;

-- The hashes within the tree that are kept: those over 256 leaves, over 256 of these, and so on. Level 8 are the first.
CREATE TABLE tracing_audit_nodes (
    ledger text COLLATE "C" NOT NULL,
    level  smallint NOT NULL,
    idx    bigint NOT NULL,
    hash   bytea NOT NULL,
    PRIMARY KEY (ledger, level, idx)
);
