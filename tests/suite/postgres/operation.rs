//! A PostgreSQL server that ends amid the work, and features of PostgreSQL alone: many ledgers, an application's tables,
//! a pooler, roles, indexes without a lock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    pin::pin,
    process::{Child, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::DateTime;
use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection, PgPool, migrate::Migrator};
use tracing_audit::{
    AuditEntry, AuditQuery, AuditReader, AuditWriter, Decision, Health, PostgresStore, Store,
    export::ExportFormat,
    index::IndexOn,
    query::{Column, CountBy},
};
use uuid::Uuid;

use crate::support::{
    self, all_in, assert_balanced, block_on, commit, entry, execute, heavy,
    postgres::{Pooler, Server, in_memory, log_with, server},
    run, settle, this_test, wait_until,
};

#[test]
fn an_impossible_store_is_refused_with_the_remedy() {
    let error = Store::postgres("postgres://user:secret@host:port/db").unwrap_err();
    assert!(error.is_config() && !format!("{error:?}").contains("secret"), "{error:?}");
    let store = || Store::postgres(&server().database("postgres")).unwrap();
    let error = support::builder(store()).blocking().open().unwrap_err();
    assert!(error.is_config() && error.to_string().contains("say where entries wait for it"), "{error}");
    assert!(store().schema("").unwrap_err().is_config());

    let refused = |store: PostgresStore| {
        let builder = support::builder(store).in_memory_queue().queue_max_entries(10).queue_max_bytes(10_000);
        builder.blocking().open().unwrap_err().to_string()
    };
    let none = Store::postgres(&server().database("no_such_database")).unwrap();
    assert!(refused(none).contains("there is no such database on the server"));
    let url = server().create_database();
    #[cfg(not(any(feature = "tls-rustls", feature = "tls-native-tls")))]
    {
        let store = Store::postgres(&format!("{url}?sslmode=require")).unwrap();
        assert!(refused(store).contains("enable the feature tls-rustls"));
    }
    run(&server().database("postgres"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    assert!(refused(Store::postgres(&server().database("latin")).unwrap()).contains("made with UTF8"));
    drop(in_memory(&url));
    run(&url, "INSERT INTO tracing_audit_migrations VALUES (99, now())");
    assert!(refused(Store::postgres(&url).unwrap()).contains("upgrade tracing-audit"));
    // A role that may connect, and nothing else.
    let url = server().create_database();
    drop(in_memory(&url));
    run(&url, "CREATE ROLE nobody_much LOGIN");
    let as_nobody = url.replace("postgres@", "nobody_much@");
    assert!(refused(Store::postgres(&as_nobody).unwrap()).contains("the role lacks a grant"));
}

#[test]
fn eight_logs_that_start_at_once_on_a_fresh_database_all_succeed() {
    let _heavy = heavy();
    for _ in 0..5 {
        let url = server().create_database();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Store::postgres(&url).unwrap().schema("the audit").unwrap();
                    let builder = support::builder(store)
                        .in_memory_queue()
                        .queue_max_entries(100)
                        .queue_max_bytes(100_000);
                    let log = builder.blocking().open().unwrap();
                    log.writer().blocking().commit(entry("a")).unwrap();
                });
            }
        });
        let reader = AuditReader::new(Store::postgres(&url).unwrap().schema("the audit").unwrap());
        let found = block_on(support::all(&reader));
        assert!(found.iter().map(|found| found.seq).eq(0..8));
    }
}

#[test]
fn writers_of_one_ledger_do_not_wait_for_those_of_another() {
    let url = server().create_database();
    let open = |ledger: &str| {
        let builder = support::builder(Store::postgres(&url).unwrap()).ledger(ledger);
        builder.in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20).blocking().open().unwrap()
    };
    let (payments, logins) = (open("payments"), open("logins"));
    payments.writer().blocking().commit(entry("pay")).unwrap();
    block_on(async {
        let mut holder = PgConnection::connect(&url).await.unwrap();
        let mut transaction = holder.begin().await.unwrap();
        sqlx::raw_sql("SELECT 1 FROM tracing_audit_heads WHERE ledger = 'payments' FOR UPDATE")
            .execute(&mut *transaction)
            .await
            .unwrap();
        payments.writer().try_write(entry("pay")).unwrap();
        assert_eq!(logins.writer().commit(entry("log in")).await.unwrap(), 0);
        assert_eq!(payments.stats().committed, 1);
        transaction.rollback().await.unwrap();
    });
    payments.blocking().flush().unwrap();
    let reader = AuditReader::new(Store::postgres(&url).unwrap());
    let reader = reader.blocking();
    assert_eq!(reader.count(AuditQuery::new()).unwrap(), 3);
    assert_eq!(reader.count(AuditQuery::new().ledger("payments")).unwrap(), 2);
    assert_eq!(reader.query(AuditQuery::new().ledger("logins")).unwrap()[0].action, "log in");
    // A page is of one ledger: that of the log, or the one that is named.
    let page = payments.reader().blocking().page(AuditQuery::new(), None, 10).unwrap();
    assert!(page.entries.iter().all(|found| found.ledger == "payments") && page.entries.len() == 2);
    let page = payments.reader().blocking().page(AuditQuery::new().ledger("logins"), None, 10).unwrap();
    assert_eq!((page.entries.len(), page.entries[0].seq), (1, 0));
}

#[test]
fn a_reader_by_seq_beside_eight_writers_misses_nothing_and_sees_nothing_twice() {
    const ENTRIES: u64 = 100_000;
    let _heavy = heavy();
    let url = server().create_database();
    drop(in_memory(&url));
    let seen = std::thread::scope(|scope| {
        for writer in 0..8 {
            let url = &url;
            scope.spawn(move || {
                let store = Store::postgres(url).unwrap();
                let builder = support::builder(store)
                    .in_memory_queue()
                    .queue_max_entries(20_000)
                    .queue_max_bytes(16 << 20);
                let log = builder.flush_interval(Duration::from_millis(3)).blocking().open().unwrap();
                for number in 0..ENTRIES / 8 {
                    let id = format!("{writer}-{number}");
                    log.writer()
                        .blocking()
                        .write(AuditEntry { resource_id: Some(id), ..entry("a") })
                        .unwrap();
                }
                settle(&log.writer());
                assert_eq!(log.stats().committed, ENTRIES / 8);
            });
        }
        let reader = AuditReader::new(Store::postgres(&url).unwrap());
        let (mut seen, mut cursor) = (Vec::new(), None);
        wait_until("all of them are read", || {
            let page = block_on(reader.page(AuditQuery::new(), cursor.clone(), 1000)).unwrap();
            // The last page is read again as it grows.
            let first_new = seen.len() as u64;
            for found in page.entries.into_iter().filter(|found| found.seq >= first_new) {
                assert_eq!(found.seq, seen.len() as u64);
                seen.push(found.entry.resource_id.unwrap());
            }
            cursor = page.next.or(cursor.take());
            seen.len() as u64 == ENTRIES
        });
        seen
    });
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(unique.len() as u64, ENTRIES);
}

#[test]
fn an_application_keeps_its_own_tables_and_pool_beside_ours() {
    let url = server().create_database();
    block_on(async {
        execute(&url, "CREATE TABLE audit_log (note text); INSERT INTO audit_log VALUES ('mine')")
            .await
            .unwrap();
        let pool = PgPool::connect(&url).await.unwrap();
        let builder =
            support::builder(pool.clone()).in_memory_queue().queue_max_entries(100).queue_max_bytes(100_000);
        let log = builder.open().await.unwrap();
        log.writer().commit(entry("a")).await.unwrap();
        assert_eq!(AuditReader::new(pool.clone()).query(AuditQuery::new()).await.unwrap().len(), 1);
        let mine: String = sqlx::query_scalar("SELECT note FROM audit_log").fetch_one(&pool).await.unwrap();
        assert_eq!(mine, "mine");
        let names = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = 'public' AND c.relname NOT LIKE 'tracing_audit_%'";
        let others: i64 = sqlx::query_scalar(names).fetch_one(&pool).await.unwrap();
        assert_eq!(others, 1);
        // Metadata is as it was written, and SQL can look into it.
        let entry = AuditEntry { metadata: serde_json::json!({"user": {"arn": "arn:aws:x"}}), ..entry("b") };
        log.writer().commit(entry).await.unwrap();
        let arn = "SELECT metadata->'user'->>'arn' FROM tracing_audit_log WHERE action = 'b'";
        let arn: String = sqlx::query_scalar(arn).fetch_one(&pool).await.unwrap();
        assert_eq!(arn, "arn:aws:x");
        // One more log for the blocking call of the seed's writer.
        let writer = AuditWriter::new(pool, Duration::from_millis(10), 10);
        assert_eq!(writer.commit(AuditEntry::new(Uuid::nil(), "c", "d")).await.unwrap(), 2);
    });
}

#[test]
fn migrations_of_an_application_and_of_the_log_do_not_touch_each_other() {
    for ours_first in [true, false] {
        let url = server().create_database();
        block_on(async {
            let pool = PgPool::connect(&url).await.unwrap();
            let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/migrations");
            let migrations = Migrator::new(migrations).await.unwrap();
            let migrate = async || migrations.run(&pool).await.unwrap();
            if !ours_first {
                migrate().await;
            }
            let builder = support::builder(pool.clone())
                .in_memory_queue()
                .queue_max_entries(100)
                .queue_max_bytes(100_000);
            let log = builder.open().await.unwrap();
            log.writer().commit(entry("a")).await.unwrap();
            // Once more, as at each start.
            migrate().await;
            migrate().await;
            let log = support::builder(pool.clone())
                .in_memory_queue()
                .queue_max_entries(100)
                .queue_max_bytes(100_000)
                .open()
                .await
                .unwrap();
            assert_eq!(log.writer().commit(entry("b")).await.unwrap(), 1);
            let versions = "SELECT (SELECT count(*) FROM _sqlx_migrations),
                                   (SELECT count(*) FROM tracing_audit_migrations),
                                   (SELECT string_agg(note, ',') FROM audit_log)";
            let found: (i64, i64, String) = sqlx::query_as(versions).fetch_one(&pool).await.unwrap();
            assert_eq!(found, (1, 5, "mine".to_owned()));
        });
    }
}

#[test]
fn a_log_works_through_a_pooler_in_transaction_mode() {
    let mut server = Server::new();
    server.command("start");
    let pooler = Pooler::before(&server);
    let url = pooler.database("postgres");
    let store = || Store::postgres(&url).unwrap().schema("audit").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..6 {
            scope.spawn(move || {
                let ledger = if writer % 2 == 0 { "main" } else { "odd" };
                let builder = support::builder(store())
                    .ledger(ledger)
                    .in_memory_queue()
                    .queue_max_entries(1000)
                    .queue_max_bytes(1 << 20);
                let log = builder.blocking().open().unwrap();
                for number in 0..50 {
                    log.writer().blocking().commit(entry(format!("{writer}-{number}"))).unwrap();
                    // Reading goes by the same connections as others' writing.
                    let page = log.reader().blocking().page(AuditQuery::new(), None, 3).unwrap();
                    assert_eq!(page.entries[0].seq, 0);
                }
                let stats = log.stats();
                assert_eq!((stats.committed, stats.retries), (50, 0), "{:?}", stats.last_error);
            });
        }
    });
    let builder =
        support::builder(store()).in_memory_queue().queue_max_entries(1000).queue_max_bytes(1 << 20);
    let log = builder.blocking().open().unwrap();
    let (writer, twice) = (log.writer(), entry("twice"));
    writer.blocking().commit(twice.clone()).unwrap();
    assert!(writer.blocking().commit(twice).unwrap_err().is_duplicate());
    let reader = log.reader();
    assert_eq!(block_on(support::all(&reader)).len(), 151);
    let reader = reader.blocking();
    assert_eq!(reader.quarantined().unwrap().len(), 1);
    assert_eq!(writer.blocking().retry_quarantined().unwrap().refused, 1);
    assert_eq!(reader.count(AuditQuery::new().ledger("odd")).unwrap(), 150);
    assert_eq!(reader.export_csv(AuditQuery::new(), std::io::sink()).unwrap(), 301);

    // Without that setting the second log collides with the names of the first log's statements.
    let named = url.split_once('?').unwrap().0;
    let open = || {
        let builder = support::builder(Store::postgres(named).unwrap())
            .in_memory_queue()
            .queue_max_entries(10)
            .queue_max_bytes(10_000);
        builder.blocking().open()
    };
    let first = open();
    // Unless the first log uses that connection at this moment.
    let mut refused = None;
    wait_until("the names collide", || {
        refused = open().err();
        refused.is_some()
    });
    let refused = refused.unwrap();
    assert!(refused.to_string().contains("end the URL with ?statement-cache-capacity=0"), "{refused:?}");
    drop(first);
}

#[test]
fn a_ledger_that_is_removed_whole_goes_on_after_its_last_entry() {
    let url = server().create_database();
    let log = in_memory(&url);
    for seq in 0..3 {
        assert_eq!(log.writer().blocking().commit(entry("old")).unwrap(), seq);
    }
    run(
        &url,
        "BEGIN;
         DELETE FROM tracing_audit_entries WHERE ledger = 'main';
         DELETE FROM tracing_audit_batches WHERE ledger = 'main';
         DELETE FROM tracing_audit_leaves WHERE ledger = 'main';
         DELETE FROM tracing_audit_nodes WHERE ledger = 'main';
         DELETE FROM tracing_audit_quarantine WHERE ledger = 'main';
         COMMIT",
    );
    assert_eq!(log.writer().blocking().commit(entry("new")).unwrap(), 3);
    let found = block_on(support::all(&log.reader()));
    assert_eq!(found.iter().map(|found| found.seq).collect::<Vec<_>>(), [3]);
}

#[test]
fn one_poison_entry_among_500_is_quarantined_alone_and_readmitted() {
    let url = server().create_database();
    let builder = support::builder(Store::postgres(&url).unwrap())
        .in_memory_queue()
        .queue_max_entries(10_000)
        .queue_max_bytes(8 << 20);
    let log = builder.flush_interval(Duration::from_hours(1)).batch_entries(1000).blocking().open().unwrap();
    run(&url, "ALTER TABLE tracing_audit_entries ADD CONSTRAINT no_poison CHECK (action <> 'poison')");
    for i in 0..500 {
        log.writer().try_write(entry(if i == 321 { "poison".to_owned() } else { i.to_string() })).unwrap();
    }
    log.blocking().flush().unwrap();
    let stats = log.stats();
    assert_eq!(
        (stats.committed, stats.quarantined, stats.pending, log.health()),
        (499, 1, 0, Health::Healthy)
    );
    assert_eq!(log.reader().blocking().quarantined().unwrap().len(), 1);
    run(&url, "ALTER TABLE tracing_audit_entries DROP CONSTRAINT no_poison");
    assert_eq!(log.writer().blocking().retry_quarantined().unwrap().committed, 1);
    assert_eq!(log.reader().blocking().quarantined().unwrap().len(), 0);
    assert_eq!(log.reader().blocking().count(AuditQuery::new().action("poison")).unwrap(), 1);
}

#[test]
fn a_server_that_starts_late_gets_the_entries_that_the_journal_accepted_meanwhile() {
    let mut server = Server::new();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::postgres(&server.database("postgres")).unwrap();
    let builder = support::builder(store).journal(directory.path().join("queue")).on_notice(|_| {});
    let log = builder.commit_timeout(Duration::from_millis(100)).blocking().open().unwrap();
    for i in 0..100 {
        log.writer().try_write(entry(i.to_string())).unwrap();
    }
    wait_until("health turns bad", || log.health() == Health::Failing);
    assert!(log.stats().last_error.unwrap().to_string().contains("cannot be reached"));
    assert!(log.writer().blocking().commit(entry("now")).unwrap_err().is_pending());
    server.command("start");
    settle(&log.writer());
    assert_eq!((log.stats().committed, log.health()), (101, Health::Healthy));
    assert_eq!(block_on(support::all(&log.reader())).len(), 101);
}

const URL: &str = "TRACING_AUDIT_TEST_URL";
const QUEUE: &str = "TRACING_AUDIT_TEST_QUEUE";

/// Accepts numbered entries until its standard input ends, commits them, and prints how many they were.
fn write_until_stdin_ends() -> bool {
    let Ok(url) = std::env::var(URL) else { return false };
    let queue = std::env::var_os(QUEUE).unwrap();
    let builder = support::builder(Store::postgres(&url).unwrap()).journal(queue).on_notice(|_| {});
    let log = builder.flush_interval(Duration::from_millis(5)).blocking().open().unwrap();
    let told = std::thread::spawn(|| drop(std::io::stdin().read_to_end(&mut Vec::new())));
    let mut accepted = 0;
    while !told.is_finished() {
        let named =
            AuditEntry { resource_id: Some(format!("{}-{accepted}", std::process::id())), ..entry("a") };
        accepted += u64::from(log.writer().try_write(named).is_ok());
        std::thread::sleep(Duration::from_micros(300));
    }
    settle(&log.writer());
    let stats = log.stats();
    assert_balanced(&stats);
    assert_eq!((stats.committed, stats.quarantined, stats.damaged), (accepted, 0, 0));
    println!("\n{accepted}");
    true
}

struct Writing {
    child: Child,
    out: ChildStdout,
}

impl Writing {
    fn start(test: &str, url: &str, queue: &Path) -> Self {
        let mut child = support::again(test)
            .env(URL, url)
            .env(QUEUE, queue)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        Self { child, out }
    }

    fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        assert!(support::wait(self.child).success(), "{said}");
        said.lines().find_map(|line| line.parse().ok()).unwrap()
    }
}

/// Four processes write while the server is ended again and again, in each of three ways.
fn server_ends(test: &str, rounds: usize) {
    if write_until_stdin_ends() {
        return;
    }
    let _heavy = heavy();
    let mut server = Server::new();
    server.command("start");
    let (url, queue) = (server.database("postgres"), tempfile::tempdir().unwrap());
    let writers: Vec<Writing> = (0..4).map(|_| Writing::start(test, &url, queue.path())).collect();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    for way in ["KILL", "QUIT", "terminate"] {
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(fastrand::u64(20..200)));
            if way == "terminate" {
                run(&url, terminate);
            } else {
                // At once, or as `pg_ctl stop -m immediate` does.
                server.command(way);
                server.command("start");
            }
        }
    }
    let accepted: u64 = writers.into_iter().map(Writing::end).sum();
    let found = all_in(&url);
    assert!(found.iter().map(|found| found.seq).eq(0..accepted), "{} of {accepted}", found.len());
    let mut writers: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for found in &found {
        let (writer, number) = found.entry.resource_id.as_ref().unwrap().split_once('-').unwrap();
        writers.entry(writer).or_default().push(number.parse().unwrap());
    }
    // The entries of each writer are in order, each once.
    assert!(writers.len() == 4 && writers.values().all(|numbers| (0..).zip(numbers).all(|(a, b)| a == *b)));
    assert_eq!(support::assert_tree(&url), 0);
    println!("3 x {rounds} ends of the server, {accepted} accepted by four processes, 0 lost, 0 doubled");
}

#[test]
fn nothing_accepted_is_lost_or_doubled_however_the_server_ends() {
    server_ends(this_test!(), 4);
}

#[test]
#[ignore = "takes minutes: `cargo test --features postgres --test suite postgres::operation -- --ignored`"]
fn nothing_accepted_is_lost_or_doubled_by_fifty_ends_of_the_server_of_each_kind() {
    server_ends(this_test!(), 50);
}

/// A proxy between a client and the server. It cuts a connection after it has passed on the COMMIT of the third batch,
/// when the answer has come and before the client gets it.
fn proxy(socket: &Path, cuts: &Arc<AtomicU64>, most: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (socket, cuts) = (socket.to_owned(), Arc::clone(cuts));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, socket, cuts) = (client.unwrap(), socket.clone(), Arc::clone(&cuts));
            std::thread::spawn(move || carry(client, &socket, &cuts, most));
        }
    });
    port
}

fn carry(mut client: TcpStream, socket: &Path, cuts: &AtomicU64, most: u64) {
    let mut server = UnixStream::connect(socket).unwrap();
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let cut = Arc::new(AtomicU64::new(0));
    let cutting = Arc::clone(&cut);
    let back = std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read) = answers.read(&mut buffer) {
            // The answer to the COMMIT, which never arrives.
            if read == 0
                || cutting.load(Ordering::SeqCst) == 1
                || to_client.write_all(&buffer[..read]).is_err()
            {
                break;
            }
        }
        drop(to_client.shutdown(std::net::Shutdown::Both));
    });
    let (mut buffer, mut commits) = ([0; 16 * 1024], 0);
    while let Ok(read) = client.read(&mut buffer) {
        if read == 0 {
            break;
        }
        if buffer[..read].windows(7).any(|bytes| bytes == b"COMMIT\0") {
            commits += 1;
            // Four of the commits are those that open the log.
            if commits == 7 && cuts.fetch_add(1, Ordering::SeqCst) < most {
                cut.store(1, Ordering::SeqCst);
            }
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(server.shutdown(std::net::Shutdown::Both));
    back.join().unwrap();
}

fn answers_lost(most: u64) {
    let _heavy = heavy();
    let mut server = Server::new();
    server.command("start");
    drop(in_memory(&server.database("postgres")));
    let cuts = Arc::new(AtomicU64::new(0));
    let port = proxy(&server.socket(), &cuts, most);
    let log = in_memory(&format!("postgres://postgres@127.0.0.1:{port}/postgres"));
    let mut written = 0;
    while cuts.load(Ordering::SeqCst) < most {
        log.writer().try_write(entry(written.to_string())).unwrap();
        written += 1;
        std::thread::sleep(Duration::from_millis(1));
        drop(log.blocking().flush());
    }
    settle(&log.writer());
    let stats = log.stats();
    assert_balanced(&stats);
    assert_eq!((stats.committed, stats.quarantined, log.health()), (written, 0, Health::Healthy));
    let found = all_in(&server.database("postgres"));
    let actions = (0..written).map(|number| number.to_string());
    assert!(found.iter().map(|found| found.entry.action.clone()).eq(actions));
    assert!(found.iter().map(|found| found.seq).eq(0..written));
    assert!(stats.retries >= most, "{stats:?}");
    // After the last of them nothing is held: another process goes on at once.
    let mut other = block_on(PgConnection::connect(&server.database("postgres"))).unwrap();
    let free = sqlx::raw_sql("SELECT 1 FROM tracing_audit_heads FOR UPDATE NOWAIT");
    block_on(free.execute(&mut other)).unwrap();
    assert_eq!(support::assert_tree(&server.database("postgres")), 0);
    println!("{most} answers to a COMMIT lost, {written} entries, 0 lost, 0 doubled");
}

#[test]
fn lost_answers_to_a_commit_double_nothing() {
    answers_lost(20);
}

#[test]
#[ignore = "takes half a minute: `cargo test --features postgres --test suite postgres::operation -- --ignored`"]
fn two_hundred_lost_answers_to_a_commit_double_nothing() {
    answers_lost(200);
}

#[test]
fn an_export_that_is_not_read_to_its_end_returns_its_connection() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = in_memory(&server().create_database());
    for number in 0..50_000 {
        log.writer()
            .blocking()
            .write(AuditEntry { reason: Some("x".repeat(200)), ..entry(number.to_string()) })
            .unwrap();
    }
    settle(&log.writer());
    let reader = log.reader();
    // More than it has connections.
    for _ in 0..12 {
        let everything = AuditQuery::new();
        assert!(block_on(reader.export_csv(everything, Gone)).unwrap_err().is_output());
    }
    assert_eq!(block_on(reader.count(AuditQuery::new())).unwrap(), 50_000);
}

#[test]
fn a_read_dropped_at_any_moment_leaves_no_transaction_in_an_application_s_pool() {
    let url = server().create_database();
    let log = in_memory(&url);
    for n in 0..2000 {
        log.writer().try_write(entry(n.to_string())).unwrap();
    }
    settle(&log.writer());
    block_on(async {
        execute(&url, "CREATE TABLE notes (n bigint)").await.unwrap();
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
        let pool = options.connect(&url).await.unwrap();
        let reader = AuditReader::new(pool.clone());
        for n in 0..400_u32 {
            let limit = Duration::from_micros(u64::from(n) * 10);
            // The read may end in time or not.
            drop(match n % 4 {
                0 => tokio::time::timeout(limit, reader.count(AuditQuery::new())).await.map(drop),
                1 => tokio::time::timeout(limit, reader.page(AuditQuery::new(), None, 10)).await.map(drop),
                2 => tokio::time::timeout(limit, reader.query(AuditQuery::new())).await.map(drop),
                _ => tokio::time::timeout(limit, reader.ledgers()).await.map(drop),
            });
            let note = sqlx::query("INSERT INTO notes VALUES ($1)").bind(i64::from(n));
            note.execute(&pool).await.unwrap();
        }
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let notes =
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM notes").fetch_one(&mut connection).await;
        assert_eq!(notes.unwrap(), 400);
    });
}

#[test]
fn the_server_ends_the_statement_of_a_dropped_read() {
    let url = server().create_database();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reader = AuditReader::new(Store::postgres(&url).unwrap());
    in_memory(&url).writer().blocking().commit(entry("a")).unwrap();
    // A transaction sees the sessions of its beginning only, so another connection looks for those that wait.
    let (_holder, mut connection) = block_on(async {
        let mut holder = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE tracing_audit_entries").execute(&mut holder).await.unwrap();
        (holder, PgConnection::connect(&url).await.unwrap())
    });
    let mut waiting = || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                       AND datname = current_database()";
        block_on(sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection)).unwrap()
    };
    for count in [true, false] {
        let reader = reader.clone();
        let read = runtime.spawn(async move {
            if count {
                reader.count(AuditQuery::new()).await.map(drop)
            } else {
                reader.query(AuditQuery::new()).await.map(drop)
            }
        });
        wait_until("the statement waits for the lock", || waiting() == 1);
        read.abort();
        // While the lock is still held.
        wait_until("the statement has ended", || waiting() == 0);
    }
}

#[test]
fn a_slow_export_survives_the_end_of_its_transaction() {
    let url = server().create_database();
    let log = in_memory(&url);
    for n in 0..60_000 {
        log.writer().try_write(entry(n.to_string())).unwrap();
    }
    settle(&log.writer());
    block_on(async {
        // Longer than a slow machine needs between two statements.
        let limit = "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() ||
                     ' SET idle_in_transaction_session_timeout = 3000'; END $$";
        execute(&url, limit).await.unwrap();
        let reader = AuditReader::new(Store::postgres(&url).unwrap());
        let mut chunks = pin!(reader.export_stream(AuditQuery::new(), ExportFormat::Csv));
        let (mut entries, mut count) = (0, 0);
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            entries += chunk.entries;
            if [0, 5, 50].contains(&count) {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            count += 1;
        }
        assert!(count > 51, "{count}");
        assert_eq!(entries, 60_000);
    });
}

#[test]
fn the_contract_s_fixture_has_a_journal() {
    let fixture = log_with(|builder| builder);
    assert_eq!(std::fs::read_dir(fixture.directory.path().join("queue")).unwrap().count(), 1);
}

#[test]
fn a_blocking_read_on_the_thread_of_a_runtime_does_not_wait_for_connections_of_that_runtime() {
    let url = server().create_database();
    let log = in_memory(&url);
    log.writer().blocking().commit(entry("a")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = runtime.block_on(async { PgPool::connect_lazy(&url).unwrap() });
    for reader in [log.reader(), AuditReader::new(pool)] {
        runtime.block_on(async {
            let count = || AuditQuery::new();
            assert_eq!(reader.count(count()).await.unwrap(), 1);
            // A connection that this very thread would drive waits to be used again, once it is back in its pool.
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(reader.blocking().count(count()).unwrap(), 1);
            assert_eq!(reader.blocking().query(count()).unwrap().len(), 1);
            assert_eq!(reader.count(count()).await.unwrap(), 1);
        });
    }
}

#[test]
fn entries_are_inserted_where_row_level_security_forbids_copying() {
    const SECURE: &str = "ALTER TABLE tracing_audit_entries ENABLE ROW LEVEL SECURITY;
         CREATE POLICY everything ON tracing_audit_entries USING (true)";
    let url = server().create_database();
    drop(in_memory(&url));
    run(
        &url,
        "CREATE ROLE watched LOGIN;
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO watched;
         GRANT INSERT ON tracing_audit_entries, tracing_audit_batches TO watched;
         GRANT INSERT, UPDATE ON tracing_audit_heads, tracing_audit_positions, tracing_audit_writers TO watched",
    );
    let as_watched = url.replace("postgres@", "watched@");
    let log = in_memory(&as_watched);
    let whole = |id| AuditEntry {
        id,
        session_id: Some(Uuid::from_u128(1)),
        agent_id: Some(Uuid::from_u128(2)),
        resource_id: Some("\u{10ffff}\t\\N".to_owned()),
        reason: Some(String::new()),
        risk_score: -0.1,
        metadata: serde_json::json!({ "whole": [1, 2.5, null, "\n"] }),
        ts: "1969-12-31T23:59:59.999999Z".parse().unwrap(),
        ..entry("a")
    };
    log.writer().blocking().commit(whole(Uuid::from_u128(3))).unwrap();
    // Under a log that could copy when it connected, which finds out, and one that never could.
    run(&url, SECURE);
    assert_eq!(commit(&log, entry("b")), 1);
    assert_balanced(&log.stats());
    let log = in_memory(&as_watched);
    assert_eq!(log.writer().blocking().commit(whole(Uuid::from_u128(4))).unwrap(), 2);
    assert_eq!(log.stats().retries, 0);
    let entries = block_on(support::all(&log.reader()));
    for (seq, id) in [(0, 3), (2, 4)] {
        assert_eq!(entries[seq].entry, whole(Uuid::from_u128(id)));
    }
}

#[test]
fn reads_of_several_ledgers_come_ledger_by_ledger_and_within_one_limit() {
    let url = server().create_database();
    let of = |ledger: &str| {
        let builder = support::builder(Store::postgres(&url).unwrap()).ledger(ledger);
        builder.in_memory_queue().queue_max_entries(100).queue_max_bytes(100_000).blocking().open().unwrap()
    };
    let logs = ["b", "a"].map(of);
    for log in &logs {
        for action in ["x", "y", "z"] {
            log.writer().blocking().commit(entry(action)).unwrap();
        }
    }
    let reader = AuditReader::new(Store::postgres(&url).unwrap());
    let reader = reader.blocking();
    let ledgers: Vec<_> = reader.ledgers().unwrap().into_iter().map(|one| (one.name, one.next_seq)).collect();
    assert_eq!(ledgers, [("a".to_owned(), 3), ("b".to_owned(), 3)]);
    let exported = |query: AuditQuery| {
        let mut lines = Vec::new();
        reader.export(query, ExportFormat::JsonLines, &mut lines).unwrap();
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter::<tracing_audit::SequencedEntry>();
        lines.map(|line| line.unwrap()).map(|found| (found.ledger, found.seq)).collect::<Vec<_>>()
    };
    let expected: Vec<_> =
        ["a", "b"].iter().flat_map(|name| (0..3).map(|seq| ((*name).to_owned(), seq))).collect();
    assert_eq!(exported(AuditQuery::new()), expected);
    assert_eq!(exported(AuditQuery::new().limit(4)), expected[..4]);
    assert_eq!(exported(AuditQuery::new().ledger("b")), expected[3..]);
    let counts = reader.count_by(AuditQuery::new().action("x"), CountBy::Ledger).unwrap();
    assert_eq!(
        counts.iter().map(|one| (one.key.as_deref(), one.entries)).collect::<Vec<_>>(),
        [(Some("a"), 1), (Some("b"), 1)]
    );
    let id = block_on(support::all(&logs[0].reader()))[1].entry.id;
    let found = reader.get(id).unwrap();
    assert_eq!((found.len(), &*found[0].ledger, found[0].seq), (1, "b", 1));
}

#[test]
fn an_export_by_time_merges_several_ledgers_and_leaves_out_one_that_begins_meanwhile() {
    let url = server().create_database();
    let ts = |n: u64| DateTime::from_timestamp_micros(1_700_000_000_000_000 + (n / 3).cast_signed()).unwrap();
    let write = |ledger: &str, entries: u64| {
        let builder = support::builder(Store::postgres(&url).unwrap()).ledger(ledger);
        let log = builder
            .in_memory_queue()
            .queue_max_entries(20_000)
            .queue_max_bytes(64 << 20)
            .blocking()
            .open()
            .unwrap();
        for n in 0..entries {
            let decision = if n % 999 == 0 { Decision::Deny } else { Decision::Allow }.into();
            let resource = ledger.to_owned();
            let entry = AuditEntry { resource, ts: ts(n), decision, ..entry(n.to_string()) };
            log.writer().try_write(entry).unwrap();
        }
        settle(&log.writer());
        log
    };
    let log = write("a", 12_000);
    write("b", 11_000);
    let mut expected: Vec<(u64, &str)> = (0..12_000).map(|n| (n, "a")).collect();
    expected.extend((0..11_000).map(|n| (n, "b")));
    expected.sort_by_key(|(n, ledger)| (Reverse((ts(*n), *n)), *ledger));

    let reader = log.reader();
    let mut chunks = pin!(reader.export_stream(AuditQuery::new(), ExportFormat::CsvUnescaped));
    let mut bytes = block_on(chunks.try_next()).unwrap().unwrap().bytes;
    write("c", 9000);
    while let Some(chunk) = block_on(chunks.try_next()).unwrap() {
        bytes.extend(chunk.bytes);
    }
    let rows: Vec<_> = csv::Reader::from_reader(&*bytes).into_records().map(Result::unwrap).collect();
    let rows: Vec<(u64, &str)> = rows.iter().map(|row| (row[4].parse().unwrap(), &row[5])).collect();
    assert_eq!(rows, expected);
    let reader = reader.blocking();
    assert_eq!(reader.query(AuditQuery::new()).unwrap().len(), 32_000);
    // By an index, more than are read at once, and all at once.
    let all =
        reader.query(AuditQuery::new().workspace_id(Uuid::nil()).none_of(Column::Resource, ["c"])).unwrap();
    let all: Vec<_> = all.iter().map(|entry| (entry.action.parse().unwrap(), &*entry.resource)).collect();
    assert_eq!(all, expected);
    let newest = reader.query(AuditQuery::new().workspace_id(Uuid::nil()).ledger("b").limit(9)).unwrap();
    let newest: Vec<u64> = newest.iter().map(|entry| entry.action.parse().unwrap()).collect();
    assert_eq!(newest, (10_991..11_000).rev().collect::<Vec<_>>());
    assert!(reader.query(AuditQuery::new().workspace_id(Uuid::nil()).ledger("d")).unwrap().is_empty());
    let refused =
        reader.query(AuditQuery::new().decision(Decision::Deny).none_of(Column::Resource, ["c"])).unwrap();
    let refused: Vec<_> =
        refused.iter().map(|entry| (entry.action.parse().unwrap(), &*entry.resource)).collect();
    expected.retain(|(n, _)| n % 999 == 0);
    assert_eq!(refused, expected);
}

#[test]
fn tables_of_the_first_version_are_read_and_brought_up_to_date_by_the_next_log() {
    let url = server().create_database();
    let store = || Store::from(Store::postgres(&url).unwrap());
    let first = store().migrations().swap_remove(0).sql;
    block_on(async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(first)).execute(&mut connection).await.unwrap();
    });
    support::an_older_version_is_brought_up_to_date(&store);
}

#[test]
fn each_query_is_answered_by_its_index() {
    let url = server().create_database();
    drop(in_memory(&url));
    let store = Store::from(Store::postgres(&url).unwrap());
    // There are few entries of each kind.
    run(&url, "INSERT INTO tracing_audit_entries
         SELECT 'main', i, gen_random_uuid(), to_timestamp(i), lpad(to_hex(i / 10), 32, '0')::uuid,
             lpad(to_hex(i / 10), 32, '0')::uuid, lpad(to_hex(i / 10), 32, '0')::uuid,
             CASE WHEN i % 1000 = 0 THEN 'audit.gap' ELSE 'action.' || i / 10 END, 'r', i::text,
             CASE WHEN i % 1000 = 1 THEN 'Deny' ELSE 'Allow' END, NULL,
             CASE WHEN i % 1000 = 2 THEN 0.9 ELSE 0.1 END, json_build_object('client', json_build_object('ip', i / 10)),
             CASE WHEN i % 1000 = 3 THEN '[]'::json END
         FROM generate_series(0, 49999) i;
         UPDATE tracing_audit_heads SET next_seq = 50000;
         INSERT INTO tracing_audit_batches VALUES ('main', 0, 50000, gen_random_uuid(), 50000, now(), to_timestamp(0), to_timestamp(49999));
         ANALYZE tracing_audit_entries");
    let reader = AuditReader::new(store.clone());
    let id = |n: u128| Uuid::from_u128(n);
    let of = AuditQuery::new;
    let answered = |query: AuditQuery, serves: &str, entries: usize| {
        let scans = || {
            let indexes = store.blocking().indexes().unwrap();
            indexes.into_iter().find(|index| index.serves == serves).unwrap().scans.unwrap()
        };
        let before = scans();
        let page = reader.blocking().page(&query, None, 1000).unwrap();
        assert_eq!(page.entries.len(), entries, "{query:?}");
        // A backend reports its statistics at its next statement, and not more often than once a second.
        wait_until(serves, || {
            reader.blocking().count(of().ledger("another")).unwrap();
            scans() > before
        });
    };
    for (query, serves, entries) in [
        (of().workspace_id(id(7)), "workspace_id", 10),
        (of().session_id(id(7)), "session_id", 10),
        (of().decision(Decision::Deny), "decision of Deny or Mask", 50),
        (of().risk_at_least(0.8), "risk_score of 0.8 or more", 50),
        (of().with_problems(), "problems", 50),
        (of().action("audit.gap"), "action audit.gap", 50),
    ] {
        answered(query, serves, entries);
    }
    block_on(async {
        for on in ["agent_id", "action", "metadata.client.ip", "resource_id"] {
            store.create_index(on.parse::<IndexOn>().unwrap()).await.unwrap();
        }
    });
    for (query, serves, entries) in [
        (of().agent_id(id(7)), "agent_id", 10),
        (of().action("action.7"), "action", 10),
        (of().action_prefix("action.77"), "action", 110),
        (of().any_of(Column::Action, ["action.7", "action.8"]), "action", 20),
        (of().metadata_any_of("client.ip", ["7"]), "metadata.client.ip", 10),
        // The rarer of two, by the statistics that were taken of it.
        (of().session_id(id(7)).resource_id("75"), "resource_id", 1),
    ] {
        answered(query, serves, entries);
    }
}

#[test]
fn an_interrupted_index_is_created_again_and_one_under_construction_is_waited_for() {
    let url = server().create_database();
    drop(in_memory(&url));
    let store = Store::from(Store::postgres(&url).unwrap().schema("public").unwrap());
    let on = IndexOn::Column(Column::Action);
    let ready = || {
        let indexes = store.blocking().indexes().unwrap();
        indexes.iter().find(|index| index.serves == "action").map(|index| index.ready)
    };
    // The end of a server leaves an invalid index.
    block_on(store.create_index(&on)).unwrap();
    run(
        &url,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"tracing_audit_by_action\"'::regclass",
    );
    assert_eq!(ready(), Some(false));
    block_on(store.create_index(&on)).unwrap();
    assert_eq!(ready(), Some(true));
    block_on(store.drop_index(&on)).unwrap();
    assert_eq!(ready(), None);
    // Two at once, while a transaction that began before holds both up.
    block_on(async {
        let mut other = PgConnection::connect(&url).await.unwrap();
        let mut transaction = other.begin().await.unwrap();
        sqlx::query("LOCK TABLE tracing_audit_entries IN ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            transaction.rollback().await.unwrap();
        };
        let (first, second, ()) = tokio::join!(store.create_index(&on), store.create_index(&on), release);
        first.unwrap();
        second.unwrap();
    });
    assert_eq!(ready(), Some(true));
}
