//! Comparisons of one field, patterns and parts of its text, as SQL.

use super::sql::{Statement, if_readable, metadata, plain};
use crate::query::{Bound, Column, Field, Order, Pattern, steps};

impl Statement<'_> {
    /// Appends the condition that the value is of the bound's type, and stands in this order to it.
    pub(super) fn compared(&mut self, field: &Field, order: Order, bound: &Bound) {
        let order = order.sql();
        let Field::Metadata(path) = field else {
            if let Bound::Text(text) = bound {
                self.push(&format!(" AND e.{field} {order} ")).bind(text.clone());
            }
            return;
        };
        self.push(" AND (SELECT CASE WHEN ");
        match bound {
            Bound::Text(text) => {
                let value = "(v::json #>> '{}') COLLATE \"C\"";
                self.push(&format!("v LIKE '\"%' THEN {value} {order} ")).bind(text.clone());
            }
            Bound::Number(number) => {
                // Metadata that others have written may hold any number. Those beyond the range of `numeric` are left
                // out.
                let is_number = "v ~ '^-?[0-9]' AND length(v) < 1000 AND v !~ '[eE][+-]?[0-9]{4}'";
                self.push(&format!("{is_number} THEN v::numeric {order} CAST("));
                self.bind(number.to_string()).push("::text AS numeric)");
            }
        }
        let value = if_readable(&metadata("e.metadata", &steps(path)));
        self.push(&format!(" END FROM (SELECT {value} AS v OFFSET 0) of_entry)"));
    }

    /// Appends the condition that the value as text is like the pattern.
    pub(super) fn like(&mut self, field: &Field, pattern: &Pattern) {
        let like = pattern.parts().map(escaped).collect::<Vec<_>>().join("%");
        self.any_text(field, |statement, text| {
            statement.push(&format!("{text} LIKE ")).bind(like.clone());
        });
    }

    /// Appends the condition that the value as text contains this one, which has no ASCII capitals.
    pub(super) fn holds(&mut self, field: &Field, part: &str) {
        self.any_text(field, |statement, text| {
            statement.push(&format!("strpos(lower({text}), ")).bind(part.to_owned()).push(") > 0");
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
            Field::Metadata(path) => if_readable(&metadata("e.metadata", &steps(path))),
            column => format!("e.{column}"),
        };
        self.push(&format!(" AND {value} IS NOT NULL"));
    }
}

/// The expressions for the texts of a field: of an id, the UUID and the name that the entry keeps of it.
fn texts(field: &Field) -> Vec<String> {
    let uuid = |column: &Column| format!("e.{column}::text COLLATE \"C\"");
    match field {
        Field::Column(column @ Column::Id) => vec![uuid(column)],
        Field::Column(column) if column.holds_ids() => {
            let name = format!("e.metadata -> '{column}'");
            let is_name = format!("e.{column} IS NOT NULL AND json_typeof({name}) = 'string'");
            let name = format!("CASE WHEN {is_name} THEN ({name}) #>> '{{}}' END");
            vec![uuid(column), format!("({} COLLATE \"C\")", if_readable(&name))]
        }
        Field::Metadata(path) => vec![format!("({} COLLATE \"C\")", if_readable(&plain(&steps(path))))],
        column => vec![format!("e.{column}")],
    }
}

/// The text as a pattern of LIKE that stands for itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
