//! Delays between attempts: doubling, bounded, spread so that many clients do not come at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Doubles from `min` to `max`; each delay is shortened by up to a quarter, differently in every process.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    attempt: u32,
}

impl Backoff {
    /// Delays from `min` (not zero) to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Backoff {
            min,
            max: max.max(min),
            next: min,
            attempt: 0,
        }
    }

    /// How long to wait before the next attempt.
    #[allow(clippy::should_implement_trait)] // Not an iterator: it never ends and is reset by success.
    pub fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        let mut hasher = DefaultHasher::new();
        (crate::instance(), self.attempt).hash(&mut hasher);
        let quarter = delay / 4;
        delay - quarter.mul_f64((hasher.finish() % 1024) as f64 / 1024.0)
    }

    /// The attempt succeeded: the next delay is `min` again.
    pub fn reset(&mut self) {
        self.next = self.min;
        self.attempt = 0;
    }

    /// How many delays were given since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_bounds_and_resets() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut b = Backoff::new(min, max);
        let delays: Vec<_> = (0..8).map(|_| b.next()).collect();
        for (i, d) in delays.iter().enumerate() {
            let full = (min * 2u32.pow(i as u32)).min(max);
            assert!(
                *d <= full && *d >= full * 3 / 4,
                "delay {i} is {d:?}, want within a quarter of {full:?}"
            );
        }
        b.reset();
        assert!(b.next() <= min);
    }
}
