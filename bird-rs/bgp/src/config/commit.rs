//! Which configuration is in force, and how one gets back: `configure timeout`, `confirm`, `undo`.
//!
//! Pure: the time is the caller's. What a configuration is does not matter here.
//!
//! Invariants: there is at most one way back; a configuration on trial ends confirmed, replaced, or undone at the time
//! that was said; while one is on trial, the way back leads to what was in force before the trial began, however many
//! were tried since.

use std::time::Duration;

/// The configuration in force, and the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits<C> {
    current: C,
    /// What an undo brings back.
    before: Option<C>,
    /// The one in force is on trial until then.
    until: Option<Duration>,
}

impl<C> Commits<C> {
    /// With the first configuration, from which no way leads back.
    pub fn new(first: C) -> Self {
        Commits {
            current: first,
            before: None,
            until: None,
        }
    }

    /// The one in force.
    pub fn current(&self) -> &C {
        &self.current
    }

    /// Puts another one in force: on trial for a time, or for good.
    pub fn commit(&mut self, now: Duration, next: C, trial: Option<Duration>) {
        let replaced = std::mem::replace(&mut self.current, next);
        if self.until.is_none() {
            self.before = Some(replaced);
        }
        self.until = trial.map(|time| now.saturating_add(time));
    }

    /// The one on trial stays. `false`: there was none.
    pub fn confirm(&mut self) -> bool {
        self.until.take().is_some()
    }

    /// Goes the way back, once: what is in force now. `None`: there is no way back.
    pub fn undo(&mut self) -> Option<&C> {
        self.current = self.before.take()?;
        self.until = None;
        Some(&self.current)
    }

    /// Goes the way back when the trial's time is over: what is in force now.
    pub fn expire(&mut self, now: Duration) -> Option<&C> {
        if self.until.is_some_and(|until| until <= now) {
            self.undo()
        } else {
            None
        }
    }

    /// When the trial is over, if the one in force is on trial.
    pub fn deadline(&self) -> Option<Duration> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Act {
        Commit(Option<u64>),
        Confirm,
        Undo,
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => prop::option::of(1u64..20).prop_map(Act::Commit),
            1 => Just(Act::Confirm),
            1 => Just(Act::Undo),
            3 => (0u64..15).prop_map(Act::Wait),
        ];
        prop::collection::vec(act, 0..40)
    }

    /// The same told as a story: every configuration there was, and since when the present trial goes on.
    #[derive(Default)]
    struct Story {
        current: usize,
        way_back: Option<usize>,
        trial: Option<u64>,
    }

    impl Story {
        fn back(&mut self) -> bool {
            self.trial = None;
            let back = self.way_back.take();
            self.current = back.unwrap_or(self.current);
            back.is_some()
        }
    }

    proptest! {
        #[test]
        fn trials_end_where_they_began(acts in acts()) {
            let mut commits = Commits::new(0);
            let mut story = Story::default();
            let (mut now, mut made) = (0, 0);
            for act in acts {
                let at = Duration::from_secs(now);
                match act {
                    Act::Commit(trial) => {
                        made += 1;
                        if story.trial.is_none() {
                            story.way_back = Some(story.current);
                        }
                        (story.current, story.trial) = (made, trial.map(|time| now + time));
                        commits.commit(at, made, trial.map(Duration::from_secs));
                    }
                    Act::Confirm => prop_assert_eq!(commits.confirm(), story.trial.take().is_some()),
                    Act::Undo => {
                        let had = story.way_back.is_some();
                        prop_assert_eq!(commits.undo().is_some(), had);
                        if had {
                            story.back();
                        }
                    }
                    Act::Wait(time) => {
                        now += time;
                        let over = story.trial.is_some_and(|until| until <= now);
                        let back = over && story.back();
                        prop_assert_eq!(commits.expire(Duration::from_secs(now)).is_some(), back);
                    }
                }
                prop_assert_eq!(*commits.current(), story.current);
                prop_assert_eq!(commits.deadline(), story.trial.map(Duration::from_secs));
            }
        }

        #[test]
        fn without_a_word_everything_on_trial_is_undone(trials in prop::collection::vec(1u64..20, 1..8)) {
            let mut commits = Commits::new(0);
            for (at, time) in (1..).zip(&trials) {
                commits.commit(Duration::ZERO, at, Some(Duration::from_secs(*time)));
            }
            prop_assert_eq!(commits.expire(Duration::from_secs(20)), Some(&0));
            prop_assert_eq!(commits.undo(), None);
        }
    }

    #[test]
    fn an_undo_goes_back_one_step_once() {
        let mut commits = Commits::new('a');
        assert_eq!(commits.undo(), None);
        commits.commit(Duration::ZERO, 'b', None);
        commits.commit(Duration::ZERO, 'c', None);
        assert_eq!(commits.undo(), Some(&'b'));
        assert_eq!(commits.undo(), None);
        assert_eq!(commits.current(), &'b');
    }
}
