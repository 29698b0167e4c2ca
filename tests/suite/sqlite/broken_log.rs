//! A write-ahead log that was damaged while nobody had it open: what was committed behind the damage is told by readers, and
//! kept by writers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
};

use tempfile::TempDir;
use tracing_audit::{AuditLog, AuditQuery, AuditReader, Store, reader::FindingKind};

use crate::support::{PATIENCE, block_on, builder, commit, connect, entry, run, wait_until};

/// The size of a frame.
const FRAME: usize = 24 + 8192;

fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", file.display()))
}

/// Runs statements on a connection that moves nothing out of the log by itself, and returns the files while it is open.
fn amid(file: &Path, sql: &str) -> [Vec<u8>; 2] {
    block_on(async {
        let mut connection = connect(file).await;
        let sql = format!("PRAGMA wal_autocheckpoint = 0; {sql}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        let both = [fs::read(file).unwrap(), fs::read(beside(file, "-wal")).unwrap()];
        sqlx::Connection::close(connection).await.unwrap();
        both
    })
}

/// A database of three entries, and a write-ahead log with seven more, each of a commit of its own, as a kill leaves the two.
static LEFT: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    let log = builder(Store::sqlite(&file).unwrap()).in_memory_queue().blocking().open().unwrap();
    let commits = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            commit(&log, entry(number.to_string()));
        }
    };
    commits(0..3);
    run(file.to_str().unwrap(), "PRAGMA wal_checkpoint(TRUNCATE)");
    // Nobody moves what is committed while somebody reads what was there before.
    let reader = block_on(async {
        let mut reader = connect(&file).await;
        let reads = sqlx::raw_sql("BEGIN; SELECT count(*) FROM tracing_audit_entries");
        reads.execute(&mut reader).await.unwrap();
        reader
    });
    commits(3..10);
    let both = [fs::read(&file).unwrap(), fs::read(beside(&file, "-wal")).unwrap()];
    drop(reader);
    assert_eq!(number(&both[1], 8), 8192);
    assert!(ends(&both[1]).len() >= 7);
    both
});

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Where a frame begins.
fn frame(index: usize) -> usize {
    32 + index * FRAME
}

/// The frames that end a commit.
fn ends(wal: &[u8]) -> Vec<usize> {
    let is_end = |index: &usize| {
        let at = frame(*index);
        wal[at + 8..at + 16] == wal[16..24] && number(wal, at + 4) > 0
    };
    (0..(wal.len() - 32) / FRAME).filter(is_end).collect()
}

/// A database with a write-ahead log beside it.
fn place(main: &[u8], wal: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.db");
    fs::write(&file, main).unwrap();
    fs::write(beside(&file, "-wal"), wal).unwrap();
    (directory, file)
}

/// The number of entries, and what is said beside them.
fn told(file: &Path) -> (u64, Vec<String>) {
    let reader = AuditReader::new(Store::sqlite(file).unwrap());
    let count = reader.blocking().count(AuditQuery::new()).unwrap();
    (count, reader.blocking().coverage(AuditQuery::new(), u64::MAX).unwrap().altered)
}

/// A log, and the notices that it gives.
fn opened(file: &Path) -> (AuditLog, Arc<Mutex<String>>) {
    let notices = Arc::new(Mutex::new(String::new()));
    let to = Arc::clone(&notices);
    let builder = builder(Store::sqlite(file).unwrap()).in_memory_queue();
    let builder = builder.on_notice(move |notice| *to.lock().unwrap() += &notice.to_string());
    (builder.blocking().open().unwrap(), notices)
}

/// Opens a log on the file, which says this, commits an entry and ends.
fn goes_on(file: &Path, says: &str) {
    let (log, notices) = opened(file);
    commit(&log, entry("after"));
    wait_until(says, || notices.lock().unwrap().contains(says));
    drop(log.blocking().shutdown(PATIENCE).unwrap());
}

/// What is done to a log.
type Act<'a> = &'a dyn Fn(&mut Vec<u8>);

/// The log with a damaged bit in the middle of a page, and the frame that has it.
fn damaged() -> (Vec<u8>, usize) {
    let mut wal = LEFT[1].clone();
    let middle = ends(&wal)[2] + 1;
    wal[frame(middle) + 5000] ^= 1;
    (wal, middle)
}

#[test]
fn commits_behind_damage_in_a_write_ahead_log_are_told_and_a_writer_keeps_them() {
    let [main, whole] = &*LEFT;
    let (middle, end) = (damaged().1, ends(whole)[2]);
    let flip = |at: usize| move |wal: &mut Vec<u8>| wal[at] ^= 1;
    let zeros = |from: usize, to: usize| move |wal: &mut Vec<u8>| wal[from..to].fill(0);
    // What is damaged, and the frame in which it is, if not the header of the log.
    let cases: [(Act<'_>, Option<usize>); 10] = [
        (&flip(frame(middle) + 5000), Some(middle)),
        (&flip(frame(middle)), Some(middle)),
        (&flip(frame(middle) + 3), Some(middle)),
        (&flip(frame(end) + 4), Some(end)),
        (&flip(frame(middle) + 8), Some(middle)),
        (&flip(frame(middle) + 16), Some(middle)),
        (&zeros(frame(0), frame(1)), Some(0)),
        (&flip(16), None),
        (&zeros(0, 32), None),
        (&zeros(0, whole.len()), None),
    ];
    for (case, (act, at)) in cases.into_iter().enumerate() {
        let mut wal = whole.clone();
        act(&mut wal);
        let (_directory, file) = place(main, &wal);
        let says = match at {
            None => "audit.db-wal is damaged at its beginning, and nothing".to_owned(),
            Some(at) => format!(
                "audit.db-wal is damaged at frame {}, and {} commits from there on cannot be read",
                at + 1,
                ends(&wal).iter().filter(|end| **end >= at).count()
            ),
        };
        let (count, altered) = told(&file);
        assert!((3..10).contains(&count), "{case}: {count}");
        assert!(altered.len() == 1 && altered[0].contains(&says), "{case}: {says}: {altered:?}");
        let reader = AuditReader::new(Store::sqlite(&file).unwrap());
        let mut found = Vec::new();
        reader.blocking().check(|finding| found.push((finding.kind, finding.message))).unwrap();
        assert!(
            found.iter().any(|(kind, told)| *kind == FindingKind::Damage && told.contains(&says)),
            "{case}: {found:?}"
        );
        drop(reader);
        assert!(fs::read(&file).unwrap() == *main && fs::read(beside(&file, "-wal")).unwrap() == wal);
        // Of several cases writers do the same.
        if ![0, 6, 8].contains(&case) {
            continue;
        }
        goes_on(&file, "a copy of it is kept as ");
        let copy = beside(&file, "-wal.damaged-1");
        assert!(fs::read(&copy).unwrap() == wal, "{case}");
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(told(&file), (count + 1, Vec::new()), "{case}");
        drop(opened(&file).0.blocking().shutdown(PATIENCE).unwrap());
        assert!(!beside(&file, "-wal.damaged-2").exists(), "{case}");
    }
}

#[test]
fn a_write_ahead_log_that_only_looks_damaged_is_not_told() {
    let [main, whole] = &*LEFT;
    let ends = ends(whole);
    // A commit that was cut off, and what a loss of power adds to a file.
    let amid_commit = (0..whole.len() / FRAME).rev().find(|index| !ends.contains(index)).unwrap();
    let cut = whole[..frame(amid_commit) + FRAME / 2].to_vec();
    let mut extended = whole.clone();
    extended.resize(whole.len() + 3 * FRAME, 0);
    // Frames that are left from before the log began anew.
    let (_directory, file) = place(main, whole);
    let again = "CREATE TABLE of_another (a); INSERT INTO of_another VALUES (zeroblob(100000));
                 PRAGMA wal_checkpoint(RESTART); INSERT INTO of_another VALUES (1)";
    let [moved, begun] = amid(&file, again);
    let salts = |index: usize| begun[frame(index) + 8..frame(index) + 16].to_vec();
    assert!(salts(0) == begun[16..24] && salts((begun.len() - 32) / FRAME - 1) != begun[16..24]);
    for (case, (main, wal)) in
        [(main, whole), (main, &cut), (main, &extended), (&moved, &begun)].into_iter().enumerate()
    {
        let (_directory, file) = place(main, wal);
        let (count, altered) = told(&file);
        assert!(altered.is_empty() && count >= 9, "{case}: {count} {altered:?}");
        drop(opened(&file).0.blocking().shutdown(PATIENCE).unwrap());
        assert!(!beside(&file, "-wal.damaged-1").exists(), "{case}");
    }
}

#[test]
fn a_damaged_write_ahead_log_of_which_no_copy_can_be_kept_is_not_written_over_unless_it_lacks_one_commit() {
    let [main, whole] = &*LEFT;
    let (wal, _) = damaged();
    let (_directory, file) = place(main, &wal);
    let taken = |file: &Path| {
        (1..=16).for_each(|number| fs::write(beside(file, &format!("-wal.damaged-{number}")), "").unwrap());
    };
    taken(&file);
    // Neither is a link followed.
    let elsewhere = beside(&file, "-elsewhere");
    fs::remove_file(beside(&file, "-wal.damaged-1")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, beside(&file, "-wal.damaged-1")).unwrap();
    let refused = builder(Store::sqlite(&file).unwrap()).in_memory_queue().blocking().open().unwrap_err();
    assert!(refused.to_string().contains("no copy of it can be kept"), "{refused}");
    assert!(fs::read(beside(&file, "-wal")).unwrap() == wal && !elsewhere.exists());
    // The remedy.
    fs::remove_file(beside(&file, "-wal.damaged-7")).unwrap();
    goes_on(&file, "-wal.damaged-7");
    // A loss of power amid the last commit: its end is there, and its beginning is not.
    let ends = ends(whole);
    let last = (1..ends.len()).rev().find(|at| ends[*at] - ends[at - 1] > 1).unwrap();
    let mut torn = whole[..frame(ends[last] + 1)].to_vec();
    torn[frame(ends[last - 1] + 1)..frame(ends[last - 1] + 2)].fill(0);
    let (_directory, file) = place(main, &torn);
    let (_, altered) = told(&file);
    assert!(altered.len() == 1 && altered[0].contains("and 1 commit from there on"), "{altered:?}");
    taken(&file);
    goes_on(&file, "no copy of it is kept");
    assert_eq!(told(&file).1, [""; 0]);
}

#[test]
fn a_damaged_write_ahead_log_is_not_played_over_a_database_that_has_later_pages_of_it() {
    let [main, whole] = &*LEFT;
    let (_directory, file) = place(main, whole);
    let [moved, _] = amid(&file, "PRAGMA wal_checkpoint(PASSIVE)");
    assert!(moved != *main);
    let (wal, _) = damaged();
    let (_directory, file) = place(&moved, &wal);
    let reader = AuditReader::new(Store::sqlite(&file).unwrap());
    let read = reader.blocking().count(AuditQuery::new()).unwrap_err();
    let opened = builder(Store::sqlite(&file).unwrap()).in_memory_queue().blocking().open().unwrap_err();
    for refused in [read, opened].map(|error| error.to_string()) {
        assert!(refused.contains("does not belong to") && refused.contains("move"), "{refused}");
    }
    assert!(fs::read(&file).unwrap() == moved && fs::read(beside(&file, "-wal")).unwrap() == wal);
    // The remedy: all of it is in the database.
    drop(reader);
    fs::remove_file(beside(&file, "-wal")).unwrap();
    assert_eq!(told(&file), (10, Vec::new()));
}

#[test]
#[cfg(feature = "cli")]
fn each_command_tells_damage_in_a_write_ahead_log_and_one_that_writes_keeps_a_copy() {
    let (wal, _) = damaged();
    let (_directory, file) = place(&LEFT[0], &wal);
    let copy = beside(&file, "-wal.damaged-1");
    let says = "audit.db-wal is damaged at frame";
    let asked = |arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tracing-audit"));
        command.arg("--db").arg(&file).args(arguments.split(' ')).stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), [stdout, stderr].concat())
    };
    for (arguments, code) in [("query", 5), ("stats", 5), ("check", 1), ("verify", 1)] {
        let (found, told) = asked(arguments);
        assert!(found == Some(code) && told.contains(says), "{arguments}: {found:?} {told}");
        assert!(fs::read(beside(&file, "-wal")).unwrap() == wal && !copy.exists(), "{arguments}");
    }
    for (arguments, code) in [("--as bob query", 5), ("migrate", 0), ("index add action", 0)] {
        fs::write(&file, &LEFT[0]).unwrap();
        fs::write(beside(&file, "-wal"), &wal).unwrap();
        drop(fs::remove_file(beside(&file, "-shm")));
        let (found, told) = asked(arguments);
        assert!(
            found == Some(code) && told.contains(says) && told.contains("-wal.damaged-1"),
            "{arguments}: {found:?} {told}"
        );
        assert!(fs::read(&copy).unwrap() == wal, "{arguments}");
        fs::remove_file(&copy).unwrap();
        // The next answer has nothing to say.
        let (found, told) = asked("query");
        assert!(found == Some(0) && !told.contains(says), "{arguments}: {told}");
    }
}
