//! The emitter: the `Layer` that records audit events, on the emitting thread.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::{Layer, filter::Filtered, layer::Context, registry::LookupSpan};

use super::{
    canary::is_canary,
    context::SpanContext,
    filter::CallsiteFilter,
    interests::Interests,
    visit::{FieldVisitor, without_prefix},
};
use crate::engine::{Choose, Engine, EngineHandle};
use crate::entry::{FieldEncoder, Limits, Moment, begin_event, without_field};

/// The layer that [`AuditLog::layer`](crate::AuditLog::layer) returns: it records audit events, and its filter loses
/// none of them.
///
/// The obvious filter, `target == "audit"`, does lose events. Per-layer filters keep their decision in a
/// thread-local, which any later `enabled!` on the same thread overwrites (tokio-rs/tracing #2519, #3572); sqlx,
/// among others, asks `enabled!` before each query. The filter of this layer decides once for each callsite, and
/// answers yes whenever it is asked about an event.
pub type AuditLayer<S> = Filtered<Emitter, CallsiteFilter, S>;

/// A buffer that has grown larger than this is freed after its event, not kept for the thread's next one.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    /// The buffer in which the thread encodes its events. It is taken out while an event is recorded, so that an
    /// audit event that a value's `Debug` emits meanwhile starts with an empty one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The engine that an emitter hands its records to.
pub(crate) enum Destination {
    Engine(Arc<EngineHandle>),
    /// That of the period in which the event is emitted.
    Period(Arc<dyn Choose>),
    /// Chosen for each event, on its thread. An event for which no engine is chosen is discarded.
    #[cfg(feature = "testing")]
    Chosen(fn() -> Option<Arc<EngineHandle>>),
}

/// Records audit events; exists only inside an [`AuditLayer`].
#[doc(hidden)]
pub struct Emitter {
    destination: Destination,
    limits: Limits,
    interests: Arc<Interests>,
    /// This layer's key in [`SpanContext`], which every audit layer of a subscriber shares.
    key: u64,
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("target", &self.interests.target()).finish_non_exhaustive()
    }
}

impl Emitter {
    pub(crate) fn new(destination: Destination, limits: Limits, interests: Arc<Interests>) -> Self {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(0);
        Self { destination, limits, interests, key: NEXT_KEY.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn into_layer<S>(self) -> AuditLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let filter = CallsiteFilter::new(Arc::clone(&self.interests));
        self.with_filter(filter)
    }

    fn record<S>(&self, event: &Event<'_>, context: &Context<'_, S>, engine: &Engine)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        begin_event(&mut buffer, Moment::now());
        // Deep or large spans must not leave the event without room for its own fields.
        let room = self.limits.entry / 2;
        let appended = SpanContext::append_all(event, context, self.key, room, &mut buffer);
        let mut encoder = FieldEncoder::new(&mut buffer, self.limits);
        if let Err(left_out) = appended {
            encoder.lost(left_out);
        }
        if let Some(name) = name_set_by_hand(event.metadata()) {
            encoder.event_name(name);
        }
        let mut visitor = FieldVisitor::new(encoder, None);
        event.record(&mut visitor);
        let debug = visitor.debug;
        engine.emit(&buffer);
        self.note_debug(event.metadata(), debug);
        if buffer.capacity() <= KEPT_BUFFER_BYTES {
            // Fails only while the thread's locals are being destroyed; the buffer is then freed.
            BUFFER.try_with(|kept| kept.set(buffer)).unwrap_or_default();
        }
    }
}

impl Emitter {
    /// Notes a callsite that records a field by `Debug` which should hold one value.
    fn note_debug(&self, metadata: &'static Metadata<'static>, field: Option<&'static str>) {
        if let Some(field) = field {
            self.interests.note_debug(metadata, field);
        }
    }
}

/// The event's name, unless the macros made it up: without `name:` they call an event `event FILE:LINE`.
fn name_set_by_hand(metadata: &Metadata<'static>) -> Option<&'static str> {
    let name = metadata.name();
    let place = name.strip_prefix("event ").and_then(|place| place.strip_prefix(metadata.file()?));
    (!place.is_some_and(|line| line.starts_with(':'))).then_some(name)
}

impl<S> Layer<S> for Emitter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_layer(&mut self, _: &mut S) {
        self.interests.note_attached();
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        // Next to an unfiltered layer, every span arrives here, whatever the filter answered for its callsite.
        if !self.interests.wants(attributes.metadata()) {
            return;
        }
        let mut fields = Vec::new();
        let encoder = FieldEncoder::new(&mut fields, self.limits);
        let mut visitor = FieldVisitor::new(encoder, Some(self.interests.context()));
        attributes.record(&mut visitor);
        self.note_debug(attributes.metadata(), visitor.debug);
        if let Some(span) = context.span(id) {
            SpanContext::change(&span, self.key, |kept| *kept = fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if !self.interests.wants(span.metadata()) {
            return;
        }
        let mut fields = Vec::new();
        let encoder = FieldEncoder::new(&mut fields, self.limits);
        let mut visitor = FieldVisitor::new(encoder, Some(self.interests.context()));
        values.record(&mut visitor);
        self.note_debug(span.metadata(), visitor.debug);
        SpanContext::change(&span, self.key, |kept| {
            for field in span.metadata().fields().iter().filter(|field| values.contains(field)) {
                *kept = without_field(kept, without_prefix(field.name()));
            }
            kept.extend_from_slice(&fields);
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !self.interests.wants(event.metadata()) || is_canary(self.interests.log, event, &context) {
            return;
        }
        match &self.destination {
            Destination::Engine(engine) => self.record(event, &context, engine),
            Destination::Period(periods) => self.record(event, &context, &periods.choose()),
            #[cfg(feature = "testing")]
            Destination::Chosen(choose) => {
                if let Some(engine) = choose() {
                    self.record(event, &context, &engine);
                }
            }
        }
    }
}
