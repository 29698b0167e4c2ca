-- What the ledger knows of each writer beside its position, written with the position. `next_seq` is the ledger's end
-- after the writer's last rows, and `quarantined` the position of the last of its entries that went into quarantine: a
-- position that neither they nor the batches account for was changed by somebody else.
CREATE TABLE tracing_audit_writers (
    writer      BLOB PRIMARY KEY,
    next_seq    INTEGER,
    quarantined INTEGER
) STRICT;

-- What `next_seq` was after the last commit: a head that somebody has lowered is found by it.
ALTER TABLE tracing_audit_head ADD COLUMN given INTEGER NOT NULL DEFAULT 0;
