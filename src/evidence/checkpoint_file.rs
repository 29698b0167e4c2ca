//! Checkpoints in a file, to which only is appended.

use std::{
    error::Error,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{own_signature::problem_of, sink::CheckpointSink};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, LedgerError, NotedCheckpoint, Origin};
use crate::platform::{Access, Directory, append_to, open_regular};

/// The bytes at the end of a file that are read at first: more than a hundred checkpoints.
const END: u64 = 64 * 1024;

/// A file to which checkpoints are appended, a line each: `{"at":"2026-11-28T14:00:00Z","note":"..."}`. Put it where
/// nobody who may write to the database may change it, or ship it to another host.
///
/// It is made for this user to write and others to read. Each line is one write, and is on stable storage when
/// [`publish`](CheckpointSink::publish) returns. A notary with keys believes only lines that one of them has signed.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    /// The largest checkpoint that was written here since this value was made.
    written: Option<Checkpoint>,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    note: &'a str,
}

/// The part of a line that is read.
#[derive(Deserialize)]
struct Kept {
    note: String,
}

/// A line of the file with a note, which may be no checkpoint.
struct Written {
    line: String,
    /// The first line of the note, which names the log.
    origin: String,
    noted: Result<NotedCheckpoint, LedgerError>,
}

impl Written {
    /// `None` if the line was not finished, or is of another kind.
    fn read(line: &str) -> Option<Self> {
        let Kept { note } = serde_json::from_str(line).ok()?;
        let origin = note.lines().next().unwrap_or_default().to_owned();
        Some(Self { line: line.to_owned(), origin, noted: note.parse() })
    }

    fn checkpoint(&self) -> Option<&Checkpoint> {
        self.noted.as_ref().ok().map(NotedCheckpoint::checkpoint)
    }
}

impl CheckpointFile {
    /// The file at this path. It is created with the first checkpoint.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), written: None }
    }

    fn named(&self, cause: &io::Error) -> io::Error {
        io::Error::new(cause.kind(), format!("{}: {cause}", self.path.display()))
    }

    fn append(&self, mut line: String) -> io::Result<()> {
        let mut file = append_to(&self.path)?;
        let is_new = file.metadata()?.len() == 0;
        if !is_new {
            let mut last = [0_u8];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // The last write was not finished.
                line.insert(0, '\n');
            }
        }
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty());
        if is_new { Directory::open(above.unwrap_or(Path::new(".")), Access::Owner)?.sync() } else { Ok(()) }
    }

    /// The last bytes of the file, and whether these are all. No bytes if there is no file.
    fn end(&self, end: u64) -> io::Result<(String, bool)> {
        let mut file = match open_regular(&self.path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok((String::new(), true)),
            Err(cause) => return Err(cause),
        };
        let start = file.metadata()?.len().saturating_sub(end);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), start == 0))
    }

    /// The whole lines of the file's end, the last one first, and whether these are all.
    fn lines(&self, end: u64) -> io::Result<(Vec<String>, bool)> {
        let (text, is_all) = self.end(end).map_err(|cause| self.named(&cause))?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        // The first one may be the rest of a line.
        let lines = whole.split('\n').skip(usize::from(!is_all)).filter(|line| !line.trim().is_empty());
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.reverse();
        Ok((lines, is_all))
    }

    /// The lines of this log in the file's end, the last one first: in all of the file, if none near its end has a checkpoint.
    fn of_log(&self, origin: &Origin) -> Result<Vec<Written>, Box<dyn Error + Send + Sync>> {
        for end in [END, u64::MAX] {
            let (lines, is_all) = self.lines(end)?;
            let mut written: Vec<Written> = lines.iter().filter_map(|line| Written::read(line)).collect();
            let has_any = written.iter().any(|line| line.noted.is_ok());
            written.retain(|line| line.origin == origin.as_str());
            let has_own = written.iter().any(|line| line.noted.is_ok());
            if has_own || is_all && (has_any || lines.is_empty()) {
                return Ok(written);
            }
        }
        let message = format!(
            "{} has no line with a checkpoint: if it is not the file of a notary, name another one",
            self.path.display()
        );
        Err(message.into())
    }

    /// The error of a line that the notary has not written.
    fn refused(&self, written: &Written, why: &str) -> Box<dyn Error + Send + Sync> {
        let text = match self.end(u64::MAX) {
            Ok((text, _)) => text,
            Err(cause) => return self.named(&cause).into(),
        };
        let lines: Vec<&str> = text.split('\n').collect();
        let number = lines.iter().rposition(|line| *line == written.line).map_or(0, |at| at + 1);
        let size =
            written.checkpoint().map(|found| format!(" of {} entries", found.size())).unwrap_or_default();
        let message = format!(
            "{}, line {number}: the checkpoint{size} is not believed, because {why}. Find out who has written the line, and \
             remove it, or name another file. After a rotation sign once with both keys, the earlier one and the new one",
            self.path.display()
        );
        AuditError::new(ErrorKind::Altered, message).into()
    }

    /// An error if the file holds less than was written to it.
    fn has_kept(&self, origin: &Origin, latest: Option<&Checkpoint>) -> Result<(), AuditError> {
        let Some(written) = self.written.as_ref().filter(|written| written.origin() == origin) else {
            return Ok(());
        };
        let left = match latest {
            Some(latest) if latest.size() >= written.size() => return Ok(()),
            Some(latest) => format!("the last one that is left is of {}", latest.size()),
            None => "none is left".to_owned(),
        };
        let message = format!(
            "{} has lost its end: the checkpoint of {} entries was written there, and {left}. Put back what was there, or end the \
             notary and name another file",
            self.path.display(),
            written.size()
        );
        Err(AuditError::new(ErrorKind::Altered, message))
    }
}

impl CheckpointSink for CheckpointFile {
    fn publish(&mut self, checkpoint: &Checkpoint, text: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let line = serde_json::to_string(&Line { at, note: text })?;
        self.append(line + "\n").map_err(|cause| self.named(&cause))?;
        let is_larger = |written: &Checkpoint| {
            written.origin() == checkpoint.origin() && written.size() > checkpoint.size()
        };
        if !self.written.as_ref().is_some_and(is_larger) {
            self.written = Some(checkpoint.clone());
        }
        Ok(())
    }

    fn latest(&mut self, origin: &Origin) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        let written = self.of_log(origin)?;
        // Two notaries of one ledger may have written in another order than they have looked.
        let latest = written.iter().filter_map(Written::checkpoint).max_by_key(|found| found.size());
        Ok(latest.cloned())
    }

    fn latest_signed(
        &mut self,
        origin: &Origin,
        keys: &[String],
    ) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        let mut latest: Option<Checkpoint> = None;
        for written in self.of_log(origin)? {
            let noted = match &written.noted {
                Ok(noted) => noted,
                // Before one that is believed, and without keys, it says nothing.
                Err(_) if keys.is_empty() || latest.is_some() => continue,
                Err(error) => return Err(self.refused(&written, &error.to_string())),
            };
            let found = noted.checkpoint();
            // A checkpoint that was signed before one that is believed may be signed by earlier keys.
            let counts = |latest: &Checkpoint| found.size() >= latest.size() && found != latest;
            if !latest.as_ref().is_none_or(counts) {
                continue;
            }
            if let Some(problem) = problem_of(noted, keys) {
                return Err(self.refused(&written, &problem));
            }
            if latest.as_ref().is_none_or(|latest| found.size() > latest.size()) {
                latest = Some(found.clone());
            }
        }
        self.has_kept(origin, latest.as_ref())?;
        Ok(latest)
    }

    fn last_kept(&mut self) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        for end in [END, u64::MAX] {
            let (lines, is_all) = self.lines(end)?;
            let last = lines.iter().find_map(|line| Written::read(line)?.noted.ok());
            if last.is_some() || is_all {
                return Ok(last.map(|noted| noted.checkpoint().clone()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::Note;

    fn checkpoint(origin: &str, size: u64) -> Checkpoint {
        Checkpoint::new(Origin::new(origin).unwrap(), size, [7; 32]).unwrap()
    }

    #[test]
    fn the_last_checkpoint_of_a_log_is_remembered_whatever_was_written_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        let mut file = CheckpointFile::new(&path);
        let origin = Origin::new("a.example").unwrap();
        assert_eq!(file.latest(&origin).unwrap(), None);
        let signed = |checkpoint: &Checkpoint| {
            Note::new(&checkpoint.to_string(), "\u{2014} a.example AAAAAAA=\n").unwrap().to_string()
        };
        let (one, two, other) =
            (checkpoint("a.example", 1), checkpoint("a.example", 2), checkpoint("b.example", 9));
        file.publish(&one, &one.to_string()).unwrap();
        assert_eq!(file.latest(&origin).unwrap(), Some(one.clone()));
        file.publish(&two, &signed(&two)).unwrap();
        file.publish(&other, &signed(&other)).unwrap();
        assert_eq!(file.latest(&origin).unwrap(), Some(two.clone()));
        assert_eq!(file.latest(other.origin()).unwrap(), Some(other.clone()));
        assert_eq!(file.latest(&Origin::new("c.example").unwrap()).unwrap(), None);
        let lines = fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 3);
        assert!(
            lines.starts_with("{\"at\":\"20") && lines.contains("\"note\":\"a.example\\n1\\n"),
            "{lines}"
        );

        // A write that was not finished, and the next one.
        let whole = lines.lines().next_back().unwrap();
        for length in 0..whole.len() {
            fs::write(&path, [&*lines, whole.get(..length).unwrap_or_default()].concat()).unwrap();
            assert_eq!(file.latest(&origin).unwrap(), Some(two.clone()), "{length}");
        }
        let three = checkpoint("a.example", 3);
        file.publish(&three, &signed(&three)).unwrap();
        assert_eq!(file.latest(&origin).unwrap(), Some(three.clone()));

        file.publish(&two, &signed(&two)).unwrap();
        assert_eq!(file.latest(&origin).unwrap(), Some(three.clone()));

        // Far from the end.
        let far = [fs::read_to_string(&path).unwrap(), format!("{whole}\n").repeat(1000)].concat();
        assert!(far.len() as u64 > END);
        fs::write(&path, far).unwrap();
        assert_eq!(file.latest(&origin).unwrap(), Some(three));

        for wrong in ["not a checkpoint\n", "{\"at\":\"\",\"note\":\"a.example\"}\n"] {
            fs::write(&path, wrong).unwrap();
            let error = file.latest(&origin).unwrap_err().to_string();
            assert!(error.contains("no line with a checkpoint"), "{error}");
        }
        let mut none = CheckpointFile::new(directory.path());
        assert!(none.latest(&origin).is_err() && none.publish(&one, "").is_err());
    }

    #[cfg(feature = "signing")]
    #[test]
    fn a_line_that_none_of_the_keys_has_signed_is_named_and_never_believed() {
        use crate::ledger::{PrivateKey, Signer};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        let origin = Origin::new("a.example").unwrap();
        let [mut old, mut new, mut other] =
            [1, 2, 3].map(|seed| PrivateKey::from_seed(origin.clone(), [seed; 32]));
        let keys = |of: &[&PrivateKey]| of.iter().flat_map(|key| key.verifier_keys()).collect::<Vec<_>>();
        let (by_old, by_new, by_both) = (keys(&[&old]), keys(&[&new]), keys(&[&old, &new]));
        let line = |size: u64, signers: &mut [&mut PrivateKey]| {
            let text = checkpoint("a.example", size).to_string();
            let lines: String = signers.iter_mut().map(|key| key.sign(&text).unwrap()).collect();
            let note = if lines.is_empty() { text } else { Note::new(&text, &lines).unwrap().to_string() };
            serde_json::json!({ "at": "", "note": note }).to_string() + "\n"
        };
        let (one, two) = (line(1, &mut [&mut old]), line(2, &mut [&mut old]));
        let (both, three) = (line(2, &mut [&mut old, &mut new]), line(3, &mut [&mut new]));
        let huge = 1 << 62;
        let (bare, foreign) = (line(huge, &mut []), line(huge, &mut [&mut other]));
        let moved = two.replace("\\n2\\n", "\\n4\\n");
        let malformed = two.replace("\u{2014} ", "- ");
        let elsewhere = bare.replace("a.example", "b.example");
        let latest = |keys: &[String], lines: &[&String]| {
            fs::write(&path, lines.iter().map(|line| line.as_str()).collect::<String>()).unwrap();
            let found = CheckpointFile::new(&path).latest_signed(&origin, keys);
            found.map(|found| found.map_or(0, |found| found.size())).map_err(|error| error.to_string())
        };
        for (keys, lines, size) in [
            (&by_old, &[&one, &two][..], 2),
            // Two notaries with one key.
            (&by_old, &[&two, &one], 2),
            (&by_old, &[&one, &elsewhere, &two, &elsewhere], 2),
            // A key that follows another one.
            (&by_both, &[&one, &two], 2),
            (&by_new, &[&one, &two, &both], 2),
            (&by_new, &[&one, &two, &both, &three], 3),
            (&by_new, &[&elsewhere], 0),
            // Without keys nothing is verified.
            (&Vec::new(), &[&one, &bare], huge),
        ] {
            assert_eq!(latest(keys, lines), Ok(size), "{lines:?}");
        }
        for (keys, lines, number, why) in [
            (&by_old, &[&one, &bare][..], 2, "it is not signed"),
            (&by_old, &[&bare], 1, "it is not signed"),
            (&by_old, &[&one, &bare, &two], 2, "it is not signed"),
            (&by_old, &[&one, &foreign], 2, "none of the keys that sign now has signed it"),
            (&by_old, &[&one, &moved], 2, "the signature of the key a.example+"),
            (&by_old, &[&moved, &one], 1, "the signature of the key a.example+"),
            (&by_old, &[&one, &malformed], 2, "is no signature"),
            (&by_new, &[&one, &two], 2, "none of the keys that sign now has signed it"),
        ] {
            let error = latest(keys, lines).unwrap_err();
            let named = format!("{}, line {number}: the checkpoint", path.display());
            assert!(error.starts_with(&named) && error.contains(why), "{lines:?}: {error}");
            assert!(error.contains("remove it, or name another file"), "{error}");
        }
    }

    #[test]
    fn a_file_that_has_lost_what_was_written_to_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoints");
        let (one, two) = (checkpoint("a.example", 1), checkpoint("a.example", 2));
        let mut file = CheckpointFile::new(&path);
        file.publish(&one, &one.to_string()).unwrap();
        let begin = fs::read(&path).unwrap();
        file.publish(&two, &two.to_string()).unwrap();
        assert_eq!(file.latest_signed(one.origin(), &[]).unwrap(), Some(two.clone()));
        let whole = fs::read(&path).unwrap();
        for (left, says) in [
            (&*begin, "the checkpoint of 2 entries was written there, and the last one that is left is of 1"),
            (b"", "the checkpoint of 2 entries was written there, and none is left"),
        ] {
            fs::write(&path, left).unwrap();
            let error = file.latest_signed(one.origin(), &[]).unwrap_err();
            assert!(error.downcast_ref::<AuditError>().is_some_and(AuditError::is_altered), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(file.latest_signed(one.origin(), &[]).is_err());
        fs::write(&path, whole).unwrap();
        assert_eq!(file.latest_signed(one.origin(), &[]).unwrap(), Some(two.clone()));
        assert_eq!(file.last_kept().unwrap(), Some(two));
    }
}
