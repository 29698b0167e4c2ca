//! PostgreSQL over TLS: the connection is encrypted, and a server other than the one meant is refused.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
};

use sqlx::{Connection, PgConnection, Row};
use tempfile::TempDir;
use tracing_audit::{AuditError, AuditLog, AuditQuery, PostgresStore, Store};

use crate::support::{
    self, block_on, entry,
    postgres::{Server, give},
};

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(arguments.split(' ')).stderr(Stdio::null());
    assert!(command.status().expect("'openssl' is needed: on Debian, 'apt-get install openssl'").success());
}

/// A server that is reached over TLS only, and the certificates of two authorities: its own, and another.
struct Secured {
    server: Server,
    /// `trusted.crt` and `stranger.crt`.
    certificates: TempDir,
    /// The address and port that its certificate names, and another address that it listens on too.
    named: String,
    unnamed: String,
}

impl Secured {
    fn new() -> Self {
        // Addresses and a port that no other server on this machine has.
        let [high, low] = (u16::try_from(std::process::id() % 65_000).unwrap()).to_be_bytes();
        let [named, unnamed] = [101, 102].map(|last| format!("127.{high}.{low}.{last}"));
        let port = TcpListener::bind((&*named, 0)).unwrap().local_addr().unwrap().port();

        let certificates = tempfile::tempdir().unwrap();
        let directory = certificates.path();
        for authority in ["trusted", "stranger"] {
            let make = "req -x509 -nodes -newkey rsa:2048 -days 2";
            openssl(
                directory,
                &format!("{make} -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"),
            );
        }
        openssl(
            directory,
            "req -new -nodes -newkey rsa:2048 -subj /CN=audit -keyout server.key -out server.csr",
        );
        std::fs::write(directory.join("names"), format!("subjectAltName=IP:{named}")).unwrap();
        let sign = "x509 -req -in server.csr -CA trusted.crt -CAkey trusted.key -CAcreateserial";
        openssl(directory, &format!("{sign} -days 2 -extfile names -out server.crt"));

        let mut server = Server::at_port(port);
        server.command("start");
        let data = server.data();
        for file in ["server.crt", "server.key"] {
            std::fs::copy(directory.join(file), data.join(file)).unwrap();
            // The server refuses a key that others may read, and it must be the server's.
            std::fs::set_permissions(data.join(file), PermissionsExt::from_mode(0o600)).unwrap();
            give(&data.join(file));
        }
        let settings = format!("ssl = on\nlisten_addresses = '{named},{unnamed}'\n");
        std::fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        std::fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.0/8 trust\n")
            .unwrap();
        server.command("INT");
        server.command("start");
        Self { server, certificates, named: format!("{named}:{port}"), unnamed: format!("{unnamed}:{port}") }
    }

    /// A fresh database at one of its addresses.
    fn store(&self, address: &str, sslmode: &str, authority: &str) -> PostgresStore {
        let url = self.server.create_database();
        let (_, database) = url.rsplit_once('/').unwrap();
        let certificate = self.certificates.path().join(authority).with_extension("crt");
        let certificate = certificate.display();
        Store::postgres(&format!(
            "postgres://postgres@{address}/{database}?sslmode={sslmode}&sslrootcert={certificate}"
        ))
        .unwrap()
    }
}

fn secured() -> &'static Secured {
    static SECURED: LazyLock<Secured> = LazyLock::new(Secured::new);
    &SECURED
}

fn open(store: PostgresStore) -> Result<AuditLog, AuditError> {
    support::builder(store)
        .in_memory_queue()
        .queue_max_entries(100)
        .queue_max_bytes(1 << 20)
        .blocking()
        .open()
}

#[test]
fn entries_are_written_and_read_over_an_encrypted_connection() {
    let secured = secured();
    let log = open(secured.store(&secured.named, "verify-full", "trusted")).unwrap();
    let write = async {
        log.writer().commit(entry("document.read")).await.unwrap();
        assert_eq!(log.reader().count(AuditQuery::new()).await.unwrap(), 1);
        // While both connections, the writer's and the reader's, are open.
        let mut observer = PgConnection::connect(&secured.server.database("postgres")).await.unwrap();
        let sessions = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE client_addr IS NOT NULL",
        );
        let sessions = sessions.fetch_one(&mut observer).await.unwrap();
        let (all, encrypted): (i64, i64) = (sessions.get(0), sessions.get(1));
        assert!(all >= 2 && encrypted == all, "{encrypted} of {all}");
    };
    block_on(write);
}

#[test]
fn a_server_that_is_not_the_one_meant_is_refused() {
    let secured = secured();
    let refused = |address, sslmode, authority| {
        let error = open(secured.store(address, sslmode, authority)).unwrap_err();
        assert!(error.is_store(), "{error:?}");
        assert!(error.to_string().contains("a certificate that is not trusted"), "{error:?}");
    };
    refused(&secured.named, "verify-full", "stranger");
    refused(&secured.named, "verify-ca", "stranger");
    refused(&secured.unnamed, "verify-full", "trusted");
    open(secured.store(&secured.unnamed, "verify-ca", "trusted")).unwrap();
}

#[test]
fn without_tls_a_server_that_asks_for_it_refuses() {
    let secured = secured();
    let error = open(secured.store(&secured.named, "disable", "trusted")).unwrap_err();
    assert!(error.to_string().contains("refuses the role"), "{error:?}");
}
