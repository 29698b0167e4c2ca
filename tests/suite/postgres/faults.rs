//! PostgreSQL in trouble: each fault is reported with its remedy, blames no entry, and ends with its cause.

use std::{
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tracing_audit::{
    AuditEntry, AuditLog, AuditQuery, AuditReader, Health, PostgresStore, Store, migrate::Migrate,
};

use crate::support::{
    self, assert_balanced, block_on, commit, entry, in_own_mounts, mount,
    postgres::{Server, in_memory, server},
    run, settle, this_test, wait_until,
};

/// A log whose journal is in this directory.
fn open(store: impl Into<Store>, directory: &Path) -> AuditLog {
    let builder = support::builder(store).journal(directory.join("queue")).on_notice(|_| {});
    builder.commit_timeout(Duration::from_millis(500)).blocking().open().unwrap()
}

fn make_tables(url: &str) {
    let builder = support::builder(Store::postgres(url).unwrap())
        .in_memory_queue()
        .queue_max_entries(1)
        .queue_max_bytes(1 << 20);
    drop(builder.blocking().open().unwrap());
}

/// A database on a server of these tests' own, with the tables created, and a role of this name that may write to them.
struct Desk {
    clerk: &'static str,
    url: String,
    directory: TempDir,
}

impl Desk {
    fn new(clerk: &'static str) -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(|| {
            let mut server = Server::new();
            server.command("start");
            // Members of this role give a password; the others are trusted.
            let rules = "local all +asked scram-sha-256\nlocal all all trust\n";
            std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
            run(&server.database("postgres"), "CREATE ROLE asked; SELECT pg_reload_conf()");
            server
        });
        let url = SERVER.create_database();
        let directory = tempfile::tempdir().unwrap();
        make_tables(&url);
        run(
            &url,
            format!(
                "CREATE ROLE {clerk} LOGIN PASSWORD 'one';
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO {clerk};
                 GRANT INSERT ON tracing_audit_entries, tracing_audit_batches, tracing_audit_quarantine,
                     tracing_audit_leaves, tracing_audit_nodes TO {clerk};
                 GRANT INSERT, UPDATE ON tracing_audit_heads, tracing_audit_positions, tracing_audit_writers
                     TO {clerk}"
            ),
        );
        Self { clerk, url, directory }
    }

    fn as_clerk(&self) -> String {
        self.url.replace("postgres@", &format!("{}@", self.clerk))
    }

    fn store(&self) -> PostgresStore {
        Store::postgres(&self.as_clerk()).unwrap()
    }

    /// Runs a statement as the administrator of the server; `$clerk` is the role.
    fn run(&self, sql: &str) {
        run(&self.url, sql.replace("$clerk", self.clerk));
    }

    fn end_connections(&self) {
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '$clerk'");
    }

    /// Writes entries before, during and after the fault. During the fault the log's last error contains `says`.
    fn survives(&self, store: impl Into<Store>, begin: impl FnOnce(), says: &str, end: impl FnOnce()) {
        let log = open(store, self.directory.path());
        let write = |range: std::ops::Range<u64>| {
            range.for_each(|number| log.writer().try_write(entry(number.to_string())).unwrap());
        };
        write(0..100);
        settle(&log.writer());
        begin();
        write(100..200);
        wait_until(says, || log.stats().last_error.is_some_and(|last| last.to_string().contains(says)));
        wait_until("health turns bad", || log.health() == Health::Failing);
        assert_eq!(log.stats().quarantined, 0);
        end();
        write(200..300);
        settle(&log.writer());
        let stats = log.stats();
        assert_balanced(&stats);
        assert_eq!((stats.committed, stats.quarantined, log.health()), (300, 0, Health::Healthy));
        let found = block_on(support::all(&log.reader()));
        assert!(found.iter().map(|found| found.seq).eq(0..300));
        assert!(found.iter().map(|found| found.entry.action.clone()).eq((0..300).map(|n| n.to_string())));
    }
}

#[test]
fn a_server_without_a_free_connection_is_waited_for() {
    let desk = Desk::new("crowded");
    let begin = || {
        desk.run("ALTER ROLE $clerk CONNECTION LIMIT 0");
        desk.end_connections();
    };
    let end = || desk.run("ALTER ROLE $clerk CONNECTION LIMIT -1");
    desk.survives(desk.store(), begin, "has no connection left", end);
}

#[test]
fn a_password_that_changes_is_asked_for_again() {
    let desk = Desk::new("renewed");
    desk.run("GRANT asked TO $clerk");
    let password = Arc::new(Mutex::new("one"));
    let known = Arc::clone(&password);
    let ask = move || std::future::ready(Ok::<_, std::io::Error>((*known.lock().unwrap()).to_owned()));
    let begin = || {
        desk.run("ALTER ROLE $clerk PASSWORD 'two'");
        desk.end_connections();
    };
    let end = || *password.lock().unwrap() = "two";
    desk.survives(desk.store().password(ask), begin, "refuses the role or its password", end);
}

#[test]
fn a_password_that_cannot_be_obtained_is_a_fault_of_the_store_and_asked_for_again() {
    let desk = Desk::new("tokened");
    desk.run("GRANT asked TO $clerk");
    let there = Arc::new(Mutex::new(true));
    let known = Arc::clone(&there);
    let ask = move || {
        let there = *known.lock().unwrap();
        async move { if there { Ok("one".to_owned()) } else { Err("the cloud is away") } }
    };
    let begin = || {
        *there.lock().unwrap() = false;
        desk.end_connections();
    };
    let end = || *there.lock().unwrap() = true;
    let store = desk.store().password(ask);
    desk.survives(store, begin, "cannot obtain the password for the database server", end);
}

#[test]
fn a_store_of_a_pool_connects_with_the_password_that_is_asked_for() {
    let desk = Desk::new("asking_pool");
    desk.run("GRANT asked TO $clerk");
    let url = desk.as_clerk().replace("asking_pool@", "asking_pool:stale@");
    let pool = block_on(async { PgPool::connect_lazy(&url).unwrap() });
    let ask = || std::future::ready(Ok::<_, std::io::Error>("one".to_owned()));
    let store = Store::from(PostgresStore::from(pool).password(ask));
    let log = open(store.clone(), desk.directory.path());
    assert_eq!(commit(&log, entry("a")), 0);
    // A reader that does not block reads with the pool's own connections unless a password is asked for.
    let reader = AuditReader::new(store);
    assert_eq!(block_on(reader.count(AuditQuery::new())).unwrap(), 1);
    assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 1);
}

#[test]
fn a_reader_whose_idle_connection_has_died_asks_for_the_password_again() {
    let desk = Desk::new("reading");
    desk.run("GRANT asked TO $clerk");
    let password = Arc::new(Mutex::new("one".to_owned()));
    let known = Arc::clone(&password);
    let ask = move || std::future::ready(Ok::<_, std::io::Error>(known.lock().unwrap().clone()));
    let reader = AuditReader::new(desk.store().password(ask));
    block_on(async {
        assert_eq!(reader.count(AuditQuery::new()).await.unwrap(), 0);
        // Until it is back in its pool.
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    desk.run("ALTER ROLE $clerk PASSWORD 'two'");
    desk.end_connections();
    "two".clone_into(&mut password.lock().unwrap());
    assert_eq!(block_on(reader.count(AuditQuery::new())).unwrap(), 0);
}

#[test]
fn a_password_that_changes_in_a_pool_s_options_counts_for_the_next_connection() {
    let desk = Desk::new("pooled");
    desk.run("GRANT asked TO $clerk");
    let url = |password: &str| desk.as_clerk().replace("pooled@", &format!("pooled:{password}@"));
    let pool = block_on(async { PgPool::connect_lazy(&url("one")).unwrap() });
    let begin = || {
        desk.run("ALTER ROLE $clerk PASSWORD 'two'");
        desk.end_connections();
    };
    let end = || pool.set_connect_options(url("two").parse().unwrap());
    desk.survives(pool.clone(), begin, "refuses the role or its password", end);
}

#[test]
fn a_statement_that_the_server_cancels_is_tried_again() {
    let desk = Desk::new("hurried");
    let mut holder = block_on(PgConnection::connect(&desk.url)).unwrap();
    desk.run("ALTER ROLE $clerk SET statement_timeout = '50ms'");
    let mut run = |sql: &'static str| block_on(sqlx::raw_sql(sql).execute(&mut holder)).map(|_| ()).unwrap();
    let run = Mutex::new(&mut run);
    let begin = || (run.lock().unwrap())("BEGIN; SELECT 1 FROM tracing_audit_heads FOR UPDATE");
    let end = || (run.lock().unwrap())("COMMIT");
    desk.survives(desk.store(), begin, "raise statement_timeout for this role", end);
}

#[test]
fn a_transaction_that_cannot_be_serialized_is_tried_again() {
    let desk = Desk::new("unlucky");
    let begin = || {
        desk.run(
            "CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'collided' USING ERRCODE = 'serialization_failure'; END $$;
             CREATE TRIGGER collides BEFORE INSERT ON tracing_audit_entries EXECUTE FUNCTION collide()",
        );
    };
    let end = || desk.run("DROP TRIGGER collides ON tracing_audit_entries");
    desk.survives(desk.store(), begin, "the transaction collided with another", end);
}

#[test]
fn a_trigger_that_waits_for_the_commit_is_not_let_through() {
    let desk = Desk::new("deferred");
    let begin = || {
        desk.run(
            "CREATE FUNCTION erase() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
             AS $$ BEGIN DELETE FROM public.tracing_audit_entries WHERE seq = new.seq; RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER erases AFTER INSERT ON tracing_audit_entries
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION erase()",
        );
    };
    let end = || desk.run("DROP TRIGGER erases ON tracing_audit_entries");
    desk.survives(desk.store(), begin, "DROP TRIGGER erases ON public.tracing_audit_entries", end);
}

#[test]
fn a_rule_that_drops_what_is_written_and_a_view_in_the_place_of_a_table_are_waited_for() {
    let desk = Desk::new("ruled");
    let begin = || desk.run("CREATE RULE drops AS ON INSERT TO tracing_audit_batches DO INSTEAD NOTHING");
    let end = || desk.run("DROP RULE drops ON tracing_audit_batches");
    desk.survives(desk.store(), begin, "DROP RULE drops ON public.tracing_audit_batches", end);
    let desk = Desk::new("viewed");
    let begin = || {
        desk.run(
            "ALTER TABLE tracing_audit_entries RENAME TO aside;
             CREATE VIEW tracing_audit_entries AS SELECT * FROM aside;
             GRANT SELECT, INSERT ON tracing_audit_entries TO $clerk;
             CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
             CREATE TRIGGER swallows INSTEAD OF INSERT ON tracing_audit_entries
             FOR EACH ROW EXECUTE FUNCTION swallow()",
        );
    };
    let end = || {
        desk.run("DROP VIEW tracing_audit_entries; ALTER TABLE aside RENAME TO tracing_audit_entries");
        desk.run("GRANT SELECT, INSERT ON tracing_audit_entries TO $clerk");
    };
    desk.survives(desk.store(), begin, "DROP TRIGGER swallows ON public.tracing_audit_entries", end);
}

/// Commits one entry to the database of this URL.
const WRITES_TO: &str = "TRACING_AUDIT_TEST_WRITES_TO";

#[test]
fn a_process_that_is_stopped_amid_its_commit_does_not_hold_up_others_for_ever() {
    if let Ok(url) = std::env::var(WRITES_TO) {
        return assert_eq!(commit(&in_memory(&url), entry("stopped")), 2);
    }
    let url = server().create_database();
    let log = in_memory(&url);
    assert_eq!(commit(&log, entry("before")), 0);
    // The child holds the ledger, and waits for this lock: its answer comes when it is stopped.
    let mut blocker = block_on(PgConnection::connect(&url)).unwrap();
    let mut block = |sql: &'static str| block_on(sqlx::raw_sql(sql).execute(&mut blocker)).map(drop).unwrap();
    block("BEGIN; LOCK TABLE tracing_audit_positions IN SHARE MODE");
    let child = support::child(this_test!(), &[(WRITES_TO, &url)]);
    let backends = |condition: &str| {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        );
        block_on(async {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count));
            count.fetch_one(&mut connection).await.unwrap()
        })
    };
    wait_until("the child holds the ledger", || {
        backends("wait_event_type = 'Lock' AND query LIKE '%INSERT INTO %tracing_audit_positions%'") == 1
    });
    let signal = |signal: &str| {
        let kill = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    };
    signal("-STOP");
    wait_until("every thread of the child is stopped", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let stat = |thread: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default()
        };
        threads.map(stat).all(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")))
    });
    block("COMMIT");
    log.writer().try_write(entry("meanwhile")).unwrap();
    wait_until("the other commits", || log.stats().committed == 2);
    // The one that waited and the blocker, beside this one: nobody has left any behind.
    wait_until("the backends have ended", || backends("backend_type = 'client backend'") <= 4);
    signal("-CONT");
    assert!(support::wait(child).success());
    let found = block_on(support::all(&log.reader()));
    assert!(found.iter().map(|found| &*found.entry.action).eq(["before", "meanwhile", "stopped"]));
}

#[test]
fn rows_that_do_not_come_hold_up_others_for_a_bounded_time() {
    let url = server().create_database();
    let log = in_memory(&url);
    assert_eq!(commit(&log, entry("before")), 0);
    let mut stopped = block_on(PgConnection::connect(&url)).unwrap();
    let hold = "BEGIN; SELECT 1 FROM tracing_audit_heads FOR UPDATE";
    block_on(sqlx::raw_sql(hold).execute(&mut stopped)).unwrap();
    let copy =
        block_on(stopped.copy_in_raw("COPY tracing_audit_entries FROM STDIN (FORMAT binary)")).unwrap();
    log.writer().try_write(entry("after")).unwrap();
    wait_until("the other commits", || log.stats().committed == 2);
    assert!(block_on(copy.finish()).is_err());
}

#[test]
fn a_database_that_has_become_read_only_is_waited_for() {
    let desk = Desk::new("barred");
    let begin = || {
        desk.run("ALTER ROLE $clerk SET default_transaction_read_only = on");
        desk.end_connections();
    };
    let end = || {
        desk.run("ALTER ROLE $clerk RESET default_transaction_read_only");
        desk.end_connections();
    };
    desk.survives(desk.store(), begin, "the database server is read-only", end);
}

#[test]
fn a_grant_that_is_taken_away_blames_no_entry() {
    let desk = Desk::new("stripped");
    let begin = || desk.run("REVOKE INSERT ON tracing_audit_entries FROM $clerk");
    let end = || desk.run("GRANT INSERT ON tracing_audit_entries TO $clerk");
    desk.survives(desk.store(), begin, "the role lacks a grant", end);
}

#[test]
fn a_standby_is_read_and_takes_entries_once_it_is_promoted() {
    let mut primary = Server::new();
    primary.command("start");
    let directory = tempfile::tempdir().unwrap();
    let log = open(Store::postgres(&primary.database("postgres")).unwrap(), directory.path());
    commit(&log, entry("before"));
    drop(log);
    let mut standby = Server::standby_of(&primary);
    standby.command("start");
    let url = standby.database("postgres");
    let log = open(Store::postgres(&url).unwrap(), directory.path());
    assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), 1);
    log.writer().try_write(entry("meanwhile")).unwrap();
    wait_until("the standby refuses it", || {
        let last = log.stats().last_error;
        last.is_some_and(|last| last.to_string().contains("the database server is read-only: a standby"))
    });
    drop(primary);
    run(&url, "SELECT pg_promote()");
    settle(&log.writer());
    let found = block_on(support::all(&log.reader()));
    let found: Vec<_> = found.iter().map(|found| (found.seq, found.entry.action.as_str())).collect();
    assert_eq!(found, [(0, "before"), (1, "meanwhile")]);
    assert_eq!((log.stats().quarantined, log.health()), (0, Health::Healthy));
}

#[test]
fn a_server_whose_disk_is_full_gets_everything_once_there_is_room() {
    in_own_mounts(this_test!(), |directory| {
        assert!(mount("size=160m,mode=1777", directory));
        let mut server = Server::within(directory);
        server.command("start");
        let elsewhere = tempfile::tempdir().unwrap();
        let log = open(Store::postgres(&server.database("postgres")).unwrap(), elsewhere.path());
        commit(&log, entry("first"));
        // Leaves less than one batch needs.
        let filler = directory.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        let _no_room = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        file.set_len(file.metadata().unwrap().len() - (256 << 10)).unwrap();
        drop(file);
        let big = |number: u64| AuditEntry { reason: Some("x".repeat(1000)), ..entry(number.to_string()) };
        (0..2000).for_each(|number| log.writer().try_write(big(number)).unwrap());
        wait_until("the server says that its disk is full", || {
            log.stats().last_error.is_some_and(|last| last.to_string().contains("disk is full"))
        });
        assert_eq!((log.health(), log.stats().quarantined), (Health::Failing, 0));
        std::fs::remove_file(filler).unwrap();
        // The server may have stopped, if its own log found no room.
        server.command("start");
        settle(&log.writer());
        assert_eq!((log.stats().committed, log.health()), (2001, Health::Healthy));
        let found = block_on(support::all(&log.reader()));
        assert!(found.iter().map(|found| found.seq).eq(0..2001));
    });
}

#[test]
fn a_log_that_may_not_create_the_tables_says_so_and_works_once_they_exist() {
    let desk = Desk::new("unused");
    for schema in [None, Some("of \"auditors\"")] {
        let url = {
            let mut url = desk.url.clone();
            let name = format!("by_hand_{}", u8::from(schema.is_some()));
            run(&desk.url, format!("CREATE DATABASE {name}"));
            url.replace_range(url.rfind('/').unwrap() + 1.., &name);
            url
        };
        let store = || {
            let store = Store::postgres(&url).unwrap().migrate(Migrate::Check);
            if let Some(schema) = schema { store.schema(schema).unwrap() } else { store }
        };
        let open = || {
            support::builder(store())
                .in_memory_queue()
                .queue_max_entries(100)
                .queue_max_bytes(1 << 20)
                .blocking()
                .open()
        };
        let refused = open().unwrap_err();
        assert!(refused.is_schema(), "{refused:?}");
        assert!(refused.to_string().contains("run what Store::migrations gives"), "{refused}");
        let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'tracing_audit_%'";
        let count = || {
            block_on(async {
                let mut connection = PgConnection::connect(&url).await.unwrap();
                sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut connection).await.unwrap()
            })
        };
        assert_eq!(count(), 0);
        for migration in Store::from(store()).migrations() {
            run(&url, migration.sql);
        }
        let log = open().unwrap();
        assert_eq!(commit(&log, entry("a")), 0);
        // These are the tables that a log creates: one that may create them finds nothing left to do.
        let made = count();
        let auto = store().migrate(Migrate::Auto);
        let log = support::builder(auto)
            .in_memory_queue()
            .queue_max_entries(100)
            .queue_max_bytes(1 << 20)
            .blocking()
            .open()
            .unwrap();
        assert_eq!(commit(&log, entry("b")), 1);
        assert_eq!(count(), made);
        run(
            &url,
            format!(
                "SET search_path TO {}; DELETE FROM tracing_audit_migrations",
                schema.map_or_else(|| "public".to_owned(), |_| r#""of ""auditors""""#.to_owned())
            ),
        );
        let refused = open().unwrap_err();
        assert!(refused.is_schema(), "{refused:?}");
    }
}
