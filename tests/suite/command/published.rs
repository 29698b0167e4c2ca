//! The tree of a ledger in a directory, as the command publishes it and a second program reads it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{command, filled, good, said};
use crate::support::{Fixture, entry, log, settle};

/// What the second program finds in the directory.
#[track_caller]
fn read(directory: &str) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_tiles.py");
    let output = Command::new("python3").args(["-S", "-E"]).arg(program).arg(directory).output();
    let output = output.expect("'python3' is needed: on Debian, 'apt-get install python3'");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// A ledger, the key of its notary, the file of checkpoints, and the directory.
struct Published {
    fixture: Fixture,
    key: String,
    kept: String,
    directory: String,
}

impl Published {
    fn of(fixture: Fixture) -> Self {
        let file = |name: &str| fixture.directory.path().join(name).to_str().unwrap().to_owned();
        let [key, kept, directory] = ["audit.key", "checkpoints", "published"].map(file);
        good("", &["key", "new", "audit.example.com/payments", "-o", &key]);
        Self { fixture, key, kept, directory }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let own = ["checkpoint", "--key", &self.key, "--to", &self.kept, "--publish", &self.directory];
        [&own[..], more].concat()
    }

    fn publish(&self, more: &[&str]) -> (i32, String, String) {
        said(&self.fixture.db, &self.arguments(more))
    }

    /// Publishes, and checks that the second program finds everything and nothing else.
    #[track_caller]
    fn is_read(&self, size: u64, more: &[&str]) -> Value {
        let note = good(&self.fixture.db, &self.arguments(more));
        let found = read(&self.directory);
        assert_eq!((&found["holds"], &found["why"]), (&true.into(), &Value::Null), "{found}");
        assert_eq!((&found["others"], &found["ahead"]), (&Value::Array(Vec::new()), &0.into()), "{found}");
        assert_eq!(found["size"], size, "{found}");
        let lines: Vec<&str> = note.lines().collect();
        assert_eq!((&found["origin"], &found["root"]), (&lines[0].into(), &lines[2].into()));
        assert_eq!(fs::read_to_string(self.path("checkpoint")).unwrap(), note);
        found
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn write(&self, count: u64) {
        let log = &self.fixture.log;
        (0..count).for_each(|n| log.writer().try_write(entry(n.to_string())).unwrap());
        settle(&log.writer());
    }
}

#[test]
fn a_published_directory_is_read_by_a_second_program_at_every_size() {
    let published = Published::of(log());
    let mut size = 0;
    for (next, entries) in [
        (0, false),
        (1, false),
        (2, true),
        (255, true),
        (256, true),
        (257, true),
        (300, true),
        (511, true),
        (513, true),
        (513, true),
        (1300, true),
    ] {
        published.write(next - size);
        size = next;
        let found = published.is_read(size, if entries { &["--with-leaf-data"] } else { &[] });
        let expected = if entries { Value::from(size) } else { Value::Null };
        assert_eq!(found["entries"], expected, "{found}");
        // Of each level one tile is not full, and one may have been full since the checkpoint before.
        assert!(found["partial"].as_u64().unwrap() <= 6, "{found}");
    }
    published.write(236);
    let found = published.is_read(1536, &["--with-leaf-data"]);
    assert_eq!(found["entries"], 1536);
    // The tree grew over several tiles at once, and what was partial before is removed with the next one.
    published.write(1);
    let found = published.is_read(1537, &["--with-leaf-data"]);
    assert!(found["partial"].as_u64().unwrap() <= 6, "{found}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| fs::metadata(published.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("tile"), mode("checkpoint"), mode("tile/0/000")], [0o755, 0o644, 0o644]);
    }
}

#[test]
fn a_tree_of_three_levels_is_read_by_a_second_program() {
    let published = Published::of(log());
    for (more, size) in [(65_530, 65_530), (6, 65_536), (300, 65_836)] {
        for _ in 0..more / 5000 {
            published.write(5000);
        }
        published.write(more % 5000);
        published.is_read(size, &["--tree-only"]);
    }
    assert!(Path::new(&published.path("tile/2/000.p/1")).is_file());
    assert_eq!(fs::metadata(published.path("tile/1/000")).unwrap().len(), 8192);
}

#[test]
fn a_file_with_other_contents_is_named_and_neither_it_nor_the_checkpoint_is_written() {
    let published = Published::of(filled(log()));
    published.is_read(13, &["--with-leaf-data"]);
    let before = fs::read(published.path("checkpoint")).unwrap();
    for name in ["tile/0/000.p/13", "tile/entries/000.p/13"] {
        let path = published.path(name);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for wrong in [&changed[..], &whole[..whole.len() - 1], &[&whole[..], &[0]].concat(), b""] {
            fs::write(&path, wrong).unwrap();
            let kept = fs::read_to_string(&published.kept).unwrap().lines().count();
            let (code, out, err) = published.publish(&["--with-leaf-data"]);
            assert!(
                code == 1 && err.contains(&path) && err.contains("has other contents than the ledger"),
                "{code} {err}"
            );
            assert!(out.starts_with("audit.example.com/payments\n13\n"), "it is signed and kept: {out}");
            assert_eq!(fs::read_to_string(&published.kept).unwrap().lines().count(), kept + 1);
            assert_eq!(fs::read(&path).unwrap(), wrong, "it is never overwritten");
            assert_eq!(fs::read(published.path("checkpoint")).unwrap(), before);
        }
        fs::write(&path, whole).unwrap();
    }
    published.is_read(13, &["--with-leaf-data"]);
}

#[test]
fn nothing_is_signed_for_a_directory_of_another_ledger_or_with_a_checkpoint_of_somebody_else() {
    let published = Published::of(filled(log()));
    let note = good(&published.fixture.db, &published.arguments(&[]));
    let file = |name: &str| published.fixture.directory.path().join(name).to_str().unwrap().to_owned();
    let checkpoint = published.path("checkpoint");
    let kept = || fs::read_to_string(&published.kept).unwrap();
    let before = kept();
    let bare: String = note.split_inclusive('\n').take(3).collect();
    let larger = note.replace("\n13\n", "\n14\n");
    for (text, code, why) in [
        (bare.clone(), 1, "it is not signed"),
        (larger, 1, "the signature of the key"),
        (bare.replace("\n13\n", "\n9223372036854775807\n"), 1, "it is not signed"),
        (
            note.replace("audit.example.com/payments", "audit.example.com/other"),
            2,
            "is the directory of the ledger",
        ),
        ("no checkpoint\n".to_owned(), 1, "was changed: malformed checkpoint"),
        (String::new(), 1, "was changed: malformed checkpoint"),
    ] {
        fs::write(&checkpoint, &text).unwrap();
        let (ended, out, err) = published.publish(&[]);
        assert!(ended == code && out.is_empty(), "{text}: {ended} {out} {err}");
        assert!(err.contains("nothing is signed") && err.contains(why), "{text}: {err}");
        assert_eq!((fs::read_to_string(&checkpoint).unwrap(), kept()), (text, before.clone()));
    }
    // What was published counts as what was signed: of another ledger nothing is, also with a file of its own.
    fs::write(&checkpoint, &note).unwrap();
    let (other, own) = (filled(log()), file("own"));
    let arguments = ["checkpoint", "--key", &published.key, "--to", &own, "--publish", &published.directory];
    let (code, out, err) = said(&other.db, &arguments);
    assert!(code == 1 && out.is_empty() && err.contains("does not continue the one"), "{code} {out} {err}");
    assert!(!Path::new(&own).exists());
    assert_eq!(read(&published.directory)["size"], 13);
}

#[test]
fn a_directory_that_cannot_be_written_or_a_tree_that_was_changed_is_told_and_the_checkpoint_is_kept() {
    let published = Published::of(filled(log()));
    fs::create_dir(&published.directory).unwrap();
    fs::write(published.path("tile"), "in the way").unwrap();
    let (code, out, err) = published.publish(&[]);
    assert!(code == 4 && out.starts_with("audit.example.com/payments\n13\n"), "{code} {out}");
    assert!(err.contains("nothing is published: cannot write") && err.contains("tile/0/000.p/13"), "{err}");
    assert!(!Path::new(&published.path("checkpoint")).exists());
    assert_eq!(fs::read_to_string(&published.kept).unwrap().lines().count(), 1);
    fs::remove_file(published.path("tile")).unwrap();
    published.is_read(13, &[]);

    // The head is as it was, and the hashes below it are not.
    let before = fs::read(published.path("checkpoint")).unwrap();
    published
        .fixture
        .run("UPDATE tracing_audit_leaves SET leaves = zeroblob(length(leaves)) WHERE first_seq = 0");
    let (code, out, err) = published.publish(&["--tree-only"]);
    assert!(code == 1 && out.starts_with("audit.example.com/payments\n13\n"), "{code} {out}");
    assert!(
        err.contains("nothing is published: the stored hashes do not lead to the checkpoint of 13"),
        "{err}"
    );
    published.write(1);
    let (code, out, err) = published.publish(&["--tree-only"]);
    assert!(code == 1 && out.is_empty() && err.contains("nothing is signed"), "{code} {out} {err}");
    assert_eq!(fs::read(published.path("checkpoint")).unwrap(), before);
    let found = read(&published.directory);
    assert_eq!((&found["holds"], &found["size"]), (&true.into(), &13.into()), "{found}");
}

#[test]
#[cfg(unix)]
fn a_publication_that_is_killed_leaves_what_was_whole_and_is_finished_by_the_next_one() {
    use crate::support::wait_until;
    let published = Published::of(log());
    published.write(5000);
    published.is_read(5000, &["--with-leaf-data"]);
    let mut last = Value::from(5000);
    for size in [10_000, 15_000] {
        published.write(5000);
        let more = published.arguments(&["--with-leaf-data"]);
        let mut command = command(&published.fixture.db).args(more).stdout(Stdio::null()).spawn().unwrap();
        let begun = published.path(&format!("tile/0/{:03}.p/{}", size / 256, size % 256));
        wait_until("it has begun to write", || {
            Path::new(&begun).exists() || command.try_wait().unwrap().is_some()
        });
        command.kill().unwrap();
        command.wait().unwrap();
        let found = read(&published.directory);
        assert_eq!((&found["holds"], &found["why"]), (&true.into(), &Value::Null), "{found}");
        assert!(found["size"] == last || found["size"] == size, "{found}");
        last = found["size"].clone();
    }
    good(&published.fixture.db, &published.arguments(&["--with-leaf-data"]));
    let found = read(&published.directory);
    assert_eq!((&found["holds"], &found["size"]), (&true.into(), &15_000.into()), "{found}");
    // Half a file has a name that nobody asks for.
    let others = found["others"].as_array().unwrap();
    assert!(
        others.iter().all(|name| Path::new(name.as_str().unwrap()).extension() == Some("new".as_ref())),
        "{found}"
    );
}
