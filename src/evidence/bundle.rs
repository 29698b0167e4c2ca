//! `AuditReader::bundle`: many entries with what proves them, as one file.

use std::{
    io::Write,
    ops::{Bound, Range, RangeBounds},
    pin::pin,
};

use futures_util::{Stream, TryStreamExt};
use serde_json::Map;

use super::{
    opened::Opened,
    prove::{contradicted, not_covered},
    tiles::{Tiles, impossible},
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{BundleWriter, Disclosure, NotedCheckpoint, Opening, ProofShape};
use crate::reader::{AuditReader, output_error};
use crate::store::Evidence;

/// The entries whose leaf hashes and batches are read together.
const BLOCK: u64 = 1 << 14;

/// The bytes of lines after which they are written.
const CHUNK: usize = 64 * 1024;

/// The checkpoint by which many entries are proven, and the fields of them that are shown: see [`AuditReader::bundle`].
///
/// ```
/// use tracing_audit::{evidence::Bundling, ledger::Disclosure};
///
/// let bundling = Bundling::new().disclosing(Disclosure::all_but(["metadata.card"])?);
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Bundling {
    pub(super) checkpoint: Option<NotedCheckpoint>,
    pub(super) disclosure: Disclosure,
    /// The entries of a workspace that are left out.
    pub(super) without: u64,
    /// The entries of a block.
    pub(super) block: u64,
}

impl Default for Bundling {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundling {
    /// Proves by the checkpoint of now, and shows all fields.
    pub fn new() -> Self {
        Self { checkpoint: None, disclosure: Disclosure::all(), without: 0, block: BLOCK }
    }

    /// Proves by this checkpoint, which is kept elsewhere.
    pub fn checkpoint(self, checkpoint: impl Into<NotedCheckpoint>) -> Self {
        Self { checkpoint: Some(checkpoint.into()), ..self }
    }

    /// Without the fields that are not shown.
    pub fn disclosing(self, disclosure: Disclosure) -> Self {
        Self { disclosure, ..self }
    }

    /// Without the first entries of the workspace, so many of them, which an earlier bundle had: for
    /// [`bundle_part`](AuditReader::bundle_part), and without effect on other bundles.
    pub fn after(self, entries: u64) -> Self {
        Self { without: entries, ..self }
    }

    /// Blocks of this many entries, a power of two from 256 on, so that a small ledger in a test has several.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn blocks_of(self, entries: u64) -> Self {
        Self { block: entries.next_power_of_two().clamp(256, BLOCK), ..self }
    }
}

/// A bundle that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bundled {
    /// The number of its entries.
    pub entries: u64,
    /// The number of entries that were asked for and that the checkpoint, or the seal, does not cover. They are not in it.
    pub beyond: u64,
    /// The checkpoint by which it holds.
    pub checkpoint: NotedCheckpoint,
}

impl AuditReader {
    /// Writes a bundle of these entries to `out`: each with a proof of its own by one checkpoint. The entries must be in the order of
    /// `seq`, as [`stream`](Self::stream) gives them. That there are no others is not proven: see
    /// [`bundle_range`](Self::bundle_range) and [`bundle_part`](Self::bundle_part).
    ///
    /// A bundle is JSON Lines; [`BundleWriter`] says what they are, and [`BundleVerifier`](crate::ledger::BundleVerifier) verifies them.
    /// Everything was verified when this returns. After an error `out` has a bundle that is cut off, which nobody takes for a
    /// whole one. Memory stays constant at any size.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use futures_util::TryStreamExt;
    /// use tracing_audit::{AuditQuery, evidence::Bundling};
    ///
    /// let reader = log.reader();
    /// let reads = reader.stream(AuditQuery::new().action("document.read")).map_ok(|found| found.seq);
    /// let mut file = Vec::new();
    /// let bundled = reader.bundle(reads, Bundling::new(), &mut file).await?;
    /// # assert_eq!((bundled.entries, file.iter().filter(|byte| **byte == b'\n').count()), (0, 2));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if the entries are not in their order, or if none has a field that was to be withheld,
    /// [`is_altered`](AuditError::is_altered) as [`prove`](Self::prove), [`is_output`](AuditError::is_output) if `out` fails, the
    /// errors of `entries`, and otherwise as [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn bundle(
        &self,
        entries: impl Stream<Item = Result<u64, AuditError>>,
        bundling: Bundling,
        out: impl Write,
    ) -> Result<Bundled, AuditError> {
        let recording = self.recording("bundle", Map::new());
        recording.record_start().await?;
        let checkpoint = self.provable(bundling.checkpoint.as_ref()).await?;
        let (size, block) = (checkpoint.checkpoint().size(), bundling.block);
        let mut work = Work::new(self, &checkpoint, bundling.disclosure, out)?;
        let mut lines = Vec::new();
        let writer = BundleWriter::selection(checkpoint.clone(), &mut lines);
        work.begin(writer.map_err(|cause| contradicted(size, cause))?, lines);
        let mut entries = pin!(entries);
        let (mut wanted, mut beyond) = (Vec::<u64>::new(), 0);
        loop {
            let next = entries.try_next().await?;
            let last = wanted.last().copied();
            if let (Some(next), Some(last)) = (next, last)
                && next <= last
            {
                let message = format!("entry {next} follows {last}: give the entries in the order of seq");
                return Err(AuditError::new(ErrorKind::Query, message));
            }
            if let Some(last) = last
                && next.is_none_or(|next| next / block != last / block)
            {
                let first = last - last % block;
                work.add(first..(first + block).min(size), &wanted).await?;
                wanted.clear();
            }
            match next {
                None => break,
                Some(next) if next < size => wanted.push(next),
                Some(_) => beyond += 1,
            }
        }
        let entries = work.end()?;
        recording.record_end(entries).await?;
        Ok(Bundled { entries, beyond, checkpoint })
    }

    /// Writes a bundle of all entries of a range to `out`. It proves that none of them was left out, and is smaller than one of
    /// single entries. Without an end it is that of the checkpoint.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if the range is empty or the checkpoint does not cover it, and otherwise as
    /// [`bundle`](Self::bundle).
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    pub async fn bundle_range(
        &self,
        range: impl RangeBounds<u64>,
        bundling: Bundling,
        out: impl Write,
    ) -> Result<Bundled, AuditError> {
        let recording = self.recording("bundle", Map::new());
        recording.record_start().await?;
        let checkpoint = self.provable(bundling.checkpoint.as_ref()).await?;
        let (size, block) = (checkpoint.checkpoint().size(), bundling.block);
        let range = within(&range, size)?;
        let mut work = Work::new(self, &checkpoint, bundling.disclosure, out)?;
        let start = work.tiles.frontier(range.start).await?;
        let shape = ProofShape::consistency(range.end, size).map_err(impossible)?;
        let proof = work.tiles.proof(&shape).await?;
        let mut lines = Vec::new();
        let writer = BundleWriter::range(checkpoint.clone(), start, range.end, proof, &mut lines);
        work.begin(writer.map_err(|cause| contradicted(size, cause))?, lines);
        work.has_paths = false;
        let mut at = range.start;
        while at < range.end {
            let until = (at - at % block + block).min(range.end);
            let wanted: Vec<u64> = (at..until).collect();
            work.add(at..until, &wanted).await?;
            at = until;
        }
        let entries = work.end()?;
        recording.record_end(entries).await?;
        Ok(Bundled { entries, beyond: 0, checkpoint })
    }
}

/// The range, which must be one of entries that a checkpoint of this size covers.
fn within(range: &impl RangeBounds<u64>, size: u64) -> Result<Range<u64>, AuditError> {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let until = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(until) => *until,
        Bound::Unbounded => size,
    };
    if until > size {
        return Err(not_covered(until - 1, size));
    }
    if from >= until {
        let message =
            format!("there are no entries from {from} up to {until}, of {size} that the checkpoint covers");
        return Err(AuditError::new(ErrorKind::Query, message));
    }
    Ok(from..until)
}

/// A bundle that is being made.
pub(super) struct Work<'a, W> {
    evidence: &'a dyn Evidence,
    ledger: &'a str,
    size: u64,
    tiles: Tiles<'a>,
    disclosure: Disclosure,
    /// Whether each entry has a path of its own.
    pub(super) has_paths: bool,
    has_entries: bool,
    writer: Option<BundleWriter>,
    /// Lines that are still to be written.
    lines: Vec<u8>,
    out: W,
}

impl<'a, W: Write> Work<'a, W> {
    pub(super) fn new(
        reader: &'a AuditReader,
        checkpoint: &NotedCheckpoint,
        disclosure: Disclosure,
        out: W,
    ) -> Result<Self, AuditError> {
        let (evidence, size) = (reader.store.backend().evidence()?, checkpoint.checkpoint().size());
        let ledger = &*reader.ledger;
        let tiles = Tiles::new(evidence, ledger, size);
        Ok(Self {
            evidence,
            ledger,
            size,
            tiles,
            disclosure,
            has_paths: true,
            has_entries: false,
            writer: None,
            lines: Vec::new(),
            out,
        })
    }

    pub(super) fn begin(&mut self, writer: BundleWriter, lines: Vec<u8>) {
        (self.writer, self.lines) = (Some(writer), lines);
    }

    /// Adds these entries, which are in this range of one block.
    pub(super) async fn add(&mut self, range: Range<u64>, wanted: &[u64]) -> Result<(), AuditError> {
        let first = range.start;
        let opened = Opened::read(self.evidence, self.ledger, range).await?;
        if self.has_paths {
            self.tiles.keep_leaves(first, opened.leaf_hashes());
            for seq in wanted {
                let shape = ProofShape::inclusion(*seq, self.size).map_err(impossible)?;
                self.tiles.load(shape.subtrees()).await?;
            }
        }
        opened.each(wanted, |seq, opening| self.line(seq, opening)).await
    }

    fn line(&mut self, seq: u64, mut opening: Opening) -> Result<(), AuditError> {
        let path = if self.has_paths {
            let shape = ProofShape::inclusion(seq, self.size).map_err(impossible)?;
            shape.hashes(|subtree| self.tiles.root(subtree))?
        } else {
            Vec::new()
        };
        self.disclosure.apply(&mut opening);
        self.has_entries = true;
        if let Some(writer) = &mut self.writer {
            let added = writer.entry(seq, &opening, &path, &mut self.lines);
            added.map_err(|cause| contradicted(self.size, cause))?;
        }
        if self.lines.len() >= CHUNK { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), AuditError> {
        self.out.write_all(&self.lines).map_err(output_error)?;
        self.lines.clear();
        Ok(())
    }

    /// Ends the bundle, and returns the number of its entries. A field that was to be withheld must have been there.
    pub(super) fn end(mut self) -> Result<u64, AuditError> {
        let named = if self.has_entries { self.disclosure.check() } else { Ok(()) };
        named.map_err(|cause| AuditError::new(ErrorKind::Query, cause.to_string()))?;
        let ended = self.writer.take().map_or(Ok(0), |writer| writer.end(&mut self.lines));
        let entries = ended.map_err(|cause| contradicted(self.size, cause))?;
        self.write()?;
        self.out.flush().map_err(output_error)?;
        Ok(entries)
    }
}
