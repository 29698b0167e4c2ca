-- What the ledger knows of each writer beside its position, written with the position. `next_seq` is the ledger's end
-- after the writer's last rows, and `quarantined` the position of the last of its entries that went into quarantine: a
-- position that neither they nor the batches account for was changed by somebody else. `accepted` is how far the writer
-- had accepted entries at `said_at`, when it wrote this row last: if its process is dead and its journal does not have
-- them, they are lost. The next columns say which process it is, and where its queue is, so that the next log can know that it is dead.
-- `ended_at` is set once nothing of the writer is left to settle.
CREATE TABLE tracing_audit_writers (
    writer      BLOB PRIMARY KEY,
    next_seq    INTEGER,
    quarantined INTEGER,
    accepted    INTEGER,
    started_at  INTEGER,
    said_at     INTEGER,
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

-- The view again: the time of commit is spelled like `ts`, also before 1970.
DROP VIEW IF EXISTS tracing_audit_log;
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
       strftime('%Y-%m-%dT%H:%M:%S', (c - ((c % 1000000) + 1000000) % 1000000) / 1000000, 'unixepoch')
           || printf('.%06dZ', ((c % 1000000) + 1000000) % 1000000) AS committed_at
FROM spelled;
