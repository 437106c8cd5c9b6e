//! What the kernel refuses: every object by itself, tried again by a back-off of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::dataplane::manager::Failing;

/// The first delay of what failed.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Failure {
    error: String,
    attempts: u32,
    not_before: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<String, Failure>);

impl Failures {
    /// The object was refused. Gives `true` when that is news.
    pub(crate) fn failed(&mut self, object: String, error: impl ToString, now: Instant) -> bool {
        let attempts = self.0.get(&object).map_or(1, |f| f.attempts.saturating_add(1));
        let delay = RETRY_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(RETRY_MAX);
        let failure = Failure {
            error: error.to_string(),
            attempts,
            not_before: now + delay,
        };
        self.0.insert(object, failure).is_none()
    }

    /// The object is as it shall be.
    pub(crate) fn done(&mut self, object: &str) {
        self.0.remove(object);
    }

    /// What is not asked for any more does not fail.
    pub(crate) fn retain(&mut self, asked: impl Fn(&str) -> bool) {
        self.0.retain(|object, _| asked(object));
    }

    /// May the object be tried?
    pub(crate) fn is_due(&self, object: &str, now: Instant) -> bool {
        self.0.get(object).is_none_or(|f| f.not_before <= now)
    }

    /// When the next is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().map(|f| f.not_before).min()
    }

    /// For people, sorted.
    pub(crate) fn list(&self) -> Vec<Failing> {
        let line = |(object, f): (&String, &Failure)| Failing {
            object: object.clone(),
            error: f.error.clone(),
            attempts: f.attempts,
        };
        self.0.iter().map(line).collect()
    }
}
