//! Remembers what criterion measures, so that both sides of a ratio are printed from one run.
#![allow(dead_code, reason = "each benchmark uses its part")]

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

/// The most anonymous resident memory of this program run again with a variable set, in bytes.
pub(crate) fn most_memory(variable: &str, value: &std::ffi::OsStr) -> u64 {
    let program = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(program).env(variable, value).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) {
            let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kilobytes = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
            most = most.max(kilobytes.unwrap_or(0) * 1024);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success() && most > 0);
    most
}
