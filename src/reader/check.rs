//! Checks a whole log: entries, batches and heads against each other, and the tables against those that this crate makes.

use serde::{Deserialize, Serialize};

use super::{
    audit_reader::AuditReader,
    survey::{compare, headless_ledger, is_counted_to_the_end, misdated, untimely},
    tally::{Ranges, SeqRange},
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{Asked, Ends, LedgerCover, STORED_LEVELS, Surveys, TreeLook};

/// The most batches that do not fit their leaf hashes and are named.
const UNLIKE: u32 = 1000;

/// The most writers whose position is not accounted for and that are named.
const UNACCOUNTED: u32 = 100;

/// Something that is not as a log leaves it: see [`AuditReader::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// The kind of it.
    pub kind: FindingKind,
    /// The ledger, if it concerns one.
    pub ledger: Option<String>,
    /// The numbers of the entries, or the first numbers of the batches, if it concerns some.
    #[serde(flatten)]
    pub range: Option<SeqRange>,
    /// The finding as a sentence.
    pub message: String,
}

/// The kind of a [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Numbers before the head that no entry has.
    Missing,
    /// Entries that no batch holds.
    NoBatch,
    /// A batch that is empty, repeats the entries of another one, or reaches beyond the head.
    Batch,
    /// Entries with a number that the ledger has not given out.
    Outside,
    /// Entries that the database gives twice or not in their order.
    Disorder,
    /// An entry whose `ts` is outside of what its batch says.
    Time,
    /// A batch that was committed more than a second before the one before it, or more than a minute before its writer began, or
    /// more than an hour from now.
    Clock,
    /// A ledger without a head, or a head that names an end before that of the last commit.
    Head,
    /// The head does not name the tree that there is, or leaf hashes or nodes of it are missing. `verify` says more.
    Tree,
    /// A table, an index, a view or something that hangs on a table is not as this crate makes it.
    Schema,
    /// The file is damaged, or the `-wal` that was left beside it.
    Damage,
}

/// The extent of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checked {
    /// The number of ledgers.
    pub ledgers: u64,
    /// The number of entries.
    pub entries: u64,
    /// The number of batches.
    pub batches: u64,
    /// The number of findings.
    pub findings: u64,
}

impl AuditReader {
    /// Checks all ledgers of the database, and hands over each finding:
    ///
    /// - the tables, indexes and views are those that this crate makes, and no trigger, rule or policy is on them;
    /// - each number from 0 to before the head has one entry, and no entry has another number;
    /// - the batches hold each entry once, and nothing else;
    /// - the `ts` of each entry is within what its batch says, and each batch was committed after the one before it, to a
    ///   second;
    /// - the head names the end of the last commit as writers know it, and the batches and the quarantine account for the
    ///   position of each writer;
    /// - the head names the tree that there is: its size, its leaf hashes, a row of them for each batch, and its nodes by
    ///   their number; the hashes themselves are for [`verify`](AuditReader::verify);
    /// - a SQLite file passes SQLite's own check, its indexes included.
    ///
    /// Changes that were made with regard to all of this are not found. Memory stays constant: of each kind of finding,
    /// at most 10 000 ranges of a ledger are handed over. All of the database is read, SQLite's file twice: some 20 s
    /// for a million entries of a kilobyte. Writers go on meanwhile.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// let checked = log.reader().check(|finding| eprintln!("{}", finding.message)).await?;
    /// assert_eq!((checked.ledgers, checked.findings), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read, and no damage explains it.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn check(&self, found: impl FnMut(Finding)) -> Result<Checked, AuditError> {
        let surveys = self.store.backend().surveys()?;
        let mut check = Check { surveys, found, checked: Checked::default() };
        let are_veiled = !surveys.veils().await?.instead.is_empty();
        for message in surveys.schema().await? {
            check.tell(FindingKind::Schema, None, None, message);
        }
        let are_altered = check.checked.findings > 0;
        let structure = surveys.structure().await;
        let mut damaged = false;
        if let Ok(None) = &structure {
            let left_out = "SQLite's own check of the file is left out: it would evaluate what was added to the tables, which can \
                            take for ever. Remove it, and check again";
            check.tell(FindingKind::Schema, None, None, left_out.to_owned());
        }
        for message in structure.map_or_else(|error| vec![error.to_string()], Option::unwrap_or_default) {
            damaged = true;
            check.tell(FindingKind::Damage, None, None, message);
        }
        if are_veiled {
            // Nothing is read through what stands in the place of a table.
            return Ok(check.checked);
        }
        match self.check_ledgers(&mut check).await {
            // There is no head by which a ledger could be checked.
            Err(error) if error.is_altered() && !are_altered => {
                check.tell(FindingKind::Head, None, None, error.to_string());
            }
            Err(error) if are_altered && !damaged => {
                check.tell(
                    FindingKind::Schema,
                    None,
                    None,
                    format!("the ledgers cannot be checked: {error}"),
                );
            }
            Err(error) if damaged => check.tell(FindingKind::Damage, None, None, error.to_string()),
            done => done?,
        }
        Ok(check.checked)
    }

    /// Compares the tables, indexes and views with those that this crate makes, and says what differs, a sentence each: as
    /// [`check`](Self::check) does, without a look at what they hold.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn check_tables(&self) -> Result<Vec<String>, AuditError> {
        self.store.backend().surveys()?.schema().await
    }

    async fn check_ledgers(&self, check: &mut Check<'_, impl FnMut(Finding)>) -> Result<(), AuditError> {
        for name in check.surveys.headless().await? {
            let message = headless_ledger(&name);
            check.tell(FindingKind::Head, Some(&name), None, message);
        }
        for head in self.store.backend().reads()?.heads(None).await? {
            let query = AuditQuery::new().ledger(&head.ledger);
            let asked = Asked { query, at_most: i64::MAX, gaps: 0, writers: 0, beside: None };
            if let Some(found) = check.surveys.cover(&asked).await?.ledger {
                check.ledger(&head.ledger, found).await?;
            }
        }
        Ok(())
    }
}

/// A check that is going on.
struct Check<'a, F> {
    surveys: &'a dyn Surveys,
    found: F,
    checked: Checked,
}

impl<F: FnMut(Finding)> Check<'_, F> {
    fn tell(&mut self, kind: FindingKind, ledger: Option<&str>, range: Option<SeqRange>, message: String) {
        self.checked.findings += 1;
        (self.found)(Finding { kind, ledger: ledger.map(str::to_owned), range, message });
    }

    fn tell_ranges(&mut self, kind: FindingKind, ledger: &str, ranges: &Ranges, what: [&str; 2]) {
        for range in &ranges.kept {
            let SeqRange { from_seq, before_seq } = *range;
            let [one, several] = what;
            let message = match range.numbers() {
                1 => format!("{ledger}: {}", one.replace('#', &from_seq.to_string())),
                count => format!(
                    "{ledger}: {}",
                    several.replace('#', &format!("{from_seq} to {} ({count})", before_seq - 1))
                ),
            };
            self.tell(kind, Some(ledger), Some(*range), message);
        }
        let kept: u64 = ranges.kept.iter().map(SeqRange::numbers).sum();
        if let Some(more) = ranges.numbers.checked_sub(kept).filter(|more| *more > 0) {
            self.tell(kind, Some(ledger), None, format!("{ledger}: {more} more like the one before"));
        }
    }

    async fn ledger(&mut self, ledger: &str, found: LedgerCover) -> Result<(), AuditError> {
        let LedgerCover { ends, first, writers, .. } = found;
        let head = ends.next_seq.max(0);
        let tally = compare(self.surveys, ledger, (0, head, head), first).await?;
        self.checked.ledgers += 1;
        self.checked.entries += head.cast_unsigned().saturating_sub(tally.holes.numbers);
        self.checked.batches += tally.batches;
        let missing = ["no entry has seq #", "no entries have seq #"];
        self.tell_ranges(FindingKind::Missing, ledger, &tally.holes, missing);
        let no_batch = ["no batch holds the entry at seq #", "no batch holds the entries at seq #"];
        let uncovered = tally.uncovered.without(&tally.holes);
        self.tell_ranges(FindingKind::NoBatch, ledger, &uncovered, no_batch);
        let faulty = [
            "the batch at seq # holds what another one holds, or nothing, or what is beyond the head",
            "the batches at seq # hold what others hold, or nothing, or what is beyond the head",
        ];
        self.tell_ranges(FindingKind::Batch, ledger, &tally.faulty, faulty);
        let disorder = [
            "the entry at seq # is there twice or not in its place: the file is damaged",
            "the entries at seq # are there twice or not in their places: the file is damaged",
        ];
        self.tell_ranges(FindingKind::Disorder, ledger, &tally.disorder, disorder);
        let earlier = [
            "the batch at seq # was committed before the one before it: a clock was set back or is behind, or the time was \
             changed",
            "the batches at seq # were committed before those before them: a clock was set back or is behind, or the times \
             were changed",
        ];
        self.tell_ranges(FindingKind::Clock, ledger, &tally.earlier, earlier);
        for (count, place) in [
            (ends.beyond, format!("at or after {head}, the next seq of its head")),
            (ends.below, "below 0".into()),
        ] {
            if count > 0 {
                let least = if is_counted_to_the_end(count) { "" } else { "at least " };
                let message = format!("{ledger}: {least}{count} entries have a seq {place}");
                self.tell(FindingKind::Outside, Some(ledger), None, message);
            }
        }
        if ends.batches_below > 0 {
            let message = format!("{ledger}: batches begin below 0");
            self.tell(FindingKind::Batch, Some(ledger), None, message);
        }
        if ends.batches_beyond > 0 {
            let message = format!("{ledger}: batches begin at or after {head}, the next seq of its head");
            self.tell(FindingKind::Batch, Some(ledger), None, message);
        }
        self.head(ledger, ends.next_seq, writers.and_then(|writers| writers.head_was)).await?;
        self.tree(ledger).await?;
        self.times(ledger, &ends, &tally.earlier).await
    }

    /// Compares the next `seq` that the head names with what is known of the ledger's writers.
    async fn head(&mut self, ledger: &str, next_seq: i64, head_was: Option<i64>) -> Result<(), AuditError> {
        let head = next_seq.max(0);
        if let Some(was) = head_was {
            let message = format!(
                "{ledger}: after the last commit the next seq was {was}, and its head names {head}: it was lowered"
            );
            self.tell(FindingKind::Head, Some(ledger), None, message);
        } else if let Some(reached) = self.surveys.reached(ledger).await? {
            let message = format!(
                "{ledger}: by what is known of its writers and of its tree it has ended at {reached}, and its head names {head}: \
                 entries were cut off, or one of these was changed"
            );
            self.tell(FindingKind::Head, Some(ledger), None, message);
        }
        for (writer, position, backed) in self.surveys.unaccounted(ledger, UNACCOUNTED).await? {
            let message = format!(
                "{ledger}: the writer {writer} has committed up to its number {position}, and batches and quarantine account for \
                 {backed}: what it has committed last was cut off, or its position was changed"
            );
            self.tell(FindingKind::Head, Some(ledger), None, message);
        }
        if next_seq < 0 {
            let message = format!("{ledger}: its head names {next_seq} as the next seq");
            self.tell(FindingKind::Head, Some(ledger), None, message);
        }
        Ok(())
    }

    /// Compares what the head says of the tree with what there is of it.
    async fn tree(&mut self, ledger: &str) -> Result<(), AuditError> {
        let Some(look) = self.surveys.tree(ledger, UNLIKE).await? else { return Ok(()) };
        for what in faults(&look) {
            let message = format!("{ledger}: {what}; tracing-audit verify says more");
            self.tell(FindingKind::Tree, Some(ledger), None, message);
        }
        let mut unlike = Ranges::default();
        for first_seq in look.unlike {
            unlike.add(first_seq, first_seq.saturating_add(1));
        }
        let what = [
            "the batch at seq # has another number of entries than of leaf hashes: it was changed, split or joined, or the \
             hashes were removed",
            "the batches at seq # have other numbers of entries than of leaf hashes: they were changed, split or joined, or the \
             hashes were removed",
        ];
        self.tell_ranges(FindingKind::Batch, ledger, &unlike, what);
        Ok(())
    }

    /// Compares the times of entries with those of their batches, and those of commits with what is known of their writers.
    async fn times(&mut self, ledger: &str, ends: &Ends, earlier: &Ranges) -> Result<(), AuditError> {
        let all = (0, ends.next_seq);
        let misdated = misdated(self.surveys, ledger, all).await?.without(earlier);
        let date = [
            "the batch at seq # was committed before its writer began or far from now: a clock was wrong, or the time was changed",
            "the batches at seq # were committed before their writers began or far from now: a clock was wrong, or the times were \
             changed",
        ];
        self.tell_ranges(FindingKind::Clock, ledger, &misdated, date);
        let ranges = untimely(self.surveys, ledger, all, None).await?;
        let time = [
            "the ts of the entry at seq # is outside of what its batch says: it was changed",
            "the ts of the entries at seq # are outside of what their batches say: they were changed",
        ];
        self.tell_ranges(FindingKind::Time, ledger, &ranges, time);
        Ok(())
    }
}

/// The faults of a tree that its numbers alone show.
fn faults(look: &TreeLook) -> Vec<String> {
    let TreeLook { has_id, size, frontier, next_seq, leaves, foreign_leaves, nodes, foreign_nodes, .. } =
        look;
    let Ok(entries) = u64::try_from(*size) else {
        return vec![format!("its head names {size} as the size of its tree")];
    };
    let mut faults: Vec<String> = Vec::new();
    let mut add = |is_wrong: bool, what: String| faults.extend(is_wrong.then_some(what));
    add(!has_id && *size > 0, "its head has no id of the log".to_owned());
    add(size > next_seq, format!("its head has a tree of {size} entries, and counts {next_seq}"));
    let is_frontier = *frontier == 32 * i64::from(entries.count_ones());
    add(!is_frontier, format!("the frontier of its head is none of a tree of {size} entries"));
    add(leaves != size, format!("its head has a tree of {size} entries, and there are {leaves} leaf hashes"));
    let full: u64 = STORED_LEVELS.iter().map(|level| entries >> level).sum();
    add(
        nodes.cast_unsigned() != full,
        format!("a tree of {size} entries has {full} nodes that are stored, and there are {nodes}"),
    );
    let foreign = foreign_leaves.saturating_add(*foreign_nodes);
    add(
        foreign > 0,
        format!("there are {foreign} rows of leaf hashes or nodes that are none of a tree of {size} entries"),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_tree_fit_each_other() {
        let tree = |size: i64| TreeLook {
            has_id: true,
            size,
            frontier: 32 * i64::from(size.count_ones()),
            next_seq: size,
            leaves: size,
            nodes: size / 256 + size / 65_536 + size / 16_777_216,
            ..TreeLook::default()
        };
        for size in [0, 1, 255, 256, 2500, 65_535, 65_536, 16_777_216 + 7] {
            assert_eq!(faults(&tree(size)), Vec::<String>::new(), "{size}");
            // Behind the ledger while it is catching up.
            assert_eq!(faults(&TreeLook { next_seq: size + 9, ..tree(size) }), Vec::<String>::new());
        }
        assert_eq!(faults(&TreeLook { has_id: false, ..tree(0) }), Vec::<String>::new());
        let whole = || tree(2500);
        for (changed, says) in [
            (TreeLook { has_id: false, ..whole() }, "no id"),
            (TreeLook { size: -1, ..whole() }, "names -1"),
            (
                TreeLook { size: i64::MAX, ..whole() },
                "a tree of 9223372036854775807 entries, and counts 2500",
            ),
            (TreeLook { next_seq: 2499, ..whole() }, "counts 2499"),
            (TreeLook { frontier: 0, ..whole() }, "frontier"),
            (TreeLook { leaves: 0, ..whole() }, "0 leaf hashes"),
            (TreeLook { nodes: 8, ..whole() }, "has 9 nodes that are stored, and there are 8"),
            (TreeLook { foreign_leaves: 1, ..whole() }, "1 rows"),
            (TreeLook { foreign_nodes: 2, ..whole() }, "2 rows"),
        ] {
            let found = faults(&changed);
            assert!(found.iter().any(|fault| fault.contains(says)), "{says}: {found:?}");
        }
    }
}
