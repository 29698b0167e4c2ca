-- Who read the log, where a reader was told to record it. A read whose answer is a stream has a second row when it ends,
-- which names the first.
CREATE TABLE tracing_audit_reads (
    id      BLOB PRIMARY KEY,
    ends    BLOB,
    at      INTEGER NOT NULL,
    reader  TEXT NOT NULL,
    action  TEXT NOT NULL,
    query   TEXT NOT NULL,
    entries INTEGER
) STRICT;

CREATE INDEX tracing_audit_reads_at ON tracing_audit_reads (at) WHERE ends IS NULL;
CREATE INDEX tracing_audit_reads_ends ON tracing_audit_reads (ends) WHERE ends IS NOT NULL;
