//! Computes the leaves of rows again, and compares them with the stored ones.

use std::ops::Range;

use super::layout::{Layout, Span, absent};
use crate::ledger::{Columns, Hash, Leaf, Seeds, SeedsInOrder};

/// The most attempts to find out that an entry was moved, in one range. Each costs some thirty hashes.
const MOST_ATTEMPTS: u32 = 20_000;

/// The result for one `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// There is no row.
    Missing,
    /// There is no row, as there was none when the tree was made.
    Absent,
    /// There is a row where there was none when the tree was made.
    Extra,
    /// A column has what no entry can have there.
    Unreadable,
    /// Its batch or its seed is missing, so that its leaf cannot be computed.
    Unchecked,
    /// There is no leaf hash to compare it with.
    Alone,
    Same,
    Differs,
}

impl RowState {
    /// Whether there is a row.
    pub(super) fn is_row(self) -> bool {
        !matches!(self, Self::Missing | Self::Absent)
    }
}

/// Takes the rows of a range in the order of `seq`.
#[derive(Debug)]
pub(super) struct Hasher {
    pub(super) range: Range<u64>,
    pub(super) layout: Layout,
    pub(super) states: Vec<RowState>,
    /// The leaf of each row that could be computed.
    pub(super) computed: Vec<Option<Hash>>,
    /// The places of entries, and the places where they belong, if these are near.
    pub(super) moved: Vec<(u64, u64)>,
    /// A `seq` for each row that exists a second time.
    pub(super) doubled: Vec<u64>,
    /// For each row whose number is no integer, the `seq` of the row before it.
    pub(super) unnumbered: Vec<u64>,
    last: u64,
    /// The least and the greatest `ts` of the rows of each span.
    pub(super) times: Vec<Option<(i64, i64)>>,
    /// The number of entries `audit.gap`.
    pub(super) gaps: u64,
    leaf: Leaf,
    span: usize,
    /// The seeds of the span's batch, and the place of the next one.
    seeds: Option<(SeedsInOrder, u64)>,
    shift: i64,
    attempts: u32,
}

impl Hasher {
    pub(super) fn new(range: Range<u64>, layout: Layout) -> Self {
        let absent = absent();
        let is_absent = |stored: &Option<Hash>| *stored == Some(absent);
        let state = |stored| if is_absent(stored) { RowState::Absent } else { RowState::Missing };
        Self {
            states: layout.stored.iter().map(state).collect(),
            computed: layout.stored.iter().map(|stored| stored.filter(|_| is_absent(stored))).collect(),
            moved: Vec::new(),
            doubled: Vec::new(),
            unnumbered: Vec::new(),
            last: range.start,
            times: vec![None; layout.spans.len()],
            gaps: 0,
            leaf: Leaf::new(),
            span: 0,
            seeds: None,
            shift: 1,
            attempts: 0,
            layout,
            range,
        }
    }

    /// Takes the next row. `row` is `None` if a column has what no entry can have there.
    pub(super) fn take(&mut self, seq: i64, row: Option<&Columns<'_>>) {
        match u64::try_from(seq) {
            Ok(seq) if self.range.contains(&seq) => {
                self.last = seq;
                self.take_one(seq, row);
            }
            _ if self.unnumbered.last() == Some(&self.last) => {}
            _ => self.unnumbered.push(self.last),
        }
    }

    fn take_one(&mut self, seq: u64, row: Option<&Columns<'_>>) {
        let Ok(place) = usize::try_from(seq - self.range.start) else { return };
        match self.states.get(place) {
            Some(RowState::Missing) => {}
            Some(RowState::Absent) => return self.set(place, RowState::Extra),
            _ => return self.doubled.push(seq),
        }
        while self.layout.spans.get(self.span).is_some_and(|span| span.range.end <= seq) {
            (self.span, self.seeds) = (self.span + 1, None);
        }
        let Some(row) = row else { return self.set(place, RowState::Unreadable) };
        self.gaps += u64::from(row.action == "audit.gap");
        if let Some(times) = self.times.get_mut(self.span) {
            let (least, greatest) = times.unwrap_or((row.ts, row.ts));
            *times = Some((least.min(row.ts), greatest.max(row.ts)));
        }
        let Some(leaf) = self.leaf_of(seq, row) else { return self.set(place, RowState::Unchecked) };
        if let Some(computed) = self.computed.get_mut(place) {
            *computed = Some(leaf);
        }
        match self.layout.stored.get(place).copied().flatten() {
            None => self.set(place, RowState::Alone),
            Some(stored) if stored == leaf => self.set(place, RowState::Same),
            Some(_) => {
                self.set(place, RowState::Differs);
                self.look_beside(seq, row);
            }
        }
    }

    fn set(&mut self, place: usize, state: RowState) {
        if let Some(place) = self.states.get_mut(place) {
            *place = state;
        }
    }

    /// The leaf of a row at its own place, whose span is the present one.
    fn leaf_of(&mut self, seq: u64, row: &Columns<'_>) -> Option<Hash> {
        let span = self.layout.spans.get(self.span)?;
        let (committed, root) = (span.committed(seq)?, span.seed?);
        let at = seq.checked_sub(span.first)?;
        let (seeds, next) = self.seeds.get_or_insert_with(|| (Seeds::of_root(root).iter(), 0));
        let (_, seed) = seeds.nth(usize::try_from(at.checked_sub(*next)?).ok()?)?;
        *next = at + 1;
        self.leaf.prepare(row, &seed);
        Some(self.leaf.finish(row, &committed))
    }

    /// Looks whether the row is the entry that belongs next to it: if one entry was removed and those after it
    /// renumbered, that is so for all of these.
    fn look_beside(&mut self, seq: u64, row: &Columns<'_>) {
        for shift in [self.shift, 1, -1] {
            let Some(belongs) = seq.checked_add_signed(shift).filter(|seq| self.range.contains(seq)) else {
                continue;
            };
            if self.attempts >= MOST_ATTEMPTS {
                return;
            }
            self.attempts += 1;
            if self.is_leaf_of(belongs, row) {
                self.shift = shift;
                return self.moved.push((seq, belongs));
            }
        }
    }

    /// Whether the row, if it stood at this `seq`, had the leaf hash that is stored there.
    fn is_leaf_of(&mut self, seq: u64, row: &Columns<'_>) -> bool {
        let spans = &self.layout.spans;
        let span = spans.get(spans.partition_point(|span| span.range.end <= seq));
        let stored = usize::try_from(seq - self.range.start).ok();
        let stored = stored.and_then(|place| self.layout.stored.get(place).copied().flatten());
        match (span, stored) {
            (Some(span), Some(stored)) => is_leaf(span, seq, row, &stored),
            _ => false,
        }
    }
}

/// Whether the row, if it stood at this `seq` of the span, had this leaf hash.
pub(super) fn is_leaf(span: &Span, seq: u64, row: &Columns<'_>, stored: &Hash) -> bool {
    let place = seq.checked_sub(span.first).and_then(|place| u32::try_from(place).ok());
    let seed = place.and_then(|place| Seeds::of_root(span.seed?).get(place));
    match (seed, span.committed(seq)) {
        (Some(seed), Some(committed)) => Leaf::of(row, &committed, &seed).hash() == *stored,
        _ => false,
    }
}
