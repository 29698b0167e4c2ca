//! Acts of an operator or a neighbour on the files of a running log: what was confirmed is there afterwards, or an entry
//! or an error says that it is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    ops::Range,
    os::unix::fs::{PermissionsExt, symlink},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use tracing_audit::{AuditEntry, AuditLog, AuditReader, Health, SequencedEntry, Store};

use crate::support::{
    PATIENCE, block_on, entry, heavy, in_own_mounts, in_own_mounts_with, is_in_own_process, mount, only,
    this_test, wait_until,
};

/// The directory of the child's log.
const DIRECTORY: &str = "TRACING_AUDIT_ACTS_DIRECTORY";

/// The seed of the sweep's first round: each round has the next one. Chosen at random by default.
const SEED: &str = "ACTS_SEED";

/// The rounds of the sweep: 1 000 by default.
const ROUNDS: &str = "ACTS_ROUNDS";

/// The processes of the sweep that run side by side: twice as many as processors by default, since rounds mostly wait.
const PROCESSES: &str = "ACTS_PROCESSES";

/// The file in which a process of the sweep writes a line for each round.
const OUTCOMES: &str = "TRACING_AUDIT_ACTS_OUTCOMES";

/// The rounds of one process of the sweep, which is given some minutes for them.
const ROUNDS_OF_PROCESS: u64 = 25;

/// The limit of each call of the child's log.
const LIMIT: Duration = Duration::from_secs(2);

/// The most that a call may take beyond its limit, on a machine that does other things.
const SLACK: Duration = Duration::from_secs(40);

/// What is done to one file.
type Act = fn(&Path, &Stage) -> io::Result<()>;

/// The directory of a round, with copies of its files from an earlier moment.
struct Stage {
    directory: PathBuf,
    /// Copies of the database's files, taken while the log ran.
    copies: PathBuf,
}

/// Every act, by name. Each is one that operators and neighbours do: by a slip, a script or a tool.
const ACTS: [(&str, Act); 30] = [
    ("remove", |path, _| remove(path)),
    ("remove and make an empty file", |path, _| remove(path).and_then(|()| File::create(path).map(drop))),
    ("truncate to nothing", |path, _| File::options().write(true).open(path)?.set_len(0)),
    ("truncate to half", |path, _| {
        let file = File::options().write(true).open(path)?;
        file.set_len(file.metadata()?.len() / 2)
    }),
    ("truncate by one byte", |path, _| {
        let file = File::options().write(true).open(path)?;
        file.set_len(file.metadata()?.len().saturating_sub(1))
    }),
    ("append bytes", |path, _| File::options().append(true).open(path)?.write_all(&[7; 5000])),
    ("copy an earlier copy over it", |path, stage| {
        let bytes = fs::read(stage.copy_of(path))?;
        let mut file = File::options().write(true).truncate(true).open(path)?;
        file.write_all(&bytes)
    }),
    ("rename an earlier copy into its place", |path, stage| {
        let beside = path.with_extension("restored");
        fs::copy(stage.copy_of(path), &beside)?;
        fs::rename(beside, path)
    }),
    ("copy itself over itself", |path, _| {
        let bytes = fs::read(path)?;
        File::options().write(true).open(path)?.write_all(&bytes)
    }),
    ("replace it by a copy of itself", |path, _| {
        let beside = path.with_extension("copied");
        fs::copy(path, &beside)?;
        fs::rename(beside, path)
    }),
    ("move it away", |path, _| fs::rename(path, path.with_extension("away"))),
    ("move it away and back", |path, _| {
        let away = path.with_extension("away");
        fs::rename(path, &away)?;
        pause();
        fs::rename(away, path)
    }),
    ("move it to another name with a link in its place", |path, _| {
        let away = path.with_extension("away");
        fs::rename(path, &away)?;
        symlink(away, path)
    }),
    ("put a link to nothing in its place", |path, _| {
        remove(path)?;
        symlink("/nonexistent/nothing", path)
    }),
    ("put a link to a device in its place", |path, _| {
        remove(path)?;
        symlink("/dev/zero", path)
    }),
    ("put a FIFO in its place", |path, _| {
        remove(path)?;
        run("mkfifo", &[path])
    }),
    ("put a directory in its place", |path, _| {
        remove(path)?;
        fs::create_dir(path)
    }),
    ("link it under another name", |path, _| fs::hard_link(path, path.with_extension("linked"))),
    ("link it under another name and remove it", |path, _| {
        fs::hard_link(path, path.with_extension("linked"))?;
        remove(path)
    }),
    ("mount a copy over it", |path, stage| {
        let copy = stage.copy_of(path);
        run("mount", &[Path::new("--bind"), &copy, path])
    }),
    ("allow everybody everything", |path, _| fs::set_permissions(path, PermissionsExt::from_mode(0o666))),
    ("allow nobody anything", |path, _| fs::set_permissions(path, PermissionsExt::from_mode(0o0))),
    ("give it to another user", |path, _| std::os::unix::fs::chown(path, Some(65_534), Some(65_534))),
    ("touch", |path, _| File::options().append(true).open(path)?.set_modified(std::time::SystemTime::now())),
    ("fill the disk for a moment", |_, stage| {
        let filler = stage.directory.join("filler");
        let mut file = File::create(&filler)?;
        while file.write_all(&[0; 64 * 1024]).is_ok() {}
        pause();
        fs::remove_file(filler)
    }),
    ("lock the database for longer than the limit", |_, stage| {
        sql(stage, "BEGIN EXCLUSIVE; SELECT 1;\n.shell sleep 3\nROLLBACK;")
    }),
    ("move the write-ahead log into the database", |_, stage| sql(stage, "PRAGMA wal_checkpoint(TRUNCATE)")),
    ("rewrite the database", |_, stage| sql(stage, "VACUUM")),
    ("restore the database beside its present write-ahead log", |_, stage| {
        let database = stage.directory.join("audit.db");
        let beside = stage.directory.join("restored");
        fs::copy(stage.copy_of(&database), &beside)?;
        fs::rename(beside, database)
    }),
    ("remove all that belongs to the write-ahead log", |_, stage| {
        remove(&stage.directory.join("audit.db-wal"))?;
        remove(&stage.directory.join("audit.db-shm"))
    }),
];

impl Stage {
    fn copy_of(&self, path: &Path) -> PathBuf {
        self.copies.join(path.file_name().unwrap())
    }

    /// The files of the log and its journal, at this moment.
    fn files(&self) -> Vec<PathBuf> {
        let names = ["audit.db", "audit.db-wal", "audit.db-shm", "audit.db.turn", "audit.db.queue"];
        let mut files: Vec<PathBuf> = names.iter().map(|name| self.directory.join(name)).collect();
        for journal in fs::read_dir(self.directory.join("audit.db.queue")).into_iter().flatten().flatten() {
            files.push(journal.path());
            files.extend(
                fs::read_dir(journal.path()).into_iter().flatten().flatten().map(|found| found.path()),
            );
        }
        files
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(fastrand::u64(0..300)));
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn run(program: &str, arguments: &[&Path]) -> io::Result<()> {
    let ended = Command::new(program).args(arguments).stderr(Stdio::null()).status()?;
    if ended.success() { Ok(()) } else { Err(io::Error::other(format!("{program}: {ended}"))) }
}

/// Runs a script of the SQLite shell on the database.
fn sql(stage: &Stage, script: &str) -> io::Result<()> {
    let mut shell = Command::new("sqlite3")
        .arg(stage.directory.join("audit.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    shell.stdin.take().unwrap().write_all(script.as_bytes())?;
    shell.wait().map(drop)
}

/// In the child: confirms entry after entry and says so, until it is asked to end.
fn confirm(directory: &Path) {
    let store = Store::sqlite(directory.join("audit.db")).unwrap();
    let log =
        AuditLog::builder().store(store).commit_timeout(LIMIT).on_notice(|_| {}).blocking().open().unwrap();
    let say = |line: String| println!("{line}");
    let timed = |what: &str, start: Instant| {
        let took = start.elapsed();
        if took > LIMIT + SLACK {
            say(format!("late {what} {took:?}"));
        }
    };
    let numbered = |i: u64| AuditEntry { resource_id: Some(i.to_string()), ..entry("confirmed") };
    let stop = directory.join("stop");
    let mut i = 0;
    while !stop.exists() {
        let start = Instant::now();
        let seq = log.writer().blocking().commit(numbered(i));
        timed("commit", start);
        if let Ok(seq) = seq
            && log.health() == Health::Healthy
        {
            say(format!("committed {i} {seq}"));
        }
        i += 1;
        if i % 4 == 0 {
            let start = Instant::now();
            let from = i;
            let written = (0..20).take_while(|_| {
                let accepted = log.writer().try_write(numbered(i)).is_ok();
                i += u64::from(accepted);
                accepted
            });
            let written = written.count();
            let flushed = log.blocking().flush();
            timed("flush", start);
            if flushed.is_ok() && log.health() == Health::Healthy && written > 0 {
                say(format!("flushed {from} {i}"));
            }
        }
    }
    let start = Instant::now();
    let ended = log.blocking().shutdown(LIMIT);
    timed("shutdown", start);
    say(format!("ended {}", ended.is_ok()));
}

/// What the child has said.
#[derive(Default)]
struct Confirmed {
    /// Numbers of confirmed entries; where it is known, their `seq`.
    entries: BTreeMap<u64, Option<u64>>,
    late: Vec<String>,
}

impl Confirmed {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        match kind {
            "committed" => {
                let (i, seq) = (number(), number());
                self.entries.insert(i, Some(seq));
            }
            "flushed" => {
                for i in number()..number() {
                    self.entries.entry(i).or_insert(None);
                }
            }
            "late" => self.late.push(line.to_owned()),
            _ => {}
        }
    }
}

/// A child that does not outlive its round.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn started(test: &str, directory: &Path) -> (Running, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(only(test))
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (say, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            // The harness of the tests may write before the first line of the child's own.
            let words = ["committed ", "flushed ", "late ", "ended "];
            let said = words.iter().find_map(|word| line.find(word)).and_then(|start| line.get(start..));
            if said.is_some_and(|said| say.send(said.to_owned()).is_err()) {
                break;
            }
        }
    });
    (Running(child), lines)
}

/// The outcome of a round, for the count at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// All that was confirmed is there.
    All,
    /// Something is missing, and entries of the log say so.
    Told,
    /// The next log, or the reader, refuses the files with an error.
    Refused,
}

fn one_round(test: &str, directory: &Path) -> (String, Found) {
    let stage = Stage { directory: directory.to_owned(), copies: directory.join("copies") };
    fs::create_dir(&stage.copies).unwrap();
    let (mut child, lines) = started(test, directory);
    let mut confirmed = Confirmed::default();
    let mut hear = |until: usize| {
        let start = Instant::now();
        while confirmed.entries.len() < until {
            assert!(start.elapsed() < PATIENCE, "the child confirms nothing");
            if let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
                confirmed.hear(&line);
            }
        }
    };
    hear(fastrand::usize(1..80));
    for file in stage.files() {
        if file.is_file() {
            drop(fs::copy(&file, stage.copy_of(&file)));
        }
    }
    hear(fastrand::usize(80..200));
    let (name, act) = ACTS[fastrand::usize(..ACTS.len())];
    let files = stage.files();
    let file = &files[fastrand::usize(..files.len())];
    let done = act(file, &stage);
    let kills = fastrand::bool();
    let file = file.strip_prefix(directory).unwrap().display();
    let round = format!("{name}: {file} ({done:?}), then {}", if kills { "kill" } else { "shutdown" });
    std::thread::sleep(Duration::from_millis(fastrand::u64(0..1500)));
    if kills {
        child.0.kill().unwrap();
    } else {
        File::create(directory.join("stop")).unwrap();
        let start = Instant::now();
        while child.0.try_wait().unwrap().is_none() {
            // A commit, a flush and the shutdown can each take as long as they may.
            assert!(start.elapsed() < 4 * (LIMIT + SLACK), "{round}: the child hangs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    child.0.wait().unwrap();
    for line in lines {
        confirmed.hear(&line);
    }
    assert!(confirmed.late.is_empty(), "{round}: {:?}", confirmed.late);
    drop(run("umount", &[&directory.join("audit.db")]));
    let found = looked_at(&round, directory, &confirmed);
    (round, found)
}

/// Opens the files again, as the next process does, and compares what is there with what was confirmed.
fn looked_at(round: &str, directory: &Path, confirmed: &Confirmed) -> Found {
    let database = directory.join("audit.db");
    let start = Instant::now();
    let builder = AuditLog::builder().store(Store::sqlite(&database).unwrap()).commit_timeout(LIMIT);
    let opened = builder.on_notice(|_| {}).blocking().open();
    assert!(start.elapsed() < 2 * (LIMIT + SLACK), "{round}: open took {:?}", start.elapsed());
    let log = match opened {
        Ok(log) => log,
        Err(error) => {
            println!("{round}: the next log does not open: {error:?}");
            return Found::Refused;
        }
    };
    let wait = Instant::now();
    // The journals of dead processes are adopted at once, or are left behind with an error.
    while log.writer().blocking().commit(entry("after")).is_err() {
        if wait.elapsed() > LIMIT * 5 && log.health() != Health::Healthy {
            println!("{round}: the next log is failing: {:?}", log.stats().last_error);
            return Found::Refused;
        }
        assert!(wait.elapsed() < PATIENCE, "{round}: the next log commits nothing: {:?}", log.stats());
    }
    let mut found = Found::All;
    wait_until("nothing is left to tell", || {
        found = compared(round, &database, confirmed);
        found != Found::Refused || log.health() != Health::Healthy || wait.elapsed() > LIMIT * 15
    });
    let is_silent = found == Found::Refused && log.health() == Health::Healthy;
    assert!(!is_silent, "{round}: confirmed entries are missing, and nothing says so");
    if found == Found::Refused {
        println!("{round}: the next log says why entries are missing: {:?}", log.stats().last_error);
    }
    drop(log.blocking().shutdown(LIMIT));
    found
}

/// Compares the entries with what was confirmed. [`Found::Refused`] if something is missing that no entry tells of.
fn compared(round: &str, database: &Path, confirmed: &Confirmed) -> Found {
    let reader = AuditReader::new(Store::sqlite(database).unwrap());
    let Ok(entries) = block_on(read(&reader)) else { return Found::Refused };
    let number = |found: &SequencedEntry| found.entry.resource_id.as_ref()?.parse::<u64>().ok();
    let there: BTreeMap<u64, u64> =
        entries.iter().filter_map(|found| Some((number(found)?, found.seq))).collect();
    let numbered = entries.iter().filter_map(number).count();
    assert_eq!(there.len(), numbered, "{round}: an entry is there twice");
    let seqs: BTreeSet<u64> = entries.iter().map(|found| found.seq).collect();
    assert_eq!(seqs.len(), entries.len(), "{round}: two entries have one seq");
    let is_there = |(i, seq): (&u64, &Option<u64>)| match (there.get(i), seq) {
        (Some(found), Some(seq)) => found == seq,
        (found, None) => found.is_some(),
        (None, Some(_)) => false,
    };
    if confirmed.entries.iter().all(is_there) {
        return Found::All;
    }
    let told = entries.iter().any(|found| found.entry.action == "audit.gap");
    if told { Found::Told } else { Found::Refused }
}

async fn read(reader: &AuditReader) -> Result<Vec<SequencedEntry>, tracing_audit::AuditError> {
    use futures_util::TryStreamExt;
    reader.stream(tracing_audit::AuditQuery::new()).try_collect().await
}

/// Does the rounds of these seeds. Returns what came of each.
fn acted(test: &str, directory: &Path, seeds: Range<u64>) -> Vec<(u64, String)> {
    let rounds = seeds.map(|seed| {
        fastrand::seed(seed);
        let place = directory.join(seed.to_string());
        fs::create_dir(&place).unwrap();
        assert!(mount("size=256m", &place), "'mount' is refused");
        // A round that fails must not hide what the others find: the panic hook has shown the reason.
        let outcome = if let Ok((round, found)) = catch_unwind(AssertUnwindSafe(|| one_round(test, &place))) {
            println!("seed {seed}: {round}: {found:?}");
            format!("{found:?}")
        } else {
            println!("seed {seed}: failed, {}", kept(seed, &place));
            FAILED.to_owned()
        };
        drop(run("umount", &[Path::new("-l"), &place]));
        (seed, outcome)
    });
    rounds.collect()
}

/// The outcome of a round in which an entry vanished in silence, a call outlasted its limit, or the test itself failed.
const FAILED: &str = "Failed";

/// Copies the files of a round that failed to a place that outlives it, and says which they are.
fn kept(seed: u64, place: &Path) -> String {
    let at = std::env::temp_dir().join(format!("tracing-audit-acts-{seed}"));
    let copied = run("cp", &[Path::new("-a"), place, &at]);
    let files = Command::new("ls").arg("-lAR").arg(place).output().unwrap().stdout;
    format!("files kept in {} ({copied:?}):\n{}", at.display(), String::from_utf8_lossy(&files))
}

/// Does the rounds of these seeds in a process with mounts of its own.
fn act_again_and_again(test: &str, seeds: Range<u64>) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return confirm(Path::new(&directory));
    }
    let _heavy = heavy();
    in_own_mounts(test, |directory| {
        let outcomes = acted(test, directory, seeds);
        if let Some(file) = std::env::var_os(OUTCOMES) {
            let lines: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome + "\n").collect();
            return fs::write(file, lines.concat()).unwrap();
        }
        let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome == FAILED).collect();
        assert!(failed.is_empty(), "rounds with these seeds failed: {failed:?}");
    });
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

#[test]
fn what_was_confirmed_is_there_or_told_whatever_is_done_to_the_files() {
    act_again_and_again(this_test!(), 0..12);
}

#[test]
#[ignore = "takes a quarter of an hour: .ci/sweep files"]
fn what_was_confirmed_is_there_or_told_after_a_thousand_acts() {
    let (first, rounds) = (number(SEED, u64::from(fastrand::u32(..)) << 16), number(ROUNDS, 1000));
    if std::env::var_os(DIRECTORY).is_some() || is_in_own_process() {
        return act_again_and_again(this_test!(), first..first + rounds);
    }
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    let processes = number(PROCESSES, 2 * processors);
    println!("{rounds} rounds from seed {first}, {processes} processes side by side");
    let (outcomes, next, start) = (tempfile::tempdir().unwrap(), AtomicU64::new(0), Instant::now());
    let work = || {
        while let begin = next.fetch_add(ROUNDS_OF_PROCESS, Ordering::Relaxed)
            && begin < rounds
        {
            let (seed, count) = (first + begin, ROUNDS_OF_PROCESS.min(rounds - begin));
            let file = outcomes.path().join(seed.to_string());
            let variables = [
                (SEED, &*seed.to_string()),
                (ROUNDS, &*count.to_string()),
                (OUTCOMES, file.to_str().unwrap()),
            ];
            // A process that ends without its outcomes is found by their number.
            drop(catch_unwind(AssertUnwindSafe(|| {
                in_own_mounts_with(this_test!(), &variables, |_| unreachable!("this is the parent"));
            })));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..processes {
            scope.spawn(work);
        }
    });
    let mut counts = BTreeMap::<String, u64>::new();
    for file in fs::read_dir(outcomes.path()).unwrap() {
        for outcome in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            *counts.entry(outcome.to_owned()).or_default() += 1;
        }
    }
    println!("{rounds} rounds from seed {first} in {:?}: {counts:?}", start.elapsed());
    assert_eq!(counts.values().sum::<u64>(), rounds, "a process ended before it had done its rounds");
    assert!(!counts.contains_key(FAILED), "rounds failed: see above for their seeds and files");
}
