//! The files that the command writes: who may read them, what exists already, devices, pipes, links, signals.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, symlink},
        process::ExitStatusExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{EVENTS, answer, command, emit, filled, run, seqs};
use crate::support::{Fixture, is_root, log, wait, wait_until};

/// Puts something in the place of a file.
type Plant<'a> = &'a dyn Fn(&Path);

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn names(directory: &Path) -> BTreeSet<String> {
    let found = fs::read_dir(directory).unwrap();
    found.map(|found| found.unwrap().file_name().into_string().unwrap()).collect()
}

fn made(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).arg(path).args(arguments).status().unwrap().success()
}

/// The thirteen entries, and a directory for outputs.
fn prepared() -> (Fixture, tempfile::TempDir) {
    (filled(log()), tempfile::tempdir().unwrap())
}

/// Runs the command in a shell that has run this line.
fn after(line: &str, fixture: &Fixture, arguments: &str) -> Option<i32> {
    let script = format!("{line}; exec \"$0\" {arguments}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_tracing-audit")]).env("TRACING_AUDIT_DB", &fixture.db);
    shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
}

/// Runs the command in a shell, with these redirections. Returns its exit code.
fn redirected(directory: &Path, db: &str, arguments: &str, redirections: &str) -> Option<i32> {
    let script = format!("exec \"$0\" {arguments} {redirections}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_tracing-audit")]).env("TRACING_AUDIT_DB", db);
    shell.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().unwrap().code()
}

#[test]
fn what_cannot_be_said_on_standard_error_changes_no_exit_code() {
    let (fixture, directory) = prepared();
    answer(&fixture.db, &format!("export -o {}/all.jsonl", directory.path().display()));
    for (arguments, code) in [
        ("query", 0),
        ("query --limit 3 -o table", 0),
        ("query --where colour=red", 2),
        ("nonsense", 2),
        ("stats --compare --month 2026-11", 0),
        ("tail", 0),
        ("check", 0),
        ("verify", 5),
        ("prove 0 -o proof", 0),
        ("compare --against all.jsonl", 0),
        ("--db all.jsonl query --from-seq 99", 0),
        ("export --resume --manifest -o resumed.jsonl", 0),
        ("get 99", 1),
    ] {
        for full in ["2>/dev/full", "2>&-"] {
            let found = redirected(directory.path(), &fixture.db, arguments, full);
            assert_eq!(found, Some(code), "{arguments} {full}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_no_success() {
    let (fixture, directory) = prepared();
    for (arguments, redirections, code) in [
        ("ledgers", ">/dev/full", 4),
        ("--help", ">/dev/full", 4),
        ("query --help", ">/dev/full", 4),
        ("--version", ">/dev/full", 4),
        // Nothing is written there.
        ("export -o all.jsonl", ">&-", 0),
        ("query --action nothing", ">&-", 0),
        ("nonsense", ">&-", 2),
        ("query", ">/dev/null", 0),
        ("query", "1<>/dev/null", 0),
        ("--help", ">/dev/null", 0),
    ] {
        let found = redirected(directory.path(), &fixture.db, arguments, redirections);
        assert_eq!(found, Some(code), "{arguments} {redirections}");
    }
}

/// Any other database may be an audit log too, and what is written beside it would be taken for a part of it.
#[test]
fn no_output_takes_the_place_of_another_database_or_of_a_file_beside_one() {
    let (fixture, directory) = prepared();
    let there = directory.path();
    let others = [
        ("keep.db", "SQLite format 3\0 and all that is in it"),
        ("young.db", ""),
        ("young.db-wal", "all of it"),
        ("old.db", "SQLite format 3\0"),
        ("old.db-journal", "what was there before"),
    ];
    for (name, content) in others {
        fs::write(there.join(name), content).unwrap();
    }
    symlink("keep.db", there.join("link")).unwrap();
    for name in ["keep.db", "keep.db-wal", "young.db", "old.db-journal", "link"] {
        for options in ["export -o", "export --resume -o", "tail -o", "tail --state", "prove 0 -o"] {
            let (code, told) = told_in(there, &fixture.db, &format!("{options} {name}"));
            assert!(code == Some(2) && told.contains("SQLite database"), "{options} {name}: {told}");
        }
    }
    for (name, content) in others {
        assert_eq!(fs::read_to_string(there.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(names(there).len(), others.len() + 1, "{:?}", names(there));
}

#[test]
fn what_the_command_writes_is_for_its_user_alone_whatever_the_umask_is() {
    let (fixture, _) = prepared();
    for _ in 0..300 {
        emit(&fixture.log, &EVENTS[1]);
    }
    fixture.settle();
    for umask in ["0", "022", "077"] {
        let directory = tempfile::tempdir().unwrap();
        let (line, there) = (format!("umask {umask}; cd {}", directory.path().display()), directory.path());
        for arguments in [
            "export --manifest -o all.jsonl",
            "export --gzip -o all.jsonl.gz",
            "export --resume --manifest -o resumed.jsonl",
            "tail -o tail.jsonl",
            "tail --state state",
        ] {
            assert_eq!(after(&line, &fixture, arguments), Some(0), "{arguments}");
        }
        let limited = format!("{line}; trap '' XFSZ; ulimit -f 50");
        assert_eq!(after(&limited, &fixture, "export --resume -o unfinished.jsonl"), Some(4));
        let found = names(there);
        assert_eq!(found.len(), 10, "{found:?}");
        assert!(found.contains("unfinished.jsonl.partial.json"), "{found:?}");
        for name in found {
            assert_eq!(mode(there.join(&name)), 0o600, "{name} with umask {umask}");
        }
    }
}

#[test]
fn an_output_that_exists_keeps_its_mode_and_its_other_names() {
    let (fixture, directory) = prepared();
    let at = |name: &str| directory.path().join(name);
    let outputs = ["all.jsonl", "all.jsonl.manifest.json", "tail.jsonl", "state", "twice"];
    for name in outputs {
        fs::write(at(name), "").unwrap();
        set_mode(at(name), 0o640);
    }
    fs::write(at("state"), r#"{"ledger":"main","next_seq":0}"#).unwrap();
    fs::hard_link(at("twice"), at("again")).unwrap();
    for (output, options) in [
        ("all.jsonl", "export --manifest -o"),
        ("all.jsonl", "export --resume --manifest -o"),
        ("tail.jsonl", "tail -o"),
        ("state", "tail --state"),
        ("twice", "export -o"),
    ] {
        answer(&fixture.db, &format!("{options} {}", at(output).display()));
    }
    for name in outputs {
        assert_eq!(mode(at(name)), 0o640, "{name}");
    }
    // A manifest describes the file beside it, or none is there.
    for options in ["export -o", "export --resume -o", "export --decision deny -o"] {
        let refused = run(&fixture.db, &format!("{options} {}", at("all.jsonl").display()));
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && told.contains("add --manifest, remove it"), "{told}");
    }
    for name in ["all.jsonl", "tail.jsonl", "twice", "again"] {
        assert_eq!(seqs(&fs::read_to_string(at(name)).unwrap()).len(), 13, "{name}");
    }
    assert!(fs::read_to_string(at("state")).unwrap().contains("\"next_seq\":13"));
}

/// Runs the command in this directory, where it must end soon. Returns its exit code and what it says.
fn told_in(directory: &Path, db: &str, arguments: &str) -> (Option<i32>, String) {
    use std::io::{Read, Seek};
    let mut told = tempfile::tempfile().unwrap();
    let mut run = command(db);
    run.current_dir(directory).args(arguments.split(' ')).stdout(Stdio::null());
    let status = wait(run.stderr(told.try_clone().unwrap()).spawn().unwrap());
    let mut text = String::new();
    told.rewind().unwrap();
    told.read_to_string(&mut text).unwrap();
    (status.code(), text)
}

/// Whoever may put a file or a link where an output is to be must neither read it nor lead it elsewhere, and whoever may
/// write what is continued must not decide where.
#[test]
fn an_output_that_others_have_put_there_or_may_write_is_refused_and_stays_as_it_is() {
    let (fixture, _) = prepared();
    let nobody = |path: &Path| std::os::unix::fs::lchown(path, Some(65534), None).unwrap();
    let with_mode = |path: &Path, mode: u32| {
        fs::write(path, "planted").unwrap();
        set_mode(path, mode);
    };
    let (everybodys, of_group) = (|path: &Path| with_mode(path, 0o666), |path: &Path| with_mode(path, 0o620));
    let behind_link = |path: &Path| {
        with_mode(&path.with_file_name("target"), 0o646);
        symlink("target", path).unwrap();
    };
    let of_another = |path: &Path| {
        with_mode(path, 0o644);
        nobody(path);
    };
    let leads_to = |name: &'static str| {
        move |path: &Path| {
            symlink(path.with_file_name(name), path).unwrap();
            nobody(path);
        }
    };
    let (to_victim, to_nothing) = (leads_to("victim"), leads_to("nowhere"));
    let plants: [(&str, Plant<'_>); 6] = [
        ("out may be changed by others", &everybodys),
        ("out may be changed by others", &of_group),
        ("target may be changed by others", &behind_link),
        ("out belongs to another user", &of_another),
        ("out is a link that another user has made", &to_victim),
        ("out is a link that another user has made", &to_nothing),
    ];
    // Only root can make what belongs to another user.
    for (says, plant) in plants.into_iter().take(if is_root() { 6 } else { 3 }) {
        for (arguments, planted) in [
            ("export -o out", "out"),
            ("export --resume -o out", "out"),
            ("export --manifest -o out", "out.manifest.json"),
            ("tail -o out", "out"),
            ("tail -o out", "out.source.json"),
            ("tail --state out", "out"),
            ("verify --quiet --state out", "out"),
            ("man --out .", "tracing-audit.1"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            fs::write(at("victim"), "precious").unwrap();
            plant(&at(planted));
            let before = names(directory.path());
            let (code, told) = told_in(directory.path(), &fixture.db, arguments);
            let says = says.replace("out ", &format!("{planted} "));
            assert!(code == Some(2) && told.contains(&says), "{arguments}: {code:?} {told}");
            assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious", "{arguments}");
            assert!(!at("nowhere").exists(), "{arguments}");
            if at("target").exists() {
                assert_eq!(fs::read_to_string(at("target")).unwrap(), "planted", "{arguments}");
            }
            // The pages before that one may be there.
            if !arguments.starts_with("man") {
                assert_eq!(names(directory.path()), before, "{arguments}");
            }
        }
    }
}

#[test]
fn a_pipe_a_device_or_a_huge_file_in_place_of_a_small_one_is_refused_at_once() {
    let (fixture, directory) = prepared();
    let at = |name: &str| directory.path().join(name);
    for name in ["whole.jsonl", "copy.jsonl"] {
        answer(&fixture.db, &format!("export -o {}", at(name).display()));
    }
    let pipe = |path: &Path| assert!(made("mkfifo", &[], path));
    let device = |path: &Path| symlink("/dev/zero", path).unwrap();
    let huge = |path: &Path| fs::File::create(path).unwrap().set_len(20 << 30).unwrap();
    let is_directory = |path: &Path| fs::create_dir(path).unwrap();
    let plants: [(&str, Plant<'_>); 4] = [
        ("is a pipe or a device", &pipe),
        ("is a pipe or a device", &device),
        ("has more than 16 MiB", &huge),
        ("is a directory", &is_directory),
    ];
    for (says, plant) in plants {
        for (arguments, planted) in [
            ("verify --checkpoint small", "small"),
            ("verify --state small", "small"),
            ("tail --state small", "small"),
            ("tail -o copy.jsonl", "copy.jsonl.source.json"),
            ("export --resume -o other.jsonl", "other.jsonl.partial.json"),
            ("compare --against whole.jsonl", "whole.jsonl.manifest.json"),
            ("--db whole.jsonl query", "whole.jsonl.manifest.json"),
            ("--db whole.jsonl --db-manifest small query", "small"),
        ] {
            plant(&at(planted));
            let (code, told) = told_in(directory.path(), &fixture.db, arguments);
            let is_named = told.contains(planted) && (told.contains(says) || told.contains("is not a file"));
            assert!(code.is_some_and(|code| code > 1) && is_named, "{arguments}: {code:?} {told}");
            fs::remove_file(at(planted)).or_else(|_| fs::remove_dir(at(planted))).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_may_come_through_a_pipe_that_the_caller_has_opened() {
    let (fixture, _) = prepared();
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_tracing-audit")]).env("TRACING_AUDIT_DB", &fixture.db);
        shell.output().unwrap()
    };
    for from in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let found = shell(&format!("\"$0\" checkpoint | \"$0\" verify --quiet --checkpoint {from}"));
        let told = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(found.status.success(), "{from}: {told}");
    }
    // One that never ends is not read for ever.
    let endless = shell("\"$0\" verify --checkpoint - < /dev/zero");
    let told = String::from_utf8(endless.stderr).unwrap();
    assert!(endless.status.code() == Some(2) && told.contains("more than 16 MiB"), "{told}");
}

#[test]
fn a_device_a_pipe_and_a_link_stay_what_they_are() {
    let (fixture, directory) = prepared();
    let at = |name: &str| directory.path().join(name);
    let output = |options: &str, name: &str| format!("{options} {}", at(name).display());
    let kind = |name: &str| fs::symlink_metadata(at(name)).unwrap().file_type();

    // Links: to a file, to nothing yet, to a file in another directory by a relative path, to a link.
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/file"), "old").unwrap();
    set_mode(at("elsewhere/file"), 0o604);
    symlink(at("elsewhere/file"), at("link")).unwrap();
    symlink("elsewhere/new", at("dangling")).unwrap();
    symlink("link", at("link to a link")).unwrap();
    for (options, name, leads_to) in [
        ("export -o", "link", "elsewhere/file"),
        ("export --manifest -o", "dangling", "elsewhere/new"),
        ("export --resume -o", "link", "elsewhere/file"),
        ("tail -o", "dangling", "elsewhere/new"),
        ("export -o", "link to a link", "elsewhere/file"),
    ] {
        if options == "tail -o" {
            fs::remove_file(at(leads_to)).unwrap();
        }
        let whole = format!("{options} '{}'", at(name).display());
        assert_eq!(answer(&fixture.db, &whole), "");
        assert!(kind(name).is_symlink(), "{whole}");
        assert_eq!(seqs(&fs::read_to_string(at(leads_to)).unwrap()).len(), 13, "{whole}");
    }
    assert_eq!((mode(at("elsewhere/file")), mode(at("elsewhere/new"))), (0o604, 0o600));
    assert_eq!(names(&at("elsewhere")).len(), 3);

    // A pipe, and a link to one.
    assert!(made("mkfifo", &[], &at("pipe")));
    symlink("pipe", at("link to a pipe")).unwrap();
    for (options, name) in [("export -o", "pipe"), ("export -o", "link to a pipe"), ("tail -o", "pipe")] {
        let reading = std::thread::spawn({
            let pipe = at("pipe");
            move || fs::read_to_string(pipe).unwrap()
        });
        answer(&fixture.db, &format!("{options} '{}'", at(name).display()));
        assert_eq!(seqs(&reading.join().unwrap()).len(), 13, "{options} {name}");
        assert!(kind("pipe").is_fifo() && fs::metadata(at(name)).unwrap().file_type().is_fifo());
    }
    // Devices, where this user may make some.
    if is_root() && made("mknod", &["c", "1", "3"], &at("null")) && fs::write(at("null"), "").is_ok() {
        assert!(made("mknod", &["c", "1", "7"], &at("full")));
        for options in ["export -o", "tail -o"] {
            assert_eq!(answer(&fixture.db, &output(options, "null")), "");
            let full = run(&fixture.db, &output(options, "full"));
            let told = String::from_utf8_lossy(&full.stderr).into_owned();
            assert_eq!(full.status.code(), Some(4), "{told}");
            assert!(kind("null").is_char_device() && kind("full").is_char_device());
        }
    }
    for arguments in ["export --manifest -o", "export --resume -o"] {
        let refused = run(&fixture.db, &output(arguments, "pipe"));
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("need a file"));
        assert_eq!(run(&fixture.db, &format!("{arguments} -")).status.code(), Some(2));
    }

    // Standard output.
    let mut to_stdout = command(&fixture.db);
    let found = to_stdout.current_dir(directory.path()).args(["export", "-o", "-"]).output().unwrap();
    assert_eq!(seqs(std::str::from_utf8(&found.stdout).unwrap()).len(), 13);
    assert_eq!(seqs(&answer(&fixture.db, "tail -o -")).len(), 13);
    assert!(!at("-").exists());
    // What the caller has opened for appending keeps what it holds.
    let appended = fs::File::options().append(true).open(at("elsewhere/file")).unwrap();
    assert!(
        command(&fixture.db)
            .args(["export", "-o", "/dev/stdout"])
            .stdout(appended)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(seqs(&fs::read_to_string(at("elsewhere/file")).unwrap()).len(), 26);
    // A directory is no file, and is refused before anything is read.
    let refused = run(&fixture.db, &output("export -o", "elsewhere"));
    assert_eq!(refused.status.code(), Some(4));
    assert_eq!(names(&at("elsewhere")).len(), 3);
}

/// An export that waits for the reader of its manifest, which is a pipe. `starts` is what starts it.
fn waits(fixture: &Fixture, directory: &Path, starts: &str) -> Child {
    let manifest = directory.join("all.jsonl.manifest.json");
    assert!(made("mkfifo", &[], &manifest));
    let script = format!("{starts} \"$0\" export --manifest -o {}/all.jsonl", directory.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_tracing-audit")]).env("TRACING_AUDIT_DB", &fixture.db);
    let child = shell.spawn().unwrap();
    wait_until("the export waits", || names(directory).iter().any(|name| name.starts_with('.')));
    child
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_signal_that_ends_the_command_leaves_no_temporary_file() {
    let (fixture, _) = prepared();
    for (signal, number) in [("-HUP", 1), ("-INT", 2), ("-TERM", 15)] {
        let directory = tempfile::tempdir().unwrap();
        // Whatever the tests themselves ignore.
        let child = waits(&fixture, directory.path(), "exec env --default-signal=HUP,INT,TERM");
        send(signal, &child);
        let status = wait(child);
        assert_eq!(status.code(), Some(128 + number), "{signal}: {:?}", status.signal());
        let left = names(directory.path());
        assert_eq!(left.len(), 1, "{signal}: {left:?}");
    }
    // Under nohup the command survives the end of its terminal.
    let directory = tempfile::tempdir().unwrap();
    let child = waits(&fixture, directory.path(), "trap '' HUP; exec");
    send("-HUP", &child);
    let manifest = fs::read_to_string(directory.path().join("all.jsonl.manifest.json")).unwrap();
    assert!(wait(child).success());
    assert!(manifest.contains("\"rows\": 13"), "{manifest}");
    assert_eq!(names(directory.path()).len(), 2);
}

#[test]
fn an_output_that_would_destroy_the_database_is_refused() {
    let (fixture, directory) = prepared();
    let db = Path::new(&fixture.db);
    let at = |name: &str| directory.path().join(name).display().to_string();
    let beside = |suffix: &str| format!("{}{suffix}", fixture.db);
    symlink(db, at("link.db")).unwrap();
    fs::hard_link(db, at("name.db")).unwrap();
    fs::hard_link(db, at("all.jsonl.manifest.json")).unwrap();
    symlink(fixture.directory.path(), at("directory")).unwrap();
    // Which exists only in other journal modes.
    let journal = beside("-journal");
    // What the log has accepted waits there.
    let queue = beside(".queue");
    let of_log = names(Path::new(&queue)).into_iter().next().unwrap();
    let (lock, content) =
        (format!("{queue}/{of_log}/lock"), fs::read(format!("{queue}/{of_log}/lock")).unwrap());
    let outputs = [
        fixture.db.clone(),
        at("link.db"),
        at("name.db"),
        at("directory/audit.db"),
        at("directory/./audit.db"),
        beside("-wal"),
        beside("-shm"),
        journal.clone(),
        at("directory/audit.db-journal"),
        lock.clone(),
        format!("{queue}/new"),
        at("directory/audit.db.queue/new"),
        beside(".turn"),
    ];
    let refused = |db: &str, arguments: &str| {
        let refused = run(db, arguments);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments}: {told}");
        assert!(told.contains("is a file of the audit database"), "{arguments}: {told}");
        assert!(refused.stdout.is_empty());
    };
    for output in &outputs {
        for command in ["export -o", "export --resume -o", "tail -o", "tail --state"] {
            refused(&fixture.db, &format!("{command} {output}"));
        }
    }
    refused(&fixture.db, &format!("export --manifest -o {}", at("all.jsonl")));
    refused(&format!("sqlite://{}?mode=rw", fixture.db), &format!("export -o {}", fixture.db));
    refused(&at("link.db"), &format!("export -o {}", beside("-wal")));
    for suffix in ["", "-wal"] {
        let appended = fs::File::options().append(true).open(beside(suffix)).unwrap();
        let length = appended.metadata().unwrap().len();
        let mut export = command(&fixture.db);
        assert_eq!(export.arg("export").stdout(appended).output().unwrap().status.code(), Some(2));
        assert_eq!(fs::metadata(beside(suffix)).unwrap().len(), length);
    }
    assert!(!Path::new(&journal).exists() && fs::read(&lock).unwrap() == content);
    assert_eq!(seqs(&answer(&fixture.db, "tail -n all")).len(), 13);
    assert_eq!(answer(&fixture.db, &format!("export -o {}", at("audit.db"))), "");
}
