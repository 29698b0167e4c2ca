//! Questions as data, and a scan in memory that answers them. It shares no code with the crate: numbers are compared as
//! strings of digits, paths are walked, and patterns are matched here.

use std::cmp::Ordering;

use serde_json::Value;
use tracing_audit::{
    AuditEntry, SequencedEntry, audit_id,
    query::{Column, Criterion, Field, Operand},
};
use uuid::Uuid;

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Of {
    Column(Column),
    Risk,
    /// A path as it is written, and its steps.
    Path(&'static str, &'static [Step]),
}

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// A key, which may be one with its neighbours and dots between them.
    Key(&'static str),
    /// A key in quotation marks.
    Exact(&'static str),
    Index(usize),
}

/// What a value is compared with. Numbers are texts, as JSON writes them.
#[derive(Debug, Clone)]
pub(super) enum With {
    Text(String),
    Number(String),
    Bool(bool),
    Null,
    Word(String),
}

#[derive(Debug, Clone)]
pub(super) enum Asked {
    Is(Of, Vec<With>),
    Compared(Of, &'static str, With),
    Like(Of, String),
    Contains(Of, String),
    Exists(Of),
    Not(Box<Asked>),
    All(Vec<Asked>),
    Any(Vec<Asked>),
}

impl Of {
    pub(super) fn field(&self) -> Field {
        match self {
            Self::Column(column) => (*column).into(),
            Self::Risk => Field::RiskScore,
            Self::Path(path, _) => Field::metadata(*path),
        }
    }

    pub(super) fn is_id(&self) -> bool {
        use Column::{AgentId, Id, SessionId, WorkspaceId};
        matches!(self, Self::Column(Id | WorkspaceId | SessionId | AgentId))
    }

    /// The texts of the field: of an id, also the name beside it.
    fn texts(&self, entry: &AuditEntry) -> Vec<String> {
        match self {
            Self::Path(_, steps) => match at(&entry.metadata, steps) {
                None => Vec::new(),
                Some(Value::String(text)) => vec![text.clone()],
                Some(other) => vec![other.to_string()],
            },
            Self::Risk => Vec::new(),
            Self::Column(column) => {
                let mut texts: Vec<String> = column_text(entry, *column).into_iter().collect();
                if self.is_id() && *column != Column::Id && !texts.is_empty() {
                    texts
                        .extend(entry.metadata.get(column.name()).and_then(Value::as_str).map(str::to_owned));
                }
                texts
            }
        }
    }
}

fn column_text(entry: &AuditEntry, column: Column) -> Option<String> {
    let id = |id: Uuid| Some(id.to_string());
    match column {
        Column::Id => id(entry.id),
        Column::WorkspaceId => id(entry.workspace_id),
        Column::SessionId => entry.session_id.and_then(id),
        Column::AgentId => entry.agent_id.and_then(id),
        Column::Action => Some(entry.action.clone()),
        Column::Resource => Some(entry.resource.clone()),
        Column::ResourceId => entry.resource_id.clone(),
        Column::Decision => Some(entry.decision.clone()),
        _ => entry.reason.clone(),
    }
}

/// The value at this path: that of the longest key where there are several.
fn at<'a>(value: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    match steps {
        [] => Some(value),
        [Step::Index(index), rest @ ..] => at(value.as_array()?.get(*index)?, rest),
        [Step::Exact(key), rest @ ..] => at(value.as_object()?.get(*key)?, rest),
        keys => {
            let run = keys.iter().map_while(|step| if let Step::Key(key) = step { Some(*key) } else { None });
            let run: Vec<&str> = run.collect();
            (1..=run.len())
                .rev()
                .find_map(|taken| at(value.as_object()?.get(&run[..taken].join("."))?, &keys[taken..]))
        }
    }
}

impl With {
    pub(super) fn operand(&self) -> Operand {
        match self {
            Self::Text(text) => text.as_str().into(),
            // A number of Rust where there is one, and otherwise as a person writes it.
            Self::Number(number) => match number.parse::<i64>() {
                Ok(integer) => integer.into(),
                Err(_) => match number.parse::<u64>() {
                    Ok(integer) => integer.into(),
                    Err(_) => Operand::word(number),
                },
            },
            Self::Bool(value) => (*value).into(),
            Self::Null => Value::Null.into(),
            Self::Word(word) => Operand::word(word),
        }
    }

    /// What a column of text is compared with.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) | Self::Word(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".to_owned(),
        }
    }

    /// The number, if this is one.
    fn number(&self) -> Option<&str> {
        match self {
            Self::Number(number) => Some(number),
            Self::Word(word) => is_number(word).then_some(word),
            _ => None,
        }
    }

    fn is(&self, value: &Value) -> bool {
        let is_word =
            matches!(self, Self::Word(_)) || matches!(self, Self::Number(number) if is_beyond(number));
        match value {
            Value::String(text) => {
                matches!(self, Self::Text(given) if given == text) || is_word && self.text() == *text
            }
            Value::Number(number) => {
                self.number().is_some_and(|given| compare(&number.to_string(), given) == Ordering::Equal)
            }
            Value::Bool(value) => {
                matches!(self, Self::Bool(given) if given == value)
                    || is_word && self.text() == value.to_string()
            }
            Value::Null => matches!(self, Self::Null) || is_word && self.text() == "null",
            _ => false,
        }
    }
}

/// Whether this number was given as a word: see [`With::operand`].
fn is_beyond(number: &str) -> bool {
    number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let begins =
        digits.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    let has_zero_before =
        digits.starts_with('0') && digits.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
    begins && !has_zero_before && !text.contains(".e") && text.parse::<f64>().is_ok()
}

/// Compares two numbers as JSON writes them: their digits, at their places.
fn compare(one: &str, other: &str) -> Ordering {
    const PLACES: i64 = 800;
    // The sign, and the digits from the place of 10^800 on.
    let read = |text: &str| {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let shift = PLACES - i64::try_from(whole.len()).unwrap() - power.parse::<i64>().unwrap();
        let digits = "0".repeat(usize::try_from(shift).unwrap()) + whole + fraction;
        let digits = digits.trim_end_matches('0').to_owned();
        let sign = if digits.is_empty() {
            0
        } else if negative {
            -1
        } else {
            1
        };
        (sign, digits)
    };
    let ((sign, digits), (other_sign, others)) = (read(one), read(other));
    sign.cmp(&other_sign).then_with(|| if sign < 0 { others.cmp(&digits) } else { digits.cmp(&others) })
}

/// Whether the text is like the pattern.
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.map(|at| text.split_at(at).1).any(|text| is_like(text, rest))
        }),
    }
}

impl Asked {
    pub(super) fn criterion(&self) -> Criterion {
        match self {
            Self::Is(of, values) => of.field().is(values.iter().map(With::operand)),
            Self::Compared(of, "<", with) => of.field().less_than(with.operand()),
            Self::Compared(of, "<=", with) => of.field().at_most(with.operand()),
            Self::Compared(of, ">=", with) => of.field().at_least(with.operand()),
            Self::Compared(of, _, with) => of.field().greater_than(with.operand()),
            Self::Like(of, pattern) => of.field().like(pattern),
            Self::Contains(of, text) => of.field().contains(text),
            Self::Exists(of) => of.field().exists(),
            Self::Not(inner) => !inner.criterion(),
            Self::All(inner) => Criterion::all(inner.iter().map(Self::criterion)),
            Self::Any(inner) => Criterion::any(inner.iter().map(Self::criterion)),
        }
    }

    /// Whether the entry meets it.
    pub(super) fn holds(&self, found: &SequencedEntry) -> bool {
        let entry = &found.entry;
        match self {
            Self::Is(Of::Path(_, steps), values) => {
                at(&entry.metadata, steps).is_some_and(|value| values.iter().any(|with| with.is(value)))
            }
            Self::Is(Of::Risk, values) => {
                let equal =
                    |with: &With| entry.risk_score.partial_cmp(&with.number().unwrap().parse().unwrap());
                values.iter().any(|with| equal(with) == Some(Ordering::Equal))
            }
            Self::Is(of @ Of::Column(column), values) => column_text(entry, *column).is_some_and(|text| {
                values.iter().any(|with| {
                    let given = with.text();
                    if !of.is_id() {
                        return given == text;
                    }
                    // A UUID, and also the name that it may be; or a name.
                    let Ok(id) = given.parse::<Uuid>() else { return audit_id(&given).to_string() == text };
                    let is_name = id.get_version_num() == 5 && *column != Column::Id;
                    id.to_string() == text || is_name && audit_id(&id.to_string()).to_string() == text
                })
            }),
            Self::Compared(of, order, with) => {
                let ordering = match of {
                    Of::Risk => entry.risk_score.partial_cmp(&with.number().unwrap().parse().unwrap()),
                    Of::Column(column) => column_text(entry, *column).map(|text| text.cmp(&with.text())),
                    Of::Path(_, steps) => {
                        at(&entry.metadata, steps).and_then(|value| match (value, with.number()) {
                            (Value::Number(value), Some(number)) => Some(compare(&value.to_string(), number)),
                            (Value::String(value), None) => Some(value.as_str().cmp(&with.text())),
                            _ => None,
                        })
                    }
                };
                ordering.is_some_and(|ordering| match *order {
                    "<" => ordering == Ordering::Less,
                    "<=" => ordering != Ordering::Greater,
                    ">=" => ordering != Ordering::Less,
                    _ => ordering == Ordering::Greater,
                })
            }
            Self::Like(of, pattern) => of.texts(entry).iter().any(|text| is_like(text, pattern)),
            Self::Contains(of, part) => {
                let part = part.to_ascii_lowercase();
                of.texts(entry).iter().any(|text| text.to_ascii_lowercase().contains(&part))
            }
            Self::Exists(Of::Path(_, steps)) => at(&entry.metadata, steps).is_some(),
            Self::Exists(Of::Column(column)) => column_text(entry, *column).is_some(),
            Self::Exists(Of::Risk) => true,
            Self::Not(inner) => !inner.holds(found),
            Self::All(inner) => inner.iter().all(|one| one.holds(found)),
            Self::Any(inner) => inner.iter().any(|one| one.holds(found)),
        }
    }
}
