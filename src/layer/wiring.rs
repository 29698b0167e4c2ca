//! Whether audit events reach the log at all: a canary through the real dispatcher, and near misses.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher,
    field::{FieldSet, Value},
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
    span::Attributes,
    subscriber::{Interest, NoSubscriber},
};
use tracing_core::{Callsite, Kind, callsite, identify_callsite};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

use super::{emitter::SpanContext, filter::Interests};
use crate::{AuditError, error};

/// Near misses kept; a program has few, and each is told once.
const NEAR_MISSES_MAX: usize = 64;

/// What [`check_wiring`](crate::AuditLog::check_wiring) noticed although the canary arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WiringReport {
    /// Callsites that look as if they were meant to be audited and are not, as sentences: `action` and a *field*
    /// named `target`, `action` and `decision` under another target, `log::info!(target: "audit")`. A callsite is
    /// seen when it is first reached, so this is most useful late, for instance at the end of a test run.
    pub near_misses: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct NearMisses(Vec<String>);

impl NearMisses {
    fn note(&mut self, miss: String) {
        if self.0.len() < NEAR_MISSES_MAX && !self.0.contains(&miss) {
            self.0.push(miss);
        }
    }

    pub(super) fn note_log_crate(&mut self, target: &str) {
        self.note(format!(
            "a record of the `log` crate has the target {target:?}: it arrives under the target \"log\" and is not audited; use tracing's macros"
        ));
    }

    pub(super) fn examine(&mut self, metadata: &'static Metadata<'static>) {
        let has = |name| metadata.fields().field(name).is_some();
        let place = || {
            let (file, line) = (metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
            format!("{file}:{line} (target {:?})", metadata.target())
        };
        if has("target") && has("action") {
            self.note(format!(
                "{} has a field named `target`: write `target: \"...\"` with a colon",
                place()
            ));
        } else if has("action") && has("decision") {
            self.note(format!("{} has `action` and `decision` but is no audit event", place()));
        }
    }
}

/// A callsite made at run time, because a target is: the macros take only constants.
struct Site {
    metadata: OnceLock<Metadata<'static>>,
    interest: AtomicU8,
}

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;

impl Site {
    /// Callsites live for ever, so one is leaked, once per log that is ever checked.
    fn leak(
        name: &'static str,
        target: &'static str,
        level: Level,
        fields: &'static [&'static str],
        kind: Kind,
    ) -> (&'static Self, &'static Metadata<'static>) {
        let site: &'static Self =
            Box::leak(Box::new(Self { metadata: OnceLock::new(), interest: AtomicU8::new(NEVER) }));
        let metadata = site.metadata.get_or_init(|| {
            let fields = FieldSet::new(fields, identify_callsite!(site));
            Metadata::new(name, target, level, None, None, Some("tracing_audit"), fields, kind)
        });
        callsite::register(site);
        (site, metadata)
    }

    /// What the macros ask before they build anything.
    fn enabled(&self, metadata: &Metadata<'static>, dispatch: &Dispatch) -> bool {
        match self.interest.load(Ordering::Acquire) {
            NEVER => false,
            ALWAYS => true,
            _ => dispatch.enabled(metadata),
        }
    }
}

impl Callsite for Site {
    fn set_interest(&self, interest: Interest) {
        let interest = if interest.is_never() {
            NEVER
        } else if interest.is_always() {
            ALWAYS
        } else {
            SOMETIMES
        };
        self.interest.store(interest, Ordering::Release);
    }

    #[expect(clippy::expect_used, reason = "set before the callsite is handed to anybody")]
    fn metadata(&self) -> &Metadata<'_> {
        self.metadata.get().expect("a site is registered after its metadata is set")
    }
}

type Member = (&'static Site, &'static Metadata<'static>);

/// A span and an event that are sent through the dispatcher to see whether they arrive.
#[derive(Clone, Copy)]
pub(super) struct Canary {
    log: u64,
    span: Member,
    event: Member,
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canary").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Canary {
    fn new(interests: &Interests) -> Self {
        let target: &'static str = Box::leak(interests.target().to_owned().into_boxed_str());
        let level = interests.level();
        Self {
            log: interests.log,
            span: Site::leak(
                "audit wiring check",
                "tracing_audit::wiring",
                level,
                &["workspace_id"],
                Kind::SPAN,
            ),
            event: Site::leak("audit wiring check", target, level, &["message"], Kind::EVENT),
        }
    }
}

#[derive(Clone, Copy)]
struct Flight {
    canary: Canary,
    event_arrived: bool,
    span_arrived: bool,
}

thread_local! {
    /// Set only while a canary is on its way, so that no event of an application can pass for one.
    static FLIGHT: Cell<Option<Flight>> = const { Cell::new(None) };
}

/// Whether the event is a canary, which is noted and must not be recorded.
pub(super) fn is_canary<S>(interests: &Interests, event: &Event<'_>, context: &Context<'_, S>) -> bool
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Ok(Some(mut flight)) = FLIGHT.try_with(Cell::get) else { return false };
    let (_, canary) = flight.canary.event;
    if event.metadata().callsite() != canary.callsite() {
        return false;
    }
    if flight.canary.log == interests.log {
        let (_, span) = flight.canary.span;
        flight.event_arrived = true;
        flight.span_arrived |= context.event_scope(event).is_some_and(|mut scope| {
            scope.any(|around| {
                around.metadata().callsite() == span.callsite()
                    && around.extensions().get::<SpanContext>().is_some()
            })
        });
        FLIGHT.set(Some(flight));
    }
    true
}

impl Interests {
    /// See [`AuditLog::check_wiring`](crate::AuditLog::check_wiring).
    pub(crate) fn check(&self) -> Result<WiringReport, AuditError> {
        let canary = *self.canary.get_or_init(|| Canary::new(self));
        let fault = {
            // Not within `get_default`, where closing the span would find no subscriber.
            let dispatch = dispatcher::get_default(Dispatch::clone);
            self.send(canary, &dispatch)
        };
        match fault {
            Some(fault) => Err(AuditError::new(error::Kind::Wiring, fault)),
            None => Ok(WiringReport { near_misses: self.near_misses().0.clone() }),
        }
    }

    fn send(&self, canary: Canary, dispatch: &Dispatch) -> Option<String> {
        let (event_site, event) = canary.event;
        let (span_site, span) = canary.span;
        let (level, target) = (self.level(), self.target());
        if level > STATIC_MAX_LEVEL {
            return Some(format!(
                "{level} events are compiled out: a dependency enables a `max_level_*` or `release_max_level_*` feature of `tracing`; remove it, or audit at {STATIC_MAX_LEVEL}"
            ));
        }
        if dispatch.is::<NoSubscriber>() {
            return Some(
                "no subscriber is installed on this thread: call init() before check_wiring()".to_owned(),
            );
        }
        if !self.is_attached() {
            return Some(
                "the subscriber does not have this log's layer: add .with(audit.layer())".to_owned(),
            );
        }
        // What the macros ask, in their order.
        if level > LevelFilter::current() || !event_site.enabled(event, dispatch) {
            return Some(format!(
                "something beside this log's layer disables events with the target {target:?}: a global filter (wrap it as audit.protect(filter)), or an empty Vec of layers (leave it out)"
            ));
        }
        let entered = span_site.enabled(span, dispatch).then(|| {
            let values: [Option<&dyn Value>; 1] = [Some(&"audit wiring check")];
            let id = dispatch.new_span(&Attributes::new(span, &span.fields().value_set_all(&values)));
            dispatch.enter(&id);
            id
        });
        FLIGHT.set(Some(Flight { canary, event_arrived: false, span_arrived: false }));
        let text = "a check of the audit log's wiring, not an audit event";
        let values: [Option<&dyn Value>; 1] = [Some(&text)];
        let event_values = event.fields().value_set_all(&values);
        if dispatch.enabled(event) {
            dispatch.event(&Event::new(event, &event_values));
        }
        let flight = FLIGHT.take();
        if let Some(id) = entered {
            dispatch.exit(&id);
            dispatch.try_close(id);
        }
        match flight {
            Some(Flight { event_arrived: true, span_arrived: true, .. }) => None,
            Some(Flight { event_arrived: true, .. }) => Some(
                "audit events arrive, but the spans around them do not, and with them the context fields: a global filter disables spans of other targets; wrap it as audit.protect(filter)"
                    .to_owned(),
            ),
            _ => Some(format!(
                "an event with the target {target:?} passes every filter and does not arrive: the layer belongs to another subscriber than the current one"
            )),
        }
    }
}
