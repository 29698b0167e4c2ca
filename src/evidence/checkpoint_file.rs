//! Checkpoints in a file, to which only is appended.

use std::{
    error::Error,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::sink::CheckpointSink;
use crate::ledger::{Checkpoint, NotedCheckpoint, Origin};
use crate::platform::{Access, Directory, append_to};

/// How much of the end of a file is read at first: more than a hundred checkpoints.
const END: u64 = 64 * 1024;

/// A file to which checkpoints are appended, a line each: `{"at":"2026-11-28T14:00:00Z","note":"..."}`. Put it where whoever may write
/// to the database may not change it, or ship it to another host.
///
/// It is made for this user to write and others to read. Each line is one write, and is on stable storage when
/// [`publish`](CheckpointSink::publish) returns.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    at: String,
    #[serde(borrow)]
    note: std::borrow::Cow<'a, str>,
}

impl CheckpointFile {
    /// The file at this path. It is created with the first checkpoint.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
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

    /// The whole lines of the file's end, the last one first, and whether these are all.
    fn lines(&self, end: u64) -> io::Result<(Vec<String>, bool)> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), true)),
            Err(cause) => return Err(cause),
        };
        let start = file.metadata()?.len().saturating_sub(end);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        // The first one may be the rest of a line.
        let lines = whole.split('\n').skip(usize::from(start > 0)).filter(|line| !line.trim().is_empty());
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.reverse();
        Ok((lines, start == 0))
    }
}

/// The checkpoint that a line holds.
fn checkpoint_of(line: &str) -> Option<Checkpoint> {
    let Line { note, .. } = serde_json::from_str(line).ok()?;
    Some(note.parse::<NotedCheckpoint>().ok()?.checkpoint().clone())
}

impl CheckpointSink for CheckpointFile {
    fn publish(&mut self, _: &Checkpoint, text: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let line = serde_json::to_string(&Line { at, note: text.into() })?;
        Ok(self.append(line + "\n").map_err(|cause| self.named(&cause))?)
    }

    fn latest(&mut self, origin: &Origin) -> Result<Option<Checkpoint>, Box<dyn Error + Send + Sync>> {
        for end in [END, u64::MAX] {
            let (lines, is_all) = self.lines(end).map_err(|cause| self.named(&cause))?;
            let read: Vec<Checkpoint> = lines.iter().filter_map(|line| checkpoint_of(line)).collect();
            // Two notaries of one ledger may have written in another order than they have looked.
            let own = read.iter().filter(|checkpoint| checkpoint.origin() == origin);
            let own = own.max_by_key(|checkpoint| checkpoint.size());
            if own.is_some() || is_all && (!read.is_empty() || lines.is_empty()) {
                return Ok(own.cloned());
            }
        }
        let message = format!(
            "{} has no line with a checkpoint: if it is not the file of a notary, name another one",
            self.path.display()
        );
        Err(message.into())
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
}
