-- What the ledger knows of each writer beside its position, written with the position. `next_seq` is the ledger's end
-- after the writer's last rows, and `quarantined` the position of the last of its entries that went into quarantine: a
-- position that neither they nor the batches account for was changed by somebody else. `accepted` is how far the writer
-- had accepted entries when it wrote this row last: if its process is dead and its journal does not have them, they are
-- lost. The next columns say which process it is, and where its queue is, so that the next log can know that it is dead.
-- `ended_at` is set once nothing of the writer is left to settle.
CREATE TABLE tracing_audit_writers (
    writer      BLOB PRIMARY KEY,
    next_seq    INTEGER,
    quarantined INTEGER,
    accepted    INTEGER,
    started_at  INTEGER,
    ended_at    INTEGER,
    host        TEXT,
    process     TEXT,
    home        TEXT,
    mounts      TEXT,
    parent      TEXT
) STRICT;
CREATE INDEX tracing_audit_writers_open ON tracing_audit_writers (host) WHERE ended_at IS NULL;

-- What `next_seq` was after the last commit: a head that somebody has lowered is found by it.
ALTER TABLE tracing_audit_head ADD COLUMN given INTEGER NOT NULL DEFAULT 0;
