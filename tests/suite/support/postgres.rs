//! A PostgreSQL server of the tests' own, which ends with the process that started it, however that ends.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    str::FromStr,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tracing_audit::{AuditLog, AuditLogBuilder, Store};

use super::{Fixture, block_on, builder, is_root};

/// The port of a server that listens on its socket alone, and so collides with no other server.
const PORT: u16 = 5432;

const INSTALL: &str = "PostgreSQL's server is needed: on Debian, 'apt-get install postgresql'";

/// Another server to run against, for instance the coordinator of a cluster: its URL without a database.
const ELSEWHERE: &str = "TRACING_AUDIT_TEST_POSTGRES";

/// A server with a data directory of its own.
pub(crate) struct Server {
    /// The process that runs the commands written to its standard input, and ends the server when that ends.
    keeper: Option<(Child, BufReader<ChildStdout>)>,
    /// `postgres://user@host:port`.
    pub(crate) url: String,
    directory: Option<TempDir>,
}

/// `$0` is the directory of the programs, `$1` that of the data, and `$2` that of the socket. `$3` is the socket's
/// directory of another server, if this one is its standby.
const KEEPER: &str = r#"
    # The process that wrote the commands may be gone; the server is to be stopped all the same.
    trap '' PIPE
    start() {
        tries=6000
        until "$0/pg_isready" -q -h "$2"; do
            # After a crash it waits for the last of its predecessor's processes.
            if ! kill -0 "$server" 2>/dev/null; then
                "$0/postgres" -D "$1" -k "$2" -c max_connections=200 >> log 2>&1 &
                server=$!
            fi
            sleep 0.05
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || { cat log >&2; return 1; }
        done
    }
    stop() {
        kill "-$1" "$server" && wait "$server"
    }
    make() {
        if [ -n "$3" ]; then
            "$0/pg_basebackup" --no-sync -R -c fast -h "$3" -U postgres -D "$1"
        else
            "$0/initdb" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C "$1" &&
                echo "listen_addresses = ''" >> "$1/postgresql.conf"
        fi
    }
    make "$@" > log 2>&1 || { cat log >&2; exit 1; }
    while read -r command; do
        case "$command" in
            start) start "$1" "$2" || break ;;
            *) stop "$command" ;;
        esac
        echo done || break
    done
    stop INT
    cd /
    rm -rf "$2"
"#;

/// The directory of the newest server's programs.
fn programs() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|found| {
            let path = found.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    versions.sort();
    versions.pop().expect(INSTALL).1
}

/// The user that runs the server, since it refuses to run as root: user and group, if this is root.
fn unprivileged() -> Option<(u32, u32)> {
    let root = is_root();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let account = accounts.lines().find_map(|line| line.strip_prefix("postgres:")).filter(|_| root);
    assert!(account.is_some() || !root, "{INSTALL}");
    let mut fields = account?.split(':').skip(1).map(|field| field.parse().unwrap());
    Some((fields.next()?, fields.next()?))
}

/// Makes a file the server's own, if it runs as another user than this process.
pub(crate) fn give(file: &Path) {
    if let Some((user, group)) = unprivileged() {
        std::os::unix::fs::chown(file, Some(user), Some(group)).unwrap();
    }
}

impl Server {
    /// Not started yet.
    pub(crate) fn new() -> Self {
        Self::at_port(PORT)
    }

    /// The same at this port, for its socket and for the addresses that its settings may name.
    pub(crate) fn at_port(port: u16) -> Self {
        Self::of(&tempfile::tempdir, None, port)
    }

    /// The same with its data below this directory.
    pub(crate) fn within(directory: &Path) -> Self {
        Self::of(&|| tempfile::tempdir_in(directory), None, PORT)
    }

    /// A standby of another server, which copies its data now and follows it.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        Self::of(&tempfile::tempdir, primary.directory.as_ref().map(TempDir::path), PORT)
    }

    fn of(directory: &dyn Fn() -> std::io::Result<TempDir>, primary: Option<&Path>, port: u16) -> Self {
        let directory = directory().unwrap();
        let mut command = Command::new("sh");
        give(directory.path());
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        let mut keeper = command
            .current_dir(directory.path())
            // For every program of PostgreSQL that the commands run.
            .env("PGPORT", port.to_string())
            .args(["-c", KEEPER])
            .arg(programs())
            .arg(directory.path().join("data"))
            .arg(directory.path())
            .args(primary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(keeper.stdout.take().unwrap());
        let url = format!("postgres://postgres@{}:{port}", encoded(directory.path()));
        Self { keeper: Some((keeper, out)), url, directory: Some(directory) }
    }

    /// Starts it and waits until it answers; or stops it by a signal and waits until it is gone.
    pub(crate) fn command(&mut self, command: &str) {
        let (keeper, out) = self.keeper.as_mut().unwrap();
        writeln!(keeper.stdin.as_mut().unwrap(), "{command}").unwrap();
        let mut done = String::new();
        out.read_line(&mut done).unwrap();
        assert_eq!(done, "done\n", "the server does not do this: {command}");
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().join(".s.PGSQL.5432")
    }

    /// The directory of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().join("data")
    }

    /// The URL of a database on it.
    pub(crate) fn database(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// A new, empty database, and its URL.
    pub(crate) fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        block_on(async {
            let mut connection = PgConnection::connect(&self.database("postgres")).await.unwrap();
            let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
            sqlx::query(create).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
        self.database(&name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut keeper, _)) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }
}

/// The connections of a pooler to each database.
const CONNECTIONS: usize = 2;

/// PgBouncer in transaction mode before a server, with fewer connections to it than it has clients. It ends when its
/// standard input does.
pub(crate) struct Pooler {
    process: Child,
    directory: TempDir,
}

impl Pooler {
    pub(crate) fn before(server: &Server) -> Self {
        Self::before_as(server, "postgres")
    }

    /// The same, which connects to the server as this role whoever asks.
    pub(crate) fn before_as(server: &Server, role: &str) -> Self {
        const NEEDED: &str = "PgBouncer is needed: on Debian, 'apt-get install pgbouncer'";
        assert!(Path::new("/usr/sbin/pgbouncer").exists(), "{NEEDED}");
        let directory = tempfile::tempdir().unwrap();
        let (own, its) = (directory.path().display(), server.directory.as_ref().unwrap().path().display());
        let settings = format!(
            "[databases]\n* = host={its} user={role}\n[pgbouncer]\nunix_socket_dir = {own}\nlisten_port = 6432\n\
             pool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\nauth_type = any\nlogfile = {own}/log\n"
        );
        std::fs::write(directory.path().join("pgbouncer.ini"), settings).unwrap();
        let mut command = Command::new("sh");
        give(directory.path());
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        let process = command
            .args(["-c", "/usr/sbin/pgbouncer -q \"$0\" & cat; kill $!; wait"])
            .arg(directory.path().join("pgbouncer.ini"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pooler = Self { process, directory };
        super::wait_until("PgBouncer listens", || pooler.directory.path().join(".s.PGSQL.6432").exists());
        pooler
    }

    /// The URL of a database through it.
    pub(crate) fn database(&self, name: &str) -> String {
        let host = encoded(self.directory.path());
        format!("postgres://postgres@{host}:6432/{name}?statement-cache-capacity=0")
    }

    /// Runs this in each of its connections to a database, and leaves there what it makes.
    pub(crate) fn in_each_connection(&self, name: &str, sql: &str) {
        let options = PgConnectOptions::from_str(&self.database(name)).unwrap().extra_float_digits(None);
        let begin = format!("BEGIN; {sql}");
        block_on(async {
            let mut clients = Vec::new();
            for _ in 0..CONNECTIONS {
                let mut client = PgConnection::connect_with(&options).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(begin.clone())).execute(&mut client).await.unwrap();
                clients.push(client);
            }
            for client in &mut clients {
                sqlx::raw_sql("COMMIT").execute(client).await.unwrap();
            }
        });
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// A path as the host of a URL.
fn encoded(path: &Path) -> String {
    path.to_str().unwrap().replace('/', "%2F")
}

/// The server that the tests of this process share.
pub(crate) fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        if let Ok(url) = std::env::var(ELSEWHERE) {
            return Server { keeper: None, url, directory: None };
        }
        let mut server = Server::new();
        server.command("start");
        server
    });
    &SERVER
}

pub(crate) fn log() -> Fixture {
    log_with(|builder| builder)
}

/// A fresh database on this server with the roles of `roles.sql`, and logins that are members of them: `billing` and `payroll`
/// write, `auditor` reads, `admin` is an operator, and `clerk` both writes and reads. None has a ledger yet.
pub(crate) fn guarded_database(server: &Server) -> String {
    static ROLES: Mutex<()> = Mutex::new(());
    let url = server.create_database();
    drop(in_memory(&url));
    // The roles are the server's, not the database's.
    let _one_by_one = ROLES.lock().unwrap_or_else(PoisonError::into_inner);
    super::run(&url, include_str!("../../../migrations/postgres/roles.sql"));
    super::run(&url, "DELETE FROM tracing_audit_heads");
    let logins = [
        ("billing", "audit_writer"),
        ("payroll", "audit_writer"),
        ("auditor", "audit_reader"),
        ("admin", "audit_operator"),
        ("clerk", "audit_writer, audit_reader"),
    ];
    for (login, roles) in logins {
        super::run(
            &url,
            format!(
                "DO $$ BEGIN
                     IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') THEN
                         CREATE ROLE {login} LOGIN IN ROLE {roles};
                     END IF;
                 END $$"
            ),
        );
    }
    url
}

/// The same database as another role.
pub(crate) fn as_role(url: &str, role: &str) -> String {
    url.replace("postgres@", &format!("{role}@"))
}

/// Fixtures whose logs have no right to write a table, and do it by the functions. What is run beside the log has all rights.
pub(crate) mod by_functions {
    use tracing_audit::{AuditLogBuilder, Store};

    use super::{Fixture, as_role, guarded_database, server};

    pub(crate) fn log() -> Fixture {
        log_with(|builder| builder)
    }

    pub(crate) fn log_with(configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let db = guarded_database(server());
        crate::support::run(&db, "INSERT INTO tracing_audit_grants (role, ledger) VALUES ('clerk', 'main')");
        let store = Store::postgres(&as_role(&db, "clerk")).unwrap();
        let builder = crate::support::builder(store).journal(directory.path().join("queue"));
        let log = configure(builder).blocking().open().unwrap();
        Fixture { log, db, directory }
    }
}

/// A log with a queue in memory on this database, whose commits may take as long as a slow machine needs.
pub(crate) fn in_memory(url: &str) -> AuditLog {
    let builder = builder(Store::postgres(url).unwrap()).on_notice(|_| {});
    builder.in_memory_queue().queue_max_entries(100_000).queue_max_bytes(64 << 20).blocking().open().unwrap()
}

/// A log on a fresh database.
pub(crate) fn log_with(configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let db = server().create_database();
    let builder = builder(Store::postgres(&db).unwrap()).journal(directory.path().join("queue"));
    let log = configure(builder).blocking().open().unwrap();
    Fixture { log, db, directory }
}
