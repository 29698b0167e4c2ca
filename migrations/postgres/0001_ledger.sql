-- The entries, those of each ledger in the order of their commit. The ledger leads every unique key, so that the tables
-- can be distributed by ledger. There are no sequences and no triggers.
CREATE TABLE tracing_audit_entries (
    ledger       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    id           uuid NOT NULL,
    ts           timestamptz NOT NULL,
    workspace_id uuid NOT NULL,
    session_id   uuid,
    agent_id     uuid,
    action       text COLLATE "C" NOT NULL,
    resource     text COLLATE "C" NOT NULL,
    resource_id  text COLLATE "C",
    decision     text COLLATE "C" NOT NULL,
    reason       text COLLATE "C",
    risk_score   double precision,
    metadata     json NOT NULL,
    problems     json,
    PRIMARY KEY (ledger, seq),
    CONSTRAINT tracing_audit_entries_id UNIQUE (ledger, id)
);

-- The indexes that every log has. Each of them costs time at every insert.
CREATE INDEX tracing_audit_entries_workspace ON tracing_audit_entries (ledger, workspace_id, seq);
CREATE INDEX tracing_audit_entries_session ON tracing_audit_entries (ledger, session_id, seq)
    WHERE session_id IS NOT NULL;
-- Indexes of rare entries. They hold the workspace too, so that a query for one workspace skips the entries of others
-- without reading their rows.
CREATE INDEX tracing_audit_entries_refused ON tracing_audit_entries (ledger, decision, seq, workspace_id)
    WHERE decision IN ('Deny', 'Mask');
CREATE INDEX tracing_audit_entries_risky ON tracing_audit_entries (ledger, seq, workspace_id)
    WHERE risk_score >= 0.8::double precision;
CREATE INDEX tracing_audit_entries_problems ON tracing_audit_entries (ledger, seq, workspace_id)
    WHERE problems IS NOT NULL;
CREATE INDEX tracing_audit_entries_gaps ON tracing_audit_entries (ledger, seq) WHERE action = 'audit.gap';

-- One row per commit that added entries.
CREATE TABLE tracing_audit_batches (
    ledger       text COLLATE "C" NOT NULL,
    first_seq    bigint NOT NULL,
    entries      bigint NOT NULL,
    writer       uuid NOT NULL,
    position     bigint NOT NULL,
    committed_at timestamptz NOT NULL,
    least_ts     timestamptz NOT NULL,
    greatest_ts  timestamptz NOT NULL,
    PRIMARY KEY (ledger, first_seq)
);

-- The batches in the order of time: those of one ledger, and those of all ledgers.
CREATE INDEX tracing_audit_batches_greatest ON tracing_audit_batches (ledger, greatest_ts, first_seq);
CREATE INDEX tracing_audit_batches_latest ON tracing_audit_batches (greatest_ts, first_seq, ledger);

-- The head of each ledger. A transaction that appends to the ledger holds this row.
CREATE TABLE tracing_audit_heads (
    ledger   text COLLATE "C" PRIMARY KEY,
    next_seq bigint NOT NULL
);

-- The position up to which each writer's queue is committed. It is written in the transaction that adds the rows, so
-- that each entry is committed exactly once.
CREATE TABLE tracing_audit_positions (
    ledger   text COLLATE "C" NOT NULL,
    writer   uuid NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (ledger, writer)
);

-- Entries that the database refuses for good, kept whole.
CREATE TABLE tracing_audit_quarantine (
    ledger         text COLLATE "C" NOT NULL,
    writer         uuid NOT NULL,
    position       bigint NOT NULL,
    id             uuid,
    error          text NOT NULL,
    record         bytea NOT NULL,
    quarantined_at timestamptz NOT NULL,
    PRIMARY KEY (ledger, writer, position)
);

-- For people and tools that read SQL.
CREATE VIEW tracing_audit_log AS
SELECT e.ledger, e.seq, e.id, e.session_id, e.workspace_id, e.agent_id, e.action, e.resource, e.resource_id,
       e.decision, e.reason, e.risk_score, e.ts, e.metadata, e.problems,
       (SELECT b.committed_at FROM tracing_audit_batches b WHERE b.ledger = e.ledger AND b.first_seq <= e.seq
        ORDER BY b.first_seq DESC LIMIT 1) AS committed_at
FROM tracing_audit_entries e;
