-- Who read the log, where a reader was told to record it. Rows with one id tell of one read: the first, without a number
-- of entries, that it began, the last how many it was given. A read that is answered at once has the last one only.
-- When, and which role it was, the server says: a reader needs no right to fill in those columns.
CREATE TABLE tracing_audit_reads (
    id      uuid NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    role    text COLLATE "C" NOT NULL DEFAULT session_user,
    reader  text COLLATE "C" NOT NULL,
    action  text COLLATE "C" NOT NULL,
    query   json NOT NULL,
    entries bigint
);

CREATE INDEX tracing_audit_reads_at ON tracing_audit_reads (at);
