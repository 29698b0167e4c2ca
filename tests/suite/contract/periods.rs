// Ledgers of periods: the switch from one to the next, and reading over it.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt};
use tracing::{Dispatch, dispatcher, info};
use tracing_audit::{
    AuditLogBuilder, AuditQuery, Period, SequencedEntry,
    evidence::Verification,
    reader::{PeriodCursor, PeriodReader},
};
use tracing_subscriber::prelude::*;

use super::{log, log_with};
use crate::support::{
    Fixture, PATIENCE, assert_balanced, balanced, block_on, commit, entry, settle, wait_until,
};

/// A clock that the test sets, and how often it was looked at.
#[derive(Clone)]
struct Clock(Arc<(AtomicI64, AtomicU64)>);

impl Clock {
    fn at(time: &str) -> Self {
        let clock = Self(Arc::default());
        clock.set(time);
        clock
    }

    fn set(&self, time: &str) {
        let time: DateTime<Utc> = time.parse().unwrap();
        self.0.0.store(time.timestamp_micros(), Ordering::SeqCst);
    }

    fn now(&self) -> DateTime<Utc> {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        DateTime::from_timestamp_micros(self.0.0.load(Ordering::SeqCst)).unwrap()
    }

    /// Waits until the log has looked at the time that was set last, and has acted on it.
    fn seen(&self) {
        let looks = self.0.1.load(Ordering::SeqCst);
        wait_until("the clock is looked at", || self.0.1.load(Ordering::SeqCst) > looks + 4);
    }

    fn of(&self, builder: AuditLogBuilder, period: Period) -> AuditLogBuilder {
        let clock = self.clone();
        builder.ledger("payments").period(period).period_clock(move || clock.now())
    }
}

fn names(reader: &PeriodReader) -> Vec<String> {
    block_on(reader.ledgers()).unwrap().into_iter().map(|(name, _)| name).collect()
}

/// Sets the clock, and waits until there is such a ledger.
fn turns(fixture: &Fixture, clock: &Clock, time: &str, ledger: &str) {
    let reader = fixture.log.period_reader().unwrap();
    clock.set(time);
    wait_until("the next period has begun", || names(&reader).last().is_some_and(|last| last == ledger));
    clock.seen();
}

/// The action of each entry, by its ledger and `seq`.
fn places(entries: &[SequencedEntry]) -> Vec<(&str, u64, &str)> {
    entries.iter().map(|found| (&*found.ledger, found.seq, &*found.entry.action)).collect()
}

fn paged(reader: &PeriodReader, query: &AuditQuery, size: u32) -> Vec<SequencedEntry> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let page = block_on(reader.page(query.clone(), cursor, size)).unwrap();
        assert!(page.entries.len() <= size as usize);
        entries.extend(page.entries);
        match page.next {
            // As it comes back from a client.
            Some(next) => cursor = Some(next.to_string().parse::<PeriodCursor>().unwrap()),
            None => return entries,
        }
    }
}

#[test]
fn each_entry_is_in_the_ledger_of_its_period_once_and_all_are_read_as_one() {
    let clock = Clock::at("2026-11-30T23:59:59Z");
    let fixture = log_with(|builder| clock.of(builder, Period::Month));
    let (log, writer) = (&fixture.log, fixture.log.writer());
    let reader = log.period_reader().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(log.layer()));
    let emit = |action: &str| dispatcher::with_default(&dispatch, || info!(target: "audit", action));
    balanced(&writer, || {
        emit("a");
        commit(log, entry("b"));
        turns(&fixture, &clock, "2026-12-01T00:00:00Z", "payments-2026-12");
        assert_eq!(commit(log, entry("c")), 0);
        emit("d");
        // It is set back, also beyond the beginning of what there is.
        for back in ["2026-11-30T23:59:59.999999Z", "1999-01-01T00:00:00Z"] {
            clock.set(back);
            clock.seen();
            emit("e");
        }
        // A month without an entry has no ledger.
        turns(&fixture, &clock, "2027-02-14T12:00:00Z", "payments-2027-02");
        emit("f");
        settle(&writer);
    });
    let expected = [
        ("payments-2026-11", 0, "a"),
        ("payments-2026-11", 1, "b"),
        ("payments-2026-12", 0, "c"),
        ("payments-2026-12", 1, "d"),
        ("payments-2026-12", 2, "e"),
        ("payments-2026-12", 3, "e"),
        ("payments-2027-02", 0, "f"),
    ];
    let all: Vec<_> = block_on(reader.stream(AuditQuery::new()).try_collect()).unwrap();
    assert_eq!(places(&all), expected);
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    let newest = AuditQuery::new().newest_first();
    assert_eq!(block_on(reader.stream(newest.clone()).try_collect::<Vec<_>>()).unwrap(), reversed);
    let first: Vec<_> = block_on(reader.stream(AuditQuery::new().limit(3)).try_collect()).unwrap();
    assert_eq!(first, all[..3]);
    for size in [1, 2, 3, 7, 100] {
        assert_eq!(paged(&reader, &AuditQuery::new(), size), all, "{size}");
        assert_eq!(paged(&reader, &newest, size), reversed, "{size}");
        let some =
            paged(&reader, &AuditQuery::new().any_of(tracing_audit::query::Column::Action, ["b", "e"]), size);
        assert_eq!(places(&some), [expected[1], expected[4], expected[5]], "{size}");
    }
    assert_eq!(block_on(reader.count(AuditQuery::new())).unwrap(), 7);
    let coverage = block_on(reader.coverage(AuditQuery::new(), u64::MAX)).unwrap();
    assert!(coverage.is_whole() && !coverage.lacks(), "{coverage:?}");
    let covered: Vec<_> = coverage.ledgers.iter().map(|one| (&*one.ledger, one.next_seq)).collect();
    assert_eq!(covered, [("payments-2026-11", 2), ("payments-2026-12", 4), ("payments-2027-02", 1)]);
    let newest_two = block_on(reader.coverage(newest.clone(), 2)).unwrap();
    let compared: Vec<_> = newest_two.ledgers.iter().map(|one| one.compared.numbers()).collect();
    assert_eq!((newest_two.is_whole(), compared), (false, vec![1, 1, 0]));
    assert_eq!(log.reader().blocking().count(AuditQuery::new().ledger("payments-2027-02")).unwrap(), 1);

    for (name, one) in block_on(reader.ledgers()).unwrap() {
        let verified = block_on(one.verify(Verification::of_itself())).unwrap();
        assert!(verified.is_intact() && verified.ledger() == name, "{name}: {verified:?}");
    }
    let stats = log.stats();
    assert_balanced(&stats);
    assert_eq!((stats.committed, stats.pending, stats.rejected), (7, 0, 0));
    assert!(log.health().is_healthy());
    let report = log.blocking().shutdown(PATIENCE).unwrap();
    assert_eq!((report.stats.committed, report.stats.pending), (7, 0));
    assert!(writer.try_write(entry("late")).unwrap_err().is_closed());
}

#[test]
fn a_follower_goes_over_the_end_of_a_period_and_goes_on_where_it_was() {
    let clock = Clock::at("2026-12-31T12:00:00Z");
    let fixture = log_with(|builder| clock.of(builder, Period::Day));
    let reader = fixture.log.period_reader().unwrap();
    for action in ["a", "b"] {
        commit(&fixture.log, entry(action));
    }
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut take = |count: usize, between: &dyn Fn()| {
        let found = block_on(async {
            let mut entries = pin!(reader.follow(seen.clone()));
            let mut found = Vec::new();
            while found.len() < count {
                let next = tokio::time::timeout(PATIENCE, entries.next()).await;
                found.push(next.expect("a follower waits for ever").unwrap().unwrap());
                if found.len() == 1 {
                    // On this thread: the follower waits meanwhile.
                    tokio::task::block_in_place(between);
                }
            }
            found
        });
        for one in &found {
            seen.insert(one.ledger.clone(), one.seq + 1);
        }
        found
    };
    let found = take(4, &|| {
        turns(&fixture, &clock, "2027-01-01T00:00:00Z", "payments-2027-01-01");
        for action in ["c", "d"] {
            commit(&fixture.log, entry(action));
        }
    });
    let (before, after) = ("payments-2026-12-31", "payments-2027-01-01");
    assert_eq!(places(&found), [(before, 0, "a"), (before, 1, "b"), (after, 0, "c"), (after, 1, "d")]);
    commit(&fixture.log, entry("e"));
    assert_eq!(places(&take(1, &|| ())), [(after, 2, "e")]);
}

#[test]
fn the_events_of_one_call_of_committed_are_in_one_ledger_whatever_the_clock_does() {
    let clock = Clock::at("2026-12-31T23:00:00Z");
    let fixture = log_with(|builder| clock.of(builder, Period::Year));
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(fixture.log.layer()));
    let emit = |action: &str| dispatcher::with_default(&dispatch, || info!(target: "audit", action));
    let committed = fixture.log.blocking().committed(|| {
        emit("a");
        turns(&fixture, &clock, "2027-01-01T00:00:00Z", "payments-2027");
        emit("b");
    });
    assert_eq!(committed.unwrap(), [0, 1]);
    assert_eq!(fixture.log.blocking().committed(|| emit("c")).unwrap(), [0]);
    let reader = fixture.log.period_reader().unwrap();
    let all: Vec<_> = block_on(reader.stream(AuditQuery::new()).try_collect()).unwrap();
    assert_eq!(
        places(&all),
        [("payments-2026", 0, "a"), ("payments-2026", 1, "b"), ("payments-2027", 0, "c")]
    );
    // The log of the year that is over has ended, and its writer with it.
    wait_until("the last period has ended", || {
        clock.seen();
        fixture.log.stats().pending == 0 && fixture.log.health().is_healthy()
    });
    assert_balanced(&fixture.log.stats());
}

#[test]
fn a_log_without_periods_has_no_reader_of_them() {
    assert!(log().log.period_reader().is_none());
}
