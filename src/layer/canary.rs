//! The canary: a span and an event, created at run time, that are sent through a subscriber to see whether they arrive.

use std::{
    cell::Cell,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{FieldSet, Value},
    span::{Attributes, Id},
    subscriber::Interest,
};
use tracing_core::{Callsite, Kind, callsite, identify_callsite};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

use super::context::SpanContext;

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;

thread_local! {
    /// Set only while a canary is on its way, so that no event of an application can pass for one.
    static FLIGHT: Cell<Option<Flight>> = const { Cell::new(None) };
}

/// A callsite created at run time, because the target is known only then: the macros take only constants.
struct Site {
    metadata: OnceLock<Metadata<'static>>,
    interest: AtomicU8,
}

impl Site {
    /// Callsites live for ever, so each is leaked: two for each log that is ever checked.
    fn leak(
        name: &'static str,
        target: &'static str,
        level: Level,
        fields: &'static [&'static str],
        kind: Kind,
    ) -> Member {
        let site: &'static Self =
            Box::leak(Box::new(Self { metadata: OnceLock::new(), interest: AtomicU8::new(NEVER) }));
        let metadata = site.metadata.get_or_init(|| {
            let fields = FieldSet::new(fields, identify_callsite!(site));
            Metadata::new(name, target, level, None, None, Some("tracing_audit"), fields, kind)
        });
        callsite::register(site);
        (site, metadata)
    }

    /// Asks the same questions as the macros do before they build anything.
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

/// The span and the event that are sent to check the wiring of one log.
#[derive(Clone, Copy)]
pub(super) struct Canary {
    log: u64,
    span: Member,
    event: Member,
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Canary {
    /// A canary of the log with this number, target and level.
    pub(super) fn new(log: u64, target: &str, level: Level) -> Self {
        let target: &'static str = Box::leak(target.to_owned().into_boxed_str());
        Self {
            log,
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

    /// Whether the subscriber lets the event's callsite through.
    pub(super) fn is_enabled(&self, dispatch: &Dispatch) -> bool {
        let (site, event) = self.event;
        site.enabled(event, dispatch)
    }

    /// Sends the event, inside the span, and reports what the log's layer saw of them.
    pub(super) fn send(self, dispatch: &Dispatch) -> Arrival {
        let entered = self.enter_span(dispatch);
        FLIGHT.set(Some(Flight { canary: self, arrival: Arrival::default() }));
        let (_, event) = self.event;
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
        flight.map(|flight| flight.arrival).unwrap_or_default()
    }

    fn enter_span(&self, dispatch: &Dispatch) -> Option<Id> {
        let (site, span) = self.span;
        site.enabled(span, dispatch).then(|| {
            let values: [Option<&dyn Value>; 1] = [Some(&"audit wiring check")];
            let id = dispatch.new_span(&Attributes::new(span, &span.fields().value_set_all(&values)));
            dispatch.enter(&id);
            id
        })
    }
}

/// The parts of a canary that the log's layer saw.
#[derive(Clone, Copy, Default)]
pub(super) struct Arrival {
    pub(super) event: bool,
    pub(super) span: bool,
}

#[derive(Clone, Copy)]
struct Flight {
    canary: Canary,
    arrival: Arrival,
}

/// Whether the event is a canary. A canary of the log with this number is noted; none may be recorded.
pub(super) fn is_canary<S>(log: u64, event: &Event<'_>, context: &Context<'_, S>) -> bool
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Ok(Some(mut flight)) = FLIGHT.try_with(Cell::get) else { return false };
    let (_, canary) = flight.canary.event;
    if event.metadata().callsite() != canary.callsite() {
        return false;
    }
    if flight.canary.log == log {
        let (_, span) = flight.canary.span;
        flight.arrival.event = true;
        flight.arrival.span |= context.event_scope(event).is_some_and(|mut scope| {
            scope.any(|around| {
                around.metadata().callsite() == span.callsite()
                    && around.extensions().get::<SpanContext>().is_some()
            })
        });
        FLIGHT.set(Some(flight));
    }
    true
}
