//! Writes a row as a line of CSV, safe for spreadsheets.

use std::{borrow::Cow, io::Write};

use chrono::SecondsFormat;
use uuid::Uuid;

use crate::entry::{Row, from_micros};

/// The columns, in the order in which `write_row` writes them.
pub(super) const HEADER: [&str; 12] = [
    "id",
    "session_id",
    "workspace_id",
    "agent_id",
    "action",
    "resource",
    "resource_id",
    "decision",
    "reason",
    "risk_score",
    "ts",
    "metadata",
];

/// Writes one row. `guard`: whether cells that a spreadsheet would run as formulas get a `'`.
pub(super) fn write_row(csv: &mut csv::Writer<impl Write>, row: &Row, guard: bool) -> csv::Result<()> {
    let text = |text| if guard { harmless(text) } else { Cow::Borrowed(text) };
    let mut buffer = Uuid::encode_buffer();
    let mut id = |id: Option<Uuid>, csv: &mut csv::Writer<_>| {
        csv.write_field(id.map_or("", |id| id.hyphenated().encode_lower(&mut buffer)))
    };
    id(Some(row.id), csv)?;
    id(row.session_id, csv)?;
    id(Some(row.workspace_id), csv)?;
    id(row.agent_id, csv)?;
    for field in [
        Some(&row.action),
        Some(&row.resource),
        row.resource_id.as_ref(),
        Some(&row.decision),
        row.reason.as_ref(),
    ] {
        csv.write_field(text(field.map_or("", |field| field)).as_bytes())?;
    }
    csv.write_field(decimals(row.risk_score.unwrap_or(0.0)))?;
    csv.write_field(from_micros(row.ts).to_rfc3339_opts(SecondsFormat::Micros, true))?;
    csv.write_field(text(&row.metadata).as_bytes())?;
    csv.write_record(None::<&[u8]>)
}

/// The score with four decimals. Few scores have more than four. The others are written as a whole number of
/// ten-thousandths, in a fraction of the time that the formatter of all numbers takes.
fn decimals(score: f64) -> Vec<u8> {
    let scaled = (score * 10_000.0).round();
    if score.is_sign_positive() && scaled < 100_000.0 && (scaled / 10_000.0).to_bits() == score.to_bits() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it has five digits")]
        let scaled = scaled as u32;
        let digit = |unit| b'0' + (scaled / unit % 10) as u8;
        vec![digit(10_000), b'.', digit(1000), digit(100), digit(10), digit(1)]
    } else {
        format!("{score:.4}").into_bytes()
    }
}

/// The text, with a `'` in front if a spreadsheet would run it, or if it could be mistaken for a text that got a `'`
/// here.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_score_is_written_as_the_standard_formatter_writes_four_decimals(
            score in prop_oneof![(0..20_000_u32).prop_map(|n| f64::from(n) / 10_000.0), 0.0..1.0, any::<f64>()],
        ) {
            prop_assert_eq!(decimals(score), format!("{score:.4}").into_bytes());
        }

        #[test]
        fn a_guarded_text_starts_no_formula_and_gives_back_the_original(text in "['=+@a-]{0,4}.*") {
            let guarded = harmless(&text);
            prop_assert!(!guarded.starts_with(['=', '+', '-', '@', '\t', '\r']));
            let marked = guarded.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r']);
            let back = if marked { guarded.strip_prefix('\'').unwrap() } else { &guarded };
            prop_assert_eq!(back, &text);
        }
    }
}
