//! In every stacking of subscribers an audit event and its span context arrive, or `check_wiring` says why not.
//!
//! Each stacking is the global subscriber of a process of its own: `set_default` hides what the global default
//! shows, and callsites are cached for all live subscribers of a process together.

use tracing::{Level, Subscriber, debug, enabled, info, info_span};
use tracing_audit::{AuditLog, not_audit};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter},
    prelude::*,
    registry, reload,
};

use crate::support::{self, this_test};

const EVENTS: u64 = 100;

fn sink<S: Subscriber + for<'a> registry::LookupSpan<'a>>() -> impl Layer<S> {
    tracing_subscriber::fmt::layer().with_writer(std::io::sink)
}

/// The questions of sqlx's query logger on the caller's thread, which make an obvious filter lose the next event.
fn ask_as_sqlx_does() {
    let _ = enabled!(target: "sqlx::query", Level::INFO);
    let _ = enabled!(target: "sqlx::query", Level::DEBUG);
}

fn every_event_arrives(test: &str, install: impl FnOnce(&AuditLog)) {
    support::in_own_process(test, || {
        let fixture = support::log();
        install(&fixture.log);
        let report = fixture.log.check_wiring().unwrap();
        assert_eq!(report.near_misses, Vec::<String>::new());
        ask_as_sqlx_does();
        for i in 0..EVENTS {
            let span = info_span!("request", request_id = i, secret = "never taken from a span");
            let _entered = span.enter();
            ask_as_sqlx_does();
            debug!(target: "elsewhere", "something else");
            assert!(
                enabled!(target: "audit", Level::INFO),
                "an event guarded by this question would be lost"
            );
            info!(target: "audit", action = "a", n = i, asked = { ask_as_sqlx_does(); true });
            ask_as_sqlx_does();
        }
        let entries = fixture.entries();
        let numbers = |name: &str| -> Vec<Option<u64>> {
            entries.iter().map(|found| support::metadata(&found.entry).get(name)?.as_u64()).collect()
        };
        let expected: Vec<Option<u64>> = (0..EVENTS).map(Some).collect();
        assert_eq!(numbers("n"), expected, "events");
        assert_eq!(numbers("request_id"), expected, "context from spans");
        assert!(entries.iter().all(|found| !support::metadata(&found.entry).contains_key("secret")));
        assert_eq!(fixture.log.stats().offered, EVENTS, "the canary is not counted");
    });
}

fn check_wiring_says(test: &str, reason: &str, install: impl FnOnce(&AuditLog)) {
    support::in_own_process(test, || {
        let fixture = support::log();
        install(&fixture.log);
        let error = fixture.log.check_wiring().unwrap_err();
        assert!(error.is_wiring());
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(fixture.log.stats().offered, 0, "the canary is not counted");
    });
}

macro_rules! arrives {
    ($($name:ident: |$audit:ident| $install:expr;)*) => {$(
        #[test]
        fn $name() {
            every_event_arrives(this_test!(), |$audit| $install);
        }
    )*};
}

macro_rules! is_reported {
    ($($name:ident, $reason:literal: |$audit:ident| $install:expr;)*) => {$(
        #[test]
        fn $name() {
            check_wiring_says(this_test!(), $reason, |$audit| $install);
        }
    )*};
}

arrives! {
    alone: |audit| registry().with(audit.layer()).init();
    after_plain_fmt: |audit| registry().with(sink()).with(audit.layer()).init();
    before_plain_fmt: |audit| registry().with(audit.layer()).with(sink()).init();
    after_fmt_at_info: |audit| registry().with(sink().with_filter(LevelFilter::INFO)).with(audit.layer()).init();
    before_fmt_at_info: |audit| registry().with(audit.layer()).with(sink().with_filter(LevelFilter::INFO)).init();
    after_fmt_at_debug: |audit| registry().with(sink().with_filter(LevelFilter::DEBUG)).with(audit.layer()).init();
    before_fmt_at_debug: |audit| registry().with(audit.layer()).with(sink().with_filter(LevelFilter::DEBUG)).init();
    beside_an_env_filter_on_fmt:
        |audit| registry().with(sink().with_filter(EnvFilter::new("warn,sqlx=debug"))).with(audit.layer()).init();
    between_two_filtered_layers: |audit| registry()
        .with(sink().with_filter(EnvFilter::new("warn")))
        .with(audit.layer())
        .with(sink().with_filter(LevelFilter::TRACE))
        .init();
    beside_a_layer_that_is_none: |audit| registry()
        .with(None::<tracing_subscriber::fmt::Layer<_>>)
        .with(audit.layer())
        .with(None::<LevelFilter>)
        .init();
    beside_not_audit: |audit| registry().with(sink().with_filter(not_audit())).with(audit.layer()).init();
    beside_an_env_filter_and_not_audit: |audit| registry()
        .with(sink().with_filter(EnvFilter::new("info,sqlx=warn").and(audit.not_audit())))
        .with(audit.layer())
        .init();
    beside_a_reloaded_filter_on_fmt: |audit| {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
        registry().with(sink().with_filter(filter)).with(audit.layer()).init();
        handle.reload(EnvFilter::new("error")).unwrap();
    };
    in_a_boxed_vec: |audit| {
        let layers: Vec<Box<dyn Layer<_> + Send + Sync>> =
            vec![sink().with_filter(LevelFilter::DEBUG).boxed(), audit.layer().boxed()];
        registry().with(layers).init();
    };
    beside_a_boxed_vec_of_plain_layers: |audit| {
        let layers: Vec<Box<dyn Layer<_> + Send + Sync>> = vec![sink().boxed(), sink().boxed()];
        registry().with(layers).with(audit.layer()).init();
    };
    under_a_global_filter_that_lets_it_through:
        |audit| registry().with(EnvFilter::new("info,sqlx=warn")).with(sink()).with(audit.layer()).init();
    protected_from_a_global_warn:
        |audit| registry().with(audit.protect(EnvFilter::new("warn"))).with(sink()).with(audit.layer()).init();
    protected_from_a_global_off:
        |audit| registry().with(audit.protect(EnvFilter::new("off"))).with(sink()).with(audit.layer()).init();
    protected_from_a_global_level:
        |audit| registry().with(audit.layer()).with(audit.protect(LevelFilter::ERROR)).with(sink()).init();
    protecting_a_filter_that_is_none: |audit| {
        registry().with(audit.protect(None::<EnvFilter>)).with(sink()).with(audit.layer()).init();
        assert!(enabled!(Level::TRACE), "nothing is hidden from other layers");
    };
    protected_from_a_filter_by_span:
        |audit| registry().with(audit.protect(EnvFilter::new("warn,[request]=debug"))).with(audit.layer()).init();
    protected_from_a_reload_to_warn: |audit| {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
        registry().with(audit.protect(filter)).with(sink()).with(audit.layer()).init();
        handle.reload(EnvFilter::new("warn")).unwrap();
    };
}

is_reported! {
    no_subscriber, "no subscriber is installed": |_audit| ();
    no_layer, "does not have this log's layer": |_audit| registry().with(sink()).init();
    the_layer_of_another_subscriber, "belongs to another subscriber": |audit| {
        drop(registry().with(audit.layer()));
        registry().with(sink()).init();
    };
    a_global_warn, "something beside this log's layer disables":
        |audit| registry().with(EnvFilter::new("warn")).with(sink()).with(audit.layer()).init();
    a_global_off, "something beside this log's layer disables":
        |audit| registry().with(EnvFilter::new("off")).with(sink()).with(audit.layer()).init();
    a_global_warn_around_it, "something beside this log's layer disables":
        |audit| registry().with(audit.layer()).with(EnvFilter::new("warn")).init();
    a_global_filter_by_target, "something beside this log's layer disables":
        |audit| registry().with(EnvFilter::new("warn,elsewhere=info")).with(audit.layer()).init();
    a_global_filter_that_takes_the_spans, "the spans around them do not":
        |audit| registry().with(EnvFilter::new("warn,audit=info")).with(audit.layer()).init();
    an_empty_vec_of_layers, "an empty Vec of layers": |audit| {
        registry().with(Vec::<Box<dyn Layer<_> + Send + Sync>>::new()).with(audit.layer()).init();
    };
    a_reload_to_warn, "something beside this log's layer disables": |audit| {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
        registry().with(filter).with(audit.layer()).init();
        audit.check_wiring().unwrap();
        handle.reload(EnvFilter::new("warn")).unwrap();
    };
}

#[test]
fn near_misses_are_reported() {
    support::in_own_process(this_test!(), || {
        let fixture = support::log();
        tracing_log::LogTracer::init().unwrap();
        tracing::subscriber::set_global_default(registry().with(sink()).with(fixture.log.layer())).unwrap();
        info!(target = "audit", action = "user.login");
        info!(target: "service::audit", action = "user.login", decision = "Allow");
        info!(target: "elsewhere", action = "is a common word");
        tracing_log::log::info!(target: "audit", "through the log crate");
        drop(tracing::debug_span!("request", method = "GET", agent_id = "alice"));
        drop(tracing::debug_span!("query", rows = 1));
        let misses = fixture.log.check_wiring().unwrap().near_misses;
        assert_eq!(misses.len(), 4, "{misses:?}");
        assert!(
            misses[0].contains("field named `target`") && misses[0].contains("stackings.rs"),
            "{misses:?}"
        );
        assert!(misses[1].contains("no audit event"), "{misses:?}");
        assert!(misses[2].contains("`log` crate"), "{misses:?}");
        assert!(
            misses[3].contains("is a span at DEBUG that declares `agent_id`")
                && misses[3].contains("at INFO"),
            "{misses:?}"
        );
        assert_eq!(fixture.entries(), []);
    });
}

#[test]
fn not_audit_keeps_audit_events_and_nothing_else_out_of_another_layer() {
    support::in_own_process(this_test!(), || {
        static SEEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
        struct Spy;
        impl<S: Subscriber> Layer<S> for Spy {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                SEEN.lock().unwrap().push(event.metadata().target().to_owned());
            }
        }
        let fixture = support::log();
        registry().with(Spy.with_filter(not_audit())).with(fixture.log.layer()).init();
        for _ in 0..EVENTS {
            info!(target: "elsewhere", "seen");
            let _ = enabled!(target: "audit", Level::INFO);
            info!(target: "audit", action = "a");
            let _ = enabled!(target: "audit", Level::INFO);
            info!(target: "elsewhere", "seen");
        }
        assert_eq!(fixture.entries().len() as u64, EVENTS);
        assert_eq!(*SEEN.lock().unwrap(), ["elsewhere"; 200]);
    });
}
