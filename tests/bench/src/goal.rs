//! What a phase waits for, and what it took.

use std::ops::Range;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::workload::Workload;

/// What a phase waits for: that every peer has these prefixes in this version, its own apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Index of the first prefix.
    pub(crate) first: u32,
    /// Index after the last.
    pub(crate) end: u32,
    /// The version, 0 for none.
    pub(crate) version: u8,
}

impl Goal {
    /// All prefixes of a workload; version 0 is that nobody has any.
    pub(crate) fn all(workload: &Workload, version: u8) -> Self {
        Goal::some(0..workload.prefixes.count, version)
    }

    /// These prefixes only.
    pub(crate) fn some(range: Range<u32>, version: u8) -> Self {
        Goal {
            first: range.start,
            end: range.end,
            version,
        }
    }

    /// How many of the prefixes are not among a peer's own.
    pub(crate) fn without(self, own: &Range<u32>) -> u32 {
        let shared = own.end.min(self.end).saturating_sub(own.start.max(self.first));
        self.end - self.first - shared
    }

    /// 1 when this prefix is asked for and is in the right version.
    pub(crate) fn counts(self, index: u32, version: u8) -> u32 {
        u32::from(self.first <= index && index < self.end && version == self.version)
    }
}

/// A point in time and what the tester had spent by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// When.
    pub(crate) start: Instant,
    /// CPU time of the tester by then.
    pub(crate) cpu: Duration,
    /// UPDATEs read by then.
    pub(crate) updates: u64,
}

/// How long a phase took, and what the tester itself spent on it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timing {
    /// Until the last peer was complete.
    pub(crate) wall: Duration,
    /// CPU time of the tester.
    pub(crate) own_cpu: Duration,
    /// UPDATEs read.
    pub(crate) updates: u64,
}

impl std::ops::AddAssign for Timing {
    fn add_assign(&mut self, other: Timing) {
        self.wall += other.wall;
        self.own_cpu += other.own_cpu;
        self.updates += other.updates;
    }
}

/// CPU time of this thread so far: the tester runs on one.
pub(crate) fn own_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_own_prefixes_are_not_asked_for() {
        let goal = Goal::some(10..20, 3);
        assert_eq!(goal.without(&(0..5)), 10);
        assert_eq!(goal.without(&(5..12)), 8);
        assert_eq!(goal.without(&(12..14)), 8);
        assert_eq!(goal.without(&(0..100)), 0);
        assert_eq!(goal.without(&(0..0)), 10);
    }

    #[test]
    fn only_the_right_version_of_a_wanted_prefix_counts() {
        let goal = Goal::some(10..20, 3);
        assert_eq!([9, 10, 19, 20].map(|i| goal.counts(i, 3)), [0, 1, 1, 0]);
        assert_eq!(goal.counts(10, 2), 0);
    }
}
