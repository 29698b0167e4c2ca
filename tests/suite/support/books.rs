//! Checks of the books.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tracing_audit::{AuditWriter, Stats};

/// Checks that every entry offered or recovered is counted in exactly one place.
pub(crate) fn assert_balanced(stats: &Stats) {
    let Stats { offered, recovered, committed, rejected, quarantined, damaged, pending, .. } = stats;
    assert_eq!(offered + recovered, committed + rejected + quarantined + damaged + pending, "{stats:?}");
    assert_eq!(stats.rejections.total(), *rejected);
}

/// Runs the body while another thread checks the books every few milliseconds.
pub(crate) fn balanced<T>(writer: &AuditWriter, body: impl FnOnce() -> T) -> T {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (done, checks) = (AtomicBool::new(false), AtomicU64::new(0));
    let value = std::thread::scope(|scope| {
        scope.spawn(|| {
            // At least once, also if the body is quicker than this thread.
            loop {
                assert_balanced(&writer.stats());
                checks.fetch_add(1, Ordering::Relaxed);
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let _done = Done(&done);
        body()
    });
    assert!(checks.load(Ordering::Relaxed) > 0);
    value
}
