//! That the datastore does not answer, since when, and why.

use std::time::Duration;

use tokio::time::Instant;

/// The datastore does not answer.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) since: Instant,
    /// How old the state was then: not new when it is from a file.
    pub(crate) before: Duration,
    pub(crate) reason: String,
}

impl Away {
    /// From now on; the state is of this age already.
    pub(crate) fn new(before: Duration, reason: String) -> Self {
        Away {
            since: Instant::now(),
            before,
            reason,
        }
    }

    /// Since the datastore answered last, as far as is known.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed() + self.before
    }
}
