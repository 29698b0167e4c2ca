//! Reads checkpoints that were kept elsewhere, signed or not: files, or texts on the command line; and whom to trust.

use std::{collections::HashMap, io, path::Path};

use serde::Deserialize;
use tracing_audit::{
    AuditReader,
    evidence::{Anchor, Verification},
    ledger::{Checkpoint, LedgerError, Note, NoteSignature, NotedCheckpoint, Trust},
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
    /// The file that it was read from, and the line.
    place: String,
}

/// The checkpoints that a verification is held against.
#[derive(Default)]
pub(super) struct Held {
    /// The size of the largest checkpoint that is signed as the trust file asks for.
    signed: u64,
    /// The places of those that are not.
    refused: Vec<String>,
}

impl Held {
    /// Whether a checkpoint of so many entries is signed as the trust file asks for.
    pub(super) fn is_signed(&self, size: u64) -> bool {
        size > 0 && self.signed >= size
    }

    /// Where those are that are not signed so.
    pub(super) fn refused(&self) -> String {
        match &*self.refused {
            [first, second, third, others @ ..] if !others.is_empty() => {
                format!("{first}; {second}; {third}; and {} more", others.len())
            }
            few => few.join("; "),
        }
    }
}

/// A line of a notary's file.
#[derive(Deserialize)]
struct Line {
    note: String,
}

impl Kept {
    fn read(text: &str, place: String) -> Result<Self, String> {
        if text.split_whitespace().count() == 2 {
            let anchor = text.parse::<Anchor>().map_err(|error| error.to_string())?;
            return Ok(Self { anchor, noted: None, place });
        }
        let noted = text.parse::<NotedCheckpoint>();
        let noted =
            noted.map_err(|error| format!("not a checkpoint that can be verified against: {error}"))?;
        Ok(Self::of(noted, place))
    }

    fn of(noted: NotedCheckpoint, place: String) -> Self {
        Self { anchor: noted.checkpoint().clone().into(), noted: Some(noted), place }
    }

    fn note(&self) -> Option<&Note> {
        self.noted.as_ref().and_then(NotedCheckpoint::note)
    }

    /// Adds the signatures of keys that have not signed here, from an earlier line with the same checkpoint. A witness
    /// may have cosigned that one, and not the one that was published again later.
    fn add(&mut self, earlier: &NotedCheckpoint) {
        let Some(noted) = self.noted.as_ref().filter(|noted| noted.note().is_some()) else { return };
        let key = |signature: &NoteSignature| (signature.name().to_owned(), signature.key_id());
        let known: Vec<_> = noted.signatures().iter().map(key).collect();
        let more = earlier.signatures().iter().filter(|signature| !known.contains(&key(signature)));
        let lines: String = noted
            .signatures()
            .iter()
            .chain(more)
            .flat_map(|line| [line.to_string(), "\n".to_owned()])
            .collect();
        let whole = Note::new(&noted.checkpoint().to_string(), &lines).and_then(NotedCheckpoint::try_from);
        // More than a note can have stay away.
        if let Ok(whole) = whole {
            self.noted = Some(whole);
        }
    }

    /// The newest checkpoint that an argument gives, and that counts beside a trust file.
    pub(super) fn newest(given: &str, trust: Option<&Trust>) -> Result<Self, Failure> {
        let newest = counting(given, trust)?.into_iter().max_by_key(|kept| kept.anchor.size());
        newest.ok_or_else(|| Failure::Usage(format!("{given} holds no checkpoint")))
    }

    /// Holds a ledger against it too. With a trust file it must be signed as that asks for.
    pub(super) fn hold(
        self,
        verification: Verification,
        trust: Option<&Trust>,
        held: &mut Held,
    ) -> Result<Verification, Failure> {
        match (self.note(), trust) {
            (None, None) => Ok(verification.and(self.anchor)),
            (Some(_), None) => Err(trust_is_missing(&self.place)),
            (None, Some(_)) => {
                held.refused.push(self.place.clone());
                Ok(verification.and_unsigned(&self.anchor))
            }
            (Some(note), Some(trust)) => {
                match trust.open(note) {
                    Ok(opened) => held.signed = held.signed.max(opened.checkpoint().size()),
                    Err(_) => held.refused.push(self.place.clone()),
                }
                Ok(verification.and_signed(note, trust)?)
            }
        }
    }

    /// Its size and root. With a trust file it must be signed as that asks for.
    pub(super) fn believed(self, trust: Option<&Trust>) -> Result<Anchor, Failure> {
        let why = match (self.note(), trust) {
            (None, None) => return Ok(self.anchor),
            (Some(_), None) => return Err(trust_is_missing(&self.place)),
            (None, Some(_)) => "it is not signed, and --trust asks for the signature of a key".to_owned(),
            (Some(note), Some(trust)) => match trust.open(note) {
                Ok(_) => return Ok(self.anchor),
                Err(error) => error.to_string(),
            },
        };
        let (size, place) = (self.anchor.size(), self.place);
        Err(Failure::Found(format!("the checkpoint of {size} entries is not believed: {why} ({place})")))
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

fn trust_is_missing(place: &str) -> Failure {
    Failure::Usage(format!(
        "a checkpoint is signed: give the file that says which keys may sign it by --trust, or its first three lines \
         alone, to take it as it is ({place})"
    ))
}

/// Says that a checkpoint was taken as it is.
pub(super) fn tell_unsigned() {
    remark(
        "signed: no. No signature of the checkpoint was verified, so it is worth as much as the place where it was kept; --trust \
         believes signed ones only",
    );
}

/// The checkpoints that an argument gives: those of a file or of standard input, or the text itself. There is at least one.
pub(super) fn checkpoints(given: &str) -> Result<Vec<Kept>, Failure> {
    let path = Path::new(if given == "-" { "/dev/stdin" } else { given });
    let unreadable =
        |error: io::Error| Failure::Usage(format!("cannot read the checkpoint: {}", with_path(path, &error)));
    if let Some((end, is_all)) = read_end(path, b'{').map_err(unreadable)? {
        return of_notary(given, &text_of(end).map_err(unreadable)?, is_all);
    }
    let (text, place) = match read_small_or_pipe(path).and_then(text_of) {
        Ok(text) => (text, if given == "-" { "standard input" } else { given }),
        Err(_) if !path.exists() => (given.to_owned(), "the text that was given"),
        Err(error) => return Err(unreadable(error)),
    };
    if text.starts_with('{') {
        return of_notary(place, &text, true);
    }
    let error = match Kept::read(&text, place.to_owned()) {
        Ok(one) => return Ok(vec![one]),
        Err(error) => error,
    };
    match [1, 3].into_iter().find_map(|lines| several(place, &text, lines)) {
        Some(several) => Ok(several),
        None if path.exists() => Err(Failure::Usage(format!("{given}: {error}"))),
        None => Err(Failure::Usage(format!("there is no file {given:?}, and as a text it is {error}"))),
    }
}

/// The checkpoints that an argument gives, as far as they count beside a trust file. Of several, those that lack
/// nothing but witnesses are passed over if another one lacks nothing: a witness may have been away for a while.
pub(super) fn counting(given: &str, trust: Option<&Trust>) -> Result<Vec<Kept>, Failure> {
    let kept = checkpoints(given)?;
    let Some(trust) = trust else { return Ok(kept) };
    let opened = |kept: &Kept| kept.note().map(|note| trust.open(note).map(drop));
    let whole = kept.iter().filter(|kept| matches!(opened(kept), Some(Ok(()))));
    let Some(newest) = whole.map(|kept| kept.anchor.size()).max() else { return Ok(kept) };
    let lacks_witnesses = |kept: &Kept| matches!(opened(kept), Some(Err(LedgerError::Unwitnessed { .. })));
    let (passed, counting): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(lacks_witnesses);
    let newer = passed.iter().filter(|kept| kept.anchor.size() > newest).count();
    if newer > 0 {
        remark(&format!(
            "{given}: of the checkpoints there, {newer} lack witnesses and are passed over, and the newest one that has all that the \
             trust file asks for is of {newest} entries"
        ));
    }
    Ok(counting)
}

/// The checkpoints of a text that has nothing but such notes of as many lines each, with their signatures if they have any,
/// and blank lines.
fn several(place: &str, text: &str, lines: usize) -> Option<Vec<Kept>> {
    let numbered = (1_usize..).zip(text.split('\n'));
    let mut written = numbered.filter(|(_, line)| !line.trim().is_empty()).peekable();
    let mut read = Vec::new();
    while let Some((number, _)) = written.peek().copied() {
        let mut note = written.by_ref().take(lines).map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        let mut between = "\n\n";
        while let Some((_, signature)) = written.next_if(|(_, line)| line.starts_with(DASH)) {
            note.extend([between, signature]);
            between = "\n";
        }
        read.push(Kept::read(&note, format!("{place}, line {number}")).ok()?);
    }
    Some(read).filter(|read| !read.is_empty())
}

/// The last checkpoints of a notary's file, each once, with the signatures of all lines that it is in. The text is all
/// of the file, or its end.
fn of_notary(given: &str, text: &str, is_all: bool) -> Result<Vec<Kept>, Failure> {
    let (mut read, mut known, mut others) = (Vec::<Kept>::new(), HashMap::new(), 0_u64);
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate().rev().filter(|(_, line)| !line.trim().is_empty()) {
        if read.len() == MOST {
            break;
        }
        let noted =
            serde_json::from_str(line).ok().and_then(|Line { note }| note.parse::<NotedCheckpoint>().ok());
        let Some(noted) = noted else {
            others += 1;
            continue;
        };
        // The same one may be in several lines, with other times and other signatures.
        let place = known.entry(noted.checkpoint().clone()).or_insert(read.len());
        if let Some(later) = read.get_mut(*place) {
            later.add(&noted);
            continue;
        }
        let place = if is_all {
            format!("{given}, line {}", at + 1)
        } else {
            format!("{given}, line {} from its end", lines.len() - at)
        };
        read.push(Kept::of(noted, place));
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
    trust_with_text(path).map(|(trust, _)| trust)
}

/// Reads a trust file, and gives its lines too.
pub(super) fn trust_with_text(path: &Path) -> Result<(Trust, String), Failure> {
    let text = read_small_or_pipe(path).and_then(text_of).map_err(|error| {
        Failure::Usage(format!("cannot read the trust file: {}", with_path(path, &error)))
    })?;
    let trust = text.parse::<Trust>();
    let trust = trust.map_err(|error: LedgerError| Failure::Usage(format!("{}: {error}", path.display())))?;
    Ok((trust, text))
}

/// The size and the root, as they are kept.
pub(super) fn short(checkpoint: &Checkpoint) -> String {
    let text = checkpoint.to_string();
    format!("{} {}", checkpoint.size(), text.lines().nth(2).unwrap_or_default())
}
