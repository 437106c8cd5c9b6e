//! The clock that the engine lives by, and what the world calls its times.

use std::time::{Duration, Instant};

/// Time since the process started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    boot_unix_ms: i64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Clock {
            started: Instant::now(),
            boot_unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX),
        }
    }

    pub(crate) fn now(self) -> Duration {
        self.started.elapsed()
    }

    /// A time of the speaker's as the world knows it.
    pub(crate) fn unix_ms(self, at: Duration) -> i64 {
        self.boot_unix_ms
            .saturating_add(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
    }
}
