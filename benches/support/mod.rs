//! Remembers what criterion measures, so that both sides of a ratio are printed from one run.
#![allow(dead_code, reason = "each benchmark uses its part")]
#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints what it finds"
)]

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

thread_local! {
    static SAMPLES: RefCell<BTreeMap<String, Vec<f64>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Notes one sample: `took` for `iterations`.
pub(crate) fn note(name: &str, iterations: u64, took: Duration) {
    let each = took.as_secs_f64() / iterations as f64;
    SAMPLES.with(|samples| samples.borrow_mut().entry(name.to_owned()).or_default().push(each));
}

/// The median of what was noted, in seconds.
pub(crate) fn median(name: &str) -> Option<f64> {
    SAMPLES.with(|samples| {
        let mut samples = samples.borrow().get(name)?.clone();
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied()
    })
}

/// Prints `a / b`, the goal, and both sides.
pub(crate) fn ratio(a: &str, b: &str, goal: &str) {
    if let (Some(left), Some(right)) = (median(a), median(b)) {
        println!("ratio {a} / {b} = {:.3} (goal {goal}): {} / {}", left / right, show(left), show(right));
    }
}

pub(crate) fn show(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
