//! The span context: the fields that spans lend to the events inside them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    layer::Context,
    registry::{LookupSpan, Scope, SpanRef},
};

/// A span's context fields, encoded, for each audit layer that saw the span. The number is the layer's key: a
/// span's extensions are keyed by type, so several audit layers share one value.
pub(super) struct SpanContext(Vec<(u64, Vec<u8>)>);

impl SpanContext {
    /// Hands the fields that the layer `key` has for this span to `change`, which runs while the span's extensions
    /// are locked and must not run code of the application. A span that another layer has poisoned is left alone:
    /// see [`append_all`](Self::append_all).
    pub(super) fn change<S>(span: &SpanRef<'_, S>, key: u64, change: impl FnOnce(&mut Vec<u8>))
    where
        S: for<'a> LookupSpan<'a>,
    {
        let Ok(mut extensions) = catch_unwind(AssertUnwindSafe(|| span.extensions_mut())) else { return };
        if extensions.get_mut::<Self>().is_none() {
            extensions.insert(Self(Vec::new()));
        }
        let Some(Self(contexts)) = extensions.get_mut() else { return };
        if let Some((_, fields)) = contexts.iter_mut().find(|(of, _)| *of == key) {
            change(fields);
        } else {
            let mut fields = Vec::new();
            change(&mut fields);
            contexts.push((key, fields));
        }
    }

    /// Appends the context of every span around the event, outermost first, in at most `room` bytes.
    ///
    /// # Errors
    /// The name of what is left out: the whole context if a span could not be read, or the inner spans that did not
    /// fit.
    pub(super) fn append_all<S>(
        event: &Event<'_>,
        context: &Context<'_, S>,
        key: u64,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let start = out.len();
        // Another layer that lets a value's `Debug` panic while it holds a span's extensions poisons them for every
        // layer. The event must not be lost for that.
        let read = catch_unwind(AssertUnwindSafe(|| {
            for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
                let end = out.len();
                Self::append(&span, key, out);
                if out.len() - start > room {
                    out.truncate(end);
                    return Err("inner spans");
                }
            }
            Ok(())
        }));
        read.unwrap_or_else(|_| {
            out.truncate(start);
            Err("span context")
        })
    }

    fn append<S>(span: &SpanRef<'_, S>, key: u64, out: &mut Vec<u8>)
    where
        S: for<'a> LookupSpan<'a>,
    {
        if let Some(Self(contexts)) = span.extensions().get()
            && let Some((_, fields)) = contexts.iter().find(|(of, _)| *of == key)
        {
            out.extend_from_slice(fields);
        }
    }
}
