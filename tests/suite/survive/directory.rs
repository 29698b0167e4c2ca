//! The queue's directory: who may read it, what in it is believed, and what happens if it is taken away.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        net::UnixListener,
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing_audit::{AuditEntry, Durability, Health, Store, WhenFull, journal::inspect};
use uuid::Uuid;

use super::journal::{accepted_and_died, builder, file, in_own_process_unless_child, journals, segments};
use crate::support::{
    self, Fuse, block_on, entry, in_own_mounts, is_root, lock, mount, only, this_test, unlock, wait,
    wait_until,
};

/// The directory in which a child does its part of a test.
const PLACE: &str = "TRACING_AUDIT_TEST_PLACE";

fn queue(directory: &Path) -> PathBuf {
    directory.join("audit.db.queue")
}

/// This test program again, for one test, under a shell's limits.
fn under(limits: &str, test: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command.args(only(test)).env(PLACE, directory).stdout(Stdio::null());
    command
}

fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// Every file and directory below this one, itself included, with its mode.
fn modes(directory: &Path) -> Vec<(PathBuf, bool, u32)> {
    let found = fs::symlink_metadata(directory).unwrap();
    let mut modes = vec![(directory.to_owned(), found.is_dir(), found.mode() & 0o7777)];
    if found.is_dir() {
        for below in fs::read_dir(directory).unwrap() {
            modes.extend(self::modes(&below.unwrap().path()));
        }
    }
    modes
}

#[test]
fn a_journal_is_its_owner_s_alone_or_the_group_s_whatever_the_umask_is() {
    if let Some(directory) = place() {
        let group = directory.ends_with("group");
        let log = builder(&directory)
            .group_access(group)
            .durability(Durability::PowerLoss { within: Duration::from_millis(10) });
        let log = log.journal_max_bytes(256 << 10).blocking().open().unwrap();
        // More than one segment, and a prepared one.
        for i in 0..200 {
            let padded = AuditEntry { reason: Some("x".repeat(2000)), ..entry(i.to_string()) };
            log.writer().blocking().write(padded).unwrap();
        }
        let found = modes(&queue(&directory));
        assert!(found.len() >= 4, "{found:?}");
        let (of_directory, of_file) = if group { (0o770, 0o660) } else { (0o700, 0o600) };
        for (path, is_directory, mode) in found {
            // The bit that a directory gets from one with the setgid bit stays.
            let setgid = if is_directory && path.to_str().unwrap().contains("/setgid/") { 0o2000 } else { 0 };
            let right = if is_directory { of_directory | setgid } else { of_file };
            assert_eq!(mode, right, "{}: {mode:o}", path.display());
        }
        return;
    }
    for umask in ["000", "022", "0277", "777"] {
        for name in ["owner", "group", "setgid/owner"] {
            let directory = tempfile::tempdir().unwrap();
            let place = directory.path().join(name);
            fs::create_dir_all(&place).unwrap();
            if name.starts_with("setgid") {
                fs::set_permissions(&place, PermissionsExt::from_mode(0o2770)).unwrap();
            }
            // The database's own files would be without any bits under such an umask.
            fs::write(place.join("audit.db"), "").unwrap();
            let child = under(&format!("umask {umask}"), this_test!(), &place).spawn().unwrap();
            assert!(wait(child).success(), "umask {umask}, {name}");
        }
    }
}

/// Makes a pipe.
fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("'mkfifo' is needed: on Debian, 'apt-get install coreutils'").success());
}

#[test]
fn what_is_not_the_log_s_own_in_the_queue_is_refused_and_told_and_nothing_else_waits_for_it() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        for name in ["lock", "important", "00000000000000000000.segment"] {
            fs::write(outside.join(name), "somebody's").unwrap();
        }
        let queue = queue(directory.path());
        let unborn = queue.join(format!("{}.new", Uuid::new_v4()));
        symlink(&outside, &unborn).unwrap();
        let new = || queue.join(Uuid::new_v4().to_string());
        let journal = || {
            let journal = new();
            fs::create_dir(&journal).unwrap();
            journal
        };
        let mut hostile: Vec<PathBuf> = Vec::new();
        let mut plant = |place: PathBuf| hostile.push(place);
        let link = new();
        symlink(&outside, &link).unwrap();
        plant(link);
        let dangling = new();
        symlink(directory.path().join("nowhere"), &dangling).unwrap();
        plant(dangling);
        let fifo = new();
        pipe(&fifo);
        plant(fifo);
        for kind in ["pipe", "socket", "link", "directory"] {
            let journal = journal();
            let lock = journal.join("lock");
            match kind {
                "pipe" => pipe(&lock),
                "socket" => drop(UnixListener::bind(&lock).unwrap()),
                "link" => symlink(outside.join("lock"), &lock).unwrap(),
                _ => fs::create_dir(&lock).unwrap(),
            }
            plant(journal);
        }
        for kind in ["pipe", "zeros", "link", "directory", "sparse"] {
            let journal = journal();
            fs::write(journal.join("lock"), "").unwrap();
            let segment = journal.join("00000000000000000000.segment");
            match kind {
                "pipe" => pipe(&segment),
                "zeros" => symlink("/dev/zero", &segment).unwrap(),
                "link" => symlink(outside.join("important"), &segment).unwrap(),
                "directory" => fs::create_dir(&segment).unwrap(),
                _ => fs::File::create(&segment).unwrap().set_len(3 << 30).unwrap(),
            }
            plant(journal);
        }
        let seen = inspect(&queue).unwrap();
        for path in &hostile {
            let journal = seen.iter().find(|journal| &journal.directory == path).unwrap();
            let told = journal.refused.as_ref().unwrap();
            assert!(told.contains(path.to_str().unwrap()), "{told}");
        }

        let log = builder(directory.path()).blocking().open().unwrap();
        log.writer().blocking().commit(entry("a")).unwrap();
        wait_until("the journal beside them is adopted", || log.stats().recovered == 10);
        wait_until("they are told", || log.health() == Health::Failing);
        let told = format!("{:?}", log.stats().last_error);
        assert!(told.contains(queue.to_str().unwrap()) && told.contains("remove it"), "{told}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 3);
        for name in ["lock", "important", "00000000000000000000.segment"] {
            assert_eq!(fs::read(outside.join(name)).unwrap(), b"somebody's");
        }
        for path in hostile.iter().chain([&unborn]) {
            assert!(fs::symlink_metadata(path).is_ok(), "{}", path.display());
        }
        // Without them the log is well again.
        for path in hostile.iter().chain([&unborn]) {
            if fs::symlink_metadata(path).unwrap().is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        wait_until("it is healthy", || log.health() == Health::Healthy);
    });
}

#[test]
fn links_among_the_files_of_a_dead_journal_lead_nowhere() {
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("important"), "somebody's").unwrap();
        let journal = journals(directory.path()).remove(0);
        symlink(outside.join("important"), journal.join("rewritten")).unwrap();
        drop(fs::remove_file(journal.join("spare")));
        symlink(outside.join("important"), journal.join("spare")).unwrap();
        symlink(&outside, journal.join("elsewhere")).unwrap();
        // Damage, which is kept in a directory that is a link.
        symlink(&outside, queue(directory.path()).join("damaged")).unwrap();
        let segment = segments(&journal).remove(0);
        let whole = fs::read(&segment).unwrap();
        let mut bytes = whole.clone();
        // In a record: the header's random bytes may be an x as well, but not eight in a row.
        let at = whole.windows(8).position(|bytes| bytes == b"xxxxxxxx").unwrap();
        bytes[at] = b'y';
        fs::write(&segment, &bytes).unwrap();
        let log = builder(directory.path()).blocking().open().unwrap();
        wait_until("it is told", || log.health() == Health::Failing);
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|found| found.unwrap().file_name()).collect();
        assert_eq!(names, ["important"]);
        fs::remove_file(queue(directory.path()).join("damaged")).unwrap();
        wait_until("all is settled", || journals(directory.path()).len() == 1);
        assert_eq!((log.stats().recovered, log.stats().damaged), (10, 1));
        assert_eq!(fs::read(outside.join("important")).unwrap(), b"somebody's");
    });
}

fn give(path: &Path, user: u32, group: Option<u32>) {
    for (path, ..) in modes(path) {
        chown(path, Some(user), group).unwrap();
    }
}

#[test]
fn a_journal_of_another_user_is_not_believed_and_a_queue_that_others_may_write_is_told() {
    if !is_root() {
        return;
    }
    let test = this_test!();
    in_own_process_unless_child(test, || {
        let directory = tempfile::tempdir().unwrap();
        accepted_and_died(test, &directory, 10, "exit");
        let (foreign, queue) = (journals(directory.path()).remove(0), queue(directory.path()));
        fs::set_permissions(&queue, PermissionsExt::from_mode(0o777)).unwrap();
        // The directory, and only a file in it.
        let segment = segments(&foreign).remove(0);
        let notices = Arc::new(Mutex::new(String::new()));
        for whose in [&foreign, &segment] {
            give(&foreign, 0, None);
            give(whose, 12345, None);
            let kept = Arc::clone(&notices);
            let log = builder(directory.path()).on_notice(move |notice| {
                use std::fmt::Write;
                writeln!(kept.lock().unwrap(), "{notice}").unwrap();
            });
            let log = log.blocking().open().unwrap();
            log.writer().blocking().commit(entry("a")).unwrap();
            wait_until("it is refused", || log.health() == Health::Failing);
            let told = format!("{:?}", log.stats().last_error);
            assert!(told.contains("belongs to user 12345") && told.contains("chown"), "{told}");
            wait_until("the directory is told", || notices.lock().unwrap().contains("every user"));
            assert!(inspect(&queue).unwrap().iter().any(|journal| journal.refused.is_some()));
            assert_eq!((log.stats().recovered, foreign.exists()), (0, true));
        }
        // The members of a group may be believed.
        fs::set_permissions(&queue, PermissionsExt::from_mode(0o770)).unwrap();
        chown(&queue, None, Some(54321)).unwrap();
        for (path, is_directory, _) in modes(&foreign) {
            fs::set_permissions(path, PermissionsExt::from_mode(if is_directory { 0o770 } else { 0o660 }))
                .unwrap();
        }
        give(&foreign, 12345, Some(54321));
        let log = builder(directory.path()).group_access(true).blocking().open().unwrap();
        wait_until("it is adopted", || log.stats().recovered == 10);
    });
}

/// A child that accepts 50 entries, and tells so, while the database is locked by its parent.
fn accept_and_wait(directory: &Path) -> ! {
    let log = builder(directory).blocking().open().unwrap();
    fs::write(directory.join("open"), "").unwrap();
    wait_until("the database is locked", || directory.join("locked").exists());
    for i in 0..50 {
        log.writer().try_write(entry(i.to_string())).unwrap();
    }
    fs::write(directory.join("accepted"), "").unwrap();
    loop {
        std::thread::park();
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What somebody does to the queue, and to the journal in it.
type Act = fn(&Path, &Path);

#[test]
fn files_that_are_taken_from_a_running_journal_are_made_anew_before_the_process_dies() {
    if let Some(directory) = place() {
        accept_and_wait(&directory);
    }
    let acts: [(&str, Act); 6] = [
        ("the queue is removed", |queue, _| fs::remove_dir_all(queue).unwrap()),
        ("the queue is moved", |queue, _| fs::rename(queue, queue.with_extension("moved")).unwrap()),
        ("the journal is removed", |_, journal| fs::remove_dir_all(journal).unwrap()),
        ("the journal is replaced by an empty directory", |_, journal| {
            fs::remove_dir_all(journal).unwrap();
            fs::create_dir(journal).unwrap();
        }),
        ("a segment is removed", |_, journal| fs::remove_file(&segments(journal)[0]).unwrap()),
        ("the lock is removed", |_, journal| fs::remove_file(journal.join("lock")).unwrap()),
    ];
    for (what, act) in acts {
        let directory = tempfile::tempdir().unwrap();
        let has = |name: &str| directory.path().join(name).exists();
        let child = under(":", this_test!(), directory.path()).spawn().unwrap();
        wait_until("it is open", || has("open"));
        let blocker = block_on(lock(file(directory.path())));
        fs::write(directory.path().join("locked"), "").unwrap();
        wait_until("all is accepted", || has("accepted"));
        let journal = journals(directory.path()).remove(0);
        act(&queue(directory.path()), &journal);
        wait_until(what, || {
            let Ok(found) = inspect(queue(directory.path())) else { return false };
            let Some(found) = found.iter().find(|found| found.directory == journal) else { return false };
            found.locked && found.segments.iter().map(|segment| segment.records).sum::<u64>() == 50
        });
        kill(child);
        block_on(unlock(blocker));
        let log = builder(directory.path()).blocking().open().unwrap();
        wait_until(what, || log.stats().recovered == 50);
        assert_eq!(log.stats().damaged, 0, "{what}");
    }
}

#[test]
fn a_queue_that_is_taken_from_a_running_log_is_told_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let notices = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&notices);
    let log = builder(directory.path()).on_notice(move |notice| {
        use std::fmt::Write;
        writeln!(kept.lock().unwrap(), "{notice}").unwrap();
    });
    let log = log.blocking().open().unwrap();
    let writer = log.writer();
    writer.blocking().commit(entry("a")).unwrap();
    fs::remove_dir_all(queue(directory.path())).unwrap();
    writer.blocking().commit(entry("b")).unwrap();
    wait_until("it is told", || notices.lock().unwrap().contains("was removed or replaced"));
    wait_until("it is well again", || log.health() == Health::Healthy);
    assert_eq!(journals(directory.path()).len(), 1);
    writer.blocking().commit(entry("c")).unwrap();
    assert_eq!(log.blocking().shutdown(support::PATIENCE).unwrap().stats.committed, 3);
    assert!(!queue(directory.path()).exists());
}

#[test]
fn a_limit_on_the_size_of_files_makes_segments_smaller_or_open_an_error_and_ends_no_process() {
    if let Some(directory) = place() {
        let tiny = directory.ends_with("tiny");
        // On another file system nothing limits the database.
        let log = builder(&directory).when_full(WhenFull::Reject).blocking().open();
        if tiny {
            let error = log.unwrap_err();
            assert!(error.is_config() && error.to_string().contains("ulimit -f"), "{error}");
            return;
        }
        let log = log.unwrap();
        log.writer().blocking().commit(entry("a")).unwrap();
        let segments = segments(&journals(&directory).remove(0));
        assert!(segments.iter().all(|segment| fs::metadata(segment).unwrap().len() <= 4 << 20));
        // Lowered under the running log, whose segment ends above the limit.
        let own = std::process::id().to_string();
        let lowered = Command::new("prlimit").args(["--pid", &own, "--fsize=200000"]).status();
        assert!(lowered.expect("'prlimit' is needed: on Debian, 'apt-get install util-linux'").success());
        let blocker = block_on(lock(file(&directory)));
        let refused = (0..3000).find_map(|i| {
            let padded = AuditEntry { reason: Some("x".repeat(500)), ..entry(i.to_string()) };
            log.writer().try_write(padded).err()
        });
        assert!(refused.unwrap().is_full());
        block_on(unlock(blocker));
        return;
    }
    for (name, bytes) in [("small", 4 << 20), ("smaller", 1 << 20), ("tiny", 40_000)] {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--fsize={bytes}"))
            .arg(std::env::current_exe().unwrap())
            .args(only(this_test!()));
        let status = wait(command.env(PLACE, &place).stdout(Stdio::null()).spawn().unwrap());
        assert_eq!((status.signal(), status.success()), (None, true), "{name}");
    }
}

#[test]
fn an_open_that_fails_on_a_full_disk_leaves_nothing_in_the_queue() {
    in_own_mounts(this_test!(), |mounted| {
        let aside = tempfile::tempdir().unwrap();
        let mut failed = 0;
        // Room for so many files and directories, of which the first is the disk's own.
        for files in 1..=6 {
            let disk = mounted.join(files.to_string());
            fs::create_dir(&disk).unwrap();
            assert!(mount(&format!("size=1m,nr_inodes={files}"), &disk));
            let place = disk.join("queue");
            let store = Store::sqlite(aside.path().join("audit.db")).unwrap();
            let Err(error) = support::builder(store).journal(&place).blocking().open() else { continue };
            assert!(format!("{error:?}").contains("no room"), "{error:?}");
            let left: Vec<_> =
                fs::read_dir(&place).map(|found| found.flatten().collect()).unwrap_or_default();
            assert!(left.is_empty(), "{left:?}");
            failed += 1;
        }
        assert!((3..6).contains(&failed), "{failed}");
    });
}

#[test]
fn an_allocation_that_a_signal_interrupts_is_tried_again() {
    if let Some(directory) = place() {
        let log = builder(&directory).blocking().open().unwrap();
        log.writer().blocking().commit(entry("a")).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=fallocate", "-e", "inject=fallocate:error=EINTR:when=1..3", "-o"])
        .arg(&trace);
    strace.arg(std::env::current_exe().unwrap()).args(only(this_test!())).env(PLACE, directory.path());
    let child = strace.stdout(Stdio::null()).spawn();
    assert!(wait(child.expect("'strace' is needed: on Debian, 'apt-get install strace'")).success());
    assert!(fs::read_to_string(trace).unwrap().contains("(INJECTED)"));
}

#[test]
fn a_journal_on_a_file_system_whose_locks_not_everybody_sees_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    let Some(fuse) = Fuse::mount(&real, &directory.path().join("fuse")) else { return };
    let store = || Store::sqlite(directory.path().join("audit.db")).unwrap();
    // The directory exists, or is to be made.
    for place in [fuse.0.clone(), fuse.0.join("queue")] {
        let error = support::builder(store()).journal(&place).blocking().open().unwrap_err();
        let told = error.to_string();
        assert!(error.is_config() && told.contains("FUSE") && told.contains("local disk"), "{told}");
    }
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
}
