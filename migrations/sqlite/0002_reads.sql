-- Who read the log, where a reader was told to record it. Rows with one id tell of one read: the first, without a number
-- of entries, that it began, the last how many it was given. A read that is answered at once has the last one only.
CREATE TABLE tracing_audit_reads (
    id      BLOB NOT NULL,
    at      INTEGER NOT NULL,
    reader  TEXT NOT NULL,
    action  TEXT NOT NULL,
    query   TEXT NOT NULL,
    entries INTEGER
) STRICT;

CREATE INDEX tracing_audit_reads_at ON tracing_audit_reads (at);
