//! Reads the lines of the bundle in a page, and checks the bytes of the page on the way.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    template::{self, MADE_WITH},
    writer::{ABOUT, BEGIN, END, LAST},
};
use crate::output::hex;

/// The bytes that a page begins with.
const MAGIC: &[u8] = b"<!DOCTYPE html>";

/// Whether a file with these first bytes is a page.
pub(crate) fn is_page(begin: &[u8]) -> bool {
    begin.get(..MAGIC.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(MAGIC))
}

/// The lines of the bundle in a page. At their end it is an error of the kind [`InvalidData`](io::ErrorKind::InvalidData) if the page
/// around them is not as it was written.
pub(crate) struct Contents<R> {
    page: R,
    /// The most bytes of a line.
    longest: u64,
    /// The beginning of a page of this version.
    own_head: String,
    /// The line of the bundle that is given out, and how much of it was.
    line: Vec<u8>,
    given: usize,
    place: Place,
    /// Of all lines so far.
    hash: Sha256,
    /// The first lines, as far as that beginning goes.
    head: Vec<u8>,
    /// Whether a script follows them that no page has there.
    has_more_scripts: bool,
    made_with: Option<String>,
}

/// Where in the page the next line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first line of the bundle.
    Head,
    /// Among lines of the bundle.
    Bundle,
    /// After such lines.
    Between,
    /// In the statement.
    Statement,
    /// After the statement.
    Foot,
    /// After the last line.
    End,
}

/// The part of the statement that is read.
#[derive(Deserialize)]
struct About {
    made_with: String,
}

fn damaged(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Whether a script begins in this line.
fn has_script(line: &[u8]) -> bool {
    let is_script = |tag: &[u8]| tag.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"script"));
    line.split(|byte| *byte == b'<').skip(1).any(is_script)
}

impl<R: BufRead> Contents<R> {
    pub(crate) fn new(page: R, longest: u64) -> Self {
        Self {
            page,
            longest,
            own_head: template::head(),
            line: Vec::new(),
            given: 0,
            place: Place::Head,
            hash: Sha256::new(),
            head: Vec::new(),
            has_more_scripts: false,
            made_with: None,
        }
    }

    /// The version that the page says it was made with, if that is another one, whose script this one does not know. It is
    /// known at the end.
    pub(crate) fn other_version(&self) -> Option<&str> {
        self.made_with.as_deref().filter(|made_with| *made_with != MADE_WITH)
    }

    /// Goes on to the next line of the bundle. Returns whether there is one.
    fn advance(&mut self) -> io::Result<bool> {
        self.given = 0;
        loop {
            self.line.clear();
            if (&mut self.page).take(self.longest).read_until(b'\n', &mut self.line)? == 0 {
                return self.end();
            }
            match self.place {
                Place::End => return Err(damaged("something follows its last line")),
                Place::Bundle if self.line != END.as_bytes() => {
                    self.hash.update(&self.line);
                    return Ok(true);
                }
                Place::Head if self.head.len() < self.own_head.len() => {
                    self.head.extend_from_slice(&self.line);
                }
                Place::Head if self.line != BEGIN.as_bytes() => {
                    self.has_more_scripts |= has_script(&self.line);
                }
                Place::Statement => {
                    self.made_with =
                        serde_json::from_slice(&self.line).ok().map(|About { made_with }| made_with);
                }
                _ => {}
            }
            self.place = self.following()?;
            self.hash.update(&self.line);
        }
    }

    /// Where the line is that follows this one, which is not of the bundle.
    fn following(&self) -> io::Result<Place> {
        let is_last = self.line.starts_with(LAST.0.as_bytes()) && self.line == self.last().as_bytes();
        Ok(match self.place {
            _ if is_last => Place::End,
            Place::Statement => Place::Foot,
            Place::Head | Place::Bundle | Place::Between if self.line == BEGIN.as_bytes() => Place::Bundle,
            Place::Head | Place::Bundle | Place::Between if self.line.starts_with(ABOUT.as_bytes()) => {
                Place::Statement
            }
            Place::Head => Place::Head,
            // A browser would take its lines for some of the bundle.
            _ if has_script(&self.line) => return Err(damaged("it has a script that no evidence file has")),
            Place::Foot => Place::Foot,
            _ => Place::Between,
        })
    }

    /// The last line of a page of the lines so far.
    fn last(&self) -> String {
        [LAST.0, &hex(&self.hash), LAST.1].concat()
    }

    fn end(&self) -> io::Result<bool> {
        if self.place != Place::End {
            return Err(damaged(
                "its last line is missing, or is not of the bytes before it: a part of the page that is not of the bundle was changed",
            ));
        }
        let Some(made_with) = &self.made_with else {
            return Err(damaged("the part that says with what it was made cannot be read"));
        };
        let is_own = self.head == self.own_head.as_bytes() && !self.has_more_scripts;
        if made_with == MADE_WITH && !is_own {
            return Err(damaged(
                "its script, its style or its policy is not the one of this version, by which it says that it was made: believe \
                 nothing that it shows",
            ));
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Contents<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Contents<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.given >= self.line.len() && !self.advance()? {
            self.line.clear();
        }
        Ok(self.line.get(self.given..).unwrap_or_default())
    }

    fn consume(&mut self, read: usize) {
        self.given += read;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing_audit::ledger::{
        AsGiven, BundleVerifier, BundleWriter, Checkpoint, Columns, Committed, Frontier, LedgerError,
        Opening, Origin, ProofShape, Subtree,
    };
    use uuid::Uuid;

    use super::*;
    use crate::page::{Page, Statement};

    /// The lines of a bundle of a ledger with so many entries.
    fn bundle(origin: &str, entries: u64) -> Vec<u8> {
        let columns = Columns {
            id: Uuid::from_u128(1),
            ts: 0,
            workspace_id: Uuid::nil(),
            session_id: None,
            agent_id: None,
            action: "</script>",
            resource: "r",
            resource_id: None,
            decision: "",
            reason: Some("<!--"),
            risk_score: None,
            metadata: r#"{"a":"</noscript>"}"#,
            problems: None,
        };
        let committed = |position| Committed { writer: Uuid::nil(), position, committed_at: 0 };
        let openings: Vec<_> =
            (1..=entries).map(|n| Opening::of(&columns, &committed(n), &[7; 16])).collect();
        let hashes: Vec<_> = openings.iter().map(|opening| opening.leaf().hash()).collect();
        let over = |from: u64, until: u64| {
            let mut tree = Frontier::new();
            (from..until).for_each(|n| tree.push(hashes[usize::try_from(n).unwrap()]));
            tree.root()
        };
        let root = |part: Subtree| {
            Ok::<_, LedgerError>(over(part.index << part.level, (part.index + 1) << part.level))
        };
        let checkpoint = Checkpoint::new(Origin::new(origin).unwrap(), entries, over(0, entries)).unwrap();
        let mut lines = Vec::new();
        let mut writer = BundleWriter::selection(checkpoint.into(), &mut lines).unwrap();
        for (seq, opening) in (0..).zip(&openings) {
            let path = ProofShape::inclusion(seq, entries).unwrap().hashes(root).unwrap();
            writer.entry(seq, opening, &path, &mut lines).unwrap();
        }
        writer.end(&mut lines).unwrap();
        lines
    }

    fn page(entries: u64) -> Vec<u8> {
        let mut page = Page::new(Vec::new(), Statement::default());
        // In parts that are no lines.
        bundle("a", entries).chunks(1000).for_each(|part| page.write_all(part).unwrap());
        page.end(0).unwrap()
    }

    /// The number of entries of a page that holds.
    fn verified(page: &[u8]) -> Result<u64, String> {
        let (mut contents, mut line) = (Contents::new(page, 1 << 20), Vec::new());
        let mut next = |line: &mut Vec<u8>| {
            line.clear();
            contents.read_until(b'\n', line).map_err(|error| error.to_string())
        };
        next(&mut line)?;
        let mut verifier = BundleVerifier::begin(&line, &AsGiven).map_err(|error| error.to_string())?;
        while next(&mut line)? > 0 {
            verifier.take(&line).map_err(|error| error.to_string())?;
        }
        Ok(verifier.finish().map_err(|error| error.to_string())?.entries())
    }

    #[test]
    fn a_page_gives_back_the_bundle_that_it_was_made_of() {
        for entries in [1, 199, 200, 201, 401] {
            let page = page(entries);
            assert_eq!(verified(&page), Ok(entries));
            let mut lines = Vec::new();
            Contents::new(&*page, 1 << 20).read_to_end(&mut lines).unwrap();
            assert!(lines == bundle("a", entries), "{entries}");
            let text = String::from_utf8(page).unwrap();
            assert_eq!(text.matches("<tr><td").count(), usize::try_from(entries).unwrap());
            assert_eq!(text.matches("<script").count(), text.matches("</script>").count());
        }
    }

    #[test]
    fn a_page_of_which_any_byte_is_changed_or_missing_is_refused() {
        let page = page(3);
        for place in (0..page.len()).step_by(page.len() / 60).chain(page.len() - 80..page.len()) {
            let (mut changed, mut shorter) = (page.clone(), page.clone());
            changed[place] ^= 1;
            shorter.remove(place);
            for wrong in [&changed, &shorter, &page[..place].to_vec()] {
                assert!(verified(wrong).is_err(), "byte {place}");
            }
        }
    }

    #[test]
    fn a_page_without_entries_is_refused_without_being_kept_in_memory() {
        let page = ["<!DOCTYPE html>\n", &"<p>\n".repeat(100_000)].concat();
        let mut contents = Contents::new(page.as_bytes(), 1 << 10);
        assert!(contents.fill_buf().is_err());
        assert!(contents.head.len() <= contents.own_head.len() + 4, "{}", contents.head.len());
    }

    #[test]
    fn a_bundle_that_no_page_can_have_is_refused() {
        let mut page = Page::new(Vec::new(), Statement::default());
        assert!(page.write_all(&bundle("a<b", 1)).is_err());
        let refused = page.refused().unwrap().message();
        assert!(refused.contains("'<'"), "{refused}");
    }
}
