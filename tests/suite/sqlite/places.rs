//! Where a database lies, whose it is, and who may read and write it: what cannot be safe is refused with the remedy, and
//! what a person should look at is told once.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use tracing_audit::{
    AuditEntry, AuditError, AuditLog, AuditLogBuilder, AuditQuery, AuditReader, Health, Store,
    query::{Column, CountBy},
};

use crate::support::{
    Fuse, PATIENCE, all_in, block_on, builder, commit, connect, entry, execute, in_own_mounts, is_root,
    mount, only, open, run, settle, this_test, wait_until,
};

fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", file.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let found = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = found.map(|found| found.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn close(log: &AuditLog) {
    drop(log.blocking().shutdown(PATIENCE).unwrap());
}

fn refused(store: impl Into<Store>) -> AuditError {
    builder(store).blocking().open().unwrap_err()
}

/// A closed log with so many entries, of one or two KiB each.
fn filled(file: &Path, entries: usize) {
    let log = open(file);
    for number in 0..entries {
        let reason = Some("x".repeat(1000 + number % 1000));
        let resource_id = Some(format!("{number:0>400}"));
        log.writer().blocking().write(AuditEntry { reason, resource_id, ..entry("a") }).unwrap();
    }
    settle(&log.writer());
    close(&log);
}

/// Opens a log, commits an entry, and returns what notices told.
fn told(configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder, store: impl Into<Store>) -> Vec<String> {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let to = Arc::clone(&told);
    let builder = builder(store).on_notice(move |notice| to.lock().unwrap().push(notice.to_string()));
    let log = configure(builder).blocking().open().unwrap();
    commit(&log, entry("a"));
    assert_eq!(log.health(), Health::Healthy);
    close(&log);
    let told = told.lock().unwrap();
    told.clone()
}

fn told_once(told: &[String], what: &str) {
    let of_it = told.iter().filter(|told| told.contains(what)).count();
    assert_eq!((of_it, told.len()), (1, 1), "{what}: {told:?}");
}

#[test]
fn a_file_that_was_damaged_while_nobody_had_it_open_is_found_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole.db");
    filled(&whole, 3000);
    let bytes = fs::read(&whole).unwrap();
    let (len, page) = (bytes.len(), 8192);
    assert!(len > 5_000_000 && len % page == 0, "{len}");
    let root = |name: &str| -> usize {
        block_on(async {
            let root =
                sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = ?").bind(name.to_owned());
            let root: i64 = root.fetch_one(&mut connect(&whole).await).await.unwrap();
            (usize::try_from(root).unwrap() - 1) * page
        })
    };
    let noise = |len: usize| -> Vec<u8> { (0..len).map(|at| (at * 7919 % 251).to_le_bytes()[0]).collect() };
    // Where, and what is written there; or to which length the file is cut.
    let twentieth = len / 20 / page * page;
    let damages: Vec<(&str, usize, Option<Vec<u8>>)> = vec![
        ("zeros in the middle", len / 2 / page * page, Some(vec![0; twentieth])),
        ("noise in the middle", len / 3 / page * page, Some(noise(twentieth))),
        ("zeros at the end", len - twentieth, Some(vec![0; twentieth])),
        ("a first page of zeros", 0, Some(vec![0; page])),
        ("noise in the schema", 100, Some(noise(page - 100))),
        ("a page size that is none", 16, Some(vec![0, 77])),
        ("more free pages than pages", 36, Some(vec![0x7f, 0, 0, 0])),
        ("another program's text at the start", 0, Some(b"#!/bin/sh\necho damaged\n".to_vec())),
        ("no root of an index", root("tracing_audit_entries_session"), Some(vec![0; page])),
        ("no root of the ids", root("sqlite_autoindex_tracing_audit_entries_1"), Some(noise(page))),
        ("no head", root("tracing_audit_head"), Some(vec![0; page])),
        ("no positions", root("tracing_audit_positions"), Some(noise(page))),
        ("half of the file", len / 2 / page * page, None),
        ("all but the last page", len - page, None),
        ("all but the last byte", len - 1, None),
        ("one page", page, None),
    ];
    for (number, (what, at, with)) in damages.into_iter().enumerate() {
        let name = format!("damaged-{number}.db");
        let file = directory.path().join(&name);
        let mut bytes = bytes.clone();
        match with {
            Some(with) => bytes[at..at + with.len()].copy_from_slice(&with),
            None => bytes.truncate(at),
        }
        fs::write(&file, &bytes).unwrap();
        let error = refused(Store::sqlite(&file).unwrap());
        let message = error.to_string();
        assert!(error.is_store() && message.contains(&name), "{what}: {message}");
        let remedy = ["restore it from a backup", "move that file away"];
        assert!(remedy.iter().any(|remedy| message.contains(remedy)), "{what}: {message}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{what}: the file was changed");
    }
    // What is appended harms nothing, and is told.
    let mut appended = bytes;
    appended.extend(b"{\"a\":1}\n");
    fs::write(&whole, &appended).unwrap();
    told_once(&told(|builder| builder, Store::sqlite(&whole).unwrap()), "ends within a page");
    assert_eq!(all_in(whole.to_str().unwrap()).len(), 3001);
}

/// A database of another program.
fn of_another(file: &Path, sql: &str) {
    run(file.to_str().unwrap(), sql);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let link = at("audit.db");
    for (name, sql, found) in [
        ("app.db", "CREATE TABLE users (id, name); INSERT INTO users VALUES (1, 'a')", "'users'"),
        ("view.db", "CREATE VIEW answer AS SELECT 42", "'answer'"),
        ("many.db", "CREATE TABLE a(x); CREATE TABLE b(x); CREATE TABLE c(x); CREATE TABLE d(x)", "1 more"),
        ("marked.db", "PRAGMA application_id = 1196444487; VACUUM", "the application_id 1196444487"),
        ("wal.db", "PRAGMA journal_mode = WAL; CREATE TABLE audit_log (x)", "'audit_log'"),
        ("quoted.db", "CREATE TABLE \"it's\" (x)", "'it''s'"),
    ] {
        of_another(&at(name), sql);
        let before = fs::read(at(name)).unwrap();
        symlink(at(name), &link).unwrap();
        for path in [&at(name), &link] {
            let error = refused(Store::sqlite(path).unwrap());
            let message = error.to_string();
            assert!(error.is_schema() && message.contains(found), "{message}");
            assert!(
                message.contains("give the log a path of its own") && message.contains("pool"),
                "{message}"
            );
        }
        fs::remove_file(&link).unwrap();
        assert_eq!(fs::read(at(name)).unwrap(), before, "{name}");
    }
    // The log's thread removes what it had made in its queue.
    let left = || names(directory.path()).iter().any(|name| name.contains("queue"));
    wait_until("the queues are gone", || !left());
    assert_eq!(names(directory.path()), ["app.db", "many.db", "marked.db", "quoted.db", "view.db", "wal.db"]);

    // A program that keeps its log in its own database gives a pool, or makes the tables by hand.
    let pool = block_on(sqlx::SqlitePool::connect(at("app.db").to_str().unwrap())).unwrap();
    set_mode(&at("app.db"), 0o600);
    assert_eq!(told(|builder| builder, pool.clone()), [""; 0]);
    block_on(pool.close());
    assert_eq!(told(|builder| builder, Store::sqlite(at("app.db")).unwrap()), [""; 0]);
    let store = Store::sqlite(at("many.db")).unwrap();
    for migration in store.migrations() {
        block_on(execute(at("many.db").to_str().unwrap(), migration.sql)).unwrap();
    }
    set_mode(&at("many.db"), 0o600);
    assert_eq!(told(|builder| builder, store), [""; 0]);
    // An empty file, also at the end of a link, becomes a log.
    fs::write(at("empty.db"), "").unwrap();
    set_mode(&at("empty.db"), 0o600);
    symlink("empty.db", &link).unwrap();
    assert_eq!(told(|builder| builder, Store::sqlite(&link).unwrap()), [""; 0]);
    assert_eq!(all_in(at("empty.db").to_str().unwrap()).len(), 1);
}

#[test]
fn a_file_that_has_the_name_of_one_of_sqlite_s_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    close(&open(&file));
    for exists in [true, false] {
        if !exists {
            fs::remove_file(&file).unwrap();
        }
        for suffix in ["-wal", "-journal"] {
            let other = beside(&file, suffix);
            for contents in [&b"notes of somebody\n"[..], &[0xff; 10_000], b"SQLite format 3\0", b"no"] {
                fs::write(&other, contents).unwrap();
                let reader = AuditReader::new(Store::sqlite(&file).unwrap());
                let read = reader.blocking().count(AuditQuery::new()).unwrap_err();
                for message in [read, refused(Store::sqlite(&file).unwrap())].map(|error| error.to_string()) {
                    assert!(message.contains(suffix) && message.contains("move it away"), "{message}");
                }
                assert_eq!(fs::read(&other).unwrap(), contents);
            }
            fs::remove_file(&other).unwrap();
            fs::create_dir(&other).unwrap();
            let message = refused(Store::sqlite(&file).unwrap()).to_string();
            assert!(message.contains(suffix) && message.contains("move it away"), "{message}");
            fs::remove_dir(&other).unwrap();
        }
        assert_eq!(file.exists(), exists);
    }
    // What a loss of power can leave.
    fs::write(beside(&file, "-wal"), [0; 4096]).unwrap();
    close(&open(&file));
}

#[test]
fn a_database_to_which_others_may_write_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let store = || Store::sqlite(&file).unwrap();
    assert_eq!(told(|builder| builder, store()), [""; 0]);
    for (bits, who) in [(0o666, "every user"), (0o660, "its group"), (0o602, "every user")] {
        set_mode(&file, bits);
        let told = told(|builder| builder, store());
        told_once(&told, who);
        assert!(told[0].contains("audit.db may be written by") && told[0].contains("mode 600"), "{told:?}");
        assert_eq!(mode(&file), bits);
    }
    set_mode(&file, 0o660);
    assert_eq!(told(|builder| builder.group_access(true), store()), [""; 0]);
    set_mode(&file, 0o644);
    assert_eq!(told(|builder| builder, store()), [""; 0]);
    // A directory in which every user may replace the file; not if only its owner may, as in /tmp.
    for (bits, is_told) in [(0o777, true), (0o1777, false), (0o770, false)] {
        set_mode(directory.path(), bits);
        let told = told(AuditLogBuilder::in_memory_queue, store());
        assert_eq!(
            told.iter().filter(|told| told.contains("every user")).count(),
            usize::from(is_told),
            "{told:?}"
        );
    }
    set_mode(directory.path(), 0o700);
    // A link is the operator's own choice, unless somebody else has made it.
    let link = directory.path().join("link.db");
    symlink(&file, &link).unwrap();
    assert_eq!(told(|builder| builder, Store::sqlite(&link).unwrap()), [""; 0]);
    if is_root() {
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        told_once(&told(|builder| builder, Store::sqlite(&link).unwrap()), "is a link to");
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        told_once(&told(|builder| builder, store()), "belongs to user 65534");
    }
}

#[test]
fn a_database_at_the_end_of_a_link_to_nothing_is_for_its_user_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("audit.db"), directory.path().join("link.db"));
    symlink("audit.db", &link).unwrap();
    let log = open(&link);
    commit(&log, entry("a"));
    assert_eq!([mode(&file), mode(&beside(&file, "-wal"))], [0o600; 2]);
}

#[test]
fn a_database_that_does_not_exist_is_not_said_to_be_in_an_empty_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    fs::write(beside(&file, "-wal"), "").unwrap();
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    let error = reader.blocking().count(AuditQuery::new()).unwrap_err().to_string();
    assert!(error.contains("there is no such file") && !error.contains("copy both"), "{error}");
}

#[test]
fn what_a_log_for_a_group_makes_is_for_its_user_and_the_group() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = builder(Store::sqlite(&file).unwrap()).group_access(true).blocking().open().unwrap();
    commit(&log, entry("a"));
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&beside(&file, suffix)), 0o660, "{suffix}");
    }
    assert_eq!(mode(&beside(&file, ".queue")), 0o770);
    assert_eq!(mode(&beside(&file, ".turn")), 0o660);
}

/// Mounts what is at one path at another too.
fn bind(from: &Path, to: &Path, options: &[&str]) {
    assert!(Command::new("mount").arg("--bind").args([from, to]).status().unwrap().success());
    for options in options {
        let mut remount = Command::new("mount");
        assert!(remount.args(["-o", options]).arg(to).status().unwrap().success(), "{options}");
    }
}

fn file_system(path: &Path) -> String {
    let found = Command::new("stat").args(["-f", "-c", "%T"]).arg(path).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_database_or_a_queue_in_a_volume_of_its_own_is_told_once() {
    in_own_mounts(this_test!(), |directory| {
        let at = |name: &str| directory.join(name);
        for name in ["passing", "lasting", "bound"] {
            fs::create_dir(at(name)).unwrap();
        }
        assert!(mount("size=64m,mode=700", &at("passing")));
        set_mode(&at("lasting"), 0o700);
        let told = |database: &str, queue: &str| {
            told(|builder| builder.journal(at(queue)), Store::sqlite(at(database)).unwrap())
        };
        assert_eq!(told("passing/a.db", "passing/a.queue"), [""; 0]);
        assert_eq!(told("lasting/a.db", "lasting/a.queue"), [""; 0]);
        if !["tmpfs", "overlayfs"].contains(&&*file_system(directory)) {
            told_once(&told("passing/b.db", "lasting/b.queue"), "b.db is on memory");
            told_once(&told("lasting/c.db", "passing/c.queue"), "c.queue is on memory");
            // The queue lies where the link leads, beside the database.
            symlink(at("passing/d.db"), at("lasting/d.db")).unwrap();
            let beside_link =
                super::places::told(|builder| builder, Store::sqlite(at("lasting/d.db")).unwrap());
            assert_eq!(beside_link, [""; 0]);
            // Without a queue on disk there is nothing to compare.
            let alone = Store::sqlite(at("passing/e.db")).unwrap();
            assert_eq!(super::places::told(AuditLogBuilder::in_memory_queue, alone), [""; 0]);
        }
        // A directory that is mounted is as good as any, a file by itself is not.
        bind(&at("lasting"), &at("bound"), &[]);
        assert_eq!(told("bound/a.db", "bound/a.queue"), [""; 0]);
        fs::write(at("bound/alone.db"), "").unwrap();
        set_mode(&at("bound/alone.db"), 0o600);
        bind(&at("lasting/a.db"), &at("bound/alone.db"), &[]);
        told_once(&told("bound/alone.db", "bound/a.queue"), "is mounted by itself");
    });
}

#[test]
fn a_database_on_a_file_system_whose_locks_not_everybody_sees_is_read_and_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    filled(&real.join("audit.db"), 10);
    let Some(fuse) = Fuse::mount(&real, &directory.path().join("fuse")) else { return };
    let file = fuse.0.join("audit.db");
    symlink(&file, directory.path().join("link.db")).unwrap();
    // A database that exists, one that is to be made, and a link from a local disk.
    for path in [file.clone(), fuse.0.join("new.db"), directory.path().join("link.db")] {
        let error = builder(Store::sqlite(&path).unwrap()).in_memory_queue().blocking().open().unwrap_err();
        let message = error.to_string();
        assert!(error.is_config() && message.contains("FUSE") && message.contains("local disk"), "{message}");
    }
    assert!(!real.join("new.db").exists());
    // A copy there is read, and nothing is left beside it.
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    assert_eq!(reader.blocking().count(AuditQuery::new()).unwrap(), 10);
    assert_eq!(all_in(file.to_str().unwrap()).len(), 10);
    assert!(!beside(&file, "-shm").exists() && !beside(&file, "-wal").exists());
    // While it is written where it is local, nothing can be said of it from here; and afterwards again.
    let log = open(&real.join("audit.db"));
    commit(&log, entry("later"));
    let message = reader.blocking().count(AuditQuery::new()).unwrap_err().to_string();
    assert!(message.contains("FUSE") && message.contains("read it on the machine"), "{message}");
    close(&log);
    // FUSE remembers for a while what it has seen.
    wait_until("the log is read again", || {
        reader.blocking().count(AuditQuery::new()).is_ok_and(|count| count == 11)
    });
    // A program's own pool is its own choice, and is told.
    let pool = block_on(sqlx::SqlitePool::connect(file.to_str().unwrap())).unwrap();
    let found = told(|builder| builder, pool.clone());
    block_on(pool.close());
    told_once(&found, "FUSE");
}

/// The command, as the user nobody where this is root, with a copy of the program that this user can read.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(65534).gid(65534);
    }
    command
}

/// Runs the four ways of reading, each of which must give all entries, or say this. Only for a user who is not root.
fn reads_all(run: &dyn Fn(&[&str]) -> Command, entries: usize, says: Option<&str>) {
    for arguments in [
        &["query", "--limit", "0"][..],
        &["export"],
        &["export", "--format", "csv"],
        &["stats"],
        &["tail", "-n", "all"],
    ] {
        let found = run(arguments).output().unwrap();
        let (out, told) =
            (String::from_utf8(found.stdout).unwrap(), String::from_utf8(found.stderr).unwrap());
        if let Some(says) = says {
            assert!(!found.status.success() && told.contains(says), "{arguments:?}: {told}");
            continue;
        }
        assert!(found.status.success(), "{arguments:?}: {told}");
        let expected = match arguments {
            ["stats"] => 1,
            ["export", "--format", ..] => entries + 1,
            _ => entries,
        };
        assert_eq!(out.lines().count(), expected, "{arguments:?}: {out}");
    }
}

#[test]
#[cfg(feature = "cli")]
fn a_user_who_may_only_read_reads_a_log_or_is_told_how() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_tracing-audit"), &program).unwrap();
    set_mode(&program, 0o755);
    set_mode(directory.path(), 0o755);
    if !is_root() {
        // One user cannot keep anything from itself but by modes, which root ignores: the first test covers those.
        return;
    }
    let place = directory.path().join("place");
    fs::create_dir(&place).unwrap();
    let file = place.join("audit.db");
    let reader = |arguments: &[&str]| {
        let mut command = as_nobody(&program);
        command.arg("--db").arg(&file).args(arguments).stdin(Stdio::null());
        command
    };
    let log = open(&file);
    commit(&log, entry("a"));
    close(&log);
    set_mode(&file, 0o644);
    // Also in a directory in which the reader may make files: it must leave none that the log cannot write.
    for bits in [0o755, 0o1777] {
        set_mode(&place, bits);
        let before = names(&place);
        reads_all(&reader, 1, None);
        assert_eq!(names(&place), before);
    }
    // A log that runs, whose files all may read.
    let log = open(&file);
    commit(&log, entry("a"));
    assert_eq!(mode(&beside(&file, "-wal")), 0o644);
    reads_all(&reader, 2, None);
    commit(&log, entry("a"));
    reads_all(&reader, 3, None);
    // One of whose files they may read only the main one.
    set_mode(&beside(&file, "-wal"), 0o600);
    set_mode(&beside(&file, "-shm"), 0o600);
    reads_all(&reader, 0, Some("audit.db-wal: copy both files"));
    close(&log);
    reads_all(&reader, 3, None);
    // The file itself may not be read.
    set_mode(&file, 0o600);
    reads_all(&reader, 0, Some("be allowed to read"));
}

#[test]
#[cfg(feature = "cli")]
fn a_log_is_read_and_followed_where_it_is_mounted_read_only() {
    use std::io::{BufRead, BufReader};
    in_own_mounts(this_test!(), |directory| {
        let (real, mounted) = (directory.join("real"), directory.join("mounted"));
        fs::create_dir(&real).unwrap();
        fs::create_dir(&mounted).unwrap();
        bind(&real, &mounted, &["remount,bind,ro"]);
        let (file, db) = (real.join("audit.db"), mounted.join("audit.db"));
        let reader = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
            command.arg("--db").arg(&db).args(arguments).stdin(Stdio::null());
            command
        };
        let log = open(&file);
        commit(&log, entry("a"));
        close(&log);
        reads_all(&reader, 1, None);
        // It is followed from a time when nobody writes it into one when somebody does, and on.
        let mut tail = reader(&["tail", "-f", "--from-seq", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let mut next = || lines.next().unwrap().unwrap();
        assert!(next().contains("\"seq\":0,"));
        for seq in 1..4 {
            let log = open(&file);
            commit(&log, entry("a"));
            assert!(next().contains(&format!("\"seq\":{seq},")));
            reads_all(&reader, seq + 1, None);
            close(&log);
        }
        tail.kill().unwrap();
        tail.wait().unwrap();
        // A log that was left by a kill is read too as long as its index is there, and otherwise told how.
        let log = open(&file);
        commit(&log, entry("a"));
        for suffix in ["", "-wal"] {
            fs::copy(beside(&file, suffix), beside(&real.join("left.db"), suffix)).unwrap();
        }
        close(&log);
        let left = mounted.join("left.db");
        let of_left = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
            command.arg("--db").arg(&left).args(arguments).stdin(Stdio::null());
            command
        };
        reads_all(&of_left, 0, Some("left.db-wal: copy both files"));
    });
}

/// Runs a program where the whole file system is read-only but for this directory, which is mounted at `/mnt`, and where
/// no other can hold temporary files.
fn without_temporary_directory(directory: &Path, program: &Path, arguments: &[&str]) -> Command {
    let script = "set -e
        mount --bind \"$1\" /mnt; mkdir -p /mnt/bin; mount --bind \"$2\" /mnt/bin
        for hidden in /tmp /var/tmp /usr/tmp /dev/shm /run; do
            [ ! -d $hidden ] || mount -t tmpfs -o ro tmpfs $hidden
        done
        cd /tmp; program=/mnt/bin/$3; shift 3; unset TMPDIR; exec $program \"$@\"";
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["--mount"][..] } else { &["--mount", "--user", "--map-root-user"] });
    command.args(["sh", "-c", script, "sh"]).arg(directory).arg(program.parent().unwrap());
    command.arg(program.file_name().unwrap()).args(arguments).stdin(Stdio::null());
    command
}

#[test]
#[cfg(feature = "cli")]
fn where_no_temporary_files_can_be_made_everything_that_sorts_still_works() {
    let directory = tempfile::tempdir().unwrap();
    filled(&directory.path().join("audit.db"), 4000);
    let program = Path::new(env!("CARGO_BIN_EXE_tracing-audit"));
    let answer = |arguments: &str| {
        let arguments: Vec<_> = ["--db", "/mnt/audit.db"].into_iter().chain(arguments.split(' ')).collect();
        let found = without_temporary_directory(directory.path(), program, &arguments).output().unwrap();
        let told = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{arguments:?}: {told}");
        String::from_utf8(found.stdout).unwrap()
    };
    assert_eq!(answer("export --format csv").lines().count(), 4001);
    assert_eq!(answer("stats --by resource_id --limit 0").lines().count(), 4000);
    answer("index add resource_id reason");
    assert!(answer("index list").contains("\"serves\":\"reason\",\"on_request\":true"));
    answer("export -o /mnt/all.jsonl");
}

/// What a writer does where no temporary files can be made.
const PLACE: &str = "TRACING_AUDIT_TEST_PLACE";

#[test]
fn where_no_temporary_files_can_be_made_large_batches_are_committed() {
    if let Some(place) = std::env::var_os(PLACE) {
        let file = Path::new(&place).join("audit.db");
        filled(&file, 3000);
        // A reader of the log sorts in memory.
        let store = || Store::sqlite(&file).unwrap();
        let by = || CountBy::Column(Column::ResourceId);
        let reader = AuditReader::new(store());
        assert_eq!(reader.blocking().count_by(AuditQuery::new(), by()).unwrap().len(), 3000);
        block_on(store().create_index(Column::ResourceId)).unwrap();
        block_on(store().drop_index(Column::ResourceId)).unwrap();
        // What is too much for memory names the remedy.
        run(file.to_str().unwrap(), "UPDATE tracing_audit_head SET next_seq = 500001");
        let of_many = reader.blocking().count_by(AuditQuery::new(), by()).map(|counts| counts.len());
        assert!(of_many.unwrap_err().to_string().contains("SQLITE_TMPDIR"));
        return;
    }
    let directory: TempDir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut writer = without_temporary_directory(directory.path(), &program, &only(this_test!()));
    assert!(writer.env(PLACE, "/mnt").status().unwrap().success());
    wait_until("the entries are there", || directory.path().join("audit.db").exists());
    assert_eq!(all_in(directory.path().join("audit.db").to_str().unwrap()).len(), 3000);
    assert_eq!(fs::metadata(directory.path().join("audit.db")).unwrap().mode() & 0o777, 0o600);
}
