//! Reads a write-ahead log from outside SQLite: which pages it holds, how far it is committed, and which heads.
//!
//! Only the file `-wal` is ever opened here. SQLite locks the database and `-shm`, but never this one, so that opening and
//! closing it costs no connection its locks. The format is <https://www.sqlite.org/fileformat2.html#walformat>.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::platform::{open_regular, read_up_to};

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The first four bytes; the lowest bit says in which order its checksums read bytes.
const MAGIC: u32 = 0x377f_0682;

/// The sizes that a page can have.
const LEAST_PAGE: u32 = 512;
const GREATEST_PAGE: u32 = 1 << 16;

/// The write-ahead log beside a database, up to the last commit that was seen.
#[derive(Debug)]
pub(super) struct Wal {
    file: File,
    header: [u8; HEADER],
    /// Size of a page.
    page: u64,
    /// Number of frames up to the last commit that was seen.
    frames: u64,
    /// Header of the last of them.
    last: [u8; FRAME],
    /// The frames from this one on are not looked at.
    until: u64,
}

/// Damage to a log: SQLite takes it to end there, and says nothing of what comes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Whether the header of the log itself is damaged. Then nothing is known of its frames.
    pub(super) is_header: bool,
    /// Number of whole frames before the damage.
    pub(super) whole: u64,
    /// Number of commits in the damaged frame and behind it.
    pub(super) commits: u64,
}

/// The contents of a write-ahead log.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Size of a page. 0 if the log is empty.
    pub(super) page: u64,
    /// Pages of the database after the last commit. 0 if there is no commit.
    pub(super) pages: u32,
    pub(super) held: HashSet<u32>,
}

pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

impl Wal {
    /// Opens the log, which may be empty.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        let mut wal =
            Self { file, header: [0; HEADER], page: 0, frames: 0, last: [0; FRAME], until: u64::MAX };
        wal.rewind()?;
        Ok(wal)
    }

    /// Forgets what was seen, and looks again from the start: the log starts again when all of it was moved into the
    /// database.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.header = self.read_header()?;
        let valid = number(&self.header, 0) & !1 == MAGIC;
        self.page = if valid { u64::from(number(&self.header, 8)) } else { 0 };
        self.frames = 0;
        self.last = [0; FRAME];
        self.advance(|_, _| {})
    }

    /// Whether the log is still the one that was seen, to the last frame. Sees what was committed since.
    pub(super) fn continues(&mut self) -> io::Result<bool> {
        if self.read_header()? != self.header {
            return Ok(false);
        }
        if self.frames > 0 && self.frame(self.frames - 1, self.len()?)? != Some(self.last) {
            return Ok(false);
        }
        self.advance(|_, _| {})?;
        Ok(true)
    }

    /// Whether the log holds this many frames, one after the other, which SQLite says it does. `None`: it has started
    /// again meanwhile.
    pub(super) fn holds(&mut self, frames: u64) -> io::Result<Option<bool>> {
        self.advance(|_, _| {})?;
        Ok((self.read_header()? == self.header).then_some(self.frames >= frames))
    }

    /// Everything that is committed, from the start.
    pub(super) fn contents(&mut self) -> io::Result<Contents> {
        self.rewind()?;
        let (until, page) = (self.frames, self.page);
        let mut contents = Contents { page, pages: number(&self.last, 4), held: HashSet::new() };
        (self.frames, self.last) = (0, [0; FRAME]);
        self.advance(|index, frame| {
            if index < until {
                contents.held.insert(number(frame, 0));
            }
        })?;
        Ok(contents)
    }

    /// The same of a log that nobody has watched, up to damage if there is some: SQLite reads nothing behind it. Later calls
    /// look no further either.
    pub(super) fn contents_until_damage(&mut self) -> io::Result<Contents> {
        self.until = self.damage()?.map_or(u64::MAX, |damage| damage.whole);
        self.contents()
    }

    /// Damage that has commits at it or behind it. All of the log is read.
    ///
    /// Such commits have the log's own salts, and name the size of the database. Frames from before the log last began anew
    /// have other salts. A transaction that was not committed names no size.
    pub(super) fn damage(&self) -> io::Result<Option<Damage>> {
        let (header, len) = (self.read_header()?, self.len()?);
        if len < (HEADER + FRAME) as u64 + u64::from(LEAST_PAGE) {
            return Ok(None);
        }
        let (magic, size) = (number(&header, 0), number(&header, 8));
        let is_big = magic & 1 == 1;
        let is_size = size.is_power_of_two() && (LEAST_PAGE..=GREATEST_PAGE).contains(&size);
        let mut sum = sum_of((0, 0), header.get(..24).unwrap_or_default(), is_big);
        if magic & !1 != MAGIC || !is_size || sum != (number(&header, 24), number(&header, 28)) {
            return Ok(Some(Damage { is_header: true, whole: 0, commits: 0 }));
        }
        let mut page = vec![0; usize::try_from(size).unwrap_or(0)];
        let (mut frame, mut at) = ([0; FRAME], HEADER);
        let (mut whole, mut commits, mut is_whole) = (0, 0, true);
        while read_up_to(&self.file, &mut frame, at)? == FRAME {
            let is_own = frame.get(8..16) == header.get(16..24) && number(&frame, 0) > 0;
            if is_whole {
                // The last frame may lack a part of its page.
                is_whole = is_own && read_up_to(&self.file, &mut page, at + FRAME)? == page.len();
                sum = sum_of(sum, frame.get(..8).unwrap_or_default(), is_big);
                sum = sum_of(sum, &page, is_big);
                is_whole = is_whole && sum == (number(&frame, 16), number(&frame, 20));
                whole += u64::from(is_whole);
            }
            commits += u64::from(!is_whole && is_own && number(&frame, 4) > 0);
            at += FRAME + page.len();
        }
        Ok((commits > 0).then_some(Damage { is_header: false, whole, commits }))
    }

    /// The values of the first integer in each version of a one-row table's page: `(ledger, next_seq, ..)`, up to the last
    /// commit that there is now. `None` if one of them cannot be read where it lies.
    pub(super) fn heads(&mut self, root: u32) -> io::Result<Option<Vec<i64>>> {
        if !self.continues()? {
            self.rewind()?;
        }
        let mut heads = Vec::new();
        let mut page = vec![0; usize::try_from(self.page).unwrap_or(0)];
        let len = self.len()?;
        for index in 0..self.frames {
            let frame = self.frame(index, len)?.unwrap_or([0; FRAME]);
            if number(&frame, 0) == root {
                read_up_to(&self.file, &mut page, self.offset(index) + FRAME)?;
                // Somebody may have removed the row.
                if page.get(3..5) == Some(&[0, 0]) {
                    continue;
                }
                let Some(seq) = next_seq(&page) else { return Ok(None) };
                heads.push(seq);
            }
        }
        Ok(Some(heads))
    }

    fn read_header(&self) -> io::Result<[u8; HEADER]> {
        let mut header = [0; HEADER];
        read_up_to(&self.file, &mut header, 0)?;
        Ok(header)
    }

    fn offset(&self, index: u64) -> usize {
        usize::try_from(HEADER as u64 + index * (FRAME as u64 + self.page)).unwrap_or(usize::MAX / 2)
    }

    /// Size of the file.
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The header of a frame, if a file of this size has the whole of it and its page.
    fn frame(&self, index: u64, len: u64) -> io::Result<Option<[u8; FRAME]>> {
        let mut frame = [0; FRAME];
        if len < self.offset(index + 1) as u64 {
            return Ok(None);
        }
        let whole = read_up_to(&self.file, &mut frame, self.offset(index))? == FRAME;
        Ok(whole.then_some(frame))
    }

    /// Whether the frame was written since the log last started again.
    fn is_of_this(&self, frame: &[u8; FRAME]) -> bool {
        frame.get(8..16) == self.header.get(16..24) && number(frame, 0) > 0
    }

    /// Walks to the last commit. The size is asked once, so that each frame costs one read.
    fn advance(&mut self, mut each: impl FnMut(u64, &[u8; FRAME])) -> io::Result<()> {
        let (mut index, len) = (self.frames, self.len()?);
        while self.page > 0
            && index < self.until
            && let Some(frame) = self.frame(index, len)?.filter(|frame| self.is_of_this(frame))
        {
            each(index, &frame);
            index += 1;
            if number(&frame, 4) > 0 {
                (self.frames, self.last) = (index, frame);
            }
        }
        Ok(())
    }
}

/// The checksum of these bytes, a multiple of eight, after that of what comes before them.
fn sum_of((mut one, mut two): (u32, u32), bytes: &[u8], is_big: bool) -> (u32, u32) {
    for word in bytes.as_chunks::<4>().0 {
        let word = if is_big { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) };
        (one, two) = (two, one.wrapping_add(word).wrapping_add(two));
    }
    (one, two)
}

/// The second column of the only row of a table, from the page that holds it. `None` if the page is no such page.
fn next_seq(page: &[u8]) -> Option<i64> {
    const LEAF: u8 = 13;
    if *page.first()? != LEAF || page.get(3..5)? != [0, 1] {
        return None;
    }
    let cell = u16::from_be_bytes(page.get(8..10)?.try_into().ok()?);
    let mut rest = page.get(usize::from(cell)..)?;
    let (_size, _rowid) = (varint(&mut rest)?, varint(&mut rest)?);
    let mut types = rest;
    let header = usize::try_from(varint(&mut types)?).ok()?;
    let (ledger, seq) = (varint(&mut types)?, varint(&mut types)?);
    let ledger = usize::try_from(ledger.checked_sub(13)? / 2).ok()?;
    let value = rest.get(header + ledger..)?;
    let width = match seq {
        8 => return Some(0),
        9 => return Some(1),
        width @ 1..=4 => usize::try_from(width).ok()?,
        5 => 6,
        6 => 8,
        _ => return None,
    };
    let bytes = value.get(..width)?;
    let sign = if bytes.first()? & 0x80 == 0 { 0 } else { -1 };
    Some(bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte)))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for index in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        if index == 8 {
            return Some(value << 8 | u64::from(*byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
