//! Checks the wiring: whether audit events reach the log at all, and which callsites just miss.

use tracing::{
    Dispatch, dispatcher,
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
    subscriber::NoSubscriber,
};

use super::{canary::Arrival, interests::Interests};
use crate::error::{AuditError, ErrorKind};

/// The remarks of [`check_wiring`](crate::AuditLog::check_wiring) on a log whose canary arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WiringReport {
    /// Callsites that look as if they were meant to be audited and are not, as sentences, at most 64:
    ///
    /// - an event with `action` and a *field* named `target`;
    /// - an event with `action` and `decision` under another target;
    /// - a span that declares a context field (`agent_id`, `request_id`, ...) at a level below the log's, for instance
    ///   by `#[instrument(level = "debug")]`: its fields do not reach the events inside it;
    /// - an audit event or a span that records an id, an action or a decision by `Debug` (`?`, an argument of
    ///   `#[instrument]`): an `Option`, a text in quotation marks, a newtype;
    /// - `log::info!(target: "audit")`.
    ///
    /// A callsite is seen when it is first reached, and only if the current subscriber enables its level. So the list
    /// is most useful late, for instance at the end of a test run.
    pub near_misses: Vec<String>,
}

impl Interests {
    /// See [`AuditLog::check_wiring`](crate::AuditLog::check_wiring).
    pub(crate) fn check(&self) -> Result<WiringReport, AuditError> {
        // Cloned, since closing the canary's span within `get_default` would find no subscriber.
        let dispatch = dispatcher::get_default(Dispatch::clone);
        match self.fault(&dispatch) {
            Some(fault) => Err(AuditError::new(ErrorKind::Wiring, fault)),
            None => Ok(WiringReport { near_misses: self.near_misses() }),
        }
    }

    /// The reason why audit events do not arrive through this subscriber, and the remedy; `None` if they do.
    fn fault(&self, dispatch: &Dispatch) -> Option<String> {
        let (level, target) = (self.level(), self.target());
        if level > STATIC_MAX_LEVEL {
            return Some(format!(
                "{level} events are compiled out: a dependency enables a `max_level_*` or `release_max_level_*` \
                 feature of `tracing`; remove it, or audit at {STATIC_MAX_LEVEL}"
            ));
        }
        if dispatch.is::<NoSubscriber>() {
            return Some(
                "no subscriber is installed on this thread: call init() before check_wiring()".to_owned(),
            );
        }
        if !self.is_attached() {
            return Some(
                "the subscriber does not have this log's layer: add .with(audit.layer())".to_owned(),
            );
        }
        let canary = self.canary();
        // The questions that the macros ask, in their order.
        if level > LevelFilter::current() || !canary.is_enabled(dispatch) {
            return Some(format!(
                "something beside this log's layer disables events with the target {target:?}: a global filter (wrap \
                 it as audit.protect(filter)), or an empty Vec of layers (leave it out)"
            ));
        }
        match canary.send(dispatch) {
            Arrival { event: true, span: true } => None,
            Arrival { event: true, span: false } => Some(
                "audit events arrive, but the spans around them do not, and with them the context fields: a global \
                 filter disables spans of other targets; wrap it as audit.protect(filter)"
                    .to_owned(),
            ),
            Arrival { event: false, .. } => Some(format!(
                "an event with the target {target:?} passes every filter and does not arrive: the layer belongs to \
                 another subscriber than the current one"
            )),
        }
    }
}
