//! Captures what is audited, in memory.

use std::{
    collections::BTreeSet,
    fmt::{self, Display, Write as _},
    path::Path,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tracing::Subscriber;
use tracing_subscriber::{prelude::*, registry::LookupSpan};
use uuid::Uuid;

use crate::{
    AuditError, AuditLayer, AuditLog, SequencedEntry, Store, audit_id,
    entry::Moment,
    error::Kind,
    platform::lock,
    reader::sequenced,
    record::Row,
    store::{Append, AppendError, Appender, Applied, Backend, Fault, LedgerRow, Migrate, Readmitted, Reads},
};

/// Keeps what is committed in memory, for assertions. Cheap to clone; clones share what they keep.
///
/// Give it to a builder as a [`Store`]. It answers no queries: those need a log on a (temporary) file.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    rows: Vec<LedgerRow>,
    ids: BTreeSet<Uuid>,
}

impl Recorder {
    /// One that has nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything committed so far, in that order. Flush the log first.
    ///
    /// # Panics
    /// Never on what a log has written.
    #[must_use]
    #[expect(clippy::expect_used, reason = "what a log writes is in normal form")]
    pub fn entries(&self) -> Vec<SequencedEntry> {
        let rows = lock(&self.0).rows.clone();
        rows.into_iter().map(|row| sequenced(row).expect("an entry in normal form")).collect()
    }
}

impl From<Recorder> for Store {
    fn from(recorder: Recorder) -> Self {
        Self::of(recorder)
    }
}

impl From<&Recorder> for Store {
    fn from(recorder: &Recorder) -> Self {
        Self::of(recorder.clone())
    }
}

fn no_queries() -> AuditError {
    AuditError::new(
        Kind::Store,
        "a recorder answers no queries: use its entries, or a log on a temporary file",
    )
}

impl Backend for Recorder {
    fn name(&self, _directory: &Path) -> Option<String> {
        None
    }

    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        _: Migrate,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        let appender = Recording { recorder: self.clone(), ledger: ledger.to_owned() };
        Box::pin(async { Ok(Box::new(appender) as Box<dyn Appender>) })
    }

    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        Err(no_queries())
    }
}

struct Recording {
    recorder: Recorder,
    ledger: String,
}

impl Recording {
    fn commit(&self, batch: &Append<'_>) -> Result<Applied, AppendError> {
        let mut recorded = lock(&self.recorder.0);
        let mut new = BTreeSet::new();
        if batch.rows.iter().any(|row| recorded.ids.contains(&row.id) || !new.insert(row.id)) {
            let error = AuditError::new(Kind::Duplicate, "the log holds an entry with this id already");
            return Err(AppendError { fault: Fault::Duplicate, error });
        }
        recorded.ids.append(&mut new);
        let first_seq = recorded.rows.len() as u64;
        let committed_at = Moment::now().micros;
        recorded.rows.extend((first_seq..).zip(batch.rows).map(|(seq, row)| LedgerRow {
            ledger: self.ledger.clone(),
            seq,
            row: Row::clone(row),
            committed_at,
        }));
        Ok(Applied {
            until: batch.until(),
            rows: batch.rows.len() as u64,
            first_seq: (!batch.rows.is_empty()).then_some(first_seq),
        })
    }
}

impl Appender for Recording {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move { self.commit(&batch) })
    }

    fn position(&mut self, _: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async { Err(no_queries()) })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<Readmitted, AuditError>> {
        Box::pin(async { Err(no_queries()) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

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

#[track_caller]
#[expect(clippy::panic, reason = "a test fails by panicking")]
fn fail(why: &str) -> ! {
    panic!("{why}")
}

/// Asserts that `entries` are exactly these, in this order: for entries from a [`Recorder`] or a reader.
///
/// # Panics
/// If they are not, with both sides and what differs.
#[track_caller]
pub fn assert_audited(entries: &[SequencedEntry], expected: impl IntoIterator<Item = Expected>) {
    let expected: Vec<Expected> = expected.into_iter().collect();
    let mut wrong = String::new();
    for (index, wanted) in expected.iter().enumerate() {
        match entries.get(index).map(|entry| wanted.differences(entry)) {
            Some(differences) if differences.is_empty() => {}
            Some(differences) => line(&mut wrong, format_args!("{index}: {}", differences.join(", "))),
            None => line(&mut wrong, format_args!("{index}: not audited")),
        }
    }
    for index in expected.len()..entries.len() {
        line(&mut wrong, format_args!("{index}: audited, not expected"));
    }
    if wrong.is_empty() {
        return;
    }
    let mut report = String::from("not audited as expected\n  what differs:\n");
    report.push_str(&wrong);
    report.push_str("  expected:\n");
    for (index, wanted) in expected.iter().enumerate() {
        line(&mut report, format_args!("{index}: {wanted}"));
    }
    report.push_str("  audited:\n");
    for (index, found) in entries.iter().enumerate() {
        let (entry, problems) = (&found.entry, &found.problems);
        line(
            &mut report,
            format_args!(
                "{index}: action={:?} resource={:?} resource_id={:?} decision={:?} reason={:?} risk_score={} \
                 agent_id={:?} session_id={:?} workspace_id={} metadata={} problems={problems:?}",
                entry.action,
                entry.resource,
                entry.resource_id.as_deref().unwrap_or(""),
                entry.decision,
                entry.reason.as_deref().unwrap_or(""),
                entry.risk_score,
                entry.agent_id,
                entry.session_id,
                entry.workspace_id,
                entry.metadata,
            ),
        );
    }
    fail(&report)
}

fn line(out: &mut String, what: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(out, "    {what}").unwrap_or_default();
}

/// What an entry should be: every field that is given must hold, the others may be anything. An entry with
/// problems meets no expectation unless it says so.
#[derive(Debug, Clone)]
#[must_use = "it is checked by assert_audited"]
pub struct Expected {
    /// In the order in which they are shown.
    fields: Vec<(String, Value)>,
    problems: bool,
}

impl Expected {
    /// An entry with this action.
    pub fn action(action: impl Into<String>) -> Self {
        Self { fields: Vec::new(), problems: false }.field("action", action.into())
    }

    fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    fn id(self, name: &str, text: impl Display) -> Self {
        let text = text.to_string();
        let id = Uuid::parse_str(&text).unwrap_or_else(|_| audit_id(&text));
        self.field(name, id.to_string())
    }

    /// On this kind of resource.
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.field("resource", resource.into())
    }

    /// On this resource.
    pub fn resource_id(self, id: impl Display) -> Self {
        self.field("resource_id", id.to_string())
    }

    /// With this decision: a [`Decision`](crate::Decision) or another word.
    pub fn decision(self, decision: impl Into<String>) -> Self {
        self.field("decision", decision.into())
    }

    /// With this reason.
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.field("reason", reason.into())
    }

    /// With exactly this risk.
    pub fn risk_score(self, risk: f64) -> Self {
        self.field("risk_score", risk)
    }

    /// By this agent: a UUID, or a name as an event gives it.
    pub fn agent_id(self, agent: impl Display) -> Self {
        self.id("agent_id", agent)
    }

    /// In this session: a UUID, or a name as an event gives it.
    pub fn session_id(self, session: impl Display) -> Self {
        self.id("session_id", session)
    }

    /// In this workspace: a UUID, or a name as an event gives it.
    pub fn workspace_id(self, workspace: impl Display) -> Self {
        self.id("workspace_id", workspace)
    }

    /// With this value under this name in its metadata.
    pub fn metadata(self, name: impl Display, value: impl Into<Value>) -> Self {
        self.field(format!("metadata.{name}"), value)
    }

    /// With something wrong with it.
    pub fn with_problems(mut self) -> Self {
        self.problems = true;
        self
    }

    fn differences(&self, found: &SequencedEntry) -> Vec<String> {
        let is = serde_json::to_value(&found.entry).unwrap_or_default();
        let mut differences: Vec<String> = self
            .fields
            .iter()
            .filter_map(|(name, wanted)| {
                let is = match name.strip_prefix("metadata.") {
                    Some(key) => is.get("metadata").and_then(|metadata| metadata.get(key)),
                    None => is.get(name),
                };
                let is = is.unwrap_or(&Value::Null);
                (is != wanted).then(|| format!("{name} is {is}, expected {wanted}"))
            })
            .collect();
        if self.problems == found.problems.is_empty() {
            differences.push(format!("problems are {:?}", found.problems));
        }
        differences
    }
}

impl Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.fields.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { "" } else { " " })?;
        }
        f.write_str(if self.problems { " with problems" } else { "" })
    }
}
