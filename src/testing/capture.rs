//! The capture: every event of the process until it is dropped.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use tracing::Subscriber;
use tracing_subscriber::{prelude::*, registry::LookupSpan};

use super::{
    expected::{Expected, assert_audited, fail},
    recorder::Recorder,
};
use crate::{AuditLayer, AuditLog, SequencedEntry, platform::lock};

/// The log of all captures of this process.
struct Shared {
    log: AuditLog,
    recorder: Recorder,
    /// Whether a capture is running, and who waits for its end.
    captured: Mutex<bool>,
    over: Condvar,
}

#[expect(clippy::expect_used, reason = "a test fails by panicking")]
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let recorder = Recorder::new();
        let log =
            AuditLog::builder().store(&recorder).open_blocking().expect("a log in memory can be opened");
        Shared { log, recorder, captured: Mutex::new(false), over: Condvar::new() }
    })
}

/// Begins to collect what is audited, by every thread and task of the process, until the capture is dropped.
///
/// There is one capture at a time: another test that begins one waits until this one is dropped, so tests of
/// one binary that use captures run one after the other and never see each other's entries. A thread that
/// begins a second one waits for ever.
///
/// The first call installs a global subscriber. Where the tests install one of their own, it needs [`layer`].
///
/// # Panics
/// If there is a global subscriber that does not have the layer.
#[must_use]
pub fn capture() -> Capture {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let shared = shared();
    let installed = INSTALLED.get_or_init(|| {
        if shared.log.is_attached() {
            return Ok(());
        }
        let subscriber = tracing_subscriber::registry().with(shared.log.layer());
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|error| format!("{error}: give that subscriber tracing_audit::testing::layer()"))
    });
    if let Err(why) = installed {
        fail(why);
    }
    let mut captured = lock(&shared.captured);
    while *captured {
        captured = shared.over.wait(captured).unwrap_or_else(PoisonError::into_inner);
    }
    *captured = true;
    drop(captured);
    let mut capture = Capture { from: 0 };
    // What came before, from a test that ended with something still under way, is not part of it.
    capture.from = capture.all().len();
    capture
}

/// The layer that [`capture`] reads from, for a global subscriber of the tests' own.
#[must_use]
pub fn layer<S>() -> AuditLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    shared().log.layer()
}

/// What is audited from [`capture`] on.
#[derive(Debug)]
pub struct Capture {
    from: usize,
}

impl Drop for Capture {
    fn drop(&mut self) {
        let shared = shared();
        *lock(&shared.captured) = false;
        shared.over.notify_one();
    }
}

impl Capture {
    /// The log that records, for code that writes entries as values or asks for
    /// [`committed`](AuditLog::committed).
    #[must_use]
    pub fn log(&self) -> &AuditLog {
        &shared().log
    }

    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    fn all(&self) -> Vec<SequencedEntry> {
        self.log().flush_blocking().expect("a recorder commits at once");
        shared().recorder.entries()
    }

    /// What was audited so far, in the order of acceptance. Blocks for the moment that the log needs.
    ///
    /// # Panics
    /// If the log cannot be flushed.
    #[must_use]
    pub fn entries(&self) -> Vec<SequencedEntry> {
        self.all().into_iter().skip(self.from).collect()
    }

    /// Asserts that exactly this was audited so far, in this order.
    ///
    /// # Panics
    /// If anything else was, with both sides and what differs.
    #[track_caller]
    pub fn assert_audited(&self, expected: impl IntoIterator<Item = Expected>) {
        assert_audited(&self.entries(), expected);
    }

    /// Asserts that exactly this was audited so far, in whatever order. Each expectation takes the first entry
    /// that meets it and is not taken yet, so give the stricter ones first.
    ///
    /// # Panics
    /// As [`assert_audited`](Self::assert_audited).
    #[track_caller]
    pub fn assert_audited_in_any_order(&self, expected: impl IntoIterator<Item = Expected>) {
        let (mut left, mut ordered) = (self.entries(), Vec::new());
        let expected: Vec<Expected> = expected.into_iter().collect();
        for wanted in &expected {
            match left.iter().position(|entry| wanted.differences(entry).is_empty()) {
                Some(index) => ordered.push(left.remove(index)),
                // Any other shows that this one is missing.
                None if left.is_empty() => {}
                None => ordered.push(left.remove(0)),
            }
        }
        ordered.append(&mut left);
        assert_audited(&ordered, expected);
    }

    /// Asserts that nothing was audited so far.
    ///
    /// # Panics
    /// If something was, with all of it.
    #[track_caller]
    pub fn assert_nothing_audited(&self) {
        self.assert_audited([]);
    }
}
