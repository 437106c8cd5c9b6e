//! The best routes, to any number of subscribers: a snapshot, then changes, with an in-sync mark.
//!
//! Each subscriber has a bounded queue. One that falls behind is cut off and subscribes again, which gives it a new
//! snapshot: the engine never waits for it, and memory is bounded by queues, not by time.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tortie_bgp::speaker::FibRoute;
use tortie_net::Prefix;
use tortie_proto::bird::{FibInSync, FibMessage, fib_message::Message};
use tortie_replica::Delta;

use crate::grpc::convert;

/// Messages that wait for one subscriber, [`PER_MESSAGE`] changes in each at most.
const QUEUE: usize = 1024;
/// Changes in one message. Well below gRPC's limit of 4 MiB.
pub(crate) const PER_MESSAGE: usize = 1000;

/// What a subscriber gets.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Sorted by prefix.
    pub(crate) snapshot: Vec<(Prefix, FibRoute)>,
    /// Is the snapshot complete? If not, the mark comes with the changes.
    pub(crate) in_sync: bool,
    /// What changed since. Ends when the subscriber fell behind, or the program does.
    pub(crate) changes: mpsc::Receiver<Arc<FibMessage>>,
}

/// All subscribers.
#[derive(Debug, Default)]
pub(crate) struct Fanout(Vec<mpsc::Sender<Arc<FibMessage>>>);

impl Fanout {
    /// One more, with the state that the next changes start from.
    pub(crate) fn subscribe(&mut self, snapshot: Vec<(Prefix, FibRoute)>, in_sync: bool) -> Subscription {
        let (sender, changes) = mpsc::channel(QUEUE);
        self.0.push(sender);
        Subscription {
            snapshot,
            in_sync,
            changes,
        }
    }

    /// Sends changes to all; forgets those who left or fell behind.
    pub(crate) fn publish(&mut self, deltas: Vec<Delta<Prefix, FibRoute>>) {
        self.0.retain(|subscriber| !subscriber.is_closed());
        if self.0.is_empty() {
            return;
        }
        for message in messages(deltas) {
            let message = Arc::new(message);
            self.0.retain(|subscriber| match subscriber.try_send(message.clone()) {
                Ok(()) => true,
                Err(error) => {
                    if matches!(error, mpsc::error::TrySendError::Full(_)) {
                        tracing::warn!("a fib subscriber fell behind and must begin anew");
                    }
                    false
                }
            });
        }
    }
}

/// Changes as messages. Of several changes of one prefix the last one counts; nothing moves across the in-sync mark.
fn messages(deltas: Vec<Delta<Prefix, FibRoute>>) -> Vec<FibMessage> {
    let mut out = Vec::new();
    let mut pending: BTreeMap<Prefix, Option<FibRoute>> = BTreeMap::new();
    for delta in deltas {
        match delta {
            Delta::Set(prefix, route) => drop(pending.insert(prefix, Some(route))),
            Delta::Delete(prefix) => drop(pending.insert(prefix, None)),
            Delta::InSync => {
                out.extend(batches(std::mem::take(&mut pending)));
                out.push(FibMessage {
                    message: Some(Message::InSync(FibInSync {})),
                });
            }
        }
    }
    out.extend(batches(pending));
    out
}

/// Batches of a bounded number of changes.
pub(crate) fn batches(changes: impl IntoIterator<Item = (Prefix, Option<FibRoute>)>) -> Vec<FibMessage> {
    let changes: Vec<_> = changes.into_iter().collect();
    changes
        .chunks(PER_MESSAGE)
        .map(|chunk| FibMessage {
            message: Some(Message::Batch(convert::batch(chunk))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tortie_bgp::filter::RouteDestination;

    use super::*;

    fn prefix(n: u32) -> Prefix {
        Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())
    }

    fn route() -> FibRoute {
        FibRoute {
            next_hops: Vec::new(),
            destination: RouteDestination::Blackhole,
            protocol: "p".into(),
            krt: tortie_bgp::filter::Krt::default(),
            local_pref: None,
            stale: false,
        }
    }

    fn summary(messages: &[FibMessage]) -> Vec<(usize, usize)> {
        messages
            .iter()
            .map(|message| match &message.message {
                Some(Message::Batch(batch)) => (batch.set.len(), batch.delete.len()),
                _ => (usize::MAX, usize::MAX),
            })
            .collect()
    }

    #[test]
    fn the_last_change_of_a_prefix_counts_and_the_mark_stays_in_its_place() {
        let deltas = vec![
            Delta::Set(prefix(1), route()),
            Delta::Delete(prefix(1)),
            Delta::Set(prefix(2), route()),
            Delta::InSync,
            Delta::Delete(prefix(2)),
            Delta::Set(prefix(2), route()),
        ];
        assert_eq!(summary(&messages(deltas)), [(1, 1), (usize::MAX, usize::MAX), (1, 0)]);
        let many = (0..2_500).map(|n| Delta::Set(prefix(n), route())).collect();
        assert_eq!(summary(&messages(many)), [(1000, 0), (1000, 0), (500, 0)]);
    }

    #[test]
    fn one_that_falls_behind_is_cut_off_and_the_others_are_not() {
        let mut fanout = Fanout::default();
        let mut slow = fanout.subscribe(Vec::new(), true);
        let mut fast = fanout.subscribe(Vec::new(), true);
        for n in 0..QUEUE + 10 {
            fanout.publish(vec![Delta::Set(prefix(u32::try_from(n).unwrap()), route())]);
            assert!(fast.changes.try_recv().is_ok());
        }
        let mut got = 0;
        while slow.changes.try_recv().is_ok() {
            got += 1;
        }
        assert_eq!(got, QUEUE);
        assert_eq!(slow.changes.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        drop(fast);
        fanout.publish(vec![Delta::Delete(prefix(1))]);
        assert!(fanout.0.is_empty());
    }
}
