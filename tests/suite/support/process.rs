//! Waits, processes of a test's own, and the lock of the tests that keep the machine busy.

use std::{
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The longest wait for one condition. It only bounds a test that hangs: no test depends on the machine being quick.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// The longest wait for a process, which may wait for several conditions.
const PROCESS_PATIENCE: Duration = Duration::from_mins(15);

/// The file that a child writes once the body of its test has run.
const FINISHED: &str = "TRACING_AUDIT_TEST_FINISHED";

/// The directory that a child may mount something on.
const MOUNTED: &str = "TRACING_AUDIT_TEST_MOUNTED";

/// Waits until the condition holds.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Held by a test that keeps the whole machine busy, so that no two such tests run at once.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    // A failed test poisons the lock, which says nothing about the next test.
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the test function in which this stands, as the test program knows it.
macro_rules! this_test {
    () => {{
        fn here() {}
        $crate::support::test_of(here)
    }};
}
pub(crate) use this_test;

/// The path of the function in which `here` is defined, without the name of the program.
pub(crate) fn test_of<F: Fn()>(_here: F) -> &'static str {
    let (_program, path) = std::any::type_name::<F>().split_once("::").unwrap();
    // A closure of the function has a path below the function's.
    let path = path.split_once("::{{closure}}").map_or(path, |(function, _)| function);
    path.strip_suffix("::here").unwrap_or(path)
}

/// The arguments with which a test program runs one test alone.
pub(crate) fn only(test: &str) -> [&str; 5] {
    [test, "--exact", "--nocapture", "--include-ignored", "--quiet"]
}

/// This test program again, for one test.
pub(crate) fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(only(test));
    command
}

/// Starts this test program again for one test, with more variables in its environment.
pub(crate) fn child(test: &str, variables: &[(&str, &str)]) -> Child {
    again(test).envs(variables.iter().copied()).stdout(Stdio::null()).spawn().unwrap()
}

/// Waits for the end of a process, and kills one that hangs.
pub(crate) fn wait(mut child: Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PROCESS_PATIENCE {
            child.kill().unwrap();
            panic!("a child process hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the body in a process of its own: what it installs globally or measures is of that process alone. `test` is
/// [`this_test!`].
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    match std::env::var_os(FINISHED) {
        Some(finished) => finish(Path::new(&finished), body),
        None => finished(test, again(test)),
    }
}

/// Runs the body in a process whose mounts are its own and go with it.
pub(crate) fn in_own_mounts(test: &str, body: impl FnOnce(&Path)) {
    in_own_mounts_with(test, &[], body);
}

/// Runs the body in a process whose mounts are its own, with more variables in its environment.
pub(crate) fn in_own_mounts_with(test: &str, variables: &[(&str, &str)], body: impl FnOnce(&Path)) {
    if let (Some(directory), Some(finished)) = (std::env::var_os(MOUNTED), std::env::var_os(FINISHED)) {
        return finish(Path::new(&finished), || body(Path::new(&directory)));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["--mount"][..] } else { &["--mount", "--user", "--map-root-user"] });
    command.arg(std::env::current_exe().unwrap()).args(only(test)).env(MOUNTED, directory.path());
    command.envs(variables.iter().copied());
    finished(test, command);
}

/// Whether this is the child that runs the body of a test in a process of its own.
pub(crate) fn is_in_own_process() -> bool {
    std::env::var_os(FINISHED).is_some()
}

/// In the child: a wrong name would run no test at all, with success, so the parent asks for this file.
fn finish(finished: &Path, body: impl FnOnce()) {
    body();
    std::fs::write(finished, "").unwrap();
}

/// In the parent: runs the child until it has finished the body of the test.
fn finished(test: &str, mut command: Command) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("finished");
    let is_shown = std::env::args().any(|argument| argument == "--nocapture");
    let stdout = if is_shown { Stdio::inherit() } else { Stdio::null() };
    let child = command.env(FINISHED, &file).stdout(stdout).spawn();
    let status =
        wait(child.expect("'unshare' is needed for mounts: on Debian, 'apt-get install util-linux'"));
    assert!(status.success(), "{test} failed in its own process: {status}");
    assert!(file.exists(), "{test} was not run in its own process: no test has this name");
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Mounts a file system in memory; false if the kernel refuses.
pub(crate) fn mount(options: &str, directory: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory);
    command.status().expect("'mount' is needed: on Debian, 'apt-get install mount'").success()
}
