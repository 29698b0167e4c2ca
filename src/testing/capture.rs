//! Captures: the events of one test, or of the whole process.

use std::{
    marker::PhantomData,
    sync::{Arc, MutexGuard, OnceLock},
};

use tracing::Subscriber;
use tracing_subscriber::{prelude::*, registry::LookupSpan};

use super::{
    current::{self, Captured},
    expected::{Expected, fail, line, report},
    scope::CaptureScope,
};
use crate::defaults;
use crate::entry::SequencedEntry;
use crate::layer::{AuditLayer, Destination, Emitter};
use crate::log::AuditLog;

/// Begins to collect the events of the calling thread, until the capture is dropped.
///
/// Captures of several threads run in parallel. None sees the events of another, or those of a thread that captures
/// nothing. So tests that use this can run in parallel with each other and with any other test. For events of other
/// threads and of their tasks see [which events a capture sees](super#which-events-a-capture-sees).
///
/// The first call installs a global subscriber. If the tests install a subscriber of their own, give it [`layer`].
///
/// # Panics
/// If the events of this thread belong to a capture already, or if there is a global subscriber that does not have the
/// layer.
#[must_use]
#[track_caller]
pub fn capture() -> Capture {
    let capture = Capture::begin();
    current::set_of_thread(Arc::downgrade(&capture.captured));
    capture
}

/// Begins to collect the events of every thread of the process, until the capture is dropped: for code whose threads
/// the test cannot reach. Events of threads that have a capture of their own, by [`capture`] or a [`CaptureScope`], are
/// left to that one.
///
/// There is one such capture at a time: another thread that begins one waits until this one is dropped, so the tests
/// that use it run one after the other. But it also collects what tests without a capture audit meanwhile. So use it
/// only in a test binary all of whose tests have a capture, or that runs with `--test-threads=1`, or under a runner
/// that gives each test a process.
///
/// The first call installs a global subscriber. If the tests install a subscriber of their own, give it [`layer`].
///
/// # Panics
/// If the events of this thread belong to a capture already, or if there is a global subscriber that does not have the
/// layer.
#[must_use]
#[track_caller]
pub fn capture_process() -> Capture {
    let capture = Capture::begin();
    current::set_of_process(&capture.captured);
    capture
}

/// The layer that captures read from, for a subscriber of the tests' own.
#[must_use]
pub fn layer<S>() -> AuditLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let destination = Destination::Chosen(current::engine);
    Emitter::new(destination, defaults::LIMITS, Arc::clone(current::interests())).into_layer()
}

/// Installs a global subscriber with the layer, unless the tests have built one that has it.
fn installed() -> Result<(), &'static str> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let has_layer = current::interests().is_attached();
        let subscriber = tracing_subscriber::registry().with(layer());
        match tracing::subscriber::set_global_default(subscriber) {
            Err(error) if !has_layer => {
                Err(format!("{error}: give that subscriber tracing_audit::testing::layer()"))
            }
            _ => Ok(()),
        }
    });
    installed.as_ref().map(|&()| ()).map_err(String::as_str)
}

/// A running capture: the events since it began. Created by [`capture`] and [`capture_process`].
#[derive(Debug)]
pub struct Capture {
    captured: Arc<Captured>,
    /// A capture is dropped on the thread that began it, so it cannot be sent to another.
    thread: PhantomData<MutexGuard<'static, ()>>,
}

impl Drop for Capture {
    fn drop(&mut self) {
        current::unset(&self.captured);
    }
}

impl Capture {
    #[track_caller]
    fn begin() -> Self {
        if current::thread_has_one() {
            fail(
                "this thread has a capture already, and an event belongs to one capture only: drop the first \
                 capture before another begins, or use the first one",
            );
        }
        if let Err(why) = installed() {
            fail(why);
        }
        Self { captured: Arc::new(Captured::new()), thread: PhantomData }
    }

    /// The log that records, for code that writes entries as values or calls [`committed`](AuditLog::committed).
    #[must_use]
    pub fn log(&self) -> &AuditLog {
        &self.captured.log
    }

    /// A handle that makes other threads and their tasks a part of this capture.
    #[must_use]
    pub fn scope(&self) -> CaptureScope {
        CaptureScope::new(Arc::downgrade(&self.captured))
    }

    /// The entries so far, in the order of acceptance. Blocks for the moment that the log needs to commit them.
    ///
    /// # Panics
    /// If there is none and an event of the calling thread could not be captured either, with the reason: for instance
    /// under a subscriber of `set_default` or `with_default` that does not have [`layer`].
    #[must_use]
    #[track_caller]
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn entries(&self) -> Vec<SequencedEntry> {
        self.log().blocking().flush().expect("a recorder commits at once");
        let entries = self.captured.recorder.entries();
        if entries.is_empty()
            && let Err(error) = self.log().check_wiring()
        {
            fail(&format!(
                "nothing was captured, and no event of this thread can be: {error}\n  capture() installs a global \
                 subscriber; one that a test installs instead, by init(), set_default or with_default, needs \
                 .with(tracing_audit::testing::layer())"
            ));
        }
        entries
    }

    /// Asserts that the entries so far are exactly these, in this order.
    ///
    /// # Panics
    /// If they are not, with both sides and their differences; or as [`entries`](Self::entries).
    #[track_caller]
    pub fn assert_audited(&self, expected: impl IntoIterator<Item = Expected>) {
        let expected: Vec<Expected> = expected.into_iter().collect();
        self.assert_are(&self.entries(), &expected);
    }

    /// Asserts that the entries so far are exactly these, in any order. Each expectation takes the first entry that
    /// meets it and that no other expectation has taken, so give the stricter expectations first.
    ///
    /// # Panics
    /// The same as those of [`assert_audited`](Self::assert_audited).
    #[track_caller]
    pub fn assert_audited_in_any_order(&self, expected: impl IntoIterator<Item = Expected>) {
        let (mut left, mut ordered) = (self.entries(), Vec::new());
        let expected: Vec<Expected> = expected.into_iter().collect();
        for wanted in &expected {
            match left.iter().position(|entry| wanted.differences(entry).is_empty()) {
                Some(index) => ordered.push(left.remove(index)),
                // Nothing meets this expectation: compare it with an entry that is left, for the report.
                None if left.is_empty() => {}
                None => ordered.push(left.remove(0)),
            }
        }
        ordered.append(&mut left);
        self.assert_are(&ordered, &expected);
    }

    #[track_caller]
    fn assert_are(&self, entries: &[SequencedEntry], expected: &[Expected]) {
        let Some(mut report) = report(entries, expected) else { return };
        let discarded = self.captured.discarded_meanwhile();
        if discarded > 0 {
            line(
                &mut report,
                format_args!(
                    "{discarded} audit events of threads without a capture belonged to no capture meanwhile: if \
                     some of them are missing here, include their threads by Capture::scope(), or use \
                     capture_process()"
                ),
            );
        }
        fail(&report);
    }

    /// Asserts that there is no entry so far.
    ///
    /// # Panics
    /// If there is one, with all entries; or as [`entries`](Self::entries).
    #[track_caller]
    pub fn assert_nothing_audited(&self) {
        self.assert_audited([]);
    }
}
