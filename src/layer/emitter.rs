//! The emitter: the `Layer` that records audit events, on the emitting thread.

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::{
    Layer,
    filter::Filtered,
    layer::Context,
    registry::{LookupSpan, Scope, SpanRef},
};

use super::{
    filter::{CallsiteFilter, Interests},
    visit::FieldVisitor,
    wiring,
};
use crate::{
    engine::Alive,
    entry::Moment,
    record::{FieldEncoder, begin_event, without_field},
};

/// The layer that [`AuditLog::layer`](crate::AuditLog::layer) gives: an [`Emitter`] behind the one filter that
/// loses nothing.
///
/// An obvious filter (`target == "audit"`) loses events: per-layer filters keep their verdict in a thread-local
/// that any later `enabled!` of the same thread overwrites (tokio-rs/tracing #2519, #3572), and sqlx, among
/// others, asks `enabled!` before each query. The filter here never says no there, only once per callsite.
pub type AuditLayer<S> = Filtered<Emitter, CallsiteFilter, S>;

/// Records larger than this do not keep their buffer for the next event of the thread.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    /// Taken while an event is recorded, so that an audit event from within a `Debug` finds an empty one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Records audit events; exists only inside an [`AuditLayer`].
pub struct Emitter {
    engine: Arc<Alive>,
    interests: Arc<Interests>,
    /// Tells the span data of several audit layers apart: a span's extensions are keyed by type.
    key: u64,
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("target", &self.interests.target()).finish_non_exhaustive()
    }
}

/// A span's context fields, encoded, for each audit layer that saw it.
pub(super) struct SpanContext(Vec<(u64, Vec<u8>)>);

impl Emitter {
    pub(crate) fn new(engine: Arc<Alive>, interests: Arc<Interests>) -> Self {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(0);
        Self { engine, interests, key: NEXT_KEY.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn into_layer<S>(self) -> AuditLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let filter = CallsiteFilter::new(Arc::clone(&self.interests));
        self.with_filter(filter)
    }

    /// Hands the encoded fields to `change`; whatever runs under the lock is ours. A span that another layer
    /// has poisoned is left alone: see [`append_contexts`](Self::append_contexts).
    fn with_context<S>(&self, span: &SpanRef<'_, S>, change: impl FnOnce(&mut Vec<u8>))
    where
        S: for<'a> LookupSpan<'a>,
    {
        let Ok(mut extensions) = catch_unwind(AssertUnwindSafe(|| span.extensions_mut())) else { return };
        if extensions.get_mut::<SpanContext>().is_none() {
            extensions.insert(SpanContext(Vec::new()));
        }
        let Some(SpanContext(contexts)) = extensions.get_mut() else { return };
        if let Some((_, fields)) = contexts.iter_mut().find(|(key, _)| *key == self.key) {
            change(fields);
        } else {
            let mut fields = Vec::new();
            change(&mut fields);
            contexts.push((self.key, fields));
        }
    }

    /// Appends the context of every span around the event, outermost first. False: a span could not be read.
    fn append_contexts<S>(&self, event: &Event<'_>, context: &Context<'_, S>, out: &mut Vec<u8>) -> bool
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let start = out.len();
        // Another layer that lets a value's `Debug` panic while it holds a span's extensions poisons them for
        // all; that must not cost the event.
        let read = catch_unwind(AssertUnwindSafe(|| {
            for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
                self.append_context(&span, out);
            }
        }));
        if read.is_err() {
            out.truncate(start);
        }
        read.is_ok()
    }

    fn append_context<S>(&self, span: &SpanRef<'_, S>, out: &mut Vec<u8>)
    where
        S: for<'a> LookupSpan<'a>,
    {
        if let Some(SpanContext(contexts)) = span.extensions().get()
            && let Some((_, fields)) = contexts.iter().find(|(key, _)| *key == self.key)
        {
            out.extend_from_slice(fields);
        }
    }

    fn record<S>(&self, event: &Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        begin_event(&mut buffer, Moment::now());
        let (start, limits) = (buffer.len(), self.engine.settings.limits);
        let whole = self.append_contexts(event, context, &mut buffer);
        let crowded = buffer.len() - start > limits.entry / 2;
        if crowded {
            // Deep or large spans must not leave an event without room for its own fields.
            buffer.truncate(start);
        }
        let mut encoder = FieldEncoder::new(&mut buffer, limits);
        if crowded || !whole {
            encoder.lost("span context");
        }
        if let Some(name) = name_set_by_hand(event.metadata()) {
            encoder.event_name(name);
        }
        event.record(&mut FieldVisitor { encoder, only: None });
        self.engine.emit(&buffer);
        if buffer.capacity() <= KEPT_BUFFER_BYTES {
            // While the thread's locals are being destroyed there is nothing to keep it in.
            BUFFER.try_with(|kept| kept.set(buffer)).unwrap_or_default();
        }
    }
}

/// Without `name:` the macros make up a name, `event FILE:LINE`.
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
        // Beside an unfiltered layer, spans arrive whatever the filter said of their callsite.
        if !self.interests.wants(attributes.metadata()) {
            return;
        }
        let mut fields = Vec::new();
        let encoder = FieldEncoder::new(&mut fields, self.engine.settings.limits);
        attributes.record(&mut FieldVisitor { encoder, only: Some(self.interests.context()) });
        if let Some(span) = context.span(id) {
            self.with_context(&span, |kept| *kept = fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if !self.interests.wants(span.metadata()) {
            return;
        }
        let mut fields = Vec::new();
        let encoder = FieldEncoder::new(&mut fields, self.engine.settings.limits);
        values.record(&mut FieldVisitor { encoder, only: Some(self.interests.context()) });
        self.with_context(&span, |kept| {
            for field in span.metadata().fields().iter().filter(|field| values.contains(field)) {
                *kept = without_field(kept, field.name());
            }
            kept.extend_from_slice(&fields);
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !self.interests.wants(event.metadata()) || wiring::is_canary(&self.interests, event, &context) {
            return;
        }
        self.record(event, &context);
    }
}
