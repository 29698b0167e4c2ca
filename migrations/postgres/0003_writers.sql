-- What the ledger knows of each writer beside its position, written with the position. `next_seq` is the ledger's end
-- after the writer's last rows, and `quarantined` the position of the last of its entries that went into quarantine: a
-- position that neither they nor the batches account for was changed by somebody else.
CREATE TABLE tracing_audit_writers (
    ledger      text COLLATE "C" NOT NULL,
    writer      uuid NOT NULL,
    next_seq    bigint,
    quarantined bigint,
    PRIMARY KEY (ledger, writer)
);

-- What `next_seq` was after the last commit: a head that somebody has lowered is found by it.
ALTER TABLE tracing_audit_heads ADD COLUMN given bigint NOT NULL DEFAULT 0;
