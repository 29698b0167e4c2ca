//! The scope of a capture: makes other threads and their tasks a part of it.

use std::{
    pin::Pin,
    sync::Weak,
    task::{Context, Poll},
};

use super::current::{Captured, in_scope, set_of_thread};

/// Makes other threads, and tasks on them, a part of a [`Capture`](super::Capture). Created by
/// [`Capture::scope`](super::Capture::scope). Cheap to clone, and free to go to any thread.
///
/// Once the capture is dropped, a scope does nothing.
#[derive(Clone, Debug)]
pub struct CaptureScope {
    captured: Weak<Captured>,
}

impl CaptureScope {
    pub(super) fn new(captured: Weak<Captured>) -> Self {
        Self { captured }
    }

    /// Runs `work` on the calling thread; its events belong to the capture.
    ///
    /// ```
    /// # use tracing_audit::testing::{Expected, capture};
    /// let audit = capture();
    /// let scope = audit.scope();
    /// std::thread::spawn(move || scope.in_scope(|| tracing::info!(target: "audit", action = "a"))).join().unwrap();
    /// audit.assert_audited([Expected::action("a")]);
    /// ```
    pub fn in_scope<R>(&self, work: impl FnOnce() -> R) -> R {
        in_scope(self.captured.clone(), work)
    }

    /// The same future, whose events belong to the capture on whatever thread it runs: for
    /// `tokio::spawn(scope.instrument(task()))` on a runtime with several threads. Tasks that the future itself spawns
    /// are not included; [`attach_thread`](Self::attach_thread) includes every task of a runtime.
    ///
    /// # Cancel safety
    /// The same as that of the future.
    pub fn instrument<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        Instrumented { scope: self.clone(), future: Some(Box::pin(future)) }
    }

    /// Makes the calling thread a part of the capture from now on, until the thread ends or the capture is dropped. For
    /// all threads of a runtime that the test builds itself:
    ///
    /// ```
    /// # use tracing_audit::testing::{Expected, capture};
    /// let audit = capture();
    /// let scope = audit.scope();
    /// let runtime = tokio::runtime::Builder::new_multi_thread()
    ///     .on_thread_start(move || scope.attach_thread())
    ///     .build()
    ///     .unwrap();
    /// runtime.block_on(async {
    ///     tokio::spawn(async { tracing::info!(target: "audit", action = "a") }).await.unwrap();
    /// });
    /// audit.assert_audited([Expected::action("a")]);
    /// ```
    pub fn attach_thread(&self) {
        set_of_thread(self.captured.clone());
    }
}

/// Drops the future within the scope too, since a destructor may emit events.
struct Instrumented<F> {
    scope: CaptureScope,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { scope, future } = self.get_mut();
        match future {
            Some(future) => scope.in_scope(|| future.as_mut().poll(context)),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Instrumented<F> {
    fn drop(&mut self) {
        let future = self.future.take();
        self.scope.in_scope(|| drop(future));
    }
}
