//! Readers of a server that is away: they say why, soon, and a follower goes on when it is back.

use std::{net::TcpListener, pin::pin, time::Duration};

use futures_util::StreamExt;
use sqlx::postgres::PgPoolOptions;
use tracing_audit::{AuditQuery, AuditReader};

use crate::support::{self, block_on, entry, postgres::Server, store};

/// Less than a pool's own limit, after which it would not say why, and far more than the answer takes.
const SOON: Duration = Duration::from_secs(28);

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
    server.command("INT");
    let error = block_on(entries.next()).unwrap().unwrap_err();
    assert!(error.is_store(), "{error}");
    server.command("start");
    write("after");
    let next = block_on(entries.filter_map(async |found| found.ok()).boxed_local().next()).unwrap();
    assert_eq!((next.seq, &*next.entry.action), (1, "after"));
}
