//! Draws counts over time as a chart of columns.

use unicode_width::UnicodeWidthStr;

use super::{stdout::print_styled, terminal::width};
use crate::failure::Failure;

/// The greatest number of columns that a chart can have: the terminal's width without the axis.
pub(crate) fn chart_width() -> usize {
    width().saturating_sub(24).max(10)
}

/// Prints one column for each count. The axis is labelled with the greatest count, and with the times of the first and
/// the last column.
pub(crate) fn print_chart(columns: &[u64], first: &str, last: &str) -> Result<(), Failure> {
    const HEIGHT: u64 = 6;
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let label_width = most.to_string().len();
    for line in (0..HEIGHT).rev() {
        let cell = |count: &u64| {
            // Round up, so that a count that is thousands of times smaller than the greatest is still visible.
            let eighths = (u128::from(*count) * u128::from(8 * HEIGHT)).div_ceil(most.into());
            let here = eighths.saturating_sub(u128::from(8 * line)).min(8);
            EIGHTHS.into_iter().nth(usize::try_from(here).unwrap_or(8)).unwrap_or(' ')
        };
        let label = if line + 1 == HEIGHT { most.to_string() } else { String::new() };
        let cells: String = columns.iter().map(cell).collect();
        print_styled(format!("{label:>label_width$} │{cells}").trim_end())?;
    }
    let between = columns.len().saturating_sub(first.width() + last.width()).max(2);
    let last = if columns.len() > 1 { [&*" ".repeat(between), last].concat() } else { String::new() };
    print_styled(&format!("{:label_width$} └{first}{last}\n", ""))
}
