//! Draws counts over time as a chart of columns.

use super::{stdout::print_styled, terminal::width, text::columns as width_of};
use crate::failure::Failure;

/// The greatest number of columns that a chart can have: the width of a line without the axis.
fn chart_width() -> usize {
    width().unwrap_or(120).saturating_sub(24).max(10)
}

/// The steps of time that a chart shows, and the entries before and after them that it leaves out.
pub(crate) struct Steps {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// Chooses the steps to show. `counts` are the steps with entries, in ascending order. A few entries of a time that is far
/// from that of all others, such as the year 1, would leave these a single column: they are left out.
pub(crate) fn steps(counts: &[(i64, u64)]) -> Option<Steps> {
    steps_within(counts, chart_width())
}

fn steps_within(counts: &[(i64, u64)], width: usize) -> Option<Steps> {
    let sum = |part: &[(i64, u64)]| part.iter().map(|(_, entries)| entries).sum::<u64>();
    let far = i64::try_from(width.saturating_mul(20)).unwrap_or(i64::MAX);
    let (mut shown, mut before, mut after) = (counts, 0, 0);
    loop {
        let (first, last) = (shown.first()?.0, shown.last()?.0);
        let length = last.saturating_sub(first);
        let gaps = shown.windows(2).enumerate().filter_map(|(index, pair)| match pair {
            [(from, _), (to, _)] => Some((to.saturating_sub(*from), index + 1)),
            _ => None,
        });
        let Some((gap, at)) = gaps.max() else { return Some(Steps { first, last, before, after }) };
        let (early, late) = shown.split_at_checked(at)?;
        let (entries_early, entries_late) = (sum(early), sum(late));
        if length <= far || gap <= length / 2 || entries_early == entries_late {
            return Some(Steps { first, last, before, after });
        }
        if entries_early < entries_late {
            before += entries_early;
            shown = late;
        } else {
            after += entries_late;
            shown = early;
        }
    }
}

/// Prints one column for each step, or for several if they are more than fit: then it is as high as the highest of these.
/// The axis is labelled with the greatest count, and with the times of the first and the last step. `unit` names a step.
pub(crate) fn print_chart(
    steps: &Steps,
    counts: &[(i64, u64)],
    [first, last]: [&str; 2],
    unit: &str,
) -> Result<(), Failure> {
    chart(steps, counts, [first, last], unit, chart_width()).iter().try_for_each(|line| print_styled(line))
}

fn chart(
    steps: &Steps,
    counts: &[(i64, u64)],
    [first, last]: [&str; 2],
    unit: &str,
    width: usize,
) -> Vec<String> {
    const HEIGHT: u64 = 6;
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let place = |step: i64| usize::try_from(step.saturating_sub(steps.first)).unwrap_or(0);
    let number = place(steps.last).saturating_add(1);
    let per_column = number.div_ceil(width);
    let mut columns = vec![0_u64; number.div_ceil(per_column)];
    for (step, entries) in counts.iter().filter(|(step, _)| (steps.first..=steps.last).contains(step)) {
        if let Some(column) = columns.get_mut(place(*step) / per_column) {
            *column = (*column).max(*entries);
        }
    }
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let label_width = most.to_string().len();
    let mut lines = Vec::new();
    for line in (0..HEIGHT).rev() {
        let cell = |count: &u64| {
            // Round up, so that a count that is thousands of times smaller than the greatest is still visible.
            let eighths = (u128::from(*count) * u128::from(8 * HEIGHT)).div_ceil(most.into());
            let here = eighths.saturating_sub(u128::from(8 * line)).min(8);
            EIGHTHS.into_iter().nth(usize::try_from(here).unwrap_or(8)).unwrap_or(' ')
        };
        let label = if line + 1 == HEIGHT { most.to_string() } else { String::new() };
        let cells: String = columns.iter().map(cell).collect();
        lines.push(format!("{label:>label_width$} │{cells}").trim_end().to_owned());
    }
    let between = columns.len().saturating_sub(width_of(first) + width_of(last)).max(2);
    let last = if columns.len() > 1 { [&*" ".repeat(between), last].concat() } else { String::new() };
    lines.push(format!("{:label_width$} └{first}{last}", ""));
    if per_column > 1 {
        lines.push(format!("{:label_width$}  each column is the greatest of {per_column} {unit}", ""));
    }
    for (entries, side) in [(steps.before, "before"), (steps.after, "after")] {
        if entries > 0 {
            let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
            lines.push(format!("{:label_width$}  not in the chart: {entries} {side} this", ""));
        }
    }
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_year_1_or_9999_does_not_flatten_the_chart() {
        let (year_1, now, year_9999) = (-719_162, 20_783, 2_932_896);
        let mut counts: Vec<(i64, u64)> = vec![(year_1, 1)];
        counts.extend((0..30).map(|day| (now + day, 10)));
        counts.push((year_9999, 2));
        let Steps { first, last, before, after } = steps_within(&counts, 60).unwrap();
        assert_eq!((first, last, before, after), (now, now + 29, 1, 2));
        // Counts that are spread over years, or that are nothing but far apart, stay.
        for counts in [
            vec![(0, 1), (3000, 1)],
            vec![(0, 5), (900, 1)],
            vec![(7, 3)],
            (0..9).map(|n| (n * 999, 1)).collect(),
        ] {
            let Steps { first, last, before, after } = steps_within(&counts, 60).unwrap();
            assert_eq!(
                (first, last, before + after),
                (counts[0].0, counts[counts.len() - 1].0, 0),
                "{counts:?}"
            );
        }
        assert!(steps_within(&[], 60).is_none());
    }

    #[test]
    fn the_label_of_the_peak_is_the_greatest_count_of_a_step() {
        let counts: Vec<(i64, u64)> = (0..100).map(|day| (day, if day == 50 { 9 } else { 4 })).collect();
        let steps = Steps { first: 0, last: 99, before: 0, after: 1 };
        let lines = chart(&steps, &counts, ["a", "b"], "days", 30);
        assert!(lines[0].starts_with("9 │"), "{lines:#?}");
        assert_eq!(lines[7], "   each column is the greatest of 4 days");
        assert_eq!(lines[8], "   not in the chart: 1 entry after this");
        assert!(lines.iter().all(|line| width_of(line) <= 54));
    }
}
