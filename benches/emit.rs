//! What `info!` costs the thread that calls it: accepted in memory, beside a JSON log line through
//! tracing-appender, and beside the encoding alone.
//!
//! Events come in bursts that the queues hold, and what is behind the queues is emptied between bursts, outside
//! of the measurement, so that neither side is slowed by its sink or drops anything.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = "a benchmark")]

mod common;

use std::{
    cell::RefCell,
    fmt::Write as _,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, measurement::WallTime};
use tempfile::TempDir;
use tracing::{
    Dispatch, Event, Subscriber, dispatcher,
    field::{Field, Visit},
    info, info_span, trace,
};
use tracing_audit::{AuditLog, AuditLogBuilder, Store, WhenFull};
use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter, layer::Context, prelude::*, registry};
use uuid::Uuid;

const BURST: u64 = 20_000;

struct Ids(Uuid, Uuid, Uuid);

fn eleven_fields(i: u64, Ids(workspace, session, agent): &Ids) {
    info!(target: "audit", workspace_id = %workspace, session_id = %session, agent_id = %agent,
        action = "document.read", resource = "document", resource_id = i, decision = "Allow", risk_score = 0.12,
        reason = "policy matched", ip = "10.1.2.3", latency_ms = i % 500);
}

fn six_fields(i: u64) {
    info!(target: "audit", action = "document.read", resource = "document", resource_id = i, decision = "Allow",
        risk_score = 0.12, reason = "policy matched");
}

/// A subscriber, and how to empty what is behind it.
struct Subject {
    name: &'static str,
    dispatch: Dispatch,
    settle: Box<dyn Fn()>,
}

fn in_memory(builder: AuditLogBuilder) -> AuditLogBuilder {
    builder.in_memory_queue()
}

fn audit() -> (Subject, TempDir) {
    audit_log("audit", in_memory, |_| ())
}

/// Accepted on disk.
fn journaled() -> (Subject, TempDir) {
    audit_log("audit journaled", |builder| builder, |_| ())
}

/// With somebody who asks for the books a thousand times a second, and for the health a million times.
fn watched() -> (Subject, TempDir) {
    audit_log("audit watched", in_memory, |log| {
        let (writer, watched) = (log.writer(), Arc::new(()));
        let still = Arc::downgrade(&watched);
        std::thread::spawn(move || {
            while still.strong_count() > 0 {
                black_box(writer.stats());
                for _ in 0..1000 {
                    black_box(writer.health());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        watched
    })
}

fn audit_log<T: 'static>(
    name: &'static str,
    configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder,
    beside: impl FnOnce(&AuditLog) -> T,
) -> (Subject, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let builder = AuditLog::builder()
        .store(Store::sqlite(directory.path().join("audit.db")).unwrap())
        .when_full(WhenFull::Reject)
        .commit_timeout(Duration::from_secs(60));
    let log = configure(builder).blocking().open().unwrap();
    let dispatch = Dispatch::new(registry().with(log.layer()));
    let beside = beside(&log);
    let settle = move || {
        let _as_long_as_the_log = &beside;
        log.blocking().flush().unwrap();
        assert_eq!(log.stats().rejected, 0);
    };
    (Subject { name, dispatch, settle: Box::new(settle) }, directory)
}

fn json_line() -> (Subject, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("audit.jsonl")).unwrap();
    let (writer, guard) =
        tracing_appender::non_blocking::NonBlockingBuilder::default().lossy(false).finish(file);
    let dispatch =
        Dispatch::new(registry().with(tracing_subscriber::fmt::layer().json().with_writer(writer)));
    let path = directory.path().join("audit.jsonl");
    let settle = move || {
        let _alive = &guard;
        let size = || std::fs::metadata(&path).unwrap().len();
        let mut before = size();
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = size();
            if now == before {
                break;
            }
            before = now;
        }
    };
    (Subject { name: "fmt json", dispatch, settle: Box::new(settle) }, directory)
}

/// The least that any recording layer does: each field's name and value into a buffer of the thread.
struct EncodeOnly;

thread_local! {
    static ENCODED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(4096));
}

struct Encode<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Encode<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Visit for Encode<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.extend_from_slice(field.name().as_bytes());
        write!(self, "{value:?}").unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.extend_from_slice(field.name().as_bytes());
        self.0.extend_from_slice(value.as_bytes());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.extend_from_slice(field.name().as_bytes());
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.extend_from_slice(field.name().as_bytes());
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

struct Encoded(Vec<u8>);

impl<S: Subscriber + for<'a> registry::LookupSpan<'a>> Layer<S> for EncodeOnly {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Vec::new();
        attributes.record(&mut Encode(&mut fields));
        context.span(id).unwrap().extensions_mut().insert(Encoded(fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        ENCODED.with_borrow_mut(|buffer| {
            buffer.clear();
            for span in context.event_scope(event).into_iter().flatten() {
                buffer.extend_from_slice(&span.extensions().get::<Encoded>().unwrap().0);
            }
            event.record(&mut Encode(buffer));
            black_box(buffer);
        });
    }
}

fn encode_only() -> (Subject, TempDir) {
    let dispatch = Dispatch::new(registry().with(EncodeOnly));
    (Subject { name: "encode only", dispatch, settle: Box::new(|| ()) }, tempfile::tempdir().unwrap())
}

fn bench(
    group: &mut criterion::BenchmarkGroup<'_, WallTime>,
    label: &str,
    subject: &Subject,
    event: impl Fn(u64),
) {
    let name = format!("{}, {label}", subject.name);
    let mut warm = false;
    group.bench_function(&name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let burst = left.min(BURST);
                let start = Instant::now();
                (0..burst).for_each(&event);
                total += start.elapsed();
                (subject.settle)();
                left -= burst;
            }
            // The first sample of each is criterion's warm-up.
            if std::mem::replace(&mut warm, true) && iterations >= 1000 {
                common::note(&name, iterations, total);
            }
            total
        });
    });
}

fn sink<S: Subscriber + for<'a> registry::LookupSpan<'a>>() -> impl Layer<S> {
    tracing_subscriber::fmt::layer().with_writer(std::io::sink)
}

fn disabled(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let log = AuditLog::builder()
        .store(Store::sqlite(directory.path().join("audit.db")).unwrap())
        .blocking()
        .open()
        .unwrap();
    // Made one at a time: callsites are cached for all live subscribers together.
    type Make<'a> = &'a dyn Fn() -> Dispatch;
    let info = || EnvFilter::new("info");
    let warn = || EnvFilter::new("warn");
    let stackings: [(&str, Make<'_>, Make<'_>); 4] = [
        ("alone", &|| Dispatch::new(registry().with(LevelFilter::INFO)), &|| {
            Dispatch::new(registry().with(log.layer()))
        }),
        ("fmt at INFO", &|| Dispatch::new(registry().with(sink().with_filter(LevelFilter::INFO))), &|| {
            Dispatch::new(registry().with(sink().with_filter(LevelFilter::INFO)).with(log.layer()))
        }),
        ("fmt at EnvFilter(info)", &|| Dispatch::new(registry().with(sink().with_filter(info()))), &|| {
            Dispatch::new(registry().with(log.layer()).with(sink().with_filter(info())))
        }),
        ("global EnvFilter(warn)", &|| Dispatch::new(registry().with(warn()).with(sink())), &|| {
            Dispatch::new(registry().with(log.protect(warn())).with(sink()).with(log.layer()))
        }),
    ];
    let mut group = criterion.benchmark_group("a disabled trace!");
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    let mut names = Vec::new();
    for (stacking, without, with) in stackings {
        for (side, make) in [("without", without), ("with", with)] {
            let name = format!("{stacking}, {side}");
            dispatcher::with_default(&make(), || {
                group.bench_function(&name, |bencher| {
                    bencher.iter_custom(|iterations| {
                        let start = Instant::now();
                        (0..iterations).for_each(|_| trace!(target: "other", "x"));
                        let took = start.elapsed();
                        common::note(&name, iterations, took);
                        took
                    });
                });
            });
        }
        names.push((format!("{stacking}, with"), format!("{stacking}, without")));
    }
    group.finish();
    for (with, without) in names {
        common::ratio(&with, &without, "1");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let ids = Ids(Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let mut group = criterion.benchmark_group("emit");
    group.sample_size(30).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    // One at a time: callsites are cached for all live subscribers together.
    for subject in [audit, watched, journaled, json_line, encode_only] {
        let (subject, _directory) = subject();
        dispatcher::with_default(&subject.dispatch, || {
            bench(&mut group, "11 fields", &subject, |i| eleven_fields(i, &ids));
            let Ids(workspace, session, agent) = &ids;
            let span =
                info_span!("request", workspace_id = %workspace, session_id = %session, agent_id = %agent);
            let _entered = span.enter();
            bench(&mut group, "6 fields in a span", &subject, six_fields);
        });
    }
    group.finish();
    common::ratio("audit, 11 fields", "fmt json, 11 fields", "<= 0.20");
    common::ratio("audit, 6 fields in a span", "fmt json, 6 fields in a span", "<= 0.13");
    common::ratio("audit journaled, 11 fields", "fmt json, 11 fields", "<= 0.6");
    common::ratio("audit journaled, 6 fields in a span", "fmt json, 6 fields in a span", "<= 0.4");
    common::ratio("audit watched, 11 fields", "audit, 11 fields", "1: asking for books and health is free");
    common::ratio("audit, 11 fields", "encode only, 11 fields", "what the encoding alone takes");
    common::ratio(
        "audit, 6 fields in a span",
        "encode only, 6 fields in a span",
        "what the encoding alone takes",
    );
    disabled(&mut criterion);
}
