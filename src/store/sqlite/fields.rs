//! Comparisons of one field, patterns and parts of its text, as SQL.

use super::sql::{Statement, if_json, metadata, plain};
use crate::query::{Bound, Column, Decimal, Field, Order, Pattern, steps};

impl Statement {
    /// Appends the condition that the value is of the bound's type, and stands in this order to it.
    pub(super) fn compared(&mut self, field: &Field, order: Order, bound: &Bound) {
        let Field::Metadata(path) = field else {
            if let Bound::Text(text) = bound {
                self.push(&format!(" AND e.{field} {} ?", order.sql())).bind(text.clone());
            }
            return;
        };
        self.push(" AND (SELECT ");
        match bound {
            Bound::Text(text) => {
                let (is_text, order) = (r#"v GLOB '"*'"#, order.sql());
                self.push(&format!("CASE WHEN {is_text} THEN (v ->> '$') {order} ? END")).bind(text.clone());
            }
            Bound::Number(number) => match order {
                Order::AtLeast => self.number_from(number, true),
                Order::Greater => self.number_from(number, false),
                Order::Less => {
                    self.number_from(number, true);
                    self.push(" IS FALSE");
                }
                Order::AtMost => {
                    self.number_from(number, false);
                    self.push(" IS FALSE");
                }
            },
        }
        self.push(&format!(" FROM (SELECT {} AS v))", if_json(&metadata("e.metadata", &steps(path)))));
    }

    /// Appends an expression for whether the JSON `v` is greater than this number, or equal to it if it may be. It is NULL
    /// if `v` is no number.
    ///
    /// SQLite reads an integer beyond 64 bits as a float, and a float perhaps not quite exactly. Both are compared as they are
    /// spelled where that matters.
    fn number_from(&mut self, number: &Decimal, may_be_equal: bool) {
        let (near, bound) = number.floats_from(may_be_equal);
        let list = vec!["?"; near.len()].join(", ");
        self.push("CASE WHEN v GLOB '[-0-9]*' THEN CASE WHEN v GLOB '*[.eE]*' THEN ");
        self.push("CAST(v AS REAL) >= ?").bind(bound).push(&format!(" OR v IN ({list})"));
        for float in near {
            self.bind(float);
        }
        self.push(" ELSE ");
        let least = number.least_integer(may_be_equal);
        match i64::try_from(least) {
            Ok(least) => {
                self.push("CAST(v AS INTEGER) >= ?").bind(least);
            }
            Err(_) if least < 0 => {
                self.push("TRUE");
            }
            Err(_) => {
                let text = least.to_string();
                let digits = text.len();
                self.push(&format!(
                    "v NOT GLOB '-*' AND (length(v) > {digits} OR length(v) = {digits} AND v >= ?)"
                ));
                self.bind(text);
            }
        }
        self.push(" END END");
    }

    /// Appends the condition that the value as text is like the pattern.
    pub(super) fn like(&mut self, field: &Field, pattern: &Pattern) {
        let glob = pattern.parts().map(escaped).collect::<Vec<_>>().join("*");
        let last = pattern.parts().count() - 1;
        let is_odd = |part: &str| part.contains(['\u{fffd}', '\u{fffe}', '\u{ffff}']);
        let odd: Vec<(usize, &str)> = pattern.parts().enumerate().filter(|(_, part)| is_odd(part)).collect();
        self.any_text(field, |statement, text| {
            statement.push(&format!("{text} GLOB ?")).bind(glob.clone());
            // GLOB takes these characters for one another.
            for (at, part) in &odd {
                let length = part.chars().count();
                statement.push(&match *at {
                    0 => format!(" AND substr({text}, 1, {length}) = ?"),
                    at if at == last => format!(" AND substr({text}, -{length}) = ?"),
                    _ => format!(" AND instr({text}, ?) > 0"),
                });
                statement.bind((*part).to_owned());
            }
        });
    }

    /// Appends the condition that the value as text contains this one, which has no ASCII capitals.
    pub(super) fn holds(&mut self, field: &Field, part: &str) {
        self.any_text(field, |statement, text| {
            statement.push(&format!("instr(lower({text}), ?) > 0")).bind(part.to_owned());
        });
    }

    /// Appends a condition that must hold for one of the field's texts.
    fn any_text(&mut self, field: &Field, test: impl Fn(&mut Self, &str)) {
        self.push(" AND (FALSE");
        for text in texts(field) {
            self.push(" OR ");
            test(&mut *self, &text);
        }
        self.push(")");
    }

    /// Appends the condition that there is a value.
    pub(super) fn exists(&mut self, field: &Field) {
        let value = match field {
            Field::Metadata(path) => if_json(&metadata("e.metadata", &steps(path))),
            column => format!("+e.{column}"),
        };
        self.push(&format!(" AND {value} IS NOT NULL"));
    }
}

/// The expressions for the texts of a field: of an id, the UUID and the name that the entry keeps of it.
fn texts(field: &Field) -> Vec<String> {
    match field {
        Field::Column(Column::Id) => vec![uuid("id")],
        Field::Column(column) if column.holds_ids() => {
            let name = format!("e.metadata -> '$.\"{column}\"'");
            let name =
                format!("CASE WHEN e.{column} IS NOT NULL AND {name} GLOB '\"*' THEN {name} ->> '$' END");
            vec![uuid(column.name()), if_json(&name)]
        }
        Field::Metadata(path) => vec![if_json(&plain(&steps(path)))],
        column => vec![format!("e.{column}")],
    }
}

/// The expression for the text of a column of ids.
fn uuid(column: &str) -> String {
    let hex = format!("lower(hex(e.{column}))");
    let parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)];
    let parts = parts.map(|(from, length)| format!("substr({hex}, {from}, {length})")).join(" || '-' || ");
    format!("CASE WHEN e.{column} IS NOT NULL THEN {parts} END")
}

/// The text as a pattern of GLOB that stands for itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '*' | '?' | '[' => escaped.extend(['[', character, ']']),
            other => escaped.push(other),
        }
    }
    escaped
}
