//! Random bits, also such as nobody can guess, that differ between threads, between processes, and between a process and its forks.

use std::cell::RefCell;

use uuid::Uuid;

use super::fork::Process;

/// A generator, and the process in which it was seeded.
struct Seeded {
    process: Process,
    rng: fastrand::Rng,
}

thread_local! {
    static RNG: RefCell<Seeded> = RefCell::new(Seeded::now());
}

impl Seeded {
    /// Takes the seed from the operating system. `fastrand` would take it from the clock and the thread alone, which
    /// two processes may share.
    fn now() -> Self {
        let (_, seed) = Uuid::new_v4().as_u64_pair();
        Self { process: Process::current(), rng: fastrand::Rng::with_seed(seed) }
    }

    fn next(&mut self) -> u64 {
        if self.process.is_another() {
            // A forked child has a copy of the generator, which would return what its parent's returns.
            *self = Self::now();
        }
        self.rng.u64(..)
    }
}

/// Returns random bytes that nobody can guess, from the operating system.
pub(crate) fn secret() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|cause| std::io::Error::other(cause.to_string()))?;
    Ok(bytes)
}

/// Returns random bits, which need to be unique, not secret. Works even while a thread's locals are being destroyed.
pub(crate) fn random() -> u64 {
    RNG.try_with(|rng| rng.borrow_mut().next()).unwrap_or_else(|_| Seeded::now().next())
}
