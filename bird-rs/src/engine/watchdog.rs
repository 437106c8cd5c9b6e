//! How long the engine may be at a piece of work: `watchdog warning` and `watchdog timeout`.
//!
//! A piece of work is what the engine does between two waits. One that takes too long is logged when it is over; one that
//! seems not to end ends the process, with a core dump where the system makes one, so that whoever supervises it starts it
//! anew: peers and felix keep the routes meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use tortie_bgp::config::Config;

use super::Clock;
use crate::log::FATAL;

/// BIRD's default.
const WARNING: Duration = Duration::from_secs(5);
/// How often the thread looks, in parts of the timeout.
const LOOKS: u32 = 4;

/// The engine's side.
#[derive(Debug)]
pub(super) struct Watchdog {
    clock: Clock,
    shared: Arc<Shared>,
    /// None when it could not be started.
    thread: Option<Thread>,
}

/// Microseconds.
#[derive(Debug, Default)]
struct Shared {
    warning: AtomicU64,
    /// Zero: none.
    timeout: AtomicU64,
    /// When the work began, plus one; zero while there is none.
    since: AtomicU64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Shared {
    fn busy_for(&self, now: Duration) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(micros(now).saturating_sub(since)))
    }

    fn is_overdue(&self, now: Duration) -> bool {
        let timeout = self.timeout.load(Ordering::Relaxed);
        timeout != 0 && self.busy_for(now).is_some_and(|busy| micros(busy) > timeout)
    }
}

impl Watchdog {
    pub(super) fn start(clock: Clock, config: &Config) -> Self {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        let spawned = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(clock, &watched));
        if let Err(error) = &spawned {
            tracing::warn!(%error, "cannot start the watchdog");
        }
        let watchdog = Watchdog {
            clock,
            shared,
            thread: spawned.ok().map(|handle| handle.thread().clone()),
        };
        watchdog.configure(config);
        watchdog
    }

    pub(super) fn configure(&self, config: &Config) {
        let warning = config.watchdog_warning.unwrap_or(WARNING);
        self.shared.warning.store(micros(warning), Ordering::Relaxed);
        let timeout = config.watchdog_timeout.unwrap_or_default();
        self.shared.timeout.store(micros(timeout), Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    /// The engine begins a piece of work.
    pub(super) fn begin(&self) {
        let now = micros(self.clock.now()).saturating_add(1);
        self.shared.since.store(now, Ordering::Relaxed);
    }

    /// And has done it.
    pub(super) fn end(&self) {
        let busy = self.shared.busy_for(self.clock.now()).unwrap_or_default();
        self.shared.since.store(0, Ordering::Relaxed);
        let warning = self.shared.warning.load(Ordering::Relaxed);
        if warning != 0 && micros(busy) > warning {
            tracing::warn!(
                took_us = micros(busy),
                limit_us = warning,
                "the engine was busy for long"
            );
        }
    }
}

/// Ends the process when the engine is overdue.
fn watch(clock: Clock, shared: &Shared) {
    loop {
        match shared.timeout.load(Ordering::Relaxed) {
            0 => std::thread::park(),
            timeout => std::thread::park_timeout(Duration::from_micros(timeout) / LOOKS),
        }
        if shared.is_overdue(clock.now()) {
            let busy_us = shared.busy_for(clock.now()).map(micros);
            tracing::error!(target: FATAL, busy_us, "the watchdog ends the process: the engine does not answer");
            // The line is written by another thread.
            std::thread::sleep(Duration::from_millis(100));
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_goes_on_is_overdue() {
        let shared = Shared::default();
        let ms = Duration::from_millis;
        assert!(!shared.is_overdue(ms(10_000)), "idle, and no timeout");
        shared.timeout.store(5_000, Ordering::Relaxed);
        assert!(!shared.is_overdue(ms(10_000)), "idle");
        shared.since.store(micros(ms(10_000)) + 1, Ordering::Relaxed);
        assert!(!shared.is_overdue(ms(10_005)));
        assert!(shared.is_overdue(ms(10_006)));
        assert_eq!(shared.busy_for(ms(10_006)), Some(ms(6)));
        shared.timeout.store(0, Ordering::Relaxed);
        assert!(!shared.is_overdue(ms(20_000)), "no timeout");
    }
}
