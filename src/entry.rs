//! The audit entry, its vocabulary, and the normal form in which it is stored.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Namespace of [`audit_id`]: UUIDv5 of the URL namespace and `https://docs.rs/tracing-audit`.
const NAMESPACE: Uuid = Uuid::from_u128(0x2581_02a3_6737_5467_afdb_04c3_cf69_e6e1);

/// The greatest depth of stored JSON. Deeper values could be built in memory but not read back: `serde_json` stops at
/// 128 levels.
const MAX_DEPTH: usize = 100;

/// The earliest time that can be stored, 0001-01-01 in microseconds since 1970: RFC 3339, and so CSV, has four digits
/// for the year.
pub(crate) const MIN_TS: i64 = -62_135_596_800_000_000;
/// The latest time that can be stored: the last microsecond of the year 9999.
pub(crate) const MAX_TS: i64 = 253_402_300_799_999_999;

/// One audited action: who did what to which resource, what was decided, and why.
///
/// Readers return entries in their normal form: `ts` has whole microseconds within the years 1 to 9999, no text
/// contains U+0000, and `risk_score` is finite.
///
/// ```
/// use tracing_audit::{AuditEntry, Decision};
/// use uuid::Uuid;
///
/// let mut entry = AuditEntry::new(Uuid::nil(), "document.read", "document");
/// entry.decision = Decision::Allow.into();
/// assert_eq!(entry.id.get_version_num(), 7);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Unique in the ledger. Entries made from events have a UUIDv7 of the moment of emission.
    pub id: Uuid,
    /// The session in which the action happened, if any.
    pub session_id: Option<Uuid>,
    /// The workspace (tenant) that the entry belongs to; nil if the application has none.
    pub workspace_id: Uuid,
    /// The agent that acted, if known. [`audit_id`] turns names and numbers into UUIDs.
    pub agent_id: Option<Uuid>,
    /// The action, for instance `document.read`.
    pub action: String,
    /// The kind of resource that the action was done to, for instance `document`.
    pub resource: String,
    /// The id of that resource, if the action was done to a single one.
    pub resource_id: Option<String>,
    /// `Allow`, `Deny` or `Mask`; empty if nobody decided.
    pub decision: String,
    /// The reason for the decision, in words.
    pub reason: Option<String>,
    /// The risk that the application computed; 0.0 if it computed none.
    pub risk_score: f64,
    /// Everything else, usually a JSON object.
    pub metadata: Value,
    /// The time of the action.
    pub ts: DateTime<Utc>,
}

impl AuditEntry {
    /// Creates an entry with the current time and a new UUIDv7 as `id`; every field not given here is empty.
    #[must_use]
    pub fn new(workspace_id: Uuid, action: impl Into<String>, resource: impl Into<String>) -> Self {
        let now = Moment::now();
        Self {
            id: now.id(),
            session_id: None,
            workspace_id,
            agent_id: None,
            action: action.into(),
            resource: resource.into(),
            resource_id: None,
            decision: String::new(),
            reason: None,
            risk_score: 0.0,
            metadata: Value::Object(serde_json::Map::new()),
            ts: from_micros(now.micros),
        }
    }
}

/// An entry of the ledger, with its place in the order of commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SequencedEntry {
    /// The ledger that the entry belongs to.
    pub ledger: String,
    /// The number of the entry in the ledger: contiguous from 0, in the order of commit.
    pub seq: u64,
    /// The entry itself. When serialized, its fields are flattened into those of this struct.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// The time at which the entry's batch was committed, by the writer's clock.
    pub committed_at: DateTime<Utc>,
    /// The problems of the event, each as `field: problem`; empty for a well-formed event.
    pub problems: Vec<String>,
}

/// The decision about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decision {
    /// The action was allowed.
    Allow,
    /// The action was refused.
    Deny,
    /// The action was allowed, with parts of the data hidden.
    Mask,
}

impl Decision {
    /// Returns the word that is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
            Self::Mask => "Mask",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Decision> for String {
    fn from(decision: Decision) -> Self {
        decision.as_str().to_owned()
    }
}

/// The error for a text that is not `Allow`, `Deny` or `Mask` in any letter case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownDecision;

impl fmt::Display for UnknownDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decision: expected Allow, Deny or Mask")
    }
}

impl std::error::Error for UnknownDecision {}

impl FromStr for Decision {
    type Err = UnknownDecision;

    fn from_str(text: &str) -> Result<Self, UnknownDecision> {
        [Self::Allow, Self::Deny, Self::Mask]
            .into_iter()
            .find(|decision| decision.as_str().eq_ignore_ascii_case(text))
            .ok_or(UnknownDecision)
    }
}

/// Returns the UUID under which a text that is not a UUID (a user name, an e-mail address, a number) is stored.
///
/// It is a UUIDv5 (RFC 9562, section 5.5) in a namespace of this crate, so the same text gives the same UUID in every
/// process: filter by `audit_id("alice@example.com")` to find the actions of Alice. The text itself is kept in the
/// entry's metadata.
///
/// ```
/// # use tracing_audit::audit_id;
/// assert_eq!(audit_id("alice"), audit_id("alice"));
/// assert_eq!(audit_id("alice").get_version_num(), 5);
/// ```
#[must_use]
pub fn audit_id(text: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

/// One reading of the clock. An entry gets both its `ts` and its `id` from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Microseconds since 1970 in UTC; negative for earlier times.
    pub(crate) micros: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let micros = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(MAX_TS),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(MIN_TS, |micros| -micros),
        };
        Self { micros: micros.clamp(MIN_TS, MAX_TS) }
    }

    /// Returns a UUIDv7 with the fraction of the millisecond in its 12 `rand_a` bits (RFC 9562, section 6.2, method
    /// 3), so that the ids of one process ascend, and with 62 random bits. For times before 1970 the time part is zero.
    pub(crate) fn id(self) -> Uuid {
        let micros = u64::try_from(self.micros).unwrap_or(0);
        let fraction = (micros % 1000) * 4096 / 1000;
        let mut tail = [0_u8; 10];
        let (rand_a, rand_b) = tail.split_at_mut(2);
        // The fraction is below 4096, so the conversion cannot fail.
        rand_a.copy_from_slice(&u16::try_from(fraction).unwrap_or(0).to_be_bytes());
        rand_b.copy_from_slice(&random().to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(micros / 1000, &tail).into_uuid()
    }
}

thread_local! {
    static RNG: std::cell::RefCell<fastrand::Rng> = std::cell::RefCell::new(seeded());
}

/// Returns a generator that the operating system has seeded. `fastrand` would take its seed from the clock and the
/// thread alone, which two processes may share.
fn seeded() -> fastrand::Rng {
    let (_, seed) = Uuid::new_v4().as_u64_pair();
    fastrand::Rng::with_seed(seed)
}

/// Returns random bits, which need to be unique, not secret. Works even while a thread's locals are being destroyed.
fn random() -> u64 {
    RNG.try_with(|rng| rng.borrow_mut().u64(..)).unwrap_or_else(|_| seeded().u64(..))
}

/// Returns the time for microseconds since 1970, or the nearest one that can be stored.
pub(crate) fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros.clamp(MIN_TS, MAX_TS)).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Brings an entry into normal form and returns the problems that it had to correct. A second call changes nothing.
pub(crate) fn normalize(entry: &mut AuditEntry) -> Vec<String> {
    let mut problems = Vec::new();
    let micros = entry.ts.timestamp_micros();
    if !(MIN_TS..=MAX_TS).contains(&micros) {
        problems.push(format!("ts: {} is outside of the years 1 to 9999", entry.ts));
    }
    entry.ts = from_micros(micros);
    for (name, text) in [
        ("action", Some(&mut entry.action)),
        ("resource", Some(&mut entry.resource)),
        ("resource_id", entry.resource_id.as_mut()),
        ("decision", Some(&mut entry.decision)),
        ("reason", entry.reason.as_mut()),
    ] {
        if let Some(text) = text
            && replace_nul(text)
        {
            problems.push(format!("{name}: NUL replaced"));
        }
    }
    if !entry.risk_score.is_finite() {
        problems.push(format!("risk_score: {} is not a finite number", entry.risk_score));
        entry.risk_score = 0.0;
    }
    normalize_json(&mut entry.metadata, &mut problems);
    problems
}

/// Replaces U+0000 in a text, and returns whether there was any: PostgreSQL cannot store it, and C programs stop
/// reading at it.
pub(crate) fn replace_nul(text: &mut String) -> bool {
    let found = text.contains('\0');
    if found {
        *text = text.replace('\0', "\u{fffd}");
    }
    found
}

/// Replaces U+0000 and too deep values in JSON, and adds the problems found to the list.
pub(crate) fn normalize_json(value: &mut Value, problems: &mut Vec<String>) {
    let (mut nul, mut deep) = (false, false);
    clean(value, 0, &mut nul, &mut deep);
    if nul {
        problems.push("metadata: NUL replaced".to_owned());
    }
    if deep {
        problems.push(format!("metadata: nested deeper than {MAX_DEPTH} levels, the rest kept as text"));
    }
}

fn clean(value: &mut Value, depth: usize, nul: &mut bool, deep: &mut bool) {
    match value {
        Value::String(text) => *nul |= replace_nul(text),
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
            let mut text = value.to_string();
            replace_nul(&mut text);
            *value = Value::String(text);
            *deep = true;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, depth + 1, nul, deep)),
        Value::Object(map) => {
            let hostile: Vec<String> = map.keys().filter(|key| key.contains('\0')).cloned().collect();
            for key in hostile {
                if let Some(inner) = map.remove(&key) {
                    let mut clean = key.replace('\0', "\u{fffd}");
                    while map.contains_key(&clean) {
                        clean.push('\u{fffd}');
                    }
                    map.insert(clean, inner);
                    *nul = true;
                }
            }
            map.values_mut().for_each(|inner| clean(inner, depth + 1, nul, deep));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text as an entry that holds it is stored.
pub(crate) fn storable(mut text: String) -> String {
    replace_nul(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn audit_id_never_changes_because_stored_entries_depend_on_it() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://docs.rs/tracing-audit"));
        assert_eq!(audit_id("alice").to_string(), "8463ebe1-9248-5ca7-9c03-e00fcfc2b0f7");
    }

    #[test]
    fn ids_of_one_thread_ascend_with_the_microsecond() {
        let at = |micros| Moment { micros }.id();
        for micros in 1_700_000_000_000_000..1_700_000_000_002_000 {
            assert!(at(micros) < at(micros + 1), "{micros}");
        }
        assert_eq!(at(1_700_000_000_123_456).get_version_num(), 7);
        assert_eq!(at(-5).get_version_num(), 7);
    }

    #[test]
    fn json_deeper_than_can_be_read_back_is_kept_as_text() {
        let mut value = json!("core");
        for _ in 0..500 {
            value = json!([value]);
        }
        let mut problems = Vec::new();
        normalize_json(&mut value, &mut problems);
        assert_eq!(problems.len(), 1);
        let text = value.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.contains("core"));
    }

    #[test]
    fn two_keys_that_differ_only_in_nul_are_both_kept() {
        let mut value = json!({"a\0": 1, "a\u{fffd}": 2});
        normalize_json(&mut value, &mut Vec::new());
        assert_eq!(value, json!({"a\u{fffd}": 2, "a\u{fffd}\u{fffd}": 1}));
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing_more(
            micros in any::<i64>(), text in any::<String>(), risk in any::<f64>(), key in any::<String>(),
        ) {
            let mut entry = AuditEntry::new(Uuid::nil(), text.clone() + "\0", "r");
            entry.ts = DateTime::from_timestamp_micros(micros / 4).unwrap_or(DateTime::<Utc>::MAX_UTC);
            entry.risk_score = risk;
            entry.metadata = json!({ key: text });
            normalize(&mut entry);
            let once = entry.clone();
            prop_assert_eq!(normalize(&mut entry), Vec::<String>::new());
            prop_assert_eq!(once, entry);
        }
    }
}
