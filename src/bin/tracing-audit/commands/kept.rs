//! Reads checkpoints that were kept elsewhere, signed or not: files, or texts on the command line; and whom to trust.

use std::{collections::HashSet, io, path::Path};

use serde::Deserialize;
use tracing_audit::{
    AuditReader,
    evidence::{Anchor, Verification},
    ledger::{Checkpoint, LedgerError, NotedCheckpoint, Trust},
};

use crate::{
    failure::Failure,
    input::{read_end, read_small_or_pipe, text_of},
    output::{remark, with_path},
};

/// The most checkpoints of a notary's file that are taken: the last ones.
const MOST: usize = 100;

/// Begins the line of a signature.
const DASH: &str = "\u{2014} ";

/// A checkpoint that was given.
pub(super) struct Kept {
    anchor: Anchor,
    /// The whole of it. `None` for a size and a root alone.
    noted: Option<NotedCheckpoint>,
}

/// A line of a notary's file.
#[derive(Deserialize)]
struct Line {
    note: String,
}

impl From<NotedCheckpoint> for Kept {
    fn from(noted: NotedCheckpoint) -> Self {
        Self { anchor: noted.checkpoint().clone().into(), noted: Some(noted) }
    }
}

impl Kept {
    fn read(text: &str) -> Result<Self, String> {
        if text.split_whitespace().count() == 2 {
            let anchor = text.parse::<Anchor>().map_err(|error| error.to_string())?;
            return Ok(Self { anchor, noted: None });
        }
        let noted = text.parse::<NotedCheckpoint>();
        let noted =
            noted.map_err(|error| format!("not a checkpoint that can be verified against: {error}"))?;
        Ok(noted.into())
    }

    /// The newest checkpoint that an argument gives.
    pub(super) fn newest(given: &str) -> Result<Self, Failure> {
        let newest = checkpoints(given)?.into_iter().max_by_key(|kept| kept.anchor.size());
        newest.ok_or_else(|| Failure::Usage(format!("{given} holds no checkpoint")))
    }

    /// Holds a ledger against it too. A signed one must be signed as is asked for.
    pub(super) fn hold(
        self,
        verification: Verification,
        trust: Option<&Trust>,
    ) -> Result<Verification, Failure> {
        match (self.noted.as_ref().and_then(NotedCheckpoint::note), trust) {
            (None, _) => Ok(verification.and(self.anchor)),
            (Some(note), Some(trust)) => Ok(verification.and_signed(note, trust)?),
            (Some(_), None) => Err(trust_is_missing()),
        }
    }

    /// Its size and root, if it is signed as is asked for, or not signed.
    pub(super) fn believed(self, trust: Option<&Trust>) -> Result<Anchor, Failure> {
        let signed = match (self.noted.as_ref().and_then(NotedCheckpoint::note), trust) {
            (None, _) => Ok(()),
            (Some(note), Some(trust)) => trust.open(note).map(drop),
            (Some(_), None) => return Err(trust_is_missing()),
        };
        match signed {
            Ok(()) => Ok(self.anchor),
            Err(error) => {
                let size = self.anchor.size();
                Err(Failure::Found(format!("the checkpoint of {size} entries is not believed: {error}")))
            }
        }
    }

    /// The whole checkpoint. One without a name is taken for that of the ledger.
    pub(super) async fn noted(self, reader: &AuditReader) -> Result<NotedCheckpoint, Failure> {
        if let Some(noted) = self.noted {
            return Ok(noted);
        }
        let origin = reader.checkpoint().await?.origin().clone();
        let whole = Checkpoint::new(origin, self.anchor.size(), *self.anchor.root());
        Ok(whole.map_err(|error| Failure::Usage(error.to_string()))?.into())
    }
}

fn trust_is_missing() -> Failure {
    let message = "a checkpoint is signed: give the file that says which keys may sign it by --trust, or its first three lines \
                   alone, to take it as it is";
    Failure::Usage(message.to_owned())
}

/// The checkpoints that an argument gives: those of a file or of standard input, or the text itself. There is at least one.
pub(super) fn checkpoints(given: &str) -> Result<Vec<Kept>, Failure> {
    let path = Path::new(if given == "-" { "/dev/stdin" } else { given });
    let unreadable =
        |error: io::Error| Failure::Usage(format!("cannot read the checkpoint: {}", with_path(path, &error)));
    if let Some(end) = read_end(path, b'{').map_err(unreadable)? {
        return of_notary(given, &text_of(end).map_err(unreadable)?);
    }
    let text = match read_small_or_pipe(path).and_then(text_of) {
        Ok(text) => text,
        Err(_) if !path.exists() => given.to_owned(),
        Err(error) => return Err(unreadable(error)),
    };
    if text.starts_with('{') {
        return of_notary(given, &text);
    }
    let error = match Kept::read(&text) {
        Ok(one) => return Ok(vec![one]),
        Err(error) => error,
    };
    match [1, 3].into_iter().find_map(|lines| several(&text, lines)) {
        Some(several) => Ok(several),
        None if path.exists() => Err(Failure::Usage(format!("{given}: {error}"))),
        None => Err(Failure::Usage(format!("there is no file {given:?}, and as a text it is {error}"))),
    }
}

/// The checkpoints of a text that has nothing but such notes of as many lines each, with their signatures if they have any,
/// and blank lines.
fn several(text: &str, lines: usize) -> Option<Vec<Kept>> {
    let mut written = text.split('\n').filter(|line| !line.trim().is_empty()).peekable();
    let mut read = Vec::new();
    while written.peek().is_some() {
        let mut note = written.by_ref().take(lines).collect::<Vec<_>>().join("\n");
        let mut between = "\n\n";
        while let Some(signature) = written.next_if(|line| line.starts_with(DASH)) {
            note.extend([between, signature]);
            between = "\n";
        }
        read.push(Kept::read(&note).ok()?);
    }
    Some(read).filter(|read| !read.is_empty())
}

/// The last checkpoints of a notary's file, each once.
fn of_notary(given: &str, text: &str) -> Result<Vec<Kept>, Failure> {
    let (mut read, mut known, mut others) = (Vec::new(), HashSet::new(), 0_u64);
    for line in text.lines().rev().filter(|line| !line.trim().is_empty()) {
        if read.len() == MOST {
            break;
        }
        let noted =
            serde_json::from_str(line).ok().and_then(|Line { note }| note.parse::<NotedCheckpoint>().ok());
        match noted {
            // The same one may have been published again, with another time.
            Some(noted) if known.insert(noted.checkpoint().clone()) => read.push(noted.into()),
            Some(_) => {}
            None => others += 1,
        }
    }
    if read.is_empty() {
        return Err(Failure::Usage(format!("{given}: no line of it holds a checkpoint of a notary")));
    }
    if others > 0 {
        // A write to the file may have been cut off.
        remark(&format!("{given}: lines that hold no checkpoint are passed over: {others}"));
    }
    Ok(read)
}

/// Reads a trust file.
pub(super) fn trust(path: &Path) -> Result<Trust, Failure> {
    let text = read_small_or_pipe(path).and_then(text_of).map_err(|error| {
        Failure::Usage(format!("cannot read the trust file: {}", with_path(path, &error)))
    })?;
    let trust = text.parse::<Trust>();
    trust.map_err(|error: LedgerError| Failure::Usage(format!("{}: {error}", path.display())))
}

/// The size and the root, as they are kept.
pub(super) fn short(checkpoint: &Checkpoint) -> String {
    let text = checkpoint.to_string();
    format!("{} {}", checkpoint.size(), text.lines().nth(2).unwrap_or_default())
}
