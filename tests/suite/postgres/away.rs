//! Readers of a server that is away: they say why, soon, and a follower goes on when it is back.

use std::{net::TcpListener, pin::pin, time::Duration};

use futures_util::StreamExt;
use sqlx::postgres::PgPoolOptions;
use tracing_audit::{AuditQuery, AuditReader};

use crate::support::{self, block_on, entry, postgres::Server, store};

/// Far more than the two seconds that the answer takes, and less than what a connection may take that is accepted.
const SOON: Duration = Duration::from_secs(9);

#[test]
fn a_reader_of_a_server_that_cannot_be_reached_says_why_and_soon() {
    // One port at which nobody listens, and one at which somebody listens who never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent_url = format!("postgres://nobody@{}/none", silent.local_addr().unwrap());
    let closed_url = format!("postgres://nobody@{closed}/none");
    let hasty = PgPoolOptions::new().acquire_timeout(Duration::from_millis(100));
    let patient = PgPoolOptions::new();
    let pools = block_on(async {
        [hasty, patient].map(|options| AuditReader::new(options.connect_lazy(&closed_url).unwrap()))
    });
    let [hasty, patient] = pools;
    let asked = [
        (AuditReader::new(store(&closed_url)), "onnection refused"),
        (hasty, "onnection refused"),
        (patient, "onnection refused"),
        (AuditReader::new(store(&silent_url)), "Elapsed"),
    ];
    block_on(futures_util::future::join_all(asked.iter().map(async |(reader, cause)| {
        let answer = tokio::time::timeout(SOON, reader.count(AuditQuery::new())).await;
        let error = answer.expect("it says so before the pool gives up").unwrap_err();
        let told = format!("{error:?}");
        assert!(error.is_store() && told.contains("cannot be reached") && told.contains(cause), "{told}");
    })));
    #[cfg(feature = "cli")]
    for arguments in ["query", "export", "tail -f", "stats --by action"] {
        let refused = crate::command::run(&closed_url, arguments);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{told}");
        assert!(told.contains("cannot be reached") && told.contains("onnection refused"), "{told}");
    }
}

#[test]
fn a_follower_says_that_the_server_is_gone_and_goes_on_when_it_is_back() {
    let mut server = Server::new();
    server.command("start");
    let url = server.create_database();
    let log = support::postgres::in_memory(&url);
    let write = |action: &str| {
        support::commit(&log, entry(action));
    };
    write("before");
    let reader = AuditReader::new(store(&url));
    let mut entries = pin!(reader.follow(0));
    let first = block_on(entries.next()).unwrap().unwrap();
    assert_eq!((first.seq, &*first.entry.action), (0, "before"));
    #[cfg(feature = "cli")]
    let mut tail = Tail::start(&url);
    server.command("INT");
    let error = block_on(entries.next()).unwrap().unwrap_err();
    assert!(error.is_store(), "{error}");
    #[cfg(feature = "cli")]
    tail.says_why();
    server.command("start");
    write("after");
    let next = block_on(entries.filter_map(async |found| found.ok()).boxed_local().next()).unwrap();
    assert_eq!((next.seq, &*next.entry.action), (1, "after"));
    #[cfg(feature = "cli")]
    tail.goes_on();
}

/// The command that follows, and the files that it writes.
#[cfg(feature = "cli")]
struct Tail {
    directory: tempfile::TempDir,
    process: std::process::Child,
}

#[cfg(feature = "cli")]
impl Tail {
    /// Starts it, and waits until it has shown the first entry.
    fn start(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(directory.path().join(name)).unwrap();
        let mut command = crate::command::command(url);
        command.args(["tail", "-f", "--from-seq", "0"]).stdout(file("out")).stderr(file("told"));
        let process = command.spawn().unwrap();
        let tail = Self { directory, process };
        support::wait_until("the command has shown the first entry", || tail.seqs() == [0]);
        tail
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    /// The entries that it has shown in whole lines.
    fn seqs(&self) -> Vec<u64> {
        let shown = self.read("out");
        crate::command::seqs(shown.rsplit_once('\n').map_or("", |(lines, _)| lines))
    }

    fn says_why(&self) {
        support::wait_until("the command says why it waits", || self.read("told").ends_with('\n'));
        let told = self.read("told");
        assert!(told.starts_with("tracing-audit: ") && !told.contains("panicked"), "{told}");
    }

    fn goes_on(&mut self) {
        support::wait_until("the command goes on", || self.seqs() == [0, 1]);
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
