-- The record of who read the log, written by readers that were opened with `recorded_as`. A read whose answer is a
-- stream has a second row, added when it ends, which names the first row. The server fills in the time and the role,
-- so that a reader needs no right to those columns.
CREATE TABLE tracing_audit_reads (
    id      uuid PRIMARY KEY,
    ends    uuid,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    role    text COLLATE "C" NOT NULL DEFAULT session_user,
    reader  text COLLATE "C" NOT NULL,
    action  text COLLATE "C" NOT NULL,
    query   json NOT NULL,
    entries bigint
);

CREATE INDEX tracing_audit_reads_at ON tracing_audit_reads (at) WHERE ends IS NULL;
CREATE INDEX tracing_audit_reads_ends ON tracing_audit_reads (ends) WHERE ends IS NOT NULL;
