//! Which callsites matter to an audit log, and filters that agree on it: our own, and those for other layers.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, level_filters::LevelFilter, span, subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, Filter},
    registry::LookupSpan,
};

use super::wiring::NearMisses;
use crate::platform::lock;

/// What is taken from the spans around an event, besides what the builder adds.
const CONTEXT: [&str; 9] = [
    "workspace_id",
    "session_id",
    "agent_id",
    "action",
    "resource",
    "resource_id",
    "request_id",
    "user_id",
    "trace_id",
];

/// What one log wants to see of a program's callsites.
#[derive(Debug)]
pub(crate) struct Interests {
    target: String,
    level: Level,
    context: Vec<String>,
    /// Tells the canaries of several logs apart.
    pub(super) log: u64,
    attached: AtomicBool,
    near_misses: Mutex<NearMisses>,
    pub(super) canary: std::sync::OnceLock<super::wiring::Canary>,
}

impl Interests {
    pub(crate) fn new(target: String, level: Level, span_fields: Vec<String>) -> Self {
        static NEXT_LOG: AtomicU64 = AtomicU64::new(0);
        let context = CONTEXT.into_iter().map(str::to_owned).chain(span_fields).collect();
        Self {
            target,
            level,
            context,
            log: NEXT_LOG.fetch_add(1, Ordering::Relaxed),
            attached: AtomicBool::new(false),
            near_misses: Mutex::default(),
            canary: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn context(&self) -> &[String] {
        &self.context
    }

    /// An audit event, a question whether one is enabled, or a span that declares a context field.
    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if *metadata.level() > self.level {
            false
        } else if !metadata.is_span() {
            metadata.target() == self.target
        } else {
            metadata.fields().iter().any(|field| self.context.iter().any(|name| name == field.name()))
        }
    }

    pub(super) fn note_attached(&self) {
        self.attached.store(true, Ordering::Release);
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    pub(super) fn near_misses(&self) -> std::sync::MutexGuard<'_, NearMisses> {
        lock(&self.near_misses)
    }
}

/// The bridge from the `log` crate asks under the target that its user gave, but sends under its own.
fn is_from_log_crate(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field("log.target").is_some()
}

/// The filter of an [`AuditLayer`](crate::AuditLayer): decides once per callsite and never again.
pub struct CallsiteFilter {
    interests: std::sync::Arc<Interests>,
}

impl CallsiteFilter {
    pub(super) fn new(interests: std::sync::Arc<Interests>) -> Self {
        Self { interests }
    }
}

impl fmt::Debug for CallsiteFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallsiteFilter").field("target", &self.interests.target).finish_non_exhaustive()
    }
}

impl<S> Filter<S> for CallsiteFilter {
    /// Always yes: a no would be remembered for the thread and might be applied to the next audit event.
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        if metadata.target() == self.interests.target && is_from_log_crate(metadata) {
            self.interests.near_misses().note_log_crate(metadata.target());
        }
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.interests.wants(metadata) {
            return Interest::always();
        }
        if metadata.is_event() && metadata.target() != self.interests.target {
            self.interests.near_misses().examine(metadata);
        }
        Interest::never()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.interests.level))
    }
}

/// A global filter that can no longer silence audit events or the spans that give them context: made by
/// [`AuditLog::protect`](crate::AuditLog::protect).
pub struct Protect<L> {
    inner: L,
    interests: std::sync::Arc<Interests>,
}

impl<L> Protect<L> {
    pub(crate) fn new(inner: L, interests: std::sync::Arc<Interests>) -> Self {
        Self { inner, interests }
    }
}

impl<L> fmt::Debug for Protect<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protect").field("target", &self.interests.target).finish_non_exhaustive()
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
        // A layer that is `None` hints OFF and disables nothing; one that disables everything says so by callsite.
        let hint = self.inner.max_level_hint().filter(|hint| *hint != LevelFilter::OFF);
        hint.map(|hint| hint.max(LevelFilter::from_level(self.interests.level)))
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

/// Keeps audit events out of another layer: made by [`not_audit`] or
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

/// A per-layer filter for *other* layers that keeps events with the target `audit` out of them, and lets
/// everything else through.
///
/// A closure that says `target != "audit"` looks the same and is not: its "no" stays behind in the thread and
/// may be applied to another event. Put the layer that has it before the audit layer: a `Debug` that logs while
/// its value is audited may otherwise let that one event through. Combine it with a filter by `and`:
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
