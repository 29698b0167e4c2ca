//! How often a page and its coverage wait for the server, and what they say to a role that may not read everything.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sqlx::postgres::PgPoolOptions;
use tracing_audit::{AuditQuery, AuditReader};

use crate::support::{
    block_on, entry,
    postgres::{in_memory, server},
    run, settle, store,
};

/// A proxy between clients and the server. It counts the messages whose answer a client waits for.
fn counting(socket: PathBuf, waits: &Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let waits = Arc::clone(waits);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server, waits) =
                (client.unwrap(), UnixStream::connect(&socket).unwrap(), Arc::clone(&waits));
            let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || drop(std::io::copy(&mut answers, &mut to_client)));
            std::thread::spawn(move || carry(client, server, &waits));
        }
    });
    port
}

fn carry(mut client: TcpStream, mut server: UnixStream, waits: &AtomicU64) {
    // Each message has its kind, the length of what follows, and that; the first one has no kind.
    let (mut head, mut begin) = ([0; 5], 1);
    while client.read_exact(&mut head[begin..]).is_ok() {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let mut rest = vec![0; length as usize - 4];
        if client.read_exact(&mut rest).is_err() {
            break;
        }
        // Sync and a simple query.
        if matches!(head[0], b'S' | b'Q') {
            waits.fetch_add(1, Ordering::SeqCst);
        }
        if server.write_all(&[&head[begin..], &*rest].concat()).is_err() {
            break;
        }
        begin = 0;
    }
    drop(server.shutdown(std::net::Shutdown::Both));
}

#[test]
fn a_page_and_its_coverage_wait_for_few_answers_of_the_server() {
    let db = server().create_database();
    let log = in_memory(&db);
    for number in 0..30 {
        log.writer().try_write(entry(format!("a{}", number % 2))).unwrap();
    }
    settle(&log.writer());
    let waits = Arc::default();
    let port = counting(server().socket(), &waits);
    let url =
        format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", db.rsplit('/').next().unwrap());
    let pool = block_on(async { PgPoolOptions::new().max_connections(1).connect_lazy(&url).unwrap() });
    let reader = AuditReader::new(pool.clone());
    let since = chrono::Utc::now() - chrono::TimeDelta::days(1);
    // Beside the statements: the pool asks whether the connection lives before and after, and the transaction begins and ends.
    for (query, of_page, of_coverage) in [
        (AuditQuery::new(), 6, 7),
        (AuditQuery::new().newest_first().decision(tracing_audit::Decision::Deny), 6, 7),
        (AuditQuery::new().since(since), 7, 9),
    ] {
        // Each statement is prepared once on a connection.
        for is_prepared in [false, true] {
            let before = waits.load(Ordering::SeqCst);
            let page = block_on(reader.page(&query, None, 10)).unwrap();
            let between = waits.load(Ordering::SeqCst);
            let coverage = block_on(reader.page_coverage(&query, &page)).unwrap();
            let after = waits.load(Ordering::SeqCst);
            assert!(!coverage.lacks() && coverage.ledgers.len() == 1, "{coverage:?}");
            // The last question of the pool may come later, with what follows.
            if is_prepared {
                let waited = (between - before, after - between);
                assert!(waited.0 <= of_page + 1 && waited.1 <= of_coverage + 1, "{query:?}: {waited:?}");
            }
        }
    }
    block_on(pool.close());
}

#[test]
fn a_coverage_leaves_out_what_the_role_may_not_read() {
    let db = server().create_database();
    let log = in_memory(&db);
    for number in 0..5 {
        log.writer().try_write(entry(number.to_string())).unwrap();
    }
    settle(&log.writer());
    let covered = || {
        let reader = AuditReader::new(store(&db.replace("postgres@", "half_blind@")));
        let mut found = reader.blocking().coverage(AuditQuery::new(), u64::MAX).unwrap();
        assert!(!found.lacks() && found.is_whole(), "{found:?}");
        let found = found.ledgers.remove(0);
        assert_eq!(found.matching, Some(5));
        (found.quarantined, found.silent_writers.map(|writers| writers.len()))
    };
    let tables = "tracing_audit_entries, tracing_audit_batches, tracing_audit_heads";
    run(&db, format!("CREATE ROLE half_blind LOGIN; GRANT SELECT ON {tables} TO half_blind"));
    assert_eq!(covered(), (None, None));
    run(&db, "GRANT SELECT ON tracing_audit_quarantine TO half_blind");
    assert_eq!(covered(), (Some(0), None));
    run(
        &db,
        "GRANT SELECT ON tracing_audit_writers TO half_blind; REVOKE SELECT ON tracing_audit_quarantine FROM half_blind",
    );
    assert_eq!(covered(), (None, Some(0)));
}
