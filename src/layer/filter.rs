//! Filters that lose no audit event: the layer's own, one around global filters, and one for other layers.

use std::{fmt, sync::Arc};

use tracing::{
    Dispatch, Event, Metadata, Subscriber, level_filters::LevelFilter, span, subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use super::interests::Interests;

/// Whether this is a question of the bridge from the `log` crate. It asks under the target that its user gave, but
/// sends the record under the target `log`.
fn is_from_log_crate(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field("log.target").is_some()
}

/// The filter of an [`AuditLayer`](crate::AuditLayer): it decides once for each callsite.
#[doc(hidden)]
pub struct CallsiteFilter {
    interests: Arc<Interests>,
}

impl CallsiteFilter {
    pub(super) fn new(interests: Arc<Interests>) -> Self {
        Self { interests }
    }
}

impl fmt::Debug for CallsiteFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallsiteFilter").field("target", &self.interests.target()).finish_non_exhaustive()
    }
}

impl<S> Filter<S> for CallsiteFilter {
    /// Always true: the registry would remember a false for the thread, and might apply it to the next audit event.
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        if metadata.target() == self.interests.target() && is_from_log_crate(metadata) {
            self.interests.note_log_crate(metadata.target());
        }
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.interests.wants(metadata) {
            return Interest::always();
        }
        self.interests.examine(metadata);
        Interest::never()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.interests.level()))
    }
}

/// A global filter that can no longer silence audit events or the spans that give them context. Created by
/// [`AuditLog::protect`](crate::AuditLog::protect).
pub struct Protect<L> {
    inner: L,
    interests: Arc<Interests>,
}

impl<L> Protect<L> {
    pub(crate) fn new(inner: L, interests: Arc<Interests>) -> Self {
        Self { inner, interests }
    }
}

impl<L> fmt::Debug for Protect<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protect").field("target", &self.interests.target()).finish_non_exhaustive()
    }
}

impl<S, L> Layer<S> for Protect<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.inner.on_register_dispatch(dispatch);
    }

    fn on_layer(&mut self, subscriber: &mut S) {
        self.inner.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = self.inner.register_callsite(metadata);
        if self.interests.wants(metadata) { Interest::always() } else { interest }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        (self.interests.wants(metadata) && !is_from_log_crate(metadata))
            || self.inner.enabled(metadata, context)
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        self.interests.wants(event.metadata()) || self.inner.event_enabled(event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // A layer that is `None` hints OFF and disables nothing. A filter that disables everything answers never for
        // each callsite.
        let hint = self.inner.max_level_hint().filter(|hint| *hint != LevelFilter::OFF);
        hint.map(|hint| hint.max(LevelFilter::from_level(self.interests.level())))
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        self.inner.on_record(id, values, context);
    }

    fn on_follows_from(&self, id: &span::Id, follows: &span::Id, context: Context<'_, S>) {
        self.inner.on_follows_from(id, follows, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.inner.on_event(event, context);
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_enter(id, context);
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        self.inner.on_exit(id, context);
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        self.inner.on_close(id, context);
    }

    fn on_id_change(&self, old: &span::Id, new: &span::Id, context: Context<'_, S>) {
        self.inner.on_id_change(old, new, context);
    }
}

/// A filter that keeps audit events out of another layer. Created by [`not_audit`] or
/// [`AuditLog::not_audit`](crate::AuditLog::not_audit).
#[derive(Clone, Debug)]
pub struct NotAudit {
    target: String,
}

impl NotAudit {
    pub(crate) fn new(target: String) -> Self {
        Self { target }
    }

    fn excludes(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == self.target
    }
}

/// A per-layer filter for *other* layers. It keeps events with the target `audit` out of them and lets everything
/// else through.
///
/// **Spans are not events.** The fields of a span, such as `agent_id`, still reach the other layer: `fmt` prints them
/// with every event inside the span. To keep a field out of the other layer as well, put it on the audit event itself
/// and not on a span.
///
/// A closure that compares the target (`filter_fn(|metadata| metadata.target() != "audit")`) looks the same and is
/// not: the registry remembers its false for the thread, and may apply it to another event. Put the layer that has
/// this filter before the audit layer. Otherwise an audit event may reach it when a `Debug` of one of the event's
/// values logs while the event is recorded. Combine the filter with others by `and`:
///
/// ```
/// use tracing_subscriber::{filter::{FilterExt, LevelFilter}, prelude::*};
/// let stdout = tracing_subscriber::fmt::layer().with_filter(LevelFilter::INFO.and(tracing_audit::not_audit()));
/// # tracing_subscriber::registry().with(stdout);
/// ```
#[must_use]
pub fn not_audit() -> NotAudit {
    NotAudit::new("audit".to_owned())
}

impl<S> Filter<S> for NotAudit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.excludes(metadata) { Interest::never() } else { Interest::always() }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        !self.excludes(event.metadata())
    }
}
