-- Least privilege, for whoever administers the server. Run as the owner of the audit tables, after they were made by a
-- role that may create them (the first start of any log does that). Put the schema in front of the names if there is
-- one, and grant USAGE on it.
--
-- A writer adds entries and can neither change nor remove any: what it may update is how far it has come.
CREATE ROLE audit_writer NOLOGIN;
GRANT SELECT ON tracing_audit_migrations TO audit_writer;
GRANT SELECT, INSERT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_quarantine TO audit_writer;
GRANT SELECT, INSERT, UPDATE ON tracing_audit_heads, tracing_audit_positions TO audit_writer;

-- A reader reads, and records that it did. Who it was and when it cannot choose, nor change or remove what it recorded.
CREATE ROLE audit_reader NOLOGIN;
GRANT SELECT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_heads, tracing_audit_quarantine,
    tracing_audit_log TO audit_reader;
GRANT SELECT, INSERT (id, ends, reader, action, query, entries) ON tracing_audit_reads TO audit_reader;

-- Whoever tries quarantined entries again takes them out of quarantine, and may do what a writer may.
CREATE ROLE audit_operator NOLOGIN IN ROLE audit_writer;
GRANT DELETE ON tracing_audit_quarantine TO audit_operator;
