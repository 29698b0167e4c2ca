//! The commands `verify-proof` and `verify-bundle`: verify what was proven, without a database.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat};
use clap::Args;
use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use tracing_audit::{
    evidence::Anchor,
    ledger::{
        BundleVerifier, LedgerError, NotedCheckpoint, PartEnd, Proof, ProvenEntry, Trust, Trusts,
        VerifiedBundle, VerifiedPart, VerifierKey,
    },
};

use super::kept::{counting, short, tell_unsigned, trust};
use crate::{
    failure::Failure,
    input::{open_or_pipe, read_small_or_pipe},
    output::{self, harmless, is_stream, with_path},
    page::{Contents, is_page},
};

/// The most characters that are shown of a name that a file gives of itself.
const MOST_OF_NAME: usize = 80;

/// The most bytes of a line. No entry has as many.
const LONGEST: u64 = 1 << 28;

#[derive(Args)]
struct Against {
    /// A checkpoint that was kept elsewhere: a file, or its text, or "SIZE ROOT". May be repeated: one of them must be that of FILE.
    #[arg(long, value_name = "FILE_OR_TEXT")]
    checkpoint: Vec<String>,
    /// The file that says whose signatures a checkpoint must have, also the one that FILE brings along. `key show` prints one.
    ///
    /// One that is not signed so, or not at all, is refused with exit code 1. The one of FILE needs no signature if it is that of
    /// a signed one that is given by --checkpoint.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct VerifyProof {
    /// The proof that `prove` has written.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    against: Against,
}

#[derive(Args)]
pub(crate) struct VerifyBundle {
    /// The bundle that `bundle` has written, compressed by gzip or not, or the page that `evidence` has written.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    against: Against,
    /// The result of this command for an earlier bundle of all entries of a workspace. FILE leaves out the entries
    /// of that bundle.
    #[arg(long, value_name = "ENTRIES ROOT")]
    continues: Option<PartEnd>,
    /// Print each entry as a line of JSON, once all of them hold.
    #[arg(long)]
    entries: bool,
}

/// Trusts each of the checkpoints that were given, and signatures that are as the trust file asks for. If nothing was given,
/// the checkpoint of the file is taken as it is.
struct Given {
    anchors: Vec<Anchor>,
    trust: Option<Trust>,
}

impl Trusts for Given {
    fn trusts(&self, noted: &NotedCheckpoint) -> Result<(), LedgerError> {
        let mut is_one_of_them = Ok(());
        for anchor in &self.anchors {
            is_one_of_them = anchor.trusts(noted);
            if is_one_of_them.is_ok() {
                break;
            }
        }
        is_one_of_them?;
        match &self.trust {
            // One that was given needs no signatures in the file.
            Some(trust) if self.anchors.is_empty() || noted.note().is_some() => trust.trusts(noted),
            _ => Ok(()),
        }
    }
}

impl Against {
    fn given(&self) -> Result<Given, Failure> {
        let trust = self.trust.as_deref().map(trust).transpose()?;
        let mut anchors = Vec::new();
        for given in &self.checkpoint {
            for kept in counting(given, trust.as_ref())? {
                anchors.push(kept.believed(trust.as_ref())?);
            }
        }
        Ok(Given { anchors, trust })
    }
}

impl Given {
    /// Says by whom the checkpoint is signed. A failure if nothing was given to hold the file against.
    fn verdict(&self, noted: &NotedCheckpoint) -> Result<(), Failure> {
        if let (Some(trust), Some(note)) = (&self.trust, noted.note())
            && let Ok(opened) = trust.open(note)
        {
            let keys: Vec<String> = opened.keys().iter().map(VerifierKey::short).collect();
            let time = opened.time().and_then(|time| DateTime::from_timestamp(i64::try_from(time).ok()?, 0));
            let time = time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
            output::remark(&format!(
                "the checkpoint of {} entries is signed by {}{}{}",
                opened.checkpoint().size(),
                keys.join(", "),
                if time.is_some() { " at " } else { "" },
                time.unwrap_or_default()
            ));
        }
        if self.trust.is_some() {
            return Ok(());
        }
        if !self.anchors.is_empty() {
            tell_unsigned();
            return Ok(());
        }
        Err(Failure::Unanchored(format!(
            "it holds by the checkpoint that the file brings along, which anybody can make: give the one that you have from \
             elsewhere by --checkpoint, or the keys that you trust by --trust, or compare it with this: {}",
            short(noted.checkpoint())
        )))
    }
}

fn refused(path: &Path, error: &LedgerError) -> Failure {
    Failure::Found(format!("{}: {error}", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}", with_path(path, error)))
}

impl VerifyProof {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let given = self.against.given()?;
        let bytes = read_small_or_pipe(&self.file).map_err(|error| unreadable(&self.file, &error))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::Found(format!("{}: malformed proof: it is not UTF-8", self.file.display()))
        })?;
        let proof = text.parse::<Proof>().map_err(|error| refused(&self.file, &error))?;
        let proven = proof.verify(&given).map_err(|error| refused(&self.file, &error))?;
        show(&proven)?;
        given.verdict(proof.checkpoint())
    }
}

/// Shows an entry: on a terminal a line for each part of it, elsewhere a line of JSON.
fn show(proven: &ProvenEntry) -> Result<(), Failure> {
    if !output::is_terminal() {
        return output::print_json(proven);
    }
    let Value::Object(parts) = serde_json::to_value(proven).map_err(io::Error::from)? else {
        return Ok(());
    };
    for (name, value) in parts {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => harmless(&text).into_owned(),
            value => output::to_json(&value)?.trim_end().to_owned(),
        };
        output::print_line(&format!("{name:12}  {text}"))?;
    }
    Ok(())
}

/// The lines of a bundle, by what they are in.
enum Lines {
    File(BufReader<File>),
    Compressed(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
    Page(Box<Contents<BufReader<File>>>),
}

impl Lines {
    fn source(&mut self) -> (&mut dyn BufRead, &'static str) {
        match self {
            Self::File(lines) => (lines, "file"),
            Self::Compressed(lines) => (lines, "compressed file"),
            Self::Page(lines) => (lines, "page"),
        }
    }

    /// Says if it is a page whose script cannot be compared with that of this version. All lines must have been read.
    fn tell(&self) {
        if let Self::Page(page) = self
            && let Some(version) = page.other_version()
        {
            let version: String = version.chars().take(MOST_OF_NAME).collect();
            output::remark(&format!(
                "the page says that it was made with {version}, whose script this version does not know: its entries hold, and what \
                 it shows may be something else; --entries prints them"
            ));
        }
    }
}

impl VerifyBundle {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let given = self.against.given()?;
        if self.entries && is_stream(&self.file) {
            return Err(Failure::Usage(format!(
                "{} can be read only once, and --entries reads it a second time to show what holds: name a file",
                self.file.display()
            )));
        }
        let (verified, lines) = self.pass(&given, |_| Ok(()))?;
        let part = verified.part();
        match (&self.continues, part) {
            (Some(earlier), Some(part)) => {
                part.continues(earlier).map_err(|error| refused(&self.file, &error))?;
            }
            (Some(_), None) => {
                let message =
                    "--continues is about a bundle of all entries of a workspace, which this one is not";
                return Err(Failure::Usage(message.to_owned()));
            }
            (None, _) => {}
        }
        if self.entries {
            self.pass(&given, |entry| output::print_json(&entry))?;
        } else {
            let checkpoint = verified.checkpoint().checkpoint();
            let what = match (verified.range(), part) {
                (Some(range), _) => format!("all entries from {} up to {}", range.start, range.end),
                (None, Some(part)) => of_workspace(part, verified.entries()),
                (None, None) => format!("{} entries, each by itself", verified.entries()),
            };
            output::print_fitting(&format!(
                "{}: {what}, as they were committed, by the checkpoint of {} entries",
                harmless(checkpoint.origin().as_str()),
                checkpoint.size()
            ))?;
            if let Some(part) = part {
                output::print_fitting(&format!("to be kept for the next bundle: {}", part.end))?;
            }
        }
        lines.tell();
        given.verdict(verified.checkpoint())?;
        match part {
            Some(part) if part.start.entries > 0 && self.continues.is_none() => {
                Err(Failure::Unanchored(format!(
                    "it leaves out the first {} entries of the workspace, which an earlier bundle had: give what this command has said of \
                 that one by --continues",
                    part.start.entries
                )))
            }
            _ => Ok(()),
        }
    }

    /// Verifies the whole file, hands over each entry, and gives back its lines, which have been read.
    fn pass(
        &self,
        given: &Given,
        mut take: impl FnMut(ProvenEntry) -> Result<(), Failure>,
    ) -> Result<(VerifiedBundle, Lines), Failure> {
        let (mut lines, mut line) = (self.open()?, Vec::new());
        let wrong = |error: LedgerError| refused(&self.file, &error);
        self.read_line(&mut lines, &mut line)?;
        let mut verifier = BundleVerifier::begin(&line, given).map_err(wrong)?;
        while self.read_line(&mut lines, &mut line)? {
            if let Some(entry) = verifier.take(&line).map_err(wrong)? {
                take(entry)?;
            }
        }
        Ok((verifier.finish().map_err(wrong)?, lines))
    }

    fn open(&self) -> Result<Lines, Failure> {
        let file = open_or_pipe(&self.file).map_err(|error| unreadable(&self.file, &error))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let begin = file.fill_buf().map_err(|error| unreadable(&self.file, &error))?;
        Ok(if begin.starts_with(&[0x1f, 0x8b]) {
            let lines = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file));
            Lines::Compressed(Box::new(lines))
        } else if is_page(begin) {
            Lines::Page(Box::new(Contents::new(file, LONGEST)))
        } else {
            Lines::File(file)
        })
    }

    /// Reads the next line. Returns false at the end.
    fn read_line(&self, from: &mut Lines, line: &mut Vec<u8>) -> Result<bool, Failure> {
        line.clear();
        let (lines, what) = from.source();
        match lines.take(LONGEST).read_until(b'\n', line) {
            Ok(read) => Ok(read > 0),
            Err(error) if is_of_contents(&error) => Err(Failure::Found(format!(
                "{}: malformed bundle: the {what} is cut off or damaged: {error}",
                self.file.display(),
            ))),
            Err(error) => Err(unreadable(&self.file, &error)),
        }
    }
}

/// Says which entries of a workspace these are.
fn of_workspace(part: &VerifiedPart, entries: u64) -> String {
    let VerifiedPart { workspace, until, sealed_by, start, .. } = part;
    let but = match start.entries {
        0 => String::new(),
        before => format!(", but for its first {before}"),
    };
    format!(
        "all {entries} entries of the workspace {workspace} before {until}{but}, which entry {sealed_by} seals"
    )
}

/// Whether the contents are wrong, and not the reading of them.
fn is_of_contents(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}
