-- What the ledger knows of each writer beside its position, written with the position. `next_seq` is the ledger's end
-- after the writer's last rows, and `quarantined` the position of the last of its entries that went into quarantine: a
-- position that neither they nor the batches account for was changed by somebody else. `accepted` is how far the writer
-- had accepted entries at `said_at`, when it wrote this row last: if its process is dead and its journal does not have
-- them, they are lost. The next columns say which process it is, and where its queue is, so that the next log can know that it is dead.
-- `ended_at` is set once nothing of the writer is left to settle.
CREATE TABLE tracing_audit_writers (
    ledger      text COLLATE "C" NOT NULL,
    writer      uuid NOT NULL,
    next_seq    bigint,
    quarantined bigint,
    accepted    bigint,
    started_at  timestamptz,
    said_at     timestamptz,
    ended_at    timestamptz,
    host        text,
    process     text,
    home        text,
    mounts      text,
    parent      text,
    PRIMARY KEY (ledger, writer)
);
CREATE INDEX tracing_audit_writers_open ON tracing_audit_writers (ledger, host) WHERE ended_at IS NULL;

-- What `next_seq` was after the last commit: a head that somebody has lowered is found by it.
ALTER TABLE tracing_audit_heads ADD COLUMN given bigint NOT NULL DEFAULT 0;
