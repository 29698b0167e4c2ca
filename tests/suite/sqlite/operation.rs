//! From accepted to committed on SQLite: drops, full queues, databases that are locked or replaced, an application's
//! pool, and files that are refused.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tracing_audit::{AuditEntry, AuditFilter, AuditLog, AuditReader, AuditWriter, Health, Store, WhenFull};
use uuid::Uuid;

use crate::support::{
    self, assert_balanced, block_on, commit, connect, entry, execute, in_own_process, is_root, lock, log,
    log_with, only, open, run, this_test, unlock, wait_until,
};

/// Settles what a writer accepted, however long one flush waits.
async fn settled(writer: &AuditWriter) {
    let start = Instant::now();
    while let Err(error) = writer.flush().await {
        assert!(error.is_pending() && start.elapsed() < support::PATIENCE, "{error:?}");
    }
}

/// Drops what flushes when it is dropped, for at most five seconds: a slow machine may need longer.
fn dropped<T>(value: T, committed: impl Fn() -> bool) {
    let start = Instant::now();
    drop(value);
    let in_time = start.elapsed() < Duration::from_secs(5);
    assert!(!in_time || committed(), "dropped without a flush");
    wait_until("what was flushed is committed", committed);
}

#[tokio::test]
async fn a_program_written_against_the_seed_works_with_its_import_changed() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let writer = AuditWriter::new(pool.clone(), Duration::from_millis(100), 500);
    let reader = AuditReader::new(pool);
    let ws = Uuid::new_v4();
    let written = AuditEntry {
        id: Uuid::new_v4(),
        session_id: None,
        workspace_id: ws,
        agent_id: Some(Uuid::new_v4()),
        action: "read".into(),
        resource: "document".into(),
        resource_id: Some("1".into()),
        decision: "Allow".into(),
        reason: None,
        risk_score: 0.25,
        metadata: serde_json::json!({"k": "v"}),
        ts: chrono::DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap(),
    };
    writer.write(written.clone()).await.unwrap();
    match writer.commit(entry("commit")).await {
        Ok(seq) => assert_eq!(seq, 1),
        // On a slow machine it takes longer than five seconds.
        Err(error) => assert!(error.is_pending(), "{error:?}"),
    }
    settled(&writer).await;
    drop(writer);
    let filter = AuditFilter { workspace_id: Some(ws), ..Default::default() };
    assert_eq!(reader.query(filter).await.unwrap(), [written]);
    let mut file = Vec::new();
    reader.export_csv(AuditFilter::default(), &mut file).await.unwrap();
    assert_eq!(String::from_utf8(file).unwrap().lines().count(), 3);
}

#[test]
fn dropping_the_last_writer_flushes_without_any_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
    let writer = AuditWriter::new(store.clone(), Duration::MAX, 500);
    for _ in 0..100 {
        writer.try_write(entry("a")).unwrap();
    }
    drop(writer.clone());
    assert_eq!(writer.stats().offered, 100);
    let reader = AuditReader::new(store);
    dropped(writer, || reader.blocking().count(AuditFilter::default()).unwrap() == 100);
}

#[test]
fn dropping_the_log_flushes_although_a_writer_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
    let never = Duration::from_hours(1);
    let log = AuditLog::builder().store(store).flush_interval(never).blocking().open().unwrap();
    let writer = log.writer();
    writer.try_write(entry("a")).unwrap();
    dropped(log, || writer.stats().committed == 1);
}

#[test]
fn an_entry_that_the_database_refuses_waits_for_others_to_tell_it_from_a_bad_database() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(300)));
    fixture.run(
        "CREATE TRIGGER refuse BEFORE INSERT ON tracing_audit_entries WHEN new.action = 'poison'
         BEGIN SELECT RAISE(ABORT, 'poison'); END",
    );
    let writer = fixture.log.writer();
    // Alone, it may be the database that is bad.
    assert!(block_on(writer.commit(entry("poison"))).unwrap_err().is_pending());
    assert_eq!(fixture.log.stats().quarantined, 0);
    writer.try_write(entry("fine")).unwrap();
    fixture.settle();
    let stats = fixture.log.stats();
    assert_eq!((stats.committed, stats.quarantined, stats.pending), (1, 1, 0));
    assert_eq!(fixture.entry().entry.action, "fine");
}

#[test]
fn a_full_queue_rejects_at_once_or_after_one_wait_as_configured_and_keeps_what_it_took() {
    let full = |when_full| {
        let fixture = log_with(|builder| {
            builder.in_memory_queue().queue_max_entries(10).queue_max_bytes(1 << 20).when_full(when_full)
        });
        block_on(async {
            let blocker = lock(&fixture.db).await;
            let writer = fixture.log.writer();
            for _ in 0..10 {
                writer.write(entry("kept")).await.unwrap();
            }
            for _ in 0..20 {
                let error = writer.write(entry("rejected")).await.unwrap_err();
                assert!(error.is_full() && error.is_rejected(), "{error}");
            }
            assert_balanced(&fixture.log.stats());
            assert_eq!(fixture.log.stats().pending, 10);
            unlock(blocker).await;
        });
        fixture.settle();
        let found = fixture.entries();
        assert_eq!(found.len(), 11);
        assert!(found[..10].iter().all(|found| found.entry.action == "kept"));
        // The log says itself what it does not hold.
        let gap = &found[10];
        assert_eq!((gap.entry.action.as_str(), gap.entry.decision.as_str()), ("audit.gap", ""));
        assert!(gap.problems.is_empty(), "{gap:?}");
        assert_eq!(gap.entry.metadata["full"], 20);
        assert!(gap.entry.metadata["from"].as_str() <= gap.entry.metadata["until"].as_str());
        let stats = fixture.log.stats();
        assert_eq!((stats.offered, stats.gaps, stats.rejected), (31, 1, 20));
        assert_eq!(stats.rejections.full, 20);
        // There is room again, so the next one may wait again.
        fixture.log.writer().try_write(entry("after")).unwrap();
        assert_eq!(fixture.entries().len(), 12);
    };
    full(WhenFull::Reject);
    full(WhenFull::Block { timeout: Duration::from_millis(300) });
}

#[test]
fn a_writer_that_waits_for_room_goes_on_when_there_is_some() {
    let fixture = log_with(|builder| {
        builder
            .in_memory_queue()
            .queue_max_entries(5)
            .when_full(WhenFull::Block { timeout: support::PATIENCE })
    });
    let writer = fixture.log.writer();
    block_on(async {
        for _ in 0..500 {
            writer.write(entry("a")).await.unwrap();
        }
    });
    assert_eq!(fixture.entries().len(), 500);
    assert_eq!(fixture.log.stats().rejected, 0);
}

#[test]
fn entries_survive_a_database_that_stays_locked_beyond_every_timeout() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(200)));
    let writer = fixture.log.writer();
    block_on(async {
        let blocker = lock(&fixture.db).await;
        for i in 0..1000 {
            writer.write(entry(i.to_string())).await.unwrap();
        }
        let error = writer.flush().await.unwrap_err();
        assert!(error.is_pending() && error.to_string().contains("1000"), "{error}");
        let error = writer.commit(entry("1000")).await.unwrap_err();
        assert!(error.is_pending() && !error.is_rejected(), "{error}");
        // An attempt fails after the five seconds for which it waits.
        wait_until("an attempt has failed", || fixture.log.stats().retries > 0);
        let error = writer.flush().await.unwrap_err();
        assert!(
            std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("locked")),
            "{error:?}"
        );
        assert_balanced(&fixture.log.stats());
        unlock(blocker).await;
    });
    let actions: Vec<String> = fixture.entries().into_iter().map(|found| found.entry.action).collect();
    assert_eq!(actions, (0..=1000).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_schema_broken_under_us_quarantines_nothing_and_heals() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(500)));
    let writer = fixture.log.writer();
    fixture.run("ALTER TABLE tracing_audit_positions RENAME COLUMN position TO lost");
    (0..10).for_each(|_| writer.blocking().write(entry("a")).unwrap());
    assert!(writer.blocking().flush().unwrap_err().is_pending());
    fixture.run("ALTER TABLE tracing_audit_positions RENAME COLUMN lost TO position");
    assert_eq!(fixture.entries().len(), 10);
    assert_eq!(fixture.log.stats().quarantined, 0);
}

#[test]
fn a_file_replaced_under_us_is_an_error_and_not_a_silent_loss() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(300)));
    let file = fixture.directory.path().join("audit.db");
    let aside = fixture.directory.path().join("aside.db");
    let writer = fixture.log.writer();
    writer.try_write(entry("before")).unwrap();
    fixture.settle();
    std::fs::rename(&file, &aside).unwrap();
    let error = block_on(writer.commit(entry("during"))).unwrap_err();
    assert!(error.is_pending(), "{error}");
    assert!(!file.exists(), "a new ledger was begun in place of the one that is gone");
    std::fs::write(&file, "").unwrap();
    assert!(fixture.log.blocking().flush().unwrap_err().is_pending());
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0, "a new ledger was begun in another file");
    std::fs::rename(&aside, &file).unwrap();
    fixture.settle();
    let actions: Vec<String> = fixture.entries().into_iter().map(|found| found.entry.action).collect();
    assert_eq!(actions, ["before", "during"]);
}

#[test]
fn shutdown_with_the_database_locked_says_what_is_left() {
    let fixture = log();
    block_on(async {
        let _blocker = lock(&fixture.db).await;
        fixture.log.writer().write(entry("a")).await.unwrap();
        let report = fixture.log.shutdown(Duration::from_millis(200)).await.unwrap();
        assert_eq!((report.stats.pending, report.stats.committed), (1, 0));
        let error = fixture.log.writer().write(entry("late")).await.unwrap_err();
        assert!(error.is_closed() && error.is_rejected(), "{error}");
        assert_balanced(&fixture.log.stats());
    });
}

#[test]
fn an_app_whose_pool_it_is_keeps_its_own_tables_and_journal_mode() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    block_on(async {
        let users = "CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('alice')";
        execute(file.to_str().unwrap(), users).await.unwrap();
        let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&file)).await.unwrap();
        let log = support::builder(pool.clone()).open().await.unwrap();
        log.writer().commit(entry("a")).await.unwrap();
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
        assert_eq!(mode, "delete");
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        assert!(
            tables.iter().all(|name| name == "users" || name.starts_with("tracing_audit_")),
            "{tables:?}"
        );
        assert_eq!(log.shutdown(support::PATIENCE).await.unwrap().stats.pending, 0);
    });
}

#[tokio::test]
async fn a_pool_on_a_file_that_is_locked_at_first_is_not_taken_for_one_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    let mut blocker = connect(&file).await;
    sqlx::raw_sql("CREATE TABLE users (name TEXT); BEGIN EXCLUSIVE").execute(&mut blocker).await.unwrap();
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(Duration::from_millis(50));
    let pool = sqlx::sqlite::SqlitePoolOptions::new().connect_lazy_with(options);
    let writer = AuditWriter::new(pool.clone(), Duration::from_millis(1), 1);
    writer.write(entry("a")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(writer.stats().pending, 1);
    unlock(blocker).await;
    settled(&writer).await;
    // The log has a connection of its own, so the application's pool may close.
    pool.close().await;
    writer.write(entry("b")).await.unwrap();
    settled(&writer).await;
    assert_eq!((writer.stats().committed, writer.stats().quarantined), (2, 0));
}

#[tokio::test]
async fn a_pool_in_memory_with_a_single_connection_is_shared() {
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let pool = options.connect("sqlite::memory:").await.unwrap();
    let log = support::builder(pool.clone()).open().await.unwrap();
    for round in 1..=20_u64 {
        log.writer().write(entry("a")).await.unwrap();
        log.flush().await.unwrap();
        assert_eq!(log.reader().count(AuditFilter::default()).await.unwrap(), round);
    }
    let report = log.shutdown(support::PATIENCE).await.unwrap();
    assert_eq!(report.stats.committed, 20);
    drop(log);
    // The connection came back to the pool: with it, the database would have gone.
    assert_eq!(AuditReader::new(pool).count(AuditFilter::default()).await.unwrap(), 20);
}

#[test]
fn blocking_reads_keep_a_database_in_memory_alive() {
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let pool = runtime.block_on(options.connect("sqlite::memory:")).unwrap();
    let log = support::builder(pool).blocking().open().unwrap();
    for round in 1..=20_u64 {
        assert_eq!(log.writer().blocking().commit(entry("a")).unwrap(), round - 1);
        assert_eq!(log.reader().blocking().count(AuditFilter::default()).unwrap(), round);
        assert_eq!(log.reader().blocking().query(AuditFilter::default()).unwrap().len() as u64, round);
    }
}

#[tokio::test]
async fn a_reader_of_a_database_without_our_tables_reads_an_empty_log() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let reader = AuditReader::new(pool.clone());
    assert_eq!(reader.query(AuditFilter::default()).await.unwrap(), []);
    assert_eq!(reader.count(AuditFilter::default()).await.unwrap(), 0);
    let page = reader.page(AuditFilter::default(), None, 10).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none() && page.prev.is_none());
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&pool).await.unwrap();
    assert_eq!(tables, 0, "a reader never migrates");
}

#[test]
fn the_view_shows_ids_and_times_as_text() {
    let fixture = log();
    let written = AuditEntry {
        session_id: Some(Uuid::now_v7()),
        ts: chrono::DateTime::from_timestamp_micros(-1).unwrap(),
        ..entry("a")
    };
    block_on(fixture.log.writer().commit(written.clone())).unwrap();
    let output = std::process::Command::new("sqlite3")
        .arg(fixture.directory.path().join("audit.db"))
        .arg("SELECT seq, id, session_id, workspace_id, ifnull(agent_id, '-'), action, ts, committed_at FROM tracing_audit_log")
        .output()
        .expect("the sqlite3 shell is needed: on Debian, 'apt-get install sqlite3'");
    let text = String::from_utf8(output.stdout).unwrap();
    let cells: Vec<&str> = text.trim().split('|').collect();
    let session = written.session_id.unwrap().to_string();
    assert_eq!(cells[..3], ["0", &written.id.to_string(), &session]);
    assert_eq!(cells[3..7], [&Uuid::nil().to_string(), "-", "a", "1969-12-31T23:59:59.999999Z"]);
    let committed: chrono::DateTime<chrono::Utc> = cells[7].parse().unwrap();
    assert!((chrono::Utc::now() - committed).num_seconds().abs() < 3600);
}

/// Opens and says why it cannot.
fn refused(path: &Path) -> String {
    let error = AuditLog::builder().store(Store::sqlite(path).unwrap()).blocking().open().unwrap_err();
    assert!(error.is_store() || error.is_schema(), "{error:?}");
    error.to_string()
}

#[test]
fn files_that_cannot_be_a_ledger_are_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);

    std::fs::write(file("text.db"), "This is not a database, however long it may be. ".repeat(100)).unwrap();
    assert!(refused(&file("text.db")).contains("is not a SQLite database: choose another path"));
    assert!(refused(directory.path()).contains("is a directory: give the path of a file in it"));
    assert!(refused(&file("missing/audit.db")).contains("the directory that it lies in must exist"));
    let in_memory = AuditLog::builder().store(Store::sqlite(file("missing/audit.db")).unwrap());
    let error = in_memory.in_memory_queue().queue_max_entries(10).blocking().open().unwrap_err();
    assert!(error.to_string().contains("there is no directory"), "{error}");

    drop(AuditLog::builder().store(Store::sqlite(file("newer.db")).unwrap()).blocking().open().unwrap());
    run(file("newer.db").to_str().unwrap(), "INSERT INTO tracing_audit_migrations VALUES (99, 0)");
    assert!(refused(&file("newer.db")).contains("upgrade tracing-audit"));

    drop(AuditLog::builder().store(Store::sqlite(file("main.db")).unwrap()).blocking().open().unwrap());
    let other = AuditLog::builder()
        .store(Store::sqlite(file("main.db")).unwrap())
        .ledger("payments")
        .blocking()
        .open();
    assert!(other.unwrap_err().to_string().contains("holds the ledger \"main\", not \"payments\""));

    assert!(Store::sqlite(":memory:").unwrap_err().is_config());
    assert!(Store::sqlite("sqlite::memory:").unwrap_err().is_config());
    assert!(AuditLog::builder().blocking().open().unwrap_err().is_config());
}

/// Root may write whatever the mode says, so the child runs as nobody where it can.
#[cfg(unix)]
#[test]
fn a_read_only_file_is_refused_with_the_remedy() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    const FILE: &str = "TRACING_AUDIT_TEST_READ_ONLY";
    if let Some(file) = std::env::var_os(FILE) {
        let message = refused(Path::new(&file));
        assert!(message.contains("is read-only: this process needs to read and write"), "{message}");
        let in_memory =
            AuditLog::builder().store(Store::sqlite(file).unwrap()).in_memory_queue().queue_max_entries(10);
        let message = in_memory.blocking().open().unwrap_err().to_string();
        assert!(message.contains("is read-only: this process needs to write"), "{message}");
        return;
    }
    // No other thread starts a process meanwhile, which would hold the copy open for writing.
    in_own_process(this_test!(), || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.db");
        let log = open(&file);
        assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.pending, 0);
        let left: BTreeSet<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|found| found.unwrap().file_name()).collect();
        let expected: &[&str] =
            if cfg!(target_os = "linux") { &["audit.db", "audit.db.turn"] } else { &["audit.db"] };
        assert!(
            left.iter().eq(expected),
            "a closed log leaves the database and the file of its turns: {left:?}"
        );
        // A copy of this program that the user nobody can read, wherever the build directory is.
        let program = directory.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mode =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(&program, 0o755);
        mode(&file, 0o444);
        mode(directory.path(), 0o555);
        let mut command = std::process::Command::new(program);
        command.args(only(this_test!())).env(FILE, &file);
        if is_root() {
            command.uid(65534).gid(65534);
        }
        let status = command.stdout(std::process::Stdio::null()).status().unwrap();
        mode(directory.path(), 0o755);
        assert!(status.success());
    });
}

#[test]
fn span_fields_that_belong_to_events_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::sqlite(directory.path().join("audit.db")).unwrap();
    let builder = AuditLog::builder().store(store).span_fields(["decision"]);
    assert!(builder.blocking().open().unwrap_err().is_config());
}

#[test]
fn tables_of_the_first_version_are_read_and_brought_up_to_date_by_the_next_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let store = || Store::sqlite(&file).unwrap();
    let first = store().migrations()[0].sql.clone();
    run(file.to_str().unwrap(), first);
    support::an_older_version_is_brought_up_to_date(&store);
}

#[test]
fn a_url_of_another_database_is_refused_without_repeating_it() {
    for url in [
        "postgres://u:hunter2@host/db",
        "mysql://u:hunter2@host/db",
        "sqlite://u:hunter2@host?mode=x&key=hunter2",
    ] {
        let error = Store::sqlite(url).unwrap_err();
        assert!(error.is_config(), "{error}");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(!format!("{error} {error:?} {cause}").contains("hunter2"), "{error:?}");
    }
    let encrypted = SqliteConnectOptions::new().filename("audit.db").pragma("key", "hunter2");
    let pool = block_on(async { SqlitePool::connect_lazy_with(encrypted) });
    let store = Store::from(pool);
    let builder = AuditLog::builder().store(store.clone());
    let shown = format!("{store:?} {builder:?} {:?}", AuditReader::new(store.clone()));
    assert!(shown.contains("audit.db") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_log_finds_its_file_after_the_process_has_changed_its_directory() {
    in_own_process(this_test!(), || {
        let directory = tempfile::tempdir().unwrap();
        std::env::set_current_dir(directory.path()).unwrap();
        for name in ["plain.db", "sqlite:url.db", "sqlite://with.slashes.db?mode=rwc"] {
            let store = Store::sqlite(name).unwrap();
            std::env::set_current_dir("/").unwrap();
            let log = AuditLog::builder().store(store).blocking().open().unwrap();
            log.writer().blocking().commit(AuditEntry::new(Uuid::nil(), "a", "r")).unwrap();
            drop(log);
            std::env::set_current_dir(directory.path()).unwrap();
        }
        for name in ["plain.db", "url.db", "with.slashes.db"] {
            assert!(directory.path().join(name).is_file(), "{name}");
        }
    });
}

#[test]
fn a_view_in_the_place_of_the_table_is_named_and_waited_for() {
    let fixture = log_with(|builder| builder.commit_timeout(Duration::from_millis(300)).on_notice(|_| {}));
    commit(&fixture.log, entry("before"));
    fixture.run(
        "ALTER TABLE tracing_audit_entries RENAME TO aside;
         CREATE VIEW tracing_audit_entries AS SELECT * FROM aside;
         CREATE TRIGGER swallows INSTEAD OF INSERT ON tracing_audit_entries BEGIN SELECT 1; END",
    );
    assert!(fixture.log.writer().blocking().commit(entry("a")).unwrap_err().is_pending());
    wait_until("it is named", || {
        fixture.log.stats().last_error.is_some_and(|last| last.to_string().contains("DROP TRIGGER swallows"))
    });
    assert_eq!(fixture.log.health(), Health::Failing);
    fixture.run("DROP VIEW tracing_audit_entries; ALTER TABLE aside RENAME TO tracing_audit_entries");
    fixture.settle();
    let found = fixture.entries();
    assert!(found.iter().map(|found| &*found.entry.action).eq(["before", "a"]));
    assert_eq!((fixture.log.health(), fixture.log.stats().quarantined), (Health::Healthy, 0));
}

#[test]
fn the_view_for_people_spells_times_before_1970() {
    let fixture = log();
    commit(&fixture.log, entry("a"));
    for (micros, spelled) in [
        (-500_000_i64, "1969-12-31T23:59:59.500000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (-1_000_000, "1969-12-31T23:59:59.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_500_000, "1970-01-01T00:00:01.500000Z"),
    ] {
        run(&fixture.db, format!("UPDATE tracing_audit_batches SET committed_at = {micros}"));
        let found: String = block_on(async {
            let mut connection = connect(&fixture.db).await;
            sqlx::query_scalar("SELECT committed_at FROM tracing_audit_log")
                .fetch_one(&mut connection)
                .await
                .unwrap()
        });
        assert_eq!(found, spelled);
    }
}
