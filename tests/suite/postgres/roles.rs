//! Roles: what those of `migrations/postgres/roles.sql` can do, and what each of them is refused, on the server itself and behind
//! a pooler.

use std::{
    str::FromStr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tracing_audit::{
    AuditEntry, AuditLog, AuditQuery, AuditReader, Health, Integrity, SequencedEntry, Store,
    evidence::Verification, index::IndexOn, query::Column,
};
use uuid::Uuid;

use crate::support::{
    self, Stored, assert_balanced, assert_tree, block_on, commit, entry,
    postgres::{Pooler, Server, as_role, guarded_database},
    run, settle, texts,
};

/// A server of these tests' own.
fn own_server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let mut server = Server::new();
        server.command("start");
        server
    });
    &SERVER
}

/// A database in which `billing` may write the ledger `billing`, `payroll` may write `payroll`, both may write `shared`, and
/// `billing` may begin two that start with `month-`.
fn desk() -> String {
    let url = guarded_database(own_server());
    run(
        &url,
        "INSERT INTO tracing_audit_grants (role, ledger) VALUES
             ('billing', 'billing'), ('payroll', 'payroll'), ('billing', 'shared'), ('payroll', 'shared');
         INSERT INTO tracing_audit_grants VALUES ('billing', 'month-*', 2)",
    );
    url
}

fn open_as(url: &str, role: &str, ledger: &str) -> AuditLog {
    let builder =
        support::builder(Store::postgres(&as_role(url, role)).unwrap()).ledger(ledger).on_notice(|_| {});
    let builder = builder.in_memory_queue().queue_max_entries(10_000).queue_max_bytes(1 << 22);
    builder.blocking().open().unwrap()
}

/// The entries of a ledger, in their order.
fn entries_of(url: &str, ledger: &str) -> Vec<SequencedEntry> {
    let reader = AuditReader::new(Store::postgres(&as_role(url, "auditor")).unwrap());
    reader.blocking().page(AuditQuery::new().ledger(ledger), None, 1000).unwrap().entries
}

/// Runs statements, also through a pooler.
fn attempt(url: &str, sql: &str) -> sqlx::Result<()> {
    block_on(async {
        // A pooler refuses a connection with a setting that it does not know.
        let options = PgConnectOptions::from_str(url).unwrap().extra_float_digits(None);
        let mut connection = PgConnection::connect_with(&options).await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        connection.close().await?;
        done.map(drop)
    })
}

/// The code with which the server refuses these statements.
fn refused(url: &str, sql: &str) -> String {
    match attempt(url, sql) {
        Ok(()) => "nothing".to_owned(),
        Err(cause) => cause.as_database_error().unwrap().code().unwrap().into_owned(),
    }
}

/// A call of `tracing_audit_append` for one entry of `billing` that the server accepts, with these parameters changed.
fn append(changed: &[(&str, &str)]) -> String {
    let end =
        "(SELECT h.next_seq FROM tracing_audit_hold(LEDGER, 1::bigint << 62, true, NULL, p.writer, NULL) h)";
    let given = [
        ("p_ledger", "'billing'"),
        ("p_first_seq", end),
        ("p_writer", "p.writer"),
        ("p_from", "0"),
        ("p_committed_at", "clock_timestamp()"),
        ("p_ids", "ARRAY[gen_random_uuid()]"),
        ("p_ts", "ARRAY[now()]"),
        ("p_workspace_ids", "ARRAY['00000000-0000-0000-0000-000000000000'::uuid]"),
        ("p_session_ids", "ARRAY[NULL::uuid]"),
        ("p_agent_ids", "ARRAY[NULL::uuid]"),
        ("p_actions", "ARRAY['forged']"),
        ("p_resources", "ARRAY['document']"),
        ("p_resource_ids", "ARRAY[NULL]"),
        ("p_decisions", "ARRAY['Allow']"),
        ("p_reasons", "ARRAY[NULL]"),
        ("p_risk_scores", "ARRAY[0.5]"),
        ("p_metadata", "ARRAY['{}']"),
        ("p_problems", "ARRAY[NULL]"),
        ("p_quarantined_ids", "'{}'"),
        ("p_errors", "'{}'"),
        ("p_records", "'{}'"),
        ("p_accepted", "1"),
        ("p_ends", "false"),
        ("p_host", "NULL"),
        ("p_process", "NULL"),
        ("p_home", "NULL"),
        ("p_mounts", "NULL"),
        ("p_parent", "NULL"),
    ];
    assert!(changed.iter().all(|(name, _)| given.iter().any(|(known, _)| known == name)), "{changed:?}");
    let value = |name: &str, value: &str| {
        let changed = changed.iter().find(|(changed, _)| *changed == name);
        changed.map_or(value, |(_, value)| value).to_owned()
    };
    let parameters: Vec<_> =
        given.iter().map(|(name, given)| format!("{name} => {}", value(name, given))).collect();
    let call = parameters.join(", ").replace("LEDGER", &value("p_ledger", "'billing'"));
    format!("SELECT tracing_audit_append({call}) FROM (SELECT gen_random_uuid() AS writer) p")
}

/// What is in the tables of the database, but for what grows by itself.
fn contents(url: &str) -> Vec<String> {
    [
        "SELECT e::text FROM tracing_audit_entries e ORDER BY ledger, seq",
        "SELECT b::text FROM tracing_audit_batches b ORDER BY ledger, first_seq",
        "SELECT h::text FROM tracing_audit_heads h ORDER BY ledger",
        "SELECT p::text FROM tracing_audit_positions p ORDER BY ledger, writer",
        "SELECT w::text FROM tracing_audit_writers w ORDER BY ledger, writer",
        "SELECT q::text FROM tracing_audit_quarantine q ORDER BY ledger, writer, position",
        "SELECT l::text FROM tracing_audit_leaves l ORDER BY ledger, first_seq",
        "SELECT n::text FROM tracing_audit_nodes n ORDER BY ledger, level, idx",
        "SELECT r::text FROM tracing_audit_reads r ORDER BY id",
        "SELECT g::text FROM tracing_audit_grants g ORDER BY role, ledger",
        "SELECT m::text FROM tracing_audit_migrations m ORDER BY version",
    ]
    .into_iter()
    .flat_map(|sql| texts(url, sql))
    .collect()
}

/// Acts on the tables, their owner's functions, what they find by name, and who one is.
const ACTS: [&str; 38] = [
    "UPDATE tracing_audit_heads SET next_seq = 0, given = 0",
    "UPDATE tracing_audit_heads SET frontier = ''",
    "INSERT INTO tracing_audit_heads (ledger, next_seq) SELECT 'forged' || n, 0 FROM generate_series(1, 5000) n",
    "DELETE FROM tracing_audit_heads",
    "INSERT INTO tracing_audit_batches VALUES ('billing', 1, 1, gen_random_uuid(), 1, 'infinity', now(), 'infinity')",
    "UPDATE tracing_audit_batches SET committed_at = '2000-01-01'",
    "INSERT INTO tracing_audit_entries (ledger, seq, id, ts, workspace_id, action, resource, decision, metadata)
     VALUES ('billing', 2, gen_random_uuid(), now(), gen_random_uuid(), 'forged', 'document', 'Allow', '{}')",
    "INSERT INTO tracing_audit_entries (ledger, seq, id, ts, workspace_id, action, resource, decision, metadata)
     VALUES ('payroll', 0, gen_random_uuid(), now(), gen_random_uuid(), 'forged', 'document', 'Allow', '{}')",
    "COPY tracing_audit_entries FROM STDIN",
    "UPDATE tracing_audit_entries SET action = 'c'",
    "DELETE FROM tracing_audit_entries",
    "TRUNCATE tracing_audit_entries",
    "UPDATE tracing_audit_positions SET position = 1000000",
    "INSERT INTO tracing_audit_positions VALUES ('billing', gen_random_uuid(), 1)",
    "UPDATE tracing_audit_writers SET ended_at = now(), accepted = 0",
    "DELETE FROM tracing_audit_quarantine",
    "INSERT INTO tracing_audit_quarantine VALUES ('billing', gen_random_uuid(), 1, NULL, '', '', now())",
    "INSERT INTO tracing_audit_leaves VALUES ('billing', 2, '', '')",
    "DELETE FROM tracing_audit_nodes",
    "DELETE FROM tracing_audit_reads",
    "UPDATE tracing_audit_reads SET reader = 'Bob'",
    "INSERT INTO tracing_audit_reads (id, reader, action, query) VALUES (gen_random_uuid(), 'Bob', 'query', '{}')",
    "INSERT INTO tracing_audit_grants VALUES (session_user, '*', 1000000)",
    "INSERT INTO tracing_audit_migrations VALUES (1000, now())",
    "CREATE OR REPLACE FUNCTION tracing_audit_version() RETURNS bigint LANGUAGE sql AS 'SELECT 1000::bigint'",
    "ALTER FUNCTION tracing_audit_version() RESET ALL",
    "CREATE TRIGGER t BEFORE INSERT ON tracing_audit_entries FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "DROP TABLE tracing_audit_entries",
    "BEGIN; LOCK TABLE tracing_audit_heads IN EXCLUSIVE MODE; COMMIT",
    "SELECT ledger FROM tracing_audit_heads FOR UPDATE",
    "CREATE POLICY p ON tracing_audit_entries USING (false)",
    "ALTER TABLE tracing_audit_entries ENABLE ROW LEVEL SECURITY",
    "SET session_replication_role = replica",
    "SET SESSION AUTHORIZATION payroll",
    "SET ROLE postgres",
    "GRANT audit_operator TO payroll",
    "SELECT tracing_audit_grant('billing')",
    "SELECT tracing_audit_is_watched()",
];

#[test]
fn none_of_the_roles_can_change_a_table_or_a_function() {
    let url = desk();
    let log = open_as(&url, "billing", "billing");
    (0..2).for_each(|seq| assert_eq!(commit(&log, entry("a")), seq));
    let before = contents(&url);
    for role in ["billing", "auditor", "admin"] {
        let pooler = Pooler::before_as(own_server(), role);
        let through = pooler.database(url.rsplit('/').next().unwrap());
        let through = through.split_once('?').unwrap().0;
        for act in ACTS {
            assert_eq!(refused(&as_role(&url, role), act), "42501", "{role}: {act}");
            assert_eq!(refused(through, act), "42501", "{role}, behind a pooler: {act}");
        }
        // Other tables in front of the real ones catch nothing.
        let decoy = "CREATE TEMP TABLE tracing_audit_heads (ledger text, next_seq bigint);
                     CREATE TEMP TABLE tracing_audit_grants (role text, ledger text, most bigint);
                     INSERT INTO tracing_audit_grants VALUES (session_user, 'payroll', 9);
                     SET search_path = pg_temp, public; SELECT tracing_audit_begin('payroll')";
        let code = if role == "auditor" { "42501" } else { "TA001" };
        if role != "admin" {
            assert_eq!(refused(&as_role(&url, role), decoy), code, "{role}");
        }
    }
    for (role, act) in [
        ("billing", "SELECT FROM tracing_audit_entries"),
        ("admin", "SELECT FROM tracing_audit_entries"),
        ("billing", "SELECT FROM tracing_audit_migrations"),
        ("billing", "SELECT tracing_audit_readmitted('billing', gen_random_uuid(), 1, 1)"),
        ("billing", "SELECT tracing_audit_record_read(gen_random_uuid(), NULL, 'Ada', 'query', '{}', 0)"),
        ("auditor", "SELECT tracing_audit_ended('billing', gen_random_uuid())"),
        ("auditor", "SELECT tracing_audit_hold('billing', 9, true, NULL, gen_random_uuid(), NULL)"),
        ("auditor", "SELECT tracing_audit_holds('billing', gen_random_uuid())"),
    ] {
        assert_eq!(refused(&as_role(&url, role), act), "42501", "{role}: {act}");
    }
    assert_eq!(contents(&url), before);
    // Nor do functions and operators that fit better than the server's own, where they may be made.
    run(&url, "GRANT CREATE ON SCHEMA public TO payroll");
    let hijack = "CREATE FUNCTION cardinality(uuid[]) RETURNS integer LANGUAGE plpgsql
                      AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
                  CREATE FUNCTION shifted(bigint, smallint) RETURNS bigint LANGUAGE plpgsql
                      AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
                  CREATE OPERATOR >> (LEFTARG = bigint, RIGHTARG = smallint, FUNCTION = shifted);
                  CREATE FUNCTION tracing_audit_grant(varchar) RETURNS text LANGUAGE sql AS 'SELECT session_user'";
    attempt(&as_role(&url, "payroll"), hijack).unwrap();
    let hijacked = refused(&as_role(&url, "payroll"), "SELECT cardinality('{}'::uuid[])");
    assert_eq!(hijacked, "P0001");
    for seq in 2..300 {
        log.writer().try_write(entry(seq.to_string())).unwrap();
    }
    settle(&log.writer());
    assert_eq!(log.stats().retries, 0, "{:?}", log.stats().last_error);
    assert_eq!(commit(&log, entry("a")), 300);
    assert_tree(&url);
}

/// Calls that somebody makes who has the writer's role, and the code with which each is refused.
fn forgeries(victim: Uuid, dead: Uuid) -> Vec<(String, &'static str)> {
    let of_victim = format!("'{victim}'");
    let of_dead = format!("'{dead}'");
    let changed = |changed: &[(&str, &str)], code| (append(changed), code);
    let prove = |first_seq: &str, frontier: &str, seeds: &str, leaves: &str, nodes: &str| {
        let call =
            format!("tracing_audit_prove('billing', {first_seq}, {frontier}, {seeds}, {leaves}, {nodes})");
        (format!("SELECT {call}"), "TA008")
    };
    let (hash, nodes) = ("decode(repeat('00', 32), 'hex')", "'{}', '{}', '{}'");
    let seed = "decode(repeat('00', 16), 'hex')";
    vec![
        // Another ledger, which this role may not write.
        changed(&[("p_ledger", "'payroll'"), ("p_first_seq", "0")], "TA001"),
        changed(&[("p_ledger", "'month-'"), ("p_first_seq", "0")], "TA003"),
        changed(&[("p_ledger", "NULL"), ("p_first_seq", "0")], "TA001"),
        ("SELECT tracing_audit_begin('payroll')".to_owned(), "TA001"),
        ("SELECT tracing_audit_begin('forged' || n) FROM generate_series(1, 5000) n".to_owned(), "TA001"),
        ("SELECT tracing_audit_begin('month-' || n) FROM generate_series(1, 5000) n".to_owned(), "TA001"),
        ("SELECT tracing_audit_hold('payroll', 9, true, NULL, gen_random_uuid(), NULL)".to_owned(), "TA001"),
        ("SELECT tracing_audit_known_writers('payroll', NULL)".to_owned(), "TA001"),
        ("SELECT tracing_audit_holds('payroll', gen_random_uuid())".to_owned(), "TA001"),
        (
            "SELECT tracing_audit_is_there('payroll', gen_random_uuid(), gen_random_uuid(), 1)".to_owned(),
            "TA001",
        ),
        // A place that is not the end.
        changed(&[("p_first_seq", "0")], "TA005"),
        changed(&[("p_first_seq", "4")], "TA005"),
        changed(&[("p_first_seq", "-1")], "TA005"),
        changed(&[("p_first_seq", "NULL")], "TA005"),
        changed(&[("p_first_seq", "9223372036854775807")], "TA005"),
        changed(&[("p_first_seq", "4611686018427387904"), ("p_actions", "ARRAY['audit.gap']")], "TA005"),
        // Another time than the server's, or than an entry can have.
        changed(&[("p_committed_at", "clock_timestamp() - interval '1 hour'")], "TA006"),
        changed(&[("p_committed_at", "clock_timestamp() + interval '1 minute'")], "TA006"),
        changed(&[("p_committed_at", "'infinity'")], "TA006"),
        changed(&[("p_committed_at", "NULL")], "TA006"),
        changed(&[("p_ts", "ARRAY['infinity'::timestamptz]")], "TA006"),
        changed(&[("p_ts", "ARRAY['-infinity'::timestamptz]")], "TA006"),
        changed(&[("p_ts", "ARRAY['0044-03-15 BC'::timestamptz]")], "TA006"),
        // Arrays of different lengths, and values that are no entry's.
        changed(&[("p_ts", "ARRAY[now(), now()]")], "23502"),
        changed(&[("p_reasons", "ARRAY['a', 'b']")], "23502"),
        changed(&[("p_metadata", "ARRAY['{']")], "22P02"),
        // A position that is another role's, that was passed, or that skips what a dead process has accepted.
        changed(&[("p_ledger", "'shared'"), ("p_writer", &of_victim), ("p_from", "1")], "TA002"),
        changed(&[("p_ledger", "'shared'"), ("p_writer", &of_victim), ("p_from", "NULL")], "TA004"),
        (
            format!("SELECT tracing_audit_goes('shared', {of_victim}, 9, NULL, NULL, NULL, NULL, NULL)"),
            "TA002",
        ),
        (format!("SELECT tracing_audit_ended('shared', {of_victim})"), "TA002"),
        // What others read, too long or too great.
        (
            "SELECT tracing_audit_goes('billing', gen_random_uuid(), 9, repeat('a', 10000), NULL, NULL, NULL, NULL)"
                .to_owned(),
            "23514",
        ),
        (
            "SELECT tracing_audit_goes('billing', gen_random_uuid(), 9223372036854775807, NULL, NULL, NULL, NULL, NULL)"
                .to_owned(),
            "23514",
        ),
        changed(&[("p_accepted", "-1")], "23514"),
        changed(&[("p_writer", &of_dead), ("p_from", "1000000")], "TA004"),
        changed(&[("p_writer", &of_dead), ("p_from", "0")], "TA004"),
        changed(&[("p_writer", &of_dead), ("p_from", "-1")], "TA004"),
        changed(&[("p_writer", &of_dead), ("p_from", "NULL")], "TA004"),
        changed(&[("p_from", "9223372036854775807"), ("p_actions", "ARRAY['audit.gap']")], "TA004"),
        // Leaves of other sizes, or of another batch, and nodes that are not full.
        prove("1", hash, seed, hash, nodes),
        prove("2", hash, seed, hash, nodes),
        prove("0", hash, seed, hash, nodes),
        prove("NULL", hash, seed, hash, nodes),
        prove("1", hash, seed, hash, &format!("ARRAY[8]::smallint[], ARRAY[0]::bigint[], ARRAY[{hash}]")),
    ]
}

/// Makes two writers: one of `payroll` in the shared ledger, and a dead one of `billing`, each at position 2.
fn writers(url: &str) -> (Uuid, Uuid) {
    let log = open_as(url, "payroll", "shared");
    (0..2).for_each(|seq| assert_eq!(commit(&log, entry("a")), seq));
    let log = open_as(url, "billing", "billing");
    (0..2).for_each(|seq| assert_eq!(commit(&log, entry("a")), seq));
    let writer = |sql| texts(url, sql)[0].parse().unwrap();
    (
        writer("SELECT writer::text FROM tracing_audit_positions WHERE ledger = 'shared'"),
        writer("SELECT writer::text FROM tracing_audit_positions WHERE ledger = 'billing'"),
    )
}

#[test]
fn a_forged_call_is_refused_by_the_server_also_behind_a_pooler() {
    let url = desk();
    let (victim, dead) = writers(&url);
    let before = contents(&url);
    let pooler = Pooler::before_as(own_server(), "billing");
    let through = pooler.database(url.rsplit('/').next().unwrap());
    let through = through.split_once('?').unwrap().0;
    for (call, code) in forgeries(victim, dead) {
        assert_eq!(refused(&as_role(&url, "billing"), &call), code, "{call}");
        assert_eq!(refused(through, &call), code, "{call}");
    }
    for (call, code) in [
        ("SELECT tracing_audit_readmitted('billing', gen_random_uuid(), 1, 1)", "TA004"),
        ("SELECT tracing_audit_begin('forged')", "TA001"),
    ] {
        assert_eq!(refused(&as_role(&url, "admin"), call), code, "{call}");
    }
    assert_eq!(contents(&url), before);

    // The call that all of these change is accepted, and adds what a log would have added.
    attempt(through, &append(&[])).unwrap();
    let log = open_as(&url, "billing", "billing");
    assert!(commit(&log, entry("a")) >= 3);
    let found = entries_of(&url, "billing");
    let found: Vec<_> = found.iter().filter(|found| found.entry.action == "forged").collect();
    assert_eq!(found.len(), 1);
}

#[test]
fn a_log_that_only_calls_functions_keeps_its_promises_through_a_pooler() {
    let url = desk();
    let pooler = Pooler::before_as(own_server(), "billing");
    let database = url.rsplit('/').next().unwrap();
    let through = pooler.database(database);
    // What another client of the pooler has left in its connections catches nothing.
    let names = [
        "entries",
        "heads",
        "batches",
        "positions",
        "writers",
        "quarantine",
        "leaves",
        "nodes",
        "migrations",
    ];
    let tables =
        names.map(|name| format!("CREATE TEMP TABLE tracing_audit_{name} (ledger text, next_seq bigint)"));
    let left = "CREATE TEMP TABLE tracing_audit_grants (role text, ledger text, most bigint);
                INSERT INTO tracing_audit_grants VALUES (session_user, '*', 9); CREATE TYPE pg_temp.uuid AS (a text);
                SET search_path = pg_temp, public";
    pooler.in_each_connection(database, &format!("{}; {left}", tables.join("; ")));
    let logs = [(); 2].map(|()| {
        let builder =
            support::builder(Store::postgres(&through).unwrap()).ledger("billing").on_notice(|_| {});
        let builder = builder.in_memory_queue().queue_max_entries(10_000).queue_max_bytes(1 << 22);
        builder.blocking().open().unwrap()
    });
    let edges = AuditEntry {
        session_id: Some(Uuid::from_u128(1)),
        agent_id: Some(Uuid::from_u128(2)),
        resource_id: Some("\u{10ffff}\t\\N,\"{}".to_owned()),
        reason: Some(String::new()),
        risk_score: -0.1,
        metadata: serde_json::json!({ "whole": [1, 2.5, null, "\n"], "NULL": "NULL" }),
        ts: "1969-12-31T23:59:59.999999Z".parse().unwrap(),
        ..entry("NULL")
    };
    // Enough for nodes of the tree.
    for number in 0..300 {
        for log in &logs {
            log.writer().try_write(entry(number.to_string())).unwrap();
        }
    }
    commit(&logs[0], edges.clone());
    assert!(logs[1].writer().blocking().commit(edges.clone()).unwrap_err().is_duplicate());
    for log in &logs {
        settle(&log.writer());
        assert_balanced(&log.stats());
        assert_eq!((log.health(), log.stats().retries), (Health::Healthy, 0), "{:?}", log.stats().last_error);
    }
    let found = entries_of(&url, "billing");
    assert!(found.iter().map(|found| found.seq).eq(0..601));
    assert!(found.iter().any(|found| found.entry == edges));
    let stored = Stored::at(&url);
    assert_eq!(stored.size, stored.next_seq);
    assert_tree(&url);
    // The time of a commit is the server's.
    let late = "SELECT count(*)::text FROM tracing_audit_batches
                WHERE committed_at NOT BETWEEN now() - interval '10 minutes' AND now()";
    assert_eq!(texts(&url, late), ["0"]);
    // It reads nothing.
    assert!(
        logs[0]
            .reader()
            .blocking()
            .count(AuditQuery::new())
            .unwrap_err()
            .to_string()
            .contains("lacks a grant")
    );
}

#[test]
fn a_writer_without_rights_on_the_tables_writes_an_operator_readmits_and_a_reader_reads() {
    let url = desk();
    run(&url, "ALTER TABLE tracing_audit_entries ADD CONSTRAINT no_poison CHECK (action <> 'poison')");
    let store = |role| Store::postgres(&as_role(&url, role)).unwrap();
    // It may not make an index, and need not make one that is there.
    let on = IndexOn::Column(Column::Action);
    let indexes = Store::from(store("billing"));
    assert!(block_on(indexes.create_index(&on)).unwrap_err().is_store());
    block_on(Store::from(Store::postgres(&url).unwrap()).create_index(&on)).unwrap();
    block_on(indexes.create_index(&on)).unwrap();
    let log = open_as(&url, "billing", "billing");
    for action in ["a", "poison", "b"] {
        log.writer().try_write(entry(action)).unwrap();
    }
    settle(&log.writer());
    let stats = log.stats();
    assert_eq!((stats.committed, stats.quarantined, log.health()), (2, 1, Health::Healthy));
    let reader = AuditReader::new(store("auditor"));
    let reader = reader.blocking();
    assert_eq!(reader.count(AuditQuery::new()).unwrap(), 2);
    assert_eq!(reader.quarantined().unwrap().len(), 1);

    // A reader records what it reads, as itself, and can neither choose who it was, take anything back, nor hide it.
    let recorded = AuditReader::new(store("auditor")).recorded_as("Ada");
    assert_eq!(recorded.blocking().count(AuditQuery::new()).unwrap(), 2);
    assert_eq!(recorded.blocking().export_csv(AuditQuery::new(), std::io::sink()).unwrap(), 2);
    let read = reader.reads(.., 10).unwrap().remove(1);
    assert_eq!((&*read.reader, read.role.as_deref(), read.entries), ("Ada", Some("auditor"), Some(1)));
    run(
        &url,
        "INSERT INTO tracing_audit_reads (id, reader, action, query) VALUES (gen_random_uuid(), 'Eve', 'stream', '{}')",
    );
    let others = texts(&url, "SELECT id::text FROM tracing_audit_reads WHERE reader = 'Eve'").remove(0);
    let record = |values: &str| format!("SELECT tracing_audit_record_read(gen_random_uuid(), {values})");
    for values in [
        format!("'{others}', 'Ada', 'stream', '{{}}', 0"),
        "gen_random_uuid(), 'Ada', 'stream', '{}', 0".to_owned(),
        "NULL, repeat('a', 1000000), 'query', '{}', 0".to_owned(),
        "NULL, 'Ada', repeat('a', 1000), '{}', 0".to_owned(),
        "NULL, 'Ada', E'\\x1b[2J', '{}', 0".to_owned(),
        "NULL, 'Ada', 'query', '\"' || repeat('a', 100000000) || '\"', 0".to_owned(),
        "NULL, 'Ada', 'query', '[]', 0".to_owned(),
        "NULL, 'Ada', 'query', '{}', -1".to_owned(),
        "NULL, NULL, 'query', '{}', 1".to_owned(),
        "NULL, 'Ada', 'query', NULL, 1".to_owned(),
    ] {
        assert_eq!(refused(&as_role(&url, "auditor"), &record(&values)), "TA009", "{values}");
    }
    assert_eq!(refused(&as_role(&url, "auditor"), &record("NULL, 'Ada', 'query', '{', 1")), "22P02");
    assert_eq!(reader.reads(.., 10).unwrap().len(), 3);
    // Behind a pooler, in whose connections tables with the names of ours are, too.
    let (pooler, database) = (Pooler::before_as(own_server(), "auditor"), url.rsplit('/').next().unwrap());
    let names = ["entries", "heads", "batches", "reads"];
    let like = "CREATE TEMP TABLE tracing_audit_# (LIKE public.tracing_audit_# INCLUDING ALL)";
    pooler.in_each_connection(database, &names.map(|name| like.replace('#', name)).join("; "));
    let through = AuditReader::new(Store::postgres(&pooler.database(database)).unwrap()).recorded_as("Ada");
    assert_eq!(through.blocking().count(AuditQuery::new()).unwrap(), 2);
    assert_eq!(reader.reads(.., 10).unwrap().len(), 4);
    // A read that cannot be recorded is not answered: a writer may not record reads.
    let unrecorded = AuditReader::new(store("billing")).recorded_as("Ada");
    assert!(
        unrecorded.blocking().count(AuditQuery::new()).unwrap_err().to_string().contains("lacks a grant")
    );

    run(&url, "ALTER TABLE tracing_audit_entries DROP CONSTRAINT no_poison");
    assert!(log.writer().blocking().retry_quarantined().unwrap_err().to_string().contains("lacks a grant"));
    // An operator sees which ledgers there are, and no entry.
    let sees = AuditReader::new(store("admin"));
    assert_eq!(sees.blocking().ledgers().unwrap().len(), 1);
    assert!(sees.blocking().count(AuditQuery::new()).unwrap_err().to_string().contains("lacks a grant"));
    let operator = open_as(&url, "admin", "billing");
    assert_eq!(operator.writer().blocking().retry_quarantined().unwrap().committed, 1);
    assert_eq!(reader.quarantined().unwrap().len(), 0);
    assert_eq!(commit(&log, entry("c")), 3);
    assert_tree(&url);
}

#[test]
fn a_ledger_that_a_role_may_not_write_is_refused_with_the_remedy() {
    let url = desk();
    let open = || {
        let builder = support::builder(Store::postgres(&as_role(&url, "billing")).unwrap()).ledger("travel");
        builder.in_memory_queue().queue_max_entries(10).queue_max_bytes(10_000).blocking().open()
    };
    let error = open().unwrap_err();
    assert!(error.is_store() && error.to_string().contains("a row in tracing_audit_grants"), "{error}");
    // A group's grant is its members'.
    run(&url, "INSERT INTO tracing_audit_grants VALUES ('audit_writer', 'travel')");
    let log = open().unwrap();
    assert_eq!(commit(&log, entry("a")), 0);
    assert_eq!(open_as(&url, "payroll", "travel").writer().blocking().commit(entry("b")).unwrap(), 1);
    // What is taken away holds up entries, and blames none.
    run(&url, "DELETE FROM tracing_audit_grants WHERE ledger = 'travel'");
    log.writer().try_write(entry("c")).unwrap();
    support::wait_until("it is refused", || {
        log.stats().last_error.is_some_and(|last| last.to_string().contains("tracing_audit_grants"))
    });
    assert_eq!(log.stats().quarantined, 0);
    run(&url, "INSERT INTO tracing_audit_grants VALUES ('audit_writer', 'travel')");
    settle(&log.writer());
    assert_eq!(log.stats().committed, 2);
}

#[test]
#[cfg(feature = "testing")]
fn entries_go_to_the_last_period_while_the_role_may_begin_no_other() {
    use std::sync::atomic::{AtomicI64, Ordering};

    let (url, directory) = (desk(), tempfile::tempdir().unwrap());
    let (day, notices) = (Arc::new(AtomicI64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (now, told) = (Arc::clone(&day), Arc::clone(&notices));
    let first: chrono::DateTime<chrono::Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    // With a queue that keeps what it accepts while the server is away.
    let log = support::builder(Store::postgres(&as_role(&url, "billing")).unwrap())
        .ledger("month")
        .period(tracing_audit::Period::Day)
        .period_clock(move || first + chrono::TimeDelta::days(now.load(Ordering::SeqCst)))
        .journal(directory.path().join("queue"))
        .on_notice(move |notice| told.lock().unwrap().push(notice.to_string()))
        .blocking()
        .open()
        .unwrap();
    assert_eq!(commit(&log, entry("first")), 0);
    let turned = |number| {
        day.store(number, Ordering::SeqCst);
        while commit(&log, entry("next")) > 0 {}
    };
    turned(1);
    day.store(2, Ordering::SeqCst);
    let says = "month-2026-11-03 cannot be begun, and entries still go to month-2026-11-02";
    support::wait_until("it is told", || notices.lock().unwrap().iter().any(|notice| notice.contains(says)));
    assert_eq!(commit(&log, entry("kept")), 1);
    assert_eq!((log.health(), log.stats().pending), (Health::Healthy, 0));
    run(&url, "UPDATE tracing_audit_grants SET most = 3 WHERE ledger = 'month-*'");
    turned(2);
    drop(log.blocking().shutdown(support::PATIENCE).unwrap());
    let actions =
        |ledger| entries_of(&url, ledger).into_iter().map(|found| found.entry.action).collect::<Vec<_>>();
    assert_eq!(actions("month-2026-11-02")[..2], ["next", "kept"]);
    assert_eq!(actions("month-2026-11-03"), ["next"]);
    for ledger in ["month-2026-11-01", "month-2026-11-02", "month-2026-11-03"] {
        let reader = AuditReader::new(support::store(&url)).of_ledger(ledger);
        let verified = reader.blocking().verify(Verification::of_itself()).unwrap();
        assert!(verified.is_intact() && verified.size() == verified.entries(), "{ledger}: {verified:?}");
    }
}

#[test]
fn roles_that_wrote_the_tables_themselves_write_by_functions_after_the_script_and_keep_their_queues() {
    let url = desk();
    run(
        &url,
        "DO $$ BEGIN CREATE ROLE trusted LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO trusted;
         GRANT INSERT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_quarantine, tracing_audit_leaves,
             tracing_audit_nodes TO trusted;
         GRANT INSERT, UPDATE ON tracing_audit_heads, tracing_audit_positions, tracing_audit_writers TO trusted;
         INSERT INTO tracing_audit_grants VALUES ('trusted', 'shared')",
    );
    let directory = tempfile::tempdir().unwrap();
    let open = |store: tracing_audit::PostgresStore| {
        let builder = support::builder(store)
            .ledger("shared")
            .journal(directory.path().join("queue"))
            .on_notice(|_| {});
        builder.blocking().open().unwrap()
    };
    let store = || Store::postgres(&as_role(&url, "trusted")).unwrap();
    let log = open(store());
    assert_eq!(commit(&log, entry("by the tables")), 0);
    run(&url, "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM trusted; GRANT audit_writer TO trusted");
    // A running log finds the tables closed, and a new one goes on by the functions, with the queue of the first.
    log.writer().try_write(entry("waits")).unwrap();
    support::wait_until("it is refused or goes on", || {
        log.stats().pending == 0 || log.stats().last_error.is_some()
    });
    settle(&log.writer());
    drop(log);
    let log = open(store());
    let seq = commit(&log, entry("by the functions"));
    assert_eq!(seq, 2);
    let found = entries_of(&url, "shared");
    let actions: Vec<_> = found.iter().map(|found| &*found.entry.action).collect();
    assert_eq!(actions, ["by the tables", "waits", "by the functions"]);
    let own = "SELECT (count(*) > 0)::text FROM tracing_audit_writers WHERE role = 'trusted'";
    assert_eq!(texts(&url, own), ["true"]);
}

#[test]
fn a_ledger_without_a_tree_is_written_without_one_until_a_role_that_may_read_it_catches_up() {
    let url = desk();
    let told = Arc::new(Mutex::new(Vec::new()));
    let open = |role: &str, integrity| {
        let notices = Arc::clone(&told);
        let builder = support::builder(Store::postgres(&as_role(&url, role)).unwrap()).ledger("billing");
        let builder = builder
            .integrity(integrity)
            .on_notice(move |notice| notices.lock().unwrap().push(notice.to_string()));
        let builder = builder.in_memory_queue().queue_max_entries(100).queue_max_bytes(100_000);
        builder.blocking().open().unwrap()
    };
    assert_eq!(commit(&open("billing", Integrity::Off), entry("a")), 0);
    let log = open("billing", Integrity::Inline);
    assert_eq!(commit(&log, entry("b")), 1);
    assert_eq!((log.health(), log.stats().quarantined), (Health::Healthy, 0));
    let says = "open one with the owner's role";
    support::wait_until("it is told", || told.lock().unwrap().iter().any(|notice| notice.contains(says)));
    let owner = open("postgres", Integrity::Inline);
    assert_eq!(commit(&owner, entry("c")), 2);
    assert_tree(&url);
    assert_eq!(commit(&open("billing", Integrity::Inline), entry("d")), 3);
    assert_tree(&url);
    // One that would have to read entries back says at once that it may not.
    assert_eq!(commit(&open("billing", Integrity::Deferred), entry("e")), 4);
    let says = "set Integrity::Inline";
    support::wait_until("it is told", || told.lock().unwrap().iter().any(|notice| notice.contains(says)));
}

#[test]
fn a_function_that_somebody_else_has_put_in_the_place_of_the_owners_writes_nothing_and_is_told() {
    let url = desk();
    let log = open_as(&url, "billing", "billing");
    assert_eq!(commit(&log, entry("before")), 0);
    let one = |sql: &'static str| texts(&url, sql).remove(0);
    let parameters = one("SELECT pg_get_function_arguments('tracing_audit_append'::regproc)");
    let owners = one("SELECT pg_get_functiondef('tracing_audit_append'::regproc)");
    run(&url, "DROP FUNCTION tracing_audit_append; GRANT CREATE ON SCHEMA public TO payroll");
    let stand_in = format!(
        "CREATE FUNCTION tracing_audit_append({parameters}) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'"
    );
    attempt(&as_role(&url, "payroll"), &stand_in).unwrap();
    log.writer().try_write(entry("meanwhile")).unwrap();
    let says = "does not belong to the owner of the audit tables";
    support::wait_until(says, || log.stats().last_error.is_some_and(|last| last.to_string().contains(says)));
    assert_eq!((log.stats().committed, log.stats().quarantined), (1, 0));
    // A log that starts now is told the same, and so is whoever checks the database.
    let builder = support::builder(Store::postgres(&as_role(&url, "billing")).unwrap()).ledger("billing");
    let builder = builder.in_memory_queue().queue_max_entries(10).queue_max_bytes(10_000);
    let refused = builder.blocking().open().unwrap_err();
    assert!(refused.is_store() && refused.to_string().contains(says), "{refused}");
    let mut findings = Vec::new();
    let reader = AuditReader::new(Store::postgres(&as_role(&url, "auditor")).unwrap());
    reader.blocking().check(|finding| findings.push(format!("{finding:?}"))).unwrap();
    let of_function = |finding: &String| {
        finding.contains("tracing_audit_append") && finding.contains("not to the owner of the tables")
    };
    assert!(findings.iter().any(of_function), "{findings:?}");
    run(
        &url,
        format!(
            "DROP FUNCTION tracing_audit_append; {owners}; REVOKE ALL ON FUNCTION tracing_audit_append FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION tracing_audit_append TO audit_writer"
        ),
    );
    settle(&log.writer());
    let found = entries_of(&url, "billing");
    assert!(found.iter().map(|found| &*found.entry.action).eq(["before", "meanwhile"]));
    // One with other parameters fits no call of ours, and nothing is said of it.
    attempt(
        &as_role(&url, "payroll"),
        "CREATE FUNCTION tracing_audit_known_writers(text, text) RETURNS void LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$",
    )
    .unwrap();
    assert_eq!(commit(&open_as(&url, "billing", "billing"), entry("after")), 2);
}

#[test]
fn a_log_whose_positions_a_copy_of_its_process_has_used_goes_on_by_the_functions() {
    // One entry does not come as far as the copy. Of twenty, the copy's seven may pass for the first.
    for own in [1, 20] {
        let url = desk();
        let store = Store::postgres(&as_role(&url, "billing")).unwrap();
        let builder = support::builder(store).ledger("billing").on_notice(|_| {});
        let builder = builder.in_memory_queue().queue_max_entries(100).queue_max_bytes(1 << 20);
        let log =
            builder.flush_interval(Duration::from_hours(1)).batch_entries(1 << 20).blocking().open().unwrap();
        (0..10).for_each(|seq| assert_eq!(commit(&log, entry("before")), seq));
        let twin = open_as(&url, "billing", "billing");
        (10..17).for_each(|seq| assert_eq!(commit(&twin, entry("of the twin")), seq));
        drop(twin);
        // As if it had gone on from the same moment.
        let of = |position: u64| {
            format!("(SELECT writer FROM tracing_audit_positions WHERE position = {position})")
        };
        run(
            &url,
            format!(
                "UPDATE tracing_audit_batches SET position = position + 10, writer = {} WHERE writer = {};
                 DELETE FROM tracing_audit_positions WHERE position = 7;
                 UPDATE tracing_audit_positions SET position = 17 WHERE position = 10",
                of(10),
                of(7)
            ),
        );
        for _ in 1..own {
            log.writer().try_write(entry("own")).unwrap();
        }
        assert_eq!(commit(&log, entry("own")), 16 + own);
        assert_eq!(commit(&log, entry("own")), 17 + own);
        assert_balanced(&log.stats());
        assert_eq!((log.health(), log.stats().quarantined, log.stats().gaps), (Health::Healthy, 0, 0));
        let found = entries_of(&url, "billing");
        assert_eq!(found.iter().filter(|found| found.entry.action == "own").count() as u64, own + 1);
        let stored = Stored::at(&url);
        assert_eq!(stored.size, stored.next_seq);
    }
}

#[test]
fn the_functions_find_their_tables_whatever_the_schema_is_called() {
    let url = desk();
    for name in ["tracing_audit_prod", "tracing_audit_Prod", "a\\1 & \"b\".tracing_audit_c"] {
        let store = |role| Store::postgres(&as_role(&url, role)).unwrap().schema(name).unwrap();
        let open = |role| {
            let builder = support::builder(store(role)).in_memory_queue();
            builder.queue_max_entries(10).queue_max_bytes(10_000).blocking().open().unwrap()
        };
        assert_eq!(commit(&open("postgres"), entry("by the tables")), 0, "{name}");
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        run(
            &url,
            format!(
                "GRANT USAGE ON SCHEMA {quoted} TO billing; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {quoted} TO billing;
                 INSERT INTO {quoted}.tracing_audit_grants VALUES ('billing', 'main')"
            ),
        );
        assert_eq!(commit(&open("billing"), entry("by the functions")), 1, "{name}");
        let reader = AuditReader::new(store("postgres"));
        assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 2, "{name}");
        reader.blocking().check(|finding| panic!("{name}: {finding:?}")).unwrap();

        // They would write to a schema that gets its name.
        run(&url, format!("ALTER SCHEMA {quoted} RENAME TO renamed"));
        let renamed = Store::postgres(&as_role(&url, "billing")).unwrap().schema("renamed").unwrap();
        let builder = support::builder(renamed).in_memory_queue();
        let refused = builder.queue_max_entries(10).queue_max_bytes(10_000).blocking().open().unwrap_err();
        assert!(refused.to_string().contains("names tables of another schema"), "{name}: {refused}");
        run(&url, "DROP SCHEMA renamed CASCADE");
    }
}
