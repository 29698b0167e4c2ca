//! PostgreSQL that others share: no schema, temporary table, function or operator of theirs stands in for ours.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgPoolOptions};
use tracing_audit::{
    AuditLog, AuditQuery, AuditReader, Health, Store,
    index::IndexOn,
    query::{Column, CountBy},
};

use crate::support::{
    self, all_in, assert_balanced, assert_tree, block_on, commit, entry,
    postgres::{Pooler, Server, in_memory, server},
    run, settle, texts, wait_until,
};

/// A database in whose schema `public` the tables are, a role of this name that writes to them, and a neighbour of that
/// role, who may create schemas.
struct Shared {
    url: String,
    service: String,
}

impl Shared {
    fn new(service: &str) -> Self {
        let url = server().create_database();
        let (_, database) = url.rsplit_once('/').unwrap();
        run(
            &url,
            format!(
                "CREATE ROLE {service} LOGIN; CREATE ROLE {service}_neighbour LOGIN;
                 GRANT CREATE ON DATABASE {database} TO {service}_neighbour"
            ),
        );
        Self { url, service: service.to_owned() }
    }

    fn make_tables(&self) {
        drop(in_memory(&self.url));
        run(&self.url, format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}", self.service));
    }

    fn url_of(&self, role: &str) -> String {
        self.url.replace("postgres@", &format!("{role}@"))
    }

    fn as_service(&self) -> String {
        self.url_of(&self.service)
    }

    /// Creates a schema of the neighbour's with tables like ours, which everybody may use.
    fn copy_tables(&self, schema: &str) {
        let url = self.url_of(&format!("{}_neighbour", self.service));
        let like_ours = Store::from(Store::postgres(&url).unwrap().schema(schema).unwrap());
        for migration in like_ours.migrations() {
            run(&url, migration.sql);
        }
        run(
            &url,
            format!(
                "GRANT ALL ON SCHEMA {schema} TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO PUBLIC"
            ),
        );
    }

    fn count(&self, table: &str) -> i64 {
        count(&self.url, table)
    }
}

fn count(url: &str, table: &str) -> i64 {
    block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap()
    })
}

fn end_connections(url: &str, role: &str) {
    run(url, format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"));
}

#[test]
fn a_schema_with_the_name_of_the_role_takes_nothing() {
    let shared = Shared::new("ordinary");
    shared.make_tables();
    let log = in_memory(&shared.as_service());
    commit(&log, entry("before"));
    shared.copy_tables("ordinary");
    commit(&log, entry("on the same connection"));
    end_connections(&shared.url, "ordinary");
    commit(&log, entry("on another connection"));
    assert_eq!(block_on(support::all(&log.reader())).len(), 3);
    // One that starts afterwards, and a reader that does.
    commit(&in_memory(&shared.as_service()), entry("of another process"));
    assert_eq!(all_in(&shared.as_service()).len(), 4);
    assert_eq!(
        (shared.count("public.tracing_audit_entries"), shared.count("ordinary.tracing_audit_entries")),
        (4, 0)
    );

    // Where the tables do not exist yet, nobody can know whose these are.
    let shared = Shared::new("early");
    shared.copy_tables("early");
    let open = |url: &str| {
        let builder = support::builder(Store::postgres(url).unwrap()).in_memory_queue();
        builder.queue_max_entries(10).queue_max_bytes(10_000).blocking().open()
    };
    let refused = open(&shared.as_service()).unwrap_err();
    assert!(refused.is_config() && refused.to_string().contains("belongs to another"), "{refused:?}");
    let refused = AuditReader::new(Store::postgres(&shared.as_service()).unwrap());
    let refused = refused.blocking().count(AuditQuery::new()).unwrap_err();
    assert!(refused.is_config() && refused.to_string().contains("belongs to another"), "{refused:?}");
    assert_eq!(shared.count("early.tracing_audit_heads"), 0);
    // It may be meant so. A schema of the role's own needs no word.
    run(&shared.url, "ALTER SCHEMA early OWNER TO early");
    commit(&open(&shared.as_service()).unwrap(), entry("its own"));
    assert_eq!(shared.count("early.tracing_audit_entries"), 1);
}

/// What a neighbour may put into a schema: functions and operators with the names of the server's own, which end whatever
/// calls them; types with the names of the server's; and a better match for a comparison of two types.
const STAND_INS: &str = "
    CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC;
    CREATE FUNCTION evil.trap() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE FUNCTION evil.trap(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE FUNCTION evil.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE FUNCTION evil.trap(uuid, uuid) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE FUNCTION evil.trap(double precision, numeric) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE FUNCTION evil.add(bigint, bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE FUNCTION evil.member(json, text) RETURNS json LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
    CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.trap);
    CREATE OPERATOR evil.< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.trap);
    CREATE OPERATOR evil.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.trap);
    CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.trap);
    CREATE OPERATOR evil.>= (LEFTARG = double precision, RIGHTARG = numeric, FUNCTION = evil.trap);
    CREATE OPERATOR evil.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.add);
    CREATE OPERATOR evil.-> (LEFTARG = json, RIGHTARG = text, FUNCTION = evil.member);
    CREATE OPERATOR public.>= (LEFTARG = double precision, RIGHTARG = numeric, FUNCTION = evil.trap);
    CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1970-01-01' $$;
    CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1970-01-01' $$;
    CREATE FUNCTION evil.version() RETURNS text LANGUAGE sql AS $$ SELECT evil.trap() $$;
    CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE sql AS $$ SELECT evil.trap()::name $$;
    CREATE FUNCTION evil.current_schemas(boolean) RETURNS name[] LANGUAGE sql AS $$ SELECT ARRAY['evil'::name] $$;
    CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT evil.trap() $$;
    CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.trap() $$;
    CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.trap() $$;
    CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS $$ SELECT 'pg_class'::regclass $$;
    CREATE FUNCTION evil.left(text, integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT evil.trap() $$;
    CREATE FUNCTION evil.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS $$ SELECT evil.trap() $$;
    CREATE FUNCTION evil.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS $$ SELECT 7::bigint $$;
    CREATE AGGREGATE evil.count(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '700');
    CREATE AGGREGATE evil.max(bigint) (SFUNC = int8larger, STYPE = bigint, INITCOND = '700');
    CREATE AGGREGATE evil.min(bigint) (SFUNC = int8smaller, STYPE = bigint, INITCOND = '-7');
    CREATE DOMAIN evil.uuid AS text; CREATE DOMAIN evil.json AS text CHECK (false); CREATE DOMAIN evil.bigint AS text;
    CREATE TABLE evil.pg_class (oid integer); CREATE TABLE evil.pg_namespace (oid integer);";

/// Uses a log in every way that runs statements of its own.
fn use_all(url: &str, admin: &str, log: &AuditLog) {
    let detail = |number: u32| {
        let mut of_number = entry(format!("a{}", number % 2));
        of_number.metadata = serde_json::json!({ "tenant": format!("t{}", number % 3), "number": number });
        of_number.risk_score = f64::from(number % 2);
        of_number
    };
    for number in 0..12 {
        log.writer().blocking().write(detail(number)).unwrap();
    }
    settle(&log.writer());
    let twice = detail(12);
    assert_eq!(commit(log, twice.clone()), 12);
    assert!(log.writer().blocking().commit(twice).unwrap_err().is_duplicate());
    assert_eq!(log.writer().blocking().retry_quarantined().unwrap().refused, 1);
    assert!(log.stats().last_error.is_none_or(|last| last.is_duplicate()));

    let store = Store::from(Store::postgres(url).unwrap());
    let on = IndexOn::Metadata("tenant".to_owned());
    for on in [IndexOn::Column(Column::Reason), on] {
        block_on(store.create_index(&on)).unwrap();
    }
    let reader = AuditReader::new(store.clone()).of_ledger("main").recorded_as("clerk");
    let reader = reader.blocking();
    let tenant = || AuditQuery::new().metadata_any_of("tenant", ["t1"]);
    assert_eq!(reader.count(AuditQuery::new()).unwrap(), 13);
    assert_eq!(reader.count(tenant()).unwrap(), 4);
    assert_eq!(reader.count(AuditQuery::new().risk_at_least(0.5)).unwrap(), 6);
    assert_eq!(reader.query(tenant()).unwrap().len(), 4);
    assert_eq!(reader.page(tenant(), None, 10).unwrap().entries.len(), 4);
    assert_eq!(reader.count_by(AuditQuery::new(), CountBy::Column(Column::Action)).unwrap().len(), 2);
    assert_eq!(reader.export_csv(AuditQuery::new(), std::io::sink()).unwrap(), 13);
    assert_eq!(reader.quarantined().unwrap().len(), 1);
    let coverage = reader.coverage(AuditQuery::new(), u64::MAX).unwrap();
    assert!(!coverage.lacks() && coverage.altered.is_empty(), "{coverage:?}");
    reader.check(|finding| panic!("{finding:?}")).unwrap();
    assert_tree(admin);
    assert_eq!(
        block_on(store.indexes()).unwrap().iter().filter(|index| index.name.contains("_by_")).count(),
        2
    );
}

#[test]
fn functions_operators_and_types_of_others_do_nothing() {
    for (service, path, schema) in
        [("called", "evil, public, pg_catalog", "public"), ("better", "\"$user\", public", "public")]
    {
        let shared = Shared::new(service);
        let database = shared.url.rsplit_once('/').unwrap().1;
        run(&shared.url, STAND_INS);
        run(&shared.url, format!("GRANT CREATE ON SCHEMA public TO {service}"));
        run(&shared.url, format!("ALTER ROLE {service} SET search_path = {path}"));
        run(&shared.url, format!("ALTER DATABASE {database} SET search_path = {path}"));
        let store = Store::postgres(&shared.as_service()).unwrap().schema(schema).unwrap();
        let builder =
            support::builder(store).in_memory_queue().queue_max_entries(100).queue_max_bytes(1 << 20);
        let log = builder.blocking().open().unwrap();
        // The first schema that has the tables, for those to which none is named.
        use_all(&shared.as_service(), &shared.url, &log);
        // In a transaction, search_path is still the role's.
        assert_eq!(
            shared.count("public.tracing_audit_entries"),
            if path.starts_with("evil") { 713 } else { 13 }
        );
    }
}

#[test]
fn temporary_tables_and_settings_of_a_session_that_is_shared_do_nothing() {
    let temporary = |schema: &str| {
        ["entries", "heads", "batches", "positions", "writers", "leaves", "nodes", "quarantine", "migrations", "reads", "grants"]
            .map(|table| format!("CREATE TEMPORARY TABLE tracing_audit_{table} (LIKE {schema}.tracing_audit_{table} INCLUDING ALL)"))
            .join("; ")
            + "; CREATE TYPE pg_temp.uuid AS (a text); CREATE TYPE pg_temp.json AS (a text); SET search_path = elsewhere, public;
               SET synchronous_commit = off"
    };
    let mut own = Server::new();
    own.command("start");
    let pooler = Pooler::before(&own);
    let direct = own.database("postgres");
    let elsewhere = Store::from(Store::postgres(&direct).unwrap().schema("elsewhere").unwrap());
    elsewhere.migrations().into_iter().for_each(|migration| run(&direct, migration.sql));
    drop(in_memory(&direct));

    // Both of its connections to the server, while no transaction is in them.
    let through = pooler.database("postgres");
    pooler.in_each_connection("postgres", &temporary("public"));
    let log = in_memory(&through);
    use_all(&through, &direct, &log);
    assert_eq!(block_on(support::all(&log.reader())).len(), 13);
    // Nor is a commit less durable than it says.
    run(
        &direct,
        "CREATE TABLE public.durable (how text);
         CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.durable VALUES (current_setting('synchronous_commit')); RETURN new; END $$;
         CREATE TRIGGER see AFTER INSERT ON public.tracing_audit_batches FOR EACH ROW EXECUTE FUNCTION public.see()",
    );
    (13..17).for_each(|seq| assert_eq!(commit(&log, entry("a")), seq));
    assert_eq!(texts(&direct, "SELECT DISTINCT how FROM public.durable"), ["on"]);
    run(&direct, "DROP TRIGGER see ON public.tracing_audit_batches");
    assert_eq!(
        (count(&direct, "public.tracing_audit_entries"), count(&direct, "elsewhere.tracing_audit_entries")),
        (17, 0)
    );

    // An application's pool, whose connections readers borrow.
    block_on(async {
        let pool = PgPoolOptions::new().max_connections(1).connect(&direct).await.unwrap();
        let all = AuditReader::new(pool.clone());
        let temporary = sqlx::AssertSqlSafe(temporary("public"));
        sqlx::raw_sql(temporary).execute(&pool).await.unwrap();
        let late = AuditReader::new(pool.clone());
        for reader in [all, late] {
            assert_eq!(reader.count(AuditQuery::new()).await.unwrap(), 17);
            assert_eq!(support::all(&reader).await.len(), 17);
        }
        // The setting is still the application's.
        let path: String = sqlx::query_scalar("SHOW search_path").fetch_one(&pool).await.unwrap();
        assert_eq!(path, "elsewhere, public");
    });
}

#[test]
fn a_table_that_is_put_in_the_place_of_ours_takes_nothing_and_is_told() {
    let shared = Shared::new("faithful");
    shared.make_tables();
    let builder = support::builder(Store::postgres(&shared.as_service()).unwrap()).on_notice(|_| {});
    let builder = builder.in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
    let log = builder.commit_timeout(Duration::from_millis(300)).blocking().open().unwrap();
    let count = std::cell::Cell::new(0_i64);
    let write = || {
        log.writer().try_write(entry(count.get().to_string())).unwrap();
        count.set(count.get() + 1);
    };
    write();
    settle(&log.writer());
    let reader = AuditReader::new(Store::postgres(&shared.as_service()).unwrap());
    assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 1);

    let replace = |table: &str| {
        let replace = format!(
            "BEGIN; ALTER TABLE {table} RENAME TO aside; CREATE TABLE {table} (LIKE aside INCLUDING ALL);
             INSERT INTO {table} SELECT * FROM aside; GRANT ALL ON {table} TO PUBLIC; COMMIT"
        );
        (replace, format!("BEGIN; DROP TABLE {table}; ALTER TABLE aside RENAME TO {table}; COMMIT"))
    };
    let view = |table: &str| {
        let view = format!(
            "BEGIN; ALTER TABLE {table} RENAME TO aside; CREATE VIEW {table} AS SELECT * FROM aside;
             GRANT ALL ON {table} TO PUBLIC; COMMIT"
        );
        (view, format!("BEGIN; DROP VIEW {table}; ALTER TABLE aside RENAME TO {table}; COMMIT"))
    };
    let owner = |table: &str| {
        (
            format!("ALTER TABLE {table} OWNER TO faithful_neighbour"),
            format!("ALTER TABLE {table} OWNER TO postgres"),
        )
    };
    let of_all = "DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['entries','heads','batches','positions','writers',
        'leaves','nodes','quarantine','migrations','reads','grants'] LOOP EXECUTE format('ALTER TABLE FROM_.tracing_audit_%s SET
        SCHEMA TO_', t); END LOOP; END $$";
    let moved = (
        of_all.replace("FROM_", "public").replace("TO_", "aside_schema").replacen(
            "DO",
            "CREATE SCHEMA aside_schema; DO",
            1,
        ),
        of_all.replace("FROM_", "aside_schema").replace("TO_", "public")
            + "; DROP SCHEMA aside_schema CASCADE",
    );
    let acts = [
        ("tracing_audit_entries", replace("tracing_audit_entries"), "is not the one"),
        ("tracing_audit_heads", replace("tracing_audit_heads"), "is not the one"),
        ("tracing_audit_batches", replace("tracing_audit_batches"), "is not the one"),
        ("tracing_audit_positions", replace("tracing_audit_positions"), "is not the one"),
        ("tracing_audit_entries", owner("tracing_audit_entries"), "is not the one"),
        ("tracing_audit_leaves", owner("tracing_audit_leaves"), "is not the one"),
        ("tracing_audit_entries", view("tracing_audit_entries"), "is not the one"),
        ("tracing_audit_heads", view("tracing_audit_heads"), "is not the one"),
        ("", moved, "the audit tables"),
    ];
    for (table, (act, back), says) in acts {
        let is_view = act.contains("CREATE VIEW");
        run(&shared.url, act);
        write();
        let told = || log.stats().last_error.is_some_and(|last| last.to_string().contains(says));
        wait_until(says, || told() && log.health() == Health::Failing);
        assert!(log.blocking().flush().is_err(), "{table}");
        if !table.is_empty() {
            let refused = reader.blocking().count(AuditQuery::new()).unwrap_err();
            let is_kind = if is_view { refused.is_altered() } else { refused.is_store() };
            assert!(is_kind && refused.to_string().contains(table), "{refused:?}");
            // What looks at the tables themselves names it, and reads nothing through it.
            let coverage = reader.blocking().coverage(AuditQuery::new(), u64::MAX).unwrap();
            assert!(coverage.lacks() && coverage.ledgers.is_empty(), "{coverage:?}");
            assert!(coverage.altered[0].contains(table), "{coverage:?}");
            let mut findings = Vec::new();
            let checked = reader.blocking().check(|finding| findings.push(finding.message)).unwrap();
            assert!(checked.ledgers == 0 && findings[0].contains(table), "{findings:?}");
            assert_eq!(shared.count("tracing_audit_entries"), count.get() - 1, "{table}");
        }
        run(&shared.url, back);
        settle(&log.writer());
        assert_eq!(
            reader.blocking().count(AuditQuery::new()).unwrap(),
            count.get().cast_unsigned(),
            "{table}"
        );
    }
    let stats = log.stats();
    assert_balanced(&stats);
    let found = all_in(&shared.as_service());
    assert!(
        found
            .iter()
            .map(|found| found.entry.action.clone())
            .eq((0..count.get()).map(|number| number.to_string()))
    );
    assert_eq!((stats.quarantined, log.health(), assert_tree(&shared.url)), (0, Health::Healthy, 0));

    // While no log runs, tables may be made anew, for instance by a restore.
    drop(log);
    let (restore, _) = replace("tracing_audit_entries");
    run(&shared.url, format!("{restore}; DROP TABLE aside CASCADE"));
    assert_eq!(commit(&in_memory(&shared.as_service()), entry("after")), count.get().cast_unsigned());
    let told = reader.blocking().count(AuditQuery::new()).unwrap_err();
    assert!(told.to_string().contains("start this process anew"), "{told}");
}

#[test]
fn tables_that_vanish_amid_writing_are_not_made_anew() {
    let shared = Shared::new("lasting");
    let url = shared.url.clone();
    let builder = support::builder(Store::postgres(&url).unwrap().schema("audit").unwrap()).on_notice(|_| {});
    let builder = builder.in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
    let log = builder.commit_timeout(Duration::from_millis(300)).blocking().open().unwrap();
    assert_eq!(commit(&log, entry("before")), 0);
    run(&url, "ALTER SCHEMA audit RENAME TO aside; CREATE SCHEMA audit");
    log.writer().try_write(entry("meanwhile")).unwrap();
    let says = "are not there any more: put them back";
    wait_until(says, || log.stats().last_error.is_some_and(|last| last.to_string().contains(says)));
    assert_eq!(count(&url, "pg_tables WHERE schemaname = 'audit'"), 0);
    // Others with the same names in their place.
    let others = Store::from(Store::postgres(&url).unwrap().schema("audit").unwrap());
    others.migrations().into_iter().for_each(|migration| run(&url, migration.sql));
    let says = "is not the one that this process found first";
    wait_until(says, || log.stats().last_error.is_some_and(|last| last.to_string().contains(says)));
    assert_eq!(count(&url, "audit.tracing_audit_heads"), 0);
    run(&url, "DROP SCHEMA audit CASCADE; ALTER SCHEMA aside RENAME TO audit");
    settle(&log.writer());
    assert_eq!(count(&url, "audit.tracing_audit_entries"), 2);
}
