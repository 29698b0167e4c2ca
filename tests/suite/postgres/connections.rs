//! How a log reaches a PostgreSQL server: over a network, by an IPv6 address, the one of several that takes writes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tracing_audit::{AuditQuery, AuditReader, Health, Store};

use crate::support::{
    self, assert_balanced, assert_tree, block_on, commit, entry, execute, heavy,
    postgres::{Server, in_memory},
    run, settle, wait_until,
};

/// Listens at this address, and carries what arrives to the server's socket and back. Returns the port.
fn carry(listener: TcpListener, socket: PathBuf) -> u16 {
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, Ok(server)) = (client.unwrap(), UnixStream::connect(&socket)) else { continue };
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut from_server, mut to_server) = (server.try_clone().unwrap(), server);
            std::thread::spawn(move || {
                drop(std::io::copy(&mut from_client, &mut to_server));
                drop(to_server.shutdown(Shutdown::Both));
            });
            std::thread::spawn(move || {
                drop(std::io::copy(&mut from_server, &mut to_client));
                drop(to_client.shutdown(Shutdown::Both));
            });
        }
    });
    port
}

#[test]
fn a_server_has_an_ipv6_address_and_one_that_need_not_prove_itself_is_told_once() {
    let mut server = Server::new();
    server.command("start");
    let port = carry(TcpListener::bind("[::1]:0").expect("IPv6 on this machine"), server.socket());
    for url in [
        format!("postgres://postgres@[::1]:{port}/postgres"),
        format!("postgres:///postgres?user=postgres&host=::1&port={port}"),
        format!("postgres:///postgres?user=postgres&hostaddr=::1&port={port}"),
    ] {
        let log = in_memory(&url);
        let seq = commit(&log, entry("by its address"));
        assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), seq + 1);
    }
    // This address is this machine, and none of those that a connection leaves it by no means.
    let port = carry(TcpListener::bind("127.0.0.1:0").unwrap(), server.socket());
    for (mode, expected) in [("prefer", 1), ("disable", 0)] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notices = Arc::clone(&told);
        let store = Store::postgres(&format!("postgres://postgres@0.0.0.0:{port}/postgres?sslmode={mode}"));
        let builder =
            support::builder(store.unwrap()).in_memory_queue().queue_max_entries(10).queue_max_bytes(10_000);
        let log = builder
            .on_notice(move |notice| notices.lock().unwrap().push(notice.to_string()))
            .blocking()
            .open();
        let log = log.unwrap();
        commit(&log, entry("before"));
        run(
            &server.database("postgres"),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        );
        commit(&log, entry("on another connection"));
        let told = told.lock().unwrap();
        let unproven = told.iter().filter(|told| told.contains("does not check which server answers"));
        assert_eq!(unproven.count(), expected, "{mode}: {told:?}");
    }
}

/// The first bytes of each connection to a machine that says that it has no TLS.
fn middle() -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let recorder = Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, recorder): (TcpStream, _) = (client.unwrap(), Arc::clone(&recorder));
            std::thread::spawn(move || {
                let mut first = [0; 8];
                let mut all = Vec::new();
                if client.read_exact(&mut first).is_ok() && client.write_all(b"N").is_ok() {
                    drop(client.read_to_end(&mut all));
                }
                recorder.lock().unwrap().push([first.as_slice(), &all].concat());
            });
        }
    });
    (port, heard)
}

#[test]
fn a_machine_in_the_middle_that_says_there_is_no_tls_learns_nothing() {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    // Without TLS, nothing is sent at all.
    let says = if cfg!(any(feature = "tls-rustls", feature = "tls-native-tls")) {
        "has no TLS, or a certificate that is not trusted"
    } else {
        "enable the feature tls-rustls"
    };
    let (port, heard) = middle();
    let mut tried = 0;
    for url in [
        format!("postgres://clerk:hunter2@0.0.0.0:{port}/books"),
        format!("postgres:///books?user=clerk&password=hunter2&host=0.0.0.0&port={port}"),
        format!(
            "postgres://clerk:hunter2@0.0.0.0:{port},0.0.0.0:{port}/books?target_session_attrs=read-write"
        ),
        format!("postgres://clerk:hunter2@0.0.0.0:{port}/books?%73slmode=require"),
        format!("postgres://clerk:hunter2@127.0.0.1:{port}/books?sslmode=verify-full"),
    ] {
        let store = || Store::postgres(&url).unwrap();
        let builder =
            support::builder(store()).in_memory_queue().queue_max_entries(10).queue_max_bytes(10_000);
        let opened = builder.on_notice(|_| {}).blocking().open().map(drop);
        let read = AuditReader::new(store()).blocking().count(AuditQuery::new()).map(drop);
        for refused in [opened.unwrap_err(), read.unwrap_err()] {
            let text = format!("{refused:?} {refused}");
            assert!(refused.is_store() && text.contains(says), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        tried += if says.starts_with("has") { 2 } else { 0 };
        wait_until("each connection has ended", || heard.lock().unwrap().len() >= tried);
    }
    for bytes in heard.lock().unwrap().iter() {
        assert_eq!(bytes[..], SSL_REQUEST, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn of_several_servers_the_one_that_takes_writes_is_found_and_each_that_cannot_be_used_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = [closed, silent.local_addr().unwrap().port()];
    let mut primary = Server::new();
    primary.command("start");
    drop(in_memory(&primary.database("postgres")));
    let mut standby = Server::standby_of(&primary);
    standby.command("start");
    let [of_primary, of_standby] =
        [&primary, &standby].map(|server| carry(TcpListener::bind("127.0.0.1:0").unwrap(), server.socket()));
    let hosts =
        |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let none = format!("postgres://postgres@{}/postgres", hosts(&[away[0], away[1]]));
    let reader = AuditReader::new(Store::postgres(&none).unwrap());
    let told = format!("{:?}", reader.blocking().count(AuditQuery::new()).unwrap_err());
    for port in away {
        assert!(told.contains(&format!("127.0.0.1:{port}: the database server cannot be reached")), "{told}");
    }
    let all = hosts(&[away[0], of_standby, away[1], of_primary]);
    for attributes in
        ["?target_session_attrs=read-write", "?target_session_attrs=primary", "?target_session_attrs=any", ""]
    {
        let log = in_memory(&format!("postgres://postgres@{all}/postgres{attributes}"));
        let seq = commit(&log, entry("to the primary"));
        if attributes.contains("read-write") || attributes.contains("primary") {
            assert_eq!(log.reader().blocking().count(AuditQuery::new()).unwrap(), seq + 1);
        }
    }
    let only = format!("postgres://postgres@127.0.0.1:{of_standby}/postgres?target_session_attrs=read-write");
    let builder = support::builder(Store::postgres(&only).unwrap());
    let refused =
        builder.in_memory_queue().queue_max_entries(1).queue_max_bytes(10_000).blocking().open().unwrap_err();
    assert!(refused.to_string().contains("is read-only: a standby"), "{refused:?}");
}

/// A primary that confirms nothing before its standby has it is killed amid writing, and the standby is promoted.
#[test]
fn a_log_goes_on_at_the_promoted_standby_and_nothing_accepted_is_lost_or_doubled() {
    let _heavy = heavy();
    for parameters in [false, true] {
        let mut primary = Server::new();
        primary.command("start");
        let first = primary.database("postgres");
        let mut standby = Server::standby_of(&primary);
        standby.command("start");
        run(&first, "ALTER SYSTEM SET synchronous_standby_names = '*'");
        run(&first, "SELECT pg_reload_conf()");
        let is_synchronous = "DO $$ BEGIN ASSERT 1 = (SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'); END $$";
        wait_until("the standby is waited for", || block_on(execute(&first, is_synchronous)).is_ok());
        let sockets =
            [&standby, &primary].map(|server| server.socket().parent().unwrap().to_str().unwrap().to_owned());
        let url = if parameters {
            format!(
                "postgres:///postgres?user=postgres&host={}&target_session_attrs=primary",
                sockets.join(",")
            )
        } else {
            let hosts = sockets.map(|socket| format!("{}:5432", socket.replace('/', "%2F"))).join(",");
            format!("postgres://postgres@{hosts}/postgres?target_session_attrs=read-write")
        };
        let directory = tempfile::tempdir().unwrap();
        let builder =
            support::builder(Store::postgres(&url).unwrap()).journal(directory.path().join("queue"));
        let log = builder.on_notice(|_| {}).blocking().open().unwrap();
        let (ends, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(Ordering::SeqCst) {
                    let number = written.fetch_add(1, Ordering::SeqCst);
                    log.writer().try_write(entry(number.to_string())).unwrap();
                    std::thread::yield_now();
                    if number % 16 == 0 {
                        drop(log.blocking().flush());
                    }
                }
            });
            let reader = log.reader();
            wait_until("it writes", || log.stats().committed > 300);
            assert!(reader.blocking().count(AuditQuery::new()).unwrap() > 300);
            // As `pg_ctl stop -m immediate` does.
            primary.command("QUIT");
            let before = log.stats().committed;
            run(&standby.database("postgres"), "SELECT pg_promote()");
            wait_until("it writes to the new primary", || log.stats().committed > before + 300);
            // The same reader, whose connections were to the old one.
            wait_until("it reads from the new primary", || {
                reader.blocking().count(AuditQuery::new()).is_ok_and(|count| count > before + 300)
            });
            ends.store(true, Ordering::SeqCst);
        });
        settle(&log.writer());
        let stats = log.stats();
        assert_balanced(&stats);
        let written = written.load(Ordering::SeqCst);
        assert_eq!((stats.committed, stats.quarantined, log.health()), (written, 0, Health::Healthy));
        let found = support::all_in(&url);
        assert!(found.iter().map(|found| found.seq).eq(0..written));
        let actions = (0..written).map(|number| number.to_string());
        assert!(found.iter().map(|found| found.entry.action.clone()).eq(actions));
        assert_eq!(assert_tree(&standby.database("postgres")), 0);
    }
}

#[cfg(feature = "cli")]
#[test]
fn a_password_in_the_process_list_is_refused() {
    for url in [
        "postgres://clerk:hunter2@127.0.0.1:1/books",
        "postgres://clerk@127.0.0.1:1/books?password=hunter2",
        "postgres://clerk@127.0.0.1:1/books?p%61ssword=hunter2",
    ] {
        let refused = crate::command::run("absent.db", &format!("query --db {url}"));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("whoever lists the processes") && !told.contains("hunter2"), "{told}");
    }
}
