//! From the sessions' states to what the engine hears of them.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;
use tortie_bfd::{Key, State};
use tortie_bgp::speaker::{BfdVerdict, Input};

use super::{Bfd, Seen, bfd_key};
use crate::engine::{Engine, Request};

/// What the engine knows of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    up: bool,
    failures: u64,
}

/// Tells the engine of every change, until cancelled. It may wait for the engine; BFD does not wait for it.
pub(crate) async fn forward(bfd: Bfd, engine: Engine, token: CancellationToken) {
    let mut sessions = bfd.follow();
    let mut known = HashMap::new();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            changed = sessions.changed() => if changed.is_err() {
                if !token.is_cancelled() {
                    tracing::error!("BFD has ended: nothing but hold timers watches the peers");
                }
                return;
            }
        }
        let seen = sessions.borrow_and_update().clone();
        for (key, verdict) in news(&mut known, &seen) {
            let key = bfd_key(&key);
            engine.request(Request::Input(Input::Bfd { key, verdict })).await;
        }
    }
}

/// What is new about the sessions, oldest first.
fn news(known: &mut HashMap<Key, Known>, seen: &[Seen]) -> Vec<(Key, BfdVerdict)> {
    let mut news = Vec::new();
    known.retain(|key, _| seen.iter().any(|seen| seen.view.key == *key));
    for Seen { view, .. } in seen {
        let now = Known {
            up: view.state == State::Up,
            failures: view.failures,
        };
        let before = known.insert(view.key.clone(), now).unwrap_or_default();
        // A session that was taken away and is wanted again counts anew.
        let failed = now.failures > before.failures;
        let independent = view.control_plane_independent;
        if failed {
            news.push((view.key.clone(), BfdVerdict::Failed { independent }));
        }
        match (before.up && !failed, now.up) {
            (false, true) => news.push((view.key.clone(), BfdVerdict::Up)),
            (true, false) => news.push((view.key.clone(), BfdVerdict::Silent)),
            (true, true) | (false, false) => {}
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use tortie_bfd::Hops;

    use super::*;

    fn seen(state: State, failures: u64) -> Seen {
        let key = Key {
            peer: [10, 0, 0, 2].into(),
            local: [10, 0, 0, 1].into(),
            interface: None,
            hops: Hops::Multiple,
        };
        Seen::played(key, state, failures)
    }

    #[test]
    fn a_failure_that_is_over_is_still_told() {
        let mut known = HashMap::new();
        let mut told = |state, failures| -> Vec<BfdVerdict> {
            let news = news(&mut known, &[seen(state, failures)]);
            news.into_iter().map(|(_, verdict)| verdict).collect()
        };
        let failed = BfdVerdict::Failed { independent: true };
        assert_eq!(told(State::Down, 0), []);
        assert_eq!(told(State::Up, 0), [BfdVerdict::Up]);
        assert_eq!(told(State::Up, 0), []);
        assert_eq!(told(State::Up, 1), [failed, BfdVerdict::Up]);
        assert_eq!(told(State::Init, 2), [failed]);
        assert_eq!(told(State::Up, 2), [BfdVerdict::Up]);
        assert_eq!(told(State::Down, 2), [BfdVerdict::Silent], "the neighbour's operator");
        assert_eq!(told(State::Up, 0), [BfdVerdict::Up], "another session of the same name");
    }
}
