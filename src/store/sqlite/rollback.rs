//! Judges whether a rollback journal belongs to its database, before SQLite rolls the one back into the other.
//!
//! SQLite plays a journal that it finds beside a database: it writes each page that the journal holds over the database, and
//! cuts it to the size that the journal names. The journal's own checksums are all that it checks. So this is checked:
//!
//! - A database with a write-ahead log, as every one is that a log has created, has a journal only while its mode is changed
//!   or while it is created. Such a journal holds the first page alone, as it is but for the mode; or it empties a database
//!   that has no table.
//! - In another mode each transaction counts up a number in the first page. The journal holds that page as it was before, and
//!   the rest of it is the same, unless the schema was changed: by one step, or without a change of what was there first. If
//!   the journal does not hold the page yet, the page is as it was, and names the size that the journal names.
//!
//! The format is <https://www.sqlite.org/fileformat2.html#the_rollback_journal>.

use std::{fs::File, io, ops::Range, path::Path, time::Duration};

use super::wal::{beside, number};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileLook, is_same_file, kept_open, open_regular, read_up_to};

/// The pause before a second look. A change of the files by another process is over by then, or goes on.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The most looks at files that change between any two.
pub(super) const LOOKS: u32 = 20;

const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
const JOURNAL_HEADER: usize = 28;
const DATABASE: &[u8; 16] = b"SQLite format 3\0";
const DATABASE_HEADER: usize = 100;

/// The bytes of the first page that a change of the mode changes: the mode; the count of changes, with the size of the
/// database; the count for which that size was written, with the version of SQLite that wrote it.
const CHANGED_WITH_MODE: [Range<usize>; 3] = [18..20, 24..32, 92..100];

/// The bytes of what a page has held first that are compared.
const FIRST_BYTES: usize = 16;

/// Checks, before the database is opened, that a journal which was left beside it belongs to it. Writes to neither.
///
/// # Errors
/// If it does not: names both files and the remedy.
pub(super) async fn check_left_journal(given: &Path) -> Result<(), AuditError> {
    // SQLite resolves links, and keeps its journal beside the file itself.
    let main = std::fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
    let path = beside(&main, "-journal");
    let looks = || (FileLook::at(&main), FileLook::at(&path));
    let mut before = None;
    for _ in 0..LOOKS {
        let now = looks();
        // The database itself by another name is not opened, and named elsewhere.
        if now.1.is_none_or(|journal| journal.len == 0) || is_same_file(&path, &main) == Some(true) {
            return Ok(());
        }
        // SQLite refuses a file that cannot be read, too.
        let Ok(Some(why)) = foreign(&path, &main) else { return Ok(()) };
        // Nothing has changed since the last look: this is not another process in the middle of a transaction.
        if before == Some(now) && looks() == now {
            let (main, path) = (main.display(), path.display());
            let message = format!(
                "{path} does not belong to {main} ({why}), and neither was changed: SQLite would write what is in the journal \
                 over the database. Move {path} away; if it was copied together with {main}, restore both as they were at \
                 one moment"
            );
            return Err(AuditError::new(ErrorKind::Store, message));
        }
        before = Some(now);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

/// The reason why the journal does not belong to the database, in words. `None` if it does, or if SQLite would play
/// nothing of it.
fn foreign(path: &Path, main: &Path) -> io::Result<Option<String>> {
    let Some(journal) = Journal::open(path)? else { return Ok(None) };
    if FileLook::at(main).is_none_or(|main| main.len == 0) {
        // SQLite deletes it.
        let why = format!("it restores {} pages, and the database is empty or gone", journal.pages);
        return Ok((journal.pages > 0).then_some(why));
    }
    // An encrypted database shows nothing of itself.
    let Some(main) = Main::read(main)? else { return Ok(None) };
    if journal.pages == 0 {
        let is_new = !main.has_tables() || !main.has_log() && main.count() <= 1;
        return Ok((!is_new).then(|| "it would empty the database".to_owned()));
    }
    if main.has_log() { journal.changes_more_than_mode(&main) } else { journal.is_of_another(&main) }
}

/// The first page of a database.
struct Main {
    page: Vec<u8>,
    /// Number of pages in the file.
    pages: u64,
}

impl Main {
    /// `None` if the file does not begin as a database, or has not even a page.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = kept_open(path)?;
        let mut header = [0; DATABASE_HEADER];
        if read_up_to(&file, &mut header, 0)? < DATABASE_HEADER || !header.starts_with(DATABASE) {
            return Ok(None);
        }
        let mut page = vec![0; page_size(&header)];
        let is_whole = read_up_to(&file, &mut page, 0)? == page.len();
        let pages = file.metadata()?.len().div_ceil(page.len() as u64);
        Ok(is_whole.then_some(Self { page, pages }))
    }

    fn has_log(&self) -> bool {
        self.page.get(18..20) == Some(&[2, 2])
    }

    /// Whether the table of the schema has a row, or several pages.
    fn has_tables(&self) -> bool {
        const LEAF: u8 = 13;
        self.page.get(100) != Some(&LEAF) || self.page.get(103..105) != Some(&[0, 0])
    }

    fn count(&self) -> u32 {
        count_of(&self.page)
    }
}

/// The size of a page, as the header of a database has it. 65 536 is written as 1.
fn page_size(header: &[u8]) -> usize {
    match number(header, 16) >> 16 {
        1 => 1 << 16,
        size => usize::try_from(size).unwrap_or(0).max(512),
    }
}

/// The number of changes of the database, as its first page names it.
fn count_of(page: &[u8]) -> u32 {
    number(page, 24)
}

/// The count of the changes to the schema.
fn schema_of(page: &[u8]) -> u32 {
    number(page, 40)
}

/// A rollback journal that begins as one.
struct Journal {
    file: File,
    len: u64,
    /// Number of pages to which the database is cut.
    pages: u32,
    /// The parts of the journal begin at multiples of this.
    sector: u64,
    /// Size of a page. 0: that of the database, in journals of old versions.
    page: usize,
}

/// The pages that a journal puts back.
struct Restored {
    first: Option<Vec<u8>>,
    /// The most pages that there are besides the first one.
    others: u64,
}

impl Journal {
    /// `None` if there is none, or none of which SQLite plays something.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match open_regular(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut header = [0; JOURNAL_HEADER];
        let whole = read_up_to(&file, &mut header, 0)? == JOURNAL_HEADER && header.starts_with(&JOURNAL);
        let (pages, sector, page) = (number(&header, 16), number(&header, 20), number(&header, 24));
        let is_size = |size: u32, least| size.is_power_of_two() && (least..=1 << 16).contains(&size);
        if !whole || !is_size(sector, 32) || page != 0 && !is_size(page, 512) {
            return Ok(None);
        }
        let len = file.metadata()?.len();
        let page = usize::try_from(page).unwrap_or(0);
        Ok(Some(Self { file, len, pages, sector: u64::from(sector), page }))
    }

    /// Walks over all parts of the journal. Each has a header and a number of pages, each page with its number before
    /// it and its checksum after it.
    fn restored(&self, page: usize) -> io::Result<Restored> {
        let mut restored = Restored { first: None, others: 0 };
        let (mut part, record) = (0, page as u64 + 8);
        let mut header = [0; JOURNAL_HEADER];
        while read_up_to(&self.file, &mut header, place(part))? == JOURNAL_HEADER
            && header.starts_with(&JOURNAL)
        {
            let begin = part + self.sector;
            let held = self.len.saturating_sub(begin) / record;
            // Without syncs SQLite leaves the number open.
            let said = Some(number(&header, 8)).filter(|said| *said != u32::MAX).map_or(held, u64::from);
            for index in 0..said.min(held) {
                let at = begin + index * record;
                let mut of = [0; 4];
                read_up_to(&self.file, &mut of, place(at))?;
                match number(&of, 0) {
                    // SQLite stops here.
                    0 => return Ok(restored),
                    1 if restored.first.is_none() => {
                        let mut bytes = vec![0; page + 4];
                        read_up_to(&self.file, &mut bytes, place(at + 4))?;
                        let sum = number(&bytes, page);
                        bytes.truncate(page);
                        if sum != checksum(number(&header, 12), &bytes) {
                            return Ok(restored);
                        }
                        restored.first = Some(bytes);
                    }
                    _ => restored.others += 1,
                }
            }
            part = (begin + said.min(held) * record).next_multiple_of(self.sector);
        }
        Ok(restored)
    }

    fn has_other_pages_than(&self, page: usize) -> Option<String> {
        let differs = self.page != 0 && self.page != page;
        differs.then(|| format!("its pages have {} bytes, and those of the database {page}", self.page))
    }

    /// The reason why this is not the journal of a change of the mode.
    fn changes_more_than_mode(&self, main: &Main) -> io::Result<Option<String>> {
        if let Some(why) = self.has_other_pages_than(main.page.len()) {
            return Ok(Some(why));
        }
        if u64::from(self.pages) != main.pages {
            let why =
                format!("it is of a database with {} pages, and this one has {}", self.pages, main.pages);
            return Ok(Some(why));
        }
        let Restored { first, others } = self.restored(main.page.len())?;
        let without_mode = |page: &[u8]| {
            let mut page = page.to_owned();
            for changed in CHANGED_WITH_MODE {
                page.get_mut(changed).unwrap_or_default().fill(0);
            }
            page
        };
        let is_same = |first: &Vec<u8>| without_mode(first) == without_mode(&main.page);
        Ok(if others > 0 {
            Some(format!("it would put back {others} pages of a database that has a write-ahead log"))
        } else if first.as_ref().is_some_and(|first| !is_same(first)) {
            Some("it would put back another first page".to_owned())
        } else {
            None
        })
    }

    /// The reason why this is not the journal of a transaction on this database, which has no write-ahead log.
    fn is_of_another(&self, main: &Main) -> io::Result<Option<String>> {
        let page = if self.page == 0 { main.page.len() } else { self.page };
        let Some(first) = self.restored(page)?.first else {
            let named = number(&main.page, 28);
            let is_size = self.pages == named || u64::from(self.pages) == main.pages;
            return Ok(self.has_other_pages_than(main.page.len()).or_else(|| {
                (!is_size).then(|| {
                    format!("it is of a database with {} pages, and this one has {named}", self.pages)
                })
            }));
        };
        let is_next = main.count().wrapping_sub(count_of(&first)) <= 1;
        let is_same = first.get(DATABASE_HEADER..) == main.page.get(DATABASE_HEADER..);
        // The bytes that the page held first are at its end.
        let begins_alike = first.last_chunk::<FIRST_BYTES>() == main.page.last_chunk();
        let has_next_schema = schema_of(&main.page).wrapping_sub(schema_of(&first)) == 1;
        let belongs = first.starts_with(DATABASE)
            && page_size(&first) == page
            && is_next
            && (is_same || begins_alike || has_next_schema);
        Ok((!belongs).then(|| {
            format!(
                "it would put back the first page of change {}, and the database is at change {}",
                count_of(&first),
                main.count()
            )
        }))
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX / 2)
}

/// The sum of some bytes of a page, by which SQLite knows that it was written whole.
fn checksum(nonce: u32, page: &[u8]) -> u32 {
    page.iter().rev().skip(199).step_by(200).fold(nonce, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}
