//! Counts over time as a chart.

use unicode_width::UnicodeWidthStr;

use super::{stdout::styled, terminal::width};
use crate::failure::Failure;

/// Columns of a chart, beside what stands left of it.
pub(crate) fn chart_width() -> usize {
    width().saturating_sub(24).max(10)
}

/// Counts as columns, the greatest of them told, and where the first and the last are.
pub(crate) fn chart(columns: &[u64], first: &str, last: &str) -> Result<(), Failure> {
    const HEIGHT: u64 = 6;
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let wide = most.to_string().len();
    for line in (0..HEIGHT).rev() {
        let cell = |count: &u64| {
            // A count that is not the greatest may be thousands of times less, and is still one.
            let eighths = (u128::from(*count) * u128::from(8 * HEIGHT)).div_ceil(most.into());
            let here = eighths.saturating_sub(u128::from(8 * line)).min(8);
            EIGHTHS.into_iter().nth(usize::try_from(here).unwrap_or(8)).unwrap_or(' ')
        };
        let told = if line + 1 == HEIGHT { most.to_string() } else { String::new() };
        let cells: String = columns.iter().map(cell).collect();
        styled(format!("{told:>wide$} │{cells}").trim_end())?;
    }
    let between = columns.len().saturating_sub(first.width() + last.width()).max(2);
    let last = if columns.len() > 1 { [&*" ".repeat(between), last].concat() } else { String::new() };
    styled(&format!("{:wide$} └{first}{last}\n", ""))
}
