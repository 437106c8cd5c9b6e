//! Blocks in use whose claim is gone.
//!
//! Confirmed claims are what the cluster announces by BGP. Whoever deletes the claim on a block that workloads live in
//! (a mistaken hand, a tool that took the node for dead) cuts them off, and nothing else would bring it back: a full block
//! is not looked at again. So the node claims what it uses.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tortie_kit::backoff::Backoff;
use tortie_model::ipam::AffinityState;
use tortie_net::Prefix;

use super::Job;
use crate::gather::{Crowd, Waiting};
use crate::state::{Source, State, StateHandle};

/// Between two rounds, so that two who disagree do not write all the time.
const ROUND_MIN: Duration = Duration::from_secs(1);
const ROUND_MAX: Duration = Duration::from_secs(60);

/// Restores claims until nobody uses address management any more.
pub(super) async fn keep(state: StateHandle, crowd: Crowd, jobs: mpsc::WeakSender<Waiting<Job>>) {
    let mut backoff = Backoff::new(ROUND_MIN, ROUND_MAX);
    loop {
        if unclaimed(&state.current()).is_empty() {
            backoff.reset();
        }
        let found = unclaimed(&*state.wait_for(|s| !unclaimed(s).is_empty()).await);
        if found.is_empty() {
            // The state is no longer written: felix is stopping.
            return;
        }
        for block in found {
            let Some(jobs) = jobs.upgrade() else { return };
            let (answer, done) = oneshot::channel();
            if jobs
                .send(crowd.waiting(Job::RestoreClaim(block, answer)))
                .await
                .is_err()
            {
                return;
            }
            drop(jobs);
            match done.await {
                Ok(Ok(true)) => tracing::warn!(%block, "a block in use had lost its claim: claimed again"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%block, %error, "a block in use has no claim, and claiming it failed"),
                Err(_) => return,
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// This node's blocks that have addresses in use and no confirmed claim. Only typha's word counts: a state from disk may
/// be long past.
fn unclaimed(state: &State) -> Vec<Prefix> {
    if state.source != Source::Typha {
        return Vec::new();
    }
    let is_claimed = |block: &Prefix| {
        let claim = state.affinities.get(block);
        claim.is_some_and(|a| a.value.state == AffinityState::Confirmed && !a.value.deleted)
    };
    let in_use = state
        .blocks
        .iter()
        .filter(|(_, b)| !b.value.deleted && b.value.allocations.iter().any(Option::is_some));
    in_use.map(|(cidr, _)| *cidr).filter(|b| !is_claimed(b)).collect()
}
