//! Reads the language of `--where`, and the values of options, in which `*` stands for any text.

use tracing_audit::{
    Decision, audit_id,
    query::{Column, Criterion, Field, Operand},
};
use uuid::Uuid;

use super::fields::of_condition;
use crate::failure::Failure;

/// The language, for the help text.
pub(super) const LANGUAGE: &str = "\
Entries that meet a condition on a field, such as `metadata.ms>=500`, `reason~expired`, `action!=login`.

A condition is a field, an operator and a value. Fields are id, workspace_id, session_id, agent_id, action, resource, \
resource_id, decision, reason, risk_score, and metadata.PATH, such as metadata.client.ip or metadata.tags[0].

  reason=expired         has this value
  metadata.n=5           has the text 5, or a number equal to 5
  action=login,logout    has one of these values
  action!=login          has another value, or none
  action=*:Create*       is like this: * stands for any text
  metadata.ip=*          has a value; metadata.ip!=* has none
  metadata.ms>=500       also <, <= and >
  reason~expired         contains this text; !~ does not
  action=a OR reason~b   meets one of several conditions

If the option is repeated, all its conditions must hold. A shell needs '...' around a condition with <, >, !, * or a blank.

<, <=, > and >= compare numbers with numbers by value, and texts with texts by code point: neither the text \"404\" nor null \
is less than 500. Case counts, except for ASCII letters in ~ and for the words Allow, Deny and Mask.

A value in quotation marks, with JSON's escapes, is that text and nothing else: reason=\"a, b\", metadata.n=\"5\", \
action=\"*\", reason=\"\". So is a key: metadata.\"a.b\".

An index serves = without * on a field that has one, and the beginning of the action, as in action=s3:*. All else looks at \
each entry: give a range of time too.";

/// Reads one `--where`.
pub(super) fn criterion(text: &str) -> Result<Criterion, Failure> {
    let (mut rest, mut alternatives) = (text, Vec::new());
    loop {
        let (alternative, after) = condition(rest)?;
        alternatives.push(alternative);
        match after {
            Some(after) => rest = after,
            None => return Ok(Criterion::any(alternatives)),
        }
    }
}

/// Reads the values of an option for this column, one of which an entry must have.
pub(super) fn of_option(option: &str, column: Column, values: &[String]) -> Result<Criterion, Failure> {
    let values: Vec<Value> =
        values.iter().map(|value| option_value(option, value)).collect::<Result<_, _>>()?;
    any_of(&Field::from(column), values)
}

/// Reads the value of an option that is one id: a UUID, or the name that it was made from.
pub(super) fn id_of(option: &str, value: &str) -> Result<Uuid, Failure> {
    match option_value(option, value)? {
        Value::Word(word) if word.contains('*') => Err(usage(format!(
            "{option} must name one, and {word:?} may mean several: write it without the *"
        ))),
        Value::Word(text) | Value::Exact(text) => {
            Ok(Uuid::try_parse(&text).unwrap_or_else(|_| audit_id(&text)))
        }
    }
}

/// Reads the value of an option that takes a part of a text.
pub(super) fn part_of_text(option: &str, value: &str) -> Result<String, Failure> {
    match option_value(option, value)? {
        Value::Exact(part) if part.is_empty() => {
            Err(usage(format!("{option}: every text contains the empty one")))
        }
        Value::Exact(part) => Ok(part),
        Value::Word(word) if word.contains('*') => Err(usage(no_wildcard(option, &word))),
        Value::Word(word) => Ok(word),
    }
}

fn option_value(option: &str, value: &str) -> Result<Value, Failure> {
    if value.is_empty() {
        let message = format!(
            "{option} has no value; one that is meant to be empty is written \"\" in quotation marks"
        );
        return Err(usage(message));
    }
    if !value.starts_with('"') {
        return Ok(Value::Word(value.to_owned()));
    }
    match quoted(value)? {
        (text, "") => Ok(Value::Exact(text)),
        (_, after) => {
            Err(usage(format!("{option}: nothing can come after the quotation mark, and {after:?} does")))
        }
    }
}

/// A value as it was written.
#[derive(Debug)]
enum Value {
    /// The value is in quotation marks.
    Exact(String),
    Word(String),
}

/// The characters of operators, and the operators.
const OF_OPERATORS: [char; 5] = ['=', '!', '<', '>', '~'];
const OPERATORS: &str = "=, !=, <, <=, >, >=, ~ and !~";

/// Reads a condition. Returns also what comes after an `OR` behind it.
fn condition(text: &str) -> Result<(Criterion, Option<&str>), Failure> {
    let (field, rest) = named(text)?;
    let (operator, rest) = rest.split_at(rest.find(|c| !OF_OPERATORS.contains(&c)).unwrap_or(rest.len()));
    check_operator(text, operator)?;
    let (values, after) = values(text, rest)?;
    let criterion = match operator {
        "=" => any_of(&field, values)?,
        "!=" => !any_of(&field, values)?,
        "~" | "~=" => containing(&field, values)?,
        "!~" | "!~=" => !containing(&field, values)?,
        order => compared(&field, order, values)?,
    };
    Ok((criterion, after))
}

/// Reads the field before an operator.
fn named(text: &str) -> Result<(Field, &str), Failure> {
    let mut in_quotes = false;
    let end = text.find(|c| {
        in_quotes ^= c == '"';
        !in_quotes && OF_OPERATORS.contains(&c)
    });
    match end {
        None if in_quotes => Err(usage(format!("{text:?}: a quotation mark is missing at the end of a key"))),
        None => Err(usage(format!(
            "{:?} is not FIELD=VALUE, or with another operator: there are {OPERATORS}; a value that contains \" OR \" stands in \
             quotation marks",
            text.trim()
        ))),
        Some(end) => {
            let (name, rest) = text.split_at(end);
            Ok((of_condition(name.trim())?, rest))
        }
    }
}

fn check_operator(text: &str, operator: &str) -> Result<(), Failure> {
    let meant = match operator {
        "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" | "~=" | "!~=" => return Ok(()),
        "==" | "===" => "=",
        "=~" | "~~" => "~",
        "<>" | "!==" | "=!" | "!" => "!=",
        "=>" => ">=",
        "=<" => "<=",
        _ => "",
    };
    let meant = if meant.is_empty() { String::new() } else { format!(" (did you mean {meant}?)") };
    Err(usage(format!(
        "{text:?}: there is no operator {operator}{meant}: there are {OPERATORS}; a value that begins with such a character \
         stands in quotation marks"
    )))
}

/// Reads the values after an operator, and what comes after an `OR` behind them.
fn values<'a>(text: &str, rest: &'a str) -> Result<(Vec<Value>, Option<&'a str>), Failure> {
    let (mut rest, mut values) = (rest.trim_start(), Vec::new());
    loop {
        if rest.starts_with('"') {
            let (value, after) = quoted(rest)?;
            values.push(Value::Exact(value));
            rest = after.trim_start();
        } else {
            let end = [rest.find(','), rest.find(" OR "), rest.strip_prefix("OR ").map(|_| 0)];
            let (word, after) = rest.split_at(end.into_iter().flatten().min().unwrap_or(rest.len()));
            let word = word.trim_end();
            if word.is_empty() {
                let message = "a value is missing; one that is meant to be empty is written \"\"";
                return Err(usage(format!("{text:?}: {message}")));
            }
            if word.contains('"') {
                let message =
                    "a quotation mark stands before and after a whole value; within one it is written \\\"";
                return Err(usage(format!("{text:?}: {message}")));
            }
            check_conjunction(text, word)?;
            check_end(text, word)?;
            values.push(Value::Word(word.to_owned()));
            rest = after.trim_start();
        }
        if let Some(after) = rest.strip_prefix(',') {
            if after.starts_with(char::is_whitespace) {
                let message = "the next value comes right after a comma; a value that holds a comma stands in quotation marks";
                return Err(usage(format!("{text:?}: {message}")));
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix("OR ") {
            return Ok((values, Some(after)));
        } else if rest.is_empty() {
            return Ok((values, None));
        } else {
            return Err(usage(format!(
                "{text:?}: after a value comes a comma, OR or the end, and not {rest:?}"
            )));
        }
    }
}

/// Reads the JSON string that the text begins with.
fn quoted(text: &str) -> Result<(String, &str), Failure> {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else {
        return Err(usage(format!("{text:?}: a quotation mark is missing at the end of the value")));
    };
    let (quoted, after) = text.split_at(end + 1);
    match serde_json::from_str(quoted) {
        Ok(value) => Ok((value, after)),
        Err(_) => Err(usage(format!(
            "{quoted} is not a text as JSON writes it: within quotation marks \\ is written \\\\, and \" is written \\\""
        ))),
    }
}

/// Refuses words between conditions that are not of the language, where another condition comes after them.
fn check_conjunction(text: &str, word: &str) -> Result<(), Failure> {
    for (at, _) in word.match_indices(' ') {
        let rest = word.get(at..).unwrap_or_default().trim_start();
        let (between, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_condition = || named(after).is_ok();
        let message = match between.to_ascii_lowercase().as_str() {
            "and" | "&&" if is_condition() => {
                "conditions that must all hold are options of their own: repeat --where"
            }
            "or" | "||" if is_condition() => "between conditions stands OR in capitals",
            _ => continue,
        };
        return Err(usage(format!(
            "{text:?}: {message}; a value with such a word in it stands in quotation marks"
        )));
    }
    Ok(())
}

/// Refuses a value that ends with a word behind which another condition is expected.
fn check_end(text: &str, word: &str) -> Result<(), Failure> {
    let last = word.rsplit_once(char::is_whitespace).map(|(_, last)| last);
    match last.filter(|last| ["OR", "AND", "||", "&&"].contains(last)) {
        None => Ok(()),
        Some(last) => Err(usage(format!(
            "{text:?}: a condition is missing after {last}; a value that ends with such a word stands in quotation marks"
        ))),
    }
}

/// Refuses a value of a column of ids that can be none.
fn check_word(field: &Field, value: &Value) -> Result<(), Failure> {
    let Field::Column(column) = field else { return Ok(()) };
    let (text, is_quoted) = match value {
        Value::Exact(text) => (text, true),
        Value::Word(text) => (text, false),
    };
    let is_id = text.parse::<Uuid>().is_ok();
    match column {
        Column::Id if !is_id && (is_quoted || !text.contains('*')) => {
            Err(usage(format!("{text:?} is no UUID, and the id of an entry is one")))
        }
        Column::WorkspaceId | Column::SessionId | Column::AgentId
            if !is_quoted && !is_id && looks_like_id(text) =>
        {
            Err(usage(format!(
                "{text:?} is no whole UUID; give its beginning with a *, and a name that looks so in quotation marks"
            )))
        }
        _ => Ok(()),
    }
}

/// Whether this begins as a UUID does: with eight digits, four, and others.
fn looks_like_id(text: &str) -> bool {
    let mut groups = text.split('-');
    let lengths = (groups.next().map(str::len), groups.next().map(str::len), groups.next().map(str::len));
    let are_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_whole = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    is_whole || are_digits && matches!(lengths, (Some(8), Some(4), Some(1..)))
}

/// The field has one of these values.
fn any_of(field: &Field, values: Vec<Value>) -> Result<Criterion, Failure> {
    let is_decision = *field == Field::Column(Column::Decision);
    let (mut exact, mut others) = (Vec::new(), Vec::new());
    for value in values {
        check_word(field, &value)?;
        match value {
            Value::Exact(text) => exact.push(Operand::from(text)),
            Value::Word(word) if word == "*" => others.push(field.clone().exists()),
            Value::Word(word) if word.contains('*') && *field == Field::RiskScore => {
                return Err(usage(no_wildcard("risk_score", &word)));
            }
            Value::Word(word) if word.contains('*') => others.push(field.clone().like(word)),
            Value::Word(word) if is_decision => exact.push(Operand::word(decision(&word))),
            Value::Word(word) => exact.push(Operand::word(word)),
        }
    }
    if !exact.is_empty() {
        others.insert(0, field.clone().is(exact));
    }
    Ok(Criterion::any(others))
}

/// The decision as entries spell it: the case of the given word does not matter.
fn decision(word: &str) -> String {
    word.parse::<Decision>().map_or_else(|_| word.to_owned(), Into::into)
}

/// The field contains one of these texts.
fn containing(field: &Field, values: Vec<Value>) -> Result<Criterion, Failure> {
    let mut parts = Vec::new();
    for value in values {
        parts.push(match value {
            Value::Exact(part) if part.is_empty() => {
                return Err(usage(format!(
                    "{field}: every text contains the empty one; {field}=* asks for any value"
                )));
            }
            Value::Exact(part) => field.clone().contains(&part),
            Value::Word(word) if word.contains('*') => return Err(usage(no_wildcard("~", &word))),
            Value::Word(word) => field.clone().contains(&word),
        });
    }
    Ok(Criterion::any(parts))
}

fn no_wildcard(place: &str, word: &str) -> String {
    format!(
        "{place} takes no wildcard, and {word:?} has one: a * that is meant itself stands in quotation marks, and = takes \
         wildcards"
    )
}

/// The field stands in this order to the only value.
fn compared(field: &Field, order: &str, values: Vec<Value>) -> Result<Criterion, Failure> {
    let operand = match <[Value; 1]>::try_from(values) {
        Err(_) => return Err(usage(format!("{field}{order} takes one value"))),
        Ok([Value::Word(word)]) if word.contains('*') => return Err(usage(no_wildcard(order, &word))),
        Ok([Value::Word(word)]) if is_odd_number(field, &word) => {
            return Err(usage(format!(
                "{word:?} is not a number as JSON writes one, such as -0.5 or 1e3; a text stands in quotation marks"
            )));
        }
        Ok([Value::Word(word)]) => Operand::word(word),
        Ok([Value::Exact(text)]) => Operand::from(text),
    };
    if matches!(field, Field::Column(Column::Id | Column::WorkspaceId | Column::SessionId | Column::AgentId))
    {
        return Err(usage(format!("{field} has no order: there are =, !=, ~ and !~ for it")));
    }
    let field = field.clone();
    Ok(match order {
        "<" => field.less_than(operand),
        "<=" => field.at_most(operand),
        ">=" => field.at_least(operand),
        _ => field.greater_than(operand),
    })
}

/// Whether a word is meant as a number and is none: it is one for Rust and not for JSON. For a score it must be one.
fn is_odd_number(field: &Field, word: &str) -> bool {
    let is_json = matches!(serde_json::from_str(word), Ok(serde_json::Value::Number(_)));
    let is_number = word.parse::<f64>();
    match field {
        Field::RiskScore => !is_json || is_number.is_ok_and(|number| !number.is_finite()),
        Field::Metadata(_) => !is_json && is_number.is_ok(),
        _ => false,
    }
}

fn usage(message: String) -> Failure {
    Failure::Usage(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(path: &str) -> Field {
        Field::metadata(path)
    }

    fn word(text: &str) -> Operand {
        Operand::word(text)
    }

    #[test]
    fn conditions_mean_what_they_say() {
        let action = || Field::from(Column::Action);
        for (text, criterion) in [
            ("action=login", action().is(["login"])),
            (" action = login ", action().is(["login"])),
            ("action=login,logout", action().is(["login", "logout"])),
            ("action!=login,logout", !action().is(["login", "logout"])),
            ("action=a*,b", Criterion::any([action().is(["b"]), action().like("a*")])),
            ("action!=*:x", !action().like("*:x")),
            ("action=\"a*\"", action().is(["a*"])),
            ("action=\"=cmd, \\\"x\\\"\"", action().is(["=cmd, \"x\""])),
            ("action=\"\"", action().is([""])),
            ("decision=deny", Field::from(Column::Decision).is(["Deny"])),
            ("agent_id=alice", Field::from(Column::AgentId).is(["alice"])),
            ("risk_score>=0.5", Field::RiskScore.at_least(0.5)),
            ("metadata.n=5", metadata("n").is([word("5")])),
            ("metadata.n=\"5\"", metadata("n").is(["5"])),
            ("metadata.n=*", metadata("n").exists()),
            ("metadata.n!=*", !metadata("n").exists()),
            ("metadata.n>=5", metadata("n").at_least(5)),
            ("metadata.n < -0.5e3", metadata("n").less_than(-500)),
            ("metadata.n<=\"5\"", metadata("n").at_most("5")),
            ("metadata.day>2026-11-01", metadata("day").greater_than("2026-11-01")),
            ("metadata.ip~10.", metadata("ip").contains("10.")),
            ("metadata.ip~=10.", metadata("ip").contains("10.")),
            ("metadata.ip!~10.", !metadata("ip").contains("10.")),
            ("metadata.ip~a,b", Criterion::any([metadata("ip").contains("a"), metadata("ip").contains("b")])),
            ("metadata.\"a=b\".c=x=y", metadata("\"a=b\".c").is([word("x=y")])),
            ("metadata.path=C:\\x", metadata("path").is([word("C:\\x")])),
            ("action=a OR metadata.n>1", Criterion::any([action().is(["a"]), metadata("n").greater_than(1)])),
            ("action=\"a OR b\" OR reason~x", {
                Criterion::any([action().is(["a OR b"]), Field::from(Column::Reason).contains("x")])
            }),
            ("reason=this and that", Field::from(Column::Reason).is(["this and that"])),
            ("metadata.state=OR", metadata("state").is([word("OR")])),
            ("reason=\"this OR\"", Field::from(Column::Reason).is(["this OR"])),
        ] {
            match super::criterion(text) {
                Ok(read) => assert_eq!(format!("{read:?}"), format!("{criterion:?}"), "{text}"),
                Err(failure) => panic!("{text}: {}", failure.message()),
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_remedy() {
        for (text, says) in [
            ("agent_id==x", "there is no operator == (did you mean =?)"),
            ("agent_id=~x", "(did you mean ~?)"),
            ("agent_id<>x", "(did you mean !=?)"),
            ("metadata.n=>5", "(did you mean >=?)"),
            ("metadata.n=!5", "there is no operator =!"),
            ("metadata.n>>5", "there is no operator >>"),
            ("agent_id", "is not FIELD=VALUE"),
            ("", "is not FIELD=VALUE"),
            ("=x", "there is no field \"\""),
            ("agnet=x", "did you mean agent_id?"),
            ("agent=x", "did you mean agent_id?"),
            ("resourceid=x", "did you mean resource_id?"),
            ("Action=x", "did you mean action?"),
            ("metdata.ip=x", "did you mean metadata.ip?"),
            ("client.ip=x", "a field of an event's own is metadata.client.ip"),
            ("ts>=2026-11-01", "--since"),
            ("seq=5", "--from-seq"),
            ("ledger=x", "--ledger"),
            ("metadata=x", "there is no field \"metadata\""),
            ("metadata.=x", "a key is empty"),
            ("metadata.tags[-1]=a", "[-1] is no index"),
            ("metadata.tags[x]=a", "[x] is no index"),
            ("metadata.\"a.b=x", "a quotation mark is missing"),
            ("reason=\"unfinished", "a quotation mark is missing"),
            ("reason=\"a\\\"", "a quotation mark is missing"),
            ("reason=\"\\x\"", "as JSON writes it"),
            ("reason=\"a\"b", "after a value comes"),
            ("reason=a\"b", "a quotation mark stands"),
            ("reason=", "a value is missing"),
            ("reason= ", "a value is missing"),
            ("reason=a,", "a value is missing"),
            ("reason=a,,b", "a value is missing"),
            ("reason=a, b", "right after a comma"),
            ("reason=a OR ", "is not FIELD=VALUE"),
            ("reason=LIFE OR DEATH", "is not FIELD=VALUE"),
            ("reason=a OR", "a condition is missing after OR"),
            ("reason=b,a  OR", "a condition is missing after OR"),
            ("action=b OR reason~a OR", "a condition is missing after OR"),
            ("reason=a AND ", "a condition is missing after AND"),
            ("reason=a ||", "a condition is missing after ||"),
            ("reason=\"a\" OR", "after a value comes"),
            ("reason=a and action=b", "repeat --where"),
            ("reason=a && action=b", "repeat --where"),
            ("reason=a or action=b", "OR in capitals"),
            ("id=alice", "is no UUID"),
            ("agent_id=8463ebe1-9248-5ca7-9c03-e00fcfc2b0fg", "is no whole UUID"),
            ("agent_id=8463ebe1-9248-5ca7", "is no whole UUID"),
            ("agent_id>alice", "has no order"),
            ("metadata.n>5,6", "takes one value"),
            ("metadata.n>5*", "takes no wildcard"),
            ("reason~a*b", "takes no wildcard"),
            ("reason~\"\"", "every text contains the empty one"),
            ("risk_score=0.*", "takes no wildcard"),
            ("risk_score>high", "is not a number"),
            ("risk_score>nan", "is not a number"),
            ("risk_score>1e999", "is not a number"),
            ("metadata.n>nan", "is not a number"),
            ("metadata.n>=.5", "is not a number"),
            ("metadata.n>=+5", "is not a number"),
        ] {
            match criterion(text) {
                Ok(read) => panic!("{text}: {read:?}"),
                Err(failure) => {
                    assert_eq!(failure.code(), 2, "{text}");
                    assert!(failure.message().contains(says), "{text}: {}", failure.message());
                    assert!(!failure.message().contains('\n'), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_values_of_options_take_wildcards_and_quotation_marks() {
        let read = |column, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            of_option("--option", column, &values)
        };
        let action = || Field::from(Column::Action);
        for (column, values, criterion) in [
            (Column::Action, &["a", "b, c"][..], action().is(["a", "b, c"])),
            (Column::Action, &["*:CreateUser"], action().like("*:CreateUser")),
            (Column::Action, &["document.*"], action().like("document.*")),
            (Column::Action, &["a*z", "b"], Criterion::any([action().is(["b"]), action().like("a*z")])),
            (Column::Action, &["\"a*\""], action().is(["a*"])),
            (Column::AgentId, &["arn:*"], Field::from(Column::AgentId).like("arn:*")),
        ] {
            match read(column, values) {
                Ok(read) => assert_eq!(read, criterion, "{values:?}"),
                Err(failure) => panic!("{values:?}: {}", failure.message()),
            }
        }
        for value in ["", "\"a", "\"a\"b"] {
            assert!(read(Column::Action, &[value]).is_err(), "{value}");
        }
    }
}
