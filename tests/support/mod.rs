//! What several tests need: a process of their own, a log on a fresh file, its rows as JSON.
#![allow(dead_code, reason = "each test binary uses its part")]

#[cfg(feature = "postgres")]
pub(crate) mod postgres;

use std::{
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tracing_audit::{
    AuditEntry, AuditFilter, AuditLog, AuditLogBuilder, AuditReader, Migrate, Page, SequencedEntry, Stats,
    Store,
};

/// No test takes longer than this; one that does hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

const CHILD: &str = "TRACING_AUDIT_TEST_CHILD";

/// Runs the body in a process of its own, where it may install a global subscriber. `test` is the name of the
/// test function that calls this.
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let child = child(test, &[]);
    let status = wait(child);
    assert!(status.success(), "{test} failed in its own process: {status}");
}

/// Starts this test binary again for one test, with more variables.
pub(crate) fn child(test: &str, variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn wait(mut child: Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("a child process hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the body in a process whose mounts are its own and go with it.
pub(crate) fn in_own_mounts(test: &str, body: impl FnOnce(&Path)) {
    const MOUNTED: &str = "TRACING_AUDIT_TEST_MOUNT";
    if let Some(directory) = std::env::var_os(MOUNTED) {
        return body(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = Command::new("unshare");
    command.args(if root { &["--mount"][..] } else { &["--mount", "--user", "--map-root-user"] });
    let child = command
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(MOUNTED, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("'unshare' is needed: on Debian, 'apt-get install util-linux'");
    let status = wait(child);
    assert!(status.success(), "{test} failed in its own process (it needs to mount): {status}");
}

pub(crate) fn mount(options: &str, directory: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory);
    command.status().expect("'mount' is needed: on Debian, 'apt-get install mount'").success()
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn assert_balanced(stats: &Stats) {
    let Stats { offered, recovered, committed, rejected, quarantined, damaged, pending, .. } = stats;
    assert_eq!(offered + recovered, committed + rejected + quarantined + damaged + pending, "{stats:?}");
    assert_eq!(stats.rejected_because.total(), *rejected);
}

/// On one runtime for all, since the connections of a pool live in that in which they were opened.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(future)
}

/// A log on a fresh database; a file is deleted with it.
pub(crate) struct Fixture {
    pub(crate) log: AuditLog,
    /// A file, or a URL.
    pub(crate) db: String,
    pub(crate) directory: TempDir,
}

pub(crate) fn log() -> Fixture {
    log_with(|builder| builder)
}

pub(crate) fn log_with(configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("audit.db").to_str().unwrap().to_owned();
    let log = configure(AuditLog::builder().store(store(&db))).open_blocking().unwrap();
    Fixture { log, db, directory }
}

pub(crate) fn store(db: &str) -> Store {
    #[cfg(feature = "postgres")]
    if db.starts_with("postgres:") {
        return Store::postgres(db).unwrap().into();
    }
    Store::sqlite(db).unwrap()
}

impl Fixture {
    pub(crate) fn store(&self) -> Store {
        store(&self.db)
    }

    /// Runs a statement on the database itself.
    pub(crate) fn run(&self, sql: &str) {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        block_on(async {
            #[cfg(feature = "postgres")]
            if self.db.starts_with("postgres:") {
                let mut connection = sqlx::PgConnection::connect(&self.db).await.unwrap();
                sql.execute(&mut connection).await.unwrap();
                return connection.close().await.unwrap();
            }
            let mut connection = sqlx::SqliteConnection::connect(&self.db).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    /// Waits until everything accepted so far has reached its end, also where the database just came back and
    /// the log pauses between two attempts.
    pub(crate) fn settle(&self) {
        let start = Instant::now();
        while let Err(error) = self.log.flush_blocking() {
            assert!(start.elapsed() < PATIENCE, "{error:?}");
        }
    }

    /// Everything that was accepted so far, in the order of `seq`.
    pub(crate) fn entries(&self) -> Vec<SequencedEntry> {
        self.settle();
        block_on(all(&self.log.reader()))
    }

    /// The only entry.
    pub(crate) fn entry(&self) -> SequencedEntry {
        let mut entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }
}

/// All entries in the order of `seq`, page by page.
pub(crate) async fn all(reader: &AuditReader) -> Vec<SequencedEntry> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let Page { entries: page, next, .. } =
            reader.page(AuditFilter::default(), cursor, 1000).await.unwrap();
        entries.extend(page);
        match next {
            Some(next) => cursor = Some(next),
            None => return entries,
        }
    }
}

pub(crate) fn metadata(entry: &AuditEntry) -> &serde_json::Map<String, Value> {
    entry.metadata.as_object().unwrap()
}

/// On a database with the tables of version 1, and nothing in them.
pub(crate) fn an_older_version_is_brought_up_to_date(store: &dyn Fn() -> Store) {
    let reader = AuditReader::new(store());
    assert_eq!(reader.blocking().count(AuditFilter::default()).unwrap(), 0);
    assert_eq!(reader.blocking().reads(.., 1).unwrap(), []);
    let recorded = reader.clone().recorded_as("Ada");
    let error = recorded.blocking().count(AuditFilter::default()).unwrap_err();
    assert!(error.is_schema() && error.to_string().contains("is not answered"), "{error}");

    let open = |migrate| {
        let builder =
            AuditLog::builder().store(store().migrate(migrate)).in_memory_queue().queue_max_entries(10);
        builder.open_blocking()
    };
    let error = open(Migrate::Check).unwrap_err();
    assert!(error.is_schema() && error.to_string().contains("version 1 and 2 is needed"), "{error}");
    let log = open(Migrate::Auto).unwrap();
    log.writer().commit_blocking(AuditEntry::new(uuid::Uuid::nil(), "a", "r")).unwrap();
    assert_eq!(recorded.blocking().count(AuditFilter::default()).unwrap(), 1);
    assert_eq!(reader.blocking().reads(.., 10).unwrap().len(), 1);
    open(Migrate::Check).unwrap();
}
