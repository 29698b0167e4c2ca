-- Functions with which a role writes and records its reads that has no right on any table. They run as their owner, who is
-- the owner of the tables. Nobody else may call them before `roles.sql`, or an administrator, grants it. What they refuse has
-- an error code that begins with TA.

-- Which role may write which ledger by the functions: whoever is that role or a member of it. A ledger that ends with `*`
-- stands for all that begin so, of which there may be `most` in all.
CREATE TABLE tracing_audit_grants (
    role   text COLLATE "C" NOT NULL,
    ledger text COLLATE "C" NOT NULL,
    most   bigint NOT NULL DEFAULT 100,
    PRIMARY KEY (role, ledger)
);

-- The role of the grant by which the functions have written a writer's row, or the one that has logged in and written it without
-- them. Nobody else moves that writer's position by them. NULL: it was written before this column was there.
ALTER TABLE tracing_audit_writers ADD COLUMN role text COLLATE "C";
ALTER TABLE tracing_audit_writers ALTER COLUMN role SET DEFAULT session_user;

-- What a writer says of itself is read by others.
ALTER TABLE tracing_audit_writers ADD CONSTRAINT tracing_audit_writers_said CHECK (
    accepted BETWEEN 0 AND 4611686018427387904 AND octet_length(host) <= 8192 AND octet_length(process) <= 8192
    AND octet_length(home) <= 8192 AND octet_length(mounts) <= 8192 AND octet_length(parent) <= 8192);

CREATE FUNCTION tracing_audit_version() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$
    SELECT coalesce(max(version), 0) FROM tracing_audit_migrations
$$;

-- The grant by which the session may write this ledger. The role that counts is the one that has logged in.
CREATE FUNCTION tracing_audit_grant(p_ledger text) RETURNS tracing_audit_grants LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_grant tracing_audit_grants;
BEGIN
    SELECT g.* INTO v_grant FROM tracing_audit_grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE pg_has_role(session_user, r.oid, 'MEMBER')
      AND CASE WHEN right(g.ledger, 1) = '*' THEN starts_with(p_ledger, left(g.ledger, -1)) ELSE g.ledger = p_ledger END
    ORDER BY g.most DESC, g.role, g.ledger LIMIT 1;
    IF v_grant.role IS NULL THEN
        RAISE EXCEPTION 'the role % may not write to the ledger %', session_user, quote_nullable(p_ledger) USING
            ERRCODE = 'TA001',
            HINT = format('the owner of the tables allows it by a row in the table of grants: (%L, %L)', session_user, p_ledger);
    END IF;
    RETURN v_grant;
END
$$;

-- Whether a writer's row says that it is one of the session's.
CREATE FUNCTION tracing_audit_is_own(p_role text) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$
    SELECT p_role IS NULL OR coalesce((SELECT pg_has_role(session_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = p_role), true)
$$;

-- Refuses what concerns a writer that is another role's.
CREATE FUNCTION tracing_audit_check_writer(p_ledger text, p_writer uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM tracing_audit_writers w
               WHERE w.ledger = p_ledger AND w.writer = p_writer AND NOT tracing_audit_is_own(w.role)) THEN
        RAISE EXCEPTION 'the writer % is not one of the role %', p_writer, session_user USING ERRCODE = 'TA002',
            HINT = 'if its queue is to be this role''s, the owner of the tables sets the role in its row of the writers to NULL';
    END IF;
END
$$;

-- Makes the head of a ledger, if it has none.
CREATE FUNCTION tracing_audit_begin(p_ledger text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_grant tracing_audit_grants := tracing_audit_grant(p_ledger);
BEGIN
    IF EXISTS (SELECT FROM tracing_audit_heads WHERE ledger = p_ledger AND log_id IS NOT NULL) THEN
        RETURN;
    END IF;
    IF right(v_grant.ledger, 1) = '*' AND NOT EXISTS (SELECT FROM tracing_audit_heads WHERE ledger = p_ledger) THEN
        -- One after the other, so that they count each other's.
        PERFORM FROM tracing_audit_grants WHERE role = v_grant.role AND ledger = v_grant.ledger FOR UPDATE;
        IF (SELECT count(*) FROM tracing_audit_heads WHERE starts_with(ledger, left(v_grant.ledger, -1))) >= v_grant.most THEN
            RAISE EXCEPTION 'there are % ledgers already that begin with %', v_grant.most, quote_literal(left(v_grant.ledger, -1))
                USING ERRCODE = 'TA001', HINT = 'the owner of the tables allows more by the column most in the table of grants';
        END IF;
    END IF;
    INSERT INTO tracing_audit_heads (ledger, next_seq) VALUES (p_ledger, 0) ON CONFLICT DO NOTHING;
    UPDATE tracing_audit_heads SET log_id = gen_random_uuid() WHERE ledger = p_ledger AND log_id IS NULL;
END
$$;

-- Holds the ledger until the end of the transaction, and tells its end. An id is told only to whom it is known.
CREATE FUNCTION tracing_audit_hold(p_ledger text, p_limit bigint, p_starts boolean, p_last bigint, p_writer uuid, p_last_id uuid)
RETURNS TABLE (next_seq bigint, entries bigint, batches bigint, given bigint, last uuid, "position" bigint,
               committed_at bigint, tree_size bigint, frontier bytea, now bigint)
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    PERFORM FROM tracing_audit_heads h WHERE h.ledger = p_ledger FOR UPDATE;
    -- Each statement sees what was committed before it begins, so this one sees what the last holder has committed.
    RETURN QUERY
    SELECT h.next_seq,
           (SELECT e.seq + 1 FROM tracing_audit_entries e WHERE e.ledger = p_ledger AND e.seq < p_limit
            ORDER BY e.seq DESC LIMIT 1),
           (SELECT b.first_seq + b.entries FROM tracing_audit_batches b WHERE b.ledger = p_ledger AND b.first_seq < p_limit
            ORDER BY b.first_seq DESC LIMIT 1),
           greatest(h.given, CASE WHEN p_starts THEN (SELECT max(w.next_seq) FROM tracing_audit_writers w
                                                      WHERE w.ledger = p_ledger) END),
           (SELECT e.id FROM tracing_audit_entries e WHERE e.ledger = p_ledger AND e.seq = p_last AND e.id = p_last_id),
           (SELECT p.position FROM tracing_audit_positions p WHERE p.ledger = p_ledger AND p.writer = p_writer),
           (SELECT CASE WHEN isfinite(b.committed_at) THEN (extract(epoch FROM b.committed_at) * 1000000)::bigint END
            FROM tracing_audit_batches b WHERE b.ledger = p_ledger AND b.first_seq < p_limit
            ORDER BY b.first_seq DESC LIMIT 1),
           h.tree_size, h.frontier, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM tracing_audit_heads h WHERE h.ledger = p_ledger;
END
$$;

-- The position that a writer's row names, and the one that its last batch and the quarantine account for.
CREATE FUNCTION tracing_audit_position(p_ledger text, p_writer uuid) RETURNS TABLE (named bigint, accounted bigint)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN QUERY
    SELECT (SELECT p.position FROM tracing_audit_positions p WHERE p.ledger = p_ledger AND p.writer = p_writer),
           (SELECT greatest(w.quarantined, (SELECT CASE WHEN b.writer = w.writer THEN b.position END
                                            FROM tracing_audit_batches b
                                            WHERE b.ledger = p_ledger AND b.first_seq < w.next_seq
                                            ORDER BY b.first_seq DESC LIMIT 1))
            FROM tracing_audit_writers w WHERE w.ledger = p_ledger AND w.writer = p_writer)
    FROM tracing_audit_heads h WHERE h.ledger = p_ledger;
END
$$;

-- The position that all batches and the quarantine account for.
CREATE FUNCTION tracing_audit_backed(p_ledger text, p_writer uuid) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN coalesce(greatest(
        (SELECT max(b.position) FROM tracing_audit_batches b WHERE b.ledger = p_ledger AND b.writer = p_writer),
        (SELECT max(q.position) FROM tracing_audit_quarantine q WHERE q.ledger = p_ledger AND q.writer = p_writer),
        (SELECT w.quarantined FROM tracing_audit_writers w WHERE w.ledger = p_ledger AND w.writer = p_writer)), 0);
END
$$;

-- Whether the ledger, or its quarantine, has an entry with this id.
CREATE FUNCTION tracing_audit_holds(p_ledger text, p_id uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN EXISTS (SELECT FROM tracing_audit_entries e WHERE e.ledger = p_ledger AND e.id = p_id)
        OR EXISTS (SELECT FROM tracing_audit_quarantine q WHERE q.ledger = p_ledger AND q.id = p_id);
END
$$;

-- Whether the ledger has an entry with this id from this writer, or no other one at this position of the writer's.
CREATE FUNCTION tracing_audit_is_there(p_ledger text, p_id uuid, p_writer uuid, p_position bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN EXISTS (SELECT FROM tracing_audit_entries e JOIN tracing_audit_batches b
                       ON b.ledger = p_ledger AND b.first_seq =
                       (SELECT o.first_seq FROM tracing_audit_batches o
                        WHERE o.ledger = p_ledger AND o.first_seq <= e.seq ORDER BY o.first_seq DESC LIMIT 1)
                   WHERE e.ledger = p_ledger AND e.id = p_id AND b.writer = p_writer)
        OR NOT EXISTS (SELECT FROM tracing_audit_batches b JOIN tracing_audit_entries e
                           ON e.ledger = p_ledger AND e.seq = b.first_seq + b.entries - 1 - (b.position - p_position)
                       WHERE b.ledger = p_ledger AND b.writer = p_writer AND b.position >= p_position
                         AND b.position - b.entries < p_position);
END
$$;

-- The first batch with which a writer has gone on after one position, and not beyond another one.
CREATE FUNCTION tracing_audit_batch(p_ledger text, p_writer uuid, p_after bigint, p_until bigint)
RETURNS TABLE (first_seq bigint, entries bigint, "position" bigint) LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN QUERY SELECT b.first_seq, b.entries, b.position FROM tracing_audit_batches b
                 WHERE b.ledger = p_ledger AND b.writer = p_writer AND b.position > p_after AND b.position <= p_until
                 ORDER BY b.position LIMIT 1;
END
$$;

-- What is known of a writer; without one, of those that have not ended. Other roles' writers are not told.
CREATE FUNCTION tracing_audit_known_writers(p_ledger text, p_writer uuid)
RETURNS TABLE (writer uuid, accepted bigint, ended boolean, host text, process text, home text, mounts text, parent text,
               said_at bigint, silent bigint)
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN QUERY
    SELECT w.writer, w.accepted, w.ended_at IS NOT NULL, w.host, w.process, w.home, w.mounts, w.parent,
           CASE WHEN isfinite(w.said_at) THEN (extract(epoch FROM w.said_at) * 1000000)::bigint END,
           CASE WHEN isfinite(w.said_at) THEN (extract(epoch FROM clock_timestamp() - w.said_at) * 1000000)::bigint END
    FROM tracing_audit_writers w
    WHERE w.ledger = p_ledger AND tracing_audit_is_own(w.role)
      AND CASE WHEN p_writer IS NULL THEN w.ended_at IS NULL ELSE w.writer = p_writer END;
END
$$;

-- Writes down what a writer says of itself.
CREATE FUNCTION tracing_audit_goes(p_ledger text, p_writer uuid, p_accepted bigint, p_host text, p_process text, p_home text,
                                   p_mounts text, p_parent text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_role text := (tracing_audit_grant(p_ledger)).role;
BEGIN
    PERFORM tracing_audit_check_writer(p_ledger, p_writer);
    INSERT INTO tracing_audit_writers AS w (ledger, writer, accepted, started_at, said_at, host, process, home, mounts, parent,
                                            role)
    VALUES (p_ledger, p_writer, p_accepted, clock_timestamp(), clock_timestamp(), p_host, p_process, p_home, p_mounts, p_parent,
            v_role)
    ON CONFLICT (ledger, writer) DO UPDATE SET accepted = excluded.accepted, said_at = excluded.said_at,
                                               role = coalesce(w.role, excluded.role);
END
$$;

-- Writes down that nothing of a writer is left to settle.
CREATE FUNCTION tracing_audit_ended(p_ledger text, p_writer uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger), tracing_audit_check_writer(p_ledger, p_writer);
    UPDATE tracing_audit_writers SET ended_at = clock_timestamp()
    WHERE ledger = p_ledger AND writer = p_writer AND ended_at IS NULL;
END
$$;

-- Whether a trigger or a rule, or a view in the place of a table, may change what is written.
CREATE FUNCTION tracing_audit_is_watched() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$
    WITH ours AS MATERIALIZED (
        SELECT array_agg(c.oid) AS oids FROM pg_class c
        WHERE c.relnamespace = (SELECT typnamespace FROM pg_type WHERE oid = pg_typeof(NULL::tracing_audit_grants)::oid)
          AND c.relname::text = ANY (ARRAY['tracing_' || 'audit_entries', 'tracing_' || 'audit_batches',
                  'tracing_' || 'audit_heads', 'tracing_' || 'audit_positions', 'tracing_' || 'audit_writers',
                  'tracing_' || 'audit_quarantine', 'tracing_' || 'audit_leaves', 'tracing_' || 'audit_nodes']))
    SELECT EXISTS (SELECT FROM pg_trigger t, ours WHERE t.tgrelid = ANY (oids) AND NOT t.tgisinternal
                                                    AND t.tgenabled <> 'D' AND t.tgtype & 28 <> 0)
        OR EXISTS (SELECT FROM pg_rewrite r, ours WHERE r.ev_class = ANY (oids) AND r.ev_type <> '1' AND r.ev_enabled <> 'D')
        OR EXISTS (SELECT FROM pg_class c, ours WHERE c.oid = ANY (oids) AND c.relkind NOT IN ('r', 'p'))
$$;

-- Adds a batch at the end of a ledger: entries, what is quarantined before them, and the position that the writer reaches with
-- both. Without a position it is one entry of nobody's queue, as the first one of a writer that nobody knows.
CREATE FUNCTION tracing_audit_append(
    p_ledger text, p_first_seq bigint, p_writer uuid, p_from bigint, p_committed_at timestamptz,
    p_ids uuid[], p_ts timestamptz[], p_workspace_ids uuid[], p_session_ids uuid[], p_agent_ids uuid[], p_actions text[],
    p_resources text[], p_resource_ids text[], p_decisions text[], p_reasons text[], p_risk_scores double precision[],
    p_metadata text[], p_problems text[],
    p_quarantined_ids uuid[], p_errors text[], p_records bytea[],
    p_accepted bigint, p_ends boolean, p_host text, p_process text, p_home text, p_mounts text, p_parent text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    c_limit CONSTANT bigint := 1::bigint << 62;
    v_role text := (tracing_audit_grant(p_ledger)).role;
    v_rows bigint := coalesce(cardinality(p_ids), 0);
    v_records bigint := coalesce(cardinality(p_records), 0);
    v_until bigint := 1;
    v_head tracing_audit_heads;
    v_end bigint;
    v_position bigint;
    v_is_known boolean;
    v_stored bigint := 0;
    v_kept bigint;
    v_least timestamptz;
    v_greatest timestamptz;
    v_as_sent boolean := true;
BEGIN
    SELECT h.* INTO v_head FROM tracing_audit_heads h WHERE h.ledger = p_ledger FOR UPDATE;
    IF v_head.ledger IS NULL THEN
        RAISE EXCEPTION 'the ledger % has no head', quote_nullable(p_ledger) USING ERRCODE = 'TA003';
    END IF;

    -- A position only grows, by the entries that are added or kept in quarantine. What is left out is told by the first entry.
    -- A writer that nobody knows may begin anywhere: one goes on so whose positions a copy of its process has used.
    v_position := coalesce((SELECT p.position FROM tracing_audit_positions p
                            WHERE p.ledger = p_ledger AND p.writer = p_writer), 0);
    IF p_from IS DISTINCT FROM v_position THEN
        v_is_known := EXISTS (SELECT FROM tracing_audit_positions p WHERE p.ledger = p_ledger AND p.writer = p_writer)
                   OR EXISTS (SELECT FROM tracing_audit_writers w WHERE w.ledger = p_ledger AND w.writer = p_writer);
    END IF;
    IF p_from IS NULL THEN
        IF (v_rows = 1 AND v_records = 0 AND NOT v_is_known) IS NOT TRUE THEN
            RAISE EXCEPTION 'without a position there is one entry, of a writer that nobody knows' USING ERRCODE = 'TA004';
        END IF;
    ELSE
        PERFORM tracing_audit_check_writer(p_ledger, p_writer);
        IF p_from <> v_position THEN
            v_position := tracing_audit_backed(p_ledger, p_writer);
        END IF;
        IF (p_from < c_limit
            AND (p_from = v_position
                 OR p_from > v_position AND (v_records > 0 OR p_actions[1] = 'audit.gap' OR NOT v_is_known))) IS NOT TRUE THEN
            RAISE EXCEPTION 'the writer % is at position %, and goes on after % without an entry that tells it', p_writer,
                v_position, p_from USING ERRCODE = 'TA004';
        END IF;
        v_until := p_from + v_records + v_rows;
    END IF;

    IF v_rows > 0 THEN
        -- Numbers are without holes. If entries were removed, they go on after those that were given out, with an entry that
        -- tells it.
        SELECT max(one) INTO v_end FROM (
            VALUES (v_head.next_seq), (v_head.given),
                   ((SELECT e.seq + 1 FROM tracing_audit_entries e WHERE e.ledger = p_ledger AND e.seq < c_limit
                     ORDER BY e.seq DESC LIMIT 1)),
                   ((SELECT b.first_seq + b.entries FROM tracing_audit_batches b
                     WHERE b.ledger = p_ledger AND b.first_seq < c_limit ORDER BY b.first_seq DESC LIMIT 1))) AS ends (one)
        WHERE one >= 0 AND one < c_limit;
        IF (p_first_seq = v_end
            OR p_first_seq > v_end AND p_first_seq - v_end <= 1048576 AND v_rows = 1 AND p_actions[1] = 'audit.gap') IS NOT TRUE
        THEN
            RAISE EXCEPTION 'the ledger ends at %, and entries were sent from % on', v_end, p_first_seq USING ERRCODE = 'TA005';
        END IF;
        -- It is committed to in the leaves, which the client makes, so the client gives back what it was told.
        IF (p_committed_at <= clock_timestamp() AND p_committed_at > clock_timestamp() - interval '2 minutes') IS NOT TRUE THEN
            RAISE EXCEPTION '% is not the time of this server', p_committed_at USING ERRCODE = 'TA006';
        END IF;
        SELECT min(ts), max(ts) INTO v_least, v_greatest FROM unnest(p_ts) AS ts;
        IF (v_least >= '0001-01-01 00:00:00+00' AND v_greatest < '10000-01-01 00:00:00+00') IS NOT TRUE THEN
            RAISE EXCEPTION 'the times of the entries are not between the years 1 and 9999' USING ERRCODE = 'TA006';
        END IF;
        INSERT INTO tracing_audit_entries (ledger, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id,
                                           decision, reason, risk_score, metadata, problems)
        SELECT p_ledger, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
               risk_score, metadata::json, problems::json
        -- Appending was 10 to 27 % faster so than with the arrays in FROM, of which the server makes a table first.
        FROM (SELECT generate_series(p_first_seq, p_first_seq + v_rows - 1) AS seq, unnest(p_ids) AS id, unnest(p_ts) AS ts,
                     unnest(p_workspace_ids) AS workspace_id, unnest(p_session_ids) AS session_id,
                     unnest(p_agent_ids) AS agent_id, unnest(p_actions) AS action, unnest(p_resources) AS resource,
                     unnest(p_resource_ids) AS resource_id, unnest(p_decisions) AS decision, unnest(p_reasons) AS reason,
                     unnest(p_risk_scores) AS risk_score, unnest(p_metadata) AS metadata, unnest(p_problems) AS problems
              OFFSET 0) AS new;
        GET DIAGNOSTICS v_stored = ROW_COUNT;
        INSERT INTO tracing_audit_batches (ledger, first_seq, entries, writer, position, committed_at, least_ts, greatest_ts)
        VALUES (p_ledger, p_first_seq, v_rows, p_writer, v_until, p_committed_at, v_least, v_greatest);
        UPDATE tracing_audit_heads h SET next_seq = p_first_seq + v_rows, given = p_first_seq + v_rows WHERE h.ledger = p_ledger;
    END IF;

    IF v_records > 0 THEN
        INSERT INTO tracing_audit_quarantine (ledger, writer, position, id, error, record, quarantined_at)
        SELECT p_ledger, p_writer, p_from + n, id, error, record, clock_timestamp()
        FROM unnest(p_quarantined_ids, p_errors, p_records) WITH ORDINALITY AS new (id, error, record, n);
        GET DIAGNOSTICS v_kept = ROW_COUNT;
        v_as_sent := v_kept = v_records;
    END IF;

    IF p_from IS NOT NULL THEN
        INSERT INTO tracing_audit_writers AS w (ledger, writer, next_seq, quarantined, accepted, started_at, said_at, ended_at,
                                                host, process, home, mounts, parent, role)
        VALUES (p_ledger, p_writer, CASE WHEN v_rows > 0 THEN p_first_seq + v_rows END,
                CASE WHEN v_records > 0 THEN p_from + v_records END, p_accepted,
                CASE WHEN p_accepted IS NOT NULL THEN clock_timestamp() END,
                CASE WHEN p_accepted IS NOT NULL THEN clock_timestamp() END, CASE WHEN p_ends THEN clock_timestamp() END,
                p_host, p_process, p_home, p_mounts, p_parent, v_role)
        ON CONFLICT (ledger, writer) DO UPDATE SET next_seq = coalesce(excluded.next_seq, w.next_seq),
                                                   quarantined = coalesce(excluded.quarantined, w.quarantined),
                                                   accepted = coalesce(excluded.accepted, w.accepted),
                                                   said_at = coalesce(excluded.said_at, w.said_at),
                                                   ended_at = coalesce(excluded.ended_at, w.ended_at),
                                                   role = coalesce(w.role, excluded.role);
        INSERT INTO tracing_audit_positions (ledger, writer, position) VALUES (p_ledger, p_writer, v_until)
        ON CONFLICT (ledger, writer) DO UPDATE SET position = excluded.position;
    END IF;

    v_as_sent := v_as_sent AND v_stored = v_rows;
    IF v_as_sent AND tracing_audit_is_watched() THEN
        -- Triggers that wait for the commit run now.
        SET CONSTRAINTS ALL IMMEDIATE;
        v_as_sent := (v_rows = 0
                OR (SELECT count(*) FROM tracing_audit_entries e WHERE e.ledger = p_ledger AND e.seq >= p_first_seq) = v_rows
               AND (SELECT count(*)
                    FROM unnest(p_ids, p_ts, p_workspace_ids, p_session_ids, p_agent_ids, p_actions, p_resources, p_resource_ids,
                                p_decisions, p_reasons, p_risk_scores, p_metadata, p_problems)
                         WITH ORDINALITY AS new (id, ts, workspace_id, session_id, agent_id, action, resource, resource_id,
                                                 decision, reason, risk_score, metadata, problems, n)
                    JOIN tracing_audit_entries e ON e.ledger = p_ledger AND e.seq = p_first_seq + n - 1
                    WHERE (e.id, e.ts, e.workspace_id, e.session_id, e.agent_id, e.action, e.resource, e.resource_id, e.decision,
                           e.reason, e.risk_score, e.metadata::text, e.problems::text)
                          IS NOT DISTINCT FROM (new.id, new.ts, new.workspace_id, new.session_id, new.agent_id, new.action,
                                                new.resource, new.resource_id, new.decision, new.reason, new.risk_score,
                                                new.metadata, new.problems)) = v_rows
               AND (SELECT h.next_seq FROM tracing_audit_heads h WHERE h.ledger = p_ledger)
                   IS NOT DISTINCT FROM p_first_seq + v_rows
               AND EXISTS (SELECT FROM tracing_audit_batches b
                           WHERE b.ledger = p_ledger AND b.first_seq = p_first_seq AND b.entries = v_rows
                             AND b.committed_at = p_committed_at))
            AND (p_from IS NULL
                OR EXISTS (SELECT FROM tracing_audit_positions p
                           WHERE p.ledger = p_ledger AND p.writer = p_writer AND p.position = v_until)
               AND (SELECT coalesce(array_agg(q.record ORDER BY q.position), '{}') FROM tracing_audit_quarantine q
                    WHERE q.ledger = p_ledger AND q.writer = p_writer AND q.position > p_from)
                   IS NOT DISTINCT FROM coalesce(p_records, '{}'));
    END IF;
    IF v_as_sent IS NOT TRUE THEN
        RAISE EXCEPTION 'the tables do not hold what was sent' USING ERRCODE = 'TA007',
            HINT = 'look for a trigger or a rule on the audit tables';
    END IF;
END
$$;

-- Adds the leaves of the ledger's last batch to its tree, which has the leaves of all entries before it. The hashes are the
-- client's; whether they are right, `tracing-audit verify` says.
CREATE FUNCTION tracing_audit_prove(p_ledger text, p_first_seq bigint, p_frontier bytea, p_seeds bytea, p_leaves bytea,
                                    p_levels smallint[], p_indexes bigint[], p_hashes bytea[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_head tracing_audit_heads;
    v_rows bigint;
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    SELECT h.* INTO v_head FROM tracing_audit_heads h WHERE h.ledger = p_ledger FOR UPDATE;
    SELECT b.entries INTO v_rows FROM tracing_audit_batches b WHERE b.ledger = p_ledger AND b.first_seq = p_first_seq;
    IF (v_head.tree_size = p_first_seq AND v_head.next_seq = p_first_seq + v_rows
        AND octet_length(p_seeds) = 16 AND octet_length(p_leaves) = 32 * v_rows
        AND octet_length(p_frontier) = 32 * bit_count(v_head.next_seq::bit(64))
        -- The nodes that become full, each once, and no others.
        AND coalesce(cardinality(p_levels), 0)
            = (SELECT sum((v_head.next_seq >> level) - (p_first_seq >> level)) FROM generate_series(8, 56, 8) AS level)
        AND coalesce(cardinality(p_levels), 0)
            = (SELECT count(DISTINCT (level, idx)) FROM unnest(p_levels, p_indexes, p_hashes) AS node (level, idx, hash)
               WHERE level BETWEEN 8 AND 56 AND level % 8 = 0 AND octet_length(hash) = 32
                 AND idx >= p_first_seq >> level AND idx < v_head.next_seq >> level)) IS NOT TRUE THEN
        RAISE EXCEPTION 'these are not the leaves of the ledger''s last batch' USING ERRCODE = 'TA008';
    END IF;
    UPDATE tracing_audit_heads h SET tree_size = h.next_seq, frontier = p_frontier WHERE h.ledger = p_ledger;
    INSERT INTO tracing_audit_leaves (ledger, first_seq, seeds, leaves) VALUES (p_ledger, p_first_seq, p_seeds, p_leaves);
    INSERT INTO tracing_audit_nodes (ledger, level, idx, hash)
    SELECT p_ledger, level, idx, hash FROM unnest(p_levels, p_indexes, p_hashes) AS node (level, idx, hash)
    ON CONFLICT DO NOTHING;
END
$$;

-- The first entry in quarantine after another one.
CREATE FUNCTION tracing_audit_next_quarantined(p_ledger text, p_time timestamptz, p_writer uuid, p_position bigint)
RETURNS TABLE (quarantined_at timestamptz, writer uuid, "position" bigint, record bytea) LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    RETURN QUERY SELECT q.quarantined_at, q.writer, q.position, q.record FROM tracing_audit_quarantine q
                 WHERE q.ledger = p_ledger AND (q.quarantined_at, q.writer, q.position) > (p_time, p_writer, p_position)
                 ORDER BY q.quarantined_at, q.writer, q.position LIMIT 1;
END
$$;

-- Takes an entry out of quarantine that this transaction has added to the ledger.
CREATE FUNCTION tracing_audit_readmitted(p_ledger text, p_writer uuid, p_position bigint, p_seq bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM tracing_audit_grant(p_ledger);
    DELETE FROM tracing_audit_quarantine q
    WHERE q.ledger = p_ledger AND q.writer = p_writer AND q.position = p_position
      AND EXISTS (SELECT FROM tracing_audit_entries e WHERE e.ledger = p_ledger AND e.seq = p_seq
                    AND e.xmin = pg_current_xact_id()::xid AND (q.id IS NULL OR e.id = q.id));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this transaction has not added the entry at position % of %', p_position, p_writer
            USING ERRCODE = 'TA004';
    END IF;
END
$$;

-- Records a read, or its end, once. The server fills in the time and the role.
CREATE FUNCTION tracing_audit_record_read(p_id uuid, p_ends uuid, p_reader text, p_action text, p_query text, p_entries bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF (octet_length(p_reader) <= 4096 AND p_action ~ '^[a-z_]{1,64}$' AND octet_length(p_query) <= 1048576
        AND (p_entries IS NULL OR p_entries >= 0)
        AND (p_ends IS NULL OR EXISTS (SELECT FROM tracing_audit_reads r
                                       WHERE r.id = p_ends AND r.ends IS NULL AND r.role = session_user))) IS NOT TRUE
       OR (json_typeof(p_query::json) = 'object') IS NOT TRUE THEN
        RAISE EXCEPTION 'this is no record of a read' USING ERRCODE = 'TA009';
    END IF;
    INSERT INTO tracing_audit_reads (id, ends, reader, action, query, entries)
    VALUES (p_id, p_ends, p_reader, p_action, p_query::json, p_entries) ON CONFLICT (id) DO NOTHING;
END
$$;

-- Who may create functions or operators in the schema of the tables could put them in the place of the server's own, by
-- arguments that fit better. So the functions look nowhere but in pg_catalog, and name the schema of each of our objects. They
-- belong to the owner of the tables, whoever runs this. What others have made with such a name is left alone.
DO $$
DECLARE
    v_schema name := pg_catalog.current_schema();
    v_owner text;
    v_prefix text;
    v_function regprocedure;
BEGIN
    -- Nor do these statements call functions of others.
    SET LOCAL search_path = pg_catalog, pg_temp;
    v_prefix := replace(quote_ident(v_schema::text), '\', '\\') || '.tracing_audit_';
    SELECT c.relowner::regrole::text INTO v_owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = v_schema AND c.relname = 'tracing_audit_entries';
    FOR v_function IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                      WHERE n.nspname = v_schema AND p.proname LIKE 'tracing\_audit\_%' AND p.prosecdef
                        AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = current_user) LOOP
        -- The schema may have such a name, too.
        EXECUTE regexp_replace(pg_get_functiondef(v_function), '(^|[^.\w"])tracing_audit_(?![\w$]*[.])', '\1' || v_prefix, 'g');
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', v_function);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', v_function, v_owner);
    END LOOP;
    EXECUTE format('ALTER TABLE %I.tracing_audit_grants OWNER TO %s', v_schema, v_owner);
END
$$;
