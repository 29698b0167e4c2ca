-- Roles with least privilege, for an administrator of the server. Run this as the owner of the audit tables, once a role that
-- may create them has done so (the first start of any log does), and again after an upgrade. If the tables are in a schema of
-- their own, run `SET search_path TO that_schema` first, and grant USAGE on the schema to the three roles.
--
-- None of the three has a right to write a table: they call functions of the owner's, which check what they are given. A role to
-- which an earlier version of this script has granted the tables writes on without a pause if it has its rows in
-- tracing_audit_grants, see below, before this runs.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['audit_writer', 'audit_reader', 'audit_operator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        END IF;
    END LOOP;
END
$$;
-- What earlier versions of this script have granted.
REVOKE ALL ON tracing_audit_migrations, tracing_audit_entries, tracing_audit_batches, tracing_audit_quarantine,
    tracing_audit_leaves, tracing_audit_nodes, tracing_audit_heads, tracing_audit_positions, tracing_audit_writers,
    tracing_audit_reads FROM audit_writer, audit_reader, audit_operator;
REVOKE INSERT (id, ends, reader, action, query, entries) ON tracing_audit_reads FROM audit_reader;

-- A writer adds entries, and can neither read, change nor remove any. Each role that is a member of it, or a group of such
-- roles, also needs a row for each ledger that it writes:
--     INSERT INTO tracing_audit_grants (role, ledger) VALUES ('billing', 'billing');
-- A ledger that ends with `*`, such as 'billing-*', stands for all that begin so, of which there may be `most` (100).
GRANT EXECUTE ON FUNCTION tracing_audit_version, tracing_audit_begin, tracing_audit_hold, tracing_audit_position,
    tracing_audit_backed, tracing_audit_batch, tracing_audit_holds, tracing_audit_is_there, tracing_audit_known_writers,
    tracing_audit_goes, tracing_audit_ended, tracing_audit_append, tracing_audit_prove TO audit_writer;

-- A reader reads, and records that it did. It can neither choose the recorded role and time, nor change or remove a record.
GRANT SELECT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_heads, tracing_audit_quarantine,
    tracing_audit_leaves, tracing_audit_nodes, tracing_audit_writers, tracing_audit_migrations, tracing_audit_log,
    tracing_audit_reads TO audit_reader;
GRANT EXECUTE ON FUNCTION tracing_audit_record_read TO audit_reader;

-- An operator tries quarantined entries of any ledger again, which takes them out of quarantine, and may do what a writer may.
-- It begins no ledger. It sees which ledgers there are, and no entry; who is to list what is in quarantine is a reader, too.
GRANT audit_writer TO audit_operator;
GRANT EXECUTE ON FUNCTION tracing_audit_next_quarantined, tracing_audit_readmitted TO audit_operator;
GRANT SELECT (ledger, next_seq) ON tracing_audit_heads TO audit_operator;
GRANT SELECT (ledger, first_seq, committed_at) ON tracing_audit_batches TO audit_operator;
INSERT INTO tracing_audit_grants (role, ledger, most) VALUES ('audit_operator', '*', 0) ON CONFLICT DO NOTHING;
