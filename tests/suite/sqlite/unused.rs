//! A file whose ledger has ended is held, so that nobody writes to it, and removed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tracing_audit::{Store, archive::UnusedFile};

use crate::support::{
    PATIENCE, all_in, block_on, builder, child, commit, entry, open, this_test, wait, wait_until,
};

const FILE: &str = "TRACING_AUDIT_TEST_FILE";

/// Commits this many entries to a file that nobody has open then, and returns the last `seq`.
fn ended(file: &Path, entries: usize) -> Option<u64> {
    let (log, mut last) = (open(file), None);
    for number in 0..entries {
        last = Some(commit(&log, entry(number.to_string())));
    }
    drop(log.blocking().shutdown(PATIENCE).unwrap());
    last
}

#[test]
fn a_file_is_held_only_as_it_was_copied_and_is_given_back_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    ended(&file, 3);
    let refused = |path: &Path, ledger: &str, next_seq| {
        block_on(UnusedFile::hold(path, ledger, next_seq)).unwrap_err().to_string()
    };
    // An entry has come since the copy; it is the file of another ledger; a link, behind which another file may come.
    assert!(refused(&file, "main", 2).contains("entries were committed meanwhile"));
    assert!(refused(&file, "main", 4).contains("ends at seq 3, and not at 4"));
    assert!(refused(&file, "payments", 3).contains("its ledger is \"main\""));
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(refused(&link, "main", 3).contains("is a link"));
    assert!(refused(&directory.path().join("none.db"), "main", 3).contains("cannot be found"));
    assert!(!directory.path().join("none.db").exists());

    let mut held = block_on(UnusedFile::hold(&file, "main", 3)).unwrap();
    assert_eq!(block_on(held.reads()).unwrap(), 0);
    drop(held);
    assert_eq!(ended(&file, 1), Some(3));

    // Something is in the way of what goes with it: the database goes, and the message names what stays.
    let held = block_on(UnusedFile::hold(&file, "main", 4)).unwrap();
    let in_the_way = directory.path().join("audit.db.turn");
    fs::remove_file(&in_the_way).unwrap();
    fs::create_dir(&in_the_way).unwrap();
    let error = block_on(held.remove()).unwrap_err().to_string();
    assert!(error.contains("audit.db.turn cannot be removed"), "{error}");
    assert!(!file.exists());
    fs::remove_dir(&in_the_way).unwrap();

    // Somebody has moved it, and put something else in its place: neither goes.
    ended(&file, 2);
    let held = block_on(UnusedFile::hold(&file, "main", 2)).unwrap();
    let moved = directory.path().join("moved.db");
    fs::rename(&file, &moved).unwrap();
    fs::write(&file, "other").unwrap();
    block_on(held.remove()).unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "other");
    wait_until("the last connection is closed", || {
        let names = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut names = names.filter_map(|fd| fs::read_link(fd.path()).ok());
        names.all(|name| name != moved)
    });
    assert_eq!(all_in(moved.to_str().unwrap()).len(), 2);
}

#[test]
fn a_log_that_is_opened_while_its_file_is_removed_begins_a_new_file_and_not_one_that_nobody_finds() {
    if let Some(file) = std::env::var_os(FILE).map(PathBuf::from) {
        let log = loop {
            // Its own patience is shorter than that of a slow machine.
            match builder(Store::sqlite(&file).unwrap()).in_memory_queue().blocking().open() {
                Ok(log) => break log,
                Err(error) => assert!(error.is_store(), "{error:?}"),
            }
        };
        commit(&log, entry("new"));
        drop(log.blocking().shutdown(PATIENCE).unwrap());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = fs::canonicalize(directory.path()).unwrap().join("audit.db");
    ended(&file, 3);
    let held = block_on(UnusedFile::hold(&file, "main", 3)).unwrap();
    let child = child(this_test!(), &[(FILE, file.to_str().unwrap())]);
    let descriptors = PathBuf::from(format!("/proc/{}/fd", child.id()));
    wait_until("the other process has opened it", || {
        let Ok(names) = fs::read_dir(&descriptors) else { return false };
        names.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|name| name == file))
    });
    block_on(held.remove()).unwrap();
    assert!(wait(child).success());
    let found = all_in(file.to_str().unwrap());
    let actions: Vec<_> = found.iter().map(|found| (found.seq, &*found.entry.action)).collect();
    assert_eq!(actions, [(0, "new")]);
    assert_eq!(commit(&open(&file), entry("next")), 1);
}
