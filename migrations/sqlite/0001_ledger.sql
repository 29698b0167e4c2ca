-- One ledger: entries in the order of their commit. Ids are 16 bytes, times microseconds since 1970 (UTC).
CREATE TABLE tracing_audit_entries (
    seq          INTEGER PRIMARY KEY,
    id           BLOB NOT NULL UNIQUE,
    ts           INTEGER NOT NULL,
    workspace_id BLOB NOT NULL,
    session_id   BLOB,
    agent_id     BLOB,
    action       TEXT NOT NULL,
    resource     TEXT NOT NULL,
    resource_id  TEXT,
    decision     TEXT NOT NULL,
    reason       TEXT,
    risk_score   REAL,
    metadata     TEXT NOT NULL,
    problems     TEXT
) STRICT;

-- Each index is paid for at every insert. SQLite appends the rowid, which is seq, to each: within one value
-- an index is in the order of commit.
CREATE INDEX tracing_audit_entries_workspace ON tracing_audit_entries (workspace_id);
CREATE INDEX tracing_audit_entries_session ON tracing_audit_entries (session_id) WHERE session_id IS NOT NULL;
-- What is rare costs little. In the order of commit too, so that a page needs no sorting however many there are.
CREATE INDEX tracing_audit_entries_refused ON tracing_audit_entries (decision) WHERE decision IN ('Deny', 'Mask');
CREATE INDEX tracing_audit_entries_refused_in ON tracing_audit_entries (workspace_id, decision)
    WHERE decision IN ('Deny', 'Mask');
-- With the workspace, so that those of others are passed over without a look at their rows.
CREATE INDEX tracing_audit_entries_risky ON tracing_audit_entries (seq, workspace_id) WHERE risk_score >= 0.8;
CREATE INDEX tracing_audit_entries_problems ON tracing_audit_entries (seq, workspace_id) WHERE problems IS NOT NULL;
CREATE INDEX tracing_audit_entries_gaps ON tracing_audit_entries (seq) WHERE action = 'audit.gap';

-- One row per commit that added entries.
CREATE TABLE tracing_audit_batches (
    first_seq    INTEGER PRIMARY KEY,
    entries      INTEGER NOT NULL,
    writer       BLOB NOT NULL,
    position     INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    least_ts     INTEGER NOT NULL,
    greatest_ts  INTEGER NOT NULL
) STRICT;

-- By time, newest first: SQLite appends first_seq.
CREATE INDEX tracing_audit_batches_greatest ON tracing_audit_batches (greatest_ts);

-- The one row of the ledger's head. Whoever appends holds it.
CREATE TABLE tracing_audit_head (
    ledger   TEXT PRIMARY KEY,
    next_seq INTEGER NOT NULL
) STRICT;

-- How far each writer's queue is committed. Written in the transaction of the rows: exactly-once rests on it.
CREATE TABLE tracing_audit_positions (
    writer   BLOB PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;

-- Entries that the database refuses for good, kept whole.
CREATE TABLE tracing_audit_quarantine (
    writer         BLOB NOT NULL,
    position       INTEGER NOT NULL,
    id             BLOB,
    error          TEXT NOT NULL,
    record         BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    PRIMARY KEY (writer, position)
) STRICT;

-- For people with a SQL shell: UUIDs and times as text.
CREATE VIEW tracing_audit_log AS
WITH spelled AS (
    SELECT e.*, hex(id) AS i, hex(session_id) AS s, hex(workspace_id) AS w, hex(agent_id) AS a,
           (SELECT b.committed_at FROM tracing_audit_batches b WHERE b.first_seq <= e.seq
            ORDER BY b.first_seq DESC LIMIT 1) AS c
    FROM tracing_audit_entries e
)
SELECT seq,
       lower(printf('%s-%s-%s-%s-%s', substr(i, 1, 8), substr(i, 9, 4), substr(i, 13, 4), substr(i, 17, 4), substr(i, 21))) AS id,
       CASE WHEN session_id IS NOT NULL THEN
       lower(printf('%s-%s-%s-%s-%s', substr(s, 1, 8), substr(s, 9, 4), substr(s, 13, 4), substr(s, 17, 4), substr(s, 21))) END AS session_id,
       lower(printf('%s-%s-%s-%s-%s', substr(w, 1, 8), substr(w, 9, 4), substr(w, 13, 4), substr(w, 17, 4), substr(w, 21))) AS workspace_id,
       CASE WHEN agent_id IS NOT NULL THEN
       lower(printf('%s-%s-%s-%s-%s', substr(a, 1, 8), substr(a, 9, 4), substr(a, 13, 4), substr(a, 17, 4), substr(a, 21))) END AS agent_id,
       action, resource, resource_id, decision, reason, risk_score,
       -- Whole seconds rounded down and the rest as a fraction, also before 1970.
       strftime('%Y-%m-%dT%H:%M:%S', (ts - ((ts % 1000000) + 1000000) % 1000000) / 1000000, 'unixepoch')
           || printf('.%06dZ', ((ts % 1000000) + 1000000) % 1000000) AS ts,
       metadata, problems,
       strftime('%Y-%m-%dT%H:%M:%S', c / 1000000, 'unixepoch') || printf('.%06dZ', c % 1000000) AS committed_at
FROM spelled;
