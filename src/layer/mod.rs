//! The layer: copies an audit event and the context of its spans into one record, on the emitting thread.

mod filter;
mod visit;
pub(crate) mod wiring;

use std::{
    cell::Cell,
    fmt,
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
    registry::{LookupSpan, SpanRef},
};

pub(crate) use filter::Interests;
pub use filter::{CallsiteFilter, NotAudit, Protect, not_audit};

use crate::{
    engine::Alive,
    entry::Moment,
    layer::visit::FieldVisitor,
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
struct SpanContext(Vec<(u64, Vec<u8>)>);

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

    /// Hands the encoded fields to `change`; whatever runs under the lock is ours.
    fn with_context<S>(&self, span: &SpanRef<'_, S>, change: impl FnOnce(&mut Vec<u8>))
    where
        S: for<'a> LookupSpan<'a>,
    {
        let mut extensions = span.extensions_mut();
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
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                self.append_context(&span, &mut buffer);
            }
        }
        let mut encoder = FieldEncoder::new(&mut buffer, self.engine.settings.limits);
        if let Some(name) = name_set_by_hand(event.metadata()) {
            encoder.event_name(name);
        }
        event.record(&mut FieldVisitor { encoder, only: None });
        // Refused: counted by the engine. There is nobody here to tell.
        drop(self.engine.accept_blocking(&buffer));
        if buffer.capacity() <= KEPT_BUFFER_BYTES {
            // While the thread's locals are being destroyed there is nothing to keep it in.
            BUFFER.try_with(|kept| kept.set(buffer)).unwrap_or_default();
        }
    }
}

/// Without `name:` the macros make up a name of file and line.
fn name_set_by_hand(metadata: &Metadata<'static>) -> Option<&'static str> {
    let name = metadata.name();
    (!name.starts_with("event ")).then_some(name)
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
