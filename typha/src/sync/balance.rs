//! Clients that are spread unevenly are asked to move, a few at a time.
//!
//! A client stays where it is while that typha lives: after a rolling restart the typha that began last has none, and the
//! others have its share. Each typha asks its peers how many they have. One with far more than the mean offers places elsewhere
//! to its clients ([`super::peers`]); the session that next looks at the pulse of its client takes one, and hands the client
//! over as a typha does that stops. The client resumes there by its revision and is sent what it misses. Sessions look at
//! different times, places that nobody took are withdrawn with the next round, and what is not far from even stays.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;
use tortie_kit::address::{ServiceAddr, Target};
use tortie_kit::tls::TlsFiles;
use tortie_proto::store::StatusRequest;
use tortie_proto::store::store_client::StoreClient;

use super::session::Context;

/// How often the others are asked.
const ROUND: Duration = Duration::from_secs(5);
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A typha has far more than the mean when it has a fifth more, and this many.
const SLACK: u64 = 50;
/// In a round a tenth of its clients is asked to move at most, or this many.
const FEWEST: u64 = 50;

/// Which of the peers clients may go to, one place for each that shall move; empty when they are spread well enough.
/// `None`: nothing is known of that peer, and it gets none.
fn places(own: u64, peers: &[Option<u64>]) -> Vec<usize> {
    let mut known: Vec<(u64, usize)> = (0..).zip(peers).filter_map(|(n, c)| Some(((*c)?, n))).collect();
    let typhas = known.len() as u64 + 1;
    let mean = (own + known.iter().map(|(clients, _)| clients).sum::<u64>()).div_ceil(typhas);
    if own <= mean + mean / 5 + SLACK {
        return Vec::new();
    }
    let count = (own - mean).min((own / 10).max(FEWEST));
    let mut places = Vec::new();
    for _ in 0..count {
        let Some((clients, n)) = known.iter_mut().min().filter(|(clients, _)| *clients < mean) else {
            break;
        };
        *clients += 1;
        places.push(*n);
    }
    places
}

/// Asks the others, and offers places there.
pub(crate) struct Balance {
    others: Vec<StoreClient<Channel>>,
    context: Context,
}

impl Balance {
    /// Peers are spoken to with the certificate that this typha serves with. Must be called inside a tokio runtime.
    pub(crate) fn new(addrs: &[ServiceAddr], tls: Option<&TlsFiles>, context: Context) -> Self {
        let client = |addr: &ServiceAddr| StoreClient::new(Target::new(addr.clone(), tls.cloned()).channel_lazy());
        Balance {
            others: addrs.iter().map(client).collect(),
            context,
        }
    }

    /// Until typha stops; at once when there are no others.
    pub(crate) async fn run(self) {
        if self.others.is_empty() {
            return;
        }
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                rounds.tick().await;
                let counts = join_all(self.others.iter().map(|other| self.ask(other))).await;
                let own = self.clients();
                let places = places(own, &counts);
                if !places.is_empty() {
                    let places = places.len();
                    tracing::info!(clients = own, others = ?counts, places, "others have far fewer clients: some are asked to move");
                }
                self.context.peers.offer(places);
            }
        };
        tokio::select! {
            () = work => {}
            () = self.context.drain.cancelled() => {}
        }
    }

    /// How many may move: a typha that cannot see the datastore leaves them where they are.
    fn clients(&self) -> u64 {
        if self.context.hub.away().is_some() {
            return 0;
        }
        u64::try_from(self.context.metrics.connections_active.get()).unwrap_or_default()
    }

    /// How many clients another has, when it serves the same state and can see the datastore.
    async fn ask(&self, other: &StoreClient<Channel>) -> Option<u64> {
        let hello = Some(self.context.hello.clone());
        let mut other = other.clone();
        match timeout(PATIENCE, other.status(StatusRequest { hello })).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let same = answer.cluster_id == self.context.hub.history().borrow().id;
                (same && answer.stale.is_none()).then_some(answer.clients)
            }
            Ok(Err(status)) => {
                tracing::debug!(%status, "a peer does not say how many clients it has");
                None
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_who_has_far_more_gives_away_and_the_emptiest_get_most() {
        assert!(places(5000, &[]).is_empty() && places(5000, &[None, None]).is_empty());
        assert!(places(0, &[Some(5000)]).is_empty());
        assert!(places(150, &[Some(150), Some(0)]).is_empty(), "a few are not worth it");
        assert!(places(1900, &[Some(1600), Some(1500)]).is_empty(), "nearly even");
        assert_eq!(places(2500, &[Some(2500), Some(0)]), vec![1; 250]);
        assert_eq!(places(300, &[None, Some(0), Some(0)]).len(), 50);
        let shared = places(3000, &[Some(100), Some(0)]);
        let of = |n| shared.iter().filter(|to| **to == n).count();
        assert_eq!((of(0), of(1)), (100, 200));
    }

    proptest! {
        /// However clients are spread, and although all typhas decide at once, they come to rest, nearly even.
        #[test]
        fn typhas_come_to_rest(mut clients in proptest::collection::vec(0..5000u64, 2..8)) {
            let typhas = clients.len() as u64;
            let all: u64 = clients.iter().sum();
            let far = |clients: &[u64]| clients.iter().map(|c| c.saturating_sub(all.div_ceil(typhas))).sum::<u64>();
            let excess = far(&clients);
            let mut moved = 0;
            for round in 0.. {
                let before = clients.clone();
                for (n, own) in before.iter().enumerate() {
                    let others: Vec<usize> = (0..before.len()).filter(|other| *other != n).collect();
                    let counts: Vec<Option<u64>> = others.iter().map(|other| Some(before[*other])).collect();
                    let places = places(*own, &counts);
                    prop_assert!(places.len() as u64 <= (own / 10).max(FEWEST), "a few at a time");
                    for place in places {
                        clients[n] -= 1;
                        clients[others[place]] += 1;
                        moved += 1;
                    }
                }
                if clients == before {
                    break;
                }
                prop_assert!(round < 100, "{clients:?}");
            }
            prop_assert_eq!(clients.iter().sum::<u64>(), all);
            let mean = all.div_ceil(typhas);
            prop_assert!(clients.iter().all(|c| *c <= mean + mean / 5 + SLACK), "{:?}", clients);
            prop_assert!(moved <= 2 * excess, "{} moved, {} too many at first", moved, excess);
        }
    }
}
