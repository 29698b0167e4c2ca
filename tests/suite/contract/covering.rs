// What an answer covers: holes, entries without a batch, declared losses, silent writers; and a check of the whole log.

use std::time::Duration;

use futures_util::TryStreamExt;
use tracing_audit::{
    AuditQuery, WhenFull,
    reader::{Checked, Coverage, Finding, FindingKind, LedgerCoverage, Page, SeqRange},
};

use super::{log, log_with};
use crate::support::{Fixture, block_on, builder, commit, entry, settle, texts};

/// Twenty batches of three entries or less.
fn filled() -> Fixture {
    let fixture = log();
    for number in 0..60 {
        fixture.log.writer().blocking().write(entry(format!("a{}", number % 4))).unwrap();
        if number % 3 == 2 {
            settle(&fixture.log.writer());
        }
    }
    fixture
}

fn heads(fixture: &Fixture) -> &'static str {
    if fixture.db.starts_with("postgres:") { "tracing_audit_heads" } else { "tracing_audit_head" }
}

fn coverage(fixture: &Fixture, query: &AuditQuery) -> Coverage {
    fixture.log.reader().blocking().coverage(query, u64::MAX).unwrap()
}

fn of_all(fixture: &Fixture) -> LedgerCoverage {
    let mut found = coverage(fixture, &AuditQuery::new());
    assert_eq!(found.altered, Vec::<String>::new());
    found.ledgers.remove(0)
}

/// The kind of each finding, and the numbers that it names.
type Findings = Vec<(FindingKind, Option<(u64, u64)>)>;

fn check(fixture: &Fixture) -> (Checked, Findings) {
    let mut found = Vec::new();
    let tell = |finding: Finding| {
        assert!(finding.message.len() > 10, "{finding:?}");
        found.push((finding.kind, finding.range.map(|range| (range.from_seq, range.before_seq))));
    };
    let checked = fixture.log.reader().blocking().check(tell).unwrap();
    assert_eq!(checked.findings, found.len() as u64);
    (checked, found)
}

fn bounds(range: &SeqRange) -> (u64, u64) {
    (range.from_seq, range.before_seq)
}

fn holes(found: &LedgerCoverage) -> Vec<(u64, u64)> {
    found.holes.iter().map(|hole| bounds(&hole.range)).collect()
}

#[test]
fn a_whole_log_lacks_nothing_and_says_what_was_looked_at() {
    let fixture = filled();
    let found = of_all(&fixture);
    assert!(!found.lacks() && found.is_whole(), "{found:?}");
    assert_eq!((bounds(&found.asked), found.next_seq, found.matching), ((0, 60), 60, Some(60)));
    assert_eq!((found.quarantined, found.declared_gaps, found.declared_losses), (Some(0), 0, 0));
    assert!(found.last_committed_at.is_some() && found.greatest_lag_micros.is_some(), "{found:?}");
    assert_eq!(found.silent_writers.as_deref(), Some(&[][..]));
    assert_eq!(found.to_string().split(';').next(), Some("seq 0 to 59 of 60"));
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<LedgerCoverage>(&json).unwrap(), found);

    let part = coverage(&fixture, &AuditQuery::new().from_seq(7).before_seq(12)).ledgers.remove(0);
    assert_eq!((bounds(&part.asked), part.matching, part.lacks()), ((7, 12), Some(5), false));
    // A condition leaves open how many match; a bound on the numbers, what was compared.
    assert_eq!(coverage(&fixture, &AuditQuery::new().action("a1")).ledgers[0].matching, None);
    let few = |query: AuditQuery| fixture.log.reader().blocking().coverage(query, 10).unwrap();
    for (query, compared) in [(AuditQuery::new(), (0, 10)), (AuditQuery::new().newest_first(), (50, 60))] {
        let found = few(query);
        assert_eq!((bounds(&found.ledgers[0].compared), found.is_whole()), (compared, false));
        assert!(found.ledgers[0].to_string().contains("50 of them not compared"), "{}", found.ledgers[0]);
    }
    assert_eq!(coverage(&fixture, &AuditQuery::new().ledger("no such")).ledgers, []);

    let (checked, findings) = check(&fixture);
    assert_eq!((checked.ledgers, checked.entries, findings), (1, 60, vec![]));
    assert!(checked.batches >= 20, "{checked:?}");
}

/// Changes the log, looks, and changes it back.
#[track_caller]
fn changed(fixture: &Fixture, change: &str, back: &str) -> (Coverage, Findings) {
    fixture.run(change);
    let found = coverage(fixture, &AuditQuery::new());
    let (_, findings) = check(fixture);
    fixture.run(back);
    assert!(!of_all(fixture).lacks(), "{change}");
    assert_eq!(check(fixture).1, [], "{change}");
    (found, findings)
}

#[test]
fn every_change_of_entries_batches_and_heads_is_found_and_named() {
    let fixture = filled();
    let heads = heads(&fixture);
    let found = |change: &str, back: &str| {
        let (mut found, findings) = changed(&fixture, change, back);
        assert!(found.lacks(), "{change}: {found:?}");
        assert_eq!(found.altered, Vec::<String>::new());
        (found.ledgers.remove(0), findings)
    };
    let moved = |from: i64, to: i64| format!("UPDATE tracing_audit_entries SET seq = {to} WHERE seq = {from}");

    // Another number: a hole, and an entry where none can be.
    for to in [-1, 60, 1 << 40] {
        let (found, findings) = found(&moved(13, to), &moved(to, 13));
        assert_eq!((holes(&found), found.missing, found.outside), (vec![(13, 14)], 1, 1));
        assert_eq!(findings, [(FindingKind::Missing, Some((13, 14))), (FindingKind::Outside, None)]);
    }
    // The head raised, also far beyond what anybody could look through.
    for by in [5, 100, 1 << 60] {
        let change = format!("UPDATE {heads} SET next_seq = next_seq + {by}");
        let (found, findings) = found(&change, &format!("UPDATE {heads} SET next_seq = next_seq - {by}"));
        assert_eq!((holes(&found), found.missing), (vec![(60, 60 + by)], by));
        assert_eq!(findings, [(FindingKind::Missing, Some((60, 60 + by)))]);
    }
    // The head lowered.
    let lowered = format!("UPDATE {heads} SET next_seq = next_seq - 5");
    let (of_lowered, findings) = found(&lowered, &format!("UPDATE {heads} SET next_seq = next_seq + 5"));
    assert_eq!((of_lowered.head_was, of_lowered.next_seq), (Some(60), 55));
    assert!(of_lowered.outside > 5, "{of_lowered:?}");
    assert!(
        findings.contains(&(FindingKind::Outside, None)) && findings.contains(&(FindingKind::Head, None))
    );
    // A batch that holds fewer or more than it did, or begins elsewhere.
    let batches = "UPDATE tracing_audit_batches SET";
    let batch: u64 = texts(
        &fixture.db,
        "SELECT CAST(max(first_seq) AS varchar(20)) FROM tracing_audit_batches WHERE first_seq BETWEEN 20 AND 30 AND entries > 1",
    )[0]
    .parse()
    .unwrap();
    let at = format!("WHERE first_seq = {batch}");
    let (fewer, findings) = found(
        &format!("{batches} entries = entries - 1 {at}"),
        &format!("{batches} entries = entries + 1 {at}"),
    );
    assert_eq!((fewer.uncovered_entries, fewer.missing), (1, 0));
    let lost = bounds(&fewer.uncovered[0]);
    // Its leaf hashes are as many as before.
    let unlike = (FindingKind::Batch, Some((batch, batch + 1)));
    assert_eq!(findings, [(FindingKind::NoBatch, Some(lost)), unlike]);
    let (more, findings) = found(
        &format!("{batches} entries = entries + 1 {at}"),
        &format!("{batches} entries = entries - 1 {at}"),
    );
    assert_eq!((more.uncovered_entries, more.faulty_batches.len()), (0, 1));
    assert_eq!(findings[0].0, FindingKind::Batch);
    // Times. The entries are all there.
    let year = |sign: &str| {
        if fixture.db.starts_with("postgres:") {
            format!("{sign} interval '400 days'")
        } else {
            format!("{sign} 34560000000000")
        }
    };
    let of_entry = |sign: &str| format!("UPDATE tracing_audit_entries SET ts = ts {} WHERE seq = 15", year(sign));
    let (timed, findings) = changed(&fixture, &of_entry("+"), &of_entry("-"));
    assert_eq!((timed.lacks(), findings), (true, vec![(FindingKind::Time, Some((15, 16)))]));
    assert_eq!(bounds(&timed.ledgers[0].untimely[0]), (15, 16));
    let of_batch = |sign: &str| format!("{batches} committed_at = committed_at {} {at}", year(sign));
    let (_, findings) = changed(&fixture, &of_batch("-"), &of_batch("+"));
    assert_eq!(findings, [(FindingKind::Clock, Some((batch, batch + 1)))]);
}

#[test]
fn every_read_ends_whatever_number_a_head_or_an_entry_has() {
    let fixture = filled();
    let heads = heads(&fixture);
    let reader = fixture.log.reader();
    let first = fixture.entries().swap_remove(0).entry;
    let (workspace, begin) = (first.workspace_id, first.ts - chrono::TimeDelta::days(1));
    // No index serves these, so that they look through the ledger part by part.
    let queries = || [AuditQuery::new(), AuditQuery::new().newest_first()].map(|query| query.action("a1"));
    let far = [i64::MAX, 1 << 62, i64::MIN].map(|head| {
        let other = "UPDATE tracing_audit_entries SET seq = 4611686018427387000 WHERE seq = 13";
        [format!("UPDATE {heads} SET next_seq = {head}"), other.to_owned()]
    });
    for change in far.iter().flatten() {
        fixture.run(change);
        for query in queries() {
            let streamed = block_on(reader.stream(query.clone()).try_collect::<Vec<_>>()).unwrap();
            assert_eq!(streamed.len(), 15, "{change}");
            let page = block_on(reader.page(query.clone(), None, 100)).unwrap();
            assert_eq!(page.entries.len(), 15, "{change}");
            assert_eq!(block_on(reader.count(query)).unwrap(), 15, "{change}");
        }
    }
    // One of the indexes that every log has serves these.
    fixture.run(&format!("UPDATE {heads} SET next_seq = 60"));
    let mut at = 4_611_686_018_427_387_000;
    for seq in [i64::MAX, i64::MIN, -1] {
        fixture.run(&format!("UPDATE tracing_audit_entries SET seq = {seq} WHERE seq = {at}"));
        at = seq;
        let query = AuditQuery::new().workspace_id(workspace);
        for query in [query.clone(), query.newest_first()] {
            let found = block_on(reader.stream_by_time(&query).try_collect::<Vec<_>>()).unwrap();
            assert!(found.len() >= 59 && block_on(reader.count(&query)).unwrap() >= 59, "{seq}: {}", found.len());
            assert!(coverage(&fixture, &query).lacks(), "{seq}");
        }
    }
    for count in [i64::MAX, i64::MIN] {
        fixture.run(&format!("UPDATE tracing_audit_batches SET entries = {count} WHERE first_seq >= 30"));
        for query in [AuditQuery::new().since(begin), AuditQuery::new().since(begin).newest_first().action("a1")] {
            block_on(reader.stream_by_time(&query).try_collect::<Vec<_>>()).unwrap();
            block_on(reader.page(&query, None, 10)).unwrap();
            block_on(reader.count(&query)).unwrap();
            assert!(coverage(&fixture, &query).lacks(), "{count}");
        }
    }
}

#[test]
fn a_deleted_row_is_a_hole_for_every_question_that_it_could_answer_and_for_no_other() {
    let fixture = filled();
    let entries = fixture.entries();
    let first_of_batch: u64 = texts(
        &fixture.db,
        "SELECT CAST(min(first_seq) AS varchar(20)) FROM tracing_audit_batches WHERE first_seq >= 40",
    )[0]
    .parse()
    .unwrap();
    fixture.run("DELETE FROM tracing_audit_entries WHERE seq IN (10, 11, 25)");
    fixture.run(&format!("DELETE FROM tracing_audit_batches WHERE first_seq = {first_of_batch}"));
    let found = of_all(&fixture);
    assert_eq!((holes(&found), found.missing, found.matching), (vec![(10, 12), (25, 26)], 3, Some(57)));
    assert_eq!(found.uncovered.len(), 1);
    let (first, end) = bounds(&found.uncovered[0]);
    assert!(first == first_of_batch && end > first && found.uncovered_entries == end - first, "{found:?}");
    let line = found.to_string();
    assert!(line.contains("; 3 missing (seq 10 to 11, 25); ") && line.contains(" in no batch (seq "), "{line}");

    let lacks = |query: AuditQuery| coverage(&fixture, &query).lacks();
    let all = AuditQuery::new;
    assert!(lacks(all().from_seq(11).before_seq(20)) && lacks(all().action("a1").before_seq(26)));
    assert!(!lacks(all().from_seq(12).before_seq(25)) && !lacks(all().from_seq(end)));
    // By time, of `ts` and of the commit: also where nothing is left that has the time.
    for (seq, expected) in [(10_u64, true), (first, true), (5, false), (33, false), (55, false)] {
        let at = &entries[usize::try_from(seq).unwrap()];
        assert_eq!(lacks(all().since(at.entry.ts).until(at.entry.ts)), expected, "{seq}");
        assert_eq!(lacks(all().since(at.entry.ts)), expected || seq < 33 || seq == 33, "{seq}");
    }
    let (since, until) = (entries[0].entry.ts, entries[5].entry.ts);
    assert!(!lacks(all().since(since).until(until)) && !lacks(all().before(since)));

    // Pages: each says what it covers, and all of them together cover all.
    let reader = fixture.log.reader();
    let reader = reader.blocking();
    for query in [all(), all().newest_first(), all().action("a2")] {
        let (mut cursor, mut lacking, mut covered) = (None, 0, 0);
        loop {
            let page: Page = reader.page(&query, cursor, 7).unwrap();
            let of_page = reader.page_coverage(&query, &page).unwrap();
            assert!(of_page.is_whole());
            lacking += of_page.ledgers[0].missing;
            covered += of_page.ledgers[0].asked.numbers();
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!((lacking, covered), (3, 60), "{query:?}");
    }
}

#[test]
fn a_view_in_the_place_of_a_table_and_a_trigger_are_named() {
    let fixture = filled();
    let away = "ALTER TABLE tracing_audit_entries RENAME TO hidden;
                CREATE VIEW tracing_audit_entries AS SELECT * FROM hidden WHERE seq <> 20";
    fixture.run(away);
    let found = coverage(&fixture, &AuditQuery::new());
    assert!(found.lacks() && found.altered.len() == 1, "{found:?}");
    assert!(found.altered[0].contains("view stands in the place of the table"), "{found:?}");
    assert_eq!(found.ledgers, []);
    assert!(coverage(&fixture, &AuditQuery::new().from_seq(30)).lacks());
    let (checked, findings) = check(&fixture);
    assert!(checked.ledgers == 0 && findings.iter().any(|(kind, _)| *kind == FindingKind::Schema), "{findings:?}");
    // Nothing is read through it.
    let reader = fixture.log.reader();
    let error = block_on(reader.count(AuditQuery::new())).unwrap_err();
    assert!(error.is_altered() && error.to_string().contains("stands in the place of the table"), "{error}");
    assert!(block_on(reader.page(AuditQuery::new(), None, 10)).unwrap_err().is_altered());
    assert!(block_on(reader.stream(AuditQuery::new()).try_collect::<Vec<_>>()).unwrap_err().is_altered());
    assert!(block_on(reader.ledgers()).unwrap_err().is_altered());
    fixture.run("DROP VIEW tracing_audit_entries; ALTER TABLE hidden RENAME TO tracing_audit_entries");
    assert!(!coverage(&fixture, &AuditQuery::new()).lacks());
    assert_eq!(check(&fixture).1, []);

    let (trigger, drop) = if fixture.db.starts_with("postgres:") {
        (
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER meddler BEFORE INSERT ON tracing_audit_batches FOR EACH ROW EXECUTE FUNCTION nothing()",
            "DROP TRIGGER meddler ON tracing_audit_batches",
        )
    } else {
        (
            "CREATE TRIGGER meddler AFTER INSERT ON tracing_audit_batches BEGIN SELECT 1; END",
            "DROP TRIGGER meddler",
        )
    };
    let (found, findings) = changed(&fixture, trigger, drop);
    assert!(!found.lacks());
    assert_eq!(findings, [(FindingKind::Schema, None)]);
    let unique = "CREATE UNIQUE INDEX odd ON tracing_audit_quarantine (writer)";
    assert_eq!(changed(&fixture, unique, "DROP INDEX odd").1.len(), 1);
    // Any index of somebody else's costs time at each commit, and one on an expression can refuse entries.
    let plain = "CREATE INDEX odd ON tracing_audit_batches (writer)";
    assert_eq!(changed(&fixture, plain, "DROP INDEX odd").1, [(FindingKind::Schema, None)]);
    let on = if fixture.db.starts_with("postgres:") {
        "(1 / CASE WHEN action LIKE 'audit.%' THEN 0 ELSE 1 END)"
    } else {
        "abs(-9223372036854775807 - (action LIKE 'audit.%'))"
    };
    let named = if fixture.db.starts_with("postgres:") { "odd" } else { "tracing_audit_by_session_id" };
    let (_, findings) = changed(
        &fixture,
        &format!("CREATE INDEX {named} ON tracing_audit_entries ({on})"),
        &format!("DROP INDEX {named}"),
    );
    assert!(!findings.is_empty() && findings.iter().all(|(kind, _)| *kind == FindingKind::Schema), "{findings:?}");
}

#[test]
fn what_is_added_to_the_tables_is_named_and_not_evaluated() {
    let fixture = filled();
    let added: &[&str] = if fixture.db.starts_with("postgres:") {
        &[
            "ALTER TABLE tracing_audit_entries ADD COLUMN g text GENERATED ALWAYS AS (upper(action)) STORED",
            "ALTER TABLE tracing_audit_entries ADD CONSTRAINT odd CHECK (action NOT LIKE 'audit.%')",
            "ALTER TABLE tracing_audit_batches ADD CONSTRAINT odd CHECK (entries < 100)",
        ]
    } else {
        // Each row would take a hundred megabytes.
        &["ALTER TABLE tracing_audit_entries ADD COLUMN g text AS (printf('%.*c', 100000000, 'x')) VIRTUAL"]
    };
    for (number, sql) in added.iter().enumerate() {
        fixture.run(sql);
        let (checked, findings) = check(&fixture);
        assert!(findings.len() > number && checked.entries == 60, "{sql}: {findings:?}");
        assert!(findings.iter().all(|(kind, _)| *kind == FindingKind::Schema), "{sql}: {findings:?}");
    }
}

#[test]
fn entries_that_the_times_of_their_batches_hide_are_missed_by_no_question_without_a_word() {
    let fixture = filled();
    let postgres = fixture.db.starts_with("postgres:");
    let time = |micros: i64| {
        if postgres { format!("to_timestamp({micros} / 1000000.0)") } else { micros.to_string() }
    };
    let entries = fixture.entries();
    let (begin, end) = (entries[0].entry.ts, entries[59].entry.ts);
    let (first, year) = (begin.timestamp_micros(), 31_557_600_000_000);
    let all = AuditQuery::new;
    let queries = [
        all(),
        all().newest_first(),
        all().since(begin).until(end),
        all().since(begin).newest_first(),
        all().until(end),
        all().action("a1").since(entries[20].entry.ts).until(entries[39].entry.ts),
    ];
    fixture.run("CREATE TABLE saved AS SELECT * FROM tracing_audit_batches");
    let back = "DELETE FROM tracing_audit_batches; INSERT INTO tracing_audit_batches SELECT * FROM saved";
    let reader = fixture.log.reader();
    let reader = reader.blocking();
    let places = ["first_seq BETWEEN 20 AND 39", "first_seq >= 0", "first_seq >= 55"];
    for (least, greatest) in [(1, 2), (first - 10, first - 5), (first + 80 * year, first + 90 * year)] {
        for place in places {
            let (least, greatest) = (time(least), time(greatest));
            fixture.run(&format!(
                "UPDATE tracing_audit_batches SET least_ts = {least}, greatest_ts = {greatest} WHERE {place}"
            ));
            for query in &queries {
                for found in [coverage(&fixture, query), reader.coverage_with(query, 1_000_000, 10_000).unwrap()] {
                    assert!(found.lacks() && found.ledgers[0].untimely_entries > 0, "{least} {place} {query:?}: {found:?}");
                    assert!(found.ledgers[0].to_string().contains("with a time outside of their batch"), "{found:?}");
                }
            }
            fixture.run(back);
            assert!(queries.iter().all(|query| !coverage(&fixture, query).lacks()), "{least} {place}");
        }
    }
    // By the time of the commit.
    let queries = [all().committed_since(begin), all().committed_before(end), all().committed_since(end).newest_first()];
    for committed in [1, first - year, first + 900 * year] {
        for place in places {
            fixture.run(&format!(
                "UPDATE tracing_audit_batches SET committed_at = {} WHERE {place}",
                time(committed)
            ));
            for query in &queries {
                let found = coverage(&fixture, query);
                assert!(found.lacks() && !found.ledgers[0].misdated_batches.is_empty(), "{committed} {place} {query:?}: {found:?}");
            }
            assert!(check(&fixture).1.iter().any(|(kind, _)| *kind == FindingKind::Clock), "{committed} {place}");
            fixture.run(back);
            assert!(queries.iter().all(|query| !coverage(&fixture, query).lacks()), "{committed} {place}");
        }
    }
}

#[test]
fn what_the_log_has_declared_is_counted_and_what_others_say_is_not() {
    let fixture = log();
    let writer = fixture.log.writer();
    commit(&fixture.log, entry("before"));
    // Somebody who wants to be taken for the log.
    commit(&fixture.log, entry("audit.gap"));
    let small = builder(fixture.store()).in_memory_queue().queue_max_entries(1).queue_max_bytes(1 << 20);
    let small = small.when_full(WhenFull::Reject).on_notice(|_| {}).blocking().open().unwrap();
    for _ in 0..50 {
        drop(small.writer().try_write(entry("some are too many")));
    }
    let rejected = small.blocking().shutdown(Duration::from_mins(3)).unwrap().stats.rejected;
    assert!(rejected > 0);
    let found = of_all(&fixture);
    assert_eq!((found.declared_losses, found.declared_gaps > 0), (rejected, true), "{found:?}");
    let before = found.last_committed_at.unwrap() - chrono::TimeDelta::days(1);
    let of = |query: AuditQuery| coverage(&fixture, &query).ledgers.remove(0).declared_losses;
    assert_eq!((of(AuditQuery::new().since(before)), of(AuditQuery::new().before(before))), (rejected, 0));
    assert_eq!(of(AuditQuery::new().before_seq(2)), 0);

    // Rows that go from the end are told by the next commit. From then on, their numbers are a hole that is declared.
    let last = commit(&fixture.log, entry("last"));
    fixture.run(&format!("DELETE FROM tracing_audit_entries WHERE seq >= {}", last - 1));
    assert_eq!((of_all(&fixture).missing, of_all(&fixture).lacks()), (2, true));
    commit(&fixture.log, entry("after"));
    settle(&writer);
    let found = of_all(&fixture);
    assert_eq!((found.missing, found.missing_as_declared, found.lacks()), (0, 2, false), "{found:?}");
    assert!(found.holes.iter().all(|hole| hole.declared), "{found:?}");
    assert_eq!(check(&fixture).1, [(FindingKind::Missing, Some((last - 1, last + 1)))]);
}

#[test]
fn a_writer_is_silent_that_has_accepted_entries_which_are_not_committed_whatever_is_asked_for() {
    let fixture = log_with(|builder| builder.on_notice(|_| {}));
    let silent = || {
        let of = AuditQuery::new;
        let queries = [of(), of().from_seq(1), of().from_seq(2), of().before_seq(1), of().before(chrono::Utc::now())];
        let found = queries.map(|query| {
            let silent = coverage(&fixture, &query).ledgers.remove(0).silent_writers.unwrap();
            silent.into_iter().map(|silent| silent.writer).collect::<Vec<_>>()
        });
        assert!(found.iter().all(|silent| *silent == found[0]), "{found:?}");
        found[0].clone()
    };
    commit(&fixture.log, entry("a"));
    let other = builder(fixture.store()).in_memory_queue().queue_max_entries(10).queue_max_bytes(1 << 20);
    let other = other.blocking().open().unwrap();
    commit(&other, entry("b"));
    // An hour later nothing has happened.
    let hour = if fixture.db.starts_with("postgres:") { "interval '1 hour'" } else { "3600000000" };
    fixture.run(&format!("UPDATE tracing_audit_writers SET said_at = said_at - {hour}"));
    assert!(silent().is_empty());
    let of_other = "writer = (SELECT writer FROM tracing_audit_batches WHERE first_seq = 1)";
    fixture.run(&format!("UPDATE tracing_audit_writers SET accepted = accepted + 3 WHERE {of_other}"));
    assert_eq!(silent().len(), 1);
    fixture.run(&format!("UPDATE tracing_audit_writers SET said_at = said_at + {hour} + {hour}"));
    assert!(silent().is_empty());
    fixture.run(&format!("UPDATE tracing_audit_writers SET said_at = said_at - {hour} - {hour}, ended_at = said_at"));
    assert!(silent().is_empty());
    drop(block_on(other.shutdown(Duration::from_mins(3))).unwrap());
}

#[test]
fn an_end_that_was_cut_off_and_a_tree_that_is_not_what_the_head_says_are_found() {
    use FindingKind::{Batch, Head, Schema, Tree};
    let fixture = log();
    for _ in 0..3 {
        (0..100).for_each(|_| fixture.log.writer().try_write(entry("a")).unwrap());
        settle(&fixture.log.writer());
    }
    let (heads, postgres) = (heads(&fixture), fixture.db.starts_with("postgres:"));
    let tables = [
        "tracing_audit_entries",
        "tracing_audit_batches",
        heads,
        "tracing_audit_leaves",
        "tracing_audit_nodes",
        "tracing_audit_writers",
        "tracing_audit_migrations",
    ];
    let each = |sql: &str| tables.iter().map(|table| sql.replace('#', table)).collect::<String>();
    fixture.run(&each("CREATE TABLE saved_# AS SELECT * FROM #;"));
    let back = each("DELETE FROM #; INSERT INTO # SELECT * FROM saved_#;");
    let number = |sql: &'static str| texts(&fixture.db, sql)[0].parse::<i64>().unwrap();
    let cut = number("SELECT CAST(max(first_seq) AS varchar(20)) FROM tracing_audit_batches");
    let batch = number("SELECT CAST(max(first_seq) AS varchar(20)) FROM tracing_audit_batches WHERE entries > 1");
    assert!(cut > 0 && cut < 300);
    let (ledger, nothing) = if postgres { ("ledger, ", "''") } else { ("", "x''") };
    let rest = "entries, writer, position, committed_at, least_ts, greatest_ts";
    let cut_off = format!(
        "DELETE FROM tracing_audit_entries WHERE seq >= {cut}; DELETE FROM tracing_audit_batches WHERE first_seq >= {cut};
         UPDATE {heads} SET next_seq = {cut}, given = {cut};"
    );
    let lowered = format!("UPDATE tracing_audit_writers SET next_seq = {cut};");
    let felled = format!("DELETE FROM tracing_audit_leaves WHERE first_seq >= {cut}; UPDATE {heads} SET tree_size = {cut}, frontier = {nothing};");
    // What is changed, what is found by it, and whether an answer may lack entries.
    for (change, kinds, lacks) in [
        (cut_off.clone(), &[Head, Tree][..], true),
        (format!("{cut_off} {lowered}"), &[Head, Tree], true),
        (format!("{cut_off} {felled}"), &[Head, Tree], true),
        // Only the position of the writer knows.
        (format!("{cut_off} {felled} {lowered}"), &[Head, Tree], false),
        ("DELETE FROM tracing_audit_leaves; DELETE FROM tracing_audit_nodes".to_owned(), &[Tree, Batch], false),
        ("DELETE FROM tracing_audit_nodes".to_owned(), &[Tree], false),
        (format!("UPDATE {heads} SET tree_size = tree_size - 1"), &[Tree], false),
        (format!("UPDATE {heads} SET tree_size = tree_size + 1"), &[Head, Tree], true),
        (format!("UPDATE {heads} SET frontier = {nothing}"), &[Tree], false),
        (format!("UPDATE {heads} SET log_id = NULL"), &[Tree], false),
        (
            format!(
                "UPDATE tracing_audit_batches SET entries = entries - 1 WHERE first_seq = {batch};
                 INSERT INTO tracing_audit_batches ({ledger}first_seq, {rest})
                     SELECT {ledger}first_seq + entries, 1, writer, position, committed_at, least_ts, greatest_ts
                     FROM tracing_audit_batches WHERE first_seq = {batch}"
            ),
            &[Batch],
            false,
        ),
        (
            format!(
                "INSERT INTO tracing_audit_batches ({ledger}first_seq, {rest})
                     SELECT {ledger}-100, {rest} FROM tracing_audit_batches WHERE first_seq = {batch}"
            ),
            &[Batch],
            true,
        ),
        (
            "INSERT INTO tracing_audit_migrations (version, applied_at)
                 SELECT 99, applied_at FROM tracing_audit_migrations WHERE version = 1"
                .to_owned(),
            &[Schema],
            false,
        ),
        (
            "INSERT INTO tracing_audit_migrations (version, applied_at)
                 SELECT -9223372036854775808, applied_at FROM tracing_audit_migrations WHERE version = 1"
                .to_owned(),
            &[Schema],
            false,
        ),
        ("DELETE FROM tracing_audit_migrations WHERE version = 2".to_owned(), &[Schema], false),
    ] {
        let (found, findings) = changed(&fixture, &change, &back);
        for kind in kinds {
            assert!(findings.iter().any(|(found, _)| found == kind), "{change}: {kind:?} {findings:?}");
        }
        assert_eq!(found.lacks(), lacks, "{change}: {found:?}");
        if change.starts_with(&cut_off) && lacks {
            assert_eq!(found.ledgers[0].head_was, Some(300), "{change}");
        }
    }
}
