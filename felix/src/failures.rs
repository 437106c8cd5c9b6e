//! What the kernel refuses: every object by itself, tried again by a back-off of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// An object that is not as it shall be, because the kernel or somebody in the way refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Which: a route, a table, a step of a device, a document.
    pub object: String,
    /// The kernel's answer.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first. `None`: it was never tried, for what is in its way is known.
    #[serde(serialize_with = "as_text")]
    pub since: Option<Timestamp>,
    /// When it is tried again. `None`: when what is in its way is gone.
    #[serde(serialize_with = "as_text")]
    pub next_try: Option<Timestamp>,
}

fn as_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.error)?;
        if let Some(since) = self.since {
            write!(f, ", since {since:.0}")?;
        }
        match self.next_try {
            Some(next) => write!(f, ", {} tries, next at {next:.1}", self.attempts),
            None => Ok(()),
        }
    }
}

/// What this duration on some clock is on the wall's, whose time was `epoch` when the clock began.
pub(crate) fn wall(epoch: Timestamp, at: Duration) -> Timestamp {
    epoch.checked_add(at).unwrap_or(Timestamp::MAX)
}

/// The first delay of what failed.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Failure {
    error: String,
    attempts: u32,
    since: Timestamp,
    not_before: Instant,
    next_try: Timestamp,
}

/// The objects that fail now.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<String, Failure>);

impl Failures {
    /// The object was refused. Gives `true` when that is news.
    pub(crate) fn failed(&mut self, object: String, error: impl ToString, now: Instant) -> bool {
        let wall_now = Timestamp::now();
        let before = self.0.get(&object);
        let (attempts, since) = before.map_or((1, wall_now), |f| (f.attempts.saturating_add(1), f.since));
        let delay = RETRY_MIN.saturating_mul(1 << (attempts - 1).min(16)).min(RETRY_MAX);
        let failure = Failure {
            error: error.to_string(),
            attempts,
            since,
            not_before: now + delay,
            next_try: wall(wall_now, delay),
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
            since: Some(f.since),
            next_try: Some(f.next_try),
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_longer_and_says_since_when_and_when_again() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        assert!(failures.failed("a".into(), "EBUSY", start));
        assert!(!failures.is_due("a", start) && failures.is_due("b", start));
        let first = failures.list();
        assert_eq!(failures.next_deadline(), Some(start + RETRY_MIN));
        let later = start + RETRY_MIN;
        assert!(failures.is_due("a", later));
        assert!(!failures.failed("a".into(), "ENOBUFS", later), "no news");
        assert_eq!(failures.next_deadline(), Some(later + 2 * RETRY_MIN));
        let [now] = failures.list().try_into().unwrap();
        assert_eq!((now.attempts, now.since), (2, first[0].since));
        assert!(now.next_try > first[0].next_try);
        for _ in 0..20 {
            failures.failed("a".into(), "EBUSY", later);
        }
        assert_eq!(failures.next_deadline(), Some(later + RETRY_MAX));
        failures.done("a");
        assert_eq!(failures.list(), []);
    }

    #[test]
    fn a_line_for_people() {
        let epoch: Timestamp = "2026-11-22T01:00:00Z".parse().unwrap();
        let mut failing = Failing {
            object: "10.1.0.0/24 via 172.30.0.9".into(),
            error: "EBUSY".into(),
            attempts: 3,
            since: Some(epoch),
            next_try: Some(wall(epoch, Duration::from_millis(700))),
        };
        assert_eq!(
            failing.to_string(),
            "10.1.0.0/24 via 172.30.0.9: EBUSY, since 2026-11-22T01:00:00Z, 3 tries, next at 2026-11-22T01:00:00.7Z"
        );
        (failing.since, failing.next_try) = (None, None);
        assert_eq!(failing.to_string(), "10.1.0.0/24 via 172.30.0.9: EBUSY");
    }
}
