//! Decides which callsites matter to a log, and notes those that look as if they were meant to.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tracing::{Level, Metadata};
use tracing_core::callsite::Identifier;

use super::{canary::Canary, visit::without_prefix};
use crate::platform::lock;

/// The fields that are taken from the spans around an event, in addition to those that the builder names.
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

/// The most near misses that are kept. A program has few of them, and each is kept once.
const NEAR_MISSES_MAX: usize = 64;

/// The target, the level and the context fields by which one log selects callsites.
#[derive(Debug)]
pub(crate) struct Interests {
    target: String,
    level: Level,
    context: Vec<String>,
    /// The log's number, which distinguishes the canaries of several logs.
    pub(super) log: u64,
    attached: AtomicBool,
    near_misses: Mutex<NearMisses>,
    canary: OnceLock<Canary>,
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
            canary: OnceLock::new(),
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

    /// Whether this is an audit event, a question whether one is enabled, or a span that declares a context field.
    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if *metadata.level() > self.level {
            false
        } else if !metadata.is_span() {
            metadata.target() == self.target
        } else {
            self.context_fields(metadata).next().is_some()
        }
    }

    fn context_fields<'a>(&'a self, metadata: &'a Metadata<'_>) -> impl Iterator<Item = &'static str> + 'a {
        let names = metadata.fields().iter().map(|field| field.name());
        names.filter(|name| self.context.iter().any(|wanted| wanted == without_prefix(name)))
    }

    /// Records that a subscriber was built with this log's layer.
    pub(super) fn note_attached(&self) {
        self.attached.store(true, Ordering::Release);
    }

    /// Whether any subscriber was built with this log's layer.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// The canary of this log, created when it is first needed.
    pub(super) fn canary(&self) -> Canary {
        *self.canary.get_or_init(|| Canary::new(self.log, &self.target, self.level))
    }

    pub(super) fn near_misses(&self) -> Vec<String> {
        lock(&self.near_misses).sentences.clone()
    }

    /// Notes a record of the `log` crate, whose bridge sends it under the target `log`.
    pub(super) fn note_log_crate(&self, target: &str) {
        lock(&self.near_misses).note(format!(
            "a record of the `log` crate has the target {target:?}: it arrives under the target \"log\" and is not \
             audited; use tracing's macros"
        ));
    }

    /// Notes a callsite that records this field by `Debug`, although it should hold one value.
    pub(super) fn note_debug(&self, metadata: &'static Metadata<'static>, field: &'static str) {
        lock(&self.near_misses).note_debug(metadata, field);
    }

    /// Notes a callsite that this log does not want, if it looks as if it was meant to be wanted.
    pub(super) fn examine(&self, metadata: &'static Metadata<'static>) {
        let (file, line) = (metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
        let place = format_args!("{file}:{line} (target {:?})", metadata.target());
        let has = |name| metadata.fields().field(name).is_some();
        let miss = if metadata.is_span() {
            let Some(field) = self.context_fields(metadata).next() else { return };
            let (level, log) = (metadata.level(), self.level);
            format!(
                "{place} is a span at {level} that declares `{field}`: the log takes context at {log} and above \
                 only; raise the span's level, or lower the log's by builder().level(..)"
            )
        } else if metadata.target() == self.target {
            return;
        } else if has("target") && has("action") {
            format!("{place} has a field named `target`: write `target: \"...\"` with a colon")
        } else if has("action") && has("decision") {
            format!("{place} has `action` and `decision` but is no audit event")
        } else {
            return;
        };
        lock(&self.near_misses).note(miss);
    }
}

#[derive(Debug, Default)]
struct NearMisses {
    sentences: Vec<String>,
    /// The callsites that record a field by `Debug`, so that each is described once.
    debugs: Vec<(Identifier, &'static str)>,
}

impl NearMisses {
    fn note(&mut self, miss: String) {
        if self.sentences.len() < NEAR_MISSES_MAX && !self.sentences.contains(&miss) {
            self.sentences.push(miss);
        }
    }

    fn note_debug(&mut self, metadata: &'static Metadata<'static>, field: &'static str) {
        let site = (metadata.callsite(), field);
        if self.debugs.len() >= NEAR_MISSES_MAX || self.debugs.contains(&site) {
            return;
        }
        self.debugs.push(site);
        let (file, line) = (metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
        self.note(format!(
            "{file}:{line} (target {:?}) records `{field}` by `Debug`, as `?` and the arguments of `#[instrument]` do: \
             `Some(..)`, `None`, quotation marks and newtypes are seen through where that is clear; record it by \
             `Display` instead, `{field} = %value`",
            metadata.target()
        ));
    }
}
