-- Roles with least privilege, for an administrator of the server. Run this as the owner of the audit tables, once a
-- role that may create them has done so (the first start of any log does). If the tables are in a schema of their
-- own, put it in front of their names, and grant USAGE on it.
--
-- A writer adds entries and can neither change nor remove any. It may only update what the database knows of writers, and the
-- ledger's head.
CREATE ROLE audit_writer NOLOGIN;
GRANT SELECT ON tracing_audit_migrations TO audit_writer;
GRANT SELECT, INSERT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_quarantine, tracing_audit_leaves,
    tracing_audit_nodes TO audit_writer;
GRANT SELECT, INSERT, UPDATE ON tracing_audit_heads, tracing_audit_positions, tracing_audit_writers TO audit_writer;

-- A reader reads, and records that it did. It can neither choose the recorded role and time, nor change or remove a
-- record.
CREATE ROLE audit_reader NOLOGIN;
GRANT SELECT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_heads, tracing_audit_quarantine,
    tracing_audit_leaves, tracing_audit_nodes, tracing_audit_writers, tracing_audit_migrations, tracing_audit_log
    TO audit_reader;
GRANT SELECT, INSERT (id, ends, reader, action, query, entries) ON tracing_audit_reads TO audit_reader;

-- An operator tries quarantined entries again, which takes them out of quarantine, and may do what a writer may.
CREATE ROLE audit_operator NOLOGIN IN ROLE audit_writer;
GRANT DELETE ON tracing_audit_quarantine TO audit_operator;
