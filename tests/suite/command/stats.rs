//! Counts over time.

use super::{EVENTS, emit, shows};
use crate::support::log;

#[test]
fn counts_over_time_are_drawn_as_columns_with_gaps_for_empty_days() {
    let fixture = log();
    for (event, times) in [(0, 3), (2, 1), (4, 2)] {
        (0..times).for_each(|_| emit(&fixture.log, &EVENTS[event]));
    }
    fixture.log.blocking().flush().unwrap();
    shows(
        &fixture.db,
        "stats --by day",
        "
3 │█
  │█
  │█                                         █
  │█                                         █
  │██                                        █
  │██                                        █
  └2026-10-05                       2026-11-16

day                   entries                        first                last
2026-10-05T00:00:00Z  3        ████████████████████  2026-10-05 08:00:00  2026-10-05 08:00:00
2026-10-06T00:00:00Z  1        ███████               2026-10-06 09:00:00  2026-10-06 09:00:00
2026-11-16T00:00:00Z  2        ██████████████        2026-11-16 22:59:00  2026-11-16 22:59:00",
    );
}
